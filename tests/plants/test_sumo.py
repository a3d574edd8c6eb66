"""The SUMO plant: what it sees is there, what is saved comes back,
and the known traps of SUMO's states are covered.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import libsumo
import numpy as np
import pytest

from headway.plants import PlantError
from headway.plants.sumo import SumoPlant, SumoSettings, read_network
from headway.plants.sumo.scenarios import scenario
from headway.roads import BENCHMARK, STREET, Colour, work_out
from headway.street.opening import open_street


def street(name="cologne1", by="planner", **kwargs):
    of = scenario(name)
    network = read_network(of.net)
    return open_street(
        network,
        work_out(network, BENCHMARK),
        SumoSettings(of.sumocfg, **kwargs),
        by,
        lambda _: None,
    )


def in_own_process(code: str) -> str:
    """libsumo holds one simulation a process: what needs several runs them apart."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("sensing", ["camera", "loops"])
def test_lesser_equipment_sees_less_but_never_what_is_far(sensing):
    s = street("cologne8", sensing=sensing)
    try:
        counts = []
        for _ in range(300):
            s.tick()
            counts.append(len(s.observation.vehicles))
            assert (
                s.observation.vehicles.distance_m <= (120.0 if sensing == "camera" else 50.0)
            ).all()
        assert max(counts) > 5
    finally:
        s.plant.close()


def five_minutes(s):
    """(time, vehicles that entered, vehicles that are there, signals of the first seconds)
    of a street that goes on.
    """
    entered, shown = 0, []
    for _ in range(300):
        s.tick()
        entered += libsumo.simulation.getDepartedNumber()
        shown.append(s.gate.shown.tobytes().hex())
    return f"{s.plant.time_s} {entered} {len(libsumo.vehicle.getIDList())} {' '.join(shown[:5])}"


RESTORE = """
import pickle, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from tests.plants.test_sumo import five_minutes, street
s, folder = street(), Path({folder!r})
s.plant.restore(folder / "state.xml.gz")
s.resume(pickle.loads((folder / "street.pickle").read_bytes()))
print(five_minutes(s))
s.plant.close()
"""


@pytest.mark.slow
def test_a_restored_street_goes_on_in_a_new_process_with_vehicles_and_signals(tmp_path):
    s = street()
    try:
        for _ in range(300):
            s.tick()
        s.plant.checkpoint(tmp_path / "state.xml.gz")
        (tmp_path / "street.pickle").write_bytes(pickle.dumps(s.state()))
        first = five_minutes(s).split()
    finally:
        s.plant.close()
    again = in_own_process(
        RESTORE.format(here=str(Path(__file__).parents[2]), folder=str(tmp_path))
    ).split()
    assert again[0] == first[0] == "25800.0"
    assert int(first[1]) > 100
    assert abs(int(again[1]) - int(first[1])) <= 3, "those who had arrived do not depart again"
    assert again[3:] == first[3:], "the signals go on as they were"


def test_what_is_no_state_is_refused(tmp_path):
    s = street("cologne1")
    try:
        (tmp_path / "state.xml.gz").write_bytes(b"no state")
        with pytest.raises(PlantError, match=r"state\.xml\.gz: SUMO does not take this state"):
            s.plant.restore(tmp_path / "state.xml.gz")
    finally:
        s.plant.close()


def test_routes_that_do_not_fit_the_network_are_a_clear_error(tmp_path):
    of = scenario("cologne1")
    config = tmp_path / "mixed.sumocfg"
    config.write_text(
        f'<configuration><input><net-file value="{of.net}"/><route-files '
        f'value="{scenario("ingolstadt1").routes[0]}"/></input></configuration>'
    )
    network = read_network(of.net)
    plant = None
    with pytest.raises(PlantError, match=r"mixed\.sumocfg|SUMO failed"):
        plant = SumoPlant(SumoSettings(str(config)), network)
        for _ in range(10):
            plant.advance(1.0)
    if plant is not None:
        plant.close()


def test_an_emergency_vehicle_is_seen_with_its_way_and_gets_green_at_each_junction(tmp_path):
    of = scenario("cologne8")
    extra = tmp_path / "fire.rou.xml"
    extra.write_text(
        '<routes><vType id="fire" vClass="emergency"/><trip id="engine1" type="fire" '
        'depart="25210" from="-186623965#18" to="-186623965#14"/></routes>'
    )
    network = read_network(of.net)
    events = []
    s = open_street(
        network,
        work_out(network, BENCHMARK),
        SumoSettings(of.sumocfg, extra=("--additional-files", str(extra))),
        "planner",
        events.append,
    )
    try:
        import libsumo

        ahead, stood, there = set(), 0, 0
        for _ in range(60):
            s.tick()
            ahead |= {len(e.ahead) for e in s.observation.emergencies}
            if "engine1" in libsumo.vehicle.getIDList():
                there += 1
                stood += libsumo.vehicle.getSpeed("engine1") < 0.1
        assert ahead == {1, 2}, (
            "the signals along its way are known, not the next one alone; "
            "and the second still, after the first"
        )
        told = [(e.kind, e.junction) for e in events if e.kind.startswith("safety.emergency")]
        junctions = ["247379907", "26110729"]
        assert sorted(told) == sorted(
            (kind, j) for kind in ("safety.emergency", "safety.emergency_ended") for j in junctions
        ), "once each"
        assert there > 30
        assert stood == 0, "it is let through both"
    finally:
        s.plant.close()


def test_numbers_that_cannot_be_are_left_out_and_lower_the_completeness():
    from dataclasses import replace

    from headway.street.plausibility import drop_implausible

    s = street("cologne1")
    try:
        for _ in range(60):
            s.tick()
        v = s.observation.vehicles
        bad = replace(
            v,
            distance_m=np.where(np.arange(len(v)) == 0, np.nan, v.distance_m),
            speed_mps=np.where(np.arange(len(v)) == 1, 1e9, v.speed_mps),
        )
        kept = drop_implausible(replace(s.observation, vehicles=bad), s.network)
        assert len(kept.vehicles) == len(v) - 2
        assert (kept.completeness < 1).all()
    finally:
        s.plant.close()


@pytest.mark.parametrize("timing", [BENCHMARK, STREET], ids=lambda t: t.name)
@pytest.mark.slow
def test_pedestrians_are_seen_and_none_waits_for_ever(crossing_network, tmp_path, timing):
    edges = [
        "left0A0",
        "bottom0A0",
        "left1A1",
        "B0right0",
        "B1right1",
        "B1top1",
        "A1top0",
        "B0bottom1",
    ]
    drives = [("left0A0", "B0right0"), ("bottom0A0", "A1top0"), ("left1A1", "B1right1")]
    (tmp_path / "walk.rou.xml").write_text(
        "<routes>"
        + "".join(
            f'<flow id="car{i}" begin="0" end="600" vehsPerHour="500" from="{a}" to="{b}"/>'
            for i, (a, b) in enumerate(drives)
        )
        + "".join(
            f'<personFlow id="p{i}" begin="0" end="600" personsPerHour="60"><walk '
            f'from="{a}" to="{b}"/></personFlow>'
            for i, (a, b) in enumerate(zip(edges, reversed(edges), strict=True))
        )
        + "</routes>"
    )
    config = tmp_path / "walk.sumocfg"
    config.write_text(
        f'<configuration><input><net-file value="{crossing_network}"/><route-files '
        f'value="{tmp_path}/walk.rou.xml"/></input><time><end '
        'value="900"/></time></configuration>'
    )
    network = read_network(crossing_network)
    s = open_street(
        network, work_out(network, timing), SumoSettings(str(config)), "planner", lambda _: None
    )
    try:
        stood = np.zeros(len(network.groups))
        longest, seen = 0.0, 0
        for _ in range(900):
            s.tick()
            seen = max(seen, int(s.observation.waiting_persons.sum()))
            stood = np.where(
                (s.observation.waiting_persons > 0) & (s.gate.shown < Colour.PERMISSIVE),
                stood + 1,
                0,
            )
            longest = max(longest, float(stood.max()))
        assert seen > 0
        assert longest < timing.max_red_s + 120
    finally:
        s.plant.close()
