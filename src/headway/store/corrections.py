"""Corrections of records: the new content takes the place of the old, which is kept as a version.

Versions are numbered from 1 on; the newest is the one in `simulation_record`, those before it are
in `record_version`, with who replaced each, when and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from headway.store.database import Database
from headway.store.intake import COLUMNS, CONTENT, WRITE_LIMITS

KEY = "simulation_id = :simulation_id AND intersection_id = :intersection_id AND at = :at"
KEPT = ", ".join(COLUMNS["simulation_record"])
CHANGED = ", ".join(c for c in COLUMNS["simulation_record"] if c in (*CONTENT, "vehicle_types"))
LOCK = f"SELECT 1 FROM simulation_record WHERE {KEY} FOR UPDATE"
REPLACED = f"SELECT count(*) FROM record_version WHERE {KEY}"


def _given(column: str) -> str:
    is_json = column in ("signals", "vehicle_types")
    return f"CAST(:{column} AS jsonb)" if is_json else f":{column}"


KEEP = f"""
    INSERT INTO record_version ({KEPT}, version, replaced_at, replaced_by, reason)
    SELECT {KEPT}, 1 + ({REPLACED}), clock_timestamp(), :who, :reason
    FROM simulation_record
    WHERE {KEY}
        AND ({", ".join(CONTENT)}) IS DISTINCT FROM ({", ".join(_given(c) for c in CONTENT)})
"""
CORRECT = f"""
    UPDATE simulation_record
    SET ({CHANGED}, emergency) = ({", ".join(_given(c) for c in CHANGED.split(", "))}, :emergency)
    WHERE {KEY}
"""


class NewerVersionError(ValueError):
    """Somebody else has corrected the record meanwhile. newest: its version."""

    def __init__(self, newest: int) -> None:
        super().__init__(f"the record has been corrected meanwhile: its version is {newest}")
        self.newest = newest


def correct(
    database: Database, row: Sequence[Any], who: str, reason: str, version: int | None = None
) -> int:
    """Give the record of the row's key (in the order of COLUMNS) the row's content. Returns the
    number of its version then, the same as before where it has that content already; 0 where there
    is no such record. version: the one that is corrected; None for whichever is the newest. Raises
    NewerVersionError where another one says something else by now, SQLAlchemyError.
    """
    values = dict(zip(COLUMNS["simulation_record"], row, strict=True))
    with database.engine.begin() as held:
        for limit in WRITE_LIMITS.split(";"):
            held.exec_driver_sql(limit)
        if held.execute(sa.text(LOCK), values).first() is None:
            return 0
        newest = 1 + int(held.execute(sa.text(REPLACED), values).scalar_one())
        if held.execute(sa.text(KEEP), values | {"who": who, "reason": reason}).rowcount:
            if version not in (None, newest):
                raise NewerVersionError(newest)
            held.execute(sa.text(CORRECT), values)
            newest += 1
        return newest
