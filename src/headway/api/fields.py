"""Values of requests that are read as their schema says, and in no other way."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from headway.store.database import in_utc

DATE = re.compile(r"\d{4}-\d\d-\d\d")


def _in_words(value: Any) -> Any:
    """Raises ValueError for a number, which pydantic would take for seconds since 1970."""
    if isinstance(value, int | float) or (isinstance(value, str) and not DATE.match(value)):
        raise ValueError("must be a date and time with its zone, as 2026-01-31T08:00:00Z")
    return value


def _whole(value: Any) -> Any:
    """6.0 is an integer in JSON. Raises ValueError for true and for text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a whole number")
    return int(value) if isinstance(value, float) and value.is_integer() else value


Moment = Annotated[AwareDatetime, BeforeValidator(_in_words), AfterValidator(in_utc)]
WHOLE = BeforeValidator(_whole)  # of an int, after its Field of bounds: the schema has them
