"""What `environment` in the settings means for a server: production refuses to start unsafely,
development starts anew when the source changes.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import stat
import string
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

import headway
from headway.settings import ServerSettings, Settings, SettingsError, log_level
from headway.telemetry.threads import keep_running

SECRET_KEY = "HEADWAY_SECRET_KEY"
DATABASE_URL = "HEADWAY_DATABASE_URL"
SHORTEST_SECRET = 32  # characters; as long as the digest that it keys (RFC 7518, 3.2)
SHORTEST_PASSWORD = 8  # characters, of a database that others may reach
FEWEST_DIFFERENT = 10  # characters
WIDEST_V4, WIDEST_V6 = 8, 16  # bits of the shortest prefix of a network of proxies: 10.0.0.0/8
MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # all of IPv4 within IPv6
PRIVATE_V6 = ipaddress.IPv6Network("fc00::/7")
COMMON_WORDS = (
    "changeme", "change-me", "change_me", "default", "example", "headway", "insecure", "password",
    "postgres", "qwerty", "secret", "test", "12345",
)  # fmt: skip
STATE_TLS = (
    "production needs https. Give server.tls_certificate and server.tls_key; or, if a proxy "
    "before the server does TLS, state its addresses: server: {proxies: [127.0.0.1]}"
)
RELOAD_EVERY_S = 1.0


def refuse_unsafe(
    settings: Settings, folder: Path, variables: Mapping[str, str], has_port: bool = True
) -> None:
    """Raises SettingsError with all that is unsafe in production; in any environment for TLS files
    that cannot be used. has_port: others can connect to it.
    """
    if has_port:
        _check_tls(settings.server)
    if settings.environment != "production":
        return
    if faults := list(_unsafe(settings, folder, variables, has_port)):
        raise SettingsError(
            "\n".join(["environment: production refuses to start:", *(f"- {f}." for f in faults)])
        )


def _unsafe(
    settings: Settings, folder: Path, variables: Mapping[str, str], has_port: bool
) -> Iterator[str]:
    if has_port and not settings.server.tls_certificate and not settings.server.proxies:
        yield STATE_TLS
    for proxy in settings.server.proxies:
        if _is_everybody(proxy):
            yield f"server.proxies: {proxy} believes anybody. Give the addresses of your proxies"
    if log_level(settings) == "debug":
        yield "log.level is debug. Give info, or leave it out"
    for name, secret in _secrets(settings, variables):
        if secret and (why := weakness(secret)):
            yield f"{name} {why}. Make one: openssl rand -base64 48"
    mail = settings.notify.mail
    if mail is not None and mail.password and mail.security == "none":
        yield "notify.mail.password would be sent unencrypted. Give security: starttls or tls"
    mqtt = settings.external.mqtt
    if mqtt is not None and mqtt.password and not mqtt.tls and not _is_this_machine(mqtt.host):
        yield "external.mqtt.password would be sent unencrypted. Give tls: true"
    if why := _weak_database(variables.get(DATABASE_URL, "")):
        yield why
    keys = folder / "keys.json"
    if keys.exists() and stat.S_IMODE(keys.stat().st_mode) & 0o077:
        yield f"{keys} can be read by others. Run: chmod 600 {keys}"


def _secrets(settings: Settings, variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield SECRET_KEY, variables.get(SECRET_KEY, "")
    for number, hook in enumerate(settings.notify.webhooks):
        yield f"notify.webhooks.{number}.secret", hook.secret


def weakness(secret: str) -> str:
    """Why a secret could be guessed; empty where it could not."""
    if len(secret) < SHORTEST_SECRET:
        return f"is shorter than {SHORTEST_SECRET} characters"
    if len(set(secret)) < FEWEST_DIFFERENT:
        return f"has fewer than {FEWEST_DIFFERENT} different characters"
    if 2 * _period(secret) <= len(secret):
        return "repeats itself"
    plain = secret.lower()
    if any(plain.startswith(word) for word in COMMON_WORDS):
        return "begins with a common word"
    neighbours = sum(abs(ord(a) - ord(b)) <= 1 for a, b in pairwise(plain))
    if 2 * neighbours > len(plain):
        return "is a sequence of neighbours, such as abcdef"
    return ""


def _period(text: str) -> int:
    """Length of the shortest text that `text` is a repetition of, its end perhaps cut."""
    return next(n for n in range(1, len(text) + 1) if text.startswith(text[n:]))


def _is_everybody(network: str) -> bool:
    """A network so wide that no one operator has it."""
    net = ipaddress.ip_network(network, strict=False)
    if isinstance(net, ipaddress.IPv4Network):
        return net.prefixlen < WIDEST_V4
    if net.subnet_of(MAPPED):
        return net.prefixlen < MAPPED.prefixlen + WIDEST_V4
    return net.prefixlen < WIDEST_V6 and not net.subnet_of(PRIVATE_V6)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _weak_database(address: str) -> str:
    """A password of an example is as good as none; none at all is for sockets and certificates."""
    if not address:
        return ""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        return ""  # refused where it is opened
    password, user = str(url.password or "").lower(), (url.username or "").lower()
    if not password:
        return ""
    word = password.strip(string.digits + string.punctuation)  # headway1, 123456
    if word in ("", *COMMON_WORDS, "admin", "root", "user", user):
        return f"{DATABASE_URL}: its password is a common word. Give the database user another"
    if len(password) < SHORTEST_PASSWORD or 2 * _period(password) <= len(password):
        return (
            f"{DATABASE_URL}: its password is shorter than {SHORTEST_PASSWORD} characters, or "
            "repeats itself. Give the database user another"
        )
    return ""


def _check_tls(server: ServerSettings) -> None:
    if not server.tls_certificate:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server.tls_certificate, server.tls_key)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"server.tls_certificate, tls_key: {server.tls_certificate} with {server.tls_key} "
            f"cannot be used ({error}). Give a certificate and its key as PEM files."
        ) from error


class Reload:
    """Watches the source of Headway; calls `stop` once when a file changes.

    wanted: a file has changed.
    """

    def __init__(self, stop: Callable[[], object], every_s: float = RELOAD_EVERY_S) -> None:
        self.wanted = False
        self._stop = stop
        self._every_s = every_s
        self._ended = threading.Event()
        self._folder = Path(headway.__file__).parent

    def start(self) -> None:
        keep_running("reload", self._watch, self._ended)

    def end(self) -> None:
        self._ended.set()

    def _watch(self) -> None:
        first = self._stamps()
        while not self._ended.wait(self._every_s):
            if self._stamps() != first:
                self.wanted = True
                self._stop()
                return

    def _stamps(self) -> dict[Path, int]:
        stamps = {}
        for path in self._folder.rglob("*.py"):
            try:
                stamps[path] = path.stat().st_mtime_ns
            except OSError:  # it is being written
                stamps[path] = 0
        return stamps


def start_anew() -> None:
    """The same command in place of this process."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "headway", *sys.argv[1:]])
