"""The benchmark: one SUMO run for each scenario, controller and seed, judged by SUMO's own trip
records.
"""

from __future__ import annotations

import math
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from headway.control.models import ModelFile
from headway.plants.sumo import SumoSettings, network_of
from headway.plants.sumo.scenarios import Scenario, fitting_step_s, scenario
from headway.plants.sumo.signal_record import read_states
from headway.roads import PROFILES, Network, work_out
from headway.safety.audit import audit, services
from headway.safety.audit_demand import Demand, audit_waits
from headway.settings import Settings, load
from headway.street.closed_loop import Street
from headway.street.opening import open_street
from headway.values import BoolArray, Event, FloatArray, Observation

TICK_S = 1.0  # of the street's loop
# A run without an end is over when nobody has entered or left for so long: without teleporting,
# streets can lock up for good.
STANDSTILL_S = 4 * 3600.0
GRACE_S = 10.0  # at the start, before the gate has cleared what the network's programme showed
# attributes of a <tripinfo>, with what counts where one is missing
TRIP = {
    "timeLoss": "0",
    "departDelay": "0",
    "waitingTime": "0",
    "duration": "0",
    "waitingCount": "0",
    "arrival": "-1",
}
EMISSIONS = ("fuel_abs", "CO2_abs")  # mg, of its <emissions>
# a configuration may ask for trips of a part of the vehicles, or in another form, and may let
# vehicles that cannot enter disappear: whoever keeps them out would have the better figures
EVERY_TRIP = (
    *("--device.tripinfo.probability", "1"),
    *("--tripinfo-output.write-undeparted", "false"),  # they are counted as pending
    *("--human-readable-time", "false"),
    *("--max-depart-delay", "-1"),
)


@dataclass(frozen=True, slots=True)
class Job:
    """One run to be made. scenario: a name of the catalogue, or the path of a .sumocfg. step_s: of
    the simulation; None for the scenario's own, or the nearest that fits ticks of TICK_S. label:
    what results call the scenario; empty for its name. config: a settings file with the
    controllers' figures, the fallback, and the confidence below which it decides; empty for the
    defaults. model: that decides, in place of a controller of
    the catalogue; `controller` is then what results call it.
    """

    scenario: str
    controller: str
    seed: int
    timing: str = "benchmark"
    sensing: str = "connected"
    scale: float = 1.0
    keep: str = ""
    step_s: float | None = None
    label: str = ""
    config: str = ""
    model: ModelFile | None = None

    @property
    def name(self) -> str:
        """What results call the scenario, also where it cannot be read."""
        is_file = self.scenario.endswith(".sumocfg")
        return self.label or (Path(self.scenario).stem if is_file else self.scenario)

    def identity(self) -> dict[str, Any]:
        """What its result is of."""
        names = ("controller", "seed", "timing", "sensing", "scale", "config")
        own = {name: getattr(self, name) for name in names}
        return {"scenario": self.name, **own}


@dataclass(frozen=True, slots=True)
class Result:
    """What one run came to; times in seconds, means over vehicles. error is empty where the run
    went to its end. late_starts: greens that came after the maximum cycle, each with an event that
    says why; one without is a safety violation. decided_share: of the time of all junctions, in
    which the controller itself decided (its fallback in the rest). unrecorded: vehicles that drove
    and of which SUMO keeps no record, since their type has it so: no figure counts them.
    """

    scenario: str
    controller: str
    seed: int
    timing: str
    sensing: str
    scale: float
    delay_s: float = float("nan")
    waiting_s: float = float("nan")
    duration_s: float = float("nan")
    person_waiting_s: float = float("nan")
    arrived: int = 0
    unfinished: int = 0
    never_entered: int = 0
    stops: float = float("nan")
    fuel_g: float = float("nan")
    co2_g: float = float("nan")
    safety_violations: int = 0
    late_starts: int = 0
    interventions: int = 0
    wall_s: float = float("nan")
    decision_ms_p99: float = float("nan")
    decided_share: float = float("nan")
    error: str = ""
    config: str = ""
    unrecorded: int = 0

    def flat(self) -> dict[str, object]:
        return asdict(self)


def run_guarded(job: Job) -> Result:
    """As `run`; what fails is a Result with its error."""
    try:
        return run(job)
    except (ValueError, RuntimeError, OSError) as error:
        return Result(**job.identity(), error=f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class _Outputs:
    """What SUMO writes of a run: its trips, and the states of its signals."""

    folder: Path

    @property
    def trips(self) -> Path:
        return self.folder / "tripinfo.xml"

    @property
    def states(self) -> Path:
        return self.folder / "tls.xml"

    def additional(self, network: Network) -> str:
        """An additional file that makes SUMO write its signals."""
        additional, states = self.folder / "audit.add.xml", quoteattr(str(self.states))
        events = "".join(
            f'<timedEvent type="SaveTLSStates" source={quoteattr(tl)} dest={states}/>'
            for j in network.junctions
            for tl in j.tl_ids
        )
        additional.write_text(f"<additional>{events}</additional>")
        return str(additional)

    def arguments(self, step_s: float | None) -> tuple[str, ...]:
        """Options that make SUMO write the trips."""
        step = () if step_s is None else ("--step-length", f"{step_s:g}")
        trips = ("--tripinfo-output", str(self.trips), "--tripinfo-output.write-unfinished", "true")
        emissions = ("--device.emissions.probability", "1")
        names = ("--output-prefix", "", "--output-suffix", "")  # ours must be found again
        return (*step, *trips, *EVERY_TRIP, *emissions, *names)


def run(job: Job) -> Result:
    """One run, from the scenario's begin to its end."""
    site = scenario(job.scenario)
    if site.end_s == site.begin_s:
        raise ValueError(f"{site.sumocfg}: ends at its begin, {site.end_s:g} s. Give a later end.")
    network = network_of(site)
    timing = work_out(network, PROFILES[job.timing])
    if job.controller == "q-learning" and job.model is None:
        from headway.control.qlearning import require_table

        require_table(network)
    events: list[Event] = []

    def keep(event: Event) -> None:
        if event.kind.startswith("safety."):
            events.append(event)

    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        outputs = _Outputs(Path(folder))
        sumo = SumoSettings(
            sumocfg=site.sumocfg,
            seed=job.seed,
            scale=job.scale,
            sensing=job.sensing,
            extra=outputs.arguments(_step_s(job, site)),
            additional=(outputs.additional(network),),
        )
        settings = load(job.config) if job.config else None
        control = (settings or Settings()).control
        # figures must not depend on how busy the machine is
        street = open_street(
            network,
            timing,
            sumo,
            job.model or job.controller,
            keep,
            fallback=control.fallback,
            confidence_threshold=control.confidence,
            settings=settings,
            step_within_s=math.inf,
        )
        watch = Watch(network, events)
        wall_s, decided_share, entered, pending = _to_the_end(street, site, watch)
        lines = read_states(outputs.states)
        violations = audit(network, timing, lines, grace_s=GRACE_S, served=services(events))
        found = audit_waits(network, timing, lines, watch.demand())
        late = [x for x in found if x.rule == "maximum_cycle"]
        unexplained = len(found) - len(late) + max(len(late) - watch.explained(), 0)
        if job.keep:
            Path(job.keep).mkdir(parents=True, exist_ok=True)
            name = f"{job.name}-{job.controller}-{job.seed}.tripinfo.xml"
            copyfile(outputs.trips, Path(job.keep) / name)
        decisions_ms = street.durations.table()[:, 1] * 1e3 / len(network.junctions)
        figures = judge(outputs.trips, pending, site)
        return Result(
            **job.identity(),
            **figures,
            unrecorded=max(entered - figures["arrived"] - figures["unfinished"], 0),
            safety_violations=len(violations) + unexplained,
            late_starts=len(late),
            interventions=len(events),
            wall_s=wall_s,
            decided_share=decided_share,
            decision_ms_p99=float(np.percentile(decisions_ms, 99)),
        )


def _step_s(job: Job, site: Scenario) -> float | None:
    """None for the scenario's own, or that of the frames of rendered cameras."""
    if job.step_s is not None or job.sensing == "rendered":
        return job.step_s
    fitting_s = fitting_step_s(TICK_S, site.step_s)
    return None if fitting_s == site.step_s else fitting_s


class Watch:
    """Who waited during a run, and what the gate let wait: for the audit. events: of the gate, as
    they come.
    """

    def __init__(self, network: Network, events: list[Event]) -> None:
        self._groups = network.link_group
        self._lane_groups: dict[int, list[int]] = {}
        for link in network.links:
            if link.group >= 0:
                self._lane_groups.setdefault(link.from_lane, []).append(link.group)
        self._names = [junction.id for junction in network.junctions]
        self._events = events
        self._seen = 0
        self._over_rules: set[tuple[str, str]] = set()  # what stands over the rules, and where
        self._rows: list[tuple[float, BoolArray, BoolArray]] = []

    def tick(self, observation: Observation) -> None:
        present = observation.waiting_persons > 0
        vehicles = observation.vehicles
        groups = self._groups[vehicles.link[vehicles.link >= 0]]
        present[groups[groups >= 0]] = True
        # one whose way is not known may be for any group of its lane
        unsure = vehicles.link < 0 if observation.links_known else np.ones(len(vehicles), np.bool_)
        for lane in set(vehicles.lane[unsure].tolist()):
            present[self._lane_groups.get(lane, [])] = True
        for event in self._events[self._seen :]:
            what = event.kind.removeprefix("safety.").removesuffix("_ended")
            if event.kind in ("safety.emergency", "safety.override"):
                self._over_rules.add((what, event.junction))
            elif event.kind == "safety.emergency_ended":
                self._over_rules.discard((what, event.junction))
        self._seen = len(self._events)
        places = {name for _, name in self._over_rules}
        excused = np.array([name in places for name in self._names], np.bool_)
        self._rows.append((observation.at_s, present, excused))

    def demand(self) -> Demand:
        at_s, present, excused = zip(*self._rows, strict=True)
        return Demand(np.array(at_s), np.array(present), np.array(excused))

    def explained(self) -> int:
        """How many cycles the gate itself reported as too long."""
        return sum(event.kind == "safety.cycle_exceeded" for event in self._events)


def _to_the_end(
    street: Street, site: Scenario, watch: Watch
) -> tuple[float, float, int, dict[str, float]]:
    """(wall time s, share of the time that the controller decided, vehicles that entered, those
    that never did with their delay s) of a run; closes the plant.
    """
    decided = list[float]()
    begun = time.perf_counter()
    endless = not np.isfinite(site.end_s)
    passed, since_s = (0, 0), street.plant.time_s
    try:
        while street.plant.time_s < site.end_s and (street.plant.running or not endless):
            if (now := (street.plant.entered(), street.plant.left())) != passed:
                passed, since_s = now, street.plant.time_s
            elif endless and street.plant.time_s - since_s >= STANDSTILL_S:
                break
            street.tick(TICK_S)
            watch.tick(street.observation)
            decided.append(street.controller_share())
        share = sum(decided) / len(decided) if decided else math.nan
        wall_s = time.perf_counter() - begun
        return wall_s, share, street.plant.entered(), street.plant.pending()
    finally:
        street.plant.close()


def judge(trips: Path, pending: dict[str, float], site: Scenario) -> dict[str, Any]:
    """The figures of merit, from SUMO's tripinfo and the vehicles that never entered (with their
    delay so far, s).

    Raises ValueError where no vehicle departed.
    """
    vehicles, persons = _read_trips(trips)
    entered = len(vehicles["timeLoss"])
    n = entered + len(pending)
    if not n:
        raise ValueError(
            f"{site.sumocfg}: no vehicle departed between {site.begin_s} and {site.end_s} s. Check "
            "begin, end and the routes."
        )
    loss_s = vehicles["timeLoss"].sum() + vehicles["departDelay"].sum() + sum(pending.values())
    arrived = int((vehicles["arrival"] >= 0).sum())
    return {
        "delay_s": float(loss_s / n),
        "waiting_s": _mean(vehicles["waitingTime"]),
        "duration_s": _mean(vehicles["duration"]),
        "person_waiting_s": _mean(persons),
        "arrived": arrived,
        "unfinished": entered - arrived,
        "never_entered": len(pending),
        "stops": _mean(vehicles["waitingCount"]),
        "fuel_g": _mean(_known(vehicles["fuel_abs"])) / 1e3,
        "co2_g": _mean(_known(vehicles["CO2_abs"])) / 1e3,
    }


def _read_trips(trips: Path) -> tuple[dict[str, FloatArray], FloatArray]:
    """(columns of the vehicles that entered, by SUMO's names; time loss of each person, s)."""
    columns: dict[str, list[float]] = {name: [] for name in (*TRIP, *EMISSIONS)}
    persons = []
    for _, item in ET.iterparse(trips):
        if item.tag == "tripinfo":
            emissions = item.find("emissions")
            for name, default in TRIP.items():
                columns[name].append(float(item.get(name, default)))
            for name in EMISSIONS:
                found = emissions.get(name, "nan") if emissions is not None else "nan"
                columns[name].append(float(found))
            item.clear()
        elif item.tag == "personinfo":
            persons.append(sum(float(walk.get("timeLoss", "0")) for walk in item.findall("walk")))
            item.clear()
    arrays = {name: np.array(values, np.float64) for name, values in columns.items()}
    return arrays, np.array(persons, np.float64)


def _known(values: FloatArray) -> FloatArray:
    """Without the vehicles that SUMO does not measure, since their type has it so."""
    return values[~np.isnan(values)]


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else float("nan")
