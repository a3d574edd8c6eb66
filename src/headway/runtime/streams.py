"""What is told to whom: subscribers, each with its own rate, filter and bounded buffer. No
subscriber slows the loop or another one.

The loop only puts into buffers; who reads, reads in a thread of its own. So "block" means: what
finds no room waits apart, for as long as the time-out allows, and is put in when there is room.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from headway.runtime.paths import Path, flatten


class Policy(Enum):
    """What happens to news for a full buffer."""

    DROP_OLDEST = "drop oldest"
    LATEST_ONLY = "latest only"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Message:
    """values: by dotted path. urgent: it carries priority fields that changed."""

    at_s: float
    values: Mapping[str, Any]
    urgent: bool = False


@dataclass(slots=True)
class Delivery:
    """Counts of one subscriber. offered = taken + dropped + waiting; skipped: by its own rate;
    merged: urgent news put into waiting ones.
    """

    offered: int = 0
    taken: int = 0
    dropped: int = 0
    skipped: int = 0
    merged: int = 0
    errors: int = 0
    longest_wait_s: float = 0.0


@dataclass(eq=False)
class Subscription:
    """One subscriber's buffer. Read it with `take`, from any thread."""

    name: str
    rate_hz: float
    fields: tuple[str, ...]
    size: int
    policy: Policy
    timeout_s: float
    delivery: Delivery = field(default_factory=Delivery)
    detached: str = ""
    _buffer: deque[tuple[float, Message]] = field(default_factory=deque)
    _apart: deque[tuple[float, Message]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _news: threading.Event = field(default_factory=threading.Event)
    _next_s: float = -math.inf
    _clock: Callable[[], float] = time.monotonic
    _patterns: tuple[Path, ...] = ()
    _urgent: dict[str, Any] = field(default_factory=dict)

    def take(self, timeout_s: float = 0.0) -> list[Message]:
        """All that waits, oldest first; waits up to `timeout_s` for the first."""
        if not self._buffer:
            self._news.wait(timeout_s)
        now = self._clock()
        with self._lock:
            found = list(self._buffer)
            self._buffer.clear()
            self._admit(now)
            if not self._buffer:
                self._news.clear()
            self.delivery.taken += len(found)
        if found:
            self.delivery.longest_wait_s = max(self.delivery.longest_wait_s, now - found[0][0])
        return [message for _, message in found]

    @property
    def waiting(self) -> int:
        return len(self._buffer) + len(self._apart)

    def put(self, message: Message, now: float) -> None:
        """Never waits."""
        with self._lock:
            self.delivery.offered += 1
            if self.policy is Policy.LATEST_ONLY:
                if self._buffer:
                    old = self._buffer.pop()[1]
                    self.delivery.dropped += 1
                    if old.urgent:  # what was urgent and not yet read goes along
                        message = Message(message.at_s, {**old.values, **message.values}, True)
                        self.delivery.merged += 1
                self._buffer.append((now, message))
            elif self.policy is Policy.BLOCK:
                self._admit(now)
                if len(self._buffer) < self.size:
                    self._buffer.append((now, message))
                elif len(self._apart) < 16 * self.size:
                    self._apart.append((now, message))
                else:
                    self.delivery.dropped += 1
                    if message.urgent:
                        since, last = self._apart[-1]
                        self._apart[-1] = (
                            since,
                            Message(message.at_s, {**last.values, **message.values}, True),
                        )
                        self.delivery.merged += 1
            else:
                self._make_room()
                self._buffer.append((now, message))
            self._news.set()

    def _make_room(self) -> None:
        """Drop the oldest; its urgent values are passed on to the one after it."""
        while len(self._buffer) >= self.size:
            at, old = self._buffer.popleft()
            self.delivery.dropped += 1
            if old.urgent and self._buffer:
                since, following = self._buffer[0]
                self._buffer[0] = (
                    since,
                    Message(following.at_s, {**old.values, **following.values}, True),
                )
                self.delivery.merged += 1
            elif old.urgent:
                self._buffer.append((at, old))
                self.delivery.dropped -= 1
                return

    def _admit(self, now: float) -> None:
        while (
            self._apart
            and now - self._apart[0][0] > self.timeout_s
            and not self._apart[0][1].urgent
        ):
            self._apart.popleft()
            self.delivery.dropped += 1
        while self._apart and len(self._buffer) < self.size:
            self._buffer.append(self._apart.popleft())


class DataStreamManager:
    """Publishes the state of a plant. rate_hz: the mode's highest rate; pressure: how much all but
    priority fields are thinned out.

    priority: patterns of fields that reach each subscriber at the publication at which they change,
        whatever its rate.
    """

    def __init__(
        self,
        rate_hz: float = 10.0,
        priority: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rate_hz = rate_hz
        self.thinning = 1.0
        self._clock = clock
        self._priority = tuple(Path(p) for p in priority)
        self._subscriptions: dict[str, Subscription] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def subscribe(
        self,
        name: str,
        rate_hz: float,
        fields: tuple[str, ...] = ("*",),
        size: int = 64,
        policy: Policy = Policy.DROP_OLDEST,
        timeout_s: float = 1.0,
        call: Callable[[Message], None] | None = None,
        sample: Mapping[str, Any] | None = None,
    ) -> Subscription:
        """A new subscriber; with `call` a thread of its own hands it each message, and 10 errors in
        a row detach it.

        sample: a state against which `fields` are checked. Raises ValueError for what cannot be.
        """
        if rate_hz <= 0.0 or size < 1 or timeout_s < 0.0:
            raise ValueError(
                f"{name}: rate_hz {rate_hz} must be above 0, size {size} at least 1, "
                f"timeout_s {timeout_s} not below 0."
            )
        patterns = tuple(Path(pattern) for pattern in fields)
        for pattern in patterns:
            pattern.check(sample)
        made = Subscription(
            name,
            rate_hz,
            tuple(fields),
            size,
            policy,
            timeout_s,
            _clock=self._clock,
            _patterns=patterns,
        )
        with self._lock:
            if name in self._subscriptions:
                raise ValueError(
                    f"there is a subscriber {name!r} already. Unsubscribe it first, or choose "
                    "another name."
                )
            self._subscriptions[name] = made
        if call is not None:
            self._threads[name] = threading.Thread(
                target=self._pump, args=(made, call), daemon=True, name=f"stream {name}"
            )
            self._threads[name].start()
        return made

    def unsubscribe(self, name: str, why: str = "unsubscribed") -> None:
        with self._lock:
            gone = self._subscriptions.pop(name, None)
        if gone is not None:
            gone.detached = why
            gone._news.set()

    def due(self) -> bool:
        """Whether anyone would take a publication now; so that a state need not be built for
        nobody.
        """
        now = self._clock()
        return any(s._next_s <= now for s in list(self._subscriptions.values()))

    def publish(self, at_s: float, state: Mapping[str, Any]) -> None:
        """Offer the state of plant time `at_s` to all whose turn it is; the others get priority
        fields that changed.
        """
        now, flat = self._clock(), flatten(state)
        urgent = {
            path: value
            for path, value in flat.items()
            if any(p.matches(path) for p in self._priority)
        }
        chosen: dict[tuple[str, ...], dict[str, Any]] = {}
        for s in list(self._subscriptions.values()):
            changed = (
                {p: v for p, v in urgent.items() if s._urgent.get(p, _NOTHING) != v}
                if urgent
                else {}
            )
            if s._next_s <= now:
                if s.fields not in chosen:
                    chosen[s.fields] = (
                        flat
                        if "*" in s.fields
                        else {
                            p: v for p, v in flat.items() if any(q.matches(p) for q in s._patterns)
                        }
                    )
                values = {**chosen[s.fields], **changed} if changed else chosen[s.fields]
                period = max(1.0 / s.rate_hz, 1.0 / self.rate_hz) * self.thinning
                s._next_s = (
                    max(s._next_s + period, now - period)
                    if math.isfinite(s._next_s)
                    else now + period
                )
                s.put(Message(at_s, values, bool(changed)), now)
            elif changed:
                s.put(Message(at_s, changed, True), now)
            else:
                s.delivery.skipped += 1
            if changed:
                s._urgent.update(changed)

    def press(self, pressure: float) -> None:
        """Thin out under pressure (1: all the time there is is used): half as often from 0.9 on,
        down to an eighth; back below 0.6.
        """
        if pressure > 0.9:
            self.thinning = min(self.thinning * 2.0, 8.0)
        elif pressure < 0.6:
            self.thinning = max(self.thinning / 1.25, 1.0)

    def statistics(self) -> dict[str, Delivery]:
        return {name: s.delivery for name, s in list(self._subscriptions.items())}

    def close(self) -> None:
        """Detach all; their threads end."""
        for name in list(self._subscriptions):
            self.unsubscribe(name, "closed")
        for thread in self._threads.values():
            with contextlib.suppress(RuntimeError):
                thread.join(0.2)

    def _pump(self, s: Subscription, call: Callable[[Message], None]) -> None:
        failed = 0
        while not s.detached:
            for message in s.take(threading.TIMEOUT_MAX):
                try:
                    call(message)
                    failed = 0
                except Exception as error:  # of a stranger: counted, told, and it is let go
                    failed += 1
                    s.delivery.errors += 1
                    if failed >= 10:
                        self.unsubscribe(
                            s.name, f"raised {failed} times in a row, the last time {error!r}"
                        )
                        return


_NOTHING = object()
