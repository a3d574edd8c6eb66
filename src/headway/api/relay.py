"""Live news across several API processes, by a Valkey stream: what one tells, the clients of all
hear. Each process numbers what it sends, topic by topic, so that the others see what is missing.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import deque
from typing import Any

import msgspec
import redis

from headway import telemetry
from headway.api.hub import TOPICS, Hub
from headway.telemetry import metrics
from headway.telemetry.threads import keep_running

STREAM = "headway:live"
KEPT = 4096
MOST_SENDERS = 1000  # processes, by topic, whose numbers are known; each start is another one
LOST = "messages of another process of the service did not come through while Valkey was away"
News = tuple[str, str, dict[str, Any]]  # topic, street, message
decode = msgspec.json.Decoder(News).decode


def _place(entry: bytes) -> tuple[int, ...]:
    """Of an entry in its stream: milliseconds and a number."""
    return tuple(map(int, entry.split(b"-")))


class Relay:
    """Sends what the hub tells to the stream, and tells the hub what others sent. While Valkey is
    away, each process tells its own clients.
    """

    def __init__(self, url: str, hub: Hub) -> None:
        self._url = url
        self._hub = hub
        self._own = secrets.token_hex(6)
        self._out: deque[tuple[int, News]] = deque()
        self._numbers = dict.fromkeys(TOPICS, 0)  # of the newest message of each topic
        self._heard: dict[tuple[bytes, str], int] = {}  # the same of others, by sender and topic
        self._log = telemetry.log("api")
        self._stop, self._wake = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self) -> None:
        self._hub.relay = self._put
        self._threads = [
            keep_running("relay send", self._send, self._stop),
            keep_running("relay receive", self._receive, self._stop),
        ]

    def close(self) -> None:
        """Ends both threads; it waits for them, a second and a half at most where Valkey
        answers.
        """
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(6.0)

    def _put(self, topic: str, street: str, message: dict[str, Any]) -> None:
        self._numbers[topic] += 1
        if len(self._out) < KEPT:
            self._out.append((self._numbers[topic], (topic, street, message)))
            self._wake.set()
        else:
            metrics.sent.labels(topic, "not_relayed").inc()

    def _connect(self) -> redis.Redis:
        return redis.Redis.from_url(self._url, socket_timeout=5.0, socket_connect_timeout=1.0)

    def _send(self) -> None:
        link = self._connect()
        while self._wake.wait() and not self._stop.is_set():
            self._wake.clear()
            taken = [self._out.popleft() for _ in range(len(self._out))]
            try:
                with link.pipeline(transaction=False) as together:
                    for number, news in taken:
                        together.xadd(
                            STREAM,
                            {"from": self._own, "n": number, "news": json.dumps(news)},
                            maxlen=KEPT,
                        )
                    together.execute()
            except Exception as error:
                for _, (topic, _, _) in taken:
                    metrics.sent.labels(topic, "not_relayed").inc()
                self._away(error)

    def _receive(self) -> None:
        link, last = self._connect(), b""
        while not self._stop.is_set():
            try:
                last = last or self._newest(
                    link
                )  # "$" would pass over what comes between two calls
                found: Any = link.xread({STREAM: last}, block=1000)
                metrics.degraded.labels("relay").set(0)
                if not found and _place(self._newest(link)) < _place(last):
                    last = b"0-0"  # another stream: its clock was ahead, and it was begun anew
                for _, entries in found or []:
                    for number, fields in entries:
                        last = number
                        if fields.get(b"from") != self._own.encode():
                            self._hear(number, fields)
            except Exception as error:
                self._away(error)
                self._stop.wait(1.0)

    def _away(self, error: Exception) -> None:
        """Valkey is away, or gives an unexpected answer: reported and retried, since nothing else
        does this work.
        """
        metrics.degraded.labels("relay").set(1)
        if not isinstance(error, redis.RedisError):
            self._log.error("the relay failed", error=repr(error))

    def _newest(self, link: redis.Redis) -> bytes:
        """The number of the newest entry: what was published before the start is not received."""
        found: Any = link.xrevrange(STREAM, count=1)
        newest: bytes = found[0][0] if found else b"0-0"
        return newest

    def _hear(self, number: bytes, fields: dict[bytes, bytes]) -> None:
        """Tells the hub one entry of the stream. What is no news of ours is left out and logged:
        others may write to the same Valkey.
        """
        try:
            topic, street, message = decode(fields.get(b"news", b""))
            if topic not in TOPICS:
                raise ValueError(f"no topic {topic!r}")
        except ValueError as error:  # msgspec's and Unicode's are of this kind
            self._log.warning(
                "news of others left out", stream=STREAM, entry=number.decode(), why=str(error)
            )
        else:
            self._look_for_gap(fields, topic)
            self._hub.publish_relayed(topic, street, message)

    def _look_for_gap(self, fields: dict[bytes, bytes], topic: str) -> None:
        """Between this message of a process and the one before it; one of an earlier version has no
        number.
        """
        sender, text = (fields.get(b"from", b""), topic), fields.get(b"n", b"")
        if not text.isdigit():
            return
        before, found = self._heard.pop(sender, None), int(text)
        self._heard[sender] = found
        if len(self._heard) > MOST_SENDERS:
            del self._heard[next(iter(self._heard))]
        if before is not None and found > before + 1:
            self._hub.publish_gap(topic, found - before - 1, LOST)
