"""Violations: their confidence and pictures, and their number by hour, device and rule, kept by the database itself."""

from alembic import op

revision, down_revision = "0004", "0003"

STATEMENTS = (
    "DROP INDEX violation_at",
    "ALTER TABLE violation DROP COLUMN evidence",
    "ALTER TABLE violation ADD COLUMN confidence double precision NOT NULL DEFAULT 1",
    "ALTER TABLE violation ADD COLUMN seal text NOT NULL DEFAULT ''",
    "CREATE INDEX violation_at ON violation (at DESC, id)",
    "CREATE INDEX violation_device ON violation (device, at DESC)",
    "CREATE TABLE violation_picture (violation_id uuid NOT NULL, number integer NOT NULL, at_s double precision NOT NULL, jpeg bytea NOT NULL, "
    "PRIMARY KEY (violation_id, number))",
    "CREATE TABLE violation_hour (hour timestamptz NOT NULL, device text NOT NULL, rule text NOT NULL, n bigint NOT NULL, PRIMARY KEY (hour, device, rule))",
    """CREATE FUNCTION violations_counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO violation_hour SELECT date_trunc('hour', at, 'UTC'), device, rule, count(*) FROM fresh GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (hour, device, rule) DO UPDATE SET n = violation_hour.n + excluded.n; RETURN NULL; END $$""",
    """CREATE FUNCTION violations_gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE violation_hour h SET n = h.n - g.n FROM (
            SELECT date_trunc('hour', at, 'UTC') AS hour, device, rule, count(*) AS n FROM gone GROUP BY 1, 2, 3) g
        WHERE h.hour = g.hour AND h.device = g.device AND h.rule = g.rule;
        DELETE FROM violation_hour WHERE n <= 0;
        DELETE FROM violation_picture p USING gone WHERE p.violation_id = gone.id; RETURN NULL; END $$""",
    "CREATE TRIGGER violations_counted AFTER INSERT ON violation REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION violations_counted()",
    "CREATE TRIGGER violations_gone AFTER DELETE ON violation REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION violations_gone()",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        "DROP TRIGGER violations_counted ON violation", "DROP TRIGGER violations_gone ON violation", "DROP FUNCTION violations_counted",
        "DROP FUNCTION violations_gone", "DROP TABLE violation_hour", "DROP TABLE violation_picture", "DROP INDEX violation_device",
        "ALTER TABLE violation DROP COLUMN confidence", "ALTER TABLE violation DROP COLUMN seal", "ALTER TABLE violation ADD COLUMN evidence bytea",
    ):  # fmt: skip
        op.execute(statement)
