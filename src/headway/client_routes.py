"""The routes of the API as methods, for both clients of `headway.client`.

The tests compare them with the OpenAPI document: each route has its method, with all of its query.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack
from urllib.parse import quote

Topic = Literal["realtime", "monitoring", "alerts"]
Json = dict[str, Any]  # an object as the API gives it, by the names that docs/api.md lists
Query = Mapping[str, Any]  # what becomes `?name=value`
Moment = datetime | str  # with its offset; text is ISO 8601
FileFormat = Literal["csv", "parquet"]


def quoted(name: str) -> str:
    """A name as a part of a path: those of a network may hold any character."""
    return quote(name, safe="")


def _path(template: str, *parts: object) -> str:
    return template.format(*(quoted(_text(part)) for part in parts))


def _given(query: Mapping[str, Any]) -> Json:
    return {name: _text(value) for name, value in query.items() if value is not None}


def _of(street: str | None) -> Json:
    """The query; None for the street of the service's settings, or the only one there is."""
    return {"street": street} if street else {}


def _text(value: Any) -> str:
    """A value as a part of an address."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)


class PageQuery(TypedDict, total=False):
    limit: int
    cursor: str


class JunctionQuery(TypedDict, total=False):
    simulation_id: str
    limit: int
    cursor: str


class RecordQuery(TypedDict, total=False):
    simulation_id: str
    intersection_id: str
    begin: Moment
    end: Moment
    limit: int
    cursor: str


class CountQuery(TypedDict, total=False):
    interval_min: int
    by_class: bool
    camera: str
    line: str
    begin: Moment
    end: Moment
    limit: int
    cursor: str


class FileQuery(TypedDict, total=False):
    format: FileFormat


class JunctionFileQuery(TypedDict, total=False):
    simulation_id: str
    format: FileFormat


class RecordFileQuery(TypedDict, total=False):
    simulation_id: str
    intersection_id: str
    begin: Moment
    end: Moment
    format: FileFormat


class CountFileQuery(TypedDict, total=False):
    interval_min: int
    by_class: bool
    camera: str
    line: str
    begin: Moment
    end: Moment
    format: FileFormat


class Window(TypedDict, total=False):
    intersection_id: str
    begin: Moment
    end: Moment
    limit: int
    offset: int


class SimulationWindow(Window, total=False):
    simulation_id: str


class ImpactQuery(SimulationWindow, total=False):
    fuel_price_per_l: float
    co2_kg_per_l: float


class ComparisonQuery(Window, total=False):
    block_s: float


class BreakdownQuery(SimulationWindow, total=False):
    by: str
    bucket: str
    direction: str
    vehicle_type: str


class SeriesQuery(Window, total=False):
    bucket_s: int


class PerformanceQuery(SimulationWindow, total=False):
    baseline: str
    block_s: float


class TrendQuery(SimulationWindow, total=False):
    bucket_s: int


class OffsetQuery(TypedDict, total=False):
    limit: int
    offset: int


class RunWindow(TypedDict, total=False):
    begin_s: float
    end_s: float


class RunPart(RunWindow, total=False):
    junction: str


class RunImpactQuery(RunWindow, total=False):
    baseline: int
    fuel_price_per_l: float


class EventQuery(OffsetQuery, total=False):
    kind: str


class AuditQuery(TypedDict, total=False):
    who: str
    what: str
    status: int
    begin: Moment
    end: Moment
    before: int
    limit: int


class ViolationWindow(TypedDict, total=False):
    device: str
    rule: str
    begin: Moment
    end: Moment
    hours: float


class HotspotQuery(ViolationWindow, total=False):
    limit: int


class ViolationQuery(ViolationWindow, total=False):
    state: str
    limit: int
    offset: int


class ErasureQuery(TypedDict, total=False):
    begin: Moment
    end: Moment


class JobQuery(PageQuery, total=False):
    street: str
    state: str


class ModelQuery(PageQuery, total=False):
    name: str
    kind: str


class PredictQuery(TypedDict, total=False):
    street: str
    model_id: int


class StreetQuery(TypedDict, total=False):
    street: str


class HistoryQuery(TypedDict, total=False):
    street: str
    kinds: str
    format: str
    compress: bool
    last_id: str
    wait_s: float
    limit: int


class Routes(ABC):
    """What both clients can ask: each method is one route, and gives its answer (to be awaited
    of `AsyncHeadway`). Keywords are the query of the route, see docs/api.md; what is not given is
    the service's to choose.
    """

    @abstractmethod
    def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: object = None,
        idempotency_key: str = "",
    ) -> Any:
        """Any route."""

    def _of_run(self, run: int, what: str, query: Mapping[str, Any]) -> Any:
        return self.call("GET", _path("/api/v1/runs/{}/" + what, run), _given(query))

    def correct_record(
        self,
        simulation: str,
        junction: str,
        timestamp: Moment,
        signals: Sequence[Json],
        metrics: Json,
        reason: str,
        version: int | None = None,
    ) -> Any:
        """A new version takes the place of a record; the old one is kept. version: the one that is
        corrected; HeadwayError 409 where somebody else has corrected it meanwhile.
        """
        body = {"signals": list(signals), "metrics": metrics, "reason": reason, "version": version}
        path = _path("/api/v1/records/{}/{}/{}", simulation, junction, timestamp)
        return self.call("PUT", path, None, body)

    def health(self) -> Any:
        """Of the service and its parts; needs no credentials."""
        return self.call("GET", "/health")

    def ready(self) -> Any:
        """Raises HeadwayError 503 while the service is not ready."""
        return self.call("GET", "/health/ready")

    def metrics(self) -> Any:
        """Text for Prometheus."""
        return self.call("GET", "/metrics")

    def system_info(self) -> Any:
        """Versions, database, streams."""
        return self.call("GET", "/system/info")

    def clear_cache(self, idempotency_key: str = "") -> Any:
        """Forget all kept answers."""
        return self.call("POST", "/api/v1/admin/clear-cache", None, None, idempotency_key)

    def keys(self) -> Any:
        """API keys, newest first."""
        return self.call("GET", "/api/v1/admin/keys")

    def make_key(
        self,
        name: str,
        role: str,
        days: float | None = None,
        idempotency_key: str = "",
        *,
        streets: Sequence[str] | None = None,
        cameras: Sequence[str] | None = None,
    ) -> Any:
        """A new API key; it is shown this once. days: None for ever. streets, cameras: what it is
        bounded to.
        """
        bounds = {
            "streets": None if streets is None else list(streets),
            "cameras": None if cameras is None else list(cameras),
        }
        body = {"name": name, "role": role, "days": days, **bounds}
        return self.call("POST", "/api/v1/admin/keys", None, body, idempotency_key)

    def revoke_key(self, key_id: str) -> Any:
        """key_id: the middle part of a key."""
        return self.call("DELETE", _path("/api/v1/admin/keys/{}", key_id))

    def revoke_token(self, token: str, idempotency_key: str = "") -> Any:
        """End a token before its time."""
        return self.call(
            "POST", "/api/v1/admin/tokens/revoke", None, {"token": token}, idempotency_key
        )

    def ticket(self) -> Any:
        """For one WebSocket or event stream, where no header can be set."""
        return self.call("POST", "/api/v1/tickets")

    def erase_simulation(self, simulation: str) -> Any:
        """All its records."""
        return self.call("DELETE", _path("/api/v1/admin/simulations/{}", simulation))

    def upkeep(self) -> Any:
        """Backups and retention: schedule and runs."""
        return self.call("GET", "/api/v1/admin/upkeep")

    def run_upkeep(self, task: str, idempotency_key: str = "") -> Any:
        """task: backup, retention or drill."""
        return self.call(
            "POST", _path("/api/v1/admin/upkeep/{}", task), None, None, idempotency_key
        )

    def audit(self, **query: Unpack[AuditQuery]) -> Any:
        """Entries of the audit trail, newest first."""
        return self.call("GET", "/api/v1/admin/audit", _given(query))

    def verify_audit(self) -> Any:
        """Whether the audit trail is whole."""
        return self.call("GET", "/api/v1/admin/audit/verify")

    def ingest_one(self, record: Json) -> Any:
        """One record; HeadwayError 409 where another one has its key."""
        return self.call("POST", "/api/v1/ingest/simulation", None, record)

    def simulations(self, **query: Unpack[PageQuery]) -> Any:
        """A page of the ingested simulations; `next` of it is the `cursor` of the next one."""
        return self.call("GET", "/api/v1/simulations", _given(query))

    def simulation(self, name: str) -> Any:
        """One ingested simulation."""
        return self.call("GET", _path("/api/v1/simulations/{}", name))

    def junctions(self, **query: Unpack[JunctionQuery]) -> Any:
        """A page of the junctions of which records were ingested."""
        return self.call("GET", "/api/v1/junctions", _given(query))

    def junction(self, name: str) -> Any:
        """One of them, over all simulations."""
        return self.call("GET", _path("/api/v1/junctions/{}", name))

    def records(self, **query: Unpack[RecordQuery]) -> Any:
        """A page of the ingested records."""
        return self.call("GET", "/api/v1/records", _given(query))

    def record(self, simulation: str, junction: str, timestamp: Moment) -> Any:
        """The newest version of a record."""
        return self.call("GET", _path("/api/v1/records/{}/{}/{}", simulation, junction, timestamp))

    def record_versions(self, simulation: str, junction: str, timestamp: Moment) -> Any:
        """All of a record, the newest first."""
        return self.call(
            "GET", _path("/api/v1/records/{}/{}/{}/versions", simulation, junction, timestamp)
        )

    def counts(self, **query: Unpack[CountQuery]) -> Any:
        """A page of what crossed the lines of cameras, by intervals."""
        return self.call("GET", "/api/v1/counts", _given(query))

    def export_simulations(self, **query: Unpack[FileQuery]) -> Any:
        """All of them as a file: text for CSV, bytes for Parquet."""
        return self.call("GET", "/api/v1/export/simulations", _given(query))

    def export_junctions(self, **query: Unpack[JunctionFileQuery]) -> Any:
        """The same of junctions."""
        return self.call("GET", "/api/v1/export/junctions", _given(query))

    def export_records(self, **query: Unpack[RecordFileQuery]) -> Any:
        """The same of records."""
        return self.call("GET", "/api/v1/export/records", _given(query))

    def export_counts(self, **query: Unpack[CountFileQuery]) -> Any:
        """The same of what cameras counted."""
        return self.call("GET", "/api/v1/export/counts", _given(query))

    def summary(self, simulation: str) -> Any:
        """Totals and means of a simulation."""
        return self.call("GET", _path("/api/v1/analytics/simulation/{}/summary", simulation))

    def wait_times(self, **query: Unpack[SimulationWindow]) -> Any:
        """Waits of each junction, seconds."""
        return self.call("GET", "/api/v1/analytics/wait-times", _given(query))

    def speeds(self, **query: Unpack[SimulationWindow]) -> Any:
        """Mean speeds of each junction, km/h."""
        return self.call("GET", "/api/v1/analytics/speeds", _given(query))

    def environmental_impact(self, **query: Unpack[ImpactQuery]) -> Any:
        """Fuel and CO2 saved, as reported."""
        return self.call("GET", "/api/v1/analytics/environmental-impact", _given(query))

    def compare(self, baseline: str, ai: str, **query: Unpack[ComparisonQuery]) -> Any:
        """Two simulations, paired; or two streets."""
        return self.call(
            "GET",
            "/api/v1/analytics/comparison/baseline-vs-ai",
            _given({"baseline": baseline, "ai": ai, **query}),
        )

    def breakdown(self, **query: Unpack[BreakdownQuery]) -> Any:
        """By direction, vehicle type or both, over time."""
        return self.call("GET", "/api/v1/analytics/breakdown", _given(query))

    def emergency_report(self, **query: Unpack[SimulationWindow]) -> Any:
        """Emergency vehicles and overrides."""
        return self.call("GET", "/api/v1/analytics/emergency-report", _given(query))

    def time_series(self, simulation: str, **query: Unpack[SeriesQuery]) -> Any:
        """Means over time."""
        return self.call(
            "GET", _path("/api/v1/analytics/time-series/{}", simulation), _given(query)
        )

    def live_metrics(self) -> Any:
        """The newest row of each junction."""
        return self.call("GET", "/api/v1/dashboard/live-metrics")

    def performance_comparison(self, **query: Unpack[PerformanceQuery]) -> Any:
        """Means of each simulation, and how they compare."""
        return self.call("GET", "/api/v1/dashboard/performance-comparison", _given(query))

    def wait_time_trend(self, **query: Unpack[TrendQuery]) -> Any:
        """Waits over time."""
        return self.call("GET", "/api/v1/charts/wait-time-trend", _given(query))

    def performance_scatter(self, **query: Unpack[SimulationWindow]) -> Any:
        """Throughput beside wait, a point a record."""
        return self.call("GET", "/api/v1/charts/performance-scatter", _given(query))

    def runs(self, **query: Unpack[OffsetQuery]) -> Any:
        """Runs of streets, newest first."""
        return self.call("GET", "/api/v1/runs", _given(query))

    def splits(self, run: int, **query: Unpack[RunPart]) -> Any:
        """Greens of each signal group."""
        return self._of_run(run, "splits", query)

    def arrivals(self, run: int, **query: Unpack[RunPart]) -> Any:
        """Arrivals on green, yellow and red."""
        return self._of_run(run, "arrivals", query)

    def terminations(self, run: int, **query: Unpack[RunPart]) -> Any:
        """What ended the greens."""
        return self._of_run(run, "terminations", query)

    def pedestrian_delay(self, run: int, **query: Unpack[RunPart]) -> Any:
        """Seconds from a call to the walk signal."""
        return self._of_run(run, "pedestrian-delay", query)

    def queues(self, run: int, **query: Unpack[RunPart]) -> Any:
        """Stopped vehicles and longest waits."""
        return self._of_run(run, "queues", query)

    def run_impact(self, run: int, **query: Unpack[RunImpactQuery]) -> Any:
        """Fuel, CO2 and cost of a run."""
        return self._of_run(run, "environmental-impact", query)

    def coordination(
        self, run: int, junction: str, signal_group: int, **query: Unpack[RunWindow]
    ) -> Any:
        """Data of the Purdue coordination diagram."""
        asked = {"junction": junction, "signal_group": signal_group, **query}
        return self._of_run(run, "coordination", asked)

    def events(self, run: int, **query: Unpack[EventQuery]) -> Any:
        """Events of a run, in order."""
        return self._of_run(run, "events", query)

    def high_resolution(self, run: int, **query: Unpack[OffsetQuery]) -> Any:
        """Indiana high-resolution event codes of a run."""
        return self._of_run(run, "high-resolution", query)

    def street(self, name: str) -> Any:
        """The state of one street."""
        return self.call("GET", _path("/api/v1/engine/streets/{}", name))

    def street_history(self, name: str) -> Any:
        """Waits and vehicles, every 5 s of its time."""
        return self.call("GET", _path("/api/v1/engine/streets/{}/history", name))

    def street_alerts(self, name: str) -> Any:
        """Alerts that are open."""
        return self.call("GET", _path("/api/v1/engine/streets/{}/alerts", name))

    def street_alert_rules(self, name: str) -> Any:
        """Those of its settings, then those that were set."""
        return self.call("GET", _path("/api/v1/engine/streets/{}/alert-rules", name))

    def set_street_alert_rule(self, street: str, name: str, rule: Json) -> Any:
        """A new one, or another one of this name."""
        where = _path("/api/v1/engine/streets/{}/alert-rules/{}", street, name)
        return self.call("PUT", where, None, rule)

    def remove_street_alert_rule(self, street: str, name: str) -> Any:
        """One that was set; its alerts are closed."""
        where = _path("/api/v1/engine/streets/{}/alert-rules/{}", street, name)
        return self.call("DELETE", where)

    def street_map(self, name: str) -> Any:
        """Lanes, outlines and signal heads."""
        return self.call("GET", _path("/api/v1/engine/streets/{}/map", name))

    def scenarios(self) -> Any:
        """What a street can be switched to."""
        return self.call("GET", "/api/v1/engine/scenarios")

    def controllers(self) -> Any:
        """Controllers that can be switched to."""
        return self.call("GET", "/api/v1/engine/controllers")

    def emergency(
        self,
        street: str,
        junction: str,
        stage: int,
        lasts_s: float = 60.0,
        idempotency_key: str = "",
    ) -> Any:
        """Clear a junction for an emergency vehicle. lasts_s: simulated seconds."""
        return self.call(
            "POST",
            _path("/api/v1/engine/streets/{}/emergency/{}", street, junction),
            None,
            {"stage": stage, "lasts_s": lasts_s},
            idempotency_key,
        )

    def scenario(self, street: str, scenario: str, idempotency_key: str = "") -> Any:
        """Another scenario, from its beginning."""
        return self.call(
            "POST",
            _path("/api/v1/engine/streets/{}/scenario", street),
            None,
            {"scenario": scenario},
            idempotency_key,
        )

    def optimisation(
        self,
        street: str,
        enabled: bool | None = None,
        cycle_s: float | None = None,
        speed_factor: float | None = None,
        idempotency_key: str = "",
    ) -> Any:
        """What is None stays as it is."""
        return self.call(
            "POST",
            _path("/api/v1/engine/streets/{}/optimisation", street),
            None,
            {"enabled": enabled, "cycle_s": cycle_s, "speed_factor": speed_factor},
            idempotency_key,
        )

    def cameras(self) -> Any:
        """All cameras."""
        return self.call("GET", "/api/v1/cameras")

    def add_camera(self, camera: Json, idempotency_key: str = "") -> Any:
        """A new camera, in the form of the API."""
        return self.call("POST", "/api/v1/cameras", None, camera, idempotency_key)

    def camera(self, camera: str) -> Any:
        """One camera, with what it sees now."""
        return self.call("GET", _path("/api/v1/cameras/{}", camera))

    def remove_camera(self, camera: str) -> Any:
        """Its violations stay."""
        return self.call("DELETE", _path("/api/v1/cameras/{}", camera))

    def start_camera(self, camera: str, idempotency_key: str = "") -> Any:
        """One that was stopped, or that failed."""
        return self.call(
            "POST", _path("/api/v1/cameras/{}/start", camera), None, None, idempotency_key
        )

    def stop_camera(self, camera: str, idempotency_key: str = "") -> Any:
        """It can be started again."""
        return self.call(
            "POST", _path("/api/v1/cameras/{}/stop", camera), None, None, idempotency_key
        )

    def camera_site(self, camera: str) -> Any:
        """Calibration, lines, zones and rules."""
        return self.call("GET", _path("/api/v1/cameras/{}/site", camera))

    def set_camera_site(self, camera: str, site: Json) -> Any:
        """Another site; counts start again from zero."""
        return self.call("PUT", _path("/api/v1/cameras/{}/site", camera), None, site)

    def camera_settings(self, camera: str) -> Any:
        """As in force."""
        return self.call("GET", _path("/api/v1/cameras/{}/settings", camera))

    def set_camera_settings(self, camera: str, settings: Json) -> Any:
        """Change those that are given."""
        return self.call("PUT", _path("/api/v1/cameras/{}/settings", camera), None, settings)

    def camera_signals(
        self, camera: str, colours: Sequence[Json], idempotency_key: str = ""
    ) -> Any:
        """What the signals before a camera show."""
        return self.call(
            "POST",
            _path("/api/v1/cameras/{}/signals", camera),
            None,
            list(colours),
            idempotency_key,
        )

    def camera_view(self, camera: str, frames: int = 1) -> Any:
        """So many live pictures, as MJPEG."""
        return self.call(
            "GET", _path("/api/v1/cameras/{}/view", camera), _given({"frames": frames})
        )

    def machine(self) -> Any:
        """Processor, memory, load, disk."""
        return self.call("GET", "/api/v1/monitoring/system")

    def camera_performance(self) -> Any:
        """Rates, latency and drops of the cameras."""
        return self.call("GET", "/api/v1/monitoring/performance")

    def camera_alerts(self) -> Any:
        """On cameras and machine, that are open now."""
        return self.call("GET", "/api/v1/monitoring/alerts")

    def alert_metrics(self) -> Any:
        """Figures that rules may name."""
        return self.call("GET", "/api/v1/monitoring/alerts/metrics")

    def alert_rules(self) -> Any:
        """All of them."""
        return self.call("GET", "/api/v1/monitoring/alerts/rules")

    def alert_rule(self, name: str) -> Any:
        """One of them."""
        return self.call("GET", _path("/api/v1/monitoring/alerts/rules/{}", name))

    def add_alert_rule(self, rule: Json, idempotency_key: str = "") -> Any:
        """In force at once."""
        return self.call("POST", "/api/v1/monitoring/alerts/rules", None, rule, idempotency_key)

    def change_alert_rule(self, name: str, rule: Json) -> Any:
        """Another rule of the same name."""
        return self.call("PUT", _path("/api/v1/monitoring/alerts/rules/{}", name), None, rule)

    def remove_alert_rule(self, name: str) -> Any:
        """Its alerts are closed."""
        return self.call("DELETE", _path("/api/v1/monitoring/alerts/rules/{}", name))

    def violations(self, **query: Unpack[ViolationQuery]) -> Any:
        """Candidates for review, newest first."""
        return self.call("GET", "/api/v1/violations", _given(query))

    def erase_violations(self, device: str, **query: Unpack[ErasureQuery]) -> Any:
        """Of one device, with their images."""
        return self.call("DELETE", "/api/v1/violations", _given({"device": device, **query}))

    def violation_trends(self, **query: Unpack[ViolationWindow]) -> Any:
        """By hour."""
        return self.call("GET", "/api/v1/violations/trends", _given(query))

    def violation_hotspots(self, **query: Unpack[HotspotQuery]) -> Any:
        """Devices by their candidates, most first."""
        return self.call("GET", "/api/v1/violations/hotspots", _given(query))

    def violation_summary(self, **query: Unpack[ViolationWindow]) -> Any:
        """In all, by rule, an hour."""
        return self.call("GET", "/api/v1/violations/summary", _given(query))

    def review(self, violation: str, state: str, note: str = "", idempotency_key: str = "") -> Any:
        """state: confirmed, dismissed, or open."""
        return self.call(
            "POST",
            _path("/api/v1/violations/{}/review", violation),
            None,
            {"state": state, "note": note},
            idempotency_key,
        )

    def violation_image(self, violation: str, number: int) -> Any:
        """A JPEG."""
        return self.call("GET", _path("/api/v1/violations/{}/images/{}", violation, number))

    def stream_history(self, topic: Topic, **query: Unpack[HistoryQuery]) -> Any:
        """Messages after `last_id`; waits up to `wait_s` (15) where there are none."""
        return self.call("GET", _path("/api/v1/live/{}/history", topic), _given(query))

    def start_job(
        self, kind: str, arguments: Json, street: str | None = None, idempotency_key: str = ""
    ) -> Any:
        """Train, tune or evaluate, which `headway worker` does; `id` of the answer is the job's."""
        body = {"kind": kind, "arguments": arguments}
        return self.call("POST", "/api/v1/ml/train", _of(street), body, idempotency_key)

    def jobs(self, **query: Unpack[JobQuery]) -> Any:
        """A page of the jobs, the newest first."""
        return self.call("GET", "/api/v1/ml/jobs", _given(query))

    def job(self, job_id: int) -> Any:
        """Its state, progress, and what came of it."""
        return self.call("GET", _path("/api/v1/ml/jobs/{}", job_id))

    def cancel_job(self, job_id: int) -> Any:
        """One that has ended stays as it is."""
        return self.call("DELETE", _path("/api/v1/ml/jobs/{}", job_id))

    def models(self, **query: Unpack[ModelQuery]) -> Any:
        """A page of the versions of models, the newest first."""
        return self.call("GET", "/api/v1/ml/models", _given(query))

    def model(self, model_id: int) -> Any:
        """One version: what it was made from, its metrics, its lineage."""
        return self.call("GET", _path("/api/v1/ml/models/{}", model_id))

    def model_status(self, junction: str, **query: Unpack[StreetQuery]) -> Any:
        """Who decides at a junction."""
        return self.call("GET", _path("/api/v1/ml/status/{}", junction), _given(query))

    def deploy(
        self,
        model_id: int,
        mode: str,
        *,
        street: str | None = None,
        junctions: Sequence[str] = (),
        hours: Sequence[Sequence[float]] = (),
        turn_s: float = 240.0,
        worse_by: float = 0.05,
        false_alarms: float = 0.02,
        idempotency_key: str = "",
    ) -> Any:
        """A model decides. mode: all, canary or shadow; the others are of a canary, junctions of a
        shadow too.
        """
        body = {
            "mode": mode,
            "junctions": list(junctions),
            "hours": [list(part) for part in hours],
            "turn_s": turn_s,
            "worse_by": worse_by,
            "false_alarms": false_alarms,
        }
        path = _path("/api/v1/ml/deploy/{}", model_id)
        return self.call("POST", path, _of(street), body, idempotency_key)

    def roll_back(
        self,
        junction: str,
        what: str = "deploy",
        *,
        everywhere: bool = False,
        model: str = "",
        street: str | None = None,
        idempotency_key: str = "",
    ) -> Any:
        """what: deploy (the champion of the whole street), canary or shadow. model: the one that is
        meant: a conflict where another has its place by now; empty for whoever it is.
        """
        body = {"what": what, "everywhere": everywhere, "model": model}
        path = _path("/api/v1/ml/rollback/{}", junction)
        return self.call("POST", path, _of(street), body, idempotency_key)

    def model_metrics(self, junction: str, **query: Unpack[StreetQuery]) -> Any:
        """Drift, calibration, and quality of the data."""
        return self.call("GET", _path("/api/v1/ml/metrics/{}", junction), _given(query))

    def metrics_of_junctions(self, intersections: Sequence[str], street: str | None = None) -> Any:
        """The same of several junctions."""
        body = {"intersections": list(intersections)}
        return self.call("POST", "/api/v1/ml/metrics", _of(street), body)

    def model_performance(self, junction: str, **query: Unpack[StreetQuery]) -> Any:
        """How it does now, how long decisions take, what is saved."""
        return self.call("GET", _path("/api/v1/ml/performance/{}", junction), _given(query))

    def predict(self, observation: Json, **query: Unpack[PredictQuery]) -> Any:
        """What would be decided at a junction for an observation, and why."""
        return self.call("POST", "/api/v1/ml/predict", _given(query), observation)

    def predict_many(self, observations: Sequence[Json], **query: Unpack[PredictQuery]) -> Any:
        """The same for up to 1,000 of them."""
        return self.call("POST", "/api/v1/ml/predict/batch", _given(query), list(observations))

    def model_health(self) -> Any:
        """Of registry and jobs."""
        return self.call("GET", "/api/v1/ml/health")
