"""How long the parts of a street's ticks take."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

DURATIONS_KEPT = 7200  # ticks; two hours at one a second
ADVANCE = 4  # the column of `Durations` that is the plant's own work


@dataclass
class Durations:
    """Wall time of the parts of the last DURATIONS_KEPT ticks, seconds; one row a tick: observe,
    decide, gate, apply, advance.
    """

    rows: deque[tuple[float, float, float, float, float]] = field(
        default_factory=lambda: deque(maxlen=DURATIONS_KEPT)
    )

    def table(self) -> np.ndarray[Any, Any]:
        """(ticks, 5), oldest first."""
        return np.array(self.rows).reshape(-1, 5)

    def last(self, ticks: int) -> np.ndarray[Any, Any]:
        """(at most `ticks`, 5), newest first."""
        return np.array(list(islice(reversed(self.rows), ticks))).reshape(-1, 5)
