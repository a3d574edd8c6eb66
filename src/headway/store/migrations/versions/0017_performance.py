"""How far the controller's predictions came true, beside its confidence."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Rows that are there already have none, and are not looked at: that would take long."""
    op.execute("ALTER TABLE observation ADD COLUMN performance real")
    op.execute(
        "ALTER TABLE observation ADD CONSTRAINT observation_performance "
        "CHECK (performance >= 0 AND performance <= 1) NOT VALID"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE observation DROP COLUMN performance")
