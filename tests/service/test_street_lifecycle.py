"""Streets that are stopped, started and paused by order; with engines that play messages."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest
from tests.store.intakes import Intake
from tests.waiting import until

from headway.runtime import WorkerError
from headway.service import streets
from headway.service.orders import OrderFilter, OrderState, PlacedOrder
from headway.service.running_street import StreetStateError
from headway.service.streets import StreetService
from headway.settings import Settings
from headway.street.messages import Identified, Pause, RunEnded, Snapshot, Switch, Task
from headway.values import Event

SNAPSHOT = Snapshot(
    time_s=130.0, begin_s=100.0, end_s=900.0, vehicles=1, stopped=0, source="controller",
    interventions=0, cycles=0, overruns=0, jitter_p99_s=0.0, tick_ms=1.0, checkpoint_s=100.0,
    trouble="", junctions=(),
)  # fmt: skip


class Engine:
    """Starts, says that it runs, and ends when it is asked to. faults: raised instead, the first
    by the first engine."""

    def __init__(self, task, faults, ends):
        self.task, self.orders, self.pid = task, [], None
        self.is_restarting = False
        self.asked = threading.Event()
        self.fault = faults.pop(0) if faults else None
        self.ends = ends

    def messages(self):
        if self.fault:
            raise self.fault
        scenario = self.task.settings.street.scenario
        yield Event(100.0, "engine.started", "", {"scenario": "tiny", "net": scenario})
        yield SNAPSHOT
        if not self.ends:
            assert self.asked.wait(20.0)
        yield RunEnded(130.0, finished=self.ends)

    def order(self, order):
        self.orders.append(order)

    def stop(self):
        self.asked.set()


@pytest.fixture
def played(tiny, tmp_path):
    """A service, its engines, what it says; `again` is a start of the server over the same data."""

    class Played:
        def __init__(self):
            self.faults, self.made, self.ends = [], [], False
            self.again()

        def again(self):
            self.intake, self.said = Intake(), []
            self.service = StreetService(lambda *news: self.said.append(news), self.intake, self)
            self.intake.recorder = self.service.record.recorder
            recovery = {"folder": str(tmp_path / "headway")}
            street = {"scenario": tiny}
            tree = {"street": street, "recovery": recovery}
            self.task = Task(Settings.model_validate(tree))

        def __call__(self, task):
            self.made.append(Engine(task, self.faults, self.ends))
            return self.made[-1]

        def start(self, **more):
            self.live = self.service.start("headway", self.task, **more)
            return self.live

        def order(self, kind, by="Ann"):
            act = {"stop": self.service.stop_one, "start": self.service.start_again}[kind]
            return act(PlacedOrder("headway", kind, by)).id

        def state(self, order_id):
            return self.service.orders.find("headway", order_id).state

        def reaches(self, status):
            until(lambda: self.live.status == status)

        def events(self):
            return [
                (street, message["kind"], dict(message["data"]))
                for topic, street, message in self.said
                if topic == "monitoring" and message["kind"].startswith("engine.")
            ]

    found = Played()
    yield found
    found.service.stop()


def test_a_stopped_street_ends_and_is_not_begun_anew_though_it_repeats(played):
    played.start(repeat=True)
    played.reaches("running")
    played.live.colours[0], played.live.alerts[1] = (5.0, 4), {"rule": "wait"}
    stopped = played.order("stop")
    played.reaches("stopped")
    played.live.thread.join(20.0)
    assert (played.live.colours, played.live.alerts) == ({}, {})
    assert (played.live.status_by, played.live.fault) == ("Ann", "")
    assert played.state(stopped) is OrderState.APPLIED
    assert len(played.made) == 1
    assert ("headway", "engine.stopped", {"by": "Ann"}) in played.events()
    played.service.record.recorder.flush()
    kinds = [row[3] for row in played.intake.rows("event")]
    assert kinds == ["engine.started", "engine.stopped"]


def test_a_stopped_street_stays_stopped_over_a_start_of_the_server(played):
    played.start()
    played.reaches("running")
    played.order("stop")
    played.live.thread.join(20.0)
    played.service.stop()
    played.again()
    live = played.start(repeat=True)
    assert (live.status, live.status_by, live.fault) == ("stopped", "Ann", "")
    assert live.thread is None
    assert played.intake.runs == [], "no run of the record begins"
    started = played.order("start")
    played.reaches("running")
    assert played.state(started) is OrderState.APPLIED
    assert len(played.intake.runs) == 1
    played.service.stop()
    played.again()
    assert played.start().status != "stopped"


def test_a_street_that_was_stopped_goes_on_in_the_same_run(played):
    played.start()
    played.reaches("running")
    played.order("stop")
    played.reaches("stopped")
    run, engine = played.live.run, played.live.engine
    started = played.order("start")  # waits for the end of the one before
    played.reaches("running")
    assert played.live.engine is not engine
    assert (played.live.run, len(played.intake.runs)) == (run, 1)
    assert played.state(started) is OrderState.APPLIED
    assert (played.live.status_by, played.live.stop) == ("", None)


def test_a_finished_street_is_started_as_another_run(played):
    played.ends = True
    played.start()
    played.live.thread.join(20.0)
    assert played.live.status == "finished"
    played.ends = False
    played.order("start")
    played.reaches("running")
    assert len(played.intake.runs) == 2


def test_a_street_that_was_given_up_can_be_started(played):
    played.faults = [WorkerError("it failed too often")]
    played.start()
    played.live.thread.join(20.0)
    assert played.live.status == "given up"
    played.order("start")
    played.reaches("running")
    assert played.live.fault == ""


def test_a_street_that_was_given_up_and_is_stopped_is_no_fault_any_more(played):
    played.faults = [WorkerError("it failed too often")]
    played.start()
    played.live.thread.join(20.0)
    stopped = played.order("stop")
    assert (played.live.status, played.live.fault) == ("stopped", "")
    assert played.state(stopped) is OrderState.APPLIED


def test_a_start_that_fails_is_refused_with_its_reason(played):
    played.start()
    played.reaches("running")
    played.order("stop")
    played.reaches("stopped")
    played.faults = [WorkerError("no memory")]
    started = played.order("start")
    played.reaches("given up")
    played.live.thread.join(20.0)
    found = played.service.orders.find("headway", started)
    assert (found.state, found.reason) == (OrderState.REFUSED, "no memory")


def test_what_is_so_already_is_not_done_again(played):
    played.start()
    played.reaches("running")
    assert played.state(played.order("start")) is OrderState.APPLIED
    assert len(played.made) == 1
    played.order("stop")
    played.live.thread.join(20.0)
    assert played.state(played.order("stop", by="Bob")) is OrderState.APPLIED
    assert played.live.status_by == "Ann"


def test_each_order_to_stop_a_street_that_is_stopping_is_acknowledged(played):
    played.start()
    played.reaches("running")
    ends, played.made[0].stop = played.made[0].stop, lambda: None  # it writes its checkpoint
    orders = [played.order("stop", by) for by in ("Ann", "Bob", "Cleo")]
    assert {played.state(order) for order in orders} == {OrderState.ACCEPTED}
    ends()
    played.live.thread.join(20.0)
    assert {played.state(order) for order in orders} == {OrderState.APPLIED}
    assert (played.live.status, played.live.status_by) == ("stopped", "Ann")


def test_who_orders_while_another_waits_to_start_does_not_wait_with_them(played, monkeypatch):
    """40 of them would take all threads of the server."""
    monkeypatch.setattr(streets, "TURN_WITHIN_S", 0.01)
    played.start()
    played.reaches("running")
    ends, played.made[0].stop = played.made[0].stop, lambda: None
    played.order("stop")
    first = threading.Thread(target=played.order, args=("start",))
    first.start()
    until(lambda: played.live.turn.locked())
    for kind in ("start", "stop"):
        with pytest.raises(StreetStateError, match="is being started"):
            played.order(kind)
    ends()
    first.join(20.0)
    played.reaches("running")


def test_a_street_whose_process_is_started_anew_is_not_called_running(played):
    """It has no process that takes orders (503)."""
    played.start()
    played.reaches("running")
    played.made[0].is_restarting = True
    assert played.live.status == "starting"
    played.made[0].is_restarting = False
    assert played.live.status == "running"


def test_a_stop_that_cannot_be_kept_is_refused_and_the_street_goes_on(played, tmp_path):
    played.start()
    played.reaches("running")
    (tmp_path / "headway").mkdir(exist_ok=True)
    (tmp_path / "headway" / "stopped.json.draft").mkdir()
    with pytest.raises(OSError, match="stopped"):
        played.order("stop")
    assert played.live.status == "running"
    (newest,) = played.service.orders.newest("headway", OrderFilter(), 1)
    assert newest.state is OrderState.REFUSED


def test_a_mark_that_cannot_be_read_keeps_the_street_stopped(played, tmp_path):
    (tmp_path / "headway").mkdir()
    (tmp_path / "headway" / "stopped.json").write_text("{")
    assert (played.start().status, played.live.status_by) == ("stopped", "somebody")


def test_a_stopped_street_takes_no_orders_and_says_who_stopped_it(played):
    played.start()
    played.reaches("running")
    played.order("stop")
    with pytest.raises(StreetStateError, match=r"was stopped by Ann\. Start it first"):
        played.service.place(PlacedOrder("headway", "controller", "Bob"), Switch("fixed"))
    with pytest.raises(StreetStateError, match=r"was stopped by Ann\. Start it first"):
        played.service.pause(PlacedOrder("headway", "pause", "Bob"), on=True)


def test_a_pause_is_sent_to_the_street_and_shown_as_its_state(played):
    played.start()
    played.reaches("running")
    engine = played.live.engine
    placed = played.service.pause(PlacedOrder("headway", "pause", "Ann"), on=True)
    resumed = played.service.pause(PlacedOrder("headway", "resume", "Ann"), on=False)
    sent = [order for order in engine.orders if isinstance(order, Identified)]
    assert sent == [
        Identified(placed.id, (Pause("Ann"),)), Identified(resumed.id, (Pause(""),)),
    ]  # fmt: skip
    played.service._handle(played.live, replace(SNAPSHOT, paused_by="Ann"))
    assert (played.live.status, played.live.status_by) == ("paused", "Ann")
    played.service._handle(played.live, SNAPSHOT)
    assert (played.live.status, played.live.status_by) == ("running", "")


def test_a_street_that_is_observed_from_outside_is_not_paused(played):
    street = {"sensing": "external", "scenario": played.task.settings.street.scenario}
    recovery = {"folder": played.task.settings.recovery.folder}
    played.task = Task(Settings.model_validate({"street": street, "recovery": recovery}))
    played.start()
    played.reaches("running")
    with pytest.raises(StreetStateError, match="where the traffic does not wait"):
        played.service.pause(PlacedOrder("headway", "pause", "Ann"), on=True)
    assert not [order for order in played.live.engine.orders if isinstance(order, Identified)]


def test_the_mark_says_who_and_when(played, tmp_path):
    played.start()
    played.reaches("running")
    played.order("stop")
    found = json.loads((tmp_path / "headway" / "stopped.json").read_text())
    assert found["by"] == "Ann"
    assert found["at_s"] > 1.7e9


def test_a_street_is_stopped_once_nothing_of_it_is_left_to_do(played):
    """Its process ends before its thread does."""
    played.start()
    played.reaches("running")
    at_end = []
    played.service._forget_process = lambda street, *_: at_end.append(street.status)
    played.order("stop")
    played.reaches("stopped")
    assert at_end == ["stopping"]
