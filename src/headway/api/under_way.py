"""How much one caller may have under way at once, as plain ASGI: streams that are kept open, and
requests that are read or answered slowly. The rate limit counts their beginnings alone.
"""

from __future__ import annotations

from collections import Counter

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from headway.api.connections import most_of_open
from headway.api.identity import Identity
from headway.api.middleware import is_unlimited
from headway.api.problems import ProblemError, problem

MOST_OF_CALLER = 2048
SHARE_OF_ADDRESS = 0.5  # of what one address may have open, which several callers share
RETRY_AFTER_S = 5


class UnderWayMiddleware:
    """At most MOST_OF_CALLER requests and sockets at once of one caller, by valid credentials, or
    fewer where this process may have few open; what is beyond is refused (429). Whoever has none is
    bounded by the time and the size of what is sent.
    """

    def __init__(self, app: ASGIApp, identity: Identity) -> None:
        self._app = app
        self._identity = identity
        self._of_caller = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (caller := await self._caller(scope)) is None:
            await self._app(scope, receive, send)
            return
        most = min(MOST_OF_CALLER, int(SHARE_OF_ADDRESS * most_of_open()))
        if self._of_caller[caller] >= most:
            await _refuse(scope, receive, send, most)
            return
        self._of_caller[caller] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._of_caller[caller] -= 1
            if not self._of_caller[caller]:
                del self._of_caller[caller]

    async def _caller(self, scope: Scope) -> str | None:
        if scope["type"] not in ("http", "websocket") or is_unlimited(scope):
            return None
        try:
            found = await self._identity.of(scope)
        except ProblemError:  # which the route answers
            return None
        return None if found is None else found.name


async def _refuse(scope: Scope, receive: Receive, send: Send, most: int) -> None:
    detail = f"{most} requests and streams of yours are under way: end some, or wait until they end"
    told = {"Retry-After": f"{RETRY_AFTER_S}"}
    if scope["type"] == "websocket":
        socket = WebSocket(scope, receive, send)
        await socket.send_denial_response(problem(socket, 429, detail, headers=told))
        return
    await problem(Request(scope), 429, detail, headers=told)(scope, receive, send)
