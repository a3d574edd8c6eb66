"""That a street was stopped, kept in its folder: it stays so until somebody starts it, also over
starts of the server.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from headway.files import write_whole
from headway.street.messages import Task

UNKNOWN = "somebody"  # where the file is there, but cannot be read


@dataclass(frozen=True, slots=True)
class Stop:
    """by: who ordered it. at_s: when, seconds since 1970."""

    by: str
    at_s: float


def stop_of(task: Task) -> Stop | None:
    """By whose order the street of the task is stopped; None where it is not."""
    path = _path(task)
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Stop(str(found["by"]), float(found["at_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Stop(UNKNOWN, 0.0)


def keep_stop(task: Task, stop: Stop | None) -> None:
    """Written whole or not at all; None: it is stopped no more. Raises OSError."""
    path = _path(task)
    if stop is None:
        path.unlink(missing_ok=True)
        return
    write_whole(path, json.dumps(asdict(stop)))


def _path(task: Task) -> Path:
    return Path(task.settings.recovery.folder) / "stopped.json"
