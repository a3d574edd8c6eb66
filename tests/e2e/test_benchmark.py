"""The benchmark's figures are what the definition says, computed here anew from SUMO's trip records and the route file."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from headway.engine.benchmark import Job, run_all
from headway.learning.statistics import interval, paired_p
from headway.roads.catalogue import scenario

pytestmark = pytest.mark.slow

KEYS = {
    "scenario", "controller", "seed", "timing", "sensing", "scale", "delay_s", "waiting_s", "duration_s", "arrived", "unfinished", "never_entered",
    "stops", "fuel_g", "co2_g", "person_waiting_s", "safety_violations", "wall_s", "decision_ms_p99",
}  # fmt: skip


def headway(*arguments, timeout=300):
    return subprocess.run([sys.executable, "-m", "headway", *arguments], capture_output=True, text=True, timeout=timeout, check=False)


def test_the_figures_follow_the_definition_of_delay(tmp_path):
    done = headway(
        "bench",
        "--scenario",
        "cologne1",
        "--controller",
        "fixed,planner",
        "--seeds",
        "5",
        "--json",
        str(tmp_path / "b.json"),
        "--keep",
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert "planner" in done.stdout
    results = {r["controller"]: r for r in json.loads((tmp_path / "b.json").read_text())}
    of = scenario("cologne1")
    wished = {v.get("id"): float(v.get("depart")) for v in ET.parse(of.routes[0]).getroot() if v.tag in ("trip", "vehicle")}
    for controller, result in results.items():
        assert set(result) >= KEYS
        trips = list(ET.parse(tmp_path / f"cologne1-{controller}-5.tripinfo.xml").getroot().iter("tripinfo"))
        entered = {t.get("id") for t in trips}
        late = [of.end_s - d for v, d in wished.items() if v not in entered and of.begin_s <= d < of.end_s]
        total = sum(float(t.get("timeLoss")) + float(t.get("departDelay")) for t in trips) + sum(late)
        assert result["delay_s"] == pytest.approx(total / (len(trips) + len(late)), rel=2e-3)
        assert result["safety_violations"] == 0
        assert result["arrived"] + result["unfinished"] == len(trips)
        assert abs(result["never_entered"] - len(late)) <= 1
    assert results["planner"]["delay_s"] < 0.6 * results["fixed"]["delay_s"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("bench", "--controller", "magic"), 2, "no controller"),
        (("bench", "--seeds", "x"), 2, "whole numbers"),
        (("bench", "--scenario", "nowhere"), 1, "There are: cologne1"),
        (("bench", "--sensing", "smell"), 2, "no sensing"),
        (("run", "--scenario", "nowhere"), 1, "There are: cologne1"),
        (("run", "--config", "none.yaml"), 1, "none.yaml"),
        (("run", "--controller", "magic"), 1, "control.controller"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_a_wrong_call_says_why_in_a_line_and_with_its_status(arguments, status, said):
    done = headway(*arguments)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_scenarios_are_listed_with_their_figures():
    done = headway("scenarios")
    assert done.returncode == 0
    assert "ingolstadt21" in done.stdout
    assert "25200" in done.stdout


def test_statistics_are_those_of_the_text_book():
    found = interval([10.0, 12.0, 14.0])
    assert (found.mean, found.n) == (12.0, 3)
    assert found.half_width == pytest.approx(4.303 * 2 / 3**0.5, abs=1e-2)
    assert paired_p([10, 11, 12.3], [20, 22.0, 24]) < 1e-3
    assert paired_p([1.0, 2.0], [1.0, 2.0]) == 1.0
    with pytest.raises(ValueError, match="no values"):
        interval([])


@pytest.mark.parametrize("sensing", ["camera", "loops"])
def test_lesser_equipment_degrades_gently(sensing):
    jobs = [Job("cologne1", "fixed", 4), Job("cologne1", "planner", 4, sensing=sensing)]
    delay = {r.controller: r.delay_s for r in run_all(jobs, 2)}
    assert delay["planner"] < 0.6 * delay["fixed"]
