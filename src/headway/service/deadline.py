"""Exchanges with other people's servers that end in time, whoever drips: the time-out of a socket
bounds each wait, so that an answer of a byte every few seconds would have no end.
"""

from __future__ import annotations

import contextlib
import http.client
import smtplib
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable
from typing import Any, Self


class Deadline:
    """The connections that are made within it are shut down when `limit_s` seconds are over; it
    then raises TimeoutError, whatever the exchange itself raised.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._timer = threading.Timer(limit_s, self._end)
        self._timer.daemon = True
        self._open: list[socket.socket] = []
        self._guard = threading.Lock()
        self.passed = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._guard:
            for held in self._open:
                held.close()
            self._open.clear()
            passed = self.passed
        if passed:
            raise TimeoutError(f"no whole answer within {self._limit_s:g} s")

    def watch(self, connected: socket.socket) -> None:
        """A handle of its own: TLS takes the socket's own away."""
        with self._guard:
            self._open.append(connected.dup())
            if self.passed:
                self._shut()

    def _end(self) -> None:
        with self._guard:
            self.passed = True
            self._shut()

    def _shut(self) -> None:
        for held in self._open:
            with contextlib.suppress(OSError):  # the other side has ended it
                held.shutdown(socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    """deadline: of the exchange, from before TLS on."""

    deadline: Deadline

    def connect(self) -> None:
        super().connect()
        self.deadline.watch(self.sock)


class _SafeConnection(http.client.HTTPSConnection, _Connection):
    """`connect` of HTTPSConnection calls that of _Connection, then begins TLS."""


def _within(deadline: Deadline, kind: type[_Connection]) -> Callable[..., _Connection]:
    """Makes connections of a kind, as urllib calls it."""

    def make(*words: Any, **named: Any) -> _Connection:
        made = kind(*words, **named)
        made.deadline = deadline
        return made

    return make


class WebHandler(urllib.request.HTTPHandler):
    """http of urllib, within a deadline."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_within(self._deadline, _Connection), req)


class SafeWebHandler(urllib.request.HTTPSHandler):
    """https of urllib, within a deadline."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_within(self._deadline, _SafeConnection), req)


class MailConnection(smtplib.SMTP):
    """SMTP within a deadline."""

    def __init__(self, host: str, port: int, timeout_s: float, deadline: Deadline) -> None:
        self._deadline = deadline
        super().__init__(host, port, timeout=timeout_s)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """As smtplib's own, which leaves it to be overridden (SMTP_SSL does)."""
        connected = socket.create_connection((host, port), timeout, self.source_address)
        self._deadline.watch(connected)
        return connected


class SafeMailConnection(MailConnection):
    """SMTP over TLS from the first byte on, within a deadline."""

    def __init__(
        self, host: str, port: int, timeout_s: float, deadline: Deadline, context: ssl.SSLContext
    ) -> None:
        self._context = context
        super().__init__(host, port, timeout_s, deadline)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = super()._get_socket(host, port, timeout)
        return self._context.wrap_socket(plain, server_hostname=host)
