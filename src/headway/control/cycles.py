"""The shortest and the longest cycle of each signal group, as the planner's search takes them into
account, compiled.

A cycle lasts from one start of green of a group to its next one. The longest is what the gate
enforces (docs/glossary.md: cycle): a group that is called begins in time, where a call always has
half of the longest cycle, and a green that keeps nobody waiting counts from when it does. Who is
late is served by a stage of the gate's choice, at its moment; the planner's own choice costs less.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from headway.control.queue_model import LONG_AGO_S, NEVER_S
from headway.roads import Colour
from headway.values import FloatArray

CALL_MEMORY_S = 10.0  # a call lasts for so long after the last vehicle was seen
LATE_CALL_SHARE = 0.5  # of the longest cycle that is left to a call, however late it comes
# The gate serves due groups in turn, and takes the junction when the last of them would be late: to
# be ahead of it, a group is due by about one stage (minimum green and intergreen) sooner.
SPARE_S = 15.0

# Rows of what is remembered of the groups, seconds: when traffic for it was there last; since when
# its green keeps somebody waiting; when its cycle began. A plain array, as one of records takes
# longer to hand over.
CALLED = 0
HARMS_SINCE = 1
SINCE = 2


class CycleTimes(NamedTuple):
    """By group, seconds from now.

    barred_s: until the shortest cycle is over; not above 0 where it is.
    due_s:    until a group that is called has to begin; NEVER_S for others.
    """

    barred_s: FloatArray
    due_s: FloatArray


def no_cycles(groups: int, at_s: float) -> FloatArray:
    """float (3, groups): nobody was there yet, and each cycle begins now."""
    cycles = np.full((3, groups), at_s, np.float64)
    cycles[CALLED] = LONG_AGO_S
    return cycles


@njit(cache=True)
def cycle_times(tables, at_s, began_s, cycles, observed):  # type: ignore[no-untyped-def]
    """(cycles brought up to date, `CycleTimes`). at_s: seconds. began_s: float (groups,), when each
    green began last. cycles: float (3, groups), as of the second before.
    """
    groups = len(began_s)
    times = CycleTimes(np.empty(groups), np.full(groups, NEVER_S))
    for g in range(groups):
        times.barred_s[g] = tables.groups[g].min_cycle_s - (at_s - began_s[g])
    if not tables.has_max_cycle:
        return cycles, times

    cycles = cycles.copy()
    note_calls(tables, at_s, cycles, observed.traffic)
    for junction in range(len(tables.junctions) - 1):
        begin = tables.junctions[junction].first_group
        end = tables.junctions[junction + 1].first_group
        for g in range(begin, end):
            longest_s = tables.groups[g].max_cycle_s
            if observed.signals.colour[g] >= Colour.PERMISSIVE:
                if not keeps_waiting(tables, g, begin, end, at_s, cycles, observed.signals):
                    cycles[HARMS_SINCE, g] = at_s
                cycles[SINCE, g] = cycles[HARMS_SINCE, g]
                continue
            cycles[HARMS_SINCE, g] = at_s
            if is_asking(g, at_s, cycles, observed.signals):
                times.due_s[g] = cycles[SINCE, g] + longest_s - at_s - SPARE_S
            else:
                latest_s = at_s - LATE_CALL_SHARE * longest_s
                cycles[SINCE, g] = max(cycles[SINCE, g], latest_s)
    return cycles, times


@njit(cache=True)
def note_calls(tables, at_s, cycles, traffic):  # type: ignore[no-untyped-def]
    """Whose traffic is there now: written into `cycles`."""
    for link in traffic.link:
        if 0 <= link < len(tables.links) and tables.links[link].group >= 0:
            cycles[CALLED, tables.links[link].group] = at_s
    for g in range(len(tables.groups)):
        if traffic.waiting_persons[g] > 0:
            cycles[CALLED, g] = at_s


@njit(cache=True)
def is_asking(group, at_s, cycles, signals):  # type: ignore[no-untyped-def]
    """The group is not green, and traffic for it was there just now."""
    is_called = at_s - cycles[CALLED, group] <= CALL_MEMORY_S
    return is_called and signals.colour[group] < Colour.PERMISSIVE


@njit(cache=True)
def keeps_waiting(tables, green, begin, end, at_s, cycles, signals):  # type: ignore[no-untyped-def]
    """A group in conflict with `green` asks. begin, end: of the groups of the junction."""
    for other in range(begin, end):
        is_foe = tables.intergreen_s[other, green - begin] > 0.0
        if is_foe and is_asking(other, at_s, cycles, signals):
            return True
    return False
