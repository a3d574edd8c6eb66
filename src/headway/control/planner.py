"""The planner: each junction searches its next stages for the least delay of the traffic that it
observes.

Every second, for every junction: how long to hold the stage of now, which stage next, and for how
long, after which each stage is held until its queues and platoons have passed (a roll-out of
exhaustive service). What the plan costs is the delay of all vehicles observed, each lane a queue
(`headway.control.queue_model`); the best plan's first step is proposed. A junction of several
parts (`headway.control.parts`) is searched part by part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from headway.control import model_check
from headway.control import planner_kernel as kernel
from headway.control.alternatives import Alternatives, alternatives, put_together
from headway.control.cycles import no_cycles
from headway.control.lane_queues import SignalTimes, Traffic
from headway.control.model_check import ModelCheck
from headway.control.parts import NumberedStages, parts_of
from headway.control.planner_tables import planner_tables
from headway.control.queue_model import Model, as_record
from headway.control.stages import RED, StageTable
from headway.roads import Colour, Network, Timing
from headway.settings import PlannerSettings
from headway.values import BoolArray, ColourArray, FloatArray, IntArray, Observation, Proposal

HOLDS_S = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 26, 31, 37, 45)
LENGTHS_S = (8, 11, 15, 20, 27, 36)
MODEL = Model(**PlannerSettings().model_dump())
# Before the first observation nothing is known to have changed: longer than any time of the rules.
UNCHANGED_FOR_S = 1000.0


@dataclass(frozen=True, slots=True)
class PlannerState:
    """The stage aimed at (parts,); the colours observed last; when each group's green began and
    ended last, seconds, and whether it is lit (groups,); what `cycles` remembers of it
    (3, groups); how well the model held.
    """

    target: IntArray
    shown: ColourArray
    began_s: FloatArray
    ended_s: FloatArray
    lit: BoolArray
    cycles: FloatArray
    check: ModelCheck


class Planner:
    """See the module's text. One set of figures, `MODEL`, for all networks; how it was found stands
    in docs/decisions. tick_s: of the street's loop, in whole ones of which signals change.
    """

    name = "planner"

    def __init__(
        self,
        network: Network,
        timing: Timing,
        model: Model = MODEL,
        tick_s: float = 1.0,
        name: str = name,
    ) -> None:
        self.name = name
        self._parts = parts_of(network)
        self._is_in_parts = len(self._parts.network.junctions) > len(network.junctions)
        self._model = as_record(model)
        self._stages = StageTable(self._parts.network, timing, every=True)
        self._tables = planner_tables(
            self._parts.network, timing, self._stages, HOLDS_S, LENGTHS_S, tick_s
        )

    def start(self, observation: Observation) -> PlannerState:
        long_ago_s = np.full(len(observation.shown), observation.at_s - UNCHANGED_FOR_S)
        return PlannerState(
            target=np.zeros(len(self._parts.network.junctions), np.int32),
            shown=observation.shown,
            began_s=long_ago_s,
            ended_s=long_ago_s,
            lit=observation.shown >= Colour.PERMISSIVE,
            cycles=no_cycles(len(observation.shown), observation.at_s),
            check=model_check.no_check(
                len(self._parts.network.junctions),
                len(self._tables.stop_lanes),
                observation.shown,
                observation.at_s,
            ),
        )

    def step(self, observation: Observation, state: PlannerState) -> tuple[Proposal, PlannerState]:
        lit, began_s, ended_s = self._last_changes(observation, state)
        signals, traffic = signals_of(observation, ended_s), traffic_of(observation)
        target, barred, is_any_barred, cycles, check, factors, confidence = kernel.decide(
            self._tables,
            self._model,
            float(observation.at_s),
            state.target,
            state.check,
            began_s,
            state.cycles,
            signals,
            traffic,
            int(observation.recalled),
            bool(observation.links_known),
            bool(observation.inside_seen),
        )
        wanted = self._stages.wanted_after_min_green(target, observation)
        if is_any_barred:
            wanted[barred] = np.minimum(wanted[barred], RED)
        if self._is_in_parts:  # as sure as of the part of which it is least sure
            first = self._parts.first[:-1]
            factors = np.minimum.reduceat(factors, first, axis=1)
            confidence = np.minimum.reduceat(confidence, first)
        why = dict(zip(model_check.FACTORS, factors, strict=True))
        proposal = Proposal(observation.at_s, self.name, wanted, confidence, why)
        after = PlannerState(
            target=target,
            shown=observation.shown,
            began_s=began_s,
            ended_s=ended_s,
            lit=lit,
            cycles=cycles,
            check=check,
        )
        return proposal, after

    def alternatives(
        self, observation: Observation, state: PlannerState, junction: int
    ) -> Alternatives:
        """What it could aim at now at one junction, and what each costs. It takes longer than a
        step. Stages have the numbers of `stages`.
        """
        _, began_s, ended_s = self._last_changes(observation, state)
        signals, traffic = signals_of(observation, ended_s), traffic_of(observation)
        of_parts = [
            Alternatives(
                *alternatives(
                    self._tables,
                    self._model,
                    float(observation.at_s),
                    part,
                    int(state.target[part]),
                    began_s,
                    state.cycles,
                    signals,
                    traffic,
                    bool(observation.links_known),
                    bool(observation.inside_seen),
                )
            )
            for part in self._parts.of(junction)
        ]
        return put_together(of_parts, self.stages(junction))

    def predicted_delay_s(
        self, observation: Observation, state: PlannerState, junction: int
    ) -> float:
        """Of the plan that it follows at one junction: see `Alternatives.delay_s`."""
        found = self.alternatives(observation, state, junction)
        return float(found.delay_s[found.chosen])

    def stages(self, junction: int) -> NumberedStages:
        """Those of one junction. `PlannerState.target` has them by part."""
        parts = self._parts.of(junction)
        return NumberedStages(tuple(self._stages.of_junction(part) for part in parts))

    def aiming_at(self, state: PlannerState, junction: int, stage: int) -> PlannerState:
        """The same, with another stage of one junction aimed at."""
        target = state.target.copy()
        target[self._parts.of(junction)] = self.stages(junction).of_parts(stage)
        return replace(state, target=target)

    def _last_changes(
        self, observation: Observation, state: PlannerState
    ) -> tuple[BoolArray, FloatArray, FloatArray]:
        """(lit, began_s, ended_s) of this instant."""
        if observation.shown is state.shown:
            return state.lit, state.began_s, state.ended_s
        lit, began_s, ended_s = kernel.note_changes(
            observation.at_s,
            observation.shown,
            observation.shown_for_s,
            state.lit,
            state.began_s,
            state.ended_s,
        )
        return lit, began_s, ended_s


def signals_of(observation: Observation, ended_s: FloatArray) -> SignalTimes:
    """ended_s: float (groups,), when the last green of each group ended."""
    return SignalTimes(
        colour=np.ascontiguousarray(observation.shown, np.int8),
        shown_for_s=np.ascontiguousarray(observation.shown_for_s, np.float64),
        ended_for_s=observation.at_s - ended_s,
    )


def traffic_of(observation: Observation) -> Traffic:
    """Of one type each, whatever the plant gives: another type would be compiled within a tick."""
    vehicles = observation.vehicles
    return Traffic(
        lane=np.ascontiguousarray(vehicles.lane, np.int32),
        link=np.ascontiguousarray(vehicles.link, np.int32),
        distance_m=np.ascontiguousarray(vehicles.distance_m, np.float64),
        speed_mps=np.ascontiguousarray(vehicles.speed_mps, np.float64),
        waiting_s=np.ascontiguousarray(vehicles.waiting_s, np.float64),
        room_m=np.ascontiguousarray(observation.room_m, np.float64),
        waiting_persons=np.ascontiguousarray(observation.waiting_persons, np.int32),
        arrived=np.ascontiguousarray(observation.arrived, np.int64),
        unseen=np.zeros(len(observation.shown))
        if observation.unseen is None
        else np.ascontiguousarray(observation.unseen, np.float64),
    )
