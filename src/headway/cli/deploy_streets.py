"""Streets that are processes of their own (`headway street`), as an update finds them: over Valkey,
by what their own processes say there.
"""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass
from typing import Any

import redis
import typer

from headway.cli.tasks import REDIS_URL
from headway.plants.sumo.scenarios import RESCO
from headway.service.lease import connect
from headway.service.wire import STREET_NAME, Standing, WireError, decode, key_of, place_of

ANSWER_WITHIN_S = 5.0
FRESH_S = 4.0  # a street says once a second how things stand
STEADY_S = 10.0  # for so long it has to be well: one that dies at each start is well in between
LOOK_EVERY_S = 0.5


class DeployError(RuntimeError):
    """The update cannot be made, or was taken back; the message says why, and what to do."""


@dataclass(frozen=True)
class StreetProcess:
    """A process of the street `name`. restart: words of the command that ends it and starts what
    `current` leads to then.
    """

    name: str
    restart: tuple[str, ...]

    @classmethod
    def parsed(cls, text: str) -> StreetProcess:
        """Of "NAME COMMAND...". Raises typer.BadParameter."""
        try:
            name, *words = shlex.split(text)
        except ValueError:
            name, words = "", []
        if not STREET_NAME.fullmatch(name) or not words:
            raise typer.BadParameter(
                f"street {text!r}: give its name and the command that restarts its process, such "
                "as 'north systemctl restart headway-street@north'."
            )
        return cls(name, tuple(words))


@dataclass(frozen=True)
class Seen:
    """token: of the process that runs the street, another one for each. silent_s: since it said
    anything.
    """

    token: int
    standing: Standing
    silent_s: float

    @property
    def fault(self) -> str:
        """Why it is not well; empty where it is."""
        standing = self.standing
        if standing.leaving:
            return "its process has ended"
        if self.silent_s > FRESH_S:
            return f"its process has said nothing for {self.silent_s:.0f} s"
        if standing.fault:
            return f"it was given up: {standing.fault}"
        if standing.trouble:
            return f"its rows wait on disk: {standing.trouble}"
        if standing.stop is not None or standing.finished:
            return ""  # by an order, or its demand has ended
        if standing.restarting or not standing.has_snapshot:
            return "it starts"
        return ""


def look(name: str) -> Seen:
    """How things stand with it. Raises DeployError."""
    if not (url := os.environ.get(REDIS_URL, "")):
        raise DeployError(
            f"street {name!r}: is found over Valkey. Set {REDIS_URL} to its address, as for the "
            "service"
        )
    link = connect(url, ANSWER_WITHIN_S)
    try:
        token: Any = link.get(key_of(name, "token"))
        told: Any = link.get(key_of(name, "standing"))
        newest: Any = link.xrevrange(key_of(name, "news"), count=1)
        now: Any = link.time()
    except redis.RedisError as error:
        raise DeployError(f"street {name!r}: Valkey does not answer ({error})") from error
    finally:
        link.close()
    if token is None or told is None or not newest:
        raise DeployError(f"street {name!r}: Valkey does not know it")
    try:
        standing = decode(told)
        (at, fields), by = newest[0], int(token)
        spoke = int(fields[b"t"])
    except (WireError, ValueError, KeyError) as error:
        raise DeployError(f"street {name!r}: what it says cannot be read ({error})") from error
    if not isinstance(standing, Standing):
        raise DeployError(f"street {name!r}: what it says cannot be read")
    silent_s = now[0] + now[1] / 1e6 - place_of(at)[0] / 1e3
    return Seen(by, standing, silent_s if spoke == by else float("inf"))


def gate_settings(standing: Standing) -> dict[str, Any]:
    """Settings of the street that its gate goes by: scenario, timing and limits."""
    found = {k: dict(standing.settings[k]) for k in ("street", "safety") if k in standing.settings}
    street = found.setdefault("street", {"scenario": standing.scenario})
    if standing.scenario in RESCO:  # also where it was ordered
        street["scenario"] = standing.scenario
    return found


def find_fault(name: str) -> str:
    """Why it cannot be updated; empty where it can."""
    try:
        fault = look(name).fault
    except DeployError as error:
        return str(error)
    return f"street {name!r}: {fault}" if fault else ""


def wait_until_well(name: str, before: int, version: str, within_s: float) -> Seen:
    """Until a process of that version runs it, another one than that with the token `before`, and
    has been well for a while; for any process where `before` is 0. Raises DeployError.
    """
    end_s, well_s, why = time.monotonic() + within_s, None, "it was not looked at"
    while time.monotonic() <= end_s or well_s is not None:  # what has begun well may prove it
        try:
            seen = look(name)
            why = seen.fault or _wrong(seen, before, version)
        except DeployError as error:
            why = str(error)
        now_s = time.monotonic()
        if why:
            well_s = None
        elif well_s is None:
            well_s = now_s
        elif now_s - well_s >= STEADY_S and seen.silent_s < FRESH_S / 2:
            return seen
        time.sleep(LOOK_EVERY_S)
    raise DeployError(f"street {name!r} is not well within {within_s:g} s: {why}")


def _wrong(seen: Seen, before: int, version: str) -> str:
    """Releases that do not say their version yet are known by the token alone."""
    standing = seen.standing
    if before and seen.token == before:
        return f"the process of before runs it ({standing.holder})"
    if before and standing.version not in ("", version):
        return f"{standing.holder} runs it, of version {standing.version}, not {version}"
    return ""
