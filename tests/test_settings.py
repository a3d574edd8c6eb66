"""Settings: each default and bound by value; a fault names place, value and what is allowed;
followed while running.
"""

import logging
import math
import os
import re
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel

from headway.control.catalogue import CONTROLLERS
from headway.settings import (
    CAMERA_METRICS,
    AlertSettings,
    CameraRule,
    ControllerName,
    FallbackName,
    LimitSettings,
    MailSettings,
    MqttSettings,
    NotifySettings,
    RewardSettings,
    RuleSettings,
    SettingsError,
    SourceSettings,
    Watched,
    WebhookSettings,
    checked,
    load,
    log_level,
    overridden,
    read_secret_files,
    use_aliases,
)

RULE = {"name": "r", "path": "vehicles", "threshold": 1.0}
HOOK = {"url": "https://x.example/hook", "secret": "sixteen letters!"}
SOURCE = {"name": "north", "holder": "acme"}
CAMERA_RULE = {"name": "r", "metric": "fps", "threshold": 1.0}
MAIL = {"host": "h", "port": 25, "sender": "a@b", "to": ["c@d"]}


def system_rule(name, path, threshold, **more):
    return {
        "name": name, "path": path, "condition": ">", "threshold": threshold, "level": "warning",
        "hysteresis": 0.0, "for_s": 0.0, "clear_s": 0.0,
    } | more  # fmt: skip


SYSTEM = (
    system_rule("cpu", "machine.cpu_share", 0.95, hysteresis=0.1, for_s=120.0),
    system_rule(
        "memory", "machine.memory_share", 0.9, hysteresis=0.05, for_s=60.0, level="error"
    ),
    system_rule("disk", "machine.disk_share", 0.9, hysteresis=0.02, level="error"),
    system_rule("memory of a process", "processes.*.memory_bytes", 2e9, for_s=60.0),
    system_rule("errors", "errors_per_minute", 5.0, level="error", clear_s=30.0),
    system_rule(
        "database away", "database.alive", 1.0, condition="<", for_s=10.0, level="critical"
    ),
    system_rule("slow ticks", "streets.*.tick_share", 0.8, hysteresis=0.1, for_s=30.0),
    system_rule("overruns", "streets.*.overruns_per_minute", 30.0, for_s=30.0),
    system_rule(
        "failed cycles", "streets.*.cycle_success_rate", 0.9, condition="<", hysteresis=0.02,
        for_s=30.0, level="error",
    ),
    system_rule("restarts", "streets.*.restarts_per_minute", 0.0, level="error"),
    system_rule("inputs drift", "models.*.drifting", 0.0, for_s=360.0, clear_s=360.0),
    system_rule(
        "outcome drifts", "models.*.outcome_drift", 0.0, for_s=360.0, clear_s=360.0
    ),
    system_rule(
        "confidence not calibrated", "models.*.calibration_error", 0.25, hysteresis=0.05,
        for_s=360.0,
    ),
    system_rule("data incomplete", "models.*.completeness", 0.9, condition="<", for_s=360.0),
    system_rule("data stale", "models.*.freshness_s", 300.0),
    system_rule("silent detectors", "models.*.silent_lanes", 0.0, level="info"),
    system_rule("slow decisions", "models.*.decide_p99_ms", 100.0, for_s=360.0),
)  # fmt: skip
DEFAULTS = {
    "environment": "local",
    "loop": {"tick_s": 1.0, "cycle_s": 30.0, "speed_factor": 0.0, "mode": "balanced",
        "overrun": "degrade"},
    "control": {"controller": "planner", "fallback": "webster", "confidence": 0.4,
        "on_congestion": "planner", "step_within_s": 1.0},
    "street": {"name": "headway", "scenario": "cologne8", "seed": 1, "scale": 1.0,
        "timing": "street", "sensing": "connected"},
    "safety": {"limits": dict.fromkeys(("min_green_s", "max_green_s", "walk_s", "pedestrian_s",
        "yellow_s", "red_clearance_s", "min_cycle_s", "max_cycle_s", "max_red_s")),
        "junctions": {}},
    "external": {"oldest_s": 10.0, "ahead_s": 2.0, "rows_per_s": 500.0, "sources": (),
        "mqtt": None},
    "recovery": {"folder": "data", "checkpoint_s": 60.0, "silent_s": 10.0, "restarts": 5},
    "alerts": {
        "rules": (
            {
                "name": "long wait", "path": "junctions.*.longest_wait_s", "condition": ">",
                "threshold": 180.0,
                "level": "warning", "hysteresis": 60.0, "for_s": 5.0, "clear_s": 0.0,
            },
            {
                "name": "long queue", "path": "junctions.*.queue", "condition": ">",
                "threshold": 40.0,
                "level": "warning", "hysteresis": 10.0, "for_s": 10.0, "clear_s": 0.0,
            },
        ),
        "system": SYSTEM,
        "notify_from": "warning",
    },
    "log": {"level": "info", "json_lines": False, "folder": ""},
    "notify": {"public_url": "", "webhooks": (), "mail": None},
    "api": {
        "per_minute": 100, "origins": (), "cache_s": 10.0, "oldest_days": 3653.0, "ahead_s": 300.0,
    },
    "database": {
        "pool_size": 20,
        "max_overflow": 30,
        "pool_wait_s": 10.0,
        "answer_within_s": 30.0,
        "needed_at_start": True,
    },
    "spool": {"most_gb": 1.0, "least_free_gb": 1.0, "most_days": 7.0},
    "upkeep": {
        "at": "03:00", "backup_every_h": 24.0, "keep": 7, "folder": "", "key": "",
        "retention_days": 0.0,
    },
    "sumo": {
        "folders": (), "remote": "", "binary": "sumo-gui", "step_s": None, "teleport_s": None,
        "range_m": 200.0, "options": {},
    },
    "planner": {
        "horizon_s": 60.0, "headway_s": 1.89, "startup_loss_s": 1.38, "end_gain_s": 0.34,
        "stop_cost_s": 1.33, "crawl_mps": 5.0, "acceleration_mps2": 3.54, "follow_up_s": 0.67,
        "platoon_gap_s": 2.0, "look_ahead_s": 5.0, "leftover_cost_s": 0.0, "min_room_m": 15.0,
        "short_lane_m": 60.0, "blocked_after_s": 7.0, "patience_s": 32.0,
        "spillback_weight": 0.5, "blocking_cost": 1.0, "person_weight": 1.0,
    },
    "q_learning": {
        "interval_s": 5.0, "episodes": 10, "rate": 0.3, "gamma": 0.9, "explore": (0.3, 0.02),
        "batch": 256, "rows": 262144, "steps": 1, "trace_decay": 1.0, "sees_neighbours": False,
        "reward": {"stopped": 1.0, "longest": 2.0, "change": 1.0, "neighbours": 0.3},
    },
    "server": {"tls_certificate": "", "tls_key": "", "proxies": ()},
    "oidc": {
        "issuer": "", "audience": "", "roles_claim": "roles", "roles": {}, "name_claim": "sub",
        "streets_claim": "", "cameras_claim": "",
    },
    "model_watch": {"every_s": 300.0, "window_h": 6.0},
    "business": {
        "fuel_price_per_l": 1.70, "co2_price_per_t": 140.0, "time_value_per_h": 15.6,
        "occupancy": 1.67, "hours_a_day": 2.0, "investment": 0.0, "running_cost_per_year": 0.0,
    },
    "cameras": {
        "attempts": 0, "delay_s": 0.5, "buffer": 1, "rate_hz": 0.0, "confidence": 0.0,
        "speed": True, "violations": True, "dead_after_s": 15.0, "still_after_s": 20.0,
        "allowed_networks": (),
        "alert_rules": tuple(
            {"name": name, "metric": metric, "operator": ">", "threshold": threshold,
                "severity": severity, "for_s": 0.0, "hysteresis": 0.0,
                "clear_s": 0.0 if name == "dead" else 10.0, "camera": "", "notify": notify}
            for name, metric, threshold, severity, notify in (
                ("slow", "latency_p95_ms", 500.0, "warning", True),
                ("drops", "dropped_share", 0.1, "warning", True),
                ("broken frames", "broken_share", 0.05, "error", True),
                ("failed", "failed", 0.5, "critical", False),
                ("dead", "dead", 0.5, "critical", False),
            )
        ),
    },
}  # fmt: skip
KNOWN = ", ".join(sorted(DEFAULTS))
SECTIONS = [name for name in DEFAULTS if name != "environment"]


@pytest.fixture(autouse=True)
def without_variables(monkeypatch):
    for name in os.environ:
        if name.startswith("HEADWAY_") and "__" in name:
            monkeypatch.delenv(name)


def write(path, text):
    path.write_text(text)
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1_000_000))


def fault_of(tree, path=None):
    with pytest.raises(SettingsError) as fault:
        checked(tree, path)
    return str(fault.value)


# Values


def test_a_variable_of_an_unknown_section_is_refused(monkeypatch):
    monkeypatch.setenv("HEADWAY_LOPP__TICK_S", "2")
    with pytest.raises(SettingsError) as refused:
        load()
    assert str(refused.value) == (
        "HEADWAY_LOPP__TICK_S: unknown section. Known: environment, loop, control, street, "
        "safety, external, recovery, alerts, log, notify, cameras, api, database, spool, upkeep, "
        "sumo, planner, q_learning, server, oidc, model_watch, business."
    )
    monkeypatch.delenv("HEADWAY_LOPP__TICK_S")
    monkeypatch.setenv("HEADWAY_DATA", "anything")  # no section: another program's
    assert load().loop.tick_s == 1.0


def test_every_default_has_its_value():
    assert load().model_dump() == DEFAULTS


def test_what_a_rule_a_webhook_and_a_mail_server_leave_out_has_its_default():
    settings = checked(
        {"alerts": {"rules": [RULE]}, "notify": {"webhooks": [HOOK], "mail": MAIL}}
    ).model_dump()
    assert settings["alerts"]["rules"] == (
        RULE
        | {"condition": ">", "level": "warning", "hysteresis": 0.0, "for_s": 0.0, "clear_s": 0.0},
    )
    assert settings["notify"]["webhooks"] == (HOOK | {"attempts": 6, "bearer_token": ""},)
    assert settings["notify"]["mail"] == MAIL | {
        "to": ("c@d",),
        "user": "",
        "password": "",
        "security": "starttls",
        "at_least_s": 60.0,
    }


def rule(**values):
    return {"alerts": {"rules": [RULE | values]}}


def hook(**values):
    return {"notify": {"webhooks": [HOOK | values]}}


def mail(**values):
    return {"notify": {"mail": MAIL | values}}


# (tree with the value put in at *, the least and the most that are allowed, the next value below
# and above that is not)
BOUNDS = [
    ("loop.tick_s", 0.1, 5.0, 0.0999, 5.001),
    ("loop.cycle_s", 5.0, 600.0, 4.999, 600.01),
    ("loop.speed_factor", 0.0, 1000.0, -0.001, 1000.1),
    ("control.confidence", 0.0, 1.0, -0.001, 1.001),
    ("street.seed", 0, 2**31 - 1, -1, 2**31),
    ("street.scale", 0.001, 10.0, 0.0, 10.001),
    ("safety.limits.min_green_s", 4.0, 60.0, 3.999, 60.1),
    ("safety.limits.max_green_s", 10.0, 300.0, 9.999, 300.1),
    ("safety.limits.walk_s", 4.0, 60.0, 3.999, 60.1),
    ("safety.limits.pedestrian_s", 7.0, 120.0, 6.999, 120.1),
    ("safety.limits.yellow_s", 3.0, 6.0, 2.999, 6.001),
    ("safety.limits.red_clearance_s", 0.0, 6.0, -0.001, 6.001),
    ("safety.limits.min_cycle_s", 0.0, 120.0, -0.001, 120.1),
    ("safety.limits.max_cycle_s", 30.0, 300.0, 29.999, 300.1),
    ("safety.limits.max_red_s", 30.0, 300.0, 29.999, 300.1),
    ("external.oldest_s", 3.0, 300.0, 2.999, 300.1),
    ("external.ahead_s", 0.0, 60.0, -0.001, 60.1),
    ("external.rows_per_s", 0.1, 100_000.0, 0.0, 100_000.1),
    ("external.sources.0.weight", 0.0, 1.0, -0.001, 1.001),
    ("external.mqtt.port", 1, 65535, 0, 65536),
    ("recovery.checkpoint_s", 1.0, 3600.0, 0.999, 3600.1),
    ("recovery.silent_s", 0.5, 300.0, 0.499, 300.1),
    ("recovery.restarts", 0, 1000, -1, 1001),
    ("alerts.rules.0.hysteresis", 0.0, 1e300, -0.001, math.inf),
    ("alerts.rules.0.for_s", 0.0, 1e300, -0.001, math.inf),
    ("alerts.rules.0.clear_s", 0.0, 1e300, -0.001, math.inf),
    ("alerts.rules.0.threshold", -1e300, 1e300, -math.inf, math.inf),
    ("notify.webhooks.0.attempts", 1, 20, 0, 21),
    ("notify.mail.port", 1, 65535, 0, 65536),
    ("notify.mail.at_least_s", 0.0, 86_400.0, -0.001, 86_400.1),
    ("cameras.attempts", 0, 10_000, -1, 10_001),
    ("cameras.delay_s", 0.1, 300.0, 0.099, 300.1),
    ("cameras.buffer", 1, 64, 0, 65),
    ("cameras.rate_hz", 0.0, 120.0, -0.001, 120.1),
    ("cameras.confidence", 0.0, 0.99, -0.001, 0.991),
    ("cameras.dead_after_s", 6.0, 3600.0, 5.999, 3600.1),
    ("cameras.still_after_s", 5.0, 3600.0, 4.999, 3600.1),
    ("cameras.alert_rules.0.threshold", -1e300, 1e300, -math.inf, math.inf),
    ("cameras.alert_rules.0.for_s", 0.0, 86400.0, -0.001, 86400.1),
    ("cameras.alert_rules.0.hysteresis", 0.0, 1e300, -0.001, math.inf),
    ("cameras.alert_rules.0.clear_s", 0.0, 86400.0, -0.001, 86400.1),
    ("api.per_minute", 0, 1_000_000, -1, 1_000_001),
    ("api.cache_s", 0.0, 3600.0, -0.001, 3600.1),
    ("api.oldest_days", 0.001, 36_525.0, 0.0, 36_525.1),
    ("api.ahead_s", 0.0, 86_400.0, -0.001, 86_400.1),
    ("database.pool_size", 1, 1000, 0, 1001),
    ("database.max_overflow", 0, 1000, -1, 1001),
    ("database.pool_wait_s", 0.1, 300.0, 0.0, 300.1),
    ("database.answer_within_s", 1.0, 3600.0, 0.9, 3600.1),
    ("spool.most_gb", 0.001, 10_000.0, 0.0, 10_001.0),
    ("spool.least_free_gb", 0.0, 10_000.0, -0.1, 10_001.0),
    ("spool.most_days", 0.0, 365.0, -0.1, 366.0),
    ("upkeep.backup_every_h", 0.0, 8784.0, -0.001, 8784.1),
    ("upkeep.keep", 1, 10_000, 0, 10_001),
    ("upkeep.retention_days", 0.0, 100_000.0, -0.001, 100_000.1),
    ("planner.horizon_s", 10.0, 300.0, 9.999, 300.001),
    ("planner.headway_s", 0.5, 10.0, 0.499, 10.001),
    ("planner.startup_loss_s", 0.0, 10.0, -0.001, 10.001),
    ("planner.end_gain_s", 0.0, 5.0, -0.001, 5.001),
    ("planner.stop_cost_s", 0.0, 60.0, -0.001, 60.001),
    ("planner.crawl_mps", 0.1, 15.0, 0.099, 15.001),
    ("planner.acceleration_mps2", 0.5, 10.0, 0.499, 10.001),
    ("planner.follow_up_s", 0.1, 10.0, 0.099, 10.001),
    ("planner.platoon_gap_s", 0.5, 20.0, 0.499, 20.001),
    ("planner.look_ahead_s", 0.0, 60.0, -0.001, 60.001),
    ("planner.leftover_cost_s", 0.0, 600.0, -0.001, 600.001),
    ("planner.min_room_m", 0.0, 100.0, -0.001, 100.001),
    ("planner.short_lane_m", 0.0, 500.0, -0.001, 500.001),
    ("planner.blocked_after_s", 1.0, 120.0, 0.999, 120.001),
    ("planner.patience_s", 1.0, 600.0, 0.999, 600.001),
    ("planner.spillback_weight", 0.0, 10.0, -0.001, 10.001),
    ("planner.blocking_cost", 0.0, 60.0, -0.001, 60.001),
    ("planner.person_weight", 0.0, 100.0, -0.001, 100.001),
    ("q_learning.reward.stopped", 0.0, 100.0, -0.001, 100.001),
    ("q_learning.reward.longest", 0.0, 100.0, -0.001, 100.001),
    ("q_learning.reward.change", 0.0, 100.0, -0.001, 100.001),
    ("q_learning.reward.neighbours", 0.0, 1.0, -0.001, 1.001),
    ("model_watch.every_s", 0.0, 86_400.0, -0.001, 86_400.1),
    ("model_watch.window_h", 0.5, 24.0, 0.499, 24.001),
    ("business.fuel_price_per_l", 0.0, 1e12, -0.001, 1.1e12),
    ("business.co2_price_per_t", 0.0, 1e12, -0.001, 1.1e12),
    ("business.time_value_per_h", 0.0, 1e12, -0.001, 1.1e12),
    ("business.occupancy", 1.0, 100.0, 0.999, 100.001),
    ("business.hours_a_day", 0.0, 24.0, -0.001, 24.001),
    ("business.investment", 0.0, 1e12, -0.001, 1.1e12),
    ("business.running_cost_per_year", 0.0, 1e12, -0.001, 1.1e12),
    ("q_learning.interval_s", 1.0, 60.0, 0.999, 60.001),
    ("q_learning.episodes", 1, 100_000, 0, 100_001),
    ("q_learning.rate", 1e-9, 1.0, 0.0, 1.001),
    ("q_learning.gamma", 0.0, 0.999, -0.001, 1.0),
    ("q_learning.batch", 1, 65536, 0, 65537),
    ("q_learning.rows", 1024, 67108864, 1023, 67108865),
    ("q_learning.steps", 1, 100, 0, 101),
    ("q_learning.trace_decay", 0.0, 1.0, -0.001, 1.001),
    ("control.step_within_s", 0.05, 60.0, 0.049, 60.1),
    ("sumo.step_s", 0.05, 1.0, 0.049, 1.001),
    ("sumo.teleport_s", -1.0, 86400.0, -1.001, 86400.1),
    ("sumo.range_m", 20.0, 1000.0, 19.99, 1000.1),
]
WORDS = {
    "control.on_congestion": ("planner", "none"),
    "environment": ("local", "development", "production", "test"),
    "loop.mode": ("performance", "balanced", "accuracy"),
    "loop.overrun": ("degrade", "skip", "slow"),
    "control.controller": (
        "fixed",
        "webster",
        "actuated",
        "greedy",
        "max-pressure",
        "planner",
        "q-learning",
    ),
    "control.fallback": ("fixed", "webster", "actuated", "planner"),
    "street.timing": ("benchmark", "street"),
    "street.sensing": ("connected", "camera", "loops", "rendered", "external"),
    "alerts.notify_from": ("info", "warning", "error", "critical"),
    "log.level": ("debug", "info", "warning", "error", "critical"),
    "alerts.rules.0.condition": (">", ">=", "<", "<=", "==", "!="),
    "alerts.rules.0.level": ("info", "warning", "error", "critical"),
    "cameras.alert_rules.0.operator": (">", ">=", "<", "<=", "==", "!="),
    "cameras.alert_rules.0.severity": ("info", "warning", "error", "critical"),
    "notify.mail.security": ("tls", "starttls", "none"),
}


def tree_with(place, value):
    section, *rest = place.split(".")
    if not rest:
        return {section: value}
    if place.startswith("alerts.rules.0."):
        return rule(**{rest[-1]: value})
    if place.startswith("cameras.alert_rules.0."):
        return {"cameras": {"alert_rules": [CAMERA_RULE | {rest[-1]: value}]}}
    if place.startswith("external.sources.0."):
        return {"external": {"sources": [SOURCE | {rest[-1]: value}]}}
    if place.startswith("external.mqtt."):
        return {"external": {"mqtt": {"host": "h", rest[-1]: value}}}
    if place.startswith("notify.webhooks.0."):
        return hook(**{rest[-1]: value})
    if place.startswith("notify.mail."):
        return mail(**{rest[-1]: value})
    for name in reversed(rest):
        value = {name: value}
    return {section: value}


def value_at(settings, place):
    found = settings
    for part in place.split("."):
        found = found[int(part)] if part.isdigit() else getattr(found, part)
    return found


@pytest.mark.parametrize(
    ("place", "least", "most", "below", "above"), BOUNDS, ids=[b[0] for b in BOUNDS]
)
def test_each_figure_is_allowed_up_to_its_bounds_and_refused_beyond_them(
    place, least, most, below, above
):
    for allowed in (least, most):
        if allowed is not None:
            assert value_at(checked(tree_with(place, allowed)), place) == allowed
    for refused in (below, above):
        if refused is not None:
            assert fault_of(tree_with(place, refused)).startswith(
                f"settings: {place}: {refused!r} is not allowed: input should be "
            )


@pytest.mark.parametrize("place", [b[0] for b in BOUNDS])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_figure_may_be_no_number(place, value):
    assert f"settings: {place}: {value} is not allowed: " in fault_of(tree_with(place, value))


# of which nothing is lost where they are as good as zero: shares, weights, tolerances, times that
# something lasts at least
MAY_BE_TINY = re.compile(
    r"_cost|_weight|weight$|_gain|_loss|confidence$|hysteresis$|threshold$|for_s$|clear_s$|ahead_s$"
    r"|_room_m$|short_lane_m$|red_clearance_s$|min_cycle_s$|at_least_s$|cache_s$|least_free_gb$"
    r"|hours_a_day$|business\.(?!occupancy)|teleport_s$|reward\.|q_learning\.(rate|gamma|trace_decay)$"
)


@pytest.mark.parametrize("place", [b[0] for b in BOUNDS])
@pytest.mark.parametrize("tiny", [5e-324, 1e-300, 1e-9])
def test_a_rate_or_a_period_may_be_zero_but_not_as_good_as_zero(place, tiny):
    """Of 1e-300 Hz a camera shows nothing for ever, and 1e-300 s between two looks are a loop that
    takes a processor.
    """
    if MAY_BE_TINY.search(place):
        assert value_at(checked(tree_with(place, tiny)), place) == tiny
    else:
        assert f"settings: {place}: {tiny} is not allowed: " in fault_of(tree_with(place, tiny))


@pytest.mark.parametrize(("place", "words"), WORDS.items(), ids=WORDS)
def test_each_choice_takes_its_words_and_no_other(place, words):
    for word in words:
        assert value_at(checked(tree_with(place, word)), place) == word
    said = fault_of(tree_with(place, "magic"))
    listed = ", ".join(f"'{w}'" for w in words[:-1]) + f" or '{words[-1]}'"
    shown = "the value" if place.startswith("notify.") else "'magic'"
    assert said == f"settings: {place}: {shown} is not allowed: input should be {listed}."


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (
            hook(url="ftp://x"),
            "settings: notify.webhooks.0.url: the value is not allowed: no web address. Give "
            "https://HOST/PATH, without user, password and spaces.",
        ),
        (
            mail(host=""),
            (
                "settings: notify.mail.host: the value is not allowed: "
                "string should have at least 1 character."
            ),
        ),
        (
            mail(sender="ab"),
            (
                "settings: notify.mail.sender: the value is not allowed: "
                "no e-mail address. Give one name@example.org."
            ),
        ),
        (
            mail(to=[]),
            (
                "settings: notify.mail.to: the value is not allowed: tuple should have at least 1 "
                "item after validation, not 0."
            ),
        ),
        (
            {"log": {"json_lines": 7}},
            (
                "settings: log.json_lines: 7 is not allowed: input should be a valid boolean, "
                "unable to interpret input."
            ),
        ),
        (
            {"loop": 3},
            (
                "settings: loop: 3 is not allowed: input should be a valid dictionary or "
                "instance of LoopSettings."
            ),
        ),
    ],
)
def test_texts_and_lists_have_their_bounds_too(tree, said):
    assert fault_of(tree) == said


def test_texts_and_lists_are_allowed_at_their_bounds():
    settings = checked(
        {
            "notify": {
                "webhooks": [HOOK | {"url": "http://x"}],
                "mail": MAIL | {"host": "h", "sender": "a@b", "to": ["c@d"]},
            }
        }
    )
    assert settings.notify.webhooks[0].url == "http://x"
    assert settings.notify.mail is not None
    assert (settings.notify.mail.host, settings.notify.mail.sender, settings.notify.mail.to) == (
        "h",
        "a@b",
        ("c@d",),
    )


@pytest.mark.parametrize(
    "name", ["baseline", "postgres", "media", "Elm", "elm street", "", "e" * 65, "../elm"]
)
def test_a_street_has_a_name_of_its_own_that_stands_in_addresses(name):
    assert fault_of({"street": {"name": name}}).startswith(
        f"settings: street.name: {name!r} is not"
    )
    assert checked({"street": {"name": "elm-2"}}).street.name == "elm-2"


def test_a_refused_secret_is_not_repeated():
    assert fault_of(hook(secret="fifteen letters")) == (
        "settings: notify.webhooks.0.secret: the value is not allowed: "
        "string should have at least 16 characters."
    )
    assert WebhookSettings(**HOOK).secret == "sixteen letters!"
    said = fault_of(
        {"notify": {"mail": {"password": "hidden", "port": 25, "sender": "a@b", "to": ["c@d"]}}}
    )
    assert said == "settings: notify.mail.host: is required, but missing."
    assert fault_of(mail(password=123456)) == (
        "settings: notify.mail.password: the value is not allowed: input should be a valid string."
    )


@pytest.mark.parametrize(
    "tree",
    [
        {"notify": {"webhooks": ["https://h.example/T0KEN"]}},
        {"notify": {"webhooks": "https://h.example/T0KEN"}},
        {"notify": {"webhooks": [{"url": "h.example/T0KEN", "secret": "sixteen letters!"}]}},
        {"notify": "T0KEN"},
        {"notify": {"https://h.example/T0KEN": None}},
        {"notify": {"public_url": "T0KEN"}},
        {"external": {"mqtt": "mqtt://user:T0KEN@host"}},
        {"external": {"mqtt": {"host": "h", "port": "T0KEN"}}},
        {"database": "postgresql://user:T0KEN@host/db"},
        {"api": {"origins": ["https://user:T0KEN@host"]}},
        {"external": "password: T0KEN"},
    ],
)
def test_no_fault_repeats_what_may_be_a_secret(tree, tmp_path):
    assert "T0KEN" not in fault_of(tree)
    file = tmp_path / "h.yaml"
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(SettingsError) as refused:
        load(file)
    assert "T0KEN" not in str(refused.value)


def test_a_file_that_is_no_yaml_is_refused_by_line_and_column_without_its_text(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("notify:\n  webhooks: [{url: 'https://h/T0KEN', secret: T0KEN]\n")
    with pytest.raises(SettingsError) as refused:
        load(file)
    for password in ("!T0KEN", "*T0KEN", "&T0KEN &T0KEN x"):
        other = tmp_path / "other.yaml"
        other.write_text(f"notify: {{mail: {{password: {password}}}}}\n")
        with pytest.raises(SettingsError, match="is no YAML") as another:
            load(other)
        assert "T0KEN" not in str(another.value)
    assert str(refused.value) == (
        f"{file}: is no YAML (line 2, column 52: expected ',' or '}}', but got ']')."
    )


@pytest.mark.parametrize("section", SECTIONS)
def test_no_section_can_be_changed_or_takes_an_unknown_key(section):
    settings = load()
    part = getattr(settings, section)
    known = ", ".join(sorted(type(part).model_fields))
    assert (
        fault_of({section: {"unheard": 1}}, "h.yaml")
        == f"h.yaml: {section}.unheard: unknown key. Known here: {known}."
    )
    with pytest.raises(ValueError, match="frozen"):
        setattr(part, next(iter(type(part).model_fields)), 1)
    with pytest.raises(ValueError, match="frozen"):
        setattr(settings, section, part)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (
            {"lop": {}},
            f"lop: unknown key. Known here: {KNOWN}.",
        ),
        (
            {1: {}},
            f"1: unknown key. Known here: {KNOWN}.",
        ),
        (
            rule(nme=1),
            (
                "alerts.rules.0.nme: unknown key. Known here: clear_s, condition, for_s, "
                "hysteresis, level, name, path, threshold."
            ),
        ),
        (
            hook(try_=1),
            "notify.webhooks.0.try_: unknown key. Known here: attempts, bearer_token, secret, url.",
        ),
        (
            mail(pot=1),
            (
                "notify.mail.pot: unknown key. Known here: at_least_s, host, password, port, "
                "security, sender, to, user."
            ),
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_keys_known_at_its_place(tree, said):
    assert fault_of(tree, "h.yaml") == f"h.yaml: {said}"


def test_every_fault_is_listed_a_line_each():
    said = fault_of({"loop": {"tick_s": 6, "cycle_s": 1}, "street": {"seed": -1}}, "h.yaml").split(
        "\n"
    )
    assert said == [
        "h.yaml: loop.tick_s: 6 is not allowed: input should be less than or equal to 5.",
        "h.yaml: loop.cycle_s: 1 is not allowed: input should be greater than or equal to 5.",
        "h.yaml: street.seed: -1 is not allowed: input should be greater than or equal to 0.",
    ]


# File, variables, command line


def test_variables_stand_over_the_file_and_the_file_over_defaults(tmp_path, monkeypatch):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60, tick_s: 2}\ncontrol: {controller: webster}\n")
    monkeypatch.setenv("HEADWAY_LOOP__CYCLE_S", "45")
    monkeypatch.setenv("HEADWAY_ENVIRONMENT", "test")
    monkeypatch.setenv(
        "HEADWAY_NOTIFY__MAIL", '{"host": "h", "port": 25, "sender": "a@b", "to": ["c@d"]}'
    )
    changed = {
        "environment": "test",
        "loop": DEFAULTS["loop"] | {"cycle_s": 45.0, "tick_s": 2.0},
        "control": DEFAULTS["control"] | {"controller": "webster"},
        "notify": DEFAULTS["notify"] | {"mail": MailSettings(**MAIL).model_dump()},
    }
    assert load(file).model_dump() == DEFAULTS | changed
    assert load(str(file)) == load(file)


def test_a_log_level_may_stand_in_capitals(tmp_path, monkeypatch):
    """LOG_LEVEL=INFO is what many other programs ask for."""
    monkeypatch.setenv("HEADWAY_LOG__LEVEL", "WARNING")
    assert load(None).log.level == "warning"
    monkeypatch.setenv("HEADWAY_LOG__LEVEL", "LOUD")
    with pytest.raises(SettingsError, match=r"log.level: 'loud' is not allowed"):
        load(None)


def test_a_log_folder_with_a_null_character_is_refused(tmp_path):
    (tmp_path / "s.yaml").write_text('log: {folder: "a\\0b"}')
    with pytest.raises(SettingsError, match=r"log.folder: .* is not allowed: no path"):
        load(tmp_path / "s.yaml")


def test_a_faulty_variable_is_refused(monkeypatch):
    with monkeypatch.context() as m:
        m.setenv("HEADWAY_LOOP__TICK_S", "fast")
        with pytest.raises(SettingsError) as fault:
            load()
        assert str(fault.value) == (
            "the variable HEADWAY_LOOP__TICK_S: loop.tick_s: 'fast' is not allowed: input should "
            "be a valid number, unable to parse string as a number."
        )
    monkeypatch.setenv("HEADWAY_LOOP", "fast")
    with pytest.raises(SettingsError) as fault:
        load()
    assert str(fault.value) == (
        'a variable HEADWAY_...: error parsing value for field "loop" from source '
        '"EnvSettingsSource". '
        "Give its value as JSON, or one variable a key (HEADWAY_LOOP__TICK_S)."
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[1, 2]", "must hold a mapping of sections, holds a list."),
        (b"[]", "must hold a mapping of sections, holds a list."),
        (b"no", "must hold a mapping of sections, holds a bool."),
        (
            b"\xff\xfe",
            "is no YAML ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte).",
        ),
        (
            b"on: 1",
            f"on: unknown key. Known here: {KNOWN}.",
        ),
    ],
)
def test_a_file_that_holds_no_settings_is_refused(tmp_path, text, said):
    file = tmp_path / "h.yaml"
    file.write_bytes(text)
    with pytest.raises(SettingsError) as fault:
        load(file)
    assert str(fault.value) == f"{file}: {said}"


def test_a_file_that_is_no_yaml_or_not_there_is_refused(tmp_path):
    file = tmp_path / "h.yaml"
    with pytest.raises(SettingsError) as fault:
        load(file)
    assert (
        str(fault.value)
        == f"{file}: cannot be read (No such file or directory). Give the path of a YAML file."
    )
    file.write_text("a: [\n")
    with pytest.raises(SettingsError) as fault:
        load(file)
    assert str(fault.value).startswith(
        f"{file}: is no YAML (line 2, column 1: expected the node content, but found '<stream end>'"
    )
    assert "\n" not in str(fault.value)


def test_an_empty_file_is_defaults(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("# nothing yet\n")
    assert load(file).model_dump() == DEFAULTS


def test_what_the_command_line_says_stands_over_all_and_keeps_the_rest(monkeypatch):
    monkeypatch.setenv("HEADWAY_LOOP__CYCLE_S", "45")
    monkeypatch.setenv("HEADWAY_LOOP__TICK_S", "2")
    settings = overridden(load(), {"loop": {"tick_s": 0.5}, "street": {"seed": 7}})
    changed = {
        "loop": DEFAULTS["loop"] | {"cycle_s": 45.0, "tick_s": 0.5},
        "street": DEFAULTS["street"] | {"seed": 7},
    }
    assert settings.model_dump() == DEFAULTS | changed
    assert overridden(load(), {}) == load()


def test_a_faulty_word_of_the_command_line_is_refused_with_its_section():
    with pytest.raises(SettingsError) as fault:
        overridden(load(), {"loop": {"tick_s": 9, "tik": 1}})
    assert str(fault.value).split("\n") == [
        "settings: loop.tick_s: 9 is not allowed: input should be less than or equal to 5.",
        (
            "settings: loop.tik: unknown key. Known here: cycle_s, mode, overrun, "
            "speed_factor, tick_s."
        ),
    ]


def test_a_section_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(SettingsError) as fault:
        overridden(load(), {"loop": {"tick_s": 1.0}, "lop": {}})
    assert (
        str(fault.value)
        == f"settings: lop: unknown key. Known here: {', '.join(sorted(DEFAULTS))}."
    )


# Followed while running


def test_a_change_of_the_file_takes_effect_once_it_stays_and_is_reported_once(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60}\n")
    watched = Watched(file)
    assert (watched.current, watched.fault) == (load(file), "")
    assert watched.refresh() == ()
    write(file, "loop: {cycle_s: 20}\nlog: {level: debug}\n")
    assert watched.refresh() == ()  # it may still be being written
    assert watched.current.loop.cycle_s == 60
    assert watched.refresh() == ("loop", "log")
    assert (watched.current, watched.fault) == (load(file), "")
    assert watched.refresh() == ()


def test_a_file_that_changes_at_every_look_is_not_read_before_it_rests(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60}\n")
    watched = Watched(file)
    for cycle_s in (10, 11, 12):
        write(file, f"loop: {{cycle_s: {cycle_s}}}\n" + "#" * cycle_s)
        assert watched.refresh() == ()
    assert watched.current.loop.cycle_s == 60
    assert watched.refresh() == ("loop",)
    assert watched.current.loop.cycle_s == 12


def test_a_file_put_back_as_it_was_with_its_time_is_followed_too(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60}\n")
    stamp = file.stat().st_mtime_ns
    watched = Watched(file)
    write(file, "loop: {cycle_s: 20}\n")
    assert [watched.refresh(), watched.refresh()] == [(), ("loop",)]
    file.write_text("loop: {cycle_s: 60}\n")
    os.utime(file, ns=(stamp, stamp))
    assert [watched.refresh(), watched.refresh()] == [(), ("loop",)]
    assert watched.current.loop.cycle_s == 60


def test_a_change_within_one_tick_of_the_clock_is_seen_by_its_size(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60}\n")
    stamp = file.stat().st_mtime_ns
    watched = Watched(file)
    file.write_text("loop: {cycle_s: 120}\n")
    os.utime(file, ns=(stamp, stamp))
    assert [watched.refresh(), watched.refresh()] == [(), ("loop",)]


def test_a_file_put_in_its_place_with_the_same_time_and_size_is_followed(tmp_path):
    file, other = tmp_path / "h.yaml", tmp_path / "other"
    for path, cycle_s in ((file, 60), (other, 50)):
        path.write_text(f"loop: {{cycle_s: {cycle_s}}}\n")
        os.utime(path, ns=(10**9, 10**9))
    watched = Watched(file)
    other.replace(file)
    assert [watched.refresh(), watched.refresh()] == [(), ("loop",)]
    assert watched.current.loop.cycle_s == 50


def test_a_file_that_was_emptied_changes_nothing_and_is_told(tmp_path):
    """As an editor leaves it on a full disk."""
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60}\n")
    watched = Watched(file)
    file.write_text("")
    assert [watched.refresh(), watched.refresh()] == [(), ()]
    assert watched.current.loop.cycle_s == 60
    assert watched.fault == f"{file}: is empty. Write {{}} where the defaults are to hold."
    file.write_text("{}\n")
    assert [watched.refresh(), watched.refresh()] == [(), ("loop",)]
    assert (watched.current.loop.cycle_s, watched.fault) == (30, "")


def test_a_faulty_change_alters_nothing_and_is_told_until_it_is_put_right(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60}\n")
    watched = Watched(file)
    write(file, "loop: {cycle_s: no}\nlog: {level: debug}\n")
    assert [watched.refresh(), watched.refresh(), watched.refresh()] == [(), (), ()]
    assert (watched.current.loop.cycle_s, watched.current.log.level) == (60, "info")
    assert watched.fault == (
        f"{file}: loop.cycle_s: False is not allowed: input should be greater than or equal to 5."
    )
    write(file, "loop: {cycle_s: 60}\n# again\n")
    assert [watched.refresh(), watched.refresh()] == [(), ()]
    assert watched.fault == ""


def test_an_unknown_key_of_a_rule_does_not_stop_a_running_program(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("")
    watched = Watched(file)
    write(file, "alerts: {rules: [{name: r, path: vehicles, threshold: 1, colour: red}]}\n")
    assert [watched.refresh(), watched.refresh()] == [(), ()]
    assert watched.fault.startswith(
        f"{file}: alerts.rules.0.colour: unknown key. Known here: clear_s, "
    )


def test_sections_that_need_a_new_start_keep_their_value_and_are_named(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60}\n")
    watched = Watched(file)
    mail = "{mail: {host: h, port: 25, sender: a@b, to: [c@d]}}"
    write(
        file,
        f"environment: test\nloop: {{cycle_s: 25}}\nstreet: {{seed: 9}}\nrecovery: "
        f"{{restarts: 1}}\nnotify: {mail}\nalerts: {{rules: []}}\n",
    )
    assert [watched.refresh(), watched.refresh()] == [(), ("loop", "alerts")]
    changed = {
        "loop": DEFAULTS["loop"] | {"cycle_s": 25.0},
        "alerts": DEFAULTS["alerts"] | {"rules": ()},
    }
    assert watched.current.model_dump() == DEFAULTS | changed
    waiting = ("environment", "street", "recovery", "notify")
    assert (watched.fault, watched.waiting) == ("", waiting)
    write(file, "loop: {cycle_s: 25}\nalerts: {rules: []}\ncontrol: {confidence: 0.5}\n")
    assert [watched.refresh(), watched.refresh()] == [(), ("control",)]
    assert (watched.fault, watched.waiting) == ("", ())


def test_a_file_that_goes_away_changes_nothing_and_is_followed_when_it_is_back(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60}\n")
    watched = Watched(file)
    file.unlink()
    assert [watched.refresh(), watched.refresh(), watched.refresh()] == [(), (), ()]
    assert watched.current.loop.cycle_s == 60
    assert watched.fault.startswith(f"{file}: cannot be read")
    write(file, "loop: {cycle_s: 20}\n")
    assert [watched.refresh(), watched.refresh()] == [(), ("loop",)]
    assert watched.fault == ""


def test_what_the_command_line_said_stands_over_the_file_after_a_change_too(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60}\n")
    watched = Watched(str(file), {"loop": {"tick_s": 0.5}})
    assert (watched.current.loop.cycle_s, watched.current.loop.tick_s) == (60, 0.5)
    write(file, "loop: {cycle_s: 20, tick_s: 3}\n")
    assert [watched.refresh(), watched.refresh()] == [(), ("loop",)]
    assert (watched.current.loop.cycle_s, watched.current.loop.tick_s) == (20, 0.5)


def test_a_program_does_not_start_on_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        Watched(tmp_path / "gone.yaml")


def test_what_a_source_and_a_broker_leave_out_has_its_default():
    settings = checked({"external": {"sources": [SOURCE], "mqtt": {"host": "h"}}}).model_dump()
    source, broker = settings["external"]["sources"][0], settings["external"]["mqtt"]
    assert source == SOURCE | {"junctions": (), "weight": 1.0, "emergencies": True}
    assert broker == {
        "host": "h", "port": 8883, "topic": "headway/observations/+", "street": "",
        "user": "", "password": "", "tls": True, "ca_file": "",
    }  # fmt: skip


def test_a_source_has_one_entry_and_a_topic_ends_with_the_holder():
    said = fault_of({"external": {"sources": [SOURCE, SOURCE]}})
    assert "source 'north' is there twice. Give it one entry" in said
    for topic in ("headway", "headway/#", "a/+/b", "+"):
        assert "external.mqtt.topic" in fault_of(
            {"external": {"mqtt": {"host": "h", "topic": topic}}}
        )


def test_alert_rules_of_cameras_name_known_figures_and_have_names_of_their_own():
    said = fault_of({"cameras": {"alert_rules": [CAMERA_RULE | {"metric": "speed"}]}})
    assert f"there is no such figure. Known: {', '.join(CAMERA_METRICS)}" in said
    said = fault_of({"cameras": {"alert_rules": [CAMERA_RULE, CAMERA_RULE]}})
    assert "r occurs twice. Each rule needs a name of its own" in said


def test_every_section_is_checked_here():
    """A figure, choice or text that is added to the settings needs its line in the tables above."""
    reported = {b[0] for b in BOUNDS} | set(WORDS)
    texts = {
        "street.scenario", "recovery.folder", "log.json_lines", "log.folder", "alerts.rules.0.name",
        "alerts.rules.0.path",
        "notify.webhooks.0.url", "notify.webhooks.0.secret", "notify.webhooks.0.bearer_token",
        "notify.mail.host",
        "notify.mail.sender", "notify.mail.to",
        "notify.mail.user", "notify.mail.password",
        *(f"external.sources.0.{n}" for n in ("name", "holder", "junctions", "emergencies")),
        *(f"external.mqtt.{n}" for n in ("host", "topic", "street", "user", "password")),
        "external.mqtt.tls", "external.mqtt.ca_file",
        "cameras.speed", "cameras.violations",
        *(f"cameras.alert_rules.0.{n}" for n in ("name", "metric", "camera", "notify")),
        "api.origins", "upkeep.at", "upkeep.folder", "upkeep.key",
        "database.needed_at_start", "street.name",
        "sumo.folders", "sumo.remote", "sumo.binary", "sumo.options", "q_learning.explore",
        "q_learning.sees_neighbours",
        "server.tls_certificate", "server.tls_key", "server.proxies", "cameras.allowed_networks",
        "oidc.issuer", "oidc.audience", "oidc.roles", "oidc.roles_claim", "oidc.name_claim",
        "oidc.streets_claim", "oidc.cameras_claim",
    }  # fmt: skip

    def leaves(model: type[BaseModel], at: str):
        for name in model.model_fields:
            yield f"{at}{name}"

    settings = load()
    found = {"environment"} | {
        f
        for s in SECTIONS
        if s not in ("alerts", "notify")
        for f in leaves(type(getattr(settings, s)), f"{s}.")
        if f not in ("external.sources", "external.mqtt", "cameras.alert_rules")
    }
    found |= (
        set(leaves(RuleSettings, "alerts.rules.0."))
        | set(leaves(CameraRule, "cameras.alert_rules.0."))
        | set(leaves(SourceSettings, "external.sources.0."))
        | set(leaves(MqttSettings, "external.mqtt."))
        | set(leaves(WebhookSettings, "notify.webhooks.0."))
        | set(leaves(MailSettings, "notify.mail."))
        | set(leaves(RewardSettings, "q_learning.reward."))
        | set(leaves(LimitSettings, "safety.limits."))
    )
    found -= {"safety.limits", "safety.junctions"}  # one's own have the same fields
    found.remove("q_learning.reward")
    found.add("alerts.notify_from")
    assert found == reported | texts
    assert (list(AlertSettings.model_fields), list(NotifySettings.model_fields)) == (
        ["rules", "system", "notify_from"],
        ["public_url", "webhooks", "mail"],
    )


def test_every_controller_that_can_be_named_is_in_the_catalogue_and_the_other_way_round():
    assert get_args(ControllerName) == tuple(CONTROLLERS)
    assert set(get_args(FallbackName)) < set(CONTROLLERS)


OLD_SETTINGS = "loop: {realtime: 20}\nstreet: {sensing: pictures}\n"
NEW_SETTINGS = "loop: {speed_factor: 20}\nstreet: {sensing: rendered}\n"


@pytest.fixture
def warnings_of_settings(caplog):
    """What the settings log, also where a command has set up the logs before."""
    logger = logging.getLogger("headway.settings")
    logger.addHandler(caplog.handler)
    yield lambda: list(dict.fromkeys(r.getMessage() for r in caplog.records))
    logger.removeHandler(caplog.handler)


def test_old_names_mean_the_same_and_are_warned_of_by_their_new_ones(
    tmp_path, warnings_of_settings
):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(OLD_SETTINGS)
    new.write_text(NEW_SETTINGS)
    assert load(new).loop.speed_factor == 20.0
    assert warnings_of_settings() == []
    assert load(old) == load(new)
    assert warnings_of_settings() == [
        "settings: the key loop.realtime is deprecated: use loop.speed_factor",
        "settings: the value street.sensing: pictures is deprecated: use rendered",
    ]


def test_variables_and_the_command_line_take_old_names(monkeypatch, warnings_of_settings):
    monkeypatch.setenv("HEADWAY_LOOP__REALTIME", "20")
    monkeypatch.setenv("HEADWAY_STREET__SENSING", "pictures")
    assert (load().loop.speed_factor, load().street.sensing) == (20.0, "rendered")
    assert overridden(load(), {"loop": {"realtime": 3.0}}).loop.speed_factor == 3.0
    assert len(warnings_of_settings()) == 2
    monkeypatch.delenv("HEADWAY_LOOP__REALTIME")
    monkeypatch.setenv("HEADWAY_LOOP__SPEED_FACTOR", "30")
    assert load().loop.speed_factor == 30.0


def test_an_old_and_a_new_name_together_are_refused(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {realtime: 20, speed_factor: 20}\n")
    reason = "loop: realtime is the old name of speed_factor. Give speed_factor alone."
    with pytest.raises(SettingsError) as fault:
        load(file)
    assert str(fault.value) == f"{file}: {reason}"
    with pytest.raises(SettingsError) as fault:
        overridden(load(), {"loop": {"realtime": 20, "speed_factor": 20}})
    assert str(fault.value) == f"settings: {reason}"


def test_a_variable_stands_over_the_file_whichever_names_they_use(tmp_path, monkeypatch):
    """Old or new name in the file, the other in the variable."""
    file = tmp_path / "h.yaml"
    for in_file, in_variable in (("speed_factor", "REALTIME"), ("realtime", "SPEED_FACTOR")):
        file.write_text(f"loop: {{{in_file}: 300}}\n")
        with monkeypatch.context() as variables:
            variables.setenv(f"HEADWAY_LOOP__{in_variable}", "200")
            assert load(file).loop.speed_factor == 200.0


def test_two_variables_for_one_thing_are_refused_by_their_names(monkeypatch):
    monkeypatch.setenv("HEADWAY_LOOP__REALTIME", "1")
    monkeypatch.setenv("HEADWAY_LOOP__SPEED_FACTOR", "1")
    with pytest.raises(SettingsError) as refused:
        load()
    assert str(refused.value) == (
        "the variables HEADWAY_...: loop: realtime is the old name of speed_factor. Give "
        "speed_factor alone."
    )


@pytest.mark.parametrize("factor", [1e-300, 5e-324, 0.001, 0.00999])
def test_a_pace_at_which_a_street_stands_still_is_refused(factor):
    with pytest.raises(SettingsError) as refused:
        checked({"loop": {"speed_factor": factor}})
    assert str(refused.value) == (
        f"settings: loop.speed_factor: {factor!r} is not allowed: must be 0 (as fast as possible) "
        "or at least 0.01."
    )
    for slowest in (0.0, 0.01):
        assert checked({"loop": {"speed_factor": slowest}}).loop.speed_factor == slowest


def test_the_old_name_of_the_speed_factor_has_the_same_bounds():
    with pytest.raises(SettingsError, match=r"loop\.speed_factor: -1 is not allowed"):
        checked({"loop": {"realtime": -1}})


def test_a_sensing_profile_that_is_no_word_is_refused():
    with pytest.raises(SettingsError, match=r"street\.sensing"):
        checked({"street": {"sensing": []}})


@pytest.mark.parametrize(
    ("place", "allowed", "refused"),
    [
        ("upkeep.at", ("00:00", "19:59", "23:59"), ("24:00", "3:00", "12:60", "", "noon")),
        (
            "api.origins",
            (["https://a.example", "http://localhost:5173"],),
            (
                ["*"],
                ["https://a.example/"],
                ["a.example"],
                ["ftp://a"],
                ["https://a/path"],
                ["null"],
            ),
        ),
    ],
)
def test_times_of_day_and_web_origins_have_a_form(place, allowed, refused):
    for value in allowed:
        found = value_at(checked(tree_with(place, value)), place)
        assert found == (tuple(value) if isinstance(value, list) else value)
    for value in refused:
        assert f"settings: {place}" in fault_of(tree_with(place, value))


# Hostile and unlucky files


NO_VALUE = "is no YAML (line 1, column"
BOMB = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]\n" + "".join(
    f"{n}: &{n} [*{b}, *{b}, *{b}, *{b}, *{b}, *{b}, *{b}, *{b}, *{b}]\n"
    for b, n in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "holds more than 10000 values, too many for settings (aliases count each time)."),
        ("loop: &a {tick_s: *a}", "holds more than 10000 values"),
        ("[" * 5000, "is no YAML (maximum recursion depth exceeded"),
        ("loop: {tick_s: 2024-99-99}", f"{NO_VALUE} 16: the value there is no timestamp)."),
        ("loop: {tick_s: " + "9" * 5000 + "}", f"{NO_VALUE} 16: the value there is no int)."),
        ("loop: {tick_s: !!int }", f"{NO_VALUE} 16: the value there is no int)."),
        ("loop: {tick_s: !!float ''}", f"{NO_VALUE} 16: the value there is no float)."),
        ("loop: {tick_s: !!bool T0KEN}", f"{NO_VALUE} 16: the value there is no bool)."),
        ("loop: {tick_s: !!timestamp x}", f"{NO_VALUE} 16: the value there is no timestamp)."),
        ("_env_file: /etc/passwd", "_env_file: unknown key. Known here: alerts, api,"),
        ("_cli_parse_args: true", "_cli_parse_args: unknown key. Known here: alerts, api,"),
        ("_build_sources: [1]", "_build_sources: unknown key. Known here: alerts, api,"),
        ("loop: {tick_s: 1, cycle_s: 30, tick_s: 2}", "line 1: tick_s is given twice in one"),
        ("loop: {}\nlog: {}\nloop: {}", "line 3: loop is given twice in one section."),
        ("#" * (1 << 20) + "#", "is larger than 1024 KiB, too large for settings."),
        ("loop: {1: 2}", "loop.1"),
        ("control: {controller: " + "x" * 5000 + "}", "control.controller: 'xxx"),
        (
            "!!python/object/apply:os.system ['true']",
            "is no YAML (line 1, column 1: could not determine a constructor for the tag).",
        ),
    ],
)
def test_a_hostile_file_is_refused_in_few_words(tmp_path, text, said):
    file = tmp_path / "h.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as fault:
        load(file)
    assert str(fault.value).startswith(f"{file}: {said}")
    assert len(str(fault.value)) < 600


def test_a_file_of_too_many_values_is_not_read_to_its_end(tmp_path, monkeypatch):
    """Else a street that follows it would stand still for as long: 18 s a megabyte."""
    file = tmp_path / "h.yaml"
    file.write_text("a: [" + "b," * 500_000 + "]")
    composed = []
    compose = yaml.SafeLoader.compose_node
    monkeypatch.setattr(
        yaml.SafeLoader, "compose_node", lambda *a: composed.append(1) or compose(*a)
    )
    with pytest.raises(SettingsError, match="holds more than 10000 values"):
        load(file)
    assert len(composed) == 10_000


def test_a_folder_or_a_device_is_no_settings_file(tmp_path):
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(SettingsError, match="is no file"):
            load(path)


def test_a_file_that_turns_to_rubbish_and_back_is_followed_again(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60}\n")
    watched = Watched(file)
    for rubbish, said in (("\x00", "is no YAML"), (BOMB, "holds more than"), ("- 1", "must hold")):
        write(file, rubbish)
        assert [watched.refresh(), watched.refresh()] == [(), ()]
        assert said in watched.fault
    file.unlink()
    file.mkdir()
    assert [watched.refresh(), watched.refresh(), watched.fault] == [
        (), (), f"{file}: is no file. Give the path of a YAML file."
    ]  # fmt: skip
    file.rmdir()
    write(file, "loop: {cycle_s: 20}\n")
    assert [watched.refresh(), watched.refresh()] == [(), ("loop",)]
    assert (watched.current.loop.cycle_s, watched.fault) == (20.0, "")


def test_a_check_that_fails_changes_nothing_and_is_the_fault(tmp_path):
    file = tmp_path / "h.yaml"
    file.write_text("loop: {cycle_s: 60}\n")

    def check(settings):
        if settings.loop.cycle_s < 30:
            raise ValueError("too short for us")

    watched = Watched(file, check=check)
    write(file, "loop: {cycle_s: 20}\n")
    assert [watched.refresh(), watched.refresh()] == [(), ()]
    assert (watched.fault, watched.current.loop.cycle_s) == (f"{file}: too short for us", 60.0)
    with pytest.raises(SettingsError, match="too short"):
        Watched(file, check=check)


def test_defaults_of_a_command_stand_under_the_file_by_either_name(tmp_path):
    file = tmp_path / "h.yaml"
    defaults = {"loop": {"speed_factor": 10.0}, "street": {"scenario": "cologne1"}}
    for text, factor in (
        ("", 10.0), ("loop: {speed_factor: 2}", 2.0), ("loop: {realtime: 3}", 3.0)
    ):  # fmt: skip
        file.write_text(text)
        settings = load(file, defaults)
        assert (settings.loop.speed_factor, settings.street.scenario) == (factor, "cologne1")
    assert load(None, defaults).loop.speed_factor == 10.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"net-file": "/etc/passwd"}, "no option 'net-file' that is taken here. There are: "),
        ({"threads": "4 --log /elsewhere/x"}, "threads: give a number, true, false or one word"),
        ({"threads": "../x"}, "threads: give a number, true, false or one word"),
    ],
)
def test_an_option_of_sumo_that_may_do_more_is_refused(options, said):
    assert said in fault_of({"sumo": {"options": options}})


def test_the_usual_variables_stand_for_those_of_headway_which_win():
    variables = {"ENVIRONMENT": "production", "DATABASE_URL": "a", "HEADWAY_DATABASE_URL": "b"}
    use_aliases(variables)
    assert variables == {
        "ENVIRONMENT": "production", "HEADWAY_ENVIRONMENT": "production",
        "DATABASE_URL": "a", "HEADWAY_DATABASE_URL": "b",
    }  # fmt: skip


def test_a_secret_may_be_given_as_a_file_that_holds_it(tmp_path):
    (tmp_path / "url").write_text("postgresql://h:p@db/h\n")
    (tmp_path / "mail").write_text("  a b\r\n")
    variables = {
        "DATABASE_URL_FILE": str(tmp_path / "url"),
        "HEADWAY_NOTIFY__MAIL__PASSWORD_FILE": str(tmp_path / "mail"),
        "HEADWAY_EXTERNAL__MQTT__CA_FILE": "ca.pem",  # a setting of its own
        "SSL_CERT_FILE": "x",  # of others
    }
    read_secret_files(variables)
    assert variables == {
        "DATABASE_URL": "postgresql://h:p@db/h",
        "HEADWAY_NOTIFY__MAIL__PASSWORD": "  a b",
        "HEADWAY_EXTERNAL__MQTT__CA_FILE": "ca.pem",
        "SSL_CERT_FILE": "x",
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory). Give the path of a file"),
        (b"", "must hold one line of text, of 64 KiB at most"),
        (b"\n", "must hold one line of text"),
        (b"hush\nhush\n", "must hold one line of text"),
        (b"hush\0", "must hold one line of text"),
        (b"hush\xff", "must hold one line of text"),
        (b"h" * 65_537, "must hold one line of text"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused_without_telling_what_it_holds(
    tmp_path, content, said
):
    if content is not None:
        (tmp_path / "s").write_bytes(content)
    with pytest.raises(SettingsError) as fault:
        read_secret_files({"HEADWAY_SECRET_KEY_FILE": str(tmp_path / "s")})
    assert str(fault.value).startswith(f"HEADWAY_SECRET_KEY_FILE: {tmp_path}/s ")
    assert said in str(fault.value)
    assert ("hush" in str(fault.value), fault.value.__cause__ is None) == (
        False,
        bool(content is not None),
    )


def test_a_secret_given_twice_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="REDIS_URL_FILE: REDIS_URL is given, too"):
        read_secret_files({"REDIS_URL_FILE": "x", "REDIS_URL": "redis://a"})


@pytest.mark.parametrize(
    ("tree", "level"),
    [
        ({}, "info"),
        ({"environment": "development"}, "debug"),
        ({"environment": "development", "log": {"level": "info"}}, "info"),
        ({"environment": "production"}, "info"),
    ],
)
def test_in_development_everything_is_logged_unless_a_level_is_named(tree, level):
    assert log_level(checked(tree)) == level


def test_a_junctions_name_is_the_text_that_stands_there(tmp_path):
    """YAML reads 0x1, 1 and 01 as one number, 0123 as 83, and `on` as true."""
    file = tmp_path / "h.yaml"
    names = ("0x1", "1", "01", "0123", "on", "1_000", "2024-01-01", "~")
    file.write_text(
        "safety: {junctions: {"
        + ", ".join(f"{name}: {{min_green_s: {5 + k}}}" for k, name in enumerate(names))
        + "}}\n"
    )
    found = load(file).safety.junctions
    assert {name: limits.min_green_s for name, limits in found.items()} == {
        name: 5.0 + k for k, name in enumerate(names)
    }
    file.write_text("safety: {junctions: {'1': {min_green_s: 5}, 1: {min_green_s: 6}}}\n")
    with pytest.raises(SettingsError, match="line 1: 1 is given twice"):
        load(file)
    file.write_text("x: &a {cycle_s: 25}\nloop: {<<: *a, tick_s: 2}\n")
    with pytest.raises(SettingsError, match="x: unknown key"):
        load(file)
    file.write_text("loop: {<<: {cycle_s: 25}, tick_s: 2}\n")
    assert (load(file).loop.cycle_s, load(file).loop.tick_s) == (25.0, 2.0)
    assert fault_of({"safety": {"junctions": {1: {}, "1": {}}}}).endswith(
        "a junction is given twice. Give it once."
    )


def test_limits_of_a_junction_have_the_same_bounds_and_a_number_is_its_name():
    settings = checked({"safety": {"junctions": {247379907: {"min_green_s": 12}}}})
    assert settings.safety.junctions["247379907"].min_green_s == 12.0
    assert "safety.junctions.A.yellow_s: 2.9 is not allowed" in fault_of(
        {"safety": {"junctions": {"A": {"yellow_s": 2.9}}}}
    )
    assert fault_of({"safety": {"junctions": {"A": {"min_gren_s": 5}}}}) == (
        "settings: safety.junctions.A.min_gren_s: unknown key. Known here: max_cycle_s, "
        "max_green_s, max_red_s, min_cycle_s, min_green_s, pedestrian_s, red_clearance_s, walk_s, "
        "yellow_s."
    )
    for value in (float("nan"), float("inf"), "ten", True):
        assert "safety.limits.max_cycle_s" in fault_of(
            {"safety": {"limits": {"max_cycle_s": value}}}
        )


@pytest.mark.parametrize("text", ["127.0.0.1/8", "somewhere", "10.0.0.0/33", ""])
def test_what_is_no_network_is_refused_with_an_example(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_text(f"cameras:\n  allowed_networks: ['127.0.0.0/8', '{text}']\n")
    with pytest.raises(SettingsError, match=r"is no network .* Write it as 127\.0\.0\.0/8"):
        load(path)
    path.write_text("cameras:\n  allowed_networks: [127.0.0.0/8, fe80::/10]\n")
    assert load(path).cameras.allowed_networks == ("127.0.0.0/8", "fe80::/10")
