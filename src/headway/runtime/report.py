"""The status report: the whole real-time loop at one moment, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

from headway.runtime.monitor import Alert, AlertRule
from headway.runtime.pacing import Pacing
from headway.runtime.profiler import SectionReport
from headway.runtime.stability import Stability
from headway.runtime.streams import StreamStatus

RECENT = 20  # closed alerts, and attempts of recovery, in a report


@dataclass(frozen=True, slots=True)
class TimestepStatus:
    """Seconds of plant time. floor_s: the shortest step of the moment. batch: periods gathered in
    one tick, as fast as possible.
    """

    shortest_s: float
    longest_s: float
    rtol: float
    atol: float
    floor_s: float
    batch: int


@dataclass(frozen=True, slots=True)
class RateStatus:
    """Rates are per wall second, as of `RealTimeOptimizer`. fps: ticks as counted over the last two
    seconds; None before the second one. speed_factor: plant seconds per wall second, 0 as fast
    as possible. load: share of the granted wall time that the last tick used.
    """

    mode: str
    chosen_mode: str
    mode_switches: int
    target_hz: float
    tick_hz: float
    stream_hz: float
    fps: float | None
    period_s: float
    speed_factor: float
    load: float
    pacing: Pacing


@dataclass(frozen=True, slots=True)
class AlertStatus:
    """closed: the last RECENT of those kept."""

    rules: tuple[AlertRule, ...]
    open: tuple[Alert, ...]
    closed: tuple[Alert, ...]


@dataclass(frozen=True, slots=True)
class StrategyStatus:
    """worked: of those attempts that are decided."""

    tried: int
    worked: int


@dataclass(frozen=True, slots=True)
class AttemptStatus:
    """ago_s: wall time. worked: None while it is not known."""

    ago_s: float
    error: str
    strategy: str
    worked: bool | None


@dataclass(frozen=True, slots=True)
class RecoveryStatus:
    """faults: since the start. strategies: by label. plans: labels by class of error."""

    faults: int
    strategies: Mapping[str, StrategyStatus]
    recent: tuple[AttemptStatus, ...]
    plans: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class StatusReport:
    """The real-time loop at one moment.

    at_s:        plant time; wall_s: wall time since the loop was made.
    stopped:     why it stopped; empty while it did not.
    sections, counters: as of `PerformanceProfiler`.
    checkpoint_s: plant time of the last checkpoint, of the start before the first.
    plant:       its state; None where that could not be read, which `plant_fault` explains.
    """

    at_s: float
    wall_s: float
    stopped: str
    rates: RateStatus
    timestep: TimestepStatus
    stability: Stability
    sections: Mapping[str, SectionReport]
    counters: Mapping[str, float]
    streams: StreamStatus
    alerts: AlertStatus
    recovery: RecoveryStatus
    checkpoint_s: float
    plant: Mapping[str, Any] | None
    plant_fault: str = ""

    def as_json(self) -> dict[str, Any]:
        """As values of JSON; a number that is not finite is None."""
        found: dict[str, Any] = plain(self)
        return found


def plain(value: Any) -> Any:
    """As values of JSON.

    >>> plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    match value:
        case None | bool() | str():
            return value
        case Enum():
            return value.name.lower()
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case Mapping():
            return {str(key): plain(one) for key, one in value.items()}
        case np.ndarray() | np.generic():
            return plain(value.tolist())
        case list() | tuple() | set() | frozenset():
            return [plain(one) for one in value]
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    return str(value)
