"""Files that are written whole or not at all, also where the power is cut meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PRIVATE = 0o600  # readable by this user alone


def write_whole(path: Path, content: bytes | str) -> None:
    """In place of what stands there, readable by this user alone; text as UTF-8. Its folder is made
    where there is none. Two at once on one path are the caller's to exclude. Raises OSError, and
    what stood there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)  # of a process that was killed, perhaps with other rights
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())  # or a power cut leaves an empty file under the name
    draft.replace(path)
    with contextlib.suppress(OSError):  # not every file system can; the file is there now
        sync_names(path.parent)


@contextlib.contextmanager
def alone_at(path: Path) -> Iterator[None]:
    """One at a time, of all threads and processes: who changes what stands in a file reads and
    writes it within the block. An empty file beside it (`NAME.lock`) stays. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    held = os.open(lock, os.O_WRONLY | os.O_CREAT, PRIVATE)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


@contextlib.contextmanager
def opened_to_add(path: Path) -> Iterator[IO[bytes]]:
    """The file, to add to, while no other process that opens it so adds to it, or puts another in
    its place. Raises OSError.
    """
    while True:
        with path.open("ab", buffering=0) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if _is_there(stream, path):
                yield stream
                return


def _is_there(stream: IO[bytes], path: Path) -> bool:
    """Another file may have taken its place while the lock was waited for."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    return False


def sync_names(folder: Path) -> None:
    """The names in a folder outlast a power cut from now on. Raises OSError."""
    place = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
