"""Values of requests are read as their schema says: numbers are no dates, true is no number."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

from headway.api.fields import WHOLE, Moment


@pytest.mark.parametrize(("given", "read"), [(6, 6), (6.0, 6), (-0.0, 0), (2**53, 2**53)], ids=str)
def test_a_whole_number_may_be_written_with_a_point(given, read):
    found = TypeAdapter(Annotated[int, WHOLE]).validate_python(given)
    assert (found, type(found)) == (read, int)


@pytest.mark.parametrize("given", [True, False, "6", 6.5, None, [6], float("inf"), float("nan")])
def test_what_is_no_whole_number_is_refused(given):
    with pytest.raises(ValidationError):
        TypeAdapter(Annotated[int, WHOLE]).validate_python(given)


def test_a_moment_is_converted_to_utc():
    found = TypeAdapter(Moment).validate_python("2026-01-31T08:00:00+02:00")
    assert found == datetime(2026, 1, 31, 6, tzinfo=UTC)


@pytest.mark.parametrize("given", [0, 0.5, True, "0", "0.5", "1e9", "1769846400", "-1", "", "now"])
def test_a_number_is_no_moment(given):
    with pytest.raises(ValidationError, match="date and time with its zone"):
        TypeAdapter(Moment).validate_python(given)
