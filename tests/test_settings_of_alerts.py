"""Rules of alerts: what the street makes of their settings."""

import pytest

from headway.settings import Settings
from headway.street.alerts import alert_rules


def test_an_alert_on_a_figure_that_no_street_has_is_refused_before_anything_starts():
    rule = {"name": "r", "threshold": 1.0}
    for path in ("junctions.*.queue", "junctions.A1.longest_wait_s", "vehicles", "loop.fps"):
        alert_rules(Settings(alerts={"rules": (rule | {"path": path},)}))
    with pytest.raises(ValueError, match="queues"):
        alert_rules(Settings(alerts={"rules": (rule | {"path": "junctions.*.queues"},)}))
    with pytest.raises(ValueError, match="already"):
        alert_rules(
            Settings(alerts={"rules": (rule | {"path": "vehicles"}, rule | {"path": "halted"})})
        )
