"""From when and until when a street's process may drive: two times in a file, which whoever holds
the street's lease moves on, and the process reads before each tick. A holder that stands still
(SIGSTOP, a machine that sleeps) moves nothing on, so its street stops driving by itself.

The times are of a clock that all processes of a machine share, and that goes on while it sleeps.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

FILE = "may_drive"
TIMES = struct.Struct("<qq")  # nanoseconds: from, until
LATEST_S = 9e9
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class PermitError(RuntimeError):
    """The time to drive has passed."""


def clock_s() -> float:
    return time.clock_gettime(CLOCK)


class Permit:
    """Of the street in `folder`. A new one has passed already. Raises OSError."""

    def __init__(self, folder: Path, is_new: bool = False) -> None:
        path = folder / FILE
        if is_new:  # the file of before stays: a process may still read it
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as stream:
                stream.write(bytes(max(TIMES.size - stream.tell(), 0)))
        with path.open("r+b") as stream:
            self._times = mmap.mmap(stream.fileno(), TIMES.size)
        if is_new:
            self.extend(0.0, 0.0)

    def extend(self, from_s: float, until_s: float) -> None:
        """By `clock_s`; inf for never."""
        TIMES.pack_into(self._times, 0, *(round(1e9 * min(s, LATEST_S)) for s in (from_s, until_s)))

    def is_due(self) -> bool:
        """Whether it may drive now, and not only later. Raises PermitError where it may not any
        more.
        """
        from_ns, until_ns = TIMES.unpack_from(self._times)
        now_ns = time.clock_gettime_ns(CLOCK)
        if now_ns >= until_ns:
            raise PermitError("the lease of this street was not renewed: it may not drive any more")
        return bool(now_ns >= from_ns)
