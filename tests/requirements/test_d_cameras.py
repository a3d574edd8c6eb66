"""Rows D1, D2 and D4 to D7: what a camera's pipeline takes, how it is set up and watched over, and
who is told.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.ports import free_port
from tests.sensing.scenes import SITE, along, film
from tests.waiting import until
from websockets.sync.client import connect

from headway.sensing import MISSING

pytestmark = pytest.mark.skipif(bool(MISSING), reason="needs the extra `vision`")
DATA = Path(os.environ.get("HEADWAY_DATA", "../shared/data"))
CLIP, MODEL = DATA / "video/junction-cars-truck.mp4", DATA / "models/yolox_nano.onnx"
needs_data = pytest.mark.skipif(not CLIP.exists(), reason=f"needs {CLIP}")
MB = 10**6


# Of the wide clip, roughly: enough for speeds and a limit that all exceed.
ROAD = {
    "size": [1280, 720],
    "points": [
        {"px": px, "m": m}
        for px, m in (
            ([300, 300], [0.0, 40.0]),
            ([980, 300], [14.0, 40.0]),
            ([1200, 700], [14.0, 0.0]),
            ([80, 700], [0.0, 0.0]),
            ([640, 700], [7.0, 0.0]),
        )
    ],
    "rules": {"limit_kmh": 10.0},
}


@pytest.fixture(scope="module")
def wide_clip(tmp_path_factory):
    """The real clip in 1280 x 720."""
    import cv2

    from headway.sensing.output.overlay import VideoWriter
    from headway.vision.frames.sources import FrameSource, SourceSettings

    path = tmp_path_factory.mktemp("wide") / "wide.mp4"
    writer = VideoWriter(path, 20.0)
    for frame in FrameSource(SourceSettings(str(CLIP), policy="queue")).frames():
        writer.write(np.asarray(cv2.resize(frame.image, (1280, 720)), np.uint8))
    writer.close()
    return path


def peak_bytes(pid):
    """Most resident memory of a process so far; None once it has ended. Not `ru_maxrss`, in which
    the memory of whoever started it counts.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return None


def watch(*arguments):
    """Runs `headway watch ARGUMENTS` to its end: (most resident memory in bytes, output)."""
    command = [sys.executable, "-m", "headway", "watch", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, peak_bytes(process.pid) or 0)
        time.sleep(0.02)
    with process.stdout as stream:
        output = stream.read()
    assert process.returncode == 0, output
    return peak, output


@needs_data
@pytest.mark.row("D1")
def test_d1_memory_of_watch_and_of_a_service_with_four_cameras(wide_clip, serve, figures):
    """`headway watch CLIP --model FILE`, and `headway serve` with four `POST /streams`, each with a
    calibrated site and a speed limit, for a minute: detection, tracking, speeds and violations
    below 500 MB.
    """
    for name, more in (("network", ("--model", str(MODEL))), ("motion", ())):
        peak, output = watch(str(wide_clip), *more)
        rate_hz = float(re.search(r"60 frames in [\d.]+ s \((\d+)/s\)", output)[1])
        assert peak < 500 * MB
        figures.add(f"watch, 1280 x 720, {name}: peak", peak / MB, "MB", "< 500 MB")
        figures.add(f"watch, 1280 x 720, {name}: rate", rate_hz, "frames/s", "> 5 frames/s")
    with serve("--scenario", "", "--per-minute", "0") as product, product.http() as client:
        for folder, file in (("media", wide_clip), ("models", MODEL)):
            (product.folder / folder).mkdir(exist_ok=True)
            shutil.copy(file, product.folder / folder / file.name)
        for name in "abcd":
            camera = {"id": name, "source": "wide.mp4", "repeat": True, "detector": MODEL.stem}
            client.post("/streams", json=camera | {"site": ROAD}).raise_for_status()
        until(lambda: all(s["processed"] > 15 for s in client.get("/streams").json()), 90.0)
        time.sleep(60.0)
        found = client.get("/analytics/violations?limit=1000").json()

        def accused():
            return {v["device"] for v in client.get("/analytics/violations?limit=1000").json()}

        until(lambda: accused() == set("abcd"))  # a busy machine is slower than a minute
        peak = peak_bytes(product.process.pid)
    figures.add("violations of the four cameras in a minute", len(found))
    name = "service with four cameras of 1280 x 720, network: peak"
    figures.add(name, peak / MB, "MB", "< 500 MB")
    assert peak < 500 * MB


@pytest.mark.row("D2")
def test_d2_a_camera_is_set_up_by_route(product, tmp_path, figures):
    """`POST /streams` and `PUT /streams/{id}/settings` with attempts, delay, buffer, rate,
    confidence and analyses; the settings' section `cameras` for all.
    """
    (product.folder / "media").mkdir(exist_ok=True)
    film(product.folder / "media" / "d2.mp4", along(speed_px=60.0), 8.0, rate=20.0)
    with product.http() as client:
        gone = {"id": "d2-gone", "source": f"rtsp://127.0.0.1:{free_port()}/x", "attempts": 2,
                "delay_s": 0.1}  # fmt: skip
        client.post("/streams", json=gone).raise_for_status()
        until(lambda: client.get("/streams/d2-gone").json()["state"] == "failed")
        assert "(2 attempts)" in client.get("/streams/d2-gone").json()["fault"]
        camera = {"id": "d2", "source": "d2.mp4", "repeat": True, "site": SITE}
        client.post("/streams", json=camera).raise_for_status()
        state = lambda: client.get("/streams/d2").json()  # noqa: E731
        until(lambda: state()["processed"] > 100, 60.0)
        figures.add("a stream of 20 frames/s", state()["rate_hz"], "frames/s", "> 15 frames/s")
        drops = state()["dropped"] / state()["received"] * 100
        figures.add("its drops", drops, "%", "< 10 %")
        changed = {"rate_hz": 5.0, "speed": False, "violations": False, "buffer": 4}
        found = client.put("/streams/d2/settings", json=changed).json()
        assert changed.items() <= found.items()
        until(lambda: state()["processed"] > 15, 60.0)
        assert state()["skipped"] > 0
        assert {t["speed_kmh"] for t in state()["tracks"]} <= {None}
        assert client.put("/streams/d2/settings", json={"buffer": 0}).status_code == 422
        for name in ("d2", "d2-gone"):
            client.delete(f"/streams/{name}").raise_for_status()


@pytest.mark.row("D4")
def test_d4_rules_of_ones_own_on_figures_of_the_machine(product, figures):
    """`POST /monitoring/alerts/rules` with metric, operator, threshold and severity; an unknown
    metric is refused with the known ones; `GET /monitoring/alerts` lists what is open.
    """
    rule = {"name": "d4", "metric": "memory_share", "operator": ">", "threshold": 0.0,
            "severity": "error"}  # fmt: skip
    path = "/monitoring/alerts/rules"
    with product.http() as client:
        client.post(path, json=rule).raise_for_status()
        (alert,) = [a for a in client.get("/monitoring/alerts").json() if a["rule"] == "d4"]
        assert (alert["stream"], alert["severity"]) == ("", "error")
        system = client.get("/monitoring/system").json()
        assert system["memory_total_bytes"] > system["headway_memory_bytes"] > 0
        assert system["headway_processes"] > 1  # the server and its streets
        refused = client.post(path, json=rule | {"name": "x", "metric": "speed"})
        assert (refused.status_code, "Known: fps, " in refused.text) == (422, True)
        client.delete(f"{path}/d4").raise_for_status()
        assert not [a for a in client.get("/monitoring/alerts").json() if a["rule"] == "d4"]
        took = []
        for _ in range(10):
            begun = time.perf_counter()
            client.get("/monitoring/system").raise_for_status()
            took.append((time.perf_counter() - begun) * 1e3)
    figures.add("collection, median of ten requests", float(np.median(took)), "ms", "< 50 ms")


@pytest.mark.row("D5")
def test_d5_windows_of_violations_to_the_minute(product, figures):
    """`GET /analytics/violations/trends?hours=1` and the like: a window begun within the hour
    counts what is in it, as a count by hand from the list does.
    """
    (product.folder / "media").mkdir(exist_ok=True)
    film(product.folder / "media" / "d5.mp4", along(speed_px=120.0), 5.0)
    site = SITE | {"rules": {"limit_kmh": 10.0}}
    with product.http() as client:
        camera = {"id": "d5", "source": "d5.mp4", "site": site, "paced": False, "repeat": True}
        client.post("/streams", json=camera).raise_for_status()
        listed = lambda: client.get("/analytics/violations?device=d5&limit=1000").json()  # noqa: E731
        until(lambda: len(listed()) >= 3, 60.0)
        client.delete("/streams/d5").raise_for_status()
        until(lambda n=[-1]: n[0] == len(listed()) or n.__setitem__(0, len(listed())))
        times = sorted(datetime.fromisoformat(v["at"]) for v in listed())
        begin, end = times[1], times[-1] + timedelta(seconds=1)
        window = {"device": "d5", "begin": begin.isoformat(), "end": end.isoformat()}
        by_hand = sum(begin <= at < end for at in times)
        took = []
        for name in ("trends", "summary", "hotspots"):
            asked = time.perf_counter()
            found = client.get(f"/analytics/violations/{name}", params=window).json()
            took.append((time.perf_counter() - asked) * 1e3)
            assert (found[0] if name == "hotspots" else found)["n"] == by_hand
        last = {
            "device": "d5",
            "hours": 1,
            "end": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
        }
        assert client.get("/analytics/violations/trends", params=last).json()["n"] == 0
        assert {(v["state"], v["confidence"] <= 0.9) for v in listed()} == {("open", True)}
        review = client.post(
            f"/analytics/violations/{listed()[0]['id']}/review", json={"state": "dismissed"}
        )
        assert review.json()["state"] == "dismissed"
    figures.add("the slowest of three queries", max(took), "ms", "< 100 ms")


@pytest.mark.row("D6")
def test_d6_the_sockets_of_monitoring_and_alerts(product):
    """`WS /ws/monitoring` sends `monitoring.system` and `monitoring.performance`, `WS /ws/alerts`
    the alerts on cameras and machine; the messages are those of docs/api.md.
    """
    address = product.url.replace("http", "ws")
    rule = {"name": "d6", "metric": "disk_free_bytes", "operator": ">", "threshold": 0.0}
    with product.http() as client:
        with connect(f"{address}/ws/monitoring?kinds=monitoring.&token={product.token}") as socket:
            told = [json.loads(socket.recv(30.0))["data"] for _ in range(2)]
        assert {m["kind"] for m in told} == {"monitoring.system", "monitoring.performance"}
        system = next(m for m in told if m["kind"] == "monitoring.system")
        asked = client.get("/monitoring/system").json()
        assert system.keys() == asked.keys() | {"kind", "at"}
        whole = {k: v for m in told for k, v in m.items()}
        assert {"cpu_share", "memory_bytes", "process", "streams", "dropped_share"} <= whole.keys()
        with connect(f"{address}/ws/alerts?kinds=machine.&token={product.token}") as socket:
            client.post("/monitoring/alerts/rules", json=rule).raise_for_status()
            opened = json.loads(socket.recv(30.0))["data"]
            client.delete("/monitoring/alerts/rules/d6").raise_for_status()
            closed = json.loads(socket.recv(30.0))["data"]
        assert (opened["kind"], closed["kind"]) == ("machine.alert.opened", "machine.alert.closed")
        assert (opened["rule"], opened["id"]) == ("d6", closed["id"])
        for path in ("/streams", "/monitoring/system", "/monitoring/performance",
                     "/monitoring/alerts", "/analytics/violations/trends",
                     "/analytics/violations/hotspots",
                     "/analytics/violations/summary"):  # fmt: skip
            assert client.get(path).status_code == 200, path
    document = Path("docs/api.md").read_text(encoding="utf-8")
    assert all(f"`{kind}`" in document for kind in (opened["kind"], *(m["kind"] for m in told)))


class BackEnd:
    """A web server that keeps what it is sent: (headers, body)."""

    def __init__(self):
        self.taken = taken = []

        class Door(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                taken.append((dict(self.headers), json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.mark.row("D7")
def test_d7_a_violation_is_sent_to_a_back_end(serve, tmp_path, figures):
    """Settings `notify.webhooks` with a bearer token: each violation is sent, with severity and the
    path of its image, which an operator can fetch.
    """
    back_end, token = BackEnd(), "token-of-the-back-end"
    config = tmp_path / "settings.yaml"
    hook = {"url": back_end.url, "secret": "sixteen letters!", "bearer_token": token}
    config.write_text(json.dumps({"notify": {"webhooks": [hook]}}))
    try:
        with serve("--scenario", "", "--config", str(config)) as product, product.http() as client:
            (product.folder / "media").mkdir(exist_ok=True)
            film(product.folder / "media" / "d7.mp4", along(speed_px=120.0), 5.0)
            site = SITE | {"rules": {"limit_kmh": 10.0}}
            camera = {"id": "d7", "source": "d7.mp4", "site": site, "paced": False}
            client.post("/streams", json=camera).raise_for_status()
            until(lambda: back_end.taken, 60.0)
            headers, body = back_end.taken[0]
            until(lambda: client.get("/analytics/violations?device=d7").json())
            image = client.get(body["data"]["image_url"])
    finally:
        back_end.server.shutdown()
        back_end.server.server_close()
    assert body["kind"] == "violation.speeding"
    assert headers["Authorization"] == f"Bearer {token}"
    assert body["data"]["severity"] in ("warning", "critical")
    assert (body["data"]["device"], body["data"]["state"]) == ("d7", "open")
    assert image.headers["content-type"] == "image/jpeg"
    assert image.content.startswith(b"\xff\xd8")
    figures.add("size of the image of a violation", len(image.content) / 1024, "KiB")


@pytest.mark.row("D7")
def test_d7_a_dead_camera_reaches_webhook_mail_socket_and_log(serve, tmp_path, figures):
    """Settings `notify` with a webhook (bearer token) and a mail server: `camera.dead` within 30 s,
    with severity, camera and since when.
    """
    from aiosmtpd.controller import Controller

    letters, back_end, token = [], BackEnd(), "token-of-the-back-end"

    class Office:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802
            letters.append(envelope.content.decode())
            return "250 taken"

    office = Controller(Office(), hostname="127.0.0.1", port=free_port())
    office.start()
    config = tmp_path / "settings.yaml"
    hook = {"url": back_end.url, "secret": "sixteen letters!", "bearer_token": token}
    mail = {"host": "127.0.0.1", "port": office.port, "sender": "h@example.org",
            "to": ["duty@example.org"], "security": "none"}  # fmt: skip
    config.write_text(json.dumps({"notify": {"webhooks": [hook], "mail": mail}}))
    try:
        with serve("--scenario", "", "--config", str(config)) as product, product.http() as client:
            address = f"{product.url.replace('http', 'ws')}/ws/alerts?token={product.token}"
            with connect(address) as socket:
                begun = time.monotonic()
                camera = {"id": "d7", "source": f"rtsp://127.0.0.1:{free_port()}/x"}
                client.post("/streams", json=camera).raise_for_status()
                message = json.loads(socket.recv(30.0))["data"]
                while message["kind"] != "camera.dead":
                    message = json.loads(socket.recv(30.0))["data"]
                until(
                    lambda: letters and any(b["kind"] == "camera.dead" for _, b in back_end.taken)
                )
                took = time.monotonic() - begun
            log = "\n".join(product.lines)
    finally:
        office.stop()
        back_end.server.shutdown()
        back_end.server.server_close()
    assert (message["camera"], message["severity"]) == ("d7", "critical")
    (told,) = [(h, b["data"]) for h, b in back_end.taken if b["kind"] == "camera.dead"]
    assert (told[0]["Authorization"], told[1]) == (f"Bearer {token}", message)
    assert len(letters) == 1
    assert "Subject: Headway: camera.dead at d7 (critical)" in letters[0]
    assert "a camera is dead" in log
    assert token not in log
    assert took < 30.0
    figures.add("from its last image (its start) to webhook, mail and socket", took, "s", "< 30 s")
