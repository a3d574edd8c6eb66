"""The JavaScript client: each route has its method, and against a real server it does what the
Python client does, in Node and in a browser.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.api.javascript import CLIENT, NODE, STORY, TREE, generator_of_routes, in_node
from tests.api.service import serving
from tests.api.streets import standing
from tests.waiting import until

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# one server for all of them
pytestmark = pytest.mark.xdist_group("client-javascript")


@pytest.fixture(scope="module")
def generator():
    return generator_of_routes()


def test_each_route_of_the_document_has_its_method(generator):
    document = generator.document()
    written = (CLIENT / "routes.js").read_text(encoding="utf-8")
    assert written == generator.text(document), "run clients/javascript/generate.py"
    named = [(group, name) for group, name, *_ in generator.operations(document)]
    assert len(named) == len(set(named)) > 120


def test_what_the_guide_shows_is_there(generator):
    text = (CLIENT / "README.md").read_text(encoding="utf-8")
    known = {f"{group}.{name}" for group, name, *_ in generator.operations(generator.document())}
    shown = set(re.findall(r"headway\.([a-z]+\.[a-zA-Z]+)\(", text))
    assert shown <= known
    assert len(shown) > 3


class Files(http.server.SimpleHTTPRequestHandler):
    """Of this tree."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def pages():
    """Where pages of another origin than the service's come from."""
    handler = functools.partial(Files, directory=str(TREE))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Line:
    """Connections to an address, which can be cut."""

    def __init__(self, port):
        self._to, self._open = port, []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        while self._open:
            end = self._open.pop()
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self):
        self._listening.close()
        self.cut()


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_record, pages):
    with serving(
        tmp_path_factory.mktemp("javascript"),
        lambda tell, intake: standing("headway", tell=tell),
        new_record(),
        origins=(pages,),
    ) as found:
        yield found


@pytest.fixture
def line(running):
    found = Line(int(running.url.rpartition(":")[2]))
    yield found
    found.close()


@pytest.fixture(params=["node", "browser"])
def story(request):
    """Plays a function of the story, there."""
    if request.param == "node":
        if NODE is None:
            pytest.skip("NO NODE HERE: the JavaScript client is tested in a browser alone")
        yield in_node
        return
    if CHROMIUM is None:
        pytest.skip("NO BROWSER HERE: install Debian's chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--headless", "--disable-background-networking"],
        )
        page = browser.new_page()
        page.goto(f"{request.getfixturevalue('pages')}/clients/javascript/")
        play = f"async ([act, given]) => (await import('/{STORY}'))[act](given)"
        yield lambda act, given: page.evaluate(play, [act, given])
        browser.close()


@pytest.mark.slow
def test_calls_and_refusals(running, story):
    live = running.app.state.services.street_service.streets["headway"]
    live.engine.orders.clear()
    found = story("calls", {"url": running.url, "token": running.token("admin")})
    assert found["stored"] in (2, 0), "the second of the two finds them there"
    assert found["street"] == "headway"
    assert (found["records"], found["one"], found["until"]) == (2, 28.5, 1)
    assert found["csv"].startswith("simulation_id,")
    assert found["metrics"] is True
    assert (found["order"], len(live.engine.orders)) == ("accepted", 1)
    assert found["faulty"]["status"] == 422
    assert "/0/timestamp" in [fault["pointer"] for fault in found["faulty"]["faults"]]
    assert (found["missing"]["status"], "no/where" in found["missing"]["detail"]) == (404, True)
    assert found["nobody"]["status"] == 401


def test_what_is_to_come_again_later_does(story):
    found = story("repetitions", {})
    assert found["answer"] == {"good": 1}
    assert found["asked"] == [["GET", "http://x/api/v1/simulations?limit=5", ""]] * 3
    refused, times = found["endless"]
    assert (refused["status"], refused["detail"], times) == (429, "later", 4)
    refused, times = found["once"]
    assert (refused["status"], times) == (503, 1), "it might be done twice"
    answer, asked = found["keyed"]
    assert (answer, asked) == (
        {"good": 1},
        [["POST", "http://x/api/v1/cameras/c%2Fd/stop", '"k"']] * 2,
    )
    assert found["unsaid"] == [503, 1]


@contextlib.contextmanager
def redirecting():
    """An address that leads to another one, whatever is asked; what was asked for there."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            asked.append(self.command)
            self.send_response(302 if self.command != "OPTIONS" else 204)
            self.send_header("Location", "/elsewhere")
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Access-Control-Allow-Headers", "authorization")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_OPTIONS = answer  # noqa: N815

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_what_is_not_the_service_answers_no_order(story):
    with redirecting() as (address, asked):
        found = story("strangers", {"elsewhere": address})
    assert found["elsewhere"]["status"] in (0, 302)  # a browser does not say
    assert found["elsewhere"]["detail"].startswith("the address leads to ")
    assert [method for method in asked if method != "OPTIONS"] == ["POST"]
    assert (found["page"]["status"], "a page was answered" in found["page"]["detail"]) == (
        200,
        True,
    )
    assert "cannot be read" in found["cut"]["detail"]
    assert found["heard"] == ["7", 2]


@pytest.mark.slow
def test_a_stream_goes_on_after_a_break_and_ends_where_it_is_refused(running, line, story):
    """Nothing is lost, and nothing comes twice."""
    hub = running.app.state.services.hub

    def clients():
        return hub.statistics()["alerts"]["clients"]

    def speak():
        until(lambda: clients() == 1)
        for n in (1, 2, 3):
            hub.publish("alerts", "js", {"n": n})
        hub.publish("alerts", "others", {"n": 99})
        until(lambda: hub.statistics()["alerts"]["sent"] >= begun + 3)
        threading.Event().wait(0.3)  # it has come to the other side
        line.cut()
        until(lambda: clients() == 0)
        hub.publish("alerts", "js", {"n": 4})
        until(lambda: clients() == 1)
        hub.publish("alerts", "js", {"n": 5})

    until(lambda: clients() == 0)
    begun = hub.statistics()["alerts"]["sent"]
    speaking = threading.Thread(target=speak, daemon=True)
    speaking.start()
    given = {"url": line.url, "token": running.token("viewer"), "last": 5}
    found = story("stream", given | {"short": running.token("viewer", 3.0)})
    speaking.join(60)
    assert found["heard"] == [1, 2, 3, 4, 5]
    assert found["refused"] == [
        401,
        422,
        "TypeError: no stream rumours. There are: realtime, monitoring, alerts.",
    ]
    assert found["aborted"] == "AbortError"
    assert found["ended"] == 401, "with the token that it was opened with"
    until(lambda: clients() == 0)
