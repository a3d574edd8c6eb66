"""Streets of other processes, as an API process sees them: found in Valkey, each a `RunningStreet`
of its `StreetService` that is fed by what the street's process says there
(`headway.service.hosting`).

What is heard goes to the clients of this process alone, since every process that follows hears it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis

from headway import telemetry
from headway.plants.sumo import RESCO, network_of, read_network, scenario
from headway.roads import Network, RoadsError
from headway.runtime import WorkerError
from headway.service.lease import TAKE, connect, own_name
from headway.service.orders import OrderState, PlacedOrder
from headway.service.running_street import Action, HistoryRow, RunningStreet
from headway.service.streets import StreetService
from headway.service.wire import (
    STREET_NAME,
    STREETS,
    Colours,
    News,
    Past,
    Placed,
    Standing,
    WireError,
    decode,
    encode,
    key_of,
    name_of,
    place_of,
    settings_from,
    stamp_of,
)
from headway.settings import RecoverySettings
from headway.street.engine import StreetOrder
from headway.street.external.merge import Reported
from headway.street.messages import PlainOrder, Snapshot, Task
from headway.telemetry import metrics
from headway.telemetry.bursts import Burst
from headway.telemetry.threads import keep_running
from headway.values import Event

LOOK_EVERY_S = 1.0
AWAY_AFTER_S = 4.0  # of silence; its process says once a second how things stand
AWAY_TOLD_S = 30.0  # where nothing was said of an end
LEFT_TOLD_S = 60.0  # where it ended in order: the next process takes the lease, or is started
REFUSED_AGAIN_S = 30.0  # until a street that cannot be shown is tried again
LISTEN_MS = 500
READ_AT_ONCE = 500
AGAIN_S = 1.0
ORDERS_KEPT, DATA_KEPT = 1000, 16  # in their streams; observations may be of several megabytes
HEARD_WITHIN_S = 10.0  # a street says at once that it has an order, and refuses one that is late
FORGOTTEN_S = 3600  # after which a stream that nobody adds to is gone
SEND_WITHIN_S = 2.0
FIRST_S = 5.0  # for so long one process speaks for all that follow
FIRST = "headway:followers"
REPLAYED = 1000  # of the stream, for who begins to follow
NOT_YET = "its process has not been heard yet"
LOST = "it was not heard of: Valkey forgot it, or the street was cut off"
LONGEST_TOKEN = 20  # digits
OF_A_NETWORK = ("Snapshot", "Colours")  # of its groups and junctions, by their numbers
NOT_HEARD = "of a street did not come through: it was cut off from Valkey, or this process was"


class RemoteEngine:
    """The engine of a street elsewhere, and the way there. silence: why it is not heard; empty
    where it is. unlike: why its state cannot be shown by the files of this machine. is_changing:
    its process ended in order, and the next one has time left to begin. token: of the process that
    runs it. unheard: orders that were sent, by id, since when (seconds of the monotonic clock)
    nothing was heard of them.
    """

    is_restarting = False
    pid: int | None = None  # of no process here

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.token = 0
        self.silence, self.unlike = NOT_YET, ""
        self.is_changing = False
        self.unheard = dict[str, float]()
        self._link = connect(url, SEND_WITHIN_S)

    @property
    def away(self) -> str:
        """Why it takes no orders now."""
        return self.silence or self.unlike

    def send(self, action: Action, order: PlacedOrder, orders: tuple[PlainOrder, ...]) -> None:
        """Raises WorkerError."""
        self.unheard[order.id] = time.monotonic()
        try:
            self._add("orders", ORDERS_KEPT, Placed(action, order.plain(), orders))
        except WorkerError:
            self.unheard.pop(order.id, None)
            raise

    def order(self, order: StreetOrder) -> None:
        """Observations alone; all else goes on record as it is sent. Raises WorkerError."""
        if not isinstance(order, Reported):
            raise WorkerError(f"street {self.name!r} takes a {type(order).__name__} on record only")
        self._add("data", DATA_KEPT, order)

    def stop(self) -> None:
        """Nothing: it does not end with the processes that follow it."""

    def messages(self) -> Any:
        return iter(())

    def _add(self, what: str, kept: int, message: Any) -> None:
        if self.away:
            raise WorkerError(f"street {self.name!r} is away: {self.away}")
        fields: Any = {"t": self.token, "m": encode(message)}
        try:
            with self._link.pipeline(transaction=False) as together:
                stream = key_of(self.name, what)
                together.xadd(stream, fields, maxlen=kept, approximate=False)
                together.expire(stream, FORGOTTEN_S)
                together.execute()
        except redis.RedisError as error:
            raise WorkerError(f"street {self.name!r} cannot be reached: {error}") from error


@dataclass(eq=False)
class _Followed:
    """last: the newest entry that was read. number: of the newest message. heard_s: when it was,
    seconds of the monotonic clock. silent: its past is being read, and nobody is told. has_left:
    its process has ended in order. is_told: that it is away. again_s: when a network that is not
    here is looked for again.
    """

    street: RunningStreet
    engine: RemoteEngine
    last: bytes
    stamp: str
    settings: Mapping[str, Any]
    number: int = 0
    heard_s: float = 0.0
    silent: bool = False
    has_left: bool = False
    is_told: bool = False
    again_s: float = 0.0

    @property
    def told_after_s(self) -> float:
        return LEFT_TOLD_S if self.has_left else AWAY_TOLD_S


@dataclass(frozen=True, slots=True)
class _Refused:
    """A street that is not followed, until its process is another one, or `again_s` (monotonic)."""

    why: str
    token: int
    again_s: float


class Follower:
    """Follows every street that Valkey knows of, and that does not run below this process itself.

    folder: of this process, for what a street's settings name on its own machine.
    on_gap: called with the number of messages that did not come.
    """

    def __init__(
        self,
        url: str,
        service: StreetService,
        folder: Path,
        on_gap: Callable[[int, str], None],
    ) -> None:
        self._url = url
        self._service = service
        self._folder = folder
        self._on_gap = on_gap
        self._followed: dict[str, _Followed] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked_s = -LOOK_EVERY_S
        self._name = own_name()
        self._first_until_s = 0.0
        self._unread, self._older = Burst(), Burst()
        self._refused: dict[str, _Refused] = {}
        self._log = telemetry.log("api")

    def begin(self) -> None:
        """What Valkey knows now is there when this returns, where it answers."""
        try:
            self._look(connect(self._url, SEND_WITHIN_S))
        except redis.RedisError as error:
            self._tell_away(error)
        self._thread = keep_running("follow streets", self._work, self._stop)

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(6.0)

    @property
    def is_first(self) -> bool:
        """Of all processes that follow, this one does what is to be done once: it writes to people,
        and enters who is champion.
        """
        return time.monotonic() < self._first_until_s

    def speaks_for(self, street: str) -> bool:
        """Whether what a street reports is to be acted on here."""
        return street not in self._followed or self.is_first

    # --- the thread

    def _work(self) -> None:
        link = connect(self._url, 5.0)
        while not self._stop.is_set():
            try:
                if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
                    self._look(link)
                self._read(link)
                metrics.degraded.labels("streets").set(0)
            except redis.RedisError as error:
                self._tell_away(error)
                self._stop.wait(AGAIN_S)

    def _tell_away(self, error: Exception) -> None:
        metrics.degraded.labels("streets").set(1)
        for followed in self._followed.values():
            followed.engine.silence = "Valkey does not answer"

    def _look(self, link: redis.Redis) -> None:
        """For streets that are new, for those that have fallen silent, and who is first. Raises
        RedisError.
        """
        now_s = self._looked_s = time.monotonic()
        found: Any = link.hgetall(STREETS)
        for name, token in sorted((n.decode(errors="replace"), t) for n, t in found.items()):
            if name not in self._followed and STREET_NAME.fullmatch(name) and _is_token(token):
                known = self._refused.get(name)
                if known is not None and known.token == int(token) and now_s < known.again_s:
                    continue
                with self._own_faults(name):
                    self._begin_to_follow(link, name, int(token))
        for name, followed in self._followed.items():
            self._look_after_orders(followed)
            if now_s - followed.heard_s > AWAY_AFTER_S:
                with self._own_faults(name):
                    self._look_after_silent(link, followed)
        keys = [f"{{{FIRST}}}:{what}" for what in ("lease", "token", "freed")]
        with self._own_faults(FIRST):
            taken: Any = link.eval(TAKE, 3, *keys, self._name, round(1e3 * FIRST_S))
            if taken[0]:
                self._first_until_s = now_s + FIRST_S - 2.0 * LOOK_EVERY_S

    @contextlib.contextmanager
    def _own_faults(self, name: str) -> Iterator[None]:
        """A key that is of another type costs the street alone that it is of."""
        try:
            yield
        except redis.ResponseError as error:
            self._tell_unread(name, error)

    def _look_after_orders(self, followed: _Followed) -> None:
        """Those of this process of which nothing was heard."""
        street, now_s = followed.street, time.monotonic()
        for order_id, since_s in list(followed.engine.unheard.items()):
            if now_s - since_s < HEARD_WITHIN_S:
                continue
            followed.engine.unheard.pop(order_id, None)
            order = self._service.orders.find(street.name, order_id)
            if order is not None and order.state is OrderState.ACCEPTED:
                ended = replace(order, state=OrderState.UNANSWERED, reason=LOST)
                self._service.orders.mirror(ended)

    def _look_after_silent(self, link: redis.Redis, followed: _Followed) -> None:
        """Raises RedisError."""
        if time.monotonic() - followed.heard_s > followed.told_after_s:
            followed.engine.is_changing = False
            self._tell_away_once(followed)
        if not followed.engine.silence:
            followed.engine.silence = f"its process has said nothing for {AWAY_AFTER_S:.0f} s"
            self._log.warning("a street is away", street=followed.street.name)
        newest: Any = link.xrevrange(key_of(followed.street.name, "news"), count=1)
        if newest and place_of(newest[0][0]) < place_of(followed.last):
            followed.last = b"0-0"  # a stream that was begun anew, by an earlier clock
        known: Any = link.get(key_of(followed.street.name, "token"))
        if known is not None and _is_token(known) and int(known) < followed.engine.token:
            self._begin_process(followed, int(known))  # Valkey forgot it, and its clock is earlier

    def _read(self, link: redis.Redis) -> None:
        """Raises RedisError."""
        if not self._followed:
            self._stop.wait(LOOK_EVERY_S / 4)
            return
        streams = {key_of(name, "news"): f for name, f in self._followed.items()}
        where: Any = {stream: f.last for stream, f in streams.items()}
        try:
            found: Any = link.xread(where, block=LISTEN_MS, count=READ_AT_ONCE)
        except redis.ResponseError:
            found = self._read_each(link, where)
        for stream, entries in found or []:
            followed = streams[stream.decode()]
            for number, fields in entries:
                followed.last = number
                self._take_entry(followed, fields)

    def _read_each(self, link: redis.Redis, where: Mapping[str, bytes]) -> list[Any]:
        """One after the other: one of them is no stream. Raises RedisError."""
        found = list[Any]()
        for stream, last in where.items():
            with self._own_faults(stream):
                found += link.xread({stream: last}, count=READ_AT_ONCE) or []
        if not found:
            self._stop.wait(LISTEN_MS / 1e3)
        return found

    # --- a street that is new here

    def _begin_to_follow(self, link: redis.Redis, name: str, token: int) -> None:
        """Its newest state, from what stands in Valkey, then what was said since. Raises
        RedisError.
        """
        if name in self._service.streets:
            self._refuse(name, token, "a street of this name runs below this process")
            return
        stream = key_of(name, "news")
        newest: Any = link.xrevrange(stream, count=REPLAYED)
        data: Any = link.mget(key_of(name, "standing"), key_of(name, "past"))
        if data[0] is None:
            return  # it has been away for so long that nobody remembers it
        try:
            standing = decode(data[0])
            if not isinstance(standing, Standing) or standing.name != name:
                raise WireError("no standing of this street")
            followed = self._made(standing, newest[0][0] if newest else b"0-0")
            followed.silent, followed.engine.token = True, token
            self._use_past(followed, data[1])
            self._stand(followed, standing)
        except (WireError, RoadsError, OSError, ValueError) as error:
            self._refuse(name, token, str(error))
            return
        except Exception as error:  # of whatever class: others may write to the same Valkey
            self._refuse(name, token, repr(error))
            return
        for _, fields in reversed(newest):
            self._take_entry(followed, fields)
        followed.silent, followed.heard_s = False, time.monotonic()
        followed.engine.silence = NOT_YET
        self._followed = {**self._followed, name: followed}
        self._service.add_followed(followed.street)
        self._refused.pop(name, None)
        self._log.info("follows a street", street=name, holder=standing.holder)

    def _refuse(self, name: str, token: int, why: str) -> None:
        """Told once; for a while nothing of it is read."""
        before = self._refused.get(name)
        self._refused[name] = _Refused(why, token, time.monotonic() + REFUSED_AGAIN_S)
        if before is None or before.why != why:
            self._log.error("a street is not followed", street=name, why=why)

    def _made(self, standing: Standing, last: bytes) -> _Followed:
        engine = RemoteEngine(self._url, standing.name)
        own = RecoverySettings(folder=str(self._folder / "followed" / standing.name))
        task = Task(settings_from(standing.settings, recovery=own), name=standing.name)
        street = RunningStreet(
            name=standing.name,
            task=task,
            engine=engine,  # type: ignore[arg-type]  # as much of it as is asked for
            network=_network(standing),
            remote=engine,
        )
        return _Followed(street, engine, last, standing.stamp, standing.settings)

    def _use_past(self, followed: _Followed, data: bytes | None) -> None:
        """Without it, what was before this start is not known here."""
        if data is None:
            return
        street = followed.street
        try:
            past = decode(data)
            if not isinstance(past, Past):
                raise WireError("no past of a street")
            orders = [PlacedOrder.of(order) for order in past.orders]
            if any(order.street != street.name for order in orders):
                raise WireError("an order of another street")
            events = [_event(told) for told in past.events]
        except Exception as error:  # of whatever class: others may write to the same Valkey
            self._tell_unread(street.name, error)
            return
        for order in orders:
            self._service.orders.mirror(order, say=False)
        street.events.extend(events)
        street.snapshot, street.report = past.snapshot, past.report
        street.history.extend(HistoryRow(*row) for row in past.history)
        street.history_s = street.history[-1].time_s if street.history else street.history_s
        street.colours = {group: (at, colour) for at, group, colour in past.colours}
        if past.token == followed.engine.token:
            followed.number = past.number

    # --- what is heard

    def _take_entry(self, followed: _Followed, fields: Mapping[bytes, bytes]) -> None:
        """Left out and logged is what is no message of a street; what has an older token than the
        newest, of a process that has lost the street, is left out too.
        """
        street = followed.street
        try:
            token, number = int(fields.get(b"t", b"x")), int(fields.get(b"n", b"x"))
            if token < followed.engine.token:
                if count := self._older.add():
                    self._log.warning("messages of before", street=street.name, messages=count)
                return
            data = fields.get(b"m", b"")
            is_of_another = bool(followed.engine.unlike) and name_of(data) in OF_A_NETWORK
            message = None if is_of_another else decode(data)
            if token > followed.engine.token:
                self._begin_process(followed, token)
            if not self._is_next(followed, number):
                return
            if message is not None:
                self._take(followed, message)
        except Exception as error:  # of whatever class: others may write to the same Valkey
            self._tell_unread(street.name, error)
            return
        followed.heard_s = time.monotonic()
        if followed.is_told and not followed.has_left and not followed.engine.unlike:
            followed.is_told = False
            self._tell(followed, "engine.heard", {})
        if not followed.silent and not followed.has_left and followed.engine.silence:
            followed.engine.silence = ""
            self._log.info("a street is heard", street=street.name)

    def _tell_away_once(self, followed: _Followed) -> None:
        """Until it is heard again, and can be shown."""
        if not followed.is_told and not followed.silent:
            followed.is_told = True
            self._tell(followed, "engine.away", {"why": followed.engine.away})

    def _tell(self, followed: _Followed, kind: str, data: Mapping[str, Any]) -> None:
        """News of this process' own."""
        snapshot = followed.street.snapshot
        at_s = snapshot.time_s if snapshot is not None else 0.0
        news = {"at_s": at_s, "kind": kind, "junction": "", "data": dict(data)}
        for topic in ("alerts", "monitoring"):
            self._service.take_news(followed.street, topic, news, None)

    def _tell_unread(self, name: str, error: Exception) -> None:
        if count := self._unread.add():
            why = str(error)[:300]
            self._log.warning("messages of a street left out", street=name, messages=count, why=why)

    def _begin_process(self, followed: _Followed, token: int) -> None:
        """Another process runs the street from now on: it does not know the orders of before."""
        street = followed.street
        followed.engine.token, followed.number = token, 0
        followed.has_left = followed.engine.is_changing = False
        followed.again_s, street.snapshot = 0.0, None
        for order in self._service.orders.open_orders(street.name):
            why = "another process runs the street by now"
            ended = replace(order, state=OrderState.UNANSWERED, reason=why)
            self._service.orders.mirror(ended, say=not followed.silent)

    def _is_next(self, followed: _Followed, number: int) -> bool:
        """False for what was heard already. 0: it has no number, and is of its moment alone: of the
        past, the newest is known.
        """
        if not number:
            return not followed.silent
        if number <= followed.number:
            return False
        missed = number - followed.number - 1
        if missed and followed.number and not followed.silent:
            self._on_gap(missed, NOT_HEARD)
        followed.number = number
        return True

    def _take(self, followed: _Followed, message: Any) -> None:
        street = followed.street
        match message:
            case Snapshot():
                self._service.take_snapshot(street, message, say=not followed.silent)
            case Colours():
                self._service.take_colours(street, list(message.changes))
            case Standing():
                self._stand(followed, message)
            case News():
                self._take_news(followed, message)
            case _:
                raise WireError(f"a {type(message).__name__} is no news")

    def _take_news(self, followed: _Followed, news: News) -> None:
        street, told = followed.street, dict(news.message)
        kind = str(told.get("kind", ""))
        if news.topic == "monitoring" and kind.startswith("order."):
            order = PlacedOrder.of(told["data"])
            if order.street != street.name:
                raise WireError("an order of another street")
            followed.engine.unheard.pop(order.id, None)
            self._service.orders.mirror(order, say=not followed.silent)
            return
        event = _event(told) if news.topic == "monitoring" and "data" in told else None
        self._service.take_news(street, news.topic, told, event, say=not followed.silent)

    def _stand(self, followed: _Followed, standing: Standing) -> None:
        street = followed.street
        if standing.name != street.name:
            raise WireError("a standing of another street")
        self._follow_leaving(followed, standing)
        if standing.stamp != followed.stamp and not self._use_network(followed, standing):
            return
        followed.engine.unlike = ""
        if standing.run != street.run and street.run:
            street.history.clear()
            street.flows.clear()
        if standing.settings != followed.settings:
            own = street.task.settings.recovery
            settings = settings_from(standing.settings, recovery=own)
            street.task = replace(street.task, settings=settings)
            followed.settings = standing.settings
        street.run, street.scenario, street.demand = (
            standing.run,
            standing.scenario,
            standing.demand,
        )
        street.repeat, street.fault, street.stop = standing.repeat, standing.fault, standing.stop
        street.finished, street.ended = standing.finished, standing.ended
        street.controller_ordered, street.trouble = standing.controller_ordered, standing.trouble
        street.backlog = standing.backlog
        followed.engine.is_restarting = standing.restarting
        if not standing.has_snapshot:
            street.snapshot = None
        street.alerts = {int(alert.get("number", 0)): dict(alert) for alert in standing.alerts}

    def _follow_leaving(self, followed: _Followed, standing: Standing) -> None:
        followed.has_left = standing.leaving
        if standing.leaving and not followed.silent:
            followed.engine.silence = "its process has ended"
            followed.engine.is_changing = True

    def _use_network(self, followed: _Followed, standing: Standing) -> bool:
        """Another scenario has begun. Whether its network is here: where not, that is told once,
        and what the street says of its groups and junctions is left out until it is.
        """
        street, engine, now_s = followed.street, followed.engine, time.monotonic()
        if engine.unlike and now_s < followed.again_s:
            return False
        try:
            street.network = _network(standing)
        except (RoadsError, OSError, ValueError) as error:
            followed.again_s, why = now_s + REFUSED_AGAIN_S, str(error)
            if engine.unlike != why:
                engine.unlike = why
                self._log.error("a street is not shown", street=street.name, why=why)
                self._tell_away_once(followed)
            return False
        if engine.unlike:
            street.snapshot = None  # of the network before
        followed.stamp = standing.stamp
        street.colours.clear()
        return True


def _is_token(text: bytes) -> bool:
    return text.isdigit() and len(text) <= LONGEST_TOKEN


def _event(told: Mapping[str, Any]) -> Event:
    """Raises ValueError, KeyError or TypeError."""
    return Event(float(told["at_s"]), str(told["kind"]), str(told["junction"]), dict(told["data"]))


def _network(standing: Standing) -> Network:
    """By the files of this machine. Raises WireError where they are not those of the street."""
    if standing.scenario in RESCO:
        network = network_of(scenario(standing.scenario))
    else:
        if not Path(standing.net).is_file():
            raise WireError(
                f"its network {standing.net} is not on this machine. Have the same file here, at "
                "the same place."
            )
        network = read_network(standing.net, standing.additional, standing.begin_s)
    if stamp_of(network) != standing.stamp:
        raise WireError(f"its network is another one than {standing.net} here")
    return network
