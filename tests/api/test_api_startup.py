"""The port before the application behind it has started: it says what is starting."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import threading
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from headway.api.startup import StartingApp


async def play(app, script):
    """Run the lifespan of `app` around `script`."""
    inbox, sent = asyncio.Queue(), asyncio.Queue()
    life = asyncio.create_task(app({"type": "lifespan"}, inbox.get, sent.put))
    await inbox.put({"type": "lifespan.startup"})
    assert (await sent.get())["type"] == "lifespan.startup.complete"
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        await script(client)
    await inbox.put({"type": "lifespan.shutdown"})
    assert (await sent.get())["type"] == "lifespan.shutdown.complete"
    await life


def test_it_answers_at_once_says_what_starts_and_becomes_the_application():
    opened, log = threading.Event(), []

    @asynccontextmanager
    async def lifespan(_):
        log.append("in")
        yield
        log.append("out")

    def make():
        assert opened.wait(10.0)
        app = FastAPI(lifespan=lifespan)
        app.get("/health")(lambda: {"status": "ok"})
        return app

    app = StartingApp(make, log.append)

    async def script(client):
        health, ready, other = [await client.get(p) for p in ("/health", "/health/ready", "/x")]
        assert (health.status_code, health.json()["status"]) == (200, "starting")
        assert (ready.status_code, ready.json()["starting"]) == (503, ["database"])
        assert (other.status_code, other.headers["retry-after"]) == (503, "2")
        assert other.json()["detail"] == "the service is starting: database"
        assert other.headers["content-type"] == "application/problem+json"
        opened.set()
        while app.starting:
            await asyncio.sleep(0.01)
        assert (await client.get("/health")).json() == {"status": "ok"}

    asyncio.run(play(app, script))
    assert log == ["in", "out"]


def test_a_browser_that_comes_too_early_gets_a_page_and_all_others_the_problem():
    opened = threading.Event()

    def make():
        assert opened.wait(60.0)
        return FastAPI()

    async def script(client):
        browser = {"accept": "text/html,application/xhtml+xml;q=0.9"}
        page = await client.get("/", headers=browser)
        assert (page.status_code, page.headers["retry-after"]) == (503, "2")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "Now: database." in page.text
        (script,) = re.findall("<script>(.*)</script>", page.text)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in page.headers["content-security-policy"]
        for call in (
            client.get("/"), client.post("/", headers=browser), client.get("/x", headers=browser)
        ):  # fmt: skip
            assert (await call).headers["content-type"] == "application/problem+json"
        opened.set()

    asyncio.run(play(StartingApp(make, print), script))


@pytest.mark.parametrize("fault", [RuntimeError("no database"), OSError("no disk")])
def test_a_start_that_fails_is_reported_with_its_error(fault):
    failed = []

    def make():
        raise fault

    async def script(client):
        while not failed:
            await asyncio.sleep(0.01)
        assert (await client.get("/health/ready")).status_code == 503

    asyncio.run(play(StartingApp(make, failed.append), script))
    assert failed == [fault]


def test_a_socket_is_asked_to_come_again_later():
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(StartingApp(FastAPI, print)({"type": "websocket"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1013}]


def test_a_socket_is_told_503_where_its_server_can_refuse_with_an_answer():
    """403, as for one that is closed, would say that its credentials are no good."""
    sent = []

    async def send(message):
        sent.append(message)

    extensions = {"websocket.http.response": {}}
    scope = {"type": "websocket", "path": "/ws/alerts", "extensions": extensions}
    asyncio.run(StartingApp(FastAPI, print)(scope, None, send))
    start, body = sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
    assert dict(start["headers"])[b"retry-after"] == b"2"
    assert body["type"] == "websocket.http.response.body"
    assert json.loads(body["body"])["detail"] == "the service is starting: database"
