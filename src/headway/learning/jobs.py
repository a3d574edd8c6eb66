"""Background jobs of learning, in the database: training, tuning, evaluation. `headway worker` does
them (`headway.learning.worker`), one a street at a time, never in the process of a street.

A job that goes on is its worker's for as long as that says so: each attempt has a number, and what
a worker writes counts only while its attempt is the last one. So one that stood still, and was
taken for dead, cannot end the job of whoever goes on with it (docs/decisions/0029-jobs.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

import sqlalchemy as sa
from pydantic import Field, ValidationError

from headway.learning.registry import ALIASES, LARGEST_ID, NAME
from headway.plants.sumo.allowed import allowed_scenario
from headway.settings import ControllerName
from headway.settings.base import Section
from headway.store import Database

MOST_DEATHS = 5  # of workers or their processes at one place: a job that ends them has failed
MOST_WAITING = 1000  # jobs
MOST_OF_STREET = 100  # of these: who may order for one street alone leaves room for others
MOST_LISTED = 1000
LONGEST_NAME = 256  # letters, of a street
LONGEST_TEXT = 2000  # letters, of a note or fault
COLUMNS = """
    id, kind, street, arguments, asked_by, asked_at, state, attempt, worker, begun_at, heartbeat_at,
    ended_at, progress, note, cancel_by, result, version_id, error
"""
# of a street, in the order in which they were asked for
TAKE = f"""
    UPDATE ml_job SET state = 'running', attempt = attempt + 1, worker = :worker,
        begun_at = coalesce(begun_at, now()), heartbeat_at = now()
    WHERE id = (
        SELECT id FROM ml_job job
        WHERE state = 'waiting' AND NOT EXISTS (
            SELECT 1 FROM ml_job other
            WHERE other.street = job.street AND (other.state = 'running'
                OR other.state = 'waiting' AND other.id < job.id))
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING {COLUMNS}
"""
OWN = "WHERE id = :id AND attempt = :attempt AND state = 'running'"
BEAT = f"""
    UPDATE ml_job SET heartbeat_at = now(), progress = :progress, note = :note,
        deaths = CASE WHEN :progress > furthest THEN 0 ELSE deaths END,
        furthest = greatest(furthest, :progress) {OWN}
    RETURNING cancel_by IS NOT NULL AS is_cancelled
"""
FINISH = f"""
    UPDATE ml_job SET state = 'done', ended_at = now(), heartbeat_at = now(), progress = 1,
        result = CAST(:result AS json), version_id = :version_id {OWN}
"""
END = f"UPDATE ml_job SET state = :state, ended_at = now(), error = :error {OWN}"
# what nobody goes on with any more: cancelled where that was asked for, else done again
GIVE_BACK = """
    UPDATE ml_job SET worker = '', deaths = deaths + :died,
        state = CASE WHEN cancel_by IS NOT NULL THEN 'cancelled'
            WHEN deaths + :died >= :most THEN 'failed' ELSE 'waiting' END,
        ended_at = CASE WHEN cancel_by IS NOT NULL OR deaths + :died >= :most THEN now() END,
        error = CASE WHEN cancel_by IS NULL AND deaths + :died >= :most
            THEN CAST(:why AS text) ELSE '' END
"""
CANCEL = """
    UPDATE ml_job SET cancel_by = coalesce(cancel_by, :by),
        state = CASE WHEN state = 'waiting' THEN 'cancelled' ELSE state END,
        ended_at = CASE WHEN state = 'waiting' THEN now() END
    WHERE id = :id AND state IN ('waiting', 'running')
"""
# of versions that no job made: ''
STREETS_OF_MODEL = """
    SELECT coalesce(job.street, '') AS street
    FROM model_version version LEFT JOIN ml_job job ON job.version_id = version.id
    WHERE version.name = :name
    UNION
    SELECT street FROM ml_job
    WHERE state IN ('waiting', 'running') AND arguments ->> 'name' = :name
"""

WAITING = """
    SELECT count(*) AS of_all, count(*) FILTER (WHERE street = :street) AS of_street
    FROM ml_job WHERE state = 'waiting'
"""
BACKLOG = """
    SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting,
        count(*) FILTER (WHERE state = 'running') AS running,
        count(*) FILTER (WHERE state = 'running'
            AND heartbeat_at < now() - make_interval(secs => :silent_s)) AS silent,
        extract(epoch FROM now() - min(asked_at) FILTER (WHERE state = 'waiting'))::float8
            AS longest_wait_s
    FROM ml_job WHERE state IN ('waiting', 'running')
"""
SILENT_S = 60.0  # of a worker: then it is taken for dead

CATALOGUE = get_args(ControllerName)
MODEL = rf"{NAME.pattern}@([1-9][0-9]{{0,8}}|{'|'.join(ALIASES)})"
ModelName = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Seed = Annotated[int, Field(ge=0, lt=1 << 31)]


class UnknownJobError(ValueError):
    """There is no such job."""


class LostJobError(RuntimeError):
    """The job is not this attempt's any more: another worker goes on with it, or it has ended."""


class OnStreet(Section):
    """scenario: of the catalogue, or the path of a .sumocfg in an allowed folder."""

    scenario: str = Field(min_length=1, max_length=1000)
    timing: Literal["benchmark", "street"] = "benchmark"


class TrainArguments(OnStreet):
    """name: of the model, a Q-table. seed: of the first episode."""

    name: ModelName
    episodes: int = Field(default=10, ge=1, le=10_000)
    seed: Seed = 1000


class TuneArguments(OnStreet):
    """name: of the model, figures of the planner, registered where they are better. confirm: seeds
    of the verdict. Others: see `headway.learning.tuning.TuningSettings`.
    """

    name: ModelName
    sensing: Literal["connected", "camera", "loops"] = "connected"
    scale: float = Field(default=1.0, ge=0.01, le=10.0, allow_inf_nan=False)
    generations: int = Field(default=15, ge=1, le=1000)
    population: int = Field(default=10, ge=4, le=200)
    confirm: int = Field(default=20, ge=2, le=1000)
    search_seed: int = Field(default=1, ge=1, lt=1 << 31)


class EvaluateArguments(OnStreet):
    """controllers: of the catalogue, or models (NAME@NUMBER, NAME@champion), compared with the
    first; seeds: of the demand.
    """

    controllers: list[Annotated[str, Field(pattern=f"^({'|'.join(CATALOGUE)}|{MODEL})$")]] = Field(
        min_length=1, max_length=20
    )
    seeds: list[Seed] = Field(min_length=1, max_length=1000)
    sensing: Literal["connected", "camera", "loops"] = "connected"
    scale: float = Field(default=1.0, ge=0.01, le=10.0, allow_inf_nan=False)


ARGUMENTS: Mapping[str, type[TrainArguments | TuneArguments | EvaluateArguments]] = (
    MappingProxyType(
        {"train": TrainArguments, "tune": TuneArguments, "evaluate": EvaluateArguments}
    )
)
STATES = ("waiting", "running", "done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class LearningJob:
    """One job. attempt: how often a worker has begun with it; heartbeat_at: when that worker said
    last that it goes on; progress: 0 to 1; note: what it does; cancel_by: who wants it to end, None
    for nobody; result: its figures, None before its end; version_id: of the model that it made.
    """

    id: int
    kind: str
    street: str
    arguments: dict[str, Any]
    asked_by: str
    asked_at: datetime
    state: str
    attempt: int
    worker: str
    begun_at: datetime | None
    heartbeat_at: datetime | None
    ended_at: datetime | None
    progress: float
    note: str
    cancel_by: str | None
    result: dict[str, Any] | None
    version_id: int | None
    error: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """Jobs that have not ended. silent: of those that go on, whose worker has said nothing for
    SILENT_S; longest_wait_s: of those that wait, None for none of them.
    """

    waiting: int
    running: int
    silent: int
    longest_wait_s: float | None

    @property
    def is_left_lying(self) -> bool:
        """A worker is silent, or none takes what waits."""
        is_waiting = (self.longest_wait_s or 0.0) > SILENT_S
        return self.silent > 0 or (is_waiting and not self.running)


class Jobs:
    """folders: from which scenarios may be taken, beside the catalogue. All methods raise
    SQLAlchemyError where the database is away.
    """

    def __init__(self, database: Database, folders: Sequence[str] = ()) -> None:
        self._database = database
        self._folders = folders

    def enqueue(self, kind: str, street: str, arguments: Mapping[str, Any], by: str) -> int:
        """The id of a new job, which waits until those before it on its street have ended. Raises
        ValueError for what cannot be done.
        """
        checked = self._checked(kind, arguments)
        if not 0 < len(street) <= LONGEST_NAME or not street.isprintable():
            raise ValueError(
                f"street {street[:LONGEST_NAME]!r}: give 1 to {LONGEST_NAME} letters that can be "
                "printed."
            )
        with self._database.engine.begin() as held:
            waiting = held.execute(sa.text(WAITING), {"street": street}).one()
            for count, most, whose in (
                (waiting.of_street, MOST_OF_STREET, f"jobs of street {street!r}"),
                (waiting.of_all, MOST_WAITING, "jobs"),
            ):
                if count >= most:
                    raise ValueError(
                        f"{most} {whose} wait already. Cancel some, or start a worker: headway "
                        "worker"
                    )
            insert = (
                "INSERT INTO ml_job (kind, street, arguments, asked_by) "
                "VALUES (:kind, :street, CAST(:arguments AS json), :by) RETURNING id"
            )
            values = {"kind": kind, "street": street, "arguments": json.dumps(checked), "by": by}
            return int(held.execute(sa.text(insert), values).scalar_one())

    def _checked(self, kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if kind not in ARGUMENTS:
            raise ValueError(f"kind {kind[:100]!r}: is none. There are: {', '.join(ARGUMENTS)}.")
        try:
            found = ARGUMENTS[kind].model_validate(dict(arguments), strict=True)
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ValueError(f"{kind}: {'; '.join(faults)}.") from error
        site = allowed_scenario(found.scenario, self._folders)
        is_path = found.scenario.endswith(".sumocfg")
        return found.model_dump() | ({"scenario": str(site.sumocfg)} if is_path else {})

    def job(self, job_id: int) -> LearningJob:
        """Raises UnknownJobError."""
        is_one = 0 < job_id <= LARGEST_ID
        query = f"SELECT {COLUMNS} FROM ml_job WHERE id = :id"
        rows = self._database.rows(query, id=job_id) if is_one else ()
        if not rows:
            raise UnknownJobError(f"no job has the id {job_id}.")
        return LearningJob(**rows[0])

    def jobs(
        self,
        limit: int = 100,
        after_id: int | None = None,
        street: str | None = None,
        state: str | None = None,
    ) -> list[LearningJob]:
        """The newest first; after_id: those that come after this one in the list."""
        if not all(text is None or text.isprintable() for text in (street, state)):
            return []  # the database refuses such letters, and nothing has them
        rows = self._database.rows(
            f"SELECT {COLUMNS} FROM ml_job "
            "WHERE (CAST(:after AS bigint) IS NULL OR id < :after) "
            "AND (CAST(:street AS text) IS NULL OR street = :street) "
            "AND (CAST(:state AS text) IS NULL OR state = :state) ORDER BY id DESC LIMIT :limit",
            after=after_id,
            street=street,
            state=state,
            limit=min(limit, MOST_LISTED),
        )
        return [LearningJob(**row) for row in rows]

    def cancel(self, job_id: int, by: str) -> LearningJob:
        """End a job: at once where it waits, within seconds where it goes on, and as it is where it
        has ended. Raises UnknownJobError.
        """
        self.job(job_id)
        self._database.execute(CANCEL, id=job_id, by=by)
        return self.job(job_id)

    def streets_of_model(self, name: str) -> set[str]:
        """Whose jobs have made versions of this name, or are to; '' for what no job made."""
        if not NAME.fullmatch(name):
            return set()
        return {row["street"] for row in self._database.rows(STREETS_OF_MODEL, name=name)}

    def backlog(self) -> Backlog:
        """What has not ended."""
        return Backlog(**self._database.rows(BACKLOG, silent_s=SILENT_S)[0])

    def take(self, worker: str) -> LearningJob | None:
        """The next job that may begin, from now on this worker's; None for none."""
        try:
            with self._database.engine.begin() as held:
                row = held.execute(sa.text(TAKE), {"worker": worker}).mappings().first()
        except sa.exc.IntegrityError:  # another one of its street began just now
            return None
        return None if row is None else LearningJob(**row)

    def beat(self, job: LearningJob, progress: float, note: str) -> bool:
        """Say that it goes on; whether somebody wants it to end. Raises LostJobError."""
        values = self._own(job) | {"progress": progress, "note": _text(note)}
        with self._database.engine.begin() as held:
            row = held.execute(sa.text(BEAT), values).first()
        if row is None:
            raise _lost(job)
        return bool(row.is_cancelled)

    def finish(
        self, job: LearningJob, result: Mapping[str, Any], version_id: int | None = None
    ) -> None:
        """The job is done. Raises LostJobError."""
        with self._database.engine.begin() as held:
            self.finish_within(held, job, result, version_id)

    def finish_within(
        self,
        held: sa.Connection,
        job: LearningJob,
        result: Mapping[str, Any],
        version_id: int | None,
    ) -> None:
        """As `finish`, in a transaction of others: what else is in it is done once, as the job is.
        Raises LostJobError.
        """
        said = {"result": json.dumps(dict(result)), "version_id": version_id}
        if not held.execute(sa.text(FINISH), self._own(job) | said).rowcount:
            raise _lost(job)

    def end(self, job: LearningJob, state: Literal["failed", "cancelled"], error: str = "") -> None:
        """Raises LostJobError."""
        said = {"state": state, "error": _text(error)}
        if not self._database.execute(END, **self._own(job), **said):
            raise _lost(job)

    def give_back(self, job: LearningJob, why: str = "") -> None:
        """Another worker is to go on with it. why: what ended the process that did it, which counts
        against it until it gets further: after MOST_DEATHS it has failed; empty where a worker was
        stopped. Raises LostJobError.
        """
        died = {"died": int(bool(why)), "most": MOST_DEATHS, "why": _text(why)}
        if not self._database.execute(f"{GIVE_BACK} {OWN}", **self._own(job), **died):
            raise _lost(job)

    def sweep(self, stale_s: float) -> int:
        """Give back the jobs whose worker has said nothing for so long; how many."""
        return self._database.execute(
            f"{GIVE_BACK} WHERE state = 'running' "
            "AND heartbeat_at < now() - make_interval(secs => :stale_s)",
            died=1,
            most=MOST_DEATHS,
            why=f"its worker died, {MOST_DEATHS} times",
            stale_s=stale_s,
        )

    def _own(self, job: LearningJob) -> dict[str, Any]:
        return {"id": job.id, "attempt": job.attempt}


def _text(said: str) -> str:
    """As a column takes it: what others say may hold anything."""
    return said[:LONGEST_TEXT].encode("utf-8", "replace").decode().replace("\0", "")


def _lost(job: LearningJob) -> LostJobError:
    return LostJobError(f"job {job.id}: attempt {job.attempt} is not the last one any more")
