"""The real-time loop: advances a plant on time, checks it, publishes its state, writes checkpoints
and recovers from faults.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from headway.runtime.modes import MODES, TARGET_HZ, RealTimeOptimizer, checked_target
from headway.runtime.monitor import AlertRule, RealTimeMonitor
from headway.runtime.pacing import OVERRUN, Pacer, Schedule
from headway.runtime.profiler import PerformanceProfiler
from headway.runtime.recovery import ErrorRecoverySystem, Strategy
from headway.runtime.stability import FigureLimits, NumericalStabilityMonitor, Stability
from headway.runtime.streams import (
    BASE_HZ,
    BUFFER,
    DataStreamManager,
    checked_rate,
    checked_size,
)
from headway.runtime.timestep import AdaptiveTimestepper, StepBounds

TIME_TOLERANCE_S = 1e-9  # plant times closer than this count as equal


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


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """How a plant is driven.

    period_s:     plant time of one tick; None for a plant that advances by any period, whose ticks
        follow the target rate.
    target_hz:    ticks per wall second, more where the mode's streams are faster; as fast as
        possible, ticks per second of plant time.
    speed_factor: plant seconds per wall second; 0 as fast as possible.
    overrun:      what happens to late ticks, see `Pacer`.
    mode:         see `MODES`.
    gather:       as fast as possible, several periods are advanced in one tick, so that it takes
        about half of `batch_wall_s`.
    checkpoint_s: plant time between checkpoints; 0 for none.
    bounds:       of the integration step.
    rules:        of alerts, see `RealTimeMonitor`.
    limits, drift: see `NumericalStabilityMonitor`.
    priority:     paths that reach every subscriber as soon as they change.
    base_hz, buffer: rate and buffer (messages) of a subscriber that asks for none.
    watch:        check stability and alerts, and publish; off for measurements alone.
    """

    period_s: float | None = None
    speed_factor: float = 1.0
    overrun: str = "degrade"
    mode: str = "balanced"
    gather: bool = True
    batch_wall_s: float = 0.02
    checkpoint_s: float = 0.0
    bounds: StepBounds = field(default_factory=StepBounds)
    rules: tuple[AlertRule, ...] = ()
    limits: Mapping[str, FigureLimits] = field(default_factory=dict)
    drift: tuple[str, float] | None = None
    priority: tuple[str, ...] = ()
    watch: bool = True
    target_hz: float = TARGET_HZ
    base_hz: float = BASE_HZ
    buffer: int = BUFFER

    def __post_init__(self) -> None:
        """Raises ValueError, before anything runs, that names the setting and what is allowed."""
        if self.period_s is not None and not 0.0 < self.period_s < math.inf:
            raise ValueError(f"period_s: {self.period_s!r} is not allowed: seconds above 0.")
        checked_target(self.target_hz)
        checked_rate("base_hz", self.base_hz)
        checked_size("buffer", self.buffer)
        if (
            not 0.0 <= self.speed_factor < math.inf
            or not self.batch_wall_s > 0.0
            or not self.checkpoint_s >= 0.0
        ):
            raise ValueError(
                f"speed_factor {self.speed_factor!r} (finite) and checkpoint_s "
                f"{self.checkpoint_s!r} must not be below 0, batch_wall_s {self.batch_wall_s!r} "
                "above."
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
    """Drives one plant: `tick` once, or `run` until a time.

    report:   takes what happened: (plant time s, event kind, figures).
    recovery: chooses what to do about a fault; StoppedError is raised when it gives up.
    pressure: share of the granted wall time that the last tick used.
    """

    def __init__(
        self,
        driven: Driven,
        settings: RuntimeSettings,
        report: Callable[[float, str, Mapping[str, Any]], None] | None = None,
        recovery: ErrorRecoverySystem | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.driven = driven
        self.settings = settings
        self._report = report or _ignore
        self._clock = clock
        self.recovery = recovery or ErrorRecoverySystem(clock=clock)
        self.optimizer = RealTimeOptimizer(settings.mode, clock=clock, target_hz=settings.target_hz)
        self.pacer = Pacer(
            period_s=self._period_s(),
            speed_factor=settings.speed_factor,
            clock=clock,
            sleep=sleep,
            overrun=settings.overrun,
        )
        self.stepper = AdaptiveTimestepper(settings.bounds)
        self.streams = DataStreamManager(
            rate_hz=self.optimizer.mode.stream_hz,
            priority=settings.priority,
            clock=clock,
            base_hz=settings.base_hz,
            buffer=settings.buffer,
        )
        self.monitor = RealTimeMonitor(settings.rules, driven.state() if settings.rules else None)
        self.stability_monitor = NumericalStabilityMonitor(settings.limits, settings.drift)
        self.stability = Stability(score=1.0, reasons=())
        self.profiler = PerformanceProfiler(on=settings.watch)
        self._advance_section = self.profiler.section("advance", self.pacer.granted_s)
        self._watch_section = self.profiler.section("watch")
        self._stability_checks = Schedule()
        self._alert_checks = Schedule()
        self._last_checkpoint_s = driven.time_s
        self._checkpoint_timer_s = driven.time_s  # plant time from which the next one is due
        self.pressure = 0.0

    def run(self, until_s: float) -> None:
        """Tick until the plant's time is `until_s`, or it has nothing left to do. Raises
        StoppedError.
        """
        while self.driven.time_s < until_s - TIME_TOLERANCE_S and self.driven.running:
            self.tick(until_s)

    def tick(self, until_s: float = math.inf) -> None:
        """Wait for the next tick; advance, check, publish, and write a checkpoint if one is due.
        Raises StoppedError, with the reason, when recovery gives up.
        """
        periods = self.pacer.wait()
        if not self.pacer.granted_s and self.settings.gather:
            periods = self.stepper.batch
        left_s = max(until_s - self.driven.time_s, TIME_TOLERANCE_S)
        begun = self._clock()
        try:
            self._advance(min(periods * self.pacer.period_s, left_s))
        except Exception as error:
            self._recover(error)
        self._adapt_to_load(self._clock() - begun)

    def _advance(self, period_s: float) -> None:
        """What may fail in a tick."""
        with self._advance_section:
            self.driven.advance(period_s, self.stepper.floor_s)
        if self.settings.watch:
            with self._watch_section:
                self._watch()
        if self._checkpoint_is_due():
            self.checkpoint()
        self.recovery.report_success()

    def _checkpoint_is_due(self) -> bool:
        every_s = self.settings.checkpoint_s
        return every_s > 0.0 and self.driven.time_s - self._checkpoint_timer_s >= every_s

    def checkpoint(self) -> None:
        """Write a checkpoint now. If the disk fails that is reported, and tried again after half
        the interval.
        """
        now_s = self.driven.time_s
        try:
            self.driven.checkpoint()
            self._last_checkpoint_s = self._checkpoint_timer_s = now_s
        except OSError as error:
            self._report(now_s, "runtime.checkpoint_failed", {"error": str(error)})
            self._checkpoint_timer_s = now_s - 0.5 * self.settings.checkpoint_s

    @property
    def last_checkpoint_s(self) -> float:
        """Plant time of the last checkpoint that was written; of the start before the first."""
        return self._last_checkpoint_s

    def choose_mode(self, name: str) -> None:
        """Raises ValueError for an unknown mode."""
        self.optimizer.choose(name)
        self._use_mode("chosen")

    def continue_from(self, before: RealTimeController) -> None:
        """Continue the work of a loop of the same plant with other settings: when the next tick
        and the next checkpoint are due, and which alerts are open.
        """
        self.pacer.continue_from(before.pacer)
        self._last_checkpoint_s = before.last_checkpoint_s
        self._checkpoint_timer_s = before._checkpoint_timer_s
        if self.settings.rules == before.settings.rules:
            self.monitor = before.monitor

    def close(self) -> None:
        """End all subscriptions."""
        self.streams.close()

    # --- checks, alerts and streams, each as often as the mode says ---

    def _watch(self) -> None:
        now, at_s = self._clock(), self.driven.time_s
        if self.settings.limits and self._stability_checks.is_due(now):
            self._stability_checks.advance(now, 1.0 / self.optimizer.mode.check_hz)
            self._check_stability(at_s)
        state: Mapping[str, Any] | None = None
        if self.settings.rules and self._alert_checks.is_due(now):
            self._alert_checks.advance(now, 1.0 / self.optimizer.mode.stream_hz)
            state = self.driven.state()
            for update in self.monitor.check(at_s, state):
                self._report(at_s, update.event_kind, update.figures())
        if self.streams.is_due():
            self.streams.publish(at_s, state if state is not None else self.driven.state())

    def _check_stability(self, at_s: float) -> None:
        """Reported once, until it is stable again. Raises ArithmeticError if a figure is lost."""
        before = self.stability
        self.stability = now = self.stability_monitor.check(
            at_s, self.driven.figures(), self.optimizer.mode.enhanced
        )
        if now.reasons and not before.reasons:
            data = {"score": round(now.score, 3), "reasons": list(now.reasons)}
            self._report(at_s, "runtime.unstable", data)
        if now.score <= 0.0:
            raise ArithmeticError("; ".join(now.reasons))

    # --- load ---

    def _adapt_to_load(self, used_s: float) -> None:
        """Steps, streams and mode follow the share of the granted wall time that was used."""
        granted_s = self.pacer.granted_s
        self.pressure = self.stepper.adapt_to_load(
            used_s, granted_s or self.settings.batch_wall_s, bool(granted_s)
        )
        if granted_s:
            self.streams.adapt_to_load(self.pressure)
            if self.optimizer.adapt_to_load(self.pressure):
                self._use_mode(f"{self.pressure:.2f} of the wall time used")

    def _period_s(self) -> float:
        """Plant time of one tick: that of the settings, or by the rate that the optimizer asks
        for.
        """
        s = self.settings
        if s.period_s is not None:
            return s.period_s
        return s.speed_factor / self.optimizer.tick_hz if s.speed_factor else 1.0 / s.target_hz

    def _use_mode(self, why: str) -> None:
        """Streams and ticks follow the optimizer's mode, which has just changed."""
        mode = self.optimizer.mode
        self.streams.rate_hz = mode.stream_hz
        self.pacer.change_period(self._period_s())
        self.profiler.section("advance", self.pacer.granted_s)
        self._report(self.driven.time_s, "runtime.mode", {"mode": mode.name, "why": why})

    # --- faults ---

    def _recover(self, error: Exception) -> None:
        """Try strategies until one can be carried out."""
        while True:
            at_s = self.driven.time_s
            strategy = self.recovery.choose(error)
            fault = {"error": repr(error), "strategy": strategy.value}
            self._report(at_s, "runtime.fault", fault)
            if strategy is Strategy.STOP:
                raise StoppedError(f"stopped safely at {at_s:.3f} s: {error!r}") from error
            try:
                self._carry_out(strategy)
                self.stability_monitor.reset()
                return
            except Exception as another:  # the strategy failed: the next one's turn
                error = another

    def _carry_out(self, strategy: Strategy) -> None:
        match strategy:
            case Strategy.RETRY_SMALLER:
                self.driven.roll_back()
                self.stepper.refine()
            case Strategy.RESTORE:
                self.driven.restore()
            case Strategy.REINITIALISE:
                self.driven.reinitialise()
            case Strategy.RESTART:
                self.driven.restart()
            case Strategy.DEGRADE:
                self.choose_mode("performance")
        # the plant may be earlier now than its last checkpoint
        self._last_checkpoint_s = min(self._last_checkpoint_s, self.driven.time_s)
        self._checkpoint_timer_s = min(self._checkpoint_timer_s, self.driven.time_s)


def _ignore(at_s: float, kind: str, data: Mapping[str, Any]) -> None:
    pass
