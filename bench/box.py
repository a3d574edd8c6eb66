"""A street at the roadside: how soon it ticks whatever the link does, what it writes to disk
meanwhile; and how long a restore of a record takes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

SETTINGS = """
database: {needed_at_start: false}
upkeep: {backup_every_h: 0}
loop: {speed_factor: 1.0}
"""
COMPILES_WITHIN_S = 900.0
LOOK_S = 0.02
WEEK_H = 168
STARTS = 3
ROWS = 5_000_000


@contextmanager
def _served(folder: Path, data: str, url: str, scenario: str) -> Iterator[tuple[int, float]]:
    """`headway serve` in a process of its own: (its number, when it was started)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "street.yaml").write_text(SETTINGS)
    words = ["--config", str(folder / "street.yaml"), "--data", str(folder / data)]
    words += ["--port", str(port), "--scenario", scenario, "--no-baseline"]
    environment = {k: v for k, v in os.environ.items() if k != "HEADWAY_DATABASE_URL"}
    begun_s = time.monotonic()
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "headway", "serve", *words],
            env=environment | ({"HEADWAY_DATABASE_URL": url} if url else {}),
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process.pid, begun_s
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _first_tick(folder: Path, data: str, url: str, scenario: str) -> tuple[float, float]:
    """From the start of the process to the end of the first tick, when the street's own log is
    written: seconds, and seconds of processor time of the process and of those below it.
    """
    log = folder / data / "headway" / "events.jsonl"
    before = log.stat().st_size if log.exists() else 0
    with _served(folder, data, url, scenario) as (pid, begun_s):
        while not log.exists() or log.stat().st_size == before:
            if time.monotonic() - begun_s > COMPILES_WITHIN_S:
                raise SystemExit((folder / "log").read_text()[-2000:])
            time.sleep(LOOK_S)
        return time.monotonic() - begun_s, _processor_s(pid)


def _processor_s(pid: int) -> float:
    """Of a process and all below it, those that have ended included."""
    own, below = 0.0, dict[int, list[int]]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, fields = int(path.parent.name), path.read_text().rpartition(")")[2].split()
            below.setdefault(int(fields[1]), []).append(name)
            if name == pid:
                own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(_processor_s, below.get(pid, [])))


@contextmanager
def _silent() -> Iterator[int]:
    """A port that takes connections, and says nothing."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(1000)
        yield held.getsockname()[1]


@contextmanager
def _closed() -> Iterator[int]:
    """A port that refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def start(scenario: str = "cologne8") -> None:
    """Seconds from the start of `headway serve` to the first tick, functions compiled: with a
    database of its own, with one that refuses, with one that hangs; to reach: 10 s.
    """
    with TemporaryDirectory() as name, _silent() as silent, _closed() as closed:
        folder = Path(name)
        folder.chmod(0o755)
        first_s, _ = _first_tick(folder, "warm", "", scenario)
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        print(f"first start of all, which may compile: {first_s:.1f} s", flush=True)
        address = "postgresql://box:of-the-benchmark@127.0.0.1:{}/headway"
        for what, data, url in (
            ("its own database", "warm", ""),
            ("a new data folder, a database that refuses", "refused{}", address.format(closed)),
            ("a new data folder, a database that hangs", "silent{}", address.format(silent)),
        ):
            took = [_first_tick(folder, data.format(k), url, scenario) for k in range(STARTS)]
            walls = ", ".join(f"{wall_s:.1f}" for wall_s, _ in sorted(took))
            busy = ", ".join(f"{busy_s:.1f}" for _, busy_s in sorted(took))
            print(f"{what}: {walls} s; of processor time {busy} s", flush=True)


def outage(seconds: float = 120.0, scenario: str = "cologne8") -> None:
    """Bytes an hour that a street writes to disk while the database is away, and of seven days."""
    with TemporaryDirectory() as name, _closed() as port:
        folder = Path(name)
        url = f"postgresql://box:of-the-benchmark@127.0.0.1:{port}/headway"
        with _served(folder, "box", url, scenario) as (_, begun_s):
            spool = folder / "box" / "spool.jsonl"
            while not spool.exists():
                if time.monotonic() - begun_s > COMPILES_WITHIN_S:
                    raise SystemExit((folder / "log").read_text()[-2000:])
                time.sleep(LOOK_S)
            time.sleep(30.0)  # the first vehicles are on their way
            before, begun_s = spool.stat().st_size, time.monotonic()
            time.sleep(seconds)
            grown, took_s = spool.stat().st_size - before, time.monotonic() - begun_s
            kinds = Counter[str]()
            for line in spool.read_text().splitlines()[:-1]:
                kinds[json.loads(line)["kind"]] += len(line) + 1
        an_hour = 3600.0 * grown / took_s
        shares = ", ".join(f"{k} {v / kinds.total():.0%}" for k, v in kinds.most_common())
        print(
            f"{scenario}: {an_hour / 1e6:.1f} MB an hour, {WEEK_H * an_hour / 1e9:.2f} GB in seven "
            f"days, over {took_s:.0f} s ({shares})"
        )


def restore(rows: int = ROWS) -> None:
    """Seconds of a backup of 5 million rows and of its restore into an empty database, every table
    counted; to reach: 180 s for the restore.
    """
    from headway.store import open_database
    from headway.store.upkeep import backup, new_key, read_key, row_counts
    from headway.store.upkeep import restore as set_back

    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        new_key(folder / "key")
        key = read_key(folder / "key")
        database = open_database(folder / "data")
        try:
            database.execute(
                "INSERT INTO run (key, scenario, controller, seed) SELECT 'k' || g, 'cologne8', "
                "'planner', g FROM generate_series(1, 10) g"
            )
            with database.unhurried.connection() as link:
                link.execute(
                    "INSERT INTO signal_state SELECT 1 + k / 500000, (k % 500000) / 160 * 1.0, "
                    "'J' || k % 8, (k / 8) % 20, 1 + 3 * ((k / 160) % 2) "
                    f"FROM generate_series(0, {rows - 1}) k"
                )
            before = row_counts(database)
            begun_s = time.monotonic()
            backup(database, folder / "b", key)
            backed_s = time.monotonic()
            with database.unhurried.engine.begin() as held:
                held.exec_driver_sql("TRUNCATE run CASCADE")
            gone = row_counts(database)["signal_state"]
            emptied_s = time.monotonic()
            set_back(database, folder / "b", key)
            ended_s = time.monotonic()
            after = row_counts(database)
        finally:
            database.close()
        counted = ("signal_state", "run")
        print(
            f"backup {backed_s - begun_s:.0f} s, {(folder / 'b').stat().st_size / 1e6:.0f} MB; "
            f"emptied to {gone} rows; restore {ended_s - emptied_s:.0f} s; rows before and after: "
            + ", ".join(f"{t} {before[t]:,} {after[t]:,}" for t in counted)
        )
        if any(before[table] != after[table] for table in counted):
            raise SystemExit("rows are missing")
