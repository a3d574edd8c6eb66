"""The client cannot lag: each route of the OpenAPI document has a method with all of its query,
and no method asks for what is not there.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import re
import typing
from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import MagicMock

import httpx
import pytest
import sqlalchemy as sa

from headway import client as room
from headway.api.app import create_app
from headway.api.services import ApiSettings
from headway.client import AsyncHeadway, Headway, HeadwayError
from headway.store import Database

NOT_CALLED = {"call", "close", "listen"}
SHORT_PATHS = ("/streams", "/monitoring", "/analytics/violations", "/stream/")  # the same once more
WITHOUT_END = {("GET", "/api/v1/live/{topic}/events")}  # `listen` has the same by WebSocket
# of these the test says what they ask, since their words are free
BY_NAME = {"analytics": "wait-times"}


@pytest.fixture(scope="module")
def operations(tmp_path_factory):
    """(method, path) -> (names of its query, of the fields of its body, of its headers), of what is
    to be called. Fields: None without a body; those that are deprecated, or always the same, do not
    count.
    """
    nowhere = sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    app = create_app(ApiSettings(tmp_path_factory.mktemp("routes")), Database(nowhere, ""))
    document = app.openapi()

    def fields(operation):
        if "requestBody" not in operation:
            return None
        (schema,) = (c["schema"] for c in operation["requestBody"]["content"].values())
        name = schema.get("$ref", "").rpartition("/")[2]
        properties = document["components"]["schemas"].get(name, schema).get("properties", {})
        return {n for n, p in properties.items() if not p.get("deprecated") and "const" not in p}

    return {
        (method.upper(), path): (
            {p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"},
            fields(operation),
            {p["name"] for p in operation.get("parameters", ()) if p["in"] == "header"},
        )
        for path, routes in document["paths"].items()
        for method, operation in routes.items()
        if not path.startswith(SHORT_PATHS)
        and not operation.get("deprecated")
        and (method.upper(), path) not in WITHOUT_END
    }


class Recording(Headway):
    """Writes down what is asked."""

    def __init__(self):
        self.asked = []

    def call(self, method, path, query=None, body=None, idempotency_key=""):
        self.asked.append((method, path, set(query or ()), body, bool(idempotency_key)))
        return MagicMock()  # whatever the method looks for in the answer


def values_of(name, kind):
    """What a parameter may be: each of a Literal, else one that shows where it went."""
    if typing.get_origin(kind) is typing.Literal:
        return list(typing.get_args(kind))
    if name in ("records", "rows", "signals", "colours"):
        return [[{}]]
    if kind is int or kind is float:
        return [7]
    return ["2026-01-01T00:00:00Z" if name == "timestamp" else f"a?/{name}"]


def called():
    """(method name, what it asked, whether its query is free) for each way to call each method."""
    for name, method in inspect.getmembers(Headway, inspect.isfunction):
        if name.startswith("_") or name in NOT_CALLED:
            continue
        hints = typing.get_type_hints(method)
        words, choices, is_free = {}, {}, False
        for p in itertools.islice(inspect.signature(method).parameters.values(), 1, None):
            if p.kind is p.VAR_KEYWORD:
                is_free = typing.get_origin(hints[p.name]) is not typing.Unpack
                if not is_free:
                    (query,) = typing.get_args(hints[p.name])
                    words |= dict.fromkeys(typing.get_type_hints(query), "x")
            else:
                choices[p.name] = values_of(p.name, hints[p.name])
                choices[p.name] += [""] if p.default == "" else []  # another route, maybe
        if name in BY_NAME:
            choices["name"] = [BY_NAME[name]]
        for given in itertools.product(*choices.values()):
            recording = Recording()
            getattr(recording, name)(**dict(zip(choices, given, strict=True)), **words)
            yield name, recording.asked[0], is_free


def route_of(operations, method, path):
    """The route that takes a path; those with fewer parts that are open come first."""
    fits = [
        template
        for (of, template) in operations
        if of == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
    ]
    return min(fits, key=lambda template: template.count("{"), default=None)


def test_each_route_has_a_method_and_each_method_a_route(operations):
    found, faults = set(), []
    for name, (method, path, query, body, has_key), is_free in called():
        template = route_of(operations, method, path)
        if template is None:
            faults.append(f"{name}: there is no {method} {path}")
            continue
        wanted, fields, headers = operations[method, template]
        if not is_free and query != wanted:
            faults.append(f"{name}: {method} {template} takes {sorted(wanted ^ query)} or does not")
        if (body is None) != (fields is None):
            faults.append(f"{name}: {method} {template}: a body is {'not ' * bool(body)}wanted")
        elif isinstance(body, dict) and set(body) != fields:
            faults.append(f"{name}: {method} {template}: {sorted(set(body) ^ fields)} in its body")
        if has_key and "Idempotency-Key" not in headers:
            faults.append(f"{name}: {method} {template} takes no key")
        found.add((method, template))
    faults += [f"no method calls {method} {path}" for method, path in set(operations) - found]
    assert not faults, "\n".join(sorted(faults))


def test_names_in_paths_are_quoted():
    for name, (_, path, *_), _ in called():
        assert "?" not in path, name


class Wire:
    """A service that gives these answers one after the other; pauses are written down."""

    def __init__(self, monkeypatch, *answers):
        self.requests, self.paused = [], []
        given = iter(answers)

        def answer(request):
            self.requests.append(request)
            return next(given)

        async def sleep(seconds):
            self.paused.append(seconds)

        self.transport = httpx.MockTransport(answer)
        monkeypatch.setattr(room, "time", SimpleNamespace(sleep=self.paused.append))
        monkeypatch.setattr(room.asyncio, "sleep", sleep)

    def call(self, kind, name, *words, **named):
        if kind == "sync":
            with Headway("http://x", "T") as headway:
                headway._http = httpx.Client(base_url="http://x", transport=self.transport)
                return getattr(headway, name)(*words, **named)

        async def play():
            async with AsyncHeadway("http://x", "T") as headway:
                await headway._http.aclose()
                headway._http = httpx.AsyncClient(base_url="http://x", transport=self.transport)
                return await getattr(headway, name)(*words, **named)

        return asyncio.run(play())


def refused(status, **headers):
    return httpx.Response(status, json={"detail": "later"}, headers=headers)


def good():
    return httpx.Response(200, json={"good": 1})


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_call_waits_as_long_as_the_service_says_and_asks_again(monkeypatch, kind):
    later = {"Retry-After": "7"}
    wire = Wire(monkeypatch, refused(429, **later), refused(503, **later), good())
    assert wire.call(kind, "records") == {"good": 1}
    assert wire.paused == [7.0, 7.0]
    endless = Wire(monkeypatch, *(refused(429, **{"Retry-After": "3600"}) for _ in range(9)))
    with pytest.raises(HeadwayError, match="429: later"):
        endless.call(kind, "records")
    assert (endless.paused, len(endless.requests)) == ([60.0] * 3, 4)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("name", "words", "is_repeated"),
    [
        ("stop_camera", ("c",), False),
        ("stop_camera", ("c", "a key"), True),
        ("ingest", ([],), True),
        ("observe", ([],), False),
        ("set_camera_site", ("c", {}), True),
        ("remove_camera", ("c",), True),
    ],
)
def test_after_a_503_only_what_does_nothing_twice_is_repeated(
    monkeypatch, kind, name, words, is_repeated
):
    wire = Wire(monkeypatch, refused(503, **{"Retry-After": "1"}), good())
    if is_repeated:
        assert wire.call(kind, name, *words) == {"good": 1}
    else:
        with pytest.raises(HeadwayError, match="503"):
            wire.call(kind, name, *words)
    assert len(wire.requests) == 1 + is_repeated
    when_unsaid = Wire(monkeypatch, refused(503), good())
    with pytest.raises(HeadwayError, match="503"):
        when_unsaid.call(kind, "records")
    assert when_unsaid.paused == []


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_answers_that_are_no_json_come_as_they_are(monkeypatch, kind):
    text = httpx.Response(200, text="a,b\r\n", headers={"content-type": "text/csv"})
    image = httpx.Response(200, content=b"\xff\xd8", headers={"content-type": "image/jpeg"})
    assert Wire(monkeypatch, text).call(kind, "export_records") == "a,b\r\n"
    wire = Wire(monkeypatch, image)
    assert wire.call(kind, "violation_image", "a?/b", 2) == b"\xff\xd8"
    assert wire.requests[0].url.raw_path == b"/api/v1/violations/a%3F%2Fb/images/2"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"<html>", "Bad Gateway"),
        (b'"down"', "Bad Gateway"),
        (b"[]", "Bad Gateway"),
        (b"[" * 100_000, "Bad Gateway"),
        (b"\xff\xfe", "Bad Gateway"),
        (b'{"detail": null, "faults": null}', "Bad Gateway"),
        (b'{"detail": "gone", "faults": [1, {"message": "m"}]}', "gone; /: m"),
    ],
)
def test_whatever_a_proxy_answers_is_an_error_of_the_service(monkeypatch, body, detail):
    wire = Wire(monkeypatch, httpx.Response(502, content=body))
    with pytest.raises(HeadwayError, match=f"^502: {detail}$"):
        wire.call("sync", "records")


@pytest.mark.parametrize(
    ("status", "headers", "content", "detail"),
    [
        (302, {"location": "https://x/"}, b"", "the address leads to https://x/"),
        (307, {}, b"", "the address leads to elsewhere"),
        (200, {"content-type": "text/html"}, b"<html>", "a page was answered, by something else"),
        (200, {"content-type": "application/json"}, b'{"a":', "the answer cannot be read"),
        (200, {"content-type": "application/json"}, b"\xff", "the answer cannot be read"),
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_is_not_the_service_answers_no_order(
    monkeypatch, kind, status, headers, content, detail
):
    wire = Wire(monkeypatch, httpx.Response(status, headers=headers, content=content))
    with pytest.raises(HeadwayError, match=f"^{status}: {detail}"):
        wire.call(kind, "stop_camera", "c")


def test_a_query_has_times_and_truths_as_the_service_reads_them(monkeypatch):
    wire = Wire(monkeypatch, good())
    begin = datetime(2026, 9, 8, 10, tzinfo=UTC)
    wire.call("sync", "counts", by_class=True, begin=begin, interval_min=5)
    assert dict(wire.requests[0].url.params) == {
        "by_class": "true",
        "begin": "2026-09-08T10:00:00+00:00",
        "interval_min": "5",
    }
