"""Tokens of an OpenID Connect provider: OpenID Connect Core 1.0 and Discovery 1.0, as a server that
takes access tokens (RFC 9068) and signs nobody in itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt
from starlette.concurrency import run_in_threadpool

from headway import telemetry
from headway.api.problems import ProblemError
from headway.api.scopes import MOST_NAMES, UNBOUNDED, Bounds
from headway.api.security import Principal, Role, digest, refused
from headway.service.deadline import Deadline, SafeWebHandler, WebHandler
from headway.service.observations import OF_PROVIDER
from headway.settings import OidcSettings

OF_RSA = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
ALGORITHMS = [*OF_RSA, "ES256", "ES384", "EdDSA"]
DISCOVERY = "/.well-known/openid-configuration"
WITHIN_S = 5.0  # for each of the provider's two answers
ANSWER_BYTES = 1 << 20
FRESH_S = 600.0  # for which the provider's keys are not asked for again
KEPT_S = 24 * 3600.0  # for which they hold while the provider is away
ASK_AGAIN_S = 10.0  # at the soonest: anybody can show a token with a key that nobody knows
LEEWAY_S = 10.0  # between the provider's clock and ours
KEYS_WITHIN_S = 2 * WITHIN_S  # for which a request waits for them
LATEST_S = 253_402_300_799.0  # the end of the year 9999, the last that a database takes
LONGEST_NAME = 200  # characters; one with more is cut, and told apart by its digest
EVERYTHING = "*"  # in a claim of streets or cameras: no bounds


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key of the provider, and what it may be used with."""

    key: Any
    algorithms: list[str]


class Provider:
    """Checks tokens by the provider's own keys, which are asked for when first needed."""

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._keys = dict[str, SigningKey]()
        self._read_s = -math.inf  # monotonic, when the keys came
        self._asked_s = -math.inf  # monotonic, when they were asked for
        self._asking: asyncio.Task[None] | None = None

    def is_of(self, token: str) -> bool:
        """The token says that this provider made it."""
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            return False
        return bool(claims.get("iss") == self._settings.issuer)

    async def read(self, token: str) -> Principal:
        """Raises ProblemError: 401 for a token that does not hold, 403 for a user without a role
        here, 503 while the provider's keys cannot be had.
        """
        try:
            kid = str(jwt.get_unverified_header(token).get("kid", ""))
            key = await self._key(kid)
            claims = jwt.decode(
                token,
                key.key,
                key.algorithms,
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise refused(f"the token is not valid ({error})") from error
        name = _at(claims, self._settings.name_claim)
        if not isinstance(name, str) or not name:
            raise refused(f"the token is not valid (no {self._settings.name_claim!r})")
        signed, _, _ = token.rpartition(".")  # a signature can be spelled in several ways
        number = claims.get("jti") or signed
        role = self._role(claims)
        return Principal(
            f"{OF_PROVIDER}:{_plain(name)}",
            role,
            min(float(claims["exp"]) + LEEWAY_S, LATEST_S),
            token=f"oidc:{digest(number)[:32]}",
            bounds=UNBOUNDED if role == Role.ADMIN else self._bounds(claims),
        )

    def _bounds(self, claims: Mapping[str, Any]) -> Bounds:
        """Raises ProblemError 403 where there are more names than bounds may have."""
        asked = (self._settings.streets_claim, self._settings.cameras_claim)
        streets, cameras = (_names(_at(claims, claim)) if claim else set() for claim in asked)
        if not any(asked) or EVERYTHING in streets | cameras:
            return UNBOUNDED
        if max(len(streets), len(cameras)) > MOST_NAMES:
            raise ProblemError(
                403, f"the token names more than {MOST_NAMES} streets or cameras; `*` names all"
            )
        return Bounds.of(streets, cameras)

    def _role(self, claims: Mapping[str, Any]) -> Role:
        """Raises ProblemError 403."""
        held = _at(claims, self._settings.roles_claim)
        names = [held] if isinstance(held, str) else held if isinstance(held, list) else []
        known = self._settings.roles
        roles = [Role[known[n].upper()] for n in names if isinstance(n, str) and n in known]
        if not roles:
            raise ProblemError(
                403,
                f"the token gives no role here: nothing in {self._settings.roles_claim!r} is one "
                "of the settings' oidc.roles",
            )
        return max(roles)

    async def _key(self, kid: str) -> SigningKey:
        """Raises ProblemError 503, jwt.InvalidTokenError for a key that the provider has not."""
        now_s = time.monotonic()
        is_known = kid in self._keys and now_s - self._read_s < KEPT_S
        is_due = now_s - self._read_s > FRESH_S if is_known else True
        if is_due and self._asking is None and now_s - self._asked_s > ASK_AGAIN_S:
            self._asked_s = now_s
            self._asking = asyncio.create_task(self._ask())
        if not is_known and self._asking is not None:
            await asyncio.wait({self._asking}, timeout=KEYS_WITHIN_S)
        if kid in self._keys and time.monotonic() - self._read_s < KEPT_S:
            return self._keys[kid]
        if self._read_s >= self._asked_s:  # the provider has said so
            raise jwt.InvalidTokenError("signed with a key that the provider does not have")
        raise ProblemError(
            503,
            "the provider that signs such tokens cannot be reached now",
            headers={"Retry-After": f"{ASK_AGAIN_S:.0f}"},
        )

    async def _ask(self) -> None:
        """Read the keys anew; what is known stays where that fails, and why is logged."""
        try:
            self._keys = await run_in_threadpool(_keys_of, self._settings.issuer)
            self._read_s = time.monotonic()
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            telemetry.log("api").warning("oidc.keys", issuer=self._settings.issuer, why=str(error))
        finally:
            self._asking = None


def _keys_of(issuer: str) -> dict[str, SigningKey]:
    """Those for signatures, by key id. Raises OSError, HTTPException or ValueError."""
    found = _fetched(issuer.rstrip("/") + DISCOVERY)
    if found.get("issuer") != issuer:  # Discovery 1.0, 4.3
        raise ValueError(f"the provider calls itself {found.get('issuer')!r}")
    where = found.get("jwks_uri")
    if not isinstance(where, str) or urlsplit(where).scheme != urlsplit(issuer).scheme:
        raise ValueError(f"jwks_uri: {where!r} is no address like that of the issuer")
    listed = _fetched(where).get("keys")
    keys = dict[str, SigningKey]()
    for one in listed if isinstance(listed, list) else []:
        # of a kind that is not known here, or damaged: the others hold
        with contextlib.suppress(jwt.PyJWTError, ValueError, TypeError):
            keys |= _signing_key(one)
    if not keys:
        raise ValueError(f"{where}: has no key that signs tokens")
    return keys


def _signing_key(one: Any) -> dict[str, SigningKey]:
    """By its id; nothing for a key that signs no tokens. Raises PyJWTError, ValueError or TypeError
    for one that is damaged.
    """
    if not isinstance(one, dict) or one.get("use") not in (None, "sig"):
        return {}
    key = jwt.PyJWK(one)
    if key.key_type not in ("RSA", "EC", "OKP"):
        return {}
    # RFC 7517, 4.4: a key need not say which; of the other types it follows from the curve
    usual = OF_RSA if key.key_type == "RSA" and "alg" not in one else [key.algorithm_name]
    algorithms = [name for name in usual if name in ALGORITHMS]
    return {str(one.get("kid", "")): SigningKey(key.key, algorithms)} if algorithms else {}


def _fetched(url: str) -> dict[str, Any]:
    """A JSON object. Raises OSError, HTTPException or ValueError."""
    try:
        with Deadline(WITHIN_S) as deadline:  # of each part of it, the time-out is its own
            handlers = WebHandler(deadline), SafeWebHandler(deadline), _NoRedirect
            opener = urllib.request.build_opener(*handlers)
            with opener.open(url, timeout=WITHIN_S) as answer:
                body = answer.read(ANSWER_BYTES + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"{url}: answers {error.code}") from None
    if len(body) > ANSWER_BYTES:
        raise ValueError(f"{url}: answers more than {ANSWER_BYTES} bytes")
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError(f"{url}: answers no JSON object")
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key that comes from elsewhere is none of the provider's."""

    def redirect_request(self, *args: Any, **named: Any) -> None:
        return None


def _plain(name: str) -> str:
    """What cannot be printed, or stored (NUL, half a character), as its escape, and so a colon,
    which divides names; a long one cut.
    """
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    plain = plain.replace(":", r"\x3a")
    if len(plain) <= LONGEST_NAME:
        return plain
    mark = f"~{digest(plain)[:16]}"
    return plain[: LONGEST_NAME - len(mark)] + mark


def _names(held: Any) -> set[str]:
    """Of a claim: a list of texts, or one text with blanks between; else none."""
    found = held.split() if isinstance(held, str) else held if isinstance(held, list) else []
    return {name for name in found if isinstance(name, str) and name}


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of that name, else the one that the dots lead to; None where there is none."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        if not isinstance(found, Mapping) or step not in found:
            return None
        found = found[step]
    return found
