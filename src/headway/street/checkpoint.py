"""Checkpoints on disk: the plant's state beside the street's, written whole or not at all, the last
two kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEEP = 2
FILES = ("plant.xml.gz", "street.pickle")
# counts up when the pickled classes move or change: a state of another format is not taken up
FORMAT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint. key: what the run is of (scenario, seed, ...); only the same run may take it
    up.
    """

    folder: Path
    time_s: float
    key: str

    @property
    def plant(self) -> Path:
        return self.folder / "plant.xml.gz"

    def street(self) -> dict[str, Any]:
        """The street's state. The folder is this user's own: who can write there can run code as
        this user.
        """
        state: dict[str, Any] = pickle.loads((self.folder / "street.pickle").read_bytes())
        return state


def save(root: Path, key: str, time_s: float, plant: Any, state: dict[str, Any]) -> Checkpoint:
    """Write a checkpoint below `root`; a crash in between leaves the one before in force. Raises
    OSError.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft, final = root / ".draft", root / f"{time_s:015.3f}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    plant.checkpoint(draft / "plant.xml.gz")
    (draft / "street.pickle").write_bytes(pickle.dumps(state))
    about = {
        "format": FORMAT,
        "time_s": time_s,
        "key": key,
        "sha256": {name: _digest(draft / name) for name in FILES},
    }
    (draft / "about.json").write_text(json.dumps(about))
    for name in (*FILES, "about.json"):
        with (draft / name).open("rb") as stream:
            os.fsync(stream.fileno())
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)
    for old in _by_use(root, key, final)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return Checkpoint(final, time_s, key)


def latest(root: Path, key: str) -> Checkpoint | None:
    """The newest whole checkpoint of the run `key` below `root`; damaged ones and those of other
    runs or formats are passed over.
    """
    folders = sorted(root.glob("[0-9]*"), reverse=True)
    return next((found for folder in folders if (found := _whole(folder, key)) is not None), None)


def _by_use(root: Path, key: str, newest: Path) -> list[Path]:
    """All below `root`, the least useful first: damaged ones, those of other runs or from after the
    newest; then this run's, oldest first.
    """

    def use(folder: Path) -> tuple[bool, str]:
        return folder.name <= newest.name and _whole(folder, key) is not None, folder.name

    return sorted(root.iterdir(), key=use)


def _whole(folder: Path, key: str) -> Checkpoint | None:
    """The checkpoint of the run `key` in `folder`; None if it is of another run or format, or not
    whole.
    """
    try:
        about = json.loads((folder / "about.json").read_text())
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
    """Forget all checkpoints: the run came to its end."""
    shutil.rmtree(root, ignore_errors=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
