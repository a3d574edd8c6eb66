"""A client of a Headway service, sync and async: orders, questions, records, and live streams that
come back after a break.

Needs `httpx` (`pip install httpx`). It speaks HTTP alone and imports nothing else of
Headway than `client_routes`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict, cast

import httpx
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.http11 import Response
from websockets.sync.client import connect

from headway.client_routes import Json, Query, Routes, Topic
from headway.client_routes import quoted as _quoted

StreetAction = Literal["start", "stop", "pause", "resume"]
LONGEST_PAUSE_S = 8.0
TRIES = 4  # of a call that the service asks to repeat later
LONGEST_RETRY_S = 60.0
MAY_PASS = (408, 425, 429)  # HTTP 4xx: time-out, too early, too many
BROKEN = (ConnectionClosed, InvalidHandshake, OSError, TimeoutError)


class Message(TypedDict):
    """A message of a live stream; of the topic `gap` where some are gone. data: an object; with
    compress, if large, text (`encoding`).
    """

    id: str
    topic: str
    street: str
    data: Any
    encoding: NotRequired[str]


class OrderResult(TypedDict):
    """Answer to an order. detail: what was done. id: by which `order` tells what became of it;
    state: what is known of that already.
    """

    detail: str
    id: str
    state: str


class IngestResult(TypedDict):
    """How many records of a batch were stored, were there already, and wait for the database; and
    those that were refused.
    """

    stored: int
    duplicates: int
    spooled: int
    rejected: list[Json]


class HeadwayError(RuntimeError):
    """The service refused, or what answered is not it. status: HTTP status; faults: what is wrong
    where, as (JSON pointer, message).
    """

    def __init__(self, status: int, detail: str, faults: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(f"{status}: {detail}" + "".join(f"; {p or '/'}: {m}" for p, m in faults))
        self.status = status
        self.detail = detail
        self.faults = tuple(faults)


class _Request(NamedTuple):
    """What can be asked; how it is sent is the business of the two clients."""

    method: str
    path: str
    query: Query | None = None
    body: object = None


def _retry_s(answer: httpx.Response, method: str, path: str, key: str) -> float | None:
    """Seconds after which a call may be sent again; None where it may not be. A 429 was not looked
    at; a 503 that says when to come again (Retry-After) is repeated where that does nothing twice.
    """
    says_when = answer.headers.get("retry-after", "")
    if not says_when.isascii() or not says_when.isdigit():
        return None
    is_safe = method != "POST" or bool(key) or path.startswith("/api/v1/ingest/")
    if answer.status_code == 429 or (answer.status_code == 503 and is_safe):
        return min(float(says_when), LONGEST_RETRY_S)
    return None


def _rotate_key(number: str, overlap_h: float) -> _Request:
    path = f"/api/v1/admin/keys/{_quoted(number)}/rotate"
    return _Request("POST", path, None, {"overlap_h": overlap_h})


def _streets() -> _Request:
    return _Request("GET", "/api/v1/engine/state")


def _report(street: str) -> _Request:
    return _Request("GET", f"/api/v1/engine/streets/{_quoted(street)}/report")


def _override(
    street: str, junction: str, order: str, stage: int | None, lasts_s: float
) -> _Request:
    return _Request(
        "POST",
        f"/api/v1/engine/streets/{_quoted(street)}/junctions/{_quoted(junction)}/override",
        body={"order": order, "stage": stage, "lasts_s": lasts_s},
    )


def _controller(street: str, name: str) -> _Request:
    path = f"/api/v1/engine/streets/{_quoted(street)}/controller"
    return _Request("POST", path, body={"controller": name})


def _orders(street: str, query: Query) -> _Request:
    return _Request("GET", f"/api/v1/engine/streets/{_quoted(street)}/orders", query=dict(query))


def _order(street: str, order_id: str) -> _Request:
    path = f"/api/v1/engine/streets/{_quoted(street)}/orders/{_quoted(order_id)}"
    return _Request("GET", path)


def _overrides(street: str) -> _Request:
    return _Request("GET", f"/api/v1/engine/streets/{_quoted(street)}/overrides")


def _act(street: str, action: str) -> _Request:
    return _Request("POST", f"/api/v1/engine/streets/{_quoted(street)}/{action}")


def _alerts() -> _Request:
    return _Request("GET", "/api/v1/monitoring/alerts/open")


def _acknowledge(alert: str, note: str) -> _Request:
    path = f"/api/v1/monitoring/alerts/open/{_quoted(alert)}/acknowledge"
    return _Request("POST", path, body={"note": note})


def _silences() -> _Request:
    return _Request("GET", "/api/v1/monitoring/alerts/silences")


def _silence(source: str, rule: str, lasts_s: float, reason: str) -> _Request:
    body = {"source": source, "rule": rule, "lasts_s": lasts_s, "reason": reason}
    return _Request("POST", "/api/v1/monitoring/alerts/silences", body=body)


def _end_silence(silence: str) -> _Request:
    return _Request("DELETE", f"/api/v1/monitoring/alerts/silences/{_quoted(silence)}")


def _undelivered(limit: int) -> _Request:
    path = "/api/v1/monitoring/notifications/undelivered"
    return _Request("GET", path, {"limit": limit})


def _replay(letter: str) -> _Request:
    path = "/api/v1/monitoring/notifications/undelivered"
    return _Request("POST", f"{path}/{_quoted(letter)}/replay" if letter else f"{path}/replay")


def _ingest(records: Sequence[Mapping[str, object]]) -> _Request:
    return _Request("POST", "/api/v1/ingest/batch", body=list(records))


def _of(street: str | None) -> dict[str, Any]:
    """The query; None for the street of the service's settings, or the only one there is."""
    return {"street": street} if street else {}


def _observe(street: str | None, rows: Sequence[Mapping[str, object]]) -> _Request:
    return _Request("POST", "/api/v1/observations", _of(street), list(rows))


def _sources(street: str | None) -> _Request:
    return _Request("GET", "/api/v1/observations/sources", _of(street))


def _places(street: str | None) -> _Request:
    return _Request("GET", "/api/v1/observations/places", _of(street))


def _analytics(name: str, query: Query) -> _Request:
    return _Request("GET", f"/api/v1/analytics/{name}", query=dict(query))


def _seal(violation: str) -> _Request:
    return _Request("GET", f"/api/v1/violations/{_quoted(violation)}/seal")


def _read(answer: httpx.Response) -> Any:
    """What an answer holds. Raises HeadwayError for a refusal, and for what is none of Headway's:
    whoever gave an order by way of a proxy that redirects must not take it for given.
    """
    if answer.status_code >= 400:
        raise _refusal(answer.status_code, _object_in(answer.content), answer.reason_phrase)
    if answer.status_code >= 300:
        where = answer.headers.get("location", "elsewhere")
        raise HeadwayError(answer.status_code, f"the address leads to {where}: give the service's")
    kind = answer.headers.get("content-type", "").partition(";")[0].strip()
    if kind == "text/html":
        raise HeadwayError(
            answer.status_code, "a page was answered, by something else than Headway"
        )
    if kind.startswith("text/"):
        return answer.text
    if not kind.endswith("json"):
        return answer.content
    try:
        return answer.json()
    except (ValueError, RecursionError) as error:
        said = f"the answer cannot be read ({error}); what was asked for may be done"
        raise HeadwayError(answer.status_code, said) from error


def _address(url: str, topic: str, query: Query, last: str) -> str:
    words = httpx.QueryParams(
        {**{k: v for k, v in query.items() if v}, **({"last_id": last} if last else {})}
    )
    address = f"{url.replace('http', 'ws', 1).rstrip('/')}/api/v1/live/{topic}"
    return f"{address}?{words}" if words else address


def _headers(credentials: str) -> dict[str, str]:
    """credentials: a token, or an API key."""
    if credentials.startswith("hw_"):
        return {"X-API-Key": credentials}
    return {"Authorization": f"Bearer {credentials}"}


def _keyed(idempotency_key: str) -> dict[str, str]:
    return {"Idempotency-Key": f'"{idempotency_key}"'} if idempotency_key else {}


def _raise_if_refused(error: Exception) -> None:
    """Raises HeadwayError where there is no use in trying again: without rights, and where the
    service itself (by a problem document) finds fault with what is asked for.
    """
    closed = getattr(error, "rcvd", None)
    if closed is not None and closed.code in (4400, 4401):
        raise HeadwayError(401, closed.reason or "the stream is refused") from error
    answer = getattr(error, "response", None)
    if answer is None:
        return
    problem = _problem_in(answer)
    passes = answer.status_code in MAY_PASS or not 400 <= answer.status_code < 500
    if answer.status_code in (401, 403) or (problem and not passes):
        raise _refusal(answer.status_code, problem, "the stream is refused") from error


def _problem_in(answer: Response) -> Json:
    """The problem document of an answer; empty where it has none, as a proxy's."""
    if not answer.headers.get("content-type", "").startswith("application/problem+json"):
        return {}
    return _object_in(answer.body)


def _object_in(text: bytes | bytearray | None) -> Json:
    """Empty where there is none: proxies answer in their own ways."""
    try:
        found = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(status: int, problem: Json, otherwise: str) -> HeadwayError:
    listed = problem.get("faults")
    faults = [f for f in listed if isinstance(f, dict)] if isinstance(listed, list) else []
    told = [(str(f.get("pointer", "")), str(f.get("message", ""))) for f in faults]
    return HeadwayError(status, str(problem.get("detail") or otherwise), told)


class Headway(Routes):
    """The sync client. token: a bearer token, or an API key.

    with Headway("http://127.0.0.1:8000", token) as headway:
        headway.override("headway", "247379907", "hold", lasts_s=30)
        for message in headway.listen("alerts"):
            print(message["data"])
    """

    def __init__(self, url: str, token: str, timeout_s: float = 30.0) -> None:
        self._url, self._token = url, token
        self._http = httpx.Client(base_url=url, headers=_headers(token), timeout=timeout_s)

    def __enter__(self) -> Headway:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: object = None,
        idempotency_key: str = "",
    ) -> Any:
        """Any route. idempotency_key: of a POST that may be sent again, if its answer does not
        come, without being done twice; for example str(uuid.uuid4()). A call that the service asks
        to repeat later (429, or 503 with Retry-After) is repeated, up to TRIES times in all. Raises
        HeadwayError if it is refused, httpx.TransportError if there is no answer. Gives what the
        JSON of the answer holds; text as it is, anything else as bytes.
        """
        keyed = _keyed(idempotency_key)
        for tries in range(1, TRIES + 1):
            answer = self._http.request(method, path, params=query, json=body, headers=keyed)
            pause = _retry_s(answer, method, path, idempotency_key)
            if pause is None or tries == TRIES:
                break
            time.sleep(pause)
        return _read(answer)

    def rotate_key(self, number: str, overlap_h: float = 24.0) -> Json:
        """A new API key (`key`) in place of another one, by its middle part; that one works for
        `overlap_h` more hours.
        """
        found: Json = self.call(*_rotate_key(number, overlap_h))
        return found

    def streets(self) -> list[Json]:
        """The state of all streets."""
        found: list[Json] = self.call(*_streets())
        return found

    def report(self, street: str) -> Json:
        """The status report of a street (`street`) and of its real-time loop (`loop`)."""
        found: Json = self.call(*_report(street))
        return found

    def override(
        self,
        street: str,
        junction: str,
        order: str,
        stage: int | None = None,
        lasts_s: float = 60.0,
        idempotency_key: str = "",
    ) -> OrderResult:
        """order: hold, stage (needs its number, from 0 on), flash, release, or reset (of a fault
        that is latched). lasts_s: simulated seconds. idempotency_key: see `call`.
        """
        asked = _override(street, junction, order, stage, lasts_s)
        answer: OrderResult = self.call(*asked, idempotency_key)
        return answer

    def controller(self, street: str, name: str) -> OrderResult:
        answer: OrderResult = self.call(*_controller(street, name))
        return answer

    def orders(self, street: str, **query: Any) -> list[Json]:
        """Orders that were placed, newest first. query: state, kind, junction, by, limit."""
        found: list[Json] = self.call(*_orders(street, query))
        return found

    def order(self, street: str, order_id: str) -> Json:
        """What became of an order: `state`, and `reason` where it was refused or has ended."""
        found: Json = self.call(*_order(street, order_id))
        return found

    def overrides(self, street: str) -> list[Json]:
        """Overrides that are in force, by junction: who, until when and what."""
        found: list[Json] = self.call(*_overrides(street))
        return found

    def act(self, street: str, action: StreetAction, idempotency_key: str = "") -> OrderResult:
        """action: stop (until it is started), start, pause (its time stands) or resume."""
        answer: OrderResult = self.call(*_act(street, action), idempotency_key=idempotency_key)
        return answer

    def alerts(self) -> list[Json]:
        """Alerts that are open on streets, program, cameras and machine, the oldest first."""
        found: list[Json] = self.call(*_alerts())
        return found

    def acknowledge(self, alert: str, note: str = "") -> Json:
        """Say that you look after an alert, by its id; the alert."""
        found: Json = self.call(*_acknowledge(alert, note))
        return found

    def silences(self) -> list[Json]:
        """Silences in force, the first to end first."""
        found: list[Json] = self.call(*_silences())
        return found

    def silence(self, lasts_s: float, source: str = "", rule: str = "", reason: str = "") -> Json:
        """No webhooks and e-mails of the alerts of a source, a rule or both, for some seconds."""
        found: Json = self.call(*_silence(source, rule, lasts_s, reason))
        return found

    def end_silence(self, silence: str) -> Json:
        """End a silence now, by its id."""
        found: Json = self.call(*_end_silence(silence))
        return found

    def undelivered(self, limit: int = 100) -> list[Json]:
        """Notifications that could not be delivered, newest first."""
        found: list[Json] = self.call(*_undelivered(limit))
        return found

    def replay(self, letter: str = "") -> int:
        """Send a notification that could not be delivered anew, by its id; empty: all of them, at
        most 1,000. How many that were.
        """
        count: int = self.call(*_replay(letter))["replayed"]
        return count

    def ingest(self, records: Sequence[Mapping[str, object]]) -> IngestResult:
        """Records in the form of the API; what came of them."""
        answer: IngestResult = self.call(*_ingest(records))
        return answer

    def observe(self, rows: Sequence[Mapping[str, object]], street: str | None = None) -> Json:
        """Observations in the form of the API; what came of them."""
        answer: Json = self.call(*_observe(street, rows))
        return answer

    def sources(self, street: str | None = None) -> list[Json]:
        """The sources of observations, with the weight of each and what it is made of."""
        answer: list[Json] = self.call(*_sources(street))
        return answer

    def places(self, street: str | None = None) -> list[Json]:
        """What observations may speak of: junctions, with their approaches and crossings."""
        answer: list[Json] = self.call(*_places(street))
        return answer

    def analytics(self, name: str, **query: Any) -> Any:
        """Such as analytics("wait-times", simulation_id="SIM_1")."""
        return self.call(*_analytics(name, query))

    def seal(self, violation: str) -> Json:
        """Whether the evidence of a violation is `intact`; `detail` in words."""
        answer: Json = self.call(*_seal(violation))
        return answer

    def listen(self, topic: Topic, **query: Any) -> Iterator[Message]:
        """Messages of a stream from this call on, for ever: after a break it connects again and
        goes on after the last one. A message of the topic `gap` says what could not be had again.

        query: street, kinds, format, compress. Raises HeadwayError if the service refuses.
            `close()` of what it gives ends it.
        """
        messages = self._messages(topic, query)
        next(messages)
        return cast(Iterator[Message], messages)

    def _messages(self, topic: Topic, query: Query) -> Iterator[Message | None]:
        """None once it is connected for the first time, then the messages."""
        last = ""
        pause = 0.2
        begun = False
        while True:
            try:
                with connect(
                    _address(self._url, topic, query, last),
                    max_size=None,
                    additional_headers=_headers(self._token),
                ) as link:
                    pause = 0.2
                    if not begun:
                        begun = True
                        yield None
                    for text in link:
                        message: Message = json.loads(text)
                        if message.get("id"):
                            last = message["id"]
                            yield message
            except BROKEN as error:
                _raise_if_refused(error)
            time.sleep(pause)
            pause = min(2.0 * pause, LONGEST_PAUSE_S)


class AsyncHeadway(Routes):
    """The async client; the same methods, to be awaited."""

    def __init__(self, url: str, token: str, timeout_s: float = 30.0) -> None:
        self._url, self._token = url, token
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(token), timeout=timeout_s)

    async def __aenter__(self) -> AsyncHeadway:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: object = None,
        idempotency_key: str = "",
    ) -> Any:
        """See `Headway.call`."""
        keyed = _keyed(idempotency_key)
        for tries in range(1, TRIES + 1):
            answer = await self._http.request(method, path, params=query, json=body, headers=keyed)
            pause = _retry_s(answer, method, path, idempotency_key)
            if pause is None or tries == TRIES:
                break
            await asyncio.sleep(pause)
        return _read(answer)

    async def rotate_key(self, number: str, overlap_h: float = 24.0) -> Json:
        found: Json = await self.call(*_rotate_key(number, overlap_h))
        return found

    async def streets(self) -> list[Json]:
        found: list[Json] = await self.call(*_streets())
        return found

    async def report(self, street: str) -> Json:
        found: Json = await self.call(*_report(street))
        return found

    async def override(
        self,
        street: str,
        junction: str,
        order: str,
        stage: int | None = None,
        lasts_s: float = 60.0,
        idempotency_key: str = "",
    ) -> OrderResult:
        asked = _override(street, junction, order, stage, lasts_s)
        answer: OrderResult = await self.call(*asked, idempotency_key)
        return answer

    async def controller(self, street: str, name: str) -> OrderResult:
        answer: OrderResult = await self.call(*_controller(street, name))
        return answer

    async def orders(self, street: str, **query: Any) -> list[Json]:
        found: list[Json] = await self.call(*_orders(street, query))
        return found

    async def order(self, street: str, order_id: str) -> Json:
        found: Json = await self.call(*_order(street, order_id))
        return found

    async def overrides(self, street: str) -> list[Json]:
        found: list[Json] = await self.call(*_overrides(street))
        return found

    async def act(
        self, street: str, action: StreetAction, idempotency_key: str = ""
    ) -> OrderResult:
        asked = _act(street, action)
        answer: OrderResult = await self.call(*asked, idempotency_key=idempotency_key)
        return answer

    async def alerts(self) -> list[Json]:
        found: list[Json] = await self.call(*_alerts())
        return found

    async def acknowledge(self, alert: str, note: str = "") -> Json:
        found: Json = await self.call(*_acknowledge(alert, note))
        return found

    async def silences(self) -> list[Json]:
        found: list[Json] = await self.call(*_silences())
        return found

    async def silence(
        self, lasts_s: float, source: str = "", rule: str = "", reason: str = ""
    ) -> Json:
        found: Json = await self.call(*_silence(source, rule, lasts_s, reason))
        return found

    async def end_silence(self, silence: str) -> Json:
        found: Json = await self.call(*_end_silence(silence))
        return found

    async def undelivered(self, limit: int = 100) -> list[Json]:
        found: list[Json] = await self.call(*_undelivered(limit))
        return found

    async def replay(self, letter: str = "") -> int:
        count: int = (await self.call(*_replay(letter)))["replayed"]
        return count

    async def ingest(self, records: Sequence[Mapping[str, object]]) -> IngestResult:
        answer: IngestResult = await self.call(*_ingest(records))
        return answer

    async def observe(
        self, rows: Sequence[Mapping[str, object]], street: str | None = None
    ) -> Json:
        answer: Json = await self.call(*_observe(street, rows))
        return answer

    async def sources(self, street: str | None = None) -> list[Json]:
        answer: list[Json] = await self.call(*_sources(street))
        return answer

    async def places(self, street: str | None = None) -> list[Json]:
        answer: list[Json] = await self.call(*_places(street))
        return answer

    async def analytics(self, name: str, **query: Any) -> Any:
        return await self.call(*_analytics(name, query))

    async def seal(self, violation: str) -> Json:
        answer: Json = await self.call(*_seal(violation))
        return answer

    async def listen(self, topic: Topic, **query: Any) -> AsyncIterator[Message]:
        """See `Headway.listen`; it connects when its first message is asked for."""
        last, pause = "", 0.2
        while True:
            try:
                async with connect_async(
                    _address(self._url, topic, query, last),
                    max_size=None,
                    additional_headers=_headers(self._token),
                ) as link:
                    pause = 0.2
                    async for text in link:
                        message: Message = json.loads(text)
                        if message.get("id"):
                            last = message["id"]
                            yield message
            except BROKEN as error:
                _raise_if_refused(error)
            await asyncio.sleep(pause)
            pause = min(2.0 * pause, LONGEST_PAUSE_S)
