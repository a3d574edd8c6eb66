"""Direct writes to uvicorn's WebSocket connection:
when a message is written at once, and in which form.
"""

from __future__ import annotations

import threading
import types

import pytest

from headway.api.hub import LiveMessage
from headway.api.sockets import DELIVER, Connection


def connection(bits=0, **state):
    """As the connection stands for `deliver`; open and ready, but for what is named."""
    writable, out = threading.Event(), []
    if state.pop("writable", True):
        writable.set()
    closing = state.pop("closing", False)
    transport = types.SimpleNamespace(is_closing=lambda: closing, write=out.append)
    ready = {"handshake_complete": True, "disconnected": False, "close_sent": False}
    return types.SimpleNamespace(
        **ready | state, writable=writable, transport=transport, window_bits=bits, out=out
    )


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


def test_the_socket_route_has_its_own_name():
    assert DELIVER == "headway.deliver"
