"""For tests of what goes on by itself."""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable


def until(holds: Callable[[], object], seconds: float = 120.0) -> None:
    """Returns as soon as it holds. Fails, with what each thread does,
    when it does not within the time: long enough for a busy machine.
    """
    deadline = time.monotonic() + seconds
    while not holds():  # asked once each time: an order is not given twice
        if time.monotonic() >= deadline:
            faulthandler.dump_traceback()
            raise AssertionError(f"it did not come true within {seconds:g} s")
        time.sleep(0.005)
