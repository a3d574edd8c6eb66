"""When a key ends and was used last; tokens that were revoked before their end."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE api_key ADD COLUMN expires_at timestamptz, ADD COLUMN used_at timestamptz"
    )
    op.execute(
        "CREATE TABLE revoked_token (id text PRIMARY KEY, expires_at timestamptz NOT NULL, "
        "revoked_at timestamptz NOT NULL DEFAULT now())"
    )


def downgrade() -> None:
    op.execute("DROP TABLE revoked_token")
    op.execute("ALTER TABLE api_key DROP COLUMN expires_at, DROP COLUMN used_at")
