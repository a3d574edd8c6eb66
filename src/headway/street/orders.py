"""Orders that outlive the street process: another scenario, controller, cycle or speed factor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from headway.settings import Settings, overridden
from headway.street.messages import Optimise, Switch

SECTIONS = {
    "scenario": "street",
    "controller": "control",
    "cycle_s": "loop",
    "speed_factor": "loop",
}  # of the settings, by name of the order
Orders = dict[str, str | float]


class OrderStore:
    """What operators ordered for the task `key`, kept in a file until the run is finished; beyond
    that for a task that repeats.

    A file of another task, or one that cannot be read, counts as empty.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key

    def load(self) -> Orders:
        """By name, see SECTIONS; what was not ordered is missing."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return dict(found["orders"]) if found["task"] == self._key else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def save(self, orders: Mapping[str, str | float]) -> None:
        """Written whole or not at all. Raises OSError."""
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps({"task": self._key, "orders": orders}), encoding="utf-8")
        draft.replace(self._path)

    def with_switch(self, switch: Switch) -> Orders:
        """The orders in force once `switch` is obeyed too; not saved."""
        return self.load() | {name: value for name, value in asdict(switch).items() if value}

    def add(self, order: Optimise) -> None:
        """Raises OSError."""
        self.save(self.load() | order.changes())

    def drop(self, *names: str) -> None:
        """These orders, as far as there are any, are not in force any more. Raises OSError."""
        orders = self.load()
        left = {name: value for name, value in orders.items() if name not in names}
        if left != orders:
            self.save(left)

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)


def with_orders(settings: Settings, orders: Mapping[str, str | float]) -> Settings:
    """The settings with what was ordered over them. Raises ValueError for an order that is not
    allowed.
    """
    changes: dict[str, dict[str, str | float]] = {}
    for name, value in orders.items():
        if name in SECTIONS:
            changes.setdefault(SECTIONS[name], {})[name] = value
    return overridden(settings, changes)
