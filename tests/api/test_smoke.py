"""What an update asks of a service is what a service answers."""

from __future__ import annotations

from headway.cli.deploy import PROBE, ask, smoke


def test_the_smoke_test_of_an_update_passes_and_leaves_nothing(service):
    token = service.token("admin")
    smoke(service.url, token, within_s=60.0)
    left = ask(service.url, f"/api/v1/records?simulation_id={PROBE}", token)
    assert left["items"] == []
