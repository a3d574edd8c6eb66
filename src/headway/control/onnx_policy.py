"""A policy that was learned elsewhere, as an ONNX network: from the set of observations "queues" of
a junction to a value of each stage, of which the greatest is chosen.

It decides as an agent does in `headway.learning.env`: every `interval_s`, where the stage aimed at
is shown and each of its greens has lasted its minimum. What the file says of itself stands in its
metadata (`metadata_props`):

- `headway_observation`: `queues`;
- `headway_interval_s`: whole seconds between two decisions;
- `headway_junction`: the name of the one that it is for; none where it is for all junctions, whose
  observations and stages are then followed by noughts up to the largest's (`padded`);
- `headway_network`: the number of the network that it is for (`network_stamp`), which the
  environment tells; none where it is for any of these shapes.

Junctions that it is not for are left to the fallback: its confidence there is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.control.confidence import freshness
from headway.control.features import QueueFeatures
from headway.control.onnx_file import first_line, session
from headway.control.qlearning import network_stamp
from headway.control.stages import EPS_S, StageTable, demand, may_change
from headway.roads import GO, Network, Timing
from headway.values import BoolArray, FloatArray, IntArray, Observation, Proposal

OBSERVATION, INTERVAL_S = "headway_observation", "headway_interval_s"
JUNCTION, NETWORK = "headway_junction", "headway_network"
LONGEST_INTERVAL_S = 3600
DISAGREES = 0.5  # share of the two advisers, it and the greatest demand, that would do the same


@dataclass(frozen=True, slots=True)
class PolicyState:
    """target: stages aimed at, int (junctions,); since_s: when they were chosen, (junctions,);
    next_s: of the next decision; agreement: 0..1, (junctions,), of the last one.
    """

    target: IntArray
    since_s: FloatArray
    next_s: float
    agreement: FloatArray


class OnnxPolicy:
    """data: content of the file. place: what errors call it.

    Raises ValueError for a file that is no such network, or of another junction's shapes.
    """

    def __init__(
        self, network: Network, timing: Timing, data: bytes, place: str, name: str
    ) -> None:
        self.name = name
        self._network, self._timing, self._place = network, timing, place
        self._table = StageTable(network, timing)
        self._lit = self._table.colours >= GO
        self._features = QueueFeatures(network)
        self._session = session(data, place)
        said = self._session.get_modelmeta().custom_metadata_map
        if said.get(OBSERVATION) != "queues":
            self._refuse(f"its metadata must say {OBSERVATION}: queues")
        if said.get(NETWORK, str(network_stamp(network))) != str(network_stamp(network)):
            self._refuse(f"is of another network ({NETWORK}) than {network.path}")
        self.interval_s = self._interval_s(said.get(INTERVAL_S, ""))
        self._own = self._junctions(said.get(JUNCTION, ""))
        self._size = max(QueueFeatures.size(network, j) for j in self._own)
        self._stages = max(int(self._table.count[j]) for j in self._own)
        self._input = self._input_name()
        self._values(np.zeros((len(self._own), self._size), np.float32))  # or it fails here

    def start(self, observation: Observation) -> PolicyState:
        n = len(self._network.junctions)
        return PolicyState(
            target=np.zeros(n, np.int32),
            since_s=np.full(n, observation.at_s),
            next_s=observation.at_s,
            agreement=np.ones(n),
        )

    def step(self, observation: Observation, state: PolicyState) -> tuple[Proposal, PolicyState]:
        if observation.at_s >= state.next_s - EPS_S:
            state = self._decided(observation, state)
        return self._proposal(observation, state), state

    def _decided(self, observation: Observation, state: PolicyState) -> PolicyState:
        free = may_change(self._network, self._timing, state.target, self._table, observation)
        values, _ = self.values(observation, state)
        target, agreement = state.target.copy(), state.agreement.copy()
        worth = demand(self._network, observation)
        for j in self._own:
            if not free[j]:
                continue
            target[j] = int(values[j, : self._table.count[j]].argmax())
            agreement[j] = 1.0 if target[j] == self._greedy(j, worth) else DISAGREES
        return PolicyState(
            target=target,
            since_s=np.where(target != state.target, observation.at_s, state.since_s),
            next_s=observation.at_s + self.interval_s,
            agreement=agreement,
        )

    def values(
        self, observation: Observation, state: PolicyState
    ) -> tuple[NDArray[np.float32], BoolArray]:
        """(values, known), (junctions, stages) each: what it says of each stage now, and whether it
        is of that junction at all. Raises ValueError for what is no number.
        """
        free = may_change(self._network, self._timing, state.target, self._table, observation)
        self._features.look(observation)
        rows = np.zeros((len(self._own), self._size), np.float32)
        for row, j in zip(rows, self._own, strict=True):
            age_s = observation.at_s - float(state.since_s[j])
            found = self._features.of(j, int(state.target[j]), bool(free[j]), age_s)
            row[: len(found)] = found
        values = np.zeros((len(free), self._stages), np.float32)
        known = np.zeros(values.shape, np.bool_)
        values[self._own] = self._values(rows)[:, : self._stages]
        known[self._own] = True
        return values, known

    def _values(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            (found, *_) = self._session.run(None, {self._input: rows})
        except Exception as error:  # onnxruntime raises a class of its own for each fault
            self._refuse(f"fails on observations {rows.shape} ({first_line(error)})")
        values = np.asarray(found)
        if values.ndim != 2 or len(values) != len(rows) or values.shape[1] < self._stages:
            self._refuse(
                f"gives values {values.shape} of observations {rows.shape}, not one row each with "
                f"at least {self._stages} stages"
            )
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            self._refuse("gives values that are no finite numbers")
        return values.astype(np.float32)

    def _greedy(self, junction: int, worth: FloatArray) -> int:
        """The stage that serves most vehicles."""
        of = self._network.junctions[junction]
        rows = self._lit[self._table.ptr[junction] : self._table.ptr[junction + 1]]
        return int((rows[:, : of.end - of.first] @ worth[of.first : of.end]).argmax())

    def _proposal(self, observation: Observation, state: PolicyState) -> Proposal:
        n = len(state.target)
        is_own = np.zeros(n)
        is_own[self._own] = 1.0
        why = {
            "freshness": np.full(n, freshness(0.0)),
            "completeness": observation.completeness,
            "learned": is_own,
            "agreement": state.agreement,
        }
        parts = np.clip(np.stack(list(why.values())), 0.0, 1.0)
        return Proposal(
            observation.at_s,
            self.name,
            self._table.wanted_after_min_green(state.target, observation),
            np.asarray(parts.prod(axis=0) ** (1.0 / len(parts))),
            why,
        )

    # what the file says

    def _interval_s(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LONGEST_INTERVAL_S):
            self._refuse(
                f"its metadata must say {INTERVAL_S}: whole seconds, 1 to {LONGEST_INTERVAL_S}, "
                f"not {text[:40]!r}"
            )
        return int(text)

    def _junctions(self, name: str) -> list[int]:
        names = [junction.id for junction in self._network.junctions]
        if not name:
            return list(range(len(names)))
        if name not in names:
            self._refuse(f"is for junction {name[:80]!r}, which this network has not")
        return [names.index(name)]

    def _input_name(self) -> str:
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
            told = ", ".join(f"{x.type} {x.shape}" for x in inputs)
            self._refuse(f"must have one input, float (n, {self._size}), not {told[:200]}")
        rows, size = inputs[0].shape
        if isinstance(rows, int) and rows != len(self._own):
            self._refuse(
                f"takes {rows} observations at a time, not {len(self._own)}. Export it with a "
                "dynamic first axis"
            )
        if isinstance(size, int) and size != self._size:
            self._refuse(f"takes observations of {size} values; here they have {self._size}")
        return str(inputs[0].name)

    def _refuse(self, why: str) -> Any:
        raise ValueError(f"{self._place}: {why}.")
