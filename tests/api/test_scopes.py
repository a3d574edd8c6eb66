"""Keys and tokens that are bounded to streets and cameras: what they may not order, read, send."""

from __future__ import annotations

import csv
import io
import json

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from headway.api.hub import Client
from headway.api.ingest import row_of
from headway.api.keys import Keys
from headway.api.problems import ProblemError
from headway.api.scopes import UNBOUNDED, Bounds
from headway.api.security import Keyring, Role
from headway.sensing import MISSING
from headway.service.camera_counts import CameraCounts
from headway.store import open_database
from tests.api.service import EXAMPLE, serving
from tests.api.streets import standing
from tests.waiting import until

A = Bounds.of(["a"], ["cam-a"])


@pytest.fixture(scope="module")
def service(tmp_path_factory, new_record):
    folder = tmp_path_factory.mktemp("scopes")
    with serving(folder, lambda tell, intake: standing("a", "b"), new_record()) as running:
        yield running


def bounded(service, role=Role.ENGINEER, bounds=A):
    token = service.app.state.services.keyring.token("bounded", role, 3600.0, bounds)
    return httpx.Client(
        base_url=service.url, headers={"Authorization": f"Bearer {token}"}, timeout=30.0
    )


def asked(method, path, query=b""):
    return {"type": "http", "method": method, "path": path, "query_string": query}


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", "/api/v1/engine/streets/a", b""), ("POST", "/api/v1/engine/streets/a/stop", b""),
        ("POST", "/api/v1/engine/streets/a/junctions/x/y/override", b""),
        ("GET", "/streams/cam-a/view", b""), ("DELETE", "/api/v1/cameras/cam-a", b""),
        ("POST", "/api/v1/observations", b"street=a"),
        ("GET", "/api/v1/analytics/wait-times", b"simulation_id=a"),
        ("GET", "/api/v1/analytics/simulation/a/summary", b""),
        ("GET", "/api/v1/records/a/j/2026-01-01", b""),
        ("GET", "/api/v1/violations", b"device=cam-a"), ("GET", "/api/v1/engine/state", b""),
        ("POST", "/api/v1/ingest/batch", b""), ("POST", "/api/v1/tickets", b""),
    ],
)  # fmt: skip
def test_what_is_of_its_own_street_or_camera_is_allowed(method, path, query):
    A.require(asked(method, path, query), "headway")


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", "/api/v1/engine/streets/b", b""), ("POST", "/api/v1/engine/streets/b/stop", b""),
        ("GET", "/api/v1/engine/streets/a%2F..%2Fb", b""), ("GET", "/streams/cam-b", b""),
        ("POST", "/streams", b""), ("POST", "/api/v1/observations", b""),
        ("POST", "/api/v1/observations", b"street=a&street=b"),
        ("POST", "/api/v1/observations", b"street=b&street=a"),
        ("GET", "/api/v1/analytics/wait-times", b""),
        ("GET", "/api/v1/analytics/wait-times", b"simulation_id=a&simulation_id=b"),
        ("GET", "/api/v1/analytics/simulation/b/summary", b""),
        ("GET", "/api/v1/violations", b"device=cam-b"), ("GET", "/api/v1/violations", b""),
        ("DELETE", "/api/v1/violations", b"device=cam-a"),
        ("GET", "/api/v1/counts", b"camera=cam-a&camera=cam-b"), ("GET", "/x", b""),
        ("GET", "/system/info", b""),
        ("GET", "/api/v1/records/b/j/2026-01-01", b""),
        ("GET", "/api/v1/records", b"simulation_id=b"), ("GET", "/api/v1/junctions/j", b""),
        ("GET", "/api/v1/export/counts", b"camera=cam-b"),
        ("GET", "/api/v1/dashboard/live-metrics", b""), ("GET", "/api/v1/runs/1/2/3", b""),
    ],
)  # fmt: skip
def test_what_is_of_another_one_or_of_all_is_refused(method, path, query):
    with pytest.raises(ProblemError, match="for the streets a and the cameras cam-a alone") as e:
        A.require(asked(method, path, query), "headway")
    assert e.value.status == 403
    UNBOUNDED.require(asked(method, path, query), "headway")


def test_no_route_is_open_to_bounds_unless_it_knows_them(service):
    """Each route of the document, with bounds of a street and a camera that are not there."""
    nowhere = Bounds.of(["nowhere"], [])
    own = (
        "/engine/state", "/streams", "/api/v1/cameras", "/ingest/", "/tickets", "/live/",
        "/stream/", "/api/v1/simulations", "/api/v1/junctions", "/api/v1/records", "/api/v1/counts",
        "/api/v1/export/", "/api/v1/runs", "/ml/health",
    )  # fmt: skip
    document = httpx.get(f"{service.url}/openapi.json").json()
    with bounded(service, Role.ENGINEER, nowhere) as client:
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if not operation.get("security") or "/admin/" in path:
                    continue
                if any(part in path for part in own) and "{" not in path.replace("{topic}", ""):
                    continue
                url = path
                for part in operation.get("parameters", ()):
                    if part["in"] == "path":
                        is_number = part["schema"].get("type") == "integer"
                        url = url.replace(f"{{{part['name']}}}", "1" if is_number else "b")
                assert client.request(method, url).status_code == 403, (method, path)


LISTS = (
    ("/api/v1/simulations", ["simulation_id"]), ("/api/v1/junctions", ["intersection_id"]),
    ("/api/v1/records", ["simulation_id", "intersection_id"]), ("/api/v1/counts", ["camera"]),
)  # fmt: skip


@pytest.fixture(scope="module")
def listed(tmp_path_factory, new_record):
    """Two simulations, a junction of each, two cameras, and runs of two streets: 1 and 2 of a."""
    with serving(tmp_path_factory.mktemp("lists"), url=new_record(), cache_s=60.0) as running:
        services = running.app.state.services
        for name in ("a", "b"):
            record = EXAMPLE | {"simulation_id": name, "intersection_id": f"of-{name}"}
            services.intake.write("simulation_record", [row_of(record)])
            counts = CameraCounts(lambda row: services.intake.write("camera_count", [row]))
            for second in range(302):
                counts.add(f"cam-{name}", 1.8e9 + second, ["stop"], [])
            counts.flush_all()
        for number, street in ((1, "a"), (2, "a"), (3, "b")):
            run = services.intake.begin_run(f"k{number}", "cologne1", "planner", 1, street, 1.0)
            assert run == number
            services.intake.write("event", [(run, 1, 0.0, "engine.started", "", "{}")])
        yield running


@pytest.mark.parametrize(("path", "named"), LISTS)
def test_a_list_and_its_file_show_what_is_of_its_own_alone(listed, path, named):
    """Also where somebody without bounds has asked the same before, and has the answer cached."""
    with listed.client("viewer") as viewer, bounded(listed, Role.VIEWER) as client:
        for asker, names in ((viewer, "ab"), (client, "a"), (viewer, "ab")):
            page = asker.get(path).json()
            found = [tuple(item[name] for name in named) for item in page["items"]]
            assert {values[0][-1] for values in found} == set(names), found
            assert page["total"] == len(found)
        export = client.get(path.replace("/v1/", "/v1/export/"))
        rows = list(csv.DictReader(io.StringIO(export.text)))
        assert {row[named[0]][-1] for row in rows} == {"a"}
        one = client.get(path, params={"limit": 1})
        assert [item[named[0]][-1] for item in one.json()["items"]] == ["a"]


def test_nothing_at_all_is_listed_for_who_is_bounded_to_what_is_not_there(listed):
    with bounded(listed, Role.VIEWER, Bounds.of(["nowhere"], [])) as client:
        for path in (path for path, _ in LISTS):
            assert client.get(path).json() == {"items": [], "total": 0, "next": None}
        assert client.get("/api/v1/runs").json() == []
        assert client.get("/api/v1/runs/1/events").status_code == 403


def test_runs_and_their_measures_are_those_of_its_own_streets(listed):
    with listed.client("viewer") as viewer, bounded(listed, Role.VIEWER) as client:
        assert [run["id"] for run in viewer.get("/api/v1/runs").json()] == [3, 2, 1]
        assert [run["id"] for run in client.get("/api/v1/runs").json()] == [2, 1]
        assert [e["kind"] for e in client.get("/api/v1/runs/1/events").json()] == ["engine.started"]
        assert client.get("/api/v1/runs/2/queues").status_code == 200
        for path in ("3/events", "3/queues", "4/events", "+3/queues", "03/queues", "x/queues"):
            assert client.get(f"/api/v1/runs/{path}").status_code == 403, path
        impact = "/api/v1/runs/1/environmental-impact"
        assert viewer.get(impact, params={"baseline": "+3"}).status_code == 200
        for baseline in ("3", "+3", " 3", "3.0", "0_3"):
            assert client.get(impact, params={"baseline": baseline}).status_code == 403, baseline
        both = client.get(impact, params=[("baseline", "2"), ("baseline", "3")])
        assert both.status_code == 403


def test_an_order_a_reading_and_a_record_of_another_street_are_refused(service):
    with bounded(service) as client:
        states = [s["street"] for s in client.get("/api/v1/engine/state").json()]
        assert states == ["a"]
        assert client.get("/api/v1/engine/streets/a").status_code == 200
        assert client.get("/api/v1/engine/streets/b").status_code == 403
        order = {"order": "hold"}
        path = "/api/v1/engine/streets/b/junctions/j/override"
        assert client.post(path, json=order).status_code == 403
        with service.client("admin") as admin:
            (entry,) = admin.get("/api/v1/admin/audit", params={"limit": 1}).json()
        assert (entry["who"], entry["what"], entry["status"]) == ("bounded", f"POST {path}", 403)
        mine, other = EXAMPLE | {"simulation_id": "a"}, EXAMPLE | {"simulation_id": "b"}
        ingest = "/api/v1/ingest"
        assert client.post(f"{ingest}/simulation", json=mine).status_code == 201
        assert client.post(f"{ingest}/simulation", json=other).status_code == 403
        assert client.post(f"{ingest}/batch", json=[mine, other]).status_code == 403
        assert client.post(f"{ingest}/batch", json=[mine]).status_code == 201
        assert client.get("/api/v1/analytics/wait-times?simulation_id=a").status_code == 200
    database = service.app.state.services.database
    found = database.rows("SELECT DISTINCT simulation_id AS id FROM simulation_record")
    assert found == [{"id": "a"}]


@pytest.mark.skipif(bool(MISSING), reason="needs the extra `vision`")
def test_the_list_of_cameras_shows_its_own_alone(service):
    with service.client("engineer") as engineer:
        for name in ("cam-a", "cam-b"):
            camera = {"id": name, "source": "rtsp://192.0.2.9/x", "start": False}
            engineer.post("/streams", json=camera).raise_for_status()
    with bounded(service) as client:
        assert [s["id"] for s in client.get("/streams").json()] == ["cam-a"]
        assert client.get("/streams/cam-a").status_code == 200
        assert client.get("/streams/cam-b").status_code == 403


def test_what_is_not_there_does_not_tell_the_names_of_what_is(service):
    bounds = Bounds.of(["a", "gone"], ["gone"])
    paths = ["/api/v1/engine/streets/gone"] + ["/streams/gone"] * (not MISSING)
    with bounded(service, bounds=bounds) as client, service.client("viewer") as viewer:
        said = [client.get(path).json()["detail"] for path in paths]
        assert (
            said
            == ["no street 'gone'. There are: a.", "no stream 'gone'. There are: none."][
                : len(paths)
            ]
        )
        assert viewer.get(paths[0]).json()["detail"] == "no street 'gone'. There are: a, b."


def test_a_live_stream_gives_the_messages_of_its_own_alone(service):
    hub = service.app.state.services.hub
    for name, kind in (("a", "k"), ("b", "k"), ("cam-a", "camera.alert.opened"), ("", "k")):
        hub.publish("alerts", name, {"kind": kind, "of": name})
    with bounded(service, Role.VIEWER) as client:
        path = "/api/v1/live/alerts/history"
        found = client.get(path).json()["messages"]
        assert {json.dumps(m).count('"b"') for m in found} == {0}
        assert len(found) == 2
        assert client.get(path, params={"street": "b"}).json()["messages"] == []


@pytest.mark.parametrize(
    ("source", "kind", "is_its_own"),
    [
        ("a", "", True), ("a", "safety.hold", True), ("b", "k", False), ("", "k", False),
        ("a", "camera.frame", False), ("a", "violation.red_light", False),
        ("cam-a", "camera.frame", True), ("cam-a", "violation.red_light", True),
        ("cam-a", "", False), ("cam-a", "order.applied", False), ("cam-b", "camera.frame", False),
        ("a", "alert.silenced", True), ("cam-a", "alert.acknowledged", True),
        ("b", "alert.silenced", False), ("system", "alert.opened", False),
    ],
)  # fmt: skip
def test_a_street_and_a_camera_of_one_name_are_two(source, kind, is_its_own):
    for topic in ("realtime", "monitoring", "alerts"):
        assert Client(topic, bounds=A).wants(source, kind) is is_its_own
        assert Client(topic).wants(source, kind)


def test_a_socket_gives_the_messages_of_its_own_alone_whatever_its_filter(service):
    keyring, hub = service.app.state.services.keyring, service.app.state.services.hub
    token = keyring.token("bounded", Role.VIEWER, 3600.0, A)
    url = f"{service.url.replace('http', 'ws')}/ws/alerts?token={token}"
    with connect(url) as socket:
        until(lambda: hub.statistics()["alerts"]["clients"] >= 1)
        socket.send('{"street": ""}')
        for name in ("b", "", "a"):
            hub.publish("alerts", name, {"kind": "k", "of": name})
        while "heartbeat" in (text := socket.recv(timeout=20.0)):
            pass
        assert '"of":"a"' in text.replace(" ", "")


def test_observations_by_socket_are_for_its_own_street_alone(service):
    keyring = service.app.state.services.keyring
    token = keyring.token("bounded", Role.SOURCE, 3600.0, A)
    url = f"{service.url.replace('http', 'ws')}/api/v1/observations?token={token}"
    for street in ("&street=b", ""):
        with pytest.raises(InvalidStatus) as refused, connect(url + street):
            pass
        assert refused.value.response.status_code == 403


def test_a_ticket_has_the_bounds_of_who_asked_for_it(tmp_path):
    keyring = Keyring(tmp_path / "keys.json")
    who = keyring.read(keyring.token("x", Role.VIEWER, 60.0, A))
    assert who.bounds == A
    assert keyring.read_ticket(keyring.ticket(who))[0].bounds == A
    assert keyring.read(keyring.token("x", Role.VIEWER)).bounds == UNBOUNDED
    assert keyring.read(keyring.token("x", Role.VIEWER, 60.0, Bounds.of([], None))).bounds == (
        Bounds(frozenset(), frozenset())
    )


def test_a_key_keeps_its_bounds_through_a_rotation(tmp_path, new_record):
    database = open_database(tmp_path, new_record())
    keys = Keys(database)
    made = keys.make("sender", Role.SOURCE, None, A)
    assert Keys(database).read(made).bounds == A
    assert keys.read(keys.rotate(made.split("_")[1], 0.0)).bounds == A
    assert keys.read(keys.make("free", Role.SOURCE)).bounds == UNBOUNDED
    assert [(k["streets"], k["cameras"]) for k in keys.all()][-1] == (["a"], ["cam-a"])
    database.close()


def test_a_bounded_key_is_made_by_route_and_no_admin_is(service):
    with service.client("admin") as admin:
        body = {"name": "sender", "role": "operator", "streets": ["a"]}
        key = admin.post("/api/v1/admin/keys", json=body).json()["key"]
        (row,) = (k for k in admin.get("/api/v1/admin/keys").json() if k["name"] == "sender")
        assert (row["streets"], row["cameras"]) == (["a"], [])
        refused = admin.post("/api/v1/admin/keys", json=body | {"role": "admin"})
        assert (refused.status_code, refused.json()["faults"][0]["pointer"]) == (422, "/body/role")
    with httpx.Client(base_url=service.url, headers={"X-API-Key": key}) as client:
        assert client.get("/api/v1/engine/streets/a").status_code == 200
        assert client.get("/api/v1/engine/streets/b").status_code == 403
