"""Decisions for observations that somebody gives, by who decides on a street or by a model."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headway.control.models import ModelFile
from headway.street.limits import timing_of

if TYPE_CHECKING:
    from headway.control.predict import Prediction, Predictor, SeenJunction
    from headway.service.streets import RunningStreet

# what compiles is imported where it is needed: who never predicts need not load it

MOST_KEPT = 16  # controllers, each of one street
Chosen = str | ModelFile  # the name of a controller of the catalogue, or a model


@dataclass(frozen=True, slots=True)
class _Kept:
    """What it was made for, and the predictor, which one thread asks at a time."""

    network: object
    predictor: Predictor
    turn: threading.Lock = field(default_factory=threading.Lock)


class Predictions:
    """Keeps a predictor for each of the controllers that were asked last."""

    def __init__(self) -> None:
        self._kept = OrderedDict[tuple[str, str], _Kept]()
        self._changing = threading.Lock()

    def predict(
        self,
        street: RunningStreet,
        label: str,
        chosen: Callable[[], Chosen],
        seen: Sequence[SeenJunction],
    ) -> list[Prediction | str]:
        """A decision for each, or what is wrong with it. label: of the controller, by which it is
        kept; chosen: asked for where it is not. Raises ValueError for one that cannot decide on
        this street, and what `chosen` raises.
        """
        kept = self._kept.get((street.name, label))
        if kept is None or kept.network is not street.network:
            kept = self._make(street, label, chosen())
        with kept.turn:
            return kept.predictor.batch(seen)

    def _make(self, street: RunningStreet, label: str, chosen: Chosen) -> _Kept:
        from headway.control.catalogue import controller
        from headway.control.predict import Predictor

        network, settings = street.network, street.task.settings
        timing = timing_of(settings, network)
        decides = controller(chosen, network, timing, settings)
        kept = _Kept(network, Predictor(decides, network, timing))
        with self._changing:
            self._kept[street.name, label] = kept
            self._kept.move_to_end((street.name, label))
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return kept
