"""What processes take that a story has started, as the kernel counts it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


def family(pid):
    """A process and all that its threads started."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [p for c in children.read_text().split() for p in family(int(c))]
    return found


def resident_kb(pid):
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def cpu_s(pid):
    """Processor time of a process so far, seconds; 0 once it has ended."""
    with contextlib.suppress(OSError):
        of = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return TICK_S * (int(of[11]) + int(of[12]))
    return 0.0
