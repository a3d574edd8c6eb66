"""A junction whose groups fall into parts: where it is cut, and that each part is decided as a
junction of its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.control.builders import (
    colours,
    junction,
    letters,
    network,
    observed,
    pair,
    scenes,
    timing,
)

from headway.control.parts import NumberedStages, parts_of
from headway.control.planner import Planner
from headway.control.predict import Predictor, SeenJunction, SeenVehicle
from headway.control.stages import StageTable
from headway.plants.sumo import network_of
from headway.plants.sumo.scenarios import RESCO, scenario

ONE_CROSSING = [(0, 1), (0, 2), (1, 2)]
TWO_CROSSING = [(3, 4)]


def joined():
    """The two junctions of `pair` as one programme of three stages."""
    apart = pair()
    stages = ["GrrGr", "rGrrG", "rrGGr"]
    return network(
        [(x.id, x.length_m, x.speed_mps) for x in apart.lanes],
        [
            (
                apart.lanes[x.from_lane].id,
                apart.lanes[x.to_lane].id,
                x.group,
                x.direction,
                x.length_m,
                x.speed_mps,
                len(x.via),
            )
            for x in apart.links
        ],
        [junction("both", 0, stages, ONE_CROSSING + TWO_CROSSING)],
    )


def one_junction(stages, conflicts, yields=(), shared=()):
    """A junction of which each group has a lane of its own; shared: (group, group) of which the
    second has the lane of the first, too.
    """
    n = len(stages[0])
    lanes = [(f"in{g}", 100, 10) for g in range(n)] + [(f"out{g}", 100, 10) for g in range(n)]
    links = [(f"in{g}", f"out{g}", g, "s", 10, 10, 0) for g in range(n)]
    links += [(f"in{a}", f"out{b}", b, "r", 10, 10, 0) for a, b in shared]
    return network(lanes, links, [junction("J", 0, stages, conflicts, yields)])


def cut(net):
    return [(part.first, part.end) for part in parts_of(net).network.junctions]


def test_a_junction_is_cut_between_groups_that_have_nothing_to_do_with_each_other():
    found = parts_of(joined())
    assert list(found.first) == [0, 2]
    first, second = found.network.junctions
    assert [(p.first, p.end) for p in (first, second)] == [(0, 3), (3, 5)]
    assert [letters(s) for s in first.stages] == ["Grr", "rGr", "rrG"]
    assert [letters(s) for s in second.stages] == ["Gr", "rG"]
    assert first.conflicts.tolist() == (~np.eye(3, dtype=bool)).tolist()
    assert second.conflicts.tolist() == [[False, True], [True, False]]
    assert [letters(p) for p in second.programme.colours] == ["Gr", "rG", "Gr"]
    assert [g.junction for g in found.network.groups] == [0, 0, 0, 1, 1]
    assert list(found.network.link_junction) == [0, 0, 0, 0, 1, 1, -1]


def test_a_network_without_such_junctions_is_left_as_it_is():
    net = pair()
    found = parts_of(net)
    assert found.network is net
    assert [list(found.of(j)) for j in range(2)] == [[0], [1]]


@pytest.mark.parametrize("name", RESCO)
def test_no_junction_of_the_published_scenarios_is_cut(name):
    """Their published figures are of the planner as it was."""
    net = network_of(scenario(name))
    assert parts_of(net).network is net


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, [(0, 2), (2, 4)]),
        ({"conflicts": [(0, 1), (2, 3), (1, 2)]}, [(0, 4)]),
        ({"conflicts": [(0, 1), (2, 3), (0, 3)]}, [(0, 4)]),
        ({"yields": [(3, 0)]}, [(0, 4)]),
        ({"shared": [(1, 2)]}, [(0, 4)]),
        ({"shared": [(0, 1)]}, [(0, 2), (2, 4)]),
    ],
)
def test_what_binds_groups_together(more, expected):
    given = {"conflicts": [(0, 1), (2, 3)], **more}
    assert cut(one_junction(["GrGr", "rGrG"], **given)) == expected


@pytest.mark.parametrize(
    ("stages", "conflicts", "expected"),
    [
        (["GGrGr", "GrGrG"], [(1, 2), (3, 4)], [(0, 3), (3, 5)]),
        (["GrGGr", "rGGrG"], [(0, 1), (3, 4)], [(0, 2), (2, 5)]),
        (["GrGrG", "rGrGG"], [(0, 1), (2, 3)], [(0, 2), (2, 5)]),
        (["GrGG", "rGGG"], [(0, 1)], [(0, 4)]),
        (["GrGr", "rGrG"], [(0, 2), (1, 3)], [(0, 4)]),
    ],
)
def test_who_is_in_no_conflict_stays_with_a_neighbour_and_others_keep_their_order(
    stages, conflicts, expected
):
    """The last is cut nowhere: its two pairs do not follow each other."""
    assert cut(one_junction(stages, conflicts)) == expected


def in_series(between_m, stages=("GrGr", "rGrG"), conflicts=((0, 1), (2, 3)), yields=()):
    """Lane a leads by group 0 to the lane between, and that by group 2 to x; d crosses a, and c the
    lane between.
    """
    lanes = [(n, 200, 10) for n in "adcxoy"] + [("between", between_m, 10)]
    links = [
        ("a", "between", 0, "s", 10, 10, 1), ("d", "o", 1, "s", 10, 10, 1),
        ("between", "x", 2, "s", 10, 10, 1), ("c", "y", 3, "s", 10, 10, 1),
    ]  # fmt: skip
    return network(lanes, links, [junction("J", 0, list(stages), conflicts, yields)])


def stages_of(net):
    numbers = Planner(net, timing(net)).stages(0)
    return {letters(numbers.colours(k)) for k in range(numbers.count)}


def test_who_has_no_room_before_the_next_signal_has_green_with_it_alone():
    assert cut(in_series(10.0)) == [(0, 2), (2, 4)]
    assert stages_of(in_series(10.0)) == {"GrGr", "rGGr", "GrrG", "rGrG"}
    assert cut(in_series(9.9)) == [(0, 4)]
    assert stages_of(in_series(9.9)) == {"GrGr", "rGGr", "rrrG", "rGrG"}


def test_the_stages_of_the_programme_come_first_and_are_counted_as_they_are_left():
    """Without a way on the first of them is the fourth, once."""
    net = in_series(5.0, stages=["GrrG", "GrGr", "rGrG", "rrrG"])
    table = StageTable(net, timing(net), every=True)
    assert [letters(s) for s in table.of_junction(0)][:3] == ["rrrG", "GrGr", "rGrG"]
    assert list(table.own) == [3]
    assert list(StageTable(net, timing(net)).own) == [4]


@pytest.mark.parametrize("inside", [True, False])
def test_whom_the_programme_never_lets_on_is_served_where_links_are_guessed(inside):
    """Cameras and detectors leave the planner the programme's stages, and in this one who comes
    from a has green only while the signal behind is red.
    """
    net = in_series(5.0, stages=["GrrG", "rGGr"])
    planner = Planner(net, timing(net))
    seen = observed(net, rows=[(0, 2.0, 0.0, 50.0)], shown="rGGr", known=False, inside=inside)
    found, _ = planner.step(seen, planner.aiming_at(planner.start(seen), 0, 1))
    assert letters(found.wanted)[0] == "G"


def test_a_permissive_green_is_no_way_on():
    """Who waits there for a gap stands where nobody has room."""
    net = in_series(5.0, stages=["GrgG", "rGgG"], yields=[(2, 3)])
    assert "GrgG" not in stages_of(net)
    assert stages_of(net) >= {"rrgG", "rGgG", "GrGr"}
    assert "GrgG" in stages_of(in_series(10.0, stages=["GrgG", "rGgG"], yields=[(2, 3)]))


def test_who_would_never_be_green_so_is_green_by_himself():
    net = in_series(5.0, stages=["Grrr", "rGrG", "rrGr"], conflicts=[(0, 1), (2, 3), (0, 2)])
    assert any(stage[0] == "G" for stage in stages_of(net))


def test_a_group_that_leads_to_its_own_signal_may_be_permissive():
    lanes = [(n, 200, 10) for n in "axcy"] + [("m", 5, 10)]
    links = [
        ("a", "m", 0, "s", 10, 10, 1), ("m", "x", 0, "s", 10, 10, 1), ("c", "y", 1, "s", 10, 10, 1)
    ]  # fmt: skip
    net = network(lanes, links, [junction("J", 0, ["gG", "Gr"], [(0, 1)], [(0, 1)])])
    assert "gG" in stages_of(net)


def test_a_chain_of_signals_without_room_is_green_together():
    lanes = [(n, 200, 10) for n in "axcy"] + [("m1", 5, 10), ("m2", 5, 10)]
    links = [
        ("a", "m1", 0, "s", 10, 10, 1), ("m1", "m2", 1, "s", 10, 10, 1),
        ("m2", "x", 2, "s", 10, 10, 1), ("c", "y", 3, "s", 10, 10, 1),
    ]  # fmt: skip
    net = network(lanes, links, [junction("J", 0, ["GGGr", "rrrG"], [(2, 3)])])
    assert stages_of(net) == {"GGGr", "rrrG"}


def test_a_stage_in_which_a_part_is_all_red_is_none_of_that_part():
    net = one_junction(["Grrr", "rGrr", "rrGr", "rrrG"], [(0, 1), (2, 3)])
    first, second = parts_of(net).network.junctions
    assert [letters(s) for s in first.stages] == ["Gr", "rG"]
    assert [letters(s) for s in second.stages] == ["Gr", "rG"]


def test_the_number_of_a_stage_names_a_stage_of_each_part():
    parts = NumberedStages(
        tuple(np.array([colours(s) for s in own]) for own in (["Grr", "rGr", "rrG"], ["Gr", "rG"]))
    )
    assert parts.count == 6
    assert [letters(parts.colours(k)) for k in range(6)] == [
        "GrrGr", "rGrGr", "rrGGr", "GrrrG", "rGrrG", "rrGrG",
    ]  # fmt: skip
    assert [parts.of_parts(k) for k in (2, 3, 5)] == [[2, 0], [0, 1], [2, 1]]
    assert [parts.number(parts.of_parts(k)) for k in range(6)] == list(range(6))
    assert [(c.start, c.stop) for c in parts.columns] == [(0, 3), (3, 5)]


@pytest.mark.parametrize("seed", range(3))
def test_each_part_is_decided_as_a_junction_of_its_own(seed):
    """Beside the planner of the network in which they are two junctions, over a changing scene."""
    one, two = joined(), pair()
    as_one, as_two = Planner(one, timing(one)), Planner(two, timing(two))
    of_one = of_two = None
    wishes = set()
    for k, seen in enumerate(scenes(two, seed)):
        beside = replace(seen, at_s=500.0 + k)
        same = replace(beside, completeness=np.ones(1))
        if of_one is None:
            of_one, of_two = as_one.start(same), as_two.start(beside)
        found, of_one = as_one.step(same, of_one)
        expected, of_two = as_two.step(beside, of_two)
        assert letters(found.wanted) == letters(expected.wanted)
        assert found.confidence.tolist() == [expected.confidence.min()]
        for name, factor in expected.why.items():
            assert found.why[name].tolist() == [factor.min()], name
        wishes.add(letters(found.wanted))
    assert len(wishes) > 3


@pytest.mark.parametrize("seed", range(3))
def test_an_alternative_of_a_part_stands_beside_what_the_others_aim_at(seed):
    one, two = joined(), pair()
    as_one, as_two = Planner(one, timing(one)), Planner(two, timing(two))
    stages, several, bound = as_one.stages(0), 0, 0
    for seen in scenes(two, seed):
        same = replace(seen, completeness=np.ones(1))
        shown = [seen.shown[:3].argmax(), seen.shown[3:].argmax()]
        state = as_one.aiming_at(as_one.start(same), 0, stages.number(shown))
        apart = replace(as_two.start(seen), target=np.array(shown, np.int32))
        found = as_one.alternatives(same, state, 0)
        parts = [as_two.alternatives(seen, apart, j) for j in range(2)]
        best = [float(part.delay_s[part.chosen]) for part in parts]
        chosen = [int(part.stages[part.chosen]) for part in parts]

        assert stages.of_parts(int(found.stages[0])) == shown
        assert stages.of_parts(int(found.stages[found.chosen])) == chosen
        assert found.delay_s[found.chosen] == pytest.approx(sum(best))
        assert as_one.predicted_delay_s(same, state, 0) == found.delay_s[found.chosen]
        assert found.is_bound == (parts[0].is_bound and parts[1].is_bound)
        told = {
            tuple(stages.of_parts(int(number))): (delay_s, lasts_s)
            for number, delay_s, lasts_s in zip(
                found.stages, found.delay_s, found.lasts_s, strict=True
            )
        }
        assert len(told) == len(found.stages), "each once"
        for j, part in enumerate(parts):
            if part.is_bound:
                assert {place[j] for place in told} == {chosen[j]}, "nothing else can begin there"
                bound += not parts[1 - j].is_bound
                continue
            for k, stage in enumerate(part.stages.tolist()):
                place = [*chosen]
                place[j] = stage
                other = parts[1 - j]
                delay_s, lasts_s = told[tuple(place)]
                assert delay_s == pytest.approx(part.delay_s[k] + best[1 - j])
                assert lasts_s == min(part.lasts_s[k], other.lasts_s[other.chosen])
                several += 1
    assert several > 50
    assert bound > 3


def test_a_prediction_tells_the_stage_of_the_whole_junction_and_takes_it_again():
    net = joined()
    predictor = Predictor(Planner(net, timing(net)), net, timing(net))
    waiting = [SeenVehicle("b", 2.0, 0.0, 10.0), SeenVehicle("e", 2.0, 0.0, 10.0)]
    first = predictor.predict(SeenJunction("both", waiting, "GrrGr"))
    assert first.green == (1, 4)
    assert first.stage == 1 + 3 * 1
    assert "change" not in first.factors
    assert {a.stage for a in first.alternatives} >= {4, 3, 1}, "one part at a time is kept back"
    assert first.alternatives[0].expected_delay_s == min(
        a.expected_delay_s for a in first.alternatives
    )
    changing = SeenJunction("both", waiting, "yrryr", shown_for_s=1.0)
    assert predictor.predict(changing).factors["change"] < 1.0, "whom it aims at is a guess"
    again = predictor.predict(SeenJunction("both", waiting, "yrryr", 1.0, stage=first.stage))
    assert (again.stage, again.green) == (4, (1, 4))
    assert again.why.startswith("stage 4 is kept for 2 vehicles")
    with pytest.raises(ValueError, match="stage: 6, the junction has 6, from 0 on"):
        predictor.predict(SeenJunction("both", waiting, "yrryr", stage=6))


@pytest.mark.parametrize("pairs", [52, 53, 64])
def test_a_stage_whose_number_not_every_reader_takes_is_told_by_its_greens(pairs):
    """Each part has two stages. From 2**63 to 2**64 numpy makes floats of whole numbers."""
    net = one_junction(["Gr" * pairs, "rG" * pairs], [(2 * k, 2 * k + 1) for k in range(pairs)])
    predictor = Predictor(Planner(net, timing(net)), net, timing(net))
    waiting = [SeenVehicle(f"in{2 * k + 1}", 2.0, 0.0, 30.0) for k in range(pairs)]
    found = predictor.predict(SeenJunction("J", waiting, "Gr" * pairs))
    assert found.green == tuple(range(1, 2 * pairs, 2))
    assert found.stage == (2**pairs - 1 if pairs < 53 else -1)
    assert {a.stage == -1 for a in found.alternatives} == {pairs >= 53}
    again = predictor.predict(SeenJunction("J", waiting, "Gr" * pairs, stage=found.stage))
    assert again.green == found.green
    assert again.why.startswith("stage " if pairs < 53 else "a stage begins for")
