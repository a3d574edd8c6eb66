"""A gate over two junctions, second by second."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headway.roads import BENCHMARK, work_out
from headway.safety import Override, SafetyGate
from tests.safety.builders import look, propose
from tests.safety.networks import pair

PAIR = pair()


J, K = PAIR.junctions


FIRST = [*J.stages[0].tolist(), *K.stages[0].tolist()]  # G R G P, G R


SECOND = [*J.stages[1].tolist(), *K.stages[1].tolist()]  # R G G R, R G


class Two:
    """A gate over both junctions, a clock from 1000 s on, and what was shown and told."""

    def __init__(self, network=PAIR, profile=BENCHMARK):
        self.network, self.timing = network, work_out(network, profile)
        self.gate = SafetyGate(network, self.timing, 1000.0)
        self.now = 1000.0
        self.shown = []
        self.events = []

    def play(self, wanted, seconds, links=(), fallback=None, blind=False, **changes):
        for _ in range(seconds):
            observed = (
                None
                if blind
                else replace(look(self.network, self.gate, self.now, links), **changes)
            )
            proposal = (
                None
                if wanted is None
                else propose(self.network, self.now, np.array(wanted, np.int8))
            )
            spare = (
                None
                if fallback is None
                else propose(self.network, self.now, np.array(fallback, np.int8))
            )
            command = self.gate.admit(proposal, self.now, observed, spare)
            self.shown.append(command.colours.tolist())
            self.events += command.interventions
            assert command.at_s == self.now
            self.now += 1.0
        return self

    def order(self, *order, **more):
        self.gate.order(Override(*order, **more), self.now)
        return self

    def reported(self, *kinds):
        """(seconds after the start, kind, junction, data) of the events of these kinds."""
        return [
            (e.at_s - 1000.0, e.kind.removeprefix("safety."), e.junction, dict(e.data))
            for e in self.events
            if e.kind.removeprefix("safety.") in kinds
        ]
