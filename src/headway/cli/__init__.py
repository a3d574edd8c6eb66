"""The commands. Exit status: 0 done, 1 failed (one line why), 2 called wrongly."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from headway.settings import use_aliases

if TYPE_CHECKING:
    import typer


def main() -> None:
    """Entry point of `headway`."""
    use_aliases(os.environ)
    try:
        _application(sys.argv[1:])(prog_name="headway")
    except (ValueError, RuntimeError, OSError) as error:
        print(f"headway: {_text(error)}", file=sys.stderr)
        raise SystemExit(1) from error


def _application(words: list[str]) -> typer.Typer:
    """All commands; for `watch` it alone: what steers streets is not loaded where a camera's
    computer watches (130 MB less, docs/decisions/0016-camera-memory.md).
    """
    if words[:1] == ["watch"]:
        from headway.cli.vision import alone

        return alone()
    from headway.cli.app import app

    return app


def _text(error: Exception) -> str:
    """The path first where a file is the trouble, as in other errors."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}."
    return str(error)
