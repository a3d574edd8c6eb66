"""Figures of the machine and of this program's processes, from Linux's /proc. What a machine does
not tell is None.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

LEAST_SPAN_S = 0.25  # between two readings from which a share of processor time is taken
TICKS_HZ = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PPID, UTIME, STIME, STARTED = 1, 11, 12, 19  # fields of /proc/PID/stat after the name
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
        pids = list(self._own_pids())
        self._update_shares(pids)
        memory = self._memory()
        disk = shutil.disk_usage(self._folder)
        return {
            **self._shares,
            "load_1m": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "processors": float(os.cpu_count() or 1),
            **memory,
            "disk_free_bytes": float(disk.free),
            "disk_share": disk.used / max(disk.total, 1),
            "headway_memory_bytes": self._own_memory_bytes(pids),
            "headway_processes": float(len(pids)) or None,
        }

    def _update_shares(self, pids: list[int]) -> None:
        now = self._read(pids)
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

    def _read(self, pids: list[int]) -> _Reading | None:
        text = _text(self._proc / "stat")
        if not text.startswith("cpu "):
            return None
        times_s = [int(v) / TICKS_HZ for v in text.splitlines()[0].split()[1 : 1 + BUSY_FIELDS]]
        total_s = sum(times_s)
        own_s = {}
        for pid in pids:
            fields = self._stat(pid)
            if fields:
                used = (int(fields[UTIME]) + int(fields[STIME])) / TICKS_HZ
                own_s[pid, int(fields[STARTED])] = used
        busy_s = total_s - times_s[IDLE] - times_s[IOWAIT]
        return _Reading(self._clock(), busy_s, total_s, own_s)

    def _stat(self, pid: int) -> list[str]:
        """Fields after the process's name, which may hold anything."""
        return _text(self._proc / str(pid) / "stat").rpartition(")")[2].split()

    def _own_pids(self) -> Iterator[int]:
        children: dict[int, list[int]] = {}
        if not self._proc.is_dir():
            return
        for entry in self._proc.iterdir():
            if entry.name.isdecimal() and (fields := self._stat(int(entry.name))):
                children.setdefault(int(fields[PPID]), []).append(int(entry.name))
        waiting = [self._pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            waiting += children.pop(pid, [])

    def _own_memory_bytes(self, pids: list[int]) -> float | None:
        """What is resident, shared pages by their share; without that figure all of it."""
        total_kb = 0.0
        for pid in pids:
            rollup = _numbers(self._proc / str(pid) / "smaps_rollup")
            status = _numbers(self._proc / str(pid) / "status") if "Pss" not in rollup else {}
            total_kb += rollup.get("Pss", status.get("VmRSS", 0.0))
        return total_kb * 1024.0 or None

    def _memory(self) -> Figures:
        found = _numbers(self._proc / "meminfo")
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


def _text(path: Path) -> str:
    """Empty where it cannot be read: processes end at any time, others belong to others."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _numbers(path: Path) -> dict[str, float]:
    """Lines `name: number kB`."""
    found = {}
    for line in _text(path).splitlines():
        name, separator, rest = line.partition(":")
        words = rest.split()
        if separator and words and words[0].isdecimal():
            found[name] = float(words[0])
    return found
