"""A street in the terminal: what is shown of each message, and how it ends."""

from __future__ import annotations

import importlib
import io
import math
import signal
from dataclasses import replace

import pytest
from rich.console import Console

from headway.runtime.supervisor import Restarted
from headway.settings import Settings, overridden
from headway.street.messages import JunctionState, RunEnded, Snapshot, Task, Waiting
from headway.values import Event

room = importlib.import_module("headway.cli.live")
TASK = Task(
    overridden(
        Settings(),
        {"street": {"scenario": "cologne3", "seed": 4}, "control": {"controller": "webster"}},
    )
)
TITLE = "cologne3, webster, street timing, connected sensing, seed 4"
SNAPSHOT = Snapshot(
    time_s=110.4, begin_s=100.0, end_s=200.0, vehicles=31, stopped=12, source="controller",
    interventions=4, cycles=3, overruns=1,
    jitter_p99_s=0.0021, tick_ms=1.754, checkpoint_s=60.0, trouble="",
    junctions=(
        JunctionState("a", 110.0, 1, 2, 7.0, (), 1.0),
        JunctionState("b", 110.0, 2, 9, 5.4, (), 0.876),
        JunctionState("c", 110.0, 3, 2, 8.0, (), 0.5),
        JunctionState("d" * 50, 110.0, 4, 2, 6.0, (), 0.25),
        JunctionState("e", 110.0, 5, 1, 99.0, (), 0.1),
        JunctionState("f", 110.0, 6, 0, 1.0, (), 0.2),
    ),
)  # fmt: skip


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def shown(monkeypatch):
    """Watches a street that tells these messages; the lines of the last picture.
    Handlers of signals are kept.
    """
    # whatever this process was started with: in the background of a script SIGINT is ignored
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in STOP_SIGNALS}
    made = []

    class Engine:
        def __init__(self, task):
            assert task is TASK
            self.stopped = 0
            made.append(self)

        def stop(self):
            self.stopped += 1

        def messages(self):
            for message in told:
                if callable(message):
                    message(self)
                else:
                    yield message

    told = []
    monkeypatch.setattr(room, "Engine", Engine)

    def watch(*messages):
        told[:] = messages
        out = io.StringIO()
        room.run_to_end(TASK, Console(file=out, width=120, force_terminal=False))
        return [line.rstrip() for line in out.getvalue().splitlines()]

    yield watch
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_before_anything_is_known_the_title_stands_alone(shown):
    assert shown(Event(5.0, "engine.cycle", "", {})) == [TITLE]


def test_signs_of_life_are_given_only_while_the_street_moves(shown, monkeypatch):
    given = []
    monkeypatch.setattr(room.SignsOfLife, "give", lambda self: given.append(1))
    later = replace(SNAPSHOT, time_s=SNAPSHOT.time_s + 1.0)
    for messages, signs in (
        ((Event(5.0, "engine.cycle", "", {}),), 0),  # it has not started
        ((SNAPSHOT,), 1),
        ((SNAPSHOT, SNAPSHOT), 1),  # it talks, and its time stands
        ((SNAPSHOT, Waiting(SNAPSHOT.time_s)), 2),  # it is not due yet
        ((SNAPSHOT, later), 2),
    ):
        given.clear()
        shown(*messages)
        assert len(given) == signs


def test_what_is_not_controlled_is_shown_once_with_its_reason_and_the_rest_counted(shown):
    left = [
        Event(0.0, "engine.not_controlled", "", {"signals": ["T"], "reason": f"light {i} is off"})
        for i in (1, 2, 1, 3, 4, 5, 6)
    ]
    assert shown(*left) == [
        TITLE,
        *(f"not controlled: light {i} is off" for i in (1, 2, 3, 4)),
        "not controlled: 2 more, see the event log",
    ]


def test_a_snapshot_is_shown_with_the_five_worst_junctions(shown):
    title, bar, *lines = shown(SNAPSHOT)
    assert (title, bar) == (TITLE, "━" * 6)  # 10.4 of 100 s, of 60 characters
    assert [line.split() for line in lines] == [
        ["time", "110", "s", "vehicles", "near", "signals", "31", "stopped", "12"],
        ["decided", "by", "controller", "safety", "events", "4", "cycles", "3"],
        ["tick", "1.75", "ms", "overruns", "1", "jitter", "p99", "2.1", "ms"],
        ["checkpoint", "60", "s", "trouble", "none"],
        ["junction", "vehicles", "stopped", "longest", "wait", "confidence"],
        ["b", "2", "9", "5", "s", "0.88"],
        ["c", "3", "2", "8", "s", "0.50"],
        ["a", "1", "2", "7", "s", "1.00"],
        ["d" * 40, "4", "2", "6", "s", "0.25"],
        ["e", "5", "1", "99", "s", "0.10"],
    ]


def test_trouble_is_told(shown):
    lines = shown(replace(SNAPSHOT, trouble="the planner is late"))
    assert ["checkpoint", "60", "s", "trouble", "the", "planner", "is", "late"] in [
        line.split() for line in lines
    ]


@pytest.mark.parametrize(
    ("end_s", "part"),
    [
        (200.0, 10.4 / 100.0),
        (120.8, 0.5),
        (1e9, None),
        (math.inf, None),
        (9e8, 10.4 / (9e8 - 100.0)),
    ],
)
def test_the_bar_is_the_part_of_the_time_that_is_over(monkeypatch, shown, end_s, part):
    bars = []

    class Bar(room.ProgressBar):
        def __init__(self, **how):
            bars.append(how)
            super().__init__(**how)

    monkeypatch.setattr(room, "ProgressBar", Bar)
    shown(replace(SNAPSHOT, end_s=end_s))
    bar = bars[-1]
    assert (bar["width"], bar["completed"]) == (60, pytest.approx(10.4))
    assert (
        bar["total"] is None
        if part is None
        else bar["completed"] / bar["total"] == pytest.approx(part)
    )


def test_what_happens_is_told_in_lines_of_which_the_last_eight_stay(shown):
    events = [Event(float(k), "safety.override", f"j{k}", {"by": "me", "n": k}) for k in range(10)]
    _, *lines = shown(*events, Event(11.0, "engine.cycle", "", {"n": 1}))
    assert lines == [f"{k:9d} safety.override j{k} by=me n={k}" for k in range(2, 10)]


def test_a_restart_and_the_end_are_told(shown):
    restarted = Restarted("it hung", 2.345)
    assert shown(restarted, RunEnded(123.4, True))[1:] == [
        "street process restarted after 2.3 s: it hung",
        "the end at 123 s",
    ]
    assert shown(RunEnded(123.6, False))[1:] == [
        "stopped; the same command goes on from here at 124 s"
    ]


def test_a_stop_whose_state_could_not_be_written_says_from_where_the_next_goes_on(shown):
    assert shown(RunEnded(124.0, False, lost_s=64.0))[1:] == [
        "stopped at 124 s, but its state could not be written; the same command goes on from 60 s"
    ]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_stops_the_street_and_keeps_its_state(shown, number):
    stopped = []

    def struck(engine):
        signal.raise_signal(number)
        stopped.append(engine.stopped)

    assert shown(struck, RunEnded(50.0, False))[1:] == [
        f"stopping ({signal.Signals(number).name}), keeping the state",
        "stopped; the same command goes on from here at 50 s",
    ]  # fmt: skip
    assert stopped == [1]


def test_a_street_that_does_not_answer_to_a_stop_is_told_with_what_is_kept(shown):
    """As one whose SUMO hangs: its process is ended without a word, and nothing is written."""

    def struck(engine):
        signal.raise_signal(signal.SIGINT)

    assert shown(SNAPSHOT, struck)[-2:] == [
        "stopping (SIGINT), keeping the state",
        "the street at 110 s did not answer and was ended; the same command goes on from 60 s",
    ]
    assert shown(struck) == [], "it was still starting"


def test_a_second_ctrl_c_waits_no_longer_and_other_signals_do(shown):
    def struck(engine):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.raise_signal(number)
        assert engine.stopped == 3
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        shown(struck)


def test_under_nohup_the_end_of_the_terminal_ends_nothing(shown):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    shown(RunEnded(50.0, True))
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_the_terminal_is_drawn_eight_times_a_second(shown, monkeypatch):
    asked = []

    class Live(room.Live):
        def __init__(self, **how):
            asked.append(how["refresh_per_second"])
            super().__init__(**how)

    monkeypatch.setattr(room, "Live", Live)
    shown()
    assert asked == [8]
