"""The state of a street in a file that cannot run code: plain values, arrays, and the classes of
STATES by their fields, in MessagePack.

A value is written as itself (None, truth, number, text) or as a list of its kind and parts: "list",
"tuple", "dict" (pairs), "array" and "number" (of numpy: type, shape, bytes), "object" (class,
fields), "member" (of an enum). What is read is one of these or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import msgspec
import numpy as np

from headway.control.actuated import ActuatedState
from headway.control.model_check import ModelCheck
from headway.control.planner import PlannerState
from headway.control.pressure import Aim
from headway.control.qlearning import QState
from headway.control.webster import Plan, WebsterState
from headway.safety.claimants import Bar, Exit, Memory, Service
from headway.safety.override import Order, Override

# what may stand in a state, besides plain values and arrays
STATES: tuple[type, ...] = (
    ActuatedState,
    Aim,
    Bar,
    Exit,
    Memory,
    ModelCheck,
    Order,
    Override,
    Plan,
    PlannerState,
    QState,
    Service,
    WebsterState,
)
PLAIN = (type(None), bool, int, float, str)
KINDS_OF_NUMBERS = "biuf"


class StateError(ValueError):
    """A state that cannot be written, read, or used here; the message says where and why."""


def encode(state: Any, classes: Iterable[type] = ()) -> bytes:
    """The file of a state. classes: allowed beside STATES. Raises StateError for a value of another
    kind, or one that no file takes (a whole number of more than 64 bits, a circle).
    """
    names = _by_class(classes)
    try:
        return msgspec.msgpack.encode(_written(state, names, "state"))
    except StateError:
        raise
    except Exception as error:  # of msgspec, or of a controller's own class as it is read
        raise StateError(f"the state cannot be written: {error!r}") from error


def decode(data: bytes, classes: Iterable[type] = ()) -> Any:
    """The state of a file. Raises StateError for what `encode` did not write."""
    known = {name: kind for kind, name in _by_class(classes).items()}
    try:
        return _read(msgspec.msgpack.decode(data), known, "state")
    except StateError:
        raise
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise StateError(f"the state cannot be read: {error}") from error


def _by_class(classes: Iterable[type]) -> dict[type, str]:
    return {kind: f"{kind.__module__}.{kind.__qualname__}" for kind in (*STATES, *classes)}


# --- writing


def _written(value: Any, names: Mapping[type, str], where: str) -> Any:
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is np.ndarray:
        return ["array", _described(value.dtype, where), list(value.shape), value.tobytes()]
    if isinstance(value, np.generic):
        return ["number", _described(value.dtype, where), [], value.tobytes()]
    if kind in names and isinstance(value, Enum):
        return ["member", names[kind], value.name]
    if kind in names:
        parts = {name: getattr(value, name) for name in _field_names(kind)}
        return ["object", names[kind], *_written_parts(parts, names, where)]
    if kind is list or kind is tuple:
        items = [_written(item, names, f"{where}[{i}]") for i, item in enumerate(value)]
        return [kind.__name__, items]
    if kind is dict:
        return ["dict", *_written_parts(value, names, where)]
    raise StateError(
        f"{where}: {kind.__module__}.{kind.__qualname__} cannot be written. Make a state of plain "
        "values, arrays, and classes of STATES in headway.street.state_file."
    )


def _written_parts(
    parts: Mapping[Any, Any], names: Mapping[type, str], where: str
) -> list[list[list[Any]]]:
    return [
        [
            [_written(key, names, where), _written(part, names, f"{where}.{key}")]
            for key, part in parts.items()
        ]
    ]


def _field_names(kind: Any) -> list[str]:
    if is_dataclass(kind):
        return [field.name for field in fields(kind)]
    return list(kind._fields)  # of a NamedTuple


def _described(dtype: np.dtype[Any], where: str) -> Any:
    """Text for a plain type; names and types of the fields for a record."""
    found: Any = dtype.str
    if dtype.names is not None:
        columns = [[name, dtype[name].str] for name in dtype.names]
        found = [columns, dtype.isalignedstruct, dtype.type is np.record]
    if _dtype(found, where) != dtype:
        raise StateError(f"{where}: an array of {dtype} cannot be written")
    return found


# --- reading


def _read(value: Any, known: Mapping[str, type], where: str) -> Any:
    if type(value) in PLAIN:
        return value
    match value:
        case ["array" | "number" as kind, described, [*shape], bytes(data)]:
            array = _array(_dtype(described, where), shape, data, where)
            return array if kind == "array" else array[()]
        case ["list" | "tuple" as kind, [*items]]:
            found = [_read(item, known, f"{where}[{i}]") for i, item in enumerate(items)]
            return found if kind == "list" else tuple(found)
        case ["dict", [*pairs]]:
            return _read_parts(pairs, known, where)
        case ["object", str(name), [*pairs]]:
            return _object(_class(name, known, where), _read_parts(pairs, known, where), where)
        case ["member", str(name), str(member)]:
            return _member(_class(name, known, where), member, where)
    raise StateError(f"{where}: holds what no state has")


def _read_parts(pairs: list[Any], known: Mapping[str, type], where: str) -> dict[Any, Any]:
    found = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise StateError(f"{where}: holds a key without a value")
        key = _read(pair[0], known, where)
        found[key] = _read(pair[1], known, f"{where}.{key}")
    return found


def _class(name: str, known: Mapping[str, type], where: str) -> type:
    if name not in known:
        raise StateError(f"{where}: the class {name!r} is none of a state")
    return known[name]


def _object(kind: type, parts: dict[Any, Any], where: str) -> Any:
    expected = set() if issubclass(kind, Enum) else set(_field_names(kind))
    if set(parts) != expected:
        differ = ", ".join(sorted(map(str, set(parts) ^ expected)))
        raise StateError(f"{where}: {kind.__name__} has other fields here: {differ}")
    return kind(**parts)


def _member(kind: type, name: str, where: str) -> Any:
    if not issubclass(kind, Enum) or name not in kind.__members__:
        raise StateError(f"{where}: {kind.__name__} has no {name!r}")
    return kind[name]


def _dtype(described: Any, where: str) -> np.dtype[Any]:
    try:
        if isinstance(described, str):
            found = np.dtype(described)
            return _of_numbers(found, where)
        columns, aligned, record = described
        of_fields = [(str(name), _of_numbers(np.dtype(kind), where)) for name, kind in columns]
        plain = np.dtype(of_fields, align=bool(aligned))
        return np.dtype((np.record, plain)) if record else plain
    except StateError:
        raise
    except (TypeError, ValueError, SyntaxError) as error:
        raise StateError(f"{where}: {described!r} is no type of an array") from error


def _of_numbers(dtype: np.dtype[Any], where: str) -> np.dtype[Any]:
    if dtype.kind not in KINDS_OF_NUMBERS:
        raise StateError(f"{where}: an array of {dtype} is none of a state")
    return dtype


def _array(dtype: np.dtype[Any], shape: list[Any], data: bytes, where: str) -> np.ndarray[Any, Any]:
    if not all(type(n) is int and n >= 0 for n in shape):
        raise StateError(f"{where}: {shape} is no shape")
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size != len(data):
        raise StateError(f"{where}: {len(data)} bytes are no {dtype} {tuple(shape)}")
    return np.frombuffer(data, dtype).reshape(shape).copy()


# --- whether it fits


def require_like(found: Any, expected: Any, where: str = "state") -> None:
    """`found` is of the same classes, and its arrays of the same types and shapes, as in
    `expected`; None fits anything. Raises StateError: compiled code would read beyond an array of
    another network.
    """
    if found is None or expected is None:
        return
    if isinstance(expected, bool | int | float | np.number | np.bool_):
        is_number = isinstance(found, bool | int | float | np.number | np.bool_)
        _require(is_number, type(found).__name__, where)
        return
    _require(type(found) is type(expected), type(found).__name__, where)
    if isinstance(expected, np.ndarray):
        same = found.dtype == expected.dtype and found.shape == expected.shape
        _require(same, f"{found.dtype} {found.shape}", where)
    elif isinstance(expected, dict):
        _require_parts(found, expected, lambda value, key: value.get(key, _Missing), where)
    elif is_dataclass(expected) or hasattr(expected, "_fields"):
        names = dict.fromkeys(_field_names(type(expected)))
        parts = {name: getattr(expected, name) for name in names}
        _require_parts(found, parts, getattr, where)
    elif isinstance(expected, tuple):
        _require(len(found) == len(expected), f"{len(found)} parts", where)
        for i, (own, other) in enumerate(zip(found, expected, strict=True)):
            require_like(own, other, f"{where}[{i}]")


class _Missing:
    """Stands for a key that is not there."""


def _require_parts(
    found: Any, expected: Mapping[Any, Any], part: Callable[[Any, Any], Any], where: str
) -> None:
    for key, value in expected.items():
        own = part(found, key)
        _require(own is not _Missing, "nothing", f"{where}.{key}")
        require_like(own, value, f"{where}.{key}")


def _require(holds: bool, found: str, where: str) -> None:
    if not holds:
        raise StateError(f"{where}: is {found}, which is not of this street")
