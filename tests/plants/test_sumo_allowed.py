"""Which scenarios others may choose: those of an allowed folder that name nothing outside."""

from __future__ import annotations

import gzip

import pytest

from headway.plants import PlantError
from headway.plants.sumo import RESCO, SumoSettings, scenario
from headway.plants.sumo.allowed import ScenarioNotAllowedError, allowed_scenario, scenarios_in
from headway.plants.sumo.trial import try_start
from headway.roads import RoadsError

NET = "<net/>"
ROUTES = '<routes><trip id="a" depart="0" from="b" to="c"/></routes>'


@pytest.fixture
def folder(tmp_path):
    """An allowed folder with a scenario, beside a secret that is none of its business."""
    found = tmp_path / "allowed"
    (found / "sub").mkdir(parents=True)
    (tmp_path / "secret.xml").write_text("<secret/>")
    (found / "a.net.xml").write_text(NET)
    (found / "a.rou.xml").write_text(ROUTES)
    return found


def config(folder, more="", name="a.sumocfg", routes="a.rou.xml"):
    path = folder / name
    path.write_text(
        f'<configuration><input><net-file value="a.net.xml"/><route-files value="{routes}"/>'
        f'</input><time><begin value="00:00:10"/><end value="60"/></time>{more}</configuration>'
    )
    return path


def allowed(folder, name="a.sumocfg"):
    return allowed_scenario(name, [str(folder)])


def test_a_scenario_of_the_catalogue_is_allowed_without_any_folder():
    assert allowed_scenario("cologne1", []) == scenario("cologne1")


def test_a_file_of_an_allowed_folder_is_taken_by_its_path_from_there_or_in_full(folder):
    path = config(folder, '<output><tripinfo-output value="sub/trips.xml"/></output>')
    found = allowed(folder)
    assert (found.sumocfg, found.begin_s, found.end_s) == (str(path), 10.0, 60.0)
    assert allowed(folder, str(path)) == allowed(folder, "sub/../a.sumocfg") == found
    config(folder / "sub", name="b.sumocfg")
    assert scenarios_in([str(folder), "/nowhere"]) == ["a.sumocfg", "sub/b.sumocfg"]


@pytest.mark.parametrize("name", ["paris", "", "a.xml", "A", "a.sumocfg.gz"])
def test_an_unknown_name_is_refused_with_what_there_is(folder, name):
    with pytest.raises(RoadsError, match=RESCO[0]) as refused:
        allowed(folder, name)
    assert not isinstance(refused.value, ScenarioNotAllowedError)


def test_a_file_that_is_not_there_is_not_called_forbidden(folder):
    with pytest.raises(RoadsError, match="no such file") as refused:
        allowed(folder, "none.sumocfg")
    assert not isinstance(refused.value, ScenarioNotAllowedError)


@pytest.mark.parametrize(
    "name", ["/etc/x.sumocfg", "../b.sumocfg", "sub/../../b.sumocfg", "link.sumocfg"]
)
def test_a_path_that_leads_out_is_forbidden_by_dots_in_full_or_by_a_link(folder, name):
    config(folder.parent, name="b.sumocfg")
    (folder / "link.sumocfg").symlink_to(folder.parent / "b.sumocfg")
    with pytest.raises(ScenarioNotAllowedError, match=r"outside of the allowed folders.*allowed"):
        allowed(folder, name)
    assert scenarios_in([str(folder)]) == [], "nor is the link listed"
    with pytest.raises(ScenarioNotAllowedError, match="the catalogue alone"):
        allowed_scenario(name, [])


@pytest.mark.parametrize("name", ["a\x00.sumocfg", "\ud800.sumocfg", "x" * 300 + ".sumocfg"])
def test_a_name_that_no_file_can_have_is_refused(folder, name):
    with pytest.raises(RoadsError):
        allowed(folder, name)


@pytest.mark.parametrize(
    "more",
    [
        '<input><additional-files value="../secret.xml"/></input>',
        '<input><additional-files value="a.rou.xml,/etc/passwd"/></input>',
        '<input><additional-files v="../secret.xml"/></input>',
        "<input><additional-files>../secret.xml</additional-files></input>",
        '<input><additional-files value="out.xml"/></input>',
        '<output><tripinfo-output value="/elsewhere/x.xml"/></output>',
        '<output><tripinfo-output value="localhost:99"/></output>',
        '<output><output-prefix value="../../"/></output>',
        '<output><fcd-output value="${HOME}/x"/></output>',
        '<report><log value="/elsewhere/x"/></report>',
        '<configuration-file value="b.sumocfg"/>',
        '<traci_server><remote-port value="8813"/></traci_server>',
    ],
)
def test_a_configuration_that_names_something_outside_is_forbidden(folder, more):
    (folder / "out.xml").symlink_to(folder.parent / "secret.xml")
    config(folder, more)
    with pytest.raises(ScenarioNotAllowedError, match=r"a\.sumocfg: "):
        allowed(folder)


@pytest.mark.parametrize(
    "text",
    [
        '<additional><e1Detector id="d" file="/elsewhere/x"/></additional>',
        '<additional><e1Detector id="d" file="../x.xml"/></additional>',
        '<additional><e1Detector id="d" file="localhost:99"/></additional>',
        '<additional><include href="../secret.xml"/></additional>',
        '<additional><include href="inner.xml"/></additional>',
        '<a><param key="device.ssm.file" value="/elsewhere/x"/></a>',
        '<a><param key="device.ssm.file" value="&#47;tmp/x"/></a>',
        '<!DOCTYPE a SYSTEM "/etc/passwd"><additional/>',
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_so_is_one_whose_files_name_something_outside(folder, text, packed):
    (folder / "inner.xml").write_text('<a><include href="/etc/passwd"/></a>')
    config(folder, f'<additional-files value="more.xml{".gz" * packed}"/>')
    if packed:
        (folder / "more.xml.gz").write_bytes(gzip.compress(text.encode()))
    else:
        (folder / "more.xml").write_text(text)
    with pytest.raises(ScenarioNotAllowedError, match=r"(more|inner)\.xml"):
        allowed(folder)


def test_another_encoding_hides_nothing(folder):
    config(folder, '<additional-files value="more.xml"/>')
    text = '<?xml version="1.0" encoding="UTF-16"?><a><b file="/elsewhere/x"/></a>'
    (folder / "more.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(ScenarioNotAllowedError, match="/elsewhere/x"):
        allowed(folder)


@pytest.mark.parametrize("data", [b"<a", b"\x1f\x8b", b"\xff\xfe\x00"])
def test_a_broken_file_is_refused_by_name(folder, data):
    config(folder, '<additional-files value="more.xml.gz"/>')
    (folder / "more.xml.gz").write_bytes(data)
    with pytest.raises(RoadsError, match=r"more\.xml\.gz: "):
        allowed(folder)


@pytest.mark.slow
def test_sumo_is_tried_in_a_process_of_its_own(folder):
    found = scenario("cologne1")
    try_start(SumoSettings(found.sumocfg))
    with pytest.raises(PlantError, match=r"a\.sumocfg: SUMO does not start: "):
        try_start(SumoSettings(str(config(folder))))
    with pytest.raises(PlantError, match=r"no answer within 0\.01 s"):
        try_start(SumoSettings(found.sumocfg), within_s=0.01)
