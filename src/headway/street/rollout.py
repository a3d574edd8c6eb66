"""Models on a running street: who is champion, canary and shadow, from an order to its end.

The *champion* decides. A *canary* takes turns with it on some junctions, within some hours; it is
withdrawn by itself when its step fails, when the gate finds a fault on its junctions, or when its
delay is worse (`canary.Trial`). A *shadow* decides beside the champion, after the command of the
tick has been applied: nothing that it does can reach the gate.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from headway.control import Controller, Predicts
from headway.control.models import ModelFile, model_controller
from headway.roads import GO, Network, Timing
from headway.safety import ControlSource, SafetyGate
from headway.settings import Settings
from headway.street.canary import Trial
from headway.street.deployed import Deployed
from headway.street.guard import CANARY, CONTROLLER, HUNG, SHADOW, Guard
from headway.street.messages import Deploy, Rollback
from headway.street.state_file import PLAIN, StateError
from headway.values import BoolArray, CountArray, Event, Observation, Proposal

COMPARED_EACH = 5  # ticks: a junction's predicted delays, as they cost as much as its decision
MEAN_OVER = 100  # ticks of which the shadow's work is the mean
Rehearsal = Callable[[Controller, str], str]
"""Tries a controller in a role; why it cannot decide, empty where it can."""
ROLES = {"all": CONTROLLER, "canary": CANARY, "shadow": SHADOW}  # by mode of a deployment
STALE = "its proposal is not of now"
LATCHED = "the gate found a fault"


class Change(NamedTuple):
    """What an order makes of a street, checked before anything changes. controller: in the role of
    the deployment; None for a rollback.
    """

    deployed: Deployed
    controller: Controller | None = None


@dataclass
class Canary:
    """order: as it was deployed. of_junction: bool (junctions,), of_group: (groups,), where it
    decides. faults: of the gate, latched since before it began. decides: at this tick.
    """

    order: Deploy
    controller: Controller
    trial: Trial
    of_junction: BoolArray
    of_group: BoolArray
    state: Any
    faults: frozenset[int]
    decides: bool = False


@dataclass
class Shadow:
    """order: as it was deployed. of_junction: bool (junctions,), those that are compared.

    ticks:       that were compared.
    disagreed:   int (junctions,), of these, where it wanted another green.
    predictions: how often both predicted a delay, of one junction in turn; predicted_s, champion_s:
        the sums.
    work_s:      wall time of its newest steps.
    """

    order: Deploy
    controller: Controller
    of_junction: BoolArray
    state: Any
    disagreed: CountArray
    ticks: int = 0
    predictions: int = 0
    predicted_s: float = 0.0
    champion_s: float = 0.0
    work_s: deque[float] = field(default_factory=lambda: deque(maxlen=MEAN_OVER))


def shared(proposal: Proposal, other: Proposal, own: BoolArray, of_group: BoolArray) -> Proposal:
    """The proposal, in which the junctions `own` (junctions,), with the signal groups `of_group`
    (groups,), have the colours of `other`, and its confidence with what that is made of.
    """
    ones = np.ones(len(own))
    wanted = proposal.wanted.copy()
    wanted[of_group] = other.wanted[of_group]  # of this one's type
    return replace(
        proposal,
        wanted=wanted,
        confidence=np.where(own, other.confidence, proposal.confidence),
        why={
            name: np.where(own, other.why.get(name, ones), proposal.why.get(name, ones))
            for name in dict.fromkeys((*proposal.why, *other.why))
        },
    )


class Rollout:
    """The models of one street.

    guards: by role; they ask whoever has it.
    deployed: what is in force now.
    refused:  models that an order named and that could not be had when the street was opened, each
        with the reason.
    clock:    wall seconds.
    """

    def __init__(
        self,
        network: Network,
        guards: Mapping[str, Guard],
        record: Callable[[Event], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._network = network
        self._guards = guards
        self._record = record
        self._clock = clock
        self._names = [junction.id for junction in network.junctions]
        self._first = np.array([junction.first for junction in network.junctions])
        self.deployed = Deployed()
        self.canary: Canary | None = None
        self.shadow: Shadow | None = None
        self.refused: list[dict[str, str]] = []
        self._has_ended = False

    # --- orders

    def check(self, order: Deploy | Rollback) -> None:
        """Raises ValueError for junctions that the street has not."""
        unknown = [name for name in order.junctions if name not in self._names]
        if unknown:
            raise ValueError(
                f"no junction {', '.join(unknown)[:200]} on this street. There are: "
                f"{', '.join(self._names)[:500]}."
            )

    def prepared(
        self, order: Deploy, timing: Timing, settings: Settings, rehearse: Rehearsal
    ) -> Change:
        """Its model, read and tried once on what is observed. Raises ValueError, with nothing
        changed, for one that cannot decide here.
        """
        self.check(order)
        controller = model_controller(order.model, self._network, timing, settings)
        if fault := rehearse(controller, ROLES[order.mode]):
            raise ValueError(f"model {order.model.label}: it cannot decide here: {fault}")
        return Change(self.deployed.with_deploy(order), controller)

    def take_up(
        self,
        deployed: Deployed,
        timing: Timing,
        settings: Settings,
        observation: Observation,
        hung: Collection[str] = (),
    ) -> None:
        """What was in force in the process before this one, its champion aside. A model that cannot
        be had any more is left out; see `refused`. hung: roles whose step ended that process: their
        models are not asked.
        """
        self.deployed = replace(deployed, canary=None, shadow=None)
        for order in (deployed.canary, deployed.shadow):
            if order is None:
                continue
            role = ROLES[order.mode]
            try:
                self.check(order)
                controller = model_controller(order.model, self._network, timing, settings)
            except ValueError as error:
                self.refused.append(
                    {"order": f"{order.mode} {order.model.label}", "why": str(error)}
                )
                continue
            if role in hung:
                self._guards[role].put_down(controller, observation.at_s, HUNG)
            change = Change(self.deployed.with_deploy(order), controller)
            self.use(change, observation, {}, stand_up=role not in hung)

    def use(
        self,
        change: Change,
        observation: Observation,
        faults: Mapping[int, Any],
        stand_up: bool = True,
    ) -> None:
        """Put a change in force: canary and shadow; the champion is the street's controller.
        faults: that the gate has found before, by junction.
        """
        before, self.deployed = self.deployed, change.deployed
        canary, shadow = change.deployed.canary, change.deployed.shadow
        if canary != before.canary:
            if stand_up:
                self._guards[CANARY].stand_up()
            self.canary = self._new_canary(canary, change.controller, observation, faults)
        if shadow != before.shadow:
            if stand_up:
                self._guards[SHADOW].stand_up()
            self.shadow = self._new_shadow(shadow, change.controller, observation)

    def _new_canary(
        self,
        order: Deploy | None,
        controller: Controller | None,
        observation: Observation,
        faults: Mapping[int, Any],
    ) -> Canary | None:
        if order is None:
            return None
        if controller is None:  # the one that there is, on fewer junctions
            assert self.canary is not None
            controller = self.canary.controller
        of_junction = self._mask(order.junctions)
        return Canary(
            order=order,
            controller=controller,
            trial=Trial(self._network, of_junction, order.canary, order.model.sha256),
            of_junction=of_junction,
            of_group=of_junction[self._network.group_junction],
            state=self._guards[CANARY].start(controller, observation),
            faults=frozenset(faults),
        )

    def _new_shadow(
        self, order: Deploy | None, controller: Controller | None, observation: Observation
    ) -> Shadow | None:
        if order is None:
            return None
        if controller is None:
            assert self.shadow is not None
            controller = self.shadow.controller
        state = self._guards[SHADOW].start(controller, observation)
        if state is not None and isinstance(controller, Predicts):  # compiled before the tick
            controller.predicted_delay_s(observation, state, 0)
        return Shadow(
            order=order,
            controller=controller,
            of_junction=self._mask(order.junctions),
            state=state,
            disagreed=np.zeros(len(self._names), np.int64),
        )

    def _mask(self, junctions: tuple[str, ...]) -> BoolArray:
        return np.array([not junctions or name in junctions for name in self._names], np.bool_)

    # --- in the tick

    def decide(
        self,
        champions: Proposal,
        observation: Observation,
        gate: SafetyGate,
    ) -> Proposal:
        """The champion's proposal, in which the junctions of the canary show what it wants in its
        turns. gate: as the last tick left it; nothing is asked of it.
        """
        canary = self.canary
        if canary is None:
            return champions
        canary.decides = False
        latched = frozenset(j for j in gate.faults if canary.of_junction[j])
        canary.faults &= latched  # one that was reset, and is found anew, is of its time
        if latched != canary.faults:
            self.withdraw(observation.at_s, LATCHED)
            return champions
        guard = self._guards[CANARY]
        wants, state = guard.step(canary.controller, observation, canary.state)
        if wants is None or not gate.is_sound(wants, observation.at_s):
            self.withdraw(observation.at_s, guard.fault or STALE)
            return champions
        canary.state = state
        is_disturbed = gate.source is not ControlSource.CONTROLLER or bool(latched)
        is_disturbed |= any(canary.of_junction[j] for j in (*gate.overrides, *gate.preempted))
        if why := canary.trial.observe(observation, is_disturbed):
            self.withdraw(observation.at_s, why)
            return champions
        canary.decides = canary.trial.decides(observation.at_s)
        if not canary.decides:
            return champions
        return shared(champions, wants, canary.of_junction, canary.of_group)

    def withdraw(self, at_s: float, why: str) -> None:
        """The canary ends by itself; the champion decides on its junctions at once."""
        canary, self.canary = self.canary, None
        if canary is None:
            return
        self.deployed = replace(self.deployed, canary=None)
        self._has_ended = True
        data = {
            "model": canary.order.model.label,
            "junctions": list(canary.order.junctions),
            "why": why,
            **canary.trial.figures(),
        }
        self._record(Event(at_s, "engine.canary_withdrawn", "", data))

    def take_end(self) -> bool:
        """Whether a canary has ended by itself since the last call."""
        has_ended, self._has_ended = self._has_ended, False
        return has_ended

    def decide_beside(
        self,
        champions: Proposal | None,
        champion: Controller,
        champion_state: Any,
        observation: Observation,
    ) -> None:
        """The shadow's step, once the command of the tick has been applied, compared with what the
        champion proposed.
        """
        shadow = self.shadow
        if shadow is None:
            return
        begun_s = self._clock()
        wants, after = self._guards[SHADOW].step(shadow.controller, observation, shadow.state)
        if wants is not None:
            self._guards[SHADOW].note_health(shadow.controller, observation.at_s)
            if champions is not None:
                differs = (wants.wanted >= GO) != (champions.wanted >= GO)
                shadow.disagreed += np.logical_or.reduceat(differs, self._first)
                self._compare_delays(shadow, after, champion, champion_state, observation)
                shadow.ticks += 1
            shadow.state = after
        shadow.work_s.append(self._clock() - begun_s)

    def _compare_delays(
        self,
        shadow: Shadow,
        shadow_state: Any,
        champion: Controller,
        champion_state: Any,
        observation: Observation,
    ) -> None:
        """What each predicts for one junction, in turn."""
        if shadow.ticks % COMPARED_EACH:
            return
        if not (isinstance(shadow.controller, Predicts) and isinstance(champion, Predicts)):
            return
        junction = shadow.ticks // COMPARED_EACH % len(self._names)
        if not shadow.of_junction[junction]:
            return
        own_s = shadow.controller.predicted_delay_s(observation, shadow_state, junction)
        champion_s = champion.predicted_delay_s(observation, champion_state, junction)
        shadow.predictions += 1
        shadow.predicted_s += own_s
        shadow.champion_s += champion_s

    # --- what is reported

    def report(self, controller: str, tick_ms: float) -> dict[str, Any]:
        """Plain JSON. champion: its model, None for a controller of the catalogue, which
        `controller` names; before: the champion that a rollback returns to; resting: the one that
        is champion again when the optimisation is switched on. canary: its model,
        junctions, whether it decides at this tick, and the figures of its trial. shadow: its model
        and junctions; ticks compared, share of them in which it wanted another green (of ticks and
        junctions), by junction too; predicted delay of both, mean of a junction, vehicle seconds up
        to the horizon of each, None where one of them predicts none; ms a tick, and as a share of
        the tick's work.
        """
        champions = self.deployed.champions
        return {
            "controller": controller,
            "champion": _plain(champions[-1]) if champions else None,
            "before": champions[-2].label if len(champions) > 1 else "",
            "resting": self.deployed.resting[-1].label if self.deployed.resting else "",
            "canary": self._canary_report(),
            "shadow": self._shadow_report(tick_ms),
        }

    def _canary_report(self) -> dict[str, Any] | None:
        canary = self.canary
        if canary is None:
            return None
        return {
            **_plain(canary.order.model),
            "junctions": self._named(canary.of_junction),
            "bounds": asdict(canary.order.canary),
            "decides": canary.decides,
            **canary.trial.figures(),
        }

    def _shadow_report(self, tick_ms: float) -> dict[str, Any] | None:
        shadow = self.shadow
        if shadow is None:
            return None
        own = shadow.of_junction
        share = shadow.disagreed / max(shadow.ticks, 1)
        work_ms = 1e3 * sum(shadow.work_s) / max(len(shadow.work_s), 1)
        times = shadow.predictions
        return {
            **_plain(shadow.order.model),
            "junctions": self._named(own),
            "ticks": shadow.ticks,
            "disagreement": round(float(share[own].mean()), 4) if own.any() else 0.0,
            "disagreement_by_junction": {
                self._names[j]: round(float(share[j]), 4) for j in np.flatnonzero(own).tolist()
            },
            "predicted_delay_s": round(shadow.predicted_s / times, 2) if times else None,
            "champion_predicted_delay_s": round(shadow.champion_s / times, 2) if times else None,
            "ms": round(work_ms, 4),
            "share_of_tick": round(work_ms / tick_ms, 4) if tick_ms > 0.0 else 0.0,
        }

    def _named(self, of_junction: BoolArray) -> list[str]:
        return [self._names[j] for j in np.flatnonzero(of_junction).tolist()]

    # --- over a restart

    def names(self) -> dict[str, str]:
        """Who has each role, and on what terms; empty for nobody."""
        return {CANARY: _terms(self.deployed.canary), SHADOW: _terms(self.deployed.shadow)}

    def state(self) -> dict[str, Any]:
        return {
            CANARY: None if self.canary is None else self.canary.state,
            SHADOW: None if self.shadow is None else self.shadow.state,
            "trial": None if self.canary is None else self.canary.trial.state(),
            "faults": None if self.canary is None else sorted(self.canary.faults),
        }

    def of_present_models(self, state: object, is_same: Mapping[str, bool]) -> dict[str, Any]:
        """The state without what others than the present models remembered. Raises StateError."""
        if not isinstance(state, dict):
            raise StateError("the state is not of a street with models")
        roles = {"trial": CANARY, "faults": CANARY, CANARY: CANARY, SHADOW: SHADOW}
        return {name: state.get(name) if is_same[role] else None for name, role in roles.items()}

    def state_classes(self) -> tuple[type, ...]:
        """Those that stand in `state`, beside the ones that every state may hold."""
        found = self.state()
        return tuple(
            type(found[role]) for role in (CANARY, SHADOW) if type(found[role]) not in PLAIN
        )

    def resume(self, state: Mapping[str, Any], faults: Collection[int]) -> None:
        """What `state` returned, for the same models; None where others remembered it. faults: that
        the gate remembers, of before any other canary. Raises StateError.
        """
        if self.canary is not None:
            known = state["faults"]
            self.canary.faults = frozenset(faults if known is None else known)
        if self.canary is not None and state["trial"] is not None:
            self.canary.trial.resume(state["trial"])
        if self.canary is not None and state[CANARY] is not None:
            self.canary.state = state[CANARY]
        if self.shadow is not None and state[SHADOW] is not None:
            self.shadow.state = state[SHADOW]


def _terms(order: Deploy | None) -> str:
    """What a checkpoint is compared by: a trial on other terms is another one."""
    if order is None:
        return ""
    return repr((order.model.label, order.model.sha256, order.junctions, order.canary))


def _plain(model: ModelFile) -> dict[str, Any]:
    """For people; not where its file is."""
    return {
        "model": model.label,
        "name": model.name,
        "version": model.version,
        "kind": model.kind,
        "sha256": model.sha256,
    }
