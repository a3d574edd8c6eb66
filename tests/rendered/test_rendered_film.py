"""Smoothed lane changes, a street rendered step by step, and clips of it."""

from __future__ import annotations

import json
import zlib
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import av
import libsumo
import numpy as np
import pytest
from tests.rendered.rendered_street import scene

from headway.plants.sumo import SumoSettings, read_network, read_shapes
from headway.plants.sumo.scenarios import scenario
from headway.rendered import clip
from headway.rendered.clip import ClipSettings, render_clip
from headway.rendered.film import FilmedPlant, LaneChangeSmoother, with_frame_steps
from headway.rendered.site import site_file
from headway.rendered.view import view_of
from headway.sensing import SensingError


@pytest.mark.parametrize(
    ("rate", "step"),
    [(1.0, "1"), (4.0, "0.25"), (10.0, "0.1"), (12.5, "0.08"), (40.0, "0.025"), (50.0, "0.02")],
)
def test_each_frame_is_a_step_of_the_simulation(rate, step):
    settings = SumoSettings("x", 3, extra=("--scale", "2"))
    assert with_frame_steps(settings, rate) == replace(
        settings, extra=("--scale", "2", "--step-length", step)
    )


@pytest.mark.parametrize("rate", [0.5, 0.99, 3.0, 15.0, 30.0, 50.1, 62.5, 100.0])
def test_a_rate_without_whole_milliseconds_or_out_of_bounds_is_refused(rate):
    with pytest.raises(
        SensingError,
        match=rf"^rate {rate:g}: a frame must last whole milliseconds\. Possible: 4, 5, 8, 10, "
        r"12\.5, 20, 25, 40\.$",
    ):
        with_frame_steps(SumoSettings("x"), rate)


# -- changing lanes


def going(at, number=1, angle=90.0):
    return scene((number, *at, angle, 10.0, 4.5, 0))


def shown(drift, at, **how):
    return drift.smooth(going(at, **how)).at_m[0].tolist()


def test_a_lane_change_takes_two_seconds():
    """Eastwards 10 m/s, at 0 s 3 m to the left: of what is left after share s of 2 s, s² (3 - 2 s):
    1/2 after a second, 0.15625 after 1.5 s.
    """
    drift = LaneChangeSmoother(0.5)
    found = [shown(drift, (5.0 * k, 3.0 if k else 0.0)) for k in range(6)]
    shares = [None, 1.0, 0.84375, 0.5, 0.15625, 0.0]
    assert found[0] == [0.0, 0.0]
    assert found[1:] == [
        [5.0 * k, pytest.approx(3.0 - 3.0 * s)] for k, s in enumerate(shares) if s is not None
    ]
    assert shown(drift, (30.0, 3.0)) == [30.0, 3.0]


@pytest.mark.parametrize(
    ("angle", "jump", "back"),
    [
        (90.0, (1.0, -3.0), (1.0, 0.0)),
        (0.0, (-3.0, 1.0), (0.0, 1.0)),
        (180.0, (-3.0, -1.0), (0.0, -1.0)),
        (270.0, (-1.0, 3.0), (-1.0, 0.0)),
    ],
)
def test_only_the_sideways_movement_is_smoothed(angle, jump, back):
    """Where it was, but for the metre that it went on."""
    drift = LaneChangeSmoother(0.1)
    shown(drift, (0.0, 0.0), angle=angle)
    assert shown(drift, jump, angle=angle) == [pytest.approx(v, abs=1e-6) for v in back]


@pytest.mark.parametrize(
    ("aside", "smooth"),
    [
        (1.45, False),
        (1.55, True),
        (-1.55, True),
        (-1.45, False),
        (7.9, True),
        (8.1, False),
        (-7.9, True),
        (-8.1, False),
    ],
)
def test_a_lane_is_between_one_and_a_half_and_eight_metres_to_the_side(aside, smooth):
    drift = LaneChangeSmoother(0.1)
    shown(drift, (0.0, 0.0))
    assert shown(drift, (1.0, aside)) == [1.0, pytest.approx(0.0 if smooth else aside, abs=1e-6)]


def test_the_bounds_of_a_lane_change_are_outside():
    for aside in (1.5, 8.0):
        drift = LaneChangeSmoother(0.1)
        shown(drift, (0.0, 0.0))
        assert shown(drift, (1.0, aside)) == [1.0, aside]


def test_a_second_change_begins_where_the_first_one_is():
    """After a second of the first 1.5 m are left of it; 3 m more: 4.5 m."""
    drift = LaneChangeSmoother(1.0)
    shown(drift, (0.0, 0.0))
    assert shown(drift, (10.0, 3.0)) == [10.0, pytest.approx(0.0)]
    assert shown(drift, (20.0, 6.0)) == [20.0, pytest.approx(1.5)]
    assert shown(drift, (30.0, 6.0)) == [30.0, pytest.approx(6.0 - 2.25)]
    assert shown(drift, (40.0, 6.0)) == [40.0, 6.0]


def test_vehicles_are_smoothed_separately_and_one_that_was_away_restarts():
    drift = LaneChangeSmoother(0.5)

    def both(a, b):
        return drift.smooth(scene((1, *a, 90.0, 10.0, 4.5, 0), (2, *b, 90.0, 10.0, 4.5, 0))).at_m

    both((0.0, 0.0), (0.0, 20.0))
    assert np.allclose(both((5.0, 3.0), (5.0, 20.0)), [[5.0, 0.0], [5.0, 20.0]])
    other = drift.smooth(going((10.0, 20.0), number=2))
    assert (other.number.tolist(), other.at_m.tolist()) == ([2], [[10.0, 20.0]])
    assert both((10.0, 3.0), (15.0, 20.0)).tolist() == [[10.0, 3.0], [15.0, 20.0]]


def test_smoothing_changes_only_positions():
    before = scene((7, 1.0, 2.0, 30.0, 4.0, 5.0, 1), (9, 3.0, 4.0, 60.0, 5.0, 6.0, 2))
    after = LaneChangeSmoother(0.1).smooth(before)
    for name in ("number", "at_m", "angle_deg", "speed_mps", "length_m", "kind"):
        assert getattr(after, name).tolist() == getattr(before, name).tolist()
    assert after.at_m.dtype == np.float32
    assert LaneChangeSmoother(0.1).smooth(scene()).at_m.shape == (0, 2)


# -- a street before a camera


class Notes:
    """A painter that only notes what it is asked to paint."""

    def __init__(self):
        self.asked, self.shots = [], []

    def render(self, scene, shown):
        self.asked.append((scene, shown))
        return f"image {len(self.asked)}", [f"truth {len(self.asked)}"]

    def take(self, at_s, image, truth, shown):
        self.shots.append((at_s, image, truth, shown.tolist()))


@pytest.fixture(scope="module")
def cologne():
    of = scenario("cologne1")
    return of, read_network(of.net)


@pytest.fixture
def plant(cologne):
    of, network = cologne
    made = []

    def open_(*cameras, rate=5.0, violators=0.0, seed=1):
        made.append(
            FilmedPlant(
                SumoSettings(of.sumocfg, seed),
                network,
                [(c, c.take) for c in cameras],
                rate,
                violators,
            )
        )
        return made[-1]

    yield open_
    for one in made:
        one.close()


LETTERS = {"r": 1, "s": 1, "u": 1, "y": 2, "g": 3, "G": 4, "O": 0, "o": 0}


def test_each_camera_renders_each_step_with_its_signals(plant, cologne):
    network, a, b = cologne[1], Notes(), Notes()
    of = plant(a, b)
    begin = of.time_s
    of.advance(1.0)
    assert [round(s[0] - begin, 3) for s in a.shots] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert [s[1:3] for s in a.shots] == [(f"image {k}", [f"truth {k}"]) for k in range(1, 6)]
    assert a.shots == b.shots
    state = {
        tl: libsumo.trafficlight.getRedYellowGreenState(tl)
        for tl in libsumo.trafficlight.getIDList()
    }
    want = [LETTERS[state[g.tl_id][g.index]] for g in network.groups]
    assert a.shots[-1][3] == want == of.programme_colours().tolist()
    assert len(set(want)) > 1
    assert a.asked[-1][1].dtype == np.int8
    of.advance(0.05)  # a step at least
    assert len(a.shots) == 6
    of.advance(0.32)  # to the nearest
    assert len(a.shots) == 8


def test_colours_set_from_outside_are_shown(plant, cologne):
    detector, red = Notes(), np.ones(len(cologne[1].groups), np.int8)
    of = plant(detector)
    of.show(red, np.zeros(len(red)))
    of.advance(0.2)
    assert detector.shots[0][3] == red.tolist()
    assert of.programme_colours().tolist() == red.tolist()


@pytest.mark.parametrize(("letter", "colour"), [*LETTERS.items(), ("Y", 1)])
def test_each_letter_of_sumo_is_a_colour(plant, cologne, letter, colour):
    of = plant()
    for tl in libsumo.trafficlight.getIDList():
        libsumo.trafficlight.setRedYellowGreenState(
            tl, letter * len(libsumo.trafficlight.getRedYellowGreenState(tl))
        )
    assert set(of.programme_colours().tolist()) == {colour}


def test_warm_up_renders_nothing_and_violators_are_chosen_by_name(plant):
    """Of a fifth: those whose draw is below 0.2 drive 1.6 times the limit,
    those below 0.4 heed no red.
    """
    detector = Notes()
    of = plant(detector, violators=0.2, seed=4)
    begin, met = of.time_s, {}
    for moves in (of.warm_up, of.advance):
        for _ in range(12):
            moves(1.0)
            for name in libsumo.vehicle.getIDList():
                met[name] = (
                    libsumo.vehicle.getSpeedFactor(name),
                    libsumo.vehicle.getSpeedMode(name),
                )
    assert of.time_s == begin + 24.0
    assert len(detector.shots) == 60
    draws = {name: np.random.default_rng((4, zlib.crc32(name.encode()))).random() for name in met}
    assert min(draws.values()) < 0.2
    assert any(0.2 <= d < 0.4 for d in draws.values())
    assert any(d >= 0.4 for d in draws.values())
    for name, (factor, mode) in met.items():
        assert (factor == 1.6) == (draws[name] < 0.2), name
        assert mode == (7 if 0.2 <= draws[name] < 0.4 else 31), name


def test_without_violators_no_driver_is_changed(plant):
    of = plant()
    of.warm_up(12.0)
    names = libsumo.vehicle.getIDList()
    assert len(names) > 1
    assert {libsumo.vehicle.getSpeedMode(n) for n in names} == {31}
    assert 1.6 not in {libsumo.vehicle.getSpeedFactor(n) for n in names}


def test_a_painter_gets_smoothed_lane_changes(plant, monkeypatch):
    detector = Notes()
    of = plant(detector)
    scenes = iter([going((0.0, 0.0)), going((2.0, 3.0)), *[going((2.0, 3.0))] * 8])
    monkeypatch.setattr(of, "scene", lambda: next(scenes))
    of.advance(2.0)
    shares = [(10 - k) / 10 for k in range(9)]  # of two seconds, in steps of 0.2 s
    found = [s.at_m[0].tolist() for s, _ in detector.asked]
    assert found == [
        [0.0, 0.0],
        *[[2.0, pytest.approx(3.0 - 3.0 * s * s * (3 - 2 * s))] for s in shares],
    ]


# -- clips


def test_a_clip_with_its_site_and_its_ground_truth(tmp_path, monkeypatch, cologne):
    network = cologne[1]
    asked = []

    def small(*words):
        asked.append(words)
        return view_of(*words, size=(160, 120))

    painters = []
    paint = clip.Painter
    monkeypatch.setattr(clip, "view_of", small)
    monkeypatch.setattr(
        clip, "Painter", lambda *words: painters.append((words, paint(*words))) or painters[-1][1]
    )
    reported = []
    junction = network.junctions[0].id
    how = ClipSettings(
        "cologne1",
        junction,
        tmp_path / "new.mp4",
        1.5,
        2.0,
        4.0,
        5,
        50.0,
        20.0,
        40.0,
        0.2,
        night=True,
    )
    files = render_clip(how, reported.append)
    assert files == {
        "video": tmp_path / "new.mp4",
        "site": tmp_path / "new.site.json",
        "ground_truth": tmp_path / "new.ground_truth.jsonl",
    }
    assert reported == [1, 2, 3, 4, 5, 6]
    assert asked[0][2:] == (0, 50.0, 20.0, 40.0)
    ((words, painter),) = painters
    assert words[3:] == (5, True, False)
    assert json.loads(files["site"].read_text()) == json.loads(json.dumps(site_file(painter, 0)))
    assert files["site"].read_text().startswith('{\n "size"')
    truth = [json.loads(line) for line in files["ground_truth"].read_text().splitlines()]
    assert [t["at_s"] for t in truth] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]
    assert all(len(t["colours"]) == len(network.groups) for t in truth)
    with av.open(str(files["video"])) as box:
        assert [(f.width, f.height) for f in box.decode(video=0)] == [(160, 120)] * 6
        assert box.streams.video[0].average_rate == 4
    assert not libsumo.isLoaded()


def test_a_clip_begins_at_its_time_with_its_share_of_violators(tmp_path, monkeypatch):
    made = []

    class Plant:
        def __init__(self, *words):
            made.append(words)
            self.calls = made

        def warm_up(self, seconds):
            self.calls.append(("run up", seconds))

        def advance(self, seconds):
            self.calls.append(("advance", seconds))
            raise ValueError("broken")

        def close(self):
            self.calls.append("closed")

    closed = []
    monkeypatch.setattr(clip, "FilmedPlant", Plant)
    monkeypatch.setattr(clip, "view_of", lambda *words: view_of(*words, size=(160, 120)))
    monkeypatch.setattr(
        clip.VideoWriter,
        "close",
        lambda self, close=clip.VideoWriter.close: closed.append(1) or close(self),
    )
    with pytest.raises(ValueError, match="broken"):
        render_clip(
            ClipSettings(
                "cologne3", "", tmp_path / "a.mp4", 7.0, 30.0, 12.5, seed=6, violators=0.3
            ),
            lambda done: None,
        )
    (settings, network, cameras, rate, violators), *calls = made
    assert (settings, rate, violators, len(cameras)) == (
        SumoSettings(scenario("cologne3").sumocfg, 6),
        12.5,
        0.3,
        1,
    )
    assert calls == [("run up", 30.0), ("advance", 7.0), "closed"]
    assert closed == [1]
    assert cameras[0][0].view.towards_m == view_of(network, read_shapes(network), 0).towards_m


def test_default_settings_of_a_clip():
    how = ClipSettings("a", "b", Path("c.mp4"), 1.0, 2.0, 4.0)
    assert (
        how.seed,
        how.height_m,
        how.tilt_deg,
        how.reach_m,
        how.violators,
        how.night,
        how.rain,
    ) == (1, 90.0, 10.0, 60.0, 0.0, False, False)
    with pytest.raises(FrozenInstanceError):
        how.seed = 2
