"""What the authors of RESCO published of their agents, read from their own logs."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.plants.sumo import RESCO

AGENTS = ("IDQN", "IPPO", "MPLight", "FMA2C")
LAST = 10  # episodes
ERRORS = "_yerr"  # ends the keys of the standard deviations


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean delay of each episode of a training, seconds a vehicle, in order."""

    delays_s: tuple[float, ...]

    @property
    def best_s(self) -> float:
        return min(self.delays_s)

    @property
    def last_s(self) -> float:
        """Mean of the last LAST episodes."""
        return sum(self.delays_s[-LAST:]) / len(self.delays_s[-LAST:])


def read_curves(text: str) -> dict[tuple[str, str], Curve]:
    """By agent and scenario, from RESCO's `avg_timeLoss.py`: one assignment of a mapping of
    "AGENT SCENARIO ..." to the delay of each episode. Nothing of the text is run. Agents without an
    episode are left out. Raises ValueError for another text.
    """
    try:
        (statement,) = ast.parse(text).body
        if not isinstance(statement, ast.Assign):
            raise ValueError("it assigns nothing")
        found = ast.literal_eval(statement.value)
        if not isinstance(found, Mapping):
            raise ValueError("it assigns no mapping")
        return {
            (agent, name): Curve(tuple(map(float, found[key])))
            for key in found
            for agent, name in [key.split()[:2]]
            if agent in AGENTS and not key.endswith(ERRORS) and found[key]
        }
    except (SyntaxError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"these are no delays as RESCO writes them: {error}") from error


def table(curves: Mapping[tuple[str, str], Curve]) -> str:
    """In Markdown: of each scenario the best episode and the mean of the last ones."""
    lines = [
        f"| scenario | {' | '.join(AGENTS)} |",
        "| --- " * (1 + len(AGENTS)) + "|",
    ]
    for name in RESCO:
        cells = [curves.get((agent, name)) for agent in AGENTS]
        told = ("" if c is None else f"{c.best_s:.1f}, {c.last_s:.1f}" for c in cells)
        lines.append(f"| {name} | {' | '.join(told)} |")
    return "\n".join(lines)


def published(arguments: Sequence[str] = ()) -> None:
    """RESCO's own logs of its agents: the best episode, and the mean of the last ten."""
    parser = argparse.ArgumentParser(prog="python -m bench published")
    parser.add_argument(
        "--log",
        type=Path,
        help="resco_benchmark/utils/avg_timeLoss.py of the repository Pi-Star-Lab/RESCO",
    )
    given: Path | None = parser.parse_args(arguments).log
    if given is None:
        print("give the file avg_timeLoss.py of RESCO: python -m bench published --log FILE")
        return
    print(table(read_curves(given.read_text())))
