"""Reading SUMO networks (`*.net.xml`, also gzipped) into a `Network`.

Conflicts come from the right-of-way data of each junction (`<request>`: `foes` and `response`),
never from the signal programme: a programme that shows two conflicting protected greens is read,
corrected and warned of.
"""

from __future__ import annotations

import gzip
import math
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations, product
from pathlib import Path

import numpy as np

from headway.roads.network import (
    BoolArray,
    Colour,
    ColourArray,
    Junction,
    Kind,
    Lane,
    Link,
    Network,
    Programme,
    RoadsError,
    SignalGroup,
)
from headway.roads.stages import green_phases, maximal_stages, merge_programmes, permissible

COLOUR_OF = {
    "r": Colour.RED,
    "s": Colour.RED,
    "u": Colour.RED,
    "y": Colour.YELLOW,
    "Y": Colour.YELLOW,
    "g": Colour.PERMISSIVE,
    "G": Colour.GREEN,
    "o": Colour.DARK,
    "O": Colour.DARK,
}

WALKING_MPS = 1.0  # of pedestrians on a crossing, where the network says nothing
DEFAULT_SPEED = "13.9"  # m/s, as SUMO has it where a lane says nothing

_Phases = tuple[list[str], list[float], float]
UNREADABLE = (OSError, EOFError, zlib.error, ET.ParseError)


@dataclass
class _Raw:
    """The parts of the file that matter, as text; foes and give-way of each request (node, index)
    as sets of indices at that node.
    """

    lanes: dict[str, ET.Element]
    edge_of: dict[str, str]
    function: dict[str, str]
    connections: list[ET.Element]
    nodes: list[ET.Element]
    programmes: dict[str, ET.Element]
    foes: dict[tuple[str, int], frozenset[int]]
    gives_way_to: dict[tuple[str, int], frozenset[int]]


def read_network(path: str | Path) -> Network:
    """Read the network at `path`. Raises RoadsError with the place and the remedy where it cannot
    be controlled.
    """
    raw = _parse(Path(path))
    lanes = {
        name: i
        for i, name in enumerate(n for n in raw.lanes if raw.function[raw.edge_of[n]] != "internal")
    }
    links = _links(str(path), raw, lanes)
    return _assemble(str(path), raw, lanes, links)


def _parse(path: Path) -> _Raw:
    if not path.is_file():
        raise RoadsError(
            f"{path}: no such network file. Check the path, or the net-file entry of the .sumocfg."
        )
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            root = ET.parse(stream).getroot()
    except UNREADABLE as error:
        raise RoadsError(
            f"{path}: not a readable SUMO network ({error}). Rebuild it with netconvert."
        ) from error
    if root.tag != "net":
        raise RoadsError(
            f"{path}: the root element is <{root.tag}>, not <net>: this is no SUMO network."
        )
    raw = _Raw({}, {}, {}, root.findall("connection"), root.findall("junction"), {}, {}, {})
    for edge in root.iter("edge"):
        raw.function[edge.get("id", "")] = edge.get("function", "normal")
        for lane in edge.findall("lane"):
            raw.lanes[lane.get("id", "")] = lane
            raw.edge_of[lane.get("id", "")] = edge.get("id", "")
    for programme in root.iter("tlLogic"):
        raw.programmes.setdefault(programme.get("id", ""), programme)
    for node in raw.nodes:
        for r in node.findall("request"):
            request = (node.get("id", ""), int(r.get("index", "-1")))
            raw.foes[request] = _ones(r.get("foes", ""))
            raw.gives_way_to[request] = _ones(r.get("response", ""))
    if not raw.programmes:
        raise RoadsError(
            f"{path}: the network has no traffic light. Headway needs at least one signalised "
            "junction (netconvert --tls.set)."
        )
    return raw


def _ones(bits: str) -> frozenset[int]:
    """Places that are set, counted from the right."""
    return frozenset(i for i, bit in enumerate(reversed(bits)) if bit == "1")


def _kind(lane: ET.Element) -> Kind:
    allow, disallow = set(lane.get("allow", "").split()), set(lane.get("disallow", "").split())
    if allow and allow <= {"pedestrian", "wheelchair"}:
        return Kind.PEDESTRIAN
    if allow and allow <= {"bicycle", "pedestrian", "wheelchair", "scooter"}:
        return Kind.BICYCLE
    if allow and all("rail" in a or a in ("tram", "subway", "cable_car") for a in allow):
        return Kind.TRAM
    return Kind.PEDESTRIAN if "all" in disallow else Kind.VEHICLE


def _points(shape: str) -> list[tuple[float, float]]:
    return [(float(p.split(",")[0]), float(p.split(",")[1])) for p in shape.split()]


@dataclass(frozen=True, slots=True)
class _Way:
    """The way of a connection over its junction. node, request: where its right of way stands; -1
    where it has none. inside: its internal lanes, in order.
    """

    node: str
    request: int
    length_m: float
    speed_mps: float
    inside: tuple[str, ...] = ()


class _Ways:
    """Finds the way of each connection over its junction."""

    def __init__(self, raw: _Raw) -> None:
        self._raw = raw
        self._onward = {
            _lane_id(c, "from"): c.get("via", "")
            for c in raw.connections
            if c.get("from", "").startswith(":")
        }
        self._request_of: dict[str, tuple[str, int]] = {}
        for node in raw.nodes:
            if node.get("type") != "internal":
                for i, lane in enumerate((node.get("intLanes") or "").split()):
                    self._request_of[lane] = (node.get("id", ""), i)

    def over_crossing(self, crossing: str) -> _Way:
        """Of pedestrians, at walking speed."""
        node, request = self._request_of.get(crossing, ("", -1))
        length_m = float(self._raw.lanes[crossing].get("length", "0"))
        return _Way(node, request, length_m, WALKING_MPS)

    def over_internal_lanes(self, via: str, end: str) -> _Way:
        """From the internal lane `via` on, up to the one that has the right of way."""
        lanes = self._raw.lanes
        length_m = 0.0
        speed_mps = float(lanes[end].get("speed", DEFAULT_SPEED))
        inside = []
        lane = via
        while lane in lanes:
            inside.append(lane)
            length_m += float(lanes[lane].get("length", "0"))
            speed_mps = min(speed_mps, float(lanes[lane].get("speed", DEFAULT_SPEED)))
            if lane in self._request_of:
                break
            lane = self._onward.get(lane, "")
        node, request = self._request_of.get(lane, ("", -1))
        return _Way(node, request, length_m, speed_mps, tuple(inside))


def _lane_id(connection: ET.Element, which: str) -> str:
    """Of the lane that a connection comes `from`, or leads `to`."""
    return f"{connection.get(which)}_{connection.get(which + 'Lane')}"


def _links(path: str, raw: _Raw, lanes: dict[str, int]) -> list[tuple[Link, str, int]]:
    """Every link over a junction with its programme and place in it ("" and -1 without signal)."""
    ways = _Ways(raw)
    found: list[tuple[Link, str, int]] = []
    for c in raw.connections:
        start, end = _lane_id(c, "from"), _lane_id(c, "to")
        functions = (raw.function.get(c.get("from", "")), raw.function.get(c.get("to", "")))
        crossing = functions[1] == "crossing"
        walking = functions[0] in ("crossing", "walkingarea") or functions[1] == "walkingarea"
        if start not in lanes or end not in lanes or (walking and not crossing):
            continue
        way = (
            ways.over_crossing(end) if crossing else ways.over_internal_lanes(c.get("via", ""), end)
        )
        tl = c.get("tl", "")
        if tl and way.request < 0:
            raise RoadsError(
                f"{path}: connection {start} -> {end} of traffic light {tl!r} "
                "has no internal lane, so its right of way is unknown. Rebuild the network "
                "with netconvert without --no-internal-links."
            )
        kind = Kind.PEDESTRIAN if crossing else max(_kind(raw.lanes[start]), _kind(raw.lanes[end]))
        link = Link(
            node=way.node,
            request=way.request,
            from_lane=lanes[start],
            to_lane=lanes[end],
            group=-1,
            direction="c" if crossing else c.get("dir", "s"),
            length_m=way.length_m,
            speed_mps=way.speed_mps,
            kind=kind,
            via=way.inside,
        )
        found.append((link, tl, int(c.get("linkIndex", "-1"))))
    return found


def _clusters(nodes_of: dict[str, set[str]]) -> Iterator[tuple[str, ...]]:
    """Programmes that share a node, together: connected components."""
    left = dict(nodes_of)
    while left:
        members, nodes = [], set[str]()
        front = [next(iter(left))]
        while front:
            for name in front:
                members.append(name)
                nodes |= left.pop(name)
            front = [name for name, own in left.items() if own & nodes]
        yield tuple(members)


def _phases(path: str, programme: ET.Element, width: int) -> _Phases:
    """States, durations (seconds) and offset of a programme whose links use `width` places of a
    state.
    """
    name = programme.get("id", "")
    states = [p.get("state", "") for p in programme.findall("phase")]
    durations = [float(p.get("duration", "0")) for p in programme.findall("phase")]
    if not states or sum(durations) <= 0.0:
        raise RoadsError(
            f"{path}: the programme of traffic light {name!r} has no phase of any length. "
            "Give it at least one green phase."
        )
    for i, state in enumerate(states):
        if len(state) < width:
            raise RoadsError(
                f"{path}: traffic light {name!r}, phase {i}: the state {state!r} has "
                f"{len(state)} places, but its connections use {width}."
            )
        if unknown := set(state) - set(COLOUR_OF):
            raise RoadsError(
                f"{path}: traffic light {name!r}, phase {i}: unknown colours "
                f"{sorted(unknown)} in {state!r}."
            )
    offset = programme.get("offset", "0")
    return states, durations, float(offset) if offset != "begin" else 0.0


def _right_of_way(
    raw: _Raw, links: list[Link], members: list[list[int]]
) -> tuple[BoolArray, BoolArray]:
    """Conflicts and give-way between the groups whose links are `members`."""
    n = len(members)
    conflicts = np.zeros((n, n), np.bool_)
    all_yield = np.ones((n, n), np.bool_)
    none = frozenset[int]()
    for a, b in permutations(range(n), 2):
        for i, j in product(members[a], members[b]):
            one, other = links[i], links[j]
            if one.node != other.node or one.from_lane == other.from_lane:
                continue
            request, against = (one.node, one.request), (other.node, other.request)
            if other.request in raw.foes.get(request, none) or one.request in raw.foes.get(
                against, none
            ):
                conflicts[a, b] = True
                all_yield[a, b] &= other.request in raw.gives_way_to.get(request, none)
    yields = conflicts & all_yield
    # conflicts of which the network puts neither first (opposing left turns that cut each other):
    # each
    # gives way to the other
    yields |= conflicts & ~yields & ~yields.T
    return conflicts, yields


def _assemble(
    path: str, raw: _Raw, lane_of: dict[str, int], found: list[tuple[Link, str, int]]
) -> Network:
    """The network of the links that were found."""
    links = [link for link, _, _ in found]
    by_programme = _links_by_programme(path, raw, found)
    nodes_of = {
        tl: {links[i].node for own in places.values() for i in own}
        for tl, places in by_programme.items()
    }
    plans = {
        tl: _phases(path, raw.programmes[tl], max(places) + 1)
        for tl, places in by_programme.items()
    }

    # a junction is all programmes that meet at a node
    groups: list[SignalGroup] = []
    junctions: list[Junction] = []
    warnings: list[str] = []
    for members in _clusters(nodes_of):
        first = len(groups)
        for tl in members:
            groups += _groups(tl, len(junctions), links, by_programme[tl], plans[tl][0])
        own_plans = {tl: plans[tl] for tl in members}
        junctions.append(_junction(path, raw, links, groups, first, own_plans, warnings))
    if not junctions:
        raise RoadsError(
            f"{path}: no connection is controlled by any of the {len(raw.programmes)} traffic "
            "lights. Assign links to them (tl, linkIndex)."
        )

    group_of = {i: g for g, group in enumerate(groups) for i in group.links}
    return Network(
        path=path,
        lanes=tuple(_lane(name, raw) for name in lane_of),
        links=tuple(replace(x, group=group_of.get(i, x.group)) for i, x in enumerate(links)),
        groups=tuple(groups),
        junctions=tuple(junctions),
        lane_index=lane_of,
        warnings=tuple(warnings),
    )


def _links_by_programme(
    path: str, raw: _Raw, found: list[tuple[Link, str, int]]
) -> dict[str, dict[int, list[int]]]:
    """Links of each place of each programme, in the order of the programmes in the file."""
    by_programme: dict[str, dict[int, list[int]]] = {tl: {} for tl in raw.programmes}
    for i, (_, tl, place) in enumerate(found):
        if tl and tl not in raw.programmes:
            raise RoadsError(
                f"{path}: connection {i} names traffic light {tl!r}, which has no "
                "programme (<tlLogic>)."
            )
        if tl:
            by_programme[tl].setdefault(place, []).append(i)
    return {tl: places for tl, places in by_programme.items() if places}


def _groups(
    tl: str, junction: int, links: list[Link], places: dict[int, list[int]], states: list[str]
) -> list[SignalGroup]:
    """The signal groups of a programme: one a place."""
    return [
        SignalGroup(
            tl_id=tl,
            index=place,
            junction=junction,
            kind=max(links[i].kind for i in places[place]),
            links=tuple(places[place]),
            turn_on_red=any(state[place] == "s" for state in states),
        )
        for place in sorted(places)
    ]


def _lane(name: str, raw: _Raw) -> Lane:
    element = raw.lanes[name]
    return Lane(
        id=name,
        edge=raw.edge_of[name],
        length_m=float(element.get("length", "0")),
        speed_mps=float(element.get("speed", DEFAULT_SPEED)),
        kind=_kind(element),
        end_xy=(_points(element.get("shape", "")) or [(0.0, 0.0)])[-1],
    )


def _junction(
    path: str,
    raw: _Raw,
    links: list[Link],
    groups: list[SignalGroup],
    first: int,
    plans: dict[str, _Phases],
    warnings: list[str],
) -> Junction:
    """The junction of the groups from `first` on, whose programmes are `plans`."""
    own, members = groups[first:], tuple(plans)
    conflicts, yields = _right_of_way(raw, links, [list(g.links) for g in own])
    colours, durations, offset = merge_programmes(
        [(_colours(own, tl, states), d, o) for tl, (states, d, o) in plans.items()]
    )
    for phase, row in enumerate(colours):
        allowed = permissible(row, conflicts, yields)
        if (allowed != row).any():
            places = [own[i].index for i in np.flatnonzero(allowed != row)]
            warnings.append(
                f"junction {members[0]!r}: phase {phase} shows conflicting greens; links "
                f"{places} are lowered to what right of way allows"
            )
            colours[phase] = allowed
    stages = green_phases(colours)
    _require_green(path, members[0], links, own, colours, stages)
    return Junction(
        id=members[0],
        tl_ids=members,
        first=first,
        end=len(groups),
        conflicts=conflicts,
        yields=yields,
        stages=stages if len(stages) else maximal_stages(conflicts),
        programme=Programme(colours, np.array(durations, np.float64), offset),
    )


def _colours(own: list[SignalGroup], tl: str, states: list[str]) -> ColourArray:
    """(phases, groups of this programme)."""
    places = [g.index for g in own if g.tl_id == tl]
    return np.array([[COLOUR_OF[s[p]] for p in places] for s in states], np.int8)


def _require_green(
    path: str,
    junction: str,
    links: list[Link],
    own: list[SignalGroup],
    colours: ColourArray,
    stages: ColourArray,
) -> None:
    """Raises RoadsError for a group that the programme switches, but never to green."""
    for i, group in enumerate(own):
        served = (stages[:, i] >= Colour.PERMISSIVE).any()
        if not served and (colours[:, i] != Colour.DARK).any():
            raise RoadsError(
                f"{path}: junction {junction!r} has no stage that serves link {group.index} of "
                f"traffic light {group.tl_id!r} "
                f"(direction {links[group.links[0]].direction!r}). Give the programme a green "
                "phase for it, or take the signal off the link."
            )


@dataclass(frozen=True, slots=True)
class Shapes:
    """What a map of the network is drawn from. lanes: (id, width m, points (k, 2)); junctions:
    outlines; signals: for each signal group the end of its lane (x, y) and the direction there,
    degrees clockwise from north."""

    lanes: list[tuple[str, float, list[tuple[float, float]]]]
    junctions: list[list[tuple[float, float]]]
    signals: list[tuple[float, float, float]]


def read_shapes(network: Network) -> Shapes:
    """The shapes of `network`, from its file. Raises RoadsError if it cannot be read."""
    opened = gzip.open if network.path.endswith(".gz") else open
    lanes = []
    junctions = []
    end = {}
    try:
        with opened(network.path, "rb") as stream:
            for _, x in ET.iterparse(stream):
                if x.tag == "lane":
                    points = _points(x.get("shape", ""))
                    if len(points) > 1:
                        lanes.append((x.get("id", ""), float(x.get("width", 3.2)), points))
                        (x0, y0), (x1, y1) = points[-2:]
                        end[x.get("id", "")] = (x1, y1, math.degrees(math.atan2(x1 - x0, y1 - y0)))
                elif x.tag == "junction" and x.get("type") != "internal":
                    junctions.append(_points(x.get("shape", "")))
    except UNREADABLE as error:
        raise RoadsError(f"{network.path}: cannot be read ({error}).") from error
    from_lane = [network.lanes[network.links[g.links[0]].from_lane].id for g in network.groups]
    return Shapes(
        lanes,
        [j for j in junctions if len(j) > 2],
        [end.get(lane, (0.0, 0.0, 0.0)) for lane in from_lane],
    )
