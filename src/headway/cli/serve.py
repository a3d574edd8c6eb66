"""The service: streets, record, API and page, by one command."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from rich.console import Console
from rich.markup import escape

from headway import telemetry
from headway.analytics import highres
from headway.api import create_app
from headway.api.security import Audit, Keyring, Role
from headway.api.services import ApiSettings
from headway.api.sockets import Connection
from headway.plants.sumo.scenarios import scenario
from headway.service.streets import StreetService
from headway.settings import Settings, load, overridden
from headway.store import Intake, open_database
from headway.store.upkeep import backup as back_up
from headway.store.upkeep import erase as take_away
from headway.store.upkeep import new_key, read_key, retain
from headway.store.upkeep import restore as set_back
from headway.street.messages import Task

console = Console()
db = typer.Typer(help="The database: backup, restore, retention.", no_args_is_help=True)
audit = typer.Typer(help="The audit trail.", no_args_is_help=True)
Data = Annotated[str, typer.Option(help="Folder of the data.")]


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.freeze()  # docs/decisions/0012-pauses.md


def serve(
    scenario_: Annotated[
        str, typer.Option("--scenario", help="Scenario to run; none for a server without streets.")
    ] = "cologne8",
    baseline: Annotated[
        bool, typer.Option(help="The network's own fixed time beside Headway.")
    ] = True,
    realtime: Annotated[float, typer.Option(min=0.0, help="Times real time.")] = 10.0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    data: Data = "data",
    config: Annotated[str, typer.Option(help="Settings, a YAML file.")] = "",
    per_minute: Annotated[
        int, typer.Option(min=0, help="Requests a minute of one client; 0 for no limit.")
    ] = 600,
    timing: Annotated[str, typer.Option(help="benchmark or street.")] = "street",
    repeat: Annotated[
        bool, typer.Option(help="Start again when the demand of the scenario has ended.")
    ] = True,
) -> None:
    """Run streets, database, API and page; prints a fresh administrator's token once."""
    folder = Path(data)
    changes: dict[str, dict[str, Any]] = {
        "street": {"scenario": scenario_ or "cologne8", "timing": timing},
        "loop": {"realtime": realtime},
    }
    settings = overridden(load(config or None), changes)
    if scenario_:
        scenario(scenario_)
    telemetry.set_up(settings.log.level, settings.log.json_lines, settings.log.folder)
    port = _free(host, port)  # before anything is started
    database = open_database(folder)

    def streets(tell: Any, intake: Intake) -> StreetService:
        service = StreetService(tell, intake)
        if scenario_:
            service.start("headway", Task(_into(settings, folder / "headway")), repeat)
        if scenario_ and baseline:
            fixed = overridden(settings, {"control": {"controller": "fixed", "fallback": "fixed"}})
            service.start("baseline", Task(_into(fixed, folder / "baseline")), repeat)
        return service

    try:
        api = ApiSettings(
            folder,
            per_minute,
            redis_url=os.environ.get("HEADWAY_REDIS_URL", ""),
            notify=settings.notify,
        )
        app = create_app(api, database, streets)
        _print_link(host, port, Keyring(folder / "keys.json").token("admin", Role.ADMIN))
        _run(app, host, port)
    finally:
        database.close()


def _free(host: str, port: int) -> int:
    """The port; where it is 0, one that is free. Raises OSError if it cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"{host}:{port} cannot be listened on ({error.strerror}). Give another --port."
            ) from error
        found: int = probe.getsockname()[1]
        return found


def _print_link(host: str, port: int, token: str) -> None:
    """The page's address with a token; opened in a browser where there is a display."""
    link = f"http://{host}:{port}/#token={token}"
    console.print(f"[bold]{link}[/bold]", soft_wrap=True, highlight=False)
    if sys.stdout.isatty() and (os.environ.get("DISPLAY") or sys.platform == "darwin"):
        webbrowser.open(link)
    console.print(
        "The link signs an administrator in for 12 hours; it is shown this once. Ctrl-C ends.",
        highlight=False,
    )


def _run(app: Any, host: str, port: int) -> None:
    """Until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        ws=Connection,
        ws_ping_interval=20.0,
        server_header=False,
    )
    try:
        _Server(config).run()
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here")


def _into(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(
        update={"recovery": settings.recovery.model_copy(update={"folder": str(folder)})}
    )


def token(
    name: Annotated[str, typer.Argument(help="Whose.")],
    role: Annotated[str, typer.Option(help="viewer, operator, engineer or admin.")] = "viewer",
    hours: Annotated[float, typer.Option(min=0.01, max=24 * 366)] = 12.0,
    data: Data = "data",
) -> None:
    """Print a token for a running server; who can read its data folder can make one."""
    if role.upper() not in Role.__members__:
        raise typer.BadParameter(
            f"no role {role!r}. There are: {', '.join(r.name.lower() for r in Role)}."
        )
    print(Keyring(Path(data) / "keys.json").token(name, Role[role.upper()], hours * 3600.0))


@db.command()
def key(path: Annotated[Path, typer.Argument(help="File to make.")]) -> None:
    """Make a key file for backups. Keep it elsewhere than the backups: without it they cannot be
    read.
    """
    new_key(path)


@db.command()
def backup(
    path: Annotated[Path, typer.Argument()],
    key: Annotated[Path, typer.Option(help="Key file.")],
    data: Data = "data",
) -> None:
    """Write the whole database to a file, encrypted."""
    secret, database = read_key(key), open_database(Path(data))
    try:
        console.print(f"{back_up(database, path, secret):,} bytes in {escape(str(path))}")
    finally:
        database.close()


@db.command()
def restore(
    path: Annotated[Path, typer.Argument()],
    key: Annotated[Path, typer.Option(help="Key file.")],
    data: Data = "data",
) -> None:
    """Restore the database from a backup: all of it or nothing."""
    secret, database = read_key(key), open_database(Path(data))
    try:
        set_back(database, path, secret)
    finally:
        database.close()


@db.command("retain")
def keep(
    days: Annotated[float, typer.Argument(help="Age up to which records are kept.")],
    data: Data = "data",
) -> None:
    """Take away what is older, and tidy up."""
    database = open_database(Path(data))
    try:
        console.print(
            ", ".join(f"{name}: {rows} rows" for name, rows in retain(database, days).rows.items())
        )
    finally:
        database.close()


@db.command()
def erase(simulation: Annotated[str, typer.Argument()], data: Data = "data") -> None:
    """Take away all records of one simulation."""
    database = open_database(Path(data))
    try:
        console.print(f"{take_away(database, simulation)} rows")
    finally:
        database.close()


@db.command("events")
def export_events(
    run: Annotated[int, typer.Argument(help="Number of the run.")],
    out: Annotated[Path, typer.Option(help="CSV file of the events.")] = Path("events.csv"),
    detectors: Annotated[
        Path, typer.Option(help="CSV file of the detectors' configuration.")
    ] = Path("detectors.csv"),
    data: Data = "data",
) -> None:
    """Write a run's signals and detectors as Indiana high-resolution event codes, as the package
    atspm reads them.
    """
    database = open_database(Path(data))
    try:
        count = highres.export(database, run, out, detectors)
    finally:
        database.close()
    if not count:
        raise ValueError(f"run {run} has no signal states in the database")
    console.print(f"{count:,} events in {escape(str(out))}, detectors in {escape(str(detectors))}")


@audit.command()
def verify(data: Data = "data") -> None:
    """Whether the audit trail is whole; status 1 if it is not."""
    database = open_database(Path(data))
    try:
        entries, wrong = Audit(database).verify()
    finally:
        database.close()
    console.print(f"{entries} entries, {wrong or 'whole'}")
    if wrong:
        raise SystemExit(1)
