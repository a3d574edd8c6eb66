"""The state of a plant, published to subscribers: each with its own rate, filter and bounded
buffer. No subscriber can slow the loop or another subscriber.

The loop only puts into buffers; each subscriber reads in a thread of its own. So "block" means that
a message which finds no room waits in an overflow, for as long as the time-out allows, until there
is room.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from headway.runtime.pacing import Schedule
from headway.runtime.paths import Path, flatten

BASE_HZ = 10.0  # of a subscriber that asks for no rate
BUFFER = 1000  # messages, of a subscriber that asks for no size
OVERFLOW_PER_SIZE = 16  # messages in the overflow of a "block" buffer, in multiples of its size
ERRORS_UNTIL_DETACHED = 10  # in a row, of a subscriber's function
THREAD_ENDS_WITHIN_S = 0.2

# how much less often all but priority fields are published under load
HIGH_LOAD = 0.9
LOW_LOAD = 0.6
MOST_THINNING = 8.0

_NEVER_SENT = object()


class Policy(Enum):
    """What happens to a message for a full buffer."""

    DROP_OLDEST = "drop oldest"
    LATEST_ONLY = "latest only"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Message:
    """values: by dotted path. urgent: it carries priority fields that changed."""

    at_s: float
    values: Mapping[str, Any]
    urgent: bool = False

    def with_earlier(self, earlier: Message) -> Message:
        """This message with the values of an earlier one that it does not have itself; urgent."""
        return Message(self.at_s, {**earlier.values, **self.values}, urgent=True)


@dataclass(slots=True)
class DeliveryCounts:
    """Counts of one subscriber. offered = taken + dropped + waiting.

    skipped: publications left out by its own rate. merged: urgent messages whose values went into
        another one. longest_wait_s: wall time in the buffer.
    """

    offered: int = 0
    taken: int = 0
    dropped: int = 0
    skipped: int = 0
    merged: int = 0
    errors: int = 0
    longest_wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SubscriberStatus:
    """One subscriber. waiting: messages that it has not taken."""

    rate_hz: float
    fields: tuple[str, ...]
    size: int
    policy: str
    waiting: int
    delivery: DeliveryCounts


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """All streams, as of `DataStreamManager`."""

    rate_hz: float
    base_hz: float
    buffer: int
    thinning: float
    priority: tuple[str, ...]
    subscribers: Mapping[str, SubscriberStatus]


@dataclass(eq=False)
class Subscription:
    """One subscriber's buffer. Read it with `take`, from any thread.

    size:      messages that the buffer holds. timeout_s: longest wait in the overflow of a "block"
        buffer.
    detached:  why it gets no more messages; empty while it does.
    """

    name: str
    rate_hz: float
    fields: tuple[str, ...]
    size: int
    policy: Policy
    timeout_s: float
    delivery: DeliveryCounts = field(default_factory=DeliveryCounts)
    detached: str = ""
    _buffer: deque[tuple[float, Message]] = field(default_factory=deque)
    _overflow: deque[tuple[float, Message]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wake: threading.Event = field(default_factory=threading.Event)
    schedule: Schedule = field(default_factory=Schedule)
    _clock: Callable[[], float] = time.monotonic
    _patterns: tuple[Path, ...] = ()
    _sent_priority: dict[str, Any] = field(default_factory=dict)

    def take(self, timeout_s: float = 0.0) -> list[Message]:
        """All that waits, oldest first; waits up to `timeout_s` for the first."""
        if not self._buffer:
            self._wake.wait(timeout_s)
        now = self._clock()
        with self._lock:
            found = list(self._buffer)
            self._buffer.clear()
            self._move_overflow(now)
            if not self._buffer:
                self._wake.clear()
            self.delivery.taken += len(found)
        if found:
            self.delivery.longest_wait_s = max(self.delivery.longest_wait_s, now - found[0][0])
        return [message for _, message in found]

    @property
    def waiting(self) -> int:
        """Messages that have not been taken yet."""
        return len(self._buffer) + len(self._overflow)

    def put(self, message: Message, now: float) -> None:
        """Put a message into the buffer; never waits."""
        with self._lock:
            self.delivery.offered += 1
            match self.policy:
                case Policy.LATEST_ONLY:
                    self._replace_latest(message, now)
                case Policy.BLOCK:
                    self._put_or_overflow(message, now)
                case Policy.DROP_OLDEST:
                    self._drop_oldest()
                    self._buffer.append((now, message))
            self._wake.set()

    def status(self) -> SubscriberStatus:
        """As it is now."""
        with self._lock:
            return SubscriberStatus(
                rate_hz=self.rate_hz,
                fields=self.fields,
                size=self.size,
                policy=self.policy.value,
                waiting=self.waiting,
                delivery=replace(self.delivery),
            )

    def detach(self, why: str) -> None:
        """No more messages; a reader that waits is woken."""
        self.detached = why
        self._wake.set()

    # --- for the manager, in the loop's thread ---

    def select(self, flat: Mapping[str, Any]) -> Mapping[str, Any]:
        """The fields that it subscribed to."""
        if "*" in self.fields:
            return flat
        return {p: v for p, v in flat.items() if any(q.matches(p) for q in self._patterns)}

    def changed_priority(self, priority: Mapping[str, Any]) -> dict[str, Any]:
        """The priority fields whose value it was not sent yet; they count as sent from now on."""
        sent = self._sent_priority
        changed = {p: v for p, v in priority.items() if sent.get(p, _NEVER_SENT) != v}
        sent.update(changed)
        return changed

    # --- buffer policies, under the lock ---

    def _replace_latest(self, message: Message, now: float) -> None:
        if self._buffer:
            _, old = self._buffer.pop()
            self.delivery.dropped += 1
            if old.urgent:  # its values have not been read yet
                message = message.with_earlier(old)
                self.delivery.merged += 1
        self._buffer.append((now, message))

    def _put_or_overflow(self, message: Message, now: float) -> None:
        self._move_overflow(now)
        if len(self._buffer) < self.size:
            self._buffer.append((now, message))
        elif len(self._overflow) < OVERFLOW_PER_SIZE * self.size:
            self._overflow.append((now, message))
        else:
            self.delivery.dropped += 1
            if message.urgent:
                since, last = self._overflow[-1]
                self._overflow[-1] = (since, message.with_earlier(last))
                self.delivery.merged += 1

    def _move_overflow(self, now: float) -> None:
        """From the overflow into the buffer, as far as there is room; what waited too long and is
        not urgent is dropped.
        """
        while self._overflow:
            since, message = self._overflow[0]
            if now - since <= self.timeout_s or message.urgent:
                break
            self._overflow.popleft()
            self.delivery.dropped += 1
        while self._overflow and len(self._buffer) < self.size:
            self._buffer.append(self._overflow.popleft())

    def _drop_oldest(self) -> None:
        """Make room; urgent values of a dropped message go into the one after it."""
        while len(self._buffer) >= self.size:
            since, oldest = self._buffer.popleft()
            if oldest.urgent and not self._buffer:
                self._buffer.append((since, oldest))  # nothing to merge it into: it stays
                return
            self.delivery.dropped += 1
            if oldest.urgent:
                since, following = self._buffer[0]
                self._buffer[0] = (since, following.with_earlier(oldest))
                self.delivery.merged += 1


class DataStreamManager:
    """Publishes the state of a plant to subscribers.

    rate_hz:  highest rate of all publications, per wall second.
    priority: patterns of fields that reach each subscriber when they change, `rate_hz` times a
        second at most, whatever its own rate and however high the load.
    thinning: how many times less often all other fields are published under load.
    base_hz, buffer: rate and buffer of a subscriber that asks for none.
    Raises ValueError for a rate or a size that is not allowed.
    """

    def __init__(
        self,
        rate_hz: float = 10.0,
        priority: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
        base_hz: float = BASE_HZ,
        buffer: int = BUFFER,
    ) -> None:
        self.rate_hz = checked_rate("rate_hz", rate_hz)
        self.base_hz = checked_rate("base_hz", base_hz)
        self.buffer = checked_size("buffer", buffer)
        self.thinning = 1.0
        self._clock = clock
        self._priority = tuple(Path(p) for p in priority)
        self._priority_schedule = Schedule()
        self._subscriptions: dict[str, Subscription] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def subscribe(
        self,
        name: str,
        rate_hz: float | None = None,
        fields: tuple[str, ...] = ("*",),
        size: int | None = None,
        policy: Policy = Policy.DROP_OLDEST,
        timeout_s: float = 1.0,
        call: Callable[[Message], None] | None = None,
        sample: Mapping[str, Any] | None = None,
    ) -> Subscription:
        """A new subscriber, at `base_hz` and with a `buffer` of messages unless it asks for others.
        With `call`, a thread of its own calls it with each message;
        ERRORS_UNTIL_DETACHED errors in a row detach it.

        fields: patterns of paths. sample: a state against which they are checked.
        Raises ValueError for a name that is taken, or an argument that is not allowed.
        """
        rate_hz = checked_rate(f"{name}: rate_hz", self.base_hz if rate_hz is None else rate_hz)
        size = checked_size(f"{name}: size", self.buffer if size is None else size)
        if not timeout_s >= 0.0:
            raise ValueError(f"{name}: timeout_s: {timeout_s!r} is not allowed: seconds from 0.")
        patterns = tuple(Path(pattern) for pattern in fields)
        for pattern in patterns:
            pattern.check(sample)
        subscription = Subscription(
            name=name,
            rate_hz=rate_hz,
            fields=tuple(fields),
            size=size,
            policy=policy,
            timeout_s=timeout_s,
            _clock=self._clock,
            _patterns=patterns,
        )
        self._add(subscription)
        if call is not None:
            self._start_thread(subscription, call)
        return subscription

    def _add(self, subscription: Subscription) -> None:
        name = subscription.name
        with self._lock:
            if name in self._subscriptions:
                raise ValueError(
                    f"there is a subscriber {name!r} already. Unsubscribe it first, or choose "
                    "another name."
                )
            self._subscriptions[name] = subscription

    def _start_thread(self, subscription: Subscription, call: Callable[[Message], None]) -> None:
        name = subscription.name
        self._threads[name] = threading.Thread(
            target=self._deliver, args=(subscription, call), daemon=True, name=f"stream {name}"
        )
        self._threads[name].start()

    def unsubscribe(self, name: str, why: str = "unsubscribed") -> None:
        """An unknown name is ignored."""
        with self._lock:
            removed = self._subscriptions.pop(name, None)
        if removed is not None:
            removed.detach(why)

    def is_due(self, scheduled: float | None = None) -> bool:
        """Whether any subscriber would take a publication now; without any, no state need be
        built. scheduled: wall time for which this tick was meant, so that a late one costs no
        publication; now if not given.
        """
        now = self._clock() if scheduled is None else scheduled
        subscriptions = list(self._subscriptions.values())
        if subscriptions and self._priority and self._priority_schedule.is_due(now):
            return True
        return any(s.schedule.is_due(now) for s in subscriptions)

    def publish(
        self, at_s: float, state: Mapping[str, Any], scheduled: float | None = None
    ) -> None:
        """Offer the state of plant time `at_s` to all that are due; the others get priority fields
        that changed. scheduled: see `is_due`.
        """
        now, flat = self._clock(), flatten(state)
        scheduled = now if scheduled is None else scheduled
        priority = {p: v for p, v in flat.items() if any(q.matches(p) for q in self._priority)}
        self._priority_schedule.advance(scheduled, 1.0 / self.rate_hz)
        selected: dict[tuple[str, ...], Mapping[str, Any]] = {}  # once for equal fields
        for s in list(self._subscriptions.values()):
            changed = s.changed_priority(priority) if priority else {}
            if s.schedule.is_due(scheduled):
                if s.fields not in selected:
                    selected[s.fields] = s.select(flat)
                values = {**selected[s.fields], **changed} if changed else selected[s.fields]
                s.schedule.advance(scheduled, self.thinning / min(s.rate_hz, self.rate_hz))
                s.put(Message(at_s, values, urgent=bool(changed)), now)
            elif changed:
                s.put(Message(at_s, changed, urgent=True), now)
            else:
                s.delivery.skipped += 1

    def adapt_to_load(self, load: float) -> None:
        """Publish half as often above HIGH_LOAD, down to one in MOST_THINNING; gradually more often
        below LOW_LOAD. load: share of the granted wall time that was used.
        """
        if load > HIGH_LOAD:
            self.thinning = min(self.thinning * 2.0, MOST_THINNING)
        elif load < LOW_LOAD:
            self.thinning = max(self.thinning / 1.25, 1.0)

    def statistics(self) -> dict[str, DeliveryCounts]:
        """By subscriber."""
        return {name: s.delivery for name, s in list(self._subscriptions.items())}

    def status(self) -> StreamStatus:
        """As it is now, with every subscriber."""
        return StreamStatus(
            rate_hz=self.rate_hz,
            base_hz=self.base_hz,
            buffer=self.buffer,
            thinning=self.thinning,
            priority=tuple(path.text for path in self._priority),
            subscribers={name: s.status() for name, s in list(self._subscriptions.items())},
        )

    def close(self) -> None:
        """Detach all subscribers; their threads end."""
        for name in list(self._subscriptions):
            self.unsubscribe(name, "closed")
        for thread in self._threads.values():
            with contextlib.suppress(RuntimeError):  # a thread that closes cannot join itself
                thread.join(THREAD_ENDS_WITHIN_S)

    def _deliver(self, s: Subscription, call: Callable[[Message], None]) -> None:
        """A subscriber's thread."""
        failed = 0
        while not s.detached:
            for message in s.take(threading.TIMEOUT_MAX):
                try:
                    call(message)
                    failed = 0
                except Exception as error:  # not our code: counted, and it is detached in the end
                    failed += 1
                    s.delivery.errors += 1
                    if failed >= ERRORS_UNTIL_DETACHED:
                        why = f"raised {failed} times in a row, the last time {error!r}"
                        self.unsubscribe(s.name, why)
                        return


def checked_rate(name: str, value: float) -> float:
    """Raises ValueError that names the rate."""
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(f"{name}: {value!r} is not allowed: a finite number above 0, per second.")
    return value


def checked_size(name: str, value: int) -> int:
    """Raises ValueError that names the size."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}: {value!r} is not allowed: a whole number of messages from 1.")
    return value
