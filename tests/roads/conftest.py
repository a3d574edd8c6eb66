"""The crossroads by hand, read."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.plants.sumo import read_network
from headway.roads import Network
from tests.roads.builders import crossroads


@pytest.fixture(scope="session")
def crossroads_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("crossroads") / "crossroads.net.xml"
    path.write_text(crossroads())
    return path


@pytest.fixture(scope="session")
def crossroads_network(crossroads_file) -> Network:
    return read_network(crossroads_file)
