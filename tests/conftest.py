"""Networks that several rooms test on."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
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
    """Where the embedded PostgreSQL keeps what another user must reach, when the tests run as root: pytest's own folders are closed to others."""
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


@pytest.fixture(scope="session")
def crossing_network(tmp_path_factory) -> Path:
    """A small grid with pedestrian crossings and bicycle lanes, by netgenerate."""
    out = tmp_path_factory.mktemp("net") / "walk.net.xml"
    tool = Path(sys.executable).parent / "netgenerate"
    subprocess.run(
        [tool, "--grid", "--grid.number", "2", "--grid.attach-length", "150", "--default.lanenumber", "2", "--crossings.guess", "--sidewalks.guess",
         "--bikelanes.guess", "--tls.guess", "true", "--tls.guess.threshold", "0", "--no-turnarounds", "-o", out],
        check=True, capture_output=True,
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def new_record(tmp_path_factory):
    """Makes addresses of empty records, for `open_database(folder, url)`: databases of their own on one PostgreSQL for all tests that share it.

    HEADWAY_TESTS_POSTGRES: address of a server that is there already, whose user may make databases; quicker where tests are run again and again.
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
