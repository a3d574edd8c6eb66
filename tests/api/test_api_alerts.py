"""Alerts by API: what is open, who looks after it, and what is silenced, on a server whose webhook
is a real one.
"""

from __future__ import annotations

import http.server
import json
import threading
from datetime import datetime, timedelta

import pytest

from headway.api.hub import Client
from headway.settings import NotifySettings
from tests.api.service import serving
from tests.api.streets import standing
from tests.ports import free_port
from tests.waiting import until

# one server for all of them, in this order
pytestmark = pytest.mark.xdist_group("api-alerts")

ALERTS = "/api/v1/monitoring/alerts"


@pytest.fixture(scope="module")
def hook():
    """A web server; `taken` has the bodies that it got, `answers` the statuses that it gives."""

    class Door(http.server.BaseHTTPRequestHandler):
        taken, answers = [], []

        def do_POST(self):
            self.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(self.answers.pop(0) if self.answers else 200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    Door.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield Door
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_record, hook):
    webhook = {"url": hook.url, "secret": "0123456789abcdef"}
    with serving(
        tmp_path_factory.mktemp("alerts"),
        lambda tell, intake: standing("headway", tell=tell),
        new_record(),
        notify=NotifySettings.model_validate({"webhooks": [webhook]}),
    ) as found:
        yield found


@pytest.fixture(scope="module")
def clients(running):
    found = {role: running.client(role) for role in ("viewer", "operator", "engineer", "admin")}
    yield found
    for client in found.values():
        client.close()


@pytest.fixture
def street(running, hook):
    """Opens and closes alerts as the street does."""
    desk = running.app.state.services.selfwatch.desk

    class Street:
        def opens(self, rule="long wait", level="warning"):
            data = {"rule": rule, "path": "junctions.C.wait", "level": level, "value": 200.5}
            desk.take("headway", {"kind": "alert.opened", "data": data})

        def closes(self, rule="long wait"):
            data = {"rule": rule, "path": "junctions.C.wait", "level": "warning"}
            desk.take("headway", {"kind": "alert.closed", "data": data})

    (sender,) = running.app.state.services.notifier.senders
    until(lambda: not sender.waiting and sender._under_way is None)  # of the test before
    hook.taken.clear()
    yield Street()
    for rule in ("long wait", "other"):
        Street().closes(rule)


def opened(clients):
    return [a for a in clients["viewer"].get(f"{ALERTS}/open").json() if a["source"] == "headway"]


def told(hook):
    """Of the street: an alert of the machine, of a test before, may close meanwhile."""
    found = [note for note in hook.taken if note["data"].get("street")]
    return [(note["kind"], note["data"]["rule"]) for note in found]


def test_open_alerts_are_listed_with_their_source_and_id(clients, street):
    street.opens()
    (found,) = opened(clients)
    since = datetime.fromisoformat(found.pop("since"))
    assert abs(datetime.now(since.tzinfo) - since) < timedelta(seconds=60)
    assert len(found.pop("id")) == 32
    assert found.pop("data")["path"] == "junctions.C.wait"
    assert found == {
        "source": "headway", "rule": "long wait", "severity": "warning", "value": 200.5,
        "acknowledged": None, "silenced_until": None,
    }  # fmt: skip
    street.closes()
    assert opened(clients) == []


def test_alerts_of_the_machine_are_listed_and_acknowledged_too(clients):
    rule = {
        "name": "any disk", "metric": "disk_free_bytes", "operator": "<", "threshold": 1e18,
        "severity": "info",
    }  # fmt: skip
    made = clients["engineer"].post(f"{ALERTS}/rules", json=rule)
    assert made.status_code == 201, made.text
    try:
        until(lambda: [a for a in _of(clients, "machine") if a["rule"] == "any disk"])
        (found,) = [a for a in _of(clients, "machine") if a["rule"] == "any disk"]
        path = f"{ALERTS}/open/{found['id']}/acknowledge"
        answer = clients["operator"].post(path, json={"note": "ordered"}).json()
        assert answer["acknowledged"]["note"] == "ordered"
    finally:
        clients["engineer"].delete(f"{ALERTS}/rules/any disk")


def _of(clients, source):
    found = clients["viewer"].get(f"{ALERTS}/open").json()
    return [alert for alert in found if alert["source"] == source]


def test_an_alert_is_acknowledged_by_an_operator_until_it_is_closed(clients, street, running):
    hub = running.app.state.services.hub
    client, reported = Client("alerts", kinds=("alert.acknowledged",)), hub.publish
    street.opens()
    (found,) = opened(clients)
    path = f"{ALERTS}/open/{found['id']}/acknowledge"
    assert clients["viewer"].post(path, json={}).status_code == 403
    hub.publish = hub.broadcast
    hub.join(client)
    try:
        answer = clients["operator"].post(path, json={"note": "on my way"})
    finally:
        hub.publish = reported
        hub.leave(client)
    assert answer.status_code == 200
    acknowledged = answer.json()["acknowledged"]
    assert (acknowledged["by"], acknowledged["note"]) == ("a-operator", "on my way")
    assert opened(clients) == [answer.json()]
    (heard,) = (json.loads(message.text) for message in client.buffer)
    assert (heard["street"], heard["data"]["data"]) == ("headway", answer.json())
    street.closes()
    assert clients["operator"].post(path, json={}).status_code == 404
    street.opens()
    assert opened(clients)[0]["acknowledged"] is None


def test_a_silence_says_until_when_and_by_whom_and_nothing_is_sent_meanwhile(clients, street, hook):
    body = {"source": "headway", "rule": "long wait", "lasts_s": 600, "reason": "works"}
    assert clients["viewer"].post(f"{ALERTS}/silences", json=body).status_code == 403
    answer = clients["operator"].post(f"{ALERTS}/silences", json=body)
    made = answer.json()
    assert answer.status_code == 201
    assert {k: made[k] for k in ("source", "rule", "by", "reason")} == {
        "source": "headway", "rule": "long wait", "by": "a-operator", "reason": "works",
    }  # fmt: skip
    lasts = datetime.fromisoformat(made["until"]) - datetime.fromisoformat(made["at"])
    assert lasts == timedelta(seconds=600)
    assert clients["viewer"].get(f"{ALERTS}/silences").json() == [made]
    street.opens()
    street.opens("other")  # is not silenced: once it is here, the first would have been too
    until(lambda: told(hook))
    assert told(hook) == [("alert.opened", "other")]
    shown = {alert["rule"]: alert["silenced_until"] for alert in opened(clients)}
    assert shown == {"long wait": made["until"], "other": None}
    path = f"{ALERTS}/silences/{made['id']}"
    assert clients["viewer"].delete(path).status_code == 403
    assert clients["operator"].delete(path).status_code == 200
    until(lambda: len(told(hook)) == 2)
    assert told(hook)[1] == ("alert.opened", "long wait")
    assert clients["operator"].delete(path).status_code == 404
    assert clients["viewer"].get(f"{ALERTS}/silences").json() == []


def test_a_silence_that_runs_out_sends_what_is_still_open(clients, street, hook):
    body = {"source": "headway", "lasts_s": 1.0}
    assert clients["operator"].post(f"{ALERTS}/silences", json=body).status_code == 201
    street.opens()
    until(lambda: told(hook))
    assert told(hook) == [("alert.opened", "long wait")]


@pytest.mark.parametrize(
    "body",
    [
        {}, {"lasts_s": 60}, {"source": "a", "lasts_s": 0.5}, {"source": "a", "lasts_s": 604801},
        {"source": "a", "lasts_s": 60, "x": 1}, {"source": "x" * 65, "lasts_s": 60},
        {"rule": "x" * 129, "lasts_s": 60}, {"rule": "a", "lasts_s": 60, "reason": "x" * 501},
        {"source": 1, "lasts_s": 60}, {"source": "a", "lasts_s": "nan"},
    ],
)  # fmt: skip
def test_a_silence_of_all_for_ever_or_that_is_none_is_refused(clients, body):
    assert clients["operator"].post(f"{ALERTS}/silences", json=body).status_code == 422
    assert clients["viewer"].get(f"{ALERTS}/silences").json() == []


@pytest.mark.parametrize("body", [{"note": "x" * 501}, {"by": "bob"}, {"note": 1}, []])
def test_an_acknowledgement_that_is_none_is_refused(clients, street, body):
    street.opens()
    path = f"{ALERTS}/open/{opened(clients)[0]['id']}/acknowledge"
    assert clients["operator"].post(path, json=body).status_code == 422


def test_a_dead_camera_is_listed_acknowledged_and_gone_once_it_is_removed(clients, hook, street):
    camera = {"id": "north", "source": f"http://127.0.0.1:{free_port()}/", "attempts": 1}
    assert clients["engineer"].post("/streams", json=camera).status_code == 201
    try:
        until(lambda: "dead" in [alert["rule"] for alert in _of(clients, "north")])
        (found,) = [alert for alert in _of(clients, "north") if alert["rule"] == "dead"]
        assert (found["severity"], found["value"]) == ("critical", None)
        assert "given up" in found["data"]["reason"]
        path = f"{ALERTS}/open/{found['id']}/acknowledge"
        answer = clients["operator"].post(path, json={"note": "a ladder is on its way"})
        assert answer.json()["acknowledged"]["note"] == "a ladder is on its way"
        known = {alert["id"]: alert["acknowledged"] for alert in _of(clients, "north")}
        assert known[found["id"]] == answer.json()["acknowledged"]
    finally:
        clients["engineer"].delete("/streams/north")
    until(lambda: not _of(clients, "north"))
    until(lambda: "camera.recovered" in [note["kind"] for note in hook.taken])
    (over,) = [note["data"] for note in hook.taken if note["kind"] == "camera.recovered"]
    assert (over["outage"], over["why"]) == (found["id"], "it was stopped or removed")


@pytest.mark.parametrize(
    ("file", "path", "body"),
    [
        ("alert_rules", f"{ALERTS}/rules", {"name": "a", "metric": "fps", "threshold": 1.0}),
        ("cameras", "/streams", {"id": "a", "source": "rtsp://192.0.2.9/x", "start": False}),
        ("silences", f"{ALERTS}/silences", {"source": "a", "lasts_s": 60}),
    ],
)
def test_what_the_disk_does_not_take_is_not_available_and_not_in_force(
    clients, running, file, path, body
):
    draft = running.app.state.services.folder / f"{file}.json.draft"
    draft.mkdir()
    try:
        answer = clients["engineer"].post(path, json=body)
    finally:
        draft.rmdir()
    assert answer.status_code == 503, answer.text
    assert "disk" in answer.json()["detail"]
    assert not [one for one in clients["viewer"].get(path).json() if one.get("name") == "a"]
    assert clients["engineer"].delete(f"{path}/a").status_code == 404


# --- what could not be delivered

LETTERS = "/api/v1/monitoring/notifications/undelivered"


@pytest.fixture
def undelivered(clients, street, hook, running):
    """Alerts that the webhook has refused, and what is listed of them, newest first."""
    folder = running.app.state.services.folder

    def refuse(*rules):
        hook.answers[:] = [400] * len(rules)  # final: no further attempt
        for rule in rules:
            street.opens(rule)
        until(lambda: len(listed()) >= len(rules))
        return listed()

    def listed():
        return clients["admin"].get(LETTERS).json()

    yield refuse
    hook.answers.clear()
    (folder / "undelivered.jsonl").unlink(missing_ok=True)


def test_dead_letters_are_listed_for_administrators_alone(clients, undelivered, hook):
    newest, oldest = undelivered("long wait", "other")
    assert [newest["data"]["rule"], oldest["data"]["rule"]] == ["other", "long wait"]
    assert newest["kind"] == "alert.opened"
    assert "400" in newest["why"]
    assert newest["to"] == hook.url.split("/")[2], "the host alone: a path may hold secrets"
    assert newest["event"] == hook.taken[1]["id"]
    assert datetime.fromisoformat(newest["at"]).timestamp() == pytest.approx(
        hook.taken[1]["at"], abs=1e-3
    )
    assert clients["admin"].get(f"{LETTERS}?limit=1").json() == [newest]
    for role in ("viewer", "operator", "engineer"):
        assert clients[role].get(LETTERS).status_code == 403
        assert clients[role].post(f"{LETTERS}/replay").status_code == 403
        assert clients[role].post(f"{LETTERS}/{newest['id']}/replay").status_code == 403
    assert clients["admin"].get(f"{LETTERS}?limit=0").status_code == 422
    assert clients["admin"].get(f"{LETTERS}?limit=501").status_code == 422


def test_a_dead_letter_is_replayed_with_the_id_of_its_event_and_is_gone_then(
    clients, undelivered, hook, running
):
    newest, oldest = undelivered("long wait", "other")
    path = f"{LETTERS}/{oldest['id']}/replay"
    assert clients["admin"].post(path).json() == {"replayed": 1}
    until(lambda: len(hook.taken) == 3)
    assert hook.taken[2] == hook.taken[0]
    assert clients["admin"].get(LETTERS).json() == [newest]
    assert clients["admin"].post(path).status_code == 404
    left = running.app.state.services.folder / "undelivered.jsonl"
    until(lambda: oldest["event"] not in left.read_text())
    assert newest["event"] in left.read_text()


def test_all_dead_letters_are_replayed_in_their_order(clients, undelivered, hook):
    undelivered("long wait", "other")
    assert clients["admin"].post(f"{LETTERS}/replay").json() == {"replayed": 2}
    until(lambda: len(hook.taken) == 4)
    assert hook.taken[2:] == hook.taken[:2]
    assert clients["admin"].get(LETTERS).json() == []
    assert clients["admin"].post(f"{LETTERS}/replay").json() == {"replayed": 0}


def test_a_dead_letter_that_fails_again_is_one_again(clients, undelivered, hook):
    (letter,) = undelivered("long wait")
    hook.answers[:] = [410]
    assert clients["admin"].post(f"{LETTERS}/replay").json() == {"replayed": 1}
    until(lambda: clients["admin"].get(LETTERS).json())
    (again,) = clients["admin"].get(LETTERS).json()
    assert (again["event"], "410" in again["why"]) == (letter["event"], True)


def test_a_letter_to_nobody_of_the_settings_stays_and_says_so(clients, undelivered, running):
    path = running.app.state.services.folder / "undelivered.jsonl"
    note = {"kind": "alert.opened", "id": "1", "at": 1e9, "data": {}}
    gone = {"to": "gone.example", "why": "w", "note": note, "recipient": "abc"}
    path.write_text('{"cut\n' + json.dumps(gone) + "\n[]\n")
    (letter,) = clients["admin"].get(LETTERS).json()
    answer = clients["admin"].post(f"{LETTERS}/{letter['id']}/replay")
    assert (answer.status_code, "any more" in answer.json()["detail"]) == (409, True)
    assert clients["admin"].post(f"{LETTERS}/replay").json() == {"replayed": 0}
    assert clients["admin"].get(LETTERS).json() == [letter]
    assert clients["admin"].post(f"{LETTERS}/{'0' * 32}/replay").status_code == 404
