"""Reading the event log of a street."""

from __future__ import annotations

import json


def events_of(folder, kind):
    """The events of a kind in a street's event log, in order."""
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["kind"] == kind]
