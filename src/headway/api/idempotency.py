"""POSTs that may be repeated without being done twice, by the header `Idempotency-Key`, as plain
ASGI (IETF draft "The Idempotency-Key HTTP Header Field", version 07).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headway.api.bodies import BATCHES, TICKETS
from headway.api.identity import Identity
from headway.api.problems import Fault, ProblemError, problem
from headway.api.security import Role
from headway.store.begun import BegunBook

HEADER = "Idempotency-Key"
LONGEST_KEY = 128  # characters
KEPT_S = 3600.0  # from the first answer on
# of who has most the oldest are forgotten first: nobody can make those of others be forgotten
MOST_KEPT = 2000  # answers
MOST_BYTES = 8 << 20  # of the bodies of all of them
LARGEST_BYTES = 256 << 10  # of one; a larger one is not given again
WAIT_S = 30.0  # for the first answer, where the same request comes meanwhile
# says nothing of the request itself, so that the next try may end otherwise: 5xx, and these
PASSING = (401, 403, 408, 413, 429)
FIRST_REFUSAL = 400  # by which nothing was done: it need not be known after a new start
REPLAYED = "replayed"  # in the state of a scope: this answer is the first one, given again
DESCRIPTION = (
    f"1 to {LONGEST_KEY} visible characters, chosen anew by the client for each order (a UUID). "
    "The same request with the same key, within an hour, gets the first answer again (header "
    "Idempotent-Replayed) and is not done twice; another request with it is refused (422)."
)

UNKNOWN = (
    "this was begun before the last start of this server, and nobody knows whether it was done: "
    "look at what is there, and use a new key to do it again"
)

Caller = tuple[str, Role]
"""Name and role."""
Owner = tuple[Caller, str]
"""Who calls, and the key."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """The first answer. request: what it was given to. body: None for one that is too large."""

    request: bytes
    start: Message
    body: bytes | None
    until_s: float


@dataclass(frozen=True, slots=True)
class _UnderWay:
    request: bytes
    done: asyncio.Event


class IdempotencyMiddleware:
    """Gives the first answer to a POST with an `Idempotency-Key` again where the same caller
    repeats it, also while the first is under way; KEPT_S long. Not for records, which have keys of
    their own, nor for tickets. book: what was begun, also before the last start: of that there is
    no answer to give again. clock: monotonic seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        identity: Identity,
        book: BegunBook,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._identity = identity
        self._book = book
        self._clock = clock
        self._answers: dict[Caller, dict[str, _Answer]] = {}  # by key, oldest first
        self._under_way: dict[Owner, _UnderWay] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get(HEADER) if takes_key(scope) else None
        if given is None:
            await self._app(scope, receive, send)
            return
        try:
            key = key_of(given)
            who = await self._identity.require(scope, Role.VIEWER)
            body = await _whole(receive)
            if body is None:  # the client has gone
                return
            owner, request = ((who.name, who.role), key), _digest(scope, body)
            answer = await self._first_answer(owner, request)
        except (ProblemError, HTTPException) as error:
            await _refusal(scope, error)(scope, receive, send)
            return
        if answer is None:
            under_way = self._under_way[owner] = _UnderWay(request, asyncio.Event())
            try:
                await self._do(scope, _replayed(body, receive), send, owner, request)
            finally:
                del self._under_way[owner]
                under_way.done.set()
            return
        scope.setdefault("state", {})[REPLAYED] = True
        headers = [*answer.start["headers"], (b"idempotent-replayed", b"true")]
        await send({**answer.start, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body or b""})

    async def _first_answer(self, owner: Owner, request: bytes) -> _Answer | None:
        """None where there is none: the caller then does it, and says so before it waits for
        anything. Raises ProblemError for another request under the same key, and where the first is
        still under way after WAIT_S.
        """
        ends_s = self._clock() + WAIT_S
        while (first := self._under_way.get(owner)) is not None:
            _refuse_other(first.request, request)
            left_s = ends_s - self._clock()
            try:
                await asyncio.wait_for(first.done.wait(), max(left_s, 0.0))
            except TimeoutError:
                detail = "the same request is still under way; ask again later"
                raise ProblemError(409, detail, headers={"Retry-After": "5"}) from None
        self._forget_old()
        caller, key = owner
        answer = self._answers.get(caller, {}).get(key)
        if answer is not None:
            _refuse_other(answer.request, request)
            if answer.body is None:
                raise ProblemError(409, "this was done; its answer was too large to be kept")
        elif (begun := self._book.find(_name(owner))) is not None:
            _refuse_other(bytes.fromhex(begun.request), request)
            done = f"this was done (status {begun.status}); its answer is not kept any more"
            raise ProblemError(409, done if begun.status else UNKNOWN)
        return answer

    async def _do(
        self, scope: Scope, receive: Receive, send: Send, owner: Owner, request: bytes
    ) -> None:
        start: Message = {}
        said = bytearray()
        is_large = is_whole = is_cut_off = False

        async def kept(message: Message) -> None:
            nonlocal start, is_large, is_whole
            if message["type"] == "http.response.start":
                start = {**message, "headers": list(message.get("headers", ()))}
            elif message["type"] == "http.response.body":
                is_large = is_large or len(said) + len(message.get("body", b"")) > LARGEST_BYTES
                if not is_large:
                    said.extend(message.get("body", b""))
                is_whole = not message.get("more_body", False)
            await send(message)

        name = _name(owner)
        await run_in_threadpool(self._book.begin, name, request.hex(), KEPT_S)
        status = None
        try:
            await self._app(scope, receive, kept)
        except asyncio.CancelledError:  # the server ends: it may be done yet, and stands as begun
            is_cut_off = not is_whole
            raise
        finally:
            if is_whole and _is_final(start["status"]):
                status = start["status"]
                self._keep(owner, request, start, None if is_large else bytes(said))
            done = status if status is None or status < FIRST_REFUSAL else None
            if not is_cut_off:
                await run_in_threadpool(self._book.end, name, done)

    def _keep(self, owner: Owner, request: bytes, start: Message, body: bytes | None) -> None:
        caller, key = owner
        answer = _Answer(request, start, body, self._clock() + KEPT_S)
        self._answers.setdefault(caller, {})[key] = answer
        while sum(map(len, self._answers.values())) > MOST_KEPT:
            self._forget_oldest(max(self._answers, key=lambda c: len(self._answers[c])))
        while sum(map(_size, self._answers.values())) > MOST_BYTES:
            self._forget_oldest(max(self._answers, key=lambda c: _size(self._answers[c])))

    def _forget_old(self) -> None:
        now_s = self._clock()
        for caller in list(self._answers):
            while (of := self._answers.get(caller)) and next(iter(of.values())).until_s <= now_s:
                self._forget_oldest(caller)

    def _forget_oldest(self, caller: Caller) -> None:
        answers = self._answers[caller]
        del answers[next(iter(answers))]
        if not answers:
            del self._answers[caller]


def _name(owner: Owner) -> str:
    """In the book: a digest, since the key is the client's own."""
    (name, role), key = owner
    return hashlib.sha256(repr((name, role.name, key)).encode()).hexdigest()


def _size(answers: dict[str, _Answer]) -> int:
    """Bytes of their bodies."""
    return sum(len(answer.body or b"") for answer in answers.values())


def takes_key(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] == "POST" and takes_key_at(scope["path"])


def takes_key_at(path: str) -> bool:
    """A POST to this path takes an `Idempotency-Key`."""
    return not path.startswith((*BATCHES, TICKETS))


def key_of(given: str) -> str:
    """The key as it stands in the header: a string in quotes, as the draft has it, or without.
    Raises ProblemError 422.
    """
    key = given.strip()
    if len(key) > 1 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1]
    if not 0 < len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        message = f"give 1 to {LONGEST_KEY} visible ASCII characters, such as a UUID"
        fault = Fault(pointer=f"/header/{HEADER.lower()}", message=message)
        raise ProblemError(422, f"the header {HEADER} is not valid", [fault])
    return key


def parameter() -> dict[str, Any]:
    """Of the OpenAPI document."""
    n = LONGEST_KEY
    return {
        "name": HEADER,
        "in": "header",
        "required": False,
        "description": DESCRIPTION,
        "schema": {"type": "string", "pattern": f'^("[!-~]{{1,{n}}}"|[!#-~]{{1,{n}}})$'},
    }


def _digest(scope: Scope, body: bytes) -> bytes:
    """Of what is asked."""
    asked = hashlib.sha256(f"{scope['path']}?".encode("utf-8", "surrogateescape"))
    asked.update(scope.get("query_string", b"") + b"\n")
    asked.update(body)
    return asked.digest()


def _is_final(status: int) -> bool:
    return status < 500 and status not in PASSING


def _refuse_other(first: bytes, request: bytes) -> None:
    """Raises ProblemError 422."""
    if first != request:
        detail = (
            f"this {HEADER} was used for another request (its path or body differs); choose a new "
            "key for each order"
        )
        raise ProblemError(422, detail)


async def _whole(receive: Receive) -> bytes | None:
    """The body, which is bounded already; None where the client goes before its end. Raises
    HTTPException 408 or 413.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body.extend(message.get("body", b""))
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives a body that was read already, and then what follows."""
    is_given = False

    async def give() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return give


def _refusal(scope: Scope, error: ProblemError | HTTPException) -> ASGIApp:
    request = Request(scope)
    if isinstance(error, ProblemError):
        return problem(request, error.status, error.detail, error.faults, error.headers)
    return problem(request, error.status_code, error.detail)
