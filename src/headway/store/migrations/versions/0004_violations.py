"""Violations: their confidence and pictures, and their number by hour, device and rule, kept by the
database itself.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    "DROP INDEX violation_at",
    "ALTER TABLE violation DROP COLUMN evidence",
    "ALTER TABLE violation ADD COLUMN confidence double precision NOT NULL DEFAULT 1",
    "ALTER TABLE violation ADD COLUMN seal text NOT NULL DEFAULT ''",
    "CREATE INDEX violation_at ON violation (at DESC, id)",
    "CREATE INDEX violation_device ON violation (device, at DESC)",
    "CREATE TABLE violation_picture (violation_id uuid NOT NULL, number integer NOT NULL, "
    "at_s double precision NOT NULL, jpeg bytea NOT NULL, "
    "PRIMARY KEY (violation_id, number))",
    (
        "CREATE TABLE violation_hour (hour timestamptz NOT NULL, device text NOT NULL, rule text "
        "NOT NULL, n bigint NOT NULL, PRIMARY KEY (hour, device, rule))"
    ),
    "CREATE INDEX violation_hour_device ON violation_hour (device, hour)",
    (
        "CREATE TABLE violation_rule_hour (hour timestamptz NOT NULL, rule text NOT NULL, n "
        "bigint NOT NULL, PRIMARY KEY (hour, rule))"
    ),
    "CREATE TABLE violation_device_hour (device text NOT NULL, rule text NOT NULL, "
    "hour_of_day integer NOT NULL, n bigint NOT NULL, "
    "PRIMARY KEY (device, rule, hour_of_day))",
    (
        "CREATE TABLE violation_day (day timestamptz NOT NULL, device text NOT NULL, rule text "
        "NOT NULL, n bigint NOT NULL, PRIMARY KEY (day, device, rule))"
    ),
    """CREATE FUNCTION violations_counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO violation_hour SELECT date_trunc('hour', at, 'UTC'), device, rule, count(*) FROM
            fresh GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (hour, device, rule) DO UPDATE SET n = violation_hour.n + excluded.n;
        INSERT INTO violation_day SELECT date_trunc('day', at, 'UTC'), device, rule, count(*) FROM
            fresh GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (day, device, rule) DO UPDATE SET n = violation_day.n + excluded.n;
        INSERT INTO violation_rule_hour SELECT date_trunc('hour', at, 'UTC'), rule, count(*) FROM
            fresh GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (hour, rule) DO UPDATE SET n = violation_rule_hour.n + excluded.n;
        INSERT INTO violation_device_hour SELECT device, rule, extract(hour FROM at AT TIME ZONE
            'UTC'), count(*) FROM fresh
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (device, rule, hour_of_day) DO UPDATE SET n = violation_device_hour.n +
            excluded.n; RETURN NULL; END $$""",
    """CREATE FUNCTION violations_gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE violation_hour h SET n = h.n - g.n FROM (
            SELECT date_trunc('hour', at, 'UTC') AS hour, device, rule, count(*) AS n FROM gone
                GROUP BY 1, 2, 3) g
        WHERE h.hour = g.hour AND h.device = g.device AND h.rule = g.rule;
        UPDATE violation_day h SET n = h.n - g.n FROM (
            SELECT date_trunc('day', at, 'UTC') AS day, device, rule, count(*) AS n FROM gone GROUP
                BY 1, 2, 3) g
        WHERE h.day = g.day AND h.device = g.device AND h.rule = g.rule;
        UPDATE violation_rule_hour h SET n = h.n - g.n FROM (SELECT date_trunc('hour', at, 'UTC') AS
            hour, rule, count(*) AS n FROM gone GROUP BY 1, 2) g
        WHERE h.hour = g.hour AND h.rule = g.rule;
        UPDATE violation_device_hour h SET n = h.n - g.n FROM (
            SELECT device, rule, extract(hour FROM at AT TIME ZONE 'UTC') AS hour_of_day, count(*)
                AS n FROM gone GROUP BY 1, 2, 3) g
        WHERE h.device = g.device AND h.rule = g.rule AND h.hour_of_day = g.hour_of_day;
        DELETE FROM violation_hour WHERE n <= 0; DELETE FROM violation_rule_hour WHERE n <= 0;
            DELETE FROM violation_day WHERE n <= 0;
        DELETE FROM violation_device_hour WHERE n <= 0;
        DELETE FROM violation_picture p USING gone WHERE p.violation_id = gone.id; RETURN NULL; END
            $$""",
    (
        "CREATE TRIGGER violations_counted AFTER INSERT ON violation REFERENCING NEW TABLE AS "
        "fresh FOR EACH STATEMENT EXECUTE FUNCTION violations_counted()"
    ),
    (
        "CREATE TRIGGER violations_gone AFTER DELETE ON violation REFERENCING OLD TABLE AS gone "
        "FOR EACH STATEMENT EXECUTE FUNCTION violations_gone()"
    ),
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        "DROP TRIGGER violations_counted ON violation",
        "DROP TRIGGER violations_gone ON violation",
        "DROP FUNCTION violations_counted",
        "DROP FUNCTION violations_gone",
        "DROP TABLE violation_hour",
        "DROP TABLE violation_rule_hour",
        "DROP TABLE violation_day",
        "DROP TABLE violation_device_hour",
        "DROP TABLE violation_picture",
        "DROP INDEX violation_device",
        "DROP INDEX violation_at",
        "CREATE INDEX violation_at ON violation (at, device)",
        "ALTER TABLE violation DROP COLUMN confidence",
        "ALTER TABLE violation DROP COLUMN seal",
        "ALTER TABLE violation ADD COLUMN evidence bytea",
    ):
        op.execute(statement)
