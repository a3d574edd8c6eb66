"""Headway: an open real-time traffic signal platform."""

import os

from headway.compiled_code import KEEP, drop_stale, find_room

__version__ = "0.1.0"

if not os.environ.get(KEEP):
    drop_stale()
find_room()
