"""What of a request is kept in the audit trail: its arguments, without secrets."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from headway.telemetry.masking import HIDDEN, SECRET_NAME, masked

KEPT_BYTES = 4096  # of a body as JSON without blanks; of a longer one size and SHA-256; of a query


def arguments_of(query: bytes, body: bytes) -> dict[str, str]:
    """Texts by name; nothing of what is empty. query: the query string."""
    found = {}
    if query:
        found["query"] = _plain("?" + query.decode("latin-1"))[1:][:KEPT_BYTES]
    if body:
        found["body"] = _body(body)
    return found


def _body(body: bytes) -> str:
    named = f"{len(body)} bytes{{}}, sha256 {hashlib.sha256(body).hexdigest()}"
    try:
        kept = json.dumps(without_secrets(json.loads(body)), separators=(",", ":"))
    except RecursionError:  # of any of the three, each at a depth of its own
        return named.format(" of JSON that is too deep")
    except ValueError:
        return f"{len(body)} bytes that are no JSON"
    # without what only fills it up; escapes may make it longer than it was
    return kept if min(len(kept), len(body)) <= KEPT_BYTES else named.format("")


def without_secrets(value: Any, name: str = "") -> Any:
    """The same value; what secrets stand under their names, and in addresses, is hidden."""
    if isinstance(value, dict):
        return {key: without_secrets(of, key) for key, of in value.items()}
    if isinstance(value, list):
        return [without_secrets(of, name) for of in value]
    if SECRET_NAME.search(name):
        return HIDDEN
    return _plain(value) if isinstance(value, str) else value


def _plain(text: str) -> str:
    return masked(text).replace("\x00", "")
