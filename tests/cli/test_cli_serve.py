"""Serving from the command line."""

from __future__ import annotations

import asyncio
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
from pathlib import Path

import httpx
import jwt
import pytest
import uvicorn

from headway.api.security import Keyring, Principal, Role
from headway.api.services import ApiSettings
from headway.api.sockets import Connection
from headway.runtime.folder_lock import locked
from headway.settings import NotifySettings, Settings, overridden
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


def test_one_data_folder_has_one_server_which_the_second_names(headway, served, tmp_path):
    with locked(tmp_path / "data", "headway serve", "http://127.0.0.1:8000"):
        ran = headway("serve", "--port", "0")
        assert (ran.status, ran.out, served.api) == (1, "", None)
        assert "data: in use by 'headway serve' at http://127.0.0.1:8000 (process" in ran.err
        ran = headway("run", "--scenario", "cologne1", "--data", "data")
        assert (ran.status, ran.out, "data: in use by" in ran.err) == (1, "", True)
    with locked(tmp_path / "data" / "headway", "headway run"):
        assert "data/headway: in use by 'headway run'" in headway("serve", "--port", "0").err


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
