"""Lanes whose detection falls silent, and what is presumed there, by hand.

In `two_junctions` link k leads from lane 2 k; links 0 to 2 are at A, the others at B.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.street.builders import MadePlant, Says, street_of, two_junctions, vehicles

from headway.roads import Colour
from headway.street.external.merge import Reported, SourceRows
from headway.street.external.rows import ObservationRow
from headway.street.junction_states import junction_states
from headway.street.silence import Change, SilenceDetector

R, G = int(Colour.RED), int(Colour.GREEN)


class Seconds:
    """A detector, and the seconds that it is shown."""

    def __init__(self, network=None, begin_s=0.0):
        self.network = network or two_junctions()
        self.detector = SilenceDetector(self.network, begin_s)
        self.at_s = begin_s
        self.changes = []

    def pass_by(self, seconds, every=0, links=(0,), **changes):
        """For so long, a vehicle of `links` in turn is there in every `every`-th second, for that
        second; 0 for nobody.
        """
        for _ in range(seconds):
            self.at_s += 1.0
            plant = MadePlant(self.network, self.at_s)
            if every and self.at_s % every == 0:
                link = links[int(self.at_s // every) % len(links)]
                plant.vehicles = vehicles((link, 30.0, 10.0, 0.0), lane=[self.lane])
                plant.arrived[link] = 1
            self.seen = replace(plant.observe(), **({"links_known": False} | changes))
            self.changes += [(self.at_s, c) for c in self.detector.update(self.seen)]
        return self

    lane = 0

    @property
    def presumed(self):
        """Of what is added: (lane, link, metres, seconds waited)."""
        filled, n = self.detector.filled(self.seen).vehicles, len(self.seen.vehicles)
        columns = (filled.lane, filled.link, filled.distance_m, filled.waiting_s)
        return [tuple(column[n:].tolist()) for column in columns]


def test_a_lane_is_silent_once_twenty_vehicles_are_missing_and_five_minutes_are_over():
    busy = Seconds().pass_by(600, every=10).pass_by(400)
    assert busy.changes == [(900.0, Change(0, "in0", True, pytest.approx(360.0, rel=0.05), 300.0))]
    rare = Seconds().pass_by(1500, every=25).pass_by(600)
    ((at_s, _),) = rare.changes
    assert at_s == pytest.approx(1500.0 + 20 * 25, abs=10.0), "twenty of them, after five minutes"


def test_a_lane_that_was_silent_for_long_before_is_given_three_times_as_long():
    bursts = Seconds().pass_by(600, every=10).pass_by(200).pass_by(300, every=10).pass_by(700)
    ((at_s, _),) = bursts.changes
    faded_s = 210.0 * np.exp(-290.0 / 1800.0)  # from 600 to 810, as it is remembered at 1100
    assert at_s == pytest.approx(1100.0 + 3.0 * faded_s, abs=1.0)


@pytest.mark.parametrize("dead_s", [600, 7200])
def test_a_detector_that_dies_again_is_found_again_however_long_it_was_dead(dead_s):
    """The gap that counts ends where it was taken for silence, after 300 s, and fades while the
    lane is heard.
    """
    twice = Seconds().pass_by(900, every=10).pass_by(dead_s).pass_by(600, every=10)
    again_s = twice.at_s
    twice.pass_by(1000)
    assert [change.silent for _, change in twice.changes] == [True, False, True]
    expected_s = 3.0 * 300.0 * np.exp(-590.0 / 1800.0)
    assert twice.changes[-1][0] - again_s == pytest.approx(expected_s, abs=2.0)


def test_no_gap_of_the_past_hides_a_silence_of_half_an_hour():
    half = Seconds().pass_by(900, every=10).pass_by(900, completeness=np.array([0.4, 1.0]))
    half.pass_by(10, every=10).detector.lanes["gap_s"] = 5000.0
    half.pass_by(3000)
    ((_, change),) = half.changes
    assert change.silent_s == 1800.0


def test_the_flow_is_that_of_the_last_half_hour():
    """Two hours at 360 an hour, then one at 90, of which the memory of 1800 s has 1 - exp(-2)."""
    slower = Seconds().pass_by(7200, every=10).pass_by(3600, every=40).pass_by(700)
    ((_, change),) = slower.changes
    assert change.flow_per_h == pytest.approx(90.0 + 270.0 * np.exp(-2.0), rel=0.03)


def test_the_flow_that_is_told_is_of_all_that_came_and_at_first_lower_than_it_was():
    """One in 10 s on lane 0; what has just begun may be chance: it is spread over 300 s."""
    street = Seconds()
    street.pass_by(100, every=10)
    assert street.detector.flow_veh_per_s() == pytest.approx([10 / 300] + [0.0] * 13, rel=0.05)
    street.pass_by(900, every=10)
    assert street.detector.flow_veh_per_s()[0] == pytest.approx(0.1, rel=0.02)


def test_nothing_is_said_of_a_lane_that_few_ever_used():
    assert Seconds().pass_by(180, every=10).pass_by(5000).changes == [], "18 vehicles"


def test_time_in_which_a_junction_is_not_measured_is_no_silence():
    half = np.array([0.4, 1.0])
    gone = Seconds().pass_by(600, every=10).pass_by(2000, completeness=half)
    assert gone.changes == []
    assert [at_s for at_s, _ in gone.pass_by(400).changes] == [2900.0]


@pytest.mark.parametrize("leap_s", [3600.0, -40.0])
def test_time_in_which_nothing_was_observed_and_a_clock_that_is_set_are_no_silence(leap_s):
    busy = Seconds().pass_by(600, every=10)
    busy.at_s += leap_s
    assert busy.pass_by(300).changes == []
    ((_, change),) = busy.pass_by(1).changes
    assert (change.flow_per_h, change.silent_s) == (pytest.approx(360.0, rel=0.05), 300.0)


def test_a_flow_that_no_lane_can_have_is_presumed_as_the_largest_that_it_can():
    """A source may count a thousand vehicles in each of its rows."""
    flood = Seconds()
    for _ in range(60):
        flood.pass_by(1)
        flood.seen.arrived[0] = 500_000
        flood.detector.update(flood.seen)
    ((_, change),) = flood.pass_by(300).changes
    assert change.flow_per_h == 1800.0
    arrived = 0
    for _ in range(20):
        flood.pass_by(1)
        arrived += flood.detector.filled(flood.seen).arrived[0]
    assert arrived == 10


def test_whoever_is_seen_ends_the_silence_however_little_is_measured():
    little = np.array([0.2, 1.0])
    silent = (
        Seconds().pass_by(600, every=10).pass_by(300).pass_by(10, every=10, completeness=little)
    )
    assert [change.silent for _, change in silent.changes] == [True, False]
    assert silent.presumed == [(), (), (), ()]


def test_the_usual_flow_is_presumed_to_queue_before_red_as_far_as_there_is_room():
    silent = Seconds().pass_by(600, every=10).pass_by(300)
    lane, link, distance_m, waiting_s = silent.presumed
    assert (lane, link) == ((0,) * 10, (0,) * 10), "at most ten"
    assert distance_m == tuple(1.0 + 7.5 * k for k in range(10))
    assert waiting_s == (900.0,) * 10, "since the last green: there was none"
    filled = silent.detector.filled(silent.seen)
    assert filled.completeness.tolist() == [0.0, 1.0], "all flow of A was on that lane"
    assert len(silent.seen.vehicles) == 0, "what was measured is left as it is"


def test_what_is_presumed_passes_at_green_and_comes_again_at_its_flow():
    silent = Seconds().pass_by(600, every=10).pass_by(300)
    green = np.array([G, R, R, R, R], np.int8)
    silent.pass_by(18, shown=green)  # 10 and 0.1 a second, less 0.5
    assert len(silent.presumed[0]) == 2
    silent.pass_by(8, shown=green)
    assert silent.presumed == [(), (), (), ()]
    silent.pass_by(29)
    assert silent.presumed[0] == (0, 0), "2.9, and the third is not there yet"
    assert silent.presumed[3] == (29.0, 29.0), "since the green"


def test_presumed_vehicles_arrive_at_the_usual_flow_for_who_measures_flows():
    silent = Seconds().pass_by(600, every=10).pass_by(300)
    arrived = 0
    for _ in range(600):
        silent.pass_by(1)
        came = silent.detector.filled(silent.seen).arrived
        arrived += came
        assert (silent.detector.filled(silent.seen).arrived == came).all(), (
            "as often as it is asked"
        )
    assert arrived.tolist() == [pytest.approx(60, abs=3), *[0] * 6]


def test_they_take_the_ways_that_were_taken():
    network = two_junctions()
    links = list(network.links)
    links[1] = replace(links[1], from_lane=links[0].from_lane)  # both leave lane 0
    shared = replace(network, links=tuple(links))
    silent = Seconds(shared).pass_by(800, every=10, links=(0, 1, 0, 0)).pass_by(300)
    ways = silent.presumed[1]
    assert (ways.count(0), ways.count(1)) in {(7, 3), (8, 2)}, "three of four"


def test_a_lane_that_is_heard_again_is_measured_again_and_keeps_its_flow():
    silent = Seconds().pass_by(600, every=10).pass_by(2000).pass_by(10, every=10)
    assert [change.silent for _, change in silent.changes] == [True, False]
    assert [change.silent_s for _, change in silent.changes] == [300.0, 2010.0]
    assert silent.presumed == [(), (), (), ()]
    silent.pass_by(600, every=10).pass_by(9000)
    assert silent.changes[-1][1].silent
    assert silent.changes[-1][1].flow_per_h == pytest.approx(360.0, rel=0.05)


def test_what_is_remembered_survives_a_checkpoint_and_not_another_network():
    one = Seconds().pass_by(600, every=10).pass_by(300)
    heir = SilenceDetector(one.network, 0.0)
    heir.resume(one.detector.state(), one.at_s)
    assert heir.filled(one.seen).vehicles.lane.tolist() == [0] * 10
    other = SilenceDetector(one.network, 0.0)
    state = {name: array[:-1] for name, array in one.detector.state().items()}
    other.resume(state, one.at_s)
    assert other.filled(one.seen) is one.seen


class Guessing(MadePlant):
    """Measures by detectors; `dead`: those before link 0 are."""

    dead = False

    def observe(self):
        if self.time_s % 10 == 0 and not self.dead:
            self.vehicles, self.arrived[0] = vehicles((0, 30.0, 10.0, 0.0)), 1
        else:
            self.vehicles = vehicles()
        return replace(super().observe(), links_known=False)


def test_controllers_and_gate_are_given_what_is_presumed_and_the_state_what_was_measured():
    """The controller wants the other stage for ever: the gate serves who is presumed to wait."""
    wants = Says(wanted=(R, G, R, G, G), confidence=(1.0, 1.0))
    street, events = street_of(Guessing(two_junctions(), 0.0), wants, confidence_threshold=0.0)
    for _ in range(900):
        street.tick()
    street.plant.dead = True
    while not [e for e in events if e.kind == "traffic.silent"]:
        street.tick()
    begun, measured = street.plant.time_s, junction_states(street)[0].arrived
    assert begun == pytest.approx(1200.0, abs=10.0)
    greens = []
    for _ in range(600):
        street.tick()
        greens.append(street.gate.shown[0] >= Colour.PERMISSIVE)
    assert sum(greens) >= 3 * 5, "its minimum green again and again"
    assert len(wants.observations[-1].vehicles) > 0
    assert len(street.observation.vehicles) == 0
    assert junction_states(street)[0].vehicles == 0
    assert junction_states(street)[0].arrived == measured == 90, "one in ten of 900 s"
    heir, _ = street_of(Guessing(two_junctions(), street.plant.time_s), heard := Says())
    heir.plant.dead = True
    heir.resume(street.state())
    heir.tick()
    assert len(heard.observations[-1].vehicles) > 0, "a restart does not empty the lane"
    (event,) = [e for e in events if e.kind == "traffic.silent"]
    assert (event.junction, event.data["lane"]) == ("A", "in0")
    street.plant.dead = False
    for _ in range(20):
        street.tick()
    assert [e.kind for e in events if e.kind.startswith("traffic.silent")][-1].endswith("_ended")


class Reporting(MadePlant):
    """Its vehicles report themselves: one before link 0 every 10 s of the first quarter hour, and
    one that waits before link 3.
    """

    def observe(self):
        if self.time_s % 10 == 0 and self.time_s < 900.0:
            self.vehicles, self.arrived[0] = vehicles((0, 30.0, 10.0, 0.0), self.waits), 1
        else:
            self.vehicles = vehicles(self.waits)
        return super().observe()

    waits = (3, 40.0, 0.0, 10.0)


def test_a_lane_is_empty_where_vehicles_report_themselves_whoever_else_reports_others():
    """A camera at B, which sees the vehicle that waits there at another place."""
    network = two_junctions()
    street, events = street_of(Reporting(network, 0.0))
    guessed = []
    for second in range(2100):
        queue = second // 10 % 2  # one that never changes would be that of a stuck detector
        row = ObservationRow(junction="B", approach="in3", at_s=float(second), queue=queue)
        street.external.take(Reported("cam", (SourceRows("cam", (row,)),)), float(second))
        street.tick()
        guessed.append(not street.observation.links_known)
    assert sum(guessed[:900]) > 300, "the links of the camera's vehicles are guessed"
    assert sum(guessed[900:]) > 300
    assert [e for e in events if e.kind.startswith("traffic.silent")] == []
