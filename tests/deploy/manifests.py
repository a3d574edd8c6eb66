"""The manifests of Kubernetes: as they stand or rendered, and what Kubernetes says of them."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import jsonschema_rs
import kubernetes_validate
import yaml

ROOT = Path(__file__).parents[2]
HERE = ROOT / "deploy" / "kubernetes"
SCHEMAS = json.loads((Path(__file__).parent / "crds.json").read_text(encoding="utf-8"))


def generate():
    spec = importlib.util.spec_from_file_location("generate", HERE / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def base():
    """The files of the base, with the image that an overlay would name."""
    named = yaml.safe_load((HERE / "base" / "kustomization.yaml").read_text(encoding="utf-8"))
    text = "\n---\n".join(
        (HERE / "base" / n).read_text(encoding="utf-8") for n in named["resources"]
    )
    text = re.sub(r"image: headway$", "image: headway:0.1.0", text, flags=re.MULTILINE)
    return [one for one in yaml.safe_load_all(text) if one]


def validate(resource):
    """Raises ValidationError where Kubernetes, or the operator of its kind, would not take it."""
    kind = f"{resource['apiVersion']} {resource['kind']}"
    if kind in SCHEMAS:
        jsonschema_rs.validate(SCHEMAS[kind], resource)
    else:
        kubernetes_validate.validate(resource, "1.35", strict=True)
