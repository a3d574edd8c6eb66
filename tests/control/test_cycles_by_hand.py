"""When the planner holds a group to be due, worked out in the head: a longest cycle of 120 s, of
which a call has 60 s at least, and 15 s that the planner is ahead.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.control.builders import flat_tables, observed, pair, timing

from headway.control import lane_queues
from headway.control.cycles import cycle_times, no_cycles
from headway.control.planner import signals_of, traffic_of


class TestCycles:
    """The junction of three groups that all cross, and the one of two: group 0 is served by links 0
    and 1, group 1 by link 2, group 2 by link 3, 3 and 4 by links of the same number plus one.
    """

    def setup_method(self):
        self.net = pair()
        self.tables = flat_tables(self.net, timing(self.net, min_cycle_s=40.0, max_cycle_s=120.0))
        self.cycles = no_cycles(5, 0.0)
        self.began_s = np.zeros(5)

    def see(self, at_s, links=(), shown="GrrGr", persons=None):
        """Seconds until each group is due, after a look at `at_s`."""
        seen = observed(self.net, at_s, [(k, 20.0, 0.0) for k in links], shown, persons=persons)
        signals = signals_of(seen, np.zeros(5))
        now = lane_queues.observe(self.tables, signals, traffic_of(seen))
        before = self.cycles.copy()
        given = self.cycles
        self.cycles, times = cycle_times(self.tables, at_s, self.began_s, given, now)
        assert (given == before).all(), "the past is not changed"
        self.barred_s = times.barred_s.tolist()
        return [round(x, 6) for x in times.due_s.tolist()]

    def see_each_second(self, begin_s, end_s, *more, **named):
        for at_s in range(begin_s, end_s + 1):
            due_s = self.see(float(at_s), *more, **named)
        return due_s

    def test_a_call_from_the_start_of_the_cycle_on_has_the_whole_of_it(self):
        assert self.see_each_second(1, 30, [2]) == [math.inf, 120 - 30 - 15, *[math.inf] * 3]

    def test_a_late_call_has_half_of_it(self):
        assert self.see_each_second(1, 200) == [math.inf] * 5
        assert self.see(201.0, [2])[1] == 59 - 15
        assert self.see(211.0)[1] == 49 - 15, "a call is remembered for 10 s"
        assert self.see(212.0) == [math.inf] * 5
        assert self.see(213.0, [2])[1] == 59 - 15, "forgotten, it is a new one"

    def test_a_cycle_begins_when_its_green_keeps_somebody_waiting(self):
        # group 0 is green from the start on; nobody has come to group 1 at 49, nor to group 4 at 69
        self.see_each_second(1, 49, [0])
        self.see_each_second(50, 69, [0, 2])
        self.see_each_second(70, 80, [0, 2, 5])
        due_s = self.see(81.0, [0, 2, 5], shown="yrrGr")
        assert due_s[0] == 49 + 120 - 81 - 15
        due_s = self.see(82.0, [0, 2, 4, 5], shown="yrryr")
        assert due_s[3] == 69 + 120 - 82 - 15

    def test_who_is_green_is_not_due_and_begins_anew(self):
        self.see_each_second(1, 30, [2])
        assert self.see_each_second(31, 40, [2], shown="rGrGr") == [math.inf] * 5
        assert self.see(41.0, [2], shown="rrrGr")[1] == 40 + 120 - 41 - 15, "it kept nobody waiting"

    def test_people_who_wait_call_too_and_vehicles_under_no_signal_do_not(self):
        due_s = self.see(1.0, [6], persons={2: 3})
        assert due_s == [math.inf, math.inf, 120 - 1 - 15, math.inf, math.inf]

    def test_without_a_longest_cycle_nobody_is_due(self):
        self.tables = flat_tables(self.net, timing(self.net, min_cycle_s=40.0))
        assert self.see_each_second(1, 100, [2, 3]) == [math.inf] * 5

    def test_a_group_is_barred_until_its_shortest_cycle_is_over(self):
        self.began_s = np.array([0.0, 70.0, 60.0, 99.0, 100.0])
        self.see(100.0)
        assert self.barred_s == pytest.approx([-60.0, 10.0, 0.0, 39.0, 40.0])
