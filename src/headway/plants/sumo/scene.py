"""All vehicles of a street at one moment, for display."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Scene:
    """All vehicles at one moment; n of them. number: uint32 (n,), the same for one vehicle as long
    as it drives. at_m: float32 (n, 2), the front's place; angle_deg: (n,), clockwise from north;
    speed_mps, length_m: (n,); kind: (n,), see `headway.plants.sumo.plant.CLASSES`."""

    number: np.ndarray[Any, np.dtype[np.uint32]]
    at_m: np.ndarray[Any, np.dtype[np.float32]]
    angle_deg: np.ndarray[Any, np.dtype[np.float32]]
    speed_mps: np.ndarray[Any, np.dtype[np.float32]]
    length_m: np.ndarray[Any, np.dtype[np.float32]]
    kind: np.ndarray[Any, np.dtype[np.uint8]]
