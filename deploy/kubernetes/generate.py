#!/usr/bin/env python3
"""What stands here a second time, made from where it stands first; tests compare them.

generate.py              base/prometheus-rule.yaml, and docs/kubernetes-overlays.md (by kubectl)
generate.py crds FOLDER  tests/deploy/crds.json, of the files of custom resources in FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
RULE = HERE / "base" / "prometheus-rule.yaml"
DIFFERENCES = ROOT / "docs" / "kubernetes-overlays.md"
SCHEMAS = ROOT / "tests" / "deploy" / "crds.json"
KEPT = ("type", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems")
OPEN = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string")
HEAD = """# What the overlays of Kubernetes differ in

Made by `deploy/kubernetes/generate.py`: all that `kubectl kustomize` says of the overlay
`production` otherwise than of `small`. What one of them has not is `-`.

| resource | field | small | production |
| --- | --- | --- | --- |
"""

Resource = Mapping[str, Any]


def prometheus_rule(alerts: str) -> str:
    """The resource PrometheusRule with the groups of a file of alert rules, both as YAML."""
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "headway"},
        "spec": yaml.safe_load(alerts),
    }
    head = "# Made by deploy/kubernetes/generate.py from deploy/prometheus/alerts.yml.\n"
    return head + str(yaml.safe_dump(resource, sort_keys=False, width=200))


def rendered(overlay: str) -> list[Resource]:
    """The resources of an overlay. Raises CalledProcessError, FileNotFoundError without kubectl."""
    done = subprocess.run(
        ["kubectl", "kustomize", HERE / "overlays" / overlay],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def named(resources: Iterable[Resource]) -> dict[str, Resource]:
    return {f"{one['kind']} {one['metadata']['name']}": one for one in resources}


def differences(small: Iterable[Resource], production: Iterable[Resource]) -> str:
    """A table, a row for each field that differs, and for each resource that one has not."""
    rows = []
    one, other = named(small), named(production)
    for name in sorted(one.keys() | other.keys()):
        if name in one and name in other:
            rows += [f"| {name} | {row}" for row in _fields(one[name], other[name], "")]
        else:
            rows.append(f"| {name} | | {_whether(name in one)} | {_whether(name in other)} |")
    return HEAD + "\n".join(rows) + "\n"


def _whether(is_there: bool) -> str:
    return "there" if is_there else "-"


def _fields(small: Any, production: Any, path: str) -> Iterator[str]:
    if isinstance(small, Mapping) and isinstance(production, Mapping):
        for key in sorted(small.keys() | production.keys()):
            yield from _fields(small.get(key), production.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(small, list) and isinstance(production, list):
        for number, (a, b) in enumerate(zip_longest(small, production)):
            yield from _fields(a, b, f"{path}[{number}]")
    elif small != production:
        yield f"`{path}` | {_shown(small)} | {_shown(production)} |"


def _shown(value: Any) -> str:
    return "-" if value is None else f"`{json.dumps(value)}`"


def cut(schema: Mapping[str, Any], used: list[Any]) -> dict[str, Any]:
    """Of a schema of Kubernetes what says whether `used` are right: below a field that none of them
    has, all is allowed; a field that there is not, is not.
    """
    if any(schema.get(word) for word in OPEN):
        return {}
    found = {key: schema[key] for key in KEPT if key in schema}
    if properties := schema.get("properties"):
        found["properties"] = {
            name: cut(
                inner, [one[name] for one in used if isinstance(one, Mapping) and name in one]
            )
            if any(isinstance(one, Mapping) and name in one for one in used)
            else {}
            for name, inner in sorted(properties.items())
        }
        found["additionalProperties"] = False
        found["required"] = schema.get("required", [])
    elif isinstance(schema.get("additionalProperties"), Mapping):
        values = [v for one in used if isinstance(one, Mapping) for v in one.values()]
        found["additionalProperties"] = cut(schema["additionalProperties"], values)
    if "items" in schema:
        found["items"] = cut(
            schema["items"], [v for one in used if isinstance(one, list) for v in one]
        )
    return found


def crds(folder: Path) -> dict[str, Any]:
    """The schemas of the custom resources that the overlays have, by kind and version."""
    used = [*rendered("small"), *rendered("production")]
    found = {}
    for path in sorted(folder.rglob("*.yaml")):
        crd = yaml.safe_load(path.read_text(encoding="utf-8"))
        for version in crd["spec"]["versions"]:
            kind = f"{crd['spec']['group']}/{version['name']} {crd['spec']['names']['kind']}"
            ours = [one for one in used if f"{one['apiVersion']} {one['kind']}" == kind]
            if ours:
                found[kind] = cut(version["schema"]["openAPIV3Schema"], ours)
                found[kind]["properties"]["metadata"] = {}
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["crds"]:
        SCHEMAS.write_text(json.dumps(crds(Path(sys.argv[2])), indent=1) + "\n", encoding="utf-8")
    else:
        RULE.write_text(prometheus_rule(ALERTS.read_text(encoding="utf-8")), encoding="utf-8")
        DIFFERENCES.write_text(
            differences(rendered("small"), rendered("production")), encoding="utf-8"
        )
