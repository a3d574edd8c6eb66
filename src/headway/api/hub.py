"""Live streams to many clients: serialised, framed and compressed once, written straight to whoever
is ready; the slow get the newest only.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from headway.api.scopes import UNBOUNDED, Bounds
from headway.telemetry import metrics

LEAST_PACKED_BYTES = 512  # a shorter message gains nothing by compression
TOPICS = ("realtime", "monitoring", "alerts")
# by new kind, the old one that filters may still name until 0.2 (docs/deprecated.md)
OLD_KINDS = {"camera.frame": "camera.seen"}
HISTORY = 512
GAP = "gap"  # in the place of the topic: some messages are gone
TAG_BITS = 22  # the low ones of an id: whose it is
IDS_BEGIN = 1_767_225_600  # 2026-01-01 UTC; with 2**10 ids a second 63 bits last for 68 years
BUFFER = 64
PATIENCE_S = 30.0
HEARTBEAT_S = 15.0
encode = msgspec.json.Encoder().encode
Shape = Callable[[dict[str, Any]], Any]


def chart(message: dict[str, Any]) -> Any:
    """Points: the numbers of the message, by name."""
    return {
        "x": message.get("time_s", message.get("at_s")),
        "y": {
            k: v
            for k, v in message.items()
            if isinstance(v, int | float) and not isinstance(v, bool)
        },
    }


def table(message: dict[str, Any]) -> Any:
    """Rows: junctions where there are some, else the message's own fields."""
    junctions = message.get("junctions")
    if isinstance(junctions, list) and junctions:
        return {"columns": list(junctions[0]), "rows": [list(j.values()) for j in junctions]}
    flat = {k: v for k, v in message.items() if not isinstance(v, dict | list)}
    return {"columns": list(flat), "rows": [list(flat.values())]}


SHAPES: dict[str, Shape] = {"dashboard": lambda message: message, "chart": chart, "table": table}


@dataclass(eq=False, slots=True)
class LiveMessage:
    """One message as it goes out. text: JSON. Its WebSocket frames are made when first asked for,
    and then the same for all.
    """

    number: int
    text: bytes
    frames: dict[int, bytes] = field(default_factory=dict)

    def frame(self, window_bits: int = 0) -> bytes:
        """The text frame (RFC 6455, 5.2); with `window_bits` deflated by itself, without the
        context of earlier messages (RFC 7692, 7.2.1).
        """
        found = self.frames.get(window_bits)
        if found is None:
            body, first = self.text, 0x81
            if window_bits:
                deflate = zlib.compressobj(1, zlib.DEFLATED, -window_bits)
                body, first = (deflate.compress(body) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4], 0xC1
            n = len(body)
            size = (
                bytes((n,))
                if n < 126
                else b"\x7e" + n.to_bytes(2, "big")
                if n < 65536
                else b"\x7f" + n.to_bytes(8, "big")
            )
            found = self.frames[window_bits] = bytes((first,)) + size + body
        return found


class Direct(Protocol):
    """A connection whose socket can be written to without its transport."""

    def descriptor(self) -> int:
        """Of the socket; -1 where nothing may be written to it now."""

    def frame(self, message: LiveMessage) -> bytes: ...

    def write(self, data: bytes) -> None:
        """What the socket did not take."""


@dataclass(eq=False)
class Client:
    """A client of a live stream. street, kinds: filters, empty for all. packed: large messages as
    base64 of zlib.

    deliver: writes a message at once and says True, or False where the connection is not ready;
        None where only its own task can send.
    bounds: the streets and cameras whose messages it may have.
    direct: the connection, where it can be written to without its transport.
    """

    topic: str
    street: str = ""
    kinds: tuple[str, ...] = ()
    form: str = "dashboard"
    packed: bool = False
    deliver: Callable[[LiveMessage], bool] | None = None
    direct: Direct | None = None
    missed: deque[Past] = field(default_factory=deque)  # what it gets first, from before it joined
    buffer: deque[LiveMessage] = field(default_factory=deque)
    lost: Gap | None = None  # before what is in the buffer
    sending: bool = False
    to_send: asyncio.Event = field(default_factory=asyncio.Event)
    full_since: float = 0.0
    sent: int = 0
    dropped: int = 0
    ended: str = ""
    bounds: Bounds = UNBOUNDED

    def __post_init__(self) -> None:
        self.shape = (self.form, self.packed)

    def wants(self, street: str, kind: str) -> bool:
        if self.bounds is not UNBOUNDED and not self.bounds.has_message(street, kind):
            return False
        if not self.street and not self.kinds:
            return True
        names = (kind, OLD_KINDS.get(kind, kind))
        return (not self.street or street == self.street) and (
            not self.kinds or any(name.startswith(self.kinds) for name in names)
        )


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages of a stream that a client cannot get any more.

    after: the id that the client has, or the first one that is gone; missed: how many are gone,
        None where that is not known; number: the id to go on from.
    """

    after: int
    missed: int | None
    number: int
    why: str

    def message(self, topic: str) -> LiveMessage:
        data = {
            "stream": topic,
            "after": str(self.after),
            "missed": self.missed,
            "detail": self.why,
        }
        whole = {"id": str(self.number), "topic": GAP, "street": "", "data": data}
        return LiveMessage(self.number, encode(whole))


@dataclass(frozen=True, slots=True)
class Past:
    """A message that was published, or some that got lost before."""

    number: int
    street: str
    kind: str
    message: dict[str, Any] | Gap


class History:
    """The newest HISTORY messages of one topic of one process, and their ids.

    The high bits of an id rise by one with each message; they begin with the time of the start, so
    that ids rise over restarts. The low TAG_BITS are this history's own: an id of another topic,
    process or start is known for what it is, and never taken for a place in this order.
    """

    def __init__(self) -> None:
        started = max(0, int((time.time() - IDS_BEGIN) * 1024))
        self._begin = (started + 1) << TAG_BITS | secrets.randbits(TAG_BITS)
        self._kept: deque[Past] = deque(maxlen=HISTORY)
        self.newest = self._begin

    def put(self, street: str, kind: str, message: dict[str, Any]) -> int:
        """Its id."""
        self.newest += 1 << TAG_BITS
        self._kept.append(Past(self.newest, street, kind, message))
        return self.newest

    def put_gap(self, missed: int | None, why: str) -> Gap:
        """The same of messages that did not come; None: nobody knows how many."""
        after = self.newest
        self.newest += 1 << TAG_BITS
        gap = Gap(after, missed, self.newest, why)
        self._kept.append(Past(self.newest, "", GAP, gap))
        return gap

    def after(self, last_id: int) -> tuple[Gap | None, list[Past]]:
        """What came after an id, oldest first, and what of it is gone. Of an id that is not of here
        all that is kept comes: nobody can say how much of it the client has. 0: all that is kept.
        """
        kept = list(self._kept)
        oldest = kept[0].number - (1 << TAG_BITS) if kept else self.newest
        if not last_id:
            return None, kept
        if not self._begin <= last_id <= self.newest or (last_id - self._begin) % (1 << TAG_BITS):
            why = (
                "the id is of another process, or of an earlier start: how much is gone is not "
                "known, and what this process still has may repeat what you have"
            )
            return Gap(last_id, None, oldest, why), kept
        gone = (oldest - last_id) >> TAG_BITS
        why = f"only the newest {HISTORY} messages of a stream are kept"
        gap = Gap(last_id, gone, oldest, why) if gone > 0 else None
        return gap, [past for past in kept if past.number > last_id]


class Hub:
    """Of one process. `publish` and `publish_relayed` may be called from any thread; all else
    belongs to the event loop.
    """

    def __init__(self) -> None:
        self._clients: dict[str, set[Client]] = {t: set() for t in TOPICS}
        self._histories = {t: History() for t in TOPICS}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.relay: Callable[[str, str, dict[str, Any]], None] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def publish(self, topic: str, street: str, message: dict[str, Any]) -> None:
        """From any thread. Does nothing while no event loop runs."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self.broadcast, topic, street, message)

    def publish_relayed(self, topic: str, street: str, message: dict[str, Any]) -> None:
        """The same for what another process published: it goes to the clients, not out again."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self.broadcast, topic, street, message, True)

    def broadcast(
        self, topic: str, street: str, message: dict[str, Any], relayed: bool = False
    ) -> None:
        """To all clients of the topic whose filter lets it pass; each form is made once."""
        kind = str(message.get("kind", ""))
        number = self._histories[topic].put(street, kind, message)
        made: dict[tuple[str, bool], LiveMessage] = {}
        outgoing = []
        for client in self._clients[topic]:
            if client.wants(street, kind):
                found = made.get(client.shape)
                if found is None:
                    found = LiveMessage(
                        number, written(number, topic, street, message, *client.shape)
                    )
                    made[client.shape] = found
                outgoing.append((client, found))
        self._send(outgoing)
        if self.relay is not None and not relayed:
            self.relay(topic, street, message)

    def publish_gap(self, topic: str, missed: int | None, why: str) -> None:
        """From any thread: so many messages of another process did not come, and nobody knows for
        whom they were. All clients of the topic are told.
        """
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._broadcast_gap, topic, missed, why)

    def _broadcast_gap(self, topic: str, missed: int | None, why: str) -> None:
        told = self._histories[topic].put_gap(missed, why).message(topic)
        self._send([(client, told) for client in self._clients[topic]])

    def newest(self, topic: str) -> int:
        """The id of the newest message of a topic."""
        return self._histories[topic].newest

    def since(self, client: Client, last_id: int, most: int = HISTORY + 1) -> list[LiveMessage]:
        """What came after an id and passes the client's filters, oldest first, so many at most;
        where something is gone, a message that says so (`topic`: GAP) comes first. 0: all that is
        kept.
        """
        return [sent_to(client, past) for past in self.kept_since(client, last_id, most)]

    def kept_since(self, client: Client, last_id: int, most: int = HISTORY + 1) -> list[Past]:
        """The same, not written yet: for 512 large messages that takes a second."""
        gap, kept = self._histories[client.topic].after(last_id)
        found = [] if gap is None else [Past(gap.number, "", GAP, gap)]
        found += (
            past
            for past in kept
            if isinstance(past.message, Gap) or client.wants(past.street, past.kind)
        )
        return found[:most]

    def join(self, client: Client, last_id: int = 0) -> None:
        """From now on; with `last_id`, first what `since` gives. Each of these is written when it
        is sent: else who opens many streams and reads none would fill the memory.
        """
        if last_id:
            client.missed.extend(self.kept_since(client, last_id))
        self._clients[client.topic].add(client)
        metrics.clients.labels(client.topic).set(len(self._clients[client.topic]))

    def leave(self, client: Client) -> None:
        self._clients[client.topic].discard(client)
        metrics.clients.labels(client.topic).set(len(self._clients[client.topic]))

    async def messages(self, client: Client) -> AsyncIterator[LiveMessage | None]:
        """What the client gets, in order; None where it is time for a heartbeat. Ends when it is
        dropped (`ended` says why).
        """
        while not client.ended:
            if not (client.missed or client.buffer):
                client.to_send.clear()
                before = client.sent
                try:
                    await asyncio.wait_for(client.to_send.wait(), HEARTBEAT_S)
                except TimeoutError:
                    if client.sent == before:
                        yield None
                    continue
            while client.missed or client.buffer:
                if client.missed:
                    found = sent_to(client, client.missed.popleft())
                elif client.lost is not None:
                    found, client.lost = client.lost.message(client.topic), None
                else:
                    found = client.buffer.popleft()
                client.sending = True
                yield found
                client.sent, client.sending = client.sent + 1, False
            client.full_since = 0.0

    def statistics(self) -> dict[str, Any]:
        return {
            t: {
                "clients": len(c),
                "sent": sum(x.sent for x in c),
                "dropped": sum(x.dropped for x in c),
                "waiting": sum(len(x.missed) + len(x.buffer) for x in c),
            }
            for t, c in self._clients.items()
        }

    def _send(self, outgoing: list[tuple[Client, LiveMessage]]) -> None:
        """To everybody who is ready, one write right after the other, so that the last has it soon
        after the first (bench/spread.py); then to the others.
        """
        others, ready = [], []
        for client, message in outgoing:
            direct = client.direct
            is_behind = client.missed or client.buffer or client.sending
            descriptor = -1 if direct is None or is_behind else direct.descriptor()
            if direct is None or descriptor < 0:
                others.append((client, message))
            else:
                ready.append((descriptor, direct.frame(message), client, direct))
        taken = _write_all([(descriptor, frame) for descriptor, frame, _, _ in ready])
        for (_, frame, client, direct), size in zip(ready, taken, strict=True):
            client.sent += 1
            if size < len(frame):
                direct.write(frame[size:])
        now = time.monotonic()
        for client, message in others:
            self._put(client, message, now)

    def _put(self, client: Client, message: LiveMessage, now: float) -> None:
        if (
            client.deliver is not None
            and not (client.missed or client.buffer or client.sending)
            and client.deliver(message)
        ):
            client.sent += 1
            return
        if (
            len(client.buffer) >= BUFFER
        ):  # too slow: the newest only, and after a while not even that
            why = "you did not keep up: only the newest message is kept for you"
            first, gone = client.buffer[0].number, len(client.buffer)
            if client.lost is not None:
                first, gone = client.lost.after, gone + (client.lost.missed or 0)
            client.lost = Gap(first, gone, client.buffer[-1].number, why)
            client.dropped += len(client.buffer)
            metrics.sent.labels(client.topic, "dropped").inc(len(client.buffer))
            client.buffer.clear()
            client.full_since = client.full_since or now
            if now - client.full_since > PATIENCE_S:
                client.ended = (
                    f"too slow: {client.dropped} messages were left out in {PATIENCE_S:.0f} s"
                )
        client.buffer.append(message)
        client.to_send.set()


def _write_all(frames: list[tuple[int, bytes]]) -> list[int]:
    """Write each frame to its descriptor; how many bytes each took."""
    taken, write = [], os.write
    for descriptor, frame in frames:
        try:
            taken.append(write(descriptor, frame))
        except OSError:  # it is full, or gone: the transport knows what to do
            taken.append(0)
    return taken


def sent_to(client: Client, past: Past) -> LiveMessage:
    """A message that was kept, in the client's form."""
    if isinstance(past.message, Gap):
        return past.message.message(client.topic)
    form = (client.form, client.packed)
    text = written(past.number, client.topic, past.street, past.message, *form)
    return LiveMessage(past.number, text)


def written(
    number: int, topic: str, street: str, message: dict[str, Any], form: str, packed: bool
) -> bytes:
    """One message as it goes out."""
    data = SHAPES[form](message)
    whole = {"id": str(number), "topic": topic, "street": street, "data": data}
    if packed:
        plain = encode(data)
        if len(plain) > LEAST_PACKED_BYTES:
            whole["data"] = base64.b64encode(zlib.compress(plain, 1)).decode()
            whole["encoding"] = "zlib+base64"
    return encode(whole)
