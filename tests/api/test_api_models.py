"""The routes of models: jobs, versions, who decides where; on streets without a simulation."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
import sqlalchemy as sa

from headway.api.scopes import Bounds
from headway.api.security import Role
from headway.learning.jobs import Jobs
from headway.learning.registry import Registry
from headway.store import Database
from tests.api.service import serving, swapped
from tests.api.streets import SNAPSHOT, standing

# one server for all of them
pytestmark = pytest.mark.xdist_group("api-models")

ML = "/api/v1/ml"
TRAIN = {"kind": "train", "arguments": {"scenario": "cologne3", "name": "own", "episodes": 3}}
FIGURES = b"planner:\n  horizon_s: 61.0\n"


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
    return services


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
    assert call("POST", "/train?street=baseline", "operator", a, json=TRAIN)[0] == 202
    assert [s["street"] for s in call("GET", "/health", bounds=a)[1]["streets"]] == ["baseline"]


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


def test_health_says_whether_jobs_are_left_lying(call, services):
    newest = add(services).id
    status, found = call("GET", "/health")
    assert (status, found["status"], found["models"]) == (200, "ok", newest)
    assert found["jobs"] == {"waiting": 0, "running": 0, "silent": 0, "longest_wait_s": None}
    assert found["streets"][0] == {
        "street": "headway", "controller": "planner", "status": "running",
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
