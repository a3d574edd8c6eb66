"""By which key an entry of the audit trail is bound; empty for those from before."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("ALTER TABLE audit ADD COLUMN key text NOT NULL DEFAULT ''")
    op.execute("CREATE INDEX audit_at ON audit (at)")


def downgrade() -> None:
    op.execute("DROP INDEX audit_at")
    op.execute("ALTER TABLE audit DROP COLUMN key")
