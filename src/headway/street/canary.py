"""The trial of a canary: it and the champion take turns on the canary's junctions, and each turn of
the one is compared with the turn of the other beside it.

The delay of a turn is the time that the vehicles before the stop lines of those junctions lose
beside driving at the limit, per vehicle that arrived there (five at least: where all lanes are full
nobody arrives any more). Two turns are a pair. Who begins it is drawn by lot, so that neither
demand that rises or falls nor one that comes back each quarter of an hour favours anybody. The
first quarter of a turn is not counted: what stands there is the other's.

After three pairs, and then whenever there are a quarter more, the logarithms of the ratios are
tested, one-sided, against the share by which the canary may be worse (Student's t). The k-th test
may be false with probability `false_alarms / (k (k + 1))`: that sums to `false_alarms`, however
long the trial goes on (decision 30).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from headway.roads import Network
from headway.street.messages import CanaryBounds
from headway.street.state_file import StateError
from headway.values import BoolArray, Observation

LEAST_PAIRS = 3  # before the first test
MORE_PAIRS = 1.25  # times the pairs of the last test, before the next one
MOST_PAIRS = 200  # that are remembered, the newest: a day and more of turns
SETTLING = 0.25  # share of a turn that is not counted
LEAST_VEHICLES = 5  # that arrive in a turn, or stand there at once; fewer say nothing
NO_DELAY_S = 1.0  # added to the loss of a turn: none at all has no logarithm
LONGEST_GAP_S = (
    6.0  # between two observations (a tick takes up to 5); a longer one was not observed
)
DAY_S, HOUR_S = 86_400.0, 3600.0


class Trial:
    """One canary under way. junctions: bool (junctions,), where it decides in its turns. name: of
    the trial, by which its lots are drawn.

    elapsed_s: seconds of its hours that were observed.
    pairs:     (canary, champion) delay of the turns of each pair, seconds a vehicle.
    looks:     tests so far.
    p:         of the last test; None before the first.
    """

    def __init__(
        self, network: Network, junctions: BoolArray, bounds: CanaryBounds, name: str = ""
    ) -> None:
        from scipy.special import stdtr, stdtrit  # takes too long to load within a tick

        self._probability, self._quantile = stdtr, stdtrit
        self.bounds = bounds
        self._name = name
        self.elapsed_s = 0.0
        self.pairs: list[tuple[float, float]] = []
        self.looks = 0
        self._counted = 0  # pairs, those that are forgotten too
        self._next_look = LEAST_PAIRS
        self.p: float | None = None
        self._at_s: float | None = None  # of the last observation
        self._turn = 0
        self._lost_s = 0.0
        self._vehicles = 0.0
        self._most_present = 0  # vehicles before the stop lines at once
        self._is_spoilt = False
        self._first: float | None = None  # delay of the first turn of the pair; None: spoilt

        self._limit_mps = np.array([lane.speed_mps for lane in network.lanes])
        self._is_before = np.zeros(len(network.lanes), np.bool_)
        self._arrives = np.zeros(len(network.links), np.bool_)
        for i, link in enumerate(network.links):
            if link.group >= 0 and junctions[network.group_junction[link.group]]:
                self._is_before[link.from_lane] = True
                self._arrives[i] = True

    def decides(self, at_s: float) -> bool:
        """It is the canary's turn."""
        pair, second = divmod(self._turn, 2)
        return self.is_on(at_s) and self._begins(pair) == (second == 0)

    def _begins(self, pair: int) -> bool:
        """The canary has the first turn of a pair: of the first one, as it is in force at once;
        then by lot, the same in every process.
        """
        return pair == 0 or hashlib.sha256(f"{self._name} {pair}".encode()).digest()[0] % 2 == 0

    def is_on(self, at_s: float) -> bool:
        """It is one of the canary's hours."""
        hour = at_s % DAY_S / HOUR_S
        hours = self.bounds.hours
        return not hours or any(begin <= hour < end for begin, end in hours)

    def observe(self, observation: Observation, is_disturbed: bool) -> str:
        """Count what is observed in this turn; why the canary is withdrawn, empty where it is not.

        is_disturbed: somebody else than canary and champion decides on a junction of the trial: the
        pair does not count.
        """
        before_s, self._at_s = self._at_s, observation.at_s
        if before_s is None or not self.is_on(observation.at_s):
            return ""
        passed_s = observation.at_s - before_s
        if not 0.0 < passed_s <= LONGEST_GAP_S:
            self._is_spoilt |= passed_s != 0.0
            return ""
        self.elapsed_s += passed_s
        self._is_spoilt |= is_disturbed
        turn = int(self.elapsed_s / self.bounds.turn_s)
        if turn != self._turn:
            is_new_pair = self._end_turn()
            self._turn = turn
            return self._judge() if is_new_pair else ""
        if self.elapsed_s / self.bounds.turn_s - turn >= SETTLING:
            lost, present = self._loss(observation)
            self._lost_s += lost * passed_s
            self._most_present = max(self._most_present, present)
            self._vehicles += float(observation.arrived[self._arrives].sum())
        return ""

    def _loss(self, observation: Observation) -> tuple[float, int]:
        """(seconds that the vehicles of the trial lose each second, how many these are)."""
        v = observation.measured_vehicles
        known = (v.lane >= 0) & (v.lane < len(self._is_before))
        lane, speed_mps = v.lane[known], v.speed_mps[known]
        lost = 1.0 - np.clip(speed_mps / self._limit_mps[lane], 0.0, 1.0)
        before = self._is_before[lane]
        return float(lost[before].sum()), int(before.sum())

    def _end_turn(self) -> bool:
        """Whether it makes one more pair that counts."""
        counts = max(self._vehicles, self._most_present) >= LEAST_VEHICLES and not self._is_spoilt
        vehicles = max(self._vehicles, LEAST_VEHICLES)
        delay_s = (self._lost_s + NO_DELAY_S) / vehicles if counts else None
        pair, second = divmod(self._turn, 2)
        is_pair = second == 1 and self._first is not None and delay_s is not None
        if second == 0:
            self._first = delay_s
        elif self._first is not None and delay_s is not None:
            turns = (self._first, delay_s) if self._begins(pair) else (delay_s, self._first)
            self.add(*turns)
        self._lost_s = self._vehicles = 0.0
        self._most_present = 0
        self._is_spoilt = False
        return is_pair

    # --- the test

    def add(self, ours_s: float, theirs_s: float) -> None:
        """A pair of delays."""
        self.pairs = [*self.pairs, (ours_s, theirs_s)][-MOST_PAIRS:]
        self._counted += 1

    def _differences(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        pairs = np.log(np.array(self.pairs, np.float64).reshape(-1, 2))
        return np.asarray(pairs[:, 0] - pairs[:, 1])

    def _judge(self) -> str:
        """After a pair."""
        if self._counted < self._next_look:
            return ""
        n = len(self.pairs)
        self.looks += 1
        self._next_look = math.ceil(MORE_PAIRS * self._counted)
        difference = self._differences()
        beyond = float(difference.mean()) - math.log1p(self.bounds.worse_by)
        error = float(difference.std(ddof=1)) / math.sqrt(n)
        if error == 0.0:
            self.p = 0.0 if beyond > 0.0 else 1.0
        else:
            self.p = float(self._probability(n - 1, -beyond / error))
        if self.p >= self.threshold:
            return ""
        worse = math.expm1(float(difference.mean()))
        return (
            f"its delay is {worse:.0%} more than the champion's in {n} pairs of turns, allowed are "
            f"{self.bounds.worse_by:.0%} (p {self.p:.2g} < {self.threshold:.2g})"
        )

    @property
    def threshold(self) -> float:
        """Below it the last test's p ends the trial."""
        look = max(self.looks, 1)
        return self.bounds.false_alarms / (look * (look + 1))

    def figures(self) -> dict[str, Any]:
        """For people: turns so far, the pairs that count, the ratio of the delays (canary to
        champion, geometric mean, with its 95 % interval), p and threshold of the last test.
        """
        found: dict[str, Any] = {
            "elapsed_s": round(self.elapsed_s, 1),
            "turns": self._turn,
            "pairs": len(self.pairs),
            "ratio": None,
            "ratio_95": None,
            "p": self.p,
            "threshold": self.threshold,
            "delay_s": None,
            "champion_delay_s": None,
        }
        if not self.pairs:
            return found
        difference = self._differences()
        mean, n = float(difference.mean()), len(difference)
        found["ratio"] = round(math.exp(mean), 4)
        ours, theirs = np.mean(self.pairs, axis=0)
        found |= {"delay_s": round(float(ours), 2), "champion_delay_s": round(float(theirs), 2)}
        if n > 1:
            half = float(self._quantile(n - 1, 0.975)) * float(difference.std(ddof=1)) / n**0.5
            found["ratio_95"] = [round(math.exp(mean - half), 4), round(math.exp(mean + half), 4)]
        return found

    # --- over a restart

    def state(self) -> dict[str, Any]:
        return {
            "elapsed_s": self.elapsed_s,
            "pairs": list(self.pairs),
            "looks": self.looks,
            "counted": self._counted,
            "next_look": self._next_look,
            "p": self.p,
            "at_s": self._at_s,
            "turn": self._turn,
            "lost_s": self._lost_s,
            "vehicles": self._vehicles,
            "most_present": self._most_present,
            "is_spoilt": self._is_spoilt,
            "first": self._first,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Raises StateError for what `state` did not return."""
        try:
            pairs = [(float(ours), float(theirs)) for ours, theirs in state["pairs"]]
            if not all(0.0 < delay < math.inf for pair in pairs for delay in pair):
                raise ValueError("a delay is none")
            self.elapsed_s = float(state["elapsed_s"])
            self._turn, self.looks = int(state["turn"]), int(state["looks"])
            self._counted, self._next_look = int(state["counted"]), int(state["next_look"])
            self._lost_s, self._vehicles = float(state["lost_s"]), float(state["vehicles"])
            self._most_present = int(state["most_present"])
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"the trial of the canary cannot be read: {error}") from error
        self.pairs, self.p, self._at_s = pairs, state["p"], state["at_s"]
        self._is_spoilt, self._first = bool(state["is_spoilt"]), state["first"]
