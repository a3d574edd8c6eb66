"""Who calls: found out once for each request or socket, before anything else of it is read."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.types import Scope
from starlette.websockets import WebSocket, WebSocketDisconnect

from headway.api.keys import Keys, RevokedTokens
from headway.api.oidc import Provider
from headway.api.problems import ProblemError
from headway.api.security import (
    TICKET_S,
    Credentials,
    Keyring,
    Principal,
    Role,
    credentials_of,
    refused,
)
from headway.api.turns import Turns

FOUND = "headway.identity"  # in the state of a scope: a Principal, None, or the ProblemError
# where a browser cannot set a header: what stands in the query is taken there alone, since
# addresses end up in logs and histories
STREAM = re.compile(r"/stream/[^/]+|/api/v1/live/[^/]+/events")
LOOK_AGAIN_S = 5.0  # whether the credentials of an open stream still hold
CREDENTIALS_NEEDED = "credentials are needed: a bearer token, or an API key in X-API-Key"
ENDED = 4401  # close code of a socket whose credentials do not


class Identity:
    """What credentials are checked against; keys by the database, in its turns. usual_street: of
    whoever names none; empty where that is not clear.
    """

    def __init__(
        self,
        keyring: Keyring,
        keys: Keys,
        revoked: RevokedTokens,
        turns: Turns | None = None,
        provider: Provider | None = None,
        usual_street: Callable[[], str] = str,
    ) -> None:
        self._usual_street = usual_street
        self._keyring = keyring
        self._keys = keys
        self._revoked = revoked
        self._turns = turns or Turns()
        self._provider = provider
        self._refreshing: asyncio.Task[None] | None = None
        self._used = dict[str, float]()  # numbers of tickets, and when they end, monotonic

    async def of(self, scope: Scope) -> Principal | None:
        """None for a caller without credentials. Raises ProblemError: 401 for such as are not
        valid, 403 for a user of the provider without a role, 503 for a key while the database, or a
        token while the provider, is away.
        """
        state = scope.setdefault("state", {})
        if FOUND not in state:
            state[FOUND] = await self._looked_up(scope)
        found: Principal | ProblemError | None = state[FOUND]
        if isinstance(found, ProblemError):
            raise found
        return found

    async def require(self, scope: Scope, role: Role) -> Principal:
        """Raises ProblemError: as `of`, 401 without credentials, 403 with too few rights, or
        outside of their bounds.
        """
        found = await self.of(scope)
        if found is None:
            raise refused(CREDENTIALS_NEEDED)
        if found.role < role:
            raise ProblemError(
                403, f"this needs the role {role.name.lower()}; yours is {found.role.name.lower()}"
            )
        found.bounds.require(scope, self._usual_street())
        return found

    async def end_of(self, who: Principal) -> str:
        """Waits until the credentials of an open stream do not hold any more; why."""
        while (left_s := who.expires_s - time.time()) > 0.0:
            await asyncio.sleep(min(left_s, LOOK_AGAIN_S))
            if not await self._holds(who) and who.expires_s > time.time():
                return "the credentials were revoked"
        return "the credentials have expired"

    async def close_at_end(self, socket: WebSocket, who: Principal) -> None:
        """Closes a socket (4401) when the credentials that opened it end."""
        why = await self.end_of(who)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it has gone meanwhile
            await socket.close(ENDED, why)

    async def _looked_up(self, scope: Scope) -> Principal | ProblemError | None:
        query = QueryParams(scope.get("query_string", b"")) if takes_query(scope) else None
        try:
            shown = credentials_of(Headers(scope=scope), query)
            found = await self._read(shown)
            if found is not None and not shown.key and not await self._holds(found):
                raise refused("the token was revoked")
        except ProblemError as error:
            return error
        return found

    async def read(self, token: str) -> Principal:
        """Whose token it is, ours or the provider's. Raises ProblemError 401, 403 or 503."""
        if self._provider is not None and self._provider.is_of(token):
            return await self._provider.read(token)
        return self._keyring.read(token)

    async def _read(self, shown: Credentials) -> Principal | None:
        """Raises ProblemError 401, 403 or 503."""
        if shown.token:
            return await self.read(shown.token)
        if shown.key:
            if (known := self._keys.remembered(shown.key)) is not None:
                return known
            async with self._turns.one():
                return await run_in_threadpool(self._keys.read, shown.key)
        if shown.ticket:
            return self._take_ticket(shown.ticket)
        return None

    def _take_ticket(self, ticket: str) -> Principal:
        who, number = self._keyring.read_ticket(ticket)
        now_s = time.monotonic()
        while self._used and next(iter(self._used.values())) <= now_s:  # the oldest first
            del self._used[next(iter(self._used))]
        if number in self._used:
            raise refused("the ticket was used before; ask for another one")
        self._used[number] = now_s + TICKET_S + 1.0
        return who

    async def _holds(self, who: Principal) -> bool:
        """Neither the token nor the key was revoked, nor the secret that signed it dropped, as far
        as is known.
        """
        if self._revoked.is_due():  # nobody waits for it: the database may hang
            self._refreshing = asyncio.create_task(run_in_threadpool(self._revoked.refresh))
        if who.token and who.token in self._revoked:
            return False
        if who.signer and not self._keyring.holds(who.signer):
            return False
        if not who.key:
            return True
        with contextlib.suppress(ProblemError):  # too many ask: it holds as far as is known
            async with self._turns.one():
                return await run_in_threadpool(self._keys.holds, who.key)
        return True


def takes_query(scope: Scope) -> bool:
    """A ticket or a token in the query is credentials here."""
    return scope["type"] == "websocket" or STREAM.fullmatch(scope["path"]) is not None
