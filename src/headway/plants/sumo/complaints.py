"""What SUMO writes on standard error while it starts: the reason of a fault that it raises as
"Process Error".
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STANDARD_ERROR = 2
PREFIX = "Error:"


@dataclass
class Complaints:
    """text: what was written, known when the block has ended."""

    text: str = ""

    def explain(self, error: Exception) -> str:
        """The error, with what SUMO said of it."""
        lines = [line.strip() for line in self.text.splitlines()]
        said = [line.removeprefix(PREFIX).strip() for line in lines if line.startswith(PREFIX)]
        raised = str(error).strip().rstrip(".")
        more = [x.rstrip(".") for x in said if x.rstrip(".") != raised]
        if more and raised == "Process Error":
            return "; ".join(more)
        return "; ".join((raised, *more))


@contextmanager
def complaints(found: Complaints) -> Iterator[None]:
    """Note in `found` what this process writes on standard error; it appears there afterwards."""
    sys.stderr.flush()
    kept = os.dup(STANDARD_ERROR)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), STANDARD_ERROR)
        try:
            yield
        finally:
            os.dup2(kept, STANDARD_ERROR)
            os.close(kept)
            file.seek(0)
            written = file.read()
            found.text = written.decode(errors="replace")
            os.write(STANDARD_ERROR, written)
