"""The runtime and the power plant on it: how fast, how exact, how evenly, and what watching
costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from scipy.integrate import solve_ivp

from headway.plants.kpp import KppPlant, KppSettings, kernel
from headway.plants.kpp.kernel import AIR, S, V, W
from headway.plants.kpp.run import KppRun, runtime_settings
from headway.runtime import AlertRule, PerformanceProfiler, RealTimeController, StepBounds

RULES = (
    AlertRule("fast", "floaters.v_chain", ">", 100.0),
    AlertRule("ledger", "ledger_residual", ">", 0.5),
    AlertRule("energy", "energy_j.*", ">", 1e15),
)

Slope = Callable[[float, np.ndarray], np.ndarray]
Events = tuple[Callable[[float, np.ndarray], float], ...]


def looped(
    seconds: float,
    watch: bool,
    speed_factor: float = 0.0,
    subscribers: int = 3,
    gather: bool = True,
) -> tuple[RealTimeController, float]:
    """A KPP on the loop for `seconds` of plant time; the loop, and the wall time that it took."""
    run, bounds = KppRun(KppSettings(), StepBounds()), StepBounds()
    run.plant.advance(1.0)
    loop = RealTimeController(
        run,
        runtime_settings(
            speed_factor,
            "balanced",
            0.0,
            bounds,
            rules=RULES if watch else (),
            watch=watch,
            gather=gather,
        ),
    )
    for k in range(subscribers if watch else 0):
        loop.streams.subscribe(f"s{k}", 20.0, size=16)
    begun = time.perf_counter()
    loop.run(run.time_s + seconds)
    wall = time.perf_counter() - begun
    loop.close()
    return loop, wall


def speed() -> None:
    """Steps of the KPP (66 floaters, balanced, streams and monitor on) a second of wall time; to
    reach: 100,000.
    """
    rates = []
    for _ in range(5):
        loop, wall = looped(3000.0, True)
        run = loop.driven
        assert isinstance(run, KppRun)
        rates.append(run.plant.steps / wall)
    print(f"{np.median(rates):,.0f} steps/s (median of 5; {min(rates):,.0f} to {max(rates):,.0f})")


def watching() -> None:
    """Loop time with all monitoring on / off; to reach: below 1.03. And the cost of one section of
    the profiler.
    """
    pairs = np.array(
        [
            [looped(6000.0, watch)[1] for watch in order][:: 1 if order[0] else -1]
            for order in ((True, False), (False, True)) * 8
        ]
    )
    ratios = pairs[:, 0] / pairs[:, 1]
    print(
        f"as fast as possible, on / off: {np.median(ratios):.3f} (median of {len(ratios)} "
        "pairs, in turns first; of the shortest "
        f"{pairs[:, 0].min() / pairs[:, 1].min():.3f})"
    )
    for on in (True, False):
        section = PerformanceProfiler(on=on).section("x")
        begun = time.perf_counter()
        for _ in range(200_000):
            with section:
                pass
        print(
            f"a section pair, profiler {'on ' if on else 'off'}: "
            f"{(time.perf_counter() - begun) / 200_000 * 1e6:.2f} us"
        )


def realtime(seconds: float = 600.0) -> None:
    """Ten minutes in real time at 15 Hz with 100 subscribers at 20 Hz; to reach: no drift, no
    missed deadline, p99 jitter below 2 ms.
    """
    loop, wall = looped(seconds, True, 1.0, 100)
    report = loop.pacer.report()
    print(
        f"{report.ticks} ticks in {wall:.3f} s for {seconds:.0f} s: "
        f"missed {report.overruns}, schedule moved by {report.drift_s} s, "
        f"jitter p50 {report.jitter_p50_s * 1e3:.3f} ms, p99 "
        f"{report.jitter_p99_s * 1e3:.3f} ms; a tick takes "
        f"{loop.profiler.report()['advance'].p99_s * 1e3:.2f} + "
        f"{loop.profiler.report()['watch'].p99_s * 1e3:.2f} ms at p99 of "
        f"{loop.pacer.granted_s * 1e3:.0f}"
    )


def precision() -> None:
    """Work-precision on one right-hand side: CPU time of ours / of SciPy's best explicit method at
    the same error or less; to reach: 1.
    """
    plant = KppPlant(KppSettings(), StepBounds(1e-9, 0.05, 1e-10, 1e-12))
    plant.advance(1.0)
    state, span = plant.state(), 4.0
    truth = reference(state, span)
    ours, theirs = [], []
    for rtol in 10.0 ** -np.arange(2.0, 9.5, 0.5):
        ours.append(
            (f"ours rtol {rtol:.0e}", *measured(lambda rtol=rtol: by_us(state, span, rtol), truth))
        )
        for method in ("RK23", "RK45", "DOP853"):
            theirs.append(
                (
                    f"{method} rtol {rtol:.0e}",
                    *measured(
                        lambda rtol=rtol, method=method: by_scipy(state, span, rtol, method),
                        truth,
                        1,
                    ),
                )
            )
    for goal in (1e-4, 1e-6):
        best = [
            min((row for row in rows if row[1] <= goal), key=lambda row: row[2], default=None)
            for rows in (ours, theirs)
        ]
        if best[0] is None or best[1] is None:
            print(f"error {goal:g}: not reached by {'ours' if best[0] is None else 'SciPy'}")
            continue
        print(
            f"error {goal:g}: {best[0][0]} {best[0][2] * 1e3:.2f} ms (error "
            f"{best[0][1]:.1e}), SciPy's best {best[1][0]} {best[1][2] * 1e3:.2f} ms "
            f"(error {best[1][1]:.1e}), ratio {best[0][2] / best[1][2]:.3f}"
        )


def measured(
    solve: Callable[[], np.ndarray], truth: np.ndarray, times: int = 5
) -> tuple[float, float]:
    """(largest error relative to `truth` of chain, flywheel and air, CPU seconds: the least of
    `times`).
    """
    spent = []
    found = solve()
    for _ in range(times):
        begun = time.process_time()
        found = solve()
        spent.append(time.process_time() - begun)
    return float(np.abs((found - truth) / np.maximum(np.abs(truth), 1e-3)).max()), max(
        min(spent), 1e-7
    )


def picked(y: np.ndarray) -> np.ndarray:
    return np.concatenate([y[[S, V, W]], [y[AIR + 66 :].sum()]])


def by_us(state: dict, span: float, rtol: float) -> np.ndarray:
    plant = KppPlant(KppSettings(), StepBounds(1e-9, 0.2, rtol, 0.01 * rtol))
    plant.resume(state)
    plant.next_step_s = 0.02
    plant.advance(span)
    return picked(plant.vector)


def reference(state: dict, span: float) -> np.ndarray:
    return by_scipy(state, span, 1e-12, "DOP853")


def by_scipy(state: dict, span: float, rtol: float, method: str) -> np.ndarray:
    """The same equations and the same events by `solve_ivp`, which stops at each event."""
    plant = KppPlant(KppSettings(), StepBounds())
    plant.resume(state)
    y, machine = plant.vector, plant.machine
    slope, events = equations(machine, y)
    t, atol = 0.0, tolerances(len(y), machine, 0.01 * rtol)
    while t < span - 1e-12:
        target, closes = next_closing(t, y, machine, span)
        done = solve_ivp(
            slope,
            (t, target),
            y,
            method=method,
            rtol=rtol,
            atol=atol,
            events=events,
            max_step=0.2,
        )
        t, y = float(done.t[-1]), done.y[:, -1].copy()
        if done.status == 1:
            take_place(next(k for k in range(3) if len(done.t_events[k])), y, machine)
        elif closes >= 0 and t >= target - 1e-12:
            machine.valve[closes], y[AIR + closes] = 0.0, machine.c.air
    return picked(y)


def tolerances(length: int, machine: kernel.Machine, atol: float) -> np.ndarray:
    """Absolute tolerance of each value: as the plant's own, and none for the ledger."""
    found = np.full(length, atol)
    found[W] = atol * machine.c.ratio
    found[3:AIR] = 1e9
    found[AIR + 66 :] = atol * machine.c.air * machine.c.water
    return found


def next_closing(t: float, y: np.ndarray, machine: kernel.Machine, end: float) -> tuple[float, int]:
    """When the next valve closes, and which; the end and -1 if none does before it."""
    target, closes = end, -1
    for i in np.flatnonzero(machine.valve):
        at = t + (machine.c.air - y[AIR + i]) / machine.c.flow
        if at < target:
            target, closes = at, int(i)
    return target, closes


def equations(machine: kernel.Machine, y: np.ndarray) -> tuple[Slope, Events]:
    """The slopes, and the events that end an integration: a floater at the foot, one at the head,
    the clutch.
    """
    d, c, out = machine.d, machine.c, np.zeros_like(y)

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        kernel.rhs(y, out, machine)
        return out.copy()

    def foot(t: float, y: np.ndarray) -> float:
        return y[S] - d[kernel.NEXT_IN]

    def head(t: float, y: np.ndarray) -> float:
        return y[S] - d[kernel.NEXT_OUT]

    def clutch(t: float, y: np.ndarray) -> float:
        if d[kernel.ENGAGED] > 0.0:
            return -kernel.rhs(y, out, machine)
        return kernel.slip(y, c)

    for event in (foot, head, clutch):
        event.terminal, event.direction = True, 1.0
    return slope, (foot, head, clutch)


def take_place(which: int, y: np.ndarray, machine: kernel.Machine) -> None:
    """The event number `which` of `equations`."""
    d = machine.d
    if which < 2:
        y[S] = d[kernel.NEXT_IN] if which == 0 else d[kernel.NEXT_OUT]
        kernel.happen(
            (kernel.FOOT, kernel.HEAD)[which],
            int(d[(kernel.WHICH_IN, kernel.WHICH_OUT)[which]]),
            y,
            machine,
        )
    else:
        clutch = kernel.OVERRUN if d[kernel.ENGAGED] > 0.0 else kernel.ENGAGE
        kernel.happen(clutch, -1, y, machine)
