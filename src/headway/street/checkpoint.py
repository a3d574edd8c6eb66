"""Checkpoints on disk: the plant's state and the street's, written completely or not at all; the
last two of each run are kept, in a folder of its own. Nothing in them can run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from headway.street import load_tries
from headway.street.state_file import StateError, decode, encode

KEEP = 2
PLANT_FILE = "plant.xml.gz"
STREET_FILE = "street.msgpack"
ABOUT_FILE = "about.json"
FILES = (PLANT_FILE, STREET_FILE)
FILES_MARK = " files "  # in a key, before the digest of the scenario's files
LONGEST_NAME = 60  # characters of a run's folder, before its digest
# counts up when what is written changes: a state of another format is not resumed
FORMAT = 9


class Checkpointable(Protocol):
    """A plant that can write its own state."""

    def checkpoint(self, path: Path) -> None:
        """Write the state to `path`. Raises OSError."""


class Refused(NamedTuple):
    """A checkpoint that is not resumed, by the name of its folder, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint. key: identifies the run (scenario, seed, controller, ...); only the same run
    may resume from it.
    """

    folder: Path
    time_s: float
    key: str

    @property
    def plant(self) -> Path:
        """The plant's own file."""
        return self.folder / PLANT_FILE

    def street(self, classes: Iterable[type] = ()) -> dict[str, Any]:
        """The street's state. classes: that may stand in it beside those of Headway. Raises
        StateError or OSError.
        """
        state = decode((self.folder / STREET_FILE).read_bytes(), classes)
        if not isinstance(state, dict):
            raise StateError(f"{self.folder / STREET_FILE}: is no state of a street")
        return state


def folder_of(root: Path, key: str) -> Path:
    """The folder below `root` of the checkpoints of the run `key`."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", key)[:LONGEST_NAME].strip("-.")
    return root / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def key_with_files(key: str, digest: str) -> str:
    """The key of a run by files that may change, with their digest; `key` where there is none."""
    return f"{key}{FILES_MARK}{digest}" if digest else key


def save(
    folder: Path,
    key: str,
    time_s: float,
    plant: Checkpointable,
    state: dict[str, Any],
    classes: Iterable[type] = (),
) -> Checkpoint:
    """Write a checkpoint into the folder of its run. A crash on the way leaves the previous one
    valid. classes: see `Checkpoint.street`. Raises OSError, also for a state that cannot be
    written.
    """
    try:
        data = encode(state, classes)
    except StateError as error:
        raise OSError(str(error)) from error
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft, final = folder / ".draft", folder / f"{time_s:015.3f}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    plant.checkpoint(draft / PLANT_FILE)
    (draft / STREET_FILE).write_bytes(data)
    _write_about(draft, key, time_s)
    _flush(draft)
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)
    for old in _by_use(folder, key, final)[:-KEEP]:
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


def found(folder: Path, key: str) -> tuple[list[Checkpoint], list[Refused]]:
    """The intact checkpoints of the run `key` in its folder, newest first, and those that cannot be
    used.
    """
    usable, refused = list[Checkpoint](), list[Refused]()
    there = list[Path]()
    try:
        there += folder.iterdir()
    except FileNotFoundError:
        pass
    except OSError as error:  # of another user, say
        refused.append(Refused(folder.name, f"its folder cannot be read ({error.strerror})"))
    for one in sorted((one for one in there if one.name[0].isdigit()), reverse=True):
        checkpoint, why = _checked(one, key)
        if checkpoint is not None and not load_tries.are_too_many(one):
            usable.append(checkpoint)
        else:
            refused.append(Refused(one.name, why or "the process ended each time it was loaded"))
    return usable, refused


def latest(folder: Path, key: str) -> Checkpoint | None:
    """The newest intact checkpoint of the run `key` in its folder."""
    usable, _ = found(folder, key)
    return usable[0] if usable else None


def of_earlier_versions(root: Path) -> list[Refused]:
    """The checkpoints of versions that put those of all runs into one folder."""
    return [
        Refused(one.name, _why_format(one) or "an earlier version wrote it")
        for one in sorted(root.glob("[0-9]*.[0-9]*"), reverse=True)
        if (one / ABOUT_FILE).is_file()
    ]


def of_other_files(root: Path, key: str) -> list[Refused]:
    """The newest checkpoint of each run that was the run `key` but for the files of its scenario,
    which have changed since.
    """
    own, mark, _ = key.rpartition(FILES_MARK)
    newest = dict[str, str]()
    for about in sorted(root.glob(f"*/[0-9]*/{ABOUT_FILE}")) if mark else ():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            there = json.loads(about.read_text())["key"]
            if there != key and there.rpartition(FILES_MARK)[0] == own:
                newest[there] = about.parent.name
    why = "the files of its scenario (configuration, network, routes) have changed since"
    return [Refused(name, why) for name in newest.values()]


def _why_format(folder: Path) -> str:
    try:
        return _fault_of_format(json.loads((folder / ABOUT_FILE).read_text())["format"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _fault_of_format(written: object) -> str:
    if written == FORMAT:
        return ""
    return f"it has format {written!r}, of another version; this one reads {FORMAT}"


def _by_use(folder: Path, key: str, newest: Path) -> list[Path]:
    """All in `folder`, the least useful first: damaged ones, and those later than the newest; then
    this run's, oldest first.
    """

    def use(one: Path) -> tuple[bool, str]:
        return one.name <= newest.name and _checked(one, key)[0] is not None, one.name

    return sorted(folder.iterdir(), key=use)


def _checked(folder: Path, key: str) -> tuple[Checkpoint | None, str]:
    """The checkpoint of the run `key` in `folder`, or why it cannot be used."""
    try:
        about = json.loads((folder / ABOUT_FILE).read_text())
        if fault := _fault_of_format(about["format"]):
            return None, fault
        if about["key"] != key:
            return None, "it is of another run"
        for name in FILES:
            if about["sha256"][name] != _digest(folder / name):
                return None, f"{name} is damaged"
        return Checkpoint(folder, float(about["time_s"]), key), ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, f"it is damaged ({type(error).__name__}: {error})"


def clear(folder: Path) -> None:
    """Delete all checkpoints of a run: it is finished, or begins anew."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # there are those of other runs
        folder.parent.rmdir()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
