"""Who was deciding when a street's process did not go on: left by the process in a file of one
byte, read by its parent. A write to it costs some 60 ns, and outlives the process.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable
from pathlib import Path

from headway.files import write_whole
from headway.street.guard import NOBODY, ROLES

MARK_FILE = "deciding"
HUNG_FILE = "hung.json"


def open_mark(folder: Path) -> mmap.mmap | bytearray:
    """The byte that guards write (`guard.Guard.mark`); nobody is asked yet. Where the disk takes no
    file, a byte of this process alone: a step that hangs is then not known by name.
    """
    path = folder / MARK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([NOBODY]))
        with path.open("r+b") as stream:
            return mmap.mmap(stream.fileno(), 1)
    except (OSError, ValueError):  # ValueError: the file is empty
        return bytearray([NOBODY])


def asked_last(folder: Path) -> str:
    """The role of who was being asked when the process ended; empty for nobody."""
    try:
        (code,) = (folder / MARK_FILE).read_bytes()
    except (OSError, ValueError):
        return ""
    return ROLES[code - 1] if 0 < code <= len(ROLES) else ""


def hung(folder: Path) -> tuple[str, ...]:
    """The roles whose step ended a process of this run: they are not asked again."""
    try:
        found = json.loads((folder / HUNG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return tuple(role for role in ROLES if isinstance(found, list) and role in found)


def forget(folder: Path) -> None:
    """The run is finished: nobody is asked, and nobody has hung. Raises OSError."""
    for name in (MARK_FILE, HUNG_FILE):
        (folder / name).unlink(missing_ok=True)


def set_hung(folder: Path, roles: Iterable[str]) -> None:
    """Raises OSError."""
    left = sorted(set(roles))
    if not left:
        (folder / HUNG_FILE).unlink(missing_ok=True)
        return
    write_whole(folder / HUNG_FILE, json.dumps(left))
