"""The rules, and nothing else: an independent gate and conflict monitor, priority, override. It
checks all that it is given.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from headway.safety.command import Command
from headway.safety.override import Order, Override

if TYPE_CHECKING:
    from headway.safety.door import ObservationCheck
    from headway.safety.gate import ControlSource, SafetyGate
    from headway.safety.kernel import Rule
    from headway.safety.monitor import Fault

__all__ = [
    "Command",
    "ControlSource",
    "Fault",
    "ObservationCheck",
    "Order",
    "Override",
    "Rule",
    "SafetyGate",
]


def __getattr__(name: str) -> Any:
    """The gate is loaded when it is first asked for, as its compiler takes 65 MB."""
    if name in __all__:
        return getattr(importlib.import_module("headway.safety.gate"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
