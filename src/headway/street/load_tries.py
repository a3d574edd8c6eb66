"""Processes that ended while they loaded a checkpoint, noted beside it: one that ends each of them
is passed over. Apart from `checkpoint`, so that the process that watches needs nothing of what is
compiled.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

FOLDER = "checkpoints"  # of all runs, in the folder of a street
FILE = "tries"
# before an older one is taken: processes that ended by themselves, or hung; and all that began,
# also where the whole program was ended from outside (a container that is stopped early)
MOST_FAILED, MOST_BEGUN = 2, 20


class _Tries(NamedTuple):
    """is_open: one is under way, or was when the whole program ended."""

    begun: int = 0
    failed: int = 0
    is_open: bool = False


def begin(folder: Path) -> None:
    """Note that the checkpoint in `folder` is about to be loaded; a disk that takes no note does
    not keep it from being loaded.
    """
    tries = _read(folder)
    with contextlib.suppress(OSError):
        _write(folder, tries._replace(begun=tries.begun + 1, is_open=True))


def end(folder: Path) -> None:
    """It was loaded."""
    with contextlib.suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


def note_failure(root: Path) -> None:
    """A process ended by itself, or hung: what it was loading below `root` counts as the reason."""
    with contextlib.suppress(OSError):
        for path in root.glob(f"*/*/{FILE}"):
            tries = _read(path.parent)
            if tries.is_open:
                _write(path.parent, tries._replace(failed=tries.failed + 1, is_open=False))


def are_too_many(folder: Path) -> bool:
    tries = _read(folder)
    return tries.failed >= MOST_FAILED or tries.begun >= MOST_BEGUN


def _read(folder: Path) -> _Tries:
    try:
        begun, failed, is_open = (folder / FILE).read_text().split()
        return _Tries(int(begun), int(failed), is_open == str(True))
    except (OSError, ValueError):
        return _Tries()


def _write(folder: Path, tries: _Tries) -> None:
    """Raises OSError."""
    (folder / FILE).write_text(" ".join(map(str, tries)))
