"""Answers and questions are values: once made, nobody changes them."""

from __future__ import annotations

import dataclasses

import pytest

from headway.analytics import comparison, highres, records, signals, violations

VALUES = sorted(
    {kind for room in (comparison, highres, records, signals, violations) for kind in vars(room).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}
    - {highres.Database},
    key=lambda kind: (kind.__module__, kind.__name__),
)  # fmt: skip


def test_these_are_all():
    assert [kind.__name__ for kind in VALUES] == [
        "Paired", "Greens", "History", "Comparison", "Emergencies", "Impact", "Scope", "Series", "Speeds", "Summary", "Waits", "Arrivals", "Coordination",
        "Emissions", "Impact", "PedestrianDelay", "Queues", "Split", "Terminations", "Hotspot", "Span", "Trend", "ViolationSummary",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_an_answer_is_not_changed(kind):
    answer = object.__new__(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(answer, dataclasses.fields(kind)[0].name, None)
