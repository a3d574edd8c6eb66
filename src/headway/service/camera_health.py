"""Which cameras are dead: they should deliver images, and do not, or all of them are the same, or
black.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

SAMPLED = 8  # every so many pixels of an image are looked at
BLACK_LEVEL = 25  # of 255; at night, lamps are brighter
BLACK_PERCENTILE = 99.0  # of the pixels must be below it


@dataclass(frozen=True, slots=True)
class CameraView:
    """One camera at one instant.

    expected: it should run. live: it is no file. state, fault, received: of its source, see
    `SourceHealth`. frame: number and image of the last frame that was processed.
    stopped_fault: why the service has stopped it; empty while it runs.
    """

    name: str
    expected: bool
    live: bool
    state: str
    received: int
    fault: str = ""
    stopped_fault: str = ""
    frame: tuple[int, NDArray[np.uint8]] | None = None


@dataclass(frozen=True, slots=True)
class Outage:
    """A camera that is dead. since_s: of the last good image, by the clock of `check`."""

    id: str
    camera: str
    reason: str
    since_s: float


@dataclass(frozen=True, slots=True)
class HealthChange:
    """dead: whether it died, or is not dead any more: since it is back, or `why`."""

    dead: bool
    outage: Outage
    why: str = ""


@dataclass(slots=True)
class _Memory:
    """What is known of one camera. arrived_s: when a frame last arrived. still_s, black_s: since
    when the image is the same, or black; None while it is not.
    """

    arrived_s: float
    received: int = -1
    number: int = -1
    signature: bytes = b""
    seen_s: float = 0.0
    still_s: float | None = None
    black_s: float | None = None
    outage: Outage | None = None


class CameraHealth:
    """dead_after_s: without a frame. still_after_s: with the same image, or a black one, of a live
    camera. A file that has ended is not dead.
    """

    def __init__(self, dead_after_s: float = 15.0, still_after_s: float = 20.0) -> None:
        self._dead_after_s = dead_after_s
        self._still_after_s = still_after_s
        self._memories: dict[str, _Memory] = {}

    def check(self, at_s: float, views: Iterable[CameraView]) -> list[HealthChange]:
        """What has changed. A camera that is stopped or removed on purpose is forgotten; whoever
        was told that it is dead is told so.
        """
        changes = []
        expected = {view.name: view for view in views if view.expected}
        for name in self._memories.keys() - expected.keys():
            if (outage := self._memories.pop(name).outage) is not None:
                changes.append(HealthChange(False, outage, "it was stopped or removed"))
        for name, view in expected.items():
            memory = self._memories.setdefault(name, _Memory(at_s, seen_s=at_s))
            found = self._check_one(at_s, view, memory)
            changes += [found] if found is not None else []
        return changes

    def outages(self) -> dict[str, Outage]:
        """The cameras that are dead now."""
        found = {name: memory.outage for name, memory in self._memories.items()}
        return {name: outage for name, outage in found.items() if outage is not None}

    def silent_s(self, name: str, at_s: float) -> float | None:
        """Seconds since its last frame, or since it should deliver; None for an unknown camera."""
        memory = self._memories.get(name)
        return None if memory is None else at_s - memory.arrived_s

    def _check_one(self, at_s: float, view: CameraView, memory: _Memory) -> HealthChange | None:
        if view.received not in (memory.received, 0):
            memory.arrived_s = at_s
        memory.received = view.received
        if view.live:
            self._look_at(at_s, view, memory)
        reason, since_s = self._reason(at_s, view, memory)
        if reason and memory.outage is None:
            memory.outage = Outage(str(uuid.uuid4()), view.name, reason, since_s)
            return HealthChange(True, memory.outage)
        if not reason and memory.outage is not None:
            ended, memory.outage = memory.outage, None
            return HealthChange(False, ended)
        return None

    def _look_at(self, at_s: float, view: CameraView, memory: _Memory) -> None:
        """Whether the image is the same as before, or black."""
        if view.frame is None or view.frame[0] == memory.number:
            return
        memory.number, image = view.frame
        sample = np.ascontiguousarray(image[::SAMPLED, ::SAMPLED])
        signature = blake2b(sample.tobytes(), digest_size=16).digest()
        if signature != memory.signature:
            memory.still_s = None
        elif memory.still_s is None:
            memory.still_s = memory.seen_s
        is_black = float(np.percentile(sample, BLACK_PERCENTILE)) < BLACK_LEVEL
        memory.black_s = (
            (memory.black_s if memory.black_s is not None else at_s) if is_black else None
        )
        memory.signature, memory.seen_s = signature, at_s

    def _reason(self, at_s: float, view: CameraView, memory: _Memory) -> tuple[str, float]:
        """Why it is dead, and since when; empty while it is not."""
        fault = view.stopped_fault or view.fault
        if view.stopped_fault or view.state == "failed":
            return f"it was given up: {fault or 'no reason is known'}", memory.arrived_s
        if view.state == "ended":
            return "", at_s
        if at_s - memory.arrived_s >= self._dead_after_s:
            text = f"no frame for {self._dead_after_s:g} s"
            return f"{text}: {fault}" if fault else text, memory.arrived_s
        for since_s, what in ((memory.black_s, "black"), (memory.still_s, "the same")):
            if since_s is not None and at_s - since_s >= self._still_after_s:
                return f"its image has been {what} for {self._still_after_s:g} s", since_s
        return "", at_s
