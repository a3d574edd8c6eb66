"""uvicorn's HTTP connection, bounded: headers must come within a time and a size, what is sent
beside a body (trailers, extensions of chunks) is not kept, answers must be read on, and one address
has no more than so many connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import resource
import ssl
import sys
import termios
from asyncio.sslproto import SSLProtocol
from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_remote_addr

from headway import telemetry
from headway.api.sockets import Connection
from headway.telemetry.bursts import Burst

HEADERS_WITHIN_S = 10.0  # from the first byte of a request, or from the connection, to the last
HANDSHAKE_WITHIN_S = 10  # of TLS
HEADER_BYTES = 64 << 10  # of a request's line and headers; once there are more, no more is read
MOST_HEADERS = 256  # of a request: a short one takes 30 times its length in memory
# bytes beside a body, as many as of headers and for each byte of it; chunks of one byte have 5
BESIDE_A_BYTE = 8
# requests that wait for the answers before theirs: each takes 100 times its length in memory
MOST_PIPELINED = 32
MOST_OF_ADDRESS = 4096  # connections
SHARE_OF_OPEN = 0.5  # of what this process may have open, that one address may take
# an answer that its client does not read is in memory: it has to read on so much in so long, and
# where all such answers are more than there may be, those that wait longest go
READ_WITHIN_S = 60.0
LEAST_READ_BYTES = 64 << 10
MOST_UNREAD_BYTES = 256 << 20
LINGER_S = 2.0  # after an answer to a body that was not read, so that the answer arrives
TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"connection: close\r\ncontent-length: 0\r\n\r\n"
)


def most_of_open() -> int:
    """Connections of one address, by what this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return int(SHARE_OF_OPEN * soft) if soft != resource.RLIM_INFINITY else MOST_OF_ADDRESS


def share_of(address: str) -> str:
    """Whose share an address takes: itself, or of IPv6 its network of 64 bits, since one client has
    all addresses of at least one (RFC 6177).
    """
    if ":" not in address:
        return address
    try:
        found = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Network((int(found) >> 64 << 64, 64)))


class HttpConnection(HttpToolsProtocol):
    """`uvicorn.Config(http=HttpConnection)`.

    of_address: connections that are open, by `share_of` their address. proxies: networks whose
        addresses stand for many clients, and have no bound. unread: bytes that wait until the
        client of a connection reads them, who waits longest first. not_understood: requests that
        were refused since they are none.
    """

    of_address: ClassVar[Counter[str]] = Counter()
    unread: ClassVar[dict[HttpConnection, int]] = {}
    proxies: ClassVar[Sequence[IPv4Network | IPv6Network]] = ()
    not_understood: ClassVar[Burst] = Burst()

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._address = ""  # whose share this connection takes; empty for none
        self._header_bytes = 0
        self._beside_bytes = 0  # of the body that comes now
        self._headers_end: asyncio.TimerHandle | None = None
        self._body_end: asyncio.TimerHandle | None = None
        self._read_end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self._address or self.take_share(transport):
            self._begin_headers()

    def take_share(self, transport: Any) -> bool:
        """Of what its address may have; False where that is all taken, and the connection ended."""
        address = (get_remote_addr(transport) or ("unknown",))[0]
        if self._is_proxy(address):
            return True
        address = share_of(address)
        if self.of_address[address] >= min(MOST_OF_ADDRESS, most_of_open()):
            transport.abort()
            return False
        self.of_address[address] += 1
        self._address = address
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_headers()
        self._end_unread()
        self.give_back()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._headers_end is not None:
            if self._header_bytes > HEADER_BYTES:
                self.transport.write(TOO_LARGE)
                self.transport.close()
                return
            self._header_bytes += len(data)
        elif self._beside_bytes > HEADER_BYTES:
            self.transport.abort()
            return
        self._beside_bytes += len(data)
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        """As uvicorn's `data_received`, except for requests to go over to another protocol."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse()
        except httptools.HttpParserUpgrade as upgrade:
            if not self._should_upgrade():
                self._parse_without_upgrade(data[upgrade.args[0] :])
            elif self._is_answering():  # the answers before would be written into the socket
                self._refuse()
            else:
                self.handle_websocket_upgrade()

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """Who does not know the other protocol goes on with this one (RFC 9110, 7.8). The parser
        has left a body out: what comes of it would be read as the next request, and behind a proxy
        the next client's request as its body. rest: what came after the headers.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self._refuse()
            return
        kept = [header for header in self.headers if header[0] != b"upgrade"]
        head = [method, b" ", self.url, b" HTTP/", version.encode(), b"\r\n"]
        for name, value in kept:
            head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._parse(b"".join([*head, b"\r\n", rest]))

    def _refuse(self) -> None:
        if told := self.not_understood.add():
            telemetry.log("api").warning("requests that are none of HTTP", count=told)
        self.send_400_response("Invalid HTTP request received.")

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _goes_on_without_upgrade(self) -> bool:
        """This request comes once more: see `_parse_without_upgrade`."""
        return self.parser.should_upgrade() and not self._should_upgrade()

    def on_message_begin(self) -> None:
        """Raises ValueError where too many wait before it, as `on_header` does."""
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError(f"{MOST_PIPELINED} requests wait on this connection")
        super().on_message_begin()
        self._beside_bytes = 0
        if self._headers_end is None:
            self._begin_headers()

    def on_headers_complete(self) -> None:
        self._end_headers()
        if not self._goes_on_without_upgrade():
            super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of a request: trailers (RFC 9112, 7.1.2), which come after a body, are left out. Raises
        ValueError where there are too many, which httptools takes for a fault of the request.
        """
        if self._headers_end is None:
            return
        if len(self.headers) >= MOST_HEADERS:
            raise ValueError(f"a request has {MOST_HEADERS} headers at most")
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._beside_bytes -= len(body) * (1 + BESIDE_A_BYTE)
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # not the next request's, which may have begun meanwhile
        is_answered = self.cycle is not None and self.cycle.response_complete
        if is_answered and self.cycle.more_body:  # who sends it slowly would stay for ever
            self._body_end = self.loop.call_later(LINGER_S, self.transport.abort)

    def on_message_complete(self) -> None:
        if self._goes_on_without_upgrade():
            return
        super().on_message_complete()
        if self._body_end is not None:  # the rest of a body that nobody read has come
            self._body_end.cancel()
            self._body_end = None

    def pause_writing(self) -> None:
        """Its client does not read as fast as is written."""
        super().pause_writing()
        self._end_unread()
        self._await_reading()
        while sum(self.unread.values()) > MOST_UNREAD_BYTES:
            next(iter(self.unread))._cut_off("the answers that nobody reads are too many")

    def resume_writing(self) -> None:
        self._end_unread()
        super().resume_writing()

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        taken_over = self.transport.get_protocol()
        if isinstance(taken_over, Connection):
            taken_over.call_at_end(self.give_back)

    def _is_proxy(self, address: str) -> bool:
        try:
            return bool(self.proxies) and any(ip_address(address) in p for p in self.proxies)
        except ValueError:  # of a socket in the file system
            return False

    def _await_reading(self) -> None:
        self.unread[self] = self.transport.get_write_buffer_size()
        before = self.unread[self] + self._unsent()
        self._read_end = self.loop.call_later(READ_WITHIN_S, self._judge_reading, before)

    def _unsent(self) -> int:
        """Bytes that the system has taken, megabytes at a time, and its client has not."""
        found = bytearray(4)
        with contextlib.suppress(OSError, ValueError):  # it has gone
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, found)
        return int.from_bytes(found, sys.byteorder)

    def _judge_reading(self, before: int) -> None:
        left = self.transport.get_write_buffer_size() + self._unsent()
        if before - left >= LEAST_READ_BYTES:
            self._await_reading()
        else:
            self._cut_off(f"its client did not read on for {READ_WITHIN_S:g} s")

    def _cut_off(self, why: str) -> None:
        telemetry.log("api").warning(
            "an answer was not read, and its connection is closed", why=why, bytes=self.unread[self]
        )
        self._end_unread()
        self.transport.abort()

    def _end_unread(self) -> None:
        self.unread.pop(self, None)
        if self._read_end is not None:
            self._read_end.cancel()
            self._read_end = None

    def _begin_headers(self) -> None:
        self._header_bytes = 0
        self._headers_end = self.loop.call_later(HEADERS_WITHIN_S, self._give_up)

    def _end_headers(self) -> None:
        if self._headers_end is not None:
            self._headers_end.cancel()
            self._headers_end = None

    def _give_up(self) -> None:
        self._headers_end = None
        self.transport.abort()

    def give_back(self) -> None:
        """The share of its address."""
        if self._address:
            self.of_address[self._address] -= 1
            if self.of_address[self._address] <= 0:
                del self.of_address[self._address]
            self._address = ""


class TlsConnection(asyncio.Protocol):
    """`uvicorn.Config(http=TlsConnection)`: an HttpConnection over TLS, which counts from its first
    moment on, and has HANDSHAKE_WITHIN_S for the handshake. (A server that is given the certificate
    calls nobody before that has ended, and waits for it for a minute: whoever says nothing would be
    open beside all bounds.)

    context: with the certificate of the server.
    """

    context: ClassVar[ssl.SSLContext]

    def __init__(self, *args: Any, **named: Any) -> None:
        self._http = HttpConnection(*args, **named)

    def connection_made(self, transport: Any) -> None:
        if not self._http.take_share(transport):
            return
        loop = asyncio.get_running_loop()
        opened = loop.create_future()
        opened.add_done_callback(self._end_handshake)
        tls = SSLProtocol(
            loop,
            self._http,
            self.context,
            opened,
            server_side=True,
            ssl_handshake_timeout=HANDSHAKE_WITHIN_S,
        )
        transport.set_protocol(tls)
        tls.connection_made(transport)

    def _end_handshake(self, opened: asyncio.Future[None]) -> None:
        if opened.cancelled() or opened.exception() is not None:  # gone, too slow, or not TLS
            self._http.give_back()
