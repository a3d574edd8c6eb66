"""Which addresses a camera may have: by hand from the registries of IANA, and from what clouds
document of their metadata services.
"""

from __future__ import annotations

import ipaddress
import socket

import pytest

from headway.vision.frames.addresses import (
    AddressError,
    Door,
    is_of_this_machine,
    networks,
    place_of,
    require_allowed,
    require_allowed_url,
)

NOT_FOR_CAMERAS = (
    "127.0.0.1", "127.255.255.255", "::1",  # RFC 1122, 4291: loopback
    "169.254.0.1", "169.254.169.254", "169.254.170.2", "fe80::1", "febf::1",  # link-local
    "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192",  # metadata
    "224.0.0.1", "239.255.255.250", "ff02::1",  # multicast
    "0.0.0.0", "0.1.2.3", "::",  # unspecified
    "255.255.255.255", "240.0.0.1",  # broadcast, reserved
    "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1",  # mapped, compatible
    "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b:1::a9fe:a9fe",  # 6to4, NAT64
    "2001:0:102:304::8000:fffe",  # Teredo of the client 127.255.0.1, written inverted
)  # fmt: skip
OF_CAMERAS = (
    "10.0.0.1", "172.16.5.5", "192.168.1.20", "100.64.0.1", "203.0.113.9", "8.8.8.8",
    "fd12:3456::7", "2001:db8::7", "::ffff:192.168.1.20", "64:ff9b::c0a8:114",
)  # fmt: skip


@pytest.mark.parametrize("address", NOT_FOR_CAMERAS)
def test_addresses_that_are_of_no_camera_are_refused_with_the_remedy(address):
    with pytest.raises(AddressError, match=r"allow its network by cameras\.allowed_networks"):
        require_allowed(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", OF_CAMERAS)
def test_private_and_public_networks_are_allowed(address):
    require_allowed(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("127.0.0.1", "127.0.0.0/8"), ("::1", "::1/128"), ("169.254.7.7", "169.254.7.0/24"),
        ("::ffff:127.0.0.1", "127.0.0.0/8"), ("239.1.1.1", "239.1.1.1/32"),
    ],
)  # fmt: skip
def test_the_setting_allows_its_networks_and_no_other(address, allowed):
    require_allowed(ipaddress.ip_address(address), networks([allowed]))
    with pytest.raises(AddressError):
        require_allowed(ipaddress.ip_address("169.254.169.254"), networks([allowed]))


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "017700000001", "127.0.0.1.",
     "0xa9fea9fe", "2852039166", "3232235777", "010.0.0.1", "1.2.3.4.5"],
)  # fmt: skip
def test_odd_spellings_are_refused_whatever_they_stand_for(host):
    with pytest.raises(AddressError, match="no address in the usual form"):
        require_allowed_url(f"rtsp://me:pw@{host}/live", networks(["0.0.0.0/0"]))
    with pytest.raises(AddressError, match="no address in the usual form"):
        Door(networks(["0.0.0.0/0"])).addresses(host, 554)


@pytest.mark.parametrize(
    "url",
    ["rtsp://", "rtsp:///x", "rtsp://[::1/x", "rtsp://a:0/", "rtsp://a:70000/", "rtsp://a b/",
     "rtsp://a%00b/", "rtsp://north\r\nX: y/", "rtsp://１２７.0.0.1/", "ftp://a/b"],
)  # fmt: skip
def test_an_address_without_a_sound_host_is_refused(url):
    with pytest.raises(AddressError, match="no valid host and port"):
        place_of(url)


def test_an_address_has_its_parts():
    place = place_of("rtsp://me:p@w@North.lan:8554/a/b?c=d")
    assert (place.scheme, place.user, place.host, place.port, place.rest) == (
        "rtsp",
        "me:p@w@",
        "north.lan",
        8554,
        "/a/b?c=d",
    )
    assert place_of("https://[fd12::7]").port == 443
    assert place_of("https://[fd12::7]").host == "fd12::7"


def test_one_refused_address_of_a_name_refuses_the_name():
    door = Door(resolve=lambda host, port: ["192.168.1.20", "127.0.0.1"])
    with pytest.raises(AddressError, match=r"127\.0\.0\.1 is loopback"):
        door.connect("camera.example", 554, 1.0)


def test_a_name_is_looked_up_once_and_the_connection_goes_to_what_was_checked(monkeypatch):
    """DNS rebinding: the second answer for the name is loopback, and is never asked for."""
    answers = [["192.168.1.20"], ["127.0.0.1"]]
    asked, connected = [], []

    def resolve(host, port):
        asked.append(host)
        return answers[len(asked) - 1]

    monkeypatch.setattr(
        socket, "create_connection", lambda address, timeout: connected.append(address)
    )
    Door(resolve=resolve).connect("camera.example", 554, 1.0)
    assert (asked, connected) == (["camera.example"], [("192.168.1.20", 554)])


def test_the_next_address_of_a_name_is_tried_where_one_does_not_answer(monkeypatch):
    tried = []

    def connect(address, timeout):
        tried.append(address[0])
        if len(tried) == 1:
            raise ConnectionRefusedError
        return "socket"

    monkeypatch.setattr(socket, "create_connection", connect)
    door = Door(resolve=lambda host, port: ["10.0.0.1", "10.0.0.2"])
    assert door.connect("camera.example", 80, 1.0) == "socket"
    assert tried == ["10.0.0.1", "10.0.0.2"]


def test_a_name_with_many_addresses_holds_nobody_up_for_long(monkeypatch):
    tried = []

    def connect(address, timeout):
        tried.append(address[0])
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", connect)
    found = [f"10.0.0.{number}" for number in range(1, 200)]
    with pytest.raises(TimeoutError):
        Door(resolve=lambda host, port: found).connect("camera.example", 80, 5.0)
    assert tried == found[:4]
    with pytest.raises(AddressError):  # all of them are checked nevertheless
        Door(resolve=lambda host, port: [*found, "127.0.0.1"]).connect("camera.example", 80, 5.0)


def test_an_address_of_this_machine_is_as_loopback():
    """Not by its networks: whatever address leads here, which the kernel knows."""
    door = Door(resolve=lambda host, port: ["192.168.1.20", "::ffff:192.168.1.20"])
    own = Door(door.allowed, door.resolve, is_own=lambda address: address.endswith("1.20"))
    assert door.addresses("north", 554)
    with pytest.raises(AddressError, match=r"192\.168\.1\.20 is one of this machine: allow its n"):
        own.addresses("north", 554)
    allowed = Door(networks(["192.168.1.20/32"]), door.resolve, own.is_own)
    assert len(allowed.addresses("north", 554)) == 2


def test_the_kernel_says_which_addresses_are_of_this_machine():
    assert is_of_this_machine("127.0.0.1")
    assert not is_of_this_machine("203.0.113.9")
    assert not is_of_this_machine("no address")
