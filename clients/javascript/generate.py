#!/usr/bin/env python3
"""Writes routes.js: each route of the OpenAPI document as a method, in the group of its tag. A test
compares the file with the document.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa

from headway.api.app import create_app
from headway.api.services import ApiSettings
from headway.store import Database

ROUTES = Path(__file__).resolve().parent / "routes.js"
SECOND_PATHS = ("/streams", "/monitoring", "/analytics/violations", "/stream/")
WITHOUT_END = {"/api/v1/live/{topic}/events"}  # `listen` has the same
EXPORT = "/api/v1/export/"
WIDTH = 100
HEAD = """// Made by generate.py from the OpenAPI document of the service: a method for each route.

// A method takes the parts of its path, then the body of its request if there is one, then
// `options`: the names of its query, `idempotencyKey` of a POST, `signal` of an AbortController.

const asked = ({ idempotencyKey, signal, ...query }, body) => {
  return { query, body, idempotencyKey, signal };
};
const part = encodeURIComponent;

class Group {
  constructor(call) {
    this.call = call;
  }
}
"""


def document() -> dict[str, Any]:
    nowhere = sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with TemporaryDirectory() as folder:
        app = create_app(ApiSettings(Path(folder)), Database(nowhere, ""))
        found: dict[str, Any] = app.openapi()
    return found


def camel(name: str) -> str:
    """As names are written in JavaScript."""
    first, *more = name.split("_")
    return first + "".join(word.capitalize() for word in more)


def operations(of: dict[str, Any]) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    """(group, name, method, path, operation) of each route; of one with two paths the first."""
    for path, methods in of["paths"].items():
        if path.startswith(SECOND_PATHS) or path in WITHOUT_END:
            continue
        for method, operation in methods.items():
            if operation.get("deprecated"):
                continue
            end = re.sub(r"\W", "_", path) + "_" + method
            name = operation["operationId"].removesuffix(end)
            name = f"export_{name}" if path.startswith(EXPORT) else name
            (tag,) = operation["tags"]
            yield tag, camel(name), method.upper(), path, operation


def method_of(name: str, method: str, path: str, operation: dict[str, Any]) -> str:
    """Its text."""
    parts = re.findall(r"{(\w+)}", path)
    queries = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
    body = ["body"] if "requestBody" in operation else []
    arguments = ", ".join([*map(camel, parts), *body, "options = {}"])
    address = re.sub(r"{(\w+)}", lambda found: f"${{part({camel(found[1])})}}", path)
    quote = "`" if parts else '"'
    told = " ".join(operation["description"].split())
    told += f" Query: {', '.join(queries)}." if queries else ""
    lines = textwrap.wrap(told, WIDTH, initial_indent="   * ", subsequent_indent="   * ")
    sent = "asked(options, body)" if body else "asked(options)"
    return "\n".join(
        [
            "  /**",
            *lines,
            "   */",
            f"  {name}({arguments}) {{",
            f'    return this.call("{method}", {quote}{address}{quote}, {sent});',
            "  }",
        ]
    )


def text(of: dict[str, Any]) -> str:
    """The module."""
    groups: dict[str, list[str]] = {}
    for group, *route in operations(of):
        groups.setdefault(group, []).append(method_of(*route))
    parts = [HEAD]
    for group, methods in groups.items():
        parts.append(f"class {group.capitalize()} extends Group {{")
        parts += ["\n\n".join(methods), "}\n"]
    parts.append("/** All groups. call(method, path, asked): as `Headway.call`. */")
    parts.append("export class Routes {\n  constructor(call) {")
    parts += [f"    this.{group} = new {group.capitalize()}(call);" for group in groups]
    parts.append("  }\n}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    ROUTES.write_text(text(document()), encoding="utf-8")
