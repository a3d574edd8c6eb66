"""What routes ask for by `Depends`: the application's services, and who calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import Depends, Request, Security
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.requests import HTTPConnection

from headway.api.identity import FOUND
from headway.api.problems import MOST_FAULTS, Fault, ProblemError
from headway.api.scopes import UNBOUNDED, Bounds
from headway.api.security import Principal, Role
from headway.api.services import Services
from headway.store import Intake

BEARER = HTTPBearer(auto_error=False, description="A token signed by this server")
KEY = APIKeyHeader(name="X-API-Key", auto_error=False)
OF_CREDENTIALS = {"token", "ticket"}  # in a query these name whoever calls, where they are taken


def services_of(connection: HTTPConnection) -> Services:
    """The services of the application that a request or socket belongs to."""
    services: Services = connection.app.state.services
    return services


def bounds_of(connection: HTTPConnection) -> Bounds:
    """Of who calls, once they are known."""
    found = connection.scope.get("state", {}).get(FOUND)
    return found.bounds if isinstance(found, Principal) else UNBOUNDED


def caller_of(connection: HTTPConnection) -> str:
    """Whose share of the turns it takes: who calls, by name, or an address."""
    found = connection.scope.get("state", {}).get(FOUND)
    if isinstance(found, Principal):
        return found.name
    return connection.client.host if connection.client is not None else ""


def end_of_caller(connection: HTTPConnection) -> Callable[[], Coroutine[Any, Any, str]]:
    """Waits until the credentials of who calls, who is known, do not hold any more; why."""
    who: Principal = connection.scope["state"][FOUND]
    return partial(services_of(connection).identity.end_of, who)


async def turn_of(request: Request) -> AsyncIterator[None]:
    """A dependency: the route has a turn to ask the database, until it has its answer."""
    async with services_of(request).turns.one(caller_of(request)):
        yield


async def probe_turn_of(request: Request) -> AsyncIterator[None]:
    """The same for who asks whether it can be asked."""
    async with services_of(request).probe_turns.one():
        yield


async def prediction_turn_of(request: Request) -> AsyncIterator[None]:
    """The same for predictions, once the whole body is here: it may come slowly."""
    await request.body()
    async with services_of(request).prediction_turns.one(caller_of(request)):
        yield


PROBES = Depends(probe_turn_of, scope="function")
PREDICTS = Depends(prediction_turn_of, scope="function")
ASKS = Depends(turn_of, scope="function")  # not until the answer is sent: some read slowly


def need(role: Role) -> Callable[..., Awaitable[Principal]]:
    """A dependency: who calls, if they have at least `role`. 401 without or with bad credentials,
    403 with too few rights; then 422 for a name in the query that the route does not know.
    """

    async def check(
        request: Request,
        _token: Any = Security(BEARER),  # this and the next for the document alone
        _key: Any = Security(KEY),
    ) -> Principal:
        who = await services_of(request).identity.require(request.scope, role)
        refuse_unknown_names(request)
        return who

    return check


def require_nothing_waits(intake: Intake) -> None:
    """Raises ProblemError 503 while rows wait on disk: what is erased now would come after it."""
    if not intake.catch_up():
        detail = "rows wait on disk for the database: nothing is erased before"
        raise ProblemError(503, detail, headers={"Retry-After": "30"})


def refuse_unknown_names(request: Request) -> None:
    """Raises ProblemError 422 for a name in the query that is none of the route's: `start=` in
    place of `begin=` would give, or erase, what is of all times.
    """
    route = request.scope.get("route")
    if request.scope.get("query_string") and isinstance(route, APIRoute):
        require_known_names(request, _query_names(route.dependant))


def require_known_names(connection: HTTPConnection, known: set[str]) -> None:
    """Raises ProblemError 422 where there are others in the query of a request or socket."""
    unknown = sorted(set(connection.query_params) - known - OF_CREDENTIALS)
    if not unknown:
        return
    names = ", ".join(sorted(known))
    message = f"there is no such name here, but: {names}" if known else "nothing is asked for here"
    faults = [Fault(pointer=f"/query/{name}", message=message) for name in unknown[:MOST_FAULTS]]
    count = f"{len(unknown)} unknown name{'s' if len(unknown) > 1 else ''}"
    raise ProblemError(422, f"{count} in the query: {message}", faults)


def _query_names(dependant: Any) -> set[str]:
    """Of what a route asks for, by itself and by what it depends on."""
    own = {field.alias for field in dependant.query_params}
    return own.union(*map(_query_names, dependant.dependencies))
