"""Cameras over checked connections: HTTP with redirects and passwords, RTSP through the relay,
against servers that speak these protocols on this machine.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import socket
import threading
import time

import av
import cv2
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from tests.ports import free_port
from tests.vision.rtsp import HAS_RTSP, rtsp, stop

from headway.vision import SensingError
from headway.vision.frames import guarded, sources
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


def playing(request):
    """As a camera of RTSP that plays at once."""
    head = b"RTSP/1.0 200 OK\r\nCSeq: NUMBER\r\nPublic: DESCRIBE, SETUP, PLAY\r\nSession: 1\r\n"
    if request.startswith(b"SETUP"):
        return head + b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
    if not request.startswith(b"DESCRIBE"):
        return head + b"\r\n"
    said = b"v=0\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    kind = b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n" % len(said)
    return head + kind + said


def part_of_a_picture(number):
    """RFC 6184, 5.8: of one that begins, and never ends; interleaved, RFC 2326, 10.12."""
    rtp = b"\x80\x60" + number.to_bytes(2, "big") + b"\0\0\0\1\0\0\0\2"
    part = rtp + bytes([0x7C, 0x85 if not number else 0x05]) + b"\x55" * 60_000
    return b"$\0" + len(part).to_bytes(2, "big") + part


@pytest.mark.parametrize(
    "endless",
    [
        b"".join(map(part_of_a_picture, range(64))),
        b"RTSP/1.0 200 OK\r\nCSeq: 99\r\nContent-Length: 2000000000\r\n\r\n" + b"\0" * (4 << 20),
    ],
    ids=["picture", "answer"],
)
def test_what_a_camera_of_rtsp_sends_without_an_end_takes_little_memory(monkeypatch, endless):
    monkeypatch.setattr(guarded, "PACKET_AT_MOST", 1 << 20)

    def answer(request):
        return playing(request) + (endless if request.startswith(b"PLAY") else b"")

    with answering(answer) as port:
        assert "more than 1 MiB without" in fault_or_frames(f"rtsp://127.0.0.1:{port}/x")


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


# --- cameras that never end


@contextlib.contextmanager
def camera_that(sends):
    """A camera of HTTP: `sends(connection)` after each request, with its address."""
    server = socket.create_server(("127.0.0.1", 0))

    def one(held):
        with held, contextlib.suppress(OSError):
            held.recv(65536)
            sends(held)

    def work():
        with contextlib.suppress(OSError):
            while True:
                held, _ = server.accept()
                threading.Thread(target=one, args=(held,), daemon=True).start()

    threading.Thread(target=work, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


PICTURES = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


def drip(connection, first):
    """A byte at a time, each long before the camera would count as silent."""
    connection.sendall(first)
    while True:
        connection.sendall(b"a")
        time.sleep(0.02)


def test_a_camera_that_drips_its_answer_does_not_answer_in_time(monkeypatch):
    monkeypatch.setattr(guarded, "ANSWER_WITHIN_S", 0.2)
    with camera_that(functools.partial(drip, first=b"HTTP/1.1 200 OK\r\nX: ")) as url:
        assert "it does not answer in time" in fault_or_frames(url)


def test_a_camera_that_drips_a_picture_sends_none(monkeypatch):
    monkeypatch.setattr(guarded, "PACKET_WITHIN_S", 0.2)
    with camera_that(functools.partial(drip, first=PICTURES)) as url:
        assert "it sends no picture within 0.2 s" in fault_or_frames(url)


def test_a_picture_without_an_end_takes_no_more_memory_than_the_largest(monkeypatch):
    monkeypatch.setattr(guarded, "PACKET_AT_MOST", 1 << 20)
    sent = []

    def endless(connection):
        connection.sendall(PICTURES + b"--frame\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8")
        for _ in range(64):
            connection.sendall(b"\0" * (1 << 20))
            sent.append(1)

    with camera_that(endless) as url:
        assert "more than 1 MiB without a picture" in fault_or_frames(url)
    assert len(sent) < 64


def test_the_page_of_a_redirect_is_not_read(web):
    """It may have no end."""
    sent = []

    def elsewhere(connection):
        where = b"Location: http://127.0.0.1:%d/\r\n\r\n" % web.server_port
        connection.sendall(b"HTTP/1.1 302 Found\r\n" + where)
        for _ in range(64):
            connection.sendall(b"x" * (1 << 20))
            sent.append(1)

    with camera_that(elsewhere) as url:
        assert fault_or_frames(url) == 5
    assert len(sent) < 64


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 OK\r\nX: ", PICTURES])
def test_a_camera_that_is_stopped_leaves_no_thread_and_no_connection(first):
    reached, gone = threading.Event(), threading.Event()

    def drips(connection):
        reached.set()
        try:
            drip(connection, first)
        finally:
            gone.set()

    with camera_that(drips) as url:
        source = FrameSource(SourceSettings(url, silent_s=30.0, networks=HERE))
        source.start()
        assert reached.wait(30)
        source.stop()
        assert not source._thread.is_alive()
        assert source.health.state == "idle"
        assert gone.wait(30)


def test_a_playlist_that_names_itself_comes_to_an_end(web):
    asked = []

    def itself(connection):
        asked.append(1)
        text = b"#EXTM3U\n" + b"#EXT-X-STREAM-INF:BANDWIDTH=1\nx.m3u8\n" * 2
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n"
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(text) + text)

    with camera_that(itself) as url:
        assert "more than 200 others" in fault_or_frames(f"{url}.m3u8")
    assert len(asked) <= 200


# --- films over HTTP, and lists of files


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """An MP4 whose index stands at its end, larger than what FFmpeg keeps of a stream."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as box:
        stream = box.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.bit_rate = 10_000_000
        noise = np.random.default_rng(1)
        for _ in range(50):
            image = noise.integers(0, 256, (120, 160, 3), np.uint8)
            box.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        box.mux(stream.encode())
    data = path.read_bytes()
    assert data.rindex(b"moov") > 400_000
    return path


def filming(data, in_parts):
    """A server of one file, in parts where it is asked for them and does that."""

    class File(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.headers.get("Range"))
            begin = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
            self.send_response(206 if self.headers.get("Range") else 200)
            self.send_header("Content-Type", "video/mp4")
            if in_parts:
                self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(data) - begin))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(data[begin:])

        def log_message(self, *args):
            pass

    return File


def test_a_film_over_http_whose_index_is_at_its_end_is_read_in_parts(web, film):
    web.RequestHandlerClass = filming(film.read_bytes(), in_parts=True)
    assert fault_or_frames(f"http://127.0.0.1:{web.server_port}/film.mp4") == 5
    assert web.asked[0] is None
    assert len(web.asked) > 1


def test_where_the_server_gives_no_parts_the_fault_says_what_to_do(web, film):
    web.RequestHandlerClass = filming(film.read_bytes(), in_parts=False)
    fault = fault_or_frames(f"http://127.0.0.1:{web.server_port}/film.mp4")
    assert "-movflags +faststart" in fault
    assert web.asked == [None]


@pytest.mark.parametrize("where", ["http", "disk"])
def test_no_decoder_makes_a_picture_that_is_too_large(web, film, monkeypatch, where):
    """Of a header of some bytes it would take gigabytes before anybody has seen its size."""
    monkeypatch.setattr(sources, "BOUNDED", {"max_pixels": "10000"})  # of 19,200
    web.RequestHandlerClass = filming(film.read_bytes(), in_parts=True)
    url = f"http://127.0.0.1:{web.server_port}/film.mp4" if where == "http" else str(film)
    assert isinstance(fault_or_frames(url), str)
    monkeypatch.setattr(sources, "BOUNDED", {"max_pixels": "200000"})
    assert fault_or_frames(url) == 5


KEY, VECTOR = bytes(range(16)), bytes(range(16, 32))
ENCRYPTED = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:20
#EXT-X-KEY:METHOD=AES-128,URI="the.key",IV=0x{iv}
#EXTINF:{length},
film.ts
#EXT-X-ENDLIST
"""


def serving_files(files, asked):
    """What gives these files, by name, and notes which it was asked for."""

    class Files(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = files[self.path.removeprefix("/")]
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    return Files


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    """A second of film, as a part of a playlist."""
    path = tmp_path_factory.mktemp("part") / "film.ts"
    with av.open(str(path), "w", format="mpegts") as box:
        stream = box.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(25):
            image = np.full((120, 160, 3), 8 * number, np.uint8)
            box.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        box.mux(stream.encode())
    return path.read_bytes()


def encrypted(content):
    """By RFC 8216, 4.3.2.4."""
    padding = PKCS7(128).padder()
    cipher = Cipher(AES(KEY), CBC(VECTOR)).encryptor()
    return cipher.update(padding.update(content) + padding.finalize()) + cipher.finalize()


@pytest.mark.parametrize("size", [1, 7, 16, 100, 188, 1 << 16])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 188 * 40, 100_000])
def test_an_encrypted_part_is_read_as_it_was_whatever_comes_at_once(size, length):
    content = np.random.default_rng(length).bytes(length)
    stream = io.BytesIO(encrypted(content))
    plain = guarded.Decrypted(stream, KEY, VECTOR)
    assert b"".join(iter(lambda: plain.read(size), b"")) == content
    plain.close()
    assert stream.closed


@pytest.mark.parametrize("rest", [b"", b"x", bytes(15), bytes(17)])
def test_an_encrypted_part_that_was_cut_off_ends(rest):
    plain = guarded.Decrypted(io.BytesIO(rest), KEY, VECTOR)
    assert len(b"".join(iter(lambda: plain.read(100), b""))) <= 16


def test_a_playlist_with_encrypted_parts_is_read(web, part):
    listed = ENCRYPTED.format(iv=VECTOR.hex(), length=10).encode()
    files = {"x.m3u8": listed, "film.ts": encrypted(part), "the.key": KEY}
    web.RequestHandlerClass = serving_files(files, web.asked)
    assert fault_or_frames(f"http://127.0.0.1:{web.server_port}/x.m3u8") == 5
    assert set(web.asked) == {"/x.m3u8", "/the.key", "/film.ts"}


def test_the_key_of_a_playlist_is_fetched_by_the_same_door(web, part):
    """Nothing that is not allowed is connected to for it, and no file of this machine is read."""
    other = socket.create_server(("127.0.0.2", 0))
    other.setblocking(False)
    for key in (f"http://127.0.0.2:{other.getsockname()[1]}/k", "file:///etc/hostname"):
        listed = ENCRYPTED.replace("the.key", key).format(iv=VECTOR.hex(), length=10).encode()
        files = {"x.m3u8": listed, "film.ts": encrypted(part)}
        web.RequestHandlerClass = serving_files(files, web.asked)
        assert fault_or_frames(f"http://127.0.0.1:{web.server_port}/x.m3u8") != 5
    with other, pytest.raises(BlockingIOError):
        other.accept()


LISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile {}\n",
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 26\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_on_disk_leads_to_no_other_file(tmp_path, film, name):
    path = tmp_path / name
    path.write_text(LISTS[name].format(film))
    assert isinstance(fault_or_frames(str(path), ()), str)


def test_a_film_on_disk_is_read_as_ever(film):
    assert fault_or_frames(str(film), ()) == 5
