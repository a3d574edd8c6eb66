"""The planner: each junction searches its next stages for the least delay of the traffic that it
observes.

Every second, for every junction: how long to hold the stage of now, which stage next, and for how
long, after which each stage is held until its queues and platoons have passed (a roll-out of
exhaustive service). What the plan costs is the delay of all vehicles observed, each lane a queue
(`headway.control.queue_model`); the best plan's first step is proposed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headway.control import planner_kernel as kernel
from headway.control.planner_tables import planner_tables
from headway.control.queue_model import Model
from headway.control.stages import EPS_S, RED, StageTable
from headway.roads import Colour, Network, Timing
from headway.values import BoolArray, ColourArray, FloatArray, IntArray, Observation, Proposal

HOLDS_S = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 26, 31, 37, 45)
LENGTHS_S = (8, 11, 15, 20, 27, 36)
MODEL = Model(
    horizon=60.0,
    headway=1.89,
    startup=1.38,
    late=0.34,
    stop=1.33,
    crawl=5.0,
    accel=3.54,
    after=0.67,
    gap=2.0,
    ahead=5.0,
    rest=0.0,
    room=15.0,
    short=60.0,
    stuck=7.0,
    give_up=32.0,
    spill=0.5,
    harm=1.0,
    person=1.0,
)
# Before the first observation nothing is known to have changed: longer ago than any rule reaches.
UNCHANGED_FOR_S = 1000.0


@dataclass(frozen=True, slots=True)
class PlannerState:
    """The stage aimed at (junctions,); the colours observed last; when each group's green began and
    ended last, seconds, and whether it is lit (groups,)."""

    target: IntArray
    shown: ColourArray
    began_s: FloatArray
    ended_s: FloatArray
    lit: BoolArray


class Planner:
    """See the module's text. One set of figures, `MODEL`, for all networks; how it was found stands
    in docs/decisions.
    """

    name = "planner"

    def __init__(self, network: Network, timing: Timing, model: Model = MODEL) -> None:
        self._network = network
        self._model = np.array(model)
        self._stages = StageTable(network, timing, every=True)
        self._tables = planner_tables(network, timing, self._stages, HOLDS_S, LENGTHS_S)
        self._sure = np.ones(len(network.junctions))
        self._min_cycle_s = timing.profile.min_cycle_s

    def start(self, seen: Observation) -> PlannerState:
        long_ago_s = np.full(len(seen.shown), seen.at_s - UNCHANGED_FOR_S)
        return PlannerState(
            target=np.zeros(len(self._network.junctions), np.int32),
            shown=seen.shown,
            began_s=long_ago_s,
            ended_s=long_ago_s,
            lit=seen.shown >= Colour.PERMISSIVE,
        )

    def step(self, seen: Observation, state: PlannerState) -> tuple[Proposal, PlannerState]:
        lit, began_s, ended_s = self._last_changes(seen, state)
        target = self._plan(seen, state.target, ended_s)
        wanted = self._stages.wanted_after_min_green(target, seen)
        # a group may not start again yet: known here, not in the search, where it did harm
        barred = ~lit & (seen.at_s - began_s < self._min_cycle_s - EPS_S)
        wanted[barred] = np.minimum(wanted[barred], RED)

        proposal = Proposal(seen.at_s, self.name, wanted, self._sure)
        after = PlannerState(
            target=target, shown=seen.shown, began_s=began_s, ended_s=ended_s, lit=lit
        )
        return proposal, after

    def _last_changes(
        self, seen: Observation, state: PlannerState
    ) -> tuple[BoolArray, FloatArray, FloatArray]:
        """(lit, began_s, ended_s) of this instant."""
        if seen.shown is state.shown:
            return state.lit, state.began_s, state.ended_s
        lit, began_s, ended_s = kernel.note_changes(
            seen.at_s, seen.shown, seen.shown_for_s, state.lit, state.began_s, state.ended_s
        )
        return lit, began_s, ended_s

    def _plan(self, seen: Observation, target: IntArray, ended_s: FloatArray) -> IntArray:
        vehicles = seen.vehicles
        return np.asarray(
            kernel.plan(
                t=self._tables,
                m=self._model,
                at_s=seen.at_s,
                target=target,
                shown=seen.shown,
                shown_for=seen.shown_for_s,
                ended=ended_s,
                v_lane=vehicles.lane,
                v_link=vehicles.link,
                v_distance=vehicles.distance_m,
                v_speed=vehicles.speed_mps,
                v_wait=vehicles.waiting_s,
                room=seen.room_m,
                persons=seen.waiting_persons,
                known=seen.links_known,
            )
        )
