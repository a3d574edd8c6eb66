"""A gate tried out on the spot: hostile proposals go in, and an audit reads what came out."""

from __future__ import annotations

import numpy as np

from headway.roads import Colour, Network, Timing
from headway.safety.audit import AuditFinding, SignalTimeline, audit
from headway.safety.gate import SafetyGate
from headway.values import Proposal

LETTERS = {
    Colour.FLASHING_YELLOW: "o", Colour.FLASHING_RED: "s", Colour.DARK: "O", Colour.RED: "r",
    Colour.YELLOW: "y", Colour.PERMISSIVE: "g", Colour.GREEN: "G",
}  # fmt: skip
RESTLESS = 0.4  # share of the seconds in which something else is proposed
SILENT = 0.05  # in which nothing is


def trial(network: Network, timing: Timing, seconds: int, seed: int = 1) -> list[AuditFinding]:
    """The rules that a gate broke in so many seconds, under proposals drawn from `seed`, most of
    which ask for greens that conflict. None of a gate that is sound.
    """
    gate = SafetyGate(network, timing, 0.0)
    random = np.random.default_rng(seed)
    groups, junctions = len(network.groups), len(network.junctions)
    wanted = np.full(groups, Colour.GREEN, np.int8)  # of all at once
    lines: dict[str, SignalTimeline] = {tl: [] for j in network.junctions for tl in j.tl_ids}
    for second in range(seconds):
        if random.random() < RESTLESS:
            wanted = random.choice((Colour.RED, Colour.GREEN), groups).astype(np.int8)
        proposal = Proposal(float(second), "trial", wanted, np.ones(junctions))
        is_silent = random.random() < SILENT
        shown = gate.admit(None if is_silent else proposal, float(second)).colours
        for tl, letters in _letters(network, shown.tolist()).items():
            lines[tl].append((float(second), letters))
    return audit(network, timing, lines, grace_s=0.0)


def _letters(network: Network, shown: list[int]) -> dict[str, str]:
    """As SUMO has them: of each programme one for each of its places."""
    found: dict[str, dict[int, str]] = {}
    for group, colour in zip(network.groups, shown, strict=True):
        found.setdefault(group.tl_id, {})[group.index] = LETTERS[Colour(colour)]
    return {
        tl: "".join(own.get(place, "r") for place in range(max(own) + 1))
        for tl, own in found.items()
    }
