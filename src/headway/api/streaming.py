"""Answers that are sent in parts: without an end, or of any length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable

from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from headway import telemetry

TAKEN_WITHIN_S = 60.0  # each part of a file


class Endless(StreamingResponse):
    """What `parts` gives, until the client goes. Whoever goes while something is sent to it is let
    go of at once, not at the next collection.
    """

    def __init__(
        self, parts: AsyncGenerator[bytes, None], media_type: str, headers: dict[str, str]
    ) -> None:
        super().__init__(parts, media_type=media_type, headers=headers)
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._parts.aclose()


class Long(StreamingResponse):
    """A file of any length, in parts. The connection of a client that does not take one of them
    within TAKEN_WITHIN_S is closed. release: called at the end, however it ends.
    """

    def __init__(
        self,
        parts: AsyncIterable[str | bytes] | Iterable[bytes],
        media_type: str,
        headers: dict[str, str],
        release: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(parts, media_type=media_type, headers=headers)
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._release()

    async def stream_response(self, send: Send) -> None:
        is_late = False

        async def send_in_time(message: Message) -> None:
            nonlocal is_late
            try:
                async with asyncio.timeout(TAKEN_WITHIN_S):
                    await send(message)
            except TimeoutError:
                is_late = True
                raise

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            if not is_late:
                raise
            telemetry.log("api").warning("a file was not read on, and its connection is closed")
