"""Signs of life of a process: to systemd by its protocol (sd_notify(3)), and to a file, by its time
and by who gave the last one.

Whoever gives them does so from the loop whose standing still is to be found out, never from a
thread beside it.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headway import __version__

SOCKET, WATCHDOG_US, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
SHARE = 4  # signs in the time after which systemd ends a process that gives none
EVERY_S = 5.0  # where no such time is set
LINE_BYTES = 200  # of the file: written over at once, nobody reads half of it


@dataclass(frozen=True, slots=True)
class Signer:
    """Who gave a sign. version: of Headway; who: its machine and process; begun_s: wall clock."""

    version: str
    who: str
    begun_s: float


def signer(said: str) -> Signer | None:
    """By the content of a file of signs; None where that does not say so."""
    try:
        version, machine, pid, begun_s = said.split()
        return Signer(version, f"{machine} process {pid}", float(begun_s))
    except ValueError:
        return None


class SignsOfLife:
    """file: written at each sign, for `signer`; None for none. variables: in which systemd says
    where it listens. clock: seconds that only grow.

    Nothing fails where nobody listens, or the disk is full.
    """

    def __init__(
        self,
        file: Path | None = None,
        variables: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = file
        self._clock = clock
        said = f"{__version__} {socket.gethostname()} {os.getpid()} {time.time():.3f}"
        self._line = said.ljust(LINE_BYTES - 1).encode() + b"\n"
        self._address = variables.get(SOCKET, "").replace("@", "\0", 1)
        pid, within_us = variables.get(WATCHDOG_PID, ""), variables.get(WATCHDOG_US, "")
        is_watched = within_us.isdecimal() and pid in ("", str(os.getpid()))
        self.every_s = int(within_us) / 1e6 / SHARE if is_watched else EVERY_S
        self._is_watched = is_watched
        self._given_s = -math.inf
        self._is_ready = False

    def give(self) -> None:
        """It works. The first time it says that it has started (READY=1). As often as one likes:
        between two signs, `every_s` seconds pass.
        """
        now_s = self._clock()
        if now_s - self._given_s < self.every_s:
            return
        self._given_s = now_s
        said = ([] if self._is_ready else ["READY=1"]) + (["WATCHDOG=1"] * self._is_watched)
        self._is_ready = True
        self._tell(said)
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._write(self._file)

    def _write(self, path: Path) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)  # written over, never cut short
        try:
            os.utime(handle)  # also on a full disk
            os.write(handle, self._line)
        finally:
            os.close(handle)

    def end(self) -> None:
        """It is ending by itself, which may take a while."""
        self._tell(["STOPPING=1"])

    def _tell(self, words: list[str]) -> None:
        if not self._address or not words:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
        ):
            out.setblocking(False)
            out.sendto("\n".join(words).encode(), self._address)
