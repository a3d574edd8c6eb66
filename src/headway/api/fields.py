"""Values of requests that are read as their schema says, and in no other way."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from headway.api.problems import Fault, ProblemError
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


def require_order(begin: datetime | None, end: datetime | None) -> None:
    """Raises ProblemError 422 where a window ends before it begins: the two were mixed up, and an
    empty answer would say that nothing happened.
    """
    if begin is not None and end is not None and begin > end:
        _refuse_window("begin", "end")


def require_order_s(begin_s: float, end_s: float) -> None:
    """The same in seconds."""
    if begin_s > end_s:
        _refuse_window("begin_s", "end_s")


def _refuse_window(begin: str, end: str) -> None:
    fault = Fault(pointer=f"/query/{begin}", message=f"must not be after {end}")
    raise ProblemError(422, f"{begin} is after {end}", [fault])
