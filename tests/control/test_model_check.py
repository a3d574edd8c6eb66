"""What speaks for and against the planner's model, worked out by hand on a crossing of two lanes.

Lane 0 has group 0, lane 1 group 1; stages "Gr" and "rG". Five seconds a row are enough to see each
factor move.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.control.builders import colours, flat_tables, junction, network, observed, timing

from headway.control.lane_queues import observe
from headway.control.model_check import (
    CHECKED_LANE_VEHICLES,
    FACTORS,
    LEAST_PREDICTED_S,
    MEMORY,
    SHORTEST_GAP_S,
    SILENT_GAPS,
    TOLERATED,
    no_check,
    updated,
)
from headway.control.planner import MODEL, signals_of, traffic_of
from headway.control.queue_model import as_record

FRESHNESS, NOVELTY, DETECTION, AGREEMENT, PERFORMANCE = range(5)


@pytest.fixture(scope="module")
def net():
    lanes = [("a_0", 200, 10), ("b_0", 200, 10), ("x_0", 200, 10), ("y_0", 200, 10)]
    links = [("a_0", "x_0", 0, "s", 10, 10, 1), ("b_0", "y_0", 1, "s", 10, 10, 1)]
    return network(lanes, links, [junction("J", 0, ["Gr", "rG"], [(0, 1)])])


class Street:
    """What a controller would see, second by second."""

    def __init__(self, net, at_s=100.0):
        self.net, self.at_s = net, at_s
        self.tables, self.model = flat_tables(net, timing(net)), as_record(MODEL)
        self.check = no_check(1, 2, colours("Gr"), at_s)
        self.confidence = 1.0

    def see(
        self, rows, shown="Gr", target=0, arrived=(0, 0), shown_for_s=30.0, after_s=1.0, room=None
    ):
        """The factors after `rows` were seen, see `observed`."""
        self.at_s += after_s
        seen = observed(self.net, self.at_s, rows, shown, shown_for=[shown_for_s] * 2, room=room)
        seen = replace(seen, arrived=np.array(arrived))
        self.check, factors, confidence = updated(
            self.check,
            self.at_s,
            self.tables,
            self.model,
            np.array([target], np.int32),
            observe(self.tables, signals_of(seen, np.zeros(2)), traffic_of(seen)),
        )
        self.confidence = float(confidence[0])
        return factors[:, 0]


def test_the_factors_have_names():
    assert FACTORS == ("freshness", "novelty", "detection", "agreement", "performance")


def test_without_traffic_nothing_speaks_against_the_model(net):
    street = Street(net)
    for _ in range(30):
        assert street.see([]).tolist() == [1.0] * 5
    assert street.confidence == 1.0


def test_a_queue_that_leaves_as_predicted_is_no_fault(net):
    """Three vehicles stand on green: they pass after the start-up loss was over, 1.89 s apart."""
    street = Street(net)
    gone_after = [0, 1, 1, 2, 2, 3]  # of the first, 0 s; then 1.89 and 3.78 s, end gain 0.34 s
    for k in range(11):
        left = 3 - (gone_after[k] if k < 6 else 3)
        places = [1.0, 8.5, 16.0][3 - left :] if left else []
        factors = street.see([(0, d, 0.0, 5.0 + k) for d in places])
    assert factors[PERFORMANCE] == 1.0
    assert abs(street.check.junctions["late_s"][0]) <= 1.0


def test_vehicles_that_do_not_move_on_green_count_against_the_model(net):
    """One that stands at the stop line for ten seconds of green. It was predicted to pass at once:
    after k seconds 1 vehicle, 1 + ... + 1 = 10 vehicle seconds, in one window.
    """
    street = Street(net)
    for k in range(11):
        factors = street.see([(0, 1.0, 0.0, 20.0 + k)])
    late_s = MEMORY * 10.0
    assert street.check.junctions["late_s"][0] == pytest.approx(late_s)
    assert street.check.junctions["predicted_s"][0] == pytest.approx(late_s)
    share = late_s / (late_s + LEAST_PREDICTED_S)
    assert share < TOLERATED
    assert factors[PERFORMANCE] == 1.0, "little was predicted so far"
    for k in range(200):
        factors = street.see([(0, 1.0, 0.0, 31.0 + k)])
    late_s = street.check.junctions["late_s"][0]
    share = late_s / (late_s + LEAST_PREDICTED_S)
    assert late_s > 100.0
    assert factors[PERFORMANCE] == pytest.approx((1.0 - share) / (1.0 - TOLERATED))
    assert street.confidence == pytest.approx(factors[PERFORMANCE])


def test_on_red_nothing_is_predicted(net):
    street = Street(net)
    for k in range(60):
        factors = street.see([(1, 1.0, 0.0, 20.0 + k)], shown="Gr", target=1)
    assert street.check.junctions["predicted_s"][0] == 0.0
    assert factors[PERFORMANCE] == 1.0


def test_arrivals_are_no_fault_of_the_model(net):
    """One is there from the first second on, and another comes each second: the first passes, and
    as many are there as came.
    """
    street = Street(net)
    street.see([(0, 1.0, 0.0, 5.0)])
    for k in range(1, 11):
        rows = [(0, 150.0 - i, 10.0, 0.0) for i in range(k)]
        street.see(rows, arrived=(1, 0))
    assert abs(street.check.junctions["late_s"][0]) <= 1.0


def test_signals_that_change_end_the_window(net):
    street = Street(net)
    street.see([(0, 1.0, 0.0, 5.0)])
    street.see([(0, 1.0, 0.0, 6.0)])
    street.see([(0, 1.0, 0.0, 7.0)], shown="yr")
    assert street.check.junctions["since_s"][0] == street.at_s, "a new one begins"
    assert street.check.junctions["late_s"][0] == pytest.approx(MEMORY * 2.0)


@pytest.mark.parametrize("leap_s", [-50.0, 11.0, 3600.0])
def test_a_clock_that_leaps_says_nothing(net, leap_s):
    street = Street(net)
    street.see([(0, 1.0, 0.0, 5.0)])
    street.see([(0, 1.0, 0.0, 6.0)])
    before = street.check.junctions["late_s"][0]
    factors = street.see([(0, 1.0, 0.0, 7.0)], after_s=leap_s)
    assert street.check.junctions["late_s"][0] == before
    assert np.isfinite(factors).all()


def test_agreement_is_what_the_stage_serves_of_what_the_best_would(net):
    """One waits for the stage that is aimed at, four for the other: a quarter, in the long run."""
    street = Street(net)
    rows = [(0, 1.0, 0.0), *((1, 1.0 + 7.5 * k, 0.0) for k in range(4))]
    for k in range(1, 301):
        factors = street.see([(*row, float(k)) for row in rows])
        if k == 30:
            assert factors[AGREEMENT] == pytest.approx(1.0 - 0.75 * (1.0 - np.exp(-1.0)))
    assert factors[AGREEMENT] == pytest.approx(0.25, abs=1e-3)
    factors = street.see([], target=1)
    assert factors[AGREEMENT] > 0.25, "nobody asks: both agree"


def test_whose_exit_is_full_no_stage_would_serve(net):
    """Of those who wait for the other stage; for its own it is nothing that speaks for it."""
    rows = [(0, 1.0, 0.0), *((1, 1.0 + 7.5 * k, 0.0) for k in range(4))]
    for full, expected in (("y_0", 1.0), ("x_0", 0.0)):
        street = Street(net)
        for k in range(1, 301):
            factors = street.see([(*row, float(k)) for row in rows], room={full: 2.0})
        assert factors[AGREEMENT] == pytest.approx(expected, abs=1e-3)


def test_unknown_links_and_crowds_are_new_to_the_model(net):
    street = Street(net)
    seen = [(0, 10.0 * k, 0.0, float(k)) for k in range(4)]
    assert street.see(seen)[NOVELTY] == 1.0
    most = int(CHECKED_LANE_VEHICLES)
    assert street.see([(0, 5.0 * k, 0.0, 1.0) for k in range(most)])[NOVELTY] == 1.0
    assert street.see([(0, 3.0 * k, 0.0, 1.0) for k in range(2 * most)])[NOVELTY] == 0.5


def test_vehicles_of_unknown_link_are_a_share(net):
    street = Street(net)
    seen = observed(net, 101.0, [(0, 1.0, 0.0), (0, 8.5, 0.0), (1, 1.0, 0.0), (1, 8.5, 0.0)], "Gr")
    seen.vehicles.link[1] = -1
    _, factors, confidence = updated(
        street.check,
        101.0,
        street.tables,
        street.model,
        np.array([0], np.int32),
        observe(street.tables, signals_of(seen, np.zeros(2)), traffic_of(seen)),
    )
    assert factors[NOVELTY, 0] == 0.75
    assert confidence[0] == pytest.approx(0.75**0.5 * factors[AGREEMENT, 0] ** (1 / 3))


def test_a_lane_that_falls_silent_may_be_blind(net):
    """Ten times somebody came for a second, 29 s apart; then nobody any more."""
    street = Street(net)
    for _ in range(10):
        for _ in range(29):
            street.see([])
        street.see([(0, 5.0, 10.0)])
    assert street.check.lanes["spells"].tolist() == [10.0, 0.0]
    assert street.check.lanes["gap_s"][0] == pytest.approx(29.0, abs=0.2)
    gap_s = street.check.lanes["gap_s"][0]
    for silent in range(1, int(2.5 * SILENT_GAPS * gap_s)):
        factors = street.see([])
        expected = min(max(2.0 - (silent - 1.0) / gap_s / SILENT_GAPS, 0.0), 1.0)
        assert factors[DETECTION] == pytest.approx(expected)
    assert factors[DETECTION] == 0.0
    assert street.see([(0, 5.0, 10.0)])[DETECTION] == 1.0


def test_the_mean_gap_is_of_the_last_fifty(net):
    """Sixty gaps of 9 s, then one of 59 s: the mean grows by a fiftieth of the difference."""
    street = Street(net)
    for gap_s in [9] * 60 + [59]:
        before_s = float(street.check.lanes["gap_s"][0])
        for _ in range(gap_s):
            street.see([])
        street.see([(0, 5.0, 10.0)])
    assert before_s == pytest.approx(9.0, abs=0.1)
    assert street.check.lanes["gap_s"][0] == pytest.approx(before_s + (59.0 - before_s) / 50.0)


def test_a_lane_that_was_hardly_used_may_stay_silent(net):
    street = Street(net)
    for _ in range(4):
        street.see([])
        street.see([(0, 5.0, 10.0)])
    for _ in range(1000):
        assert street.see([])[DETECTION] == 1.0


def test_gaps_within_a_platoon_are_not_taken_for_the_rule(net):
    street = Street(net)
    for _ in range(20):
        street.see([])
        street.see([(0, 5.0, 10.0)])
    for silent in range(1, 300):
        factors = street.see([])
        assert (factors[DETECTION] == 1.0) == (silent - 1 <= SILENT_GAPS * SHORTEST_GAP_S)


def test_a_picture_that_stands_still_is_old(net):
    street = Street(net)
    still = [(0, 50.0, 10.0, 0.0), (1, 5.0, 0.0, 12.0)]
    found = [street.see(still)[FRESHNESS] for _ in range(7)]
    assert found == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0])
    assert street.see([(0, 49.0, 10.0, 0.0), still[1]])[FRESHNESS] == 1.0
    assert street.see([(0, 49.0, 10.0, 0.0), (1, 5.0, 0.0, 13.0)])[FRESHNESS] == 1.0


def test_the_state_before_is_not_changed(net):
    street = Street(net)
    before = street.check
    kept = [np.copy(part) for part in before]
    street.see([(0, 1.0, 0.0, 5.0)])
    assert all(np.array_equal(a, b) for a, b in zip(before, kept, strict=True))
