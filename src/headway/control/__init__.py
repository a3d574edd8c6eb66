"""Decisions. Each controller is a pure step: observation and own state in, proposal and own state
out.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from headway.values import Observation, Proposal


class Controller(Protocol):
    """One way of deciding. A state is whatever `start` returned or the last `step` gave back; it is
    never changed in place.
    """

    @property
    def name(self) -> str:
        """As the catalogue and the events name it."""

    def start(self, observation: Observation) -> Any:
        """The state before the first step."""

    def step(self, observation: Observation, state: Any) -> tuple[Proposal, Any]:
        """Decide on what is observed."""


@runtime_checkable
class Predicts(Protocol):
    """A controller that tells what its plan costs."""

    def predicted_delay_s(self, observation: Observation, state: object, junction: int) -> float:
        """Vehicle seconds up to its horizon, of what it aims at."""
