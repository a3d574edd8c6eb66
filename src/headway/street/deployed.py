"""Which models are champion, canary and shadow: what orders make of it, as the process keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec

from headway.control.models import ModelFile
from headway.street.messages import Deploy, Rollback

MOST_CHAMPIONS = 20  # before the present one, to which a street can be rolled back


@dataclass(frozen=True, slots=True)
class Deployed:
    """What was ordered, as it outlives the process.

    champions: the last one decides, the others did before it; empty for the controller of the
        settings and orders.
    resting:   those that are champions again when the optimisation is switched on.
    """

    champions: tuple[ModelFile, ...] = ()
    canary: Deploy | None = None
    shadow: Deploy | None = None
    resting: tuple[ModelFile, ...] = ()

    @property
    def champion(self) -> ModelFile | None:
        return self.champions[-1] if self.champions else None

    def with_deploy(self, order: Deploy) -> Deployed:
        """A canary was judged beside the champion of its time, so it ends with that."""
        if order.mode == "all":
            before = self.champions[:-1] if order.model == self.champion else self.champions
            champions = (*before, order.model)[-MOST_CHAMPIONS:]
            return replace(self, champions=champions, resting=(), canary=None)
        if order.mode == "canary":
            return replace(self, canary=order)
        return replace(self, shadow=order)

    def with_rollback(self, order: Rollback) -> Deployed:
        """Raises ValueError where there is nothing to roll back, or another model than is meant."""
        if order.what == "deploy":
            if self.champion is None:
                raise ValueError(
                    "no model is champion here: the controller of the settings and orders decides"
                )
            _require_meant(order, self.champion)
            return replace(self, champions=self.champions[:-1], canary=None)
        before = self.canary if order.what == "canary" else self.shadow
        if before is None:
            raise ValueError(f"there is no {order.what} here")
        _require_meant(order, before.model)
        left = _without(before, order.junctions)
        if order.what == "canary":
            return replace(self, canary=left)
        return replace(self, shadow=left)

    def without_champions(self, they_rest: bool = False) -> Deployed:
        """A controller of the catalogue was ordered. they_rest: until the optimisation is switched
        on.
        """
        resting = (self.champions or self.resting) if they_rest else ()
        return replace(self, champions=(), resting=resting, canary=None)

    def with_resting(self) -> Deployed:
        """The optimisation was switched on."""
        return replace(self, champions=self.resting, resting=(), canary=None)

    def in_force(self) -> dict[str, dict[str, Any]]:
        """For the event of a start: `model` and `junctions` (none for all) of each role."""
        found: dict[str, dict[str, Any]] = {}
        if self.champion is not None:
            found["champion"] = {"model": self.champion.label, "junctions": []}
        for order in (self.canary, self.shadow):
            if order is not None:
                about = {"model": order.model.label, "junctions": list(order.junctions)}
                found[order.mode] = about
        return found

    def as_json(self) -> dict[str, Any]:
        """What `read` takes."""
        return asdict(self)

    @classmethod
    def read(cls, found: object) -> Deployed:
        """Raises ValueError for what `as_json` did not write."""
        return msgspec.convert(found, cls)


def _require_meant(order: Rollback, present: ModelFile) -> None:
    if order.model not in ("", present.label):
        raise ValueError(
            f"{order.model!r:.80} is not {'champion' if order.what == 'deploy' else order.what} "
            f"here any more, {present.label} is: look again, and name that if it is meant"
        )


def _without(deployed: Deploy, junctions: tuple[str, ...]) -> Deploy | None:
    """Raises ValueError for junctions on which it is not, or of which it has all."""
    if not junctions:
        return None
    if not deployed.junctions:
        raise ValueError(
            f"the {deployed.mode} is on all junctions: end it everywhere, or deploy it on fewer"
        )
    if missing := [name for name in junctions if name not in deployed.junctions]:
        raise ValueError(f"the {deployed.mode} is not on {', '.join(missing)[:200]}")
    left = tuple(name for name in deployed.junctions if name not in junctions)
    return replace(deployed, junctions=left) if left else None
