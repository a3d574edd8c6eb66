"""The first tables."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE simulation_record (
    simulation_id text NOT NULL, at timestamptz NOT NULL, intersection_id text NOT NULL,
    signals jsonb NOT NULL, vehicles integer NOT NULL, wait_s double precision NOT NULL, throughput
        double precision NOT NULL, speed_kmh double precision NOT NULL,
    fuel_saved_l double precision NOT NULL, co2_saved_kg double precision NOT NULL, overrides
        integer NOT NULL, emergency boolean NOT NULL,
    PRIMARY KEY (simulation_id, intersection_id, at)
) PARTITION BY RANGE (at);
CREATE TABLE simulation_record_other PARTITION OF simulation_record DEFAULT;
CREATE INDEX simulation_record_at ON simulation_record USING brin (at);
CREATE INDEX simulation_record_junction ON simulation_record (intersection_id, at);

CREATE TABLE run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL UNIQUE, scenario text NOT
        NULL, controller text NOT NULL, seed integer NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(), figures jsonb NOT NULL DEFAULT '{}'
);
CREATE TABLE event (
    run_id bigint NOT NULL REFERENCES run ON DELETE CASCADE, number bigint NOT NULL, at_s double
        precision NOT NULL, kind text NOT NULL,
    junction text NOT NULL, data jsonb NOT NULL, PRIMARY KEY (run_id, number)
);
CREATE INDEX event_kind ON event (kind, run_id, at_s);
CREATE INDEX event_data ON event USING gin (data jsonb_path_ops);
CREATE TABLE signal_state (
    run_id bigint NOT NULL REFERENCES run ON DELETE CASCADE, at_s double precision NOT NULL,
        junction text NOT NULL, signal_group integer NOT NULL,
    colour smallint NOT NULL, PRIMARY KEY (run_id, junction, signal_group, at_s)
);
CREATE TABLE observation (
    run_id bigint NOT NULL REFERENCES run ON DELETE CASCADE, at_s double precision NOT NULL,
        junction text NOT NULL, vehicles integer NOT NULL,
    halted integer NOT NULL, longest_wait_s real NOT NULL, confidence real NOT NULL, PRIMARY KEY
        (run_id, junction, at_s)
);
CREATE TABLE violation (
    id uuid PRIMARY KEY, at timestamptz NOT NULL, device text NOT NULL, rule text NOT NULL, data
        jsonb NOT NULL, evidence bytea
);
CREATE INDEX violation_at ON violation (at, device);

CREATE TABLE audit (
    number bigint PRIMARY KEY, at timestamptz NOT NULL, who text NOT NULL, role text NOT NULL, what
        text NOT NULL, status integer NOT NULL,
    data jsonb NOT NULL, before text NOT NULL, hash text NOT NULL
);
CREATE FUNCTION audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION
    'the audit trail is only ever added to'; END $$;
CREATE TRIGGER audit_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit FOR EACH STATEMENT EXECUTE
    FUNCTION audit_is_kept();
CREATE TABLE api_key (
    id text PRIMARY KEY, hash text NOT NULL, name text NOT NULL, role text NOT NULL, made_at
        timestamptz NOT NULL DEFAULT now(), revoked_at timestamptz
);
"""


def upgrade() -> None:
    for statement in _statements():
        op.execute(statement)


def _statements() -> list[str]:
    """The statements of TABLES; the function's body holds semicolons of its own."""
    head, _, function = TABLES.partition("CREATE FUNCTION")
    body, _, tail = function.partition("$$;")
    return [
        s
        for s in (
            x.strip() for x in [*head.split(";"), f"CREATE FUNCTION{body}$$", *tail.split(";")]
        )
        if s
    ]


def downgrade() -> None:
    for name in (
        "api_key",
        "audit",
        "violation",
        "observation",
        "signal_state",
        "event",
        "run",
        "simulation_record",
    ):
        op.execute(f"DROP TABLE {name} CASCADE")
    op.execute("DROP FUNCTION audit_is_kept")
