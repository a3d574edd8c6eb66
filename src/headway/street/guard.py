"""Who proposes is not trusted: whatever a controller does in its step, the tick goes on.

A step that raises, or whose proposal no gate can use, counts as silence. One that takes longer than
it may (`within_s`, wall time) is not asked again for DOWN_S: compiled code cannot be interrupted
from within its process, so its length is measured afterwards. One that never ends is found by the
parent process, which hears nothing more, ends the process, and reads from `mark` who was deciding
(decision 23).
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Mapping, MutableSequence
from pathlib import Path
from typing import Any

import numpy as np

from headway.control import Controller
from headway.values import Event, Observation, Proposal, Vehicles, described

CONTROLLER, FALLBACK, RELIEF = "controller", "fallback", "relief"
CANARY, SHADOW = "canary", "shadow"
ROLES = (CONTROLLER, FALLBACK, RELIEF, CANARY, SHADOW)
NOBODY = 0  # in `mark`; else the place of the role in ROLES, from 1
STEP_WITHIN_S = 1.0  # wall time: a tick of real time
DOWN_S = 60.0  # simulated: long enough that a slow controller costs little, short enough to return
HUNG = "the process did not come back from its step"
LONGEST_NAME = 100  # characters
LATEST_S = 10**12  # of any clock; a whole number in Python has no end
LONGEST_FAULT = 500  # characters of an error in an event: it is the controller's own
NUMBERS = "iuf"  # kinds of numpy types that a confidence or a factor may have


class Guard:
    """Asks whoever has one role in a street.

    role:      of ROLES; events are called after it ("engine.fallback_failed").
    groups, junctions: how many the network has.
    within_s:  wall time that a step may take.
    stopwatch: wall seconds.
    mark:      its first byte says who is being asked at this moment.
    """

    def __init__(
        self,
        role: str,
        groups: int,
        junctions: int,
        record: Callable[[Event], None],
        within_s: float = STEP_WITHIN_S,
        stopwatch: Callable[[], float] = time.perf_counter,
        mark: MutableSequence[int] | None = None,
    ) -> None:
        self.role = role
        self.within_s = within_s
        self.mark: MutableSequence[int] = bytearray(1) if mark is None else mark
        self.down_until_s = -math.inf  # simulated
        self._groups = groups
        self._junctions = junctions
        self._record = record
        self._stopwatch = stopwatch
        self._code = ROLES.index(role) + 1
        self._fault = ""  # the last one recorded; empty while all is well

    @property
    def fault(self) -> str:
        """The last one recorded; empty while all is well."""
        return self._fault

    @property
    def resting_until_s(self) -> float:
        """As a checkpoint keeps it: without what a process before has put down for good."""
        return self.down_until_s if math.isfinite(self.down_until_s) else -math.inf

    def start(self, controller: Controller, observation: Observation) -> Any:
        """The state before its first step; None if it raised: then the first step tries again."""
        if self.down_until_s == math.inf:
            return None
        return self._run(controller, observation, lambda: controller.start(own_copy(observation)))

    def step(
        self, controller: Controller, observation: Observation, state: Any
    ) -> tuple[Proposal | None, Any]:
        """Its proposal and new state; None, and the state as it was, where there is no proposal
        that can be used.
        """
        if observation.at_s < self.down_until_s:
            return None, state
        begun_s = self._stopwatch()
        answer = self._run(
            controller, observation, lambda: self._ask(controller, observation, state)
        )
        took_s = self._stopwatch() - begun_s
        if answer is None:
            return None, state
        proposal, new, fault = answer
        if fault:
            self.report(controller, observation.at_s, fault)
            return None, state
        if took_s > self.within_s:
            self._put_down_slow(controller, observation.at_s, took_s)
            return None, state
        return proposal, new

    def note_health(self, controller: Controller, at_s: float) -> None:
        """Its proposal was used: recorded once after a fault."""
        if self._fault:
            self._fault = ""
            self._event(at_s, "recovered", {self.role: name_of(controller)})

    def report(self, controller: Controller, at_s: float, fault: str, place: str = "") -> None:
        """Record why its proposal is not used: once for each fault, however long it lasts. place:
        in the source.
        """
        if fault != self._fault:
            self._fault = fault
            data = {self.role: name_of(controller), "error": fault}
            self._event(at_s, "failed", data | ({"at": place} if place else {}))

    def put_down(self, controller: Controller, at_s: float, why: str) -> None:
        """Do not ask it again until it is replaced, or `stand_up`."""
        self.down_until_s = math.inf
        self._fault = why
        self._event(at_s, "hung", {self.role: name_of(controller), "why": why})

    def stand_up(self) -> None:
        """Ask again, as for another controller."""
        self.down_until_s = -math.inf
        self._fault = ""

    def _ask(self, controller: Controller, observation: Observation, state: Any) -> tuple[Any, ...]:
        """Its proposal, its new state, and what is wrong with the proposal."""
        proposal, new = _step(controller, own_copy(observation), state)
        return proposal, new, fault_of(proposal, self._groups, self._junctions)

    def _run(self, controller: Controller, observation: Observation, ask: Callable[[], Any]) -> Any:
        self.mark[0] = self._code
        try:
            return ask()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also sys.exit: a controller does not end a street
            raised_at = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(raised_at.filename).name}:{raised_at.lineno}"
            self.report(controller, observation.at_s, described(error, LONGEST_FAULT), place)
            return None
        finally:
            self.mark[0] = NOBODY

    def _put_down_slow(self, controller: Controller, at_s: float, took_s: float) -> None:
        self.down_until_s = at_s + DOWN_S
        self._fault = f"took {took_s:.3f} s"
        data = {
            self.role: name_of(controller),
            "took_s": round(took_s, 3),
            "limit_s": self.within_s,
            "again_s": self.down_until_s,
        }
        self._event(at_s, "slow", data)

    def _event(self, at_s: float, what: str, data: Mapping[str, Any]) -> None:
        self._record(Event(at_s, f"engine.{self.role}_{what}", "", data))


def name_of(controller: Controller) -> str:
    """As events and reports call it; its class where it gives no name."""
    try:
        name: object = controller.name
    except Exception:  # whatever stands there is the controller's own
        name = None
    return (name if type(name) is str else type(controller).__name__)[:LONGEST_NAME]


def own_copy(observation: Observation) -> Observation:
    """One that shares no array: who writes into it changes neither what others decide on, nor what
    the lamps are compared with.
    """
    o, v = observation, observation.vehicles
    return Observation(  # 8 us for 200 vehicles: `replace` would take 4 more
        at_s=o.at_s,
        vehicles=Vehicles(
            lane=v.lane.copy(),
            link=v.link.copy(),
            distance_m=v.distance_m.copy(),
            speed_mps=v.speed_mps.copy(),
            waiting_s=v.waiting_s.copy(),
            length_m=v.length_m.copy(),
            emergency=v.emergency.copy(),
        ),
        shown=o.shown.copy(),
        shown_for_s=o.shown_for_s.copy(),
        room_m=o.room_m.copy(),
        count=o.count.copy(),
        arrived=o.arrived.copy(),
        waiting_persons=o.waiting_persons.copy(),
        completeness=o.completeness.copy(),
        emergencies=o.emergencies,
        source=o.source,
        links_known=o.links_known,
        inside_seen=o.inside_seen,
        recalled=o.recalled,
        missed_share=o.missed_share,
        unseen=None if o.unseen is None else o.unseen.copy(),
    )


def _step(controller: Controller, observation: Observation, state: Any) -> tuple[Any, Any]:
    if state is None:
        state = controller.start(observation)
    proposal, new = controller.step(observation, state)
    return proposal, new


def fault_of(proposal: object, groups: int, junctions: int) -> str:
    """Why nobody can use what a controller returned as its proposal; empty where it is one of this
    network. Whether it is stale is the gate's to say.
    """
    if not isinstance(proposal, Proposal):
        return f"it proposed {type(proposal).__name__}, not a Proposal"
    at_s: object = proposal.at_s
    if not isinstance(at_s, int | float | np.floating | np.integer):
        return f"at_s of its proposal is {type(at_s).__name__}, not seconds"
    if isinstance(at_s, int) and abs(at_s) > LATEST_S:
        return "at_s of its proposal is no time"
    why: object = proposal.why
    if not isinstance(why, Mapping):
        return f"why of its proposal is {type(why).__name__}, not a mapping"
    if not all(isinstance(name, str) for name in why):
        return "why of its proposal has a factor without a name"

    if not _is_column(proposal.wanted, (groups,), "iu"):
        return _fault_of_column("wanted", proposal.wanted, groups)
    of_junctions = (junctions,)
    if not _is_column(proposal.confidence, of_junctions, NUMBERS):
        return _fault_of_column("confidence", proposal.confidence, junctions)
    for name, factor in why.items():
        if not _is_column(factor, of_junctions, NUMBERS):
            return _fault_of_column(f"why[{described(name)}]", factor, junctions)
    return ""


def _is_column(value: Any, shape: tuple[int], kinds: str) -> bool:
    return isinstance(value, np.ndarray) and value.shape == shape and value.dtype.kind in kinds


def _fault_of_column(name: str, value: object, length: int) -> str:
    if not isinstance(value, np.ndarray):
        return f"{name} of its proposal is {type(value).__name__}, not an array"
    return f"{name} of its proposal is {value.dtype} {value.shape}, not numbers ({length},)"
