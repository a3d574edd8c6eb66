"""Answers that are sent in parts: without an end, or of any length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable
from typing import Any

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
    within TAKEN_WITHIN_S is closed.

    ends: waits until the client may not have it any more, and says why: then it is closed, too.
    release: called at the end, however it ends.
    """

    def __init__(
        self,
        parts: AsyncIterable[str | bytes] | Iterable[bytes],
        media_type: str,
        headers: dict[str, str],
        ends: Callable[[], Coroutine[Any, Any, str]],
        release: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(parts, media_type=media_type, headers=headers)
        self._ends = ends
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

        def cut_off(_: asyncio.Task[str]) -> None:
            may_have_it.reschedule(asyncio.get_running_loop().time())

        ending = asyncio.create_task(self._ends())
        why = "it was not read on"
        try:
            async with asyncio.timeout(None) as may_have_it:
                ending.add_done_callback(cut_off)
                await super().stream_response(send_in_time)
        except TimeoutError:
            if may_have_it.expired():
                why = ending.result()
            elif not is_late:
                raise
            telemetry.log("api").warning(
                "a file is not sent on, and its connection closed", why=why
            )
        finally:
            ending.remove_done_callback(cut_off)
            ending.cancel()
