"""Every command against `contract.txt`: its arguments and options, their kinds,
defaults and bounds.

A change is made knowingly: change the file by hand, and tell those who call the commands.
"""

from __future__ import annotations

import inspect
import os
import re
import typing
from pathlib import Path

from typer.models import ArgumentInfo
from typer.testing import CliRunner

from headway.cli import application

CONTRACT = Path(__file__).with_name("contract.txt")
APP = application()


def option(name, default, hint):
    """One argument or option in a line."""
    kind, *told = (
        typing.get_args(hint)
        if typing.get_origin(hint) is typing.Annotated
        else (hint, ArgumentInfo())
    )
    (info,) = told
    argument = isinstance(info, ArgumentInfo)
    named = [
        word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)
    ]  # Annotated: the first word stands in `default`
    parts = [name.upper() if argument else " ".join(named or [f"--{name.replace('_', '-')}"])]
    parts.append(
        getattr(kind, "__name__", str(kind))
        if not typing.get_args(kind)
        else " or ".join(k.__name__ for k in typing.get_args(kind))
    )
    parts += [
        f"{sign} {bound}"
        for sign, bound in ((">=", info.min), ("<=", info.max))
        if bound is not None
    ]
    if default is inspect.Parameter.empty:
        parts.append("required")
    elif (name, default) == ("jobs", os.cpu_count() or 1):
        parts.append("= number of processors")
    else:
        parts.append(f"= {default}" if isinstance(default, Path) else f"= {default!r}")
    return " ".join(parts)


def contract(app, name):
    lines = []
    for command in sorted(app.registered_commands, key=lambda c: c.name or c.callback.__name__):
        lines.append(f"{name} {command.name or command.callback.__name__}")
        hints = typing.get_type_hints(command.callback, include_extras=True)
        lines += [
            f"    {option(p.name, p.default, hints[p.name])}"
            for p in inspect.signature(command.callback).parameters.values()
        ]
    for group in sorted(app.registered_groups, key=lambda g: g.name):
        lines += contract(group.typer_instance, f"{name} {group.name}")
    return lines


def test_the_commands_are_as_the_contract_says():
    assert contract(APP, "headway") == CONTRACT.read_text().splitlines()


def every_command(group, names=()):
    for command in group.registered_commands:
        yield (*names, command.name or command.callback.__name__), command.callback
    for inner in group.registered_groups:
        yield from every_command(inner.typer_instance, (*names, inner.name))


def test_no_word_in_brackets_is_lost_from_the_help(monkeypatch):
    """Rich takes [for ...] for its own mark-up and shows nothing of it."""
    monkeypatch.setenv("COLUMNS", "500")
    lost, found = [], 0
    for names, callback in every_command(APP):
        shown = " ".join(CliRunner().invoke(APP, [*names, "--help"]).output.split())
        texts = [callback.__doc__ or ""]
        for parameter in inspect.signature(callback, eval_str=True).parameters.values():
            texts += [getattr(m, "help", None) or "" for m in parameter.annotation.__metadata__]
        words = [w for text in texts for w in re.findall(r"\[[^\]]+\]", text.replace("\\[", "["))]
        found += len(words)
        lost += [(names, word) for word in words if " ".join(word.split()) not in shown]
    assert (lost, found > 0) == ([], True)


def test_who_says_too_little_is_helped():
    assert APP.info.context_settings == {"help_option_names": ["-h", "--help"]}
    assert (APP.info.no_args_is_help, APP.pretty_exceptions_enable) == (True, False)
    assert [g.typer_instance.info.no_args_is_help for g in APP.registered_groups] == [True] * 6
