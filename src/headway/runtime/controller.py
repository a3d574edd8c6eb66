"""The real-time loop: advances a plant on time, checks it, publishes its state, writes checkpoints
and recovers from faults.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headway.runtime.driven import Driven
from headway.runtime.modes import MODES, TARGET_HZ, RealTimeOptimizer, checked_target
from headway.runtime.monitor import AlertRule, RealTimeMonitor
from headway.runtime.pacing import OVERRUN, Pacer, RateMeter, Schedule
from headway.runtime.profiler import PerformanceProfiler
from headway.runtime.recovery import (
    AnyStrategy,
    ErrorRecoverySystem,
    Fault,
    OvertimeError,
    Strategy,
    UserStrategy,
)
from headway.runtime.report import (
    RECENT,
    AlertStatus,
    AttemptStatus,
    RateStatus,
    RecoveryStatus,
    StatusReport,
    StrategyStatus,
    TimestepStatus,
)
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
# of the state's field `loop`, see `RealTimeController.state`
LOOP_FIGURES = (
    "fps",
    "stability",
    "tick_ms",
    "load",
    "late_ms",
    "overruns",
    "skipped",
    "faults",
    "target_hz",
)


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
        self._made_at = clock()
        self._ticks = RateMeter()
        self._tick_s = 0.0  # wall time that the last tick took
        self._due_at = -math.inf  # wall time for which the tick under way was meant
        self._in_tick = False
        self._stopped = ""
        self.monitor = RealTimeMonitor(settings.rules, self.state() if settings.rules else None)

    def run(self, until_s: float) -> None:
        """Tick until the plant's time is `until_s`, or it has nothing left to do. Raises
        StoppedError.
        """
        while self.driven.time_s < until_s - TIME_TOLERANCE_S and self.driven.running:
            self.tick(until_s)

    def tick(self, until_s: float = math.inf) -> None:
        """Wait for the next tick; advance, check, publish, and write a checkpoint if one is due.
        Raises StoppedError, with the reason, when recovery gives up; RuntimeError within a tick.
        """
        if self._in_tick:
            raise RuntimeError("a tick is under way; wait for its end before the next one")
        self._in_tick = True
        try:
            self._tick(until_s)
        finally:
            self._in_tick = False

    def _tick(self, until_s: float) -> None:
        periods = self.pacer.wait()
        if not self.pacer.granted_s and self.settings.gather:
            periods = self.stepper.batch
        left_s = max(until_s - self.driven.time_s, TIME_TOLERANCE_S)
        begun = self._clock()
        self._due_at = begun - self.pacer.late_s
        self._ticks.note(begun)
        try:
            self._advance(min(periods * self.pacer.period_s, left_s))
        except Exception as error:
            self._recover(error)
        self._tick_s = self._clock() - begun
        self._adapt_to_load(self._tick_s)

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
            self.profiler.count("checkpoints")
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
        and the next checkpoint are due, and which alerts are open. Those of rules that are gone or
        changed are closed, and reported so.
        """
        self.pacer.continue_from(before.pacer)
        self._last_checkpoint_s = before.last_checkpoint_s
        self._checkpoint_timer_s = before._checkpoint_timer_s
        if self.settings.rules == before.settings.rules:
            self.monitor = before.monitor
            return
        at_s = self.driven.time_s
        for update in self.monitor.continue_from(before.monitor, at_s):
            self._report(at_s, update.event_kind, update.figures())

    def close(self) -> None:
        """End all subscriptions."""
        self.streams.close()

    # --- what can be read ---

    def state(self) -> dict[str, Any]:
        """The plant's state, and in `loop` the LOOP_FIGURES: what streams carry and rules check.

        fps, target_hz: per wall second (fps None before the second tick). stability: score.
        tick_ms, load: wall time of the last tick, and its share of what is granted. late_ms: how
        late it began. overruns, skipped, faults: since the start.
        """
        return {**self.driven.state(), "loop": self._loop_figures()}

    def _loop_figures(self) -> dict[str, float | None]:
        return {
            "fps": self._ticks.per_s,
            "stability": self.stability.score,
            "tick_ms": 1e3 * self._tick_s,
            "load": self.pressure,
            "late_ms": 1e3 * self.pacer.late_s,
            "overruns": self.pacer.overruns,
            "skipped": self.pacer.skipped,
            "faults": self.recovery.faults,
            "target_hz": self.optimizer.target_hz,
        }

    def report(self, with_plant: bool = True) -> StatusReport:
        """All that there is to know of loop and plant at this moment; also while the plant fails,
        and after it stopped. with_plant: its state too.
        """
        plant, fault = None, ""
        try:
            plant = self.driven.state() if with_plant else None
        except Exception as error:  # of a plant that fails: the report says so
            fault = repr(error)
        stepper, bounds = self.stepper, self.stepper.bounds
        return StatusReport(
            at_s=self.driven.time_s,
            wall_s=self._clock() - self._made_at,
            stopped=self._stopped,
            rates=self._rate_status(),
            timestep=TimestepStatus(
                shortest_s=bounds.shortest_s,
                longest_s=bounds.longest_s,
                rtol=bounds.rtol,
                atol=bounds.atol,
                floor_s=stepper.floor_s,
                batch=stepper.batch,
            ),
            stability=self.stability,
            sections=self.profiler.report(),
            counters=self.profiler.counters(),
            streams=self.streams.status(),
            alerts=AlertStatus(
                rules=self.monitor.rules,
                open=tuple(self.monitor.open_alerts()),
                closed=tuple(self.monitor.history)[-RECENT:],
            ),
            recovery=self._recovery_status(),
            checkpoint_s=self._last_checkpoint_s,
            plant=plant,
            plant_fault=fault,
        )

    def _rate_status(self) -> RateStatus:
        optimizer, pacer = self.optimizer, self.pacer
        return RateStatus(
            mode=optimizer.mode.name,
            chosen_mode=optimizer.chosen.name,
            mode_switches=optimizer.switches,
            target_hz=optimizer.target_hz,
            tick_hz=1.0 / pacer.granted_s if pacer.granted_s else 0.0,
            stream_hz=self.streams.rate_hz,
            fps=self._ticks.per_s,
            period_s=pacer.period_s,
            speed_factor=self.settings.speed_factor,
            load=self.pressure,
            pacing=pacer.report(),
        )

    def _recovery_status(self) -> RecoveryStatus:
        now, recovery = self._clock(), self.recovery
        return RecoveryStatus(
            faults=recovery.faults,
            strategies={
                strategy.label: StrategyStatus(tried=tried, worked=worked)
                for strategy, (worked, tried) in recovery.success_counts().items()
            },
            recent=tuple(
                AttemptStatus(
                    ago_s=now - a.at, error=a.error, strategy=a.strategy.label, worked=a.worked
                )
                for a in tuple(recovery.history)[-RECENT:]
            ),
            plans={kind: tuple(labels) for kind, labels in recovery.plans().items()},
        )

    # --- checks, alerts and streams, each as often as the mode says ---

    def _watch(self) -> None:
        """Raises ArithmeticError if a figure is lost, after the alerts."""
        # on time or late, a tick counts as when it was due: rates hold whatever the jitter
        now = self._due_at if self.pacer.granted_s else self._clock()
        at_s, lost = self.driven.time_s, False
        if self.settings.limits and self._stability_checks.is_due(now):
            self._stability_checks.advance(now, 1.0 / self.optimizer.mode.check_hz)
            self.profiler.count("stability_checks")
            self._check_stability(at_s)
            lost = self.stability.score <= 0.0
        state: Mapping[str, Any] | None = None
        if self.monitor.rules and (lost or self._alert_checks.is_due(now)):
            self._alert_checks.advance(now, 1.0 / self.optimizer.mode.stream_hz)
            state = self.check_alerts()
        if lost:
            raise ArithmeticError("; ".join(self.stability.reasons))
        if self.streams.is_due(now):
            self.profiler.count("publications")
            self.streams.publish(at_s, state if state is not None else self.state(), now)

    def check_alerts(self) -> Mapping[str, Any]:
        """Check the rules now; returns the state that they were checked against. The loop does so
        as often as its mode streams; as fast as possible, a caller may want it more often.
        """
        self.profiler.count("alert_checks")
        state, at_s = self.state(), self.driven.time_s
        for update in self.monitor.check(at_s, state):
            self._report(at_s, update.event_kind, update.figures())
        return state

    def _check_stability(self, at_s: float) -> None:
        """Reported once, until it is stable again."""
        before = self.stability
        self.stability = now = self.stability_monitor.check(
            at_s, self.driven.figures(), self.optimizer.mode.enhanced
        )
        if now.reasons and not before.reasons:
            data = {"score": round(now.score, 3), "reasons": list(now.reasons)}
            self._report(at_s, "runtime.unstable", data)

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
            strategy = self.recovery.choose(error)
            fault = {"error": repr(error), "strategy": strategy.label}
            self._report(self.driven.time_s, "runtime.fault", fault)
            if strategy is Strategy.STOP:
                raise self._stop(repr(error)) from error
            try:
                failed = self._carry_out(strategy, error)
            except OvertimeError as late:
                self.recovery.report_failure()
                raise self._stop(f"{late}; the fault was {error!r}") from error
            except Exception as another:  # the strategy failed: the next one's turn
                error = another
                continue
            if not failed:
                self._settle()
                return
            why = {"strategy": strategy.label, "why": failed}
            self._report(self.driven.time_s, "runtime.strategy_failed", why)

    def _stop(self, why: str) -> StoppedError:
        self._stopped = f"stopped safely at {self.driven.time_s:.3f} s: {why}"
        return StoppedError(self._stopped)

    def _carry_out(self, strategy: AnyStrategy, error: Exception) -> str:
        """Why a strategy of the user's own failed; empty if it worked."""
        match strategy:
            case UserStrategy():
                attempt = self.recovery.attempts(strategy)
                return strategy.carry_out(Fault(self.driven.time_s, error, self.driven, attempt))
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
        return ""

    def _settle(self) -> None:
        """After a recovery: the plant may be earlier now than its last checkpoint."""
        self.stability_monitor.reset()
        self._last_checkpoint_s = min(self._last_checkpoint_s, self.driven.time_s)
        self._checkpoint_timer_s = min(self._checkpoint_timer_s, self.driven.time_s)


def _ignore(at_s: float, kind: str, data: Mapping[str, Any]) -> None:
    pass
