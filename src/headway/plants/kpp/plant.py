"""The KPP as a plant: observed, ordered, advanced, saved and set back."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from headway.plants import PlantError
from headway.plants.kpp import kernel
from headway.plants.kpp.kernel import AIR, LEDGER, V, W
from headway.plants.kpp.settings import GAS_J_KGK, KppSettings
from headway.runtime.timestep import StepBounds
from headway.values import FloatArray

NEVER_S = 1e18
MOST_STEPS = 10_000_000  # in one period
STABLE = 3.0  # step times the rate of heat: explicit steps of order 5 are stable up to 3.3
ARRAYS = ("_y", "_d", "_valve", "_full", "_count")  # what changes with time
INPUTS = ("compressor", "bubbles", "heat")


@dataclass(frozen=True, slots=True)
class KppOrder:
    """load: share of the generator's torque, 0..1. air: whether air is let in at the foot."""

    load: float = 1.0
    air: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.load) and 0.0 <= self.load <= 1.0):
            raise ValueError(f"load: {self.load!r} is not allowed: a number from 0 to 1.")


@dataclass(frozen=True, slots=True)
class KppMeasured:
    """The plant at one instant. Powers are of the moment, energies (J) since the start; volume_m3
    (floaters,): air in each.

    a_chain: acceleration of the chain, m/s2.
    efficiency: electrical output / electrical input (compressor and bubbles) since the start; 0
        before there is input.
    ledger_residual: what the ledger does not explain, as a share of all that went in.
    """

    time_s: float
    v_chain: float
    flywheel_radps: float
    power_output: float
    power_input: float
    torque_nm: float
    efficiency: float
    ledger_residual: float
    engaged: bool
    volume_m3: FloatArray
    energy_j: dict[str, float]
    stored_j: float
    a_chain: float = 0.0


class KppPlant:
    """Integrates the plant of `settings` with steps within `bounds`; `shortest_s` may be moved
    while running.
    """

    def __init__(self, settings: KppSettings, bounds: StepBounds | None = None) -> None:
        self.settings, self.bounds = settings, bounds or StepBounds()
        self._c, (self._speeds, self._torques) = settings.constants(), settings.generator()
        length = AIR + 2 * settings.floaters
        self._scratch = kernel.Scratch(
            k=np.zeros((8, length)), new=np.zeros(length), mid=np.zeros(length)
        )
        self.shortest_s = self.bounds.shortest_s
        # at its lower bound no step is refused: the temperature of the air would swing ever farther
        self._stable_s = STABLE / self._c.heat if self._c.heat > 0.0 else math.inf
        self.begin()

    def begin(self) -> None:
        """From rest. The floaters on the way up have their air already, if the plant is
        `prefilled`; its compression is in the ledger.
        """
        s = self.settings
        c = self._c
        n = self.settings.floaters
        self._t, self._y = 0.0, np.zeros(AIR + 2 * n)
        self._valve, self._full = np.zeros(n), np.zeros(n)
        self._count = np.zeros(kernel.STATUS + 1)
        self._count[kernel.STEP] = min(self.shortest_s, self._stable_s)
        self._count[kernel.ERROR] = 1.0
        x = np.asarray(np.arange(n) * s.spacing_m, np.float64)
        foot, head = c.x_in, c.x_out
        self._d = np.zeros(kernel.AIR_ON + 1)
        self._d[[kernel.NEXT_IN, kernel.WHICH_IN]] = _next(x, foot)
        self._d[[kernel.NEXT_OUT, kernel.WHICH_OUT]] = _next(x, head)
        self._d[[kernel.ENGAGED, kernel.MAY_ENGAGE, kernel.LOAD, kernel.AIR_ON]] = 1.0
        self._d[kernel.SWITCH] = s.pulse_s if s.h3 else NEVER_S
        if s.prefilled:
            up = (x > foot + 1e-9) & (x < head - 1e-9)
            pressure = s.pressure_in_pa - c.weight * (x[up] - foot)
            air = np.minimum(s.air_kg, pressure * s.volume_m3 / (GAS_J_KGK * s.water_k))
            self._y[AIR : AIR + n][up], self._y[AIR + n :][up] = air, air * s.water_k
            self._y[kernel.COMPRESSOR] = self._y[kernel.REJECTED] = (
                float(air.sum()) * s.compression_j_kg
            )
        self._begun_j = float(kernel.stored(self._y, c))

    @property
    def time_s(self) -> float:
        return self._t

    @property
    def v_chain(self) -> float:
        """Speed of the chain, m/s."""
        return float(self._y[V])

    @property
    def steps(self) -> int:
        """Steps of the integration that stand, since the start."""
        return int(self._count[kernel.STEPS])

    @property
    def next_step_s(self) -> float:
        """Length of the step that the integration tries next, s; it adapts it from there."""
        return float(self._count[kernel.STEP])

    @next_step_s.setter
    def next_step_s(self, step_s: float) -> None:
        self._count[kernel.STEP] = step_s

    @property
    def counts(self) -> dict[str, int]:
        """steps, rejected ones, events, and steps at the lower bound whose error was above
        tolerance.
        """
        names = ("steps", "rejected", "events", "forced")
        return {
            name: int(self._count[i])
            for name, i in zip(
                names,
                (kernel.STEPS, kernel.REJECTED_STEPS, kernel.EVENTS, kernel.FORCED),
                strict=True,
            )
        }

    def observe(self) -> KppMeasured:
        y = self._y
        energy = {name: float(y[3 + i]) for i, name in enumerate(LEDGER)}
        electrical_in = energy["compressor"] + energy["bubbles"]
        stored = float(kernel.stored(y, self._c))
        went_in = sum(energy[name] for name in INPUTS)
        left = (
            went_in
            - sum(energy[name] for name in LEDGER if name not in INPUTS)
            - (stored - self._begun_j)
        )
        slope = self._scratch.mid
        torque = float(kernel.rhs(y, slope, self.machine))
        return KppMeasured(
            time_s=self._t,
            v_chain=float(y[V]),
            flywheel_radps=float(y[W]),
            power_output=float(slope[kernel.ELECTRICAL]),
            power_input=float(slope[kernel.COMPRESSOR] + slope[kernel.BUBBLES]),
            torque_nm=torque,
            efficiency=energy["electrical"] / electrical_in if electrical_in > 0.0 else 0.0,
            ledger_residual=abs(left) / max(went_in, 1e-9),
            engaged=bool(self._d[kernel.ENGAGED]),
            volume_m3=kernel.volumes(y, self._c),
            energy_j=energy,
            stored_j=stored,
            a_chain=float(slope[V]),
        )

    def apply(self, order: KppOrder) -> None:
        self._d[kernel.LOAD], self._d[kernel.AIR_ON] = order.load, float(order.air)

    def advance(self, period_s: float) -> None:
        """Raises PlantError if a value is no number any more; the state is then that of the last
        good step.
        """
        b = self.bounds
        control = (
            b.rtol,
            b.atol,
            min(self.shortest_s, b.longest_s, self._stable_s),
            b.longest_s,
            float(MOST_STEPS),
        )
        self._t = kernel.run(
            self._t,
            self._t + period_s,
            self._y,
            self.machine,
            control,
            self._count,
            self._scratch,
        )
        status = float(self._count[kernel.STATUS])
        if status != kernel.GOOD:
            why = {
                kernel.NO_NUMBER: "the state is no number any more",
                kernel.TOO_MANY_STEPS: f"more than {MOST_STEPS:,} steps in one period",
            }[status]
            raise PlantError(
                f"the KPP failed at {self._t:.6f} s: {why}. Restore a checkpoint, or go on "
                "with shorter steps."
            )

    @property
    def vector(self) -> FloatArray:
        """The continuous state y, see `kernel`; it changes as the plant advances."""
        return self._y

    @property
    def machine(self) -> kernel.Machine:
        """All but the continuous state; its arrays change as the plant advances."""
        return kernel.Machine(
            d=self._d,
            valve=self._valve,
            full=self._full,
            c=self._c,
            speeds=self._speeds,
            torques=self._torques,
        )

    def state(self) -> dict[str, Any]:
        """All that is needed to go on from here."""
        return {name: getattr(self, name).copy() for name in ARRAYS} | {
            "_t": self._t,
            "_begun_j": self._begun_j,
            "settings": self.settings,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Take up a state from `state`. Raises PlantError if it is of another plant."""
        if state["settings"] != self.settings:
            raise PlantError(
                "the state is of a KPP with other settings; start that one, or begin anew."
            )
        if any(state[name].shape != getattr(self, name).shape for name in ARRAYS):
            raise PlantError("the state is of another version of the KPP; begin anew.")
        for name in ARRAYS:
            getattr(self, name)[:] = state[name]
        self._t, self._begun_j = state["_t"], state["_begun_j"]

    def checkpoint(self, path: Path) -> None:
        state = self.state()
        about = np.array(repr(state.pop("settings")))
        with path.open("wb") as stream:
            np.savez(stream, settings=about, **state)
            stream.flush()
            os.fsync(stream.fileno())

    def restore(self, path: Path) -> None:
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
                state = {name: kept[name] for name in (*ARRAYS, "_t", "_begun_j", "settings")}
        except (OSError, ValueError, EOFError, KeyError, TypeError, BadZipFile) as error:
            raise PlantError(f"{path}: is no checkpoint of a KPP ({error}).") from error
        if str(state["settings"]) != repr(self.settings):
            raise PlantError(
                f"{path}: is of a KPP with other settings; start that one, or begin anew."
            )
        self.resume(
            {
                **state,
                "_t": float(state["_t"]),
                "_begun_j": float(state["_begun_j"]),
                "settings": self.settings,
            }
        )

    def close(self) -> None:
        """Nothing is held."""


def _next(x: FloatArray, mark_m: float) -> tuple[float, int]:
    """(way of the chain, floater) until the next floater comes to `mark_m`; one that stands there
    has passed it. The first stands before it.
    """
    which = int(np.flatnonzero(x < mark_m - 1e-9)[-1])
    return mark_m - x[which], which
