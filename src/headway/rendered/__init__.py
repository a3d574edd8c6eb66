"""Cameras over a simulated street: pictures with the truth beside them, for measuring what is seen,
and for steering by it.
"""

from __future__ import annotations
