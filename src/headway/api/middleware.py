"""Around every request: its id, its time, its share of the rate limit, its line in the log and the
metrics. Plain ASGI, for speed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from typing import Any

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import FixedWindowRateLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headway import telemetry
from headway.telemetry import metrics

CROWD = 20
ACCESS = logging.getLogger("headway.api")
FREE = ("/health", "/metrics", "/static", "/docs", "/openapi.json")


class Around:
    """per_minute: requests of one client, told by its credentials, else by its address; 0 for no
    limit. store: shared over processes, by Valkey.
    """

    def __init__(self, app: ASGIApp, per_minute: int, redis_url: str = "") -> None:
        storage: Storage = RedisStorage(redis_url) if redis_url else MemoryStorage()
        self._app, self._spare = app, FixedWindowRateLimiter(MemoryStorage())
        self._limiter = FixedWindowRateLimiter(storage)
        self._limit = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._crowd = RateLimitItemPerMinute(
            per_minute * CROWD
        )  # of one address, whatever credentials it shows or makes up
        self._log = telemetry.log("api")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = (
            given
            if 0 < len(given) <= 64 and given.isascii() and given.replace("-", "").isalnum()
            else secrets.token_hex(8)
        )
        extra = [(b"x-request-id", request_id.encode())]
        path = scope["path"]
        if self._limit is not None and not path.startswith(FREE) and path != "/":
            allowed, limit = self._take(headers, scope)
            extra += limit
            if not allowed:
                await _refuse(send, path, extra)
                metrics.requests.labels(scope["method"], "limited", "429").inc()
                return

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                spent = f"{time.perf_counter() - begun:.6f}".encode()
                message["headers"] = [
                    *message["headers"],
                    *extra,
                    (b"x-process-time", spent),
                    *SAFE,
                ]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            spent_s = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", "other")
            metrics.requests.labels(scope["method"], route, str(status)).inc()
            metrics.request_s.labels(route).observe(spent_s)
            if status >= 500:
                self._log.error(
                    "request failed",
                    id=request_id,
                    method=scope["method"],
                    path=path,
                    status=status,
                )
            elif ACCESS.isEnabledFor(logging.DEBUG):
                self._log.debug(
                    "request",
                    id=request_id,
                    method=scope["method"],
                    path=path,
                    status=status,
                    ms=round(spent_s * 1e3, 2),
                )

    def _take(
        self, headers: dict[bytes, bytes], scope: Scope
    ) -> tuple[bool, list[tuple[bytes, bytes]]]:
        given = headers.get(b"authorization") or headers.get(b"x-api-key")
        address = (scope.get("client") or ("unknown",))[0]
        client = hashlib.sha256(given).hexdigest() if given else address
        limit: Any = self._limit
        try:
            allowed = self._limiter.hit(self._crowd, address) and self._limiter.hit(limit, client)
            window = self._limiter.get_window_stats(limit, client)
            metrics.degraded.labels("limits").set(0)
        except Exception:  # Valkey is away: this process counts for itself
            metrics.degraded.labels("limits").set(1)
            allowed = self._spare.hit(self._crowd, address) and self._spare.hit(limit, client)
            window = self._spare.get_window_stats(limit, client)
        reset = max(int(window.reset_time - time.time()) + 1, 0)
        found = [
            (b"x-ratelimit-limit", str(limit.amount).encode()),
            (b"x-ratelimit-remaining", str(max(window.remaining, 0)).encode()),
            (b"x-ratelimit-reset", str(reset).encode()),
        ]
        return allowed, found if allowed else [*found, (b"retry-after", str(reset).encode())]


SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        (
            b"default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
            b"connect-src 'self' ws: wss:"
        ),
    ),
)


async def _refuse(send: Send, path: str, extra: list[tuple[bytes, bytes]]) -> None:
    body = {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "the limit of requests a minute is reached",
        "instance": path,
        "faults": [],
    }
    await send(
        {
            "type": "http.response.start",
            "status": 429,
            "headers": [*extra, (b"content-type", b"application/problem+json")],
        }
    )
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
