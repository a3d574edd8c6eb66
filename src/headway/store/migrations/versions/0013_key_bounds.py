"""The streets and cameras that a key is bounded to; neither for one without bounds."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.execute("ALTER TABLE api_key ADD COLUMN streets text[], ADD COLUMN cameras text[]")


def downgrade() -> None:
    op.execute("ALTER TABLE api_key DROP COLUMN streets, DROP COLUMN cameras")
