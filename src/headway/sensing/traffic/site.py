"""Where a camera looks: its calibration to the road plane, the lines and zones drawn on its image,
the rules in force there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headway.sensing.traffic.calibration import Calibration, CalibrationError

LEAST_AREA_PX = 0.01  # of a triangle of a zone's points: on one line they hold no vehicle
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Side = Annotated[float, Field(allow_inf_nan=False, gt=1)]
Pixel = tuple[Finite, Finite]
PRINTABLE = r"^[^\x00-\x1f]*$"  # names stand in the evidence, and no database takes a NUL


class _SitePart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlaceError(ValueError):
    """A part does not fit the others. place: of the part, within the site."""

    def __init__(self, place: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.place = place


class PointPair(_SitePart):
    px: Pixel
    m: Pixel


class Marking(_SitePart):
    px: tuple[Pixel, Pixel]
    m: Annotated[float, Field(gt=0.0, le=1000.0)]


class Line(_SitePart):
    """A line over the road; vehicles and people that cross it are counted. Viewed from its first
    point to its second, `in` is from right to left of it.

    stop: it is a stop line of the signal group `group`, or of several that serve its lane (red is
        when all are), crossed in its `in` direction.
    """

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=PRINTABLE)]
    px: tuple[Pixel, Pixel]
    stop: bool = False
    group: (
        Annotated[int, Field(ge=0)]
        | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, max_length=32)]
        | None
    ) = None

    @property
    def groups(self) -> tuple[int, ...]:
        """Its signal groups; none where it has no signal."""
        if self.group is None:
            return ()
        return (self.group,) if isinstance(self.group, int) else self.group


class Zone(_SitePart):
    """An area of the image.

    kind: lane (queues, occupancy, flow; `heading` is its direction by two pixels, `limit_kmh` its
        own limit), box (no stopping), crossing (pedestrians have priority), forbidden (no driving).
    lane: SUMO's name of the lane, where the camera is to steer a street.
    """

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=PRINTABLE)]
    kind: Literal["lane", "box", "crossing", "forbidden"] = "lane"
    px: Annotated[tuple[Pixel, ...], Field(min_length=3, max_length=64)]
    heading: tuple[Pixel, Pixel] | None = None
    limit_kmh: Annotated[float, Field(gt=0.0, le=300.0)] | None = None
    lane: Annotated[str, Field(max_length=256, pattern=PRINTABLE)] = ""


class Turn(_SitePart):
    """A way from one line to another that is not allowed."""

    from_line: Annotated[str, Field(max_length=64)]
    to_line: Annotated[str, Field(max_length=64)]


class Lamp(_SitePart):
    """The lamp of a signal group as the camera sees it: x, y, width, height in pixels."""

    group: Annotated[int, Field(ge=0)]
    px: tuple[Finite, Finite, Side, Side]


class Rules(_SitePart):
    """What is a violation, always in the driver's favour: a speed counts above limit + margin + 3
    standard errors.

    The default margin is 3 km/h below 100 km/h and 3 % above, as most European forces grant.
    grace_s: after red began.
    """

    limit_kmh: Annotated[float, Field(gt=0.0, le=300.0)] | None = None
    margin_kmh: Annotated[float, Field(ge=0.0, le=50.0)] = 3.0
    margin_share: Annotated[float, Field(ge=0.0, le=0.5)] = 0.03
    grace_s: Annotated[float, Field(ge=0.0, le=5.0)] = 0.5
    blocked_s: Annotated[float, Field(gt=0.0, le=600.0)] = 5.0
    stop_m: Annotated[float, Field(gt=0.0, le=20.0)] = 1.0


class SiteFile(_SitePart):
    size: tuple[Annotated[int, Field(ge=16, le=16384)], Annotated[int, Field(ge=16, le=16384)]]
    points: Annotated[tuple[PointPair, ...], Field(max_length=500)] = ()
    markings: Annotated[tuple[Marking, ...], Field(max_length=500)] = ()
    camera_m: tuple[Finite, Finite, Annotated[float, Field(gt=0.0, le=5000.0)]] | None = None
    lines: Annotated[tuple[Line, ...], Field(max_length=100)] = ()
    zones: Annotated[tuple[Zone, ...], Field(max_length=100)] = ()
    lamps: Annotated[tuple[Lamp, ...], Field(max_length=100)] = ()
    forbidden_turns: Annotated[tuple[Turn, ...], Field(max_length=500)] = ()
    rules: Rules = Rules()

    @model_validator(mode="after")
    def _require_consistent(self) -> SiteFile:
        self._require_unique_names()
        self._require_inside()
        self._require_lamps_inside()
        self._require_extent()
        self._require_known_turns()
        return self

    def _require_unique_names(self) -> None:
        names = [x.name for x in self.lines] + [x.name for x in self.zones]
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(
                f"{sorted(twice)} occurs twice among lines and zones; each needs a name of its own"
            )

    def _require_inside(self) -> None:
        width, height = self.size
        areas: list[tuple[str, int, Line | Zone]] = [
            *(("lines", number, line) for number, line in enumerate(self.lines)),
            *(("zones", number, zone) for number, zone in enumerate(self.zones)),
        ]
        for kind, number, part in areas:
            for point, (x, y) in enumerate(part.px):
                if not (0 <= x <= width and 0 <= y <= height):
                    raise PlaceError(
                        (kind, number, "px", point),
                        f"{part.name}: the point ({x:g}, {y:g}) is outside the image of "
                        f"{width} x {height}",
                    )

    def _require_lamps_inside(self) -> None:
        width, height = self.size
        for number, lamp in enumerate(self.lamps):
            x, y, wide, high = lamp.px
            if not (0 <= x + wide / 2 <= width and 0 <= y + high / 2 <= height):
                raise PlaceError(
                    ("lamps", number, "px"),
                    f"the lamp of group {lamp.group} is outside the image of {width} x {height}",
                )

    def _require_extent(self) -> None:
        """Of lines, headings and zones: without it they would find nothing, and say nothing."""
        for number, line in enumerate(self.lines):
            if line.px[0] == line.px[1]:
                raise PlaceError(("lines", number, "px"), f"{line.name}: its two points are one")
        for number, zone in enumerate(self.zones):
            if zone.heading is not None and zone.heading[0] == zone.heading[1]:
                raise PlaceError(
                    ("zones", number, "heading"), f"{zone.name}: its two points are one"
                )
            if not has_area(zone.px):
                raise PlaceError(
                    ("zones", number, "px"), f"{zone.name}: its points lie on one line"
                )

    def _require_known_turns(self) -> None:
        lines = {line.name for line in self.lines}
        for number, turn in enumerate(self.forbidden_turns):
            if turn.from_line == turn.to_line:
                raise PlaceError(
                    ("forbidden_turns", number),
                    f"forbidden_turns: from and to are the same line, {turn.to_line!r}; a vehicle "
                    "that crosses it would be reported at once. Name two lines",
                )
            for name in (turn.from_line, turn.to_line):
                if name not in lines:
                    raise PlaceError(
                        ("forbidden_turns", number),
                        f"forbidden_turns: there is no line {name!r}. There are: "
                        f"{', '.join(sorted(lines)) or 'none'}",
                    )

    def calibration(self) -> Calibration | None:
        """By the points where there are any, else by the markings. Raises CalibrationError."""
        if self.points:
            pixels = np.array([pair.px for pair in self.points])
            metres = np.array([pair.m for pair in self.points])
            return Calibration.from_points(pixels, metres, self.camera_m)
        if self.markings:
            ends = np.array([marking.px for marking in self.markings])
            lengths_m = np.array([marking.m for marking in self.markings])
            return Calibration.from_lengths(ends, lengths_m, self.size)
        return None


def has_area(px: Sequence[Sequence[float]]) -> bool:
    """Whether three of the points span a triangle."""
    (x, y), *others = px
    ways = [(u - x, v - y) for u, v in others]
    return any(
        abs(a * d - b * c) >= 2.0 * LEAST_AREA_PX
        for k, (a, b) in enumerate(ways)
        for c, d in ways[:k]
    )


@dataclass(frozen=True)
class Site:
    """A camera's place, ready for use. calibration: None where none is given; then there are
    counts, but no speeds, and `uncalibrated` says why.
    """

    size: tuple[int, int]
    calibration: Calibration | None = None
    lines: tuple[Line, ...] = ()
    zones: tuple[Zone, ...] = ()
    lamps: tuple[Lamp, ...] = ()
    forbidden_turns: tuple[Turn, ...] = ()
    rules: Rules = field(default_factory=Rules)
    uncalibrated: str = (
        "the camera is not calibrated: give four points of the road, or markings of known length"
    )

    @classmethod
    def from_tree(cls, tree: Any, where: str = "site") -> Site:
        """From the parsed content of a site file. Raises CalibrationError naming the place of each
        fault. where: names the file in messages.
        """
        try:
            file = SiteFile.model_validate(tree)
        except ValidationError as error:
            faults = [_fault(e) for e in error.errors()]
            said = "; ".join(
                f"{'.'.join(map(str, place)) or 'the whole'}: {message}"
                for place, message in faults
            )
            raise CalibrationError(f"{where}: {said}", faults) from error
        try:
            calibration = file.calibration()
        except CalibrationError as error:
            place = "points" if file.points else "markings"
            raise CalibrationError(f"{where}: {error}", [((place,), str(error))]) from error
        return cls(
            size=file.size,
            calibration=calibration,
            lines=file.lines,
            zones=file.zones,
            lamps=file.lamps,
            forbidden_turns=file.forbidden_turns,
            rules=file.rules,
        )


def _fault(fault: Any) -> tuple[tuple[str | int, ...], str]:
    """Place and message of a fault of pydantic; what the whole is refused for may know its place
    itself.
    """
    reason = fault.get("ctx", {}).get("error")
    place = reason.place if isinstance(reason, PlaceError) else ()
    return (*fault["loc"], *place), str(reason or fault["msg"])


def read_site(path: Path) -> Site:
    """A site from a YAML (or JSON) file. Raises CalibrationError, OSError."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: this is no YAML: {error}") from error
    return Site.from_tree(tree, str(path))
