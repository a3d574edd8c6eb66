"""The benchmark's figures: by hand from records made up,
and from real ones read a second time with another reader.
"""

from __future__ import annotations

import itertools
import tracemalloc
import xml.etree.ElementTree as ET
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import libsumo
import numpy as np
import pytest
from tests.street.builders import Says, named

from headway.control.models import ModelFile
from headway.control.qlearning import network_stamp
from headway.control.qtable import QTable
from headway.experiments import benchmark
from headway.experiments.benchmark import Job, Result, judge, run, run_guarded
from headway.plants.sumo.scenarios import Scenario
from headway.roads import BENCHMARK, STREET
from headway.street import closed_loop as street_room
from headway.values import Event

OF = Scenario("made", "made.sumocfg", "made.net.xml", (), 0.0, 60.0)


@pytest.fixture(autouse=True)
def empty():
    """A result of nothing."""
    made = Result("s", "c", 1, "benchmark", "connected", 1.0)
    return made, made.flat()


def trip(
    loss,
    late,
    waiting,
    duration,
    stops,
    arrival="40.00",
    emissions='<emissions fuel_abs="2500.0" CO2_abs="7000.0"/>',
):
    times = (
        f'timeLoss="{loss}" departDelay="{late}" waitingTime="{waiting}" duration="{duration}" '
        f'waitingCount="{stops}"'
    )
    return f'<tripinfo id="x" arrival="{arrival}" {times}>{emissions}</tripinfo>'


def judged(tmp_path, *items, pending=None):
    path = tmp_path / "tripinfo.xml"
    path.write_text(f"<tripinfos>{''.join(items)}</tripinfos>")
    return judge(path, pending or {}, OF)


def test_delay_is_time_lost_and_waited_to_enter_of_all_who_wished_to_drive(tmp_path):
    """Lost 10 + 20 + 30, late to enter 1 + 2 + 3, still outside 40 + 4: 110 s, of five.
    The other means are of the three who drove.
    """
    items = [
        trip(10, 1, 5, 100, 2),
        trip(20, 2, 6, 110, 3),
        trip(30, 3, 10, 60, 4, arrival="-1.00"),
    ]
    found = judged(tmp_path, *items, pending={"a": 40.0, "b": 4.0})
    assert found == {
        "delay_s": pytest.approx(22.0), "waiting_s": pytest.approx(7.0),
        "duration_s": pytest.approx(90.0), "person_waiting_s": pytest.approx(np.nan, nan_ok=True),
        "arrived": 2, "unfinished": 1, "never_entered": 2, "stops": pytest.approx(3.0),
        "fuel_g": pytest.approx(2.5), "co2_g": pytest.approx(7.0),
    }  # fmt: skip


def test_one_vehicle_is_its_own_mean(tmp_path):
    found = judged(tmp_path, trip(10, 1, 5, 100, 2, arrival="0.00"))
    assert (
        found["delay_s"],
        found["waiting_s"],
        found["duration_s"],
        found["stops"],
        found["fuel_g"],
        found["co2_g"],
    ) == (
        11.0,
        5.0,
        100.0,
        2.0,
        2.5,
        7.0,
    )
    assert (found["arrived"], found["unfinished"], found["never_entered"]) == (1, 0, 0), (
        "arrived at second nought is arrived"
    )


def test_what_a_record_does_not_say_is_nought_and_who_has_no_arrival_has_not_arrived(tmp_path):
    found = judged(
        tmp_path,
        '<tripinfo id="x"/>',
        trip(10, 2, 6, 8, 2, emissions=""),
        trip(0, 0, 0, 0, 0, emissions="<emissions/>"),
    )
    assert (
        found["delay_s"],
        found["waiting_s"],
        found["stops"],
    ) == pytest.approx((4.0, 2.0, 2 / 3))
    assert (found["arrived"], found["unfinished"]) == (2, 1)


def test_fuel_is_that_of_the_vehicles_that_sumo_measures(tmp_path):
    """A type with has.emissions.device=false has none; it drove with an engine all the same."""
    measured, others = trip(1, 0, 0, 9, 0), trip(1, 0, 0, 9, 0, emissions="")
    found = judged(
        tmp_path, measured, others, others, trip(1, 0, 0, 9, 0, emissions="<emissions/>")
    )
    assert (found["fuel_g"], found["co2_g"]) == (2.5, 7.0)
    found = judged(tmp_path, others, others)
    assert [k for k, v in found.items() if v != v] == ["person_waiting_s", "fuel_g", "co2_g"]


def test_persons_wait_on_all_their_ways(tmp_path):
    """The first lost 3 + 4 s on two ways, the second nothing, the third's way does not say:
    (7 + 0 + 0) / 3.
    """
    walks = [
        '<personinfo id="a"><walk timeLoss="3"/><walk timeLoss="4"/></personinfo>',
        '<personinfo id="b"/>',
        '<personinfo id="c"><walk/></personinfo>',
    ]
    found = judged(tmp_path, *walks, trip(10, 1, 5, 100, 2))
    assert found["person_waiting_s"] == pytest.approx(7 / 3)
    assert (found["arrived"], found["delay_s"]) == (1, 11.0), "persons are not vehicles"


def test_where_nobody_drove_only_the_delay_outside_is_a_number(tmp_path):
    found = judged(tmp_path, pending={"a": 40.0})
    assert {k: v for k, v in found.items() if v == v} == {
        "delay_s": 40.0, "arrived": 0, "unfinished": 0, "never_entered": 1,
    }  # fmt: skip
    assert [k for k, v in found.items() if v != v] == [
        "waiting_s",
        "duration_s",
        "person_waiting_s",
        "stops",
        "fuel_g",
        "co2_g",
    ]


def test_a_scenario_in_which_nobody_wished_to_drive_is_refused(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"made.sumocfg: no vehicle departed between 0.0 and 60.0 s. Check begin, "
        r"end and the routes.",
    ):
        judged(tmp_path, '<personinfo id="b"/>')


@pytest.mark.parametrize(
    "item",
    [
        trip(1, 0, 0, 9, 0, emissions="".join(f'<walk timeLoss="{k}"/>' for k in range(10))),
        '<personinfo id="a"><walk timeLoss="3"/></personinfo>' * 10,
    ],
)
def test_a_long_record_does_not_fill_the_memory(tmp_path, item):
    """A few hundred bytes a row; kept, the elements would be ten times as much."""
    path = tmp_path / "tripinfo.xml"
    path.write_text(f"<tripinfos>{trip(1, 0, 0, 9, 0)}{item * 500}</tripinfos>")
    judge(path, {}, OF)
    tracemalloc.start()
    judge(path, {}, OF)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_500_000


# --- a run --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jam(scenario_of):
    """From 50 to 130 s: thirty who wish to enter from the north within ten seconds,
    some of whom never do, and two from the west.
    """
    trips = [(f"n{k:02}", 51 + k / 3, "N", "S") for k in range(30)] + [
        ("w0", 70, "W", "E"),
        ("w1", 90, "W", "E"),
    ]
    return str(scenario_of("jam", 50, 130, trips))


def second_reader(path, wished, end_s):
    """The definitions, over the whole tree and in plain Python."""
    trips = ET.parse(path).getroot().findall("tripinfo")
    outside = [
        end_s - depart
        for name, depart in wished.items()
        if name not in {t.get("id") for t in trips}
    ]
    mean = lambda name: sum(float(t.get(name)) for t in trips) / len(trips)  # noqa: E731

    def emitted(name):
        return sum(float(t.find("emissions").get(name)) for t in trips) / len(trips) / 1000.0

    return {
        "delay_s": ((mean("timeLoss") + mean("departDelay")) * len(trips) + sum(outside))
        / (len(trips) + len(outside)),
        "waiting_s": mean("waitingTime"), "duration_s": mean("duration"),
        "stops": mean("waitingCount"),
        "fuel_g": emitted("fuel_abs"), "co2_g": emitted("CO2_abs"), "never_entered": len(outside),
        "arrived": len([t for t in trips if float(t.get("arrival")) != -1.0]),
        "unfinished": len([t for t in trips if float(t.get("arrival")) == -1.0]),
    }  # fmt: skip


def test_a_run_has_the_figures_of_its_settings_file(jam, tmp_path, monkeypatch):
    file, models = tmp_path / "own.yaml", []
    as_it_is = benchmark.open_street

    def opened(*words, **more):
        street = as_it_is(*words, **more)
        models.append(float(street.controller._model.headway_s))
        return street

    monkeypatch.setattr(benchmark, "open_street", opened)
    file.write_text("planner: {headway_s: 2.5}")
    assert run(Job(jam, "planner", 3, config=str(file))).config == str(file)
    run(Job(jam, "planner", 3))
    assert models == [2.5, 1.89]


def test_a_model_is_judged_as_the_controller_with_its_figures_is(jam, tmp_path):
    """By the same table, gate and audit."""
    file = tmp_path / "own.yaml"
    file.write_text("planner: {headway_s: 2.5}")
    model = ModelFile("own", 3, "planner", sha256(file.read_bytes()).hexdigest(), str(file))
    unlike = {"controller": "", "config": "", "wall_s": 0.0, "decision_ms_p99": 0.0}
    unlike["person_waiting_s"] = 0.0
    judged = run(Job(jam, "own@3", 3, model=model))
    assert judged.controller == "own@3"
    settled = run(Job(jam, "planner", 3, config=str(file)))
    assert replace(judged, **unlike) == replace(settled, **unlike)
    assert judged.safety_violations == 0
    file.write_text("planner: {headway_s: 2.6}")
    error = run_guarded(Job(jam, "own@3", 3, model=model)).error
    assert error.startswith(f"ValueError: model own@3: {file}: was changed")


def test_the_figures_of_a_run_are_those_of_simulations_own_record(jam, tmp_path, monkeypatch):
    monkeypatch.setattr(
        benchmark, "time", SimpleNamespace(perf_counter=iter((10.0, 12.5)).__next__)
    )
    keep = tmp_path / "deep" / "kept"
    result = run(Job(jam, "fixed", 3, keep=str(keep)))
    root = ET.parse(Path(jam).parent / "routes.rou.xml").getroot()
    wished = {t.get("id"): float(t.get("depart")) for t in root}
    expected = second_reader(keep / "jam-fixed-3.tripinfo.xml", wished, 130.0)
    assert expected["never_entered"] >= 3
    assert expected["unfinished"] >= 3
    assert expected["arrived"] >= 3
    assert expected["stops"] > 0.5
    found = result.flat()
    assert {k: found[k] for k in expected} == pytest.approx(expected, rel=1e-9)
    assert {k: found[k]
        for k in ("scenario", "controller", "seed", "timing", "sensing", "scale", "error",
            "safety_violations", "late_starts", "wall_s")} == {
        "scenario": "jam", "controller": "fixed", "seed": 3, "timing": "benchmark",
        "sensing": "connected", "scale": 1.0, "error": "",
        "safety_violations": 0, "late_starts": 0, "wall_s": 2.5,
    }  # fmt: skip
    assert result.person_waiting_s != result.person_waiting_s, "there was nobody on foot"
    assert [p.name for p in keep.iterdir()] == ["jam-fixed-3.tripinfo.xml"]
    assert not libsumo.isLoaded()


@pytest.mark.parametrize(
    "option",
    [
        "tripinfo-output.write-undeparted",
        "device.tripinfo.probability",
        "human-readable-time",
        "max-depart-delay",
    ],
)
def test_every_vehicle_counts_once_whatever_the_configuration_has_recorded(jam, tmp_path, option):
    value = {"device.tripinfo.probability": "0.4", "max-depart-delay": "5"}.get(option, "true")
    configuration = ET.parse(jam)
    ET.SubElement(configuration.getroot(), option, value=value)
    for item in configuration.getroot().find("input"):
        item.set("value", str(Path(jam).parent / item.get("value")))
    own = tmp_path / "jam.sumocfg"
    configuration.write(own)
    unlike = {"wall_s": 0.0, "decision_ms_p99": 0.0, "person_waiting_s": 0.0}
    runs = [replace(run_guarded(Job(of, "fixed", 3)), **unlike) for of in (jam, str(own))]
    assert runs[0] == runs[1]
    assert runs[0].never_entered >= 3


def test_vehicles_of_which_simulation_keeps_no_record_are_told(scenario_of):
    """A parameter of a type stands over each option of SUMO."""
    trips = [(f"n{k}", 51 + 3 * k, "N", "S") for k in range(8)]
    own = scenario_of("own", 50, 130, trips)
    routes = own.parent / "routes.rou.xml"
    root = ET.parse(routes).getroot()
    kind = ET.Element("vType", id="unrecorded")
    ET.SubElement(kind, "param", key="has.tripinfo.device", value="false")
    for item in list(root)[:3]:
        item.set("type", "unrecorded")
    root.insert(0, kind)
    counted = run(Job(str(own), "fixed", 3))
    ET.ElementTree(root).write(routes)
    found = run(Job(str(own), "fixed", 3))
    assert (counted.arrived + counted.unfinished, counted.unrecorded) == (8, 0)
    assert (found.arrived + found.unfinished, found.unrecorded) == (5, 3)


def test_a_traffic_light_may_have_any_name(jam, tmp_path, monkeypatch):
    own, temporary = tmp_path / "jam.sumocfg", tmp_path / "one & two"
    configuration = ET.parse(jam)
    net, routes = (Path(jam).parent / x.get("value") for x in configuration.getroot().find("input"))
    network = ET.parse(net)
    for item in network.iter("tlLogic"):
        item.set("id", "rue d'Aix & <Z>")
    for item in network.iterfind("connection[@tl]"):
        item.set("tl", "rue d'Aix & <Z>")
    network.write(tmp_path / "own.net.xml")
    names = ("own.net.xml", str(routes))
    for item, name in zip(configuration.getroot().find("input"), names, strict=True):
        item.set("value", name)
    configuration.write(own)
    temporary.mkdir()
    monkeypatch.setattr(benchmark.tempfile, "tempdir", str(temporary))
    result = run_guarded(Job(str(own), "fixed", 3))
    assert (result.error, result.safety_violations) == ("", 0)
    assert result.arrived == run(Job(jam, "fixed", 3)).arrived


def test_a_folder_that_is_there_takes_more(jam, tmp_path):
    for seed in (3, 4):
        run(Job(jam, "fixed", seed, keep=str(tmp_path)))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "jam-fixed-3.tripinfo.xml",
        "jam-fixed-4.tripinfo.xml",
    ]


def test_a_run_is_the_same_again_by_its_seed_and_keeps_nothing_where_nothing_is_asked(
    jam, monkeypatch
):
    folders = []
    as_it_is = benchmark.tempfile.TemporaryDirectory
    monkeypatch.setattr(
        benchmark.tempfile,
        "TemporaryDirectory",
        lambda prefix: folders.append(as_it_is(prefix=prefix)) or folders[-1],
    )
    first, again, other = (
        replace(run(Job(jam, "fixed", seed)), wall_s=0.0, decision_ms_p99=0.0, person_waiting_s=0.0)
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first.delay_s != other.delay_s
    assert not any(Path(f.name).exists() for f in folders)
    assert {Path(f.name).name.startswith("headway-") for f in folders} == {True}


def told(monkeypatch):
    """What `run` opens its streets with."""
    asked = []
    as_it_is = benchmark.open_street
    monkeypatch.setattr(
        benchmark, "open_street", lambda *a, **more: asked.append(a) or as_it_is(*a, **more)
    )
    return asked


@pytest.mark.parametrize(
    ("step_s", "steps"),
    [(None, []), (0.5, ["--step-length", "0.5"]), (0.25, ["--step-length", "0.25"])],
)
def test_the_simulation_is_begun_as_the_job_says(jam, monkeypatch, step_s, steps):
    asked = told(monkeypatch)
    result = run(Job(jam, "greedy", 5, timing="street", sensing="loops", scale=0.5, step_s=step_s))
    ((network, timing, sumo, by, _),) = asked
    assert (timing.profile, by, sumo.seed, sumo.scale, sumo.sensing, sumo.remote) == (
        STREET,
        "greedy",
        5,
        0.5,
        "loops",
        "",
    )
    assert list(sumo.extra[: len(steps)]) == steps
    options = (
        dict(itertools.batched(sumo.extra, 2))
        if hasattr(itertools, "batched")
        else dict(zip(sumo.extra[::2], sumo.extra[1::2], strict=True))
    )
    assert options["--tripinfo-output.write-unfinished"] == "true"
    assert options["--device.emissions.probability"] == "1"
    assert set(options) - {"--step-length"} == {
        "--tripinfo-output", "--tripinfo-output.write-unfinished", "--device.emissions.probability",
        "--output-prefix", "--output-suffix", "--device.tripinfo.probability",
        "--tripinfo-output.write-undeparted", "--human-readable-time", "--max-depart-delay",
    }  # fmt: skip
    assert len(sumo.additional) == 1
    assert (result.timing, result.sensing, result.scale, result.controller, result.seed) == (
        "street",
        "loops",
        0.5,
        "greedy",
        5,
    )
    assert network.junctions[0].id == "C"
    assert (("--step-length" in sumo.extra), step_s is not None) in ((True, True), (False, False))


def test_the_signals_that_were_shown_are_audited_from_the_tenth_second_on(jam, monkeypatch):
    audited = []
    monkeypatch.setattr(
        benchmark, "audit", lambda *a, **k: audited.append((a, k)) or ["a", "b", "c"]
    )
    as_it_is = benchmark.open_street

    def opened(network, timing, sumo, by, record, **more):
        record(Event(62.0, "safety.emergency", "C", {}))
        record(Event(70.0, "safety.emergency_ended", "C", {}))
        return as_it_is(network, timing, sumo, by, record, **more)

    monkeypatch.setattr(benchmark, "open_street", opened)
    assert run(Job(jam, "fixed", 3)).safety_violations == 3
    (((network, timing, lines), more),) = audited
    assert (len(network.junctions), timing.profile) == (1, BENCHMARK)
    assert more == {"grace_s": 10.0, "served": {"C": [(62.0, 70.0)]}}
    assert list(lines) == ["C"]
    states = [(at_s, state) for at_s, state in lines["C"] if at_s >= 60.0]
    assert states == [(87.0, "ryry"), (90.0, "GrGr")], (
        "the programme of 42, 3, 42, 3 s from second nought"
    )


def test_every_intervention_of_the_gate_is_counted_and_nothing_else(jam, monkeypatch):
    class Nervous(Says):
        """Wants the other stage every second, and raises at second 100."""

        def step(self, seen, state):
            self.wanted = np.array([[4, 1, 4, 1], [1, 4, 1, 4]][int(seen.at_s) % 2], np.int8)
            self.fault = RuntimeError("broken") if seen.at_s == 100.0 else None
            return super().step(seen, state)

    events = []
    as_it_is = benchmark.open_street

    def opened(network, timing, sumo, by, record, **more):
        return as_it_is(network, timing, sumo, by, lambda e: (events.append(e), record(e)), **more)

    named(monkeypatch, nervous=lambda network, timing: Nervous("nervous", [1, 1, 1, 1], [1.0]))
    monkeypatch.setattr(benchmark, "open_street", opened)
    result = run(Job(jam, "nervous", 3))
    kinds = [e.kind for e in events]
    assert kinds.count("engine.controller_failed") == 1
    assert kinds.count("safety.minimum_green") > 3
    assert (
        result.interventions == len([k for k in kinds if k.split(".")[0] == "safety"]) < len(kinds)
    )


def test_the_slowest_hundredth_of_the_decisions_is_of_one_junction(
    scenario_of, crossing_network, monkeypatch
):
    """Decision k takes k ms: of 1 to 40 ms the 99th percentile is 39 ms and 0.61 of the next; of a
    junction, a fourth of it. A walk is waited for too.
    """
    config = Path(str(scenario_of("walk", 0, 40, [])))
    network = ET.parse(crossing_network).getroot()
    edges = [
        e
        for e in network.findall("edge")
        if e.get("function") is None
        and any("pedestrian" in (x.get("allow") or "") for x in e.findall("lane"))
    ]
    first = edges[0]
    onward = next(
        e for e in edges if e.get("from") == first.get("to") and e.get("to") != first.get("from")
    )
    (config.parent / "routes.rou.xml").write_text(
        f'<routes><trip id="v" depart="1" from="{first.get("id")}" to="{onward.get("id")}"/>'
        f'<person id="p" depart="1" departPos="-3"><walk from="{first.get("id")}" '
        f'to="{onward.get("id")}" arrivalPos="3"/></person></routes>'
    )
    config.write_text(
        f'<configuration><input><net-file value="{crossing_network}"/><route-files '
        'value="routes.rou.xml"/></input>'
        '<time><begin value="0"/><end value="40"/></time></configuration>'
    )
    ticks = itertools.count(1)

    def looks():
        now = 0.0
        while True:
            k = next(ticks)
            for part_s in (0.0, 1.0, k * 1e-3, 1.0, 1.0, 1.0):
                now += part_s
                yield now

    as_it_is = benchmark.open_street

    def without_cycles(*a, **named):
        street = as_it_is(*a, **named, clock=looks().__next__)
        street.loop_state.next_cycle_s = 1e9
        return street

    monkeypatch.setattr(benchmark, "open_street", without_cycles)
    kept = config.parent / "kept"
    result = run(Job(str(config), "fixed", 1, keep=str(kept)))
    assert result.decision_ms_p99 == pytest.approx(39.61 / 4)
    (walk,) = ET.parse(kept / "walk-fixed-1.tripinfo.xml").getroot().findall("personinfo/walk")
    assert result.person_waiting_s == float(walk.get("timeLoss")) > 0.0


def test_a_scenario_without_end_is_run_until_its_last_vehicle_is_there(scenario_of):
    result = run(
        Job(str(scenario_of("open", 0, "", [("a", 3, "N", "S"), ("b", 20, "W", "E")])), "fixed", 1)
    )
    assert (result.arrived, result.unfinished, result.never_entered) == (2, 0, 0)


def test_a_scenario_without_end_is_over_once_its_streets_stand_for_good(scenario_of, monkeypatch):
    """The first one broke down on the way of the second: such a run never came to its end."""
    monkeypatch.setattr(benchmark, "STANDSTILL_S", 300.0)
    config = scenario_of("stuck", 0, "", [("a", 3, "N", "S"), ("b", 20, "N", "S")])
    stop = '<stop lane="Nin_0" endPos="50" duration="1e7"/>'
    routes = config.parent / "routes.rou.xml"
    text = routes.read_text()
    assert text.count("/>") == 2
    routes.write_text(text.replace("/>", f">{stop}</trip>", 1))
    result = run(Job(str(config), "fixed", 1))
    assert (result.arrived, result.unfinished) == (0, 2)


def test_a_scenario_that_ends_at_its_begin_is_refused(scenario_of):
    path = str(scenario_of("none", 9, 9, [("a", 3, "N", "S")]))
    error = run_guarded(Job(path, "fixed", 1)).error
    assert error == f"ValueError: {path}: ends at its begin, 9 s. Give a later end."


def test_a_result_goes_by_the_label_of_its_job_and_so_do_its_trips(scenario_of, tmp_path):
    """Two files of one name would be one scenario, and the second run's trips would replace the
    first's.
    """
    path = str(scenario_of("run", 0, "", [("a", 3, "N", "S")]))
    kept = tmp_path / "kept"
    assert run(Job(path, "fixed", 1, keep=str(kept), label="x-run")).scenario == "x-run"
    assert [p.name for p in kept.iterdir()] == ["x-run-fixed-1.tripinfo.xml"]
    assert run_guarded(Job("missing", "fixed", 1, label="x-run")).scenario == "x-run"


def test_a_run_that_fails_goes_by_the_name_of_those_that_do_not(jam):
    good, failed = (run_guarded(Job(jam, controller, 3)) for controller in ("fixed", "nobody"))
    assert (bool(good.error), bool(failed.error)) == (False, True)
    assert good.scenario == failed.scenario == "jam"


def test_a_run_that_breaks_leaves_no_simulation_behind(jam, monkeypatch):
    def broken(self, period_s=1.0):
        raise RuntimeError("broken")

    monkeypatch.setattr(street_room.Street, "tick", broken)
    result = run_guarded(Job(jam, "fixed", 3, "street", "loops", 2.0))
    assert not libsumo.isLoaded()
    assert result.error == "RuntimeError: broken"
    assert result == replace(
        Result("x", "y", 0, "", "", 0.0),
        **{
            k: result.flat()[k]
            for k in (
                "scenario",
                "controller",
                "seed",
                "timing",
                "sensing",
                "scale",
                "error",
                *NUMBERLESS,
            )
        },
    )
    assert (
        result.scenario,
        result.controller,
        result.seed,
        result.timing,
        result.sensing,
        result.scale,
    ) == ("jam", "fixed", 3, "street", "loops", 2.0)


NUMBERLESS = (
    "delay_s",
    "waiting_s",
    "duration_s",
    "person_waiting_s",
    "stops",
    "fuel_g",
    "co2_g",
    "wall_s",
    "decision_ms_p99",
    "decided_share",
)


def test_a_result_of_nothing_has_no_figures(empty):
    result, flat = empty
    assert all(flat[k] != flat[k] for k in NUMBERLESS), "no number"
    counts = (
        "arrived", "unfinished", "never_entered", "safety_violations", "late_starts",
        "interventions", "unrecorded",
    )  # fmt: skip
    assert [flat[k] for k in counts] == [0] * 7
    assert result.error == ""
    assert set(flat) == {
        "late_starts",
        "scenario",
        "controller",
        "seed",
        "timing",
        "sensing",
        "scale",
        "config",
        "error",
        *NUMBERLESS,
        *counts,
    }


def test_a_job_is_of_the_benchmark_with_all_connected_in_steps_of_a_second():
    job = Job("s", "c", 1)
    assert (job.timing, job.sensing, job.scale, job.keep, job.step_s) == (
        "benchmark",
        "connected",
        1.0,
        "",
        None,
    )


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (ValueError("v"), "ValueError: v"),
        (RuntimeError("r"), "RuntimeError: r"),
        (OSError("o"), "OSError: o"),
    ],
)
def test_a_run_that_fails_is_a_result_with_its_error(monkeypatch, fault, told):
    monkeypatch.setattr(benchmark, "run", lambda job: (_ for _ in ()).throw(fault))
    assert run_guarded(Job("s", "c", 1)).error == told


def test_a_fault_of_the_program_is_not_hidden_in_a_result(monkeypatch):
    monkeypatch.setattr(benchmark, "run", lambda job: (_ for _ in ()).throw(KeyError("k")))
    with pytest.raises(KeyError):
        run_guarded(Job("s", "c", 1))


@pytest.mark.parametrize(
    ("confidence", "share"), [([1.0], 1.0), ([0.1], 0.0), ([float("nan")], 0.0)]
)
def test_the_share_of_the_time_that_a_controller_decided_is_reported(
    jam, monkeypatch, confidence, share
):
    says = Says("says", [4, 1, 4, 1], confidence)
    named(monkeypatch, says=lambda network, timing: says)
    assert run(Job(jam, "says", 1)).decided_share == share


def test_q_learning_without_a_table_of_the_network_has_no_figures(jam, tmp_path, monkeypatch):
    """They were those of its fallback, under its name."""
    network = benchmark.network_of(benchmark.scenario(jam))
    stamp = network_stamp(network)
    path = tmp_path / "q.table"
    monkeypatch.setenv("HEADWAY_QTABLE", str(path))
    cases = [
        (lambda: None, f"no Q-table at {path}"),
        (lambda: QTable(4, 64, path, stamp + 1), "was trained for another network"),
        (lambda: QTable(4, 64, path, stamp), "knows no state"),
    ]
    for make, said in cases:
        path.unlink(missing_ok=True)
        make()
        found = run_guarded(Job(jam, "q-learning", 1))
        assert said in found.error, found.error
        assert "those of its fallback. Train one: headway train" in found.error
    for known in (0, stamp):  # nothing is known of one of an older version
        path.unlink(missing_ok=True)
        table = QTable(4, 64, path, known)
        table.add(np.array([9], np.uint64), np.array([0]), np.array([1.0], np.float32))
        assert run_guarded(Job(jam, "q-learning", 1)).error == ""


def test_who_decides_below_which_confidence_is_as_the_settings_file_says(
    jam, tmp_path, monkeypatch
):
    """Judged with another threshold, a run said nothing of the settings that it was given."""
    named(monkeypatch, says=lambda network, timing: Says("says", [4, 1, 4, 1], [0.1]))
    file, asked = tmp_path / "own.yaml", []
    as_it_is = benchmark.open_street
    monkeypatch.setattr(
        benchmark,
        "open_street",
        lambda *a, **more: asked.append(more["fallback"]) or as_it_is(*a, **more),
    )
    file.write_text("control: {confidence: 0.05, fallback: fixed}")
    assert run(Job(jam, "says", 1, config=str(file))).decided_share == 1.0
    assert run(Job(jam, "says", 1)).decided_share == 0.0
    assert asked == ["fixed", "webster"]
