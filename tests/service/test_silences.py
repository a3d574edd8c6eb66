"""Alerts that are silenced are held back, and sent at the end if they are still open."""

from __future__ import annotations

import json
import threading

import pytest

from headway.service.silences import Silence, SilenceError, Silences, source_of


class Desk:
    """A notifier that writes down; the time is set by hand."""

    def __init__(self, folder):
        self.now_s, self.sent, self.folder = 1e9, [], folder
        self.part = self.again()

    def again(self):
        return Silences(self.folder / "silences.json", self._take, lambda: self.now_s)

    def _take(self, kind, number, body, critical, about):
        self.sent.append((kind, number, critical, about))

    def silence(self, source="headway", rule="", lasts_s=60.0):
        return self.part.add(Silence(source, rule, self.now_s + lasts_s, "ann"))

    def opens(self, alert, street="headway", rule="queue"):
        body = {"street": street, "id": alert, "rule": rule}
        self.part.notify("alert.opened", f"{alert}-opened", body, True, "about")

    def closes(self, alert, street="headway", rule="queue"):
        body = {"street": street, "id": alert, "rule": rule}
        self.part.notify("alert.closed", f"{alert}-closed", body, True, "about")

    def numbers(self):
        return [number for _, number, _, _ in self.sent]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_without_a_silence_everything_is_sent(desk):
    desk.opens("a")
    desk.closes("a")
    assert desk.sent == [
        ("alert.opened", "a-opened", True, "about"), ("alert.closed", "a-closed", True, "about"),
    ]  # fmt: skip


def test_what_opens_and_passes_while_it_is_silenced_is_never_sent(desk):
    desk.silence()
    desk.opens("a")
    desk.closes("a")
    desk.now_s += 61.0
    desk.part.release()
    assert desk.sent == []


def test_what_is_still_open_when_the_silence_ends_is_sent_then_and_closed_later(desk):
    desk.silence(lasts_s=60.0)
    desk.opens("a")
    desk.now_s += 59.0
    desk.part.release()
    assert desk.sent == []
    desk.now_s += 2.0
    desk.part.release()
    desk.part.release()
    assert desk.sent == [("alert.opened", "a-opened", True, "about")]
    desk.closes("a")
    assert desk.numbers() == ["a-opened", "a-closed"]


def test_of_what_nobody_was_told_nobody_hears_after_a_crash_that_it_has_passed(desk):
    desk.opens("told")
    desk.silence()
    desk.opens("held")
    desk.opens("passed")
    desk.closes("passed")
    desk.part = desk.again()  # who starts after a process that was killed closes what it left open
    desk.closes("held")
    desk.closes("told")
    assert desk.numbers() == ["told-opened", "told-closed"]
    assert json.loads((desk.folder / "held_silences.json").read_text()) == []


def test_what_was_sent_when_its_silence_ended_is_closed_after_a_crash(desk):
    desk.silence()
    desk.opens("a")
    desk.now_s += 61.0
    desk.part.release()
    desk.part = desk.again()
    desk.closes("a")
    assert desk.numbers() == ["a-opened", "a-closed"]


@pytest.mark.parametrize("content", ["", "{", "3", "[" * 9000])
def test_held_alerts_that_cannot_be_read_end_nothing(desk, content):
    (desk.folder / "held_silences.json").write_text(content)
    desk.part = desk.again()
    desk.closes("a")
    assert desk.numbers() == ["a-closed"]


def test_a_silence_that_is_ended_early_sends_what_it_held(desk):
    silence = desk.silence()
    desk.opens("a")
    assert desk.part.remove(silence.id) is silence
    assert desk.numbers() == ["a-opened"]
    with pytest.raises(KeyError):
        desk.part.remove(silence.id)


def test_an_alert_that_closes_while_it_is_released_is_closed_after_it_was_opened(desk):
    """Else it would stay open for its recipients for ever."""
    desk.silence()
    desk.opens("a")
    desk.now_s += 61.0
    as_it_is, closing = desk._take, []

    def sends(kind, *rest):
        if kind == "alert.opened":
            closing.append(threading.Thread(target=desk.closes, args=("a",)))
            closing[0].start()
            closing[0].join(0.2)
        as_it_is(kind, *rest)

    desk.part._send = sends
    desk.part.release()
    closing[0].join(30)
    assert desk.numbers() == ["a-opened", "a-closed"]


def test_what_was_sent_before_the_silence_is_closed_for_its_recipients(desk):
    desk.opens("a")
    desk.silence()
    desk.closes("a")
    assert desk.numbers() == ["a-opened", "a-closed"]


@pytest.mark.parametrize(
    ("source", "rule", "held"),
    [
        ("headway", "", ["a", "b"]), ("", "queue", ["a", "c"]), ("headway", "queue", ["a"]),
        ("nowhere", "", []), ("headway", "other", []),
    ],
)  # fmt: skip
def test_a_silence_is_of_a_source_a_rule_or_both(desk, source, rule, held):
    desk.silence(source, rule)
    desk.opens("a")
    desk.opens("b", rule="wait")
    desk.opens("c", street="baseline")
    assert [n.removesuffix("-opened") for n in desk.numbers()] == [
        alert for alert in "abc" if alert not in held
    ]


def test_of_two_silences_the_later_end_counts(desk):
    desk.silence(lasts_s=10.0)
    desk.silence(rule="queue", lasts_s=100.0)
    assert desk.part.silenced_until_s("headway", "queue") == desk.now_s + 100.0
    assert desk.part.silenced_until_s("headway", "wait") == desk.now_s + 10.0
    assert desk.part.silenced_until_s("baseline", "queue") is None


@pytest.mark.parametrize(
    ("kind", "body", "found"),
    [
        ("camera.alert.opened", {"stream": "north", "rule": "slow"}, ("north", "slow")),
        ("machine.alert.opened", {"stream": "", "rule": "disk"}, ("machine", "disk")),
        ("camera.dead", {"camera": "north"}, ("north", "dead")),
        ("alert.opened", {"street": "system", "rule": "memory"}, ("system", "memory")),
    ],
)
def test_alerts_of_cameras_machine_and_program_are_silenced_by_their_source(kind, body, found):
    assert source_of(kind, body) == found


def test_a_dead_camera_is_held_until_it_is_back(desk):
    desk.silence("north")
    dead = {"camera": "north", "id": "1", "outage": "1"}
    desk.part.notify("camera.dead", "1", dead, True, "")
    desk.part.notify("camera.recovered", "2", dead | {"id": "2"}, True, "")
    desk.now_s += 61.0
    desk.part.release()
    assert desk.sent == []


def test_what_is_no_alert_is_sent_whatever_is_silenced(desk):
    desk.silence("north")
    desk.part.notify("violation.red_light", "1", {"device": "north", "id": "1"}, True, "")
    assert desk.numbers() == ["1"]


def test_a_silence_of_a_clock_that_was_ahead_is_over(desk):
    """A minute of it was ten days."""
    now_s, ahead_s = desk.now_s, desk.now_s + 864_000.0
    desk.now_s = ahead_s
    desk.part.add(Silence("headway", "", ahead_s + 60.0, "ann", at_s=ahead_s))
    desk.opens("a")
    desk.now_s = now_s
    assert desk.part.in_force() == []
    desk.part.release()
    assert desk.numbers() == ["a-opened"]


def test_silences_outlive_the_server(desk):
    desk.silence(lasts_s=60.0)
    desk.part = desk.again()
    desk.opens("a")
    assert (desk.sent, [s.by for s in desk.part.in_force()]) == ([], ["ann"])
    desk.now_s += 61.0
    assert desk.again().in_force() == []


ROW = {"source": "headway", "rule": "", "until_s": 2e9, "by": "ann"}
DAMAGED = [
    ROW | change
    for change in (
        {"until_s": "soon"}, {"until_s": None}, {"until_s": float("inf")}, {"at_s": "x"},
        {"source": 1}, {"by": None}, {"source": ""},
    )
]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    ["{", "[1]", '[{"x": 1}]', "\0", "[" * 100_000, *(json.dumps([row]) for row in DAMAGED)],
)
def test_silences_that_cannot_be_read_silence_nothing(desk, content):
    (desk.folder / "silences.json").write_text(content)
    desk.part = desk.again()
    desk.opens("a")
    assert desk.numbers() == ["a-opened"]
    desk.silence()
    assert len(json.loads((desk.folder / "silences.json").read_text())) == 1


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"source": ""}, "a silence of all alerts is none"),
        ({"lasts_s": 0.0}, r"ends in the next 604800 s"),
        ({"lasts_s": 604801.0}, r"ends in the next 604800 s"),
    ],
)
def test_a_silence_of_all_or_for_ever_is_refused(desk, more, why):
    with pytest.raises(SilenceError, match=why):
        desk.silence(**more)
    assert desk.part.in_force() == []


def test_the_number_of_silences_is_bounded(desk):
    for number in range(200):
        desk.silence(f"s{number}")
    with pytest.raises(SilenceError, match="200 silences"):
        desk.silence("more")
    desk.now_s += 61.0
    desk.silence("more")


def test_what_is_held_is_bounded_and_the_oldest_is_sent(desk):
    desk.silence()
    for number in range(1001):
        desk.opens(str(number))
    assert desk.numbers() == ["0-opened"]


def test_a_silence_that_cannot_be_kept_is_not_in_force(desk):
    (desk.folder / "silences.json.draft").mkdir()
    with pytest.raises(OSError, match="silences"):
        desk.silence()
    desk.opens("a")
    assert desk.numbers() == ["a-opened"]


def test_an_acknowledgement_holds_until_its_alert_is_closed(desk):
    desk.opens("a")
    desk.part.acknowledge("a", "ann", "on my way")
    assert desk.part.acknowledgement("a").plain() == {
        "by": "ann", "at": "2001-09-09T01:46:40+00:00", "note": "on my way",
    }  # fmt: skip
    desk.closes("a")
    assert desk.part.acknowledgement("a") is None


def test_the_number_of_acknowledgements_is_bounded(desk):
    """Those of alerts that are never sent are not closed here."""
    for number in range(2001):
        desk.part.acknowledge(str(number), "ann")
    assert desk.part.acknowledgement("0") is None
    assert desk.part.acknowledgement("1").by == "ann"
