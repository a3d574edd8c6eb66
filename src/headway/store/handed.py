"""Rows that commands leave in the data folder for the server there, which alone writes to its
spools: a file each.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = "handed"


def hand(folder: Path, row: list[Any]) -> None:
    """Whole or not at all; the folder's owner's, also where root leaves it. Raises OSError."""
    place, owner = folder / FOLDER, folder.stat()
    place.mkdir(mode=0o700, exist_ok=True)
    draft = place / f"{time.time_ns():020d}-{os.getpid()}.draft"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(row, stream)
        stream.flush()
        os.fsync(stream.fileno())
    if os.geteuid() == 0:
        for path in (place, draft):
            os.chown(path, owner.st_uid, owner.st_gid)
    draft.replace(draft.with_suffix(".json"))


def handed(folder: Path) -> Iterator[list[Any]]:
    """The oldest first; each is gone once the next one is asked for. What is none is put aside,
    what another user alone may read stays: it holds up nothing else. Raises OSError.
    """
    place = folder / FOLDER
    if not os.access(place, os.W_OK | os.X_OK):  # there is none, or nothing can be taken away
        return
    for path in sorted(place.glob("*.json")):
        try:
            row = json.loads(path.read_bytes())
        except PermissionError:
            continue
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, list):
            yield row
            path.unlink()
        else:
            path.rename(path.with_suffix(".unreadable"))
