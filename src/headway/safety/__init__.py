"""The rules, and nothing else."""

from headway.safety.gate import SafetyGate
from headway.safety.kernel import Rule

__all__ = ["Rule", "SafetyGate"]
