"""A real server on a real database, for the tests:
uvicorn in a thread of this process, httpx as its client.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import uvicorn

from headway.api.app import create_app
from headway.api.connections import HttpConnection
from headway.api.security import Role
from headway.api.services import ApiSettings
from headway.api.sockets import Connection
from headway.settings import CameraSettings
from headway.store import open_database

# loaded now: anyio does it at first use, and where two threads compile at once Python 3.11 fails
# (its issue 106905)
OPEN_FILE = anyio.open_file

EXAMPLE = {
    "simulation_id": "SIM_1", "timestamp": "2025-09-10T23:20:00Z", "intersection_id": "INT_1",
    "signals": [{
        "direction": "north", "vehicle_counts": {"car": 78, "bus": 0},
        "emergency_vehicle_present": False, "signal_status": "GREEN", "signal_timer": 18,
        "vehicles_crossed": 35, "avg_wait_time": 12.5, "green_time_allocated": 20,
    }],
    "metrics": {
        "total_vehicles_passed": 104, "avg_wait_time_all_sides": 20.6, "throughput": 0.87,
        "avg_speed": 28.3, "fuel_saved": 1.2, "co2_saved": 3.8,
        "emergency_overrides": 0,
    },
}  # fmt: skip


def record(simulation="SIM_1", second=0, junction="INT_1", wait=20.6, **more):
    metrics = EXAMPLE["metrics"] | {"avg_wait_time_all_sides": wait}
    stamp = f"2025-09-10T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"
    return (
        EXAMPLE
        | {
            "simulation_id": simulation,
            "timestamp": stamp,
            "intersection_id": junction,
            "metrics": metrics,
        }
        | more
    )


def pages(client, path, **query):
    """All items of a list by its cursors; each page has the total."""
    items, cursor, totals = [], "", set()
    while cursor is not None:
        answer = client.get(path, params=query | {"cursor": cursor})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert len(body["items"]) <= query.get("limit", 100)
        items += body["items"]
        totals.add(body["total"])
        linked = answer.links.get("next", {}).get("url")
        assert (linked is None) == (body["next"] is None)
        if linked:
            assert client.get(linked).json()["items"]
        cursor = body["next"]
    assert totals == {len(items)}
    return items


class Service:
    """A running server. `token(role)`, `client(role)`."""

    def __init__(self, app, url):
        self.app, self.url = app, url

    def token(self, role="admin", lasts_s=3600.0):
        return self.app.state.services.keyring.token(f"a-{role}", Role[role.upper()], lasts_s)

    def client(self, role="admin"):
        headers = {"Authorization": f"Bearer {self.token(role)}"} if role else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0)


# cameras of tests are on this machine
HERE = CameraSettings(allowed_networks=("127.0.0.0/8",))
OF_TESTS: dict[str, Any] = {"per_minute": 0, "cache_s": 0.0, "cameras": HERE}


@contextlib.contextmanager
def serving(folder: Path, service=None, url="", **settings) -> Iterator[Service]:
    database = open_database(folder, url)
    app = create_app(ApiSettings(folder, **(OF_TESTS | settings)), database, service)
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    port = listening.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", http=HttpConnection, ws=Connection)
    )
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        yield Service(app, f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
        database.close()


@contextlib.contextmanager
def swapped(state, name, value):
    """Another value of the application's state for a while.
    (pytest's monkeypatch would take it away at the end.)
    """
    old = getattr(state, name)
    setattr(state, name, value)
    try:
        yield
    finally:
        setattr(state, name, old)
