"""Cameras over checked connections: HTTP with redirects and passwords, RTSP through the relay,
against servers that speak these protocols on this machine.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import socket
import threading
import time

import cv2
import numpy as np
import pytest
from tests.ports import free_port
from tests.vision.rtsp import HAS_RTSP, rtsp, stop

from headway.vision import SensingError
from headway.vision.frames.addresses import networks
from headway.vision.frames.guarded import REDIRECTED
from headway.vision.frames.sources import FrameSource, SourceSettings

HERE = networks(["127.0.0.1/32"])
SHOT = cv2.imencode(".jpg", np.full((120, 160, 3), 90, np.uint8))[1].tobytes()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization", "")))
        status, headers = self.server.answers.get(self.path.partition("?")[0], (200, {}))
        if self.path == "/locked" and self.headers.get("Authorization"):
            status, headers = 200, {}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(500 if status == 200 else 0):
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                self.wfile.write(head % len(SHOT) + SHOT + b"\r\n")
                time.sleep(0.02)  # as a camera does, which gives frames in their own time

    def log_message(self, *args):
        pass


@pytest.fixture
def web():
    """A camera of HTTP: answers by path (status, headers), and what was asked of it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.answers = [], {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fault_or_frames(url, allowed=HERE):
    source = FrameSource(
        SourceSettings(url, policy="queue", attempts=1, silent_s=5.0, networks=allowed)
    )
    count = 0
    try:
        for _ in source.frames():
            count += 1
            if count == 5:
                break
    except SensingError as error:
        return str(error)
    return count


def test_a_camera_of_http_is_read_where_its_address_is_allowed(web):
    assert fault_or_frames(f"http://127.0.0.1:{web.server_port}/") == 5


def test_an_address_that_is_not_allowed_is_never_connected_to(web):
    fault = fault_or_frames(f"http://me:S3CRET@127.0.0.1:{web.server_port}/", ())
    assert "is loopback" in fault
    assert "S3CRET" not in fault
    assert web.asked == []


def test_a_redirect_is_followed_under_the_same_check(web):
    web.answers["/there"] = (302, {"Location": "/stream"})
    assert fault_or_frames(f"http://127.0.0.1:{web.server_port}/there") == 5
    web.answers["/away"] = (302, {"Location": "http://127.0.0.2:9/"})
    assert "127.0.0.2 is loopback" in fault_or_frames(f"http://127.0.0.1:{web.server_port}/away")
    web.answers["/file"] = (302, {"Location": "file:///etc/passwd"})
    assert "302" in fault_or_frames(f"http://127.0.0.1:{web.server_port}/file")


def test_a_playlist_leads_nowhere_that_is_not_allowed(web):
    """Its parts are opened by the same door, and by nobody else."""
    listed = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.2:{}/x.ts\n"
    other = socket.create_server(("127.0.0.2", 0))
    other.setblocking(False)

    class List(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            text = listed.format(other.getsockname()[1]).encode() + b"#EXT-X-ENDLIST\n"
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.apple.mpegurl")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args):
            pass

    web.RequestHandlerClass = List
    assert isinstance(fault_or_frames(f"http://127.0.0.1:{web.server_port}/x.m3u8"), str)
    with other, pytest.raises(BlockingIOError):
        other.accept()


def test_a_password_goes_to_its_camera_and_to_no_other(web):
    web.answers["/locked"] = (401, {"WWW-Authenticate": 'Basic realm="north"'})
    url = f"http://me:p%40ss@127.0.0.1:{web.server_port}"
    assert fault_or_frames(f"{url}/locked") == 5
    assert web.asked[-1] == ("/locked", "Basic " + base64.b64encode(b"me:p@ss").decode())
    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    other.asked, other.answers = [], {"/": (401, {"WWW-Authenticate": 'Basic realm="north"'})}
    threading.Thread(target=other.serve_forever, daemon=True).start()
    web.answers["/away"] = (302, {"Location": f"http://127.0.0.1:{other.server_port}/"})
    assert "the user name or the password is wrong" in fault_or_frames(f"{url}/away")
    assert other.asked == [("/", "")]
    other.shutdown()
    other.server_close()


@contextlib.contextmanager
def answering(answer):
    """A server of one connection that says `answer` to each request; its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def work():
        with contextlib.suppress(OSError):
            held, _ = server.accept()
            with held:
                while request := held.recv(65536):
                    number = request.partition(b"CSeq: ")[2].partition(b"\r\n")[0]
                    held.sendall(answer(request).replace(b"NUMBER", number))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize(
    "status",
    [b"RTSP/1.0 302 Found", b"RT\rSP/1.0 \t00302 x", b"RTSP/x +301 y", b"RTSP/1.0 4294967598 z"],
)
@pytest.mark.parametrize("first", [b"OPTIONS", b"DESCRIBE"])
def test_a_camera_of_rtsp_cannot_send_its_reader_elsewhere(status, first):
    """FFmpeg would follow it; each spelling is one that FFmpeg reads as a redirect."""
    elsewhere = socket.create_server(("127.0.0.2", 0))
    elsewhere.setblocking(False)
    away = b"rtsp://127.0.0.2:%d/x" % elsewhere.getsockname()[1]
    found = status + b"\r\nCSeq: NUMBER\r\nLocation: " + away + b"\r\n\r\n"
    fine = b"RTSP/1.0 200 OK\r\nCSeq: NUMBER\r\nPublic: DESCRIBE, SETUP, PLAY\r\n\r\n"
    with answering(lambda request: found if request.startswith(first) else fine) as port:
        assert REDIRECTED in fault_or_frames(f"rtsp://me:S3CRET@127.0.0.1:{port}/x")
    with elsewhere, pytest.raises(BlockingIOError):
        elsewhere.accept()


def test_faults_of_rtsp_name_neither_the_password_nor_the_relay():
    answer = b"RTSP/1.0 404 Not Found\r\nCSeq: NUMBER\r\n\r\n"
    with answering(lambda request: answer) as port:
        fault = fault_or_frames(f"rtsp://me:S3CRET@127.0.0.1:{port}/x?token=T0KEN")
    assert fault.startswith(f"rtsp://***@127.0.0.1:{port}/x?***: ")
    assert "S3CRET" not in fault
    assert "T0KEN" not in fault
    assert "no server answers there" in fault_or_frames(f"rtsp://127.0.0.1:{free_port()}/x")


@pytest.mark.skipif(not HAS_RTSP, reason="NO RTSP SERVER")
def test_a_camera_of_rtsp_is_read_through_the_relay():
    port = free_port()
    server = rtsp(port)
    try:
        assert fault_or_frames(f"rtsp://me:secret@127.0.0.1:{port}/ball") == 5
        assert "is loopback" in fault_or_frames(f"rtsp://127.0.0.1:{port}/ball", ())
    finally:
        stop(server)
    assert not [t for t in threading.enumerate() if t.name.startswith("relay")]
