"""Which signal groups are pedestrian crossings; what the street's vehicles burn."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(
        "CREATE TABLE crossing (run_id bigint NOT NULL REFERENCES run ON DELETE CASCADE, "
        "junction text NOT NULL, signal_group integer NOT NULL, "
        "PRIMARY KEY (run_id, junction, signal_group))"
    )
    op.execute(
        "CREATE TABLE emission (run_id bigint NOT NULL REFERENCES run ON DELETE CASCADE, at_s "
        "double precision NOT NULL, vehicles integer NOT NULL, "
        "fuel_mg_s double precision NOT NULL, co2_mg_s double precision NOT NULL, PRIMARY KEY "
        "(run_id, at_s))"
    )


def downgrade() -> None:
    for name in ("emission", "crossing"):
        op.execute(f"DROP TABLE {name}")
