"""Secrets, hidden wherever they stand: user names, passwords and queries of addresses, what is
named as a secret is, and our own API keys and signed tokens.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

HIDDEN = "***"
SECRET_NAME = re.compile(r"pass|pwd|psw|secret|token|key|credential", re.IGNORECASE)
ADDRESS = re.compile(r"://\S+")
# where the host was left out: what should stand after it is taken for the port
NO_PORT = re.compile(r"""([^\[/:?#]+:)(?!\d*([/?#:,;)'"]|$))[^/?#]*""")
# of whatever name: each camera calls its password otherwise
VALUE = re.compile(r"(^|[&;])([^=&;]*=)?[^&;]+")
SECRET_IN_TEXT = re.compile(
    r"((?:pass|pwd|psw|secret|token|key|auth|credential|signature)[^=&;/?\s]{0,40}=)[^&;/\s]*",
    re.IGNORECASE,
)
OWN_KEY = re.compile(r"\b(hw_[a-z0-9]+_)[A-Za-z0-9_-]{16,}")  # its number may be shown
# RFC 7519, after what stands before it without a blank. Each letter is looked at a few times alone,
# however often a token seems to begin: a text of 1 MiB took minutes
TOKEN = re.compile(
    r"(?<![A-Za-z0-9_-])(?=([A-Za-z0-9_-]*?)\beyJ[A-Za-z0-9_-])"
    r"[A-Za-z0-9_-]++\.eyJ[A-Za-z0-9_-]++\.[A-Za-z0-9_-]*"
)


def masked(text: str) -> str:
    """The same text without the secrets of the addresses in it, what is named as one, keys and
    tokens.
    """
    text = TOKEN.sub(rf"\1{HIDDEN}", OWN_KEY.sub(rf"\1{HIDDEN}", text))
    return SECRET_IN_TEXT.sub(rf"\1{HIDDEN}", ADDRESS.sub(_masked_address, text))


def _masked_address(found: re.Match[str]) -> str:
    """Without user and password, and without the values of its query."""
    _, at, shown = found[0].removeprefix("://").rpartition("@")  # a password may hold one
    place, *query = re.split(r"(?<=[?#])", shown, maxsplit=1)
    if port := NO_PORT.match(place):
        place = f"{port[1]}{HIDDEN}{place[port.end() :]}"
    values = (VALUE.sub(rf"\1\2{HIDDEN}", part) for part in query)
    return "".join(["://", f"{HIDDEN}@" if at else "", place, *values])


def mask_line(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """For structlog: what `masked` hides, in a line of the log."""
    for name, value in line.items():
        if isinstance(value, str) and any(mark in value for mark in ("://", "hw_", "eyJ")):
            line[name] = masked(value)
    return line
