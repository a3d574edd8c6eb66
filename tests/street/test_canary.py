"""The trial of a canary: turns, pairs, and a test that seldom condemns one that is no worse."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from tests.street.builders import MadePlant, two_junctions, vehicles

from headway.control.models import ModelFile
from headway.street.canary import LEAST_PAIRS, Trial
from headway.street.messages import CanaryBounds, Deploy, Rollback
from headway.street.state_file import StateError

NETWORK = two_junctions()
A_ONLY = np.array([True, False])
HOUR_S = 3600.0


def trial(**bounds):
    return Trial(NETWORK, A_ONLY, CanaryBounds(**{"turn_s": 60.0, **bounds}))


def seen(at_s, *rows, arrived=()):
    """rows: (link, metres, m/s, seconds waited); arrived: links, each a vehicle that arrives."""
    plant = MadePlant(NETWORK, at_s)
    plant.vehicles = vehicles(*rows)
    np.add.at(plant.arrived, np.array(arrived, int), 1)
    return plant.observe()


def run(one, turns, lost, arrivals=1, from_s=0.0):
    """Seconds of `turns` turns in which `lost(canary decides)` vehicles stand before A, and
    `arrivals` arrive. Returns (who decided in each second, why it ended).
    """
    decided, why, at_s = [], "", from_s
    one.observe(seen(at_s), False)
    while len(decided) < turns * 60 and not why:
        ours = one.decides(at_s)
        decided.append(ours)
        at_s += 1.0
        stand = [(0, 5.0, 0.0, 9.0)] * lost(ours)
        why = one.observe(seen(at_s, *stand, arrived=[0] * arrivals), False)
    return decided, why


def test_it_takes_turns_and_who_begins_a_pair_is_drawn():
    decided, why = run(trial(), 200, lambda ours: 1)
    turns = np.array(decided).reshape(100, 2, 60)
    assert (turns.min(axis=2) == turns.max(axis=2)).all(), "each is one's own"
    assert (turns[:, 0, 30] != turns[:, 1, 30]).all(), "one each of a pair"
    assert 35 <= turns[:, 0, 30].sum() <= 65
    assert why == ""


def test_demand_that_comes_back_does_not_condemn_one_that_is_as_good():
    """Delays that rise and fall by a third within four turns, as of trains each 16 minutes. Of
    trials in which the canary began each second pair, a third ended.
    """
    rng = np.random.default_rng(7)
    ended = 0
    for number in range(60):
        one = Trial(NETWORK, A_ONLY, CanaryBounds(turn_s=60.0), f"model {number}")
        phase = rng.uniform(0.0, 2 * math.pi)
        for pair in range(30):
            turns = 2 * pair + np.arange(2)
            logs = 0.4 * np.sin(math.pi / 2 * turns + phase) + 0.1 * rng.standard_normal(2)
            one._turn = 2 * pair
            ours, theirs = np.exp(logs if one.decides(0.0) else logs[::-1])
            one.add(float(ours), float(theirs))
            if one._judge():
                ended += 1
                break
    assert ended <= 4


def test_the_delay_of_a_turn_is_the_time_lost_a_vehicle_that_arrived():
    one = trial(worse_by=1.0)
    run(one, 2, lambda ours: 3 if ours else 2)
    # of 60 s the first quarter is not counted: 45 s in which a vehicle a second arrives
    ((ours, theirs),) = one.pairs
    assert (ours, theirs) == pytest.approx(((3 * 45 + 1) / 45, (2 * 45 + 1) / 45), rel=0.03)
    moving = trial()
    moving.observe(seen(0.0), False)
    for at_s in range(1, 121):
        # half as fast as allowed, before A; one before B and one with no signal count nowhere
        rows = [(0, 50.0, 13.9 / 2, 0.0), (3, 5.0, 0.0, 9.0), (6, 5.0, 0.0, 9.0)]
        moving.observe(seen(float(at_s), *rows, arrived=[0, 3, 3, 6]), False)
    assert moving.pairs[0][0] == pytest.approx((0.5 * 45 + 1) / 45, rel=0.03)


def test_vehicles_that_call_a_signal_though_nobody_sees_them_lose_no_time():
    one = trial()
    one.observe(seen(0.0), False)
    for at_s in range(1, 121):
        rows = [(0, 50.0, 13.9 / 2, 0.0), (1, 1.0, 0.0, 200.0)]
        one.observe(replace(seen(float(at_s), *rows, arrived=[0]), recalled=1), False)
    assert one.pairs[0][0] == pytest.approx((0.5 * 45 + 1) / 45, rel=0.03)


def test_a_canary_that_is_worse_is_withdrawn_and_says_why():
    one = trial()
    decided, why = run(one, 40, lambda ours: 4 if ours else 2)
    assert 2 * LEAST_PAIRS * 60 <= len(decided) < 10 * 60
    assert why.startswith("its delay is 9")
    assert "more than the champion's in 3 pairs of turns, allowed are 5% (p 0 < 0.01)" in why


@pytest.mark.parametrize("stand", [(2, 2), (2, 4), (0, 0)])
def test_one_that_is_no_worse_goes_on(stand):
    one = trial()
    _, why = run(one, 40, lambda ours: stand[0] if ours else stand[1])
    assert why == ""
    assert one.figures()["pairs"] == 20


def test_turns_with_few_vehicles_or_somebody_else_who_decides_do_not_count():
    few = trial()
    run(few, 6, lambda ours: 2, arrivals=0)
    assert few.pairs == []
    held = trial()
    held.observe(seen(0.0), False)
    for at_s in range(1, 241):
        held.observe(seen(float(at_s), (0, 5.0, 0.0, 9.0), arrived=[0]), at_s == 30)
    assert len(held.pairs) == 1, "the second pair of two"
    gap = trial()
    gap.observe(seen(0.0), False)
    for at_s in range(100, 340):
        gap.observe(seen(float(at_s), (0, 5.0, 0.0, 9.0), arrived=[0]), False)
    assert len(gap.pairs) == 0 or gap.elapsed_s == 239.0


def test_a_canary_that_fills_the_lanes_so_that_nobody_arrives_any_more_is_withdrawn():
    one, why, at_s = trial(), "", 0.0
    one.observe(seen(at_s), False)
    while not why and at_s < 3600.0:
        ours = one.decides(at_s)
        at_s += 1.0
        stand = [(0, 5.0 + 7.0 * k, 0.0, 9.0) for k in range(10 if ours else 2)]
        why = one.observe(seen(at_s, *stand, arrived=[] if ours else [0]), False)
    assert at_s == 6 * 60.0, "three pairs"
    # 45 s that count: ten stand, of five vehicles at least; two stand, of one a second
    ours, theirs = one.pairs[0]
    assert (ours, theirs) == pytest.approx(((450 + 1) / 5, (90 + 1) / 45), rel=0.03)


def test_ticks_of_five_seconds_count():
    one, at_s = trial(), 0.3
    one.observe(seen(at_s), False)
    for _ in range(12):
        at_s += 5.000000001
        one.observe(seen(at_s), False)
    assert one.elapsed_s == pytest.approx(60.0)


def test_it_decides_within_its_hours_alone_and_their_time_alone_counts():
    one = trial(hours=((7.0, 8.0), (23.5, 24.0)))
    hours = [0.0, 6.99, 7.0, 7.99, 8.0, 23.4, 23.5, 23.99, 24.0, 31.0, 31.99, 32.0]
    on = [False, False, True, True, False, False, True, True, False, True, True, False]
    assert [one.is_on(h * HOUR_S) for h in hours] == on
    assert [one.decides(h * HOUR_S) for h in hours] == on, "in its first turn"
    run(one, 3, lambda ours: 2, from_s=8.5 * HOUR_S)
    assert one.elapsed_s == 0.0


@pytest.mark.parametrize("seed", [11, 12])
def test_false_alarms_stay_within_what_was_allowed_and_a_third_more_delay_is_found(seed):
    """1,000 trials of 60 pairs each. Logarithms of the delay of a turn: demand that drifts (AR(1),
    0.9 from turn to turn, sd 0.3), and noise of each turn (sd 0.25).
    """
    rng = np.random.default_rng(seed)
    trials, pairs = 1000, 60
    drift = np.zeros((trials, 2 * pairs))
    for turn in range(1, 2 * pairs):
        noise = 0.3 * math.sqrt(1 - 0.9**2) * rng.standard_normal(trials)
        drift[:, turn] = 0.9 * drift[:, turn - 1] + noise
    logs = (drift + 0.25 * rng.standard_normal(drift.shape)).reshape(trials, pairs, 2)
    canary_first = np.arange(pairs) % 2 == 0
    ours = np.where(canary_first, logs[:, :, 0], logs[:, :, 1])
    theirs = np.where(canary_first, logs[:, :, 1], logs[:, :, 0])

    def ended(d):
        """The pair after which each trial ends; 0 for none. By cumulative sums and SciPy's t."""
        n = np.arange(1, pairs + 1)
        mean = d.cumsum(axis=1) / n
        var = (d**2).cumsum(axis=1) / n - mean**2
        error = np.sqrt(np.maximum(var, 0) * n / np.maximum(n - 1, 1) / n)[:, LEAST_PAIRS - 1 :]
        t = (mean[:, LEAST_PAIRS - 1 :] - math.log(1.05)) / error
        p = stats.t.sf(t, n[LEAST_PAIRS - 1 :] - 1)
        at = np.array([3, 4, 5, 7, 9, 12, 15, 19, 24, 30, 38, 48, 60])  # a quarter more each
        look = np.arange(1, len(at) + 1)
        hit = p[:, at - LEAST_PAIRS] < 0.02 / (look * (look + 1))
        return np.where(hit.any(axis=1), at[hit.argmax(axis=1)], 0)

    equal = ended(ours - theirs)
    at_bound = ended(ours - theirs + math.log(1.05))
    worse = ended(ours - theirs + math.log(1.33))
    awful = ended(ours - theirs + math.log(3.0))
    assert (equal > 0).mean() <= 0.01
    assert (at_bound > 0).mean() <= 0.03
    assert (worse > 0).mean() >= 0.8
    assert np.median(awful[awful > 0]) <= 7
    assert (awful > 0).all()

    # the trial itself says the same of the first of each
    for differences, found in ((ours - theirs, equal), (ours - theirs + math.log(1.33), worse)):
        for k in range(10):
            one, end = trial(), 0
            for n, d in enumerate(differences[k], 1):
                one.add(math.exp(d), 1.0)
                if one._judge():
                    end = n
                    break
            assert end == found[k]


def test_a_trial_goes_on_after_a_restart_as_if_there_had_been_none():
    whole, first = trial(), trial()
    for one in (whole, first):
        run(one, 3, lambda ours: 3 if ours else 2)
    second = trial()
    second.resume(first.state())
    for one in (whole, second):
        for at_s in range(181, 400):
            one.observe(seen(float(at_s), (0, 5.0, 0.0, 9.0), arrived=[0]), False)
    assert second.state() == whole.state()
    assert second.figures() == whole.figures()


@pytest.mark.parametrize(
    "change", [{"pairs": [(1.0, math.nan)]}, {"pairs": [(1.0,)]}, {"pairs": 5}, {"looks": "x"}]
)
def test_a_state_that_is_none_is_refused(change):
    with pytest.raises(StateError, match="the trial of the canary cannot be read"):
        trial().resume({**trial().state(), **change})


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        ({"turn_s": 59.0}, "turn_s: 59 is not within 60 to 3600 s"),
        ({"turn_s": math.nan}, "turn_s: nan"),
        ({"worse_by": -0.1}, "worse_by: -0.1"),
        ({"worse_by": math.nan}, "worse_by: nan"),
        ({"false_alarms": 0.0}, "false_alarms: 0 is not"),
        ({"hours": ((8.0, 7.0),)}, "hours: "),
        ({"hours": ((0.0, 25.0),)}, "hours: "),
        ({"hours": ((math.nan, 3.0),)}, "hours: "),
    ],
)
def test_bounds_that_cannot_be_are_refused(bounds, says):
    with pytest.raises(ValueError, match=f"^canary: {says}"):
        CanaryBounds(**bounds)


def test_orders_that_cannot_be_are_refused():
    model = ModelFile("fast", 1, "planner", "0" * 64, "x")
    with pytest.raises(ValueError, match="There are: all, canary, shadow"):
        Deploy("some", model)
    with pytest.raises(ValueError, match="a champion decides on the whole street"):
        Deploy("all", model, ("A",))
    with pytest.raises(ValueError, match="given twice"):
        Deploy("canary", model, ("A", "A"))
    with pytest.raises(ValueError, match="There are: deploy, canary, shadow"):
        Rollback("all")
    with pytest.raises(ValueError, match="roll it back without junctions"):
        Rollback("deploy", ("A",))
    assert replace(Deploy("canary", model, ("A",)), junctions=("B",)).junctions == ("B",)
