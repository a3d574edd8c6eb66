"""The audit trail: who did what, in the database, each entry bound to the one before it by a hash.

No order waits for it longer than ENTRY_WITHIN_S: what the database does not take in that time waits
on disk until it does. Where the disk does not take it either, orders are refused until one does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from headway import telemetry
from headway.api.seal import PLAIN, Head, Seal
from headway.api.security import Principal, Role
from headway.store import Database, Intake
from headway.store.handed import handed
from headway.store.intake import is_row_fault
from headway.store.spool import Spool, SpoolFullError
from headway.telemetry import metrics

AUDIT_LOCK = 4846  # any number that no other lock of the database has: entries come one by one
# one entry waits for the one before
AUDIT_LIMITS = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '5s'"
ENTRY_WITHIN_S = 2.0  # the answer of an order waits so long for its entry
MOST_WAITING_BYTES = 64 << 20  # on disk; an entry has some 150
RESERVED_BYTES = (
    MOST_WAITING_BYTES // 2
)  # for what was done: refusals, which anybody gets, end there
LARGEST_ENTRY_BYTES = 64 << 10  # 4 KiB each of query and body, escaped twice
LOOKED_BACK = 10_000  # entries among which one that is replayed is looked for
IS_THERE = """
    SELECT 1 FROM audit
    WHERE number > :after AND at = to_timestamp(CAST(:at AS double precision)) AND who = :who
        AND what = :what AND status = :status
"""
READ_AT_ONCE = 2000  # entries, of some 10 kB at most
FIRST_REFUSAL = 400  # status
FIRST = -(2**63)  # before any number that a column can hold
ENTRIES = """
    SELECT number, extract(epoch FROM at) AS at, who, role, what, status, data, before, hash, key
    FROM audit
    WHERE number > :after
    ORDER BY number
    LIMIT :limit
"""
INSERT = """
    INSERT INTO audit (number, at, who, role, what, status, data, before, hash, key)
    VALUES (:number, to_timestamp(CAST(:at AS double precision)), :who, :role, :what, :status,
        CAST(:data AS jsonb), :before, :hash, :key)
"""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what and how it was answered. at: seconds since 1970. data: with which arguments."""

    at: float
    who: Principal
    what: str
    status: int
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which entries; None for any. before: of smaller number. what: a part of the action. begin,
    end: of the time.
    """

    before: int | None = None
    who: str | None = None
    what: str | None = None
    status: int | None = None
    begin: datetime | None = None
    end: datetime | None = None
    limit: int = 100


class Audit:
    """Who did what, each entry bound to the one before it: nothing can be changed or left out
    unseen. seal: what binds them.
    """

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database, self._lock = database, threading.Lock()
        self._seal = seal
        self._log = telemetry.log("api")

    def add(
        self,
        who: Principal,
        what: str,
        status: int,
        data: dict[str, Any],
        at_s: float | None = None,
        replayed: bool = False,
        set_back: bool = False,
    ) -> None:
        """data: texts by name, which a database gives back as they were. at_s: when it was, seconds
        since 1970; None for now. replayed: it may be there already, and is then left out. set_back:
        the trail was, as is in order; else entries that are missing before this one are told for
        ever. Raises SQLAlchemyError.
        """
        with self._lock, self._database.engine.connect() as held:
            held.exec_driver_sql(AUDIT_LIMITS)
            held.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": AUDIT_LOCK})
            last = held.execute(
                sa.text("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
            ).first()
            number, before = (last.number + 1, last.hash) if last else (1, "")
            entry = {
                "number": number,
                "at": f"{time.time() if at_s is None else at_s:.6f}",
                "who": who.name,
                "role": who.role.name.lower(),
                "what": what,
                "status": status,
                "data": data,
            }
            looked_for = {"after": number - LOOKED_BACK, **entry}
            if replayed and held.execute(sa.text(IS_THERE), looked_for).first():
                return
            key, bound = self._seal.bind(_text(before, entry))
            kept = {"data": json.dumps(data), "before": before, "hash": bound, "key": key}
            lost = None if set_back else self._lost_before(held, number)
            held.execute(sa.text(INSERT), entry | kept)
            held.commit()
            try:
                self._seal.keep_head(number, bound, lost)
            except (OSError, ValueError) as error:  # an older head proves less, and nothing wrong
                self._log.error("the head of the audit trail is not kept", error=str(error))

    def _lost_before(self, held: sa.Connection, number: int) -> str:
        """What this server wrote last, where that is gone before the entry `number`."""
        try:
            head = self._seal.head()
        except ValueError:  # whoever keeps the next one tells it
            return ""
        there = sa.text("SELECT 1 FROM audit WHERE number = :number AND hash = :hash")
        if head is None or held.execute(there, msgspec.structs.asdict(head)).first():
            return ""
        return f"entry {head.number}, which this server wrote, was gone before entry {number}"

    def verify(self) -> tuple[int, str]:
        """(entries, what is wrong); nothing is wrong where the second is empty."""
        try:
            before, number, head = "", 0, self._seal.head()
        except ValueError as error:
            return 0, str(error)
        for row in self._all():
            number += 1
            entry = {k: row[k] for k in ("number", "who", "role", "what", "status", "data")} | {
                "at": f"{row['at']:.6f}"
            }
            if row["number"] != number:
                return number, f"entry {number} is missing"
            if fault := self._fault_of(row, before, entry, head):
                return number, f"entry {number} {fault}"
            before = row["hash"]
        if head is not None and number < head.number:
            return number, (
                f"the end is missing: this server wrote entry {head.number}, and the last one here "
                f"is {number}"
            )
        return number, "" if head is None else head.lost

    def _all(self) -> Iterator[dict[str, Any]]:
        """Oldest first, READ_AT_ONCE in memory at a time."""
        after = FIRST
        while rows := self._database.rows(ENTRIES, after=after, limit=READ_AT_ONCE):
            yield from rows
            after = rows[-1]["number"]

    def _fault_of(
        self, row: dict[str, Any], before: str, entry: dict[str, Any], head: Head | None
    ) -> str:
        """What is wrong with one entry; empty for nothing. before: what binds the one before."""
        if row["before"] != before:
            return "was changed"
        if head is not None and row["key"] == PLAIN and row["number"] >= head.since:
            return "is not bound by a key"
        if head is not None and row["number"] == head.number and row["hash"] != head.hash:
            return "is not the one that this server wrote"
        return self._seal.fault(row["key"], _text(before, entry), row["hash"])

    def read(self, where: AuditQuery) -> list[dict[str, Any]]:
        """Entries, newest first."""
        return self._database.rows(
            "SELECT number, at, who, role, what, status, data FROM audit WHERE "
            "(CAST(:before AS bigint) IS NULL OR number < :before) "
            "AND (CAST(:who AS text) IS NULL OR who = :who) "
            "AND (CAST(:what AS text) IS NULL OR strpos(what, :what) > 0) "
            "AND (CAST(:status AS integer) IS NULL OR status = :status) "
            "AND (CAST(:begin AS timestamptz) IS NULL OR at >= :begin) "
            "AND (CAST(:end AS timestamptz) IS NULL OR at < :end) "
            "ORDER BY number DESC LIMIT :limit",
            **asdict(where),
        )


class AuditRecorder:
    """Writes entries one after the other, in a thread of its own. While the database is away, or
    behind, they wait in `DATA/audit.jsonl`, each with the time when it was made.

    spool: the entries on disk, that the database is to take.
    """

    def __init__(self, audit: Audit, intake: Intake, folder: Path) -> None:
        self._audit = audit
        self._intake = intake
        self._folder = folder
        self.spool = Spool(folder / "audit.jsonl", MOST_WAITING_BYTES)
        self._turns = queue.SimpleQueue[tuple[AuditEntry, Future[None]]]()
        self._unkept = deque[list[Any]]()  # rows that neither took, oldest first
        self._keeping = threading.Lock()
        self._log = telemetry.log("api")
        threading.Thread(target=self._work, daemon=True, name="audit").start()

    async def takes_entries(self) -> bool:
        """False while neither the database nor the disk takes one: whoever is to be on record has
        to wait.
        """
        if self._unkept:
            return await asyncio.to_thread(self._keep_unkept)
        return not self.spool.waiting or self.spool.has_room(LARGEST_ENTRY_BYTES)

    async def record(self, entry: AuditEntry) -> None:
        """Once it returns the entry is in the database or on disk; or after ENTRY_WITHIN_S still
        under way to the one or else to the other. Raises OSError or SpoolFullError if neither takes
        it; it then waits in memory.
        """
        if self.spool.waiting:
            await asyncio.to_thread(self._keep, entry)
            return
        written = Future[None]()
        self._turns.put((entry, written))
        heard = asyncio.wrap_future(written)
        heard.add_done_callback(_note)
        done, _ = await asyncio.wait({heard}, timeout=ENTRY_WITHIN_S)
        if done:
            heard.result()
        elif written.cancel():  # its turn has not come
            await asyncio.to_thread(self._keep, entry)

    def catch_up(self) -> None:
        """Give what waits on disk to the database, with what commands have done. Raises
        SQLAlchemyError while it is away.
        """
        for row in handed(self._folder):
            self.spool.put("audit", [row])
        if self._unkept or self.spool.waiting:
            self._keep_unkept()
            self.spool.replay(self._replay)
            self._tell_waiting()

    def _replay(self, _kind: str, rows: list[Any]) -> None:
        for row in rows:
            at_s, name, role, what, status, *data = row  # without data: of an older version
            try:
                who = Principal(name, Role[role])
                self._audit.add(who, what, status, data[0] if data else {}, at_s, replayed=True)
            except sa.exc.SQLAlchemyError as error:
                if not is_row_fault(error):
                    raise
                self._intake.put_aside("audit", [tuple(row)], error)

    def _work(self) -> None:
        while True:
            entry, written = self._turns.get()
            if not written.set_running_or_notify_cancel():
                continue
            try:
                self._write(entry)
            except Exception as error:  # of the disk: whoever waits is told, and the thread goes on
                written.set_exception(error)
            else:
                written.set_result(None)

    def _write(self, entry: AuditEntry) -> None:
        try:
            self._audit.add(entry.who, entry.what, entry.status, entry.data, entry.at)
        except Exception as error:  # of whatever kind: it waits for the database
            self._log.error("audit not written; it waits on disk", error=str(error))
            self._keep(entry)
        else:
            self._tell_waiting()

    def _keep(self, entry: AuditEntry) -> None:
        """On disk. Raises OSError or SpoolFullError."""
        metrics.degraded.labels("audit").set(1)
        if entry.status >= FIRST_REFUSAL and not self.spool.has_room(RESERVED_BYTES):
            raise SpoolFullError("what was refused has taken its part of the disk; it is not kept")
        who = entry.who
        row = [entry.at, who.name, who.role.name, entry.what, entry.status, entry.data]
        with self._keeping:
            self._unkept.append(row)
            self._put_all()

    def _put_all(self) -> None:
        while self._unkept:
            self.spool.put("audit", [self._unkept[0]])
            self._unkept.popleft()

    def _keep_unkept(self) -> bool:
        """On disk, or else in the database; whether all of them are. While somebody else tries it
        they are not: a database that hangs must not take the threads of all who ask.
        """
        if not self._keeping.acquire(blocking=False):
            return False
        try:
            with contextlib.suppress(OSError, SpoolFullError):
                self._put_all()
            if not self.spool.waiting:  # else older ones come first
                with contextlib.suppress(sa.exc.SQLAlchemyError, OSError):
                    while self._unkept:
                        self._replay("audit", [self._unkept[0]])
                        self._unkept.popleft()
            self._tell_waiting()
            return not self._unkept
        finally:
            self._keeping.release()

    def _tell_waiting(self) -> None:
        metrics.degraded.labels("audit").set(float(bool(self.spool.waiting or self._unkept)))


def _text(before: str, entry: dict[str, Any]) -> str:
    """What is bound of an entry, with what binds the one before it."""
    return before + json.dumps(entry, sort_keys=True, separators=(",", ":"))


def _note(heard: asyncio.Future[None]) -> None:
    """Whoever waited may be gone: asyncio need not complain that nobody has asked."""
    if not heard.cancelled():
        heard.exception()
