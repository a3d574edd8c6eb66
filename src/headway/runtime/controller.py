"""The real-time loop: advances whatever it is given, on time, and watches over it, tells of it,
keeps it and mends it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from headway.runtime.modes import MODES, RealTimeOptimizer
from headway.runtime.monitor import News, RealTimeMonitor, Rule
from headway.runtime.pacing import OVERRUN, Pacer
from headway.runtime.profiler import PerformanceProfiler
from headway.runtime.recovery import ErrorRecoverySystem, Strategy
from headway.runtime.stability import Limits, NumericalStabilityMonitor, Stability
from headway.runtime.streams import DataStreamManager
from headway.runtime.timestep import AdaptiveTimestepper, StepBounds


class Driven(Protocol):
    """A plant with whoever controls it, as the loop sees them."""

    @property
    def time_s(self) -> float:
        """The plant's own time."""

    @property
    def running(self) -> bool:
        """There is still something to do."""

    def advance(self, period_s: float, shortest_s: float) -> None:
        """Observe, decide, apply, advance by `period_s`. shortest_s: no step need be shorter; a
        plant of fixed step leaves it aside.
        """

    def state(self) -> Mapping[str, Any]:
        """Nested figures, for streams and alerts."""

    def figures(self) -> Mapping[str, float]:
        """The few of them by which it is told whether the plant is sound."""

    def undo(self) -> None:
        """Go back to before the last `advance`. Raises if that cannot be."""

    def keep(self) -> None:
        """Write a checkpoint. Raises OSError if the disk does not take it."""

    def restore(self) -> None:
        """Go back to the last checkpoint. Raises if there is none."""

    def begin(self) -> None:
        """Begin anew."""

    def restart(self) -> None:
        """Start the plant itself again. May raise, which hands the error to who watches this
        process.
        """


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """period_s: plant time of a tick. realtime: times real time, 0 as fast as possible; then ticks
    are gathered until one takes `batch_wall_s`.

    overrun: see `Pacer`. checkpoint_s: plant time between checkpoints, 0 for none. limits, drift:
        see `NumericalStabilityMonitor`.
    """

    period_s: float = 1.0 / 15.0
    realtime: float = 1.0
    overrun: str = "degrade"
    mode: str = "balanced"
    gather: bool = True
    batch_wall_s: float = 0.02
    checkpoint_s: float = 0.0
    bounds: StepBounds = field(default_factory=StepBounds)
    rules: tuple[Rule, ...] = ()
    limits: Mapping[str, Limits] = field(default_factory=dict)
    drift: tuple[str, float] | None = None
    priority: tuple[str, ...] = ()
    watch: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError, before anything runs, that names the setting and what is allowed."""
        if not self.period_s > 0.0:
            raise ValueError(f"period_s: {self.period_s!r} is not allowed: seconds above 0.")
        if not self.realtime >= 0.0 or not self.batch_wall_s > 0.0 or not self.checkpoint_s >= 0.0:
            raise ValueError(
                f"realtime {self.realtime!r} and checkpoint_s {self.checkpoint_s!r} must not "
                f"be below 0, batch_wall_s {self.batch_wall_s!r} above."
            )
        if self.mode not in MODES:
            raise ValueError(f"mode: {self.mode!r} is not allowed. There are: {', '.join(MODES)}.")
        if self.overrun not in OVERRUN:
            raise ValueError(
                f"overrun: {self.overrun!r} is not allowed. There are: {', '.join(OVERRUN)}."
            )


class StoppedError(RuntimeError):
    """The loop stopped safely; the message says why."""


class RealTimeController:
    """Drives one plant. `tick` once, or `run` until a time; never raises for a fault that its
    recovery can mend, else `StoppedError`.

    tell: what happened, in words of the record: (plant time, kind, figures). mend: strategies, see
        `ErrorRecoverySystem`.
    """

    def __init__(
        self,
        driven: Driven,
        settings: RuntimeSettings,
        tell: Callable[[float, str, Mapping[str, Any]], None] | None = None,
        mend: ErrorRecoverySystem | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.driven = driven
        self.settings = settings
        self._tell = tell or _nobody
        self._clock = clock
        self.pacer = Pacer(
            settings.period_s, settings.realtime, clock, sleep, overrun=settings.overrun
        )
        self.profiler = PerformanceProfiler(on=settings.watch)
        self._time_advance, self._time_watch = (
            self.profiler.section("advance", self.pacer.granted_s),
            self.profiler.section("watch"),
        )
        self.stepper = AdaptiveTimestepper(settings.bounds)
        self.optimizer = RealTimeOptimizer(settings.mode, clock=clock)
        self.streams = DataStreamManager(self.optimizer.mode.stream_hz, settings.priority, clock)
        sample = driven.state() if settings.rules else None
        self.monitor = RealTimeMonitor(settings.rules, sample)
        self.stability_monitor = NumericalStabilityMonitor(settings.limits, settings.drift)
        self.stability = Stability(1.0, ())
        self.recovery = mend or ErrorRecoverySystem(clock=clock)
        self._next_look = self._next_check = -math.inf
        self._kept_s = self._keep_from_s = driven.time_s
        self._unsound = False
        self.pressure = 0.0

    def run(self, until_s: float) -> None:
        """Tick until the plant's time is `until_s`, or it has nothing left to do. Raises
        StoppedError.
        """
        while self.driven.time_s < until_s - 1e-9 and self.driven.running:
            self.tick(until_s)

    def tick(self, until_s: float = float("inf")) -> None:
        """Wait for the next tick, advance, look, tell, keep. Raises StoppedError when recovery
        gives up, with the reason.
        """
        s, driven = self.settings, self.driven
        periods = self.pacer.wait()
        if not self.pacer.granted_s and s.gather:
            periods = self.stepper.batch
        period_s = min(periods * s.period_s, max(until_s - driven.time_s, 1e-9))
        begun = self._clock()
        try:
            with self._time_advance:
                driven.advance(period_s, self.stepper.floor_s)
            if s.watch:
                with self._time_watch:
                    self._watch()
            if s.checkpoint_s and driven.time_s - self._keep_from_s >= s.checkpoint_s:
                self.keep()
            self.recovery.going_well()
        except Exception as error:
            self._mend(error)
        self._press(self._clock() - begun)

    def keep(self) -> None:
        """Checkpoint now; a disk that does not take it is told, and tried again after half the
        time.
        """
        now = self.driven.time_s
        try:
            self.driven.keep()
            self._kept_s = self._keep_from_s = now
        except OSError as error:
            self._tell(now, "runtime.checkpoint_failed", {"error": str(error)})
            self._keep_from_s = now - 0.5 * self.settings.checkpoint_s

    @property
    def kept_s(self) -> float:
        """Plant time of the last checkpoint that was written; of the start where there is none."""
        return self._kept_s

    def choose_mode(self, name: str) -> None:
        """Raises ValueError for an unknown mode."""
        self.optimizer.choose(name)
        self.streams.rate_hz = self.optimizer.mode.stream_hz
        self._tell(self.driven.time_s, "runtime.mode", {"mode": name, "why": "chosen"})

    def go_on_from(self, before: RealTimeController) -> None:
        """Take over from a loop of the same plant with other settings: when it was checkpointed
        last, and the alerts that are open.
        """
        self._kept_s, self._keep_from_s = before.kept_s, before._keep_from_s
        if self.settings.rules == before.settings.rules:
            self.monitor = before.monitor

    def close(self) -> None:
        self.streams.close()

    def _watch(self) -> None:
        """Validation, alerts and streams, each as often as the mode says."""
        now = self._clock()
        driven = self.driven
        mode = self.optimizer.mode
        at_s = driven.time_s
        if now >= self._next_look and self.settings.limits:
            self._next_look = now + 1.0 / mode.look_hz
            self.stability = self.stability_monitor.look(at_s, driven.figures(), mode.enhanced)
            unsound = bool(self.stability.reasons)
            if unsound and not self._unsound:
                self._tell(
                    at_s,
                    "runtime.unstable",
                    {
                        "score": round(self.stability.score, 3),
                        "reasons": list(self.stability.reasons),
                    },
                )
            self._unsound = unsound
            if self.stability.score <= 0.0:
                raise ArithmeticError("; ".join(self.stability.reasons))
        state: Mapping[str, Any] | None = None
        if now >= self._next_check and self.settings.rules:
            self._next_check = now + 1.0 / mode.stream_hz
            state = driven.state()
            for news in self.monitor.check(at_s, state):
                self._tell(at_s, f"alert.{news.what.replace(' ', '_')}", told(news))
        if self.streams.due():
            self.streams.publish(at_s, state if state is not None else driven.state())

    def _press(self, used_s: float) -> None:
        granted = self.pacer.granted_s
        self.pressure = self.stepper.spent(
            used_s, granted or self.settings.batch_wall_s, bool(granted)
        )
        if granted:
            self.streams.press(self.pressure)
            if self.optimizer.press(self.pressure):
                self.streams.rate_hz = self.optimizer.mode.stream_hz
                self._tell(
                    self.driven.time_s,
                    "runtime.mode",
                    {
                        "mode": self.optimizer.mode.name,
                        "why": f"{self.pressure:.2f} of the wall time used",
                    },
                )

    def _mend(self, error: Exception) -> None:
        """Answer a fault until an answer can be carried out."""
        while True:
            at_s, strategy = self.driven.time_s, self.recovery.answer(error)
            self._tell(at_s, "runtime.fault", {"error": repr(error), "strategy": strategy.value})
            if strategy is Strategy.STOP:
                raise StoppedError(f"stopped safely at {at_s:.3f} s: {error!r}") from error
            try:
                self._carry_out(strategy)
                self.stability_monitor.forget()
                return
            except (
                Exception
            ) as another:  # the cure failed: that is a fault as well, and the next strategy's turn
                error = another

    def _carry_out(self, strategy: Strategy) -> None:
        if strategy is Strategy.RETRY_SMALLER:
            self.driven.undo()
            self.stepper.refine()
        elif strategy is Strategy.RESTORE:
            self.driven.restore()
        elif strategy is Strategy.REINITIALISE:
            self.driven.begin()
        elif strategy is Strategy.RESTART:
            self.driven.restart()
        elif strategy is Strategy.DEGRADE:
            self.choose_mode("performance")
        self._kept_s = min(self._kept_s, self.driven.time_s)
        self._keep_from_s = min(self._keep_from_s, self.driven.time_s)


def _nobody(at_s: float, kind: str, data: Mapping[str, Any]) -> None:
    pass


def told(news: News) -> dict[str, Any]:
    """An alert's news as plain figures."""
    a = news.alert
    data = {
        "rule": a.rule,
        "path": a.path,
        "level": a.level.name.lower(),
        "value": a.value,
        "threshold": a.threshold,
        "number": a.number,
    }
    return data | ({"held_back": news.held_back} if news.held_back else {})
