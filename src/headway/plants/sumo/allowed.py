"""Scenarios that others may choose: those of the catalogue, and `.sumocfg` files in allowed folders
that name nothing outside of them.

A configuration of SUMO can read and write any file and open sockets, and so can the files that it
names (detectors write, `include` reads). What is checked is what lies in the folder now: whoever
can write there can change it afterwards.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.parsers import expat

from headway.plants.sumo.scenarios import RESCO, Scenario, read_sumocfg, scenario
from headway.roads.network import RoadsError

SUFFIX = ".sumocfg"
MOST_LISTED = 1000
MOST_BYTES = 1 << 30  # of one file, unpacked; the networks of whole cities are smaller
CHUNK_BYTES = 1 << 20
# options that name another configuration, open a port or start from a state
REFUSED_OPTIONS = (
    "c", "C", "configuration", "configuration-file", "save-config", "save-configuration",
    "save-template", "save-schema", "remote-port", "num-clients", "load-state", "python-script",
)  # fmt: skip
FILE_ATTRIBUTES = ("file", "href", "output", "dest", "imgFile")
SOCKET = re.compile(r"[^/\\]*:\d+")  # host:port: SUMO sends an output there


class ScenarioNotAllowedError(RoadsError):
    """The scenario may not be chosen; the message says why."""


def allowed_scenario(name: str, folders: Sequence[str]) -> Scenario:
    """The scenario of the catalogue, or the `.sumocfg` of that path (absolute, or below one of
    `folders`).

    Raises ScenarioNotAllowedError for a path outside of the folders, or one that names something
    outside; RoadsError for an unknown or broken scenario.
    """
    if name in RESCO:
        return scenario(name)
    if not name.endswith(SUFFIX):
        raise RoadsError(
            f"no scenario {name!r}. There are: {', '.join(RESCO)}; or give the path of a "
            f"{SUFFIX} file in an allowed folder (settings: sumo.folders)."
        )
    path, root = _inside_one_of(name, folders)
    found = read_sumocfg(path, path.stem)
    _check_configuration(path, root)
    return found


def scenarios_in(folders: Sequence[str]) -> list[str]:
    """The `.sumocfg` files below the folders, as paths from their folder, by name; at most
    MOST_LISTED.
    """
    names = set[str]()
    for root in _roots(folders):
        for path in root.rglob(f"*{SUFFIX}"):
            if len(names) < MOST_LISTED and _is_within(path, root):
                names.add(str(path.relative_to(root)))
    return sorted(names)


def _roots(folders: Sequence[str]) -> Iterator[Path]:
    for folder in folders:
        root = Path(folder).expanduser().resolve()
        if root.is_dir():
            yield root


def _inside_one_of(name: str, folders: Sequence[str]) -> tuple[Path, Path]:
    """(the file, links resolved; the folder that holds it)."""
    roots = list(_roots(folders))
    for root in roots:
        path = root / name  # an absolute name stands for itself
        if _is_within(path, root) and _is_file(path):
            return path.resolve(), root
    if any(_is_within(root / name, root) for root in roots):
        raise RoadsError(f"{name}: no such file in the allowed folders (settings: sumo.folders).")
    raise ScenarioNotAllowedError(
        f"{name}: is outside of the allowed folders. Scenarios are taken from: "
        f"{', '.join(map(str, roots)) or 'the catalogue alone'} (settings: sumo.folders)."
    )


def _is_within(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that cannot be one
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no file has such a name
        return False


def _check_configuration(path: Path, root: Path) -> None:
    """Every value of the configuration is taken as a path: what is none lies within all the same.
    The files that it names are checked in turn.
    """
    named = set[Path]()
    for place, (option, values) in enumerate(_elements(path)):
        if place > 0 and option in REFUSED_OPTIONS:  # the root is a `configuration`
            raise ScenarioNotAllowedError(
                f"{path}: the option {option} is not allowed here. Take it out."
            )
        for value in values.values():
            if option.endswith(("output", "log")) and SOCKET.fullmatch(value):
                raise ScenarioNotAllowedError(f"{path}: {option}: {value} is no file. Take it out.")
            for part in [value, *re.split(r"[,\s]+", value)]:
                _require_within(path, root, option, part)
                named.add(path.parent / part)
    _check_named(named, root)


def _check_named(named: set[Path], root: Path) -> None:
    """The files among `named`, and those that they name in turn."""
    done = set[Path]()
    waiting = [file for file in named if _is_file(file)]
    while waiting:
        path = waiting.pop().resolve()
        if path in done or not _is_xml(path):
            continue
        done.add(path)
        for element, attributes in _elements(path):
            for name, value in attributes.items():
                is_file = name in FILE_ATTRIBUTES
                if is_file and SOCKET.fullmatch(value):
                    raise ScenarioNotAllowedError(
                        f"{path}: {element}: {value} is no file. Take it out."
                    )
                if is_file or value.startswith("/") or ".." in value or "${" in value:
                    _require_within(path, root, element, value)
                if name == "href" and _is_file(path.parent / value):
                    waiting.append(path.parent / value)


def _require_within(path: Path, root: Path, where: str, value: str) -> None:
    """SUMO takes a name from the folder of the file that has it, and puts variables in for ${}."""
    if "${" in value or "\x00" in value or not _is_within(path.parent / value, root):
        raise ScenarioNotAllowedError(
            f"{path}: {where}: {value} is outside of the allowed folder {root}. Put it there, "
            "with all files that it names."
        )


def _is_xml(path: Path) -> bool:
    return path.name.endswith((".xml", ".xml.gz", ".sumocfg", ".gz"))


def _elements(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each element with its attributes, and its text as the attribute `text`; in the order in which
    they end chunk by chunk. Raises ScenarioNotAllowedError for what is too large, has a DOCTYPE
    (which may name files) or is no XML.
    """
    found: list[tuple[str, dict[str, str]]] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        found.append((name, attributes))

    def text(data: str) -> None:
        if found and data.strip():
            found[-1][1]["text"] = found[-1][1].get("text", "") + data.strip()

    def doctype(*_: object) -> None:
        raise ScenarioNotAllowedError(f"{path}: has a DOCTYPE, which may name files. Take it out.")

    parser = expat.ParserCreate()
    parser.StartElementHandler = begin
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    for chunk in _chunks(path):
        try:
            parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            raise RoadsError(f"{path}: not readable as XML ({error}).") from error
        ready, found[:] = found[:-1], found[-1:]  # of the last one the text may still come
        yield from ready
    yield from found


def _chunks(path: Path) -> Iterator[bytes]:
    """The file unpacked, and an empty chunk at its end."""
    read = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                read += len(chunk)
                if read > MOST_BYTES:
                    raise ScenarioNotAllowedError(
                        f"{path}: is larger than {MOST_BYTES >> 20} MB unpacked."
                    )
                yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise RoadsError(f"{path}: cannot be read ({error}).") from error
    yield b""
