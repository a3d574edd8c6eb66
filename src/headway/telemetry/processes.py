"""Memory and processor time of the parts of this program, each a process with its children, from
Linux's /proc. What cannot be read is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headway.telemetry.proc import LEAST_SPAN_S, ProcessStat, processes_in


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
        stats = processes_in(self._proc)
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

    def _update_shares(
        self, stats: Mapping[int, ProcessStat], members: Mapping[str, list[int]]
    ) -> None:
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


def _members(stats: Mapping[int, ProcessStat], named: Mapping[str, int]) -> dict[str, list[int]]:
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
