"""The power plant on the real-time loop: the same loop that drives a street."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.plants import PlantError
from headway.plants.kpp import KppOrder, KppPlant, KppSettings
from headway.runtime import AlertRule, FigureLimits, Level, RuntimeSettings, StepBounds

LIMITS = {
    "v_chain": FigureLimits(-1.0, 20.0, per_s=50.0, noise=0.05),
    "flywheel_radps": FigureLimits(-1.0, 2000.0, per_s=5000.0, noise=5.0),
    "ledger_residual": FigureLimits(0.0, 1.0),
}
PERIOD_S = 1.0 / 15.0  # of the load control
PRIORITY = ("v_chain", "power_output", "efficiency", "engaged")
START_UP_S = 10.0  # until then the efficiency is that of filling floaters
DEFAULT_RULES = (
    AlertRule("velocity", "v_chain", ">", 8.0, Level.ERROR),
    AlertRule("acceleration", "acceleration_mps2", ">", 40.0, Level.ERROR),
    AlertRule("efficiency", "efficiency", "<", 0.3, Level.WARNING, for_s=START_UP_S),
    AlertRule("fps", "loop.fps", "<", 5.0, Level.WARNING),
    AlertRule("stability", "loop.stability", "<", 0.5, Level.CRITICAL),
)
DRIFT = ("ledger_residual", 1e-3)


@dataclass(slots=True)
class LoadControl:
    """Holds the chain at `target_mps` by the generator's load: proportional and integral, in steps
    of `period_s`; 0 for full load.
    """

    target_mps: float = 0.0
    gain: float = 0.5
    reset_s: float = 5.0
    sum_s: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.target_mps) and self.target_mps >= 0.0):
            raise ValueError(
                f"target_mps: {self.target_mps!r} is not allowed: a speed, or 0 for full load."
            )

    def step(self, v_chain: float, period_s: float) -> KppOrder:
        if not self.target_mps:
            return KppOrder()
        load = 0.5 + self.gain * (v_chain - self.target_mps) + self.sum_s
        if 0.0 < load < 1.0:  # no wind-up
            self.sum_s += self.gain * (v_chain - self.target_mps) * period_s / self.reset_s
        return KppOrder(load=min(max(load, 0.0), 1.0))


class KppRun:
    """A KPP with its load control, as the loop drives it. folder: where its checkpoint is kept;
    none without.
    """

    running = True
    rate = 0.0  # steps per second of wall time, as last measured

    def __init__(
        self,
        settings: KppSettings,
        bounds: StepBounds,
        control: LoadControl | None = None,
        folder: Path | None = None,
    ) -> None:
        self.plant, self.control = KppPlant(settings, bounds), control or LoadControl()
        self._path = folder / "kpp.npz" if folder is not None else None
        self._note_for_roll_back()

    def _note_for_roll_back(self) -> None:
        """What `roll_back` restores: the plant, and what its control has added up."""
        self._before: tuple[dict[str, Any], float] = self.plant.state(), self.control.sum_s

    @property
    def time_s(self) -> float:
        return self.plant.time_s

    def advance(self, period_s: float, shortest_s: float) -> None:
        self._note_for_roll_back()
        self.plant.shortest_s = shortest_s
        if not self.control.target_mps:
            self.plant.advance(period_s)
            return
        end_s = self.plant.time_s + period_s
        while (left_s := end_s - self.plant.time_s) > 1e-9:
            part_s = min(left_s, PERIOD_S)
            self.plant.apply(self.control.step(self.plant.v_chain, part_s))
            self.plant.advance(part_s)

    def state(self) -> Mapping[str, Any]:
        """Figures as of `KppMeasured`. acceleration_mps2: of the chain, whichever way. steps: of
        the integration, see `KppPlant.counts`.
        """
        m = self.plant.observe()
        floaters = {
            "v_chain": m.v_chain,
            "filled": int((m.volume_m3 > 0.0).sum()),
            "air_m3": float(m.volume_m3.sum()),
        }
        return {
            "time_s": m.time_s,
            "v_chain": m.v_chain,
            "acceleration_mps2": abs(m.a_chain),
            "power_output": m.power_output,
            "power_input": m.power_input,
            "efficiency": m.efficiency,
            "flywheel_radps": m.flywheel_radps,
            "torque_nm": m.torque_nm,
            "engaged": m.engaged,
            "ledger_residual": m.ledger_residual,
            "stored_j": m.stored_j,
            "floaters": floaters,
            "steps": self.plant.counts,
            "energy_j": m.energy_j,
        }

    def figures(self) -> Mapping[str, float]:
        m = self.plant.observe()
        return {
            "v_chain": m.v_chain,
            "flywheel_radps": m.flywheel_radps,
            "ledger_residual": m.ledger_residual,
        }

    def roll_back(self) -> None:
        state, self.control.sum_s = self._before
        self.plant.resume(state)

    def checkpoint(self) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_suffix(".draft")
            self.plant.checkpoint(draft)
            control = self._control_file.with_suffix(".tmp")
            control.write_text(json.dumps({"time_s": self.time_s, "sum_s": self.control.sum_s}))
            draft.replace(self._path)
            control.replace(
                self._control_file
            )  # a crash before this leaves one of another time, which is not taken

    def restore(self) -> None:
        """Raises PlantError if there is no checkpoint, or not of this plant."""
        if self._path is None or not self._path.exists():
            raise PlantError("there is no checkpoint to go back to; begin anew.")
        self.plant.restore(self._path)
        self.control.sum_s = self._kept_sum_s()
        self._note_for_roll_back()

    @property
    def _control_file(self) -> Path:
        assert self._path is not None
        return self._path.with_suffix(".json")

    def _kept_sum_s(self) -> float:
        """What the control had added up at the checkpoint; 0 where that was not kept with it."""
        try:
            kept = json.loads(self._control_file.read_text())
            sum_s = float(kept["sum_s"])
            return sum_s if kept["time_s"] == self.time_s and math.isfinite(sum_s) else 0.0
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0

    def take_up(self, until_s: float = math.inf) -> bool:
        """Go on from the checkpoint of an earlier process, if there is one of the same plant from
        before `until_s`; whether there was.
        """
        try:
            self.restore()
        except PlantError:
            return False
        if self.time_s >= until_s:
            self.reinitialise()
            return False
        return True

    def forget(self) -> None:
        """The run came to its end: its checkpoint is not taken up again."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._control_file.unlink(missing_ok=True)

    def reinitialise(self) -> None:
        self.plant.begin()
        self.control.sum_s = 0.0
        self._note_for_roll_back()

    restart = reinitialise


def runtime_settings(
    speed_factor: float, mode: str, checkpoint_s: float, bounds: StepBounds, **more: Any
) -> RuntimeSettings:
    """The loop's settings for a KPP: its limits, its ledger, its priority fields, its alerts. more:
    further settings, which replace these.
    """
    of_the_plant: dict[str, Any] = {
        "limits": LIMITS,
        "drift": DRIFT,
        "priority": PRIORITY,
        "rules": DEFAULT_RULES,
    }
    return RuntimeSettings(
        speed_factor=speed_factor,
        mode=mode,
        checkpoint_s=checkpoint_s,
        bounds=bounds,
        **of_the_plant | more,
    )
