"""Rows B6 and B7: forms of live data for front ends, and the demo in a browser."""

from __future__ import annotations

import base64
import json
import shutil
import zlib

import httpx
import pytest
from tests.waiting import until
from websockets.sync.client import connect

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
STREET_PATH = "/api/v1/engine/streets/headway"


def first_message(product, **query):
    """Of the live topic `realtime`, and its length in bytes."""
    words = httpx.QueryParams({"token": product.token, "street": "headway"} | query)
    with connect(f"{product.url.replace('http', 'ws')}/ws/realtime?{words}") as socket:
        text = socket.recv(timeout=60.0)
    return json.loads(text), len(text)


@pytest.mark.row("B6")
def test_b6_forms_and_compression(product, figures):
    """`/ws/realtime?format=dashboard`, `chart` or `table`; with `compress=1` a large message comes
    as base64 of zlib.
    """
    whole, long = first_message(product)
    packed, short = first_message(product, compress="1")
    unpacked = json.loads(zlib.decompress(base64.b64decode(packed["data"])))
    assert unpacked.keys() == whole["data"].keys()
    figures.add("a compressed message against a plain one", short / long)

    dashboard, chart, table = (
        first_message(product, format=name)[0]["data"] for name in ("dashboard", "chart", "table")
    )
    assert dashboard.keys() == whole["data"].keys()
    assert chart["x"] >= 25200.0, "simulated seconds"
    assert chart["y"].keys() >= {"vehicles", "stopped"}
    assert [len(row) for row in table["rows"]] == [len(table["columns"])], "one junction"


@pytest.mark.row("B7")
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER HERE: install Debian's chromium")
def test_b7_the_demo_in_a_browser(product):
    """`make demo`, or the link that `headway serve` prints: two moving streets side by side,
    optimisation on or off, its interval, charts, figures and their export.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, product.http() as client:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--headless", "--disable-background-networking"],
        )
        page = browser.new_page()
        page.goto(f"{product.url}/#token={product.token}")
        page.wait_for_selector("#figures tbody tr", timeout=60_000)
        page.wait_for_function("() => window.headway.latest.headway?.scene?.id.length > 0")
        frames = page.evaluate("window.headway.maps.headway.frames")
        page.wait_for_function(f"() => window.headway.maps.headway.frames > {frames}")
        assert page.locator(".uplot").count() == 4, "charts of both streets"

        page.uncheck("#optimise")
        until(lambda: client.get(STREET_PATH).json()["controller"] == "fixed")
        page.check("#optimise")
        until(lambda: client.get(STREET_PATH).json()["controller"] == "planner")
        page.fill("#cycle", "20")
        page.dispatch_event("#cycle", "change")
        page.wait_for_function("() => document.getElementById('said').textContent.includes('20')")

        for button, name in (("#export-csv", "headway.csv"), ("#export-png", "headway-charts.png")):
            with page.expect_download() as download:
                page.click(button)
            assert download.value.suggested_filename == name
        browser.close()
