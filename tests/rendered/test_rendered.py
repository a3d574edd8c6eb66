"""The camera on the simulation: its geometry, its ground truth, the commands, and a street
controlled through it. Images have half the usual size.
"""

from __future__ import annotations

import json
import signal
import sys
from functools import partial

import numpy as np
import pytest
from bench import vision

from headway.cli import main
from headway.plants.sumo import Scene, SumoSettings, read_network, read_shapes
from headway.plants.sumo.scenarios import scenario
from headway.rendered import clip
from headway.rendered import plant as seeing
from headway.rendered.film import with_frame_steps
from headway.rendered.painter import Painter
from headway.rendered.site import site_file
from headway.rendered.view import view_of
from headway.roads import PROFILES, work_out
from headway.sensing import SensingError, Site
from headway.street.opening import open_street

pytestmark = pytest.mark.slow

SIZE = (640, 360)
small = partial(view_of, size=SIZE)


@pytest.fixture(scope="module")
def painter():
    network = read_network(scenario("cologne1").net)
    shapes = read_shapes(network)
    return Painter(small(network, shapes, 0), network, shapes)


def test_the_site_of_a_rendered_camera_is_its_own_geometry(painter):
    site = Site.from_tree(site_file(painter, 0))
    random = np.random.default_rng(0)
    px = random.uniform([0, 0], SIZE, (50, 2))
    on_road = site.calibration.to_road(px)
    assert np.abs(painter.view.ground(on_road) - px).max() < 1e-6
    high = painter.view.project(np.c_[on_road, np.full(50, 1.5)])
    assert (
        np.abs(site.calibration.to_road(high, 1.5) - on_road).max() < 1e-6
    )  # what stands above the road is set right
    assert len([z for z in site.zones if z.kind == "lane"]) == 8
    assert len(site.lines) == 8
    assert all(line.stop for line in site.lines)


def test_tracks_in_rendered_images_agree_with_the_ground_truth(monkeypatch):
    monkeypatch.setattr(vision, "view_of", small)
    truth, perception = vision.film("cologne1", 60.0, seed=5, warm_s=35.0)
    found = vision.quality(truth)
    assert found["IDF1"] > 0.9
    assert found["MOTA"] > 0.9
    speeds = np.array(truth.speeds)
    assert len(speeds) > 1000
    assert np.abs(speeds[:, 0] - speeds[:, 1]).mean() * 3.6 < 1.0
    assert len(truth.crossings) >= 8
    first = min(truth.crossings.values())
    counted = sum(
        1 for c in perception.measures.crossings if c.direction == "in" and c.at_s >= first - 0.5
    )
    assert abs(counted - len(truth.crossings)) <= 1
    owner = {t: max(n, key=lambda k: n[k]) for t, n in truth.same.items()}
    assert {v.rule for v in truth.violations} == {
        "speeding"
    }  # nobody drove on red; SUMO's drivers are a little too fast now and then
    assert all(
        owner[v.data["track"]] in truth.ever_fast
        for v in truth.violations
        if v.at_s > first and v.data["track"] in owner
    )


def test_night_and_rain_change_the_image(painter):
    empty = Scene(*(np.zeros((0, 2) if k == 1 else 0, np.float32) for k in range(6)))
    shown = np.ones(len(painter.network.groups), np.int8)
    dark = Painter(painter.view, painter.network, painter.shapes, night=True).render(empty, shown)[
        0
    ]
    wet = Painter(painter.view, painter.network, painter.shapes, rain=True).render(empty, shown)[0]
    plain = painter.render(empty, shown)[0]
    assert dark.mean() < 0.6 * plain.mean()
    assert wet.std() < plain.std()


@pytest.mark.parametrize(("name", "seconds"), [("cologne1", 90), ("cologne3", 60)])
def test_a_street_is_controlled_by_images_alone(name, seconds, monkeypatch):
    monkeypatch.setattr(seeing, "view_of", small)
    of = scenario(name)
    network = read_network(of.net)
    street = open_street(
        network,
        work_out(network, PROFILES["benchmark"]),
        SumoSettings(of.sumocfg, 1, sensing="rendered"),
        "planner",
        lambda event: None,
    )
    try:
        observed, greens, junctions = 0, set(), set()
        for _ in range(seconds):
            street.tick()
            observed = max(observed, len(street.observation.vehicles))
            junctions |= {
                network.group_junction[network.links[k].group]
                for k in street.observation.vehicles.link.tolist()
                if k >= 0
            }
            greens.add(street.plant.shown.tobytes())
        assert street.observation.source == "camera"
        assert not street.observation.links_known
        assert observed >= 4
        assert len(greens) > 3
        assert junctions == set(range(len(network.junctions)))
    finally:
        street.plant.close()


def test_a_rate_without_whole_milliseconds_is_refused():
    with pytest.raises(SensingError, match="whole milliseconds"):
        with_frame_steps(SumoSettings("x"), 15.0)


@pytest.fixture
def headway(monkeypatch, capsys, tmp_path):
    """Calls `headway WORDS...` in this process, in an empty folder, with small images;
    what it told. Its handlers of signals are not set.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(clip, "view_of", small_clip)

    def run(*words, status=0):
        monkeypatch.setattr(sys, "argv", ["headway", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            ended = 0
        except SystemExit as end:
            ended = end.code or 0
        reported = "".join(capsys.readouterr())
        assert ended == status, reported
        return reported

    return run


def small_clip(network, shapes, junction, *where):
    return view_of(network, shapes, junction, *where, size=SIZE)


def test_the_commands_from_a_clip_to_its_violations(headway, tmp_path):
    headway(
        "camera",
        "--scenario",
        "cologne1",
        "--out",
        "clip.mp4",
        "--seconds",
        12,
        "--begin",
        34,
        "--violators",
        0.3,
        "--seed",
        3,
    )
    truth = [json.loads(x) for x in (tmp_path / "clip.ground_truth.jsonl").read_text().splitlines()]
    assert len(truth) == 120
    out = headway("watch", "clip.mp4", "--calibration", "clip.site.json", "--signals",
        "clip.ground_truth.jsonl", "--json", "seen.json", "--out", "seen.mp4",
                  "--heat", "heat.jpg", "--evidence", "evidence")  # fmt: skip
    assert "calibration: error 0.00 m" in out
    observed = json.loads((tmp_path / "seen.json").read_text())
    assert observed["frames"] == 120
    assert observed["tracks"]
    assert {"id", "class", "path", "begun_s"} <= set(observed["tracks"][0])
    assert [v["rule"] for v in observed["violations"]] == [
        "red_light"
    ] * 2  # the two who do not heed red
    for v in observed["violations"]:
        then = truth[round(v["at_s"] * 10)]
        middle = np.array(v["data"]["box"]).reshape(2, 2).mean(0)
        apart, speed = min(
            (float(np.hypot(*(np.array(x["box"]).reshape(2, 2).mean(0) - middle))), x["speed_mps"])
            for x in then["vehicles"]
        )
        assert {then["colours"][g] for g in v["data"]["signal_groups"]} == {1}
        assert apart < 5.0
        assert v["data"]["speed_kmh"] == pytest.approx(3.6 * speed, abs=3.0)
    evidence = {
        f"{v['id']}{end}"
        for v in observed["violations"]
        for end in (".json", "-0.jpg", "-1.jpg", "-2.jpg")
    }
    assert {p.name for p in (tmp_path / "evidence").iterdir()} == evidence
    assert (tmp_path / "seen.mp4").stat().st_size > 10_000
    assert (tmp_path / "heat.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert "headway: nowhere.mp4: there is no such file" in headway(
        "watch", "nowhere.mp4", status=1
    )
    (tmp_path / "bad.yaml").write_text(
        "size: [90, 90]\nlines: [{name: a, px: [[0, 0], [99, 0]]}]\n"
    )
    assert "outside the image" in headway(
        "watch", "clip.mp4", "--calibration", "bad.yaml", status=1
    )
    (tmp_path / "other.yaml").write_text("size: [90, 90]\n")
    assert "its site is of 90 x 90" in headway(
        "watch", "clip.mp4", "--calibration", "other.yaml", status=1
    )
    assert "no junction 'nowhere'" in headway("camera", "--junction", "nowhere", status=1)
    assert "yolox_nano" in headway("models", "list")
    assert "not there" in headway("models", "verify", "yolox_nano", status=1)
