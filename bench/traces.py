"""What controllers proposed and the gate let through, second by second, as one digest a run.

For changes that must change nothing: the lines before and after are the same, bit by bit.
"""

from __future__ import annotations

import hashlib
import math
import multiprocessing
from typing import Any

import numpy as np

from headway.plants.sumo import RESCO, SumoSettings, network_of, scenario
from headway.roads import PROFILES, work_out
from headway.safety import Command, SafetyGate
from headway.street.opening import open_street
from headway.values import Proposal

CONTROLLERS = ("planner", "actuated", "webster")


class Listening:
    """A gate that takes what passes through it into a digest."""

    def __init__(self, gate: SafetyGate) -> None:
        self.gate = gate
        self.digest = hashlib.sha256()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.gate, name)

    def admit(self, proposal: Proposal | None, *others: Any) -> Command:
        command = self.gate.admit(proposal, *others)
        if proposal is not None:
            for array in (proposal.wanted, proposal.confidence):
                self.digest.update(np.ascontiguousarray(array).tobytes())
        self.digest.update(command.colours.tobytes())
        self.digest.update(repr([(e.kind, e.junction) for e in command.interventions]).encode())
        return command


def trace(job: tuple[str, str, str]) -> str:
    """The line of one run: scenario, timing, controller, ticks, digest."""
    name, profile, controller = job
    of = scenario(name)
    network = network_of(of)
    timing = work_out(network, PROFILES[profile])
    sumo = SumoSettings(of.sumocfg, 1)
    # whoever is slow is put down for a minute: a busy machine would make another run of it
    street = open_street(network, timing, sumo, controller, lambda _: None, step_within_s=math.inf)
    street.gate = listening = Listening(street.gate)  # type: ignore[assignment]
    ticks = 0
    try:
        while street.plant.time_s < of.end_s:
            street.tick()
            ticks += 1
    finally:
        street.plant.close()
    return f"{name} {profile} {controller} {ticks} {listening.digest.hexdigest()[:16]}"


def traces() -> None:
    """Digests of all RESCO scenarios, seed 1, both timings:
    for comparing two versions by `diff`.
    """
    jobs = [(s, profile, c) for s in RESCO for profile in PROFILES for c in CONTROLLERS]
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=8) as pool:
        for line in pool.imap(trace, jobs):
            print(line, flush=True)
