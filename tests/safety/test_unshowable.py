"""What the gate says of values that cannot be written down, and how much of them it looks at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headway.roads import BENCHMARK, work_out
from headway.safety import ObservationCheck, Order, Override, SafetyGate
from headway.safety.arrivals import Arrivals
from headway.safety.memory import GateMemory
from headway.values import EmergencyVehicle
from tests.safety.builders import NETWORK, STAGES, Street, look, propose

ENDLESS = 10**5000  # Python refuses to write integers of more than 4300 digits


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [ENDLESS, -ENDLESS, Unshowable(), "x" * 10**6],
    ids=["endless", "below", "unshowable", "long"],
)
def test_a_reading_or_stamp_that_cannot_be_shown_is_a_fault_like_any_other(value):
    street = Street().play(STAGES[0], 12)
    seen = look(NETWORK, street.gate, street.now)
    claim = EmergencyVehicle("amb", value, ())
    for bad in (replace(seen, at_s=value), replace(seen, emergencies=(claim,))):
        before = len(street.events)
        command = street.gate.admit(propose(NETWORK, street.now, STAGES[0]), value, bad)
        street.events += command.interventions
        assert command.colours.tolist() == STAGES[0].tolist(), "the tick is decided all the same"
        for event in street.events[before:]:
            assert len(str(event.data)) < 250
        street.play(STAGES[0], 20)
    faults = [e.data["fault"].partition(":")[0] for e in street.of("observation")]
    assert faults == ["at_s", "emergencies"]
    assert street.of("clock")[0].data["fault"] == "not a number"


def test_lamps_that_cannot_be_shown_latch_their_junction():
    street = Street().play(STAGES[0], 12)
    for _ in range(3):
        street.gate.look(np.array([ENDLESS] * 4, object))
        street.play(STAGES[0], 1)
    (latched,) = street.of("lamps")
    assert latched.data["read"] == ["int that cannot be shown"] * 4


def test_orders_of_numbers_that_cannot_be_shown_are_refused_with_what_there_is():
    gate = SafetyGate(NETWORK, work_out(NETWORK, BENCHMARK), 0.0)
    with pytest.raises(ValueError, match="there are 1"):
        gate.order(Override(ENDLESS, Order.HOLD, 60.0, "ann"), 0.0)
    with pytest.raises(ValueError, match="has 3 stages"):
        gate.order(Override(0, Order.STAGE, 60.0, "ann", stage=ENDLESS), 0.0)
    with pytest.raises(ValueError, match="there are 1"):
        gate.reset(ENDLESS, "ann", 0.0)
    with pytest.raises(ValueError, match="whole number"):
        Override(Unshowable(), Order.HOLD, 60.0, "ann")
    with pytest.raises(ValueError, match="give seconds"):
        gate.tick_s = -ENDLESS


def test_the_places_looked_at_on_one_way_are_bounded():
    """100,000 places of one vehicle cost 0.3 s a tick."""
    timing = work_out(NETWORK, BENCHMARK)
    tables = GateMemory(NETWORK, timing, 0.0).tables
    arrivals = Arrivals(NETWORK, tables.limits, tables.conflicts)

    class Way(tuple):
        looked_at = 0

        def __iter__(self):
            for place in tuple.__iter__(self):
                Way.looked_at += 1
                yield place

        def __getitem__(self, where):
            return Way(tuple.__getitem__(self, where))

    way = Way((k % 4, 40.0 + k) for k in range(100_000))
    Way.looked_at = 0
    (stop,) = arrivals.stops(EmergencyVehicle("amb", 10.0, way))
    assert (stop.junction, stop.distance_m) == (0, 40.0)
    seen = look(NETWORK, SafetyGate(NETWORK, timing, 0.0), 0.0)
    claimed = replace(seen, emergencies=(EmergencyVehicle("amb", 10.0, way),))
    assert ObservationCheck(NETWORK).fault(claimed) == ""
    assert Way.looked_at <= 2 * 32
