"""One data folder, one process that writes to it: a lock that names who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

FILE = "headway.lock"
UCRED = struct.Struct("iII")  # process, user and group of a socket's other end
NAMED_WITHIN_S = 0.5  # a holder writes its name right after it has taken the lock


class FolderLockedError(RuntimeError):
    """Another process works with the data folder; the message says which."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Of a lock: number of its process, what it runs, the address it answers at (empty for none),
    since when.
    """

    pid: int
    command: str
    address: str
    since: str

    def __str__(self) -> str:
        at = f" at {self.address}" if self.address else ""
        return f"{self.command!r}{at} (process {self.pid}, since {self.since})"


@contextlib.contextmanager
def locked(folder: Path, command: str, address: str = "") -> Iterator[None]:
    """Hold the lock of a data folder, which is made where it is missing, until the end of the
    block. It ends with this process, however that ends: nothing of a killed one bars the next.

    command: what runs here, for whoever is refused. Raises FolderLockedError, OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    with (
        _place_held(folder),
        os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+") as stream,
        _opened(folder) as itself,
    ):
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _lock_folder(itself)
        except BlockingIOError as error:
            who = _holder(path) or "another process"
            raise FolderLockedError(
                f"{folder}: in use by {who}. Stop it first, or give another folder by --data."
            ) from error
        since = datetime.now(UTC).isoformat(timespec="seconds")
        _write(stream.fileno(), json.dumps(asdict(Holder(os.getpid(), command, address, since))))
        try:
            yield
        finally:
            _write(stream.fileno(), "")


@contextlib.contextmanager
def _place_held(folder: Path) -> Iterator[None]:
    """The place of the folder as well (Linux): one that is deleted under whoever works with it, and
    made anew, is another folder to the kernel. Raises FolderLockedError.
    """
    place = folder.resolve()
    parent = place.parent.stat()  # two containers may share sockets, and have a folder of one name
    digest = hashlib.sha256(f"{parent.st_dev} {parent.st_ino} {place.name}".encode()).hexdigest()
    name = f"\0headway-{digest}"
    with socket.socket(socket.AF_UNIX) as held:
        try:
            held.bind(name)
            held.listen()
        except OSError:
            if pid := _own_listener(name):
                who = _holder(folder / FILE) or f"process {pid}"
                raise FolderLockedError(
                    f"{folder}: in use by {who}. Stop it first, or give another folder by --data."
                ) from None
        yield


def _own_listener(name: str) -> int:
    """Number of the process of the same user that listens at a socket; 0 for none."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(NAMED_WITHIN_S)
        try:
            asking.connect(name)
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
        except OSError:
            return 0
    pid, user, _ = UCRED.unpack(credentials)
    return int(pid) if user == os.getuid() else 0


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield number
    finally:
        os.close(number)


def _lock_folder(number: int) -> None:
    """The folder itself as well: its file may be deleted under whoever holds it. Not all network
    disks lock folders; there the file alone is locked. Raises BlockingIOError.
    """
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass


def _write(file: int, text: str) -> None:
    """A disk that is full loses the name, not the lock."""
    with contextlib.suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, text.encode(), 0)


def _holder(path: Path) -> Holder | None:
    """Who holds the lock; None where it does not say."""
    until = time.monotonic() + NAMED_WITHIN_S
    while True:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Holder(**json.loads(path.read_text(encoding="utf-8")))
        if time.monotonic() > until:
            return None
        time.sleep(0.02)
