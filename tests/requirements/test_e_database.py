"""Rows E2 to E6: analytics, dashboards, health, the database, loads."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import threading
import time

import httpx
import psycopg
import pytest
from tests.ports import free_port
from tests.requirements.documented import RECORD
from tests.waiting import until

STREETS_REPORT_WITHIN_S = 240.0  # with all that is compiled at the first start


def record(name, minute, direction="north", wait=12.5, hour=10, **counts):
    signal = RECORD["signals"][0] | {
        "direction": direction,
        "avg_wait_time": wait,
        "vehicle_counts": counts,
    }
    stamp = f"2025-09-10T{hour:02d}:{minute:02d}:00Z"
    return RECORD | {"simulation_id": name, "timestamp": stamp, "signals": [signal]}


@pytest.mark.row("E2")
def test_e2_analytics_also_by_direction_and_vehicle_type_by_hour_and_day(product):
    """Summary, waits, speeds, savings, comparison, emergencies and series of what was ingested; and
    waits, throughput and counts by direction and vehicle type, by hour and day.
    """
    sent = [record("E2_A", m, wait=10.0 + m, car=4, bus=1) for m in range(3)]
    sent += [record("E2_B", m, "east", wait=8.0 + m, hour=10 + m, car=2) for m in range(3)]
    with product.http() as client:
        assert client.post("/api/v1/ingest/batch", json=sent).status_code == 201

        def ask(path, **query):
            answer = client.get(f"/api/v1/analytics/{path}", params=query)
            assert answer.status_code == 200, answer.text
            return answer.json()

        assert ask("simulation/E2_A/summary")["records"] == 3
        for path in ("wait-times", "speeds"):
            assert ask(path, simulation_id="E2_A")[0]["n"] == 3
        assert ask("environmental-impact", simulation_id="E2_A")["fuel_saved_l"] == pytest.approx(
            3.6
        )
        assert ask("comparison/baseline-vs-ai", baseline="E2_A", ai="E2_B")["wait_s"]["n"] == 1
        assert ask("emergency-report", simulation_id="E2_A")["n"] == 3
        assert ask("time-series/E2_A", bucket_s=60)["n"] == 3
        by = ask("breakdown", simulation_id="E2_A", by="both", bucket="hour")
        assert [
            (b["at"], b["direction"], b["vehicle_type"], b["n"], b["vehicles"], b["mean_wait_s"])
            for b in by
        ] == [
            ("2025-09-10T10:00:00Z", "north", "bus", 3, 3, 11.0),
            ("2025-09-10T10:00:00Z", "north", "car", 3, 12, 11.0),
        ]
        hours = ask("breakdown", simulation_id="E2_B", by="direction", bucket="hour")
        assert [(b["direction"], b["mean_wait_s"], b["crossed"]) for b in hours] == [
            ("east", 8.0, 35),
            ("east", 9.0, 35),
            ("east", 10.0, 35),
        ]
        (day,) = ask("breakdown", simulation_id="E2_B", by="vehicle_type", bucket="day")
        assert (day["at"], day["vehicle_type"], day["vehicles"]) == (
            "2025-09-10T00:00:00Z",
            "car",
            6,
        )
        assert day["throughput"] == pytest.approx(RECORD["metrics"]["throughput"])


@pytest.mark.row("E3")
def test_e3_dashboards_and_charts_of_records_and_of_the_streets_that_run(product):
    """The two dashboards and the two charts answer for ingested simulations and for the product's
    own streets, which need no ingestion.
    """
    with product.http() as client:
        client.post("/api/v1/ingest/batch", json=[record("E3", m, car=1) for m in range(2)])

        def ask(path, **query):
            answer = client.get(f"/api/v1/{path}", params=query)
            assert answer.status_code == 200, answer.text
            return answer.json()

        def has_both():
            names = {s["simulation_id"] for s in ask("dashboard/live-metrics")["simulations"]}
            return {"street:headway", "street:baseline"} <= names

        until(has_both, STREETS_REPORT_WITHIN_S)
        found = ask("dashboard/live-metrics")
        mine = next(j for j in found["junctions"] if j["simulation_id"] == "street:headway")
        assert (
            mine["intersection_id"]
            == client.get("/api/v1/engine/state").json()[0]["junctions"][0]["id"]
        )

        def compared():
            rows = ask("dashboard/performance-comparison", block_s=30)
            row = next(r for r in rows if r["simulation_id"] == "street:headway")
            return row["comparison"]

        until(compared, STREETS_REPORT_WITHIN_S)
        found = compared()
        assert (found["baseline"], found["wait_s"]["n"] >= 1) == ("street:baseline", True)
        for name in ("E3", "street:headway", f"run:{found['runs'][1]['run']}"):
            assert ask("charts/wait-time-trend", simulation_id=name)["n"] >= 2
            points = ask("charts/performance-scatter", simulation_id=name)
            assert {"throughput", "wait_s", "speed_kmh"} <= set(points[0])


@pytest.mark.row("E4")
def test_e4_health_says_what_it_looked_at_and_info_what_the_database_is(product, figures):
    """`/health` answers at once, with what it saw when; `/system/info` has connections, pool, table
    sizes and versions; an administrator can clear the cache.
    """
    with product.http() as client:
        took = []
        for _ in range(20):
            begun = time.perf_counter()
            health = client.get("/health").json()
            took.append(time.perf_counter() - begun)
        looked_at = {f["part"]: f["ok"] for f in health["looked_at"]}
        assert looked_at["database"]
        assert {"spool", "streets", "cameras", "disk"} <= set(looked_at)
        info = client.get("/system/info").json()
        database = info["database"]
        assert database["pool"]["open"] <= database["pool"]["most"] == 50
        assert 1 <= database["connections"]["here"] <= database["connections"]["most"]
        assert {"simulation_record", "observation", "audit"} <= {
            t["table"] for t in database["tables"]
        }
        assert info["versions"]["sqlalchemy"]
        assert client.post("/api/v1/admin/clear-cache").json() == {"done": True}
    figures.add("GET /health, median", round(sorted(took)[10] * 1e3, 1), "ms", asked="< 50 ms")


@contextlib.contextmanager
def external_postgres(folder):
    """A PostgreSQL of its own, on TCP, with passwords (SCRAM); the address of a database whose
    owner is a plain user that may make databases.
    """
    from headway.store.embedded import package, programs

    found = shutil.which("initdb")
    bundled = package().__file__.rsplit("/", 1)[0] + "/pginstall/bin"
    tools = found.rsplit("/", 1)[0] if found else str(programs(type(folder)(bundled)))
    who = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    place, port = folder / "external", free_port()
    place.mkdir()
    (place / "password").write_text("super-secret\n")
    for path in (place, place / "password"):
        os.chown(path, who.pw_uid, who.pw_gid)
    as_user = {"user": who.pw_uid, "group": who.pw_gid} if os.geteuid() == 0 else {}
    subprocess.run(
        [
            f"{tools}/initdb",
            "-D",
            place / "data",
            "-U",
            "super",
            "-A",
            "scram-sha-256",
            "--pwfile",
            place / "password",
            "-E",
            "UTF8",
            "--no-sync",
        ],
        check=True,
        capture_output=True,
        cwd=place,
        **as_user,
    )
    server = subprocess.Popen(
        [f"{tools}/postgres", "-D", place / "data", "-p", str(port), "-h", "127.0.0.1", "-k", ""],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=place,
        **as_user,
    )
    at = f"127.0.0.1:{port}"

    def answers():
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(f"postgresql://super:super-secret@{at}/postgres").close()
            return True
        return False

    try:
        until(answers, 60.0)
        with psycopg.connect(
            f"postgresql://super:super-secret@{at}/postgres", autocommit=True
        ) as link:
            link.execute("CREATE ROLE headway LOGIN CREATEDB PASSWORD 'p@ss:word'")
            link.execute("CREATE DATABASE record OWNER headway")
        yield f"postgresql://headway:p%40ss%3Aword@{at}/record"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.row("E5")
def test_e5_an_external_postgresql_with_gin_over_the_counts_and_a_pool_of_20_and_30(
    serve_on, headway, state, figures
):
    """`HEADWAY_DATABASE_URL` names a server of the user's own, with a password, over TCP: the
    schema is made, records are taken, counted by vehicle type with the GIN index, backed up, and
    are there after a restart.
    """
    with external_postgres(state) as url:
        with (
            serve_on(url, "--scenario", "", "--per-minute", "0") as product,
            product.http() as client,
        ):
            many = [
                record("E5", m, hour=h, car=1, rickshaw=int(m == 7 and h == 3))
                | {"intersection_id": f"INT_{k}"}
                for k in range(3)
                for h in range(24)
                for m in range(60)
            ]
            assert client.post("/api/v1/ingest/batch", json=many).json()["stored"] == len(many)
            ask = {
                "simulation_id": "E5",
                "by": "vehicle_type",
                "vehicle_type": "rickshaw",
                "bucket": "day",
            }
            (found,) = client.get("/api/v1/analytics/breakdown", params=ask).json()
            assert (found["n"], found["vehicles"]) == (3, 3)
            database = client.get("/system/info").json()["database"]
            assert (database["embedded"], database["pool"]["size"], database["pool"]["most"]) == (
                False,
                20,
                50,
            )
            assert client.post("/api/v1/admin/upkeep/backup").status_code == 200
            drilled = client.post("/api/v1/admin/upkeep/drill")
            assert drilled.status_code == 200, drilled.text
        from headway.analytics.breakdown import TYPES

        with psycopg.connect(url, autocommit=True) as link:
            link.execute("VACUUM ANALYZE simulation_record")
            plan = link.execute(
                f"EXPLAIN SELECT * FROM simulation_record WHERE {TYPES} @> '[\"rickshaw\"]'"
            ).fetchall()
        assert any("Bitmap Index Scan" in line for (line,) in plan), plan
        wrong = headway("db", "retain", "30", HEADWAY_DATABASE_URL=url.replace("p%40", "x"))
        assert wrong.returncode == 1
        assert "cannot be reached" in wrong.stderr
        assert "word" not in wrong.stderr.replace("password", "")
        with serve_on(url, "--scenario", "") as product, product.http() as client:
            found = client.get("/api/v1/analytics/simulation/E5/summary").json()
            assert found["records"] == len(many)
    pool = f"{database['pool']['size']} + {database['pool']['most'] - database['pool']['size']}"
    figures.add("connections kept + under load", pool, asked="pool 20 + 30")


@pytest.mark.row("E6")
def test_e6_log_lines_table_sizes_and_the_loads_of_the_documents(product, figures):
    """Each answer has its process time; each ingestion a line in the log; 100 clients that ingest
    at once and 1,000 requests by 10 clients are all answered.
    """
    with product.http() as client:
        answer = client.post("/api/v1/ingest/simulation", json=record("E6_LOG", 1, car=1))
        assert float(answer.headers["x-process-time"]) > 0.0

        def logged(name, records):
            return any(
                "processing simulation data" in line
                and name in line
                and f"records={records}" in line
                for line in product.lines
            )

        until(lambda: logged("E6_LOG", 1))
        sizes = client.get("/system/info").json()["database"]["tables"]
        assert all(t["bytes"] >= t["index_bytes"] for t in sizes)
        ingests = [
            (
                "POST",
                "ingest/batch",
                [record(f"E6_{k}", m, hour=h, car=1) for h in (1, 2) for m in range(25)],
            )
            for k in range(100)
        ]
        asks = [("GET", "analytics/wait-times?simulation_id=E6_1", None)] * 1000
        for name, clients, calls in (
            ("100 concurrent ingests of 50 records", 100, ingests),
            ("1,000 requests at 10", 10, asks),
        ):
            took, statuses = at_once(product, clients, calls)
            assert set(statuses) <= {200, 201}
            slow = round(sorted(took)[int(len(took) * 0.95)] * 1e3)
            figures.add(f"{name}: p95", slow, "ms")
        records = client.get("/api/v1/analytics/simulation/E6_99/summary").json()["records"]
        assert records == 50
        until(lambda: logged("E6_99", 50))


def at_once(product, clients, calls):
    """Seconds and status of each call, made by so many clients that begin together."""
    begin, took, statuses = threading.Barrier(clients), [], []

    def work(mine):
        headers = {"Authorization": f"Bearer {product.token}"}
        with httpx.Client(base_url=f"{product.url}/api/v1", headers=headers, timeout=60) as client:
            begin.wait()
            for method, path, body in mine:
                at = time.perf_counter()
                answer = client.request(method, path, json=body)
                took.append(time.perf_counter() - at)
                statuses.append(answer.status_code)

    workers = [threading.Thread(target=work, args=(calls[k::clients],)) for k in range(clients)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(statuses) == len(calls)
    return took, statuses
