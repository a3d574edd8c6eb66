"""Commands and events of the gate, second by second, on two junctions side by side (see `pair`):
orders, sources, state.
"""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest

from headway.roads import BENCHMARK, STREET, Colour
from headway.safety import ControlSource, Fault, Order, Override, SafetyGate, kernel
from headway.safety.claimants import Memory
from tests.safety.builders import FR, FY, G, P, R, Y, look, propose
from tests.safety.networks import crossroads
from tests.safety.two import FIRST, PAIR, SECOND, J, K, Two


def test_both_junctions_are_controlled_independently():
    two = Two().play(FIRST, 10)
    # all red at 1000 s with the conflicts just cleared: yellow 3 s, no clearance
    assert two.shown[0] == two.shown[2] == [R, R, G, R, R, R]
    assert two.shown[3] == two.shown[9] == FIRST
    two.play([*FIRST[:4], R, G], 4)
    assert [s[4:] for s in two.shown[10:]] == [[Y, R], [Y, R], [Y, R], [R, G]]
    assert all(s[:4] == FIRST[:4] for s in two.shown[3:])
    assert two.events == []


def test_a_rule_event_states_programme_index_and_duration():
    two = Two().play(FIRST, 6).play(SECOND, 1)
    assert two.reported("minimum_green") == [
        (
            6.0,
            "minimum_green",
            "J",
            {"tl": "J", "link": 0, "shown": G, "for_s": 3.0, "limit_s": 5.0},
        ),
        (
            6.0,
            "minimum_green",
            "J",
            {"tl": "J", "link": 3, "shown": P, "for_s": 3.0, "limit_s": 5.0},
        ),
        (
            6.0,
            "minimum_green",
            "K",
            {"tl": "K", "link": 3, "shown": G, "for_s": 3.0, "limit_s": 5.0},
        ),
    ]
    conflict = Two().play([G, G, R, R, G, G], 5)
    assert conflict.reported("conflict") == [
        (3.0, "conflict", "J", {"tl": "J", "link": 1, "shown": R, "for_s": 3.0}),
        (3.0, "conflict", "K", {"tl": "K", "link": 7, "shown": R, "for_s": 3.0}),
    ]  # fmt: skip
    wrong = Two().play([9, R, G, P, G, R], 2)
    assert wrong.reported("colour") == [
        (0.0, "colour", "J", {"tl": "J", "link": 0, "shown": R, "for_s": 0.0})
    ]


def test_maximum_green_and_minimum_cycle_events_state_their_figures():
    two = Two().play(FIRST, 130, links=(5,))
    # green from 3 s on, the other one asks all the time: 120 s later
    assert two.reported("maximum_green") == [
        (
            123.0,
            "maximum_green",
            "K",
            {"tl": "K", "link": 3, "shown": G, "for_s": 120.0, "limit_s": 120.0},
        )
    ]
    street = Two(profile=STREET).play(FIRST, 20).play(SECOND, 15).play(FIRST, 30)
    lit = [s[4] == G for s in street.shown]
    starts = [k for k in range(1, len(lit)) if lit[k] and not lit[k - 1]]
    assert starts[1] - starts[0] == 40
    red_s = next(k for k, s in enumerate(street.shown) if k > 20 and s[4] == R)
    (again,) = [e for e in street.reported("minimum_cycle") if e[2] == "K"]
    assert again[3] == {"tl": "K", "link": 3, "shown": R, "for_s": again[0] - red_s}
    assert red_s < again[0] < starts[1]


def test_a_rule_is_reported_again_after_a_second_without_effect():
    two = Two().play(FIRST, 5).play(SECOND, 1).play(FIRST, 1).play(SECOND, 1)
    assert [e[0] for e in two.reported("minimum_green") if e[2] == "K"] == [5.0, 7.0]


def test_a_starving_group_is_reported_once_and_gets_the_stage_that_serves_it_best():
    profile = replace(BENCHMARK, max_red_s=30.0)
    two = Two(profile=profile).play(SECOND, 60, links=(3,))
    assert two.reported("maximum_red") == [
        (30.0, "maximum_red", "J", {"tl": "J", "link": 3, "shown": R, "for_s": 30.0})
    ]
    begin = next(k for k, s in enumerate(two.shown) if s[3] >= P)
    assert two.shown[begin][:4] == J.stages[2].tolist(), (
        "its protected green, not the stage before in which it is permissive"
    )
    assert begin == 33  # 3 s of yellow
    assert all(s[4:] == [R, G] for s in two.shown[3:])


def test_a_group_that_is_only_ever_permissive_is_served_too():
    # without its third stage, group 3 has green only beside 0, to which it gives way
    one = crossroads()
    network = replace(
        one, junctions=(replace(one.junctions[0], stages=one.junctions[0].stages[:2]),)
    )
    two = Two(network, replace(BENCHMARK, max_red_s=30.0)).play(SECOND[:4], 60, links=(3,))
    begin = next(k for k, s in enumerate(two.shown) if s[3] >= P)
    assert two.shown[begin] == FIRST[:4]


def test_a_junction_without_observation_calls_all_groups():
    for changes in ({"completeness": np.array([1.0, 0.4])}, {"blind": True}):
        two = Two(profile=replace(BENCHMARK, max_red_s=30.0)).play(FIRST, 40, **changes)
        assert [e[:3] for e in two.reported("maximum_red") if e[2] == "K"] == [
            (30.0, "maximum_red", "K")
        ]
        assert bool([e for e in two.reported("maximum_red") if e[2] == "J"]) is ("blind" in changes)


# orders


def test_orders_hold_their_own_junction_and_are_recorded():
    two = (
        Two()
        .play(FIRST, 10)
        .order(1, Order.STAGE, 1020.0, "ann", 1)
        .order(0, Order.HOLD, 1016.0, "bob")
        .play(SECOND, 5)
    )
    assert two.reported("override") == [
        (10.0, "override", "K", {"order": "stage", "stage": 1, "until_s": 1020.0, "by": "ann"}),
        (
            10.0,
            "override",
            "J",
            {"order": "hold", "stage": 0, "green": [0, 2, 3], "until_s": 1016.0, "by": "bob"},
        ),
    ]
    assert two.shown[-1] == [*FIRST[:4], R, G]
    two.play(FIRST, 25)
    assert two.reported("override_expired") == [
        (16.0, "override_expired", "J", {"by": "bob"}),
        (20.0, "override_expired", "K", {"by": "ann"}),
    ]
    assert [s[4:] for s in two.shown[18:27]] == [
        [R, G],
        [R, G],
        [R, Y],
        [R, Y],
        [R, Y],
        [G, R],
        [G, R],
        [G, R],
        [G, R],
    ]


def test_a_hold_of_the_first_and_a_flash_of_the_second_junction():
    two = (
        Two()
        .play(FIRST, 10)
        .order(0, Order.HOLD, 1100.0, "ann")
        .order(1, Order.FLASH, 1100.0, "ann")
        .play(SECOND, 20)
    )
    assert two.shown[-1] == [*FIRST[:4], FY, FR], "its programme has most green for the first"
    two.gate.release(1, "bob", two.now)
    two.gate.release(1, "bob", two.now)
    two.play(SECOND, 10)
    assert two.shown[-1] == [*FIRST[:4], R, G]
    assert two.reported("override_released") == [(30.0, "override_released", "K", {"by": "bob"})]


def test_two_orders_that_end_together_both_end():
    two = (
        Two()
        .play(FIRST, 10)
        .order(0, Order.HOLD, 1012.0, "a")
        .order(1, Order.STAGE, 1030.0, "b", 0)
        .play(SECOND, 15)
    )
    assert two.shown[-1] == [
        *SECOND[:4],
        *FIRST[4:],
    ]  # the first one's end does not lift the second
    assert all(shown[4:] == FIRST[4:] for shown in two.shown[3:]), "not for a tick"
    assert [e[2] for e in two.reported("override_expired")] == ["J"]


def test_a_fault_of_the_first_junction_lifts_no_order_of_the_second():
    two = Two().play(FIRST, 10)
    two.order(0, Order.STAGE, 1100.0, "ann", 0).order(1, Order.STAGE, 1100.0, "ann", 1)
    lying = np.array([R, G, R, R, *FIRST[4:]], np.int8)
    for _ in range(20):
        lying[4:] = two.gate.shown[4:]
        two.play(FIRST, 1, shown=lying.copy())
    assert two.gate.faults == {0: Fault.LAMPS}
    assert two.shown[-1] == [R, R, R, R, R, G]
    assert two.gate.timing is two.timing


def test_starving_groups_are_served_after_an_order_and_not_during_it():
    profile = replace(BENCHMARK, max_red_s=30.0)
    two = (
        Two(profile=profile)
        .play(FIRST, 10)
        .order(1, Order.STAGE, 1060.0, "ann", 0)
        .play(FIRST, 49, links=(1, 5))
    )
    assert [(e[0], e[2]) for e in two.reported("maximum_red")] == [
        (39.0, "J")
    ]  # red since the start, asked since 10 s
    assert all(s[4:] == FIRST[4:] for s in two.shown[3:])
    two.play(FIRST, 3, links=(5,))
    assert [(e[0], e[2]) for e in two.reported("maximum_red")][-1] == (60.0, "K")


@pytest.mark.parametrize("junction", [-1, 2])
def test_an_order_for_no_junction_is_refused_with_their_number(junction):
    gate = Two().gate
    with pytest.raises(ValueError, match=f"no junction {junction}; there are 2"):
        gate.order(Override(junction, Order.HOLD, 10.0, "ann"), 0.0)
    with pytest.raises(ValueError, match="junction 'K' has 3 stages; there is no stage 3"):
        gate.order(Override(1, Order.STAGE, 10.0, "ann", 3), 0.0)
    gate.order(Override(1, Order.STAGE, 10.0, "ann", 2), 0.0)
    gate.order(Override(0, Order.STAGE, 10.0, "ann", 0), 0.0)


def test_an_order_has_no_stage_of_its_own_unless_it_is_given():
    assert astuple(Override(3, Order.HOLD, 9.0, "op")) == (3, Order.HOLD, 9.0, "op", -1)
    assert Override(0, Order.STAGE, 9.0, "op", 0).stage == 0
    for stage in (-1, -2):
        with pytest.raises(ValueError, match="to force a stage, give its index"):
            Override(0, Order.STAGE, 9.0, "op", stage)
    for until_s in (np.inf, np.nan):
        with pytest.raises(ValueError, match="give until_s as a finite time"):
            Override(0, Order.HOLD, until_s, "op")
    assert {o.name: o.value for o in Order} == {"HOLD": "hold", "STAGE": "stage", "FLASH": "flash"}


# sources


def test_a_change_of_source_is_recorded_with_both_names():
    two = Two().play(FIRST, 1).play(None, 2, fallback=SECOND).play(None, 2).play(FIRST, 7)
    assert two.reported("source") == [
        (1.0, "source", "", {"from": "controller", "to": "fallback"}),
        (3.0, "source", "", {"from": "fallback", "to": "fixed_time"}),
        (9.0, "source", "", {"from": "fixed_time", "to": "controller"}),
    ]  # fmt: skip
    # and one a moment before the five seconds is not trusted yet
    gate = SafetyGate(PAIR, two.timing, 0.0)
    gate.admit(None, 10.0)
    gate.admit(propose(PAIR, 14.875, np.array(FIRST, np.int8)), 14.875)
    assert gate.source is ControlSource.FIXED_TIME


def test_the_numbers_of_staleness_and_trust_can_be_given():
    gate = SafetyGate(PAIR, Two().timing, 0.0, stale_s=4.0, resume_s=1.0)
    assert gate.is_sound(propose(PAIR, 6.0, np.array(FIRST, np.int8)), 10.0)
    assert not gate.is_sound(propose(PAIR, 5.99, np.array(FIRST, np.int8)), 10.0)
    gate.admit(None, 0.0)
    for now in (0.5, 1.0):
        gate.admit(propose(PAIR, now, np.array(FIRST, np.int8)), now)
    assert gate.source is ControlSource.CONTROLLER
    gate = SafetyGate(PAIR, Two().timing, 0.0)
    for age, sound in (
        (2.0, True),
        (2.0 + 9e-7, True),
        (2.0 + 2e-6, False),
        (-9e-7, True),
        (-2e-6, False),
    ):
        assert gate.is_sound(propose(PAIR, 10.0 - age, np.array(FIRST, np.int8)), 10.0) is sound
    assert gate.is_sound(
        propose(PAIR, 1e-6, np.array(FIRST, np.int8)), 0.0
    )  # a microsecond ahead, and one too old, to the last bit
    assert gate.is_sound(propose(PAIR, 0.0, np.array(FIRST, np.int8)), 2.0 + 1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float64, int, float])
def test_the_time_of_a_proposal_may_be_any_number(kind):
    gate = Two().gate
    assert gate.is_sound(propose(PAIR, kind(1000), np.array(FIRST, np.uint8)), 1000.0)
    assert not gate.is_sound(propose(PAIR, "1000", np.array(FIRST, np.uint8)), 1000.0)


def test_lamps_that_disagree_latch_their_junction_at_the_third_tick_and_only_it():
    two = Two().play(FIRST, 10)
    wrong = np.array([*FIRST[:4], R, G], np.int8)
    two.play(FIRST, 2, shown=wrong).play(FIRST, 1, blind=True)
    assert two.gate.faults == {}
    two.play(FIRST, 1, shown=wrong)
    assert two.gate.faults == {1: Fault.LAMPS}
    assert two.reported("lamps") == [
        (13.0, "lamps", "K", {"commanded": [G, R], "read": [R, G]}),
    ]
    two.play(FIRST, 12)
    assert two.gate.source is ControlSource.CONTROLLER
    assert two.shown[-1] == [*FIRST[:4], R, R], "the other junction goes on"
    two.gate.reset(1, "op", two.now)
    two.play(FIRST, 4)
    assert two.shown[-1] == FIRST


def test_without_a_junction_that_obeys_the_source_is_all_red_until_they_are_healthy():
    two = Two().play(FIRST, 10)
    wrong = np.array([G, G, R, R, R, G], np.int8)
    two.play(FIRST, 12, shown=wrong)
    assert two.reported("source") == [(12.0, "source", "", {"from": "controller", "to": "all_red"})]
    assert two.shown[-1] == [R] * 6
    # the last tick that was wrong is 21; 300 s of health, and five until the source is trusted
    two.play(FIRST, 299)
    assert two.gate.faults == {0: Fault.LAMPS, 1: Fault.LAMPS}
    two.play(FIRST, 1)
    assert two.reported("fault_ended") == [
        (321.0, "fault_ended", name, {"fault": "lamps", "healthy_s": 300.0}) for name in "JK"
    ]
    two.play(FIRST, 10)
    assert two.shown[-1] == FIRST
    assert two.reported("source")[-1] == (
        325.0, "source", "", {"from": "all_red", "to": "controller"},
    )  # fmt: skip


def test_seconds_in_which_nobody_reads_the_lamps_are_no_health():
    """400 blind seconds and a right one ended the fault of lamps that were stuck at green."""
    two = Two().play(FIRST, 10).play(FIRST, 5, shown=np.array([*FIRST[:4], R, G], np.int8))
    two.play(FIRST, 100).play(FIRST, 400, blind=True).play(FIRST, 199)
    assert two.gate.faults == {1: Fault.LAMPS}
    two.play(FIRST, 1)
    assert two.reported("fault_ended") == [
        (714.0, "fault_ended", "K", {"fault": "lamps", "healthy_s": 300.0})
    ]


def resumed(two):
    """Another gate, with what `two` remembers."""
    heir = Two()
    heir.gate.resume(two.gate.state())
    heir.now = two.now
    return heir


def test_the_health_of_lamps_counts_on_over_restarts():
    """One that restarts every 100 s would never end a fault otherwise."""
    two = Two().play(FIRST, 10).play(FIRST, 5, shown=np.array([*FIRST[:4], R, G], np.int8))
    assert two.gate.faults == {1: Fault.LAMPS}
    with pytest.raises(ValueError, match="still do not show"):
        resumed(two).gate.reset(1, "op", two.now)
    for _ in range(2):
        two = resumed(two.play(FIRST, 100))
    assert two.play(FIRST, 99).gate.faults == {1: Fault.LAMPS}
    assert two.play(FIRST, 1).gate.faults == {}


@pytest.mark.parametrize("leap_s", [500.0, -500.0])
def test_an_order_lasts_as_long_over_a_restart_though_the_clock_outside_has_leapt(leap_s):
    two = Two().play(FIRST, 10).order(1, Order.STAGE, 1100.0, "ann", 1).play(FIRST, 10)
    two.now += leap_s
    two.gate.admit(None, two.now)  # the leap, which is not believed yet
    two.now += 1.0
    two = resumed(two.play(FIRST, 9))
    assert two.play(FIRST, 68).gate.overrides.keys() == {1}
    assert two.play(FIRST, 4).gate.overrides.keys() == set()


def test_ticks_with_wrong_lamps_count_on_over_a_restart():
    wrong = np.array([*FIRST[:4], R, G], np.int8)
    two = resumed(Two().play(FIRST, 10).play(FIRST, 2, shown=wrong))
    assert two.play(FIRST, 1, shown=wrong).gate.faults == {1: Fault.LAMPS}


def test_a_checkpoint_of_before_has_the_clock_outside():
    two = Two().play(FIRST, 10)
    state = two.gate.state()
    del state["ahead"], state["tick"]
    heir = Two()
    heir.gate.resume(state)
    assert heir.gate.shown_since.tolist() == two.gate.shown_since.tolist()
    heir.now = two.now
    assert heir.play(FIRST, 5).shown == [FIRST] * 5


def test_without_a_controller_each_junction_runs_its_own_programme_at_its_own_offset():
    two = Two().play(None, 70)
    assert two.gate.source is ControlSource.FIXED_TIME
    for k in range(20, 70):
        second = 1000 + k
        phase_j, phase_k = (second % 36) // 12, 0 if (second - 5) % 30 < 10 else 1
        into_j, into_k = (second % 36) % 12, (second - 5) % 30 - 10 * phase_k
        if into_j >= 3:
            assert two.shown[k][:4] == J.programme.colours[phase_j].tolist()
        if into_k >= 3:
            assert two.shown[k][4:] == K.programme.colours[phase_k].tolist()


def test_a_fallback_decides_only_while_it_is_the_source():
    two = Two().play(FIRST, 8, fallback=SECOND)
    assert two.shown[-1] == FIRST
    two.play(None, 8, fallback=SECOND)
    assert (two.gate.source, two.shown[-1]) == (ControlSource.FALLBACK, SECOND)
    two.play(FIRST, 4, fallback=SECOND)
    assert (two.gate.source, two.shown[-1]) == (ControlSource.FALLBACK, SECOND)
    two.play(
        FIRST,
        1,
        # it is gone, and the controller not yet trusted: the programme, which asks for the first
        # stage of J now
    )
    assert two.gate.source is ControlSource.CONTROLLER


# clock and memory


@pytest.mark.parametrize(
    ("now", "fault"),
    [
        (1005.0, "goes back"),
        (float("nan"), "not a number"),
        (float("inf"), "not a number"),
        (-float("inf"), "not a number"),
    ],
)
def test_a_clock_that_goes_back_or_is_not_finite_is_recorded_once_and_the_tick_counted(now, fault):
    two = Two().play(FIRST, 20)
    proposed = propose(PAIR, 1019.0, np.array(SECOND, np.int8))
    command = two.gate.admit(proposed, now)
    assert command.at_s == 1020.0
    assert [(e.at_s, e.kind, e.junction, dict(e.data)) for e in command.interventions] == [
        (1020.0, "safety.clock", "", {"now": repr(now), "fault": fault})
    ]
    assert two.gate.admit(proposed, now).interventions == ()
    again = two.gate.admit(propose(PAIR, 1022.0, np.array(SECOND, np.int8)), 1022.0)
    assert [(e.at_s, e.kind, e.data) for e in again.interventions] == [
        (1022.0, "safety.clock_back", {"now": "1022.0"})
    ]


def test_colours_refused_by_the_final_check_are_recorded(monkeypatch):
    two = Two().play(FIRST, 20)
    monkeypatch.setattr(kernel, "is_safe", lambda *a: False)
    two.play(FIRST, 1)
    assert two.reported("monitor") == [
        (20.0, "monitor", "J", {"colours": FIRST[:4]}),
        (20.0, "monitor", "K", {"colours": FIRST[4:]}),
    ]
    assert two.shown[-1] == [Y, R, Y, Y, Y, R]
    monkeypatch.undo()
    two.play(FIRST, 400)
    assert two.shown[-1] == [R] * 6, "latched, for health says nothing of the rules"
    assert two.shown[20:24] == [[Y, R, Y, Y, Y, R]] * 3 + [[R] * 6], "yellow is not shortened"
    two.gate.reset(0, "op", two.now)
    two.play(FIRST, 6)
    assert two.shown[-1] == [*FIRST[:4], R, R]
    assert two.reported("fault_reset") == [
        (421.0, "fault_reset", "J", {"fault": "rules", "by": "op"})
    ]


def test_a_final_check_that_fails_again_and_again_shortens_no_yellow(monkeypatch):
    two = Two().play(FIRST, 20)
    monkeypatch.setattr(kernel, "is_safe", lambda *a: False)
    two.play(FIRST, 5)
    assert two.shown[20:] == [[Y, R, Y, Y, Y, R]] * 3 + [[R] * 6] * 2


def test_a_new_gate_has_no_state_and_a_resumed_one_all_of_it():
    two = Two()
    state = two.gate.state()
    assert {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()} == {
        "shown": [R] * 6, "_since": [1000.0] * 6, "_green_start": [-np.inf] * 6,
        "_green_end": [1000.0] * 6, "_call_since": [1000.0] * 6,
        "_call_last": [-np.inf] * 6, "_foe_since": [1000.0] * 6, "_forced": [-1, -1],
        "_last_rule": [0] * 6,
        "cycle_since": [1000.0] * 6, "cycle_late": [False] * 6, "cycle_serving": [-1, -1],
        "held": [R] * 6, "wanted": [R] * 6, "red_until": [-np.inf, -np.inf],
        "ahead": 0.0, "tick": 1.0,
        "source": 0, "now": 1000.0,
        "better": 1000.0, "faults": {}, "overrides": {}, "override_ends": {}, "priority": Memory(),
        "lamps_wrong_ticks": [0, 0], "lamps_right_since": [1000.0, 1000.0],
        "lamps_wrong": [False, False],
    }  # fmt: skip
    two.play(FIRST, 7, links=(1,)).order(1, Order.HOLD, 1030.0, "ann").play(
        None, 3, links=(5,)
    ).play(FIRST, 1, links=(1, 4), shown=np.full(6, P, np.int8))
    state = two.gate.state()
    heir = Two()
    heir.gate.resume(state)
    heir.now = two.now
    again = heir.gate.state()
    assert {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in again.items()} == {
        k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()
    }
    assert heir.gate.source is ControlSource.FIXED_TIME
    assert (heir.gate.shown_since == two.gate.shown_since).all()
    assert heir.gate.shown_since.tolist()[4:] == [1003.0, 1000.0]
    before = len(two.shown)
    for gate in (two, heir):
        gate.play(SECOND, 40, links=(3, 5))
    assert heir.shown == two.shown[before:]
    # what was handed over is a copy: neither gate moves the other
    assert state["shown"].tolist() == again["shown"].tolist()
    heir.gate.shown_since[:] = 0.0
    assert heir.gate.shown_since.min() > 0.0


def test_a_state_of_another_network_is_refused_with_both_counts():
    with pytest.raises(ValueError, match="a network with 4 signal groups; this one has 6"):
        Two().gate.resume(Two(crossroads()).gate.state())


def test_an_invalid_fallback_is_not_followed_while_the_controller_is_not_trusted():
    two = Two().play(FIRST, 10).play(None, 5, fallback=FIRST)
    stale = propose(PAIR, two.now - 60.0, np.array(SECOND, np.int8))
    for _ in range(4):
        two.gate.admit(
            propose(PAIR, two.now, np.array(FIRST, np.int8)),
            two.now,
            look(PAIR, two.gate, two.now),
            stale,
        )
        two.now += 1.0
        assert two.gate.source is ControlSource.FIXED_TIME
    assert two.gate.shown.tolist() != SECOND


@pytest.mark.parametrize(
    "colour", [256 + int(Colour.GREEN), int(Colour.GREEN) - 256, 5, -1, 2**40 + int(Colour.GREEN)]
)
def test_a_colour_far_out_of_range_is_no_green(colour):
    two = Two()
    for k in range(8):
        two.gate.admit(propose(PAIR, 1000.0 + k, np.full(6, colour, np.int64)), 1000.0 + k)
    assert two.gate.shown.tolist() == [R] * 6
