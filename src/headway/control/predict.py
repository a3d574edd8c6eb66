"""What a controller would decide at one junction for an observation that somebody gives, and why.

An observation is one JSON object (`SeenJunction`); nothing is remembered from one to the next. The
street itself is not asked, and nothing reaches its gate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from headway.control import Controller
from headway.control.actuated import Actuated
from headway.control.confidence import freshness
from headway.control.fixed import FixedTime
from headway.control.model_check import CHECKED_LANE_VEHICLES
from headway.control.onnx_policy import OnnxPolicy
from headway.control.parts import NumberedStages
from headway.control.planner import Planner, PlannerState
from headway.control.pressure import Greedy, MaxPressure
from headway.control.qlearning import QLearning
from headway.control.webster import Webster
from headway.roads import GO, Colour, Junction, Network, Timing
from headway.values import HALTING_MPS, ColourArray, FloatArray, Observation, Vehicles

MOST_VEHICLES = 200  # of one observation: with so many a decision takes some tens of milliseconds
MOST_IN_BATCH = 40_000  # vehicles of all observations of a batch
MOST_OBSERVATIONS = 1000  # of one batch
MOST_BYTES = 32 << 20  # of one batch
MOST_ALTERNATIVES = 16  # that are told, the best ones
LARGEST_NUMBER = 2**53 - 1  # of a stage: the largest that every reader of JSON takes
AT_S = 10_000.0  # of an observation, by a clock that nobody else reads
LETTERS = {
    "r": int(Colour.RED),
    "y": int(Colour.YELLOW),
    "g": int(Colour.PERMISSIVE),
    "G": int(Colour.GREEN),
}
# Of a predicted delay, as a share of it: how far it is off in an ordinary case, assumed.
PREDICTION_ERROR = 0.2
TURN_UNKNOWN = 0.5  # that counts against a vehicle whose lane is known, and has several turns
# Share of the planner's decisions during a change of signals that are found without `stage`:
# measured on ingolstadt7 (cologne8: 0.72), beside what it did on the street.
CHANGE_UNKNOWN = 0.66
BEHIND_UNKNOWN = 0.5  # of max-pressure: how many vehicles stand behind the junction is not given
NEIGHBOURS_UNKNOWN = 0.5  # of a Q-table whose states have their demand, which is not given
NEED_HISTORY = ("freshness", "completeness", "detection", "performance")

Name = Annotated[str, Meta(min_length=1, max_length=512)]
Place = Annotated[int, Meta(ge=0, le=1023)]
Seconds = Annotated[float, Meta(ge=0.0, le=86_400.0)]


class SeenVehicle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A vehicle before the stop line. lane: its name in the network; group: the signal group at the
    junction that it waits for, -1 where its turn is not known; distance_m: below 0 for one that
    waits inside the junction.
    """

    lane: Name
    distance_m: Annotated[float, Meta(ge=-50.0, le=2000.0)]
    speed_mps: Annotated[float, Meta(ge=0.0, lt=100.0)] = 0.0
    waited_s: Seconds = 0.0
    group: Annotated[int, Meta(ge=-1, le=1023)] = -1


class SeenPersons(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """People who wait at a crossing. group: its signal group at the junction."""

    group: Place
    count: Annotated[int, Meta(ge=0, le=1000)] = 1


class SeenExit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Free length at the start of a lane behind the junction, by its name in the network."""

    lane: Name
    free_m: Annotated[float, Meta(ge=0.0, le=10_000.0)]


class SeenJunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is seen of one junction at one moment.

    shown:        a letter for each of its signal groups, as SUMO has them: r, y, g (permissive), G;
        empty for its first stage.
    shown_for_s:  for how long, one number for all groups or one for each.
    stage:        number of the stage that is aimed at already, as the last decision said it; needed
        while signals change. -1: the one whose greens are shown.
    at_s:         second of the street's clock; needed where a programme decides by the clock.
    age_s:        of the observation.
    completeness: share of its sources that delivered, 0..1.
    """

    junction: Name
    vehicles: Annotated[list[SeenVehicle], Meta(max_length=MOST_VEHICLES)] = []
    shown: Annotated[str, Meta(max_length=1024, pattern="^[ryGg]*$")] = ""
    shown_for_s: Seconds | Annotated[list[Seconds], Meta(max_length=1024)] = 60.0
    persons: Annotated[list[SeenPersons], Meta(max_length=1024)] = []
    exits: Annotated[list[SeenExit], Meta(max_length=1024)] = []
    stage: Annotated[int, Meta(ge=-1, le=LARGEST_NUMBER)] = -1
    at_s: Annotated[float, Meta(ge=0.0, le=1e10)] | None = None
    age_s: Seconds = 0.0
    completeness: Annotated[float, Meta(ge=0.0, le=1.0)] = 1.0


class Alternative(msgspec.Struct, frozen=True):
    """A stage that could be aimed at now. green: its signal groups; expected_delay_s: vehicle
    seconds up to the planner's horizon if it is, None where the controller predicts none; seconds:
    for how long it would be shown; value: what a Q-table or an agent's network says of it, None
    for others.
    """

    stage: int
    green: tuple[int, ...]
    expected_delay_s: float | None = None
    seconds: float | None = None
    value: float | None = None


class Prediction(msgspec.Struct, frozen=True):
    """A decision. stage: number of the stage of the junction that is aimed at, -1 for colours that
    are none, and where there are more than `LARGEST_NUMBER`; green: its signal groups; seconds: for
    how long, changes of signals included, None where the controller does not say; confidence: the
    product of `factors`, 0..1 each; alternatives: the best first.
    """

    junction: str
    controller: str
    stage: int
    green: tuple[int, ...]
    seconds: float | None
    confidence: float
    factors: dict[str, float]
    alternatives: tuple[Alternative, ...]
    why: str


class _Place(NamedTuple):
    """One junction. links: by name of a lane before it, the links under its signals."""

    number: int
    of: Junction
    links: dict[str, tuple[int, ...]]


_one = msgspec.json.Decoder(SeenJunction)
_many: msgspec.json.Decoder[list[SeenJunction]] = msgspec.json.Decoder(
    Annotated[list[SeenJunction], Meta(min_length=1, max_length=MOST_OBSERVATIONS)]
)


def read_one(text: bytes | str) -> SeenJunction:
    """Raises ValueError, with the place of the fault, for what is no observation."""
    return _one.decode(text)


def read_many(text: bytes | str) -> list[SeenJunction]:
    """A JSON list of up to MOST_OBSERVATIONS. Raises ValueError, with the place of the fault."""
    if len(text) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES >> 20} MiB. Send fewer observations at once.")
    found = _many.decode(text)
    vehicles = sum(len(one.vehicles) for one in found)
    if vehicles > MOST_IN_BATCH:
        raise ValueError(
            f"{vehicles} vehicles, a batch has {MOST_IN_BATCH} at most. Send fewer observations at "
            "once."
        )
    return found


def predict(
    controller: Controller, network: Network, timing: Timing, seen: SeenJunction
) -> Prediction:
    """One decision; see `Predictor`, which is made once for many."""
    return Predictor(controller, network, timing).predict(seen)


class Predictor:
    """Decides for given observations. From one thread at a time."""

    def __init__(self, controller: Controller, network: Network, timing: Timing) -> None:
        self._controller = controller
        self._network = network
        links: list[dict[str, list[int]]] = [{} for _ in network.junctions]
        for i, link in enumerate(network.links):
            if link.group >= 0:
                own = links[network.group_junction[link.group]]
                own.setdefault(network.lanes[link.from_lane].id, []).append(i)
        self._places = {
            junction.id: _Place(j, junction, {lane: tuple(of) for lane, of in links[j].items()})
            for j, junction in enumerate(network.junctions)
        }
        first = [junction.stages[0] for junction in network.junctions]
        self._shown = np.concatenate(first).astype(np.int8)
        self._arrived = np.zeros(len(network.links), np.int32)
        self._count = np.zeros(len(network.lanes), np.int32)
        self._room_m = np.full(len(network.lanes), np.inf)
        self._at_start: PlannerState | None = (
            None  # of a planner, what each observation begins with
        )

    def predict(self, seen: SeenJunction) -> Prediction:
        """Raises ValueError, with the place of the fault, for what this network has not."""
        place = self._places.get(seen.junction)
        if place is None:
            raise ValueError(
                f"junction: no {seen.junction[:80]!r} here. There are: "
                f"{', '.join(self._places)[:500]}."
            )
        observation, known = self._observed(seen, place)
        factors = {
            "freshness": freshness(seen.age_s),
            "completeness": seen.completeness,
            "novelty": known,
        }
        if isinstance(self._controller, Planner):
            return self._by_planner(self._controller, observation, place, seen.stage, factors)
        if seen.at_s is not None:
            observation = replace(observation, at_s=seen.at_s)
        elif isinstance(self._controller, FixedTime):
            factors["clock"] = _longest_share(place.of)
        return self._by_step(observation, place, seen.stage, factors)

    def batch(self, seen: Iterable[SeenJunction]) -> list[Prediction | str]:
        """One answer for each, in order: the decision, or what is wrong with the observation."""
        answers = list[Prediction | str]()
        for one in seen:
            try:
                answers.append(self.predict(one))
            except ValueError as error:
                answers.append(str(error))
        return answers

    # --- the observation

    def _observed(self, seen: SeenJunction, place: _Place) -> tuple[Observation, float]:
        """(as a controller takes it, share of the vehicles that its model knows). Raises
        ValueError.
        """
        own = slice(place.of.first, place.of.end)
        groups = place.of.end - place.of.first
        shown = self._shown.copy()
        if seen.shown:
            if len(seen.shown) != groups:
                raise ValueError(f"shown: {len(seen.shown)} letters, the junction has {groups}")
            shown[own] = [LETTERS[letter] for letter in seen.shown]
        shown_for_s = np.full(len(shown), 60.0)
        if isinstance(seen.shown_for_s, list) and len(seen.shown_for_s) != groups:
            raise ValueError(
                f"shown_for_s: {len(seen.shown_for_s)} numbers, the junction has {groups} groups"
            )
        shown_for_s[own] = seen.shown_for_s
        waiting = np.zeros(len(shown), np.int32)
        for i, persons in enumerate(seen.persons):
            if persons.group >= groups:
                raise ValueError(f"persons[{i}].group: the junction has {groups} groups")
            waiting[place.of.first + persons.group] += persons.count
        vehicles, turns_known, known = self._vehicles(seen.vehicles, place)
        observation = Observation(
            at_s=AT_S,
            vehicles=vehicles,
            shown=shown,
            shown_for_s=shown_for_s,
            room_m=self._room(seen.exits),
            count=self._count,
            arrived=self._arrived,
            waiting_persons=waiting,
            completeness=np.full(len(self._network.junctions), seen.completeness),
            source="given",
            links_known=turns_known,
            inside_seen=turns_known,
        )
        return observation, known

    def _room(self, exits: Sequence[SeenExit]) -> FloatArray:
        if not exits:
            return self._room_m
        room_m = self._room_m.copy()
        for i, behind in enumerate(exits):
            lane = self._network.lane_index.get(behind.lane)
            if lane is None:
                raise ValueError(f"exits[{i}].lane: no lane {behind.lane[:80]!r} here")
            room_m[lane] = behind.free_m
        return room_m

    def _vehicles(self, seen: Sequence[SeenVehicle], place: _Place) -> tuple[Vehicles, bool, float]:
        """(they, whether each one's turn is known, share that the model knows)."""
        links, lanes, guessed = [], [], 0
        by_lane: dict[str, int] = {}
        for i, vehicle in enumerate(seen):
            of_lane = place.links.get(vehicle.lane)
            if of_lane is None:
                raise ValueError(
                    f"vehicles[{i}].lane: no lane {vehicle.lane[:80]!r} before this junction's "
                    f"signals. There are: {', '.join(place.links)[:500]}."
                )
            link = self._link(vehicle.group, of_lane, place)
            if link is None:
                raise ValueError(
                    f"vehicles[{i}].group: lane {vehicle.lane[:80]!r} has no group "
                    f"{vehicle.group} at this junction"
                )
            guessed += vehicle.group < 0 and len(of_lane) > 1
            by_lane[vehicle.lane] = by_lane.get(vehicle.lane, 0) + 1
            links.append(link)
            lanes.append(self._network.links[link].from_lane)
        n = len(seen)
        most = max(by_lane.values(), default=0)
        known = 1.0 if n == 0 else 1.0 - TURN_UNKNOWN * guessed / n
        vehicles = Vehicles(
            lane=np.array(lanes, np.int32),
            link=np.array(links, np.int32),
            distance_m=np.array([v.distance_m for v in seen], np.float64),
            speed_mps=np.array([v.speed_mps for v in seen], np.float64),
            waiting_s=np.array([v.waited_s for v in seen], np.float64),
            length_m=np.full(n, 7.5),
            emergency=np.zeros(n, np.bool_),
        )
        return vehicles, guessed == 0, known * min(1.0, CHECKED_LANE_VEHICLES / max(most, 1))

    def _link(self, group: int, of_lane: tuple[int, ...], place: _Place) -> int | None:
        """The link of a lane that its group holds; the first where the turn is not known."""
        if group < 0:
            return of_lane[0]
        wanted = place.of.first + group
        return next((k for k in of_lane if self._network.links[k].group == wanted), None)

    # --- the decision

    def _by_planner(
        self,
        planner: Planner,
        seen: Observation,
        place: _Place,
        stage: int,
        factors: dict[str, float],
    ) -> Prediction:
        of_junction = planner.stages(place.number)
        if self._at_start is None:
            self._at_start = planner.start(seen)
        now, is_known = _aimed_at(stage, of_junction, seen.shown[place.of.first :])
        if not is_known:
            factors["change"] = CHANGE_UNKNOWN
        since_s = seen.at_s - seen.shown_for_s
        state = replace(
            planner.aiming_at(self._at_start, place.number, now),
            shown=seen.shown,
            began_s=since_s,
            ended_s=since_s,
        )
        found = planner.alternatives(seen, state, place.number)
        order = [found.chosen]  # first also of those that cost the same
        if not found.is_bound:  # else nothing else can begin
            others = np.argsort(found.delay_s, kind="stable").tolist()
            order += [k for k in others if k != found.chosen]
        stages, delay_s = found.stages.tolist(), found.delay_s.tolist()
        lasts_s = found.lasts_s.tolist()
        told = tuple(
            Alternative(
                stage=stages[k] if of_junction.count <= LARGEST_NUMBER else -1,
                green=_green(of_junction.colours(stages[k])),
                expected_delay_s=round(delay_s[k], 2),
                seconds=round(lasts_s[k], 1),
            )
            for k in order[:MOST_ALTERNATIVES]
        )
        best, rest = told[0], told[1:]
        factors["margin"] = _margin([delay_s[k] for k in order[:2]])
        is_kept = stages[found.chosen] == now
        why = _why_of_planner(best, rest, is_kept, seen, place, self._network)
        return _prediction(
            planner.name, place, best.stage, best.green, best.seconds, factors, told, why
        )

    def _by_step(
        self, seen: Observation, place: _Place, stage: int, factors: dict[str, float]
    ) -> Prediction:
        """Of any controller, by what it proposes."""
        controller, j = self._controller, place.number
        own = slice(place.of.first, place.of.end)
        state = controller.start(seen)
        colours: ColourArray = place.of.stages
        now, is_known = _aimed_at(stage, NumberedStages((colours,)), seen.shown[own])
        if isinstance(controller, QLearning | OnnxPolicy | Actuated | Greedy):
            state = _resumed(state, j, now, seen.at_s - _green_for_s(colours[now], seen, own))
            if not is_known:
                factors["change"] = CHANGE_UNKNOWN
        if isinstance(controller, QLearning) and controller.table.sees_neighbours:
            factors["neighbours"] = NEIGHBOURS_UNKNOWN
        if isinstance(controller, MaxPressure):
            factors["behind"] = BEHIND_UNKNOWN
        if isinstance(controller, Webster):
            factors["history"] = 0.0  # neither its flows nor where its cycle is are given
        proposal, after = controller.step(seen, state)
        for name, factor in proposal.why.items():
            if name not in NEED_HISTORY:
                factors[name] = factors.get(name, 1.0) * float(np.clip(factor[j], 0.0, 1.0))
        told: tuple[Alternative, ...] = ()
        seconds = None
        if isinstance(controller, QLearning | OnnxPolicy):
            seconds = controller.interval_s
            stage = int(after.target[j])
            told = _by_value(controller, seen, state, j, colours)
        else:
            stage = _stage_shown(colours, proposal.wanted[own], unknown=-1)
        green = _green(colours[stage] if stage >= 0 else proposal.wanted[own])
        verb = "keeps" if stage == now else "goes to"
        serves = _traffic(seen, green, place, self._network)
        why = f"{controller.name} {verb} stage {stage} for {serves}."
        return _prediction(controller.name, place, stage, green, seconds, factors, told, why)


def _prediction(
    controller: str,
    place: _Place,
    stage: int,
    green: tuple[int, ...],
    seconds: float | None,
    factors: dict[str, float],
    told: tuple[Alternative, ...],
    why: str,
) -> Prediction:
    return Prediction(
        junction=place.of.id,
        controller=controller,
        stage=stage,
        green=green,
        seconds=seconds,
        confidence=round(math.prod(factors.values()), 4),
        factors={name: round(factor, 4) for name, factor in factors.items()},
        alternatives=told,
        why=why,
    )


def _aimed_at(stage: int, stages: NumberedStages, shown: ColourArray) -> tuple[int, bool]:
    """(number of the stage that is aimed at, whether that is known). stage: as it was given, -1
    where it was not: of each part that whose greens are shown, else, while signals change, the one
    with most of these, and fewest others. Raises ValueError.
    """
    if stage >= stages.count:
        raise ValueError(f"stage: {stage}, the junction has {stages.count}, from 0 on")
    if stage >= 0:
        return stage, True
    closest, is_known = list[int](), True
    for part, columns in zip(stages.parts, stages.columns, strict=True):
        is_green, go = part >= GO, shown[columns] >= GO
        differ = (is_green != go).sum(axis=1)
        closest.append(int((differ + len(go) * (go & ~is_green).sum(axis=1)).argmin()))
        is_known &= not differ[closest[-1]]
    return stages.number(closest), is_known


def _resumed(state: Any, junction: int, stage: int, since_s: float) -> Any:
    """The state of a controller that aims at a stage, as if at this junction it had begun then."""
    target = state.target.copy()
    target[junction] = stage
    changes = {"target": target}
    for name in ("since_s", "began_s"):
        if (times_s := getattr(state, name, None)) is not None:
            changes[name] = times_s.copy()
            changes[name][junction] = since_s
    return replace(state, **changes)


def _green_for_s(stage: ColourArray, seen: Observation, own: slice) -> float:
    """For how long all greens of a stage have been shown; 0 where one of them is not."""
    is_lit = stage >= GO
    if not is_lit.any():
        return float(seen.shown_for_s[own].min())
    if (seen.shown[own][is_lit] < GO).any():
        return 0.0
    return float(seen.shown_for_s[own][is_lit].min())


def _longest_share(of: Junction) -> float:
    """Of the cycle of a programme, the share in which it shows one set of greens longest: so often
    a guess without the clock comes true.
    """
    lasts_s: dict[bytes, float] = {}
    for colours, duration_s in zip(of.programme.colours, of.programme.duration_s, strict=True):
        greens = (colours >= GO).tobytes()
        lasts_s[greens] = lasts_s.get(greens, 0.0) + float(duration_s)
    return max(lasts_s.values()) / sum(lasts_s.values())


def _stage_shown(colours: ColourArray, shown: ColourArray, unknown: int = 0) -> int:
    """The first stage whose greens are those that are shown."""
    same = ((colours >= GO) == (shown >= GO)).all(axis=1)
    return int(same.argmax()) if same.any() else unknown


def _green(colours: ColourArray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(colours >= GO).tolist())


def _margin(delays_s: Sequence[float]) -> float:
    """Probability that the first of the delays is less than the second, if each is off by a share
    PREDICTION_ERROR of it (normal, independent); 1 where there is no second.
    """
    if len(delays_s) < 2:
        return 1.0
    best, second = delays_s[:2]
    spread = PREDICTION_ERROR * math.hypot(best, second)
    if spread == 0.0:
        return 0.5
    return 0.5 * (1.0 + math.erf((second - best) / spread / math.sqrt(2.0)))


def _by_value(
    agent: QLearning | OnnxPolicy,
    seen: Observation,
    state: Any,
    junction: int,
    colours: ColourArray,
) -> tuple[Alternative, ...]:
    """The stages that the table has tried, or the network knows, by their value."""
    values, known = agent.values(seen, state)
    tried = np.flatnonzero(known[junction, : len(colours)])
    order = tried[np.argsort(-values[junction, tried], kind="stable")]
    return tuple(
        Alternative(
            stage=int(k), green=_green(colours[k]), value=round(float(values[junction, k]), 4)
        )
        for k in order[:MOST_ALTERNATIVES].tolist()
    )


def _why_of_planner(
    best: Alternative,
    others: Sequence[Alternative],
    is_kept: bool,
    seen: Observation,
    place: _Place,
    network: Network,
) -> str:
    serves = _traffic(seen, best.green, place, network)
    what = f"{_name(best)} {'is kept' if is_kept else 'begins'}"
    if not others:
        return f"{what} for {serves}: no other can begin now, or nobody asks for it."
    second = others[0]
    assert best.expected_delay_s is not None
    assert second.expected_delay_s is not None
    less_s = second.expected_delay_s - best.expected_delay_s
    return (
        f"{what} for {serves}: {best.expected_delay_s:.0f} vehicle seconds of delay expected, "
        f"{less_s:.0f} less than with {_name(second)}, the next best."
    )


def _name(told: Alternative) -> str:
    return f"stage {told.stage}" if told.stage >= 0 else "a stage"


def _traffic(seen: Observation, green: Sequence[int], place: _Place, network: Network) -> str:
    v = seen.vehicles
    is_green = np.zeros(place.of.end - place.of.first, np.bool_)
    is_green[list(green)] = True
    served = is_green[network.link_group[v.link] - place.of.first]
    if not served.any():
        return "nobody in view"
    stopped = served & (v.speed_mps < HALTING_MPS)
    count = int(served.sum())
    text = "1 vehicle" if count == 1 else f"{count} vehicles"
    if stopped.any():
        longest_s = float(v.waiting_s[stopped].max())
        text += f", {int(stopped.sum())} of them stopped, the longest for {longest_s:.0f} s"
    return text
