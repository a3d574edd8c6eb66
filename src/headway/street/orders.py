"""Orders that outlive the street process: another scenario, another controller."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from headway.settings import Settings, overridden
from headway.street.messages import Switch


class OrderStore:
    """The scenario and the controller that operators ordered for the task `key`, kept in a file
    until the run is finished.

    A file of another task, or one that cannot be read, counts as empty.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key

    def load(self) -> dict[str, str]:
        """By name: "scenario", "controller"; what was not ordered is missing."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return dict(found["orders"]) if found["task"] == self._key else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def save(self, orders: Mapping[str, str]) -> None:
        """Written whole or not at all. Raises OSError."""
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps({"task": self._key, "orders": orders}), encoding="utf-8")
        draft.replace(self._path)

    def with_switch(self, switch: Switch) -> dict[str, str]:
        """The orders in force once `switch` is obeyed too; not saved."""
        return self.load() | {name: value for name, value in asdict(switch).items() if value}

    def drop_controller(self) -> None:
        """The ordered controller, if any, is not in force any more. Raises OSError."""
        orders = self.load()
        if orders.pop("controller", None) is not None:
            self.save(orders)

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)


def with_orders(settings: Settings, orders: Mapping[str, str]) -> Settings:
    """The settings with what was ordered over them. Raises ValueError for an order that is not
    allowed.
    """
    sections = {"scenario": "street", "controller": "control"}
    changes = {sections[name]: {name: value} for name, value in orders.items() if name in sections}
    return overridden(settings, changes)
