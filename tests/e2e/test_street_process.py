"""Stories of the street process: killed, hung, stopped, resumed; nothing lost that was recorded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from tests.street.hanging import HANGS_AT_S, work_and_hang

from headway.plants.sumo.scenarios import scenario
from headway.runtime.supervisor import Restarted, Supervisor, WorkerError
from headway.safety import Order, Override
from headway.settings import Settings, load, overridden
from headway.street.engine import Engine
from headway.street.event_log import read
from headway.street.messages import RunEnded, Snapshot, Switch, Task
from headway.values import Event

pytestmark = pytest.mark.slow


def settings(folder, **sections) -> Settings:
    street = {"scenario": "cologne1", "timing": "benchmark"} | sections.get("street", {})
    recovery = {"folder": str(folder), "checkpoint_s": 60.0, "silent_s": 3.0} | sections.get(
        "recovery", {}
    )
    return Settings.model_validate(
        {
            "street": street,
            "recovery": recovery,
            "loop": sections.get("loop", {}),
            "control": sections.get("control", {}),
        }
    )


def play(engine, on_snapshot=lambda _: None):
    messages = []
    for message in engine.messages():
        messages.append(message)
        if isinstance(message, Snapshot):
            on_snapshot(message)
    return messages


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_worker_that_dies_or_hangs_resumes_from_the_checkpoint_with_the_ordered_controller(
    tmp_path, blow
):
    engine = Engine(Task(settings(tmp_path, loop={"speed_factor": 300.0}), until_s=25200.0 + 480))
    ordered, struck = [], []

    def strike(snapshot):
        if not ordered:
            ordered.append(engine.order(Switch(controller="greedy")))
        elif not struck and snapshot.checkpoint_s > 25200 + 100:
            struck.append(snapshot)
            os.kill(engine.pid, blow)

    messages = play(engine, strike)
    why = "ended by signal SIGKILL" if blow is signal.SIGKILL else "silent for 3.0 s, stopped"
    assert [m.why for m in messages if isinstance(m, Restarted)] == [why]
    assert isinstance(messages[-1], RunEnded)
    assert messages[-1].finished
    events = read(tmp_path / "events.jsonl")
    (restored,) = [e for e in events if e.kind == "engine.restored"]
    # what was told last may be older than the checkpoint written just before the blow: by one, at
    # most
    assert -61 <= struck[0].time_s - restored.data["checkpoint_s"] <= 61
    assert restored.data["controller"] == "greedy"
    assert {e.at_s for e in events if e.kind == "engine.cycle"} >= {
        25200.0 + 30 * k for k in range(1, 16)
    }, "no cycle is missing in the record"


def test_a_run_asked_to_stop_resumes_where_it_was(tmp_path):
    engine = Engine(Task(settings(tmp_path, loop={"speed_factor": 200.0}), until_s=25200.0 + 600))
    messages = play(engine, lambda s: s.time_s > 25200 + 50 and engine.stop())
    stopped = messages[-1]
    assert isinstance(stopped, RunEnded)
    assert not stopped.finished
    again = play(Engine(Task(settings(tmp_path), until_s=25200.0 + 600)))
    assert next(m for m in again if isinstance(m, Event)).data["checkpoint_s"] == stopped.time_s
    assert again[-1].finished


def test_the_command_survives_its_own_death_by_kill_9(tmp_path):
    command = [
        sys.executable,
        "-m",
        "headway",
        "run",
        "--scenario",
        "cologne1",
        "--until",
        "26000",
        "--speed-factor",
        "150",
        "--data",
        str(tmp_path),
    ]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("checkpoints/*/[0-9]*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    first.kill()
    first.wait()
    first.stderr.close()
    size = -1
    while size != (
        size := (tmp_path / "events.jsonl").stat().st_size
    ):  # the orphaned street process ends by itself; it writes five times a second
        time.sleep(0.8)
    assert (
        subprocess.run(
            [*command[:-3], "0", *command[-2:]], stdout=subprocess.DEVNULL, timeout=200, check=False
        ).returncode
        == 0
    )
    kinds = [e.kind for e in read(tmp_path / "events.jsonl")]
    assert kinds.count("engine.started") == 1
    assert kinds.count("engine.restored") == 1


def test_orders_are_taken_between_ticks_or_refused_and_a_scenario_can_be_switched_while_running(
    tmp_path,
):
    engine = Engine(Task(settings(tmp_path, loop={"speed_factor": 200.0}), until_s=57700.0))
    sent = []

    def order(snapshot):
        if not sent and snapshot.time_s > 25220:
            sent.append(snapshot.time_s)
            for wrong in (
                Switch(scenario="nowhere"),
                Switch(controller="magic"),
                Override(99, Order.HOLD, 1e9, "operator"),
                "what?",
            ):
                engine.order(wrong)
            engine.order(Override(0, Order.HOLD, snapshot.time_s + 30, "operator"))
            engine.order(Switch(controller="greedy"))
            engine.order(Switch(scenario="ingolstadt1"))

    messages = play(engine, order)
    assert messages[-1].finished
    assert messages[-1].time_s == 57700.0
    assert not [m for m in messages if isinstance(m, Restarted)]
    events = read(tmp_path / "events.jsonl")
    assert [(e.kind, e.data["controller"])
        for e in events if e.kind in ("engine.started", "engine.controller")] == [
        ("engine.started", "planner"), ("engine.controller", "greedy"), ("engine.started", "greedy")
    ]  # fmt: skip
    switched = [
        e for e in events if e.kind in ("safety.override", "engine.controller", "engine.scenario")
    ]
    assert [e.kind for e in switched if e.kind.startswith("engine.")] == [
        "engine.controller",
        "engine.scenario",
    ], "in the order in which they were given"
    assert all(e.at_s >= sent[0] and e.at_s % 1.0 == 0.0 for e in switched), (
        "between two ticks, which may not be the same two for all"
    )
    assert [(e.at_s, e.data["scenario"]) for e in events if e.kind == "engine.started"] == [
        (25200.0, "cologne1"),
        (57600.0, "ingolstadt1"),
    ]
    refused = [e.data["why"] for e in events if e.kind == "engine.order_refused"]
    for why, begin in zip(
        refused,
        (
            "no scenario 'nowhere'",
            "settings: control.controller: 'magic'",
            "no junction 99; there are 1",
            "no order of the kind str",
        ),
        strict=True,
    ):
        assert why.startswith(begin)


def test_a_switch_to_a_scenario_that_does_not_start_leads_back_to_the_one_before(tmp_path):
    config, routes = tmp_path / "broken.sumocfg", tmp_path / "broken.rou.xml"
    routes.write_text('<routes><trip id="a" depart="0" from="nowhere" to="nowhere"/></routes>')
    net = scenario("cologne1").net
    config.write_text(
        f'<configuration><input><net-file value="{net}"/><route-files '
        f'value="{routes}"/></input><time><begin value="0"/><end '
        'value="99"/></time></configuration>'
    )
    engine = Engine(
        Task(
            settings(tmp_path, loop={"speed_factor": 200.0}, recovery={"checkpoint_s": 900.0}),
            until_s=25200.0 + 300,
        )
    )
    sent = []

    def order(snapshot):
        if not sent and snapshot.time_s > 25220:
            sent.append(engine.order(Switch(scenario=str(config))))

    messages = play(engine, order)
    assert messages[-1].finished
    assert messages[-1].time_s == 25500.0
    (restarted,) = (m for m in messages if isinstance(m, Restarted))
    assert restarted.why.startswith(
        f"ended with status 1, RuntimeError: scenario {str(config)!r} does not start: "
    )
    events = read(tmp_path / "events.jsonl")
    kinds = ("engine.started", "engine.scenario", "engine.restored")
    assert [(e.kind, e.data.get("scenario")) for e in events if e.kind in kinds] == [
        ("engine.started", "cologne1"),
        ("engine.scenario", str(config)),
        ("engine.restored", "cologne1"),
    ], "from the checkpoint that was written before the switch"


def test_settings_are_followed_while_running_and_faulty_ones_change_nothing(tmp_path):
    path, faulty = tmp_path / "headway.yaml", "control: {controller: magic}"
    path.write_text("loop: {speed_factor: 200}\ncontrol: {controller: planner}\n")
    changes = {
        "street": {"scenario": "cologne1", "timing": "benchmark"},
        "recovery": {"folder": str(tmp_path)},
    }
    engine = Engine(Task(overridden(load(path), changes), 25200.0 + 3000, str(path), changes))
    written, log = [], tmp_path / "events.jsonl"

    def edit(snapshot):
        if not written and snapshot.time_s > 25200 + 50:
            written.append(path.write_text(faulty))
        elif len(written) == 1 and "engine.settings_refused" in log.read_text():
            written.append(
                path.write_text(
                    "loop: {speed_factor: 0}\ncontrol: {controller: webster, fallback: fixed}\n"
                )
            )

    assert play(engine, edit)[-1].finished
    events = read(tmp_path / "events.jsonl")
    refused = [e for e in events if e.kind == "engine.settings_refused"]
    assert len(refused) == 1
    assert "magic" in refused[0].data["fault"]
    followed = [e.data for e in events if e.kind == "engine.settings"]
    assert followed == [{"changed": ["loop", "control"], "controller": "webster"}]


def test_a_worker_that_always_fails_is_given_up_with_a_reason(tmp_path):
    faulty = settings(tmp_path, recovery={"restarts": 1}).model_copy(
        update={"street": settings(tmp_path).street.model_copy(update={"scenario": "nowhere"})}
    )
    with pytest.raises(WorkerError, match="failed 2 times in a row"):
        play(Engine(Task(faulty)))


@pytest.mark.slow
def test_a_step_that_never_ends_costs_one_restart_and_the_fallback_goes_on(tmp_path):
    """The parent hears nothing, ends the process, and the next one does not ask who hung."""

    def supervise(_, *asked, **more):
        return Supervisor(work_and_hang, *asked, **more)

    task = Task(
        settings(
            tmp_path,
            street={"scenario": "cologne1"},
            control={"controller": "max-pressure"},
            recovery={"folder": str(tmp_path), "checkpoint_s": 10.0, "silent_s": 2.0},
        ),
        until_s=HANGS_AT_S + 60.0,
    )
    messages = list(Engine(task, supervise).messages())
    (restarted,) = [m for m in messages if isinstance(m, Restarted)]
    assert restarted.why == "silent for 2.0 s"
    assert messages[-1] == RunEnded(HANGS_AT_S + 60.0, finished=True)
    events = [m for m in messages if isinstance(m, Event)]
    (hung,) = [e for e in events if e.kind == "engine.controller_hung"]
    assert (hung.at_s, hung.data["controller"]) == (HANGS_AT_S, "max-pressure")
    sources = [(e.data["from"], e.data["to"]) for e in events if e.kind == "safety.source"]
    assert sources == [("controller", "fallback")]
    assert not (tmp_path / "hung.json").exists(), "the run is finished"
