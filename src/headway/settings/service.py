"""The sections on the service: its logs, API, database, upkeep and server."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from headway.settings.base import Section, zero_or_from


class LogSettings(Section):
    """Logs. level: in small or capital letters. folder: one file a component there, besides
    standard error; empty for none.
    """

    level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    json_lines: bool = False
    folder: str = ""

    @field_validator("level", mode="before")
    @classmethod
    def _take_capitals(cls, level: Any) -> Any:
        return level.lower() if isinstance(level, str) else level  # LOG_LEVEL=INFO is usual

    @field_validator("folder")
    @classmethod
    def _is_path(cls, folder: str) -> str:
        if "\0" in folder:
            raise PydanticCustomError("path", "no path: it holds a null character")
        return folder


class ApiLimits(Section):
    """The API. per_minute: requests of one client, 0 for no limit. origins: web origins whose
    pages may call it (CORS), as scheme://host or scheme://host:port. cache_s: seconds for which
    an answer of analytics is given again. oldest_days, ahead_s: how old a record may be that is
    taken, and how far ahead of the server's clock.
    """

    per_minute: int = Field(default=100, ge=0, le=1_000_000)
    origins: tuple[
        Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.\-]+(:[0-9]{1,5})?$")], ...
    ] = ()
    cache_s: float = Field(default=10.0, ge=0.0, le=3600.0)
    oldest_days: float = Field(default=3653.0, ge=0.001, le=36_525.0)
    ahead_s: float = Field(default=300.0, ge=0.0, le=86_400.0)


class DatabaseSettings(Section):
    """The connections to PostgreSQL. pool_size: kept open; max_overflow: opened beside them under
    load; pool_wait_s: how long a request waits for one; answer_within_s: how long a question to the
    database may take before it is given up. needed_at_start: the service ends where the database of
    HEADWAY_DATABASE_URL does not answer as it starts, and brings its tables to the newest schema;
    false at the roadside: it starts all the same, and the tables are the centre's to make.
    """

    pool_size: int = Field(default=20, ge=1, le=1000)
    max_overflow: int = Field(default=30, ge=0, le=1000)
    pool_wait_s: float = Field(default=10.0, ge=0.1, le=300.0)
    answer_within_s: float = Field(default=30.0, ge=1.0, le=3600.0)
    needed_at_start: bool = True


class SpoolSettings(Section):
    """What waits on disk while the database is away. most_gb: of it at most; least_free_gb: of the
    disk, that stay free. Where either is reached, rows are dropped: first detector states and
    emissions, then observations, signal states and counts of cameras, the oldest first. Events,
    violations, records and who did what are never dropped for others; where they find no room they
    are refused. most_days: for which the former wait at most, 0 for as long as there is room.
    """

    most_gb: float = Field(default=1.0, ge=0.001, le=10_000.0)
    least_free_gb: float = Field(default=1.0, ge=0.0, le=10_000.0)
    most_days: Annotated[float, zero_or_from(0.01)] = Field(default=7.0, ge=0.0, le=365.0)


class UpkeepSettings(Section):
    """Backups and retention on a schedule, by UTC. at: time of day of the first run of a day.

    backup_every_h: hours between backups, 0 for none. keep: backups that are kept, the newest.
    folder: of the backups, and key: the key file they are encrypted with; both are made where
    they are missing (empty: `backups` and `backup.key` in the data folder).
    retention_days: records older than this are deleted once a day, 0 for never.
    """

    at: str = Field(default="03:00", pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")
    backup_every_h: Annotated[float, zero_or_from(0.001, "none")] = Field(
        default=24.0, ge=0.0, le=24.0 * 366
    )
    keep: int = Field(default=7, ge=1, le=10_000)
    folder: str = ""
    key: str = ""
    retention_days: Annotated[float, zero_or_from(0.1, "never")] = Field(
        default=0.0, ge=0.0, le=100_000.0
    )


class ServerSettings(Section):
    """How the server is reached. tls_certificate, tls_key: PEM files, for https. proxies: addresses
    of the reverse proxies before it, which do TLS and whose X-Forwarded-... headers are believed.
    """

    tls_certificate: str = ""
    tls_key: str = ""
    proxies: tuple[str, ...] = ()

    @field_validator("proxies")
    @classmethod
    def _are_addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError as error:
                raise PydanticCustomError(
                    "proxy", f"{proxy!r} is no address. Give IP addresses or networks (10.0.0.0/8)"
                ) from error
        return proxies

    @model_validator(mode="after")
    def _has_both_or_none(self) -> ServerSettings:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise PydanticCustomError("tls", "give tls_certificate and tls_key together")
        return self


RoleName = Literal["viewer", "source", "operator", "engineer", "admin"]


class OidcSettings(Section):
    """Tokens of an OpenID Connect provider that are taken beside our own. issuer: as its tokens
    name it, empty for none; audience: the one that its tokens must be made for. roles_claim: where
    a token holds the roles of its user, with dots into the depth (`realm_access.roles`); roles:
    which role here each of them stands for. Who has several has the highest, who has none is
    refused. name_claim: whose value the audit trail shows, after `oidc:`.

    streets_claim, cameras_claim: where a token holds the streets and cameras that its user is
    bounded to, as a list or as text with blanks between; `*` in either is no bounds. Where one is
    set, a user without it has none of them, and only admins are not bounded. Empty for no bounds.
    """

    issuer: str = ""
    audience: str = ""
    roles_claim: str = Field(default="roles", min_length=1, max_length=256)
    roles: dict[str, RoleName] = Field(default_factory=dict)
    name_claim: str = Field(default="sub", min_length=1, max_length=256)
    streets_claim: str = Field(default="", max_length=256)
    cameras_claim: str = Field(default="", max_length=256)

    @model_validator(mode="after")
    def _is_whole(self) -> OidcSettings:
        if not self.issuer:
            if self.audience or self.roles:
                raise PydanticCustomError("oidc", "give the issuer, as its tokens name it")
            return self
        address = urlsplit(self.issuer)
        is_here = address.hostname in ("localhost", "127.0.0.1", "::1")
        if not address.hostname or address.scheme not in ("https", "http"):
            raise PydanticCustomError("oidc", "issuer is no address. Give https://HOST/PATH")
        if address.scheme == "http" and not is_here:
            raise PydanticCustomError("oidc", "the issuer is not asked without TLS. Give https://")
        if address.query or address.fragment or address.username is not None:
            raise PydanticCustomError("oidc", "issuer: give it without user, query and fragment")
        if not self.audience:
            raise PydanticCustomError(
                "oidc", "give the audience: tokens for other services are not taken"
            )
        if not self.roles:
            raise PydanticCustomError(
                "oidc",
                "give roles, as {role of the provider: operator}; without them none may call",
            )
        return self
