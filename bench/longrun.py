"""What holds over a long time: the rules of safety, and memory."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.safety.hostile import Liars, lines_of, spans_of
from tests.safety.rules import broken_rules, services

from headway.plants.sumo import read_network
from headway.plants.sumo.scenarios import RESCO, scenario
from headway.roads import BENCHMARK, STREET
from headway.safety.audit import audit

SECONDS = 600  # of one seed
RESTLESS = (0.02, 0.1, 0.5)
LIES = (0.0, 0.01, 0.05, 0.3)

MEMORY = """
import sys, resource
from pathlib import Path
from headway.street.event_log import EventLog
from headway.street.opening import open_street
from headway.plants.sumo import SumoSettings
from headway.roads import BENCHMARK, work_out
from headway.plants.sumo import read_network
network = read_network(sys.argv[2])
log = EventLog(Path(sys.argv[3]) / "events.jsonl")
timing, settings = work_out(network, BENCHMARK), SumoSettings(sys.argv[1])
street = open_street(network, timing, settings, "planner", log.append)
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
for hour in range(24):
    for _ in range(3600):
        street.tick()
    log.flush()
    if hour in (1, 23):
        print(hour + 1, resident(), flush=True)
"""


def safety(arguments: Sequence[str] = ()) -> None:
    """The gate among hostile clocks, read-backs, observations and proposals, for a million seconds
    of junctions: held against the audit and the tests' own statement of the rules. Ends with 1 at
    the first rule that is broken.
    """
    parser = argparse.ArgumentParser(prog="python -m bench safety", description=safety.__doc__)
    parser.add_argument("--junction-seconds", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    done, seed, begun = 0, options.seed, time.monotonic()
    places = [(read_network(scenario(name).net), p) for name in RESCO for p in (BENCHMARK, STREET)]
    kinds: Counter[str] = Counter()
    while done < options.junction_seconds:
        network, profile = places[seed % len(places)]
        liars = Liars(network, profile, seed, RESTLESS[seed % 3], LIES[seed % 4])
        history = liars.play(SECONDS)
        served = services(liars.said)
        broken: list[object] = list(broken_rules(network, liars.timing, history, served))
        lines = lines_of(network, history)
        broken += audit(network, liars.timing, lines, 0.0, spans_of(served))
        if broken:
            sys.exit(f"seed {seed}, {network.path}, {profile.name}: {broken[0]}")
        kinds.update(e.kind.removeprefix("safety.") for events in liars.said for e in events)
        done += SECONDS * len(network.junctions)
        seed += 1
    print(f"{done:,} junction-seconds in {time.monotonic() - begun:.0f} s: no rule broken")
    print(", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common()))


def memory() -> None:
    """Resident memory of the whole loop over 24 simulated hours of steady demand on cologne1; to
    reach: under 1 % growth.
    """
    of = scenario("cologne1")
    trips = re.findall(
        r'<trip id="[^"]*" type="pkw" depart="[^"]*" from="([^"]*)" to="([^"]*)"',
        Path(of.routes[0]).read_text(),
    )
    with TemporaryDirectory() as folder:
        routes, config = Path(folder) / "day.rou.xml", Path(folder) / "day.sumocfg"
        pairs = sorted({p: trips.count(p) for p in set(trips)}.items())
        flows = "".join(
            f'<flow id="f{i}" type="pkw" begin="0" end="86400" vehsPerHour="{0.6 * n}" '
            f'from="{a}" to="{b}"/>'
            for i, ((a, b), n) in enumerate(pairs)
        )
        routes.write_text(
            '<routes><vType id="pkw" vClass="passenger" speedDev="0.1" length="4.3" '
            f'minGap="1.5"/>{flows}</routes>'
        )
        config.write_text(
            f'<configuration><input><net-file value="{of.net}"/><route-files '
            f'value="{routes}"/></input><time><begin value="0"/><end '
            'value="86400"/></time></configuration>'
        )
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(config), of.net, folder],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        first, last = float(done[1]), float(done[3])
        print(
            f"after 2 h {first:.1f} MiB, after 24 h {last:.1f} MiB: "
            f"{100 * (last / first - 1):+.2f} %"
        )
