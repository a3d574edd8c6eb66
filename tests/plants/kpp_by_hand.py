"""The power plant a second time, from docs/kpp.md:
one floater at a time, by temperature and mass, with SciPy as integrator.

Shares no formula with the kernel: air is kept as mass and temperature, volumes change by the
product rule, events are SciPy's.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from headway.plants.kpp import KppSettings, kernel
from headway.plants.kpp.kernel import AIR, S, V, W

GAS = 287.05
HEAT_CAPACITY = 1004.7
WATER = 998.2
STEEL = 7850.0
GRAVITY = 9.80665
ATMOSPHERE = 101_325.0
LEDGER = (
    "compressor", "bubbles", "heat", "electrical", "generator", "drag", "gear", "windage",
    "expelled", "spilled", "vented", "intake", "clutch",
    "rejected",
)  # fmt: skip


def machine(settings: KppSettings) -> SimpleNamespace:
    """The arrays that the kernel works on, all nought, with the clutch open and no event ahead."""
    n = settings.floaters
    speeds, torques = settings.generator()
    m = SimpleNamespace(c=settings.constants(), speeds=speeds, torques=torques, n=n)
    m.y = np.zeros(AIR + 2 * n)
    m.d = np.zeros(kernel.AIR_ON + 1)
    m.valve = np.zeros(n)
    m.full = np.zeros(n)
    m.count = np.zeros(kernel.STATUS + 1)
    m.d[[kernel.NEXT_IN, kernel.NEXT_OUT, kernel.SWITCH]] = 1e9
    m.k, m.new, m.mid = np.zeros((8, len(m.y))), np.zeros(len(m.y)), np.zeros(len(m.y))
    return m


def compiled(m: SimpleNamespace) -> kernel.Machine:
    """As the kernel takes it; the arrays are shared."""
    return kernel.Machine(
        d=m.d, valve=m.valve, full=m.full, c=m.c, speeds=m.speeds, torques=m.torques
    )


def scratch(m: SimpleNamespace) -> kernel.Scratch:
    return kernel.Scratch(k=m.k, new=m.new, mid=m.mid)


def place(m: SimpleNamespace, floater: int, kg: float, kelvin: float) -> None:
    m.y[AIR + floater], m.y[AIR + m.n + floater] = kg, kg * kelvin


def height_m(c, s: float, i: int) -> float:
    """Way of floater i past the foot of the straight way up."""
    return (s + i * c.spacing - c.x_in) % c.loop


def water_pa(c, s: float, i: int) -> float:
    at_head = c.p_in - c.weight * (c.x_out - c.x_in)
    return max(c.p_in - c.weight * height_m(c, s, i), 0.9 * at_head)


def air_m3(c, y, i: int) -> float:
    return GAS * y[AIR + c.n + i] / water_pa(c, y[S], i)


def moving_kg(c, y) -> float:
    return c.inertia - WATER * sum(air_m3(c, y, i) for i in range(c.n))


def energy_j(c, y) -> float:
    """Of motion, and of the air by how much warmer than the water it is."""
    warm = sum(HEAT_CAPACITY * (y[AIR + c.n + i] - y[AIR + i] * c.water) for i in range(c.n))
    return moving_kg(c, y) * y[V] ** 2 / 2 + c.flywheel * y[W] ** 2 / 2 + warm


def generator_nm(m: SimpleNamespace, w: float) -> float:
    """Torque by the map, level beyond its ends."""
    at, torque = list(m.speeds), list(m.torques)
    if w <= at[0]:
        return torque[0]
    for a, b, low, high in zip(at, at[1:], torque, torque[1:], strict=False):
        if w < b:
            return low + (high - low) * (w - a) / (b - a)
    return torque[-1]


def slopes(m: SimpleNamespace, y, d=None, valve=None, full=None) -> tuple[np.ndarray, float]:
    """(dy/dt, torque that the clutch carries)."""
    c, d = m.c, m.d if d is None else d
    valve, full = m.valve if valve is None else valve, m.full if full is None else full
    s, v, w = y[S], y[V], y[W]
    out, ledger = np.zeros(len(y)), dict.fromkeys(LEDGER, 0.0)
    held = swelling = 0.0  # m3, m3/s
    for i in range(c.n):
        kg, p = y[AIR + i], water_pa(c, s, i)
        dp = -c.weight * v
        inflow = c.flow if valve[i] else 0.0
        if kg <= 0.0:  # nothing but what flows in
            out[AIR + i], out[AIR + c.n + i] = inflow, inflow * c.water
            swelling += GAS * inflow * c.water / p
            ledger["compressor"] += inflow * c.compression
            continue
        kelvin = y[AIR + c.n + i] / kg
        volume = kg * GAS * kelvin / p
        q_w = HEAT_CAPACITY * c.heat * kg * (c.water - kelvin)
        if full[i]:  # V stays: m R T = p V, so m' T + m T' = p' V / R, with the first law for T'
            d_kelvin = (q_w + volume * dp) / (kg * HEAT_CAPACITY)
            d_kg = (dp * volume / GAS - kg * d_kelvin) / kelvin
            ledger["spilled"] -= d_kg * HEAT_CAPACITY * (kelvin - c.water)
        else:
            d_kg = inflow
            d_kelvin = (q_w + volume * dp + HEAT_CAPACITY * inflow * (c.water - kelvin)) / (
                kg * HEAT_CAPACITY
            )
            swelling += volume * (d_kg / kg + d_kelvin / kelvin - dp / p)
        out[AIR + i], out[AIR + c.n + i] = d_kg, d_kg * kelvin + kg * d_kelvin
        held += volume
        ledger["heat"] += q_w
        ledger["compressor"] += inflow * c.compression
    drag_n = c.drag * v * v * math.copysign(1.0, v)
    gear_n = c.friction * v / math.hypot(v, 0.01) + c.viscous * v
    lift_n = WATER * GRAVITY * held + c.shell - drag_n - gear_n
    if swelling < 0.0:
        lift_n -= WATER * -swelling * v  # water taken in is set in motion
    torque, wind = d[kernel.LOAD] * generator_nm(m, w), c.windage * w
    kg = c.inertia - WATER * held
    if d[
        kernel.ENGAGED
    ]:  # v' from one equation for both: the flywheel turns c.ratio times as fast per metre
        out[V] = (lift_n - c.ratio * (torque + wind)) / (kg + c.ratio**2 * c.flywheel)
        out[W] = c.ratio * out[V]
    else:
        out[V] = lift_n / kg
        out[W] = -(torque + wind) / c.flywheel
    out[S] = v
    ledger["bubbles"] = c.bubble
    ledger["electrical"] = c.efficiency * torque * w
    ledger["generator"] = torque * w - c.efficiency * torque * w
    ledger["drag"], ledger["gear"], ledger["windage"] = drag_n * v, gear_n * v, wind * w
    ledger["expelled"] = WATER * abs(swelling) * v * v / 2
    ledger["rejected"] = ledger["compressor"] + c.bubble - c.shell * v
    out[3:AIR] = [ledger[name] for name in LEDGER]
    return out, c.flywheel * out[W] + torque + wind


def catch(c, y, d) -> None:
    """The clutch closes: the sum of momentum (of the flywheel: J w ratio) stays, and is shared."""
    before = energy_j(c, y)
    kg, wheel_kg = moving_kg(c, y), c.flywheel * c.ratio**2
    y[V] = (kg * y[V] + wheel_kg * (y[W] / c.ratio)) / (kg + wheel_kg)
    y[W] = y[V] * c.ratio
    y[kernel.CLUTCH] += before - energy_j(c, y)
    d[kernel.ENGAGED] = 1.0


def simulate(m: SimpleNamespace, until_s: float, t: float = 0.0) -> dict[str, int]:
    """Bring m.y, m.d, m.valve, m.full from `t` to `until_s`;
    returns how often each event took place.
    """
    y, d = m.y, m.d
    met = dict.fromkeys(
        ("foot", "head", "closed", "shell", "engaged", "overrun", "pulse", "coast"), 0
    )
    while t < until_s - 1e-12:
        met["shell"] += fill_shells(m)
        marks = marks_of(m)
        done = solve_ivp(
            lambda t, y: slopes(m, y)[0],
            (t, min(until_s, d[kernel.SWITCH])),
            y,
            method="DOP853",
            rtol=1e-10,
            atol=1e-10,
            max_step=0.05,
            events=[*marks.values()],
        )
        t, y[:] = done.t[-1], done.y[:, -1]
        for name, times in zip(marks, done.t_events, strict=True):
            if len(times):
                kind, _, which = name.partition(" ")
                met[kind] += 1
                happen(m, kind, int(which or 0))
        if t >= d[kernel.SWITCH] - 1e-12:
            met[switch(m, t)] += 1
    return met


def fill_shells(m: SimpleNamespace) -> int:
    """How many shells begin full."""
    full = [
        i
        for i in range(m.n)
        if m.y[AIR + i] > 0.0 and not m.full[i] and air_m3(m.c, m.y, i) > m.c.volume - 1e-12
    ]
    for i in full:
        m.full[i] = 1.0
    return len(full)


def marks_of(m: SimpleNamespace) -> dict[str, Any]:
    """The events that may come next, by name: each a function that rises through zero."""
    c, d, marks = m.c, m.d, {}
    marks["foot"] = lambda t, y: y[S] - d[kernel.NEXT_IN]
    marks["head"] = lambda t, y: y[S] - d[kernel.NEXT_OUT]
    if d[kernel.ENGAGED]:
        marks["overrun"] = lambda t, y: -slopes(m, y)[1]
    elif d[kernel.MAY_ENGAGE]:
        marks["engaged"] = lambda t, y: c.ratio * y[V] - y[W]
    for i in np.flatnonzero(m.valve):
        marks[f"closed {i}"] = lambda t, y, i=i: y[AIR + i] - c.air
    for i in range(m.n):
        if (m.y[AIR + i] > 0.0 or m.valve[i]) and not m.full[i]:
            marks[f"shell {i}"] = lambda t, y, i=i: air_m3(c, y, i) - c.volume
    for mark in marks.values():
        mark.terminal, mark.direction = True, 1.0
    return marks


def happen(m: SimpleNamespace, kind: str, which: int) -> None:
    c, n, y, d = m.c, m.n, m.y, m.d
    if kind == "foot":
        i = int(d[kernel.WHICH_IN])
        m.valve[i] = float(d[kernel.AIR_ON] > 0 and y[AIR + i] <= 0)
        d[kernel.NEXT_IN], d[kernel.WHICH_IN] = d[kernel.NEXT_IN] + c.spacing, (i - 1) % n
    elif kind == "head":
        i = int(d[kernel.WHICH_OUT])
        if y[AIR + i] > 0.0:
            empty(m, i)
        m.valve[i] = m.full[i] = 0.0
        d[kernel.NEXT_OUT] = d[kernel.NEXT_OUT] + c.spacing
        d[kernel.WHICH_OUT] = (i - 1) % n
    elif kind == "closed":
        m.valve[which], y[AIR + which] = 0.0, c.air
    elif kind == "shell":
        m.full[which], m.valve[which] = 1.0, 0.0
    elif kind == "engaged":
        catch(c, y, d)
    elif kind == "overrun":
        d[kernel.ENGAGED] = 0.0


def empty(m: SimpleNamespace, i: int) -> None:
    """The air of floater i leaves at the head; the chain's momentum stays."""
    c, n, y = m.c, m.n, m.y
    before, kg = energy_j(c, y), moving_kg(c, y)
    warm = HEAT_CAPACITY * (y[AIR + n + i] - y[AIR + i] * c.water)
    y[AIR + i] = y[AIR + n + i] = 0.0
    y[V] *= kg / moving_kg(c, y)
    y[kernel.VENTED] += warm
    y[kernel.INTAKE] += before - warm - energy_j(c, y)
    if c.ratio * y[V] < y[W]:
        m.d[kernel.ENGAGED] = 0.0


def switch(m: SimpleNamespace, t: float) -> str:
    """From pulse to coast or back; which it is now."""
    c, y, d = m.c, m.y, m.d
    if d[kernel.MAY_ENGAGE]:
        d[kernel.MAY_ENGAGE] = d[kernel.ENGAGED] = 0.0
        d[kernel.SWITCH] = t + c.coast
        return "coast"
    d[kernel.MAY_ENGAGE], d[kernel.SWITCH] = 1.0, t + c.pulse
    if c.ratio * y[V] >= y[W]:
        catch(c, y, d)
    return "pulse"
