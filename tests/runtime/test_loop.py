"""The real-time loop with a real plant on it: on time, in real time, through faults and kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from bench.faults import RECOVERED, STOPPED, faults
from tests.runtime.clocks import Clock

from headway.plants.kpp import KppSettings
from headway.plants.kpp.run import KppRun, LoadControl, runtime_settings
from headway.runtime import AlertRule, RealTimeController, StepBounds

pytestmark = pytest.mark.slow


def loop_of(run, speed_factor=0.0, report=None, clock=None, **more):
    settings = runtime_settings(speed_factor, "balanced", 0.0, StepBounds(), **more)
    return RealTimeController(
        run,
        settings,
        report,
        clock=clock or time.monotonic,
        sleep=clock.sleep if clock else time.sleep,
    )


def test_a_hundred_random_faults_are_all_reported():
    assert faults(100, streets=1, seed=7, tell=lambda line: None) == {
        ("clock", RECOVERED): 22, ("subscriber", RECOVERED): 20, ("disk", RECOVERED): 20,
        ("nan", RECOVERED): 15, ("exception", RECOVERED): 12,
        ("exception", STOPPED): 10, ("killed street process", RECOVERED): 1,
    }  # fmt: skip


def test_in_real_time_no_tick_drifts_and_none_is_missed():
    run = KppRun(KppSettings(), StepBounds())
    KppRun(KppSettings(), StepBounds()).advance(0.1, 0.05)  # compiled before it counts
    loop = loop_of(run, 1.0)
    subs = [loop.streams.subscribe(f"s{k}", 20.0, size=8) for k in range(100)]
    begun = time.monotonic()
    loop.run(2.0)
    assert time.monotonic() - begun == pytest.approx(2.0, abs=0.1)
    assert loop.pacer.report().drift_s == 0.0
    assert all(s.delivery.offered >= 15 for s in subs)


def test_a_tick_that_takes_too_long_changes_the_mode_and_reports_so():
    clock, reported = Clock(), []

    class Heavy(KppRun):
        def advance(self, period_s, shortest_s):
            super().advance(period_s, shortest_s)
            clock.now += 0.08 if self.time_s < 10.0 else 0.001

    loop = loop_of(
        Heavy(KppSettings(), StepBounds()),
        1.0,
        lambda at_s, kind, data: reported.append((kind, data)),
        clock,
    )
    loop.run(10.0)
    assert loop.optimizer.mode.name == "performance"
    assert loop.stepper.floor_s == 0.2
    loop.run(30.0)
    assert loop.optimizer.mode.name == "balanced"
    assert [d["mode"] for k, d in reported if k == "runtime.mode"] == ["performance", "balanced"]


def test_alerts_are_reported_and_a_path_that_is_not_there_is_refused_at_the_start():
    reported = []
    rules = (AlertRule("running", "floaters.v_chain", ">", 1.0, for_s=0.2),)
    loop = loop_of(
        KppRun(KppSettings(), StepBounds()),
        0.0,
        lambda at_s, kind, data: reported.append(kind),
        rules=rules,
    )
    loop.optimizer.choose("accuracy")
    begun = time.monotonic()
    while "alert.opened" not in reported and time.monotonic() - begun < 10.0:
        loop.tick()
    assert "alert.opened" in reported
    with pytest.raises(ValueError, match="v_chian"):
        loop_of(
            KppRun(KppSettings(), StepBounds()),
            rules=(AlertRule("x", "floaters.v_chian", ">", 1.0),),
        )


def test_the_load_control_holds_the_requested_speed():
    run = KppRun(KppSettings(), StepBounds(), LoadControl(2.2))
    loop_of(run).run(120.0)
    assert run.plant.v_chain == pytest.approx(2.2, abs=0.03)


def headway(*words):
    return subprocess.run(
        [sys.executable, "-m", "headway", "kpp", "run", *words],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_gives_one_object_with_the_figures_and_refuses_nonsense(tmp_path):
    done = headway(
        "--seconds",
        "5",
        "--h2",
        "--json",
        "-",
        "--csv",
        str(tmp_path / "a.csv"),
        "--plot",
        "--data",
        str(tmp_path / "data"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    run = KppRun(KppSettings(h2=True), StepBounds(0.05, 0.2, 1e-4, 1e-6))
    loop_of(run).run(5.0)
    m = run.plant.observe()
    assert result["seconds"] == pytest.approx(5.0)
    assert 0.0 < result["efficiency"] < 1.0
    assert result["ledger_residual"] < 1e-9
    assert 0.0 < result["electrical_kwh"] < result["compressor_kwh"]
    assert result["heat_kwh"] > 0.0
    assert result["compressor_kwh"] == pytest.approx(m.energy_j["compressor"] / 3.6e6, rel=1e-3)
    assert result["steps_per_s"] > 0.0
    assert [s["time_s"] for s in result["samples"]] == pytest.approx(
        [k / 100 for k in range(501)], abs=1e-6
    )
    assert set(result["samples"][0]) == {
        "time_s",
        "v_chain",
        "power_output",
        "power_input",
        "efficiency",
        "flywheel_radps",
        "ledger_residual",
    }
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + 501
    refused = headway("--seconds", "1", "--floaters", "65")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "even" in refused.stderr


EACH_SECOND = """
from headway.cli import kpp, main
made = kpp.runtime_settings
def each_second(**given):
    return made(**given | {"checkpoint_s": 1.0})
kpp.runtime_settings = each_second
main()
"""


def test_a_killed_run_resumes_from_its_checkpoint(tmp_path):
    """Checkpoints each second here, which else come each ten, for the sake of the time."""
    words = [
        sys.executable,
        "-c",
        EACH_SECOND,
        "kpp",
        "run",
        "--seconds",
        "600",
        "--realtime",
        "--data",
        str(tmp_path),
        "--json",
        "-",
    ]
    first = subprocess.Popen(words, stdout=subprocess.PIPE)
    path, deadline = tmp_path / "kpp.npz", time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    assert first.communicate()[0] == b""
    kept = float(np.load(path)["_t"])
    assert 1.0 - 1e-9 <= kept < 10.0
    done = headway("--seconds", "12", "--data", str(tmp_path), "--json", "-")
    result = json.loads(done.stdout)
    assert result["samples"][0]["time_s"] == pytest.approx(kept)
    assert result["seconds"] == pytest.approx(12.0)
    assert not path.exists()
