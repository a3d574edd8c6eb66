"""Signs of life, as systemd hears them: datagrams to a socket whose address it gives."""

from __future__ import annotations

import os
import socket
import time

import pytest

from headway import __version__
from headway.telemetry.life import SignsOfLife, signer


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    """(what systemd hears, the variables that it sets)."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@headway-{os.getpid()}-life"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(name.replace("@", "\0", 1))
        heard.setblocking(False)
        yield heard, {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "20000000"}


def words(heard):
    found = []
    while True:
        try:
            found.append(heard.recv(100).decode())
        except BlockingIOError:
            return found


def test_the_first_sign_says_that_it_has_started_and_the_others_that_it_works(systemd):
    heard, variables = systemd
    now = [0.0]
    signs = SignsOfLife(variables=variables, clock=lambda: now[0])
    assert words(heard) == []  # nobody has started before the first
    for now[0] in (0.0, 1.0, 4.9, 5.0, 6.0, 10.1):  # a quarter of the 20 s is 5 s
        signs.give()
    assert words(heard) == ["READY=1\nWATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]
    signs.end()
    assert words(heard) == ["STOPPING=1"]


def test_a_process_that_is_not_watched_says_only_that_it_has_started(systemd):
    heard, variables = systemd
    del variables["WATCHDOG_USEC"]
    now = [0.0]
    signs = SignsOfLife(variables=variables, clock=lambda: now[0])
    for now[0] in (0.0, 100.0):
        signs.give()
    assert words(heard) == ["READY=1"]


@pytest.mark.parametrize("is_ours", [True, False])
def test_the_watchdog_of_another_process_is_left_to_it(systemd, is_ours):
    heard, variables = systemd
    pid = os.getpid() if is_ours else 1
    signs = SignsOfLife(variables=variables | {"WATCHDOG_PID": str(pid)})
    signs.give()
    assert words(heard) == ["READY=1" + "\nWATCHDOG=1" * is_ours]


def test_each_sign_sets_the_time_of_its_file(tmp_path):
    path, now = tmp_path / "alive", [0.0]
    signs = SignsOfLife(path, {}, lambda: now[0])
    signs.give()
    os.utime(path, (1.0, 1.0))
    now[0] = 4.9
    signs.give()
    assert path.stat().st_mtime == 1.0
    now[0] = 5.0
    signs.give()
    assert path.stat().st_mtime > 1.0


def test_its_file_says_who_gave_the_last_sign(tmp_path):
    path = tmp_path / "alive"
    path.write_text("")
    SignsOfLife(path, {}).give()
    first = signer(path.read_text())
    assert (first.version, str(os.getpid()) in first.who) == (__version__, True)
    assert first.begun_s == pytest.approx(time.time(), abs=30.0)
    SignsOfLife(path, {}).give()
    assert signer(path.read_text()).begun_s >= first.begun_s
    assert len(path.read_text().splitlines()) == 1
    assert signer("") is None, "of a release that only touched it"


def test_it_goes_on_where_nobody_listens_and_nothing_can_be_written(tmp_path):
    signs = SignsOfLife(
        tmp_path / "none" / "alive", {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "?"}
    )
    signs.give()
    signs.end()
