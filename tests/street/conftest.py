"""Scenarios that last a minute: one signalised crossing of two streets, by netconvert."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def crossing(tmp_path_factory) -> Path:
    """The network: arms N, E, S, W of 150 m around the junction C, a lane each way, straight on alone."""
    folder = tmp_path_factory.mktemp("crossing")
    places = {"N": (0, 150), "E": (150, 0), "S": (0, -150), "W": (-150, 0)}
    nodes = "".join(f'<node id="{n}" x="{x}" y="{y}"/>' for n, (x, y) in places.items())
    edges = "".join(
        f'<edge id="{n}in" from="{n}" to="C" speed="13.9"/><edge id="{n}out" from="C" to="{n}" speed="13.9"/>'
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
    """Write a scenario on the crossing: (name, begin s, end s or "", trips as (id, depart s, from arm, to arm)) -> path of its .sumocfg."""

    def write(name, begin, end, trips) -> Path:
        folder = tmp_path_factory.mktemp("scenario")
        rows = "".join(
            f'<trip id="{i}" depart="{t}" from="{a}in" to="{b}out" departSpeed="max"/>'
            for i, t, a, b in trips
        )
        (folder / "routes.rou.xml").write_text(f"<routes>{rows}</routes>")
        path, until = folder / f"{name}.sumocfg", f'<end value="{end}"/>' if end != "" else ""
        path.write_text(
            f'<configuration><input><net-file value="{crossing}"/><route-files value="routes.rou.xml"/></input>'
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
