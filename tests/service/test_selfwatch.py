"""The program watches itself: whether its settings file is in force."""

from __future__ import annotations

from types import SimpleNamespace

from headway.service.selfwatch import SelfWatch
from headway.settings import AlertSettings, Watched
from headway.store import Database
from headway.telemetry import metrics


def test_a_file_that_a_street_refuses_is_not_in_force_though_it_fits_the_program(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("loop: {tick_s: 0.3}")
    starting = SimpleNamespace(snapshot=None)
    refusing = SimpleNamespace(snapshot=SimpleNamespace(settings_fault="a tick of 0.3 s"))
    watch = SelfWatch(
        tmp_path,
        Database(None, ""),
        None,
        lambda: SimpleNamespace(streets={"starting": starting, "refusing": refusing}),
        AlertSettings(),
        lambda *event: None,
        watched=Watched(path),
    )

    def degraded():
        watch._follow_settings()
        return metrics.registry.get_sample_value("headway_degraded", {"part": "settings"})

    assert degraded() == 1.0
    refusing.snapshot.settings_fault = ""
    assert degraded() == 0.0
