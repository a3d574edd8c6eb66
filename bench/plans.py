"""How PostgreSQL answers the questions that the indexes are there for."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from headway.store import open_database

FILL = (
    (
        "INSERT INTO run (key, scenario, controller, seed) SELECT 'k' || g, 'cologne8', "
        "'planner', g FROM generate_series(1, 10) g"
    ),
    (
        "INSERT INTO signal_state SELECT 1 + k / 100000, (k % 100000) / 160 * 1.0, "
        "'J' || k % 8, (k / 8) % 20, 1 + 3 * ((k / 160) % 2) FROM generate_series(0, 999999) k"
    ),
    "INSERT INTO event SELECT 1 + k / 20000, k % 20000, k % 20000, "
    "(ARRAY['safety.minimum_green', 'engine.cycle', 'alert.raised'])[1 + k % 3], "
    "'J' || k % 8, "
    "jsonb_build_object('number', k) FROM generate_series(0, 199999) k",
    (
        "CREATE TABLE simulation_record_2025_09 PARTITION OF simulation_record FOR VALUES FROM "
        "('2025-09-01 00:00+00') TO ('2025-10-01 00:00+00')"
    ),
    "INSERT INTO simulation_record SELECT 'S' || k % 20, timestamptz '2025-09-01 00:00+00' "
    "+ make_interval(secs => k / 20), 'I' || k / 20 % 10, '[]', 1, 1, 1, 1, 0, 0, 0, false "
    "FROM generate_series(0, 399999) k",
)
QUESTIONS = {
    "greens of one junction (signal_state's key)": (
        "SELECT * FROM signal_state WHERE run_id = 7 AND junction = 'J3' AND at_s >= 100 AND "
        "at_s < 400"
    ),
    "a run's safety events (its key)": (
        "SELECT number FROM event WHERE run_id = 3 AND kind LIKE 'safety.%' ORDER BY number "
        "LIMIT 100"
    ),
    "events of one kind over all runs (B-tree on kind)": (
        "SELECT run_id, at_s FROM event WHERE kind = 'alert.raised' AND run_id = 4 ORDER BY "
        "at_s LIMIT 50"
    ),
    "events by what they hold (GIN)": """SELECT * FROM event WHERE data @> '{"number": 4711}'""",
    "an hour of all junctions (BRIN on time)": (
        "SELECT avg(wait_s) FROM simulation_record WHERE at >= '2025-09-01 02:00+00' AND at < "
        "'2025-09-01 03:00+00'"
    ),
    "a junction's hour (B-tree on junction and time)": (
        "SELECT avg(wait_s) FROM simulation_record WHERE intersection_id = 'I3' AND at >= "
        "'2025-09-01 02:00+00' AND at < '2025-09-01 03:00+00'"
    ),
    "one simulation (its key)": (
        "SELECT avg(wait_s) FROM simulation_record WHERE simulation_id = 'S7' AND "
        "intersection_id = 'I1'"
    ),
}


def plans() -> None:
    """The plan of each kind of question over a million signal states, 400,000 records and 200,000
    events.
    """
    with TemporaryDirectory() as folder:
        database = open_database(Path(folder))
        for statement in FILL:
            database.execute(statement)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as held:
            held.exec_driver_sql("VACUUM ANALYZE")
        for name, question in QUESTIONS.items():
            lines = [
                str(row["QUERY PLAN"])
                for row in database.rows(
                    f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF) {question}"
                )
            ]
            scans = [x.strip(" ->") for x in lines if "Scan" in x]
            print(f"{name}: {'; '.join(scans)}; {lines[-1]}")
        database.close()
