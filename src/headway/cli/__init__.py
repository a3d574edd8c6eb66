"""The commands. Exit status: 0 done, 1 failed (one line why), 2 called wrongly."""

from __future__ import annotations

import sys

from headway.cli.app import app


def main() -> None:
    """Entry point of `headway`."""
    try:
        app(prog_name="headway")
    except (ValueError, RuntimeError, OSError) as error:
        print(f"headway: {error}", file=sys.stderr)
        raise SystemExit(1) from error
