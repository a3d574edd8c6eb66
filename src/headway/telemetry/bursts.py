"""Something that goes wrong many times at once: counted each time, told once a while."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

TOLD_EVERY_S = 60.0
LATELY_S = 3600.0  # somebody who looks once an hour sees it


class Burst:
    """Counts what goes wrong, for any thread. count: since the start. clock: given by tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._untold = 0
        self._told_s = self._last_s = -math.inf

    def add(self, count: int = 1) -> int:
        """Count more; how many are to be told now, of those that were not told yet: at the first,
        then once in TOLD_EVERY_S, else 0.
        """
        with self._lock:
            now_s = self._clock()
            self.count += count
            self._untold += count
            self._last_s = now_s
            if now_s - self._told_s < TOLD_EVERY_S:
                return 0
            told, self._untold, self._told_s = self._untold, 0, now_s
            return told

    @property
    def is_recent(self) -> bool:
        """Whether any was within LATELY_S."""
        return self._clock() - self._last_s < LATELY_S
