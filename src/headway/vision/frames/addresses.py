"""Which addresses a camera may have. A name is resolved once, every address that it has is checked,
and the connection goes to a checked address: a name that changes its address meanwhile gains
nothing.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from headway.vision import SensingError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Iterable[str]]
"""(host, port) to addresses. Raises OSError for a name that nobody knows."""

# what is no place of a camera, and why; everything else is allowed, private networks above all
REFUSED = tuple(
    (ipaddress.ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "unspecified"),
        ("100.100.100.200/32", "a metadata service"),  # Alibaba Cloud
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a metadata service"),  # Azure
        ("169.254.169.254/32", "a metadata service"),  # most clouds
        ("169.254.0.0/16", "link-local"),
        ("192.0.0.192/32", "a metadata service"),  # Oracle Cloud
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved or broadcast"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("fd00:ec2::254/128", "a metadata service"),  # AWS
        ("fd20:ce::254/128", "a metadata service"),  # Google Cloud
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)
# IPv6 addresses whose last 32 bits are the IPv4 address that is reached
WITH_IPV4 = tuple(
    ipaddress.IPv6Network(network)
    for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)
HOST = re.compile(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?")
NUMERIC = re.compile(r"(0[xX][0-9A-Fa-f]*|[0-9]+)(\.(0[xX][0-9A-Fa-f]*|[0-9]+))*\.?")
REMEDY = "allow its network by cameras.allowed_networks"
ESCAPES = (
    "In a user name or password write / as %2F, ? as %3F, # as %23, @ as %40, : as %3A, [ as %5B, "
    "] as %5D and % as %25."
)
MOST_TRIED = 4  # addresses of a name
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


class AddressError(SensingError):
    """An address that a camera may not have. It never names a password."""


@dataclass(frozen=True, slots=True)
class Place:
    """The parts of an address. user: with its "@", or empty; rest: path and query."""

    scheme: str
    user: str
    host: str
    port: int
    rest: str


def place_of(url: str) -> Place:
    """Raises AddressError for an address without a valid host and port."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    is_sound = bool(HOST.fullmatch(host)) and port != 0 and url.isprintable()
    if not is_sound or parts.scheme not in PORTS:
        raise AddressError(f"source: the address has no valid host and port. {ESCAPES}")
    user, at, _ = parts.netloc.rpartition("@")
    rest = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(parts.scheme, user + at, host, port or PORTS[parts.scheme], rest)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Raises ValueError for one that is none."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def require_allowed(address: Address, allowed: Iterable[Network] = ()) -> None:
    """Raises AddressError for loopback, link-local, metadata, multicast and unspecified addresses
    that are in none of the `allowed` networks; also where an IPv6 address stands for one.
    """
    permitted = tuple(allowed)
    for each in reached_by(address):
        why = next((why for network, why in REFUSED if each in network), "")
        if why and not any(each in network for network in permitted):
            raise AddressError(f"the address {address} is {why} ({each}): {REMEDY}")


def reached_by(address: Address) -> Iterator[Address]:
    """The address itself, and the IPv4 addresses that it stands for; of one that is mapped, these
    alone.
    """
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    bare = ipaddress.IPv6Address(int(address))  # without its zone
    if bare.ipv4_mapped is not None:
        yield bare.ipv4_mapped
        return
    yield bare
    if bare.sixtofour is not None:
        yield bare.sixtofour
    if bare.teredo is not None:
        yield from bare.teredo
    if int(bare) > 1 and any(bare in network for network in WITH_IPV4):
        yield ipaddress.IPv4Address(int(bare) & 0xFFFFFFFF)


def literal(host: str) -> Address | None:
    """The address that a host is; None for a name. Raises AddressError for an odd spelling, as
    2130706433, 0x7f.1 or 0177.0.0.1, which each reader takes for another address.
    """
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        if NUMERIC.fullmatch(host):
            raise AddressError(
                f"the host {host} is no address in the usual form: write four decimal numbers "
                "without leading zeros, as 192.168.1.20"
            ) from None
        return None


def require_allowed_url(url: str, allowed: Iterable[Network] = ()) -> None:
    """Whatever can be said of an address before its name is resolved. Raises AddressError."""
    address = literal(place_of(url).host)
    if address is not None:
        require_allowed(address, allowed)


def looked_up(host: str, port: int) -> list[str]:
    """The addresses of a name, by this machine's resolver. Raises OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host}: is no name") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_of_this_machine(address: str) -> bool:
    """Whether the way there does not leave this machine: then it begins where it ends. Nothing is
    sent.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as way:
            way.connect((address, PORTS["rtsp"]))
            return bool(way.getsockname()[0] == way.getpeername()[0])
    except OSError:  # there is no way
        return False


@dataclass(frozen=True, slots=True)
class Door:
    """Makes connections to cameras, to checked addresses alone."""

    allowed: tuple[Network, ...] = ()
    resolve: Resolver = looked_up
    is_own: Callable[[str], bool] = is_of_this_machine

    def addresses(self, host: str, port: int) -> list[str]:
        """Of a host, all of them checked: an address of this machine itself is as loopback. Raises
        AddressError, or OSError for an unknown name.
        """
        address = literal(host)
        found = [str(address)] if address is not None else list(self.resolve(host, port))
        for each in found:
            address = ipaddress.ip_address(each)
            require_allowed(address, self.allowed)
            is_allowed = any(of in n for of in reached_by(address) for n in self.allowed)
            if self.is_own(each) and not is_allowed:
                raise AddressError(f"the address {each} is one of this machine: {REMEDY}")
        if not found:
            raise OSError(f"{host}: has no address")
        return found

    def connect(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """To the first of its addresses that answers, of MOST_TRIED: each may take the whole time.
        Raises AddressError, OSError.
        """
        addresses = self.addresses(host, port)[:MOST_TRIED]
        for each in addresses[:-1]:
            try:
                return socket.create_connection((each, port), timeout_s)
            except OSError:
                continue
        return socket.create_connection((addresses[-1], port), timeout_s)
