from __future__ import annotations

import pytest

from headway.store import open_database
from tests.api.service import serving


@pytest.fixture(scope="module")
def service(tmp_path_factory, new_record):
    with serving(tmp_path_factory.mktemp("api"), url=new_record()) as running:
        yield running


@pytest.fixture(scope="module")
def database(tmp_path_factory, new_record):
    """A record of its own, empty at first."""
    found = open_database(tmp_path_factory.mktemp("record"), new_record())
    yield found
    found.close()
