"""One row of an observation from outside, as it is sent: its fields, their ranges, and what is
wrong with a bad one.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

MOST_ROWS = 5000  # in one message
MOST_BYTES = 8 << 20  # of one message
# A longer message is read row by row, each of so many letters at the most: whoever else waits for
# this process gets his turn in between.
READ_AT_ONCE_BYTES = 256 << 10
LONGEST_ROW = 64 << 10  # MOST_VEHICLES with all their fields are 40,000
MOST_VEHICLES = 200  # in one row: more than fit on an approach
FARTHEST_M = 2000.0
AT_STOP_LINE_M = (
    5.0  # a detector nearer than this counts the vehicles that leave, others those that come
)

LONGEST_NAME = 512  # SUMO joins the names of all nodes of a junction
Name = Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]
Label = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_.:/#\-]*$")]
Distance = Annotated[float, Meta(ge=0.0, le=FARTHEST_M)]
Speed = Annotated[float, Meta(ge=0.0, lt=100.0)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
VehicleClass = Literal["car", "bus", "truck", "bicycle", "tram", "emergency"]


class ObservedVehicle(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"kind": "class"}
):
    """A vehicle before the stop line. lane: of its approach, 0 the rightmost, -1 unknown; id: the
    same from row to row, where the source tracks it.
    """

    distance_m: Distance
    speed_mps: Speed = 0.0
    kind: VehicleClass = "car"
    lane: Annotated[int, Meta(ge=-1, le=31)] = -1
    id: Label = ""


class ObservedEmergency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An emergency vehicle under way to the stop line. id: the same from row to row."""

    distance_m: Distance
    speed_mps: Speed = 14.0
    id: Label = "1"


class ObservationRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one source measured at one approach at one moment.

    source:     who says so: the holder of the credentials, or one of its parts (`holder:part`);
        empty for the holder.
    at, at_s:   when: by the wall clock with its zone, or in the street's own seconds. One of them.
    approach:   a road or lane of the street's network, or where it comes from (north, northeast,
        ...).
    quality:    how far the source trusts this row, 0..1.
    vehicles:   those before the stop line, by place; an empty list says that there are none.
    queue, queue_m: vehicles that stand before the stop line, or how far back they stand.
    count:      vehicles that crossed a detector in the last `interval_s`.
    occupancy:  share of `interval_s` in which the detector was occupied.
    detector_m: from that detector to the stop line.
    pedestrian_call: somebody waits to cross: at `crossing` (number of the signal group at the
        junction), or at all.
    emergency:  an emergency vehicle that comes.
    """

    junction: Name
    approach: Annotated[str, Meta(max_length=LONGEST_NAME)] = ""
    source: Label = ""
    at: Annotated[datetime, Meta(tz=True)] | None = None
    at_s: Annotated[float, Meta(ge=-1e9, le=1e12)] | None = None
    quality: Share = 1.0
    vehicles: Annotated[list[ObservedVehicle], Meta(max_length=MOST_VEHICLES)] | None = None
    queue: Annotated[int, Meta(ge=0, le=MOST_VEHICLES)] | None = None
    queue_m: Distance | None = None
    count: Annotated[int, Meta(ge=0, le=1000)] | None = None
    occupancy: Share | None = None
    interval_s: Annotated[float, Meta(ge=0.1, le=900.0)] = 1.0
    detector_m: Annotated[float, Meta(ge=0.0, le=1000.0)] = 0.0
    pedestrian_call: bool = False
    crossing: Annotated[int, Meta(ge=0, le=255)] | None = None
    emergency: ObservedEmergency | None = None

    @property
    def measures_traffic(self) -> bool:
        """It says something of the vehicles of its approach."""
        measured = (self.vehicles, self.queue, self.queue_m, self.count, self.occupancy)
        return any(value is not None for value in measured)


class Fault(NamedTuple):
    """What is wrong with one row. place: within the row, as a JSON pointer."""

    place: str
    message: str


_rows = msgspec.json.Decoder(list[ObservationRow])
_next_row = json.JSONDecoder().raw_decode
_spaces = re.compile(r"[ \t\r\n]*").match
_AT = re.compile(r" - at `\$(.*)`$")


def read_rows(text: bytes | str) -> tuple[list[ObservationRow | None], dict[int, Fault]]:
    """The rows of a JSON list (or of one object), None where one is refused; the faults, by number
    of the row.

    Raises ValueError if it is no JSON, neither list nor object, empty, or longer than MOST_ROWS or
    MOST_BYTES.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"a message may hold {MOST_BYTES} bytes; send smaller ones")
    if len(text) <= READ_AT_ONCE_BYTES:
        with contextlib.suppress(msgspec.DecodeError, RecursionError, UnicodeError):
            rows: list[ObservationRow | None] = list(_rows.decode(text))
            _check_length(rows)
            return rows, {}
    return _read_each(text)


def _read_each(text: bytes | str) -> tuple[list[ObservationRow | None], dict[int, Fault]]:
    rows = list[ObservationRow | None]()
    faults = dict[int, Fault]()
    for number, thing in enumerate(_things(text)):
        if number == MOST_ROWS:
            raise ValueError(f"a message holds 1 to {MOST_ROWS} rows, not more")
        try:
            row = msgspec.convert(thing, ObservationRow)
            f"{row.junction}{row.approach}".encode()
            rows.append(row)
        except (msgspec.ValidationError, RecursionError) as error:
            rows.append(None)
            faults[number] = _fault_of(str(error))
        except UnicodeError:
            rows.append(None)
            faults[number] = Fault("", "holds letters that there are not (lone surrogates)")
    _check_length(rows)
    return rows, faults


def _things(text: bytes | str) -> Iterator[Any]:
    """The rows of a JSON list, or one row, each as it comes; also with NaN in it: only the row that
    holds it is refused then. Raises ValueError where the message is no JSON.
    """
    try:
        letters = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise ValueError(f"the message is no JSON: {error}") from error
    at = _after_spaces(letters, 0)
    if letters[at : at + 1] == "{":
        thing, at = _parsed(letters, at)
        yield thing
    elif letters[at : at + 1] == "[":
        at = _after_spaces(letters, at + 1)
        is_last = letters[at : at + 1] == "]"
        while not is_last:
            thing, at = _parsed(letters, at)
            yield thing
            at = _after_spaces(letters, at)
            is_last = letters[at : at + 1] == "]"
            if not is_last:
                if letters[at : at + 1] != ",":
                    raise ValueError(f"the message is no JSON: no comma after letter {at}")
                at = _after_spaces(letters, at + 1)
        at += 1
    else:
        raise ValueError("the message is no JSON of a list of rows, or of one row")
    if _after_spaces(letters, at) != len(letters):
        raise ValueError(f"the message is no JSON: it ends at letter {at}, and goes on")


def _after_spaces(letters: str, at: int) -> int:
    found = _spaces(letters, at)
    assert found is not None  # it matches nothing too
    return found.end()


def _parsed(letters: str, at: int) -> tuple[Any, int]:
    """The value that begins at `at`, and where it ends. Raises ValueError."""
    try:
        thing, size = _next_row(letters[at : at + LONGEST_ROW])
        return thing, at + size
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"the message is no JSON, or has a row of more than {LONGEST_ROW} letters, at letter "
            f"{at}: {error}"
        ) from error


def _check_length(rows: list[Any]) -> None:
    if not 0 < len(rows) <= MOST_ROWS:
        raise ValueError(f"a message holds 1 to {MOST_ROWS} rows, not {len(rows)}")


def _fault_of(text: str) -> Fault:
    """msgspec's path, such as `$.vehicles[0].speed_mps`, as a JSON pointer."""
    found = _AT.search(text)
    if found is None:
        return Fault("", text)
    place = found.group(1).replace("[", "/").replace("]", "").replace(".", "/")
    return Fault(place, text[: found.start()])


def fault_of(row: ObservationRow) -> Fault | None:
    """What the fields of a row say against one another; None where nothing."""
    if (row.at is None) == (row.at_s is None):
        return Fault(
            "/at", "give one of at (a time with its zone) and at_s (the street's own seconds)"
        )
    if not (row.measures_traffic or row.pedestrian_call or row.emergency):
        return Fault(
            "",
            "says nothing: give vehicles, queue, queue_m, count, occupancy, pedestrian_call or "
            "emergency",
        )
    if (row.measures_traffic or row.emergency) and not row.approach:
        return Fault(
            "/approach", "vehicles are before an approach: give its road, lane or direction"
        )
    if row.crossing is not None and not row.pedestrian_call:
        return Fault("/crossing", "belongs to a pedestrian_call")
    return None


class AgeLimits(NamedTuple):
    """The times that are taken: the street's seconds before now, and after."""

    oldest_s: float
    ahead_s: float


class StreetClock(NamedTuple):
    """What it is. wall: seconds since 1970; street_s: the street's own seconds, which are
    `speed_factor` a wall second (0: there is no relation).
    """

    wall: float
    street_s: float
    speed_factor: float


def age_fault(row: ObservationRow, clock: StreetClock, limits: AgeLimits) -> Fault | None:
    """What is wrong with the time of a row."""
    if row.at is None:
        age_s, place = clock.street_s - (row.at_s or 0.0), "/at_s"
    elif clock.speed_factor > 0.0:
        age_s, place = (clock.wall - row.at.timestamp()) * clock.speed_factor, "/at"
    else:
        return Fault(
            "/at", "this street runs as fast as possible, not by the wall clock: give at_s"
        )
    if not age_s <= limits.oldest_s:
        return Fault(place, f"{age_s:.1f} s old; at most {limits.oldest_s:g} s are taken")
    if age_s < -limits.ahead_s:
        return Fault(
            place, f"{-age_s:.1f} s ahead; at most {limits.ahead_s:g} s are taken. Check the clock"
        )
    return None
