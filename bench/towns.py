"""Controllers on real towns as the German Aerospace Center has modelled them: their programmes,
public transport and road users of all kinds.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench.joined import CONTROLLERS, compare
from headway.experiments.benchmark import Job

STREETS = Path(os.environ.get("HEADWAY_DATA", "../shared/data")) / "streets"
TOWNS = {
    "acosta": "bologna/acosta/run.sumocfg",
    "pasubio": "bologna/pasubio/run.sumocfg",
    "Bologna": "bologna/joined/run.sumocfg",
    "Hamburg": "TAVF-Hamburg/run_simulation.sumocfg",
    "Doerpfeldstr": "Doerpfeldstr/all_modes.sumocfg",
}


def towns() -> None:
    """Mean delay, seconds a vehicle, seed 1, benchmark timing, by town (decision 40)."""
    if not STREETS.is_dir():
        sys.exit(f"no folder {STREETS} (HEADWAY_DATA)")
    with tempfile.TemporaryDirectory() as folder:  # SUMO writes beside the configuration
        copy = Path(folder) / "streets"
        shutil.copytree(STREETS, copy, copy_function=shutil.copyfile)
        for path in (copy, *copy.rglob("*/")):
            path.chmod(0o755)
        compare(
            "town",
            [
                Job(str(copy / place), controller, 1, label=town)
                for town, place in TOWNS.items()
                for controller in CONTROLLERS
            ],
        )
