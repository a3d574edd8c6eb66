"""Runs that are played, for processes of their own."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from headway.experiments.benchmark import Job, Result

ABORTS, FAILS, IS_KILLED, LASTS = "aborts", "fails", "is killed", "lasts"


def play(job: Job) -> Result:
    """Says in which process it was made, as `arrived`; what else happens, its scenario says."""
    if job.scenario == ABORTS:
        os.abort()
    if job.scenario == IS_KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if job.scenario == FAILS:
        raise KeyError("a fault of the program")
    if job.scenario == LASTS:
        Path(job.keep).write_text(f"{os.getpid()} {tempfile.mkdtemp()}")
        time.sleep(60.0)
    return Result(**job.identity(), arrived=os.getpid())


def takes_long(job: Job) -> Result:
    time.sleep(1.0)
    return play(job)


def reads_its_settings(job: Job) -> Result:
    """Says what stands in its files, as `error`."""
    files = [Path(job.config), Path(job.model.path if job.model else "")]
    said = ", ".join(file.read_text() for file in files)
    return replace(play(job), error=said, config="elsewhere")
