"""The service: ingestion, analytics, broadcast, simple requests, and the loop beside all of it."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

RECORD = {
    "simulation_id": "BENCH", "timestamp": "2025-09-10T23:20:00Z", "intersection_id": "INT_001",
    "signals": [
        {"direction": d,
            "vehicle_counts": {"car": 78, "bus": 0, "truck": 0, "bike": 0, "rickshaw": 0},
            "emergency_vehicle_present": False, "signal_status": "GREEN",
         "signal_timer": 18, "vehicles_crossed": 35, "avg_wait_time": 12.5,
         "green_time_allocated": 20}
        for d in ("north", "south", "east", "west")
    ],
    "metrics": {"total_vehicles_passed": 104, "avg_wait_time_all_sides": 20.6, "throughput": 0.87,
        "avg_speed": 28.3, "fuel_saved": 1.2, "co2_saved": 3.8, "emergency_overrides": 0},
}  # fmt: skip
DATABASE_URL = "HEADWAY_DATABASE_URL"
FIGURES = re.compile(rb'"t": ?([0-9.]+), ?"n": ?([0-9]+)')
PING = 9  # the kind of a frame (RFC 6455, 5.2)
SERVER = """
import os, sys, asyncio, uvicorn
from pathlib import Path
from fastapi import FastAPI
from headway.api.app import create_app
from headway.api.services import ApiSettings
from headway.api.security import Role
from headway.store import open_database
folder, port = Path(sys.argv[1]), int(sys.argv[2])
folder.mkdir(exist_ok=True)
(folder / "pid").write_text(str(os.getpid()))
database = open_database(folder)
app = create_app(ApiSettings(folder, per_minute=0), database)
if len(sys.argv) > 3:
    bare = FastAPI()
    @bare.get("/health")
    async def hello(): return {"status": "ok", "version": "0"}
    uvicorn.run(bare, host="127.0.0.1", port=port, log_level="error")
    sys.exit()
async def chatter():
    n = 0
    while True:
        await asyncio.sleep(0.1)
        if (folder / "chatter").exists():
            import time
            message = {"t": time.time(), "n": n, "load": "x" * 1960}
            app.state.services.hub.broadcast("realtime", "bench", message)
            n += 1
lifespan = app.router.lifespan_context
from contextlib import asynccontextmanager
@asynccontextmanager
async def with_chatter(a):
    async with lifespan(a) as state:
        task = asyncio.create_task(chatter())
        yield state
        task.cancel()
app.router.lifespan_context = with_chatter
print(app.state.services.keyring.token("bench", Role.ADMIN), flush=True)
from headway.api.sockets import Connection
uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", ws=Connection)
database.close()
"""


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A server in a process of its own: (address, headers of an administrator)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder), str(port)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    token, url = process.stdout.readline().strip(), f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            httpx.get(f"{url}/health")
            break
        except httpx.TransportError:
            time.sleep(0.1)
    try:
        yield url, {"Authorization": f"Bearer {token}"}
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def batches(count: int, name: str) -> list[bytes]:
    """`count` batches of 500 records."""
    found = []
    for k in range(count):
        stamps = (
            f"2025-09-{1 + s // 86400 % 28:02d}"
            f"T{s // 3600 % 24:02d}:{s // 60 % 60:02d}:{s % 60:02d}Z"
            for s in range(500 * k, 500 * k + 500)
        )
        found.append(
            json.dumps([RECORD | {"simulation_id": name, "timestamp": s} for s in stamps]).encode()
        )
    return found


def ingest(count: int = 60) -> None:
    """Rows/s over HTTP in batches of 500, to durable rows / a bare psycopg COPY of the same rows,
    batch by batch; to reach: 0.35, and 10,000/s.
    """
    import psycopg

    from headway.api import ingest as doors

    with TemporaryDirectory() as folder:
        root = Path(folder)
        with (
            server(root) as (url, headers),
            httpx.Client(base_url=url, headers=headers, timeout=60) as client,
        ):
            address = _address(root)
            rows = [
                [doors.row(r) for r in doors.batch_decoder.decode(b)]
                for b in batches(count, "BARE")
            ]
            with psycopg.connect(address) as link:
                _copy(link, rows[:2])
            bodies = batches(count, "OURS")
            pairs = []
            for turn in range(3):
                named = [[(f"BARE{turn}", *r[1:]) for r in b] for b in rows]
                with psycopg.connect(address) as link:
                    bare = _copy(link, named)
                mine = [b.replace(b'"OURS"', f'"OURS{turn}"'.encode()) for b in bodies]
                pairs.append(
                    (
                        bare,
                        _post(client, mine, 1),
                        _post(client, [b.replace(b'"OURS', b'"FOUR') for b in mine], 2),
                    )
                )
            bare, one, two = np.median(np.array(pairs), axis=0)
            print(
                f"bare COPY {bare:,.0f} rows/s; one connection {one:,.0f} rows/s, ratio "
                f"{one / bare:.2f}; two {two:,.0f} rows/s, ratio {two / bare:.2f} (medians "
                "of 3)"
            )
            took = []
            for k in range(500):
                begun = time.perf_counter()
                client.post(
                    "/api/v1/ingest/simulation",
                    json=RECORD
                    | {
                        "simulation_id": "ONE",
                        "timestamp": f"2025-10-01T00:{k // 60:02d}:{k % 60:02d}Z",
                    },
                )
                took.append(time.perf_counter() - begun)
                time.sleep(max(0.0, 0.01 - took[-1]))
            print(
                f"single records at 100/s: p50 {np.percentile(took, 50) * 1e3:.1f} ms, "
                f"p99 {np.percentile(took, 99) * 1e3:.1f} ms"
            )


def processes(count: int = 60) -> None:
    """Rows/s over HTTP with one and with two API processes on one database, two connections each
    time, and whose processor time a row takes; to reach: 1.7 times as many with two.
    """
    from headway.store import open_database

    with TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        database = open_database(root / "record")
        before = os.environ.get(DATABASE_URL)
        os.environ[DATABASE_URL] = database.url
        try:
            with server(root / "a") as one, server(root / "b") as two:
                pids = [int((root / name / "pid").read_text()) for name in ("a", "b")]
                lock = root / "record" / "postgres" / "postmaster.pid"
                store_pid = int(lock.read_text().splitlines()[0])
                rates, costs = {}, {}
                for turn in range(3):
                    for name, doors in (("one", [one, one]), ("two", [one, two])):
                        bodies = batches(count, f"{name}{turn}")
                        began = _spent_s(pids, store_pid)
                        rates.setdefault(name, []).append(_post_to(doors, bodies))
                        spent = np.array(_spent_s(pids, store_pid)) - np.array(began)
                        costs.setdefault(name, []).append(spent * 1e6 / (500 * count))
        finally:
            if before is None:
                del os.environ[DATABASE_URL]
            else:
                os.environ[DATABASE_URL] = before
            database.close()
    one_rate, two_rate = (float(np.median(rates[name])) for name in ("one", "two"))
    api, store, client = np.median(costs["two"], axis=0)
    cores = os.cpu_count() or 1
    print(
        f"one process {one_rate:,.0f} rows/s, two {two_rate:,.0f} rows/s: "
        f"{two_rate / one_rate:.2f} times as many (medians of 3)"
    )
    most = cores * 1e6 / (api + store + client)
    print(
        f"processor time of a row: API {api:.0f} us, PostgreSQL {store:.0f} us, client "
        f"{client:.0f} us; {cores} processors bound all of it to {most:,.0f} rows/s, one API "
        f"process bounds itself to {1e6 / api:,.0f}"
    )


def _post_to(doors: list[tuple[str, dict[str, str]]], bodies: list[bytes]) -> float:
    """Rows/s over one connection to each."""

    def send(door: tuple[str, dict[str, str]], part: list[bytes]) -> None:
        with httpx.Client(base_url=door[0], headers=door[1], timeout=60) as client:
            for body in part:
                answer = client.post("/api/v1/ingest/batch", content=body)
                assert answer.status_code == 201, answer.text[:200]

    threads = [
        threading.Thread(target=send, args=(door, bodies[k :: len(doors)]))
        for k, door in enumerate(doors)
    ]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 500 * len(bodies) / (time.perf_counter() - begun)


def _spent_s(pids: list[int], server: int) -> tuple[float, float, float]:
    """Processor time of the API processes, of the processes of a PostgreSQL, of this one."""
    store = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(server):
                store += _processor_s(int(path.parent.name))
    return sum(map(_processor_s, pids)), store, sum(os.times()[:2])


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _address(folder: Path) -> str:
    from headway.store import embedded

    return embedded.start(folder)[0]


def _copy(link: Any, batches: list[list[tuple[Any, ...]]]) -> float:
    from headway.store.intake import COLUMNS

    columns = ", ".join(COLUMNS["simulation_record"])
    begun = time.perf_counter()
    for rows in batches:
        with (
            link.cursor() as cursor,
            cursor.copy(f"COPY simulation_record ({columns}) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)
        link.commit()
    return sum(map(len, batches)) / (time.perf_counter() - begun)


def _post(client: httpx.Client, bodies: list[bytes], threads: int) -> float:
    begun = time.perf_counter()

    def send(part: list[bytes]) -> None:
        for body in part:
            answer = client.post("/api/v1/ingest/batch", content=body)
            assert answer.status_code == 201, answer.text[:200]

    workers = [threading.Thread(target=send, args=(bodies[k::threads],)) for k in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    return 500 * len(bodies) / (time.perf_counter() - begun)


def answers(rows: int = 5_000_000) -> None:
    """Analytics routes over 5 million signal-state rows; to reach: p95 below 300 ms cold, 20 ms
    cached.
    """
    import psycopg

    with TemporaryDirectory() as folder:
        root = Path(folder)
        with (
            server(root) as (url, headers),
            httpx.Client(base_url=url, headers=headers, timeout=120) as client,
        ):
            with psycopg.connect(_address(root)) as link:
                link.execute(
                    "INSERT INTO run (key, scenario, controller, seed) SELECT 'k' || g, "
                    "'cologne8', 'planner', g FROM generate_series(1, 10) g"
                )
                link.execute(
                    "INSERT INTO signal_state SELECT 1 + k / 500000, (k % 500000) / 160 * "
                    "1.0, 'J' || k % 8, (k / 8) % 20, 1 + 3 * ((k / 160) % 2) "
                    f"FROM generate_series(0, {rows - 1}) k"
                )
                link.commit()
            for body in batches(100, "A") + batches(100, "B"):
                client.post("/api/v1/ingest/batch", content=body)
            with psycopg.connect(_address(root), autocommit=True) as link:
                link.execute("VACUUM ANALYZE")
            asked = [
                *(f"runs/{r}/splits?junction=J{j}&begin_s={b}&end_s={b + 900}"
                    for r in range(1, 11) for j, b in ((1, 0), (5, 1200))),
                "runs/1/events", "runs", "analytics/simulation/A/summary",
                "analytics/wait-times?simulation_id=A", "analytics/speeds",
                "analytics/environmental-impact",
                "analytics/comparison/baseline-vs-ai?baseline=A&ai=B", "analytics/emergency-report",
                "analytics/time-series/A?bucket_s=600",
                "dashboard/live-metrics", "dashboard/performance-comparison",
                "charts/wait-time-trend", "charts/performance-scatter",
                "runs/2/high-resolution?limit=10000",
            ]  # fmt: skip
            cold, cached = {}, []
            for path in asked:
                for kept in (False, True):
                    begun = time.perf_counter()
                    answer = client.get(f"/api/v1/{path}")
                    took = (time.perf_counter() - begun) * 1e3
                    assert answer.status_code == 200, (path, answer.text[:200])
                    if kept and not path.startswith("runs/1/events") and path != "runs":
                        cached.append(took)
                    elif not kept:
                        cold[path] = took
            worst = sorted(cold.items(), key=lambda x: -x[1])[:3]
            print(
                f"cold p50 {np.percentile(list(cold.values()), 50):.0f} ms, p95 "
                f"{np.percentile(list(cold.values()), 95):.0f} ms; "
                f"cached p95 {np.percentile(cached, 95):.1f} ms"
            )
            print("slowest: " + ", ".join(f"{p} {t:.0f} ms" for p, t in worst))


class Listener(asyncio.Protocol):
    """A WebSocket client that costs as little as can be, so that the server is what is measured:
    (seconds late), first, last and number of messages.
    """

    def __init__(self, path: str, late: list[float]) -> None:
        self.path = path
        self.late = late
        self.waiting = b""
        self.open = False
        self.first = self.last = self.got = 0

    def connection_made(self, transport: Any) -> None:
        words = (
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        )
        self.transport = transport
        transport.write("\r\n".join((f"GET {self.path} HTTP/1.1", *words, "", "")).encode())

    def data_received(self, data: bytes) -> None:
        data = self.waiting + data
        if not self.open:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.waiting = data
                return
            assert data.startswith(b"HTTP/1.1 101"), data[:200]
            self.open, data = True, data[end + 4 :]
        begin = 0
        while len(data) >= begin + 4:
            size, head = data[begin + 1] & 127, 2
            if size == 126:
                size, head = int.from_bytes(data[begin + 2 : begin + 4], "big"), 4
            if len(data) < begin + head + size:
                break
            if data[begin] & 15 == PING:  # whoever does not answer is not there
                load = data[begin + head : begin + head + size]
                self.transport.write(bytes((0x8A, 0x80 | size, 0, 0, 0, 0)) + load)
            figures = FIGURES.search(data, begin + head, begin + head + min(size, 200))
            if figures is not None:  # else a heartbeat, or a ping
                self.late.append(time.time() - float(figures[1]))
                self.last = int(figures[2])
                self.first, self.got = self.first or self.last, self.got + 1
            begin += head + size
        self.waiting = data[begin:]


def _listeners(url: str, count: int, seconds: float, out: Any) -> None:
    import uvloop

    address = urlsplit(url)

    async def all_of_them() -> None:
        loop = asyncio.get_running_loop()
        late = []
        crowd = []
        until = time.time() + seconds
        for _ in range(count):
            made = await loop.create_connection(
                lambda: Listener(f"{address.path or '/'}?{address.query}", late),
                address.hostname,
                address.port,
            )
            crowd.append(made[1])
        gc.collect()
        gc.freeze()
        await asyncio.sleep(until - time.time())
        out.put(("done", (late, [(c.first, c.last, c.got) for c in crowd])))

    uvloop.run(all_of_them())


BARE_SOCKETS = """
import asyncio, json, sys, time
from websockets.asyncio.server import serve, broadcast
async def main():
    clients = set()
    async def handler(link):
        clients.add(link)
        try: await link.wait_closed()
        finally: clients.discard(link)
    async with serve(handler, "127.0.0.1", int(sys.argv[1]), compression=None):
        n = 0
        while True:
            await asyncio.sleep(0.1)
            n += 1
            broadcast(clients, json.dumps({"t": time.time(), "n": n, "load": "x" * 1960}))
asyncio.run(main())
"""


def _audience(url: str, clients: int, seconds: float) -> tuple[float, float, float, int]:
    """(messages/s, p50 s, p99 s, lost) over the last half of the time."""
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    process = context.Process(target=_listeners, args=(url, clients, seconds, out))
    process.start()
    late, numbers = out.get(timeout=seconds + 120)[1]
    process.join()
    tail = np.array(late[len(late) // 2 :]) if late else np.full(1, np.nan)
    lost = sum(last - first + 1 - got for first, last, got in numbers if first >= 0 and got)
    spread = max((last for _, last, _ in numbers), default=0) - min(
        (f for f, _, g in numbers if g), default=0
    )
    return (
        len(late) / max(spread * 0.1, 1e-9),
        float(np.percentile(tail, 50)),
        float(np.percentile(tail, 99)),
        lost,
    )


def broadcast() -> None:
    """2 KB at 10 Hz to WebSocket clients in another process, beside a bare `websockets` broadcast;
    to reach at 1,000: p99 50 ms, none lost; at 3,000: 0.7 of bare.
    """
    with TemporaryDirectory() as folder, server(Path(folder)) as (url, headers):
        token = headers["Authorization"].split()[1]
        ours = f"{url.replace('http', 'ws')}/ws/realtime?token={token}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        bare = subprocess.Popen([sys.executable, "-c", BARE_SOCKETS, str(port)])
        time.sleep(1.0)
        (Path(folder) / "chatter").touch()
        rates = {}
        for clients in (1000, 3000):
            for name, address in (("bare", f"ws://127.0.0.1:{port}"), ("ours", ours)):
                rate, p50, p99, lost = _audience(address, clients, 25.0)
                rates[name, clients] = rate
                print(
                    f"{clients} clients, {name}: {rate:,.0f} messages/s, "
                    f"p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, lost {lost}"
                )
            print(
                f"{clients} clients: ours / bare "
                f"{rates['ours', clients] / rates['bare', clients]:.2f}"
            )
        bare.terminate()


def loads() -> None:
    """The documents' loads on one service: 100 clients that ingest at once, and 1,000 requests by
    10 clients; to reach: no failure, every record stored once.
    """
    with (
        TemporaryDirectory() as folder,
        server(Path(folder)) as (url, headers),
        httpx.Client(base_url=url, headers=headers, timeout=60) as client,
    ):
        for body in batches(4, "ASKED"):
            client.post("/api/v1/ingest/batch", content=body)
        stored = client.get("/system/info").json()["rows_stored"]
        bodies = [batches(1, f"LOAD{k}")[0] for k in range(100)]
        took, failed = _at_once(url, headers, 100, [("POST", "ingest/batch", b) for b in bodies])
        stored = client.get("/system/info").json()["rows_stored"] - stored
        _print_load("100 ingests of 500 records at once", took, failed)
        print(f"{stored:,} of {500 * 100:,} records stored")
        asked = (
            "analytics/wait-times",
            "dashboard/live-metrics",
            "charts/wait-time-trend",
            "analytics/breakdown?by=vehicle_type",
            "analytics/simulation/ASKED/summary",
        )
        calls = [("GET", asked[k % len(asked)], b"") for k in range(1000)]
        took, failed = _at_once(url, headers, 10, calls)
        _print_load("1,000 requests at 10", took, failed)


def _at_once(
    url: str, headers: dict[str, str], clients: int, calls: list[tuple[str, str, bytes]]
) -> tuple[list[float], int]:
    """Make the calls by so many clients, which begin together: (seconds of each, failures)."""
    begin, took, failed = threading.Barrier(clients), list[float](), list[int]()

    def work(mine: list[tuple[str, str, bytes]]) -> None:
        with httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=120) as client:
            begin.wait()
            for method, path, body in mine:
                at = time.perf_counter()
                answer = client.request(method, path, content=body or None)
                took.append(time.perf_counter() - at)
                if answer.status_code >= 400:
                    failed.append(answer.status_code)

    workers = [threading.Thread(target=work, args=(calls[k::clients],)) for k in range(clients)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return took, len(failed)


def _print_load(name: str, took: list[float], failed: int) -> None:
    p50, p95, most = np.percentile(took, (50, 95, 100)) * 1e3
    print(f"{name}: p50 {p50:.0f} ms, p95 {p95:.0f} ms, slowest {most:.0f} ms, {failed} failed")


def simple(count: int = 3000) -> None:
    """Requests/s of /health / a bare FastAPI hello, each on its own uvicorn; to reach: 0.5."""
    with (
        TemporaryDirectory() as folder,
        server(Path(folder)) as (ours, _),
        socket.socket() as probe,
    ):
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        bare = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(Path(folder) / "bare"), str(port), "bare"]
        )
        time.sleep(4.0)
        ratios = []
        with (
            httpx.Client(base_url=ours) as one,
            httpx.Client(base_url=f"http://127.0.0.1:{port}") as other,
        ):
            for _turn in range(5):
                rates = []
                for client in (one, other):
                    begun = time.perf_counter()
                    for _k in range(count // 5):
                        client.get("/health")
                    rates.append(count / 5 / (time.perf_counter() - begun))
                ratios.append(rates[0] / rates[1])
        bare.terminate()
        print(
            f"ratio {np.median(ratios):.2f} (median of 5; ours {rates[0]:,.0f}/s, one connection)"
        )


def undisturbed() -> None:
    """p99 of a street's tick with 1,000 listeners, ingestion and questions on the same service /
    without them; to reach: at most 1.5.
    """
    with TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        words = [
            sys.executable,
            "-m",
            "headway",
            "serve",
            "--data",
            folder,
            "--port",
            str(port),
            "--no-baseline",
            "--speed-factor",
            "20",
            "--per-minute",
            "0",
        ]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        token = process.stdout.readline().strip().split("token=")[1]
        url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {token}"}
        time.sleep(25.0)
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            ratios = [_tick_p99(client)]
            stop = threading.Event()

            def load() -> None:
                bodies = batches(20, "LOAD")
                while not stop.is_set():
                    for body in bodies:
                        client.post("/api/v1/ingest/batch", content=body)
                        client.get("/api/v1/analytics/wait-times?simulation_id=LOAD")
                        time.sleep(0.05)

            worker = threading.Thread(target=load)
            worker.start()
            context = multiprocessing.get_context("spawn")
            out = context.Queue()
            crowd = context.Process(
                target=_listeners,
                args=(f"ws://127.0.0.1:{port}/ws/alerts?token={token}", 1000, 60.0, out),
            )
            crowd.start()
            time.sleep(58.0)
            ratios.append(_tick_p99(client))
            stop.set()
            worker.join()
            crowd.kill()
        process.terminate()
        process.wait(30)
        print(
            f"tick p99 {ratios[0] * 1e3:.2f} ms alone, {ratios[1] * 1e3:.2f} ms with all "
            f"of it, ratio {ratios[1] / ratios[0]:.2f}"
        )


def _tick_p99(client: httpx.Client) -> float:
    for line in client.get("/metrics").text.splitlines():
        if line.startswith("headway_section{") and 'figure="section.advance.p99_s"' in line:
            return float(line.rsplit(" ", 1)[1])
    raise RuntimeError("the service tells no p99 of its ticks")
