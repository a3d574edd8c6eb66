"""Lines of a street's events in the logs: all at info, cycles in sum, floods held back."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from headway.street.event_lines import MOST_LINES, EventLines
from headway.values import Event


def cycle(at_s, ok=True, ms=2.0):
    return Event(at_s, "engine.cycle", "", {"ok": ok, "processing_ms": ms, "vehicles": 7})


def test_cycles_are_summed_once_a_minute_of_wall_time():
    now = [0.0]
    lines = EventLines(lambda: now[0])
    with capture_logs() as logs:
        for wall_s, ok, ms in ((0.0, True, 1.0), (20.0, False, 2.0), (61.0, True, 6.0)):
            now[0] = wall_s
            lines.write(cycle(wall_s, ok, ms))
    first, second = [line for line in logs if line["event"] == "optimisation cycles"]
    assert (first["cycles"], first["succeeded"], first["log_level"]) == (1, 1, "info")
    assert (second["cycles"], second["succeeded"]) == (2, 1)
    assert (second["processing_ms_mean"], second["processing_ms_max"]) == (4.0, 6.0)
    assert [line["log_level"] for line in logs if line["event"] == "engine.cycle"] == ["debug"] * 3


@pytest.mark.parametrize(
    ("kind", "data", "level"),
    [
        ("engine.started", {}, "info"),
        ("safety.override", {"by": "Ann"}, "info"),
        ("engine.order_refused", {}, "warning"),
        ("runtime.checkpoint_failed", {}, "warning"),
        ("engine.order_not_stored", {}, "warning"),
        ("engine.controller_failed", {}, "error"),
        ("engine.fallback_failed", {}, "error"),
        ("engine.controller_hung", {}, "error"),
        ("engine.relief_slow", {}, "error"),
        ("alert.opened", {"level": "critical"}, "critical"),
        ("alert.closed", {"level": "critical"}, "info"),
    ],
)
def test_each_kind_has_its_level(kind, data, level):
    with capture_logs() as logs:
        EventLines().write(Event(5.0, kind, "A", data))
    assert [(x["event"], x["log_level"], x["at_s"], x["junction"]) for x in logs] == [
        (kind, level, 5.0, "A")
    ]


def test_a_rule_that_applies_to_several_groups_at_once_is_one_line_a_junction():
    lines = EventLines(lambda: 0.0)
    with capture_logs() as logs:
        for at_s, junction, link in (
            (1.0, "A", 0), (1.0, "A", 3), (1.0, "B", 1), (1.0, "A", 4), (2.0, "A", 5)
        ):  # fmt: skip
            lines.write(Event(at_s, "safety.minimum_cycle", junction, {"tl": "T", "link": link}))
            lines.write(Event(at_s, "safety.conflict", junction, {"tl": "T", "link": link}))
    said = [(x["at_s"], x["junction"], x["link"]) for x in logs if x["log_level"] == "info"]
    assert said[::2] == said[1::2] == [(1.0, "A", 0), (1.0, "B", 1), (2.0, "A", 5)]
    assert len(logs) == 10


def test_a_flood_of_one_kind_is_held_back_and_counted_and_words_of_the_log_are_no_trouble():
    now = [0.0]
    lines = EventLines(lambda: now[0])
    words = {"event": "collides", "at_s": 9, "junction": "B", "self": 1, "held_back": 7}
    event = Event(1.0, "safety.x", "A", words)
    with capture_logs() as logs:
        for _ in range(MOST_LINES + 5):
            lines.write(event)
        now[0] = 60.0
        lines.write(event)
    assert [x["log_level"] for x in logs].count("info") == MOST_LINES + 1
    assert (logs[-1]["held_back"], logs[-1]["at_s"], logs[-1]["junction"]) == (5, 1.0, "A")
