"""Simulations, junctions and records, read back by id and as lists, and corrected, over HTTP."""

from __future__ import annotations

import copy
import itertools
import re
from datetime import UTC, datetime

import pytest

from headway.analytics import lists
from headway.analytics.lists import RecordFilter
from headway.store.partitions import Partitions
from headway.store.upkeep import vacuum
from tests.api.service import EXAMPLE, pages, record, serving

BATCH = "/api/v1/ingest/batch"


def wait(of):
    """The content of a record whose junction waited so long, and a reason."""
    return {
        "signals": EXAMPLE["signals"],
        "metrics": EXAMPLE["metrics"] | {"avg_wait_time_all_sides": of},
        "reason": "the clock was wrong",
    }


def address(sent):
    return f"/api/v1/records/{sent['simulation_id']}/{sent['intersection_id']}/{sent['timestamp']}"


@pytest.fixture(scope="module")
def served(tmp_path_factory, new_record):
    """A server with 3 simulations of 2 junctions and 5 records each."""
    with serving(tmp_path_factory.mktemp("lists"), url=new_record()) as running:
        with running.client("operator") as http:
            assert http.post(BATCH, json=SENT).json()["stored"] == len(SENT)
        yield running


# ids with the characters that a sort by another rule would put elsewhere
SENT = [
    record(simulation, 60 * k, junction, wait=float(k))
    for simulation, junction, k in itertools.product(("L-1", "L.2", "l_3"), ("J:1", "J2"), range(5))
]


@pytest.fixture
def client(served):
    with served.client("viewer") as found:
        yield found


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_simulations_are_listed_with_what_they_hold(client, limit):
    found = pages(client, "/api/v1/simulations", limit=limit)
    assert {row["simulation_id"]: row for row in found} == {
        name: {
            "simulation_id": name,
            "records": 10,
            "junctions": 2,
            "begin": "2025-09-10T00:00:00Z",
            "end": "2025-09-10T00:04:00Z",
        }
        for name in ("L-1", "L.2", "l_3")
    }
    one = client.get("/api/v1/simulations/L.2")
    assert one.json() == next(row for row in found if row["simulation_id"] == "L.2")
    assert client.get("/api/v1/simulations/none").status_code == 404


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_junctions_are_listed_of_all_and_of_one_simulation(client, limit):
    found = pages(client, "/api/v1/junctions", limit=limit)
    times = {"begin": "2025-09-10T00:00:00Z", "end": "2025-09-10T00:04:00Z"}
    whole = {"records": 15, "simulations": 3} | times
    expected = [{"intersection_id": name} | whole for name in ("J2", "J:1")]
    assert sorted(found, key=lambda row: row["intersection_id"]) == expected
    of_one = pages(client, "/api/v1/junctions", limit=limit, simulation_id="L-1")
    assert [(row["records"], row["simulations"]) for row in of_one] == [(5, 1)] * 2
    assert client.get("/api/v1/junctions/J:1").json() == expected[1]
    assert client.get("/api/v1/junctions/none").status_code == 404
    assert pages(client, "/api/v1/junctions", simulation_id="none") == []


@pytest.mark.parametrize("limit", [1, 7, 30])
def test_records_are_read_back_as_they_were_sent(client, limit):
    found = pages(client, "/api/v1/records", limit=limit)
    assert len(found) == 30
    assert {row["version"] for row in found} == {1}
    back = [{k: v for k, v in row.items() if k != "version"} for row in found]
    key = address
    assert sorted(back, key=key) == sorted(SENT, key=key)
    one = SENT[17]
    assert client.get(address(one)).json() == one | {"version": 1}


def test_records_are_filtered_by_simulation_junction_and_time(client):
    window = {"begin": "2025-09-10T00:01:00Z", "end": "2025-09-10T00:03:00Z"}
    for query in (
        {"simulation_id": "L-1"},
        {"intersection_id": "J2"},
        window,
        {"simulation_id": "l_3", "intersection_id": "J:1"} | window,
    ):
        expected = [
            address(sent)
            for sent in SENT
            if sent["simulation_id"] == query.get("simulation_id", sent["simulation_id"])
            and sent["intersection_id"] == query.get("intersection_id", sent["intersection_id"])
            and query.get("begin", "") <= sent["timestamp"] < query.get("end", "3")
        ]
        found = pages(client, "/api/v1/records", limit=3, **query)
        assert sorted(map(address, found)) == sorted(expected)
        assert len(expected) > 1


def test_a_page_goes_on_after_its_last_item_whatever_came_meanwhile(tmp_path, new_record):
    with serving(tmp_path, url=new_record()) as running, running.client("operator") as http:
        http.post(BATCH, json=[record("M", 60 * k) for k in (1, 3, 5)])
        first = http.get("/api/v1/records?limit=2").json()
        http.post(BATCH, json=[record("M", 60 * k) for k in (0, 2, 4)])
        rest = http.get("/api/v1/records", params={"cursor": first["next"]}).json()
    assert [row["timestamp"][14:16] for row in first["items"]] == ["01", "03"]
    assert [row["timestamp"][14:16] for row in rest["items"]] == ["04", "05"]
    assert (first["total"], rest["total"]) == (3, 6)


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_names_are_counted_however_many_there_are(client, monkeypatch, most):
    """Up to so many one after the other, beyond that all at once."""
    monkeypatch.setattr(lists, "MOST_LOOKED_UP", most)
    assert len(pages(client, "/api/v1/simulations")) == 3
    assert len(pages(client, "/api/v1/junctions", simulation_id="L-1")) == 2


def test_a_page_far_into_one_large_simulation_reads_no_more_than_it_gives(database, monkeypatch):
    """PostgreSQL knows its statistics: they make it expect nothing after the last simulation."""
    at = datetime(2025, 9, 11, tzinfo=UTC)
    Partitions(database, lambda: at).keep_up()
    with database.connection() as held:
        held.execute(
            "INSERT INTO simulation_record SELECT 'BIG', timestamptz '2025-09-01Z' + k * interval "
            "'3 min', 'J' || k % 4, '[]', 1, 1.0, 1.0, 1.0, 1.0, 1.0, 0, false "
            "FROM generate_series(1, 20000) k"
        )
    vacuum(database)
    ask, read = database.rows, []

    def explained(query, **values):
        (plan,) = ask(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", **values)
        read.extend(re.findall(r"'Actual Rows': (\d+)", str(plan)))
        return ask(query, **values)

    monkeypatch.setattr(database, "rows", explained)
    for only in (RecordFilter("BIG"), RecordFilter(), RecordFilter(begin=at)):
        for after in (("BIG", "J1", at), ("BIG", "J1", at.replace(month=10, day=12))):
            found = lists.records(database, only).fetch(after, 50)
            assert len(found) == 50
            keys = [(r["intersection_id"], r["timestamp"]) for r in found]
            assert keys == sorted(keys)
            assert keys[0] > after[1:]
    assert max(map(int, read)) <= 100


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/simulations",
        "/api/v1/junctions",
        "/api/v1/records",
        "/api/v1/simulations/L-1",
        "/api/v1/junctions/J2",
        address(SENT[0]),
        f"{address(SENT[0])}/versions",
    ],
)
def test_who_has_an_answer_gets_304_by_its_etag(client, path):
    answer = client.get(path)
    tag = answer.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = client.get(path, headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, answer.content)


@pytest.mark.parametrize(
    "cursor", ["x", "bnVsbA", "WzFd", "WyJhIiwiYiIsImMiXQ", "WyJcdTAwMDAiXQ", "WyJcdWQ4MDAiXQ"]
)
def test_a_cursor_that_is_none_is_refused(client, cursor):
    for path in ("simulations", "records"):
        answer = client.get(f"/api/v1/{path}", params={"cursor": cursor})
        assert answer.status_code == 422
        assert answer.json()["faults"][0]["pointer"] == "/query/cursor"


def test_lists_are_for_viewers(served):
    paths = ("simulations", "junctions", "records", "simulations/a", "junctions/a")
    with served.client(None) as http:
        for path in (*paths, address(SENT[0])[8:], f"{address(SENT[0])[8:]}/versions"):
            assert http.get(f"/api/v1/{path}").status_code == 401


def test_other_content_under_a_known_key_is_refused_with_409_and_the_same_is_a_duplicate(served):
    with served.client("operator") as http:
        known, other = record("CON", 0), record("CON", 0, wait=99.0)
        signals = copy.deepcopy(known["signals"])
        signals[0]["vehicle_counts"] = {"bus": 0, "car": 79}
        more = known | {"signals": signals}
        same = known | {"signals": [dict(reversed(known["signals"][0].items()))]}
        assert http.post("/api/v1/ingest/simulation", json=known).status_code == 201
        assert http.post("/api/v1/ingest/simulation", json=same).status_code == 200
        refused = http.post("/api/v1/ingest/simulation", json=other)
        assert refused.status_code == 409
        assert address(known) in refused.json()["faults"][0]["message"]
        answer = http.post(BATCH, json=[record("CON", 60), same, other, 7, more, record("CON", 61)])
        body = answer.json()
        assert (answer.status_code, body["stored"], body["duplicates"]) == (207, 2, 1)
        assert [(row["index"], row["status"]) for row in body["rejected"]] == [
            (2, 409),
            (3, 422),
            (4, 409),
        ]
        assert [row["faults"][0]["pointer"] for row in body["rejected"]] == ["/2", "/3", "/4"]
        twice = [record("CON", 70), record("CON", 70, wait=1.0), record("CON", 70)]
        body = http.post(BATCH, json=twice).json()  # within one batch the first one counts
        assert (body["stored"], body["duplicates"]) == (1, 1)
        assert [(row["index"], row["status"]) for row in body["rejected"]] == [(1, 409)]
        assert http.get(address(known)).json() == known | {"version": 1}
        http_admin = served.client("admin")
        with http_admin:
            assert http_admin.delete("/api/v1/admin/simulations/CON").json() == {"rows": 4}


def test_a_correction_makes_a_new_version_and_the_old_ones_stay_readable(served):
    with served.client("engineer") as http:
        sent = record("FIX", 0)
        assert http.post("/api/v1/ingest/simulation", json=sent).status_code == 201
        first = http.put(address(sent), json=wait(30.0) | {"reason": "one"})
        assert (first.status_code, first.json()["version"]) == (200, 2)
        assert http.put(address(sent), json=wait(30.0)).json()["version"] == 2  # nothing new
        second = http.put(address(sent), json=wait(40.0) | {"reason": "two"}).json()
        assert second["version"] == 3
        assert http.get(address(sent)).json() == second
        found = http.get(f"{address(sent)}/versions").json()
        assert [row["version"] for row in found] == [3, 2, 1]
        assert [row["metrics"]["avg_wait_time_all_sides"] for row in found] == [40.0, 30.0, 20.6]
        assert [row["reason"] for row in found] == [None, "two", "one"]
        assert [row["replaced_by"] for row in found] == [None, "a-engineer", "a-engineer"]
        assert found[2] == sent | {k: found[2][k] for k in found[2] if k not in sent}
        # figures are of the newest; the sender's own retry is still a duplicate
        summary = http.get("/api/v1/analytics/simulation/FIX/summary").json()
        assert (summary["records"], summary["mean_wait_s"]) == (1, 40.0)
        again = http.post("/api/v1/ingest/simulation", json=sent)
        assert (again.status_code, again.json()["duplicates"]) == (200, 1)
        assert http.get("/api/v1/records?simulation_id=FIX").json()["items"] == [second]
    with served.client("admin") as http:
        entries = http.get("/api/v1/admin/audit?what=FIX").json()
        assert {e["who"] for e in entries if e["what"].startswith("PUT")} == {"a-engineer"}
        assert http.delete("/api/v1/admin/simulations/FIX").json() == {"rows": 1}
        assert http.get(f"{address(sent)}/versions").status_code == 404
        assert http.post("/api/v1/ingest/simulation", json=sent).status_code == 201
        assert [row["version"] for row in http.get(f"{address(sent)}/versions").json()] == [1]
        http.delete("/api/v1/admin/simulations/FIX")


def test_of_two_who_correct_the_same_version_the_second_is_told(served):
    with served.client("admin") as http:
        sent = record("TWO", 0)
        http.post("/api/v1/ingest/simulation", json=sent)
        for _ in range(2):  # the second time is a retry, whose answer did not come
            first = http.put(address(sent), json=wait(30.0) | {"version": 1})
            assert (first.status_code, first.json()["version"]) == (200, 2)
        second = http.put(address(sent), json=wait(40.0) | {"version": 1})
        assert (second.status_code, "its version is 2" in second.json()["detail"]) == (409, True)
        assert [row["version"] for row in http.get(f"{address(sent)}/versions").json()] == [2, 1]
        assert http.put(address(sent), json=wait(40.0) | {"version": 2}).json()["version"] == 3
        for version in (0, -1, 1.5, "1", True):
            refused = http.put(address(sent), json=wait(50.0) | {"version": version})
            assert refused.status_code == 422
        http.delete("/api/v1/admin/simulations/TWO")


def test_who_may_correct_and_what_a_correction_is(served):
    place = address(SENT[0])
    with served.client("operator") as http:
        assert http.put(place, json=wait(1.0)).status_code == 403
    with served.client("engineer") as http:
        for bad in ({}, wait(-1.0), wait(1.0) | {"reason": ""}, wait(1.0) | {"simulation_id": "x"}):
            assert http.put(place, json=bad).status_code == 422
        missing = http.put("/api/v1/records/L-1/J2/2025-09-11T00:00:00Z", json=wait(1.0))
        assert missing.status_code == 404
        assert http.put("/api/v1/records/L-1/J2/yesterday", json=wait(1.0)).status_code == 422
        assert http.get(place).json() == SENT[0] | {"version": 1}
