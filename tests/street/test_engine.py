"""The street process seen from its parent, with a supervisor that only records calls;
and how a street is opened.
"""

from __future__ import annotations

import libsumo
import numpy as np
import pytest
from tests.street.builders import Says, named

from headway.plants.sumo import SumoSettings, read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import BENCHMARK, work_out
from headway.safety import ControlSource
from headway.settings import Settings
from headway.street import load_tries, opening
from headway.street.engine import Engine, work
from headway.street.external.merge import Reported
from headway.street.messages import (
    JunctionState,
    Reporting,
    RunEnded,
    SignalChanges,
    Snapshot,
    Switch,
    Task,
    Waiting,
)
from headway.street.opening import open_street
from headway.street.step_mark import hung
from headway.values import Event


class Supervisor:
    """Says what was laid out for it, and writes down what it is asked."""

    def __init__(self, *asked, lives, on_failure):
        self.lives, self.on_failure = lives, on_failure
        self.asked = asked[:-1]
        self.made_progress = asked[-1]
        self.sent = []
        self.sent_data = []
        self.stopped = 0
        self.pid = 4711
        self.says = []
        made.append(self)

    def messages(self):
        for message in self.says:
            self.forgiven.append(self.made_progress(message))
            yield message

    forgiven: list

    def send(self, order):
        self.sent.append(order)

    def send_data(self, message):
        self.sent_data.append(message)

    def stop(self):
        self.stopped += 1


made: list[Supervisor] = []


@pytest.fixture
def engine():
    made.clear()
    tree = {"recovery": {"silent_s": 7.5, "restarts": 3, "folder": "somewhere"}}
    return Engine(Task(Settings.model_validate(tree)), Supervisor)


def state(at_s, junction="J"):
    return JunctionState(junction, at_s, 1, 0, 0.0, (), 1.0)


def snapshot(time_s, kept_s=0.0, *junctions):
    return Snapshot(time_s, 0.0, 9e9, 0, 0, "controller", 0, 0, 0, 0.0, 0.0, kept_s, "", junctions)


def begins(kind="engine.started", at_s=0.0):
    return Event(at_s, kind, "", {"scenario": "x"})


def play(engine, *messages):
    (supervisor,) = made
    supervisor.says, supervisor.forgiven = list(messages), []
    assert list(engine.messages()) == list(messages), "all of it is handed on, as it came"
    return supervisor.forgiven


def test_the_supervisor_gets_the_work_the_task_and_the_timeouts_of_the_settings(engine):
    (supervisor,) = made
    function, task, silent_s, restarts = supervisor.asked
    assert function is work
    assert (task.settings.recovery.folder, silent_s, restarts) == ("somewhere", 7.5, 3)
    assert engine.pid == 4711


def test_orders_and_the_request_to_stop_are_handed_on(engine):
    engine.order(Reporting())
    engine.order(Switch("greedy"))
    engine.order(Reported("acme", ()))
    engine.stop()
    assert (made[0].sent, made[0].stopped) == ([Reporting(), Switch("greedy")], 1)
    assert made[0].sent_data == [Reported("acme", ())], "which orders overtake"


def test_invalid_alert_rules_are_refused_before_a_process_is_started():
    made.clear()
    with pytest.raises(ValueError, match="no 'speed' in the state"):
        Engine(
            Task(
                Settings.model_validate(
                    {"alerts": {"rules": [{"name": "a", "path": "speed", "threshold": 1.0}]}}
                )
            ),
            Supervisor,
        )
    assert made == []


def test_a_street_lives_where_its_time_goes_on_or_its_tick_is_not_due(engine):
    lives = made[0].lives
    assert lives(begins())
    assert [lives(snapshot(t)) for t in (1.0, 2.0, 2.0, 2.0, 3.0)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert lives(Waiting(3.0))
    assert not lives(begins("safety.minimum_green")), "it may talk without end"
    assert not lives(SignalChanges(1.0, ()))
    assert lives(RunEnded(3.0, True))


@pytest.mark.parametrize(
    ("code", "why", "left"),
    [
        (1, "silent for 7.5 s", ("controller",)),
        (2, "silent for 7.5 s", ("fallback",)),
        (1, "ended by signal SIGSEGV", ("controller",)),
        (1, "ended by signal SIGKILL", ()),  # by an operator, or for want of memory
        (1, "ended by signal SIGTERM", ()),
        (1, "silent for 7.5 s, stopped", ()),
        (0, "silent for 7.5 s", ()),
        (9, "silent for 7.5 s", ()),
    ],
)
def test_whoever_was_asked_when_a_process_hung_is_not_asked_again(tmp_path, code, why, left):
    made.clear()
    (tmp_path / "hung.json").write_text('["relief"]')
    settings = Settings.model_validate({"recovery": {"folder": str(tmp_path)}})
    Engine(Task(settings), Supervisor)
    assert hung(tmp_path) == (), "a new start gives everybody another chance"
    (tmp_path / "deciding").write_bytes(bytes([code]))
    made[0].on_failure(why)
    assert hung(tmp_path) == left
    (tmp_path / "deciding").write_bytes(bytes([3]))
    made[0].on_failure("silent for 7.5 s")
    assert hung(tmp_path) == (*left, "relief")


@pytest.mark.parametrize(
    ("why", "counts"),
    [
        ("ended by signal SIGSEGV", True),
        ("ended by signal SIGKILL", True),  # no memory for it; this process lives on
        ("silent for 120.0 s", True),
        ("silent for 120.0 s, stopped", False),
    ],
)
def test_a_checkpoint_whose_loading_ended_the_process_is_given_up(tmp_path, why, counts):
    made.clear()
    settings = Settings.model_validate({"recovery": {"folder": str(tmp_path)}})
    Engine(Task(settings), Supervisor)
    one = tmp_path / "checkpoints" / "run" / "00000000010.000"
    one.mkdir(parents=True)
    for _ in range(2):
        assert not load_tries.are_too_many(one)
        load_tries.begin(one)
        made[0].on_failure(why)
    assert load_tries.are_too_many(one) == counts


def test_from_its_end_until_the_next_process_has_started_the_street_it_is_being_restarted(tmp_path):
    made.clear()
    settings = Settings.model_validate({"recovery": {"folder": str(tmp_path)}})
    engine = Engine(Task(settings), Supervisor)
    assert not engine.is_restarting
    for begins_by in ("engine.restored", "engine.started"):
        made[0].on_failure("ended by signal SIGKILL")
        assert engine.is_restarting
        made[0].lives(Event(0.0, "engine.checkpoint_refused", "", {}))
        assert engine.is_restarting
        made[0].lives(Event(0.0, begins_by, "", {}))
        assert not engine.is_restarting


def test_whoever_was_asked_at_two_kills_in_a_row_is_not_asked_again(tmp_path):
    """The system kills the process of a controller that takes all memory."""
    made.clear()
    settings = Settings.model_validate({"recovery": {"folder": str(tmp_path)}})
    engine = Engine(Task(settings), Supervisor)

    def killed_while_asking(code, why="ended by signal SIGKILL"):
        (tmp_path / "deciding").write_bytes(bytes([code]))
        made[0].on_failure(why)
        return hung(tmp_path)

    assert killed_while_asking(1) == ()
    play(engine, begins(), snapshot(1.0, 0.0), snapshot(61.0, 60.0))
    assert killed_while_asking(1) == (), "a checkpoint was written since"
    assert killed_while_asking(2) == ()
    assert killed_while_asking(0) == ()
    assert killed_while_asking(0) == (), "nobody was asked"
    assert killed_while_asking(1) == ()
    assert killed_while_asking(1, "ended by signal SIGTERM") == ()
    assert killed_while_asking(1) == ()
    assert killed_while_asking(1) == ("controller",)


def test_each_checkpoint_made_since_the_start_resets_the_count_of_restarts(
    engine,
):
    reported = [
        begins(),
        snapshot(1.0, 0.0),
        snapshot(60.0, 0.0),
        snapshot(61.0, 60.0),
        snapshot(62.0, 60.0),
        snapshot(121.0, 120.0),
        RunEnded(130.0, True),
    ]
    assert play(engine, *reported) == [False, False, False, True, False, True, False]
    assert play(
        engine, begins("engine.restored", 120.0), snapshot(121.0, 120.0), snapshot(181.0, 180.0)
    ) == [False, False, True]
    assert play(
        engine, begins("engine.restored", 60.0), snapshot(61.0, 60.0), snapshot(121.0, 120.0)
    ) == [False, False, True], "an older one: a new one still counts"


def test_checkpoints_of_an_earlier_scenario_time_reset_the_count_of_restarts(engine):
    """From 57,600 s on to one from 25,200 s on: what was kept last is of another clock."""
    reported = [
        begins(at_s=57600.0),
        snapshot(57601.0, 57600.0),
        snapshot(57661.0, 57660.0),
        Event(57700.0, "engine.scenario"),
    ]
    assert play(engine, *reported, begins(at_s=25200.0), snapshot(25201.0, 25200.0),
        snapshot(25261.0, 25260.0)) == [
        False, False, True, False, False, False, True
    ]  # fmt: skip


# --- opening a street ---------------------------------------------------------------------------


@pytest.fixture
def opened(tiny):
    """Open the street of a minute; closed at the end."""
    of = scenario(tiny)
    network = read_network(of.net)
    streets = []

    def made_of(by="fixed", sumo=None, **more):
        streets.append(
            open_street(
                network,
                work_out(network, BENCHMARK),
                sumo or SumoSettings(of.sumocfg),
                by,
                lambda event: None,
                **more,
            )
        )
        return streets[-1]

    yield made_of
    for street in streets:
        street.plant.close()


def test_a_street_opens_by_default_with_webster_as_fallback_and_the_default_cycle_and_threshold(
    opened, monkeypatch
):
    named(monkeypatch, webster=lambda network, timing: Says("webster"))
    street = opened()
    assert (
        street.controller.name,
        street.fallback.name,
        street.cycle_s,
        street.trust.threshold,
    ) == (
        "fixed",
        "webster",
        30.0,
        0.4,
    )
    assert (street.plant.time_s, street.observation.at_s) == (100.0, 100.0)


def test_a_street_opens_with_the_requested_settings(opened):
    street = opened("greedy", fallback="actuated", cycle_s=12.0, confidence_threshold=0.9)
    assert (
        street.controller.name,
        street.fallback.name,
        street.cycle_s,
        street.trust.threshold,
    ) == (
        "greedy",
        "actuated",
        12.0,
        0.9,
    )


def test_controller_and_gate_are_warmed_up_once_without_side_effects(opened, monkeypatch):
    admitted = []

    class Gate(opening.SafetyGate):
        def admit(self, proposal, now, observed=None, fallback=None):
            admitted.append((self, proposal, now, observed))
            return super().admit(proposal, now, observed, fallback)

    says = Says("says", [4, 1, 4, 1], [1.0])
    named(monkeypatch, says=lambda network, timing: says)
    monkeypatch.setattr(opening, "SafetyGate", Gate)
    street = opened("says")
    assert (says.states, street.loop_state.controller) == (["says 0"], "says 0")
    ((gate, proposal, now, observed),) = admitted
    assert gate is not street.gate
    assert (proposal.controller, now, observed) == ("says", 100.0, street.observation)
    street.tick()
    assert says.states == ["says 0", "says 0"]


def test_a_controller_that_fails_from_its_first_step_on_leaves_the_street_to_the_fallback(
    opened, monkeypatch
):
    says = Says("says", [4, 1, 4, 1], [1.0])
    says.fault = RuntimeError("broken")
    named(monkeypatch, says=lambda network, timing: says)
    street = opened("says", fallback="fixed")
    street.tick()
    assert street.gate.source is ControlSource.FALLBACK


@pytest.mark.parametrize("fault", ["controller", "fallback"])
def test_a_street_that_cannot_be_opened_closes_its_simulation(opened, monkeypatch, fault):
    says = Says("says", [4, 1, 4, 1], [1.0])
    named(monkeypatch, says=lambda network, timing: says)
    with pytest.raises(ValueError, match="no controller 'magic'"):
        opened(
            "magic" if fault == "controller" else "says",
            fallback="magic" if fault == "fallback" else "fixed",
        )
    assert not libsumo.isLoaded()


def test_the_sensing_profile_rendered_uses_rendered_cameras(tiny, monkeypatch):
    from headway.rendered import plant as seeing

    class Seeing(opening.SumoPlant):
        pass

    monkeypatch.setattr(seeing, "CameraPlant", Seeing)
    of = scenario(tiny)
    network = read_network(of.net)
    for sensing, kind in (("rendered", Seeing), ("connected", opening.SumoPlant)):
        monkeypatch.setattr(
            Seeing,
            "__init__",
            lambda self, sumo, network: opening.SumoPlant.__init__(
                self, SumoSettings(sumo.sumocfg), network
            ),
        )
        street = open_street(
            network,
            work_out(network, BENCHMARK),
            SumoSettings(of.sumocfg, sensing=sensing),
            "fixed",
            lambda event: None,
        )
        street.plant.close()
        assert type(street.plant) is kind
    assert np.isfinite(street.observation.at_s)


def test_an_alert_rule_on_a_junction_that_is_not_there_is_refused_before_a_process_is_started():
    made.clear()
    rules = [{"name": "a", "path": "junctions.nowhere.queue", "threshold": 1.0}]
    tree = {"alerts": {"rules": rules}, "street": {"scenario": "cologne1"}}
    with pytest.raises(ValueError, match=r"alerts.rules: alert rule 'a': there is no 'junctions.n"):
        Engine(Task(Settings.model_validate(tree)), Supervisor)
    rules[0]["path"] = "junctions.GS_cluster_357187_359543.queue"
    Engine(Task(Settings.model_validate(tree)), Supervisor)
    assert len(made) == 1
