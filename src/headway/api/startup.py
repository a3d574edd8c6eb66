"""The application while it starts: the port answers at once, and says what is starting, while the
database is opened and the streets and cameras are started behind it.
"""

from __future__ import annotations

import asyncio
import gc
import json
from base64 import b64encode
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headway import __version__, telemetry

RETRY_AFTER_S = 2
# For a person who opens the page too early: it comes by itself, with the token behind its `#`. (A
# refresh by header or meta element would not load an address with a `#` again.)
RELOAD = f"setTimeout(() => location.reload(), {RETRY_AFTER_S * 1000})"
WAITING_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Headway</title></head>
<body style="font: 1.1rem system-ui; margin: 3rem">
<h1>Headway is starting</h1>
<p>Now: {starting}. The first start compiles functions for some minutes.
This page goes on by itself.</p>
<script>{reload}</script>
</body>
</html>
"""
WAITING_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    f"script-src 'sha256-{b64encode(sha256(RELOAD.encode()).digest()).decode()}'"
)
TRY_AGAIN_LATER = 1013  # close code of a WebSocket (IANA)
# a socket that is closed before it is accepted is told 403, after which no client comes again
REFUSAL = "websocket.http.response"


class StartingApp:
    """Makes and starts an application in the background, and is it from then on.

    make:   opens what the application needs, in a thread.
    failed: called with the error when the start fails.
    starting: the part that is starting; empty when all have been started.
    """

    def __init__(self, make: Callable[[], FastAPI], failed: Callable[[Exception], object]) -> None:
        self.make = make
        self._failed = failed
        self._app: ASGIApp | None = None
        self._context: AbstractAsyncContextManager[Any] | None = None
        self.starting = "database"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and _asks_for_the_page(scope):
            await self._show_the_page(send)
        elif scope["type"] == "http":
            await self._answer(scope, send, "http.response")
        elif REFUSAL in scope.get("extensions", {}):
            await self._answer(scope, send, REFUSAL)
        else:
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        start = asyncio.create_task(self._start())
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        await start
        if self._context is not None:
            await self._context.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        try:
            app = await run_in_threadpool(self.make)
            self.starting = "streets and cameras"
            context = app.router.lifespan_context(app)
            await context.__aenter__()
        except Exception as error:  # of whatever part: the process ends with it
            self._failed(error)
            return
        self._context, self._app, self.starting = context, app, ""
        gc.freeze()  # docs/decisions/0012-garbage-collection.md
        telemetry.log("api").info("started")

    async def _show_the_page(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", WAITING_PAGE_POLICY.encode()),
            (b"cache-control", b"no-store"),
            (b"retry-after", str(RETRY_AFTER_S).encode()),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        page = WAITING_PAGE.format(starting=self.starting, reload=RELOAD)
        await send({"type": "http.response.body", "body": page.encode()})

    async def _answer(self, scope: Scope, send: Send, kind: str) -> None:
        """The process is alive; it is not ready. kind: what ASGI calls such an answer."""
        path, headers = scope["path"], [(b"content-type", b"application/json")]
        status, body = 503, self._problem(path)
        if path == "/health":
            status, body = 200, {"status": "starting", "version": __version__, "looked_at": []}
        elif path == "/health/ready":
            body = {"ready": False, "database": False, "streets": 0, "spool": 0}
        else:
            headers = [(b"content-type", b"application/problem+json")]
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
        text = json.dumps(body | {"starting": [self.starting]}).encode()
        start: Message = {"type": f"{kind}.start", "status": status, "headers": headers}
        await send(start)
        await send({"type": f"{kind}.body", "body": text})

    def _problem(self, path: str) -> dict[str, Any]:
        return {
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "detail": f"the service is starting: {self.starting}",
            "instance": path,
            "faults": [],
        }


def _asks_for_the_page(scope: Scope) -> bool:
    """It is a browser's call of the page itself."""
    accepts = dict(scope["headers"]).get(b"accept", b"")
    return scope["method"] == "GET" and scope["path"] == "/" and b"text/html" in accepts
