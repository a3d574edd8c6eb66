"""The power plant in the terminal."""

from __future__ import annotations

import contextlib
import json
import math
import re
import signal
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from headway.plants.kpp import KppPlant, KppSettings, config
from headway.plants.kpp.run import KppRun, LoadControl, runtime_settings
from headway.runtime import MODES, AlertRule, Policy, RealTimeController, StepBounds
from headway.runtime.modes import TARGET_HZ, checked_target

app = typer.Typer(
    help="Buoyancy-chain power plant, a second plant on the same real-time loop.",
    no_args_is_help=True,
)
console = Console()
KWH_J = 3.6e6
# settings of plant, steps and load control that have an option
OPTIONS = {
    "floaters": "--floaters",
    "depth_m": "--depth",
    "volume_m3": "--volume",
    "target_mps": "--speed",
    "shortest_s": "--dt-min",
    "longest_s": "--dt-max",
    "rtol": "--rtol",
}
SAMPLES = (
    "time_s",
    "v_chain",
    "power_output",
    "power_input",
    "efficiency",
    "flywheel_radps",
    "ledger_residual",
)


@app.callback()
def _group() -> None:
    pass


@app.command()
def run(
    seconds: Annotated[float, typer.Option(help="Duration of the run, simulated seconds.")] = 120.0,
    h1: Annotated[
        bool,
        typer.Option(
            "--h1", help="Enhancement H1: air bubbles in the water of the descending side."
        ),
    ] = False,
    h2: Annotated[
        bool,
        typer.Option(
            "--h2", help="Enhancement H2: isothermal expansion, at the temperature of the water."
        ),
    ] = False,
    h3: Annotated[
        bool, typer.Option("--h3", help="Enhancement H3: pulse and coast, by the clutch.")
    ] = False,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Run in real time instead of as fast as possible.")
    ] = False,
    json_: Annotated[
        str,
        typer.Option(
            "--json", help="Write result and samples to this file (JSON); - for standard output."
        ),
    ] = "",
    csv: Annotated[str, typer.Option(help="Write the samples to this file (CSV).")] = "",
    plot: Annotated[
        bool, typer.Option("--plot", help="Plot speed and power over time in the terminal.")
    ] = False,
    mode: Annotated[
        str | None,
        typer.Option(help=f"Mode of the real-time loop: {', '.join(MODES)}. Default: balanced."),
    ] = None,
    hz: Annotated[
        float | None,
        typer.Option(
            help="Ticks per second in real time; more where the mode's streams are faster. "
            f"Default: {TARGET_HZ:g}."
        ),
    ] = None,
    alert: Annotated[
        list[str] | None,
        typer.Option(
            help=escape(  # or rich takes what stands in brackets for its own
                "An alert rule: [NAME:] PATH CONDITION THRESHOLD [LEVEL] [for SECONDS s], such as "
                "'v_chain > 8 error'. Repeatable."
            )
        ),
    ] = None,
    config_: Annotated[
        str, typer.Option("--config", help="Settings file (YAML): loop, streams, alerts.")
    ] = "",
    report: Annotated[
        str,
        typer.Option(help="Write the status report of the real-time loop to this file (JSON)."),
    ] = "",
    floaters: Annotated[int, typer.Option(help="Number of floaters, even.")] = 66,
    depth: Annotated[float, typer.Option(help="Depth of the tank, metres.")] = 10.0,
    volume: Annotated[float, typer.Option(help="Volume of a floater, m3.")] = 0.4,
    speed: Annotated[
        float,
        typer.Option(help="Chain speed that the load control maintains, m/s; 0 for full load."),
    ] = 0.0,
    dt_min: Annotated[float, typer.Option(help="Shortest time step, seconds.")] = 0.05,
    dt_max: Annotated[float, typer.Option(help="Longest time step, seconds.")] = 0.2,
    rtol: Annotated[float, typer.Option(help="Relative error tolerance per time step.")] = 1e-4,
    data: Annotated[
        str,
        typer.Option(help="Folder of the checkpoint; an interrupted run resumes from there."),
    ] = "data/kpp",
) -> None:
    """Run the plant and print its energy ledger: input, stored, lost and output energy."""
    if not (math.isfinite(seconds) and seconds > 0.0):
        raise typer.BadParameter(f"seconds {seconds}: give a finite number above 0.")
    for option, given in (
        ("report", report),
        ("json", "" if json_ == "-" else json_),
        ("csv", csv),
    ):
        _check_place(option, given)
    if mode is not None and mode not in MODES:
        raise typer.BadParameter(f"no mode {mode!r}. There are: {', '.join(MODES)}.")
    try:
        loop_options = _loop_options(config_, mode, hz, alert or [])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        plant = KppSettings(floaters=floaters, depth_m=depth, volume_m3=volume, h1=h1, h2=h2, h3=h3)
        bounds = StepBounds(dt_min, dt_max, rtol, 0.01 * rtol)
        control = LoadControl(speed)
    except ValueError as error:
        raise typer.BadParameter(_by_option(str(error))) from error
    driven = KppRun(plant, bounds, control, Path(data) if data else None)
    went_on = driven.take_up(seconds)
    lines: deque[str] = deque(maxlen=6)
    if went_on:
        lines.append(f"goes on from the checkpoint at {driven.time_s:.1f} s")

    def add_line(at_s: float, kind: str, figures: Mapping[str, Any]) -> None:
        lines.append(f"{at_s:9.1f} {kind} " + " ".join(f"{k}={v}" for k, v in figures.items()))

    settings = runtime_settings(
        speed_factor=1.0 if realtime else 0.0,
        checkpoint_s=(10.0 if realtime else 3600.0) if data else 0.0,
        bounds=bounds,
        **loop_options,
    )
    KppPlant(KppSettings()).advance(1.0)  # compiles on first use, which is not the plant's time
    try:
        loop = RealTimeController(driven, settings, add_line)
    except ValueError as error:  # a rule on a figure that is not in the state
        raise typer.BadParameter(str(error)) from error
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.closing(loop):
        try:
            samples = drive(loop, driven, seconds, lines, quiet=json_ == "-")
        except KeyboardInterrupt:
            loop.checkpoint()
            then = (
                "the same command goes on from here" if data else "without --data nothing is kept"
            )
            Console(stderr=True).print(f"stopped at {driven.time_s:.1f} s; {then}")
            return
        finally:
            if report:
                _write_report(Path(report), loop)
    result = _result(driven, samples, loop)
    if json_ == "-":
        print(json.dumps(result))
    elif json_:
        Path(json_).write_text(json.dumps(result, indent=1), encoding="utf-8")
    if csv:
        _write_csv(Path(csv), samples)
    driven.forget()  # not before its result is written
    if plot and json_ != "-":
        _plot(samples)


def _by_option(fault: str) -> str:
    """The fault with the names of settings as the options that give them.

    >>> _by_option("shortest_s: 1.0 is above longest_s: 0.5")
    '--dt-min: 1.0 is above --dt-max: 0.5'
    """
    return re.sub(r"\w+", lambda word: OPTIONS.get(word[0], word[0]), fault)


def _loop_options(
    path: str, mode: str | None, hz: float | None, alerts: list[str]
) -> dict[str, Any]:
    """Settings of the loop: those of the file at `path`, if there is one, with the options over it.
    Raises ValueError.
    """
    found = config.load(path) if path else config.KppConfig()
    return {
        "mode": mode or found.loop.mode,
        "target_hz": found.loop.target_hz if hz is None else checked_target(hz),
        "rules": found.rules(tuple(AlertRule.parse(text) for text in alerts)),
        "priority": found.streams.priority,
        "base_hz": found.streams.base_hz,
        "buffer": found.streams.buffer,
    }


def _check_place(option: str, given: str) -> None:
    """Raises BadParameter for a file that could not be written once the run has ended."""
    if given and not Path(given).absolute().parent.is_dir():
        raise typer.BadParameter(f"{option} {given}: there is no folder for it. Make it first.")
    if given and Path(given).is_dir():
        raise typer.BadParameter(f"{option} {given}: is a folder. Give the name of a file.")


def _write_report(path: Path, loop: RealTimeController) -> None:
    path.write_text(json.dumps(loop.report().as_json(), indent=1), encoding="utf-8")


def _write_csv(path: Path, samples: list[dict[str, float]]) -> None:
    rows = [",".join(SAMPLES), *(",".join(f"{s[k]:.9g}" for k in SAMPLES) for s in samples)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _plot(samples: list[dict[str, float]]) -> None:
    """Speed and power over time."""
    times = [s["time_s"] for s in samples]
    console.print()
    for name, unit, scale in (("v_chain", "m/s", 1.0), ("power_output", "kW", 1e-3)):
        console.print(chart(times, [s[name] * scale for s in samples], f"{name}, {unit}"))


def drive(
    loop: RealTimeController, driven: KppRun, seconds: float, lines: deque[str], quiet: bool
) -> list[dict[str, float]]:
    """Run to `seconds`; the samples are some 500 states, evenly spaced in plant time, taken between
    ticks. In real time they wait for the end of a tick, since a shorter one would not be on time.
    """
    every = seconds / 500.0
    samples = list[dict[str, float]]()
    wall = time.perf_counter()
    begun, steps = driven.time_s, driven.plant.steps
    shown = loop.streams.subscribe("terminal", 8.0, policy=Policy.LATEST_ONLY)
    due = begun

    def sample() -> None:
        # as fast as possible a run may end before the loop's next check
        state = driven.state() if loop.settings.speed_factor else loop.check_alerts()
        samples.append({k: float(state[k]) for k in SAMPLES})

    with Live(console=console, refresh_per_second=8) if not quiet else _Nothing() as live:
        sample()
        while driven.time_s < seconds - 1e-9:
            due = min(max(due + every, driven.time_s + 1e-6), seconds)
            while driven.time_s < due - 1e-9:
                loop.tick(seconds if loop.settings.speed_factor else due)
            sample()
            if live is not None and shown.take():
                rate = (driven.plant.steps - steps) / max(time.perf_counter() - wall, 1e-9)
                live.update(picture(driven.state(), loop, rate, seconds, lines))
        rate = (driven.plant.steps - steps) / max(time.perf_counter() - wall, 1e-9)
        driven.rate = rate
        if live is not None:
            live.update(picture(driven.state(), loop, rate, seconds, lines))
    return samples


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _result(
    driven: KppRun, samples: list[dict[str, float]], loop: RealTimeController
) -> dict[str, Any]:
    m, counts = driven.plant.observe(), driven.plant.counts
    return {
        "seconds": m.time_s,
        "efficiency": m.efficiency,
        "ledger_residual": m.ledger_residual,
        "electrical_kwh": m.energy_j["electrical"] / KWH_J,
        "compressor_kwh": (m.energy_j["compressor"] + m.energy_j["bubbles"]) / KWH_J,
        "heat_kwh": m.energy_j["heat"] / KWH_J,
        "steps": counts["steps"],
        "steps_per_s": driven.rate,
        "rejected_steps": counts["rejected"],
        "forced_steps": counts["forced"],
        "events": counts["events"],
        "stability": loop.stability.score,
        "mode": loop.optimizer.mode.name,
        "ledger_kwh": {k: v / KWH_J for k, v in m.energy_j.items()}
        | {"stored": m.stored_j / KWH_J},
        "samples": samples,
    }


def picture(
    state: Mapping[str, Any],
    loop: RealTimeController,
    rate: float,
    seconds: float,
    lines: deque[str],
) -> Group:
    energy, s = state["energy_j"], loop.settings
    pacing = "real time" if s.speed_factor else "as fast as possible"
    title = (
        f"KPP, {state['time_s']:.1f} of {seconds:.0f} s, {pacing}, mode {loop.optimizer.mode.name}"
    )
    now, clutch = Table.grid(padding=(0, 3)), "engaged" if state["engaged"] else "overrun"
    now.add_row(
        "chain",
        f"{state['v_chain']:.3f} m/s",
        "flywheel",
        f"{state['flywheel_radps']:.1f} rad/s",
        "clutch",
        clutch,
    )
    power = [f"{state[k] / 1e3:.1f} kW" for k in ("power_output", "power_input")]
    now.add_row("output", power[0], "air now", power[1], "efficiency", f"{state['efficiency']:.4f}")
    jitter = f"{loop.pacer.report().jitter_p99_s * 1e3:.2f} ms" if s.speed_factor else "-"
    now.add_row(
        "steps", f"{rate:,.0f} /s", "jitter p99", jitter, "stability", f"{loop.stability.score:.2f}"
    )
    ledger = Table("energy ledger", "kWh", box=None, padding=(0, 3, 0, 0), header_style="dim")
    for name, joule in energy.items():
        ledger.add_row(name, f"{joule / KWH_J:10.4f}")
    ledger.add_row("stored", f"{state['stored_j'] / KWH_J:10.4f}")
    ledger.add_row("not explained", f"{state['ledger_residual'] * 100:.2e} %")
    reasons = [Text(r, style="yellow") for r in loop.stability.reasons]
    return Group(
        Text(title, style="bold"),
        now,
        ledger,
        *reasons,
        *(Text(line, overflow="ellipsis", no_wrap=True) for line in lines),
    )


def chart(x: list[float], y: list[float], title: str, width: int = 72, height: int = 10) -> Text:
    """A curve in Braille dots."""
    low, high = min(y), max(y)
    grid = [[0] * width for _ in range(height)]
    for a, b in zip(x, y, strict=True):
        column = round((a - x[0]) / max(x[-1] - x[0], 1e-9) * (2 * width - 1))
        row = round((1.0 - (b - low) / max(high - low, 1e-9)) * (4 * height - 1))
        grid[row // 4][column // 2] |= (
            (0x01, 0x02, 0x04, 0x40)[row % 4]
            if column % 2 == 0
            else (0x08, 0x10, 0x20, 0x80)[row % 4]
        )
    rows = ["".join(chr(0x2800 + cell) for cell in row) for row in grid]
    rows[0] += f" {high:.3g}"
    rows[-1] += f" {low:.3g}"
    return Text("\n".join([title, *rows, f"{x[0]:.0f} s{'':>{width - 12}}{x[-1]:.0f} s"]))
