"""Metrics: each by name, kind and labels, as Prometheus reads them;
the figures of this process against the system's own.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headway.telemetry import metrics

# name here: name in the text form, kind, labels in the order in which they are given
METRICS = {
    "observations": ("headway_observations", "counter", ("street", "outcome")),
    "source_weight": ("headway_source_weight", "gauge", ("street", "source")),
    "upkeep_failed": ("headway_upkeep_failed", "gauge", ("task",)),
    "upkeep_done_at": ("headway_upkeep_last_success_timestamp_seconds", "gauge", ("task",)),
    "machine": ("headway_machine", "gauge", ("figure",)),
    "process": ("headway_process", "gauge", ("process", "figure")),
    "cycle_success": ("headway_cycle_success_rate", "gauge", ("street",)),
    "models": ("headway_model", "gauge", ("street", "figure")),
    "jobs": ("headway_jobs", "gauge", ("state",)),
    "errors": ("headway_errors", "counter", ("component",)),
    "requests": ("headway_requests", "counter", ("method", "route", "status")),
    "request_s": ("headway_request_seconds", "histogram", ("route",)),
    "degraded": ("headway_degraded", "gauge", ("part",)),
    "street_time_s": ("headway_street_time_seconds", "gauge", ("street",)),
    "vehicles": ("headway_vehicles", "gauge", ("street",)),
    "stopped": ("headway_vehicles_stopped", "gauge", ("street",)),
    "standing": ("headway_vehicles_standing", "gauge", ("street",)),
    "tick_s": ("headway_tick_seconds", "gauge", ("street",)),
    "overruns": ("headway_tick_overruns", "gauge", ("street",)),
    "sections": ("headway_section", "gauge", ("street", "figure")),
    "jitter_s": ("headway_tick_jitter_seconds", "gauge", ("street",)),
    "interventions": ("headway_safety_events", "gauge", ("street",)),
    "congested": ("headway_congested_approaches", "gauge", ("street",)),
    "cycles": ("headway_cycles", "gauge", ("street",)),
    "events": ("headway_events", "counter", ("street", "kind")),
    "open_alerts": ("headway_alerts_open", "gauge", ("street", "level")),
    "restarts": ("headway_restarts", "counter", ("street",)),
    "clients": ("headway_stream_clients", "gauge", ("topic",)),
    "sent": ("headway_stream_messages", "counter", ("topic", "what")),
    "rows_refused": ("headway_rows_refused", "counter", ()),
    "rows_lost": ("headway_rows_lost", "counter", ()),
    "thread_failures": ("headway_thread_failures", "counter", ("thread",)),
    "thread_failed_at": (
        "headway_thread_last_failure_timestamp_seconds",
        "gauge",
        ("thread",),
    ),
    "spooled": ("headway_spool_batches", "gauge", ()),
    "street_spooled": ("headway_street_spool_batches", "gauge", ("street",)),
    "street_spooled_bytes": ("headway_street_spool_bytes", "gauge", ("street",)),
    "street_spooled_since": (
        "headway_street_spool_since_timestamp_seconds",
        "gauge",
        ("street",),
    ),
    "stored": ("headway_rows_stored", "gauge", ()),
    "cache_hits": ("headway_cache", "counter", ("result",)),
    "camera_frames": ("headway_camera_frames", "gauge", ("stream", "what")),
    "camera_rate_hz": ("headway_camera_rate_hz", "gauge", ("stream",)),
    "camera_latency_s": ("headway_camera_latency_seconds", "gauge", ("stream",)),
    "camera_up": ("headway_camera_up", "gauge", ("stream",)),
    "camera_violations": ("headway_camera_violations", "gauge", ("stream",)),
    "undelivered": ("headway_notifications", "gauge", ("what",)),
    "memory_bytes": ("headway_memory_bytes", "gauge", ()),
    "cpu_s": ("headway_cpu_seconds", "gauge", ()),
    "disk_free_bytes": ("headway_disk_free_bytes", "gauge", ()),
    "up_s": ("headway_up_seconds", "gauge", ()),
}


@pytest.fixture
def labelled():
    """Each metric that has labels, with values of this test for them;
    taken out again afterwards.
    """
    own = {
        name: tuple(f"{label} of a test" for label in labels)
        for name, (_, _, labels) in METRICS.items()
        if labels
    }
    yield {name: getattr(metrics, name).labels(*values) for name, values in own.items()}
    for name, values in own.items():
        getattr(metrics, name).remove(*values)


def read(folder) -> dict[str, Any]:
    families = text_string_to_metric_families(metrics.exposition(folder).decode())
    return {f.name: f for f in families if not f.name.endswith("_created")}


def test_each_metric_has_its_name_kind_and_labels(tmp_path, labelled):
    for metric in labelled.values():
        metric.observe(0.02) if hasattr(metric, "observe") else metric.inc(3)
    families = read(tmp_path)
    assert {name: family.type for name, family in families.items()} == {
        name: kind for name, kind, _ in METRICS.values()
    }
    for name, kind, labels in METRICS.values():
        values = {label: f"{label} of a test" for label in labels}
        own = [s for s in families[name].samples if values.items() <= s.labels.items()]
        if kind == "histogram":
            assert {s.name for s in own} == {f"{name}_bucket", f"{name}_count", f"{name}_sum"}
        else:
            (one,) = own
            assert (one.name, one.labels) == (
                f"{name}_total" if kind == "counter" else name,
                values,
            )
            assert one.value == 3.0 or not labels


def test_the_time_of_a_request_is_counted_in_buckets_from_a_millisecond_to_ten_seconds(
    tmp_path, labelled
):
    for taken_s in (0.001, 0.0011, 0.25, 11.0):
        labelled["request_s"].observe(taken_s)
    own = [
        s
        for s in read(tmp_path)["headway_request_seconds"].samples
        if s.labels.get("route") == "route of a test"
    ]
    assert {s.labels["le"]: s.value for s in own if "le" in s.labels} == {
        "0.001": 1, "0.005": 2, "0.02": 2, "0.05": 2, "0.1": 2, "0.3": 3, "1.0": 3, "3.0": 3,
        "10.0": 3, "+Inf": 4,
    }  # fmt: skip
    assert [s.value for s in own if s.name.endswith("_sum")] == pytest.approx([11.2521])


def test_the_figures_of_this_process_are_those_of_the_system(tmp_path, monkeypatch):
    """Processor time and clock are set by hand: 30 s used in 120 s are a share of a quarter."""
    monkeypatch.setattr(metrics.time, "monotonic", lambda: metrics.LOADED_AT_S + 120.0)
    monkeypatch.setattr(metrics.time, "process_time", lambda: 30.0)
    now = metrics.system(tmp_path)
    assert set(now) == {
        "memory_bytes",
        "cpu_seconds",
        "cpu_share",
        "up_seconds",
        "disk_free_bytes",
        "processors",
    }
    assert now["up_seconds"] == pytest.approx(120.0)
    assert (now["cpu_seconds"], now["cpu_share"]) == (30.0, pytest.approx(0.25))
    assert now["processors"] == os.cpu_count()
    resident = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    assert now["memory_bytes"] == pytest.approx(resident, rel=0.05)
    assert now["memory_bytes"] <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 * 1.05
    disk = os.statvfs(tmp_path)
    assert now["disk_free_bytes"] == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.05)


def test_the_share_of_the_processor_is_finite_at_the_very_start(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics.time, "process_time", lambda: 0.25)
    monkeypatch.setattr(metrics.time, "monotonic", lambda: metrics.LOADED_AT_S + 0.5)
    assert metrics.system(tmp_path)["cpu_share"] == pytest.approx(0.5)
    monkeypatch.setattr(metrics.time, "monotonic", lambda: metrics.LOADED_AT_S)
    assert metrics.system(tmp_path)["cpu_share"] == pytest.approx(0.25e9)


def test_the_time_up_is_counted_from_when_the_process_loaded_it(tmp_path):
    begun = subprocess.run(
        [sys.executable, "-c",
            "import time; a = time.monotonic(); from headway.telemetry import metrics; "
            "from pathlib import Path; "
         "up, b = metrics.system(Path('.'))['up_seconds'], time.monotonic(); "
         "assert 0.0 <= up <= b - a, up"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (begun.returncode, begun.stderr) == (0, "")


def test_figures_that_the_system_does_not_tell_are_nought_or_one(tmp_path, monkeypatch):
    """As outside Linux: no /proc, and no count of processors."""
    monkeypatch.setattr(metrics.Path, "exists", lambda _: False)
    monkeypatch.setattr(metrics.os, "cpu_count", lambda: None)
    now = metrics.system(tmp_path)
    assert (now["memory_bytes"], now["processors"]) == (0.0, 1.0)


def test_the_text_form_holds_the_figures_of_the_process_as_they_are(tmp_path, monkeypatch):
    now = {"memory_bytes": 11.0, "cpu_seconds": 22.0, "disk_free_bytes": 33.0, "up_seconds": 44.0}
    monkeypatch.setattr(metrics, "system", lambda folder: now if folder == tmp_path else {})
    families = read(tmp_path)
    told = {
        n: families[n].samples[0].value
        for n in (
            "headway_memory_bytes",
            "headway_cpu_seconds",
            "headway_disk_free_bytes",
            "headway_up_seconds",
        )
    }
    assert told == {
        "headway_memory_bytes": 11.0,
        "headway_cpu_seconds": 22.0,
        "headway_disk_free_bytes": 33.0,
        "headway_up_seconds": 44.0,
    }


def test_the_old_metric_of_stopped_vehicles_says_which_is_the_new_one():
    helps = {
        family.name: family.documentation
        for family in text_string_to_metric_families(metrics.exposition(Path.cwd()).decode())
    }
    assert helps["headway_vehicles_stopped"] == "Stopped vehicles near signals"
    assert helps["headway_vehicles_standing"] == "Deprecated: use headway_vehicles_stopped"


def test_what_is_scraped_is_made_once_a_second_whoever_asks():
    now_s, made = [5.0], []
    scraped = metrics.Scraped(1.0, lambda: now_s[0])

    def make():
        made.append(now_s[0])
        return b"%d" % len(made)

    assert [scraped.get(make) for _ in range(3)] == [b"1"] * 3
    now_s[0] = 5.9
    assert scraped.get(make) == b"1"
    now_s[0] = 6.0
    assert [scraped.get(make) for _ in range(2)] == [b"2"] * 2
    assert made == [5.0, 6.0]
