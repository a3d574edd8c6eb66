"""Stages: sets of greens that may be shown together."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np

from headway.roads.network import BoolArray, Colour, ColourArray


def permissible(colours: ColourArray, conflicts: BoolArray, yields: BoolArray) -> ColourArray:
    """The same greens, each at the level that right of way allows.

    A green that must give way to another green of the same set becomes permissive, if it was
    protected. Of two conflicting greens neither of which gives way, the permissive one, else the
    later one in the list, becomes red.
    colours: int8 (n,) of one stage. conflicts, yields: bool (n, n). Returns int8 (n,).
    """
    out = colours.copy()
    for a, b in combinations(np.flatnonzero(out >= Colour.PERMISSIVE), 2):
        if not conflicts[a, b] or Colour.RED in (out[a], out[b]):
            continue
        if (out[a] == Colour.PERMISSIVE and yields[a, b]) or (
            out[b] == Colour.PERMISSIVE and yields[b, a]
        ):
            continue
        if yields[a, b]:
            out[a] = Colour.PERMISSIVE
        elif yields[b, a]:
            out[b] = Colour.PERMISSIVE
        else:
            out[a if out[a] < out[b] else b] = Colour.RED
    return out


def is_compatible(colours: ColourArray, conflicts: BoolArray, yields: BoolArray) -> bool:
    """No two conflicting greens, but for a permissive one that gives way to the other."""
    return bool((permissible(colours, conflicts, yields) == colours).all())


def green_phases(phases: ColourArray) -> ColourArray:
    """The distinct phases of a programme that hold some green and no yellow; for a green that none
    of them holds, those that hold it, with red for yellow. (phases, n) to (stages, n).
    """
    lit = phases >= Colour.PERMISSIVE
    steady = ~(phases == Colour.YELLOW).any(axis=1) & lit.any(axis=1)
    unserved = lit.any(axis=0) & ~lit[steady].any(axis=0)
    more = (lit & unserved).any(axis=1)
    rows = [*phases[steady], *np.where(phases == Colour.YELLOW, Colour.RED, phases)[more]]
    stages = list({row.tobytes(): row for row in rows}.values())
    return np.array(stages, np.int8).reshape(len(stages), phases.shape[1])


def maximal_stages(conflicts: BoolArray, limit: int = 256) -> ColourArray:
    """Every maximal set of groups without any conflict, all protected: (stages, n). Where there are
    more than `limit`, so many of them, and more until each group is in one.

    The maximal independent sets of the conflict graph, by Bron and Kerbosch with pivoting (CACM
    16(9), 1973) on its complement.
    """
    n = len(conflicts)
    free = [frozenset(np.flatnonzero(~conflicts[i]).tolist()) - {i} for i in range(n)]
    found: list[frozenset[int]] = []

    def extend(
        chosen: frozenset[int], candidates: frozenset[int], excluded: frozenset[int]
    ) -> None:
        if len(found) >= limit:
            return
        if not candidates and not excluded:
            found.append(chosen)
            return
        pivot = max(candidates | excluded, key=lambda v: len(candidates & free[v]))
        for v in sorted(candidates - free[pivot]):
            extend(chosen | {v}, candidates & free[v], excluded & free[v])
            candidates -= {v}
            excluded |= {v}

    extend(frozenset(), frozenset(range(n)), frozenset())
    while left := frozenset(range(n)).difference(*found):
        around = frozenset({min(left)})
        candidates = free[min(left)]
        while candidates:
            first = min(candidates)
            around |= {first}
            candidates &= free[first]
        found.append(around)
    stages = np.full((len(found), n), Colour.RED, np.int8)
    for k, chosen in enumerate(found):
        stages[k, sorted(chosen)] = Colour.GREEN
    return stages


def compatible_stages(stages: ColourArray, conflicts: BoolArray, yields: BoolArray) -> ColourArray:
    """All stages worth showing: `stages` first, then every maximal set of greens without conflict,
    protected or permissive.

    Two conflicting groups are put together only where one of `stages` does it already: that one may
    give way to the other is a judgement on sight and speed which the makers of the programme have
    taken. (m, n) to (more, n), without doubles.
    """
    lit = stages >= Colour.PERMISSIVE
    together = (lit[:, :, None] & lit[:, None, :]).any(axis=0)
    more = [permissible(s, conflicts, yields) for s in maximal_stages(conflicts & ~together)]
    return np.array(
        list({s.tobytes(): s for s in (*stages, *more, *maximal_stages(conflicts))}.values()),
        np.int8,
    )


def merge_programmes(
    parts: list[tuple[ColourArray, list[float], float]],
) -> tuple[ColourArray, list[float], float]:
    """One plan over the groups of several programmes with a common cycle, cut wherever one of them
    changes.

    parts: (phases, groups) colours, phase durations in seconds, offset in seconds. Plans of
        different cycles are
    taken over the longest of the cycles.
    """
    if len(parts) == 1:
        return parts[0]
    cycle = round(max(sum(durations) for _, durations, _ in parts), 3)
    cuts = {0.0, cycle}
    for _, durations, offset in parts:
        own = sum(durations)
        edges = np.cumsum(durations)
        # whole milliseconds, SUMO's own step: two cuts that differ by rounding alone are one
        cuts.update(
            round(float(t), 3)
            for start in np.arange(offset % own - own, cycle, own)
            for t in start + edges
        )
    rows, lengths = [], []
    for start, end in pairwise(sorted(t for t in cuts if 0.0 <= t <= cycle)):
        row = []
        for colours, durations, offset in parts:
            into = (0.5 * (start + end) - offset) % sum(durations)
            row.append(colours[int(np.searchsorted(np.cumsum(durations), into, side="right"))])
        rows.append(np.concatenate(row))
        lengths.append(end - start)
    return np.array(rows, np.int8), lengths, 0.0
