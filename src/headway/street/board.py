"""The live state of all junctions, written by streets and read by whoever looks, from any
thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class JunctionState:
    """One junction at one moment. vehicles: within range; halted: of these, standing;
    longest_wait_s: of these; green: groups lit.

    confidence: of the decision in force, 0..1; at_s: seconds of the street's own clock.
    """

    junction: str
    at_s: float
    vehicles: int
    halted: int
    longest_wait_s: float
    green: tuple[int, ...]
    confidence: float


class Board:
    """Keeps the newest state of each junction. What comes late is refused, not written over what is
    newer; a reader sees whole rows.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, JunctionState] = {}
        self.late = 0

    def put(self, states: Iterable[JunctionState]) -> int:
        """Take in new states, all under one lock; returns how many were newer than what was
        known.
        """
        taken = 0
        with self._lock:
            for state in states:
                known = self._states.get(state.junction)
                if known is None or state.at_s >= known.at_s:
                    self._states[state.junction] = state
                    taken += 1
                else:
                    self.late += 1
        return taken

    def get(self, junction: str) -> JunctionState | None:
        """The newest state of one junction, or None if it was never heard of."""
        return self._states.get(junction)

    def all(self) -> Mapping[str, JunctionState]:
        """The states of all junctions at one moment between two updates; it does not change
        afterwards.
        """
        with self._lock:
            return MappingProxyType(dict(self._states))

    def forget(self) -> None:
        """Start anew: another scenario, whose clock may begin earlier."""
        with self._lock:
            self._states.clear()
