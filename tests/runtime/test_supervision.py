"""The supervisor of a worker and the worker's outbox:
with workers played by threads, and once with a real process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import FrozenInstanceError

import pytest
from structlog.testing import capture_logs
from tests.runtime.clocks import Clock
from tests.runtime.workers import fail, obey

from headway.runtime import Supervisor, WorkerError, supervisor
from headway.runtime.supervisor import Compiling, Opening, Outbox, Restarted

# the way out


class Wire:
    """Takes messages as a pipe does; the first `send` waits until it is released."""

    def __init__(self, held=True, error=None):
        self.sent = []
        self.begun = threading.Event()
        self.released = threading.Event()
        self.error = error
        if not held:
            self.released.set()

    def send(self, message):
        self.begun.set()
        assert self.released.wait(30.0)
        if self.error is not None:
            raise self.error
        self.sent.append(message)


def sent(wire, outbox, puts):
    """All that comes out when `puts` are made while the first message is still on its way."""
    outbox.put("first", keep=True)
    assert wire.begun.wait(10.0)
    for message, keep in puts:
        outbox.put(message, keep)
    wire.released.set()
    outbox.close()
    return wire.sent


def test_the_latest_message_replaces_earlier_ones_and_kept_ones_stay_in_order():
    wire = Wire()
    outbox = Outbox(wire)
    puts = [
        ("a", False),
        ("b", False),
        ("K", True),
        ("c", False),
        ("L", True),
        ("M", True),
        ("d", False),
        ("e", False),
    ]
    assert sent(wire, outbox, puts) == ["first", "b", "K", "c", "L", "M", "e"]


def test_the_number_of_kept_messages_is_limited():
    wire = Wire()
    assert sent(wire, Outbox(wire, most=2), [(k, True) for k in range(4)]) == ["first", 2, 3]
    wire = Wire()
    many = sent(wire, Outbox(wire), [(k, True) for k in range(100_001)])
    assert many[:2] == ["first", 1]


def test_dropped_messages_are_counted():
    wire = Wire()
    outbox = Outbox(wire, most=2)
    puts = [("a", True), ("old", False), ("b", True), ("c", True)]  # "old" is kept before "b"
    assert sent(wire, outbox, puts) == ["first", "b", "c"]
    assert outbox.lost == 2


def test_a_message_that_cannot_be_pickled_is_counted_and_holds_up_no_other():
    class Picky(Wire):
        def send(self, message):
            super().send(pickle.loads(pickle.dumps(message)))

    wire = Picky()
    outbox = Outbox(wire)
    with capture_logs() as logs:
        assert sent(wire, outbox, [(lambda: 1, True), ("next", True)]) == ["first", "next"]
    assert (outbox.lost, [line["kind"] for line in logs]) == (1, ["function"])


def test_messages_are_sent_at_once_and_without_a_limit():
    wire = Wire(held=False)
    outbox = Outbox(wire)
    for k in range(3):
        outbox.put(k)
        deadline = time.monotonic() + 10.0
        while len(wire.sent) <= k and time.monotonic() < deadline:
            time.sleep(0.001)
    assert wire.sent == [0, 1, 2]
    outbox.close()
    outbox.put("after the end")
    time.sleep(0.01)
    assert wire.sent == [0, 1, 2]


@pytest.mark.slow
def test_closing_sends_the_remaining_messages_within_a_second():
    class Slow(Wire):
        def send(self, message):
            time.sleep(0.02)
            super().send(message)

    wire = Slow(held=False)
    outbox = Outbox(wire)
    for k in range(3):
        outbox.put(k, keep=True)
    outbox.close()
    assert wire.sent == [0, 1, 2]
    stuck = Wire()
    outbox = Outbox(stuck)
    outbox.put("x", keep=True)
    begun = time.monotonic()
    outbox.close()
    assert 0.9 < time.monotonic() - begun < 1.8
    stuck.released.set()


def test_a_closed_pipe_ends_the_sending_and_nothing_else():
    before = set(threading.enumerate())
    wire = Wire(held=False, error=BrokenPipeError("gone"))
    outbox = Outbox(wire)
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    outbox.put("x")
    thread.join(10.0)
    assert not thread.is_alive()
    outbox.put("y")
    outbox.close()
    assert wire.sent == []


# the supervisor, with workers played by threads


class Process:
    """A worker played by a thread. script: what it puts out, one by one;
    ends with its `exitcode`, or hangs where that is None.
    """

    def __init__(self, played, target, args, daemon):
        self.played, self.target, self.args, self.daemon = played, target, args, daemon
        self.script, self.ends_with = played.scripts.pop(0)
        self.pid = 1000 + len(played.processes)
        self.exitcode = None
        self.ended = threading.Event()
        self.calls = []
        self.ears = self.args[1]
        played.processes.append(self)

    def start(self):
        self.mouth = os.dup(self.ears.fileno())
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        pipe = multiprocessing.connection.Connection(self.mouth, readable=False)
        with contextlib.suppress(BrokenPipeError):  # nobody listens any more
            for message in self.script:
                pipe.send(message)
        if self.ends_with is None:
            self.ended.wait(30.0)
        else:
            self.exitcode = self.ends_with
            self.ended.set()
        pipe.close()

    def is_alive(self):
        return not self.ended.is_set()

    def join(self, timeout=None):
        self.calls.append(("join", timeout))
        self.ended.wait(0.0 if timeout is not None and self.ends_with is None else 10.0)

    def kill(self):
        self.calls.append("kill")
        self.exitcode = -9
        self.ended.set()


class Played:
    """Stands for the processes of `multiprocessing`.
    scripts: (what is put out, exit status or None to hang), one a start.
    """

    def __init__(self, *scripts):
        self.scripts, self.processes, self.methods = list(scripts), [], []
        self.slept = []

    def __call__(self, method):
        self.methods.append(method)
        return self

    def Pipe(self, duplex):  # noqa: N802
        assert not duplex, "one way each"
        return multiprocessing.Pipe(duplex)

    def Process(self, target, args, daemon):  # noqa: N802
        return Process(self, target, args, daemon)


@pytest.fixture
def play():
    """A supervisor over played workers, and those. All its threads have ended afterwards."""
    made = []

    def start(*scripts, silent_s=5.0, restarts=0, worked=lambda m: False, **more):
        played = Played(*scripts)
        made.append(played)
        more = {"sleep": played.slept.append} | more
        return (
            Supervisor("work", "argument", silent_s, restarts, worked, get_context=played, **more),
            played,
        )

    yield start
    for played in made:
        for process in played.processes:
            process.ended.set()
            process.thread.join(10.0)
            assert not process.thread.is_alive()


def test_a_worker_that_succeeds_ends_the_messages(play):
    watched, played = play((["a", "b"], 0))
    assert watched.pid is None
    assert list(watched.messages()) == ["a", "b"]
    assert watched.pid == 1000
    (process,) = played.processes
    assert played.methods == ["spawn"]
    assert (process.daemon, process.args[0], process.args[3]) == (True, "work", "argument")
    assert process.calls == [("join", 5.0)]


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (7, "ended with status 7"),
        (1, "ended with status 1"),
        (-9, "ended by signal SIGKILL"),
        (-15, "ended by signal SIGTERM"),
        (-1, "ended by signal SIGHUP"),
        (-40, "ended by signal 40"),  # one for real time, which has no name
    ],
)
def test_the_cause_is_reported_when_a_worker_is_abandoned(play, status, why):
    watched, _ = play((["a"], status))
    messages = watched.messages()
    assert next(messages) == "a"
    with pytest.raises(
        WorkerError, match=f"^the worker failed 1 times in a row; the last time: {why}$"
    ):
        next(messages)


def test_a_worker_restarts_as_often_as_allowed_and_each_restart_is_reported_at_its_first_message(
    play,
):
    clock = Clock(50.0)
    watched, played = play((["a", "b"], 7), (["c", "d"], -9), (["e"], 3), restarts=2, clock=clock)
    found = []
    with pytest.raises(
        WorkerError,
        match=r"^the worker failed 3 times in a row; the last time: ended with status 3; "
        r"the first time: ended with status 7$",
    ):
        for message in watched.messages():
            found.append(message)
            clock.now += 1.0
    assert found == [
        "a",
        "b",
        Restarted("ended with status 7", 0.0),
        "c",
        "d",
        Restarted("ended by signal SIGKILL", 0.0),
        "e",
    ]
    assert len(played.processes) == 3


def test_restarts_in_a_row_come_ever_later_but_the_first_at_once(play):
    """What fails again at once may last: no memory, a full disk. Seconds: 1, 2, 4, 8, 16, 30."""
    pauses = []

    class Noting(Played):
        def Process(self, target, args, daemon):  # noqa: N802
            pauses.append(round(sum(self.slept), 3))
            self.slept.clear()
            return super().Process(target, args, daemon)

    watched, played = play(*(([], 7) for _ in range(9)), restarts=8)
    played.__class__ = Noting
    with pytest.raises(WorkerError, match="failed 9 times in a row"):
        list(watched.messages())
    assert pauses == [0.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_a_stop_does_not_wait_for_a_restart_and_there_is_none(play):
    slept = []

    def stop(seconds):
        slept.append(seconds)
        watched.stop()

    watched, played = play(([], 7), ([], 7), restarts=5, sleep=stop)
    assert list(watched.messages()) == []
    assert (len(slept), len(played.processes)) == (1, 2)


def test_the_time_to_the_first_message_after_a_failure_is_the_recovery(play):
    clock = Clock(50.0)

    class Late(Played):
        def Process(self, target, args, daemon):  # noqa: N802
            clock.now += 2.5
            return super().Process(target, args, daemon)

    watched, played = play((["a"], 7), (["b"], 0), restarts=1, clock=clock)
    played.__class__ = Late
    assert list(watched.messages()) == ["a", Restarted("ended with status 7", 2.5), "b"]


def test_a_worker_that_sends_nothing_after_a_restart_is_not_reported_as_restarted(play):
    watched, _ = play((["a"], 7), ([], 7), (["b"], 0), restarts=2)
    assert [m if isinstance(m, str) else m.why for m in watched.messages()] == [
        "a",
        "ended with status 7",
        "b",
    ]


def test_progress_resets_the_count_of_failures(play):
    scripts = [(["done"], 7), (["begun", "done"], 7), (["done", "begun"], 7), (["begun"], 7)]
    watched, played = play(*scripts, restarts=1, worked=lambda m: m == "done")
    with pytest.raises(WorkerError, match="failed 2 times in a row"):
        list(watched.messages())
    assert len(played.processes) == 4


def test_without_restarts_the_first_failure_is_the_last(play):
    watched, played = play(([], 7), restarts=0)
    with pytest.raises(WorkerError, match="failed 1 times in a row"):
        list(watched.messages())
    assert len(played.processes) == 1


def test_a_silent_worker_is_killed_and_restarted(play):
    watched, played = play((["a"], None), (["b"], 0), silent_s=0.05, restarts=1)
    found = list(watched.messages())
    assert [m if isinstance(m, str) else m.why for m in found] == ["a", "silent for 0.05 s", "b"]
    assert played.processes[0].calls == [("join", 0.0), "kill", ("join", None)]
    assert "kill" not in played.processes[1].calls


def test_the_first_message_may_take_longer_than_those_after_it(play):
    watched, played = play((["a"], 0), silent_s=0.001, start_s=20.0)
    slow = played.scripts[0]

    def script():
        time.sleep(0.05)
        yield from slow[0]

    played.scripts[0] = (script(), 0)
    assert list(watched.messages()) == ["a"]
    watched, _ = play(([], None), silent_s=20.0, start_s=0.01)
    begun = time.monotonic()
    with pytest.raises(WorkerError, match="silent for"):
        list(watched.messages())
    assert time.monotonic() - begun < 15.0


def test_a_worker_that_compiles_for_longer_than_a_start_may_take_is_not_hung(play):
    watched, played = play(([], 0), silent_s=20.0, start_s=0.2)

    def script():
        for _ in range(6):
            time.sleep(0.1)
            yield Compiling()
        yield "a"

    played.scripts[0] = (script(), 0)
    assert list(watched.messages()) == ["a"]


def test_a_worker_that_says_nothing_after_it_compiled_is_hung(play):
    watched, _ = play(([Compiling()], None), silent_s=20.0, start_s=0.05)
    with pytest.raises(WorkerError, match=r"the last time: silent for 0\.05 s$"):
        list(watched.messages())


class Ears:
    """A pipe on which only `heard` comes, at once, each piece after the pauses before it. A wait
    without a message turns the clock on by what was asked, and by `frozen_s` more each time.
    """

    def __init__(self, clock, heard, frozen_s=0.0):
        self.clock, self.heard, self.frozen_s = clock, list(heard), frozen_s

    def poll(self, within_s):
        if self.heard and self.heard[0] is not None:
            return True
        if self.heard:
            self.heard.pop(0)
        self.clock.now += within_s + self.frozen_s
        return False

    def recv(self):
        return self.heard.pop(0)

    def close(self):
        pass


def listening(play, heard, frozen_s=0.0, **more):
    """(supervisor, clock) of a worker that hangs, after what is `heard`."""
    clock = Clock(100.0)
    watched, played = play(([], None), clock=clock, **more)

    def pipe_of(duplex):
        ours, theirs = multiprocessing.Pipe(duplex)
        if played.ears is not None:
            return ours, theirs
        played.ears = Ears(clock, heard, frozen_s)
        played.unheard = ours  # else it closes, and the worker has nobody to talk to
        return played.ears, theirs

    played.ears, played.Pipe = None, pipe_of
    return watched, clock


def test_a_first_message_may_take_two_minutes_by_default_and_the_next_as_long_as_was_said(play):
    watched, clock = listening(play, ["a"], silent_s=5.0)
    messages = watched.messages()
    assert next(messages) == "a"
    assert clock.now == 100.0
    with pytest.raises(WorkerError, match=r"silent for 5\.0 s"):
        next(messages)
    assert clock.now == pytest.approx(105.0)
    watched, clock = listening(play, [])
    with pytest.raises(WorkerError, match=r"silent for 120\.0 s"):
        next(watched.messages())
    assert clock.now == pytest.approx(220.0)


def test_a_worker_that_opens_something_has_as_long_as_for_a_start_until_its_next_sign_of_life(play):
    minute = [None] * 120  # of waits of half a second
    heard = ["it lives", Opening(), *minute, "a word", "it lives"]
    watched, clock = listening(play, heard, silent_s=5.0, lives=lambda m: m == "it lives")
    found = []
    with pytest.raises(WorkerError, match=r"silent for 5\.0 s"):
        found.extend(watched.messages())
    assert clock.now == pytest.approx(165.0)
    watched, clock = listening(play, ["a", Opening()], silent_s=5.0)
    with pytest.raises(WorkerError, match=r"silent for 120\.0 s"):
        found.extend(watched.messages())
    assert found == ["it lives", "a word", "it lives", "a"]


def test_a_worker_that_opens_something_is_waited_for_no_longer_than_five_seconds_to_stop(play):
    watched, clock = listening(play, ["a", Opening(), None], silent_s=60.0)
    messages = watched.messages()
    assert next(messages) == "a"
    watched.stop()
    assert (list(messages), clock.now) == ([], pytest.approx(105.0))


def test_what_the_listener_itself_was_stopped_for_is_no_silence_of_the_worker(play):
    """Ctrl-Z and `fg`, a container that was paused: both stood still, for a minute each time."""
    watched, clock = listening(play, ["a", None, "b", None, None, "c"], frozen_s=60.0, silent_s=5.0)
    found = []
    with pytest.raises(WorkerError, match=r"silent for 5\.0 s"):
        for message in watched.messages():
            found.append((message, clock.now))
    assert [message for message, _ in found] == ["a", "b", "c"]
    assert found[-1][1] > 280.0, "three minutes later"


def test_a_worker_requested_to_stop_is_not_restarted_however_it_ends(play):
    watched, played = play((["a"], 7), restarts=5)
    found = []
    for message in watched.messages():
        found.append(message)
        watched.stop()
    assert found == ["a"]
    assert len(played.processes) == 1


@pytest.mark.parametrize("heard", [[], ["an early word"], [Compiling()] * 3])
def test_a_worker_that_does_not_come_up_is_waited_for_no_longer_than_five_seconds_to_stop(
    play, heard
):
    """A street that compiles does so for minutes. None: 0.5 s without a message."""
    pauses = [piece for one in heard for piece in (None, None, one)]
    watched, clock = listening(play, pauses, lives=lambda message: message == "it lives")
    watched.stop()
    assert list(watched.messages()) == [one for one in heard if isinstance(one, str)]
    assert clock.now == pytest.approx(105.0)


def test_a_worker_that_is_up_has_all_its_time_to_stop(play):
    watched, clock = listening(play, ["it lives", *[None] * 20, "saved"], silent_s=15.0)
    watched.stop()
    assert list(watched.messages()) == ["it lives", "saved"]
    assert clock.now > 110.0


def test_a_worker_requested_to_stop_is_killed_after_two_seconds(play):
    watched, played = play((["a"], None), silent_s=0.05)
    for _ in watched.messages():
        watched.stop()
    assert played.processes[0].calls == [("join", 2.0), "kill", ("join", None)]


def test_no_worker_is_left_when_the_messages_are_not_read_to_their_end(play):
    watched, played = play((["a", "b"], None), restarts=1)
    messages = watched.messages()
    assert next(messages) == "a"
    messages.close()
    assert "kill" in played.processes[0].calls
    assert not played.processes[0].is_alive()


@pytest.mark.slow
def test_a_worker_is_not_hung_because_its_listener_is_slow(play):
    watched, _ = play((["a", "b"], 0), silent_s=0.2)
    found = []
    for message in watched.messages():
        found.append(message)
        time.sleep(0.5)
    assert found == ["a", "b"]


def test_an_order_without_a_worker_is_refused():
    watched = Supervisor(obey, None, 1.0, 0, lambda m: False)
    with pytest.raises(WorkerError, match=r"the worker takes no orders now \(not started\)"):
        watched.send("x")
    watched.stop()  # nothing to stop is no error


@pytest.mark.slow
def test_orders_to_a_worker_that_does_not_read_are_refused_and_go_on_when_it_does(monkeypatch):
    """It is stopped, by SIGSTOP say: the pipe fills, and then nobody waits for it."""
    monkeypatch.setattr(supervisor, "SEND_WITHIN_S", 0.2)
    worker, ours = multiprocessing.Pipe(False)
    pipe = supervisor._Pipe()
    pipe.end = ours
    sent, refused = [], []

    def send():
        with pytest.raises(WorkerError, match=r"takes no orders now \(it does not read\)"):
            while len(sent) < 10_000:
                pipe.send(f"order {len(sent)} " + "x" * 200)
                sent.append(1)
        refused.append(1)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    sender.join(10.0)
    assert refused, "it waits"
    assert 100 < len(sent) < 10_000
    for k in range(len(sent)):
        assert worker.recv().startswith(f"order {k} "), "whole, and in order"
    assert not worker.poll(0.0), "what was refused is not obeyed later"
    pipe.send("again")
    assert worker.recv() == "again"


def test_orders_overtake_data_and_wait_for_nobody_who_sends_it():
    """The pipe of data is full, and somebody waits in the middle of a message: an order goes
    through, and is the next thing that the worker reads. 1 MiB is more than a pipe holds."""
    orders, data = multiprocessing.Pipe(False), multiprocessing.Pipe(False)
    inbox = supervisor.Inbox(orders[0], data[0])
    assert not inbox.poll(0.0)
    sending = threading.Thread(target=data[1].send, args=("d" * (1 << 20),), daemon=True)
    sending.start()
    assert inbox.poll(10.0)
    orders[1].send("first")
    orders[1].send("second")
    assert [inbox.recv(), inbox.recv()] == ["first", "second"]
    assert len(inbox.recv()) == 1 << 20
    sending.join(10.0)
    orders[1].close()
    data[1].close()
    assert inbox.poll(0.0), "the other side has gone"
    with pytest.raises(EOFError):
        inbox.recv()
    inbox.close()


def test_a_restart_report_is_immutable():
    with pytest.raises(FrozenInstanceError):
        Restarted("x", 1.0).why = "y"


# real processes


@pytest.mark.slow
def test_a_real_worker_follows_orders_is_restarted_when_it_dies_and_stops_on_request():
    watched = Supervisor(obey, {"a": 1}, 60.0, 1, lambda m: False)
    messages = watched.messages()
    assert next(messages) == ("given", {"a": 1})
    pid = watched.pid
    watched.send("x")
    assert next(messages) == (
        "ordered",
        "x",
        True,
    )  # a Ctrl-C of the terminal is none of its business
    watched.send("die")
    restarted = next(messages)
    assert restarted.why == "ended by signal SIGKILL"
    assert 0.0 < restarted.recovery_s < 60.0
    assert next(messages) == ("given", {"a": 1})
    assert watched.pid not in (pid, None)
    watched.stop()
    assert list(messages) == ["asked to end"]
    with pytest.raises(WorkerError, match="takes no orders now"):
        watched.send("y")


def test_a_worker_that_starts_after_the_request_to_stop_hears_it(monkeypatch):
    monkeypatch.setattr(supervisor, "HEAR_WITHIN_S", 60.0)
    watched = Supervisor(obey, 1, 60.0, 0, lambda m: False)
    watched.stop()
    assert list(watched.messages()) == [("given", 1), "asked to end"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_all_processes_of_a_service_leaves_the_worker_to_its_parent(number):
    """As systemd sends it, or a terminal that is closed: the parent asks it to stop."""
    watched = Supervisor(obey, 1, 60.0, 0, lambda m: False)
    messages = watched.messages()
    assert next(messages) == ("given", 1)
    os.kill(watched.pid, number)
    watched.send("x")
    assert next(messages)[:2] == ("ordered", "x")
    watched.stop()
    assert list(messages) == ["asked to end"]


def test_a_program_ends_though_a_worker_is_left():
    program = (
        "from tests.runtime.workers import work_silently\n"
        "from headway.runtime import Supervisor\n"
        "if __name__ == '__main__':\n"
        "    kept = Supervisor(work_silently, 1, 60.0, 0, bool).messages()\n"
        "    print(next(kept))\n"
        "    import builtins\n    builtins.kept = kept  # nothing closes it\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=40, check=True
    )
    assert done.stdout == "begun\n"


def test_the_error_that_ends_a_worker_is_the_reason_in_one_line_and_not_at_length():
    for said, shown in (("no\n  street", "no street"), ("x" * 600, "x" * 488 + "...")):
        messages = Supervisor(fail, said, 60.0, 0, lambda m: False).messages()
        assert next(messages) == "begun"
        with pytest.raises(WorkerError) as given_up:
            next(messages)
        assert str(given_up.value) == (
            "the worker failed 1 times in a row; the last time: ended with status 1, "
            f"ValueError: {shown}"
        )


@pytest.fixture
def interrupt():
    """The process's own answers to signals are put back afterwards."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("fails", [False, True])
def test_a_worker_ignores_ctrl_c_watches_its_parent_and_sends_all_before_it_ends(
    interrupt, monkeypatch, fails
):
    watching, ours_theirs = [], multiprocessing.Pipe(False)
    ours, theirs = ours_theirs
    monkeypatch.setattr(
        supervisor,
        "end_with_parent",
        lambda parent: watching.append((parent, threading.current_thread().daemon)),
    )

    def work(outbox, inbox, argument):
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        outbox.put((inbox, argument), keep=True)
        if fails:
            raise KeyError("broken")

    if fails:
        with pytest.raises(KeyError, match="broken"):
            supervisor.begin_worker(work, theirs, "inbox", "argument")
    else:
        supervisor.begin_worker(work, theirs, "inbox", "argument")
    assert ours.poll(0)
    assert ours.recv() == ("inbox", "argument")
    assert watching == [(os.getppid(), True)]
    ours.close()
    theirs.close()


def test_without_its_parent_a_worker_ends():
    parents, slept, left = [5, 5, 1], [], []
    supervisor.end_with_parent(5, lambda: parents.pop(0), slept.append, left.append)
    assert (left, slept) == ([3], [0.5, 0.5])


@pytest.mark.slow
def test_a_worker_that_is_still_starting_says_nothing_of_ctrl_c():
    """From the first moment on: its traceback would end in the terminal."""
    code = (
        "import multiprocessing, os, signal\n"
        "from headway.runtime.supervisor import ignore_interrupts, interrupts_held\n"
        "if __name__ == '__main__':\n"
        "    with interrupts_held():\n"
        "        process = multiprocessing.get_context('spawn').Process(target=ignore_interrupts)\n"
        "        process.start()\n"
        "    os.kill(process.pid, signal.SIGINT)\n"
        "    process.join()\n"
        "    print(process.exitcode, signal.SIGINT in signal.pthread_sigmask(0, ()))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (found.stdout, found.stderr) == ("0 False\n", "")
