"""The real-time loop on a plant made by hand and a clock set by hand: when it advances, checks,
publishes, checkpoints and recovers, by value.
"""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields

import pytest
from tests.runtime.clocks import Clock
from tests.runtime.loops import Loop, Plant

from headway.runtime import (
    MODES,
    AlertRule,
    Driven,
    ErrorRecoverySystem,
    FigureLimits,
    Level,
    RealTimeController,
    RuntimeSettings,
    StepBounds,
    StoppedError,
    Strategy,
)
from headway.runtime.monitor import Alert, AlertUpdate


def test_default_settings_and_invalid_ones():
    given = {f.name: getattr(RuntimeSettings(), f.name) for f in fields(RuntimeSettings)}
    assert given == {
        "period_s": None, "target_hz": 15.0, "base_hz": 10.0, "buffer": 1000,
        "speed_factor": 1.0, "overrun": "degrade", "mode": "balanced",
        "gather": True, "batch_wall_s": 0.02, "checkpoint_s": 0.0,
        "bounds": StepBounds(), "rules": (), "limits": {}, "drift": None, "priority": (),
        "watch": True,
    }  # fmt: skip
    RuntimeSettings(period_s=0.5, speed_factor=0.0, batch_wall_s=0.5, checkpoint_s=0.0)
    RuntimeSettings(speed_factor=0.5, checkpoint_s=0.5)
    for bad, said in (
        ({"period_s": 0.0}, "period_s: 0.0 is not allowed: seconds above 0"),
        ({"period_s": math.nan}, "period_s: nan"), ({"period_s": math.inf}, "period_s: inf"),
        ({"speed_factor": math.inf}, "speed_factor inf"),
        ({"target_hz": 0.0}, "target_hz: 0.0 is not allowed: ticks per second, 0.1 to 1000"),
        ({"target_hz": 1e6}, "target_hz: 1000000.0"), ({"target_hz": math.nan}, "target_hz: nan"),
        ({"target_hz": math.inf}, "target_hz: inf"), ({"base_hz": math.nan}, "base_hz: nan"),
        ({"base_hz": 0.0}, "base_hz: 0.0 is not allowed: a finite number above 0"),
        ({"buffer": 0}, "buffer: 0 is not allowed: a whole number of messages from 1"),
        ({"speed_factor": -0.5}, "speed_factor -0.5"),
        ({"batch_wall_s": 0.0}, "batch_wall_s 0.0 above"),
        ({"batch_wall_s": math.nan}, "batch_wall_s nan"),
        ({"checkpoint_s": -0.5}, "checkpoint_s -0.5"),
        ({"mode": "turbo"},
            "mode: 'turbo' is not allowed. There are: performance, balanced, accuracy"),
        ({"overrun": "panic"}, "overrun: 'panic' is not allowed. There are: degrade, skip, slow"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            RuntimeSettings(**bad)
    with pytest.raises(FrozenInstanceError):
        RuntimeSettings().period_s = 1.0


def test_a_plant_has_its_time_and_running_state_as_properties():
    assert isinstance(vars(Driven)["time_s"], property)
    assert isinstance(vars(Driven)["running"], property)


def test_a_new_loop_is_stable_and_without_pressure():
    of = Loop()
    assert (
        of.loop.stability.score,
        of.loop.stability.reasons,
        of.loop.pressure,
        of.loop.last_checkpoint_s,
    ) == (1.0, (), 0.0, 0.0)
    assert (of.loop.optimizer.mode.name, of.loop.streams.rate_hz, of.plant.built) == (
        "balanced",
        10.0,
        0,
    )
    assert of.reported == []


# ticks


def test_the_loop_ticks_until_its_end_time():
    of = Loop()
    of.loop.run(0.875)
    assert of.plant.advanced() == [0.25, 0.25, 0.25, 0.125]
    assert (of.plant.time_s, of.clock.now) == (0.875, 101.0)
    of.loop.run(0.875)
    of.loop.run(0.5)
    assert len(of.plant.advanced()) == 4
    of.loop.tick(0.875)
    assert of.plant.advanced()[4:] == [1e-9]  # a tick always advances


def test_a_remainder_of_a_nanosecond_counts_as_none():
    of = Loop()
    of.plant.time_s = 1.0
    until_s = 1.0 + 1e-9
    assert until_s - 1e-9 == 1.0
    of.loop.run(until_s)
    assert of.plant.calls == []


def test_the_loop_ends_with_the_plant():
    of = Loop()
    of.plant.running = False
    of.loop.run(5.0)
    assert of.plant.calls == []


def test_ticks_that_were_skipped_are_advanced_in_one():
    of = Loop(overrun="skip")
    of.plant.takes_s = 0.875
    of.ticks(
        3
    )  # at 0.25; at 1.125, two after that of 0.5 being missed; and at 2.0, three after that of 1.25
    assert of.plant.advanced() == [0.25, 0.75, 1.0]


def test_unpaced_ticks_are_batched_by_their_duration_and_never_past_the_end():
    of = Loop(speed_factor=0.0, batch_wall_s=1.0)
    of.plant.takes_s = 0.125
    of.ticks(3)
    assert of.plant.advanced() == [0.25, 0.5, 1.0]
    assert of.loop.pressure == 0.125
    of.plant.takes_s = 2.0
    of.ticks(2)
    assert of.plant.advanced()[3:] == [2.0, 0.5]
    of.loop.tick(until_s=of.plant.time_s + 0.125)
    assert of.plant.advanced()[-1] == 0.125
    assert of.clock.slept == []
    apart = Loop(speed_factor=0.0, gather=False)
    apart.ticks(3)
    assert apart.plant.advanced() == [0.25] * 3


def test_pressure_is_the_share_of_wall_time_and_lengthens_the_shortest_step_in_real_time_alone():
    of = Loop(speed_factor=0.5)  # half a second of wall time a tick
    of.plant.takes_s = 0.5
    of.ticks(2)
    assert of.loop.pressure == 1.0
    assert [c[2] for c in of.plant.calls] == [0.5, 0.625]
    assert of.loop.streams.thinning == 4.0
    fast = Loop(speed_factor=0.0, batch_wall_s=0.5)
    fast.plant.takes_s = 0.5
    fast.ticks(2)
    assert fast.loop.pressure == 1.0
    assert [c[2] for c in fast.plant.calls] == [0.5, 0.5]
    assert (fast.loop.streams.thinning, fast.loop.optimizer.switches) == (1.0, 0)


def test_lasting_pressure_changes_the_mode_and_is_reported_with_its_share():
    of = Loop(mode="accuracy")
    of.plant.takes_s = 0.2375
    of.ticks(5)  # at 0.4875, ... 1.4875: a second after the first
    assert of.reported == [
        (1.25, "runtime.mode", {"mode": "balanced", "why": "0.95 of the wall time used"})
    ]
    assert of.loop.streams.rate_hz == 10.0
    of.ticks(4)
    assert [d["mode"] for _, _, d in of.reported] == ["balanced", "performance"]
    assert of.loop.streams.rate_hz == 5.0


def test_a_chosen_mode_applies_to_the_streams_and_is_reported():
    of = Loop()
    of.loop.choose_mode("accuracy")
    assert (of.loop.optimizer.mode, of.loop.streams.rate_hz) == (MODES["accuracy"], 20.0)
    assert of.reported == [(0.0, "runtime.mode", {"mode": "accuracy", "why": "chosen"})]
    with pytest.raises(ValueError, match="no mode 'turbo'"):
        of.loop.choose_mode("turbo")
    assert len(of.reported) == 1


def test_advancing_and_monitoring_are_profiled_against_the_wall_time_of_a_tick():
    of = Loop(speed_factor=0.5)
    of.ticks(3)
    report = of.loop.profiler.report()
    assert {name: r.calls for name, r in report.items()} == {"advance": 3, "watch": 3}
    assert of.loop.profiler.section("advance").budget_s == 0.5
    assert Loop(watch=False).ticks(3).loop.profiler.report() == {}


# the target rate


@pytest.mark.parametrize(
    ("mode", "target_hz", "ticks"),
    [
        ("performance", 15.0, 150), ("balanced", 15.0, 150), ("accuracy", 15.0, 200),
        ("performance", 1.0, 50), ("balanced", 40.0, 400), ("accuracy", 7.0, 200),
    ],
)  # fmt: skip
@pytest.mark.parametrize("speed_factor", [1.0, 4.0])
def test_each_mode_streams_at_its_rate_whatever_the_target(mode, target_hz, ticks, speed_factor):
    """5, 10 and 20 messages a second for 10 s, though the target's ticks fall on other times."""
    of = Loop(mode=mode, target_hz=target_hz, speed_factor=speed_factor, period_s=None)
    s = of.loop.streams.subscribe("s", 1000.0)
    of.loop.run(10.0 * speed_factor)
    assert of.clock.now == pytest.approx(110.0)
    assert len(of.plant.advanced()) == ticks
    assert len(s.take()) == 10.0 * {"performance": 5, "balanced": 10, "accuracy": 20}[mode]


def test_late_ticks_cost_no_message():
    """Ticks that begin up to 120 ms late, by turns: 20 messages a second all the same."""
    of = Loop(mode="accuracy", period_s=None)
    s = of.loop.streams.subscribe("s", 20.0)
    of.late = iter([0.03, 0.0, 0.12, 0.011, 0.0] * 40)
    of.loop.run(10.0)
    assert len(s.take()) == 200


def test_another_mode_changes_the_ticks_from_the_next_one_on():
    of = Loop(mode="accuracy", period_s=None).ticks(20)
    assert of.clock.now == pytest.approx(101.0)
    of.loop.choose_mode("balanced")
    of.ticks(15)
    assert of.clock.now == pytest.approx(102.0)
    assert of.plant.time_s == pytest.approx(2.0)
    assert of.loop.profiler.section("advance").budget_s == pytest.approx(1 / 15)
    fixed = Loop(mode="accuracy").ticks(4)
    fixed.loop.choose_mode("performance")
    assert fixed.ticks(4).clock.now == 102.0, "a plant of fixed ticks keeps its own"


def test_as_fast_as_possible_the_target_is_of_plant_time():
    assert (
        Loop(speed_factor=0.0, period_s=None, gather=False, mode="accuracy")
        .ticks(2)
        .plant.advanced()
        == [1 / 15] * 2
    )


# checkpoints


def test_a_checkpoint_is_due_each_so_many_seconds_of_plant_time():
    of = Loop(checkpoint_s=0.5).ticks(5)
    assert [c[1] for c in of.plant.calls if c[0] == "checkpoint"] == [0.5, 1.0]
    assert of.loop.last_checkpoint_s == 1.0
    assert Loop().ticks(9).loop.last_checkpoint_s == 0.0
    assert [c for c in Loop().ticks(9).plant.calls if c[0] == "checkpoint"] == []
    of.loop.checkpoint()
    assert of.loop.last_checkpoint_s == 1.25


def test_a_checkpoint_that_cannot_be_written_is_reported_and_retried_after_half_the_interval():
    of = Loop(checkpoint_s=2.0)
    of.plant.checkpoint_fails = [OSError(28, "No space left"), OSError("still none"), None]
    of.ticks(9)
    assert of.loop.last_checkpoint_s == 0.0, "what was not written is no checkpoint"
    of.ticks(15)
    assert [(t, k) for t, k, _ in of.reported] == [
        (2.0, "runtime.checkpoint_failed"),
        (3.0, "runtime.checkpoint_failed"),
    ]
    assert of.reported[0][2] == {"error": "[Errno 28] No space left"}
    assert [c[1] for c in of.plant.calls if c[0] == "checkpoint"] == [4.0, 6.0]


def test_any_other_error_of_a_checkpoint_is_a_fault_to_recover_from():
    of = Loop(checkpoint_s=0.5)
    of.plant.checkpoint_fails = [KeyError("x")]
    of.ticks(2)
    assert of.reported == [
        (0.5, "runtime.fault", {"error": "KeyError('x')", "strategy": "retry with a smaller step"})
    ]


def test_a_loop_with_other_settings_continues_from_the_one_before():
    rules = (AlertRule("r", "v", ">", 1.0),)
    before = Loop(rules=rules, checkpoint_s=0.5)
    before.plant.values = {"v": 2.0}
    before.ticks(3)
    assert len(before.loop.monitor.open_alerts()) == 1
    after = Loop(rules=rules, mode="accuracy")
    after.loop.continue_from(before.loop)
    assert after.loop.last_checkpoint_s == 0.5
    assert after.loop.monitor is before.loop.monitor
    # one that could not write its checkpoint hands on that it is to be tried again soon
    failed = Loop(checkpoint_s=1.0)
    failed.plant.checkpoint_fails = [OSError("x")]
    failed.ticks(4)
    after = Loop(checkpoint_s=1.0)
    after.loop.continue_from(failed.loop)
    after.plant.time_s = 1.25
    after.ticks(1)
    assert [c for c in after.plant.calls if c[0] == "checkpoint"] == [("checkpoint", 1.5)]
    # the next is due an interval after the last try, not after the last that was written
    failed = Loop(checkpoint_s=2.0)
    failed.plant.checkpoint_fails = [OSError("x")]
    failed.ticks(8)
    assert failed.loop.last_checkpoint_s == 0.0
    after = Loop(checkpoint_s=2.0)
    after.loop.continue_from(failed.loop)
    after.plant.time_s = failed.plant.time_s
    after.ticks(1)
    assert [c for c in after.plant.calls if c[0] == "checkpoint"] == []
    other = Loop(rules=(AlertRule("r", "v", ">", 1.5),))
    other.loop.continue_from(before.loop)
    assert other.loop.last_checkpoint_s == 0.5
    assert other.loop.monitor.open_alerts() == []


def test_other_rules_close_the_alerts_of_those_that_changed_and_keep_the_others():
    stays, low = AlertRule("stays", "v", ">", 1.0), AlertRule("r", "v", ">", 1.0)
    before = Loop(rules=(stays, low, AlertRule("gone", "v", ">", 1.0)))
    before.plant.values = {"v": 2.0}
    before.ticks(2)
    after = Loop(rules=(AlertRule("r", "v", ">", 1.5), stays))
    after.plant.time_s, after.plant.values = 1.0, {"v": 2.0}
    after.loop.continue_from(before.loop)
    assert [(k, d["rule"], d["number"], d["why"]) for _, k, d in after.reported] == [
        ("alert.closed", "r", 2, "the rules were changed"),
        ("alert.closed", "gone", 3, "the rules were changed"),
    ]
    after.reported.clear()
    after.ticks(2)
    after.plant.values = {"v": 0.0}
    after.ticks(2)
    assert [(k, d["rule"], d["number"]) for _, k, d in after.reported] == [
        ("alert.opened", "r", 4), ("alert.closed", "r", 4), ("alert.closed", "stays", 1),
    ]  # fmt: skip
    assert [a.rule for a in after.loop.monitor.history] == ["r", "gone", "r", "stays"]


# looks, alerts and streams


def looks(mode, count, **settings):
    """The plant times at which the figures were looked at, in ticks of 1/64 s of real time."""
    of = Loop(mode=mode, period_s=1.0 / 64.0, **({"limits": {"v": FigureLimits()}} | settings))
    of.plant.values, observed = {"v": 0.0}, []
    of.plant.figures = lambda: observed.append(of.plant.time_s) or of.plant.values
    of.ticks(count)
    return [round(64.0 * t) for t in observed]


def test_figures_are_checked_as_often_as_the_mode_says():
    # 0.2 s are 12.8 ticks: due at 1, 13.8, 26.6, 39.4; a tick may come 0.32 (5 ms) too soon
    assert looks("performance", 40) == [1, 14, 27, 40]
    # 1/15 s are 4.27 ticks: due at 1, 5.27, 9.53, 13.8; a tick may come 0.32 too soon
    assert looks("balanced", 15) == [1, 5, 10, 14]
    assert looks("accuracy", 4) == [1, 2, 3, 4]
    assert looks("accuracy", 4, limits={}) == []
    assert looks("accuracy", 4, watch=False) == []


def test_samples_and_checks_are_due_exactly_at_their_time():
    of = Loop(
        mode="performance",
        speed_factor=0.0,
        gather=False,
        limits={"v": FigureLimits()},
        rules=(AlertRule("r", "v", ">", 1.0),),
    )
    of.plant.takes_s, observed = 0.2, []  # just the fifth of a second of this mode
    of.plant.figures = lambda: observed.append(of.plant.time_s) or of.plant.values
    of.ticks(4)
    assert (len(observed), of.plant.built) == (4, 1 + 4)
    of.plant.takes_s = 0.1875
    of.ticks(4)
    # due at 1.0, 1.2, 1.4 s, the ticks at 0.9875, 1.175, 1.3625, 1.55
    assert (len(observed), of.plant.built) == (7, 1 + 7)


def test_instability_is_reported_once_with_its_reasons_and_again_when_it_returns():
    of = Loop(mode="accuracy", limits={"v": FigureLimits(highest=1.0)})
    for value in (0.0, 2.0, 3.0, 0.0, 4.0):
        of.plant.values = {"v": value}
        of.ticks(1)
    assert of.reported == [
        (0.5, "runtime.unstable", {"score": 0.3, "reasons": ["v 2 is outside -inf to 1"]}),
        (1.25, "runtime.unstable", {"score": 0.3, "reasons": ["v 4 is outside -inf to 1"]}),
    ]
    assert of.loop.stability.score == pytest.approx(0.3)


def test_instability_from_the_first_check_on_is_reported():
    of = Loop(mode="accuracy", limits={"v": FigureLimits(highest=1.0)})
    of.plant.values = {"v": 2.0}
    of.ticks(2)
    assert [(t, k) for t, k, _ in of.reported] == [(0.25, "runtime.unstable")]


def test_the_performance_mode_checks_without_jumps_and_drift():
    for mode, reasons in (("balanced", 2), ("performance", 0)):
        of = Loop(mode=mode, limits={"v": FigureLimits(per_s=1.0)}, drift=("e", 0.25))
        of.plant.values = {"v": 0.0, "e": 0.0}
        of.ticks(2)
        of.plant.values = {"v": 99.0, "e": 1.0}
        of.ticks(1)
        assert len(of.loop.stability.reasons) == reasons


def test_a_figure_that_is_not_finite_is_a_fault_and_recovery_resets_the_history():
    of = Loop(mode="accuracy", limits={"v": FigureLimits(per_s=1.0)})
    of.ticks(1)
    of.plant.values = {"v": math.nan, "w": math.inf}
    of.ticks(1)
    assert of.reported == [
        (0.5, "runtime.unstable", {"score": 0.0, "reasons": ["v is nan", "w is inf"]}),
        (
            0.5,
            "runtime.fault",
            {
                "error": "ArithmeticError('v is nan; w is inf')",
                "strategy": "retry with a smaller step",
            },
        ),
    ]
    of.plant.values = {"v": 50.0}
    of.ticks(1)
    assert of.loop.stability.score == 1.0


def test_alerts_are_reported_with_their_figures_as_often_as_the_mode_says():
    of = Loop(
        mode="balanced", period_s=1.0 / 16.0, rules=(AlertRule("r", "v", ">", 1.0, Level.ERROR),)
    )
    assert of.plant.built == 1  # the paths are held against a sample
    values = [0.0, 2.0, 2.0, 2.0, 0.0, 0.0]
    for value in values:
        of.plant.values = {"v": value}
        of.ticks(1)
    data = {"rule": "r", "path": "v", "level": "error", "threshold": 1.0, "number": 1}
    # 0.1 s are 1.6 ticks: due at 1, 2.6, 4.2, 5.8 ticks, so looked at on ticks 1, 3, 5, 6
    assert of.reported == [
        (0.1875, "alert.opened", data | {"value": 2.0}),
        (0.3125, "alert.closed", data | {"value": 0.0}),
    ]
    assert of.plant.built == 5


def test_the_figures_of_an_alert_event():
    alert = Alert(7, "r", "v.x", Level.CRITICAL, 1.0, 2.5, 3.5, 0.5)
    plain = {
        "rule": "r",
        "path": "v.x",
        "level": "critical",
        "value": 2.5,
        "threshold": 0.5,
        "number": 7,
    }
    assert AlertUpdate("opened", alert).figures() == plain
    assert AlertUpdate("opened", alert, 4).figures() == plain | {"held_back": 4}


def test_a_path_that_is_not_in_the_state_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"no 'w' in the state. There are: v"):
        Loop(rules=(AlertRule("r", "w", ">", 1.0),))


def test_a_state_is_built_once_for_all_subscribers_and_not_at_all_without_any():
    of = Loop(mode="accuracy")
    of.ticks(3)
    assert of.plant.built == 0
    sub = of.loop.streams.subscribe("s", 2.0)
    of.plant.values = {"a": {"b": 5}}
    of.ticks(4)
    found = [(m.at_s, m.values["a.b"], m.values["loop.fps"]) for m in sub.take()]
    assert found == [(1.0, 5, 4.0), (1.5, 5, 4.0)]
    assert of.plant.built == 2
    both = Loop(mode="accuracy", rules=(AlertRule("r", "v", ">", 1.0),), priority=("v",))
    sub = both.loop.streams.subscribe("s", 1000.0)
    both.ticks(3)
    assert both.plant.built == 1 + 3
    assert [m.urgent for m in sub.take()] == [True, False, False]
    both.loop.close()
    assert sub.detached == "closed"


# faults


def test_strategies_are_applied_from_the_mildest():
    of = Loop()
    of.plant.fails = [KeyError(k) for k in "abcdef"]
    of.plant.time_s = 3.0
    of.loop.checkpoint()
    with pytest.raises(StoppedError, match=r"^stopped safely at 0\.000 s: KeyError\('f'\)$"):
        of.ticks(9)
    assert [c for c in of.plant.calls if c[0] not in ("advance", "checkpoint")] == [
        "roll back",
        "restore",
        "restart",
        "reinitialise",
    ]
    assert [(t, d["strategy"]) for t, k, d in of.reported if k == "runtime.fault"] == [
        (3.0, "retry with a smaller step"), (3.0, "restore the last checkpoint"),
        (1.0, "restart the plant"), (1.0, "begin anew"), (0.0, "degrade"),
        (0.0, "stop safely"),
    ]  # fmt: skip
    assert (of.loop.optimizer.mode.name, of.loop.last_checkpoint_s) == ("performance", 0.0)
    assert (0.0, "runtime.mode", {"mode": "performance", "why": "chosen"}) in of.reported


def test_after_a_fault_the_tick_is_repeated_with_a_quarter_of_the_step():
    of = Loop()
    of.plant.fails = [None, ArithmeticError("x"), None]
    of.ticks(3)
    # after the fault itself the floor grows by a tenth with each tick
    assert [c[2] for c in of.plant.calls if c[0] == "advance"] == pytest.approx(
        [0.5, 0.5, 0.125 * 1.1]
    )
    assert of.plant.calls[2] == "roll back"
    assert of.plant.time_s == 0.5


def test_a_restore_also_restores_the_time_of_the_last_checkpoint():
    of = Loop(
        checkpoint_s=2.0,
        recovery=ErrorRecoverySystem(
            ((Exception, (Strategy.RESTORE, Strategy.STOP)),), clock=Clock()
        ),
    )
    of.plant.time_s = 3.0
    of.loop.checkpoint()
    of.plant.fails = [KeyError("x")]
    of.ticks(1)
    assert (of.plant.time_s, of.loop.last_checkpoint_s) == (1.0, 1.0)
    of.ticks(7)
    assert of.loop.last_checkpoint_s == 1.0
    of.ticks(1)
    assert [c for c in of.plant.calls if c[0] == "checkpoint"] == [
        ("checkpoint", 3.0),
        ("checkpoint", 3.0),
    ]
    assert of.loop.last_checkpoint_s == 3.0


def test_a_strategy_that_fails_is_a_fault_and_the_next_one_is_tried():
    of = Loop()
    of.plant.fails = [ArithmeticError("first")]
    of.plant.cures = {"roll back": ValueError("cannot"), "restore": OSError("no disk")}
    of.ticks(2)
    assert [(d.get("error"), d.get("strategy"))
        for _, k, d in of.reported if k == "runtime.fault"] == [
        ("ArithmeticError('first')", "retry with a smaller step"),
        ("ValueError('cannot')", "restore the last checkpoint"),
        ("OSError('no disk')", "degrade"),
    ]  # fmt: skip
    assert len(of.plant.advanced()) == 2


def test_a_fault_after_settling_starts_with_the_mildest_strategy_again():
    of = Loop()
    of.plant.fails = [ArithmeticError("a"), *[None] * 8, ArithmeticError("b"), ArithmeticError("c")]
    of.ticks(11)  # the second 2.25 s after the first, the third a quarter of a second later
    assert [d["strategy"] for _, _, d in of.reported] == [
        "retry with a smaller step",
        "retry with a smaller step",
        "restore the last checkpoint",
    ]
    assert of.loop.recovery.success_counts() == {Strategy.RETRY_SMALLER: (1, 2)}


def test_successful_ticks_are_reported_to_the_recovery():
    of = Loop()
    of.plant.fails = [ArithmeticError("a")]
    of.ticks(8)  # the fault was answered at 0.25 s of wall time; now it is 2.0
    assert of.loop.recovery.success_counts() == {}
    of.ticks(1)
    assert of.loop.recovery.success_counts() == {Strategy.RETRY_SMALLER: (1, 1)}


def test_the_stop_carries_its_cause():
    of = Loop(recovery=ErrorRecoverySystem(((Exception, (Strategy.STOP,)),)))
    of.plant.fails, of.plant.time_s = [KeyError("x")], 1.2345
    with pytest.raises(StoppedError, match=r"at 1\.23[45] s") as stopped:
        of.loop.tick()
    assert isinstance(stopped.value.__cause__, KeyError)
    assert [c[0] for c in of.plant.calls] == ["advance"]


def test_a_loop_runs_without_a_listener():
    clock = Clock()
    plant = Plant(clock)
    loop = RealTimeController(
        plant, RuntimeSettings(checkpoint_s=0.5), clock=clock, sleep=clock.sleep
    )
    plant.checkpoint_fails = [OSError("x")]
    loop.run(1.0)
    assert plant.time_s == pytest.approx(1.0)
