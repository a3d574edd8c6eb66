"""One street, second by second, on a plant made by hand:
what controller, fallback, gate, plant and event log get, by value.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.street import builders
from tests.street.builders import (
    A_FIRST,
    A_SECOND,
    B_FIRST,
    B_SECOND,
    GREEN,
    RED,
    MadePlant,
    ReadOff,
    Says,
    street_of,
    two_junctions,
    vehicles,
)

from headway.plants.sumo import SumoSettings, read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import BENCHMARK, work_out
from headway.safety import ControlSource, SafetyGate
from headway.street import opening
from headway.street.durations import Durations
from headway.street.junction_states import junction_states
from headway.street.messages import JunctionState
from headway.street.plausibility import drop_implausible, plausible_rows
from headway.street.signal_log import occupied_groups
from headway.street.state_file import decode, encode


@pytest.fixture
def plant():
    return MadePlant(two_junctions())


def own(events):
    """Events of the street itself; the gate's are tested where it lives."""
    return [
        (e.at_s, e.kind, e.junction, dict(e.data)) for e in events if e.kind.startswith("engine.")
    ]


# --- one tick -----------------------------------------------------------------------------------


def test_a_tick_observes_decides_applies_and_advances_once(plant):
    says = Says()
    street, _ = street_of(plant, says)
    street.tick()
    street.tick(0.5)
    assert [observations.at_s for observations in says.observations] == [100.0, 101.0]
    assert says.states == ["says 0", "says 1"]
    assert street.loop_state.controller == "says 2"
    assert plant.applied == [[*A_FIRST, *B_FIRST]] * 2
    assert plant.advanced == [1.0, 0.5]
    assert street.observation.at_s == 101.0
    assert says.observations[-1].at_s == street.observation.at_s


def test_every_proposal_passes_the_gate(plant):
    says = Says()
    street, events = street_of(plant, says)
    street.tick()
    says.wanted = np.array([*A_SECOND, *B_FIRST], np.int8)
    street.tick()
    assert plant.applied[1] == [GREEN, RED, *B_FIRST], "five seconds of green have not passed"
    held = [(e.at_s, e.kind, e.junction, e.data["link"]) for e in events]
    assert held == [(101.0, "safety.minimum_green", "A", 0)]


def test_the_gate_gets_the_observation_and_the_plants_time():
    plant = MadePlant(two_junctions(), age_s=0.5)
    street, _ = street_of(plant)
    street.tick()
    street.tick()
    assert street.gate.state()["now"] == 101.0, "of the plant, not the stamp of what was seen"
    plant.shown = np.full(
        5, RED, np.int8
    )  # the lamps do not show what was commanded: the gate sees it in the observation
    for _ in range(4):
        plant.apply = lambda command: None
        street.tick()
    assert street.gate.source is ControlSource.ALL_RED


def test_the_wall_time_of_each_part_is_kept(plant):
    street, _ = street_of(plant, clock=ReadOff(10.0, 11.0, 13.0, 16.0, 20.0, 25.0))
    street.tick()
    assert street.durations.table().tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0]]


def test_durations_are_kept_of_the_last_two_hours_of_seconds():
    kept = Durations()
    assert kept.table().shape == (0, 5)
    for k in range(7201):
        kept.rows.append((float(k), 0.0, 0.0, 0.0, 0.0))
    assert kept.table().shape == (7200, 5)
    assert kept.table()[0, 0] == 1.0


def test_a_new_street_begins_with_these_defaults(plant):
    street, events = street_of(plant)
    assert (street.cycle_s, street.trust.threshold) == (30.0, 0.4)
    assert (street.signal_log.enabled, street.signal_log.take()) == (False, ((), ()))
    assert street.trust.of_junction is None
    state = street.loop_state
    assert (
        state.controller,
        state.fallback,
        state.next_cycle_s,
        state.cycles,
        state.low_confidence,
    ) == ("says 0", "second 0", 130.0, 0, None)
    assert state.arrived_since_fallback.tolist() == [0] * 7
    assert events == []
    assert street.observation.at_s == 100.0
    assert street.gate.state()["now"] == 100.0


# --- what the record is told of colours and of stop lines ---------------------------------------


def test_changes_of_colours_and_stop_line_detectors_are_recorded_once_with_their_time(plant):
    says = Says()
    street, _ = street_of(plant, says)
    street.signal_log.enabled = True
    plant.vehicles = vehicles((0, 3.0, 5.0, 0.0), (3, 6.5, 5.0, 0.0))
    street.tick()
    assert street.signal_log.changes == [(100.0, 0, GREEN), (100.0, 2, GREEN)]
    assert street.signal_log.actuations == [(100.0, 0, True)]
    plant.vehicles = vehicles((0, 1.0, 0.0, 0.0), (3, 5.5, 5.0, 0.0))
    plant.persons = np.array([0, 0, 0, 0, 2], np.int32)
    street.tick()
    assert street.signal_log.actuations[1:] == [(101.0, 2, True), (101.0, 4, True)]
    # link 1 is of group 0 as well
    plant.vehicles = vehicles((1, 0.0, 5.0, 0.0))
    plant.persons = np.zeros(5, np.int32)
    street.tick()
    assert street.signal_log.actuations[3:] == [(102.0, 2, False), (102.0, 4, False)]
    assert len(street.signal_log.changes) == 2
    says.wanted = np.array([*A_SECOND, *B_FIRST], np.int8)
    for _ in range(6):
        street.tick()
    assert street.signal_log.changes[2:] == [(105.0, 0, RED), (106.0, 1, GREEN)]


def test_signal_changes_are_not_collected_unless_enabled(plant):
    street, _ = street_of(plant)
    plant.vehicles = vehicles((0, 3.0, 5.0, 0.0))
    street.tick()
    assert street.signal_log.take() == ((), ())


@pytest.mark.parametrize(
    ("changes", "actuations", "taken"),
    [(60_000, 39_999, True), (60_000, 40_000, False), (0, 100_000, False), (99_999, 0, True)],
)
def test_no_more_than_a_hundred_thousand_changes_are_kept_until_taken(
    plant, changes, actuations, taken
):
    street, _ = street_of(plant)
    street.signal_log.enabled = True
    log = street.signal_log
    log.changes, log.actuations = [(0.0, 0, 0)] * changes, [(0.0, 0, True)] * actuations
    plant.vehicles = vehicles((0, 3.0, 5.0, 0.0))
    street.tick()
    assert len(street.signal_log.changes) == changes + 2 * taken
    assert len(street.signal_log.actuations) == actuations + taken
    log.take()
    street.tick()
    assert street.signal_log.actuations == [], "what was left out is not made up for a second late"
    plant.vehicles = vehicles()
    street.tick()
    assert street.signal_log.actuations == [(102.0, 0, False)]


@pytest.mark.parametrize(
    ("link", "distance_m", "group"),
    [
        (0, 0.0, 0),
        (0, 0.5, 0),
        (0, 6.0, 0),
        (1, 6.0, 2),
        (0, 6.01, None),
        (0, -0.01, None),
        (-1, 3.0, None),
        (2, 3.0, None),
        (3, 3.0, 1),
    ],
)
def test_a_stop_line_is_reached_within_its_last_six_metres(link, distance_m, group):
    found = occupied_groups(
        np.array([link], np.int32), np.array([distance_m]), np.array([0, 2, -1, 1], np.int32), 3
    )
    assert found.dtype == np.bool_
    assert np.flatnonzero(found).tolist() == ([] if group is None else [group])


def test_each_vehicle_counts_at_its_own_stop_line():
    found = occupied_groups(
        np.array([3, 0, 0], np.int32),
        np.array([1.0, 9.0, 2.0]),
        np.array([0, 2, -1, 1], np.int32),
        4,
    )
    assert found.tolist() == [True, True, False, False]
    assert occupied_groups(
        np.zeros(0, np.int32), np.zeros(0), np.array([0], np.int32), 2
    ).tolist() == [
        False,
        False,
    ]


# --- who decides --------------------------------------------------------------------------------


def test_a_confident_controller_decides_and_the_fallback_is_not_called(plant):
    second = Says("second", (*A_SECOND, *B_SECOND))
    street, events = street_of(plant, Says(), second)
    for _ in range(10):
        street.tick()
    assert second.observations == []
    assert events == []
    assert street.gate.source is ControlSource.CONTROLLER
    assert street.trust.of_junction.tolist() == [1.0, 1.0]


def test_the_fallback_gets_all_arrivals_since_its_last_call(plant):
    says, second = Says(), Says("second", (*A_SECOND, *B_SECOND))
    street, _ = street_of(plant, says, second, cycle_s=3.0)
    for second_no in range(5):  # seconds 100 to 104; it is asked in the cycle, at 103
        plant.arrived = np.array([1, 0, 0, second_no, 0, 0, 0], np.int32)
        street.tick()
    assert [(s.at_s, s.arrived.tolist()) for s in second.observations] == [
        (103.0, [4, 0, 0, 6, 0, 0, 0])
    ]
    assert second.states == ["second 0"]
    assert street.loop_state.fallback == "second 1"
    assert street.loop_state.arrived_since_fallback.tolist() == [1, 0, 0, 4, 0, 0, 0]
    assert [s.arrived.tolist()[0] for s in says.observations] == [1, 1, 1, 1, 1], (
        "the controller is told each second's own"
    )
    assert second.observations[0].at_s == says.observations[3].at_s
    says.fault = RuntimeError("broken")
    for _ in range(2):  # asked in each second now, and in the cycle of 106 before that once more
        plant.arrived = np.array([0, 5, 0, 0, 0, 0, 0], np.int32)
        street.tick()
    assert [(s.at_s, s.arrived.tolist()) for s in second.observations[1:]] == [
        (105.0, [1, 5, 0, 4, 0, 0, 0]),
        (106.0, [0, 5, 0, 0, 0, 0, 0]),
        (106.0, [0, 0, 0, 0, 0, 0, 0]),
    ]


def test_a_junction_below_the_threshold_is_left_to_the_fallback_and_reported_with_its_factors(
    plant,
):
    says = Says(
        confidence=(0.9, 0.39994),
        why={"novelty": np.array([1.0, 0.12345]), "agreement": np.array([0.5, 0.98765])},
    )
    second = Says("second", (*A_SECOND, *B_SECOND))
    street, events = street_of(plant, says, second)
    street.tick()
    assert plant.applied == [[*A_FIRST, *B_SECOND]]
    data = {
        "confidence": 0.4,
        "threshold": 0.4,
        "fallback": "second",
        "completeness": 1.0,
        "novelty": 0.123,
        "agreement": 0.988,
        "freshness": 1.0,
    }
    assert own(events) == [(100.0, "engine.fallback", "B", data)]
    assert street.loop_state.low_confidence.tolist() == [False, True]
    assert street.gate.source is ControlSource.CONTROLLER
    street.tick()
    assert len(own(events)) == 1, "told once"
    says.confidence = np.array([0.3, 0.2])
    street.tick()
    data = {
        "confidence": 0.3,
        "threshold": 0.4,
        "fallback": "second",
        "completeness": 1.0,
        "novelty": 1.0,
        "agreement": 0.5,
        "freshness": 1.0,
    }
    assert own(events)[1:] == [(102.0, "engine.fallback", "A", data)]
    says.confidence, says.why = np.array([0.49, 0.7]), {}
    street.tick()
    perfect = {"completeness": 1.0, "freshness": 1.0}
    data = {"confidence": 0.7, "threshold": 0.4, "fallback": "second"} | perfect
    assert own(events)[2:] == [(103.0, "engine.fallback_ended", "B", data)]
    assert street.loop_state.low_confidence.tolist() == [True, False], "a little above is needed"
    says.confidence = np.array([0.5, 0.7])
    street.tick()
    data = {"confidence": 0.5, "threshold": 0.4, "fallback": "second"} | perfect
    assert own(events)[3:] == [(104.0, "engine.fallback_ended", "A", data)]
    assert street.loop_state.low_confidence is None
    assert len(second.observations) == 5
    street.tick()
    assert len(second.observations) == 5, "sure again: not asked any more"


def test_a_junction_comes_back_where_the_threshold_is_one(plant):
    says = Says(confidence=(1.0, 0.99))
    street, _ = street_of(plant, says, confidence_threshold=1.0)
    street.tick()
    assert street.loop_state.low_confidence.tolist() == [False, True]
    says.confidence = np.array([1.0, 1.0])
    street.tick()
    assert street.loop_state.low_confidence is None


def test_confidence_counts_with_what_was_measured_and_how_old_it_is():
    plant = MadePlant(two_junctions(), age_s=1.0)  # freshness 1 - 1/5
    plant.completeness = np.array([1.0, 0.75])
    street, events = street_of(plant, Says(confidence=(0.625, 0.625)), confidence_threshold=0.5)
    street.tick()
    assert [(e[2], e[3]["confidence"], e[3]["threshold"]) for e in own(events)] == [
        ("B", 0.375, 0.5)
    ]
    assert street.loop_state.low_confidence.tolist() == [False, True], (
        "0.625 x 0.8 is just the threshold"
    )
    assert street.trust.of_junction.tolist() == [0.5, 0.375]
    states = junction_states(street)
    assert [s.confidence for s in states] == [0.5, 0.375]
    assert [s.factors for s in states] == [
        {"completeness": 1.0, "freshness": 0.8},
        {"completeness": 0.75, "freshness": 0.8},
    ]
    assert own(events)[0][3]["completeness"] == 0.75


def test_a_controllers_own_freshness_counts_with_the_age_of_the_observation():
    plant = MadePlant(two_junctions(), age_s=1.0)
    why = {"freshness": np.array([0.5, 1.0]), "agreement": np.array([0.9, 1.0])}
    street, _ = street_of(plant, Says(confidence=(0.45, 1.0), why=why))
    street.tick()
    assert [s.factors for s in junction_states(street)] == [
        {"completeness": 1.0, "freshness": 0.4, "agreement": 0.9},
        {"completeness": 1.0, "freshness": 0.8, "agreement": 1.0},
    ]


def test_confidence_that_is_no_number_counts_as_low(plant):
    street, _ = street_of(plant, Says(confidence=(float("nan"), 1.0)))
    street.tick()
    assert street.loop_state.low_confidence.tolist() == [True, False]
    assert plant.applied == [[*A_SECOND, *B_FIRST]]


def test_a_controller_that_raises_is_reported_once_for_each_fault_and_again_when_it_is_back(plant):
    says, second = Says(), Says("second", (*A_SECOND, *B_SECOND))
    street, events = street_of(plant, says, second)
    street.tick()
    says.fault = RuntimeError("broken")
    street.tick()
    street.tick()
    failed = own(events)
    line = failed[0][3].pop("at")
    assert failed == [
        (
            101.0,
            "engine.controller_failed",
            "",
            {"controller": "says", "error": "RuntimeError('broken')"},
        )
    ]
    name, _, number = line.rpartition(":")
    lines = Path(builders.__file__).read_text(encoding="utf-8").splitlines()
    assert (name, lines[int(number) - 1].strip()) == ("builders.py", "raise self.fault"), (
        "the place where it was raised, not where it was called"
    )
    assert street.gate.source is ControlSource.FALLBACK
    assert street.trust.of_junction is None
    assert [s.at_s for s in second.observations] == [101.0, 102.0]
    assert street.loop_state.controller == "says 1", "its state is the last good one"
    says.fault = KeyError("other")
    street.tick()
    assert [e[3]["error"] for e in own(events)] == ["RuntimeError('broken')", "KeyError('other')"]
    says.fault = None
    street.tick()
    assert own(events)[2:] == [(104.0, "engine.controller_recovered", "", {"controller": "says"})]
    street.tick()
    assert len(own(events)) == 3
    assert street.gate.source is ControlSource.FALLBACK, "not trusted again before five seconds"
    assert len(second.observations) == 5, "asked as long as the gate is not with the controller"
    for _ in range(4):
        street.tick()
    assert street.gate.source is ControlSource.CONTROLLER
    asked = len(second.observations)
    street.tick()
    assert len(second.observations) == asked
    says.fault = RuntimeError("broken")
    street.tick()
    assert own(events)[3][1] == "engine.controller_failed", "a fault after a recovery is told anew"


@pytest.mark.parametrize(
    ("wanted", "found"), [(np.full(5, np.nan), "float64 (5,)"), (np.ones(4, np.int8), "int8 (4,)")]
)
def test_an_invalid_proposal_counts_as_none_and_is_no_recovery(plant, wanted, found):
    says, second = Says(), Says("second", (*A_SECOND, *B_SECOND))
    street, events = street_of(plant, says, second)
    says.fault = RuntimeError("broken")
    street.tick()
    says.fault, says.wanted = None, wanted
    street.tick()
    assert street.trust.of_junction is None
    assert len(second.observations) == 2
    assert [(e[1], e[3]["error"]) for e in own(events)] == [
        ("engine.controller_failed", "RuntimeError('broken')"),
        ("engine.controller_failed", f"wanted of its proposal is {found}, not numbers (5,)"),
    ]
    assert plant.applied == [[*A_SECOND, *B_SECOND]] * 2
    assert street.loop_state.low_confidence is None


# --- the optimisation cycle ---------------------------------------------------------------------


def test_the_cycle_is_recorded_every_cycle_s_with_its_figures(plant):
    wall = ReadOff()
    says = Says(confidence=(0.8, 0.61239), why={"novelty": np.array([1.0, 0.12345])})
    street, events = street_of(plant, says, cycle_s=3.0, clock=wall)
    plant.vehicles = vehicles((0, 3.0, 0.0999, 7.0), (0, 20.0, 0.1, 0.0), (-1, 30.0, 0.0, 1.0))
    for _ in range(3):
        street.tick()
    assert events == []
    street.durations.rows.clear()
    street.durations.rows.extend(
        [
            (9.0, 9.0, 9.0, 9.0, 9.0),
            (0.0, 0.001, 0.0, 0.0, 0.0),
            (0.0, 0.002, 0.0, 0.0, 0.0),
            (0.0, 0.0040015, 0.0, 0.0, 0.0),
        ]
    )
    wall.moments = [1.0, 1.0, 2.0, 2.0123456, 3.0, 3.0, 3.0, 3.0]
    street.tick()
    assert own(events) == [
        (
            103.0, "engine.cycle", "",
            {"cycle": 1, "ok": True, "vehicles": 3, "stopped": 2, "halted": 2,
                "source": "controller", "decide_ms": 2.334, "processing_ms": 19.347,
             "confidence": 0.612, "least_sure": "B", "completeness": 1.0, "novelty": 0.123,
             "freshness": 1.0},
        )
    ]  # fmt: skip
    assert (street.loop_state.cycles, street.loop_state.next_cycle_s) == (1, 106.0)


@pytest.mark.parametrize(("decided_s", "ok"), [(0.99, True), (1.01, False)])
def test_a_cycle_whose_ticks_take_longer_than_it_lasts_does_not_succeed(plant, decided_s, ok):
    """Three ticks whose decision takes so long, in a cycle of three seconds; the plant's own time
    does not count.
    """
    street, events = street_of(plant, Says(), cycle_s=3.0, clock=ReadOff())
    for _ in range(3):
        street.tick()
    street.durations.rows.clear()
    street.durations.rows.extend([(0.0, decided_s, 0.0, 0.0, 9.0)] * 3)
    street.tick()
    data = own(events)[-1][3]
    assert (data["ok"], data["processing_ms"]) == (ok, pytest.approx(3e3 * decided_s))
    assert street.loop_state.cycles_ok == int(ok)


def test_the_cycle_names_the_fallback_and_no_confidence_where_the_controller_proposed_nothing(
    plant,
):
    says = Says()
    says.fault = RuntimeError("broken")
    street, events = street_of(plant, says, cycle_s=2.0, clock=ReadOff())
    for _ in range(2):
        street.tick()
    street.durations.rows.clear()
    street.tick()
    cycles = [e for e in own(events) if e[1] == "engine.cycle"]
    figures = {
        "cycle": 1,
        "ok": False,
        "vehicles": 0,
        "stopped": 0,
        "halted": 0,
        "source": "fallback",
        "decide_ms": 0.0,
        "processing_ms": 0.0,
    }
    assert cycles == [(102.0, "engine.cycle", "", figures)]


def test_without_factors_of_its_own_a_proposal_has_those_of_the_observation(plant):
    street, events = street_of(plant, Says(confidence=(0.6, 0.7)), cycle_s=1.0)
    street.tick()
    street.tick()
    street.tick()
    assert [(e[0], e[3]["cycle"], e[3]["confidence"]) for e in own(events)] == [
        (101.0, 1, 0.6),
        (102.0, 2, 0.6),
    ]
    data = own(events)[0][3]
    assert (data["least_sure"], data["completeness"], data["freshness"]) == ("A", 1.0, 1.0)
    assert "novelty" not in data


@pytest.mark.parametrize(("early_s", "cycles"), [(1e-6, 1), (1.1e-6, 0), (0.0, 1), (0.5, 0)])
def test_a_cycle_begins_on_time_within_a_microsecond(plant, early_s, cycles):
    street, _ = street_of(plant, cycle_s=30.0)
    plant.time_s = 130.0 - early_s
    street.tick()
    assert street.loop_state.cycles == cycles


# --- the junctions, for those who look ----------------------------------------------------------


def test_before_the_first_decision_the_board_shows_red_and_no_confidence(plant):
    street, _ = street_of(plant)
    assert junction_states(street) == (
        JunctionState("A", 100.0, 0, 0, 0.0, (), 0.0),
        JunctionState("B", 100.0, 0, 0, 0.0, (), 0.0),
    )


def test_the_board_shows_queues_waits_and_greens_of_each_junction(plant):
    street, _ = street_of(plant, Says(wanted=(*A_SECOND, *B_SECOND), confidence=(0.9, 0.8)))
    plant.vehicles = vehicles(
        (0, 50.0, 0.05, 12.0), (1, 20.0, 0.1, 40.0), (2, 9.0, 3.0, 2.0),  # at A, on three links
        (3, 5.0, 0.0, 99.5), (4, 5.0, 0.0999, 7.0),  # at B
        (6, 5.0, 0.0, 500.0), (-1, 5.0, 0.0, 600.0),  # without a signal, and of unknown way
    )  # fmt: skip
    known = {"completeness": 1.0, "freshness": 1.0}
    street.tick()
    assert junction_states(street) == (
        JunctionState("A", 100.0, 3, 1, 40.0, (1,), 0.9, 18.0, pytest.approx(1.05), 0, known),
        JunctionState("B", 100.0, 2, 2, 99.5, (1, 2), 0.8, 53.25, pytest.approx(0.04995), 0, known),
    )
    assert [
        type(x)
        for x in (
            junction_states(street)[0].vehicles,
            junction_states(street)[0].stopped,
            junction_states(street)[0].longest_wait_s,
        )
    ] == [
        int,
        int,
        float,
    ]


# --- others take charge; a restart --------------------------------------------------------------


def test_a_new_controller_starts_from_the_present_observation(plant):
    street, _ = street_of(plant)
    street.tick()
    street.tick()
    other, stand_in = Says("other", (*A_SECOND, *B_SECOND)), Says("stand in")
    street.set_controller(other)
    street.set_fallback(stand_in)
    assert (street.controller, street.loop_state.controller) == (other, "other 0")
    assert (street.fallback, street.loop_state.fallback) == (stand_in, "stand in 0")
    assert [s.at_s for s in (*other.started, *stand_in.started)] == [101.0, 101.0]
    street.tick()
    assert other.states == ["other 0"]


def ran(plant):
    says = Says(confidence=(0.9, 0.1))
    street, _ = street_of(plant, says, cycle_s=2.0)
    for k in range(4):
        plant.arrived = np.array([k, 0, 0, 0, 0, 0, 0], np.int32)
        street.tick()
    return street


def test_a_resumed_street_continues_identically(plant):
    before = ran(plant)
    state = decode(encode(before.state(), before.state_classes()), before.state_classes())
    who = {"controller": "says", "fallback": "second", "relief": "", "canary": "", "shadow": ""}
    assert state["controllers"] == who
    anew = MadePlant(two_junctions(), begin_s=104.0)
    says, second = Says(confidence=(0.9, 0.1)), Says("second", (*A_SECOND, *B_SECOND))
    street, _ = street_of(anew, says, second, cycle_s=2.0)
    street.resume(state)
    assert anew.reported == [(before.gate.shown.tolist(), before.gate.shown_since.tolist())]
    assert street.gate.shown.tolist() == [*A_FIRST, *B_SECOND]
    assert street.observation.at_s == 104.0
    assert street.observation.shown.tolist() == [*A_FIRST, *B_SECOND], (
        "seen after the signals were shown again"
    )
    assert (
        street.loop_state.controller,
        street.loop_state.fallback,
        street.loop_state.cycles,
        street.loop_state.next_cycle_s,
    ) == (
        "says 4",
        "second 5",
        1,
        104.0,
    )
    assert street.loop_state.low_confidence.tolist() == [False, True]
    assert (len(says.started), len(second.started)) == (1, 1), (
        "their states were taken up: they do not begin anew"
    )


@pytest.mark.parametrize(
    ("by", "instead", "states"),
    [("other", "second", ("other 0", "second 5")), ("says", "third", ("says 4", "third 0"))],
)
def test_the_state_of_a_controller_that_was_replaced_is_not_resumed(plant, by, instead, states):
    state = ran(plant).state()
    anew = MadePlant(two_junctions(), begin_s=50.0)
    controller, fallback = Says(by), Says(instead, (*A_SECOND, *B_SECOND))
    street, _ = street_of(anew, controller, fallback)
    anew.time_s = 104.0
    street.resume(state)
    assert (street.loop_state.controller, street.loop_state.fallback) == states
    assert [s.at_s for s in controller.started] == ([50.0, 104.0] if by == "other" else [50.0])
    assert [s.at_s for s in fallback.started] == ([50.0, 104.0] if instead == "third" else [50.0])


# --- what cannot be is not believed -------------------------------------------------------------

GOOD = {"lane": 3, "link": 1, "distance": 50.0, "speed": 10.0, "wait": 0.0}
NAN = float("nan")
ROWS = [
    *(
        ({"distance": d}, good)
        for d, good in (
            (-20.0, False),
            (-19.99, True),
            (4999.99, True),
            (5000.0, False),
            (NAN, False),
            (-np.inf, False),
        )
    ),
    *(
        ({"speed": v}, good)
        for v, good in (
            (0.0, True),
            (-0.01, False),
            (0.5, True),
            (99.99, True),
            (100.0, False),
            (NAN, False),
        )
    ),
    *(
        ({"wait": w}, good)
        for w, good in ((0.0, True), (-0.01, False), (0.5, True), (NAN, False), (1e6, True))
    ),
    *(
        ({"lane": x}, good)
        for x, good in ((-1, True), (-2, False), (0, True), (13, True), (14, False))
    ),
    *(
        ({"link": x}, good)
        for x, good in ((-1, True), (-2, False), (0, True), (6, True), (7, False))
    ),
]


def columns(*rows):
    rows = [GOOD | row for row in rows]
    return (
        np.array([r["lane"] for r in rows], np.int32),
        np.array([r["link"] for r in rows], np.int32), np.array([r["distance"] for r in rows]),
        np.array([r["speed"] for r in rows]), np.array([r["wait"] for r in rows]),
    )  # fmt: skip


@pytest.mark.parametrize(("row", "good"), ROWS)
def test_each_measurement_is_plausible_within_its_bounds(row, good):
    assert plausible_rows(*columns(row), 14, 7).tolist() == [good]
    assert plausible_rows(*columns({}, row), 14, 7).tolist() == [True, good]
    assert plausible_rows(*columns(row, {}), 14, 7).tolist() == [good, True]


def observed(plant, *rows):
    lane, link, distance, speed, wait = columns(*rows)
    n = len(rows)
    made = replace(
        vehicles(), lane=lane, link=link, distance_m=distance, speed_mps=speed, waiting_s=wait
    )
    made = replace(made, length_m=np.arange(n) + 4.0, emergency=np.arange(n) % 2 == 0)
    return replace(plant.observe(), vehicles=made, completeness=np.array([1.0, 0.5]))


@pytest.mark.parametrize(("row", "good"), ROWS)
def test_implausible_rows_are_left_out_and_lower_the_completeness_by_their_share(plant, row, good):
    wrong = {"speed": -5.0}
    observations = observed(plant, row, wrong, {"distance": 7.0})
    found = drop_implausible(observations, plant.network)
    assert found.vehicles.length_m.tolist() == ([4.0, 6.0] if good else [6.0])
    assert found.vehicles.emergency.tolist() == ([True, True] if good else [True])
    assert found.vehicles.distance_m.tolist()[-1] == 7.0
    assert (
        len(found.vehicles)
        == len(found.vehicles.speed_mps)
        == len(found.vehicles.waiting_s)
        == len(found.vehicles.link)
        == (2 if good else 1)
    )
    assert found.completeness.tolist() == pytest.approx([2 / 3, 1 / 3] if good else [1 / 3, 1 / 6])
    assert (found.at_s, found.shown) == (observations.at_s, observations.shown)


def test_a_plausible_observation_is_unchanged_and_the_rest_of_another_is_used(
    plant,
):
    observations = observed(plant, {}, {"distance": 7.0})
    assert drop_implausible(observations, plant.network) is observations
    assert drop_implausible(
        replace(observations, vehicles=vehicles()), plant.network
    ).completeness.tolist() == [
        1.0,
        0.5,
    ]
    says = Says()
    street, _ = street_of(plant, says)
    plant.vehicles = vehicles((0, 5.0, 3.0, 0.0), (2, 5.0, 300.0, 0.0))
    street.tick()
    assert says.observations[0].vehicles.link.tolist() == [0]
    assert says.observations[0].completeness.tolist() == [0.5, 1.0], "both are of A"


def test_a_camera_that_measures_nonsense_makes_its_own_junction_unknown_alone(plant):
    """Three rows at A, none of which can be true, and one good one at B."""
    nonsense = [(k, 30.0, 400.0, 0.0) for k in (0, 1, 2)]
    plant.vehicles = vehicles(*nonsense, (3, 30.0, 10.0, 0.0))
    street, _ = street_of(plant, says := Says())
    street.tick()
    assert says.observations[0].completeness.tolist() == [0.0, 1.0]
    assert street.gate.state()["_call_last"][:4].tolist() == [100.0, 100.0, 100.0, -np.inf]


def test_controller_and_a_gate_that_is_thrown_away_are_compiled_before_the_first_tick(monkeypatch):
    """Both have decided once, at the begin of the scenario, when the street is handed over."""
    of = scenario("cologne1")
    network = read_network(of.net)
    admitted = []

    class RecordingGate(SafetyGate):
        def admit(self, proposal, now, observation=None, fallback=None):
            admitted.append((self, proposal.controller, now, observation))
            return super().admit(proposal, now, observation, fallback)

    monkeypatch.setattr(opening, "SafetyGate", RecordingGate)
    street = opening.open_street(
        network, work_out(network, BENCHMARK), SumoSettings(of.sumocfg), "planner", lambda _: None
    )
    try:
        ((gate, controller, now, observation),) = admitted
        assert (controller, now) == ("planner", street.plant.time_s)
        assert observation is street.observation
        assert gate is not street.gate
    finally:
        street.plant.close()
