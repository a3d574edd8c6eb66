"""Turns of those who ask the database, or for predictions: while they wait, some threads must be
left to those who do not ask, as orders; and one who asks much must leave some to the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from headway.api.problems import ProblemError

AT_ONCE = 16  # of the 40 threads that routes have; ingestion has as many
OF_ONE = 4  # of these, for the same caller: slow questions of a few must not stop all
KEYS_AT_ONCE = 8  # of their own: who calls has to be found out while others ask
PROBES_AT_ONCE = 4  # of their own: slow questions must not make the service look unready
PREDICTED_AT_ONCE = 2  # of their own, too: a thousand observations take seconds of a processor
PREDICTED_OF_ONE = 1
WITHIN_S = 10.0


@dataclass(slots=True)
class _Share:
    """Turns that one caller may have. users: who has one of them, or waits for it."""

    free: asyncio.Semaphore
    users: int = 0


class Turns:
    """`at_once` may ask at a time, `of_one` of these for the same caller; None for no such bound.
    what: waits, where too many do.
    """

    def __init__(
        self,
        at_once: int = AT_ONCE,
        what: str = "questions wait for the database",
        of_one: int | None = None,
    ) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._of_one = at_once if of_one is None else of_one
        self._shares = dict[str, _Share]()
        self._what = what

    @contextlib.asynccontextmanager
    async def one(self, who: str = "") -> AsyncIterator[None]:
        """who: the caller. Raises ProblemError 503 where its time does not come within WITHIN_S."""
        share = self._shares.setdefault(who, _Share(asyncio.Semaphore(self._of_one)))
        share.users += 1
        try:
            async with contextlib.AsyncExitStack() as held:
                try:
                    async with asyncio.timeout(WITHIN_S):
                        for free in (share.free, self._free):
                            await held.enter_async_context(free)
                except TimeoutError:
                    detail = f"too many {self._what}; try again later"
                    raise ProblemError(503, detail, headers={"Retry-After": "5"}) from None
                yield
        finally:
            share.users -= 1
            if not share.users:
                del self._shares[who]
