"""What the database cannot take now: kept on disk, in order, and given to it when it can."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any


class SpoolFullError(RuntimeError):
    """The spool holds all that it may; what came was not taken."""


class Spool:
    """Batches in one file, a line each, flushed to the disk before `put` returns. most_bytes: bound
    of the file.

    A batch may be replayed twice; the primary keys of the tables drop the duplicates.
    """

    def __init__(self, path: Path, most_bytes: int = 1 << 30) -> None:
        self._path = path
        self._most = most_bytes
        self._lock = threading.Lock()  # of the file, and of `waiting`
        self._replaying = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.waiting = self._mend()

    def put(self, kind: str, rows: list[Any]) -> None:
        """Raises SpoolFullError, or OSError if the disk does not take it; then nothing of it is
        kept.
        """
        line = (
            json.dumps(
                {"kind": kind, "rows": rows}, separators=(",", ":"), default=as_text
            ).encode()
            + b"\n"
        )
        with self._lock:
            size = self._path.stat().st_size if self._path.exists() else 0
            if size + len(line) > self._most:
                raise SpoolFullError(
                    f"{self._path}: holds {size} bytes of {self._most}; bring the database "
                    "back, or give the spool more room."
                )
            with self._path.open("ab", buffering=0) as stream:
                try:
                    if stream.write(line) != len(line):
                        raise OSError(28, "the disk took a part only")
                    os.fsync(stream.fileno())
                except OSError:
                    stream.truncate(size)
                    raise
            self.waiting += 1

    def replay(self, write: Callable[[str, list[Any]], object]) -> int:
        """Give all that waits to `write`, oldest first; what it took is forgotten. Batches written.
        What `write` raises ends it, for now. Whoever puts meanwhile waits for the disk, not for
        `write`; what they put is given, too.
        """
        with self._replaying:
            done, rest = 0, 0
            try:
                for line, end in self._read():
                    if _is_batch(line):
                        batch = json.loads(line)
                        write(batch["kind"], batch["rows"])
                        done += 1
                    else:  # damaged since it was written
                        self._put_unreadable([line])
                    rest = end
            finally:
                self._forget(done, rest)
            return done

    def _read(self) -> Iterator[tuple[bytes, int]]:
        """Lines, each with the place behind it, until there is none; whole ones, since nobody puts
        while one is read.
        """
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            while True:
                with self._lock:
                    line = stream.readline()
                if not line:
                    return
                yield line, stream.tell()

    def _forget(self, done: int, rest: int) -> None:
        """`done` batches, all before the place `rest`."""
        with self._lock:
            if rest:
                self._drop(rest)
                self.waiting -= done
            if not self._path.exists() or not self._path.stat().st_size:
                self.waiting = 0  # a damaged batch was counted, too

    def _put_unreadable(self, lines: Iterable[bytes]) -> None:
        with self._path.with_suffix(".unreadable").open("ab") as aside:
            aside.writelines(line.rstrip(b"\n") + b"\n" for line in lines)

    def _drop(self, upto: int) -> None:
        with self._path.open("rb") as old:
            old.seek(upto)
            self._replace(old)

    def _mend(self) -> int:
        """Batches that wait. A line that is none, begun and not ended or damaged, is put aside: it
        must not hold up the others.
        """
        if not self._path.exists():
            return 0
        whole, broken = 0, list[bytes]()
        with self._path.open("rb") as stream:
            for line in stream:
                if _is_batch(line):
                    whole += 1
                else:
                    broken.append(line)
        if broken:
            self._put_unreadable(broken)
            with self._path.open("rb") as old:
                self._replace(line for line in old if _is_batch(line))
        return whole

    def _replace(self, lines: Iterable[bytes]) -> None:
        draft = self._path.with_suffix(".draft")
        with draft.open("wb") as new:
            new.writelines(lines)
            new.flush()
            os.fsync(new.fileno())
        draft.replace(self._path)


def as_text(value: object) -> str:
    """A value that JSON has not, as the database reads it: bytes in hexadecimal."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


def _is_batch(line: bytes) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n") and isinstance(found, dict) and found.keys() == {"kind", "rows"}
