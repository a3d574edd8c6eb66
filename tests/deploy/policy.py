"""What every pod of ours has to keep to, over the resources of Kubernetes as they are applied."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

PINNED = re.compile(
    r"[\w./-]+(:(?!latest$)[\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})"
)
SECRET_NAME = re.compile(r"(secret|password|token|key|url|uri|credential)", re.IGNORECASE)
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
RESOURCES = ("cpu", "memory", "ephemeral-storage")
# whose operators add labels to the pods that they make
ADDED_LABELS = {"RayCluster": "ray.io/cluster", "Cluster": "cnpg.io/cluster"}
Resource = Mapping[str, Any]


def pods(resources: list[Resource]) -> Iterator[tuple[str, Resource, Resource, bool]]:
    """(who makes it, its labels, its specification, whether it is to end) of each pod."""
    for one in resources:
        kind, name, spec = one["kind"], one["metadata"]["name"], one.get("spec", {})
        where = f"{kind} {name}"
        if kind in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            template = spec["template"]
            yield where, template["metadata"]["labels"], template["spec"], kind == "Job"
        elif kind == "CronJob":
            template = spec["jobTemplate"]["spec"]["template"]
            yield where, template["metadata"]["labels"], template["spec"], True
        elif kind == "RayCluster":
            for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
                labels = group["template"]["metadata"]["labels"] | {ADDED_LABELS[kind]: name}
                yield where, labels, group["template"]["spec"], False


def faults(resources: list[Resource]) -> list[str]:
    """All that breaks a rule, as `who: what`."""
    found = [
        f"{who}: {why}" for who, _, spec, ends in pods(resources) for why in of_pod(spec, ends)
    ]
    for who, labels in [
        *((who, labels) for who, labels, _, _ in pods(resources)),
        *operated(resources),
    ]:
        found += [f"{who}: {why}" for why in of_network(labels, resources)]
    return found + list(of_secrets(resources)) + list(of_rights(resources))


def operated(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """(who makes them, their labels) of pods that stand in none of the resources."""
    for one in resources:
        if one["kind"] == "Cluster":
            yield (
                f"Cluster {one['metadata']['name']}",
                {ADDED_LABELS["Cluster"]: one["metadata"]["name"]},
            )


def of_pod(spec: Resource, ends: bool) -> Iterator[str]:
    secured = spec.get("securityContext", {})
    if secured.get("runAsNonRoot") is not True or not secured.get("runAsUser"):
        yield "may run as root"
    if secured.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no seccompProfile"
    if spec.get("automountServiceAccountToken") is not False:
        yield "has a token for the API of Kubernetes"
    if spec.get("serviceAccountName", "default") == "default":
        yield "no service account of its own"
    if spec.get("enableServiceLinks") is not False:
        yield "service links would be taken for settings"
    if any(spec.get(word) for word in ("hostNetwork", "hostPID", "hostIPC")):
        yield "shares the host's network or processes"
    if any("hostPath" in volume for volume in spec.get("volumes", [])):
        yield "mounts a folder of the host"
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        for why in of_container(container, ends):
            yield f"{container['name']}: {why}"


def of_container(container: Resource, ends: bool) -> Iterator[str]:
    secured, sizes = container.get("securityContext", {}), container.get("resources", {})
    if secured.get("readOnlyRootFilesystem") is not True:
        yield "its root can be written"
    if secured.get("allowPrivilegeEscalation") is not False or secured.get("privileged"):
        yield "may gain rights"
    if secured.get("capabilities") != {"drop": ["ALL"]}:
        yield "keeps capabilities"
    for name in RESOURCES:
        if not sizes.get("requests", {}).get(name) or not sizes.get("limits", {}).get(name):
            yield f"no request or limit of {name}"
    if not PINNED.fullmatch(container["image"]):
        yield f"image {container['image']} is not pinned"
    if not ends:
        yield from (f"no {probe}" for probe in PROBES if not container.get(probe))
    for variable in container.get("env", []):
        is_path = str(variable.get("value", "/")).startswith("/")
        if SECRET_NAME.search(variable["name"]) and not is_path:
            yield f"a secret in the variable {variable['name']}"


def of_network(labels: Resource, resources: list[Resource]) -> Iterator[str]:
    """A pod that only the policy of all pods names has none that says what it may."""
    policies = [one["spec"] for one in resources if one["kind"] == "NetworkPolicy"]
    if not any(
        not spec["podSelector"] and sorted(spec["policyTypes"]) == ["Egress", "Ingress"]
        and not spec.get("egress") and not spec.get("ingress")
        for spec in policies
    ):  # fmt: skip
        yield "nothing is denied by default"
    if not any(spec["podSelector"] and selects(spec["podSelector"], labels) for spec in policies):
        yield "no NetworkPolicy of its own"


def selects(selector: Resource, labels: Resource) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(
        labels.get(rule["key"]) in rule["values"] for rule in selector.get("matchExpressions", [])
    )


def of_secrets(resources: list[Resource]) -> Iterator[str]:
    for one in resources:
        if one["kind"] == "Secret":
            yield f"Secret {one['metadata']['name']}: stands in the files; refer to one"
        if one["kind"] == "ConfigMap":
            text = "\n".join(str(value) for value in one["data"].values())
            if re.search(r"(?im)^\s*\S*(password|secret|requirepass)\S*[:\s]\s*\S{6,}", text):
                yield f"ConfigMap {one['metadata']['name']}: holds a secret"


def of_rights(resources: list[Resource]) -> Iterator[str]:
    for one in resources:
        if one["kind"] in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"):
            yield f"{one['kind']} {one['metadata']['name']}: nobody here needs rights"
        if one["kind"] == "ServiceAccount" and one.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {one['metadata']['name']}: gives its pods a token"
        if one["kind"] == "Namespace":
            labels = one["metadata"].get("labels", {})
            if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
                yield f"Namespace {one['metadata']['name']}: does not enforce `restricted`"
