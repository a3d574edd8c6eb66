"""Prioritised replay: what is drawn, how often and with which weight,
against sums worked out plainly.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.learning.replay import Replay


class Fixed:
    """A source of chance that gives what it was given."""

    def __init__(self, *numbers):
        self.numbers = np.array(numbers)

    def random(self, n):
        assert n == len(self.numbers)
        return self.numbers


def rows(replay, *actions):
    out = np.zeros(len(actions), replay.rows.dtype)
    out["action"] = actions
    return out


def draw(replay, *numbers):
    places, weights = replay.draw(len(numbers), Fixed(*numbers))
    return places.tolist(), weights.tolist()


def test_an_experience_is_state_action_reward_next_state_and_discount():
    replay = Replay(4)
    assert replay.rows.dtype == np.dtype(
        [("key", "u8"), ("action", "i8"), ("reward", "f4"), ("next", "u8"), ("gamma", "f4")]
    )
    one = np.array([(2**63 + 1, 3, -2.5, 2**63 + 2, 1.5)], replay.rows.dtype)
    replay.put(one)
    assert replay.rows[0] == one[0]


def test_the_oldest_gives_way():
    replay = Replay(4)
    assert len(replay) == 0
    replay.put(rows(replay, 1, 2, 3))
    assert (len(replay), replay.rows["action"].tolist()) == (3, [1, 2, 3, 0])
    replay.put(rows(replay, 4, 5))
    assert (len(replay), replay.rows["action"].tolist()) == (4, [5, 2, 3, 4])
    replay.put(rows(replay, 6))
    assert (len(replay), replay.rows["action"].tolist()) == (4, [5, 6, 3, 4])


def test_the_usual_one_holds_the_last_32768():
    replay = Replay()
    replay.put(rows(replay, *[1] * 32768))
    replay.put(rows(replay, 7))
    assert len(replay) == len(replay.rows) == 32768
    assert replay.rows["action"][[0, 1]].tolist() == [7, 1]


class TestFollowing:
    def filled(self, *states):
        """Experiences that lead from states[k] to states[k + 1], in places 0, 1, ..."""
        replay = Replay(4)
        made = rows(replay, *range(len(states) - 1))
        made["key"], made["next"] = states[:-1], states[1:]
        assert replay.put(made).tolist() == list(range(len(made)))
        return replay

    def test_a_chain_goes_from_one_to_what_followed_it(self):
        replay = self.filled(11, 12, 13, 14)
        replay.link(np.array([0, 1, -1]), np.array([1, 2, 0]))
        places = np.array([0, 1, 2])
        assert replay.chains(places, 9).tolist() == [[0, 1, 2], [1, 2, -1], [2, -1, -1]]
        assert replay.chains(places, 2).tolist() == [[0, 1, 2], [1, 2, -1]]
        assert replay.chains(places, 1).tolist() == [[0, 1, 2]]
        assert replay.chains(places[2:], 9).tolist() == [[2]]

    def test_what_took_the_place_of_another_follows_nothing_and_is_followed_by_nothing(self):
        replay = self.filled(11, 12, 13, 14)
        replay.link(np.array([0]), np.array([1]))
        more = rows(replay, 3, 4)
        more["key"], more["next"] = [14, 15], [15, 16]
        assert replay.put(more).tolist() == [3, 0]  # in the place of the oldest
        assert replay.chains(np.array([0]), 9).tolist() == [[0]]
        replay.link(np.array([0]), np.array([2]))  # of a junction that decided long ago
        assert replay.chains(np.array([0]), 9).tolist() == [[0]]

    def test_is_saved(self, tmp_path):
        replay = self.filled(11, 12, 13)
        replay.link(np.array([0]), np.array([1]))
        replay.save(tmp_path / "replay.npz")
        again = Replay.load(tmp_path / "replay.npz")
        assert again.chains(np.array([0]), 9).tolist() == [[0], [1]]

    @pytest.mark.parametrize("following", [[4, -1, -1, -1], [-2, -1, -1, -1], [-1.0] * 4, [-1]])
    def test_of_a_spoilt_file_is_refused(self, tmp_path, following):
        replay = self.filled(11, 12, 13)
        replay._following = np.array(following)
        replay.save(tmp_path / "replay.npz")
        with pytest.raises(ValueError, match="another version of Headway"):
            Replay.load(tmp_path / "replay.npz")


class TestDraw:
    def filled(self, surprises, size=4, alpha=0.6):
        """As many experiences as there are surprises, told twice so that beta rests at 0.4."""
        replay = Replay(size, alpha)
        replay.put(rows(replay, *range(len(surprises))))
        replay.learnt(np.arange(len(surprises)), np.array(surprises))
        return replay

    def test_new_ones_are_alike(self):
        replay = Replay(4)
        replay.put(rows(replay, 0, 1, 2))
        # priorities 1, 1, 1: at (0 + .5), (1 + .9), (2 + .1) of 3 thirds
        assert draw(replay, 0.5, 0.9, 0.1) == ([0, 1, 2], [1.0, 1.0, 1.0])
        assert draw(replay, 0.0, 0.0, 0.999) == ([0, 0, 2], [1.0, 1.0, 1.0]), (
            "each third begins with the end of the one before"
        )

    def test_the_greater_the_surprise_the_oftener(self):
        replay = self.filled([1.0, -3.0, 0.0, 2.0], alpha=1.0)
        edges = np.cumsum([1.001, 3.001, 0.001, 2.001])  # 6.004 in all
        for share in (0.0, 0.1, 0.166, 0.167, 0.4, 0.66, 0.667, 0.9, 0.999):
            assert draw(replay, share)[0] == [int(np.searchsorted(edges, share * 6.004))]
        assert (
            draw(replay, 0.5, 0.5, 0.5, 0.5)[0]
            == [int(np.searchsorted(edges, (k + 0.5) / 4 * 6.004)) for k in range(4)]
            == [0, 1, 1, 3]
        )

    def test_and_the_less_it_counts(self):
        replay = self.filled([1.0, -3.0, 0.5, 2.0])
        p = (np.array([1.0, 3.0, 0.5, 2.0]) + 0.001) ** 0.6
        places, weights = draw(replay, 0.01, 0.5, 0.5, 0.99)
        expected = (4 * p[places] / p.sum()) ** -0.4  # the surprises are as great as ever: beta 0.4
        assert weights == pytest.approx(expected / expected.max())
        assert max(weights) == 1.0

    def test_what_was_learnt_once_keeps_its_priority_and_a_new_one_gets_the_highest(self):
        replay = self.filled([7.0, 1.0], alpha=1.0)
        replay.put(rows(replay, 9))
        edges = np.cumsum([7.001, 1.001, 7.001])
        for share in (0.46, 0.47, 0.53, 0.54, 0.99):
            assert draw(replay, share)[0] == [int(np.searchsorted(edges, share * edges[-1]))]
        small = self.filled([0.1, 0.2], alpha=1.0)
        small.put(rows(small, 9))
        edges = np.cumsum([0.101, 0.201, 1.0])  # one at least
        for share in (0.07, 0.08, 0.231, 0.233):
            assert draw(small, share)[0] == [int(np.searchsorted(edges, share * edges[-1]))]

    def test_the_correction_grows_as_the_surprises_shrink(self):
        replay = self.filled([1.0, 3.0])  # mean 2, the greatest so far
        replay.learnt(np.array([0, 1]), np.array([0.5, -0.5]))  # 0.99 x 2 + 0.01 x 0.5 = 1.985
        replay.learnt(np.array([0, 1]), np.array([1.0, 0.0]))  # 0.99 x 1.985 + 0.01 x 0.5 = 1.97015
        beta = 1 - 0.6 * 1.97015 / 2
        p = np.array([1.001, 0.001]) ** 0.6
        places, weights = draw(replay, 0.1, 0.999)
        assert places == [0, 1]
        assert weights == pytest.approx([(p[0] / p[1]) ** -beta, 1.0])
        replay.learnt(
            np.array([0, 1]), np.array([800.0, 800.0])
        )  # a greater one than ever: the measure is 0.99 x 1.97015 + 8
        replay.learnt(np.array([0, 1]), np.array([1.0, 0.0]))
        greatest = 0.99 * 1.97015 + 8
        beta = 1 - 0.6 * (0.99 * greatest + 0.005) / greatest
        assert draw(replay, 0.1, 0.999)[1] == pytest.approx([(p[0] / p[1]) ** -beta, 1.0])

    def test_before_anything_was_learnt_it_is_whole(self):
        replay = Replay(2, 1.0)
        replay.put(rows(replay, 0))
        replay.learnt(np.array([0]), np.array([0.0]))  # no surprise at all: beta 1
        replay.put(rows(replay, 1))  # priorities 0.001 and 1
        assert draw(replay, 0.0, 0.9)[1] == pytest.approx([1.0, 0.001])

    @given(
        st.lists(st.floats(-5, 5), min_size=1, max_size=16),
        st.lists(st.floats(0, 0.999), min_size=1, max_size=5),
    )
    def test_a_draw_falls_where_the_running_sum_of_priorities_says(self, surprises, chances):
        replay = self.filled(surprises, size=16)
        p = (np.abs(surprises) + 0.001) ** 0.6
        wanted = (np.arange(len(chances)) + chances) / len(chances) * p.sum()
        places, _ = draw(replay, *chances)
        edges = np.concatenate([[0.0], np.cumsum(p)])
        for place, want in zip(places, wanted, strict=True):
            assert edges[place] - 1e-9 <= want <= edges[place + 1] + 1e-9
