"""A street of two crossings in a row with a few vehicles, for the real SUMO."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headway.plants.sumo.scenarios import Scenario

TRIPS = [
    (0, "left0A0", "B0right0"), (2, "bottom0A0", "A0top0"), (4, "top1B0", "B0bottom1"),
    (5, "right0B0", "A0left0"), (9, "bottom0A0", "A0top0"),
    (10, "left0A0", "B0right0"), (12, "bottom1B0", "B0top1"), (14, "top0A0", "A0bottom0"),
    (15, "left0A0", "B0bottom1"), (18, "bottom1B0", "B0top1"),
]  # fmt: skip


@pytest.fixture(scope="session")
def two_crossings(tmp_path_factory) -> Scenario:
    """One minute and a half of it."""
    folder = tmp_path_factory.mktemp("crossings")
    net, routes, config = folder / "two.net.xml", folder / "two.rou.xml", folder / "two.sumocfg"
    tool = Path(sys.executable).parent / "netgenerate"
    subprocess.run(
        [tool, "--grid", "--grid.x-number", "2", "--grid.y-number", "1", "--grid.length", "150",
            "--grid.attach-length", "120", "--tls.guess", "true",
         "--tls.guess.threshold", "0", "--no-turnarounds", "-o", net],
        check=True, capture_output=True,
    )  # fmt: skip
    rows = "".join(
        f'<trip id="{k}" depart="{at}" from="{a}" to="{b}"/>' for k, (at, a, b) in enumerate(TRIPS)
    )
    routes.write_text(f"<routes>{rows}</routes>")
    config.write_text(
        f'<configuration><input><net-file value="{net.name}"/><route-files '
        f'value="{routes.name}"/></input></configuration>'
    )
    return Scenario("two", str(config), str(net), (str(routes),), 0.0, 90.0)
