"""What monitoring tells whom: listeners, log, webhooks and e-mail."""

from __future__ import annotations

import pytest
import structlog

from headway.service.camera_health import CameraView
from headway.service.monitoring import MonitoringService
from headway.settings import CameraRule, CameraSettings

WALL_S = 1_000_000.0  # since 1970, when the monotonic clock is at 0
STATE = {
    "id": "north", "state": "running", "fault": "", "rate_hz": 15.0, "latency_p50_ms": 20.0,
    "latency_p95_ms": 40.0, "processed": 90, "dropped": 10, "broken": 0, "received": 100,
    "skipped": 0, "tracks": 2,
}  # fmt: skip


class Cameras:
    """One camera, as it is set."""

    def __init__(self):
        self.state, self.received, self.expected = dict(STATE), 1, True

    def states(self):
        return [self.state]

    def views(self):
        source = self.state["state"]
        return [
            CameraView("north", self.expected, True, source, self.received, self.state["fault"])
        ]


class Notifier:
    def __init__(self):
        self.told, self.numbers = [], []

    def notify(self, kind, number, body, critical=False, about=""):
        assert kind == body["kind"]
        self.numbers.append(number)
        self.told.append((kind, critical, about, body))


class Scene:
    """A service whose clock is moved by hand. told: (topic, camera, message)."""

    def __init__(self, folder, *rules, cameras=None):
        self.now_s, self.told = 0.0, []
        self.cameras, self.notifier = cameras or Cameras(), Notifier()
        self.service = MonitoringService(
            folder,
            lambda *message: self.told.append(message),
            self.notifier.notify,
            lambda: self.cameras,
            CameraSettings(alert_rules=rules),
            clock=lambda: self.now_s,
            wall_clock=lambda: WALL_S + self.now_s,
            background=False,
        )

    def at(self, *times):
        for self.now_s in times:
            self.service.check()


def test_who_was_told_of_a_dead_camera_is_told_when_it_is_stopped(tmp_path):
    scene = Scene(tmp_path)
    scene.at(*range(16))
    (dead,) = scene.service.dead_cameras()
    scene.cameras.expected = False
    scene.at(16)
    (_, _, _, told), (kind, by_mail, _, over) = scene.notifier.told
    assert (kind, by_mail, over["why"]) == ("camera.recovered", True, "it was stopped or removed")
    assert over["outage"] == dead["id"] == told["id"] != over["id"]
    assert scene.service.dead_cameras() == []


def test_a_dead_camera_reaches_listeners_log_webhooks_and_mail_within_thirty_seconds(tmp_path):
    scene = Scene(tmp_path)
    with structlog.testing.capture_logs() as lines:
        for second in range(11):
            scene.cameras.received = second + 1
            scene.at(second)
        assert scene.told == scene.notifier.told == []
        scene.cameras.state |= {"state": "reconnecting", "fault": "no server answers there"}
        scene.at(*range(11, 41))
        ((topic, camera, message),) = scene.told
        ((kind, by_mail, about, body),) = scene.notifier.told
        assert body["at"] <= "1970-01-12T13:47:20+00:00"  # 30 s after the last frame, at 10 s
        scene.cameras.received, scene.cameras.state = 12, dict(STATE)
        scene.at(41, 42)
    assert (topic, camera, kind, by_mail, about) == (
        "alerts",
        "north",
        "camera.dead",
        True,
        "north ",
    )
    assert message == body == {
        "kind": "camera.dead", "id": message["id"], "outage": message["id"], "camera": "north",
        "severity": "critical", "reason": "no frame for 15 s: no server answers there",
        "since": "1970-01-12T13:46:50+00:00", "at": "1970-01-12T13:47:05+00:00",
    }  # fmt: skip
    (_, (_, _, back)) = scene.told
    assert (back["kind"], back["outage"], back["severity"]) == (
        "camera.recovered",
        body["id"],
        "info",
    )
    assert (back["lasted_s"], back["since"], len(scene.notifier.told)) == (31.0, body["since"], 2)
    assert back["id"] != body["id"]
    assert scene.notifier.numbers == [body["id"], back["id"]]
    assert [(line["log_level"], line["event"], line["stream"]) for line in lines] == [
        ("error", "a camera is dead", "north"), ("warning", "a camera is back", "north"),
    ]  # fmt: skip


def test_an_alert_on_a_camera_is_told_when_it_opens_and_when_it_closes(tmp_path):
    rule = CameraRule(name="few", metric="fps", operator="<", threshold=10.0, severity="critical")
    quiet = CameraRule(name="quiet", metric="fps", operator="<", threshold=9.0, notify=False)
    scene = Scene(tmp_path, rule, quiet)
    scene.at(1.0)
    scene.cameras.state["rate_hz"] = 8.0
    scene.at(2.0, 3.0)
    scene.cameras.state["rate_hz"] = 20.0
    scene.at(4.0, 13.0)
    assert len(scene.told) == 2
    scene.at(14.0)
    assert [(t, c, m["kind"], m["rule"]) for t, c, m in scene.told[:2]] == [
        ("alerts", "north", "camera.alert.opened", "few"),
        ("alerts", "north", "camera.alert.opened", "quiet"),
    ]
    opened = scene.told[0][2]
    assert opened == {
        "kind": "camera.alert.opened", "id": opened["id"], "rule": "few", "stream": "north",
        "metric": "fps", "operator": "<", "threshold": 10.0, "value": 8.0, "severity": "critical",
        "since": "1970-01-12T13:46:42+00:00", "detail": "", "at": "1970-01-12T13:46:42+00:00",
    }  # fmt: skip
    assert [(kind, by_mail) for kind, by_mail, _, _ in scene.notifier.told] == [
        ("camera.alert.opened", True), ("camera.alert.closed", False),
    ]  # fmt: skip
    assert scene.notifier.numbers == [f"{opened['id']}-opened", f"{opened['id']}-closed"]


def test_what_is_open_when_the_service_ends_is_closed(tmp_path):
    scene = Scene(tmp_path, CameraRule(name="few", metric="fps", operator="<", threshold=20.0))
    scene.at(1.0)
    scene.service.close()
    _, (_, _, closed) = scene.told
    assert (closed["kind"], closed["why"]) == ("camera.alert.closed", "the server ended")
    assert scene.notifier.told[1][0] == "camera.alert.closed"
    assert scene.notifier.numbers == [f"{closed['id']}-opened", f"{closed['id']}-closed"]


def test_a_camera_that_starts_has_no_rate_yet(tmp_path):
    scene = Scene(tmp_path, CameraRule(name="few", metric="fps", operator="<", threshold=10.0))
    scene.cameras.state |= {"state": "starting", "received": 0, "processed": 0, "rate_hz": 0.0}
    scene.cameras.received = 0
    scene.at(0.0)
    scene.at(4.0)
    assert scene.service.open_alerts() == []
    scene.at(5.0)  # it takes too long
    assert [a["value"] for a in scene.service.open_alerts()] == [0.0]


def few_figures(*bounds):
    """Rules that open and close at once."""
    return [
        CameraRule(name=f"{metric} {bound}", metric=metric, threshold=bound, clear_s=0.0)
        for metric, bound in bounds
    ]


def test_the_figures_of_a_camera_by_hand(tmp_path):
    """10 of 100 dropped is no more than a tenth; of 50 frames nothing is said."""
    rules = few_figures(
        ("dropped_share", 0.0999), ("dropped_share", 0.1), ("latency_p95_ms", 39.0),
        ("latency_p50_ms", 20.0), ("broken_share", 0.04), ("failed", 0.5), ("silent_s", 2.5),
    )  # fmt: skip
    scene = Scene(tmp_path, *rules)

    def opened():
        return [a["rule"] for a in scene.service.open_alerts()]

    scene.at(0.0)
    assert opened() == ["dropped_share 0.0999", "latency_p95_ms 39.0"]
    scene.cameras.state |= {"received": 48, "broken": 2, "latency_p95_ms": None}
    scene.at(2.0)
    assert opened() == []
    scene.cameras.state |= {"broken": 3}  # of 51
    scene.at(2.9)
    assert opened() == ["broken_share 0.04", "silent_s 2.5"]
    scene.cameras.state |= {"state": "reconnecting"}
    scene.at(3.0)
    assert opened() == ["silent_s 2.5", "failed 0.5"]
    scene.cameras.expected = False  # it was stopped by hand
    assert opened() == []


def test_shares_of_frames_are_of_the_last_minute(tmp_path):
    """An hour in which all went well hides no drops of now, nor do those of an hour ago stay."""
    scene = Scene(tmp_path, *few_figures(("dropped_share", 0.1), ("broken_share", 0.05)))
    state = scene.cameras.state
    told = {}

    def works(until_s, received=15, dropped=0, broken=0):
        while scene.now_s < until_s:
            state["received"] += received
            state["dropped"] += dropped
            state["broken"] += broken
            scene.at(scene.now_s + 1.0)
            told[scene.now_s] = {a["metric"]: a["value"] for a in scene.service.open_alerts()}

    state |= {"received": 0, "dropped": 0}
    works(3600.0)
    works(3605.0, dropped=15)  # 75 of 900
    assert told[3605.0] == {}
    works(3607.0, dropped=15)
    assert told[3607.0] == {"dropped_share": 105 / 900}
    works(3660.0, dropped=15)
    assert told[3660.0] == {"dropped_share": 1.0}
    works(3713.0)  # 105 of 900
    assert told[3713.0] == {"dropped_share": 105 / 900}
    works(3714.0)
    assert told[3714.0] == {}
    works(3774.0, received=14, broken=1)
    assert told[3774.0] == {"broken_share": 60 / 900}


def test_the_share_of_a_slow_camera_is_of_as_many_frames_as_say_something(tmp_path):
    """At one frame in ten seconds of which every second one is dropped, and started anew."""
    scene = Scene(tmp_path, *few_figures(("dropped_share", 0.1)))
    state = scene.cameras.state
    state |= {"received": 0, "dropped": 0}
    for begin_s in (0, 2000):
        for second in range(1, 601):
            state |= {"received": second // 10, "dropped": second // 20}
            scene.at(begin_s + second)
            shares = [a["value"] for a in scene.service.open_alerts()]
            assert shares == ([] if second < 510 else [pytest.approx(0.5, abs=0.01)]), second


def test_frames_beyond_the_requested_rate_are_not_wanted(tmp_path):
    """25 frames a second, of which 5 are asked for: one of these dropped is a fifth."""
    scene = Scene(tmp_path, *few_figures(("dropped_share", 0.1)))
    scene.cameras.state |= {"received": 1000, "skipped": 800, "dropped": 40}
    scene.at(0.0)
    assert [a["value"] for a in scene.service.open_alerts()] == [0.2]


def test_a_file_that_has_ended_owes_no_frames(tmp_path):
    rules = [
        CameraRule(name="few", metric="fps", operator="<", threshold=10.0, severity="critical"),
        CameraRule(name="silent", metric="silent_s", threshold=2.0),
    ]
    scene = Scene(tmp_path, *rules)
    scene.at(0.0)
    scene.cameras.state |= {"state": "reconnecting", "rate_hz": 0.0}
    scene.at(3.0)
    scene.cameras.state |= {"state": "ended"}
    scene.at(4.0, 60.0)
    told = [(m["kind"], m["rule"]) for _, _, m in scene.told]
    assert told[:2] == [("camera.alert.opened", "few"), ("camera.alert.opened", "silent")]
    assert sorted(told[2:]) == [("camera.alert.closed", "few"), ("camera.alert.closed", "silent")]


def test_the_machine_without_any_camera(tmp_path):
    rule = CameraRule(name="disk", metric="disk_free_bytes", operator=">", threshold=0.0)
    scene = Scene(tmp_path, rule)
    scene.cameras = None
    scene.at(1.0)
    ((_, camera, message),) = scene.told
    assert (camera, message["kind"], message["stream"]) == ("", "machine.alert.opened", "")
    assert scene.service.performance() == {"streams": [], "rate_hz": 0, "dropped_share": 0.0}
    system = scene.service.system()
    assert system["process"]["memory_bytes"] > 0
    assert system["disk_free_bytes"] > 0


def test_figures_are_published_while_it_runs(tmp_path):
    from tests.waiting import until

    told = []
    service = MonitoringService(
        tmp_path, lambda *message: told.append(message), Notifier().notify, lambda: None
    )
    until(lambda: len(told) >= 2)
    service.close()
    assert [(topic, camera, m["kind"]) for topic, camera, m in told[:2]] == [
        ("monitoring", "", "monitoring.system"), ("monitoring", "", "monitoring.performance"),
    ]  # fmt: skip
