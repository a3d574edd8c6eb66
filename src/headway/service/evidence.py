"""The key of evidence, and whether a violation in the database still is what was sealed."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway import telemetry
from headway.files import write_whole
from headway.store import Database

if TYPE_CHECKING:
    from headway.sensing.traffic.evidence import Violation

KEY_BYTES = 32  # as long as what HMAC-SHA256 makes of it
LEAST_KEY_BYTES = 16  # a shorter one can be guessed; an empty one seals nothing
EARLIEST_WALL_S = 1e9  # s since 1970: no film is so long, no live camera so early
SAME_S = 1e-3  # s; a time of day is kept to the microsecond
ALTERED = "altered since it was sealed, or sealed with another evidence.key"


@dataclass(frozen=True, slots=True)
class SealCheck:
    """Whether what a violation states and shows is what was sealed. detail: in words."""

    id: str
    intact: bool
    detail: str


def evidence_key(path: Path) -> bytes:
    """The key that evidence is sealed with; made once, readable by this user alone. One that a full
    disk cut short is set aside: it would seal nothing. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size < LEAST_KEY_BYTES:
        aside = path.with_suffix(".refused")
        path.replace(aside)
        telemetry.log("sensing").error(
            "the key of evidence was too short: a new one is made", put_aside=str(aside)
        )
    if not path.exists():
        write_whole(path, secrets.token_bytes(KEY_BYTES))
    return path.read_bytes()


def dated(violation: Violation, at: datetime, key: bytes) -> Violation:
    """The same with its time of day in its data, under the seal."""
    from headway.sensing.traffic.evidence import seal_of

    stated = replace(violation, data={**violation.data, "at": at.isoformat()})
    return replace(stated, seal=seal_of(stated, key))


def data_of_row(violation: Violation) -> dict[str, Any]:
    """What its row has in the column `data`; `check_seal` takes it apart again."""
    return {**violation.data, "at_s": violation.at_s}


def check_seal(database: Database, violation_id: str, key: bytes) -> SealCheck | None:
    """Seal what the database has of a violation anew, and compare. None for an unknown id."""
    rows = database.rows(
        "SELECT id::text AS id, at, device, rule, confidence, data, seal FROM violation "
        "WHERE id = CAST(:id AS uuid)",
        id=violation_id,
    )
    if not rows:
        return None
    images = database.rows(
        "SELECT at_s, jpeg FROM violation_picture WHERE violation_id = CAST(:id AS uuid) "
        "ORDER BY number",
        id=violation_id,
    )
    if not rows[0]["seal"]:
        return SealCheck(violation_id, intact=False, detail="it has no seal")
    intact = _is_intact(rows[0], tuple((i["at_s"], bytes(i["jpeg"])) for i in images), key)
    return SealCheck(violation_id, intact, "as it was sealed" if intact else ALTERED)


def _is_intact(row: Mapping[str, Any], images: tuple[tuple[float, bytes], ...], key: bytes) -> bool:
    from headway.sensing.traffic.evidence import Violation, seal_is_right

    try:
        data = dict(row["data"])
        violation = Violation(
            id=row["id"],
            at_s=data.pop("at_s"),
            device=row["device"],
            rule=row["rule"],
            confidence=row["confidence"],
            data=data,
            images=images,
            seal=row["seal"],
        )
        return seal_is_right(violation, key) and _is_at(violation, row["at"])
    except (KeyError, ValueError, TypeError, OverflowError):
        return False  # no violation of ours looks like that


def _is_at(violation: Violation, at: datetime) -> bool:
    """Whether the row's time of day is the sealed one. Before it was sealed, a live camera's was
    the time of the violation; that of a film was not under the seal.
    """
    if "at" in violation.data:
        return datetime.fromisoformat(violation.data["at"]) == at
    if violation.at_s < EARLIEST_WALL_S:
        return True
    return abs((at - datetime.fromtimestamp(violation.at_s, UTC)).total_seconds()) < SAME_S
