"""Sources of frames: RTSP, HTTP, files and folders, each decoded in a thread of its own, with time
from the stream itself.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import urlsplit

import av
import cv2
import numpy as np

from headway.telemetry import log
from headway.telemetry.masking import masked
from headway.vision import SensingError
from headway.vision.frames.addresses import Door, Network
from headway.vision.frames.guarded import Connections
from headway.vision.frames.images import (
    MOST_PIXELS,
    SUFFIXES,
    Image,
    image_files,
    read_image,
    require_bounded,
)
from headway.vision.frames.timing import LiveClock, Playback, RateLimit, StampPace, WallSteps

# no decoder makes larger ones, also where FFmpeg looks into a stream before it says its size; they
# are somewhat larger than what they show
BOUNDED = {"max_pixels": str(MOST_PIXELS * 5 // 4)}
LIVE_OPTIONS = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}
# what FFmpeg may open by itself beside what it is given, and that parts of a stream are asked for
# each by itself
NO_PROTOCOL = {"protocol_whitelist": "none"}
TCP_ALONE = {"protocol_whitelist": "tcp"}
AFRESH = {"http_persistent": "0", "http_multiple": "0"}
LIVE = ("rtsp", "rtsps", "http", "https", "rtmp", "udp")
RATE_SPAN_S = 5.0  # s over which the rate of frames is measured
KEPT_TIMES = 256  # instants of frames kept for it
CONTAINER_RATE_HZ = 25.0  # of a video whose container states no rate
FOLDER_RATE_HZ = 10.0  # of a folder where none is requested
STOP_S = 5.0  # s beyond the silence of a stream in which its thread ends
TAKE_S = 1.0  # s that `frames` waits for one before it checks whether the source is over

# A file is cut short if fewer of its frames, or less of its length, can be read
WHOLE_FRAMES = 0.98
WHOLE_LENGTH = 0.9
LENGTH_SLACK_S = 1.0

SECRET_IN_PATH = re.compile(r"((?:pass\w*|pwd|token|secret|key)=)[^&/]*", re.IGNORECASE)

WITHOUT_TIMES = "mpjpeg"  # MJPEG over HTTP, as FFmpeg names it; it makes up the times
IN_PARTS = ("hls", "dash")  # of many seconds, each of which comes at once
INDEX_AT_END = (
    "the index of this MP4 stands at its end, or is missing, and its server does not send parts of "
    "files (HTTP ranges). Write it with the index first (FFmpeg: -movflags +faststart)"
)
AHEAD_S = 60.0  # s by which a live frame may be of the future: parts of many seconds come at once
FAR_S = 10.0  # s between samples from which seeking is quicker than decoding


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    at_s:   by the stream's own clock; of a live one, set to wall time. It never goes back within
        one `epoch`; times of two epochs cannot be compared: the wall clock was set between them.
    number: of the frames decoded. image: (height, width, 3), BGR.
    decoded_s: when it was decoded, by the monotonic clock.
    """

    at_s: float
    number: int
    image: Image
    decoded_s: float = 0.0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """What to read, and how.

    url:      rtsp://, http://, a file, or a folder of images.
    policy:   latest (the newest frame only), recent (the newest `buffer` frames), queue (all of
        them, the source waits), auto (recent where it is live or paced, else queue).
    buffer:   frames that wait at most.
    rate_hz:  frames a second at most; 0 for all; for a folder, its own rate.
    paced:    a file is played in real time, as if live. repeat: it begins again at its end.
    attempts: connections in a row that may fail (0: any number), with `delay_s`, doubled up to
        `longest_delay_s`, between.
    silent_s: after which a live stream counts as broken. hardware: use a decoder of the machine.
    networks: None for whoever gives addresses of their own machine; else a live source is reached
        by rtsp, rtsps, http and https alone, and not on this machine nor at any other address of
        `addresses.REFUSED` that is outside of these networks; a file names no others.
    """

    url: str
    policy: Literal["auto", "latest", "recent", "queue"] = "auto"
    buffer: int = 4
    rate_hz: float = 0.0
    paced: bool = False
    repeat: bool = False
    attempts: int = 0
    delay_s: float = 0.5
    longest_delay_s: float = 30.0
    silent_s: float = 5.0
    hardware: bool = True
    networks: tuple[Network, ...] | None = None

    @property
    def live(self) -> bool:
        return urlsplit(self.url).scheme in LIVE

    @property
    def display_url(self) -> str:
        """The address without user, password and query, which often has a password too. What
        stands before the last "@" is hidden: a "/", "?" or "#" of a password ends it too early.
        """
        scheme, mark, rest = self.url.partition("://")
        if not mark:
            return self.url
        _, at, place = rest.rpartition("@")
        path, question, _ = place.partition("#")[0].partition("?")
        shown = SECRET_IN_PATH.sub(r"\1***", path)
        return f"{scheme}://{'***@' if at else ''}{shown}{'?***' if question else ''}"


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """State and counts of a source.

    state:    idle, starting, running, reconnecting, ended, failed. fault: the last one, in words.
    received, dropped, skipped, broken: frames so far; dropped: no reader was ready for
        them; skipped: beyond the requested rate, or of a stream without times and late; broken:
        not decodable.
    rate_hz:  of late. size: width, height. length: frames of a file, 0 where not known.
    clock:    where the time comes from: stream; rate, of a file without; arrival, of a live stream
        without, or whose own passes more slowly.
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


@dataclass(frozen=True)
class Platform:
    """Clocks and threads that a source uses; a test hands in its own."""

    monotonic_s: Callable[[], float] = time.monotonic
    wall_s: Callable[[], float] = time.time
    make_event: Callable[[], threading.Event] = threading.Event
    make_thread: Callable[..., threading.Thread] = threading.Thread


@dataclass
class FrameSource:
    """`start`, `take` frames, `stop`. One thread decodes; any other may take.

    on_change:  called, from the decoding thread, after each frame and at the end.
    nominal_hz: frames a second by the stream's own word, once it is open.
    """

    settings: SourceSettings
    health: SourceHealth = field(default_factory=SourceHealth)
    platform: Platform = Platform()
    on_change: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        policy = self.settings.policy
        self.lossy = policy in ("latest", "recent") or (
            policy == "auto" and (self.settings.live or self.settings.paced)
        )
        self.nominal_hz = self.settings.rate_hz
        self._waiting: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._stop = self.platform.make_event()
        self._thread: threading.Thread | None = None
        self._times: deque[float] = deque(maxlen=KEPT_TIMES)
        self._last_s = 0.0  # of the last frame: a file that is repeated continues from there
        self._wall_steps = WallSteps()
        self._stamps_are_wrong = False
        self._relayed = ""  # what FFmpeg calls the address
        self._connections: Connections | None = None  # of a source whose addresses are checked

    def start(self) -> None:
        """Begin, or begin again. Raises SensingError if it runs already."""
        if self._thread is not None and self._thread.is_alive():
            raise SensingError(f"{self.settings.display_url}: it runs already")
        self._stop.clear()
        self._waiting.clear()
        self._stamps_are_wrong = False
        self.health = SourceHealth("starting")
        self._thread = self.platform.make_thread(
            target=self._work, daemon=True, name=f"source {self.settings.display_url}"
        )
        self._thread.start()

    def stop(self) -> None:
        """End decoding and forget what waits."""
        self._stop.set()
        if self._connections is not None:  # what hangs there would hold the thread
            self._connections.end()
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(self.settings.silent_s + STOP_S)
        if self.health.state not in ("ended", "failed"):
            self.health = replace(self.health, state="idle")

    def take(self, timeout_s: float | None = None) -> Frame | None:
        """The next frame, or None: none arrived within the time, or none will (`over`)."""
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
                frame = self.take(TAKE_S)
                if frame is not None:
                    yield frame
                elif self.over and not self._waiting:
                    break
        finally:
            self.stop()
        if self.health.state == "failed":
            raise SensingError(self.health.fault)

    def _work(self) -> None:
        """The decoding thread: play until it is over, again where that may help."""
        failures, s = 0, self.settings
        while not self._stop.is_set():
            before = self.health.received
            fault = self._fault_of_playing()
            if fault is None or self._stop.is_set():
                return
            failures = 0 if self.health.received > before else failures + 1
            if s.attempts and failures >= s.attempts:
                log("sensing").error("a camera was given up", why=fault, attempts=failures)
                self._end("failed", f"{fault} ({failures} attempts)")
                return
            if s.live:
                if fault != self.health.fault:
                    log("sensing").warning("a camera cannot be read", why=fault)
                self._set(state="reconnecting", fault=fault)
                self._stop.wait(min(s.delay_s * 2.0 ** max(failures - 1, 0), s.longest_delay_s))

    def _fault_of_playing(self) -> str | None:
        """Play to the end, or to a fault, and say why to play again; None where the source has
        ended: it was stopped, or is a file that is broken or not to be repeated.
        """
        s = self.settings
        begun_s, before = self.platform.monotonic_s(), self.health.received
        try:
            self._play()
        except Exception as error:  # of whatever kind: a thread that ends tells nobody why
            waited_s = self.platform.monotonic_s() - begun_s
            # FFmpeg calls an RTSP server that says nothing invalid data
            was_silent = self.health.received == before and waited_s >= s.silent_s
            fault = self._fault(TimeoutError() if s.live and was_silent else error)
            if s.live:
                return fault
            self._end("failed", fault)
            return None
        if self._stop.is_set():
            return None
        if s.live or s.repeat:
            return "the stream ended"
        self._end("ended", "")
        return None

    def _play(self) -> None:
        if not self.settings.live and Path(self.settings.url).is_dir():
            self._play_folder(Path(self.settings.url))
        else:
            self._play_stream()

    def _play_folder(self, folder: Path) -> None:
        names = image_files(folder)
        if not names:
            raise SensingError(
                f"there is no image in the folder. Known endings: {', '.join(SUFFIXES)}"
            )
        rate_hz = self.settings.rate_hz or FOLDER_RATE_HZ
        begun_s = self.platform.monotonic_s()
        base_s = self._base_s(rate_hz)
        self._set(clock="rate", length=len(names), connections=self.health.connections + 1)
        for k, name in enumerate(names):
            if self._stop.is_set():
                return
            image = read_image(name)
            if image is None:
                self._set(broken=self.health.broken + 1, fault=f"{name.name} is no image")
                continue
            if self.settings.paced:
                self._wait_until(begun_s + k / rate_hz)
            self._last_s = base_s + k / rate_hz
            decoded_s = self.platform.monotonic_s()
            self._put(Frame(self._last_s, k, image, decoded_s))
        if not self.health.received:
            raise SensingError(f"none of the {len(names)} images in the folder can be read")

    def _play_stream(self) -> None:
        s = self.settings
        with self._opened() as container:
            if not container.streams.video:
                raise SensingError("there is no video in it")
            stream = container.streams.video[0]
            require_bounded(stream.width or 0, stream.height or 0)  # before any is decoded
            # threads over frames add delay, and take time from the detector
            stream.thread_type = "SLICE"
            stream.codec_context.options = BOUNDED
            rate_hz = float(stream.average_rate or stream.guessed_rate or CONTAINER_RATE_HZ)
            kind = container.format.name
            has_times = kind != WITHOUT_TIMES
            # what is as long as it says, or is waited for, does not come in its own time
            is_judged = self.lossy and not container.duration and kind not in IN_PARTS
            self.nominal_hz = rate_hz if has_times or not s.live else s.rate_hz
            self._set(
                connections=self.health.connections + 1, fault="", length=int(stream.frames or 0)
            )
            playback = Playback(
                rate_hz=rate_hz,
                base_s=self._base_s(rate_hz),
                begun_s=self.platform.monotonic_s(),
                clock=LiveClock(),
                limit=RateLimit(s.rate_hz),
                has_times=has_times and not self._stamps_are_wrong,
                pace=StampPace() if is_judged else None,
            )
            for frame in self._decoded(container, stream):
                if self._stop.is_set():
                    return
                self._play_frame(frame, playback)
            self._require_whole(container, stream, playback)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """The container. Raises what FFmpeg raises, SensingError, OSError."""
        s = self.settings
        hardware = hardware_decoder() if s.hardware else None
        if not s.live:
            yield from self._opened_file(hardware)
            return
        timeout_s = (s.silent_s, s.silent_s)
        if s.networks is None:
            with av.open(s.url, options=LIVE_OPTIONS, timeout=timeout_s, hwaccel=hardware) as box:
                yield box
            return
        self._connections = connections = Connections(Door(s.networks), s.silent_s)
        if self._stop.is_set():  # before there was anything to end
            connections.end()
        opened = self._opened_rtsp if s.url.startswith("rtsp") else self._opened_http
        try:
            yield from opened(connections, hardware)
        except (av.error.FFmpegError, SensingError):
            if not connections.fault:
                raise
        if connections.fault:
            raise SensingError(connections.fault)

    def _opened_file(self, hardware: Any) -> Iterator[Any]:
        s = self.settings
        if s.networks is None:
            with av.open(s.url, options={}, timeout=None, hwaccel=hardware) as container:
                yield container
            return
        with (
            Path(s.url).open("rb") as file,
            av.open(
                file,
                options=NO_PROTOCOL | BOUNDED,
                timeout=None,
                hwaccel=hardware,
                io_open=_no_other_file,
            ) as container,
        ):
            yield container

    def _opened_rtsp(self, connections: Connections, hardware: Any) -> Iterator[Any]:
        s = self.settings
        with closing(connections.rtsp(s.url)) as relay:
            self._relayed = relay.url
            with av.open(
                relay.url,
                options=LIVE_OPTIONS | TCP_ALONE | BOUNDED,
                timeout=(s.silent_s, s.silent_s),
                hwaccel=hardware,
            ) as container:
                yield container

    def _opened_http(self, connections: Connections, hardware: Any) -> Iterator[Any]:
        s = self.settings
        with closing(connections.http(s.url)) as stream:
            try:
                with av.open(
                    stream,
                    options=LIVE_OPTIONS | NO_PROTOCOL | AFRESH | BOUNDED,
                    timeout=(s.silent_s, s.silent_s),
                    hwaccel=hardware,
                    io_open=lambda url, _, options: connections.part(url, options),
                ) as container:
                    yield container
            except av.error.InvalidDataError:
                if stream.is_unseekable_mp4 and not connections.fault:
                    raise SensingError(INDEX_AT_END) from None
                raise

    def _fault(self, error: Exception) -> str:
        """In words. Libraries name the address with its password."""
        s, words = self.settings, _explained(error)
        for url in filter(None, (self._relayed, s.url)):
            words = words.replace(url, s.display_url)
        return f"{s.display_url}: {masked(words)}"

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """The frames of a stream; packets that cannot be decoded are counted as broken."""
        for packet in container.demux(stream):
            if self._connections is not None:
                self._connections.expect_packet()
            try:
                frames = packet.decode()
            except av.error.InvalidDataError as error:
                fault = self._fault(error)
                self._set(broken=self.health.broken + 1, fault=fault)
                continue
            yield from frames

    def _play_frame(self, frame: Any, playback: Playback) -> None:
        """Give a decoded frame its time, and hand it out unless the requested rate is exceeded."""
        s = self.settings
        require_bounded(frame.width, frame.height)
        timed = frame.time is not None
        at_s = float(frame.time) if timed else playback.number / playback.rate_hz
        playback.advance(at_s, joined=not s.live)
        wall_s: float | None = 0.0
        if s.live:
            wall_s = self._wall_time_s(playback, at_s, timed)
            at_s = self._last_s if wall_s is None else wall_s
            early_s = at_s - self.platform.wall_s() - AHEAD_S
            if early_s > 0.0:  # a film by HTTP, or stamps that are no time
                self._wait_until(self.platform.monotonic_s() + early_s)
        else:
            if s.paced:
                self._wait_until(playback.begun_s + playback.played_s)
            at_s = playback.base_s + playback.played_s
            self._set(clock="stream" if timed else "rate")
        self._last_s = at_s
        if wall_s is not None and playback.limit.admits(at_s):
            decoded_s, epoch = self.platform.monotonic_s(), self._wall_steps.epoch
            self._put(Frame(at_s, playback.number, bgr_image(frame), decoded_s, epoch))
        else:
            self._set(received=self.health.received + 1, skipped=self.health.skipped + 1)
        playback.number += 1

    def _wall_time_s(self, playback: Playback, stamp_s: float, timed: bool) -> float | None:
        """Wall time of a live stream's frame, by its stamp where that is a time, else by its
        arrival; None for one that arrives late. Where the wall clock was set, it is followed at
        once: what controllers report of the signals is by the new time, too.
        """
        before_s, wall_s = self.platform.monotonic_s(), self.platform.wall_s()
        begins_anew = self._wall_steps.found(before_s, wall_s, self.platform.monotonic_s())
        pace = playback.pace if timed and playback.has_times else None
        if pace is not None and pace.is_slow(stamp_s, before_s):
            self._stamps_are_wrong, playback.has_times, begins_anew = True, False, True
            self._wall_steps.epoch += 1  # times by the stamps cannot be compared with what follows
        by_stamps = timed and playback.has_times
        self._set(clock="stream" if by_stamps else "arrival")
        stream_s = stamp_s if by_stamps else before_s
        if begins_anew:
            playback.clock, playback.limit = LiveClock(), RateLimit(self.settings.rate_hz)
            self._last_s = -np.inf
        at_s = max(playback.clock.wall_time_s(stream_s, wall_s), self._last_s)
        return None if not by_stamps and playback.arrivals.is_late(before_s) else at_s

    def _require_whole(self, container: Any, stream: Any, playback: Playback) -> None:
        """Raises SensingError for a stream without a frame, and for a file that is cut short."""
        number = playback.number
        if not number:
            raise SensingError("there is not one frame in it")
        if self.settings.live:
            return
        if stream.frames and number < WHOLE_FRAMES * stream.frames:
            raise SensingError(f"it is cut short: {number} of {stream.frames} frames could be read")
        # with other streams beside it, sound may go on alone
        lasts_s = 0.0
        if container.duration and len(container.streams) == 1 and not stream.frames:
            lasts_s = container.duration / 1e6
        if playback.played_s < WHOLE_LENGTH * lasts_s - LENGTH_SLACK_S:
            raise SensingError(
                f"it is cut short: {playback.played_s:.1f} of {lasts_s:.1f} s could be read"
            )

    def _base_s(self, rate_hz: float) -> float:
        """Time of the first frame of a file: after the last of the run before."""
        return self._last_s + 1.0 / rate_hz if self.health.received else 0.0

    def _wait_until(self, at_s: float) -> None:
        """By the monotonic clock, or until it is stopped."""
        self._stop.wait(max(0.0, at_s - self.platform.monotonic_s()))

    def _put(self, frame: Frame) -> None:
        """Hand out a frame: in place of older ones where the source is lossy, else when there is
        room.
        """
        rate_hz = self._rate_hz(self.platform.monotonic_s())
        with self._changed:
            dropped = self._make_room()
            if self._stop.is_set():
                return
            self._waiting.append(frame)
            self.health = replace(
                self.health,
                state="running",
                received=self.health.received + 1,
                dropped=self.health.dropped + dropped,
                rate_hz=rate_hz,
                size=(frame.image.shape[1], frame.image.shape[0]),
            )
            self._changed.notify_all()
        if self.on_change is not None:
            self.on_change()

    def _make_room(self) -> int:
        """How many frames were dropped for it."""
        if not self.lossy:
            self._changed.wait_for(
                lambda: len(self._waiting) < self.settings.buffer or self._stop.is_set()
            )
            return 0
        room = 1 if self.settings.policy == "latest" else self.settings.buffer
        dropped = 0
        while len(self._waiting) >= room:
            self._waiting.popleft()
            dropped += 1
        return dropped

    def _rate_hz(self, now_s: float) -> float:
        """Frames a second over the last seconds, with one that arrives now."""
        self._times.append(now_s)
        recent = [t for t in self._times if now_s - t <= RATE_SPAN_S]
        if recent[-1] <= recent[0]:
            return 0.0
        return (len(recent) - 1) / (recent[-1] - recent[0])

    def _set(self, **changes: Any) -> None:
        with self._changed:
            self.health = replace(self.health, **changes)

    def _end(self, state: str, fault: str) -> None:
        with self._changed:
            self.health = replace(self.health, state=state, fault=fault or self.health.fault)
            self._changed.notify_all()
        if self.on_change is not None:
            self.on_change()


def sampled(
    url: str, count: int, reduced: Callable[[Image], Image] = lambda image: image
) -> list[Image]:
    """Images of one size, evenly spread over a file or folder: `count` at most, as far as they can
    be read; each `reduced` at once, since so many whole ones take much memory.
    """
    path, found = Path(url), list[Image]()
    if path.is_dir():
        names = image_files(path)
        for name in names[:: max(len(names) // count, 1)][:count]:
            with suppress(SensingError):  # too large, which is told when it is played
                image = read_image(name)
                found += [reduced(image)] if image is not None else []
    elif not path.is_fifo():  # what a pipe has given is gone
        with suppress(av.error.FFmpegError, OSError, SensingError), av.open(url) as box:
            found += (reduced(image) for image in _spread(box, count))
    return [image for image in found if image.shape == found[0].shape]


def _spread(container: Any, count: int) -> Iterator[Image]:
    """Images evenly spread over a file, each later than the one before; where they are far apart,
    key frames, which can be decoded by themselves.
    """
    stream = container.streams.video[0]
    require_bounded(stream.width or 0, stream.height or 0)
    span_s = (container.duration or 0) / av.time_base / count
    begin_s = (container.start_time or 0) / av.time_base
    at_s, far_s = -np.inf, FAR_S
    for k in range(count if span_s else 0):
        requested_s = begin_s + k * span_s
        taken_s = at_s
        jumped = requested_s - at_s > far_s
        if jumped:
            container.seek(round(requested_s * av.time_base))
        for frame in container.decode(stream):
            require_bounded(frame.width, frame.height)
            at_s = frame.time if frame.time is not None else requested_s
            if jumped and at_s <= taken_s:
                far_s = np.inf  # no key frame between: from here on decode them all
            if at_s >= requested_s or (jumped and at_s > taken_s + 0.5 * span_s):
                yield bgr_image(frame)
                break


def _no_other_file(*_: Any) -> IO[bytes]:
    """For FFmpeg, which a playlist on disk would lead to any file."""
    raise SensingError("it is a list of other files. Give the video itself")


def bgr_image(frame: Any) -> Image:
    """A decoded frame as BGR; the usual format by OpenCV, which is several times as quick as
    swscale.
    """
    if frame.format.name == "yuv420p" and frame.width % 2 == 0 and frame.height % 2 == 0:
        return np.asarray(cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2BGR_I420), np.uint8)
    return np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def hardware_decoder() -> Any:
    """A hardware decoder where the machine has one; it falls back to software for what it
    cannot.
    """
    for kind, device in (("cuda", "/dev/nvidia0"), ("vaapi", "/dev/dri/renderD128")):
        with suppress(ImportError, ValueError, RuntimeError):
            from av.codec.hwaccel import HWAccel, hwdevices_available

            if Path(device).exists() and kind in hwdevices_available():
                return HWAccel(kind, allow_software_fallback=True)
    return None


def _explained(error: Exception) -> str:
    """What failed, in plain words."""
    known = {
        "InvalidDataError": "this is no video that can be decoded "
        "(empty, cut short, or another kind of file)",
        "FileNotFoundError": "there is no such file",
        "ConnectionRefusedError": "no server answers there",
        "HTTPUnauthorizedError": "the user name or the password is wrong",
        "HTTPNotFoundError": "there is no such stream",
        "TimeoutError": "it does not answer in time",
        "ExitError": "it does not answer in time",
    }
    return known.get(type(error).__name__, str(error))
