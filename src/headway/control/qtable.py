"""A Q-table for many states: hashed keys, constant-time look-up, least recently used rows replaced,
kept in a mapped file.

The table is set-associative, as a processor's cache is: a key may stand in any of WAYS rows of its
set, and when all are taken the row that was used longest ago gives way. So a look-up touches one
short run of memory and never needs to grow.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

WAYS = 8
MOST_ACTIONS = 1024  # of a file that is read: more than any junction has stages
MAGIC = 0x4845_4144_5741_5951  # "HEADWAYQ"
HEADER = np.dtype(
    [("magic", "<u8"), ("version", "<u4"), ("actions", "<u4"), ("rows", "<u8"), ("clock", "<u8")]
)

StateKeys = NDArray[np.uint64]
# Version 2: with the stamp of the network that it was trained on (`network_stamp`).
STAMPED = np.dtype([*HEADER.descr, ("network", "<u8")])
# Version 3: its states are with the neighbours' demand.
LAYOUTS = {1: HEADER, 2: STAMPED, 3: STAMPED}  # by version

Values = NDArray[np.float32]


class QTable:
    """Values and visit counts of `actions` actions for up to `rows` states; in memory, or in the
    file `path`.

    A file survives the death of its process: rows are changed in place, a new row's key is written
    after its values.

    network: `network_stamp` of the network that it was trained on; 0 where nothing is known.
    sees_neighbours: what its keys stand for (see `Describer` in `control.qlearning`).
    """

    def __init__(
        self,
        actions: int,
        rows: int = 1 << 16,
        path: Path | None = None,
        network: int = 0,
        sees_neighbours: bool = False,
    ) -> None:
        if actions < 1 or rows < WAYS or rows.bit_count() != 1:
            raise ValueError(
                "a Q-table needs at least one action and a power of two of rows, at least "
                f"{WAYS}; asked for {actions} and {rows}"
            )
        self.actions = actions
        self.rows = rows
        self.path = path
        self.network = network
        self.sees_neighbours = sees_neighbours
        row = row_type(actions)
        if path is None:
            self._header, self._table = np.zeros(1, HEADER), np.zeros(rows, row)
        else:
            self._header, self._table = self._open(path, row)
        self._name_columns()

    def _name_columns(self) -> None:
        self._key, self._used, self._visits, self._value = (
            self._table[name] for name in ("key", "used", "visits", "value")
        )

    def _open(self, path: Path, row: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        version = 3 if self.sees_neighbours else 2 if self.network else 1
        layout = LAYOUTS[version]
        if path.exists() and path.stat().st_size:
            header = np.memmap(path, HEADER, "r+", shape=(1,))
            version = int(header["version"][0])
            layout = LAYOUTS.get(version, HEADER)
            found = (
                int(header["magic"][0]),
                int(header["version"][0]),
                int(header["actions"][0]),
                int(header["rows"][0]),
            )
            size = layout.itemsize + self.rows * row.itemsize
            is_own = found == (MAGIC, version, self.actions, self.rows) and version in LAYOUTS
            if not is_own or path.stat().st_size != size:
                raise ValueError(
                    f"{path}: is no Q-table of {self.actions} actions and {self.rows} rows ("
                    f"has {found[2]} and {found[3]}). Give another file, or the table's own size."
                )
            header = np.memmap(path, layout, "r+", shape=(1,))
            self.network = int(header["network"][0]) if version > 1 else 0
            self.sees_neighbours = version == 3
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as stream:
                stream.truncate(layout.itemsize + self.rows * row.itemsize)
            try:
                _reserve(path)
            except OSError:
                path.unlink()
                raise
            header = np.memmap(path, layout, "r+", shape=(1,))
            about = (MAGIC, version, self.actions, self.rows, 0)
            header[:] = (*about, self.network) if version > 1 else about
        return header, np.memmap(path, row, "r+", offset=layout.itemsize, shape=(self.rows,))

    @classmethod
    def read(cls, path: Path) -> QTable:
        """The table in the file `path`, whatever its size. Raises ValueError if it is none."""
        if not path.is_file() or path.stat().st_size < HEADER.itemsize:
            raise ValueError(f"{path}: no Q-table there. Train one: headway train --out {path}")
        header = np.fromfile(path, HEADER, 1)[0]
        if int(header["magic"]) != MAGIC:
            raise ValueError(f"{path}: is no Q-table.")
        return cls(int(header["actions"]), int(header["rows"]), path)

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> QTable:
        """The table of a file's content, in memory: what it is used for does not change the file.
        Raises ValueError, which names `place`, if it is none, or holds values that are no numbers.
        """
        head = np.frombuffer(data, HEADER, 1)[0] if len(data) >= HEADER.itemsize else None
        if head is None or int(head["magic"]) != MAGIC or int(head["version"]) not in LAYOUTS:
            raise ValueError(f"{place}: is no Q-table. Give a file that `headway train` wrote.")
        version, actions, rows = (int(head[name]) for name in ("version", "actions", "rows"))
        layout = LAYOUTS[version]
        is_table = 0 < actions <= MOST_ACTIONS and rows >= WAYS and rows.bit_count() == 1
        if not is_table or len(data) != layout.itemsize + rows * row_type(actions).itemsize:
            raise ValueError(
                f"{place}: is a Q-table that was cut off or changed: {len(data)} bytes are not "
                f"{rows} rows of {actions} actions. Train it anew: headway train"
            )
        network = int(np.frombuffer(data, layout, 1)[0]["network"]) if version > 1 else 0
        table = cls(actions, WAYS, network=network, sees_neighbours=version == 3)
        table.rows = rows
        table._table = np.frombuffer(data, row_type(actions), rows, layout.itemsize).copy()
        table._name_columns()
        if not np.isfinite(table._value).all():
            raise ValueError(
                f"{place}: holds values that are no finite numbers. Train it anew: headway train"
            )
        return table

    def get(self, keys: StateKeys) -> tuple[Values, NDArray[np.uint32]]:
        """Values (n, actions) and visits (n, actions) of `keys` (n,); zeros for a state never set.
        Marks the rows as used.
        """
        self._header["clock"] += 1
        values = np.zeros((len(keys), self.actions), np.float32)
        visits = np.zeros((len(keys), self.actions), np.uint32)
        _get(
            keys,
            self._key,
            self._used,
            self._visits,
            self._value,
            self._header["clock"][0],
            values,
            visits,
        )
        return values, visits

    def add(self, keys: StateKeys, actions: NDArray[np.int64], steps: Values) -> None:
        """Add `steps` (n,) to the values of `actions` (n,) in the states `keys` (n,), one visit
        each.
        """
        self._header["clock"] += 1
        _add(
            keys,
            actions,
            steps,
            self._key,
            self._used,
            self._visits,
            self._value,
            self._header["clock"][0],
        )

    def reserve(self) -> None:
        """Before it is filled: take room on the disk for all rows of its file. One that was copied,
        or made by an older version, may have holes. Raises OSError where there is no room.
        """
        if self.path is not None:
            _reserve(self.path)

    def flush(self) -> None:
        """Write what has changed to the disk, to survive the machine as well as the process."""
        for part in (self._table, self._header):
            if isinstance(part, np.memmap):
                part.flush()

    def __len__(self) -> int:
        return int((self._key != 0).sum())


def _reserve(path: Path) -> None:
    """Take room for the whole file: without it a write to a mapped page ends the process (SIGBUS).
    Raises OSError.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as stream:
        size = path.stat().st_size
        try:
            os.posix_fallocate(stream.fileno(), 0, size)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return  # a file system that cannot
            why = f"no room for a Q-table of {size} bytes ({error.strerror}). Make room on the disk"
            raise OSError(error.errno, why, str(path)) from error


def row_type(actions: int) -> np.dtype:
    """Of one row of a table of so many actions."""
    return np.dtype(
        [
            ("key", "<u8"),
            ("used", "<u8"),
            ("visits", "<u4", (actions,)),
            ("value", "<f4", (actions,)),
        ]
    )


def mix(parts: NDArray[np.integer]) -> StateKeys:
    """Rows of small whole numbers (n, k) to keys (n,), by Steele's SplitMix64 step over the
    columns; never 0.
    """
    key = np.full(len(parts), 0x9E3779B97F4A7C15, np.uint64)
    for column in parts.T:
        key = (key ^ column.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key ^= key >> np.uint64(31)
    return np.where(key == 0, np.uint64(1), key)


@njit(cache=True)
def _find(key, table):  # type: ignore[no-untyped-def]
    first = (key & np.uint64(len(table) // WAYS - 1)) * np.uint64(WAYS)
    for way in range(WAYS):
        if table[first + np.uint64(way)] == key:
            return np.int64(first) + way
    return np.int64(-1)


@njit(cache=True)
def _get(keys, table, used, visits, value, clock, out, out_visits):  # type: ignore[no-untyped-def]
    for i in range(len(keys)):
        row = _find(keys[i], table)
        if row >= 0:
            used[row] = clock
            out[i] = value[row]
            out_visits[i] = visits[row]


@njit(cache=True)
def _add(keys, actions, steps, table, used, visits, value, clock):  # type: ignore[no-untyped-def]
    for i in range(len(keys)):
        row = _find(keys[i], table)
        if row < 0:
            first = np.int64((keys[i] & np.uint64(len(table) // WAYS - 1)) * np.uint64(WAYS))
            row = first
            for way in range(WAYS):
                if table[first + way] == 0:
                    row = first + way
                    break
                if used[first + way] < used[row]:
                    row = first + way
            table[row] = 0
            value[row, :] = 0.0
            visits[row, :] = 0
            table[row] = keys[i]
        used[row] = clock
        value[row, actions[i]] += steps[i]
        visits[row, actions[i]] += 1
