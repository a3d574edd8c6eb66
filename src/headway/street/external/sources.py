"""How far each source from outside is trusted: by what it sent, against what others see and the
signals show.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headway.street.external.views import LaneView

WINDOW = 60.0  # seconds or messages: a source that starts to lie is not used any more after some 20
PRIOR = 10.0  # good evidence that a new source is credited with
USED_FROM = 0.3  # least weight of what is used at all
MOST_LATENCIES = 1000  # of the newest messages
# of a source: what its messages say of it, and plain figures; by name
OWN_TRUST = ("validity", "rate", "claims")
COUNTED = ("is_listed", "taken", "refused", "cut", "at_s", "seen_wall", "condition")


class Trust:
    """Share of good evidence among the newest: evidence counts less by e when WINDOW more has come.

    Silence is no evidence, so that a source which lied and stopped is not trusted again for it.
    """

    def __init__(self) -> None:
        self._good = PRIOR
        self._bad = 0.0

    def add(self, good: float, bad: float) -> None:
        """Evidence: of seconds, or the shares of one message."""
        kept = math.exp(-(good + bad) / WINDOW)
        self._good = self._good * kept + good
        self._bad = self._bad * kept + bad

    def state(self) -> list[float]:
        """The evidence, for a checkpoint."""
        return [self._good, self._bad]

    @classmethod
    def of_state(cls, state: list[float]) -> Trust:
        """Of what `state` returned. Raises ValueError for what cannot be evidence."""
        good, bad = state
        if not (0.0 <= good < math.inf and 0.0 <= bad < math.inf and good + bad > 0.0):
            raise ValueError(f"{state} is no evidence of a source")
        found = cls()
        found._good, found._bad = good, bad
        return found

    @property
    def share(self) -> float:
        """0..1."""
        return self._good / (self._good + self._bad)


@dataclass
class ApproachTrust:
    """Of one source at one approach.

    agreement:  share of the time in which its number of vehicles agreed with the reference.
    steadiness: share of the time in which it was no stuck detector.
    """

    agreement: Trust = field(default_factory=Trust)
    steadiness: Trust = field(default_factory=Trust)
    stood_green_s: float = 0.0
    stood_veh: int = -1

    @property
    def weight(self) -> float:
        return self.agreement.share * self.steadiness.share

    def memory(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "agreement": self.agreement.state(),
            "steadiness": self.steadiness.state(),
            "stood_green_s": self.stood_green_s,
            "stood_veh": self.stood_veh,
        }

    @classmethod
    def of_memory(cls, memory: dict[str, Any]) -> ApproachTrust:
        """Of what `memory` returned. Raises ValueError or KeyError."""
        return cls(
            agreement=Trust.of_state(memory["agreement"]),
            steadiness=Trust.of_state(memory["steadiness"]),
            stood_green_s=float(memory["stood_green_s"]),
            stood_veh=int(memory["stood_veh"]),
        )


@dataclass
class Source:
    """One source from outside.

    declared: the weight that the settings give it; is_listed: they know it.
    views:    by lane; approaches: by road.
    taken, refused, cut: rows so far: taken, refused for a fault, cut for their rate.
    latencies_ms: from arrival of a message until it was taken; decided_ms: until the next decision,
        for which those that arrived at `undecided_ns` wait.
    at_s, seen_wall: when its newest row was measured (street's seconds), and arrived (since 1970).
    """

    name: str
    holder: str
    declared: float = 1.0
    is_listed: bool = False
    views: dict[int, LaneView] = field(default_factory=dict)
    approaches: dict[str, ApproachTrust] = field(default_factory=dict)
    validity: Trust = field(default_factory=Trust)
    rate: Trust = field(default_factory=Trust)
    claims: Trust = field(default_factory=Trust)
    taken: int = 0
    refused: int = 0
    cut: int = 0
    at_s: float = -math.inf
    seen_wall: float = 0.0
    condition: str = "new"
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_LATENCIES))
    decided_ms: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_LATENCIES))
    undecided_ns: deque[int] = field(default_factory=lambda: deque(maxlen=MOST_LATENCIES))

    @property
    def own_weight(self) -> float:
        """Of all that it says, whatever the approach."""
        return self.declared * self.validity.share * self.rate.share * self.claims.share

    def approach(self, road: str) -> ApproachTrust:
        return self.approaches.setdefault(road, ApproachTrust())

    @property
    def agreement(self) -> float:
        """Mean over its approaches."""
        return _mean([a.agreement.share for a in self.approaches.values()])

    @property
    def steadiness(self) -> float:
        return _mean([a.steadiness.share for a in self.approaches.values()])

    @property
    def weight(self) -> float:
        """Of all that it says, over its approaches."""
        return self.own_weight * _mean([a.weight for a in self.approaches.values()])

    def memory(self) -> dict[str, Any]:
        """For a checkpoint: how far it is trusted, and what it was counted for. What it saw is not
        kept: it reports anew within seconds.
        """
        return {
            "name": self.name,
            "holder": self.holder,
            "declared": self.declared,
            "approaches": {road: trust.memory() for road, trust in self.approaches.items()},
            **{name: getattr(self, name).state() for name in OWN_TRUST},
            **{name: getattr(self, name) for name in COUNTED},
        }

    @classmethod
    def of_memory(cls, memory: dict[str, Any]) -> Source:
        """Of what `memory` returned. Raises ValueError, KeyError or TypeError."""
        approaches = memory["approaches"].items()
        others: dict[str, Any] = {name: Trust.of_state(memory[name]) for name in OWN_TRUST}
        others |= {name: memory[name] for name in COUNTED}
        return cls(
            name=memory["name"],
            holder=memory["holder"],
            declared=memory["declared"],
            approaches={road: ApproachTrust.of_memory(own) for road, own in approaches},
            **others,
        )

    def state(self, freshness: float) -> dict[str, Any]:
        """Plain figures, as the API shows them. freshness: of its newest row, 0..1."""
        factors = {
            "declared": self.declared,
            "freshness": freshness,
            "agreement": self.agreement,
            "steadiness": self.steadiness,
            "validity": self.validity.share,
            "rate": self.rate.share,
            "claims": self.claims.share,
        }
        latencies, decided = np.array(self.latencies_ms), np.array(self.decided_ms)
        return {
            "source": self.name,
            "holder": self.holder,
            "condition": self.condition,
            "weight": round(self.weight * freshness, 3),
            "factors": {name: round(value, 3) for name, value in factors.items()},
            "taken": self.taken,
            "refused": self.refused,
            "cut": self.cut,
            "lanes": len(self.views),
            "at_s": self.at_s if math.isfinite(self.at_s) else None,
            "last_seen": self.seen_wall or None,
            "latency_p50_ms": _percentile(latencies, 50.0),
            "latency_p99_ms": _percentile(latencies, 99.0),
            "decision_p50_ms": _percentile(decided, 50.0),
            "decision_p99_ms": _percentile(decided, 99.0),
        }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 1.0


def _percentile(values: np.ndarray[Any, np.dtype[np.float64]], q: float) -> float | None:
    return round(float(np.percentile(values, q)), 3) if len(values) else None
