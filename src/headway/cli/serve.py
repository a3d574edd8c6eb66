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
from sqlalchemy.engine import make_url

from headway import __version__, telemetry
from headway.api.app import create_app
from headway.api.connections import HttpConnection, TlsConnection
from headway.api.observations import SOCKET_BYTES
from headway.api.security import Keyring, Role
from headway.api.services import ApiSettings
from headway.api.sockets import Connection
from headway.api.startup import StartingApp
from headway.cli.environment import SECRET_KEY, Reload, refuse_unsafe, start_anew
from headway.cli.tasks import DEFAULTS, REDIS_URL, Changes, require_valkey, task_of
from headway.plants.sumo.scenarios import scenario
from headway.roads import PROFILES
from headway.runtime.folder_lock import locked
from headway.service.streets import StreetService
from headway.settings import BASELINE, Settings, Watched, load, log_level, overridden
from headway.store import Database, Intake, open_database
from headway.street.alerts import alert_rules
from headway.telemetry.life import SignsOfLife

console = Console()
# of mallopt(3): parameters of glibc's malloc.h, and their values
ARENA_MAX, ARENAS = -8, 2
MMAP_THRESHOLD, LARGE_BLOCK_BYTES = -3, 65_536
# of requests under way at the end; an event stream or a camera's view has none of its own
ANSWERS_END_WITHIN_S = 5


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
