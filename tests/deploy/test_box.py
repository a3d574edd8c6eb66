"""A street at the roadside, for real: `headway serve`, a PostgreSQL of somebody else, and a link in
between that is cut, that hangs, and that is cut again while what waited is delivered. Counted by
hand: what lay on the box's disk against what the database has.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import httpx
import pytest
import sqlalchemy as sa

from headway.store import open_database
from tests.links import Link
from tests.ports import free_port

SETTINGS = """
database: {needed_at_start: false}
upkeep: {backup_every_h: 0}
loop: {speed_factor: 5.0}
recovery: {checkpoint_s: 5}
street: {name: box-7}
"""
KEYS = {  # what tells rows of a run from each other
    "event": ("number",),
    "signal_state": ("junction", "signal_group", "at_s"),
    "detector_state": ("junction", "signal_group", "at_s"),
    "observation": ("junction", "at_s"),
    "emission": ("at_s",),
}
PLACES = {  # of the key's columns in a row of the spool
    "event": (1,),
    "signal_state": (2, 3, 1),
    "detector_state": (2, 3, 1),
    "observation": (2, 1),
    "emission": (1,),
}


@pytest.fixture
def centre(new_record, tmp_path):
    """(its Unix socket, name of the database, the database)."""
    address = sa.make_url(new_record())
    database = open_database(tmp_path / "unused", address.render_as_string(hide_password=False))
    yield f"{address.query['host']}/.s.PGSQL.5432", address.database, database
    database.close()


class Box:
    """One data folder, on which one process after the other is started."""

    def __init__(self, folder, link, name, scenario):
        self.folder, self.data = folder, folder / "box"
        self.log = self.data / "box-7" / "events.jsonl"
        (folder / "street.yaml").write_text(SETTINGS)
        url = f"postgresql://postgres@127.0.0.1:{link.port}/{name}"
        self.environment = os.environ | {"HEADWAY_DATABASE_URL": url}
        self.words = ["--config", folder / "street.yaml", "--data", self.data, "--no-baseline"]
        self.words += ["--scenario", scenario]
        self.process = None

    @contextlib.contextmanager
    def running(self, end):
        self.port = free_port()
        program = [sys.executable, "-m", "headway", "serve", "--port", str(self.port)]
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [*program, *self.words], env=self.environment, stdout=log, stderr=log
            )
        try:
            yield self.process
            self.process.send_signal(end)
            self.process.wait(60.0)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(20.0)

    def told(self):
        """Events of the street's own log, in which it writes before it tells anybody."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.strip()]

    def health(self):
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=2.0).json()
        return {}

    def on_disk(self):
        """Keys of the rows that wait, by table and run; each of them once."""
        found = Counter()
        for path in self.data.glob("spool*.jsonl"):
            for line in path.read_text().splitlines():
                batch = json.loads(line)
                for row in batch["rows"] if batch["kind"] in KEYS else []:
                    key = tuple(row[place] for place in PLACES[batch["kind"]])
                    found[(batch["kind"], row[0], *key)] += 1
        return found

    def runs(self):
        """Number of this machine -> key of the run."""
        path = self.data / "runs.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return {one["number"]: one["run"]["key"] for one in lines}


def until(holds, within_s, why):
    end_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end_s, why
        time.sleep(0.1)


def delivered(database, runs):
    """What the database has of these runs, as `Box.on_disk` names it."""
    found = Counter()
    for number, key in runs.items():
        rows = database.rows("SELECT id, street FROM run WHERE key = :key", key=key)
        assert len(rows) == 1, f"run {key} is there {len(rows)} times"
        assert rows[0]["street"] == "box-7"
        for table, columns in KEYS.items():
            query = f"SELECT {', '.join(columns)} FROM {table} WHERE run_id = :run"
            for row in database.rows(query, run=rows[0]["id"]):
                found[(table, number, *row.values())] += 1
    return found


@pytest.mark.slow
def test_a_street_goes_on_alone_and_delivers_each_row_once_when_the_link_is_back(
    centre, tmp_path, tiny
):
    socket, name, database = centre
    with Link(socket) as link:
        box = Box(tmp_path, link, name, tiny)

        link.cut()  # a first start, after a power cut, say
        with box.running(signal.SIGTERM):
            until(lambda: len(box.told()) > 2, 300.0, "no tick without a database")
            assert box.health()["status"] in ("starting", "degraded")
            runs_of = lambda: [e for e in box.told() if e["kind"] == "engine.started"]  # noqa: E731
            until(lambda: len(runs_of()) >= 2, 120.0, "no second run without a database")
        first_told = box.told()
        first_runs = set(box.runs())
        assert len(first_runs) >= 2
        events = [key for key in box.on_disk() if key[0] == "event"]
        assert len(events) == len(first_told), "the spool has each event of the street's own log"

        link.mend(hangs=True)
        with box.running(signal.SIGKILL):
            until(lambda: len(box.told()) > len(first_told) + 2, 60.0, "no tick: the link hangs")
            until(lambda: set(box.runs()) > first_runs, 60.0, "no run of its own")
            waits = sum(box.on_disk().values())
            until(lambda: sum(box.on_disk().values()) > waits, 60.0, "nothing reaches the disk")
        lay, runs = box.on_disk(), box.runs()
        assert set(lay.values()) == {1}
        assert len(lay) > 50

        link.hangs, link.passed, link.cut_after = False, 0, 3_000
        with box.running(signal.SIGTERM):
            until(lambda: link.cut_after is None, 60.0, "nothing was delivered")
            time.sleep(1.0)
            link.mend()
            until(lambda: box.health().get("status") == "ok", 120.0, "not all was delivered")
        assert not box.on_disk()
        assert not (box.data / "refused.jsonl").exists()
        found = delivered(database, runs)
        assert found == lay, f"missing {lay - found}, too many {found - lay}"
        told = "SELECT kind, at_s FROM event e JOIN run r ON r.id = e.run_id WHERE r.key = ANY(:of)"
        rows = database.rows(told, of=[runs[number] for number in first_runs])
        assert Counter((row["kind"], row["at_s"]) for row in rows) == Counter(
            (one["kind"], one["at_s"]) for one in first_told
        )
