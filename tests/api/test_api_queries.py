"""Every query on the database, with records set by hand:
the figures, their units, and which records each parameter selects.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter

from headway.analytics import event_log, signals
from headway.api import queries
from tests.api.service import EXAMPLE, serving

DAY = "2025-09-10T00:"


def record(
    simulation,
    second,
    junction,
    wait,
    speed,
    flow,
    vehicles,
    fuel,
    co2,
    overrides=0,
    emergency=False,
):
    figures = {
        "total_vehicles_passed": vehicles, "avg_wait_time_all_sides": wait, "throughput": flow,
        "avg_speed": speed, "fuel_saved": fuel,
        "co2_saved": co2, "emergency_overrides": overrides,
    }  # fmt: skip
    return {
        "simulation_id": simulation,
        "timestamp": f"2025-09-10T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z",
        "intersection_id": junction, "metrics": figures,
        "signals": [EXAMPLE["signals"][0] | {"emergency_vehicle_present": emergency}],
    }  # fmt: skip


RECORDS = [
    record("A", 0, "J1", 10.0, 20.0, 0.5, 100, 1.0, 2.0),
    record("A", 60, "J1", 20.0, 30.0, 0.75, 120, 2.0, 3.0, 1, True),
    record("A", 120, "J1", 60.0, 40.0, 1.0, 140, 3.0, 4.0),
    record("A", 0, "J2", 40.0, 50.0, 1.25, 50, -1.0, -2.0, 2, True),
    record("B", 3600, "J1", 15.0, 22.0, 0.5, 90, 0.5, 1.0),
    record("B", 3660, "J1", 25.0, 33.0, 0.5, 95, 0.5, 1.0),
    record("B", 3600, "J2", 45.0, 55.0, 0.5, 40, 0.5, 1.0),
    record("C", 61, "J3", 1.0, 10.0, 0.25, 8, 0.0, 0.0, 0, True),
    record("C", 60, "J4", 2.0, 10.0, 0.25, 9, 0.0, 0.0),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_record):
    with serving(tmp_path_factory.mktemp("questions"), url=new_record()) as found:
        yield found


def write_signals(intake, run):
    """What the signals of J and K showed, and what their detectors reported."""
    colours = [(0, 1), (10, 3), (30, 2), (33, 1), (50, 4), (80, 2), (83, 1), (110, 3)]
    intake.write("signal_state", [(run, float(t), "J", 0, c) for t, c in colours])
    intake.write(
        "signal_state",
        [(run, float(t), "J", 1, c) for t, c in ((0, 1), (40, 3), (45, 1), (120, 1))],
    )
    intake.write(
        "signal_state",
        [(run, float(t), "K", 0, c) for t, c in ((5, 3), (25, 1), (60, 3), (70, 1))],
    )
    intake.write(
        "detector_state",
        [
            (run, float(t), "J", 0, on)
            for t, on in ((12, True), (13, False), (40, True), (52, False), (81, True), (82, False))
        ],
    )
    intake.write(
        "detector_state", [(run, float(t), "J", 1, on) for t, on in ((20, True), (41, False))]
    )
    intake.write("crossing", [(run, "J", 1)])


def write_measures(intake, first, second):
    """Queues and events of the first run, emissions of both."""
    intake.write(
        "observation",
        [
            (first, float(t), j, 9, q, w, 1.0)
            for t, j, q, w in (
                (5, "J", 2, 8.0),
                (10, "J", 4, 16.0),
                (15, "J", 6, 4.0),
                (5, "K", 1, 1.0),
            )
        ],
    )
    intake.write(
        "emission",
        [
            (first, float(t), n, f, c)
            for t, n, f, c in (
                (0, 10, 745.0, 2000.0),
                (1000, 20, 1490.0, 4000.0),
                (2000, 0, 0.0, 0.0),
            )
        ],
    )
    intake.write(
        "emission",
        [
            (second, float(t), n, f, c)
            for t, n, f, c in (
                (0, 30, 2235.0, 6000.0),
                (1000, 20, 2235.0, 4000.0),
                (2000, 0, 0.0, 0.0),
            )
        ],
    )
    intake.write(
        "event",
        [
            (first, n, float(n), kind, "J", f'{{"k": {n}}}')
            for n, kind in enumerate(("engine.started", "safety.override", "safety.x"), 1)
        ],
    )


@pytest.fixture(scope="module")
def run(running):
    """A run of 120 s at junction J with a signal group for vehicles, one for pedestrians,
    and one at junction K; and a second run.
    """
    intake = running.app.state.services.intake
    first = intake.begin_run("one", "cologne1", "planner", 3)
    second = intake.begin_run("two", "cologne1", "fixed", 3)
    write_signals(intake, first)
    write_measures(intake, first, second)
    return first


@pytest.fixture(scope="module")
def client(running):
    with running.client("operator") as found:
        assert found.post("/api/v1/ingest/batch", json=RECORDS).json()["stored"] == len(RECORDS)
        yield found


@pytest.fixture(scope="module")
def get(client):
    def ask(path, **query):
        answer = client.get(f"/api/v1/{path}", params=query)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        return answer.json()

    return ask


def test_the_summary_of_a_simulation(get, client):
    assert get("analytics/simulation/A/summary") == {
        "simulation_id": "A", "records": 4, "junctions": 2, "begin": f"{DAY}00:00Z",
        "end": f"{DAY}02:00Z", "vehicles": 410, "mean_wait_s": 32.5,
        "mean_speed_kmh": 35.0, "mean_throughput": 0.875, "fuel_saved_l": 5.0, "co2_saved_kg": 7.0,
        "emergency_overrides": 3,
    }  # fmt: skip
    answer = client.get("/api/v1/analytics/simulation/NONE/summary")
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "there is no simulation 'NONE' in the database",
    )


def test_waits_by_junction(get):
    """Of 10, 20 and 60 s the 95th percentile lies 0.9 of the way from the second to the third:
    56 s.
    """
    one = {
        "intersection_id": "J1",
        "n": 3,
        "mean_s": 30.0,
        "median_s": 20.0,
        "p95_s": pytest.approx(56.0),
    }
    two = {"intersection_id": "J2", "n": 1, "mean_s": 40.0, "median_s": 40.0, "p95_s": 40.0}
    assert get("analytics/wait-times", simulation_id="A") == [one, two]
    assert [(w["intersection_id"], w["n"]) for w in get("analytics/wait-times")] == [
        ("J1", 5),
        ("J2", 2),
        ("J3", 1),
        ("J4", 1),
    ]


def test_speeds_by_junction(get):
    """Of 20, 30 and 40 km/h the 15th percentile lies 0.3 of the way from the first to the second:
    23 km/h.
    """
    one = {
        "intersection_id": "J1",
        "n": 3,
        "mean_kmh": 30.0,
        "median_kmh": 30.0,
        "p15_kmh": pytest.approx(23.0),
    }
    two = {"intersection_id": "J2", "n": 1, "mean_kmh": 50.0, "median_kmh": 50.0, "p15_kmh": 50.0}
    assert get("analytics/speeds", simulation_id="A") == [one, two]


@pytest.mark.parametrize("path", ["analytics/wait-times", "analytics/speeds"])
@pytest.mark.parametrize(
    ("query", "counts"),
    [
        ({"simulation_id": "A", "intersection_id": "J1"}, {"J1": 3}),
        ({"intersection_id": "J2"}, {"J2": 2}),
        ({"simulation_id": "A", "begin": f"{DAY}01:00Z"}, {"J1": 2}),
        ({"simulation_id": "A", "end": f"{DAY}01:00Z"}, {"J1": 1, "J2": 1}),
        ({"simulation_id": "A", "begin": f"{DAY}01:00Z", "end": f"{DAY}02:00Z"}, {"J1": 1}),
        ({"limit": 1}, {"J1": 5}),
        ({"limit": 2, "offset": 1}, {"J2": 2, "J3": 1}), ({"simulation_id": "none"}, {}),
    ],
)  # fmt: skip
def test_a_window_takes_one_simulation_one_junction_a_time_and_a_part(get, path, query, counts):
    assert {row["intersection_id"]: row["n"] for row in get(path, **query)} == counts


def test_savings_are_valued_at_the_fuel_price(get):
    assert get("analytics/environmental-impact", simulation_id="A") == {
        "n": 4, "fuel_saved_l": 5.0, "co2_saved_kg": 7.0, "fuel_price_per_l": 1.7,
        "money_saved": 8.5, "co2_kg_per_l": 2.31,
        "co2_from_fuel_kg": pytest.approx(11.55),
    }  # fmt: skip
    found = get(
        "analytics/environmental-impact",
        simulation_id="A",
        intersection_id="J1",
        fuel_price_per_l=2,
        co2_kg_per_l=2.5,
    )
    assert found == {
        "n": 3, "fuel_saved_l": 6.0, "co2_saved_kg": 9.0, "fuel_price_per_l": 2.0,
        "money_saved": 12.0, "co2_kg_per_l": 2.5,
        "co2_from_fuel_kg": 15.0,
    }  # fmt: skip


def test_two_simulations_are_compared_pair_by_pair(get, client):
    """Each of the three pairs waits 5 s longer; the record of A after 120 s has no partner."""
    found = get("analytics/comparison/baseline-vs-ai", baseline="A", ai="B")
    assert (found["baseline"], found["ai"], found["unpaired"]) == ("A", "B", 1)
    assert {k: found["wait_s"][k] for k in ("n", "mean_a", "mean_b", "mean_difference")} == {
        "n": 3, "mean_a": pytest.approx(70 / 3), "mean_b": pytest.approx(85 / 3),
        "mean_difference": pytest.approx(5.0),
    }  # fmt: skip
    assert found["speed_kmh"]["mean_a"] == pytest.approx(100 / 3)
    assert found["throughput"]["mean_b"] == 0.5
    one = get("analytics/comparison/baseline-vs-ai", baseline="A", ai="B", intersection_id="J2")
    assert (one["wait_s"]["n"], one["unpaired"]) == (1, 0)
    answer = client.get(
        "/api/v1/analytics/comparison/baseline-vs-ai",
        params={"baseline": "A", "ai": "B", "end": f"{DAY}30:00Z"},
    )
    assert answer.json()["detail"] == "there is no simulation 'B' in the database, in this window"


def test_emergencies_and_their_waits(get):
    assert get("analytics/emergency-report", simulation_id="A") == {
        "n": 4, "with_vehicle": 2, "overrides": 3, "mean_wait_with_s": 30.0,
        "mean_wait_without_s": 35.0,
        "by_junction": [
            {"intersection_id": "J2", "with_vehicle": 1, "overrides": 2},
            {"intersection_id": "J1", "with_vehicle": 1, "overrides": 1},
        ],
    }  # fmt: skip
    assert get("analytics/emergency-report", simulation_id="B", intersection_id="J2") == {
        "n": 1, "with_vehicle": 0, "overrides": 0, "mean_wait_with_s": None,
        "mean_wait_without_s": 45.0, "by_junction": [],
    }  # fmt: skip


def test_a_simulation_over_time(get):
    first = {
        "at": f"{DAY}00:00Z",
        "n": 2,
        "wait_s": 25.0,
        "speed_kmh": 35.0,
        "throughput": 0.875,
        "vehicles": 150,
    }
    second = {
        "at": f"{DAY}01:00Z",
        "n": 1,
        "wait_s": 20.0,
        "speed_kmh": 30.0,
        "throughput": 0.75,
        "vehicles": 120,
    }
    third = {
        "at": f"{DAY}02:00Z",
        "n": 1,
        "wait_s": 60.0,
        "speed_kmh": 40.0,
        "throughput": 1.0,
        "vehicles": 140,
    }
    head = {"simulation_id": "A", "bucket_s": 60, "next_offset": None}
    assert get("analytics/time-series/A") == head | {"n": 4, "points": [first, second, third]}
    assert get("analytics/time-series/A", begin=f"{DAY}01:00Z", limit=1) == head | {
        "n": 1,
        "points": [third],
        "next_offset": 1,
    }
    assert get("analytics/time-series/A", begin=f"{DAY}01:00Z", limit=1, offset=1) == head | {
        "n": 1,
        "points": [second],
    }
    both = {
        "at": f"{DAY}00:00Z",
        "n": 3,
        "wait_s": pytest.approx(70 / 3),
        "speed_kmh": pytest.approx(100 / 3),
        "throughput": pytest.approx(2.5 / 3),
        "vehicles": 270,
    }
    assert get("analytics/time-series/A", bucket_s=120) == {
        "simulation_id": "A",
        "bucket_s": 120,
        "n": 4,
        "points": [both, third],
        "next_offset": None,
    }


def test_waits_over_time_by_five_minutes(get):
    point = {
        "at": f"{DAY}00:00Z",
        "n": 4,
        "wait_s": 32.5,
        "speed_kmh": 35.0,
        "throughput": 0.875,
        "vehicles": 410,
    }
    assert get("charts/wait-time-trend", simulation_id="A") == {
        "simulation_id": "A",
        "bucket_s": 300,
        "n": 4,
        "points": [point],
        "next_offset": None,
    }
    assert (
        get("charts/wait-time-trend", simulation_id="A", bucket_s=60, intersection_id="J2")[
            "points"
        ][0]["wait_s"]
        == 40.0
    )
    found = get("charts/wait-time-trend")
    assert (found["simulation_id"], found["n"], [p["n"] for p in found["points"]]) == (
        None,
        9,
        [6, 3],
    )


def test_the_newest_of_each_junction_of_each_simulation_within_an_hour(get):
    """The newest record is of 01:01:00: what is of 00:01:00 or before is too old,
    so J4 is not there.
    """
    found = get("dashboard/live-metrics")
    assert [(j["intersection_id"], j["simulation_id"], j["at"]) for j in found["junctions"]] == [
        ("J1", "A", f"{DAY}02:00Z"), ("J1", "B", "2025-09-10T01:01:00Z"),
        ("J2", "B", "2025-09-10T01:00:00Z"), ("J3", "C", f"{DAY}01:01Z"),
    ]  # fmt: skip
    del found["junctions"]
    each = found.pop("simulations")
    assert [(s["simulation_id"], s["n"], s["vehicles"]) for s in each] == [
        ("A", 1, 140),
        ("B", 2, 135),
        ("C", 1, 8),
    ]
    assert found == {
        "n": 4, "at": "2025-09-10T01:01:00Z", "mean_wait_s": pytest.approx(131 / 4),
        "mean_speed_kmh": pytest.approx(138 / 4), "vehicles": 283,
        "emergencies": 1,
    }  # fmt: skip


def test_simulations_side_by_side_shortest_wait_first(get):
    c = {
        "simulation_id": "C",
        "n": 2,
        "mean_wait_s": 1.5,
        "mean_speed_kmh": 10.0,
        "mean_throughput": 0.25,
    }
    b = {
        "simulation_id": "B",
        "n": 3,
        "mean_wait_s": pytest.approx(85 / 3),
        "mean_speed_kmh": pytest.approx(110 / 3),
        "mean_throughput": 0.5,
    }
    a = {
        "simulation_id": "A",
        "n": 4,
        "mean_wait_s": 32.5,
        "mean_speed_kmh": 35.0,
        "mean_throughput": 0.875,
    }
    alone = {
        "baseline": None,
        "comparison": None,
        "why": "name a baseline to compare with (baseline=)",
    }
    assert get("dashboard/performance-comparison") == [c | alone, b | alone, a | alone]
    assert get("dashboard/performance-comparison", limit=1, offset=1) == [b | alone]
    assert [
        r["simulation_id"] for r in get("dashboard/performance-comparison", intersection_id="J2")
    ] == ["A", "B"]


def test_throughput_beside_wait_a_point_a_record(get):
    found = get("charts/performance-scatter", simulation_id="A")
    assert found[0] == {
        "simulation_id": "A",
        "intersection_id": "J1",
        "at": f"{DAY}00:00Z",
        "throughput": 0.5,
        "wait_s": 10.0,
        "speed_kmh": 20.0,
    }
    assert [(p["throughput"], p["wait_s"]) for p in found] == [
        (0.5, 10.0),
        (1.25, 40.0),
        (0.75, 20.0),
        (1.0, 60.0),
    ]
    assert [p["wait_s"] for p in get("charts/performance-scatter", limit=1)] == [25.0]
    assert [p["wait_s"] for p in get("charts/performance-scatter", offset=8)] == [10.0]


def test_the_runs_of_the_engine_newest_first(get, run):
    found = get("runs")
    demand = {"street": "", "scenario": "cologne1", "seed": 3, "scale": 1.0}

    def since(controller):
        return [{"at_s": None, "controller": controller}]

    assert [{k: v for k, v in r.items() if k != "begun_at"} for r in found] == [
        {"id": run + 1, "key": "two", "controller": "fixed", "controllers": since("fixed")}
        | demand,
        {"id": run, "key": "one", "controller": "planner", "controllers": since("planner")}
        | demand,
    ]
    assert all(
        abs((datetime.now(UTC) - datetime.fromisoformat(r["begun_at"])).total_seconds()) < 600
        for r in found
    )


def test_greens_of_a_group(get, run):
    """J's group is green from 10 to 30, from 50 to 80 and from 110 on, of 120 s of the record."""
    found = get(f"runs/{run}/splits")
    assert found[0] == {
        "junction": "J", "signal_group": 0, "n": 2, "mean_green_s": 25.0,
        "p85_green_s": pytest.approx(28.5), "longest_green_s": 30.0,
        "green_share": pytest.approx(60 / 120),
    }  # fmt: skip
    assert [(s["junction"], s["signal_group"], s["n"]) for s in found] == [
        ("J", 0, 2),
        ("J", 1, 1),
        ("K", 0, 2),
    ]


def test_queues_of_a_junction(get, run):
    assert get(f"runs/{run}/queues") == [
        {
            "junction": "J",
            "n": 3,
            "mean_veh": 4.0,
            "p95_veh": pytest.approx(5.8),
            "longest_veh": 6,
            "longest_wait_s": 16.0,
        },
        {
            "junction": "K",
            "n": 1,
            "mean_veh": 1.0,
            "p95_veh": 1.0,
            "longest_veh": 1,
            "longest_wait_s": 1.0,
        },
    ]


def test_arrivals_at_a_group(get, run):
    """One at 12 on green, one at 40 on red (10 s before the next green), one at 81 on yellow."""
    found = get(f"runs/{run}/arrivals", junction="J")
    assert [
        (a["signal_group"], a["n"], a["on_green"], a["on_yellow"], a["on_red"], a["delay_s"])
        for a in found
    ] == [(0, 3, 1, 1, 1, 10.0)]


def test_a_pedestrian_waits_for_the_walk(get, run):
    """The call comes at 20, the walk at 40."""
    assert get(f"runs/{run}/pedestrian-delay") == [
        {
            "junction": "J",
            "signal_group": 1,
            "n": 1,
            "mean_s": 20.0,
            "p95_s": 20.0,
            "longest_s": 20.0,
        }
    ]


def test_what_ended_the_greens(get, run):
    found = get(f"runs/{run}/terminations", junction="J")
    assert [
        (t["n"], t["gap_out"] + t["max_out"] + t["force_off"], t["mean_split_s"]) for t in found
    ] == [(2, 2, 28.0)]


def test_the_coordination_diagram(get, run):
    found = get(f"runs/{run}/coordination", junction="J", signal_group=0)
    assert found == {
        "at_s": [12.0, 40.0, 81.0], "into_cycle_s": [12.0, 7.0, 48.0],
        "cycle_at_s": [0.0, 33.0, 83.0], "green_s": [10.0, 17.0, 27.0],
        "yellow_s": [30.0, 47.0, None],
    }  # fmt: skip


def test_emissions_and_savings_of_a_run(get, run):
    """745 mg/s over 1,000 s are a litre (0.745 kg/l), then two; beside 3 and 3 of the other run."""
    mine = {
        "run": run,
        "n": 3,
        "hours": pytest.approx(2000 / 3600),
        "vehicle_h": pytest.approx(30000 / 3600),
        "fuel_l": pytest.approx(3.0),
    }
    alone = get(f"runs/{run}/environmental-impact")
    assert alone == {
        "run": mine | {"co2_kg": pytest.approx(6.0), "cost": pytest.approx(5.1)}, "baseline": None,
        "n": 0, "fuel_price_per_l": 1.7,
        "fuel_saved_l": None, "co2_saved_kg": None, "money_saved": None, "vehicle_h_saved": None,
    }  # fmt: skip
    found = get(f"runs/{run}/environmental-impact", baseline=run + 1, fuel_price_per_l=2)
    assert (found["run"]["cost"], found["baseline"]["run"], found["n"]) == (
        pytest.approx(6.0),
        run + 1,
        3,
    )
    assert [
        found[k] for k in ("fuel_saved_l", "co2_saved_kg", "money_saved", "vehicle_h_saved")
    ] == pytest.approx([3.0, 4.0, 6.0, 20000 / 3600])
    assert get(f"runs/{run}/environmental-impact", begin_s=1000)["run"]["fuel_l"] == pytest.approx(
        2.0
    )
    until = get(f"runs/{run}/environmental-impact", end_s=1001)["run"]
    assert until["fuel_l"] == pytest.approx(1.002)


@pytest.mark.parametrize(
    "name", ["splits", "arrivals", "terminations", "pedestrian_delay", "queues"]
)
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"junction": "J"},
        {"junction": "K\x00"},
        {"junction": "none"},
        {"begin_s": 20.0},
        {"end_s": 60.0},
        {"begin_s": 6.0, "end_s": 12.0},
    ],
)
def test_a_measure_takes_a_junction_and_a_time_of_the_street(running, get, run, name, query):
    junction = query.get("junction", "\x00").replace("\x00", "") or None
    measure = getattr(signals, name)
    wanted = measure(
        running.app.state.services.database,
        run,
        junction,
        query.get("begin_s", 0.0),
        query.get("end_s", 1e18),
    )
    assert get(f"runs/{run}/{name.replace('_', '-')}", **query) == TypeAdapter(list).dump_python(
        wanted, mode="json"
    )


def test_a_diagram_takes_a_time_of_the_street(get, run):
    found = get(f"runs/{run}/coordination", junction="J\x00", signal_group=0, begin_s=33, end_s=81)
    assert (found["at_s"], found["cycle_at_s"]) == ([40.0], [33.0])
    assert get(f"runs/{run}/coordination", junction="none", signal_group=0)["at_s"] == []
    assert get(f"runs/{run}/coordination", junction="J", signal_group=5)["at_s"] == []


def test_the_events_of_a_run_in_order(get, run):
    started, override, other = (
        {"number": n, "at_s": float(n), "kind": kind, "junction": "J", "data": {"k": n}}
        for n, kind in enumerate(("engine.started", "safety.override", "safety.x"), 1)
    )
    assert get(f"runs/{run}/events") == [started, override, other]
    assert get(f"runs/{run}/events", kind="safety.") == [override, other]
    assert get(f"runs/{run}/events", limit=1, offset=1) == [override]
    assert get(f"runs/{run + 1}/events") == []


LISTS = (  # path, and a query under which it has at least two rows
    ("analytics/wait-times", {}),
    ("analytics/speeds", {}),
    ("analytics/breakdown", {"bucket": "hour"}),
    ("analytics/breakdown", {"by": "both", "bucket": "hour_of_day"}),
    ("dashboard/performance-comparison", {}),
    ("charts/performance-scatter", {}),
    ("runs", {}),
    ("runs/{run}/events", {}),
    ("runs/{run}/high-resolution", {}),
)


@pytest.mark.parametrize(("path", "query"), LISTS)
def test_a_list_that_is_cut_says_where_it_goes_on(running, get, run, path, query):
    """By the header Link alone all rows are found, each once; the last part names no next one."""
    path = path.format(run=run)
    whole = get(path, **query)
    assert len(whole) >= 2
    found, address = [], f"/api/v1/{path}"
    with running.client("viewer") as client:
        query = query | {"limit": 1, "token": running.token("viewer")}
        for _ in whole:
            answer = client.get(address, params=query)
            found += answer.json()
            link, query = answer.links.get("next"), None
            address = link and link["url"]
            assert "token" not in (address or "")
    assert address is None
    assert sorted(map(str, found)) == sorted(map(str, whole))


@pytest.mark.parametrize(
    "path",
    [
        "splits", "arrivals", "terminations", "pedestrian-delay", "queues", "events",
        "high-resolution", "coordination?junction=J&signal_group=0", "environmental-impact",
    ],
)  # fmt: skip
def test_a_run_that_is_not_there_is_404_with_where_to_look(running, path):
    with running.client("viewer") as client:
        answer = client.get(f"/api/v1/runs/999999/{path}")
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("there is no run 999999 in the database")


@pytest.mark.parametrize(
    "path",
    [
        "analytics/simulation/run:999999/summary", "analytics/time-series/run:999999",
        "analytics/wait-times?simulation_id=run:999999",
        "analytics/speeds?simulation_id=run:999999",
        "analytics/breakdown?simulation_id=run:999999",
        "analytics/environmental-impact?simulation_id=run:999999",
        "analytics/emergency-report?simulation_id=run:999999",
        "analytics/comparison/baseline-vs-ai?baseline=run:999999&ai=run:999998",
        "dashboard/performance-comparison?simulation_id=run:999999",
        "charts/wait-time-trend?simulation_id=run:999999",
        "charts/performance-scatter?simulation_id=run:999999",
    ],
)  # fmt: skip
def test_a_run_that_is_not_there_is_404_by_whatever_name_it_is_asked_for(running, path):
    with running.client("viewer") as client:
        answer = client.get(f"/api/v1/{path}")
    assert answer.status_code == 404
    assert "999999" in answer.json()["detail"]


def test_signals_and_detectors_as_event_codes(running, get, run):
    found = get(f"runs/{run}/high-resolution", limit=4)
    day = f"{datetime.now(UTC):%Y-%m-%d}T00:00:"
    assert [(r["at_s"], r["device"], r["event"], r["parameter"]) for r in found] == [
        (0.0, "J", 10, 1),
        (0.0, "J", 23, 2),
        (5.0, "K", 1, 1),
        (10.0, "J", 1, 1),
    ]
    assert [r["timestamp"][:17] for r in found] == [day] * 4
    whole = event_log.high_resolution(running.app.state.services.database, run)
    assert [(r["at_s"], r["event"]) for r in get(f"runs/{run}/high-resolution")] == [
        (r["at_s"], r["event"]) for r in whole
    ]


@pytest.mark.parametrize("part", [1, 2, 3, 1000])
def test_event_codes_are_streamed_in_parts_and_say_where_they_go_on(
    running, get, run, monkeypatch, part
):
    whole = get(f"runs/{run}/high-resolution")
    monkeypatch.setattr(queries, "PART", part)
    assert get(f"runs/{run}/high-resolution") == whole
    n = len(whole)
    assert get(f"runs/{run}/high-resolution", offset=n) == []
    assert get(f"runs/{run}/high-resolution", offset=n + 5, limit=1) == []
    with running.client("viewer") as client:
        for limit in (1, 2, n - 1, n, n + 1):
            answer = client.get(f"/api/v1/runs/{run}/high-resolution", params={"limit": limit})
            assert answer.json() == whole[:limit]
            assert ("next" in answer.links) == (limit < n)
            assert "content-length" not in answer.headers


def test_answers_are_cached_by_query(tmp_path, new_record):
    with (
        serving(tmp_path, url=new_record(), cache_s=60.0) as running,
        running.client("admin") as client,
    ):

        def n(**query):
            return [
                row["n"] for row in client.get("/api/v1/analytics/wait-times", params=query).json()
            ]

        client.post("/api/v1/ingest/simulation", json=RECORDS[0])
        assert n(simulation_id="A", intersection_id="J1") == [1]
        client.post("/api/v1/ingest/simulation", json=RECORDS[1])
        assert n(simulation_id="A", intersection_id="J1") == [1]
        assert n(intersection_id="J1", simulation_id="A") == [
            1
        ]  # asked in another order it is the same question
        assert n(simulation_id="A") == [2]
        assert [
            r["n"]
            for r in client.get(
                "/api/v1/analytics/speeds", params={"simulation_id": "A", "intersection_id": "J1"}
            ).json()
        ] == [2]
        assert client.post("/api/v1/admin/clear-cache").json() == {"done": True}
        assert n(simulation_id="A", intersection_id="J1") == [2]
        client.post("/api/v1/ingest/simulation", json=RECORDS[2])
        assert client.delete("/api/v1/admin/simulations/A").json() == {"rows": 3}
        assert (
            n(simulation_id="A", intersection_id="J1") == []
        )  # what was erased is not told any more
        answer = client.delete("/api/v1/admin/simulations/A")
        assert (answer.status_code, answer.json()["detail"]) == (
            404,
            "there is no simulation 'A' in the database",
        )


def test_a_long_query_is_not_kept_with_its_answer(tmp_path, new_record):
    """2,048 of them were: a viewer's took more than a gigabyte."""
    with (
        serving(tmp_path, url=new_record(), cache_s=60.0) as running,
        running.client("viewer") as client,
    ):
        asked = "&".join(["simulation_id=a"] * 4_000)
        assert client.get(f"/api/v1/analytics/wait-times?{asked}").json() == []
        kept = running.app.state.services.cache._own
        assert len(kept) == 1
        assert max(map(len, kept)) < 200
