"""Short rendered scenes for the tests: boxes on a noisy road, with known positions."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time

import cv2
import numpy as np

from headway.sensing.output.overlay import VideoWriter
from headway.vision.frames.sources import Frame

SIZE = (320, 240)
SITE = {
    "size": list(SIZE),
    "points": [
        {"px": [x, y], "m": [x / 10.0, (240 - y) / 10.0]}
        for x, y in ((20, 20), (300, 20), (300, 220), (20, 220), (160, 120))
    ],
}


def road(seed=0):
    return (
        np.random.default_rng(seed)
        .normal(95, 4, (SIZE[1], SIZE[0], 3))
        .clip(0, 255)
        .astype(np.uint8)
    )


def scene_frames(boxes_at, seconds=6.0, rate=15.0, seed=0):
    """Frames; boxes_at(t) gives (x, y, w, h, colour) in pixels. The first second is empty."""
    random, plain = np.random.default_rng(seed), road(seed)
    for k in range(round(seconds * rate)):
        image = plain.astype(np.int16)
        for x, y, w, h, colour in boxes_at(k / rate - 1.0) if k / rate >= 1.0 else ():
            image[
                max(round(y), 0) : max(round(y + h), 0), max(round(x), 0) : max(round(x + w), 0)
            ] = colour
        yield Frame(
            k / rate, k, (image + random.normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8)
        )


def film(path, boxes_at, seconds=6.0, rate=15.0):
    out = VideoWriter(path, rate)
    for frame in scene_frames(boxes_at, seconds, rate):
        out.write(frame.image)
    out.close()
    return path


def along(y=100.0, speed_px=60.0, w=45, h=20, colour=(40, 60, 200), start=-45.0, stop_at=None):
    """One vehicle from left to right; it stands where it is told to."""

    def at(t):
        x = start + speed_px * t
        return [(min(x, stop_at) if stop_at is not None else x, y, w, h, colour)]

    return at


@contextlib.contextmanager
def camera(frames, every_s=0.02, repeat=False):
    """A network camera on this machine that shows the frames as MJPEG; its address."""
    shots, over = [bytes(cv2.imencode(".jpg", f.image)[1]) for f in frames], threading.Event()

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with contextlib.suppress(OSError):
                while not over.is_set():
                    for shot in shots:
                        self.wfile.write(
                            b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                            % len(shot)
                            + shot
                            + b"\r\n"
                        )
                        time.sleep(every_s)
                    if not repeat:
                        break

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
