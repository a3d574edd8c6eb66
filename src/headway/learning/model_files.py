"""Files of models, by their content: what has one sha256 is one file, that never changes."""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import yaml
from pydantic import ValidationError

from headway.control.models import LONGEST_FAULT, PLANNER, Q_TABLE, UNREADABLE, ModelFile
from headway.settings import PlannerSettings

LARGEST_BYTES = 1 << 30  # of a file
LARGEST_SETTINGS_BYTES = 1 << 16  # of a planner's file, which is read whole
CHUNK_BYTES = 1 << 20
Q_TABLE_BEGIN = struct.pack("<Q", 0x4845_4144_5741_5951)  # how a file of control/qtable.py begins


class ModelFiles:
    """folder: which is made with the first file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        """Where a file of that content is, if it is there."""
        return self._folder / sha256[:2] / sha256

    def keep(self, content: Path | bytes, kind: str) -> tuple[str, int]:
        """(sha256, bytes) of a file, or what is to be in one, that is now in the folder: whole, on
        the disk, for this user alone. Raises ValueError where it cannot be of its kind, OSError.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{secrets.token_hex(8)}.draft"
        try:
            _copy(content, draft)
            _require(draft, kind, _named(content))
            sha256, size = digest(draft)
            path = self.path(sha256)
            path.parent.mkdir(exist_ok=True)
            draft.replace(path)  # one of the same content, that was damaged, is repaired
        finally:
            draft.unlink(missing_ok=True)
        for folder in (path.parent, self._folder):
            place = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(place)  # or a power cut loses the name of a file whose row is there
            finally:
                os.close(place)
        return sha256, size


def file_of(path: Path, name: str) -> ModelFile:
    """A file that is not registered, as version 1 of `name`; its kind is known by its content.
    Raises OSError, ValueError.
    """
    with path.open("rb") as stream:
        begin = stream.read(len(Q_TABLE_BEGIN))
    kind = Q_TABLE if begin == Q_TABLE_BEGIN else PLANNER
    return ModelFile(name, 1, kind, digest(path)[0], str(path.resolve()))


def digest(path: Path) -> tuple[str, int]:
    """(sha256, bytes) of a file. Raises OSError."""
    found, size = hashlib.sha256(), 0
    for part in _parts(path):
        found.update(part)
        size += len(part)
    return found.hexdigest(), size


def _copy(content: Path | bytes, path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as out:
        for part in _parts(content):
            out.write(part)
            if out.tell() > LARGEST_BYTES:
                raise ValueError(f"{_named(content)}: is larger than {LARGEST_BYTES >> 20} MiB.")
        out.flush()
        os.fsync(out.fileno())


def _named(content: Path | bytes) -> str:
    return str(content) if isinstance(content, Path) else "the file"


def _parts(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as stream:
        while part := stream.read(CHUNK_BYTES):
            yield part


def _require(path: Path, kind: str, named: str) -> None:
    """Raises ValueError where a file cannot be of its kind. Whether it fits a street is known
    when it is deployed there.
    """

    def refuse(why: str) -> NoReturn:
        raise ValueError(f"{named}: is no model of kind {kind}: {why}.")

    if not path.stat().st_size:
        refuse("it is empty")
    if kind == Q_TABLE:
        with path.open("rb") as stream:
            if stream.read(len(Q_TABLE_BEGIN)) != Q_TABLE_BEGIN:
                refuse("it is no Q-table, as `headway train` writes it")
    elif kind == PLANNER:
        if path.stat().st_size > LARGEST_SETTINGS_BYTES:
            refuse(f"it is larger than {LARGEST_SETTINGS_BYTES >> 10} KiB")
        try:
            read = yaml.safe_load(path.read_text(encoding="utf-8"))
        except UNREADABLE as error:
            refuse(f"it cannot be read as YAML ({' '.join(str(error).split())[:LONGEST_FAULT]})")
        if not isinstance(read, dict) or read.keys() != {"planner"}:
            refuse("its one section is to be `planner`, as `headway tune` writes it")
        try:
            PlannerSettings.model_validate(read["planner"], strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            refuse(f"planner.{'.'.join(map(str, first['loc']))}: {first['msg']}")
