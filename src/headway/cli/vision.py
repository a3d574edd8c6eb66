"""Cameras at the command line: watch a source, render a camera on a simulated street, known
models.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from headway.sensing import SensingError, need_vision, read_site

console = Console()
models = typer.Typer(help="Detection models.", no_args_is_help=True)
Folder = Annotated[Path, typer.Option(help="Model folder.")]
MODELS = Path("data/models")
HEAT_MAPS = (".png", ".jpg", ".jpeg")  # endings that a heat map may have


def watch(
    source: Annotated[
        str, typer.Argument(help="Source: rtsp:// or http:// URL, video file, or folder of images.")
    ],
    model: Annotated[
        Path | None, typer.Option(help="Detection model (ONNX); without one, motion is detected.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Site file of the camera: calibration, lines, zones, rules (YAML or JSON)."
        ),
    ] = None,
    signals: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Signal states over time: JSON lines with at_s and colours, as written by "
                "`headway camera`."
            )
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Annotated video to write.")] = None,
    json_: Annotated[
        Path | None,
        typer.Option("--json", help="Write figures, tracks and violations to this file (JSON)."),
    ] = None,
    evidence: Annotated[
        Path | None, typer.Option(help="Folder for the evidence images of violations.")
    ] = None,
    heat: Annotated[
        Path | None, typer.Option(help="Heat map of road users to write (.png or .jpg).")
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(min=0.0, help="Duration to process, seconds of the stream; 0 for all of it."),
    ] = 0.0,
    blur: Annotated[
        bool, typer.Option(help="Blur faces and number plates in evidence images.")
    ] = True,
    threads: Annotated[
        int,
        typer.Option(min=0, help="Frames processed in parallel; 0 for the number of processors."),
    ] = 0,
) -> None:
    """Process a video source: tracks, counts, speeds, queues, violations."""
    need_vision()
    from headway.service.watching import Report, watch_source

    if heat and heat.suffix.lower() not in HEAT_MAPS:
        raise typer.BadParameter(
            f"{heat}: must end in {', '.join(HEAT_MAPS)}.", param_hint="--heat"
        )
    site = read_site(calibration) if calibration else None
    report = Report(out=out, evidence=evidence, keep_tracks=json_ is not None)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    begun, fault, interrupted = time.perf_counter(), "", False
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # of `timeout`, or a service's stop
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(escape(source), total=None)
        try:
            for seen, length in watch_source(
                source, model, site, signals, report, seconds, blur, threads
            ):
                if report.frames % 5 == 0:
                    line = (
                        f"{seen.frame.at_s:.1f} s  {len(seen.tracks)} tracks  {report.violations} "
                        "violations"
                    )
                    bar.update(
                        task, completed=report.frames, total=length or None, description=line
                    )
        except SensingError as error:
            fault = str(error)
        except KeyboardInterrupt:
            interrupted = True
    took = time.perf_counter() - begun
    if report.frames:
        _print_report(report, took)
        if json_:
            json_.write_text(json.dumps(report.to_json(source), indent=1), encoding="utf-8")
        if heat:
            report.save_heat_map(heat)
    if fault:
        raise SensingError(fault)
    if interrupted and not report.frames:
        raise KeyboardInterrupt  # nothing was done


def _print_report(report: Any, took: float) -> None:
    figures = report.perception.measures.figures()
    console.print(
        f"{report.frames} frames in {took:.1f} s ({report.frames / took:.0f}/s), "
        f"{report.tracks} tracks, {report.violations} violations"
    )
    console.print(f"detection ran on {report.runs_on}")
    if report.perception.site.calibration is None:
        console.print(f"no speeds: {report.perception.site.uncalibrated}")
    else:
        console.print(
            f"calibration: error {report.perception.site.calibration.error_m:.2f} m on the road"
        )
    if figures["lines"]:
        table = Table("line", "in", "out", "veh/h", "mean headway s")
        for name, f in figures["lines"].items():
            flow, gap = f["flow_veh_h"], f["mean_headway_s"]
            table.add_row(
                name,
                _counts(f["in"]),
                _counts(f["out"]),
                "" if flow is None else f"{flow:.0f}",
                "" if gap is None else f"{gap:.1f}",
            )
        console.print(table)
    if figures["lanes"]:
        table = Table("lane", "vehicles", "queue", "occupancy", "congestion")
        for name, f in figures["lanes"].items():
            table.add_row(
                name,
                str(f["vehicles"]),
                str(f["queue_veh"]),
                f"{f['occupancy']:.0%}",
                f["congestion"],
            )
        console.print(table)
    if report.violations:
        console.print("violations are candidates for review by a person")
    for v in list(report.last_violations)[-20:]:
        console.print(
            f"{v.at_s:.2f} s {v.rule} track {v.data['track']} confidence {v.confidence:.2f}",
            highlight=False,
        )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())) or "0"


def camera(
    scenario_: Annotated[
        str, typer.Option("--scenario", help="Scenario (see `headway scenarios`).")
    ] = "cologne1",
    junction: Annotated[
        str, typer.Option(help="Id of the junction in view; default: the first.")
    ] = "",
    out: Annotated[
        Path, typer.Option(help="Video to write; site and ground truth are written beside it.")
    ] = Path("clip.mp4"),
    seconds: Annotated[float, typer.Option(min=1.0, help="Duration of the video, seconds.")] = 60.0,
    begin: Annotated[
        float,
        typer.Option(min=0.0, help="Begin of the video, seconds after the begin of the scenario."),
    ] = 0.0,
    rate: Annotated[float, typer.Option(help="Frame rate, frames per second.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Seed of traffic and image noise.")] = 1,
    height: Annotated[
        float, typer.Option(min=5.0, max=500.0, help="Height of the camera, metres.")
    ] = 90.0,
    tilt: Annotated[
        float,
        typer.Option(min=0.0, max=75.0, help="Tilt of the camera from the vertical, degrees."),
    ] = 10.0,
    reach: Annotated[
        float, typer.Option(min=10.0, max=500.0, help="Half width of the view on the road, metres.")
    ] = 60.0,
    violators: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.5,
            help="Share of drivers that speed, and share that run red lights (0 to 0.5 each).",
        ),
    ] = 0.0,
    night: Annotated[bool, typer.Option(help="Night scene.")] = False,
    rain: Annotated[bool, typer.Option(help="Rain.")] = False,
) -> None:
    """Render the video of a camera over a simulated junction, with its ground truth."""
    need_vision()
    from headway.rendered.clip import ClipSettings, render_clip

    how = ClipSettings(
        scenario_,
        junction,
        out,
        seconds,
        begin,
        rate,
        seed,
        height,
        tilt,
        reach,
        violators,
        night,
        rain,
    )
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(f"{scenario_} {junction}", total=round(seconds * rate))
        files = render_clip(how, lambda done: bar.update(task, completed=done))
    console.print(
        "\n".join(f"{what.replace('_', ' ')}: {escape(str(path))}" for what, path in files.items()),
        soft_wrap=True,
    )
    again = (
        f"try: headway watch {files['video']} --calibration {files['site']} --signals "
        f"{files['ground_truth']}"
    )
    console.print(again, soft_wrap=True, highlight=False, markup=False)


@models.command("list")
def list_models(folder: Folder = MODELS) -> None:
    """List the known models, and which are installed."""
    from headway.vision.detection import models as catalogue

    table = Table("model", "installed", "licence", "about", "sha256")
    for model in catalogue.MODELS:
        path = folder / f"{model.name}.onnx"
        table.add_row(
            model.name,
            escape(str(path)) if path.exists() else "no",
            model.licence,
            model.about,
            model.sha256[:16] + "...",
        )
    console.print(table)


@models.command("fetch")
def fetch_model(
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    folder: Folder = MODELS,
    url: Annotated[str, typer.Option(help="Download URL, instead of the known one.")] = "",
) -> None:
    """Download a model. An interrupted download resumes; a wrong checksum is refused."""
    from headway.vision.detection.models import fetch, known

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(name, total=None)
        path = fetch(
            known(name),
            folder,
            url,
            lambda done, whole: bar.update(task, completed=done, total=whole or None),
        )
    console.print(f"{escape(str(path))}: checksum verified")


@models.command("verify")
def verify_model(
    name: Annotated[str, typer.Argument(help="Name of the model.")], folder: Folder = MODELS
) -> None:
    """Check the checksum of an installed model; exit status 1 if it differs."""
    from headway.vision.detection.models import known, verify

    verify(known(name), folder / f"{name}.onnx")
    console.print("checksum verified")
