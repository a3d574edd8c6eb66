"""Journeys through the page, in a real browser:
watch, switch the optimisation, override a junction, see an alert, export.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections import Counter
from datetime import datetime

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from tests.api.service import serving

from headway.api.startup import StartingApp
from headway.service.streets import StreetService
from headway.settings import Settings, overridden
from headway.street.messages import Task

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("page"),
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="NO BROWSER HERE: the page is not tested; install Debian's chromium",
    ),
]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("page")

    def streets(tell, intake):
        service = StreetService(tell, intake)
        for name, by in (("headway", "planner"), ("baseline", "fixed")):
            changes = {
                "street": {"scenario": "cologne1"},
                "control": {"controller": by, "fallback": "fixed"}, "loop": {"speed_factor": 10.0},
                "recovery": {"folder": str(folder / name)},
                "alerts": {"rules": ({"name": "any", "path": "vehicles", "condition": ">=",
                    "threshold": 0.0, "level": "error"},)},
            }  # fmt: skip
            service.start(name, Task(overridden(Settings(), changes)))
        return service

    with serving(folder, streets) as running, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--headless", "--disable-background-networking", "--disable-gpu"],
        )
        yield running, browser
        browser.close()


@pytest.fixture
def page(shown):
    running, browser = shown
    opened = browser.new_page(viewport={"width": 1300, "height": 1200})
    faults = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on(
        "request",
        lambda request: (
            faults.append(request.url)
            if not request.url.startswith((running.url, "blob:", "data:", "ws:"))
            else None
        ),
    )
    opened.goto(f"{running.url}/#token={running.token('admin')}")
    opened.wait_for_function(
        "() => window.headway?.latest.headway?.started && window.headway.latest.baseline?.started",
        timeout=540_000,
    )  # the kernels may have to be compiled first
    yield opened
    assert faults == []
    opened.close()


def test_two_streets_are_seen_moving_and_compared(page):
    before = page.evaluate("window.headway.latest.headway.time_s")
    page.wait_for_function(
        f"() => window.headway.latest.headway.time_s > {before} + 5", timeout=240_000
    )
    page.wait_for_function(
        "() => window.headway.latest.headway.scene?.id.length > 0", timeout=240_000
    )
    assert page.inner_text("#link") == "live"
    frames = page.evaluate("window.headway.maps.headway.frames")
    page.wait_for_timeout(500)
    assert page.evaluate("window.headway.maps.headway.frames") > frames
    page.wait_for_selector("#figures tbody tr")
    assert "Stopped vehicles" in page.inner_text("#figures")
    assert page.locator(".uplot").count() == 4
    assert "token" not in page.url


def test_the_optimisation_is_switched_off_and_on(page):
    page.uncheck("#optimise")
    page.wait_for_function(
        "() => window.headway.latest.headway.controller === 'fixed'", timeout=30_000
    )
    page.check("#optimise")
    page.wait_for_function(
        "() => window.headway.latest.headway.controller === 'planner'", timeout=30_000
    )


def test_a_control_stays_as_it_was_set_while_its_order_is_under_way(page):
    held = []
    page.wait_for_function("() => document.getElementById('optimise').checked")
    page.route("**/optimisation", lambda route: held.append(route))
    try:
        page.evaluate("document.getElementById('optimise').click()")
        seen = page.evaluate(
            """async () => {
                const box = document.getElementById("optimise"), seen = [];
                const begin = window.headway.latest.headway.time_s;
                while (window.headway.latest.headway.time_s < begin + 4 && seen.length < 100) {
                    seen.push(box.checked);
                    await new Promise((done) => setTimeout(done, 20));
                }
                return seen;
            }"""
        )
        assert held
        assert not any(seen)
    finally:
        for route in held:
            route.continue_()
        page.unroute("**/optimisation")
        page.wait_for_function("() => window.headway.latest.headway.controller === 'fixed'")
        page.check("#optimise")
        page.wait_for_function("() => window.headway.latest.headway.controller === 'planner'")


def test_the_controls_show_what_is_in_force_whoever_ordered_it(shown, page):
    def in_force(control, value):
        page.wait_for_function(
            "([id, value]) => document.getElementById(id).value === value",
            arg=[control, value],
            timeout=30_000,
        )

    running, _ = shown
    in_force("speed-factor", "10")
    with running.client("operator") as client:
        for cycle_s, speed_factor in ((45, 15), (30, 10)):
            body = {"cycle_s": cycle_s, "speed_factor": speed_factor}
            answer = client.post("/api/v1/engine/streets/headway/optimisation", json=body)
            assert answer.status_code == 200, answer.text
            in_force("cycle", str(cycle_s))
            in_force("speed-factor", str(speed_factor))


def test_a_junction_is_overridden_and_the_event_is_seen(page):
    page.click("#tab-junctions")
    page.wait_for_selector("#junction-rows tr")
    page.click("text=Flash >> nth=0")
    page.wait_for_function("() => document.getElementById('said').textContent.includes('flash')")
    page.click("#tab-system")
    page.wait_for_selector("text=safety.override", timeout=30_000)
    page.click("#tab-junctions")
    page.wait_for_selector("#junction-rows >> text=/flash until \\d+ s, by /", timeout=30_000)
    page.click("text=Release >> nth=0")
    page.wait_for_function("() => document.getElementById('said').textContent.includes('released')")


def test_figures_of_the_system_and_events_read_as_words(page):
    page.click("#tab-system")
    page.wait_for_selector("#info dt >> text=database: schema", timeout=30_000)
    page.wait_for_selector("#info dt >> text=database: table simulation_record")
    page.wait_for_selector("#events li", timeout=30_000)
    for part in ("#info", "#events"):
        assert not set('{}[]"') & set(page.inner_text(part)), "JSON"


def test_the_sources_of_observations_are_seen(shown, page):
    running, _ = shown
    page.click("#tab-system")
    page.wait_for_selector("#source-none")
    with running.client("source") as client:
        place = client.get("/api/v1/observations/places").json()[0]
        now_s = page.evaluate("window.headway.latest.headway.time_s")
        row = {"junction": place["junction"], "approach": place["approaches"][0]["road"]}
        answer = client.post("/api/v1/observations", json=[row | {"at_s": now_s, "queue": 1}])
        assert answer.status_code == 202, answer.text
    page.wait_for_selector("#source-rows >> text=a-source", timeout=30_000)
    assert page.inner_text("#source-rows tr td:nth-child(5)") == "1"


def test_an_alert_is_seen_and_the_figures_are_exported(page):
    page.wait_for_selector("#alerts li.error", timeout=30_000)
    page.wait_for_timeout(1500)
    for button, name in (
        ("#export-csv", "headway.csv"),
        ("#export-json", "headway.json"),
        ("#export-png", "headway-charts.png"),
    ):
        with page.expect_download() as download:
            page.click(button)
        assert download.value.suggested_filename == name
        assert download.value.path().stat().st_size > 20


def test_an_open_alert_is_acknowledged_with_a_note(shown, page):
    running, _ = shown
    page.wait_for_selector("#tab-alerts >> text=/Alerts \\([1-9]/", timeout=30_000)
    page.click("#tab-alerts")
    row = page.locator("#open-alert-rows tr", has_text="any (vehicles)")
    row = row.filter(has_text="headway").first  # others may be open before it
    row.wait_for(timeout=30_000)
    page.fill("#alert-note", "on my way <b>")
    row.get_by_role("button", name="Acknowledge").click()
    page.wait_for_selector("#open-alert-rows >> text=by a-admin: on my way <b>", timeout=30_000)
    with running.client("viewer") as client:
        found = client.get("/api/v1/monitoring/alerts/open").json()
    notes = [alert["acknowledged"]["note"] for alert in found if alert["acknowledged"]]
    assert notes == ["on my way <b>"]


def test_an_alert_is_silenced_and_the_silence_ends(shown, page):
    running, _ = shown
    page.wait_for_selector("#tab-alerts >> text=/Alerts \\([1-9]/", timeout=30_000)
    page.click("#tab-alerts")
    page.fill("#alert-note", "works <i>")
    page.fill("#silence-h", "0.5")
    row = page.locator("#open-alert-rows tr", has_text="any (vehicles)").first
    source = row.locator("td").nth(1).inner_text()
    row.get_by_role("button", name="Silence").click()
    silenced = page.locator("#silence-rows tr", has_text="works <i>")
    silenced.wait_for(timeout=30_000)
    assert [t.strip() for t in silenced.locator("td").all_inner_texts()][:2] == [source, "any"]
    with running.client("viewer") as client:
        (found,) = client.get("/api/v1/monitoring/alerts/silences").json()
        assert (found["source"], found["rule"], found["reason"]) == (source, "any", "works <i>")
        lasts = datetime.fromisoformat(found["until"]) - datetime.fromisoformat(found["at"])
        assert abs(lasts.total_seconds() - 1800.0) < 1.0
        silenced.get_by_role("button", name="End").click()
        page.locator("#silence-none").wait_for(timeout=30_000)
        assert client.get("/api/v1/monitoring/alerts/silences").json() == []


def test_the_rules_of_alerts_are_shown_with_where_they_are_from(page):
    page.click("#tab-alerts")
    rule = page.locator("#rule-rows tr", has_text="street headway").first
    rule.wait_for(timeout=30_000)
    assert rule.locator("td").all_inner_texts() == [
        "any", "street headway", "vehicles >= 0", "error", "settings",
    ]  # fmt: skip
    assert page.locator("#rule-rows tr", has_text="cameras, machine").count() > 0


def test_a_page_leaves_most_of_a_minute_s_requests_to_its_user(shown):
    running, browser = shown
    page = browser.new_page()
    page.clock.install()  # its timers go on by `run_for` alone
    asked, answered = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfinished", lambda request: answered.append(request.url))
    page.on("requestfailed", lambda request: answered.append(request.url))

    def answer():
        for _ in range(3000):
            page.evaluate("0")  # playwright hears of requests while it is asked itself
            if len(asked) == len(answered):
                return
            time.sleep(0.01)
        raise AssertionError(set(asked) - set(answered))

    page.goto(f"{running.url}/#token={running.token('admin')}")
    page.wait_for_function("() => window.headway?.latest.headway?.started", timeout=540_000)
    for tab in ("street", "junctions", "cameras", "models", "alerts", "system"):
        page.click(f"#tab-{tab}")
        answer()
        before = len(asked)
        for _ in range(30):
            page.clock.run_for(1000)
            answer()
        of = asked[before:]
        # the limit is 100 a minute, and what alerts tell of is asked for at once
        assert len(of) <= 30, (tab, Counter(of))
    page.close()


def test_the_streets_are_paused_and_resumed(page):
    page.click("#pause")
    page.wait_for_selector("#time-main >> text=paused by a-admin", timeout=30_000)
    page.wait_for_selector("#time-other >> text=paused by a-admin", timeout=30_000)
    stands = page.evaluate("window.headway.latest.headway.time_s")
    assert page.inner_text("#pause") == "Resume"
    assert page.get_attribute("#pause", "title") == "paused by a-admin"
    page.click("#pause")
    page.wait_for_function(
        f"() => window.headway.latest.headway.time_s > {stands} + 1", timeout=30_000
    )
    assert page.inner_text("#pause") == "Pause"


def test_a_viewer_sees_no_buttons_that_are_not_for_them_and_keys_work(shown):
    running, browser = shown
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(f"{running.url}/")
    page.fill("#token", "nonsense")
    page.press("#token", "Enter")
    page.wait_for_selector("text=not valid")
    page.fill("#token", running.token("viewer"))
    page.press("#token", "Enter")
    page.wait_for_selector("#figures tbody tr", timeout=60_000)
    assert page.locator("#optimise").is_hidden()
    assert page.locator("#pause").is_hidden()
    page.wait_for_selector("#tab-alerts >> text=/Alerts \\([1-9]/", timeout=30_000)
    page.click("#tab-alerts")
    page.wait_for_selector("#open-alert-rows tr")
    assert page.locator("#open-alert-rows button").first.is_hidden()
    assert page.locator("#alert-note").is_hidden()
    assert page.locator("#silence-h").is_hidden()
    page.wait_for_selector("#rule-rows tr")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
    page.click("#tab-street")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
    page.focus("#tab-street")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-junctions", "aria-selected") == "true"
    dark = page.evaluate("document.documentElement.classList.contains('dark')")
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.classList.contains('dark')") is not dark
    page.close()


def test_with_credentials_that_have_ended_nothing_seems_ordered_and_one_signs_in_again(shown):
    """The switch stood as it was clicked, though the order was refused, and nobody was asked to
    sign in: one had to know that the page must be loaded again.
    """
    running, browser = shown
    page = browser.new_page()
    page.goto(f"{running.url}/#token={running.token('admin', lasts_s=25.0)}")
    page.wait_for_function("() => window.headway?.latest.headway?.started", timeout=540_000)
    page.wait_for_selector("#sign-in:not([hidden])", timeout=60_000)
    assert page.inner_text("#link") == "the credentials have expired"
    assert page.inner_text("#sign-in-error") == "the credentials have expired"
    page.click("#optimise")
    page.wait_for_selector("#said:has-text('token')")
    assert page.is_checked("#optimise")
    page.fill("#token", running.token("admin"))
    page.click("#sign-in button")
    page.wait_for_function("() => document.querySelector('#link').innerText === 'live'")
    assert page.is_hidden("#sign-in")
    page.close()


@pytest.mark.parametrize(
    ("path", "shown_as"), [("/docs", ".opblock-summary-path"), ("/redoc", "[data-section-id]")]
)
def test_the_api_s_documents_are_shown_under_the_page_s_own_policy_without_internet(
    shown, path, shown_as
):
    running, browser = shown
    opened = browser.new_page()
    faults, elsewhere = [], []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("requestfinished", lambda request: elsewhere.append(request.url))
    opened.goto(f"{running.url}{path}")
    opened.wait_for_selector(shown_as, timeout=60_000)
    for _ in range(300):  # what is not in sight may not be drawn yet
        if "/api/v1/observations" in opened.inner_text("body"):
            break
        opened.mouse.wheel(0, 400)
        opened.wait_for_timeout(100)
    assert "/api/v1/observations" in opened.inner_text("body")
    assert faults == []
    assert [x for x in elsewhere if not x.startswith((running.url, "data:", "blob:"))] == []
    opened.close()


def test_a_page_that_is_opened_too_early_comes_by_itself_with_its_token(shown):
    _, browser = shown
    ready = threading.Event()

    def make():
        assert ready.wait(120.0)
        app = FastAPI()
        app.get("/", response_class=HTMLResponse)(lambda: "<h1>There</h1>")
        return app

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(StartingApp(make, print), log_level="error"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        opened = browser.new_page()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/#token=x"
        opened.goto(address)
        assert opened.inner_text("h1") == "Headway is starting"
        ready.set()
        opened.get_by_text("There").wait_for(timeout=60_000)
        assert opened.url == address
        opened.close()
        server.should_exit = True
        thread.join(20)
