"""A controller that raises, falls silent or talks nonsense:
the street goes on by the fallback, and all of it is recorded.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headway.control.fixed import FixedTime
from headway.plants.sumo import SumoSettings, read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import BENCHMARK, work_out
from headway.safety import ControlSource
from headway.street.opening import open_street


class Faulty(FixedTime):
    """Decides well, but in the seconds 60 to 120 does what `fault` makes of it."""

    fault = staticmethod(lambda proposal: proposal)

    def step(self, observed, state):
        proposal, state = super().step(observed, state)
        return (self.fault(proposal) if 60 <= observed.at_s - 25200 < 120 else proposal), state


def fail(proposal):
    raise RuntimeError("broken")


FAULTS = {
    "raising": fail,
    "not a number": lambda p: replace(p, wanted=np.full(p.wanted.shape, np.nan)),
    "wrong length": lambda p: replace(p, wanted=p.wanted[:-1]),
    "of yesterday": lambda p: replace(p, at_s=p.at_s - 86400),
    "of no time": lambda p: replace(p, at_s=float("nan")),
}


SAID = {
    "raising": "RuntimeError('broken')",
    "not a number": "wanted of its proposal is float64 (20,), not numbers (20,)",
    "wrong length": "wanted of its proposal is int8 (19,), not numbers (20,)",
    "of yesterday": "its proposal is 86400 s old",
    "of no time": "its proposal is nan s old",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fallback_takes_over_within_a_tick_and_the_controller_comes_back(fault):
    of = scenario("cologne1")
    network = read_network(of.net)
    timing = work_out(network, BENCHMARK)
    events = []
    street = open_street(network, timing, SumoSettings(of.sumocfg), "fixed", events.append)
    street.controller = Faulty(network, timing)
    street.controller.fault = FAULTS[fault]
    try:
        for _ in range(180):
            street.tick()
        assert street.gate.source is ControlSource.CONTROLLER
        switches = [
            (e.at_s - 25200, e.data["from"], e.data["to"])
            for e in events
            if e.kind == "safety.source"
        ]
        assert switches == [(60, "controller", "fallback"), (124, "fallback", "controller")], (
            "back when five seconds have been well"
        )
        reported = [
            (e.at_s - 25200, e.kind, e.data.get("error"))
            for e in events
            if e.kind.startswith("engine.controller")
        ]
        assert reported == [
            (60, "engine.controller_failed", SAID[fault]),
            (120, "engine.controller_recovered", None),
        ]
    finally:
        street.plant.close()


def test_a_junction_of_low_confidence_is_left_to_the_fallback_by_itself():
    of = scenario("cologne3")
    network = read_network(of.net)
    timing = work_out(network, BENCHMARK)
    events = []

    class Unsure(FixedTime):
        def step(self, observed, state):
            proposal, state = super().step(observed, state)
            return replace(proposal, confidence=np.array([1.0, 0.1, 1.0])), state

    street = open_street(network, timing, SumoSettings(of.sumocfg), "fixed", events.append)
    street.controller = Unsure(network, timing)
    try:
        for _ in range(60):
            street.tick()
        reported = [
            (e.at_s, e.kind, e.junction, dict(e.data))
            for e in events
            if e.kind.startswith("engine.fallback")
        ]
        assert reported == [
            (
                25200.0,
                "engine.fallback",
                network.junctions[1].id,
                {
                    "confidence": 0.1,
                    "threshold": 0.4,
                    "fallback": "webster",
                    "completeness": 1.0,
                    "freshness": 1.0,
                },
            )
        ]
        assert street.gate.source is ControlSource.CONTROLLER
    finally:
        street.plant.close()
