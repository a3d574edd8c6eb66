"""What Linux's /proc tells of processes. What cannot be read is missing: processes end at any time,
others belong to others.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_HZ = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
# fields of /proc/PID/stat after the name, see proc(5)
PPID, UTIME, STIME, THREADS, STARTED, RSS = 1, 11, 12, 17, 19, 21
LEAST_SPAN_S = 0.25  # between two readings from which a share of processor time is taken


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """One process. cpu_s: processor time since its start. key: pid and start, since numbers are
    used again.
    """

    parent: int
    threads: int
    memory_bytes: int
    cpu_s: float
    key: tuple[int, int]


def processes_in(proc: Path) -> dict[int, ProcessStat]:
    """All that run, by number."""
    if not proc.is_dir():
        return {}
    entries = [int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()]
    found = ((pid, process_stat(proc, pid)) for pid in entries)
    return {pid: stat for pid, stat in found if stat is not None}


def process_stat(proc: Path, pid: int) -> ProcessStat | None:
    """None for a process that has just ended."""
    text = text_of(proc / str(pid) / "stat")
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    if len(fields) <= RSS:
        return None
    return ProcessStat(
        parent=int(fields[PPID]),
        threads=int(fields[THREADS]),
        memory_bytes=int(fields[RSS]) * PAGE_BYTES,
        cpu_s=(int(fields[UTIME]) + int(fields[STIME])) / TICKS_HZ,
        key=(pid, int(fields[STARTED])),
    )


def text_of(path: Path) -> str:
    """Empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def numbers_of(path: Path) -> dict[str, float]:
    """Lines `name: number kB`."""
    found = {}
    for line in text_of(path).splitlines():
        name, separator, rest = line.partition(":")
        words = rest.split()
        if separator and words and words[0].isdecimal():
            found[name] = float(words[0])
    return found
