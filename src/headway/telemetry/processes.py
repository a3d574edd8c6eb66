"""Memory and processor time of the parts of this program, each a process with its children, from
Linux's /proc. What cannot be read is missing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

TICKS_HZ = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PPID, UTIME, STIME, THREADS, STARTED, RSS = 1, 11, 12, 17, 19, 21  # of /proc/PID/stat, see proc(5)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
LEAST_SPAN_S = 0.25  # between two readings from which a share of processor time is taken


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """A part of the program. cpu_seconds: since its processes started; cpu_share: of one processor,
    since the reading before (above 1 with several threads); None at the first.
    """

    name: str
    pid: int
    processes: int
    threads: int
    memory_bytes: int
    cpu_seconds: float
    cpu_share: float | None


@dataclass(frozen=True, slots=True)
class _Stat:
    parent: int
    threads: int
    memory_bytes: int
    cpu_s: float
    key: tuple[int, int]  # pid and start: numbers are used again


class Processes:
    """Reads the figures. named: the process number of each part, by its name, asked each time.

    A child that has no name of its own counts to its parent.
    """

    def __init__(
        self,
        named: Callable[[], Mapping[str, int]],
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._named = named
        self._proc = proc
        self._clock = clock
        self._read_s = -LEAST_SPAN_S
        self._cpu_s: dict[tuple[int, int], float] = {}
        self._shares: dict[str, float] = {}

    def figures(self) -> list[ProcessFigures]:
        """By name, in the order of `named`; without parts that do not run."""
        stats = self._stats()
        named = {name: pid for name, pid in self._named().items() if pid in stats}
        members = _members(stats, named)
        self._update_shares(stats, members)
        return [
            ProcessFigures(
                name=name,
                pid=pid,
                processes=len(members[name]),
                threads=sum(stats[p].threads for p in members[name]),
                memory_bytes=sum(stats[p].memory_bytes for p in members[name]),
                cpu_seconds=round(sum(stats[p].cpu_s for p in members[name]), 3),
                cpu_share=self._shares.get(name),
            )
            for name, pid in named.items()
        ]

    def _update_shares(self, stats: Mapping[int, _Stat], members: Mapping[str, list[int]]) -> None:
        """Time of a process that was not there at the reading before counts as it is."""
        now, before = self._clock(), self._cpu_s
        span_s = now - self._read_s
        if span_s < LEAST_SPAN_S:
            return
        if before:
            self._shares = {
                name: sum(stats[p].cpu_s - before.get(stats[p].key, 0.0) for p in pids) / span_s
                for name, pids in members.items()
            }
        self._read_s = now
        self._cpu_s = {s.key: s.cpu_s for s in stats.values()}

    def _stats(self) -> dict[int, _Stat]:
        if not self._proc.is_dir():
            return {}
        entries = [int(e.name) for e in self._proc.iterdir() if e.name.isdecimal()]
        found = ((pid, self._stat(pid)) for pid in entries)
        return {pid: stat for pid, stat in found if stat is not None}

    def _stat(self, pid: int) -> _Stat | None:
        """None for a process that has just ended."""
        try:
            text = (self._proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()  # the name before it may hold anything
        if len(fields) <= RSS:
            return None
        return _Stat(
            parent=int(fields[PPID]),
            threads=int(fields[THREADS]),
            memory_bytes=int(fields[RSS]) * PAGE_BYTES,
            cpu_s=(int(fields[UTIME]) + int(fields[STIME])) / TICKS_HZ,
            key=(pid, int(fields[STARTED])),
        )


def _members(stats: Mapping[int, _Stat], named: Mapping[str, int]) -> dict[str, list[int]]:
    """The processes of each part: itself, and descendants down to the next part."""
    names = {pid: name for name, pid in named.items()}
    members: dict[str, list[int]] = {name: [] for name in named}
    for pid in stats:
        at, passed = pid, set[int]()
        while at in stats and at not in names and at not in passed:
            passed.add(at)
            at = stats[at].parent
        if at in names:
            members[names[at]].append(pid)
    return members
