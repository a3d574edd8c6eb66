"""Red clearance counts from the real end of yellow, however long that was."""

from __future__ import annotations

import numpy as np
import pytest

from headway.roads import STREET, work_out
from headway.safety import SafetyGate
from headway.safety.audit import audit
from tests.safety.builders import NETWORK, STAGES, G, P, R, Y, look, propose
from tests.safety.rules import broken_rules

LETTERS = np.array(list("OryGG"))
TIMING = work_out(NETWORK, STREET)  # 3.3 s of yellow, 1.9 s of clearance
FIRST, SECOND = STAGES[0], STAGES[1]


def played(wishes, tick_s=1.0):
    """(time, colours) of each tick in which the wishes, (colours, seconds), were proposed."""
    gate, history, now_s = SafetyGate(NETWORK, TIMING, 0.0), [], 0.0
    for wanted, seconds in wishes:
        for _ in range(round(seconds / tick_s)):
            proposal = propose(NETWORK, now_s, np.array(wanted, np.int8))
            shown = gate.admit(proposal, now_s, look(NETWORK, gate, now_s, (0, 1))).colours
            history.append((now_s, shown.tolist()))
            now_s = round(now_s + tick_s, 6)
    return history


def first_time(history, group, colour, after_s=0.0):
    return next(t for t, shown in history if t >= after_s and shown[group] == colour)


@pytest.mark.parametrize("tick_s", [0.1, 0.5, 1.0])
def test_a_yellow_that_is_lengthened_leaves_all_of_its_clearance(tick_s):
    long_yellow = [Y, G, G, R]
    history = played([(FIRST, 60.0), (long_yellow, 30.0)], tick_s)
    yellow_s = first_time(history, 0, Y)
    red_s = first_time(history, 0, R, yellow_s)
    assert red_s - yellow_s == pytest.approx(6.0), "as long as a yellow may be"
    green_s = first_time(history, 1, G, yellow_s)
    assert green_s - red_s >= TIMING.clearance_s[0] - 1e-6
    assert green_s - red_s < TIMING.clearance_s[0] + tick_s + 1e-6, "and no longer"


def test_a_yellow_that_ends_with_a_tick_leaves_all_of_its_clearance():
    history = played([(FIRST, 60.0), (SECOND, 30.0)])
    red_s = first_time(history, 0, R, first_time(history, 0, Y))
    assert TIMING.yellow_s[0] == pytest.approx(3.3)
    assert first_time(history, 1, G, red_s) - red_s == 2.0, "1.9 s, in whole ticks"


@pytest.mark.parametrize(("red_s", "is_early"), [(1.8, True), (1.9, False), (5.0, False)])
def test_the_audit_and_the_rules_of_the_tests_measure_from_red_to_green(red_s, is_early):
    """Six seconds of yellow, so that yellow and clearance together are over long before."""
    rows = [(0.0, [R, R, R, R]), (10.0, [G, R, R, R]), (30.0, [Y, R, R, R]), (36.0, [R, R, R, R])]
    rows.append((36.0 + red_s, [R, G, R, R]))
    line = [(t, "".join(LETTERS[shown])) for t, shown in rows]
    found = [(x.at_s, x.rule, x.groups) for x in audit(NETWORK, TIMING, {"J": line}, 0.0)]
    assert found == ([(36.0 + red_s, "clearance", (0, 1))] if is_early else [])
    assert len(broken_rules(NETWORK, TIMING, rows)) == is_early


def test_a_green_that_starts_beside_a_yellow_is_early_where_no_clearance_is_needed_too():
    timing = work_out(NETWORK, STREET)
    timing.clearance_s[:] = 0.0
    rows = [(0.0, [R] * 4), (10.0, [G, R, R, R]), (30.0, [Y, R, R, R]), (35.0, [Y, P, R, R])]
    line = [(t, "".join(LETTERS[shown])) for t, shown in rows]
    assert [x.rule for x in audit(NETWORK, timing, {"J": line}, 0.0)] == ["clearance"]
    assert len(broken_rules(NETWORK, timing, rows)) == 1
