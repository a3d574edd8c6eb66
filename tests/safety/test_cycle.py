"""The maximum cycle: held against every proposal where there is room for it, reported where not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headway.plants.sumo import read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import BENCHMARK, STREET, work_out
from headway.safety import Order, Override, SafetyGate
from tests.safety.builders import NETWORK, STAGES, Street, look, propose, stage
from tests.safety.rules import broken_rules, late_starts

G3 = 3
GO = 3
# yellow 3 s, clearance 0: a change takes 3 s
PROFILE = replace(BENCHMARK, max_cycle_s=60.0)


class Play:
    """One junction under the gate; traffic on `links` all the time."""

    def __init__(self, profile=PROFILE, links=(0, 1, 2, 3), network=NETWORK):
        self.network, self.timing, self.links = network, work_out(network, profile), links
        self.gate, self.now = SafetyGate(network, self.timing, 0.0), 0.0
        self.history, self.calls, self.events = [], [], []

    def run(self, wanted, seconds, links=None):
        """wanted: colours, or a function of the time."""
        for _ in range(seconds):
            links_now = self.links if links is None else links
            colours = np.array(wanted(self.now) if callable(wanted) else wanted, np.int8)
            command = self.gate.admit(
                propose(self.network, self.now, colours),
                self.now,
                look(self.network, self.gate, self.now, links_now),
            )
            self.history.append((self.now, command.colours.tolist()))
            self.calls.append(({self.network.links[i].group for i in links_now}, False))
            self.events += command.interventions
            self.now += 1.0
        return self

    def starts(self, g):
        lit = [colours[g] >= GO for _, colours in self.history]
        return [k for k in range(1, len(lit)) if lit[k] and not lit[k - 1]]

    def late(self):
        return late_starts(self.network, self.timing, self.history, self.calls)

    def of(self, kind):
        return [e for e in self.events if e.kind == f"safety.{kind}"]


def stubborn(now):
    return STAGES[0]


def hasty(now):
    """Another stage every second: no group is ever proposed for as long as it takes to start."""
    return STAGES[int(now) % len(STAGES)]


def random_stages(seed):
    draws = np.random.default_rng(seed).integers(len(STAGES), size=4000)
    return lambda now: STAGES[draws[int(now) // 7]]


@pytest.mark.parametrize("wanted", [stubborn, hasty, random_stages(1), random_stages(2)])
@pytest.mark.parametrize("profile", [PROFILE, STREET])
def test_no_proposal_makes_a_cycle_longer_than_its_maximum(wanted, profile):
    play = Play(profile).run(wanted, 1500)
    assert play.late() == []
    assert play.of("cycle_exceeded") == []
    for g in (0, 1):  # 2 crosses nobody; 3 has green beside 0 and alone
        starts = play.starts(g)
        assert len(starts) > 10
        assert max(np.diff(starts)) <= profile.max_cycle_s
    assert broken_rules(NETWORK, play.timing, play.history) == []


def test_without_the_rule_the_same_proposals_break_it():
    """So that the tests above hold because of it."""
    play = Play(replace(PROFILE, max_cycle_s=np.inf)).run(stubborn, 500)
    assert len(play.starts(1)) < 500 / 60 - 3


def test_the_controller_is_left_alone_until_the_last_second_and_the_event_says_why():
    """Stage 0 from 0 s; group 1 is called from the start, and has to be green at 60 s."""
    play = Play(links=(1,)).run(stubborn, 100)
    assert play.starts(1) == [60]
    (event,) = play.of("maximum_cycle")
    assert event.at_s == 60.0 - 3.0
    group = NETWORK.groups[1]
    assert dict(event.data) == {
        "tl": group.tl_id, "link": group.index, "shown": 1, "for_s": 57.0,
        "limit_s": 60.0, "cycle_s": 57.0,
    }  # fmt: skip


def test_the_event_says_how_long_the_cycle_is_by_then():
    events = Play(links=(0, 1)).run(stubborn, 400).of("maximum_cycle")
    assert len(events) > 3
    assert all(30.0 < event.data["cycle_s"] <= 60.0 for event in events)


def test_the_event_of_a_late_call_has_a_longer_red_than_its_cycle():
    """Red from 13 s on, called from 250 s on: served as of a call of half the maximum."""
    play = Play(links=(0,)).run(STAGES[1], 10).run(stubborn, 240).run(stubborn, 80, links=(1,))
    event = play.of("maximum_cycle")[0]
    assert event.data["for_s"] > 260.0
    assert event.data["cycle_s"] <= event.data["limit_s"] == 60.0
    assert play.of("cycle_exceeded") == []


def test_a_late_call_has_half_of_the_maximum_and_an_early_one_the_whole():
    def started(called_s):
        play = Play(links=(0,)).run(STAGES[1], 10).run(stubborn, called_s - 10)
        began = play.starts(1)[0]
        play.run(stubborn, 80, links=(1,))
        return play.starts(1)[1] - began

    assert started(20) == 60
    assert started(3 + 30) == 60
    assert started(3 + 31) == 60
    assert started(3 + 32) == 61
    assert started(200) == 200 - 3 - 1 + 30


def test_a_green_that_keeps_nobody_waiting_counts_from_when_it_does():
    play = Play(links=(0,)).run(stubborn, 200)
    assert play.starts(0) == [3]
    play.run(stubborn, 100, links=(0, 1))
    assert play.late() == []
    assert play.of("cycle_exceeded") == []


def test_what_does_not_fit_is_served_in_turn_and_reported_once_a_cycle():
    """Minimum greens of 30 s: three stages and their changes take 99 s of 60."""
    play = Play(replace(PROFILE, min_green_s=30.0)).run(stubborn, 1000)
    late = play.late()
    assert late
    for g, since_s, until_s in late:
        own = [e for e in play.of("cycle_exceeded") if e.data["link"] == NETWORK.groups[g].index]
        within = [e for e in own if since_s < e.at_s <= until_s]
        assert [e.data["reason"] for e in within] == ["others are served first"]
    rounds = np.diff(play.starts(1))
    assert rounds.max() <= len(STAGES) * 33


@pytest.mark.parametrize("order", [Order.HOLD, Order.FLASH])
def test_an_order_stands_over_the_rule_and_is_the_reason_in_the_event(order):
    play = Play().run(stubborn, 10)
    play.gate.order(Override(0, order, 300.0, "ann"), 10.0)
    play.run(stubborn, 250)
    assert {e.data["reason"] for e in play.of("cycle_exceeded")} == {"order"}
    assert play.of("maximum_cycle") == []


def test_signals_that_do_not_obey_are_left_red():
    play = Play().run(stubborn, 10)
    for _ in range(200):
        seen = look(NETWORK, play.gate, play.now, (0, 1, 2, 3))
        seen.shown[:] = 1 if (play.gate.shown != 1).any() else 4
        command = play.gate.admit(propose(NETWORK, play.now, STAGES[0]), play.now, seen)
        play.now += 1.0
    assert command.colours.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("period_s", [0.5, 2.0, 5.0])
def test_the_rule_holds_at_other_tick_lengths(period_s):
    gate, now, began = SafetyGate(NETWORK, work_out(NETWORK, PROFILE), 0.0), 0.0, [[], [], [], []]
    before = gate.shown.copy()
    while now < 600.0:
        seen = look(NETWORK, gate, now, (0, 1, 2, 3))
        shown = gate.admit(propose(NETWORK, now, STAGES[0]), now, seen).colours
        for g in range(4):
            if shown[g] >= GO > before[g]:
                began[g].append(now)
        before = shown.copy()
        now += period_s
    for starts in began[:2]:
        assert max(np.diff(starts)) <= 60.0


@pytest.mark.parametrize("off_s", [0, 4, 7])
def test_a_vehicle_that_its_detector_sees_now_and_then_has_its_cycle_kept(off_s):
    """Every 8 s, within the memory of a call; the controller never wants its stage."""
    street = Street(STREET)
    for second in range(400):
        seen = (0, 1) if second % 8 == off_s else (0,)
        street.play(STAGES[0], 1, links=seen)
    lit = street.lit(1)
    starts = [k for k in range(1, 400) if lit[k] and not lit[k - 1]]
    assert len(starts) == 3
    assert np.diff([0, *starts]).max() <= 120
    assert street.of("cycle_exceeded") == []


@pytest.mark.slow
def test_whatever_is_wanted_on_a_real_street_no_cycle_is_too_long():
    """cologne3, whose stages fit into 120 s: none is late by even the second that a yellow of 3.3 s
    is rounded up by.
    """
    network = read_network(scenario("cologne3").net)
    gate = SafetyGate(network, work_out(network, STREET), 0.0)
    gate.tick_s = 1.0
    rng = np.random.default_rng(3)
    wanted, links, late = stage(network, 0), (), 0
    for second in range(1500):
        now_s = float(second)
        if rng.random() < 0.04:
            wanted = stage(network, int(rng.integers(8)))
        if second % 97 == 0:
            called = np.flatnonzero(rng.random(len(network.links)) < 0.6).tolist()
            links = tuple(k for k in called if network.links[k].group >= 0)
        seen = look(network, gate, now_s, links)
        command = gate.admit(propose(network, now_s, wanted), now_s, seen)
        late += sum(e.kind == "safety.cycle_exceeded" for e in command.interventions)
    assert late == 0
