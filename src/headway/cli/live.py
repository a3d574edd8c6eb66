"""A running street in the terminal."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Sequence
from types import FrameType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from headway.runtime.supervisor import Restarted
from headway.street.engine import Engine
from headway.street.messages import RunEnded, Snapshot, Task, Waiting
from headway.telemetry.life import SignsOfLife
from headway.values import Event

NOT_CONTROLLED = "engine.not_controlled"
MOST_REASONS = 4
ENDLESS_S = 1e9  # an end as late as this means no end


def run_to_end(task: Task, console: Console) -> None:
    """Run `task` to its end, or until Ctrl-C, SIGTERM or the end of the terminal: then its state is
    kept and it can be resumed. Raises KeyboardInterrupt at a second Ctrl-C, which waits no longer
    for a street that does not answer: what its last checkpoint has is kept.
    """
    engine = Engine(task)
    lines: deque[str] = deque(maxlen=8)

    interrupts, is_stopping, has_ended = list[int](), False, False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal is_stopping
        if signum == signal.SIGINT:
            if interrupts:
                raise KeyboardInterrupt
            interrupts.append(signum)
        is_stopping = True
        lines.append(f"stopping ({signal.Signals(signum).name}), keeping the state")
        engine.stop()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, stop)
    street = task.settings.street
    title = (
        f"{street.scenario}, {task.settings.control.controller}, {street.timing} timing, "
        f"{street.sensing} sensing, seed {street.seed}"
    )
    signs = SignsOfLife()
    shown: Snapshot | None = None
    alone = dict[str, None]()  # in order, each once, however often the street starts
    with Live(console=console, refresh_per_second=8) as live:
        for message in engine.messages():
            if isinstance(message, Snapshot):
                if shown is None or message.time_s != shown.time_s:
                    signs.give()  # a street that only talks gives none
                shown = message
            elif isinstance(message, Waiting):
                signs.give()
            elif isinstance(message, Restarted):
                lines.append(
                    f"street process restarted after {message.recovery_s:.1f} s: {message.why}"
                )
            elif isinstance(message, Event) and message.kind == NOT_CONTROLLED:
                alone.setdefault(str(message.data["reason"]), None)
            elif isinstance(message, Event) and message.kind != "engine.cycle":
                lines.append(
                    f"{message.at_s:9.0f} {message.kind} {message.junction} "
                    + " ".join(f"{k}={v}" for k, v in message.data.items())
                )
            elif isinstance(message, RunEnded):
                lines.append(_end_of(message))
                has_ended = True
            live.update(picture(title, shown, lines, list(alone)))
        if is_stopping and not has_ended and shown is not None:
            lines.append(
                f"the street at {shown.time_s:.0f} s did not answer and was ended; the same "
                f"command goes on from {shown.checkpoint_s:.0f} s"
            )
            live.update(picture(title, shown, lines, list(alone)))


def _end_of(message: RunEnded) -> str:
    if message.finished:
        return f"the end at {message.time_s:.0f} s"
    if message.lost_s > 0.0:
        kept_s = message.time_s - message.lost_s
        return (
            f"stopped at {message.time_s:.0f} s, but its state could not be written; the same "
            f"command goes on from {kept_s:.0f} s"
        )
    return f"stopped; the same command goes on from here at {message.time_s:.0f} s"


def picture(
    title: str, snapshot: Snapshot | None, lines: deque[str], alone: Sequence[str] = ()
) -> Group:
    """What the terminal shows: title, what is not controlled and why, progress, figures, the worst
    junctions, the newest lines.
    """
    parts: list[Text | Table] = [Text(title, style="bold")]
    parts += [Text(f"not controlled: {reason}") for reason in alone[:MOST_REASONS]]
    if len(alone) > MOST_REASONS:
        parts.append(Text(f"not controlled: {len(alone) - MOST_REASONS} more, see the event log"))
    if snapshot is not None:
        parts += [_progress(snapshot), _figures(snapshot), _worst_junctions(snapshot)]
    parts += [Text(line, overflow="ellipsis", no_wrap=True) for line in lines]
    return Group(*parts)


def _progress(snapshot: Snapshot) -> Table:
    finite = snapshot.end_s < ENDLESS_S
    bar = Table.grid()  # for its end of line
    bar.add_row(
        ProgressBar(
            total=snapshot.end_s - snapshot.begin_s if finite else None,
            completed=snapshot.time_s - snapshot.begin_s,
            width=60,
        )
    )
    return bar


def _figures(snapshot: Snapshot) -> Table:
    jitter = f"{snapshot.jitter_p99_s * 1e3:.1f} ms"
    rows = (
        {
            "time": f"{snapshot.time_s:.0f} s",
            "vehicles near signals": str(snapshot.vehicles),
            "stopped": str(snapshot.stopped),
        },
        {
            "decided by": snapshot.source,
            "safety events": str(snapshot.interventions),
            "cycles": str(snapshot.cycles),
        },
        {
            "tick": f"{snapshot.tick_ms:.2f} ms",
            "overruns": str(snapshot.overruns),
            "jitter p99": jitter,
        },
        {
            "checkpoint": f"{snapshot.checkpoint_s:.0f} s",
            "trouble": snapshot.trouble or "none",
        },
    )
    table = Table.grid(padding=(0, 3))
    for row in rows:
        table.add_row(*(cell for pair in row.items() for cell in pair))
    return table


def _worst_junctions(snapshot: Snapshot) -> Table:
    """The five with most stopped vehicles, then the longest waits."""
    table = Table(
        "junction",
        "vehicles",
        "stopped",
        "longest wait",
        "confidence",
        box=None,
        padding=(0, 3, 0, 0),
        header_style="dim",
    )
    for j in sorted(snapshot.junctions, key=lambda j: (-j.stopped, -j.longest_wait_s))[:5]:
        table.add_row(
            j.junction[:40],
            str(j.vehicles),
            str(j.stopped),
            f"{j.longest_wait_s:.0f} s",
            f"{j.confidence:.2f}",
        )
    return table
