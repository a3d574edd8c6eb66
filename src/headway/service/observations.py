"""Observations from outside on their way to a street: who may say what, how much, and what is
refused, row by row.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import msgspec

from headway.runtime import WorkerError
from headway.service.running_street import RunningStreet
from headway.service.streets import StreetService
from headway.settings import ExternalSettings, SourceSettings
from headway.street.external.merge import (
    FORGOTTEN_S,
    MOST_OF_HOLDER,
    MOST_SOURCES,
    Reported,
    SourceRows,
)
from headway.street.external.places import PlaceError, Places
from headway.street.external.rows import (
    MOST_BYTES,
    AgeLimits,
    Fault,
    ObservationRow,
    StreetClock,
    age_fault,
    fault_of,
    read_rows,
)
from headway.telemetry import metrics

BURST_S = 5.0  # of a rate, that may be sent at once
BYTES_A_ROW = 2000  # of a holder's rate: a row of ten vehicles has 700
BYTES_A_MESSAGE = 4096  # that each costs beside its own, so that many small ones cost too
SNAPSHOT_AGE_S = 0.3  # wall seconds by which the street's time may be newer than it is known here
VEHICLES_A_ROW = 10  # a row of more counts as several
REPORT_REFUSED_S = 1.0  # between messages to the street that hold nothing but refusals
MOST_HOLDERS = 1000  # whose bytes are counted; those that may send all again are left out then
SWEEP_S = 1.0  # between two looks for them
MOST_WAITING = 64  # messages of one holder for one street
AWAY_S = 1.0  # after a message that could not be sent, until the street is tried again
OF_PROVIDER = "oidc"  # before the only ':' in the names of the users of a provider (`api.oidc`)
NAMELESS = "nameless"  # part of a holder whose own name is another's source
TOO_MANY = f"a street takes {MOST_SOURCES} sources, {MOST_OF_HOLDER} of one holder"


class NotStartedError(RuntimeError):
    """The street has no time yet; the message says so."""


class RateError(RuntimeError):
    """A holder sends more than it may; nothing of the message was read."""


class RowFault(NamedTuple):
    """What is wrong with a row. number: its place in the message."""

    number: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a message. taken: rows that went to the street; cut: rows over the rate of the
    holder, always the last ones; refused: the others, with their faults.
    """

    taken: int
    cut: int
    refused: tuple[RowFault, ...]


@dataclass
class _Allowance:
    """What may be sent now, which is earned again with time. most: at once; per_s: earned."""

    most: float
    per_s: float
    left: float
    at_s: float

    def spend(self, amount: float, now_s: float) -> bool:
        """False, and nothing is spent, where less is left."""
        self.left = min(self.left + (now_s - self.at_s) * self.per_s, self.most)
        self.at_s = now_s
        if self.left < amount:
            return False
        self.left -= amount
        return True

    def is_whole(self, now_s: float) -> bool:
        return self.left + (now_s - self.at_s) * self.per_s >= self.most


@dataclass
class _Holder:
    """What a holder of credentials may send to one street now."""

    bytes: _Allowance
    rows: _Allowance

    def is_whole(self, now_s: float) -> bool:
        return self.bytes.is_whole(now_s) and self.rows.is_whole(now_s)


@dataclass
class _Account:
    """Of one source at one street. refused, cut: rows of which the street does not know yet, since
    it was last written to at `reported_s`.
    """

    holder: str
    at_s: float
    refused: int = 0
    cut: int = 0
    reported_s: float = -math.inf


@dataclass
class _Checked:
    """Rows of one message: the good ones and how many were cut, by source; the faults of others."""

    rows: dict[str, list[ObservationRow]] = field(default_factory=dict)
    faults: list[RowFault] = field(default_factory=list)
    cut: Counter[str] = field(default_factory=Counter)


class StreetOutbox:
    """Sends messages to one street in a thread of its own: a street that does not read must not
    hold up whoever reports. Each holder has a queue; they are served in turn.
    """

    def __init__(self, send: Callable[[Reported], None], name: str) -> None:
        self._send = send
        self._waiting: dict[str, deque[Reported]] = {}  # by holder; the first is served next
        self._faults: dict[str, tuple[str, float]] = {}  # by holder: why, and until when
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True, name=f"observations {name}").start()

    def put(self, message: Reported) -> None:
        """Raises WorkerError, and the message is not sent, if too many of its holder wait, or one
        of them could not be sent within the last AWAY_S.
        """
        with self._changed:
            fault, until_s = self._faults.get(message.holder, ("", 0.0))
            if time.monotonic() < until_s:
                raise WorkerError(fault)
            self._faults.pop(message.holder, None)
            own = self._waiting.setdefault(message.holder, deque())
            if len(own) >= MOST_WAITING:
                raise WorkerError(f"{MOST_WAITING} messages of {message.holder!r} wait")
            own.append(message)
            self._changed.notify()

    def _next(self) -> Reported:
        """Of the holder whose turn it is, who is put behind the others."""
        with self._changed:
            self._changed.wait_for(lambda: any(self._waiting.values()))
            self._waiting = {holder: own for holder, own in self._waiting.items() if own}
            holder = next(iter(self._waiting))
            own = self._waiting.pop(holder)
            message = own.popleft()
            self._waiting[holder] = own
            return message

    def _run(self) -> None:
        while True:
            message = self._next()
            try:
                self._send(message)
            except (WorkerError, KeyError) as error:
                with self._changed:
                    self._faults[message.holder] = (str(error), time.monotonic() + AWAY_S)


class ObservationService:
    """Checks observations and sends them to streets.

    wall (seconds since 1970), monotonic_ns, make_outbox: given by tests.
    """

    def __init__(
        self,
        streets: StreetService,
        settings: ExternalSettings,
        wall: Callable[[], float] = time.time,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        make_outbox: Callable[[Callable[[Reported], None], str], Any] = StreetOutbox,
    ) -> None:
        self._streets = streets
        self._settings = settings
        self._wall = wall
        self._monotonic_ns = monotonic_ns
        self._make_outbox = make_outbox
        self._declared = {source.name: source for source in settings.sources}
        self._places: dict[str, Places] = {}
        self._accounts: dict[tuple[str, str], _Account] = {}
        self._holders: dict[tuple[str, str], _Holder] = {}  # by street and holder
        self._swept_s = -math.inf
        self._outboxes: dict[str, Any] = {}
        self._lock = threading.Lock()

    def places(self, street: RunningStreet) -> Places:
        """What rows may speak of."""
        found = self._places.get(street.name)
        if found is None or found.network is not street.network:
            found = self._places[street.name] = Places(street.network)
        return found

    def take(
        self, street: RunningStreet, holder: str, text: bytes | str, received_ns: int | None = None
    ) -> Outcome:
        """Check a message of `holder` and send what is good to the street.

        received_ns: when it arrived, by the monotonic clock. Raises RateError, before anything is
        read, where the holder sends too much; ValueError if the whole message cannot be read,
        NotStartedError while the street is starting, WorkerError if it takes nothing now.
        """
        self._check_name(holder)
        self._spend_bytes(street, holder, len(text) + BYTES_A_MESSAGE)
        arrived_ns = self._monotonic_ns() if received_ns is None else received_ns
        wall = self._wall()
        rows, faults = read_rows(text)
        if street.snapshot is None:
            raise NotStartedError(f"street {street.name!r} is starting")
        checked = self._check(street, holder, rows, faults, wall)
        self._send(street, holder, checked, wall, arrived_ns)
        count, cut = sum(len(own) for own in checked.rows.values()), checked.cut.total()
        metrics.observations.labels(street.name, "taken").inc(count)
        metrics.observations.labels(street.name, "refused").inc(len(checked.faults))
        metrics.observations.labels(street.name, "cut").inc(cut)
        return Outcome(count, cut, tuple(checked.faults))

    def _check_name(self, holder: str) -> None:
        """Raises ValueError for a holder whose name is that of another's source, or before those of
        the provider's users.
        """
        if any(s.holder == holder for s in self._settings.sources):
            return
        if ":" in holder.removeprefix(f"{OF_PROVIDER}:"):
            raise ValueError(
                f"no message is taken from {holder!r}: a name with ':' is that of a part of "
                f"{holder.rpartition(':')[0]!r}. Use credentials of another name"
            )
        if holder == OF_PROVIDER:
            raise ValueError(
                f"no message is taken from {holder!r}: so the names of the provider's users begin. "
                "Use credentials of another name"
            )

    def _holder(self, street: RunningStreet, holder: str, now_s: float) -> _Holder:
        is_due = now_s - self._swept_s >= SWEEP_S  # each costs as much as there are holders
        if len(self._holders) >= MOST_HOLDERS and is_due:
            self._swept_s = now_s
            self._holders = {k: h for k, h in self._holders.items() if not h.is_whole(now_s)}
        key, rows_per_s = (street.name, holder), self._settings.rows_per_s
        if key not in self._holders:
            bytes_per_s, rows = rows_per_s * BYTES_A_ROW, rows_per_s * BURST_S
            most = max(bytes_per_s * BURST_S, float(MOST_BYTES + BYTES_A_MESSAGE))
            self._holders[key] = _Holder(
                bytes=_Allowance(most, bytes_per_s, most, now_s),
                rows=_Allowance(rows, rows_per_s, rows, now_s),
            )
        return self._holders[key]

    def _spend_bytes(self, street: RunningStreet, holder: str, size: int) -> None:
        """Raises RateError."""
        now_s = self._monotonic_ns() / 1e9
        with self._lock:
            own = self._holder(street, holder, now_s).bytes
            if not own.spend(size, now_s):
                raise RateError(
                    f"{holder!r} sends more than {own.per_s:.0f} bytes a second; {BYTES_A_MESSAGE} "
                    "are counted for each message beside its own"
                )

    def _spend_rows(self, street: RunningStreet, holder: str, rows: float) -> bool:
        """False where less is left."""
        now_s = self._monotonic_ns() / 1e9
        with self._lock:
            return self._holder(street, holder, now_s).rows.spend(rows, now_s)

    def _check(
        self,
        street: RunningStreet,
        holder: str,
        rows: list[ObservationRow | None],
        faults: dict[int, Fault],
        wall: float,
    ) -> _Checked:
        checked = _Checked()
        clock, limits = self._clock(street, wall)
        places = self.places(street)
        for index, row in enumerate(rows):
            fault = faults.get(index)
            source = (row.source if row is not None else "") or holder
            if not self._may_speak_for(source, holder):
                fault, source = _not_allowed(source, holder), self._blamed(holder)
            if not self._has_room(street, source, holder):
                checked.faults.append(RowFault(index, Fault("/source", TOO_MANY)))
            elif checked.cut or not self._spend_rows(street, holder, _cost(row)):
                checked.cut[source] += 1
            else:
                found = fault or self._checked(row, source, places, clock, limits)
                if isinstance(found, Fault):
                    self._refuse(street, source, holder, checked, RowFault(index, found))
                else:
                    checked.rows.setdefault(source, []).append(found)
        with self._lock:
            for source, cut in checked.cut.items():
                self._account(street, source, holder).cut += cut
        return checked

    def _clock(self, street: RunningStreet, wall: float) -> tuple[StreetClock, AgeLimits]:
        """The street's, as far as it is known here."""
        snapshot, s = street.snapshot, self._settings
        assert snapshot is not None
        speed_factor = snapshot.speed_factor
        ahead_s = s.ahead_s + SNAPSHOT_AGE_S * max(speed_factor, 1.0)
        return StreetClock(wall, snapshot.time_s, speed_factor), AgeLimits(s.oldest_s, ahead_s)

    def _checked(
        self,
        row: ObservationRow | None,
        source: str,
        places: Places,
        clock: StreetClock,
        limits: AgeLimits,
    ) -> ObservationRow | Fault:
        """The row with the network's own names, or what is wrong with it."""
        if row is None:
            return Fault("", "is no row")
        fault = fault_of(row) or age_fault(row, clock, limits)
        if fault is not None:
            return fault
        try:
            return _placed(row, places, self._declared.get(source))
        except PlaceError as error:
            return Fault(error.place, str(error))

    def _may_speak_for(self, source: str, holder: str) -> bool:
        """A source belongs to the holder that the settings name, else to the holder whose name it
        bears.
        """
        declared = self._declared.get(source)
        if declared is not None:
            return declared.holder == holder
        if not source.isprintable():  # a line break may pass a pattern's end
            return False
        return bool(holder) and (source == holder or source.startswith(f"{holder}:"))

    def _blamed(self, holder: str) -> str:
        """The source of a holder who spoke for another; never that of somebody else."""
        return holder if self._may_speak_for(holder, holder) else f"{holder}:{NAMELESS}"

    def _account(self, street: RunningStreet, source: str, holder: str) -> _Account:
        now_s = self._monotonic_ns() / 1e9
        found = self._accounts.setdefault((street.name, source), _Account(holder, now_s))
        found.at_s = now_s
        return found

    def _has_room(self, street: RunningStreet, source: str, holder: str) -> bool:
        """The source has an account, or a new one fits in."""
        with self._lock:
            if (street.name, source) in self._accounts:
                return True
            now_s = self._monotonic_ns() / 1e9
            self._accounts = {
                key: a for key, a in self._accounts.items() if now_s - a.at_s <= FORGOTTEN_S
            }
            own = [a.holder for (name, _), a in self._accounts.items() if name == street.name]
            if len(own) >= MOST_SOURCES or own.count(holder) >= MOST_OF_HOLDER:
                return False
            self._account(street, source, holder)
            return True

    def _refuse(
        self, street: RunningStreet, source: str, holder: str, checked: _Checked, fault: RowFault
    ) -> None:
        checked.faults.append(fault)
        with self._lock:
            self._account(street, source, holder).refused += 1

    def _send(
        self, street: RunningStreet, holder: str, checked: _Checked, wall: float, arrived_ns: int
    ) -> None:
        """One message a holder; refusals alone are reported once in REPORT_REFUSED_S."""
        now_s = self._monotonic_ns() / 1e9
        with self._lock:
            due = {
                source
                for (name, source), a in self._accounts.items()
                if name == street.name
                and a.holder == holder
                and (a.refused or a.cut)
                and now_s - a.reported_s >= REPORT_REFUSED_S
            }
            sources = []
            for source in sorted(due | set(checked.rows)):
                account = self._account(street, source, holder)
                listed = self._declared.get(source)
                sources.append(
                    SourceRows(
                        source=source,
                        rows=tuple(checked.rows.get(source, ())),
                        refused=account.refused,
                        cut=account.cut,
                        weight=listed.weight if listed is not None else 1.0,
                        is_listed=listed is not None,
                    )
                )
                account.refused, account.cut, account.reported_s = 0, 0, now_s
        if sources:
            received_ns = arrived_ns if checked.rows else 0
            message = Reported(holder, tuple(sources), wall, received_ns)
            self._outbox(street.name).put(message)

    def _outbox(self, name: str) -> Any:
        with self._lock:
            if name not in self._outboxes:
                send = partial(self._streets.order, name)
                self._outboxes[name] = self._make_outbox(send, name)
            return self._outboxes[name]

    def sources(self, street: RunningStreet) -> list[dict[str, Any]]:
        """Every source of a street, with its weight and what it is made of."""
        return [dict(s) for s in street.snapshot.sources] if street.snapshot is not None else []


def _cost(row: ObservationRow | None) -> float:
    """Of the rate of a holder, in rows."""
    vehicles = row.vehicles if row is not None else None
    return max(1.0, len(vehicles or ()) / VEHICLES_A_ROW)


def _not_allowed(source: str, holder: str) -> Fault:
    return Fault(
        "/source",
        f"{holder!r} may not speak for {source!r}. Use the name of the credentials, or "
        f"{holder}:PART, or list the source in the settings (external.sources)",
    )


def _placed(row: ObservationRow, places: Places, declared: SourceSettings | None) -> ObservationRow:
    """With the network's own names. Raises PlaceError."""
    junction = places.junction(row.junction)
    name = places.network.junctions[junction].id
    if declared is not None and declared.junctions and name not in declared.junctions:
        raise PlaceError(
            "/junction",
            f"{name!r} is no junction of this source. The settings allow it: "
            f"{', '.join(declared.junctions)}",
        )
    if row.pedestrian_call:
        places.crossing_groups(row, junction)
    approach = places.road_from(junction, row.approach) if row.approach else ""
    if approach:
        places.check_room(row, places.lanes(junction, approach))
    if declared is not None and not declared.emergencies:
        row = _without_emergencies(row)
    return msgspec.structs.replace(row, junction=name, approach=approach)


def _without_emergencies(row: ObservationRow) -> ObservationRow:
    """Emergency vehicles are vehicles like others. Raises PlaceError where nothing is left."""
    if row.emergency is not None and not row.measures_traffic:
        message = "the settings do not let this source report emergency vehicles"
        raise PlaceError("/emergency", message)
    vehicles = row.vehicles
    if vehicles is not None:
        vehicles = [
            msgspec.structs.replace(v, kind="car") if v.kind == "emergency" else v for v in vehicles
        ]
    return msgspec.structs.replace(row, emergency=None, vehicles=vehicles)
