"""The gate's own clock, whatever the clock outside does. Ticks are counted by the test itself."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.roads import BENCHMARK, STREET, work_out
from headway.safety import ControlSource, Order, Override, SafetyGate
from headway.safety.clock import LONGEST_TICK_S, STANDS_TICKS, ClockFault, GateClock
from headway.safety.reports import FaultChanges
from tests.safety.builders import NETWORK, STAGES, look, propose
from tests.safety.rules import broken_rules

ANYTHING = st.one_of(
    st.floats(),
    st.sampled_from([None, "12", True, 10**400, -(10**400), np.float32(3.0), 1e9, 1e300, nan, inf]),
    st.integers(-5, 50),
)


def times(readings, tick_s=1.0, begin_s=100.0):
    """(the gate's seconds, what was wrong) after each reading."""
    clock = GateClock(begin_s, tick_s)
    found = []
    for reading in readings:
        fault = clock.advance(reading)
        found.append((clock.now_s, fault))
    return found


@pytest.mark.parametrize("tick_s", [0.1, 1.0, 5.0])
def test_a_clock_that_runs_is_followed_to_the_last_bit(tick_s):
    readings = np.cumsum(np.full(500, tick_s)) + 25200.0
    assert times(readings.tolist(), tick_s, 25200.0) == [(r, None) for r in readings.tolist()]


def test_a_clock_that_loses_half_of_its_ticks_is_followed():
    assert times([100.5, 101.0, 101.5]) == [(100.5, None), (101.0, None), (101.5, None)]


@pytest.mark.parametrize(
    ("readings", "expected_s", "faults"),
    [
        # one bad reading, and the next is right again: as if nothing had been
        ([101.0, 102.0, 1e9, 104.0], [101.0, 102.0, 103.0, 104.0], {2: ClockFault.LEAPS}),
        ([101.0, 102.0, nan, 104.0], [101.0, 102.0, 103.0, 104.0], {2: ClockFault.NO_NUMBER}),
        ([101.0, 102.0, 5.0, 104.0], [101.0, 102.0, 103.0, 104.0], {2: ClockFault.BACK}),
        # what is lost while it stands is not made up for
        ([101.0, 101.0, 103.0, 104.0], [101.0, 101.0, 102.0, 103.0], {}),
        # a leap of one tick alone is one, too
        ([101.0, 103.0, 104.0], [101.0, 102.0, 103.0], {1: ClockFault.LEAPS}),
        # three ticks without a number, then it stands: it is not waited for once more
        (
            [101.0, nan, nan, nan, 101.0, 101.0],
            [101.0, 102.0, 103.0, 104.0, 105.0, 106.0],
            dict.fromkeys((1, 2, 3), ClockFault.NO_NUMBER)
            | dict.fromkeys((4, 5), ClockFault.STANDS),
        ),
        # it is slower than half: followed for three ticks
        ([101.0, 101.25, 101.5, 102.0], [101.0, 101.25, 101.5, 102.0], {}),
        # it runs again from elsewhere, but not faster than it does
        ([101.0, 112.0, 112.5], [101.0, 102.0, 102.5], {1: ClockFault.LEAPS}),
        # it stays ten seconds ahead, or behind: no age changes by more than the tick
        ([101.0, 112.0, 113.0, 114.0], [101.0, 102.0, 103.0, 104.0], {1: ClockFault.LEAPS}),
        ([101.0, 91.0, 92.0, 93.0], [101.0, 102.0, 103.0, 104.0], {1: ClockFault.BACK}),
        # it stands: three ticks are waited for it, then they are counted
        (
            [101.0] * 7,
            [101.0, 101.0, 101.0, 101.0, 102.0, 103.0, 104.0],
            dict.fromkeys((4, 5, 6), ClockFault.STANDS),
        ),
        # and runs again from where it stood
        (
            [101.0] * 5 + [102.0, 103.0],
            [101.0, 101.0, 101.0, 101.0, 102.0, 103.0, 104.0],
            {4: ClockFault.STANDS},
        ),
        # it has stood for three ticks; the next time it is waited for again
        (
            [101.0] * 4 + [102.0] * 4 + [103.0],
            [101.0] * 4 + [102.0] * 4 + [103.0],
            {},
        ),
        # it leaps by ten seconds at each tick
        (
            [110.0, 120.0, 130.0],
            [101.0, 102.0, 103.0],
            dict.fromkeys((0, 1, 2), ClockFault.LEAPS),
        ),
        # it runs backwards
        (
            [99.0, 98.0, 97.0, 96.0, 95.0],
            [101.0, 102.0, 103.0, 104.0, 105.0],
            dict.fromkeys(range(5), ClockFault.BACK),
        ),
    ],
)
def test_readings_that_cannot_be_believed(readings, expected_s, faults):
    assert times(readings) == [(t, faults.get(k)) for k, t in enumerate(expected_s)]


@settings(max_examples=200, deadline=None)
@given(st.lists(ANYTHING, min_size=1, max_size=40), st.sampled_from([0.1, 1.0, 5.0, None]))
def test_no_sequence_of_readings_shortens_or_stops_the_time(readings, tick_s):
    """Nor where nobody tells how long the ticks are, after the first reading."""
    readings = [100.0, *readings] if tick_s is None else readings
    found = [100.0] + [now_s for now_s, _ in times(readings, tick_s)]
    assert (np.diff(found) >= 0.0).all()
    assert (np.diff(found) <= (tick_s or LONGEST_TICK_S) + 1e-5).all()
    found = found[1:] if tick_s is None else found
    stands = STANDS_TICKS + 1
    moved = np.array(found[stands:]) - found[:-stands]
    assert (moved > 0.0).all(), "it never stands for more than three ticks"


def test_a_clock_whose_ticks_nobody_tells_takes_its_first_step_as_their_length():
    clock = GateClock(0.0)
    for reading_s, now_s in ((10.0, 10.0), (12.0, 12.0), (14.0, 14.0), (24.0, 16.0), (26.0, 18.0)):
        clock.advance(reading_s)
        assert clock.now_s == now_s
    assert (clock.tick_s, clock.ahead_s, clock.outside_s) == (2.0, 8.0, 26.0)


@pytest.mark.parametrize(
    ("readings", "expected_s", "faults"),
    [
        # the first reading is that of the start; then three ticks are waited for it
        ([100.0] * 6, [100.0] * 4 + [101.0, 102.0], dict.fromkeys((4, 5), ClockFault.STANDS)),
        ([110.0] * 5, [110.0] * 4 + [111.0], {4: ClockFault.STANDS}),
        # it goes back at the step that should have told the length of the ticks
        (
            [100.0, 99.5, 99.0, 101.0, 103.0],
            [100.0, 101.0, 102.0, 104.0, 106.0],
            dict.fromkeys((1, 2), ClockFault.BACK),
        ),
        # what it makes up for after a leap is no step between two readings: the ticks are of 1 s
        (
            [100.0, 1e9, 102.0, 103.0, 105.0],
            [100.0, 101.0, 102.0, 103.0, 104.0],
            dict.fromkeys((1, 4), ClockFault.LEAPS),
        ),
        # two readings at nearly one time tell no length of a tick
        ([100.0, 100.0 + 2**-30, 101.0, 102.0], [100.0, 100.0 + 2**-30, 101.0, 102.0], {}),
        ([100.0, 100.04, 100.54, 101.04], [100.0, 100.04, 100.54, 101.04], {}),
        ([100.0, 100.0625, 100.125], [100.0, 100.0625, 100.125], {}),
        # a step of more than five seconds is a break, and no length of a tick
        ([100.0, 105.5, 106.0], [100.0, 101.0, 101.5], {1: ClockFault.LEAPS}),
        ([100.0, 105.0, 110.0], [100.0, 105.0, 110.0], {}),
        ([nan, 102.0, 104.0], [100.0, 102.0, 104.0], {0: ClockFault.NO_NUMBER}),
        ([90.0, 91.0, 92.0], [100.0, 101.0, 102.0], {0: ClockFault.BACK}),
    ],
)
def test_a_clock_whose_ticks_nobody_tells_is_bounded_too(readings, expected_s, faults):
    found = times(readings, None)
    assert found == [(t, faults.get(k)) for k, t in enumerate(expected_s)]


# the gate, whose history is timed by the ticks


def clocks():
    """What the clock outside shows at tick k, by the fault that begins with tick 30."""
    return {
        "stands": lambda k: min(k, 30),
        "leaps once": lambda k: k + 10 * (k == 30),
        "leaps": lambda k: k + 10 * (k >= 30),
        "leaps at every tick": lambda k: k + 10 * max(k - 29, 0),
        "goes back": lambda k: k - 20 * (k >= 30),
        "runs backwards": lambda k: k if k < 30 else 60 - k,
        "a billion once": lambda k: 1e9 if k == 30 else k,
        "not a number": lambda k: nan if k >= 30 else k,
        "crawls": lambda k: k if k < 30 else 30 + (k - 30) * 1e-3,
    }


@pytest.mark.parametrize("timing", [BENCHMARK, STREET], ids=lambda p: p.name)
@pytest.mark.parametrize("fault", list(clocks()))
def test_no_clock_shortens_a_time_or_stops_the_gate(fault, timing):
    timing = work_out(NETWORK, timing)
    gate, reading = SafetyGate(NETWORK, timing, 0.0), clocks()[fault]
    history = []
    for tick in range(240):
        now_s = float(reading(tick))
        wanted = STAGES[tick // 15 % 2]
        seen = look(NETWORK, gate, now_s, (0, 1, 2, 3))
        command = gate.admit(propose(NETWORK, now_s, wanted), now_s, seen)
        history.append((float(tick), command.colours.tolist()))
    assert broken_rules(NETWORK, timing, history) == []
    after = np.array([colours for _, colours in history[60:]])
    assert (after >= 3).any(axis=0).all(), "every group is served on"
    crossing = NETWORK.junctions[0].conflicts.any(axis=0)
    assert (after < 3).any(axis=0)[crossing].all()


@pytest.mark.parametrize(
    ("fault", "sources"),
    [
        ("leaps", ["fixed_time", "controller"]),
        ("goes back", ["fixed_time", "controller"]),
        ("leaps at every tick", ["fixed_time"]),
        ("stands", ["fixed_time"]),
        ("not a number", ["fixed_time"]),
    ],
)
def test_the_source_steps_down_and_comes_back_with_the_clock(fault, sources):
    gate = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0)
    reading, events = clocks()[fault], []
    for tick in range(80):
        now_s = float(reading(tick))
        seen = look(NETWORK, gate, now_s)
        events += gate.admit(propose(NETWORK, now_s, STAGES[0]), now_s, seen).interventions
    assert [e.data["to"] for e in events if e.kind == "safety.source"] == sources
    faults = [e.data for e in events if e.kind == "safety.clock"]
    assert len(faults) == 1, "once, however long it lasts"
    back = [e for e in events if e.kind == "safety.clock_back"]
    assert len(back) == (sources[-1] == "controller")
    assert (gate.source is ControlSource.CONTROLLER) == (sources[-1] == "controller")


@pytest.mark.parametrize("stamp", [lambda k: 30.0, lambda k: 1e9, lambda k: nan, lambda k: k - 9.0])
def test_an_observation_of_a_wrong_time_stops_nothing(stamp):
    timing = work_out(NETWORK, STREET)
    gate, history, events = SafetyGate(NETWORK, timing, 0.0), [], []
    for tick in range(200):
        now_s = float(tick)
        at_s = float(stamp(tick)) if 30 <= tick < 187 else now_s
        command = gate.admit(
            propose(NETWORK, at_s, STAGES[0]), now_s, look(NETWORK, gate, at_s, (0,))
        )
        history.append((now_s, command.colours.tolist()))
        events += command.interventions
    assert broken_rules(NETWORK, timing, history) == []
    assert [e.data["to"] for e in events if e.kind == "safety.source"] == [
        "fixed_time",
        "controller",
    ]
    assert len({tuple(c) for _, c in history[40:187]}) >= 4, "the signals go on"


def test_a_gate_that_takes_over_goes_on_with_the_clock_as_it_was():
    timing = work_out(NETWORK, BENCHMARK)
    gate = SafetyGate(NETWORK, timing, 0.0)
    gate.tick_s = 0.5
    for tick in range(60):
        now_s = tick / 2 + 100.0 * (tick >= 40)
        gate.admit(propose(NETWORK, now_s, STAGES[0]), now_s)
    heir = SafetyGate(NETWORK, timing, 0.0)
    heir.resume(gate.state())
    assert heir.tick_s == 0.5
    command = heir.admit(propose(NETWORK, 130.0, STAGES[0]), 130.0)
    assert (command.at_s, command.interventions) == (130.0, ())
    assert heir.state()["now"] == gate.state()["now"] + 0.5
    assert heir.shown_since.tolist() == gate.shown_since.tolist()


@pytest.mark.parametrize("tick_s", [0.0, -1.0, nan])
def test_a_tick_has_a_length(tick_s):
    with pytest.raises(ValueError, match="give seconds, more than 0"):
        SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0).tick_s = tick_s


@pytest.mark.parametrize("leap_s", [1.5, 3.0, 5000.0, 1e9, -1.0, -1e9])
def test_a_clock_that_leaps_before_the_first_tick_does_not_clear_the_junction(leap_s):
    """At the start all is red, and may just have become so: what crosses others is not green before
    yellow and clearance have passed, 5.2 s.
    """
    gate = SafetyGate(NETWORK, work_out(NETWORK, STREET), 0.0)
    gate.tick_s = 1.0
    commands = [gate.admit(propose(NETWORK, k + leap_s, STAGES[0]), k + leap_s) for k in range(12)]
    first = [c.colours[0] >= 3 for c in commands].index(True)  # group 2 crosses nobody
    assert first == 6
    kinds = [e.kind for c in commands for e in c.interventions]
    assert kinds[:1] == ["safety.clock"]
    assert kinds.count("safety.clock_back") == 1


@pytest.mark.parametrize(
    ("every_s", "leap_s"), [(20, -20.0), (20, -1000.0), (45, 3600.0), (1000, 0.0)]
)
@pytest.mark.parametrize("ordered", [10, 50], ids=lambda k: f"ordered at {k}")
def test_an_order_lasts_as_long_as_it_was_given_whatever_the_clock_does(every_s, leap_s, ordered):
    """It was ordered for 60 s; the clock leaps, before it or after it, and runs on from there."""
    gate = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0)
    gate.tick_s = 1.0
    in_force = []
    for k in range(200):
        now_s = k + leap_s * (k // every_s)
        if k == ordered:
            gate.order(Override(0, Order.FLASH, now_s + 60.0, "ann"), now_s)
        gate.admit(propose(NETWORK, now_s, STAGES[0]), now_s)
        in_force.append(0 in gate.overrides)
    assert in_force == [False] * ordered + [True] * 60 + [False] * (140 - ordered)


# what is told of it


def test_a_fault_that_changes_at_every_tick_is_told_once_in_ten_seconds():
    """The clock is right and wrong in turn; so is the observation, with another field each time."""
    gate, events = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0), []
    gate.tick_s = 1.0
    for tick in range(61):
        now_s = nan if tick % 2 else float(tick)
        seen = look(NETWORK, gate, float(tick))
        wrong = ({}, {"at_s": None}, {"count": None})[tick % 3]
        events += gate.admit(None, now_s, replace(seen, **wrong)).interventions
    for kind, left_out in (("clock", [0, 8, 8, 8, 8, 8]), ("clock_back", [0] * 6)):
        own = [e for e in events if e.kind == f"safety.{kind}"]
        assert [e.data.get("left_out", 0) for e in own] == left_out, "one in 10 s"
    observation = [e for e in events if e.kind == "safety.observation"]
    assert len(observation) == 2 * 5, "each of two fields at every third tick: one in 12 s"


def test_a_fault_that_stays_is_told_after_ten_seconds_though_it_was_left_out():
    changes = FaultChanges()
    faults = ["", "a", "", "a", *["a"] * 10]
    found = {k: changes.update(fault, float(k)) for k, fault in enumerate(faults)}
    assert {k: more for k, more in found.items() if more is not None} == {1: {}, 2: {}, 11: {}}
    assert changes.update("", 20.0) == {}
    assert changes.update("b", 20.5) == {}, "another fault is told at once"
    assert changes.update("", 20.6) is None
    assert changes.update("b", 20.7) is None
    assert changes.update("a", 3.0) == {"left_out": 2}, "a clock that went back makes nobody quiet"
