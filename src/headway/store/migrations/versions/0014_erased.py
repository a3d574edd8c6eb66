"""What was erased, so that a restore from a backup of before does not bring it back."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE erased (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            at timestamptz NOT NULL DEFAULT now(),
            simulation_id text,
            device text,
            begin_at timestamptz,
            end_at timestamptz
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE erased")
