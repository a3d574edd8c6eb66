"""Rows D3, D8 and D9: several cameras at once, what they run on, and what is found beyond
violations.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from tests.sensing.scenes import SITE, along, film
from tests.waiting import until

from headway.sensing import MISSING

pytestmark = pytest.mark.skipif(bool(MISSING), reason="needs the extra `vision`")
TREE = Path(__file__).parents[2]
MODEL = Path(os.environ.get("HEADWAY_DATA", "../shared/data")) / "models/yolox_nano.onnx"
# best first
PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "OpenVINOExecutionProvider",
             "CPUExecutionProvider")  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A vehicle from left to right at 60 pixels a second, 6 m/s, after a second of empty road."""
    return film(tmp_path_factory.mktemp("clip") / "clip.mp4", along(speed_px=60.0), 8.0)


@pytest.mark.row("D3")
def test_d3_four_cameras_by_id(product, clip, figures):
    """`POST /streams`, `GET /streams` and `/streams/{id}`: each camera by itself; one that cannot
    be read leaves the others alone.
    """
    (product.folder / "media").mkdir(exist_ok=True)
    shutil.copy(clip, product.folder / "media" / "clip.mp4")
    (product.folder / "media" / "broken.mp4").write_bytes(b"no film")
    names = ("north", "east", "south", "west")
    with product.http() as client:
        for name in (*names, "broken"):
            source = "broken.mp4" if name == "broken" else "clip.mp4"
            camera = {"id": f"d3-{name}", "source": source, "repeat": True}
            client.post("/streams", json=camera).raise_for_status()
        of = {n: lambda n=n: client.get(f"/streams/d3-{n}").json() for n in (*names, "broken")}
        until(lambda: all(of[n]()["processed"] > 60 for n in names), 60.0)
        assert of["broken"]()["state"] == "failed"
        rates = [of[n]()["rate_hz"] for n in names]
        drops = [of[n]()["dropped"] / of[n]()["received"] for n in names]
        for name in (*names, "broken"):
            client.delete(f"/streams/d3-{name}").raise_for_status()
        assert not [s for s in client.get("/streams").json() if s["id"].startswith("d3-")]
    figures.add("four cameras of 15 frames/s, 320 x 240: the slowest", min(rates), "frames/s")
    figures.add("their drops, the most", max(drops) * 100, "%", "< 10 %")


@pytest.mark.row("D9")
def test_d9_flow_prediction_heat_map_and_overlay(headway, tmp_path):
    """`headway watch CLIP --json --out --heat`: flow and its prediction, queue and congestion by
    lane, a heat map, and the video with its overlay.
    """
    drive = along(speed_px=60.0)  # 6 m/s; one every 12 s
    clip = film(tmp_path / "clip.mp4", lambda t: drive(t % 12.0), seconds=200.0, rate=8.0)
    lane = {
        "name": "lane", "kind": "lane", "px": [[20, 80], [300, 80], [300, 140], [20, 140]],
        "heading": [[20, 110], [300, 110]],
    }  # fmt: skip
    site = SITE | {"lines": [{"name": "line", "px": [[160, 60], [160, 200]]}], "zones": [lane]}
    (tmp_path / "site.json").write_text(json.dumps(site))
    out = {name: tmp_path / name for name in ("seen.json", "seen.mp4", "heat.png")}
    done = headway(
        "watch", str(clip), "--calibration", str(tmp_path / "site.json"), "--json",
        str(out["seen.json"]), "--out", str(out["seen.mp4"]), "--heat", str(out["heat.png"]),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(out["seen.json"].read_text())
    line, at = found["figures"]["lines"]["line"], found["figures"]["lanes"]["lane"]
    crossings = line["in"]["car"]
    assert 16 <= crossings <= 17
    assert line["flow_veh_h"] == pytest.approx(crossings * 3600.0 / 200.0, rel=0.01)
    assert line["predicted_veh_h"] == pytest.approx(300.0, rel=0.1)
    assert at["mean_speed_mps"] == pytest.approx(6.0, abs=0.1)
    assert at["congestion"] in ("free", "dense", "congested")
    assert out["heat.png"].read_bytes().startswith(b"\x89PNG")
    assert out["seen.mp4"].stat().st_size > 10_000


@pytest.mark.row("D8")
def test_d8_the_provider_of_the_network_the_image_and_prometheus(product, clip, figures):
    """A network runs on the first of TensorRT, CUDA, OpenVINO and the processor that onnxruntime
    offers; `runs_on` of `GET /streams/{id}` says which, and `headway watch` prints it. `/metrics`
    has the figures of each camera. `make image EXTRAS=vision` builds the image with cameras.
    """
    import onnxruntime

    if not MODEL.exists():
        pytest.skip(f"needs {MODEL}")
    for folder, file in (("media", clip), ("models", MODEL)):
        (product.folder / folder).mkdir(exist_ok=True)
        shutil.copy(file, product.folder / folder / file.name)
    camera = {"id": "d8", "source": clip.name, "repeat": True, "detector": MODEL.stem}
    with product.http() as client:
        client.post("/streams", json=camera).raise_for_status()
        state = lambda: client.get("/streams/d8").json()  # noqa: E731
        until(lambda: state()["processed"] > 15, 60.0)
        runs_on = state()["runs_on"]
        told = {}

        def is_scraped():
            told.update(
                re.findall(
                    r'^(headway_camera_\w+){[^}]*stream="d8"[^}]*} ([\d.e+-]+)$',
                    client.get("/metrics").text, re.MULTILINE,
                )
            )  # fmt: skip
            return float(told.get("headway_camera_rate_hz", 0)) > 0

        until(is_scraped, 60.0)
        client.delete("/streams/d8").raise_for_status()
    offered = onnxruntime.get_available_providers()
    assert runs_on == next(name for name in PROVIDERS if name in offered)
    assert told.keys() >= {
        f"headway_camera_{name}"
        for name in ("frames", "rate_hz", "latency_seconds", "up", "violations")
    }
    figures.add("the network runs on", runs_on)

    built = subprocess.run(
        ["make", "--dry-run", "image", "EXTRAS=vision"],
        cwd=TREE, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "--build-arg EXTRAS=vision" in built.stdout
    project = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))
    locked = (TREE / "requirements-vision.lock").read_text(encoding="utf-8")
    for needed in project["project"]["optional-dependencies"]["vision"]:
        name = re.match(r"[\w-]+", needed)[0]
        assert re.search(rf"^{name}==", locked, re.MULTILINE | re.IGNORECASE), needed
