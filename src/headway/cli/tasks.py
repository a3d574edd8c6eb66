"""What `headway serve` and `headway street` share: the task of a street, and where Valkey is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from headway.settings import load, overridden
from headway.street.messages import Task

Changes = dict[str, dict[str, Any]]
REDIS_URL = "HEADWAY_REDIS_URL"
DEFAULTS: Changes = {"loop": {"speed_factor": 10.0}}  # where the settings file says nothing else


def task_of(config: str, changes: Changes, folder: Path) -> Task:
    """A street with its state in `folder`, which follows the settings file if there is one."""
    changes = {**changes, "recovery": {"folder": str(folder)}}
    settings = overridden(load(config or None, DEFAULTS), changes)
    if not config:
        return Task(settings)
    return Task(settings, path=config, changes=changes, defaults=DEFAULTS)


def require_valkey(what: str) -> str:
    """The address of Valkey. Raises ValueError where none is set."""
    if url := os.environ.get(REDIS_URL, ""):
        return url
    raise ValueError(
        f"{what} needs Valkey, which streets and API processes meet at: set {REDIS_URL} to its "
        "address, as redis://HOST:6379/0, or redis://:PASSWORD@HOST:6379/0."
    )
