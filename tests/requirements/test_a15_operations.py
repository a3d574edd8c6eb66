"""Rows A15 to A18: SUMO, orchestration, settings, metrics and logs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from tests.api.service import EXAMPLE
from tests.ports import free_port
from tests.waiting import until

from headway.plants.sumo.scenarios import scenario

STREET = "/api/v1/engine/streets/headway"
ARGUMENTS = ("--scenario", "cologne1", "--no-baseline", "--per-minute", "0")


def state(http):
    return http.get(STREET).json()


def pid_of(http, name):
    """The process of a part, once the server has looked."""
    found = {}

    def look():
        found.update(http.get("/api/v1/monitoring/system").json()["processes"] or {})
        return name in found

    until(look)
    return found[name]["pid"]


def events(product, kind):
    path = product.folder / "headway" / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [e for e in map(json.loads, lines) if e["kind"] == kind]


def timed(act, what, limit_s=60.0):
    """Wall seconds from `act` until `what` holds."""
    begun = time.perf_counter()
    act()
    while not what():
        assert time.perf_counter() - begun < limit_s
        time.sleep(0.002)
    return time.perf_counter() - begun


@pytest.fixture
def own_scenarios(tmp_path):
    """A folder with a scenario of one's own, a broken one, and one that leads out."""
    folder = tmp_path / "scenarios"
    folder.mkdir()
    found = scenario("cologne1")
    for file in (found.net, *found.routes):
        shutil.copy(file, folder)
    text = Path(found.sumocfg).read_text()
    (folder / "mine.sumocfg").write_text(text)
    (folder / "broken.sumocfg").write_text(text.replace("cologne1.rou.xml", "bad.rou.xml"))
    (folder / "bad.rou.xml").write_text(
        '<routes><trip id="a" depart="0" from="x" to="y"/></routes>'
    )
    (folder / "thief.sumocfg").write_text(
        text.replace("</input>", '<additional-files value="/etc/passwd"/></input>')
    )
    return folder


@pytest.mark.row("A15")
def test_a15_sumo_is_fed_ordered_switched_and_brought_back(serve, own_scenarios, tmp_path, figures):
    """Settings `sumo: {folders: [DIR]}`; `GET engine/scenarios`, `POST streets/headway/scenario`
    with a `.sumocfg` of DIR; a broken one is refused and the street runs on; after `kill -9` of
    its process it is back by itself.
    """
    config = tmp_path / "h.yaml"
    config.write_text(f"sumo: {{folders: [{own_scenarios}]}}\nrecovery: {{checkpoint_s: 5}}\n")
    with (
        serve(*ARGUMENTS, "--config", str(config)) as product,
        product.http() as http,
    ):
        until(lambda: state(http)["started"], 120.0)
        listed = http.get("/api/v1/engine/scenarios").json()
        assert {"cologne1", "mine.sumocfg", "broken.sumocfg"} <= set(listed)

        # data out, control in
        figures.add(
            "newest state of the street by REST, worst of 20",
            1e3 * max(timed(lambda: state(http), lambda: True) for _ in range(20)),
            "ms", "< 100 ms",
        )  # fmt: skip
        order = f"{STREET}/junctions/{state(http)['junctions'][0]['id']}/override"
        spent_s = []
        for _ in range(10):
            before = len(events(product, "safety.override"))
            spent_s.append(
                timed(
                    lambda: http.post(order, json={"order": "hold", "lasts_s": 5}),
                    lambda before=before: len(events(product, "safety.override")) > before,
                )
            )
        figures.add("from the order to the gate, worst of 10", 1e3 * max(spent_s), "ms", "< 200 ms")

        # what must not be
        def switch(name):
            return http.post(f"{STREET}/scenario", json={"scenario": name})

        assert switch("thief.sumocfg").status_code == 403
        assert switch("../mine.sumocfg").status_code == 403
        refused = switch("broken.sumocfg")
        assert (refused.status_code, "SUMO does not start" in refused.json()["detail"]) == (
            422, True,
        )  # fmt: skip
        assert not events(product, "engine.scenario")

        # one's own; killed, it is back by itself
        assert switch("mine.sumocfg").status_code == 200
        until(lambda: state(http)["scenario"] == "mine", 120.0)
        # of the new run: the one before did not get so far
        (switched,) = events(product, "engine.scenario")
        until(lambda: state(http)["checkpoint_s"] > switched["at_s"] + 5.0)
        killed, restored = pid_of(http, "headway"), len(events(product, "engine.restored"))
        recovery_s = timed(
            lambda: os.kill(killed, signal.SIGKILL),
            lambda: len(events(product, "engine.restored")) > restored,
        )
        (back,) = events(product, "engine.restored")[restored:]
        assert back["data"]["scenario"] == "mine"
        assert state(http)["scenario"] == "mine"
        figures.add("street back after kill -9", recovery_s, "s", "< 5 s")
        synced_s = timed(lambda: None, lambda: state(http)["time_s"] > back["at_s"])
        figures.add("state by REST again after that", synced_s, "s", "< 1 s")


@pytest.mark.row("A16")
def test_a16_parts_start_beside_each_other_and_orders_outlive_a_repeat_and_a_restart(
    serve, own_scenarios, tmp_path, figures
):
    """`headway serve` answers `GET /health/ready` from its first second on and says what is
    starting (`/system/info`: each part); a controller that was ordered decides again when the
    scenario repeats, and after a restart of the server.
    """
    short = own_scenarios / "short.sumocfg"
    text = (own_scenarios / "mine.sumocfg").read_text()
    short.write_text(text.replace('<end value="28800"/>', '<end value="25260"/>'))
    arguments = (*ARGUMENTS, "--scenario", str(short), "--speed-factor", "0")
    folder = tmp_path / "data"
    with contextlib.ExitStack() as stack:
        product = stack.enter_context(serve(*arguments, folder=folder))
        figures.add("port answers after the start", product.answered_s, "s")
        figures.add("ready after the start", product.ready_s, "s")
        assert product.starting, "it said what was starting"
        with product.http() as http:
            parts = http.get("/system/info").json()["parts"]
            assert (parts["database"], parts["cameras"]) == ("running", "off")
            until(lambda: http.get("/health/ready").json()["starting"] == [], 120.0)
            assert http.get("/system/info").json()["parts"]["street headway"] == "running"

            ordered = {"controller": "greedy"}
            # between two runs no order is taken
            until(lambda: http.post(f"{STREET}/controller", json=ordered).is_success)
            until(lambda: events(product, "engine.controller"), 60.0)
            begun = len(events(product, "engine.started"))
            until(lambda: len(events(product, "engine.started")) >= begun + 2, 120.0)
            started = events(product, "engine.started")[begun:]
            assert {e["data"]["controller"] for e in started} == {"greedy"}
    with serve(*arguments, folder=folder) as product, product.http() as http:
        until(lambda: state(http)["started"], 120.0)
        assert state(http)["controller"] == "greedy"
        last = (events(product, "engine.started") + events(product, "engine.restored"))[-1]
        assert last["data"]["controller"] == "greedy"


@pytest.mark.row("A17")
def test_a17_one_file_of_settings_is_checked_followed_and_knows_its_environment(
    serve, headway, tmp_path, monkeypatch
):
    """`headway serve --config FILE`: sections `safety`, `sumo`, `planner`, `q_learning` and more;
    a change is in force within seconds, a fault is told once and changes nothing. `environment:
    production` refuses to start unsafely; `ENVIRONMENT`, `SECRET_KEY`, `DATABASE_URL` are taken.
    """
    config = tmp_path / "h.yaml"

    def refused(text, **variables):
        config.write_text(text)
        call = ("serve", "--port", "0", "--data", str(tmp_path / "none"), "--config", str(config))
        done = headway(*call, **variables)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        return done.stderr

    assert "loop.tik_s: unknown key. Known here: cycle_s, " in refused("loop: {tik_s: 1}")
    assert "q_learning.reward.x: unknown key" in refused("q_learning: {reward: {x: 1}}")
    rule = "{name: r, path: junctions.*.speed, threshold: 1}"
    assert "there is no 'junctions.*.speed'" in refused(f"alerts: {{rules: [{rule}]}}")
    assert "There are: " in refused("alerts: {system: [{name: r, path: cpu, threshold: 1}]}")
    said = refused("log: {level: debug}", ENVIRONMENT="production", SECRET_KEY="changeme" * 5)
    for fault in ("production needs https", "log.level is debug", "SECRET_KEY has fewer than 10"):
        assert fault in said
    assert "the variable ENVIRONMENT: environment: 'x'" in refused("", ENVIRONMENT="x")

    good = "loop: {cycle_s: 20, speed_factor: 5}\nplanner: {patience_s: 40}\n"
    config.write_text(good)
    with (
        serve(*ARGUMENTS, "--config", str(config)) as product,
        product.http() as http,
    ):
        until(lambda: state(http)["started"], 120.0)

        def write(text):
            config.write_text(text)
            return len(events(product, "engine.settings_refused"))

        for rubbish in ("loop: [", "planner: {patience_s: -1}", "a: 1", "\x00" * 100, "[" * 9999):
            before = write(rubbish)
            until(lambda b=before: len(events(product, "engine.settings_refused")) == b + 1)
        assert product.is_ready()
        assert not events(product, "engine.settings")
        write(good.replace("cycle_s: 20", "cycle_s: 10").replace("40", "30"))
        until(lambda: events(product, "engine.settings"))
        (applied,) = events(product, "engine.settings")
        assert applied["data"]["changed"] == ["loop", "planner"]
        refusals = len(events(product, "engine.settings_refused"))
        time.sleep(1.5)
        assert len(events(product, "engine.settings_refused")) == refusals, "each is told once"


@pytest.mark.row("A18")
def test_a18_what_is_measured_logged_and_alerted(serve, tmp_path, figures):
    """`/metrics` and `GET monitoring/system`: cycle success rate; processor, memory and disk of the
    machine and of every process. `log: {folder: DIR}`: a file for each component. Alerts
    (`alerts: {system: [...]}`) reach webhook and e-mail when they open and when they have passed.
    """
    logs = tmp_path / "logs"
    config = tmp_path / "h.yaml"
    with receivers() as (hook, hooked, mail, mailed):
        settings = {
            "log": {"folder": str(logs)},
            "loop": {"cycle_s": 5.0},
            "notify": {
                "webhooks": [{"url": hook, "secret": "kV3w9QzR7mX2bN8cL5tY1uA6sD4fG0hJ"}],
                "mail": {
                    "host": "127.0.0.1", "port": mail, "sender": "a@example.org",
                    "to": ["duty@example.org"], "security": "none",
                },
            },
            "alerts": {"system": [HUNGRY]},
        }  # fmt: skip
        config.write_text(json.dumps(settings))
        with (
            serve(*ARGUMENTS, "--config", str(config)) as product,
            product.http() as http,
        ):
            until(lambda: state(http).get("cycle_success_rate"), 120.0)
            assert state(http)["cycle_success_rate"] == 1.0
            http.post("/api/v1/ingest/simulation", json=EXAMPLE).raise_for_status()

            found = http.get("/api/v1/monitoring/system").json()
            assert {"server", "headway"} <= set(found["processes"])
            assert all(p["memory_bytes"] > 1e6 for p in found["processes"].values())
            shown = (
                'headway_cycle_success_rate{street="headway"} 1.0',
                'headway_process{figure="memory_bytes",process="headway"}',
                'headway_machine{figure="cpu_share"}',
                'headway_machine{figure="disk_share"}',
            )
            until(lambda: all(line in http.get("/metrics").text for line in shown))

            until(lambda: len(hooked) == 1 and len(mailed) == 1)
            calm = {**settings, "alerts": {"system": [HUNGRY | {"threshold": 1e15}]}}
            config.write_text(json.dumps(calm))
            until(lambda: len(hooked) == 2 and len(mailed) == 2)
            assert [n["kind"] for n in hooked] == ["alert.opened", "alert.closed"]
            assert {n["data"]["rule"] for n in hooked} == {"hungry"}
            assert ["alert.opened" in m for m in mailed] == [True, False]
        lines = {
            path.relative_to(logs).as_posix(): list(map(json.loads, path.read_text().splitlines()))
            for path in logs.rglob("*.log")
        }
        words = {name: {line["event"] for line in found} for name, found in lines.items()}
        assert {"serving"} <= words["cli.log"]
        assert {"started", "processing simulation data"} <= words["api.log"]
        assert {"database opened"} <= words["store.log"]
        assert {"alert.opened", "alert.closed", "settings changed"} <= words["engine.log"]
        assert {"engine.started", "optimisation cycles"} <= words["headway/street.log"]
        (taken,) = [x for x in lines["api.log"] if x["event"] == "processing simulation data"]
        assert (taken["simulation_id"], taken["records"]) == (EXAMPLE["simulation_id"], 1)


HUNGRY = {"name": "hungry", "path": "processes.server.memory_bytes", "threshold": 1.0}


@contextlib.contextmanager
def receivers():
    """A web address and a mail server of one's own: (address, notes, port, messages)."""
    hooked, mailed = [], []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            hooked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    class Box:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802
            mailed.append(envelope.content.decode())
            return "250 OK"

    web = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    port = free_port()
    mail = Controller(Box(), hostname="127.0.0.1", port=port)
    mail.start()
    try:
        yield f"http://127.0.0.1:{web.server_port}/hook", hooked, port, mailed
    finally:
        mail.stop()
        web.shutdown()
        web.server_close()
