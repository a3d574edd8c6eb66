"""Runs that are played, for processes of their own."""

from __future__ import annotations

import os
import signal
import tempfile
import time
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
