"""Compiled code that is out of date is compiled anew; and has a place on disk.

Numba keeps compiled functions on disk by the time and size of the file that they stand in. The
files whose functions and constants they use do not count: after a change of one of those the old
code would run on.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from pathlib import Path

ROOT = Path(__file__).parent
CACHE_DIR = "NUMBA_CACHE_DIR"  # numba's own variable
KEEP = "HEADWAY_KEEP_COMPILED"  # a variable: set, what is on disk is taken as it is
STAMP = "sources.sha256"  # of what the compiled functions of a package were made of
LONGEST_PASS_S = 120.0  # wall seconds that one step of the compiler may take
SHORTEST_WAIT_S = 0.01
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
            if cache.parent.is_dir():  # also before anything is compiled, or that would be dropped
                cache.mkdir(exist_ok=True)
                (cache / STAMP).write_text(stamp)
    return dropped


def find_room(
    root: Path = ROOT, variables: MutableMapping[str, str] = os.environ, temporary: str = ""
) -> None:
    """Numba refuses to work where it can write neither beside the code nor into the user's cache
    (a read-only container, a service without a home): then it keeps its files in a temporary folder
    that nobody else can write, since whoever can write there can run code here.
    """
    caches = [root / package / "__pycache__" for package in USED]
    own = variables.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 as numba
    if CACHE_DIR in variables or all(map(_can_be_written, caches)) or _can_be_written(Path(own)):
        return
    temporary = temporary or tempfile.gettempdir()
    folder = Path(temporary) / f"headway-compiled-{os.getuid()}"
    with contextlib.suppress(OSError):  # numba says that it finds no place
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if not is_ours or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            folder = Path(tempfile.mkdtemp(prefix="headway-compiled-", dir=temporary))
        variables[CACHE_DIR] = str(folder)


def _can_be_written(folder: Path) -> bool:
    """It, or where it is missing the folder in which it would be made."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def is_compiled(root: Path = ROOT) -> bool:
    """Whether functions of a street were compiled before, here or in a folder of numba's own."""
    caches = [root / package / "__pycache__" for package in STREETS]
    if CACHE_DIR in os.environ or not all(os.access(c.parent, os.W_OK) for c in caches):
        return True  # nobody knows
    return all(next(cache.glob("*.nbi"), None) is not None for cache in caches)


def is_kept(package: str, module: str, root: Path = ROOT) -> bool:
    """Whether functions of this module were compiled before; true where nobody knows."""
    cache = root / package / "__pycache__"
    if CACHE_DIR in os.environ or not os.access(cache.parent, os.W_OK):
        return True
    return next(cache.glob(f"{module}.*.nbi"), None) is not None


@contextlib.contextmanager
def while_compiling(
    tell: Callable[[], None],
    every_s: float = 1.0,
    longest_s: float = LONGEST_PASS_S,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Within the block, `tell` is called once in `every_s` wall seconds while something is being
    compiled, and at its beginning: who compiles is slow, but goes on. A large function is in one
    step of the compiler for many seconds; one that takes `longest_s` has hung.
    """
    from numba.core import event  # whoever compiles nothing does without it

    steps, step_s, told_s = 0, -math.inf, -math.inf
    is_over = threading.Event()

    def tell_if_due() -> None:
        nonlocal told_s
        if clock() - told_s >= every_s:
            told_s = clock()
            tell()

    class Steps(event.Listener):
        def on_start(self, event: event.Event) -> None:
            nonlocal steps, step_s
            steps, step_s = steps + 1, clock()
            tell_if_due()

        def on_end(self, event: event.Event) -> None:
            nonlocal steps, step_s
            steps, step_s = steps - 1, clock()

    def watch() -> None:
        while not is_over.wait(max(every_s, SHORTEST_WAIT_S)):
            if steps > 0 and clock() - step_s < longest_s:
                tell_if_due()

    watching = threading.Thread(target=watch, daemon=True, name="compiling")
    watching.start()
    try:
        with event.install_listener("numba:run_pass", Steps()):
            yield
    finally:
        is_over.set()
        watching.join()


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
