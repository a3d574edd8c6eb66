"""The sections of the settings: one typed tree, with bounds, defaults and old names."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

# Every list of controllers is made of these: the schema, the page, the commands' help. What each
# name stands for is in `headway.control.catalogue`.
ControllerName = Literal[
    "fixed", "webster", "actuated", "greedy", "max-pressure", "planner", "q-learning"
]
FallbackName = Literal["fixed", "webster", "actuated", "planner"]

# Old names, accepted until 0.2 (docs/deprecated.md): keys by section, and values of street.sensing.
OLD_KEYS = {"loop": {"realtime": "speed_factor"}}
OLD_SENSING = {"pictures": "rendered"}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def with_new_keys(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` of a section under their new keys; each old one is logged. Raises ValueError where
    the old and the new key are both given.
    """
    found = dict(values)
    for old, new in OLD_KEYS.get(section, {}).items():
        if old not in found:
            continue
        if new in found:
            raise PydanticCustomError(
                "both_names", f"{old} is the old name of {new}. Give {new} alone"
            )
        warn_of(f"the key {section}.{old}", f"{section}.{new}")
        found[new] = found.pop(old)
    return found


def warn_of(old: str, new: str) -> None:
    logging.getLogger("headway.settings").warning("settings: %s is deprecated: use %s", old, new)


class LoopSettings(_Section):
    """The loop. tick_s: period of decisions; cycle_s: period of the optimisation cycle; both
    seconds. speed_factor: simulated seconds per second.
    """

    tick_s: float = Field(default=1.0, ge=0.1, le=5.0)
    cycle_s: float = Field(default=30.0, ge=5.0, le=600.0)
    speed_factor: float = Field(
        default=0.0,
        ge=0.0,
        le=1000.0,
        description="simulated seconds per second; 0 is as fast as possible",
    )
    mode: Literal["performance", "balanced", "accuracy"] = "balanced"
    overrun: Literal["degrade", "skip", "slow"] = "degrade"


class ControlSettings(_Section):
    """The controller, and its fallback. Below `confidence` a junction is left to the fallback.
    on_congestion: who decides on a congested junction in place of a controller that is neither the
    planner nor fixed time. step_within_s: wall time of a controller's step; a longer one is not
    used, and its controller rests for a minute.
    """

    controller: ControllerName = "planner"
    fallback: FallbackName = "webster"
    confidence: float = Field(default=0.4, ge=0.0, le=1.0)
    on_congestion: Literal["planner", "none"] = "planner"
    step_within_s: float = Field(default=1.0, ge=0.05, le=60.0)


class StreetSettings(_Section):
    """The street. timing: rules of time; sensing: what is detected (rendered: by a rendered camera
    over each junction alone; external: what others report, and nothing else).
    """

    scenario: str = "cologne8"
    seed: int = Field(default=1, ge=0)
    scale: float = Field(default=1.0, gt=0.0, le=10.0)
    timing: Literal["benchmark", "street"] = "street"
    sensing: Literal["connected", "camera", "loops", "rendered", "external"] = "connected"

    @field_validator("sensing", mode="before")
    @classmethod
    def _take_old_sensing(cls, value: Any) -> Any:
        if not isinstance(value, str) or value not in OLD_SENSING:
            return value
        warn_of(f"the value street.sensing: {value}", OLD_SENSING[value])
        return OLD_SENSING[value]


class LimitSettings(_Section):
    """Limits that the safety gate enforces, seconds; what is left out is as in the timing profile.

    yellow_s, red_clearance_s: at least; no shorter than the profile computes or fixes them.
    pedestrian_s: walk and clearance of a crossing together.

    Bounds. Minimum green: 4 s, the least that meets drivers' expectation (FHWA Signal Timing
    Manual, 2008, chapter 5). Yellow 3 to 6 s, red clearance up to 6 s, walk from 4 s (MUTCD 2009,
    4D.26 and 4E.06). Cycle: up to 300 s; practice is 30 to 120 s (RiLSA), longer where saturated.
    """

    min_green_s: float | None = Field(default=None, ge=4.0, le=60.0)
    max_green_s: float | None = Field(default=None, ge=10.0, le=300.0)
    walk_s: float | None = Field(default=None, ge=4.0, le=60.0)
    pedestrian_s: float | None = Field(default=None, ge=7.0, le=120.0)
    yellow_s: float | None = Field(default=None, ge=3.0, le=6.0)
    red_clearance_s: float | None = Field(default=None, ge=0.0, le=6.0)
    min_cycle_s: float | None = Field(default=None, ge=0.0, le=120.0)
    max_cycle_s: float | None = Field(default=None, ge=30.0, le=300.0)
    max_red_s: float | None = Field(default=None, ge=30.0, le=300.0)


class SafetySettings(_Section):
    """The safety gate's limits for the street, and over them those of single junctions, by name."""

    limits: LimitSettings = LimitSettings()
    junctions: dict[str, LimitSettings] = {}

    @field_validator("junctions", mode="before")
    @classmethod
    def _take_numbers_as_names(cls, value: Any) -> Any:
        """In the settings of a program 247379907 may be a number. Raises ValueError where two are
        one name.
        """
        if not isinstance(value, Mapping):
            return value
        named = {str(k) if type(k) is int else k: limits for k, limits in value.items()}
        if len(named) < len(value):
            raise PydanticCustomError("twice", "a junction is given twice. Give it once")
        return named


class SourceSettings(_Section):
    """A source of observations from outside. holder: of the credentials that may speak for it;
    junctions: that it may speak of, empty for all; emergencies: its emergency vehicles may claim
    priority.
    """

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:/#\-]+$")
    holder: str = Field(min_length=1, max_length=64)
    junctions: tuple[str, ...] = ()
    weight: float = Field(default=1.0, ge=0.0, le=1.0)
    emergencies: bool = True


class MqttSettings(_Section):
    """A broker from which observations are taken. topic: its last level names the holder."""

    host: str = Field(min_length=1)
    port: int = Field(default=8883, ge=1, le=65535)
    topic: str = Field(default="headway/observations/+", pattern=r"^[^#+]*/\+$")
    street: str = "headway"
    user: str = ""
    password: str = ""
    tls: bool = True
    ca_file: str = ""


class ExternalSettings(_Section):
    """Observations from outside. oldest_s, ahead_s: how far behind and ahead of the street's time
    a measurement may be; rows_per_s: of one holder of credentials, all its sources together.
    """

    oldest_s: float = Field(default=10.0, ge=3.0, le=300.0)
    ahead_s: float = Field(default=2.0, ge=0.0, le=60.0)
    rows_per_s: float = Field(default=500.0, gt=0.0, le=100_000.0)
    sources: tuple[SourceSettings, ...] = ()
    mqtt: MqttSettings | None = None

    @field_validator("sources")
    @classmethod
    def _check_names(cls, value: tuple[SourceSettings, ...]) -> tuple[SourceSettings, ...]:
        names = [source.name for source in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"source {twice[0]!r} is there twice. Give it one entry")
        return value


class RecoverySettings(_Section):
    """What survives. checkpoint_s: simulated seconds between checkpoints; silent_s: wall seconds
    after which a worker counts as hung.
    """

    folder: str = "data"
    checkpoint_s: float = Field(default=60.0, ge=1.0, le=3600.0)
    silent_s: float = Field(default=10.0, ge=0.5, le=300.0)
    restarts: int = Field(
        default=5, ge=0, le=1000, description="restarts allowed without a checkpoint in between"
    )


class RuleSettings(_Section):
    """An alert: when the figure at `path` of the state (such as junctions.*.queue) is `condition`
    than `threshold`, for `for_s` seconds.
    """

    name: str
    path: str
    condition: Literal[">", ">=", "<", "<=", "==", "!="] = ">"
    threshold: float = Field(allow_inf_nan=False)
    level: Literal["info", "warning", "error", "critical"] = "warning"
    hysteresis: float = Field(default=0.0, ge=0.0)
    for_s: float = Field(default=0.0, ge=0.0)
    clear_s: float = Field(default=0.0, ge=0.0)


SYSTEM_RULES = (
    RuleSettings(name="cpu", path="machine.cpu_share", threshold=0.95, hysteresis=0.1, for_s=120.0),
    RuleSettings(
        name="memory",
        path="machine.memory_share",
        threshold=0.9,
        hysteresis=0.05,
        for_s=60.0,
        level="error",
    ),
    RuleSettings(
        name="disk", path="machine.disk_share", threshold=0.9, hysteresis=0.02, level="error"
    ),
    RuleSettings(
        name="memory of a process", path="processes.*.memory_bytes", threshold=2e9, for_s=60.0
    ),
    RuleSettings(
        name="errors", path="errors_per_minute", threshold=5.0, level="error", clear_s=30.0
    ),
    RuleSettings(
        name="database away",
        path="database.alive",
        condition="<",
        threshold=1.0,
        for_s=10.0,
        level="critical",
    ),
    RuleSettings(
        name="slow ticks", path="streets.*.tick_share", threshold=0.8, hysteresis=0.1, for_s=30.0
    ),
    RuleSettings(name="overruns", path="streets.*.overruns_per_minute", threshold=30.0, for_s=30.0),
    RuleSettings(
        name="failed cycles",
        path="streets.*.cycle_success_rate",
        condition="<",
        threshold=0.9,
        hysteresis=0.02,
        for_s=30.0,
        level="error",
    ),
    RuleSettings(
        name="restarts", path="streets.*.restarts_per_minute", threshold=0.0, level="error"
    ),
)


class AlertSettings(_Section):
    """Alerts. rules: on each street. system: on the program itself, its machine, and the
    performance of its streets. notify_from: the least level that goes to webhooks and e-mail.
    """

    rules: tuple[RuleSettings, ...] = (
        RuleSettings(
            name="long wait",
            path="junctions.*.longest_wait_s",
            threshold=180.0,
            hysteresis=60.0,
            for_s=5.0,
        ),
        RuleSettings(
            name="long queue", path="junctions.*.queue", threshold=40.0, hysteresis=10.0, for_s=10.0
        ),
    )
    system: tuple[RuleSettings, ...] = SYSTEM_RULES
    notify_from: Literal["info", "warning", "error", "critical"] = "warning"


class LogSettings(_Section):
    """Logs. folder: one file a component there, besides standard error; empty for none."""

    level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    json_lines: bool = False
    folder: str = ""


class WebhookSettings(_Section):
    """Where violations and alerts are sent by HTTP. secret: signs each message; bearer_token: sent
    as `Authorization: Bearer ...`, to https or to this machine alone.
    """

    url: str = Field(max_length=4096)
    secret: str = Field(min_length=16, repr=False)
    bearer_token: str = Field(default="", pattern=r"^[\x21-\x7e]*$", max_length=8192, repr=False)
    attempts: int = Field(default=6, ge=1, le=20)

    @field_validator("url")
    @classmethod
    def _has_a_host(cls, url: str) -> str:
        if re.fullmatch(r"https?://[^\s/?#@]+([/?#]\S*)?", url) is None:
            raise PydanticCustomError(
                "url", "no web address. Give https://HOST/PATH, without user, password and spaces"
            )
        return url


class MailSettings(_Section):
    """The mail server for critical alerts; each kind at most once in `at_least_s`. sender and each
    of `to`: one address, `name@example.org` or `Words <name@example.org>`.
    """

    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65535)
    sender: str
    to: tuple[str, ...] = Field(min_length=1)
    user: str = ""
    password: str = Field(default="", repr=False)
    security: Literal["tls", "starttls", "none"] = "starttls"
    at_least_s: float = Field(default=60.0, ge=0.0)

    @field_validator("sender")
    @classmethod
    def _is_address(cls, sender: str) -> str:
        _check_address(sender)
        return sender

    @field_validator("to")
    @classmethod
    def _are_addresses(cls, to: tuple[str, ...]) -> tuple[str, ...]:
        for address in to:
            _check_address(address)
        return to


# One address, with or without words before it. What else RFC 5322 allows (quotes, comments, lists)
# ends Python's own parser in errors of many kinds.
ADDRESS = re.compile(
    r"(?P<words>[\w .'&/+-]*<)?[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*"
    r"@[\w-]+(\.[\w-]+)*(?(words)>)"
)


def _check_address(text: str) -> None:
    """Raises ValueError for what is not one e-mail address."""
    if ADDRESS.fullmatch(text) is None:
        raise PydanticCustomError("address", "no e-mail address. Give one name@example.org")


class MetricInfo(NamedTuple):
    """A figure that alert rules may name. of_camera: each camera has one; else the machine."""

    text: str
    of_camera: bool


CAMERA_METRICS = {
    "fps": MetricInfo("frames processed a second, of late", True),
    "latency_p50_ms": MetricInfo("from decoded to published, median of late", True),
    "latency_p95_ms": MetricInfo("the same, 95th percentile", True),
    "dropped_share": MetricInfo("dropped of the frames received, 0 to 1, from 51 frames on", True),
    "broken_share": MetricInfo("frames that could not be decoded, 0 to 1", True),
    "silent_s": MetricInfo("seconds since the last frame", True),
    "failed": MetricInfo("1 while it cannot be read, or was given up", True),
    "dead": MetricInfo("1 while it delivers no images, or always the same, or black ones", True),
    "cpu_share": MetricInfo("processor time of the machine, 0 to 1 of all processors", False),
    "memory_share": MetricInfo("used memory of the machine, 0 to 1", False),
    "memory_bytes": MetricInfo("used memory of the machine", False),
    "load_1m": MetricInfo("load average of a minute", False),
    "disk_share": MetricInfo("used part of the data folder's disk, 0 to 1", False),
    "disk_free_bytes": MetricInfo("room left there", False),
    "headway_cpu_share": MetricInfo("processor time of all its processes, 0 to 1", False),
    "headway_memory_bytes": MetricInfo("resident memory of all its processes", False),
    "headway_processes": MetricInfo("how many processes it has", False),
}


class CameraRule(_Section):
    """An alert on a figure of CAMERA_METRICS: when it is `operator` than `threshold` for `for_s`.

    camera: of one camera alone, empty for each. notify: webhooks are told; of a critical one by
    e-mail as well.
    """

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_. -]+$")
    metric: str = Field(max_length=64)
    operator: Literal[">", ">=", "<", "<=", "==", "!="] = ">"
    threshold: float = Field(allow_inf_nan=False)
    severity: Literal["info", "warning", "error", "critical"] = "warning"
    for_s: float = Field(default=0.0, ge=0.0, le=86_400.0)
    camera: str = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9_-]*$")
    notify: bool = True

    @field_validator("metric")
    @classmethod
    def _is_known(cls, metric: str) -> str:
        if metric not in CAMERA_METRICS:
            raise PydanticCustomError(
                "metric",
                "there is no such figure. Known: {known}",
                {"known": ", ".join(CAMERA_METRICS)},
            )
        return metric

    @model_validator(mode="after")
    def _is_of_camera(self) -> CameraRule:
        if self.camera and not CAMERA_METRICS[self.metric].of_camera:
            raise PydanticCustomError(
                "camera", "a figure of the machine has no camera. Leave camera empty"
            )
        return self


class CameraSettings(_Section):
    """Cameras; what one is given by the API stands over it, up to `violations`.

    attempts: connections in a row that may fail, 0 for any number; delay_s: before the second, then
    doubled up to 30 s. buffer: frames that wait, the oldest is dropped. rate_hz: frames a second at
    most, 0 for all. confidence: of a detection at least, 0 for the detector's own. speed,
    violations: which analyses are made.
    dead_after_s: without a frame, a camera is dead. still_after_s: so it is with the same image, or
    a black one. alert_rules: beside those that are added by the API.
    """

    attempts: int = Field(default=0, ge=0, le=10_000)
    delay_s: float = Field(default=0.5, ge=0.1, le=300.0)
    buffer: int = Field(default=1, ge=1, le=64)
    rate_hz: float = Field(default=0.0, ge=0.0, le=120.0)
    confidence: float = Field(default=0.0, ge=0.0, le=0.99)
    speed: bool = True
    violations: bool = True
    dead_after_s: float = Field(default=15.0, ge=6.0, le=3600.0)
    still_after_s: float = Field(default=20.0, ge=5.0, le=3600.0)
    alert_rules: tuple[CameraRule, ...] = (
        CameraRule(name="slow", metric="latency_p95_ms", threshold=500.0),
        CameraRule(name="drops", metric="dropped_share", threshold=0.10),
        CameraRule(name="broken frames", metric="broken_share", threshold=0.05, severity="error"),
        # who is to know of it learns it from camera.dead
        CameraRule(
            name="failed", metric="failed", threshold=0.5, severity="critical", notify=False
        ),
        CameraRule(name="dead", metric="dead", threshold=0.5, severity="critical", notify=False),
    )

    @field_validator("alert_rules")
    @classmethod
    def _has_unique_names(cls, rules: tuple[CameraRule, ...]) -> tuple[CameraRule, ...]:
        names = [rule.name for rule in rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise PydanticCustomError(
                "names",
                "{name} occurs twice. Each rule needs a name of its own",
                {"name": twice[0]},
            )
        return rules


class BothNamesError(Exception):
    """source: as in `_Renamed`; text: what is given twice."""

    def __init__(self, source: str, text: str) -> None:
        super().__init__(source, text)
        self.source = source
        self.text = text


class _Renamed(PydanticBaseSettingsSource):
    """The values of another source under their new keys. name: of that source, for errors; empty
    for the file.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], source: PydanticBaseSettingsSource, name: str
    ) -> None:
        super().__init__(settings_cls)
        self._source = source
        self._name = name

    def __call__(self) -> dict[str, Any]:
        """Raises BothNamesError where the old and the new key of one thing are both given."""
        found = dict(self._source())
        for section, values in found.items():
            try:
                if isinstance(values, Mapping):
                    found[section] = with_new_keys(section, values)
            except PydanticCustomError as error:
                raise BothNamesError(self._name, f"{section}: {error}.") from error
        return found

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self._source.get_field_value(field, field_name)


class NotifySettings(_Section):
    """Recipients of violations and alerts. public_url: the address at which they reach this server,
    for links to images; without it, links are paths.
    """

    public_url: str = Field(default="", pattern=r"^(https?://[^\s]+)?$")
    webhooks: tuple[WebhookSettings, ...] = ()
    mail: MailSettings | None = None


class ApiLimits(_Section):
    """The API. per_minute: requests of one client, 0 for no limit. origins: web origins whose
    pages may call it (CORS), as scheme://host or scheme://host:port. cache_s: seconds for which
    an answer of analytics is given again.
    """

    per_minute: int = Field(default=100, ge=0, le=1_000_000)
    origins: tuple[
        Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.\-]+(:[0-9]{1,5})?$")], ...
    ] = ()
    cache_s: float = Field(default=10.0, ge=0.0, le=3600.0)


class DatabaseSettings(_Section):
    """The connections to PostgreSQL. pool_size: kept open; max_overflow: opened beside them under
    load; pool_wait_s: how long a request waits for one.
    """

    pool_size: int = Field(default=20, ge=1, le=1000)
    max_overflow: int = Field(default=30, ge=0, le=1000)
    pool_wait_s: float = Field(default=10.0, gt=0.0, le=300.0)


class UpkeepSettings(_Section):
    """Backups and retention on a schedule, by UTC. at: time of day of the first run of a day.

    backup_every_h: hours between backups, 0 for none. keep: backups that are kept, the newest.
    folder: of the backups, and key: the key file they are encrypted with; both are made where
    they are missing (empty: `backups` and `backup.key` in the data folder).
    retention_days: records older than this are deleted once a day, 0 for never.
    """

    at: str = Field(default="03:00", pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")
    backup_every_h: float = Field(default=24.0, ge=0.0, le=24.0 * 366)
    keep: int = Field(default=7, ge=1, le=10_000)
    folder: str = ""
    key: str = ""
    retention_days: float = Field(default=0.0, ge=0.0, le=100_000.0)


class SumoSection(_Section):
    """SUMO. folders: those whose `.sumocfg` files the API may choose. remote: empty for libsumo in
    the street's process, "gui" for the program `binary` of this machine, or host:port of one that
    waits there. step_s: of the simulation, empty for the scenario's own. teleport_s: a vehicle
    stuck so long is moved on, below 0 never; empty for the scenario's own, never where it has none.
    range_m: how far upstream of a stop line vehicles are observed. options: further options, of
    SAFE_SUMO_OPTIONS.
    """

    folders: tuple[str, ...] = ()
    remote: str = Field(default="", pattern=r"^(gui|[A-Za-z0-9.\-]*:\d{1,5})?$")
    binary: str = Field(default="sumo-gui", min_length=1)
    step_s: float | None = Field(default=None, ge=0.05, le=1.0)
    teleport_s: float | None = Field(default=None, ge=-1.0, le=86400.0)
    range_m: float = Field(default=200.0, ge=20.0, le=1000.0)
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)

    @field_validator("options")
    @classmethod
    def _refuse_unsafe_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name, value in options.items():
            if name not in SAFE_SUMO_OPTIONS:
                raise PydanticCustomError(
                    "unsafe_option",
                    f"no option {name[:80]!r} that is taken here. There are: "
                    f"{', '.join(SAFE_SUMO_OPTIONS)}",
                )
            if not re.fullmatch(r"[\w.+\-]{1,40}", str(value), re.ASCII):
                raise PydanticCustomError(
                    "unsafe_value", f"{name}: give a number, true, false or one word"
                )
        return options


# They name no file, open no port, and change neither time nor what Headway controls.
SAFE_SUMO_OPTIONS = (
    "collision.action", "collision.check-junctions", "collision.mingap-factor",
    "collision.stoptime", "default.action-step-length", "default.carfollowmodel",
    "default.emergencydecel", "default.speeddev", "device.rerouting.adaptation-interval",
    "device.rerouting.period", "device.rerouting.pre-period", "device.rerouting.probability",
    "eager-insert", "emergencydecel.warning-threshold", "extrapolate-departpos",
    "ignore-accidents", "ignore-junction-blocker", "ignore-route-errors", "lanechange.duration",
    "lateral-resolution", "max-depart-delay", "max-num-vehicles", "pedestrian.model",
    "random-depart-offset", "sloppy-insert", "step-method.ballistic", "threads",
    "time-to-impatience", "time-to-teleport.disconnected", "time-to-teleport.highways",
)  # fmt: skip


def _figure(default: float, least: float, most: float) -> Any:
    return Field(default=default, ge=least, le=most, allow_inf_nan=False)


class PlannerSettings(_Section):
    """The planner's figures; what each means stands at `Model` in `control.queue_model`."""

    horizon_s: float = _figure(60.0, 10.0, 300.0)
    headway_s: float = _figure(1.89, 0.5, 10.0)
    startup_loss_s: float = _figure(1.38, 0.0, 10.0)
    end_gain_s: float = _figure(0.34, 0.0, 5.0)
    stop_cost_s: float = _figure(1.33, 0.0, 60.0)
    crawl_mps: float = _figure(5.0, 0.1, 15.0)
    acceleration_mps2: float = _figure(3.54, 0.5, 10.0)
    follow_up_s: float = _figure(0.67, 0.1, 10.0)
    platoon_gap_s: float = _figure(2.0, 0.5, 20.0)
    look_ahead_s: float = _figure(5.0, 0.0, 60.0)
    leftover_cost_s: float = _figure(0.0, 0.0, 600.0)
    min_room_m: float = _figure(15.0, 0.0, 100.0)
    short_lane_m: float = _figure(60.0, 0.0, 500.0)
    blocked_after_s: float = _figure(7.0, 1.0, 120.0)
    patience_s: float = _figure(32.0, 1.0, 600.0)
    spillback_weight: float = _figure(0.5, 0.0, 10.0)
    blocking_cost: float = _figure(1.0, 0.0, 60.0)
    person_weight: float = _figure(1.0, 0.0, 100.0)


class RewardSettings(_Section):
    """Weights of the terms of Q-learning's reward; see `Reward` in `learning.training`."""

    stopped: float = _figure(1.0, 0.0, 100.0)
    longest: float = _figure(2.0, 0.0, 100.0)
    change: float = _figure(1.0, 0.0, 100.0)
    neighbours: float = _figure(0.3, 0.0, 1.0)


class QLearningSettings(_Section):
    """The agent. interval_s: between two decisions of a junction. rate: learning rate; gamma:
    discount of an interval; explore: share of tries in the first and in the last episode; batch:
    replayed experiences a step; rows: of a new Q-table.
    """

    interval_s: float = _figure(5.0, 1.0, 60.0)
    episodes: int = Field(default=10, ge=1, le=100_000)
    rate: float = Field(default=0.3, gt=0.0, le=1.0)
    gamma: float = Field(default=0.9, ge=0.0, lt=1.0)
    explore: tuple[float, float] = (0.3, 0.02)
    batch: int = Field(default=256, ge=1, le=65536)
    rows: int = Field(default=1 << 18, ge=1 << 10, le=1 << 26)
    reward: RewardSettings = RewardSettings()

    @field_validator("explore")
    @classmethod
    def _are_falling_shares(cls, explore: tuple[float, float]) -> tuple[float, float]:
        first, last = explore
        if not 0.0 < last <= first <= 1.0:
            raise PydanticCustomError(
                "explore",
                "two shares, the last above 0 and not above the first, which is at most 1",
            )
        return explore


class ServerSettings(_Section):
    """How the server is reached. tls_certificate, tls_key: PEM files, for https. proxies: addresses
    of the reverse proxies before it, which do TLS and whose X-Forwarded-... headers are believed.
    """

    tls_certificate: str = ""
    tls_key: str = ""
    proxies: tuple[str, ...] = ()

    @field_validator("proxies")
    @classmethod
    def _are_addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError as error:
                raise PydanticCustomError(
                    "proxy", f"{proxy!r} is no address. Give IP addresses or networks (10.0.0.0/8)"
                ) from error
        return proxies

    @model_validator(mode="after")
    def _has_both_or_none(self) -> ServerSettings:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise PydanticCustomError("tls", "give tls_certificate and tls_key together")
        return self


class Settings(BaseSettings):
    """All settings of Headway."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix="HEADWAY_",
        env_nested_delimiter="__",
        hide_input_in_errors=True,
    )

    environment: Literal["local", "development", "production", "test"] = "local"
    loop: LoopSettings = LoopSettings()
    control: ControlSettings = ControlSettings()
    street: StreetSettings = StreetSettings()
    safety: SafetySettings = SafetySettings()
    external: ExternalSettings = ExternalSettings()
    recovery: RecoverySettings = RecoverySettings()
    alerts: AlertSettings = AlertSettings()
    log: LogSettings = LogSettings()
    notify: NotifySettings = NotifySettings()
    cameras: CameraSettings = CameraSettings()
    api: ApiLimits = ApiLimits()
    database: DatabaseSettings = DatabaseSettings()
    upkeep: UpkeepSettings = UpkeepSettings()
    sumo: SumoSection = SumoSection()
    planner: PlannerSettings = PlannerSettings()
    q_learning: QLearningSettings = QLearningSettings()
    server: ServerSettings = ServerSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables of the environment stand over what the file says, under whichever names."""
        return (
            _Renamed(settings_cls, env_settings, "the variables HEADWAY_..."),
            _Renamed(settings_cls, init_settings, ""),
        )


RESTART_ONLY = (
    "environment",
    "street",
    "safety",
    "external",
    "recovery",
    "notify",
    "cameras",
    "api",
    "database",
    "upkeep",
    "sumo",
    "server",
)
