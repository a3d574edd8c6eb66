"""SUMO's own record of its signals, as its `SaveTLSStates` writes it."""

from __future__ import annotations

import re
from pathlib import Path

from headway.plants.sumo.programmes import seconds

# no XML reader: SUMO writes names of traffic lights and programmes as they are, also with & and <
STATE = re.compile(
    r'<tlsState time="([^"]*)" id="(.*?)"(?: programID=".*?" phase="[^"]*")? state="([^"]*)"'
)


def read_states(path: Path) -> dict[str, list[tuple[float, str]]]:
    """For each programme the (time, state) at which its state changed, from SUMO's `SaveTLSStates`
    output.
    """
    lines: dict[str, list[tuple[float, str]]] = {}
    with path.open(encoding="utf-8") as record:
        for text in record:
            for time, name, state in STATE.findall(text):
                line = lines.setdefault(name, [])
                if not line or line[-1][1] != state:
                    line.append((seconds(time), state))
    return lines
