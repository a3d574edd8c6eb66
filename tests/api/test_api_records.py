"""The routes that ingest records: the status of each outcome, what is stored of a record,
and the bounds of each field.
"""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from sqlalchemy.exc import OperationalError

from headway.api import ingest
from headway.api.ingest import EXAMPLE as SHOWN
from headway.store.spool import SpoolFullError
from tests.api.service import EXAMPLE, record, serving

ONE, MANY = "/api/v1/ingest/simulation", "/api/v1/ingest/batch"


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_record):
    with serving(tmp_path_factory.mktemp("records"), url=new_record()) as found:
        yield found


@pytest.fixture(scope="module")
def client(running):
    with running.client("operator") as found:
        yield found


@pytest.fixture
def rows(running):
    return lambda simulation: running.app.state.services.database.rows(
        "SELECT * FROM simulation_record WHERE simulation_id = :id ORDER BY at", id=simulation
    )


def changed(path, value, name="EDGE"):
    """The example with another value at `path`; without it where the value is `...`."""
    whole = json.loads(json.dumps(EXAMPLE | {"simulation_id": name}))
    *way, last = path
    place = whole
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return whole


def test_all_fields_of_a_record_are_stored_also_of_the_documented_example(client, rows):
    answer = client.post(ONE, json=SHOWN)
    assert (answer.status_code, answer.json()) == (
        201,
        {"stored": 1, "duplicates": 0, "spooled": 0, "rejected": []},
    )
    (row,) = rows("SIM_20250910_001")
    assert row.pop("at").isoformat() == "2025-09-10T23:20:00+00:00"
    assert row.pop("signals") == SHOWN["signals"]
    assert row == {
        "simulation_id": "SIM_20250910_001", "intersection_id": "INT_001", "vehicles": 104,
        "wait_s": 20.6, "throughput": 0.87, "speed_kmh": 28.3,
        "fuel_saved_l": 1.2, "co2_saved_kg": 3.8, "overrides": 0, "emergency": False,
        "vehicle_types": ["car"],  # those it counted at least once
    }  # fmt: skip


UNREADABLE = (b'{"\xff": 1}', b"[" * 60_000)  # no UTF-8, and nested too deeply


@pytest.mark.parametrize("body", UNREADABLE)
@pytest.mark.parametrize("path", [ONE, MANY, f"/api/v1/violations/{UUID(int=0)}/review"])
def test_a_body_that_cannot_be_read_as_json_is_422_and_says_so(client, path, body):
    """None of them fails in the server, nor with a status that no document names."""
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "JSON" in answer.json()["detail"]
    assert answer.json()["faults"][0]["message"]


def test_an_emergency_vehicle_on_any_approach_counts_for_the_junction(client, rows):
    for second, observed in enumerate(((False, True), (True, False), (False, False), (True, True))):
        signals = [
            EXAMPLE["signals"][0] | {"emergency_vehicle_present": s, "direction": d}
            for s, d in zip(observed, ("north", "south"), strict=True)
        ]
        assert client.post(ONE, json=record("EM", second, signals=signals)).status_code == 201
    assert [r["emergency"] for r in rows("EM")] == [True, True, False, True]


def test_the_status_of_a_record_states_its_outcome(client, running, monkeypatch):
    assert client.post(ONE, json=record("ST")).status_code == 201
    again = client.post(ONE, json=record("ST"))
    assert (again.status_code, again.json()) == (
        200,
        {"stored": 0, "duplicates": 1, "spooled": 0, "rejected": []},
    )

    def away(*_):
        raise OperationalError("COPY", {}, Exception("gone"))

    monkeypatch.setattr(running.app.state.services.database, "connection", away)
    for route, body in ((ONE, record("ST", 1)), (MANY, [record("ST", 2)])):
        answer = client.post(route, json=body)
        assert (answer.status_code, answer.json()) == (
            202,
            {"stored": 0, "duplicates": 0, "spooled": 1, "rejected": []},
        )
    answer = client.post(MANY, json=[record("ST", 3), 7])
    assert (answer.status_code, answer.json()["spooled"], len(answer.json()["rejected"])) == (
        207,
        1,
        1,
    )
    monkeypatch.undo()
    assert running.app.state.services.intake.catch_up()
    assert running.app.state.services.intake.spool.waiting == 0


@pytest.mark.parametrize(
    ("fault", "detail"),
    [(SpoolFullError("no room"), "no room"), (OSError(28, "disk"), "[Errno 28] disk")],
)
def test_without_database_and_spool_the_answer_is_503_with_retry_after(
    client, running, monkeypatch, fault, detail
):
    def full(*_):
        raise fault

    monkeypatch.setattr(running.app.state.services.intake, "write", full)
    for route, body in ((ONE, record("FULL")), (MANY, [record("FULL")])):
        answer = client.post(route, json=body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert (
            answer.json()["detail"]
            == f"neither the database nor the spool takes records now: {detail}"
        )


def test_the_status_of_a_batch_states_its_outcome(client, rows):
    answer = client.post(MANY, json=[record("BA", 1), record("BA", 2)])
    assert (answer.status_code, answer.json()) == (
        201,
        {"stored": 2, "duplicates": 0, "spooled": 0, "rejected": []},
    )
    answer = client.post(MANY, json=[record("BA", 2), record("BA", 3)])
    assert (answer.status_code, answer.json()) == (
        201,
        {"stored": 1, "duplicates": 1, "spooled": 0, "rejected": []},
    )
    answer = client.post(MANY, json=[record("BA", 3)])
    assert (answer.status_code, answer.json()) == (
        201,
        {"stored": 0, "duplicates": 1, "spooled": 0, "rejected": []},
    )
    answer = client.post(MANY, json=[record("BA", 4), record("BA", 5, colour="x"), "x"])
    assert (answer.status_code, answer.json()) == (207, {
        "stored": 1, "duplicates": 0, "spooled": 0, "rejected": [
            {"index": 1, "status": 422,
                "faults": [{"pointer": "/1/colour", "message": "Extra inputs are not permitted"}]},
            {"index": 2, "status": 422,
                "faults": [{"pointer": "/2", "message": "Input should be an object"}]},
        ],
    })  # fmt: skip
    assert len(rows("BA")) == 4


def test_a_batch_without_any_valid_record_is_refused(client):
    answer = client.post(MANY, json=[7, changed(("metrics", "throughput"), ...)])
    assert (answer.status_code, answer.json()["detail"]) == (422, "none of 2 records can be taken")
    assert answer.json()["faults"] == [
        {"pointer": "/0", "message": "Input should be an object"},
        {"pointer": "/1/metrics/throughput", "message": "Field required"},
    ]  # fmt: skip
    answer = client.post(MANY, json=[7] * 1001)
    assert (answer.status_code, len(answer.json()["faults"])) == (422, 1000)
    assert len(client.post(MANY, json=[7] * 1000).json()["faults"]) == 1000
    assert len(client.post(MANY, json=[7] * 999).json()["faults"]) == 999


@pytest.mark.parametrize(
    ("body", "detail", "message"),
    [
        (b"{}", "a batch is a list of records", "must be a list"),
        (b"[]", "a batch holds 1 to 5000 records", "1 to 5000 records"),
        (b"{", "the body is no JSON: Input data was truncated", "Input data was truncated"),
    ],
)  # fmt: skip
def test_a_malformed_batch_is_refused_with_the_reason(client, body, detail, message):
    answer = client.post(MANY, content=body)
    assert (answer.status_code, answer.json()["detail"], answer.json()["faults"]) == (
        422,
        detail,
        [{"pointer": "", "message": message}],
    )


def test_a_batch_holds_5000_records_valid_or_not(client, rows):
    assert client.post(MANY, json=[record("MANY", k) for k in range(5000)]).json()["stored"] == 5000
    assert len(rows("MANY")) == 5000
    for batch in (
        [record("MANY", k) for k in range(5001)],
        [7] * 5001,
        [record("MANY", 1)] * 2501 + [7] * 2500,
    ):
        answer = client.post(MANY, json=batch)
        assert (answer.status_code, answer.json()["detail"]) == (
            422,
            "a batch holds 1 to 5000 records",
        )
    assert (
        client.post(MANY, json=[7] * 5000).json()["detail"] == "none of 5000 records can be taken"
    )


def test_a_request_may_hold_8_mib(client):
    body = json.dumps(record("BIG")).encode()
    for route, whole, taken in ((ONE, body, 201), (MANY, b"[" + body + b"]", 201)):
        assert (
            client.post(route, content=whole + b" " * (8388608 - len(whole))).status_code == taken
        )
        answer = client.post(route, content=whole + b" " * (8388609 - len(whole)))
        assert (answer.status_code, answer.json()["detail"]) == (
            413,
            "a request to this address may hold 8388608 bytes; send less at once",
        )
        body = json.dumps(record("BIG", 1)).encode()


COUNTS = [
    ("signals", 0, "vehicles_crossed"),
    ("signals", 0, "vehicle_counts", "car"),
    ("metrics", "total_vehicles_passed"),
    ("metrics", "emergency_overrides"),
]
AMOUNTS = [
    ("signals", 0, "signal_timer"), ("signals", 0, "avg_wait_time"),
    ("signals", 0, "green_time_allocated"), ("metrics", "avg_wait_time_all_sides"),
    ("metrics", "throughput"),
]  # fmt: skip
SAVED = [("metrics", "fuel_saved"), ("metrics", "co2_saved")]
SPEED = ("metrics", "avg_speed")
NAMES = [("simulation_id",), ("intersection_id",)]
DIRECTIONS = ("north", "south", "east", "west", "northeast", "northwest", "southeast", "southwest")
SIGNAL = EXAMPLE["signals"][0]
GOOD = [
    *((p, v) for p in COUNTS for v in (0, 2**31 - 1)),
    *((p, v) for p in AMOUNTS for v in (0, 0.5, 1e9, 1_000_000_000)),
    *((p, v) for p in SAVED for v in (-1e9, 0, 1e9)),
    *((SPEED, v) for v in (0, 500.0)),
    *((p, v) for p in NAMES for v in ("x", "x" * 128, "a.b:c-d_E9")),
    *((("signals", 0, "direction"), v) for v in DIRECTIONS),
    *((("signals", 0, "signal_status"), v) for v in ("RED", "YELLOW", "GREEN")),
    *((("signals", 0, "emergency_vehicle_present"), v) for v in (True, False)),
    *(
        (("signals", 0, "vehicle_counts"), v)
        for v in ({}, {f"k{n}": n for n in range(32)}, {"a B-c_9": 1}, {"x" * 32: 1})
    ),
    (("signals",), [SIGNAL] * 16),
    (("timestamp",), "2025-09-10T23:20:00.5+05:30"),
]
BAD = [
    *((p, v) for p in COUNTS for v in (-1, 2**31, 1.5, "1", True, None)),
    *((p, v) for p in AMOUNTS for v in (-0.001, 1_000_000_000.5, "1", None)),
    *((p, v) for p in SAVED for v in (-1_000_000_000.5, 1_000_000_000.5, "1")),
    *((SPEED, v) for v in (-0.5, 500.5, "1")),
    *((p, v) for p in NAMES for v in ("", "x" * 129, "a b", "a\n", "é", 7)),
    (("signals", 0, "direction"), "up"),
    (("signals", 0, "signal_status"), "red"),
    (("signals", 0, "emergency_vehicle_present"), 1),
    *(
        (("signals", 0, "vehicle_counts"), v)
        for v in (
            {f"k{n}": n for n in range(33)},
            {"": 1},
            {"x" * 33: 1},
            {"a.b": 1},
            {"a\n": 1},
            [],
        )
    ),
    (("signals",), []),
    (("signals",), [SIGNAL] * 17),
    (("timestamp",), "2025-09-10T23:20:00"),
    *(((*p, "more"), 1) for p in ((), ("metrics",), ("signals", 0))),
    *((("metrics", k), ...) for k in EXAMPLE["metrics"]),
    *((("signals", 0, k), ...) for k in SIGNAL),
    *(((k,), ...) for k in EXAMPLE),
]


def test_each_field_accepts_values_within_its_bounds(client):
    batch = []
    for second, (path, value) in enumerate(GOOD):
        whole = changed(path, value)
        if path != ("timestamp",):
            whole["timestamp"] = f"2025-09-11T00:{second // 60:02d}:{second % 60:02d}Z"
        assert ingest.faults_of(whole) == [], (path, value)  # the slow reader agrees
        batch.append(whole)
    answer = client.post(MANY, json=batch)
    assert (answer.status_code, answer.json()["stored"]) == (201, len(GOOD))


def test_each_field_refuses_values_beyond_its_bounds_with_their_place(client):
    batch = [changed(path, value) for path, value in BAD]
    answer = client.post(MANY, json=[*batch, record("BEYOND")])
    assert answer.status_code == 207
    found = {r["index"]: [f["pointer"] for f in r["faults"]] for r in answer.json()["rejected"]}
    for index, (path, value) in enumerate(BAD):
        assert index in found, (path, value)
        place = f"/{index}" + "".join(f"/{p}" for p in path)
        assert all(pointer.startswith(place) for pointer in found[index]), (
            path,
            value,
            found[index],
        )


def test_both_validators_agree_on_values_out_of_bounds():
    """What pydantic takes, msgspec must take too, and the other way round:
    else one of them would say that all is well.
    """
    unexplained = [(p, v) for p, v in BAD if not ingest.faults_of(changed(p, v))]
    assert unexplained == []


def test_errors_of_the_quick_validator_alone_have_its_message(client):
    """pydantic would take a time without seconds; msgspec does not (RFC 3339)."""
    message = "Invalid RFC3339 encoded datetime - at `$.timestamp`"
    short = changed(("timestamp",), "2025-09-10T23:20Z")
    answer = client.post(ONE, json=short)
    assert (answer.status_code, answer.json()["detail"]) == (422, "1 fault(s) in the record")
    assert answer.json()["faults"] == [{"pointer": "", "message": message}]
    answer = client.post(MANY, json=[record("Q"), short])
    assert answer.json()["rejected"] == [
        {"index": 1, "faults": [{"pointer": "/1", "message": message}], "status": 422}
    ]


def test_a_number_is_no_time(client):
    answer = client.post(ONE, json=changed(("timestamp",), 7))
    assert (answer.status_code, answer.json()["detail"]) == (422, "1 fault(s) in the record")
    (fault,) = answer.json()["faults"]
    assert fault["pointer"] == "/timestamp"
    assert "a date and time with its zone" in fault["message"]


def test_all_errors_of_a_record_are_listed(client):
    whole = changed(("metrics", "avg_speed"), 501)
    whole["signals"][0]["signal_status"] = "BLUE"
    answer = client.post(ONE, json=whole)
    assert (answer.status_code, answer.json()["detail"]) == (422, "2 fault(s) in the record")
    assert [f["pointer"] for f in answer.json()["faults"]] == [
        "/signals/0/signal_status",
        "/metrics/avg_speed",
    ]
    answer = client.post(ONE, content=b"[" * 5000)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("the body is no JSON: ")


def test_error_pointers_start_at_the_place_of_the_record():
    assert [f.pointer for f in ingest.faults_of(changed(("metrics", "avg_speed"), 501), "/3")] == [
        "/3/metrics/avg_speed"
    ]
    assert ingest.faults_of(EXAMPLE, "/3") == []
