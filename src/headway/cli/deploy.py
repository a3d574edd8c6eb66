"""`headway deploy`: a new version in the place of the one that runs, on processes that a service
manager starts from a link (`current`) to a folder (a release: a virtual environment with Headway).

All is looked at before anything is changed, and the safety gate of the new version is tried out.
Then: a backup, the tables, the link, and one process after the other, each until it is well. Where
one is not, all of it is taken back.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.markup import escape

from headway.api.security import Keyring, Role
from headway.cli.deploy_streets import (
    DeployError,
    StreetProcess,
    find_fault,
    gate_settings,
    look,
    wait_until_well,
)
from headway.cli.environment import SECRET_KEY
from headway.files import write_whole
from headway.runtime.folder_lock import FolderLockedError, locked
from headway.service.upkeep import RUN_LOCK
from headway.settings import SettingsError, load
from headway.store import Database, open_database
from headway.store.database import schema
from headway.store.upkeep import row_counts
from headway.telemetry.life import signer

console = Console()
LEAST_FREE_BYTES = 1_000_000_000
COMMAND_WITHIN_S = 3600.0
ANSWER_WITHIN_S = 40.0  # a prediction may wait 25 s for its turn, and for what is compiled
NOT_NOW = 503
NO_STREETS = 404  # of a process without any
LOOK_EVERY_S = 0.5
STEADY_S = 10.0  # for so long a worker has to give signs of life
TOKEN_S = 3600.0
CALLED_WRONGLY = 2  # exit status, also of a command that a release does not have
WELL = ("running", "paused", "stopped", "finished")
PROBE = "headway-deploy"  # the simulation of the record that is sent, read and erased
GROWING = ("simulation_record", "event", "audit", "run")  # but for retention and erasures
# what takes rows away on purpose, since then; a retention that goes on has to be waited for
DELETIONS = """
    SELECT 'retention' AS what FROM upkeep_run
    WHERE task = 'retention' AND begun_at + took_s * interval '1 second' >= :since
    UNION ALL
    SELECT 'erasure' FROM erased WHERE simulation_id <> :probe AND at >= :since
"""


class AnswerError(DeployError):
    """An answer other than 2xx. status: its number."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Instance:
    """A process of the service. url: where it answers; restart: words of the command that ends it
    and starts what `current` leads to then.
    """

    url: str
    restart: tuple[str, ...]

    @classmethod
    def parsed(cls, text: str) -> Instance:
        """Of "URL COMMAND...". Raises typer.BadParameter."""
        try:
            url, *words = shlex.split(text)
        except ValueError:
            url, words = "", []
        if urlsplit(url).scheme not in ("http", "https") or not words:
            raise typer.BadParameter(
                f"instance {text!r}: give its address and the command that restarts it, such as "
                "'http://127.0.0.1:8000 systemctl restart headway'."
            )
        return cls(url.rstrip("/"), tuple(words))


@dataclass(frozen=True)
class WorkerProcess:
    """A process of `headway worker`. restart: as of an Instance."""

    restart: tuple[str, ...]

    @classmethod
    def parsed(cls, text: str) -> WorkerProcess:
        """Of "COMMAND...". Raises typer.BadParameter."""
        try:
            words = shlex.split(text)
        except ValueError:
            words = []
        if not words:
            raise typer.BadParameter(
                f"worker {text!r}: give the command that restarts it, such as "
                "'systemctl restart headway-worker'."
            )
        return cls(tuple(words))


@dataclass(frozen=True)
class Rows:
    """Rows of each table, and when they were counted, by the database's clock."""

    at: datetime
    counts: Mapping[str, int]


@dataclass
class Deployment:
    """One update. release: folder of the new version; current: the link; say: told of each step."""

    release: Path
    current: Path
    instances: list[Instance]
    data: Path
    config: str
    within_s: float
    say: Callable[[str], None]
    streets: list[StreetProcess] = field(default_factory=list)
    workers: list[WorkerProcess] = field(default_factory=list)
    before: Path = field(init=False)
    _restarted: list[Instance | StreetProcess | WorkerProcess] = field(
        init=False, default_factory=list
    )

    def __post_init__(self) -> None:
        """An update that was cut off has moved the link: `previous` says where it led to."""
        self.release = self.release.resolve()
        self.before = self.current.resolve()
        if self.before == self.release and self._previous.is_symlink():
            self.before = self._previous.resolve()

    @property
    def _previous(self) -> Path:
        return self.current.with_name("previous")

    @property
    def _done(self) -> Path:
        """Names the release whose update came to its end last: two may have one version."""
        return self.current.with_name(".deployed")

    @property
    def _begun(self) -> Path:
        """Names the update under way, or that was cut off, and the schema that it found."""
        return self.current.with_name(".updating")

    def check(self) -> None:
        """Everything that is needed, without a change. Raises DeployError with all that is not."""
        faults = [*self._missing(), *self._wrong_settings()]
        if not faults:
            faults = [why for one in self.instances if (why := self._away(one))]
            faults += [why for name in self._names(self.streets) if (why := find_fault(name))]
        if faults:
            raise DeployError("\n".join(["nothing was changed:", *(f"- {why}" for why in faults)]))

    def _missing(self) -> list[str]:
        found = []
        for folder in dict.fromkeys((self.release, self.before)):
            if not os.access(folder / "bin" / "headway", os.X_OK):
                found.append(
                    f"{folder}: has no bin/headway. Make it: python3 -m venv {folder} && "
                    f"{folder}/bin/pip install WHEEL"
                )
        if self._previous.exists() and not self._previous.is_symlink():
            found.append(
                f"{self._previous}: is no link, and stands where the one to the release before "
                "goes. Move it away"
            )
        if not self.current.is_symlink():
            found.append(
                f"{self.current}: is no link to the release in use. Make it: ln -s RELEASE "
                f"{self.current}"
            )
        if not self.data.is_dir():
            found.append(f"{self.data}: is no folder. Give the data folder of the service (--data)")
        elif (free := shutil.disk_usage(self.data).free) < LEAST_FREE_BYTES:
            found.append(
                f"{self.data}: {free / 1e9:.1f} GB are free. Make room: docs/operations.md"
            )
        return found

    def _wrong_settings(self) -> list[str]:
        """By the new version, which may know other settings."""
        if not self.config or not os.access(self.release / "bin" / "python", os.X_OK):
            return []
        code = "import sys; from headway.settings import load; load(sys.argv[1])"
        done = self._run(self.release / "bin" / "python", "-c", code, self.config)
        if done.returncode == 0:
            return []
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return [f"settings: {lines[-1] if lines else 'cannot be read'}"]

    def _away(self, instance: Instance) -> str:
        try:
            ask(instance.url, "/health")
        except DeployError as error:
            return f"{error}. Start the service first: an update begins from one that runs"
        return ""

    def is_done(self) -> bool:
        """The update to the release came to its end, the link leads to it, and every instance is of
        its version.
        """
        version = self.version(self.release)
        ended = self._done.read_text(encoding="utf-8") if self._done.exists() else ""
        return (
            self.current.resolve() == self.release
            and ended == f"{self.release}\n"
            and all(ask(one.url, "/health").get("version") == version for one in self.instances)
            and all(
                look(name).standing.version in ("", version) for name in self._names(self.streets)
            )
        )

    def version(self, release: Path) -> str:
        done = self._run(release / "bin" / "headway", "--version")
        if done.returncode or not done.stdout.startswith("headway "):
            raise DeployError(f"{release}/bin/headway --version: {_last(done)}")
        return done.stdout.split()[1]

    def plan(self) -> list[str]:
        """What `make` would do, a line a step."""
        pending = self._checked(
            self.release, "db", "migrate", "--dry-run", "--data", str(self.data)
        )
        return [
            f"from {self.version(self.before)} ({self.before}) "
            f"to {self.version(self.release)} ({self.release})",
            "try out the safety gate of the new version",
            "back up the database",
            pending.strip().splitlines()[-1],
            f"let {self.current} lead to {self.release}",
            *(f"{shlex.join(one.restart)}, until {one.url} is well" for one in self.instances),
            *(f"{shlex.join(one.restart)}, until {one.name} is well" for one in self.streets),
            *(f"{shlex.join(one.restart)}, until the worker lives" for one in self.workers),
            "compare the record with what it was",
        ]

    def make(self) -> None:
        """The update. Raises DeployError where it was taken back, for whatever reason."""
        version = self.version(self.release)
        self._test_gate()
        with closing(_database(self.data)) as database:
            rows, present = _rows(database), schema(database)
        was = self._schema_before(present)
        well = {one.url: _well(one.url, self._token()) for one in self.instances}
        self._done.unlink(missing_ok=True)
        knows_tables = self.before if present == was else self.release
        backup = self._checked(knows_tables, *self._upkeep())
        self.say(f"backup: {backup.strip()}")
        try:
            self.say(self._checked(self.release, "db", "migrate", "--data", str(self.data)).strip())
            point(self._previous, self.before)
            point(self.current, self.release)
            for instance in self.instances:
                self._restarted.append(instance)
                self._restart(instance, version)
                self._require_streets(instance.url, well[instance.url])
                smoke(instance.url, self._token(), self.within_s)
            self._restart_streets(self.streets, version, self._restarted.append)
            for instance in self.instances if self.streets else ():
                self._require_streets(instance.url, well[instance.url])
                predict(instance.url, self._token(), self.within_s)
            self._restart_workers(self.workers, version, self._restarted.append)
            self._prove(rows)
            self._done.write_text(f"{self.release}\n", encoding="utf-8")
            self._begun.unlink(missing_ok=True)
        except (Exception, KeyboardInterrupt) as error:  # half of an update must not stay
            why = _why(error)
            self.say(f"failed: {why}; going back to {self.before}")
            with undisturbed():
                self._take_back(was, rows)
            raise DeployError(
                f"the update was taken back, and {self.version(self.before)} runs: {why}"
            ) from error

    def _schema_before(self, present: str) -> str:
        """That of the version before: where this update was cut off, the tables may be the new
        version's by now.
        """
        update = [str(self.before), str(self.release)]
        with contextlib.suppress(OSError, ValueError):
            *kept, was = json.loads(self._begun.read_text(encoding="utf-8"))
            if kept == update:
                return str(was)
        write_whole(self._begun, json.dumps([*update, present]))
        return present

    def _test_gate(self) -> None:
        """Of the new version, on this machine: with the street and the limits of the settings, and
        with those of each street that is a process of its own. Raises DeployError.
        """
        if not self._holds("", ["--config", self.config] if self.config else []):
            self.say("the safety gate was not tried out: this version has no `test-gate`")
            return
        for name in self._names(self.streets):
            settings = gate_settings(look(name).standing)
            path = Path(settings["street"]["scenario"])
            if path.suffix == ".sumocfg" and not path.is_file():
                self.say(
                    f"street {name}: the gate was not tried out, {path} is not on this machine"
                )
                continue
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                json.dump(settings, file)
                file.flush()
                self._holds(f"street {name}: ", ["--config", file.name])

    def _holds(self, whose: str, config: list[str]) -> bool:
        """False where the new version cannot try its gate. Raises DeployError."""
        done = self._run(self.release / "bin" / "headway", "test-gate", *config, group=0)
        if done.returncode == CALLED_WRONGLY:
            return False
        if done.returncode:
            raise DeployError(f"nothing was changed: {whose}headway test-gate: {_last(done)}")
        self.say(f"{whose}{done.stdout.strip()}")
        return True

    def _upkeep(self) -> list[str]:
        config = ["--config", self.config] if self.config else []
        return ["db", "upkeep", "backup", *config, "--data", str(self.data)]

    def _take_back(self, was: str, rows: Rows) -> None:
        """Tables, link and instances as they were. Raises DeployError where that fails."""
        try:
            if was:
                words = ("db", "migrate", "--back-to", was, "--data", str(self.data))
                self._checked(self.release, *words)
            point(self.current, self.before)
            version = self.version(self.before)
            for one in self._restarted:
                if isinstance(one, Instance):
                    self._restart(one, version)
            streets = [one for one in self._restarted if isinstance(one, StreetProcess)]
            self._restart_streets(streets, version, _ignore)
            workers = [one for one in self._restarted if isinstance(one, WorkerProcess)]
            self._restart_workers(workers, version, _ignore)
            self._prove(rows)
            self._begun.unlink(missing_ok=True)
        except Exception as error:  # of whatever class: who reads it has to act
            raise DeployError(
                f"GOING BACK FAILED: {_why(error)}. The backup made before the update is whole: "
                "stop the service, restore it (headway db restore), let the link lead to "
                f"{self.before}, start the service."
            ) from error

    def _restart(self, instance: Instance, version: str) -> None:
        self._run_restart(instance.restart)
        begun_s, end_s = time.monotonic(), time.monotonic() + self.within_s
        why = "it was not asked"
        while True:
            try:
                self._require_ready(instance, version)
                break
            except DeployError as error:
                why = str(error)
            if time.monotonic() > end_s:
                raise DeployError(f"not well within {self.within_s:g} s: {why}")
            time.sleep(LOOK_EVERY_S)
        self.say(f"{instance.url} is {version}, well after {time.monotonic() - begun_s:.1f} s")

    def _run_restart(self, words: tuple[str, ...]) -> None:
        done = self._run(*words)
        if done.returncode:
            raise DeployError(f"{shlex.join(words)}: {_last(done)}")

    @staticmethod
    def _names(streets: list[StreetProcess]) -> list[str]:
        return list(dict.fromkeys(one.name for one in streets))

    def _restart_streets(
        self,
        streets: list[StreetProcess],
        version: str,
        begun: Callable[[StreetProcess], object],
    ) -> None:
        """One process after the other. While not all of a street are restarted, whichever of them
        has its lease may run it; then one of the version must, that began after this.
        """
        before = {name: _token_of(name) for name in self._names(streets)}
        for k, one in enumerate(streets):
            begun(one)
            self._run_restart(one.restart)
            is_last = all(other.name != one.name for other in streets[k + 1 :])
            begun_s = time.monotonic()
            seen = wait_until_well(
                one.name, before[one.name] if is_last else 0, version, self.within_s
            )
            took_s = time.monotonic() - begun_s
            self.say(
                f"street {one.name}: {seen.standing.holder} runs it, well after {took_s:.1f} s"
            )

    def _restart_workers(
        self, workers: list[WorkerProcess], version: str, begun: Callable[[WorkerProcess], object]
    ) -> None:
        """A job under way is left to whoever is there next, and goes on where it was."""
        for one in workers:
            begun(one)
            begun_s = time.time()
            self._signs_path.unlink(missing_ok=True)
            self._run_restart(one.restart)
            try:
                self._wait_for_worker(version, begun_s)
            except DeployError as error:
                raise DeployError(f"{shlex.join(one.restart)}: {error}") from error
            self.say(f"a worker lives, {time.time() - begun_s:.1f} s after its restart")

    @property
    def _signs_path(self) -> Path:
        return self.data / "worker.alive"

    def _wait_for_worker(self, version: str, begun_s: float) -> None:
        """Until one that began after that, of that version, has given signs of life for a while:
        others may share its folder, and one that dies at each start lives in between. Of a release
        that does not say who gives them, any sign counts. Raises DeployError.
        """
        end_s, first = time.monotonic() + self.within_s, dict[str, float]()
        why = "no worker lives"
        while time.monotonic() <= end_s:
            with contextlib.suppress(OSError):
                said, at_s = self._signs_path.read_text(), self._signs_path.stat().st_mtime
                by = signer(said)
                if by is None and "" in first:  # seen twice: none is about to write there
                    return
                if by is None:
                    first[""] = at_s
                elif by.version != version:
                    why = f"{by.who} is of version {by.version}, not {version}"
                elif by.begun_s < begun_s:
                    why = f"only {by.who} lives, which was there before"
                elif at_s - first.setdefault(by.who, at_s) >= STEADY_S:
                    return
                else:
                    why = f"{by.who} has begun, but gives no more signs"
            time.sleep(LOOK_EVERY_S)
        raise DeployError(f"not well within {self.within_s:g} s: {why} ({self._signs_path})")

    def _require_streets(self, url: str, before: set[str]) -> None:
        """Those that were well there are so again."""
        end_s = time.monotonic() + self.within_s
        while lost := before - _well(url, self._token()):
            if time.monotonic() > end_s:
                told = ", ".join(sorted(lost))
                raise DeployError(f"{url}: not well as before the update: street {told}")
            time.sleep(LOOK_EVERY_S)

    def _require_ready(self, instance: Instance, version: str) -> None:
        found = ask(instance.url, "/health").get("version")
        if found != version:
            raise DeployError(f"{instance.url} is {found}, not {version}")
        if starting := ask(instance.url, "/health/ready").get("starting"):
            raise DeployError(f"{instance.url} starts: {', '.join(starting)}")

    def _prove(self, before: Rows) -> None:
        """No table has fewer rows than before the update, but for those that were deleted on
        purpose meanwhile.
        """
        with closing(_database(self.data)) as database:
            after = row_counts(database)
            lost = {
                t: (before.counts[t], after.get(t, 0))
                for t in GROWING
                if after.get(t, 0) < before.counts.get(t, 0)
            }
            why = _deletions(database, before.at) if lost else []
        if lost and not why:
            raise DeployError(f"rows are missing (table: before, after): {lost}")
        if lost:
            self.say(f"fewer rows than before, after {' and '.join(why)}: {lost}")
            return
        told = ", ".join(f"{t} {after.get(t, 0):,}" for t in GROWING)
        self.say(f"the record is whole: {told}")

    def _token(self) -> str:
        keyring = Keyring(self.data / "keys.json", os.environ.get(SECRET_KEY, ""), create=False)
        return keyring.token(PROBE, Role.ADMIN, TOKEN_S)

    def _checked(self, release: Path, *words: str) -> str:
        done = self._run(release / "bin" / "headway", *words, group=0)
        if done.returncode:
            raise DeployError(f"headway {shlex.join(words)}: {_last(done)}")
        return done.stdout

    def _run(
        self, *words: str | Path, group: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """group: 0 for one of its own, which Ctrl-C in a terminal does not reach: what was begun is
        ended or taken back by this process. Restarts may ask for a password there.
        """
        try:
            return subprocess.run(
                [str(word) for word in words],
                capture_output=True, text=True, timeout=COMMAND_WITHIN_S, stdin=subprocess.DEVNULL,
                process_group=group,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeployError(f"{words[0]}: {error}") from error


def point(link: Path, target: Path) -> None:
    """Let `link` lead to `target`, at once: nobody finds it missing."""
    draft = link.with_name(f".{link.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(link)


def smoke(url: str, token: str, within_s: float) -> None:
    """A record in, out and erased; a live stream that tells something; a prediction for each street
    that runs there. within_s: for what is not ready yet. Raises DeployError.
    """
    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    record = {
        "simulation_id": PROBE, "timestamp": at, "intersection_id": PROBE,
        "signals": [{
            "direction": "north", "vehicle_counts": {"cars": 0},
            "emergency_vehicle_present": False, "signal_status": "RED", "signal_timer": 0.0,
            "vehicles_crossed": 0, "avg_wait_time": 0.0, "green_time_allocated": 0.0,
        }],
        "metrics": {
            "total_vehicles_passed": 0, "avg_wait_time_all_sides": 0.0, "throughput": 0.0,
            "avg_speed": 0.0, "fuel_saved": 0.0, "co2_saved": 0.0, "emergency_overrides": 0,
        },
    }  # fmt: skip
    ask_again(url, "/api/v1/ingest/simulation", token, record, within_s)
    try:
        found = ask(url, f"/api/v1/records/{PROBE}/{PROBE}/{quote(at)}", token)
        if found.get("simulation_id") != PROBE:
            raise DeployError(f"{url}: the record that was sent came back as another one: {found}")
    finally:
        ask(url, f"/api/v1/admin/simulations/{PROBE}", token, method="DELETE")
    heard = ask(url, "/api/v1/live/monitoring/history?wait_s=9&limit=1", token)
    if not heard.get("messages"):
        raise DeployError(f"{url}: the live stream `monitoring` says nothing")
    predict(url, token, within_s)


def predict(url: str, token: str, within_s: float) -> None:
    """Once for each street that runs there. Raises DeployError."""
    for street in _streets(url, token):
        if street.get("status") == "running" and street.get("junctions"):
            path = f"/api/v1/ml/predict?street={quote(street['street'])}"
            ask_again(url, path, token, {"junction": street["junctions"][0]["id"]}, within_s)


def ask_again(url: str, path: str, token: str, body: Any, within_s: float) -> Any:
    """As `ask`, again and again where the answer is that it cannot be done now."""
    end_s = time.monotonic() + within_s
    while True:
        try:
            return ask(url, path, token, body)
        except AnswerError as error:
            if error.status != NOT_NOW or time.monotonic() > end_s:
                raise
        time.sleep(LOOK_EVERY_S)


def _streets(url: str, token: str) -> list[dict[str, Any]]:
    """None of a process without streets."""
    try:
        return list(ask(url, "/api/v1/engine/state", token))
    except AnswerError as error:
        if error.status == NO_STREETS:
            return []
        raise


def _well(url: str, token: str) -> set[str]:
    """Names of the streets there that run, or stand because somebody ordered it."""
    return {street["street"] for street in _streets(url, token) if street.get("status") in WELL}


def ask(url: str, path: str, token: str = "", body: Any = None, method: str = "") -> Any:
    """The JSON that is answered. Raises DeployError for any other answer, and for none."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers["Content-Type"] = "application/json"
    asked = urllib.request.Request(  # noqa: S310 - the address begins with http
        url + path, data, headers, method=method or None
    )
    try:
        with urllib.request.urlopen(asked, timeout=ANSWER_WITHIN_S) as answer:  # noqa: S310
            return json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        said = " ".join(error.read(500).decode(errors="replace").split())
        raise AnswerError(f"{url}{path} answers {error.code} ({said})", error.code) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DeployError(f"{url}{path} does not answer ({error})") from error


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM is as Ctrl-C; a terminal that is closed (SIGHUP) ends nothing half-way."""
    with _handled(signal.SIGTERM, signal.default_int_handler), _handled(signal.SIGHUP, _ignore):
        yield


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """What takes an update back is not interrupted. Commands that are started meanwhile are."""
    with _handled(signal.SIGTERM, _ignore), _handled(signal.SIGINT, _ignore):
        yield


@contextlib.contextmanager
def _handled(number: signal.Signals, handler: Callable[..., Any]) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _ignore(*_about: object) -> None:
    """Nothing; SIG_IGN would be inherited by the commands."""


@contextlib.contextmanager
def alone(current: Path) -> Iterator[None]:
    """No other update of this link is under way. Raises DeployError."""
    try:
        with locked(current.with_name(".deploying"), "headway deploy"):
            yield
    except FolderLockedError as error:
        who = str(error).partition(" in use by ")[2].partition(". Stop it first")[0]
        raise DeployError(f"nothing was changed: another update is under way: {who}") from error


def _token_of(street: str) -> int:
    """Of the newest process that had it; 1, which none has, where nobody knows."""
    try:
        return look(street).token
    except DeployError:
        return 1


def _database(data: Path) -> Database:
    return open_database(data, create=False, migrated=False)


def _rows(database: Database) -> Rows:
    """Those of now."""
    at = database.rows("SELECT clock_timestamp() AS at")[0]["at"]
    return Rows(at, row_counts(database))


def _deletions(database: Database, since: datetime) -> list[str]:
    """What has taken rows away on purpose since then; once a retention under way has ended."""
    with database.unhurried.engine.begin() as held:
        held.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": RUN_LOCK})
        found = held.execute(sa.text(DELETIONS), {"since": since, "probe": PROBE})
        return sorted(set(found.scalars()))


def _why(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted"
    return str(error) if isinstance(error, DeployError) else f"{type(error).__name__}: {error}"


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1].removeprefix("headway: ") if lines else f"status {done.returncode}"


def deploy(
    release: Annotated[
        Path, typer.Argument(help="Folder of the new version: a virtual environment with Headway.")
    ],
    instance: Annotated[
        list[str],
        typer.Option(
            help="A process of the service: its address and the command that restarts it, as one "
            "word; may be repeated, and they are updated in this order."
        ),
    ] = ["http://127.0.0.1:8000 systemctl restart headway"],  # noqa: B006 - typer copies it
    street: Annotated[
        list[str],
        typer.Option(
            help="A process of `headway street`: the street's name and the command that restarts "
            "it, as one word; may be repeated, also for processes that stand by. They are updated "
            "after those of the service. Needs HEADWAY_REDIS_URL."
        ),
    ] = [],  # noqa: B006
    worker: Annotated[
        list[str],
        typer.Option(
            help="The command that restarts a process of `headway worker`, as one word; may be "
            "repeated. They are restarted last."
        ),
    ] = [],  # noqa: B006
    current: Annotated[Path, typer.Option(help="Link that the processes are started from.")] = Path(
        "current"
    ),
    config: Annotated[str, typer.Option(help="Settings file (YAML) of the service.")] = "",
    data: Annotated[str, typer.Option(help="Data folder of the service.")] = "data",
    within: Annotated[
        float, typer.Option(min=1.0, max=86_400.0, help="Seconds until a process must be well.")
    ] = 900.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; say what would be done.")
    ] = False,
) -> None:
    """Update a service: backup, tables, then one process after the other, each until it is well. If
    one is not, all goes back to the version before. The same call goes on where it was cut off.
    """
    instances = [Instance.parsed(text) for text in instance]
    streets = [StreetProcess.parsed(text) for text in street]
    workers = [WorkerProcess.parsed(text) for text in worker]
    if config:
        try:
            load(config)
        except SettingsError as error:
            raise DeployError(f"nothing was changed: {error}") from error

    def say(text: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads it any more: the update goes on
            console.print(escape(text), soft_wrap=True, highlight=False)

    with contextlib.ExitStack() as held:
        if not dry_run and current.is_symlink():
            held.enter_context(alone(current))
        held.enter_context(interruptible())
        found = Deployment(
            release, current, instances, Path(data), config, within, say, streets, workers
        )
        found.check()
        if found.is_done():
            say(f"nothing to do: {found.version(found.release)} runs")
            return
        if dry_run:
            for number, line in enumerate(found.plan(), 1):
                say(f"{number}. {line}")
            return
        found.make()
        say(f"done: {found.version(found.release)} runs")
