"""Controllers by name, one for each `headway.settings.ControllerName`."""

from __future__ import annotations

from collections.abc import Callable

from headway.control import Controller
from headway.control.actuated import Actuated
from headway.control.fixed import FixedTime
from headway.control.planner import Planner
from headway.control.pressure import Greedy, MaxPressure
from headway.control.qlearning import QLearning
from headway.control.webster import Webster
from headway.roads import Network, Timing

CONTROLLERS: dict[str, Callable[[Network, Timing], Controller]] = {
    "fixed": FixedTime,
    "webster": Webster,
    "actuated": Actuated,
    "greedy": Greedy,
    "max-pressure": MaxPressure,
    "planner": Planner,
    "q-learning": QLearning,
}


def controller(name: str, network: Network, timing: Timing) -> Controller:
    """The controller called `name`, for `network`. Raises ValueError for an unknown name."""
    if name not in CONTROLLERS:
        raise ValueError(f"no controller {name!r}. There are: {', '.join(CONTROLLERS)}.")
    return CONTROLLERS[name](network, timing)
