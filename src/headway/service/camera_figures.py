"""The figures of one camera that alert rules may name. All are of late: what was hours ago neither
opens an alert nor hides what is now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SHARES_OVER_S = 60.0  # s over which drops and broken frames are counted
COUNT_EVERY_S = 1.0  # s between counts that are kept; others may ask more often
MOST_COUNTS = 3_600  # kept of a camera that is so slow that a minute has too few frames
LEAST_FRAMES = 50  # a share of fewer says nothing
FRAMES_OF_A_RATE = 2
STARTS_WITHIN_S = 5.0  # that a camera may take for its first frames, as long as a stream is silent


class FrameCounts(NamedTuple):
    """Of a source, since it was started. wanted: received, without those beyond its rate."""

    at_s: float
    wanted: int = 0
    dropped: int = 0
    received: int = 0
    broken: int = 0


@dataclass
class RecentFrames:
    """What became of one camera's frames over the last SHARES_OVER_S; where that are too few to
    say anything, over as long as it takes.
    """

    _counts: deque[FrameCounts] = field(default_factory=lambda: deque([FrameCounts(float("-inf"))]))

    def shares(self, at_s: float, state: Mapping[str, Any]) -> dict[str, float | None]:
        """dropped_share and broken_share. state: see `Stream.state`."""
        now = _counts_of(at_s, state)
        if now.received < self._counts[-1].received or now.broken < self._counts[-1].broken:
            self._counts = deque([FrameCounts(float("-inf"))])  # it was started anew
        while len(self._counts) > 1 and self._is_spare(now):
            self._counts.popleft()
        first = self._counts[0]
        if at_s - self._counts[-1].at_s >= COUNT_EVERY_S:
            self._counts.append(now)
        wanted, broken = now.wanted - first.wanted, now.broken - first.broken
        return {
            "dropped_share": _share(now.dropped - first.dropped, wanted),
            "broken_share": _share(broken, now.received - first.received + broken),
        }

    def _is_spare(self, now: FrameCounts) -> bool:
        """Whether the count after the oldest is old enough, too."""
        second = self._counts[1]
        is_old = now.at_s - second.at_s >= SHARES_OVER_S
        is_enough = now.wanted - second.wanted > LEAST_FRAMES
        return (is_old and is_enough) or len(self._counts) > MOST_COUNTS


def _counts_of(at_s: float, state: Mapping[str, Any]) -> FrameCounts:
    return FrameCounts(
        at_s=at_s,
        wanted=state["received"] - state["skipped"],
        dropped=state["dropped"],
        received=state["received"],
        broken=state["broken"],
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole > LEAST_FRAMES else None


def rate_hz(state: Mapping[str, Any], silent_s: float) -> float | None:
    """Frames processed a second; None for a camera that has only just begun: it has no rate yet."""
    if state["received"] < FRAMES_OF_A_RATE and silent_s < STARTS_WITHIN_S:
        return None
    return float(state["rate_hz"]) if state["state"] == "running" else 0.0
