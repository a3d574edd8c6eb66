"""One dashboard over ingested records and this server's own streets, by hand."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from headway.analytics import MissingError, Scope, dashboards, records
from headway.store import Intake, open_database
from headway.store.upkeep import vacuum

NOW = datetime.now(UTC)


class Streets:
    """A database with runs of streets. begin: of the demand, simulated seconds."""

    def __init__(self, folder, url, begin_s=600.0):
        self.database = open_database(folder, url)
        self.intake = Intake(self.database, folder)
        self.begin_s = begin_s
        self.n = 0

    def run(
        self,
        street,
        wait,
        rows=121,
        junctions=("J1", "J2"),
        seed=1,
        scenario="cologne1",
        scale=1.0,
        first=0,
    ):
        """A row each 5 s, from `first` s after the begin; the wait is `wait(junction, seconds)`."""
        self.n += 1
        number = self.intake.begin_run(
            f"{street} {self.n}", scenario, "planner", seed, street, scale
        )
        found = []
        for k in range(first // 5, rows):
            at = (NOW - timedelta(seconds=rows - k)).isoformat()
            for junction in junctions:
                flow = (None, None) if k == 0 else (2, 0.4)
                speed = None if junction == "J2" else 36.0
                found.append(
                    (
                        number,
                        self.begin_s + 5.0 * k,
                        junction,
                        9,
                        4,
                        99.0,
                        1.0,
                        at,
                        wait(junction, 5 * k),
                        speed,
                        *flow,
                    )
                )
        self.intake.write("observation", found)
        return number


@pytest.fixture
def streets(new_record, tmp_path):
    found = Streets(tmp_path, new_record())
    yield found
    found.database.close()


def test_two_streets_are_paired_by_junction_and_block_over_the_same_demand(streets):
    """Blocks of 60 s: the baseline waits 20 and 30 s, at J2 twice as long; Headway half of it.
    What is beyond the last whole block does not count.
    """
    streets.run("baseline", lambda j, t: (20.0 if t < 300 else 30.0) * (1 + (j == "J2")), 125)
    streets.run("headway", lambda j, t: (10.0 if t < 300 else 15.0) * (1 + (j == "J2")), 130)
    found = dashboards.compare(streets.database, "street:baseline", "street:headway", Scope())
    assert (found.wait_s.n, found.unpaired, found.block_s) == (20, 0, 60.0)
    assert (found.wait_s.mean_a, found.wait_s.mean_b) == (37.5, 18.75)
    assert (found.wait_s.change_percent, found.wait_s.effect_size) == (-50.0, -1.0)
    assert (found.speed_kmh.n, found.speed_kmh.mean_difference) == (10, 0.0)  # J2 measured none
    assert found.throughput.mean_a == pytest.approx(0.4)
    assert [(r.run, r.street, r.scenario, r.seed) for r in found.runs] == [
        (1, "baseline", "cologne1", 1),
        (2, "headway", "cologne1", 1),
    ]
    of_runs = dashboards.compare(streets.database, "run:1", "run:2", Scope(), 300.0)
    assert (of_runs.wait_s.n, of_runs.wait_s.change_percent) == (4, -50.0)
    at_one = dashboards.compare(
        streets.database, "street:baseline", "street:headway", Scope(junction="J2")
    )
    assert (at_one.wait_s.n, at_one.wait_s.mean_a, at_one.speed_kmh) == (10, 50.0, None)


def test_the_runs_that_share_the_most_time_are_compared(streets):
    """The baseline has begun its second run: its first is compared, whole."""
    first = streets.run("baseline", lambda j, t: 20.0)
    mine = streets.run("headway", lambda j, t: 10.0)
    streets.run("baseline", lambda j, t: 99.0, rows=70)
    found = dashboards.compare(streets.database, "street:baseline", "street:headway", Scope())
    assert [r.run for r in found.runs] == [first, mine]
    assert (found.wait_s.n, found.wait_s.mean_a) == (20, 20.0)


def test_a_run_that_was_resumed_later_is_compared_from_its_first_whole_block(streets):
    streets.run("baseline", lambda j, t: 20.0)
    streets.run("headway", lambda j, t: 10.0, first=100)
    found = dashboards.compare(streets.database, "street:baseline", "street:headway", Scope())
    assert (found.wait_s.n, found.unpaired) == (16, 0), "720 to 1200 s, of two junctions"


def test_a_window_of_two_streets_of_different_pace_is_compared_over_the_same_seconds(streets):
    """The rows of each street lie a second of wall time apart, the last ones now: Headway is 200
    simulated seconds ahead. The wait grows with the demand, alike in both: no difference.
    """
    streets.run("baseline", lambda j, t: float(t), rows=241)
    streets.run("headway", lambda j, t: float(t), rows=281)
    window = Scope(begin=NOW - timedelta(seconds=200.5), end=NOW - timedelta(seconds=20.5))
    found = dashboards.compare(streets.database, "street:baseline", "street:headway", window)
    assert (found.wait_s.n, found.unpaired) == (22, 0), "1020 to 1680 s, of two junctions"
    assert found.wait_s.mean_difference == 0.0
    late = Scope(begin=NOW - timedelta(seconds=50.5))
    with pytest.raises(MissingError, match="no whole block of 60 simulated seconds"):
        dashboards.compare(streets.database, "street:baseline", "street:headway", late)


def test_a_block_of_which_one_street_lacks_a_part_has_no_partner(streets):
    """Rows were lost from 300 to 450 s: what is left of the last block is other seconds."""
    streets.run("baseline", lambda j, t: float(t))
    number = streets.run("headway", lambda j, t: float(t))
    with streets.database.engine.begin() as connection:
        connection.exec_driver_sql(
            f"DELETE FROM observation WHERE run_id = {number} AND at_s >= "
            f"{streets.begin_s + 300.0} AND at_s < {streets.begin_s + 450.0}"
        )
    found = dashboards.compare(streets.database, "street:baseline", "street:headway", Scope())
    assert (found.wait_s.n, found.wait_s.mean_difference) == (14, 0.0)
    assert found.unpaired == 8, "two blocks of the baseline, both halves; of two junctions"


@pytest.mark.parametrize("other", [{"seed": 2}, {"scenario": "cologne3"}, {"scale": 1.5}])
def test_runs_over_another_demand_are_not_compared(streets, other):
    streets.run("baseline", lambda j, t: 20.0, **other)
    streets.run("headway", lambda j, t: 10.0)
    with pytest.raises(MissingError, match="no two runs over the same demand"):
        dashboards.compare(streets.database, "street:baseline", "street:headway", Scope())


def test_what_cannot_be_compared_says_why(streets):
    def why(a, b, **more):
        with pytest.raises(MissingError) as found:
            dashboards.compare(streets.database, a, b, Scope(**more))
        return str(found.value)

    streets.run("baseline", lambda j, t: 20.0, rows=10)
    streets.run("headway", lambda j, t: 10.0, rows=10)
    both = ("street:baseline", "street:headway")
    assert "no whole block of 60 simulated seconds" in why(*both)
    assert (
        why("street:baseline", "street:gone") == "nothing of 'street:gone' is in the database yet"
    )
    assert "no demand in common" in why("SIM_1", "street:headway")
    assert why("run:1", "run:99999999999999999999999").startswith("nothing of 'run:9999")
    streets.run("headway", lambda j, t: 10.0)
    streets.run("baseline", lambda j, t: 20.0)
    assert "nothing was measured" in why(*both, begin=NOW + timedelta(days=1))


def test_streets_stand_beside_ingested_records(streets):
    """Of the street the newest run's newest row; of what was ingested the newest of its last hour,
    however long ago that was.
    """
    at = "2025-09-10T10:00:00Z"
    row = ("SIM", at, "J1", "[]", 7, 3.0, 0.5, 20.0, 1.0, 2.0, 1, True)
    streets.intake.write("simulation_record", [row])
    streets.run("headway", lambda j, t: 50.0)
    streets.run("headway", lambda j, t: 4.0 if j == "J1" else 8.0, rows=3)
    found = dashboards.live(streets.database)
    assert [
        (j["simulation_id"], j["intersection_id"], j["wait_s"], j["speed_kmh"])
        for j in found["junctions"]
    ] == [
        ("SIM", "J1", 3.0, 20.0),
        ("street:headway", "J1", 4.0, 36.0),
        ("street:headway", "J2", 8.0, None),
    ]
    assert (found["n"], found["mean_wait_s"], found["mean_speed_kmh"], found["vehicles"]) == (
        3,
        5.0,
        28.0,
        25,
    )
    assert [(s["simulation_id"], s["n"], s["mean_wait_s"]) for s in found["simulations"]] == [
        ("SIM", 1, 3.0),
        ("street:headway", 2, 6.0),
    ]
    of_street = records.summary(streets.database, "street:headway")
    # nobody reports any; 0 would be a figure
    nothing = (of_street.fuel_saved_l, of_street.co2_saved_kg, of_street.emergency_overrides)
    assert nothing == (None, None, None)
    assert (of_street.records, of_street.junctions, of_street.vehicles) == (248, 2, 2 * 244)
    assert records.summary(streets.database, "run:2").mean_wait_s == 6.0
    assert [w.n for w in records.waits(streets.database, Scope("run:2"))] == [3, 3]
    assert [s.intersection_id for s in records.speeds(streets.database, Scope("run:2"))] == ["J1"]
    assert records.series(streets.database, Scope("street:headway"), 86_400).n == 248
    assert {p["simulation_id"] for p in records.scatter(streets.database, Scope())} == {
        "SIM",
        "street:headway",
    }
    for ask in (records.impact, records.emergencies):
        assert ask(streets.database, Scope()).n == 1
        with pytest.raises(MissingError, match="'run:2' is a street of this server"):
            ask(streets.database, Scope("run:2"))


def test_live_reads_no_more_however_long_a_street_has_run_and_records_have_come(
    streets, monkeypatch
):
    """It read and sorted all rows of the run: 2.9 s after a week, and minutes after a year."""
    streets.run("headway", lambda j, t: 1.0, 2000)
    at = [(NOW - timedelta(hours=3, seconds=k)).isoformat() for k in range(2000)]
    old = [("S", t, "J", "[]", 1, 1.0, 1.0, 1.0, 0.0, 0.0, 0, False) for t in at]
    streets.intake.write("simulation_record", [*old, ("S", NOW.isoformat(), *old[0][2:])])
    vacuum(streets.database)
    ask, read = streets.database.rows, []

    def explained(query, **values):
        (plan,) = ask(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", **values)
        read.extend(re.findall(r"'Node Type': '[^']*Scan'.*?'Actual Rows': (\d+)", str(plan)))
        return ask(query, **values)

    monkeypatch.setattr(streets.database, "rows", explained)
    assert dashboards.live(streets.database)["n"] == 3
    assert max(map(int, read)) <= 20


def test_performance_compares_each_with_its_baseline(streets):
    for name, wait in (("A", 10.0), ("B", 5.0)):
        streets.intake.write(
            "simulation_record",
            [
                (
                    name,
                    f"2025-09-10T10:00:{k:02d}Z",
                    "J1",
                    "[]",
                    1,
                    wait + k,
                    1.0,
                    1.0,
                    0.0,
                    0.0,
                    0,
                    False,
                )
                for k in range(3)
            ],
        )
    streets.run("baseline", lambda j, t: 20.0)
    streets.run("headway", lambda j, t: 8.0)
    found = {r["simulation_id"]: r for r in dashboards.performance(streets.database, Scope())}
    assert list(found) == ["B", "street:headway", "A", "street:baseline"]
    mine = found["street:headway"]
    assert (mine["baseline"], mine["comparison"]["wait_s"]["change_percent"], mine["why"]) == (
        "street:baseline",
        -60.0,
        "",
    )
    assert (found["street:baseline"]["comparison"], found["street:baseline"]["why"]) == (
        None,
        "is the baseline",
    )
    assert found["A"]["why"] == "name a baseline to compare with (baseline=)"
    found = {r["simulation_id"]: r for r in dashboards.performance(streets.database, Scope(), "A")}
    assert found["B"]["comparison"]["wait_s"]["mean_difference"] == -5.0
    assert "no demand in common" in found["street:headway"]["why"]


def test_a_run_is_compared_by_its_own_rows_not_by_those_of_its_street(streets):
    """The first run waits 12 s, a newer one 5 s; both beside the baseline's 20 s."""
    base = streets.run("baseline", lambda j, t: 20.0)
    old = streets.run("headway", lambda j, t: 12.0)
    streets.run("headway", lambda j, t: 5.0)
    (found,) = dashboards.performance(streets.database, Scope(f"run:{old}"))
    assert (found["simulation_id"], found["mean_wait_s"]) == (f"run:{old}", 12.0)
    compared = found["comparison"]
    assert (compared["ai"], compared["wait_s"]["mean_b"]) == (f"run:{old}", 12.0)
    assert [r["run"] for r in compared["runs"]] == [base, old]


def test_a_long_list_is_compared_in_part(streets, monkeypatch):
    monkeypatch.setattr(dashboards, "MOST_COMPARED", 1)
    streets.run("baseline", lambda j, t: 20.0)
    streets.run("headway", lambda j, t: 8.0)
    streets.run("other", lambda j, t: 9.0)
    found = dashboards.performance(streets.database, Scope())
    assert [r["comparison"] is None for r in found] == [False, True, True]
    assert found[1]["why"].startswith("the first 1 are compared")
