"""The database itself: found, opened, pooled, migrated up and down, closed."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from headway.settings import DatabaseSettings
from headway.store import Database, DatabaseError, connections, open_database
from headway.store import database as database_room
from headway.store.database import MIGRATIONS, VARIABLE, migrate

NOBODY = "postgresql://headway:secret@127.0.0.1:1/record"  # nothing listens on port 1


@pytest.fixture(scope="module")
def database(new_record, tmp_path_factory):
    found = open_database(tmp_path_factory.mktemp("unused"), new_record())
    yield found
    found.close()


def eventually(what, seconds=30.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.005)


def backend(database):
    return database.rows("SELECT pg_backend_pid() AS pid")[0]["pid"]


def others(database, name):
    """Connections to the database `name`; PostgreSQL's own helpers come and go."""
    found = database.rows(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = :name AND backend_type "
        "= 'client backend'",
        name=name,
    )
    return found[0]["n"]


def test_rows_come_as_dictionaries_and_a_statement_says_how_many_it_touched(database):
    assert database.rows("SELECT x, x * :by AS y FROM generate_series(1, 2) x", by=10) == [
        {"x": 1, "y": 10},
        {"x": 2, "y": 20},
    ]
    assert database.rows("SELECT 1 WHERE false") == []
    insert = (
        "INSERT INTO run (key, scenario, controller, seed) SELECT 'r' || k, 's', 'c', "
        "k FROM generate_series(1, :n) k"
    )
    assert database.execute(insert, n=3) == 3
    assert database.execute("DELETE FROM run WHERE seed > :seed", seed=1) == 2
    assert database.rows("SELECT key, seed FROM run") == [{"key": "r1", "seed": 1}]


def test_a_bare_connection_commits_at_its_end_and_rolls_back_on_an_error(database):
    insert = "INSERT INTO api_key (id, hash, name, role) VALUES (%s, 'h', 'n', 'r')"
    with database.connection() as held:
        assert isinstance(held, psycopg.Connection)
        held.execute(insert, ["stays"])
    with pytest.raises(ZeroDivisionError), database.connection() as held:
        held.execute(insert, ["goes"])
        raise ZeroDivisionError
    assert database.rows("SELECT id FROM api_key") == [{"id": "stays"}]


def test_a_database_is_alive_while_it_answers(database):
    assert database.alive() is True
    nobody = Database(
        sa.create_engine(NOBODY.replace("postgresql:", "postgresql+psycopg:")), NOBODY
    )
    assert nobody.alive() is False
    nobody.close()


def test_a_given_address_takes_precedence_over_the_variable_and_that_over_an_embedded_server(
    database, tmp_path, monkeypatch
):
    monkeypatch.setenv(VARIABLE, database.url)
    found = open_database(tmp_path)
    assert (found.url, found.embedded) == (database.url, None)
    assert found.engine.url.drivername == "postgresql+psycopg"
    assert backend(found) > 0
    found.close()
    monkeypatch.setenv(VARIABLE, NOBODY)
    found = open_database(tmp_path, database.url)
    assert found.url == database.url
    found.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["postgres//u:T0KEN@h", "postgresql://u:pw@h:T0KEN/d", "T0KEN"])
def test_an_address_that_is_none_is_refused_and_not_repeated(url, tmp_path):
    with pytest.raises(DatabaseError, match=r"^HEADWAY_DATABASE_URL: ") as refused:
        open_database(tmp_path, url)
    assert "T0KEN" not in str(refused.value)


def test_addresses_other_than_postgresql_are_refused(tmp_path, monkeypatch):
    with pytest.raises(
        DatabaseError,
        match=r"^HEADWAY_DATABASE_URL: sqlite is not supported. Give a postgresql:// address.$",
    ):
        open_database(tmp_path, "sqlite:///x.db")


def test_an_unreachable_server_is_named_without_the_password(tmp_path):
    with pytest.raises(
        DatabaseError,
        match=r"^postgresql://headway:\*\*\*@127.0.0.1:1/record: "
        r"cannot be reached \(.*refused.*\).$",
    ) as reported:
        open_database(tmp_path, NOBODY)
    assert "\n" not in str(reported.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_hold_a_server_is_refused_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "postgres"
    with pytest.raises(
        DatabaseError,
        match=rf"^{place}: the embedded PostgreSQL does not start \(.*\). "
        rf"Set {VARIABLE} to a server of your own.$",
    ):
        open_database(tmp_path / "file")


def test_the_pool_keeps_20_connections_and_opens_30_more_unless_the_settings_say_otherwise(
    database, tmp_path
):
    pool = database.engine.pool
    assert (pool.size(), pool.timeout(), pool._max_overflow) == (20, 10.0, 30)
    sizes = DatabaseSettings(pool_size=2, max_overflow=3, pool_wait_s=0.1)
    small = open_database(tmp_path, database.url, pool=sizes)
    held = [small.engine.connect() for _ in range(5)]
    with pytest.raises(sa.exc.TimeoutError, match=r"size 2 overflow 3 .* timeout 0.10"):
        small.engine.connect()
    for one in held:
        one.close()
    assert small.engine.pool.checkedin() == 2
    small.close()


def test_fifty_connections_at_most_are_open_at_once_and_twenty_stay(database):
    held = [database.engine.connect() for _ in range(50)]
    answered = threading.Thread(target=database.alive)
    answered.start()
    answered.join(0.1)
    assert answered.is_alive()  # until one is given back
    held.pop().close()
    answered.join(30.0)
    assert not answered.is_alive()
    for one in held:
        one.close()
    assert (database.engine.pool.checkedin(), database.engine.pool.checkedout()) == (20, 0)


def test_a_connection_that_was_cut_is_noticed_before_it_is_used(database):
    before = backend(database)
    with psycopg.connect(
        sa.make_url(database.url).set(drivername="postgresql").render_as_string(False),
        autocommit=True,
    ) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> "
            "pg_backend_pid() AND datname = current_database()"
        )
    assert backend(database) != before


def test_an_attempt_to_connect_that_timed_out_leaves_nothing_open(monkeypatch):
    """A server that stands still answers it later, and has so many connections fewer to give."""
    with socket.create_server(("127.0.0.1", 0)) as still:
        port = still.getsockname()[1]
        address = f"postgresql+psycopg://a@127.0.0.1:{port}/b"
        engine = sa.create_engine(address, connect_args={"connect_timeout": 2})
        connections.limit_waiting(engine, 1.0)
        gc.disable()  # it would come in the end, after how many outages nobody knows
        try:
            with pytest.raises(sa.exc.OperationalError, match="timeout expired"):
                engine.connect()
            came, _ = still.accept()
            with came:
                came.settimeout(5.0)
                while came.recv(1000):
                    pass  # what it asked; then its end, or TimeoutError
        finally:
            gc.enable()


def test_connections_last_half_an_hour_and_have_five_seconds_to_open(database, monkeypatch):
    arguments = []
    real = connections.Connection.connect

    def noted(*words, **named):
        arguments.append(named["connect_timeout"])
        return real(*words, **named)

    monkeypatch.setattr(connections.Connection, "connect", noted)
    database.engine.dispose()
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    first = backend(database)
    monkeypatch.setattr(time, "time", lambda: 2800.0)
    assert backend(database) == first
    monkeypatch.setattr(time, "time", lambda: 2800.5)
    assert backend(database) != first
    assert arguments == [5, 5]


def test_a_connection_in_use_while_all_are_given_back_is_closed_when_it_returns(database):
    with database.connection() as held:
        database.engine.dispose()
        held.execute("SELECT 1")
    assert held.closed
    with database.connection() as kept:
        pass
    assert not kept.closed


def test_a_connection_whose_session_cannot_be_set_up_is_closed(database, monkeypatch):
    made = []
    real = connections.Connection.connect

    def noted(*words, **named):
        made.append(real(*words, **named))
        return made[-1]

    monkeypatch.setattr(connections.Connection, "connect", noted)
    monkeypatch.setattr(database_room, "SESSION", "SET TIME ZONE 'nowhere'")
    database.engine.dispose()
    with pytest.raises(sa.exc.DBAPIError):
        backend(database)
    assert [connection.closed for connection in made] == [True]


def test_closing_releases_the_connections(database):
    name = f"{database.engine.url.database}_closing"
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as held:
        held.exec_driver_sql(f"CREATE DATABASE {name}")
    found = open_database(
        "unused", sa.make_url(database.url).set(database=name).render_as_string(hide_password=False)
    )
    assert others(database, name) == 1
    found.close()
    eventually(lambda: others(database, name) == 0)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as held:
        held.exec_driver_sql(f"DROP DATABASE {name}")


def test_concurrent_migrations_wait_for_each_other_and_release_connections_on_a_timeout(
    database, tmp_path
):
    name = database.engine.url.database
    clients = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type "
        "= 'client backend'"
    )
    with (
        psycopg.connect(database.url, autocommit=True) as looks,
        psycopg.connect(database.url) as first,
    ):  # no others than these, whatever the pool does
        first.execute("SELECT pg_advisory_xact_lock(4845)")
        second = threading.Thread(target=migrate, args=(database,))
        second.start()
        eventually(
            lambda: looks.execute(
                "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            ).fetchall()
        )
        assert second.is_alive()
        looks.execute(f"ALTER DATABASE {name} SET lock_timeout = 20")
        before = set(looks.execute(clients))
        with pytest.raises(DatabaseError, match=r"cannot be reached \(.*lock timeout.*\)"):
            open_database(tmp_path, database.url)
        eventually(lambda: set(looks.execute(clients)) <= before)
    second.join(30.0)
    assert not second.is_alive()
    database.execute(f"ALTER DATABASE {name} RESET lock_timeout")


def test_a_foreign_schema_is_an_error_that_leaves_no_connection_open(
    new_record, database, tmp_path
):
    address = new_record()
    with psycopg.connect(address) as other:
        other.execute("CREATE TABLE run (what text)")
    with pytest.raises(DatabaseError, match=r"already exists.*a database of Headway's own"):
        open_database(tmp_path, address)
    eventually(lambda: others(database, sa.make_url(address).database) == 0)


def test_a_question_does_not_wait_for_a_lock_without_end(new_record, tmp_path, monkeypatch):
    monkeypatch.setattr(database_room, "READ_LIMIT", "SET LOCAL lock_timeout = '50ms'")
    found = open_database(tmp_path, new_record())
    with found.engine.begin() as held:
        held.exec_driver_sql("LOCK TABLE run IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            found.rows("SELECT count(*) FROM run")
    assert found.rows("SELECT count(*) AS n FROM run") == [{"n": 0}]
    found.close()


def test_a_schema_of_a_newer_version_is_refused_by_its_number_and_left_alone(new_record, tmp_path):
    address = new_record()
    first = open_database(tmp_path, address)
    first.execute("UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(DatabaseError, match=r"newer Headway \(schema 0099\).*knows up to 00"):
        open_database(tmp_path, address)
    assert first.rows("SELECT version_num AS v FROM alembic_version") == [{"v": "0099"}]
    first.close()


def test_what_a_server_has_for_its_users_changes_no_time(new_record, tmp_path):
    """Times that nobody could read, and a day that was India's."""
    address = new_record()
    name = sa.make_url(address).database
    with psycopg.connect(address, autocommit=True) as other:
        for setting in ("timezone = 'Asia/Kolkata'", "datestyle = 'German, DMY'"):
            other.execute(f"ALTER DATABASE {name} SET {setting}")
    found = open_database(tmp_path, address)
    day = "SELECT date_trunc('day', CAST('2026-01-31T20:00Z' AS timestamptz)) AS day"
    assert found.rows(day)[0]["day"].isoformat() == "2026-01-31T00:00:00+00:00"
    found.close()


TABLES = {
    "alembic_version": "version_num",
    "api_key": "cameras expires_at hash id made_at name revoked_at role streets used_at",
    "audit": "at before data hash key number role status what who",
    "camera_count": (
        "camera direction interval_begin kind line n observed_s part_at speeds total_mps"
    ),
    "crossing": "junction run_id signal_group",
    "detector_state": "at_s junction occupied run_id signal_group",
    "emission": "at_s co2_mg_s fuel_mg_s run_id vehicles",
    "erased": "at begin_at device end_at id simulation_id",
    "event": "at_s data junction kind number run_id",
    "ml_job": (
        "arguments asked_at asked_by attempt begun_at cancel_by deaths ended_at error furthest "
        "heartbeat_at id kind note progress result state street version_id worker"
    ),
    "model_alias": "alias at junction key number set_by signature street version_id",
    "model_version": (
        "code_version created_at created_by id key kind made_from metrics name parent sha256 "
        "signature size version"
    ),
    "observation": (
        "at at_s confidence halted junction longest_wait_s mean_wait_s passed performance "
        "run_id speed_kmh throughput vehicles"
    ),
    "record_version": (
        "at co2_saved_kg emergency fuel_saved_l intersection_id overrides reason replaced_at "
        "replaced_by signals simulation_id speed_kmh throughput vehicle_types vehicles version "
        "wait_s"
    ),
    "revoked_token": "expires_at id revoked_at",
    "run": "begun_at controller figures id key scale scenario seed street",
    "signal_state": "at_s colour junction run_id signal_group",
    "simulation_record": (
        "at co2_saved_kg emergency fuel_saved_l intersection_id overrides signals "
        "simulation_id speed_kmh throughput vehicle_types vehicles wait_s"
    ),
    "simulation_record_other": (
        "at co2_saved_kg emergency fuel_saved_l intersection_id overrides signals "
        "simulation_id speed_kmh throughput vehicle_types vehicles wait_s"
    ),
    "traffic_record": (
        "at at_s co2_saved_kg emergency fuel_saved_l intersection_id overrides run_id "
        "simulation_id speed_kmh throughput vehicles wait_s"
    ),
    "upkeep_run": "begun_at data id ok task took_s",
    "violation": "at confidence data device id note reviewed_at reviewed_by rule seal state",
    "violation_day": "day device n rule",
    "violation_device_hour": "device hour_of_day n rule",
    "violation_hour": "device hour n rule",
    "violation_picture": "at_s jpeg number violation_id",
    "violation_rule_hour": "hour n rule",
}
INDEXES = {
    "event_data", "event_kind", "simulation_record_at", "simulation_record_junction",
    "violation_at", "violation_device", "violation_hour_device",
    "simulation_record_types", "run_street", "observation_at", "upkeep_run_task",
    "record_version_at", "camera_count_begin", "model_alias_place",
    "ml_job_one_a_street", "ml_job_open",
}  # fmt: skip


def shape(database):
    """All that the schema holds: columns with their types, indexes and keys, triggers,
    functions.
    """
    columns = database.rows(
        """SELECT table_name AS t, column_name AS c, data_type AS d, is_nullable AS n,
           column_default AS v FROM information_schema.columns
           WHERE table_schema = 'public' ORDER BY 1, 2"""
    )
    indexes = database.rows(
        "SELECT indexname AS i, indexdef AS d FROM pg_indexes WHERE schemaname = 'public' "
        "ORDER BY 1"
    )
    triggers = database.rows(
        "SELECT tgname AS t, pg_get_triggerdef(oid) AS d FROM pg_trigger WHERE NOT "
        "tgisinternal ORDER BY 1"
    )
    functions = database.rows(
        "SELECT proname AS f FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1"
    )
    return columns, indexes, triggers, functions


def test_the_newest_schema(database):
    columns, indexes, triggers, functions = shape(database)
    found = {}
    for row in columns:
        found.setdefault(row["t"], []).append(row["c"])
    assert {table: " ".join(names) for table, names in found.items()} == TABLES
    assert {row["i"] for row in indexes} >= INDEXES
    assert [row["t"] for row in triggers] == [
        "audit_is_kept",
        "model_alias_is_kept",
        "model_version_is_kept",
        "violations_counted",
        "violations_gone",
    ]
    assert [row["f"] for row in functions] == [
        "audit_is_kept",
        "registry_is_kept",
        "violations_counted",
        "violations_gone",
    ]
    assert database.rows("SELECT version_num FROM alembic_version") == [{"version_num": "0018"}]


def test_each_downgrade_reverts_its_upgrade(new_record, tmp_path):
    database = open_database(tmp_path, new_record())
    config, shapes = Config(), [shape(database)]
    config.set_main_option("script_location", str(MIGRATIONS))

    def go(way, to):
        with database.engine.begin() as held:
            config.attributes["connection"] = held
            way(config, to)

    for _ in range(18):
        go(command.downgrade, "-1")
        shapes.append(shape(database))
    assert {row["t"] for row in shapes[-1][0]} == {"alembic_version"}
    assert shapes[-1][2:] == ([], [])
    with pytest.raises(sa.exc.ProgrammingError, match="UndefinedTable"):
        database.rows("SELECT * FROM event")
    for number in range(17, -1, -1):
        go(command.upgrade, "+1")
        assert shape(database) == shapes[number]
    migrate(database)
    assert shape(database) == shapes[0]
    database.close()


def test_the_audit_trail_is_only_ever_added_to(database):
    database.execute("INSERT INTO audit VALUES (1, now(), 'w', 'r', 'x', 200, '{}', '', 'h')")
    for change in ("UPDATE audit SET who = 'x'", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(sa.exc.DBAPIError, match="only ever added to"):
            database.execute(change)


@pytest.mark.slow
def test_an_embedded_server_is_shared_and_ends_with_its_last_user(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    folder = tmp_path / "deep" / "er"
    first = open_database(folder)
    assert first.embedded is not None
    other = (
        "import pathlib, sys; from headway.store import open_database; "
        "d = open_database(pathlib.Path(sys.argv[1]));"
        "d.execute(\"INSERT INTO api_key (id, hash, name, role) VALUES ('k', 'h', 'n', "
        "'r')\"); d.close()"
    )
    environment = {k: v for k, v in os.environ.items() if k != "XDG_RUNTIME_DIR"}
    reported = subprocess.run(
        [sys.executable, "-c", other, folder],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert (reported.stdout, reported.stderr) == ("", "")
    assert first.rows("SELECT id FROM api_key") == [{"id": "k"}]
    assert (folder / "postgres" / "postmaster.pid").exists()
    first.close()
    assert not (folder / "postgres" / "postmaster.pid").exists()


@pytest.mark.slow
def test_a_server_that_stands_still_holds_up_nobody_for_ever(tmp_path, monkeypatch):
    """Stopped (SIGSTOP), its kernel still holds the connection: no time-out of TCP or of the server
    ends the question. Upkeep waits on.
    """
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(database_room, "WRITE_LIMIT_S", 0.1)
    monkeypatch.setattr(connections, "LATER_BY_S", 0.1)
    found = open_database(tmp_path, pool=DatabaseSettings(answer_within_s=1.0))
    with found.engine.connect() as held, found.unhurried.engine.connect() as patient:
        pids = [
            one.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for one in (held, patient)
        ]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            answers = []
            asked = threading.Thread(
                target=lambda: answers.append(patient.exec_driver_sql("SELECT 7").scalar_one())
            )
            asked.start()
            with pytest.raises(sa.exc.OperationalError, match=r"not answered for 1\.1 s"):
                held.exec_driver_sql("SELECT 1")
            assert held.invalidated
            assert asked.is_alive()
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        asked.join(60.0)
    assert answers == [7]
    assert found.rows("SELECT 1 AS one") == [{"one": 1}]
    found.close()


@pytest.mark.slow
def test_a_connection_of_the_pool_that_stands_still_is_replaced(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(connections.Connection, "patience_s", 0.5)
    monkeypatch.setattr(connections, "PING_WITHIN_S", 0.5)
    found = open_database(tmp_path)
    pid = backend(found)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert backend(found) != pid
    finally:
        os.kill(pid, signal.SIGCONT)
    found.close()


def test_a_question_that_takes_too_long_is_given_up_and_upkeep_is_not(new_record, tmp_path):
    found = open_database(tmp_path, new_record(), pool=DatabaseSettings(answer_within_s=1.0))
    slow = "SELECT 1 AS one FROM pg_sleep(1.2)"
    with pytest.raises(sa.exc.OperationalError, match="statement timeout"):
        found.rows(slow)
    assert found.unhurried.rows(slow) == [{"one": 1}]
    found.close()
