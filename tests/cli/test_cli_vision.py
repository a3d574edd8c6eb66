"""Cameras and models from the command line: what each option reaches, what is printed and written,
and what fails how.
"""

from __future__ import annotations

import hashlib
import http.server
import importlib
import json
import signal
import threading
import types
from collections import deque
from pathlib import Path

import pytest

from headway.sensing import MISSING, SensingError

pytestmark = pytest.mark.skipif(bool(MISSING), reason="needs the extra `vision`")
room = importlib.import_module("headway.cli.vision")
SITE = {
    "size": [320, 240],
    "points": [{"px": [x, y], "m": [x / 10.0, (240 - y) / 10.0]}
        for x, y in ((20, 20), (300, 20), (300, 220), (20, 220), (160, 120))],
}  # fmt: skip
FIGURES = {
    "lines": {
        "stop": {"in": {"truck": 1, "car": 12}, "out": {}, "flow_veh_h": 359.6,
            "mean_headway_s": 9.96},
        "far": {"in": {}, "out": {"car": 3}, "flow_veh_h": None, "mean_headway_s": None},
    },
    "lanes": {"l1": {"vehicles": 3, "queue_veh": 2, "occupancy": 0.254, "congestion": "free"}},
}  # fmt: skip


def violation(k):
    from headway.sensing.traffic.evidence import Violation

    return Violation(f"id{k}", 10.0 + k, "d", "speeding", 0.756, {"track": k})


class Source:
    """Stands for a source that is watched: so many frames, with figures put in by hand,
    then how it ends.
    """

    def __init__(self):
        self.frames = 3
        self.length = 30
        self.ends = None
        self.asked = None
        self.error_m = 0.123
        self.figures = FIGURES
        self.violations = 2
        self.bars = []

    def __call__(self, source, model, site, signals, report, seconds, blur, threads):
        self.asked = types.SimpleNamespace(
            source=source, model=model, site=site, signals=signals, seconds=seconds, blur=blur,
            threads=threads, out=report.out,
            evidence=report.evidence, keep_tracks=report.keep_tracks,
        )  # fmt: skip
        self.report, report.runs_on = report, "CUDAExecutionProvider"
        calibration = (
            types.SimpleNamespace(error_m=self.error_m) if self.error_m is not None else None
        )
        report.perception = types.SimpleNamespace(
            measures=types.SimpleNamespace(figures=lambda: self.figures, crossings=[]),
            violation_detector=None,
            site=types.SimpleNamespace(calibration=calibration, uncalibrated="no points"),
        )  # fmt: skip
        for k in range(1, self.frames + 1):
            report.frames = k
            report.tracks, report.violations = 2 * k, self.violations
            report.last_violations = deque(violation(n) for n in range(self.violations))
            yield (
                types.SimpleNamespace(frame=types.SimpleNamespace(at_s=k / 10), tracks=["t"] * k),
                self.length,
            )
        if self.ends is not None:
            raise self.ends


@pytest.fixture
def source(monkeypatch):
    from headway.service import watching

    found = Source()
    monkeypatch.setattr(watching, "watch_source", found)
    times = iter((100.0,))
    monkeypatch.setattr(
        room, "time", types.SimpleNamespace(perf_counter=lambda: next(times, 102.0))
    )
    update = room.Progress.update
    monkeypatch.setattr(
        room.Progress,
        "update",
        lambda self, task, **how: found.bars.append(how) or update(self, task, **how),
    )
    return found


def test_what_was_seen_is_told(headway, source):
    ran = headway("watch", "clip.mp4")
    assert (ran.status, ran.err) == (0, "")
    assert ran.rows == [
        "3 frames in 2.0 s (2/s), 6 tracks, 2 violations",
        "detection ran on CUDAExecutionProvider",
        "calibration: error 0.12 m on the road",
        "line | in | out | veh/h | mean headway s",
        "stop | 12 car, 1 truck | 0 | 360 | 10.0",
        "far | 0 | 3 car",
        "lane | vehicles | queue | occupancy | congestion",
        "l1 | 3 | 2 | 25% | free",
        "violations are candidates for review by a person",
        "10.00 s speeding track 0 confidence 0.76",
        "11.00 s speeding track 1 confidence 0.76",
    ]


def test_without_options_a_source_is_watched_to_its_end(headway, source):
    headway("watch", "rtsp://x")
    assert vars(source.asked) == {
        "source": "rtsp://x", "model": None, "site": None, "signals": None, "seconds": 0.0,
        "blur": True, "threads": 0, "out": None, "evidence": None,
        "keep_tracks": False,
    }  # fmt: skip


def test_each_option_reaches_its_part(headway, source, tmp_path):
    (tmp_path / "site.json").write_text(json.dumps(SITE))
    ran = headway("watch", "a.mp4", "--model", "m.onnx", "--calibration", "site.json", "--signals",
        "s.jsonl", "--out", "o.mp4", "--json", "o.json",
                  "--evidence", "e", "--seconds", "2.5", "--no-blur", "--threads", "3")  # fmt: skip
    assert ran.status == 0, ran.err
    asked = source.asked
    assert (asked.model, asked.signals, asked.out, asked.evidence) == (
        Path("m.onnx"),
        Path("s.jsonl"),
        Path("o.mp4"),
        Path("e"),
    )
    assert (asked.site.size, asked.seconds, asked.blur, asked.threads, asked.keep_tracks) == (
        (320, 240),
        2.5,
        False,
        3,
        True,
    )


def test_without_lines_lanes_or_calibration_that_is_said(headway, source):
    source.figures, source.error_m, source.violations = {"lines": {}, "lanes": {}}, None, 0
    assert headway("watch", "a.mp4").rows == [
        "3 frames in 2.0 s (2/s), 6 tracks, 0 violations",
        "detection ran on CUDAExecutionProvider",
        "no speeds: no points",
    ]


def test_of_many_violations_the_last_twenty_are_told(headway, source):
    source.violations = 22
    rows = headway("watch", "a.mp4").rows
    assert [row.split()[4] for row in rows if "speeding" in row] == [str(k) for k in range(2, 22)]


@pytest.mark.parametrize(("length", "total"), [(30, 30), (0, None)])
def test_the_bar_is_moved_every_fifth_frame(headway, source, length, total):
    source.frames, source.length = 11, length
    headway("watch", "a.mp4")
    assert source.bars == [
        {"completed": k, "total": total,
            "description": f"{k / 10:.1f} s  {k} tracks  2 violations"} for k in (5, 10)
    ]  # fmt: skip


def test_a_fault_is_told_after_what_was_seen_before_it(headway, source, tmp_path):
    source.ends = SensingError("it broke off")
    ran = headway("watch", "a.mp4", "--json", "o.json")
    assert (ran.status, ran.err) == (1, "headway: it broke off\n")
    assert ran.rows[0].startswith("3 frames in")
    assert json.loads((tmp_path / "o.json").read_text())["frames"] == 3
    source.frames = 0
    ran = headway("watch", "a.mp4", "--json", "none.json", "--heat", "none.png")
    assert (ran.status, ran.out.strip(), ran.err) == (1, "", "headway: it broke off\n")
    assert not (tmp_path / "none.json").exists()


def test_who_ends_it_by_hand_is_told_what_was_seen(headway, source):
    source.ends = KeyboardInterrupt()
    ran = headway("watch", "a.mp4")
    assert (ran.status, ran.rows[0][:8]) == (0, "3 frames")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_watch_that_is_stopped_by_others_writes_what_was_seen(headway, source, tmp_path, number):
    """By `timeout`, a service's stop, the end of the terminal."""

    class StoppedError(Exception):
        def __init__(self):
            signal.raise_signal(number)

    source.ends = StoppedError
    before = signal.signal(number, signal.SIG_DFL)  # who runs the tests may ignore it
    try:
        ran = headway("watch", "a.mp4", "--json", "o.json")
    finally:
        signal.signal(number, before)
    assert (ran.status, ran.rows[0][:8]) == (0, "3 frames")
    assert json.loads((tmp_path / "o.json").read_text())["frames"] == 3


def test_a_watch_that_is_ended_before_its_first_frame_has_not_done_what_was_asked(headway, source):
    source.frames, source.ends = 0, KeyboardInterrupt()
    assert headway("watch", "a.mp4", "--json", "o.json").status == 130


@pytest.mark.parametrize(
    "words", [["--seconds", "-0.5"], ["--threads", "-1"], ["--heat", "map.gif"]]
)
def test_what_is_below_its_bound_is_a_wrong_call(headway, source, words):
    ran = headway("watch", "a.mp4", *words)
    assert (ran.status, words[0] in ran.err, source.asked) == (2, True, None)
    assert headway("watch").status == 2


def test_a_site_that_is_none_fails(headway, source, tmp_path):
    (tmp_path / "site.json").write_text("{}")
    ran = headway("watch", "a.mp4", "--calibration", "site.json")
    assert (ran.status, "site.json" in ran.err, source.asked) == (1, True, None)


@pytest.mark.slow
def test_a_film_is_watched_and_all_of_it_written(headway, tmp_path):
    """A box crosses the picture at 6 m/s, over a line in its middle."""
    from tests.sensing.scenes import along, film

    film(tmp_path / "a.mp4", along(speed_px=60.0, start=0), 4.0)
    (tmp_path / "site.json").write_text(json.dumps(SITE | {"rules": {"limit_kmh": 10.0}}))
    ran = headway(
        "watch",
        "a.mp4",
        "--calibration",
        "site.json",
        "--json",
        "o.json",
        "--heat",
        "h.jpg",
        "--evidence",
        "e",
        "--out",
        "o.mp4",
    )
    assert ran.status == 0, ran.err
    found = json.loads((tmp_path / "o.json").read_text())
    assert (
        found["source"],
        found["frames"],
        len(found["tracks"]),
        found["calibration"]["error_m"] < 0.01,
    ) == ("a.mp4", 60, 1, True)
    assert ran.rows[0].startswith("60 frames in ")
    assert ran.rows[0].endswith(f" 1 tracks, {len(found['violations'])} violations")
    assert {v["rule"] for v in found["violations"]} == {"speeding"}
    assert (tmp_path / "h.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    assert (tmp_path / "o.mp4").stat().st_size > 1000
    assert len(list((tmp_path / "e").glob("*.json"))) == len(found["violations"])


@pytest.fixture
def shot(monkeypatch):
    """What would be rendered."""
    from headway.rendered import clip

    asked = []

    def render_clip(how, tell):
        asked.append(how)
        tell(7)
        return {
            "video": Path("[v].mp4"),
            "site": Path("v.site.json"),
            "ground_truth": Path("v.ground_truth.jsonl"),
        }

    monkeypatch.setattr(clip, "render_clip", render_clip)
    return asked


def test_a_camera_is_rendered_as_asked(headway, shot, monkeypatch):
    from headway.rendered.clip import ClipSettings

    bars, totals = [], []
    update, add = room.Progress.update, room.Progress.add_task
    monkeypatch.setattr(
        room.Progress,
        "update",
        lambda self, task, **how: bars.append(how) or update(self, task, **how),
    )
    monkeypatch.setattr(
        room.Progress,
        "add_task",
        lambda self, what, total: totals.append((what, total)) or add(self, what, total=total),
    )
    ran = headway("camera")
    assert ran.status == 0, ran.err
    assert ran.out.strip().splitlines() == [
        "video: [v].mp4", "site: v.site.json", "ground truth: v.ground_truth.jsonl",
        "try: headway watch [v].mp4 --calibration v.site.json --signals v.ground_truth.jsonl",
    ]  # fmt: skip
    ran = headway("camera", "--scenario", "cologne3", "--junction", "j", "--out", "o.mp4",
        "--seconds", "1", "--begin", "30", "--rate", "12.5", "--seed", "3",
                  "--height", "50", "--tilt", "20", "--reach", "40", "--violators", "0.5",
                  "--night", "--rain")  # fmt: skip
    assert shot == [
        ClipSettings(
            "cologne1",
            "",
            Path("clip.mp4"),
            60.0,
            0.0,
            10.0,
            1,
            90.0,
            10.0,
            60.0,
            0.0,
            False,
            False,
        ),
        ClipSettings(
            "cologne3", "j", Path("o.mp4"), 1.0, 30.0, 12.5, 3, 50.0, 20.0, 40.0, 0.5, True, True
        ),
    ]
    assert bars == [{"completed": 7}] * 2
    assert totals == [("cologne1 ", 600), ("cologne3 j", 12)]


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        ("--seconds", ["1"], ["0.9"]), ("--begin", ["0"], ["-0.1"]),
        ("--height", ["5", "500"], ["4.9", "500.5"]), ("--tilt", ["0", "75"], ["-0.5", "75.5"]),
        ("--reach", ["10", "500"], ["9.9", "500.5"]),
        ("--violators", ["0", "0.5"], ["-0.1", "0.6"]),
    ],
)  # fmt: skip
def test_a_camera_keeps_within_its_bounds(headway, shot, option, good, bad):
    assert [headway("camera", option, value).status for value in good] == [0] * len(good)
    assert [headway("camera", option, value).status for value in bad] == [2] * len(bad)
    assert len(shot) == len(good)


BODY = b"a model" * 100


@pytest.fixture
def known(monkeypatch):
    """A catalogue of one small model, and a server that has it; yields the server's answers."""
    from headway.vision.detection import models

    class Door(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = answers.pop(0) if answers else BODY
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    answers = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/m.onnx"
    model = models.ModelFile(
        "tiny", url, "Apache-2.0", hashlib.sha256(BODY).hexdigest(), "seven letters"
    )
    monkeypatch.setattr(models, "MODELS", (model,))
    yield types.SimpleNamespace(model=model, answers=answers, url=url)
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_is_fetched_listed_and_verified(headway, known, tmp_path, monkeypatch):
    bars, update = [], room.Progress.update
    monkeypatch.setattr(
        room.Progress,
        "update",
        lambda self, task, **how: bars.append(how) or update(self, task, **how),
    )
    head = "model | installed | licence | about | sha256"
    about = f"Apache-2.0 | seven letters | {known.model.sha256[:16]}..."
    assert headway("models", "list").rows == [head, f"tiny | no | {about}"]
    ran = headway("models", "fetch", "tiny")
    assert (ran.status, ran.out.strip()) == (0, "data/models/tiny.onnx: checksum verified")
    assert (tmp_path / "data" / "models" / "tiny.onnx").read_bytes() == BODY
    assert bars[-1] == {"completed": 700, "total": 700}
    assert headway("models", "list").rows == [head, f"tiny | data/models/tiny.onnx | {about}"]
    ran = headway("models", "verify", "tiny")
    assert (ran.status, ran.out) == (0, "checksum verified\n")
    (tmp_path / "data" / "models" / "tiny.onnx").write_bytes(b"x")
    ran = headway("models", "verify", "tiny")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("headway: data/models/tiny.onnx: its sha256 is ")


def test_a_model_may_come_from_elsewhere_and_lie_elsewhere(headway, known, tmp_path, monkeypatch):
    from headway.vision.detection import models

    monkeypatch.setattr(
        models,
        "MODELS",
        (models.ModelFile("tiny", "http://127.0.0.1:9/", "x", known.model.sha256, "y"),),
    )
    assert headway("models", "fetch", "tiny").status == 1
    ran = headway("models", "fetch", "tiny", "--folder", "[m]", "--url", known.url)
    assert (ran.status, ran.out.strip()) == (0, "[m]/tiny.onnx: checksum verified")
    assert headway("models", "verify", "tiny", "--folder", "[m]").status == 0
    assert "tiny | [m]/tiny.onnx | x | y |" in headway("models", "list", "--folder", "[m]").rows[1]
    ran = headway("models", "verify", "tiny")
    assert (ran.status, ran.err) == (
        1,
        "headway: data/models/tiny.onnx: it is not there. Fetch it: `headway models fetch tiny`\n",
    )


def test_what_is_not_the_known_file_is_refused(headway, known, tmp_path):
    known.answers.append(b"somebody else's")
    ran = headway("models", "fetch", "tiny")
    assert (ran.status, ran.out.strip(), "the file received has the sha256" in ran.err) == (
        1,
        "",
        True,
    )
    assert not list((tmp_path / "data" / "models").iterdir())


@pytest.mark.parametrize("words", [["fetch", "huge"], ["verify", "huge"]])
def test_an_unknown_model_fails(headway, known, words):
    ran = headway("models", *words)
    assert (ran.status, ran.err) == (
        1,
        "headway: no model 'huge'. There are: tiny; or give a file of your own.\n",
    )


@pytest.mark.parametrize("words", [["watch", "a.mp4"], ["camera"]])
def test_a_missing_extra_is_reported(headway, monkeypatch, words):
    def missing():
        raise SensingError("make vision")

    monkeypatch.setattr(room, "need_vision", missing)
    ran = headway(*words)
    assert (ran.status, ran.err) == (1, "headway: make vision\n")
