"""Router of the live streams: WebSocket and Server-Sent Events."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import partial
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Depends, Query, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from headway.api.dependencies import need, require_known_names, services_of
from headway.api.hub import HISTORY, TOPICS, Client, Hub, Past, sent_to
from headway.api.problems import Fault, ProblemError, problem, responses
from headway.api.security import Principal, Role
from headway.api.sockets import DELIVER, DIRECT, LONGEST_BYTES
from headway.api.streaming import Endless

router = APIRouter(tags=["live"])
aliases = APIRouter(tags=["live"])  # as the requirements name them: /ws/{topic}, /stream/{topic}
EVENTS: dict[str, Any] = {
    "response_class": StreamingResponse,
    "dependencies": [Depends(need(Role.VIEWER))],
    "responses": {
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **responses(401, 403, 404, 422),
    },
}
Form = Literal["dashboard", "chart", "table"]
SOCKET_QUERY = {"street", "kinds", "format", "compress", "last_id"}
BOOLEAN = TypeAdapter(bool)  # as the routes have it
MOST_KINDS = 32  # in a filter
LONGEST_NAME = 64
TOO_LONG = 1009  # close code (RFC 6455, 7.4.1)
CHANGE_PAUSE_S = 0.1  # until the next message of a client is read; after one with a fault:
FAULT_PAUSE_S = 1.0
LONGEST_WAIT_S = 15.0  # of a question for what is to come: credentials may end meanwhile


def client_of(topic: str, street: str, kinds: str, form: str, packed: bool) -> Client:
    return Client(topic, street, tuple(k for k in kinds.split(",") if k), form, packed)


def filter_fault(street: Any, kinds: Any) -> str:
    """What is wrong with a filter; empty for nothing. Each message is compared with all of it."""
    is_list = isinstance(kinds, list | tuple) and all(isinstance(k, str) for k in kinds)
    if not isinstance(street, str) or not is_list:
        return "street is a name, kinds a list of names"
    if len(kinds) > MOST_KINDS or max(map(len, (street, *kinds))) > LONGEST_NAME:
        return f"at most {MOST_KINDS} kinds; no name longer than {LONGEST_NAME} characters"
    return ""


async def _socket(socket: WebSocket, topic: str) -> None:
    """?token=, street=, kinds=a,b, format=dashboard|chart|table, compress=1, last_id=; no other
    names. A text message `{"street": ..., "kinds": [...]}` changes the filters; anything else is
    answered by an error and changes nothing. One of more than LONGEST_BYTES closes the socket
    (1009).
    """
    services = services_of(socket)
    try:
        who = await services.identity.require(socket.scope, Role.VIEWER)
        client, last_id = _asked_for(topic, socket)
    except ProblemError as error:
        await socket.send_denial_response(
            problem(socket, error.status, error.detail, error.faults, error.headers)
        )
        return
    client.bounds = who.bounds
    await socket.accept()
    hub = services.hub
    extensions = socket.scope.get("extensions", {})
    client.deliver, client.direct = extensions.get(DELIVER), extensions.get(DIRECT)
    hub.join(client, last_id)
    reading = asyncio.create_task(_listen(socket, client))
    watching = asyncio.create_task(services.identity.close_at_end(socket, who))
    try:
        async for message in hub.messages(client):
            await socket.send_text(
                message.text.decode() if message is not None else '{"topic":"heartbeat"}'
            )
        await socket.close(4408, client.ended[:120])
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        hub.leave(client)
        reading.cancel()
        watching.cancel()


def _asked_for(topic: str, socket: WebSocket) -> tuple[Client, int]:
    """The client that a socket's query asks for, and the id to go on from. Raises ProblemError 404
    or 422.
    """
    query = socket.query_params
    require_known_names(socket, SOCKET_QUERY)
    form, last = query.get("format", "dashboard"), query.get("last_id", "0")
    faults = list[Fault]()
    if form not in get_args(Form):
        known = ", ".join(get_args(Form))
        faults.append(Fault(pointer="/format", message=f"must be one of {known}"))
    if not _is_number(last):
        faults.append(
            Fault(pointer="/last_id", message="must be a whole number of 19 digits at most")
        )
    try:
        packed = BOOLEAN.validate_python(query.get("compress", False))
    except ValidationError:
        faults.append(Fault(pointer="/compress", message="must be true or false"))
    if faults:
        raise ProblemError(422, "the query is not valid", faults)
    return _checked_client(
        topic, query.get("street", ""), query.get("kinds", ""), form, packed
    ), int(last)


def _is_number(text: str) -> bool:
    """Of the digits 0 to 9 alone (`isdigit` lets more through), and small enough."""
    return text.isascii() and text.isdigit() and len(text) <= 19


async def _listen(socket: WebSocket, client: Client) -> None:
    """Changes of filters, until the client goes. It is read slowly: nobody clicks so fast, and who
    floods holds up nobody else.
    """
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            break
        text = message.get("text") or ""
        if len(text) > LONGEST_BYTES:  # of a server with another connection than `Connection`
            await socket.close(TOO_LONG)
            break
        try:
            _change(client, text)
            await asyncio.sleep(CHANGE_PAUSE_S)
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it has gone meanwhile
                await socket.send_json({"topic": "error", "detail": str(error)})
            await asyncio.sleep(FAULT_PAUSE_S)
    client.ended = client.ended or "gone"
    client.to_send.set()


def _change(client: Client, text: str) -> None:
    """Other filters from now on. Raises ValueError, AttributeError, TypeError or RecursionError."""
    change = json.loads(text)
    if not isinstance(change, dict):
        raise ValueError('send {"street": a name, "kinds": a list of names}, or one of both')
    street, kinds = change.get("street", client.street), change.get("kinds", client.kinds)
    if fault := filter_fault(street, kinds):
        raise ValueError(fault)
    client.street, client.kinds = street, tuple(kinds)


@aliases.websocket("/ws/{topic}")
@router.websocket("/{topic}")
async def socket(socket: WebSocket, topic: str) -> None:
    """realtime: state of the streets, some ten times a second; monitoring: events of the engine;
    alerts: alerts, and events that are as urgent.
    """
    await _socket(socket, topic)


class StreamHistory(BaseModel):
    """Messages of a live stream, oldest first, in the form in which the stream sends them. last_id:
    ask with it for those after them.
    """

    messages: list[dict[str, Any]]
    last_id: str


@router.get(
    "/{topic}/history",
    response_model=StreamHistory,
    dependencies=[Depends(need(Role.VIEWER))],
    responses=responses(401, 403, 404, 422),
)
async def history(
    request: Request,
    who: Annotated[Principal, Depends(need(Role.VIEWER))],
    topic: str,
    street: Annotated[str, Query(max_length=64)] = "",
    kinds: Annotated[str, Query(max_length=512)] = "",
    form: Annotated[Form, Query(alias="format")] = "dashboard",
    compress: bool = False,
    last_id: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    wait_s: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S)] = 0.0,
    limit: Annotated[int, Query(ge=1, le=HISTORY)] = 100,
) -> Response:
    """The messages after `last_id`, of the last 512 of the stream; without it the oldest that are
    kept. Where there are none, it waits for up to `wait_s` seconds for the next one.
    """
    client, hub = _checked_client(topic, street, kinds, form, compress), services_of(request).hub
    client.bounds = who.bounds
    found = hub.kept_since(client, last_id, limit + 1)
    if not found and wait_s:
        last_id = last_id or hub.newest(topic)
        hub.join(client)
        try:
            async with asyncio.timeout(wait_s):
                await client.to_send.wait()
        except TimeoutError:
            pass
        finally:
            hub.leave(client)
        found = hub.kept_since(client, last_id, limit + 1)
    last = found[limit - 1].number if len(found) > limit else hub.newest(topic)
    body = await run_in_threadpool(_history, client, found[:limit], last)
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


def _history(client: Client, found: list[Past], last: int) -> bytes:
    messages = b",".join(sent_to(client, past).text for past in found)
    return b'{"messages":[%s],"last_id":"%d"}' % (messages, last)


def _checked_client(topic: str, street: str, kinds: str, form: str, packed: bool) -> Client:
    """Raises ProblemError 404 where there is no such stream, 422 where the filter has a fault."""
    if topic not in TOPICS:
        raise ProblemError(404, f"no stream {topic!r}. There are: {', '.join(TOPICS)}.")
    client = client_of(topic, street, kinds, form, packed)
    if fault := filter_fault(client.street, client.kinds):
        raise ProblemError(422, fault)
    return client


@aliases.get("/stream/{topic}", **EVENTS)
@router.get("/{topic}/events", **EVENTS)
async def events(
    request: Request,
    topic: str,
    street: Annotated[str, Query(max_length=64)] = "",
    kinds: Annotated[str, Query(max_length=512)] = "",
    form: Annotated[Form, Query(alias="format")] = "dashboard",
    compress: bool = False,
    last_id: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
) -> Endless:
    """The same as Server-Sent Events; after a break a browser goes on from its `Last-Event-ID`."""
    client, hub = _checked_client(topic, street, kinds, form, compress), services_of(request).hub
    who = await services_of(request).identity.require(request.scope, Role.VIEWER)
    client.bounds = who.bounds
    given = request.headers.get("last-event-id", "")
    services = services_of(request)
    ends = partial(services.identity.end_of, who)
    return Endless(
        _sse(hub, client, int(given) if _is_number(given) else last_id, ends),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _end(client: Client, ending: asyncio.Task[str]) -> None:
    """Of a stream whose credentials have ended."""
    if not ending.cancelled():
        client.ended = client.ended or ending.result()
        client.to_send.set()


async def _sse(
    hub: Hub, client: Client, last_id: int, ends: Callable[[], Coroutine[Any, Any, str]]
) -> AsyncGenerator[bytes, None]:
    """ends: waits until the stream is to end; why."""
    hub.join(client, last_id)
    ending = asyncio.create_task(ends())
    ending.add_done_callback(partial(_end, client))
    try:
        yield b"retry: 2000\n\n"
        async for message in hub.messages(client):
            yield (
                b"id: %d\ndata: %s\n\n" % (message.number, message.text)
                if message is not None
                else b": still here\n\n"
            )
        yield b"event: dropped\ndata: " + client.ended.encode() + b"\n\n"
    finally:
        ending.cancel()
        hub.leave(client)
