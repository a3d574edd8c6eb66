"""Orders that outlive the street process: another scenario, controller, cycle or speed factor, and
those of single junctions (hold, stage, flash).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from headway.files import write_whole
from headway.roads import Network
from headway.safety import Order, Override
from headway.settings import Settings, overridden
from headway.street.deployed import Deployed
from headway.street.messages import Optimise, Switch
from headway.telemetry.plain import plain

SECTIONS = {
    "scenario": "street",
    "controller": "control",
    "cycle_s": "loop",
    "speed_factor": "loop",
}  # of the settings, by name of the order
# of a settings file, applied while running; log has no secrets either
LIVE_SECTIONS = ("loop", "control", "planner", "q_learning", "alerts", "log")
Orders = dict[str, str | float]
MOST_TOLD = 100  # orders at junctions, in one event


class OrderStore:
    """What operators ordered for the task `key`, kept in a file until the run is finished; beyond
    that for a task that repeats.

    A file of another task, or one that cannot be read (`put_aside_unreadable`), counts as empty.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._given_up = set[str]()  # that the disk took no note of

    def load(self) -> Orders:
        """By name, see SECTIONS; what was not ordered is missing."""
        orders = self._read().get("orders", {})
        if not isinstance(orders, dict):
            return {}
        return {name: value for name, value in orders.items() if name not in self._given_up}

    def save(self, orders: Mapping[str, str | float], deployed: Deployed | None = None) -> None:
        """Written whole or not at all, with the models that they leave where `deployed` names them.
        Raises OSError.
        """
        content = self._read()
        if deployed is not None and content.get("models"):
            content |= _models(deployed, orders)
        self._write(content | {"orders": dict(orders)})
        self._given_up.clear()

    def with_switch(self, switch: Switch) -> Orders:
        """The orders in force once `switch` is obeyed too; not saved."""
        ordered = {"scenario": switch.scenario, "controller": switch.controller}
        return self.load() | {name: value for name, value in ordered.items() if value}

    def add(self, order: Optimise) -> None:
        """Raises OSError."""
        self.save(self.load() | order.changes())

    def drop(self, *names: str) -> None:
        """These orders, as far as there are any, are not in force any more. Raises OSError."""
        orders = self.load()
        left = {name: value for name, value in orders.items() if name not in names}
        if left != orders:
            self.save(left)

    def give_up(self, name: str) -> None:
        """This order is not in force any more: for this process also where the disk takes no note
        of it. Raises OSError then.
        """
        left = self.load()
        left.pop(name, None)
        self._given_up.add(name)
        self.save(left)

    def clear(self) -> None:
        for path in (self._path, self._canary):
            path.unlink(missing_ok=True)

    def rename(self, key: str) -> None:
        """The task has another key from now on. Raises OSError."""
        content = self._read()
        self._key = key
        if content:
            self._write(content)

    # --- models

    def deployed(self) -> Deployed:
        """The models that were ordered; none where what stands there cannot be read, or is of the
        scenario before: the process may have ended while it opened another one.
        """
        content, scenario = self._read(), self.load().get("scenario", "")
        if content.get("models_on", scenario) != scenario:  # not in older files
            return Deployed()
        try:
            found = Deployed.read(content.get("models", {}))
        except ValueError:
            return Deployed()
        return found if self._canary.exists() else replace(found, canary=None)

    def store_deployed(self, deployed: Deployed) -> None:
        """Raises OSError."""
        content, had_canary = self._read(), self._canary.exists()
        if deployed.canary is not None and not had_canary:
            self._canary.parent.mkdir(parents=True, exist_ok=True)
            self._canary.touch()
        try:
            if content.get("models", {}) or deployed != Deployed():
                self._write(content | _models(deployed, self.load()))
        except OSError:
            if not had_canary:
                self._canary.unlink(missing_ok=True)
            raise
        if deployed.canary is None:
            self._canary.unlink(missing_ok=True)

    def end_canary(self) -> None:
        """It has ended by itself: kept also on a full disk, where files can still be removed. A
        canary is one as long as there is a file beside the orders. Raises OSError.
        """
        self._canary.unlink(missing_ok=True)

    @property
    def _canary(self) -> Path:
        return self._path.with_name("canary")

    # --- of single junctions

    def store_overrides(
        self, run: str, network: Network, overrides: Mapping[int, Override]
    ) -> None:
        """Those in force in the run of this key, by junction. Raises OSError."""
        rows = [
            {
                "junction": network.junctions[o.junction].id,
                "order": o.order.value,
                "until_s": o.until_s,
                "by": o.by,
                "stage": o.stage,
            }
            for o in overrides.values()
        ]
        self._write(self._read() | {"run": run, "overrides": rows})

    def overrides(self, run: str, network: Network) -> dict[int, Override] | None:
        """Those in force in the run of this key, by junction; None where nothing is known. One that
        cannot be read, or is of a junction that is not there, is left out.
        """
        content = self._read()
        if content.get("run") != run or not isinstance(content.get("overrides"), list):
            return None
        number = {junction.id: j for j, junction in enumerate(network.junctions)}
        found = {}
        for row in content["overrides"]:
            try:
                j = number[row["junction"]]
                found[j] = Override(
                    junction=j,
                    order=Order(row["order"]),
                    until_s=float(row["until_s"]),
                    by=str(row["by"]),
                    stage=int(row["stage"]),
                )
            except (KeyError, TypeError, ValueError):
                continue
        return found

    def forget_overrides(self) -> None:
        """The run that they were ordered in is over. Raises OSError."""
        content = self._read()
        if "overrides" in content:
            del content["overrides"], content["run"]
            self._write(content)

    # --- the file

    def of_another_task(self) -> dict[str, Any] | None:
        """What the file holds for another task, for an event: `task`, and as far as there are any
        its `orders`, `models` and `overrides`, of which `more` are left out beyond MOST_TOLD. None
        where there are none.
        """
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            if found["task"] == self._key:
                return None
            found["models"] = {what: by for what, by in found.get("models", {}).items() if by}
            held = {n: found[n] for n in ("orders", "models", "overrides") if found.get(n)}
            if not held:
                return None
            if (more := len(held.get("overrides", ())) - MOST_TOLD) > 0:
                held |= {"overrides": held["overrides"][:MOST_TOLD], "more": more}
            told: dict[str, Any] = plain({"task": found["task"]} | held)
            return told
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None

    def put_aside_unreadable(self) -> str:
        """Why the file cannot be read; empty where it can, or where there is none. It is renamed
        then, so that nothing writes over what is left of it.
        """
        try:
            fault = self._fault()
            if fault:
                self._path.replace(self.aside)
        except FileNotFoundError:
            return ""
        except OSError as error:
            fault = error.strerror or str(error)
        return fault

    @property
    def aside(self) -> Path:
        """Where `put_aside_unreadable` puts it."""
        return self._path.with_name(f"{self._path.name}.unreadable")

    def _fault(self) -> str:
        """Raises OSError."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            return f"it is no JSON ({error})"
        if not isinstance(found, dict) or "task" not in found:
            return "it names no task"
        for name, kind in (("orders", dict), ("overrides", list), ("models", dict)):
            if not isinstance(found.get(name, kind()), kind):
                return f"its {name} are none"
        return ""

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            is_own = isinstance(found, dict) and found.pop("task") == self._key
            return found if is_own else {}
        except (OSError, ValueError, KeyError, RecursionError):
            return {}

    def _write(self, content: Mapping[str, Any]) -> None:
        write_whole(self._path, json.dumps({"task": self._key, **content}))


def _models(deployed: Deployed, orders: Mapping[str, str | float]) -> dict[str, Any]:
    """What the file says of them: also on which scenario they are, empty for the settings' own."""
    return {"models": deployed.as_json(), "models_on": orders.get("scenario", "")}


class AppliedSettings:
    """The sections of a settings file that were applied last, kept in the folder of a street: what
    a process starts with whose file is faulty by then, and by what others know its figures. They
    hold no secrets.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "applied.json"

    def store(self, settings: Settings) -> None:
        """A disk that fails is left alone: they are of use only where the file is faulty too."""
        content = settings.model_dump(mode="json", include=set(LIVE_SECTIONS))
        with contextlib.suppress(OSError):
            write_whole(self._path, json.dumps(content))

    @property
    def stamp(self) -> tuple[int, int]:
        """Another one after each `store`."""
        try:
            found = self._path.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_ino  # it is replaced

    def over(self, settings: Settings) -> Settings:
        """`settings` with what was applied last; as they are where nothing is known."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return overridden(settings, {name: found[name] for name in LIVE_SECTIONS})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return settings

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
