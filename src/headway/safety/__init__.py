"""The rules, and nothing else: an independent gate and conflict monitor, priority, override. It
checks all that it is given.
"""

from headway.safety.command import Command
from headway.safety.gate import ControlSource, SafetyGate
from headway.safety.kernel import Rule
from headway.safety.override import Order, Override

__all__ = ["Command", "ControlSource", "Order", "Override", "Rule", "SafetyGate"]
