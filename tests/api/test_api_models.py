"""The routes of models: jobs, versions, who decides where; on streets without a simulation."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import sqlalchemy as sa

from headway.analytics.business import Blocks, savings
from headway.analytics.calibration import reliability
from headway.analytics.model_monitoring import Latency, Monitoring, Quality, Quantiles
from headway.api.cache import Cache
from headway.api.models import refusing
from headway.api.problems import ProblemError
from headway.api.scopes import Bounds
from headway.api.security import Role
from headway.api.turns import PREDICTED_OF_ONE, Turns
from headway.control.qtable import QTable
from headway.learning.jobs import Jobs
from headway.learning.registry import Registry
from headway.learning.shared_files import StorageAwayError
from headway.runtime import WorkerError
from headway.service.orders import OrderFilter
from headway.settings import BusinessSettings, overridden
from headway.store import Database
from headway.street.messages import CanaryBounds, Deploy, Rollback
from headway.street.orders import AppliedSettings
from headway.values import Event
from tests.api.service import serving, swapped
from tests.api.streets import SNAPSHOT, standing
from tests.waiting import until

# one server for all of them
pytestmark = pytest.mark.xdist_group("api-models")

ML = "/api/v1/ml"
TRAIN = {"kind": "train", "arguments": {"scenario": "cologne3", "name": "own", "episodes": 3}}
FIGURES = b"planner:\n  horizon_s: 61.0\n"


def test_a_shared_storage_that_is_away_is_no_fault_of_the_request():
    with pytest.raises(ProblemError) as told, refusing():
        raise StorageAwayError("bucket: no route")
    assert (told.value.status, told.value.headers) == (503, {"Retry-After": "5"})


DEPLOY_ALL, SEEN = {"mode": "all"}, {"junction": "360082"}
NOTHING = reliability(np.zeros(0), np.zeros(0, bool), np.zeros(0, np.int64))
MONITORING = Monitoring(
    run=1, street="headway", scenario="cologne3", controller="planner", begin_s=0.0, end_s=3600.0,
    pieces=0, profile=False, checks=(), outcomes=(), calibration=NOTHING,
    calibration_of={"360082": NOTHING, "360086": NOTHING},
    quality=(Quality("360082", 0.5, None, ("l",)), Quality("360086", 1.0, 2.0, ())),
    latency=Latency(2, Quantiles(2, 1.0, 2.0, 3.0, 4.0), None, 1.0),
    looked_at=datetime(2026, 11, 23, 12, tzinfo=UTC), why="nothing before",
)  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_record):
    with serving(
        tmp_path_factory.mktemp("models"),
        lambda tell, intake: standing("headway", "baseline", tell=tell),
        new_record(),
    ) as found:
        yield found


@pytest.fixture
def services(running):
    services = running.app.state.services
    services.database.execute("TRUNCATE ml_job")
    assert services.registry  # made once
    live = services.street_service.streets["headway"]
    live.snapshot, live.engine.fault = replace(SNAPSHOT), None
    live.engine.orders.clear()
    live.engine.on_order = None
    return services


@pytest.fixture
def live(services):
    """A street that obeys at once."""
    live = services.street_service.streets["headway"]
    live.engine.on_order = lambda order: say(services, live, "engine.order_applied", id=order.id)
    return live


def say(services, live, kind, **data):
    services.street_service._handle(live, Event(25300.0, kind, "", data))


@pytest.fixture
def call(running, services):
    """(status, body) of a request by somebody of a role."""

    def ask(method, path, role="viewer", bounds=None, **more):
        words = (f"a-{role}", Role[role.upper()], 3600.0, *([bounds] if bounds else []))
        headers = {"Authorization": f"Bearer {services.keyring.token(*words)}"}
        headers |= more.pop("headers", {})
        answer = httpx.request(
            method, f"{running.url}{ML}{path}", headers=headers, timeout=30.0, **more
        )
        return answer.status_code, answer.json()

    return ask


def add(services, name="own", kind="planner", content=FIGURES, **more):
    given = {"made_from": {"seeds": [1, 2]}, "metrics": {"delay_s": [20.1, 19.5, 20.7]}} | more
    return services.registry.add(content, name=name, kind=kind, by="ann", **given)


def test_a_job_is_ordered_seen_and_cancelled(call, services):
    status, job = call("POST", "/train?street=baseline", "operator", json=TRAIN)
    assert status == 202
    assert (job["kind"], job["street"], job["state"], job["asked_by"]) == (
        "train", "baseline", "waiting", "a-operator",
    )  # fmt: skip
    assert job["arguments"] == TRAIN["arguments"] | {"timing": "benchmark", "seed": 1000}
    assert call("GET", f"/jobs/{job['id']}") == (200, job)
    assert call("GET", "/jobs") == (200, {"items": [job], "next": None})
    jobs = Jobs(services.database)
    jobs.beat(jobs.take("w"), 0.5, "episode 2")
    _, seen = call("GET", f"/jobs/{job['id']}")
    assert (seen["state"], seen["progress"], seen["note"]) == ("running", 0.5, "episode 2")
    status, cancelled = call("DELETE", f"/jobs/{job['id']}", "operator")
    assert (status, cancelled["state"], cancelled["cancel_by"]) == (200, "running", "a-operator")


def test_an_order_for_a_job_that_is_repeated_with_its_key_is_one_job(call, services):
    key = {"Idempotency-Key": "f6a1"}
    first = call("POST", "/train", "operator", json=TRAIN, headers=key)
    assert call("POST", "/train", "operator", json=TRAIN, headers=key) == first
    assert len(call("GET", "/jobs")[1]["items"]) == 1
    (who,) = {
        row["who"]
        for row in services.database.rows(
            "SELECT who FROM audit WHERE what = :w", w=f"POST {ML}/train"
        )
    }
    assert who == "a-operator"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"kind": "train", "arguments": {"scenario": "atlantis", "name": "own"}}, 422, "atlantis"),
        ({"kind": "train", "arguments": {"scenario": "cologne3", "name": "O"}}, 422, "name"),
        ({"kind": "train", "arguments": {"scenario": "cologne3"}}, 422, "name: Field required"),
        ({"kind": "train", "arguments": TRAIN["arguments"] | {"episodes": 1e99}}, 422, "episodes"),
        ({"kind": "train", "arguments": TRAIN["arguments"] | {"more": 1}}, 422, "more"),
        ({"kind": "forget", "arguments": {}}, 422, "fault"),
        ({"kind": "train", "arguments": {"scenario": "/etc/x.sumocfg", "name": "a"}}, 403, "allow"),
        ({"kind": "train", "arguments": {"scenario": "\x00.sumocfg", "name": "a"}}, None, ""),
    ],
)
def test_a_job_that_cannot_be_done_is_refused(call, body, status, said):
    found, problem = call("POST", "/train", "operator", json=body)
    assert found in (status, *([403, 422] if status is None else [])), problem
    assert said in problem["detail"]
    assert call("GET", "/jobs") == (200, {"items": [], "next": None})


def test_who_may_read_and_who_may_order(call, services):
    job = Jobs(services.database).enqueue("train", "headway", TRAIN["arguments"], "ann")
    for path in ("/jobs", f"/jobs/{job}", "/models", "/status/360082", "/health"):
        assert call("GET", path)[0] == 200
    assert call("POST", "/train", "viewer", json=TRAIN)[0] == 403
    assert call("DELETE", f"/jobs/{job}", "viewer")[0] == 403
    assert call("GET", f"/jobs/{job}")[1]["state"] == "waiting"


def test_bounded_credentials_see_and_order_the_jobs_of_their_streets_alone(call, services):
    a = Bounds.of(["baseline"], None)
    own, other = (
        Jobs(services.database).enqueue("train", street, TRAIN["arguments"], "ann")
        for street in ("baseline", "headway")
    )
    assert call("GET", f"/jobs/{own}", bounds=a)[0] == 200
    assert [j["id"] for j in call("GET", "/jobs?street=baseline", bounds=a)[1]["items"]] == [own]
    assert call("GET", f"/jobs/{other}", bounds=a)[0] == 403
    assert call("GET", f"/jobs/{other}99", bounds=a)[0] == 403  # nor which there are
    assert call("DELETE", f"/jobs/{other}", "operator", a)[0] == 403
    assert call("GET", f"/jobs/{other}")[1]["state"] == "waiting"
    for path in ("/jobs", "/jobs?street=headway", "/jobs?street=headway&street=baseline",
                 "/models", "/status/360082", "/status/360082?street=headway"):  # fmt: skip
        assert call("GET", path, bounds=a)[0] == 403, path
    assert call("GET", "/status/360082?street=baseline", bounds=a)[0] == 200
    assert call("POST", "/train", "operator", a, json=TRAIN)[0] == 403
    named = {"kind": "train", "arguments": TRAIN["arguments"] | {"name": "theirs"}}
    assert call("POST", "/train?street=baseline", "operator", a, json=named)[0] == 202
    assert [s["street"] for s in call("GET", "/health", bounds=a)[1]["streets"]] == ["baseline"]


def test_bounded_credentials_add_no_version_to_a_model_of_others(call, services):
    """NAME alone is its newest version: a command of theirs would have taken it for its own."""
    jobs, a = Jobs(services.database), Bounds.of(["baseline"], None)

    def order(name):
        arguments = TRAIN["arguments"] | {"name": name}
        body = {"kind": "train", "arguments": arguments}
        return call("POST", "/train?street=baseline", "operator", a, json=body)

    def made(name, street):
        """A job of a street that has made a version of this name."""
        id_ = jobs.enqueue("train", street, TRAIN["arguments"] | {"name": name}, "ann")
        job = jobs.take("w")
        assert job.id == id_
        jobs.finish(job, {}, add(services, name).id)

    made("of-headway", "headway")
    made("of-baseline", "baseline")
    made("of-both", "headway")
    made("of-both", "baseline")
    add(services, "by-hand")
    jobs.enqueue("train", "headway", TRAIN["arguments"] | {"name": "to-be"}, "ann")
    for name in ("of-headway", "of-both", "by-hand", "to-be"):
        status, problem = order(name)
        assert (status, problem["detail"]) == (
            403, f"model {name!r} is of other streets than yours. Give another name.",
        )  # fmt: skip
    for name in ("of-baseline", "new", "new"):
        assert order(name)[0] == 202
    for name in ("\0", "x" * 70, "'", 3, None, ["new"]):
        assert order(name)[0] == 422


def test_lists_come_in_pages_the_newest_first(call, services):
    jobs = Jobs(services.database)
    numbers = [
        jobs.enqueue("train", s, TRAIN["arguments"], "ann") for s in ("headway", "baseline") * 2
    ]
    found, cursor = [], ""
    while cursor is not None:
        _, page = call("GET", f"/jobs?limit=3&cursor={cursor}")
        found += [job["id"] for job in page["items"]]
        cursor = page["next"]
    assert found == numbers[::-1]
    _, page = call("GET", "/jobs?street=baseline&state=waiting")
    assert [job["id"] for job in page["items"]] == [numbers[3], numbers[1]]
    versions = [add(services, "paged") for _ in range(3)]
    _, page = call("GET", "/models?name=paged&limit=2")
    assert [m["version"] for m in page["items"]] == [3, 2]
    _, page = call("GET", f"/models?name=paged&limit=2&cursor={page['next']}")
    assert ([m["id"] for m in page["items"]], page["next"]) == ([versions[0].id], None)
    assert call("GET", "/models?name=paged&kind=q-table")[1]["items"] == []
    assert call("GET", "/models?cursor=x")[0] == 422


def test_a_version_comes_with_what_it_was_made_from_its_metrics_and_its_lineage(call, services):
    first = add(services, "line")
    second = add(services, "other", parent=first.id)
    third = add(services, "line", parent=second.id)
    status, found = call("GET", f"/models/{third.id}")
    assert (status, found["label"]) == (200, "line@2")
    assert [f"{m['name']}@{m['version']}" for m in found["lineage"]] == ["other@1", "line@1"]
    model = found["model"]
    assert (model["made_from"], model["metrics"]) == (
        {"seeds": [1, 2]}, {"delay_s": [20.1, 19.5, 20.7]},
    )  # fmt: skip
    assert (model["created_by"], model["size"], model["kind"]) == ("ann", len(FIGURES), "planner")


def test_what_is_not_there_is_not_found(call):
    assert call("GET", "/models/999999")[0] == 404
    assert call("GET", "/jobs/999999")[0] == 404
    assert call("DELETE", "/jobs/999999", "operator")[0] == 404
    assert call("GET", "/status/nowhere")[0] == 404
    assert call("GET", "/status/360082?street=nowhere")[0] == 404
    for number in ("0", str(1 << 63), "x"):
        assert call("GET", f"/models/{number}")[0] == 422
        assert call("GET", f"/jobs/{number}")[0] == 422


def test_a_version_whose_row_was_altered_is_refused_and_listed_with_its_fault(call, services):
    version = add(services, "altered")
    triggers = "ALTER TABLE model_version {} TRIGGER USER"
    services.database.execute(triggers.format("DISABLE"))
    services.database.execute(
        "UPDATE model_version SET created_by = 'eve' WHERE id = :id", id=version.id
    )
    services.database.execute(triggers.format("ENABLE"))
    status, problem = call("GET", f"/models/{version.id}")
    assert (status, "altered@1" in problem["detail"]) == (409, True)
    (listed,) = call("GET", "/models?name=altered")[1]["items"]
    assert "altered" in listed["fault"]


def test_the_status_of_a_junction_says_who_decides_and_who_did_before(call, services):
    version, other = add(services, "chief"), add(services, "chief")
    registry = services.registry
    registry.set_alias("headway", "", "champion", version.id, "ann")
    registry.set_alias("headway", "360082", "shadow", other.id, "ben")
    registry.set_alias("headway", "360086", "champion", other.id, "ben")
    status, found = call("GET", "/status/360082")
    assert (status, found["street"], found["junction"]) == (200, "headway", "360082")
    assert (found["controller"], found["confidence"]) == ("planner", 0.87654)
    assert (found["champion"]["label"], found["champion"]["junction"]) == ("chief@1", "")
    assert (found["shadow"]["label"], found["challenger"]) == ("chief@2", None)
    assert [e["alias"] for e in found["history"]] == ["shadow", "champion"]
    assert call("GET", "/status/360086")[1]["champion"]["label"] == "chief@2"
    registry.set_alias("headway", "360082", "shadow", None, "ann")
    _, found = call("GET", "/status/360082")
    assert (found["shadow"], found["history"][0]["label"]) == (None, "")
    registry.set_alias("headway", "", "shadow", version.id, "ann")
    registry.set_alias("headway", "360082", "shadow", other.id, "ben")
    registry.set_alias("headway", "360082", "shadow", None, "ann")
    found = call("GET", "/status/360082")[1]["shadow"]
    assert (found["label"], found["junction"]) == ("chief@1", ""), "that of the whole street again"
    other_key = Registry(services.database, services.folder, bytes(32))
    foreign = other_key.add(
        FIGURES, name="foreign", kind="planner", made_from={}, metrics={}, by="eve"
    )
    other_key.set_alias("headway", "360082", "shadow", foreign.id, "eve")
    status, found = call("GET", "/status/360082")
    assert (status, found["shadow"]["label"], found["champion"]["label"]) == (
        200, "chief@1", "chief@1",
    )  # fmt: skip
    faults = [entry["fault"] for entry in found["history"]]
    assert ("another installation" in faults[0], set(faults[1:])) == (True, {""})


def test_a_model_is_deployed_and_rolled_back_by_an_order_on_record(call, services, live):
    version = add(services, "rolled")
    status, done = call("POST", f"/deploy/{version.id}", "engineer", json={"mode": "all"})
    assert (status, done["state"], done["detail"]) == (200, "applied", "headway: deploy rolled@1")
    canary = {"mode": "canary", "junctions": ["360082"], "hours": [[7, 9.5]], "turn_s": 120}
    assert call("POST", f"/deploy/{version.id}", "engineer", json=canary)[0] == 200
    shadow = {"mode": "shadow"}
    assert call("POST", f"/deploy/{version.id}", "engineer", json=shadow)[0] == 200
    file = services.registry.file(version)
    assert live.engine.orders == [
        Deploy("all", file, by="a-engineer"),
        Deploy("canary", file, ("360082",), CanaryBounds(((7.0, 9.5),), 120.0), "a-engineer"),
        Deploy("shadow", file, by="a-engineer"),
    ]
    live.engine.orders.clear()
    back = "/rollback/360082"
    assert call("POST", back, "operator", json={})[1]["detail"] == "headway: rollback deploy"
    assert call("POST", back, "operator", json={"what": "canary"})[0] == 200
    more = {"what": "shadow", "everywhere": True, "model": "own@3"}
    assert call("POST", back, "operator", json=more)[0] == 200
    assert live.engine.orders == [
        Rollback("deploy", (), "a-operator"),
        Rollback("canary", ("360082",), "a-operator"),
        Rollback("shadow", (), "a-operator", "own@3"),
    ]
    record = services.street_service.orders.newest("headway", OrderFilter(kind="deploy"), 1)[0]
    assert (record.arguments, record.by) == ({"model": "rolled@1", "mode": "shadow"}, "a-engineer")


def test_what_a_street_says_of_its_models_is_entered_in_the_registry(call, services, live):
    version = add(services, "entered")
    data = {"mode": "all", "model": version.label, "junctions": [], "by": "ann"}
    say(services, live, "engine.model_deployed", **data)
    until(lambda: [e.label for e in services.registry.history("headway", "")][:1] == ["entered@1"])
    found = call("GET", "/status/360082")[1]["champion"]
    assert (found["label"], found["set_by"]) == ("entered@1", "ann")


def test_a_rollback_waits_for_nobody_who_asks_the_database(call, services, live, monkeypatch):
    monkeypatch.setattr("headway.api.turns.WITHIN_S", 0.1)
    monkeypatch.setattr(services, "turns", Turns(0))  # as while the database stands still
    assert call("GET", "/jobs")[0] == 503
    assert call("POST", "/rollback/360082", "operator", json={})[0] == 200


def test_a_body_that_comes_slowly_holds_up_no_prediction(running, call, live, monkeypatch):
    """Two viewers who sent a byte a second kept all others from predictions (503)."""
    monkeypatch.setattr("headway.api.turns.WITHIN_S", 1.0)
    address = urlsplit(running.url)
    links = []
    for path in ("/predict", "/predict/batch"):
        for name in ("a-viewer", "b", "c"):
            token = live_token(running, name)
            link = socket.create_connection((address.hostname, address.port), 10.0)
            link.sendall(
                f"POST {ML}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                "Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{".encode()
            )
            links.append(link)
    time.sleep(0.3)  # until they are read
    try:
        monkeypatch.setattr(
            running.app.state.services.predictions, "predict", lambda *_: ["of no street"]
        )
        status, answer = call("POST", "/predict", json=observed(live))
        assert (status, answer["detail"]) == (422, "of no street")
    finally:
        for link in links:
            link.close()


def live_token(running, name):
    return running.app.state.services.keyring.token(name, Role.VIEWER)


def test_those_who_predict_hold_up_nobody_else(call, services, live, monkeypatch):
    """Twenty at once took all turns of the database: others got 503, as did a rollback."""
    monkeypatch.setattr("headway.api.turns.WITHIN_S", 0.5)
    goes_on = threading.Event()
    monkeypatch.setattr(
        services.predictions, "predict", lambda *_: goes_on.wait(30.0) and ["ended"]
    )
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(call, "POST", "/predict", json=observed(live)) for _ in range(20)]
        try:
            until(lambda: sum(one.done() for one in asked) == 20 - PREDICTED_OF_ONE)
            assert call("GET", "/jobs")[0] == 200
        finally:
            goes_on.set()
        found = [one.result() for one in asked]
    assert sorted(status for status, _ in found) == [422] * PREDICTED_OF_ONE + [503] * 19
    (why,) = {said["detail"] for status, said in found if status == 503}
    assert why == "too many predictions are under way; try again later"


def test_a_model_that_the_street_refuses_is_a_problem(call, services, live):
    version = add(services, "refused")
    why = {"order": "Deploy", "why": "of another network"}
    live.engine.on_order = lambda order: say(
        services, live, "engine.order_refused", id=order.id, **why
    )
    status, problem = call("POST", f"/deploy/{version.id}", "engineer", json={"mode": "all"})
    assert (status, problem["detail"]) == (409, "headway: of another network")
    live.engine.fault = WorkerError("the street begins anew")
    assert call("POST", f"/deploy/{version.id}", "engineer", json={"mode": "all"})[0] == 503


def test_a_street_that_does_not_answer_in_time_may_obey_later(call, services, monkeypatch):
    monkeypatch.setattr("headway.api.models.ANSWER_WITHIN_S", 0.05)
    version = add(services, "later")
    status, done = call("POST", f"/deploy/{version.id}", "engineer", json={"mode": "all"})
    assert (status, done["state"]) == (200, "accepted")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/deploy/{id}", {"mode": "most"}, 422),
        ("/deploy/{id}", {}, 422),
        ("/deploy/{id}", {"mode": "all", "junctions": ["360082"]}, 422),
        ("/deploy/{id}", {"mode": "canary", "junctions": ["nowhere"]}, 422),
        ("/deploy/{id}", {"mode": "canary", "junctions": ["360082", "360082"]}, 422),
        ("/deploy/{id}", {"mode": "canary", "hours": [[9, 7]]}, 422),
        ("/deploy/{id}", {"mode": "canary", "hours": [[7]]}, 422),
        ("/deploy/{id}", {"mode": "all", "hours": [[1, 2]]}, 422),
        ("/deploy/{id}", {"mode": "shadow", "hours": [[1, 2]]}, 422),
        ("/deploy/{id}", {"mode": "canary", "turn_s": 1}, 422),
        ("/deploy/{id}", {"mode": "canary", "more": 1}, 422),
        ("/deploy/{id}?street=nowhere", {"mode": "all"}, 404),
        ("/deploy/999999", {"mode": "all"}, 404),
        ("/rollback/nowhere", {}, 404),
        ("/rollback/360082", {"what": "all"}, 422),
        ("/rollback/360082", {"model": "x" * 129}, 422),
    ],
)
def test_what_cannot_be_deployed_or_rolled_back_reaches_no_street(
    call, services, live, path, body, status
):
    path = path.format(id=add(services, "bad").id)
    found, problem = call("POST", path, "engineer", json=body)
    assert found == status, problem
    assert live.engine.orders == []


def test_numbers_that_are_none_are_refused(call, services, live):
    text = b'{"mode": "canary", "hours": [[NaN, 5]], "worse_by": NaN}'
    found = call("POST", f"/deploy/{add(services).id}", "engineer", content=text,
                 headers={"Content-Type": "application/json"})  # fmt: skip
    assert (found[0], live.engine.orders) == (422, [])


def test_a_model_whose_file_was_altered_is_not_deployed(call, services, live):
    version = add(services, "torn", content=b"planner:\n  horizon_s: 62.5\n")
    path = Path(services.registry.file(version).path)
    path.chmod(0o600)
    path.write_bytes(b"planner:\n  horizon_s: 99.0\n")
    status, problem = call("POST", f"/deploy/{version.id}", "engineer", json={"mode": "all"})
    assert (status, "torn@1" in problem["detail"], live.engine.orders) == (409, True, [])


def test_a_model_in_whose_files_place_is_a_folder_is_a_problem(call, services, live):
    version = add(services, "folder", content=b"planner:\n  horizon_s: 62.25\n")
    path = Path(services.registry.file(version).path)
    path.unlink()
    path.mkdir()
    for ask in (f"/deploy/{version.id}", f"/predict?model_id={version.id}"):
        status, problem = call("POST", ask, "engineer", json=DEPLOY_ALL if "dep" in ask else SEEN)
        assert (status, "cannot be read" in problem["detail"]) == (409, True)
    assert live.engine.orders == []


def test_who_may_deploy_and_where(call, services, live):
    path, a = f"/deploy/{add(services).id}", Bounds.of(["baseline"], None)
    assert call("POST", path, "operator", json={"mode": "all"})[0] == 403, "as other controllers"
    assert call("POST", "/rollback/360082", "viewer", json={})[0] == 403
    assert call("POST", path, "engineer", a, json={"mode": "all"})[0] == 403
    assert call("POST", "/rollback/360082", "operator", a, json={})[0] == 403
    assert live.engine.orders == []
    baseline = services.street_service.streets["baseline"]
    baseline.engine.on_order = lambda order: say(
        services, baseline, "engine.order_applied", id=order.id
    )
    assert call("POST", f"{path}?street=baseline", "engineer", a, json={"mode": "all"})[0] == 200


def test_the_status_of_a_junction_has_the_canary_and_the_shadow_that_are_there(call, live):
    champion, canary = {"model": "a@1"}, {"model": "b@1", "junctions": ["360086"]}
    shadow = {"model": "c@1", "junctions": ["360082"], "disagreement": 0.25}
    models = {
        "controller": "a@1", "champion": champion, "before": "", "canary": canary, "shadow": shadow,
    }  # fmt: skip
    live.snapshot = replace(live.snapshot, models=models, controller="a@1")
    _, found = call("GET", "/status/360082")
    assert found["controller"] == "a@1"
    assert found["models"] == {
        "controller": "a@1", "champion": champion, "before": "", "shadow": shadow,
    }  # fmt: skip
    _, found = call("GET", "/status/360086")
    assert (found["models"]["canary"], "shadow" in found["models"]) == (canary, False)
    assert call("GET", "/health")[1]["streets"][0]["models"] == models


def test_metrics_and_performance_of_a_junction_are_those_of_the_last_look(call, services):
    watch = services.selfwatch.models
    with swapped(watch, "newest", {"headway": MONITORING}):
        status, found = call("GET", "/metrics/360082")
        assert (status, found["street"], found["controller"]) == (200, "headway", "planner")
        assert [q["junction"] for q in found["quality"]] == ["360082"]
        assert found["quality"][0]["silent_lanes"] == ["l"]
        both = {"intersections": ["360082", "360086"]}
        status, found = call("POST", "/metrics", json=both)
        assert (status, [m["quality"][0]["completeness"] for m in found]) == (200, [0.5, 1.0])
        status, found = call("GET", "/performance/360086")
        assert (status, found["latency"]["decide_ms"]["p99"]) == (200, 3.0)
        assert (found["vehicles"], found["stopped"], found["tick_ms"]) == (20, 7, 1.75)
        assert (found["savings"], "baseline" in found["why"]) == (None, True)
        assert call("GET", "/metrics/nowhere")[0] == 404
        assert call("GET", "/metrics/360082?street=baseline")[0] == 404
        assert call("POST", "/metrics", json={"intersections": ["360082", "nowhere"]})[0] == 404
        assert call("POST", "/metrics", json={"intersections": []})[0] == 422
        a = Bounds.of(["baseline"], None)
        assert call("GET", "/metrics/360082", bounds=a)[0] == 403
        assert call("POST", "/metrics", bounds=a, json=both)[0] == 403
        assert call("GET", "/performance/360082", bounds=a)[0] == 403
    assert call("GET", "/metrics/360082")[0] == 404
    assert call("GET", "/performance/360082")[1]["latency"] is None


def test_savings_are_found_once_for_all_junctions_of_a_street(call, services, live, monkeypatch):
    """Of runs of a month that takes seconds, which each request took."""
    hours = Blocks(np.arange(24), np.outer(np.ones(24), [9e3, 3e4, 9e4]))
    more = Blocks(np.arange(24), hours.sums * [2, 3, 4])
    expected, asked = savings(hours, more, BusinessSettings(), 1, 2), []
    baseline = services.street_service.streets["baseline"]
    monkeypatch.setattr(baseline, "snapshot", replace(SNAPSHOT, controller="fixed"))
    monkeypatch.setattr("headway.api.models.business", lambda *of: asked.append(of) or expected)
    monkeypatch.setattr(services, "cache", Cache(ttl_s=60.0))
    found = [call("GET", f"/performance/{junction}") for junction in ("360082", "360086") * 2]
    assert [status for status, _ in found] == [200] * 4
    assert len(asked) == 1
    for _, said in found:
        assert said["savings"]["fuel_l"]["total"] == pytest.approx(expected.fuel_l.total)
        assert said["savings"]["money"]["interval_95"] == list(expected.money.interval_95)


def test_savings_are_those_beside_fixed_time_alone(call, services, monkeypatch):
    """An operator has ordered another controller on the street `baseline`."""
    baseline = services.street_service.streets["baseline"]
    monkeypatch.setattr(baseline, "snapshot", replace(SNAPSHOT, controller="pressure"))
    _, found = call("GET", "/performance/360082")
    assert (found["savings"], found["why"]) == (
        None, "the street `baseline` is controlled by pressure, not by fixed time",
    )  # fmt: skip
    monkeypatch.setattr(baseline, "snapshot", replace(SNAPSHOT, controller="fixed"))
    _, found = call("GET", "/performance/360082?street=baseline")
    assert (found["savings"], "the baseline itself" in found["why"]) == (None, True)


def lane_of(live, number=0):
    """A lane that leads to the signals of a junction."""
    network = live.network
    own = range(network.junctions[number].first, network.junctions[number].end)
    link = next(link for link in network.links if link.group in own)
    return network.lanes[link.from_lane].id


@pytest.fixture(scope="module")
def seeing(running):
    """What predicts is compiled: a new machine needs a minute for it."""
    services = running.app.state.services
    live = services.street_service.streets["headway"]
    live.snapshot = replace(SNAPSHOT)
    with running.client("viewer") as client:
        until(lambda: client.post(f"{ML}/predict", json=observed(live)).status_code == 200, 600.0)


def waiting_links(live):
    """Of the lane on which a vehicle is observed."""
    (lane,) = [k for k, of in enumerate(live.network.lanes) if of.id == lane_of(live)]
    return [k for k in live.network.links_from(lane) if live.network.links[k].group >= 0]


def observed(live, **more):
    vehicle = {"lane": lane_of(live), "distance_m": 2.0, "waited_s": 40.0}
    return {"junction": live.network.junctions[0].id, "vehicles": [vehicle]} | more


def test_a_decision_is_predicted_with_its_seconds_confidence_alternatives_and_why(
    seeing, call, live
):
    status, found = call("POST", "/predict", json=observed(live))
    assert status == 200, found
    assert (found["junction"], found["controller"]) == (observed(live)["junction"], "planner")
    first = live.network.junctions[0].first
    waited_for = {live.network.links[k].group - first for k in waiting_links(live)}
    assert waited_for <= set(found["green"]), "wherever the one that waits is going"
    assert found["confidence"] == pytest.approx(np.prod(list(found["factors"].values())), abs=1e-3)
    best = found["alternatives"][0]
    assert (best["stage"], best["seconds"]) == (found["stage"], found["seconds"])
    assert best["expected_delay_s"] <= min(a["expected_delay_s"] for a in found["alternatives"])
    assert f"stage {found['stage']}" in found["why"]
    assert live.engine.orders == [], "nothing reaches the street"


def test_a_prediction_is_of_the_model_that_is_named_or_else_of_the_champion(
    seeing, call, services, live
):
    first, second = add(services, "seer"), add(services, "seer", content=FIGURES + b"\n")
    status, found = call("POST", f"/predict?model_id={first.id}", json=observed(live))
    assert (status, found["controller"]) == (200, "seer@1")
    models = {"champion": {"model": second.label}}
    live.snapshot = replace(live.snapshot, models=models, controller=second.label)
    assert call("POST", "/predict", json=observed(live))[1]["controller"] == "seer@2"
    Path(services.registry.file(first).path).unlink()  # it is read once
    assert call("POST", f"/predict?model_id={first.id}", json=observed(live))[0] == 200


def test_a_prediction_has_the_figures_that_the_street_has_applied_last(
    seeing, call, live, tmp_path
):
    """Of a settings file that it follows; who starts later is later."""
    street = {"recovery": {"folder": str(tmp_path)}}
    task = replace(live.task, settings=overridden(live.task.settings, street), path="headway.yaml")
    found = []
    with swapped(live, "task", task):
        for startup_loss_s in (1.38, 10.0, 0.0):
            figures = {"planner": {"startup_loss_s": startup_loss_s}}
            AppliedSettings(tmp_path).store(overridden(task.settings, figures))
            status, answer = call("POST", "/predict", json=observed(live, shown="r" * groups(live)))
            assert status == 200
            found.append(answer["alternatives"][0]["expected_delay_s"])
    assert found[2] < found[0] < found[1]


def groups(live):
    return live.network.junctions[0].end - live.network.junctions[0].first


def test_a_batch_has_an_answer_for_each_in_order(seeing, call, live):
    batch = [observed(live), observed(live, junction="nowhere"), observed(live, age_s=3.0)]
    status, found = call("POST", "/predict/batch", json=batch)
    assert status == 200
    assert (found[0], "nowhere" in found[1]["fault"]) == (
        call("POST", "/predict", json=batch[0])[1],
        1,
    )
    assert found[2]["factors"]["freshness"] < found[0]["factors"]["freshness"]


@pytest.mark.parametrize(
    ("path", "text", "status"),
    [
        ("/predict", b"", 422),
        ("/predict", b"\xff", 422),
        ("/predict", b"[" * 100_000, 422),
        ("/predict", b"[]", 422),
        ("/predict", b'{"junction": "nowhere"}', 422),
        ("/predict", b'{"junction": "360082", "more": 1}', 422),
        ("/predict", b'{"junction": "360082", "age_s": NaN}', 422),
        ("/predict", b'{"junction": "360082", "age_s": 1e999}', 422),
        ("/predict", b'{"junction": "360082", "shown": "G"}', 422),
        ("/predict", b'{"junction": "360082", "vehicles": [{"lane": "x", "distance_m": 1}]}', 422),
        ("/predict?model_id=999999", b'{"junction": "360082"}', 404),
        ("/predict?model_id=0", b'{"junction": "360082"}', 422),
        ("/predict?street=nowhere", b'{"junction": "360082"}', 404),
        ("/predict/batch", b"[]", 422),
        ("/predict/batch", b'{"junction": "360082"}', 422),
        ("/predict/batch", b"[" + b",".join([b'{"junction": "360082"}'] * 1001) + b"]", 422),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else None,
)
def test_what_is_no_observation_is_refused(seeing, call, live, path, text, status):
    found, problem = call("POST", path, content=text)
    assert found == status, problem
    assert problem["detail"]


def test_who_asks_while_the_controller_is_being_made_is_told_to_come_again(
    seeing, call, services, live, monkeypatch
):
    monkeypatch.setattr("headway.service.predictions.MADE_WITHIN_S", 0.0)
    path = f"/predict?model_id={add(services, 'slow').id}"
    status, problem = call("POST", path, json=observed(live))
    assert (status, "ask again" in problem["detail"]) == (503, True)
    until(lambda: call("POST", path, json=observed(live))[0] == 200)


def test_a_model_of_another_network_predicts_nothing_here(call, services, live, tmp_path):
    path = tmp_path / "q.table"
    QTable(4, 64, path, network=7).flush()
    version = add(services, "elsewhere", "q-table", path)
    status, problem = call("POST", f"/predict?model_id={version.id}", json=observed(live))
    assert (status, "network" in problem["detail"]) == (422, True)


def test_who_may_ask_for_predictions(seeing, call, services, live):
    a = Bounds.of(["baseline"], None)
    assert call("POST", "/predict", bounds=a, json=observed(live))[0] == 403
    assert call("POST", "/predict?street=headway", bounds=a, json=observed(live))[0] == 403
    assert call("POST", "/predict/batch", bounds=a, json=[observed(live)])[0] == 403
    assert call("POST", "/predict?street=baseline", bounds=a, json=observed(live))[0] == 200
    asked = services.database.rows("SELECT 1 FROM audit WHERE what LIKE :w", w=f"%{ML}/predict%")
    assert asked == [], "who asks changes nothing"


def test_health_says_whether_jobs_are_left_lying(call, services):
    newest = add(services).id
    status, found = call("GET", "/health")
    assert (status, found["status"], found["models"]) == (200, "ok", newest)
    assert found["jobs"] == {"waiting": 0, "running": 0, "silent": 0, "longest_wait_s": None}
    assert found["streets"][0] == {
        "street": "headway", "controller": "planner", "status": "running", "models": {},
    }  # fmt: skip
    call("POST", "/train", "operator", json=TRAIN)
    assert call("GET", "/health")[1]["status"] == "ok"
    services.database.execute("UPDATE ml_job SET asked_at = now() - interval '61 s'")
    found = call("GET", "/health")[1]
    assert (found["status"], found["jobs"]["waiting"]) == ("degraded", 1)
    Jobs(services.database).take("w")
    assert call("GET", "/health")[1]["status"] == "ok"
    services.database.execute("UPDATE ml_job SET heartbeat_at = now() - interval '61 s'")
    assert call("GET", "/health")[1]["jobs"]["silent"] == 1
    assert call("GET", "/health")[1]["status"] == "degraded"


def test_without_its_database_each_route_says_so(call, services):
    nowhere = Database(sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none"), "")
    registry = Registry(nowhere, services.folder, b"k" * 32)
    with swapped(services, "database", nowhere), swapped(services, "registry", registry):
        for path in ("/jobs", "/jobs/1", "/models", "/models/1", "/status/360082", "/health"):
            assert call("GET", path)[0] == 503, path
        assert call("POST", "/train", "operator", json=TRAIN)[0] == 503
        assert call("DELETE", "/jobs/1", "operator")[0] == 503
