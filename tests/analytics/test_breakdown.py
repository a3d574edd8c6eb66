"""Ingested records by direction and vehicle type, hour and day: by hand, and what the index is used
for.
"""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.analytics import MissingError, Scope
from headway.analytics.breakdown import TYPES, Breakdown, breakdown
from headway.store import Intake, open_database


def signal(direction, wait, crossed, **counts):
    return {
        "direction": direction,
        "avg_wait_time": wait,
        "vehicles_crossed": crossed,
        "vehicle_counts": counts,
    }


def row(at, *signals, flow=1.0, junction="J1", name="S"):
    return (name, at, junction, json.dumps(signals), 1, 1.0, flow, 1.0, 0.0, 0.0, 0, False)


# 10:00 and 10:30 on the 10th, 10:00 on the 11th
ROWS = [
    row(
        "2025-09-10T10:00:00Z",
        signal("north", 10.0, 6, car=8, bus=2),
        signal("east", 30.0, 2, car=4, bus=0),
        flow=0.8,
    ),
    row(
        "2025-09-10T10:30:00Z",
        signal("north", 20.0, 0, car=2, bus=0),
        signal("east", 40.0, 0, bus=1),
        flow=0.4,
    ),
    row("2025-09-11T10:00:00Z", signal("north", 5.0, 4, bike=1), flow=0.5),
]


@pytest.fixture(scope="module")
def database(new_record, tmp_path_factory):
    folder = tmp_path_factory.mktemp("record")
    found = open_database(folder, new_record())
    Intake(found, folder).write("simulation_record", ROWS)
    yield found
    found.close()


HOUR = [datetime(2025, 9, 10, 10, tzinfo=UTC), datetime(2025, 9, 11, 10, tzinfo=UTC)]
DAY = [h.replace(hour=0) for h in HOUR]


@pytest.mark.parametrize(("bucket", "at"), [("hour", HOUR), ("day", DAY)])
def test_by_direction(database, bucket, at):
    """East of the 10th: 4 and 1 vehicles, waits 30 and 40 s; of 0.8 veh/s 2 of 8 that crossed came
    from there, of the second record none crossed.
    """
    assert breakdown(database, Scope(), "direction", bucket) == [
        Breakdown(at[0], None, "east", None, 2, 5, 2.5, 35.0, 40.0, 2, pytest.approx(0.1)),
        Breakdown(at[0], None, "north", None, 2, 12, 6.0, 15.0, 20.0, 6, pytest.approx(0.3)),
        Breakdown(at[1], None, "north", None, 1, 1, 1.0, 5.0, 5.0, 4, 0.5),
    ]


def test_by_vehicle_type_each_direction_weighs_what_it_counts(database):
    """Cars: (8 x 10 + 4 x 30 + 2 x 20) / 14 s; of the first record's 8 that crossed, 6 x 8/10 + 2 x
    4/4.
    """
    assert breakdown(database, Scope(end=HOUR[1]), "vehicle_type", "none") == [
        Breakdown(
            None,
            None,
            None,
            "bus",
            2,
            3,
            1.5,
            pytest.approx(20.0),
            40.0,
            pytest.approx(1.2),
            pytest.approx(0.06),
        ),
        Breakdown(
            None,
            None,
            None,
            "car",
            2,
            14,
            7.0,
            pytest.approx(240 / 14),
            30.0,
            pytest.approx(6.8),
            pytest.approx(0.34),
        ),
    ]


@pytest.mark.parametrize("by", ["direction", "vehicle_type", "both"])
def test_a_record_of_numbers_next_to_nought_ends_no_answer(new_record, tmp_path, by):
    """A third of the least number that there is."""
    least = signal("north", 5e-324, 1, car=1, bus=2), signal("east", 5e-324, 2, bus=1)
    found = open_database(tmp_path, new_record())
    try:
        rows = [row("2025-09-10T10:00:00Z", *least, flow=5e-324), ROWS[1]]
        Intake(found, tmp_path).write("simulation_record", rows)
        waits = [one.mean_wait_s for one in breakdown(found, Scope(), by, "none")]
    finally:
        found.close()
    assert (
        waits
        == {
            "direction": [20.0, 10.0],  # of 0 and 40, of 0 and 20
            "vehicle_type": [10.0, pytest.approx(40 / 3)],  # 2 + 1 + 1 buses, 1 + 2 cars
            "both": [20.0, 0.0, pytest.approx(40 / 3)],
        }[by]
    )


def test_by_both_and_by_hour_of_the_day(database):
    found = breakdown(database, Scope(), "both", "hour_of_day")
    assert [(b.at, b.hour, b.direction, b.vehicle_type, b.vehicles) for b in found] == [
        (None, 10, "east", "bus", 1),
        (None, 10, "east", "car", 4),
        (None, 10, "north", "bike", 1),
        (None, 10, "north", "bus", 2),
        (None, 10, "north", "car", 10),
    ]


def test_one_direction_one_type_one_window_a_part_of_the_list(database):
    def of(scope=None, **more):
        found = breakdown(database, scope or Scope(), **more)
        return [(b.direction, b.vehicle_type, b.n, b.vehicles) for b in found]

    assert of(direction="east") == [("east", None, 2, 5)]
    assert of(by="vehicle_type", vehicle_type="bus") == [(None, "bus", 2, 3)]
    assert of(by="vehicle_type", vehicle_type="bus", direction="north") == [(None, "bus", 1, 2)]
    # by direction: of the records that counted a bicycle, all vehicles
    assert of(vehicle_type="bike") == [("north", None, 1, 1)]
    assert of(Scope(begin=HOUR[1])) == [("north", None, 1, 1)]
    assert of(Scope(limit=1, offset=1), bucket="none") == of(bucket="none")[1:2]
    assert of(Scope(simulation="nobody")) == of(vehicle_type="tram") == []
    with pytest.raises(MissingError, match="'street:headway' is a street of this server"):
        of(Scope(simulation="street:headway"))


@pytest.mark.parametrize("bucket", ["hour", "day"])
def test_of_hours_and_days_the_newest_in_order(database, bucket):
    whole = breakdown(database, Scope(), "both", bucket)
    assert len(whole) >= 3
    assert breakdown(database, Scope(limit=2), "both", bucket) == whole[-2:]
    assert breakdown(database, Scope(limit=1, offset=2), "both", bucket) == whole[-3:-2]


def test_the_index_over_the_counts_answers_for_a_vehicle_type(database, tmp_path, new_record):
    """Of 4,000 records 8 counted a rickshaw: the index finds them."""
    found = open_database(tmp_path, new_record())
    rows = [
        row(
            f"2025-09-10T{k // 3600:02d}:{k // 60 % 60:02d}:{k % 60:02d}Z",
            signal("north", 1.0, 1, car=1, rickshaw=int(k % 500 == 0)),
        )
        for k in range(4000)
    ]
    intake = Intake(found, tmp_path)
    intake.write("simulation_record", rows[:2000])  # of before the column vehicle_types
    said = [(*r, '["car", "rickshaw"]' if k % 500 == 0 else '["car"]') for k, r in enumerate(rows)]
    intake.write("simulation_record", said[2000:])
    with found.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as held:
        held.exec_driver_sql("VACUUM ANALYZE simulation_record")
    plan = found.rows(
        "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM simulation_record "
        f"WHERE {TYPES} @> CAST(:t AS jsonb)",
        t='["rickshaw"]',
    )
    text = json.dumps(plan[0])
    assert "Bitmap Index Scan" in text
    assert re.search(r"simulation_record_\w+_coalesce_idx", text)  # of whichever partition
    assert breakdown(found, Scope(), "vehicle_type", "day", vehicle_type="rickshaw")[0].n == 8
    found.close()


DIRECTIONS = ("north", "east", "south")
MINUTES = st.integers(0, 3 * 24 * 60)
BEGIN = datetime(2025, 9, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def many(new_record, tmp_path_factory):
    """Sixty records of three days, by a fixed dice."""
    dice = random.Random(11)
    rows = []
    for minute in sorted(dice.sample(range(3 * 24 * 60), 60)):
        names = dice.choices(DIRECTIONS, k=dice.randrange(1, 5))  # one may come twice
        signals = [
            signal(
                name, float(dice.randrange(90)), dice.randrange(12),
                car=dice.randrange(9), bus=dice.randrange(3),
            )
            for name in names
        ]  # fmt: skip
        at = BEGIN + timedelta(minutes=minute)
        rows.append((at, signals, dice.randrange(1, 20) / 10.0))
    folder = tmp_path_factory.mktemp("many")
    found = open_database(folder, new_record())
    Intake(found, folder).write(
        "simulation_record", [row(at.isoformat(), *s, flow=flow) for at, s, flow in rows]
    )
    yield found, rows
    found.close()


def by_reading(rows, by, bucket):
    """(bucket, direction, type) to n, vehicles, mean and longest wait, crossed, throughput."""
    entries = {}
    for number, (at, signals, flow) in enumerate(rows):
        begin = {
            "hour": at.replace(minute=0),
            "day": at.replace(hour=0, minute=0),
            "hour_of_day": at.hour,
            "none": None,
        }[bucket]
        all_crossed = sum(s["vehicles_crossed"] for s in signals)
        for s in signals:
            crossed, counts = s["vehicles_crossed"], s["vehicle_counts"]
            of_signal = flow * crossed / all_crossed if all_crossed else 0.0
            total = sum(counts.values())
            parts = [(None, total, 1.0, 1.0)]
            if by != "direction":
                parts = [(name, n, n / total, float(n)) for name, n in counts.items() if n]
            for name, vehicles, share, weight in parts:
                key = (begin, None if by == "vehicle_type" else s["direction"], name)
                entries.setdefault(key, []).append(
                    (number, vehicles, s["avg_wait_time"], weight, crossed * share,
                     of_signal * share)
                )  # fmt: skip
    found = {}
    for key, of_key in entries.items():
        numbers, vehicles, waits, weights, crossed, flows = zip(*of_key, strict=True)
        n = len(set(numbers))
        weighed = sum(w * x for w, x in zip(weights, waits, strict=True)) / sum(weights)
        figures = (n, sum(vehicles), weighed, max(waits), sum(crossed), sum(flows) / n)
        found[key] = figures
    return found


@settings(deadline=None, max_examples=40)
@given(
    begin=st.none() | MINUTES,
    end=st.none() | MINUTES,
    by=st.sampled_from(["direction", "vehicle_type", "both"]),
    bucket=st.sampled_from(["hour", "day", "hour_of_day", "none"]),
)
def test_any_window_is_what_a_reading_of_its_records_finds(many, begin, end, by, bucket):
    database, rows = many
    first, last = (None if m is None else BEGIN + timedelta(minutes=m) for m in (begin, end))
    within = [r for r in rows if (first is None or r[0] >= first) and (last is None or r[0] < last)]
    found = breakdown(database, Scope(begin=first, end=last), by, bucket)
    expected = by_reading(within, by, bucket)
    assert len(found) == len(expected)
    for b in found:
        key = (b.hour if bucket == "hour_of_day" else b.at, b.direction, b.vehicle_type)
        figures = (b.n, b.vehicles, b.mean_wait_s, b.longest_wait_s, b.crossed, b.throughput)
        assert figures == pytest.approx(expected[key])
        assert b.mean_vehicles == pytest.approx(b.vehicles / b.n)
