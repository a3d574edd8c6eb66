"""What a KPP plant is made of, in SI units, checked before anything runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from headway.values import FloatArray

# dry air: ISO 2533
GRAVITY_MPS2 = 9.80665
GAS_J_KGK = 287.05
HEAT_CAPACITY_J_KGK = 1004.7
ATMOSPHERE_PA = 101_325.0
WATER_KGPM3 = 998.2
STEEL_KGPM3 = 7850.0


@dataclass(frozen=True, slots=True)
class KppSettings:
    """A buoyancy-chain power plant.

    The chain runs over a sprocket at the bottom and one at the top of a tank; air enters a floater
    at the foot of its straight way up and leaves at the head of it. fill: share of the shell's
    volume that the air takes at the top, were it as warm as the water.
    overpressure_pa: of the receiver over the water at the valve. compression_index: 1 isothermal to
        1.4 adiabatic, without cooling in between.
    generator_speed_radps, generator_torque_nm: the map of torque over speed at full load, linear in
        between.
    heat_rate_ps: rate at which air takes on the water's temperature; isothermal_rate_ps: the same
        with H2.
    bubble_share: of the descending side's water taken by bubbles with H1; bubble_rise_mps: how fast
        they rise. pulse_s, coast_s: H3.
    """

    floaters: int = 66
    depth_m: float = 10.0
    sprocket_radius_m: float = 0.5
    volume_m3: float = 0.4
    mass_kg: float = 16.0
    drag_coefficient: float = 0.6
    frontal_area_m2: float = 0.5
    added_mass_share: float = 0.5
    chain_kg: float = 600.0
    gear_ratio: float = 40.0
    gear_friction_n: float = 300.0
    gear_viscous_nspm: float = 200.0
    flywheel_kgm2: float = 2.0
    flywheel_viscous_nms: float = 0.02
    generator_speed_radps: tuple[float, ...] = (0.0, 60.0, 140.0, 180.0, 260.0)
    generator_torque_nm: tuple[float, ...] = (0.0, 0.0, 500.0, 600.0, 600.0)
    generator_efficiency: float = 0.93
    compressor_efficiency: float = 0.75
    compression_index: float = 1.2
    overpressure_pa: float = 20_000.0
    air_flow_kgps: float = 4.0
    fill: float = 1.0
    water_k: float = 288.15
    heat_rate_ps: float = 0.2
    isothermal_rate_ps: float = 8.0
    bubble_share: float = 0.05
    bubble_rise_mps: float = 0.25
    shaft_area_m2: float = 1.5
    pulse_s: float = 3.0
    coast_s: float = 1.0
    h1: bool = False
    h2: bool = False
    h3: bool = False
    prefilled: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError that names the setting, its value and what is allowed."""
        if (
            isinstance(self.floaters, bool)
            or not isinstance(self.floaters, int)
            or self.floaters < 2
            or self.floaters % 2
        ):
            raise ValueError(
                f"floaters: {self.floaters!r} is not allowed: an even number from 2 on, so "
                "that the shells balance each other."
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            low, high = BOUNDS.get(field.name, (LEAST, MOST))
            low = 0.0 if field.name in MAY_BE_ZERO else low
            if not low <= value <= high:
                raise ValueError(
                    f"{field.name}: {value!r} is not allowed: a number from {low:g} to {high:g}."
                )
        if self.straight_m <= 0.0:
            raise ValueError(
                f"sprocket_radius_m: {self.sprocket_radius_m} leaves no straight way: less "
                f"than half of depth_m, {self.depth_m}."
            )
        speeds, torques = self.generator_speed_radps, self.generator_torque_nm
        rising = all(a < b for a, b in pairwise(speeds))
        sound = all(math.isfinite(x) and x >= 0 for x in (*speeds, *torques))
        if len(speeds) < 2 or len(speeds) != len(torques) or not rising or not sound:
            raise ValueError(
                "generator_speed_radps, generator_torque_nm: two lists of one length, from "
                "two on, speeds rising, all finite, none negative."
            )

    @property
    def straight_m(self) -> float:
        """Length of each straight side."""
        return self.depth_m - 2.0 * self.sprocket_radius_m

    @property
    def loop_m(self) -> float:
        """Length of the closed chain."""
        return 2.0 * self.straight_m + 2.0 * math.pi * self.sprocket_radius_m

    @property
    def spacing_m(self) -> float:
        return self.loop_m / self.floaters

    @property
    def pressure_in_pa(self) -> float:
        """Of the water where air enters."""
        return ATMOSPHERE_PA + WATER_KGPM3 * GRAVITY_MPS2 * (self.depth_m - self.sprocket_radius_m)

    @property
    def pressure_out_pa(self) -> float:
        """Of the water where air leaves."""
        return ATMOSPHERE_PA + WATER_KGPM3 * GRAVITY_MPS2 * self.sprocket_radius_m

    @property
    def air_kg(self) -> float:
        """Air put into each floater; no more than its shell holds at the bottom."""
        wanted = self.fill * self.pressure_out_pa * self.volume_m3
        return min(wanted, self.pressure_in_pa * self.volume_m3) / (GAS_J_KGK * self.water_k)

    @property
    def compression_j_kg(self) -> float:
        """Electrical work to compress a kilogram of air into the receiver, where it cools down to
        the water's temperature.
        """
        return compression_work_j_kg(
            (self.pressure_in_pa + self.overpressure_pa) / ATMOSPHERE_PA,
            self.compression_index,
            self.water_k,
        ) / (self.compressor_efficiency)

    @property
    def bubble_w(self) -> float:
        """Electrical power of the blower that keeps `bubble_share` of the descending shaft filled
        with rising bubbles; zero without H1.
        """
        if not self.h1:
            return 0.0
        free_m3ps = (
            self.bubble_share * self.shaft_area_m2 * self.bubble_rise_mps
        )  # at the mean pressure of the shaft, taken as that of its top
        ratio = self.pressure_in_pa / ATMOSPHERE_PA
        kgps = free_m3ps * self.pressure_out_pa / (GAS_J_KGK * self.water_k)
        return (
            kgps
            * compression_work_j_kg(ratio, self.compression_index, self.water_k)
            / self.compressor_efficiency
        )

    def constants(self) -> Constants:
        """For the compiled code."""
        descending = self.floaters * self.straight_m / self.loop_m
        thin = WATER_KGPM3 * (1.0 - (self.bubble_share if self.h1 else 0.0))
        water = WATER_KGPM3 * (self.floaters - descending) + thin * descending
        return Constants(
            n=self.floaters,
            spacing=self.spacing_m,
            loop=self.loop_m,
            x_in=0.5 * math.pi * self.sprocket_radius_m,
            x_out=0.5 * math.pi * self.sprocket_radius_m + self.straight_m,
            p_in=self.pressure_in_pa,
            weight=WATER_KGPM3 * GRAVITY_MPS2,
            inertia=self.floaters * self.mass_kg
            + (1.0 + self.added_mass_share) * self.volume_m3 * water
            + self.chain_kg,
            drag=0.5 * self.drag_coefficient * self.frontal_area_m2 * water,
            shell=descending * self.mass_kg / STEEL_KGPM3 * (thin - WATER_KGPM3) * -GRAVITY_MPS2,
            friction=self.gear_friction_n,
            viscous=self.gear_viscous_nspm,
            ratio=self.gear_ratio / self.sprocket_radius_m,
            flywheel=self.flywheel_kgm2,
            windage=self.flywheel_viscous_nms,
            efficiency=self.generator_efficiency,
            compression=self.compression_j_kg,
            bubble=self.bubble_w,
            flow=self.air_flow_kgps,
            air=self.air_kg,
            volume=self.volume_m3,
            water=self.water_k,
            heat=self.isothermal_rate_ps if self.h2 else self.heat_rate_ps,
            pulse=self.pulse_s if self.h3 else 0.0,
            coast=self.coast_s if self.h3 else 0.0,
        )

    def generator(self) -> tuple[FloatArray, FloatArray]:
        return np.array(self.generator_speed_radps, np.float64), np.array(
            self.generator_torque_nm, np.float64
        )


# of what nothing else is said, in its own unit: beyond them the state is no number any more
LEAST, MOST = 1e-6, 1e9
BOUNDS = {
    "compression_index": (1.0, 1.4),
    "generator_efficiency": (LEAST, 1.0),
    "compressor_efficiency": (LEAST, 1.0),
    "bubble_share": (0.0, 0.5),
    "fill": (LEAST, 2.0),
    "water_k": (273.15, 373.15),
    "floaters": (2, 10_000),
    "heat_rate_ps": (0.0, 1000.0),  # steps last 2 ms then; air of 1 ms is as good as isothermal
    "isothermal_rate_ps": (0.0, 1000.0),
}
MAY_BE_ZERO = {
    "added_mass_share",
    "chain_kg",
    "gear_friction_n",
    "gear_viscous_nspm",
    "flywheel_viscous_nms",
    "overpressure_pa",
    "heat_rate_ps",
    "isothermal_rate_ps",
    "bubble_share",
    "drag_coefficient",
}


class Constants(NamedTuple):
    """`KppSettings` as the compiled code wants them: SI, one figure each; `shell` is the force by
    which thinner water lets shells sink.
    """

    n: int
    spacing: float
    loop: float
    x_in: float
    x_out: float
    p_in: float
    weight: float
    inertia: float
    drag: float
    shell: float
    friction: float
    viscous: float
    ratio: float
    flywheel: float
    windage: float
    efficiency: float
    compression: float
    bubble: float
    flow: float
    air: float
    volume: float
    water: float
    heat: float
    pulse: float
    coast: float


def compression_work_j_kg(ratio: float, index: float, intake_k: float) -> float:
    """Shaft work to compress a kilogram of air by the pressure ratio, polytropic with `index` from
    `intake_k`; isothermal at 1.

    n / (n - 1) R T (ratio^((n - 1) / n) - 1), and R T ln(ratio) for n = 1 (any text on
    thermodynamics of steady flow).

    >>> round(compression_work_j_kg(2.0, 1.0, 288.15))
    57333
    """
    if abs(index - 1.0) < 1e-9:
        return GAS_J_KGK * intake_k * math.log(ratio)
    return float(
        index / (index - 1.0) * GAS_J_KGK * intake_k * (ratio ** ((index - 1.0) / index) - 1.0)
    )
