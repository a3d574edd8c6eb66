"""Jobs of learning: what waits, what goes on, and what became of it."""

from alembic import op

revision = "0016"
down_revision = "0015"

TABLE = """
CREATE TABLE ml_job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text NOT NULL, street text NOT NULL,
    arguments json NOT NULL, asked_by text NOT NULL, asked_at timestamptz NOT NULL DEFAULT now(),
    state text NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    attempt integer NOT NULL DEFAULT 0, deaths integer NOT NULL DEFAULT 0,
    worker text NOT NULL DEFAULT '',
    begun_at timestamptz, heartbeat_at timestamptz, ended_at timestamptz,
    progress double precision NOT NULL DEFAULT 0, note text NOT NULL DEFAULT '',
    cancel_by text, result json, version_id bigint REFERENCES model_version,
    error text NOT NULL DEFAULT ''
)
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute("CREATE UNIQUE INDEX ml_job_one_a_street ON ml_job (street) WHERE state = 'running'")
    op.execute("CREATE INDEX ml_job_open ON ml_job (id) WHERE state IN ('waiting', 'running')")


def downgrade() -> None:
    op.execute("DROP TABLE ml_job")
