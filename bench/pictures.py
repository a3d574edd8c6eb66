"""Pictures: the pipeline beside the bare network, many streams, and violations into and out of the
record.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from headway.analytics import violations as asked
from headway.analytics.violations import Span
from headway.sensing.pipeline import Perception, frame_results
from headway.sensing.traffic.site import Site
from headway.service.camera_streams import StreamManager, StreamSettings
from headway.store import Intake, open_database
from headway.vision.detection.detectors import OnnxDetector
from headway.vision.frames.sources import FrameSource, SourceSettings

DATA = Path(os.environ.get("HEADWAY_DATA", "../shared/data"))
BEGINS = datetime(2026, 1, 10, 7, 40, tzinfo=UTC)  # of a window that cuts hours at both ends
CLIP, MODEL = DATA / "video" / "junction-cars-truck.mp4", DATA / "models" / "yolox_nano.onnx"


# Places of the real clip's road, about: enough for speeds, lanes and rules to be worked at, not for
# their figures to be true.
SITE = {
    "size": [800, 600],
    "points": [
        {"px": [100, 560], "m": [0, 0]}, {"px": [700, 560], "m": [14, 0]},
        {"px": [620, 200], "m": [14, 40]}, {"px": [220, 200], "m": [0, 40]},
    ],
    "lines": [{"name": "north", "px": [[80, 400], [760, 400]], "stop": True, "group": 0},
        {"name": "south", "px": [[80, 250], [760, 250]]}],
    "zones": [
        {"name": "left", "px": [[60, 590], [400, 590], [400, 180], [200, 180]]},
        {"name": "right", "px": [[400, 590], [740, 590], [640, 180], [400, 180]],
            "heading": [[500, 500], [500, 300]]},
        {"name": "box", "kind": "box", "px": [[200, 300], [600, 300], [600, 420], [200, 420]]},
    ],
    "rules": {"limit_kmh": 10.0},
}  # fmt: skip


def pipeline(rounds: int = 9) -> None:
    """Frames/s from file to tracks, counts and violations / bare onnxruntime inference, same
    threads. To reach: 0.85.
    """
    import onnxruntime as ort

    threads = len(os.sched_getaffinity(0))
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    bare = ort.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])
    blob = np.random.default_rng(0).uniform(0, 255, (1, 3, 416, 416)).astype(np.float32)
    detector = OnnxDetector(MODEL, threads=threads)
    ratios = []
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(60):
            bare.run(None, {"images": blob})
        inference = 60 / (time.perf_counter() - begun)
        begun = time.perf_counter()
        perception = Perception("bench", Site.from_tree(SITE), 20.0)
        violations = 0
        for result in frame_results(FrameSource(SourceSettings(str(CLIP))), detector, perception):
            violations += len(result.violations)
        ratios.append(60 / (time.perf_counter() - begun) / inference)
    side_by_side = inference_alone(threads)
    print(
        f"{ratios[-1] * inference:.0f} frames/s, {violations} violations with their "
        f"images; / bare inference with {threads} threads ({inference:.0f}/s): "
        f"{np.median(ratios):.2f} (median of {rounds})"
    )
    print(
        f"a frame a thread, {threads} side by side, nothing else: {side_by_side:.0f}/s; "
        f"the pipeline comes to {ratios[-1] * inference / side_by_side:.2f} of it"
    )


def inference_alone(threads: int) -> float:
    """Frames/s of bare sessions of one thread each, side by side."""
    from concurrent.futures import ThreadPoolExecutor

    import onnxruntime

    blob = np.zeros((1, 3, 416, 416), np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(str(MODEL), options) for _ in range(threads)]
    with ThreadPoolExecutor(len(sessions)) as pool:
        begun = time.perf_counter()
        for done in [
            pool.submit(sessions[k % len(sessions)].run, None, {"images": blob}) for k in range(120)
        ]:
            done.result()
        return 120 / (time.perf_counter() - begun)


FOUR = """
import json, sys, time
from pathlib import Path
from headway.sensing import Site
from headway.vision.frames.sources import SourceSettings
from headway.service.camera_streams import StreamManager, StreamSettings
clip, names, seconds = sys.argv[1], sys.argv[2].split(","), float(sys.argv[3])
site = Site.from_tree(json.loads(sys.argv[4]))
manager = StreamManager()
for k in range(4):
    source = SourceSettings(clip, paced=True, repeat=True, rate_hz=15.0)
    manager.add(StreamSettings(f"c{k}", source, names[k % len(names)], site))
    manager.start(f"c{k}")
held = []
for _ in range(40):
    time.sleep(seconds / 40)
    held.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6)
print(json.dumps({"states": [s.state() for s in manager.streams.values()], "mb": held}))
manager.close()
"""


def four(names: str, seconds: float) -> tuple[list[dict[str, Any]], list[float]]:
    """Four sources of 800 x 600 at 15 frames/s in a process of their own, with speeds and rules:
    their states, and the memory held at 40 times, MB.
    """
    arguments = [sys.executable, "-c", FOUR, str(CLIP), names, str(seconds), json.dumps(SITE)]
    found = json.loads(
        subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.splitlines()[
            -1
        ]
    )
    return found["states"], found["mb"]


def streams(seconds: float = 40.0) -> None:
    """Four sources at 15 frames/s: drops, rates, latency, memory. To reach: motion 1 % drops, 500
    MB; the network fair, two frame times.
    """
    for name in ("motion", str(MODEL)):
        states, held = four(name, seconds)
        drops = [s["dropped"] / s["received"] for s in states]
        rates, late = [s["rate_hz"] for s in states], [s["latency_p95_ms"] for s in states]
        print(
            f"{Path(name).name}: drops {max(drops):.2%} at most, rates {min(rates):.1f} to "
            f"{max(rates):.1f}/s, latency p95 {max(late):.0f} ms; "
            f"at most {max(held):.0f} MB"
        )


def hour(seconds: float = 3600.0) -> None:
    """Memory of four sources over an hour, two by motion and two by the network, with violations
    all the time. To reach: 500 MB, no growth.
    """
    states, held = four(f"motion,{MODEL}", seconds)
    quarters = [float(np.median(part)) for part in np.array_split(np.array(held), 4)]
    done, told = sum(s["processed"] for s in states), sum(s["violations"] for s in states)
    drops = sum(s["dropped"] for s in states) / sum(s["received"] for s in states)
    print(
        f"{seconds / 60:.0f} minutes, {done:,} pictures, {told:,} violations, "
        f"{drops:.2%} dropped: at most {max(held):.0f} MB; median by quarters "
        + ", ".join(f"{q:.1f}" for q in quarters)
        + f" MB: {quarters[3] / quarters[1] - 1:+.1%} from the second to the last"
    )


def violations(count: int = 1_000_000) -> None:
    """Violations recorded a second, with pictures; questions over a million of them. To reach:
    1,000/s; 100 ms.
    """
    random, picture = np.random.default_rng(0), "\\x" + os.urandom(20_000).hex()
    with TemporaryDirectory() as folder:
        database = open_database(Path(folder))
        intake = Intake(database, Path(folder))
        begun = time.perf_counter()
        for _ in range(20):
            ids = [str(uuid.UUID(bytes=random.bytes(16), version=4)) for _ in range(100)]
            intake.write(
                "violation",
                [
                    (
                        i,
                        "2026-11-21T10:00:00Z",
                        "north",
                        "speeding",
                        0.99,
                        json.dumps({"speed_kmh": 71.0}),
                        "seal",
                    )
                    for i in ids
                ],
            )
            intake.write("violation_picture", [(i, k, 1.0, picture) for i in ids for k in range(3)])
        rate = 2000 / (time.perf_counter() - begun)
        database.execute(
            "INSERT INTO violation (id, at, device, rule, data, confidence, seal) SELECT "
            "gen_random_uuid(), timestamptz '2026-01-01' + k * interval '20 seconds', "
            "'d' || k % 40, (ARRAY['speeding', 'red_light', 'wrong_way'])[1 + k % 3], "
            f"'{{}}', 0.9, '' FROM generate_series(1, {count}) k"
        )
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as held:
            held.exec_driver_sql("VACUUM ANALYZE")
        took = {}
        gc.freeze()  # as `headway serve` does
        for name, ask in (
            ("trends", asked.trends),
            ("hotspots", asked.hotspots),
            ("summary", asked.summary),
            ("newest", asked.newest),
        ):
            minutes = Span(begin=BEGINS, end=BEGINS + timedelta(days=100, minutes=20))
            for span in (Span(), Span(device="d7"), Span(rule="red_light"), minutes):
                begun = time.perf_counter()
                ask(database, span)
                took[name] = max(took.get(name, 0.0), (time.perf_counter() - begun) * 1e3)
        print(
            f"{rate:,.0f} violations/s with three pictures of 20 kB each; over {count:,}: "
            + ", ".join(f"{k} {v:.0f} ms" for k, v in took.items())
        )
        database.close()


def watched(seconds: float = 30.0) -> None:
    """What monitoring costs: CPU time spent on the stream's states and figures, asked for ten times
    a second, / all else. To reach: 2 %.
    """
    manager = StreamManager()
    manager.add(
        StreamSettings(
            "a",
            SourceSettings(str(CLIP), policy="queue", repeat=True),
            "motion",
            Site.from_tree(SITE),
        )
    )
    manager.start("a")
    stream = manager.streams["a"]
    asked_s = 0.0
    times = 0
    time.sleep(3.0)
    begun = time.process_time()
    begun_s = time.monotonic()
    first = stream.processed
    while time.monotonic() - begun_s < seconds:
        time.sleep(0.1)
        before = time.thread_time()
        stream.state()
        stream.figures()
        asked_s, times = asked_s + time.thread_time() - before, times + 1
    spent, frames = time.process_time() - begun, stream.processed - first
    manager.close()
    print(
        f"{asked_s / times * 1e3:.2f} ms a time, {frames / seconds:.0f} pictures/s "
        f"meanwhile: {asked_s / (spent - asked_s):.2%}"
    )
