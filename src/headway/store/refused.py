"""Rows that the database refuses for what they say: kept in a file, a line each, for a person to
read; erased as others are.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from headway.files import write_whole
from headway.store.spool import as_text

FILE = "refused.jsonl"
MOST_WAITING = 1000
MOST_BYTES = 100_000_000  # of the file; beyond it rows are counted alone
IsOf = Callable[[str, list[Any]], bool]  # of a table's name and a row


class RefusedRows:
    """`DATA/refused.jsonl`: table, rows, and why. A full disk holds up nothing: the newest
    MOST_WAITING lines wait for it. Another process may erase meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting = deque[str](maxlen=MOST_WAITING)
        self._lock = threading.Lock()

    def add(self, table: str, rows: Sequence[Any], why: Exception) -> None:
        found = {"why": str(why), "table": table, "rows": [list(r) for r in rows]}
        line = json.dumps(found, default=as_text) + "\n"
        with self._lock:
            self._waiting.append(line)
        self.write()

    def write(self) -> None:
        """What waits, as far as the disk takes it."""
        with self._lock, contextlib.suppress(OSError):
            while self._waiting:
                line = self._waiting[0].encode()
                with self._opened() as stream:
                    size = stream.tell()
                    if size + len(line) <= MOST_BYTES and stream.write(line) != len(line):
                        stream.truncate(size)
                        return
                self._waiting.popleft()

    def erase_simulation(self, simulation_id: str) -> int:
        """Take away all records of one simulation; how many. Raises OSError where the disk does not
        take what stays: then nothing was changed.
        """
        return self._erase(
            lambda table, row: table == "simulation_record" and row[0] == simulation_id
        )

    def erase_violations(
        self,
        device: str,
        begin: datetime | None,
        end: datetime | None,
        stored: Collection[str] = (),
    ) -> int:
        """Take away the violations of one device in [begin, end), with all images of these and of
        `stored`, the numbers of those in the database; how many rows. Raises OSError, as above.
        """
        numbers = set(stored)

        def is_violation(table: str, row: list[Any]) -> bool:
            is_of = table == "violation" and row[2] == device and _is_within(row[1], begin, end)
            if is_of:
                numbers.add(str(row[0]))
            return is_of

        gone = self._erase(is_violation)
        return gone + self._erase(
            lambda t, row: t == "violation_picture" and str(row[0]) in numbers
        )

    def _erase(self, is_of: IsOf) -> int:
        """Rows that are gone. What stays is written whole or not at all."""
        with self._lock:
            waiting, gone = _without(list(self._waiting), is_of)
            if self.path.exists():
                with self._opened():
                    # split at line ends alone: a text may hold other separators
                    lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
                    kept, of_file = _without([f"{line}\n" for line in lines if line], is_of)
                    if of_file:
                        write_whole(self.path, "".join(kept))
                    gone += of_file
            self._waiting.clear()
            self._waiting.extend(waiting)
        return gone

    @contextlib.contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        """The file, to add to, while no other process writes to it or puts another in its place."""
        while True:
            with self.path.open("ab", buffering=0) as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                if _is_there(stream, self.path):
                    yield stream
                    return


def _is_there(stream: IO[bytes], path: Path) -> bool:
    """Another file may have taken its place while the lock was waited for."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    return False


def _without(lines: list[str], is_of: IsOf) -> tuple[list[str], int]:
    """The lines without such rows, and how many these were. A line that is damaged stays."""
    kept, gone = list[str](), 0
    for line in lines:
        try:
            found = json.loads(line)
            rows = [row for row in found["rows"] if not is_of(found["table"], row)]
            fewer = len(found["rows"]) - len(rows)
        except (ValueError, TypeError, LookupError, RecursionError):
            kept.append(line)
            continue
        gone += fewer
        if rows:
            kept.append(json.dumps(found | {"rows": rows}) + "\n" if fewer else line)
    return kept, gone


def _is_within(at: Any, begin: datetime | None, end: datetime | None) -> bool:
    """A time that cannot be read is within any: perhaps it is what the row was refused for."""
    try:
        moment = datetime.fromisoformat(at)
    except (ValueError, TypeError):
        return True
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (begin is None or moment >= begin) and (end is None or moment < end)
