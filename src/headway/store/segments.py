"""The files of a spool: the newest, to which lines are added, and full ones before it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from headway.files import sync_names

FULL = re.compile(r"\.([0-9]{8})-([0-9]+)$")  # behind the stem: its number, and how many lines


class Segments:
    """path: the newest. A full one lies beside it and is named by its number and its lines:
    `spool.00000012-345.jsonl` of `spool.jsonl`, so that nobody reads it to know what waits.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def remove_doubles(self) -> None:
        """A process that was killed while it replaced one leaves both: the shorter one counts."""
        shortest = dict[int, Path]()
        for path in self.full():
            other = shortest.setdefault(number(path), path)
            if other is not path:
                longer, shortest[number(path)] = sorted((other, path), key=lines, reverse=True)
                longer.unlink()

    def full(self) -> list[Path]:
        """The oldest first."""
        beside = self.path.parent.glob(f"{self.path.stem}.*-*{self.path.suffix}")
        return sorted((path for path in beside if FULL.search(path.stem)), key=number)

    def all(self) -> list[Path]:
        """The oldest first; the newest only if there is one."""
        return [*self.full(), *([self.path] if self.path.exists() else [])]

    def size(self) -> int:
        """Bytes of all of them."""
        return sum(path.stat().st_size for path in self.all())

    def close_newest(self, count: int) -> None:
        """It is full, with so many lines. Raises OSError."""
        full = self.full()
        after = number(full[-1]) + 1 if full else 1
        self.path.replace(self._name(after, count))
        sync_names(self.path.parent)  # or a power cut could leave neither name

    def replace(self, full: Path, draft: Path, count: int) -> Path:
        """Put a shorter one, of so many lines, in the place of a full one. Raises OSError."""
        name = self._name(number(full), count)
        draft.replace(name)
        if name != full:
            full.unlink()
        return name

    def _name(self, of: int, count: int) -> Path:
        return self.path.with_name(f"{self.path.stem}.{of:08d}-{count}{self.path.suffix}")


def number(full: Path) -> int:
    found = FULL.search(full.stem)
    return int(found.group(1)) if found else 0


def lines(full: Path) -> int:
    """How many it has, by its name."""
    found = FULL.search(full.stem)
    return int(found.group(2)) if found else 0


def waiting(full: Iterable[Path]) -> int:
    return sum(map(lines, full))


def first_waiting(path: Path) -> Path | None:
    """The oldest file of the spool `path` in which lines wait; None where none do."""
    if not path.parent.exists():
        return None
    return next((one for one in Segments(path).all() if one.stat().st_size), None)
