"""What a street that is a process of its own says over Valkey, and what it is ordered, as bytes
that cannot run code: each message is the name of its class and its fields, in MessagePack.

A class that does not stand here, a field of another type and an array of another kind are refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from pydantic import BaseModel

from headway.roads import Network
from headway.safety import Override
from headway.service.stops import Stop
from headway.settings import (
    AlertSettings,
    BusinessSettings,
    ControlSettings,
    LoopSettings,
    PlannerSettings,
    QLearningSettings,
    RuleSettings,
    SafetySettings,
    Settings,
    StreetSettings,
    SumoSection,
)
from headway.store.spool import Backlog
from headway.street.external.merge import Reported
from headway.street.messages import (
    AtJunction,
    ChangeRule,
    Deploy,
    Optimise,
    Pause,
    PlainOrder,
    Release,
    Reset,
    Rollback,
    Snapshot,
    Switch,
)
from headway.telemetry.plain import plain

MOST_BYTES = 16 << 20  # of one message
STREETS = "headway:streets"  # by name, the newest token
STREET_NAME = re.compile(r"[a-z0-9-]{1,64}")
# of a street's settings, what is shown and predicted by; none of them holds a secret
SECTIONS: dict[str, type[BaseModel]] = {
    "loop": LoopSettings,
    "control": ControlSettings,
    "street": StreetSettings,
    "safety": SafetySettings,
    "sumo": SumoSection,
    "alerts": AlertSettings,
    "planner": PlannerSettings,
    "q_learning": QLearningSettings,
    "business": BusinessSettings,
}


class WireError(ValueError):
    """Bytes that are no message of a street, or a message that cannot be sent; the text says
    why.
    """


class PastRow(NamedTuple):
    """As `headway.service.streets.HistoryRow`."""

    time_s: float
    wait_s: float
    vehicles: int
    stopped: int


@dataclass(frozen=True, slots=True)
class News:
    """What the street's process publishes, but for snapshots."""

    topic: Literal["alerts", "monitoring"]
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Colours:
    """Changes of colour: seconds since 1970, signal group, colour."""

    changes: tuple[tuple[float, int, int], ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand with a street, said once a second, and whenever another scenario begins.

    holder:   who runs it, and since when the token is his.
    leaving:  its process ends in order.
    trouble:  why its rows wait on disk; empty where the database takes them.
    backlog:  of them; None where its process is of a version that did not say so.
    net, additional, begin_s: from which its network is read, where it is none of the catalogue.
    stamp:    of the network, see `stamp_of`.
    version:  of Headway; empty where its process is of one that did not say so.
    settings: the SECTIONS, as JSON.
    The others are of `headway.service.streets.RunningStreet`.
    """

    name: str
    holder: str
    leaving: bool
    run: int
    scenario: str
    demand: str
    net: str
    additional: tuple[str, ...]
    begin_s: float
    stamp: str
    settings: Mapping[str, Any]
    repeat: bool
    fault: str = ""
    finished: bool = False
    ended: bool = False
    restarting: bool = False
    has_snapshot: bool = False
    stop: Stop | None = None
    controller_ordered: str = ""
    trouble: str = ""
    alerts: tuple[Mapping[str, Any], ...] = ()
    version: str = ""
    backlog: Backlog | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """What whoever follows from now on has not heard. number: of the newest message in it, of the
    process with this token.
    """

    token: int
    number: int
    snapshot: Snapshot | None
    report: Mapping[str, Any] | None
    history: tuple[PastRow, ...]
    events: tuple[Mapping[str, Any], ...]
    orders: tuple[Mapping[str, Any], ...]
    colours: tuple[tuple[float, int, int], ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """An order of an operator. action: what the service of the street is to do with it. order: on
    record, as `PlacedOrder.plain` has it.
    """

    action: Literal["place", "stop", "start"]
    order: Mapping[str, Any]
    orders: tuple[PlainOrder, ...] = ()


@dataclass(frozen=True, slots=True)
class _AtJunction:
    """An AtJunction. order: of KINDS_AT_JUNCTION, by its name."""

    kind: str
    order: msgspec.Raw
    junction: str
    lasts_s: float


@dataclass(frozen=True, slots=True)
class _Placed:
    """A Placed. orders: each as bytes of its own."""

    action: Literal["place", "stop", "start"]
    order: dict[str, Any]
    orders: tuple[msgspec.Raw, ...]


NEWS = (News, Snapshot, Colours, Standing)
ORDERS = (Optimise, Switch, Pause, ChangeRule, Deploy, Rollback)
AT_JUNCTION = (Override, Release, Reset)
CLASSES = (*NEWS, *ORDERS, *AT_JUNCTION, Past, Reported)


def _written(value: Any) -> Any:
    """Of what msgspec does not know by itself."""
    if isinstance(value, np.ndarray):
        return [list(value.shape), value.tobytes()]
    if isinstance(value, RuleSettings):
        return value.model_dump()
    if isinstance(value, Mapping):
        return dict(value)
    return plain(value)


def _read(kind: Any, value: Any) -> Any:
    if kind is RuleSettings:
        return RuleSettings.model_validate(value)
    shape, data = value  # of an array
    item = kind.__args__[1].__args__[0]
    if not isinstance(data, bytes) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("no array")
    return np.frombuffer(data, item).reshape(shape)


_encoder = msgspec.msgpack.Encoder(enc_hook=_written)
_envelope = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])
_decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
    kind.__name__: msgspec.msgpack.Decoder(kind, dec_hook=_read)
    for kind in (*CLASSES, _AtJunction, _Placed)
}
FAULTS = (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError)


def encode(message: Any) -> bytes:
    """Raises WireError for a message of another class, and for one that is too long."""
    try:
        written = _encoder.encode(_with_name(message))
    except FAULTS as error:
        raise WireError(f"a {type(message).__name__} cannot be sent: {error}") from error
    if len(written) > MOST_BYTES:
        raise WireError(f"a {type(message).__name__} of {len(written):,} bytes is too long")
    return written


def _with_name(message: Any) -> tuple[str, Any]:
    if isinstance(message, AtJunction):
        order = message.order
        inner = msgspec.Raw(_encoder.encode(order))
        kind = type(order).__name__
        return "_AtJunction", _AtJunction(kind, inner, message.junction, message.lasts_s)
    if isinstance(message, Placed):
        orders = tuple(msgspec.Raw(encode(order)) for order in message.orders)
        return "_Placed", _Placed(message.action, dict(message.order), orders)
    if type(message) not in CLASSES:
        raise WireError(f"no message of the class {type(message).__name__} is sent")
    return type(message).__name__, message


def decode(data: bytes | msgspec.Raw) -> Any:
    """The message of these bytes. Raises WireError for all that `encode` does not write."""
    if len(memoryview(data)) > MOST_BYTES:
        raise WireError("the message is too long")
    try:
        name, fields = _envelope.decode(data)
        if name not in _decoders:
            raise WireError(f"no class {name[:80]!r} is read")
        found = _decoders[name].decode(fields)
        if isinstance(found, _AtJunction):
            return _at_junction(found)
        if isinstance(found, _Placed):
            return Placed(found.action, found.order, tuple(map(_order, found.orders)))
        return found
    except WireError:
        raise
    except FAULTS as error:
        raise WireError(f"the message cannot be read: {str(error)[:300]}") from error


def name_of(data: bytes) -> str:
    """Of the class of a message, whose fields are not read; empty for what is no message."""
    try:
        name, _ = _envelope.decode(data)
    except FAULTS:
        return ""
    return name


def _at_junction(found: _AtJunction) -> AtJunction:
    if found.kind not in [kind.__name__ for kind in AT_JUNCTION]:
        raise WireError(f"no order {found.kind[:80]!r} for a junction")
    return AtJunction(_decoders[found.kind].decode(found.order), found.junction, found.lasts_s)


def _order(data: msgspec.Raw) -> PlainOrder:
    order = decode(data)
    if not isinstance(
        order, AtJunction | Optimise | Switch | Pause | ChangeRule | Deploy | Rollback
    ):
        raise WireError(f"a {type(order).__name__} is no order")
    return order


# --- what stands in Valkey


def place_of(entry: bytes) -> tuple[int, int]:
    """Of an entry in its stream: milliseconds and a number."""
    at_ms, _, number = entry.partition(b"-")
    return int(at_ms), int(number or 0)


def key_of(street: str, what: str) -> str:
    """what: lease, token, freed, news, standing, past, orders or data. The braces keep all of one
    street in one place of a cluster.
    """
    return f"headway:street:{{{street}}}:{what}"


def stamp_of(network: Network) -> str:
    """The same for the same junctions and signals, whoever reads the files."""
    parts = [
        (
            j.id,
            j.first,
            j.end,
            len(j.stages),
            [group.kind.value for group in network.groups[j.first : j.end]],
        )
        for j in network.junctions
    ]
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def settings_to_send(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name).model_dump(mode="json") for name in SECTIONS}


def settings_from(sent: Mapping[str, Any], **own: Any) -> Settings:
    """The settings of a street, with sections of one's own; variables of this process' environment
    are not the street's. Raises WireError.
    """
    try:
        found = {name: kind.model_validate(sent[name]) for name, kind in SECTIONS.items()}
    except (KeyError, ValueError) as error:
        raise WireError(f"settings of another version: {error}") from error
    return Settings.model_construct(**{**Settings.model_construct().__dict__, **found, **own})
