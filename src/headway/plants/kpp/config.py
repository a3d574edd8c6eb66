"""The settings file of a KPP run: ticks, streams and alerts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headway.plants.kpp.run import DEFAULT_RULES, PRIORITY
from headway.runtime import AlertRule, Level
from headway.runtime.modes import HIGHEST_HZ, LOWEST_HZ, TARGET_HZ
from headway.runtime.streams import BASE_HZ, BUFFER
from headway.settings import RuleSettings, SettingsError, read_tree


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KppLoop(_Section):
    """Ticks per wall second, and the mode of the real-time loop."""

    target_hz: float = Field(default=TARGET_HZ, ge=LOWEST_HZ, le=HIGHEST_HZ, allow_inf_nan=False)
    mode: Literal["performance", "balanced", "accuracy"] = "balanced"


class KppStreams(_Section):
    """priority: paths whose changes are always sent. base_hz, buffer: rate and buffer (messages) of
    a subscriber that asks for none.
    """

    priority: tuple[str, ...] = PRIORITY
    base_hz: float = Field(default=BASE_HZ, ge=LOWEST_HZ, le=HIGHEST_HZ, allow_inf_nan=False)
    buffer: int = Field(default=BUFFER, ge=1, le=1_000_000)


class KppAlerts(_Section):
    """defaults: check the five default rules too. A rule by the name of one of them replaces it."""

    defaults: bool = True
    rules: tuple[RuleSettings, ...] = ()


class KppConfig(_Section):
    """All sections of the file."""

    loop: KppLoop = KppLoop()
    streams: KppStreams = KppStreams()
    alerts: KppAlerts = KppAlerts()

    def rules(self, more: tuple[AlertRule, ...] = ()) -> tuple[AlertRule, ...]:
        """The default rules, those of the file, and `more`; a later one replaces an earlier one of
        its name. Raises ValueError for a rule that is not allowed.
        """
        of_file = tuple(alert_rule(r) for r in self.alerts.rules)
        defaults = DEFAULT_RULES if self.alerts.defaults else ()
        return tuple({r.name: r for r in (*defaults, *of_file, *more)}.values())


def alert_rule(settings: RuleSettings) -> AlertRule:
    """A rule as the loop checks it. Raises ValueError if it is not allowed."""
    values = settings.model_dump()
    return AlertRule(**values | {"level": Level[settings.level.upper()]})


def load(path: str | Path) -> KppConfig:
    """Read a YAML file. Raises SettingsError with the file and every fault."""
    try:
        return KppConfig.model_validate(read_tree(Path(path)))
    except ValidationError as error:
        raise SettingsError("\n".join(_fault(path, e) for e in error.errors())) from error


def _fault(path: str | Path, error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{path}: {where}: unknown key. See docs/kpp.md for those that there are."
    return f"{path}: {where}: {error['input']!r} is not allowed: {error['msg']}."
