"""uvicorn's WebSocket connection with one more door: a message that is the same for all clients is
written without a task's turn for each, and straight to the socket where nothing waits before it.

Every message is compressed by itself (`server_no_context_takeover`), so that its compressed frame
too is made once for all. What clients send is short: a longer message, also one that is short only
while it is compressed, closes its socket with 1009 before it is in memory. Long messages are taken
without compression alone: some 200 of them would fit into what is read from a socket at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
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
DIRECT = "headway.direct"
LONG_MESSAGES = "headway.long_messages"
UNCOMPRESSED = "/observations"  # how the paths end at which clients send much
NO_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
LONGEST_BYTES = 4096  # of a message from a client, decompressed: a change of filters has some 100


class Connection(WebSocketsSansIOProtocol):
    """`uvicorn.Config(ws=Connection)`; under `DELIVER` the scope's extensions then hold
    `deliver`, under `DIRECT` the connection itself, for `headway.api.hub.Direct`, and under
    `LONG_MESSAGES` `take_messages_of`.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        deflate = ServerPerMessageDeflateFactory(
            server_no_context_takeover=True, server_max_window_bits=12, client_max_window_bits=12
        )
        self.conn = ServerProtocol(
            extensions=[deflate],
            max_size=min(self.config.ws_max_size, LONGEST_BYTES),
            logger=logging.getLogger("uvicorn.error"),
        )
        self.window_bits = 0
        self.socket_number = -1  # file descriptor; -1 where frames must pass the transport
        self._at_end: Callable[[], None] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        plain = transport.get_extra_info("ssl_object") is None
        found = transport.get_extra_info("socket")
        self.socket_number = found.fileno() if plain and found is not None else -1

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # a line above 8 KiB, too many headers, or a body: uvicorn answers nothing, and waits
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(NO_HANDSHAKE)
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        if event.path.partition("?")[0].endswith(UNCOMPRESSED):
            self.conn.available_extensions = []
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
            extensions = cast(dict[str, Any], self.scope["extensions"])
            extensions[DELIVER] = self.deliver
            extensions[DIRECT] = self
            extensions[LONG_MESSAGES] = self.take_messages_of

    def take_messages_of(self, most_bytes: int) -> None:
        """Longer messages of this client from now on, where they are not compressed: a route calls
        it once it knows who that is, before it accepts.
        """
        if not self.conn.extensions:
            self.conn.max_message_size = min(self.config.ws_max_size, most_bytes)

    def connection_lost(self, exc: Exception | None) -> None:
        self.socket_number = -1  # its number may be another one's soon
        if self._at_end is not None:
            self._at_end()
        super().connection_lost(exc)

    def call_at_end(self, call: Callable[[], None]) -> None:
        """Once the connection is lost."""
        self._at_end = call

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = (
                True  # refused with an answer; else uvicorn logs an error for each
            )

    @property
    def is_ready(self) -> bool:
        """The connection is open, and takes more."""
        return (
            self.handshake_complete
            and not self.disconnected
            and not self.close_sent
            and self.writable.is_set()
            and not self.transport.is_closing()
        )

    def descriptor(self) -> int:
        """Of the socket, where the transport would do no more than write to it now; -1 where a
        message must wait, or pass the transport.
        """
        if self.socket_number < 0 or not self.is_ready or self.transport.get_write_buffer_size():
            return -1
        return self.socket_number

    def frame(self, message: LiveMessage) -> bytes:
        return message.frame(self.window_bits)

    def write(self, data: bytes) -> None:
        """By the transport."""
        self.transport.write(data)

    def deliver(self, message: LiveMessage) -> bool:
        """Write the message now; False where the connection is not open, or its buffer is full."""
        if not self.is_ready:
            return False
        self.write(self.frame(message))
        return True
