"""The commands. Exit status: 0 done, 1 failed (one line why), 2 called wrongly, 130 interrupted."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headway import __version__

if TYPE_CHECKING:
    import typer

INTERRUPTED = 130  # as shells have it, and typer
# by name: the module below here, and in it a command, or a group of them
COMMANDS = {
    "demo": ("simulation", "demo"),
    "scenarios": ("simulation", "scenarios"),
    "bench": ("simulation", "bench"),
    "run": ("simulation", "run"),
    "train": ("simulation", "train"),
    "tune": ("tuning", "tune"),
    "serve": ("serve", "serve"),
    "street": ("street", "street"),
    "worker": ("worker", "worker"),
    "feed": ("feed", "feed"),
    "watch": ("vision", "watch"),
    "camera": ("vision", "camera"),
    "token": ("keys", "token"),
    "deploy": ("deploy", "deploy"),
    "test-gate": ("gate", "try_gate"),
    "key": ("keys", "app"),
    "db": ("database", "db"),
    "audit": ("database", "audit"),
    "registry": ("registry", "app"),
    "models": ("vision", "models"),
    "kpp": ("kpp", "app"),
}


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
        application(sys.argv[1:])(prog_name="headway")
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except (ValueError, RuntimeError, OSError) as error:
        print(f"headway: {_text(error)}", file=sys.stderr)
        raise SystemExit(1) from error


def application(words: Sequence[str] = ()) -> typer.Typer:
    """The command that is called, by itself: what decides on streets is not loaded where a camera
    is watched (docs/decisions/0016-camera-memory.md), nor the service where a street is driven or
    a key is made. All of them where none is named, as for --help.
    """
    import typer

    app = typer.Typer(
        help="An open real-time traffic signal platform.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def _headway(
        version: bool = typer.Option(
            False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ) -> None:
        pass

    for name in words[:1] if words and words[0] in COMMANDS else COMMANDS:
        module, attribute = COMMANDS[name]
        found = getattr(importlib.import_module(f"headway.cli.{module}"), attribute)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"headway {__version__}")
        raise SystemExit


def _text(error: Exception) -> str:
    """The path first where a file is the trouble, as in other errors."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}."
    return str(error)
