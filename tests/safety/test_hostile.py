"""Among liars the gate keeps every rule; both other statements of the rules say so."""

from __future__ import annotations

import pytest

from headway.plants.sumo import read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import BENCHMARK, STREET
from headway.safety.audit import audit
from tests.safety.hostile import Liars, lines_of, spans_of
from tests.safety.rules import broken_rules, services


@pytest.mark.parametrize("profile", [BENCHMARK, STREET], ids=lambda p: p.name)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["cologne1", "cologne3"])
def test_no_lie_of_anybody_breaks_a_rule(name, profile, seed):
    network = read_network(scenario(name).net)
    liars = Liars(network, profile, seed, (0.02, 0.1, 0.5)[seed])
    history = liars.play(200)
    assert any(max(colours) >= 3 for _, colours in history), "something is green"
    served = services(liars.said)
    assert any(served), "somebody is served"
    assert broken_rules(network, liars.timing, history, served) == []
    spans = spans_of(served)
    assert audit(network, liars.timing, lines_of(network, history), 0.0, spans) == []
