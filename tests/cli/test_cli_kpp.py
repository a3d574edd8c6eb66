"""The power plant in the terminal: what each option sets, what is printed, drawn and written,
and how a run is broken off and goes on.
"""

from __future__ import annotations

import importlib
import io
import json
import signal
import types
from collections import deque

import pytest
from rich.console import Console

from headway.plants.kpp import KppSettings
from headway.plants.kpp.run import DEFAULT_RULES, PRIORITY, KppRun, LoadControl, runtime_settings
from headway.runtime import AlertRule, Level, RealTimeController, StepBounds
from tests.runtime.clocks import Clock

room = importlib.import_module("headway.cli.kpp")


@pytest.fixture
def asked(monkeypatch):
    """What the plant and the loop would be made of; nothing runs."""
    found = types.SimpleNamespace(plant=None, loop=None)

    class Plant:
        time_s = 0.0

        def __init__(self, *words):
            found.plant = words

        def take_up(self, until_s):
            found.until_s = until_s
            return False

    def settings(**given):
        found.loop = given
        raise RuntimeError("enough")

    monkeypatch.setattr(room, "KppRun", Plant)
    monkeypatch.setattr(room, "runtime_settings", settings)
    return found


def bounds(shortest=0.05, longest=0.2, rtol=1e-4):
    return StepBounds(shortest, longest, rtol, rtol / 100)


def test_without_options_it_is_the_plant_of_the_documents(headway, asked, tmp_path):
    ran = headway("kpp", "run")
    assert (ran.status, ran.err) == (1, "headway: enough\n")
    plant, steps, control, folder = asked.plant
    assert (plant, control, str(folder), asked.until_s) == (
        KppSettings(),
        LoadControl(0.0),
        "data/kpp",
        120.0,
    )
    assert (plant.floaters, plant.depth_m, plant.volume_m3, plant.h1, plant.h2, plant.h3) == (
        66,
        10.0,
        0.4,
        False,
        False,
        False,
    )
    assert (steps.shortest_s, steps.longest_s, steps.rtol, steps.atol) == (
        0.05,
        0.2,
        1e-4,
        pytest.approx(1e-6),
    )
    assert asked.loop == {
        "speed_factor": 0.0, "mode": "balanced", "checkpoint_s": 3600.0, "bounds": steps,
        "target_hz": 15.0, "rules": DEFAULT_RULES, "priority": PRIORITY, "base_hz": 10.0,
        "buffer": 1000,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["--h1"], {"h1": True}), (["--h2"], {"h2": True}), (["--h3"], {"h3": True}),
        (["--floaters", "40"], {"floaters": 40}),
        (["--depth", "15"], {"depth_m": 15.0}), (["--volume", "0.3"], {"volume_m3": 0.3}),
    ],
)  # fmt: skip
def test_an_option_changes_its_part_of_the_plant(headway, asked, words, changes):
    headway("kpp", "run", *words)
    assert asked.plant[0] == KppSettings(**changes)


@pytest.mark.parametrize(
    ("words", "loop"),
    [
        ([], (0.0, "balanced", 3600.0)), (["--realtime"], (1.0, "balanced", 10.0)),
        (["--mode", "accuracy"], (0.0, "accuracy", 3600.0)),
        (["--data", ""], (0.0, "balanced", 0.0)),
        (["--realtime", "--data", ""], (1.0, "balanced", 0.0)),
    ],
)  # fmt: skip
def test_pace_mode_and_folder_make_the_loop(headway, asked, words, loop):
    headway(
        "kpp",
        "run",
        "--dt-min",
        "0.01",
        "--dt-max",
        "0.3",
        "--rtol",
        "0.001",
        "--speed",
        "1.5",
        "--seconds",
        "7",
        *words,
    )
    assert tuple(asked.loop[k] for k in ("speed_factor", "mode", "checkpoint_s")) == loop
    assert asked.loop["bounds"] == StepBounds(0.01, 0.3, 0.001, 0.01 * 0.001)
    assert (asked.plant[2], asked.until_s) == (LoadControl(1.5), 7.0)
    assert (asked.plant[3] is None) == ("" in words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seconds", "0"], "seconds 0.0: give a finite number above 0."),
        (["--seconds", "-1"], "seconds -1.0"), (["--seconds", "inf"], "seconds inf"),
        (["--seconds", "nan"], "seconds nan"),
        (["--mode", "fast"], "no mode 'fast'. There are: performance, balanced, accuracy."),
        (["--floaters", "7"], "--floaters: 7 is not allowed"), (["--floaters", "65"], "even"),
        (["--volume", "-1"], "--volume: -1.0 is not allowed"),
        (["--depth", "-1"], "--depth: -1.0"), (["--speed", "-1"], "--speed: -1.0"),
        (["--dt-min", "1"], "--dt-min: 1.0 is above --dt-max: 0.2"),
        (["--rtol", "0"], "--rtol: 0.0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_a_wrong_call(headway, asked, words, said):
    ran = headway("kpp", "run", *words)
    assert (ran.status, ran.out, said in ran.err, asked.plant) == (2, "", True, None), ran.err


def test_options_stand_over_the_settings_file_and_a_rule_replaces_one_of_its_name(
    headway, asked, tmp_path
):
    (tmp_path / "kpp.yaml").write_text(
        "loop: {target_hz: 30, mode: accuracy}\n"
        "streams: {priority: [v_chain, 'floaters.*'], base_hz: 4, buffer: 50}\n"
        "alerts:\n  rules:\n"
        "    - {name: velocity, path: v_chain, threshold: 6, level: critical, for_s: 2}\n"
        "    - {name: few, path: floaters.filled, condition: <, threshold: 3}\n"
    )
    words = ("kpp", "run", "--config", "kpp.yaml")
    headway(*words)
    velocity = AlertRule("velocity", "v_chain", ">", 6.0, Level.CRITICAL, for_s=2.0)
    few = AlertRule("few", "floaters.filled", "<", 3.0)
    assert asked.loop["rules"] == (velocity, *DEFAULT_RULES[1:], few)
    assert {k: asked.loop[k] for k in ("target_hz", "mode", "priority", "base_hz", "buffer")} == {
        "target_hz": 30.0, "mode": "accuracy", "priority": ("v_chain", "floaters.*"),
        "base_hz": 4.0, "buffer": 50,
    }  # fmt: skip
    headway(*words, "--hz", "5", "--mode", "balanced", "--alert", "few: time_s >= 2 info",
            "--alert", "loop.fps < 1 for 3 s")  # fmt: skip
    assert (asked.loop["target_hz"], asked.loop["mode"]) == (5.0, "balanced")
    assert asked.loop["rules"][-2:] == (
        AlertRule("few", "time_s", ">=", 2.0, Level.INFO),
        AlertRule("loop.fps < 1", "loop.fps", "<", 1.0, for_s=3.0),
    )
    (tmp_path / "kpp.yaml").write_text("alerts: {defaults: false}\n")
    headway(*words)
    assert asked.loop["rules"] == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("loop: {hz: 5}", "kpp.yaml: loop.hz: unknown key"),
        ("loop: {target_hz: .nan}", "kpp.yaml: loop.target_hz: nan is not allowed"),
        ("loop: {target_hz: 0}", "loop.target_hz: 0 is not allowed"),
        ("loop: {target_hz: .inf}", "loop.target_hz: inf is not allowed"),
        ("loop: {mode: turbo}", "loop.mode: 'turbo' is not allowed"),
        ("streams: {buffer: 0}", "streams.buffer: 0 is not allowed"),
        ("streams: {base_hz: 1.0e+9}", "streams.base_hz: 1000000000.0 is not allowed"),
        ("streams: {priority: ['a b']}", "'a b' is no path"),
        ("alerts: {rules: [{name: x, path: v_chain, threshold: .nan}]}", "threshold: nan"),
        ("alerts: {rules: [{name: x, path: v_chain}]}", "alerts.rules.0.threshold"),
        ("alerts: {rules: [{name: x, path: a..b, threshold: 1}]}", "'a..b' is no path"),
        ("[1, 2]", "kpp.yaml: must hold a mapping of sections, holds a list"),
        ("loop: {target_hz: 5, target_hz: 6}", "kpp.yaml: line 1: target_hz is given twice"),
        ("loop: {", "kpp.yaml: is no YAML"),
        (None, "kpp.yaml: cannot be read (No such file or directory)"),
    ],
)
def test_a_faulty_settings_file_is_refused_with_the_place(headway, tmp_path, text, said):
    if text is not None:
        (tmp_path / "kpp.yaml").write_text(text)
    ran = headway("kpp", "run", "--config", "kpp.yaml", "--data", "")
    assert (ran.status, ran.out) == (2, "")
    assert said in " ".join(ran.err.replace("│", " ").split()), ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--alert", "v_chain"], "alert 'v_chain' is not understood"),
        (["--alert", "v_chain > nan"], "the threshold must be a finite number"),
        (["--alert", "v_chain > 1 loud"], "is not understood"),
        (["--alert", "v_chaim > 1"], "there is no 'v_chaim' in the state. There are: v_chain,"),
        (["--alert", "loop.fpz < 1"], "There are: loop.fps"),
        (["--report", "no/such/r.json"], "report no/such/r.json: there is no folder for it"),
        (["--json", "no/such/r.json"], "json no/such/r.json: there is no folder for it"),
        (["--csv", "no/such/r.csv"], "csv no/such/r.csv: there is no folder for it"),
        (["--json", "."], "json .: is a folder. Give the name of a file."),
        (["--csv", "."], "csv .: is a folder"), (["--report", "."], "report .: is a folder"),
        (["--hz", "nan"], "target_hz: nan is not allowed: ticks per second, 0.1 to 1000"),
        (["--hz", "0"], "target_hz: 0.0"), (["--hz", "1e6"], "target_hz: 1000000.0"),
        (["--hz", "inf"], "target_hz: inf"), (["--hz", "-3"], "target_hz: -3.0"),
    ],
)  # fmt: skip
def test_a_rule_or_a_rate_that_cannot_be_is_a_wrong_call(headway, words, said):
    ran = headway("kpp", "run", "--data", "", *words)
    assert (ran.status, ran.out) == (2, "")
    assert said in " ".join(ran.err.replace("│", " ").split()), ran.err


def test_a_report_is_written_however_the_run_ends(headway, driven, monkeypatch, tmp_path):
    words = ("kpp", "run", "--data", "", "--seconds", "2", "--report", "r.json")
    assert headway(*words, "--alert", "moves: v_chain > 0 error").status == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["stopped"], found["at_s"]) == ("", pytest.approx(2.0))
    assert found["plant"]["v_chain"] == driven[0].state()["v_chain"]
    assert [a["rule"] for a in found["alerts"]["open"]] == ["moves"]
    assert found["sections"]["advance"]["calls"] == found["rates"]["pacing"]["ticks"]

    def fail(self, *words):
        raise FloatingPointError("no number")

    monkeypatch.setattr(room.KppRun, "advance", fail)
    monkeypatch.setattr(room.KppRun, "state", fail)
    monkeypatch.setattr(room, "drive", lambda loop, run, seconds, *words, **more: loop.run(seconds))
    monkeypatch.setattr(room.config, "DEFAULT_RULES", ())
    ran = headway(*words)
    assert ran.status == 1
    assert "stopped safely at 0.000 s: FloatingPointError('no number')" in ran.err
    found = json.loads((tmp_path / "r.json").read_text())
    assert "headway: " + found["stopped"] + "\n" == ran.err
    assert (found["plant"], found["plant_fault"]) == (None, "FloatingPointError('no number')")
    assert [a["strategy"] for a in found["recovery"]["recent"]][-1] == "stop safely"


@pytest.fixture
def driven(monkeypatch):
    """The runs that were made, in order."""
    made = []

    class Kept(KppRun):
        def __init__(self, *words):
            super().__init__(*words)
            made.append(self)

    monkeypatch.setattr(room, "KppRun", Kept)
    return made


@pytest.mark.slow
def test_a_run_is_written_with_its_samples_and_its_ledger(headway, driven, tmp_path):
    ran = headway("kpp", "run", "--seconds", "2", "--json", "out.json", "--csv", "out.csv")
    assert (ran.status, ran.err) == (0, "")
    found, (run,) = json.loads((tmp_path / "out.json").read_text()), driven
    m, counts = run.plant.observe(), run.plant.counts
    samples = found.pop("samples")
    assert found == {
        "seconds": pytest.approx(2.0, abs=1e-9), "efficiency": m.efficiency,
        "ledger_residual": m.ledger_residual,
        "electrical_kwh": m.energy_j["electrical"] / 3_600_000,
        "compressor_kwh": (m.energy_j["compressor"] + m.energy_j["bubbles"]) / 3_600_000,
        "heat_kwh": m.energy_j["heat"] / 3_600_000, "steps": counts["steps"],
        "steps_per_s": run.rate, "rejected_steps": counts["rejected"],
        "forced_steps": counts["forced"], "events": counts["events"], "stability": 1.0,
        "mode": found["mode"],
        "ledger_kwh": {name: joule / 3_600_000
            for name, joule in m.energy_j.items()} | {"stored": m.stored_j / 3_600_000},
    }  # fmt: skip
    assert found["mode"] in ("balanced", "performance")
    assert found["ledger_residual"] < 1e-9
    assert found["steps_per_s"] > 0
    assert [s["time_s"] for s in samples] == pytest.approx([k / 250 for k in range(501)], abs=1e-6)
    state = run.state()
    assert samples[-1] == {
        k: state[k]
        for k in (
            "time_s",
            "v_chain",
            "power_output",
            "power_input",
            "efficiency",
            "flywheel_radps",
            "ledger_residual",
        )
    }
    lines = (tmp_path / "out.csv").read_text().split("\n")
    assert (
        lines[0]
        == "time_s,v_chain,power_output,power_input,efficiency,flywheel_radps,ledger_residual"
    )
    assert lines[1:] == [*(",".join(f"{v:.9g}" for v in s.values()) for s in samples), ""]
    assert "KPP, 2.0 of 2 s, as fast as possible, mode " in ran.out
    assert "goes on from" not in ran.out
    assert not (tmp_path / "data" / "kpp" / "kpp.npz").exists()


def test_bubbles_are_paid_for_by_the_compressor(headway, driven, tmp_path):
    headway("kpp", "run", "--seconds", "1", "--h1", "--json", "out.json", "--data", "")
    found, (run,) = json.loads((tmp_path / "out.json").read_text()), driven
    energy = run.plant.observe().energy_j
    assert energy["bubbles"] > 0.0
    assert found["compressor_kwh"] == (energy["compressor"] + energy["bubbles"]) / 3_600_000


def test_standard_output_can_be_the_result_alone(headway, driven, tmp_path):
    ran = headway("kpp", "run", "--seconds", "1", "--json", "-", "--plot", "--data", "")
    assert (ran.status, ran.err) == (0, "")
    assert json.loads(ran.out)["seconds"] == pytest.approx(1.0)
    assert not (tmp_path / "-").exists()


def test_speed_and_power_are_drawn(headway, driven, tmp_path):
    ran = headway("kpp", "run", "--seconds", "1", "--plot", "--data", "", "--json", "out.json")
    samples = json.loads((tmp_path / "out.json").read_text())["samples"]
    assert ran.out.index("v_chain, m/s") < ran.out.index("power_output, kW")
    assert ran.out.split("v_chain, m/s")[0].endswith("\n")
    after = ran.out[ran.out.index("power_output, kW") :].splitlines()
    assert after[1].endswith(f" {max(s['power_output'] for s in samples) / 1000:.3g}")
    assert after[10].endswith(f" {min(s['power_output'] for s in samples) / 1000:.3g}")
    assert after[11].split() == ["0", "s", "1", "s"]
    before = ran.out[ran.out.index("v_chain, m/s") :].splitlines()
    assert before[1].endswith(f" {max(s['v_chain'] for s in samples):.3g}")
    assert "v_chain, m/s" not in headway("kpp", "run", "--seconds", "1", "--data", "").out


def test_in_real_time_no_tick_is_cut_short_for_a_sample():
    """8 s at 15 Hz are 120 ticks, however many samples there are; each is taken after a tick."""
    clock, run = Clock(), KppRun(KppSettings(), bounds())
    settings = runtime_settings(1.0, "balanced", 0.0, bounds())
    loop = RealTimeController(run, settings, clock=clock, sleep=clock.sleep)
    samples = room.drive(loop, run, 8.0, deque(), quiet=True)
    assert clock.now == pytest.approx(8.0)
    assert loop.report().rates.pacing.ticks == 120
    assert [s["time_s"] for s in samples] == pytest.approx([k / 15 for k in range(121)])


def test_the_rate_is_steps_by_wall_time(headway, driven, monkeypatch, tmp_path):
    times = iter([100.0])
    monkeypatch.setattr(
        room, "time", types.SimpleNamespace(perf_counter=lambda: next(times, 104.0))
    )
    pictures = []
    monkeypatch.setattr(room, "picture", lambda *words: pictures.append(words) or "")
    headway("kpp", "run", "--seconds", "1", "--data", "", "--json", "out.json")
    found, (run,) = json.loads((tmp_path / "out.json").read_text()), driven
    assert found["steps_per_s"] == run.rate == found["steps"] / 4.0
    state, _, rate, seconds, _ = pictures[-1]
    assert (state["time_s"], rate, seconds) == (pytest.approx(1.0), run.rate, 1.0)
    assert len(pictures) > 1
    assert 0.0 < pictures[0][2] < rate  # on the way, of the steps so far


def test_a_run_that_is_broken_off_goes_on_where_it_was(headway, driven, monkeypatch, tmp_path):
    tick = RealTimeController.tick

    def struck(self, until_s):
        tick(self, until_s)
        if self.driven.time_s >= 1.0 - 1e-9:
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
            raise KeyboardInterrupt

    closed = []
    monkeypatch.setattr(RealTimeController, "close", lambda self: closed.append(self.driven.time_s))
    with monkeypatch.context() as patch:
        patch.setattr(RealTimeController, "tick", struck)
        ran = headway("kpp", "run", "--seconds", "2", "--data", "there", "--json", "out.json")
    assert closed == [pytest.approx(1.0)]
    assert (ran.status, ran.err) == (0, "stopped at 1.0 s; the same command goes on from here\n")
    assert not (tmp_path / "out.json").exists()
    assert (tmp_path / "there" / "kpp.npz").exists()
    steps = driven[0].plant.steps
    ran = headway("kpp", "run", "--seconds", "2", "--data", "there", "--json", "out.json")
    assert "goes on from the checkpoint at 1.0 s" in ran.out
    assert closed == [pytest.approx(1.0), pytest.approx(2.0)]
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["samples"][0]["time_s"] == pytest.approx(1.0)
    assert len(found["samples"]) == 251
    assert found["steps"] > steps
    assert not (tmp_path / "there" / "kpp.npz").exists()


def test_a_run_that_keeps_no_checkpoint_does_not_say_that_it_goes_on(headway, monkeypatch):
    def struck(self, until_s):
        raise KeyboardInterrupt

    monkeypatch.setattr(RealTimeController, "tick", struck)
    ran = headway("kpp", "run", "--seconds", "2", "--data", "")
    assert (ran.status, ran.err) == (0, "stopped at 0.0 s; without --data nothing is kept\n")


def test_a_run_whose_result_cannot_be_written_is_not_lost(headway, monkeypatch, tmp_path):
    """The disk is full, say: its checkpoint stays."""
    forgotten = []

    def fail(path, samples):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(room, "_write_csv", fail)
    monkeypatch.setattr(room.KppRun, "forget", lambda self: forgotten.append(self))
    assert headway("kpp", "run", "--seconds", "1", "--csv", "out.csv").status == 1
    assert not forgotten


def test_the_rate_counts_the_steps_of_this_call_alone(headway, driven, monkeypatch):
    """A run that went on from a checkpoint has steps of before; they took no time of this one."""
    times = iter([0.0])
    monkeypatch.setattr(room, "time", types.SimpleNamespace(perf_counter=lambda: next(times, 2.0)))
    run = KppRun(KppSettings(), bounds(), LoadControl(0.0))
    run.advance(1.0, 0.05)
    before = run.plant.steps
    loop = RealTimeController(run, runtime_settings(0.0, "balanced", 0.0, bounds()))
    room.drive(loop, run, 2.0, deque(), quiet=True)
    assert before > 0
    assert run.rate == (run.plant.steps - before) / 2.0


STATE = {
    "time_s": 12.34, "v_chain": 1.2344, "flywheel_radps": 98.76, "engaged": True,
    "power_output": 12345.0, "power_input": 23456.0,
    "efficiency": 0.12346, "energy_j": {"compressor": 3.6e6, "heat": 1.8e6}, "stored_j": 0.9e6,
    "ledger_residual": 1.5e-6,
}  # fmt: skip


def drawn(state, speed_factor=0.0, reasons=(), lines=()):
    loop = types.SimpleNamespace(
        settings=types.SimpleNamespace(speed_factor=speed_factor),
        optimizer=types.SimpleNamespace(mode=types.SimpleNamespace(name="accuracy")),
        stability=types.SimpleNamespace(score=0.876, reasons=list(reasons)),
        pacer=types.SimpleNamespace(report=lambda: types.SimpleNamespace(jitter_p99_s=0.00123)),
    )  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=150).print(room.picture(state, loop, 1234.5, 60.0, deque(lines)))
    return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.strip()]


def test_the_picture_shows_speed_power_and_ledger():
    assert drawn(STATE) == [
        "KPP, 12.3 of 60 s, as fast as possible, mode accuracy",
        "chain 1.234 m/s flywheel 98.8 rad/s clutch engaged",
        "output 12.3 kW air now 23.5 kW efficiency 0.1235",
        "steps 1,234 /s jitter p99 - stability 0.88",
        "energy ledger kWh",
        "compressor 1.0000",
        "heat 0.5000",
        "stored 0.2500",
        "not explained 1.50e-04 %",
    ]


def test_the_picture_shows_jitter_troubles_and_what_happened():
    found = drawn(STATE | {"engaged": False}, 1.0, ["it rings"], ["    1.0 x a=1", "    2.0 y"])
    assert found[0] == "KPP, 12.3 of 60 s, real time, mode accuracy"
    assert found[1].endswith("clutch overrun")
    assert "jitter p99 1.23 ms" in found[3]
    assert found[-3:] == ["it rings", "1.0 x a=1", "2.0 y"]


def test_what_the_loop_tells_is_shown_in_six_lines(headway, monkeypatch):
    told = []

    def drive(loop, run, seconds, lines, quiet):
        for k in range(8):
            tell(float(k), "mode", {"to": k})
        told.extend(lines)
        run.rate = 0.0
        return [dict.fromkeys(room.SAMPLES, 0.0)]

    def made(run, settings, say):
        nonlocal tell
        tell = say
        return RealTimeController(run, settings, say)

    tell = None
    monkeypatch.setattr(room, "RealTimeController", made)
    monkeypatch.setattr(room, "drive", drive)
    assert headway("kpp", "run", "--seconds", "1", "--data", "").status == 0
    assert told == [f"{k:9.1f} mode to={k}" for k in range(2, 8)]


def dots(text):
    """Coordinates (column, row) of the dots of a Braille picture, from its top left,
    by the standard's own numbering of them.
    """
    places = {
        0: (0, 0),
        1: (0, 1),
        2: (0, 2),
        3: (1, 0),
        4: (1, 1),
        5: (1, 2),
        6: (0, 3),
        7: (1, 3),
    }
    return {
        (2 * column + places[bit][0], 4 * row + places[bit][1])
        for row, line in enumerate(text)
        for column, cell in enumerate(line)
        for bit in range(8)
        if "\u2800" <= cell <= "\u28ff" and (ord(cell) - 0x2800) >> bit & 1
    }


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([0.0, 39.0], [0.0, 7.0], {(0, 7), (39, 0)}),
        ([0.0, 0.39], [0.0, 0.07], {(0, 7), (39, 0)}),  # however small the span
        (
            [0.0, 1.0, 2.0, 39.0],
            [7.0, 6.0, 5.0, 4.0],
            {(0, 0), (1, 2), (2, 5), (39, 7)},
        ),  # rows 0, 7/3, 14/3, 7
        ([10.0, 23.0, 49.0], [0.0, 3.0, 0.0], {(0, 7), (13, 0), (39, 7)}),
        ([5.0, 5.0], [2.0, 2.0], {(0, 7)}),  # no extent: all at the begin, and at the foot
        (
            [float(k) for k in range(40)],
            [float(k // 2 % 8) for k in range(40)],
            {(k, 7 - k // 2 % 8) for k in range(40)},
        ),
    ],
)
def test_a_curve_has_a_dot_for_each_point(x, y, expected):
    """40 dots wide, 8 high."""
    title, *rows = room.chart(x, y, "name, unit", 20, 2).plain.split("\n")[:3]
    assert title == "name, unit"
    assert dots(row[:20] for row in rows) == expected


def test_a_curve_has_its_extremes_and_its_times_beside_it():
    title, *rows, foot = room.chart([0.0, 120.0], [-1.0, 123456.0], "t").plain.split("\n")
    assert (title, len(rows)) == ("t", 10)
    assert [len(row) for row in rows[1:-1]] == [72] * 8
    assert (rows[0][72:], rows[-1][72:]) == (" 1.23e+05", " -1")
    assert foot == "0 s" + " " * 60 + "120 s"
    assert (
        room.chart([0.0, 1.0], [0.0, 1.0], "t", 20, 2).plain.split("\n")[-1]
        == "0 s" + " " * 8 + "1 s"
    )


def test_the_terminal_is_drawn_eight_times_a_second(headway, monkeypatch):
    asked, subscribed = [], []

    class Live(room.Live):
        def __init__(self, **how):
            asked.append(how)
            super().__init__(**how)

    def drive(loop, run, seconds, lines, quiet):
        subscribe = loop.streams.subscribe
        loop.streams.subscribe = lambda *words, **how: (
            subscribed.append((words, how)) or subscribe(*words, **how)
        )
        return kept(loop, run, seconds, lines, quiet)

    kept = room.drive
    monkeypatch.setattr(room, "Live", Live)
    monkeypatch.setattr(room, "drive", drive)
    headway("kpp", "run", "--seconds", "1", "--data", "")
    assert asked == [{"console": room.console, "refresh_per_second": 8}]
    assert subscribed == [(("terminal", 8.0), {"policy": room.Policy.LATEST_ONLY})]


def test_a_curve_has_a_value_for_each_time():
    with pytest.raises(ValueError, match="shorter"):
        room.chart([0.0, 1.0], [0.0], "t")


def test_a_short_run_sees_the_alerts_of_its_own_time(headway):
    """A minute takes a tenth of a second, in which the loop itself checks once."""
    found = headway("kpp", "run", "--seconds", "60", "--data", "", "--report", "r.json",
                    "--alert", "v_chain > 1.5 error for 2 s")  # fmt: skip
    opened = [line for line in found.out.splitlines() if "rule=v_chain > 1.5" in line]
    assert 2.0 < float(opened[0].split()[0]) < 30.0
