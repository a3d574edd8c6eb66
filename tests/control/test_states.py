"""What a controller hands on is never changed in place: each of its values is frozen."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from headway.control.actuated import ActuatedState
from headway.control.confidence import Confidence
from headway.control.planner import PlannerState
from headway.control.pressure import Aim
from headway.control.qlearning import QState
from headway.control.webster import CycleBounds, Plan, WebsterState


@pytest.mark.parametrize(
    "kind", [ActuatedState, Aim, Confidence, CycleBounds, Plan, PlannerState, QState, WebsterState]
)
def test_a_state_cannot_be_changed(kind):
    names = [f.name for f in fields(kind)]
    value = kind(*(np.zeros(1) for _ in names))
    for name in names:
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, None)
