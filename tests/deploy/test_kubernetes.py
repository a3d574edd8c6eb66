"""The manifests: whether Kubernetes and the operators would take them, and what every pod keeps to.
They are rendered by kubectl where it is; else the base is read as it stands.
"""

from __future__ import annotations

import copy
import math
import re
import shutil
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from headway import settings
from headway.cli.worker import POOL as WORKERS
from headway.telemetry.metrics import registry
from tests.deploy import policy
from tests.deploy.manifests import HERE, ROOT, base, generate, validate

HAS_KUBECTL = shutil.which("kubectl") is not None
OVERLAYS = ("small", "production") if HAS_KUBECTL else ("base",)
needs_kubectl = pytest.mark.skipif(
    not HAS_KUBECTL, reason="NO KUBECTL: the overlays are not rendered"
)


@pytest.fixture(scope="module", params=OVERLAYS)
def resources(request):
    return base() if request.param == "base" else generate().rendered(request.param)


def of_kind(resources, kind):
    return {one["metadata"]["name"]: one for one in resources if one["kind"] == kind}


def test_kubernetes_and_the_operators_would_take_each_resource(resources):
    for one in resources:
        validate(one)
    assert len(resources) > 35


def test_every_pod_keeps_to_the_policy(resources):
    assert policy.faults(resources) == []
    assert len(list(policy.pods(resources))) >= 7


def put(place, value):
    """A change: `value` at `place` of the first container, or of its pod (`pod.`)."""

    def change(resources):
        spec = of_kind(resources, "StatefulSet")["headway-api"]["spec"]["template"]["spec"]
        *above, last = place.removeprefix("pod.").split(".")
        found = spec if place.startswith("pod.") else spec["containers"][0]
        for word in above:
            found = found[word]
        if value is None:
            del found[last]
        else:
            found[last] = value

    return change


def drop(kind, name):
    def change(resources):
        resources[:] = [o for o in resources if (o["kind"], o["metadata"]["name"]) != (kind, name)]

    return change


def add(resource):
    return lambda resources: resources.append(resource)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (put("pod.securityContext.runAsNonRoot", None), "may run as root"),
        (put("pod.securityContext.seccompProfile", None), "no seccompProfile"),
        (put("pod.automountServiceAccountToken", True), "has a token"),
        (put("pod.serviceAccountName", "default"), "no service account"),
        (put("pod.enableServiceLinks", None), "service links"),
        (put("pod.hostNetwork", True), "shares the host"),
        (put("pod.volumes", [{"name": "x", "hostPath": {"path": "/"}}]), "folder of the host"),
        (put("securityContext.readOnlyRootFilesystem", False), "root can be written"),
        (put("securityContext.allowPrivilegeEscalation", None), "may gain rights"),
        (put("securityContext.privileged", True), "may gain rights"),
        (put("securityContext.capabilities", {"add": ["NET_RAW"]}), "capabilities"),
        (put("resources.limits.memory", None), "limit of memory"),
        (put("livenessProbe", None), "no livenessProbe"),
        (put("image", "headway:latest"), "not pinned"),
        (put("image", "registry:5000/headway"), "not pinned"),
        (put("env", [{"name": "HEADWAY_SECRET_KEY", "value": "x"}]), "a secret in"),
        (drop("NetworkPolicy", "deny-by-default"), "nothing is denied"),
        (drop("NetworkPolicy", "valkey"), "StatefulSet valkey: no NetworkPolicy"),
        (drop("NetworkPolicy", "headway-database"), "Cluster headway-database: no NetworkPolicy"),
        (add({"kind": "Secret", "metadata": {"name": "x"}}), "stands in the files"),
        (
            add({"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "secret: abcdef"}}),
            "holds a secret",
        ),
        (add({"kind": "RoleBinding", "metadata": {"name": "x"}}), "nobody here needs rights"),
        (add({"kind": "Namespace", "metadata": {"name": "x"}}), "does not enforce"),
    ],
)  # fmt: skip
def test_the_policy_finds_what_breaks_it(change, fault):
    broken = copy.deepcopy(base())
    change(broken)
    assert any(fault in one for one in policy.faults(broken)), policy.faults(broken)


def test_the_settings_of_the_pods_can_be_used(monkeypatch):
    """What lies in the ConfigMap is read by those who start with it, and no variable is refused."""
    for name in ("streets", "cameras", "api", "backup"):
        found = settings.load(HERE / "base" / "settings" / f"{name}.yaml")
        assert (found.environment, found.log.json_lines) == ("production", True)
    files = {path.name for path in (HERE / "base" / "settings").glob("*.yaml")}
    for who, _, spec, _ in policy.pods(base()):
        for container in spec["containers"]:
            words = [str(word) for word in container.get("args", [])]
            if "--config" in words:
                assert Path(words[words.index("--config") + 1]).name in files, who
            variables = {v["name"].removesuffix("_FILE"): "" for v in container.get("env", [])}
            settings.refuse_unknown_variables(variables)


def test_each_command_and_each_of_its_options_is_one_that_there_is():
    contract = (ROOT / "tests" / "cli" / "contract.txt").read_text(encoding="utf-8")
    options = {
        block.split("\n")[0].removeprefix("headway "): block
        for block in re.split(r"\n(?=headway )", contract)
    }
    seen = set()
    for who, _, spec, _ in policy.pods(base()):
        for container in spec["containers"]:
            if container["image"] != "headway:0.1.0":
                continue
            words = [str(word) for word in container["args"]]
            command = next(c for c in (" ".join(words[:2]), words[0]) if c in options)
            seen.add(command)
            for word in words:
                if word.startswith("--"):
                    assert re.search(
                        rf"--{word.strip('-').removeprefix('no-')}\b", options[command]
                    ), (who, word)
    assert seen == {"serve", "street", "worker", "db migrate", "db upkeep"}


def test_what_probes_and_the_ingress_ask_for_is_there(openapi_paths):
    probes, asked = set(), set()
    for _, _, spec, _ in policy.pods(base()):
        for container in spec["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            for kind in policy.PROBES:
                if http := container.get(kind, {}).get("httpGet"):
                    assert http["port"] in ports
                    probes.add((kind, http["path"]))
    assert probes == {
        ("startupProbe", "/health/ready"),
        ("readinessProbe", "/health"),
        ("livenessProbe", "/health"),
    }  # fmt: skip
    for rule in of_kind(base(), "Ingress")["headway"]["spec"]["rules"]:
        asked |= {path["path"] for path in rule["http"]["paths"]}
    services = of_kind(base(), "Service")
    for prefix in asked - {"/", "/ws"}:  # of WebSockets the document says nothing
        assert any(path.startswith(f"{prefix}/") or path == prefix for path in openapi_paths), (
            prefix
        )
    for path in of_kind(base(), "Ingress")["headway"]["spec"]["rules"][0]["http"]["paths"]:
        assert path["backend"]["service"]["name"] in services


@pytest.fixture(scope="module")
def openapi_paths():
    text = (ROOT / "tests" / "api" / "contract.txt").read_text(encoding="utf-8")
    return set(re.findall(r"/[^\s]*", text))


def test_it_grows_on_metrics_that_are_served():
    told = {family.name for family in registry.collect()}
    asked = set()
    for scaler in of_kind(base(), "HorizontalPodAutoscaler").values():
        for metric in scaler["spec"]["metrics"]:
            if metric["type"] != "Resource":
                asked.add(metric[metric["type"].lower()]["metric"]["name"])
    assert asked == {"headway_stream_clients", "headway_jobs"}
    assert asked <= told
    values = yaml.safe_load((HERE / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    series = " ".join(
        rule["seriesQuery"]
        for rules in values["rules"].values()
        if isinstance(rules, list)
        for rule in rules
    )
    assert all(name in series for name in asked)


def test_what_is_referred_to_is_there():
    """Claims, secrets, settings and accounts that pods name; the targets of budgets and scalers."""
    found = base()
    claims, accounts = of_kind(found, "PersistentVolumeClaim"), of_kind(found, "ServiceAccount")
    secrets = {one["spec"]["target"]["name"] for one in of_kind(found, "ExternalSecret").values()}
    secrets |= {f"{name}-{what}" for name in of_kind(found, "Cluster") for what in ("app", "ca")}
    kustomization = yaml.safe_load(
        (HERE / "base" / "kustomization.yaml").read_text(encoding="utf-8")
    )
    maps = {one["name"] for one in kustomization["configMapGenerator"]}
    for who, _, spec, _ in policy.pods(found):
        assert spec["serviceAccountName"] in accounts, who
        mounted = {volume["name"] for volume in spec["volumes"]}
        for volume in spec["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims, who
            if "secret" in volume:
                assert volume["secret"]["secretName"] in secrets, who
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps, who
        kind, _, name = who.partition(" ")
        templates = of_kind(found, kind)[name]["spec"].get("volumeClaimTemplates", [])
        mounted |= {one["metadata"]["name"] for one in templates}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == mounted, who
    pods = [labels for _, labels, _, _ in policy.pods(found)]
    for kind in ("PodDisruptionBudget", "Service"):
        for name, one in of_kind(found, kind).items():
            selector = one["spec"]["selector"]
            wanted = selector if kind == "Service" else selector["matchLabels"]
            assert any(wanted.items() <= labels.items() for labels in pods), name
    for scaler in of_kind(found, "HorizontalPodAutoscaler").values():
        target = scaler["spec"]["scaleTargetRef"]
        assert target["name"] in of_kind(found, target["kind"])


AT_ONCE = 5  # connections of a command that does one thing after the other
OF_OTHERS = 20  # of the operator, of backups, of an administrator


def most_at_once(who, resources):
    """Pods of a kind that there may be: as many as it may grow to, and those of a new version that
    begin before the old ones end.
    """
    kind, _, name = who.partition(" ")
    most = of_kind(resources, kind)[name]["spec"].get("replicas", 1)
    for scaler in of_kind(resources, "HorizontalPodAutoscaler").values():
        if scaler["spec"]["scaleTargetRef"] == {
            "apiVersion": "apps/v1",
            "kind": kind,
            "name": name,
        }:
            most = scaler["spec"]["maxReplicas"]
    return most + math.ceil(0.25 * most) if kind == "Deployment" else most


def connections_of(words):
    """That one process of ours may open."""
    if words[0] == "worker":
        pool = WORKERS
    elif "--config" in words and words[0] in ("serve", "street"):
        name = Path(words[words.index("--config") + 1]).name
        pool = settings.load(HERE / "base" / "settings" / name).database
    else:
        return AT_ONCE
    return pool.pool_size + pool.max_overflow + (words[0] == "street")  # and one of its lease


def test_the_database_takes_all_connections_that_the_pods_may_open(resources):
    wanted = {
        who: most_at_once(who, resources) * connections_of(container["args"])
        for who, _, spec, _ in policy.pods(resources)
        for container in spec["containers"]
        if container.get("args", [""])[0] in ("serve", "street", "worker", "db")
    }
    assert len(wanted) >= 7
    (cluster,) = of_kind(resources, "Cluster").values()
    most = int(cluster["spec"]["postgresql"]["parameters"]["max_connections"])
    assert sum(wanted.values()) + OF_OTHERS <= most, wanted


def test_records_and_backups_are_kept_for_as_long_as_with_compose():
    """Whoever moves from one to the other loses neither."""
    compose = settings.load(ROOT / "deploy" / "compose" / "headway.yaml").upkeep
    cameras, backup = (
        settings.load(HERE / "base" / "settings" / f"{name}.yaml").upkeep
        for name in ("cameras", "backup")
    )
    assert cameras.retention_days == compose.retention_days == 730
    assert backup.keep == compose.keep == 14


def test_streets_run_once():
    """Two processes with one street would be two minds on one junction."""
    spec = of_kind(base(), "StatefulSet")["headway-streets"]["spec"]
    assert spec["replicas"] == 1
    scaled = [
        s["spec"]["scaleTargetRef"]["name"]
        for s in of_kind(base(), "HorizontalPodAutoscaler").values()
    ]
    assert not {"headway-streets", "headway-cameras"} & set(scaled)


def test_every_process_with_a_port_shows_the_streets_and_the_streets_have_none():
    """They meet at Valkey, which nobody else may reach."""
    found = base()
    serving, streets = set(), []
    for _, labels, spec, _ in policy.pods(found):
        component = labels.get("app.kubernetes.io/component")
        for container in spec["containers"]:
            words = [str(word) for word in container.get("args", [])]
            if words[:1] == ["serve"]:
                assert "--follow" in words, component
                serving.add(component)
            if words[:1] == ["street"]:
                streets.append((component, words[1]))
                assert "ports" not in container
                alive = f"{words[words.index('--data') + 1]}/{words[1]}/street.alive"
                for probe in policy.PROBES:
                    assert container[probe]["exec"]["command"] == ["health", alive]
    assert (serving, streets) == ({"api", "cameras"}, [("streets", "headway")])
    policies = of_kind(found, "NetworkPolicy")
    (rule,) = policies["valkey"]["spec"]["ingress"]
    let_in = rule["from"][0]["podSelector"]["matchExpressions"][0]["values"]
    assert set(let_in) == serving | {"streets"}
    may_ask = policies["headway-valkey"]["spec"]["podSelector"]["matchExpressions"][0]["values"]
    assert set(may_ask) == set(let_in)
    asked = policies["headway-http"]["spec"]["podSelector"]["matchExpressions"][0]["values"]
    assert set(asked) == serving


def test_the_rules_of_prometheus_are_not_written_twice():
    made = generate().prometheus_rule(
        (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    )
    written = (HERE / "base" / "prometheus-rule.yaml").read_text(encoding="utf-8")
    assert written == made, "run deploy/kubernetes/generate.py"


@needs_kubectl
def test_the_document_has_what_the_overlays_differ_in():
    found = generate()
    made = found.differences(found.rendered("small"), found.rendered("production"))
    assert made == found.DIFFERENCES.read_text(encoding="utf-8"), (
        "run deploy/kubernetes/generate.py"
    )


def test_differences_are_told_by_resource_and_field():
    one = {"kind": "A", "metadata": {"name": "x"}, "spec": {"size": 1, "same": 2, "list": [1]}}
    other = {"kind": "A", "metadata": {"name": "x"}, "spec": {"size": 3, "same": 2, "list": [1, 4]}}
    alone = {"kind": "B", "metadata": {"name": "y"}}
    rows = generate().differences([one], [other, alone]).split("| --- | --- | --- | --- |\n")[1]
    assert rows.splitlines() == [
        "| A x | `spec.list[1]` | - | `4` |",
        "| A x | `spec.size` | `1` | `3` |",
        "| B y | | - | there |",
    ]


@pytest.mark.parametrize(
    ("value", "is_right"),
    [
        ({"spec": {"size": 3}}, True),
        ({"spec": {"size": "3"}}, False),
        ({"spec": {"size": 3, "sise": 3}}, False),
        ({"spec": {}}, False),
        ({"spec": {"size": 3, "other": "whatever"}}, True),
    ],
)
def test_a_schema_that_was_cut_still_finds_faults_of_the_fields_that_are_used(value, is_right):
    whole = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "description": "long"},
                    "other": {"type": "integer"},
                },
            }
        },
    }
    cut = generate().cut(whole, [{"spec": {"size": 3}}])
    assert jsonschema_rs.is_valid(cut, value) == is_right
