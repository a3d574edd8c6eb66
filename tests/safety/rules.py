"""The rules of the gate, stated a second time:
naively, second by second, over the whole history of one junction.

Nothing here is shared with the gate but the network and the timing that both are told.
"""

from __future__ import annotations

from itertools import pairwise

from headway.roads import Colour, Network, Timing
from headway.values import Event

GO = (Colour.PERMISSIVE, Colour.GREEN)
FLASHING = (Colour.FLASHING_RED, Colour.FLASHING_YELLOW)


def broken_rules(
    network: Network,
    timing: Timing,
    history: list[tuple[float, list[int]]],
    served: list[set[str]] | None = None,
) -> list[str]:
    """All that is wrong with `history`, (time s, colour of each group) for every second,
    oldest first; it began all red.

    served: for every second, the ids of the junctions that serve an emergency vehicle; none is
    served where this is left out.
    """
    wrong = []
    for now, colours in history:
        wrong += [
            f"{now}: group {g} shows {c}"
            for g, c in enumerate(colours)
            if c not in (Colour.RED, Colour.YELLOW, *GO, *FLASHING)
        ]
    for g in range(len(network.groups)):
        own = network.junctions[network.groups[g].junction].id
        serves = [own in places for places in served or [set()] * len(history)]
        wrong += _one_group(timing, history, g, serves)
    for junction in network.junctions:
        wrong += _flashes(history, list(junction.groups))
        for a in junction.groups:
            for b in junction.groups:
                if a != b and junction.conflicts[a - junction.first, b - junction.first]:
                    gives_way = bool(junction.yields[a - junction.first, b - junction.first])
                    back = bool(junction.yields[b - junction.first, a - junction.first])
                    wrong += _pair(timing, history, a, b, gives_way, back)
    return wrong


def services(seconds: list[list[Event]]) -> list[set[str]]:
    """The junctions that serve an emergency vehicle, for every second, from the events of each."""
    found = []
    serving: set[str] = set()
    for events in seconds:
        for event in events:
            if event.kind == "safety.emergency":
                serving = serving | {event.junction}
            if event.kind == "safety.emergency_ended":
                serving = serving - {event.junction}
        found.append(serving)
    return found


def _one_group(
    timing: Timing, history: list[tuple[float, list[int]]], g: int, serves: list[bool]
) -> list[str]:
    wrong, began, ended = [], None, None
    last = Colour.RED
    for (now, colours), serves_emergency in zip(history, serves, strict=True):
        colour = colours[g]
        if colour in GO and last not in GO:
            if last == Colour.YELLOW:
                wrong.append(f"{now}: group {g} goes from yellow to green")
            too_soon = began is not None and now - began < timing.profile.min_cycle_s - 1e-3
            if too_soon and not serves_emergency:
                wrong.append(
                    f"{now}: group {g} is green again {now - began} s after its last start"
                )
            began = now
        if last in GO and colour not in GO:
            if began is not None and now - began < timing.min_green_s[g] - 1e-3:
                wrong.append(f"{now}: group {g} was green for {now - began} s only")
            if timing.yellow_s[g] > 0 and colour != Colour.YELLOW:
                wrong.append(f"{now}: group {g} goes from green to red without yellow")
            ended = now
        if (
            last == Colour.YELLOW
            and colour == Colour.RED
            and ended is not None
            and now - ended < timing.yellow_s[g] - 1e-3
        ):
            wrong.append(f"{now}: group {g} was yellow for {now - ended} s only")
        if last == Colour.RED and colour == Colour.YELLOW:
            wrong.append(f"{now}: group {g} goes from red to yellow")
        last = colour
    return wrong


def _flashes(history: list[tuple[float, list[int]]], groups: list[int]) -> list[str]:
    """A junction flashes as a whole, or not at all; 2 s of red to all before it, 6 s after it."""
    wrong = []
    moving = flashed = None  # when something was yellow or green, or flashed, last
    for now, colours in history:
        own = [colours[g] for g in groups]
        flashes = any(c in FLASHING for c in own)
        moves = any(c not in (Colour.RED, *FLASHING) for c in own)
        if flashes and moves:
            wrong.append(f"{now}: flashes beside green or yellow")
        if flashes and moving is not None and now - moving < 2.0:
            wrong.append(f"{now}: flashes at once")
        if moves and flashed is not None and now - flashed < 6.0:
            wrong.append(f"{now}: green too soon after a flash")
        moving = now if moves else moving
        flashed = now if flashes else flashed
    return wrong


def _pair(
    timing: Timing,
    history: list[tuple[float, list[int]]],
    a: int,
    b: int,
    a_yields: bool,
    b_yields: bool,
) -> list[str]:
    """Both at once without right of way; and b green too soon after a: seen from each start of b,
    back to the second in which a was not red for the last time.
    """
    wrong = []
    for k, (now, colours) in enumerate(history):
        if colours[a] in GO and colours[b] in GO:
            permitted = (colours[a] == Colour.PERMISSIVE and a_yields) or (
                colours[b] == Colour.PERMISSIVE and b_yields
            )
            if not permitted:
                wrong.append(f"{now}: conflicting greens {a} and {b}")
        elif colours[b] in GO and (k == 0 or history[k - 1][1][b] not in GO):
            seconds = next(
                (back for back in range(k + 1) if history[k - back][1][a] != Colour.RED), None
            )
            if seconds is None:
                continue  # red from the beginning
            red = now - history[k - seconds + 1][0] if seconds else -1.0
            if red < timing.clearance_s[a] - 1e-3:
                wrong.append(
                    f"{now}: group {b} starts {red} s after the last yellow or green of {a}, "
                    f"which needs {timing.clearance_s[a]}"
                )
    return wrong


def kept_waiting(
    network: Network,
    timing: Timing,
    history: list[tuple[float, list[int]]],
    calls: list[tuple[set[int], bool]],
) -> list[str]:
    """Greens that outlast the longest while one in conflict, red, asks all the time,
    (asking groups, excused) for each second.

    A second is excused where an order, an emergency or blindness stands over the rule.
    """
    wrong = []
    for junction in network.junctions:
        for a in junction.groups:
            for b in junction.groups:
                if a == b or not junction.conflicts[a - junction.first, b - junction.first]:
                    continue
                since = None
                for (now, colours), (asking, excused) in zip(history, calls, strict=True):
                    if colours[a] in GO and colours[b] not in GO and b in asking and not excused:
                        since = now if since is None else since
                        if now - since > timing.max_green_s[a] + 1e-3:
                            wrong.append(
                                f"{now}: group {a} is green for {now - since} s while {b} waits"
                            )
                    else:
                        since = None
    return wrong


MEMORY_S = 10.0


def late_starts(
    network: Network,
    timing: Timing,
    history: list[tuple[float, list[int]]],
    calls: list[tuple[set[int], bool]],
) -> list[tuple[int, float, float]]:
    """(group, its start before, this start) of each start that came later than both the maximum
    cycle after the start before (or after the last second in which that green kept nobody waiting)
    and half of it after the call. Cycles with an excused second are left out.
    """
    heard = [
        {
            g
            for back in range(k + 1)
            if history[k][0] - history[k - back][0] <= MEMORY_S
            for g in calls[k - back][0]
        }
        for k in range(len(history))
    ]
    late = []
    for junction in network.junctions:
        for g in junction.groups:
            foes = [
                h
                for h in junction.groups
                if junction.conflicts[g - junction.first][h - junction.first]
            ]
            green = [colours[g] in GO for _, colours in history]
            starts = [k for k in range(1, len(green)) if green[k] and not green[k - 1]]
            for one, two in pairwise(starts):
                if any(excused for _, excused in calls[one : two + 1]):
                    continue
                end = next(k for k in range(one, two) if not green[k])
                begin = history[one][0]
                for k in range(one + 1, end):
                    if not any(h in heard[k] and history[k - 1][1][h] not in GO for h in foes):
                        begin = history[k][0]
                called = begin
                for k in range(end, two):
                    if g not in heard[k]:
                        called = history[k][0]
                most_s = timing.max_cycle_s[g]
                if history[two][0] > max(begin + most_s, called + most_s / 2) + 1e-3:
                    late.append((g, history[one][0], history[two][0]))
    return late
