"""Keys and tokens that were revoked, kept beside the database as well: a database that was set
back, or begun anew, does not make them good again.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec

from headway.files import write_whole
from headway.store.database import Database

# so long after its own end a revoked token is forgotten: by a clock that is ahead it seems to have
# ended, and once that is right again it must not be good
FORGOTTEN_AFTER_S = 366 * 86_400.0


class Revoked(msgspec.Struct, frozen=True):
    """keys: numbers of API keys. tokens: numbers of tokens, with their own end, seconds since
    1970.
    """

    keys: frozenset[str] = frozenset()
    tokens: dict[str, float] = {}


class Revocations:
    """`DATA/revoked.json`, of this user's own. path: None to keep them in memory alone. Raises
    ValueError for a damaged file.

    are_untold: some were revoked while the database was away, and are still to be told to it.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known = Revoked()
        self._fault: OSError | None = None  # why the disk does not have all of it
        self.are_untold = False
        if path is not None and path.exists():
            try:
                self._known = msgspec.json.decode(path.read_bytes(), type=Revoked)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ValueError(
                    f"{path}: is damaged ({error}). Put it back from a copy; or move it away, and "
                    "revoke again what a database that was set back may have made good."
                ) from error

    def has_key(self, number: str) -> bool:
        return number in self._known.keys

    def has_token(self, number: str) -> bool:
        return number in self._known.tokens

    def require_kept(self) -> None:
        """Raises OSError where neither the database nor the disk has all of it."""
        if self.are_untold and self._fault is not None:
            raise self._fault

    def add_key(self, number: str) -> None:
        """In force at once; what the disk does not take is offered to it with the next one."""
        self._add(Revoked(keys=frozenset([number])))

    def add_token(self, number: str, expires_s: float) -> None:
        """The same; it is forgotten FORGOTTEN_AFTER_S after its own end."""
        self._add(Revoked(tokens={number: expires_s}))

    def learn(self, database: Database) -> None:
        """What the database knows more, as of other servers. Raises SQLAlchemyError."""
        keys = database.rows("SELECT id FROM api_key WHERE revoked_at IS NOT NULL")
        tokens = database.rows(
            "SELECT id, extract(epoch FROM expires_at) AS ends FROM revoked_token"
        )
        self._add(
            Revoked(
                frozenset(row["id"] for row in keys),
                {row["id"]: float(row["ends"]) for row in tokens},
            )
        )

    def teach(self, database: Database) -> None:
        """The database what it does not know: it was set back, or away. Raises SQLAlchemyError."""
        self.are_untold, known = False, self._known
        if known.keys:
            database.execute(
                "UPDATE api_key SET revoked_at = now() WHERE revoked_at IS NULL AND id = ANY(:ids)",
                ids=sorted(known.keys),
            )
        for number, ends in known.tokens.items():
            database.execute(
                "INSERT INTO revoked_token (id, expires_at) VALUES (:id, to_timestamp(:ends)) "
                "ON CONFLICT (id) DO NOTHING",
                id=number,
                ends=ends,
            )

    def _add(self, more: Revoked) -> None:
        with self._lock:
            ended_s, before = time.time() - FORGOTTEN_AFTER_S, self._known
            tokens = before.tokens | more.tokens
            after = Revoked(
                before.keys | more.keys,
                {number: ends for number, ends in tokens.items() if ends > ended_s},
            )
            if after == before and self._fault is None:
                return
            self._known, self._fault = after, None
            if self._path is not None:
                try:
                    write_whole(self._path, msgspec.json.encode(after))
                except OSError as error:
                    self._fault = error
