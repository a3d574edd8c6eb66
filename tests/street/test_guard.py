"""Whatever a controller does in its step, the street goes on, by the next source of the chain:
controller, fallback, the junctions' own programmes, red to all.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
from tests.street.builders import (
    A_FIRST,
    A_SECOND,
    B_FIRST,
    B_SECOND,
    GREEN,
    RED,
    MadePlant,
    Says,
    street_of,
    two_junctions,
    vehicles,
)

from headway.safety import ControlSource
from headway.street.guard import CONTROLLER, FALLBACK, RELIEF, ROLES, fault_of, own_copy
from headway.street.junction_states import junction_states
from headway.values import Proposal

# at 100 s the programme of both junctions (20 s a stage, from 0) shows the second stage
BY_PROGRAMME = [*A_SECOND, *B_SECOND]


@pytest.fixture
def plant():
    return MadePlant(two_junctions(), begin_s=101.0)


def kinds(events):
    return [e.kind for e in events if e.kind.startswith(("engine.", "safety.source"))]


class Acts:
    """A controller whose step does whatever a test wants."""

    def __init__(self, act, name="acts"):
        self.act, self.name, self.asked = act, name, 0

    def start(self, observation):
        return "state"

    def step(self, observation, state):
        self.asked += 1
        return self.act(observation, state)


def leaves():
    sys.exit("no more")


class Unreadable(dict):
    def __iter__(self):
        raise RuntimeError("not today")


class NamelessError(Exception):
    def __repr__(self):
        raise RuntimeError("no name")


def raises(error):
    raise error


def proposal(at_s, **changes):
    right = {
        "at_s": at_s,
        "controller": "acts",
        "wanted": np.array([*A_FIRST, *B_FIRST], np.int8),
        "confidence": np.ones(2),
        "why": {},
    }
    return Proposal(**right | changes)


FAULTS = {
    "raises": lambda o, s: 1 / 0,
    "exits": lambda o, s: leaves(),
    "recurses": lambda o, s: FAULTS["recurses"](o, s),
    "returns nothing": lambda o, s: None,
    "returns one thing": lambda o, s: 7,
    "proposes nothing": lambda o, s: (None, s),
    "proposes a text": lambda o, s: ("green", s),
    "proposes what looks like one": lambda o, s: (SimpleNamespace(wanted=[]), s),
    "wanted is None": lambda o, s: (proposal(o.at_s, wanted=None), s),
    "wanted is a list": lambda o, s: (proposal(o.at_s, wanted=[3] * 5), s),
    "wanted is short": lambda o, s: (proposal(o.at_s, wanted=np.ones(4, np.int8)), s),
    "wanted is a table": lambda o, s: (proposal(o.at_s, wanted=np.ones((5, 1), np.int8)), s),
    "wanted is no whole numbers": lambda o, s: (proposal(o.at_s, wanted=np.ones(5)), s),
    "confidence is None": lambda o, s: (proposal(o.at_s, confidence=None), s),
    "confidence is one number": lambda o, s: (proposal(o.at_s, confidence=1.0), s),
    "confidence is short": lambda o, s: (proposal(o.at_s, confidence=np.ones(1)), s),
    "confidence is long": lambda o, s: (proposal(o.at_s, confidence=np.ones(5)), s),
    "confidence is text": lambda o, s: (proposal(o.at_s, confidence=np.array(["a", "b"])), s),
    "why is None": lambda o, s: (proposal(o.at_s, why=None), s),
    "why holds None": lambda o, s: (proposal(o.at_s, why={"novelty": None}), s),
    "why holds too few": lambda o, s: (proposal(o.at_s, why={"novelty": np.ones(1)}), s),
    "its time is None": lambda o, s: (proposal(None), s),
    "its time is a text": lambda o, s: (proposal("now"), s),
    "its time is no number": lambda o, s: (proposal(float("nan")), s),
    "its time is beyond all floats": lambda o, s: (proposal(10**400), s),
    "why has a key that is no text": lambda o, s: (proposal(o.at_s, why={3: np.ones(2)}), s),
    "why cannot be read": lambda o, s: (proposal(o.at_s, why=Unreadable(a=np.ones(2))), s),
    "its error cannot be shown": lambda o, s: raises(NamelessError()),
    "it is of long ago": lambda o, s: (proposal(o.at_s - 10.0), s),
    "it is of the future": lambda o, s: (proposal(o.at_s + 10.0), s),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_a_controller_ends_the_tick_and_the_fallback_decides(plant, fault):
    street, events = street_of(plant, Acts(FAULTS[fault]), cycle_s=2.0)
    for _ in range(5):
        street.tick()
        junction_states(street)
    assert plant.applied == [[*A_SECOND, *B_SECOND]] * 5
    assert street.gate.source is ControlSource.FALLBACK
    assert kinds(events).count("engine.controller_failed") == 1, "once, with the reason"
    (failed,) = (e for e in events if e.kind == "engine.controller_failed")
    assert failed.data["controller"] == "acts"
    assert failed.data["error"]
    cycles = [e.data["ok"] for e in events if e.kind == "engine.cycle"]
    assert cycles == [False, False]


def scribbles(observation, state):
    """Writes over all that it is given, with places that there are not."""
    v = observation.vehicles
    for column in (v.lane, v.link, observation.count, observation.arrived):
        column[:] = 1_000_000
    for column in (v.distance_m, observation.room_m, observation.completeness):
        column[:] = np.nan
    observation.shown[:] = GREEN
    object.__setattr__(observation, "vehicles", None)
    return proposal(observation.at_s), state


class Scribbler(Acts):
    def start(self, observation):
        return scribbles(observation, "state")[1]


def test_what_a_controller_writes_into_its_observation_reaches_nobody_else(plant):
    """Neither the lamps' monitor, which would see green everywhere, nor the gate nor the board."""
    plant.vehicles = vehicles((0, 30.0, 0.0, 5.0), (4, 20.0, 0.0, 3.0))
    plant.arrived = np.array([1, 0, 0, 0, 1, 0, 0], np.int32)
    street, events = street_of(plant, Scribbler(scribbles), cycle_s=2.0)
    assert street.observation.vehicles.link.tolist() == [0, 4]
    for _ in range(5):
        street.tick()
    assert plant.applied == [[*A_FIRST, *B_FIRST]] * 5
    assert [e.kind for e in events if e.kind != "engine.cycle"] == []
    assert [j.vehicles for j in junction_states(street)] == [1, 1]
    assert street.observation.vehicles.link.tolist() == [0, 4]


def test_a_controller_is_given_arrays_of_its_own_with_the_same_values(plant):
    plant.vehicles = vehicles((0, 30.0, 0.0, 5.0), (4, 20.0, 0.0, 3.0))
    observed = plant.observe()
    given = own_copy(observed)
    for one, other in ((observed, given), (observed.vehicles, given.vehicles)):
        for field in fields(one):
            before, after = getattr(one, field.name), getattr(other, field.name)
            if isinstance(before, np.ndarray):
                assert not np.shares_memory(before, after), field.name
                assert (before.dtype, before.tolist()) == (after.dtype, after.tolist())
            elif field.name != "vehicles":
                assert before == after, field.name


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_the_fallback_ends_the_tick_and_the_programmes_decide(plant, fault):
    """Nobody is left: each junction shows its own programme, by the clock."""
    street, events = street_of(plant, Acts(FAULTS["raises"]), Acts(FAULTS[fault]), cycle_s=2.0)
    for _ in range(25):
        street.tick()
    assert street.gate.source is ControlSource.FIXED_TIME
    assert plant.applied[0] == BY_PROGRAMME
    assert plant.applied[22] == [*A_FIRST, *B_FIRST], "the other stage, since 120 s"
    failed = [e for e in events if e.kind == "engine.fallback_failed"]
    assert [e.data["fallback"] for e in failed] == ["acts"], "once"


@pytest.mark.parametrize("fault", FAULTS)
def test_without_a_fallback_a_junction_of_low_confidence_shows_its_programme(plant, fault):
    says = Says(wanted=(*A_FIRST, *B_FIRST), confidence=(1.0, 0.1))
    street, events = street_of(plant, says, Acts(FAULTS[fault]))
    for _ in range(3):
        street.tick()
    assert plant.applied == [[*A_FIRST, *B_SECOND]] * 3
    assert street.gate.source is ControlSource.CONTROLLER
    (left,) = (e for e in events if e.kind == "engine.fallback")
    assert (left.junction, left.data["fallback"]) == ("B", "fixed_time"), "who decides there"


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_the_relief_ends_the_tick_and_the_controller_decides(plant, fault):
    street, events = street_of(plant, Says(), relief=Acts(FAULTS[fault], "helper"))
    street.congestion.approaches["congested"] = True
    for _ in range(3):
        street.tick()
    assert plant.applied == [[*A_FIRST, *B_FIRST]] * 3
    assert street.gate.source is ControlSource.CONTROLLER
    failed = [e for e in events if e.kind == "engine.relief_failed"]
    assert [e.data["relief"] for e in failed] == ["helper"]


def test_the_whole_chain_is_walked_down_and_back_up(plant):
    says, second = Says(), Says("second", (*A_SECOND, *B_SECOND))
    street, events = street_of(plant, says, second)
    street.tick()
    says.fault = RuntimeError("broken")
    street.tick()
    assert street.gate.source is ControlSource.FALLBACK
    second.fault = RuntimeError("broken as well")
    street.tick()
    assert street.gate.source is ControlSource.FIXED_TIME
    obeys, plant.apply = plant.apply, lambda command: None
    plant.shown = np.full(5, RED, np.int8)
    for _ in range(4):
        street.tick()
    assert street.gate.source is ControlSource.ALL_RED, "the signals do not show what they are to"
    assert street.gate.shown.tolist() == [RED] * 5

    plant.apply, says.fault, second.fault = obeys, None, None
    for _ in range(8):
        street.tick()
    assert street.gate.source is ControlSource.ALL_RED, "until somebody resets it"
    for junction in (0, 1):
        street.gate.reset(junction, "op", plant.time_s)
    for _ in range(8):
        street.tick()
    assert street.gate.source is ControlSource.CONTROLLER
    sources = [(e.data["from"], e.data["to"]) for e in events if e.kind == "safety.source"]
    assert sources[:3] == [
        ("controller", "fallback"),
        ("fallback", "fixed_time"),
        ("fixed_time", "all_red"),
    ]
    assert sources[-1][1] == "controller"
    assert {"engine.controller_recovered"} <= set(kinds(events))


def test_a_controller_that_cannot_start_is_tried_again(plant):
    class Late(Says):
        def start(self, observation):
            if observation.at_s < 103.0:
                raise RuntimeError("not yet")
            return super().start(observation)

    street, events = street_of(plant, Late())
    for _ in range(4):
        street.tick()
    assert kinds(events)[:2] == ["engine.controller_failed", "safety.source"]
    assert plant.applied[:2] == [[*A_SECOND, *B_SECOND]] * 2
    assert street.loop_state.controller == "says 2", "two steps: at 103 and 104 s"


# --- time ---------------------------------------------------------------------------------------


class Wall:
    """Wall time that goes on where a step takes some."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def takes(self, controller, seconds):
        step = controller.step

        def slow(observation, state):
            self.now += seconds()
            return step(observation, state)

        controller.step = slow
        return controller


def watched(street, wall):
    for guard in street.guards.values():
        guard._stopwatch = wall
    return street


def test_a_step_that_takes_too_long_is_not_used_and_its_source_rests_for_a_minute(plant):
    wall, took_s = Wall(), [1.5]
    says = wall.takes(Says(), lambda: took_s[0])
    street, events = street_of(plant, says, step_within_s=1.0)
    watched(street, wall)
    street.tick()
    assert plant.applied == [[*A_SECOND, *B_SECOND]], "late: the fallback has decided"
    (slow,) = (e for e in events if e.kind == "engine.controller_slow")
    assert (slow.at_s, dict(slow.data)) == (
        101.0,
        {"controller": "says", "took_s": 1.5, "limit_s": 1.0, "again_s": 161.0},
    )
    took_s[0] = 1.0  # as long as it may
    for _ in range(59):
        street.tick()
    assert len(says.observations) == 1, "not asked for a minute"
    assert street.gate.source is ControlSource.FALLBACK
    for _ in range(6):
        street.tick()
    assert (len(says.observations), street.gate.source) == (7, ControlSource.CONTROLLER)
    assert "engine.controller_recovered" in kinds(events)


def test_a_fallback_that_takes_too_long_leaves_the_programmes(plant):
    wall = Wall()
    second = wall.takes(Says("second", (*A_FIRST, *B_FIRST)), lambda: 2.0)
    street, events = street_of(plant, Acts(FAULTS["raises"]), second)
    watched(street, wall)
    for _ in range(3):
        street.tick()
    assert street.gate.source is ControlSource.FIXED_TIME
    assert plant.applied == [BY_PROGRAMME] * 3
    assert kinds(events).count("engine.fallback_slow") == 1


def test_a_source_that_was_put_down_is_not_asked_until_it_is_replaced(plant):
    says, other = Says(), Says("other", (*A_SECOND, *B_FIRST))
    street, events = street_of(plant, says)
    street.guards[CONTROLLER].put_down(says, 101.0, "its step did not end")
    for _ in range(3):
        street.tick()
    assert says.observations == []
    assert street.gate.source is ControlSource.FALLBACK
    (hung,) = (e for e in events if e.kind == "engine.controller_hung")
    assert dict(hung.data) == {"controller": "says", "why": "its step did not end"}
    street.set_controller(other)
    for _ in range(6):
        street.tick()
    assert street.gate.source is ControlSource.CONTROLLER


def test_who_is_being_asked_is_marked_for_as_long_as_the_step_lasts(plant):
    seen = []

    def look(observation, state):
        seen.append(street.guards[CONTROLLER].mark[0])
        raise RuntimeError("broken")

    street, _ = street_of(plant, Acts(look), Acts(look), relief=Acts(look))
    street.congestion.approaches["congested"] = True
    street.tick()
    street.set_controller(Says())
    street.tick()
    assert seen == [1, 2, 3, 2], (
        "controller and fallback; then the relief of a controller that works"
    )
    assert {guard.mark[0] for guard in street.guards.values()} == {0}
    assert list(street.guards) == list(ROLES)


def test_a_right_proposal_has_no_fault():
    assert fault_of(proposal(1.0), groups=5, junctions=2) == ""
    whole = proposal(1, wanted=np.ones(5, np.int64), confidence=np.ones(2, np.int8))
    assert fault_of(whole, groups=5, junctions=2) == ""
    assert fault_of(proposal(np.float32(1.0), why={"x": np.zeros(2)}), groups=5, junctions=2) == ""


class Nameless:
    """Without a name from the start, or as soon as it is asked."""

    def start(self, observation):
        return None

    def step(self, observation, state):
        raise RuntimeError("no more")


class Renamed(Nameless):
    @property
    def name(self):
        raise RuntimeError("nor a name")


class Numbered(Nameless):
    name = 7


@pytest.mark.parametrize("kind", [Nameless, Renamed, Numbered])
def test_a_controller_without_a_name_is_called_after_its_class_and_ends_no_tick(plant, kind):
    street, events = street_of(plant, kind(), kind(), relief=kind())
    for _ in range(40):
        street.tick()
    assert street.gate.source is ControlSource.FIXED_TIME
    failed = [e.data for e in events if e.kind in ("engine.controller_failed",)]
    assert [data["controller"] for data in failed] == [kind.__name__]
    who = street.state()["controllers"]
    assert {who[role] for role in (CONTROLLER, FALLBACK, RELIEF)} == {kind.__name__}
