"""Reading SUMO networks (`*.net.xml`, also gzipped) into a `Network`.

Conflicts come from the right-of-way data of each junction (`<request>`: `foes` and `response`),
never from the signal
programme: a programme that shows two conflicting protected greens is read, corrected and warned of.
"""

from __future__ import annotations

import gzip
import math
import xml.etree.ElementTree as ET
import zlib
from collections import defaultdict
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
            f"{path}: not a readable SUMO network ({error}). Make it anew with netconvert."
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


def _links(path: str, raw: _Raw, lanes: dict[str, int]) -> list[tuple[Link, str, int]]:
    """Every link over a junction with its programme and place in it ("" and -1 without signal)."""
    onward = {
        f"{c.get('from')}_{c.get('fromLane')}": c.get("via", "")
        for c in raw.connections
        if c.get("from", "").startswith(":")
    }
    place: dict[str, tuple[str, int]] = {}
    for junction in raw.nodes:
        if junction.get("type") != "internal":
            place |= {
                inner: (junction.get("id", ""), i)
                for i, inner in enumerate((junction.get("intLanes") or "").split())
            }
    found: list[tuple[Link, str, int]] = []
    for c in raw.connections:
        start = f"{c.get('from')}_{c.get('fromLane')}"
        end = f"{c.get('to')}_{c.get('toLane')}"
        via = c.get("via", "")
        crossing = raw.function.get(c.get("to", "")) == "crossing"
        if start not in lanes or end not in lanes:
            continue
        if crossing:
            inside = list[str]()
            node, request, length, speed = (
                *place.get(end, ("", -1)),
                float(raw.lanes[end].get("length", "0")),
                1.0,
            )
        elif (
            raw.function.get(c.get("from", "")) in ("crossing", "walkingarea")
            or raw.function.get(c.get("to", "")) == "walkingarea"
        ):
            continue
        else:
            length = 0.0
            speed = float(raw.lanes[end].get("speed", "13.9"))
            hop = via
            inside = list[str]()
            while hop in raw.lanes:
                inside.append(hop)
                length += float(raw.lanes[hop].get("length", "0"))
                speed = min(speed, float(raw.lanes[hop].get("speed", "13.9")))
                if hop in place:
                    break
                hop = onward.get(hop, "")
            node, request = place.get(hop, ("", -1))
        tl = c.get("tl", "")
        if tl and request < 0:
            raise RoadsError(
                f"{path}: connection {start} -> {end} of traffic light {tl!r} "
                "has no internal lane, so its right of way is unknown. Rebuild the network "
                "with netconvert without --no-internal-links."
            )
        kind = Kind.PEDESTRIAN if crossing else max(_kind(raw.lanes[start]), _kind(raw.lanes[end]))
        direction = "c" if crossing else c.get("dir", "s")
        found.append(
            (
                Link(
                    node,
                    request,
                    lanes[start],
                    lanes[end],
                    -1,
                    direction,
                    length,
                    speed,
                    kind,
                    tuple(inside),
                ),
                tl,
                int(c.get("linkIndex", "-1")),
            )
        )
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
    # foes of which the network puts neither first (opposing left turns that cut each other): each
    # gives way to the other
    yields |= conflicts & ~yields & ~yields.T
    return conflicts, yields


def _assemble(
    path: str, raw: _Raw, lane_of: dict[str, int], found: list[tuple[Link, str, int]]
) -> Network:
    by_tl: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, (_, tl, place) in enumerate(found):
        if tl:
            if tl not in raw.programmes:
                raise RoadsError(
                    f"{path}: connection {i} names traffic light {tl!r}, which has no "
                    "programme (<tlLogic>)."
                )
            by_tl[tl][place].append(i)
    links = [link for link, _, _ in found]
    nodes_of = {
        tl: {links[i].node for own in by_tl[tl].values() for i in own}
        for tl in raw.programmes
        if tl in by_tl
    }
    groups: list[SignalGroup] = []
    junctions: list[Junction] = []
    warnings: list[str] = []
    plans = {tl: _phases(path, raw.programmes[tl], max(by_tl[tl]) + 1) for tl in nodes_of}
    for members in _clusters(nodes_of):
        first = len(groups)
        for tl in members:
            states = plans[tl][0]
            for place in sorted(by_tl[tl]):
                own = tuple(by_tl[tl][place])
                kind = max(links[i].kind for i in own)
                groups.append(
                    SignalGroup(
                        tl, place, len(junctions), kind, own, any(s[place] == "s" for s in states)
                    )
                )
        junctions.append(
            _junction(path, raw, links, groups, first, {tl: plans[tl] for tl in members}, warnings)
        )
    if not junctions:
        raise RoadsError(
            f"{path}: no connection is controlled by any of the {len(raw.programmes)} traffic "
            "lights. Assign links to them (tl, linkIndex)."
        )
    group_of = {i: g for g, group in enumerate(groups) for i in group.links}
    signalled = tuple(
        replace(x, group=group_of[i]) if i in group_of else x for i, x in enumerate(links)
    )
    lanes = tuple(
        Lane(
            name,
            raw.edge_of[name],
            float(e.get("length", "0")),
            float(e.get("speed", "13.9")),
            _kind(e),
            (_points(e.get("shape", "")) or [(0.0, 0.0)])[-1],
        )
        for name, e in ((name, raw.lanes[name]) for name in lane_of)
    )
    return Network(
        path, lanes, signalled, tuple(groups), tuple(junctions), lane_of, tuple(warnings)
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
    own, members = groups[first:], tuple(plans)
    conflicts, yields = _right_of_way(raw, links, [list(g.links) for g in own])
    parts: list[tuple[ColourArray, list[float], float]] = []
    for tl, (states, durations, offset) in plans.items():
        places = [g.index for g in own if g.tl_id == tl]
        parts.append(
            (
                np.array([[COLOUR_OF[s[p]] for p in places] for s in states], np.int8),
                durations,
                offset,
            )
        )
    colours, durations, offset = merge_programmes(parts)
    for phase, row in enumerate(colours):
        mended = permissible(row, conflicts, yields)
        if (mended != row).any():
            places = [own[i].index for i in np.flatnonzero(mended != row)]
            warnings.append(
                f"junction {members[0]!r}: phase {phase} shows conflicting greens; links "
                f"{places} are lowered to what right of way allows"
            )
            colours[phase] = mended
    stages = green_phases(colours)
    never = [
        i
        for i in range(len(own))
        if not (stages[:, i] >= Colour.PERMISSIVE).any() and (colours[:, i] != Colour.DARK).any()
    ]
    if never:
        group = own[never[0]]
        raise RoadsError(
            f"{path}: junction {members[0]!r} has no stage that serves link {group.index} of "
            f"traffic light {group.tl_id!r} "
            f"(direction {links[group.links[0]].direction!r}). Give the programme a green "
            "phase for it, or take the signal off the link."
        )
    if not len(stages):
        stages = maximal_stages(conflicts)
    programme = Programme(colours, np.array(durations, np.float64), offset)
    return Junction(members[0], members, first, len(groups), conflicts, yields, stages, programme)


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
