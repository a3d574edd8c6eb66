"""Numbers that are none (NaN, infinity) are refused: they would spoil every mean and maximum."""

from alembic import op

revision = "0008"
down_revision = "0007"

NUMBERS = {
    "event": ("at_s",),
    "signal_state": ("at_s",),
    "detector_state": ("at_s",),
    "observation": (
        "at_s",
        "longest_wait_s",
        "confidence",
        "mean_wait_s",
        "speed_kmh",
        "throughput",
    ),
    "emission": ("at_s", "fuel_mg_s", "co2_mg_s"),
    "violation": ("confidence",),
    "violation_picture": ("at_s",),
}


def upgrade() -> None:
    """Rows that are there already are not looked at: that would take long, and they stay readable.
    NaN is above infinity for PostgreSQL.
    """
    for table, columns in NUMBERS.items():
        finite = " AND ".join(f"{c} > '-Infinity' AND {c} < 'Infinity'" for c in columns)
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {table}_finite CHECK ({finite}) NOT VALID")


def downgrade() -> None:
    for table in NUMBERS:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_finite")
