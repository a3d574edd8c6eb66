"""Rows A13, A19 and B10 to B12: many junctions over processes, one service of several, compose,
Kubernetes, and an update with a way back.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml
from tests.api.service import record
from tests.deploy import policy
from tests.deploy.manifests import base, generate, validate
from tests.deploy.site import DEPLOY, Site
from tests.ports import free_port
from tests.requirements.own_processes import cpu_s
from tests.waiting import until

import headway as package

STREETS = ("headway", "baseline")
WATCHED_S = 5.0
NEWER = "99.0.0"


def junctions_of(client, street):
    answer = client.get(f"/api/v1/engine/streets/{street}")
    return answer.json().get("junctions") or [] if answer.status_code == 200 else []


@pytest.mark.row("A13")
def test_a13_streets_of_many_junctions_share_the_processors(serve, figures):
    """`headway serve`: each street is decided in a process of its own, of which
    `GET /api/v1/monitoring/system` has processor time and memory. Here two streets of 21 junctions
    in real time, at the begin of their demand.
    """
    options = ("--scenario", "ingolstadt21", "--speed-factor", "1", "--per-minute", "0")
    with serve(*options) as product, product.http() as client:
        until(lambda: all(junctions_of(client, name) for name in STREETS), 300.0)
        junctions = sum(len(junctions_of(client, name)) for name in STREETS)
        found = {}

        def is_looked_at():
            found.update(client.get("/api/v1/monitoring/system").json()["processes"] or {})
            return found.keys() >= set(STREETS)

        until(is_looked_at)
        pids = {name: found[name]["pid"] for name in STREETS}
        assert len({*pids.values(), product.process.pid}) == 3
        pids["service"] = product.process.pid
        begun, before = time.perf_counter(), {name: cpu_s(pid) for name, pid in pids.items()}
        time.sleep(WATCHED_S)
        took_s = time.perf_counter() - begun
        used = {name: (cpu_s(pid) - before[name]) / took_s for name, pid in pids.items()}
    assert junctions == 42
    of = f"of {os.cpu_count()} processors"
    share = 100.0 * sum(used.values()) / (os.cpu_count() or 1)
    figures.add(f"service and two streets of 21 junctions in real time, {of}", share, "%", "< 50 %")
    busiest = 100.0 * max(used[name] for name in STREETS)
    figures.add("the busier street, of one processor", busiest, "%")


@pytest.fixture(scope="module")
def site(tmp_path_factory, new_record):
    """Valkey and two API processes in production, with the files that compose mounts."""
    found = Site(tmp_path_factory.mktemp("site"), new_record())
    try:
        found.start_services()
        for name in ("a", "b"):
            until(lambda name=name: found.is_ready(name))
        yield found
    finally:
        for name in list(found.running):
            found.stop(name)


def client_of(site, name):
    return httpx.Client(base_url=f"http://{site.at(name)}", headers=site.headers(), timeout=60.0)


def roles_of(commands):
    """What `headway` is called for: one word, of `db` two."""
    return {" ".join(words[: 1 + (words[0] == "db")]) for words in commands}


@pytest.mark.row("A19")
def test_a19_alone_and_as_separate_processes_of_one_service(site, headway, tmp_path, figures):
    """Standalone: `headway run`, without database or server. As services: `headway serve` more than
    once on one `HEADWAY_DATABASE_URL` and `HEADWAY_REDIS_URL`, and `headway worker`: what one
    process takes, or has to tell, the others have. In containers (`make image`, `deploy/compose`)
    and pods (`deploy/kubernetes`) the same commands run.
    """
    begun = time.perf_counter()
    data = str(tmp_path / "alone")
    done = headway("run", "--scenario", "cologne1", "--until", "25260", "--data", data)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "alone" / "events.jsonl").exists()
    figures.add("a minute of cologne1, alone, with its start", time.perf_counter() - begun, "s")

    with client_of(site, "a") as a, client_of(site, "b") as b:
        assert a.post("/api/v1/ingest/simulation", json=record("A19")).status_code == 201
        with b.stream("GET", "/stream/monitoring") as events:
            lines, give_up_s = events.iter_lines(), time.monotonic() + 60.0
            next(lines)
            begun = time.perf_counter()
            asked = threading.Thread(target=a.post, args=("/api/v1/admin/upkeep/backup",))
            asked.start()
            heard = next(x for x in lines if "backup" in x or time.monotonic() > give_up_s)
            assert "backup" in heard, "told by the other, over Valkey"
            figures.add(
                "a backup, until the other process tells of it", time.perf_counter() - begun, "s"
            )
            asked.join()
        found = b.get("/api/v1/analytics/simulation/A19/summary").json()
        assert found["records"] == 1

    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
    services = [s for s in compose["services"].values() if "/headway:" in s["image"]]
    composed = roles_of(s["command"] for s in services if "entrypoint" not in s)
    images = ("headway", "headway:0.1.0")
    clustered = roles_of(
        container["args"]
        for _, _, spec, _ in policy.pods(base())
        for container in spec["containers"]
        if container["image"] in images
    )
    assert composed == {"serve", "street", "worker", "db migrate"}
    assert clustered == composed | {"db upkeep"}, "of compose the API has the schedule"


@pytest.mark.row("B10")
def test_b10_what_compose_starts_is_backed_up_destroyed_and_restored(site, figures):
    """`deploy/compose`: `./make-secrets`, `docker compose up`. Here its two API processes and
    Valkey, with its own files, in production: a backup, the tables destroyed, a restore with equal
    counts; none onto a service that runs. `make test-deploy` adds nginx with TLS, Prometheus,
    Alertmanager, and PostgreSQL with its archive.
    """
    rows = [record("B10", second=second) for second in range(200)]
    with client_of(site, "a") as client:
        assert client.post("/api/v1/ingest/batch", json=rows).status_code == 201
        begun = time.perf_counter()
        answer = client.post("/api/v1/admin/upkeep/backup")
        assert answer.status_code == 200, answer.text
        taken = site.folder / "backups" / Path(answer.json()["data"]["file"]).name
        figures.add("backup", time.perf_counter() - begun, "s")
    assert b"B10" not in taken.read_bytes(), "sealed"

    def count():
        with psycopg.connect(site.database_url) as link:
            query = "SELECT count(*) FROM simulation_record WHERE simulation_id = 'B10'"
            return link.execute(query).fetchone()[0]

    restore = ("db", "restore", taken, "--key", site.secrets / "backup_key")
    restore += ("--data", site.folder / "a")
    status, said = site.headway(*restore)
    assert (status, count()) == (1, 200), said
    for name in ("a", "b"):
        site.stop(name)
    with psycopg.connect(site.database_url, autocommit=True) as link:
        link.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    begun = time.perf_counter()
    status, said = site.headway(*restore)
    assert (status, count()) == (0, 200), said
    figures.add("restore", time.perf_counter() - begun, "s")
    site.start_api("a")
    until(lambda: site.is_ready("a"))
    with client_of(site, "a") as client:
        found = client.get("/api/v1/analytics/simulation/B10/summary").json()
    assert found["records"] == 200

    file, compose = DEPLOY / "compose" / "compose.yaml", ("docker", "compose")
    if (
        shutil.which("docker")
        and subprocess.run([*compose, "version"], check=False).returncode == 0
    ):
        words = (*compose, "--file", str(file), "--profile", "*", "config", "--quiet")
        subprocess.run(words, check=True)


@pytest.mark.row("B11")
def test_b11_kubernetes_would_take_each_resource_and_each_pod_keeps_to_the_policy(figures):
    """`kubectl kustomize deploy/kubernetes/overlays/small` (or `production`): namespace, secrets by
    reference, volumes, deployments with probes, autoscaling, ingress with TLS, monitoring.
    """
    has_kubectl = shutil.which("kubectl") is not None
    overlays = ("small", "production") if has_kubectl else ("base",)
    for overlay in overlays:
        resources = generate().rendered(overlay) if has_kubectl else base()
        for resource in resources:
            validate(resource)
        assert policy.faults(resources) == []
        kinds = {resource["kind"] for resource in resources}
        assert kinds >= {
            "Namespace", "ExternalSecret", "PersistentVolumeClaim", "Deployment", "StatefulSet",
            "HorizontalPodAutoscaler", "Ingress", "Certificate", "ServiceMonitor",
            "PrometheusRule", "NetworkPolicy", "PodDisruptionBudget",
        }  # fmt: skip
        (ingress,) = (r for r in resources if r["kind"] == "Ingress")
        assert ingress["spec"]["tls"]
        figures.add(f"resources that are taken, {overlay}", len(resources))
        figures.add(f"pods that keep to the policy, {overlay}", len(list(policy.pods(resources))))


class Installation:
    """Releases in folders, the link `current`, and a service that is started from it."""

    def __init__(self, folder, database_url):
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = os.environ | {"HEADWAY_DATABASE_URL": database_url}
        (folder / "data").mkdir()
        for name, version in (("1", package.__version__), ("2", NEWER), ("3", "99.0.1")):
            self._release(name, version)
        broken = folder / "3" / "bin" / "headway"
        text = broken.read_text(encoding="utf-8")
        broken.write_text(text.replace("export", '[ "$1" != serve ] || exit 1\nexport'))
        (folder / "current").symlink_to(folder / "1")
        service = f"current/bin/headway serve --scenario '' --port {self.port} --data data"
        manager = folder / "restart"
        manager.write_text(
            f"#!/bin/sh\ncd {folder}\n[ ! -e pid ] || {{ pid=$(cat pid); kill $pid; "
            "while kill -0 $pid; do sleep 0.05; done; } 2>/dev/null\n"
            f"{service} </dev/null >>log 2>&1 &\necho $! >pid\nsleep 0.5\nkill -0 $!\n"
        )
        manager.chmod(0o755)
        subprocess.run([manager], env=self.environment, check=True)

    def _release(self, name, version):
        """The programme of this tree, under another version where it is none of ours."""
        place = self.folder / name
        (place / "bin").mkdir(parents=True)
        source = Path(package.__file__).parent
        if version != package.__version__:
            copied = shutil.copytree(source, place / "lib" / "headway") / "__init__.py"
            text = copied.read_text(encoding="utf-8")
            copied.write_text(text.replace(f'"{package.__version__}"', f'"{version}"'))
        script = place / "bin" / "headway"
        script.write_text(
            f'#!/bin/sh\n[ "$1" != --version ] || {{ echo "headway {version}"; exit; }}\n'
            f'export PYTHONPATH="{place}/lib"\nexec {sys.executable} -m headway "$@"\n'
        )
        script.chmod(0o755)

    def deploy(self, release, *more):
        """(exit status, what was said)."""
        instance = f"{self.url} {self.folder}/restart"
        words = ("deploy", str(self.folder / release), "--instance", instance, *more)
        done = subprocess.run(
            [sys.executable, "-m", "headway", *words, "--current", "current", "--data", "data"],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def version(self):
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{self.url}/health/ready")
            if answer.status_code == 200:
                return httpx.get(f"{self.url}/health").json()["version"]
        return ""

    def stop(self):
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.folder / "pid").read_text()), signal.SIGTERM)
            until(lambda: not self.version(), 30.0)


@pytest.fixture
def installation(tmp_path, new_record):
    found = Installation(tmp_path, new_record())
    try:
        until(lambda: found.version() == package.__version__)
        yield found
    finally:
        found.stop()


@pytest.mark.row("B12")
def test_b12_an_update_is_checked_made_and_taken_back_where_it_is_not_well(installation, figures):
    """`headway deploy RELEASE`: what is missing is told with its remedy, `--dry-run` tells the
    steps; then a backup, the tables, the link, one process after the other until it is well. A
    release that does not start is taken back, and the record is whole.
    """
    status, said = installation.deploy("nowhere")
    assert (status, "nothing was changed" in said, "bin/pip install" in said) == (1, True, True)
    status, said = installation.deploy("2", "--dry-run")
    assert (status, f"to {NEWER}" in said) == (0, True), said
    assert installation.version() == package.__version__

    begun = time.perf_counter()
    status, said = installation.deploy("2")
    assert (status, said.splitlines()[-1]) == (0, f"done: {NEWER} runs"), said
    assert "the record is whole" in said
    assert installation.version() == NEWER
    figures.add("an update of one process", time.perf_counter() - begun, "s")

    begun = time.perf_counter()
    status, said = installation.deploy("3")
    assert (status, f"the update was taken back, and {NEWER} runs" in said) == (1, True), said
    assert re.search(r"the record is whole: .*audit \d", said)
    assert installation.version() == NEWER
    figures.add("one that is taken back, since it does not start", time.perf_counter() - begun, "s")
