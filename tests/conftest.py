"""Networks that several rooms test on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, settings

settings.register_profile("no-shrinking", phases=[Phase.explicit, Phase.reuse, Phase.generate])  # for mutation testing: any failure will do


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
