"""Live streams to many clients: serialised, framed and compressed once, written straight to whoever
is ready; the slow get the newest only.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from headway.telemetry import metrics

LEAST_PACKED_BYTES = 512  # a shorter message gains nothing by compression
TOPICS = ("realtime", "monitoring", "alerts")
# by new kind, the old one that filters may still name until 0.2 (docs/deprecated.md)
OLD_KINDS = {"camera.frame": "camera.seen"}
HISTORY = 512
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
    direct: the connection, where it can be written to without its transport.
    """

    topic: str
    street: str = ""
    kinds: tuple[str, ...] = ()
    form: str = "dashboard"
    packed: bool = False
    deliver: Callable[[LiveMessage], bool] | None = None
    direct: Direct | None = None
    missed: deque[LiveMessage] = field(
        default_factory=deque
    )  # what it gets first, from before it joined
    buffer: deque[LiveMessage] = field(default_factory=deque)
    sending: bool = False
    to_send: asyncio.Event = field(default_factory=asyncio.Event)
    full_since: float = 0.0
    sent: int = 0
    dropped: int = 0
    ended: str = ""

    def __post_init__(self) -> None:
        self.shape = (self.form, self.packed)

    def wants(self, street: str, kind: str) -> bool:
        if not self.street and not self.kinds:
            return True
        names = (kind, OLD_KINDS.get(kind, kind))
        return (not self.street or street == self.street) and (
            not self.kinds or any(name.startswith(self.kinds) for name in names)
        )


class Hub:
    """Of one process. `publish` and `publish_relayed` may be called from any thread; all else
    belongs to the event loop.
    """

    def __init__(self) -> None:
        self._clients: dict[str, set[Client]] = {t: set() for t in TOPICS}
        self._history: dict[str, deque[tuple[int, str, str, dict[str, Any]]]] = {
            t: deque(maxlen=HISTORY) for t in TOPICS
        }
        self._number = int(time.time() * 1000) << 12
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
        self._number += 1
        number, kind = self._number, str(message.get("kind", ""))
        self._history[topic].append((number, street, kind, message))
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

    def join(self, client: Client, last_id: int = 0) -> None:
        """From now on; with `last_id`, first what came after it, as far as it is still known."""
        for number, street, kind, message in self._history[client.topic] if last_id else ():
            if number > last_id and client.wants(street, kind):
                client.missed.append(
                    LiveMessage(
                        number,
                        written(number, client.topic, street, message, client.form, client.packed),
                    )
                )
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
            while waiting := client.missed or client.buffer:
                found, client.sending = waiting.popleft(), True
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
