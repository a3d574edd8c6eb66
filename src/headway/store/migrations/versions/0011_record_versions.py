"""What a record was before it was corrected."""

from alembic import op

revision = "0011"
down_revision = "0010"

TABLE = """
CREATE TABLE record_version (
    simulation_id text NOT NULL, intersection_id text NOT NULL, at timestamptz NOT NULL,
    version integer NOT NULL,
    signals jsonb NOT NULL, vehicles integer NOT NULL, wait_s double precision NOT NULL,
    throughput double precision NOT NULL, speed_kmh double precision NOT NULL,
    fuel_saved_l double precision NOT NULL, co2_saved_kg double precision NOT NULL,
    overrides integer NOT NULL, emergency boolean NOT NULL, vehicle_types jsonb,
    replaced_at timestamptz NOT NULL, replaced_by text NOT NULL, reason text NOT NULL,
    PRIMARY KEY (simulation_id, intersection_id, at, version)
)
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute("CREATE INDEX record_version_at ON record_version (at)")


def downgrade() -> None:
    op.execute("DROP TABLE record_version")
