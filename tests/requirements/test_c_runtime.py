"""Rows C: the real-time loop over any plant, shown on the KPP power plant and on a street."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time

import pytest
from tests.requirements.event_logs import events_of
from tests.runtime.clocks import Clock
from tests.waiting import until

from headway.plants.kpp import KppPlant, KppSettings
from headway.plants.kpp.kernel import V
from headway.plants.kpp.run import KppRun, runtime_settings
from headway.runtime import (
    AlertRule,
    PerformanceProfiler,
    RealTimeController,
    StepBounds,
    StoppedError,
    Strategy,
    UserStrategy,
)

REPORT = "/api/v1/engine/streets/headway/report"
MODES = {"performance": 5.0, "balanced": 10.0, "accuracy": 20.0}


class Kpp:
    """A KPP on a loop whose clock is turned by hand. reported: kinds and figures of the events.
    work_s: wall time that each tick takes.
    """

    def __init__(self, mode="balanced", **settings):
        self.clock, self.reported, self.work_s = Clock(), [], 0.0
        self.run = KppRun(KppSettings(), StepBounds())
        advance = self.run.advance

        def work(*words):
            advance(*words)
            self.clock.now += self.work_s

        self.run.advance = work
        self.loop = RealTimeController(
            self.run,
            runtime_settings(1.0, mode, 0.0, StepBounds(), **settings),
            lambda at_s, kind, data: self.reported.append((kind, dict(data))),
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    def of(self, kind):
        return [data for k, data in self.reported if k == kind]


def kpp_report(headway, folder, *options):
    """The status report of `headway kpp run`, and what was printed."""
    path = folder / "report.json"
    done = headway("kpp", "run", "--data", "", "--report", str(path), *options)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text()), done.stdout


@pytest.mark.row("C1")
def test_c1_the_profile_of_each_component(headway, tmp_path, figures):
    """`headway kpp run --report FILE`: `sections` has the calls, mean, percentiles and maximum of
    each part of the loop over its last 1,024 calls, and `counters` what was counted.
    """
    report, _ = kpp_report(headway, tmp_path, "--seconds", "60")
    advance = report["sections"]["advance"]
    assert advance["calls"] == report["rates"]["pacing"]["ticks"] > 100
    assert 0.0 < advance["p50_s"] <= advance["p95_s"] <= advance["p99_s"] <= advance["max_s"]
    assert report["sections"]["watch"]["calls"] == advance["calls"]
    assert report["counters"]["alert_checks"] >= advance["calls"]

    section, begun = PerformanceProfiler().section("x"), time.perf_counter()
    for _ in range(100_000):
        with section:
            pass
    pair_s = (time.perf_counter() - begun) / 100_000
    figures.add("one section, timed", pair_s * 1e6, "us", "negligible")
    figures.add("share of a tick at 15 Hz, both sections", 100 * 2 * pair_s * 15, "%", "negligible")


@pytest.mark.row("C2")
def test_c2_the_step_follows_accuracy_and_computing_time(headway, tmp_path, figures):
    """`headway kpp run --rtol`: a tighter tolerance takes more steps; `timestep.floor_s` of the
    report rises from 0.05 s towards 0.2 s where ticks take the whole wall time, and falls again.
    """
    steps = {}
    for rtol in ("1e-3", "1e-9"):
        report, _ = kpp_report(
            headway, tmp_path, "--seconds", "20", "--dt-min", "0.001", "--rtol", rtol
        )
        steps[rtol] = report["plant"]["steps"]["steps"]
        assert (report["timestep"]["shortest_s"], report["timestep"]["longest_s"]) == (0.001, 0.2)
    assert steps["1e-9"] > 1.5 * steps["1e-3"]
    figures.add("steps at tolerance 1e-9 / at 1e-3", steps["1e-9"] / steps["1e-3"], "")

    kpp, floors = Kpp(rules=()), []
    for kpp.work_s in [0.065] * 40 + [0.001] * 100:
        kpp.loop.tick()
        floors.append(kpp.loop.report().timestep.floor_s)
    assert (max(floors), floors[-1]) == (pytest.approx(0.2), 0.05)
    figures.add("shortest step under load", max(floors), "s", "0.05 to 0.2 s")
    figures.add("shortest step without", floors[-1], "s", "0.05 to 0.2 s")


@pytest.mark.row("C3")
def test_c3_an_unstable_plant_is_seen_and_scored(figures):
    """An event `runtime.unstable` with score and reasons; `stability` in the report. A value that
    is no number has the score 0, and the plant goes back to its last good state.
    """
    kpp = Kpp("accuracy")
    for _ in range(40):
        kpp.loop.tick()
    assert kpp.loop.report().stability.score == 1.0
    kpp.run.plant.vector[V] = 60.0
    kpp.loop.tick()
    seen = kpp.of("runtime.unstable")[-1]
    assert any("v_chain" in reason for reason in seen["reasons"])
    assert kpp.loop.report().stability.score == pytest.approx(seen["score"], abs=1e-3)
    figures.add("stability of a chain that jumps to 60 m/s", seen["score"], "")

    kpp = Kpp("accuracy")
    kpp.loop.tick()
    figures_of_plant = kpp.run.figures
    kpp.run.figures = lambda: figures_of_plant() | {"v_chain": math.nan}
    kpp.loop.tick()
    kpp.run.figures = figures_of_plant
    assert kpp.of("runtime.unstable") == [{"score": 0.0, "reasons": ["v_chain is nan"]}]
    assert kpp.of("runtime.fault")[0]["strategy"] == "retry with a smaller step"
    kpp.loop.tick()
    assert kpp.loop.report().stability.score == 1.0


@pytest.mark.row("C4")
def test_c4_each_mode_streams_at_its_rate(tmp_path, figures):
    """`headway kpp run --realtime --hz 15 --mode accuracy`: 20 states a second reach the stream,
    though the target rate is 15 ticks a second; 10 in balanced mode, 5 in performance mode.
    """
    processes = {}
    for mode in MODES:
        words = ("kpp", "run", "--realtime", "--seconds", "10", "--mode", mode, "--hz", "15")
        files = ("--data", "", "--report", str(tmp_path / mode))
        processes[mode] = subprocess.Popen(
            [sys.executable, "-m", "headway", *words, *files],
            stdout=subprocess.DEVNULL,
            env=dict(os.environ),
        )
    assert [process.wait(180) for process in processes.values()] == [0, 0, 0]
    for mode in processes:
        report = json.loads((tmp_path / mode).read_text())
        assert report["rates"]["target_hz"] == 15.0
        assert report["streams"]["rate_hz"] == MODES[report["rates"]["mode"]]
        if not report["rates"]["mode_switches"]:
            assert report["rates"]["tick_hz"] == pytest.approx(max(15.0, MODES[mode]))
        offered = report["streams"]["subscribers"]["terminal"]["delivery"]["offered"]
        figures.add(f"{mode}: states a second", offered / 10.0, "Hz", f"{MODES[mode]:g} Hz")
        figures.add(f"{mode}: ticks a second", report["rates"]["pacing"]["ticks"] / 10.0, "Hz")
        if not (report["rates"]["mode_switches"] or report["rates"]["pacing"]["drift_s"]):
            # however late ticks were; one more or less by where the last tick falls
            assert abs(offered - 10.0 * MODES[mode]) <= 1.0


@pytest.mark.row("C4")
def test_c4_steps_a_second(headway, tmp_path, figures):
    """`headway kpp run --json FILE` as fast as possible: `steps_per_s`."""
    path = tmp_path / "result.json"
    done = headway("kpp", "run", "--seconds", "600", "--data", "", "--json", str(path))
    assert done.returncode == 0, done.stderr
    result = json.loads(path.read_text())
    assert result["steps"] > 10_000
    figures.add("steps a second of wall time", result["steps_per_s"], "/s", "13,088 /s seen")


@pytest.mark.row("C5")
def test_c5_priority_data_is_always_sent(headway, tmp_path, figures):
    """A subscriber that asks for nothing gets 10 Hz and a buffer of 1,000 messages. Under load all
    but `v_chain`, `power_output` and `efficiency` are thinned out. Section `streams` of
    `headway kpp run --config FILE` sets other values.
    """
    kpp = Kpp("accuracy", rules=())
    kpp.loop.run(5.0)  # until all three change
    s = kpp.loop.streams.subscribe("console", 20.0)
    kpp.work_s = 0.048
    kpp.loop.run(6.0)  # at this load modes are lowered after a second
    received = s.take()
    complete = sum("stored_j" in m.values for m in received)
    with_priority = sum(
        {"v_chain", "power_output", "efficiency"} <= m.values.keys() for m in received
    )
    assert with_priority == len(received) == 20
    assert complete <= 6
    figures.add("priority data under load", with_priority, "messages/s", "always")
    figures.add("other data under load", complete, "messages/s")

    idle = kpp.loop.streams.subscribe("never reads")
    assert (idle.rate_hz, idle.size) == (10.0, 1000)
    kpp.work_s = 0.0
    kpp.loop.run(126.0)
    assert idle.waiting == 1000
    figures.add("messages that wait for who never reads", idle.waiting, "", "1,000")
    figures.add("base rate", idle.rate_hz, "Hz", "10 Hz")

    config = tmp_path / "kpp.yaml"
    config.write_text("streams: {priority: [v_chain], base_hz: 4, buffer: 50}\n")
    report, _ = kpp_report(headway, tmp_path, "--seconds", "1", "--config", str(config))
    streams = report["streams"]
    assert (streams["priority"], streams["base_hz"], streams["buffer"]) == (["v_chain"], 4.0, 50)


@pytest.mark.row("C6")
def test_c6_alerts_on_any_figure_of_the_plant_and_of_the_loop(headway, tmp_path, figures):
    """`headway kpp run --alert "v_chain > 1 error" --config FILE`: lines `alert.opened`; `alerts`
    in the report. The five default rules are among them. A street's `alerts` may use `loop.fps`.
    """
    config = tmp_path / "kpp.yaml"
    config.write_text(
        "alerts:\n  rules:\n"
        "    - {name: velocity, path: v_chain, threshold: 1.2, level: critical}\n"
        "    - {name: late, path: loop.late_ms, condition: '>=', threshold: 0, level: info}\n"
    )
    words = ("--seconds", "60", "--config", str(config), "--alert", "power_output > 1 error")
    report, printed = kpp_report(headway, tmp_path, *words)
    open_alerts = {a["rule"]: a["level"] for a in report["alerts"]["open"]}
    assert open_alerts == {
        "velocity": "critical",
        "power_output > 1": "error",
        "efficiency": "warning",
        "late": "info",
    }
    assert "alert.opened rule=velocity" in printed
    defaults = {
        r["name"]: r["threshold"] for r in kpp_report(headway, tmp_path)[0]["alerts"]["rules"]
    }
    asked = {
        "velocity": 8.0, "acceleration": 40.0, "efficiency": 0.3, "fps": 5.0, "stability": 0.5,
    }  # fmt: skip
    assert defaults == asked
    for name, threshold in defaults.items():
        figures.add(f"default threshold: {name}", threshold, "", f"{asked[name]:g}")

    wrong = headway("kpp", "run", "--data", "", "--alert", "v_chaim > 1")
    assert wrong.returncode == 2
    assert "There are: v_chain" in " ".join(wrong.stderr.replace("│", " ").split())

    config.write_text(
        "alerts:\n  rules:\n"
        "    - {name: fast, path: loop.fps, condition: '>', threshold: 0, level: info}\n"
    )
    street = ("--scenario", "cologne1", "--until", "26400", "--data", str(tmp_path))
    assert headway("run", *street, "--config", str(config)).returncode == 0
    assert [e["data"]["path"] for e in events_of(tmp_path, "alert.opened")] == ["loop.fps"]


@pytest.mark.row("C6")
def test_c6_the_defaults_fire_at_their_thresholds():
    """The events of a plant whose chain is torn forward, and of a loop that cannot keep up."""
    kpp = Kpp("accuracy")
    kpp.loop.run(0.5)
    kpp.run.plant.vector[V] = 30.0
    kpp.loop.tick()
    opened = {d["rule"]: d["level"] for d in kpp.of("alert.opened")}
    assert opened == {"velocity": "error", "acceleration": "error", "stability": "critical"}

    kpp = Kpp("performance")
    kpp.work_s = 0.5
    for _ in range(6):
        kpp.loop.tick()
    assert [d["path"] for d in kpp.of("alert.opened")] == ["loop.fps"]
    kpp.loop.monitor.add(AlertRule.parse("slow: loop.tick_ms > 400 critical"), kpp.loop.state())
    kpp.loop.tick()
    assert kpp.of("alert.opened")[-1]["rule"] == "slow"


@pytest.mark.row("C7")
def test_c7_a_strategy_of_the_users_own(figures):
    """`loop.recovery.register(ErrorClass, [strategy])`: the strategy is called with the fault; if
    it raises, does not return True, or the fault comes back, the next one has its turn.
    """

    class SensorError(RuntimeError):
        pass

    kpp, calls = Kpp(rules=()), []

    def reconnect(fault):
        calls.append((type(fault.error), fault.attempt))
        return len(calls) > 1  # the first attempt does not help

    def reset(fault):
        raise OSError("no such port")

    def raising(error):
        def advance(*_):
            kpp.run.advance = working
            raise error

        return advance

    working = kpp.run.advance
    kpp.loop.recovery.register(SensorError, [reconnect, UserStrategy("reset", reset, budget=1)])
    kpp.run.advance = raising(SensorError("no signal"))
    kpp.loop.tick()
    chosen = [f["strategy"] for f in kpp.of("runtime.fault")]
    assert chosen[1:] == ["reset", "retry with a smaller step"]
    assert "reconnect" in chosen[0]
    assert [f["why"] for f in kpp.of("runtime.strategy_failed")] == [
        "it returned False, not True",
        "OSError('no such port')",
    ]
    kpp.clock.now += 10.0
    kpp.run.advance = raising(SensorError("again"))
    kpp.loop.tick()
    assert calls == [(SensorError, 1), (SensorError, 2)]
    for _ in range(60):
        kpp.loop.tick()
    worked = kpp.loop.report().recovery.strategies
    assert [(s.worked, s.tried) for label, s in worked.items() if "reconnect" in label] == [(1, 2)]
    figures.add("attempts of the user's strategy that worked, of two", 1)

    kpp.loop.recovery.register(ValueError, [Strategy.STOP])
    kpp.run.advance = raising(ValueError("x"))
    with pytest.raises(StoppedError, match="stopped safely"):
        kpp.loop.tick()


@pytest.mark.row("C8")
def test_c8_one_status_report(headway, product, tmp_path, figures):
    """`headway kpp run --report FILE`, `GET /api/v1/engine/streets/{name}/report` and
    `RealTimeController.report()` in Python: all of C1 to C7 in one JSON document.
    """
    report, _ = kpp_report(headway, tmp_path, "--seconds", "5", "--speed", "1.5")
    parts = {"sections", "counters", "timestep", "stability", "rates", "streams", "alerts"}
    assert parts | {"recovery", "checkpoint_s", "plant", "stopped"} <= report.keys()
    assert report["plant"]["time_s"] == pytest.approx(5.0)
    assert 0.0 < report["plant"]["efficiency"] < 1.0

    with product.http() as client:
        found = {}

        def is_there():
            found.update(client.get(REPORT).raise_for_status().json())
            return found["loop"]

        until(is_there, 120.0)
    assert found["street"]["street"] == "headway"
    assert parts | {"recovery", "checkpoint_s", "stopped"} <= found["loop"].keys()
    assert found["loop"]["sections"]["advance"]["calls"] > 0

    kpp = Kpp()
    kpp.loop.run(5.0)
    begun = time.perf_counter()
    text = json.dumps(kpp.loop.report().as_json(), allow_nan=False)
    figures.add("making the report", 1e3 * (time.perf_counter() - begun), "ms")
    figures.add("its size", len(text) / 1024, "KiB")
    kpp.run.state = lambda: KppPlant.no_such_thing
    assert "no_such_thing" in kpp.loop.report().plant_fault


def energies(before, after):
    """What went where between two observations, J."""
    return {name: value - before.energy_j[name] for name, value in after.energy_j.items()}


def steady(**enhancements):
    """(settings, energies) of the usual plant over two steady minutes."""
    settings = KppSettings(**enhancements)
    plant = KppPlant(settings)
    plant.advance(120.0)
    before = plant.observe()
    plant.advance(120.0)
    return settings, energies(before, plant.observe())


@pytest.mark.row("C9")
def test_c9_each_enhancement_changes_the_energy_as_physics_says(headway, tmp_path, figures):
    """`headway kpp run --h1 --h2 --h3 --report FILE`: the state has `v_chain`, `power_output` and
    `efficiency`; each enhancement changes the energy ledger by what is worked out by hand, and none
    gives out more than went in.
    """
    options = ("--seconds", "20", "--h1", "--h2", "--h3")
    plant = kpp_report(headway, tmp_path, *options)[0]["plant"]
    assert {"v_chain", "power_output", "efficiency"} <= plant.keys()
    assert 0.0 < plant["efficiency"] < 1.0
    spent = plant["energy_j"]
    assert spent["electrical"] < spent["compressor"] + spent["bubbles"]

    # 66 floaters in 10 m of water, of which the sprockets of 0.5 m radius leave 9 m a side
    usual, plain = steady()
    p_in_pa = 101_325.0 + 998.2 * 9.80665 * 9.5
    p_out_pa = 101_325.0 + 998.2 * 9.80665 * 0.5
    joule_kg = 287.05 * 288.15  # R T of the air

    # H1: bubbles that rise by 0.25 m/s in 5 % of 1.5 m2 take a blower (n = 1.2, 75 %); the drag of
    # 9 m of the 18 + pi m of chain falls by 5 %
    _, bubbly = steady(h1=True)
    blown_kgps = 0.05 * 1.5 * 0.25 * p_out_pa / joule_kg
    blower_w = blown_kgps * 6.0 * joule_kg * ((p_in_pa / 101_325.0) ** (1 / 6) - 1.0) / 0.75
    assert bubbly["bubbles"] / 120.0 == pytest.approx(blower_w, rel=1e-6)
    assert plain["bubbles"] == 0.0
    thinner = KppSettings(h1=True).constants().drag / usual.constants().drag
    assert thinner == pytest.approx(1.0 - 0.05 * 9.0 / (18.0 + math.pi))
    assert bubbly["electrical"] > plain["electrical"]
    assert bubbly["drag"] < plain["drag"], "though the chain is faster"
    gained_w = (bubbly["electrical"] - plain["electrical"]) / 120.0
    figures.add("H1: power of its blower", blower_w, "W")
    figures.add("H1: more output for it", gained_w, "W")

    # H2: a kilogram takes R T ln(p_in / p_out) of heat from the water, if it stays as warm
    of_isothermal = joule_kg * math.log(p_in_pa / p_out_pa)
    settings, warm = steady(h2=True)
    drawn, drawn_without = (
        of["heat"] / (of["compressor"] / settings.compression_j_kg) for of in (warm, plain)
    )
    assert 0.9 * of_isothermal < drawn < of_isothermal
    assert drawn_without < 0.5 * of_isothermal
    assert warm["electrical"] / warm["compressor"] > plain["electrical"] / plain["compressor"]
    figures.add(
        "H2: heat from the water, of isothermal expansion", 100 * drawn / of_isothermal, "%"
    )
    figures.add("without H2", 100 * drawn_without / of_isothermal, "%")

    # H3: three seconds of pulse, one of coast. Where the clutch closes, chain and flywheel come to
    # one speed, and momentum stays: the loss is that of an inelastic impact
    pulsing = KppPlant(KppSettings(h3=True))
    pulsing.advance(59.9999)
    coasting = pulsing.observe()
    pulsing.advance(0.0002)
    pulse = pulsing.observe()
    assert (coasting.engaged, pulse.engaged) == (False, True)
    assert pulse.power_output > 10.0 * coasting.power_output
    radius_m = 0.5 / 40.0  # of the sprocket, over the gear
    wheel_kg = 2.0 / radius_m**2
    chain_kg = usual.constants().inertia - 998.2 * coasting.volume_m3.sum()
    slip_mps = coasting.v_chain - coasting.flywheel_radps * radius_m
    lost_j = 0.5 * chain_kg * wheel_kg / (chain_kg + wheel_kg) * slip_mps**2
    assert energies(coasting, pulse)["clutch"] == pytest.approx(lost_j, rel=1e-3)
    assert plain["clutch"] == pytest.approx(0.0, abs=1e-3)
    figures.add("H3: lost where the clutch closes", lost_j / 1e3, "kJ")
    for name, of in (("usual", plain), ("H1", bubbly), ("H2", warm), ("H3", steady(h3=True)[1])):
        efficiency = of["electrical"] / (of["compressor"] + of["bubbles"])
        assert 0.0 < efficiency < 1.0
        figures.add(f"efficiency, {name}", efficiency)
