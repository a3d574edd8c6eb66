"""The commands, called in this process as the entry point calls them."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Ran:
    """What came of a command: its exit status, and the lines of both outputs."""

    status: int
    out: str
    err: str

    @property
    def rows(self):
        """Lines of the output that hold something, without the frames of tables."""
        found = [
            line.strip(" │┃┏┡└╭╰━─┓┩┘╮╯┳╇┴").replace("│", "|").replace("┃", "|")
            for line in self.out.splitlines()
        ]
        return [" | ".join(cell.strip() for cell in line.split("|")) for line in found if line]


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def headway(monkeypatch, capsys, tmp_path):
    """Calls `headway WORDS...` in an empty folder; what came of it.
    The handlers of signals are as they were afterwards.
    """
    from headway.cli import (
        kpp,
        main,
        registry,
        serve,
        vision,
    )  # here, so that what does not import fails the tests that need it, and not pytest itself

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    for name in [
        n
        for n in os.environ
        if n.startswith("HEADWAY_")
        and n not in ("HEADWAY_DATA", "HEADWAY_DATABASE_URL", "HEADWAY_STATE")
    ]:
        monkeypatch.delenv(name)
    for part in (
        importlib.import_module("headway.cli.simulation"),
        kpp,
        registry,
        serve,
        vision,
    ):
        monkeypatch.setattr(part.console, "width", 200)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["headway", *(str(w) for w in words)])
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = capsys.readouterr()
        return Ran(status, out, err)

    return run


@pytest.fixture
def record(tmp_path, new_record, monkeypatch):
    """The folder of an empty record that the commands find by themselves."""
    monkeypatch.setenv("HEADWAY_DATABASE_URL", new_record())
    return tmp_path / "data"


@pytest.fixture(scope="session")
def little(tmp_path_factory) -> Path:
    """A scenario of one signal-controlled crossing and two vehicles that depart at 0 and 5 s,
    of 40 s: its .sumocfg.
    """
    folder = tmp_path_factory.mktemp("little")
    tool = Path(sys.executable).parent / "netgenerate"
    subprocess.run(
        [tool, "--grid", "--grid.number", "1", "--grid.attach-length", "60", "--tls.set", "A0",
            "--no-turnarounds", "-o", folder / "little.net.xml"],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / "little.rou.xml").write_text(
        '<routes><route id="r" edges="left0A0 A0right0"/><vehicle id="a" route="r" '
        'depart="0"/><vehicle id="b" route="r" depart="5"/></routes>'
    )
    config = folder / "little.sumocfg"
    config.write_text(
        '<configuration><input><net-file value="little.net.xml"/><route-files '
        'value="little.rou.xml"/></input>'
        '<time><begin value="0"/><end value="40"/></time></configuration>'
    )
    return config
