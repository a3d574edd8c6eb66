"""Which signal programme SUMO runs at each traffic light: those of the network and of the
additional files, of several the one that is in force when the simulation begins.
"""

from __future__ import annotations

import gzip
import math
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from headway.roads.network import RoadsError

UNREADABLE = (OSError, EOFError, zlib.error, ET.ParseError)
RAIL = ("rail_signal", "rail_crossing")  # types of nodes and programmes that SUMO runs by itself
RELEVANT = ("tlLogic", "WAUT", "wautJunction")
BARRIERS = ("barrierPhases", "barrier2Phases", "coordinatePhases")  # the last is an older name
BY_GREEN = "GgyYosOur"  # of two phases that are shown together, the letter of a place
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


def stages_of_rings(programme: ET.Element) -> list[tuple[str, float]]:
    """The stages of a controller with two rings (SUMO's type NEMA), whose phases are not shown one
    after the other but in pairs, one of each ring, up to the next barrier: (state, seconds of green
    at most). Empty for any other, and where its rings name phases that it does not have.
    """
    if programme.get("type") != "NEMA":
        return []
    phases = {p.get("name", ""): p for p in programme.findall("phase")}
    of = {p.get("key", ""): p.get("value", "").split(",") for p in programme.findall("param")}
    barriers = {name.strip() for key in BARRIERS for name in of.get(key, ())}
    rings = [_up_to_barriers(of.get(key, []), barriers) for key in ("ring1", "ring2")]
    stages = []
    for one, other in zip_longest(*rings, fillvalue=()):
        for at in range(max(len(one), len(other))):
            names = {ring[min(at, len(ring) - 1)] for ring in (one, other) if ring}
            if not names <= phases.keys():
                return []
            shown = [phases[name] for name in sorted(names)]
            lights = zip(*(p.get("state", "") for p in shown), strict=False)
            state = "".join(min(places, key=BY_GREEN.find) for places in lights)
            lasts_s = max(seconds(p.get("maxDur", p.get("duration", "0"))) for p in shown)
            stages.append((state, lasts_s))
    return stages


def _up_to_barriers(ring: Sequence[str], barriers: Container[str]) -> list[tuple[str, ...]]:
    """The phases of a ring, barrier by barrier; 0 stands for none."""
    parts: list[tuple[str, ...]] = [()]
    for name in map(str.strip, ring):
        if name not in ("0", ""):
            parts[-1] += (name,)
        if name in barriers:
            parts.append(())
    return parts if parts[-1] else parts[:-1]


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
