"""The command that does background jobs of learning."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from headway import telemetry
from headway.cli.environment import SECRET_KEY
from headway.learning.registry import Registry, signing_key
from headway.learning.worker import STALE_S, Worker
from headway.settings import DatabaseSettings
from headway.store import open_database
from headway.telemetry.life import SignsOfLife

POOL = DatabaseSettings(pool_size=2, max_overflow=3)  # one job at a time, and its signs of life


def worker(
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when there is nothing to do.")
    ] = False,
    stale_after: Annotated[
        float,
        typer.Option(
            min=2.0, max=86_400.0, help="Seconds after which a silent worker is taken for dead."
        ),
    ] = STALE_S,
    data: Annotated[
        str, typer.Option(help="Data folder, of the service and of all workers.")
    ] = "data",
) -> None:
    """Do background jobs: training, tuning, evaluation, one after the other. Ctrl-C or SIGTERM
    leaves the present one to another worker, which goes on where this one was; so does a kill.
    """
    telemetry.set_up("info")
    folder = Path(data)
    database = open_database(folder, create=False, pool=POOL)
    try:
        key = signing_key(folder, os.environ.get(SECRET_KEY, ""))
        for newest in Registry(database, folder, key).list(1):
            if newest.fault:  # what is made here would be refused by the service
                said = f"the newest model is not this worker's: {newest.label} {newest.fault}"
                typer.echo(said, err=True)
        signs = SignsOfLife(folder / "worker.alive")
        found = Worker(database, folder, key, stale_s=stale_after, signs=signs)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: found.stop())
        found.run(until_idle)
    finally:
        database.close()
