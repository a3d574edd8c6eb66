"""Signals that are red for long are called although nobody is seen there.

In `two_junctions` group 0 (links 0 and 1) and 1 (link 2) cross at A, group 2 (link 3) crosses 3
(link 4) and 4 (a crossing for pedestrians, link 5) at B. Link k leads from lane 2 k.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from tests.street.builders import MadePlant, Says, street_of, two_junctions, vehicles

from headway.control.planner import Planner
from headway.roads import BENCHMARK, Colour, Timing
from headway.street.guard import own_copy
from headway.street.recall import Recall

R, Y, G = int(Colour.RED), int(Colour.YELLOW), int(Colour.GREEN)


def observed(shown, red_s, links_known=False):
    network = two_junctions()
    plant = MadePlant(network)
    plant.vehicles = vehicles((0, 30.0, 10.0, 0.0))
    seen = plant.observe()
    shown = np.array(shown, np.int8)
    return replace(seen, shown=shown, shown_for_s=np.array(red_s, float), links_known=links_known)


NONE_COMES = np.zeros(14)  # vehicles a second, by lane


def added(before):
    """(link, lane, metres, m/s, seconds waited) of each vehicle that recall adds."""
    after, n = Recall(two_junctions()).with_calls(before, NONE_COMES).vehicles, len(before.vehicles)
    columns = (after.link, after.lane, after.distance_m, after.speed_mps, after.waiting_s)
    return list(zip(*(column[n:].tolist() for column in columns), strict=True))


@pytest.mark.parametrize(
    ("shown", "red_s", "called"),
    [
        ([G, R, G, R, R], [200.0, 179.9, 200.0, 179.9, 179.9], []),
        ([G, R, G, R, R], [200.0, 180.0, 200.0, 10.0, 10.0], [(2, 4, 1.0, 0.0, 180.0)]),
        (
            [R, G, R, R, R],
            [185.0, 5.0, 300.0, 181.0, 500.0],
            [(0, 0, 1.0, 0.0, 185.0), (3, 6, 1.0, 0.0, 300.0), (4, 8, 1.0, 0.0, 181.0)],
        ),
        ([Y, G, Y, G, G], [500.0, 500.0, 500.0, 500.0, 500.0], []),
    ],
)
def test_each_signal_for_vehicles_that_is_red_for_180_s_is_called_by_one(shown, red_s, called):
    """Pedestrians are not: who waits there presses a button."""
    assert added(observed(shown, red_s)) == called


def test_the_rest_of_the_observation_is_as_it_was():
    before = observed([G, R, G, R, R], [200.0, 180.0, 10.0, 10.0, 10.0])
    after = Recall(two_junctions()).with_calls(before, NONE_COMES)
    assert after.vehicles.link[:1].tolist() == [0]
    for name in ("shown", "arrived", "completeness", "room_m", "count", "waiting_persons"):
        assert getattr(after, name) is getattr(before, name), name
    assert (after.at_s, after.links_known, after.inside_seen) == (
        before.at_s, before.links_known, before.inside_seen,
    )  # fmt: skip
    none_late = observed([G, R, G, R, R], [200.0, 5.0, 10.0, 10.0, 10.0])
    assert Recall(two_junctions()).with_calls(none_late, NONE_COMES) is none_late


def test_whoever_is_called_by_nobody_seen_is_marked_and_not_measured():
    before = observed([R, G, R, R, R], [185.0, 5.0, 300.0, 181.0, 500.0])
    after = Recall(two_junctions()).with_calls(before, NONE_COMES)
    assert (before.recalled, after.recalled) == (0, 3)
    for measured in (before.measured_vehicles, after.measured_vehicles):
        assert (measured.link.tolist(), measured.distance_m.tolist()) == ([0], [30.0])
    assert own_copy(after).recalled == 3, "what a controller is given says it too"


def test_of_what_came_while_a_signal_was_red_the_missed_share_is_expected_unseen():
    """A camera that misses one in five sees four of five: for each that is seen, 0.25 are not.
    Lanes 0 and 2 are of group 0, 4 of group 1, 6 of group 2, 8 of group 3, 10 of a crossing.
    """
    flow = NONE_COMES.copy()
    flow[[0, 2, 4, 6, 8, 10]] = [0.1, 0.1, 0.2, 0.3, 0.05, 0.4]
    before = replace(observed([R, R, G, R, R], [10.0, 20.0, 50.0, 170.0, 60.0]), missed_share=0.2)
    after = Recall(two_junctions()).with_calls(before, flow)
    assert after.unseen == pytest.approx([0.2 * 10 / 4, 0.2 * 20 / 4, 0.0, 0.05 * 170 / 4, 0.0])
    assert (after.recalled, len(after.vehicles)) == (0, 1), "they call nobody"
    assert own_copy(after).unseen == pytest.approx(after.unseen)
    assert own_copy(after).missed_share == 0.2
    network = two_junctions()
    links = [replace(x, from_lane=0) if k == 2 else x for k, x in enumerate(network.links)]
    shared = Recall(replace(network, links=tuple(links)))
    assert shared.with_calls(before, flow).unseen[:2] == pytest.approx(
        [(0.05 + 0.1) * 10 / 4, 0.05 * 20 / 4]
    ), "a lane's flow goes by each of its signals alike"
    seen_by_all = replace(before, missed_share=0.0)
    assert Recall(two_junctions()).with_calls(seen_by_all, flow).unseen is None


@pytest.mark.parametrize(
    ("factor", "least"), [("detection", 0.0), ("freshness", 0.0), ("novelty", 1.0)]
)
def test_a_dead_detector_or_a_frozen_picture_is_found_although_signals_are_called(factor, least):
    """Group 1 is red throughout. Its lane has a vehicle for 4 s of each 20 until it dies; who comes
    to group 0 drives until the picture freezes, at A in both. Called vehicles made the lane one
    that is used, and their waits a picture that moves, so that a dead camera was trusted.
    """
    network = two_junctions()
    planner = Planner(network, Timing(BENCHMARK, *(np.full(5, x) for x in (0, 0, 5, 120, 150, 0))
        , np.full(5, np.inf)))  # fmt: skip
    factors = {}
    for recalls in (False, True):
        state, plant, found = None, MadePlant(network, 0.0), []
        recall = Recall(network)
        for second in range(900):
            alive = second < 170
            moving = (0, 90.0 - second % 10 if alive else 30.0, 10.0, 0.0)
            comes = [(2, 40.0, 10.0, 0.0)] if alive and second % 20 < 4 else []
            plant.time_s, plant.vehicles = float(second), vehicles(moving, *comes)
            times = np.array([second, second, second, 1.0, 1.0], float)
            seen = replace(
                plant.observe(),
                shown=np.array([G, R, G, R, R], np.int8),
                shown_for_s=times,
                links_known=False,
            )
            given = recall.with_calls(seen, NONE_COMES) if recalls else seen
            assert given.recalled == (recalls and second >= 180)
            state = state or planner.start(given)
            proposal, state = planner.step(given, state)
            found.append(proposal.why[factor].tolist())
        factors[recalls] = found
    assert factors[True] == factors[False]
    assert min(of_a for of_a, _ in factors[True]) == least


class Sensed(MadePlant):
    """What is seen at A, always: one who drives towards group 0. Nobody else is seen anywhere."""

    links_known = False

    def observe(self):
        self.vehicles = vehicles((0, 30.0, 10.0, 0.0))
        return replace(super().observe(), links_known=self.links_known)

    def apply(self, command):
        self.since[command.colours != self.shown] = self.time_s
        super().apply(command)


def greens(plant, controller, seconds):
    """(time of each begin of green, group)."""
    street, _ = street_of(plant, controller)
    found, before = [], plant.shown
    for _ in range(seconds):
        street.tick()
        found += [(plant.time_s, int(g)) for g in np.flatnonzero((plant.shown == G) & (before < Y))]
        before = plant.shown
    return found


def test_whom_a_camera_misses_is_served_although_others_come_all_the_time():
    """By the planner; before, the other road was red for as long as somebody came on this one."""
    times = (np.full(5, x) for x in (0.0, 0.0, 5.0, 120.0, 150.0, 0.0, np.inf))
    network = two_junctions()
    planner = Planner(network, Timing(BENCHMARK, *times))
    begins = [at_s for at_s, group in greens(Sensed(network), planner, 640) if group == 1]
    assert len(begins) >= 3
    assert np.diff([100.0, *begins]).max() < 240.0


def test_vehicles_that_report_themselves_are_all_that_there_are():
    plant, says = Sensed(two_junctions()), Says()
    street, _ = street_of(plant, says)
    plant.links_known = True
    for _ in range(210):
        street.tick()
    assert {len(o.vehicles) for o in says.observations} == {1}
    plant.links_known = False
    street.tick()
    assert len(says.observations[-1].vehicles) == 3, "groups 1 and 3 are called"
    assert len(street.observation.vehicles) == 1, "what is measured stays what is measured"


def test_a_city_takes_no_more_memory_than_its_links():
    """A table of its signal groups and lanes would: 600 MB of these."""
    small, times = two_junctions(), 1000
    groups, lanes = len(small.groups), len(small.lanes)
    links = [
        replace(
            link,
            from_lane=link.from_lane + k * lanes,
            to_lane=link.to_lane + k * lanes,
            group=link.group + k * groups if link.group >= 0 else -1,
        )
        for k in range(times)
        for link in small.links
    ]
    city = replace(
        small,
        links=tuple(links),
        groups=tuple(
            replace(group, links=tuple(i + k * len(small.links) for i in group.links))
            for k in range(times)
            for group in small.groups
        ),
        lanes=small.lanes * times,
    )
    tracemalloc.start()
    try:
        Recall(city)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10e6
