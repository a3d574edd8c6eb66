"""A street small enough to know by heart, and a SUMO that says what it is told:
for exact figures where a real one would only come close.

    far_0 ==unsignalised u==> in_0 (80 m), in_1 (80 m) ==signal j==> short_0 (30 m) ==signal k==>
    end_0
                                                    j <== back_0 (30 m) <== k <== kin_0

Metres; links in order (group): 0 far_0>in_0, 1 far_0>in_1 (none); 2 in_0>short_0 straight (0), 3
in_0>side_0 left, waits inside (1), 4 in_1>out_0 right, may turn on red (2), 5 back_0>west_0 (3), 6
the crossing c0 (4); 7 short_0>end_0 (5), 8 short_0>west2_0 left (5), 9 kin_0>back_0 (6); 10
side_0>nowhere_0 (none).
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from headway.roads import Junction, Kind, Lane, Link, Network, Programme, SignalGroup

CAR, WALK = Kind.VEHICLE, Kind.PEDESTRIAN
LANES = {
    "far_0": 300.0, "in_0": 80.0, "in_1": 80.0, "short_0": 30.0, "back_0": 30.0, "kin_0": 100.0,
    "side_0": 60.0, "out_0": 60.1, "end_0": 100.0,
    "west_0": 100.0, "west2_0": 100.0, "nowhere_0": 100.0, ":j_w0_0": 4.0, ":j_c0_0": 8.0,
    ":j_w1_0": 4.0, ":k_w0_0": 4.0,
}  # fmt: skip
FAR, IN0, IN1, SHORT, BACK, KIN, SIDE, OUT, END, WEST, WEST2, NOWHERE, W0, C0, W1, KW0 = range(16)
LINKS = (
    ("u", FAR, IN0, -1, "s", 6.0, (":u_0_0",)),
    ("u", FAR, IN1, -1, "r", 8.0, (":u_1_0", ":u_2_0")),
    ("j", IN0, SHORT, 0, "s", 12.0, (":j_0_0",)),
    ("j", IN0, SIDE, 1, "l", 20.0, (":j_1_0", ":j_5_0")),
    ("j", IN1, OUT, 2, "r", 8.0, (":j_2_0",)),
    ("j", BACK, WEST, 3, "s", 12.0, (":j_3_0",)),
    ("j", W0, C0, 4, "c", 8.0, ()),
    ("k", SHORT, END, 5, "s", 12.0, (":k_0_0",)),
    ("k", SHORT, WEST2, 5, "l", 15.0, (":k_1_0", ":k_5_0")),
    ("k", KIN, BACK, 6, "s", 12.0, (":k_2_0",)),
    ("n", SIDE, NOWHERE, -1, "s", 5.0, (":n_0_0",)),
)
GROUPS = (
    ("J", 0, 0, CAR, (2,), False),
    ("J", 1, 0, CAR, (3,), False),
    ("J", 3, 0, CAR, (4,), True),
    ("J", 4, 0, CAR, (5,), False),
    ("J", 5, 0, WALK, (6,), False),
    ("K", 1, 1, CAR, (7, 8), False),
    ("K2", 0, 1, CAR, (9,), False),
)


def network(**lengths: float) -> Network:
    """`lengths`: of lanes that are not as above."""
    lanes = tuple(
        Lane(
            name,
            name.rpartition("_")[0],
            length,
            13.9 if name != "in_1" else 8.0,
            WALK if name[0] == ":" else CAR,
            (0.0, 0.0),
        )
        for name, length in (LANES | lengths).items()
    )
    links = tuple(
        Link(node, i, a, b, g, way, length, 13.9, WALK if way == "c" else CAR, via)
        for i, (node, a, b, g, way, length, via) in enumerate(LINKS)
    )
    groups = tuple(SignalGroup(*g) for g in GROUPS)
    junctions = []
    for name, tls, first, end in (("j", ("J",), 0, 5), ("k", ("K", "K2"), 5, 7)):
        n = end - first
        plan = Programme(np.full((1, n), 4, np.int8), np.array([60.0]), 0.0)
        none = np.zeros((n, n), np.bool_)
        junctions.append(
            Junction(name, tls, first, end, none, none, np.full((1, n), 4, np.int8), plan)
        )
    return Network(
        "by hand", lanes, links, groups, tuple(junctions), {name: i for i, name in enumerate(LANES)}
    )


class Vehicles:
    """`vehicle` of libsumo: what is asked for is looked up in `there`, a car's (lane, position,
    speed, ...) by name; questions are noted.
    """

    def __init__(self) -> None:
        self.there: dict[str, SimpleNamespace] = {}
        self.asked: list[tuple[str, str]] = []

    def put(
        self, name: str, lane: str, at: float, speed: float = 0.0, ahead: Any = None, **other: Any
    ) -> None:
        """ahead: ((programme, place, metres), ...); what is not said stays."""
        car = self.there.setdefault(
            name,
            SimpleNamespace(
                length=5.0,
                gap=2.5,
                kind="passenger",
                ahead=(),
                route=(),
                route_index=0,
                xy=(0.0, 0.0),
                angle=0.0,
                fuel=0.0,
                co2=0.0,
                delay=0.0,
                waited_s=0.0,
            ),
        )
        car.lane, car.at, car.speed = lane, at, speed
        if ahead is not None:
            car.ahead = tuple((tl, place, metres, "r") for tl, place, metres in ahead)
        for key, value in other.items():
            setattr(car, key, value)

    def gone(self, *names: str) -> None:
        for name in names:
            del self.there[name]

    def getIDList(self) -> tuple[str, ...]:  # noqa: N802
        return tuple(self.there)

    def __getattr__(self, name: str) -> Any:
        what = {
            "getLaneID": "lane", "getLanePosition": "at", "getSpeed": "speed",
            "getLength": "length", "getMinGap": "gap", "getVehicleClass": "kind",
            "getNextTLS": "ahead", "getPosition": "xy", "getAngle": "angle",
            "getFuelConsumption": "fuel", "getCO2Emission": "co2",
            "getDepartDelay": "delay", "getRoute": "route", "getRouteIndex": "route_index",
            "getWaitingTime": "waited_s",
        }[name]  # fmt: skip

        def get(vehicle: str) -> Any:
            self.asked.append((name, vehicle))
            return getattr(self.there[vehicle], what)

        return get


class SaidError(Exception):
    """What this SUMO raises."""


class FatalSaidError(Exception):
    """The other one."""


class Sumo:
    """The module libsumo (or traci), as far as the plant speaks to it.
    `said`: the calls that change something, in order.
    """

    TraCIException, FatalTraCIError = SaidError, FatalSaidError

    def __init__(
        self, width: dict[str, int] | None = None, step_s: float = 1.0, begin_s: float = 100.0
    ) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.lamps: dict[str, str] = {}
        self.now_s, self.step_s, self.expected, self.waiting = begin_s, step_s, 1, ()
        self.fails: Exception | None = None
        self.halting: dict[str, int] = {}
        self.walking: dict[str, tuple[str, ...]] = {}
        self.shapes: dict[str, Any] = {}
        self.other_links: dict[str, Any] = {}
        self.next_edge: dict[str, str] = {}
        self.vehicle = Vehicles()
        width = width or {"J": 6, "K": 2, "K2": 1}
        self.simulation = SimpleNamespace(
            getTime=lambda: self.now_s, getDeltaT=lambda: self.step_s,
            getMinExpectedNumber=lambda: self.expected,
            getPendingVehicles=lambda: self.waiting,
            saveState=self._save,
        )  # fmt: skip
        self.trafficlight = SimpleNamespace(
            getRedYellowGreenState=lambda tl: self.lamps.get(tl, "G" * width[tl]),
            setRedYellowGreenState=self._show,
            getProgram=lambda tl: "0",
            setProgram=lambda tl, programme: None,
            getControlledLinks=self._controlled,
        )
        self.lane = SimpleNamespace(
            getLastStepHaltingNumber=lambda lane: self.halting.get(lane, 0),
            getShape=lambda lane: self.shapes.get(lane, ((-5.0, 0.0), (0.0, 0.0))),
        )
        self.edge = SimpleNamespace(getLastStepPersonIDs=lambda edge: self.walking.get(edge, ()))
        self.person = SimpleNamespace(getNextEdge=lambda person: self.next_edge[person])

    def _controlled(self, tl: str) -> list[list[tuple[str, str, str]]]:
        """By place, as SUMO says it; of a crossing other lanes."""
        if tl in self.other_links:
            if isinstance(self.other_links[tl], Exception):
                raise self.other_links[tl]
            return self.other_links[tl]
        of = network()
        places = {g.index: g for g in of.groups if g.tl_id == tl}
        return [
            [
                (of.lanes[of.links[k].from_lane].id, of.lanes[of.links[k].to_lane].id, "")
                for k in places[i].links
            ]
            if i in places and places[i].kind != WALK
            else []
            for i in range(max(places) + 1)
        ]

    def _say(self, *what: Any) -> None:
        self.said.append(what)

    def _save(self, path: str) -> None:
        self._say("saveState", path)
        Path(path).write_text("<snapshot>\n</snapshot>\n")

    def _show(self, tl: str, state: str) -> None:
        self._say("show", tl, state)
        self.lamps[tl] = state

    def _try(self) -> None:
        if self.fails is not None:
            raise self.fails

    def load(self, arguments: list[str]) -> None:
        self._try()
        self._say("load", arguments)

    def start(self, arguments: list[str], **more: Any) -> None:
        self._try()
        self._say("start", arguments, more)

    def connect(self, port: int, **more: Any) -> Sumo:
        self._try()
        self._say("connect", port, more)
        return self

    def getConnection(self, label: str) -> Sumo:  # noqa: N802
        self._say("getConnection", label)
        return self

    def simulationStep(self) -> None:  # noqa: N802
        self._try()
        self._say("step")
        self.now_s += self.step_s

    def close(self) -> None:
        self._say("close")
