"""uvicorn's WebSocket connection with one more door: a message that is the same for all clients is
written without a task's turn for each, and straight to the socket where nothing waits before it.

Every message is compressed by itself (`server_no_context_takeover`), so that its compressed frame
too is made once for all. What clients send is short: a longer message, also one that is short only
while it is compressed, closes its socket with 1009 before it is in memory. Long messages are taken
without compression alone: some 200 of them would fit into what is read from a socket at once.
What clients send is also seldom: who sends too many frames is closed with 1008. Pings among these
are answered at once, and nobody waits until the answers are read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import DATA_OPCODES, CloseCode, Frame
from websockets.http11 import Request
from websockets.server import ServerProtocol

from headway.api.hub import LiveMessage

DELIVER = "headway.deliver"
DIRECT = "headway.direct"
LONG_MESSAGES = "headway.long_messages"
UNCOMPRESSED = "/observations"  # how the paths end at which clients send much
NO_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
LONGEST_BYTES = 4096  # of a message from a client, decompressed: a change of filters has some 100
# from one client, until it is closed: all at once, and in the long run
FRAMES_AT_ONCE = 200
FRAMES_PER_S = 20.0
PARSED_AT_ONCE = 4096  # bytes, before frames are counted
# of a part of a message: who may send many often sends them in parts of 4 KiB, as Go's clients do
LARGE_PART_BYTES = 1024
DROPPED_BYTES = 1 << 20  # of who sends on after the close frame, before the connection is cut
CLOSED_WITHIN_S = 5.0  # also where the client does not read


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
        self._counts_messages = True
        self._frames_left, self._counted_s = float(FRAMES_AT_ONCE), self.loop.time()
        self._is_flooded = False
        self._dropped_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        plain = transport.get_extra_info("ssl_object") is None
        found = transport.get_extra_info("socket")
        self.socket_number = found.fileno() if plain and found is not None else -1

    def data_received(self, data: bytes) -> None:
        for begin in range(0, len(data), PARSED_AT_ONCE):
            if self._is_flooded:
                self._drop(len(data) - begin)
                return
            super().data_received(data[begin : begin + PARSED_AT_ONCE])
        # a line above 8 KiB, too many headers, or a body: uvicorn answers nothing, and waits
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(NO_HANDSHAKE)
            self.transport.close()

    def handle_events(self) -> None:
        now_s = self.loop.time()
        refilled = self._frames_left + (now_s - self._counted_s) * FRAMES_PER_S
        self._frames_left = min(refilled, FRAMES_AT_ONCE) - sum(
            map(self._is_counted, self.conn.events)
        )
        self._counted_s = now_s
        if self._frames_left >= 0.0:
            super().handle_events()
        else:
            self._end_flood()

    def _is_counted(self, event: object) -> bool:
        """Messages of who may send many wait until they are read, and so does their sender; the
        large parts of one are few.
        """
        if not isinstance(event, Frame):
            return False
        is_whole = event.fin or len(event.data) >= LARGE_PART_BYTES
        return self._counts_messages or not (event.opcode in DATA_OPCODES and is_whole)

    def _end_flood(self) -> None:
        self._is_flooded = True
        self.conn.fail(CloseCode.POLICY_VIOLATION, "too many messages, or pings")
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": int(CloseCode.POLICY_VIOLATION)}
        )
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.transport.resume_reading()
        else:
            self.transport.close()
        self.close_timer = self.loop.call_later(CLOSED_WITHIN_S, self.transport.abort)

    def _drop(self, count: int) -> None:
        """Read on for a while: closed with bytes unread, the system resets the connection, and the
        client may never see why it was closed.
        """
        self._dropped_bytes += count
        if self._dropped_bytes > DROPPED_BYTES:
            self.transport.abort()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:  # uvicorn would log a traceback, as an error, for each
                self.frames = []
                self.conn.fail(CloseCode.INVALID_DATA, "no UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

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
        """More messages of this client from now on, and longer ones where they are not compressed:
        a route calls it once it knows who that is, before it accepts.
        """
        self._counts_messages = False
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
        if message["type"] == "websocket.close":
            self._cut_if_unread_soon()  # also where it waits until more may be written
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = (
                True  # refused with an answer; else uvicorn logs an error for each
            )

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._cut_if_unread_soon()

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._cut_if_unread_soon()

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._cut_if_unread_soon()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._cut_if_unread_soon()

    def _cut_if_unread_soon(self) -> None:
        """A transport that is closed first writes what waits: to a client that does not read, for
        ever.
        """
        self.loop.call_later(CLOSED_WITHIN_S, self._cut_if_unread)

    def _cut_if_unread(self) -> None:
        if not self.disconnected and self.transport.get_write_buffer_size():
            self.transport.abort()

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
