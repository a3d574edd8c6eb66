"""What is measured of the running system, for Prometheus."""

from __future__ import annotations

import math
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

registry = CollectorRegistry()
requests = Counter(
    "headway_requests", "HTTP requests", ("method", "route", "status"), registry=registry
)
request_s = Histogram(
    "headway_request_seconds",
    "Duration of an HTTP request, seconds",
    ("route",),
    registry=registry,
    buckets=(0.001, 0.005, 0.02, 0.05, 0.1, 0.3, 1, 3, 10),
)
degraded = Gauge(
    "headway_degraded",
    "1 while a part runs without the service that it is configured to use",
    ("part",),
    registry=registry,
)
street_time_s = Gauge(
    "headway_street_time_seconds",
    "Simulated time of a street, seconds",
    ("street",),
    registry=registry,
)
vehicles = Gauge("headway_vehicles", "Vehicles near signals", ("street",), registry=registry)
stopped = Gauge(
    "headway_vehicles_stopped", "Stopped vehicles near signals", ("street",), registry=registry
)
standing = Gauge(  # until 0.2 (docs/deprecated.md)
    "headway_vehicles_standing",
    "Deprecated: use headway_vehicles_stopped",
    ("street",),
    registry=registry,
)
tick_s = Gauge(
    "headway_tick_seconds", "Mean duration of a tick, seconds", ("street",), registry=registry
)
overruns = Gauge(
    "headway_tick_overruns",
    "Ticks that began at least one period late",
    ("street",),
    registry=registry,
)
sections = Gauge(
    "headway_section",
    "Duration of a section of the loop, seconds, and its share of the budget",
    ("street", "figure"),
    registry=registry,
)
jitter_s = Gauge(
    "headway_tick_jitter_seconds",
    "Lateness of ticks, 99th percentile, seconds",
    ("street",),
    registry=registry,
)
interventions = Gauge(
    "headway_safety_events",
    "Events of the safety gate since the start of the run",
    ("street",),
    registry=registry,
)
congested = Gauge(
    "headway_congested_approaches",
    "Approaches that are congested",
    ("street",),
    registry=registry,
)
cycles = Gauge(
    "headway_cycles",
    "Optimisation cycles since the start of the run",
    ("street",),
    registry=registry,
)
events = Counter("headway_events", "Events of the engine", ("street", "kind"), registry=registry)
open_alerts = Gauge("headway_alerts_open", "Open alerts", ("street", "level"), registry=registry)
restarts = Counter(
    "headway_restarts", "Restarts of a street's process", ("street",), registry=registry
)
observations = Counter(
    "headway_observations",
    "Rows of observations from outside: taken, refused for a fault, cut for their rate",
    ("street", "outcome"),
    registry=registry,
)
source_weight = Gauge(
    "headway_source_weight",
    "Weight of a source of observations from outside, 0 to 1",
    ("street", "source"),
    registry=registry,
)
clients = Gauge("headway_stream_clients", "Clients of a live stream", ("topic",), registry=registry)
sent = Counter(
    "headway_stream_messages",
    "Messages that clients of live streams did not get, since they read too slowly (dropped)",
    ("topic", "what"),
    registry=registry,
)
spooled = Gauge(
    "headway_spool_batches", "Batches in the spool, waiting for the database", registry=registry
)
street_spooled = Gauge(
    "headway_street_spool_batches",
    "Batches of a street that is a process of its own, waiting on its disk for the database",
    ("street",),
    registry=registry,
)
street_spooled_bytes = Gauge(
    "headway_street_spool_bytes", "Their size on disk, bytes", ("street",), registry=registry
)
street_spooled_since = Gauge(
    "headway_street_spool_since_timestamp_seconds",
    "From when on some have been waiting, seconds since 1970; NaN where none wait",
    ("street",),
    registry=registry,
)
stored = Gauge(
    "headway_rows_stored", "Rows stored in the database since the start", registry=registry
)
rows_refused = Counter(
    "headway_rows_refused",
    "Rows that the database refused for what they say; they are put aside in refused.jsonl",
    registry=registry,
)
rows_lost = Counter(
    "headway_rows_lost", "Rows that neither database nor disk took in time", registry=registry
)
thread_failures = Counter(
    "headway_thread_failures",
    "Errors that ended a thread, which was then started anew",
    ("thread",),
    registry=registry,
)
thread_failed_at = Gauge(
    "headway_thread_last_failure_timestamp_seconds",
    "When a thread failed last, seconds since 1970",
    ("thread",),
    registry=registry,
)
cache_hits = Counter("headway_cache", "Cache lookups", ("result",), registry=registry)
camera_frames = Gauge(
    "headway_camera_frames",
    "Frames of a camera: received, processed, dropped, broken",
    ("stream", "what"),
    registry=registry,
)
camera_rate_hz = Gauge(
    "headway_camera_rate_hz", "Frames processed per second", ("stream",), registry=registry
)
camera_latency_s = Gauge(
    "headway_camera_latency_seconds",
    "Latency from decoding to publication, 95th percentile, seconds",
    ("stream",),
    registry=registry,
)
camera_up = Gauge(
    "headway_camera_up",
    "1 while a camera that should run is running",
    ("stream",),
    registry=registry,
)
camera_violations = Gauge(
    "headway_camera_violations",
    "Violations reported since the start of the stream",
    ("stream",),
    registry=registry,
)
undelivered = Gauge(
    "headway_notifications",
    "Webhook and e-mail notifications: waiting, sent, failed",
    ("what",),
    registry=registry,
)
upkeep_failed = Gauge(
    "headway_upkeep_failed",
    "1 after a run of the upkeep (backup, retention, drill) that failed",
    ("task",),
    registry=registry,
)
upkeep_done_at = Gauge(
    "headway_upkeep_last_success_timestamp_seconds",
    "Begin of the last successful run of the upkeep, seconds since 1970",
    ("task",),
    registry=registry,
)
machine = Gauge(
    "headway_machine",
    "Of the machine: cpu_share, memory_share, disk_share (0 to 1), disk_free_bytes, load_1m",
    ("figure",),
    registry=registry,
)
process = Gauge(
    "headway_process",
    "Of each process (server, streets, database): cpu_share (of one processor), cpu_seconds, "
    "memory_bytes, processes, threads",
    ("process", "figure"),
    registry=registry,
)
cycle_success = Gauge(
    "headway_cycle_success_rate",
    "Share of the optimisation cycles that succeeded since the start of the run, 0 to 1",
    ("street",),
    registry=registry,
)
models = Gauge(
    "headway_model",
    "Drift, calibration, data and latency of who decides on a street (docs/monitoring.md)",
    ("street", "figure"),
    registry=registry,
)
jobs = Gauge(
    "headway_jobs",
    "Background jobs that have not ended: waiting, running, and silent of these; NaN: not known",
    ("state",),
    registry=registry,
)
errors = Counter("headway_errors", "Errors logged, by component", ("component",), registry=registry)
memory_bytes = Gauge(
    "headway_memory_bytes", "Resident memory of this process, bytes", registry=registry
)
cpu_s = Gauge("headway_cpu_seconds", "Processor time of this process, seconds", registry=registry)
disk_free_bytes = Gauge(
    "headway_disk_free_bytes", "Free disk space for the data folder, bytes", registry=registry
)
up_s = Gauge("headway_up_seconds", "Uptime of this process, seconds", registry=registry)
LOADED_AT_S = time.monotonic()


def system(folder: Path) -> dict[str, float]:
    """Of this process: memory, processor time and share since the start, time up; room left where
    the data lies.
    """
    pages = (
        int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        if Path("/proc/self/statm").exists()
        else 0
    )
    up, used = time.monotonic() - LOADED_AT_S, time.process_time()
    return {
        "memory_bytes": float(pages * os.sysconf("SC_PAGE_SIZE")),
        "cpu_seconds": used,
        "cpu_share": used / max(up, 1e-9),
        "up_seconds": up,
        "disk_free_bytes": float(shutil.disk_usage(folder).free),
        "processors": float(os.cpu_count() or 1),
    }


class Scraped:
    """What is scraped: made at most once in `lasts_s` seconds, by one thread; whoever asks
    meanwhile gets the same. clock: seconds that only grow.
    """

    def __init__(self, lasts_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lasts_s = lasts_s
        self._clock = clock
        self._made_s = -math.inf
        self._text = b""
        self._lock = threading.Lock()

    def get(self, make: Callable[[], bytes]) -> bytes:
        with self._lock:
            if self._clock() - self._made_s >= self._lasts_s:
                self._text = make()
                self._made_s = self._clock()
            return self._text


def exposition(folder: Path) -> bytes:
    """All metrics in Prometheus' text form. folder: where the data lies."""
    now = system(folder)
    memory_bytes.set(now["memory_bytes"])
    cpu_s.set(now["cpu_seconds"])
    disk_free_bytes.set(now["disk_free_bytes"])
    up_s.set(now["up_seconds"])
    return bytes(generate_latest(registry))
