"""An observation made from cameras: lanes and distances of tracks by hand."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import libsumo
import numpy as np
import pytest
from tests.rendered.rendered_street import street
from tests.sensing.hand_made import road_user

from headway.plants.sumo import SumoSettings, read_network
from headway.plants.sumo.scenarios import scenario
from headway.rendered import plant as seeing
from headway.rendered.plant import (
    Approach,
    ApproachLanes,
    CameraPlant,
    JunctionCamera,
    Liveness,
    project,
)
from headway.rendered.site import site_file
from headway.rendered.view import view_of
from headway.roads import likely_links
from headway.sensing import Site
from headway.vision.detection.motion import MotionDetector

NETWORK, SHAPES = street()


def user(number, x, y, **known):
    track = road_user(number, **known)
    track.road_m.append((x, y))
    return track


# -- where a track is


@pytest.mark.parametrize(
    ("at", "apart", "left", "ahead"),
    [
        ((4.0, 1.0), 1.0, 16.0, (1, 0)),  # 6 m to the bend, 10 m after it
        ((12.0, 4.0), 2.0, 6.0, (0, 1)),
        ((-3.0, 4.0), 5.0, 20.0, (1, 0)),  # before its begin: no more is left than it is long
        ((10.0, 13.0), 3.0, -3.0, (0, 1)),  # beyond its end
        ((14.0, 13.0), 5.0, -3.0, (0, 1)),
        ((10.0, 10.0), 0.0, 0.0, (0, 1)),
    ],
)
def test_the_distance_along_a_line_to_its_end(at, apart, left, ahead):
    """A line of 10 m to the east, then 10 m to the north."""
    found = project(np.array(at), np.array([(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)]))
    assert (found[0], found[1]) == (pytest.approx(apart), pytest.approx(left))
    assert found[2].tolist() == list(ahead)


def test_points_of_a_line_may_coincide():
    found = project(np.array((4.0, 2.0)), np.array([(0.0, 0.0), (0.0, 0.0), (10.0, 0.0)]))
    assert (found[0], found[1], found[2].tolist()) == (2.0, 6.0, [1.0, 0.0])


@pytest.mark.parametrize(
    ("at", "known", "lane", "left"),
    [
        # its middle is 20 m before the line, its front 2.5 m less
        ((-28.0, -2.0), {"length_m": 5.0}, 1, 17.5),
        ((-28.0, -2.0), {}, 1, 17.75),  # a length that is not known is one of 4.5 m
        # 2.2 m to the side
        ((-28.0, -4.1), {"length_m": 5.0}, 1, 17.5), ((-28.0, -4.3), {"length_m": 5.0}, None, None),
        ((-28.0, 0.3), {}, None, None),
        ((-2.0, 18.0), {"length_m": 4.0}, 2, 8.0), ((-9.0, -7.0), {}, 0, -1.25),
        ((-6.0, -2.0), {"length_m": 4.0}, 1, -4.0),
        ((40.0, -2.0), {}, None, None),  # a lane that leads away
        ((-28.0, -2.0), {"speed_mps": 10.0, "velocity_mps": (10.0, 0.0)}, 1, 17.75),
        # it drives the other way
        ((-28.0, -2.0), {"speed_mps": 10.0, "velocity_mps": (-10.0, 0.0)}, None, None),
        ((-28.0, -2.0), {"speed_mps": 10.0, "velocity_mps": (3.1, 9.5)}, 1, 17.75),
        ((-28.0, -2.0), {"speed_mps": 10.0, "velocity_mps": (2.9, 9.6)}, None, None),
        ((-28.0, -2.0), {"speed_mps": 1.5, "velocity_mps": (-1.5, 0.0)}, 1, 17.75),
        ((-28.0, -2.0), {"speed_mps": 1.6, "velocity_mps": (-1.6, 0.0)}, None, None),
    ],
)  # fmt: skip
def test_the_lane_of_a_track_and_its_distance_to_the_stop_line(at, known, lane, left):
    place = ApproachLanes(NETWORK, SHAPES, 0).place(user(1, *at, **known))
    assert place == (None if lane is None else (lane, pytest.approx(left)))


def test_the_nearest_lane_is_its_own():
    shapes = replace(
        SHAPES,
        lanes=[
            ("w_1", 3.2, [(-60.0, 0.0), (-8.0, 0.0)]),
            ("n_0", 3.0, [(-60.0, 3.0), (-8.0, 3.0)]),
            *SHAPES.lanes[4:],
        ],
    )
    for y, lane in ((1.4, 1), (1.6, 2), (-2.0, 1), (5.0, 2)):
        assert ApproachLanes(NETWORK, shapes, 0).place(user(1, -28.0, y))[0] == lane
    turned = replace(shapes, lanes=shapes.lanes[1::-1])
    assert ApproachLanes(NETWORK, turned, 0).place(user(1, -28.0, 1.4))[0] == 1


def test_a_track_is_not_placed_on_a_nearer_lane_of_the_opposite_direction():
    """The first lane goes east, the second, a metre beside it, west;
    32 m are left of that, less half of 4.5 m.
    """
    shapes = replace(
        SHAPES,
        lanes=[
            ("w_1", 3.2, [(-60.0, 0.0), (-8.0, 0.0)]),
            ("n_0", 3.0, [(-8.0, 1.0), (-60.0, 1.0)]),
        ],
    )
    lanes = ApproachLanes(NETWORK, shapes, 0)
    assert lanes.place(user(1, -28.0, 0.4, speed_mps=10.0, velocity_mps=(-10.0, 0.0))) == (2, 29.75)
    assert lanes.place(user(1, -28.0, 0.6, speed_mps=10.0, velocity_mps=(10.0, 0.0))) == (1, 17.75)


def test_only_the_lanes_of_its_junction_count():
    junctions = tuple(replace(NETWORK.junctions[0], first=a, end=b) for a, b in ((0, 1), (1, 3)))
    network = replace(NETWORK, junctions=junctions)
    assert ApproachLanes(network, SHAPES, 0).place(user(1, -28.0, -2.0))[0] == 1
    assert ApproachLanes(network, SHAPES, 1).place(user(1, -28.0, -2.0)) is None
    assert ApproachLanes(network, SHAPES, 1).place(user(1, -2.0, 20.0))[0] == 2


# -- the camera over a junction


class FakeDetectors:
    """A detector that finds nothing, and notes who asks."""

    threads = 1
    runs_on = ""

    def __init__(self):
        self.asked = []

    def begin(self, key, image):
        self.asked.append((key, image))
        answer = Future()
        answer.set_result("found")
        return answer


@pytest.fixture
def fake_detector(monkeypatch):
    """A camera whose perception tells `tracks`, and `views`, `sites`, `looked`: what was asked."""
    at = SimpleNamespace(tracks=[], views=[], sites=[], looked=[], detector=FakeDetectors())
    at.tracker = SimpleNamespace(tracks={})

    def view(*words, **how):
        at.views.append((words, how))
        return view_of(*words, size=(160, 120), **how)

    def perception(*words):
        at.sites.append(words)
        return SimpleNamespace(
            process=lambda frame, found: (
                at.looked.append((frame, found)) or SimpleNamespace(tracks=list(at.tracks))
            ),
            tracker=at.tracker,
        )

    monkeypatch.setattr(seeing, "view_of", view)
    monkeypatch.setattr(seeing, "Perception", perception)
    at.of = JunctionCamera(NETWORK, SHAPES, 0, 3, 4.0, at.detector)
    return at


def test_a_camera_is_ninety_metres_above_its_junction_and_covers_eighty_to_each_side(fake_detector):
    ((words, how),) = fake_detector.views
    assert (words, how) == ((NETWORK, SHAPES, 0), {"height_m": 90.0, "reach_m": 80.0})
    ((key, known, rate),) = fake_detector.sites
    assert (key, rate) == ("junction 0", 4.0)
    assert [z.px for z in known.zones] == [
        z.px for z in Site.from_tree(site_file(fake_detector.of.painter, 0)).zones
    ]
    assert fake_detector.of.painter.seed == 3
    assert fake_detector.of.approaches() == []


def test_a_frame_goes_to_the_detector_and_the_perception(fake_detector):
    image = np.zeros((9, 9, 3), np.uint8)
    fake_detector.of.process(7.5, image, [], np.zeros(4))
    ((key, asked),) = fake_detector.detector.asked
    assert (key, asked is image) == ("junction 0", True)
    ((frame, found),) = fake_detector.looked
    assert (frame.at_s, frame.image is image, found) == (7.5, True, "found")


def camera(approaches):
    return SimpleNamespace(approaches=approaches, liveness=Liveness())


def rows(fake_detector, *tracks, kept=None):
    fake_detector.tracks = tracks
    fake_detector.tracker.tracks = {t.id: t for t in (tracks if kept is None else kept)}
    image = np.full((9, 9, 3), len(fake_detector.looked), np.uint8)  # each another one
    fake_detector.of.process(0.0, image, [], None)
    return [(one.track.id, *one[1:4]) for one in fake_detector.of.approaches()]


def test_approaches_state_lane_distance_and_whether_the_vehicle_is_new(fake_detector):
    a, b = user(1, -28.0, -2.0, length_m=5.0), user(2, -2.0, 18.0, length_m=4.0)
    assert rows(fake_detector, a) == [(1, 1, 17.5, True)]
    assert rows(fake_detector, a, b) == [(1, 1, 17.5, False), (2, 2, 8.0, True)]
    assert rows(fake_detector, b, kept=[b]) == [(2, 2, 8.0, False)]
    assert rows(fake_detector, a, b) == [
        (1, 1, 17.5, True),
        (2, 2, 8.0, False),
    ]  # whose track had ended is new


def test_predicted_tracks_and_those_off_lane_or_beyond_the_line_are_left_out(fake_detector):
    """Front -2.9 m and -3.1 m, and just -3."""
    tracks = [
        user(k, -8.0 + beyond - 2.0, -2.0, length_m=4.0) for k, beyond in enumerate((2.9, 3.0, 3.1))
    ]
    assert [(number, left) for number, _, left, _ in rows(fake_detector, *tracks)] == [
        (0, pytest.approx(-2.9))
    ]
    assert rows(fake_detector, user(4, -28.0, -2.0, coasting=True), user(5, 30.0, 30.0)) == []


# -- the street


@pytest.fixture(scope="module")
def plant():
    of = scenario("cologne1")
    network = read_network(of.net)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeing, "view_of", partial(view_of, size=(160, 120)))
        made = CameraPlant(SumoSettings(of.sumocfg, 3, sensing="rendered"), network)
    yield made
    made.close()


def test_each_junction_has_a_camera(plant):
    assert len(plant.cameras) == 1
    assert plant.cameras[0].painter.seed == 3
    before = plant.time_s
    plant.advance(1.0)
    assert plant.time_s == before + 1.0
    assert libsumo.simulation.getDeltaT() == 0.2  # five images a second


def test_defaults_are_five_frames_a_second_and_motion_detection(monkeypatch):
    asked = []
    monkeypatch.setattr(
        seeing,
        "JunctionCamera",
        lambda *words: asked.append(words) or SimpleNamespace(painter="painter", process="process"),
    )
    monkeypatch.setattr(seeing.FilmedPlant, "__init__", lambda self, *words: asked.append(words))
    network = read_network(scenario("cologne3").net)
    settings = SumoSettings("x", 7, sensing="rendered")
    CameraPlant(settings, network)
    *detectors, film = asked
    assert [(e[0] is network, *e[2:5], type(e[5])) for e in detectors] == [
        (True, k, 7, 5.0, MotionDetector) for k in range(3)
    ]
    assert len({id(e[5]) for e in detectors}) == 1
    assert film == (
        replace(settings, sensing="connected"),
        network,
        [("painter", "process")] * 3,
        5.0,
    )
    asked.clear()
    CameraPlant(settings, network, 8.0, "mine")
    assert (asked[0][4:], asked[-1][3]) == ((8.0, "mine"), 8.0)


def test_an_observation_holds_only_camera_data(plant, monkeypatch):
    network = read_network(scenario("cologne1").net)
    likely = likely_links(network)
    lanes = [network.links[g.links[0]].from_lane for g in network.groups]
    a, b = lanes[0], next(lane for lane in lanes if lane != lanes[0])
    c = next(i for i in range(len(network.lanes)) if likely[i] < 0)  # a lane without a link
    tracks = [
        user(1, 0, 0, speed_mps=7.5, length_m=5.0), user(2, 0, 0, at_s=9.0, stopped_since_s=5.0),
        user(3, 0, 0, speed_mps=0.5, length_m=9.0),
        user(4, 0, 0, speed_mps=1.0),
    ]  # fmt: skip
    reported = [
        [(tracks[0], a, 30.0, True), (tracks[1], a, -0.5, True), (tracks[2], b, 12.0, False)],
        [(tracks[3], c, 1.0, True)],
    ]
    monkeypatch.setattr(
        plant,
        "cameras",
        [camera(lambda r=r: [Approach(*one) for one in r]) for r in reported],
    )
    observed = plant.observe()
    v = observed.vehicles
    assert v.lane.tolist() == [a, a, b, c]
    assert v.link.tolist() == [likely[a], likely[a], likely[b], -1]
    assert v.distance_m.tolist() == [30.0, 0.0, 12.0, 1.0]
    assert v.speed_mps.tolist() == [7.5, 0.0, 0.5, 1.0]
    assert v.waiting_s.tolist() == [0.0, 4.0, 0.0, 0.0]
    assert v.length_m.tolist() == [
        7.5,
        7.0,
        11.5,
        7.0,
    ]  # with the gap of 2.5 m; 4.5 m where it is not known
    assert v.emergency.tolist() == [False] * 4
    count, arrived = np.zeros(len(network.lanes), int), np.zeros(len(network.links), int)
    count[a], count[b], count[c] = 2, 1, 1
    arrived[likely[a]] = 2
    assert (observed.count.tolist(), observed.arrived.tolist()) == (
        count.tolist(),
        arrived.tolist(),
    )
    assert np.isposinf(observed.room_m).all()
    assert (observed.emergencies, observed.source, observed.links_known) == ((), "camera", False)
    assert not observed.inside_seen
    assert (observed.at_s, observed.shown.tolist()) == (plant.time_s, plant.shown.tolist())


def test_a_flashing_vehicle_claims_every_way_of_its_lane(plant, monkeypatch):
    network = read_network(scenario("cologne1").net)
    lane = next(
        x.from_lane
        for x in network.links
        if len({network.links[k].group for k in network.links_from(x.from_lane)}) > 1
    )
    seen = [
        Approach(user(7, 0, 0, speed_mps=9.0), lane, 30.0, False, True),
        Approach(user(8, 0, 0, speed_mps=9.0), lane, 20.0, False, False),
    ]
    nobody = camera(list)
    monkeypatch.setattr(plant, "cameras", [nobody, camera(lambda: seen)])
    observed = plant.observe()
    assert observed.vehicles.emergency.tolist() == [True, False]
    (found,) = observed.emergencies
    assert (found.id, found.speed_mps) == ("seen 1/7", 9.0)
    groups = {network.links[k].group for k in network.links_from(lane)} - {-1}
    assert {(group, 30.0) for group in groups} == set(found.ahead)
    assert len(found.ahead) > 1


def test_the_lights_of_the_frame_are_those_of_the_approach(fake_detector):
    one = user(1, -28.0, -2.0, length_m=5.0)
    one.box = np.array([10.0, 10.0, 40.0, 30.0])
    fake_detector.tracks = [one]
    fake_detector.tracker.tracks = {1: one}
    dark = np.zeros((60, 80, 3), np.uint8)
    lit = dark.copy()
    lit[15, 15:25] = (255, 40, 0)
    for k in range(6):
        fake_detector.of.process(0.2 * k, lit if k % 2 else dark, [], None)
    assert [a.emergency for a in fake_detector.of.approaches()] == [True]


def test_without_tracks_an_observation_is_empty(plant, monkeypatch):
    monkeypatch.setattr(plant, "cameras", [camera(list)])
    observed = plant.observe()
    assert (
        len(observed.vehicles),
        observed.count.sum(),
        observed.arrived.sum(),
        observed.source,
    ) == (
        0,
        0,
        0,
        "camera",
    )
    assert observed.vehicles.link.dtype == np.int32
