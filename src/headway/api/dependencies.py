"""What routes ask for by `Depends`: the application's services, and who calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.requests import HTTPConnection

from headway.api.problems import ProblemError
from headway.api.security import Principal, Role, identify
from headway.api.services import Services

BEARER = HTTPBearer(auto_error=False, description="A token signed by this server")
KEY = APIKeyHeader(name="X-API-Key", auto_error=False)


def services_of(connection: HTTPConnection) -> Services:
    """The services of the application that a request or socket belongs to."""
    services: Services = connection.app.state.services
    return services


def need(role: Role) -> Callable[..., Principal]:
    """A dependency: who calls, if they have at least `role`. 401 without or with bad credentials,
    403 with too few rights.
    """

    def check(
        request: Request,
        _token: Any = Security(BEARER),  # this and the next for the document alone
        _key: Any = Security(KEY),
    ) -> Principal:
        services = services_of(request)
        principal = identify(services.keyring, services.keys, request.headers, request.query_params)
        request.state.principal = principal
        if principal.role < role:
            raise ProblemError(
                403,
                f"this needs the role {role.name.lower()}; yours is {principal.role.name.lower()}",
            )
        return principal

    return check
