"""Whether SUMO starts with a scenario, tried in a process of its own: libsumo runs one simulation
in a process, and a scenario may bring that process down.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from headway.plants import PlantError

if TYPE_CHECKING:
    from headway.plants.sumo.plant import SumoSettings

START_WITHIN_S = 60.0


def try_start(settings: SumoSettings, within_s: float = START_WITHIN_S) -> None:
    """Start SUMO, make one step, end it. Raises PlantError if it does not start, does not answer or
    dies.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_start_once, args=(theirs, settings), daemon=True)
    process.start()
    theirs.close()
    try:
        fault = ours.recv() if ours.poll(within_s) else f"no answer within {within_s:g} s"
    except EOFError:
        process.join(within_s)
        fault = f"its process ended with status {process.exitcode}"
    finally:
        process.kill()
        process.join()
    if fault:
        raise PlantError(f"{settings.sumocfg}: SUMO does not start: {fault}")


def _start_once(answer: Connection, settings: SumoSettings) -> None:
    from headway.plants.sumo.plant import (
        connect,  # in this process alone: see `headway.plants.sumo`
    )

    try:
        sumo, errors = connect(replace(settings, remote=""))
        try:
            sumo.simulationStep()
            sumo.close()
        except errors as error:
            raise PlantError(str(error)) from error
        answer.send("")
    except PlantError as error:
        answer.send(str(error))
