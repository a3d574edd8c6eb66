"""What passes between a street's process and those that follow it: each message comes through as it
was, and nothing else comes through.
"""

from __future__ import annotations

import pickle
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.streets import SNAPSHOT

from headway.control.models import ModelFile
from headway.plants.sumo import Scene, network_of, scenario
from headway.safety import Order, Override
from headway.service import wire
from headway.service.stops import Stop
from headway.service.wire import (
    CLASSES,
    Colours,
    News,
    Past,
    PastRow,
    Placed,
    Standing,
    WireError,
    decode,
    encode,
    settings_from,
    settings_to_send,
    stamp_of,
)
from headway.settings import RecoverySettings, RuleSettings, Settings, overridden
from headway.store.spool import Backlog
from headway.street.external.merge import Reported, SourceRows
from headway.street.external.rows import ObservationRow, ObservedVehicle
from headway.street.messages import (
    AtJunction,
    CanaryBounds,
    ChangeRule,
    Deploy,
    JunctionState,
    KnownRule,
    Optimise,
    Pause,
    Release,
    Reset,
    Rollback,
    Switch,
)

RULE = RuleSettings(name="long wait", path="junctions.*.longest_wait_s", threshold=90.0)
HOLD = Override(junction=1, order=Order.STAGE, until_s=60.0, by="Ann", stage=2)
MODEL = ModelFile("m", 3, "planner", "0" * 64, "models/00/m")
JUNCTION = JunctionState(
    "360082", 25300.0, 11, 5, 42.26, (1, 3), 0.87, mean_speed_mps=3.5, factors={"novelty": 0.9},
    congested=("north",), fault="lamps", order=HOLD,
)  # fmt: skip
WHOLE = replace(
    SNAPSHOT, junctions=(JUNCTION,), report={"loop": [1, None, {"a": 2.5}]}, emission=(3, 1.0, 2.0),
    end_s=float("inf"), sources=({"source": "x", "weight": 0.5},), rules=(KnownRule(RULE, True),),
    models={"champion": {"model": "m@3"}}, paused_by="Ann",
)  # fmt: skip
STANDING = Standing(
    "main", "box process 7", False, 12, "cologne1", "cologne1", "a.net.xml", ("a.add.xml",),
    25200.0, "ab", settings_to_send(Settings()), True, stop=Stop("Ann", 5.0),
    alerts=({"number": 1},), backlog=Backlog(3, 4096, 1.7e9),
)  # fmt: skip
PAST = Past(
    7, 44, WHOLE, {"a": 1}, (PastRow(5.0, 1.5, 3, 1),), ({"kind": "x"},), ({"id": "a"},),
    ((1.0, 2, 3),),
)  # fmt: skip
AT = (
    AtJunction(HOLD, "j", 60.0),
    AtJunction(Release(1, "Ann"), "j"),
    AtJunction(Reset(1, "A"), "j"),
)
ORDERS = (
    *AT, Optimise(5.0, 1.0), Switch("webster", optimise=True), Pause("Ann"), ChangeRule("r", RULE),
    ChangeRule("r", None), Rollback("canary", ("j",), "Ann"),
    Deploy("canary", MODEL, ("j",), CanaryBounds(hours=((7.0, 9.5),)), "Ann"),
)  # fmt: skip
ROW = ObservationRow(junction="j", at_s=5.0, vehicles=[ObservedVehicle(3.0, kind="bus")])
REPORTED = Reported("cam", (SourceRows("cam:1", (ROW,), 1, 2, 0.5, True),), 1.7e9, 99)
MESSAGES = (
    News("alerts", {"kind": "alert.opened", "data": {"value": 1.5}}), Colours(((1.7e9, 3, 4),)),
    WHOLE, STANDING, PAST, HOLD, Release(1, "A"), Reset(2, "B"), *ORDERS, REPORTED,
    Placed("place", {"id": "a", "arguments": {}}, ORDERS), Placed("stop", {"id": "b"}),
)  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_comes_through_as_it_was(message):
    found = decode(encode(message))
    assert found == message
    assert type(found) is type(message)


def test_every_class_has_come_through():
    assert {type(m) for m in MESSAGES} == {*CLASSES, AtJunction, Placed}


def test_vehicles_come_through_in_their_arrays():
    count = 3
    kinds = (np.uint32, np.float32, np.float32, np.float32, np.float32, np.uint8)
    columns = [np.arange(count, dtype=kind) for kind in kinds]
    columns[1] = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    found = decode(encode(replace(WHOLE, scene=Scene(*columns)))).scene
    for name, column in zip(Scene.__slots__, columns, strict=True):
        assert getattr(found, name).dtype == column.dtype
        assert (getattr(found, name) == column).all()


def written(name, fields):
    return msgspec.msgpack.encode([name, fields])


def placed(action, *orders):
    return written("_Placed", {"action": action, "order": {}, "orders": orders})


def scene(shape, data):
    columns = {name: [[1], b"\0\0\0\0"] for name in Scene.__slots__}
    return written("Snapshot", FIELDS | {"scene": columns | {"number": [shape, data]}})


FIELDS = msgspec.msgpack.decode(msgspec.msgpack.encode(WHOLE, enc_hook=wire._written))
ENDLESS = {"junction": 1, "order": "hold", "until_s": float("nan"), "by": "x"}
OF_ANOTHER_KIND = {"kind": "Switch", "order": {}, "junction": "j", "lasts_s": 1.0}
HOSTILE = {
    "nothing": b"",
    "a pickle": pickle.dumps(STANDING),
    "deep": b"\x91" * 100_000,
    "another class": written("Task", {}),
    "a class of Python": written("builtins.eval", {"a": 1}),
    "a snapshot for an order": placed("place", ["Snapshot", {}]),
    "what is no order": placed("place", ["Colours", {"changes": []}]),
    "an unknown action": placed("erase"),
    "an unknown kind": written("_AtJunction", OF_ANOTHER_KIND),
    "a field that is missing": written("Snapshot", {"time_s": 1.0}),
    "a field of another type": written("Snapshot", FIELDS | {"time_s": "soon"}),
    "an array that is too short": scene([9], b""),
    "a shape below zero": scene([-1], b""),
    "a shape that is huge": scene([2**62, 2**62], b""),
    "an array of text": scene([1], "abcd"),
    "an override without an end": written("Override", ENDLESS),
    "a rule that is none": written("ChangeRule", {"name": "a", "rule": {"name": "a"}}),
    "a topic that is none": written("News", {"topic": "realtime", "message": {}}),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(WireError):
        decode(data)


@given(st.binary(max_size=200))
def test_bytes_of_anybody_are_refused_and_do_nothing_else(data):
    with pytest.raises(WireError):
        decode(data)


@given(st.sampled_from(MESSAGES), st.data())
def test_a_message_that_was_damaged_is_refused_or_is_another_message(message, data):
    good = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(good))
    except WireError:
        return
    assert type(found) in (*CLASSES, AtJunction, Placed)


def test_what_is_too_long_is_neither_sent_nor_read(monkeypatch):
    long = encode(WHOLE)
    monkeypatch.setattr(wire, "MOST_BYTES", len(long) - 1)
    with pytest.raises(WireError, match="too long"):
        encode(WHOLE)
    with pytest.raises(WireError, match="too long"):
        decode(long)


def test_what_has_no_class_here_is_not_sent():
    with pytest.raises(WireError, match="Settings"):
        encode(Settings())
    with pytest.raises(WireError, match="cannot be sent"):
        encode(Colours(((1.7e9, 2**70, 1),)))


def test_settings_come_through_without_what_is_nobodys_business(monkeypatch):
    monkeypatch.setenv("HEADWAY_STREET__SEED", "77")
    own = overridden(
        Settings(),
        {
            "street": {"scenario": "cologne3", "seed": 5},
            "notify": {"webhooks": [{"url": "https://a.b/c", "secret": "S" * 16}]},
        },
    )
    sent = settings_to_send(own)
    assert "S" * 16 not in repr(sent)
    found = settings_from(sent, recovery=RecoverySettings(folder="elsewhere"))
    assert (found.street.scenario, found.street.seed) == ("cologne3", 5)
    assert (found.recovery.folder, found.notify) == ("elsewhere", Settings().notify)
    with pytest.raises(WireError, match="another version"):
        settings_from({"street": {}})


def test_a_stamp_is_of_one_network():
    one, other = (network_of(scenario(name)) for name in ("cologne1", "cologne3"))
    again = network_of(scenario("cologne1"))
    assert stamp_of(one) == stamp_of(again) != stamp_of(other)
