"""Answers kept for a while: in Valkey where there is one, else in this process; one asks, the
others wait for its answer.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import redis

from headway.telemetry import metrics


class Cache:
    """Bytes by key for `ttl_s`. Without Valkey, or while it is away, the `most` newest answers are
    kept here.
    """

    def __init__(self, redis_url: str = "", ttl_s: float = 5.0, most: int = 2048) -> None:
        self._redis = (
            redis.Redis.from_url(redis_url, socket_timeout=0.5, socket_connect_timeout=0.5)
            if redis_url
            else None
        )
        self.ttl_s, self._most = ttl_s, most
        self._own: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._lock, self._asking = threading.Lock(), dict[str, threading.Lock]()
        self._away_until = 0.0

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The answer to `key`, made by `make` if it is not there; of several who ask at once, one
        makes it.
        """
        if (found := self._find(key)) is not None:
            metrics.cache_hits.labels("hit").inc()
            return found
        with self._lock:
            turn = self._asking.setdefault(key, threading.Lock())
        try:
            with turn:
                if (found := self._find(key)) is not None:
                    metrics.cache_hits.labels("hit").inc()
                    return found
                metrics.cache_hits.labels("miss").inc()
                made = make()
                self._put(key, made)
                return made
        finally:
            with self._lock:
                self._asking.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._own.clear()
        if self._redis is not None and time.monotonic() >= self._away_until:
            try:
                for key in self._redis.scan_iter("headway:cache:*"):
                    self._redis.delete(key)
            except redis.RedisError:
                self._lost()

    def _find(self, key: str) -> bytes | None:
        if self._redis is not None and time.monotonic() >= self._away_until:
            try:
                found = self._redis.get(f"headway:cache:{key}")
                metrics.degraded.labels("cache").set(0)
                return found if isinstance(found, bytes) else None
            except redis.RedisError:
                self._lost()
        with self._lock:
            kept = self._own.get(key)
            return kept[1] if kept and kept[0] > time.monotonic() else None

    def _put(self, key: str, value: bytes) -> None:
        if self._redis is not None and time.monotonic() >= self._away_until:
            try:
                self._redis.set(f"headway:cache:{key}", value, px=int(self.ttl_s * 1000))
                return
            except redis.RedisError:
                self._lost()
        with self._lock:
            self._own[key] = (time.monotonic() + self.ttl_s, value)
            while len(self._own) > self._most:
                self._own.popitem(last=False)

    def _lost(self) -> None:
        """Valkey does not answer: for 5 s it is not asked again."""
        self._away_until = time.monotonic() + 5.0
        metrics.degraded.labels("cache").set(1)
