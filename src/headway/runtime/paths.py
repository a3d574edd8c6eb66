"""Dotted paths into a state: `floaters.v_chain`, `junctions.*.queue`. A dot within a name is
written with a backslash: `junctions.A\\.1.queue`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

PART = r"(?:[^.*\s\\]|\\\S)+"  # a name, and in it an escaped dot
ANY_PART = r"(?:[^.\\]|\\.)+"
PATHS_SHOWN = 40  # in the message about an unknown one


class Path:
    """A pattern of fields. `*` stands for one part, alone for everything.

    >>> Path("junctions.*.queue").matches("junctions.A1.queue")
    True
    """

    __slots__ = ("_match", "text")

    def __init__(self, text: str) -> None:
        if not re.fullmatch(rf"\*|{PART}(\.({PART}|\*))*|\*(\.({PART}|\*))+", text):
            raise ValueError(
                f"{text!r} is no path: names with dots in between, * for any one part."
            )
        self.text = text
        found = re.split(r"(?<!\\)\.", text)
        parts = (ANY_PART if part == "*" else re.escape(part) for part in found)
        self._match = re.compile(".*" if text == "*" else r"\.".join(parts)).fullmatch

    def matches(self, path: str) -> bool:
        """Whether a path fits the pattern."""
        return self._match(path) is not None

    def check(self, sample: Mapping[str, Any] | None) -> None:
        """Raises ValueError if nothing in `sample` matches; None is not checked."""
        if sample is None:
            return
        known = list(flatten(sample))
        if not any(self.matches(p) for p in known):
            near = get_close_matches(self.text, known, 3)
            others = sorted(set(known) - set(near), key=lambda path: (path.count("."), path))
            shown = ", ".join([*near, *others][:PATHS_SHOWN])
            raise ValueError(
                f"there is no {self.text!r} in the state. There are: "
                f"{shown}{', ...' if len(known) > PATHS_SHOWN else ''}."
            )

    def find(self, flat: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """(path, value) of all that match in a flat state, see `flatten`."""
        if self.text in flat:
            return [(self.text, flat[self.text])]
        if "*" not in self.text:
            return []
        return [(path, value) for path, value in flat.items() if self.matches(path)]


def flatten(state: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested mappings, by dotted path. Keys are text.

    >>> flatten({"junctions": {"A.1": {"queue": 3}}})
    {'junctions.A\\\\.1.queue': 3}
    """
    flat: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, Mapping):
            name = key.replace(".", "\\.") if "." in key else key
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
