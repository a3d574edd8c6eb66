"""Small networks and observations made by hand,
for controllers whose decision can be worked out in the head.

Colours are written as letters: r red, y yellow, g permissive green, G protected green.
"""

from __future__ import annotations

import numpy as np

from headway.control.candidates import LIMIT
from headway.control.cycles import CycleTimes
from headway.control.planner import HOLDS_S, LENGTHS_S
from headway.control.planner_tables import planner_tables
from headway.control.queue_model import ROWS, VEHICLE, LaneQueues, Progress
from headway.control.stages import StageTable
from headway.roads import (
    Junction,
    Kind,
    Lane,
    Link,
    Network,
    Programme,
    SignalGroup,
    Timing,
    TimingProfile,
)
from headway.values import Observation, Vehicles

LEVEL = {"r": 1, "y": 2, "g": 3, "G": 4}


def colours(text):
    """'Gr' to int8 (groups,)."""
    return np.array([LEVEL[letter] for letter in text], np.int8)


def letters(found):
    """int8 (groups,) to 'Gr'."""
    return "".join("?ryGG"[x] if x != 3 else "g" for x in found)


def junction(name, first, stages, conflicts=(), yields=(), plan=None, offset_s=0.0):
    """conflicts, yields: pairs of the junction's own groups. plan: (colours, seconds) of each
    phase; the stages, 20 s each, where none is given.
    """
    n = len(stages[0])
    foes, gives = np.zeros((n, n), bool), np.zeros((n, n), bool)
    for a, b in conflicts:
        foes[a, b] = foes[b, a] = True
    for a, b in yields:
        gives[a, b] = True
    phases = plan or [(s, 20.0) for s in stages]
    programme = Programme(
        np.array([colours(c) for c, _ in phases]), np.array([s for _, s in phases], float), offset_s
    )
    return Junction(
        name,
        (name,),
        first,
        first + n,
        foes,
        gives,
        np.array([colours(s) for s in stages]),
        programme,
    )


def network(lanes, links, junctions):
    """lanes: (name, length_m, speed_mps); the street is the name up to '_'. links: (from, to,
    group, direction, length_m, speed_mps, places inside).

    Links of one group are those that name it; a group whose links go straight over a crossing ("c")
    is one for pedestrians.
    """
    place = {name: i for i, (name, _, _) in enumerate(lanes)}
    made_lanes = tuple(
        Lane(name, name.split("_")[0], float(m), float(v), Kind.VEHICLE, (0.0, 0.0))
        for name, m, v in lanes
    )
    made_links = tuple(
        Link(
            "J",
            i,
            place[a],
            place[b],
            g,
            way,
            float(m),
            float(v),
            Kind.PEDESTRIAN if way == "c" else Kind.VEHICLE,
            tuple(f"{i}.{x}" for x in range(n)),
        )
        for i, (a, b, g, way, m, v, n) in enumerate(links)
    )
    groups = []
    for j, one in enumerate(junctions):
        for g in one.groups:
            own = tuple(i for i, x in enumerate(made_links) if x.group == g)
            groups.append(
                SignalGroup(one.id, g - one.first, j, made_links[own[0]].kind, own, False)
            )
    return Network("by hand", made_lanes, made_links, tuple(groups), tuple(junctions), place)


def timing(net, least=5.0, yellow=3.0, clearance=0.0, min_cycle_s=0.0, max_cycle_s=np.inf):
    """The same times for all groups, or one for each."""
    full = [
        np.broadcast_to(np.asarray(x, float), len(net.groups)).copy()
        for x in (yellow, clearance, least, 120.0)
    ]
    rest = [np.full(len(net.groups), x) for x in (150.0, min_cycle_s, max_cycle_s)]
    profile = TimingProfile("hand", 1.0, 120.0, 150.0, min_cycle_s, 3.0, 0.0)
    return Timing(profile, *full, *rest)


def flat_tables(net, times, tick_s=1.0):
    """The planner's tables of a network, with its own holds and lengths."""
    stages = StageTable(net, times, every=True)
    return planner_tables(net, times, stages, HOLDS_S, LENGTHS_S, tick_s)


def limits(least, barred=-np.inf, due=np.inf, lit=False):
    """What limits the columns of a search, each for all or one by one."""
    out = np.zeros(len(least), LIMIT)
    out["min_green_s"], out["barred_s"], out["due_s"], out["is_lit"] = least, barred, due, lit
    return out


def cycle_times(groups, barred=None, due=None):
    """By group, seconds until it may begin again, and until it has to; free where none is given."""
    return CycleTimes(
        np.full(groups, -np.inf) if barred is None else np.array(barred, float),
        np.full(groups, np.inf) if due is None else np.array(due, float),
    )


def queues(lanes):
    """The planner's queues. lanes: of each its vehicles, nearest first,
    as the values of VEHICLE's fields in order.
    """
    rows = [tuple(vehicle) for lane in lanes for vehicle in lane]
    return LaneQueues(np.cumsum([0] + [len(lane) for lane in lanes]), np.array(rows, VEHICLE))


def progress(lanes, row=None, gone=77, last_s=77.7):
    """Progress of so many lanes: `gone` and `last_s` in `row`, nonsense in the others;
    the same in all rows if none is given.
    """
    made = Progress(
        np.full((ROWS, lanes), 77),
        np.full((ROWS, lanes), 77.7),
        np.full(2 * lanes, 77.7),
        np.full(lanes, 77),
    )
    rows = slice(None) if row is None else row
    made.gone[rows] = gone
    made.last_s[rows] = last_s
    return made


def vehicles(net, rows):
    """rows: (link or -1, distance_m, speed_mps[, waiting_s])."""
    link = np.array([r[0] for r in rows], np.int32)
    lane = np.array([net.links[k].from_lane if k >= 0 else -1 for k in link], np.int32)
    column = [np.array([r[i] if len(r) > i else 0.0 for r in rows], float) for i in (1, 2, 3)]
    return Vehicles(lane, link, *column, np.full(len(rows), 7.5), np.zeros(len(rows), bool))


def observed(
    net,
    at_s=100.0,
    rows=(),
    shown="",
    shown_for=60.0,
    count=None,
    arrived=None,
    persons=None,
    room=None,
    known=True,
    inside=True,
    completeness=None,
    unseen=None,
):
    """What is seen: by name of the lane for count and room, by number of the link or group for
    arrived, persons and unseen; nothing where none is given.
    """

    def column(n, given, empty, kind):
        out = np.full(n, empty, kind)
        for key, value in (given or {}).items():
            out[net.lane_index[key] if isinstance(key, str) else key] = value
        return out

    return Observation(
        at_s,
        vehicles(net, list(rows)),
        colours(shown),
        np.broadcast_to(np.asarray(shown_for, float), len(net.groups)).copy(),
        column(len(net.lanes), room, np.inf, float),
        column(len(net.lanes), count, 0, np.int32),
        column(len(net.links), arrived, 0, np.int32),
        column(len(net.groups), persons, 0, np.int32),
        np.ones(len(net.junctions)) if completeness is None else np.array(completeness, float),
        links_known=known,
        inside_seen=inside,
        unseen=None if unseen is None else column(len(net.groups), unseen, 0.0, float),
    )


def pair():
    """A junction of three groups that all cross, and one of two.

    Lanes a, b, c lead to groups 0, 1, 2; group 0 has two links (a straight on to x, a to the right
    to y). Lanes d, e lead to groups 3 and 4. Link 6 is under no signal.
    """
    lanes = (
        [(n, 200, 10) for n in "abc"]
        + [("x", 150, 10), ("y", 120, 10), ("z", 100, 10)]
        + [("d", 300, 15), ("e", 300, 15), ("o", 100, 10)]
    )
    links = [
        ("a", "x", 0, "s", 20, 10, 1), ("a", "y", 0, "r", 20, 10, 1), ("b", "y", 1, "s", 20, 10, 1),
        ("c", "z", 2, "s", 20, 10, 1),
        ("d", "o", 3, "s", 20, 10, 1), ("e", "x", 4, "s", 20, 10, 1),
        ("o", "z", -1, "s", 20, 10, 1),
    ]  # fmt: skip
    one = junction(
        "one",
        0,
        ["Grr", "rGr", "rrG"],
        [(0, 1), (0, 2), (1, 2)],
        plan=[("Grr", 30.0), ("yrr", 3.0), ("rGr", 10.0), ("rrG", 7.0)],
    )
    two = junction(
        "two", 3, ["Gr", "rG"], [(0, 1)], plan=[("Gr", 25.0), ("rG", 15.0)], offset_s=10.0
    )
    return network(lanes, links, [one, two])


def scenes(net, seed, count=40):
    """Random vehicles before random stages of `pair` that are shown for some time."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        rows = []
        for link in range(6):
            for _ in range(int(random.integers(0, 5))):
                standing = random.random() < 0.5
                speed, wait = (0.0, random.uniform(0, 60)) if standing else (8.0, 0.0)
                rows.append((link, float(random.uniform(0, 120)), speed, float(wait)))
        shown = random.choice(["Grr", "rGr", "rrG"]) + random.choice(["Gr", "rG"])
        known = bool(random.random() < 0.7)
        yield observed(net, 500.0, rows, shown, float(random.uniform(0, 40)), known=known)
