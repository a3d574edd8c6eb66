"""Checkpoints on disk: the plant's state and the street's, written completely or not at all; the
last two are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

KEEP = 2
PLANT_FILE = "plant.xml.gz"
STREET_FILE = "street.pickle"
ABOUT_FILE = "about.json"
FILES = (PLANT_FILE, STREET_FILE)
# counts up when the pickled classes move or change: a state of another format is not resumed
FORMAT = 5


class Checkpointable(Protocol):
    """A plant that can write its own state."""

    def checkpoint(self, path: Path) -> None:
        """Write the state to `path`. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint. key: identifies the run (scenario, seed, ...); only the same run may resume
    from it.
    """

    folder: Path
    time_s: float
    key: str

    @property
    def plant(self) -> Path:
        """The plant's own file."""
        return self.folder / PLANT_FILE

    def street(self) -> dict[str, Any]:
        """The street's state. The folder is this user's own: who can write there can run code as
        this user.
        """
        state: dict[str, Any] = pickle.loads((self.folder / STREET_FILE).read_bytes())
        return state


def save(
    root: Path, key: str, time_s: float, plant: Checkpointable, state: dict[str, Any]
) -> Checkpoint:
    """Write a checkpoint below `root`. A crash on the way leaves the previous one valid. Raises
    OSError.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft, final = root / ".draft", root / f"{time_s:015.3f}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    plant.checkpoint(draft / PLANT_FILE)
    (draft / STREET_FILE).write_bytes(pickle.dumps(state))
    _write_about(draft, key, time_s)
    _flush(draft)
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)
    for old in _by_use(root, key, final)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return Checkpoint(final, time_s, key)


def _write_about(draft: Path, key: str, time_s: float) -> None:
    about = {
        "format": FORMAT,
        "time_s": time_s,
        "key": key,
        "sha256": {name: _digest(draft / name) for name in FILES},
    }
    (draft / ABOUT_FILE).write_text(json.dumps(about))


def _flush(draft: Path) -> None:
    """All of it is on the disk before the draft gets its final name."""
    for name in (*FILES, ABOUT_FILE):
        with (draft / name).open("rb") as stream:
            os.fsync(stream.fileno())


def latest(root: Path, key: str) -> Checkpoint | None:
    """The newest intact checkpoint of the run `key` below `root`; damaged ones and those of other
    runs or formats are skipped.
    """
    folders = sorted(root.glob("[0-9]*"), reverse=True)
    return next((found for folder in folders if (found := _intact(folder, key)) is not None), None)


def other_formats(root: Path, key: str) -> list[int]:
    """The formats of the checkpoints of the run `key` that another version has written."""
    found = set()
    for folder in root.glob("[0-9]*"):
        try:
            about = json.loads((folder / ABOUT_FILE).read_text())
            if about["key"] == key and about["format"] != FORMAT:
                found.add(int(about["format"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(found)


def _by_use(root: Path, key: str, newest: Path) -> list[Path]:
    """All below `root`, the least useful first: damaged ones, those of other runs or later than the
    newest; then this run's, oldest first.
    """

    def use(folder: Path) -> tuple[bool, str]:
        return folder.name <= newest.name and _intact(folder, key) is not None, folder.name

    return sorted(root.iterdir(), key=use)


def _intact(folder: Path, key: str) -> Checkpoint | None:
    """The checkpoint of the run `key` in `folder`; None if it is of another run or format, or
    damaged.
    """
    try:
        about = json.loads((folder / ABOUT_FILE).read_text())
        if (
            about["format"] == FORMAT
            and about["key"] == key
            and about["sha256"] == {name: _digest(folder / name) for name in FILES}
        ):
            return Checkpoint(folder, float(about["time_s"]), key)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def clear(root: Path) -> None:
    """Delete all checkpoints: the run is finished."""
    shutil.rmtree(root, ignore_errors=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
