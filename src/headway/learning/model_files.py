"""Files of models, by their content: what has one sha256 is one file, that never changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from headway.control.models import (
    MOST_PLANNER_BYTES,
    ONNX_POLICY,
    PLANNER,
    Q_TABLE,
    ModelFile,
    planner_figures,
)
from headway.control.onnx_file import require_light
from headway.files import sync_names
from headway.learning.shared_files import SharedFiles

LARGEST_BYTES = 1 << 30  # of a file
CHUNK_BYTES = 1 << 20
LEFT_OVER_S = 86_400.0  # since a draft was last written to: its process was killed
# of control/qtable.py, which loads the compiler: magic, version, actions, rows, clock
Q_TABLE_HEADER = struct.Struct("<QIIQQ")
Q_TABLE_BEGIN = struct.pack("<Q", 0x4845_4144_5741_5951)
ONNX_BEGIN = b"\x08"  # of a file of ONNX: field 1 of a message of protobuf, the version of its form


class ModelFiles:
    """folder: which is made with the first file. What is kept there is kept in `SharedFiles` too,
    where the variable names some, and brought back from there.

    Raises ValueError where these cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shared = SharedFiles.named()

    def path(self, sha256: str) -> Path:
        """Where a file of that content is, if it is there."""
        return self._folder / sha256[:2] / sha256

    def keep(self, content: Path | bytes, kind: str) -> tuple[str, int]:
        """(sha256, bytes) of a file, or what is to be in one, that is now in the folder: whole, on
        the disk, for this user alone. Raises ValueError where it cannot be of its kind, OSError.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._draft()
        try:
            _copy(content, draft)
            _require(draft, kind, _named(content))
            sha256, size = digest(draft)
            path = self.path(sha256)
            path.parent.mkdir(exist_ok=True)
            draft.replace(path)  # one of the same content, that was damaged, is repaired
        finally:
            draft.unlink(missing_ok=True)
        self._keep_names(path)
        if self._shared is not None:
            self._shared.put(path, sha256)
        return sha256, size

    def bring(self, sha256: str) -> None:
        """Make the file here what it was, from the shared ones; nothing where it is so already, or
        there are none. Raises OSError where it cannot be had, or is another one there;
        StorageAwayError where nobody knows.
        """
        path = self.path(sha256)
        if self._shared is None or (path.exists() and digest(path)[0] == sha256):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._draft()
        draft.touch(0o600)
        try:
            self._shared.get(sha256, draft, LARGEST_BYTES)
            if digest(draft)[0] != sha256:
                raise OSError(f"{self._shared.url}: its copy was altered")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        self._keep_names(path)

    def _draft(self) -> Path:
        """A name for a file that is being made; those that were left over are taken away."""
        for other in self._folder.glob(".*.draft"):
            with contextlib.suppress(OSError):  # its process has just ended with it
                if other.stat().st_mtime < time.time() - LEFT_OVER_S:
                    other.unlink()
        return self._folder / f".{secrets.token_hex(8)}.draft"

    def _keep_names(self, path: Path) -> None:
        for folder in (path.parent, self._folder):
            sync_names(folder)  # or a power cut loses the name of a file whose row is there


def file_of(path: Path, name: str) -> ModelFile:
    """A file that is not registered, as version 1 of `name`; its kind is known by its content.
    Raises OSError, ValueError.
    """
    with path.open("rb") as stream:
        begin = stream.read(len(Q_TABLE_BEGIN))
    kind = Q_TABLE if begin == Q_TABLE_BEGIN else PLANNER
    if begin[:1] == ONNX_BEGIN:
        kind = ONNX_POLICY
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
    place = f"{named}: is no model of kind {kind}"
    if not path.stat().st_size:
        raise ValueError(f"{place}: it is empty.")
    with path.open("rb") as stream:
        if kind == PLANNER:
            planner_figures(stream.read(MOST_PLANNER_BYTES + 1), place)
            return
        header = stream.read(Q_TABLE_HEADER.size)
    if kind == ONNX_POLICY:
        if not header.startswith(ONNX_BEGIN):
            raise ValueError(f"{place}: it is no ONNX network.")
        require_light(path, named)
        return
    if not header.startswith(Q_TABLE_BEGIN):
        raise ValueError(f"{place}: it is no Q-table. Give a file that `headway train` wrote.")
    whole = -1
    if len(header) == Q_TABLE_HEADER.size:
        _, version, actions, rows, _ = Q_TABLE_HEADER.unpack(header)
        stamp = 8 * (version > 1)  # of the network
        whole = Q_TABLE_HEADER.size + stamp + rows * (16 + 8 * actions)
    if path.stat().st_size != whole:
        raise ValueError(
            f"{place}: it is a Q-table that was cut off or changed: {path.stat().st_size} bytes, "
            "which is not what its header says. Train it anew: headway train"
        )
