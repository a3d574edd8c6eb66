"""Many runs of the benchmark, over several processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from tempfile import TemporaryDirectory
from typing import Any

from headway.experiments.benchmark import Job, Result, run_guarded
from headway.runtime.supervisor import end_with_parent, ignore_interrupts, interrupts_held

RUNS_EACH = 8  # of a process, then comes another one: libsumo keeps some memory of each run

Make = Callable[[Job], Result]


def run_all(jobs: list[Job], workers: int, make: Make = run_guarded) -> Iterator[Result]:
    """Run `jobs` over `workers` processes; results come as they are ready. A run that fails is a
    Result with an error, also one that ends its process: for want of memory, or within SUMO.

    make: a function that other processes can import.
    """
    waiting = deque(jobs)
    idle = [_Runner(make) for _ in range(min(workers, len(jobs)))]
    busy = dict[Connection, _Runner]()
    try:
        while waiting or busy:
            while waiting and idle:
                runner = idle.pop()
                busy[runner.begin(waiting.popleft())] = runner
            ready = wait(list(busy))
            for pipe in [pipe for pipe in busy if pipe in ready]:
                runner = busy.pop(pipe)
                idle.append(runner)
                yield runner.result()
    finally:
        for runner in (*idle, *busy.values()):
            runner.close()


class _Runner:
    """Makes one run after another, in a process of its own."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._folder = TemporaryDirectory(prefix="headway-")
        self._process: Any = None
        self._runs_left = 0

    def begin(self, job: Job) -> Connection:
        """Returns the pipe on which something comes when the run is over."""
        if not self._runs_left:
            self._end()
            self._start()
        self._job = job
        self._runs_left -= 1
        with contextlib.suppress(OSError):  # it has ended: `result` says so
            self._pipe.send(job)
        return self._pipe

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self._make, self._folder.name)
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        with interrupts_held():
            self._process.start()
        theirs.close()
        self._runs_left = RUNS_EACH

    def result(self) -> Result:
        """Of the run that is over."""
        try:
            found: Result = self._pipe.recv()
        except (EOFError, OSError):
            self._runs_left = 0
            self._process.join()
            return Result(**self._job.identity(), error=_ending(self._process.exitcode))
        return found

    def close(self) -> None:
        """A run under way is given up; its files are deleted."""
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()


def _ending(status: int) -> str:
    """How a process ended that should not have."""
    if status >= 0:
        return f"its process ended with status {status}; standard error may say why."
    how = f"its process was ended by signal {-status}"
    if status == -signal.SIGKILL:
        return f"{how}, as happens where memory is short. Make fewer runs at once (--jobs)."
    return f"{how}."


def _work(pipe: Connection, make: Make, folder: str) -> None:
    """A process of runs, with its temporary files in `folder`. It ends with its parent."""
    ignore_interrupts()
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    tempfile.tempdir = folder
    while True:
        pipe.send(make(pipe.recv()))
