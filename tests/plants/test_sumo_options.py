"""What a configuration asks of SUMO besides its network and routes: kept, overruled where no loop
could run, or refused with the reason.
"""

from __future__ import annotations

import os

import pytest

from headway.plants import PlantError
from headway.plants.sumo import SumoPlant, SumoSettings, network_of
from headway.plants.sumo.complaints import Complaints, complaints
from headway.plants.sumo.scenarios import scenario
from headway.plants.sumo.signal_record import read_states
from headway.roads import RoadsError


@pytest.fixture
def configured(tmp_path):
    """A configuration of cologne1 with further options."""
    of = scenario("cologne1")

    def write(options: str, name: str = "own") -> str:
        path = tmp_path / f"{name}.sumocfg"
        path.write_text(
            f'<configuration><input><n v="{of.net}"/><route-files>{of.routes[0]}</route-files>'
            f'</input><begin value="7:00:00"/>{options}</configuration>'
        )
        return str(path)

    return write


def departed(sumocfg: str, seconds: int = 60, **settings) -> tuple[set[str], str]:
    """(vehicles that were let in or wait to be, after so many steps; SUMO's own teleport time)."""
    plant = SumoPlant(SumoSettings(sumocfg, **settings), network_of(scenario(sumocfg)))
    try:
        seen = set[str]()
        for _ in range(seconds):
            plant.advance(1.0)
            seen |= {*plant.interface.vehicle.getIDList(), *plant.pending()}
        return seen, plant.interface.simulation.getOption("time-to-teleport")
    finally:
        plant.close()


def test_the_scale_of_a_configuration_is_kept_and_multiplied(configured):
    whole, _ = departed(configured(""))
    assert len(whole) > 20
    tenth, _ = departed(configured('<scale value="0.1"/>'))
    twice, _ = departed(configured('<scale value="0.1"/>'), scale=10.0)
    assert len(tenth) < 0.3 * len(whole)
    assert len(twice) == pytest.approx(len(whole), abs=1)


def test_the_teleport_time_of_a_configuration_is_kept_unless_the_settings_say_otherwise(
    configured,
):
    named = configured('<processing><time-to-teleport value="120"/></processing>', "named")
    assert departed(configured(""), 1)[1] == "-1"
    assert departed(named, 1)[1] == "120"
    assert departed(named, 1, teleport_s=-1.0)[1] == "-1"
    assert departed(named, 1, teleport_s=40.0)[1] == "40"


@pytest.mark.parametrize(
    "options",
    [
        '<remote-port value="8873"/><num-clients value="2"/>',  # would wait for clients
        '<random value="true"/>',  # would be another run each time
        '<human-readable-time value="true"/>',
        '<gui_only><start value="true"/><delay value="100"/></gui_only>',
        '<tls.all-off value="true"/>',
        '<end value="25210"/>',
    ],
)
def test_what_would_keep_the_loop_waiting_or_make_runs_differ_is_overruled(configured, options):
    assert departed(configured(options)) == departed(configured("", "plain"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('<save-configuration value="x"/>', "<save-configuration> makes SUMO write a file and end"),
        ('<save-template value="x"/>', "<save-template> makes SUMO write a file and end"),
        ('<help value="true"/>', "<help> makes SUMO write a file and end"),
        ('<mesosim value="true"/>', "<mesosim> has no lanes"),
        ('<additional-files value="a,b"/>', "a, which does not exist. Correct the path."),
        ('<end value="nan"/>', "begin, end or step-length is no time"),
        ('<step-length value="1e999"/>', "begin, end or step-length is no time"),
    ],
)
def test_what_no_street_can_be_made_of_is_refused(configured, options, said):
    with pytest.raises(RoadsError) as refused:
        scenario(configured(options))
    assert said in str(refused.value)
    assert "own.sumocfg: " in str(refused.value)


def test_an_option_that_says_no_is_none(configured):
    no = '<help value="false"/><mesosim value="off"/><save-configuration value=""/>'
    assert scenario(configured(no)).begin_s == 25200.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('<end value="10"/>', "The end time should be after the begin time. Check"),
        ('<no-such value="1"/>', "No option with the name 'no-such' exists. Check"),
        ('<gui-settings-file value="gone.xml"/>', "gone.xml' is not accessible"),
    ],
)
def test_why_sumo_does_not_start_is_said(configured, capfd, options, said):
    """SUMO raises "Process Error"; the reason stands on standard error, where it stays."""
    sumocfg = configured(options)
    with pytest.raises(PlantError) as refused:
        departed(sumocfg)
    assert said in str(refused.value)
    assert "Process Error" not in str(refused.value)
    assert "Error: " in capfd.readouterr().err


def test_what_is_written_meanwhile_appears_afterwards_also_after_a_fault(capfd):
    said = Complaints()
    with pytest.raises(ZeroDivisionError), complaints(said):
        os.write(2, b"Warning: one\nError: two.\nError: three\n")
        raise ZeroDivisionError
    assert said.explain(RuntimeError("Process Error")) == "two; three"
    assert said.explain(RuntimeError("three.")) == "three; two"
    assert capfd.readouterr().err == "Warning: one\nError: two.\nError: three\n"
    with complaints(said):
        pass
    assert said.explain(RuntimeError("four")) == "four"


def test_a_record_of_signals_in_hours_is_read_as_one_in_seconds(tmp_path):
    path = tmp_path / "states.xml"
    path.write_text(
        '<a><tlsState time="00:00:59" id="T" state="r"/><tlsState time="1:00:00.50" id="T" '
        'state="G"/><tlsState time="3601" id="T" state="y"/></a>'
    )
    assert read_states(path) == {"T": [(59.0, "r"), (3600.5, "G"), (3601.0, "y")]}
