"""Secrets, hidden wherever they stand: user names and passwords of addresses, and parameters that
are named as a secret is.
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


def masked(text: str) -> str:
    """The same text without the secrets of the addresses in it."""
    return SECRET_IN_QUERY.sub(rf"\1{HIDDEN}", USER_IN_ADDRESS.sub(rf"\1{HIDDEN}@", text))


def mask_line(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """For structlog: addresses in a line of the log."""
    for name, value in line.items():
        if isinstance(value, str) and "://" in value:
            line[name] = masked(value)
    return line
