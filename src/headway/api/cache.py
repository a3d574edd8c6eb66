"""Answers kept for a while: in Valkey where there is one, else in this process; one asks, the
others wait for its answer. An answer that is asked for again soon after its time is given once
more, while a new one is made beside it: who asks regularly never waits.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import redis

from headway import telemetry
from headway.telemetry import metrics

MOST_BYTES = 64 << 20  # of the answers kept here: a page of a list may have megabytes
MOST_REFRESHED = 4  # answers made beside requests at once; the database has other work too


class Cache:
    """Bytes by key for `ttl_s`, and for `stale_s` more while a new answer is made. Without Valkey,
    or while it is away, the `most` newest answers are kept here, MOST_BYTES at most.
    """

    def __init__(
        self, redis_url: str = "", ttl_s: float = 5.0, most: int = 2048, stale_s: float = 0.0
    ) -> None:
        self._redis = (
            redis.Redis.from_url(redis_url, socket_timeout=0.5, socket_connect_timeout=0.5)
            if redis_url
            else None
        )
        self.ttl_s, self.stale_s, self._most = ttl_s, stale_s, most
        self._refreshed: set[str] = set()
        self._own: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._own_bytes = 0
        self._cleared = 0  # so many times
        self._lock, self._asking = threading.Lock(), dict[str, threading.Lock]()
        self._away_until = 0.0

    @property
    def refreshing(self) -> int:
        """Answers that are being made beside requests now."""
        return len(self._refreshed)

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The answer to `key`, made by `make` if it is not there; of several who ask at once, one
        makes it.
        """
        if (found := self._find(key)) is not None:
            metrics.cache_hits.labels("hit").inc()
            answer, fresh = found
            if not fresh:
                self._refresh(key, make)
            return answer
        with self._lock:
            turn = self._asking.setdefault(key, threading.Lock())
        try:
            with turn:
                if (found := self._find(key)) is not None:
                    metrics.cache_hits.labels("hit").inc()
                    return found[0]
                metrics.cache_hits.labels("miss").inc()
                cleared = self._cleared
                made = make()
                self._put(key, made, cleared)
                return made
        finally:
            with self._lock:
                self._asking.pop(key, None)

    def clear(self) -> None:
        """Forget all answers; those that are being made now are not kept."""
        with self._lock:
            self._cleared += 1
            self._own.clear()
            self._own_bytes = 0
        if self._redis is not None and time.monotonic() >= self._away_until:
            try:
                for key in self._redis.scan_iter("headway:cache:*"):
                    self._redis.delete(key)
            except redis.RedisError:
                self._lost()

    def _refresh(self, key: str, make: Callable[[], bytes]) -> None:
        """Make the answer anew, in a thread, unless that is being done."""
        with self._lock:
            if key in self._refreshed or len(self._refreshed) >= MOST_REFRESHED:
                return
            self._refreshed.add(key)

        def work() -> None:
            try:
                cleared = self._cleared
                self._put(key, make(), cleared)
                metrics.cache_hits.labels("refresh").inc()
            except Exception as error:  # whoever asks after its time is told; here nobody waits
                telemetry.log("api").debug("answer not refreshed", key=key, error=str(error))
            finally:
                with self._lock:
                    self._refreshed.discard(key)

        threading.Thread(target=work, daemon=True, name="refresh").start()

    def _find(self, key: str) -> tuple[bytes, bool] | None:
        """An answer, and whether it is within its time."""
        if self._redis is not None and time.monotonic() >= self._away_until:
            try:
                found, left_ms = self._ask(self._redis, f"headway:cache:{key}")
                metrics.degraded.labels("cache").set(0)
                return (found, left_ms > self.stale_s * 1000) if isinstance(found, bytes) else None
            except redis.RedisError:
                self._lost()
        with self._lock:
            kept = self._own.get(key)
        now = time.monotonic()
        if kept is None or kept[0] + self.stale_s <= now:
            return None
        return kept[1], kept[0] > now

    def _ask(self, valkey: redis.Redis, key: str) -> tuple[object, float]:
        """The answer, and the milliseconds until it is forgotten, in one turn."""
        if not self.stale_s:
            return valkey.get(key), 1.0
        turn = valkey.pipeline(transaction=False)
        turn.get(key)
        turn.pttl(key)
        answer, left_ms = turn.execute()
        return answer, left_ms

    def _put(self, key: str, value: bytes, cleared: int) -> None:
        """Unless the answers were cleared since it was begun."""
        if cleared != self._cleared:
            return
        if self._redis is not None and time.monotonic() >= self._away_until:
            try:
                self._redis.set(
                    f"headway:cache:{key}", value, px=int((self.ttl_s + self.stale_s) * 1000)
                )
                return
            except redis.RedisError:
                self._lost()
        with self._lock:
            if cleared != self._cleared:
                return
            self._own_bytes += len(value) - len(self._own.pop(key, (0.0, b""))[1])
            self._own[key] = (time.monotonic() + self.ttl_s, value)
            while len(self._own) > self._most or self._own_bytes > MOST_BYTES:
                self._own_bytes -= len(self._own.popitem(last=False)[1][1])

    def _lost(self) -> None:
        """Valkey does not answer: for 5 s it is not asked again."""
        self._away_until = time.monotonic() + 5.0
        metrics.degraded.labels("cache").set(1)
