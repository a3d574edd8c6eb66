"""The state of a street as a file: what every controller and the gate remember comes back bit by
bit, and no file runs code or gets a state of another street in.
"""

from __future__ import annotations

import contextlib
import math
import pickle
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.street.builders import MadePlant, Says, street_of, two_junctions, vehicles

from headway.control.catalogue import CONTROLLERS
from headway.plants.sumo import SumoSettings, read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import BENCHMARK, work_out
from headway.safety import Order, Override
from headway.street.external.merge import External, Reported, SourceRows
from headway.street.external.rows import ObservationRow
from headway.street.external.sources import PRIOR, Source
from headway.street.opening import open_street
from headway.street.state_file import StateError, decode, encode, require_like


def _bytes(array):
    columns = [array[name] for name in array.dtype.names] if array.dtype.names else [array]
    return [column.tobytes() for column in columns]


def same(a, b):
    """Equal by bits and by type, through all parts."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return (
            a.dtype == b.dtype
            and a.dtype.type is b.dtype.type
            and a.dtype.isalignedstruct == b.dtype.isalignedstruct
            and a.shape == b.shape
            and _bytes(a) == _bytes(b)  # what is between the fields of a record is anything
            and b.flags.writeable
        )
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b or (a != a and b != b)


@pytest.fixture(scope="module")
def cologne():
    of = scenario("cologne1")
    network = read_network(of.net)
    return of, network, work_out(network, BENCHMARK)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROLLERS)
def test_what_a_street_remembers_comes_back_bit_by_bit_and_goes_on_alike(cologne, tmp_path, name):
    """120 s and a checkpoint; 60 s more, and the same 60 s from the checkpoint."""
    of, network, timing = cologne
    ends = []
    state, classes = None, ()
    for load in (False, True):
        extra = ("--load-state", str(tmp_path / "plant.xml.gz")) if load else ()
        street = open_street(
            network,
            timing,
            SumoSettings(of.sumocfg, extra=extra),
            name,
            lambda event: None,
            relief="planner",
            step_within_s=math.inf,  # whatever the machine is busy with
        )
        try:
            if not load:
                for _ in range(120):
                    street.tick()
                street.gate.order(Override(0, Order.STAGE, 1e6, "Ann", 1), street.plant.time_s)
                street.tick()
                street.plant.checkpoint(tmp_path / "plant.xml.gz")
                classes = street.state_classes()
                state = encode(street.state(), classes)
                assert same(street.state(), decode(state, classes))
            else:
                street.resume(decode(state, classes))
            for _ in range(60):
                street.tick()
            ends.append(street.state())
        finally:
            street.plant.close()
    assert same(*ends)


# --- every value


class Pair(NamedTuple):
    a: int
    b: object


@dataclass
class Thing:
    x: object


class Colour(Enum):
    RED = "r"


CLASSES = (Pair, Thing, Colour)
arrays = st.sampled_from(
    [
        np.zeros(0, np.int8),
        np.array([[1.5, np.nan], [np.inf, -0.0]]),
        np.array([True, False]),
        np.array(7, np.uint64),
        np.ones(3, np.dtype((np.record, np.dtype([("a", "f8"), ("b", "?")], align=True)))),
        np.zeros(2, [("a", "i1"), ("b", "f8")]),
        np.arange(6).reshape(2, 3)[:, ::2],
    ]
)
plain = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=5)
)
values = st.recursive(
    st.one_of(plain, arrays, st.just(Colour.RED), st.just(np.float64(0.1)), st.just(np.bool_(1))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.integers(0, 9), st.text(max_size=3)), inner, max_size=3),
        st.builds(Thing, inner),
        st.builds(Pair, st.integers(0, 9), inner),
    ),
    max_leaves=10,
)


@given(values)
def test_every_value_comes_back_as_it_was(value):
    assert same(value, decode(encode(value, CLASSES), CLASSES))


def test_keys_of_several_parts_come_back():
    state = {(3, "truck"): 1, (4, "tram"): 2}
    assert decode(encode(state)) == state


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, b"x", lambda: 1, np.array([None]), np.array(["a"]), Thing(1), 1j]
)
def test_what_is_no_state_is_not_written(value):
    with pytest.raises(StateError, match=r"^state(\.part)?: "):
        encode({"part": value})


# --- hostile files


class Attack:
    ran = False

    def __reduce__(self):
        return (setattr, (Attack, "ran", True))


def test_a_pickle_is_refused_and_not_run():
    with pytest.raises(StateError, match="cannot be read"):
        decode(pickle.dumps(Attack()))
    assert not Attack.ran


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (["object", "builtins.eval", [["x", 1]]], "the class 'builtins.eval' is none of a state"),
        (["object", "subprocess.Popen", [["args", "x"]]], "is none of a state"),
        (["object", "headway.safety.command.Command", []], "is none of a state"),
        (["object", "headway.safety.claimants.Bar", [["until_s", 1.0]]], "other fields here: near"),
        (["object", "headway.safety.claimants.Bar", [["x", 1]]], "other fields here"),
        (["object", "headway.safety.claimants.Bar", [["x"]]], "a key without a value"),
        (["member", "headway.safety.override.Order", "EXPLODE"], "has no 'EXPLODE'"),
        (["member", "headway.safety.claimants.Bar", "x"], "has no 'x'"),
        (["object", "headway.safety.override.Order", []], "cannot be read|Order"),
        (["array", "|O", [1], b"12345678"], "an array of object is none of a state"),
        (["array", "<f8", [2], b"12345678"], "8 bytes are no float64"),
        (["array", "<f8", [-1], b"12345678"], "is no shape"),
        (["array", "<f8", [1 << 62, 1 << 62], b""], "0 bytes are no"),
        (["array", "<f8", [True], b"12345678"], "is no shape"),
        (["array", "nonsense", [1], b"1"], "is no type of an array"),
        (["array", [[["a", "|O"]], True, True], [1], b"12345678"], "is none of a state"),
        (["array", [[["a", "<f8", 3]], True, True], [1], b"1"], "is no type of an array"),
        (["dict", [[["list", []], 1]]], "cannot be read"),
        (["set", []], "what no state has"),
        ({"a": 1}, "what no state has"),
        (b"bytes", "what no state has"),
    ],
)
def test_a_file_that_was_tampered_with_is_refused_with_the_reason(written, why):
    with pytest.raises(StateError, match=why):
        decode(msgspec.msgpack.encode(written))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_state_or_refused(data):
    with contextlib.suppress(StateError):
        decode(data)


@given(st.data())
def test_a_changed_byte_is_refused_or_changes_a_value_and_nothing_else(data):
    street, _ = street_of(MadePlant(two_junctions()))
    street.tick()
    classes = street.state_classes()
    whole = bytearray(encode(street.state(), classes))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        street.resume(decode(bytes(whole), classes))
    except (StateError, ValueError):
        pass
    else:
        assert street.gate.shown.shape == (5,)


def test_a_deep_file_is_refused():
    with pytest.raises(StateError):
        decode(b"\x92\xa4list\x91" * 5000 + b"\xc0")


# --- whether it fits


@pytest.mark.parametrize(
    ("found", "expected", "why"),
    [
        (np.zeros(3), np.zeros(4), r"state: is float64 \(3,\), which is not of this street"),
        (np.zeros(4, np.int8), np.zeros(4), "is int8"),
        ({"a": 1}, {"a": 1, "b": 2}, "state.b: is nothing"),
        ([1], (1,), "state: is list"),
        ((1,), (1, 2), "state: is 1 parts"),
        ("x", 1.0, "state: is str"),
        (1.0, "x", "state: is float"),
        (Thing(np.zeros(1)), Thing(np.zeros(2)), "state.x: is float64"),
        (Pair(1, 2), Thing(1), "state: is Pair"),
        (Pair(1, (np.zeros(1),)), Pair(1, (np.zeros(2),)), r"state.b\[0\]: is float64"),
    ],
)
def test_a_state_of_another_street_is_refused_with_the_place(found, expected, why):
    with pytest.raises(StateError, match=why):
        require_like(found, expected)
    require_like(found, None)
    require_like(None, expected)
    require_like(expected, expected)


def test_a_street_refuses_the_state_of_another_one_and_goes_on(cologne):
    of, network, timing = cologne
    street, _ = street_of(MadePlant(two_junctions()))
    street.tick()
    other = open_street(network, timing, SumoSettings(of.sumocfg), "fixed", print)
    try:
        other_state = decode(encode(other.state(), other.state_classes()), other.state_classes())
    finally:
        other.plant.close()
    before = decode(encode(street.state(), street.state_classes()), street.state_classes())
    for state in (other_state, {}, {"loop": 1}, {"controllers": {}, "loop": None}):
        with pytest.raises(StateError):
            street.resume(state)
    assert same(street.state(), before), "nothing has changed"
    street.tick()


# --- what is kept of sources from outside


def rows(junction, road, count):
    return tuple(ObservationRow(junction=junction, approach=road, queue=q) for q in (count,))


def test_the_weights_of_sources_and_waiting_calls_survive():
    network = two_junctions()
    external = External(network, lambda event: None)
    sent = SourceRows("cam", rows("A", "in0", 3), refused=4)
    external.take(Reported("city", (sent,), wall=50.0), 100.0)
    source = external.sources["cam"]
    source.approach("in0").agreement.add(0.0, 20.0)
    source.claims.add(1.0, 7.0)
    external._emergencies._of_holders.resume([(("city", 0), 12.5, True)])
    external._calls.add(4, 99.0)
    weight = source.weight
    assert 0.0 < weight < 0.5, "it has lied"

    state = decode(encode(external.state()))
    anew = External(network, lambda event: None)
    anew.resume(state)
    again = anew.sources["cam"]
    assert again.weight == weight
    assert anew.state() == external.state()
    assert again.refused == source.refused
    assert anew._emergencies._of_holders.is_exhausted(("city", 0))
    assert anew._calls.state() == {4: 99.0}
    assert Source("new", "city").weight == 1.0 == PRIOR / PRIOR, "as it would be without it"


@pytest.mark.parametrize("evidence", [[-1.0, 0.0], [float("nan"), 1.0], [0.0, 0.0], [1.0]])
def test_evidence_that_cannot_be_is_refused_and_changes_nothing(evidence):
    external = External(two_junctions(), lambda event: None)
    state = External(two_junctions(), lambda event: None)
    state.sources["cam"] = Source("cam", "city")
    broken = state.state()
    broken["sources"][0]["validity"] = evidence
    with pytest.raises(ValueError, match=r"evidence|unpack"):
        external.resume(broken)
    assert external.sources == {}


def test_a_street_that_is_resumed_knows_whom_it_trusts():
    plant = MadePlant(two_junctions())
    street, _ = street_of(plant)
    plant.vehicles = vehicles((0, 5.0, 0.0, 3.0))
    street.external.sources["cam"] = Source("cam", "city", declared=0.25)
    street.tick()
    classes = street.state_classes()
    state = decode(encode(street.state(), classes), classes)
    again, _ = street_of(MadePlant(two_junctions(), begin_s=101.0), Says())
    again.resume(state)
    assert again.external.sources["cam"].weight == 0.25
