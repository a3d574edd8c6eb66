"""Around every request, as plain ASGI for speed: its id, time, log line and metrics; headers that
keep browsers safe; its share of the rate limit; its entry in the audit trail.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Mapping
from urllib.parse import quote

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from headway import telemetry
from headway.api.arguments import arguments_of
from headway.api.audit import AuditEntry, AuditRecorder
from headway.api.bodies import BATCHES, CHANGING, TICKETS
from headway.api.connections import share_of
from headway.api.idempotency import REPLAYED
from headway.api.identity import FOUND, Identity
from headway.api.problems import ProblemError, problem
from headway.api.security import NOBODY, Principal
from headway.telemetry import metrics
from headway.telemetry.masking import masked

ACCESS = logging.getLogger("headway.api")
UNLIMITED = ("/", "/health", "/health/ready", "/metrics", "/docs", "/redoc")
UNLIMITED_FILES = "/static/"
CLIENTS_PER_ADDRESS = 20  # times the limit of one client, whatever credentials an address shows
# of the shared counts: until Valkey counts as away, and until it is asked again
SHARED_WITHIN_S = 0.5
AWAY_S = 5.0
STEP_S = 5.0  # of the clock, from which on the windows of the limit begin anew
UNRECORDED_RETRY_S = 5  # until an order that cannot be put on record is tried again
LONGEST_ID = 64  # characters of a request id that is taken over
LONGEST_ACTION = 512  # characters of an audit entry's action
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; "
        b"style-src 'self' 'unsafe-inline'; connect-src 'self' ws: wss:",
    ),
)

RawHeaders = list[tuple[bytes, bytes]]


class RequestMiddleware:
    """Gives each request an id and a time, counts it, and logs it: failures always (503 as a
    warning), all at level debug.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._log = telemetry.log("api")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 500
        request_id = _request_id(scope)
        scope.setdefault("state", {})["begun_s"] = begun

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                spent = f"{time.perf_counter() - begun:.6f}".encode()
                stamps = [(b"x-request-id", request_id.encode()), (b"x-process-time", spent)]
                message["headers"] = [*message["headers"], *stamps]
            await send(message)

        try:
            await self._app(scope, receive, stamped)
        finally:
            self._record(scope, request_id, status, time.perf_counter() - begun)

    def _record(self, scope: Scope, request_id: str, status: int, spent_s: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        if scope.get("limited"):
            route = "limited"
        metrics.requests.labels(scope["method"], route, str(status)).inc()
        metrics.request_s.labels(route).observe(spent_s)
        what = {
            "id": request_id,
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
        }
        if status == 503:  # not now: foreseen, and its cause has a line of its own
            self._log.warning("request refused", **what)
        elif status >= 500:
            self._log.error("request failed", **what)
        elif ACCESS.isEnabledFor(logging.DEBUG):
            self._log.debug("request", **what, ms=round(spent_s * 1e3, 2))


def _request_id(scope: Scope) -> str:
    """The caller's own, if it is letters, digits and hyphens; else a new one."""
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    plain = given.isascii() and given.replace("-", "").isalnum()
    return given if plain and len(given) <= LONGEST_ID else secrets.token_hex(8)


class SecondPathMiddleware:
    """A request under a second path becomes one under the first: whoever judges by paths (bounds,
    limits, the audit trail) sees that one alone. first: by second, without a slash at the end.
    """

    def __init__(self, app: ASGIApp, first: Mapping[str, str]) -> None:
        self._app = app
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for second, first in self._first.items():
                if scope["path"].startswith(f"{second}/"):
                    path = first + scope["path"].removeprefix(second)
                    scope = {**scope, "path": path, "raw_path": quote(path).encode()}
                    break
        await self._app(scope, receive, send)


class SafeHeadersMiddleware:
    """Headers that keep a browser from running, framing or sniffing what is not ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SAFE_HEADERS]
            await send(message)

        await self._app(scope, receive, safe if scope["type"] == "http" else send)


class RateLimitMiddleware:
    """At most `per_minute` requests, and sockets opened, a minute of one client, which is a caller
    by valid credentials, whichever those are, or else an address; of one address a multiple of it.

    identity: finds out who calls. redis_url: where counts are shared over processes. While it is
    away each process counts for itself, and the metric `headway_degraded` says so.
    """

    def __init__(
        self, app: ASGIApp, identity: Identity, per_minute: int, redis_url: str = ""
    ) -> None:
        self._app = app
        self._identity = identity
        self._shared = FixedWindowRateLimiter(_shared_storage(redis_url)) if redis_url else None
        self._away_until_s = 0.0  # monotonic
        self._own, self._apart_s = FixedWindowRateLimiter(MemoryStorage()), _apart_s()
        self._of_client = RateLimitItemPerMinute(per_minute)
        self._of_address = RateLimitItemPerMinute(per_minute * CLIENTS_PER_ADDRESS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or is_unlimited(scope):
            await self._app(scope, receive, send)
            return
        allowed, headers = await self._take(scope)
        if not allowed:
            scope["limited"] = True
            await _refuse(scope, receive, send, headers)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._app(scope, receive, counted)

    async def _take(self, scope: Scope) -> tuple[bool, RawHeaders]:
        """Whether this request may pass, and the headers that state the client's limit."""
        if abs(_apart_s() - self._apart_s) > STEP_S:  # windows that end an hour later, or never
            self._own, self._apart_s = FixedWindowRateLimiter(MemoryStorage()), _apart_s()
        address = share_of((scope.get("client") or ("unknown",))[0])
        client, found = address, None
        if allowed := self._own.hit(self._of_address, address):  # before anybody is looked up
            client = await self._client_of(scope, address)
            found = await self._take_shared(address, client)
        if found is None:
            allowed = allowed and self._own.hit(self._of_client, client)
            found = (allowed, *self._window(self._own, client))
        return self._told(*found)

    async def _client_of(self, scope: Scope, address: str) -> str:
        """Whose share of the limit it is; an address where credentials are none that are valid."""
        try:
            who = await self._identity.of(scope)
        except ProblemError:
            return address
        return address if who is None else hashlib.sha256(who.name.encode()).hexdigest()

    def _told(self, allowed: bool, left: int, reset_at: float) -> tuple[bool, RawHeaders]:
        reset_s = str(max(int(reset_at - time.time()) + 1, 0)).encode()
        found: RawHeaders = [
            (b"x-ratelimit-limit", str(self._of_client.amount).encode()),
            (b"x-ratelimit-remaining", str(max(left, 0)).encode()),
            (b"x-ratelimit-reset", reset_s),
        ]
        return allowed, found if allowed else [*found, (b"retry-after", reset_s)]

    async def _take_shared(self, address: str, client: str) -> tuple[bool, int, float] | None:
        """(allowed, requests left, when the window ends in seconds since 1970) of all processes
        together; None without Valkey, or while it is away. In a thread: one that hangs must not
        hold up those who wait for nothing.
        """
        if self._shared is None or time.monotonic() < self._away_until_s:
            return None
        try:
            found = await asyncio.to_thread(self._hit_shared, self._shared, address, client)
        except Exception:  # of whatever kind: Valkey is away
            metrics.degraded.labels("limits").set(1)
            self._away_until_s = time.monotonic() + AWAY_S
            return None
        metrics.degraded.labels("limits").set(0)
        return found

    def _hit_shared(
        self, limiter: FixedWindowRateLimiter, address: str, client: str
    ) -> tuple[bool, int, float]:
        allowed = limiter.hit(self._of_address, address) and limiter.hit(self._of_client, client)
        return allowed, *self._window(limiter, client)

    def _window(self, limiter: FixedWindowRateLimiter, client: str) -> tuple[int, float]:
        """(requests left, when the window ends in seconds since 1970)."""
        window = limiter.get_window_stats(self._of_client, client)
        return window.remaining, window.reset_time


def _apart_s() -> float:
    """Of the time of day and the monotonic clock: it changes when the clock is set."""
    return time.time() - time.monotonic()


def _shared_storage(redis_url: str) -> Storage:
    return RedisStorage(
        redis_url, socket_timeout=SHARED_WITHIN_S, socket_connect_timeout=SHARED_WITHIN_S
    )


def is_unlimited(scope: Scope) -> bool:
    """Probes and the page's own files, as they are read: nobody is looked up for these, and they
    are not on record.
    """
    path = scope["path"]
    is_read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
    return is_read and (path in UNLIMITED or path.startswith(UNLIMITED_FILES))


async def _refuse(scope: Scope, receive: Receive, send: Send, headers: RawHeaders) -> None:
    detail = "the limit of requests a minute is reached"
    told = {name.decode(): value.decode() for name, value in headers}
    if scope["type"] == "websocket":
        socket = WebSocket(scope, receive, send)
        await socket.send_denial_response(problem(socket, 429, detail, headers=told))
        return
    await problem(Request(scope), 429, detail, headers=told)(scope, receive, send)


async def _unrecorded(scope: Scope, receive: Receive, send: Send) -> None:
    detail = (
        "nothing was done: it cannot be put on record, since neither the database nor the disk "
        "takes entries of the audit trail now. Bring the database back, or free the disk."
    )
    told = {"Retry-After": f"{UNRECORDED_RETRY_S}"}
    await problem(Request(scope), 503, detail, headers=told)(scope, receive, send)


class AuditMiddleware:
    """Every request that may change something gets an entry in the audit trail before it is
    answered (see `AuditRecorder.record`), also when it was refused or failed; ingestion does not,
    it is itself on record. While none can be written it is refused (503).
    """

    def __init__(self, app: ASGIApp, recorder: AuditRecorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _may_change(scope):
            await self._app(scope, receive, send)
            return
        if not await self._recorder.takes_entries():
            await _unrecorded(scope, receive, send)
            return
        answered, body = False, bytearray()

        async def read() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        async def audited(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                await self._record(scope, bytes(body), message["status"])
            await send(message)

        try:
            await self._app(scope, read, audited)
        except (Exception, asyncio.CancelledError):  # cut off where the server ends: it may be done
            if not answered:
                await self._record(scope, bytes(body), 500)
            raise

    async def _record(self, scope: Scope, body: bytes, status: int) -> None:
        found = scope.get("state", {}).get(FOUND)
        principal = found if isinstance(found, Principal) else NOBODY
        asked = f"{scope['method']} {masked(scope['path'])}"
        action = asked.replace("\x00", "")[:LONGEST_ACTION]
        try:
            data = arguments_of(scope.get("query_string", b""), body)
            if scope.get("state", {}).get(REPLAYED):
                data["replayed"] = "the first answer was given again; nothing was done"
            await self._recorder.record(AuditEntry(time.time(), principal, action, status, data))
        except Exception as error:  # the order stands; that it is not on record is logged
            telemetry.log("api").error(
                "audit not written", error=str(error), who=principal.name, what=scope["path"]
            )
            metrics.degraded.labels("audit").set(1)


def _may_change(scope: Scope) -> bool:
    is_kept = not scope["path"].startswith((*BATCHES, TICKETS))
    return scope["method"] in CHANGING and is_kept
