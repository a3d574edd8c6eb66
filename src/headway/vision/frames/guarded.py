"""Streams of cameras whose addresses are checked: every connection, also one after a redirect, is
made by a `Door`; FFmpeg itself opens none but to this process.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import selectors
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import Message
from functools import partial
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from headway.vision import SensingError
from headway.vision.frames.addresses import PORTS, Door, place_of

CHUNK = 1 << 18
IN_URL = "/?#[]@!$&'()*+,;=:%~"  # what stays as it is in the path and query of an address
OWN = "127.0.0.1"
TEXT_AT_MOST = 1 << 20  # bytes that a camera may say before it plays
ANSWER_WITHIN_S = 30.0  # with its headers, and whatever redirects come before
PACKET_WITHIN_S = 60.0  # however slowly it comes; some wait for the next part of a playlist
REQUESTS_AT_MOST = 200  # of a playlist that names itself there are ever more
PACKET_AT_MOST = 1 << 26  # bytes: a picture of the largest size, and what may stand before it
# before the address of an encrypted part of a playlist, as FFmpeg asks for it
ENCRYPTED = re.compile(r"crypto[+:](?=https?:)")
BLOCK_BYTES = 16  # of AES
# a status line as FFmpeg reads one, wherever it stands
STATUS = re.compile(rb"RTSP/[^ \t\n]*[ \t]+([\v\f+\-0-9][^ \t\n]*)[ \t\n]")
USUAL = re.compile(rb"[12456]\d\d")
REDIRECTED = "it sends its reader to another address. Give that address as the source"


def tls() -> ssl.SSLContext:
    """For cameras, whose certificates are their own: encrypted, and not who it is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Connections:
    """Of one source to its camera: they are made through the door, and end together. Time-outs of
    silence alone would let a camera that drips hold them for ever, and one that never ends a
    picture would take all memory: each packet has its time and its bytes.

    clock: monotonic seconds. fault: why they were ended, empty where they were not.
    """

    def __init__(
        self, door: Door, silent_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.door = door
        self.silent_s = silent_s
        self._clock = clock
        self._open = set[HttpStream | Relay]()
        self._lock = threading.Lock()
        self._is_ended = False
        self.fault = ""
        self.expect_packet()

    def http(self, url: str, begin: int = 0) -> HttpStream:
        """begin: its first byte. Raises SensingError or OSError."""
        self._requests += 1
        if self._requests > REQUESTS_AT_MOST:
            self.fault = f"its playlists name more than {REQUESTS_AT_MOST} others without a picture"
            raise SensingError(self.fault)
        return HttpStream(url, self, begin)

    def part(self, url: str, options: Mapping[str, str]) -> HttpStream | Decrypted:
        """What a playlist names, as FFmpeg asks for it. Raises SensingError, OSError or
        ValueError.
        """
        begun = ENCRYPTED.match(url)
        stream = self.http(url[begun.end() if begun else 0 :], int(options.get("offset", 0)))
        if begun is None:
            return stream
        return Decrypted(stream, bytes.fromhex(options["key"]), bytes.fromhex(options["iv"]))

    def rtsp(self, url: str) -> Relay:
        """Raises AddressError or OSError."""
        return Relay(url, self)

    def expect_packet(self) -> None:
        """One has come: the next may take as long, and as much."""
        self._bytes, self._requests, self._since_s = 0, 0, self._clock()

    def takes(self, size: int) -> bool:
        """Whether so many more bytes are in the bounds; else `fault` says what is wrong."""
        self._bytes += size
        if self._bytes > PACKET_AT_MOST:
            self.fault = f"it sends more than {PACKET_AT_MOST >> 20} MiB without a picture"
        elif self._clock() - self._since_s > PACKET_WITHIN_S:
            self.fault = f"it sends no picture within {PACKET_WITHIN_S:g} s"
        return not self.fault

    def end(self) -> None:
        """Shut them all, from any thread; whoever reads one sees its end."""
        with self._lock:
            self._is_ended = True
            shut = list(self._open)
        for each in shut:
            each.shut()

    def hold(self, stream: HttpStream | Relay) -> None:
        """Until `drop`. Raises SensingError where they have ended."""
        with self._lock:
            if self._is_ended:
                raise SensingError("the camera was stopped")
            self._open.add(stream)

    def drop(self, stream: HttpStream | Relay) -> None:
        with self._lock:
            self._open.discard(stream)


class HttpStream:
    """What an http:// or https:// address gives, as a file; one whose server sends parts (ranges)
    can be sought in. Redirects are followed, to addresses that the door lets through.

    Raises SensingError or OSError.
    """

    def __init__(self, url: str, connections: Connections, begin: int = 0) -> None:
        self._place = place_of(url)
        place = self._place
        host = f"[{place.host}]" if ":" in place.host else place.host
        port = "" if place.port == PORTS[place.scheme] else f":{place.port}"
        self.name = f"{place.scheme}://{host}{port}{quote(place.rest, safe=IN_URL)}"
        self._connections = connections
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._is_shut = False
        self._at, self._size, self._first = begin, 0, b""
        connections.hold(self)
        try:
            self._answer = self._requested()
            self._size = _whole_size(self._answer)
        except BaseException:
            self.close()
            raise

    @property
    def is_unseekable_mp4(self) -> bool:
        return self._first[4:8] == b"ftyp" and not self._size

    def read(self, size: int) -> bytes:
        """As soon as there is something; nothing at the end, and beyond the bounds of a packet.
        Raises SensingError, OSError.
        """
        if self._answer.isclosed() and self._at < self._size:  # it was sought in
            self._answer = self._requested()
        try:
            part = self._answer.read1(size)
        except http.client.HTTPException:  # it ends within a part
            return b""
        if not self._connections.takes(len(part)):
            return b""
        self._at += len(part)
        self._first = self._first or part[:8]
        return part

    def seekable(self) -> bool:
        return bool(self._size)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """What is read next is asked for then."""
        begin = {os.SEEK_CUR: self._at, os.SEEK_END: self._size}.get(whence, 0)
        if begin + offset != self._at:
            self._release()
            self._at = begin + offset
        return self._at

    def watch(self, connected: socket.socket) -> None:
        """A handle of its own: TLS takes the socket's own away."""
        with self._lock:
            self._sockets.append(connected.dup())
            if self._is_shut:
                self._shut()

    def shut(self) -> None:
        """From any thread."""
        with self._lock:
            self._is_shut = True
            self._shut()

    def close(self) -> None:
        self._release()
        self._connections.drop(self)

    def _requested(self) -> http.client.HTTPResponse:
        """The answer from the place in it on, in time."""
        headers = {"User-Agent": "Headway", "Accept": "*/*", "Icy-MetaData": "0"}
        if self._at:
            headers["Range"] = f"bytes={self._at}-"
        request = urllib.request.Request(self.name, headers=headers)  # noqa: S310 - http(s) alone
        timer = threading.Timer(ANSWER_WITHIN_S, self.shut)
        timer.daemon = True
        timer.start()
        try:
            answer: http.client.HTTPResponse = _opener(self, self._connections).open(
                request, timeout=self._connections.silent_s
            )
        except urllib.error.HTTPError as error:
            error.close()
            raise SensingError(_refusal(error.code)) from None
        except urllib.error.URLError as error:
            why = error.reason if isinstance(error.reason, OSError) else _no_http()
            raise TimeoutError if self._is_shut else why from None
        except http.client.HTTPException:
            raise TimeoutError if self._is_shut else _no_http() from None
        finally:
            timer.cancel()
        if self._is_shut:
            raise TimeoutError
        if self._at and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            raise SensingError("its server says that it sends parts of files, and does not")
        return answer

    def _release(self) -> None:
        """The connection; the lock of the answer is held while it is read: the sockets go first."""
        with self._lock:
            self._shut()
            for each in self._sockets:
                each.close()
            self._sockets.clear()
        if (answer := getattr(self, "_answer", None)) is not None:
            answer.close()

    def _shut(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):  # the other side has ended it
                each.shutdown(socket.SHUT_RDWR)

    @property
    def user(self) -> str:
        """Of the address, with its "@"."""
        return self._place.user


class Decrypted:
    """A part of a playlist that is encrypted with AES-128 (RFC 8216, 4.3.2.4: CBC, padded by
    PKCS #7), as a file. Raises ValueError for a key or initialization vector of another length.
    """

    def __init__(self, stream: HttpStream, key: bytes, vector: bytes) -> None:
        self._stream = stream
        self._cipher = Cipher(algorithms.AES128(key), modes.CBC(vector)).decryptor()
        self._last = b""  # the newest block: at the end it holds the padding
        self._left = b""  # decrypted, and not asked for yet
        self._is_at_end = False

    def read(self, size: int) -> bytes:
        """As soon as there is something; nothing at the end. Raises SensingError, OSError."""
        while not self._left and not self._is_at_end:
            sealed = self._stream.read(size)
            self._is_at_end = not sealed
            plain = self._last + self._cipher.update(sealed)
            padding = plain[-1] if plain and self._is_at_end else BLOCK_BYTES
            split = max(len(plain) - padding, 0)
            self._left, self._last = plain[:split], plain[split:]
        given, self._left = self._left[:size], self._left[size:]
        return given

    def close(self) -> None:
        self._stream.close()


def _whole_size(answer: http.client.HTTPResponse) -> int:
    """Bytes of a file that its server sends in parts, too; 0 for all else."""
    is_in_parts = answer.headers.get("Accept-Ranges", "").strip().lower() == "bytes"
    return (answer.length or 0) if is_in_parts and answer.status == http.HTTPStatus.OK else 0


def _no_http() -> SensingError:
    return SensingError("what answers there does not speak HTTP")


def _refusal(status: int) -> str:
    known = {401: "the user name or the password is wrong", 404: "there is no such stream"}
    return known.get(status, f"it answers with HTTP status {status}")


def _opener(stream: HttpStream, connections: Connections) -> urllib.request.OpenerDirector:
    """User and password of the address are sent to where it points alone."""
    name, _, password = stream.user.removesuffix("@").partition(":")
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if stream.user:
        passwords.add_password(None, stream.name, unquote(name), unquote(password))
    opener = urllib.request.OpenerDirector()
    for handler in (
        _Plain(stream, connections.door),
        _Tls(stream, connections.door),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
    ):
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To http:// and https:// alone; passwords in the new address are not followed."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in ("http", "https") or place_of(newurl).user:
            raise SensingError(REDIRECTED)
        fp.close()  # urllib would read the page that comes with it, which may have no end
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _PlainConnection(http.client.HTTPConnection):
    def __init__(self, stream: HttpStream, door: Door, host: str, **options: Any) -> None:
        super().__init__(host, **options)
        self._stream = stream
        self._door = door

    def connect(self) -> None:
        self.sock = self._door.connect(self.host, self.port, self.timeout or 0.0)
        self._stream.watch(self.sock)


class _TlsConnection(_PlainConnection):
    default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        super().connect()
        self.sock = tls().wrap_socket(self.sock, server_hostname=self.host)


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, stream: HttpStream, door: Door) -> None:
        super().__init__()
        self._made = partial(_PlainConnection, stream, door)

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._made, req)


class _Tls(urllib.request.HTTPSHandler):
    def __init__(self, stream: HttpStream, door: Door) -> None:
        super().__init__()
        self._made = partial(_TlsConnection, stream, door)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._made, req)


class Relay:
    """Stands between FFmpeg and a camera of rtsp:// or rtsps://, which the door has let through.
    FFmpeg would follow a camera that sends it elsewhere: such an answer ends the connection.

    url: what FFmpeg is to open.
    Raises AddressError or OSError.
    """

    def __init__(self, url: str, connections: Connections) -> None:
        place, silent_s = place_of(url), connections.silent_s
        self._connections = connections
        self._camera = connections.door.connect(place.host, place.port, silent_s)
        try:
            if place.scheme == "rtsps":
                self._camera = tls().wrap_socket(self._camera, server_hostname=place.host)
            self._camera.settimeout(None)
            self._listener = socket.create_server((OWN, 0), backlog=1)
        except OSError:
            self._camera.close()
            raise
        self._listener.settimeout(silent_s)
        self._player: socket.socket | None = None
        self._said = b""  # by the camera, before it plays
        self._plays = False
        self.url = f"rtsp://{place.user}{OWN}:{self._listener.getsockname()[1]}{place.rest}"
        name = f"relay of {place.host}"
        self._thread = threading.Thread(target=self._work, daemon=True, name=name)
        self._thread.start()
        try:
            connections.hold(self)
        except SensingError:
            self.close()
            raise

    def close(self) -> None:
        self.shut()
        self._thread.join()
        self._connections.drop(self)

    def shut(self) -> None:
        """From any thread: whoever reads sees its end."""
        for each in (self._listener, self._player, self._camera):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _work(self) -> None:
        # a connection that is cut ends it: FFmpeg sees that
        with self._listener, self._camera, contextlib.suppress(OSError):
            self._player, _ = self._listener.accept()
            self._listener.close()
            with self._player:
                self._player.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._carry(self._player)

    def _carry(self, player: socket.socket) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(player, selectors.EVENT_READ, self._from_player)
            ready.register(self._camera, selectors.EVENT_READ, self._from_camera)
            while all(key.data(player) for key, _ in ready.select()):
                pass

    def _from_player(self, player: socket.socket) -> bool:
        """Whether it goes on."""
        request = player.recv(CHUNK)
        self._plays = self._plays or request.startswith(b"PLAY ")
        self._camera.sendall(request)
        return bool(request)

    def _from_camera(self, player: socket.socket) -> bool:
        """Whether it goes on. Until it plays, what it says is looked at: then FFmpeg follows
        nothing any more.
        """
        part = self._camera.recv(CHUNK)
        while isinstance(self._camera, ssl.SSLSocket) and self._camera.pending():
            part += self._camera.recv(self._camera.pending())
        if not self._connections.takes(len(part)):
            return False
        if not self._plays:
            self._said += part.replace(b"\r", b"")
            statuses = STATUS.findall(self._said)
            if not all(USUAL.fullmatch(status) for status in statuses):
                self._connections.fault = REDIRECTED
                return False
            if len(self._said) > TEXT_AT_MOST:
                self._connections.fault = "what answers there does not speak RTSP"
                return False
        player.sendall(part)
        return bool(part)
