"""Detectors at the stop lines."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(
        "CREATE TABLE detector_state (run_id bigint NOT NULL REFERENCES run ON DELETE "
        "CASCADE, at_s double precision NOT NULL, junction text NOT NULL, "
        "signal_group integer NOT NULL, occupied boolean NOT NULL, PRIMARY KEY (run_id, "
        "junction, signal_group, at_s))"
    )


def downgrade() -> None:
    op.execute("DROP TABLE detector_state")
