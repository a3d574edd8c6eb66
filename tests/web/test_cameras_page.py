"""The cameras of the page in a real browser:
add one, see it live, draw a line and a zone, see a violation and its evidence, remove it.
"""

from __future__ import annotations

import shutil

import pytest
from tests.api.service import serving
from tests.sensing.scenes import SITE, along, film

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


def test_a_camera_from_its_making_to_its_evidence(tmp_path):
    from playwright.sync_api import sync_playwright

    (tmp_path / "media").mkdir()
    film(tmp_path / "media" / "clip.mp4", along(speed_px=120.0, start=-200), 6.0)
    with serving(tmp_path) as running, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--headless", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{running.url}/#token={running.token('engineer')}")
        page.click("#tab-cameras")
        page.wait_for_selector("#camera-none:not([hidden])")
        page.fill("[name=id]", "north")
        page.fill("[name=source]", "clip.mp4")
        page.check("[name=repeat]")
        page.click("#camera-add button")
        page.wait_for_selector("#camera-rows tr")
        page.wait_for_function(
            "() => document.getElementById('camera-view').width === 320", timeout=30_000
        )
        box = page.locator("#camera-view").bounding_box()
        page.click("#draw-line")
        for y in (0.3, 0.7):
            page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + y * box["height"])
        page.wait_for_function(
            "() => document.getElementById('said').textContent.includes('line 1 is in force')"
        )
        page.select_option("#zone-kind", "lane")
        page.click("#draw-zone")
        for x, y in ((0.1, 0.3), (0.9, 0.3), (0.9, 0.7)):
            page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.keyboard.press("Enter")
        page.wait_for_function(
            "() => document.getElementById('said').textContent.includes('lane 1 is in force')"
        )
        page.wait_for_function(
            "() => document.getElementById('camera-figures').textContent.includes('line line 1')",
            timeout=30_000,
        )
        with running.client("engineer") as client:
            drawn = client.get("/streams/north/site").json()
            assert drawn["lines"][0]["px"] == [
                [pytest.approx(160, abs=2), pytest.approx(72, abs=2)],
                [pytest.approx(160, abs=2), pytest.approx(168, abs=2)],
            ]
            assert drawn["zones"][0]["kind"] == "lane"
            assert (
                client.put(
                    "/streams/north/site", json=SITE | {"rules": {"limit_kmh": 20.0}}
                ).status_code
                == 200
            )
        page.wait_for_selector("#violation-rows tr", timeout=40_000)
        assert "speeding" in page.inner_text("#violation-rows")
        page.click("#violation-rows tr:first-child button")
        page.wait_for_function(
            "() => [...document.querySelectorAll('#evidence img')].filter((i) => "
            "i.naturalWidth === 320).length === 3",
            timeout=20_000,
        )
        assert "speed_kmh" in page.inner_text("#evidence pre")
        assert "Candidate for review, open" in page.inner_text("#evidence p")
        page.fill("#evidence [name=note]", "seen")
        page.click("#evidence button:has-text('Confirm')")
        page.wait_for_selector("#violation-rows td:has-text('confirmed')")
        page.on("dialog", lambda dialog: dialog.accept())
        page.click("#camera-rows button:has-text('Remove')")
        page.wait_for_selector("#camera-none:not([hidden])")
        assert faults == []
        browser.close()
