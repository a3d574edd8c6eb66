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
    from headway.safety.gate import SafetyGate
    from headway.safety.kernel import Rule
    from headway.safety.monitor import Fault
    from headway.safety.sources import ControlSource

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

# Loaded when they are first asked for, as the compiler of the rules takes 65 MB.
LATE = {
    "ControlSource": "sources",
    "Fault": "monitor",
    "ObservationCheck": "door",
    "Rule": "kernel",
    "SafetyGate": "gate",
}


def __getattr__(name: str) -> Any:
    if name in LATE:
        return getattr(importlib.import_module(f"headway.safety.{LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
