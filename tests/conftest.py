"""Networks and scenarios that several rooms test on."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
import structlog
from hypothesis import Phase, settings

settings.register_profile(
    "no-shrinking", phases=[Phase.explicit, Phase.reuse, Phase.generate]
)  # for mutation testing: any failure will do


for name in (
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "ftp_proxy",
):  # ours listen on this machine: nobody else is asked for them
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)
for name in (
    "FORCE_COLOR",
    "CLICOLOR_FORCE",
    "NO_COLOR",
    "COLUMNS",
    "LINES",
    "PY_COLORS",
):  # what commands print does not depend on who asks
    os.environ.pop(name, None)
os.umask(0o022)

OF_THE_DATABASE = {"new_record", "service", "database"}


def pytest_collection_modifyitems(items):
    """Tests that use the record's database carry its mark."""
    for item in items:
        if OF_THE_DATABASE & set(item.fixturenames):
            item.add_marker("database")


@pytest.fixture(scope="session", autouse=True)
def state():
    """Where the embedded PostgreSQL keeps what another user must reach, when the tests run as root:
    pytest's own folders are closed to others.
    """
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    place = next(p for p in places if all(q.stat().st_mode & stat.S_IXOTH for q in [p, *p.parents]))
    with (
        tempfile.TemporaryDirectory(prefix="headway-", dir=place) as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        patch.setenv("HEADWAY_STATE", name)
        yield folder


@pytest.fixture(autouse=True)
def logs_end_with_the_test():
    """What a test set up for the logs of the process: its streams are closed after it."""
    hook = threading.excepthook
    yield
    threading.excepthook = hook
    structlog.reset_defaults()
    for name in [n for n in logging.root.manager.loggerDict if n.split(".")[0] == "headway"]:
        logger = logging.getLogger(name)
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()


@pytest.fixture(scope="session")
def crossing_network(tmp_path_factory) -> Path:
    """A small grid with pedestrian crossings and bicycle lanes, by netgenerate."""
    out = tmp_path_factory.mktemp("net") / "walk.net.xml"
    tool = Path(sys.executable).parent / "netgenerate"
    subprocess.run(
        [tool, "--grid", "--grid.number", "2", "--grid.attach-length", "150",
            "--default.lanenumber", "2", "--crossings.guess", "--sidewalks.guess",
         "--bikelanes.guess", "--tls.guess", "true", "--tls.guess.threshold", "0",
         "--no-turnarounds", "-o", out],
        check=True, capture_output=True,
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def new_record(tmp_path_factory):
    """Makes addresses of empty records, for `open_database(folder, url)`:
    databases of their own on one PostgreSQL for all tests that share it.

    HEADWAY_TESTS_POSTGRES: address of a server that is there already, whose user may make
        databases; quicker where tests are run again and again.
    """
    from headway.store import (
        open_database,
    )  # here, so that what does not import fails the tests that need it, and not pytest itself

    given, first = os.environ.get("HEADWAY_TESTS_POSTGRES", ""), None
    if not given:
        first = open_database(tmp_path_factory.mktemp("postgres"))
        given = first.url
    address, names = sa.make_url(given).set(drivername="postgresql"), []
    with psycopg.connect(address.render_as_string(hide_password=False), autocommit=True) as server:
        if first is not None:  # what is gone after the tests need not reach the disk
            for statement in (
                "ALTER SYSTEM SET fsync = off",
                "ALTER SYSTEM SET synchronous_commit = off",
                "SELECT pg_reload_conf()",
            ):
                server.execute(statement)

        def make():
            names.append(f"record_{os.getpid()}_{len(names)}")
            server.execute(f"CREATE DATABASE {names[-1]}")
            return address.set(database=names[-1]).render_as_string(hide_password=False)

        yield make
        for name in names if first is None else []:
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    if first is not None:
        first.close()


@pytest.fixture(scope="session")
def crossing(tmp_path_factory) -> Path:
    """The network: arms N, E, S, W of 150 m around the junction C, a lane each way,
    straight on alone.
    """
    folder = tmp_path_factory.mktemp("crossing")
    places = {"N": (0, 150), "E": (150, 0), "S": (0, -150), "W": (-150, 0)}
    nodes = "".join(f'<node id="{n}" x="{x}" y="{y}"/>' for n, (x, y) in places.items())
    edges = "".join(
        f'<edge id="{n}in" from="{n}" to="C" speed="13.9"/><edge id="{n}out" from="C" '
        f'to="{n}" speed="13.9"/>'
        for n in places
    )
    ways = "".join(f'<connection from="{a}in" to="{b}out"/>' for a, b in ("NS", "SN", "EW", "WE"))
    (folder / "c.nod.xml").write_text(
        f'<nodes><node id="C" x="0" y="0" type="traffic_light"/>{nodes}</nodes>'
    )
    (folder / "c.edg.xml").write_text(f"<edges>{edges}</edges>")
    (folder / "c.con.xml").write_text(f"<connections>{ways}</connections>")
    out = folder / "c.net.xml"
    files = [
        x
        for kind, end in (("node", "nod"), ("edge", "edg"), ("connection", "con"))
        for x in (f"--{kind}-files", str(folder / f"c.{end}.xml"))
    ]
    subprocess.run(
        [
            Path(sys.executable).parent / "netconvert",
            *files,
            "--offset.disable-normalization",
            "true",
            "-o",
            out,
        ],
        check=True,
        capture_output=True,
    )
    return out


@pytest.fixture(scope="session")
def scenario_of(crossing, tmp_path_factory):
    """Write a scenario on the crossing: (name, begin s, end s or "", trips as (id, depart s,
    from arm, to arm)) -> path of its .sumocfg.
    """

    def write(name, begin, end, trips) -> Path:
        folder = tmp_path_factory.mktemp("scenario")
        rows = "".join(
            f'<trip id="{i}" depart="{t}" from="{a}in" to="{b}out" departSpeed="max"/>'
            for i, t, a, b in trips
        )
        (folder / "routes.rou.xml").write_text(f"<routes>{rows}</routes>")
        path, until = folder / f"{name}.sumocfg", f'<end value="{end}"/>' if end != "" else ""
        path.write_text(
            f'<configuration><input><net-file value="{crossing}"/><route-files '
            'value="routes.rou.xml"/></input>'
            f'<time><begin value="{begin}"/>{until}</time></configuration>'
        )
        return path

    return write


@pytest.fixture(scope="session")
def tiny(scenario_of) -> str:
    """From 100 to 160 s: a vehicle from the north every 4 s, and one from the west."""
    return str(
        scenario_of(
            "tiny",
            100,
            160,
            sorted(
                [*((f"n{k}", 100 + 4 * k, "N", "S") for k in range(13)), ("w", 125, "W", "E")],
                key=lambda t: t[1],
            ),
        )
    )


@pytest.fixture(scope="session")
def early(scenario_of) -> str:
    """From 0 to 20 s: one vehicle."""
    return str(scenario_of("early", 0, 20, [("e", 1, "E", "W")]))


@pytest.fixture
def logged(tmp_path):
    """Lines that the log of a component has written since, as dicts without their time."""
    from headway import telemetry

    folder = tmp_path / "logs"
    telemetry.set_up("debug", True, str(folder))

    def lines(component):
        file = folder / f"{component}.log"
        found = (
            [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        )
        return [
            {k: v for k, v in line.items() if k not in ("timestamp", "logger")} for line in found
        ]

    return lines
