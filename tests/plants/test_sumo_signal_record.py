"""SUMO's record of its signals as time lines."""

from __future__ import annotations

from headway.plants.sumo.signal_record import read_states


def test_the_changes_are_read_from_what_sumo_writes(tmp_path):
    path = tmp_path / "tls.xml"
    states = [
        (0.0, "J", "rG"),
        (0.0, "K", "g"),
        (1.0, "J", "rG"),
        (1.0, "K", "y"),
        (2.5, "J", "ry"),
        (2.5, "K", "g"),
        (3.5, "J", "rG"),
        (3.5, "K", "g"),
    ]
    rows = "".join(
        f'<tlsState time="{t}" id="{tl}" programID="0" phase="0" state="{s}"/>'
        for t, tl, s in states
    )
    path.write_text(f"<tlsStates><about/>{rows}</tlsStates>")
    assert read_states(path) == {
        "J": [(0.0, "rG"), (2.5, "ry"), (3.5, "rG")],
        "K": [(0.0, "g"), (1.0, "y"), (2.5, "g")],
    }
