"""Every source at every approach that it speaks of: against what others see and signals show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np

from headway.plants.sumo.loops import SPACING_M
from headway.street.external.sources import USED_FROM, ApproachTrust, Source
from headway.street.external.views import SeenVehicle
from headway.values import Observation, Vehicles

COMMON_M = 50.0  # before the stop line, that every kind of equipment sees
TOLERATED_VEH = 2.0  # by which two numbers of vehicles may differ and still agree; or
TOLERATED_SHARE = 0.34  # this share of the larger
STUCK_GREEN_S = 25.0  # of green in which a standing queue did not change: none lasts so long
LEAST_REFERENCE = 3  # holders whose median is a reference
COMPLETE_FROM = 0.5  # completeness of the street's own view from which it is a reference

Road = tuple[int, str]
"""Junction, and the name of the road that ends there."""


class Candidate(NamedTuple):
    """What a source says of a lane now. trust: at its approach, by what others and the signals say
    of it; surety: how far it says itself that this is so now, by quality and freshness; weight:
    both.
    """

    weight: float
    trust: float
    surety: float
    source: Source
    vehicles: list[SeenVehicle]


@dataclass
class Count:
    """What one source says of one approach. near_veh: within COMMON_M; stands_on_green: at the
    front of a lane whose signal is green.
    """

    source: Source
    lanes: list[int]
    near_veh: int = 0
    stands_on_green: bool = False


def judge(
    candidates: Mapping[int, list[Candidate]],
    road_of: Mapping[int, Road],
    green_s: list[float],
    own: Observation,
    period_s: float,
) -> None:
    """Evidence of one period. candidates, road_of, green_s: by lane."""
    own_near: list[int] | None = None
    for (junction, road), counts in _counts(candidates, road_of, green_s).items():
        is_seen = own.completeness[junction] > COMPLETE_FROM
        if is_seen and own_near is None:
            own_near = _near(own.vehicles, len(green_s))
        others = _median_of_holders(counts.values())
        for count in counts.values():
            trust = count.source.approach(road)
            _note_stuck(trust, count, period_s)
            reference = others
            if is_seen and own_near is not None:
                reference = float(sum(own_near[lane] for lane in count.lanes))
            if reference is not None:
                agrees = _agree(count.near_veh, reference)
                trust.agreement.add(period_s * agrees, period_s * (not agrees))


def _counts(
    candidates: Mapping[int, list[Candidate]], road_of: Mapping[int, Road], green_s: list[float]
) -> dict[Road, dict[str, Count]]:
    """By road, what each source says of it."""
    found = dict[Road, dict[str, Count]]()
    for lane, own in candidates.items():
        at = found.setdefault(road_of[lane], {})
        for _, _, surety, source, vehicles in own:
            if surety < USED_FROM:  # what it does not claim is no lie, and nobody's reference
                continue
            count = at.get(source.name)
            if count is None:
                count = at[source.name] = Count(source, [])
            count.lanes.append(lane)
            count.near_veh += sum(distance_m <= COMMON_M for distance_m, _, _ in vehicles)
            if vehicles and green_s[lane] > 0.0:
                front_m, speed_mps, _ = vehicles[0]
                count.stands_on_green |= speed_mps == 0.0 and front_m <= 2.0 * SPACING_M
    return found


def _near(vehicles: Vehicles, lanes: int) -> list[int]:
    """Those that the street itself sees within COMMON_M, by lane."""
    d, lane = vehicles.distance_m, vehicles.lane
    near = (lane >= 0) & (d >= 0.0) & (d <= COMMON_M)
    found: list[int] = np.bincount(lane[near], minlength=lanes).tolist()
    return found


def _median_of_holders(counts: Iterable[Count]) -> float | None:
    """Of one number a holder, the mean over its sources: nobody gets a majority by many names. None
    where too few speak, of those that the settings do not leave out.
    """
    by_holder = dict[str, list[int]]()
    for count in (count for count in counts if count.source.declared >= USED_FROM):
        by_holder.setdefault(count.source.holder, []).append(count.near_veh)
    if len(by_holder) < LEAST_REFERENCE:
        return None
    return median(sum(own) / len(own) for own in by_holder.values())


def _note_stuck(trust: ApproachTrust, count: Count, period_s: float) -> None:
    """Vehicles that stand on green, and whose number does not change, are a stuck detector's."""
    if count.near_veh != trust.stood_veh or not count.near_veh:
        trust.stood_green_s = 0.0
    elif count.stands_on_green:
        trust.stood_green_s += period_s
    trust.stood_veh = count.near_veh
    stuck = trust.stood_green_s > STUCK_GREEN_S
    trust.steadiness.add(period_s * (not stuck), period_s * stuck)


def _agree(vehicles: int, reference: float) -> bool:
    tolerated = max(TOLERATED_VEH, TOLERATED_SHARE * max(vehicles, reference))
    return abs(vehicles - reference) <= tolerated
