"""Maximum red is a promise under every sensing profile: whoever may be waited for gets green."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.plants.sumo import read_network
from headway.plants.sumo.profiles import profile
from headway.plants.sumo.scenarios import scenario
from headway.roads import BENCHMARK, STREET, Kind, likely_links, work_out
from headway.safety import SafetyGate
from headway.values import Vehicles
from tests.safety.builders import P, look, propose, stage
from tests.safety.networks import networks


def merged_lanes(network, ways):
    """The same, but up to `ways` groups of a junction leave one lane."""
    links = list(network.links)
    for junction in network.junctions:
        for k, g in enumerate(junction.groups):
            if network.groups[g].kind == Kind.VEHICLE:
                owner = network.groups[junction.first + k - k % ways].links[0]
                (own,) = network.groups[g].links
                links[own] = replace(links[own], from_lane=links[owner].from_lane)
    return replace(network, links=tuple(links))


def standing(network, links):
    """A vehicle before each of these links, as the street has it."""
    n = len(links)
    return Vehicles(
        lane=np.array([network.links[k].from_lane for k in links], np.int32),
        link=np.array(links, np.int32),
        distance_m=np.full(n, 1.0),
        speed_mps=np.zeros(n),
        waiting_s=np.zeros(n),
        length_m=np.full(n, 7.5),
        emergency=np.zeros(n, np.bool_),
    )


def bound_s(network, timing, junction):
    """(groups of the junction,): the maximum red, and a turn of every other group that has waited
    for it as well; changes happen in whole seconds.
    """
    own = slice(junction.first, junction.end)
    turn_s = np.ceil(timing.min_green_s) + np.ceil(timing.yellow_s) + np.ceil(timing.clearance_s)
    return timing.max_red_s[own] + turn_s[own].sum() + 2.0


def longest_red_s(shown, g):
    lit = np.flatnonzero([colours[g] >= P for colours in shown])
    edges = np.concatenate([[-1], lit, [len(shown)]])
    return int(np.diff(edges).max()) - 1


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    network=networks(),
    ways=st.integers(1, 4),
    timing=st.sampled_from([BENCHMARK, STREET]),
    sensing=st.sampled_from(["connected", "camera", "loops"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_whatever_the_demand_and_the_sensing_no_group_with_a_call_waits_beyond_the_bound(
    network, ways, timing, sensing, seed
):
    """Each group either has traffic all the time or never; the controller wants what it wants. A
    vehicle that the equipment never sees calls nobody: a camera misses one in twenty.
    """
    rng = np.random.default_rng(seed)
    network = merged_lanes(network, ways)
    timing = work_out(network, timing)
    gate = SafetyGate(network, timing, 0.0)
    waiting = np.flatnonzero(rng.random(len(network.links)) < rng.choice([0.2, 0.6, 1.0])).tolist()
    vehicles = standing(network, waiting)
    eyes = profile(sensing, network, 1)
    wanted, shown = stage(network, 0), []
    for second in range(700):
        now_s = float(second)
        if rng.random() < 0.02:
            wanted = stage(network, int(rng.integers(9)))
        seen = replace(
            look(network, gate, now_s),
            vehicles=eyes.see(now_s, vehicles, np.arange(len(vehicles)) + 1),
            links_known=sensing == "connected",
        )
        detected = set(seen.vehicles.lane.tolist())
        shown.append(gate.admit(propose(network, now_s, wanted), now_s, seen).colours)
    for junction in network.junctions:
        limits = bound_s(network, timing, junction)
        for g, limit_s in zip(junction.groups, limits, strict=True):
            own = [network.links[k] for k in waiting if network.links[k].group == g]
            called = any(link.from_lane in detected for link in own)
            is_served = (junction.stages[:, g - junction.first] >= P).any()
            if called and is_served:
                assert longest_red_s(shown, g) <= limit_s, (g, sensing)


@pytest.mark.parametrize("sensing", ["connected", "camera", "loops"])
def test_every_group_of_a_real_street_can_call(sensing):
    """Under `camera` and `loops` 70 of the 103 groups of cologne8 could never call: their lanes
    count as going straight on.
    """
    network = read_network(scenario("cologne8").net)
    gate = SafetyGate(network, work_out(network, BENCHMARK), 0.0)
    fresh, proposal = gate.state(), propose(network, 0.0, stage(network, 0))
    likely = likely_links(network)
    silent = []
    for g, group in enumerate(network.groups):
        if group.kind != Kind.VEHICLE:
            continue
        vehicles = standing(network, group.links[:1])
        if sensing != "connected":  # they tell the lane, and no more
            vehicles = replace(vehicles, link=likely[vehicles.lane])
        gate.resume(fresh)
        known = sensing == "connected"
        seen = replace(look(network, gate, 0.0), vehicles=vehicles, links_known=known)
        gate.admit(proposal, 0.0, seen)
        if gate.state()["_call_last"][g] != 0.0:
            silent.append(g)
    assert silent == []
