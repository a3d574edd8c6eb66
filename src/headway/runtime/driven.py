"""What the real-time loop drives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Driven(Protocol):
    """A plant together with its controller, as the loop drives them."""

    @property
    def time_s(self) -> float:
        """The plant's own time."""

    @property
    def running(self) -> bool:
        """There is still something to do."""

    def advance(self, period_s: float, shortest_s: float) -> None:
        """Observe, decide, apply, advance by `period_s`. shortest_s: no integration step need be
        shorter; a plant of fixed step ignores it.
        """

    def state(self) -> Mapping[str, Any]:
        """Nested figures, for streams and alerts."""

    def figures(self) -> Mapping[str, float]:
        """The few figures by which numerical stability is checked."""

    def roll_back(self) -> None:
        """Undo the last `advance`. Raises if that is impossible."""

    def checkpoint(self) -> None:
        """Write a checkpoint. Raises OSError if that fails."""

    def restore(self) -> None:
        """Go back to the last checkpoint. Raises if there is none."""

    def reinitialise(self) -> None:
        """Go back to the initial state."""

    def restart(self) -> None:
        """Start the plant itself again. If it raises, the error goes to who supervises this
        process.
        """
