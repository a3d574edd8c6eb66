"""Principal may do what: signed tokens, API keys, roles."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import math
import secrets
import time
import zlib
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import jwt
import msgspec

from headway.api.problems import ProblemError
from headway.api.scopes import UNBOUNDED, Bounds
from headway.files import alone_at, write_whole

ALGORITHM = "HS256"
ISSUER = "headway"
TICKET_S = 30.0  # for which a ticket opens a stream
LONGEST_TICKET = 7500  # characters: the first line of who opens a socket has 8192 at most
STREAM = "stream"  # the use of a ticket, which is no other credential
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
    """Who calls: a name and a role. expires_s: when the credentials end, seconds since 1970. token,
    key: the number of the one that was shown. bounds: the streets and cameras that they are for.
    signer: key id of the secret of ours that signed the token; empty for none.
    """

    name: str
    role: Role
    expires_s: float = field(default=math.inf, compare=False)
    token: str = field(default="", compare=False)
    key: str = field(default="", compare=False)
    bounds: Bounds = UNBOUNDED
    signer: str = field(default="", compare=False)


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
        self._read_of = (0, 0)  # when the file was written, and its inode
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

    def _refresh(self) -> None:
        """Read the file where it was written since: another process rotates the secret."""
        with contextlib.suppress(OSError, ValueError):  # gone or damaged: what is known holds
            found = self._path.stat()
            written = (found.st_mtime_ns, found.st_ino)  # two at once may have one time
            if written != self._read_of:
                self._keys = _stored_keys(self._path)
                self._read_of = written

    def rotate(self, keep: int = 2) -> str:
        """A new secret signs from now on; `keep` secrets stay valid in all. Its key id. Of several
        rotations at once each goes on from the one before.
        """
        kid = secrets.token_hex(4)
        with alone_at(self._path):
            self._refresh()
            kept = dict(list(self._keys.items())[-(keep - 1) :]) if keep > 1 else {}
            keys = {**kept, kid: secrets.token_urlsafe(48)}
            write_whole(self._path, json.dumps(keys))
            self._keys = keys
        return kid

    def token(
        self,
        name: str,
        role: Role,
        lasts_s: float = 12 * 3600.0,
        bounds: Bounds = Bounds(),
    ) -> str:
        return self._signed(name, role, lasts_s, bounds.claims())

    def ticket(self, who: Principal) -> str:
        """Opens one stream within TICKET_S as `who`, whose own credentials' end is the stream's.
        Raises ProblemError 422 where their bounds have more names than an address takes.
        """
        until = None if math.isinf(who.expires_s) else who.expires_s
        more = {"use": STREAM, "until": until, "token": who.token, "key": who.key}
        more |= {"signer": who.signer, "bounds": _packed(who.bounds.claims())}
        made = self._signed(who.name, who.role, TICKET_S, more)
        if len(made) > LONGEST_TICKET:
            raise ProblemError(
                422,
                f"no address takes a ticket of {len(made)} characters: these credentials name too "
                "many streets and cameras. Ask with some that name fewer",
            )
        return made

    def _signed(self, name: str, role: Role, lasts_s: float, more: dict[str, Any]) -> str:
        self._refresh()
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
        return jwt.encode(claims | more, keys[kid], ALGORITHM, headers={"kid": kid})

    def read(self, token: str) -> Principal:
        """Raises ProblemError 401 for a token that is forged, expired, or of a key that is gone."""
        claims, role, kid = self._claims(token, "")
        return Principal(
            claims["sub"],
            role,
            float(claims["exp"]),
            token=str(claims.get("jti", "")),
            bounds=_bounds_of(claims),
            signer=kid,
        )

    def holds(self, signer: str) -> bool:
        """The secret of that key id was not dropped."""
        self._refresh()
        return signer in self._keys or signer in self._given

    def read_ticket(self, ticket: str) -> tuple[Principal, str]:
        """(who it was made for, its number). Raises ProblemError 401, as for a token."""
        claims, role, _ = self._claims(ticket, STREAM)
        expires_s = math.inf if claims["until"] is None else float(claims["until"])
        bounds = _bounds_of(_unpacked(claims["bounds"]))
        shown = (claims["token"], claims["key"])
        who = Principal(claims["sub"], role, expires_s, *shown, bounds, claims["signer"])
        return who, str(claims["jti"])

    def _claims(self, token: str, use: str) -> tuple[dict[str, Any], Role, str]:
        """(claims, role, key id)."""
        try:
            self._refresh()
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
                # not `iat`: the clock of another server is a second ahead, or ours was set back
                options={"require": ["exp", "sub", "role", "iss"], "verify_iat": False},
            )
            if claims.get("use", "") != use:
                raise jwt.InvalidTokenError("it is for another use")
            return claims, Role[str(claims["role"]).upper()], kid
        except (jwt.InvalidTokenError, KeyError, ValueError) as error:
            raise refused(f"the token is not valid ({error})") from error


def _stored_keys(path: Path) -> dict[str, str]:
    """Raises ValueError for a file that holds none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=StoredKeys)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: holds no keys any more ({error}). Put it back from a copy, or move it away: "
            "the next start of the server makes new ones, and all tokens of before end."
        ) from error


def _bounds_of(claims: dict[str, Any]) -> Bounds:
    return Bounds.of(claims.get("streets"), claims.get("cameras"))


def _packed(claims: dict[str, Any]) -> str:
    """Names are much alike: a hundred of them would not fit into an address."""
    return base64.urlsafe_b64encode(zlib.compress(msgspec.json.encode(claims), 9)).decode()


def _unpacked(packed: str) -> dict[str, Any]:
    return dict(msgspec.json.decode(zlib.decompress(base64.urlsafe_b64decode(packed))))


def _key_id(secret: str) -> str:
    """The same for the same secret, and says nothing of it."""
    return hashlib.sha256(b"headway key id" + secret.encode()).hexdigest()[:16]


def refused(detail: str) -> ProblemError:
    return ProblemError(401, detail, headers={"WWW-Authenticate": "Bearer"})


def digest(text: str) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller shows: one of the three, or none."""

    token: str = ""
    key: str = ""
    ticket: str = ""


def credentials_of(headers: Any, query: Any = None) -> Credentials:
    """A token, or an API key; or a ticket or the token in the query, if one is given. headers,
    query: of Starlette.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return Credentials(token=token.strip())
    if key := headers.get("x-api-key", ""):
        return Credentials(key=key)
    if query is None:
        return Credentials()
    if ticket := query.get("ticket", ""):
        return Credentials(ticket=ticket)
    return Credentials(token=query.get("token", ""))
