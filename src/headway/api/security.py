"""Principal may do what: signed tokens, API keys, roles, and an audit trail that shows when it was
tampered with.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import jwt
import msgspec
import sqlalchemy as sa

from headway.api.problems import ProblemError
from headway.store import Database

AUDIT_LOCK = 4846  # any number that no other lock of the database has: entries come one by one
# one entry waits for the one before, and the answer of an order for its entry
AUDIT_LIMITS = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '5s'"
ALGORITHM = "HS256"
ISSUER = "headway"
SHORTEST_SECRET = 16  # characters, in any environment; production asks for more


StoredKeys = Annotated[dict[str, str], msgspec.Meta(min_length=1)]


class Role(IntEnum):
    """Each may do what the ones before it may."""

    VIEWER = 0
    SOURCE = 1
    OPERATOR = 2
    ENGINEER = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a name and a role."""

    name: str
    role: Role


NOBODY = Principal("", Role.VIEWER)


class Keyring:
    """The secrets that tokens are signed with, by key id, in a file of this user's own; the newest
    signs, all verify until dropped.

    secret: signs in place of the newest one, and is not written anywhere; the same for several
        servers. create: make the file where it is missing. Raises ValueError if the secret is too
        short or the file is damaged, FileNotFoundError if there is neither file nor secret, and
        none is to be made.
    """

    def __init__(self, path: Path, secret: str = "", create: bool = True) -> None:
        if secret and len(secret) < SHORTEST_SECRET:
            raise ValueError(
                f"the secret that signs tokens (SECRET_KEY) is shorter than {SHORTEST_SECRET} "
                "characters. Make one: openssl rand -base64 48"
            )
        self._path = path
        self._given = {_key_id(secret): secret} if secret else {}
        self._keys: dict[str, str]
        if path.exists():
            self._keys = _stored_keys(path)
        elif create:
            self._keys = {}
            self.rotate()
        elif secret:
            self._keys = {}
        else:
            raise FileNotFoundError(
                f"{path}: not there, so that no server accepts what is signed here. Give the data "
                "folder of the server (--data), or its SECRET_KEY in the environment."
            )

    def rotate(self, keep: int = 2) -> str:
        """A new secret signs from now on; `keep` secrets stay valid in all. Its key id."""
        kid = secrets.token_hex(4)
        kept = dict(list(self._keys.items())[-(keep - 1) :]) if keep > 1 else {}
        self._keys = {**kept, kid: secrets.token_urlsafe(48)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(
            os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as stream:
            json.dump(self._keys, stream)
        draft.replace(self._path)
        return kid

    def token(self, name: str, role: Role, lasts_s: float = 12 * 3600.0) -> str:
        keys = self._keys | self._given
        kid, now = list(keys)[-1], time.time()
        claims = {
            "sub": name,
            "role": role.name.lower(),
            "iss": ISSUER,
            "iat": int(now),
            "exp": int(now + lasts_s),
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, keys[kid], ALGORITHM, headers={"kid": kid})

    def read(self, token: str) -> Principal:
        """Raises ProblemError 401 for a token that is forged, expired, or of a key that is gone."""
        try:
            kid = jwt.get_unverified_header(token).get("kid", "")
            keys = self._keys | self._given
            key = keys.get(kid) if isinstance(kid, str) else None
            if key is None:
                raise jwt.InvalidTokenError("signed with a key that is not in force")
            claims = jwt.decode(
                token,
                key,
                [ALGORITHM],
                issuer=ISSUER,
                options={"require": ["exp", "sub", "role", "iss"]},
            )
            return Principal(str(claims["sub"]), Role[str(claims["role"]).upper()])
        except (jwt.InvalidTokenError, KeyError, ValueError) as error:
            raise refused(f"the token is not valid ({error})") from error


def _stored_keys(path: Path) -> dict[str, str]:
    """Raises ValueError for a file that holds none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=StoredKeys)
    except msgspec.MsgspecError as error:
        raise ValueError(
            f"{path}: holds no keys any more ({error}). Put it back from a copy, or move it away: "
            "the next start of the server makes new ones, and all tokens of before end."
        ) from error


def _key_id(secret: str) -> str:
    """The same for the same secret, and says nothing of it."""
    return hashlib.sha256(b"headway key id" + secret.encode()).hexdigest()[:16]


def refused(detail: str) -> ProblemError:
    return ProblemError(401, detail, headers={"WWW-Authenticate": "Bearer"})


class Keys:
    """API keys, kept as hashes: `hw_ID_SECRET`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def make(self, name: str, role: Role) -> str:
        """The key itself; it is shown this once."""
        number, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        row = "INSERT INTO api_key (id, hash, name, role) VALUES (:id, :hash, :name, :role)"
        self._database.execute(
            row, id=number, hash=_digest(secret), name=name, role=role.name.lower()
        )
        return f"hw_{number}_{secret}"

    def read(self, key: str) -> Principal:
        """Raises ProblemError 401."""
        parts = key.split("_", 2)
        if len(parts) == 3 and parts[0] == "hw" and parts[1].isalnum():
            found = self._database.rows(
                "SELECT hash, name, role FROM api_key WHERE id = :id AND revoked_at IS NULL",
                id=parts[1],
            )
            if found and hmac.compare_digest(found[0]["hash"], _digest(parts[2])):
                return Principal(found[0]["name"], Role[found[0]["role"].upper()])
        raise refused("the API key is not valid")

    def revoke(self, number: str) -> bool:
        return (
            self._database.execute(
                "UPDATE api_key SET revoked_at = now() WHERE id = :id AND revoked_at IS NULL",
                id=number,
            )
            > 0
        )


class Audit:
    """Who did what, each entry bound to the one before it by a hash: nothing can be changed or left
    out unseen.
    """

    def __init__(self, database: Database) -> None:
        self._database, self._lock = database, threading.Lock()

    def add(self, who: Principal, what: str, status: int, data: dict[str, Any]) -> None:
        with self._lock, self._database.engine.begin() as held:
            held.exec_driver_sql(AUDIT_LIMITS)
            held.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": AUDIT_LOCK})
            last = held.execute(
                sa.text("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
            ).first()
            number, before = (last.number + 1, last.hash) if last else (1, "")
            at = f"{time.time():.6f}"
            entry = {
                "number": number,
                "at": at,
                "who": who.name,
                "role": who.role.name.lower(),
                "what": what,
                "status": status,
                "data": data,
            }
            held.execute(
                sa.text(
                    "INSERT INTO audit (number, at, who, role, what, status, data, before, "
                    "hash) VALUES "
                    "(:number, to_timestamp(CAST(:at AS double precision)), :who, :role, "
                    ":what, :status, CAST(:data AS jsonb), :before, :hash)"
                ),
                entry | {"data": json.dumps(data), "before": before, "hash": _chain(before, entry)},
            )

    def verify(self) -> tuple[int, str]:
        """(entries, what is wrong); nothing is wrong where the second is empty."""
        before, number = "", 0
        for row in self._database.rows(
            "SELECT number, extract(epoch FROM at) AS at, who, role, what, status, data, "
            "before, hash FROM audit ORDER BY number"
        ):
            number += 1
            entry = {k: row[k] for k in ("number", "who", "role", "what", "status", "data")} | {
                "at": f"{row['at']:.6f}"
            }
            if row["number"] != number:
                return number, f"entry {number} is missing"
            if row["before"] != before or row["hash"] != _chain(before, entry):
                return number, f"entry {number} was changed"
            before = row["hash"]
        return number, ""


def _chain(before: str, entry: dict[str, Any]) -> str:
    return _digest(before + json.dumps(entry, sort_keys=True, separators=(",", ":")))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller shows; one of the two is empty, or both."""

    token: str = ""
    key: str = ""

    @property
    def client(self) -> str:
        """The same for the same credentials in whatever form they come; empty for none. Of a token
        its signed part: decoders take more than one spelling of the signature.
        """
        return self.token.rpartition(".")[0] or self.token or self.key


def credentials_of(headers: Any, query: Any = None) -> Credentials:
    """A token, or an API key; where no header can be set (a browser's WebSocket), the token in the
    query. headers, query: of Starlette.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return Credentials(token=token.strip())
    if key := headers.get("x-api-key", ""):
        return Credentials(key=key)
    return Credentials(token=query.get("token", "") if query is not None else "")


def identify(keyring: Keyring, keys: Keys, headers: Any, query: Any = None) -> Principal:
    """Who calls, by their credentials. Raises ProblemError 401."""
    shown = credentials_of(headers, query)
    if shown.token:
        return keyring.read(shown.token)
    if shown.key:
        return keys.read(shown.key)
    raise refused("credentials are needed: a bearer token, or an API key in X-API-Key")
