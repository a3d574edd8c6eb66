"""A street's process whose planner does not come back from a step; in a module of its own, for
processes that are started anew.
"""

from __future__ import annotations

from headway.control.catalogue import CONTROLLERS
from headway.control.fixed import FixedTime
from headway.street.process import work

HANGS_AT_S = 25230.0  # cologne1 begins at 25200 s


class Hanging(FixedTime):
    """Fixed time, until it hangs."""

    name = "max-pressure"

    def step(self, observation, state):
        while observation.at_s >= HANGS_AT_S:
            pass
        return super().step(observation, state)


def work_and_hang(outbox, inbox, task):
    CONTROLLERS["max-pressure"] = Hanging
    work(outbox, inbox, task)
