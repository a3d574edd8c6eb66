"""What the database cannot take now: kept on disk, in order, and given to it when it can."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHUNK = 1 << 20  # bytes that are copied at once
LONG_LINE = 1 << 23  # bytes from which a batch is several lines
AT_ONCE = 2000  # lines that are replayed before they are forgotten
AT_ONCE_S = 10.0  # or for so long; what follows is copied then: of a large file not as often
COPIED_BYTES = 1 << 26
COPIED_SHARE = 8  # times what was replayed
LONGEST_LINE = 1 << 26  # bytes that are read at once


class SpoolFullError(RuntimeError):
    """The spool holds all that it may; what came was not taken."""


class Spool:
    """Batches in one file, a line each, flushed to the disk before `put` returns; a large one is
    several. most_bytes: bound of the file.

    A batch may be replayed twice; the primary keys of the tables drop the duplicates.
    damaged: lines that were put aside, into the file `aside`, for whoever tells of them.
    """

    def __init__(self, path: Path, most_bytes: int = 1 << 30) -> None:
        self._path = path
        self._most = most_bytes
        self._lock = threading.Lock()  # of the file, and of `waiting`
        self._replaying = threading.Lock()
        self.damaged = 0
        self.aside = path.with_suffix(".unreadable")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.waiting = self._mend()

    def put(self, kind: str, rows: list[Any]) -> None:
        """Raises SpoolFullError, or OSError if the disk does not take it; then nothing of it is
        kept.
        """
        lines = list(_lines(kind, rows))
        length = sum(map(len, lines))
        with self._lock:
            size = self._bytes()
            if size + length > self._most:
                raise SpoolFullError(
                    f"{self._path}: holds {size} bytes of {self._most}; bring the database "
                    "back, or give the spool more room."
                )
            with self._path.open("ab", buffering=0) as stream:
                try:
                    for line in lines:
                        if stream.write(line) != len(line):
                            raise OSError(28, "the disk took a part only")
                    os.fsync(stream.fileno())
                except OSError:
                    stream.truncate(size)
                    raise
            self.waiting += len(lines)

    def has_room(self, size: int) -> bool:
        """For so many bytes more, within its bound."""
        with self._lock:
            held = self._bytes()
        return held + size <= self._most

    def _bytes(self) -> int:
        """Of the file."""
        return self._path.stat().st_size if self._path.exists() else 0

    def replay(self, write: Callable[[str, list[Any]], object]) -> int:
        """Give all that waits to `write`, oldest first; what it took is forgotten. Batches written.
        What `write` raises ends it, for now. Whoever puts meanwhile waits for the disk, not for
        `write`; what they put is given, too. Raises OSError.
        """
        with self._replaying:
            done, is_at_end = 0, False
            while not is_at_end:
                more, is_at_end = self._replay_some(write)
                done += more
            return done

    def _replay_some(self, write: Callable[[str, list[Any]], object]) -> tuple[int, bool]:
        """The first of the lines that wait, which are forgotten then: whoever starts after a
        process that was killed begins with what comes after them. (batches written, nothing waits
        any more).
        """
        done, ended, rest, is_at_end = 0, 0, 0, True
        until_s = time.monotonic() + AT_ONCE_S
        try:
            for line, end in self._read():
                batch = _batch(line)
                if batch is None:  # damaged since it was written
                    self._put_aside(line)
                else:
                    write(*batch)
                    done += 1
                is_whole = line.endswith(b"\n")
                ended, rest = ended + is_whole, end
                is_due = is_whole and (ended >= AT_ONCE or time.monotonic() > until_s)
                if is_due and self._bytes() - end <= max(COPIED_BYTES, COPIED_SHARE * end):
                    is_at_end = False
                    break
        finally:
            self._forget(ended, rest)
        return done, is_at_end

    def _read(self) -> Iterator[tuple[bytes, int]]:
        """Lines, each with the place behind it, until there is none; whole ones, since nobody puts
        while one is read. One that is longer than any that is put comes in pieces.
        """
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            while True:
                with self._lock:
                    line = stream.readline(LONGEST_LINE)
                if not line:
                    return
                yield line, stream.tell()

    def _forget(self, ended: int, rest: int) -> None:
        """So many lines, all before the place `rest`."""
        if rest:
            self._drop(rest, ended)
        with self._lock:
            if not self._path.exists() or not self._path.stat().st_size:
                self.waiting = 0  # one that was damaged may be several by now

    def _drop(self, upto: int, ended: int) -> None:
        """What stays is copied while others put; they wait for what came meanwhile alone."""
        draft = self._path.with_suffix(".draft")
        with self._path.open("rb") as old, draft.open("wb") as new:
            old.seek(upto)
            shutil.copyfileobj(old, new, CHUNK)
            with self._lock:
                shutil.copyfileobj(old, new, CHUNK)
                new.flush()
                os.fsync(new.fileno())
                draft.replace(self._path)
                self.waiting = max(self.waiting - ended, 0)

    def _put_aside(self, line: bytes) -> None:
        with self.aside.open("ab") as stream:
            stream.write(line.rstrip(b"\n") + b"\n")
        self.damaged += 1

    def _mend(self) -> int:
        """Batches that wait. A line that is none, begun and not ended or damaged, is put aside: it
        must not hold up the others. A full disk does not end the start: then the replay does it.
        """
        try:
            return self._put_damaged_aside()
        except OSError:
            return self._cut_off()

    def _cut_off(self) -> int:
        """Lines that wait, without what was not ended: the next one must not go on in it."""
        count = whole = 0
        for line, end in self._read():
            if line.endswith(b"\n"):
                count, whole = count + 1, end
        os.truncate(self._path, whole)
        return count

    def _put_damaged_aside(self) -> int:
        """Raises OSError."""
        found = [0, 0]
        for line, _ in self._read():
            found[_batch(line) is not None] += 1
        if not found[False]:
            return found[True]
        draft = self._path.with_suffix(".draft")
        with draft.open("wb") as new:
            for line, _ in self._read():
                if _batch(line) is not None:
                    new.write(line)
                else:
                    self._put_aside(line)
            new.flush()
            os.fsync(new.fileno())
        draft.replace(self._path)
        return found[True]


def _lines(kind: str, rows: list[Any]) -> Iterator[bytes]:
    """A batch as lines, each short enough to be read again at once as long as its rows are."""
    text = json.dumps({"kind": kind, "rows": rows}, separators=(",", ":"), default=as_text)
    line = text.encode() + b"\n"
    if len(line) <= LONG_LINE or len(rows) < 2:
        if len(line) > LONGEST_LINE:
            raise SpoolFullError(
                f"a row of {len(line)} bytes is not kept on disk: at most {LONGEST_LINE}"
            )
        yield line
        return
    middle = len(rows) // 2
    yield from _lines(kind, rows[:middle])
    yield from _lines(kind, rows[middle:])


def as_text(value: object) -> str:
    """A value that JSON has not, as the database reads it: bytes in hexadecimal."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


def _batch(line: bytes) -> tuple[str, list[Any]] | None:
    """Kind and rows; None for a line that holds none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not line.endswith(b"\n") or not isinstance(found, dict) or found.keys() != {"kind", "rows"}:
        return None
    kind, rows = found["kind"], found["rows"]
    is_batch = isinstance(kind, str) and isinstance(rows, list)
    return (kind, rows) if is_batch and all(isinstance(row, list) for row in rows) else None
