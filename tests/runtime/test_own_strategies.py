"""Strategies of the user's own: their order, budgets and failures, and what hostile ones cost."""

from __future__ import annotations

import json
import math
import threading

import pytest
from tests.runtime.clocks import Clock
from tests.runtime.loops import Loop

from headway.runtime import (
    AlertRule,
    ErrorRecoverySystem,
    Policy,
    StoppedError,
    Strategy,
    UserStrategy,
)
from headway.runtime.recovery import Fault
from headway.runtime.report import plain

RETRY, RESTORE, ANEW, RESTART, DEGRADE, STOP = Strategy


class SensorError(RuntimeError):
    """Of a plant of the tests."""


class PortError(SensorError):
    """A more specific one."""


def helps(fault):
    return True


def own(action=helps, **more):
    return UserStrategy("own", action, **more)


def plan_of(recovery, error, clock, count):
    """What is chosen for errors that come back at once."""
    return [recovery.choose(error) for _ in range(count)]


def test_own_strategies_come_before_those_of_before_and_the_most_specific_class_counts():
    clock = Clock()
    recovery = ErrorRecoverySystem(clock=clock)
    mine, port = own(), UserStrategy("port", helps)
    recovery.register(SensorError, [mine])
    recovery.register(PortError, [port, STOP])
    assert plan_of(recovery, SensorError("x"), clock, 3) == [mine, RETRY, RESTORE]
    clock.now += 100.0
    assert plan_of(recovery, PortError("x"), clock, 3) == [port, STOP, STOP]
    clock.now += 100.0
    assert plan_of(recovery, KeyError("x"), clock, 2) == [RETRY, RESTORE]
    assert recovery.plans()["SensorError"][:2] == ["own", "retry with a smaller step"]
    assert recovery.plans()["PortError"] == ["port", "stop safely"]


def test_registering_again_puts_the_new_ones_first_and_keeps_each_once():
    recovery = ErrorRecoverySystem(clock=Clock())
    one, two = UserStrategy("one", helps), UserStrategy("two", helps)
    recovery.register(ArithmeticError, [one])
    recovery.register(ArithmeticError, [two, one, RESTORE])
    assert recovery.plans()["ArithmeticError"] == [
        "two", "one", "restore the last checkpoint", "retry with a smaller step", "begin anew",
        "stop safely",
    ]  # fmt: skip


def test_a_strategy_has_its_own_budget_within_the_window():
    clock = Clock()
    recovery = ErrorRecoverySystem(clock=clock)
    mine = own(budget=2)
    recovery.register(SensorError, [mine])
    chosen = []
    for clock.now in (0.0, 10.0, 20.0, 61.0):
        chosen.append(recovery.choose(SensorError("x")))
    assert chosen == [mine, mine, RETRY, mine]
    assert recovery.attempts(mine) == 2, "that of 0 s is out of the window"


@pytest.mark.parametrize(
    ("kind", "strategies", "said"),
    [
        (KeyboardInterrupt, [own()], "KeyboardInterrupt'> is no class of errors"),
        ("OSError", [own()], "'OSError' is no class of errors: give a subclass of Exception"),
        (OSError, [], "no strategies for OSError: give at least one"),
        (OSError, [own(), own()], "there is a strategy 'own' already. Give this one a label"),
        (OSError, [UserStrategy("degrade", helps)], "there is a strategy 'degrade' already"),
        (OSError, [DEGRADE, DEGRADE], "a strategy occurs twice"),
        (OSError, [7], "strategy 'int': 7 cannot be called"),
    ],
)
def test_what_cannot_be_registered_is_refused_and_changes_nothing(kind, strategies, said):
    recovery = ErrorRecoverySystem(clock=Clock())
    before = recovery.plans()
    with pytest.raises(ValueError, match=said):
        recovery.register(kind, strategies)
    assert recovery.plans() == before


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"budget": 0}, "budget 0 must be at least 1"),
        ({"within_s": 0.0}, "within_s 0.0 must be above 0"),
        ({"within_s": math.nan}, "within_s nan"),
        ({"within_s": math.inf}, "within_s inf"),
    ],
)
def test_budgets_and_times_of_strategies_are_checked(bad, said):
    with pytest.raises(ValueError, match=f"strategy 'own': {said}"):
        own(**bad)


def failing(*strategies, errors=1, kind=SensorError):
    """A loop whose plant fails so often, with these strategies for it, after its first tick."""
    of = Loop(ErrorRecoverySystem(clock=Clock(100.0)))
    of.loop.recovery.register(kind, strategies)
    of.plant.fails = [None, *(kind("lost") for _ in range(errors))]
    return of


def events(of, kind):
    return [data for _, k, data in of.reported if k == kind]


def test_a_strategy_gets_the_fault_and_the_loop_goes_on():
    faults = []

    def note(fault):
        faults.append((fault, threading.current_thread()))
        return True

    of = failing(own(note)).ticks(3)
    ((fault, thread),) = faults
    assert (fault.at_s, repr(fault.error), fault.attempt) == (0.25, "SensorError('lost')", 1)
    assert fault.driven is of.plant
    assert thread is not threading.main_thread()
    assert of.plant.time_s == 0.5
    assert events(of, "runtime.fault") == [{"error": "SensorError('lost')", "strategy": "own"}]
    assert events(of, "runtime.strategy_failed") == []


def recurse(fault):
    return recurse(fault)


def tick(fault):
    tick.of.loop.tick()
    return True


def steal(fault):
    """Asks for strategies itself."""
    while tick.of.loop.recovery.choose(fault.error) is not STOP:
        pass
    return True


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (lambda fault: None, "it returned None, not True"),
        (lambda fault: 1, "it returned 1, not True"),
        (lambda fault: 1 / 0, "ZeroDivisionError"),
        (lambda: True, "TypeError"),
        (recurse, "RecursionError"),
        (tick, "a tick is under way; wait for its end before the next one"),
    ],
)
def test_a_strategy_that_does_not_help_is_a_failed_attempt_and_the_next_one_has_its_turn(
    action, why
):
    tick.of = of = failing(own(action))
    of.ticks(3)
    chosen = [f["strategy"] for f in events(of, "runtime.fault")]
    assert chosen == ["own", "retry with a smaller step"]
    (failed,) = events(of, "runtime.strategy_failed")
    assert failed["strategy"] == "own"
    assert why in failed["why"]
    assert of.loop.recovery.success_counts()[own_of(of)] == (0, 1)
    assert of.plant.time_s == 0.5


def own_of(of):
    (mine,) = [a.strategy for a in of.loop.recovery.history if a.strategy.label == "own"]
    return mine


def test_a_strategy_that_takes_too_long_stops_the_loop_and_the_report_says_why():
    release = threading.Event()
    of = failing(own(lambda fault: release.wait(30.0), within_s=0.02))
    of.ticks(1)
    with pytest.raises(StoppedError, match=r"strategy 'own' did not end within 0\.02 s; the fault"):
        of.loop.tick()
    release.set()
    report = of.loop.report()
    assert "did not end within 0.02 s; the fault was SensorError('lost')" in report.stopped
    assert report.recovery.strategies["own"].tried == 1
    assert report.recovery.strategies["own"].worked == 0


def test_an_exit_from_a_strategy_is_passed_on():
    def leave(fault):
        raise SystemExit(3)

    of = failing(own(leave)).ticks(1)
    with pytest.raises(SystemExit):
        of.loop.tick()


def test_whatever_strategies_do_recovery_ends():
    tick.of = of = failing(own(steal), errors=100).ticks(1)
    with pytest.raises(StoppedError):
        of.ticks(100)


def test_a_plant_that_fails_for_ever_ends_with_own_strategies_too():
    calls = []
    of = failing(own(lambda fault: calls.append(fault.attempt) or True), errors=1000)
    with pytest.raises(StoppedError):
        of.ticks(1000)
    assert calls == [1]


def test_the_report_while_the_plant_fails_is_valid_json():
    texts = []

    def look(fault):
        texts.append(json.dumps(of.loop.report().as_json(), allow_nan=False))
        return True

    of = failing(own(look))
    of.loop.monitor.add(AlertRule("v", "v", ">", 1.0))
    of.loop.streams.subscribe("s", 5.0, policy=Policy.LATEST_ONLY)
    of.plant.values = {"v": math.nan, "w": math.inf}
    of.ticks(3)
    found = json.loads(texts[0])
    assert found["plant"] == {"v": None, "w": None}
    assert found["recovery"]["faults"] == 1
    assert [a["worked"] for a in found["recovery"]["recent"]] == [None]
    assert found["alerts"]["open"][0]["value"] is None
    assert found["streams"]["subscribers"]["s"]["policy"] == "latest only"
    of.plant.state = lambda: 1 / 0
    report = of.loop.report()
    assert (report.plant, report.plant_fault) == (None, "ZeroDivisionError('division by zero')")
    assert of.loop.report(with_plant=False).plant_fault == ""


def test_a_rule_added_while_running_is_checked_and_one_on_a_lost_loop_figure_is_not():
    of = Loop().ticks(1)
    assert of.loop.state()["loop"]["fps"] is None
    of.loop.monitor.add(AlertRule("fps", "loop.fps", "<", 5.0), of.loop.state())
    of.ticks(1)
    assert [(t, d["value"]) for t, k, d in of.reported if k == "alert.opened"] == [(0.5, 4.0)]
    with pytest.raises(ValueError, match=r"no 'loop.fpz' in the state. There are: loop.fps"):
        of.loop.monitor.add(AlertRule("x", "loop.fpz", "<", 5.0), of.loop.state())


def test_values_that_json_does_not_have_are_made_of_those_that_it_has():
    assert plain({1: (STOP, {2}, b"x", -math.inf)}) == {"1": ["stop", [2], "b'x'", None]}
    assert plain(Fault(1.0, KeyError("x"), None, 2)) == {
        "at_s": 1.0, "error": "'x'", "driven": None, "attempt": 2,
    }  # fmt: skip
