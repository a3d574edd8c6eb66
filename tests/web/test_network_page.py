"""The page in a real browser where the network is slow, silent or back again, and beside other
pages.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from urllib.parse import urlsplit

import pytest
from tests.api.service import serving
from tests.sensing.scenes import along, film

from headway.api import hub

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="NO BROWSER HERE: the page is not tested; install Debian's chromium",
    ),
]


class Wire:
    """Between a browser and a server. `cut` silences all connections that there are, as where a
    router has lost them: nobody is told, and nothing passes.
    """

    def __init__(self, url):
        self._to = urlsplit(url)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._ends = []
        self._dead = set()
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        self._dead |= set(self._ends)

    def close(self):
        for one in (self._listening, *self._ends):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection((self._to.hostname, self._to.port))
                self._ends += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source in self._dead:
                    return
                target.sendall(data)
            if source not in self._dead:
                target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    (folder / "media").mkdir()
    film(folder / "media" / "clip.mp4", along(speed_px=120.0, start=-200), 6.0)
    with serving(folder) as running:
        with running.client("engineer") as client:
            for name in ("north", "south"):
                camera = {"id": name, "source": "clip.mp4", "repeat": True}
                assert client.post("/streams", json=camera).status_code == 201
        yield running


@pytest.fixture
def page():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--headless", "--disable-background-networking"],
        )
        yield browser.new_page(viewport={"width": 1200, "height": 1000})
        browser.close()


def test_a_connection_that_is_silent_is_seen_and_made_anew(served, page, monkeypatch):
    """The page said "live" for ever, over figures that stood still."""
    monkeypatch.setattr(hub, "HEARTBEAT_S", 0.3)

    def impatient(route):
        script = route.fetch()
        route.fulfill(response=script, body=script.text().replace("= 45_000", "= 3000"))

    page.route("**/js/api.js", impatient)
    wire = Wire(served.url)
    try:
        page.goto(f"{wire.url}/#token={served.token('viewer')}")
        page.wait_for_selector("#link.on", timeout=60_000)
        page.wait_for_timeout(4000)
        assert page.inner_text("#link") == "live", "it is not silent"
        wire.cut()
        page.wait_for_selector("#link.off", timeout=30_000)
        page.wait_for_selector("#link.on", timeout=60_000)
    finally:
        wire.close()


def watch(page, served, camera):
    page.goto(f"{served.url}/#token={served.token('engineer')}")
    page.click("#tab-cameras")
    page.click(f"#camera-rows button:text-is('{camera}')")
    page.wait_for_function(
        "() => document.getElementById('camera-view').width === 320", timeout=60_000
    )


def draw_line(page, name):
    box = page.locator("#camera-view").bounding_box()
    page.fill("#draw-name", name)
    page.click("#draw-line")
    for y in (0.3, 0.7):
        page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + y * box["height"])


def lines(served, camera):
    with served.client("engineer") as client:
        return [line["name"] for line in client.get(f"/streams/{camera}/site").json()["lines"]]


def put_line(served, camera, name):
    site = {"size": [320, 240], "lines": [{"name": name, "px": [[10, 10], [10, 90]]}]}
    with served.client("engineer") as client:
        assert client.put(f"/streams/{camera}/site", json=site).status_code == 200


def test_a_line_is_added_to_what_another_page_has_drawn_meanwhile(served, page):
    """All that the other page had drawn was gone."""
    put_line(served, "north", "first")
    watch(page, served, "north")
    put_line(served, "north", "of another page")
    draw_line(page, "mine")
    page.wait_for_function("() => document.getElementById('said').textContent.includes('mine is')")
    assert lines(served, "north") == ["of another page", "mine"]


def test_what_could_not_be_read_is_not_written_over(served, page):
    """With a site that did not come the first line that was drawn erased all others."""
    put_line(served, "north", "first")
    page.route(
        "**/cameras/north/site",
        lambda route: (
            route.fulfill(status=503, json={"detail": "not now"})
            if route.request.method == "GET"
            else route.continue_()
        ),
    )
    watch(page, served, "north")
    draw_line(page, "mine")
    page.wait_for_function("() => document.getElementById('said').textContent === 'not now'")
    assert lines(served, "north") == ["first"]


def test_the_lines_of_a_camera_are_its_own_however_late_they_come(served, page):
    """Those of the camera that was chosen before, on a slow network, were drawn on this one's
    picture, and saved as its own.
    """
    put_line(served, "north", "of north")
    put_line(served, "south", "of south")
    held = []
    page.route("**/cameras/north/site", lambda route: held.append(route))
    page.goto(f"{served.url}/#token={served.token('engineer')}")
    page.click("#tab-cameras")
    page.click("#camera-rows button:text-is('north')")
    page.click("#camera-rows button:text-is('south')")
    page.wait_for_function(
        "() => document.getElementById('camera-view').width === 320", timeout=60_000
    )
    assert held, "the site of north is still on its way"
    views = []
    page.on("request", lambda request: views.append(request.url))
    for route in held:
        route.continue_()
    page.wait_for_timeout(2000)
    assert not [url for url in views if url.endswith("/cameras/north/view")]
    draw_line(page, "mine")
    page.wait_for_function("() => document.getElementById('said').textContent.includes('mine is')")
    assert lines(served, "south") == ["of south", "mine"]
