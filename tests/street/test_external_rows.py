"""Rows from outside: what is taken, what is refused, and what is said of it."""

from __future__ import annotations

import json

import pytest

from headway.plants.sumo import read_network
from headway.plants.sumo.scenarios import scenario
from headway.street.external.places import Places
from headway.street.external.rows import (
    MOST_ROWS,
    AgeLimits,
    StreetClock,
    age_fault,
    fault_of,
    read_rows,
)

GOOD = {"junction": "A", "approach": "in0", "at_s": 100.0, "queue": 2}
AT_NOON = 1_769_860_800.0  # 2026-01-31 12:00 UTC
LIMITS = AgeLimits(oldest_s=10.0, ahead_s=2.0)


def one(**more):
    rows, faults = read_rows(json.dumps([GOOD | more]))
    return rows[0], faults.get(0)


def test_one_bad_row_leaves_the_others():
    rows, faults = read_rows(json.dumps([GOOD, GOOD | {"queue": -1}, GOOD | {"queue": 3}]))
    assert [r and r.queue for r in rows] == [2, None, 3]
    assert {n: f.place for n, f in faults.items()} == {1: "/queue"}
    assert "Expected `int` >= 0" in faults[1].message


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("quality", 1.01, "/quality"), ("quality", float("nan"), "/quality"),
        ("occupancy", float("inf"), "/occupancy"), ("count", 1.5, "/count"),
        ("count", "3", "/count"), ("vehicles", [{"distance_m": -1.0}], "/vehicles/0/distance_m"),
        ("vehicles", [{"distance_m": 1.0, "speed_mps": 100.0}], "/vehicles/0/speed_mps"),
        ("vehicles", [{"distance_m": 1.0, "class": "ufo"}], "/vehicles/0/class"),
        ("vehicles", [{"distance_m": 1.0}] * 201, "/vehicles"), ("junction", "", "/junction"),
        ("junction", None, "/junction"), ("source", "a b", "/source"), ("queue", 10**30, "/queue"),
        ("at", "yesterday", "/at"), ("at", "2026-01-31T08:00:00", "/at"), ("wheels", 4, ""),
        ("emergency", {"speed_mps": 9.0}, "/emergency"), ("at_s", float("nan"), "/at_s"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_name(field, value, place):
    row, fault = one(**{field: value})
    assert row is None
    assert fault.place == place


@pytest.mark.parametrize(
    "text",
    ["", "no", "7", "[]", '"row"', "null", "[" * 100_000, b"\xff\xfe", json.dumps([GOOD] * 5001)],
)
def test_a_message_that_is_no_list_of_rows_is_refused(text):
    with pytest.raises(ValueError, match=r"message"):
        read_rows(text)


@pytest.mark.parametrize("count", [3, 4000])
@pytest.mark.parametrize(
    "bad", ['{"\\ud800": 1}', '{"queue": NaN}', '{"junction": "\\ud800"}', "7", "{}", "[[]]"]
)
def test_a_row_that_is_hardly_json_leaves_the_others_in_messages_of_any_length(count, bad):
    texts = [json.dumps(GOOD)] * count
    texts[1] = bad
    rows, faults = read_rows("[" + " ,\n".join(texts) + "]\n")
    assert [number for number, row in enumerate(rows) if row is None] == [1]
    assert list(faults) == [1]
    assert {row.queue for row in rows if row is not None} == {2}


@pytest.mark.parametrize("count", [2, 4000])
@pytest.mark.parametrize("form", ["[{0}", "[{0},]", "[{0}]]", "[{0} {0}]", "[{0}],", "{0}{0}"])
def test_a_long_message_is_held_to_the_same_grammar_as_a_short_one(count, form):
    many = ",".join([json.dumps(GOOD)] * count)
    with pytest.raises(ValueError, match="message is no JSON"):
        read_rows(form.replace("{0}", many))


def test_a_row_is_bounded_so_that_no_single_one_holds_up_the_process():
    vehicle = {"distance_m": 12.345678901234567, "speed_mps": 12.345678901234567}
    vehicle |= {"class": "emergency", "lane": 31, "id": "x" * 64}
    whole = {"junction": "j" * 512, "approach": "a" * 512, "at_s": 1.0, "vehicles": [vehicle] * 200}
    (row, bad), _ = read_rows(json.dumps([whole, {"x": 1}]))
    assert (len(row.vehicles), bad) == (200, None)
    with pytest.raises(ValueError, match="a row of more than 65536 letters"):
        read_rows(json.dumps([GOOD, {"x": [[]] * 40_000}]))


def test_a_message_may_be_a_single_row_and_may_hold_the_most():
    assert len(read_rows(json.dumps(GOOD))[0]) == 1
    assert len(read_rows(json.dumps([GOOD] * MOST_ROWS))[0]) == MOST_ROWS


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"at": "2026-01-31T12:00:00Z"}, "/at"), ({"at_s": None}, "/at"), ({"queue": None}, ""),
        ({"approach": ""}, "/approach"), ({"crossing": 1}, "/crossing"),
    ],
)  # fmt: skip
def test_fields_that_contradict_each_other(more, place):
    row, _ = one(**more)
    assert fault_of(row).place == place


def test_a_junction_may_have_the_names_of_all_its_nodes():
    """SUMO joins them: a junction of the scenario ingolstadt7 has 166 letters."""
    assert one(junction="x" * 512)[0].junction == "x" * 512
    assert one(junction="x" * 513)[1].place == "/junction"


def test_a_row_of_nothing_but_a_call_needs_no_approach():
    row, _ = one(queue=None, approach="", pedestrian_call=True)
    assert fault_of(row) is None


@pytest.mark.parametrize(
    ("at_s", "said"),
    [
        (90.0, ""), (89.9, "10.1 s old; at most 10 s are taken"), (102.0, ""),
        (102.1, "2.1 s ahead; at most 2 s are taken. Check the clock"),
    ],
)  # fmt: skip
def test_the_street_s_own_seconds_are_bounded(at_s, said):
    row, _ = one(at_s=at_s)
    fault = age_fault(row, StreetClock(AT_NOON, 100.0, 1.0), LIMITS)
    assert (fault.message if fault else "") == said


@pytest.mark.parametrize(
    ("second", "speed_factor", "said"),
    [
        (50, 1.0, ""), (49, 1.0, "11.0 s old; at most 10 s are taken"),
        (58, 10.0, "20.0 s old; at most 10 s are taken"), (59, 10.0, ""),
        (59, 0.0, "this street runs as fast as possible, not by the wall clock: give at_s"),
    ],
)  # fmt: skip
def test_the_wall_clock_is_bounded_by_the_street_s_seconds(second, speed_factor, said):
    """Noon less 60 s, and `second`: at ten times real time two seconds are twenty of the
    street's.
    """
    row, _ = one(at_s=None, at=f"2026-01-31T13:59:{second}+02:00")
    fault = age_fault(row, StreetClock(AT_NOON, 100.0, speed_factor), LIMITS)
    assert (fault.message if fault else "") == said


def test_a_stage_is_named_by_who_has_green():
    """cologne1 has four: the main road, its left turns, the side road, its left turns."""
    network = read_network(scenario("cologne1").net)
    turns = "right, straight, left, U-turn"
    assert Places(network).served(0) == [
        f"south {turns}; north {turns}",
        "south left, U-turn; north left, U-turn",
        f"east {turns}; west {turns}",
        "east left, U-turn; west left, U-turn",
    ]
