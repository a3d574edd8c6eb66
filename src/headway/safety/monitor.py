"""The conflict monitor: what the lamps show against what was commanded, and the faults that are
latched until they are reset.

The limits are those of NEMA TS 2 (malfunction management unit) in ticks: a fault there is one that
lasts for 450 ms, which is less than one of these, and it stays until somebody resets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from headway.roads import Network
from headway.safety.arrays import Limits
from headway.values import BoolArray, ColourArray

LAMP_TICKS = 3  # with other lamps than commanded: beyond two, a junction is latched
# Of lamps as commanded, beyond the longest intergreen, after which a tick that was wrong does not
# count any more. After such a tick nothing starts against the lamp until it is cleared: one that is
# wrong again and again would keep the others red for ever, unseen.
FORGET_S = 5.0
HEALTH_S = 300.0  # of lamps as commanded, after which a junction is released by itself
INT8 = np.dtype(np.int8)


class Fault(Enum):
    """Why a junction is latched. LAMPS: they do not show what is commanded. RULES: the last look at
    the colours found a conflict; only an operator resets it.
    """

    LAMPS = "lamps"
    RULES = "rules"


class Ended(NamedTuple):
    """A fault that ended by itself, after so many seconds of health."""

    junction: int
    fault: Fault
    healthy_s: float


class Verdict(NamedTuple):
    """Of one tick. latched, ended: since the tick before. wrong: (groups,), lamps that do not show
    what was commanded; None where all do.
    """

    latched: tuple[int, ...] = ()
    ended: tuple[Ended, ...] = ()
    wrong: BoolArray | None = None


NOTHING = Verdict()


class ConflictMonitor:
    """Compares each tick what the lamps show with what was commanded.

    faults: by junction, those that are latched.
    """

    def __init__(self, network: Network, limits: Limits, now_s: float) -> None:
        self._junction_of = network.group_junction
        intergreen_s = limits.yellow_s + limits.clearance_s
        first = [junction.first for junction in network.junctions]
        self._forget_s = FORGET_S + np.maximum.reduceat(intergreen_s, first)
        junctions = len(network.junctions)
        self.faults: dict[int, Fault] = {}
        self._wrong_ticks = np.zeros(junctions, np.int64)
        self._right_since_s = np.full(junctions, now_s)
        self._is_wrong = np.zeros(junctions, np.bool_)  # at the last look
        self._wrong: BoolArray | None = None  # of this tick
        self._has_looked = False
        self._is_calm = True  # no tick was wrong lately, and nothing is latched
        self._settled_s: float | None = None  # of the verdict before; None at the first, or resumed

    def look(self, read: Any, commanded: ColourArray) -> None:
        """Take in what was read back from the lamps in this tick, by one reader of several. What
        has another shape or type, or is no colour, is not what was commanded.

        commanded: int8 (groups,), in force since the tick before.
        """
        self._has_looked = True
        if (
            isinstance(read, np.ndarray)
            and read.shape == commanded.shape
            and read.dtype == INT8
            and read.tobytes() == commanded.tobytes()
        ):
            return
        wrong = _differing(read, commanded)
        if wrong.any():
            self._wrong = wrong if self._wrong is None else self._wrong | wrong

    def settle(self, now_s: float) -> Verdict:
        """The verdict on the tick, after all readers. Without any nothing is known: the time since
        the verdict before counts neither as right nor as wrong.
        """
        wrong, has_looked = self._wrong, self._has_looked
        self._wrong, self._has_looked = None, False
        passed_s = 0.0 if self._settled_s is None else now_s - self._settled_s
        self._settled_s = now_s
        if not has_looked:
            self._right_since_s += passed_s
            return NOTHING
        if wrong is None and self._is_calm:
            return NOTHING
        self._is_wrong[:] = False
        if wrong is not None:
            self._is_wrong[self._junction_of[wrong]] = True
        self._wrong_ticks += self._is_wrong
        self._right_since_s[self._is_wrong] = now_s
        right_s = now_s - self._right_since_s
        self._wrong_ticks[right_s >= self._forget_s] = 0

        latched = [
            j
            for j in np.flatnonzero(self._wrong_ticks >= LAMP_TICKS).tolist()
            if j not in self.faults
        ]
        ended = [
            Ended(j, fault, float(right_s[j]))
            for j, fault in self.faults.items()
            if fault is Fault.LAMPS and right_s[j] >= HEALTH_S
        ]
        for j in latched:
            self.faults[j] = Fault.LAMPS
        for one in ended:
            self._release(one.junction)
        self._note_calm()
        return Verdict(tuple(latched), tuple(ended), wrong)

    def latch(self, junction: int, fault: Fault) -> None:
        """Keep `junction` from every green until it is reset."""
        self.faults[junction] = fault
        self._is_calm = False

    def reset(self, junction: int) -> Fault:
        """Release a junction; the fault that it had. Raises ValueError if it has none, or its lamps
        still do not show what is commanded.
        """
        if junction not in self.faults:
            raise ValueError("it has no fault that is latched")
        if self._is_wrong[junction]:
            raise ValueError("its lamps still do not show what is commanded")
        fault = self.faults[junction]
        self._release(junction)
        self._note_calm()
        return fault

    def _release(self, junction: int) -> None:
        del self.faults[junction]
        self._wrong_ticks[junction] = 0

    def _note_calm(self) -> None:
        self._is_calm = not self.faults and not self._wrong_ticks.any()

    # checkpoints

    def state(self) -> dict[str, Any]:
        """The faults that are latched, by junction, and the ticks that count for the next."""
        return {
            "faults": {junction: fault.value for junction, fault in self.faults.items()},
            "lamps_wrong_ticks": self._wrong_ticks.copy(),
            "lamps_right_since": self._right_since_s.copy(),
            "lamps_wrong": self._is_wrong.copy(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`: what is latched stays so, and what counted counts on."""
        self.faults = {junction: Fault(value) for junction, value in state["faults"].items()}
        self._wrong_ticks[:] = state["lamps_wrong_ticks"]
        self._right_since_s[:] = state["lamps_right_since"]
        self._is_wrong[:] = state["lamps_wrong"]
        self._note_calm()


def _differing(read: Any, commanded: ColourArray) -> BoolArray:
    """(groups,): lamps that do not show what was commanded; all, where the reading is of another
    shape or of other values than whole numbers.
    """
    if (
        not isinstance(read, np.ndarray)
        or read.shape != commanded.shape
        or read.dtype.kind not in "iu"
    ):
        return np.ones(len(commanded), np.bool_)
    return np.asarray(read != commanded, np.bool_)
