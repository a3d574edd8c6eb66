"""Random signalised junctions, for properties that hold on every network."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from headway.roads import Colour, Junction, Kind, Lane, Link, Network, Programme, SignalGroup
from headway.roads.stages import maximal_stages


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """One to three junctions of two to eight groups with any symmetric conflicts,
    some of them permissive, some pedestrian.
    """
    lanes: list[Lane] = []
    links: list[Link] = []
    groups: list[SignalGroup] = []
    junctions: list[Junction] = []
    for j in range(draw(st.integers(1, 3))):
        n = draw(st.integers(2, 8))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        upper = np.triu(rng.random((n, n)) < draw(st.sampled_from([0.2, 0.5, 0.9])), 1)
        conflicts = upper | upper.T
        yields = conflicts & np.triu(rng.random((n, n)) < 0.4, 1)
        first = len(groups)
        for g in range(n):
            walk = bool(rng.random() < 0.2)
            kind = Kind.PEDESTRIAN if walk else Kind.VEHICLE
            lanes += [Lane(f"in{j}_{g}", f"in{j}_{g}", 100.0, float(rng.uniform(5, 25)), kind,
                (0.0, 0.0)),
                Lane(f"out{j}_{g}", f"out{j}_{g}", 100.0, 13.9, kind, (0.0, 0.0))]  # fmt: skip
            links.append(
                Link(
                    f"J{j}",
                    g,
                    len(lanes) - 2,
                    len(lanes) - 1,
                    first + g,
                    "c" if walk else "s",
                    float(rng.uniform(5, 40)),
                    10.0,
                    kind,
                )
            )
            groups.append(SignalGroup(f"J{j}", g, j, kind, (len(links) - 1,), False))
        stages = maximal_stages(conflicts)
        plan = Programme(stages, np.full(len(stages), 12.0), 0.0)
        junctions.append(
            Junction(f"J{j}", (f"J{j}",), first, len(groups), conflicts, yields, stages, plan)
        )
    assert all((s == Colour.GREEN).any() for junction in junctions for s in junction.stages)
    return Network(
        "random",
        tuple(lanes),
        tuple(links),
        tuple(groups),
        tuple(junctions),
        {x.id: i for i, x in enumerate(lanes)},
    )


def pair() -> Network:
    """The crossroads J, and K beside it: two groups (4 and 5) that cross each other,
    of a tl "K" that has them at places 3 and 7.

    Stages of K: first, second, none. Its programme: 10 s of the second, 20 s of the first, 5 s
        late.
    """
    one = crossroads()
    cross = np.array([[False, True], [True, False]])
    stages = np.array(
        [[Colour.GREEN, Colour.RED], [Colour.RED, Colour.GREEN], [Colour.RED, Colour.RED]], np.int8
    )
    lanes = one.lanes + tuple(
        Lane(f"{way}{g}", f"{way}{g}", 100.0, 13.9, Kind.VEHICLE, (0.0, 0.0))
        for g in (4, 5)
        for way in ("in", "out")
    )
    links = one.links + tuple(
        Link("K", g - 4, 2 * g, 2 * g + 1, g, "s", 20.0, 10.0, Kind.VEHICLE) for g in (4, 5)
    )
    groups = (
        *one.groups,
        SignalGroup("K", 3, 1, Kind.VEHICLE, (4,), False),
        SignalGroup("K", 7, 1, Kind.VEHICLE, (5,), False),
    )
    plan = Programme(stages[[1, 0]], np.array([10.0, 20.0]), 5.0)
    other = Junction("K", ("K",), 4, 6, cross, np.zeros((2, 2), bool), stages, plan)
    return Network(
        "pair",
        lanes,
        links,
        groups,
        (*one.junctions, other),
        {x.id: i for i, x in enumerate(lanes)},
    )


def crossroads() -> Network:
    """Four groups: 0 and 1 cross; 2 crosses nobody;
    3 is a left turn that crosses 0 and may give way to it. Stages: 0+2+3, 1+2, 3+2.
    """
    conflicts = np.zeros((4, 4), bool)
    for a, b in ((0, 1), (0, 3), (1, 3)):
        conflicts[a, b] = conflicts[b, a] = True
    yields = np.zeros((4, 4), bool)
    yields[3, 0] = True
    red, may, go = Colour.RED, Colour.PERMISSIVE, Colour.GREEN
    stages = np.array([[go, red, go, may], [red, go, go, red], [red, red, go, go]], np.int8)
    lanes = [
        Lane(f"{way}{g}", f"{way}{g}", 100.0, 13.9, Kind.VEHICLE, (0.0, 0.0))
        for g in range(4)
        for way in ("in", "out")
    ]
    links = tuple(
        Link("J", g, 2 * g, 2 * g + 1, g, "s", 20.0, 10.0, Kind.VEHICLE) for g in range(4)
    )
    groups = tuple(SignalGroup("J", g, 0, Kind.VEHICLE, (g,), False) for g in range(4))
    plan = Programme(stages, np.full(3, 12.0), 0.0)
    junction = Junction("J", ("J",), 0, 4, conflicts, yields, stages, plan)
    return Network(
        "crossroads",
        tuple(lanes),
        links,
        groups,
        (junction,),
        {x.id: i for i, x in enumerate(lanes)},
    )
