"""Versions of models, and which of them is champion, challenger or shadow where."""

from alembic import op

revision = "0015"
down_revision = "0014"

# json, not jsonb: what is signed is the text as it was written
VERSIONS = """
CREATE TABLE model_version (
    id bigint PRIMARY KEY, name text NOT NULL, version integer NOT NULL, kind text NOT NULL,
    sha256 text NOT NULL, size bigint NOT NULL, code_version text NOT NULL,
    made_from json NOT NULL, metrics json NOT NULL, parent bigint REFERENCES model_version,
    created_by text NOT NULL, created_at timestamptz NOT NULL,
    key text NOT NULL, signature text NOT NULL,
    UNIQUE (name, version)
)
"""
ALIASES = """
CREATE TABLE model_alias (
    number bigint PRIMARY KEY, at timestamptz NOT NULL, street text NOT NULL,
    junction text NOT NULL, alias text NOT NULL, version_id bigint REFERENCES model_version,
    set_by text NOT NULL, key text NOT NULL, signature text NOT NULL
)
"""
KEPT = """
CREATE FUNCTION registry_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION
    'the registry of models is only ever added to'; END $$
"""


def upgrade() -> None:
    for statement in (VERSIONS, ALIASES, KEPT):
        op.execute(statement)
    op.execute("CREATE INDEX model_alias_place ON model_alias (street, junction, alias, number)")
    for table in ("model_version", "model_alias"):
        op.execute(
            f"CREATE TRIGGER {table}_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION registry_is_kept()"
        )


def downgrade() -> None:
    op.execute("DROP TABLE model_alias")
    op.execute("DROP TABLE model_version")
    op.execute("DROP FUNCTION registry_is_kept")
