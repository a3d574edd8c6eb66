"""What was begun under a name that its caller has chosen, and how it ended, in a file: whoever
starts after a process that was killed does not do it once more.
"""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway import telemetry

MOST_KEPT = 20_000  # names; the oldest are forgotten first
MOST_BYTES = 16 << 20  # of the file, until it is written anew


@dataclass(frozen=True, slots=True)
class Begun:
    """request: what was asked, as a digest. until_s: when it is forgotten, seconds since 1970.
    status: how it was answered; None where nobody knows.
    """

    request: str
    until_s: float
    status: int | None = None


class BegunBook:
    """From any thread. path: None to know of this process alone. clock: seconds since 1970."""

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._known: dict[str, Begun] = {}  # by name, oldest first
        self._lock = threading.Lock()
        self._has_fault = False
        if path is not None and path.exists():
            for line in path.read_bytes().splitlines():
                self._read(line)
            with self._lock:
                self._keep(None)

    def find(self, name: str) -> Begun | None:
        with self._lock:
            found = self._known.get(name)
        return found if found is not None and found.until_s > self._clock() else None

    def begin(self, name: str, request: str, lasts_s: float) -> None:
        """It is about to be done."""
        self._note(name, Begun(request, self._clock() + lasts_s))

    def end(self, name: str, status: int | None) -> None:
        """It was done, and answered so; None: it was not, and may be begun again."""
        with self._lock:
            begun = self._known.get(name)
        if begun is not None:
            self._note(name, Begun(begun.request, begun.until_s if status else 0.0, status))

    def _note(self, name: str, found: Begun) -> None:
        """A disk that takes nothing ends no order: then this process alone knows of it."""
        row = [name, found.request, found.until_s, found.status]
        with self._lock:
            self._use(row)
            self._keep(json.dumps(row).encode() + b"\n")

    def _keep(self, line: bytes | None) -> None:
        """One line more; None for all of it anew."""
        if self._path is None:
            return
        try:
            # after a fault the file's last line may not be whole, and lacks what came meanwhile
            if line is None or self._has_fault or self._is_too_long_with(line):
                self._write_anew()
        except OSError as error:
            if not self._has_fault:
                telemetry.log("api").error("what was begun is not kept", error=str(error))
            self._has_fault = True
        else:
            self._has_fault = False

    def _is_too_long_with(self, line: bytes) -> bool:
        """The file, to which it is added, whole or not at all. Raises OSError."""
        assert self._path is not None
        with self._path.open("ab", buffering=0) as stream:
            size = stream.tell()
            if stream.write(line) != len(line):
                stream.truncate(size)
                raise OSError(errno.ENOSPC, "the disk took a part only")
        return size + len(line) > MOST_BYTES

    def _use(self, row: list[Any]) -> None:
        name, request, until_s, status = row
        self._known.pop(name, None)
        if until_s:
            self._known[name] = Begun(request, until_s, status)
        if len(self._known) > MOST_KEPT:
            del self._known[next(iter(self._known))]

    def _read(self, line: bytes) -> None:
        """One that was cut, or is damaged, is left out."""
        try:
            name, request, until_s, status = json.loads(line)
            is_whole = isinstance(name, str) and isinstance(status, int | None)
            self._use([name, str(request), float(until_s), status if is_whole else None])
        except (ValueError, TypeError, RecursionError):
            pass

    def _write_anew(self) -> None:
        """Without what is forgotten. Raises OSError."""
        assert self._path is not None
        now_s = self._clock()
        self._known = {name: b for name, b in self._known.items() if b.until_s > now_s}
        rows = ([name, b.request, b.until_s, b.status] for name, b in self._known.items())
        draft = self._path.with_suffix(".draft")
        draft.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        draft.replace(self._path)
