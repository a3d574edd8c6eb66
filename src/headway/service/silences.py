"""What operators do about alerts: acknowledge one that is open, and silence some for a time, so
that nobody gets webhooks and e-mails of what is being looked after.
"""

from __future__ import annotations

import json
import math
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headway import telemetry
from headway.files import write_whole
from headway.service.notification import Notify

MOST_SILENCES = 200  # at once; more are a mistake
MOST_HELD = 1000  # alerts that wait for the end of a silence; the oldest are sent beyond
MOST_ACKNOWLEDGED = 2000
LONGEST_S = 7 * 24 * 3600.0  # of a silence
CLOCKS_APART_S = 60.0  # by so much the clock may be set back without ending a silence
LONGEST_TEXT = 500  # letters of a note or reason
MACHINE = "machine"  # the source of alerts on the machine
DEAD = "dead"  # the rule of a camera that is dead
OPENING, CLOSING = ("alert.opened", "camera.dead"), ("alert.closed", "camera.recovered")


class SilenceError(ValueError):
    """A silence cannot be added; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Silence:
    """source: a street, a camera, "system" (the program) or "machine"; empty for any. rule: its
    name; empty for any. at_s, until_s: seconds since 1970.
    """

    source: str
    rule: str
    until_s: float
    by: str
    reason: str = ""
    at_s: float = 0.0
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def takes(self, source: str, rule: str) -> bool:
        return self.source in ("", source) and self.rule in ("", rule)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Who looks after an alert, since when (seconds since 1970), and what they say of it."""

    by: str
    at_s: float
    note: str = ""

    def plain(self) -> dict[str, Any]:
        return {"by": self.by, "at": time_of_day(self.at_s), "note": self.note}


@dataclass(frozen=True, slots=True)
class _Held:
    kind: str
    number: str
    body: dict[str, Any]
    critical: bool
    about: str


class Silences:
    """Stands before a notifier: alerts that open while they are silenced are held, and sent when
    the silence ends and they are still open; one that closes meanwhile is never sent. What was sent
    before is closed for its recipients in any case. From any thread.

    send: returns soon, and asks nothing here.
    path: file of the silences, which outlive the server. clock: seconds since 1970.
    """

    def __init__(self, path: Path, send: Notify, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._held_path = path.with_name(f"held_{path.name}")
        self._send = send
        self._clock = clock
        self._log = telemetry.log("engine")
        self._held: dict[str, _Held] = {}  # by id of the alert, oldest first
        # ids of those that a process before this one had held, and told nobody of
        self._untold = dict.fromkeys(self._read_held())
        self._acknowledged: dict[str, Acknowledgement] = {}
        self._lock = threading.Lock()
        self._silences = self._read()

    def add(self, silence: Silence) -> Silence:
        """In force at once. Raises SilenceError, or OSError where it cannot be kept."""
        if not silence.source and not silence.rule:
            raise SilenceError("give the source or the rule: a silence of all alerts is none")
        now_s = self._clock()
        if not 0.0 < silence.until_s - now_s <= LONGEST_S:
            raise SilenceError(f"a silence ends in the next {LONGEST_S:g} s (7 days)")
        with self._lock:
            silences = self._in_force(now_s)
            if len(silences) >= MOST_SILENCES:
                raise SilenceError(f"{MOST_SILENCES} silences are in force; end one first")
            self._use([*silences, silence])
        return silence

    def remove(self, silence_id: str) -> Silence:
        """It ends now. Raises KeyError where it is not in force, OSError where that cannot be kept
        on disk.
        """
        with self._lock:
            silences = self._in_force(self._clock())
            found = next((s for s in silences if s.id == silence_id), None)
            if found is None:
                raise KeyError(silence_id)
            self._use([s for s in silences if s is not found])
        self.release()
        return found

    def in_force(self) -> list[Silence]:
        """The first to end first."""
        with self._lock:
            return sorted(self._in_force(self._clock()), key=lambda s: s.until_s)

    def silenced_until_s(self, source: str, rule: str) -> float | None:
        """Until when an alert is silenced; None where it is not."""
        with self._lock:
            return self._until_s(source, rule)

    def notify(
        self, kind: str, number: str, body: dict[str, Any], critical: bool = False, about: str = ""
    ) -> None:
        """See `Notifier.notify`."""
        source, rule = source_of(kind, body)
        alert = str(body.get("outage") or body.get("id", ""))
        with self._lock:  # also while it is sent: an alert is closed after it was opened
            if kind.endswith(CLOSING):
                self._acknowledged.pop(alert, None)
                held, untold = self._held.pop(alert, None), alert in self._untold
                self._untold.pop(alert, None)
                if held is not None or untold:
                    self._keep_held()
                    return
            elif kind.endswith(OPENING) and self._until_s(source, rule) is not None:
                self._held[alert] = _Held(kind, number, body, critical, about)
                if len(self._held) > MOST_HELD:
                    self._send_held(next(iter(self._held)))
                self._keep_held()
                return
            self._send(kind, number, body, critical, about)

    def release(self) -> None:
        """Send what was held, and is silenced no more."""
        with self._lock:
            due = [
                alert
                for alert, held in self._held.items()
                if self._until_s(*source_of(held.kind, held.body)) is None
            ]
            for alert in due:
                self._send_held(alert)
            if due:
                self._keep_held()

    def _send_held(self, alert: str) -> None:
        held = self._held.pop(alert)
        self._send(held.kind, held.number, held.body, held.critical, held.about)

    # --- acknowledgements

    def acknowledge(self, alert: str, by: str, note: str = "") -> Acknowledgement:
        """Somebody looks after an alert that is open, until it is closed."""
        found = Acknowledgement(by, self._clock(), note)
        with self._lock:
            self._acknowledged.pop(alert, None)
            self._acknowledged[alert] = found
            if len(self._acknowledged) > MOST_ACKNOWLEDGED:
                del self._acknowledged[next(iter(self._acknowledged))]
        return found

    def acknowledgement(self, alert: str) -> Acknowledgement | None:
        with self._lock:
            return self._acknowledged.get(alert)

    # --- under the lock

    def _in_force(self, now_s: float) -> list[Silence]:
        """Not those of a clock that was ahead, which would end when it is so late."""
        return [s for s in self._silences if s.until_s > now_s > s.at_s - CLOCKS_APART_S]

    def _until_s(self, source: str, rule: str) -> float | None:
        found = [s.until_s for s in self._in_force(self._clock()) if s.takes(source, rule)]
        return max(found, default=None)

    def _use(self, silences: list[Silence]) -> None:
        """Raises OSError, with nothing changed."""
        write_whole(self._path, json.dumps([asdict(s) for s in silences]))
        self._silences = silences

    def _keep_held(self) -> None:
        """The ids of what is held: who starts after a crash tells nobody that it has passed."""
        try:
            held = [*self._untold, *self._held][-MOST_HELD:]
            write_whole(self._held_path, json.dumps(held))
        except OSError as error:
            self._log.warning("alerts that are silenced are not stored", error=str(error))

    def _read_held(self) -> list[str]:
        if not self._held_path.exists():
            return []
        try:
            return list(map(str, json.loads(self._held_path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            self._log.warning("silenced alerts of before cannot be read", error=str(error))
            return []

    def _read(self) -> list[Silence]:
        """Of a file that cannot be read, none: rather an alert too many."""
        if not self._path.exists():
            return []
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
            return [_silence_of(row) for row in rows][:MOST_SILENCES]
        except (OSError, ValueError, TypeError, RecursionError) as error:
            self._log.error("silences cannot be read; none is in force", error=str(error))
            return []


def _silence_of(row: Mapping[str, Any]) -> Silence:
    """Raises ValueError or TypeError for what is none: it would be compared at each alert."""
    found = Silence(**row)
    texts = (found.source, found.rule, found.by, found.reason, found.id)
    if not all(isinstance(text, str) for text in texts) or not (found.source or found.rule):
        raise ValueError("a silence is of a source or a rule, by somebody")
    if not (math.isfinite(found.until_s) and math.isfinite(found.at_s)):
        raise ValueError("a silence has an end")
    return found


def source_of(kind: str, body: Mapping[str, Any]) -> tuple[str, str]:
    """(source, rule) of an alert, as a silence names them."""
    if kind.startswith("camera.") and "rule" not in body:
        return str(body.get("camera", "")), DEAD
    source = body.get("street") or body.get("stream") or MACHINE
    return str(source), str(body.get("rule", ""))


def time_of_day(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()
