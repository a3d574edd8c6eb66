"""The real-time loop that advances any plant, and its supervision. It knows nothing of traffic."""

from headway.runtime.controller import (
    LOOP_FIGURES,
    RealTimeController,
    RuntimeSettings,
    StoppedError,
)
from headway.runtime.driven import Driven
from headway.runtime.modes import MODES, RealTimeOptimizer
from headway.runtime.monitor import Alert, AlertRule, Level, RealTimeMonitor
from headway.runtime.pacing import Pacer, Pacing
from headway.runtime.profiler import PerformanceProfiler
from headway.runtime.recovery import ErrorRecoverySystem, Fault, Strategy, UserStrategy
from headway.runtime.report import StatusReport
from headway.runtime.stability import FigureLimits, NumericalStabilityMonitor
from headway.runtime.streams import DataStreamManager, Policy
from headway.runtime.supervisor import Supervisor, WorkerError
from headway.runtime.timestep import AdaptiveTimestepper, StepBounds

__all__ = [
    "LOOP_FIGURES",
    "MODES",
    "AdaptiveTimestepper",
    "Alert",
    "AlertRule",
    "DataStreamManager",
    "Driven",
    "ErrorRecoverySystem",
    "Fault",
    "FigureLimits",
    "Level",
    "NumericalStabilityMonitor",
    "Pacer",
    "Pacing",
    "PerformanceProfiler",
    "Policy",
    "RealTimeController",
    "RealTimeMonitor",
    "RealTimeOptimizer",
    "RuntimeSettings",
    "StatusReport",
    "StepBounds",
    "StoppedError",
    "Strategy",
    "Supervisor",
    "UserStrategy",
    "WorkerError",
]
