"""Our signal performance measures beside those of the package atspm:
on our own export, and on the log of a real controller.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from headway.analytics import event_log, highres, signals
from headway.service.streets import StreetService
from headway.settings import Settings, overridden
from headway.store import Intake, open_database
from headway.street.messages import Task

PEERS = Path(os.environ.get("HEADWAY_PEERS", Path(sys.prefix + "-peers") / "bin" / "python"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PEERS.exists(), reason=f"NO PEERS: {PEERS} is not there; `make test` installs it"
    ),
]


def atspm(order, folder):
    done = subprocess.run(
        [PEERS, Path(__file__).with_name("peer.py"), order, folder],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def table(path):
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def by_group(rows, value):
    return {(str(r["DeviceId"]), int(r["Phase"]) - 1): value(r) for r in rows}


def ended(rows):
    found = {}
    for r in rows:
        found.setdefault((str(r["DeviceId"]), int(r["Phase"]) - 1), {})[r["PerformanceMeasure"]] = (
            int(r["Total"])
        )
    return found


def ours(found):
    return {
        (t.junction, t.signal_group): {
            k: v
            for k, v in (("GapOut", t.gap_out), ("MaxOut", t.max_out), ("ForceOff", t.force_off))
            if v
        }
        for t in found
    }


def test_what_the_engine_recorded_reads_the_same_in_atspm(tmp_path):
    database = open_database(tmp_path)
    try:
        service = StreetService(None, Intake(database, tmp_path))
        changes = {
            "street": {"scenario": "cologne3"},
            "loop": {"speed_factor": 0.0},
            "recovery": {"folder": str(tmp_path / "run")},
        }
        live = service.start(
            "headway", Task(overridden(Settings(), changes), until_s=25200.0 + 900.0)
        )
        live.thread.join(240.0)
        service.stop()
        assert not live.fault
        files = tmp_path / "events.csv", tmp_path / "detectors.csv"
        assert event_log.export(database, live.run, *files) > 1000
        history = highres.recorded(database, live.run)
        theirs = atspm("figures", tmp_path)
        arrivals = {
            (a.junction, a.signal_group): a for a in signals.arrivals_of(history) if a.on_green
        }
        greens = by_group(
            theirs["arrival_on_green"], lambda r: round(r["Percent_AOG"] * r["Total_Actuations"])
        )
        assert greens == {k: a.on_green for k, a in arrivals.items()}
        assert ended(theirs["terminations"]) == {
            k: v for k, v in ours(signals.terminations_of(history)).items() if v
        }
        lengths = {}
        for t in signals.terminations_of(history):
            if t.signal_group < highres.PHASES and t.n:
                lengths.setdefault(t.junction, []).append(t.mean_split_s)
        for r in theirs["splits"]:
            assert any(abs(r["Average_Split"] - mean) < 1e-3 for mean in lengths[r["DeviceId"]])
        failures = by_group(theirs["split_failures"], lambda r: int(r["Split_Failure"]))
        assert failures
        assert {k: v for k, v in failures.items() if v} == {
            k: a.failures for k, a in arrivals.items() if a.failures
        }
    finally:
        database.close()


def test_a_real_controllers_log_gives_the_same_figures_as_in_atspm(tmp_path):
    theirs = atspm("sample", tmp_path)
    rows = [
        (
            datetime.fromisoformat(r["TimeStamp"]).timestamp(),
            r["DeviceId"],
            int(r["EventId"]),
            int(r["Parameter"]),
        )
        for r in table(tmp_path / "events.csv")
    ]
    detectors = table(tmp_path / "detectors.csv")

    def of(use):
        return {
            (d["DeviceId"], int(d["Parameter"])): int(d["Phase"])
            for d in detectors
            if d["Function"] == use
        }

    arrivals = {
        (a.junction, a.signal_group): a
        for a in signals.arrivals_of(highres.logged(rows, of("Advance"), each=True))
        if a.n
    }
    greens = by_group(
        theirs["arrival_on_green"], lambda r: round(r["Percent_AOG"] * r["Total_Actuations"])
    )
    assert greens == {k: a.on_green for k, a in arrivals.items()}
    totals = by_group(theirs["arrival_on_green"], lambda r: int(r["Total_Actuations"]))
    assert all(
        0 <= totals[k] - a.n <= 5 for k, a in arrivals.items()
    )  # those before the first signal event are nobody's
    presence = highres.logged(rows, of("Presence"))
    failures = {
        (a.junction, a.signal_group): a.failures for a in signals.arrivals_of(presence) if a.n
    }
    assert failures == by_group(theirs["split_failures"], lambda r: int(r["Split_Failure"]))
    mine, other = ours(signals.terminations_of(presence)), ended(theirs["terminations"])
    for key, counts in mine.items():
        assert all(
            abs(other[key].get(why, 0) - counts.get(why, 0)) <= 2 for why in {*counts, *other[key]}
        )  # greens cut by the log's ends
    means = {t.signal_group: t.mean_split_s for t in signals.terminations_of(presence)}
    splits = {int(r["EventId"]) - highres.SPLIT: r["Average_Split"] for r in theirs["splits"]}
    assert all(
        -0.5 <= splits[group] - mean <= 2.5 for group, mean in means.items()
    )  # theirs holds the red clearance too
