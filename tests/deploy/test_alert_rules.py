"""The alert rules: what Prometheus says of them,
that each metric they name is one that the service tells, and that each rule fires when it should.
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
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="NO PROMTOOL: install Debian's `prometheus`"
)
OF = 'instance="a",job="headway"'
REQUESTS = 'headway_requests_{}{{method="GET",route="/x",status="500",' + OF + "}}"
EVENTS = 'headway_events_{}{{kind="safety.{}",street="s",' + OF + "}}"
# of each rule: series of which it fires within `minutes`, and the same ones of which it does not,
# a value each quarter of a minute (promtool's own form)
CASES = {
    "ServiceAway": (3, {f"up{{{OF}}}": "1 0x20"}, {f"up{{{OF}}}": "1x20"}),
    "StreetStandsStill": (
        4,
        {f'headway_street_time_seconds{{street="s",{OF}}}': "0+15x3 60x20"},
        {f'headway_street_time_seconds{{street="s",{OF}}}': "0+15x30"},
    ),
    "StreetRestarts": (
        5,
        {f'headway_restarts_total{{street="s",{OF}}}': "1x4 2x4 3x4 4x20"},
        {f'headway_restarts_total{{street="s",{OF}}}': "1x8 2x40"},
    ),
    "CyclesMissing": (
        12,
        {f'headway_cycles{{street="s",{OF}}}': "0+1x4 5x80"},
        {f'headway_cycles{{street="s",{OF}}}': "0+1x80"},
    ),
    "TicksLate": (
        5,
        {f'headway_tick_overruns{{street="s",{OF}}}': "0+1x40"},
        {f'headway_tick_overruns{{street="s",{OF}}}': "0 1 2x40"},
    ),
    "TickSlow": (
        3,
        {f'headway_tick_seconds{{street="s",{OF}}}': "0.6x20"},
        {f'headway_tick_seconds{{street="s",{OF}}}': "0.4x20"},
    ),
    "SafetyEvents": (
        5,
        {EVENTS.format("total", "limits"): "0+10x40"},
        {EVENTS.format("total", "limits"): "0+1x40"},
    ),
    "SourceNotController": (
        3,
        {EVENTS.format("total", "source"): "0+1x4 4x20"},
        {EVENTS.format("total", "source"): "0 1 2x20"},
    ),
    "EmergencyVehicle": (
        2,
        {EVENTS.format("total", "emergency"): "0x7 1x4"},
        {EVENTS.format("total", "lamps"): "0x7 1x4"},
    ),
    "DatabaseAway": (
        3,
        {f"headway_spool_batches{{{OF}}}": "0 3x20"},
        {f"headway_spool_batches{{{OF}}}": "0x20"},
    ),
    "StreetRecordWaits": (
        3,
        {f'headway_street_spool_batches{{street="s",{OF}}}': "0 3x20"},
        {f'headway_street_spool_batches{{street="s",{OF}}}': "0x20"},
    ),
    "StreetRecordWaitsLong": (
        3 * 24 * 60 + 5,
        {f'headway_street_spool_since_timestamp_seconds{{street="s",{OF}}}': "60x17400"},
        {f'headway_street_spool_since_timestamp_seconds{{street="s",{OF}}}': "250000x17400"},
    ),
    "Degraded": (
        3,
        {f'headway_degraded{{part="cache",{OF}}}': "0 1x20"},
        {f'headway_degraded{{part="cache",{OF}}}': "0x20"},
    ),
    "CameraAway": (
        3,
        {f'headway_camera_up{{stream="c",{OF}}}': "1 0x20"},
        {f'headway_camera_up{{stream="c",{OF}}}': "1x20"},
    ),
    "CameraDrops": (
        12,
        {
            f'headway_camera_frames{{stream="c",what="received",{OF}}}': "0+100x80",
            f'headway_camera_frames{{stream="c",what="dropped",{OF}}}': "0+20x80",
        },
        {
            f'headway_camera_frames{{stream="c",what="received",{OF}}}': "0+100x80",
            f'headway_camera_frames{{stream="c",what="dropped",{OF}}}': "0+5x80",
        },
    ),
    "NotDelivered": (
        5,
        {f'headway_notifications{{what="failed",{OF}}}': "0x4 1x20"},
        {f'headway_notifications{{what="failed",{OF}}}': "1x30"},
    ),
    "DiskFull": (
        1,
        {f"headway_disk_free_bytes{{{OF}}}": "9e8x8"},
        {f"headway_disk_free_bytes{{{OF}}}": "2e9x8"},
    ),
    "MemoryHigh": (
        12,
        {f"headway_memory_bytes{{{OF}}}": "3e9x80"},
        {f"headway_memory_bytes{{{OF}}}": "1e9x80"},
    ),
    "ProcessorBusy": (
        17,
        {f"headway_cpu_seconds{{{OF}}}": "0+14x80"},
        {f"headway_cpu_seconds{{{OF}}}": "0+7x80"},
    ),
    "RequestsFail": (
        5,
        {REQUESTS.format("total"): "0x4 1x30"},
        {REQUESTS.format("total").replace("500", "404"): "0x4 1x30"},
    ),
    "UpkeepFailed": (
        1,
        {f'headway_upkeep_failed{{task="backup",{OF}}}': "1x8"},
        {f'headway_upkeep_failed{{task="backup",{OF}}}': "0x8"},
    ),
}
# a counter that is there for the first time has counted already: when it began
FIRST = {
    "StreetRestarts": (
        4,
        {
            f'headway_restarts_total{{street="s",{OF}}}': "_x8 4x20",
            f'headway_restarts_created{{street="s",{OF}}}': "_x8 110x20",
        },
    ),
    "SourceNotController": (
        4,
        {
            EVENTS.format("total", "source"): "_x8 4x20",
            EVENTS.format("created", "source"): "_x8 110x20",
        },
    ),
    "EmergencyVehicle": (
        2,
        {
            EVENTS.format("total", "emergency"): "_x7 1x4",
            EVENTS.format("created", "emergency"): "_x7 110x4",
        },
    ),
    "RequestsFail": (
        5,
        {REQUESTS.format("total"): "_x8 1x30", REQUESTS.format("created"): "_x8 110x30"},
    ),
    "ServiceAway": (3, {'up{job="other"}': "1x20"}),
}


def rules():
    found = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in found for rule in group["rules"]}


@needs_promtool
def test_prometheus_takes_the_rules():
    done = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_a_rule_is_one_that_is_told():
    told = {
        name
        for family in registry.collect()
        for name in (family.name, f"{family.name}_total", f"{family.name}_created")
    }
    assert len(rules()) > 10
    for name, rule in rules().items():
        for metric in re.findall(r"headway_\w+", rule["expr"]):
            assert metric in told, f"{name}: {metric}"


def test_each_series_of_the_cases_is_one_that_is_told():
    """With the labels that it has there."""
    labels = {}
    for collector in registry._collector_to_names:
        for family in collector.describe():
            labels[family.name] = set(collector._labelnames)
    cases = [series for _, *both in CASES.values() for one in both for series in one]
    for series in [*cases, *(one for _, found in FIRST.values() for one in found)]:
        name, _, inside = series.partition("{")
        if name != "up":
            own = set(re.findall(r"(\w+)=", inside)) - {"instance", "job"}
            assert own == labels[re.sub("_(total|created)$", "", name)], series


@needs_promtool
def test_each_rule_fires_when_it_should_and_not_else(tmp_path):
    assert CASES.keys() == rules().keys()

    def case(alert, minutes, series, fires):
        return {
            "name": f"{alert}, {'fires' if fires else 'silent'}",
            "interval": "15s",
            "input_series": [{"series": s, "values": v} for s, v in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                    "eval_time": f"{minutes}m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
            ],
        }

    tests = [
        case(alert, minutes, series, fires)
        for alert, (minutes, bad, good) in CASES.items()
        for series, fires in ((bad, True), (good, False))
    ]
    tests += [case(alert, minutes, series, True) for alert, (minutes, series) in FIRST.items()]
    path = tmp_path / "tests.yml"
    about = {"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": tests}
    path.write_text(yaml.safe_dump(about), encoding="utf-8")
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
