"""Rules of alerts: what the street makes of their settings."""

import pytest

from headway.settings import Settings
from headway.street.process import rules_of


def test_an_alert_on_a_figure_that_no_street_has_is_refused_before_anything_starts():
    rule = {"name": "r", "threshold": 1.0}
    for path in ("junctions.*.queue", "junctions.A1.longest_wait_s", "vehicles"):
        rules_of(Settings(alerts={"rules": (rule | {"path": path},)}))
    with pytest.raises(ValueError, match="queues"):
        rules_of(Settings(alerts={"rules": (rule | {"path": "junctions.*.queues"},)}))
    with pytest.raises(ValueError, match="already"):
        rules_of(
            Settings(alerts={"rules": (rule | {"path": "vehicles"}, rule | {"path": "halted"})})
        )
