"""What the database cannot take now: kept on disk, in order, and given to it when it can."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.files import opened_to_add
from headway.store import segments
from headway.store.segments import Segments

CHUNK = 1 << 20  # bytes that are copied at once
LONG_LINE = 1 << 23  # bytes from which a batch is several lines
SEGMENT_BYTES = 1 << 23  # from which a file is full, and the next one begins
AT_ONCE = 2000  # lines that are replayed before they are forgotten
AT_ONCE_S = 10.0  # or for so long; what follows is copied then: of a large file not as often
COPIED_BYTES = 1 << 26
COPIED_SHARE = 8  # times what was replayed
LONGEST_LINE = 1 << 26  # bytes that are read at once
AGES_EVERY_S = 60.0
OLDEST_DAYS = 366.0  # a file that seems older was written by a clock that was not set yet
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in a spool. since_s: seconds since 1970, from when on something has been waiting;
    after a start of its process, no later than the last line of the oldest file; 0 where nothing
    waits.
    """

    batches: int = 0
    size_bytes: int = 0
    since_s: float = 0.0


class SpoolFullError(RuntimeError):
    """The spool holds all that it may; what came was not taken."""


class Spool:
    """Batches in files, a line each, flushed to the disk before `put` returns; a large one is
    several. most_bytes: bound of all files together.

    sheds: groups of kinds that may be dropped to make room, the least important group first, the
        oldest lines first; other kinds are never dropped. least_free_bytes: of the disk, below
        which room is made, too. most_days: after which kinds that may be dropped are; 0 for never.

    A batch may be replayed twice; the primary keys of the tables drop the duplicates.
    damaged: lines that were put aside, into the file `aside`, for whoever tells of them.
    shed: rows that were dropped by kind, for whoever tells of them.
    """

    def __init__(
        self,
        path: Path,
        most_bytes: int = 1 << 30,
        sheds: Sequence[Sequence[str]] = (),
        least_free_bytes: int = 0,
        most_days: float = 0.0,
    ) -> None:
        self._path = path
        self._most = most_bytes
        self._sheds = [tuple(group) for group in sheds]
        self._least_free = least_free_bytes
        self._most_days = most_days
        self._lock = threading.Lock()  # of the files, and of `waiting`
        self._replaying = threading.Lock()
        self._being_read: Path | None = None
        self._was_shed = set[tuple[int, int]]()  # number of a full file, rank
        self._ages_due_s = 0.0
        self.damaged = 0
        self.shed = Counter[str]()
        self.aside = path.with_suffix(".unreadable")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._files = Segments(path)
        self._files.remove_doubles()
        self._newest_lines = self._mend()
        self.waiting = segments.waiting(self._files.full()) + self._newest_lines
        oldest = segments.first_waiting(path)
        self._since_s = oldest.stat().st_mtime if oldest is not None else 0.0

    def put(self, kind: str, rows: list[Any]) -> None:
        """Raises SpoolFullError, or OSError if the disk does not take it; then nothing of it is
        kept.
        """
        lines = list(_lines(kind, rows))
        length = sum(map(len, lines))
        with self._lock:
            if not self._make_room(kind, length):
                self.shed[kind] += len(rows)
                return
            size = self._path.stat().st_size if self._path.exists() else 0
            if size >= SEGMENT_BYTES and self._being_read != self._path:
                self._files.close_newest(self._newest_lines)
                size = self._newest_lines = 0
            with self._path.open("ab", buffering=0) as stream:
                try:
                    for line in lines:
                        if stream.write(line) != len(line):
                            raise OSError(28, "the disk took a part only")
                    os.fsync(stream.fileno())
                except OSError:
                    stream.truncate(size)
                    raise
            self._since_s = self._since_s if self.waiting else time.time()
            self._newest_lines += len(lines)
            self.waiting += len(lines)

    def has_room(self, size: int) -> bool:
        """For so many bytes more, within its bound."""
        with self._lock:
            held = self._bytes()
        return held + size <= self._most

    def backlog(self) -> Backlog:
        with self._lock:
            if not self.waiting:
                return Backlog()
            return Backlog(self.waiting, self._bytes(), self._since_s)

    def take_shed(self) -> Counter[str]:
        """Rows that were dropped since the last time, by kind."""
        if not self.shed:
            return Counter()
        with self._lock:
            found, self.shed = self.shed, Counter()
        return found

    def _bytes(self) -> int:
        """Of the files."""
        return self._files.size()

    def _fits(self, size: int) -> bool:
        if self._bytes() + size > self._most:
            return False
        return not self._disk_is_short(size)

    def _disk_is_short(self, size: int) -> bool:
        if not self._least_free:
            return False
        return shutil.disk_usage(self._path.parent).free - size < self._least_free

    def _make_room(self, kind: str, size: int) -> bool:
        """For so many bytes of a kind, of which nothing more important is dropped; False where
        there is none and the kind itself may be dropped. Raises SpoolFullError.
        """
        self._shed_by_age()
        if self._fits(size):
            return True
        ranks = [k for k, group in enumerate(self._sheds) if kind in group]
        for rank in range(ranks[0] + 1 if ranks else len(self._sheds)):
            for path in self._files.full():
                if self._shed_from(path, rank) and self._fits(size):
                    return True
        held = self._bytes()
        if ranks:
            return False
        if held + size > self._most:
            raise SpoolFullError(
                f"{self._path}: holds {held} bytes of {self._most}; bring the database "
                "back, or give the spool more room."
            )
        return True  # for as long as the disk takes it

    def _shed_by_age(self) -> None:
        now_s = time.monotonic()
        if not self._most_days or now_s < self._ages_due_s:
            return
        self._ages_due_s = now_s + AGES_EVERY_S
        for path in self._files.full():
            days = (time.time() - path.stat().st_mtime) / DAY_S
            if self._most_days < days < OLDEST_DAYS and self._sheds:
                for rank in range(len(self._sheds)):
                    path = self._shed_from(path, rank) or path

    def _shed_from(self, path: Path, rank: int) -> Path | None:
        """Drop a group of kinds from a full file that nobody reads; what it is then, None where
        nothing was done. Raises nothing: a disk that is too full for a draft drops nothing.
        """
        key = (segments.number(path), rank)
        if path == self._being_read or key in self._was_shed:
            return None
        self._was_shed.add(key)
        heads = tuple(f'{{"kind":"{kind}",'.encode() for kind in self._sheds[rank])
        draft, kept, gone = self._path.with_suffix(".shed"), 0, list[bytes]()
        at_s = path.stat().st_mtime
        try:
            with path.open("rb") as old, draft.open("wb") as new:
                for line in old:
                    if line.startswith(heads):
                        gone.append(line)
                    else:
                        kept += new.write(line) > 0
                new.flush()
                os.fsync(new.fileno())
            os.utime(draft, (at_s, at_s))
            if not gone:
                return None
            found = self._files.replace(path, draft, kept)
        except OSError:
            self._was_shed.discard(key)
            return None
        finally:
            draft.unlink(missing_ok=True)
        self.waiting = max(self.waiting - len(gone), 0)
        for line in gone:
            kind, rows = _batch(line) or ("unreadable", [])
            self.shed[kind] += len(rows)
        return found

    def replay(self, write: Callable[[str, list[Any]], object]) -> int:
        """Give all that waits to `write`, oldest first; what it took is forgotten. Batches written.
        What `write` raises ends it, for now. Whoever puts meanwhile waits for the disk, not for
        `write`; what they put is given, too. Raises OSError.
        """
        with self._replaying:
            done, is_at_end = 0, False
            try:
                while not is_at_end:
                    with self._lock:
                        full = self._files.full()
                        path = self._being_read = full[0] if full else self._path
                    more, has_ended = self._replay_some(path, write)
                    done, is_at_end = done + more, has_ended and path == self._path
            finally:
                self._being_read = None
            return done

    def _replay_some(
        self, path: Path, write: Callable[[str, list[Any]], object]
    ) -> tuple[int, bool]:
        """The first of the lines of a file, which are forgotten then: whoever starts after a
        process that was killed begins with what comes after them. (batches written, nothing waits
        there any more).
        """
        done, ended, rest, is_at_end = 0, 0, 0, True
        until_s = time.monotonic() + AT_ONCE_S
        try:
            for line, end in self._read(path):
                batch = _batch(line)
                if batch is None:  # damaged since it was written
                    self._put_aside(line)
                else:
                    write(*batch)
                    done += 1
                is_whole = line.endswith(b"\n")
                ended, rest = ended + is_whole, end
                is_due = is_whole and (ended >= AT_ONCE or time.monotonic() > until_s)
                left = path.stat().st_size - end if is_due else 0
                if is_due and left <= max(COPIED_BYTES, COPIED_SHARE * end):
                    is_at_end = False
                    break
        finally:
            self._forget(path, ended, rest)
        return done, is_at_end

    def _read(self, path: Path) -> Iterator[tuple[bytes, int]]:
        """Lines, each with the place behind it, until there is none; whole ones, since nobody puts
        while one is read. One that is longer than any that is put comes in pieces.
        """
        if not path.exists():
            return
        with path.open("rb") as stream:
            while True:
                with self._lock:
                    line = stream.readline(LONGEST_LINE)
                if not line:
                    return
                yield line, stream.tell()

    def _forget(self, path: Path, ended: int, rest: int) -> None:
        """So many lines, all before the place `rest`."""
        if path != self._path:
            self._forget_of_full(path, ended, rest)
            return
        if rest:
            self._drop(rest, ended)
        with self._lock:
            if not self._path.exists() or not self._path.stat().st_size:
                self._newest_lines = 0  # one that was damaged may be several by now
                self.waiting = segments.waiting(self._files.full())

    def _forget_of_full(self, path: Path, ended: int, rest: int) -> None:
        if rest >= path.stat().st_size:
            with self._lock:
                path.unlink()
                self.waiting = max(self.waiting - segments.lines(path), 0)
        elif rest:
            draft = self._path.with_suffix(".draft")
            at_s = path.stat().st_mtime
            with path.open("rb") as old, draft.open("wb") as new:
                old.seek(rest)
                shutil.copyfileobj(old, new, CHUNK)
                new.flush()
                os.fsync(new.fileno())
            os.utime(draft, (at_s, at_s))
            with self._lock:
                self._files.replace(path, draft, max(segments.lines(path) - ended, 0))
                self.waiting = max(self.waiting - ended, 0)

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
                self._newest_lines = max(self._newest_lines - ended, 0)
                self.waiting = max(self.waiting - ended, 0)

    def _put_aside(self, line: bytes) -> None:
        with opened_to_add(self.aside) as stream:  # it may be erased meanwhile
            stream.write(line.rstrip(b"\n") + b"\n")
        self.damaged += 1

    def _mend(self) -> int:
        """Batches that wait in the newest file. A line that is none, begun and not ended or
        damaged, is put aside: it must not hold up the others. A full disk does not end the start:
        then the replay does it.
        """
        try:
            return self._put_damaged_aside()
        except OSError:
            return self._cut_off()

    def _cut_off(self) -> int:
        """Lines that wait, without what was not ended: the next one must not go on in it."""
        count = whole = 0
        for line, end in self._read(self._path):
            if line.endswith(b"\n"):
                count, whole = count + 1, end
        os.truncate(self._path, whole)
        return count

    def _put_damaged_aside(self) -> int:
        """Raises OSError."""
        found = [0, 0]
        for line, _ in self._read(self._path):
            found[_batch(line) is not None] += 1
        if not found[False]:
            return found[True]
        draft = self._path.with_suffix(".draft")
        with draft.open("wb") as new:
            for line, _ in self._read(self._path):
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
