"""Decisions for observations that somebody gives, by who decides on a street or by a model."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from headway.control.models import ModelFile
from headway.street.limits import timing_of
from headway.street.orders import AppliedSettings

if TYPE_CHECKING:
    from headway.control.predict import Prediction, Predictor, SeenJunction
    from headway.service.running_street import RunningStreet

# what compiles is imported where it is needed: who never predicts need not load it

MOST_KEPT = 16  # controllers, each of one street
MADE_WITHIN_S = 15.0  # then whoever asks is told to come again; the first one is compiled
Chosen = str | ModelFile  # the name of a controller of the catalogue, or a model
Key = tuple[str, str]  # street, label


class NotReadyError(RuntimeError):
    """The controller is being made; ask again."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What it was made for, and the predictor, which one thread asks at a time. settings: the stamp
    of those that the street has applied.
    """

    network: object
    settings: tuple[int, int]
    predictor: Predictor
    turn: threading.Lock = field(default_factory=threading.Lock)


class Predictions:
    """Keeps a predictor for each of the controllers that were asked last."""

    def __init__(self) -> None:
        self._kept = OrderedDict[Key, _Kept]()
        self._making = dict[Key, Future[_Kept]]()
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
        this street, NotReadyError, and what `chosen` raises.
        """
        kept = self._kept.get((street.name, label))
        if (
            kept is None
            or kept.network is not street.network
            or kept.settings != _applied(street).stamp
        ):
            kept = self._made(street, label, chosen())
        with kept.turn:
            return kept.predictor.batch(seen)

    def _made(self, street: RunningStreet, label: str, chosen: Chosen) -> _Kept:
        """By one thread, however many ask."""
        key = street.name, label
        with self._changing:
            making = self._making.get(key)
            if making is None:
                making = self._making[key] = Future()
                work = partial(self._make, key, street, chosen, making)
                threading.Thread(target=work, name="predictor", daemon=True).start()
        try:
            return making.result(MADE_WITHIN_S)
        except TimeoutError:
            raise NotReadyError(f"{label} is being made; ask again later") from None

    def _make(self, key: Key, street: RunningStreet, chosen: Chosen, making: Future[_Kept]) -> None:
        try:
            kept = _predictor(street, chosen)
        except BaseException as error:
            with self._changing:
                del self._making[key]
            making.set_exception(error)
            return
        with self._changing:
            del self._making[key]
            self._kept[key] = kept
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        making.set_result(kept)


def _predictor(street: RunningStreet, chosen: Chosen) -> _Kept:
    """It has decided once: what it calls is compiled. Raises ValueError."""
    from headway.control.catalogue import controller
    from headway.control.predict import Predictor, SeenJunction

    network, applied = street.network, _applied(street)
    stamp = applied.stamp
    settings = street.task.settings
    if street.task.path:  # a file that the street follows
        settings = applied.over(settings)
    timing = timing_of(settings, network)
    predictor = Predictor(controller(chosen, network, timing, settings), network, timing)
    predictor.batch([SeenJunction(network.junctions[0].id)])
    return _Kept(network, stamp, predictor)


def _applied(street: RunningStreet) -> AppliedSettings:
    return AppliedSettings(Path(street.task.settings.recovery.folder))
