"""The sections on alerts and who is told of them."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from headway.settings.base import Section


class RuleSettings(Section):
    """An alert: when the figure at `path` of the state (such as junctions.*.queue) is `condition`
    than `threshold`, for `for_s` seconds.
    """

    name: str
    path: str
    condition: Literal[">", ">=", "<", "<=", "==", "!="] = ">"
    threshold: float = Field(allow_inf_nan=False)
    level: Literal["info", "warning", "error", "critical"] = "warning"
    hysteresis: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    for_s: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    clear_s: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)


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
    # of models: looked at every five minutes; what one look alone found is no alert yet, and what
    # one look alone did not find has not passed
    RuleSettings(
        name="inputs drift", path="models.*.drifting", threshold=0.0, for_s=360.0, clear_s=360.0
    ),
    RuleSettings(
        name="outcome drifts",
        path="models.*.outcome_drift",
        threshold=0.0,
        for_s=360.0,
        clear_s=360.0,
    ),
    RuleSettings(
        name="confidence not calibrated",
        path="models.*.calibration_error",
        threshold=0.25,
        hysteresis=0.05,
        for_s=360.0,
    ),
    RuleSettings(
        name="data incomplete",
        path="models.*.completeness",
        condition="<",
        threshold=0.9,
        for_s=360.0,
    ),
    RuleSettings(name="data stale", path="models.*.freshness_s", threshold=300.0),
    RuleSettings(
        name="silent detectors", path="models.*.silent_lanes", threshold=0.0, level="info"
    ),
    RuleSettings(
        name="slow decisions", path="models.*.decide_p99_ms", threshold=100.0, for_s=360.0
    ),
)


class AlertSettings(Section):
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


class WebhookSettings(Section):
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


class MailSettings(Section):
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
    at_least_s: float = Field(default=60.0, ge=0.0, le=86_400.0)

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


class NotifySettings(Section):
    """Recipients of violations and alerts. public_url: the address at which they reach this server,
    for links to images; without it, links are paths.
    """

    public_url: str = Field(default="", pattern=r"^(https?://[^\s]+)?$")
    webhooks: tuple[WebhookSettings, ...] = ()
    mail: MailSettings | None = None
