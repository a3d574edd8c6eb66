"""Figures of the machine and of this program's processes, from Linux's /proc. What a machine does
not tell is None.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headway.telemetry.proc import (
    LEAST_SPAN_S,
    TICKS_HZ,
    ProcessStat,
    numbers_of,
    processes_in,
    text_of,
)

BUSY_FIELDS = 8  # user to steal, of the line `cpu` of /proc/stat; guests are in user already
IDLE, IOWAIT = 3, 4

Figures = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class _Reading:
    """at_s: monotonic. busy_s, total_s: processor time of the machine. own_s: of this program's
    processes, by (pid, start).
    """

    at_s: float
    busy_s: float
    total_s: float
    own_s: dict[tuple[int, int], float]


class Machine:
    """Reads the figures. Shares of processor time are of the time since the reading before.

    folder: whose disk is measured. pid: of this program; its descendants count as its own.
    """

    def __init__(
        self,
        folder: Path,
        proc: Path = Path("/proc"),
        pid: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._proc = proc
        self._pid = pid or os.getpid()
        self._clock = clock
        self._last: _Reading | None = None
        self._shares: Figures = {"cpu_share": None, "headway_cpu_share": None}

    def figures(self) -> Figures:
        """cpu_share, memory_share and disk_share: 0 to 1, of all processors, memory and disk.
        headway_...: of this program's processes together.
        """
        own = self._own()
        self._update_shares(own)
        memory = self._memory()
        disk = shutil.disk_usage(self._folder)
        return {
            **self._shares,
            "load_1m": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "processors": float(os.cpu_count() or 1),
            **memory,
            "disk_free_bytes": float(disk.free),
            "disk_share": disk.used / max(disk.total, 1),
            "headway_memory_bytes": self._own_memory_bytes(own),
            "headway_processes": float(len(own)) or None,
        }

    def _update_shares(self, own: Mapping[int, ProcessStat]) -> None:
        now = self._read(own)
        if now is None:
            return
        last = self._last
        if last is not None and now.at_s - last.at_s < LEAST_SPAN_S:
            return
        self._last = now
        if last is None:
            return
        total_s = now.total_s - last.total_s
        own_s = sum(s - last.own_s.get(key, 0.0) for key, s in now.own_s.items())
        processor_s = (now.at_s - last.at_s) * (os.cpu_count() or 1)
        self._shares = {
            "cpu_share": _share(now.busy_s - last.busy_s, total_s),
            "headway_cpu_share": _share(own_s, processor_s),
        }

    def _read(self, own: Mapping[int, ProcessStat]) -> _Reading | None:
        text = text_of(self._proc / "stat")
        if not text.startswith("cpu "):
            return None
        times_s = [int(v) / TICKS_HZ for v in text.splitlines()[0].split()[1 : 1 + BUSY_FIELDS]]
        total_s = sum(times_s)
        own_s = {stat.key: stat.cpu_s for stat in own.values()}
        busy_s = total_s - times_s[IDLE] - times_s[IOWAIT]
        return _Reading(self._clock(), busy_s, total_s, own_s)

    def _own(self) -> dict[int, ProcessStat]:
        """This program's process and its descendants."""
        running = processes_in(self._proc)
        children: dict[int, list[int]] = {}
        for pid, stat in running.items():
            children.setdefault(stat.parent, []).append(pid)
        own, waiting = dict[int, ProcessStat](), [self._pid]
        while waiting:
            pid = waiting.pop()
            if pid in running and pid not in own:
                own[pid] = running[pid]
                waiting += children.pop(pid, [])
        return own

    def _own_memory_bytes(self, pids: Iterable[int]) -> float | None:
        """What is resident, shared pages by their share; without that figure all of it."""
        total_kb = 0.0
        for pid in pids:
            rollup = numbers_of(self._proc / str(pid) / "smaps_rollup")
            status = numbers_of(self._proc / str(pid) / "status") if "Pss" not in rollup else {}
            total_kb += rollup.get("Pss", status.get("VmRSS", 0.0))
        return total_kb * 1024.0 or None

    def _memory(self) -> Figures:
        found = numbers_of(self._proc / "meminfo")
        total, available = found.get("MemTotal"), found.get("MemAvailable")
        if not total or available is None:
            return dict.fromkeys(("memory_bytes", "memory_total_bytes", "memory_share"))
        return {
            "memory_bytes": (total - available) * 1024.0,
            "memory_total_bytes": total * 1024.0,
            "memory_share": (total - available) / total,
        }


def _share(part: float, whole: float) -> float | None:
    return min(max(part / whole, 0.0), 1.0) if whole > 0.0 else None
