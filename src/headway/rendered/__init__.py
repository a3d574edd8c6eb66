"""Cameras over a simulated street: images and their ground truth, to measure what is detected and
to control the street by it.
"""

from __future__ import annotations
