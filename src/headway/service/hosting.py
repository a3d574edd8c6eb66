"""A street that is a process of its own: what it says goes to Valkey, for whoever follows it
(`headway.service.following`), and what it is ordered comes from there.

Nothing of the street waits for Valkey: a thread sends what waits, and what cannot be sent is
counted, so that whoever follows knows how much is missing. Everything that is written bears the
token of the street's lease; Valkey itself refuses what bears an older one than the newest.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis

from headway import __version__, telemetry
from headway.plants.sumo.scenarios import scenario
from headway.runtime import WorkerError
from headway.service.lease import connect
from headway.service.orders import OrderFilter, PlacedOrder
from headway.service.running_street import NetworkFiles, RunningStreet, StreetStateError
from headway.service.streets import StreetService
from headway.service.wire import (
    STREETS,
    Colours,
    News,
    Past,
    PastRow,
    Placed,
    Standing,
    WireError,
    decode,
    encode,
    key_of,
    place_of,
    settings_to_send,
    stamp_of,
)
from headway.street.engine import START_EVENTS
from headway.street.external.merge import Reported
from headway.street.messages import Deploy, PlainOrder, Snapshot
from headway.telemetry import metrics
from headway.telemetry.bursts import Burst
from headway.telemetry.plain import plain
from headway.telemetry.threads import keep_running

NEWS_KEPT = 600  # in the stream; at ten snapshots a second a minute
MOST_WAITING = 5000
MOST_SNAPSHOTS_WAITING = 20  # then the oldest goes: the newest says how things stand
SENT_AT_ONCE = 500
STANDING_EVERY_S = 1.0
PAST_EVERY_S = 5.0
REMEMBERED_S = 86_400  # a street that is away is shown for so long
ORDER_AGE_S = 5.0  # an order that is older was placed before the street could hear it
LISTEN_MS = 500
LONGEST_ORDER = 1 << 20
AGAIN_S = 0.5
PAST_ORDERS = 200
REFUSED = (WireError, WorkerError, StreetStateError, ValueError, OSError, KeyError)

# KEYS: token, news, standing, past. ARGV: own token, entries kept, standing, past, how long these
# are kept (s), then number and bytes of each message. Returns the newest entry, or 'older'.
SEND = """
if tonumber(redis.call('GET', KEYS[1]) or '0') > tonumber(ARGV[1]) then return 'older' end
local last = ''
for i = 6, #ARGV, 2 do
    last = redis.call(
        'XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 't', ARGV[1], 'n', ARGV[i], 'm', ARGV[i + 1]
    )
end
if last ~= '' then redis.call('EXPIRE', KEYS[2], ARGV[5]) end
if ARGV[3] ~= '' then redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[5]) end
if ARGV[4] ~= '' then redis.call('SET', KEYS[4], ARGV[4], 'EX', ARGV[5]) end
return last
"""


@dataclass(frozen=True, slots=True)
class _Waiting:
    number: int
    message: Any
    is_snapshot: bool


class StreetHost:
    """Speaks for the street `name`, and hears for it, from `begin` to `close`.

    `hear` and `hear_colours` are the listeners of its StreetService, which is `service` from then
    on. token: of the lease, in every message. holder: who has it, for those who look.
    may_speak: whether the lease is held; nothing is sent, and no order taken, while it is not.
    file_here: where the file of a model is on this machine, by its sha256; raises OSError.
    """

    service: StreetService

    def __init__(
        self,
        url: str,
        name: str,
        token: int,
        holder: str,
        may_speak: Callable[[], bool],
        file_here: Callable[[str], Path] | None = None,
    ) -> None:
        self._file_here = file_here
        self.name = name
        self._url = url
        self._token = token
        self._holder = holder
        self._may_speak = may_speak
        self._waiting = deque[_Waiting]()
        self._snapshots = 0  # of those that wait
        self._number = 0
        self._lock = threading.Lock()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._standing_s = self._past_s = 0.0
        self._unsent, self._unread = Burst(), Burst()
        self._stamps: dict[int, str] = {}  # of the network, by its identity
        self._files: NetworkFiles | None = None
        self._log = telemetry.log("street")
        self._is_away = False

    # --- from the street's threads ---

    def hear(self, topic: str, street: str, message: Any) -> None:
        """As `headway.service.streets.Listener`: never waits."""
        if isinstance(message, Snapshot):
            self._put(message, is_snapshot=True)
            return
        told = plain(dict(message))
        self._put(News("alerts" if topic == "alerts" else "monitoring", told))
        if topic == "monitoring" and told.get("kind") in START_EVENTS:
            self._put(self._standing())  # its network may be another one

    def hear_colours(self, street: str, changes: list[tuple[float, int, int]]) -> None:
        self._put(Colours(tuple(changes)))

    def _put(self, message: Any, is_snapshot: bool = False) -> None:
        with self._lock:
            self._number += 1
            self._waiting.append(_Waiting(self._number, message, is_snapshot))
            self._snapshots += is_snapshot
            if self._snapshots > MOST_SNAPSHOTS_WAITING:
                oldest = next(one for one in self._waiting if one.is_snapshot)
                self._waiting.remove(oldest)
                self._snapshots -= 1
            elif len(self._waiting) > MOST_WAITING:
                self._snapshots -= self._waiting.popleft().is_snapshot
        self._wake.set()

    # --- the threads to Valkey ---

    def begin(self, service: StreetService) -> None:
        self.service = service
        self._threads = [
            keep_running("street send", self._send, self._stop),
            keep_running("street orders", self._take_orders, self._stop),
            keep_running("street data", self._take_data, self._stop),
        ]

    def close(self) -> None:
        """What waits is sent once more, where Valkey answers."""
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(5.0)

    def _send(self) -> None:
        link = connect(self._url, 5.0)
        pending = list[_Waiting]()
        while True:
            self._wake.wait(0.0 if pending else STANDING_EVERY_S / 4)
            self._wake.clear()
            is_last = self._stop.is_set()
            pending += self._taken(SENT_AT_ONCE - len(pending))
            try:
                if self._may_speak():
                    self._send_once(link, pending)
                    pending = []
                elif pending and self._stop.wait(AGAIN_S):
                    return
            except redis.RedisError as error:
                self._tell_away(error)
                if self._stop.wait(AGAIN_S):
                    return
            if is_last and not self._waiting:
                return

    def _taken(self, most: int) -> list[_Waiting]:
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._snapshots -= sum(one.is_snapshot for one in taken)
            if self._waiting:
                self._wake.set()
        return taken

    def _send_once(self, link: redis.Redis, pending: list[_Waiting]) -> None:
        """Raises RedisError. A message that cannot be written is left out and counted."""
        parts = list[Any]()
        for one in pending:
            parts += self._written(one.number, one.message)
        now_s, standing, past = time.monotonic(), b"", b""
        street = self.service.streets.get(self.name)
        if street is not None and (
            now_s - self._standing_s >= STANDING_EVERY_S or self._stop.is_set()
        ):
            self._standing_s = now_s
            written = self._written(0, self._standing())
            parts += written
            standing = written[1] if written else b""
        if street is not None and standing and now_s - self._past_s >= PAST_EVERY_S:
            self._past_s = now_s
            newest = pending[-1].number if pending else self._number
            past = (self._written(0, self._past(street, newest)) or [0, b""])[1]
        if not parts:
            return
        keys = [key_of(self.name, what) for what in ("token", "news", "standing", "past")]
        found = link.eval(
            SEND, len(keys), *keys, self._token, NEWS_KEPT, standing, past, REMEMBERED_S, *parts
        )
        if found == b"older":
            if self._unsent.add():
                self._log.error(
                    "nothing is sent: another process runs the street", street=self.name
                )
            return
        if standing:
            link.hset(STREETS, self.name, self._token)
        self._tell_back()

    def _written(self, number: int, message: Any) -> list[Any]:
        try:
            return [number, encode(message)]
        except WireError as error:
            if count := self._unsent.add():
                self._log.error("messages cannot be sent", messages=count, why=str(error))
            return []

    def _tell_away(self, error: Exception) -> None:
        metrics.degraded.labels("street link").set(1)
        if not self._is_away:
            self._log.warning("Valkey is away; the street goes on", why=str(error))
        self._is_away = True

    def _tell_back(self) -> None:
        metrics.degraded.labels("street link").set(0)
        if self._is_away:
            self._log.info("Valkey answers again", street=self.name)
        self._is_away = False

    # --- how things stand ---

    def _standing(self) -> Standing:
        street = self.service.streets[self.name]
        now = street.snapshot
        files = street.files if street.files.net else self._first_files(street)
        return Standing(
            name=self.name,
            holder=self._holder,
            leaving=self._stop.is_set(),
            run=street.run,
            scenario=street.scenario,
            demand=street.demand,
            net=files.net,
            additional=files.additional,
            begin_s=files.begin_s,
            stamp=self._stamp(street),
            settings=settings_to_send(street.task.settings),
            repeat=street.repeat,
            fault=street.fault,
            finished=street.finished,
            ended=street.ended,
            restarting=street.engine.is_restarting,
            has_snapshot=now is not None,
            stop=street.stop,
            controller_ordered=street.controller_ordered,
            trouble=self.service.record.trouble,
            alerts=tuple(plain(alert) for alert in list(street.alerts.values())),
            version=__version__,
            backlog=self.service.record.backlog,
        )

    def _first_files(self, street: RunningStreet) -> NetworkFiles:
        """As the settings have them, which do not change while it runs."""
        if self._files is None:
            found = scenario(street.task.settings.street.scenario)
            self._files = NetworkFiles(found.net, found.additional, found.begin_s)
        return self._files

    def _stamp(self, street: RunningStreet) -> str:
        network = street.network
        if id(network) not in self._stamps:
            self._stamps = {id(network): stamp_of(network)}
        return self._stamps[id(network)]

    def _past(self, street: RunningStreet, newest: int) -> Past:
        orders = self.service.orders.newest(self.name, OrderFilter(), PAST_ORDERS)
        return Past(
            token=self._token,
            number=newest,
            snapshot=street.snapshot,
            report=street.report,
            history=tuple(PastRow(*row) for row in list(street.history)),
            events=tuple(
                {"at_s": e.at_s, "kind": e.kind, "junction": e.junction, "data": plain(e.data)}
                for e in list(street.events)
            ),
            orders=tuple(plain(order.plain()) for order in reversed(orders)),
            colours=tuple((at, group, c) for group, (at, c) in list(street.colours.items())),
        )

    # --- what it is ordered ---

    def _take_orders(self) -> None:
        self._listen("orders", LONGEST_ORDER, self._obey)

    def _take_data(self) -> None:
        self._listen("data", 1 << 24, self._observe)

    def _listen(self, what: str, longest: int, take: Callable[[Any], None]) -> None:
        """Each entry of a stream from now on, and after an outage what is not too old."""
        link, stream, last = connect(self._url, 5.0), key_of(self.name, what), b""
        while not self._stop.is_set():
            try:
                last = last or _newest(link, stream)
                found: Any = link.xread({stream: last}, block=LISTEN_MS, count=50)
                if not found and place_of(_newest(link, stream)) < place_of(last):
                    last = b"0-0"  # a stream that was begun anew
                for _, entries in found or []:
                    now_ms = 1e3 * float(link.time()[0]) if entries else 0.0
                    for number, fields in entries:
                        last = number
                        self._take_entry(fields, longest, now_ms - place_of(number)[0], take)
            except redis.RedisError as error:
                self._tell_away(error)
                self._stop.wait(AGAIN_S)

    def _take_entry(
        self,
        fields: Mapping[bytes, bytes],
        longest: int,
        age_ms: float,
        take: Callable[[Any], None],
    ) -> None:
        """Refused and logged is what is not ours, and what nobody could have meant for now."""
        try:
            data = fields.get(b"m", b"")
            if len(data) > longest:
                raise WireError(f"{len(data):,} bytes are too long")
            message = decode(data)
            late = ""
            if fields.get(b"t", b"").decode(errors="replace") != str(self._token):
                late = "it was placed when another process ran the street"
            elif age_ms > 1e3 * ORDER_AGE_S:
                late = f"it came {age_ms / 1e3:.0f} s after it was placed"
            elif not self._may_speak():
                late = "the lease of the street was not renewed"
            if late and isinstance(message, Placed):
                self._refuse(PlacedOrder.of(message.order), late)
            if late:
                raise WireError(late)
            take(message)
        except REFUSED as error:
            if count := self._unread.add():
                why = str(error)[:300]
                self._log.warning("orders refused", street=self.name, orders=count, why=why)

    def _obey(self, message: Any) -> None:
        if not isinstance(message, Placed):
            raise WireError(f"a {type(message).__name__} is no order")
        order = PlacedOrder.of(message.order)
        if order.street != self.name:
            raise WireError("the order is of another street")
        if self.service.orders.find(self.name, order.id) is not None:
            raise WireError("the order came before")
        try:
            match message.action:
                case "place":
                    self.service.place(order, *map(self._with_own_file, message.orders))
                case "stop":
                    self.service.stop_one(order)
                case "start":
                    self.service.start_again(order)
        except REFUSED as error:
            if self.service.orders.find(self.name, order.id) is None:
                self._refuse(order, str(error))

    def _with_own_file(self, order: PlainOrder) -> PlainOrder:
        """A model's file is known by its content, and is elsewhere on another machine."""
        if not isinstance(order, Deploy) or self._file_here is None:
            return order
        path = self._file_here(order.model.sha256)
        if not path.exists():
            return order
        return replace(order, model=replace(order.model, path=str(path)))

    def _refuse(self, order: PlacedOrder, why: str) -> None:
        if order.street == self.name:
            self.service.orders.add(order)
            self.service.orders.refuse(self.name, order.id, why)

    def _observe(self, message: Any) -> None:
        """Clocks of other machines are not this one's: it was received now."""
        if not isinstance(message, Reported):
            raise WireError(f"a {type(message).__name__} holds no observations")
        received_ns = time.monotonic_ns() if message.received_ns else 0
        self.service.order(
            self.name, Reported(message.holder, message.sources, message.wall, received_ns)
        )


def _newest(link: redis.Redis, stream: str) -> bytes:
    found: Any = link.xrevrange(stream, count=1)
    newest: bytes = found[0][0] if found else b"0-0"
    return newest
