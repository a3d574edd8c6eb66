"""A supervised worker process: restarted when it dies or hangs, but not without end."""

from __future__ import annotations

import atexit
import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from headway import telemetry

# wall seconds
START_WITHIN_S = 120.0
EXIT_WITHIN_S = 5.0
STOP_WITHIN_S = 2.0
HEAR_WITHIN_S = 5.0  # that it is to stop, a worker that is still starting: it has nothing to lose
SEND_REST_WITHIN_S = 1.0
SEND_WITHIN_S = 2.0  # until an order is refused because an earlier one is still being sent
PARENT_CHECK_S = 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0  # before a restart, from the second in a row on
PAUSE_CHECK_S = 0.1
LONGEST_WAIT_S = 0.5  # for a message at once: what a wait took longer, nobody was awake

LONGEST_FAULT = 500  # characters of the error that ends a worker

# end of the reason where a silent worker was stopped from outside (SIGSTOP, a debugger)
STOPPED = ", stopped"

ORPHANED_STATUS = 3  # exit status of a worker whose parent has ended


class WorkerError(RuntimeError):
    """The worker failed more often than is allowed; the message says how it ended last."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """The worker's own last message: the error that ends it."""

    text: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """The supervisor's own message after a restart: why, and after how many wall seconds the new
    worker sent its first message.
    """

    why: str
    recovery_s: float


@dataclass(frozen=True, slots=True)
class Compiling:
    """The worker's message to its supervisor alone: functions are being compiled, so that it is
    neither hung nor has started.
    """


@dataclass(frozen=True, slots=True)
class Opening:
    """The worker's message to its supervisor alone: what it begins now may take as long as a start,
    and until its next sign of life it has nothing to lose.
    """


class Outbox:
    """The worker's outgoing messages. `put` never waits: kept messages queue up, of the others only
    the latest is sent.

    lost: kept messages that were dropped, the oldest first, because `most` waited, and those that
        cannot be sent for what they are.
    """

    def __init__(self, pipe: Connection, most: int = 100_000) -> None:
        self._pipe = pipe
        self._kept = deque[Any](maxlen=most)
        self._most = most
        self.lost = 0
        self._latest = deque[Any](maxlen=1)
        self._wake, self._lock = threading.Event(), threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def put(self, message: Any, keep: bool = False) -> None:
        """Send a message. keep: it must not be replaced by a later one, nor overtake an earlier
        one.
        """
        with self._lock:
            if keep:
                too_many = len(self._kept) + len(self._latest) + 1 - self._most
                self.lost += max(too_many, 0)
                self._kept.extend(self._latest)
                self._latest.clear()
            (self._kept if keep else self._latest).append(message)
        self._wake.set()

    def close(self) -> None:
        """Send what is left, for at most SEND_REST_WITHIN_S."""
        self._closed = True
        self._wake.set()
        self._thread.join(SEND_REST_WITHIN_S)

    def _next(self) -> Any:
        with self._lock:
            if self._kept:
                return self._kept.popleft()
            return self._latest.popleft() if self._latest else None

    def _send(self) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            while True:
                self._wake.wait()
                self._wake.clear()
                while (message := self._next()) is not None:
                    self._send_one(message)
                if self._closed:
                    return

    def _send_one(self, message: Any) -> None:
        """One that cannot be pickled must not hold up the others. Raises OSError."""
        try:
            self._pipe.send(message)
        except OSError:
            raise
        except Exception as error:  # whatever pickle raises
            self.lost += 1
            kind = type(message).__name__
            telemetry.log("engine").error("a message cannot be sent", kind=kind, error=repr(error))


class Inbox:
    """What comes to a worker: orders, and data by a pipe of their own, so that orders neither wait
    behind data nor for whoever sends it.
    """

    def __init__(self, orders: Connection, data: Connection) -> None:
        self._orders = orders
        self._data = data

    def poll(self, within_s: float = 0.0) -> bool:
        """Something has come, or the other side has gone."""
        return bool(multiprocessing.connection.wait([self._orders, self._data], within_s))

    def recv(self) -> Any:
        """The next order, else the next piece of data. Waits for it. Raises EOFError where the
        other side has gone.
        """
        ready = multiprocessing.connection.wait([self._orders, self._data])
        return (self._orders if self._orders in ready else self._data).recv()

    def close(self) -> None:
        self._orders.close()
        self._data.close()


Work = Callable[[Outbox, Inbox, Any], None]


def _ignore(why: str) -> None:
    pass


class Supervisor:
    """Runs `work(outbox, inbox, argument)` in a process of its own and passes its messages on.

    silent_s: wall seconds without a sign of life after which it counts as hung and is killed.
    start_s:  the same, until the first sign of life after a start, or after an `Opening`; a
        `Compiling` begins it anew.
    restarts: restarts allowed in a row.
    made_progress: of a message, whether it shows that the work goes on; then restarts are counted
        anew.
    lives:    of a message, whether it is a sign of life: by default each is.
    on_failure: called with the reason when a worker has ended that should not, before the next one.
    clock, sleep, get_context (of multiprocessing): given by tests.
    """

    def __init__(
        self,
        work: Work,
        argument: Any,
        silent_s: float,
        restarts: int,
        made_progress: Callable[[Any], bool],
        start_s: float = START_WITHIN_S,
        clock: Callable[[], float] = time.monotonic,
        get_context: Callable[[str], Any] = multiprocessing.get_context,
        lives: Callable[[Any], bool] | None = None,
        on_failure: Callable[[str], None] = _ignore,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._work = work
        self._argument = argument
        self._silent_s = silent_s
        self._restarts = restarts
        self._made_progress = made_progress
        self._start_s = start_s
        self._clock = clock
        self._lives = lives
        self._on_failure = on_failure
        self._sleep = sleep
        self._context = get_context("spawn")
        self._process: Any = None
        self._orders = _Pipe()
        self._data = _Pipe()
        self._stopping = False
        self._silent_for_s = 0.0  # when it was found to be hung, else 0
        self._was_stopped = False
        self._fault = ""  # the error that ended the worker, in its own words

    @property
    def pid(self) -> int | None:
        """Process number of the present worker; None before the first start."""
        return self._process.pid if self._process is not None else None

    def send(self, order: Any) -> None:
        """Send an order to the worker. Raises WorkerError if there is none."""
        self._orders.send(order)

    def send_data(self, message: Any) -> None:
        """Send what may wait for orders. Raises WorkerError if there is no worker."""
        self._data.send(message)

    def stop(self) -> None:
        """Ask the worker to end; `messages` ends when it has."""
        self._stopping = True
        with contextlib.suppress(WorkerError):
            self.send(None)

    def messages(self) -> Iterator[Any]:
        """The worker's messages, with a `Restarted` before the first one after each restart. Raises
        WorkerError when it has failed too often.
        """
        failures = 0
        failed_at = math.nan
        why = first = ""
        while True:
            pipe = self._launch()
            is_first = True
            try:
                for message in self._listen(pipe):
                    if is_first and failures:
                        yield Restarted(why, self._clock() - failed_at)
                    is_first = False
                    if self._made_progress(message):
                        failures = 0
                    yield message
                why = "" if self._stopping else self._failure()
            finally:
                self._end_process()
            if not why or self._stopping:
                return
            self._on_failure(why)
            failed_at, failures = self._clock(), failures + 1
            first = why if failures == 1 else first
            if failures > self._restarts:
                before = f"; the first time: {first}" if first != why else ""
                raise WorkerError(
                    f"the worker failed {failures} times in a row; the last time: {why}{before}"
                )
            if not self._pause(failures):
                return

    def _pause(self, failures: int) -> bool:
        """Before the next worker: the first one comes at once, later ones ever later, since what
        fails at once again (no memory, a full disk) may last. False where a stop was requested.
        """
        if failures < 2:
            return True
        pause_s = min(FIRST_PAUSE_S * 2.0 ** (failures - 2), LONGEST_PAUSE_S)
        for _ in range(round(pause_s / PAUSE_CHECK_S)):
            if self._stopping:
                return False
            self._sleep(PAUSE_CHECK_S)
        return not self._stopping

    def _launch(self) -> Connection:
        """Start a worker; returns the pipe of its messages."""
        ours: Connection
        ours, theirs = self._context.Pipe(duplex=False)
        orders, self._orders.end = self._context.Pipe(duplex=False)
        data, self._data.end = self._context.Pipe(duplex=False)
        inbox = Inbox(orders, data)
        self._process = self._context.Process(
            target=begin_worker, args=(self._work, theirs, inbox, self._argument), daemon=True
        )
        with interrupts_held():
            self._process.start()
        atexit.register(self._kill)  # else the end of this process would wait for it for ever
        theirs.close()
        inbox.close()
        if self._stopping:  # asked for before there was this worker to hear it
            self.stop()
        return ours

    def _listen(self, pipe: Connection) -> Iterator[Any]:
        """Until the worker ends, or has given no sign of life for too long; or does not come up
        soon after it was asked to stop.
        """
        patience_s, silent_s = self._start_s, 0.0
        has_begun, unheard_s = False, 0.0
        self._silent_for_s, self._fault = 0.0, ""
        while silent_s < patience_s:
            awake_s = min(patience_s - silent_s, LONGEST_WAIT_S)
            begun = self._clock()
            try:
                message = pipe.recv() if pipe.poll(awake_s) else None
            except (EOFError, OSError):
                return
            # this process may have been stopped itself (Ctrl-Z, a machine that slept)
            waited_s = min(self._clock() - begun, awake_s)
            silent_s += waited_s
            if self._stopping and not has_begun:
                unheard_s += waited_s
                if unheard_s >= HEAR_WITHIN_S:
                    return
            if isinstance(message, Compiling):
                silent_s = 0.0
            elif isinstance(message, Opening):
                patience_s, silent_s = self._start_s, 0.0
                has_begun, unheard_s = False, 0.0
            elif isinstance(message, _Fault):
                self._fault = message.text
            elif message is not None:
                if self._lives is None or self._lives(message):
                    patience_s, silent_s, has_begun = self._silent_s, 0.0, True
                yield message
        self._silent_for_s = patience_s
        self._was_stopped = is_stopped(self.pid)

    def _failure(self) -> str:
        """How the worker ended; empty if it ended well."""
        if self._silent_for_s:
            return f"silent for {self._silent_for_s} s{STOPPED * self._was_stopped}"
        self._process.join(EXIT_WITHIN_S)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"ended by signal {_name_of(-code)}"
        said = f", {self._fault}" if self._fault else ""
        return "" if code == 0 else f"ended with status {code}{said}"

    def _end_process(self) -> None:
        if self._process is not None and self._process.is_alive():
            self._process.join(STOP_WITHIN_S if self._stopping else 0.0)
            self._kill()
            self._process.join()
        atexit.unregister(self._kill)

    def _kill(self) -> None:
        if self._process.is_alive():
            self._process.kill()


class _Pipe:
    """To a worker, for many threads. end: None before the first start."""

    def __init__(self) -> None:
        self.end: Connection | None = None
        self._lock = threading.Lock()  # a long message is written in several pieces

    def send(self, message: Any) -> None:
        """Raises WorkerError if there is no worker, or it does not read."""
        try:
            if self.end is None:
                raise OSError("not started")
            if not self._lock.acquire(timeout=SEND_WITHIN_S):
                raise OSError("it does not read")
            try:
                if not _has_room(self.end, SEND_WITHIN_S):
                    raise OSError("it does not read")
                self.end.send(message)
            finally:
                self._lock.release()
        except OSError as error:
            raise WorkerError(f"the worker takes no orders now ({error})") from error


def _name_of(number: int) -> str:
    """Of a signal; those for real time have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def is_stopped(pid: int | None) -> bool:
    """The process was stopped by a signal; False where that cannot be known."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return line.rpartition(")")[2].split()[:1] in (["T"], ["t"])


def _has_room(end: Connection, within_s: float) -> bool:
    """Whether a pipe takes a short message (4 KiB on Linux, as any order is) without waiting."""
    room = select.poll()
    room.register(end.fileno(), select.POLLOUT)
    return bool(room.poll(within_s * 1e3))


def begin_worker(work: Work, pipe: Connection, inbox: Inbox, argument: Any) -> None:
    """The worker's main function. A terminal's Ctrl-C and its end, and a SIGTERM to all processes
    of a service, are left to the parent, which then asks the worker to stop; without a parent the
    worker ends.
    """
    ignore_interrupts()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave_to_parent)  # its own children would inherit SIG_IGN
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    outbox = Outbox(pipe)
    try:
        work(outbox, inbox, argument)
    except Exception as error:
        outbox.put(_Fault(_brief(error)), keep=True)
        raise
    finally:
        outbox.close()


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """A process that is started within the block hears no Ctrl-C until it calls
    `ignore_interrupts`: before, it would end with a traceback while it is still importing.
    """
    resource_tracker.ensure_running()  # its start would let them through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """Ctrl-C is left to the parent, which hears it too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _leave_to_parent(number: int, frame: FrameType | None) -> None:
    pass


def _brief(error: Exception) -> str:
    """On one line, and not at length."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= LONGEST_FAULT else f"{text[:LONGEST_FAULT]}..."


def end_with_parent(
    parent: int,
    parent_now: Callable[[], int] = os.getppid,
    sleep: Callable[[float], None] = time.sleep,
    leave: Callable[[int], Any] = os._exit,
) -> None:
    """End this process at once when the process `parent` has ended."""
    while parent_now() == parent:
        sleep(PARENT_CHECK_S)
    leave(ORPHANED_STATUS)
