"""Threads that do not die in silence: what ends one with an error is logged and counted, and it is
started anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from headway import telemetry
from headway.telemetry import metrics

# wall seconds until a thread that failed is started anew
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0


def keep_running(
    name: str,
    work: Callable[[], None],
    stop: threading.Event,
    start: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> threading.Thread:
    """A daemon thread that calls `work` until it returns, or `stop` is set. Where `work` raises,
    the error is logged and counted (`headway_thread_failures`), and it is called again after a
    pause, which doubles from FIRST_PAUSE_S to LONGEST_PAUSE_S while it fails again and again.

    start: at once; else the caller starts it.
    """

    def run() -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            begun_s = clock()
            try:
                work()
                return
            except Exception as error:
                tell_failure(name, error)
            if clock() - begun_s > LONGEST_PAUSE_S:  # it had worked for a while
                pause_s = FIRST_PAUSE_S
            if stop.wait(pause_s):
                return
            pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)

    thread = threading.Thread(target=run, daemon=True, name=name)
    if start:
        thread.start()
    return thread


def tell_failure(name: str, error: BaseException) -> None:
    """Into the log and the metrics: a thread has failed."""
    metrics.thread_failures.labels(name).inc()
    metrics.thread_failed_at.labels(name).set(time.time())
    telemetry.log("engine").error(
        "a thread failed; it is started anew", thread=name, error=repr(error), exc_info=error
    )


def failed_within(seconds: float) -> list[str]:
    """Names of the threads that failed within this time."""
    since_s = time.time() - seconds
    samples = (sample for metric in metrics.thread_failed_at.collect() for sample in metric.samples)
    return sorted(sample.labels["thread"] for sample in samples if sample.value >= since_s)
