"""The audit on signal records made by hand: each kind of finding, at both sides of each bound,
with its time, place and groups.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from headway.safety.audit import AuditFinding, audit
from tests.safety.audited import NETWORK, TIMING


def at_b(*rows, grace_s=0.0):
    """What is found at junction B of rows (time, letters of its four groups), as (time, rule,
    groups), in order.
    """
    lines = {
        "A": [(rows[0][0], "rr")],
        "B1": [(t, f"{s[1]}G{s[0]}") for t, s in rows],
        "B2": [(t, s[2:]) for t, s in rows],
    }
    found = audit(NETWORK, TIMING, lines, grace_s)
    assert {v.tl_id for v in found} <= {"B"}
    return sorted((v.at_s, v.rule, v.groups) for v in found)


@pytest.mark.parametrize(
    ("letters", "breaches"),
    [
        ("rrrr", []), ("GrrG", [(0, 3)]), ("GGrr", [(0, 1)]), ("GgrG", [(0, 1), (0, 3)]),
        ("rGGr", []), ("rGrG", []), ("rrGG", [(2, 3)]),
        ("rrgg", [(2, 3)]),  # nobody gives way
        ("Grgr", []), ("grgr", []),  # 2 gives way to 0
        ("GrGr", [(0, 2)]), ("grGr", [(0, 2)]),  # it does so only where it is permissive itself
        ("grrG", []), ("grrg", []), ("Grrg", [(0, 3)]),  # 0 gives way to 3
        ("GGGG", [(0, 1), (0, 2), (0, 3), (2, 3)]), ("GyYr", []), ("srrG", []),
    ],
)  # fmt: skip
def test_two_greens_that_cross_need_one_that_gives_way(letters, breaches):
    assert at_b((0.0, letters)) == [(0.0, "conflict", pair) for pair in breaches]


@pytest.mark.parametrize(("letter", "known"), [(x, x in "rsyYgGo") for x in "rsyYgGuoOxR"])
def test_unknown_state_letters_are_found(letter, known):
    assert at_b((0.0, f"r{letter}rr"), (1.0, f"r{letter}rr")) == (
        [] if known else [(0.0, "colour", (1,)), (1.0, "colour", (1,))]
    )


# group 1 of B: green for 7 s at least, 4 s of yellow, then 1 s of clearance for group 0, which
# crosses it


@pytest.mark.parametrize(
    ("lasted", "short"), [(6.9, True), (6.998, True), (6.999, False), (7.0, False), (30.0, False)]
)
def test_a_green_has_its_shortest_length_to_the_millisecond(lasted, short):
    assert at_b((-9.0, "rrrr"), (0.0, "rGrr"), (lasted, "ryrr"), (lasted + 4.0, "rrrr")) == (
        [(lasted, "minimum_green", (1,))] if short else []
    )


def test_each_group_has_its_own_shortest_green_and_levels_of_green_count_as_one():
    assert at_b((0.0, "rrrr"), (1.0, "grrr"), (4.0, "Grrr"), (7.0, "yrrr"), (10.0, "rrrr")) == []
    for group, least_s in enumerate((6.0, 7.0, 8.0, 9.0)):

        def lit(letter, group=group):
            return "".join(letter if g == group else "r" for g in range(4))

        rows = [
            (0.0, lit("r")),
            (1.0, lit("G")),
            (0.9 + least_s, lit("y")),
            (10.0 + least_s, lit("r")),
        ]
        assert at_b(*rows) == [(0.9 + least_s, "minimum_green", (group,))]


def test_a_green_without_beginning_or_end_in_the_record_is_not_too_short():
    assert at_b((0.0, "rGrr"), (1.0, "ryrr"), (5.0, "rrrr"), (20.0, "rGrr"), (21.0, "rgrr")) == []
    assert at_b((0.0, "ryrr"), (5.0, "rrrr"), (20.0, "rGrr")) == []


def test_of_many_greens_the_short_ones_are_found():
    rows = [(0.0, "rrrr")]
    for k, lasted in enumerate((8.0, 3.0, 7.0, 6.0)):
        rows += [
            (20.0 * k + 1.0, "rGrr"),
            (20.0 * k + 1.0 + lasted, "ryrr"),
            (20.0 * k + 5.0 + lasted, "rrrr"),
        ]
    assert at_b(*rows) == [(24.0, "minimum_green", (1,)), (67.0, "minimum_green", (1,))]


@pytest.mark.parametrize(
    ("lasted", "short"), [(3.9, True), (3.998, True), (3.999, False), (4.0, False), (9.0, False)]
)
@pytest.mark.parametrize("letter", "yY")
def test_yellow_has_its_length_to_the_millisecond(lasted, short, letter):
    assert at_b((-9.0, "rGrr"), (0.0, f"r{letter}rr"), (lasted, "rrrr")) == (
        [(0.0, "yellow", (1,))] if short else []
    )


def test_each_group_has_its_own_yellow_one_may_have_none_and_the_end_of_the_record_shortens_none():
    assert at_b((0.0, "GrrG"), (1.0, "yrrr"), (3.9, "rrrr")) == [
        (0.0, "conflict", (0, 3)),
        (1.0, "yellow", (0,)),
    ]
    assert at_b((0.0, "rrGr"), (1.0, "rryr"), (5.9, "rrrr")) == [(1.0, "yellow", (2,))]
    assert at_b((0.0, "rrrG"), (1.0, "rrrr")) == []
    assert at_b((0.0, "rGrr"), (1.0, "ryrr"), (1.5, "rYrr")) == []
    assert at_b((0.0, "rGrr"), (1.0, "rrrr")) == [(1.0, "yellow", (1,))]
    assert at_b((0.0, "rGrr"), (1.0, "ryrr"), (2.0, "rGrr"), (9.0, "ryrr"), (13.0, "rrrr")) == [
        (1.0, "yellow", (1,)),
        (2.0, "order", (1,)),
    ]


@pytest.mark.parametrize(
    ("after", "early"), [(4.0, True), (4.998, True), (4.999, False), (5.0, False), (9.0, False)]
)
def test_a_conflicting_green_waits_for_yellow_and_clearance_to_the_millisecond(after, early):
    assert at_b((-9.0, "rGrr"), (0.0, "ryrr"), (4.0, "rrrr"), (after, "Grrr")) == (
        [(after, "clearance", (1, 0))] if early else []
    )


def test_starts_in_the_second_of_the_end_or_twice_are_found_and_earlier_greens_are_not():
    assert at_b((0.0, "rGrr"), (1.0, "Gyrr"), (5.0, "Grrr")) == [(1.0, "clearance", (1, 0))]
    rows = [
        (0.0, "rGrr"),
        (1.0, "ryrr"),
        (2.0, "Gyrr"),
        (3.0, "yyrr"),
        (4.0, "Gyrr"),
        (5.0, "Grrr"),
    ]
    assert at_b(*rows) == [
        (2.0, "clearance", (1, 0)), (3.0, "minimum_green", (0,)), (3.0, "yellow", (0,)),
        (4.0, "clearance", (1, 0)), (4.0, "order", (0,)),
    ]  # fmt: skip
    assert at_b((0.0, "GGrr"), (1.0, "Gyrr"), (5.0, "Grrr")) == [(0.0, "conflict", (0, 1))]
    assert (
        at_b(
            (0.0, "rrrr"),
            (1.0, "grrr"),
            (8.0, "grgr"),
            (16.0, "gryr"),
            (17.0, "Gryr"),
            (21.0, "Grrr"),
        )
        == []
    )


def test_clearance_is_required_between_conflicting_groups_alone():
    assert at_b((0.0, "rGrr"), (1.0, "rygG"), (5.0, "rrGG")) == [
        (1.0, "conflict", (2, 3)),
        (5.0, "conflict", (2, 3)),
    ]
    assert at_b((0.0, "rrrG"), (1.0, "rrrr"), (6.9, "rrGr")) == [(6.9, "clearance", (3, 2))]
    assert at_b((0.0, "rrrG"), (1.0, "rrrr"), (7.0, "rrGr")) == []
    assert at_b((0.0, "rrGr"), (1.0, "rryr"), (6.0, "rrrr"), (6.4, "GrrG")) == [
        (6.4, "clearance", (2, 0)), (6.4, "clearance", (2, 3)), (6.4, "conflict", (0, 3)),
    ]  # fmt: skip
    assert at_b((0.0, "rrGr"), (1.0, "rryr"), (6.0, "rrrr"), (6.5, "rrrG")) == []


def test_a_start_while_the_other_is_green_again_is_a_conflict_and_no_clearance_violation():
    rows = [(0.0, "rGrr"), (1.0, "ryrr"), (2.0, "rGrr"), (3.0, "GGrr")]
    assert at_b(*rows) == [
        (1.0, "yellow", (1,)),
        (2.0, "order", (1,)),
        (3.0, "conflict", (0, 1)),
    ]


def test_the_first_seconds_are_left_out_and_those_from_their_end_on_are_not():
    rows = [(100.0, "rGrr"), (109.0, "GGrr"), (109.5, "rxrr"), (110.0, "GGrr"), (111.0, "uGrr")]
    found = [
        (110.0, "clearance", (0, 1)),
        (110.0, "conflict", (0, 1)),
        (111.0, "colour", (0,)),
        (111.0, "minimum_green", (0,)),
        (111.0, "yellow", (0,)),
    ]
    assert [v for v in at_b(*rows, grace_s=10.0) if v[1] != "clearance"] == found[1:]
    assert at_b(*rows, grace_s=11.5) == []
    # a green that began before the end of the grace may be short, one that begins at its end may
    # not
    short = [(0.0, "rrrr"), (3.0, "rGrr"), (5.0, "ryrr"), (9.0, "rrrr")]
    assert at_b(*short, grace_s=3.0) == [(5.0, "minimum_green", (1,))]
    assert at_b(*short, grace_s=3.1) == []
    # likewise the end of a green, with its yellow and its clearance
    ends = [(0.0, "rGrr"), (3.0, "rrrr"), (3.5, "Grrr")]
    assert at_b(*ends, grace_s=3.0) == [(3.0, "yellow", (1,)), (3.5, "clearance", (1, 0))]
    assert at_b(*ends, grace_s=3.1) == []
    later = [*ends, (10.0, "yrrr"), (13.0, "rrrr"), (20.0, "rGrr"), (27.0, "rrrr")]
    assert at_b(*later, grace_s=3.1) == [(27.0, "yellow", (1,))]


@pytest.mark.parametrize(
    ("red_s", "again_s", "found"),
    [
        (2.0, 6.0, []),
        (1.9, 6.0, [(15.9, "flash_entry")]),
        (2.0, 5.9, [(51.9, "flash_exit")]),
        (0.0, 0.0, [(14.0, "flash_entry"), (44.0, "flash_exit")]),
    ],
)
def test_a_flash_has_red_to_all_before_and_after(red_s, again_s, found):
    """Group 1 of B is yellow until 14 s; it flashes for 30 s, in two ways."""
    rows = [(0.0, "rrrr"), (1.0, "rGrr"), (10.0, "ryrr"), (14.0, "rrrr")]
    begin_s = 14.0 + red_s
    rows += [(begin_s, "oros"), (begin_s + 5.0, "osor"), (begin_s + 30.0, "rrrr")]
    rows += [(begin_s + 30.0 + again_s, "rGrr")]
    assert [(at, rule) for at, rule, _ in at_b(*rows) if rule != "clearance"] == found
    beside = [(0.0, "rrrr"), (10.0, "orrr"), (20.0, "orGr")]
    assert (20.0, "flash", ()) in at_b(*beside)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        # the first row of a record may be followed by a flash, and a flash by another one
        ([(0.0, "rGrr"), (10.0, "osss")], [(10.0, "flash_entry")]),
        (
            [(0.0, "rGrr"), (10.0, "rrrr"), (11.0, "osss"), (11.5, "oros"), (60.0, "rrrr")],
            [(11.0, "flash_entry")],
        ),
        (
            [(0.0, "osss"), (10.0, "rrrr"), (20.0, "rGrr"), (30.0, "osss")],
            [(30.0, "flash_entry")],
        ),
        ([(0.0, "osss"), (10.0, "rrrr"), (15.0, "rGrr")], [(15.0, "flash_exit")]),
        # once, however many rows the flash has, and whatever follows
        (
            [(0.0, "osss"), (50.0, "oros"), (51.0, "rrrr"), (55.0, "rGrr"), (70.0, "ryrr")],
            [(55.0, "flash_exit")],
        ),
        # red to all in between, of no matter which length
        ([(0.0, "osss"), (10.0, "rrrr"), (10.5, "osss"), (20.0, "rrrr")], []),
        # to the millisecond
        ([(-9.0, "rGrr"), (0.0, "rrrr"), (1.998, "osss")], [(1.998, "flash_entry")]),
        ([(-9.0, "rGrr"), (0.0, "rrrr"), (1.999, "osss")], []),
        ([(-9.0, "osss"), (0.0, "rrrr"), (5.998, "rGrr")], [(5.998, "flash_exit")]),
        ([(-9.0, "osss"), (0.0, "rrrr"), (5.999, "rGrr")], []),
    ],
)
def test_each_flash_is_audited_at_its_two_ends(rows, found):
    rules = ("flash", "flash_entry", "flash_exit")
    assert [(at, rule) for at, rule, _ in at_b(*rows) if rule in rules] == found


@pytest.mark.parametrize(("again_s", "found"), [(5.9, [(35.9, "clearance", (3, 0))]), (6.0, [])])
def test_clearance_counts_from_the_end_of_a_flash_too(again_s, found):
    """Group 3 of B has 6 s of clearance."""
    rows = [(0.0, "rrrr"), (10.0, "ssso"), (30.0, "rrrr"), (30.0 + again_s, "Grrr")]
    assert [x for x in at_b(*rows) if x[1] == "clearance"] == found


def test_programmes_of_one_junction_are_joined_at_each_change():
    b1 = [(0.0, "rGr"), (10.0, "rGG"), (40.0, "rGy"), (43.0, "rGr"), (48.0, "rGG")]
    b2 = [(0.0, "rr"), (40.0, "rr"), (44.0, "Gr"), (47.0, "GG")]
    found = audit(NETWORK, TIMING, {"A": [(0.0, "rr")], "B1": b1, "B2": b2}, 0.0)
    assert [(v.at_s, v.rule, v.groups) for v in found] == [
        (47.0, "conflict", (2, 3)), (48.0, "conflict", (0, 2)), (48.0, "conflict", (0, 3)),
        (48.0, "conflict", (2, 3)), (44.0, "clearance", (0, 2)),
    ]  # fmt: skip


def test_of_two_states_at_one_time_the_last_counts_and_a_programme_shows_its_first_before_it():
    assert (
        audit(
            NETWORK,
            TIMING,
            {
                "A": [(0.0, "Gr"), (9.0, "GG"), (9.0, "Gr")],
                "B1": [(0.0, "rGr")],
                "B2": [(0.0, "rr")],
            },
            0.0,
        )
        == []
    )
    found = audit(
        NETWORK,
        TIMING,
        {"A": [(0.0, "rr")], "B1": [(0.0, "rGG"), (7.0, "rGG")], "B2": [(7.0, "Gr"), (8.0, "rr")]},
        0.0,
    )
    assert [(v.at_s, v.rule, v.groups) for v in found] == [
        (0.0, "conflict", (0, 2)),
        (7.0, "conflict", (0, 2)),
        (8.0, "yellow", (2,)),
    ]


def test_every_junction_is_audited_and_named():
    found = audit(
        NETWORK, TIMING, {"A": [(0.0, "GG")], "B1": [(5.0, "GGG")], "B2": [(5.0, "rr")]}, 0.0
    )
    assert found == [
        AuditFinding(0.0, "A", "conflict", (0, 1)),
        AuditFinding(5.0, "B", "conflict", (0, 1)),
    ]


@pytest.mark.parametrize(("missing", "empty"), [("A", False), ("B1", False), ("B2", True)])
def test_a_programme_without_a_record_is_a_finding(missing, empty):
    lines = {"A": [(0.0, "rr")], "B1": [(0.0, "rGr")], "B2": [(0.0, "rr")]}
    del lines[missing]
    with pytest.raises(ValueError, match=f"no record of the signals of {missing}\\. "):
        audit(NETWORK, TIMING, lines | ({missing: []} if empty else {}), 0.0)


def test_findings_are_immutable():
    with pytest.raises(FrozenInstanceError):
        AuditFinding(0.0, "A", "conflict", (0, 1)).rule = "none"
    assert not hasattr(AuditFinding(0.0, "A", "conflict", (0, 1)), "__dict__")
