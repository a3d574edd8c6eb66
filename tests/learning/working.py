"""What jobs do in the tests of the worker, in place of training: files in the folder of the job say
what happened.
"""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import time
from pathlib import Path

from headway.learning.process import Done

PLANNER = "planner: {headway_s: 2.1}\n"


def note(folder, text):
    with (folder.parent.parent / "said").open("a") as file:
        file.write(text + "\n")


def said(data):
    """Lines that the jobs of a data folder have written."""
    path = data / "jobs" / "said"
    return path.read_text().split() if path.exists() else []


def makes(kind, arguments, folder, tell):
    """A model, at once."""
    note(folder, f"made:{arguments['episodes']}")
    (folder / "tuned.yaml").write_text(PLANNER)
    tell(0.5, "half")
    made_from = {"niceness": os.nice(0)}
    return Done(
        {"stopped": 1.0}, str(folder / "tuned.yaml"), "planner", arguments["name"], made_from
    )


def waits(kind, arguments, folder, tell):
    """As `makes`, once the file `go` is there."""
    note(folder, f"began:{folder.name}")
    tell(0.25, "waits")
    while not (folder.parent.parent / "go").exists():
        time.sleep(0.02)
    return makes(kind, arguments, folder, tell)


def says_where(kind, arguments, folder, tell):
    """Where it is to write."""
    return Done({"folder": str(folder), "temporary": tempfile.gettempdir()})


def looks_around(kind, arguments, folder, tell):
    """Which files it could go on with."""
    return Done({"files": [path.name for path in folder.parent.rglob("*") if path.is_file()]})


def fills_the_disk(kind, arguments, folder, tell):
    """At the first six attempts. The test takes `full` away."""
    note(folder, f"found:{len(list(folder.parent.glob('*/checkpoint')))}")
    (folder / "checkpoint").touch()
    if int(folder.name) < 7:
        (folder.parent.parent / "full").touch()
        raise OSError(errno.ENOSPC, "No space left on device")
    return makes(kind, arguments, folder, tell)


def fails(kind, arguments, folder, tell):
    raise ValueError("the network has no junctions")


def evaluates(kind, arguments, folder, tell):
    """Says which files it was given."""
    files = {c: Path(model.path).read_text() for c, model in arguments["models"].items()}
    labels = {c: model.label for c, model in arguments["models"].items()}
    return Done({"files": files, "labels": labels})


def dies(kind, arguments, folder, tell):
    """At the first two attempts."""
    note(folder, f"began:{folder.name}")
    if int(folder.name) < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return makes(kind, arguments, folder, tell)
