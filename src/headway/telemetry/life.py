"""Signs of life of a process: to systemd by its protocol (sd_notify(3)), and to a file by its time.

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
from pathlib import Path

SOCKET, WATCHDOG_US, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
SHARE = 4  # signs in the time after which systemd ends a process that gives none
EVERY_S = 5.0  # where no such time is set


class SignsOfLife:
    """file: whose time is set at each sign; None for none. variables: in which systemd says where
    it listens. clock: seconds that only grow.

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
                self._file.touch()

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
