"""What an operator orders at one junction, over the head of the controller, for a time."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum

from headway.values import described

LATEST_S = sys.float_info.max  # an int may be larger, and is no time then


class Order(Enum):
    """HOLD keeps the stage of the moment; STAGE forces one stage; FLASH takes the junction out of
    service: it flashes yellow and red (`headway.safety.flashing`).
    """

    HOLD = "hold"
    STAGE = "stage"
    FLASH = "flash"


@dataclass(frozen=True, slots=True)
class Override:
    """One order. junction, stage: indices; until_s: when it expires, seconds of the gate's clock;
    by: who ordered.

    The rules stand over the operator too: minimum green, yellow and clearance hold under every
    order.
    """

    junction: int
    order: Order
    until_s: float
    by: str
    stage: int = -1

    def __post_init__(self) -> None:
        for name in ("junction", "stage"):
            if type(value := getattr(self, name)) is not int:
                raise ValueError(
                    f"an override's {name} is a whole number; not {described(value, 40)}"
                )
        if not isinstance(self.order, Order) or not isinstance(self.until_s, (int, float)):
            raise ValueError(
                f"no override: {described(self.order, 40)} until {described(self.until_s, 40)}"
            )
        if not abs(self.until_s) <= LATEST_S:  # nor for what is not a number
            raise ValueError("an override needs an end: give until_s as a finite time")
        if self.order is Order.STAGE and self.stage < 0:
            raise ValueError("to force a stage, give its index (0 or more)")
