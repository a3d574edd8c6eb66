"""The routes of cameras on a real service, with cameras whose figures are set by hand:
state, site, signals, view, monitoring, violations.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
import time
import types
import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from headway.api import cameras as room
from headway.sensing import MISSING, SensingError
from headway.sensing.traffic.evidence import Violation
from headway.service.cameras import CameraService
from headway.telemetry import metrics
from tests.api.service import serving, swapped
from tests.api.streets import standing
from tests.store.intakes import Intake
from tests.waiting import until

pytestmark = pytest.mark.skipif(bool(MISSING), reason="needs the extra `vision`")
SITE = {
    "size": [320, 240],
    "points": [{"px": [x, y], "m": [x / 10.0, (240 - y) / 10.0]}
        for x, y in ((20, 20), (300, 20), (300, 220), (20, 220), (160, 120))],
}  # fmt: skip
NO_PICTURE = "no picture can be read from its address (engineers see why)"
RTSP = "rtsp://user:secret@127.0.0.1:9/x"
SHOWN = {
    "id": "c", "source": "rtsp://127.0.0.1:9/x", "detector": "motion", "running": False,
    "runs_on": "processor", "state": "stopped", "fault": "", "received": 0,
    "processed": 0, "dropped": 0, "skipped": 0, "broken": 0, "connections": 0,
    "source_rate_hz": 0.0, "rate_hz": 0.0, "latency_p50_ms": None,
    "latency_p95_ms": None, "size": [0, 0], "tracks": 0, "violations": 0,
    "calibration_error_m": None, "clock": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_record):
    folder = tmp_path_factory.mktemp("cameras")
    (folder / "media").mkdir()
    (folder / "media" / "a.mp4").write_bytes(b"no film")
    with serving(folder, lambda tell, intake: standing("headway"), new_record()) as found:
        yield found


@pytest.fixture(scope="module")
def clients(running):
    found = {role: running.client(role) for role in ("viewer", "operator", "engineer", "admin")}
    yield found
    for client in found.values():
        client.close()


@pytest.fixture
def client(clients):
    return clients["engineer"]


@pytest.fixture
def camera(running, client):
    """Makes a camera that is not started; its stream, whose figures may be changed."""
    made = []

    def make(name="c", **more):
        answer = client.post("/streams", json={"id": name, "source": RTSP, "start": False} | more)
        assert answer.status_code == 201, answer.text
        made.append(name)
        return running.app.state.services.camera_service.manager.streams[name]

    yield make
    for name in made:
        client.delete(f"/streams/{name}")
    assert client.get("/streams").json() == []


def works(stream, **health):
    """As if it ran, with such figures of its source."""
    stream.running = True
    stream.source.health = type(stream.source.health)(**({"state": "running"} | health))


def test_a_camera_is_created_shown_and_deleted(running, client):
    answer = client.post("/streams", json={"id": "c", "source": RTSP, "start": False})
    shown = answer.json()
    assert answer.status_code == 201
    assert shown.pop("source").endswith("127.0.0.1:9/x")
    assert shown == {k: v for k, v in SHOWN.items() if k != "source"}
    assert [s["id"] for s in client.get("/streams").json()] == ["c"]
    one = client.get("/streams/c").json()
    assert (one["id"], one["tracks"], one["measures"]) == ("c", [], None)
    answer = client.post("/streams", json={"id": "c", "source": RTSP})
    assert answer.status_code == 409
    assert (
        answer.json()["detail"]
        == "stream 'c' is there already. Delete it first, or take another id."
    )
    assert client.delete("/streams/c").json() == {"done": True, "detail": "removed"}
    answer = client.get("/streams/c")
    assert (answer.status_code, answer.json()["detail"]) == (404, "no stream 'c'. There are: none.")
    client.post("/streams", json={"id": "a", "source": RTSP, "start": False})
    client.post("/streams", json={"id": "b", "source": RTSP, "start": False})
    assert client.get("/streams/c").json()["detail"] == "no stream 'c'. There are: a, b."
    assert [client.delete(f"/streams/{name}").status_code for name in "ab"] == [200, 200]


def test_all_fields_of_a_request_reach_the_camera(running, client, camera):
    stream = camera(detector="motion", rate_hz=120.0, site=SITE, blur=False, street="headway")
    assert stream.settings.source.rate_hz == 120.0
    assert (stream.settings.blur, stream.settings.site.size) == (False, (320, 240))
    assert client.get("/streams/c/site").json() == SITE
    kept = json.loads((running.app.state.services.folder / "cameras.json").read_text())["c"]
    assert kept == {
        "source": RTSP, "detector": "motion", "rate_hz": 120.0, "site": SITE, "paced": True,
        "repeat": False, "blur": False, "street": "headway",
        "started": False,
    }  # fmt: skip
    plain = camera("p").settings
    assert (
        plain.detector,
        plain.source.rate_hz,
        plain.source.paced,
        plain.source.repeat,
        plain.blur,
        plain.site,
    ) == (
        "motion",
        0.0,
        True,
        False,
        True,
        None,
    )


@pytest.mark.parametrize(
    ("payload", "pointer"),
    [
        ({"id": ""}, "id"), ({"id": "x" * 65}, "id"), ({"id": "a b"}, "id"),
        ({"source": ""}, "source"), ({"source": "file:///etc/passwd"}, "source"),
        ({"source": "/etc/passwd"}, "source"), ({"source": "rtsp://" + "x" * 2042}, "source"),
        ({"detector": "x" * 65}, "detector"),
        ({"rate_hz": -0.5}, "rate_hz"), ({"rate_hz": 120.5}, "rate_hz"),
        ({"street": "x" * 65}, "street"), ({"more": 1}, "more"),
    ],
)  # fmt: skip
def test_an_invalid_request_is_refused_with_its_place(client, payload, pointer):
    answer = client.post("/streams", json={"id": "c", "source": RTSP, "start": False} | payload)
    assert (answer.status_code, [f["pointer"] for f in answer.json()["faults"]]) == (
        422,
        [f"/body/{pointer}"],
    )


def test_bounds_of_a_request_are_inclusive(client, camera):
    camera("x" * 64, source="rtsp://" + "x" * 2041, rate_hz=0.0)


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        (
            {"source": "rtsp://u:T0KEN@[x/"},
            "source: the address has no valid host and port. In a user name or password write / as "
            "%2F, ? as %3F, # as %23, @ as %40, : as %3A, [ as %5B, ] as %5D and % as %25.",
        ),
        ({"street": "nowhere"}, "street: there is no street 'nowhere' here. There are: headway."),
        (
            {"source": "a.mp4", "street": "headway"},
            (
                "stream c, street: only a live camera (rtsp://, "
                "http://) sees the signals of a street that runs now."
            ),
        ),
    ],
)
def test_impossible_requests_are_refused_with_the_reason(client, payload, detail):
    answer = client.post("/streams", json={"id": "c", "source": RTSP, "start": False} | payload)
    assert (answer.status_code, answer.json()["faults"]) == (422, [])
    assert detail is None or answer.json()["detail"] == detail
    assert client.get("/streams").json() == []


@pytest.mark.parametrize(
    ("site", "pointers"),
    [
        ({"size": [320]}, ["/size/1"]),
        ({"size": [320, 240], "lines": [{"name": ""}], "a/b": 1}, [
            "/lines/0/name", "/lines/0/px", "/a~1b",
        ]),
        ({"size": [320, 240], "zones": [{"name": "z", "px": [[1, 1], [2, 2], [400, 2]]}]}, [
            "/zones/0/px/2"
        ]),
        ({"size": [320, 240], "forbidden_turns": [{"from_line": "a", "to_line": "b"}]}, [
            "/forbidden_turns/0"
        ]),
        ({"size": [320, 240], "points": [{"px": [1, 1], "m": [1, 1]}] * 4}, ["/points"]),
    ],
)  # fmt: skip
def test_each_fault_of_a_site_is_named_by_its_place_and_changes_nothing(
    client, camera, site, pointers
):
    camera(site=SITE)
    for route, answer in (
        ("/body", client.put("/streams/c/site", json=site)),
        ("/body/site", client.post(
            "/streams", json={"id": "d", "source": RTSP, "start": False, "site": site}
        )),
    ):  # fmt: skip
        assert answer.status_code == 422
        faults = answer.json()["faults"]
        assert [fault["pointer"] for fault in faults] == [route + pointer for pointer in pointers]
        assert all(fault["message"] for fault in faults)
    assert client.get("/streams/c/site").json() == SITE
    assert [s["id"] for s in client.get("/streams").json()] == ["c"]


def test_on_a_server_without_streets_no_street_can_be_named(running, client):
    with swapped(running.app.state.services, "street_service", None):
        answer = client.post(
            "/streams", json={"id": "c", "source": RTSP, "start": False, "street": "headway"}
        )
    assert answer.json()["detail"] == "street: there is no street 'headway' here. There are: none."


def test_a_camera_starts_and_stops(client, camera):
    stream = camera()
    assert client.post("/streams/c/start").json() == {"done": True, "detail": "started"}
    assert stream.running
    assert client.post("/streams/c/stop").json() == {"done": True, "detail": "stopped"}
    assert not stream.running
    assert camera("d", start=True).running
    assert client.post("/streams/d/stop").status_code == 200


def test_a_site_is_shown_as_it_was_given_and_changed_whole(client, camera):
    stream = camera()
    assert client.get("/streams/c/site").json() == {"size": [0, 0]}
    works(stream, size=(640, 480))
    assert client.get("/streams/c/site").json() == {"size": [640, 480]}
    stream.running = False
    assert client.put("/streams/c/site", json=SITE).json() == {"done": True, "detail": "in force"}
    assert client.get("/streams/c/site").json() == SITE
    assert client.get("/streams/c").json()["calibration_error_m"] == pytest.approx(0.0, abs=1e-6)
    assert client.get("/streams/c/site").json() == SITE


def test_signal_states_are_accepted_in_order_of_time(clients, camera):
    stream = camera()
    reported = [
        {"at_s": 20.0, "group": 3, "colour": 3},
        {"at_s": 10.0, "group": 3, "colour": 1},
        {"at_s": 0.0, "group": 0, "colour": 0},
    ]
    put, order = stream.signals.record, []
    stream.signals.record = lambda *change: order.append(change) or put(*change)
    answer = clients["operator"].post("/streams/c/signals", json=reported)
    assert (answer.status_code, answer.json()) == (200, {"done": True, "detail": "3 taken"})
    assert order == [(0.0, 0, 0), (10.0, 3, 1), (20.0, 3, 3)]
    assert clients["operator"].post("/streams/c/signals", json=[]).json()["detail"] == "0 taken"
    assert (
        clients["operator"]
        .post("/streams/c/signals", json=[{"at_s": time.time(), "group": 1000, "colour": 4}] * 1000)
        .json()["detail"]
        == "1000 taken"
    )
    assert (
        clients["operator"].post("/streams/c/signals", json=reported[:1] * 1001).status_code == 422
    )
    for wrong in (
        {"at_s": -0.5},
        {"at_s": 1.5e11},
        {"group": -1},
        {"group": 1001},
        {"colour": -1},
        {"colour": 5},
        {"more": 1},
    ):
        answer = clients["operator"].post("/streams/c/signals", json=[reported[0] | wrong])
        assert [f["pointer"] for f in answer.json()["faults"]] == [f"/body/0/{next(iter(wrong))}"]
    assert clients["viewer"].post("/streams/c/signals", json=reported).status_code == 403


def test_a_report_of_signals_ahead_of_the_clock_is_refused_for_a_live_camera(clients, camera):
    """It would be believed for ever, however long ago the controller fell silent."""
    live, film = camera(), camera("film", source="a.mp4")
    ahead = [{"at_s": time.time() + 60.0, "group": 3, "colour": 1}]
    answer = clients["operator"].post("/streams/c/signals", json=ahead)
    assert answer.status_code == 422
    assert "ahead of this server's clock" in answer.json()["detail"]
    assert live.signals.state_at(3, time.time() + 61.0) is None
    assert clients["operator"].post("/streams/film/signals", json=ahead).status_code == 200
    assert film.signals.state_at(3, ahead[0]["at_s"]).colour == 1


def test_a_camera_that_could_not_be_started_again_says_why_and_can_be_deleted(running, client):
    service = running.app.state.services.camera_service
    service.refused["gone"] = "there is no such model."
    answer = client.get("/streams/gone")
    assert (answer.status_code, "no such model" in answer.json()["detail"]) == (404, True)
    assert client.delete("/streams/gone").status_code == 200
    assert service.refused == {}
    assert client.delete("/streams/gone").status_code == 404


def picture(number):
    return b"\xff\xd8\xff%d" % number


def part(number):
    shot = picture(number)
    return (
        b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(shot)
        + shot
        + b"\r\n"
    )


def test_the_view_sends_each_new_image_once_at_the_requested_rate(running, client, camera):
    stream, watched = camera(), []

    def show():
        deadline = time.monotonic() + 10
        while not stream.viewers and time.monotonic() < deadline:
            time.sleep(0.01)
        watched.append(stream.viewers)
        for number in (1, 2, 3, 4):
            stream.view = (number, picture(number))
            time.sleep(0.15)

    thread = threading.Thread(target=show)
    thread.start()
    answer = client.get("/streams/c/view", params={"frames": 3})
    thread.join()
    assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.content == part(1) + part(2) + part(3)
    assert (watched, stream.viewers) == ([1], 0)


def test_a_view_without_new_images_ends_after_ten_seconds(camera, monkeypatch):
    stream, clock = camera(), [100.0]
    monkeypatch.setattr(room, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(room, "asyncio", types.SimpleNamespace(
        sleep=lambda s: passes(clock, s), create_task=asyncio.create_task
    ))  # fmt: skip
    stream.view = (5, b"")  # no picture yet

    async def look():
        found = []
        async for shot in room.images(stream, 0, asyncio.Event().wait):
            found.append((clock[0], shot))
            assert stream.viewers == 1
            stream.view = (6, picture(6))
        return found

    def passes(clock, seconds):
        assert seconds == 0.04
        clock[0] += 1 / 32  # a little less, so that the sums are exact
        if clock[0] == 105.0:
            stream.view = (7, picture(5))

        async def nothing():
            pass

        return nothing()

    found = asyncio.run(look())
    assert [shot for _, shot in found] == [part(5), part(6)]
    assert [at for at, _ in found] == [105.0, 105 + 1 / 32]
    assert clock[0] == 115 + 2 / 32  # the first look that is more than 10 s after the last picture
    assert stream.viewers == 0


def test_a_viewer_that_disconnects_is_not_counted(running, client, camera):
    stream = camera()
    stream.view = (1, picture(1))
    for _ in range(3):
        with httpx.stream(
            "GET", f"{running.url}/streams/c/view", headers=dict(client.headers), timeout=10
        ) as answer:
            parts = answer.iter_raw()
            assert next(parts).startswith(b"--frame")
            assert stream.viewers == 1
        deadline = time.monotonic() + 10
        while stream.viewers and time.monotonic() < deadline:
            stream.view = (stream.view[0] + 1, picture(1))
            time.sleep(0.01)
        assert stream.viewers == 0


def figures(stream, latency_ms, times, **health):
    works(stream, **health)
    stream.latencies.extend([latency_ms / 1e3] * 3)
    stream.processed_at.extend(times)
    stream.clock = lambda: times[-1]


def test_performance_adds_up_over_the_cameras(running, clients, camera, monkeypatch):
    assert clients["viewer"].get("/monitoring/performance").json() == {
        "streams": [], "rate_hz": 0, "dropped_share": 0.0,
        "notifications": {"waiting": 0, "sent": 0, "failed": 0, "lost": 0},
    }  # fmt: skip
    one, two = camera("one"), camera("two")
    figures(one, 80.0, [0.0, 0.2, 0.4, 0.6], received=60, dropped=6)  # 5 Hz
    figures(two, 20.0, [0.0, 0.3, 0.6, 0.9], received=20, dropped=14, state="starting")  # 3.33 Hz
    one.processed, two.processed = 50, 5
    note = running.app.state.services.camera_service.notifier
    monkeypatch.setattr(type(note), "sent", 4)
    monkeypatch.setattr(type(note), "failed", 3)
    monkeypatch.setattr(type(note), "lost", 2)
    shown = {
        "latency_p50_ms": 80.0,
        "latency_p95_ms": 80.0,
        "processed": 50,
        "dropped": 6,
        "tracks": 0,
    }
    assert clients["viewer"].get("/monitoring/performance").json() == {
        "streams": [
            {"id": "one", "state": "running", "rate_hz": 5.0} | shown,
            {"id": "two", "state": "starting", "rate_hz": 3.33} | shown | {"latency_p50_ms": 20.0,
                "latency_p95_ms": 20.0, "processed": 5, "dropped": 14},
        ],
        "rate_hz": 8.33, "dropped_share": 0.25,
        "notifications": {"waiting": 0, "sent": 4, "failed": 3, "lost": 2},
    }  # fmt: skip


def test_the_dropped_share_of_a_single_dropped_frame_is_one(clients, camera):
    works(camera(), received=1, dropped=1)
    assert clients["viewer"].get("/monitoring/performance").json()["dropped_share"] == 1.0


def test_system_figures_are_in_bytes_and_seconds(clients, running):
    found = clients["viewer"].get("/monitoring/system").json()
    process = found.pop("process")
    for name in ("processes", "streets", "database", "errors_per_minute", "open", "models"):
        del found[name]
    assert set(process) == {
        "memory_bytes", "cpu_seconds", "cpu_share", "up_seconds", "disk_free_bytes", "processors",
    }  # fmt: skip
    assert set(found) == {
        "cpu_share", "headway_cpu_share", "load_1m", "processors", "memory_bytes",
        "memory_total_bytes", "memory_share", "disk_free_bytes", "disk_share",
        "headway_memory_bytes", "headway_processes",
    }  # fmt: skip
    assert found["memory_total_bytes"] > found["memory_bytes"] > process["memory_bytes"] > 10e6
    assert found["headway_memory_bytes"] > 10e6
    assert process["up_seconds"] > 0


@pytest.mark.parametrize(
    ("health", "latency_ms", "fault", "expected"),
    [
        ({"received": 100}, 500.0, "", []),
        ({"received": 100}, 500.5, "", [("latency_p95_ms", 500.0, 500.5, "warning")]),
        ({"received": 100, "dropped": 10}, None, "", []),
        ({"received": 100, "dropped": 11}, None, "", [("dropped_share", 0.1, 0.11, "warning")]),
        ({"received": 50, "dropped": 50}, None, "", []),  # too few to tell
        ({"received": 51, "dropped": 51}, None, "", [("dropped_share", 0.1, 1.0, "warning")]),
        ({"received": 95, "broken": 5}, None, "", []),
        ({"received": 94, "broken": 6}, None, "", [("broken_share", 0.05, 0.06, "error")]),
        ({"received": 0, "broken": 50}, None, "", []),
        ({"received": 0, "broken": 51}, None, "", [("broken_share", 0.05, 1.0, "error")]),
        ({"state": "failed", "fault": "no video"}, None, "", [("failed", 0.5, 1.0, "critical")]),
        ({"state": "reconnecting"}, None, "", [("failed", 0.5, 1.0, "critical")]),
        ({"state": "starting"}, None, "slow", []),
        ({"state": "stopped"}, None, "its site is wrong", [("failed", 0.5, 1.0, "critical")]),
        ({"state": "stopped"}, None, "", []),
        (
            {"received": 90, "dropped": 18, "broken": 10}, 600.0, "",
            [
                ("latency_p95_ms", 500.0, 600.0, "warning"), ("dropped_share", 0.1, 0.2, "warning"),
                ("broken_share", 0.05, 0.1, "error"),
            ],
        ),
        (  # what it was before it failed is not of now
            {"received": 90, "dropped": 18, "broken": 10, "state": "failed"}, 600.0, "",
            [("failed", 0.5, 1.0, "critical")],
        ),
    ],
)  # fmt: skip
def test_an_alert_is_open_while_a_figure_is_beyond_its_threshold(
    clients, camera, health, latency_ms, fault, expected
):
    assert clients["viewer"].get("/monitoring/alerts").json() == []  # no camera, none is open
    stream = camera()
    works(stream, **health)
    stream.running, stream.fault = health.get("state") != "stopped", fault
    if latency_ms is not None:
        stream.latencies.extend([latency_ms / 1e3] * 3)
    detail = fault or (NO_PICTURE if "fault" in health else "")
    found = clients["viewer"].get("/monitoring/alerts").json()
    told = [
        (a["metric"], a["threshold"], a["value"], a["severity"])
        for a in found
        if a["metric"] != "dead"  # tests/service/test_camera_health.py
    ]
    assert told == expected
    assert all((a["stream"], a["operator"], a["detail"]) == ("c", ">", detail) for a in found)


def test_the_settings_of_a_camera_by_the_api(clients, camera):
    stream = camera(attempts=4, confidence=0.25)
    get, change = clients["viewer"].get, clients["engineer"]
    usual = {"attempts": 0, "delay_s": 0.5, "buffer": 1, "rate_hz": 0.0, "confidence": 0.0,
             "speed": True, "violations": True}  # fmt: skip
    assert get("/streams/c/settings").json() == usual | {"attempts": 4, "confidence": 0.25}
    new = {"speed": False, "violations": False, "buffer": 3, "delay_s": 2.0, "attempts": None}
    answer = change.put("/streams/c/settings", json=new)
    assert answer.json() == usual | new | {"attempts": 0, "confidence": 0.25}
    source = stream.settings.source
    assert (source.buffer, source.policy, source.delay_s) == (3, "recent", 2.0)
    assert (stream.settings.speed, stream.settings.violations) == (False, False)
    assert clients["operator"].put("/streams/c/settings", json=new).status_code == 403
    assert change.put("/streams/none/settings", json=new).status_code == 404
    for bad in ({"attempts": -1}, {"buffer": 0}, {"confidence": 1.0}, {"rate_hz": 121},
                {"delay_s": 0}, {"speed": "perhaps"}, {"source": "rtsp://y"}):  # fmt: skip
        assert change.put("/streams/c/settings", json=bad).status_code == 422


def test_alert_rules_by_the_api(clients):
    get, change = clients["viewer"].get, clients["engineer"]
    path = "/monitoring/alerts/rules"
    fixed = get(path).json()
    assert [r["name"] for r in fixed] == ["slow", "drops", "broken frames", "failed", "dead"]
    assert {r["fixed"] for r in fixed} == {True}
    rule = {"name": "disk", "metric": "disk_free_bytes", "operator": ">", "threshold": 1.0,
            "severity": "critical"}  # fmt: skip
    assert clients["operator"].post(path, json=rule).status_code == 403
    added = change.post(path, json=rule)
    whole = rule | {
        "for_s": 0.0,
        "hysteresis": 0.0,
        "clear_s": 10.0,
        "camera": "",
        "notify": True,
        "fixed": False,
    }
    assert (added.status_code, added.json()) == (201, whole)
    assert get(f"{path}/disk").json() == whole
    (alert,) = [a for a in get("/monitoring/alerts").json() if a["rule"] == "disk"]
    assert (alert["stream"], alert["severity"], alert["operator"]) == ("", "critical", ">")
    assert change.post(path, json=rule).status_code == 409
    assert change.put(f"{path}/disk", json=rule | {"threshold": 1e18}).json()["threshold"] == 1e18
    assert [a for a in get("/monitoring/alerts").json() if a["rule"] == "disk"] == []
    assert change.put(f"{path}/other", json=rule).status_code == 422
    assert change.put(f"{path}/none", json=rule | {"name": "none"}).status_code == 404
    refused = change.put(f"{path}/slow", json=rule | {"name": "slow"})
    assert (refused.status_code, refused.json()["detail"]) == (
        409, "the rule 'slow' stands in the settings. Change it there.",
    )  # fmt: skip
    assert change.delete(f"{path}/slow").status_code == 409
    assert change.delete(f"{path}/disk").json() == {"done": True, "detail": "removed"}
    gone = change.delete(f"{path}/disk")
    assert (gone.status_code, get(f"{path}/disk").status_code) == (404, 404)
    known = [m["metric"] for m in get("/monitoring/alerts/metrics").json()]
    assert {"fps", "latency_p95_ms", "dropped_share", "cpu_share"} <= set(known)
    unknown = change.post(path, json=rule | {"metric": "speed"})
    assert unknown.status_code == 422
    assert f"Known: {', '.join(known)}" in unknown.text
    for bad in ({"operator": "=>"}, {"threshold": "x"}, {"severity": "bad"}, {"for_s": -1},
                {"name": ""}, {"extra": 1}, {"camera": "c"}):  # fmt: skip
        assert change.post(path, json=rule | bad).status_code == 422


def test_metrics_cover_each_camera_and_undelivered_notifications(
    running, clients, camera, monkeypatch
):
    stream, other = camera(), camera("d")
    figures(stream, 80.0, [0.0, 0.2, 0.4], received=9, dropped=3, broken=2)
    stream.processed = 4
    works(other, state="failed")
    note = running.app.state.services.notifier  # also where there is no camera
    monkeypatch.setattr(type(note), "sent", 7)
    monkeypatch.setattr(type(note), "failed", 5)
    assert clients["viewer"].get("/metrics").status_code == 200

    def value(name, **labels):
        return metrics.registry.get_sample_value(f"headway_{name}", labels)

    assert {w: value("camera_frames", stream="c", what=w)
        for w in ("received", "processed", "dropped", "broken")} == {
        "received": 9, "processed": 4, "dropped": 3, "broken": 2,
    }  # fmt: skip
    assert value("camera_rate_hz", stream="c") == 5.0
    assert value("camera_latency_seconds", stream="c") == pytest.approx(0.08)
    assert value("camera_latency_seconds", stream="d") == 0.0
    assert value("camera_violations", stream="c") == 0
    assert [value("notifications", what=w) for w in ("waiting", "sent", "failed")] == [0, 7, 5]
    for state, up in (
        ("running", 1),
        ("starting", 1),
        ("ended", 1),
        ("reconnecting", 0),
        ("failed", 0),
        ("idle", 0),
    ):
        works(stream, state=state)
        clients["viewer"].get("/metrics")
        assert value("camera_up", stream="c") == up, state
    stream.running = False
    clients["viewer"].get("/metrics")
    assert value("camera_up", stream="c") == 1  # it was stopped by hand


BEGIN = datetime(2026, 3, 1, 5, 30, tzinfo=UTC)


@pytest.fixture
def violations(running):
    """Six, written again where a test has erased them: of device a at 5:30, 5:50, 6:10 (speeding,
    red light, speeding), of b at 6:30, 6:50 (speeding), of a on the next day at 5:30.
    """
    minutes, devices = (0, 20, 40, 60, 80, 1440), "aaabba"
    rules = ["speeding", "red_light", "speeding", "speeding", "speeding", "red_light"]
    rows = [
        (
            str(uuid.UUID(int=k)),
            (BEGIN + timedelta(minutes=m)).isoformat(),
            d,
            rule,
            0.75,
            f'{{"track": {k}}}',
            f"seal{k}",
        )
        for k, (m, d, rule) in enumerate(zip(minutes, devices, rules, strict=True))
    ]
    running.app.state.services.intake.write("violation", rows)
    shots = itertools.product((0, 1), (0, 1))
    running.app.state.services.intake.write(
        "violation_picture",
        [(rows[k][0], n, 1.5 + n, "\\x" + picture(10 * k + n).hex()) for k, n in shots],
    )
    return [r[0] for r in rows]


def test_violations_newest_first_with_their_evidence(clients, violations):
    get = clients["viewer"].get
    found = get("/analytics/violations").json()
    assert [v["id"] for v in found] == violations[::-1]
    assert found[-1] == {
        "id": violations[0], "at": "2026-03-01T05:30:00Z", "device": "a", "rule": "speeding",
        "confidence": 0.75, "data": {"track": 0},
        "seal": "seal0", "images": [1.5, 2.5], "pictures": [1.5, 2.5],
        "state": "open", "reviewed_by": None, "reviewed_at": None, "note": "",
    }  # fmt: skip
    assert [
        v["id"] for v in get("/analytics/violations", params={"limit": 2, "offset": 1}).json()
    ] == violations[4:2:-1]
    assert [
        v["id"] for v in get("/analytics/violations", params={"device": "b"}).json()
    ] == violations[4:2:-1]
    assert [v["id"] for v in get("/analytics/violations", params={"rule": "red_light"}).json()] == [
        violations[5],
        violations[1],
    ]
    window = {"begin": "2026-03-01T05:50:00Z", "end": "2026-03-01T06:30:00Z"}
    assert [v["id"] for v in get("/analytics/violations", params=window).json()] == violations[
        2:0:-1
    ]


@pytest.mark.parametrize("images", ["images", "pictures"])
def test_an_image_of_a_violation_by_the_new_and_the_old_path(clients, violations, images):
    get = clients["operator"].get
    answer = get(f"/analytics/violations/{violations[1]}/{images}/1")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (
        200,
        picture(11),
        "image/jpeg",
    )
    assert answer.headers["cache-control"] == "private, max-age=3600"
    for path in (
        f"{violations[1]}/{images}/2",
        f"{violations[2]}/{images}/0",
        f"{violations[1]}/{images}/99",
    ):
        answer = get(f"/analytics/violations/{path}")
        assert (answer.status_code, answer.json()["detail"]) == (
            404,
            "there is no such image in the database",
        )
    assert get(f"/analytics/violations/{violations[1]}/{images}/100").status_code == 422
    assert get(f"/analytics/violations/{violations[1]}/{images}/-1").status_code == 422
    assert get(f"/analytics/violations/x/{images}/1").status_code == 422
    assert (
        clients["viewer"].get(f"/analytics/violations/{violations[1]}/{images}/1").status_code
        == 403
    )


def test_violations_by_hour(clients, violations):
    found = clients["viewer"].get("/analytics/violations/trends").json()
    assert found["n"] == 6
    assert [(h["hour"], h["n"], h["rules"]) for h in found["hours"]] == [
        ("2026-03-01T05:00:00Z", 2, {"red_light": 1, "speeding": 1}),
        ("2026-03-01T06:00:00Z", 3, {"speeding": 3}),
        ("2026-03-02T05:00:00Z", 1, {"red_light": 1}),
    ]  # fmt: skip
    assert found["by_hour_of_day"] == [3 if hour in (5, 6) else 0 for hour in range(24)]
    query = {
        "device": "a",
        "rule": "speeding",
        "begin": "2026-03-01T05:00:00Z",
        "end": "2026-03-01T06:00:00Z",
    }
    assert clients["viewer"].get("/analytics/violations/trends", params=query).json()["n"] == 1


def test_violations_by_device(clients, violations):
    a = {
        "device": "a",
        "n": 4,
        "share": pytest.approx(4 / 6),
        "rules": {"red_light": 2, "speeding": 2},
        "busiest_hour": 5,
    }
    b = {
        "device": "b",
        "n": 2,
        "share": pytest.approx(2 / 6),
        "rules": {"speeding": 2},
        "busiest_hour": 6,
    }
    get = clients["viewer"].get
    assert get("/analytics/violations/hotspots").json() == [a, b]
    assert get("/analytics/violations/hotspots", params={"limit": 1}).json() == [a]
    assert [
        h["n"]
        for h in get(
            "/analytics/violations/hotspots",
            params={"rule": "speeding", "end": "2026-03-01T06:00:00Z"},
        ).json()
    ] == [1]


def test_violations_in_all(clients, violations):
    """Six in the 25 hours from the first hour with one to the last."""
    get = clients["viewer"].get
    assert get("/analytics/violations/summary").json() == {
        "n": 6, "devices": 2, "rules": {"red_light": 2, "speeding": 4},
        "first": "2026-03-01T05:00:00Z", "last": "2026-03-02T05:00:00Z",
        "per_hour": pytest.approx(6 / 25),
    }  # fmt: skip
    assert get("/analytics/violations/summary", params={"device": "b"}).json()["per_hour"] == 2.0


def test_violations_of_the_last_hours(clients, violations):
    """Back from `end`: 5:50 to 6:35 holds those of 5:50, 6:10 and 6:30."""
    get = clients["viewer"].get
    window = {"hours": 0.75, "end": "2026-03-01T06:35:00Z"}
    for name in ("", "/trends", "/summary", "/hotspots"):
        found = get(f"/analytics/violations{name}", params=window).json()
        if isinstance(found, list):
            assert sum(x.get("n", 1) for x in found) == 3
        else:
            assert found["n"] == 3
    assert get("/analytics/violations/summary", params=window).json()["per_hour"] == 4.0
    assert get("/analytics/violations/trends", params={"hours": 1}).json()["n"] == 0  # until now
    assert get("/analytics/violations/trends", params={"hours": 87_660}).json()["n"] == 6
    for begin, n in (("05:00", 3), ("06:00", 2), ("06:20", 1)):  # the later of the two
        both = window | {"begin": f"2026-03-01T{begin}:00Z"}
        assert get("/analytics/violations/trends", params=both).json()["n"] == n
    for hours in ("0", "-1", "nan", "inf", "1e9", "x"):
        assert get("/analytics/violations", params={"hours": hours}).status_code == 422
    early = {"hours": 87_660, "end": "0005-01-01T00:00:00Z"}
    assert get("/analytics/violations/trends", params=early).json()["n"] == 0


def written(running, camera="c", **given):
    """A violation as a camera reports it, with two images, written to the database; its id."""
    service = running.app.state.services.need_camera_service()
    rows = []
    violation = Violation(
        **{
            "id": str(uuid.uuid4()),
            "at_s": 1_772_000_000.25,
            "device": camera,
            "rule": "red_light",
            "confidence": 0.8123,
            "data": {"track": 7, "box": [-0.0, 1.5], "far": 1e22, "near": 1e-7, "line": "Süd"},
            "images": ((1_771_999_999.25, picture(1)), (1_772_000_000.25, picture(2))),
        }
        | given
    )
    put, service._recorder.put = service._recorder.put, lambda *row: rows.append(row)
    try:
        begun = 1_772_000_000.0 if violation.at_s < 1e9 else 0.0
        at = datetime.fromtimestamp(begun + violation.at_s, UTC)
        service._report_violation(camera, violation, at)
    finally:
        service._recorder.put = put
    for table, row in rows:
        running.app.state.services.intake.write(table, [row])
    return violation.id


ALTERED = (
    "UPDATE violation SET at = at + interval '1 second' WHERE id = :id",
    "UPDATE violation SET rule = 'stop_line' WHERE id = :id",
    "UPDATE violation SET confidence = 0.8124 WHERE id = :id",
    "UPDATE violation SET device = 'd' WHERE id = :id",
    "UPDATE violation SET seal = reverse(seal) WHERE id = :id",
    "UPDATE violation SET seal = '' WHERE id = :id",
    "UPDATE violation SET data = data || '{\"track\": 8}' WHERE id = :id",
    "UPDATE violation SET data = data || '{\"at_s\": 1.0}' WHERE id = :id",
    "UPDATE violation SET data = data - 'at' WHERE id = :id",
    "UPDATE violation SET data = data - 'at_s' WHERE id = :id",
    "UPDATE violation SET data = '[1]' WHERE id = :id",
    "UPDATE violation SET data = jsonb_build_object('at_s', 10::numeric ^ 400) WHERE id = :id",
    "UPDATE violation_picture SET jpeg = jpeg || '\\x00' WHERE violation_id = :id AND number = 1",
    "UPDATE violation_picture SET at_s = at_s + 1 WHERE violation_id = :id AND number = 1",
    "UPDATE violation_picture SET number = 1 - number + 10 WHERE violation_id = :id",
    "DELETE FROM violation_picture WHERE violation_id = :id AND number = 0",
)


@pytest.mark.parametrize("at_s", [1_772_000_000.25, 12.5, -0.0])
def test_evidence_that_nobody_touched_is_intact(running, clients, at_s):
    one = written(running, at_s=at_s)
    answer = clients["viewer"].get(f"/api/v1/violations/{one}/seal")
    assert answer.json() == {"id": one, "intact": True, "detail": "as it was sealed"}
    body = {"state": "confirmed", "note": "x"}
    clients["operator"].post(f"/api/v1/violations/{one}/review", json=body)
    assert clients["viewer"].get(f"/api/v1/violations/{one}/seal").json()["intact"] is True
    clients["admin"].delete("/api/v1/violations", params={"device": "c"})
    assert clients["viewer"].get(f"/api/v1/violations/{one}/seal").status_code == 404


@pytest.mark.parametrize("change", ALTERED)
@pytest.mark.parametrize("at_s", [1_772_000_000.25, 12.5])
def test_evidence_that_was_altered_is_told(running, clients, change, at_s):
    one = written(running, at_s=at_s)
    change = change.replace(":id", f"'{one}'")
    assert running.app.state.services.database.execute(change) in (1, 2)
    found = clients["viewer"].get(f"/api/v1/violations/{one}/seal").json()
    clients["admin"].delete("/api/v1/violations", params={"device": "c"})
    clients["admin"].delete("/api/v1/violations", params={"device": "d"})
    assert found["intact"] is False
    assert found["detail"] in (
        "it has no seal",
        "altered since it was sealed, or sealed with another evidence.key",
    )


def test_a_candidate_is_reviewed_by_an_operator(clients, violations):
    path, body = (
        f"/analytics/violations/{violations[1]}/review",
        {"state": "confirmed", "note": "x"},
    )
    assert clients["viewer"].post(path, json=body).status_code == 403
    found = clients["operator"].post(path, json=body).json()
    assert (found["id"], found["state"], found["note"]) == (violations[1], "confirmed", "x")
    get = clients["viewer"].get
    listed = get("/analytics/violations", params={"state": "confirmed"}).json()
    assert [(v["id"], v["reviewed_by"], v["note"]) for v in listed] == [
        (violations[1], found["reviewed_by"], "x")
    ]
    assert len(get("/analytics/violations", params={"state": "open"}).json()) == 5
    for bad in ({"state": "guilty"}, {}, {"state": "open", "note": "a\x00b"}, body | {"by": "me"}):
        assert clients["operator"].post(path, json=bad).status_code == 422
    answer = clients["operator"].post(f"/api/v1/violations/{uuid.UUID(int=99)}/review", json=body)
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "there is no such violation in the database",
    )
    clients["operator"].post(path, json={"state": "open"})


def test_violations_of_a_device_are_erased(clients, violations):
    answer = clients["admin"].delete("/analytics/violations", params={"device": "none"})
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "there is no violation of 'none' in that time in the database",
    )
    query = {"device": "a", "begin": "2026-03-01T05:50:00Z", "end": "2026-03-02T05:30:00Z"}
    assert clients["admin"].delete("/analytics/violations", params=query).json() == {"rows": 2}
    assert clients["admin"].delete("/analytics/violations", params={"device": "a"}).json() == {
        "rows": 2
    }
    assert (
        clients["engineer"].delete("/analytics/violations", params={"device": "b"}).status_code
        == 403
    )
    assert [v["device"] for v in clients["viewer"].get("/analytics/violations").json()] == [
        "b",
        "b",
    ]


def test_a_missing_extra_is_reported(running, clients):
    def missing():
        raise SensingError("needs the extra `vision`")

    with (
        swapped(running.app.state.services, "camera_service", None),
        swapped(running.app.state.services, "make_camera_service", missing),
    ):
        answer = clients["viewer"].get("/streams")
        assert (answer.status_code, answer.json()["detail"]) == (503, "needs the extra `vision`")
        assert clients["viewer"].get("/metrics").status_code == 200


def test_the_camera_service_is_made_once(running, clients):
    clients["viewer"].get("/streams")
    first = running.app.state.services.camera_service
    clients["viewer"].get("/streams")
    assert running.app.state.services.camera_service is first


@pytest.fixture
def silent():
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("what", ["closed", "silent", "no camera"])
def test_what_answers_at_an_address_is_told_to_engineers_alone(running, clients, what, silent):
    """A viewer sees the same words where a port is closed, says nothing, or is of somebody else."""
    port = {"closed": 9, "silent": silent, "no camera": running.url.rpartition(":")[2]}[what]
    body = {"id": "probe", "source": f"http://127.0.0.1:{port}/x", "attempts": 1}
    clients["engineer"].post("/streams", json=body).raise_for_status()
    try:
        until(lambda: clients["viewer"].get("/streams/probe").json()["state"] == "failed")
        seen = {role: clients[role].get("/streams/probe").json()["fault"] for role in clients}
        listed = clients["viewer"].get("/streams").json()
        assert seen["viewer"] == seen["operator"] == NO_PICTURE
        assert [s["fault"] for s in listed if s["id"] == "probe"] == [NO_PICTURE]
        assert "(1 attempts)" in seen["engineer"]
        assert seen["engineer"] == seen["admin"] != NO_PICTURE
    finally:
        clients["engineer"].delete("/streams/probe")


@pytest.mark.parametrize(
    "source",
    ["rtsp://me:S3CRET@127.0.0.2/x", "http://169.254.169.254/latest", "http://[::ffff:127.0.0.1]/",
     "http://2130706433/", "rtsp://[fd00:ec2::254]/x", "http://224.0.0.1/"],
)  # fmt: skip
def test_an_address_of_no_camera_is_refused_at_once(tmp_path, source):
    service = CameraService(tmp_path, lambda *_: None, Intake())
    try:
        with pytest.raises(SensingError, match="address") as found:
            service.add("c", {"source": source}, start=False)
        assert "S3CRET" not in str(found.value)
        assert service.states() == []
    finally:
        service.close()
