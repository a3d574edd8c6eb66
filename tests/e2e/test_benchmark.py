"""The benchmark's figures are what the definition says,
computed here anew from SUMO's trip records and the route file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from math import fsum

import pytest

from headway.experiments.benchmark import Job, run
from headway.plants.sumo.scenarios import RESCO, scenario

pytestmark = pytest.mark.slow

KEYS = {
    "scenario", "controller", "seed", "timing", "sensing", "scale", "delay_s", "waiting_s",
    "duration_s", "arrived", "unfinished", "never_entered", "unrecorded",
    "stops", "fuel_g", "co2_g", "person_waiting_s", "safety_violations", "late_starts",
    "interventions", "wall_s", "decision_ms_p99", "decided_share", "error", "config",
}  # fmt: skip


def headway(*arguments, timeout=300):
    return subprocess.run(
        [sys.executable, "-m", "headway", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def quarter(tmp_path_factory):
    """The first quarter of an hour of cologne1: a scenario of our own."""
    of = scenario("cologne1")
    path = tmp_path_factory.mktemp("quarter") / "quarter.sumocfg"
    path.write_text(
        f'<configuration><input><net-file value="{of.net}"/><route-files '
        f'value="{of.routes[0]}"/></input>'
        '<time><begin value="25200"/><end value="26100"/></time></configuration>'
    )
    return path


@pytest.fixture(scope="module")
def results(quarter):
    """What the command finds of both controllers, and their trip records beside the scenario."""
    folder = quarter.parent
    done = headway(
        "bench",
        "--sumocfg",
        str(quarter),
        "--controller",
        "fixed,planner",
        "--seeds",
        "5",
        "--json",
        str(folder / "b.json"),
        "--keep",
        str(folder),
    )
    assert done.returncode == 0, done.stderr
    assert "planner" in done.stdout
    found = json.loads((folder / "b.json").read_text())
    assert [r["controller"] for r in found] == ["fixed", "planner"]
    return {r["controller"]: r for r in found}


def test_the_figures_follow_the_definition_of_delay(quarter, results):
    requested = {
        v.get("id"): float(v.get("depart"))
        for v in ET.parse(scenario("cologne1").routes[0]).getroot()
        if v.tag in ("trip", "vehicle")
    }
    for controller, result in results.items():
        assert set(result) == KEYS
        trips = list(
            ET.parse(quarter.parent / f"quarter-{controller}-5.tripinfo.xml")
            .getroot()
            .iter("tripinfo")
        )
        entered = {t.get("id") for t in trips}
        late = [
            26100.0 - d for v, d in requested.items() if v not in entered and 25200.0 <= d < 26100.0
        ]
        total = fsum(float(t.get("timeLoss")) + float(t.get("departDelay")) for t in trips) + fsum(
            late
        )
        assert result["delay_s"] == pytest.approx(total / (len(trips) + len(late)), rel=1e-9)
        assert result["arrived"] == sum(float(t.get("arrival")) >= 0.0 for t in trips)
        assert result["unfinished"] == len(trips) - result["arrived"]
        assert result["never_entered"] == len(late)
        assert (result["safety_violations"], result["error"]) == (0, "")
    assert results["fixed"]["never_entered"] > 0, "else nothing is said of them"
    assert results["planner"]["delay_s"] < 0.5 * results["fixed"]["delay_s"]


@pytest.mark.parametrize("sensing", ["camera", "loops"])
def test_lesser_equipment_degrades_gently(quarter, results, sensing):
    delay_s = run(Job(str(quarter), "planner", 5, sensing=sensing)).delay_s
    assert results["planner"]["delay_s"] < delay_s < 0.6 * results["fixed"]["delay_s"]


def test_a_wrong_call_says_why_in_a_line_and_with_its_status():
    """Of a process as the shell sees it; each wrong call by itself is a matter of
    the room of the commands.
    """
    done = headway("run", "--scenario", "nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"headway: no scenario 'nowhere'. There are: {', '.join(RESCO)}; "
        "or give the path of a .sumocfg file.\n"
    )
    done = headway("nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such command 'nonsense'." in done.stderr
    assert "Traceback" not in done.stderr
