"""Secrets, hidden wherever they stand: user names and passwords of addresses, parameters that are
named as a secret is, and our own API keys and signed tokens.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

HIDDEN = "***"
SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|credential", re.IGNORECASE)
USER_IN_ADDRESS = re.compile(r"(://)[^\s]*@")  # up to the last "@": a password may hold one
SECRET_IN_QUERY = re.compile(
    r"([?&;/][^=&;/?\s]*(?:pass|pwd|secret|token|key|auth|credential|signature)[^=&;/?\s]*=)[^&\s]*",
    re.IGNORECASE,
)
OWN_KEY = re.compile(r"\b(hw_[a-z0-9]+_)[A-Za-z0-9_-]{16,}")  # its number may be shown
TOKEN = re.compile(r"\beyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")  # RFC 7519


def masked(text: str) -> str:
    """The same text without the secrets of the addresses in it, keys and tokens."""
    text = TOKEN.sub(HIDDEN, OWN_KEY.sub(rf"\1{HIDDEN}", text))
    return SECRET_IN_QUERY.sub(rf"\1{HIDDEN}", USER_IN_ADDRESS.sub(rf"\1{HIDDEN}@", text))


def mask_line(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """For structlog: what `masked` hides, in a line of the log."""
    for name, value in line.items():
        if isinstance(value, str) and any(mark in value for mark in ("://", "hw_", "eyJ")):
            line[name] = masked(value)
    return line
