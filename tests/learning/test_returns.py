"""The returns that Q-learning learns from: by hand, by plain sums, by the forward view of lambda,
and by what eligibility traces would have added.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.control.qtable import QTable
from headway.learning.replay import Replay
from headway.learning.training import TrainingSettings, learn, returns


def chain(values, rewards, powers, linked=True):
    """(table, replay): states 1, 2, ... with values[k] of the best action 0 in state k + 2, and an
    experience from each of the first to the next one, action 0.
    """
    table, replay = QTable(2, 64), Replay(64)
    for k, value in enumerate(values):
        for action, worth in ((0, value), (1, value - 2.0)):  # another one, worse
            table.add(
                np.array([k + 2], np.uint64), np.array([action]), np.array([worth], np.float32)
            )
    n = len(rewards)
    rows = np.zeros(n, replay.rows.dtype)
    rows["key"], rows["next"] = np.arange(1, n + 1), np.arange(2, n + 2)
    rows["reward"], rows["gamma"] = rewards, powers
    places = replay.put(rows)
    if linked:
        replay.link(places[:-1], places[1:])
    return table, replay


class TestByHand:
    """Three decisions, gamma 0.5: states 1 to 4, of which 2, 3, 4 are worth -8, -16, -6."""

    values, rewards, powers = (-8.0, -16.0, -6.0), (-1.0, -2.0, -4.0), (1.0, 2.0, 1.0)

    def found(self, steps, decay, linked=True):
        table, replay = chain(self.values, self.rewards, self.powers, linked)
        of = TrainingSettings(gamma=0.5, steps=steps, trace_decay=decay)
        return returns(table, replay, np.array([0, 1, 2]), of).tolist()

    @pytest.mark.parametrize(
        ("steps", "decay", "wanted"),
        [
            # -1 + 0.5 x -8; -2 + 0.25 x -16; -4 + 0.5 x -6
            (1, 1.0, [-5.0, -6.0, -7.0]),
            # -1 + 0.5 x (-2 + 0.25 x -16); -2 + 0.25 x (-4 + 0.5 x -6); the last has one step
            (2, 1.0, [-4.0, -3.75, -7.0]),
            # -1 + 0.5 x (-2 + 0.25 x (-4 + 0.5 x -6))
            (3, 1.0, [-2.875, -3.75, -7.0]),
            (9, 1.0, [-2.875, -3.75, -7.0]),
            # halves: 0.5 x -5 + 0.25 x -4 + 0.25 x -2.875; 0.5 x -6 + 0.5 x -3.75
            (9, 0.5, [-4.21875, -4.875, -7.0]),
            (2, 0.5, [-4.5, -4.875, -7.0]),
            (9, 0.0, [-5.0, -6.0, -7.0]),
        ],
    )
    def test_steps_and_decay(self, steps, decay, wanted):
        assert self.found(steps, decay) == pytest.approx(wanted)

    def test_what_did_not_follow_is_not_counted(self):
        """As behind a decision that was tried at random."""
        assert self.found(9, 0.5, linked=False) == pytest.approx([-5.0, -6.0, -7.0])

    def test_where_nothing_was_learnt_what_came_of_it_counts_alone(self):
        table, replay = chain((-8.0,), self.rewards, self.powers)  # of 3 and 4 nothing is known
        of = TrainingSettings(gamma=0.5, steps=9, trace_decay=0.5)
        # behind the last, its own value: 0. -2 + 0.25 x -4 = -3; -1 + 0.5 x (-8 - 3) / 2
        found = returns(table, replay, np.array([0, 1, 2]), of)
        assert found.tolist() == pytest.approx([-3.75, -3.0, -4.0])

    def test_the_value_goes_by_the_rate_towards_it(self):
        table, replay = chain(self.values, self.rewards, self.powers)
        of = TrainingSettings(gamma=0.5, steps=3, batch=64)
        error = learn(table, replay, of, np.random.default_rng(0))
        # -2.875 - 0; -3.75 + 8; -7 + 16
        assert error == pytest.approx((2.875 + 4.25 + 9.0) / 3)
        assert table.get(np.array([1], np.uint64))[0][0, 0] == pytest.approx(0.3 * -2.875)


figures = st.floats(-50.0, 0.0, width=32)
steps_of_a_chain = st.lists(
    st.tuples(figures, figures, st.sampled_from([1.0, 1.2, 2.0])), min_size=1, max_size=8
)


class TestByOtherFormulas:
    @settings(deadline=None, max_examples=60)
    @given(steps_of_a_chain, st.integers(1, 10), st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    def test_plain_sums_weighted_by_lambda(self, made, most, decay):
        """(1 - lambda) x the sum of lambda^(n-1) x the n-step return; the rest is the last's."""
        values, rewards, powers = zip(*made, strict=True)
        table, replay = chain(values, rewards, powers)
        of = TrainingSettings(gamma=0.9, steps=most, trace_decay=decay)
        n = len(made)
        found = returns(table, replay, np.arange(n), of)
        for k in range(n):
            last = min(most, n - k)
            total = 0.0
            for steps in range(1, last + 1):
                passed = [sum(powers[k:i]) for i in range(k, k + steps + 1)]
                one = sum(rewards[k + i] * 0.9 ** passed[i] for i in range(steps))
                one += 0.9 ** passed[steps] * values[k + steps - 1]
                weight = decay ** (steps - 1) * (1.0 if steps == last else 1.0 - decay)
                total += weight * one
            assert found[k] == pytest.approx(total, rel=1e-4, abs=1e-3)

    @settings(deadline=None, max_examples=60)
    @given(steps_of_a_chain, st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    def test_eligibility_traces(self, made, decay):
        """The sum of the TD errors from then on, each by how much of the trace is left."""
        values, rewards, powers = zip(*made, strict=True)
        table, replay = chain(values, rewards, powers)
        of = TrainingSettings(gamma=0.9, steps=len(made), trace_decay=decay)
        own = (0.0, *values)  # of the actions that were taken, the best
        added = np.zeros(len(made))
        trace = np.zeros(len(made))
        for k, (reward, power) in enumerate(zip(rewards, powers, strict=True)):
            trace[k] = 1.0
            added += trace * (reward + 0.9**power * values[k] - own[k])
            trace *= decay * 0.9**power
        found = returns(table, replay, np.arange(len(made)), of)
        assert (found - own[:-1]).tolist() == pytest.approx(added.tolist(), rel=1e-4, abs=1e-3)
