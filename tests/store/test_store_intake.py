"""Batches into the database: duplicates, months, outages, rejections;
counted exactly, nothing twice, nothing lost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from headway.settings import SpoolSettings
from headway.store import Intake, Outcome, open_database
from headway.store import intake as room
from headway.store.partitions import PARTITIONS, Partitions
from headway.store.spool import SpoolFullError, as_text
from headway.store.upkeep import erase
from headway.telemetry import metrics


@pytest.fixture(scope="module")
def database(new_record, tmp_path_factory):
    found = open_database(tmp_path_factory.mktemp("unused"), new_record())
    yield found
    found.close()


@pytest.fixture
def intake(database, tmp_path):
    return Intake(database, tmp_path)


@pytest.fixture
def run(intake, request):
    return intake.begin_run(request.node.name, "cologne1", "planner", 1)


def record(name, at, junction="J", vehicles=1):
    return (name, at, junction, '[{"a": 1}]', vehicles, 2.0, 3.0, 4.0, 5.0, 6.0, 7, True)


def event(run, number, kind="k"):
    return (run, number, 0.5, kind, "J", '{"x": 1}')


def kinds(database, run):
    return [
        r["kind"]
        for r in database.rows(
            "SELECT kind FROM event WHERE run_id = :run ORDER BY number", run=run
        )
    ]


@contextlib.contextmanager
def locked(database, table):
    with database.engine.begin() as held:
        held.execute(sa.text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


@contextlib.contextmanager
def away(database):
    """Nobody is let in, and who is in is thrown out."""
    name = database.engine.url.database
    with psycopg.connect(
        sa.make_url(database.url)
        .set(drivername="postgresql", database="postgres")
        .render_as_string(False),
        autocommit=True,
    ) as server:
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        try:
            yield
        finally:
            server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


EACH = {
    "event": (3, 1.5, "kind", "J", {"x": 1}),
    "signal_state": (1.5, "J", 2, 4),
    "detector_state": (1.5, "J", 2, True),
    "observation": (
        1.5,
        "J",
        9,
        4,
        12.5,
        0.75,
        datetime(2026, 3, 1, tzinfo=UTC),
        6.5,
        30.5,
        2,
        0.25,
        0.5,
    ),
    "crossing": ("J", 2),
    "emission": (1.5, 9, 10.5, 20.5),
}


@pytest.mark.parametrize("table", EACH)
def test_rows_of_each_run_table_are_read_back_as_written(database, intake, run, table):
    row = tuple(json.dumps(v) if isinstance(v, dict) else v for v in (run, *EACH[table]))
    assert intake.write(table, [row]) == Outcome(1, 0, 0)
    assert intake.write(table, [row]) == Outcome(0, 1, 0)
    assert [
        tuple(r.values())
        for r in database.rows(f"SELECT * FROM {table} WHERE run_id = :run", run=run)
    ] == [(run, *EACH[table])]


def test_rows_of_before_an_update_have_fewer_columns(database, intake, run):
    """As a spool of the earlier version holds them."""
    assert intake.write("observation", [(run, 2.5, "J", 9, 4, 12.5, 0.75)]) == Outcome(1, 0, 0)
    assert intake.write("observation", [(run, 2.5, "J", 9, 4, 12.5, 0.75)]) == Outcome(0, 1, 0)
    assert database.rows(
        "SELECT confidence, at, passed FROM observation WHERE run_id = :run", run=run
    ) == [{"confidence": 0.75, "at": None, "passed": None}]


def test_a_record_and_a_violation_are_read_back_as_written(database, intake):
    intake.write("simulation_record", [record("SAME", "2025-09-10T01:02:03+02:00", vehicles=8)])
    found = database.rows("SELECT * FROM simulation_record WHERE simulation_id = 'SAME'")[0]
    assert (found.pop("at").timestamp(), *found.values()) == (
        1757458923.0,
        "SAME",
        "J",
        [{"a": 1}],
        8,
        2.0,
        3.0,
        4.0,
        5.0,
        6.0,
        7,
        True,
        None,  # as of an earlier version
    )
    id = "00000000-0000-0000-0000-00000000000a"
    assert intake.write(
        "violation", [(id, "2026-03-01T00:00:00Z", "cam", "speeding", 0.75, '{"v": 60}', "seal")]
    ) == Outcome(1, 0, 0)
    assert intake.write("violation_picture", [(id, 2, 1.5, b"\x00\xff")]) == Outcome(1, 0, 0)
    spooled = (id, 3, 1.5, as_text(b"\x00\xff"))
    assert intake.write("violation_picture", [spooled]) == Outcome(1, 0, 0)
    found = database.rows(
        "SELECT id::text AS id, device, rule, confidence, data, seal FROM violation"
    )
    assert found == [
        {
            "id": id,
            "device": "cam",
            "rule": "speeding",
            "confidence": 0.75,
            "data": {"v": 60},
            "seal": "seal",
        }
    ]
    assert [
        bytes(r["jpeg"])
        for r in database.rows("SELECT jpeg FROM violation_picture WHERE at_s = 1.5")
    ] == [b"\x00\xff"] * 2


def test_a_run_has_a_number_of_its_own_and_its_description(database, intake):
    one, two = (intake.begin_run(key, "cologne3", "fixed", 17) for key in ("first", "second"))
    assert two == one + 1
    found = database.rows(
        "SELECT key, scenario, controller, seed, now() - begun_at < interval '1 minute' AS "
        "fresh FROM run WHERE id = :id",
        id=one,
    )
    assert found == [
        {"key": "first", "scenario": "cologne3", "controller": "fixed", "seed": 17, "fresh": True}
    ]
    assert intake.begin_run("first", "cologne3", "fixed", 17) == one, "its key makes it one run"
    intake.write("run_controller", [(two, "webster")])
    rows = database.rows("SELECT controller FROM run WHERE id IN (:one, :two)", one=one, two=two)
    assert sorted(row["controller"] for row in rows) == ["fixed", "webster"]


def test_a_run_can_begin_in_an_outage_and_is_stored_before_its_rows(database, intake, request):
    """Else a street whose demand ends in an outage stands until the database is back."""
    first = intake.begin_run(f"{request.node.name} 1", "cologne1", "planner", 1)
    with away(database):
        second = intake.begin_run(f"{request.node.name} 2", "cologne3", "fixed", 2, "s", 0.5)
        assert intake.write("event", [event(second, 0)]).spooled == 1
    assert first > 0 > second
    assert intake.catch_up()
    second = intake.run_number(second)
    assert second > first
    row = "SELECT key, scenario, controller, seed, street, scale FROM run WHERE id = :run"
    assert [tuple(r.values()) for r in database.rows(row, run=second)] == [
        (f"{request.node.name} 2", "cologne3", "fixed", 2, "s", 0.5)
    ]
    assert (kinds(database, second), intake.refusals.count) == (["k"], 0)
    intake.spool.put("run", [[second, "again", "x", "y", 1, "", 1.0, datetime.now(UTC)]])
    assert intake.catch_up()  # replayed once more after a crash
    assert intake.begin_run(f"{request.node.name} 3", "cologne1", "planner", 1) > second


def test_an_outcome_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Outcome(1, 2).stored = 3


def test_an_empty_batch_writes_nothing(intake):
    assert intake.write("no such table", []) == Outcome(0, 0, 0)
    assert (intake.stored, intake.duplicates, intake.spool.waiting) == (0, 0, 0)


def test_duplicates_are_counted_and_left_out(database, intake, run):
    assert intake.write("event", [event(run, k, f"k{k}") for k in range(3)]) == Outcome(3, 0)
    assert intake.write("event", [event(run, k, "other") for k in range(1, 6)]) == Outcome(3, 2)
    assert intake.write(
        "event", [event(run, 9, "once"), event(run, 9, "twice"), event(run, 9, "thrice")]
    ) == Outcome(1, 2)
    assert kinds(database, run) == ["k0", "k1", "k2", "other", "other", "other", "once"]
    assert (intake.stored, intake.duplicates, intake.outages, intake.refusals.count) == (7, 4, 0, 0)
    assert intake.write("event", [event(run, 1), event(run, 10)]) == Outcome(
        1, 1
    )  # nothing is left over of the batch before


def test_a_row_with_other_content_under_a_known_key_is_a_conflict_and_not_a_duplicate(
    database, intake
):
    at = "2038-02-01T00:00:00Z"
    known, other = record("CONFLICT", at), record("CONFLICT", at, vehicles=2)
    assert intake.write("simulation_record", [known]) == Outcome(1, 0)
    new = record("CONFLICT", at, "K")
    found = intake.write("simulation_record", [other, new, known, other])
    assert found == Outcome(1, 1, conflicts=(0, 3))
    assert (intake.stored, intake.duplicates) == (2, 1)
    query = "SELECT vehicles FROM simulation_record WHERE simulation_id = 'CONFLICT'"
    assert database.rows(query) == [{"vehicles": 1}] * 2


def test_a_conflict_that_waited_on_disk_is_put_aside_and_not_swallowed(database, intake, tmp_path):
    at = "2038-03-01T00:00:00Z"
    intake.write("simulation_record", [record("WAITED", at)])
    intake.spool.put(
        "simulation_record",
        [record("WAITED", at), record("WAITED", at, vehicles=5), record("WAITED", at, "K")],
    )
    assert intake.catch_up()
    (line,) = (tmp_path / "refused.jsonl").read_text().splitlines()
    assert [row[4] for row in json.loads(line)["rows"]] == [5]
    assert "other content" in json.loads(line)["why"]
    assert intake.refusals.count == 1
    assert len(database.rows("SELECT 1 FROM simulation_record WHERE simulation_id='WAITED'")) == 2


def test_a_rejected_batch_stores_nothing_and_raises(database, intake, run):
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        intake.write("event", [event(run, 1), event(2**40, 1)])
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        intake.write("event", [(run, 2, 0.0, "k", "J", "no json")])
    assert kinds(database, run) == []
    assert (intake.stored, intake.duplicates, intake.spool.waiting) == (0, 0, 0)
    assert intake.write("event", [event(run, 1)]) == Outcome(1, 0)


def test_rejected_rows_are_set_aside_whatever_they_hold(intake, tmp_path):
    intake.put_aside(
        "event", [(1, datetime(2030, 1, 1, tzinfo=UTC), b"x", float("nan"))], ValueError("no")
    )
    kept = json.loads((tmp_path / "refused.jsonl").read_text())
    assert (kept["why"], kept["table"], kept["rows"][0][:3]) == (
        "no",
        "event",
        [1, "2030-01-01 00:00:00+00:00", "\\x78"],
    )
    assert intake.refusals.count == 1


def test_erased_rows_do_not_return_with_a_later_duplicate(database, intake):
    gone, stays = record("GONE", "2038-01-01T00:00:00Z"), record("STAYS", "2038-01-01T00:00:00Z")
    intake.write("simulation_record", [gone, stays])
    assert intake.write("simulation_record", [gone]) == Outcome(0, 1)
    assert erase(database, "GONE") == 1
    for _ in range(8):  # whichever connection of the pool it is
        assert intake.write("simulation_record", [stays]) == Outcome(0, 1)
    assert database.rows(
        "SELECT count(*) AS n FROM simulation_record WHERE simulation_id = 'GONE'"
    ) == [{"n": 0}]


def names_of_partitions(database):
    rows = database.rows(PARTITIONS)
    return {row["name"] for row in rows} - {"simulation_record_other", "odd"}


def test_partitions_are_made_by_the_clock_of_the_server(new_record, tmp_path):
    """In January 2031: a year before it, two months after it; in March two more, once a day."""
    database = open_database(tmp_path, new_record())
    now = [datetime(2031, 1, 31, 23, 59, tzinfo=UTC)]
    partitions = Partitions(database, lambda: now[0])
    partitions.keep_up()
    first = {f"simulation_record_2030_{m:02d}" for m in range(1, 13)}
    first |= {f"simulation_record_2031_{m:02d}" for m in (1, 2, 3)}
    assert names_of_partitions(database) == first
    bound = "SELECT pg_get_expr(relpartbound, oid) AS bound FROM pg_class WHERE relname = :name"
    bounds = "FOR VALUES FROM ('2030-12-01 00:00:00+00') TO ('2031-01-01 00:00:00+00')"
    assert database.rows(bound, name="simulation_record_2030_12") == [{"bound": bounds}]
    now[0] += timedelta(hours=23)
    partitions.keep_up()
    assert names_of_partitions(database) == first  # not yet
    now[0] += timedelta(days=31)
    partitions.keep_up()
    added = {"simulation_record_2031_04", "simulation_record_2031_05"}
    assert names_of_partitions(database) == first | added
    Partitions(database, lambda: now[0]).keep_up()  # those of another process are no fault
    now[0] = datetime(2027, 6, 1, tzinfo=UTC)  # it was ahead, and is set back
    partitions.keep_up()
    assert "simulation_record_2027_08" in names_of_partitions(database)
    database.close()


def test_a_batch_of_five_thousand_months_makes_no_relation(database, intake):
    """Years 1600 to 2016; what there is for the months of now is there before."""
    intake.write("simulation_record", [record("BEFORE", datetime.now(UTC))])
    relations = "SELECT count(*) AS n FROM pg_class"
    before = database.rows(relations)
    rows = [record("MANY", f"{1600 + n // 12}-{n % 12 + 1:02d}-07T00:00:00Z") for n in range(5_000)]
    assert intake.write("simulation_record", rows) == Outcome(5_000, 0)
    assert database.rows(relations) == before
    found = database.rows(
        "SELECT tableoid::regclass::text AS place, count(*) AS n FROM simulation_record "
        "WHERE simulation_id = 'MANY' GROUP BY 1"
    )
    assert found == [{"place": "simulation_record_other", "n": 5_000}]


def test_the_months_of_now_have_partitions_before_their_rows_come(database, intake):
    now = datetime.now(UTC)
    rows = [record("NOW", now + timedelta(days=days)) for days in (-40, 0)]
    assert intake.write("simulation_record", rows) == Outcome(2, 0)
    found = database.rows(
        "SELECT tableoid::regclass::text AS place FROM simulation_record WHERE "
        "simulation_id = 'NOW' ORDER BY at"
    )
    months = [f"simulation_record_{now + timedelta(days=days):%Y_%m}" for days in (-40, 0)]
    assert [row["place"] for row in found] == months


def test_a_time_may_be_a_datetime_as_well_as_its_text(database, intake):
    last = datetime(2034, 1, 31, 23, 59, 59, tzinfo=UTC)
    assert intake.write("simulation_record", [record("TIME", last)]) == Outcome(1, 0)
    with away(database):
        assert intake.write(
            "simulation_record", [record("TIME", last), record("TIME", last + timedelta(seconds=1))]
        ) == Outcome(0, 0, 2)
    assert intake.catch_up()
    found = database.rows(
        "SELECT at FROM simulation_record WHERE simulation_id = 'TIME' ORDER BY at"
    )
    assert [row["at"] for row in found] == [last, last + timedelta(seconds=1)]
    assert (intake.stored, intake.duplicates) == (2, 1)


def test_rows_of_a_month_without_a_partition_are_stored_all_the_same(database, intake):
    database.execute(
        "INSERT INTO simulation_record VALUES ('OLD', '2031-05-02', 'J', '[]', 1, 1, 1, 1, "
        "1, 1, 0, false)"
    )  # into the default one
    assert intake.write("simulation_record", [record("OLD", "2031-05-03T00:00:00Z")]) == Outcome(
        1, 0
    )
    database.execute(
        "CREATE TABLE odd PARTITION OF simulation_record FOR VALUES FROM ('2032-05-10') TO "
        "('2032-05-20')"
    )
    assert intake.write(
        "simulation_record",
        [record("OLD", "2032-05-11T00:00:00Z"), record("OLD", "2032-05-21T00:00:00Z")],
    ) == Outcome(2, 0)
    found = database.rows(
        "SELECT tableoid::regclass::text AS place FROM simulation_record WHERE "
        "simulation_id = 'OLD' ORDER BY at"
    )
    assert [r["place"] for r in found] == [
        "simulation_record_other",
        "simulation_record_other",
        "odd",
        "simulation_record_other",
    ]


def test_batches_of_an_outage_are_written_in_order_before_new_ones(database, intake, run, tmp_path):
    with away(database):
        assert intake.write("event", [event(run, 1), event(run, 2)]) == Outcome(0, 0, 2)
        assert intake.write("event", [event(run, 3, "first")]) == Outcome(0, 0, 1)
        assert not intake.catch_up()
        assert (intake.spool.waiting, intake.outages, intake.stored) == (2, 1, 0)
        assert json.loads((tmp_path / "spool.jsonl").read_text().splitlines()[1]) == {
            "kind": "event",
            "rows": [[run, 3, 0.5, "first", "J", '{"x": 1}']],
        }
        assert not database.alive()
        assert Intake(database, tmp_path).spool.waiting == 2
    assert database.alive()
    assert intake.write("event", [event(run, 3, "second"), event(run, 4, "new")]) == Outcome(1, 1)
    assert kinds(database, run) == ["k", "k", "first", "new"]
    assert (intake.spool.waiting, intake.stored, intake.duplicates, intake.outages) == (0, 4, 1, 1)
    assert intake.catch_up()
    with away(database):
        assert intake.write("event", [event(run, 5)]) == Outcome(0, 0, 1)
    assert intake.outages == 2
    assert intake.catch_up()
    assert kinds(database, run)[4:] == ["k"]


@pytest.mark.parametrize(
    ("what", "happens"),
    [
        ("the disk is full", "RAISE EXCEPTION 'no space' USING ERRCODE = '53100'"),
        (
            "the connection ends",
            "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1)",
        ),
    ],
)
def test_an_outage_in_the_middle_of_a_batch_stores_nothing_and_spools_all_of_it(
    database, intake, run, what, happens
):
    body = f"BEGIN IF NEW.kind = 'last' THEN {happens}; END IF; RETURN NEW; END"
    database.execute(
        f"CREATE OR REPLACE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$"
    )
    database.execute(
        "CREATE TRIGGER ends BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION ends()"
    )
    try:
        rows = [event(run, 1), event(run, 2), event(run, 3, "last")]
        assert intake.write("event", rows) == Outcome(0, 0, 3)
        assert (kinds(database, run), intake.stored, intake.outages) == ([], 0, 1)
        assert not intake.catch_up()
        assert intake.spool.waiting == 1
    finally:
        database.execute("DROP TRIGGER ends ON event")
    assert intake.catch_up()
    assert kinds(database, run) == ["k", "k", "last"]


def test_without_database_and_spool_an_error_is_raised(database, tmp_path):
    intake = Intake(database, tmp_path, SpoolSettings.model_construct(most_gb=100e-9))
    with away(database):
        assert intake.write("crossing", [(1, "J", 1)]).spooled == 1
        with pytest.raises(SpoolFullError, match="holds 39 bytes of 100"):
            intake.write("crossing", [(1, "J", k) for k in range(10)])
    assert Intake(database, tmp_path / "b").spool.waiting == 0
    usual = Intake(database, tmp_path / "c")
    (tmp_path / "c" / "spool.jsonl").touch()
    os.truncate(tmp_path / "c" / "spool.jsonl", 10**9)
    with pytest.raises(SpoolFullError, match="holds 1000000000 bytes of 1000000000"):
        usual.spool.put("crossing", [[1, "J", 1]])


def test_rejected_batches_are_set_aside_with_the_reason_and_do_not_delay_others(
    database, intake, run, tmp_path
):
    intake.spool.put(
        "event", [list(event(2**40, 1, "of a run that is gone")), list(event(2**40, 2))]
    )
    intake.spool.put("event", [[run, 1, 0.0, "bad", "", "no json"]])
    intake.spool.put("no_such_table", [[1], [2]])
    intake.spool.put("event", [[run, 2, 0.0, "too short"]])
    intake.spool.put("event", [list(event(run, 3, "good"))])
    assert intake.catch_up()
    assert (kinds(database, run), intake.refusals.count, intake.stored, intake.spool.waiting) == (
        ["good"],
        6,
        1,
        0,
    )
    refused = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert [(r["table"], len(r["rows"])) for r in refused] == [
        ("event", 1),
        ("event", 1),
        ("event", 1),
        ("no_such_table", 1),
        ("no_such_table", 1),
        ("event", 1),
    ]
    assert refused[0]["rows"][0] == [2**40, 1, 0.5, "of a run that is gone", "J", '{"x": 1}']
    assert [
        word in r["why"]
        for r, word in zip(
            refused,
            (
                "foreign key",
                "foreign key",
                "json",
                "no_such_table",
                "no_such_table",
                'null value in column "junction"',
            ),
            strict=True,
        )
    ] == [True] * 6
    intake.spool.put("event", [[run, 4, 0.0, "bad", "", "no json"]])
    assert intake.catch_up()
    kept = (tmp_path / "refused.jsonl").read_text().splitlines()
    assert (intake.refusals.count, len(kept)) == (7, 7)


BAD_ROWS = {  # of the table event but where a table is named; each with a word of its reason
    "NaN in JSON": ((2, 1.0, "k", "", '{"a": NaN}'), "json"),
    "NUL in text": ((2, 1.0, "k\0", "", "{}"), "NUL"),
    "NUL in JSON": ((2, 1.0, "k", "", '{"a": "\\u0000"}'), "Unicode"),
    "half a surrogate in text": ((2, 1.0, "k\ud800", "", "{}"), "surrogates"),
    "half a surrogate in JSON": ((2, 1.0, "k", "", '{"a": "\\ud800"}'), "surrogate"),
    "a number too large": ((10**30, 1.0, "k", "", "{}"), "bigint"),
    "no number": ((2, math.nan, "k", "", "{}"), "event_finite"),
    "infinity": ((2, -math.inf, "k", "", "{}"), "event_finite"),
    "nothing": ((2, None, "k", "", "{}"), "null"),
    "an object": ((2, 1.0, "k", "", object()), "adapt"),
    "too few columns": ((2, 1.0), "null"),
    "too many columns": ((2, 1.0, "k", "", "{}", 1), "extra data"),
    "a key of 10 MB": ((2, 1.0, "k" * 10_000_000, "", "{}"), "index row"),
}


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_a_bad_row_is_put_aside_with_its_reason_and_all_others_are_stored(
    database, intake, run, tmp_path, fault
):
    """Whether it comes by the recorder or out of the spool."""
    bad, word = BAD_ROWS[fault]
    rows = [event(run, 0), event(run, 1), (run, *bad), event(run, 3), event(run, 4)]
    assert intake.write_sound("event", rows) == Outcome(4, 0, 0, 1)
    assert database.rows("SELECT number FROM event WHERE run_id = :run ORDER BY 1", run=run) == [
        {"number": k} for k in (0, 1, 3, 4)
    ]
    assert (intake.refusals.count, intake.spool.waiting, intake.trouble) == (1, 0, "")
    (kept,) = map(json.loads, (tmp_path / "refused.jsonl").read_text().splitlines())
    assert (kept["table"], len(kept["rows"]), word in kept["why"]) == ("event", 1, True)

    intake.spool.put("event", [list(event(run, 5)), [run, *bad], list(event(run, 6))])
    assert intake.catch_up()
    assert (kinds(database, run), intake.refusals.count) == (["k"] * 6, 2)


def test_refused_rows_are_told_once_a_burst_and_their_file_is_bounded(
    intake, tmp_path, monkeypatch
):
    monkeypatch.setattr("headway.store.refused.MOST_BYTES", 200)
    before = metrics.registry.get_sample_value("headway_rows_refused_total")
    assert not intake.refusals.is_recent
    with capture_logs() as logs:
        for k in range(10):
            intake.put_aside("event", [(1, k)], ValueError("no"))
    assert (intake.refusals.count, intake.refusals.is_recent) == (10, True)
    assert metrics.registry.get_sample_value("headway_rows_refused_total") == before + 10
    size = (tmp_path / "refused.jsonl").stat().st_size
    assert 100 < size <= 200
    assert [(line["log_level"], line["rows"], line["why"]) for line in logs] == [("error", 1, "no")]


def test_bad_rows_hold_up_no_other_while_the_disk_takes_none_of_them(
    database, intake, run, tmp_path
):
    refused = tmp_path / "refused.jsonl"
    refused.mkdir()  # nothing can be written there
    bad = (run, 2, 1.0, "k", "", "no json")
    assert intake.write_sound("event", [event(run, 1), bad, event(run, 3)]) == Outcome(2, 0, 0, 1)
    assert (kinds(database, run), intake.refusals.count) == (["k", "k"], 1)
    refused.rmdir()
    assert intake.catch_up()
    (kept,) = map(json.loads, refused.read_text().splitlines())
    assert kept["rows"] == [list(bad)]


ROWS_AT_FAULT = {"21", "22", "23", "42", "44", "54", "P0"}
CLASSES = (  # all of appendix A of PostgreSQL's manual that are errors
    "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "20", "21", "22", "23", "24", "25", "26",
    "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54",
    "55", "57", "58", "72", "F0", "HV", "P0", "XX",
)  # fmt: skip


@pytest.mark.parametrize("first", CLASSES)
def test_what_counts_as_an_outage_is_exact(first):
    """Of each class; the driver's own and SQLAlchemy's errors carry the same state."""
    error = psycopg.Error("it is so")
    error.sqlstate = f"{first}999"
    wrapped = sa.exc.DBAPIError("COPY", {}, error)
    expected = first in ROWS_AT_FAULT
    assert (room.is_row_fault(error), room.is_row_fault(wrapped)) == (expected, expected)


@pytest.mark.parametrize(
    ("state", "of_rows"),
    [
        ("42501", False), ("42P01", False), ("42703", False), ("42804", True), ("22003", True),
        ("22P04", True), ("23503", True), ("23514", True), ("54000", True), ("25006", False),
        ("57014", False), ("55P03", False), ("0A000", False), ("P0001", True),
    ],
)  # fmt: skip
def test_states_that_differ_from_their_class_are_named(state, of_rows):
    assert room.is_row_fault(psycopg.errors.lookup(state)("it is so")) is of_rows


@pytest.mark.parametrize(
    ("error", "of_rows"),
    [
        (psycopg.OperationalError("the connection is closed"), False),
        (psycopg.InterfaceError("closed"), False), (sa.exc.TimeoutError("the pool"), False),
        (psycopg.DataError("a text with NUL"), True), (KeyError("no such table"), True),
        (ValueError("no value"), True), (OSError("the disk"), False),
    ],
)  # fmt: skip
def test_errors_without_a_state_go_by_their_class(error, of_rows):
    assert room.is_row_fault(error) is of_rows


def test_a_batch_that_the_database_refuses_never_blocks_those_behind_it(
    database, intake, run, tmp_path
):
    """Of an unknown table, of a foreign key, of no shape at all: each between two sound ones."""
    spool = tmp_path / "spool.jsonl"
    intake.spool.put("event", [list(event(run, 1))])
    intake.spool.put("nowhere", [[1, 2]])
    intake.spool.put("event", [list(event(2**40, 1))])
    intake.spool.put("event", [[1, [], {}]])
    intake.spool.put("event", [list(event(run, 2))])
    with spool.open("ab") as stream:
        stream.write(b'{"kind":"event","rows":5}\n' + b"[" * 200_000 + b"\n")
    intake.spool.put("event", [list(event(run, 3))])
    with capture_logs() as logs:
        assert intake.catch_up()
    assert kinds(database, run) == ["k", "k", "k"]
    assert intake.refusals.count == 3
    found = [line for line in logs if "damaged" in line["event"]]
    assert [(line["lines"], line["file"]) for line in found] == [(2, "spool.unreadable")]
    assert intake.write("event", [event(run, 4)]) == Outcome(1, 0)


def test_a_damaged_line_that_no_disk_takes_holds_up_nobody_who_writes(
    database, intake, run, tmp_path
):
    """It waits, and what comes waits behind it, instead of an error for each sender."""
    intake.spool.put("event", [list(event(run, 1))])
    with (tmp_path / "spool.jsonl").open("ab") as stream:
        stream.write(b"no batch\n")
    (tmp_path / "spool.unreadable").mkdir()
    assert intake.write("event", [event(run, 2)]) == Outcome(0, 0, 1)
    (tmp_path / "spool.unreadable").rmdir()
    assert intake.catch_up()
    assert kinds(database, run) == ["k", "k"]


@pytest.mark.parametrize(
    "state",
    ["40P01", "40001", "53100", "53200", "53300", "55P03", "57P01", "57014", "58030", "08006",
     "25006", "42501", "42703", "42P01", "XX000"],
)  # fmt: skip
def test_what_is_no_fault_of_the_rows_lets_them_wait_on_disk(intake, monkeypatch, state):
    """Deadlocks, full disks, rights that are missing: nothing is put aside, nothing is lost."""
    error = psycopg.errors.lookup(state)("it is so")

    def refuse(table, rows):
        raise error

    monkeypatch.setattr(intake, "_copy", refuse)
    assert intake.write_sound("event", [event(1, 1), event(1, 2)]) == Outcome(0, 0, 2)
    assert not intake.catch_up()
    assert (intake.refusals.count, intake.spool.waiting, intake.trouble) == (0, 1, "it is so")


def test_a_table_that_somebody_locks_is_an_outage_like_any_other(database, intake, run):
    with locked(database, "event"):
        assert intake.write("event", [event(run, 0)]) == Outcome(0, 0, 1)
    assert "lock timeout" in intake.trouble
    assert intake.catch_up()
    assert (kinds(database, run), intake.trouble) == (["k"], "")


def test_a_batch_that_takes_too_long_is_replayed_in_parts(database, intake, run, monkeypatch):
    """Eight rows of 0.2 s each, of which a statement has one: they would wait for ever."""
    monkeypatch.setattr(room, "WRITE_LIMITS", "SET LOCAL statement_timeout = '1s'")
    with slow_events(database):
        rows = [event(run, k) for k in range(8)]
        assert intake.write("event", rows) == Outcome(0, 0, 8)
        assert intake.catch_up()
    assert (kinds(database, run), intake.spool.waiting) == (["k"] * 8, 0)


@contextlib.contextmanager
def slow_events(database):
    database.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END $$"
    )
    database.execute(
        "CREATE TRIGGER slow BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    try:
        yield
    finally:
        database.execute("DROP FUNCTION slow() CASCADE")


def test_whoever_writes_does_not_wait_for_a_long_replay(database, intake, run, monkeypatch):
    monkeypatch.setattr(room, "MOST_CAUGHT_UP", 1)
    for k in range(2):
        intake.spool.put("event", [list(event(run, k))])
    assert intake.write("event", [event(run, 2)]) == Outcome(0, 0, 1)
    assert (kinds(database, run), intake.spool.waiting) == ([], 3)
    assert intake.catch_up()
    assert kinds(database, run) == ["k", "k", "k"]


def test_a_new_month_does_not_wait_for_a_backup_nor_hold_up_others(database, intake):
    """pg_dump holds each table for reading; a partition that waits for it would lock out all. It is
    made an hour later.
    """
    now = [datetime(2043, 6, 1, tzinfo=UTC)]
    partitions = Partitions(database, lambda: now[0])
    before = names_of_partitions(database)
    with database.engine.connect() as reader:
        reader.execute(sa.text("SELECT count(*) FROM simulation_record"))
        partitions.keep_up()
        rows = [record("BACKUP", "2043-06-01T00:00:00Z")]
        assert intake.write("simulation_record", rows) == Outcome(1, 0)
        partitions.keep_up()
    assert names_of_partitions(database) == before
    now[0] += timedelta(hours=1)
    partitions.keep_up()
    made = names_of_partitions(database) - before
    assert "simulation_record_2043_08" in made
    assert "simulation_record_2043_06" not in made  # the default one has rows of it


def test_only_one_thread_replays_and_others_do_not_wait(database, intake, run, monkeypatch):
    monkeypatch.setattr(room, "WRITE_LIMITS", "SELECT 1")  # the lock is held as long as it takes
    for k in range(2):
        intake.spool.put("event", [list(event(run, k))])
    answers = []
    with locked(database, "event"):
        one = threading.Thread(target=lambda: answers.append(intake.catch_up()))
        one.start()
        while not database.rows(
            "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'event'::regclass"
        ):
            pass
        other = threading.Thread(target=lambda: answers.append(intake.catch_up()))
        other.start()
        other.join(10.0)
        assert answers == [False]
    one.join(30.0)
    assert answers == [False, True]
    assert (kinds(database, run), intake.stored) == (["k", "k"], 2)
    intake.spool.put("event", [list(event(run, 7))])
    assert intake.catch_up()  # the turn was given back


@pytest.mark.parametrize("is_away", [False, True])
def test_a_street_that_goes_on_from_a_checkpoint_has_one_history(
    database, intake, run, request, is_away
):
    """Group 1 was green from 65 s on, group 2 from 70 s; it goes on from 60 s, and only group 2 is
    green then: with what was of before, both were at once.
    """
    other = intake.begin_run(f"{request.node.name} other", "cologne1", "planner", 1)
    seen = EACH["observation"][1:]
    with away(database) if is_away else contextlib.nullcontext():
        for table, rows in (
            ("signal_state", [(run, 50.0, "J", 1, 1), (run, 60.0, "J", 3, 4)]),
            ("signal_state", [(run, 65.0, "J", 1, 4), (run, 70.0, "K", 2, 4)]),
            ("signal_state", [(other, 65.0, "J", 1, 4)]),
            ("detector_state", [(run, 55.0, "J", 1, True), (run, 65.0, "J", 1, False)]),
            ("observation", [(run, 60.0, *seen), (run, 65.0, *seen)]),
            ("emission", [(run, 60.0, 9, 1.0, 2.0), (run, 65.0, 9, 1.0, 2.0)]),
            ("event", [event(run, 1)]),
            (room.REWOUND, [(run, 60.0)]),
            ("signal_state", [(run, 65.0, "K", 2, 4)]),
        ):
            intake.write_sound(table, rows)
    assert intake.catch_up()

    def times(table):
        query = f"SELECT at_s FROM {table} WHERE run_id = :run ORDER BY at_s"
        return [row["at_s"] for row in database.rows(query, run=run)]

    history = "SELECT at_s, signal_group FROM signal_state WHERE run_id = :run ORDER BY at_s"
    assert database.rows(history, run=run) == [
        {"at_s": 50.0, "signal_group": 1}, {"at_s": 65.0, "signal_group": 2}
    ]  # fmt: skip
    assert len(database.rows(history, run=other)) == 1
    assert times("detector_state") == [55.0]
    assert (times("observation"), times("emission")) == ([60.0], [60.0])
    assert kinds(database, run) == ["k"]
    assert intake.refusals.count == 0
