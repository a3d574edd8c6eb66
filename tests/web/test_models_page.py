"""The models of the page in a real browser: who decides, versions, jobs; deploy and roll back by
role. On a street without a simulation, which obeys at once.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from tests.api.service import serving
from tests.api.streets import SNAPSHOT, standing

from headway.learning.jobs import Jobs
from headway.street.messages import Deploy, Rollback
from headway.values import Event

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
MODELS = {
    "controller": "own@2",
    "champion": {"model": "own@2", "name": "own", "version": 2, "kind": "planner", "sha256": "0"},
    "before": "own@1",
    "resting": "",
    "canary": None,
    "shadow": {
        "model": "own@1", "name": "own", "version": 1, "kind": "planner", "sha256": "0",
        "junctions": ["360082"], "ticks": 40, "disagreement": 0.125,
        "disagreement_by_junction": {"360082": 0.125}, "predicted_delay_s": 41.5,
        "champion_predicted_delay_s": 39.25, "ms": 0.5, "share_of_tick": 0.2,
    },
}  # fmt: skip


def register(services):
    parent = None
    for number in (1, 2):
        parent = services.registry.add(
            f"planner:\n  horizon_s: {60 + number}.0\n".encode(),
            name="own",
            kind="planner",
            made_from={"seeds": [1, 2]},
            metrics={"change": -0.05, "change_95": [-0.07, -0.03], "p": 0.01},
            parent=parent,
            by="ann",
        ).id
    job = {"scenario": "cologne3", "name": "own"}
    jobs = Jobs(services.database)
    jobs.enqueue("train", "headway", job, "ann")
    jobs.beat(jobs.take("w"), 0.5, "episode 5 of 10")


def test_who_decides_is_seen_and_changed_by_engineers_alone(tmp_path, new_record):
    from playwright.sync_api import sync_playwright

    made = lambda tell, intake: standing("headway", "baseline", tell=tell)  # noqa: E731
    with serving(tmp_path, made, new_record()) as running, sync_playwright() as playwright:
        services = running.app.state.services
        register(services)
        street = services.street_service.streets["headway"]
        street.snapshot = replace(SNAPSHOT, controller="own@2", models=MODELS)
        street.engine.on_order = lambda order: services.street_service._handle(
            street, Event(25300.0, "engine.order_applied", "", {"id": order.id})
        )
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--headless", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{running.url}/#token={running.token('viewer')}")
        page.click("#tab-models")
        page.wait_for_selector("#job-rows tr")
        champion, shadow, _ = page.locator("#decider-rows tr").all_inner_texts()
        assert "champion\town@2\tall junctions\tbefore: own@1" in champion
        assert "shadow\town@1\t360082\tticks 40, disagreement 0.125" in shadow
        assert "predicted delay s 41.5, champion predicted delay s 39.25" in shadow
        newest, first = page.locator("#model-rows tr").all_inner_texts()
        metrics = "change -0.05 (95 %: -0.07 to -0.03), p 0.01"
        assert newest.startswith(f"own@2\tplanner\t{metrics}\tseeds 1, 2\town@1\tann, ")
        assert "\t–\tann, " in first
        (job,) = page.locator("#job-rows tr").all_inner_texts()
        assert "episode 5 of 10" in job
        assert page.evaluate("document.querySelector('#job-rows progress').value") == 0.5
        assert page.locator("#models button:visible").count() == 0
        for part in ("models", "jobs"):  # as while the database is away
            page.route(
                f"**/api/v1/ml/{part}*",
                lambda route: route.fulfill(status=503, json={"detail": "away"}),
            )
        page.wait_for_function("() => said.textContent === 'away'")
        assert page.locator("#model-rows tr").count() == 2
        assert page.locator("#job-rows tr").count() == 1
        assert not page.locator("#model-none").is_visible()
        assert not page.locator("#job-none").is_visible()
        page.unroute_all()
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
        page.set_viewport_size({"width": 1300, "height": 1000})

        page.goto("about:blank")
        page.goto(f"{running.url}/#token={running.token('engineer')}")
        page.click("#tab-models")
        page.fill("#deploy-junctions", "360082")
        page.click("#model-rows tr:last-child button")
        page.wait_for_function("() => said.textContent === 'headway: deploy own@1 (applied)'")
        page.select_option("#deploy-mode", "all")
        page.click("#model-rows tr:first-child button")
        page.wait_for_function("() => said.textContent === 'headway: deploy own@2 (applied)'")
        page.click("#decider-rows tr:nth-child(2) button")
        page.wait_for_function("() => said.textContent === 'headway: rollback shadow (applied)'")
        first, second = (services.registry.file(services.registry.get(n)) for n in (1, 2))
        assert street.engine.orders == [
            Deploy("shadow", first, ("360082",), by="a-engineer"),
            Deploy("all", second, by="a-engineer"),
            Rollback("shadow", (), "a-engineer", "own@1"),
        ]
        page.click("#job-rows button")
        page.wait_for_function("() => said.textContent === 'job 1: ends soon'")

        page.fill("#job-scenario", "cologne3")
        page.fill("#job-name", "<b>Own</b>")
        page.click("#job-form button")
        page.wait_for_function("() => said.textContent.includes('name')")
        page.fill("#job-name", "tuned")
        page.click("#job-form button")
        page.wait_for_function("() => said.textContent === 'job 2: waiting'")
        page.select_option("#job-kind", "evaluate")
        assert page.locator("#job-name").is_hidden()
        page.fill("#job-controllers", "fixed, own@1")
        page.fill("#job-seeds", "7, 8")
        page.select_option("#job-street", "baseline")
        page.click("#job-form button")
        page.wait_for_function("() => said.textContent === 'job 3: waiting'")
        jobs = Jobs(services.database)
        tune, evaluate = jobs.job(2), jobs.job(3)
        assert (tune.kind, tune.street, tune.asked_by) == ("tune", "headway", "a-engineer")
        assert (tune.arguments["scenario"], tune.arguments["name"]) == ("cologne3", "tuned")
        assert (evaluate.kind, evaluate.street) == ("evaluate", "baseline")
        assert evaluate.arguments["controllers"] == ["fixed", "own@1"]
        assert evaluate.arguments["seeds"] == [7, 8]
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
        assert Jobs(services.database).job(1).cancel_by == "a-engineer"
        assert faults == []
        browser.close()
