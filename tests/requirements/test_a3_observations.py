"""Row A3: observations from other people's cameras and detectors."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from tests.waiting import until
from websockets.sync.client import connect

from headway.client import Headway


def now():
    return datetime.now(UTC).isoformat()


@pytest.mark.row("A3")
def test_a3_others_observations_steer_a_street(serve, tmp_path, figures):
    """`street: {sensing: external}`; `POST /api/v1/observations` and the socket of that name.
    `GET /api/v1/observations/sources` shows the weight of each source and how long its rows took.
    """
    config = tmp_path / "settings.yaml"
    config.write_text("street: {sensing: external}\n")
    options = (
        "--scenario",
        "cologne1",
        "--no-baseline",
        "--speed-factor",
        "1",
        "--per-minute",
        "0",
    )
    with serve(*options, "--config", str(config)) as product:
        headway = Headway(product.url, product.token)
        until(lambda: headway.streets()[0]["started"], 60)
        junction = headway.places()[0]
        approach = junction["approaches"][0]
        row = {"junction": junction["junction"], "approach": approach["road"], "at": now()}

        def send(**more):
            return headway.observe([row | {"at": now(), "quality": 0.9} | more])

        assert send(queue=4) == {"taken": 1, "cut": 0, "refused": []}
        until(lambda: headway.streets()[0]["vehicles"] == 4)
        other = {"at": now(), "junction": "nowhere", "approach": "north", "count": 1}
        answer = headway.observe([other, row | {"at": now(), "queue": 3}])
        assert (answer["taken"], answer["refused"][0]["index"]) == (1, 0)

        address = product.url.replace("http", "ws") + f"/api/v1/observations?token={product.token}"
        took = []
        with connect(address) as link:
            for _ in range(40):
                begun = time.perf_counter()
                link.send(json.dumps([row | {"at": now(), "queue": 4}]))
                assert json.loads(link.recv()) == {"taken": 1, "cut": 0, "refused": []}
                took.append((time.perf_counter() - begun) * 1e3)
                time.sleep(0.05)
        figures.add("answer to a message on the socket", statistics.median(took), "ms")
        until(lambda: headway.sources()[0]["taken"] >= 42)
        (source,) = headway.sources()
        assert source["source"] == "admin"
        assert source["condition"] == "trusted"
        figures.add("arrival to the street, p99", source["latency_p99_ms"], "ms", "< 100 ms")
        figures.add(
            "arrival to the next decision at a tick of 1 s, p99", source["decision_p99_ms"], "ms"
        )
        headway.close()


@pytest.mark.row("A3")
def test_a3_another_sumos_detectors_feed_a_street_over_http(tmp_path, figures):
    """`headway feed URL` reports the induction loops of a second SUMO to a street; `python -m bench
    external` runs it beside the same street with its own loops, and without any observation.
    """
    path = tmp_path / "figures.json"
    options = ("--seconds", "300", "--speed-factor", "15", "--json", str(path))
    command = [sys.executable, "-m", "bench", "external", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text())
    assert found["refused"] == 0
    assert found["condition"] == "trusted", "rows may come late on a busy machine"
    waits = found["wait_s"]
    assert waits["fed"] < 0.5 * waits["alone"]
    figures.add("wait a vehicle, fed by another SUMO's loops", waits["fed"], "s")
    figures.add("wait a vehicle, by the street's own loops", waits["own"], "s")
    figures.add("wait a vehicle, observed by nobody (the fallback)", waits["alone"], "s")
    figures.add("arrival to the street, fed, p99", found["p99_ms"], "ms", "< 100 ms")
