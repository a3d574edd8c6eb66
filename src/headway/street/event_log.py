"""The event log on disk: one JSON object a line, appended; what cannot be written now waits and is
written later. A long one is put aside (`events.jsonl.1`, the newest), and the oldest of these is
deleted.
"""

from __future__ import annotations

import json
import mmap
import os
from collections import deque
from pathlib import Path
from typing import Any

from headway.values import Event

LARGEST_BYTES = 100_000_000  # that an editor still opens
MOST_ASIDE = 9  # long ones that are kept beside the present one: a gigabyte in all


class EventLog:
    """Appends events to `path`. A full or failing disk loses nothing until `most` events wait.

    largest:  bytes from which it is put aside.

    lost:    events dropped since then, oldest first. trouble: why nothing can be written now; empty
        where it can.
    """

    def __init__(self, path: Path, most: int = 1_000_000, largest: int = LARGEST_BYTES) -> None:
        self._path, self._most, self._largest = path, most, largest
        self._waiting: deque[str] = deque()
        self._stream: Any = None
        self.lost = 0
        self.trouble = ""

    def append(self, event: Event) -> None:
        """Add an event. Never raises because of the disk, see `trouble`."""
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self.lost += 1
        row = {
            "at_s": event.at_s,
            "kind": event.kind,
            "junction": event.junction,
            "data": dict(event.data),
        }
        self._waiting.append(json.dumps(row, separators=(",", ":")) + "\n")

    def flush(self) -> None:
        """Write what waits, as far as the disk accepts it: complete lines, in order."""
        if not self._waiting:
            return
        try:
            if self._stream is not None and not self._is_in_place():
                self._stream.close()
                self._stream = None
            if self._stream is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                _cut_incomplete_line(self._path)
                self._stream = self._path.open("ab", buffering=0)
            while self._waiting:
                row = self._waiting[0].encode()
                written = self._stream.write(row)
                if written != len(row):
                    raise OSError(f"{written} of {len(row)} bytes written")
                self._waiting.popleft()
            if self._stream.tell() >= self._largest:
                self._put_aside()
            self.trouble = ""
        except OSError as error:
            self.trouble = f"{self._path}: {error.strerror or error}"
            if self._stream is not None:
                self._stream.close()
                self._stream = None

    def _is_in_place(self) -> bool:
        """The open file is still the one at the path: neither deleted nor moved away."""
        try:
            return os.path.samestat(os.fstat(self._stream.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def _put_aside(self) -> None:
        """Raises OSError; then it goes on to grow, and this is tried again."""
        self._stream.close()
        self._stream = None
        for number in range(MOST_ASIDE - 1, 0, -1):
            if (older := self._aside(number)).exists():
                older.replace(self._aside(number + 1))
        self._path.replace(self._aside(1))

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    @property
    def waiting(self) -> int:
        """Events that are not on disk yet."""
        return len(self._waiting)

    def close(self) -> None:
        """Write what waits, and close the file."""
        self.flush()
        if self._stream is not None:
            self._stream.close()


def _cut_incomplete_line(path: Path) -> None:
    """Remove a last line without end, which a crash left; its event is written again in full."""
    if path.exists() and path.stat().st_size:
        with path.open("r+b") as stream:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                end = whole.rfind(b"\n") + 1
            stream.truncate(end)


def read(path: Path) -> list[Event]:
    """All events of a log, oldest first; an incomplete last line is ignored."""
    events = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        row = json.loads(line)
        events.append(Event(row["at_s"], row["kind"], row["junction"], row["data"]))
    return events
