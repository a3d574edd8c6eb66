"""Notifications that could not be delivered, kept in a file until they are delivered."""

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
SETTLED_AT_ONCE = 100  # so many may be sent once more by who starts after a process has died


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
        self._under_way = set[str]()  # ids of letters that are being sent anew
        self._settled = dict[str, str | None]()  # by id: why again; None for one that was delivered
        self.log = telemetry.log("sensing")

    def add(
        self, to: str, note: Mapping[str, Any], why: str, recipient: str = "", letter_id: str = ""
    ) -> None:
        """Into the log and the file."""
        self.log.error("could not be delivered", to=to, why=why, kind=note["kind"])
        self.store(to, note, why, recipient, letter_id)

    def store(
        self, to: str, note: Mapping[str, Any], why: str, recipient: str = "", letter_id: str = ""
    ) -> None:
        """Into the file alone. letter_id: of the letter that it was before, if it was claimed."""
        if self._path is None:
            return
        if letter_id:
            self.settle(letter_id, why)
            return
        known = {"recipient": recipient} if recipient else {}
        letter = json.dumps({"to": to, "why": why, "note": note, **known})
        # a full disk must not end a sender
        with (
            contextlib.suppress(OSError),
            self._guard,
            self._path.open("ab", buffering=0) as stream,
        ):
            line, size = f"{letter}\n".encode(), stream.tell()
            is_taken = size + len(line) > MOST_LETTER_BYTES or stream.write(line) == len(line)
            if not is_taken:  # the next one must not be a part of this line
                stream.truncate(size)

    def newest(self, most: int) -> list[Letter]:
        """At most so many of the file's end (SHOWN_BYTES), newest first, without those under way.
        Raises OSError.
        """
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
            letter = _letter(line)
            if letter is not None and not self._is_claimed(letter):
                found.append(letter)
        return found

    def claim(self, is_chosen: Callable[[Letter], bool], most: int) -> list[Letter]:
        """Those that are chosen, oldest first, at most so many: under way until they are settled,
        and in the file as long. Raises OSError, with nothing claimed.
        """
        found = dict[str, Letter]()
        if self._path is None or not self._path.exists():
            return []
        with self._guard:
            with self._path.open("rb") as lines:
                for letter in filter(None, map(_letter, lines)):
                    if len(found) == most:
                        break
                    if not self._is_claimed(letter) and is_chosen(letter):
                        found[letter.id] = letter
            self._under_way.update(found)
        return list(found.values())

    def settle(self, letter_id: str, why: str | None = None) -> None:
        """A letter that was claimed was delivered, and goes; or was given up again, and stays. The
        file is written anew once none is under way, or SETTLED_AT_ONCE are settled.
        """
        with self._guard:
            self._under_way.discard(letter_id)
            self._settled[letter_id] = why
            if not self._under_way or len(self._settled) >= SETTLED_AT_ONCE:
                try:
                    self._write_settled()
                except OSError:  # the next one that is settled tries again; these stay as they were
                    self._settled = dict.fromkeys(i for i, w in self._settled.items() if w is None)

    def _is_claimed(self, letter: Letter) -> bool:
        return letter.id in self._under_way or letter.id in self._settled

    def _write_settled(self) -> None:
        if self._path is None or not self._path.exists():
            return
        draft = self._path.with_suffix(".draft")
        with self._path.open("rb") as lines, draft.open("wb") as kept:
            for line in lines:
                letter = _letter(line)
                if letter is None or letter.id not in self._settled:
                    kept.write(line)
                elif (why := self._settled[letter.id]) is not None:
                    kept.write(json.dumps(json.loads(line) | {"why": why}).encode() + b"\n")
            kept.flush()
            os.fsync(kept.fileno())
        draft.replace(self._path)
        self._settled.clear()


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
