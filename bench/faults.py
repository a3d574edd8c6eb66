"""Faults, injected by a seed: each must be recovered from or end in a safe stop with its reason;
none may pass in silence.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from headway.plants.kpp import KppSettings
from headway.plants.kpp.kernel import AIR, V
from headway.plants.kpp.run import KppRun, runtime_settings
from headway.runtime import ErrorRecoverySystem, RealTimeController, StepBounds, StoppedError
from headway.runtime.supervisor import Restarted
from headway.settings import Settings, overridden
from headway.street.engine import Engine
from headway.street.messages import RunEnded, Snapshot, Task

RECOVERED = "recovered"
STOPPED = "stopped with its reason"
SILENT = "SILENT"


class Clock:
    """A clock of the bench's own, that can be made to jump."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Faulty(KppRun):
    """A KPP that fails on request."""

    fails, full = 0, False

    def advance(self, period_s: float, shortest_s: float) -> None:
        if self.fails > 0:
            self.fails -= 1
            super().advance(0.3 * period_s, shortest_s)
            raise FloatingPointError("the right-hand side raised")
        super().advance(period_s, shortest_s)

    def checkpoint(self) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().checkpoint()


def kpp_fault(kind: str, random: np.random.Generator, folder: Path) -> str:
    """Inject one fault into a KPP in real time by a clock of our own; what became of it."""
    shutil.rmtree(folder, ignore_errors=True)
    clock, told = Clock(), list[tuple[str, dict[str, object]]]()
    bounds = StepBounds()
    run = Faulty(KppSettings(h3=bool(random.integers(2))), bounds, folder=folder)
    recovery = ErrorRecoverySystem(clock=clock)
    loop = RealTimeController(
        run,
        runtime_settings(1.0, "accuracy", 1.0, bounds),
        lambda at_s, kind, data: told.append((kind, dict(data))),
        recovery,
        clock,
        clock.sleep,
    )
    lazy = loop.streams.subscribe("lazy", 20.0, size=4)
    begin = float(random.uniform(1.5, 4.0))
    try:
        loop.run(begin)
        before = clock.now
        if kind == "nan":
            where = random.choice(
                [V, V + 1, AIR + int(random.integers(66)), AIR + 66 + int(random.integers(66))]
            )
            run.plant.vector[where] = random.choice([np.nan, np.inf, -np.inf])
        elif kind == "exception":
            run.fails = int(random.integers(1, 6))
        elif kind == "disk":
            run.full = True
        elif kind == "clock":
            clock.now += float(random.choice([-1.0, 1.0]) * random.uniform(5.0, 1e5))
        loop.run(begin + 3.0)
        run.full = False
        loop.run(begin + 5.0)
    except StoppedError as stopped:
        return STOPPED if str(stopped) and any(k == "runtime.fault" for k, _ in told) else SILENT
    finally:
        loop.close()
    m = run.plant.observe()
    sound = (
        np.isfinite(run.plant.vector).all()
        and m.ledger_residual < 1e-3
        and run.time_s >= begin + 5.0 - 1e-9
    )
    seen = {
        "nan": any(k == "runtime.fault" for k, _ in told),
        "exception": any(k == "runtime.fault" for k, _ in told),
        "disk": any(k == "runtime.checkpoint_failed" for k, _ in told),
        "clock": loop.pacer.overruns > 0 or clock.now < before + 100.0,
        "subscriber": lazy.delivery.dropped > 0,
    }[kind]  # fmt: skip
    return RECOVERED if sound and seen else SILENT


def street_killed(random: np.random.Generator, folder: Path) -> str:
    """Kill the street process of a running street at a moment by chance."""
    settings = overridden(
        Settings(),
        {
            "street": {"scenario": "cologne1", "timing": "benchmark"},
            "recovery": {"folder": str(folder), "checkpoint_s": 20.0},
            "loop": {"speed_factor": 300.0},
        },
    )
    engine = Engine(Task(settings, 25200.0 + 900.0))  # 2.4 s at least are left after the kill
    at_s = 25200.0 + float(random.uniform(30, 180))
    killed = False
    restarted = False
    last = 0.0
    for message in engine.messages():
        if isinstance(message, Snapshot):
            last = message.time_s
            if not killed and last >= at_s and engine.pid:
                killed = True
                os.kill(engine.pid, signal.SIGKILL)
        elif isinstance(message, Restarted):
            restarted = message.recovery_s < 30.0
        elif isinstance(message, RunEnded):
            return RECOVERED if message.finished and restarted else SILENT
    return SILENT


def faults(
    count: int = 1000, streets: int = 20, seed: int = 1, tell: Callable[[str], None] = print
) -> Counter[tuple[str, str]]:
    """1,000 seeded faults (NaN in the state, exceptions, stalled subscriber, full disk, clock jump,
    killed SUMO worker): none silent.
    """
    random = np.random.default_rng(seed)
    tally = Counter[tuple[str, str]]()
    begun = time.perf_counter()
    with TemporaryDirectory() as folder:
        for _ in range(count - streets):
            kind = str(random.choice(["nan", "exception", "disk", "clock", "subscriber"]))
            tally[kind, kpp_fault(kind, random, Path(folder) / "kpp")] += 1
        for k in range(streets):
            tally["killed street process", street_killed(random, Path(folder) / f"street{k}")] += 1
    for (kind, end), n in sorted(tally.items()):
        tell(f"{kind:22s} {end:24s} {n:5d}")
    tell(
        f"{count} faults in {time.perf_counter() - begun:.0f} s, silent: "
        f"{sum(n for (_, end), n in tally.items() if end == SILENT)}"
    )
    return tally
