"""Serving, tokens, the record and the audit trail from the command line."""

from __future__ import annotations

import asyncio
import csv
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import jwt
import pytest
import uvicorn

from headway.api.audit import Audit
from headway.api.keys import Keys
from headway.api.problems import ProblemError
from headway.api.seal import Seal
from headway.api.security import Keyring, Principal, Role
from headway.api.services import ApiSettings
from headway.api.sockets import Connection
from headway.runtime.folder_lock import locked
from headway.settings import NotifySettings, Settings, overridden
from headway.store import Intake, open_database
from headway.store.database import schemas
from headway.store.handed import handed
from headway.street.messages import Task
from tests.ports import free_port
from tests.waiting import until

room = importlib.import_module("headway.cli.serve")


@pytest.fixture
def served(record, monkeypatch):
    """Serves nothing: what the server, the application and the logs would be made of."""
    found = types.SimpleNamespace(
        config=None, api=None, streets=None, logs=None, opened=[], ends=None, sigterm=None
    )

    def run(self, sockets=None):
        found.config, found.sigterm = self.config, signal.getsignal(signal.SIGTERM)
        found.made = self.config.app.make()
        if found.ends is not None:
            raise found.ends

    def create(api, database, streets):
        found.api, found.database, found.streets = api, database, streets
        return "app"

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(room, "create_app", create)
    monkeypatch.setattr(room.telemetry, "set_up", lambda *words: setattr(found, "logs", words))
    monkeypatch.setattr(room.webbrowser, "open", found.opened.append)
    return found


class Streets:
    """Stands for the streets: which were started."""

    made: list = []  # noqa: RUF012

    def __init__(self, tell, intake):
        self.tell, self.intake, self.started = tell, intake, []
        Streets.made.append(self)

    def start(self, *words):
        self.started.append(words)


@pytest.fixture
def streets(served, monkeypatch):
    """What the application would start, once it is told to."""
    monkeypatch.setattr(room, "StreetService", Streets)
    return lambda: served.streets("tell", "intake")


def token_of(text):
    return next(line for line in text.splitlines() if "#token=" in line).split("#token=")[1].strip()


def test_it_serves_two_streets_ten_times_real_time(headway, served, streets, record):
    port = free_port()
    ran = headway("serve", "--port", port)
    assert (ran.status, ran.err) == (0, "")
    assert served.api == ApiSettings(
        record.relative_to(record.parent), 100, redis_url="", notify=NotifySettings()
    )
    assert served.logs == ("info", False, "")
    config = served.config
    assert (served.made, config.host, config.port, config.log_level, config.ws,
        config.ws_ping_interval, config.ws_max_size, config.server_header) == (
        "app", "127.0.0.1", port, "warning", Connection, 20.0, 1 << 20, False,
    )  # fmt: skip
    assert served.sigterm is signal.default_int_handler
    service = streets()
    assert (service.tell, service.intake) == ("tell", "intake")
    base = {"street": {"scenario": "cologne8", "timing": "street"}, "loop": {"speed_factor": 10.0}}
    mine = overridden(Settings(), base | {"recovery": {"folder": "data/headway"}})
    fixed = overridden(
        Settings(),
        base
        | {
            "recovery": {"folder": "data/baseline"},
            "control": {"controller": "fixed", "fallback": "fixed"},
        },
    )
    assert service.started == [("headway", Task(mine), True), ("baseline", Task(fixed), True)]


def test_the_end_of_the_terminal_stops_it_but_not_under_nohup(headway, served, monkeypatch):
    ends = []

    def run(self, sockets=None):
        signal.raise_signal(signal.SIGHUP)
        ends.append(self.should_exit)

    monkeypatch.setattr(uvicorn.Server, "run", run)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    headway("serve", "--port", "0")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    headway("serve", "--port", "0")
    assert ends == [True, False]


def test_its_link_signs_an_administrator_in_for_12_hours(headway, served, record):
    ran = headway("serve", "--port", "0")
    first, second = (line for line in ran.out.splitlines() if "[info" not in line)
    assert first.startswith(f"http://127.0.0.1:{served.config.port}/#token=")
    assert served.config.port > 0
    assert Keyring(record / "keys.json").read(token_of(ran.out)) == Principal("admin", Role.ADMIN)
    claims = jwt.decode(token_of(ran.out), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 12 * 3600
    assert (
        second
        == "The link signs an administrator in for 12 hours; it is shown this once. Ctrl-C ends."
    )
    assert served.opened == []


@pytest.mark.parametrize("tty", [True, False])
def test_in_production_no_token_is_printed_where_it_becomes_a_log(
    headway, served, monkeypatch, tty
):
    monkeypatch.setenv("HEADWAY_ENVIRONMENT", "production")
    monkeypatch.setenv("HEADWAY_SERVER__PROXIES", '["127.0.0.1"]')
    monkeypatch.setenv("DISPLAY", "")
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: tty, raising=False)
    ran = headway("serve", "--port", "0")
    assert (ran.status, "#token=" in ran.out) == (0, tty)
    assert ("(a token: headway token NAME)" in ran.out) is not tty


def test_a_secret_in_a_file_signs(headway, served, monkeypatch, tmp_path):
    (tmp_path / "key").write_text("one secret of forty letters, or of more\n")
    monkeypatch.setenv("HEADWAY_SECRET_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("HEADWAY_SECRET_KEY", "")  # so that what is read is taken away at the end
    monkeypatch.delenv("HEADWAY_SECRET_KEY")
    assert headway("serve", "--port", "0").status == 0
    assert served.api.secret_key == "one secret of forty letters, or of more"


@pytest.mark.parametrize(
    ("tty", "display", "platform", "opens"),
    [
        (True, ":0", "linux", True),
        (True, "", "darwin", True),
        (True, "", "linux", False),
        (False, ":0", "linux", False),
        (False, "", "darwin", False),
    ],
)
def test_a_browser_is_opened_where_somebody_looks(
    headway, served, monkeypatch, tty, display, platform, opens
):
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(room.sys.stdout, "isatty", lambda: tty, raising=False)
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: tty, raising=False)
    ran = headway("serve", "--port", "0")
    assert served.opened == (
        [f"http://127.0.0.1:{served.config.port}/#token={token_of(ran.out)}"] if opens else []
    )


def test_limits_origins_and_the_pool_come_from_the_settings(headway, served, tmp_path):
    (tmp_path / "h.yaml").write_text(
        "api: {per_minute: 7, origins: ['https://a.example'], cache_s: 3, oldest_days: 9,\n"
        "  ahead_s: 2}\n"
        "database: {pool_size: 4, max_overflow: 1}\n"
    )
    ran = headway("serve", "--port", "0", "--config", "h.yaml")
    assert ran.status == 0, ran.err
    assert (served.api.per_minute, served.api.origins, served.api.cache_s) == (
        7,
        ("https://a.example",),
        3.0,
    )
    assert (served.api.oldest_days, served.api.ahead_s) == (9.0, 2.0)
    assert served.database.engine.pool.size() == 4
    assert headway("serve", "--port", "0", "--config", "h.yaml", "--per-minute", "8").status == 0
    assert served.api.per_minute == 8


@pytest.mark.parametrize(
    ("words", "variable", "folder"),
    [
        ([], "", "of the file"),
        ([], "of a variable", "of a variable"),
        (["--data", "of the call"], "of a variable", "of the call"),
    ],
)
def test_the_data_folder_is_that_of_the_call_then_of_a_variable_then_of_the_file(
    headway, served, streets, tmp_path, monkeypatch, words, variable, folder
):
    (tmp_path / "h.yaml").write_text("recovery: {folder: of the file}\nstreet: {seed: 3}\n")
    if variable:
        monkeypatch.setenv("HEADWAY_RECOVERY__FOLDER", variable)
    ran = headway("serve", "--port", "0", "--config", "h.yaml", *words)
    assert ran.status == 0, ran.err
    assert served.api.folder == Path(folder)
    tasks = [task for _, task, _ in streets().started]
    assert [task.settings.recovery.folder for task in tasks] == [
        f"{folder}/headway",
        f"{folder}/baseline",
    ]
    assert {task.settings.street.seed for task in tasks} == {3}


def test_each_option_reaches_its_part(headway, served, streets, record, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADWAY_REDIS_URL", "redis://somewhere")
    (tmp_path / "h.yaml").write_text(
        "log: {level: debug, json_lines: true, folder: logs}\nstreet: {seed: 9}\nnotify: "
        "{webhooks: [{url: 'http://x', secret: 'a long enough secret'}]}\n"
    )
    ran = headway(
        "serve", "--scenario", "cologne1", "--no-baseline", "--speed-factor", "0", "--host",
        "localhost", "--port", "0", "--data", "there",
        "--config", "h.yaml", "--per-minute", "0", "--timing", "benchmark", "--no-repeat",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    assert (str(served.api.folder), served.api.per_minute, served.api.redis_url) == (
        "there",
        0,
        "redis://somewhere",
    )
    assert [h.url for h in served.api.notify.webhooks] == ["http://x"]
    assert served.logs == ("debug", True, "logs")
    assert served.config.host == "localhost"
    ((name, task, repeat),) = streets().started
    assert (name, repeat) == ("headway", False)
    assert (
        task.settings.street.scenario,
        task.settings.street.timing,
        task.settings.street.seed,
    ) == ("cologne1", "benchmark", 9)
    assert (
        task.settings.loop.speed_factor,
        task.settings.recovery.folder,
        task.settings.control.controller,
    ) == (0.0, "there/headway", "planner")


@pytest.mark.parametrize("option", ["--speed-factor", "--realtime"])
def test_the_speed_factor_is_taken_by_its_new_and_its_old_name(headway, served, streets, option):
    assert headway("serve", option, "3", "--no-baseline", "--port", "0").status == 0
    ((_, task, _),) = streets().started
    assert task.settings.loop.speed_factor == 3.0


def test_without_a_scenario_no_street_runs(headway, served, streets):
    assert headway("serve", "--scenario", "", "--port", "0").status == 0
    assert streets().started == []


@pytest.mark.parametrize(
    "words",
    [["--speed-factor", "-0.1"], ["--port", "-1"], ["--port", "65536"], ["--per-minute", "-1"]],
)
def test_what_is_beyond_its_bounds_is_a_wrong_call(headway, served, words):
    ran = headway("serve", *words)
    assert (ran.status, words[0] in ran.err, served.config) == (2, True, None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scenario", "paris"], "no scenario 'paris'"),
        (["--timing", "slow"], "street.timing"),
        (["--config", "none.yaml"], "none.yaml"),
    ],
)
def test_what_cannot_be_served_fails_with_the_reason(headway, served, words, said):
    ran = headway("serve", "--port", "0", *words)
    assert (ran.status, said in ran.err, served.config) == (1, True, None)


def test_a_port_that_is_taken_is_told_before_anything_begins(headway, served):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = headway("serve", "--port", port)
    assert (ran.status, served.api) == (1, None)
    assert ran.err == (
        f"headway: 127.0.0.1:{port} cannot be listened on (Address already in use). "
        "Give another --port.\n"
    )


def test_a_port_of_a_moment_ago_can_be_taken_again(headway, served):
    """The other end of a connection that was closed here first is waited for
    by the system for a minute.
    """
    with socket.socket() as before:
        before.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        before.bind(("127.0.0.1", 0))
        before.listen()
        port = before.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as other:
            one, _ = before.accept()
            one.close()
            other.recv(1)
    assert headway("serve", "--port", port).status == 0


@pytest.mark.parametrize(("ends", "status"), [(KeyboardInterrupt(), 0), (RuntimeError("why"), 1)])
def test_however_it_ends_the_record_is_closed(headway, served, monkeypatch, ends, status):
    closed, close = [], room.open_database

    def opened(folder, **more):
        database = close(folder, **more)
        monkeypatch.setattr(database, "close", lambda: closed.append(1))
        return database

    monkeypatch.setattr(room, "open_database", opened)
    served.ends = ends
    ran = headway("serve", "--port", "0")
    assert (ran.status, closed) == (status, [1])
    assert ("stopped; the same command goes on from here" in ran.out) == (status == 0)
    served.database.engine.dispose()


def test_what_is_there_after_the_start_is_left_alone_by_the_collector(monkeypatch):
    frozen = []

    async def started(self, sockets=None):
        frozen.append("started")

    monkeypatch.setattr(uvicorn.Server, "startup", started)
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append("frozen"))
    asyncio.run(room.ApiServer(uvicorn.Config("app")).startup())
    assert frozen == ["started", "frozen"]


def test_the_event_loop_gives_the_signs_of_life_once_all_has_started(monkeypatch):
    given, started = [], [False]
    monkeypatch.setattr(room.SignsOfLife, "give", lambda self: given.append("sign"))
    monkeypatch.setattr(room.SignsOfLife, "end", lambda self: given.append("ending"))
    server = room.ApiServer(uvicorn.Config("app"), lambda: started[0])
    server.server_state.default_headers = []
    asyncio.run(server.on_tick(1))
    assert given == []
    started[0] = True
    assert asyncio.run(server.on_tick(2)) is False
    server.should_exit = True
    assert asyncio.run(server.on_tick(3)) is True, "it ends as uvicorn does"
    assert given == ["sign", "sign"]


@pytest.mark.parametrize(
    ("words", "role", "seconds"),
    [
        ([], "viewer", 43200),
        (["--role", "ADMIN"], "admin", 43200),
        (["--role", "operator", "--hours", "0.01"], "operator", 36),
        (["--hours", "8784"], "viewer", 31622400),
    ],
)
def test_a_token_is_printed_for_whom_it_is(headway, tmp_path, words, role, seconds):
    Keyring(tmp_path / "there" / "keys.json")  # a server has made it
    ran = headway("token", "me", "--data", "there", *words)
    assert (ran.status, ran.err) == (0, "")
    assert Keyring(tmp_path / "there" / "keys.json").read(ran.out.strip()) == Principal(
        "me", Role[role.upper()]
    )
    claims = jwt.decode(ran.out.strip(), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] in (seconds, seconds + 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["me", "--role", "god"], "no role 'god'. There are: viewer,"),
        (["me", "--hours", "0.009"], "--hours"),
        (["me", "--hours", "8784.5"], "--hours"), ([], "Missing argument"),
        (["acme:north"], "without ':'"), (["a\nb"], "no holder"), ([""], "no holder"),
        (["x" * 65], "no holder"),
    ],
)  # fmt: skip
def test_a_token_that_cannot_be_is_a_wrong_call(headway, words, said):
    ran = headway("token", *words)
    assert (ran.status, ran.out, said in ran.err) == (2, "", True)


def test_a_token_that_no_server_would_accept_is_refused_and_makes_nothing(
    headway, tmp_path, monkeypatch
):
    ran = headway("token", "me", "--data", "typo")
    assert (ran.status, ran.out) == (1, "")
    assert "typo/keys.json: not there" in ran.err
    assert "--data" in ran.err
    assert not (tmp_path / "typo").exists()
    monkeypatch.setenv("HEADWAY_SECRET_KEY", "0123456789abcdef" * 3)
    ran = headway("token", "me", "--data", "typo")  # every server of this secret accepts it
    assert (ran.status, (tmp_path / "typo").exists()) == (0, False)
    server = Keyring(tmp_path / "server" / "keys.json", "0123456789abcdef" * 3)
    assert server.read(ran.out.strip()) == Principal("me", Role.VIEWER)


@pytest.fixture
def filled(record):
    """Three records of simulation A and one of B, one of them two days old."""
    database = open_database(record)
    now = datetime.now(UTC)
    rows = [
        (
            name,
            (now - timedelta(days=days, seconds=k)).isoformat(),
            "J",
            "[]",
            1,
            1.0,
            1.0,
            1.0,
            1.0,
            1.0,
            0,
            False,
        )
        for k, (name, days) in enumerate((("A", 0), ("A", 0), ("A", 2), ("B", 0)))
    ]
    assert Intake(database, record).write("simulation_record", rows).stored == 4
    yield database
    database.close()


def counts(database):
    return {
        r["id"]: r["n"]
        for r in database.rows(
            "SELECT simulation_id AS id, count(*) AS n FROM simulation_record GROUP BY 1"
        )
    }


def test_the_records_of_a_simulation_are_erased(headway, filled):
    ran = headway("db", "erase", "A")
    assert (ran.status, ran.out) == (0, "3 rows\n")
    assert counts(filled) == {"B": 1}
    assert headway("db", "erase", "A").out == "0 rows\n"


def test_old_records_go(headway, filled):
    assert (
        headway("db", "retain", "3").out
        == "simulation_record: 0 rows, run: 0 rows, violation: 0 rows\n"
    )
    ran = headway("db", "retain", "1")
    assert (ran.status, ran.out) == (
        0,
        "simulation_record: 1 rows, run: 0 rows, violation: 0 rows\n",
    )
    assert counts(filled) == {"A": 2, "B": 1}
    ran = headway("db", "retain", "0")
    assert (ran.status, ran.err.startswith("headway: days: 0.0 is not allowed: above 0")) == (
        1,
        True,
    )


def test_the_tables_are_made_before_the_service_starts(headway, new_record, monkeypatch):
    monkeypatch.setenv("HEADWAY_DATABASE_URL", new_record())
    known = schemas()
    for _ in range(2):
        ran = headway("db", "migrate", "--dry-run")
        assert (ran.status, ran.err) == (0, "")
        assert ran.out == f"schema none: {', '.join(known)} (would be done)\n"
    assert headway("db", "migrate").out == f"schema none: {', '.join(known)} (done)\n"
    for words in (["--dry-run"], []):
        ran = headway("db", "migrate", *words)
        assert (ran.status, ran.out) == (0, f"schema {known[-1]}: nothing to do ({known[-1]})\n")


def test_the_tables_go_back_to_an_earlier_version(headway, new_record, monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("HEADWAY_DATABASE_URL", new_record())
    *_, earlier, last = schemas()
    assert headway("db", "migrate").status == 0
    assert headway("db", "migrate", "--back-to", last).out == f"schema {last}: back to {last}\n"
    assert (
        headway("db", "migrate", "--back-to", earlier).out == f"schema {last}: back to {earlier}\n"
    )
    assert (
        headway("db", "migrate", "--dry-run").out == f"schema {earlier}: {last} (would be done)\n"
    )
    for wrong in (last, "0", "9999"):  # which is newer now, or none
        ran = headway("db", "migrate", "--back-to", wrong)
        assert (ran.status, "is none before the present one" in ran.err) == (1, True)
    assert headway("db", "migrate", "--back-to", earlier, "--dry-run").status == 2
    entries = [row[-1] for row in handed(tmp_path / "data")]
    assert [(e["schema"], e["back_to"]) for e in entries] == [(last, last), (last, earlier)]


def test_an_earlier_version_does_not_take_a_newer_schema_back(headway, new_record, monkeypatch):
    """As after an update that failed: it ended with an error of Alembic's."""
    monkeypatch.setenv("HEADWAY_DATABASE_URL", new_record())
    assert headway("db", "migrate").status == 0
    database = open_database(Path("data"), os.environ["HEADWAY_DATABASE_URL"])
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    ran = headway("db", "migrate", "--back-to", schemas()[-1])
    assert (ran.status, "is of a newer Headway (schema 9999)" in ran.err) == (1, True)
    assert "Use that version" in ran.err


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_the_tables_of_a_newer_version_are_left_alone(headway, filled, words):
    filled.execute("UPDATE alembic_version SET version_num = '9999'")
    ran = headway("db", "migrate", *words)
    assert (ran.status, "the database is of a newer Headway (schema 9999)" in ran.err) == (1, True)


def test_a_backup_is_sealed_and_set_back(headway, filled, tmp_path):
    assert headway("db", "key", "k.key").status == 0
    assert (tmp_path / "k.key").stat().st_mode & 0o777 == 0o600
    ran = headway("db", "key", "k.key")
    assert (ran.status, "k.key" in ran.err) == (1, True)
    ran = headway("db", "backup", "[b].backup", "--key", "k.key")
    size = (tmp_path / "[b].backup").stat().st_size
    assert (ran.status, ran.out) == (0, f"{size:,} bytes in [b].backup\n")
    filled.execute("DELETE FROM simulation_record WHERE simulation_id = 'A'")
    filled.engine.dispose()  # nobody else is connected
    ran = headway("db", "restore", "[b].backup", "--key", "k.key")
    newest = filled.rows("SELECT max(at) AS at FROM simulation_record")[0]["at"]
    until = newest.isoformat(timespec="seconds")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"restored from [b].backup: 4 rows, 0 runs, 0 entries in the audit trail, until {until}",
        "in place of 1 rows, 0 runs, 0 entries in the audit trail, until "
        + (newest - timedelta(seconds=3)).isoformat(timespec="seconds"),
        "and an entry of this restore in the audit trail",
    ]
    assert counts(filled) == {"A": 3, "B": 1}
    assert filled.rows("SELECT who, what, data FROM audit") == [
        {
            "who": "headway db restore",
            "what": "restore",
            "data": {"file": "[b].backup", "entries_before": 0, "entries": 0},
        }
    ]
    assert Audit(filled, Seal(tmp_path / "data")).verify() == (1, "")
    headway("db", "key", "other.key")
    for words in (["backup", "x.backup"], ["restore", "[b].backup"]):
        assert headway("db", *words).status == 2  # a key is needed
        assert headway("db", *words, "--key", "none.key").status == 1
    ran = headway("db", "restore", "[b].backup", "--key", "other.key")
    assert (ran.status, "the key does not fit" in ran.err) == (1, True)
    assert counts(filled) == {"A": 3, "B": 1}


def test_a_task_of_the_upkeep_is_done_as_the_schedule_does_it(headway, filled, tmp_path):
    (tmp_path / "s.yaml").write_text(f"upkeep: {{folder: {tmp_path / 'b'}, keep: 1}}")
    words = ("--config", "s.yaml")
    (tmp_path / "b").mkdir()
    old = tmp_path / "b" / "headway-20200101T000000Z.backup"
    old.write_text("old")
    ran = headway("db", "upkeep", "backup", *words)
    (path,) = (tmp_path / "b").iterdir()  # the oldest has gone
    assert (ran.status, f"file: {path.name}" in ran.out, old.name in ran.out) == (0, True, True)
    assert "simulation_record': 4" in headway("db", "upkeep", "drill", *words).out
    path.write_bytes(path.read_bytes()[:-100])
    ran = headway("db", "upkeep", "drill", *words)
    assert (ran.status, "the drill failed: " in ran.err) == (1, True)
    ran = headway("db", "upkeep", "retention", *words)
    assert (ran.status, "upkeep.retention_days is 0" in ran.err) == (1, True)
    assert filled.rows("SELECT task, ok FROM upkeep_run ORDER BY id") == [
        {"task": task, "ok": ok}
        for task, ok in (("backup", True), ("drill", True), ("drill", False), ("retention", False))
    ]
    ran = headway("db", "upkeep", "tidy")
    assert (ran.status, "There are: backup, retention, drill" in ran.err) == (2, True)


def test_a_backup_replaces_no_file_unless_it_is_forced(headway, filled, tmp_path):
    headway("db", "key", "k.key")
    (tmp_path / "b").write_text("mine")
    ran = headway("db", "backup", "b", "--key", "k.key")
    assert (ran.status, ran.err) == (
        1,
        "headway: b: is there already. Give another file, or --force.\n",
    )
    assert (tmp_path / "b").read_text() == "mine"
    assert headway("db", "backup", "b", "--key", "k.key", "--force").status == 0
    assert (tmp_path / "b").read_bytes().startswith(b"HEADWAY-BACKUP-1")


def test_nothing_is_restored_under_others_unless_it_is_forced(headway, filled, tmp_path):
    """Who is connected, or holds the data folder, is named."""
    headway("db", "key", "k.key")
    headway("db", "backup", "b", "--key", "k.key")
    assert headway("db", "erase", "A").out == "3 rows\n"
    assert counts(filled) == {"B": 1}  # its connection stays in the pool
    ran = headway("db", "restore", "b", "--key", "k.key")
    assert (ran.status, ran.out) == (1, "")
    assert f"1 connections of others to the database: headway {os.getpid()} (process" in ran.err
    assert "Stop the service first" in ran.err
    assert counts(filled) == {"B": 1}
    filled.engine.dispose()
    with locked(tmp_path / "data", "headway serve", "http://here:1"):
        ran = headway("db", "restore", "b", "--key", "k.key")
        said = f"data: in use by 'headway serve' at http://here:1 (process {os.getpid()}, since 20"
        assert (ran.status, ran.out, said in ran.err) == (1, "", True)
        assert counts(filled) == {"B": 1}
        ran = headway("db", "restore", "b", "--key", "k.key", "--force")
        assert (ran.status, "Start the service anew" in ran.out) == (0, True)
        assert counts(filled) == {"B": 1}, "what was erased stays so"
        ran = headway("db", "restore", "b", "--key", "k.key", "--force", "--with-erased")
        assert ran.status == 0
    assert counts(filled) == {"A": 3, "B": 1}


def test_a_restore_that_cannot_be_makes_no_data_folder(headway, filled, tmp_path, monkeypatch):
    for name in ("k.key", "other.key"):
        headway("db", "key", name)
    headway("db", "backup", "b", "--key", "k.key")
    (tmp_path / "cut").write_bytes((tmp_path / "b").read_bytes()[:-9])
    monkeypatch.delenv("HEADWAY_DATABASE_URL")
    for words in (["b", "--key", "other.key"], ["cut", "--key", "k.key"], ["no", "--key", "k.key"]):
        assert headway("db", "restore", *words, "--data", "new").status == 1
        assert not (tmp_path / "new").exists()


def test_one_data_folder_has_one_server_which_the_second_names(headway, served, tmp_path):
    with locked(tmp_path / "data", "headway serve", "http://127.0.0.1:8000"):
        ran = headway("serve", "--port", "0")
        assert (ran.status, ran.out, served.api) == (1, "", None)
        assert "data: in use by 'headway serve' at http://127.0.0.1:8000 (process" in ran.err
        ran = headway("run", "--scenario", "cologne1", "--data", "data")
        assert (ran.status, ran.out, "data: in use by" in ran.err) == (1, "", True)
    with locked(tmp_path / "data" / "headway", "headway run"):
        assert "data/headway: in use by 'headway run'" in headway("serve", "--port", "0").err


def test_events_of_a_run_are_written_as_atspm_reads_them(headway, record, tmp_path):
    database = open_database(record)
    try:
        intake = Intake(database, record)
        run = intake.begin_run("r", "cologne1", "planner", 1)
        intake.write(
            "signal_state",
            [(run, t, "J", 0, c) for t, c in ((0.0, 1), (10.0, 3), (30.5, 2), (33.0, 1))],
        )
        intake.write("detector_state", [(run, 12.0, "J", 0, True), (run, 13.0, "J", 0, False)])
    finally:
        database.close()
    ran = headway("db", "events", run)
    with (tmp_path / "events.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["TimeStamp", "DeviceId", "EventId", "Parameter"]
    assert (ran.status, ran.out) == (
        0,
        f"{len(rows) - 1:,} events in events.csv, detectors in detectors.csv\n",
    )
    assert [(r[0][11:], r[1], r[2], r[3]) for r in rows[1:3]] == [
        ("00:00:00.000", "J", "10", "1"),
        ("00:00:10.000", "J", "1", "1"),
    ]
    with (tmp_path / "detectors.csv").open() as stream:
        assert next(csv.reader(stream)) == ["DeviceId", "Phase", "Parameter", "Function"]
    ran = headway("db", "events", run, "--out", "[e].csv", "--detectors", "[d].csv")
    assert "[e].csv, detectors in [d].csv" in ran.out
    ran = headway("db", "events", run + 1)
    assert (ran.status, ran.err) == (
        1,
        f"headway: run {run + 1} has no signal states in the database\n",
    )
    assert headway("db", "events", "x").status == 2


def test_the_audit_trail_is_verified(headway, record):
    assert headway("audit", "verify").out == "0 entries, whole\n"
    database = open_database(record)
    try:
        for k in range(2):
            Audit(database, Seal(record)).add(Principal("a", Role.ADMIN), f"POST /{k}", 200, {})
        ran = headway("audit", "verify")
        assert (ran.status, ran.out) == (0, "2 entries, whole\n")
        database.execute("ALTER TABLE audit DISABLE TRIGGER audit_is_kept")
        database.execute("UPDATE audit SET who = 'x' WHERE number = 2")
    finally:
        database.close()
    ran = headway("audit", "verify")
    assert (ran.status, ran.out, ran.err) == (1, "2 entries, entry 2 was changed\n", "")


def test_a_folder_without_a_database_is_refused_and_left_as_it_is(headway, tmp_path, monkeypatch):
    monkeypatch.delenv("HEADWAY_DATABASE_URL", raising=False)
    (tmp_path / "empty").mkdir()
    ran = headway("audit", "verify", "--data", tmp_path / "empty")
    assert (ran.status, ran.err) == (
        1,
        f"headway: {tmp_path / 'empty'}: no database here. Give the data folder of the server by "
        "--data.\n",
    )
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["db", "erase", "A"],
        ["db", "retain", "1"],
        ["db", "events", "1"],
        ["audit", "verify"],
        ["db", "backup", "x", "--key", "k"],
        ["db", "restore", "x", "--key", "k"],
    ],
)
def test_each_command_looks_in_the_folder_asked_for_and_closes_the_record(
    headway, monkeypatch, tmp_path, words
):
    """The record breaks at the first question; it is closed all the same."""
    opened, closed = [], []

    def fail(*_, **__):
        raise RuntimeError("it broke")

    def opening(folder, create=True):
        opened.append(str(folder))
        assert create == ("restore" in words), "a mistyped folder is not made"
        engine = types.SimpleNamespace(connect=fail, begin=fail, dispose=fail)
        database = types.SimpleNamespace(
            rows=fail,
            execute=fail,
            engine=engine,
            url="postgresql://x",
            close=lambda: closed.append(1),
        )
        database.unhurried = database
        return database

    monkeypatch.setattr(room, "open_database", opening)
    monkeypatch.setattr(room, "read_key", lambda path: str(path).encode())
    monkeypatch.setattr(room, "rows_in", lambda path, key: None)
    monkeypatch.setattr(room, "back_up", fail)
    monkeypatch.setattr(room, "set_back", fail)
    for more, folder in (([], "data"), (["--data", "there"], "there")):
        ran = headway(*words, *more)
        assert (ran.status, ran.err) == (1, "headway: it broke\n")
        assert opened.pop() == folder
    assert closed == [1, 1]


def test_a_whole_server_begins_and_ends(headway, record, monkeypatch):
    """Without streets: it answers for its health to whoever asks, until it is stopped."""
    answers, port = [], free_port()

    def ask():
        deadline = time.monotonic() + 60
        while not answers and time.monotonic() < deadline:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5.0)
                while answer.json()["starting"]:
                    assert answer.status_code == 503
                    time.sleep(0.05)
                    answer = httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=5.0)
                answers.append(answer)
            except httpx.TransportError:
                time.sleep(0.05)
        servers[0].should_exit = True

    servers, init = [], uvicorn.Server.__init__
    monkeypatch.setattr(
        uvicorn.Server, "__init__", lambda self, config: servers.append(self) or init(self, config)
    )
    monkeypatch.setattr(room.telemetry, "set_up", lambda *words: None)
    thread = threading.Thread(target=ask)
    thread.start()
    ran = headway("serve", "--scenario", "", "--port", port)
    thread.join()
    gc.unfreeze()
    assert ran.status == 0, ran.err
    assert json.loads(answers[0].text) == {
        "ready": True,
        "database": True,
        "disk": True,
        "streets": 0,
        "spool": 0,
        "starting": [],
    }
    assert "server" not in answers[0].headers


@pytest.mark.parametrize(
    "modules",
    ["headway.cli.serve, headway.api.app, headway.service.cameras", "headway.cli.worker"],
)
def test_neither_a_service_nor_a_worker_loads_the_compiler(modules):
    """It takes 65 MB, and a second at the start; only processes of streets and jobs need it."""
    program = f"import sys; import {modules}; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.slow
def test_a_stop_does_not_wait_for_who_listens_to_events(tmp_path, new_record):
    """An event stream has no end of its own."""
    port = free_port()
    command = ["serve", "--scenario", "", "--port", str(port), "--data", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "headway", *command],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "HEADWAY_DATABASE_URL": new_record()},
    )
    try:
        until(lambda: _is_ready(f"http://127.0.0.1:{port}"), 120.0)
        token = Keyring(tmp_path / "keys.json").token("me", Role.VIEWER)
        stream = f"http://127.0.0.1:{port}/stream/monitoring"
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.stream("GET", stream, headers=headers, timeout=120.0) as answer:
            assert next(answer.iter_raw())
            process.terminate()
            assert process.wait(60.0) == 0
    finally:
        process.kill()
        process.wait()


def _is_ready(url):
    try:
        return httpx.get(f"{url}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_a_key_is_rotated_by_command(headway, tmp_path, new_record, monkeypatch):
    url = new_record()
    monkeypatch.setenv("HEADWAY_DATABASE_URL", url)
    database = open_database(tmp_path / "data", url)
    try:
        old = Keys(database).make("loader", Role.OPERATOR)
        ran = headway("key", "rotate", old.split("_")[1], "--overlap", "1", "--data", "data")
        assert ran.status == 0
        made = ran.out.splitlines()[-1]
        assert Keys(database).read(made).name == Keys(database).read(old).name == "loader"
        (entry,) = database.rows("SELECT who, what, data FROM audit")
        assert (entry["who"], entry["what"]) == ("headway key rotate", "rotate")
        assert entry["data"] == {"old": old.split("_")[1], "new": made.split("_")[1]}
        assert "no key '00' is in force" in headway("key", "rotate", "00").err
    finally:
        database.close()


def test_the_secret_of_tokens_is_rotated_by_command(headway, tmp_path, monkeypatch):
    monkeypatch.delenv("HEADWAY_SECRET_KEY", raising=False)
    monkeypatch.delenv("SECRET_KEY", raising=False)
    server = Keyring(tmp_path / "data" / "keys.json")
    before = server.token("a", Role.VIEWER)
    assert headway("key", "rotate-secret").status == 0
    assert server.read(before).name == "a"
    assert headway("key", "rotate-secret", "--keep", "1").status == 0
    with pytest.raises(ProblemError):
        server.read(before)


def test_tokens_and_secrets_made_by_command_are_left_for_the_audit_trail(headway, tmp_path):
    server = Keyring(tmp_path / "data" / "keys.json")
    made = headway("token", "me", "--role", "engineer", "--street", "a", "--hours", "2")
    assert headway("key", "rotate-secret").status == 0
    token, secret = handed(tmp_path / "data")
    user = str(os.getuid())
    assert token[1:] == ["headway token", "ADMIN", "token", 200, {
        "user": user, "name": "me", "role": "engineer", "hours": "2", "streets": ["a"],
        "cameras": [], "number": server.read(made.out.strip()).token,
    }]  # fmt: skip
    assert (secret[1], secret[5]["keep"]) == ("headway rotate-secret", "2")
    (tmp_path / "data" / "handed").rmdir()
    (tmp_path / "data" / "handed").touch()  # nothing can be left there
    told = headway("token", "me")
    assert (told.status, "this is not in the audit trail" in told.err) == (0, True)
    assert server.read(told.out.strip()).name == "me"


def test_a_token_is_bounded_by_command(headway, tmp_path):
    server = Keyring(tmp_path / "data" / "keys.json")
    ran = headway("token", "me", "--street", "a", "--street", "b", "--camera", "c")
    bounds = server.read(ran.out.strip()).bounds
    assert (bounds.streets, bounds.cameras) == ({"a", "b"}, {"c"})
    assert server.read(headway("token", "me").out.strip()).bounds.are_none
    assert headway("token", "me", "--role", "admin", "--street", "a").status == 2
