"""What a request may send, as plain ASGI: nothing is read of one without credentials, and of others
no more than a bound, within a time.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headway.api.arguments import KEPT_BYTES
from headway.api.identity import CREDENTIALS_NEEDED, Identity
from headway.api.problems import ProblemError, problem
from headway.api.security import refused

CHANGING = ("POST", "PUT", "PATCH", "DELETE")
BATCHES = (  # those under /ml only ask
    "/api/v1/ingest", "/api/v1/observations", "/api/v1/ml/predict", "/api/v1/ml/metrics",
)  # fmt: skip
TICKETS = "/api/v1/tickets"
CAMERAS = ("/api/v1/cameras", "/streams")  # a camera's site is a drawing
ORDER_BYTES = 64 << 10
CAMERA_BYTES = 1 << 20
LARGE = ("/api/v1/ingest", "/api/v1/observations", "/api/v1/ml/predict")
BATCH_BYTES = 8 << 20
HELD_BYTES = 128 << 20  # of all bodies that one caller has under way
ORDER_WITHIN_S = 15.0  # from the header to the last byte
BATCH_WITHIN_S = 60.0


def most_bytes(path: str) -> int:
    """Of the body of a request to this path."""
    if path.startswith(LARGE):
        return BATCH_BYTES
    return CAMERA_BYTES if path.startswith(CAMERAS) else ORDER_BYTES


TOO_MANY_BODIES = (
    f"bodies of yours of more than {HELD_BYTES >> 20} MiB are under way: wait for their answers"
)


class BodyMiddleware:
    """Requests that may change something are refused without credentials (401), with a body beyond
    the bound of their path or a query beyond what is kept on record (413), where the body takes too
    long (408), or where all bodies of their caller are beyond HELD_BYTES (429).
    """

    def __init__(self, app: ASGIApp, identity: Identity) -> None:
        self._app = app
        self._identity = identity
        self._held = Counter[str]()  # bytes of bodies, by caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in CHANGING:
            await self._app(scope, receive, send)  # which reads no body
            return
        most = most_bytes(scope["path"])
        try:
            if (who := await self._identity.of(scope)) is None:
                raise refused(CREDENTIALS_NEEDED)  # what others may is judged later, and on record
            if len(scope.get("query_string", b"")) > KEPT_BYTES:  # which the trail has to hold
                raise ProblemError(413, f"the query of an order may hold {KEPT_BYTES} bytes")
            if stated_bytes(scope) > most:
                raise ProblemError(413, too_large(most))
        except ProblemError as error:
            answer = problem(
                Request(scope), error.status, error.detail, error.faults, error.headers
            )
            await answer(scope, receive, send)
            return
        whole = bounded(receive, most, within_s(scope["path"]))
        taken = 0

        async def held() -> Message:
            nonlocal taken
            message = await whole()
            size = len(message.get("body", b""))
            taken += size
            self._held[who.name] += size
            if self._held[who.name] > HELD_BYTES:
                raise HTTPException(429, TOO_MANY_BODIES, {"Retry-After": "5"})
            return message

        try:
            await self._app(scope, held, send)
        finally:
            self._held[who.name] -= taken
            if not self._held[who.name]:
                del self._held[who.name]


def within_s(path: str) -> float:
    return BATCH_WITHIN_S if path.startswith(BATCHES) else ORDER_WITHIN_S


def stated_bytes(scope: Scope) -> int:
    """What the header says of the body's length; 0 where it says nothing."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def too_large(most: int) -> str:
    return f"a request to this address may hold {most} bytes; send less at once"


def bounded(receive: Receive, most: int, within: float) -> Receive:
    """`receive` that raises HTTPException 413 where the body grows beyond `most` bytes, and 408
    where it is not complete after `within` seconds.
    """
    size, complete = 0, False
    ends_s = time.monotonic() + within

    async def counted() -> Message:
        nonlocal size, complete
        if complete:  # what comes now is the client's leaving
            return await receive()
        try:
            async with asyncio.timeout(max(ends_s - time.monotonic(), 0.0)):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"the body was not complete after {within:g} s") from None
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
        if size > most:
            raise HTTPException(413, too_large(most))
        return message

    return counted
