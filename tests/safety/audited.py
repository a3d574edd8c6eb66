"""The junction whose time lines are audited by hand."""

from __future__ import annotations

import numpy as np

from headway.roads import BENCHMARK, Junction, Kind, Network, Programme, SignalGroup, Timing


def junction(name, tls, first, conflicts, yields):
    n = len(conflicts)
    plan = Programme(np.ones((1, n), np.int8), np.ones(1), 0.0)
    return Junction(
        name,
        tls,
        first,
        first + n,
        np.array(conflicts, bool),
        np.array(yields, bool),
        plan.colours,
        plan,
    )


def matrix(n, *pairs):
    found = np.zeros((n, n), bool)
    for a, b in pairs:
        found[a, b] = True
    return found


def street():
    """Junction A: two groups that cross. Junction B: four groups of two programmes;
    their letters are B1[2], B1[0], B2[0], B2[1].

    Group 0 of B crosses all others of it, 2 and 3 cross; 2 gives way to 0, 0 gives way to 3.
    """
    a = junction("A", ("A",), 0, matrix(2, (0, 1), (1, 0)), matrix(2))
    crossing = [(0, 1), (0, 2), (0, 3), (2, 3)]
    b = junction(
        "B",
        ("B1", "B2"),
        2,
        matrix(4, *crossing, *[(y, x) for x, y in crossing]),
        matrix(4, (2, 0), (0, 3)),
    )
    places = [("A", 0, 0), ("A", 1, 0), ("B1", 2, 1), ("B1", 0, 1), ("B2", 0, 1), ("B2", 1, 1)]
    groups = tuple(SignalGroup(tl, index, j, Kind.VEHICLE, (), False) for tl, index, j in places)
    return Network("by hand", (), (), groups, (a, b), {})


NETWORK = street()


TIMING = Timing(
    BENCHMARK,
    yellow_s=np.array([3.0, 3.0, 3.0, 4.0, 5.0, 0.0]),
    clearance_s=np.array([0.0, 0.0, 2.0, 1.0, 0.5, 6.0]),
    min_green_s=np.array([5.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
    max_green_s=np.full(6, 90.0),
    max_red_s=np.full(6, 150.0),
    min_cycle_s=np.zeros(6),
    max_cycle_s=np.full(6, np.inf),
)
