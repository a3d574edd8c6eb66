"""What the database knows of credentials: API keys, and tokens that were revoked."""

from __future__ import annotations

import contextlib
import hmac
import math
import secrets
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from headway.api.problems import ProblemError
from headway.api.scopes import Bounds
from headway.api.security import Principal, Role, digest, refused
from headway.store import Database
from headway.store.revocations import FORGOTTEN_AFTER_S, Revocations

FRESH_S = 5.0  # for which what the database says is not asked again
KEPT_S = 12 * 3600.0  # for which a key that was valid is taken while the database is away
AWAY = (OperationalError, NoConnectionError)
USE_NOTED_S = 60.0  # how exactly the last use of a key is kept


# in one statement: never both in force for ever, nor none of them
ROTATE = """
    WITH old AS (
        UPDATE api_key SET
            expires_at = least(expires_at, now() + CAST(:overlap_h AS float8) * interval '1 hour')
        FROM (
            SELECT id AS held, expires_at - made_at AS lasts FROM api_key
            WHERE id = :id AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
            FOR UPDATE
        ) found
        WHERE id = found.held
        RETURNING name, role, found.lasts, streets, cameras
    )
    INSERT INTO api_key (id, hash, name, role, expires_at, streets, cameras)
    SELECT :made, :hash, name, role, now() + lasts, streets, cameras FROM old
"""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A row of `api_key`, and when it was read, monotonic seconds."""

    hash: str
    principal: Principal
    read_s: float


class Keys:
    """API keys, kept as hashes: `hw_ID_SECRET`.

    Hashes are remembered: a key that was used before holds for `KEPT_S` while the database is away,
    and one that another process revokes for `FRESH_S`.
    """

    def __init__(self, database: Database, revocations: Revocations | None = None) -> None:
        self._database = database
        self._revocations = revocations or Revocations()
        self._known = dict[str, KnownKey]()
        self._away_until_s = 0.0  # monotonic; who is known does not wait for it until then
        self._noted_s = dict[str, float]()  # when a key's use was noted last, monotonic

    def make(
        self,
        name: str,
        role: Role,
        lasts_days: float | None = None,
        bounds: Bounds = Bounds(),
    ) -> str:
        """The key itself; it is shown this once. lasts_days: None for ever."""
        number, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        self._database.execute(
            "INSERT INTO api_key (id, hash, name, role, expires_at, streets, cameras) VALUES "
            "(:id, :hash, :name, :role, "
            "now() + CAST(:days AS double precision) * interval '1 day', :streets, :cameras)",
            streets=None if bounds.streets is None else sorted(bounds.streets),
            cameras=None if bounds.cameras is None else sorted(bounds.cameras),
            id=number,
            hash=digest(secret),
            name=name,
            role=role.name.lower(),
            days=lasts_days,
        )
        return f"hw_{number}_{secret}"

    def read(self, key: str) -> Principal:
        """Raises ProblemError: 401, or 503 where it cannot be looked up now."""
        parts = key.split("_", 2)
        if len(parts) == 3 and parts[0] == "hw" and parts[1].isalnum():
            found = self._find(parts[1])
            is_it = found is not None and hmac.compare_digest(found.hash, digest(parts[2]))
            if found is not None and is_it and found.principal.expires_s > time.time():
                self._note_use(parts[1])
                return found.principal
        raise refused("the API key is not valid")

    def remembered(self, key: str) -> Principal | None:
        """Whose key it is, where nothing has to be asked for that, or written; None for all else,
        of which `read` says what it is.
        """
        number, _, secret = key.removeprefix("hw_").partition("_")
        known, now_s = self._known.get(number), time.monotonic()
        if known is None or now_s - known.read_s >= FRESH_S or not self._is_noted(number, now_s):
            return None
        is_it = hmac.compare_digest(known.hash, digest(secret)) and key.startswith("hw_")
        holds = known.principal.expires_s > time.time() and not self._revocations.has_key(number)
        return known.principal if is_it and holds else None

    def holds(self, number: str) -> bool:
        """The key was not revoked, and has not ended (a rotation brings its end forward), as far as
        anybody can know now.
        """
        try:
            found = self._find(number)
        except ProblemError:
            return True
        return found is not None and found.principal.expires_s > time.time()

    def _find(self, number: str) -> KnownKey | None:
        """Raises ProblemError 503."""
        if self._revocations.has_key(number):
            return None
        now_s, known = time.monotonic(), self._known.get(number)
        kept_s = KEPT_S if now_s < self._away_until_s else FRESH_S
        if known is not None and now_s - known.read_s < kept_s:
            return known
        try:
            rows = self._database.rows(
                "SELECT hash, name, role, extract(epoch FROM expires_at) AS expires_s, "
                "streets, cameras FROM api_key WHERE id = :id AND revoked_at IS NULL",
                id=number,
            )
        except AWAY as error:
            self._away_until_s = time.monotonic() + FRESH_S
            if known is not None and now_s - known.read_s < KEPT_S:
                return known
            raise ProblemError(
                503,
                "the database that knows the API keys cannot be reached now",
                headers={"Retry-After": "5"},
            ) from error
        self._known.pop(number, None)
        if not rows:
            return None
        (row,) = rows
        expires_s = math.inf if row["expires_s"] is None else float(row["expires_s"])
        role = Role[row["role"].upper()]
        bounds = Bounds.of(row["streets"], row["cameras"])
        principal = Principal(row["name"], role, expires_s, key=number, bounds=bounds)
        found = self._known[number] = KnownKey(row["hash"], principal, now_s)
        return found

    def _is_noted(self, number: str, now_s: float) -> bool:
        """Or cannot be now."""
        is_known = now_s - self._noted_s.get(number, -math.inf) < USE_NOTED_S
        return is_known or now_s < self._away_until_s

    def _note_use(self, number: str) -> None:
        now_s = time.monotonic()
        if self._is_noted(number, now_s):
            return
        self._noted_s[number] = now_s
        with contextlib.suppress(SQLAlchemyError):  # away, or read-only: the key is good without it
            self._database.execute("UPDATE api_key SET used_at = now() WHERE id = :id", id=number)

    def revoke(self, number: str) -> bool:
        """False where there is no such key in force. While the database is away it is revoked
        here at once, and on other servers when it is back. Raises OSError where neither keeps it.
        """
        try:
            changed = self._database.execute(
                "UPDATE api_key SET revoked_at = now() WHERE id = :id AND revoked_at IS NULL",
                id=number,
            )
        except AWAY:  # which keys there are is not known now
            self._revocations.are_untold, changed = True, 1
        self._known.pop(number, None)
        if changed:
            self._revocations.add_key(number)
        self._revocations.require_kept()
        return changed > 0

    def rotate(self, number: str, overlap_h: float) -> str | None:
        """A new key with the name and the role of another one, and as long from now on as that was
        from its own begin; the other one ends after `overlap_h` hours, unless it did before. None
        where it is not in force.
        """
        made, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        count = self._database.execute(
            ROTATE, id=number, made=made, hash=digest(secret), overlap_h=overlap_h
        )
        self._known.pop(number, None)
        return f"hw_{made}_{secret}" if count else None

    def all(self) -> list[dict[str, Any]]:
        """Newest first, without their hashes."""
        return self._database.rows(
            "SELECT id, name, role, made_at, used_at, expires_at, revoked_at, streets, cameras "
            "FROM api_key "
            "ORDER BY made_at DESC, id"
        )


class RevokedTokens:
    """Tokens that were revoked before their end, as this process last read them: one that another
    process revokes holds for `FRESH_S`, or until the database is back.
    """

    def __init__(self, database: Database, revocations: Revocations | None = None) -> None:
        self._database = database
        self._revocations = revocations or Revocations()
        self._ids = frozenset[str]()
        self._read_s = -math.inf

    def is_due(self) -> bool:
        """They are to be read anew, by whoever is told so: nobody else is for `FRESH_S`."""
        now_s = time.monotonic()
        if now_s - self._read_s < FRESH_S:
            return False
        self._read_s = now_s
        return True

    def refresh(self) -> None:
        """Read them anew, and tell what was revoked while the database was away; what is known
        stays while it is.
        """
        with contextlib.suppress(*AWAY):
            if self._revocations.are_untold:
                self._tell()
            rows = self._database.rows("SELECT id FROM revoked_token")
            self._ids = frozenset(row["id"] for row in rows)
            self._revocations.learn(self._database)

    def _tell(self) -> None:
        try:
            self._revocations.teach(self._database)
        except AWAY:
            self._revocations.are_untold = True
            raise

    def __contains__(self, number: str) -> bool:
        return number in self._ids or self._revocations.has_token(number)

    def add(self, number: str, expires_s: float) -> None:
        """expires_s: the token's own end, seconds since 1970; it is forgotten FORGOTTEN_AFTER_S
        later. While the database is away it is revoked here at once, and on other servers when it
        is back. Raises OSError where neither keeps it.
        """
        self._revocations.add_token(number, expires_s)
        self._ids |= {number}
        try:
            self._database.execute(
                "INSERT INTO revoked_token (id, expires_at) VALUES (:id, to_timestamp(:expires)) "
                "ON CONFLICT (id) DO NOTHING",
                id=number,
                expires=expires_s,
            )
            self._database.execute(
                "DELETE FROM revoked_token "
                "WHERE expires_at < now() - make_interval(secs => :after_s)",
                after_s=FORGOTTEN_AFTER_S,
            )
        except AWAY:
            self._revocations.are_untold = True
        self._revocations.require_kept()
