"""Compiled code that is out of date is compiled anew.

Numba keeps compiled functions on disk by the time of the file that they stand in. That of the files
whose functions and constants they use does not count: after an update of one of those the old code
would run on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent
KEEP = "HEADWAY_KEEP_COMPILED"  # a variable: set, what is on disk is taken as it is
# Packages with compiled functions, and what these are made of.
USED = {
    "control": ("control", "roads", "values.py"),
    "safety": ("safety", "roads", "values.py"),
    "plants/sumo": ("plants/sumo", "roads", "values.py"),
    "plants/kpp": ("plants/kpp",),
    "street": ("street", "roads", "values.py"),
}


def drop_stale(root: Path = ROOT) -> list[Path]:
    """Delete the indexes of compiled functions that are older than a file that they are made of.
    Returns those that were deleted; a folder that cannot be written stays as it is.
    """
    dropped = []
    for package, used in USED.items():
        changed = last_change(root / name for name in used)
        for index in (root / package / "__pycache__").glob("*.nbi"):
            with contextlib.suppress(OSError):
                if index.stat().st_mtime < changed:
                    index.unlink()
                    dropped.append(index)
    return dropped


def last_change(paths: Iterable[Path]) -> float:
    """The latest time of the Python files at `paths`, seconds since 1970. A time in the future does
    not count: nothing could ever be kept.
    """
    now = time.time()
    files = [file for path in paths for file in (path.glob("*.py") if path.is_dir() else [path])]
    times = [file.stat().st_mtime for file in files]
    return max((at for at in times if at <= now), default=0.0)
