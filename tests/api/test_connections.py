"""Connections are bounded: headers by time and size, and how many one address has."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from ipaddress import ip_network
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from fastapi import Response
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from headway.api import connections, sockets
from headway.api.connections import HttpConnection, TlsConnection, share_of
from headway.api.sockets import Connection
from tests.certificates import certificate
from tests.waiting import until


@contextlib.contextmanager
def link_to(service):
    at = urlsplit(service.url)
    with socket.create_connection((at.hostname, at.port), timeout=10) as link:
        yield link


def is_ended(link):
    """By the server; what it still says is thrown away."""
    try:
        while link.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("begun", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nA: "])
def test_headers_that_do_not_come_end_the_connection(service, monkeypatch, begun):
    monkeypatch.setattr(connections, "HEADERS_WITHIN_S", 0.2)
    with link_to(service) as link:
        link.sendall(begun)
        assert is_ended(link)
    assert httpx.get(f"{service.url}/health").status_code == 200


def test_a_second_request_s_headers_have_to_come_in_time_too(service, monkeypatch):
    monkeypatch.setattr(connections, "HEADERS_WITHIN_S", 0.3)
    with link_to(service) as link:
        link.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert link.recv(65536).startswith(b"HTTP/1.1 200")
        link.sendall(b"GET /health HTTP/1.1\r\nA: ")
        assert is_ended(link)


def test_headers_without_end_are_not_kept(service):
    with link_to(service) as link:
        link.sendall(b"GET /health HTTP/1.1\r\nA: ")
        with contextlib.suppress(OSError):
            for _ in range(64):
                link.sendall(b"a" * (1 << 20))
        with contextlib.suppress(OSError):
            assert link.recv(65536).startswith(b"HTTP/1.1 431")
    assert httpx.get(f"{service.url}/health").status_code == 200


def test_a_request_has_so_many_headers(service):
    """65,000 short ones of 300 kB, of a request that is not ended, took 10 MB for ten seconds."""
    with link_to(service) as link:
        link.sendall(b"GET /health HTTP/1.1\r\n" + b"a:b\r\n" * connections.MOST_HEADERS + b"\r\n")
        assert link.recv(65536).startswith(b"HTTP/1.1 200")
        link.sendall(b"GET /health HTTP/1.1\r\n" + b"a:b\r\n" * (connections.MOST_HEADERS + 2))
        assert link.recv(65536).startswith(b"HTTP/1.1 400")
        assert is_ended(link)


def test_so_many_requests_wait_on_one_connection(service):
    """Twenty connections of anybody with 13,000 each took a gigabyte, and stopped the service for a
    minute.
    """
    with link_to(service) as link:
        link.sendall(b"GET /health HTTP/1.1\r\n\r\n" * connections.MOST_PIPELINED)
        said = b""
        while said.count(b"HTTP/1.1 200") < connections.MOST_PIPELINED:
            said += link.recv(65536) or pytest.fail("not all of them were answered")
    with link_to(service) as link, contextlib.suppress(ConnectionResetError):
        link.sendall(b"GET /health HTTP/1.1\r\n\r\n" * 2000)
        count = 0
        while said := link.recv(65536):
            count += said.count(b"HTTP/1.1 200")
            assert count <= 2 * connections.MOST_PIPELINED
    assert httpx.get(f"{service.url}/health").status_code == 200


CHUNKED = b"POST /api/v1/tickets HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("first", "then"),
    [(b"0\r\n", b"a:b\r\n"), (b"0\r\na: ", b"bbb"), (b"1;", b"a=b;"), (b"", b"1;a=b\r\nx\r\n")],
)
def test_what_comes_beside_a_body_is_not_kept(service, monkeypatch, first, then):
    """Trailers of anybody took 300 MB a second, for two seconds of each connection."""
    monkeypatch.setattr(connections, "LINGER_S", 60.0)
    with link_to(service) as link:
        link.sendall(CHUNKED + b"\r\n" + first)
        part = then * ((1 << 20) // len(then))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(64):
                link.sendall(part)
    assert httpx.get(f"{service.url}/health").status_code == 200


@pytest.mark.parametrize(
    "body", [b"0\r\nDigest: x\r\nX-API-Key: y\r\n\r\n", b"1\r\nx\r\n" * 40_000 + b"0\r\n\r\n"]
)
def test_short_trailers_and_short_chunks_are_taken(service, body):
    bearer = f"Authorization: Bearer {service.token('viewer')}\r\n\r\n".encode()
    with link_to(service) as link:
        link.sendall(CHUNKED + bearer + body)
        assert link.recv(65536).startswith(b"HTTP/1.1 201")
        link.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP/1.1 200" in link.recv(65536)


@pytest.mark.parametrize("protocol", ["h2c", "websocket, h2c", "foo"])
@pytest.mark.parametrize("pause_s", [0.0, 0.2])
def test_the_body_of_a_request_for_another_protocol_is_its_body(service, protocol, pause_s):
    """It was left out, or read as the next request: behind nginx, which uses a connection for many
    clients, the next client's request, with its token, was the body of a request of anybody.
    """
    hidden = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
    head = (
        f"POST /api/v1/tickets HTTP/1.1\r\nAuthorization: Bearer {service.token('viewer')}\r\n"
        f"Connection: upgrade\r\nUpgrade: {protocol}\r\nContent-Length: {len(hidden)}\r\n\r\n"
    )
    with link_to(service) as link:
        link.sendall(head.encode())
        time.sleep(pause_s)
        link.sendall(hidden)
        assert link.recv(65536).startswith(b"HTTP/1.1 201")
        link.sendall(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
        said = b""
        while part := link.recv(65536):
            said += part
    assert said.startswith(b"HTTP/1.1 200")
    assert said.count(b"HTTP/1.1 ") == 1


def test_no_answer_is_written_into_a_socket(service):
    """Those to the requests before it on the connection were."""
    opened = (
        f"GET /ws/realtime HTTP/1.1\r\nAuthorization: Bearer {service.token('viewer')}\r\n"
        "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with link_to(service) as link:
        link.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 5 + opened.encode())
        assert b"101 Switching" not in link.recv(65536)
        assert is_ended(link)


LARGE = 24 << 20  # bytes: more than the system keeps of a connection by itself


@pytest.fixture
def large(service):
    """The path of an answer of LARGE bytes."""
    routes = service.app.router.routes
    service.app.add_api_route("/large", lambda: Response(bytes(LARGE)))
    yield "/large"
    routes[:] = [route for route in routes if getattr(route, "path", "") != "/large"]


@contextlib.contextmanager
def asking(service, path):
    """A client that has asked, and reads nothing by itself."""
    at = urlsplit(service.url)
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.settimeout(10.0)
        link.connect((at.hostname, at.port))
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        yield link


def test_an_answer_that_nobody_reads_is_not_kept(service, large, monkeypatch):
    """Each was in memory for ever: 90 pages of 21 MiB, asked for in a minute, took 2 GB."""
    monkeypatch.setattr(connections, "READ_WITHIN_S", 0.3)
    with asking(service, large) as link:
        until(lambda: HttpConnection.unread)
        assert sum(HttpConnection.unread.values()) > LARGE / 2
        until(lambda: not HttpConnection.unread)
        assert is_ended(link)


def test_who_reads_slowly_has_all_of_it(service, large, monkeypatch):
    monkeypatch.setattr(connections, "READ_WITHIN_S", 0.5)
    with asking(service, large) as link:
        got, begun = 0, time.monotonic()
        while got < LARGE:
            part = link.recv(1 << 20)
            assert part, f"it was cut off after {got} bytes"
            got += len(part)
            if time.monotonic() - begun < 2.0:
                time.sleep(0.002)
    until(lambda: not HttpConnection.unread)


def test_where_too_much_is_unread_who_waits_longest_goes(service, large, monkeypatch):
    monkeypatch.setattr(connections, "MOST_UNREAD_BYTES", 3 * LARGE)
    with contextlib.ExitStack() as held:
        links = []
        for _ in range(5):
            links.append(held.enter_context(asking(service, large)))
            until(lambda: len(HttpConnection.unread) == min(len(links), 3))
        time.sleep(0.1)
        assert [is_ended(link) for link in links[:2]] == [True, True]
        assert sum(HttpConnection.unread.values()) <= 3 * LARGE
        assert len(HttpConnection.unread) == 3
        assert httpx.get(f"{service.url}/health").status_code == 200
    until(lambda: not HttpConnection.unread)


def test_one_address_has_no_more_than_its_connections(service, monkeypatch):
    until(lambda: not HttpConnection.of_address)
    monkeypatch.setattr(connections, "MOST_OF_ADDRESS", 3)
    with contextlib.ExitStack() as held:
        links = [held.enter_context(link_to(service)) for _ in range(3)]
        until(lambda: HttpConnection.of_address["127.0.0.1"] == 3)
        assert is_ended(held.enter_context(link_to(service)))
        links[0].close()
        until(lambda: HttpConnection.of_address["127.0.0.1"] == 2)
        assert httpx.get(f"{service.url}/health").status_code == 200
    until(lambda: not HttpConnection.of_address)


def test_a_socket_keeps_its_share_until_it_ends(service):
    until(lambda: not HttpConnection.of_address)
    address = f"{service.url.replace('http', 'ws')}/ws/alerts?token={service.token('viewer')}"
    with connect(address):
        until(lambda: HttpConnection.of_address["127.0.0.1"] == 1)
    until(lambda: not HttpConnection.of_address)


def test_who_drips_a_body_that_was_refused_is_not_held(service, monkeypatch):
    """Thousands of such connections would take all that the server may have open."""
    monkeypatch.setattr(connections, "LINGER_S", 0.3)
    with link_to(service) as link:
        link.sendall(b"POST /api/v1/admin/clear-cache HTTP/1.1\r\nHost: x\r\n")
        link.sendall(b"Content-Length: 60000000\r\n\r\n{")
        assert link.recv(65536).startswith(b"HTTP/1.1 401")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(100):
                link.sendall(b" ")
                time.sleep(0.05)


def test_a_connection_goes_on_once_the_rest_of_a_refused_body_has_come(service, monkeypatch):
    monkeypatch.setattr(connections, "LINGER_S", 0.3)
    with link_to(service) as link:
        head = b"POST /api/v1/admin/clear-cache HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{"
        link.sendall(head)
        assert link.recv(65536).startswith(b"HTTP/1.1 401")
        link.sendall(b" }")
        time.sleep(0.5)
        link.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert link.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_connection_goes_on_after_a_body_that_was_read(service, monkeypatch):
    monkeypatch.setattr(connections, "LINGER_S", 0.1)
    with service.client("admin") as client:
        for _ in range(3):
            assert client.post("/api/v1/admin/clear-cache", content=b"{}").status_code == 200
            time.sleep(0.2)


def test_a_trusted_proxy_has_as_many_connections_as_it_needs(service, monkeypatch):
    until(lambda: not HttpConnection.of_address)
    monkeypatch.setattr(connections, "MOST_OF_ADDRESS", 1)
    with contextlib.ExitStack() as held:
        held.enter_context(link_to(service))
        until(lambda: HttpConnection.of_address["127.0.0.1"] == 1)
        assert is_ended(held.enter_context(link_to(service)))
        monkeypatch.setattr(HttpConnection, "proxies", (ip_network("127.0.0.0/8"),))
        for _ in range(3):
            link = held.enter_context(link_to(service))
            link.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert link.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("query", "more"),
    [
        ("x" * 20_000, ""),
        ("", "A: b\r\n" * 200),
        ("", "Content-Length: 3\r\n"),
        ("", "A: \x01\r\n"),
    ],
    ids=["long line", "many headers", "a body", "a control character"],
)
def test_an_upgrade_that_cannot_be_read_is_answered_and_ended(service, query, more):
    with link_to(service) as link:
        link.sendall(
            f"GET /ws/alerts?{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Version: 13\r\n{more}\r\n".encode()
        )
        assert link.recv(65536).startswith(b"HTTP/1.1 400")
        assert is_ended(link)


@pytest.mark.parametrize(
    ("address", "share"),
    [
        ("192.0.2.7", "192.0.2.7"), ("unknown", "unknown"), ("", ""), ("a:b", "a:b"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"), ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)  # fmt: skip
def test_of_ipv6_all_addresses_of_a_network_of_64_bits_share_one_bound(address, share):
    """One client has 2 to the 64th of them."""
    assert share_of(address) == share


# of a client, as RFC 6455 has them, masked with 0: a ping of 125 bytes, an empty message, and a
# message that does not end
PING, EMPTY, PART = b"\x89\xfd" + bytes(129), b"\x81\x80" + bytes(4), b"\x00\x80" + bytes(4)
BEGUN = b"\x01\x80" + bytes(4)


def upgrade(path, token=""):
    lines = [
        f"GET {path} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *([f"Authorization: Bearer {token}"] if token else ()), "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


def upgraded(link, path, token):
    link.sendall(upgrade(path, token))
    return link.recv(65536)


@pytest.mark.parametrize("flood", [PING, EMPTY, BEGUN + PART * 10], ids=["pings", "empty", "parts"])
def test_who_floods_a_socket_is_closed(service, flood):
    """Four sockets that sent pings, and read nothing, stopped the service."""
    with link_to(service) as link:
        begin = upgraded(link, "/ws/alerts", service.token("viewer"))
        assert begin.startswith(b"HTTP/1.1 101")
        with contextlib.suppress(OSError):  # it is closed before all of it is sent
            link.sendall(flood * 30_000)
        assert is_ended(link)


def test_who_floods_a_socket_is_told(service):
    address = service.url.replace("http", "ws")
    with connect(f"{address}/ws/alerts?token={service.token('viewer')}") as one:
        with pytest.raises(ConnectionClosed) as end:
            for _ in range(30 * sockets.FRAMES_AT_ONCE):
                one.ping()
            one.recv(10.0)
        assert (end.value.rcvd.code, end.value.rcvd.reason) == (1008, "too many messages, or pings")


def test_pings_of_a_strange_upgrade_are_counted_too(service):
    with link_to(service) as link:
        with contextlib.suppress(OSError):
            link.sendall(upgrade("/ws/alerts") + PING * 3000)
        assert is_ended(link)


def test_a_socket_that_pings_now_and_then_stays(service):
    address = service.url.replace("http", "ws")
    with connect(f"{address}/ws/alerts?token={service.token('viewer')}") as one:
        for _ in range(sockets.FRAMES_AT_ONCE // 2):
            assert one.ping().wait(10.0)


@pytest.fixture
def tls(tmp_path, monkeypatch):
    """The address of a server over TLS, and what a client trusts."""
    files = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files["tls_certificate"], files["tls_key"])
    monkeypatch.setattr(TlsConnection, "context", context, raising=False)

    async def app(scope, _receive, send):
        said = scope["scheme"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": said})

    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    config = uvicorn.Config(app, http=TlsConnection, ws=Connection, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    until(lambda: server.started)
    yield listening.getsockname(), ssl.create_default_context(cafile=files["tls_certificate"])
    server.should_exit = True
    thread.join(20)
    listening.close()


def test_connections_that_do_not_begin_tls_count_and_end(tls, monkeypatch):
    """They were beside all bounds: 2,000 of one client left nobody else a connection, and the
    service no file, for as long as it went on.
    """
    at, trusted = tls
    monkeypatch.setattr(connections, "MOST_OF_ADDRESS", 20)
    monkeypatch.setattr(connections, "HANDSHAKE_WITHIN_S", 2)
    with contextlib.ExitStack() as opened:
        silent = [opened.enter_context(socket.create_connection(at, 10.0)) for _ in range(30)]
        until(lambda: HttpConnection.of_address["127.0.0.1"] == 20)
        for link in silent:
            assert is_ended(link)
    until(lambda: "127.0.0.1" not in HttpConnection.of_address)
    asked = httpx.get(f"https://localhost:{at[1]}/", verify=trusted)
    assert (asked.status_code, asked.text) == (200, "https")
    until(lambda: "127.0.0.1" not in HttpConnection.of_address)


def test_a_request_right_behind_the_handshake_is_answered(tls):
    at, trusted = tls
    for _ in range(20):
        with trusted.wrap_socket(
            socket.create_connection(at, 10.0), server_hostname="localhost"
        ) as link:
            link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert link.recv(65536).startswith(b"HTTP/1.1 200")
