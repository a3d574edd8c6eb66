"""The commands. Exit status: 0 done, 1 failed (one line why), 2 called wrongly."""

from __future__ import annotations

import os
import sys

from headway.cli.app import app
from headway.settings import use_aliases


def main() -> None:
    """Entry point of `headway`."""
    use_aliases(os.environ)
    try:
        app(prog_name="headway")
    except (ValueError, RuntimeError, OSError) as error:
        print(f"headway: {_text(error)}", file=sys.stderr)
        raise SystemExit(1) from error


def _text(error: Exception) -> str:
    """The path first where a file is the trouble, as in other errors."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}."
    return str(error)
