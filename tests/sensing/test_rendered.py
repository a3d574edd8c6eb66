"""The camera on the simulation: its geometry, its truth, the commands, and a street that is steered through it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from bench.vision import film, quality

from headway.engine.street import open_street
from headway.plants.sumo import SumoSettings
from headway.roads import PROFILES, read_network, read_shapes, work_out
from headway.roads.catalogue import scenario
from headway.sensing import SensingError, Site
from headway.sensing.rendered.film import filmed
from headway.sensing.rendered.painter import Painter
from headway.sensing.rendered.site import site_file
from headway.sensing.rendered.view import view_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def painter():
    network = read_network(scenario("cologne1").net)
    shapes = read_shapes(network)
    return Painter(view_of(network, shapes, 0), network, shapes)


def test_the_site_of_a_rendered_camera_is_its_own_geometry(painter):
    site = Site.of(site_file(painter, 0))
    random = np.random.default_rng(0)
    px = random.uniform([0, 0], [1280, 720], (50, 2))
    on_road = site.calibration.road(px)
    assert np.abs(painter.view.ground(on_road) - px).max() < 1e-6
    high = painter.view.project(np.c_[on_road, np.full(50, 1.5)])
    assert np.abs(site.calibration.road(high, 1.5) - on_road).max() < 1e-6  # what stands above the road is set right
    assert len([z for z in site.zones if z.kind == "lane"]) == 8
    assert all(line.stop for line in site.lines)


def test_what_is_told_of_the_pictures_agrees_with_the_truth():
    truth, perception = film("cologne1", 90.0, seed=5, warm_s=40.0)
    found = quality(truth)
    assert found["IDF1"] > 0.9
    assert found["MOTA"] > 0.9
    speeds = np.array(truth.speeds)
    assert np.abs(speeds[:, 0] - speeds[:, 1]).mean() * 3.6 < 1.0
    first = min(truth.crossings.values())
    counted = sum(1 for c in perception.measures.crossings if c.direction == "in" and c.at_s >= first - 0.5)
    assert abs(counted - len(truth.crossings)) <= 1
    owner = {t: max(n, key=lambda k: n[k]) for t, n in truth.same.items()}
    assert {v.rule for v in truth.violations} <= {"speeding"}  # nobody drove on red; SUMO's drivers are a little too fast now and then
    assert all(owner[v.data["track"]] in truth.ever_fast for v in truth.violations if v.at_s > first and v.data["track"] in owner)


def test_night_and_rain_are_another_picture(painter):
    from headway.plants.sumo.plant import Scene

    empty = Scene(*(np.zeros((0, 2) if k == 1 else 0, np.float32) for k in range(6)))
    shown = np.ones(len(painter.network.groups), np.int8)
    dark = Painter(painter.view, painter.network, painter.shapes, night=True).shoot(empty, shown)[0]
    wet = Painter(painter.view, painter.network, painter.shapes, rain=True).shoot(empty, shown)[0]
    plain = painter.shoot(empty, shown)[0]
    assert dark.mean() < 0.6 * plain.mean()
    assert wet.std() < plain.std()


@pytest.mark.parametrize(("name", "seconds"), [("cologne1", 90), ("cologne3", 60)])
def test_a_street_is_steered_through_pictures_alone(name, seconds):
    of = scenario(name)
    network = read_network(of.net)
    street = open_street(
        network, work_out(network, PROFILES["benchmark"]), SumoSettings(of.sumocfg, 1, sensing="pictures"), "planner", lambda event: None
    )
    try:
        seen, greens, junctions = 0, set(), set()
        for _ in range(seconds):
            street.tick()
            seen = max(seen, len(street.seen.vehicles))
            junctions |= {network.group_junction[network.links[k].group] for k in street.seen.vehicles.link.tolist() if k >= 0}
            greens.add(street.plant.shown.tobytes())
        assert street.seen.source == "camera"
        assert not street.seen.links_known
        assert seen >= 4
        assert len(greens) > 3
        assert junctions == set(range(len(network.junctions)))
    finally:
        street.plant.close()


def test_a_rate_without_whole_milliseconds_is_refused():
    with pytest.raises(SensingError, match="whole milliseconds"):
        filmed(SumoSettings("x"), 15.0)


def test_the_commands_from_a_clip_to_its_violations(tmp_path):
    def headway(*words, status=0):
        done = subprocess.run([sys.executable, "-m", "headway", *map(str, words)], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    headway("camera", "--scenario", "cologne1", "--out", "clip.mp4", "--seconds", 25, "--begin", 40, "--violators", 0.2, "--seed", 3)
    truth = [json.loads(x) for x in (tmp_path / "clip.truth.jsonl").read_text().splitlines()]
    assert len(truth) == 250
    out = headway("watch", "clip.mp4", "--calibration", "clip.site.json", "--signals", "clip.truth.jsonl", "--json", "seen.json", "--out", "seen.mp4",
                  "--heat", "heat.jpg", "--evidence", "evidence")  # fmt: skip
    assert "calibration: error 0.00 m" in out
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["frames"] == 250
    assert seen["tracks"]
    assert {"id", "class", "path", "begun_s"} <= set(seen["tracks"][0])
    assert (tmp_path / "seen.mp4").stat().st_size > 10_000
    assert (tmp_path / "heat.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert "headway: nowhere.mp4: there is no such file" in headway("watch", "nowhere.mp4", status=1)
    (tmp_path / "bad.yaml").write_text("size: [90, 90]\nlines: [{name: a, px: [[0, 0], [99, 0]]}]\n")
    assert "outside the picture" in headway("watch", "clip.mp4", "--calibration", "bad.yaml", status=1)
    (tmp_path / "other.yaml").write_text("size: [90, 90]\n")
    assert "its site is of 90 x 90" in headway("watch", "clip.mp4", "--calibration", "other.yaml", status=1)
    assert "no junction 'nowhere'" in headway("camera", "--junction", "nowhere", status=1)
    assert "yolox_nano" in headway("models", "list")
    assert "not there" in headway("models", "verify", "yolox_nano", status=1)
