"""Crossings of cameras' lines by intervals of five minutes; those of longer ones are their sums."""

from alembic import op

revision = "0012"
down_revision = "0011"

TABLE = """
CREATE TABLE camera_count (
    camera text NOT NULL, interval_begin timestamptz NOT NULL, part_at timestamptz NOT NULL,
    line text NOT NULL, direction text NOT NULL, kind text NOT NULL, n integer NOT NULL,
    observed_s double precision NOT NULL, speeds integer NOT NULL,
    total_mps double precision NOT NULL,
    PRIMARY KEY (camera, interval_begin, line, direction, kind, part_at)
)
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute("CREATE INDEX camera_count_begin ON camera_count (interval_begin)")


def downgrade() -> None:
    op.execute("DROP TABLE camera_count")
