"""Many cameras at once: added, started, stopped, removed while others run; faults stay local;
violations are published and recorded.
"""

from __future__ import annotations

import json
import time

import httpx
import pytest
from tests.api.service import serving
from tests.sensing.scenes import SITE, along, camera, film, scene_frames
from tests.waiting import until

from headway.sensing import SensingError, Site
from headway.service.camera_streams import StreamManager, StreamSettings
from headway.service.streets import StreetService
from headway.settings import Settings, overridden
from headway.street.messages import Task
from headway.vision.frames.sources import SourceSettings

pytestmark = pytest.mark.slow

RED = SITE | {"rules": {"limit_kmh": 20.0}}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return film(
        tmp_path_factory.mktemp("media") / "clip.mp4", along(speed_px=120.0, start=-200), 6.0
    )


def test_four_cameras_run_while_one_comes_and_one_goes_and_one_is_broken(clip, tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    manager = StreamManager()
    try:
        for k in range(4):
            manager.add(
                StreamSettings(
                    f"c{k}",
                    SourceSettings(str(clip), paced=True, repeat=True),
                    site=Site.from_tree(RED),
                )
            )
            manager.start(f"c{k}")
        manager.add(StreamSettings("broken", SourceSettings(str(tmp_path / "empty.mp4"))))
        manager.start("broken")
        manager.add(StreamSettings("wrong", SourceSettings(str(clip)), site=Site((640, 480))))
        manager.start("wrong")
        with pytest.raises(SensingError, match="there already"):
            manager.add(StreamSettings("c0", SourceSettings(str(clip))))
        until(lambda: all(manager.streams[f"c{k}"].processed > 30 for k in range(4)))
        manager.remove("c3")
        manager.stop("c2")
        state = manager.streams["broken"].state()
        assert (state["state"], "no video" in state["fault"]) == ("failed", True)
        assert "its site is of (640, 480)" in manager.streams["wrong"].state()["fault"]
        assert not manager.streams["wrong"].running
        done = manager.streams["c0"].processed
        until(lambda: manager.streams["c0"].processed > done + 30)
        assert manager.streams["c2"].state()["state"] == "stopped"
        manager.start("c2")
        until(lambda: manager.streams["c2"].processed > 10)
        for name in ("c0", "c1"):
            state = manager.streams[name].state()
            assert 0 < state["latency_p50_ms"] <= state["latency_p95_ms"]
            assert state["rate_hz"] == pytest.approx(15.0, abs=3.0)
    finally:
        manager.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory, clip):
    folder = tmp_path_factory.mktemp("cameras")
    (folder / "media").mkdir()
    (folder / "media" / "clip.mp4").write_bytes(clip.read_bytes())
    with serving(folder) as running:
        yield running


def test_a_camera_over_the_api_from_its_making_to_its_violations(service):
    with service.client("engineer") as client:
        payload = {"id": "north", "source": "clip.mp4", "site": RED, "repeat": True}
        assert client.post("/streams", json=payload).status_code == 201
        assert client.post("/streams", json=payload).status_code == 409
        until(lambda: client.get("/streams/north").json()["violations"] > 0)
        state = client.get("/streams/north").json()
        assert state["calibration_error_m"] < 0.01
        assert state["measures"]["seconds"] > 0
        with httpx.stream(
            "GET",
            f"{service.url}/streams/north/view?frames=3",
            headers=dict(client.headers),
            timeout=20,
        ) as answer:
            assert answer.headers["content-type"].startswith("multipart/x-mixed-replace")
            assert answer.read().count(b"\xff\xd8\xff") == 3
        until(lambda: client.get("/analytics/violations").json())
        one = client.get("/analytics/violations").json()[-1]
        assert (one["rule"], one["device"], len(one["images"])) == ("speeding", "north", 3)
        assert one["data"]["speed_kmh"] == pytest.approx(43.2, abs=2.0)
        image = client.get(f"/analytics/violations/{one['id']}/images/1")
        assert (image.headers["content-type"], image.content[:3]) == (
            "image/jpeg",
            b"\xff\xd8\xff",
        )
        assert client.post("/streams/north/stop").status_code == 200
        assert client.get("/streams/north").json()["state"] == "stopped"
        time.sleep(1.0)
        n = len(client.get("/analytics/violations").json())
        assert client.get("/analytics/violations/trends").json()["n"] == n
        spot = client.get("/analytics/violations/hotspots").json()[0]
        assert (spot["device"], spot["n"], spot["share"], spot["rules"]) == (
            "north",
            n,
            1.0,
            {"speeding": n},
        )
        summary = client.get("/analytics/violations/summary?rule=speeding").json()
        assert (summary["n"], summary["devices"]) == (n, 1)
        assert client.get("/analytics/violations/summary?device=south").json()["n"] == 0
        assert client.post("/streams/north/start").status_code == 200
        until(lambda: client.get("/streams/north").json()["processed"] > 5)
        assert (
            client.put(
                "/streams/north/site", json=RED | {"rules": {"limit_kmh": 120.0}}
            ).status_code
            == 200
        )
        assert client.get("/streams/north/site").json()["rules"] == {"limit_kmh": 120.0}
        assert client.put("/streams/north/site", json={"size": [3, 3]}).status_code == 422
        assert client.get("/monitoring/performance").json()["streams"][0]["id"] == "north"
        assert client.get("/monitoring/system").json()["memory_bytes"] > 1e7
        assert client.delete("/streams/north").status_code == 200
        assert client.delete("/analytics/violations?device=north").status_code == 403
        with service.client("admin") as admin:
            assert admin.delete("/analytics/violations").status_code == 422
            n = len(admin.get("/analytics/violations").json())
            assert (
                admin.delete(
                    "/analytics/violations?device=north&end=2020-01-01T00:00:00Z"
                ).status_code
                == 404
            )
            assert admin.delete("/analytics/violations?device=north").json() == {"rows": n}
            assert admin.get(f"/analytics/violations/{one['id']}/images/1").status_code == 404
            assert admin.get("/analytics/violations/summary").json()["n"] == 0
        assert client.get("/streams").json() == []


def test_no_other_file_of_the_machine_can_be_looked_at(service):
    with service.client("engineer") as client:
        for source in ("../keys.json", "nowhere.mp4", "a/../../keys.json"):
            answer = client.post("/streams", json={"id": "x", "source": source})
            assert answer.status_code == 422, source
        assert client.post("/streams", json={"id": "x", "source": "/etc/passwd"}).status_code == 422
        assert (
            client.post("/streams", json={"id": "x", "source": "file:///etc/passwd"}).status_code
            == 422
        )
        assert (
            client.post(
                "/streams", json={"id": "x", "source": "clip.mp4", "detector": "nothing"}
            ).status_code
            == 422
        )
        assert (
            "no such model"
            in client.post(
                "/streams", json={"id": "x", "source": "clip.mp4", "detector": "nothing"}
            ).json()["detail"]
        )
        assert client.get("/streams").json() == []


def test_an_alert_stands_while_a_camera_is_away(service):
    with service.client("engineer") as client:
        client.post("/streams", json={"id": "away", "source": "rtsp://user:secret@127.0.0.1:9/x"})
        until(lambda: client.get("/monitoring/alerts").json())
        assert (
            "secret" not in client.get("/streams/away").text + client.get("/monitoring/alerts").text
        )
        alert = client.get("/monitoring/alerts").json()[0]
        assert (alert["stream"], alert["metric"], alert["severity"]) == (
            "away",
            "failed",
            "critical",
        )
        assert (
            client.post(
                "/streams/away/signals", json=[{"at_s": 1, "group": 0, "colour": 1}]
            ).status_code
            == 200
        )
        client.delete("/streams/away")
        assert client.get("/monitoring/alerts").json() == []


def test_cameras_outlive_the_service(tmp_path, clip):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "clip.mp4").write_bytes(clip.read_bytes())
    with serving(tmp_path) as running, running.client("engineer") as client:
        client.post("/streams", json={"id": "a", "source": "clip.mp4", "repeat": True})
        client.post("/streams", json={"id": "b", "source": "clip.mp4", "start": False})
    assert (tmp_path / "cameras.json").stat().st_mode & 0o777 == 0o600
    kept = json.loads((tmp_path / "cameras.json").read_text())
    wrong = {
        "0 wrong": {"source": "clip.mp4", "site": {"size": [1, 1]}},
        "1 gone": {"source": "gone.mp4"},
    }
    (tmp_path / "cameras.json").write_text(
        json.dumps(wrong | kept)
    )  # what does not begin must not take the others along
    with serving(tmp_path) as running, running.client("engineer") as client:
        until(
            lambda: (
                {s["id"]: s["state"] for s in client.get("/streams").json()}
                == {"a": "running", "b": "stopped"}
            )
        )
        assert set(json.loads((tmp_path / "cameras.json").read_text())) == {*wrong, *kept}


def test_a_camera_knows_what_the_signals_of_its_street_show(tmp_path):
    def streets(tell, intake):
        service = StreetService(tell, intake)
        changes = {
            "street": {"scenario": "cologne1"},
            "loop": {"speed_factor": 20.0},
            "recovery": {"folder": str(tmp_path / "run")},
        }
        service.start("headway", Task(overridden(Settings(), changes)))
        return service

    def right(stream, live):
        """What the stream knows of this moment is what the street told last."""
        colours = live.colours.copy()
        return len(colours) > 5 and {
            g: (stream.signals.state_at(g, time.time() + 1.0) or (0,))[0] for g in colours
        } == {g: c for g, (_, c) in colours.items()}

    with (
        camera(scene_frames(along()), repeat=True) as address,
        serving(tmp_path, streets) as running,
        running.client("engineer") as client,
    ):
        assert (
            client.post(
                "/streams", json={"id": "file", "source": "x.mp4", "street": "headway"}
            ).status_code
            == 422
        )
        assert (
            "There are: headway"
            in client.post(
                "/streams", json={"id": "a", "source": address, "street": "nowhere"}
            ).json()["detail"]
        )
        live = running.app.state.services.street_service.streets["headway"]
        until(lambda: len(live.colours) > 5)
        assert (
            client.post(
                "/streams", json={"id": "a", "source": address, "street": "headway"}
            ).status_code
            == 201
        )
        stream = running.app.state.services.camera_service.manager.streams["a"]
        assert right(stream, live)
        before = dict(live.colours)
        until(lambda: stream.processed > 10 and live.colours != before and right(stream, live))
        client.put("/streams/a/site", json=SITE)
        until(lambda: right(stream, live))
        client.post("/streams/a/stop")
        client.post("/streams/a/start")
        until(lambda: right(stream, live))
