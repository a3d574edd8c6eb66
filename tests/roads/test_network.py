"""Reading networks: what is right is read, what is broken is refused with place and remedy."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from headway.roads import BENCHMARK, STREET, Colour, Kind, RoadsError, TimingProfile, read_network, work_out
from headway.roads.catalogue import RESCO, scenario, vehicles
from headway.roads.stages import is_compatible, maximal_stages, merge_programmes, permissible
from headway.roads.timing import red_clearance_s, yellow_s


@pytest.mark.parametrize("name", RESCO)
def test_every_stage_of_every_real_junction_is_compatible_and_every_group_is_served(name):
    network = read_network(scenario(name).net)
    for junction in network.junctions:
        assert all(is_compatible(stage, junction.conflicts, junction.yields) for stage in junction.stages)
        assert (junction.stages >= Colour.PERMISSIVE).any(axis=0).all()
        assert (junction.conflicts == junction.conflicts.T).all()


def test_the_catalogue_knows_the_eight_scenarios_with_their_own_begin():
    found = {n: (scenario(n).begin_s, len(read_network(scenario(n).net).junctions), vehicles(scenario(n))) for n in RESCO}
    assert found["cologne8"] == (25200.0, 8, 2046)
    assert found["ingolstadt21"][:2] == (57600.0, 21)
    assert found["grid4x4"] == (0.0, 16, 1473)


def test_a_programme_that_shows_conflicting_protected_greens_is_lowered_and_warned_of():
    network = read_network(scenario("ingolstadt7").net)
    assert any("gneJ210" in w and "conflicting greens" in w for w in network.warnings)


def test_pedestrians_are_groups_with_walk_and_clearance(crossing_network):
    network = read_network(crossing_network)
    timing = work_out(network, STREET)
    walking = [i for i, g in enumerate(network.groups) if g.kind == Kind.PEDESTRIAN]
    assert walking
    for g in walking:
        longest = max(network.links[k].length_m for k in network.groups[g].links)
        assert timing.yellow_s[g] == 0
        assert timing.clearance_s[g] == pytest.approx(longest / 1.07, abs=0.1)
        assert timing.min_green_s[g] >= 7
        assert timing.min_green_s[g] + timing.clearance_s[g] >= 20 - 1e-9
    junction = network.junctions[network.groups[walking[0]].junction]
    crossed = [
        g
        for g in junction.groups
        if network.groups[g].kind != Kind.PEDESTRIAN and junction.conflicts[walking[0] - junction.first, g - junction.first]
    ]
    assert crossed, "a crossing conflicts with the traffic that drives over it"


def test_yellow_and_clearance_follow_the_formulas_within_their_bounds():
    assert yellow_s(13.89) == pytest.approx(1 + 13.89 / 6.1)
    assert yellow_s(5.0) == 3.0
    assert yellow_s(60.0) == 6.0
    assert yellow_s(13.89, grade=-0.05) > yellow_s(13.89)
    assert red_clearance_s(20.0, 13.0) == pytest.approx(26 / 13)


def test_benchmark_timing_is_three_seconds_of_yellow_and_no_red_clearance():
    network = read_network(scenario("cologne3").net)
    timing = work_out(network, BENCHMARK)
    matrix = timing.intergreen_s(network, 0)
    assert set(np.unique(matrix)) == {0.0, 3.0}
    with pytest.raises(ValueError, match=r"2\.7 s"):
        TimingProfile("x", 5, 60, 90, 0, 2.0, 0.0)


def test_maximal_stages_are_compatible_cannot_be_extended_and_serve_everybody():
    junction = read_network(scenario("cologne1").net).junctions[0]
    stages = maximal_stages(junction.conflicts)
    for stage in stages:
        lit = stage == Colour.GREEN
        assert not (junction.conflicts & np.outer(lit, lit)).any()
        assert (junction.conflicts[~lit][:, lit].any(axis=1)).all()
    assert (stages == Colour.GREEN).any(axis=0).all()


def test_right_of_way_decides_the_level_of_a_green():
    conflicts = np.array([[False, True], [True, False]])
    yields = np.array([[False, False], [True, False]])
    both = np.array([Colour.GREEN, Colour.GREEN], np.int8)
    assert permissible(both, conflicts, yields).tolist() == [Colour.GREEN, Colour.PERMISSIVE]
    assert permissible(both, conflicts, np.zeros((2, 2), bool)).tolist() == [Colour.GREEN, Colour.RED]


def test_programmes_of_one_node_are_merged_on_a_common_clock():
    one = (np.array([[4], [1]], np.int8), [30.0, 30.0], 0.0)
    other = (np.array([[1], [4]], np.int8), [40.0, 20.0], 10.0)
    colours, lengths, _ = merge_programmes([one, other])
    assert sum(lengths) == 60
    at = np.repeat(np.arange(len(lengths)), np.array(lengths, int))
    assert [colours[at[t], 0] for t in (0, 29, 30, 59)] == [4, 4, 1, 1]
    assert [colours[at[t], 1] for t in (5, 11, 49, 50, 59)] == [4, 1, 1, 4, 4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s[: len(s) // 2], "not a readable SUMO network"),
        (lambda s: re.sub(r"<tlLogic.*?</tlLogic>", "", s, flags=re.S), "no traffic light"),
        (lambda s: s.replace("<net ", "<nets ").replace("</net>", "</nets>"), "not <net>"),
        (lambda s: re.sub(r'state="[rGgy]+"', 'state="rrrr"', s), "has 4 places"),
        (lambda s: re.sub(r'state="(.)[rGgy]{19}"', r'state="rrrrrGGGggrrrrrGGGgr"', s), "no stage that serves link"),
        (lambda s: re.sub(r'(<phase[^>]*state=")r', r"\1X", s), "unknown colours"),
        (lambda s: re.sub(r' via="[^"]*"', "", s), "no internal lane"),
    ],
)
def test_a_broken_network_is_refused_with_the_place(tmp_path, change, said):
    path = tmp_path / "broken.net.xml"
    path.write_text(change(Path(scenario("cologne1").net).read_text()))
    with pytest.raises(RoadsError, match=re.escape(said)) as error:
        read_network(path)
    assert str(path) in str(error.value)


def test_missing_files_and_names_are_refused(tmp_path):
    with pytest.raises(RoadsError, match="There are: cologne1"):
        scenario("nowhere")
    with pytest.raises(RoadsError, match="no such file"):
        scenario(str(tmp_path / "x.sumocfg"))
    config = tmp_path / "y.sumocfg"
    config.write_text('<configuration><input><net-file value="gone.net.xml"/></input></configuration>')
    with pytest.raises(RoadsError, match=r"gone\.net\.xml, which does not exist"):
        scenario(str(config))
