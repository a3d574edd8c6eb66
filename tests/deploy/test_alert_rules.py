"""The alert rules: what Prometheus says of them,
and that each metric they name is one that the service tells.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from headway.telemetry.metrics import registry

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="NO PROMTOOL: install Debian's `prometheus`"
)
def test_prometheus_takes_the_rules():
    done = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_a_rule_is_one_that_is_told():
    told = {name for family in registry.collect() for name in (family.name, f"{family.name}_total")}
    rules = [
        rule
        for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    assert len(rules) > 10
    for rule in rules:
        for name in re.findall(r"headway_\w+", rule["expr"]):
            assert name in told, f"{rule['alert']}: {name}"
