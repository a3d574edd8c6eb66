"""Vehicle types can be searched for; streets' own figures stand beside ingested records; the runs
of the upkeep.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

# vehicle types that a record counted at least once; `headway.analytics.breakdown` asks with the
# same expression, so that the index answers
TYPES = "jsonb_path_query_array(signals, '$[*].vehicle_counts.keyvalue() ? (@.value > 0).key')"

STATEMENTS = (
    f"CREATE INDEX simulation_record_types ON simulation_record USING gin (({TYPES}) "
    "jsonb_path_ops)",
    "ALTER TABLE run ADD COLUMN street text NOT NULL DEFAULT ''",
    "ALTER TABLE run ADD COLUMN scale double precision NOT NULL DEFAULT 1",
    "UPDATE run SET street = split_part(key, ' ', 1), scale = "
    "coalesce(substring(key FROM ' scale ([0-9.]+) ')::double precision, 1)",
    "CREATE INDEX run_street ON run (street, id DESC)",
    "ALTER TABLE observation ADD COLUMN at timestamptz, ADD COLUMN mean_wait_s real, "
    "ADD COLUMN speed_kmh real, ADD COLUMN passed integer, ADD COLUMN throughput real",
    "CREATE INDEX observation_at ON observation USING brin (at)",
    # rows of before this version have no `at`, and of these figures none
    """CREATE VIEW traffic_record AS
        SELECT simulation_id, NULL::bigint AS run_id, at, NULL::double precision AS at_s,
            intersection_id, vehicles, wait_s, throughput, speed_kmh, fuel_saved_l, co2_saved_kg,
            overrides, emergency
        FROM simulation_record
        UNION ALL
        SELECT 'street:' || r.street, o.run_id, o.at, o.at_s, o.junction, o.passed,
            o.mean_wait_s::double precision, o.throughput::double precision,
            o.speed_kmh::double precision, 0.0::double precision, 0.0::double precision, 0, FALSE
        FROM run r JOIN observation o ON o.run_id = r.id
        WHERE o.at IS NOT NULL""",
    """CREATE TABLE upkeep_run (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task text NOT NULL,
        begun_at timestamptz NOT NULL, took_s double precision NOT NULL, ok boolean NOT NULL,
        data jsonb NOT NULL
    )""",
    "CREATE INDEX upkeep_run_task ON upkeep_run (task, begun_at DESC)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        "DROP TABLE upkeep_run",
        "DROP VIEW traffic_record",
        "DROP INDEX observation_at",
        "ALTER TABLE observation DROP COLUMN at, DROP COLUMN mean_wait_s, DROP COLUMN speed_kmh, "
        "DROP COLUMN passed, DROP COLUMN throughput",
        "DROP INDEX run_street",
        "ALTER TABLE run DROP COLUMN street, DROP COLUMN scale",
        "DROP INDEX simulation_record_types",
    ):
        op.execute(statement)
