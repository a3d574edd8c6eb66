"""The database and the audit trail from the command line."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headway import telemetry
from headway.analytics import event_log
from headway.api.audit import Audit
from headway.api.seal import Seal
from headway.api.security import Principal, Role
from headway.cli.environment import SECRET_KEY
from headway.cli.keys import Data, put_on_record
from headway.runtime.folder_lock import locked
from headway.service.upkeep import TASKS, UpkeepService
from headway.settings import load, log_level
from headway.store import Database, open_database
from headway.store.database import migrate, schema, schemas, take_back
from headway.store.refused import FILE as REFUSED
from headway.store.refused import RefusedRows
from headway.store.revocations import Revocations
from headway.store.upkeep import (
    Drill,
    contents,
    new_key,
    read_key,
    refuse_connected,
    refuse_waiting,
    retain,
    rows_in,
    runs_perhaps_under_way,
)
from headway.store.upkeep import backup as back_up
from headway.store.upkeep import drill as try_out
from headway.store.upkeep import erase as take_away
from headway.store.upkeep import restore as set_back

db = typer.Typer(help="Database: backup, restore, retention.", no_args_is_help=True)
audit = typer.Typer(help="Audit trail of the API.", no_args_is_help=True)
console = Console()


@db.command()
def key(path: Annotated[Path, typer.Argument(help="Key file to create.")]) -> None:
    """Create a key file for backups. Store it apart from the backups: without it they cannot be
    read.
    """
    new_key(path)


@db.command("migrate")
def bring_up(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; say what would be done.")
    ] = False,
    back_to: Annotated[
        str,
        typer.Option(
            help="Go back to this earlier schema; what only newer ones hold is dropped. Stop the "
            "service first."
        ),
    ] = "",
    data: Data = "data",
) -> None:
    """Bring the tables to this version's schema, or make them. `headway serve` does so by itself;
    this does it before.
    """
    if back_to:
        if dry_run:
            raise typer.BadParameter("give --dry-run or --back-to")
        database = open_database(Path(data), create=False, migrated=False)
        try:
            before = schema(database)
            take_back(database, back_to)
        finally:
            database.close()
        put_on_record(Path(data), "db migrate", {"schema": before, "back_to": back_to})
        console.print(f"schema {before}: back to {back_to}", soft_wrap=True)
        return
    database = open_database(Path(data), create=not dry_run, migrated=False)
    try:
        before, known = schema(database), schemas()
        if before and before not in known:
            migrate(database)  # says why it cannot
        steps = [number for number in known if number > before]
        if not dry_run:
            migrate(database)
    finally:
        database.close()
    told = ", ".join(steps) if steps else "nothing to do"
    said = "would be done" if dry_run and steps else "done" if steps else known[-1]
    console.print(f"schema {before or 'none'}: {told} ({said})", soft_wrap=True)


@db.command()
def backup(
    path: Annotated[Path, typer.Argument(help="Backup file to write.")],
    key: Annotated[Path, typer.Option(help="Key file.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    data: Data = "data",
) -> None:
    """Write an encrypted backup of the whole database."""
    if path.exists() and not force:
        raise FileExistsError(f"{path}: is there already. Give another file, or --force.")
    secret, database = read_key(key), open_database(Path(data), create=False)
    try:
        console.print(f"{back_up(database, path, secret):,} bytes in {escape(str(path))}")
    finally:
        database.close()


@db.command()
def restore(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="Backup file to read; with --drill the newest one where none is given."
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="Key file; with --drill that of the schedule where none is given."),
    ] = None,
    drill: Annotated[
        bool,
        typer.Option(
            "--drill",
            help="Change nothing: restore into a new database, compare its rows with those that "
            "the backup was made of, and drop it.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also while others are connected. A service that runs must be started anew "
            "afterwards: the runs that it records are gone.",
        ),
    ] = False,
    with_erased: Annotated[
        bool,
        typer.Option("--with-erased", help="Also what was erased since the backup was made."),
    ] = False,
    config: Annotated[
        str, typer.Option(help="Settings file (YAML), for upkeep.folder and upkeep.key.")
    ] = "",
    data: Data = "data",
) -> None:
    """Restore the database from a backup, completely or not at all. Stop the service first: what
    came after the backup, audit trail included, is gone.
    """
    if not drill and (path is None or key is None):
        raise typer.BadParameter("give a backup file and --key, or --drill")
    if drill:
        _drill(path, key, config, Path(data))
    elif path is not None and key is not None:
        secret = read_key(key)
        rows_in(path, secret)  # is whole, and of this key: before anything is made or opened
        with contextlib.ExitStack() as held:
            if not force:
                held.enter_context(locked(Path(data), "headway db restore"))
            _restore(path, secret, Path(data), force, with_erased)


def _drill(path: Path | None, key: Path | None, config: str, folder: Path) -> None:
    upkeep = load(config or None).upkeep
    secret = read_key(key) if key is not None else None
    database = open_database(folder, create=False)
    try:
        schedule = UpkeepService(database, folder, upkeep, _publish_nowhere)
        _print_drill(
            try_out(
                database,
                schedule.newest() if path is None else path,
                read_key(schedule.key) if secret is None else secret,
            )
        )
    finally:
        database.close()


def _audit(database: Database, folder: Path) -> Audit:
    """Raises ValueError where what binds it is damaged."""
    return Audit(database, Seal(folder, os.environ.get(SECRET_KEY, "")))


def _restore(path: Path, secret: bytes, folder: Path, force: bool, with_erased: bool) -> None:
    """Raises DatabaseError while others are connected, unless `force`."""
    database = open_database(folder)
    try:
        revocations = Revocations(folder / "revoked.json")
        if not force:
            refuse_connected(database)
        before = contents(database)
        set_back(database, path, secret, with_erased)
        migrate(database)
        revocations.teach(database)
        after = contents(database)
        data = {"file": path.name, "entries_before": before.audited, "entries": after.audited}
        who = Principal("headway db restore", Role.ADMIN)
        _audit(database, folder).add(who, "restore", 200, data, set_back=True)
    finally:
        database.close()
    console.print(f"restored from {escape(str(path))}: {after}", soft_wrap=True)
    console.print(f"in place of {before}", soft_wrap=True)
    console.print("and an entry of this restore in the audit trail", soft_wrap=True)
    if force:
        console.print("Start the service anew: the runs that it records are gone.", soft_wrap=True)


def _publish_nowhere(topic: str, street: str, message: Any) -> None:
    """No live streams here."""


def _print_drill(found: Drill) -> None:
    """Exit status 1 where it does not show that all rows came back."""
    expected = found.expected or {}
    table = Table("table", "rows restored", "rows backed up", box=None)
    for name in sorted(found.rows.keys() | expected.keys()):
        table.add_row(name, f"{found.rows.get(name, 0):,}", f"{expected.get(name, 0):,}")
    console.print(table)
    if found.differences:
        console.print(f"{escape(found.path)}: rows differ: {', '.join(found.differences)}")
        raise SystemExit(1)
    if found.fault:
        console.print(f"{escape(found.path)}: {found.fault}", soft_wrap=True)
        raise SystemExit(1)
    rows = f"{sum(found.rows.values()):,} rows in {len(found.rows)} tables"
    console.print(f"{escape(found.path)} can be restored: {rows}, all there")


@db.command("upkeep")
def run_upkeep(
    task: Annotated[str, typer.Argument(help=f"Task: {', '.join(TASKS)}.")],
    config: Annotated[str, typer.Option(help="Settings file (YAML): its section upkeep.")] = "",
    data: Data = "data",
) -> None:
    """Do a task of the upkeep now, as the schedule of `headway serve` does: backups have its names,
    the oldest go, and the run is on record.
    """
    named = next((one for one in TASKS if one == task), None)
    if named is None:
        raise typer.BadParameter(f"no task {task!r}. There are: {', '.join(TASKS)}.")
    settings = load(config or None)
    telemetry.set_up(log_level(settings), settings.log.json_lines, settings.log.folder)
    database = open_database(Path(data), create=False)
    try:
        if named == "retention":
            refuse_waiting(Path(data))
        service = UpkeepService(
            database,
            Path(data),
            settings.upkeep,
            _publish_nowhere,
            under_way=lambda: runs_perhaps_under_way(database),
        )
        run = service.run(named)
    finally:
        database.close()
    told = ", ".join(f"{name}: {value}" for name, value in run.data.items())
    console.print(f"{run.task} in {run.took_s:.1f} s, {escape(told)}", soft_wrap=True)


@db.command("retain")
def keep(
    days: Annotated[float, typer.Argument(help="Age in days up to which records are kept.")],
    data: Data = "data",
) -> None:
    """Delete older records and reclaim their space. While a service runs, the newest run of each
    street stays.
    """
    database = open_database(Path(data), create=False)
    try:
        refuse_waiting(Path(data))
        rows = retain(database, days, runs_perhaps_under_way(database)).rows
        if aside := RefusedRows(Path(data) / REFUSED).retain(days):
            rows["refused"] = aside
        put_on_record(Path(data), "db retain", {"days": f"{days:g}"})
        console.print(", ".join(f"{name}: {count} rows" for name, count in rows.items()))
    finally:
        database.close()


@db.command()
def erase(
    simulation: Annotated[str, typer.Argument(help="Id of the simulation.")], data: Data = "data"
) -> None:
    """Delete all records of one simulation, also those that were put aside."""
    database = open_database(Path(data), create=False)
    try:
        refuse_waiting(Path(data))
        gone = RefusedRows(Path(data) / REFUSED).erase_simulation(simulation)
        gone += take_away(database, simulation)
        put_on_record(Path(data), "db erase", {"simulation": simulation, "rows": str(gone)})
        console.print(f"{gone} rows")
    finally:
        database.close()


@db.command("events")
def export_events(
    run: Annotated[int, typer.Argument(help="Number of the run in the database.")],
    out: Annotated[Path, typer.Option(help="Event file to write (CSV).")] = Path("events.csv"),
    detectors: Annotated[Path, typer.Option(help="Detector configuration to write (CSV).")] = Path(
        "detectors.csv"
    ),
    data: Data = "data",
) -> None:
    """Export signal and detector events of a run as Indiana high-resolution event codes, in the
    format of the Python package atspm.
    """
    database = open_database(Path(data), create=False)
    try:
        count = event_log.export(database, run, out, detectors)
    finally:
        database.close()
    if not count:
        raise ValueError(f"run {run} has no signal states in the database")
    console.print(f"{count:,} events in {escape(str(out))}, detectors in {escape(str(detectors))}")


@audit.command()
def verify(data: Data = "data") -> None:
    """Check the integrity of the audit trail; exit status 1 if it is broken."""
    database = open_database(Path(data), create=False)
    try:
        entries, wrong = _audit(database, Path(data)).verify()
    finally:
        database.close()
    console.print(f"{entries} entries, {wrong or 'whole'}")
    if wrong:
        raise SystemExit(1)
