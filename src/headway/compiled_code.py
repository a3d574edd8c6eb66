"""Compiled code that is out of date is compiled anew.

Numba keeps compiled functions on disk by the time and size of the file that they stand in. The
files whose functions and constants they use do not count: after a change of one of those the old
code would run on.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent
KEEP = "HEADWAY_KEEP_COMPILED"  # a variable: set, what is on disk is taken as it is
STAMP = "sources.sha256"  # of what the compiled functions of a package were made of
STREETS = ("control", "safety")  # packages whose functions each street calls
# Packages with compiled functions, and what these are made of.
USED = {
    "control": ("control", "roads", "values.py"),
    "safety": ("safety", "roads", "values.py"),
    "plants/sumo": ("plants/sumo", "roads", "values.py"),
    "plants/kpp": ("plants/kpp",),
    "street": ("street", "roads", "values.py"),
}


def drop_stale(root: Path = ROOT) -> list[Path]:
    """Delete the indexes of compiled functions where a file that they may be made of is not the one
    that it was. Returns those that were deleted; a folder that cannot be written stays as it is.
    """
    dropped = []
    for package, used in USED.items():
        cache = root / package / "__pycache__"
        stamp = stamp_of(root / name for name in used)
        with contextlib.suppress(OSError):
            if _read(cache / STAMP) == stamp:
                continue
            for index in cache.glob("*.nbi"):
                index.unlink(missing_ok=True)
                dropped.append(index)
            if cache.is_dir():
                (cache / STAMP).write_text(stamp)
    return dropped


def is_compiled(root: Path = ROOT) -> bool:
    """Whether functions of a street were compiled before, here or in a folder of numba's own."""
    caches = [root / package / "__pycache__" for package in STREETS]
    if "NUMBA_CACHE_DIR" in os.environ or not all(os.access(c.parent, os.W_OK) for c in caches):
        return True  # nobody knows
    return all(next(cache.glob("*.nbi"), None) is not None for cache in caches)


@contextlib.contextmanager
def while_compiling(tell: Callable[[], None], every_s: float = 1.0) -> Iterator[None]:
    """Within the block, `tell` is called at each step of the compiler, at most once in `every_s`
    wall seconds: who compiles is slow, but goes on.
    """
    from numba.core import event  # whoever compiles nothing does without it

    told_s = -math.inf

    class Steps(event.Listener):
        def on_start(self, event: event.Event) -> None:
            nonlocal told_s
            if time.monotonic() - told_s >= every_s:
                told_s = time.monotonic()
                tell()

        def on_end(self, event: event.Event) -> None:
            pass

    with event.install_listener("numba:run_pass", Steps()):
        yield


def stamp_of(paths: Iterable[Path]) -> str:
    """A digest of name, time and size of the Python files at `paths`, files or folders."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            with contextlib.suppress(OSError):  # gone since it was listed, or no file of its own
                found = file.stat()
                digest.update(f"{file.name} {found.st_mtime_ns} {found.st_size}\n".encode())
    return digest.hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
