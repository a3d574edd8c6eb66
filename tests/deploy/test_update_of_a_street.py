"""An update of a street that is a process of its own, for real: Valkey, a database, the street, an
API process that follows it, and `headway deploy` as one more process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from headway.api.security import Keyring
from tests.cli.streets import SECRET, Site, runs, state
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("streets")]
PROGRAMS = Path(sys.executable).parent
# a release whose street does not start, or starts, takes the lease and dies; all else is as ever
BROKEN = """#!/bin/sh
case "$1 {how}" in
  "street at once") exit 3 ;;
  "street soon") exec timeout --signal KILL {lives_s} {programs}/headway "$@" ;;
esac
exec {programs}/headway "$@"
"""
# what a service manager does: end the process, start what the link leads to, again where it dies
MANAGER = """#!/bin/sh
trap 'kill -TERM $child; wait $child; exit 0' TERM
trap 'kill -TERM $child' USR1
while true; do
  {current}/bin/headway street main --scenario cologne1 --speed-factor 5 --data {data} &
  child=$!; echo $child > {folder}/child
  wait $child; wait $child
  sleep 0.5
done
"""


@pytest.fixture
def site(tmp_path, new_record):
    found = Site(tmp_path, new_record())
    try:
        yield found
    finally:
        found.end()


class Updates:
    """Releases below the folder of a site, of which the street and the API are started."""

    def __init__(self, site):
        self.site, self.current = site, site.folder / "current"
        self.release("one")
        self.current.symlink_to(site.folder / "one")
        manager = site.folder / "manager"
        places = {"current": self.current, "folder": site.folder, "data": site.folder / "streets"}
        manager.write_text(MANAGER.format(**places))
        manager.chmod(0o755)
        with (site.folder / "street.log").open("a") as log:
            site.running["street"] = subprocess.Popen(
                [manager], env=self.variables(), stdout=log, stderr=log
            )
        self.api = site.api("api")
        Keyring(site.folder / "api" / "keys.json", SECRET)

    def variables(self):
        return os.environ | {
            "HEADWAY_DATABASE_URL": self.site.url,
            "HEADWAY_REDIS_URL": f"redis://127.0.0.1:{self.site.port}/0",
            "HEADWAY_SECRET_KEY": SECRET,
        }

    def release(self, name, how="", lives_s=0):
        folder = self.site.folder / name
        if not how:
            folder.mkdir()
            (folder / "bin").symlink_to(PROGRAMS)
            return folder
        (folder / "bin").mkdir(parents=True)
        program = folder / "bin" / "headway"
        program.write_text(BROKEN.format(how=how, lives_s=lives_s, programs=PROGRAMS))
        program.chmod(0o755)
        (folder / "bin" / "python").symlink_to(PROGRAMS / "python")
        return folder

    def runs(self, after_s=0.0):
        try:
            runs(self.api, after_s=after_s)
        except AssertionError:
            print(state(self.api), *(self.site.log(name) for name in ("street", "api")), sep="\n")
            raise

    def deploy(self, release, within_s):
        """The street alone is restarted: the process of the API is of this test."""
        url = str(self.api.base_url).rstrip("/")
        done = subprocess.run(
            [
                PROGRAMS / "headway", "deploy", release, "--instance", f"{url} true",
                "--street", f"main sh -c 'kill -USR1 {self.site.running['street'].pid}'",
                "--current", self.current, "--data", self.site.folder / "api",
                "--within", str(within_s),
            ],
            env=self.variables(), capture_output=True, text=True, timeout=550.0,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


def recorded(site):
    """How many runs there are, and the events."""
    with psycopg.connect(site.url.replace("+psycopg", "")) as record:
        (runs_,) = record.execute("SELECT count(*) FROM run").fetchone()
        rows = record.execute("SELECT kind, at_s FROM event ORDER BY number").fetchall()
    return runs_, rows


def test_a_street_goes_on_in_its_run_through_updates_that_are_good_and_bad(site):
    updates = Updates(site)
    api = updates.api
    updates.runs()
    before = state(api)

    status, said = updates.deploy(updates.release("two"), 120)
    assert status == 0, said
    assert (updates.current.resolve(), "street main: " in said) == (site.folder / "two", True)
    updates.runs(before["time_s"])
    two = site.link.get("headway:street:{main}:token")

    status, said = updates.deploy(updates.release("three", "at once"), 20)
    assert (status, "taken back" in said) == (1, True), said
    status, said = updates.deploy(updates.release("four", "soon", 9), 40)
    assert (status, "taken back" in said) == (1, True), said
    assert updates.current.resolve() == site.folder / "two"
    updates.runs(before["time_s"])
    assert site.link.get("headway:street:{main}:token") > two
    time.sleep(2.0)  # rows are written once a second

    count, rows = recorded(site)
    assert count == 1, "one run through all of it"
    kept = (site.folder / "streets" / "main" / "events.jsonl").read_text().splitlines()
    left = iter(rows)  # of before a kill, the record has what came after the last checkpoint, too
    lost = [one for one in map(json.loads, kept) if (one["kind"], one["at_s"]) not in left]
    assert [one for one in lost if one["at_s"] < rows[-1][1]] == []
    restored = [at_s for kind, at_s in rows if kind == "engine.restored"]
    assert restored == sorted(restored)
    assert len(restored) >= 3
    assert [kind for kind, _ in rows].count("engine.started") == 1
    until(lambda: state(api)["status"] == "running")
