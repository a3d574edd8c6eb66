"""Rows A: the real-time optimisation loop and its safety systems."""

from __future__ import annotations

import json

import pytest


def events_of(folder, kind):
    """The events of a kind in a street's event log, in order."""
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["kind"] == kind]


@pytest.mark.row("A1")
def test_a1_the_optimisation_cycle_keeps_its_period(headway, tmp_path, figures):
    """`headway run --config FILE` with `loop: {cycle_s: 30}`: an event `engine.cycle` each cycle,
    with `processing_ms`.
    """
    config = tmp_path / "settings.yaml"
    config.write_text("loop: {cycle_s: 20}\n")
    for name, arguments in {"default": (), "configured": ("--config", str(config))}.items():
        street = (
            "run",
            "--scenario",
            "cologne8",
            "--until",
            "25441",
            "--data",
            str(tmp_path / name),
        )
        done = headway(*street, *arguments)
        assert done.returncode == 0, done.stderr
    default, configured = (
        events_of(tmp_path / n, "engine.cycle") for n in ("default", "configured")
    )
    assert [e["at_s"] - 25200 for e in default] == list(range(30, 241, 30))
    assert [e["at_s"] - 25200 for e in configured] == list(range(20, 241, 20))
    longest = max(e["data"]["processing_ms"] for e in default)
    figures.add("processing of a cycle, 8 junctions", longest / 1e3, "s", "< 25 s")
