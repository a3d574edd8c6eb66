"""SUMO's own record of its signals, as its `SaveTLSStates` writes it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from headway.plants.sumo.programmes import seconds


def read_states(path: Path) -> dict[str, list[tuple[float, str]]]:
    """For each programme the (time, state) at which its state changed, from SUMO's `SaveTLSStates`
    output.
    """
    lines: dict[str, list[tuple[float, str]]] = {}
    for _, item in ET.iterparse(path):
        if item.tag == "tlsState":
            line = lines.setdefault(item.attrib["id"], [])
            if not line or line[-1][1] != item.attrib["state"]:
                line.append((seconds(item.attrib["time"]), item.attrib["state"]))
        item.clear()
    return lines
