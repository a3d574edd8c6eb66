"""Headway: an open real-time traffic signal platform."""

__version__ = "0.1.0"
