"""The application around its routes: health, metrics, keys, the audit trail, pages, origins;
what starts and ends with it.
"""

from __future__ import annotations

import json
import math
import platform
import re
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
import sqlalchemy as sa
import uvicorn

from headway import __version__, web
from headway.api import app as room
from headway.api import health, observations
from headway.api.cache import Cache
from headway.api.scopes import Bounds
from headway.api.security import Role
from headway.api.services import ApiSettings
from headway.learning.jobs import Jobs
from headway.sensing import MISSING
from headway.store.database import MIGRATIONS
from headway.store.spool import Backlog
from headway.telemetry import metrics
from headway.telemetry.bursts import Burst
from tests.api.service import record, serving, swapped
from tests.api.streets import standing
from tests.waiting import until


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_record):
    with serving(
        tmp_path_factory.mktemp("system"),
        lambda tell, intake: standing("headway", "baseline"),
        new_record(),
    ) as found:
        yield found


@pytest.fixture(scope="module")
def admin(running):
    with running.client("admin") as found:
        yield found


def test_health_states_the_version(running):
    answer = httpx.get(f"{running.url}/health")
    found = answer.json()
    assert (answer.status_code, found["status"], found["version"]) == (200, "ok", __version__)
    assert {"x-request-id", "x-process-time", "x-content-type-options"} <= set(answer.headers)


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
def test_who_only_asks_for_the_status_has_it_without_a_body(running, path):
    answer = httpx.head(f"{running.url}{path}")
    assert (answer.status_code, answer.content) == (200, b"")


def test_ready_while_the_database_answers_and_the_spool_is_empty(running, monkeypatch):
    def ready():
        answer = httpx.get(f"{running.url}/health/ready")
        found = answer.json()
        assert found.pop("starting") == []
        return answer.status_code, found

    state = running.app.state.services
    assert ready() == (
        200,
        {"ready": True, "database": True, "disk": True, "streets": 2, "spool": 0},
    )
    state.street_service.streets["baseline"].finished = True
    assert ready() == (
        200,
        {"ready": True, "database": True, "disk": True, "streets": 1, "spool": 0},
    )
    state.street_service.streets["baseline"].finished = False
    with monkeypatch.context() as patch:
        patch.setattr(state.intake.spool, "waiting", 3)
        patch.setattr(state.intake, "catch_up", lambda: False)
        assert ready() == (
            503,
            {"ready": False, "database": True, "disk": True, "streets": 2, "spool": 3},
        )
    with monkeypatch.context() as patch, swapped(state, "street_service", None):
        patch.setattr(state.database, "alive", lambda: False)
        assert ready() == (
            503,
            {"ready": False, "database": False, "disk": True, "streets": 0, "spool": 0},
        )


def test_it_is_not_ready_while_the_data_folder_takes_nothing(running):
    """Neither stops nor keys of repeated orders would last, nor rows through an outage."""
    state = running.app.state.services
    in_the_way = state.folder / health.TRIED
    in_the_way.mkdir()
    try:
        state.lookout.look()
        answer = httpx.get(f"{running.url}/health/ready")
        found = answer.json()
        assert (answer.status_code, found["ready"], found["disk"]) == (503, False, False)
        assert found["database"]
        parts = httpx.get(f"{running.url}/health").json()["looked_at"]
        assert {
            "ok": False, "found": "the data folder takes nothing: Is a directory",
        }.items() <= next(p for p in parts if p["part"] == "disk").items()  # fmt: skip
    finally:
        in_the_way.rmdir()
    in_the_way.symlink_to("/dev/full")
    state.lookout.look()
    assert state.lookout.newest.findings[-1].found == (
        "the data folder takes nothing: No space left on device"
    )
    state.lookout.look()
    assert httpx.get(f"{running.url}/health/ready").status_code == 200
    assert not in_the_way.exists()


def test_metrics_are_in_prometheus_form(running, admin, monkeypatch):
    monkeypatch.setattr(running.app.state.services.intake.spool, "waiting", 0)
    admin.post("/api/v1/ingest/simulation", json=record("METRICS"))
    monkeypatch.setattr(running.app.state.services.intake, "catch_up", lambda: False)
    running.app.state.services.intake.spool.waiting = 4
    answer = httpx.get(f"{running.url}/metrics")
    running.app.state.services.intake.spool.waiting = 0
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "headway_spool_batches 4.0" in answer.text.splitlines()
    assert (
        f"headway_rows_stored {running.app.state.services.intake.stored:.1f}"
        in answer.text.splitlines()
    )
    assert running.app.state.services.intake.stored >= 1


def test_metrics_tell_what_of_a_street_elsewhere_waits_on_its_disk(running, monkeypatch):
    services = running.app.state.services
    street = services.street_service.streets["baseline"]

    def told(backlog):
        monkeypatch.setattr(street, "backlog", backlog)
        monkeypatch.setattr(services, "scraped", metrics.Scraped(0.0))
        lines = httpx.get(f"{running.url}/metrics").text.splitlines()
        return [line.split(" ") for line in lines if line.startswith("headway_street_spool_")]

    of = '{street="baseline"}'
    names = [
        f"headway_street_spool_{x}{of}" for x in ("batches", "bytes", "since_timestamp_seconds")
    ]
    assert told(Backlog(3, 4096, 1.7e9)) == [
        [n, v] for n, v in zip(names, ("3.0", "4096.0", "1.7e+09"), strict=True)
    ]
    assert told(Backlog()) == [[n, v] for n, v in zip(names, ("0.0", "0.0", "NaN"), strict=True)]


def test_metrics_tell_of_notifications_also_without_cameras(tmp_path, new_record, monkeypatch):
    with serving(tmp_path, url=new_record()) as running:
        services = running.app.state.services
        assert services.camera_service is None
        monkeypatch.setattr(type(services.notifier), "failed", 3)
        lines = httpx.get(f"{running.url}/metrics").text.splitlines()
        assert 'headway_notifications{what="failed"} 3.0' in lines


def test_system_information(running, monkeypatch):
    state = running.app.state.services
    with running.client("viewer") as viewer:
        found = viewer.get("/system/info").json()
        stored, of_database = state.intake.stored, found.pop("database")
        versions, up_s = found.pop("versions"), found.pop("up_s")
        assert found == {
            "version": __version__, "python": platform.python_version(),
            "streets": ["headway", "baseline"], "streams": state.hub.statistics(),
            "rows_stored": stored, "spool": 0, "embedded_database": False,
            "parts": {
                "database": "running", "street headway": "running", "street baseline": "running",
                "cameras": "off", "notifications": "off", "settings file": "off",
            },
        }  # fmt: skip
        assert (versions["uvicorn"], versions["sqlalchemy"]) == (
            uvicorn.__version__,
            sa.__version__,
        )
        assert up_s > 0
        newest = max(path.name for path in (MIGRATIONS / "versions").glob("0*.py"))
        assert newest.startswith(of_database["schema"])
        assert re.match(r"\d+\.\d+", of_database["version"])
        pool = of_database["pool"]
        assert (pool["size"], pool["most"], pool["in_use"] + pool["idle"]) == (20, 50, pool["open"])
        connections = of_database["connections"]
        assert 1 <= connections["active"] <= connections["here"] <= connections["most"] == 100
        tables = {t["table"]: t for t in of_database["tables"]}
        assert {"simulation_record", "observation", "audit", "upkeep_run"} <= set(tables)
        assert tables["simulation_record"]["partitions"] >= 1
        for table in of_database["tables"]:
            assert table["bytes"] >= table["index_bytes"] >= 0
            assert table["table"] != "simulation_record_other"  # a part of simulation_record
        monkeypatch.setattr(state.database, "embedded", object())
        with swapped(state, "street_service", None):
            found = viewer.get("/system/info").json()
        assert (found["streets"], found["embedded_database"]) == ([], True)


def test_info_while_the_database_is_away(running, monkeypatch):
    state = running.app.state.services

    def away(query, **values):
        raise sa.exc.OperationalError("x", {}, Exception("secret address"))

    with running.client("viewer") as viewer:
        monkeypatch.setattr(state.database, "rows", away)
        answer = viewer.get("/system/info")
        assert (answer.status_code, answer.json()["database"]) == (
            200,
            {"away": "OperationalError"},
        )


def degraded(*parts):
    return [metrics.registry.get_sample_value("headway_degraded", {"part": part}) for part in parts]


def test_jobs_that_wait_are_a_metric(running, monkeypatch):
    state = running.app.state.services

    def count(state):
        return metrics.registry.get_sample_value("headway_jobs", {"state": state})

    number = Jobs(state.database).enqueue(
        "train", "elsewhere", {"scenario": "cologne1", "name": "own"}, "ann"
    )
    state.lookout.look()
    assert (count("waiting"), count("running"), count("silent")) == (1.0, 0.0, 0.0)
    state.database.execute("DELETE FROM ml_job WHERE id = :id", id=number)
    state.lookout.look()
    assert count("waiting") == 0.0
    fault = sa.exc.OperationalError("", {}, Exception("away"))
    monkeypatch.setattr(Jobs, "backlog", lambda self: (_ for _ in ()).throw(fault))
    state.lookout.look()
    assert math.isnan(count("waiting"))


def test_health_says_what_was_looked_at_when_and_what_is_not_well(running, admin, monkeypatch):
    state = running.app.state.services

    def seen():
        answer = httpx.get(f"{running.url}/health")
        found = answer.json()
        assert answer.status_code == 200  # the process is alive, whatever else is not
        return found["status"], {f["part"]: (f["ok"], f["found"]) for f in found["looked_at"]}

    state.lookout.look()
    status, parts = seen()
    assert status == "ok"
    assert list(parts) == [
        "database",
        "spool",
        "record",
        "threads",
        "streets",
        "cameras",
        "shared state",
        "disk",
    ]
    assert parts["database"] == (True, "answers")
    assert parts["streets"] == (True, "2 of 2 run, 0 given up")
    assert parts["shared state"] == (True, "none is set: this process works alone")
    with monkeypatch.context() as patch:
        patch.setattr(state.database, "alive", lambda: False)
        patch.setattr(state.intake.spool, "waiting", 3)
        patch.setattr(state.street_service.streets["baseline"], "fault", "why")
        patch.setattr(health, "LEAST_FREE_BYTES", 1 << 60)
        state.lookout.look()
        status, parts = seen()
        assert (status, [part for part in parts if parts[part][0]]) == (
            "degraded",
            ["record", "threads", "cameras", "shared state"],
        )
        assert parts["database"] == (False, "cannot be reached")
        assert parts["streets"] == (False, "2 of 2 run, 1 given up")
        patch.setattr(state.database, "alive", lambda: 1 / 0)
        state.lookout.look()
        assert seen()[1]["database"] == (False, "could not be looked at (ZeroDivisionError)")
    state.lookout.look()
    assert seen()[0] == "ok"
    with monkeypatch.context() as patch:
        patch.setattr(state.intake, "refusals", Burst())
        patch.setattr(state.intake, "losses", Burst())
        state.intake.refusals.add(2)
        metrics.thread_failed_at.labels("of a test").set(time.time())
        state.lookout.look()
        status, parts = seen()
        assert status == "degraded"
        assert parts["record"] == (False, "since the start 2 rows refused, 0 lost")
        assert parts["threads"] == (False, "failed lately, and started anew: of a test")
        assert degraded("refused_rows", "lost_rows") == [1, 0]
        metrics.thread_failed_at.remove("of a test")
        patch.setattr(state.intake, "refusals", Burst())
        state.intake.losses.add()
        state.lookout.look()
        assert (seen()[0], degraded("refused_rows", "lost_rows")) == ("degraded", [0, 1])
    state.lookout.look()
    assert (seen()[0], degraded("refused_rows", "lost_rows")) == ("ok", [0, 0])
    street = state.street_service.streets["headway"]
    with monkeypatch.context() as patch:
        patch.setattr(street, "snapshot", replace(street.snapshot, trouble="3 messages lost"))
        state.lookout.look()
        status, parts = seen()
        found = "2 of 2 run, 0 given up, 1 cannot write or deliver events"
        assert (status, parts["streets"]) == ("degraded", (False, found))
    with monkeypatch.context() as patch:  # a process of its own, that is not heard, or cannot write
        remote = SimpleNamespace(away="its process has ended", is_changing=True)
        patch.setattr(street, "remote", remote)
        state.lookout.look()
        assert seen()[0] == "ok", "it ended in order, and the next one is expected"
        remote.is_changing = False
        patch.setattr(state.street_service.streets["baseline"], "trouble", "the disk is full")
        state.lookout.look()
        status, parts = seen()
        found = "2 of 2 run, 0 given up, 1 away, 1 cannot write or deliver events"
        assert (status, parts["streets"]) == ("degraded", (False, found))
        states = {s["street"]: s for s in admin.get("/api/v1/engine/state").json()}
        told = (states["headway"]["status"], states["headway"]["fault"])
        assert told == ("away", "its process has ended")
        assert states["baseline"]["trouble"] == "the disk is full"
    with monkeypatch.context() as patch:  # nobody has looked for a while: something hangs
        patch.setattr(health, "STALE_AFTER_S", -1.0)
        assert seen()[0] == "degraded"


def test_a_key_is_made_used_and_revoked(running, admin):
    answer = admin.post("/api/v1/admin/keys", json={"name": "loader.1-a_B", "role": "engineer"})
    assert (answer.status_code, list(answer.json())) == (201, ["key"])
    key = answer.json()["key"]
    number = key.split("_")[1]
    assert (
        httpx.post(f"{running.url}/streams", headers={"X-API-Key": key}).status_code == 422
    )  # an engineer may, but says nothing
    assert (
        httpx.post(
            f"{running.url}/api/v1/admin/clear-cache", headers={"X-API-Key": key}
        ).status_code
        == 403
    )
    answer = admin.delete(f"/api/v1/admin/keys/{number}")
    assert (answer.status_code, answer.json()) == (200, {"done": True})
    answer = admin.delete(f"/api/v1/admin/keys/{number}")
    assert (answer.status_code, answer.json()["detail"]) == (404, f"no key {number!r} is in force")
    assert httpx.post(f"{running.url}/streams", headers={"X-API-Key": key}).status_code == 401


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "", "role": "viewer"}, "name"), ({"name": "x" * 65, "role": "viewer"}, "name"),
        ({"name": "a b", "role": "viewer"}, "name"),
        ({"name": 7, "role": "viewer"}, "name"), ({"name": "x", "role": "god"}, "role"),
        ({"name": "x", "role": "VIEWER"}, "role"),
        ({"name": "x"}, "role"), ({"name": "x", "role": "viewer", "more": 1}, "more"),
    ],
)  # fmt: skip
def test_an_invalid_key_request_is_refused(admin, body, pointer):
    answer = admin.post("/api/v1/admin/keys", json=body)
    assert (answer.status_code, [f["pointer"] for f in answer.json()["faults"]]) == (
        422,
        [f"/body/{pointer}"],
    )


def test_all_four_roles_may_have_a_key(running, admin):
    for role in ("viewer", "operator", "engineer", "admin"):
        key = admin.post("/api/v1/admin/keys", json={"name": "x" * 64, "role": role}).json()["key"]
        assert running.app.state.services.keys.read(key).role.name.lower() == role


def test_all_records_of_a_simulation_are_erased(admin):
    rows = [record("GONE", k) for k in range(3)]
    admin.post("/api/v1/ingest/batch", json=[*rows, record("STAYS")])
    assert admin.delete("/api/v1/admin/simulations/GONE").json() == {"rows": 3}
    answer = admin.delete("/api/v1/admin/simulations/GONE")
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "there is no simulation 'GONE' in the database",
    )
    assert admin.get("/api/v1/analytics/simulation/STAYS/summary").json()["records"] == 1


def test_records_that_wait_on_disk_are_erased_too_and_nothing_is_while_they_cannot_be(
    admin, running, monkeypatch
):
    intake = running.app.state.services.intake
    row = ("WAITS", "2025-09-10T00:00:00Z", "J", "[]", 1, 1.0, 1.0, 1.0, 1.0, 1.0, 0, False)
    intake.spool.put("simulation_record", [row])
    with monkeypatch.context() as patch:
        patch.setattr(intake, "catch_up", lambda: False)
        answer = admin.delete("/api/v1/admin/simulations/WAITS")
        of_device = admin.delete("/api/v1/violations", params={"device": "c"})
        assert (of_device.status_code, of_device.headers["Retry-After"]) == (503, "30")
        assert (answer.status_code, "wait on disk" in answer.json()["detail"]) == (503, True)
    assert admin.delete("/api/v1/admin/simulations/WAITS").json() == {"rows": 1}
    assert intake.spool.waiting == 0


def test_rows_that_were_put_aside_are_erased_too(running, admin):
    def erased(path, **query):
        answer = admin.delete(f"/api/v1/{path}", params=query)
        return answer.json().get("rows", answer.status_code)

    intake, why = running.app.state.services.intake, ValueError("no")
    intake.put_aside("simulation_record", [["ASIDE", "t"], ["STAYS", "t"]], why)
    intake.put_aside("violation", [["v", "2026-01-01T00:00:00Z", "aside"]], why)
    intake.put_aside("violation_picture", [["v", 0, 0.5, "\\x00"]], why)
    assert [erased("admin/simulations/ASIDE") for _ in range(2)] == [1, 404]
    assert [erased("violations", device="aside") for _ in range(2)] == [2, 404]
    text = intake.refused.path.read_text()
    assert ("STAYS" in text, "ASIDE" in text, "violation" in text) == (True, False, False)


def audited(running, call):
    """What `call` adds to the audit trail."""
    database = running.app.state.services.database
    before = database.rows("SELECT coalesce(max(number), 0) AS n FROM audit")[0]["n"]
    call()
    return database.rows(
        "SELECT who, role, what, status, data FROM audit WHERE number > :n ORDER BY number",
        n=before,
    )


def test_only_changing_requests_are_in_the_audit_trail(running, admin):
    entry = {"who": "a-admin", "role": "admin", "data": {}}
    assert audited(running, lambda: admin.post("/api/v1/admin/clear-cache")) == [
        entry | {"what": "POST /api/v1/admin/clear-cache", "status": 200}
    ]
    assert audited(running, lambda: admin.put("/streams/x/site")) == [
        entry | {"what": "PUT /streams/x/site", "status": 404 if not MISSING else 503}
    ]
    assert audited(running, lambda: admin.delete("/api/v1/admin/keys/x")) == [
        entry | {"what": "DELETE /api/v1/admin/keys/x", "status": 404}
    ]
    assert audited(running, lambda: admin.patch("/x"))[0]["what"] == "PATCH /x"
    assert audited(running, lambda: admin.get("/api/v1/runs")) == []
    assert (
        audited(running, lambda: admin.post("/api/v1/ingest/simulation", json=record("AUDIT")))
        == []
    )
    anonymous = lambda: httpx.post(f"{running.url}/api/v1/admin/clear-cache")  # noqa: E731
    assert audited(running, anonymous) == [], "noise of nobody"
    (long,) = audited(running, lambda: admin.post("/" + "x" * 600))
    assert long["what"] == "POST /" + "x" * 506
    found = admin.get("/api/v1/admin/audit/verify").json()
    assert found == {
        "entries": running.app.state.services.database.rows("SELECT count(*) AS n FROM audit")[0][
            "n"
        ],
        "whole": True,
        "wrong": "",
    }


def test_a_broken_audit_trail_is_reported(running, admin, monkeypatch):
    monkeypatch.setattr(
        running.app.state.services.audit, "verify", lambda: (7, "entry 7 was changed")
    )
    assert admin.get("/api/v1/admin/audit/verify").json() == {
        "entries": 7,
        "whole": False,
        "wrong": "entry 7 was changed",
    }


def test_while_neither_database_nor_disk_takes_audit_entries_orders_are_refused(
    running, admin, monkeypatch, logged
):
    def broken(*_, **__):
        raise OSError("no disk")

    services, of_it = running.app.state.services, {"what": "clear-cache", "limit": 1000}
    before = admin.get("/api/v1/admin/audit", params=of_it).json()
    metrics.degraded.labels("audit").set(0)
    with monkeypatch.context() as patch:
        patch.setattr(services.audit, "add", broken)
        patch.setattr("headway.store.spool.Spool.put", broken)
        assert admin.post("/api/v1/admin/clear-cache").status_code == 200  # nobody could know
        refused = admin.post("/api/v1/admin/clear-cache")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert refused.json()["detail"].startswith("nothing was done: it cannot be put on record")
        assert admin.get("/api/v1/admin/keys").status_code == 200  # no order
    assert metrics.registry.get_sample_value("headway_degraded", {"part": "audit"}) == 1
    line = {
        "event": "audit not written",
        "level": "error",
        "error": "no disk",
        "who": "a-admin",
        "what": "/api/v1/admin/clear-cache",
    }
    assert line in logged("api")
    assert admin.post("/api/v1/admin/clear-cache").status_code == 200
    services.recorder.catch_up()
    entries = admin.get("/api/v1/admin/audit", params=of_it).json()[: -len(before) or None]
    assert [e["status"] for e in entries] == [200, 200]
    assert metrics.registry.get_sample_value("headway_degraded", {"part": "audit"}) == 0


def test_the_page_and_its_files_are_served(running):
    page = httpx.get(f"{running.url}/")
    assert (page.status_code, page.content) == (200, (web.STATIC / "index.html").read_bytes())
    script = sorted(web.STATIC.rglob("*.js"))[0]
    assert (
        httpx.get(f"{running.url}/static/{script.relative_to(web.STATIC)}").content
        == script.read_bytes()
    )
    assert httpx.get(f"{running.url}/docs").status_code == 200


def test_listed_origins_are_allowed_by_cors(tmp_path, new_record, running):
    asks = {
        "Origin": "https://a.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "Authorization, X-API-Key",
    }
    with serving(tmp_path, url=new_record(), origins=("https://a.example",)) as other:
        answer = httpx.options(f"{other.url}/streams/x/site", headers=asks)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (
            200,
            "https://a.example",
        )
        assert answer.headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE"
        assert {"Authorization", "X-API-Key"} <= set(
            answer.headers["access-control-allow-headers"].split(", ")
        )
        assert (
            httpx.options(
                f"{other.url}/streams/x/site", headers=asks | {"Origin": "https://b.example"}
            ).status_code
            == 400
        )
    assert (
        "access-control-allow-origin"
        not in httpx.options(f"{running.url}/streams/x/site", headers=asks).headers
    )


def test_settings_have_their_defaults(tmp_path):
    settings = ApiSettings(tmp_path)
    assert (settings.per_minute, settings.origins, settings.redis_url, settings.cache_s) == (
        100,
        (),
        "",
        10.0,
    )
    with pytest.raises(AttributeError):
        settings.per_minute = 7


def test_the_spool_is_replayed_whatever_fails_meanwhile(tmp_path, new_record, logged, monkeypatch):
    tries = []
    with serving(tmp_path, url=new_record()) as other:
        intake, failures = other.app.state.services.intake, [OSError("no disk")]
        catch_up = intake.catch_up
        monkeypatch.setattr(
            intake,
            "catch_up",
            lambda: tries.append(1) or (fail(failures) if failures else catch_up()),
        )
        intake.spool.put("event", [])
        until(lambda: intake.spool.waiting == 0)
        assert len(tries) == 2  # one that failed, one that did not
        assert logged("store") == [
            {"event": "spool not replayed", "spool": "rows", "level": "error", "error": "no disk"}
        ]
        time.sleep(2.1)
        assert len(tries) == 2  # nothing waits: nothing is done


def fail(failures):
    raise failures.pop()


def test_threads_start_and_end_with_the_server(tmp_path, new_record, valkey):
    def working():
        return {
            t.name: t.daemon
            for t in threading.enumerate()
            if t.name == "spool" or t.name.startswith("relay ")
        }

    until(lambda: not working() or "spool" in working())
    before = {t for t in threading.enumerate() if t.name == "spool"}
    with serving(tmp_path, url=new_record(), redis_url=valkey):
        assert working() == {"spool": True, "relay send": True, "relay receive": True}
        (own,) = {t for t in threading.enumerate() if t.name == "spool"} - before
    own.join(10.0)
    assert not own.is_alive()
    until(lambda: not any(name.startswith("relay ") for name in working()))


def test_streets_begin_and_end_with_the_server(tmp_path, new_record):
    given, service = [], standing("a")

    def streets(tell, intake):
        given.append((tell, intake))
        return service

    with serving(tmp_path, streets, new_record()) as other:
        ((tell, intake),) = given
        assert intake is other.app.state.services.intake
        assert other.app.state.services.street_service is service
        before = (
            metrics.registry.get_sample_value("headway_events_total", {"street": "a", "kind": "k"})
            or 0.0
        )
        tell("monitoring", "a", {"kind": "k"})
        assert (
            metrics.registry.get_sample_value("headway_events_total", {"street": "a", "kind": "k"})
            == before + 1
        )
        assert not service.streets["a"].engine.stopped
        relay = other.app.state.services.relay
    assert service.streets["a"].engine.stopped
    assert relay is None


@pytest.mark.skipif(bool(MISSING), reason="needs the extra `vision`")
def test_cameras_begin_and_end_with_the_server_if_there_are_some(tmp_path, new_record):
    url = new_record()
    with serving(tmp_path, url=url) as other:
        assert other.app.state.services.camera_service is None
    (tmp_path / "cameras.json").write_text(
        json.dumps({"c": {"source": "rtsp://127.0.0.1:9/x", "started": False}})
    )
    with serving(tmp_path, url=url) as other:
        cameras = other.app.state.services.camera_service
        assert list(cameras.manager.streams) == ["c"]
        closed, close = [], cameras.close
        cameras.close = lambda: closed.append(1) or close()
    assert closed == [1]


def test_the_cache_is_as_the_settings_say(tmp_path, running, monkeypatch):
    made = []
    monkeypatch.setattr(
        "headway.api.services.Cache",
        lambda *words, **more: made.append((*words, more)) or Cache(*words, **more),
    )
    room.create_app(ApiSettings(tmp_path, cache_s=7.0), running.app.state.services.database)
    assert made == [("", 7.0, {"stale_s": 3.5})]


def test_the_upkeep_can_be_seen_and_run(running, admin):
    state = running.app.state.services
    found = admin.get("/api/v1/admin/upkeep").json()
    assert (found["at"], found["backup_every_h"], found["keep"]) == ("03:00", 24.0, 7)
    assert (list(found["next"]), found["backups"], found["runs"]) == (["backup"], [], [])
    answer = admin.post("/api/v1/admin/upkeep/drill")
    assert (answer.status_code, "holds no backup yet" in answer.json()["detail"]) == (409, True)
    assert admin.post("/api/v1/admin/upkeep/retention").status_code == 409
    made = admin.post("/api/v1/admin/upkeep/backup")
    assert made.status_code == 200
    (file,) = state.upkeep.files()
    assert (made.json()["data"]["file"], made.json()["data"]["bytes"]) == (
        file.name,
        file.stat().st_size,
    )
    drilled = admin.post("/api/v1/admin/upkeep/drill").json()
    assert drilled["data"]["rows"] == drilled["data"]["expected"]
    found = admin.get("/api/v1/admin/upkeep").json()
    assert [(r["task"], r["ok"]) for r in found["runs"]] == [
        ("drill", True),
        ("backup", True),
    ]
    assert found["backups"] == [file.name]
    assert admin.post("/api/v1/admin/upkeep/other").status_code == 422
    with running.client("engineer") as engineer:
        assert engineer.get("/api/v1/admin/upkeep").status_code == 403
        assert engineer.post("/api/v1/admin/upkeep/backup").status_code == 403


def test_nothing_that_uses_the_database_outlives_the_application(tmp_path, new_record):
    """A thread that looks at it once more would hold a connection that nobody closes."""

    def ours():
        names = ("self-watch", "lookout", "upkeep", "spool")
        return [t for t in threading.enumerate() if t.name in names and t.is_alive()]

    before = set(ours())
    with serving(tmp_path, lambda tell, intake: standing("headway"), new_record()):
        threads = set(ours()) - before
        assert {t.name for t in threads} == {"self-watch", "lookout", "upkeep", "spool"}
    assert not any(t.is_alive() for t in threads)


def test_who_names_no_street_means_that_of_the_settings_or_the_only_one(
    running, admin, monkeypatch
):
    services = running.app.state.services
    streets, seen = dict(services.street_service.streets), []
    find = observations.street_by_name
    monkeypatch.setattr(
        observations, "street_by_name", lambda of, name: seen.append(name) or find(of, name)
    )

    def ask(street, known):
        with (
            swapped(services, "settings", replace(services.settings, street=street)),
            swapped(services.street_service, "streets", known),
        ):
            answer = admin.get("/api/v1/observations/places")
        return answer.status_code, answer.json()

    assert sorted(streets) == ["baseline", "headway"]
    assert ask("baseline", streets)[0] == 200
    assert ask("north", {"headway": streets["headway"]})[0] == 200
    status, found = ask("north", streets)
    assert (status, "as in ?street=NAME. There are: " in found["detail"]) == (422, True)
    assert ask("north", {})[0] == 404
    assert seen == ["baseline", "headway", "north"]


def test_who_is_bounded_to_a_street_and_names_none_is_heard_where_that_is_meant(running):
    services = running.app.state.services
    bound = services.keyring.token("Bea", Role.VIEWER, 60.0, Bounds(frozenset({"baseline"})))
    who = {"Authorization": f"Bearer {bound}"}

    def ask(street):
        with swapped(services, "settings", replace(services.settings, street=street)):
            return httpx.get(f"{running.url}/api/v1/ml/metrics/none", headers=who).status_code

    assert [ask("baseline"), ask("headway"), ask("north")] == [404, 403, 403]
