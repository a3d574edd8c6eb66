"""Where pictures come from: RTSP, HTTP, files and folders, each decoded in a thread of its own,
with time from the stream itself.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from headway.sensing import SensingError

Picture = NDArray[np.uint8]
LIVE = ("rtsp", "rtsps", "http", "https", "rtmp", "udp")
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
RATE_SPAN_S = 5.0
DRIFT = 2e-4
SLEW = 5e-3
FAR_S = 10.0
MOST_PIXELS = 8192 * 4320


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture, (height, width, 3) BGR. at_s: by the stream's own clock (for a live one set to
    wall time); number: of the frames decoded;
    came_s: when it was decoded, by the monotonic clock."""

    at_s: float
    number: int
    image: Picture
    came_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """url: rtsp://, http://, a file, or a folder of pictures.

    policy: latest (the newest frame only), queue (all of them, the source waits), auto (latest
        where it is live or paced).
    paced: a file comes in its own time, as if live. rate_hz: frames a second that are wanted at
        most; 0 for all; for a folder, its own rate.
    attempts: connections in a row that may fail (0: any number), with `delay_s`, doubled up to
        `longest_delay_s`, between.
    """

    url: str
    policy: Literal["auto", "latest", "queue"] = "auto"
    buffer: int = 4
    rate_hz: float = 0.0
    paced: bool = False
    repeat: bool = False
    attempts: int = 0
    delay_s: float = 0.5
    longest_delay_s: float = 30.0
    silent_s: float = 5.0
    hardware: bool = True

    @property
    def live(self) -> bool:
        return urlsplit(self.url).scheme in LIVE

    @property
    def shown(self) -> str:
        """The address without its password."""
        parts = urlsplit(self.url)
        if parts.password or parts.username:
            return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rsplit("@", 1)[1]))
        return self.url


@dataclass(frozen=True, slots=True)
class Health:
    """state: idle, starting, running, reconnecting, ended, failed. dropped: frames that nobody was
    ready for. skipped: beyond the wanted rate.
    """

    state: str = "idle"
    received: int = 0
    dropped: int = 0
    skipped: int = 0
    broken: int = 0
    connections: int = 0
    rate_hz: float = 0.0
    size: tuple[int, int] = (0, 0)
    clock: str = ""
    fault: str = ""
    length: int = 0


@dataclass
class Source:
    """`start`, `take` frames, `stop`. One thread decodes; who takes may be any other."""

    settings: SourceSettings
    health: Health = field(default_factory=Health)

    def __post_init__(self) -> None:
        policy = self.settings.policy
        self.lossy = policy == "latest" or (
            policy == "auto" and (self.settings.live or self.settings.paced)
        )
        self._waiting: deque[Frame] = deque()
        self._changed, self._stop = threading.Condition(), threading.Event()
        self._thread: threading.Thread | None = None
        self._times: deque[float] = deque(maxlen=256)
        # of a live stream: the least that its clock was behind ours, and what is taken for it
        self._least_s: float
        self._offset_s: float
        self._last_s: float  # of the last frame: a file that begins anew goes on from there
        self.told: Callable[[], None] | None = None
        self.nominal_hz = self.settings.rate_hz  # what the stream says of itself, once it is open

    def start(self) -> None:
        """Begin, or begin again. Raises SensingError if it runs already."""
        if self._thread is not None and self._thread.is_alive():
            raise SensingError(f"{self.settings.shown}: it runs already")
        self._stop.clear()
        self._waiting.clear()
        self.health = Health("starting")
        self._thread = threading.Thread(
            target=self._work, daemon=True, name=f"source {self.settings.shown}"
        )
        self._thread.start()

    def stop(self) -> None:
        """End decoding and forget what waits."""
        self._stop.set()
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(self.settings.silent_s + 5.0)
        if self.health.state not in ("ended", "failed"):
            self.health = replace(self.health, state="idle")

    def take(self, timeout_s: float | None = None) -> Frame | None:
        """The next frame, or None: nothing came within the time, or nothing will (`over`)."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self.over, timeout_s)
            if not self._waiting:
                return None
            frame = self._waiting.popleft()
            self._changed.notify_all()
            return frame

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def over(self) -> bool:
        return self.health.state in ("ended", "failed", "idle") or self._stop.is_set()

    def frames(self) -> Iterator[Frame]:
        """All frames until it is over. Raises SensingError if it failed."""
        self.start()
        try:
            while True:
                frame = self.take(1.0)
                if frame is not None:
                    yield frame
                elif self.over and not self._waiting:
                    break
        finally:
            self.stop()
        if self.health.state == "failed":
            raise SensingError(self.health.fault)

    def _work(self) -> None:
        failures, s = 0, self.settings
        while not self._stop.is_set():
            before = self.health.received
            try:
                self._play()
                if self._stop.is_set():
                    return None
                if not s.live and not s.repeat:
                    return self._end("ended", "")
                fault = "the stream ended"
            except (av.error.FFmpegError, OSError, ValueError, SensingError) as error:
                fault = f"{s.shown}: {_plain(error)}".replace(
                    s.url, s.shown
                )  # libraries name the address with its password
                if not s.live:
                    return self._end("failed", fault)
            failures = 0 if self.health.received > before else failures + 1
            if s.attempts and failures >= s.attempts:
                return self._end("failed", f"{fault} ({failures} attempts)")
            if s.live:
                self._set(state="reconnecting", fault=fault)
                self._stop.wait(min(s.delay_s * 2.0 ** max(failures - 1, 0), s.longest_delay_s))
        return None

    def _play(self) -> None:
        if not self.settings.live and Path(self.settings.url).is_dir():
            self._play_folder(Path(self.settings.url))
        else:
            self._play_stream()

    def _play_folder(self, folder: Path) -> None:
        names = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES)
        if not names:
            raise SensingError(
                f"there is no picture in the folder. Known endings: {', '.join(PICTURES)}"
            )
        rate, begun = self.settings.rate_hz or 10.0, time.monotonic()
        base = self._last_s + 1.0 / rate if self.health.received else 0.0
        self._set(clock="rate", length=len(names), connections=self.health.connections + 1)
        for k, name in enumerate(names):
            if self._stop.is_set():
                return
            image = cv2.imread(str(name))
            if image is None:
                self._set(broken=self.health.broken + 1, fault=f"{name.name} is no picture")
                continue
            _bounded(image.shape[1], image.shape[0])
            if self.settings.paced:
                self._stop.wait(max(0.0, begun + k / rate - time.monotonic()))
            self._last_s = base + k / rate
            self._put(Frame(self._last_s, k, np.asarray(image, np.uint8), time.monotonic()))
        if not self.health.received:
            raise SensingError(f"none of the {len(names)} pictures in the folder can be read")

    def _play_stream(self) -> None:
        s = self.settings
        options = (
            {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"} if s.live else {}
        )
        with av.open(
            s.url,
            options=options,
            timeout=(s.silent_s, s.silent_s) if s.live else None,
            hwaccel=_hardware() if s.hardware else None,
        ) as box:
            if not box.streams.video:
                raise SensingError("there is no video in it")
            stream = box.streams.video[0]
            stream.thread_type = (
                "SLICE"  # threads over frames add delay, and take from what looks at them
            )
            rate = self.nominal_hz = float(stream.average_rate or stream.guessed_rate or 25)
            self._set(
                connections=self.health.connections + 1, fault="", length=int(stream.frames or 0)
            )
            self._stream_s = self._next_s = -np.inf
            base = self._last_s + 1.0 / rate if self.health.received else 0.0
            lasts_s = (
                box.duration / 1e6
                if box.duration and len(box.streams) == 1 and not stream.frames
                else 0.0
            )  # else sound may go on alone
            first = None
            at = 0.0
            begun = time.monotonic()
            number = 0
            for packet in box.demux(stream):
                try:
                    decoded = packet.decode()
                except av.error.InvalidDataError as error:
                    self._set(broken=self.health.broken + 1, fault=f"{s.shown}: {_plain(error)}")
                    continue
                for picture in decoded:
                    if self._stop.is_set():
                        return
                    _bounded(picture.width, picture.height)
                    told = picture.time
                    at = float(told) if told is not None else number / rate
                    first = at if first is None else first
                    self._set(clock="stream" if told is not None else "rate")
                    if s.paced and not s.live:
                        self._stop.wait(max(0.0, begun + at - first - time.monotonic()))
                    self._take_in(picture, at if s.live else base + at - first, number)
                    number += 1
            if not number:
                raise SensingError("there is not one picture in it")
            if not s.live and stream.frames and number < 0.98 * stream.frames:
                raise SensingError(
                    f"it is cut short: {number} of {stream.frames} frames could be read"
                )
            if not s.live and first is not None and at - first < 0.9 * lasts_s - 1.0:
                raise SensingError(
                    f"it is cut short: {at - first:.1f} of {lasts_s:.1f} s could be read"
                )

    def _take_in(self, picture: Any, at_s: float, number: int) -> None:
        s = self.settings
        # the least delay, of late, tells how the two clocks lie to one another; it is followed
        # slowly, so that time never goes back
        if s.live:
            ahead, passed = time.time() - at_s, at_s - self._stream_s
            first = not 0.0 < passed < 60.0
            self._least_s = ahead if first else min(self._least_s + DRIFT * passed, ahead)
            self._offset_s = (
                ahead
                if first
                else self._offset_s + max(self._least_s - self._offset_s, -SLEW * passed)
            )  # DRIFT alone lets it grow
            self._stream_s = at_s
            at_s += self._offset_s
        self._last_s = at_s
        if s.rate_hz and at_s < self._next_s - 0.5 / s.rate_hz * 0.1:
            self._set(received=self.health.received + 1, skipped=self.health.skipped + 1)
            return
        if s.rate_hz:
            self._next_s = (
                max(self._next_s + 1.0 / s.rate_hz, at_s)
                if np.isfinite(self._next_s)
                else at_s + 1.0 / s.rate_hz
            )
        self._put(Frame(at_s, number, _bgr(picture), time.monotonic()))

    def _put(self, frame: Frame) -> None:
        now = time.monotonic()
        self._times.append(now)
        recent = [t for t in self._times if now - t <= RATE_SPAN_S]
        rate = (len(recent) - 1) / (recent[-1] - recent[0]) if recent[-1] > recent[0] else 0.0
        size = (frame.image.shape[1], frame.image.shape[0])
        with self._changed:
            lost = 0
            if self.lossy:
                while len(self._waiting) >= (
                    1 if self.settings.policy == "latest" else self.settings.buffer
                ):
                    self._waiting.popleft()
                    lost += 1
            else:
                self._changed.wait_for(
                    lambda: len(self._waiting) < self.settings.buffer or self._stop.is_set()
                )
            if self._stop.is_set():
                return
            self._waiting.append(frame)
            h = self.health
            self.health = replace(
                h,
                state="running",
                received=h.received + 1,
                dropped=h.dropped + lost,
                rate_hz=rate,
                size=size,
            )
            self._changed.notify_all()
        if self.told is not None:
            self.told()

    def _set(self, **changes: Any) -> None:
        with self._changed:
            self.health = replace(self.health, **changes)

    def _end(self, state: str, fault: str) -> None:
        with self._changed:
            self.health = replace(self.health, state=state, fault=fault or self.health.fault)
            self._changed.notify_all()
        if self.told is not None:
            self.told()


def _bounded(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise SensingError(
            f"its pictures are {width} x {height}; at most {MOST_PIXELS // 1_000_000} million "
            "pixels are taken: have smaller ones sent."
        )


def sampled(url: str, count: int) -> list[Picture]:
    """Pictures of one size from all over a file or folder, `count` at most, as far as they can be
    read.
    """
    path, found = Path(url), list[Picture]()
    if path.is_dir():
        names = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
        read = (cv2.imread(str(name)) for name in names[:: max(len(names) // count, 1)][:count])
        found = [np.asarray(image, np.uint8) for image in read if image is not None]
    else:
        with suppress(av.error.FFmpegError, OSError), av.open(url) as box:
            found += _spread(box, count)
    return [image for image in found if image.shape == found[0].shape]


def _spread(box: Any, count: int) -> Iterator[Picture]:
    """Each later than the one before; where they lie far apart, the whole pictures of the stream,
    which can be read by themselves.
    """
    stream = box.streams.video[0]
    span = (box.duration or 0) / av.time_base / count
    begin = (box.start_time or 0) / av.time_base
    at, far = -np.inf, FAR_S
    for k in range(count if span else 0):
        wanted = begin + k * span
        taken = at
        jumped = begin + k * span - at > far
        if jumped:
            box.seek(round(wanted * av.time_base))
        for picture in box.decode(stream):
            at = picture.time if picture.time is not None else wanted
            if (
                jumped and at <= taken
            ):  # there is no whole picture between: from here on one after the other
                far = np.inf
            if at >= wanted or (jumped and at > taken + 0.5 * span):
                yield _bgr(picture)
                break


def _bgr(picture: Any) -> Picture:
    """The picture as BGR; the usual format by OpenCV, which is several times as quick as
    swscale.
    """
    if picture.format.name == "yuv420p" and picture.width % 2 == 0 and picture.height % 2 == 0:
        return np.asarray(cv2.cvtColor(picture.to_ndarray(), cv2.COLOR_YUV2BGR_I420), np.uint8)
    return np.asarray(picture.to_ndarray(format="bgr24"), np.uint8)


def _hardware() -> Any:
    """A hardware decoder where the machine has one; it falls back to software for what it
    cannot.
    """
    for kind, device in (("cuda", "/dev/nvidia0"), ("vaapi", "/dev/dri/renderD128")):
        with suppress(ImportError, ValueError, RuntimeError):
            from av.codec.hwaccel import HWAccel, hwdevices_available

            if Path(device).exists() and kind in hwdevices_available():
                return HWAccel(kind, allow_software_fallback=True)
    return None


def _plain(error: Exception) -> str:
    """What went wrong, in words, with what to do."""
    known = {
        "InvalidDataError": "this is no video that can be decoded "
        "(empty, cut short, or another kind of file)",
        "FileNotFoundError": "there is no such file",
        "ConnectionRefusedError": "nobody answers there",
        "HTTPUnauthorizedError": "the user name or the password is wrong",
        "HTTPNotFoundError": "there is no such stream",
        "TimeoutError": "it does not answer in time",
        "ExitError": "it does not answer in time",
    }
    return known.get(type(error).__name__, str(error))
