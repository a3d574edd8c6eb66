"""Questions to the ingested record: by hand on a few rows,
and against plain Python over the same rows in any window.
"""

from __future__ import annotations

import dataclasses
import math
import random
from datetime import UTC, datetime, timedelta

import pytest

from headway.analytics import MissingError, Scope, records
from headway.store import Intake, open_database

BEGIN = datetime(2025, 9, 10, tzinfo=UTC)


def row(
    name,
    second,
    junction,
    wait=1.0,
    *,
    vehicles=1,
    flow=1.0,
    speed=1.0,
    fuel=0.0,
    co2=0.0,
    overrides=0,
    emergency=False,
):
    at = (BEGIN + timedelta(seconds=second)).isoformat()
    return (name, at, junction, "[]", vehicles, wait, flow, speed, fuel, co2, overrides, emergency)


def some_rows():
    dice = random.Random(5)
    return [
        row(
            f"S{dice.randrange(3)}", 7 * k, f"J{dice.randrange(4)}", dice.uniform(0, 90),
            vehicles=dice.randrange(50), flow=dice.uniform(0, 2),
            speed=dice.uniform(0, 60), fuel=dice.uniform(-1, 3), co2=dice.uniform(-1, 3),
            overrides=dice.choice([0, 0, 0, 1, 2]), emergency=dice.random() < 0.1,
        )
        for k in range(300)
    ]  # fmt: skip


ROWS = some_rows()


def when(r):
    return datetime.fromisoformat(r[1])


@pytest.fixture(scope="module")
def new(new_record, tmp_path_factory):
    """Makes records that hold some rows."""
    opened = []

    def make(*rows):
        folder = tmp_path_factory.mktemp("record")
        database = open_database(folder, new_record())
        opened.append(database)
        Intake(database, folder).write("simulation_record", rows)
        return database

    yield make
    for database in opened:
        database.close()


@pytest.fixture(scope="module")
def record(new):
    return new(*ROWS)


@pytest.fixture(scope="module")
def hand(new):
    """Two simulations. "B" begins at 0 s, "A" at 100 s;
    "A" has no partner for J1 at 20 s after its begin, "B" none for J3.
    """
    return new(
        row("B", 0, "J1", 10.0, vehicles=3, flow=0.5, speed=20.0, fuel=1.5, co2=3.0, overrides=1),
        row("B", 10, "J1", 20.0, vehicles=4, flow=1.0, speed=30.0, fuel=0.5, co2=1.0,
            emergency=True),
        row("B", 20, "J1", 60.0, vehicles=5, flow=3.0, speed=40.0),
        row("B", 10, "J2", 5.0, vehicles=6, flow=1.5, speed=50.0, overrides=2, emergency=True),
        row("B", 10, "J3", 7.0, vehicles=1, flow=0.25, speed=45.0),
        row("A", 100, "J1", 7.0, vehicles=2, flow=0.75, speed=25.0, fuel=2.0, co2=4.0),
        row("A", 110, "J1", 22.0, vehicles=3, flow=2.0, speed=28.0),
        row("A", 110, "J2", 4.0, vehicles=4, flow=1.25, speed=54.0),
    )  # fmt: skip


SCOPES = [
    Scope(),
    Scope(simulation="S1"),
    Scope(junction="J2"),
    Scope(simulation="S1", junction="J2"),
    Scope(begin=BEGIN + timedelta(seconds=700)),
    Scope(end=BEGIN + timedelta(seconds=700)),
    Scope(begin=BEGIN + timedelta(seconds=70), end=BEGIN + timedelta(seconds=700), simulation="S2"),
    Scope(begin=BEGIN + timedelta(seconds=701), end=BEGIN + timedelta(seconds=706)),
    Scope(simulation="nobody"),
]


def chosen(scope):
    return [
        r for r in ROWS
        if scope.simulation in (None, r[0]) and scope.junction in (None, r[2])
        and (scope.begin is None or when(r) >= scope.begin)
        and (scope.end is None or when(r) < scope.end)
    ]  # fmt: skip


def grouped(rows, key):
    found = {}
    for r in rows:
        found.setdefault(key(r), []).append(r)
    return dict(sorted(found.items()))


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def percentile(values, q):
    """By linear interpolation between order statistics."""
    values, place = sorted(values), (len(values) - 1) * q
    low = math.floor(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def test_a_scope_is_everything_unless_it_is_narrowed():
    assert Scope() == Scope(None, None, None, None, 1000, 0)
    assert Scope().where() == ("TRUE", {})
    assert Scope("s", "j", BEGIN, BEGIN).where() == (
        (
            "TRUE AND simulation_id = :simulation AND intersection_id = :junction AND at >= "
            ":begin AND at < :end"
        ),
        {"simulation": "s", "junction": "j", "begin": BEGIN, "end": BEGIN},
    )


@pytest.mark.parametrize("scope", SCOPES)
def test_waits_and_speeds_of_each_junction_in_any_window(record, scope):
    groups = grouped(chosen(scope), lambda r: r[2])
    found = records.waits(record, scope)
    assert [(w.intersection_id, w.n) for w in found] == [(j, len(rs)) for j, rs in groups.items()]
    for w, rs in zip(found, groups.values(), strict=True):
        waits = [r[5] for r in rs]
        assert (w.mean_s, w.median_s, w.p95_s) == pytest.approx(
            (mean(waits), percentile(waits, 0.5), percentile(waits, 0.95))
        )
    found = records.speeds(record, scope)
    assert [(s.intersection_id, s.n) for s in found] == [(j, len(rs)) for j, rs in groups.items()]
    for s, rs in zip(found, groups.values(), strict=True):
        speeds = [r[7] for r in rs]
        assert (s.mean_kmh, s.median_kmh, s.p15_kmh) == pytest.approx(
            (mean(speeds), percentile(speeds, 0.5), percentile(speeds, 0.15))
        )


@pytest.mark.parametrize("scope", SCOPES)
def test_impact_and_emergencies_in_any_window(record, scope):
    rows = chosen(scope)
    impact = records.impact(record, scope, 2.0, 3.0)
    fuel = math.fsum(r[8] for r in rows)
    assert (impact.n, impact.fuel_price_per_l, impact.co2_kg_per_l) == (len(rows), 2.0, 3.0)
    assert (impact.fuel_saved_l, impact.money_saved, impact.co2_from_fuel_kg) == pytest.approx(
        (fuel, 2.0 * fuel, 3.0 * fuel)
    )
    assert impact.co2_saved_kg == pytest.approx(math.fsum(r[9] for r in rows))
    found = records.emergencies(record, scope)
    assert (found.n, found.with_vehicle, found.overrides) == (
        len(rows),
        sum(r[11] for r in rows),
        sum(r[10] for r in rows),
    )
    for value, told in ((found.mean_wait_with_s, True), (found.mean_wait_without_s, False)):
        waits = [r[5] for r in rows if r[11] is told]
        assert value == (pytest.approx(mean(waits)) if waits else None)
    groups = grouped((r for r in rows), lambda r: r[2])
    each = [(j, sum(r[11] for r in rs), sum(r[10] for r in rs)) for j, rs in groups.items()]
    expected = sorted((e for e in each if e[1] or e[2]), key=lambda e: (-e[2], e[0]))
    assert [tuple(b.values()) for b in found.by_junction] == expected


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("bucket_s", [60, 7, 90])
def test_a_series_has_a_point_a_bucket_from_full_minutes_on(record, scope, bucket_s):
    groups = grouped(chosen(scope), lambda r: when(r).timestamp() // bucket_s * bucket_s)
    found = (
        records.series(record, scope, bucket_s) if bucket_s != 60 else records.series(record, scope)
    )
    assert (found.simulation_id, found.bucket_s, found.n) == (
        scope.simulation,
        bucket_s,
        len(chosen(scope)),
    )
    assert [(p["at"].timestamp(), p["n"], p["vehicles"]) for p in found.points] == [
        (t, len(rs), sum(r[4] for r in rs)) for t, rs in groups.items()
    ]
    for point, rs in zip(found.points, groups.values(), strict=True):
        assert (point["wait_s"], point["throughput"], point["speed_kmh"]) == pytest.approx(
            tuple(mean(r[k] for r in rs) for k in (5, 6, 7))
        )


@pytest.mark.parametrize("scope", SCOPES)
def test_performance_puts_the_shortest_wait_first_and_scatter_the_oldest(record, scope):
    groups = grouped(chosen(scope), lambda r: r[0])
    found = records.performance(record, scope)
    assert [p["simulation_id"] for p in found] == sorted(
        groups, key=lambda s: mean(r[5] for r in groups[s])
    )
    for p in found:
        rs = groups[p["simulation_id"]]
        assert p["n"] == len(rs)
        assert (p["mean_wait_s"], p["mean_throughput"], p["mean_speed_kmh"]) == pytest.approx(
            tuple(mean(r[k] for r in rs) for k in (5, 6, 7))
        )
    assert [tuple(s.values()) for s in records.scatter(record, scope)] == [
        (r[0], r[2], when(r), r[6], r[5], r[7])
        for r in sorted(chosen(scope), key=lambda r: (when(r), r[2]))
    ]


LISTS = {
    "waits": lambda *w: [x.intersection_id for x in records.waits(*w)],
    "speeds": lambda *w: [x.intersection_id for x in records.speeds(*w)],
    "performance": lambda *w: [x["simulation_id"] for x in records.performance(*w)],
    "scatter": lambda *w: [x["at"] for x in records.scatter(*w)],
    "series": lambda *w: [x["at"] for x in records.series(*w).points],
    "emergencies": lambda *w: [x["intersection_id"] for x in records.emergencies(*w).by_junction],
}


@pytest.mark.parametrize("question", ["scatter", "series"])
def test_what_is_of_moments_has_the_newest_first_and_each_part_in_order(record, question):
    whole = LISTS[question](record, Scope())
    assert whole == sorted(whole)
    assert LISTS[question](record, Scope(limit=2)) == whole[-2:]
    assert LISTS[question](record, Scope(limit=2, offset=1)) == whole[-3:-1]
    assert LISTS[question](record, Scope(offset=1)) == whole[:-1]


def test_a_series_says_where_it_goes_on(record):
    whole = records.series(record, Scope())
    n = len(whole.points)
    assert whole.next_offset is None
    assert records.series(record, Scope(limit=n)).next_offset is None
    assert records.series(record, Scope(limit=n - 1)).next_offset == n - 1
    assert records.series(record, Scope(limit=1, offset=1)).next_offset == 2
    assert records.series(record, Scope(limit=1, offset=n - 1)).points == whole.points[:1]


@pytest.mark.parametrize("question", ["waits", "speeds", "performance", "emergencies"])
def test_a_list_can_be_had_in_parts(record, question):
    whole = LISTS[question](record, Scope())
    assert len(whole) >= 3
    assert LISTS[question](record, Scope(limit=2)) == whole[:2]
    assert LISTS[question](record, Scope(limit=1, offset=2)) == whole[2:3]
    assert LISTS[question](record, Scope(offset=1)) == whole[1:]


def test_percentiles_by_hand(hand):
    """Waits 10, 20, 60 (and 7, 22 of the other):
    the median of the three is 20, the 95th percentile lies 0.9 of the way from 20 to 60.
    """
    one = records.waits(hand, Scope(simulation="B"))[0]
    assert (one.intersection_id, one.n, one.mean_s, one.median_s, one.p95_s) == (
        "J1",
        3,
        30.0,
        20.0,
        pytest.approx(56.0),
    )
    one = records.speeds(hand, Scope(simulation="B"))[
        0
    ]  # 20, 30, 40: the 15th percentile lies 0.3 of the way from 20 to 30
    assert (one.n, one.mean_kmh, one.median_kmh, one.p15_kmh) == (
        3,
        30.0,
        30.0,
        pytest.approx(23.0),
    )


def test_the_summary_of_one_simulation(hand):
    assert records.summary(hand, "B") == records.Summary(
        simulation_id="B", records=5, junctions=3, begin=BEGIN, end=BEGIN + timedelta(seconds=20),
        vehicles=19, mean_wait_s=pytest.approx(102 / 5),
        mean_speed_kmh=pytest.approx(185 / 5), mean_throughput=pytest.approx(6.25 / 5),
        fuel_saved_l=2.0, co2_saved_kg=4.0, emergency_overrides=3,
    )  # fmt: skip
    with pytest.raises(MissingError, match=r"^there is no simulation 'C' in the database$"):
        records.summary(hand, "C")


def test_a_litre_of_petrol_costs_one_seventy_and_makes_2_31_kg_unless_told_otherwise(hand):
    found = records.impact(hand, Scope(simulation="B"))
    assert found == records.ReportedSavings(
        5, 2.0, 4.0, 1.70, pytest.approx(3.4), 2.31, pytest.approx(4.62)
    )
    assert records.impact(hand, Scope(simulation="C")) == records.ReportedSavings(
        0, 0.0, 0.0, 1.70, 0.0, 2.31, 0.0
    )


def test_two_simulations_are_paired_by_junction_and_seconds_since_their_begin(hand):
    """Pairs (B, A): J1 at 0 s (10, 7), J1 at 10 s (20, 22), J2 at 10 s (5, 4);
    B's two others have no partner.
    """
    found = records.compare(hand, "B", "A", Scope())
    assert (found.baseline, found.ai, found.unpaired, found.offset_s) == ("B", "A", 2, 100.0)
    assert (found.wait_s.n, found.wait_s.mean_a, found.wait_s.mean_b) == (
        3,
        pytest.approx(35 / 3),
        11.0,
    )
    assert found.wait_s.effect_size == pytest.approx((-3 + 2 - 1) / 6)
    assert (found.speed_kmh.mean_a, found.speed_kmh.mean_b) == pytest.approx((100 / 3, 107 / 3))
    assert (found.throughput.mean_a, found.throughput.mean_b) == pytest.approx((1.0, 4 / 3))
    back = records.compare(hand, "A", "B", Scope(simulation="ignored", limit=1, offset=5))
    assert (back.unpaired, back.wait_s.mean_difference) == (2, pytest.approx(2 / 3))


def waits_of(name, begin_s, missing=(), n=40, lower=0.0):
    """A row each 5 s at two junctions; the wait grows with the demand, and swings."""
    return [
        row(name, begin_s + 5 * k, junction, 20.0 + 0.5 * k + 3.0 * math.sin(k) - lower)
        for k in range(n)
        for junction in ("J1", "J2")
        if k not in missing
    ]


@pytest.mark.parametrize("begin_s", [0, 86_400, 777])
@pytest.mark.parametrize("missing", [(0,), (1,), (17,), (39,), (0, 1), (0, 17)])
def test_a_record_that_is_missing_moves_no_pair(new, missing, begin_s):
    """Of two alike, begun together, a day later and at any other time, one lacks rows."""
    database = new(*waits_of("B", 0), *waits_of("A", begin_s, missing))
    for one, other in (("B", "A"), ("A", "B")):
        found = records.compare(database, one, other, Scope())
        assert (found.wait_s.n, found.unpaired) == (2 * (40 - len(missing)), 2 * len(missing))
        assert (found.wait_s.p, found.wait_s.mean_difference) == (1.0, 0.0)
        assert found.offset_s == (begin_s if one == "B" else -begin_s)


def test_the_first_and_the_last_record_missing_in_one_each_move_no_pair(new):
    for begin_s in (0, 86_400):
        database = new(*waits_of("B", 0, (0,)), *waits_of("A", begin_s, (39,)))
        found = records.compare(database, "B", "A", Scope())
        assert (found.wait_s.n, found.wait_s.p, found.offset_s) == (76, 1.0, begin_s)


def test_a_simulation_begun_later_is_paired_from_its_begin_though_their_times_overlap(new):
    """Ten minutes later; and one that was ended early, or one minute later at the same second."""
    for n, begin_s in ((40, 60), (30, 60), (40, 600)):
        database = new(*waits_of("B", 0), *waits_of("A", begin_s, n=n, lower=5.0))
        found = records.compare(database, "B", "A", Scope())
        assert (found.offset_s, found.wait_s.n) == (begin_s, 2 * n)
        assert found.wait_s.interval_95 == pytest.approx((-5.0, -5.0))
        assert found.wait_s.p == 0.0


def test_a_window_of_a_comparison_moves_no_pair(new):
    database = new(*waits_of("B", 0, (0,)), *waits_of("A", 0))
    window = Scope(begin=BEGIN + timedelta(seconds=20), end=BEGIN + timedelta(seconds=120))
    found = records.compare(database, "B", "A", window)
    assert (found.wait_s.n, found.unpaired, found.wait_s.p, found.offset_s) == (40, 0, 1.0, 0.0)


def test_a_window_does_not_move_the_begin_of_a_simulation(hand):
    """In J2 both have their first record 10 s after their begin, in J3 only one of them has any."""
    found = records.compare(hand, "B", "A", Scope(junction="J2"))
    assert (found.unpaired, found.wait_s.n, found.wait_s.mean_a, found.wait_s.mean_b) == (
        0,
        1,
        5.0,
        4.0,
    )
    late = Scope(
        begin=BEGIN + timedelta(seconds=10), end=BEGIN + timedelta(seconds=110)
    )  # of A only the record at its begin, of B those after it
    with pytest.raises(
        MissingError,
        match=r"^no record of 'B' and of 'A' is of the same junction at the same second since "
        r"its begin$",
    ):
        records.compare(hand, "B", "A", late)
    for a, b, scope, missing in (
        ("B", "C", Scope(), "C"),
        ("C", "A", Scope(), "C"),
        ("B", "A", Scope(junction="J3"), "A"),
        ("B", "A", Scope(end=BEGIN), "B"),
    ):
        with pytest.raises(
            MissingError,
            match=f"^there is no simulation '{missing}' in the database, in this window$",
        ):
            records.compare(hand, a, b, scope)


def test_emergencies_by_hand(hand):
    found = records.emergencies(hand, Scope())
    assert (found.n, found.with_vehicle, found.overrides) == (8, 2, 3)
    assert (found.mean_wait_with_s, found.mean_wait_without_s) == (
        12.5,
        pytest.approx((10 + 60 + 7 + 7 + 22 + 4) / 6),
    )
    assert found.by_junction == [
        {"intersection_id": "J2", "with_vehicle": 1, "overrides": 2},
        {"intersection_id": "J1", "with_vehicle": 1, "overrides": 1},
    ]
    none = records.emergencies(hand, Scope(simulation="A"))
    assert none == records.Emergencies(3, 0, 0, None, 11.0, [])
    assert records.emergencies(hand, Scope(simulation="C")) == records.Emergencies(
        0, 0, 0, None, None, []
    )


def test_live_is_the_newest_of_each_junction_of_each_simulation_within_the_last_hour(new):
    """Of two simulations of the same junctions each had those alone where it was the last."""
    database = new()
    assert records.live(database) == {
        "n": 0, "at": None, "mean_wait_s": None, "mean_speed_kmh": None, "vehicles": 0,
        "emergencies": 0, "junctions": [],
    }  # fmt: skip
    database = new(
        row("OLD", 0, "J0", 99.0),
        row("A", 1, "J1", 10.0, vehicles=5, speed=20.0, flow=0.5, emergency=True),
        row("A", 3000, "J2", 51.0, speed=35.0, flow=1.0),
        row("B", 3600, "J2", 20.0, vehicles=8, speed=50.0, flow=1.5),
    )
    assert records.live(database) == {
        "n": 3, "at": BEGIN + timedelta(seconds=3600), "mean_wait_s": 27.0,
        "mean_speed_kmh": 35.0, "vehicles": 14, "emergencies": 1,
        "junctions": [
            {"intersection_id": "J1", "simulation_id": "A", "at": BEGIN + timedelta(seconds=1),
                "wait_s": 10.0, "speed_kmh": 20.0, "throughput": 0.5, "vehicles": 5,
             "emergency": True},
            {"intersection_id": "J2", "simulation_id": "A", "at": BEGIN + timedelta(seconds=3000),
                "wait_s": 51.0, "speed_kmh": 35.0, "throughput": 1.0, "vehicles": 1,
             "emergency": False},
            {"intersection_id": "J2", "simulation_id": "B", "at": BEGIN + timedelta(seconds=3600),
                "wait_s": 20.0, "speed_kmh": 50.0, "throughput": 1.5, "vehicles": 8,
             "emergency": False},
        ],
    }  # fmt: skip


def test_a_record_of_a_clock_that_is_ahead_hides_nobody(new):
    """Of the year 9999: it alone is live only where there is nothing else."""
    ahead = ("X", "9999-12-31T23:00:00Z", *row("X", 0, "J9", 7.0)[2:])
    database = new(row("A", 1, "J1", 10.0), row("A", 2, "J2", 30.0), ahead)
    found = records.live(database)
    assert [r["intersection_id"] for r in found["junctions"]] == ["J1", "J2"]
    assert (found["n"], found["mean_wait_s"], found["at"].year) == (2, 20.0, 2025)
    alone = records.live(new(ahead))
    assert [r["intersection_id"] for r in alone["junctions"]] == ["J9"]


def test_an_answer_is_not_changed_nor_a_question(hand):
    whole = Scope()
    answers = [
        records.summary(hand, "A"), records.waits(hand, whole)[0], records.speeds(hand, whole)[0],
        records.impact(hand, whole), records.compare(hand, "A", "B", whole),
        records.emergencies(hand, whole), records.series(hand, whole), whole,
    ]  # fmt: skip
    for value in answers:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, None)
