"""Rows A7 and A8: limits, congestion, and orders that do not wait for the tick."""

from __future__ import annotations

import contextlib
import json
import queue
import statistics
import threading
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tests.safety.copies import many
from tests.waiting import until

from headway.client import Headway
from headway.plants.sumo import SumoSettings, read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import GO, STREET, work_out
from headway.safety import SafetyGate
from headway.settings import Settings
from headway.street.congestion import CongestionDetector
from headway.street.limits import timing_of
from headway.street.opening import open_street
from headway.values import Observation, Proposal, Vehicles

ROUNDS = 7  # of three orders
# spread over the second of a tick
PAUSES_S = (0.03, 0.2, 0.37)


@pytest.fixture(scope="module")
def at_real_time(serve):
    """A service at the pace of real time, without the fixed-time street."""
    with serve(
        "--scenario", "cologne1", "--speed-factor", "1", "--no-baseline", "--per-minute", "0"
    ) as product:
        yield product


@contextlib.contextmanager
def listening(client, topic="monitoring"):
    """A queue of (time of arrival s, message), from now on."""
    heard = queue.SimpleQueue()
    messages = client.listen(topic)

    def hear():
        for message in messages:
            heard.put((time.perf_counter(), message))

    threading.Thread(target=hear, daemon=True).start()
    yield heard


def time_of(heard, kind):
    """When the next event of the kind arrived. Raises queue.Empty after a minute without any."""
    while True:
        at_s, message = heard.get(timeout=60.0)
        if message.get("data", {}).get("kind") == kind:
            return at_s


@pytest.mark.row("A8")
def test_a8_an_order_is_obeyed_at_once_at_the_pace_of_real_time(at_real_time, figures):
    """`POST streets/{name}/junctions/{junction}/override` at speed factor 1: the event
    `safety.override` is on the live socket within milliseconds, whatever is left of the tick.
    """
    with Headway(at_real_time.url, at_real_time.token) as client, listening(client) as heard:
        until(lambda: client.streets()[0]["started"], 120.0)
        junction = client.streets()[0]["junctions"][0]["id"]
        orders = {
            "safety.override": lambda k: client.override("headway", junction, "hold", lasts_s=9),
            "safety.override_released": lambda k: client.override("headway", junction, "release"),
            "engine.controller": lambda k: client.controller(
                "headway", "webster" if k % 2 else "actuated"
            ),
        }
        answer_s, event_s = [], []
        for k in range(ROUNDS):
            for kind, order in orders.items():
                time.sleep(PAUSES_S[k % len(PAUSES_S)])
                begun_s = time.perf_counter()
                order(k)
                answer_s.append(time.perf_counter() - begun_s)
                event_s.append(time_of(heard, kind) - begun_s)
        client.controller("headway", "planner")
    figures.add("order to its answer, worst of 21", 1e3 * max(answer_s), "ms", "< 200 ms")
    figures.add("order to its event, median", 1e3 * statistics.median(event_s), "ms", "< 500 ms")
    figures.add("order to its event, worst of 21", 1e3 * max(event_s), "ms", "< 500 ms")


LIMITED = "252017285"
LIMITS = f"""
street: {{scenario: cologne8}}
control: {{controller: webster}}
safety:
  limits: {{max_cycle_s: 100}}
  junctions:
    {LIMITED}: {{min_green_s: 14, max_cycle_s: 60}}
"""


def events_of(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


@pytest.mark.row("A7")
def test_a7_limits_are_set_for_the_street_and_for_a_junction_and_each_correction_is_an_event(
    headway, tmp_path
):
    """`headway run --config FILE` with a section `safety`: events `safety.maximum_cycle` and the
    like have the limit that was set; an unknown junction is refused with those that there are.
    """
    config = tmp_path / "settings.yaml"
    config.write_text(LIMITS)
    run = ("run", "--config", str(config), "--data", str(tmp_path / "data"), "--until", "25800")
    done = headway(*run)
    assert done.returncode == 0, done.stderr
    found = {}
    for event in events_of(tmp_path / "data"):
        if event["kind"] == "safety.maximum_cycle":
            found.setdefault((event["kind"], event["junction"] == LIMITED), set()).add(
                event["data"]["limit_s"]
            )
    assert found["safety.maximum_cycle", True] == {60.0}

    config.write_text(LIMITS.replace(LIMITED, "nowhere"))
    refused = headway(*run)
    assert refused.returncode != 0
    assert "no junction 'nowhere'" in refused.stderr
    assert LIMITED in refused.stderr


class Wants:
    """Wants the stage of the one junction that `pick` returns for each second."""

    name = "wants"

    def __init__(self, network, pick):
        self.stages, self.pick = network.junctions[0].stages, pick

    def start(self, observation):
        return None

    def step(self, observation, state):
        wanted = self.stages[self.pick(int(observation.at_s)) % len(self.stages)]
        return Proposal(observation.at_s, self.name, np.array(wanted, np.int8), np.ones(1)), None


@pytest.mark.row("A7")
@pytest.mark.parametrize(
    ("pick", "corrected"),
    [
        (lambda second: second, {("safety.minimum_green", 12.0), ("safety.minimum_cycle", None)}),
        (lambda _: 0, {("safety.maximum_green", 50.0), ("safety.maximum_cycle", 110.0)}),
    ],
    ids=["another each second", "always the same"],
)
def test_a7_a_controller_that_breaks_the_limits_is_corrected_with_an_event(pick, corrected):
    """Events `safety.minimum_green`, `safety.maximum_green`, `safety.minimum_cycle` and
    `safety.maximum_cycle`, with the limit that is set, where a controller wants another stage each
    second, or always the same one.
    """
    limits = {"min_green_s": 12, "max_green_s": 50, "max_cycle_s": 110}
    settings = Settings.model_validate({"safety": {"limits": limits}})
    of = scenario("cologne1")
    network = read_network(of.net)
    events = []
    street = open_street(
        network=network,
        timing=timing_of(settings, network),
        sumo=SumoSettings(of.sumocfg),
        controller="fixed",
        record=events.append,
    )
    try:
        street.set_controller(Wants(network, pick))
        shown = []
        for _ in range(300):
            street.tick()
            shown.append(street.gate.shown.copy())
    finally:
        street.plant.close()
    rules = [e for e in events if e.kind.startswith(("safety.minimum", "safety.maximum"))]
    assert {(e.kind, e.data.get("limit_s")) for e in rules} >= corrected
    greens = list(lengths_of_greens(shown))
    assert min(greens) >= 12


def lengths_of_greens(shown):
    """Seconds of each green of each group that began and ended; the first of a group is left out,
    as it may have begun before.
    """
    for group in (np.array(shown) >= GO).T:
        changes = np.flatnonzero(np.diff(group)) + 1
        for begin, end in pairwise(changes):
            if group[begin]:
                yield end - begin


def with_roads(network, copies):
    """Lanes and links for each copy of the junction too."""
    count, own = len(network.lanes), len(network.groups) // copies
    lanes, links = [], []
    for k in range(copies):
        lanes += [replace(lane, edge=f"{lane.edge}.{k}") for lane in network.lanes]
        links += [
            replace(
                link,
                from_lane=link.from_lane + k * count,
                to_lane=link.to_lane + k * count,
                group=link.group + k * own if link.group >= 0 else -1,
            )
            for link in network.links
        ]
    return replace(network, lanes=tuple(lanes), links=tuple(links))


@pytest.mark.row("A7")
def test_a7_a_thousand_junctions_are_checked_and_their_congestion_is_found(figures):
    """The gate checks every junction each second; `traffic.congestion` comes with the observation
    that shows it.
    """
    network = with_roads(many(read_network(scenario("cologne1").net), 1000), 1000)
    groups, lanes = len(network.groups), len(network.lanes)
    gate = SafetyGate(network, work_out(network, STREET), 0.0)
    detector = CongestionDetector(network)
    random, sure = np.random.default_rng(1), np.ones(1000)
    approaches = np.flatnonzero(detector.lanes["approach"] >= 0)
    full = approaches.astype(np.int32)
    n = len(full)
    lengths_m = np.array([network.lanes[k].length_m for k in full])
    queue_ = Vehicles(
        full, np.full(n, -1, np.int32), lengths_m - 5.0, np.zeros(n), np.full(n, 60.0),
        np.full(n, 5.0), np.zeros(n, bool),
    )  # fmt: skip
    checks_s, finds_s, congested = [], [], []
    for second in range(60):
        at_s = float(second)
        seen = Observation(
            at_s, queue_, gate.shown.copy(), np.zeros(groups), np.full(lanes, np.inf),
            np.zeros(lanes, np.int32), np.zeros(len(network.links), np.int32),
            np.zeros(groups, np.int32), np.ones(1000),
        )  # fmt: skip
        begun_s = time.perf_counter()
        congested += detector.update(seen)
        found_s = time.perf_counter()
        wanted = np.concatenate(
            [j.stages[random.integers(len(j.stages))] for j in network.junctions]
        )
        checked_from_s = time.perf_counter()
        gate.admit(Proposal(at_s, "story", wanted, sure), at_s, seen)
        checks_s.append(time.perf_counter() - checked_from_s)
        finds_s.append(found_s - begun_s)
    assert {change.approach for change in congested} == set(detector.names)
    check_s, find_s = max(checks_s[2:]), max(finds_s[2:])
    figures.add("1,000 junctions checked, worst of 58 ticks", check_s, "s", "< 3 s")
    figures.add("check of a junction, mean of 1,000", check_s, "ms", "< 50 ms")
    figures.add("congestion of 1,000 junctions found", 1e3 * find_s, "ms", "< 100 ms")
