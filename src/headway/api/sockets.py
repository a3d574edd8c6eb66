"""uvicorn's WebSocket connection with one more door: a message that is the same for all clients is
written without a task's turn for each.

Every message is compressed by itself (`server_no_context_takeover`), so that its compressed frame
too is made once for all.
"""

from __future__ import annotations

import logging
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.http11 import Request
from websockets.server import ServerProtocol

from headway.api.hub import LiveMessage

DELIVER = "headway.deliver"


class Connection(WebSocketsSansIOProtocol):
    """`uvicorn.Config(ws=Connection)`; under `DELIVER` the scope's extensions then hold
    `deliver`.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        deflate = ServerPerMessageDeflateFactory(
            server_no_context_takeover=True, server_max_window_bits=12, client_max_window_bits=12
        )
        self.conn = ServerProtocol(
            extensions=[deflate],
            max_size=self.config.ws_max_size,
            logger=logging.getLogger("uvicorn.error"),
        )
        self.window_bits = 0

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        self.window_bits = next(
            (
                e.local_max_window_bits
                for e in self.conn.extensions
                if isinstance(e, PerMessageDeflate)
            ),
            0,
        )
        if hasattr(self, "scope"):
            cast(dict[str, Any], self.scope["extensions"])[DELIVER] = self.deliver

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = (
                True  # refused with an answer; else uvicorn logs an error for each
            )

    def deliver(self, message: LiveMessage) -> bool:
        """Write the message now; False where the connection is not open, or its buffer is full."""
        if (
            not self.handshake_complete
            or self.disconnected
            or self.close_sent
            or not self.writable.is_set()
            or self.transport.is_closing()
        ):
            return False
        self.transport.write(message.frame(self.window_bits))
        return True
