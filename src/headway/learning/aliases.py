"""Who is champion, challenger and shadow of a street, entered in the registry as its events say it:
deployed, rolled back, withdrawn by itself.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from headway import telemetry
from headway.learning.registry import ALIASES, Registry
from headway.telemetry.threads import keep_running

ALIAS = {
    "all": "champion",
    "deploy": "champion",
    "champion": "champion",
    "canary": "challenger",
    "shadow": "shadow",
}  # by mode of a deployment, by what is rolled back, and by role at a start
DEPLOYED, ROLLED_BACK = "engine.model_deployed", "engine.model_rolled_back"
WITHDRAWN, SCENARIO = "engine.canary_withdrawn", "engine.scenario"
STARTS = ("engine.started", "engine.restored")
KINDS = (DEPLOYED, ROLLED_BACK, WITHDRAWN, SCENARIO, *STARTS)
MOST_WAITING = 1000  # events, while the database is away
AGAIN_AFTER_S = 2.0
ENDS_WITHIN_S = 5.0
NOBODY = "headway"  # where nobody ordered it
Wanted = dict[str, str]  # label of a version by junction, "" for the whole street


class AliasKeeper:
    """Enters events in a thread of its own, in their order; `take` never waits. The street's own
    orders are what counts: what is not entered when the program ends, or a model that the street
    could not have any more, is set right when it starts.
    """

    def __init__(self, registry: Callable[[], Registry]) -> None:
        """registry: asked for when there is something to enter. Raises ValueError."""
        self._registry = registry
        self._waiting = queue.Queue[tuple[str, Mapping[str, Any]]](MOST_WAITING)
        self._stop = threading.Event()
        self._log = telemetry.log("engine")
        self._thread = keep_running("aliases", self._work, self._stop, start=False)

    def begin(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(ENDS_WITHIN_S)

    def take(self, street: str, event: Mapping[str, Any]) -> None:
        """event: as streets publish it, with its kind and data."""
        if event.get("kind") in KINDS:
            try:
                self._waiting.put_nowait((street, event))
            except queue.Full:
                self._log.error("aliases not entered: too many wait", street=street)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                street, event = self._waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            while not self._is_entered(street, event):
                if self._stop.wait(AGAIN_AFTER_S):
                    return

    def _is_entered(self, street: str, event: Mapping[str, Any]) -> bool:
        """False where the database is away."""
        try:
            enter(self._registry(), street, event)
        except sa.exc.OperationalError:
            return False
        except (ValueError, OSError, sa.exc.SQLAlchemyError) as error:
            self._log.error("aliases not entered", street=street, error=str(error))
        return True


def enter(registry: Registry, street: str, event: Mapping[str, Any]) -> None:
    """Set the aliases that an event changes; those that are right stay. Raises ValueError for a
    model that is not of this registry, SQLAlchemyError.
    """
    now: dict[str, Wanted] = {alias: {} for alias in ALIASES}
    for entry in registry.aliases(street):
        now[entry.alias][entry.junction] = entry.label
    by = str(event["data"].get("by") or NOBODY)
    for alias, wanted in _wanted(event, now).items():
        for junction in now[alias].keys() - wanted.keys():
            registry.set_alias(street, junction, alias, None, by)
        for junction, label in wanted.items():
            if now[alias].get(junction) != label:
                registry.set_alias(street, junction, alias, registry.find(label).id, by)


def _wanted(event: Mapping[str, Any], now: Mapping[str, Wanted]) -> dict[str, Wanted]:
    """The aliases that an event changes, as they are to be."""
    kind, data = event["kind"], event["data"]
    if kind == SCENARIO:
        return {alias: {} for alias in ALIASES}
    if kind in STARTS:
        in_force = {ALIAS[role]: of for role, of in data.get("models", {}).items()}
        return {
            alias: dict.fromkeys(of.get("junctions") or [""], of["model"]) if of else {}
            for alias, of in ((alias, in_force.get(alias)) for alias in ALIASES)
        }
    if kind == WITHDRAWN:
        return {"challenger": {}}
    junctions = list(data.get("junctions") or [""])
    if kind == DEPLOYED:
        alias = ALIAS[data["mode"]]
        found: dict[str, Wanted] = {alias: dict.fromkeys(junctions, data["model"])}
        return found | ({"challenger": {}} if alias == "champion" else {})
    alias = ALIAS[data["what"]]
    if alias == "champion":
        before = str(data.get("controller", ""))  # one of the catalogue has no version
        return {alias: {"": before} if "@" in before else {}, "challenger": {}}
    if junctions == [""]:
        return {alias: {}}
    return {alias: {j: label for j, label in now[alias].items() if j not in junctions}}
