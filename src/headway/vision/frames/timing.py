"""Time of frames: of a live stream by the wall clock, of a file from its first frame on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# The clock of a live stream
DRIFT = 2e-4  # s a second by which two clocks may drift apart
SLEW = 5e-3  # s a second by which time is set back at most: it never runs backwards
LONGEST_GAP_S = 60.0  # s; after a longer one the clocks are compared anew
WALL_STEP_S = 0.2  # s from frame to frame by which the wall clock was set: it drifts by far less
READ_WITHIN_S = 0.02  # s for two clocks to be read as at one instant

# Stamps that are no time: some cameras count their frames at a rate that is not theirs
PACE_OVER_S = 30.0  # s over which stamps are compared with the clock
PACE_GAP_S = 10.0  # s between two frames from which the comparison begins anew
PACE_SHARE = 0.2  # by which they may be slower: what is held back

# Frames whose time is that of their arrival. Times are those between two frames.
CONNECTED_S = 1.0  # s after the first frame in which a server may send what it has kept
STALL_MEANS, STALL_S = 2.5, 0.1  # a stall is longer than so many means, and so many s more
REGULAR = 0.9  # of the mean, from which frames come at their own pace again
CAUGHT_UP_S = 8.0  # s after a stall in which all that was held back has come
GAIN = 0.1  # of the newest time in the mean

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
class StampPace:
    """Whether the stamps of a live stream pass more slowly than time does: then vehicles are
    quicker than they are. Quicker stamps accuse nobody. begun, last: stamp and clock from
    which they are compared, and of the last frame, s.
    """

    begun: tuple[float, float] = (-np.inf, -np.inf)
    last: tuple[float, float] = (-np.inf, -np.inf)

    def is_slow(self, stamp_s: float, now_s: float) -> bool:
        """Whether they have for PACE_OVER_S. Called with each frame; what goes back or leaps is
        another matter, see `LiveClock`.
        """
        step_s, lasted_s = stamp_s - self.last[0], now_s - self.last[1]
        self.last = (stamp_s, now_s)
        if not (0.0 <= step_s < PACE_GAP_S and lasted_s < PACE_GAP_S):
            self.begun = self.last
        passed_s, lasted_s = stamp_s - self.begun[0], now_s - self.begun[1]
        if lasted_s < PACE_OVER_S:
            return False
        self.begun = self.last
        return passed_s / lasted_s < 1.0 - PACE_SHARE


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
class Arrivals:
    """Which frames of a stream without times of its own are late: those that were held back come
    one upon the other after a stall, and by their arrival vehicles would race.

    begun_s, last_s: of the first and the last frame, by the monotonic clock. mean_s: between two
    that are in time. held_s: since when frames come that were held back; None while none do.
    count: of them, and of those right after the connection.
    """

    begun_s: float | None = None
    last_s: float = 0.0
    mean_s: float = 0.0
    held_s: float | None = None
    count: int = 0
    was_stalled: bool = False

    def is_late(self, now_s: float) -> bool:
        """Whether the frame that arrives now was held back. Called with each frame."""
        if self.begun_s is None:
            self.begun_s = self.last_s = now_s
        interval_s, self.last_s = now_s - self.last_s, now_s
        self.count += 1
        if now_s - self.begun_s < CONNECTED_S:
            self.mean_s = CONNECTED_S / self.count
            return True
        was_stalled = self.was_stalled
        self.was_stalled = interval_s > STALL_MEANS * self.mean_s + STALL_S
        if self.was_stalled and was_stalled:  # the camera has become slower
            self.held_s, self.mean_s = None, interval_s
        elif self.held_s is None and self.was_stalled:
            self.held_s, self.count = now_s, 0
        elif self.held_s is None:
            self.mean_s += GAIN * (interval_s - self.mean_s)
        elif not self.was_stalled and interval_s >= REGULAR * self.mean_s:
            self.held_s = None
        elif now_s - self.held_s >= CAUGHT_UP_S:  # this is its pace
            self.mean_s = (now_s - self.held_s) / self.count
            self.held_s = None
        return self.held_s is not None


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
    repeated. has_times: the stream's stamps are times. pace: watches over them, where it can.
    """

    rate_hz: float
    base_s: float
    begun_s: float
    clock: LiveClock
    limit: RateLimit
    has_times: bool = True
    pace: StampPace | None = None
    arrivals: Arrivals = field(default_factory=Arrivals)
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
