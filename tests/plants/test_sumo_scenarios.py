"""The catalogue: scenarios by value; what a configuration says, in SUMO's notations;
vehicles counted.
"""

from __future__ import annotations

import dataclasses
import gzip
import importlib.metadata
import math
import re
import shutil
import tomllib
from pathlib import Path

import pytest

from headway.plants.sumo import read_network
from headway.plants.sumo.scenarios import (
    RESCO,
    Scenario,
    demand_of,
    fitting_step_s,
    read_sumocfg,
    scenario,
    seconds,
    vehicles,
)
from headway.roads import RoadsError

# begin, end, junctions, vehicles that depart in it (counted with grep in the route files)
KNOWN = {
    "cologne1": (25200.0, 28800.0, 1, 2015),
    "cologne3": (25200.0, 28800.0, 3, 2856),
    "cologne8": (25200.0, 28800.0, 8, 2046),
    "ingolstadt1": (57600.0, 61200.0, 1, 1716),
    "ingolstadt7": (57600.0, 61200.0, 7, 3031),
    "ingolstadt21": (57600.0, 61200.0, 21, 4281),
    "grid4x4": (0.0, 3600.0, 16, 1473),
    "arterial4x4": (0.0, 3600.0, 16, 2484),
}


def refused(call, *arguments) -> str:
    with pytest.raises(RoadsError) as fault:
        call(*arguments)
    return str(fault.value)


@pytest.mark.parametrize("name", RESCO)
def test_each_scenario_has_its_time_its_junctions_and_its_demand(name):
    found = scenario(name)
    assert (
        found.begin_s,
        found.end_s,
        len(read_network(found.net).junctions),
        vehicles(found),
    ) == KNOWN[name]
    folder = Path(found.sumocfg).parent
    assert (found.name, Path(found.sumocfg).name, folder.name) == (name, f"{name}.sumocfg", name)
    assert found.net == str(folder / f"{name}.net.xml")
    assert [Path(r).parent for r in found.routes] == [folder]
    assert len(KNOWN) == len(RESCO)


@pytest.fixture
def configuration(tmp_path):
    """Writes a configuration, its network and routes, and reads it."""

    def write(text: str, routes: str = "<routes/>") -> Scenario:
        (tmp_path / "n.net.xml").write_text("<net/>")
        (tmp_path / "a.rou.xml").write_text(routes)
        (tmp_path / "b.rou.xml").write_text("<routes/>")
        path = tmp_path / "own.sumocfg"
        path.write_text(text)
        return scenario(str(path))

    return write


NET, TIMES = '<net-file value="n.net.xml"/>', '<begin value="60"/><end value="120"/>'


def test_a_configuration_of_ones_own_is_read_by_its_path(configuration, tmp_path):
    found = configuration(
        f'<configuration><input>{NET}<route-files value="a.rou.xml, '
        f',b.rou.xml"/></input><time>{TIMES}</time></configuration>'
    )
    assert found == Scenario(
        "own",
        str(tmp_path / "own.sumocfg"),
        str(tmp_path / "n.net.xml"),
        (str(tmp_path / "a.rou.xml"), str(tmp_path / "b.rou.xml")),
        60.0,
        120.0,
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.end_s = 0.0


def test_a_name_for_the_scenario_may_be_given_and_paths_are_made_whole(
    configuration, tmp_path, monkeypatch
):
    configuration(f"<configuration>{NET}</configuration>")
    monkeypatch.chdir(tmp_path)
    found = read_sumocfg(Path("own.sumocfg"), "another")
    assert (found.name, found.sumocfg, found.net) == (
        "another",
        str(tmp_path / "own.sumocfg"),
        str(tmp_path / "n.net.xml"),
    )


@pytest.mark.parametrize(
    ("times", "begin_s", "end_s"),
    [
        ("", 0.0, math.inf),
        ("<begin/><end/>", 0.0, math.inf),
        ('<begin value="5"/>', 5.0, math.inf),
        ('<end value="0"/>', 0.0, 0.0),
        ('<end value="-1"/>', 0.0, math.inf),
        ('<end value="0.5"/>', 0.0, 0.5),
        ('<begin value="07:00:00"/><end value="1:01:00:30"/>', 25200.0, 90030.0),
    ],
)
def test_a_scenario_runs_from_the_start_to_no_end_unless_said(configuration, times, begin_s, end_s):
    found = configuration(f"<configuration>{NET}{times}</configuration>")
    assert (found.begin_s, found.end_s, found.routes) == (begin_s, end_s, ())


def test_a_demand_is_told_from_another_of_the_same_name_by_its_files(configuration, tmp_path):
    names = f'{NET}<route-files value="a.rou.xml"/>'
    text = f"<configuration>{names}<time>{TIMES}</time></configuration>"
    one = demand_of(configuration(text))
    assert re.fullmatch("own@[0-9a-f]{12}", one)
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert demand_of(scenario(str(tmp_path / "copy" / "own.sumocfg"))) == one
    others = {
        demand_of(configuration(text, routes="<routes><!-- more --></routes>")),
        demand_of(configuration(text.replace('"120"', '"121"'))),
        demand_of(configuration(text.replace("a.rou", "b.rou"), routes="<routes><flow/></routes>")),
    }
    assert len(others | {one}) == 4
    (tmp_path / "n.net.xml").write_text("<net> </net>")
    assert demand_of(scenario(str(tmp_path / "own.sumocfg"))) not in others | {one}


@pytest.mark.parametrize("packed", [False, True])
def test_a_demand_is_told_by_what_its_files_include_too(configuration, tmp_path, packed):
    """Vehicles, types and programmes may all be in a file that is included."""
    content = "<routes>\n <include href=\"sub/b.xml\"/><include\thref = 'gone.xml' /></routes>"
    a, name = tmp_path / "a.xml", "a.xml.gz" if packed else "a.xml"
    a.write_text(content)
    if packed:
        (tmp_path / name).write_bytes(gzip.compress(content.encode()))
    (tmp_path / "sub").mkdir()
    flows = tmp_path / "sub" / "c.xml"
    (tmp_path / "sub" / "b.xml").write_text('<x><include href="c.xml"/><include href="b.xml"/></x>')
    flows.write_text('<routes><flow number="100"/></routes>')
    routes = f'<routes><include href="{name}"/></routes>'
    text = f'<configuration>{NET}<input><r value="a.rou.xml"/></input></configuration>'
    one = demand_of(configuration(text, routes=routes))
    assert demand_of(configuration(text, routes=routes)) == one
    flows.write_text('<routes><flow number="900"/></routes>')
    assert demand_of(configuration(text, routes=routes)) != one


def test_one_of_the_catalogue_has_its_name_and_ones_own_of_that_name_has_not(
    configuration, tmp_path
):
    assert demand_of(scenario("cologne1")) == "cologne1"
    own = configuration(f"<configuration>{NET}</configuration>")
    copy = tmp_path / "cologne1.sumocfg"
    shutil.copy(own.sumocfg, copy)
    assert demand_of(scenario(str(copy))).startswith("cologne1@")


def test_a_link_to_a_configuration_names_files_beside_itself_as_sumo_has_it(
    configuration, tmp_path
):
    """Such as `current/s.sumocfg`, a link to `release/s.sumocfg`: else the network that is read
    here and the one that SUMO runs are two.
    """
    configuration(f"<configuration>{NET}</configuration>")
    link = tmp_path / "current" / "own.sumocfg"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "own.sumocfg")
    assert str(link.parent / "n.net.xml") in refused(scenario, str(link))
    (link.parent / "n.net.xml").write_text("<net/>")
    found = scenario(str(link))
    assert (found.sumocfg, found.net) == (str(link), str(link.parent / "n.net.xml"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0.0),
        ("90.5", 90.5),
        ("2:03", 123.0),
        ("1:02:03.5", 3723.5),
        ("2:01:02:03", 176523.0),
        ("-1", -1.0),
    ],
)
def test_times_are_in_seconds_or_days_hours_minutes_and_seconds(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<configuration>", "not readable as XML (no element found: line 1, column 15)."),
        ("<configuration/>", "names no <net-file>. Add <input><net-file value=.../></input>."),
        ("<configuration><net-file/></configuration>",
            "names no <net-file>. Add <input><net-file value=.../></input>."),
        (f'<configuration>{NET}<begin value="noon"/></configuration>',
            (
                "begin, end or step-length is no time (could not convert string to float: 'noon'). "
                "Give seconds, or hh:mm:ss."
            )),
        (f'<configuration>{NET}<end value="1:x"/></configuration>',
            (
                "begin, end or step-length is no time (could not convert string to float: 'x'). "
                "Give seconds, or hh:mm:ss."
            )),
    ],
)  # fmt: skip
def test_a_broken_configuration_is_refused(configuration, tmp_path, text, said):
    assert refused(configuration, text) == f"{tmp_path / 'own.sumocfg'}: {said}"


def test_a_configuration_that_names_missing_files_is_refused(configuration, tmp_path):
    path = tmp_path / "own.sumocfg"
    said = refused(configuration, '<configuration><net-file value="gone.net.xml"/></configuration>')
    assert (
        said
        == f"{path}: names {tmp_path / 'gone.net.xml'}, which does not exist. Correct the path."
    )
    said = refused(
        configuration,
        f'<configuration>{NET}<route-files value="a.rou.xml,gone.rou.xml"/></configuration>',
    )
    assert (
        said
        == f"{path}: names {tmp_path / 'gone.rou.xml'}, which does not exist. Correct the path."
    )


def test_unknown_names_and_paths_are_refused(tmp_path):
    assert refused(scenario, "nowhere") == (
        "no scenario 'nowhere'. There are: cologne1, cologne3, cologne8, ingolstadt1, "
        "ingolstadt7, ingolstadt21, grid4x4, arterial4x4; "
        "or give the path of a .sumocfg file."
    )
    path = str(tmp_path / "x.sumocfg")
    assert refused(scenario, path) == (
        f"{path}: no such file. Give a SUMO configuration (.sumocfg) that names a net-file "
        "and route-files."
    )


def test_without_their_package_the_scenarios_are_refused_with_what_to_install(monkeypatch):
    def missing(name: str):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    (pinned,) = project["project"]["optional-dependencies"]["scenarios"]
    said = (
        f"the RESCO scenarios are not installed. Run: pip install --no-deps {pinned} "
        "(in the source's folder `make demo` does it)"
    )
    assert refused(scenario, "cologne1") == said


DEMAND = """<routes>
    <vType id="car"/>
    <trip id="a" depart="59.99"/><trip id="b" depart="60"/>
    <trip id="c" depart="00:01:59.9"/><trip id="d" depart="120"/>
    <vehicle id="e" depart="100"><route edges="x y"/></vehicle><vehicle id="f"/>
    <vehicle id="g" depart="triggered"/><vehicle id="h" depart="containerTriggered"/>
    <trip id="i" depart="split"/><trip id="m" depart="begin"/><trip id="n" depart="now"/>
    <flow id="j" begin="60" end="120" number="30"/><flow id="k"/><person id="l" depart="70"/>
</routes>"""


def test_vehicles_are_those_that_depart_in_time_or_on_an_event_and_each_flow_its_number(
    configuration,
):
    """b, c, e; g, h, i; m; j makes 30 from 60 s on. f departs at nought, before the begin, and n
    never.
    """
    routes = f'{NET}<route-files value="a.rou.xml"/>'
    timed = configuration(f"<configuration>{routes}{TIMES}</configuration>", DEMAND)
    assert vehicles(timed) == 37
    whole = configuration(f"<configuration>{routes}</configuration>", DEMAND)
    assert vehicles(whole) == 40
    assert vehicles(dataclasses.replace(whole, routes=whole.routes * 2)) == 80


@pytest.mark.parametrize(
    ("words", "in_time", "in_all"),
    [
        ('number="7"', 0, 7),  # spread over a day
        ('begin="0" end="3600" number="60"', 1, 60),
        ('begin="0" end="180" number="6"', 2, 6),  # at 60 and 90 s; 120 s is the end
        ('begin="130" end="200" number="7"', 0, 7),
        ('begin="begin" end="200" number="7"', 3, 7),  # from 60 s on every 20 s; in all from 0 s on
        ('period="10" number="9"', 3, 9),  # at 60, 70 and 80 s
        ('begin="70" end="1070" period="300"', 1, 4),
        ('begin="0" end="90" vehsPerHour="3600"', 30, 90),  # 60 to 120 s is the scenario's time
        ('begin="100" end="200" perHour="360"', 2, 10),
        ('begin="0" end="200" probability="0.25"', 15, 50),
        ('begin="70" end="170" period="5"', 10, 20),
        ('begin="0" end="100" period="exp(0.1)"', 4, 10),
        ('period="100"', 1, 864),  # a day, as SUMO has it
        ('begin="130" end="200" period="1"', 0, 70),
        ('begin="130" end="200" probability="1"', 0, 70),
        ('begin="130" end="200" period="exp(1)"', 0, 70),
        ("", 0, 0),
    ],
)
def test_a_flow_counts_what_it_makes_in_the_scenarios_time(configuration, words, in_time, in_all):
    routes = f'{NET}<route-files value="a.rou.xml"/>'
    demand = f'<routes><flow id="f" {words}/></routes>'
    assert (
        vehicles(configuration(f"<configuration>{routes}{TIMES}</configuration>", demand))
        == in_time
    )
    assert vehicles(configuration(f"<configuration>{routes}</configuration>", demand)) == in_all


@pytest.mark.parametrize(
    "words",
    [
        'number="1e2"',
        'period="0"',
        'period="1e-320"',
        'probability="inf"',
        'probability="nan"',
        'period="nan"',
        'vehsPerHour="0"',
        'begin="x" period="1"',
        'period="exp(x)"',
    ],
)
def test_a_flow_of_nonsense_is_refused_with_its_file(configuration, words):
    of = configuration(
        f'<configuration>{NET}<route-files value="a.rou.xml"/>{TIMES}</configuration>',
        f'<routes><flow id="f" {words}/></routes>',
    )
    assert "a.rou.xml: not a readable route file (" in refused(vehicles, of)


def test_compressed_routes_are_counted_too_and_broken_ones_refused(configuration, tmp_path):
    path = tmp_path / "c.rou.xml.gz"
    of = dataclasses.replace(
        configuration(f"<configuration>{NET}{TIMES}</configuration>"), routes=(str(path),)
    )
    path.write_bytes(gzip.compress(DEMAND.encode()))
    assert vehicles(of) == 37
    whole = path.read_bytes()
    for broken, said in (
        (DEMAND.encode(), "Not a gzipped file"),
        (whole[:-20], "Compressed file ended"),
        (gzip.compress(b"<routes>"), "no element found"),
    ):
        path.write_bytes(broken)
        assert refused(vehicles, of).startswith(f"{path}: not a readable route file ({said}")


@pytest.mark.parametrize(
    ("tick_s", "own_s", "step_s"),
    [
        (1.0, 1.0, 1.0),
        (5.0, 1.0, 1.0),
        (1.0, 0.1, 0.1),
        (0.5, 1.0, 0.5),
        (1.5, 1.0, 0.75),
        (1.0, 0.4, 0.25),  # three parts are no whole milliseconds
        (0.1, 1.0, 0.1),
        (0.7, 0.5, 0.35),
        (0.101, 0.1, 0.001),  # a prime number of milliseconds
    ],
)
def test_a_step_fits_the_tick_and_is_the_longest_that_does(tick_s, own_s, step_s):
    found = fitting_step_s(tick_s, own_s)
    assert found == step_s
    longer = range(round(1e3 * step_s) + 1, round(1e3 * own_s) + 1)
    assert not any(round(1e3 * tick_s) % ms == 0 for ms in longer), "by trying each"


def test_a_scenario_has_the_step_of_its_configuration(configuration):
    text = f'<configuration>{NET}<step-length value="0.25"/></configuration>'
    assert configuration(text).step_s == 0.25
    assert configuration(f"<configuration>{NET}</configuration>").step_s == 1.0
