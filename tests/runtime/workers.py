"""Work for supervised processes, in a module of its own so that a new process has little to import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def obey(outbox, inbox, argument):
    """Tell what was given and ordered, in order; end when ordered to, or as the order says."""
    outbox.put(("given", argument), keep=True)
    while (order := inbox.recv()) is not None:
        if order == "die":
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        outbox.put(("ordered", order, signal.getsignal(signal.SIGINT) is signal.SIG_IGN), keep=True)
    outbox.put("asked to end", keep=True)


def work_once_then_well(outbox, inbox, path):
    """End with status 7 where `path` is not there yet, which is then made."""
    outbox.put("begun", keep=True)
    if not Path(path).exists():
        Path(path).touch()
        time.sleep(0.2)
        os._exit(7)
    outbox.put("done", keep=True)


def work_silently(outbox, inbox, path):
    """Begin, and say nothing more."""
    outbox.put("begun", keep=True)
    time.sleep(60)
