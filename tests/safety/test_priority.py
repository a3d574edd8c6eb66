"""Emergency vehicles at the gate, second by second, on two junctions side by side (see `pair`)."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from headway.roads import BENCHMARK, STREET
from headway.safety import Order, Override
from headway.safety.clearing import Clearing
from headway.safety.kernel import NO_STAGE
from headway.values import EmergencyVehicle, Vehicles
from tests.safety.builders import FR, FY, G, P, R
from tests.safety.networks import crossroads, pair
from tests.safety.rules import broken_rules, services
from tests.safety.two import FIRST, PAIR, SECOND, Two

# groups of the pair: 0 and 1 cross, 2 crosses nobody, 3 is a left turn against both; 4 and 5 cross
LIMIT_MPS = 13.9


def one(name, metres, group, speed=10.0):
    return EmergencyVehicle(name, speed, ((group, metres),))


def at(group, *metres, network=PAIR, emergency=False):
    """Vehicles on the lane of a group, standing so far from its stop line."""
    n = len(metres)
    link = network.groups[group].links[0]
    lane = network.links[link].from_lane
    return Vehicles(
        lane=np.full(n, lane, np.int32),
        link=np.full(n, link, np.int32),
        distance_m=np.array(metres, float),
        speed_mps=np.zeros(n),
        waiting_s=np.zeros(n),
        length_m=np.full(n, 7.5),
        emergency=np.full(n, emergency),
    )


def together(*tables):
    columns = ("lane", "link", "distance_m", "speed_mps", "waiting_s", "length_m", "emergency")
    return Vehicles(*(np.concatenate([getattr(t, c) for t in tables]) for c in columns))


def drive(two, seconds, fleet, wanted=FIRST, **more):
    """Play with the vehicles that `fleet` gives for each second from now on."""
    for second in range(seconds):
        two.play(wanted, 1, emergencies=tuple(fleet(second)), **more)
    return two


def coming(name, metres, group, speed=10.0):
    """One that drives to its stop line, and is gone when it has passed."""

    def fleet(second):
        left_m = metres - speed * second
        return [one(name, left_m, group, speed)] if left_m > 0.0 else []

    return fleet


def begun(two):
    return [(e[0], e[2], e[3]["vehicle"]) for e in two.reported("emergency")]


def ended(two):
    return [(e[0], e[2], e[3]["vehicle"]) for e in two.reported("emergency_ended")]


def shared():
    """The pair, of which groups 2 and 3 leave the same lane."""
    made = pair()
    links = list(made.links)
    links[3] = replace(links[3], from_lane=links[2].from_lane)
    return replace(made, links=tuple(links))


# what stands before it


def test_a_vehicle_before_it_that_turns_off_gets_its_green_too():
    network = shared()
    two = Two(network).play(SECOND, 12)
    assert two.shown[-1][2:4] == [G, R], "the way of the ambulance is green, the left turn is not"
    waiting = at(3, 5.0, network=network)
    drive(two, 12, lambda _: [one("amb", 40.0, 2)], SECOND, vehicles=waiting)
    assert two.shown[-1][2:4] == [G, G], "both, and the turn protected from what crosses it"
    assert two.shown[-1][:2] == [R, R]


def test_a_vehicle_behind_it_or_on_another_lane_changes_nothing():
    network = shared()
    for vehicles in (at(3, 60.0, network=network), at(0, 5.0, network=network)):
        two = Two(network).play(SECOND, 12)
        drive(two, 12, lambda _: [one("amb", 40.0, 2)], SECOND, vehicles=vehicles)
        assert two.shown[-1] == SECOND


def test_one_that_waits_inside_the_junction_stands_before_it():
    network = shared()
    two = Two(network).play(SECOND, 12)
    inside = at(3, -6.0, network=network)
    drive(two, 12, lambda _: [one("amb", 40.0, 2)], SECOND, vehicles=inside)
    assert two.shown[-1][3] == G


def test_its_own_row_tells_its_lane_among_several():
    # group 2 leaves its own lane and that of group 1, where a vehicle for group 1 stands
    made = pair()
    extra = replace(made.links[2], from_lane=made.links[1].from_lane)
    groups = list(made.groups)
    groups[2] = replace(groups[2], links=(2, len(made.links)))
    network = replace(made, links=(*made.links, extra), groups=tuple(groups))
    for where, serves in ((2, R), (1, G)):
        two = Two(network).play(FIRST, 12)
        row = replace(
            at(where, 40.0, network=network, emergency=True), link=np.array([2], np.int32)
        )
        vehicles = together(at(1, 5.0, network=network), row)
        drive(two, 12, lambda _: [one("amb", 40.0, 2)], vehicles=vehicles)
        assert two.shown[-1][1] == serves


def test_neither_itself_nor_what_stands_on_the_other_lane_of_its_group_is_before_it():
    """Group 2 leaves its own lane, on which it is, and that of group 1."""
    made = pair()
    extra = replace(made.links[2], from_lane=made.links[1].from_lane)
    groups = list(made.groups)
    groups[2] = replace(groups[2], links=(2, len(made.links)))
    network = replace(made, links=(*made.links, extra), groups=tuple(groups))
    vehicles = together(
        at(2, 40.0, network=network, emergency=True),
        at(1, 5.0, 40.0, network=network),
        at(1, 90.0, network=network, emergency=True),
    )
    two = Two(network).play(FIRST, 12)
    two.play(FIRST, 1, emergencies=(one("amb", 40.0, 2),), vehicles=vehicles)
    assert two.reported("emergency")[0][3]["vehicles_before"] == 0
    nearer = together(vehicles, at(2, 38.0, 39.5, network=network))  # less than 1 m: the same place
    two = Two(network).play(FIRST, 12)
    two.play(FIRST, 1, emergencies=(one("amb", 40.0, 2),), vehicles=nearer)
    assert two.reported("emergency")[0][3]["vehicles_before"] == 1


@pytest.mark.parametrize(
    ("queue", "seconds"),
    # 4 groups' minimum green is over: 3 s of yellow, and with vehicles before it 2 s of start-up
    # loss, 2 s each; 5 s of margin; never less than the look-ahead of 25 s
    [(0, 25.0), (5, 25.0), (15, 40.0), (30, 70.0), (90, 110.0)],
)
def test_it_begins_early_enough_for_the_queue_to_leave(queue, seconds):
    two = Two().play(FIRST, 12)
    metres = [5.0 + 7.5 * i for i in range(queue)]
    for eta_s in np.arange(115.0, 1.0, -1.0).tolist():
        ambulance = one("amb", eta_s * LIMIT_MPS, 5, 1.0)
        two.play(FIRST, 1, emergencies=(ambulance,), vehicles=at(5, *metres))
        if begun(two):
            break
    assert begun(two)[0][1:] == ("K", "amb")
    # those behind it do not count, and no more than fifty do
    before = min(sum(m < seconds * LIMIT_MPS for m in metres), 50)
    needed_s = 3.0 + (2.0 + 2.0 * before if before else 0.0) + 5.0
    assert eta_s == pytest.approx(max(25.0, needed_s), abs=1.0)
    assert eta_s == pytest.approx(seconds, abs=1.0)
    event = two.reported("emergency")[0][3]
    assert event["vehicles_before"] == before
    assert event["needed_s"] == pytest.approx(needed_s - 5.0)


def test_a_later_junction_begins_when_it_can_be_reached():
    way = EmergencyVehicle("amb", LIMIT_MPS, ((0, 139.0), (5, 139.0 + 29.0 * LIMIT_MPS)))
    two = Two().play(FIRST, 12, emergencies=(way,))
    assert [e[1] for e in begun(two)] == ["J"], "39 s away"
    near = EmergencyVehicle("amb", LIMIT_MPS, ((0, 1.0), (5, 1.0 + 24.0 * LIMIT_MPS)))
    two = Two().play(FIRST, 12, emergencies=(near,))
    assert [e[1] for e in begun(two)] == ["J", "K"]
    # held up by a queue at the first, it comes later to the second
    queue = at(0, *[0.5 + 0.01 * i for i in range(20)])
    stuck = EmergencyVehicle("amb", LIMIT_MPS, ((0, 10.0), (5, 10.0 + 10.0 * LIMIT_MPS)))
    two = Two().play(SECOND, 12, emergencies=(stuck,), vehicles=queue)
    assert [e[1] for e in begun(two)] == ["J"]


# which stage


def with_stages(*rows):
    made = crossroads()
    return replace(made, junctions=(replace(made.junctions[0], stages=np.array(rows, np.int8)),))


@pytest.mark.parametrize(
    ("rows", "shown", "group", "served"),
    [
        # both serve group 2: the one that keeps what is shown
        ([[R, G, G, R], [G, R, G, R]], [G, R, R, R], 2, 1),
        ([[G, R, G, R], [R, G, G, R]], [R, G, R, R], 2, 1),
        # protected where it was permissive, with the rest of the stage as it is
        ([[G, R, P, R], [R, G, G, R]], [G, R, R, R], 2, 0),
    ],
)
def test_it_takes_the_stage_that_protects_it_and_then_the_one_that_keeps_most(
    rows, shown, group, served
):
    two = Two(with_stages(*rows)).play(shown, 12)
    assert two.shown[-1] == shown
    drive(two, 12, lambda _: [one("fire", 50.0, group)], shown)
    assert two.shown[-1][group] == G
    assert two.shown[-1][:2] == rows[served][:2]


def test_a_group_that_the_programme_never_serves_changes_nothing():
    network = with_stages([G, R, G, R], [R, G, G, R])
    two = Two(network).play([G, R, G, R], 12)
    drive(two, 12, lambda _: [one("fire", 50.0, 3)], [G, R, G, R])
    assert two.shown[-1] == [G, R, G, R]
    assert begun(two) == []


def test_a_source_that_knows_the_lane_alone_gets_all_that_it_may_take():
    two = Two().play(FIRST, 12)
    either = EmergencyVehicle("amb", 10.0, ((2, 50.0), (3, 50.0)))
    drive(two, 12, lambda _: [either])
    assert two.shown[-1][2] == G
    nearer = EmergencyVehicle("amb", 10.0, ((0, 80.0), (1, 50.0)))
    drive(two, 12, lambda _: [nearer])
    assert two.shown[-1][:2] == [R, G], "the nearer of two places at one junction"


def test_of_stages_that_serve_it_alike_the_present_one_stays_and_else_most_vehicles_count():
    clearing = Clearing(with_stages([G, R, G, R], [R, G, G, R], [R, R, G, G]))

    def best(present, demand):
        stage = clearing.best(
            junction=0,
            queue=[2],
            also=[],
            shown=np.full(4, R, np.int8),
            present=present,
            demand=np.array(demand, np.int32),
        )
        return clearing.colours(0, stage).tolist()

    assert best(NO_STAGE, [1, 2, 0, 0]) == [R, G, G, R]
    assert best(NO_STAGE, [2, 1, 0, 0])[:3] == [G, R, G]
    assert best(2, [2, 1, 0, 0]) == [R, R, G, G]


def test_a_queue_of_which_one_has_to_give_way_goes_before_one_of_which_fewer_go():
    """First who turns left (3), then it (0): both go in the first stage, where 3 gives way; 3 alone
    goes in the third, protected.
    """
    clearing = Clearing(crossroads())
    nobody = np.zeros(4, np.int32)
    for queue, colours in (([3, 0], [G, R, G, P]), ([3], [R, R, G, G]), ([1, 3], [R, G, G, R])):
        stage = clearing.best(0, queue, [], np.full(4, R, np.int8), NO_STAGE, nobody)
        assert clearing.colours(0, stage).tolist() == colours


def test_what_is_needed_counts_the_minimum_green_of_what_is_green_now():
    """5 s of minimum green, of which 3 are over, and 3 s of yellow; a second later 1 s less."""
    two = Two().play(FIRST, 6)  # the first 3 s are a yellow before the start
    two.play(FIRST, 1, emergencies=(one("x", 100.0, 5),))
    assert two.reported("emergency")[0][3]["needed_s"] == 5.0
    later = Two().play(FIRST, 7).play(FIRST, 1, emergencies=(one("x", 100.0, 5),))
    assert later.reported("emergency")[0][3]["needed_s"] == 4.0


def test_what_is_needed_and_the_time_of_arrival_are_told_to_a_hundredth():
    two = Two(profile=replace(STREET, red_clearance_s=1.23456)).play(FIRST, 30)
    two.play(FIRST, 1, emergencies=(one("x", 200.0, 5),))
    (event,) = two.reported("emergency")
    # yellow of 3.3 s and clearance; 200 m at 13.9 m/s
    assert (event[3]["needed_s"], event[3]["eta_s"]) == (4.53, 14.39)


# turns and bounds


def test_it_is_reported_with_its_time_of_arrival_and_when_it_has_passed():
    two = Two().play(FIRST, 10)
    two.play(FIRST, 6, emergencies=(EmergencyVehicle("fire", 20.0, ((5, 100.0), (1, 500.0))),))
    two.play(FIRST, 10)
    data = {"vehicle": "fire", "needed_s": 3.0, "vehicles_before": 0}
    assert two.reported("emergency", "emergency_ended") == [
        (10.0, "emergency", "K", data | {"group": 5, "eta_s": 5.0}),
        (10.0, "emergency", "J", data | {"group": 1, "eta_s": 25.0}),
        (16.0, "emergency_ended", "K", {"vehicle": "fire"}),
        (16.0, "emergency_ended", "J", {"vehicle": "fire"}),
    ]
    assert two.shown[13] == SECOND  # both within three seconds of yellow
    assert two.shown[-1] == FIRST


def test_without_an_observation_no_emergency_begins_or_ends():
    two = Two().play(FIRST, 10, emergencies=(one("fire", 70.0, 5),)).play(FIRST, 5, blind=True)
    assert (len(begun(two)), len(ended(two))) == (1, 0)
    two.play(FIRST, 1)
    assert len(ended(two)) == 1


def turned_away(emergency):
    """Group 0 has been green for 12 s, and its conflict for 10 s: 25 s after its start of green,
    a fire engine comes for it, or an ordinary vehicle. (starts of group 0, the history, the gate)
    """
    two = Two(profile=STREET).play(FIRST, 12).play(SECOND, 16)
    fleet = coming("fire", 150.0, 0) if emergency else lambda _: []
    drive(two, 30, fleet, wanted=SECOND if emergency else FIRST)
    green = [shown[0] >= P for shown in two.shown]
    starts = [k for k in range(1, len(green)) if green[k] and not green[k - 1]]
    return [0] * green[0] + starts, two


def test_an_emergency_vehicle_does_not_wait_for_the_minimum_cycle():
    """It waits for all that protects others: minimum green, yellow and red clearance."""
    starts, two = turned_away(emergency=True)
    timing = two.timing
    assert begun(two)[0] == (28.0, "J", "fire")
    # the conflict began its green when group 0 was cleared: its minimum was over by 28
    others = [shown[1] >= P for shown in two.shown]
    end = next(k for k in range(28, 60) if not others[k])
    began = others.index(True)
    assert end == max(28, began + math.ceil(timing.min_green_s[1]))
    cleared = end + timing.yellow_s[1] + timing.clearance_s[1]
    assert starts == [starts[0], math.ceil(cleared - 1e-6)]
    assert starts[1] - starts[0] < STREET.min_cycle_s - 1.0
    history = [(float(k), shown) for k, shown in enumerate(two.shown)]
    by_second = [[e for e in two.events if e.at_s == 1000.0 + k] for k in range(len(history))]
    assert broken_rules(two.network, timing, history, services(by_second)) == []
    assert broken_rules(two.network, timing, history) != []


def test_an_ordinary_vehicle_waits_for_the_minimum_cycle():
    starts, two = turned_away(emergency=False)
    assert starts[1] - starts[0] == STREET.min_cycle_s
    assert two.reported("minimum_cycle")


def test_the_minimum_cycle_holds_again_when_the_emergency_vehicle_has_passed():
    two = Two(profile=STREET).play(FIRST, 12).play(SECOND, 16)
    drive(two, 18, coming("fire", 150.0, 0), wanted=SECOND)
    assert ended(two) == [(43.0, "J", "fire")]
    two.play(SECOND, 60)
    others = [shown[1] >= P for shown in two.shown]
    starts = [k for k in range(1, len(others)) if others[k] and not others[k - 1]]
    assert len(starts) == 2
    assert starts[1] - starts[0] >= STREET.min_cycle_s


def test_what_is_needed_does_not_count_the_minimum_cycle():
    """Group 0 was green 3 s ago: what is green now has 10 s of minimum green."""
    two = Two(profile=STREET).play(FIRST, 12).play(SECOND, 16)
    drive(two, 1, lambda _: [one("fire", 200.0, 0)], wanted=SECOND)
    needed_s = two.reported("emergency")[0][3]["needed_s"]
    others = [shown[1] >= P for shown in two.shown]
    left_s = two.timing.min_green_s[1] - (28 - others.index(True))
    change_s = two.timing.yellow_s[1] + two.timing.clearance_s[1]
    assert needed_s == pytest.approx(max(left_s, 0.0) + change_s, abs=0.01)


def test_two_at_once_are_served_in_turn():
    def fleet(second):
        first = [one("a", 100.0 - 10.0 * second, 4)] if second < 10 else []
        return [*first, one("b", max(150.0 - 10.0 * second, 8.0), 5)] if second < 30 else first

    two = drive(Two().play(SECOND, 12), 40, fleet, SECOND)
    assert begun(two) == [(12.0, "K", "a"), (22.0, "K", "b")]
    assert ended(two) == [(22.0, "K", "a"), (42.0, "K", "b")]
    assert two.shown[12 + 9][4:] == [G, R]
    assert two.shown[12 + 28][4:] == [R, G]


def test_the_one_being_served_is_not_put_back_for_another_of_nearly_the_same_time():
    def rivals(metres):
        return [one("b", 100.0, 4, 20.0), one("c", metres, 5, 20.0)]

    for metres, served in ((42.0, "b"), (38.0, "c")):
        two = drive(Two().play(FIRST, 12), 1, lambda _: [one("b", 100.0, 4, 20.0)])
        drive(two, 1, lambda _, m=metres: rivals(m))
        assert begun(two)[-1][2] == served


def test_a_stage_for_both_is_shown_where_there_is_one():
    two = Two().play(SECOND, 12)
    drive(two, 12, lambda _: [one("a", 50.0, 2), one("b", 60.0, 0)], SECOND)
    assert two.shown[-1][:3] == [G, R, G]


def test_a_stalled_one_does_not_bar_the_next_and_claims_again_when_it_moves():
    def fleet(second):
        stalled_m = 40.0 if second < 80 else 30.0
        return [one("stalled", stalled_m, 4), *([one("b", 60.0, 5)] if 60 <= second < 70 else [])]

    two = drive(Two().play(SECOND, 12), 90, fleet, SECOND)
    assert begun(two) == [(12.0, "K", "stalled"), (72.0, "K", "b"), (92.0, "K", "stalled")]
    # 3 s of yellow, then 40 s of green in which it did not move
    barred = two.reported("emergency_barred")
    assert barred == [(56.0, "emergency_barred", "K", {"vehicle": "stalled", "reason": "stalled"})]
    assert two.shown[12 + 68][4:] == [R, G]


def test_the_time_in_which_another_was_served_does_not_count_as_stalled():
    """It has stood for 20 s of its service, and for 20 more after the other one has gone."""
    stands = one("stands", 100.0, 0)
    two = Two().play(FIRST, 12)
    drive(two, 20, lambda _: [stands])
    drive(two, 30, lambda s: [stands, one("other", 34.0 - s, 2)])
    drive(two, 30, lambda _: [stands])
    barred = two.reported("emergency_barred")
    assert [(e[0], e[3]) for e in barred] == [(83.0, {"vehicle": "stands", "reason": "stalled"})]


@pytest.mark.parametrize(("metres", "again"), [(45.1, False), (44.9, True)])
def test_one_that_has_stalled_claims_again_five_metres_on(metres, again):
    two = drive(Two().play(FIRST, 12), 45, lambda _: [one("amb", 50.0, 0)])
    assert len(two.reported("emergency_barred")) == 1
    drive(two, 3, lambda _: [one("amb", metres, 0)])
    assert len(begun(two)) == 1 + again


def test_each_has_a_bound_even_if_it_creeps_on():
    two = Two().play(SECOND, 12)
    drive(two, 200, lambda second: [one("slow", 300.0 - 0.2 * second, 4)], SECOND)
    barred = two.reported("emergency_barred")
    assert [(e[0], e[3]["reason"]) for e in barred] == [(133.0, "too_long")]
    assert begun(two) == [(12.0, "K", "slow"), (193.0, "K", "slow")], "60 s for the others"


@pytest.mark.parametrize("timing", [BENCHMARK, STREET])
@pytest.mark.parametrize("places", [(50.0,), (30.0, 50.0, 70.0), (30.0, 41.0, 52.0, 63.0, 74.0)])
def test_phantoms_that_change_names_and_places_do_not_keep_others_red_for_ever(timing, places):
    """The maximum red and one longest service; then the group has its minimum green."""
    two = Two(profile=timing).play(FIRST, 12)
    limit = int(timing.max_red_s) + 120
    fleet = [one(f"phantom {s}", places[s % len(places)], 4) for s in range(2 * limit)]
    drive(two, 2 * limit, lambda s: [fleet[s]], links=(4, 5))
    reds, longest = 0, 0
    for shown in two.shown[12:]:
        reds = 0 if shown[5] >= P else reds + 1
        longest = max(longest, reds)
    assert longest <= limit + 15


def test_a_group_that_no_stage_can_serve_stands_over_no_emergency():
    """Group 3 waits for ever; the others starve no earlier for it: a whole service is 120 s, of
    which group 1 is green but for the change.
    """
    network = with_stages([G, R, G, R], [R, G, G, R])
    two = Two(network, STREET).play([G, R, G, R], 400, links=(0, 1, 3))
    drive(two, 120, lambda s: [one("slow", 300.0 - 0.2 * s, 1)], [G, R, G, R], links=(0, 1, 3))
    green = [shown[1] >= P for shown in two.shown[400:]]
    assert green.index(True) <= 20
    assert all(green[green.index(True) :])


@pytest.mark.parametrize("order", [Order.FLASH, Order.HOLD])
def test_a_flash_stands_over_it_and_it_stands_over_a_hold(order):
    two = Two().play(FIRST, 12)
    two.gate.order(Override(1, order, 1100.0, "ann"), two.now)
    drive(two, 12, lambda _: [one("fire", 50.0, 5), one("fire", 50.0, 1)])
    assert two.shown[-1] == [*SECOND[:4], *([FY, FR] if order is Order.FLASH else SECOND[4:])]


def test_it_is_served_until_it_has_left_the_junction():
    """Inside it waits for a gap in what crosses it: that stays red until it has gone."""
    inside = at(5, -4.0, emergency=True)
    two = drive(Two().play(FIRST, 12), 7, coming("amb", 70.0, 5))
    drive(two, 10, lambda _: [], vehicles=inside)
    assert ended(two) == []
    assert two.shown[-1][4:] == [R, G]
    other = at(1, -4.0, emergency=True)  # at another junction
    drive(two, 1, lambda _: [], vehicles=other)
    assert ended(two) == [(29.0, "K", "amb")]
    drive(two, 5, lambda _: [], vehicles=inside)
    assert len(begun(two)) == 1, "nobody begins inside"


def test_one_that_waits_inside_for_ever_loses_its_claim():
    inside = at(5, -4.0, emergency=True)
    two = drive(Two().play(FIRST, 12), 7, coming("amb", 70.0, 5))
    drive(two, 60, lambda _: [], vehicles=inside)
    assert [e[3]["reason"] for e in two.reported("emergency_barred")] == ["stalled"]
    assert two.shown[-1] == FIRST


def test_a_service_that_has_begun_is_not_ended_by_a_later_time_of_arrival():
    two = drive(Two().play(FIRST, 12), 2, lambda _: [one("amb", 24.0 * LIMIT_MPS, 5)])
    drive(two, 5, lambda _: [one("amb", 28.0 * LIMIT_MPS, 5)])
    assert (len(begun(two)), ended(two)) == (1, [])
    drive(two, 1, lambda _: [one("amb", 119.9 * LIMIT_MPS, 5)])
    assert ended(two) == []
    drive(two, 1, lambda _: [one("amb", 120.1 * LIMIT_MPS, 5)])
    assert len(ended(two)) == 1


def test_none_begins_earlier_than_two_minutes_before_it_arrives():
    """Though what is green now has a minimum green of 130 s."""
    two = Two(profile=replace(BENCHMARK, min_green_s=130.0, max_green_s=140.0)).play(FIRST, 12)
    for eta_s in (121.0, 120.5, 120.1, 119.9):
        assert begun(two) == []
        two.play(FIRST, 1, emergencies=(one("amb", eta_s * LIMIT_MPS, 5, 1.0),))
    assert begun(two) == [(15.0, "K", "amb")]


def test_signals_that_do_not_obey_stay_red_for_it_too():
    two = Two().play(FIRST, 12)
    lying = np.full(6, G, np.int8)
    drive(two, 12, lambda _: [one("amb", 70.0, 5)], shown=lying)
    assert two.shown[-1] == [R] * 6


# what cannot be


@pytest.mark.parametrize("speed", [0.0, -3.0, np.nan, np.inf, -np.inf, 1e300, LIMIT_MPS])
def test_any_speed_gives_a_plausible_time_of_arrival(speed):
    two = Two().play(FIRST, 2, emergencies=(one("x", 25.0 * LIMIT_MPS, 5, speed),))
    assert two.reported("emergency")[0][3]["eta_s"] == (8.69 if speed == 1e300 else 25.0)


def test_on_a_slow_street_it_is_taken_to_come_at_eight_metres_a_second():
    made = pair()
    network = replace(made, lanes=tuple(replace(lane, speed_mps=5.0) for lane in made.lanes))
    two = Two(network).play(FIRST, 2, emergencies=(one("x", 100.0, 5, 3.0),))
    assert two.reported("emergency")[0][3]["eta_s"] == 12.5


def test_unknown_groups_and_places_are_left_out_and_the_others_are_not():
    nonsense = ((6, 10.0), (-1, 10.0), (10**9, 1.0), (0, np.nan), (1, np.inf), (5, 50.0))
    two = Two().play(FIRST, 12, emergencies=(EmergencyVehicle("x", 10.0, nonsense),))
    assert [(e[1], e[2]) for e in begun(two)] == [("K", "x")]
    two = Two().play(FIRST, 12, emergencies=(one("x", -5.0, 5),))
    assert two.shown[-1][4:] == [R, G]


def test_rows_before_it_that_name_no_link_take_up_room_and_ask_for_nothing():
    rows = replace(
        at(5, 5.0, 6.0, 7.0, 8.0),
        link=np.array([-1, 99, 2, 5], np.int32),
        distance_m=np.array([5.0, 6.0, 7.0, np.nan]),
    )
    two = Two().play(FIRST, 12, emergencies=(one("x", 50.0, 5),), vehicles=rows)
    assert two.reported("emergency")[0][3]["vehicles_before"] == 3
    assert two.shown[-1] == [*FIRST[:4], R, G]


def test_where_links_are_not_known_all_ways_of_the_lane_are_opened():
    network = shared()
    guessed = at(2, 5.0, network=network)  # it is taken to go straight on
    for known, serves in ((True, R), (False, G)):
        two = Two(network).play(SECOND, 12)
        drive(two, 12, coming("amb", 130.0, 2), SECOND, vehicles=guessed, links_known=known)
        assert two.shown[-1][3] == serves


def test_of_a_flood_of_claims_the_nearest_are_looked_at():
    flood = [one(f"x{i}", 100.0 + 0.001 * i, 4) for i in range(10_000)]
    two = drive(Two().play(SECOND, 12), 8, lambda _: [*flood, one("near", 60.0, 5)], SECOND)
    assert begun(two) == [(12.0, "K", "near")]
    assert len(two.gate.state()["priority"].bars) <= 8


# afterwards


@pytest.mark.parametrize(("before", "given_back"), [(26, True), (25, False)])
def test_the_group_that_has_waited_longest_is_served_first_if_it_has_waited_long(
    before, given_back
):
    """45 s: those before the service, and the 19 s until it has passed."""
    two = Two(with_stages([G, R, G, R], [R, G, G, R], [R, R, G, G]))
    stay = [G, R, G, R]
    two.play(stay, before, links=(1,))  # 1 asks from the start, 3 later
    drive(two, 20, coming("amb", 190.0, 0), stay, links=(1, 3))
    passed = len(two.shown) - 1
    two.play(stay, 12, links=(1, 3))
    green = [i for i, shown in enumerate(two.shown) if shown[1] >= P]
    if not given_back:
        assert green == []
        return
    assert green[0] == passed + 3, "after the yellow, which begins when it has passed"
    assert len(green) == 5, "its minimum green, though the controller wants another stage"
    assert all(shown[3] == R for shown in two.shown)


def test_the_next_vehicle_goes_before_the_group_that_has_waited_longest():
    """It comes when the first has just passed, on the same way: that stays green."""
    two = Two(with_stages([G, R, G, R], [R, G, G, R], [R, R, G, G]))
    stay = [G, R, G, R]
    two.play(stay, 26, links=(1,))
    first = coming("amb", 190.0, 0)
    drive(two, 35, lambda s: first(s) or [one("next", 60.0 - s, 0)], stay, links=(1, 3))
    assert ended(two) == [(45.0, "J", "amb")]
    assert two.shown[26:] == [stay] * 35


def test_nobody_waits_and_the_controller_decides_at_once():
    two = drive(Two().play(FIRST, 12), 8, coming("amb", 50.0, 5))
    two.play(FIRST, 8)
    assert two.shown[-1] == FIRST


def test_an_order_of_an_operator_stands_over_the_return():
    two = Two(with_stages([G, R, G, R], [R, G, G, R])).play([G, R, G, R], 60, links=(1,))
    two.order(0, Order.STAGE, 1100.0, "ann", 0)
    drive(two, 25, coming("amb", 90.0, 0), [G, R, G, R], links=(1,))
    assert all(shown[0] == G for shown in two.shown[12:])


def test_a_restored_gate_goes_on_with_what_is_served_barred_and_given_back():
    def fleet(second):
        return [one("stalled", 40.0, 4), one("b", 300.0 - 10.0 * (second % 29), 0)]

    for seconds in (5, 50, 61, 75):
        two = drive(Two().play(SECOND, 42, links=(1, 5)), seconds, fleet, SECOND, links=(1, 5))
        state = pickle.loads(pickle.dumps(two.gate.state()))
        heir = Two()
        heir.gate.resume(state)
        heir.now = two.now
        known = len(two.events)
        shown = len(two.shown)
        for gate in (two, heir):
            drive(gate, 60, fleet, SECOND, links=(1, 5))
        assert heir.shown == two.shown[shown:]
        assert [(e.at_s, e.kind) for e in heir.events] == [
            (e.at_s, e.kind) for e in two.events[known:]
        ]


def test_a_checkpoint_of_before_is_resumed_without_services():
    two = drive(Two().play(FIRST, 12), 3, lambda _: [one("fire", 50.0, 5)])
    state = two.gate.state()
    del state["priority"]
    heir = Two()
    heir.gate.resume(state)
    assert not heir.gate.state()["priority"].services


# one that stalls, flickers, or is called otherwise


def flickering(second, every=7):
    """A vehicle that stands 40 m before K, and that its source loses for a second now and then."""
    return [] if second % every == every - 1 else [one("stalled", 40.0, 4)]


def green_s(two, group, seconds):
    return sum(shown[group] >= P for shown in two.shown[-seconds:])


def test_a_stalled_one_that_flickers_does_not_bar_the_next():
    """What it was given counts on while it is out of sight for a moment."""
    two = drive(Two().play(SECOND, 12), 150, flickering, SECOND)
    # whenever it is out of sight its green ends: it stalls only after 40 s of green in all
    assert len(two.reported("emergency_barred")) == 1
    drive(two, 60, lambda s: [*flickering(s), one("b", 60.0, 5)], SECOND)
    assert green_s(two, 5, 50) == 50


@pytest.mark.parametrize("lost_s", [2, 5, 9])
def test_the_bound_of_a_service_holds_for_one_that_is_lost_for_some_seconds_again_and_again(lost_s):
    """Also while the source tells of others elsewhere."""

    def fleet(second):
        stalled = [] if second % 30 >= 30 - lost_s else [one("stalled", 40.0, 4)]
        return [*stalled, one("elsewhere", 900.0, 0)]

    two = drive(Two().play(SECOND, 12), 200, fleet, SECOND)
    barred = [(e[3]["vehicle"], e[3]["reason"]) for e in two.reported("emergency_barred")]
    assert barred == [("stalled", "too_long")]


def test_a_stalled_one_that_is_renamed_does_not_bar_the_next():
    two = drive(Two().play(SECOND, 12), 100, lambda s: [one(f"seen {s}", 40.0, 4)], SECOND)
    assert [e[3]["reason"] for e in two.reported("emergency_barred")] == ["stalled"]
    drive(two, 40, lambda s: [one(f"seen {100 + s}", 40.0, 4), one("b", 60.0, 5)], SECOND)
    assert green_s(two, 5, 30) == 30
    # one that is somewhere else is another one
    drive(two, 20, lambda s: [one("c", 80.0, 4)], SECOND)
    assert green_s(two, 4, 10) == 10


def test_the_bound_of_a_service_holds_for_one_that_flickers_while_it_creeps_on():
    two = Two().play(SECOND, 12)
    fleet = [one("slow", 300.0, 4)]
    for second in range(200):
        fleet = [] if second % 9 == 8 else [one("slow", 300.0 - 0.2 * second, 4)]
        two.play(SECOND, 1, emergencies=tuple(fleet))
    assert [e[3]["reason"] for e in two.reported("emergency_barred")] == ["too_long"]
    (barred,) = two.reported("emergency_barred")
    assert 132.0 < barred[0] <= 132.0 + 200 / 9, "120 s of service, and what it was out of sight"


def test_one_that_stalls_inside_the_junction_does_not_take_the_name_of_the_next():
    """It has passed the stop line and stays there: the next one's service ends when it passes."""
    inside = at(4, -4.0, emergency=True)
    two = drive(Two().play(SECOND, 12), 6, coming("a", 55.0, 4), SECOND)
    drive(two, 60, lambda _: [], SECOND, vehicles=inside)
    assert [e[3]["reason"] for e in two.reported("emergency_barred")] == ["stalled"]
    drive(two, 8, coming("b", 75.0, 5), SECOND, vehicles=inside)
    drive(two, 2, lambda _: [], SECOND, vehicles=inside)
    assert [e[2] for e in ended(two)] == ["a", "b"] or [e[2] for e in ended(two)][-1] == "b"
    assert ended(two)[-1][0] <= two.now - 1000.0


def test_one_that_stands_at_its_line_claims_again_after_a_rest():
    """It cannot come nearer, and what blocked it may have gone."""
    two = drive(Two().play(SECOND, 12), 160, lambda _: [one("stuck", 3.0, 4)], SECOND)
    assert [e[0] for e in begun(two)] == [12.0, 116.0]
    assert [e[0] for e in two.reported("emergency_barred")] == [56.0, 160.0]


def test_one_that_has_come_nearer_is_free_of_its_bar_wherever_it_goes_then():
    way = [40.0] * 50 + [30.0] * 5 + [200.0] * 20
    two = drive(Two().play(SECOND, 12), len(way), lambda s: [one("a", way[s], 4)], SECOND)
    assert begun(two)[-1][0] == 62.0
    assert two.shown[-1][4:] == [G, R], "served at 200 m, though it stalled at 40 m before"


def test_a_flood_of_nearer_claims_lifts_no_bar():
    two = drive(Two().play(SECOND, 12), 60, lambda _: [one("stalled", 40.0, 4)], SECOND)
    flood = [one(f"x{i}", 2000.0 + i, 5) for i in range(20)]
    near = [one(f"y{i}", 20.0 + 0.001 * i, 5) for i in range(20)]
    drive(two, 20, lambda _: [one("stalled", 40.0, 4), *flood, *near], SECOND)
    drive(two, 20, lambda _: [one("stalled", 40.0, 4), *flood], SECOND)
    assert [e[2] for e in begun(two) if e[2] == "stalled"] == ["stalled"]


def test_a_flood_of_nearer_claims_ends_no_service_and_lets_no_bar_be_forgotten():
    """a is served, and the others would arrive hardly earlier. Later it is barred, and the flood
    lasts longer than the minute after which who is away is forgotten.
    """
    a, flood = one("a", 60.0, 4), [one(f"y{i}", 59.9, 5) for i in range(20)]
    two = drive(Two().play(SECOND, 12), 5, lambda _: [a], SECOND)
    drive(two, 20, lambda _: [*flood, a], SECOND)
    assert (begun(two), ended(two)) == ([(12.0, "K", "a")], [])
    drive(two, 30, lambda _: [a], SECOND)
    assert [e[3]["vehicle"] for e in two.reported("emergency_barred")] == ["a"]
    drive(two, 70, lambda _: [*flood, a], SECOND)
    drive(two, 10, lambda _: [a], SECOND)
    assert [e[2] for e in begun(two)].count("a") == 1


def test_one_that_comes_once_more_has_its_time_to_come_nearer():
    """From 40 m it went back to 200 m, and comes at 3 m/s: after 52 s it is nearer."""
    way = [40.0] * 10 + [200.0 - 3.0 * s for s in range(50)]
    two = drive(Two().play(SECOND, 12), len(way), lambda s: [one("a", way[s], 4, 3.0)], SECOND)
    assert (len(begun(two)), two.reported("emergency_barred")) == (1, [])


def test_one_that_is_renamed_beside_one_that_is_known_is_recognised():
    two = Two().play(SECOND, 12)
    drive(two, 20, lambda s: [one("b", 90.0, 5), one(f"seen {s}", 40.0, 4)], SECOND)
    assert begun(two) == [(12.0, "K", "seen 0")]


def test_one_that_is_renamed_near_its_line_is_the_same_while_it_cannot_have_passed():
    """At 1 m/s it needs 9 s to be 5 m beyond its line."""
    two = Two().play(SECOND, 12)
    drive(two, 3, lambda s: [one(f"seen {s}", 4.0 - s, 4, 1.0)], SECOND)
    assert (begun(two), ended(two)) == ([(12.0, "K", "seen 0")], [])


def test_the_time_in_which_it_is_not_served_does_not_count_against_it():
    """Out of sight for 50 s of its 120 s."""

    def fleet(s):
        return [] if 80 <= s < 130 else [one("slow", 300.0 - 0.2 * s, 4)]

    two = drive(Two().play(SECOND, 12), 190, fleet, SECOND)
    assert [e[0] for e in two.reported("emergency_barred")] == [133.0 + 50.0]


@pytest.mark.parametrize(("away", "begins"), [(50, 1), (70, 2)])
def test_who_has_been_away_for_a_minute_is_forgotten(away, begins):
    two = drive(Two().play(SECOND, 12), 60, lambda _: [one("stalled", 40.0, 4)], SECOND)
    drive(two, away, lambda _: [], SECOND)
    drive(two, 5, lambda _: [one("stalled", 40.0, 4)], SECOND)
    assert len(begun(two)) == begins


# one after the other near the stop line


@pytest.mark.parametrize("name", [lambda k: f"amb {k}", lambda k: "1"])
def test_those_that_are_first_seen_near_their_stop_line_are_each_another_one(name):
    """A receiver at the stop line hears each from its stop on: it waits for the green, drives off
    and has passed after 7 s. One comes every 15 s; some have no names to tell.
    """
    way = [(4.0, 0.0)] * 5 + [(3.0, 2.0), (0.5, 4.0)]

    def fleet(second):
        seen = way[second % 15 : second % 15 + 1]
        return [one(name(second // 15), metres, 4, mps) for metres, mps in seen]

    two = drive(Two().play(SECOND, 12), 900, fleet, SECOND)
    assert two.reported("emergency_barred") == []
    assert [e[0] for e in begun(two)] == [12.0 + 15.0 * k for k in range(60)]


def test_one_that_stalls_at_its_line_and_is_renamed_does_not_start_anew():
    """It does not move, and is out of sight for every tenth second."""

    def fleet(second):
        return [] if second % 10 == 9 else [one(f"seen {second // 10}", 4.0, 4, 0.0)]

    two = drive(Two().play(SECOND, 12), 150, fleet, SECOND)
    ((at_s, _, _, data),) = two.reported("emergency_barred")
    assert (data["reason"], at_s) == ("too_long", pytest.approx(12.0 + 120.0 / 0.9, abs=2.0))


def test_one_that_is_renamed_beside_a_stalled_one_does_not_take_its_bar():
    """a stalls at 40 m and is lost; b stands at 46 m, and is called c then."""
    stalled, b, c = (one(*who, 4, 0.0) for who in (("a", 40.0), ("b", 46.0), ("c", 44.5)))
    two = drive(Two().play(SECOND, 12), 60, lambda _: [stalled], SECOND)
    drive(two, 20, lambda s: [b if s < 10 else c], SECOND)
    assert [e[3]["vehicle"] for e in two.reported("emergency_barred")] == ["a"]
    assert two.shown[-1][4:] == [G, R]


def test_one_that_moved_on_while_another_was_served_is_not_taken_for_the_next_there():
    """a creeps from 80 m to 60 m for 100 s and drives on while b is served; c comes to where a was
    then, creeps too, and has 120 s of its own.
    """

    def fleet(s):
        a = [one("a", 80.0 - 0.2 * s if s < 100 else 60.0 - 6.0 * (s - 100), 4, 0.2)]
        b = [one("b", 12.0 - 0.4 * (s - 100), 5, 1.0)]
        c = [one("c", 60.0 - 0.2 * (s - 130), 4, 0.2)]
        return a * (s < 110) + b * (100 <= s < 125) + c * (s >= 130)

    two = drive(Two().play(SECOND, 12), 280, fleet, SECOND)
    assert [e[2] for e in begun(two)] == ["a", "b", "c"]
    ((at_s, _, _, data),) = two.reported("emergency_barred")
    assert (data["vehicle"], data["reason"], at_s) == ("c", "too_long", 12.0 + 130.0 + 121.0)


# where nobody can be served


def test_at_a_junction_that_flashes_no_service_begins_and_the_event_says_why():
    two = Two().play(FIRST, 12)
    two.gate.order(Override(1, Order.FLASH, 1062.0, "ann"), two.now)
    drive(two, 50, lambda _: [one("fire", 50.0, 5)])
    assert begun(two) == []
    assert two.reported("emergency_unserved") == [
        (12.0, "emergency_unserved", "K", {"vehicle": "fire", "reason": "flash"})
    ]
    drive(two, 20, lambda _: [one("fire", 50.0, 5)])
    assert begun(two) == [(62.0, "K", "fire")], "as soon as the order is over"


def test_a_service_ends_where_an_order_to_flash_takes_its_junction():
    two = drive(Two().play(FIRST, 12), 10, lambda _: [one("fire", 50.0, 5)])
    two.gate.order(Override(1, Order.FLASH, 1200.0, "ann"), two.now)
    drive(two, 178, lambda _: [one("fire", 50.0, 5)])
    (end,) = two.reported("emergency_ended")
    assert end == (22.0, "emergency_ended", "K", {"vehicle": "fire", "reason": "flash"})
    drive(two, 30, lambda _: [one("fire", 50.0, 5)])
    assert begun(two)[-1][0] == 200.0
    assert two.reported("emergency_barred") == [], "the time of the flash does not count"
    assert two.shown[-1][4:] == [R, G]


def test_at_a_junction_that_is_latched_red_nobody_is_said_to_be_served():
    two = Two().play(FIRST, 12)
    lying = np.array([*FIRST[:4], R, G], np.int8)
    for second in range(20):
        claims = (one(f"amb {second}", 50.0, 5), one("fire", 50.0, 1))
        lying[:4] = two.gate.shown[:4]
        two.play(FIRST, 1, shown=lying.copy(), emergencies=claims)
    latched = two.reported("lamps")[0][0]
    assert [(e[1], e[2]) for e in begun(two)] == [("K", "amb 0"), ("J", "fire")]
    ((at_s, _, _, data),) = two.reported("emergency_ended")
    assert (at_s, data["reason"], data["began_as"]) == (latched, "lamps", "amb 0")
    told = [e[0] for e in two.reported("emergency_unserved")]
    assert told == [latched, latched + 10.0], "other names at each tick, one event in 10 s"
    assert two.shown[-1][:2] == [R, G], "the other junction serves on"


def test_one_that_is_renamed_ends_with_the_name_that_it_began_as():
    two = drive(Two().play(SECOND, 12), 5, lambda s: [one(f"seen {s}", 40.0, 4)], SECOND)
    drive(two, 1, lambda _: [], SECOND)
    assert begun(two) == [(12.0, "K", "seen 0")]
    (end,) = two.reported("emergency_ended")
    assert end[3] == {"vehicle": "seen 4", "began_as": "seen 0"}
    drive(two, 3, coming("b", 25.0, 5), SECOND)
    drive(two, 1, lambda _: [], SECOND)
    assert two.reported("emergency_ended")[-1][3] == {"vehicle": "b"}
