"""Orders by their id: what the street answered is read, filtered and heard; on streets without a
simulation, whose answers are given by hand.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pytest

from headway.api.hub import Client
from headway.runtime import WorkerError
from headway.runtime.supervisor import Restarted
from headway.safety import Order, Override
from headway.service import orders
from headway.service.orders import OrderBook, OrderFilter, PlacedOrder
from headway.settings import RuleSettings, overridden
from headway.street.messages import ChangeRule, KnownRule, Optimise, Pause, RunEnded, Switch
from headway.values import Event
from tests.api.service import serving
from tests.api.streets import SNAPSHOT, standing

# one server for all of them, in this order
pytestmark = pytest.mark.xdist_group("api-orders")

STREET = "/api/v1/engine/streets/headway"


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_record):
    with serving(
        tmp_path_factory.mktemp("orders"),
        lambda tell, intake: standing("headway", "baseline", tell=tell),
        new_record(),
    ) as found:
        yield found


@pytest.fixture
def live(running):
    found = running.app.state.services.street_service.streets["headway"]
    found.snapshot, found.engine.fault = replace(SNAPSHOT), None
    found.engine.pid, found.unconfirmed, found.finished = 7, None, False
    found.engine.orders.clear()
    found.engine.ids.clear()
    return found


@pytest.fixture(scope="module")
def clients(running):
    found = {role: running.client(role) for role in ("viewer", "operator", "engineer")}
    yield found
    for client in found.values():
        client.close()


@pytest.fixture
def post(clients):
    return lambda path, body, role="operator": clients[role].post(f"{STREET}/{path}", json=body)


@pytest.fixture
def said(running, live):
    """What the street says reaches the service as if its process had said it."""
    service = running.app.state.services.street_service
    return lambda message: service._handle(live, message)


@pytest.fixture
def order(clients):
    """An order by its id: (state, reason)."""

    def find(order_id):
        found = clients["viewer"].get(f"{STREET}/orders/{order_id}").json()
        return found["state"], found["reason"]

    return find


def applied(order_id):
    return Event(25300.0, "engine.order_applied", "", {"id": order_id})


def hold(post, junction="360082", **more):
    return post(f"junctions/{junction}/override", {"order": "hold"} | more).json()["id"]


def test_each_order_has_an_id_under_which_it_reaches_the_street(post, live):
    answers = [
        post("junctions/360082/override", {"order": "stage", "stage": 1, "lasts_s": 5.0}),
        post("emergency/360086", {"stage": 2}),
        post("optimisation", {"enabled": False, "cycle_s": 45.0}),
        post("controller", {"controller": "greedy"}, "engineer"),
        post("scenario", {"scenario": "cologne1"}, "engineer"),
    ]
    ids = [answer.json()["id"] for answer in answers]
    assert live.engine.ids == ids
    assert len(set(ids)) == len(answers)
    assert live.engine.orders[2:4] == [
        Switch("fixed", optimise=False),
        Optimise(45.0),
    ], "two under one id"


def test_an_order_can_be_read_with_who_what_where_and_when(post, live, clients):
    order_id = post("junctions/360082/override", {"order": "stage", "stage": 1}).json()["id"]
    found = clients["viewer"].get(f"{STREET}/orders/{order_id}").json()
    at, changed = found.pop("at"), found.pop("changed")
    assert found == {
        "id": order_id, "street": "headway", "kind": "override", "junction": "360082",
        "arguments": {"order": "stage", "stage": 1, "lasts_s": 60.0}, "by": "a-operator",
        "state": "accepted", "reason": "",
    }  # fmt: skip
    assert at == changed
    assert datetime.fromisoformat(at).utcoffset() is not None


def test_an_acknowledgement_can_be_read(post, order, said):
    order_id = hold(post)
    assert order(order_id) == ("accepted", "")
    said(applied(order_id))
    assert order(order_id) == ("applied", "")


def test_a_refusal_can_be_read_with_its_reason(post, order, said, live):
    order_id = post("controller", {"controller": "greedy"}, "engineer").json()["id"]
    why = {"order": "Switch", "why": "disk full", "id": order_id}
    said(Event(25300.0, "engine.order_refused", "", why))
    assert order(order_id) == ("refused", "disk full")


def test_an_order_that_the_street_takes_not_is_refused_on_record(post, clients, live):
    live.engine.fault = WorkerError("the street begins anew")
    assert post("junctions/360082/override", {"order": "flash"}).status_code == 503
    (newest,) = clients["viewer"].get(f"{STREET}/orders?limit=1").json()
    assert (newest["state"], newest["reason"]) == ("refused", "the street begins anew")
    assert newest["arguments"]["order"] == "flash"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Event(1.0, "safety.override_expired", "360082", {"by": "x"}), "its time has passed"),
        (Event(1.0, "safety.override_released", "360082", {"by": "Bob"}), "released by Bob"),
        (Event(1.0, "engine.scenario", "", {"scenario": "x"}), "another scenario began"),
        (RunEnded(1.0, finished=True), "the run is finished"),
    ],
)
def test_an_override_that_is_over_says_why(post, order, said, event, reason):
    first, other = hold(post), hold(post, "360086")
    said(applied(first))
    said(applied(other))
    said(event)
    assert order(first) == ("ended", reason)
    is_for_all = not getattr(event, "junction", "")
    assert order(other)[0] == ("ended" if is_for_all else "applied")


def test_an_override_is_replaced_by_the_next_one_of_its_junction(post, order, said):
    first, other, second = hold(post), hold(post, "360086"), hold(post)
    for order_id in (first, other):
        said(applied(order_id))
    assert order(first)[0] == "applied"
    said(applied(second))
    assert order(first) == ("ended", f"replaced by order {second}")
    assert order(other)[0] == order(second)[0] == "applied"


def test_a_release_that_was_obeyed_does_not_end(post, order, said):
    released = hold(post, order="release")
    said(applied(released))
    said(applied(hold(post)))
    assert order(released) == ("applied", "")


def test_an_order_whose_process_ended_first_is_unanswered(post, order, said, live):
    before = hold(post)
    live.engine.pid = 8  # the next process: it was sent the second one
    after = hold(post, "360086")
    said(Restarted("exit status 1", 0.5))
    reason = "the street's process ended before it answered: exit status 1"
    assert order(before) == ("unanswered", reason)
    assert order(after) == ("accepted", "")


def kept_at(junction, override):
    """A snapshot of a street that keeps the junction by an order."""
    known = [
        replace(j, order=override if j.junction == junction else None) for j in SNAPSHOT.junctions
    ]
    return replace(SNAPSHOT, junctions=tuple(known))


def test_an_order_that_took_effect_before_its_process_ended_is_applied(post, order, said, live):
    """The next process has it from disk; it stayed unanswered for as long as it was in force."""
    taken, lost, other = hold(post), hold(post, "360086", order="flash"), hold(post, "360086")
    live.engine.pid = 8
    said(Restarted("killed", 0.5))
    said(Event(25300.0, "engine.restored", "", {"scenario": "cologne3", "net": ""}))
    said(kept_at("360082", Override(0, Order.HOLD, 25360.0, "a-operator", 2)))
    assert order(taken) == ("applied", "")
    assert order(lost)[0] == order(other)[0] == "unanswered"


def test_an_order_of_somebody_else_is_not_taken_for_one_that_was_not_answered(
    post, order, said, live
):
    mine = hold(post)
    live.engine.pid = 8
    said(Restarted("killed", 0.5))
    said(Event(25300.0, "engine.restored", "", {"scenario": "cologne3", "net": ""}))
    said(kept_at("360082", Override(0, Order.HOLD, 25360.0, "somebody", 2)))
    said(kept_at("360082", Override(0, Order.HOLD, 25360.0, "a-operator", 2)))
    assert order(mine)[0] == "unanswered"


def test_a_switch_whose_process_ended_first_is_sent_to_the_next_one_under_its_id(
    post, order, said, live
):
    order_id = post("controller", {"controller": "greedy"}, "engineer").json()["id"]
    live.engine.pid = 8
    said(Restarted("exit status 1", 0.5))
    assert order(order_id) == ("accepted", "")
    live.engine.ids.clear()
    said(Event(25300.0, "engine.restored", "", {"scenario": "cologne3", "net": ""}))
    assert live.engine.ids == [order_id]
    said(applied(order_id))
    assert order(order_id) == ("applied", "")


def test_orders_are_listed_newest_first_and_filtered(post, clients, said):
    ids = [
        hold(post, "360086"),
        post("emergency/360082", {"stage": 1}).json()["id"],
        post("optimisation", {"cycle_s": 20}, "engineer").json()["id"],
    ]
    said(applied(ids[1]))

    def listed(**query):
        found = clients["viewer"].get(f"{STREET}/orders", params=query).json()
        return [o["id"] for o in found if o["id"] in ids]

    assert listed() == ids[::-1]
    assert listed(limit=2) == [ids[2], ids[1]]
    assert listed(state="applied") == [ids[1]]
    assert listed(kind="override") == [ids[0]]
    assert listed(junction="360086") == [ids[0]]
    assert listed(by="a-engineer") == [ids[2]]
    assert listed(by="a-engineer", kind="override") == []


def test_the_newest_orders_of_a_street_are_kept(post, clients, monkeypatch):
    assert orders.ORDERS_KEPT == 500
    monkeypatch.setattr(orders, "ORDERS_KEPT", 20)
    stage = {"order": "stage", "stage": 1}
    first, *_ = [post("junctions/360082/override", stage).json()["id"] for _ in range(21)]
    assert clients["viewer"].get(f"{STREET}/orders/{first}").status_code == 404
    assert len(clients["viewer"].get(f"{STREET}/orders?limit=500").json()) == 20


def test_an_override_in_force_is_not_forgotten_for_orders_that_came_after_it(monkeypatch):
    monkeypatch.setattr(orders, "ORDERS_KEPT", 3)
    book = OrderBook(lambda street, message: None)
    hold = {"order": "hold"}
    held = [
        book.add(PlacedOrder("a", "override", "Ann", junction, hold)).id for junction in ("j", "k")
    ]
    for order_id in held:
        book.apply("a", order_id)
    others = [book.add(PlacedOrder("a", "optimisation", "Bob")).id for _ in range(5)]
    assert {order.id for order in book.in_force("a").values()} == set(held)
    assert [order.id for order in book.newest("a", OrderFilter(), 9)] == [others[-1], *held[::-1]]
    book.end_overrides("a", "its time has passed", "j")
    book.add(PlacedOrder("a", "optimisation", "Bob"))
    assert book.find("a", held[0]) is None
    for junction in ("l", "m", "n"):  # more than are kept at all
        newest = book.add(PlacedOrder("a", "override", "Ann", junction, hold)).id
        book.apply("a", newest)
        assert book.find("a", newest).is_in_force
    assert len(book.newest("a", OrderFilter(), 9)) == 3


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/orders/0123456789abcdef", 404), ("/orders/%00", 422), (f"/orders/{'0' * 33}", 422),
        ("/orders?limit=0", 422), ("/orders?limit=501", 422), ("/orders?state=lost", 422),
        (f"/orders?by={'x' * 257}", 422), (f"/orders?kind={'x' * 33}", 422),
        (f"/orders?junction={'x' * 257}", 422),
    ],
)  # fmt: skip
def test_orders_that_are_not_there_or_are_asked_for_wrongly_are_refused(clients, path, status):
    assert clients["viewer"].get(STREET + path).status_code == status
    assert clients["viewer"].get(f"/api/v1/engine/streets/nowhere{path}").status_code in (404, 422)


def test_orders_of_one_street_are_not_those_of_another(post, clients):
    order_id = hold(post)
    other = clients["viewer"].get(f"/api/v1/engine/streets/baseline/orders/{order_id}")
    assert other.status_code == 404


def test_what_becomes_of_an_order_is_heard_on_the_stream_of_its_street(post, said, running):
    hub = running.app.state.services.hub
    client, reported = Client("monitoring", street="headway"), hub.publish
    hub.publish = hub.broadcast  # in this thread
    hub.join(client)
    try:
        order_id = hold(post)
        said(applied(order_id))
        said(Event(25360.0, "safety.override_expired", "360082", {"by": "a-operator"}))
    finally:
        hub.publish = reported
        hub.leave(client)
    heard = [json.loads(message.text) for message in client.buffer]
    told = [
        (m["street"], m["data"]["kind"], m["data"]["data"]["id"], m["data"]["data"]["reason"])
        for m in heard
        if m["data"]["kind"].startswith("order.") and m["data"]["data"]["id"] == order_id
    ]
    assert told == [
        ("headway", "order.accepted", order_id, ""),
        ("headway", "order.applied", order_id, ""),
        ("headway", "order.ended", order_id, "its time has passed"),
    ]


# --- overrides in force


def test_the_overrides_in_force_are_listed_by_junction(clients, live, post, said):
    """As the street says; with the order of which each is, if it was placed here."""
    assert clients["viewer"].get(f"{STREET}/overrides").json() == []
    hold_id = hold(post)
    said(applied(hold_id))
    first, second = SNAPSHOT.junctions
    in_force = (
        replace(first, order=Override(0, Order.HOLD, 25360.0, "a-operator", 2)),
        replace(second, order=Override(1, Order.STAGE, 25299.0, "bob", 3)),
    )
    live.snapshot = replace(SNAPSHOT, junctions=in_force)
    said(Event(1.0, "safety.override_released", "360086", {"by": "x"}))
    assert clients["viewer"].get(f"{STREET}/overrides").json() == [
        {"junction": "360082", "order": "hold", "stage": None, "until_s": 25360.0, "left_s": 60.0,
         "by": "a-operator", "kind": "override", "id": hold_id},
        {"junction": "360086", "order": "stage", "stage": 3, "until_s": 25299.0, "left_s": 0.0,
         "by": "bob", "kind": None, "id": None},
    ]  # fmt: skip
    live.snapshot = None
    assert clients["viewer"].get(f"{STREET}/overrides").json() == []
    assert clients["viewer"].get("/api/v1/engine/streets/nowhere/overrides").status_code == 404


# --- stop, start, pause, resume


@pytest.mark.parametrize("action", ["stop", "start", "pause", "resume"])
def test_engineers_alone_stop_start_and_pause_streets(clients, live, action):
    for role in ("viewer", "operator"):
        assert clients[role].post(f"{STREET}/{action}").status_code == 403
    nowhere = f"/api/v1/engine/streets/nowhere/{action}"
    assert clients["engineer"].post(nowhere).status_code == 404
    assert not live.engine.stopped
    assert not live.engine.orders


def test_a_start_of_a_street_that_runs_changes_nothing(clients, live):
    given = len(live.engine.orders)
    answer = clients["engineer"].post(f"{STREET}/start")
    assert (answer.status_code, answer.json()["state"]) == (200, "applied")
    assert (live.engine.stopped, len(live.engine.orders)) == (False, given)


def test_a_pause_is_an_order_of_its_own(clients, live, order):
    for action, sent in (("pause", Pause("a-engineer")), ("resume", Pause(""))):
        answer = clients["engineer"].post(f"{STREET}/{action}").json()
        assert (live.engine.orders[-1], live.engine.ids[-1]) == (sent, answer["id"])
        assert order(answer["id"]) == ("accepted", "")


def test_a_paused_street_says_so_and_by_whom(clients, live):
    live.snapshot = replace(SNAPSHOT, paused_by="ann")
    state = clients["viewer"].get(STREET).json()
    assert (state["status"], state["status_by"]) == ("paused", "ann")


def test_a_pause_of_a_street_that_is_observed_from_outside_is_refused(clients, live):
    own = live.task
    external = overridden(own.settings, {"street": {"sensing": "external"}})
    live.task = replace(own, settings=external)
    try:
        answer = clients["engineer"].post(f"{STREET}/pause")
    finally:
        live.task = own
    assert answer.status_code == 409
    assert "the traffic does not wait" in answer.json()["detail"]


def test_a_stopped_street_says_so_and_is_no_fault(clients, running, tmp_path, monkeypatch):
    """On a street of its own: its engine is asked to end."""
    services = running.app.state.services
    live = standing("alone").streets["alone"]
    settings = overridden(live.task.settings, {"recovery": {"folder": str(tmp_path)}})
    live.task, live.ended = replace(live.task, settings=settings), True
    monkeypatch.setitem(services.street_service.streets, "alone", live)
    path = "/api/v1/engine/streets/alone"
    answer = clients["engineer"].post(f"{path}/stop")
    assert (answer.status_code, answer.json()["state"]) == (200, "applied")
    assert live.engine.stopped
    state = clients["viewer"].get(path).json()
    assert (state["status"], state["status_by"], state["fault"]) == ("stopped", "a-engineer", "")
    assert state in clients["viewer"].get("/api/v1/engine/state").json()
    refused = clients["engineer"].post(f"{path}/controller", json={"controller": "fixed"})
    assert refused.status_code == 409
    assert "was stopped by a-engineer. Start it first" in refused.json()["detail"]
    parts = clients["viewer"].get("/system/info").json()["parts"]
    assert parts["street alone"] == "stopped"
    assert services.lookout._streets() == (True, "2 of 3 run, 0 given up, 1 stopped by order")
    assert services.selfwatch._street(live)["running"] is None


def test_a_stop_that_cannot_be_kept_is_answered_503(clients, running, live, tmp_path):
    (tmp_path / "stopped.json.draft").mkdir()
    own = live.task
    live.task = replace(
        own, settings=overridden(own.settings, {"recovery": {"folder": str(tmp_path)}})
    )
    try:
        answer = clients["engineer"].post(f"{STREET}/stop")
    finally:
        live.task = own
    assert answer.status_code == 503
    assert "it cannot be kept on disk" in answer.json()["detail"]
    assert not live.engine.stopped


RULE = {"name": "full", "path": "junctions.360082.queue", "threshold": 9}
RULES = f"{STREET}/alert-rules"


@pytest.fixture
def ruled(live):
    """A street with a rule of its settings and one that was set."""
    fixed, given = (RuleSettings(name=n, path="time_s", threshold=1.0) for n in ("fixed", "given"))
    live.snapshot = replace(
        SNAPSHOT, rules=(KnownRule(fixed, ordered=False), KnownRule(given, True, "it cannot"))
    )
    return live


def test_alert_rules_of_a_street_are_listed_with_where_they_stand(clients, ruled):
    found = clients["viewer"].get(RULES).json()
    assert [(r["name"], r["fixed"], r["fault"]) for r in found] == [
        ("fixed", True, ""), ("given", False, "it cannot"),
    ]  # fmt: skip
    ruled.snapshot = None  # it is starting
    found = clients["viewer"].get(RULES).json()
    assert {r["name"]: r["fixed"] for r in found} == {"long wait": True, "long queue": True}


def test_an_alert_rule_is_set_by_an_engineer_and_is_an_order_on_record(clients, ruled):
    for role in ("viewer", "operator"):
        assert clients[role].put(f"{RULES}/full", json=RULE).status_code == 403
        assert clients[role].delete(f"{RULES}/given").status_code == 403
    answer = clients["engineer"].put(f"{RULES}/full", json=RULE)
    assert (answer.status_code, answer.json()["state"]) == (200, "accepted")
    assert ruled.engine.orders == [ChangeRule("full", RuleSettings.model_validate(RULE))]
    order = clients["viewer"].get(f"{STREET}/orders/{answer.json()['id']}").json()
    assert (order["kind"], order["by"], order["arguments"]["path"]) == (
        "alert_rule", "a-engineer", "junctions.360082.queue",
    )  # fmt: skip
    assert clients["engineer"].delete(f"{RULES}/given").status_code == 200
    assert ruled.engine.orders[1:] == [ChangeRule("given", None)]


@pytest.mark.parametrize(
    ("name", "change", "status", "why"),
    [
        ("full", {"path": "junctions.NOWHERE.queue"}, 422, "there is no 'junctions.NOWHERE.queue'"),
        ("full", {"path": "cars"}, 422, "there is no 'cars'"),
        ("other", {}, 422, "the path says 'other'"),
        ("full", {"threshold": "nan"}, 422, "fault"),
        ("full", {"threshold": "x"}, 422, "fault"),
        ("full", {"more": 1}, 422, "fault"),
        ("full", {"condition": "~"}, 422, "fault"),
        ("fixed", {"name": "fixed"}, 409, "stands in the settings"),
    ],
)
def test_an_alert_rule_that_cannot_be_is_refused_before_it_is_an_order(
    clients, ruled, name, change, status, why
):
    answer = clients["engineer"].put(f"{RULES}/{name}", json=RULE | change)
    assert answer.status_code == status, answer.text
    assert why in answer.json()["detail"]
    assert ruled.engine.orders == []


def test_an_alert_rule_without_an_end_is_refused(clients, ruled):
    body = json.dumps(RULE)[:-1] + ', "for_s": Infinity}'
    headers = {"Content-Type": "application/json"}
    answer = clients["engineer"].put(f"{RULES}/full", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert ruled.engine.orders == []


def test_an_alert_rule_that_is_not_there_is_not_removed(clients, ruled):
    answer = clients["engineer"].delete(f"{RULES}/nothing")
    assert answer.status_code == 404
    assert "There are: fixed, given." in answer.json()["detail"]
    assert clients["engineer"].delete(f"{RULES}/fixed").status_code == 409


def test_the_number_of_alert_rules_is_bounded(clients, ruled, monkeypatch):
    monkeypatch.setattr("headway.service.running_street.MOST_ORDERED", 1)
    answer = clients["engineer"].put(f"{RULES}/full", json=RULE)
    assert (answer.status_code, "Remove one first" in answer.json()["detail"]) == (409, True)
    body = RULE | {"name": "given"}
    assert clients["engineer"].put(f"{RULES}/given", json=body).status_code == 200
