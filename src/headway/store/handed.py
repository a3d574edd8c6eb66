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
    """Whole or not at all. Raises OSError."""
    place = folder / FOLDER
    place.mkdir(mode=0o700, exist_ok=True)
    draft = place / f"{time.time_ns():020d}-{os.getpid()}.draft"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(row, stream)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(draft.with_suffix(".json"))


def handed(folder: Path) -> Iterator[list[Any]]:
    """The oldest first; each is gone once the next one is asked for. One that cannot be read is
    put aside under another name. Raises OSError.
    """
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            row = json.loads(path.read_bytes())
            if not isinstance(row, list):
                raise ValueError("no row")
        except (ValueError, RecursionError):
            path.rename(path.with_suffix(".unreadable"))
            continue
        yield row
        path.unlink()
