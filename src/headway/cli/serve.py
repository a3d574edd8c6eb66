"""The service: streets, record, API and page, by one command."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import ssl
import sys
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from fastapi import FastAPI
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy.engine import make_url

from headway import __version__, telemetry
from headway.analytics import event_log
from headway.api import create_app
from headway.api.audit import Audit
from headway.api.connections import HttpConnection, TlsConnection
from headway.api.observations import SOCKET_BYTES
from headway.api.scopes import UNBOUNDED, Bounds
from headway.api.seal import Seal
from headway.api.security import Keyring, Principal, Role
from headway.api.services import ApiSettings
from headway.api.sockets import Connection
from headway.api.startup import StartingApp
from headway.cli.environment import SECRET_KEY, Reload, refuse_unsafe, start_anew
from headway.cli.keys import put_on_record
from headway.plants.sumo.scenarios import scenario
from headway.roads import PROFILES
from headway.runtime.folder_lock import locked
from headway.service.streets import StreetService
from headway.service.upkeep import TASKS, UpkeepService
from headway.settings import BASELINE, Settings, Watched, load, log_level, overridden
from headway.store import Database, Intake, open_database
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
from headway.street.alerts import alert_rules
from headway.street.messages import Task
from headway.telemetry.life import SignsOfLife

console = Console()
db = typer.Typer(help="Database: backup, restore, retention.", no_args_is_help=True)
audit = typer.Typer(help="Audit trail of the API.", no_args_is_help=True)
Data = Annotated[str, typer.Option(help="Data folder.")]
Changes = dict[str, dict[str, Any]]
REDIS_URL = "HEADWAY_REDIS_URL"
LONGEST_NAME = 64  # letters, of a holder of credentials
# of mallopt(3): parameters of glibc's malloc.h, and their values
ARENA_MAX, ARENAS = -8, 2
MMAP_THRESHOLD, LARGE_BLOCK_BYTES = -3, 65_536
# of requests under way at the end; an event stream or a camera's view has none of its own
ANSWERS_END_WITHIN_S = 5
DEFAULTS: Changes = {"loop": {"speed_factor": 10.0}}  # where the settings file says nothing else


class ApiServer(uvicorn.Server):
    """Uvicorn's server; what is there once it has started is left out of garbage collection. Its
    event loop gives the signs of life, once `has_started`.
    """

    def __init__(self, config: uvicorn.Config, has_started: Callable[[], bool] = bool) -> None:
        super().__init__(config)
        self._has_started = has_started
        self._signs = SignsOfLife()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if self._has_started():
            self._signs.give()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._signs.end()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.freeze()  # docs/decisions/0012-garbage-collection.md

    def ask_to_stop(self) -> None:
        """From any thread; requests under way are answered."""
        self.should_exit = True


def serve(
    scenario_: Annotated[
        str | None,
        typer.Option(
            "--scenario",
            help="Scenario (see `headway scenarios`), or path of a .sumocfg; an empty one for no "
            "streets.",
            show_default="street.scenario of the settings, cologne8",
        ),
    ] = None,
    baseline: Annotated[
        bool, typer.Option(help="Run fixed-time control beside Headway, for comparison.")
    ] = True,
    speed_factor: Annotated[
        float | None,
        typer.Option(
            "--speed-factor",
            "--realtime",
            min=0.0,
            help="Simulated seconds per second; 0 for as fast as possible. --realtime is the "
            "old name.",
            show_default="loop.speed_factor of the settings file, 10",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="TCP port; 0 for any free port.")
    ] = 8000,
    data: Annotated[
        str,
        typer.Option(help="Data folder.", show_default="recovery.folder of the settings, data"),
    ] = "",
    config: Annotated[
        str,
        typer.Option(help="Settings file (YAML), followed while running as by `headway run`."),
    ] = "",
    per_minute: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Rate limit, requests per minute and client; 0 for none.",
            show_default="api.per_minute of the settings, 100",
        ),
    ] = None,
    timing: Annotated[
        str,
        typer.Option(
            help=f"Timing rules: {' or '.join(PROFILES)}.",
            show_default="street.timing of the settings, street",
        ),
    ] = "",
    repeat: Annotated[
        bool, typer.Option(help="Restart the scenario when its demand has ended.")
    ] = True,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Show and operate the streets that run as `headway street`, found over the Valkey "
            "of HEADWAY_REDIS_URL; no street of its own then, unless --scenario names one.",
        ),
    ] = False,
) -> None:
    """Start the service: streets, database, API and web page. Prints a new administrator token.

    An option that is not given takes its value from the settings.
    """
    street = {"scenario": scenario_ or "", "timing": timing}
    changes: Changes = {
        "street": {key: value for key, value in street.items() if value},
        "loop": {} if speed_factor is None else {"speed_factor": speed_factor},
        "api": {} if per_minute is None else {"per_minute": per_minute},
    }
    settings = overridden(load(config or None, DEFAULTS), changes)
    folder = Path(data or settings.recovery.folder)
    refuse_unsafe(settings, folder, os.environ)
    alert_rules(settings)
    if follow:
        require_valkey("--follow")
    if runs_streets := (scenario_ is not None if follow else True) and scenario_ != "":
        scenario(settings.street.scenario)
    telemetry.set_up(log_level(settings), settings.log.json_lines, settings.log.folder)
    keep_memory_low()
    port = _free(host, port)  # before anything is started
    watched = Watched(config, changes, DEFAULTS, alert_rules) if config else None
    api = replace(_api_settings(settings, folder, watched), follow=follow)
    scheme = "https" if settings.server.tls_certificate else "http"
    address = f"{scheme}://{host}:{port}"
    name = settings.street.name
    ran = (name, BASELINE) if baseline else (name,)

    def streets(publish: Any, intake: Intake) -> StreetService:
        service = StreetService(publish, intake)
        if runs_streets:
            service.start(name, task_of(config, changes, folder / name), repeat)
        if runs_streets and baseline:
            fixed = changes | {"control": {"controller": "fixed", "fallback": "fixed"}}
            service.start(BASELINE, task_of(config, fixed, folder / BASELINE), repeat)
        return service

    with contextlib.ExitStack() as opened:
        for place in (folder, *(folder / one for one in ran if runs_streets)):
            opened.enter_context(locked(place, "headway serve", address))
        keyring = Keyring(folder / "keys.json", api.secret_key)

        def make() -> FastAPI:
            needed = settings.database.needed_at_start
            database = open_database(folder, pool=settings.database, needed=needed)
            opened.callback(database.close)
            log_opened(database)
            return create_app(api, database, streets)

        if settings.environment == "production" and not sys.stdout.isatty():
            # what is printed there is kept as a log, and read by many
            console.print(f"{address} (a token: headway token NAME)", highlight=False)
        else:
            _print_link(address, keyring.token("admin", Role.ADMIN))
        telemetry.log("cli").info(
            "serving", address=address, environment=settings.environment,
            settings=config, data=str(folder), version=__version__,
        )  # fmt: skip
        wants_reload = _run(make, host, port, settings)
    if wants_reload:
        start_anew()


def log_opened(database: Database) -> None:
    """Which database it is, without its password."""
    address = make_url(database.url).render_as_string(hide_password=True)
    is_own = database.embedded is not None
    telemetry.log("store").info("database opened", address=address, embedded=is_own)


def require_valkey(what: str) -> str:
    """The address of Valkey. Raises ValueError where none is set."""
    if url := os.environ.get(REDIS_URL, ""):
        return url
    raise ValueError(
        f"{what} needs Valkey, which streets and API processes meet at: set {REDIS_URL} to its "
        "address, as redis://HOST:6379/0, or redis://:PASSWORD@HOST:6379/0."
    )


def _api_settings(settings: Settings, folder: Path, watched: Watched | None) -> ApiSettings:
    return ApiSettings(
        folder,
        settings.api.per_minute,
        settings.api.origins,
        cache_s=settings.api.cache_s,
        oldest_days=settings.api.oldest_days,
        ahead_s=settings.api.ahead_s,
        redis_url=os.environ.get(REDIS_URL, ""),
        notify=settings.notify,
        upkeep=settings.upkeep,
        spool=settings.spool,
        external=settings.external,
        cameras=settings.cameras,
        secret_key=os.environ.get(SECRET_KEY, ""),
        alerts=settings.alerts,
        oidc=settings.oidc,
        model_watch=settings.model_watch,
        watched=watched,
        street=settings.street.name,
    )


def task_of(config: str, changes: Changes, folder: Path) -> Task:
    """A street with its state in `folder`, which follows the settings file if there is one."""
    changes = {**changes, "recovery": {"folder": str(folder)}}
    settings = overridden(load(config or None, DEFAULTS), changes)
    if not config:
        return Task(settings)
    return Task(settings, path=config, changes=changes, defaults=DEFAULTS)


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


def _print_link(address: str, token: str) -> None:
    """The page's address with a token; opened in a browser where there is a display."""
    link = f"{address}/#token={token}"
    console.print(f"[bold]{link}[/bold]", soft_wrap=True, highlight=False)
    if sys.stdout.isatty() and (os.environ.get("DISPLAY") or sys.platform == "darwin"):
        webbrowser.open(link)
    console.print(
        "The link signs an administrator in for 12 hours; it is shown this once. Ctrl-C ends.",
        highlight=False,
    )


def keep_memory_low() -> None:
    """Two arenas of the C library instead of eight a core, and large blocks (frames of cameras)
    back to the system at once: docs/decisions/0016-camera-memory.md. Nothing without glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(ARENA_MAX, ARENAS)
        library.mallopt(MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def _run(make: Callable[[], FastAPI], host: str, port: int, settings: Settings) -> bool:
    """Until Ctrl-C, SIGTERM or SIGHUP, or in development until the source changes. Returns whether
    it is to be started anew. Raises what `make` raises, or what the start of the application does.
    """
    faults = list[Exception]()

    def fail(error: Exception) -> None:
        faults.append(error)
        server.ask_to_stop()

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server_settings = settings.server
    HttpConnection.proxies = tuple(ip_network(p, strict=False) for p in server_settings.proxies)
    if server_settings.tls_certificate:
        TlsConnection.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        TlsConnection.context.load_cert_chain(
            server_settings.tls_certificate, server_settings.tls_key
        )
    app = StartingApp(make, fail)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        http=TlsConnection if server_settings.tls_certificate else HttpConnection,
        ws=Connection,
        ws_max_size=SOCKET_BYTES,
        ws_ping_interval=20.0,
        timeout_graceful_shutdown=ANSWERS_END_WITHIN_S,
        server_header=False,
        proxy_headers=bool(server_settings.proxies),
        forwarded_allow_ips=list(server_settings.proxies),
    )
    server = ApiServer(config, lambda: not app.starting)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, lambda *_: server.ask_to_stop())  # the terminal was closed
    reload = Reload(server.ask_to_stop)
    if settings.environment == "development":
        reload.start()
    try:
        server.run()
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here")
    reload.end()
    if faults:
        raise faults[0]
    return reload.wanted


def token(
    name: Annotated[str, typer.Argument(help="Name of the holder, for the audit trail.")],
    role: Annotated[
        str, typer.Option(help=f"Role: {', '.join(r.name.lower() for r in Role)}.")
    ] = "viewer",
    hours: Annotated[
        float, typer.Option(min=0.01, max=24 * 366, help="Validity of the token, hours.")
    ] = 12.0,
    street: Annotated[
        list[str], typer.Option(help="Street that it is bounded to; may be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    camera: Annotated[
        list[str], typer.Option(help="Camera that it is bounded to; may be repeated.")
    ] = [],  # noqa: B006
    data: Data = "data",
) -> None:
    """Print an access token for a server; needs read access to its data folder."""
    if ":" in name or not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
        raise typer.BadParameter(
            f"no holder may be named {name!r}: 1 to {LONGEST_NAME} letters that can be printed, "
            "without ':', which divides a holder from the parts it reports for."
        )
    if role.upper() not in Role.__members__:
        raise typer.BadParameter(
            f"no role {role!r}. There are: {', '.join(r.name.lower() for r in Role)}."
        )
    secret = os.environ.get(SECRET_KEY, "")
    keyring = Keyring(Path(data) / "keys.json", secret, create=False)
    bounds = Bounds.of(street, camera) if street or camera else UNBOUNDED
    if role.upper() == "ADMIN" and not bounds.are_none:
        raise typer.BadParameter("an admin cannot be bounded to streets and cameras")
    made = keyring.token(name, Role[role.upper()], hours * 3600.0, bounds)
    told = {"name": name, "role": role.lower(), "hours": f"{hours:g}", **bounds.claims()}
    put_on_record(Path(data), "token", {**told, "number": keyring.read(made).token})
    print(made)


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
