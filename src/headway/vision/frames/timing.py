"""Time of frames: of a live stream by the wall clock, of a file from its first frame on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The clock of a live stream
DRIFT = 2e-4  # s a second by which two clocks may drift apart
SLEW = 5e-3  # s a second by which time is set back at most: it never runs backwards
LONGEST_GAP_S = 60.0  # s; after a longer one the clocks are compared anew
WALL_STEP_S = 0.2  # s from frame to frame by which the wall clock was set: it drifts by far less
READ_WITHIN_S = 0.02  # s for two clocks to be read as at one instant

EARLY_SHARE = 0.1  # of half a frame's time by which a frame may be early for the requested rate


@dataclass
class LiveClock:
    """Wall time of one connection's frames.

    The least delay of recent frames is the offset between the two clocks. It is followed slowly, so
    that time never runs backwards.
    """

    stream_s: float = -np.inf
    least_ahead_s: float = 0.0  # the least that the stream's clock was behind ours
    offset_s: float = 0.0  # what is taken for it

    def wall_time_s(self, stream_s: float, now_s: float) -> float:
        """Of a frame with that stream time, which arrived now."""
        ahead_s, passed_s = now_s - stream_s, stream_s - self.stream_s
        if not 0.0 < passed_s < LONGEST_GAP_S:
            self.least_ahead_s = self.offset_s = ahead_s
        else:
            self.least_ahead_s = min(self.least_ahead_s + DRIFT * passed_s, ahead_s)
            # only DRIFT lets it grow
            self.offset_s += max(self.least_ahead_s - self.offset_s, -SLEW * passed_s)
        self.stream_s = stream_s
        return stream_s + self.offset_s


@dataclass
class WallSteps:
    """Notices that the wall clock was set, by its distance from the monotonic clock.

    epoch: how often it was.
    """

    epoch: int = 0
    ahead_s: float | None = None

    def found(self, before_s: float, wall_s: float, after_s: float) -> bool:
        """Whether it was since the last call. before_s, after_s: by the monotonic clock, read just
        before and just after the wall clock; where this thread had to wait between, they tell
        nothing.
        """
        if after_s - before_s > READ_WITHIN_S:
            return False
        was_s, self.ahead_s = self.ahead_s, wall_s - after_s
        stepped = was_s is not None and abs(self.ahead_s - was_s) > WALL_STEP_S
        self.epoch += stepped
        return stepped


@dataclass
class RateLimit:
    """Lets frames through at a rate at most; 0 for all."""

    rate_hz: float
    next_s: float | None = None

    def admits(self, at_s: float) -> bool:
        if not self.rate_hz:
            return True
        if self.next_s is None:
            self.next_s = at_s + 1.0 / self.rate_hz
            return True
        if at_s < self.next_s - 0.5 / self.rate_hz * EARLY_SHARE:
            return False
        self.next_s = max(self.next_s + 1.0 / self.rate_hz, at_s)
        return True


@dataclass
class Playback:
    """Frames of one connection, or of one run through a file. first_s, at_s: the stream's time of
    the first and the last frame; the first is moved where the time of a file leaps. begun_s: by the
    monotonic clock. base_s: time of the first frame of a file; it continues where the file is
    repeated.
    """

    rate_hz: float
    base_s: float
    begun_s: float
    clock: LiveClock
    limit: RateLimit
    first_s: float | None = None
    at_s: float = 0.0
    number: int = 0

    @property
    def played_s(self) -> float:
        return self.at_s - self.first_s if self.first_s is not None else 0.0

    def advance(self, at_s: float, joined: bool) -> None:
        """The next frame has this time. joined: what goes back, or leaps, is a joint of two
        recordings or a broken stamp: the frame comes one after the last.
        """
        if self.first_s is None:
            self.first_s = at_s
        elif joined and not 0.0 <= at_s - self.at_s <= LONGEST_GAP_S:
            self.first_s += at_s - self.at_s - 1.0 / self.rate_hz
        self.at_s = at_s
