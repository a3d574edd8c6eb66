"""What credentials are bounded to: streets and cameras. What is not known here to be of one of them
is refused to whoever has bounds; a new route is closed to them until it stands here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams
from starlette.types import Scope as Connection

from headway.api.problems import ProblemError

MOST_NAMES = 100  # of either kind
NAME = r"^[A-Za-z0-9_.:\-]+$"  # of a street, of a simulation that is ingested for one, of a camera

OF_STREETS = re.compile(
    r"/api/v1/engine/streets/([^/]+)(?:/.*)?"
    r"|/api/v1/analytics/simulation/([^/]+)/summary"
    r"|/api/v1/simulations/([^/]+)"
    r"|/api/v1/records/([^/]+)/.*"
)
OF_CAMERAS = re.compile(r"(?:/api/v1/cameras|/streams)/([^/]+)(?:/.*)?")
# of the records of a simulation, where it is asked for one
BY_SIMULATION = re.compile(
    r"/api/v1/analytics/(?:wait-times|speeds|environmental-impact|breakdown|emergency-report)"
    r"|/api/v1/charts/(?:wait-time-trend|performance-scatter)"
)
# of those that are asked for, or else the routes leave out what is outside of the bounds
SOME_OF_SIMULATIONS = re.compile(r"/api/v1/(?:export/)?(?:simulations|junctions|records)")
SOME_OF_CAMERAS = re.compile(r"/api/v1/(?:export/)?counts")
BY_DEVICE = re.compile(r"(?:/api/v1/violations|/analytics/violations)")
# of the street that is named, or else of the usual one
BY_STREET = re.compile(
    r"/api/v1/observations(?:/sources|/places)?"
    r"|/api/v1/ml/(?:train|predict(?:/batch)?|metrics|(?:status|metrics|performance)/.+"
    r"|(?:deploy|rollback)/.+)"
)
BY_NAMED_STREET = re.compile(r"/api/v1/ml/jobs")
KINDS_OF_CAMERAS = ("camera.", "violation.")  # of live messages
KINDS_OF_EITHER = ("alert.",)  # acknowledged or silenced
# routes that look at the bounds themselves, by what they answer or take
OWN = {
    "GET": re.compile(
        r"/api/v1/engine/state|/streams|/api/v1/cameras|/api/v1/runs(?:/[^/]+/[^/]+)?"
        r"|/api/v1/ml/(?:jobs/[^/]+|health)|/stream/[^/]+|/ws/[^/]+|/api/v1/live/[^/]+(?:/events|/history)?"
    ),
    "POST": re.compile(r"/api/v1/ingest/(?:simulation|batch)|/api/v1/tickets"),
    "DELETE": re.compile(r"/api/v1/ml/jobs/[^/]+"),
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Names of streets and cameras; None for no bounds at all. Where either is given, of the other
    kind there is nothing but what is named.
    """

    streets: frozenset[str] | None = None
    cameras: frozenset[str] | None = None

    @classmethod
    def of(cls, streets: Iterable[str] | None, cameras: Iterable[str] | None) -> Bounds:
        if streets is None and cameras is None:
            return UNBOUNDED  # the same for all, so that streams compare it at once
        return cls(frozenset(streets or ()), frozenset(cameras or ()))

    @property
    def are_none(self) -> bool:
        return self.streets is None and self.cameras is None

    def has_street(self, name: str) -> bool:
        return self.are_none or name in (self.streets or ())

    def has_camera(self, name: str) -> bool:
        return self.are_none or name in (self.cameras or ())

    @property
    def only_streets(self) -> list[str] | None:
        """For questions to the database; None for all."""
        return None if self.are_none else sorted(self.streets or ())

    @property
    def only_cameras(self) -> list[str] | None:
        """For questions to the database; None for all."""
        return None if self.are_none else sorted(self.cameras or ())

    def has_message(self, source: str, kind: str) -> bool:
        """A live message of that kind from a street or a camera: they may have the same name."""
        if self.are_none:
            return True
        if kind.startswith(KINDS_OF_EITHER):
            return self.has_street(source) or self.has_camera(source)
        is_camera = kind.startswith(KINDS_OF_CAMERAS)
        return self.has_camera(source) if is_camera else self.has_street(source)

    def claims(self) -> dict[str, Any]:
        """For a token."""
        if self.are_none:
            return {}
        return {"streets": sorted(self.streets or ()), "cameras": sorted(self.cameras or ())}

    def require_streets(self, names: Iterable[str]) -> None:
        """Raises ProblemError 403 where one of them is outside."""
        if not all(map(self.has_street, names)):
            raise self._refusal()

    def require(self, connection: Connection, usual_street: str) -> None:
        """Raises ProblemError 403 where a request or socket asks for anything outside.
        usual_street: which is meant where none is named.
        """
        if not self.are_none and not self._allow(connection, usual_street):
            raise self._refusal()

    def _allow(self, connection: Connection, usual_street: str) -> bool:
        path, method = connection["path"], connection.get("method", "GET")
        if (own := OWN.get(method)) and own.fullmatch(path):
            return True
        if found := OF_STREETS.fullmatch(path):
            return self.has_street(next(filter(None, found.groups())))
        if found := OF_CAMERAS.fullmatch(path):
            return self.has_camera(found[1])
        query = QueryParams(connection.get("query_string", b""))
        if BY_STREET.fullmatch(path):
            return all(map(self.has_street, query.getlist("street") or [usual_street]))
        if BY_NAMED_STREET.fullmatch(path):
            asked = query.getlist("street")
            return bool(asked) and all(map(self.has_street, asked))
        if BY_SIMULATION.fullmatch(path):
            asked = query.getlist("simulation_id")
            return bool(asked) and all(map(self.has_street, asked))
        if SOME_OF_SIMULATIONS.fullmatch(path) and method == "GET":
            return all(map(self.has_street, query.getlist("simulation_id")))
        if SOME_OF_CAMERAS.fullmatch(path) and method == "GET":
            return all(map(self.has_camera, query.getlist("camera")))
        if BY_DEVICE.fullmatch(path) and method == "GET":
            asked = query.getlist("device")
            return bool(asked) and all(map(self.has_camera, asked))
        return False

    def _refusal(self) -> ProblemError:
        streets, cameras = (", ".join(sorted(n or ())) for n in (self.streets, self.cameras))
        return ProblemError(
            403,
            f"these credentials are for the streets {streets or '(none)'} and the cameras "
            f"{cameras or '(none)'} alone",
        )


UNBOUNDED = Bounds()
