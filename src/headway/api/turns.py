"""Turns of those who ask the database, or for predictions: while they wait, some threads must be
left to those who do not ask, as orders.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from headway.api.problems import ProblemError

AT_ONCE = 16  # of the 40 threads that routes have; ingestion has as many
PROBES_AT_ONCE = 4  # of their own: slow questions must not make the service look unready
PREDICTED_AT_ONCE = 2  # of their own, too: a thousand observations take seconds of a processor
WITHIN_S = 10.0


class Turns:
    """`at_once` may ask at a time. what: waits, where too many do."""

    def __init__(
        self, at_once: int = AT_ONCE, what: str = "questions wait for the database"
    ) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._what = what

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Raises ProblemError 503 where its time does not come within WITHIN_S."""
        try:
            async with asyncio.timeout(WITHIN_S):
                await self._free.acquire()
        except TimeoutError:
            detail = f"too many {self._what}; try again later"
            raise ProblemError(503, detail, headers={"Retry-After": "5"}) from None
        try:
            yield
        finally:
            self._free.release()
