"""Which signal programme SUMO runs at each traffic light: those of the network and of the
additional files, of several the one that is in force when the simulation begins.
"""

from __future__ import annotations

import gzip
import math
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from headway.roads.network import RoadsError

UNREADABLE = (OSError, EOFError, zlib.error, ET.ParseError)
RAIL = ("rail_signal", "rail_crossing")  # types of nodes and programmes that SUMO runs by itself
RELEVANT = ("tlLogic", "WAUT", "wautJunction")
DEEPEST = 8  # files that include each other

_Variants = dict[str, dict[str, ET.Element]]


def seconds(text: str) -> float:
    """SUMO's notations of time: seconds, or [days:]hours:minutes:seconds. Raises ValueError for
    what is none.
    """
    total = 0.0
    for part, weight in zip(reversed(text.split(":")), (1.0, 60.0, 3600.0, 86400.0), strict=False):
        total += float(part) * weight
    if not math.isfinite(total):
        raise ValueError(f"{text!r} is no time")
    return total


def running_programmes(
    net: ET.Element, additional: Sequence[str], begin_s: float
) -> dict[str, ET.Element]:
    """The programme of each traffic light, by its id. Rail signals and crossings have none.

    The last one that is read is in force, unless a WAUT (SUMO's switching by the clock) says
    otherwise; it switches no light that was set from outside.
    additional: files in SUMO's order. Raises RoadsError for one that cannot be read.
    """
    variants: _Variants = {}
    running: dict[str, ET.Element] = {}
    switches: dict[str, ET.Element] = {}
    switched: dict[str, str] = {}
    for item in (*net.iter("tlLogic"), *_of_files(additional)):
        name = item.get("id", "")
        if item.tag == "WAUT":
            switches[name] = item
        elif item.tag == "wautJunction":
            switched[item.get("junctionID", "")] = item.get("wautID", "")
        elif item.get("type") not in RAIL:
            _add(variants.setdefault(name, {}), running, item)
    for name, waut in switched.items():
        wanted = _switched_to(switches.get(waut), begin_s)
        if wanted in variants.get(name, {}):
            running[name] = variants[name][wanted]
    return running


def _add(variants: dict[str, ET.Element], running: dict[str, ET.Element], item: ET.Element) -> None:
    """One without phases changes the offset of the one of its name."""
    programme = item.get("programID", "")
    if item.find("phase") is None and programme in variants:
        variants[programme].set(
            "offset", item.get("offset", variants[programme].get("offset", "0"))
        )
        return
    variants[programme] = running[item.get("id", "")] = item


def _switched_to(waut: ET.Element | None, begin_s: float) -> str:
    """Name of the programme that a WAUT has switched to when the simulation begins."""
    if waut is None:
        return ""
    name = waut.get("startProg", "")
    for switch in waut.findall("wautSwitch"):
        try:
            if seconds(waut.get("refTime", "0")) + seconds(switch.get("time", "0")) <= begin_s:
                name = switch.get("to", name)
        except ValueError:  # SUMO refuses it when it starts
            continue
    return name


def _of_files(paths: Iterable[str], depth: int = 0) -> Iterator[ET.Element]:
    """What tells programmes in these files and in those that they include."""
    for path in paths:
        try:
            with gzip.open(path) if path.endswith(".gz") else Path(path).open("rb") as stream:
                for _, item in ET.iterparse(stream):
                    if item.tag == "include" and depth < DEEPEST:
                        yield from _of_files(
                            [str(Path(path).parent / item.get("href", ""))], depth + 1
                        )
                    elif item.tag in RELEVANT:
                        yield item
                    elif item.tag not in ("phase", "wautSwitch", "param"):
                        item.clear()
        except UNREADABLE as error:
            raise RoadsError(
                f"{path}: not a readable additional file of SUMO ({error}). Correct it, or the "
                "additional-files entry of the .sumocfg."
            ) from error
