"""A street small enough to work out by hand, a plant that follows commands,
and controllers with given proposals.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headway.control.catalogue import CONTROLLERS
from headway.roads import (
    BENCHMARK,
    Colour,
    Junction,
    Kind,
    Lane,
    Link,
    Network,
    Programme,
    SignalGroup,
    Timing,
)
from headway.street.closed_loop import Street
from headway.values import Observation, Proposal, Vehicles

RED, GREEN = int(Colour.RED), int(Colour.GREEN)
A_FIRST, A_SECOND = [GREEN, RED], [RED, GREEN]
B_FIRST, B_SECOND = [GREEN, RED, RED], [RED, GREEN, GREEN]
GROUP_OF_LINK = (0, 0, 1, 2, 3, 4, -1)


def two_junctions() -> Network:
    """Junction A: groups 0 (links 0 and 1) and 1 (link 2), which cross. Junction B: group 2 (link
    3) crosses 3 (link 4) and 4, a pedestrian
    crossing (link 5). Link 6 has no signal. Link k leads from lane 2k to lane 2k + 1."""
    kinds = [Kind.PEDESTRIAN if k == 5 else Kind.VEHICLE for k in range(7)]
    lanes = [
        Lane(f"{way}{k}", f"{way}{k}", 100.0, 13.9, kinds[k], (0.0, 0.0))
        for k in range(7)
        for way in ("in", "out")
    ]
    links = [
        Link("AB"[k > 2], k, 2 * k, 2 * k + 1, GROUP_OF_LINK[k], "s", 10.7, 10.0, kinds[k])
        for k in range(7)
    ]
    members = [(0, 1), (2,), (3,), (4,), (5,)]
    groups = [
        SignalGroup(
            "AB"[g > 1],
            g if g < 2 else g - 2,
            int(g > 1),
            Kind.PEDESTRIAN if g == 4 else Kind.VEHICLE,
            members[g],
            False,
        )
        for g in range(5)
    ]
    cross_a = np.array([[0, 1], [1, 0]], bool)
    cross_b = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]], bool)
    stages_a = np.array([A_FIRST, A_SECOND], np.int8)
    stages_b = np.array([B_FIRST, B_SECOND], np.int8)
    plan = np.full(2, 20.0)
    junctions = (
        Junction(
            "A",
            ("A",),
            0,
            2,
            cross_a,
            np.zeros_like(cross_a),
            stages_a,
            Programme(stages_a, plan, 0.0),
        ),
        Junction(
            "B",
            ("B",),
            2,
            5,
            cross_b,
            np.zeros_like(cross_b),
            stages_b,
            Programme(stages_b, plan, 0.0),
        ),
    )
    return Network(
        "two",
        tuple(lanes),
        tuple(links),
        tuple(groups),
        junctions,
        {x.id: i for i, x in enumerate(lanes)},
    )


def vehicles(*rows, lane=None) -> Vehicles:
    """Of (link, metres to the stop line, m/s, seconds waited) each;
    lane: 2 x link, where nothing else is said.
    """
    link, distance, speed, wait = (
        (np.array([row[k] for row in rows]) for k in range(4)) if rows else (np.zeros(0),) * 4
    )
    link = link.astype(np.int32)
    lanes = (
        np.where(link >= 0, 2 * link, -1).astype(np.int32)
        if lane is None
        else np.array(lane, np.int32)
    )
    n = len(rows)
    return Vehicles(
        lanes,
        link,
        distance.astype(float),
        speed.astype(float),
        wait.astype(float),
        np.full(n, 7.5),
        np.zeros(n, bool),
    )


class MadePlant:
    """Shows what it is told, moves its clock, and measures what a test lays out for it."""

    def __init__(self, network: Network, begin_s: float = 100.0, age_s: float = 0.0) -> None:
        self.network, self.time_s, self.age_s = network, begin_s, age_s
        self.shown = np.full(len(network.groups), RED, np.int8)
        self.since = np.full(len(network.groups), begin_s)
        self.vehicles, self.arrived = vehicles(), np.zeros(len(network.links), np.int32)
        self.persons = np.zeros(len(network.groups), np.int32)
        self.completeness = np.ones(len(network.junctions))
        self.emergencies = ()
        self.applied, self.advanced, self.reported = [], [], []
        self.running, self.closed = True, False

    def observe(self) -> Observation:
        arrived, self.arrived = self.arrived, np.zeros_like(self.arrived)
        lanes = len(self.network.lanes)
        return Observation(
            self.time_s - self.age_s, self.vehicles, self.shown, self.time_s - self.since,
            np.full(lanes, np.inf), np.zeros(lanes, np.int32), arrived,
            self.persons, self.completeness, self.emergencies,
        )  # fmt: skip

    def take_rerouted(self):
        return np.zeros(len(self.network.links), np.int32)

    def apply(self, command) -> None:
        self.applied.append(command.colours.tolist())
        self.shown = command.colours.copy()

    def show(self, colours, since_s) -> None:
        self.reported.append((colours.tolist(), since_s.tolist()))
        self.shown, self.since = colours.copy(), since_s.copy()

    def advance(self, period_s: float) -> None:
        self.advanced.append(period_s)
        self.time_s += period_s

    def checkpoint(self, path) -> None:
        path.write_text(f"plant at {self.time_s}")

    def restore(self, path) -> None:
        self.time_s = float(path.read_text().rsplit(" ", 1)[1])

    def scene(self) -> str:
        return f"scene at {self.time_s}"

    def emissions(self) -> tuple[int, float, float]:
        return len(self.vehicles), 2.5, self.time_s

    def close(self) -> None:
        self.closed = True


class Says:
    """Proposes `wanted`, with `confidence` and `why`;
    keeps what it saw and the state that it was given, and counts its steps in that state.
    """

    def __init__(
        self, name: str = "says", wanted=(*A_FIRST, *B_FIRST), confidence=(1.0, 1.0), why=None
    ) -> None:
        self.name = name
        self.wanted = np.array(wanted, np.int8)
        self.confidence = np.array(confidence, float)
        self.why = why or {}
        self.observations, self.states, self.started, self.fault = [], [], [], None

    def start(self, observations):
        self.started.append(observations)
        return f"{self.name} 0"

    def step(self, observations, state):
        self.observations.append(observations)
        self.states.append(state)
        if self.fault is not None:
            raise self.fault
        name, _, count = state.rpartition(" ")
        return Proposal(
            observations.at_s, self.name, self.wanted, self.confidence, self.why
        ), f"{name} {int(count) + 1}"


def street_of(plant: MadePlant, controller=None, fallback=None, **more):
    """(street, its events) of two junctions, without yellow or clearance:
    what is proposed is shown at once, but for 5 s of shortest green.
    """
    events, n = [], len(plant.network.groups)
    times = (np.full(n, x) for x in (0.0, 0.0, 5.0, 120.0, 150.0, 0.0, np.inf))
    timing = Timing(BENCHMARK, *times)
    return Street(
        plant.network,
        timing,
        plant,
        controller or Says(),
        fallback or Says("second", (*A_SECOND, *B_SECOND)),
        events.append,
        **more,
    ), events


class ReadOff:
    """A clock that reads `moments` off, one a call, and then says nought."""

    def __init__(self, *moments: float) -> None:
        self.moments = list(moments)

    def __call__(self) -> float:
        return self.moments.pop(0) if self.moments else 0.0


def named(monkeypatch, **makers) -> None:
    """Put controllers into the catalogue, by name: each a function of network and timing."""
    for name, maker in makers.items():
        monkeypatch.setitem(CONTROLLERS, name.replace("_", "-"), maker)


def observed_with(plant: MadePlant, **changes) -> Observation:
    return replace(plant.observe(), **changes)
