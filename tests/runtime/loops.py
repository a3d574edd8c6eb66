"""A real-time loop on a plant made by hand and a clock set by hand."""

from __future__ import annotations

from itertools import repeat

from tests.runtime.clocks import Clock

from headway.runtime import (
    RealTimeController,
    RuntimeSettings,
    StepBounds,
)


class Plant:
    """Keeps what was asked of it. takes_s: wall time of each advance;
    fails, checkpoint_fails: errors to come, oldest first.
    """

    def __init__(self, clock):
        self.clock, self.time_s, self.running = clock, 0.0, True
        self.calls, self.takes_s, self.fails, self.checkpoint_fails, self.cures = (
            [],
            0.0,
            [],
            [],
            {},
        )
        self.values, self.built = {"v": 0.0}, 0

    def advance(self, period_s, shortest_s):
        self.calls.append(("advance", period_s, shortest_s))
        self.clock.now += self.takes_s
        if self.fails and (error := self.fails.pop(0)) is not None:
            raise error
        self.time_s += period_s

    def state(self):
        self.built += 1
        return self.values

    def figures(self):
        return self.values

    def checkpoint(self):
        if self.checkpoint_fails and (error := self.checkpoint_fails.pop(0)) is not None:
            raise error
        self.calls.append(("checkpoint", self.time_s))

    def cure(self, name, to_s):
        self.calls.append(name)
        if name in self.cures:
            raise self.cures[name]
        self.time_s = to_s

    def roll_back(self):
        self.cure("roll back", self.time_s)

    def restore(self):
        self.cure("restore", 1.0)

    def reinitialise(self):
        self.cure("reinitialise", 0.0)

    def restart(self):
        self.cure("restart", self.time_s)

    def advanced(self):
        return [c[1] for c in self.calls if c[0] == "advance"]


class Loop:
    """A loop over a `Plant`, a quarter of a second a tick unless told otherwise;
    `told`: (plant time, kind, figures).
    """

    def __init__(self, recovery=None, **settings):
        self.clock, self.reported = Clock(100.0), []
        self.late = repeat(0.0)  # seconds by which each sleep is too long
        self.plant = Plant(self.clock)
        made = RuntimeSettings(**({"period_s": 0.25, "bounds": StepBounds(0.5, 2.0)} | settings))
        self.loop = RealTimeController(
            self.plant,
            made,
            lambda at_s, kind, data: self.reported.append((at_s, kind, dict(data))),
            recovery,
            self.clock,
            lambda seconds: self.clock.sleep(seconds + next(self.late)),
        )

    def ticks(self, count):
        for _ in range(count):
            self.loop.tick()
        return self
