"""The process of a job, seen from both sides. What a job does is loaded there alone: a worker that
waits for jobs is small.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from headway.runtime.supervisor import end_with_parent, ignore_interrupts, interrupts_held

MODELS = "models"
# what a machine is short of: another attempt may do, there or elsewhere
SHORT_OF = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN)
NICENESS = 10  # jobs give way to streets that run on the same machine

Tell = Callable[[float, str], None]  # progress (0 to 1), and what is done


@dataclass(frozen=True, slots=True)
class Told:
    """How far a job is."""

    progress: float
    note: str


@dataclass(frozen=True, slots=True)
class Done:
    """A job at its end. file: of the model that it made, empty for none; kind: of that, made_from:
    as the registry has it, name: what it is to be called.
    """

    result: dict[str, Any]
    file: str = ""
    kind: str = ""
    name: str = ""
    made_from: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """A job that cannot be done, and why. is_short: the machine lacks something, as room on its
    disk.
    """

    error: str
    is_short: bool = False


Do = Callable[[str, Mapping[str, Any], Path, Tell], Done]


def run_in_child(
    pipe: Connection, do: Do, kind: str, arguments: Mapping[str, Any], folder: Path
) -> None:
    """A process of one job; it ends with its parent. Sends Told, then Done or Failed."""
    ignore_interrupts()
    os.nice(NICENESS)
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()

    def tell(progress: float, note: str) -> None:
        pipe.send(Told(progress, note))

    try:
        place = folder / "tmp"
        place.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(place)  # goes with the job, whatever ends this process
        pipe.send(do(kind, arguments, folder, tell))
    except (OSError, MemoryError) as error:
        is_short = isinstance(error, MemoryError) or error.errno in SHORT_OF
        pipe.send(Failed(f"{type(error).__name__}: {error}", is_short))
    except (ValueError, RuntimeError, ArithmeticError, LookupError, ImportError) as error:
        pipe.send(Failed(f"{type(error).__name__}: {error}"))


def do_job(kind: str, arguments: Mapping[str, Any], folder: Path, tell: Tell) -> Done:
    """As `headway.learning.work.do_job`."""
    from headway.learning import work

    return work.do_job(kind, arguments, folder, tell)


class Child:
    """The process of one job. told: what it said last, None for nothing yet; outcome: None until it
    has ended, and if it ended without one. Raises OSError where no process can be started.
    """

    def __init__(self, do: Do, kind: str, arguments: Mapping[str, Any], folder: Path) -> None:
        self.told: Told | None = None
        self.outcome: Done | Failed | None = None
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe(duplex=False)
        words = (theirs, do, kind, arguments, folder)
        self._process: Any = context.Process(target=run_in_child, args=words)
        with interrupts_held():
            self._process.start()
        theirs.close()

    def listen(self, seconds: float) -> bool:
        """Hear what it says for so long; whether it has ended."""
        try:
            while self._pipe.poll(seconds):
                said = self._pipe.recv()
                if not isinstance(said, Told):
                    self.outcome = said
                    return True
                self.told = said
                seconds = 0.0
        except (EOFError, OSError):
            self._process.join()
            return True
        return False

    def ending(self) -> str:
        """How a process ended that said nothing of it."""
        status = self._process.exitcode or 0
        if status < 0:
            name = signal.Signals(-status).name
            return f"the process of the job was ended by {name}, as where memory is short"
        return f"the process of the job ended with status {status}; standard error may say why"

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()
