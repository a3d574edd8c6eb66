"""The section on cameras."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from headway.settings.base import Section, zero_or_from


class MetricInfo(NamedTuple):
    """A figure that alert rules may name. of_camera: each camera has one; else the machine."""

    text: str
    of_camera: bool


CAMERA_METRICS = {
    "fps": MetricInfo("frames processed a second, of late", True),
    "latency_p50_ms": MetricInfo("from decoded to published, median of late", True),
    "latency_p95_ms": MetricInfo("the same, 95th percentile", True),
    "dropped_share": MetricInfo(
        "dropped of the frames of the last minute, without those beyond rate_hz, 0 to 1; from 51 "
        "frames on, of a slow camera over as long as they take",
        True,
    ),
    "broken_share": MetricInfo(
        "could not be decoded, of the frames of the last minute, 0 to 1; from 51 frames on", True
    ),
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


CLEAR_S = 10.0  # s; a figure that trembles about its threshold is told no more often than this

# a slower camera never shows anything
FrameRate = Annotated[float, Field(ge=0.0, le=120.0), zero_or_from(0.01, "all")]


class CameraRule(Section):
    """An alert on a figure of CAMERA_METRICS: when it is `operator` than `threshold` for `for_s`.

    hysteresis: for > and <, how far the figure must return beyond the threshold before it counts as
    returned. clear_s: for how long it must have, before the alert closes.
    camera: of one camera alone, empty for each. notify: webhooks are told; of a critical one by
    e-mail as well.
    """

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_. -]+$")
    metric: str = Field(max_length=64)
    operator: Literal[">", ">=", "<", "<=", "==", "!="] = ">"
    threshold: float = Field(allow_inf_nan=False)
    severity: Literal["info", "warning", "error", "critical"] = "warning"
    for_s: float = Field(default=0.0, ge=0.0, le=86_400.0)
    hysteresis: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    clear_s: float = Field(default=CLEAR_S, ge=0.0, le=86_400.0)
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


class CameraSettings(Section):
    """Cameras; what one is given by the API stands over it, up to `violations`.

    attempts: connections in a row that may fail, 0 for any number; delay_s: before the second, then
    doubled up to 30 s. buffer: frames that wait, the oldest is dropped. rate_hz: frames a second at
    most, 0 for all. confidence: of a detection at least, 0 for the detector's own. speed,
    violations: which analyses are made.
    dead_after_s: without a frame, a camera is dead. still_after_s: so it is with the same image, or
    a black one. alert_rules: beside those that are added by the API.
    allowed_networks: where a camera may be beside private and public networks: loopback
    (127.0.0.0/8, ::1/128), link-local and the like.
    """

    attempts: int = Field(default=0, ge=0, le=10_000)
    delay_s: float = Field(default=0.5, ge=0.1, le=300.0)
    buffer: int = Field(default=1, ge=1, le=64)
    rate_hz: FrameRate = 0.0
    confidence: float = Field(default=0.0, ge=0.0, le=0.99)
    speed: bool = True
    violations: bool = True
    dead_after_s: float = Field(default=15.0, ge=6.0, le=3600.0)
    still_after_s: float = Field(default=20.0, ge=5.0, le=3600.0)
    allowed_networks: tuple[str, ...] = ()
    alert_rules: tuple[CameraRule, ...] = (
        CameraRule(name="slow", metric="latency_p95_ms", threshold=500.0),
        CameraRule(name="drops", metric="dropped_share", threshold=0.10),
        CameraRule(name="broken frames", metric="broken_share", threshold=0.05, severity="error"),
        # who is to know of it learns it from camera.dead
        CameraRule(
            name="failed", metric="failed", threshold=0.5, severity="critical", notify=False
        ),
        CameraRule(
            name="dead",
            metric="dead",
            threshold=0.5,
            severity="critical",
            clear_s=0.0,  # it says what camera.dead and camera.recovered say
            notify=False,
        ),
    )

    @field_validator("allowed_networks")
    @classmethod
    def _are_networks(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            try:
                ipaddress.ip_network(text)
            except ValueError as error:
                raise PydanticCustomError(
                    "network",
                    "{text} is no network ({why}). Write it as 127.0.0.0/8 or fe80::/10",
                    {"text": text, "why": str(error)},
                ) from error
        return texts

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
