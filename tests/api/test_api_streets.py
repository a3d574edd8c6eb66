"""The routes of streets, on streets without a simulation:
what each returns, and which order reaches the street for each call.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from headway.api.app import publish
from headway.api.hub import Client
from headway.control.catalogue import CONTROLLERS
from headway.plants.sumo import Scene, read_shapes
from headway.plants.sumo.scenarios import RESCO
from headway.roads import NotControlled
from headway.runtime import WorkerError
from headway.safety import Order, Override
from headway.street.messages import AtJunction, Optimise, Release, Reset, Switch
from headway.telemetry import metrics
from headway.values import Event
from tests.api.service import serving
from tests.api.streets import SNAPSHOT, standing

STATE = {
    "street": "headway", "scenario": "cologne3", "controller": "planner", "status": "running",
    "status_by": "", "finished": False, "fault": "", "run": 0, "not_controlled": [],
    "started": True,
    "time_s": 25300.0, "begin_s": 25200.0, "end_s": 28800.0, "vehicles": 31, "stopped": 12,
    "halted": 12, "source": "controller", "interventions": 4, "cycles": 3,
    "cycle_success_rate": 1.0, "overruns": 1, "jitter_p99_s": 0.0021, "tick_ms": 1.75,
    "checkpoint_s": 25260.0, "trouble": "", "mode": "balanced",
    "speed_factor": 0.0, "cycle_s": 30.0,
    "junctions": [
        {"id": "360082", "vehicles": 11, "queue": 5, "longest_wait_s": 42.3, "confidence": 0.877,
         "factors": {"novelty": 0.9}, "congested": [], "fault": "", "order": None},
        {"id": "360086", "vehicles": 20, "queue": 7, "longest_wait_s": 8.0, "confidence": 1.0,
         "factors": {}, "congested": [], "fault": "", "order": None},
    ],
}  # fmt: skip
HEAD = ("street", "scenario", "status_by", "finished", "fault", "run", "not_controlled")
GONE = "GS_cluster_2415878664_254486231_359566_359576"


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_record):
    with serving(
        tmp_path_factory.mktemp("operate"),
        lambda tell, intake: standing("headway", "baseline", tell=tell),
        new_record(),
    ) as found:
        yield found


@pytest.fixture
def live(running):
    found = running.app.state.services.street_service.streets["headway"]
    found.snapshot, found.engine.fault = replace(SNAPSHOT), None
    found.engine.orders.clear()
    found.controller_ordered = ""
    return found


@pytest.fixture(scope="module")
def clients(running):
    found = {role: running.client(role) for role in ("viewer", "operator", "engineer", "admin")}
    yield found
    for client in found.values():
        client.close()


@pytest.fixture
def get(clients):
    return lambda path: clients["viewer"].get(f"/api/v1/engine/{path}")


@pytest.fixture
def post(clients):
    return lambda path, body, role="operator": clients[role].post(
        f"/api/v1/engine/streets/{path}", json=body
    )


def done(answer):
    """(status, what was done) of an order that was sent."""
    said = answer.json()
    assert (said["done"], said["state"], len(said["id"])) == (True, "accepted", 32)
    return answer.status_code, said["detail"]


def test_the_state_is_the_newest_snapshot_of_each_street(get, live):
    assert get("state").json() == [STATE, STATE | {"street": "baseline"}]
    assert get("streets/headway").json() == STATE
    live.finished, live.fault, live.run = True, "why", 7
    live.snapshot = replace(SNAPSHOT, end_s=float("inf"), controller="")
    try:
        assert get("streets/headway").json() == STATE | {
            "status": "given up",
            "finished": True,
            "fault": "why",
            "run": 7,
            "end_s": None,
            "controller": "",
        }
    finally:
        live.finished, live.fault, live.run = False, "", 0


@pytest.mark.parametrize(("end_s", "shown"), [(9e16, 9e16), (1e17, None)])
def test_a_scenario_without_an_end_says_so(get, live, end_s, shown):
    live.snapshot = replace(SNAPSHOT, end_s=end_s)
    assert get("streets/headway").json()["end_s"] == shown


def test_a_street_that_has_not_begun_says_so(get, live):
    live.snapshot = None
    head = {k: STATE[k] for k in HEAD}
    assert get("streets/headway").json() == head | {
        "status": "starting",
        "controller": "webster",
        "started": False,
    }


def test_history_and_alerts_are_columnar(get, live):
    assert get("streets/headway/history").json() == {
        "n": 0,
        "time_s": [],
        "wait_s": [],
        "vehicles": [],
        "stopped": [],
        "halted": [],
    }
    live.history += [(5.0, 1.5, 20, 3), (10.0, 2.5, 21, 4)]
    live.alerts[3] = {"at_s": 9.0, "rule": "long wait"}
    assert get("streets/headway/history").json() == {
        "n": 2, "time_s": [5.0, 10.0], "wait_s": [1.5, 2.5], "vehicles": [20, 21],
        "stopped": [3, 4], "halted": [3, 4],
    }  # fmt: skip
    assert get("streets/headway/alerts").json() == [{"at_s": 9.0, "rule": "long wait"}]
    assert get("streets/baseline/alerts").json() == []


def test_a_report_is_of_the_street_and_of_its_loop(get, live):
    assert get("streets/headway/report").json() == {"street": STATE, "loop": None}
    live.report = {"stability": {"score": 1.0}}
    assert get("streets/headway/report").json() == {
        "street": STATE,
        "loop": {"stability": {"score": 1.0}},
    }
    live.report = None


def test_a_map_has_lanes_junctions_and_a_head_a_signal_group(get, live):
    found = get("streets/headway/map").json()
    shapes = read_shapes(live.network)
    network = live.network
    assert list(found) == ["street", "lanes", "junctions", "signals", "names"]
    assert found["street"] == "headway"
    assert found["lanes"] == [
        [width, [list(p) for p in points]] for _, width, points in shapes.lanes
    ]
    assert found["junctions"] == [[list(p) for p in outline] for outline in shapes.junctions]
    assert len(found["signals"]) == network.group_junction.size == 49
    for group, head in enumerate(found["signals"]):
        assert head[:3] == list(shapes.signals[group])
        assert head[3] == next(
            k for k, j in enumerate(network.junctions) if j.first <= group < j.end
        )
    serves = [name.pop("serves") for name in found["names"]]
    assert [len(s) for s in serves] == [3, 4, 4]
    assert all(who for who in serves[0])
    assert found["names"] == [
        {"id": "360082", "stages": 3, "first": 0, "end": 11},
        {"id": "360086", "stages": 4, "first": 11, "end": 29},
        {"id": GONE, "stages": 4, "first": 29, "end": 49},
    ]  # fmt: skip


def test_the_scenarios_are_those_of_the_catalogue(get):
    assert get("scenarios").json() == list(RESCO)


def test_the_controllers_are_those_of_the_catalogue(get):
    assert get("controllers").json() == list(CONTROLLERS)


@pytest.mark.parametrize(
    ("junction", "body", "order", "detail"),
    [
        (
            "360082",
            {"order": "hold"},
            Override(0, Order.HOLD, 60.0, "a-operator", -1),
            "360082: hold for 60 s",
        ),
        (
            "360086",
            {"order": "hold", "stage": 2, "lasts_s": 0.5},
            Override(1, Order.HOLD, 0.5, "a-operator", -1),
            "360086: hold for 0.5 s",
        ),
        (
            "360086",
            {"order": "stage", "stage": 0, "lasts_s": 3600},
            Override(1, Order.STAGE, 3600.0, "a-operator", 0),
            "360086: stage for 3600 s",
        ),
        (
            "360086",
            {"order": "stage", "stage": 3, "lasts_s": "30"},
            Override(1, Order.STAGE, 30.0, "a-operator", 3),
            "360086: stage for 30 s",
        ),
        (
            GONE,
            {"order": "flash", "lasts_s": 1e-3},
            Override(2, Order.FLASH, 0.001, "a-operator", -1),
            f"{GONE}: flash for 0.001 s",
        ),
        (
            "360086",
            {"order": "release", "stage": 255},
            Release(1, "a-operator"),
            "360086 is released",
        ),
        (
            "360086",
            {"order": "reset"},
            Reset(1, "a-operator"),
            "360086 is reset if its lamps obey",
        ),
    ],
)
def test_an_override_reaches_the_junction_for_its_duration(
    post, live, junction, body, order, detail
):
    answer = post(f"headway/junctions/{junction}/override", body)
    assert done(answer) == (200, detail)
    lasts_s = order.until_s if isinstance(order, Override) else 0.0
    assert live.engine.orders == [AtJunction(order, junction, lasts_s)]


@pytest.mark.parametrize(
    ("stage", "name"), [(1, "stage 1 is kept"), (-1, "a stage without a number is kept")]
)
def test_the_answer_to_a_hold_names_the_stage_that_the_gate_keeps(post, live, stage, name):
    hold = {"order": "hold", "by": "a-operator", "stage": 7, "green": [0, 3]}
    kept = hold | {"stage": stage}

    def says(junction, data):
        live.events.append(Event(25300.0, "safety.override", junction, data))
        live.events_recorded += 1

    def obey(order):
        others = (hold | {"by": "another"}, hold | {"order": "flash"})
        for data in others:
            says("360082", data)
        says("360086", hold)
        says("360082", kept)

    says("360082", hold)  # an earlier one
    live.engine.on_order = obey
    answer = post("headway/junctions/360082/override", {"order": "hold", "lasts_s": 30})
    live.engine.on_order = None
    live.events.clear()
    assert answer.json()["detail"] == f"360082: hold for 30 s; {name}, green at [0, 3]"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/body/order"), ({"order": "go"}, "/body/order"),
        ({"order": "hold", "stage": -1}, "/body/stage"),
        ({"order": "hold", "stage": 256}, "/body/stage"),
        ({"order": "hold", "stage": "1"}, "/body/stage"),
        ({"order": "stage"}, "/body"), ({"order": "hold", "lasts_s": 0}, "/body/lasts_s"),
        ({"order": "hold", "lasts_s": 3600.5}, "/body/lasts_s"),
        ({"order": "hold", "more": 1}, "/body/more"), ([], "/body"),
    ],
)  # fmt: skip
def test_an_invalid_override_is_refused_with_its_place(post, live, body, pointer):
    answer = post("headway/junctions/360082/override", body)
    assert (answer.status_code, [f["pointer"] for f in answer.json()["faults"]]) == (422, [pointer])
    assert not live.engine.orders


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/body/stage"), ({"stage": 1, "order": "release"}, "/body/order"),
        ({"stage": 1, "order": "flash"}, "/body/order"),
        ({"stage": -1}, "/body/stage"), ({"stage": 256}, "/body/stage"),
        ({"stage": "1"}, "/body/stage"),
        ({"stage": 1, "lasts_s": 0}, "/body/lasts_s"), ({"stage": 1, "more": 1}, "/body/more"),
        ([], "/body"),
    ],
)  # fmt: skip
def test_an_emergency_order_names_its_stage_and_no_other_order(post, live, body, pointer):
    answer = post("headway/emergency/360082", body)
    assert (answer.status_code, [f["pointer"] for f in answer.json()["faults"]]) == (422, [pointer])
    assert not live.engine.orders


def test_the_state_shows_the_order_that_is_in_force_and_by_whom(get, live):
    first, second = SNAPSHOT.junctions
    ordered = (
        replace(first, order=Override(0, Order.STAGE, 25400.0, "ann", 2)),
        replace(second, order=Override(1, Order.FLASH, 25500.0, "bob", -1)),
    )
    live.snapshot = replace(SNAPSHOT, junctions=ordered, speed_factor=2.0, cycle_s=45.0)
    state = get("streets/headway").json()
    assert [j["order"] for j in state["junctions"]] == [
        {"order": "stage", "stage": 2, "until_s": 25400.0, "by": "ann"},
        {"order": "flash", "stage": None, "until_s": 25500.0, "by": "bob"},
    ]
    assert (state["speed_factor"], state["cycle_s"]) == (2.0, 45.0)


def test_a_body_that_says_it_is_a_form_is_refused_with_the_header_that_it_needs(clients, live):
    path = "/api/v1/engine/streets/headway/junctions/360082/override"
    form = {"content-type": "application/x-www-form-urlencoded"}  # as curl -d sends it
    answer = clients["operator"].post(path, content=b'{"order": "hold"}', headers=form)
    said = {
        "pointer": "/body",
        "message": "Send it as JSON, with the header Content-Type: application/json",
    }
    assert (answer.status_code, answer.json()["faults"]) == (422, [said])
    assert not live.engine.orders


def test_a_stage_that_a_junction_lacks_is_refused(post, live):
    answer = post("headway/junctions/360082/override", {"order": "stage", "stage": 3})
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "junction '360082' has 3 stages; there is no stage 3",
    )
    assert (
        post("headway/junctions/360082/override", {"order": "stage", "stage": 2}).status_code == 200
    )
    assert (
        post("headway/junctions/360082/override", {"order": "hold", "stage": 255}).status_code
        == 200
    )
    assert post("headway/emergency/360082", {"stage": 3}).status_code == 422
    assert [o.order.order for o in live.engine.orders] == [Order.STAGE, Order.HOLD]


def test_an_emergency_requests_its_stage(post, live):
    answer = post("headway/emergency/360086", {"order": "stage", "stage": 2, "lasts_s": 45})
    assert done(answer) == (200, "360086: stage for 45 s")
    order = Override(1, Order.STAGE, 45.0, "a-operator", 2)
    assert live.engine.orders == [AtJunction(order, "360086", 45.0)]


def test_a_controller_is_switched(post, live):
    answer = post("headway/controller", {"controller": "max-pressure"}, "engineer")
    assert done(answer) == (200, "max-pressure takes over")
    assert live.engine.orders == [Switch("max-pressure", "")]
    assert post("headway/controller", {"controller": "magic"}, "engineer").status_code == 422
    assert (
        post("headway/controller", {"controller": "fixed", "x": 1}, "engineer").status_code == 422
    )
    assert post("headway/controller", {"controller": "fixed"}, "operator").status_code == 403
    assert len(live.engine.orders) == 1


def test_a_scenario_is_switched(post, live):
    answer = post("headway/scenario", {"scenario": "cologne1"}, "engineer")
    assert done(answer) == (200, "cologne1 begins")
    assert live.engine.orders == [Switch("", "cologne1")]
    answer = post("headway/scenario", {"scenario": "paris"}, "engineer")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("no scenario 'paris'. There are: cologne1, cologne3,")
    for wrong in ("", "x" * 1025):
        assert [
            f["pointer"]
            for f in post("headway/scenario", {"scenario": wrong}, "engineer").json()["faults"]
        ] == ["/body/scenario"]
    assert (
        post("headway/scenario", {"scenario": "x" * 1024}, "engineer").json()["faults"] == []
    )  # may be a name, but is none
    assert post("headway/scenario", {"scenario": "cologne1"}, "operator").status_code == 403
    assert len(live.engine.orders) == 1


def test_the_state_of_a_street_lists_what_it_does_not_control(get, live):
    own = live.network
    alone = (NotControlled(("T",), "no green", 3, "r"), NotControlled(("U", "V"), "no phase"))
    live.network = replace(own, not_controlled=alone + 60 * alone[1:])
    try:
        listed = get("streets/headway").json()["not_controlled"]
    finally:
        live.network = own
    assert listed[:2] == [
        {"signals": ["T"], "link": 3, "reason": "no green"},
        {"signals": ["U", "V"], "link": None, "reason": "no phase"},
    ]
    assert len(listed) == 50


@pytest.mark.parametrize("fault", [ValueError("no net"), OSError("no file")])
def test_a_scenario_that_cannot_be_read_is_refused(post, live, monkeypatch, fault):
    def broken(name):
        raise fault

    monkeypatch.setattr("headway.api.streets.network_of", broken)
    answer = post("headway/scenario", {"scenario": "cologne1"}, "engineer")
    assert (answer.status_code, answer.json()["detail"]) == (422, str(fault))
    assert not live.engine.orders


@pytest.mark.parametrize(
    ("body", "orders"),
    [
        ({}, []), ({"enabled": True}, [Switch("webster", optimise=True)]),
        ({"enabled": False}, [Switch("fixed", optimise=False)]),
        ({"cycle_s": 5}, [Optimise(5.0, -1.0)]), ({"cycle_s": 600.0}, [Optimise(600.0, -1.0)]),
        ({"speed_factor": 0}, [Optimise(0.0, 0.0)]),
        ({"speed_factor": 0.01}, [Optimise(0.0, 0.01)]),
        ({"speed_factor": 1000.0}, [Optimise(0.0, 1000.0)]),
        ({"cycle_s": "30", "speed_factor": "2"}, [Optimise(30.0, 2.0)]),
        ({"enabled": True, "cycle_s": 30.0, "speed_factor": 10.0},
            [Switch("webster", optimise=True), Optimise(30.0, 10.0)]),
    ],
)  # fmt: skip
def test_optimisation_cycle_and_speed_factor_are_set(post, live, body, orders):
    answer = post("headway/optimisation", body)
    assert (answer.status_code, answer.json()["done"]) == (200, True)
    assert live.engine.orders == orders


def test_optimisation_switched_on_again_restores_the_controller_that_was_ordered_last(post, live):
    assert post("headway/controller", {"controller": "actuated"}, "engineer").status_code == 200
    for enabled in (False, True):
        assert post("headway/optimisation", {"enabled": enabled}).status_code == 200
    assert post("headway/controller", {"controller": "fixed"}, "engineer").status_code == 200
    assert post("headway/optimisation", {"enabled": True}).status_code == 200
    orders = ["actuated", "fixed", "actuated", "fixed", "actuated"]
    by_button = [None, False, True, None, True]
    assert live.engine.orders == [
        Switch(controller, optimise=on) for controller, on in zip(orders, by_button, strict=True)
    ]


def test_the_current_optimisation_settings_are_returned(post, live):
    assert (
        post("headway/optimisation", {"enabled": False, "speed_factor": 2}).json()["detail"]
        == '{"enabled":false,"speed_factor":2.0}'
    )
    assert post("headway/optimisation", {}).json()["detail"] == "{}"


def test_the_old_name_of_the_speed_factor_gives_the_same_order_and_is_answered_by_the_new_one(
    post, live
):
    answer = post("headway/optimisation", {"realtime": 2})
    assert answer.json()["detail"] == '{"speed_factor":2.0}'
    assert live.engine.orders == [Optimise(speed_factor=2.0)]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"cycle_s": 4.9}, "/body/cycle_s"), ({"cycle_s": 600.5}, "/body/cycle_s"),
        ({"speed_factor": -0.5}, "/body/speed_factor"),
        ({"speed_factor": 0.0099}, "/body/speed_factor"), ({"realtime": 1e-9}, "/body/realtime"),
        ({"speed_factor": 1000.5}, "/body/speed_factor"), ({"realtime": -0.5}, "/body/realtime"),
        ({"realtime": 1000.5}, "/body/realtime"), ({"realtime": 2, "speed_factor": 2}, "/body"),
        ({"enabled": 1}, "/body/enabled"), ({"x": 1}, "/body/x"),
    ],
)  # fmt: skip
def test_invalid_optimisation_settings_are_refused_with_their_place(post, live, body, pointer):
    answer = post("headway/optimisation", body)
    assert (answer.status_code, [f["pointer"] for f in answer.json()["faults"]]) == (422, [pointer])
    assert not live.engine.orders


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        (
            "nowhere/junctions/360082/override",
            {"order": "hold"},
            "no street 'nowhere'. There are: headway, baseline.",
        ),
        ("headway/junctions/7/override", {"order": "hold"}, "street 'headway' has no junction '7'"),
        (
            "headway/junctions/7/override",
            {"order": "release"},
            "street 'headway' has no junction '7'",
        ),
        ("baseline/emergency/a/b", {"stage": 0}, "street 'baseline' has no junction 'a/b'"),
        (
            "nowhere/controller",
            {"controller": "fixed"},
            "no street 'nowhere'. There are: headway, baseline.",
        ),
        (
            "nowhere/scenario",
            {"scenario": "cologne1"},
            "no street 'nowhere'. There are: headway, baseline.",
        ),
        ("nowhere/optimisation", {}, "no street 'nowhere'. There are: headway, baseline."),
    ],
)
def test_unknown_resources_give_404(post, path, body, detail):
    answer = post(path, body, "admin")
    assert (answer.status_code, answer.json()["detail"]) == (404, detail)


def test_a_map_of_a_network_that_was_moved_away_is_missing(get, live, monkeypatch, tmp_path):
    """The street goes on: its process has read it."""
    gone = tmp_path / "gone.net.xml"
    monkeypatch.setattr(live, "network", replace(live.network, path=str(gone)))
    for route in ("streets/headway/map", "../observations/places?street=headway"):
        answer = get(route)
        assert (answer.status_code, str(gone) in answer.json()["detail"]) == (404, True), route


@pytest.mark.parametrize("route", ["", "/history", "/alerts", "/report", "/map"])
def test_a_street_that_is_not_there_shows_nothing(get, route):
    assert get(f"streets/nowhere{route}").status_code == 404


def test_a_busy_street_answers_503_with_retry_after(post, live):
    live.engine.fault = WorkerError("the street begins anew")
    answer = post("headway/junctions/360082/override", {"order": "hold"})
    assert (answer.status_code, answer.json()["detail"], answer.headers["retry-after"]) == (
        503,
        "the street begins anew",
        "5",
    )


def test_a_server_without_streets_says_so(running, get):
    service, running.app.state.services.street_service = (
        running.app.state.services.street_service,
        None,
    )
    try:
        answer = get("state")
        assert (answer.status_code, answer.json()["detail"]) == (404, "this server runs no street")
        running.app.state.services.street_service = standing()
        assert get("streets/x").json()["detail"] == "no street 'x'. There are: none."
        assert get("state").json() == []
    finally:
        running.app.state.services.street_service = service


def test_each_order_is_in_the_audit_trail_also_when_it_was_refused(running, post, live):
    database = running.app.state.services.database
    before = database.rows("SELECT count(*) AS n FROM audit")[0]["n"]
    post("headway/junctions/360082/override", {"order": "hold"})
    post("headway/controller", {"controller": "fixed"}, "viewer")
    post("headway/%00", {})
    running.client("admin").close()
    rows = database.rows(
        "SELECT who, role, what, status FROM audit ORDER BY number OFFSET :n", n=before
    )
    root = "POST /api/v1/engine/streets/headway"
    assert rows == [
        {
            "who": "a-operator",
            "role": "operator",
            "what": f"{root}/junctions/360082/override",
            "status": 200,
        },
        {"who": "a-viewer", "role": "viewer", "what": f"{root}/controller", "status": 403},
        {"who": "a-operator", "role": "operator", "what": f"{root}/", "status": 404},
    ]


def news(client):
    return [json.loads(m.text) for m in client.buffer]


@pytest.fixture
def hears(running, live):
    """What the hub tells of a topic, told by hand in this thread."""
    hub = running.app.state.services.hub
    joined = []

    def listen(topic):
        client = Client(topic)
        hub.join(client)
        joined.append(client)
        return client

    reported, hub.publish = hub.publish, hub.broadcast
    yield listen
    hub.publish = reported
    for client in joined:
        hub.leave(client)


def gauge(name, **labels):
    return metrics.registry.get_sample_value(name, {"street": "headway"} | labels)


def test_a_snapshot_is_published_with_signal_states_and_measures(running, hears):
    client = hears("realtime")
    publish(running.app.state.services, "realtime", "headway", replace(SNAPSHOT))
    assert [m["data"] for m in news(client)] == [STATE | {"colours": [1, 3, 4], "shown": [1, 3, 4]}]
    assert {
        name: gauge(name) for name in (
            "headway_street_time_seconds", "headway_vehicles", "headway_vehicles_stopped",
            "headway_vehicles_standing", "headway_tick_seconds", "headway_tick_overruns",
            "headway_cycles", "headway_tick_jitter_seconds", "headway_safety_events",
        )
    } == {
        "headway_street_time_seconds": 25300.0, "headway_vehicles": 31,
        "headway_vehicles_stopped": 12, "headway_vehicles_standing": 12,
        "headway_tick_seconds": 0.00175,
        "headway_tick_overruns": 1, "headway_cycles": 3, "headway_tick_jitter_seconds": 0.0021,
        "headway_safety_events": 4,
    }  # fmt: skip
    assert gauge("headway_section", figure="control_s") == 0.25


def test_a_scene_is_published_in_rounded_columns(running, hears):
    client = hears("realtime")
    scene = Scene(
        np.array([7, 9], np.uint32), np.array([[1.24, 2.26], [3.0, -4.55]], np.float32),
        np.array([90.6, -0.4], np.float32),
        np.array([13.88, 0.0], np.float32), np.array([4.96, 12.0], np.float32),
        np.array([0, 2], np.uint8),
    )  # fmt: skip
    publish(running.app.state.services, "realtime", "headway", replace(SNAPSHOT, scene=scene))
    assert news(client)[0]["data"]["scene"] == {
        "id": [7, 9], "at": pytest.approx([1.2, 2.3, 3.0, -4.6], abs=1e-5), "angle": [91, 0],
        "speed": pytest.approx([13.9, 0.0], abs=1e-5),
        "length": pytest.approx([5.0, 12.0], abs=1e-5), "kind": [0, 2],
    }  # fmt: skip


def test_scenes_of_unknown_streets_are_not_published(running, hears):
    client = hears("realtime")
    publish(running.app.state.services, "realtime", "nowhere", replace(SNAPSHOT))
    service, running.app.state.services.street_service = (
        running.app.state.services.street_service,
        None,
    )
    publish(running.app.state.services, "realtime", "headway", replace(SNAPSHOT))
    running.app.state.services.street_service = service
    assert not client.buffer


def test_an_event_is_published_unchanged_and_counted_once(running, hears):
    """What is urgent goes to two topics; what the process of a street does not say, to one."""
    client = hears("alerts")
    before = [gauge("headway_events_total", kind=k) or 0.0 for k in ("engine.restarted", "x", "")]
    restarts = gauge("headway_restarts_total") or 0.0
    for message in ({"kind": "x", "n": 1}, {"kind": "engine.restarted", "why": "w"}, {"n": 2}):
        publish(running.app.state.services, "alerts", "headway", message)
        if message.get("kind") != "engine.restarted":
            publish(running.app.state.services, "monitoring", "headway", message)
    assert [(m["street"], m["data"]) for m in news(client)] == [
        ("headway", {"kind": "x", "n": 1}), ("headway", {"kind": "engine.restarted", "why": "w"}),
        ("headway", {"n": 2}),
    ]  # fmt: skip
    assert [
        gauge("headway_events_total", kind=k) - b
        for k, b in zip(("engine.restarted", "x", ""), before, strict=True)
    ] == [1, 1, 1]
    assert gauge("headway_restarts_total") - restarts == 1
