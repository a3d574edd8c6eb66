"""Streets of any name on the page, in a real browser: chosen, operated, come and gone."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from tests.api.service import serving
from tests.api.streets import SNAPSHOT, standing

from headway.service.streets import StreetService

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("page"),
    pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER HERE: the page is not tested"),
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--headless", "--disable-background-networking"],
        )


@pytest.fixture
def page(browser):
    opened, faults = browser.new_page(viewport={"width": 1300, "height": 1000}), []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    assert faults == []
    opened.close()


def say(service, name, time_s):
    """What the street reports in each of its turns."""
    street = service.streets[name]
    service._handle(street, replace(SNAPSHOT, time_s=time_s))


def choices(page):
    return page.locator("#which-street option").all_inner_texts()


def test_each_street_can_be_chosen_and_is_operated_by_its_name(browser, page, tmp_path):
    made = lambda tell, intake: standing("elm", "oak-2", tell=tell)  # noqa: E731
    with serving(tmp_path, made) as running:
        service = running.app.state.services.street_service
        page.goto(f"{running.url}/#token={running.token('engineer')}")
        page.wait_for_selector("#link >> text=live")
        assert choices(page) == ["elm", "oak-2"]
        assert page.inner_text("#name-main") == "elm"
        assert not page.is_visible("#figure-other")
        say(service, "oak-2", 25490.0)
        say(service, "elm", 25310.0)
        page.wait_for_selector("#time-main >> text=planner, 110 s")
        assert page.inner_text("#figures thead").split() == ["elm"]
        assert "elm" in page.inner_text("#chart-stopped")

        page.select_option("#which-street", "oak-2")
        page.wait_for_selector("#name-main >> text=oak-2")
        page.wait_for_selector("#link >> text=live")
        say(service, "oak-2", 25500.0)
        page.wait_for_selector("#time-main >> text=planner, 300 s")
        assert page.input_value("#which-street") == "oak-2"
        page.click("#pause")
        page.wait_for_function("() => said.textContent.startsWith('oak-2')")
        assert len(service.streets["oak-2"].engine.orders) == 1
        assert service.streets["elm"].engine.orders == []
        with page.expect_download() as saved:
            page.click("#export-csv")
        assert saved.value.suggested_filename == "headway.csv"
        page.click("#tab-models")
        assert page.locator("#deploy-street option").all_inner_texts() == ["elm", "oak-2"]

        service.streets = service.streets | standing("ash").streets
        page.wait_for_selector("#which-street option:nth-child(3)", state="attached")
        assert page.locator("#which-street option:checked").inner_text() == "oak-2"

        page.goto(f"{running.url}/?street=gone")
        page.wait_for_function("() => said.textContent.startsWith('There is no street gone')")


def test_a_street_that_begins_after_the_page_was_opened_is_shown(page, tmp_path):
    with serving(tmp_path, lambda tell, intake: StreetService(tell)) as running:
        page.goto(f"{running.url}/#token={running.token('viewer')}")
        page.wait_for_selector("#link >> text=live")
        assert not page.is_visible("#tab-street")
        service = running.app.state.services.street_service
        service.streets = standing("elm").streets
        page.wait_for_selector("#name-main >> text=elm", timeout=60_000)
        assert page.is_visible("#tab-street")
        assert not page.is_visible("#which")


def test_fixed_time_stands_beside_the_street_of_its_scenario_whatever_its_name(page, tmp_path):
    made = lambda tell, intake: standing("elm", "baseline", tell=tell)  # noqa: E731
    with serving(tmp_path, made) as running:
        service = running.app.state.services.street_service
        service.streets |= standing("oak", of="cologne1").streets
        page.goto(f"{running.url}/?street=elm#token={running.token('viewer')}")
        page.wait_for_selector("#link >> text=live")
        assert choices(page) == ["elm", "oak"]
        assert page.is_visible("#figure-other")
        page.select_option("#which-street", "oak")
        page.wait_for_selector("#name-main >> text=oak")
        page.wait_for_selector("#link >> text=live")
        assert not page.is_visible("#figure-other")
