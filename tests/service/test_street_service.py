"""Streets kept running: with an engine that plays messages, a database that notes rows,
and a clock set by hand.
"""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs
from tests.store.intakes import Intake

from headway.control.models import ModelFile
from headway.plants.sumo.scenarios import demand_of, scenario
from headway.runtime import WorkerError
from headway.runtime.supervisor import Restarted
from headway.service.orders import OrderState, PlacedOrder
from headway.service.streets import StreetService
from headway.settings import Settings
from headway.street.messages import (
    Deploy,
    Identified,
    JunctionState,
    Optimise,
    Reporting,
    Rollback,
    RunEnded,
    SignalChanges,
    Snapshot,
    Switch,
    Task,
)
from headway.telemetry import metrics
from headway.values import Event


@pytest.fixture
def intake():
    return Intake()


class Engine:
    """Says what the test lays out (`plays`, one list an engine), and takes orders until it is told
    not to. A function is called in passing;
    an error is raised."""

    plays: list
    made: list
    pid = 1  # of the process, another one after each Restarted
    is_restarting = False

    def __init__(self, task):
        self.task, self.orders, self.stopped, self.deaf = task, [], threading.Event(), False
        self.says = self.plays.pop(0) if self.plays else []
        self.made.append(self)

    def messages(self):
        for message in self.says:
            if isinstance(message, Exception):
                raise message
            if callable(message):
                message(self)
            else:
                yield message

    def begin_process(self):
        self.pid += 1

    def order(self, order):
        if self.deaf:
            raise WorkerError("the worker takes no orders now")
        self.orders.append(order)

    def stop(self):
        self.stopped.set()


WALL_S = 5000.0


@pytest.fixture
def engines(monkeypatch):
    Engine.plays, Engine.made = [], []
    monkeypatch.setattr("headway.store.recorder.FLUSH_S", 1e6)
    return Engine


class WallClock:
    """Stands at `now_s`; what is slept is kept in `slept`, and `when_slept` is called."""

    def __init__(self):
        self.now_s, self.slept, self.when_slept = WALL_S, [], lambda: None

    def ns(self):
        return round(self.now_s * 1e9)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.when_slept()


@pytest.fixture
def wall():
    return WallClock()


@pytest.fixture
def reported():
    return []


@pytest.fixture
def service(engines, intake, reported, wall):
    one = StreetService(lambda *news: reported.append(news), intake, engines, wall.ns, wall.sleep)
    intake.recorder = one.record.recorder
    yield one
    one.stop()


@pytest.fixture
def task(tiny):
    return Task(
        Settings.model_validate(
            {"street": {"scenario": tiny, "seed": 9}, "control": {"controller": "greedy"}}
        )
    )


def played(service, task, *says, **more):
    """Start a street that says this, and wait until it has ended."""
    Engine.plays.append(list(says))
    live = service.start("headway", task, **more)
    live.thread.join(20.0)
    assert not live.thread.is_alive()
    service.record.recorder.flush()
    return live


def started(scenario="tiny", kind="engine.started", net="", **more):
    return Event(100.0, kind, "", {"scenario": scenario, "net": str(net), **more})


def junction(name="C", vehicles=5, halted=2, wait_s=30.0, confidence=0.5):
    return JunctionState(name, 0.0, vehicles, halted, wait_s, (), confidence)


def snapshot(time_s, *junctions, shown=b"", emission=None, vehicles=7, halted=3):
    return Snapshot(
        time_s,
        0.0,
        9e9,
        vehicles,
        halted,
        "controller",
        0,
        0,
        0,
        0.0,
        0.0,
        0.0,
        "",
        junctions,
        shown=shown,
        emission=emission,
    )


def test_a_street_is_started_under_its_name_with_a_run_of_the_record(
    service, task, intake, engines
):
    live = played(service, task)
    assert service.streets == {"headway": live}
    assert (
        live.name,
        live.task,
        live.scenario,
        live.run,
        live.repeat,
        live.fault,
        live.finished,
    ) == ("headway", replace(task, name="headway"), "tiny", 41, False, "", True)
    assert (
        live.snapshot,
        list(live.events),
        list(live.history),
        live.alerts,
        live.colours,
        live.events_recorded,
    ) == (None, [], [], {}, {}, 0)
    assert live.engine is engines.made[0]
    assert live.engine.task is live.task
    assert [j.id for j in live.network.junctions] == ["C"]
    demand = demand_of(scenario(task.settings.street.scenario))
    assert demand.startswith("tiny@")
    ((key, *about),) = intake.runs
    assert key.startswith(f"headway {task.key()} {round(WALL_S * 1e9)} ")
    assert about == [demand, "greedy", 9]
    assert intake.written == []
    assert (live.thread.name, live.thread.daemon) == ("street headway", True)


def test_pedestrian_crossings_are_recorded(service, intake, crossing_network, scenario_of):
    path = scenario_of("walk", 0, 9, [])
    path.write_text(
        f'<configuration><input><net-file value="{crossing_network}"/><route-files '
        'value="routes.rou.xml"/></input></configuration>'
    )
    live = played(service, Task(Settings.model_validate({"street": {"scenario": str(path)}})))
    rows = intake.rows("crossing")
    by_hand = [
        (41, j.id, number)
        for j in live.network.junctions
        for number, group in enumerate(live.network.groups[j.first : j.end])
        if live.network.links[group.links[0]].direction == "c"
    ]
    assert rows == by_hand
    assert len({name for _, name, _ in rows}) == 4
    assert {number for *_, number in rows} != {0}


def test_a_name_that_is_in_use_is_refused_until_its_street_has_ended(service, task, engines):
    hold = threading.Event()
    engines.plays.append([lambda _: hold.wait(20.0)])
    live = service.start("headway", task)
    with pytest.raises(
        ValueError, match=r"^street 'headway' is running already\. Stop it first\.$"
    ):
        service.start("headway", task)
    assert len(engines.made) == 1
    engines.plays.append([])
    other = service.start("baseline", task)
    hold.set()
    live.thread.join(20.0)
    other.thread.join(20.0)
    again = played(service, task)
    assert service.streets["headway"] is again
    assert again is not live


def test_a_scenario_that_is_none_is_refused_before_anything_is_started(service, engines, intake):
    with pytest.raises(ValueError, match="no scenario 'nowhere'"):
        service.start("headway", Task(Settings.model_validate({"street": {"scenario": "nowhere"}})))
    assert (engines.made, intake.runs, service.streets) == ([], [], {})


def test_streets_run_without_a_database_and_without_listeners(engines, task):
    one = StreetService(make_engine=engines)
    live = played_without = one.start("headway", task)
    live.thread.join(20.0)
    engines.plays.append(
        [
            started(),
            snapshot(101.0, junction()),
            SignalChanges(1.0, ((100.0, 0, 4),)),
            RunEnded(160.0, True),
        ]
    )
    live = one.start("headway", task)
    live.thread.join(20.0)
    assert (
        one.record.recorder,
        live.run,
        live.finished,
        live.snapshot.time_s,
        played_without.run,
    ) == (
        None,
        0,
        True,
        101.0,
        0,
    )
    one.stop()


def test_orders_reach_the_engine_of_their_street_and_a_scenario_is_looked_up_first(
    service, task, engines, early
):
    live = played(service, task)
    for order in (
        Reporting(False, True),
        Optimise(10.0),
        Switch(controller="x"),
        Switch(scenario=early),
    ):
        service.order("headway", order)
    assert live.engine.orders == [
        Reporting(False, True),
        Optimise(10.0),
        Switch("x"),
        Switch(scenario=early),
    ]
    with pytest.raises(ValueError, match="no scenario 'nowhere'"):
        service.order("headway", Switch(scenario="nowhere"))
    with pytest.raises(KeyError):
        service.order("nobody", Reporting())
    live.engine.deaf = True
    with pytest.raises(WorkerError, match="takes no orders now"):
        service.order("headway", Reporting())
    assert len(live.engine.orders) == 4


def test_the_controller_that_ran_before_the_optimisation_was_switched_off_is_remembered(
    service, task
):
    """Also where it was ordered before the server was started: the street's own store has it."""
    live = played(
        service,
        task,
        *(replace(snapshot(t), controller=c) for t, c in ((1.0, "webster"), (2.0, "fixed"))),
    )
    assert task.settings.control.controller == "greedy"
    assert live.optimiser == "webster"


def test_a_network_that_is_none_is_refused_before_the_engine_is_asked(service, task, tmp_path):
    (tmp_path / "n.net.xml").write_text("<net/>")
    (tmp_path / "n.sumocfg").write_text(
        '<configuration><input><net-file value="n.net.xml"/></input></configuration>'
    )
    live = played(service, task)
    with pytest.raises(ValueError, match="no traffic light"):
        service.order("headway", Switch(scenario=str(tmp_path / "n.sumocfg")))
    assert live.engine.orders == []


# --- what a street says -------------------------------------------------------------------------


def test_every_snapshot_is_published_and_every_fifth_second_is_recorded(
    service, task, intake, reported
):
    shots = [
        snapshot(
            t,
            junction("A", 5, 2, 30.0, 0.5),
            junction("B", 6, 3, 11.0, 0.25),
            vehicles=int(t),
            halted=4,
        )
        for t in (101.0, 105.9, 106.0, 110.99, 111.0, 300.0)
    ]
    live = played(service, task, *shots)
    assert [news for news in reported if news[0] == "realtime"] == [
        ("realtime", "headway", s) for s in shots
    ]
    assert live.snapshot is shots[-1]
    assert list(live.history) == [(t, 20.5, int(t), 4) for t in (101.0, 106.0, 111.0, 300.0)]
    assert intake.rows("observation") == [
        (*row, "1970-01-01T01:23:20+00:00", 0.0, None, None, None, None)
        for t in (101.0, 106.0, 111.0, 300.0)
        for row in ((41, t, "A", 5, 2, 30.0, 0.5), (41, t, "B", 6, 3, 11.0, 0.25))
    ]  # fmt: skip
    assert intake.rows("emission") == []


def at(time_s, vehicles, arrived, wait_s=1.0, speed_mps=2.5):
    return JunctionState("A", time_s, vehicles, 0, 9.0, (), 1.0, wait_s, speed_mps, arrived)


def test_how_far_predictions_came_true_is_recorded_where_the_controller_says_it(
    service, task, intake
):
    first = at(100.0, 4, 10)
    told = replace(at(105.0, 4, 10), factors={"performance": 0.75, "novelty": 1.0})
    played(service, task, snapshot(100.0, first), snapshot(105.0, told))
    assert [row[12] for row in intake.rows("observation")] == [None, 0.75]


def test_waits_speeds_and_what_passed_are_recorded_with_each_row(service, task, intake):
    """4 vehicles on their way, 6 more arrive, 7 are there: 3 have passed in 5 s."""
    moments = [at(100.0, 4, 10), at(105.0, 7, 16, 8.5), at(110.0, 0, 16, 0.0, None)]
    moments += [at(115.0, 2, 2), at(120.0, 4, 3)]  # the process has started anew; one came unseen
    live = played(service, task, *(snapshot(j.at_s, j) for j in moments))
    assert [row[8:12] for row in intake.rows("observation")] == [
        (1.0, 9.0, None, None),
        (8.5, 9.0, 3, 0.6),
        (0.0, None, 7, 1.4),
        (1.0, 9.0, None, None),
        (1.0, 9.0, 0, 0.0),
    ]
    assert intake.of_streets == [("headway", 1.0)]
    assert live.flows["A"] == moments[-1]


def test_a_clock_that_went_back_is_recorded_at_once_and_a_street_without_junctions_waits_for_nobody(
    service, task, intake
):
    live = played(service, task, snapshot(500.0), snapshot(90.0), snapshot(92.0), snapshot(95.0))
    assert list(live.history) == [(500.0, 0.0, 7, 3), (90.0, 0.0, 7, 3), (95.0, 0.0, 7, 3)]


def test_emissions_are_recorded_as_they_come(service, task, intake):
    played(
        service,
        task,
        snapshot(101.0, emission=(3, 1.5, 2.5)),
        snapshot(102.0),
        snapshot(103.0, emission=(0, 0.0, 0.0)),
    )
    assert intake.rows("emission") == [(41, 101.0, 3, 1.5, 2.5), (41, 103.0, 0, 0.0, 0.0)]


def test_histories_are_bounded(service, task):
    live = played(
        service,
        task,
        *(snapshot(5.0 * k) for k in range(7201)),
        *(Event(float(k), "k") for k in range(501)),
    )
    assert (len(live.history), live.history[0][0]) == (7200, 5.0)
    assert (len(live.events), live.events[0].at_s, live.events_recorded) == (500, 1.0, 501)


def test_colours_and_stop_lines_are_recorded_by_junction_and_place_in_it(
    service, intake, crossing_network, scenario_of
):
    path = scenario_of("walk", 0, 9, [])
    path.write_text(
        f'<configuration><input><net-file value="{crossing_network}"/><route-files '
        'value="routes.rou.xml"/></input></configuration>'
    )
    task = Task(Settings.model_validate({"street": {"scenario": str(path)}}))
    live = service.start("probe", task)
    first, last = live.network.junctions[0], live.network.junctions[-1]
    assert last.first > 0
    changes = ((5.0, first.first, 4), (6.0, last.first + 2, 3))
    actuations = ((5.5, last.first + 1, True), (6.5, first.first, False))
    live = played(service, task, SignalChanges(1.0, changes, actuations))
    run = live.run
    assert intake.rows("signal_state") == [(run, 5.0, first.id, 0, 4), (run, 6.0, last.id, 2, 3)]
    assert intake.rows("detector_state") == [
        (run, 5.5, last.id, 1, True),
        (run, 6.5, first.id, 0, False),
    ]


@pytest.mark.parametrize(
    ("speed", "times"),
    [
        (0.0, (WALL_S, WALL_S, WALL_S)),
        (2.0, (WALL_S - 5.0, WALL_S - 2.0, WALL_S)),
        (0.5, (WALL_S - 20.0, WALL_S - 8.0, WALL_S)),
    ],
)
def test_changes_of_colour_are_published_by_the_time_of_day(service, task, speed, times):
    """The newest is of now; the others as long before as the speed factor says:
    10 and 4 simulated seconds at twice real time are 5 and 2 s.
    """
    heard = []
    service.on_signals = lambda street, changes: heard.append((street, changes))
    live = played(
        service,
        task,
        SignalChanges(speed, ((100.0, 0, 4), (106.0, 1, 4), (110.0, 0, 2))),
        SignalChanges(speed, (), ((111.0, 0, True),)),
    )
    assert heard == [("headway", [(times[0], 0, 4), (times[1], 1, 4), (times[2], 0, 2)])], (
        "and stop lines alone are no news of colours"
    )
    assert live.colours == {0: (times[2], 2), 1: (times[1], 4)}


def test_groups_that_have_not_changed_yet_are_known_from_the_snapshot(service, task, wall):
    later = lambda _: setattr(wall, "now_s", WALL_S + 9.0)  # noqa: E731
    says = [
        SignalChanges(0.0, ((100.0, 2, 4),)),
        snapshot(101.0, shown=bytes([1, 2, 3])),
        later,
        snapshot(102.0, shown=bytes([4, 4, 4])),
    ]
    live = played(service, task, *says)
    assert live.colours == {0: (WALL_S, 1), 1: (WALL_S, 2), 2: (WALL_S, 4)}


def test_events_are_numbered_recorded_and_published(service, task, intake, reported):
    events = [
        Event(101.0, "engine.cycle", "", {"cycle": 1}),
        Event(102.0, "safety.minimum_green", "C", {"for_s": 2.5}),
    ]
    live = played(service, task, *events)
    assert list(live.events) == events
    assert [(*row[:5], json.loads(row[5])) for row in intake.rows("event")] == [
        (41, 1, 101.0, "engine.cycle", "", {"cycle": 1}),
        (41, 2, 102.0, "safety.minimum_green", "C", {"for_s": 2.5})
    ]  # fmt: skip
    assert reported == [
        (
            "monitoring",
            "headway",
            {"at_s": 101.0, "kind": "engine.cycle", "junction": "", "data": {"cycle": 1}},
        ),
        (
            "monitoring",
            "headway",
            {
                "at_s": 102.0,
                "kind": "safety.minimum_green",
                "junction": "C",
                "data": {"for_s": 2.5},
            },
        ),
    ]


@pytest.mark.parametrize(
    ("kind", "alert"),
    [
        ("alert.opened", True), ("safety.emergency", True), ("safety.emergency_ended", True),
        ("safety.source", True), ("runtime.fault", True),
        ("engine.restored", True), ("engine.started", False), ("engine.fallback", False),
        ("safety.override", False), ("alertness", False),
    ],
)  # fmt: skip
def test_urgent_events_are_published_as_alerts_too(service, task, reported, kind, alert):
    event = Event(101.0, kind, "C", {"scenario": "tiny"})
    played(service, task, event)
    data = {"at_s": 101.0, "kind": kind, "junction": "C", "data": {"scenario": "tiny"}}
    assert reported == [*[("alerts", "headway", data)] * alert, ("monitoring", "headway", data)]


def test_what_is_no_number_is_null_in_the_record(service, task, intake):
    data = {
        "number": 1,
        "value": math.nan,
        "worst": [math.inf, {"x": -math.inf}],
        "n": 2,
        "name": "nan",
    }
    played(service, task, Event(1.0, "alert.opened", "", data))
    assert json.loads(intake.rows("event")[0][-1]) == {
        "number": 1,
        "value": None,
        "worst": [None, {"x": None}],
        "n": 2,
        "name": "nan",
    }


@pytest.mark.parametrize("kind", ["engine.started", "engine.restored"])
def test_a_street_that_begins_anew_has_no_open_alerts(service, task, scenario_of, kind):
    opened = Event(2.0, "alert.opened", "", {"number": 1, "value": 5.0})
    assert list(played(service, task, started(), opened).alerts) == [1]
    assert played(service, task, started(), opened, started(kind=kind)).alerts == {}


def test_open_alerts_are_kept_by_their_number_until_they_are_closed(service, task):
    live = played(
        service, task, Event(1.0, "alert.opened", "", {"number": 1, "value": 5.0}),
        Event(2.0, "alert.opened", "", {"number": 2, "value": 6.0}),
        Event(3.0, "alert.worse", "", {"number": 2, "value": 9.0}),
        Event(4.0, "alert.closed", "", {"number": 1}),
        Event(5.0, "alert.closed", "", {"number": 8}),
        Event(6.0, "alert.opened", "", {"value": 1.0}),
        Event(7.0, "engine.cycle", "", {"number": 3}),
    )  # fmt: skip
    assert live.alerts == {
        2: {"at_s": 3.0, "number": 2, "value": 9.0},
        0: {"at_s": 6.0, "value": 1.0},
    }


@pytest.mark.parametrize(
    ("kind", "looked"),
    [
        ("engine.started", True),
        ("engine.restored", True),
        ("engine.scenario", True),
        ("engine.cycle", False),
    ],
)
def test_a_street_that_starts_is_ordered_to_report_everything(service, task, kind, looked):
    assert (
        played(service, task, started(kind=kind)).engine.orders == [Reporting(True, True)] * looked
    )


def test_a_street_that_died_meanwhile_gets_that_order_when_it_is_back(service, task, engines):
    def deaf(engine):
        engine.deaf = not engine.deaf

    live = played(service, task, deaf, started(), deaf, started(kind="engine.restored"))
    assert live.engine.orders == [Reporting(True, True)]
    assert live.fault == ""


def test_a_scenario_of_the_same_name_with_another_demand_is_another_run(
    service, task, intake, crossing_network
):
    """Bologna's three are all called run.sumocfg. What was restored says so too."""
    other = started(kind="engine.restored", net=crossing_network, demand="tiny@1")
    live = played(service, task, started(), other)
    assert (live.scenario, live.run, len(live.network.junctions)) == ("tiny", 42, 4)
    assert intake.runs[1][1] == "tiny@1"


def test_another_scenario_is_another_run_with_its_network_and_nothing_of_the_one_before(
    service, task, intake, crossing_network
):
    says = [
        started(),
        snapshot(101.0),
        SignalChanges(0.0, ((101.0, 0, 4),)),
        started("walk", net=crossing_network, demand="walk@1"),
        snapshot(1.0),
        Event(5.0, "engine.cycle"),
    ]
    live = played(service, task, *says)
    assert (live.scenario, live.run, len(live.network.junctions)) == ("walk", 42, 4)
    assert [run[1].partition("@")[0] for run in intake.runs] == ["tiny", "walk"]
    assert intake.runs[1][1] == "walk@1"
    assert [(row[0], row[1], row[3]) for row in intake.rows("event")] == [
        (41, 1, "engine.started"), (42, 2, "engine.started"), (42, 3, "engine.cycle")
    ]  # fmt: skip
    assert list(live.history) == [(1.0, 0.0, 7, 3)]
    assert live.colours == {}
    assert {row[0] for row in intake.rows("crossing")} == {42}


def by(controller, kind="engine.started", net=""):
    about = {"scenario": "tiny", "net": str(net), "controller": controller}
    return Event(100.0, kind, "", about)


def test_a_run_is_recorded_with_who_decides_at_its_begin(service, task, intake):
    """An order of before a new start is in force again; one that is given later changes nothing."""
    played(service, task, by("webster", "engine.restored"), by("planner", "engine.restored"))
    assert [run[2] for run in intake.runs] == ["greedy"]
    assert intake.rows("run_controller") == [(41, "webster")]


def test_a_street_that_begins_or_goes_on_in_its_run_is_recorded_from_there_on(
    service, task, intake
):
    """It was ahead of its checkpoint, or had none yet, when its process ended."""
    changes = SignalChanges(0.0, ((105.0, 0, 4),))
    restored = replace(started(kind="engine.restored"), at_s=103.0)
    played(service, task, started(), changes, started(), restored)
    assert intake.rows("run_rewound") == [(41, 100.0), (41, 100.0), (41, 103.0)]
    assert len(intake.runs) == 1


def test_a_run_of_a_street_that_repeats_is_of_who_decided_last(service, task, intake):
    says = [by("greedy"), replace(snapshot(101.0), controller="webster"), RunEnded(102.0, True)]
    Engine.plays += [says, [by("webster"), lambda engine: setattr(service, "_stopping", True)]]
    live = service.start("headway", task, repeat=True)
    live.thread.join(20.0)
    assert [run[2] for run in intake.runs] == ["greedy", "webster"]
    assert intake.rows("run_controller") == []


def test_a_run_of_a_scenario_that_was_ordered_is_of_who_decides_then(
    service, task, intake, crossing_network
):
    says = [by("greedy"), snapshot(101.0), ordered(), by("webster", net=crossing_network)]
    played(service, task, *says)
    assert [run[2] for run in intake.runs] == ["greedy", "webster"]
    assert intake.rows("run_controller") == []


def ordered(at_s=120.0):
    return Event(at_s, "engine.scenario", "", {"scenario": "tiny"})


@pytest.mark.parametrize(
    ("says", "runs"),
    [
        ([started(), started()], 1),  # it died before its first checkpoint
        ([started(), started(kind="engine.restored")], 1),
        ([started(), ordered(), started()], 2),  # ordered anew, from its beginning
        ([started(), ordered(), started(), started()], 2),
        (
            [started(), ordered(), started(kind="engine.restored")],
            1,
        ),  # it did not start: what ran before goes on
        ([started(), ordered(), started(kind="engine.restored"), started()], 1),
    ],
)
def test_the_same_scenario_is_the_same_run_but_where_it_was_ordered_anew(
    service, task, intake, crossing, says, runs
):
    live = played(
        service,
        task,
        *(Event(e.at_s, e.kind, "", dict(e.data) | {"net": str(crossing)}) for e in says),
    )
    assert (len(intake.runs), live.run) == (runs, 40 + runs)


def test_a_run_that_began_without_a_database_takes_its_number_as_soon_as_it_is_known(
    service, task, intake
):
    """What was recorded before is of the number that was known then: the intake knows both."""
    intake.numbers = {41: -7, -7: 41}
    live = played(
        service,
        task,
        started(),
        replace(snapshot(101.0), emission=(1, 2.0, 3.0)),
        lambda _: intake.known.add(-7),
        replace(snapshot(106.0), emission=(1, 2.0, 3.0)),
    )
    assert live.run == 41
    assert [row[0] for row in intake.rows("event")] == [-7]
    assert [row[:2] for row in intake.rows("emission")] == [(-7, 101.0), (41, 106.0)]


def test_a_street_that_repeats_begins_anew_with_a_run_of_its_own(service, task, intake, engines):
    observed = []
    last = [lambda _: observed.append((service.streets["headway"].finished,
        list(service.streets["headway"].history))), snapshot(101.0),
            lambda _: service.request_stop()]  # fmt: skip
    engines.plays += [[snapshot(150.0), RunEnded(160.0, True)], last]
    live = service.start("headway", task, repeat=True)
    live.thread.join(20.0)
    assert [e.task for e in engines.made] == [replace(task, name="headway", repeats=True)] * 2
    assert live.engine is engines.made[1]
    assert (live.run, len(intake.runs), live.repeat, live.finished) == (42, 2, True, True)
    assert observed == [(False, [])]
    assert list(live.history) == [(101.0, 0.0, 7, 3)]


@pytest.mark.parametrize(
    ("order", "kind"),
    [
        (Switch(controller="greedy"), "engine.controller"),
        (Switch(scenario="cologne3"), "engine.scenario"),
        (Switch(controller="greedy", scenario="cologne3"), "engine.scenario"),
    ],
)
def test_what_is_ordered_while_a_run_ends_is_ordered_again_in_the_next(
    service, task, engines, crossing, order, kind
):
    """The run that took the order ended before it obeyed; the next one confirms it."""
    done = Event(100.0, kind, "", {})
    give = [lambda _: service.order("headway", order), RunEnded(160.0, True)]
    confirm = [started(), done, started(net=crossing), RunEnded(160.0, True)]
    engines.plays += [give, confirm, [started(), lambda _: service.request_stop()]]
    live = service.start("headway", task, repeat=True)
    live.thread.join(20.0)
    switches = [[o for o in e.orders if isinstance(o, Switch)] for e in engines.made]
    assert switches == [[order], [order], []]
    assert live.unconfirmed is None


def test_what_is_ordered_while_a_process_hangs_is_ordered_again_in_the_next(service, task, engines):
    order = Switch(controller="greedy")
    done = Event(100.0, "engine.controller", "", {"controller": "greedy"})
    engines.plays += [
        [
            started(),
            lambda _: service.order("headway", order),
            Engine.begin_process,
            Restarted("silent for 10.0 s", 3.0),
            started(kind="engine.restored"),
            done,
            Engine.begin_process,
            Restarted("silent for 10.0 s", 3.0),
            started(kind="engine.restored"),
            RunEnded(160.0, True),
        ]
    ]
    live = service.start("headway", task)
    live.thread.join(20.0)
    switches = [o for o in engines.made[0].orders if isinstance(o, Switch)]
    assert switches == [order, order], "once more, until it is confirmed"


def test_what_a_process_is_ordered_while_it_starts_is_ordered_once(service, task, engines):
    """It takes orders from its launch on, and says first that it lives when its street is open."""
    order = PlacedOrder("headway", "scenario", "Ann")
    placed = []
    switch = Switch(scenario="cologne3")
    engines.plays += [
        [
            started(),
            Engine.begin_process,
            lambda _: placed.append(service.place(order, switch)),
            Restarted("ended by signal SIGKILL", 3.0),
            started(kind="engine.restored"),
            RunEnded(160.0, False),
        ]
    ]
    service.start("headway", task).thread.join(20.0)
    sent = [o for o in engines.made[0].orders if isinstance(o, Identified)]
    assert sent == [Identified(placed[0].id, (switch,))], "the scenario would begin twice"


def test_done_is_the_end_and_says_so_at_once(service, task):
    ended = []
    assert played(
        service,
        task,
        RunEnded(160.0, True),
        lambda _: ended.append(service.streets["headway"].finished),
    ).finished
    assert ended == [True]


def test_a_street_that_is_given_up_says_why(service, task, reported):
    live = played(service, task, snapshot(123.0), WorkerError("failed 3 times"), repeat=True)
    assert (live.fault, live.finished) == ("failed 3 times", True)
    assert reported[1:] == [
        ("alerts", "headway", {"kind": "engine.given_up", "error": "failed 3 times", "at_s": 123.0})
    ]
    reported.clear()
    played(service, task, WorkerError("failed 3 times"))
    assert reported == [
        ("alerts", "headway", {"kind": "engine.given_up", "error": "failed 3 times", "at_s": 0.0})
    ]


def test_a_street_that_is_given_up_has_ended_though_nobody_can_be_told(service, task, monkeypatch):
    monkeypatch.setattr(service, "_publish", lambda *_: 1 / 0)
    live = played(service, task, WorkerError("failed 3 times"))
    assert (live.fault, live.finished) == ("failed 3 times", True)


def failures(name):
    return metrics.registry.get_sample_value("headway_thread_failures_total", {"thread": name})


def test_a_message_that_cannot_be_handled_costs_no_other(service, task, intake):
    """A group that the network does not have; a street goes on all the same."""
    wrong = SignalChanges(1.0, ((100.0, 999, 3),))
    with capture_logs() as logs:
        live = played(service, task, started(), wrong, wrong, snapshot(101.0, junction()))
    assert (live.fault, live.finished, live.snapshot.time_s) == ("", True, 101.0)
    assert len(intake.rows("observation")) == 1
    told = [line for line in logs if line["event"] == "messages of a street could not be handled"]
    assert [(line["street"], line["kind"], line["messages"]) for line in told] == [
        ("headway", "SignalChanges", 1)
    ], "once a burst"


def test_a_street_whose_thread_fails_goes_on_with_another_engine_after_a_pause(
    service, task, engines, intake, reported, wall
):
    """Its process cannot be started (no memory, say), twice; then it goes on as the same run."""
    fails = OSError("cannot fork")
    engines.plays += [[snapshot(100.0), fails], [fails], [snapshot(101.0), RunEnded(160.0, True)]]
    before = failures("street headway") or 0.0
    live = service.start("headway", task)
    live.thread.join(20.0)
    assert not live.thread.is_alive()
    assert (len(engines.made), wall.slept, live.fault, live.finished) == (3, [1.0, 2.0], "", True)
    assert (len(intake.runs), live.snapshot.time_s) == (1, 101.0)
    assert failures("street headway") == before + 2
    alerts = [message for topic, _, message in reported if topic == "alerts"]
    assert [(a["kind"], a["error"], a["at_s"]) for a in alerts] == [
        ("engine.not_followed", "OSError('cannot fork')", 100.0)
    ] * 2
    metrics.thread_failed_at.clear()


def test_a_street_that_cannot_be_followed_ends_with_the_service(service, task, engines, wall):
    engines.plays += [[OSError("no")], [OSError("no")], [OSError("no")]]
    wall.when_slept = service.request_stop
    live = service.start("headway", task)
    live.thread.join(20.0)
    assert (live.finished, len(engines.made)) == (True, 1)
    metrics.thread_failed_at.clear()


def test_a_restart_is_reported(service, task, reported):
    played(service, task, Restarted("ended by signal SIGKILL", 1.25))
    assert reported == [
        (
            "alerts",
            "headway",
            {"kind": "engine.restarted", "why": "ended by signal SIGKILL", "recovery_s": 1.25},
        )
    ]


def test_the_end_of_the_service_ends_all_streets_and_writes_what_is_left(engines, task, intake):
    before = set(threading.enumerate())
    one = StreetService(None, intake, engines)
    writers = set(threading.enumerate()) - before
    assert len(writers) == 2, "to the database, and to the disk where that does not answer"
    intake.recorder = one.record.recorder
    stops = lambda engine: engine.stopped.wait(20.0)  # noqa: E731
    engines.plays += [[stops, snapshot(105.0, junction())], [stops, snapshot(106.0, junction())]]
    streets = [one.start(name, task, repeat=True) for name in ("headway", "baseline")]
    one.stop()
    assert [e.stopped.is_set() for e in engines.made] == [True, True], "and none has begun anew"
    assert not any(live.thread.is_alive() for live in streets)
    assert sorted(row[1] for row in intake.rows("observation")) == [105.0, 106.0]
    assert not any(writer.is_alive() for writer in writers)


def test_the_end_does_not_wait_for_ever(service, task):
    live, waited = played(service, task), []
    live.thread = SimpleNamespace(join=waited.append)
    service.stop()
    assert waited == [10.0]


# --- models -------------------------------------------------------------------------------------


def fast(name="fast"):
    return ModelFile(name, 3, "planner", "0" * 64, "x")


def test_a_model_is_deployed_and_rolled_back_as_an_order_on_record(service, task):
    live = played(service, task)
    for change in (Deploy("canary", fast(), ("C",)), Rollback("canary"), Rollback()):
        placed = service.change_models(PlacedOrder("headway", "model", "ann"), change)
        assert live.engine.orders[-1] == Identified(placed.id, (change,))
        assert service.orders.find("headway", placed.id).state == OrderState.ACCEPTED
        service.orders.apply("headway", placed.id)
    before = list(live.engine.orders)
    with pytest.raises(ValueError, match=r"^no junction D on street 'headway'$"):
        service.change_models(
            PlacedOrder("headway", "model", "ann"), Deploy("shadow", fast(), ("C", "D"))
        )
    assert live.engine.orders == before
    with pytest.raises(KeyError):
        service.change_models(PlacedOrder("nobody", "model", "ann"), Rollback())


def test_who_is_champion_canary_and_shadow_is_known_from_the_snapshot(service, task):
    models = {"champion": {"model": "fast@3"}, "canary": None, "shadow": None}
    live = played(service, task, replace(snapshot(1.0), controller="fast@3", models=models))
    assert live.models == models
    assert live.controller == "fast@3"
    assert live.optimiser == "greedy", "the optimisation is switched on by a name of the catalogue"
    assert service.streets["headway"].models is live.snapshot.models


def test_nobody_is_known_before_the_first_snapshot(service, task):
    assert played(service, task).models == {}


def test_who_watches_hears_at_once_of_a_canary_that_was_withdrawn(service, task, reported):
    withdrawn = Event(5.0, "engine.canary_withdrawn", "", {"model": "fast@3", "why": "slow"})
    played(service, task, withdrawn)
    heard = [message for topic, _, message in reported if topic == "alerts"]
    assert [m["data"]["model"] for m in heard if m["kind"] == withdrawn.kind] == ["fast@3"]
