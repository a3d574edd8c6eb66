"""The sections on a street: its loop, control, limits, sources and SUMO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from headway.settings.base import OLD_SENSING, Section, figure, warn_of, zero_or_from

# Every list of controllers is made of these: the schema, the page, the commands' help. What each
# name stands for is in `headway.control.catalogue`.
ControllerName = Literal[
    "fixed", "webster", "actuated", "greedy", "max-pressure", "planner", "q-learning"
]
FallbackName = Literal["fixed", "webster", "actuated", "planner"]
BASELINE = "baseline"  # the street under fixed time that `headway serve` runs beside its own
# of the data folder, which no street may have for its own
FOLDERS = ("backups", "followed", "handed", "media", "models", "postgres")
SLOWEST_FACTOR = 0.01  # ticks of a second come every 100 s


# a slower street stands still for whoever watches it
SpeedFactor = Annotated[
    float, Field(ge=0.0, le=1000.0), zero_or_from(SLOWEST_FACTOR, "as fast as possible")
]


class LoopSettings(Section):
    """The loop. tick_s: period of decisions; cycle_s: period of the optimisation cycle; both
    seconds. speed_factor: simulated seconds per second.
    """

    tick_s: float = Field(default=1.0, ge=0.1, le=5.0)
    cycle_s: float = Field(default=30.0, ge=5.0, le=600.0)
    speed_factor: SpeedFactor = Field(
        default=0.0,
        description="simulated seconds per second; 0 is as fast as possible",
    )
    mode: Literal["performance", "balanced", "accuracy"] = "balanced"
    overrun: Literal["degrade", "skip", "slow"] = "degrade"


class ControlSettings(Section):
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


class StreetSettings(Section):
    """The street. timing: rules of time; sensing: what is detected (rendered: by a rendered camera
    over each junction alone; external: what others report, and nothing else).

    name: of the street of `headway serve`, in the API and in the record; not that of fixed time
        beside it.
    """

    name: str = Field(default="headway", pattern=r"^[a-z0-9-]{1,64}$")
    scenario: str = "cologne8"
    seed: int = Field(default=1, ge=0, le=2**31 - 1)  # as SUMO takes it
    scale: float = Field(default=1.0, ge=0.001, le=10.0)
    timing: Literal["benchmark", "street"] = "street"
    sensing: Literal["connected", "camera", "loops", "rendered", "external"] = "connected"

    @field_validator("name")
    @classmethod
    def _is_free(cls, value: str) -> str:
        if value == BASELINE:
            raise ValueError(f"{BASELINE!r} is the street under fixed time beside it; take another")
        if value in FOLDERS:
            raise ValueError(
                f"{value!r} is a folder of its own below the data folder; take another"
            )
        return value

    @field_validator("sensing", mode="before")
    @classmethod
    def _take_old_sensing(cls, value: Any) -> Any:
        if not isinstance(value, str) or value not in OLD_SENSING:
            return value
        warn_of(f"the value street.sensing: {value}", OLD_SENSING[value])
        return OLD_SENSING[value]


class LimitSettings(Section):
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


class SafetySettings(Section):
    """The safety gate's limits for the street, and over them those of single junctions, by name."""

    limits: LimitSettings = LimitSettings()
    junctions: dict[str, LimitSettings] = Field(default_factory=dict)

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


class SourceSettings(Section):
    """A source of observations from outside. holder: of the credentials that may speak for it;
    junctions: that it may speak of, empty for all; emergencies: its emergency vehicles may claim
    priority.
    """

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:/#\-]+$")
    holder: str = Field(min_length=1, max_length=64)
    junctions: tuple[str, ...] = ()
    weight: float = Field(default=1.0, ge=0.0, le=1.0)
    emergencies: bool = True


class MqttSettings(Section):
    """A broker from which observations are taken. topic: its last level names the holder. street:
    empty for that of `street.name`, or else the only one.
    """

    host: str = Field(min_length=1)
    port: int = Field(default=8883, ge=1, le=65535)
    topic: str = Field(default="headway/observations/+", pattern=r"^[^#+]*/\+$")
    street: str = ""
    user: str = ""
    password: str = ""
    tls: bool = True
    ca_file: str = ""


class ExternalSettings(Section):
    """Observations from outside. oldest_s, ahead_s: how far behind and ahead of the street's time
    a measurement may be; rows_per_s: of one holder of credentials, all its sources together.
    """

    oldest_s: float = Field(default=10.0, ge=3.0, le=300.0)
    ahead_s: float = Field(default=2.0, ge=0.0, le=60.0)
    rows_per_s: float = Field(default=500.0, ge=0.1, le=100_000.0)
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


class RecoverySettings(Section):
    """What survives. checkpoint_s: simulated seconds between checkpoints; silent_s: wall seconds
    after which a worker counts as hung.
    """

    folder: str = "data"
    checkpoint_s: float = Field(default=60.0, ge=1.0, le=3600.0)
    silent_s: float = Field(default=10.0, ge=0.5, le=300.0)
    restarts: int = Field(
        default=5, ge=0, le=1000, description="restarts allowed without a checkpoint in between"
    )


class SumoSection(Section):
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


class PlannerSettings(Section):
    """The planner's figures; what each means stands at `Model` in `control.queue_model`."""

    horizon_s: float = figure(60.0, 10.0, 300.0)
    headway_s: float = figure(1.89, 0.5, 10.0)
    startup_loss_s: float = figure(1.38, 0.0, 10.0)
    end_gain_s: float = figure(0.34, 0.0, 5.0)
    stop_cost_s: float = figure(1.33, 0.0, 60.0)
    crawl_mps: float = figure(5.0, 0.1, 15.0)
    acceleration_mps2: float = figure(3.54, 0.5, 10.0)
    follow_up_s: float = figure(0.67, 0.1, 10.0)
    platoon_gap_s: float = figure(2.0, 0.5, 20.0)
    look_ahead_s: float = figure(5.0, 0.0, 60.0)
    leftover_cost_s: float = figure(0.0, 0.0, 600.0)
    min_room_m: float = figure(15.0, 0.0, 100.0)
    short_lane_m: float = figure(60.0, 0.0, 500.0)
    blocked_after_s: float = figure(7.0, 1.0, 120.0)
    patience_s: float = figure(32.0, 1.0, 600.0)
    spillback_weight: float = figure(0.5, 0.0, 10.0)
    blocking_cost: float = figure(1.0, 0.0, 60.0)
    person_weight: float = figure(1.0, 0.0, 100.0)


class RewardSettings(Section):
    """Weights of the terms of Q-learning's reward; see `Reward` in `learning.training`."""

    stopped: float = figure(1.0, 0.0, 100.0)
    longest: float = figure(2.0, 0.0, 100.0)
    change: float = figure(1.0, 0.0, 100.0)
    neighbours: float = figure(0.3, 0.0, 1.0)


class QLearningSettings(Section):
    """The agent. interval_s: between two decisions of a junction. rate: learning rate; gamma:
    discount of an interval; explore: share of tries in the first and in the last episode; batch:
    replayed experiences a step; rows: of a new Q-table; steps, trace_decay: of the returns that it
    learns from; sees_neighbours: whether states have the demand at the neighbours.
    """

    interval_s: float = figure(5.0, 1.0, 60.0)
    episodes: int = Field(default=10, ge=1, le=100_000)
    rate: float = Field(default=0.3, gt=0.0, le=1.0)
    gamma: float = Field(default=0.9, ge=0.0, lt=1.0)
    explore: tuple[float, float] = (0.3, 0.02)
    batch: int = Field(default=256, ge=1, le=65536)
    rows: int = Field(default=1 << 18, ge=1 << 10, le=1 << 26)
    steps: int = Field(default=1, ge=1, le=100)
    trace_decay: float = figure(1.0, 0.0, 1.0)
    sees_neighbours: bool = False
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
