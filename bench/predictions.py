"""Predictions over HTTP, on a service that runs a street."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import httpx
import numpy as np

from headway.plants.sumo import network_of
from headway.plants.sumo.scenarios import scenario

SCENARIO = "cologne8"
SINGLE, BATCHES, BATCH = 1000, 10, 1000
VEHICLES = (8, 20)  # of an observation: at a junction of this scenario's hour, and at a full one
MADE_WITHIN_S = 300.0  # on a new machine what predicts is compiled


def predictions() -> None:
    """p99 of `POST /ml/predict` (< 10 ms asked), one client; predictions/s by batches of 1,000
    (>= 2,000 asked) and the time of a batch (< 1 s asked); the street runs beside it all.
    """
    with _service() as client:
        _wait(client, _observations(1)[0])
        for vehicles in VEHICLES:
            seen = _observations(vehicles)
            took_ms = [
                1e3 * _took_s(client, "/predict", seen[k % len(seen)]) for k in range(SINGLE)
            ]
            p50, p99 = np.percentile(took_ms, (50, 99))
            batch = [seen[k % len(seen)] for k in range(BATCH)]
            batches_s = [_took_s(client, "/predict/batch", batch) for _ in range(BATCHES)]
            print(
                f"predict over HTTP ({SCENARIO}, {vehicles} vehicles): p50 {p50:.1f} ms, p99 "
                f"{p99:.1f} ms; batches of {BATCH}: {BATCH / np.median(batches_s):.0f}/s, slowest "
                f"{max(batches_s):.2f} s"
            )


def _wait(client: httpx.Client, seen: dict[str, object]) -> None:
    give_up_s = time.monotonic() + MADE_WITHIN_S
    while (answer := client.post("/predict", json=seen)).status_code != 200:
        if time.monotonic() > give_up_s:
            raise RuntimeError(answer.text)
        time.sleep(1.0)


def _took_s(client: httpx.Client, path: str, body: object) -> float:
    begun_s = time.perf_counter()
    client.post(path, json=body).raise_for_status()
    return time.perf_counter() - begun_s


def _observations(count: int) -> list[dict[str, object]]:
    """One of each junction: vehicles that wait and that come, on its lanes in turn."""
    network = network_of(scenario(SCENARIO))
    found: list[dict[str, object]] = []
    for junction in network.junctions:
        own = range(junction.first, junction.end)
        links = [link for link in network.links if link.group in own]
        vehicles = [
            {
                "lane": network.lanes[links[k % len(links)].from_lane].id,
                "group": int(links[k % len(links)].group - junction.first),
                "distance_m": 2.0 + 7.5 * (k // len(links)),
                "speed_mps": 0.0 if k % 3 else 8.0,
                "waited_s": 20.0 if k % 3 else 0.0,
            }
            for k in range(count)
        ]
        found.append({"junction": junction.id, "vehicles": vehicles})
    return found


@contextmanager
def _service() -> Iterator[httpx.Client]:
    with TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        words = ["serve", "--data", folder, "--port", str(port), "--scenario", SCENARIO]
        words += ["--no-baseline", "--speed-factor", "1", "--per-minute", "0"]
        process = subprocess.Popen(
            [sys.executable, "-m", "headway", *words], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            token = process.stdout.readline().strip().split("token=")[1]
            url = f"http://127.0.0.1:{port}"
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(headers=headers, timeout=120.0) as client:
                while client.get(f"{url}/health/ready").status_code != 200:
                    time.sleep(0.5)
                client.base_url = httpx.URL(f"{url}/api/v1/ml")
                yield client
        finally:
            process.terminate()
            process.wait(60)
            process.stdout.close()
