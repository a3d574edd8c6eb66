"""How long one message takes from its first to its last of 1,000 clients, beside a bare loop that
writes the same bytes to as many sockets.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bench.service import server

CLIENTS = 1000
MESSAGES = 60
WARM_UP = 10  # messages before the figures
# a bare peer: accepts CLIENTS sockets, answers each handshake, then writes 2 KB at 10 Hz to all
BARE = """
import socket, sys, time
count, port = int(sys.argv[1]), int(sys.argv[2])
listening = socket.create_server(("127.0.0.1", port), backlog=2048)
links = []
while len(links) < count:
    link = listening.accept()[0]
    link.recv(4096)
    link.send(b"HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n")
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    links.append(link)
frame = b"\\x81\\x7e" + (2048).to_bytes(2, "big") + b"x" * 2048
time.sleep(0.5)
while True:
    time.sleep(0.1)
    for link in links:
        link.send(frame)
"""


class Crowd:
    """CLIENTS sockets on one epoll. It reads the headers of frames, and nothing else."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        words = (
            f"GET {address.path or '/'}?{address.query} HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        )
        request = "\r\n".join((*words, "", "")).encode()
        self.epoll = select.epoll()
        self.links: dict[int, socket.socket] = {}
        for _ in range(CLIENTS):
            link = socket.create_connection((address.hostname, address.port))
            link.send(request)
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):  # nothing is sent before all are here
                answer += link.recv(1)
            assert answer.startswith(b"HTTP/1.1 101"), answer
            link.setblocking(False)
            self.epoll.register(link.fileno(), select.EPOLLIN)
            self.links[link.fileno()] = link

    def hear(self, messages: int) -> np.ndarray[Any, Any]:
        """(messages, clients): when each came whole, seconds."""
        waiting = dict.fromkeys(self.links, b"")
        came: dict[int, list[float]] = {fd: [] for fd in self.links}
        left = CLIENTS * messages
        poll, clock = self.epoll.poll, time.perf_counter
        while left > 0:
            for fd, _ in poll(30.0, CLIENTS):
                data = waiting[fd] + self.links[fd].recv(65536)
                now = clock()
                while len(data) >= 4:
                    size, head = data[1] & 127, 2
                    if size == 126:
                        size, head = int.from_bytes(data[2:4], "big"), 4
                    if len(data) < head + size:
                        break
                    if data[0] & 15 == 1:  # a text
                        came[fd].append(now)
                        left -= 1
                    data = data[head + size :]
                waiting[fd] = data
        return np.array([times[:messages] for times in came.values()]).T


def _listen(url: str, ready: Any, out: Any, done: Any) -> None:
    crowd = Crowd(url)
    ready.set()
    out.put(crowd.hear(MESSAGES))
    done.wait(60)  # until then nobody leaves


def _processor_s(process: int) -> float:
    """Processor time that a process has used so far, seconds."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _spread(url: str, pid: int, begin: Any = None) -> tuple[np.ndarray[Any, Any], float]:
    """Milliseconds from the first to the last client of each message; milliseconds of processor
    time that the server `pid` used for one.
    """
    context = multiprocessing.get_context("spawn")
    ready, out, done = context.Event(), context.Queue(), context.Event()
    process = context.Process(target=_listen, args=(url, ready, out, done))
    process.start()
    assert ready.wait(120)
    time.sleep(1.0)  # what the server does for newcomers is no part of a message
    before_s = _processor_s(pid)
    if begin is not None:
        begin()
    came = out.get(timeout=120)
    used_ms = (_processor_s(pid) - before_s) * 1e3 / MESSAGES
    done.set()
    process.join()
    return np.ptp(came[WARM_UP:], axis=1) * 1e3, used_ms


def spread(turns: int = 5) -> None:
    """First to last arrival of a 2 KB message over 1,000 clients that read no more than frame
    headers, and the same for a bare loop of 1,000 `send`; to reach: p50 < 10 ms, or what bare has.
    """
    medians = measured(turns)
    for name, (p50, p99, used_ms) in medians.items():
        print(
            f"{CLIENTS} clients, {name}: first to last p50 {p50:.1f} ms, p99 {p99:.1f} ms; "
            f"{used_ms:.1f} ms of processor time a message"
        )
    ratio = medians["ours"] / medians["bare"]
    print(f"ours / bare: p50 {ratio[0]:.2f}, processor {ratio[2]:.2f} (medians of {turns} runs)")


def measured(turns: int) -> dict[str, np.ndarray[Any, Any]]:
    """Of "ours" and "bare": p50, p99 and processor time of a message, ms; medians of the turns."""
    figures: dict[str, list[tuple[float, float, float]]] = {"ours": [], "bare": []}
    for _ in range(turns):
        for name, serve in (("ours", _ours), ("bare", _bare)):
            took, used_ms = serve()
            figures[name].append((*np.percentile(took, (50, 99)), used_ms))
    return {name: np.median(rows, axis=0) for name, rows in figures.items()}


def _ours() -> tuple[np.ndarray[Any, Any], float]:
    with TemporaryDirectory() as folder, server(Path(folder)) as (url, headers):
        token = headers["Authorization"].split()[1]
        pid = int((Path(folder) / "pid").read_text(encoding="ascii"))
        address = f"{url}/ws/realtime?token={token}"
        return _spread(address, pid, (Path(folder) / "chatter").touch)


def _bare() -> tuple[np.ndarray[Any, Any], float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-c", BARE, str(CLIENTS), str(port)]
    bare = subprocess.Popen(words, stderr=subprocess.DEVNULL)  # it ends by a broken pipe
    time.sleep(1.0)
    found = _spread(f"http://127.0.0.1:{port}/", bare.pid)
    bare.terminate()
    bare.wait()
    return found
