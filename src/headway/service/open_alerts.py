"""All alerts that are open, of whatever kind, with what operators do about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headway.service.alert_desk import AlertDesk
from headway.service.monitoring import MonitoringService
from headway.service.silences import DEAD, MACHINE, Silences, time_of_day
from headway.telemetry.plain import plain


def open_alerts(
    desk: AlertDesk, cameras: MonitoringService, silences: Silences
) -> list[dict[str, Any]]:
    """On streets, program, cameras and machine, the oldest first, as values of JSON: `id`,
    `source`, `rule`, `severity`, `since`, `value`, `acknowledged`, `silenced_until`, and `data`
    with what else is known.
    """
    found = []
    for source, opened in desk.opened():
        known = {"severity": opened.level.name.lower(), **plain(opened.data)}
        found.append((opened.id, source, time_of_day(opened.since_s), known))
    dead = {outage["camera"]: outage for outage in cameras.dead_cameras()}
    for alert in cameras.open_alerts():
        if alert["rule"] != DEAD or alert["stream"] not in dead:  # else the same, by a rule
            found.append((alert["id"], alert["stream"] or MACHINE, alert["since"], alert))
    for camera, outage in dead.items():
        found.append((outage["id"], camera, outage["since"], {"rule": DEAD, **outage}))
    return sorted((_alert(silences, *one) for one in found), key=lambda alert: alert["since"])


def _alert(
    silences: Silences, alert: str, source: str, since: str, data: Mapping[str, Any]
) -> dict[str, Any]:
    rule, value = str(data.get("rule", "")), data.get("value")
    until_s = silences.silenced_until_s(source, rule)
    acknowledged = silences.acknowledgement(alert)
    return {
        "id": alert,
        "source": source,
        "rule": rule,
        "severity": str(data["severity"]),
        "since": since,
        "value": value if isinstance(value, int | float) else None,
        "acknowledged": None if acknowledged is None else acknowledged.plain(),
        "silenced_until": None if until_s is None else time_of_day(until_s),
        "data": dict(data),
    }
