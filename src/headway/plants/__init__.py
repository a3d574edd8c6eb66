"""What is driven. Every plant speaks the same small protocol, in the spirit of FMI
co-simulation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeVar

Measured = TypeVar("Measured", covariant=True)
OrderT = TypeVar("OrderT", contravariant=True)


class PlantError(RuntimeError):
    """The plant failed or cannot be started; the message says where, and what to do."""


class PlantAwayError(PlantError):
    """Nobody answers where the plant should be; it may be there later."""


class Plant(Protocol[Measured, OrderT]):
    """One thing that can be watched, ordered, advanced in time, saved and set back."""

    @property
    def time_s(self) -> float:
        """The plant's own time, seconds."""

    def observe(self) -> Measured:
        """Measure, without moving time."""

    def apply(self, order: OrderT, /) -> None:
        """Put an order in force from now on."""

    def advance(self, period_s: float) -> None:
        """Move time on by `period_s`. Raises PlantError if the plant failed."""

    def checkpoint(self, path: Path) -> None:
        """Save the whole state to the file `path`."""

    def restore(self, path: Path) -> None:
        """Set the state back to one saved by `checkpoint`. Raises PlantError if it does not fit."""

    def close(self) -> None:
        """Release what is held; the plant cannot be used after."""
