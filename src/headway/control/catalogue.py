"""Controllers by name, one for each `headway.settings.ControllerName`."""

from __future__ import annotations

from collections.abc import Callable

from headway.control import Controller
from headway.control.actuated import Actuated
from headway.control.fixed import FixedTime
from headway.control.models import ModelFile, model_controller
from headway.control.planner import Planner
from headway.control.pressure import Greedy, MaxPressure
from headway.control.qlearning import QLearning
from headway.control.queue_model import Model
from headway.control.webster import Webster
from headway.roads import Network, Timing
from headway.settings import Settings

CONTROLLERS: dict[str, Callable[[Network, Timing], Controller]] = {
    "fixed": FixedTime,
    "webster": Webster,
    "actuated": Actuated,
    "greedy": Greedy,
    "max-pressure": MaxPressure,
    "planner": Planner,
    "q-learning": QLearning,
}


def controller(
    name: str | ModelFile, network: Network, timing: Timing, settings: Settings | None = None
) -> Controller:
    """The controller called `name`, or that a model is, for `network`, with the figures of
    `settings` (None: the defaults). Raises ValueError for an unknown name, or a model that cannot
    decide there.
    """
    if isinstance(name, ModelFile):
        return model_controller(name, network, timing, settings or Settings())
    if name not in CONTROLLERS:
        raise ValueError(f"no controller {name!r}. There are: {', '.join(CONTROLLERS)}.")
    if settings is not None and name == Planner.name:
        model = Model(**settings.planner.model_dump())
        return Planner(network, timing, model, settings.loop.tick_s)
    if settings is not None and name == QLearning.name:
        return QLearning(network, timing, interval_s=settings.q_learning.interval_s)
    return CONTROLLERS[name](network, timing)
