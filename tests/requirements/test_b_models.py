"""Rows B1 and B2: predictions and models over HTTP, with a worker that trains beside the street."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from functools import cache

import httpx
import jsonschema_rs
import numpy as np
import pytest
from tests.requirements.own_processes import cpu_s, family, resident_kb
from tests.waiting import until

from headway.plants.sumo import network_of
from headway.plants.sumo.scenarios import scenario

LONG, SHORT = "/api/v1/ml", "/ml"
READY_WITHIN_S = 300.0  # on a new machine what predicts is compiled
BATCH = 1000
SETTINGS = """
model_watch: {{every_s: 3}}
api: {{per_minute: 0}}
sumo: {{folders: [{folder}]}}
"""


@pytest.fixture(scope="module")
def models(serve, tmp_path_factory):
    """A service with cologne1 and its fixed time, whose models are looked at every 3 s."""
    folder = tmp_path_factory.getbasetemp()
    config = tmp_path_factory.mktemp("models") / "headway.yaml"
    config.write_text(SETTINGS.format(folder=folder))
    with serve("--scenario", "cologne1", "--config", str(config)) as running:
        yield running


@pytest.fixture(scope="module")
def client(models):
    with models.http() as http:
        until(lambda: state(http).get("junctions"), READY_WITHIN_S)
        yield http


def state(client):
    answer = client.get("/api/v1/engine/streets/headway")
    return answer.json() if answer.status_code == 200 else {}


@pytest.fixture
def ask(client):
    """The answer to a request under /ml, once it is of the shape that the OpenAPI document has."""

    @cache
    def document():
        return client.get("/openapi.json").json()

    def ask(method, path, route="", expect=200, **more):
        answer = client.request(method, f"{SHORT}{path}", **more)
        assert answer.status_code == expect, answer.text
        of = document()["paths"][f"{LONG}{route or path}"][method.lower()]["responses"]
        schema = of[str(expect)]["content"]["application/json"]["schema"]
        jsonschema_rs.validate(schema | {"components": document()["components"]}, answer.json())
        return answer.json()

    return ask


def register(headway, product, path, name):
    """A file of planner's figures as a version of a model, by the command line."""
    done = headway(
        "registry", "add", str(path), "--name", name, "--kind", "planner", "--data",
        str(product.folder), HEADWAY_DATABASE_URL=product.database_url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def observation(vehicles=8):
    """Of the junction of cologne1, as other people's detectors might report it."""
    network = network_of(scenario("cologne1"))
    (junction,) = network.junctions
    links = [link for link in network.links if link.group >= 0]
    rows = [
        {
            "lane": network.lanes[links[k % len(links)].from_lane].id,
            "distance_m": 2.0 + 7.5 * (k // len(links)),
            "waited_s": 20.0,
        }
        for k in range(vehicles)
    ]
    return {"junction": junction.id, "vehicles": rows}


def champion(ask, junction):
    """The label of the model that decides at a junction, as it is entered; None for none."""
    found = ask("GET", f"/status/{junction}", "/status/{intersection_id}")["champion"]
    return found and found["label"]


def took_s(act):
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


@pytest.mark.row("B1")
def test_b1_each_route_of_models_answers_as_documented(
    models, client, ask, headway, tmp_path, figures
):
    """`POST /ml/predict` with an observation: stage, seconds, confidence with its factors,
    alternatives, and why; `/ml/predict/batch` for 1,000 at once. Each route of `/ml` answers in the
    shape that the OpenAPI document has for `/api/v1/ml`, which is the same.
    """
    seen = observation()
    until(lambda: client.post("/ml/predict", json=seen).status_code == 200, READY_WITHIN_S)
    found = ask("POST", "/predict", json=seen)
    assert found["junction"] == seen["junction"]
    assert found["confidence"] == pytest.approx(np.prod(list(found["factors"].values())), abs=1e-3)
    delays = [one["expected_delay_s"] for one in found["alternatives"]]
    assert delays == sorted(delays)
    assert found["alternatives"][0]["stage"] == found["stage"]
    took_ms = [1e3 * took_s(lambda: client.post("/ml/predict", json=seen)) for _ in range(200)]
    figures.add("one prediction, median of 200", float(np.median(took_ms)), "ms", "< 50 ms")
    figures.add("its 99th percentile", float(np.percentile(took_ms, 99)), "ms", "< 50 ms")
    batch = [seen] * BATCH
    assert ask("POST", "/predict/batch", json=batch) == [found] * BATCH
    batch_s = [took_s(lambda: client.post("/ml/predict/batch", json=batch)) for _ in range(5)]
    rate = BATCH / float(np.median(batch_s))
    figures.add("predictions by batches of 1,000", rate, "1/s", ">= 1,000")
    figures.add("a batch of 1,000, slowest of 5", max(batch_s), "s", "< 5 s")

    junction = seen["junction"]
    at = "/{intersection_id}"
    job = {"kind": "train", "arguments": {"scenario": "cologne1", "name": "never"}}
    ordered = ask("POST", "/train", expect=202, json=job)
    assert (ordered["kind"], ordered["state"]) == ("train", "waiting")
    assert ask("DELETE", f"/jobs/{ordered['id']}", "/jobs/{id}")["state"] == "cancelled"
    (tmp_path / "own.yaml").write_text("planner: {headway_s: 2.1}\n")
    register(headway, models, tmp_path / "own.yaml", "b1")
    (version,) = ask("GET", "/models", params={"name": "b1"})["items"]
    one = f"/deploy/{version['id']}", "/deploy/{model_id}"
    assert ask("POST", *one, json={"mode": "all"})["state"] == "applied"
    until(lambda: champion(ask, junction) == "b1@1")
    rolled = ask("POST", f"/rollback/{junction}", f"/rollback{at}", json={"model": "b1@1"})
    assert rolled["state"] == "applied"
    until(lambda: client.get(f"/ml/metrics/{junction}").status_code == 200)
    watched = ask("GET", f"/metrics/{junction}", f"/metrics{at}")
    many = ask("POST", "/metrics", json={"intersections": [junction]})
    assert many[0].keys() == watched.keys() >= {"checks", "calibration", "quality", "latency"}
    assert ask("GET", f"/performance/{junction}", f"/performance{at}")["vehicles"] >= 0
    assert {s["street"] for s in ask("GET", "/health")["streets"]} == {"headway", "baseline"}
    assert client.get("/health").json()["status"] in ("ok", "degraded")


class Watch:
    """Asks whether the service is up, twenty times a second, and what all of its processes take."""

    def __init__(self, url, pids):
        self.asked, self.up, self.peak_kb = 0, 0, 0
        self._url, self._pids, self._stop = url, pids, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.wait(0.05):
            self.asked += 1
            with contextlib.suppress(httpx.TransportError):
                self.up += httpx.get(f"{self._url}/health", timeout=1.0).status_code == 200
            running = [child for pid in self._pids for child in family(pid)]
            self.peak_kb = max(self.peak_kb, sum(map(resident_kb, running)))


@pytest.mark.row("B2")
def test_b2_versions_are_trained_deployed_and_rolled_back_while_the_street_runs(
    models, client, ask, headway, shortened, tmp_path, figures
):
    """`POST /ml/train` orders a training that `headway worker` does in a process of its own:
    `GET /ml/jobs/{id}` has its progress, and the version it made. `POST /ml/deploy/{model_id}` and
    `/ml/rollback/{intersection_id}` are in force from the next tick on.
    """
    seen = observation()
    until(lambda: client.post("/ml/predict", json=seen).status_code == 200, READY_WITHIN_S)
    junction = seen["junction"]
    short = shortened("cologne1", 120)
    job = {"scenario": str(short), "name": "b2-table", "episodes": 16}
    ordered = ask("POST", "/train", expect=202, json={"kind": "train", "arguments": job})

    command = ("worker", "--until-idle", "--data", str(models.folder))
    with subprocess.Popen(
        [sys.executable, "-m", "headway", *command],
        env=os.environ | {"HEADWAY_DATABASE_URL": models.database_url}, stdout=subprocess.DEVNULL,
    ) as worker, Watch(models.url, (models.process.pid, worker.pid)) as watch:  # fmt: skip
        progress = []

        def has_ended():
            found = ask("GET", f"/jobs/{ordered['id']}", "/jobs/{id}")
            progress.append(found["progress"])
            return found["state"] not in ("waiting", "running")

        until(has_ended, READY_WITHIN_S)
        assert worker.wait(60) == 0
        done = ask("GET", f"/jobs/{ordered['id']}", "/jobs/{id}")
        assert (done["state"], done["progress"]) == ("done", 1.0), done["error"]
        assert progress == sorted(progress)
        assert any(0.0 < share < 1.0 for share in progress)
        table = ask("GET", f"/models/{done['version_id']}", "/models/{model_id}")
        assert table["label"] == "b2-table@1"
        assert table["model"]["metrics"]["episodes"] == 16
        assert table["model"]["made_from"]["seeds"] == list(range(1000, 1016))

        # two versions of another model in turn, and back
        for number, headway_s in ((1, 2.1), (2, 2.2)):
            path = tmp_path / f"{number}.yaml"
            path.write_text(f"planner: {{headway_s: {headway_s}}}\n")
            register(headway, models, path, "b2-own")
        newer, older = ask("GET", "/models", params={"name": "b2-own"})["items"]
        assert (newer["version"], older["version"]) == (2, 1)
        in_force_s = []

        def change(path, route, body, label):
            begun = time.perf_counter()
            assert ask("POST", path, route, json=body)["state"] == "applied"
            in_force_s.append(time.perf_counter() - begun)
            until(lambda: champion(ask, junction) == label)

        for version in (older, newer):
            label = f"b2-own@{version['version']}"
            change(f"/deploy/{version['id']}", "/deploy/{model_id}", {"mode": "all"}, label)
        for label in ("b2-own@1", None):
            change(f"/rollback/{junction}", "/rollback/{intersection_id}", {}, label)
        predict_ms = [
            1e3 * took_s(lambda: client.post("/ml/predict", json=seen)) for _ in range(100)
        ]
    assert state(client)["controller"] == "planner"

    begun, before = time.perf_counter(), used_s(models)
    time.sleep(5.0)
    share = 100.0 * (used_s(models) - before) / (time.perf_counter() - begun)
    figures.add(
        "prediction, 99th percentile", float(np.percentile(predict_ms, 99)), "ms", "< 100 ms"
    )
    figures.add("a deployment or roll-back, slowest of 4", max(in_force_s), "s")
    name = "service, two streets and the worker, peak"
    figures.add(name, watch.peak_kb * 1024 / 1e6, "MB", "< 2 GB")
    name = "processor: service and two streets at ten times real time, of one core"
    figures.add(name, share, "%", "< 60 %")
    up = 100.0 * watch.up / watch.asked
    figures.add(f"up, of {watch.asked} questions meanwhile", up, "%", ">= 99.9 %")


def used_s(product):
    return sum(map(cpu_s, family(product.process.pid)))
