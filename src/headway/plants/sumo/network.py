"""Reading SUMO networks (`*.net.xml`, also gzipped) into a `Network`.

Conflicts come from the right-of-way data of each junction (`<request>`: `foes` and `response`),
never from the signal programme: a programme that shows two conflicting protected greens is read,
corrected and warned of. What cannot be controlled is left to SUMO, alone, and listed
(`Network.not_controlled`).
"""

from __future__ import annotations

import gzip
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations, product
from pathlib import Path

import numpy as np

from headway.plants.sumo.programmes import (
    RAIL,
    UNREADABLE,
    running_programmes,
    seconds,
    stages_of_rings,
)
from headway.roads.network import (
    BoolArray,
    Colour,
    ColourArray,
    Junction,
    Kind,
    Lane,
    Link,
    Network,
    NotControlled,
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

# right of way as a signal that is off leaves it: after all others, and before them
OFF_AS_GREEN = {"o": Colour.PERMISSIVE, "O": Colour.GREEN}

WALKING_MPS = 1.0  # of pedestrians on a crossing, where the network says nothing
DEFAULT_SPEED = "13.9"  # m/s, as SUMO has it where a lane says nothing

_Phases = tuple[list[str], list[float], float]


@dataclass
class _Raw:
    """The parts of the files that matter, as text; foes and give-way of each request (node, index)
    as sets of indices at that node. faults: why a traffic light cannot be controlled.
    """

    lanes: dict[str, ET.Element]
    edge_of: dict[str, str]
    function: dict[str, str]
    connections: list[ET.Element]
    nodes: list[ET.Element]
    programmes: dict[str, ET.Element]
    faults: dict[str, str]
    foes: dict[tuple[str, int], frozenset[int]]
    gives_way_to: dict[tuple[str, int], frozenset[int]]


def read_network(path: str | Path, additional: Sequence[str] = (), begin_s: float = 0.0) -> Network:
    """Read the network at `path`, with the programmes that SUMO runs from `begin_s` on if it loads
    these additional files. Raises RoadsError with the place and the remedy where nothing of it can
    be controlled.
    """
    try:
        raw = _parse(Path(path), additional, begin_s)
        lanes = {
            name: i
            for i, name in enumerate(
                n for n in raw.lanes if raw.function[raw.edge_of[n]] != "internal"
            )
        }
        return _assemble(str(path), raw, lanes, _links(raw, lanes))
    except RoadsError:
        raise
    except (ValueError, LookupError) as error:
        raise RoadsError(
            f"{path}: is not as netconvert writes networks ({error!r}). Rebuild it with netconvert."
        ) from error


def _parse(path: Path, additional: Sequence[str], begin_s: float) -> _Raw:
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
    raw = _Raw(
        lanes={},
        edge_of={},
        function={},
        connections=root.findall("connection"),
        nodes=root.findall("junction"),
        programmes=running_programmes(root, additional, begin_s),
        faults={},
        foes={},
        gives_way_to={},
    )
    for edge in root.iter("edge"):
        raw.function[edge.get("id", "")] = edge.get("function", "normal")
        for lane in edge.findall("lane"):
            raw.lanes[lane.get("id", "")] = lane
            raw.edge_of[lane.get("id", "")] = edge.get("id", "")
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


def _figure(text: str) -> float:
    """A length or a speed. Raises ValueError for what is none."""
    value = float(text)
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{text!r} is no length and no speed")
    return value


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
        self._leaving: dict[str, list[str]] = {}  # what each lane leads to, in SUMO's order
        for c in raw.connections:
            self._leaving.setdefault(_lane_id(c, "from"), []).append(_lane_id(c, "to"))
        for node in raw.nodes:
            if node.get("type") != "internal":
                inside = (node.get("intLanes") or "").split()
                for i, lane in enumerate(inside or self._without_lanes(node)):
                    self._request_of[lane] = (node.get("id", ""), i)

    def _without_lanes(self, node: ET.Element) -> list[str]:
        """Of a node without internal lanes: each connection as "from>to", in the order of the
        requests; none if these are of other connections.
        """
        incoming = (node.get("incLanes") or "").split()
        ways = [f"{lane}>{end}" for lane in incoming for end in self._leaving.get(lane, ())]
        return ways if len(ways) == len(node.findall("request")) else []

    def straight(self, start: str, end: str) -> _Way:
        """From lane to lane, where the network has no internal lanes."""
        node, request = self._request_of.get(f"{start}>{end}", ("", -1))
        lanes = self._raw.lanes
        here, there = (_points(lanes[name].get("shape", "")) for name in (start, end))
        length_m = math.dist(here[-1], there[0]) if here and there else 0.0
        return _Way(node, request, length_m, _figure(lanes[end].get("speed", DEFAULT_SPEED)))

    def over_crossing(self, crossing: str) -> _Way:
        """Of pedestrians, at walking speed."""
        node, request = self._request_of.get(crossing, ("", -1))
        length_m = _figure(self._raw.lanes[crossing].get("length", "0"))
        return _Way(node, request, length_m, WALKING_MPS)

    def over_internal_lanes(self, via: str, end: str) -> _Way:
        """From the internal lane `via` on, up to the one that has the right of way."""
        lanes = self._raw.lanes
        length_m = 0.0
        speed_mps = _figure(lanes[end].get("speed", DEFAULT_SPEED))
        inside = list[str]()
        lane = via
        while lane in lanes and lane not in inside:  # damaged ones may lead in a circle
            inside.append(lane)
            length_m += _figure(lanes[lane].get("length", "0"))
            speed_mps = min(speed_mps, _figure(lanes[lane].get("speed", DEFAULT_SPEED)))
            if lane in self._request_of:
                break
            lane = self._onward.get(lane, "")
        node, request = self._request_of.get(lane, ("", -1))
        return _Way(node, request, length_m, speed_mps, tuple(inside))


def _lane_id(connection: ET.Element, which: str) -> str:
    """Of the lane that a connection comes `from`, or leads `to`."""
    return f"{connection.get(which)}_{connection.get(which + 'Lane')}"


def _links(raw: _Raw, lanes: dict[str, int]) -> list[tuple[Link, str, int]]:
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
        tl = c.get("tl", "")
        if crossing:
            way = ways.over_crossing(end)
        elif c.get("via") or not tl:
            way = ways.over_internal_lanes(c.get("via", ""), end)
        else:
            way = ways.straight(start, end)
        if tl and way.request < 0:
            fault = (
                f"connection {start} -> {end} of traffic light {tl!r} "
                "has no internal lane, so its right of way is unknown. Rebuild the network "
                "with netconvert without --no-internal-links."
            )
            raw.faults.setdefault(tl, fault)
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


def _phases(programme: ET.Element, width: int) -> _Phases:
    """States, durations (seconds) and offset of a programme whose links use `width` places of a
    state. Raises RoadsError.
    """
    name = programme.get("id", "")
    phases = stages_of_rings(programme) or [
        (p.get("state", ""), seconds(p.get("duration", "0"))) for p in programme.findall("phase")
    ]
    states, durations = [state for state, _ in phases], [lasts_s for _, lasts_s in phases]
    if not states or not 0.0 < sum(durations) < math.inf or min(durations) < 0.0:
        raise RoadsError(
            f"the programme of traffic light {name!r} has no phase of any length. "
            "Give it at least one green phase."
        )
    for i, state in enumerate(states):
        if len(state) < width:
            raise RoadsError(
                f"traffic light {name!r}, phase {i}: the state {state!r} has "
                f"{len(state)} places, but its connections use {width}."
            )
        if unknown := set(state) - set(COLOUR_OF):
            raise RoadsError(
                f"traffic light {name!r}, phase {i}: unknown colours "
                f"{sorted(unknown)} in {state!r}."
            )
    offset = programme.get("offset", "0")
    return states, durations, seconds(offset) if offset != "begin" else 0.0


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
            if _are_foes(raw, links[i], links[j]):
                request = (links[i].node, links[i].request)
                conflicts[a, b] = True
                all_yield[a, b] &= links[j].request in raw.gives_way_to.get(request, none)
    yields = conflicts & all_yield
    # conflicts of which the network puts neither first (opposing left turns that cut each other):
    # each
    # gives way to the other
    yields |= conflicts & ~yields & ~yields.T
    return conflicts, yields


def _are_foes(raw: _Raw, one: Link, other: Link) -> bool:
    """Their ways over the node cross or meet; those of one lane follow each other."""
    if one.node != other.node or one.from_lane == other.from_lane:
        return False
    none = frozenset[int]()
    return other.request in raw.foes.get((one.node, one.request), none) or (
        one.request in raw.foes.get((other.node, other.request), none)
    )


def _note_foes_on_one_lamp(
    raw: _Raw, links: list[Link], places: dict[int, list[int]], tl: str, edges: list[str]
) -> None:
    """Whatever a lamp shows, it would show green to two roads whose streams cross each other; lanes
    of one road may merge. edges: of each lane.
    """
    for place, own in places.items():
        for i, j in combinations(own, 2):
            one, other = links[i], links[j]
            if edges[one.from_lane] != edges[other.from_lane] and _are_foes(raw, one, other):
                fault = (
                    f"link {place} of traffic light {tl!r} is one lamp for streams that cross each "
                    f"other, from {edges[one.from_lane]} and {edges[other.from_lane]}. Give each a "
                    "linkIndex of its own."
                )
                raw.faults.setdefault(tl, fault)


def _assemble(
    path: str, raw: _Raw, lane_of: dict[str, int], found: list[tuple[Link, str, int]]
) -> Network:
    """The network of the links that were found."""
    links = [link for link, _, _ in found]
    by_programme = _links_by_programme(raw, found)
    edges = [raw.edge_of[name] for name in lane_of]
    for tl, places in by_programme.items():
        _note_foes_on_one_lamp(raw, links, places, tl, edges)
    nodes_of = {
        tl: {links[i].node for own in places.values() for i in own} - {""}
        for tl, places in by_programme.items()
    }

    # a junction is all programmes that meet at a node
    parts = _Parts([], [], [], [])
    for members in _clusters(nodes_of):
        try:
            own = {tl: by_programme[tl] for tl in members}
            parts.add(_junction(raw, links, own, (len(parts.junctions), len(parts.groups))))
        except RoadsError as error:
            parts.left.append(NotControlled(members, str(error)))
        except RecursionError:
            parts.left.append(NotControlled(members, f"junction {members[0]!r} is too large."))
    if not parts.junctions:
        reason = (
            f"no connection is controlled by any of the {len(raw.programmes)} traffic "
            "lights. Assign links to them (tl, linkIndex)."
        )
        if parts.left:
            reason = parts.left[0].reason
        raise RoadsError(f"{path}: {reason}")

    group_of = {i: g for g, group in enumerate(parts.groups) for i in group.links}
    alone = {i for places in by_programme.values() for own in places.values() for i in own}
    return Network(
        path=path,
        lanes=tuple(_lane(name, raw) for name in lane_of),
        links=tuple(
            replace(x, group=group_of.get(i, -1), left_alone=i in alone and i not in group_of)
            for i, x in enumerate(links)
        ),
        groups=tuple(parts.groups),
        junctions=tuple(parts.junctions),
        lane_index=lane_of,
        warnings=tuple(parts.warnings),
        not_controlled=tuple(parts.left),
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What junctions are made of, and what was left out of them."""

    groups: list[SignalGroup]
    junctions: list[Junction]
    warnings: list[str]
    left: list[NotControlled]

    def add(self, other: _Parts) -> None:
        self.groups.extend(other.groups)
        self.junctions.extend(other.junctions)
        self.warnings.extend(other.warnings)
        self.left.extend(other.left)


def _links_by_programme(
    raw: _Raw, found: list[tuple[Link, str, int]]
) -> dict[str, dict[int, list[int]]]:
    """Links of each place of each programme, in the order of the programmes in the file. Those of
    rail signals and crossings belong to none.
    """
    rail = {node.get("id", "") for node in raw.nodes if node.get("type") in RAIL}
    by_programme: dict[str, dict[int, list[int]]] = {tl: {} for tl in raw.programmes}
    for i, (_, tl, place) in enumerate(found):
        if tl in raw.programmes or (tl and tl not in rail):
            by_programme.setdefault(tl, {}).setdefault(place, []).append(i)
    return {tl: places for tl, places in by_programme.items() if places}


def _plan(raw: _Raw, tl: str, places: dict[int, list[int]]) -> _Phases:
    """The programme of traffic light `tl`, if it can be controlled. Raises RoadsError."""
    if fault := raw.faults.get(tl):
        raise RoadsError(fault)
    if tl not in raw.programmes:
        raise RoadsError(
            f"a connection names traffic light {tl!r}, which has no programme (<tlLogic>)."
        )
    if min(places) < 0:
        raise RoadsError(f"a connection of traffic light {tl!r} has no linkIndex.")
    return _phases(raw.programmes[tl], max(places) + 1)


def _group(
    tl: str, junction: int, links: list[Link], place: int, own: list[int], letters: str
) -> SignalGroup:
    """The signal group of a place of a programme, which shows `letters` phase by phase."""
    return SignalGroup(
        tl_id=tl,
        index=place,
        junction=junction,
        kind=max(links[i].kind for i in own),
        links=tuple(own),
        turn_on_red="s" in letters,
    )


def _lane(name: str, raw: _Raw) -> Lane:
    element = raw.lanes[name]
    return Lane(
        id=name,
        edge=raw.edge_of[name],
        length_m=_figure(element.get("length", "0")),
        speed_mps=_figure(element.get("speed", DEFAULT_SPEED)),
        kind=_kind(element),
        end_xy=(_points(element.get("shape", "")) or [(0.0, 0.0)])[-1],
    )


def _junction(
    raw: _Raw,
    links: list[Link],
    by_programme: dict[str, dict[int, list[int]]],
    at: tuple[int, int],
) -> _Parts:
    """The junction of these programmes, with the links of their places. at: its index, and that of
    its first group. Raises RoadsError if it cannot be controlled.
    """
    (number, first), members = at, tuple(by_programme)
    plans = {tl: _plan(raw, tl, places) for tl, places in by_programme.items()}
    own: list[SignalGroup] = []
    left: list[NotControlled] = []
    letters_of = {
        (tl, place): "".join(state[place] for state in plans[tl][0])
        for tl, places in by_programme.items()
        for place in sorted(places)
    }
    switched_off = all(set(letters) <= set("oO") for letters in letters_of.values())
    for (tl, place), letters in letters_of.items():
        group = _group(tl, number, links, place, by_programme[tl][place], letters)
        if set(letters).isdisjoint("gGoO"):
            left.append(_never_green(members[0], links, group, letters))
        elif set(letters) <= set("oO") and not switched_off:
            left.append(_always_off(members[0], group, letters))
        else:
            own.append(group)
    if not own:
        raise RoadsError(left[0].reason)

    conflicts, yields = _right_of_way(raw, links, [list(g.links) for g in own])
    colours, durations, offset = merge_programmes(
        [(_colours(own, tl, states), d, o) for tl, (states, d, o) in plans.items()]
    )
    warnings = _lower(members[0], own, colours, conflicts, yields)
    stages = green_phases(colours)
    junction = Junction(
        id=members[0],
        tl_ids=members,
        first=first,
        end=first + len(own),
        conflicts=conflicts,
        yields=yields,
        stages=stages if len(stages) else maximal_stages(conflicts),
        programme=Programme(colours, np.array(durations, np.float64), offset),
    )
    return _Parts(own, [junction], warnings, left)


def _never_green(
    junction: str, links: list[Link], group: SignalGroup, letters: str
) -> NotControlled:
    """The link of a place at which the programme shows `letters`, none of them green: it goes on
    to show what it always shows, else red.
    """
    direction = links[group.links[0]].direction
    reason = (
        f"junction {junction!r} has no stage that serves link {group.index} of traffic light "
        f"{group.tl_id!r} (direction {direction!r}). Give the programme a green phase for it, or "
        "take the signal off the link."
    )
    shows = letters[0] if len(set(letters)) == 1 else "s" if group.turn_on_red else "r"
    return NotControlled((group.tl_id,), reason, group.index, shows)


def _always_off(junction: str, group: SignalGroup, letters: str) -> NotControlled:
    """The link of a place that is off in every phase: its traffic drives by right of way alone."""
    reason = (
        f"junction {junction!r}: link {group.index} of traffic light {group.tl_id!r} is off in "
        "every phase. Give the programme a green phase for it, or take the signal off the link."
    )
    return NotControlled((group.tl_id,), reason, group.index, "o" if "o" in letters else "O")


def _lower(
    junction: str,
    own: list[SignalGroup],
    colours: ColourArray,
    conflicts: BoolArray,
    yields: BoolArray,
) -> list[str]:
    """Lower the greens of `colours`, (phases, groups), to what right of way allows; returns what
    was lowered.
    """
    warnings = []
    for phase, row in enumerate(colours):
        allowed = permissible(row, conflicts, yields)
        if (allowed != row).any():
            places = [own[i].index for i in np.flatnonzero(allowed != row)]
            warnings.append(
                f"junction {junction!r}: phase {phase} shows conflicting greens; links "
                f"{places} are lowered to what right of way allows"
            )
            colours[phase] = allowed
    return warnings


def _colours(own: list[SignalGroup], tl: str, states: list[str]) -> ColourArray:
    """(phases, groups of this programme). Where it is off in some phases, and never green in the
    others, off is its green.
    """
    places = [g.index for g in own if g.tl_id == tl]
    rows = np.array([[COLOUR_OF[s[p]] for p in places] for s in states], np.int8)
    rows = rows.reshape(len(states), len(places))
    for k, place in enumerate(places):
        letters = {s[place] for s in states}
        if letters.isdisjoint("gG") and not letters <= set("oO"):
            lit = [OFF_AS_GREEN.get(s[place], COLOUR_OF[s[place]]) for s in states]
            rows[:, k] = lit
    return rows


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
