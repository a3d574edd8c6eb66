"""Reading SUMO networks (`*.net.xml`, also gzipped) into a `Network`.

Conflicts come from the right-of-way data of each junction (`<request>`: `foes` and `response`), never from the signal
programme: a programme that shows two conflicting protected greens is read, corrected and warned of.
"""

from __future__ import annotations

import gzip
import math
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from headway.roads.network import BoolArray, Colour, ColourArray, Junction, Kind, Lane, Link, Network, Programme, RoadsError, SignalGroup
from headway.roads.stages import green_phases, maximal_stages, merge_programmes, permissible

COLOUR_OF = {
    "r": Colour.RED, "s": Colour.RED, "u": Colour.RED, "y": Colour.YELLOW, "Y": Colour.YELLOW,
    "g": Colour.PERMISSIVE, "G": Colour.GREEN, "o": Colour.DARK, "O": Colour.DARK,
}  # fmt: skip


@dataclass
class _Raw:
    """The parts of the file that matter, as text."""

    lanes: dict[str, ET.Element]
    edge_of: dict[str, str]
    function: dict[str, str]
    connections: list[ET.Element]
    nodes: list[ET.Element]
    programmes: dict[str, ET.Element]


def read_network(path: str | Path) -> Network:
    """Read the network at `path`. Raises RoadsError with the place and the remedy where it cannot be controlled."""
    raw = _parse(Path(path))
    lanes = {name: i for i, name in enumerate(n for n in raw.lanes if raw.function[raw.edge_of[n]] != "internal")}
    links = _links(str(path), raw, lanes)
    return _assemble(str(path), raw, lanes, links)


def _parse(path: Path) -> _Raw:
    if not path.is_file():
        raise RoadsError(f"{path}: no such network file. Check the path, or the net-file entry of the .sumocfg.")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            root = ET.parse(stream).getroot()
    except (ET.ParseError, gzip.BadGzipFile, EOFError) as error:
        raise RoadsError(f"{path}: not a readable SUMO network ({error}). Make it anew with netconvert.") from error
    if root.tag != "net":
        raise RoadsError(f"{path}: the root element is <{root.tag}>, not <net>: this is no SUMO network.")
    raw = _Raw({}, {}, {}, root.findall("connection"), root.findall("junction"), {})
    for edge in root.iter("edge"):
        raw.function[edge.get("id", "")] = edge.get("function", "normal")
        for lane in edge.findall("lane"):
            raw.lanes[lane.get("id", "")] = lane
            raw.edge_of[lane.get("id", "")] = edge.get("id", "")
    for programme in root.iter("tlLogic"):
        raw.programmes.setdefault(programme.get("id", ""), programme)
    if not raw.programmes:
        raise RoadsError(f"{path}: the network has no traffic light. Headway needs at least one signalised junction (netconvert --tls.set).")
    return raw


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
    onward = {f"{c.get('from')}_{c.get('fromLane')}": c.get("via") for c in raw.connections if c.get("from", "").startswith(":")}
    place: dict[str, tuple[str, int]] = {}
    for junction in raw.nodes:
        if junction.get("type") != "internal":
            place |= {inner: (junction.get("id", ""), i) for i, inner in enumerate((junction.get("intLanes") or "").split())}
    found: list[tuple[Link, str, int]] = []
    for c in raw.connections:
        start, end, via = f"{c.get('from')}_{c.get('fromLane')}", f"{c.get('to')}_{c.get('toLane')}", c.get("via")
        crossing = raw.function.get(c.get("to", "")) == "crossing"
        if start not in lanes or (end not in lanes):
            continue
        if crossing:
            inside = list[str]()
            node, request, length, speed = *place.get(end, ("", -1)), float(raw.lanes[end].get("length", "0")), 1.0
        elif raw.function.get(c.get("from", "")) in ("crossing", "walkingarea") or raw.function.get(c.get("to", "")) == "walkingarea":
            continue
        else:
            length, speed, hop, inside = 0.0, float(raw.lanes[end].get("speed", "13.9")), via, list[str]()
            while hop is not None and hop in raw.lanes:
                inside.append(hop)
                length += float(raw.lanes[hop].get("length", "0"))
                speed = min(speed, float(raw.lanes[hop].get("speed", "13.9")))
                if hop in place:
                    break
                hop = onward.get(hop)
            node, request = place.get(hop or "", ("", -1))
        tl = c.get("tl", "")
        if tl and request < 0:
            raise RoadsError(
                f"{path}: connection {start} -> {end} of traffic light {tl!r} "
                "has no internal lane, so its right of way is unknown. Rebuild the network with netconvert without --no-internal-links."
            )
        kind = Kind.PEDESTRIAN if crossing else max(_kind(raw.lanes[start]), _kind(raw.lanes[end]))
        direction = "c" if crossing else c.get("dir", "s")
        found.append(
            (Link(node, request, lanes[start], lanes[end], -1, direction, length, speed, kind, tuple(inside)), tl, int(c.get("linkIndex", "-1")))
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


def _phases(path: str, programme: ET.Element, width: int) -> tuple[list[str], list[float], float]:
    name = programme.get("id", "")
    states = [p.get("state", "") for p in programme.findall("phase")]
    durations = [float(p.get("duration", "0")) for p in programme.findall("phase")]
    if not states or sum(durations) <= 0.0:
        raise RoadsError(f"{path}: the programme of traffic light {name!r} has no phase of any length. Give it at least one green phase.")
    for i, state in enumerate(states):
        if len(state) < width:
            raise RoadsError(
                f"{path}: traffic light {name!r}, phase {i}: the state {state!r} has {len(state)} places, but its connections use {width}."
            )
        if unknown := set(state) - set(COLOUR_OF):
            raise RoadsError(f"{path}: traffic light {name!r}, phase {i}: unknown colours {sorted(unknown)} in {state!r}.")
    offset = programme.get("offset", "0")
    return states, durations, float(offset) if offset != "begin" else 0.0


def _right_of_way(raw: _Raw, links: list[Link], members: list[list[int]]) -> tuple[BoolArray, BoolArray]:
    """Conflicts and give-way between the groups whose links are `members`."""
    requests: dict[str, dict[int, tuple[str, str]]] = defaultdict(dict)
    wanted = {links[i].node for group in members for i in group}
    for node in raw.nodes:
        if node.get("id", "") in wanted:
            for r in node.findall("request"):
                requests[node.get("id", "")][int(r.get("index", "-1"))] = (r.get("foes", "")[::-1], r.get("response", "")[::-1])
    n = len(members)
    conflicts = np.zeros((n, n), np.bool_)
    all_yield = np.ones((n, n), np.bool_)
    for a in range(n):
        for b in range(n):
            for i in members[a] if a != b else ():
                foes, response = requests[links[i].node].get(links[i].request, ("", ""))
                for j in members[b]:
                    if links[i].node != links[j].node or links[i].from_lane == links[j].from_lane:
                        continue
                    other = requests[links[j].node].get(links[j].request, ("", ""))[0]
                    k = links[j].request
                    if foes[k : k + 1] == "1" or other[links[i].request : links[i].request + 1] == "1":
                        conflicts[a, b] = conflicts[b, a] = True
                        all_yield[a, b] &= response[k : k + 1] == "1"
    yields = conflicts & all_yield
    # foes of which the network puts neither first (opposing left turns that cut each other): each gives way to the other
    yields |= conflicts & ~yields & ~yields.T
    return conflicts, yields


def _assemble(path: str, raw: _Raw, lane_of: dict[str, int], found: list[tuple[Link, str, int]]) -> Network:
    by_tl: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, (_, tl, place) in enumerate(found):
        if tl:
            if tl not in raw.programmes:
                raise RoadsError(f"{path}: connection {i} names traffic light {tl!r}, which has no programme (<tlLogic>).")
            by_tl[tl][place].append(i)
    links = [link for link, _, _ in found]
    nodes_of = {tl: {links[i].node for own in by_tl[tl].values() for i in own} for tl in raw.programmes if by_tl.get(tl)}
    groups: list[SignalGroup] = []
    junctions: list[Junction] = []
    warnings: list[str] = []
    for members in _clusters(nodes_of):
        first = len(groups)
        for tl in members:
            states = _phases(path, raw.programmes[tl], max(by_tl[tl]) + 1)[0]
            for place in sorted(by_tl[tl]):
                own = tuple(by_tl[tl][place])
                kind = max((links[i].kind for i in own), default=Kind.VEHICLE)
                groups.append(SignalGroup(tl, place, len(junctions), kind, own, any(s[place] == "s" for s in states)))
        junctions.append(_junction(path, raw, links, groups, first, members, warnings))
    if not junctions:
        raise RoadsError(
            f"{path}: no connection is controlled by any of the {len(raw.programmes)} traffic lights. Assign links to them (tl, linkIndex)."
        )
    group_of = {i: g for g, group in enumerate(groups) for i in group.links}
    signalled = tuple(replace(x, group=group_of.get(i, -1)) for i, x in enumerate(links))
    lanes = tuple(
        Lane(
            name,
            raw.edge_of[name],
            float(e.get("length", "0")),
            float(e.get("speed", "13.9")),
            _kind(e),
            (_points(e.get("shape", "0,0")) or [(0.0, 0.0)])[-1],
        )
        for name, e in ((name, raw.lanes[name]) for name in lane_of)
    )
    return Network(path, lanes, signalled, tuple(groups), tuple(junctions), lane_of, tuple(warnings))


def _junction(
    path: str, raw: _Raw, links: list[Link], groups: list[SignalGroup], first: int, members: tuple[str, ...], warnings: list[str]
) -> Junction:
    own = groups[first:]
    conflicts, yields = _right_of_way(raw, links, [list(g.links) for g in own])
    parts: list[tuple[ColourArray, list[float], float]] = []
    for tl in members:
        states, durations, offset = _phases(path, raw.programmes[tl], 0)
        places = [g.index for g in own if g.tl_id == tl]
        parts.append((np.array([[COLOUR_OF[s[p]] for p in places] for s in states], np.int8), durations, offset))
    colours, durations, offset = merge_programmes(parts)
    for phase, row in enumerate(colours):
        mended = permissible(row, conflicts, yields)
        if (mended != row).any():
            places = [own[i].index for i in np.flatnonzero(mended != row)]
            warnings.append(
                f"junction {members[0]!r}: phase {phase} shows conflicting greens; links {places} are lowered to what right of way allows"
            )
            colours[phase] = mended
    stages = green_phases(colours)
    unserved = [i for i in range(len(own)) if not len(stages) or not (stages[:, i] >= Colour.PERMISSIVE).any()]
    never = [own[i].index for i in unserved if (colours[:, i] != Colour.DARK).any()]
    if never and len(colours) > 0:
        raise RoadsError(
            f"{path}: junction {members[0]!r} has no stage that serves link {never[0]} "
            f"(from {_from_name(links, own, unserved[0])!r}). Give the programme a green phase for it, or take the signal off the link."
        )
    if not len(stages):
        stages = maximal_stages(conflicts)
    programme = Programme(colours, np.array(durations, np.float64), offset)
    return Junction(members[0], members, first, len(groups), conflicts, yields, stages, programme)


def _from_name(links: list[Link], own: list[SignalGroup], place: int) -> str:
    return f"lane {links[own[place].links[0]].from_lane}, direction {links[own[place].links[0]].direction}"


@dataclass(frozen=True, slots=True)
class Shapes:
    """What a map of the network is drawn from. lanes: (id, width m, points (k, 2)); junctions: outlines; signals: for each signal group the end
    of its lane (x, y) and the direction there, degrees clockwise from north."""

    lanes: list[tuple[str, float, list[tuple[float, float]]]]
    junctions: list[list[tuple[float, float]]]
    signals: list[tuple[float, float, float]]


def read_shapes(network: Network) -> Shapes:
    """The shapes of `network`, from its file. Raises RoadsError if it cannot be read."""
    opened = gzip.open if network.path.endswith(".gz") else open
    lanes, junctions, end = [], [], dict[str, tuple[float, float, float]]()
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
    except (OSError, ET.ParseError) as error:
        raise RoadsError(f"{network.path}: cannot be read ({error}).") from error
    from_lane = [network.lanes[network.links[g.links[0]].from_lane].id for g in network.groups]
    return Shapes(lanes, [j for j in junctions if len(j) > 2], [end.get(lane, (0.0, 0.0, 0.0)) for lane in from_lane])
