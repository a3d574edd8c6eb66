"""The OpenAPI document against `contract.txt`:
every route, its statuses, its parameters and its bodies with their bounds.

A change of the contract is made knowingly: change the file by hand, and tell the users of the API.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from headway import __version__
from headway.api.app import create_app
from headway.api.ingest import EXAMPLE
from headway.api.services import ApiSettings
from headway.store import Database

CONTRACT = Path(__file__).with_name("contract.txt")
BOUNDS = (
    ("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"),
    ("minLength", "length >="), ("maxLength", "length <="),
    ("minItems", "items >="), ("maxItems", "items <="), ("maxProperties", "properties <="),
    ("pattern", "like"),
)  # fmt: skip


def kind(schema):
    """A schema in one line."""
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[1]
    if "anyOf" in schema:
        return " or ".join(kind(s) for s in schema["anyOf"])
    name = schema.get("format") or schema.get("type", "any")
    if "enum" in schema or "const" in schema:
        name = "|".join(str(v) for v in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        name = f"list of {kind(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        name = f"map of {kind(schema['additionalProperties'])}"
        if "propertyNames" in schema:
            name += f" by {kind(schema['propertyNames'] | {'type': 'name'})}"
    for pattern, value in schema.get("patternProperties", {}).items():
        name = f"map of {kind(value)} by names like {pattern}"
    return " ".join([name, *(f"{sign} {schema[word]}" for word, sign in BOUNDS if word in schema)])


def field(name, schema, required):
    default = f" = {schema['default']!r}" if "default" in schema else ""
    return f"    {name}{'' if required else '?'}: {kind(schema)}{default}"


def contract(document):
    """The document in lines."""
    lines = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            keys = " or ".join(name for way in operation.get("security", ()) for name in way)
            lines.append(
                f"{method.upper()} {path} -> "
                f"{' '.join(sorted(operation['responses']))}{' with ' * bool(keys)}{keys}"
            )
            lines += [
                field(p["name"], p["schema"], p["required"])
                for p in operation.get("parameters", ())
            ]
            if body := operation.get("requestBody"):
                assert body["required"]
                lines += [f"    body: {kind(c['schema'])}" for c in body["content"].values()]
            for status, answer in sorted(operation["responses"].items()):
                for media, content in answer.get("content", {}).items():
                    if media != "application/problem+json":
                        lines.append(f"    {status}: {media} {kind(content['schema'])}")
                    else:
                        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
    lines += [
        f"{name}: {way['type']} {way.get('scheme', way.get('name'))}"
        for name, way in document["components"]["securitySchemes"].items()
    ]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines.append(
            f"{name}{'' if schema.get('additionalProperties', True) else ' (nothing else)'}"
        )
        lines += [
            field(f, s, f in schema.get("required", ()))
            for f, s in schema.get("properties", {}).items()
        ]
    return lines


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """Without a record: its document alone is looked at."""
    nowhere = sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    return create_app(ApiSettings(tmp_path_factory.mktemp("document")), Database(nowhere, ""))


def test_the_openapi_document_names_the_product(app):
    assert (app.openapi()["info"]["title"], app.openapi()["info"]["version"]) == (
        "Headway",
        __version__,
    )
    assert app.openapi() is app.openapi()  # made once


def test_old_names_are_marked_as_deprecated(app):
    document = app.openapi()
    assert [
        path
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if operation.get("deprecated")
    ] == [
        "/api/v1/violations/{violation_id}/pictures/{number}",
        "/analytics/violations/{violation_id}/pictures/{number}",
    ]
    assert [
        (name, field_name)
        for name, schema in document["components"]["schemas"].items()
        for field_name, field_schema in schema.get("properties", {}).items()
        if field_schema.get("deprecated")
    ] == [("OptimisationIn", "realtime")]


def test_the_openapi_document_matches_the_contract(app):
    assert contract(app.openapi()) == CONTRACT.read_text().splitlines()


def test_the_document_is_written_once_whoever_asks(app, monkeypatch):
    """Twenty strangers who read it again and again made others wait for nine seconds."""

    async def read():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://service"
        ) as client:
            return await client.get("/openapi.json")

    first = asyncio.run(read())
    assert (first.json(), first.headers["content-type"]) == (app.openapi(), "application/json")
    monkeypatch.setattr(app, "openapi", lambda: pytest.fail("written again"))
    assert asyncio.run(read()).content == first.content


def test_pages_are_not_in_the_openapi_document(app):
    paths = {getattr(route, "path", "") for route in app.routes}
    assert {"/docs", "/redoc", "/openapi.json", "/", "/static"} <= paths
    assert "/" not in app.openapi()["paths"]


def test_the_example_record_is_valid(app):
    """Twenty past eleven at night at one junction:
    78 cars from the north, of which 35 crossed, 104 vehicles over all approaches.
    """
    (shown,) = app.openapi()["components"]["schemas"]["RecordIn"]["examples"]
    assert shown == EXAMPLE == {
        "simulation_id": "SIM_20250910_001", "timestamp": "2025-09-10T23:20:00Z",
        "intersection_id": "INT_001",
        "signals": [{
            "direction": "north",
            "vehicle_counts": {"car": 78, "bus": 0, "truck": 0, "bike": 0, "rickshaw": 0},
            "emergency_vehicle_present": False,
            "signal_status": "GREEN", "signal_timer": 18, "vehicles_crossed": 35,
            "avg_wait_time": 12.5, "green_time_allocated": 20,
        }],
        "metrics": {
            "total_vehicles_passed": 104, "avg_wait_time_all_sides": 20.6, "throughput": 0.87,
            "avg_speed": 28.3, "fuel_saved": 1.2, "co2_saved": 3.8,
            "emergency_overrides": 0,
        },
    }  # fmt: skip


def test_packed_scripts_arrive_as_they_are(service):
    for name, begin in (
        ("swagger-ui-bundle.js", "/*! For license"),
        ("redoc.standalone.js", "/*!"),
    ):
        answer = httpx.get(f"{service.url}/static/vendor/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["content-type"].startswith("text/javascript")
        assert answer.text.startswith(begin)
        assert len(answer.text) > 1_000_000
    assert httpx.get(f"{service.url}/static/vendor/nothing.js").status_code == 404
    assert httpx.get(f"{service.url}/static/style.css").headers.get("content-encoding") is None
