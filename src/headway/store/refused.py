"""Rows that the database refuses for what they say, and lines that were damaged while they waited
for it: kept in files for a person to read; erased, and forgotten in time, as others are.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from headway.files import opened_to_add, write_whole
from headway.store.spool import as_text

FILE = "refused.jsonl"
DAMAGED = "spool.unreadable"  # beside it: where `Spool` puts lines aside
MOST_WAITING = 1000
MOST_BYTES = 100_000_000  # of the file; beyond it rows are counted alone
IsOf = Callable[[str, list[Any]], bool]  # of a table's name and a row


class RefusedRows:
    """`DATA/refused.jsonl`: when, table, rows, and why. A full disk holds up nothing: the newest
    MOST_WAITING lines wait for it. Another process may erase meanwhile. What is erased is erased of
    `DATA/spool.unreadable`, too: there each line that has the name in it goes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = path.with_name(DAMAGED)
        self._waiting = deque[str](maxlen=MOST_WAITING)
        self._lock = threading.Lock()

    def add(self, table: str, rows: Sequence[Any], why: Exception) -> None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        found = {"at": at, "why": str(why), "table": table, "rows": [list(r) for r in rows]}
        line = json.dumps(found, default=as_text) + "\n"
        with self._lock:
            self._waiting.append(line)
        self.write()

    def write(self) -> None:
        """What waits, as far as the disk takes it."""
        with self._lock, contextlib.suppress(OSError):
            while self._waiting:
                line = self._waiting[0].encode()
                with opened_to_add(self.path) as stream:
                    size = stream.tell()
                    if size + len(line) <= MOST_BYTES and stream.write(line) != len(line):
                        stream.truncate(size)
                        return
                self._waiting.popleft()

    def retain(self, days: float) -> int:
        """Take away what was put aside more than `days` ago; how many lines. One that does not say
        when goes with its file, to which nothing was added for so long. Raises OSError.
        """
        before = datetime.now(UTC) - timedelta(days=days)
        with self._lock:
            return sum(
                _rewritten(path, partial(_newer, before=before, is_old=_is_older(path, before)))
                for path in (self.path, self.damaged)
            )

    def erase_simulation(self, simulation_id: str) -> int:
        """Take away all records of one simulation; how many. Raises OSError where the disk does not
        take what stays: then nothing was changed.
        """
        return self._erase(
            lambda table, row: table == "simulation_record" and row[0] == simulation_id,
            [simulation_id],
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

        gone = self._erase(is_violation, [device])
        return gone + self._erase(
            lambda t, row: t == "violation_picture" and str(row[0]) in numbers, numbers
        )

    def _erase(self, is_of: IsOf, names: Collection[str]) -> int:
        """Rows that are gone, and lines that are damaged and have one of the names. What stays of a
        file is written whole or not at all.
        """
        quoted = [json.dumps(name) for name in names]

        def without(line: str) -> tuple[str, int]:
            return _without(line, is_of, quoted)

        with self._lock:
            found = [without(line) for line in self._waiting]
            gone = sum(fewer for _, fewer in found)
            for path in (self.path, self.damaged):
                gone += _rewritten(path, without)
            self._waiting.clear()
            self._waiting.extend(line for line, _ in found if line)
        return gone


def _rewritten(path: Path, change: Callable[[str], tuple[str, int]]) -> int:
    """Put what `change` makes of each line in its place; how much is gone. Raises OSError, and the
    file is as it was.
    """
    if not path.exists():
        return 0
    with opened_to_add(path):
        # split at line ends alone: a text may hold other separators
        lines = path.read_bytes().decode(errors="surrogateescape").split("\n")
        found = [change(f"{line}\n") for line in lines if line]
        gone = sum(fewer for _, fewer in found)
        if gone:
            kept = "".join(line for line, _ in found)
            write_whole(path, kept.encode(errors="surrogateescape"))
    return gone


def _without(line: str, is_of: IsOf, quoted: Sequence[str]) -> tuple[str, int]:
    """What stays of a line without such rows, and how many these were; of one that is damaged all
    or nothing.
    """
    try:
        found = json.loads(line)
        rows = [row for row in found["rows"] if not is_of(found["table"], row)]
        fewer = len(found["rows"]) - len(rows)
    except (ValueError, TypeError, LookupError, RecursionError):
        return ("", 1) if any(name in line for name in quoted) else (line, 0)
    if not fewer:
        return line, 0
    return (json.dumps(found | {"rows": rows}) + "\n" if rows else ""), fewer


def _newer(line: str, before: datetime, is_old: bool) -> tuple[str, int]:
    """The line, or nothing of it where it was put aside before a time. is_old: so was all of the
    file.
    """
    with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):
        is_old = datetime.fromisoformat(json.loads(line)["at"]) < before
    return ("", 1) if is_old else (line, 0)


def _is_older(path: Path, before: datetime) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return datetime.fromtimestamp(path.stat().st_mtime, UTC) < before
    return False


def _is_within(at: Any, begin: datetime | None, end: datetime | None) -> bool:
    """A time that cannot be read is within any: perhaps it is what the row was refused for."""
    try:
        moment = datetime.fromisoformat(at)
    except (ValueError, TypeError):
        return True
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (begin is None or moment >= begin) and (end is None or moment < end)
