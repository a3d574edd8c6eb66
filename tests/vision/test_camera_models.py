"""Fetching a model, byte by byte, from a real server that breaks off, cannot resume,
or has another file; and the errors reported.
"""

from __future__ import annotations

import hashlib
import http.server
import threading
from dataclasses import replace

import pytest
from tests.ports import closed_port

from headway.sensing import SensingError
from headway.vision.detection import models as catalogue
from headway.vision.detection.models import ModelFile, fetch, file_sha256, known, verify

BODY = bytes(range(256)) * 800  # 204,800 bytes: three pieces of 65,536 and a rest
MODEL = ModelFile(
    "net", "http://127.0.0.1:9/none", "MIT", hashlib.sha256(BODY).hexdigest(), "a test"
)


class Server:
    """asked: the Range of each request. body, until: what is sent, and how much of it.
    resumes: it can go on. length: it says how long it is.
    """

    def __init__(self):
        self.asked, one = [], self
        self.again()

        class Door(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                one.asked.append(self.headers.get("Range"))
                begin = (
                    int(self.headers["Range"][6:-1])
                    if self.headers.get("Range") and one.resumes
                    else 0
                )
                self.send_response(one.status or (206 if begin else 200))
                if one.length:
                    self.send_header("Content-Length", str(len(one.body) - begin))
                self.end_headers()
                self.wfile.write(one.body[begin : one.until])

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/net"

    def again(self):
        self.asked.clear()
        self.body, self.until, self.resumes, self.length, self.status = BODY, None, True, True, 0


@pytest.fixture(scope="module")
def running():
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


@pytest.fixture
def server(running):
    running.again()
    return running


def refused(folder, url, model=MODEL):
    with pytest.raises(SensingError) as caught:
        fetch(model, folder, url)
    return str(caught.value)


def test_a_download_gets_its_name_when_it_is_complete(server, tmp_path):
    steps, folder = [], tmp_path / "new" / "folder"
    path = fetch(MODEL, folder, server.url, lambda done, whole: steps.append((done, whole)))
    assert path == folder / "net.onnx"
    assert path.read_bytes() == BODY
    assert steps == [(65536, 204800), (131072, 204800), (196608, 204800), (204800, 204800)]
    assert server.asked == [None]
    assert [p.name for p in folder.iterdir()] == ["net.onnx"]
    assert fetch(MODEL, folder, server.url) == path
    assert server.asked == [None]  # it is there already
    path.write_bytes(b"old")
    fetch(MODEL, folder, server.url)
    assert (path.read_bytes(), len(server.asked)) == (BODY, 2)


def test_the_default_address_is_the_publishers(server, tmp_path):
    assert fetch(replace(MODEL, url=server.url), tmp_path).read_bytes() == BODY
    assert fetch(replace(MODEL, url=server.url), tmp_path / "b", "").read_bytes() == BODY


def test_a_broken_download_resumes_and_reports_total_progress(server, tmp_path):
    server.until = 100_000
    assert refused(tmp_path, server.url) == (
        f"{server.url}: it broke off after 100000 of 204800 bytes. The same command resumes there."
    )
    assert (tmp_path / "net.onnx.part").read_bytes() == BODY[:100_000]
    server.until, steps = None, []
    path = fetch(MODEL, tmp_path, server.url, lambda done, whole: steps.append((done, whole)))
    assert server.asked == [None, "bytes=100000-"]
    assert path.read_bytes() == BODY
    assert steps == [(165536, 204800), (204800, 204800)]


def test_a_server_without_ranges_restarts_the_download(server, tmp_path):
    (tmp_path / "net.onnx.part").write_bytes(b"x" * 1000)
    server.resumes = False
    steps = []
    assert (
        fetch(MODEL, tmp_path, server.url, lambda done, whole: steps.append(done)).read_bytes()
        == BODY
    )
    assert (server.asked, steps[0]) == (["bytes=1000-"], 65536)


def test_a_download_of_unknown_size_is_accepted(server, tmp_path):
    server.length, steps = False, []
    assert (
        fetch(
            MODEL, tmp_path, server.url, lambda done, whole: steps.append((done, whole))
        ).read_bytes()
        == BODY
    )
    assert steps[-1] == (204800, 0)


def test_a_file_with_another_hash_is_deleted(server, tmp_path):
    server.body = b"x" + BODY[1:]
    wrong = hashlib.sha256(server.body).hexdigest()
    says = (
        f"{server.url}: the file received has the sha256 {wrong}, not {MODEL.sha256}. "
        "It was deleted: another file may have been put there."
    )
    assert refused(tmp_path, server.url) == says
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "kept"), [(404, True), (503, True), (415, True), (417, True), (416, False)]
)
def test_http_errors_are_reported_and_a_part_as_long_as_the_whole_restarts(
    server, tmp_path, status, kept
):
    (tmp_path / "net.onnx.part").write_bytes(b"part")
    server.status = status
    says = (
        f"{server.url}: the server answers {status}. Try again later, "
        f"or put the file at {tmp_path / 'net.onnx'} yourself."
    )
    assert refused(tmp_path, server.url) == says
    assert (tmp_path / "net.onnx.part").exists() == kept


def test_an_unreachable_or_invalid_address_is_reported_with_a_remedy(tmp_path):
    with closed_port() as port:
        urls = (f"http://127.0.0.1:{port}/net", "no address")
        reported = [refused(tmp_path, url) for url in urls]
    for url, says in zip(urls, reported, strict=True):
        assert says.startswith(f"{url}: ")
        assert says.endswith(
            ". Nothing is lost: the same command resumes where it broke off; "
            f"or put the file at {tmp_path / 'net.onnx'} yourself."
        )


def test_a_file_is_checked_against_its_hash(tmp_path):
    path = tmp_path / "net.onnx"
    with pytest.raises(SensingError) as caught:
        verify(MODEL, path)
    assert str(caught.value) == f"{path}: it is not there. Fetch it: `headway models fetch net`"
    path.write_bytes(b"hello")
    assert file_sha256(path) == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    with pytest.raises(SensingError) as caught:
        verify(MODEL, path)
    assert str(caught.value) == (
        f"{path}: its sha256 is {file_sha256(path)}, it should be {MODEL.sha256}. "
        "Delete it and fetch it again."
    )
    path.write_bytes(BODY)
    verify(MODEL, path)


def test_the_known_models():
    (nano,) = catalogue.MODELS
    assert known("yolox_nano") is nano
    assert (nano.name, nano.licence) == ("yolox_nano", "Apache-2.0 (Megvii)")
    assert (
        nano.url
        == "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_nano.onnx"
    )
    assert nano.sha256 == "e8af074932d4ed7e232278e3055cefcdea3edf178874a3694ae292649fb464dd"
    with pytest.raises(SensingError) as caught:
        known("yolo")
    assert (
        str(caught.value) == "no model 'yolo'. There are: yolox_nano; or give a file of your own."
    )
    with pytest.raises(AttributeError):
        nano.url = "x"
