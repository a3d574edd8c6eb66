"""How far a job has ever been: a death after which it gets further does not count against it."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.execute("ALTER TABLE ml_job ADD COLUMN furthest double precision NOT NULL DEFAULT 0")


def downgrade() -> None:
    op.execute("ALTER TABLE ml_job DROP COLUMN furthest")
