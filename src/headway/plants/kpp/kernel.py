"""The KPP plant's equations and their integration, compiled.

State y: chain position s (m) and speed v (m/s), flywheel speed w (rad/s), the ledger (J, see
LEDGER), then for each floater its air m (kg) and theta = m T (kg K). Air in a floater that is open
below has the pressure p of the water around it, so V = R theta / p. With the water that it
displaces and the atmosphere above, what it stores is its enthalpy, and the first law of an open
system gives

    cp theta' = cp k (m T_water - theta) + V p' + cp T_in m'          heat from the water, less the
    work of buoyancy, plus what flows in.

Method: Dormand and Prince's 5(4) pair with Shampine's interpolant (the tables that SciPy's `RK45`
has too). Events: the air valve opens at the foot and closes when the floater has its air or its
shell is full; a floater vents at the head; a shell is full; the clutch engages and overruns; pulse
and coast.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headway.plants.kpp.settings import GAS_J_KGK as R
from headway.plants.kpp.settings import HEAT_CAPACITY_J_KGK as CP
from headway.plants.kpp.settings import WATER_KGPM3 as RHO
from headway.plants.kpp.settings import Constants
from headway.runtime import timestep

S = 0
V = 1
W = 2
LEDGER = (
    "compressor",
    "bubbles",
    "heat",
    "electrical",
    "generator",
    "drag",
    "gear",
    "windage",
    "expelled",
    "spilled",
    "vented",
    "intake",
    "clutch",
    "rejected",
)
(
    COMPRESSOR,
    BUBBLES,
    HEAT,
    ELECTRICAL,
    GENERATOR,
    DRAG,
    GEAR,
    WINDAGE,
    EXPELLED,
    SPILLED,
    VENTED,
    INTAKE,
    CLUTCH,
    REJECTED,
) = range(3, 3 + len(LEDGER))
AIR = 3 + len(LEDGER)
HAIR = 1e-9  # metres: a floater at the foot but for rounding is at the foot
SPILL_M3 = 1e-12  # excess over the shell from which it counts as full
RESOLUTION = 1e-10  # of a step: how exactly an event is located by bisection
END_S = 1e-12  # seconds: nearer to a moment than this is at it

A21 = 1 / 5
A31 = 3 / 40
A32 = 9 / 40
A41 = 44 / 45
A42 = -56 / 15
A43 = 32 / 9
A51 = 19372 / 6561
A52 = -25360 / 2187
A53 = 64448 / 6561
A54 = -212 / 729
A61 = 9017 / 3168
A62 = -355 / 33
A63 = 46732 / 5247
A64 = 49 / 176
A65 = -5103 / 18656
B1 = 35 / 384
B3 = 500 / 1113
B4 = 125 / 192
B5 = -2187 / 6784
B6 = 11 / 84
E1 = -71 / 57600
E3 = 71 / 16695
E4 = -71 / 1920
E5 = 17253 / 339200
E6 = -22 / 525
E7 = 1 / 40
P = np.array(
    [
        [1, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432],
        [0, 0, 0, 0],
        [0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799],
        [0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072],
        [0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632],
        [0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844],
        [0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423],
    ]
)

# For functions that make no arrays: without counting of references (decision 14). Sums may be
# reordered where it is fast.
compiled = njit(cache=True, error_model="numpy", _nrt=False)  # type: ignore[call-overload]
pi_factor = njit(cache=True)(timestep.pi_factor)
compiled_fast = njit(  # type: ignore[call-overload]
    cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"}, _nrt=False
)

# The discrete part, kept beside y: engaged (0 or 1), s of the next floater at the foot and at the
# head, which floaters these are, time of the
# next switch of pulse and coast, whether the clutch may engage, the load 0..1, whether air is let
# in.
ENGAGED, NEXT_IN, NEXT_OUT, WHICH_IN, WHICH_OUT, SWITCH, MAY_ENGAGE, LOAD, AIR_ON = range(9)
# What `run` counts, and its last proposal for a step.
STEPS, REJECTED_STEPS, EVENTS, FORCED, ERROR, STEP, STATUS = range(7)
GOOD, NO_NUMBER, TOO_MANY_STEPS = 0.0, 1.0, 2.0  # STATUS


class Machine(NamedTuple):
    """All of the plant but its continuous state; the arrays change with the events.

    d:       discrete part, see ENGAGED and on.
    valve:   (n,) 1 where air flows into a floater.
    full:    (n,) 1 where a shell is full, and spills.
    speeds, torques: the generator's curve, rad/s and N m.
    """

    d: NDArray[np.float64]
    valve: NDArray[np.float64]
    full: NDArray[np.float64]
    c: Constants
    speeds: NDArray[np.float64]
    torques: NDArray[np.float64]


class Scratch(NamedTuple):
    """Memory that steps work in. k: (8, len(y)) slopes, the last a spare; new:
    the state after a step; mid: the state within it.
    """

    k: NDArray[np.float64]
    new: NDArray[np.float64]
    mid: NDArray[np.float64]


@compiled_fast
def pressure(y, i, c):  # type: ignore[no-untyped-def]
    """Of the water around floater i, Pa. Beyond the head, where none has air, not below nine tenths
    of what it is there: never zero.
    """
    q = y[S] + i * c.spacing - c.x_in
    x = q - c.loop * np.floor((q + HAIR) / c.loop)
    return max(c.p_in - c.weight * x, 0.9 * (c.p_in - c.weight * (c.x_out - c.x_in)))


@compiled
def torque_at(speed, speeds, torques):  # type: ignore[no-untyped-def]
    """Of the generator's curve at `speed`, linear between its points and constant beyond them;
    `numpy.interp` makes arrays at each call, which costs a tenth of the steps a second.
    """
    last = len(speeds) - 1
    if speed >= speeds[last]:
        return torques[last]
    if speed <= speeds[0]:
        return torques[0]
    k = 0
    while speeds[k + 1] <= speed:
        k += 1
    slope = (torques[k + 1] - torques[k]) / (speeds[k + 1] - speeds[k])
    return slope * (speed - speeds[k]) + torques[k]


@compiled_fast
def rhs(y, dy, m):  # type: ignore[no-untyped-def]
    """dy/dt of the Machine m; returns the torque that the clutch carries, N m.

    Longer than it should be: two functions cost a tenth of the steps a second.
    """
    c = m.c
    valve = m.valve
    full = m.full
    n = c.n
    v = y[V]
    w = y[W]
    air = y[AIR : AIR + n]
    theta = y[AIR + n :]
    d_air = dy[AIR : AIR + n]
    d_theta = dy[AIR + n :]
    volume = growth = warmth = flow = shells = spilled = 0.0
    for i in range(n):
        per_p = 1.0 / pressure(y, i, c)
        rate = -c.weight * v * per_p
        heat = c.heat * (air[i] * c.water - theta[i])
        change = heat + theta[i] * (R / CP) * rate + valve[i] * c.flow * c.water
        d_theta[i], d_air[i] = change, valve[i] * c.flow
        volume += theta[i] * per_p
        growth += (change - theta[i] * rate) * per_p
        warmth += heat
        flow += valve[i]
        shells += full[i]
    if shells > 0.0:
        for i in range(n):
            if full[i] > 0.0:  # the shell holds no more: V stays, the rest of the air leaves
                per_p = 1.0 / pressure(y, i, c)
                rate = -c.weight * v * per_p
                growth -= (d_theta[i] - theta[i] * rate) * per_p
                d_theta[i] = theta[i] * rate
                d_air[i] = (
                    air[i] * rate * (1.0 - R / CP)
                    - c.heat * (air[i] * c.water - theta[i]) * air[i] / theta[i]
                )
                spilled -= CP * (theta[i] / air[i] - c.water) * d_air[i]
    volume *= R
    growth *= R
    inertia = c.inertia - RHO * volume
    drag = c.drag * v * abs(v)
    gear = c.friction * v / np.sqrt(v * v + 1e-4) + c.viscous * v
    taken = RHO * max(-growth, 0.0)
    force = c.weight * volume + c.shell - drag - gear - taken * v
    torque = m.d[LOAD] * torque_at(w, m.speeds, m.torques)
    windage = c.windage * w
    if m.d[ENGAGED] > 0.0:
        a = (force - c.ratio * (torque + windage)) / (inertia + c.flywheel * c.ratio * c.ratio)
        b = a * c.ratio
    else:
        a, b = force / inertia, -(torque + windage) / c.flywheel
    dy[S] = v
    dy[V] = a
    dy[W] = b
    dy[COMPRESSOR] = flow * c.flow * c.compression
    dy[BUBBLES] = c.bubble
    dy[HEAT] = CP * warmth
    dy[ELECTRICAL], dy[GENERATOR] = c.efficiency * torque * w, (1.0 - c.efficiency) * torque * w
    dy[DRAG] = drag * v
    dy[GEAR] = gear * v
    dy[WINDAGE] = windage * w
    dy[EXPELLED], dy[SPILLED] = 0.5 * RHO * abs(growth) * v * v, spilled
    dy[VENTED] = dy[INTAKE] = dy[CLUTCH] = 0.0
    dy[REJECTED] = dy[COMPRESSOR] + c.bubble - c.shell * v
    return c.flywheel * b + torque + windage


@compiled
def volume_of(y, i, c):  # type: ignore[no-untyped-def]
    """Air volume of floater i, m3."""
    return R * y[AIR + c.n + i] / pressure(y, i, c)


@njit(cache=True)
def volumes(y, c):  # type: ignore[no-untyped-def]
    """Air in each floater, (n,) m3."""
    out = np.empty(c.n)
    for i in range(c.n):
        out[i] = volume_of(y, i, c)
    return out


@njit(cache=True)
def moved_kg(y, c):  # type: ignore[no-untyped-def]
    """Mass that moves with the chain: less water is in the floaters where there is air."""
    return c.inertia - RHO * volumes(y, c).sum()


@njit(cache=True)
def stored(y, c):  # type: ignore[no-untyped-def]
    """Energy in the plant, J: of motion, and enthalpy of the air over that at the water's
    temperature.
    """
    enthalpy = CP * (y[AIR + c.n :].sum() - y[AIR : AIR + c.n].sum() * c.water)
    return 0.5 * moved_kg(y, c) * y[V] ** 2 + 0.5 * c.flywheel * y[W] ** 2 + enthalpy


@compiled_fast
def step(y, h, k, new, m):  # type: ignore[no-untyped-def]
    """One step of length h from y, with k[0] the slope there; fills k (7, len) and new. Returns the
    clutch's torque at its end.
    """
    n = len(y)
    k1 = k[0]
    k2 = k[1]
    k3 = k[2]
    k4 = k[3]
    k5 = k[4]
    k6 = k[5]
    k7 = k[6]
    for i in range(n):
        new[i] = y[i] + h * (A21 * k1[i])
    rhs(new, k2, m)
    for i in range(n):
        new[i] = y[i] + h * (A31 * k1[i] + A32 * k2[i])
    rhs(new, k3, m)
    for i in range(n):
        new[i] = y[i] + h * (A41 * k1[i] + A42 * k2[i] + A43 * k3[i])
    rhs(new, k4, m)
    for i in range(n):
        new[i] = y[i] + h * (A51 * k1[i] + A52 * k2[i] + A53 * k3[i] + A54 * k4[i])
    rhs(new, k5, m)
    for i in range(n):
        new[i] = y[i] + h * (A61 * k1[i] + A62 * k2[i] + A63 * k3[i] + A64 * k4[i] + A65 * k5[i])
    rhs(new, k6, m)
    for i in range(n):
        new[i] = y[i] + h * (B1 * k1[i] + B3 * k3[i] + B4 * k4[i] + B5 * k5[i] + B6 * k6[i])
    return rhs(new, k7, m)


@compiled_fast
def local_error(y, new, h, k, c, rtol, atol):  # type: ignore[no-untyped-def]
    """Root mean square of the estimated error over its tolerance; s, v, w and the air count, the
    ledger does not.
    """
    total = 0.0
    for i in range(3):
        e = h * (
            E1 * k[0, i] + E3 * k[2, i] + E4 * k[3, i] + E5 * k[4, i] + E6 * k[5, i] + E7 * k[6, i]
        )
        scale = atol * (c.ratio if i == W else 1.0) + rtol * max(abs(y[i]), abs(new[i])) * (i != S)
        total += (e / scale) ** 2
    part = 0.0
    for i in range(AIR + c.n, len(y)):
        e = h * (
            E1 * k[0, i] + E3 * k[2, i] + E4 * k[3, i] + E5 * k[4, i] + E6 * k[5, i] + E7 * k[6, i]
        )
        part += e * e
    part /= ((atol + rtol) * c.air * c.water) ** 2
    return np.sqrt((total + part) / (3.0 + 0.5 * c.n))


@njit(cache=True, error_model="numpy")
def within(y, k, h, part, out):  # type: ignore[no-untyped-def]
    """The state at y's time + part * h, by the interpolant of the step that k belongs to."""
    w = np.empty(7)
    for j in range(7):
        w[j] = h * part * (P[j, 0] + part * (P[j, 1] + part * (P[j, 2] + part * P[j, 3])))
    for i in range(len(y)):
        out[i] = (
            y[i]
            + w[0] * k[0, i]
            + w[2] * k[2, i]
            + w[3] * k[3, i]
            + w[4] * k[4, i]
            + w[5] * k[5, i]
            + w[6] * k[6, i]
        )


@compiled
def reach(y, k, h, at, goal):  # type: ignore[no-untyped-def]
    """Part of the step, 0..1, at which component `at` of the interpolant comes to `goal`; Newton's
    method, held within a bracket.
    """
    low, high = 0.0, 1.0
    a = b = e = f = 0.0
    for j in range(7):
        a += P[j, 0] * k[j, at]
        b += P[j, 1] * k[j, at]
        e += P[j, 2] * k[j, at]
        f += P[j, 3] * k[j, at]
    wanted = (goal - y[at]) / h
    part = min(max(wanted / (a + b + e + f), 0.0), 1.0)
    for _ in range(50):
        value = part * (a + part * (b + part * (e + part * f))) - wanted
        if value > 0.0:
            high = part
        else:
            low = part
        slope = a + part * (2.0 * b + part * (3.0 * e + part * 4.0 * f))
        nxt = part - value / slope if slope != 0.0 else 0.5 * (low + high)
        if not low <= nxt <= high:
            nxt = 0.5 * (low + high)
        if abs(nxt - part) < 1e-13:
            return nxt
        part = nxt
    return part


@compiled
def slip(y, c):  # type: ignore[no-untyped-def]
    """How much faster the gear turns than the flywheel, rad/s."""
    return c.ratio * y[V] - y[W]


@compiled
def fill(y, i, c):  # type: ignore[no-untyped-def]
    """How much the air of floater i exceeds its shell, m3."""
    return volume_of(y, i, c) - c.volume


NONE, FOOT, HEAD, SHELL, ENGAGE, OVERRUN = range(6)


@compiled
def has_happened(kind, which, y, slope, m):  # type: ignore[no-untyped-def]
    """Whether the state y lies beyond an event that has no closed form. slope: scratch."""
    if kind == ENGAGE:
        return slip(y, m.c) >= 0.0
    if kind == OVERRUN:
        return rhs(y, slope, m) < 0.0
    return fill(y, which, m.c) > SPILL_M3


@njit(cache=True, error_model="numpy")
def located(kind, which, latest, y, h, m, scratch):  # type: ignore[no-untyped-def]
    """Part of the step, up to `latest`, at which an event happens, by bisection of the interpolant;
    2 where it does not happen until then.
    """
    k = scratch.k
    mid = scratch.mid
    within(y, k, h, latest, mid)
    if not has_happened(kind, which, mid, k[7], m):
        return 2.0
    low, high = 0.0, latest
    while high - low > RESOLUTION:
        at = 0.5 * (low + high)
        within(y, k, h, at, mid)
        if has_happened(kind, which, mid, k[7], m):
            high = at
        else:
            low = at
    return high


@njit(cache=True, error_model="numpy")
def first_event(y, h, torque, m, scratch):  # type: ignore[no-untyped-def]
    """(kind, part of the step, floater) of the first event within the step from y to scratch.new;
    NONE if there is none. torque: what the clutch carries at the end.
    """
    c = m.c
    d = m.d
    new = scratch.new
    kind = NONE
    part = 1.0
    which = -1

    # floaters at the foot and at the head: a root of the interpolant
    if new[S] >= d[NEXT_IN]:
        kind = FOOT
        part = reach(y, scratch.k, h, S, d[NEXT_IN])
        which = int(d[WHICH_IN])
    if new[S] >= d[NEXT_OUT]:
        at = reach(y, scratch.k, h, S, d[NEXT_OUT])
        if at < part or kind == NONE:
            kind = HEAD
            part = at
            which = int(d[WHICH_OUT])

    # the clutch
    if d[ENGAGED] == 0.0 and d[MAY_ENGAGE] > 0.0 and slip(new, c) >= 0.0:
        at = located(ENGAGE, -1, part, y, h, m, scratch)
        if at <= part:
            kind = ENGAGE
            part = at
            which = -1
    if d[ENGAGED] > 0.0 and torque < 0.0:
        at = located(OVERRUN, -1, part, y, h, m, scratch)
        if at <= part:
            kind = OVERRUN
            part = at
            which = -1

    # full shells: only where the air of a floater can fill one on its way up
    head_pa = c.p_in - c.weight * (c.x_out - c.x_in)
    if R * c.air * c.water > c.volume * head_pa * (1.0 + 1e-9):
        for i in range(c.n):
            if m.full[i] == 0.0 and fill(new, i, c) > SPILL_M3:
                at = located(SHELL, i, part, y, h, m, scratch)
                if at <= part:
                    kind = SHELL
                    part = at
                    which = i
    return kind, part, which


@njit(cache=True, error_model="numpy")
def happen(kind, which, y, m):  # type: ignore[no-untyped-def]
    """Let an event take place: the discrete part changes, and what jumps, jumps; the ledger is
    kept.
    """
    c = m.c
    d = m.d
    n = c.n
    if kind == FOOT:
        if d[AIR_ON] > 0.0 and y[AIR + which] <= 0.0:
            m.valve[which] = 1.0
        d[NEXT_IN] += c.spacing
        d[WHICH_IN] = (which - 1) % n
    elif kind == HEAD:
        air, theta = y[AIR + which], y[AIR + n + which]
        if air > 0.0:
            before, inertia = stored(y, c), moved_kg(y, c)
            lost = CP * (theta - air * c.water)
            y[AIR + which] = y[AIR + n + which] = 0.0
            y[V] *= inertia / moved_kg(y, c)  # water takes the air's place, and is carried along
            y[VENTED] += lost
            y[INTAKE] += before - lost - stored(y, c)
            if d[ENGAGED] > 0.0 and slip(y, c) < 0.0:
                d[ENGAGED] = 0.0
        m.valve[which] = 0.0
        m.full[which] = 0.0
        d[NEXT_OUT] += c.spacing
        d[WHICH_OUT] = (which - 1) % n
    elif kind == SHELL:
        m.full[which] = 1.0
        m.valve[which] = 0.0
    elif kind == ENGAGE:
        engage(y, d, c)
    elif kind == OVERRUN:
        d[ENGAGED] = 0.0


@njit(cache=True, error_model="numpy")
def engage(y, d, c):  # type: ignore[no-untyped-def]
    """The clutch closes: chain and flywheel turn as one from now on; what the impact costs goes to
    the ledger.
    """
    before, inertia = stored(y, c), moved_kg(y, c)
    y[V] = (inertia * y[V] + c.flywheel * c.ratio * y[W]) / (inertia + c.flywheel * c.ratio**2)
    y[W] = c.ratio * y[V]
    y[CLUTCH] += before - stored(y, c)
    d[ENGAGED] = 1.0


@njit(cache=True, error_model="numpy")
def switch(t, y, d, c):  # type: ignore[no-untyped-def]
    """Pulse and coast: the clutch is held open, or let go."""
    if d[MAY_ENGAGE] > 0.0:
        d[MAY_ENGAGE] = d[ENGAGED] = 0.0
        d[SWITCH] = t + c.coast
    else:
        d[MAY_ENGAGE] = 1.0
        d[SWITCH] = t + c.pulse
        if slip(y, c) >= 0.0:
            engage(y, d, c)


@compiled
def next_moment(t, end, y, m):  # type: ignore[no-untyped-def]
    """(time, floater): the next moment that is known beforehand: the end, a switch of pulse and
    coast, or a floater (else -1) that has all its air.
    """
    moment = min(end, m.d[SWITCH])
    closes = -1
    for i in range(m.c.n):
        if m.valve[i] > 0.0:
            at = t + (m.c.air - y[AIR + i]) / m.c.flow
            if at < moment:
                moment = at
                closes = i
    return moment, closes


@njit(cache=True, error_model="numpy")
def go_to_event(kind, part, which, trial, y, m, scratch):  # type: ignore[no-untyped-def]
    """The state at an event within a step, and what happens there."""
    within(y, scratch.k, trial, part, scratch.mid)
    y[:] = scratch.mid
    if kind == FOOT:  # to the last bit: the next floater is one spacing on
        y[S] = m.d[NEXT_IN]
    elif kind == HEAD:
        y[S] = m.d[NEXT_OUT]
    happen(kind, which, y, m)


@njit(cache=True, error_model="numpy")
def reach_moment(t, moment, closes, y, m):  # type: ignore[no-untyped-def]
    """How many events there are at a moment that was known beforehand, after letting them
    happen.
    """
    events = 0
    if closes >= 0 and t >= moment - END_S:
        m.valve[closes] = 0.0
        y[AIR + closes] = m.c.air
        events += 1
    if t >= m.d[SWITCH] - END_S:
        switch(t, y, m.d, m.c)
        events += 1
    return events


@njit(cache=True, error_model="numpy")
def run(t, end, y, m, control, count, scratch):  # type: ignore[no-untyped-def]
    """Integrate y from t to `end`, seconds; returns the time reached, earlier where count[STATUS]
    is not GOOD.

    control: (rtol, atol, shortest, longest step, most steps). count: see STEPS and on.
    """
    rtol, atol, shortest, longest, most = control
    k = scratch.k
    most += count[STEPS] + count[REJECTED_STEPS]
    count[STATUS] = GOOD if np.isfinite(y.sum()) else NO_NUMBER
    if count[STATUS] != GOOD:
        return t
    h = min(max(count[STEP], shortest), longest)
    error_before = count[ERROR]
    fresh = True  # the slope at y must be worked out: it is not the last one of the step before
    while t < end - END_S:
        moment, closes = next_moment(t, end, y, m)
        cut = t + h >= moment - END_S
        trial = max(moment - t, 0.0) if cut else h
        if trial > 0.0:
            if fresh:
                rhs(y, k[0], m)
                fresh = False
            torque = step(y, trial, k, scratch.new, m)
            error = local_error(y, scratch.new, trial, k, m.c, rtol, atol)
            if not np.isfinite(error):
                count[STATUS] = NO_NUMBER
                return t

            # a step whose error is too large is tried again, shorter
            if error > 1.0 and trial > shortest * 1.000001:
                h = max(trial * pi_factor(error, 1.0, 5.0), shortest)
                count[REJECTED_STEPS] += 1
                continue
            count[FORCED] += error > 1.0
            count[STEPS] += 1
            if count[STEPS] + count[REJECTED_STEPS] > most:
                count[STATUS] = TOO_MANY_STEPS
                return t

            # up to the first event within it
            kind, part, which = first_event(y, trial, torque, m, scratch)
            if not cut:
                h = min(max(trial * pi_factor(error, error_before, 5.0), shortest), longest)
                error_before = max(error, 1e-4)
            if kind != NONE:
                go_to_event(kind, part, which, trial, y, m, scratch)
                t += part * trial
                count[EVENTS] += 1
                fresh = True
                continue
            y[:] = scratch.new
            k[0, :] = k[6, :]
            t = moment if cut else t + trial
        events = reach_moment(t, moment, closes, y, m)
        count[EVENTS] += events
        fresh |= events > 0
    count[STEP] = h
    count[ERROR] = error_before
    return end
