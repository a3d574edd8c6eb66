"""The eight scenarios of the benchmark read as they are."""

import pytest

from headway.roads import read_network
from headway.roads.catalogue import RESCO, scenario
from headway.roads.stages import is_compatible


@pytest.mark.parametrize("name", RESCO)
def test_every_stage_of_every_real_junction_is_compatible(name: str) -> None:
    network = read_network(scenario(name).net)
    for junction in network.junctions:
        assert all(is_compatible(stage, junction.conflicts, junction.yields) for stage in junction.stages)
