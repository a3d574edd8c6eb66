"""The commands. Exit status: 0 done, 1 failed (one line why), 2 called wrongly, 130 interrupted."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from headway import __version__

if TYPE_CHECKING:
    import typer

INTERRUPTED = 130  # as shells have it, and typer


def main() -> None:
    """Entry point of `headway`."""
    if sys.argv[1:] == ["--version"]:  # an update asks for it several times, beside what runs
        print(f"headway {__version__}")
        return
    try:
        # seconds pass until all is imported
        from headway.settings import read_secret_files, use_aliases

        read_secret_files(os.environ)
        use_aliases(os.environ)
        _application(sys.argv[1:])(prog_name="headway")
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except (ValueError, RuntimeError, OSError) as error:
        print(f"headway: {_text(error)}", file=sys.stderr)
        raise SystemExit(1) from error


def _application(words: list[str]) -> typer.Typer:
    """All commands; `watch`, `serve`, `street` and `worker` by themselves: what decides on streets
    is not loaded where a camera is watched, nor in a service or worker, whose streets and jobs are
    processes of their own (docs/decisions/0016-camera-memory.md).
    """
    if words[:1] == ["watch"]:
        from headway.cli.vision import watch

        return _alone("watch", watch)
    if words[:1] == ["serve"]:
        from headway.cli.serve import serve

        return _alone("serve", serve)
    if words[:1] == ["street"]:
        from headway.cli.street import street

        return _alone("street", street)
    if words[:1] == ["worker"]:
        from headway.cli.worker import worker

        return _alone("worker", worker)
    from headway.cli.app import app

    return app


def _alone(name: str, command: Callable[..., None]) -> typer.Typer:
    """One command as a program of its own, called like all of them."""
    import typer

    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command(name)(command)
    app.callback()(lambda: None)  # so that the command keeps its name
    return app


def _text(error: Exception) -> str:
    """The path first where a file is the trouble, as in other errors."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}."
    return str(error)
