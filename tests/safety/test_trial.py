"""The trial of a gate: silent about one that is sound, and not about one that breaks a rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headway.roads import Colour
from headway.safety import trial as room
from headway.safety.gate import SafetyGate
from headway.safety.trial import trial
from tests.safety.audited import NETWORK, TIMING


@pytest.mark.parametrize("seed", range(5))
def test_a_sound_gate_breaks_no_rule(seed):
    assert trial(NETWORK, TIMING, 600, seed) == []


def test_the_proposals_are_hostile_and_greens_are_shown(monkeypatch):
    seen = []

    class Watched(SafetyGate):
        def admit(self, proposal, now_s, *more):
            command = super().admit(proposal, now_s, *more)
            seen.append((proposal, command.colours))
            return command

    monkeypatch.setattr(room, "SafetyGate", Watched)
    trial(NETWORK, TIMING, 600)
    wanted = np.array([p.wanted for p, _ in seen if p is not None]) == Colour.GREEN
    shown = np.array([colours for _, colours in seen]) >= Colour.PERMISSIVE
    assert sum(p is None for p, _ in seen) > 5
    assert (wanted[:, 0] & wanted[:, 1]).any(), "two that cross"
    assert shown.any(axis=0).all(), "each group was green"


@pytest.mark.parametrize(
    "limits",
    [
        {"min_green_s": TIMING.min_green_s - 3.0},
        {"yellow_s": np.where(TIMING.yellow_s > 0.0, TIMING.yellow_s - 1.0, 0.0)},
        {"clearance_s": TIMING.clearance_s * 0.0},
    ],
    ids=lambda limits: next(iter(limits)),
)
def test_a_gate_with_shorter_times_is_found(monkeypatch, limits):
    laxer = replace(TIMING, **limits)
    monkeypatch.setattr(
        room, "SafetyGate", lambda network, _timing, now_s: SafetyGate(network, laxer, now_s)
    )
    assert trial(NETWORK, TIMING, 600) != []


def test_a_gate_that_shows_what_is_proposed_is_found(monkeypatch):
    class Open(SafetyGate):
        def admit(self, proposal, now_s, *more):
            command = super().admit(proposal, now_s, *more)
            if proposal is not None:
                object.__setattr__(command, "colours", proposal.wanted)
            return command

    monkeypatch.setattr(room, "SafetyGate", Open)
    assert {found.rule for found in trial(NETWORK, TIMING, 60)} >= {"conflict"}
