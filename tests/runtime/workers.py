"""Work for supervised processes, in a module of its own so that
a new process has little to import.
"""

from __future__ import annotations

import os
import signal
import time


def obey(outbox, inbox, argument):
    """Tell what was given and ordered, in order; end when ordered to, or as the order says."""
    outbox.put(("given", argument), keep=True)
    while (order := inbox.recv()) is not None:
        if order == "die":
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        outbox.put(("ordered", order, signal.getsignal(signal.SIGINT) is signal.SIG_IGN), keep=True)
    outbox.put("asked to end", keep=True)


def work_silently(outbox, inbox, path):
    """Begin, and say nothing more."""
    outbox.put("begun", keep=True)
    time.sleep(60)


def fail(outbox, inbox, why):
    """Begin, and end by an error."""
    outbox.put("begun", keep=True)
    raise ValueError(why)
