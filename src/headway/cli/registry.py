"""The registry of models: what is registered, and whether it is still what was registered."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headway.cli.environment import SECRET_KEY
from headway.control.models import KINDS, ModelFile
from headway.learning.model_files import file_of
from headway.learning.registry import ModelVersion, Registry, require_name, signing_key
from headway.store import open_database

app = typer.Typer(
    help="Registry of models: versions, where they come from, whether they are whole.",
    no_args_is_help=True,
)
console = Console()
Data = Annotated[str, typer.Option(help="Data folder.")]
Register = Annotated[
    str,
    typer.Option(help="Name of a model: what was made is registered as its next version."),
]


@contextlib.contextmanager
def opened(data: str) -> Iterator[Registry]:
    """The registry of a data folder. Raises DatabaseError where there is no database."""
    folder = Path(data)
    database = open_database(folder, create=False)
    try:
        yield Registry(database, folder, signing_key(folder, os.environ.get(SECRET_KEY, "")))
    finally:
        database.close()


def require_registry(name: str, data: str) -> None:
    """Raises ValueError or DatabaseError where a model could not be registered: before hours go
    into making it. Nothing where the name is empty.
    """
    if name:
        require_name(name)
        with opened(data):
            pass


def register(data: str, path: Path, **what: Any) -> None:
    """Register a file and say as what."""
    with opened(data) as registry:
        console.print(f"registered as {registry.add(path, **what).label}", highlight=False)


def model_named(word: str, data: str) -> tuple[str, ModelFile] | None:
    """(what results call it, the model) of a path, NAME@NUMBER or NAME@champion; None where it is
    neither. Raises ValueError, OSError, DatabaseError.
    """
    path = Path(word)
    if path.is_file():
        name = re.sub(r"[^A-Za-z0-9_.-]", "-", path.stem).lstrip("_.-")[:64] or "file"
        return path.name, file_of(path, name)
    if "@" not in word:
        return None
    with opened(data) as registry:
        version = registry.find(word)
        return version.label, registry.file(version)


@app.command("list")
def list_versions(
    name: Annotated[str, typer.Option(help="Versions of this model alone.")] = "",
    kind: Annotated[str, typer.Option(help=f"Of this kind alone: {', '.join(KINDS)}.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Lines at most.")] = 100,
    data: Data = "data",
) -> None:
    """List versions, the newest first."""
    table = Table("model", "kind", "registered", "by", "bytes", "sha256", "fault", box=None)
    with opened(data) as registry:
        for version in registry.list(limit, name=name or None, kind=kind or None):
            table.add_row(
                version.label,
                version.kind,
                f"{version.created_at:%Y-%m-%d %H:%M}",
                escape(version.created_by),
                f"{version.size:,}",
                version.sha256[:12],
                version.fault,
            )
    console.print(table)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="File of the model.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    kind: Annotated[str, typer.Option(help=f"Kind: {', '.join(KINDS)}.")],
    parent: Annotated[str, typer.Option(help="Version that it was made of: NAME@NUMBER.")] = "",
    data: Data = "data",
) -> None:
    """Register a file as the next version of a model."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file.")
    with opened(data) as registry:
        made = registry.add(
            file,
            name=name,
            kind=kind,
            made_from={"file": file.name},
            metrics={},
            parent=registry.find(parent).id if parent else None,
            by="headway registry add",
        )
    console.print(made.label, highlight=False)


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="NAME, NAME@NUMBER or NAME@champion.")],
    data: Data = "data",
) -> None:
    """Show a version: what it was made from, its metrics, its file."""
    with opened(data) as registry:
        version = registry.find(model)
        parent = registry.get(version.parent).label if version.parent is not None else ""
        path = registry.file(version).path
    lines = {
        "model": version.label,
        "kind": version.kind,
        "registered": f"{version.created_at:%Y-%m-%d %H:%M:%S %Z} by {version.created_by}",
        "version of Headway": version.code_version,
        "file": path,
        "sha256": version.sha256,
        "parent": parent or "none",
        "made from": json.dumps(version.made_from, indent=1),
        "metrics": json.dumps(version.metrics, indent=1),
    }
    for what, text in lines.items():
        console.print(f"{what}: {text}", soft_wrap=True, highlight=False, markup=False)


@app.command()
def verify(data: Data = "data") -> None:
    """Check the signature of each version, and the checksum of its file; exit status 1 if one is
    not what was registered.
    """
    count, faults = 0, list[tuple[ModelVersion, str]]()
    with opened(data) as registry:
        for version, fault in registry.verify():
            count += 1
            if fault:
                faults.append((version, fault))
    for _, fault in faults:
        console.print(fault, soft_wrap=True, highlight=False, markup=False)
    console.print(f"{count} versions, {f'{len(faults)} with faults' if faults else 'all whole'}")
    if faults:
        raise SystemExit(1)
