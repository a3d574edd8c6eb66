"""What the sections of the settings share: their base, and old names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

# Old names, accepted until 0.2 (docs/deprecated.md): keys by section, and values of street.sensing.
OLD_KEYS = {"loop": {"realtime": "speed_factor"}}
OLD_SENSING = {"pictures": "rendered"}


class Section(BaseModel):
    """A part of the tree. Unknown keys are refused; a fault never repeats a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def with_new_keys(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` of a section under their new keys; each old one is logged. Raises ValueError where
    the old and the new key are both given.
    """
    found = dict(values)
    for old, new in OLD_KEYS.get(section, {}).items():
        if old not in found:
            continue
        if new in found:
            raise PydanticCustomError(
                "both_names", f"{old} is the old name of {new}. Give {new} alone"
            )
        warn_of(f"the key {section}.{old}", f"{section}.{new}")
        found[new] = found.pop(old)
    return found


def warn_of(old: str, new: str) -> None:
    logging.getLogger("headway.settings").warning("settings: %s is deprecated: use %s", old, new)


def zero_or_from(least: float, means: str = "") -> AfterValidator:
    """Of a figure of which 0 has a meaning of its own: one so close to it that nothing would
    happen, or all the time, is refused.
    """

    def checked(value: float) -> float:
        if 0.0 < value < least:
            zero = f"0 ({means})" if means else "0"
            raise PydanticCustomError("zero_or_from", f"must be {zero} or at least {least:g}")
        return value

    return AfterValidator(checked)


def figure(default: float, least: float, most: float) -> Any:
    """A finite number within its bounds."""
    return Field(default=default, ge=least, le=most, allow_inf_nan=False)
