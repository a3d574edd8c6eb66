"""Streams of cameras whose addresses are checked: every connection, also one after a redirect, is
made by a `Door`; FFmpeg itself opens none but to this process.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import selectors
import socket
import ssl
import threading
import urllib.error
import urllib.request
from email.message import Message
from functools import partial
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

from headway.vision import SensingError
from headway.vision.frames.addresses import PORTS, Door, place_of

CHUNK = 1 << 18
IN_URL = "/?#[]@!$&'()*+,;=:%~"  # what stays as it is in the path and query of an address
OWN = "127.0.0.1"
TEXT_AT_MOST = 1 << 20  # bytes that a camera may say before it plays
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


class HttpStream:
    """What an http:// or https:// address gives, as a file that is read once. Redirects are
    followed, to addresses that the door lets through.

    Raises SensingError or OSError.
    """

    def __init__(self, url: str, door: Door, silent_s: float) -> None:
        place = place_of(url)
        host = f"[{place.host}]" if ":" in place.host else place.host
        port = "" if place.port == PORTS[place.scheme] else f":{place.port}"
        self.name = f"{place.scheme}://{host}{port}{quote(place.rest, safe=IN_URL)}"
        request = urllib.request.Request(  # noqa: S310 - http and https alone
            self.name, headers={"User-Agent": "Headway", "Accept": "*/*", "Icy-MetaData": "0"}
        )
        try:
            self._answer: http.client.HTTPResponse = _opener(place.user, self.name, door).open(
                request, timeout=silent_s
            )
        except urllib.error.HTTPError as error:
            error.close()
            raise SensingError(_refusal(error.code)) from None
        except urllib.error.URLError as error:
            raise error.reason if isinstance(error.reason, OSError) else _no_http() from None
        except http.client.HTTPException:
            raise _no_http() from None

    def read(self, size: int) -> bytes:
        """As soon as there is something. Raises OSError."""
        try:
            return self._answer.read1(size)
        except http.client.HTTPException:  # it ends within a part
            return b""

    def close(self) -> None:
        self._answer.close()


def _no_http() -> SensingError:
    return SensingError("what answers there does not speak HTTP")


def _refusal(status: int) -> str:
    known = {401: "the user name or the password is wrong", 404: "there is no such stream"}
    return known.get(status, f"it answers with HTTP status {status}")


def _opener(user: str, url: str, door: Door) -> urllib.request.OpenerDirector:
    """user: of the address, sent to where it points alone."""
    name, _, password = user.removesuffix("@").partition(":")
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if user:
        passwords.add_password(None, url, unquote(name), unquote(password))
    opener = urllib.request.OpenerDirector()
    for handler in (
        _Plain(door),
        _Tls(door),
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
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _PlainConnection(http.client.HTTPConnection):
    def __init__(self, door: Door, host: str, **options: Any) -> None:
        super().__init__(host, **options)
        self._door = door

    def connect(self) -> None:
        self.sock = self._door.connect(self.host, self.port, self.timeout or 0.0)


class _TlsConnection(_PlainConnection):
    default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        super().connect()
        self.sock = tls().wrap_socket(self.sock, server_hostname=self.host)


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, door: Door) -> None:
        super().__init__()
        self._made = partial(_PlainConnection, door)

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._made, req)


class _Tls(urllib.request.HTTPSHandler):
    def __init__(self, door: Door) -> None:
        super().__init__()
        self._made = partial(_TlsConnection, door)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._made, req)


class Relay:
    """Stands between FFmpeg and a camera of rtsp:// or rtsps://, which the door has let through.
    FFmpeg would follow a camera that sends it elsewhere: such an answer ends the connection.

    url: what FFmpeg is to open. fault: why the connection was ended, empty where it was not.
    Raises AddressError or OSError.
    """

    def __init__(self, url: str, door: Door, silent_s: float) -> None:
        place = place_of(url)
        self.fault = ""
        self._camera = door.connect(place.host, place.port, silent_s)
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

    def close(self) -> None:
        for each in (self._listener, self._player, self._camera):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._thread.join()

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
        if not self._plays:
            self._said += part.replace(b"\r", b"")
            statuses = STATUS.findall(self._said)
            if not all(USUAL.fullmatch(status) for status in statuses):
                self.fault = REDIRECTED
                return False
            if len(self._said) > TEXT_AT_MOST:
                self.fault = "what answers there does not speak RTSP"
                return False
        player.sendall(part)
        return bool(part)
