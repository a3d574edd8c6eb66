"""Values are checked before compiled code, which checks nothing, reads them."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest

from headway.roads import BENCHMARK, work_out
from headway.safety import Order, Override, SafetyGate
from headway.safety.door import field_of
from headway.values import EmergencyVehicle
from tests.safety.builders import NETWORK, STAGES, R, look, propose

GROUPS = len(NETWORK.groups)


def gate_with_a_call():
    """A gate that shows the first stage, and an observation with a vehicle for each link."""
    gate = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0)
    for second in range(10):
        gate.admit(propose(NETWORK, float(second), STAGES[0]), float(second))
    return gate, look(NETWORK, gate, 10.0, (0, 1))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"completeness": np.zeros(0)}, "completeness: float64 (0,); give (1,) of kind fiu"),
        ({"completeness": np.array(["x"])}, "completeness: <U1 (1,); give (1,) of kind fiu"),
        ({"completeness": [1.0]}, "completeness: list; give (1,) of kind fiu"),
        (
            {"waiting_persons": np.zeros(0, np.int32)},
            "waiting_persons: int32 (0,); give (4,) of kind iu",
        ),
        ({"waiting_persons": np.zeros(4)}, "waiting_persons: float64 (4,); give (4,) of kind iu"),
        ({"vehicles": None}, "vehicles: NoneType is no Vehicles"),
        ({"emergencies": ["x"]}, "emergencies: list is no tuple"),
        (
            {"emergencies": (EmergencyVehicle("x", "fast", ()),)},
            "emergencies: EmergencyVehicle(id='x', speed_mps='fast', ahead=()) has no name, speed "
            "or way",
        ),
        (
            {"emergencies": (EmergencyVehicle("x", 10**400, ()),)},
            "emergencies: EmergencyVehicle(id='x', "
            "speed_mps=100000000000000000000000000000000000000000000 has no name, speed or way",
        ),
        (
            {"emergencies": (EmergencyVehicle("x", 9.0, (5,)),)},
            "emergencies: EmergencyVehicle(id='x', speed_mps=9.0, ahead=(5,)) has no name, speed "
            "or way",
        ),
        (
            {"emergencies": (EmergencyVehicle("x", 9.0, ((0, -(10**400)),)),)},
            "emergencies: EmergencyVehicle(id='x', speed_mps=9.0, "
            "ahead=((0, -1000000000000000000000000000 has no name, speed or way",
        ),
        (
            {"emergencies": (EmergencyVehicle("x", 9.0, ((0, 5.0, 1),)),)},
            "emergencies: EmergencyVehicle(id='x', speed_mps=9.0, ahead=((0, 5.0, 1),)) has no "
            "name, speed or way",
        ),
        ({"links_known": None}, "links_known: NoneType; give True or False"),
        ({"links_known": np.ones(2, bool)}, "links_known: bool (2,); give True or False"),
        ({"inside_seen": 1}, "inside_seen: int; give True or False"),
        ({"missed_share": 1.0}, "missed_share: 1.0; give a share from 0 up to, but not, 1"),
        ({"missed_share": -0.1}, "missed_share: -0.1; give a share from 0 up to, but not, 1"),
        ({"missed_share": math.nan}, "missed_share: nan; give a share from 0 up to, but not, 1"),
        ({"missed_share": True}, "missed_share: True; give a share from 0 up to, but not, 1"),
        ({"unseen": np.zeros(1)}, "unseen: float64 (1,); give (4,) of kind fiu, or None"),
        ({"unseen": [0.0]}, "unseen: list; give (4,) of kind fiu, or None"),
        ({"recalled": True}, "recalled: True; give a number of vehicles"),
        ({"recalled": -1}, "recalled: -1; give a number of vehicles"),
        ({"at_s": None}, "at_s: None is no time; give seconds"),
        # of a long value its beginning
        ({"at_s": "x" * 99}, f"at_s: '{'x' * 39} is no time; give seconds"),
        ({"recalled": "x" * 99}, f"recalled: '{'x' * 39}; give a number of vehicles"),
        (
            {"missed_share": "x" * 99},
            f"missed_share: '{'x' * 39}; give a share from 0 up to, but not, 1",
        ),
        ({"emergencies": (None,)}, "emergencies: None has no name, speed or way"),
        (
            {"emergencies": (EmergencyVehicle("x", 9.0, 5),)},
            "emergencies: EmergencyVehicle(id='x', speed_mps=9.0, ahead=5) has no name, speed or "
            "way",
        ),
        ({"at_s": float("inf")}, "at_s: inf is no time; give seconds"),
    ],
)
def test_an_observation_that_is_not_whole_counts_as_none_and_is_recorded_once(changes, fault):
    gate, seen = gate_with_a_call()
    found = []
    for second in range(10, 13):
        now_s = float(second)
        wrong = replace(seen, **({"at_s": now_s, "shown": gate.shown} | changes))
        command = gate.admit(propose(NETWORK, now_s, STAGES[0]), now_s, wrong)
        found += [e for e in command.interventions if e.kind == "safety.observation"]
    assert [e.data for e in found] == [{"fault": fault}]
    last_s = gate.state()["_call_last"].tolist()
    assert last_s == [12.0] * GROUPS, "as without an observation: there may be traffic everywhere"


@pytest.mark.parametrize(
    "name", ["shown_for_s", "room_m", "count", "arrived", "waiting_persons", "completeness"]
)
def test_columns_of_an_observation_are_of_one_length_and_of_their_type(name):
    gate, seen = gate_with_a_call()
    right = getattr(seen, name)
    for column in (right[1:], right[:, None], right.astype(str), right.tolist()):
        command = gate.admit(None, 10.0, replace(seen, **{name: column}))
        seen_as = [e.data["fault"] for e in command.interventions if "observation" in e.kind]
        assert [fault.partition(":")[0] for fault in seen_as] == [name]
        gate, _ = gate_with_a_call()


@pytest.mark.parametrize(
    "name", ["lane", "link", "distance_m", "speed_mps", "waiting_s", "length_m", "emergency"]
)
def test_columns_of_vehicles_are_of_one_length_and_of_their_type(name):
    for column in (np.zeros(3, bool if name == "emergency" else np.int32), np.array(["a", "b"])):
        gate, seen = gate_with_a_call()
        wrong = replace(seen, vehicles=replace(seen.vehicles, **{name: column}))
        command = gate.admit(propose(NETWORK, 10.0, STAGES[0]), 10.0, wrong)
        [event] = [e for e in command.interventions if e.kind == "safety.observation"]
        assert event.data["fault"].startswith("vehicles.")


def test_columns_of_vehicles_have_one_dimension():
    gate, seen = gate_with_a_call()
    columns = {f.name: getattr(seen.vehicles, f.name)[:, None] for f in fields(seen.vehicles)}
    command = gate.admit(None, 10.0, replace(seen, vehicles=replace(seen.vehicles, **columns)))
    [event] = [e for e in command.interventions if e.kind == "safety.observation"]
    assert event.data["fault"] == "vehicles.lane: int32 (2, 1); give one value a vehicle"


def test_whole_numbers_are_as_good_as_others_in_a_claim():
    gate, seen = gate_with_a_call()
    claim = EmergencyVehicle("e", 14, ((1, 100),))
    command = gate.admit(None, 10.0, replace(seen, emergencies=(claim,)))
    kinds = [event.kind for event in command.interventions]
    assert "safety.emergency" in kinds
    assert "safety.observation" not in kinds


@pytest.mark.parametrize(
    ("fault", "field"),
    [("", ""), ("str is no Observation", "observation"), ("at_s: 'x: y' is no time", "at_s")],
)
def test_the_field_of_a_fault_is_what_stands_before_the_colon(fault, field):
    assert field_of(fault) == field


def test_no_observation_at_all_is_a_fault_too():
    gate, _ = gate_with_a_call()
    command = gate.admit(None, 10.0, "an observation")
    assert command.interventions[0].data == {"fault": "str is no Observation"}


def test_between_two_ticks_an_observation_is_checked_too():
    gate, seen = gate_with_a_call()
    claim = (EmergencyVehicle("e", 14.0, ((1, 100.0),)),)
    for changes in ({"completeness": None}, {"at_s": 5.0}, {"at_s": float("nan")}):
        gate.begin_services(replace(seen, **({"emergencies": claim, "at_s": 9.0} | changes)))
        kinds = [event.kind for event in gate.take_events()]
        assert "safety.emergency" not in kinds
    gate.begin_services(replace(seen, emergencies=claim, at_s=9.0))
    assert [event.kind for event in gate.take_events()] == ["safety.emergency"]


@pytest.mark.parametrize("nothing", ["green", 5, STAGES[0]])
def test_what_is_no_proposal_is_none(nothing):
    gate, seen = gate_with_a_call()
    command = gate.admit(nothing, 10.0, seen, fallback=nothing)
    assert [e.data["to"] for e in command.interventions if e.kind == "safety.source"] == [
        "fixed_time"
    ]


@pytest.mark.parametrize(
    "wanted",
    [
        np.full(GROUPS, 260),
        np.full(GROUPS, 2**40 + 4),
        np.full(GROUPS, 2**63, np.uint64),
        np.full(GROUPS, -128, np.int8),
        np.full(GROUPS, 5, np.int8),
        np.full(GROUPS, 260, ">i4"),
    ],
)
def test_what_is_no_colour_counts_as_red_whatever_its_width(wanted):
    gate = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0)
    before = wanted.copy()
    for second in range(20):
        command = gate.admit(propose(NETWORK, float(second), wanted), float(second))
        assert command.colours.tolist() == [R] * GROUPS
    assert (wanted == before).all(), "and the proposal is not written to"


def test_a_number_of_persons_that_needs_more_bits_is_not_cut_to_none():
    gate, seen = gate_with_a_call()
    many = np.zeros(GROUPS, np.int64)
    many[2] = 2**32
    seen = replace(seen, vehicles=look(NETWORK, gate, 10.0).vehicles, waiting_persons=many)
    gate.admit(propose(NETWORK, 10.0, STAGES[0]), 10.0, seen)
    assert (gate.state()["_call_last"] == 10.0).tolist() == [False, False, True, False]


@pytest.mark.parametrize("junction", [0.5, None, "0", True, float("nan"), 10**30, -1])
def test_an_order_for_what_is_no_junction_is_refused_as_such(junction):
    gate, _ = gate_with_a_call()
    with pytest.raises(ValueError, match=r"whole number|no junction"):
        gate.order(Override(junction, Order.HOLD, 99.0, "op"), 10.0)
    with pytest.raises(ValueError, match="no junction"):
        gate.reset(junction, "op", 10.0)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stage": 0.5}, "an override's stage is a whole number; not 0.5"),
        ({"stage": float("nan")}, "an override's stage is a whole number; not nan"),
        ({"stage": None}, "an override's stage is a whole number; not None"),
        ({"order": "stage"}, "no override: 'stage' until 99.0"),
        ({"until_s": "late"}, "no override: <Order.STAGE: 'stage'> until 'late'"),
        ({"until_s": 10**400}, "an override needs an end: give until_s as a finite time"),
        ({"until_s": float("nan")}, "an override needs an end: give until_s as a finite time"),
    ],
)
def test_an_override_of_wrong_types_is_refused_when_it_is_made(changes, why):
    with pytest.raises(ValueError, match="override") as refused:
        Override(
            **(
                {"junction": 0, "order": Order.STAGE, "until_s": 99.0, "by": "op", "stage": 1}
                | changes
            )
        )
    assert str(refused.value) == why


@pytest.mark.parametrize("stride", [-1, 2])
def test_arrays_that_are_not_in_one_piece_are_read_right(stride):
    gate, seen = gate_with_a_call()
    wanted = np.repeat(STAGES[0], 2)[::2] if stride == 2 else STAGES[0][::-1].copy()[::-1]
    assert not wanted.flags.c_contiguous
    command = gate.admit(propose(NETWORK, 10.0, wanted), 10.0, seen)
    assert command.colours.tolist() == STAGES[0].tolist()
