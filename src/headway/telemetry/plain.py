"""Values as JSON has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

DEEPEST = 32  # levels of lists and mappings; nothing of ours has ten
LONGEST_WORDS = 1000  # characters of what JSON does not know


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as numbers, words, lists and mappings that JSON has: no number (of a missing figure)
    is null, numpy's numbers and arrays are Python's, anything else is words. Never raises.

    >>> plain({"wait_s": float("nan"), "lanes": (1, 2)})
    {'wait_s': None, 'lanes': [1, 2]}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth >= DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        return {str(name): plain(part, depth + 1) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, depth + 1) for part in value]
    if hasattr(value, "tolist"):  # a number or an array of numpy
        return plain(value.tolist(), depth + 1)
    return str(value)[:LONGEST_WORDS]
