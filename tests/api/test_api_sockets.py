"""Direct writes to uvicorn's WebSocket connection:
when a message is written at once, and in which form.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import types

import pytest

from headway.api.hub import Client, Hub, LiveMessage
from headway.api.sockets import DELIVER, DIRECT, Connection


def connection(bits=0, waiting=0, socket_number=-1, **state):
    """A connection, open and ready but for what is named, whose transport writes to `out`."""
    writable, out = threading.Event(), []
    if state.pop("writable", True):
        writable.set()
    closing = state.pop("closing", False)
    found = object.__new__(Connection)
    found.transport = types.SimpleNamespace(
        is_closing=lambda: closing, write=out.append, get_write_buffer_size=lambda: waiting
    )
    ready = {"handshake_complete": True, "disconnected": False, "close_sent": False}
    for name, value in (ready | state).items():
        setattr(found, name, value)
    found.writable, found.window_bits, found.out = writable, bits, out
    found.socket_number = socket_number
    return found


@pytest.mark.parametrize("bits", [0, 12])
def test_a_message_is_written_as_its_frame(bits):
    one, message = connection(bits), LiveMessage(1, b"{}" * 100)
    assert Connection.deliver(one, message) is True
    assert one.out == [message.frame(bits)]


@pytest.mark.parametrize(
    "state",
    [
        {"handshake_complete": False},
        {"disconnected": True},
        {"close_sent": True},
        {"writable": False},
        {"closing": True},
    ],
)
def test_a_connection_that_is_not_ready_accepts_no_frame(state):
    one = connection(**state)
    assert Connection.deliver(one, LiveMessage(1, b"{}")) is False
    assert one.out == []


def test_the_socket_itself_is_offered_only_while_nothing_waits_before_it():
    assert connection(socket_number=7).descriptor() == 7
    assert connection(socket_number=7, waiting=1).descriptor() == -1
    assert connection(socket_number=7, closing=True).descriptor() == -1
    assert connection(socket_number=-1).descriptor() == -1  # TLS, or it is gone


def test_a_message_goes_to_the_socket_and_the_rest_to_the_transport():
    """Of three sockets one takes all, one is full after a part, one is gone."""
    hub, pairs, clients = Hub(), [socket.socketpair() for _ in range(3)], []
    for mine, other in pairs:
        mine.setblocking(False)
        other.setblocking(False)
        direct = connection(socket_number=mine.fileno())
        clients.append(Client("alerts", direct=direct, deliver=direct.deliver))
        hub.join(clients[-1])
    (_, whole), (full, part), (_, gone) = pairs
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += full.send(b"x")
    gone.close()
    hub.broadcast("alerts", "s", {"n": 1})
    message = LiveMessage(0, whole.recv(1 << 16)[2:])
    assert json.loads(message.text)["data"] == {"n": 1}
    frame = message.frame()
    assert [client.direct.out for client in clients] == [[], [frame], [frame]]
    assert [client.sent for client in clients] == [1, 1, 1]
    assert len(part.recv(1 << 24)) <= filled
    for pair in pairs:
        for one in pair:
            one.close()


def test_whoever_is_behind_gets_messages_in_order():
    """While an earlier message waits, the next ones are not written past it."""
    hub, (mine, other) = Hub(), socket.socketpair()
    direct = connection(socket_number=mine.fileno())
    client = Client("alerts", direct=direct, deliver=direct.deliver, sending=True)
    hub.join(client)
    hub.broadcast("alerts", "s", {"n": 1})
    client.sending = False
    hub.broadcast("alerts", "s", {"n": 2})
    other.setblocking(False)
    with pytest.raises(BlockingIOError):
        other.recv(1)
    assert [json.loads(m.text)["data"]["n"] for m in client.buffer] == [1, 2]
    mine.close()
    other.close()


def test_the_socket_routes_have_their_own_names():
    assert (DELIVER, DIRECT) == ("headway.deliver", "headway.direct")
