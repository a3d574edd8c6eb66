"""The gate as a state machine: valid, invalid and missing proposals,
orders and emergencies in any order, on random networks.
"""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headway.roads import BENCHMARK, STREET, Colour, work_out
from headway.safety import Order, Override, SafetyGate
from headway.values import EmergencyVehicle
from tests.safety.builders import look, propose, stage
from tests.safety.networks import networks
from tests.safety.rules import broken_rules, kept_waiting, late_starts, services


class Gate(RuleBasedStateMachine):
    @initialize(network=networks(), profile=st.sampled_from([BENCHMARK, STREET]))
    def begin(self, network, profile):
        self.network, self.timing = network, work_out(network, profile)
        self.gate, self.now = SafetyGate(network, self.timing, 0.0), 0.0
        self.gate.tick_s = 1.0
        self.wanted, self.links, self.fleet = stage(network, 0), (), ()
        self.history, self.calls, self.events, self.said = [], [], [], []

    def tick(self, proposal, observed=True, seconds=1):
        """Some seconds with the same input; the proposal is told the time by a call."""
        for _ in range(seconds):
            before = self.gate.shown.copy()
            look_now = (
                look(self.network, self.gate, self.now, self.links, self.fleet)
                if observed
                else None
            )
            command = self.gate.admit(proposal(self.now), self.now, look_now)
            assert before.shape == command.colours.shape
            self.history.append((self.now, command.colours.tolist()))
            called = (
                {self.network.links[i].group for i in self.links}
                if observed
                else set(range(len(self.network.groups)))
            )
            self.calls.append(
                (called, bool(self.gate.state()["overrides"]) or bool(self.fleet) or not observed)
            )
            self.events += command.interventions
            self.said.append(command.interventions)
            self.now += 1.0

    @rule(which=st.integers(0, 9), seconds=st.integers(1, 40))
    def a_stage(self, which, seconds):
        self.wanted = stage(self.network, which)
        self.tick(lambda now: propose(self.network, now, self.wanted), seconds=seconds)

    @rule(seed=st.integers(0, 2**32 - 1), seconds=st.integers(1, 20))
    def nonsense(self, seed, seconds):
        rng = np.random.default_rng(seed)
        self.tick(
            lambda now: propose(
                self.network, now, rng.integers(-128, 128, len(self.network.groups)).astype(np.int8)
            ),
            seconds=seconds,
        )

    @rule(seconds=st.integers(1, 12))
    def everything_green(self, seconds):
        self.tick(
            lambda now: propose(
                self.network, now, np.full(len(self.network.groups), Colour.GREEN, np.int8)
            ),
            seconds=seconds,
        )

    @rule(seconds=st.integers(1, 30), blind=st.booleans())
    def silence(self, seconds, blind):
        self.tick(lambda now: None, observed=not blind, seconds=seconds)

    @rule(age=st.sampled_from([2.0, 2.5, 30.0, -5.0, float("nan"), float("inf")]))
    def an_old_proposal(self, age):
        self.tick(lambda now: propose(self.network, now - age, self.wanted), seconds=3)

    @rule(shape=st.sampled_from([0, 1, 400]), kind=st.sampled_from(["int8", "float64", "bool"]))
    def a_proposal_of_another_form(self, shape, kind):
        self.tick(
            lambda now: propose(
                self.network, now, np.ones(shape or len(self.network.groups), kind)
            ),
            seconds=2,
        )

    @rule(data=st.data())
    def traffic(self, data):
        self.links = tuple(
            data.draw(st.lists(st.integers(0, len(self.network.links) - 1), max_size=6))
        )

    @rule(data=st.data(), order=st.sampled_from(list(Order)), seconds=st.integers(1, 60))
    def an_order(self, data, order, seconds):
        junction = data.draw(st.integers(0, len(self.network.junctions) - 1))
        which = data.draw(st.integers(0, len(self.network.junctions[junction].stages) - 1))
        self.gate.order(Override(junction, order, self.now + seconds, "operator", which), self.now)

    @rule(data=st.data())
    def a_release(self, data):
        self.gate.release(
            data.draw(st.integers(0, len(self.network.junctions) - 1)), "operator", self.now
        )

    @rule(
        data=st.data(),
        speed=st.sampled_from([0.0, 14.0, float("nan")]),
        metres=st.sampled_from([5.0, 200.0, float("inf")]),
    )
    def an_emergency(self, data, speed, metres):
        group = data.draw(st.integers(-1, len(self.network.groups)))
        self.fleet = (
            *self.fleet[:2],
            EmergencyVehicle(f"e{len(self.fleet)}", speed, ((group, metres),)),
        )

    @precondition(lambda self: self.fleet)
    @rule()
    def the_emergency_passes(self):
        self.fleet = ()

    @rule(back=st.sampled_from([1.0, 50.0, float("nan")]))
    def the_clock_jumps(self, back):
        clock_s = self.gate.state()["now"]
        command = self.gate.admit(
            propose(self.network, self.now, self.wanted), self.now - 1.0 - back, None
        )
        moved_s = self.gate.state()["now"] - clock_s
        assert moved_s in (0.0, 1.0), "the gate counts the tick, or waits for a clock that stands"
        self.history.append((self.now, command.colours.tolist()))
        self.calls.append((set(), True))
        self.said.append(command.interventions)
        self.now += 1.0

    @rule()
    def another_gate_takes_over(self):
        heir = SafetyGate(self.network, self.timing, self.now)
        heir.resume(self.gate.state())
        assert (heir.shown == self.gate.shown).all()
        self.gate = heir

    @invariant()
    def no_monitor_ever_trips(self):
        assert "safety.monitor" not in {e.kind for e in getattr(self, "events", ())}

    def teardown(self):
        if getattr(self, "history", None):
            assert broken_rules(self.network, self.timing, self.history, services(self.said)) == []
            assert kept_waiting(self.network, self.timing, self.history, self.calls) == []
            late = late_starts(self.network, self.timing, self.history, self.calls)
            assert [x for x in late if not self.is_reported(*x)] == []

    def is_reported(self, g, since_s, until_s):
        """An event says that the cycle of the group was too long."""
        group = self.network.groups[g]
        return any(
            (e.data["tl"], e.data["link"]) == (group.tl_id, group.index)
            for e in self.events
            if e.kind == "safety.cycle_exceeded" and since_s < e.at_s <= until_s
        )


Gate.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
TestGate = Gate.TestCase
