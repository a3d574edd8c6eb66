"""Notifications that could not be delivered, kept in a file until they are sent anew."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway import telemetry

MOST_LETTER_BYTES = 100_000_000  # of the file; beyond it the log alone tells
SHOWN_BYTES = 8 << 20  # of its end, where the newest stand


@dataclass(frozen=True, slots=True)
class Letter:
    """A notification that could not be delivered. id: of this letter. to: whose it is, in words.
    recipient: what identifies the address; empty where it is not known. why: it was given up.
    """

    id: str
    to: str
    recipient: str
    why: str
    note: Mapping[str, Any]


class DeadLetters:
    """What could not be delivered: into the log and, if there is one, into a file, one JSON object
    a line.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._guard = threading.Lock()
        self.log = telemetry.log("sensing")

    def add(self, to: str, note: Mapping[str, Any], why: str, recipient: str = "") -> None:
        """Into the log and the file."""
        self.log.error("could not be delivered", to=to, why=why, kind=note["kind"])
        self.store(to, note, why, recipient)

    def store(self, to: str, note: Mapping[str, Any], why: str, recipient: str = "") -> None:
        """Into the file alone."""
        if self._path is None:
            return
        known = {"recipient": recipient} if recipient else {}
        letter = json.dumps({"to": to, "why": why, "note": note, **known})
        # a full disk must not end a sender
        with (
            contextlib.suppress(OSError),
            self._guard,
            self._path.open("a", encoding="utf-8") as stream,
        ):
            if stream.tell() + len(letter) < MOST_LETTER_BYTES:  # json.dumps gives ASCII
                stream.write(letter + "\n")

    def newest(self, most: int) -> list[Letter]:
        """At most so many of the file's end (SHOWN_BYTES), newest first. Raises OSError."""
        if self._path is None or not self._path.exists():
            return []
        with self._guard, self._path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            begin = max(stream.tell() - SHOWN_BYTES, 0)
            stream.seek(begin)
            lines = stream.read(SHOWN_BYTES).split(b"\n")
        found = list[Letter]()
        for line in reversed(lines[1:] if begin else lines):  # the first may be cut
            if len(found) >= most:
                break
            if (letter := _letter(line)) is not None:
                found.append(letter)
        return found

    def take(self, is_chosen: Callable[[Letter], bool], most: int) -> list[Letter]:
        """Those that are chosen, oldest first, at most so many, out of the file. Raises OSError,
        with nothing taken.
        """
        if self._path is None or not self._path.exists():
            return []
        taken = list[Letter]()
        draft = self._path.with_suffix(".draft")
        with self._guard:
            with self._path.open("rb") as lines, draft.open("wb") as left:
                for line in lines:
                    letter = _letter(line) if len(taken) < most else None
                    if letter is not None and is_chosen(letter):
                        taken.append(letter)
                    else:
                        left.write(line)
            draft.replace(self._path)
        return taken


def _letter(line: bytes) -> Letter | None:
    """None for a line that is none, such as one that was cut when the disk was full."""
    try:
        row = json.loads(line)
        note = dict(row["note"])
        return Letter(
            id=hashlib.sha256(line.strip()).hexdigest()[:32],
            to=str(row["to"]),
            recipient=str(row.get("recipient", "")),
            why=str(row["why"]),
            note={**note, "kind": str(note["kind"])},
        )
    except (ValueError, KeyError, TypeError):
        return None
