"""One second of the gate, compiled: from the colours wanted to the colours shown.

The rules stand here in the order in which they are applied; `tests/safety/rules.py` states them a second time, naively.
"""

from __future__ import annotations

from enum import IntEnum

from numba import njit

from headway.roads import Colour

RED, YELLOW, PERMISSIVE, GREEN = int(Colour.RED), int(Colour.YELLOW), int(Colour.PERMISSIVE), int(Colour.GREEN)
LONGEST_YELLOW_S = 6.0


class Rule(IntEnum):
    """Why the gate showed something else than was wanted."""

    NONE = 0
    COLOUR = 1
    CONFLICT = 2
    MINIMUM_GREEN = 3
    MAXIMUM_GREEN = 4
    MINIMUM_CYCLE = 5
    MAXIMUM_RED = 6


@njit(cache=True)  # type: ignore[untyped-decorator]
def step(now, wanted, shown, since, green_start, green_end, first, ptr, foe, foe_yields, yields_foe, yellow, clearance, least, most, min_cycle, out, rule):  # type: ignore[no-untyped-def]  # fmt: skip
    """Fill `out` (groups,) with the colours to show, `rule` (groups,) with the rule that changed a wish.

    now:         seconds.
    shown:       colours in force; since: when they began (levels of green count as one colour).
    green_start, green_end: last start and end of green of each group.
    first:       (junctions + 1,), groups of junction j are first[j]..first[j + 1] - 1.
    ptr, foe:    the conflicting groups of g are foe[ptr[g]:ptr[g + 1]].
    foe_yields, yields_foe: along foe, whether the foe gives way to g, and g to the foe.
    """
    eps = 1e-6
    for j in range(len(first) - 1):
        a, z = first[j], first[j + 1]
        # ends: greens that are not wanted any more, or have lasted too long
        for g in range(a, z):
            rule[g] = 0
            w = wanted[g]
            if w < RED or w > GREEN:
                w = RED
                rule[g] = 1
            colour = shown[g]
            if colour >= PERMISSIVE:
                age = now - since[g]
                if w >= PERMISSIVE:
                    if age + eps >= most[g] and ptr[g + 1] > ptr[g]:
                        out[g] = YELLOW if yellow[g] > 0.0 else RED
                        rule[g] = 4
                    else:
                        out[g] = min(colour, w)
                elif age + eps < least[g]:
                    out[g] = colour
                    rule[g] = 3
                else:
                    out[g] = YELLOW if yellow[g] > 0.0 else RED
            elif colour == YELLOW:
                age = now - since[g]
                if age + eps < yellow[g] or (w == YELLOW and age + eps < LONGEST_YELLOW_S):
                    out[g] = YELLOW
                else:
                    out[g] = RED
            else:
                out[g] = RED
        # starts and rises, one by one: each against all that is shown or still being cleared
        for g in range(a, z):
            w = wanted[g]
            if w < PERMISSIVE or w > GREEN or rule[g] == 4:
                continue
            was = out[g]
            if was == w or was == YELLOW:
                continue
            if was == RED and (shown[g] != RED or now - green_start[g] + eps < min_cycle):
                if shown[g] == RED:
                    rule[g] = 5
                continue
            free = True
            for k in range(ptr[g], ptr[g + 1]):
                h = foe[k]
                if out[h] >= PERMISSIVE:
                    if (w == PERMISSIVE and yields_foe[k]) or (out[h] == PERMISSIVE and foe_yields[k]):
                        continue
                    free = False
                    if wanted[h] >= PERMISSIVE and wanted[h] <= GREEN:
                        rule[g] = 2
                elif (was == RED and now - green_end[h] + eps < yellow[h] + clearance[h]) or out[h] == YELLOW or shown[h] >= PERMISSIVE:
                    free = False
            if free:
                out[g] = w


@njit(cache=True)  # type: ignore[untyped-decorator]
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
