"""One second of the gate, compiled: from the colours wanted to the colours shown.

The rules stand here in the order in which they are applied; `tests/safety/rules.py` states them a
second time, naively.
"""

from __future__ import annotations

from enum import IntEnum

from numba import njit

from headway.roads import Colour

RED = int(Colour.RED)
YELLOW = int(Colour.YELLOW)
PERMISSIVE = int(Colour.PERMISSIVE)
GREEN = int(Colour.GREEN)
LONGEST_YELLOW_S = 6.0
CALL_MEMORY_S = 10.0
EPS = 1e-6
LEAST_KNOWN = 0.5


class Rule(IntEnum):
    """Why the gate showed something else than was wanted."""

    NONE = 0
    COLOUR = 1
    CONFLICT = 2
    MINIMUM_GREEN = 3
    MAXIMUM_GREEN = 4
    MINIMUM_CYCLE = 5
    MAXIMUM_RED = 6


@njit(cache=True)
def note_calls(now, calls, shown, first, ptr, foe, call_since, call_last, foe_since):  # type: ignore[no-untyped-def]
    """Bring up to date since when each red group has been asking, and each green group has kept an
    asking one waiting.

    calls: bool (groups,), someone is there for the group. A call is remembered for CALL_MEMORY_S
        after it was last seen.
    call_since, foe_since: (groups,) seconds, `now` where nobody asks.
    """
    for g in range(len(shown)):
        if calls[g]:
            call_last[g] = now
        asks = shown[g] < PERMISSIVE and now - call_last[g] <= CALL_MEMORY_S
        call_since[g] = min(call_since[g], now) if asks else now
    for g in range(len(shown)):
        waits = False
        if shown[g] >= PERMISSIVE:
            for k in range(ptr[g], ptr[g + 1]):
                h = foe[k]
                if shown[h] < PERMISSIVE and now - call_last[h] <= CALL_MEMORY_S:
                    waits = True
        foe_since[g] = min(foe_since[g], now) if waits else now


@njit(cache=True)
def serve_starving(  # type: ignore[no-untyped-def]
    now,
    wanted,
    shown,
    since,
    least,
    first,
    stage_ptr,
    stages,
    stage_of,
    call_since,
    max_red,
    exempt,
    forced,
    rule,
):
    """Where a group has asked in vain for `max_red` seconds, its stage is wanted until it has had
    its shortest green.

    forced: int (junctions,), the group that is being served by force, or -1; kept between seconds.
    """
    for j in range(len(first) - 1):
        a, z = first[j], first[j + 1]
        if exempt[j]:
            forced[j] = -1
            continue
        g = forced[j]
        if g < 0 or (
            shown[g] >= PERMISSIVE and now - since[g] + EPS >= least[g]
        ):  # nobody is served, or has been
            longest, g = max_red - EPS, -1
            for h in range(a, z):
                if shown[h] < PERMISSIVE and now - call_since[h] >= longest and stage_of[h] >= 0:
                    longest, g = now - call_since[h], h
            forced[j] = g
        if g >= 0:
            row = stage_ptr[j] + stage_of[g]
            for h in range(a, z):
                if wanted[h] != stages[row, h - a]:
                    wanted[h] = stages[row, h - a]
                    rule[g] = 6


@njit(cache=True)
def step(  # type: ignore[no-untyped-def]
    now,
    wanted,
    shown,
    since,
    green_start,
    green_end,
    foe_since,
    first,
    ptr,
    foe,
    foe_yields,
    yields_foe,
    yellow,
    clearance,
    least,
    most,
    min_cycle,
    out,
    rule,
):
    """Fill `out` (groups,) with the colours to show, `rule` (groups,) with the rule that changed a
    wish.

    now:         seconds.
    shown:       colours in force; since: when they began (levels of green count as one colour).
    green_start, green_end: last start and end of green of each group. foe_since: see `note_calls`.
    first:       (junctions + 1,), groups of junction j are first[j]..first[j + 1] - 1.
    ptr, foe:    the conflicting groups of g are foe[ptr[g]:ptr[g + 1]].
    foe_yields, yields_foe: along foe, whether the foe gives way to g, and g to the foe.
    """
    for g in range(
        len(shown)
    ):  # ends: greens that are not wanted any more, or have lasted too long
        w = wanted[g]
        colour = shown[g]
        if w < RED or w > GREEN:
            w = wanted[g] = RED
            rule[g] = 1
        if colour >= PERMISSIVE:
            age = now - since[g]
            keep = w >= PERMISSIVE
            if keep and now - foe_since[g] + EPS >= most[g]:
                keep = False
                rule[g] = 4
            elif not keep and age + EPS < least[g]:
                keep = True
                w = colour
                rule[g] = 3
            if keep:
                out[g] = min(colour, w)
            else:
                out[g] = YELLOW if yellow[g] > 0.0 else RED
        elif colour == YELLOW and (
            now - since[g] + EPS < yellow[g]
            or (w == YELLOW and now - since[g] + EPS < LONGEST_YELLOW_S)
        ):
            out[g] = YELLOW
        else:
            out[g] = RED
    for g in range(
        len(shown)
    ):  # starts and rises, one by one: each against all that is shown or still being cleared
        w = wanted[g]
        if w < PERMISSIVE or out[g] == YELLOW or out[g] >= w:
            continue
        starts = out[g] == RED
        if starts and shown[g] != RED:
            continue
        if starts and now - green_start[g] + EPS < min_cycle:
            rule[g] = 5
            continue
        free = True
        for k in range(ptr[g], ptr[g + 1]):
            h = foe[k]
            if out[h] >= PERMISSIVE:
                if (w == PERMISSIVE and yields_foe[k]) or (out[h] == PERMISSIVE and foe_yields[k]):
                    continue
                free = False
                if wanted[h] >= PERMISSIVE:
                    rule[g] = 2
            elif (
                out[h] == YELLOW
                or shown[h] >= PERMISSIVE
                or now - green_end[h] + EPS < yellow[h] + clearance[h]
            ):
                free = False
        if free:
            out[g] = w


@njit(cache=True)
def book(now, out, shown, since, green_start, green_end):  # type: ignore[no-untyped-def]
    """Put `out` in force: bring the clocks of each group up to date."""
    for g in range(len(out)):
        lit, was = out[g] >= PERMISSIVE, shown[g] >= PERMISSIVE
        if lit and not was:
            green_start[g] = now
        if was and not lit:
            green_end[g] = now
        if out[g] != shown[g] and not (lit and was):
            since[g] = now
        shown[g] = out[g]


@njit(cache=True)
def count_calls(link, link_group, persons, known, first, calls):  # type: ignore[no-untyped-def]
    """calls (groups,): a vehicle for the group is in sight, a pedestrian waits, or less than half
    of its junction is `known`.
    """
    for j in range(len(first) - 1):
        blind = not known[j] >= LEAST_KNOWN
        for g in range(first[j], first[j + 1]):
            calls[g] = blind or persons[g] > 0
    for i in link:
        if 0 <= i < len(link_group) and link_group[i] >= 0:
            calls[link_group[i]] = True


@njit(cache=True)
def same(a, b):  # type: ignore[no-untyped-def]
    """Whether two arrays of one length hold the same."""
    equal = len(a) == len(b)
    for g in range(min(len(a), len(b))):
        equal &= a[g] == b[g]
    return equal


@njit(cache=True)
def is_safe(colours, ptr, foe, foe_yields, yields_foe):  # type: ignore[no-untyped-def]
    """The last look, by itself: known colours only, and no two conflicting greens of which none
    gives way.
    """
    for g in range(len(colours)):
        if colours[g] < RED or colours[g] > GREEN:
            return False
        if colours[g] >= PERMISSIVE:
            for k in range(ptr[g], ptr[g + 1]):
                h = foe[k]
                if colours[h] >= PERMISSIVE and not (
                    (colours[g] == PERMISSIVE and yields_foe[k])
                    or (colours[h] == PERMISSIVE and foe_yields[k])
                ):
                    return False
    return True
