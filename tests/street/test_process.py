"""The body of the street process, run in this process on a street of a minute:
what it records, publishes and keeps, order by order.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import logging
import pickle
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import libsumo
import numpy as np
import pytest
import sumo
from tests.ports import free_port
from tests.street.builders import MadePlant, Says, named, street_of, two_junctions, vehicles

from headway.control.fixed import FixedTime
from headway.control.models import ModelFile
from headway.control.planner import Planner
from headway.control.qtable import QTable
from headway.plants import PlantAwayError
from headway.plants.sumo import SumoPlant, SumoSettings
from headway.plants.sumo import read_network as read_sumo_network
from headway.plants.sumo.scenarios import demand_of
from headway.plants.sumo.scenarios import scenario as find_scenario
from headway.runtime import NumericalStabilityMonitor, RealTimeController, StoppedError
from headway.runtime.monitor import AlertRule, Level
from headway.runtime.supervisor import Opening
from headway.safety import Order, Override
from headway.settings import RuleSettings, Settings
from headway.street import checkpoint
from headway.street import process as process_module
from headway.street import run as run_module
from headway.street.alerts import alert_rules
from headway.street.event_log import read
from headway.street.external.merge import Reported, SourceRows
from headway.street.external.places import Places
from headway.street.external.rows import ObservationRow, ObservedEmergency
from headway.street.guard import HUNG
from headway.street.messages import (
    AtJunction,
    CanaryBounds,
    ChangeRule,
    Deploy,
    Identified,
    JunctionState,
    Optimise,
    Pause,
    Release,
    Reporting,
    Reset,
    Rollback,
    RunEnded,
    SignalChanges,
    Snapshot,
    Switch,
    Task,
    Waiting,
)
from headway.street.opening import open_street
from headway.street.orders import AppliedSettings, OrderStore
from headway.street.process import ProcessState, StreetProcess, work
from headway.street.run import LIMITS
from headway.street.step_mark import hung, set_hung
from headway.values import Event


class Inbox:
    """Hands out the orders of a turn before its tick: turn k is the tick that begins k seconds
    after the start. A function is called in passing.
    """

    def __init__(self, orders):
        self.orders, self.turn = {turn: list(these) for turn, these in orders.items()}, 0

    def poll(self, timeout_s):
        waiting = self.orders.get(self.turn, [])
        while waiting and callable(waiting[0]):
            waiting.pop(0)()
        self.turn += not waiting
        return bool(waiting)

    def recv(self):
        return self.orders[self.turn].pop(0)


class Mailbox:
    """At the pace of real time: each order comes at a wall time;
    while one is waited for, that time goes by.
    """

    def __init__(self, *orders):
        self.orders, self.wall, self.obeyed = list(orders), None, []

    def poll(self, timeout_s):
        at_s = self.orders[0][0] if self.orders else float("inf")
        arrives = at_s <= self.wall.now + timeout_s
        self.wall.now = max(self.wall.now, min(at_s, self.wall.now + timeout_s))
        return arrives

    def recv(self):
        self.obeyed.append(self.wall.now)
        return self.orders.pop(0)[1]


class Changing(Mailbox):
    """No orders; something else happens at a wall time."""

    def __init__(self, at_s, happens):
        super().__init__()
        self.at_s, self.happens = at_s, happens

    def poll(self, timeout_s):
        if self.wall.now >= self.at_s:
            self.at_s = float("inf")
            self.happens()
        return super().poll(timeout_s)


class Outbox:
    def __init__(self):
        self.sent, self.lost = [], 0

    def put(self, message, keep=False):
        self.sent.append((message, keep))


class WallTime:
    """Goes on by `step_s` whenever somebody looks at it, and by what somebody sleeps."""

    def __init__(self, step_s):
        self.step_s, self.now = step_s, 0.0

    def look(self):
        self.now += self.step_s
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Played:
    """What came of it."""

    def __init__(self, folder):
        self.folder, self.sent, self.runs, self.loops = folder, [], [], []

    def of(self, kind):
        return [m for m, _ in self.sent if isinstance(m, kind)]

    def events(self, *kinds):
        return [(e.at_s, e.kind, dict(e.data)) for e in self.of(Event) if e.kind in kinds]


@pytest.fixture
def play(tmp_path, tiny):
    """Run a street process to its end. Wall time goes on by `wall_s` whenever the loop reads it:
    with half a second, each tick is published.
    """

    def run(
        orders=None,
        wall_s=0.5,
        until_s=float("inf"),
        folder=tmp_path,
        path="",
        changes=None,
        expect=None,
        open_street=open_street,
        repeats=False,
        **sections,
    ):
        played = Played(folder)
        wall = played.wall = WallTime(wall_s)

        def loop(driven, settings, report, recovery):
            made = RealTimeController(
                driven, settings, report, recovery, clock=wall.look, sleep=wall.sleep
            )
            played.runs.append(driven)
            played.loops.append(made)
            return made

        tree = {
            "street": {"scenario": tiny, "timing": "benchmark"} | sections.pop("street", {}),
            "control": {"controller": "fixed", "fallback": "fixed"} | sections.pop("control", {}),
            "recovery": {"folder": str(folder)} | sections.pop("recovery", {}),
            "alerts": {"rules": []} | sections.pop("alerts", {}),
        }
        task = Task(Settings.model_validate(tree | sections), until_s, str(path), changes or {})
        task = replace(task, repeats=repeats)
        outbox, inbox = Outbox(), orders
        if isinstance(orders, Mailbox):
            orders.wall = wall
        else:
            inbox = Inbox(orders(played) if callable(orders) else orders or {})
        process = played.process = StreetProcess(outbox, inbox, task, loop, open_street)
        process.open()
        if expect is None:
            process.run_to_end()
        else:
            with pytest.raises(expect) as caught:
                process.run_to_end()
            played.error = caught.value
        assert not libsumo.isLoaded(), "SUMO is closed, however it ends"
        played.sent = outbox.sent
        return played

    return run


def test_objects_of_the_start_are_excluded_from_garbage_collection(tmp_path, tiny, monkeypatch):
    """The collector's work is in no tick: decision 12."""
    frozen = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(libsumo.isLoaded()))
    tree = {"street": {"scenario": tiny}, "recovery": {"folder": str(tmp_path)}}
    outbox = Outbox()
    work(outbox, Inbox({0: [None]}), Task(Settings.model_validate(tree)))
    assert frozen == [True], "once, with the street open"
    assert outbox.sent[-1] == (RunEnded(100.0, False), True)


def key_of(config, name="tiny ", controller="fixed"):
    """Of a run of the scenario of that path; of its task without a name."""
    about = "seed 1 scale 1.0 timing benchmark sensing connected"
    task = f"{name}{config} {about} controller {controller}"
    if not name:
        return task
    there = find_scenario(config)
    own = hashlib.sha256()
    for file in (config, there.net, *there.routes, *there.additional):
        own.update(hashlib.sha256(Path(file).read_bytes()).digest())
    return f"{task} files {own.hexdigest()[:12]}"


def kept_in(folder):
    """Names of the checkpoints of each run, by the folders of the runs."""
    runs = sorted((folder / "checkpoints").iterdir())
    return [sorted(p.name for p in run.iterdir()) for run in runs]


# --- to the end ---------------------------------------------------------------------------------


@pytest.fixture
def whole(play):
    """One run from begin to end, looked at from its second tick on."""
    return play({1: [Reporting(scene=True, record=True)]}, recovery={"checkpoint_s": 20.0})


def test_a_run_begins_with_its_event_and_ends_with_its_last_snapshot_and_done(
    whole, tiny, crossing
):
    key = key_of(tiny)
    assert whole.events("engine.started") == [
        (
            100.0,
            "engine.started",
            {
                "run": key,
                "scenario": "tiny",
                "demand": demand_of(find_scenario(tiny)),
                "net": str(crossing),
                "controller": "fixed",
            },
        )
    ]
    assert isinstance(whole.sent[0][0], Event)
    (last, last_kept), (done, done_kept) = whole.sent[-2:]
    assert (done, done_kept) == (RunEnded(160.0, True), True)
    assert isinstance(last, Snapshot)
    assert (last.time_s, last_kept) == (160.0, True)
    assert len(last.junctions) == 1
    assert {kept for m, kept in whole.sent if isinstance(m, Event | SignalChanges)} == {True}
    assert {kept for m, kept in whole.sent[:-2] if isinstance(m, Snapshot)} == {False}


def test_all_published_events_are_logged_and_a_finished_run_leaves_no_checkpoint(whole):
    assert read(whole.folder / "events.jsonl") == [
        Event(e.at_s, e.kind, e.junction, dict(e.data)) for e in whole.of(Event)
    ]
    assert [at_s for at_s, *_ in whole.events("engine.cycle")] == [130.0]
    assert [p.name for p in whole.folder.iterdir()] == ["events.jsonl"]
    assert whole.process.state is ProcessState.FINISHED


def test_each_tick_has_a_snapshot_with_the_time_and_the_last_checkpoint(whole):
    reported = [(s.time_s, s.checkpoint_s) for s in whole.of(Snapshot)]
    assert reported == [
        *((float(t), 140.0 if t >= 140 else 120.0 if t >= 120 else 100.0) for t in range(101, 160)),
        (160.0, 160.0),
        (160.0, 160.0),
    ]
    assert {(s.begin_s, s.end_s, s.source, s.mode, s.controller) for s in whole.of(Snapshot)} == {
        (100.0, 160.0, "controller", "balanced", "fixed")
    }
    assert {s.time_s: s.cycles for s in whole.of(Snapshot)} == {
        float(t): int(t > 130) for t in range(101, 161)
    }
    assert {s.trouble for s in whole.of(Snapshot)} == {""}
    advance = [s.profile["section.advance.calls"] for s in whole.of(Snapshot)]
    assert advance == [*map(float, range(1, 61)), 60.0]


def before_the_line(scene):
    """Rows of a scene that have not passed their stop line:
    from the north y falls to 7.2 m, from the west x rises to -7.2 m.
    """
    return (scene.at_m[:, 1] > 7.2) | (scene.at_m[:, 0] < -7.2)


def test_vehicles_and_stopped_vehicles_are_those_before_the_line_in_the_scene_a_second_earlier(
    whole,
):
    looked = [s for s in whole.of(Snapshot) if s.scene is not None]
    assert [s.time_s for s in looked] == [*map(float, range(102, 161)), 160.0]
    for before, after in itertools.pairwise(looked[:-1]):
        there = before_the_line(before.scene)
        standing = there & (before.scene.speed_mps < 0.1)
        assert (after.vehicles, after.stopped) == (there.sum(), standing.sum())
        (junction,) = after.junctions
        assert (junction.junction, junction.at_s, junction.vehicles, junction.stopped) == (
            "C",
            before.time_s,
            there.sum(),
            standing.sum(),
        )
    assert max(s.stopped for s in looked) >= 4, "a queue has stood"
    assert max(s.vehicles - s.stopped for s in looked) >= 2, "and not all of them have"


def test_published_signal_changes_match_the_snapshots(whole):
    """The street shows red to all for the 3 s of the first clearance, then the programme of 42, 3,
    42, 3 s from time nought: 100 is 10 s into it.
    """
    expected = {103: [4, 1, 4, 1], 132: [2, 1, 2, 1], 135: [1, 4, 1, 4]}
    changes = [
        (at_s, group, colour) for m in whole.of(SignalChanges) for at_s, group, colour in m.changes
    ]
    reported, shown = [], [1, 1, 1, 1]
    for at_s, colours in expected.items():
        reported += [(float(at_s), g, c) for g, c in enumerate(colours) if c != shown[g]]
        shown = colours
    assert changes == reported
    for s in whole.of(Snapshot):
        assert list(s.shown) == next(
            (c for t, c in reversed(expected.items()) if s.time_s > t), [1, 1, 1, 1]
        )
        (junction,) = s.junctions
        assert list(junction.green) == [g for g, c in enumerate(s.shown) if c == 4]


def test_actuations_follow_the_vehicles_of_the_scene_at_the_stop_lines(whole):
    """A vehicle is within 6 m of its line, in the scene of that second."""
    actuations = [a for m in whole.of(SignalChanges) for a in m.actuations]
    assert [a[0] for a in actuations] == sorted(a[0] for a in actuations)
    on = {}
    for at_s, group, there in actuations:
        on.setdefault(group, []).append((at_s, there))
    assert set(on) == {0, 3}
    for s in whole.of(Snapshot):
        if s.scene is None or s.time_s >= 160.0:
            continue
        x, y = s.scene.at_m[:, 0], s.scene.at_m[:, 1]
        near = {0: ((y >= 7.2) & (y <= 13.2)).any(), 3: ((x <= -7.2) & (x >= -13.2)).any()}
        for group, rows in on.items():
            state = next((there for at_s, there in reversed(rows) if at_s <= s.time_s), False)
            assert state == near[group], (s.time_s, group)


def test_emissions_are_reported_every_five_seconds_where_they_are_recorded(play):
    """SUMO itself is asked, in the same instant."""

    def ask():
        vehicle = libsumo.vehicle
        ids = vehicle.getIDList()
        asked[libsumo.simulation.getTime()] = (
            len(ids), sum(vehicle.getFuelConsumption(v) for v in ids),
            sum(vehicle.getCO2Emission(v) for v in ids)
        )  # fmt: skip

    asked = {}
    played = play({1: [Reporting(False, True)]} | {t: [ask] for t in range(2, 60)})
    found = {s.time_s: s.emission for s in played.of(Snapshot) if s.emission is not None}
    assert list(found) == [102.0 + 5.0 * k for k in range(12)]
    for at_s, emission in found.items():
        assert emission == pytest.approx(asked[at_s])


def test_the_time_of_a_tick_is_the_mean_over_the_last_hundred(play, scenario_of):
    """Each look at the clock takes a millisecond:
    5 parts a tick, 2 more looks in a cycle, which is every 50 s.
    """
    looks = itertools.count()
    timed = partial(open_street, clock=lambda: next(looks) * 1e-3)
    scenario = str(scenario_of("long", 0, 130, [("a", 1, "N", "S")]))
    reported = {
        s.time_s: s.tick_ms
        for s in play(street={"scenario": scenario}, loop={"cycle_s": 50.0}, open_street=timed).of(
            Snapshot
        )
    }
    assert reported[1.0] == pytest.approx(5.0)
    assert reported[60.0] == pytest.approx(5.0 + 2.0 / 60)
    assert reported[130.0] == pytest.approx(5.0 + 2.0 * 2 / 100), (
        "ticks 30 to 129: cycles at 50 and 100"
    )


def test_the_gates_interventions_are_counted(play):
    played = play({5: [Override(0, Order.HOLD, 110.0, "operator")]})
    reported = {s.time_s: s.interventions for s in played.of(Snapshot)}
    assert [e.kind for e in played.of(Event) if e.kind.startswith("safety.")] == [
        "safety.override",
        "safety.override_expired",
    ]
    assert reported == {float(t): int(t > 105) + int(t > 110) for t in range(101, 161)}


def test_a_scenario_without_end_ends_with_its_last_vehicle_or_at_the_given_time(play, scenario_of):
    scenario = str(scenario_of("open", 0, "", [("a", 3, "N", "S")]))
    done = play(street={"scenario": scenario}).of(RunEnded)[0]
    assert done.finished
    assert 20.0 < done.time_s < 90.0, "300 m at 13.9 m/s, and at most one red of 45 s"
    assert play(street={"scenario": scenario}, until_s=150.0).of(RunEnded) == [
        RunEnded(150.0, True)
    ], "a time that is given is waited for"


def test_vehicles_slower_than_a_tenth_of_a_metre_a_second_are_stopped(play):
    """On a street made by hand: (link, metres, m/s, seconds waited)."""

    def made(**asked):
        plant = MadePlant(two_junctions())
        plant.vehicles = vehicles(
            (0, 9.0, 0.0999, 3.0),
            (1, 9.0, 0.1, 0.0),
            (2, 9.0, 0.5, 0.0),
            (6, 9.0, 0.0, 70.0),
            (3, 9.0, 7.0, 4.0),
        )
        return street_of(plant, Says(), Says("second"))[0]

    def look():
        state, figures = played.runs[0].state(), played.runs[0].figures()
        looked.append(
            (
                state["vehicles"],
                (state["stopped"], state["halted"]),  # and its old name
                state["source"],
                state["time_s"],
                figures,
                state["junctions"],
                state["states"],
            )
        )

    played = looked = None

    def orders(made_run):
        nonlocal played, looked
        played, looked = made_run, []
        return {2: [look, Reporting(True, True)]}

    reported = play(orders, until_s=103.0, open_street=made)
    ((vehicles_there, halted, source, time_s, figures, junctions, board),) = looked
    assert (vehicles_there, halted, source, time_s) == (5, (2, 2), "controller", 102.0)
    assert figures == {"vehicles": 5.0, "speed_mps": 7.0, "longest_wait_s": 70.0}
    assert junctions == {
        "A": {"vehicles": 3, "queue": 1, "longest_wait_s": 3.0, "confidence": 1.0,
            "congested": 0},
        "B": {"vehicles": 1, "queue": 0, "longest_wait_s": 4.0, "confidence": 1.0,
            "congested": 0},
    }  # fmt: skip
    assert [(s.junction, s.at_s, s.vehicles, s.stopped, s.longest_wait_s) for s in board] == [
        ("A", 101.0, 3, 1, 3.0),
        ("B", 101.0, 1, 0, 4.0),
    ]
    assert [(s.green, s.confidence, s.congested) for s in board] == [((0,), 1.0, ())] * 2
    assert [s.factors for s in board] == [{"completeness": 1.0, "freshness": 1.0}] * 2
    last = reported.of(Snapshot)[-1]
    assert (last.vehicles, last.stopped, last.scene, reported.of(Snapshot)[-2].emission) == (
        5,
        2,
        "scene at 103.0",
        (5, 2.5, 103.0),
    )


@pytest.mark.parametrize(
    ("until_s", "end_s"), [(130.0, 130.0), (1e9, 160.0), (100.0, 100.0), (101.0 + 1e-7, 101.0)]
)
def test_a_run_ends_at_the_earlier_of_both_ends(play, until_s, end_s):
    assert play(until_s=until_s).of(RunEnded) == [RunEnded(end_s, True)]


def test_all_ticks_of_a_period_are_executed(play):
    def orders(played):
        def advance():
            run = played.runs[-1]
            for period_s, seconds in ((3.0, 3.0), (0.2, 1.0), (1.6, 2.0), (1.0, 1.0)):
                before = run.time_s
                run.advance(period_s, 0.0)
                times.append((run.time_s - before, seconds))

        return {2: [advance]}

    times = []
    play(orders)
    assert [gone for gone, _ in times] == [wanted for _, wanted in times]
    assert len(times) == 4


def test_events_are_on_the_disk_after_each_tick(play, tmp_path):
    kinds = []
    look = lambda: kinds.append([e.kind for e in read(tmp_path / "events.jsonl")])  # noqa: E731
    play({0: [look], 2: [Switch(controller="greedy")], 3: [look]})
    assert kinds == [["engine.started"], ["engine.started", "engine.controller"]]


def test_an_unwritable_event_log_is_reported_and_the_street_continues(play, tmp_path):
    (tmp_path / "events.jsonl").mkdir()
    played = play(until_s=103.0)
    assert {s.trouble for s in played.of(Snapshot)} == {
        f"{tmp_path / 'events.jsonl'}: Is a directory"
    }
    assert played.of(RunEnded) == [RunEnded(103.0, True)]


def test_the_loop_follows_the_settings(play):
    loop = {
        "speed_factor": 50.0,
        "overrun": "skip",
        "mode": "accuracy",
        "tick_s": 1.0,
        "cycle_s": 20.0,
    }
    played = play(
        until_s=101.0,
        loop=loop,
        recovery={"checkpoint_s": 17.0},
        control={"confidence": 0.3, "fallback": "actuated"},
    )
    made, run = played.loops[0].settings, played.runs[0]
    assert (
        made.period_s,
        made.speed_factor,
        made.overrun,
        made.mode,
        made.gather,
        made.checkpoint_s,
    ) == (1.0, 50.0, "skip", "accuracy", False, 17.0)
    assert (made.limits, made.rules) == (LIMITS, ())
    assert (
        run.street.cycle_s,
        run.street.trust.threshold,
        run.street.fallback.name,
        run.tick_s,
    ) == (
        20.0,
        0.3,
        "actuated",
        1.0,
    )
    assert played.of(Snapshot)[0].mode == "accuracy"


def test_snapshots_are_published_ten_times_a_second_of_wall_time(play):
    played = play(wall_s=0.005, loop={"mode": "accuracy"})
    reported = len(played.of(Snapshot)) - 1
    assert reported == pytest.approx(10.0 * played.wall.now, abs=0.6)
    assert 10 < reported < 30


def test_seed_scale_and_sensing_reach_the_simulation(play, monkeypatch):
    asked = []
    as_it_is = run_module.SumoSettings
    monkeypatch.setattr(
        run_module, "SumoSettings", lambda *a, **k: asked.append((a[1:], k)) or as_it_is(*a, **k)
    )
    play(until_s=101.0, street={"seed": 7, "scale": 2.0, "sensing": "loops"})
    ((given, more),) = asked
    assert (given, more["sensing"], more["extra"]) == ((7, 2.0), "loops", ())


def test_logs_name_the_event_its_time_and_its_place_by_component(play, tmp_path):
    folder = tmp_path / "logs"
    play(
        {1: [Override(0, Order.HOLD, 110.0, "operator")]},
        until_s=103.0,
        log={"level": "debug", "json_lines": True, "folder": str(folder)},
    )
    safety = [json.loads(line) for line in (folder / "safety.log").read_text().splitlines()]
    street = [json.loads(line) for line in (folder / "street.log").read_text().splitlines()]
    assert [(r["event"], r["at_s"], r["junction"], r["level"], r["by"]) for r in safety] == [
        ("safety.override", 101.0, "C", "info", "operator")
    ]
    assert [(r["event"], r["at_s"], r["junction"], r["scenario"]) for r in street] == [
        ("engine.started", 100.0, "", "tiny")
    ]


# --- orders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["network", "routes", "configuration"])
def test_a_run_whose_files_have_changed_is_none_to_resume_and_says_so(play, tmp_path, tiny, what):
    """Of which SUMO takes the state all the same, where the edges have the same names."""
    config = ET.parse(tiny)
    net = config.find("input/net-file")
    own, routes = tmp_path / "own.net.xml", config.find("input/route-files")
    own.write_text(Path(net.get("value")).read_text())
    own_routes = tmp_path / "own.rou.xml"
    own_routes.write_text((Path(tiny).parent / routes.get("value")).read_text())
    routes.set("value", str(own_routes))
    net.set("value", str(own))
    config.write(tmp_path / "own.sumocfg")
    street = {"scenario": str(tmp_path / "own.sumocfg")}
    play({25: [None]}, street=dict(street))
    again = play({5: [None]}, street=dict(street))
    assert again.events("engine.started", "engine.restored")[0][:2] == (125.0, "engine.restored")
    files = {"network": own, "routes": own_routes, "configuration": tmp_path / "own.sumocfg"}
    files[what].write_text(files[what].read_text() + "<!-- changed -->")
    anew = play(street=dict(street))
    assert anew.events("engine.started", "engine.restored")[0][:2] == (100.0, "engine.started")
    why = "the files of its scenario (configuration, network, routes) have changed since"
    refused = {"checkpoint": "00000000130.000", "why": why}
    assert [data for *_, data in anew.events("engine.checkpoint_refused")] == [refused]


def test_a_stopped_run_resumes_from_its_state(play, tmp_path, tiny, crossing):
    stopped = play({25: [None]}, recovery={"checkpoint_s": 60.0})
    assert stopped.sent[-1] == (RunEnded(125.0, False), True)
    assert stopped.process.state is ProcessState.STOPPED
    found = checkpoint.latest(
        checkpoint.folder_of(tmp_path / "checkpoints", key_of(tiny)), key_of(tiny)
    )
    assert found.time_s == 125.0
    again = play(recovery={"checkpoint_s": 33.0})
    data = {
        "scenario": "tiny",
        "demand": demand_of(find_scenario(tiny)),
        "net": str(crossing),
        "checkpoint_s": 125.0,
        "lost_up_to_s": 33.0,
        "controller": "fixed",
    }
    assert again.events("engine.started", "engine.restored") == [(125.0, "engine.restored", data)]
    assert [s.time_s for s in again.of(Snapshot)] == [*map(float, range(126, 161)), 160.0]
    assert [s.checkpoint_s for s in again.of(Snapshot)][:34] == [125.0] * 32 + [158.0] * 2
    assert again.of(RunEnded) == [RunEnded(160.0, True)]
    at_once = play(folder=tmp_path / "whole")
    assert [(s.time_s, s.vehicles, s.stopped, s.shown) for s in again.of(Snapshot)] == [
        (s.time_s, s.vehicles, s.stopped, s.shown) for s in at_once.of(Snapshot) if s.time_s > 125.0
    ], "as if it had never been stopped"
    assert again.events("engine.cycle")[0][:2] == at_once.events("engine.cycle")[0][:2]


@pytest.mark.parametrize("is_loaded", [True, False])
def test_a_sumo_that_somebody_else_started_goes_on_from_the_state_that_it_loaded(
    play, tmp_path, tiny, is_loaded
):
    """It ends with its connection: each checkpoint that was tried cost one more start of it."""
    play({25: [None]})
    state = tmp_path / "checkpoints"
    (state,) = checkpoint.folder_of(state, key_of(tiny)).glob("*125.000/plant.xml.gz")
    opened = []

    def elsewhere(sumo, **more):
        assert sumo.remote == "127.0.0.1:1"
        opened.append(sumo)
        own = ("--load-state", str(state)) if is_loaded else ()
        return open_street(sumo=replace(sumo, remote="", extra=own), **more)

    again = play(sumo={"remote": "127.0.0.1:1"}, open_street=elsewhere, until_s=130.0)
    assert len(opened) == 1
    begun = again.events("engine.started", "engine.restored")[0][:2]
    refused = [data for *_, data in again.events("engine.checkpoint_refused")]
    if is_loaded:
        assert (begun, refused) == ((125.0, "engine.restored"), [])
        return
    assert begun == (100.0, "engine.started")
    why = (
        "the SUMO at 127.0.0.1:1 stands at 100 s. To go on from here, start it with --load-state "
        f"{state}"
    )
    assert refused == [{"checkpoint": "00000000125.000", "why": why}]


def test_the_death_of_a_sumo_that_somebody_else_started_is_a_fault_on_record(play, tiny):
    port = free_port()
    options = SumoSettings(tiny, remote=f"127.0.0.1:{port}").arguments()[1:]
    program = Path(sumo.SUMO_HOME) / "bin" / "sumo"  # that of the environment is a script
    with subprocess.Popen(
        [program, *options, "--remote-port", str(port)], stdout=subprocess.DEVNULL
    ) as there:

        def die():
            there.kill()
            there.wait()

        died = play({10: [die]}, sumo={"remote": f"127.0.0.1:{port}"}, expect=StoppedError)
    ((at_s, _, fault),) = died.events("runtime.fault")
    assert (at_s, fault["strategy"]) == (110.0, "stop safely")
    assert "SUMO failed at 110.0 s" in fault["error"] or "TraCI" in fault["error"]
    assert "stopped safely at 110.000 s" in str(died.error)
    assert [e.kind for e in read(died.folder / "events.jsonl")][-1] == "runtime.fault"


def test_what_was_ordered_is_kept_while_no_sumo_answers(play, tmp_path):
    play({5: [Switch(controller="greedy"), None]})

    def away(**more):
        raise PlantAwayError("sumo.remote: no SUMO answers")

    stored = (tmp_path / "orders.json").read_text()
    with pytest.raises(PlantAwayError):
        play(open_street=away)
    assert (tmp_path / "orders.json").read_text() == stored
    assert "greedy" in stored


def test_a_run_of_another_seed_does_not_resume_it(play):
    play({5: [None]})
    assert play(until_s=101.0, street={"seed": 2}).events("engine.started")[0][0] == 100.0


@pytest.mark.parametrize(
    ("street", "control"), [({"seed": 2}, {}), ({"scale": 2.0}, {}), ({}, {"controller": "greedy"})]
)
def test_another_run_in_the_same_folder_deletes_nothing(play, tmp_path, street, control):
    play({25: [None]})
    between = play({25: [None]}, street=street, control=control, recovery={"checkpoint_s": 10.0})
    assert between.events("engine.started")[0][0] == 100.0, "it begins by itself"
    play(street=street, control=control)  # to its end
    ((at_s, kind, _),) = play().events("engine.started", "engine.restored")
    assert (at_s, kind) == (125.0, "engine.restored")


def damage(what):
    def spoil(folder):
        (newest,) = (tmp / "00000000125.000" for tmp in (folder / "checkpoints").iterdir())
        path = newest / what
        path.write_bytes(b"damaged")
        about = json.loads((newest / "about.json").read_text())
        about["sha256"][what] = hashlib.sha256(b"damaged").hexdigest()  # as if it had been whole
        (newest / "about.json").write_text(json.dumps(about))

    return spoil


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("street.msgpack", "the state cannot be read"),
        ("plant.xml.gz", "SUMO does not start"),
    ],
)
def test_a_checkpoint_that_does_not_load_is_passed_over_for_an_older_one(play, tmp_path, what, why):
    """Its files are as they were written, and yet nobody can go on from them."""
    play({25: [None]}, recovery={"checkpoint_s": 20.0})
    damage(what)(tmp_path)
    again = play({2: [None]})
    assert again.events("engine.started", "engine.restored")[0][:2] == (120.0, "engine.restored")
    ((at_s, _, refused),) = again.events("engine.checkpoint_refused")
    assert (at_s, refused["checkpoint"]) == (120.0, "00000000125.000")
    assert why in refused["why"]
    assert again.of(RunEnded) == [RunEnded(122.0, False)]


def test_a_disk_that_takes_nothing_does_not_keep_a_run_from_being_resumed(play, tmp_path):
    """In the place of each file that a start writes there is a folder."""
    play({25: [None]})
    (one,) = (tmp_path / "checkpoints").glob("*/*125.000")
    (one / "tries").mkdir()
    (tmp_path / "deciding").unlink()
    (tmp_path / "deciding").mkdir()
    again = play({2: [None]})
    assert again.events("engine.started", "engine.restored")[0][:2] == (125.0, "engine.restored")
    assert again.events("engine.checkpoint_refused") == []


def test_a_street_whose_parent_was_killed_keeps_its_state(play, tmp_path, tiny):
    class Orphaned(Mailbox):
        """The other end of the pipe is closed after 2.5 s of wall time."""

        def recv(self):
            raise EOFError

    orphaned = play(Orphaned((2.5, None)), wall_s=0.0, loop={"speed_factor": 1.0})
    assert orphaned.process.state is ProcessState.STOPPED
    found = checkpoint.latest(
        checkpoint.folder_of(tmp_path / "checkpoints", key_of(tiny)), key_of(tiny)
    )
    assert found.time_s == 102.0


def test_a_stop_on_a_full_disk_says_how_much_is_lost(play, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    stopped = play({25: [None]})
    assert stopped.of(RunEnded) == [RunEnded(125.0, False, lost_s=25.0)]
    monkeypatch.undo()
    assert play({25: [None]}).of(RunEnded) == [RunEnded(125.0, False, lost_s=0.0)]


def test_a_run_ends_though_its_orders_cannot_be_deleted(play, tmp_path):
    (tmp_path / "orders.json").mkdir()
    played = play(until_s=105.0)
    assert played.process.state is ProcessState.FINISHED
    assert len(played.events("engine.order_not_stored")) == 1


def test_where_no_checkpoint_loads_the_run_begins_anew_and_says_why(play, tmp_path):
    play({25: [None]})
    damage("street.msgpack")(tmp_path)
    again = play({1: [None]})
    assert again.events("engine.started", "engine.restored")[0][:2] == (100.0, "engine.started")
    assert [d["checkpoint"] for *_, d in again.events("engine.checkpoint_refused")] == [
        "00000000125.000"
    ]


def test_checkpoints_of_earlier_versions_are_refused_by_name_and_not_run(play, tmp_path):
    old = tmp_path / "checkpoints" / "00000000125.000"
    old.mkdir(parents=True)
    (old / "about.json").write_text('{"format": 5, "key": "any"}')
    (old / "street.pickle").write_bytes(pickle.dumps(Attack(tmp_path / "ran")))
    played = play(until_s=101.0)
    ((_, _, refused),) = played.events("engine.checkpoint_refused")
    assert refused == {
        "checkpoint": "00000000125.000",
        "why": "it has format 5, of another version; this one reads 9",
    }
    assert not (tmp_path / "ran").exists()


class Attack:
    """Code that a pickle would run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


# --- what operators ordered ---------------------------------------------------------------------


def crashed(play, orders, **more):
    """A run that ends like a process that was killed: with the checkpoint of 120 s, at 125 s."""

    class Killed(BaseException):
        pass

    def die():
        raise Killed

    with pytest.raises(Killed):
        play({**orders, 25: [die]}, recovery={"checkpoint_s": 20.0}, **more)


def test_an_operators_orders_after_the_last_checkpoint_survive_a_crash(play, tmp_path):
    """Held at 122 s, of which the checkpoint of 120 s knows nothing."""
    order = Override(0, Order.STAGE, 1e5, "Ann", 1)
    crashed(play, {22: [order]})
    again = play({3: [None]})
    assert again.events("engine.restored")[0][0] == 120.0
    assert dict(again.runs[0].street.gate.overrides) == {0: order}
    ((at_s, _, data),) = again.events("safety.override")
    assert (at_s, data["by"], data["stage"]) == (120.0, "Ann", 1)


def test_an_order_that_was_released_after_the_last_checkpoint_is_not_in_force_again(play):
    crashed(play, {5: [Override(0, Order.STAGE, 1e5, "Ann", 1)], 22: [Release(0, "Ben")]})
    again = play({3: [None]})
    assert again.events("engine.restored")[0][0] == 120.0
    assert dict(again.runs[0].street.gate.overrides) == {}


def test_an_order_of_the_checkpoint_goes_on_and_is_not_ordered_anew(play):
    order = Override(0, Order.STAGE, 1e5, "Ann", 1)
    crashed(play, {5: [order]})
    again = play({3: [None]})
    assert dict(again.runs[0].street.gate.overrides) == {0: order}
    assert again.events("safety.override") == []


def test_orders_at_junctions_end_with_their_run(play, tmp_path):
    play({5: [Override(0, Order.STAGE, 1e5, "Ann", 1)]}, repeats=True)
    again = play({3: [None]}, repeats=True)
    assert dict(again.runs[0].street.gate.overrides) == {}


def test_pace_and_cycle_that_were_ordered_survive_a_crash(play):
    crashed(play, {22: [Optimise(cycle_s=15.0, speed_factor=50.0)]})
    again = play({3: [None]})
    assert again.loops[0].settings.speed_factor == 50.0
    assert again.runs[0].street.cycle_s == 15.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("controller", "magic"), ("speed_factor", -5.0), ("cycle_s", "often"), ("cycle_s", None)],
)
def test_a_stored_order_that_is_not_allowed_takes_no_other_along(play, tmp_path, tiny, name, value):
    orders = {"speed_factor": 50.0, "controller": "greedy"} | {name: value}
    stored = {"task": key_of(tiny, name=""), "orders": orders}
    (tmp_path / "orders.json").write_text(json.dumps(stored))
    played = play({2: [None]})
    ((_, _, refused),) = played.events("engine.order_refused")
    assert refused["order"] == f"{name} {value}"
    by, pace = played.runs[0].street.controller.name, played.loops[0].settings.speed_factor
    assert by == ("fixed" if name == "controller" else "greedy")
    assert pace == (0.0 if name == "speed_factor" else 50.0)


def test_a_controller_of_the_settings_file_keeps_its_run_over_a_restart(play, tmp_path, tiny):
    """It is part of what identifies a run; the run goes on all the same."""
    then = FIRST.replace("controller: fixed", "controller: greedy")
    followed(play, tmp_path, tiny, then, more={20: [None]})
    over = {
        "street": {"scenario": tiny, "timing": "benchmark"},
        "recovery": {"folder": str(tmp_path)},
    }
    again = play({2: [None]}, path=tmp_path / "headway.yaml", changes=over)
    ((at_s, kind, data),) = again.events("engine.started", "engine.restored")
    assert (at_s, kind, data["controller"]) == (120.0, "engine.restored", "greedy")


def test_reporting_orders_select_the_contents_of_snapshots(play):
    played = play(
        {
            2: [Reporting(scene=True, record=False)],
            4: [Reporting(scene=False, record=True)],
            6: [Reporting(False, False)],
        },
        until_s=140.0,
    )
    scenes = [s.time_s for s in played.of(Snapshot) if s.scene is not None]
    emissions = [s.time_s for s in played.of(Snapshot) if s.emission is not None]
    assert (scenes, emissions) == ([103.0, 104.0], [105.0])
    assert [m.changes for m in played.of(SignalChanges)] == [], (
        "all changes were while nobody kept them"
    )


def test_signal_changes_are_published_with_their_speed_factor(play):
    """Told outside at the first tick and then not for long:
    what is there waits for the next snapshot, an order of pace, or the end.
    """
    played = play(
        {1: [Reporting(False, True)], 7: [Optimise(speed_factor=900.0)]}, wall_s=1e-9, until_s=140.0
    )
    assert [
        (m.speed_factor, [at_s for at_s, *_ in m.changes]) for m in played.of(SignalChanges)
    ] == [
        (0.0, [103.0] * 2),
        (900.0, [132.0] * 2 + [135.0] * 4),
    ]
    assert [type(m).__name__ for m, _ in played.sent[-3:]] == [
        "SignalChanges",
        "Snapshot",
        "RunEnded",
    ]


@pytest.mark.parametrize("order", ["stop", "switch"])
def test_waiting_signal_changes_are_published_before_a_street_ends_or_is_switched(
    play, early, order
):
    """The record would lack them for ever."""
    played = play(
        {1: [Reporting(False, True)], 7: [None if order == "stop" else Switch(scenario=early)]},
        wall_s=1e-9,
    )
    assert [[at_s for at_s, *_ in m.changes] for m in played.of(SignalChanges)] == [[103.0] * 2]
    assert isinstance(played.sent[2][0], SignalChanges), (
        "after the event and the snapshot of the beginning"
    )


def test_an_operators_order_takes_effect_at_the_next_tick_and_can_be_released(play):
    played = play(
        {5: [Override(0, Order.STAGE, 200.0, "Ann", 1)], 30: [Release(0, "Bob")]}, until_s=140.0
    )
    data = {"order": "stage", "stage": 1, "until_s": 200.0, "by": "Ann"}
    assert played.events("safety.override", "safety.override_released") == [
        (105.0, "safety.override", data), (130.0, "safety.override_released", {"by": "Bob"})
    ]  # fmt: skip
    shown = {s.time_s: list(s.shown) for s in played.of(Snapshot)}
    assert shown[125.0] == [1, 4, 1, 4], "the stage that was ordered, against the programme"


def test_a_junction_whose_lamps_do_not_obey_is_red_until_an_operator_resets_it(play):
    class Stuck(SumoPlant):
        """Its lamps show green to all from 105 to 115 s."""

        def apply(self, command):
            super().apply(command)
            if 105.0 <= self.time_s < 115.0:
                for name, _, red in self._tls:
                    self.interface.trafficlight.setRedYellowGreenState(name, "G" * len(red))

    def stuck(**more):
        street = open_street(**more)
        street.plant.__class__ = Stuck
        return street

    early = {12: [Reset(0, "Ann")], 30: [Reset(0, "Bob")], 31: [Reset(0, "Bob")]}
    played = play(early, until_s=150.0, open_street=stuck)
    ((at_s, _, data),) = played.events("safety.lamps")
    assert 106.0 <= at_s <= 109.0
    assert data["read"] == [4] * 4
    assert played.events("safety.fault_reset") == [
        (130.0, "safety.fault_reset", {"fault": "lamps", "by": "Bob"})
    ]
    why = [data["why"] for _, _, data in played.events("engine.order_refused")]
    assert [w.partition(": ")[2] for w in why] == [
        "its lamps still do not show what is commanded",
        "it has no fault that is latched",
    ]
    states = {s.time_s: s for s in played.of(Snapshot)}
    assert states[125.0].junctions[0].fault == "lamps"
    assert set(states[130.0].shown) == {1}
    assert states[135.0].junctions[0].fault == ""
    assert any(4 in s.shown for at_s, s in states.items() if at_s > 135.0)


def test_a_switched_controller_decides_at_once_and_survives_the_process(play, tmp_path, tiny):
    stopped = play({5: [Switch(controller="greedy")], 8: [None]})
    assert stopped.events("engine.controller") == [
        (105.0, "engine.controller", {"controller": "greedy"})
    ]
    assert {s.time_s: s.controller for s in stopped.of(Snapshot)} == {
        float(t): "greedy" if t > 105 else "fixed" for t in range(101, 109)
    }
    assert json.loads((tmp_path / "orders.json").read_text()) == {
        "task": key_of(tiny, name=""),
        "orders": {"controller": "greedy"},
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoints",
        "deciding",
        "events.jsonl",
        "orders.json",
    ]
    again = play()
    assert [
        (k, d["controller"]) for _, k, d in again.events("engine.started", "engine.restored")
    ] == [("engine.restored", "greedy")]
    assert {s.controller for s in again.of(Snapshot)} == {"greedy"}
    assert not (tmp_path / "orders.json").exists(), "at the end of the run its orders end"
    assert play(until_s=101.0).of(Snapshot)[0].controller == "fixed"


def test_what_was_ordered_holds_for_the_next_run_of_a_street_that_repeats(play, tmp_path):
    orders = [Switch(controller="greedy"), Optimise(cycle_s=15.0)]
    play({5: orders}, until_s=110.0, repeats=True)
    kept = json.loads((tmp_path / "orders.json").read_text())["orders"]
    assert kept == {"controller": "greedy", "cycle_s": 15.0}
    again = play(until_s=120.0, repeats=True)
    assert [(at_s, k) for at_s, k, _ in again.events("engine.started", "engine.restored")] == [
        (100.0, "engine.started")
    ]
    assert {s.controller for s in again.of(Snapshot)} == {"greedy"}
    assert again.runs[0].street.cycle_s == 15.0


def test_a_scenario_that_was_ordered_and_is_gone_does_not_keep_the_street_from_starting(
    play, tmp_path, early
):
    own = Path(early).with_name("own.sumocfg")
    shutil.copy(early, own)
    play({3: [Switch(scenario=str(own), controller="greedy"), None]})
    own.unlink()
    again = play(until_s=101.0, repeats=True)
    ((_, _, refused),) = again.events("engine.order_refused")
    assert refused["order"] == f"scenario {own}"
    assert refused["why"].startswith(f"{own}: no such file")
    assert again.of(Snapshot)[0].controller == "greedy", "the other order still holds"
    left = json.loads((tmp_path / "orders.json").read_text())["orders"]
    assert left == {"controller": "greedy"}


@pytest.mark.parametrize(("order", "value"), [("scenario", "nowhere.sumocfg"), ("cycle_s", "soon")])
def test_an_order_that_cannot_be_taken_up_is_given_up_on_a_full_disk_too(
    play, tmp_path, monkeypatch, order, value
):
    play({3: [Switch(controller="greedy"), None]})
    path = tmp_path / "orders.json"
    content = json.loads(path.read_text())
    content["orders"][order] = value
    path.write_text(json.dumps(content))

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OrderStore, "_write", fails)
    played = play({3: [None]})
    told = [kind for _, kind, _ in played.events("engine.order_refused", "engine.order_not_stored")]
    assert told == ["engine.order_refused", "engine.order_not_stored"]
    assert played.of(Snapshot)[0].controller == "greedy", "the other order still holds"


@pytest.mark.parametrize(
    ("orders", "why"),
    [
        ('{"task": "another", "orders": {"controller": "greedy"}}', ""),
        ('{"task": "KEY"}', ""),
        ('{"task": "KEY", "orders": {}}', ""),
        ("{", "it is no JSON"),
        ("", "it is no JSON"),  # after a power failure
        ("\xff", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("[]", "it names no task"),
        ('{"orders": {"controller": "greedy"}}', "it names no task"),
        ('{"task": "KEY", "orders": 5}', "its orders are none"),
        ('{"task": "KEY", "overrides": {}}', "its overrides are none"),
    ],
)
def test_orders_of_another_task_are_ignored_and_unreadable_ones_put_aside_and_told(
    play, tmp_path, tiny, orders, why
):
    path = tmp_path / "orders.json"
    path.write_text(orders.replace("KEY", key_of(tiny, name="")), encoding="latin-1")
    written = path.read_bytes()
    played = play(until_s=101.0)
    assert played.of(Snapshot)[0].controller == "fixed"
    told = played.events("engine.orders_unreadable")
    assert len(told) == bool(why)
    if why:
        ((at_s, _, data),) = told
        aside = tmp_path / "orders.json.unreadable"
        assert (at_s, data["kept_as"], aside.read_bytes()) == (100.0, str(aside), written)
        assert data["why"].startswith(why)


def test_orders_that_other_settings_leave_behind_are_told(play, tmp_path, tiny):
    """Of another seed, scenario or controller; a hold that is gone must not go unseen."""
    path = tmp_path / "orders.json"
    hold = {"junction": "C", "order": "flash", "until_s": 160.0, "by": "ann", "stage": -1}
    held = {
        "overrides": [hold] * 102 + [{"until_s": None}],
        "models": {"shadow": "m@2", "canary": None},
    }
    rest = held | {"run": "another"}
    path.write_text(json.dumps({"task": "another", "orders": {"controller": "greedy"}} | rest))
    told = {
        "task": "another",
        "orders": {"controller": "greedy"},
        "models": {"shadow": "m@2"},
        "overrides": [hold] * 100,
        "more": 3,
    }
    assert play(until_s=101.0).events("engine.orders_left") == [(100.0, "engine.orders_left", told)]
    path.write_text('{"task": "another", "overrides": [{"until_s": NaN}]}')
    ((_, _, told),) = play(until_s=101.0).events("engine.orders_left")
    assert told == {"task": "another", "overrides": [{"until_s": None}]}
    path.write_text(json.dumps({"task": key_of(tiny, name="")} | rest))
    assert play(until_s=101.0).events("engine.orders_left") == []


def test_a_switched_scenario_starts_at_its_beginning_with_earlier_orders_in_force(
    play, tmp_path, early, crossing
):
    observed = []
    played = play(
        {
            3: [Reporting(True, True), Optimise(cycle_s=10.0), Switch(controller="greedy")],
            25: [lambda: observed.append(kept_in(tmp_path))],
            26: [Switch(scenario=early)],
            27: [
                lambda: observed.append(
                    (
                        json.loads((tmp_path / "orders.json").read_text())["orders"],
                        (tmp_path / "checkpoints").exists(),
                    )
                )
            ],
        },
        recovery={"checkpoint_s": 20.0},
    )
    seen_before, seen_after = observed
    assert seen_before == [["00000000120.000"]]
    ordered = {"cycle_s": 10.0, "controller": "greedy", "scenario": early}
    assert seen_after == (ordered, False), "what was kept of the street before goes"
    key = key_of(early, "early ")
    assert played.events("engine.scenario", "engine.started", "engine.restored")[1:] == [
        (126.0, "engine.scenario", {"scenario": early}),
        (
            0.0,
            "engine.started",
            {
                "run": key,
                "scenario": "early",
                "demand": demand_of(find_scenario(early)),
                "net": str(crossing),
                "controller": "greedy",
            },
        ),
    ]
    assert [at_s for at_s, *_ in played.events("engine.cycle")] == [10.0]
    snapshots = played.of(Snapshot)
    assert [s.time_s for s in snapshots][26:] == [*map(float, range(1, 21)), 20.0]
    assert (snapshots[25].scene is not None, snapshots[26].scene) == (True, None), (
        "who looks must say so again"
    )
    assert (
        snapshots[26].begin_s,
        snapshots[26].end_s,
        snapshots[26].checkpoint_s,
        snapshots[26].interventions,
    ) == (0.0, 20.0, 0.0, 0)
    assert played.of(RunEnded) == [RunEnded(20.0, True)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events.jsonl"]
    assert read(tmp_path / "events.jsonl")[-1].at_s == 10.0
    assert [m.kind for m in read(tmp_path / "events.jsonl")].count("engine.started") == 2


def test_a_checkpoint_is_never_ahead_of_the_event_log(play, tmp_path, monkeypatch):
    """An alert of the very second of the checkpoint is written before it:
    a process that goes on from there does not tell of it again.
    """
    as_it_is, on_disk = checkpoint.save, []
    monkeypatch.setattr(
        checkpoint,
        "save",
        lambda **a: (
            on_disk.append([e.kind for e in read(tmp_path / "events.jsonl")]) or as_it_is(**a)
        ),
    )
    play(
        alerts={"rules": [rule(path="time_s", threshold=119.0)]},
        recovery={"checkpoint_s": 20.0},
        until_s=121.0,
    )
    assert on_disk == [["engine.started", "alert.opened"]]


def test_one_simulation_is_closed_before_another_is_started(play, early):
    loaded = []

    def noting(**asked):
        loaded.append(libsumo.isLoaded())
        return open_street(**asked)

    play({3: [Switch(scenario=early)]}, open_street=noting)
    assert loaded == [False, False]


def test_scenario_and_controller_together_are_one_switch(play, early):
    played = play({3: [Switch(controller="greedy", scenario=early)]})
    assert played.events("engine.controller") == []
    assert [(at_s, d["controller"]) for at_s, _, d in played.events("engine.started")] == [
        (100.0, "fixed"),
        (0.0, "greedy"),
    ]


def test_the_same_scenario_ordered_again_starts_at_its_beginning(play, tiny):
    played = play({25: [Switch(scenario=tiny)], 30: [None]}, recovery={"checkpoint_s": 10.0})
    assert [(at_s, k) for at_s, k, _ in played.events("engine.started", "engine.restored")] == [
        (100.0, "engine.started")
    ] * 2
    assert played.of(RunEnded) == [RunEnded(105.0, False)]
    again = play(until_s=107.0)
    assert [(at_s, k) for at_s, k, _ in again.events("engine.started", "engine.restored")] == [
        (105.0, "engine.restored")
    ], "not from before the switch"


@pytest.mark.parametrize(("until_s", "end_s"), [(310.0, 310.0), (1e9, 330.0)])
def test_the_given_end_applies_to_a_switched_scenario(play, scenario_of, until_s, end_s):
    late = str(scenario_of("late", 300, 330, [("a", 301, "N", "S")]))
    assert play({3: [Switch(scenario=late)]}, until_s=until_s).of(RunEnded) == [
        RunEnded(end_s, True)
    ]


def test_a_scenario_that_does_not_start_is_not_retried(play, tmp_path, crossing):
    routes, broken = tmp_path / "b.rou.xml", tmp_path / "broken.sumocfg"
    routes.write_text('<routes><trip id="a" depart="0" from="nowhere" to="nowhere"/></routes>')
    broken.write_text(
        f'<configuration><input><net-file value="{crossing}"/><route-files '
        f'value="{routes}"/></input><time><end value="9"/></time></configuration>'
    )
    played = play(
        {5: [Switch(controller="greedy")], 25: [Switch(scenario=str(broken))]},
        expect=RuntimeError,
        recovery={"checkpoint_s": 20.0},
    )
    assert str(played.error).startswith(
        f"scenario {str(broken)!r} does not start: {broken}: SUMO does not start"
    )
    assert played.error.__cause__ is not None
    left = json.loads((tmp_path / "orders.json").read_text())["orders"]
    assert left == {"controller": "greedy"}, "the order that came before still holds"
    assert kept_in(tmp_path) == [["00000000120.000", "00000000125.000"]], (
        "the next process goes on from there"
    )
    again = play(until_s=121.0)
    assert [
        (at_s, k, d["controller"])
        for at_s, k, d in again.events("engine.started", "engine.restored")
    ] == [(125.0, "engine.restored", "greedy")]


def test_orders_that_cannot_be_executed_are_refused_with_the_reason(play, tmp_path):
    wrong = [
        Switch(scenario="nowhere"), Switch(controller="magic"), Override(1, Order.HOLD, 1e9, "Ann"),
        "what?", Optimise(cycle_s=4.0),
        Switch(scenario=str(tmp_path / "none.sumocfg")),
    ]  # fmt: skip
    played = play({5: list(wrong)}, until_s=107.0)
    refused = played.events("engine.order_refused")
    assert [(at_s, d["order"]) for at_s, _, d in refused] == [
        (105.0, repr(order)) for order in wrong
    ]
    assert [set(d) for *_, d in refused] == [{"order", "why"}] * 6
    assert [d["why"].split(".")[0] for *_, d in refused] == [
        "no scenario 'nowhere'", "settings: control", "no junction 1; there are 1",
        "no order of the kind str", "settings: loop", f"{tmp_path}/none",
    ]  # fmt: skip
    assert refused[3][2]["why"].endswith(
        "There are: Override, Release, Reset, Optimise, Reported, Reporting, Switch, Pause, "
        "ChangeRule, Deploy, Rollback."
    )
    assert played.of(RunEnded) == [RunEnded(107.0, True)]
    assert len(played.loops) == 1, "the loop goes on as it is: its schedule too"
    assert (played.runs[0].street.cycle_s, played.runs[0].street.controller.name) == (30.0, "fixed")


def test_an_order_that_cannot_be_stored_is_refused_and_the_street_continues(play, tmp_path):
    (tmp_path / "orders.json.draft").mkdir()  # no file can be written there
    played = play({5: [Switch(controller="greedy")]}, until_s=107.0)
    ((at_s, _, data),) = played.events("engine.order_refused")
    assert (at_s, data["order"]) == (105.0, repr(Switch(controller="greedy")))
    assert "orders.json.draft" in data["why"]
    assert played.of(RunEnded) == [RunEnded(107.0, True)]
    assert played.runs[-1].street.controller.name == "fixed"


def test_a_pace_that_cannot_be_stored_is_refused_and_not_in_force(play, tmp_path):
    (tmp_path / "orders.json.draft").mkdir()
    played = play({5: [Optimise(cycle_s=77.0)], 8: [Reporting()]}, until_s=110.0)
    assert len(played.events("engine.order_refused")) == 1
    assert played.process.settings.loop.cycle_s == played.runs[-1].street.cycle_s == 30.0


def test_settings_are_in_force_whole_though_the_disk_takes_no_note_of_it(play, tmp_path, tiny):
    """A controller and a pace were ordered; the file, changed after that, speaks last."""
    ordered = [Optimise(cycle_s=15.0), Switch(controller="greedy")]
    blocked = [(tmp_path / "orders.json.draft").mkdir, (tmp_path / "hung.json").mkdir]
    then = FIRST.replace("cycle_s: 20", "cycle_s: 10").replace("er: fixed", "er: actuated", 1)
    played = followed(play, tmp_path, tiny, then, more={3: ordered, 4: blocked})
    assert played.events("engine.settings_refused") == []
    street, settings = played.runs[-1].street, played.process.settings
    assert (street.cycle_s, street.controller.name) == (10.0, "actuated")
    assert (settings.loop.cycle_s, settings.control.controller) == (10.0, "actuated")
    assert played.events("engine.order_not_stored")


def test_an_order_for_a_junction_is_obeyed_by_its_name_and_the_streets_own_clock(
    play, tiny, early, crossing
):
    """Given while another scenario was starting: there its number may be another junction's, and
    the time of the street before is hours away.
    """
    (junction,) = read_sumo_network(crossing).junctions
    hold = Override(7, Order.HOLD, 25_260.0, "Ann")
    orders = [
        AtJunction(hold, junction.id, lasts_s=7.0), AtJunction(hold, "gone", lasts_s=7.0),
        AtJunction(Release(7, "Ann"), "gone"),
    ]  # fmt: skip
    played = play(
        {3: [Switch(scenario=early), *orders], 5: [AtJunction(Release(7, "Bob"), junction.id)]}
    )
    ((at_s, _, held),) = played.events("safety.override")
    assert (at_s, held["until_s"], held["by"]) == (0.0, 7.0, "Ann")
    assert [(at_s, d["why"]) for at_s, _, d in played.events("engine.order_refused")] == [
        (0.0, "no junction 'gone' in early")
    ] * 2
    ((at_s, _, released),) = played.events("safety.override_released")
    assert (at_s, released["by"]) == (2.0, "Bob")


HOLD = Override(0, Order.HOLD, 200.0, "Ada")
AT_REAL_TIME = {"loop": {"speed_factor": 1.0}, "until_s": 103.0}
STAGE = Override(0, Order.STAGE, 200.0, "Ada", 0)


def test_a_paused_street_stands_until_it_is_resumed_and_takes_orders_meanwhile(play):
    """At the pace of real time: it is paused after half a second, for ten."""
    inbox = Mailbox((0.5, Pause("Ann")), (5.0, STAGE), (10.5, Pause("")))
    played = play(inbox, wall_s=0.0, **AT_REAL_TIME)
    assert played.events("engine.paused") == [(100.0, "engine.paused", {"by": "Ann"})]
    assert played.events("engine.resumed") == [(100.0, "engine.resumed", {"paused_by": "Ann"})]
    assert [at_s for at_s, *_ in played.events("safety.override")] == [100.0]
    assert inbox.obeyed == [0.5, 5.0, 10.5]
    assert 12.4 <= played.wall.now <= 13.6, "three ticks of a second, none of them in a burst"
    stood = [s for s in played.of(Snapshot) if s.paused_by]
    assert {s.time_s for s in stood} == {100.0}
    assert {s.paused_by for s in stood} == {"Ann"}
    assert stood[-1].junctions[0].order.by == "Ada", "what is in force is known while it stands"
    assert played.of(Snapshot)[-1].paused_by == ""


def test_a_paused_street_says_that_it_lives(play):
    inbox = Mailbox((0.5, Pause("Ann")), (60.5, Pause("")))
    played = play(inbox, wall_s=0.0, recovery={"silent_s": 8.0}, **AT_REAL_TIME)
    assert len([w for w in played.of(Waiting) if w.time_s == 100.0]) >= 60 / 8.0


def test_a_street_that_was_paused_is_paused_in_the_next_process_too(play):
    first = play({3: [Pause("Ann"), None]})
    assert first.of(RunEnded) == [RunEnded(103.0, False)]
    inbox = Mailbox((30.0, Pause("")))
    again = play(inbox, wall_s=0.0, loop={"speed_factor": 1.0}, until_s=105.0)
    assert again.events("engine.paused") == [(103.0, "engine.paused", {"by": "Ann"})]
    assert again.wall.now >= 31.0
    assert again.of(RunEnded) == [RunEnded(105.0, True)]


def test_a_pause_is_a_checkpoint_so_that_a_crash_loses_nothing_before_it(play, tmp_path):
    kept = []
    play({3: [Pause("Ann"), lambda: kept.extend(kept_in(tmp_path)), None]})
    (names,) = kept
    assert any("103" in name for name in names)


def test_pausing_twice_is_pausing_once(play):
    inbox = Mailbox((0.5, Pause("Ann")), (5.0, Pause("Bob")), (9.0, Pause("")), (9.1, Pause("")))
    played = play(inbox, wall_s=0.0, **AT_REAL_TIME)
    kinds = [kind for _, kind, _ in played.events("engine.paused", "engine.resumed")]
    assert kinds == ["engine.paused", "engine.resumed"]


def test_a_paused_street_can_be_stopped(play):
    inbox = Mailbox((0.5, Pause("Ann")), (5.0, None))
    played = play(inbox, wall_s=0.0, **AT_REAL_TIME)
    assert played.of(RunEnded) == [RunEnded(100.0, False)]


def test_a_pause_that_cannot_be_kept_is_refused(play, tmp_path):
    (tmp_path / "orders.json.draft").mkdir()
    played = play({5: [Pause("Ann")]}, until_s=107.0)
    ((at_s, _, refused),) = played.events("engine.order_refused")
    assert (at_s, refused["order"]) == (105.0, repr(Pause("Ann")))
    assert played.of(RunEnded) == [RunEnded(107.0, True)]


def test_an_order_with_an_id_is_answered_under_it_once_it_is_carried_out(play):
    """Of orders that come together, none is carried out after one that is refused."""
    good = Identified("1a", (Optimise(cycle_s=20.0), Optimise(cycle_s=25.0)))
    bad = Identified("2b", (Optimise(cycle_s=40.0), Switch(controller="none"), Optimise(50.0)))
    played = play({3: [good], 5: [bad]}, until_s=108.0)
    ((at_s, _, applied),) = played.events("engine.order_applied")
    assert (at_s, applied) == (103.0, {"id": "1a"})
    ((at_s, _, refused),) = played.events("engine.order_refused")
    assert (at_s, refused["id"]) == (105.0, "2b")
    assert refused["order"] == repr(Switch(controller="none"))
    assert "none" in refused["why"]
    assert played.runs[-1].street.cycle_s == 40.0


def test_an_order_is_obeyed_when_it_comes_and_its_event_does_not_wait_for_the_tick(play):
    """Ticks begin at 1, 2 and 3 s of wall time."""
    inbox = Mailbox((0.25, HOLD), (1.5, Release(0, "Bob")), (2.25, Override(7, Order.HOLD, 1, "")))
    played = play(inbox, wall_s=0.0, **AT_REAL_TIME)
    assert inbox.obeyed == [0.25, 1.5, 2.25]
    kinds = ["safety.override", "safety.override_released", "engine.order_refused"]
    assert [(at_s, kind) for at_s, kind, _ in played.events(*kinds)] == list(
        zip([100.0, 101.0, 102.0], kinds, strict=True)
    )
    assert [(e.at_s, e.kind) for e in read(played.folder / "events.jsonl") if e.kind in kinds] == [
        (e.at_s, e.kind) for e in played.of(Event) if e.kind in kinds
    ]
    assert played.wall.now == pytest.approx(3.0), "and no tick is later for it"


def test_settings_that_are_ordered_again_and_again_do_not_put_off_the_tick(play):
    inbox = Mailbox(*((0.5 * k, Optimise(cycle_s=10.0 + k)) for k in range(1, 7)))
    played = play(inbox, wall_s=0.0, **AT_REAL_TIME)
    assert played.wall.now == pytest.approx(3.0)


def test_a_flood_of_orders_does_not_hold_up_the_tick(play):
    """More orders than are obeyed once the tick is due wait for the one after it."""
    inbox = Mailbox(*((0.0, HOLD) for _ in range(150)))
    played = play(inbox, wall_s=0.0, until_s=103.0)  # as fast as possible: a tick is due at once
    at = [at_s for at_s, *_ in played.events("safety.override")]
    assert (at.count(100.0), at.count(101.0)) == (100, 50)


def test_an_emergency_vehicle_from_outside_is_decided_on_when_it_is_claimed(play, tiny):
    """Ticks begin at 1, 2 and 3 s of wall time; its event is written at 0.25 s, with the time of
    the last decision, and not again by the tick. What is known already waits for the tick."""
    places = Places(read_sumo_network(find_scenario(tiny).net))
    junction, approach = places.network.junctions[0].id, next(iter(places.roads[0]))

    def siren(distance_m):
        emergency = ObservedEmergency(distance_m, 10.0)
        row = ObservationRow(junction=junction, approach=approach, at_s=100.0, emergency=emergency)
        return Reported("acme", (SourceRows("acme", (row,)),))

    inbox = Mailbox((0.25, siren(120.0)), (0.5, siren(119.0)))
    played = play(inbox, wall_s=0.0, **AT_REAL_TIME)
    sent = [m.kind for m in played.of(Event)]
    ((at_s, _, data),) = played.events("safety.emergency")
    assert (at_s, data["vehicle"].startswith("acme/")) == (100.0, True)
    others = [e.kind for e in played.of(Event) if e.at_s > 100.0]
    assert sent.index("safety.emergency") < len(sent) - len(others)


def test_a_flood_of_observations_does_not_hold_up_the_tick(play):
    """Ten rows count as an order: of messages of 300 rows, four are taken before a tick."""
    row = ObservationRow(junction="nowhere", approach="in", at_s=100.0, queue=1)
    flood = Reported("acme", (SourceRows("acme", (row,) * 300),))
    inbox = Mailbox(*((0.0, flood) for _ in range(10)))
    played = play(inbox, until_s=103.0)  # as fast as possible: a tick is due at once
    seen = {s.time_s: s.sources[0]["refused"] for s in played.of(Snapshot) if s.sources}
    assert seen == {101.0: 1200, 102.0: 2400, 103.0: 3000}


@pytest.mark.parametrize(
    ("order", "data", "cycle_s", "speed_factor"),
    [
        (Optimise(cycle_s=10.0), {"changed": ["cycle_s"], "cycle_s": 10.0}, 10.0, 900.0),
        (
            Optimise(speed_factor=800.0),
            {"changed": ["speed_factor"], "speed_factor": 800.0},
            30.0,
            800.0,
        ),
        (Optimise(speed_factor=0.0), {"changed": ["speed_factor"], "speed_factor": 0.0}, 30.0, 0.0),
        (
            Optimise(cycle_s=5.0, speed_factor=0.5),
            {"changed": ["cycle_s", "speed_factor"], "cycle_s": 5.0, "speed_factor": 0.5},
            5.0,
            0.5,
        ),
        (Optimise(), {"changed": []}, 30.0, 900.0),
    ],
)
def test_cycle_and_speed_factor_are_changed_by_order_and_nothing_else(
    play, order, data, cycle_s, speed_factor
):
    played = play(
        {25: [order]}, until_s=145.0, loop={"speed_factor": 900.0}, recovery={"checkpoint_s": 20.0}
    )
    assert played.events("engine.settings") == [(125.0, "engine.settings", data)]
    assert (played.runs[-1].street.cycle_s, played.loops[-1].settings.speed_factor) == (
        cycle_s,
        speed_factor,
    )
    assert played.runs[0] is played.runs[1]
    assert [at_s for at_s, *_ in played.events("engine.cycle")] == np.arange(
        130.0, 145.0, cycle_s
    ).tolist()
    assert {s.time_s: s.checkpoint_s for s in played.of(Snapshot)}[126.0] == 120.0, (
        "the loop goes on with the work of the one before"
    )
    assert played.loops[1].monitor is played.loops[0].monitor


# --- settings that are followed -----------------------------------------------------------------

FIRST = (
    "loop: {cycle_s: 20, speed_factor: 900}\ncontrol: {controller: fixed, fallback: "
    "fixed}\nalerts: {rules: []}\n"
)


def followed(play, tmp_path, tiny, then, until_s=125.0, more=None, **changes):
    path = tmp_path / "headway.yaml"
    path.write_text(FIRST)
    over = {
        "street": {"scenario": tiny, "timing": "benchmark"},
        "recovery": {"folder": str(tmp_path)},
    } | changes
    return play(
        {5: [lambda: path.write_text(then)]} | (more or {}),
        until_s=until_s,
        path=path,
        changes=over,
    )


def test_the_settings_file_takes_precedence_over_the_task(play, tmp_path, tiny):
    """The task says 30 s of cycle and no pace; the file 20 s and 900."""
    kept = []

    def look():
        kept.append(AppliedSettings(tmp_path).over(Settings()).loop.cycle_s)

    played = followed(play, tmp_path, tiny, FIRST, more={3: [look]})
    assert kept == [20.0], "for who predicts what it would decide"
    assert (played.runs[0].street.cycle_s, played.loops[0].settings.speed_factor) == (20.0, 900.0)
    assert played.events("engine.settings", "engine.settings_refused") == []
    assert len(played.loops) == 1


def test_a_change_of_the_settings_file_is_applied_and_recorded(play, tmp_path, tiny):
    then = (
        "loop: {cycle_s: 10, speed_factor: 800, tick_s: 2}\ncontrol: {controller: greedy, "
        "fallback: actuated, confidence: 0.7, step_within_s: 0.5}\nlog: {level: error}\n"
        "alerts: {rules: []}\n"
    )
    played = followed(play, tmp_path, tiny, then)
    (event,) = played.events("engine.settings")
    assert event == (
        107.0,
        "engine.settings",
        {"changed": ["loop", "control", "log"], "controller": "greedy"},
    )
    street, loop = played.runs[-1].street, played.loops[-1]
    assert [guard.within_s for guard in street.guards.values()] == [0.5] * 5
    assert (
        street.cycle_s,
        street.trust.threshold,
        street.controller.name,
        street.fallback.name,
    ) == (
        10.0,
        0.7,
        "greedy",
        "actuated",
    )
    assert (loop.settings.speed_factor, loop.settings.period_s, played.runs[-1].tick_s) == (
        800.0,
        2.0,
        2.0,
    )
    assert logging.getLogger("headway").level == logging.ERROR
    assert [s.time_s for s in played.of(Snapshot)][5:10] == [106.0, 107.0, 109.0, 111.0, 113.0]
    assert len(played.loops) == 2
    assert played.loops[1].last_checkpoint_s == 100.0


def test_a_controller_not_changed_by_the_settings_file_keeps_its_state(play, tmp_path, tiny):
    played = followed(
        play, tmp_path, tiny, FIRST.replace("20", "10"), more={4: [Switch(controller="greedy")]}
    )
    assert played.events("engine.settings") == [
        (107.0, "engine.settings", {"changed": ["loop"], "controller": "greedy"})
    ]
    assert {s.controller for s in played.of(Snapshot)[5:]} == {"greedy"}


def test_the_latest_choice_of_a_controller_holds_for_the_next_process(play, tmp_path, tiny, early):
    """First the order, then the file."""
    orders = lambda: json.loads((tmp_path / "orders.json").read_text())["orders"]  # noqa: E731
    observed = []
    more = {
        3: [Switch(controller="greedy", scenario=early), lambda: observed.append(orders())],
        9: [lambda: observed.append(orders()), None],
    }
    played = followed(
        play, tmp_path, tiny, FIRST.replace("controller: fixed", "controller: actuated"), more=more
    )
    assert observed == [{"controller": "greedy", "scenario": early}, {"scenario": early}]
    assert played.runs[-1].street.controller.name == "actuated"


def test_a_section_that_waits_for_the_next_start_is_no_fault(play, tmp_path, tiny):
    then = FIRST + "safety: {limits: {min_green_s: 9}}\ncameras: {buffer: 2}\n"
    path = tmp_path / "headway.yaml"
    played = followed(play, tmp_path, tiny, then, more={12: [lambda: path.write_text(FIRST)]})
    assert [data for *_, data in played.events("engine.settings_waiting")] == [
        {"sections": ["safety", "cameras"]}, {"sections": []},
    ]  # fmt: skip
    assert played.events("engine.settings_refused", "engine.settings") == []


def test_a_rule_that_changes_closes_its_alert_and_opens_it_anew_and_others_stay(
    play, tmp_path, tiny
):
    def rules(threshold):
        rows = ({"name": "a", "path": "time_s", "threshold": threshold},)
        rows += ({"name": "b", "path": "time_s", "threshold": 1.0},)
        return FIRST.replace("{rules: []}", json.dumps({"rules": rows}))

    path = tmp_path / "headway.yaml"
    played = followed(
        play,
        tmp_path,
        tiny,
        rules(1.0),
        more={12: [lambda: path.write_text(rules(2.0))]},
    )
    told = [
        (kind, data["rule"], data["threshold"], data.get("why", ""))
        for _, kind, data in played.events("alert.opened", "alert.closed")
    ]
    assert told == [
        ("alert.opened", "a", 1.0, ""), ("alert.opened", "b", 1.0, ""),
        ("alert.closed", "a", 1.0, "the rules were changed"), ("alert.opened", "a", 2.0, ""),
    ]  # fmt: skip


def test_an_alert_rule_that_is_ordered_holds_for_the_next_process_too(play):
    late = RuleSettings(name="late", path="time_s", threshold=103.0)
    nowhere = RuleSettings(name="gone", path="junctions.GONE.queue", threshold=1.0)
    orders = [
        Identified("1", (ChangeRule("late", late),)),
        Identified("2", (ChangeRule("gone", nowhere),)),
        Identified("3", (ChangeRule("fixed", None),)),
        None,
    ]
    fixed = rule(name="fixed", path="time_s", threshold=1e9)
    first = play({5: orders[:3], 9: orders[3:]}, alerts={"rules": [fixed]})
    said = first.events("engine.order_applied", "engine.order_refused")
    assert [data["id"] for *_, data in said] == ["1", "2", "3"]
    assert [kind for _, kind, _ in said] == [
        "engine.order_applied", "engine.order_refused", "engine.order_refused",
    ]  # fmt: skip
    assert "there is no 'junctions.GONE.queue'" in said[1][2]["why"]
    assert "stands in the settings" in said[2][2]["why"]
    assert [data["rule"] for *_, data in first.events("alert.opened")] == ["late"]
    known = first.of(Snapshot)[-1].rules
    assert [(k.rule.name, k.ordered) for k in known] == [("fixed", False), ("late", True)]
    then = {3: [Identified("4", (ChangeRule("late", None),))]}
    second = play(then, alerts={"rules": [fixed]}, until_s=115.0)
    assert [k.rule.name for k in second.of(Snapshot)[0].rules] == ["fixed", "late"]
    assert [k.rule.name for k in second.of(Snapshot)[-1].rules] == ["fixed"]
    (closed,) = [data for *_, data in second.events("alert.closed")]
    assert (closed["rule"], closed["why"]) == ("late", "the rules were changed")


def test_an_invalid_settings_file_is_recorded_once_and_changes_nothing(play, tmp_path, tiny):
    played = followed(play, tmp_path, tiny, FIRST.replace("controller: fixed", "controller: magic"))
    ((at_s, _, data),) = played.events("engine.settings_refused")
    assert (at_s, set(data)) == (107.0, {"fault"})
    assert data["fault"].startswith(
        f"{tmp_path / 'headway.yaml'}: control.controller: 'magic' is not allowed"
    )
    assert played.events("engine.settings") == []
    assert (played.runs[-1].street.controller.name, len(played.loops)) == ("fixed", 1)


def test_a_log_folder_that_cannot_be_made_or_a_controller_that_cannot_be_had_ends_no_street(
    play, tmp_path, tiny, monkeypatch
):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "logs"
    played = followed(
        play, tmp_path, tiny, FIRST.replace("20", "10") + f"log: {{folder: {folder}}}\n"
    )
    assert [d["changed"] for *_, d in played.events("engine.settings")] == [["loop", "log"]]

    def refuse(*_, **__):
        raise ValueError("the Q-table has 2 actions, this network needs 4")

    monkeypatch.setattr(
        "headway.control.catalogue.QLearning", type("Q", (), {"name": "q-learning"})
    )
    monkeypatch.setattr("headway.control.catalogue.QLearning.__init__", refuse)
    learnt = FIRST.replace("controller: fixed", "controller: q-learning")
    played = followed(play, tmp_path, tiny, learnt)
    ((_, _, refused),) = played.events("engine.settings_refused")
    assert refused["fault"].startswith("the Q-table has 2 actions")
    assert played.runs[-1].street.controller.name == "fixed"


def test_figures_of_a_controller_that_cannot_be_had_any_more_change_nothing_else_either(
    play, tmp_path, tiny, monkeypatch
):
    """The table was spoilt since the street was opened: the tick would be of 2 s for the street,
    and of 1 s for its loop.
    """
    made = []

    class Once(FixedTime):
        name = "q-learning"

        def __init__(self, network, timing, interval_s):
            super().__init__(network, timing)
            made.append(interval_s)
            if len(made) > 1:
                raise ValueError("the Q-table cannot be read")

    monkeypatch.setattr("headway.control.catalogue.QLearning", Once)
    over = {"control": {"controller": "q-learning", "fallback": "fixed"}}
    then = "loop: {cycle_s: 10, tick_s: 2, speed_factor: 900}\nq_learning: {interval_s: 7}\n"
    played = followed(play, tmp_path, tiny, then, **over)
    ((_, _, refused),) = played.events("engine.settings_refused", "engine.settings")
    assert refused["fault"] == "the Q-table cannot be read"
    (run,) = played.runs
    assert (run.tick_s, run.street.cycle_s, len(played.loops)) == (1.0, 20.0, 1)


@pytest.mark.parametrize("role", ["controller", "fallback", "on_congestion"])
def test_a_planner_is_made_anew_for_another_tick_and_for_other_figures(
    play, tmp_path, tiny, monkeypatch, role
):
    made = []

    class Noted(Planner):
        def __init__(self, network, timing, model, tick_s):
            super().__init__(network, timing, model, tick_s)
            made.append((tick_s, model.horizon_s))

    monkeypatch.setattr("headway.control.catalogue.Planner", Noted)
    others = {"controller": "fixed", "fallback": "fixed", "on_congestion": "none"}
    over = {"control": others | {role: "planner"}}
    usual_s = Settings().planner.horizon_s
    two_s = "loop: {cycle_s: 20, tick_s: 2, speed_factor: 900}\n"
    played = followed(play, tmp_path, tiny, two_s, **over)
    assert made == [(1.0, usual_s), (2.0, usual_s)]
    assert played.events("engine.settings_refused") == []
    figures = "loop: {cycle_s: 20, speed_factor: 900}\nplanner: {horizon_s: 50}\n"
    played = followed(play, tmp_path, tiny, figures, **over)
    assert made[2:] == [(1.0, usual_s), (1.0, 50.0)]
    of_street = "relief" if role == "on_congestion" else role
    assert type(getattr(played.runs[0].street, of_street)) is Noted


def test_a_corrected_settings_file_is_applied_and_its_error_cleared(play, tmp_path, tiny):
    path = tmp_path / "headway.yaml"
    wrong = FIRST.replace("controller: fixed", "controller: magic")
    right = FIRST.replace("20", "10")
    played = followed(play, tmp_path, tiny, wrong, more={12: [lambda: path.write_text(right)]})
    assert [(at_s, k)
        for at_s, k, _ in played.events("engine.settings", "engine.settings_refused")] == [
        (107.0, "engine.settings_refused"), (114.0, "engine.settings")
    ]  # fmt: skip
    assert played.runs[-1].street.cycle_s == 10.0


def test_a_file_that_does_not_fit_the_street_leaves_its_orders_and_is_tried_anew(
    play, tmp_path, tiny
):
    """A tick that is no whole number of steps of its simulation; then the file is as before, then
    the same wrong tick again, then another cycle.
    """
    path = tmp_path / "headway.yaml"
    wrong = FIRST.replace("cycle_s: 20", "cycle_s: 20, tick_s: 0.3")
    more = {
        3: [Optimise(cycle_s=15.0)],
        12: [lambda: path.write_text(FIRST)],
        20: [lambda: path.write_text(wrong)],
        28: [lambda: path.write_text(FIRST.replace("20", "10"))],
    }
    played = followed(play, tmp_path, tiny, wrong, until_s=140.0, more=more)
    refused, applied = "engine.settings_refused", "engine.settings"
    said = [(kind, data.get("changed")) for _, kind, data in played.events(refused, applied)]
    assert said == [
        (applied, ["cycle_s"]), (refused, None), (refused, None), (applied, ["loop"]),
    ]  # fmt: skip
    shown = played.of(Snapshot)
    assert {s.cycle_s for s in shown if 105.0 < s.time_s < 125.0} == {15.0}
    assert shown[-1].cycle_s == 10.0
    faults = [s.settings_fault for s in shown]
    changes = [text for k, text in enumerate(faults) if not k or text != faults[k - 1]]
    assert [text[:17] for text in changes] == ["", "a tick of 0.3 s i", "", "a tick of 0.3 s i", ""]


def test_settings_that_need_a_restart_are_reported_beside_the_applied_ones(play, tmp_path, tiny):
    played = followed(play, tmp_path, tiny, FIRST.replace("20", "10") + "environment: production\n")
    assert [(k, d.get("changed"))
        for _, k, d in played.events("engine.settings", "engine.settings_waiting")] == [
        ("engine.settings_waiting", None), ("engine.settings", ["loop"])
    ]  # fmt: skip
    assert played.events("engine.settings_waiting")[0][2] == {"sections": ["environment"]}
    assert played.runs[-1].street.cycle_s == 10.0


def test_a_file_that_is_wrong_when_the_process_starts_anew_keeps_what_was_applied(
    play, tmp_path, tiny
):
    """Right at first, changed and applied; then it becomes wrong, and the process dies."""
    path = tmp_path / "headway.yaml"
    then = FIRST.replace("cycle_s: 20", "cycle_s: 10").replace("er: fixed", "er: greedy", 1)
    followed(play, tmp_path, tiny, then, more={18: [lambda: path.write_text("loop: ["), None]})
    over = {"street": {"scenario": tiny, "timing": "benchmark"}}
    over["recovery"] = {"folder": str(tmp_path)}
    again = play({2: [None]}, path=path, changes=over)
    assert again.events("engine.restored")[0][0] == 118.0
    street = again.runs[0].street
    assert (street.cycle_s, street.controller.name) == (10.0, "greedy")
    ((_, _, refused),) = again.events("engine.settings_refused")
    assert "is no YAML" in refused["fault"]


def test_a_settings_file_that_vanishes_changes_nothing_and_is_told(play, tmp_path, tiny):
    path = tmp_path / "headway.yaml"
    played = followed(play, tmp_path, tiny, FIRST, more={8: [path.unlink]})
    ((_, _, refused),) = played.events("engine.settings_refused")
    assert "cannot be read" in refused["fault"]
    assert played.runs[0].street.cycle_s == 20.0


def test_the_settings_file_is_followed_while_a_slow_street_waits_for_its_tick(play, tmp_path, tiny):
    """At a hundredth of real time a tick comes every 100 s."""
    path = tmp_path / "headway.yaml"
    path.write_text(FIRST.replace("900", "0.01"))
    played = play(
        Changing(7.0, lambda: path.write_text(FIRST)),
        wall_s=0.0,
        until_s=103.0,
        path=path,
        changes={
            "street": {"scenario": tiny, "timing": "benchmark"},
            "recovery": {"folder": str(tmp_path)},
        },
    )
    assert [d["changed"] for *_, d in played.events("engine.settings")] == [["loop"]]
    assert played.wall.now < 20.0


def test_orders_that_somebody_spoilt_end_no_street_that_reads_them_with_its_file(
    play, tmp_path, tiny
):
    spoil = partial(spoilt, tmp_path / "orders.json")
    then = FIRST.replace("er: fixed", "er: greedy", 1)
    played = followed(
        play, tmp_path, tiny, then, more={3: [Switch(controller="fixed")], 4: [spoil]}
    )
    ((_, _, refused),) = played.events("engine.settings_refused")
    assert "loop.cycle_s: 'soon' is not allowed" in refused["fault"]
    assert played.runs[-1].street.controller.name == "fixed"


def spoilt(path):
    content = json.loads(path.read_text())
    content["orders"]["cycle_s"] = "soon"
    path.write_text(json.dumps(content))


def test_a_file_that_is_refused_leaves_orders_in_force(play, tmp_path, tiny):
    then = FIRST.replace("cycle_s: 20", "cycle_s: 10, tick_s: 0.5")
    played = followed(play, tmp_path, tiny, then, more={3: [Optimise(cycle_s=15.0)], 15: [None]})
    assert len(played.events("engine.settings_refused")) == 1
    stored = json.loads((tmp_path / "orders.json").read_text())["orders"]
    assert stored == {"cycle_s": 15.0}
    assert played.runs[0].street.cycle_s == 15.0


def test_an_alert_rule_on_a_junction_that_is_not_there_is_refused_when_the_file_brings_it(
    play, tmp_path, tiny
):
    rules = "[{name: n, path: junctions.GONE.queue, threshold: 1}]"
    then = FIRST.replace("rules: []", f"rules: {rules}").replace("cycle_s: 20", "cycle_s: 10")
    played = followed(play, tmp_path, tiny, then)
    ((_, _, refused),) = played.events("engine.settings", "engine.settings_refused")
    assert refused["fault"].startswith("alert rule 'n': there is no 'junctions.GONE.queue'")
    assert "junctions.C.queue" in refused["fault"], "what there is"
    assert played.runs[0].street.cycle_s == 20.0, "nothing of the file is in force"


def test_alert_rules_of_another_network_are_left_out_and_told_the_others_hold(play, scenario_of):
    """As after a switch: the rule on C holds, the one on a junction of another street does not."""
    rules = [
        rule(name="gone", path="junctions.GONE.queue"),
        rule(name="late", path="time_s", threshold=103.0),
        rule(name="here", path="junctions.C.confidence", condition=">=", threshold=0.0),
    ]
    played = play({5: [None]}, alerts={"rules": rules})
    ((at_s, _, refused),) = played.events("engine.settings_refused")
    assert (at_s, refused["fault"][:17]) == (100.0, "alert rule 'gone'")
    opened = {data["rule"] for *_, data in played.events("alert.opened")}
    assert opened == {"late", "here"}


def test_applied_settings_hold_for_a_switched_scenario(play, tmp_path, tiny, early):
    then = (
        FIRST.replace("20", "10")
        .replace("fallback: fixed", "fallback: actuated, confidence: 0.7")
        .replace("controller: fixed", "controller: greedy")
    )
    played = followed(play, tmp_path, tiny, then, more={10: [Switch(scenario=early)]})
    street = played.runs[-1].street
    assert (
        played.runs[-1].scenario.name,
        street.cycle_s,
        street.fallback.name,
        street.trust.threshold,
    ) == (
        "early",
        10.0,
        "actuated",
        0.7,
    )
    assert street.controller.name == "greedy"


@pytest.mark.parametrize(("tick_s", "end_s"), [(0.5, 102.5), (1.0, 105.0), (2.5, 112.5)])
def test_sumo_steps_by_a_whole_part_of_the_tick(play, tick_s, end_s):
    """The scenario's own step is a second: five ticks of half a second are two and a half."""
    assert play({5: [None]}, loop={"tick_s": tick_s}).of(RunEnded) == [RunEnded(end_s, False)]


def test_a_tick_and_a_step_that_do_not_fit_are_refused_with_both(play):
    with pytest.raises(ValueError, match=r"loop.tick_s: 0.5 s is no multiple of sumo.step_s, 0.2"):
        play(loop={"tick_s": 0.5}, sumo={"step_s": 0.2})
    with pytest.raises(ValueError, match="does not fit SUMO, which counts in milliseconds"):
        play(loop={"tick_s": 1.0005})


def test_a_tick_that_does_not_fit_the_running_simulation_is_refused_and_changes_nothing(
    play, tmp_path, tiny
):
    then = FIRST.replace("cycle_s: 20", "cycle_s: 10, tick_s: 0.5")
    played = followed(play, tmp_path, tiny, then)
    ((_, _, refused),) = played.events("engine.settings", "engine.settings_refused")
    assert refused["fault"].startswith("a tick of 0.5 s is no whole number of steps of SUMO, 1 s")
    assert (played.runs[-1].tick_s, played.runs[-1].street.cycle_s) == (1.0, 20.0)
    assert played.of(RunEnded) == [RunEnded(125.0, True)]


def test_a_plant_whose_time_stands_still_stops_the_street(play, monkeypatch):
    stands = SimpleNamespace(at=105.0)

    def frozen(*args, **named):
        street = open_street(*args, **named)
        advance = street.plant.advance
        street.plant.advance = lambda s: advance(s) if street.plant.time_s < stands.at else None
        return street

    played = play(open_street=frozen, expect=StoppedError)
    assert "the plant's time stands still at 105 s" in str(played.error)


# --- alerts and faults --------------------------------------------------------------------------


def rule(**more):
    return {"name": "n", "path": "vehicles", "threshold": 2.0} | more


def test_alerts_open_and_close_with_the_state(play):
    rules = [
        rule(name="queue", path="junctions.*.queue", threshold=3.0, level="error"),
        rule(name="street", path="stopped", threshold=3.0),
        rule(name="by its old name", path="halted", threshold=3.0),
        rule(name="there", path="junctions.C.vehicles", threshold=3.0),
        rule(name="all", path="vehicles", threshold=3.0),
        rule(name="wait", path="junctions.C.longest_wait_s", threshold=5.0),
        rule(name="late", path="time_s", threshold=150.0),
        rule(
            name="sure", path="junctions.*.confidence", condition="==", threshold=1.0, level="info"
        ),
    ]
    played = play(alerts={"rules": rules})
    first = {}
    for s in played.of(Snapshot):
        (c,) = s.junctions
        for name, value, over in (
            ("queue", c.stopped, 3.0), ("street", s.stopped, 3.0),
            ("by its old name", s.stopped, 3.0), ("there", c.vehicles, 3.0),
            ("all", s.vehicles, 3.0),
            ("wait", c.longest_wait_s, 5.0), ("late", s.time_s, 150.0),
            ("sure", 2.0 * c.confidence, 1.0),
        ):  # fmt: skip
            if value > over:
                first.setdefault(name, (s.time_s, value))
    opened = {}
    for at_s, _, data in played.events("alert.opened"):
        opened.setdefault(data["rule"], (at_s, data))
    assert set(opened) == set(first) == {r["name"] for r in rules}
    for name, (at_s, data) in opened.items():
        assert (at_s, data["value"]) == (first[name][0], first[name][1] if name != "sure" else 1.0)
    assert {k: v for k, v in opened["queue"][1].items() if k != "number"} == {
        "rule": "queue", "path": "junctions.C.queue", "level": "error", "value": 4.0,
        "threshold": 3.0
    }  # fmt: skip
    assert {e.junction for e in played.of(Event) if e.kind.startswith("alert.")} == {""}


def test_an_open_alert_stays_open_over_a_change_of_speed_and_is_not_reported_again(play):
    played = play(
        {25: [Optimise(cycle_s=20.0)]}, alerts={"rules": [rule(path="time_s", threshold=110.0)]}
    )
    assert [at_s for at_s, *_ in played.events("alert.opened")] == [111.0]


def test_alert_rules_are_those_of_the_settings():
    settings = Settings.model_validate(
        {"alerts": {"rules": [
            {"name": "a", "path": "junctions.*.queue", "condition": "<=", "threshold": 4.5,
                "level": "critical", "hysteresis": 1.5, "for_s": 2.5,
             "clear_s": 3.5},
            {"name": "b", "path": "junctions.GS_1.confidence", "threshold": 0.5},
        ]}}
    )  # fmt: skip
    assert alert_rules(settings) == (
        AlertRule("a", "junctions.*.queue", "<=", 4.5, Level.CRITICAL, 1.5, 2.5, 3.5),
        AlertRule("b", "junctions.GS_1.confidence", ">", 0.5, Level.WARNING)
    )  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "time_s",
        "vehicles",
        "stopped",
        "halted",
        *(
            f"junctions.{j}.{x}"
            for j in "*A"
            for x in ("vehicles", "queue", "longest_wait_s", "confidence")
        ),
    ],
)
def test_every_figure_of_a_street_can_have_an_alert_rule(path):
    assert (
        alert_rules(Settings.model_validate({"alerts": {"rules": [rule(path=path)]}}))[0].path
        == path
    )


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ([rule(path="junctions.A.speed")], "no 'junctions.A.speed' in the state"),
        ([rule(path="queue")], "no 'queue' in the state"),
        ([rule(path="junctions")], "no 'junctions' in the state"),
        ([rule(path="street.junctions.A.queue")], "no 'street.junctions.A.queue' in the state"),
        ([rule(), rule(path="halted")], "a rule 'n' already"),
    ],
)
def test_a_rule_with_an_unknown_path_is_refused_at_once(rules, why):
    with pytest.raises(ValueError, match=why):
        alert_rules(Settings.model_validate({"alerts": {"rules": rules}}))


@pytest.mark.parametrize(
    ("figure", "good", "bad"),
    [
        ("vehicles", (0.0, 1e6), (-0.5, 1e6 + 0.5)),
        ("speed_mps", (0.0, 150.0), (-0.01, 150.5)),
        ("longest_wait_s", (0.0, 1e6), (-0.5, 1e6 + 0.5)),
    ],
)
def test_implausible_figures_are_reported(figure, good, bad):
    still = {"vehicles": 1.0, "speed_mps": 1.0, "longest_wait_s": 1.0}
    for value in (*good, *bad):
        reasons = NumericalStabilityMonitor(LIMITS).check(0.0, still | {figure: value}).reasons
        assert len(reasons) == (value in bad)
    assert set(LIMITS) == set(still)


def test_the_loop_is_shown_vehicles_fastest_and_longest_wait(play):
    def orders(played):
        return {
            t: [lambda: figures.append((played.runs[-1].time_s, played.runs[-1].figures()))]
            for t in range(1, 60)
        }

    figures = []
    played = play(lambda p: orders(p) | {0: [Reporting(True, False)]})
    scenes = {s.time_s: s.scene for s in played.of(Snapshot)}
    empty = {"vehicles": 0.0, "speed_mps": 0.0, "longest_wait_s": 0.0}
    for (at_s, found), (before, _) in zip(figures[1:], figures, strict=False):
        there = before_the_line(scenes[before])
        assert found["vehicles"] == there.sum()
        assert found["speed_mps"] == pytest.approx(
            scenes[before].speed_mps[there].max(initial=0.0), abs=1e-4
        )
        assert (found["longest_wait_s"] > 0.0) == bool(
            (scenes[before].speed_mps[there] < 0.1).any()
        )
        assert at_s == before + 1.0
    assert figures[0] == (101.0, empty)
    assert max(f["longest_wait_s"] for _, f in figures) > 10.0


def test_a_street_stops_at_any_fault_for_the_next_process_to_resume(play, monkeypatch):
    def orders(played):
        def broken(_):
            raise ValueError("broken")

        return {5: [lambda: monkeypatch.setattr(played.runs[-1].street, "tick", broken)]}

    played = play(orders, expect=StoppedError)
    assert "stopped safely at 105.000 s: ValueError('broken')" in str(played.error)
    assert played.events("runtime.fault") == [
        (105.0, "runtime.fault", {"error": "ValueError('broken')", "strategy": "stop safely"})
    ]
    assert played.of(RunEnded) == []
    assert [e.kind for e in read(played.folder / "events.jsonl")] == [
        "engine.started",
        "runtime.fault",
    ]
    for answer in ("roll_back", "restore", "reinitialise", "restart"):
        with pytest.raises(RuntimeError, match="its process starts anew from the last checkpoint"):
            getattr(played.runs[0], answer)()


def test_the_fallback_named_in_the_settings_is_used_and_recorded_by_name(play, monkeypatch):
    """The fallback named in the settings stands in: told in the record by its name."""
    named(monkeypatch,
        actuated=lambda network, timing: Says("actuated", [1] * len(network.groups), [1.0]),
          fixed=lambda network, timing: Says("fixed", [1] * len(network.groups),
              [0.1]))  # fmt: skip
    played = play(control={"fallback": "actuated"}, until_s=102.0)
    ((at_s, kind, data),) = played.events("engine.fallback")
    assert (at_s, kind) == (100.0, "engine.fallback")
    assert data == {
        "confidence": 0.1,
        "threshold": 0.4,
        "fallback": "actuated",
        "completeness": 1.0,
        "freshness": 1.0,
    }
    assert isinstance(played.of(Snapshot)[-1].junctions[0], JunctionState)


def test_the_loops_status_report_goes_out_with_the_first_snapshot_and_then_each_second(play):
    """Snapshots come ten times a second at most, so that few of so short a run have a report."""
    found = [s.report for s in play({}, until_s=112.0).of(Snapshot)]
    report = found[0]
    assert (report["plant"], report["stopped"], report["rates"]["mode"]) == (None, "", "balanced")
    assert {"sections", "alerts", "recovery", "streams"} <= report.keys()
    assert len(found) > 1
    assert found[1] is None


# --- models -------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path_factory):
    """Models of the planner by name and version, each a file of its own."""
    folder = tmp_path_factory.mktemp("models")

    def make(name="fast", version=1, horizon_s=90.0):
        path = folder / f"{name}-{version}.yaml"
        path.write_text(f"planner: {{horizon_s: {horizon_s}}}\n")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return ModelFile(name, version, "planner", sha256, str(path))

    return make


def decides(played):
    """(time, who decides) at each change of it, as snapshots tell."""
    found = []
    for s in played.of(Snapshot):
        if not found or found[-1][1] != s.controller:
            found.append((s.time_s, s.controller))
    return found


def test_a_champion_is_in_force_within_a_tick_and_the_gate_is_as_it_was(play, models):
    """Ordered between the tick to 105 and the one to 106."""
    gate = []

    def orders(played):
        def look():
            gate.append(repr(played.runs[-1].street.gate.state()))

        order = Identified("7", (Deploy("all", models(), by="Ann"),))
        return {5: [look, order, look]}

    played = play(orders)
    assert decides(played) == [(101.0, "fixed"), (106.0, "fast@1")]
    assert gate[0] == gate[1]
    told = {
        "mode": "all", "model": "fast@1", "kind": "planner", "sha256": models().sha256,
        "junctions": [], "by": "Ann", "controller": "fast@1",
    }  # fmt: skip
    assert played.events("engine.model_deployed", "engine.order_applied") == [
        (105.0, "engine.model_deployed", told),
        (105.0, "engine.order_applied", {"id": "7"}),
    ]
    (name,) = {s.models["champion"]["model"] for s in played.of(Snapshot) if s.time_s > 105}
    assert (name, played.runs[-1].street.loop_state.controller is not None) == ("fast@1", True)
    assert not (played.folder / "orders.json").exists(), "the run is finished"


def test_models_outlive_the_process_and_are_rolled_back_in_the_next_one(play, models):
    one, two = models("one"), models("two", 2)
    bounds = CanaryBounds(turn_s=60.0)
    first = play(
        {
            3: [Deploy("all", one)],
            4: [Deploy("all", two), Deploy("canary", models("three"), canary=bounds)],
            5: [Deploy("shadow", models("four"))],
            20: [None],
        }
    )
    assert decides(first) == [(101.0, "fixed"), (104.0, "one@1"), (105.0, "two@2")]
    trial = first.runs[-1].street.rollout.canary.trial
    assert trial.elapsed_s == 15.0  # its first tick began at 104, the last at 119

    def start(played):
        return played.events("engine.started", "engine.restored")[0][2]

    assert "models" not in start(first)
    second = play({2: [Rollback("shadow")], 3: [Rollback()], 6: [Rollback()], 9: [Rollback()]})
    assert start(second)["controller"] == "two@2"
    assert start(second)["models"] == {
        "champion": {"model": "two@2", "junctions": []},
        "canary": {"model": "three@1", "junctions": []},
        "shadow": {"model": "four@1", "junctions": []},
    }
    assert second.events("engine.order_refused")[0][2]["why"].startswith("no model is champion")
    begun = second.of(Snapshot)[0].models
    assert (begun["champion"]["model"], begun["before"]) == ("two@2", "one@1")
    assert (begun["canary"]["model"], begun["shadow"]["model"]) == ("three@1", "four@1")
    assert begun["canary"]["elapsed_s"] == 16.0, "the trial goes on"
    assert begun["shadow"]["ticks"] == 1
    assert decides(second) == [(121.0, "two@2"), (124.0, "one@1"), (127.0, "fixed")]
    rolled = [d for *_, d in second.events("engine.model_rolled_back")]
    assert [(d["what"], d["model"], d.get("controller")) for d in rolled] == [
        ("shadow", "four@1", None),
        ("deploy", "two@2", "one@1"),
        ("deploy", "one@1", "fixed"),
    ]
    last = second.of(Snapshot)[-1].models
    assert [last[k] for k in ("champion", "before", "canary", "shadow")] == [None, "", None, None]


def test_a_model_that_cannot_be_had_is_refused_whole(play, models, tmp_path):
    good, changed, gone = models(), models("changed"), models("gone")
    Path(changed.path).write_text("planner: {horizon_s: 91.0}\n")
    Path(gone.path).unlink()
    table = tmp_path / "q.table"
    QTable(4, 8, table, network=7)
    sha256 = hashlib.sha256(table.read_bytes()).hexdigest()
    of_another = ModelFile("table", 1, "q-table", sha256, str(table))
    wrong = [
        Deploy("all", changed),
        Deploy("shadow", gone),
        Deploy("canary", of_another),
        Deploy("all", replace(good, kind="q-table")),
        Deploy("canary", good, ("nowhere",)),
        Rollback(),
        Rollback("canary"),
        Rollback("shadow", ("nowhere",)),
    ]
    before = []

    def orders(played):
        def look():
            street = played.runs[-1].street
            before.append((repr(street.rollout.report("", 1.0)), repr(street.gate.state())))

        return {5: [look, Identified("7", (wrong[0],)), *wrong[1:], look], 6: [None]}

    played = play(orders)
    refused = played.events("engine.order_refused")
    assert refused[0][2]["id"] == "7"
    says = [
        "was changed", "cannot be read", "trained for another network", "is no Q-table",
        "no junction nowhere on this street", "no model is champion here", "there is no canary",
        "no junction nowhere on this street",
    ]  # fmt: skip
    for (_, _, data), part in zip(refused, says, strict=True):
        assert part in data["why"]
    assert before[0] == before[1]
    assert decides(played) == [(101.0, "fixed")]
    assert not (played.folder / "orders.json").exists()


def test_a_disk_that_keeps_no_order_leaves_the_street_as_it_is(play, models, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OrderStore, "_write", fails)
    played = play({5: [Deploy("all", models()), Deploy("canary", models("two"))]}, until_s=110.0)
    assert [d["why"] for *_, d in played.events("engine.order_refused")] == [
        "[Errno 28] No space left on device"
    ] * 2
    assert decides(played) == [(101.0, "fixed")]
    assert played.of(Snapshot)[-1].models["canary"] is None


def test_a_shadow_changes_nothing_that_sumo_is_told(play, models):
    """The whole run beside the real SUMO, tick by tick, under the planner."""

    def run(folder, *orders):
        played = play(
            {1: [Reporting(scene=True, record=True), *orders]},
            folder=folder,
            control={"controller": "planner"},
        )
        shown = [(s.time_s, s.shown, s.vehicles, s.stopped) for s in played.of(Snapshot)]
        scenes = [s.scene.at_m.tolist() for s in played.of(Snapshot) if s.scene is not None]
        changes = [m.changes for m in played.of(SignalChanges)]
        return played, (shown, scenes, changes)

    folder = Path(models().path).parent
    _, alone = run(folder / "alone")
    played, beside = run(folder / "beside", Deploy("shadow", models(horizon_s=20.0)))
    assert beside == alone
    told = played.of(Snapshot)[-1].models["shadow"]
    assert told["ticks"] == 59
    assert told["predicted_delay_s"] is not None


@pytest.mark.parametrize(("kept", "times"), [(False, 1), (True, 0)])
def test_what_a_shadow_is_compared_by_is_compiled_before_the_first_tick(
    play, monkeypatch, kept, times
):
    asked = []
    monkeypatch.setattr(process_module, "is_kept", lambda package, module: kept)
    monkeypatch.setattr(
        Planner, "predicted_delay_s", lambda self, seen, state, j: asked.append(seen.at_s) or 0.0
    )
    play({2: [None]}, control={"controller": "planner"})
    assert asked == [100.0] * times


def test_a_controller_that_is_ordered_decides_everywhere_and_for_good(play, models):
    bounds = CanaryBounds(turn_s=60.0)
    played = play(
        {
            3: [Deploy("all", models()), Deploy("canary", models("two"), canary=bounds)],
            6: [Switch(controller="greedy")],
            9: [None],
        }
    )
    assert decides(played) == [(101.0, "fixed"), (104.0, "fast@1"), (107.0, "greedy")]
    ended = [(d["what"], d["model"]) for *_, d in played.events("engine.model_rolled_back")]
    assert ended == [("deploy", "fast@1"), ("canary", "two@1")]
    again = play()
    assert decides(again) == [(110.0, "greedy")]
    assert again.of(Snapshot)[0].models["canary"] is None


def test_the_champion_decides_again_when_the_optimisation_is_switched_on_again(play, models):
    off, on = Switch(controller="fixed", optimise=False), Switch("greedy", optimise=True)
    one, two = models("one"), models("two")
    first = play({3: [Deploy("all", one), Deploy("all", two)], 5: [on], 7: [off], 9: [off, None]})
    assert decides(first) == [(101.0, "fixed"), (104.0, "two@1"), (108.0, "fixed")]
    ended = [(d["what"], d["model"]) for *_, d in first.events("engine.model_rolled_back")]
    assert ended == [("deploy", "two@1")]
    second = play({2: [Deploy("canary", models("three"))], 4: [on], 6: [Rollback()], 9: [None]})
    begun = second.of(Snapshot)[0].models
    assert (begun["champion"], begun["resting"]) == (None, "two@1")
    assert decides(second) == [(110.0, "fixed"), (114.0, "two@1"), (116.0, "one@1")]
    kinds = ("engine.controller", "engine.model_deployed", "engine.model_rolled_back")
    told = [(k, d.get("what", d.get("mode")), d.get("model")) for _, k, d in second.events(*kinds)]
    assert told == [
        ("engine.model_deployed", "canary", "three@1"),
        ("engine.controller", None, None),
        ("engine.model_rolled_back", "canary", "three@1"),
        ("engine.model_deployed", "all", "two@1"),
        ("engine.model_rolled_back", "deploy", "two@1"),
    ]
    Path(one.path).unlink()
    third = play({2: [off], 4: [on], 6: [off, Switch("actuated")], 8: [on], 9: [None]})
    assert decides(third) == [
        (119.0, "greedy"), (121.0, "fixed"), (123.0, "greedy"), (125.0, "actuated"),
        (127.0, "greedy"),
    ]  # fmt: skip


def test_a_controller_of_the_settings_file_decides_in_place_of_the_champion(
    play, tmp_path, tiny, models
):
    then = FIRST.replace("controller: fixed", "controller: greedy")
    more = {3: [Deploy("all", models())]}
    played = followed(play, tmp_path, tiny, then, more=more)
    assert [who for _, who in decides(played)] == ["fixed", "fast@1", "greedy"]
    assert played.runs[-1].street.rollout.deployed.champions == ()
    assert played.events("engine.model_rolled_back")[0][2]["controller"] == "greedy"


def test_a_model_that_is_lost_before_the_next_start_is_left_out_and_said(play, models):
    one, two, three = models("one"), models("two"), models("three")
    play({3: [Deploy("all", one), Deploy("all", two), Deploy("shadow", three)], 9: [None]})
    for lost in (two, three):
        Path(lost.path).unlink()
    played = play({5: [None]})
    refused = {d["order"]: d["why"] for *_, d in played.events("engine.order_refused")}
    assert list(refused) == ["all two@1", "shadow three@1"]
    assert all("cannot be read" in why for why in refused.values())
    assert decides(played) == [(110.0, "one@1")], "the champion before it"
    again = play()
    assert again.events("engine.order_refused") == [], "it is not tried again"
    assert again.events("engine.restored")[0][2]["controller"] == "one@1"


def test_a_canary_that_ends_by_itself_does_not_come_back_with_the_next_process(play, models):
    def orders(played):
        def slow():
            wall = itertools.count(0, 5)
            guard = played.runs[-1].street.guards["canary"]
            guard._stopwatch = lambda: next(wall)

        return {3: [Deploy("canary", models())], 6: [slow], 9: [None]}

    played = play(orders)
    (told,) = played.events("engine.canary_withdrawn")
    assert (told[0], told[2]["model"], told[2]["why"]) == (106.0, "fast@1", "took 5.000 s")
    again = play({3: [None]})
    assert again.of(Snapshot)[0].models["canary"] is None
    assert again.events("engine.order_refused") == []


def slow_canary(played):
    """From now on its step takes too long."""
    wall = itertools.count(0, 5)
    played.runs[-1].street.guards["canary"]._stopwatch = lambda: next(wall)


def test_a_canary_that_ended_while_the_disk_was_full_does_not_come_back(play, models, monkeypatch):
    def orders(played):
        def fails(*_):
            raise OSError(28, "No space left on device")

        def full():
            monkeypatch.setattr(OrderStore, "_write", fails)
            slow_canary(played)

        return {3: [Deploy("all", models("one")), Deploy("canary", models())], 6: [full], 9: [None]}

    played = play(orders)
    assert len(played.events("engine.canary_withdrawn", "engine.order_not_stored")) == 2
    monkeypatch.undo()
    again = play({3: [Deploy("canary", models("two"))], 6: [None]})
    begun = again.of(Snapshot)[0].models
    assert (begun["champion"]["model"], begun["canary"]) == ("one@1", None)
    assert play({2: [None]}).of(Snapshot)[0].models["canary"]["model"] == "two@1"


def test_a_rollback_that_the_disk_does_not_take_leaves_the_canary_for_the_next_process_too(
    play, models, monkeypatch
):
    def orders(played):
        def fails(*_):
            raise OSError(28, "No space left on device")

        def full():
            monkeypatch.setattr(OrderStore, "_write", fails)

        return {3: [Deploy("canary", models())], 6: [full, Rollback("canary")], 9: [None]}

    (refused,) = play(orders).events("engine.order_refused")
    assert refused[2]["why"] == "[Errno 28] No space left on device"
    monkeypatch.undo()
    assert play({2: [None]}).of(Snapshot)[0].models["canary"]["model"] == "fast@1"


def test_a_street_starts_on_a_full_disk_without_the_model_that_is_lost(play, models, monkeypatch):
    """It was given up: what is left of the models cannot be stored."""
    play({3: [Deploy("all", models())], 9: [None]})
    Path(models().path).unlink()

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OrderStore, "_write", fails)
    played = play({3: [None]})
    assert len(played.events("engine.order_refused", "engine.order_not_stored")) == 2
    assert decides(played) == [(110.0, "fixed")]


def test_a_rollback_leaves_out_champions_that_are_lost_and_says_so(play, models):
    one, two, three = models("one"), models("two"), models("three")
    played = play(
        {
            3: [Deploy("all", one), Deploy("all", two), Deploy("all", three)],
            5: [lambda: Path(two.path).write_text("planner: {horizon_s: 9}\n"), Rollback()],
            7: [lambda: Path(one.path).unlink(), Deploy("all", three), Rollback()],
            9: [None],
        }
    )
    assert decides(played) == [
        (101.0, "fixed"), (104.0, "three@1"), (106.0, "one@1"), (108.0, "fixed")
    ]  # fmt: skip
    first, second = (d for *_, d in played.events("engine.model_rolled_back"))
    assert (first["controller"], list(first["lost"])) == ("one@1", ["two@1"])
    assert "was changed" in first["lost"]["two@1"]
    assert (second["controller"], list(second["lost"])) == ("fixed", ["one@1"])
    assert play({2: [None]}).events("engine.restored")[0][2]["controller"] == "fixed"


def test_an_order_for_a_controller_ends_the_champion_in_the_same_write(play, models, monkeypatch):
    """Killed in between, the next process would have gone on with the champion."""

    def orders(played):
        write, killed = OrderStore._write, []

        def once(store, content):
            if killed:
                raise OSError(5, "killed")
            killed.append(1)
            write(store, content)

        def die():
            monkeypatch.setattr(OrderStore, "_write", once)

        return {3: [Deploy("all", models())], 6: [die, Switch(controller="greedy")], 9: [None]}

    play(orders)
    monkeypatch.undo()
    assert decides(play({2: [None]}))[0][1] == "greedy"


def test_a_model_that_ends_the_process_while_it_is_tried_is_not_blamed_on_the_champion(
    play, models, monkeypatch
):
    """Who is asked stands in the mark, by which the next process puts somebody down for good."""
    asked = []

    def orders(played):
        def step(self, observation, state):
            asked.append(bytes(played.runs[-1].street.guards["controller"].mark[:1]))
            raise ValueError("tried")

        def watch():
            monkeypatch.setattr(Planner, "step", step)

        return {3: [watch, Deploy("all", models()), Deploy("canary", models())], 5: [None]}

    assert len(play(orders).events("engine.order_refused")) == 2
    assert asked == [b"\0", b"\0"]


def test_a_canary_whose_step_hung_the_process_is_withdrawn_by_the_next_one(play, models, tmp_path):
    play({3: [Deploy("canary", models()), Deploy("shadow", models("two"))], 9: [None]})
    set_hung(tmp_path, {"canary", "shadow"})
    played = play({3: [Deploy("shadow", models("three"))], 5: [None]})
    (told,) = played.events("engine.canary_withdrawn")
    assert told[2]["why"] == HUNG
    assert len(played.events("engine.canary_hung", "engine.shadow_hung")) == 2
    assert hung(played.folder) == ("canary",), "another shadow has another chance"
    assert played.of(Snapshot)[-1].models["shadow"]["ticks"] > 0


def test_who_decides_in_place_of_a_lost_champion_has_not_hung(play, models, tmp_path):
    play({3: [Deploy("all", models())], 9: [None]})
    set_hung(tmp_path, {"controller"})
    Path(models().path).unlink()
    played = play({4: [None]})
    assert played.events("engine.controller_hung") == []
    assert played.of(Snapshot)[-1].source == "controller"
    assert decides(played) == [(110.0, "fixed")]


def test_another_scenario_has_none_of_the_models_of_the_street_before(play, models, early):
    played = play({3: [Deploy("all", models())], 6: [Switch(scenario=early)], 9: [None]})
    assert played.events("engine.started")[-1][2]["controller"] == "fixed"
    assert played.of(Snapshot)[-1].models["champion"] is None


@pytest.fixture
def other(scenario_of):
    """A scenario of one test alone, that may delete it."""
    return str(scenario_of("other", 0, 20, [("e", 1, "E", "W")]))


@pytest.fixture
def killed_while_it_opens(play, models, other):
    """A process with a champion, a canary and a shadow, killed while it opens another scenario."""
    opened = []

    class Killed(BaseException):
        pass

    def open_the_first(**asked):
        opened.append(asked)
        if len(opened) > 1:
            raise Killed
        return open_street(**asked)

    deployed = [
        Deploy("all", models()),
        Deploy("canary", models("two")),
        Deploy("shadow", models()),
    ]
    play({3: deployed, 6: [Switch(scenario=other)]}, expect=Killed, open_street=open_the_first)


def test_a_process_that_ended_while_it_opened_another_scenario_leaves_no_models_there(
    play, killed_while_it_opens
):
    played = play({3: [None]})
    ((_, _, about),) = played.events("engine.started", "engine.restored")
    assert (about["scenario"], about["controller"], about.get("models")) == ("other", "fixed", None)
    models = played.of(Snapshot)[-1].models
    assert [models[role] for role in ("champion", "canary", "shadow")] == [None] * 3


def test_where_that_scenario_cannot_be_opened_the_street_before_has_its_models(
    play, killed_while_it_opens, other
):
    Path(other).unlink()
    played = play({3: [None]})
    ((_, _, about),) = played.events("engine.started", "engine.restored")
    assert (about["scenario"], about["controller"]) == ("tiny", "fast@1")
    assert about["models"].keys() == {"champion", "canary", "shadow"}


def test_a_scenario_that_is_ordered_may_take_as_long_as_a_start(play, early, monkeypatch):
    """To read a large network takes longer than a street may be silent. The checkpoint is written
    before, so that nothing is lost where it is stopped meanwhile.
    """
    read = []

    def orders(played):
        def noting(of):
            read.append((played.process._outbox.sent[-1], kept_in(played.folder)))
            return as_it_is(of)

        as_it_is = process_module.network_of
        watch = partial(monkeypatch.setattr, process_module, "network_of", noting)
        return {5: [watch], 6: [Switch(scenario=early)], 9: [None]}

    play(orders)
    assert read == [((Opening(), True), [["00000000106.000"]])]
