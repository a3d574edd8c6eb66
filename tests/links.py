"""A link of this machine that can be cut, and that can hang: TCP, to a Unix socket and back."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

LOOK_S = 0.02


class Link:
    """Listens on `port` and passes everything on to the Unix socket at `to`; a context.

    hangs: nothing is passed on, and no connection is closed, as where packets are dropped.
    passed: bytes to `to` since the start; cut_after: it is cut after so many of them, once.
    """

    def __init__(self, to: str) -> None:
        self._to = to
        self._listener: socket.socket | None = None
        self._ends = list[socket.socket]()
        self._lock = threading.Lock()
        self._closed = False
        self.hangs = False
        self.passed = 0
        self.cut_after: int | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def __enter__(self) -> Link:
        self.mend()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self.cut()

    def mend(self, hangs: bool = False) -> None:
        """Connections are taken, and passed on unless it hangs."""
        self.hangs = hangs
        with self._lock:
            if self._listener is None:
                self._listener = socket.socket()
                self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._listener.bind(("127.0.0.1", self.port))
                self._listener.listen(100)
                threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Connections are refused, and those that there are reset."""
        with self._lock:
            listener, self._listener = self._listener, None
            ends, self._ends = self._ends, []
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        far = None
        while self.hangs and not self._closed:
            time.sleep(LOOK_S)
        with contextlib.suppress(OSError):
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._to)
            with self._lock:
                self._ends += [near, far]
            back = threading.Thread(target=self._pump, args=(far, near, False), daemon=True)
            back.start()
            self._pump(near, far, True)
        for end in (near, far):
            if end is not None:
                end.close()

    def _pump(self, source: socket.socket, sink: socket.socket, is_forth: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                while self.hangs and not self._closed:
                    time.sleep(LOOK_S)
                if is_forth:
                    self.passed += len(data)
                    if self.cut_after is not None and self.passed > self.cut_after:
                        self.cut_after = None
                        self.cut()
                        return
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
