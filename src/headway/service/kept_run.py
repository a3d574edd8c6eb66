"""The run of the record that a street is in, kept in its folder: a process that goes on from a
checkpoint of the one before goes on in its run.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from headway.files import write_whole
from headway.street.messages import Task

FILE = "run.json"
NUMBERS_AHEAD = 1000  # of events, so that the file is written once in so many


@dataclass(frozen=True, slots=True)
class KeptRun:
    """run_key: by which the database knows the run, whatever its number is there. key: of the
    street's settings. scenario, demand: of the run. events: all numbers of its events are below.
    """

    run_key: str
    key: str
    scenario: str
    demand: str
    events: int


def kept_run(task: Task) -> KeptRun | None:
    """None where there is none, or it is of other settings."""
    try:
        found = json.loads(_path(task).read_text(encoding="utf-8"))
        kept = KeptRun(
            run_key=str(found["run_key"]),
            key=str(found["key"]),
            scenario=str(found["scenario"]),
            demand=str(found["demand"]),
            events=int(found["events"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kept if kept.key == task.key() else None


def keep_run(task: Task, kept: KeptRun | None) -> None:
    """Written whole or not at all; None: the next process begins another one, as it does where the
    disk takes nothing.
    """
    path = _path(task)
    with contextlib.suppress(OSError):
        if kept is None:
            path.unlink(missing_ok=True)
            return
        write_whole(path, json.dumps(asdict(kept)))


def _path(task: Task) -> Path:
    return Path(task.settings.recovery.folder) / FILE
