"""Where the wall time goes: named sections and counters over a window, on a monotonic clock."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import numpy as np


@dataclass(frozen=True, slots=True)
class SectionReport:
    """Wall seconds of one section over the window. calls: since the start; budget_use: 95th
    percentile / budget, 0 without one.
    """

    calls: int
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float
    budget_use: float


class Section:
    """`with` it around the work to be timed. One at a time: a section is not entered again before
    it was left.
    """

    __slots__ = ("_append", "_begun", "_clock", "budget_s", "calls", "window")

    def __init__(self, window: int, budget_s: float, clock: Callable[[], float]) -> None:
        self.window: deque[float] = deque(maxlen=window)
        self._append, self._clock = self.window.append, clock
        self.calls, self.budget_s = 0, budget_s

    def __enter__(self) -> None:
        self._begun = self._clock()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._append(self._clock() - self._begun)
        self.calls += 1


class _Off:
    """A section of a profiler that is switched off."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


OFF = _Off()


class PerformanceProfiler:
    """Sections by name, made once and then entered for half a microsecond a pair; switched off, all
    are one that does nothing.

    >>> profiler = PerformanceProfiler()
    >>> advance = profiler.section("advance", budget_s=0.02)
    >>> with advance:
    ...     pass
    >>> profiler.report()["advance"].calls
    1
    """

    def __init__(
        self, window: int = 1024, on: bool = True, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        if window < 1:
            raise ValueError(f"window: {window} is not allowed: at least 1 call.")
        self._window = window
        self.on = on
        self._clock = clock
        self._sections: dict[str, Section] = {}
        self._counters: dict[str, float] = {}

    def section(self, name: str, budget_s: float = 0.0) -> Section | _Off:
        """The section called `name`; the caller keeps it. A new budget replaces the one before."""
        if not self.on:
            return OFF
        if name not in self._sections:
            self._sections[name] = Section(self._window, budget_s, self._clock)
        elif budget_s:
            self._sections[name].budget_s = budget_s
        return self._sections[name]

    def count(self, name: str, more: float = 1.0) -> None:
        """Add to the counter called `name`."""
        if self.on:
            self._counters[name] = self._counters.get(name, 0.0) + more

    def report(self) -> dict[str, SectionReport]:
        """Of each section, by name."""
        reports = {}
        for name, section in list(self._sections.items()):
            seconds = np.array(list(section.window) or [0.0])
            p50, p95, p99 = np.percentile(seconds, (50, 95, 99))
            use = float(p95) / section.budget_s if section.budget_s else 0.0
            reports[name] = SectionReport(
                calls=section.calls,
                mean_s=float(seconds.mean()),
                p50_s=float(p50),
                p95_s=float(p95),
                p99_s=float(p99),
                max_s=float(seconds.max()),
                budget_use=use,
            )
        return reports

    def counters(self) -> dict[str, float]:
        """By name."""
        return dict(self._counters)

    def figures(self) -> dict[str, float]:
        """All of it flat, by dotted name, for the metrics."""
        flat = {f"counter.{name}": value for name, value in self._counters.items()}
        for name, report in self.report().items():
            flat |= {
                f"section.{name}.{field}": float(getattr(report, field))
                for field in SectionReport.__slots__
            }
        return flat
