"""The newest state of every junction: written by the thread that listens to a street, read from any
thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class JunctionState:
    """One junction at one moment.

    at_s:       simulated seconds.
    vehicles:   on their way to a signal of the junction.
    stopped:    of these, slower than 0.1 m/s.
    longest_wait_s: of these.
    green:      signal groups of the junction that show green, by their place in it.
    confidence: how far the controller's last proposal is trusted, 0..1; factors: what it is made
        of, by name, 0..1 each.
    mean_wait_s: seconds since each last moved, the mean; 0 where there are no vehicles.
    mean_speed_mps: of these; None where there are none.
    congested:  names of its approaches that are congested.
    arrived:    vehicles first detected for a signal of the junction since the process started.
    """

    junction: str
    at_s: float
    vehicles: int
    stopped: int
    longest_wait_s: float
    green: tuple[int, ...]
    confidence: float
    mean_wait_s: float = 0.0
    mean_speed_mps: float | None = None
    arrived: int = 0
    factors: Mapping[str, float] = field(default_factory=dict)
    congested: tuple[str, ...] = ()


class Board:
    """Holds the newest state of each junction. A state older than the one held is refused and
    counted in `late`; readers get whole states.
    """

    def __init__(self, lock: AbstractContextManager[Any] | None = None) -> None:
        self._lock = lock or threading.Lock()
        self._states: dict[str, JunctionState] = {}
        self.late = 0

    def put(self, states: Iterable[JunctionState]) -> int:
        """Take in new states, all under one lock. Returns how many were accepted."""
        accepted = 0
        with self._lock:
            for state in states:
                known = self._states.get(state.junction)
                if known is None or state.at_s >= known.at_s:
                    self._states[state.junction] = state
                    accepted += 1
                else:
                    self.late += 1
        return accepted

    def get(self, junction: str) -> JunctionState | None:
        """The newest state of one junction; None for an unknown one."""
        return self._states.get(junction)

    def all(self) -> Mapping[str, JunctionState]:
        """The states of all junctions, between two updates; the mapping does not change
        afterwards.
        """
        with self._lock:
            return MappingProxyType(dict(self._states))

    def clear(self) -> None:
        """Forget all states, as the clock of another run may begin earlier."""
        with self._lock:
            self._states.clear()
