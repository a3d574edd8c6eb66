"""Rows D3 and D9: several cameras at once, and what is found beyond violations."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.sensing.scenes import SITE, along, film
from tests.waiting import until

from headway.sensing import MISSING

pytestmark = pytest.mark.skipif(bool(MISSING), reason="needs the extra `vision`")


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
