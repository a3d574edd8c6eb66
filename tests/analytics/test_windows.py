"""Every measure of a run on any window against a reading second by second of the whole record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headway.analytics import signals
from headway.store import Intake, open_database

RED, YELLOW, PERMISSIVE, GREEN = 1, 2, 3, 4
LAST = 120  # s, the last second in which anything is recorded
VEHICLES, WALK = ("J", 0), ("P", 1)


@dataclass(frozen=True)
class Record:
    """What was recorded of a run: second to value. looks: (standing vehicles, longest wait), and
    (vehicles, petrol mg/s, CO2 mg/s).
    """

    colours: Mapping[tuple[str, int], Mapping[int, int]]
    detectors: Mapping[tuple[str, int], Mapping[int, bool]]
    queues: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    emissions: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def seconds(self):
        tables = [*self.colours.values(), *self.detectors.values(), self.queues]
        times = [t for table in tables for t in table]
        return min(times, default=0), max(times, default=-1)

    def shown(self, key):
        """Of each second "red", "yellow", "green" or None, as its lamp is from its begin on."""
        names = {None: None, RED: "red", YELLOW: "yellow", PERMISSIVE: "green", GREEN: "green"}
        return [names[v] for v in held(self.colours[key])]

    def occupied(self, key):
        return [bool(v) for v in held(self.detectors.get(key, {}))]


def held(changes, seconds=LAST + 1):
    """The newest value at each second."""
    values, newest = [], None
    for t in range(seconds):
        newest = changes.get(t, newest)
        values.append(newest)
    return values


def turns(shown):
    """Seconds at which a lamp changed, to what."""
    before = [None, *shown]
    return [(t, s) for t, s in enumerate(shown) if s is not None and s != before[t]]


def measured_seconds(record, begin, end):
    first, last = record.seconds
    return range(max(begin, first), min(end, last))


def arrivals(record, key, begin, end):
    shown = record.shown(key)
    found = []
    for t, is_on in sorted(record.detectors.get(key, {}).items()):
        if is_on and begin <= t < end and shown[t] is not None:
            found.append((t, shown[t]))
    waits = []
    for t, colour in found:
        if colour == "red":
            waits += [u - t for u in range(t, LAST + 1) if shown[u] == "green"][:1]
    counts = [sum(c == colour for _, c in found) for colour in ("green", "yellow", "red")]
    return len(found), *counts, sum(waits) / len(waits) if waits else None


def whole_greens(record, key, begin, end):
    """(begin, end, begin of the red after it or None) of greens that began and ended in the
    window.
    """
    changes = turns(record.shown(key))
    found = []
    for k, (t, colour) in enumerate(changes[:-1]):
        until, after = changes[k + 1]
        if colour == "green" and begin <= t and until < end:
            later = [u for u, _ in changes[k + 2 : k + 3]] or [None]
            found.append((t, until, until if after == "red" else later[0]))
    return found


def failures(record, key, begin, end):
    _, last = record.seconds
    occupied = record.occupied(key)
    n = failed = 0
    for t, until, red in whole_greens(record, key, begin, end):
        if red is not None and red + 5 <= last:
            n += 1
            in_green, in_red = occupied[t:until], occupied[red : red + 5]
            failed += 100 * sum(in_green) > 79 * len(in_green) and sum(in_red) >= 4
    return n, failed


def health(record, key, begin, end):
    _, last = record.seconds
    n = arrivals(record, key, begin, end)[0]
    stood = any(record.occupied(key)[max(begin, 0) : max(min(end, last + 1), 0)])
    return "ok" if n or stood else "silent"


def is_shown(record, key, begin, end):
    return any(
        s is not None
        for s in record.shown(key)[max(begin, 0) : max(min(end, record.seconds[1] + 1), 0)]
    )


SECONDS = st.integers(0, LAST)
COLOURS = st.dictionaries(SECONDS, st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=14)
ACTUATIONS = st.lists(SECONDS, unique=True, max_size=16).map(
    lambda times: {t: k % 2 == 0 for k, t in enumerate(sorted(times))}
)
RECORDS = st.builds(
    lambda colours, walk, cars, calls, queues, emissions: Record(
        {VEHICLES: colours, WALK: walk}, {VEHICLES: cars, WALK: calls}, queues, emissions
    ),
    COLOURS,
    COLOURS,
    ACTUATIONS,
    ACTUATIONS,
    st.dictionaries(SECONDS, st.tuples(st.integers(0, 20), st.integers(0, 90)), max_size=12),
    st.dictionaries(SECONDS, st.tuples(*[st.integers(0, 50)] * 3), max_size=12),
)
WINDOWS = st.one_of(
    st.just((-100, 10_000)),
    st.tuples(st.integers(-5, LAST + 10), st.integers(0, 60)).map(lambda w: (w[0], w[0] + w[1])),
)


@pytest.fixture(scope="module")
def street(new_record, tmp_path_factory):
    """Makes runs in one record; the number of each."""
    folder = tmp_path_factory.mktemp("windows")
    database = open_database(folder, new_record())
    intake = Intake(database, folder)
    made = iter(range(100_000))

    def make(record):
        run = intake.begin_run(f"run {next(made)}", "cologne1", "planner", 7)
        for table, values in (
            ("signal_state", record.colours),
            ("detector_state", record.detectors),
        ):
            rows = [(run, float(t), *k, v) for k, of in values.items() for t, v in of.items()]
            intake.write(table, rows)
        intake.write("crossing", [(run, *WALK)])
        rows = [(run, float(t), "J", 9, n, w, 1.0) for t, (n, w) in record.queues.items()]
        intake.write("observation", rows)
        intake.write("emission", [(run, float(t), *v) for t, v in record.emissions.items()])
        return run

    yield database, make
    database.close()


GREEN_ALL_ALONG = Record(
    {VEHICLES: {1: GREEN, 20: RED}, WALK: {1: GREEN, 20: RED}}, {VEHICLES: {}, WALK: {}}
)
OCCUPIED_TO_THE_END = Record(
    {VEHICLES: {0: 1}, WALK: {0: 1}}, {VEHICLES: {0: True}, WALK: {1: True}}, {}, {}
)


@settings(deadline=None, max_examples=60)
@given(RECORDS, st.lists(WINDOWS, min_size=3, max_size=3))
@example(GREEN_ALL_ALONG, [(2, 2), (20, 20), (20, 21)])
@example(OCCUPIED_TO_THE_END, [(1, 2), (2, 3), (0, 1)])
def test_every_measure_of_any_window_is_what_a_reading_by_seconds_finds(street, record, windows):
    database, make = street
    run = make(record)
    for begin, end in windows:
        window = (float(begin), float(end))
        present = {k for k in (VEHICLES, WALK) if is_shown(record, k, begin, end)}

        splits = {
            (s.junction, s.signal_group): s for s in signals.splits(database, run, None, *window)
        }
        assert splits.keys() == present
        for key, found in splits.items():
            seconds = measured_seconds(record, begin, end)
            lengths = [until - t for t, until, _ in whole_greens(record, key, begin, end)]
            green = sum(record.shown(key)[t] == "green" for t in seconds)
            share = green / len(seconds) if seconds else None
            assert found.green_share == (None if share is None else pytest.approx(share))
            assert found.n == len(lengths)
            assert found.longest_green_s == max(lengths, default=None)
            mean = sum(lengths) / len(lengths) if lengths else None
            assert found.mean_green_s == (None if mean is None else pytest.approx(mean))

        cars = {
            (a.junction, a.signal_group): a for a in signals.arrivals(database, run, None, *window)
        }
        assert cars.keys() == present - {WALK}
        for key, met in cars.items():
            counted = (met.n, met.on_green, met.on_yellow, met.on_red)
            *counts, delay = arrivals(record, key, begin, end)
            assert counted == tuple(counts)
            assert met.delay_s == (None if delay is None else pytest.approx(delay))
            assert (met.greens, met.failures) == failures(record, key, begin, end)
            assert met.health == health(record, key, begin, end)

        ends = {
            (e.junction, e.signal_group): e
            for e in signals.terminations(database, run, None, *window)
        }
        assert ends.keys() == present - {WALK}
        for key, ended in ends.items():
            first = turns(record.shown(key))[0][0]  # nobody knows when that began
            greens = [g for g in whole_greens(record, key, begin, end) if g[0] != first]
            lengths = [(red or until) - t for t, until, red in greens]
            mean = sum(lengths) / len(lengths) if lengths else None
            assert ended.mean_split_s == (None if mean is None else pytest.approx(mean))
            occupied = record.occupied(key)
            reasons = []
            for t, until, _ in greens:
                calm = not any(until - 3 < u <= until for u in record.detectors[key])
                is_gap = calm and not occupied[until]
                reasons.append("max" if until - t >= 90 else "gap" if is_gap else "force")
            assert ended.n == len(greens)
            assert (ended.max_out, ended.gap_out, ended.force_off) == tuple(
                reasons.count(why) for why in ("max", "gap", "force")
            )

        walks = {
            (p.junction, p.signal_group): p
            for p in signals.pedestrian_delay(database, run, None, *window)
        }
        assert walks.keys() == present & {WALK}
        for key, walk in walks.items():
            shown = record.shown(key)
            delays = []
            for t, is_on in record.detectors[key].items():
                if is_on and begin <= t < end:
                    delays += [u - t for u in range(t, LAST + 1) if shown[u] == "green"][:1]
            assert walk.n == len(delays)
            assert walk.longest_s == max(delays, default=None)
            assert walk.mean_s == (pytest.approx(sum(delays) / len(delays)) if delays else None)

        diagram = signals.coordination(database, run, *VEHICLES, *window)
        shown = record.shown(VEHICLES)
        reds = [t for t, colour in turns(shown) if colour == "red"]
        points = []
        for t, is_on in sorted(record.detectors[VEHICLES].items()):
            before = [r for r in reds if r <= t]
            if is_on and begin <= t < end and before:
                points.append((t, t - before[-1]))
        assert list(zip(diagram.at_s, diagram.into_cycle_s, strict=True)) == points

        queues = [v for t, v in record.queues.items() if begin <= t < end]
        found_queues = signals.queues(database, run, None, *window)
        assert [q.n for q in found_queues] == ([len(queues)] if queues else [])
        if queues:
            assert found_queues[0].longest_veh == max(n for n, _ in queues)
            assert found_queues[0].longest_wait_s == max(w for _, w in queues)

        burnt = signals.impact(database, run, None, 2.0, *window).run
        looks = sorted(record.emissions)
        rates = held(record.emissions)
        seconds = range(max(begin, looks[0]), min(end, looks[-1])) if looks else range(0)
        assert burnt.hours == pytest.approx(len(seconds) / 3600)
        assert burnt.n == sum(begin <= t < end for t in looks)
        assert burnt.vehicle_h == pytest.approx(sum(rates[t][0] for t in seconds) / 3600)
        litres = sum(rates[t][1] for t in seconds) / 1e6 / 0.745
        assert (burnt.fuel_l, burnt.cost) == pytest.approx((litres, 2.0 * litres))
        assert burnt.co2_kg == pytest.approx(sum(rates[t][2] for t in seconds) / 1e6)


def test_a_window_knows_what_began_hours_before_it_and_what_became_of_its_end(street):
    """Green since 10 s, a vehicle since 20 s, red from 20,000 s on; an arrival at 20,050 s waits
    for the green at 23,000 s.
    """
    database, make = street
    record = Record(
        {VEHICLES: {0: RED, 10: GREEN, 20_000: RED, 23_000: GREEN, 23_500: RED}},
        {VEHICLES: {20: True, 21: False, 20_050: True}},
        {24_000: (0, 0)},
    )
    run = make(record)
    (split,) = signals.splits(database, run, None, 15_000.0, 15_010.0)
    assert (split.n, split.green_share) == (0, 1.0)
    (met,) = signals.arrivals(database, run, None, 15_000.0, 15_010.0)
    assert (met.n, met.greens, met.health) == (0, 0, "silent")
    (met,) = signals.arrivals(database, run, None, 20_040.0, 20_060.0)
    assert (met.n, met.on_red, met.delay_s, met.health) == (1, 1, 2950.0, "stuck")
    diagram = signals.coordination(database, run, *VEHICLES, 20_040.0, 20_060.0)
    assert (diagram.at_s, diagram.into_cycle_s) == ([20_050.0], [50.0])
    assert (diagram.cycle_at_s, diagram.green_s) == ([20_000.0], [3000.0])
    (split,) = signals.splits(database, run, None, 23_400.0, 23_900.0)
    assert split.green_share == 0.2
    assert signals.splits(database, run, None, 24_000.5, 30_000.0) == []
    assert signals.arrivals(database, run, None, 24_000.5, 30_000.0) == []


def test_the_parts_of_a_run_add_up_to_it(street):
    """Windows end to end: arrivals, seconds of green and what was burnt are those of the whole."""
    database, make = street
    record = Record(
        {VEHICLES: {0: RED, 20: GREEN, 40: YELLOW, 43: RED, 60: GREEN, 80: RED}},
        {VEHICLES: {5: True, 22: False, 45: True, 58: False, 61: True, 62: False}},
        {100: (1, 2)},
        {0: (10, 20, 30), 50: (5, 6, 7), 100: (0, 0, 0)},
    )
    run = make(record)

    def of(begin, end):
        (split,) = signals.splits(database, run, None, begin, end)
        (met,) = signals.arrivals(database, run, None, begin, end)
        burnt = signals.impact(database, run, None, 1.7, begin, end).run
        length = min(end, 100.0) - begin
        return [split.green_share * length, met.n, met.on_red, met.on_green, burnt.co2_kg]

    for step in (7, 10, 33):
        parts = [of(float(t), float(t + step)) for t in range(0, 100, step)]
        assert [math.fsum(column) for column in zip(*parts, strict=True)] == pytest.approx(
            of(0.0, 1e12)
        )
    assert of(0.0, 1e12)[:4] == pytest.approx([40.0, 3, 2, 1])
