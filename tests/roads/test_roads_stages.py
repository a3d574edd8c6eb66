"""Stages: each rule in a table and against a naive statement of it over all small cases."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.roads import Colour, compatible_stages
from headway.roads.stages import (
    green_phases,
    is_compatible,
    maximal_stages,
    merge_programmes,
    permissible,
)

STEADY = list(Colour)[2:]  # the others flash
D, R, Y, P, G = STEADY
CONFLICT = np.array([[False, True], [True, False]])


def yielding(*pairs: tuple[int, int], n: int = 2) -> np.ndarray:
    """(a, b): a gives way to b."""
    out = np.zeros((n, n), bool)
    for a, b in pairs:
        out[a, b] = True
    return out


FIRST = yielding((0, 1))
SECOND = yielding((1, 0))
BOTH = yielding((0, 1), (1, 0))
NEITHER = yielding()


@pytest.mark.parametrize(
    ("colours", "yields", "allowed"),
    [
        ((G, G), FIRST, (P, G)),
        ((G, G), SECOND, (G, P)),
        ((G, G), BOTH, (P, G)),
        ((G, G), NEITHER, (G, R)),
        ((P, G), FIRST, (P, G)),
        ((P, G), SECOND, (P, P)),
        ((P, G), NEITHER, (R, G)),
        ((G, P), SECOND, (G, P)),
        ((G, P), FIRST, (P, P)),
        ((G, P), NEITHER, (G, R)),
        ((P, P), FIRST, (P, P)),
        ((P, P), SECOND, (P, P)),
        ((P, P), NEITHER, (P, R)),
        ((R, G), NEITHER, (R, G)),
        ((G, R), NEITHER, (G, R)),
        ((Y, G), NEITHER, (Y, G)),
        ((G, Y), NEITHER, (G, Y)),
        ((D, G), NEITHER, (D, G)),
        ((R, P), NEITHER, (R, P)),
    ],
)
def test_right_of_way_decides_the_level_of_two_conflicting_greens(colours, yields, allowed):
    given_ = np.array(colours, np.int8)
    assert tuple(permissible(given_, CONFLICT, yields)) == allowed
    assert tuple(given_) == colours, "what was given stays as it is"
    assert tuple(permissible(given_, ~CONFLICT & CONFLICT, yields)) == colours, (
        "nothing is lowered without a conflict"
    )
    assert is_compatible(given_, CONFLICT, yields) is (colours == allowed)


def test_a_green_that_was_lowered_to_red_lowers_no_other():
    """0 has 1 in its way, and 1 has 2: 1 goes red, so that 2 may stay;
    and 2 stays beside 0 which went permissive.
    """
    conflicts = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
    greens = np.array([G, G, G], np.int8)
    assert permissible(greens, conflicts, yielding(n=3)).tolist() == [G, R, G]
    assert permissible(greens, conflicts, yielding((1, 0), (1, 2), n=3)).tolist() == [G, P, G]
    assert permissible(greens, conflicts, yielding((1, 0), n=3)).tolist() == [G, R, G], (
        "permissive to one, and no right against the other"
    )
    assert permissible(greens, conflicts, yielding((1, 0), (2, 1), n=3)).tolist() == [G, P, P]
    conflicts = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]], bool)
    assert permissible(np.array([P, G, G], np.int8), conflicts, yielding((2, 0), n=3)).tolist() == [
        R,
        G,
        G,
    ]


def naive_is_compatible(colours, conflicts, yields) -> bool:
    greens = [i for i, c in enumerate(colours) if c in (P, G)]
    return all(
        not conflicts[a, b]
        or (colours[a] == P and yields[a, b])
        or (colours[b] == P and yields[b, a])
        for a, b in combinations(greens, 2)
    )


@st.composite
def situations(draw):
    n = draw(st.integers(1, 5))
    pairs = list(combinations(range(n), 2))
    conflicts, yields = np.zeros((n, n), bool), np.zeros((n, n), bool)
    for a, b in pairs:
        kind = draw(st.sampled_from(("none", "none", "first", "second", "both", "neither")))
        conflicts[a, b] = conflicts[b, a] = kind != "none"
        yields[a, b], yields[b, a] = kind in ("first", "both"), kind in ("second", "both")
    return (
        np.array(draw(st.lists(st.sampled_from(STEADY), min_size=n, max_size=n)), np.int8),
        conflicts,
        yields,
    )


@given(situations())
def test_what_is_permissible_is_compatible_and_only_ever_lowered(situation):
    colours, conflicts, yields = situation
    allowed = permissible(colours, conflicts, yields)
    assert naive_is_compatible(allowed, conflicts, yields)
    assert is_compatible(allowed, conflicts, yields)
    for before, after in zip(colours, allowed, strict=True):
        assert after == before or (before, after) in ((G, P), (G, R), (P, R))
    if naive_is_compatible(colours, conflicts, yields):
        assert allowed.tolist() == colours.tolist()


def test_green_phases_are_those_with_green_and_without_yellow_each_once():
    phases = [[G, R], [Y, R], [R, R], [R, P], [G, R], [G, Y], [R, G], [D, D], [P, R]]
    found = green_phases(np.array(phases, np.int8))
    assert found.tolist() == [[G, R], [R, P], [R, G], [P, R]]
    assert found.dtype == np.int8
    assert green_phases(np.array([[R, Y, R]], np.int8)).shape == (0, 3)


def naive_maximal(conflicts) -> set[tuple[int, ...]]:
    n = len(conflicts)
    free = [
        s
        for size in range(n + 1)
        for s in combinations(range(n), size)
        if not any(conflicts[a, b] for a, b in combinations(s, 2))
    ]
    return {s for s in free if not any(set(s) < set(t) for t in free)}


@given(situations())
def test_maximal_stages_are_all_sets_without_conflict_that_cannot_grow(situation):
    _, conflicts, _ = situation
    stages = maximal_stages(conflicts)
    assert set(np.unique(stages)) <= {R, G}
    lit = [tuple(np.flatnonzero(s == G).tolist()) for s in stages]
    assert len(set(lit)) == len(lit)
    assert set(lit) == naive_maximal(conflicts)


def pairs_in_conflict(n: int) -> np.ndarray:
    """0 against 1, 2 against 3, and so on: 2 to the n maximal sets."""
    out = np.zeros((2 * n, 2 * n), bool)
    for k in range(n):
        out[2 * k, 2 * k + 1] = out[2 * k + 1, 2 * k] = True
    return out


def test_maximal_stages_are_limited():
    conflicts = pairs_in_conflict(3)
    every = maximal_stages(conflicts).tolist()
    assert len(every) == 8
    for limit in (5, 7, 8, 9):
        assert maximal_stages(conflicts, limit).tolist() == every[:limit]


def test_however_many_stages_there_are_each_group_is_in_one():
    """Of a junction of 80 lamps whose programme is off, 36 were in none of the first 256."""
    conflicts = pairs_in_conflict(9)
    found = maximal_stages(conflicts)
    assert len(found) == 257
    assert (found == G).any(axis=0).all()
    assert (found[:-1, 0] == G).all(), "those with the first group, which are 256"
    assert found[-1].tolist() == [R, G] + [G, R] * 8, "a maximal one too"
    assert maximal_stages(pairs_in_conflict(3), 1).tolist() == [
        [G, R, G, R, G, R],
        [R, G, G, R, G, R],
        [G, R, R, G, G, R],
        [G, R, G, R, R, G],
    ]


def test_maximal_stages_come_with_the_first_groups_first():
    """Without any conflict one stage; with 0 against 1, and 2 free of both, that of 0 first."""
    assert maximal_stages(np.zeros((3, 3), bool)).tolist() == [[G, G, G]]
    conflicts = np.zeros((3, 3), bool)
    conflicts[0, 1] = conflicts[1, 0] = True
    assert maximal_stages(conflicts).tolist() == [[G, R, G], [R, G, G]]
    assert maximal_stages(np.array([[False]])).dtype == np.int8


def test_maximal_stages_come_in_a_fixed_order():
    """3 against 0 against 1 against 2. The pivot, which fits with most, is 2: it and its only foe,
    1, are tried, 1 first. Plans and limits rest on it.
    """
    conflicts = np.zeros((4, 4), bool)
    for a, b in ((0, 1), (1, 2), (0, 3)):
        conflicts[a, b] = conflicts[b, a] = True
    assert maximal_stages(conflicts).tolist() == [[R, G, R, G], [G, R, G, R], [R, R, G, G]]


@given(situations())
def test_compatible_stages_are_the_given_then_the_maximal_without_doubles(situation):
    colours, conflicts, yields = situation
    stages = np.array([permissible(colours, conflicts, yields)], np.int8)
    found = compatible_stages(stages, conflicts, yields)
    assert found[0].tolist() == stages[0].tolist()
    rows = [tuple(s) for s in found.tolist()]
    assert len(set(rows)) == len(rows)
    together = [
        (a, b)
        for a, b in combinations(range(len(colours)), 2)
        if stages[0][a] >= P and stages[0][b] >= P
    ]
    apart = conflicts.copy()
    for a, b in together:
        apart[a, b] = apart[b, a] = False

    def lit(sets, right_of_way):
        greens = (
            np.array([G if i in s else R for i in range(len(colours))], np.int8) for s in sets
        )
        return {
            tuple(permissible(g, conflicts, yields).tolist()) if right_of_way else tuple(g.tolist())
            for g in greens
        }

    assert set(rows) == {rows[0]} | lit(naive_maximal(apart), True) | lit(
        naive_maximal(conflicts), False
    )
    assert found.dtype == np.int8


def plan(*lengths: float, offset: float = 0.0, first: int = 0):
    """A plan of one group that shows a colour of its own in each phase."""
    return (np.arange(first, first + len(lengths), dtype=np.int8)[:, None], list(lengths), offset)


def test_one_plan_stays_as_it_is_with_its_offset():
    one = plan(30.0, 20.0, offset=7.0)
    assert merge_programmes([one]) is one


@pytest.mark.parametrize(
    ("one", "other", "colours", "lengths"),
    [
        (plan(30, 30), plan(30, 30, first=5), [[0, 5], [1, 6]], [30, 30]),
        (
            plan(30, 30),
            plan(40, 20, first=5, offset=10),
            [[0, 6], [0, 5], [1, 5], [1, 6]],
            [10, 20, 20, 10],
        ),
        (plan(20, 40, offset=50), plan(60, first=5), [[0, 5], [1, 5], [0, 5]], [10, 40, 10]),
        (plan(20, 40, offset=-10), plan(60, first=5), [[0, 5], [1, 5], [0, 5]], [10, 40, 10]),
        (plan(20, 40, offset=59.5), plan(60, first=5), [[0, 5], [1, 5], [0, 5]], [19.5, 40, 0.5]),
        (
            plan(10.004, 49.996),
            plan(10, 50, first=5),
            [[0, 5], [0, 6], [1, 6]],
            [10, 0.004, 49.996],
        ),
        (
            plan(10.0004, 50),
            plan(10, 50, first=5),
            [[0, 5], [1, 6]],
            [10, 50],
        ),  # within half a millisecond it is one change
        (plan(20, 40, offset=130), plan(60, first=5), [[1, 5], [0, 5], [1, 5]], [10, 20, 30]),
        (
            plan(10, 20),
            plan(60, first=5),
            [[0, 5], [1, 5], [0, 5], [1, 5]],
            [10, 20, 10, 20],
        ),  # its cycle goes twice into the longest
        (
            plan(10, 20),
            plan(40, 5, first=5),
            [[0, 5], [1, 5], [0, 5], [1, 6]],
            [10, 20, 10, 5],
        ),  # and one and a half times
        (
            plan(60, first=5),
            plan(10, 15, offset=5),
            [[5, 1], [5, 0], [5, 1], [5, 0], [5, 1], [5, 0]],
            [5, 10, 15, 10, 15, 5],
        ),
    ],
)
def test_plans_are_merged_on_a_common_clock(one, other, colours, lengths):
    merged, found, offset = merge_programmes([one, other])
    assert merged.tolist() == colours
    assert found == pytest.approx(lengths)
    assert offset == 0.0
    assert merged.dtype == np.int8


def test_phases_that_change_together_but_for_rounding_are_one_change():
    """27.5 + 11.5 and 12.4 + 26.6 are both 39, one of them 7e-15 more."""
    one, other = plan(11.5, 14.4, 64.1, offset=27.5), plan(26.6, 19.5, 43.9, offset=12.4, first=5)
    colours, lengths, _ = merge_programmes([one, other])
    assert lengths == pytest.approx([12.4, 15.1, 11.5, 14.4, 5.1, 31.5])
    assert colours.tolist() == [[2, 7], [2, 5], [0, 5], [1, 6], [2, 6], [2, 7]]


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.integers(-900, 900)),
        min_size=2, max_size=3
    )
)  # fmt: skip
def test_the_merged_plan_shows_at_any_time_what_each_plan_shows(drawn):
    """Asked at the middle of every tenth of a second of the longest cycle:
    the naive clock of each plan, in whole tenths.
    """
    parts = [
        (np.arange(len(d), dtype=np.int8)[:, None], [x / 10 for x in d], offset / 10)
        for d, offset in drawn
    ]
    colours, lengths, _ = merge_programmes(parts)
    cycle = max(sum(d) for d, _ in drawn)
    assert sum(lengths) == pytest.approx(cycle / 10)
    assert min(lengths) > 0.05
    ends = np.cumsum(lengths)
    for tenth in range(cycle):
        shown = []
        for d, offset in drawn:
            into = (tenth - offset) % sum(d)
            shown.append(next(k for k in range(len(d)) if into < sum(d[: k + 1])))
        assert colours[int(np.searchsorted(ends, tenth / 10 + 0.05))].tolist() == shown


def test_all_pairs_of_colours_are_in_the_table():
    """The naive rule agrees with the table's rule on every pair of colours and rights."""
    for colours, yields in product(product(Colour, repeat=2), (FIRST, SECOND, BOTH, NEITHER)):
        assert is_compatible(np.array(colours, np.int8), CONFLICT, yields) is naive_is_compatible(
            colours, CONFLICT, yields
        )
