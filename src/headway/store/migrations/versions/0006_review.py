"""Violations are candidates for a person's review: their state, who reviewed them, and when."""

from alembic import op

revision = "0006"
down_revision = "0005"

COLUMNS = (
    "state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'confirmed', 'dismissed'))",
    "reviewed_by text",
    "reviewed_at timestamptz",
    "note text NOT NULL DEFAULT ''",
)


def upgrade() -> None:
    for column in COLUMNS:
        op.execute(f"ALTER TABLE violation ADD COLUMN {column}")


def downgrade() -> None:
    for column in COLUMNS:
        op.execute(f"ALTER TABLE violation DROP COLUMN {column.split()[0]}")
