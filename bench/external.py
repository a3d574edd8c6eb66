"""A street that others observe: beside the same street with loops of its own, and without anybody
who observes it.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn

from headway.api.app import create_app
from headway.api.security import Keyring, Role
from headway.api.services import ApiSettings
from headway.api.sockets import Connection
from headway.client import Headway
from headway.plants.sumo import scenario
from headway.service.streets import StreetService
from headway.settings import load, overridden
from headway.store import open_database
from headway.street.messages import Task

STREETS = {"fed": "external", "own": "loops", "alone": "external"}  # by name, what observes it
SLOW = 0.2  # street's seconds a second, until the feed is there
STOPPED_BELOW_MPS = 0.1


def external(arguments: Sequence[str] = ()) -> None:
    """A street fed over HTTP by another SUMO's detectors, beside its own loops and its fallback."""
    parser = argparse.ArgumentParser(prog="python -m bench external")
    parser.add_argument("--scenario", default="ingolstadt1")
    parser.add_argument("--equipment", default="loops", choices=("loops", "camera"))
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--speed-factor", type=float, default=10.0)
    parser.add_argument("--json", default="", help="write the figures to this file")
    asked = parser.parse_args(list(arguments))
    with TemporaryDirectory() as folder:
        found = measured(Path(folder), asked)
    if asked.json:
        Path(asked.json).write_text(json.dumps(found))
    print(f"{asked.scenario}, {asked.seconds:.0f} s, seconds that a vehicle stands, mean:")
    for name, figure in found["wait_s"].items():
        print(f"  {name:6} {figure:7.2f}")
    print(f"arrival to next decision: p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms")
    print(f"rows taken {found['taken']}, refused {found['refused']}, weight {found['weight']}")


def measured(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Standing vehicles of each street, and the figures of the feed's source."""
    database = open_database(folder)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"

    def streets(publish: Any, intake: Any) -> StreetService:
        service = StreetService(publish, intake)
        for name, sensing in STREETS.items():
            service.start(name, Task(settings_of(asked.scenario, sensing, folder / name)))
        return service

    app = create_app(ApiSettings(folder, per_minute=0), database, streets)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", ws=Connection)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        keyring = Keyring(folder / "keys.json")
        while not server.started:
            time.sleep(0.05)
        with Headway(url, keyring.token("bench", Role.ADMIN)) as headway:
            return run(headway, url, keyring.token("loops", Role.SOURCE), asked)
    finally:
        server.should_exit = True
        thread.join(30)
        database.close()


def settings_of(name: str, sensing: str, folder: Path) -> Any:
    changes = {
        "street": {"scenario": name, "sensing": sensing},
        "loop": {"speed_factor": SLOW},
        "recovery": {"folder": str(folder)},
    }
    return overridden(load(), changes)


def run(headway: Headway, url: str, token: str, asked: argparse.Namespace) -> dict[str, Any]:
    until_s = scenario(asked.scenario).begin_s + asked.seconds
    command = [sys.executable, "-m", "headway", "feed", url, "--street", "fed"]
    command += ["--token", token, "--equipment", asked.equipment]
    feed = subprocess.Popen([*command, "--until", str(until_s)])
    while not headway.sources("fed"):
        time.sleep(0.2)
    for name in STREETS:
        path = f"/api/v1/engine/streets/{name}/optimisation"
        headway.call("POST", path, body={"speed_factor": asked.speed_factor})
    wait_s = mean_waits(headway, until_s)
    (source,) = headway.sources("fed")
    feed.wait(60)
    return {
        "wait_s": wait_s,
        "p50_ms": source["latency_p50_ms"],
        "p99_ms": source["latency_p99_ms"],
        "taken": source["taken"],
        "refused": source["refused"],
        "weight": source["weight"],
        "condition": source["condition"],
    }


def mean_waits(headway: Headway, until_s: float) -> dict[str, float]:
    """Seconds that a vehicle stands, mean over all that there were, by street: whoever observes
    them.
    """
    stood_s = defaultdict[str, float](float)
    vehicles = defaultdict[str, set[int]](set)
    last = dict[str, float]()
    for message in headway.listen("realtime"):
        name, state = message["street"], message["data"]
        if "scene" not in state:
            continue
        now_s = state["time_s"]
        stopped = sum(v < STOPPED_BELOW_MPS for v in state["scene"]["speed"])
        stood_s[name] += stopped * (now_s - last.get(name, now_s))
        vehicles[name].update(state["scene"]["id"])
        last[name] = now_s
        if len(last) == len(STREETS) and min(last.values()) >= until_s:
            break
    return {name: round(stood_s[name] / len(vehicles[name]), 2) for name in STREETS}
