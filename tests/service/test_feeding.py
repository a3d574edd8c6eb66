"""A second SUMO whose detectors feed a street: it follows the street's signals and reports what it
sees, in rows that the street takes.
"""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from headway.cli import application
from headway.cli.feed import street_to_feed
from headway.plants.sumo import scenario
from headway.plants.sumo.scenarios import additional_files
from headway.service.feeding import Feed, write_detectors
from headway.street.external.places import Places
from headway.street.external.rows import fault_of, read_rows
from headway.street.external.views import LaneView, Signal, parts

BEGIN_S = 25200.0
RED, GREEN = 1, 4


class Service:
    """Says what the street shows at each of its seconds, and takes rows."""

    def __init__(self, states):
        self.states, self.sent = states, []

    def listen(self, topic, street):
        assert (topic, street) == ("realtime", "headway")
        for state in self.states:
            yield {"street": street, "data": state}

    def observe(self, rows, street):
        assert street == "headway"
        self.sent += rows
        return {"taken": len(rows), "refused": []}


def state(second, groups, colour=RED, **more):
    return {
        "started": True, "finished": False, "time_s": BEGIN_S + second,
        "colours": [colour] * groups,
    } | more  # fmt: skip


class Streets:
    def __init__(self, **scenarios):
        self.scenarios = scenarios

    def streets(self):
        return [{"street": name, "scenario": of} for name, of in self.scenarios.items()]


@pytest.mark.parametrize(
    ("streets", "named", "fed"),
    [
        (Streets(north="cologne1"), "", ("north", "cologne1")),
        (Streets(north="cologne1", baseline="cologne1"), "", ("north", "cologne1")),
        (Streets(north="cologne1", south="cologne3"), "south", ("south", "cologne3")),
        (Streets(headway="cologne1", south="cologne3"), "", "give one of the streets .*headway, s"),
        (Streets(north="cologne1"), "headway", "no street 'headway'. There are: north"),
        (Streets(), "", "There are: none"),
    ],
)
def test_the_street_that_is_fed_is_the_one_that_is_named_or_else_the_only_one(streets, named, fed):
    if isinstance(fed, str):
        with pytest.raises(ValueError, match=fed):
            street_to_feed(streets, named)
    else:
        assert street_to_feed(streets, named) == fed


@pytest.fixture(params=["loops", "camera"])
def feed(request, tmp_path):
    made = Feed(scenario("cologne1"), tmp_path, request.param)
    made.equipment = request.param
    yield made
    made.close()


def test_a_feed_reports_what_queues_before_the_signals_it_is_told(feed):
    """Two minutes of red everywhere: what comes stands. Its own count of vehicles before the stop
    lines, and what a street makes of the rows, agree within two a lane."""
    groups = len(feed.network.groups)
    minutes = [state(k, groups) for k in range(5, 121, 5)]
    service = Service(
        [{"started": False}, *minutes, state(120, groups, finished=True), state(500, 1)]
    )
    feed.follow(service, "headway", BEGIN_S + 600.0)
    assert feed.time_s == BEGIN_S + 120.0
    assert feed.plant.shown.tolist() == [RED] * groups
    assert (feed.taken, feed.refused) == (len(service.sent), 0)
    rows, faults = read_rows(json.dumps(service.sent[-500:]))
    assert not faults
    assert not any(fault_of(row) for row in rows)

    places, views = Places(feed.network), {}
    for sent in service.sent:
        row = read_rows(json.dumps(sent))[0][0]
        (lane,) = places.lanes(places.junction(row.junction), row.approach)
        views.setdefault(lane, LaneView(13.9)).take(parts(row, 1)[0], row.at_s)
    scene = feed.plant.scene()
    standing = int((scene.speed_mps < 0.1).sum())
    seen = sum(
        speed == 0.0 or speed < 0.1
        for view in views.values()
        for _, speed, _ in view.vehicles(feed.time_s, Signal())
    )
    assert standing > 20
    assert abs(seen - min(standing, 7 * len(views))) <= 2 * len(views)


def test_what_is_too_old_for_the_street_is_not_sent_and_the_first_refusal_is_kept(feed):
    class Strict(Service):
        def observe(self, rows, street):
            super().observe(rows, street)
            refused = [{"index": 3, "pointer": "/at_s", "message": "too old"}]
            return {"taken": len(rows) - 1, "refused": refused}

    service = Strict([state(k, len(feed.network.groups)) for k in (90, 95)])
    feed.follow(service, "headway", BEGIN_S + 95.0)
    times = sorted({row["at_s"] - BEGIN_S for row in service.sent})
    assert times == [float(k) for k in range(83, 96)]
    assert (feed.refused, feed.refusal) == (2, "/at_s: too old")


def test_a_feed_ends_where_its_street_begins_anew_or_at_its_time(feed):
    groups = len(feed.network.groups)
    service = Service([state(90, groups), state(5, groups), state(100, groups)])
    feed.follow(service, "headway", 1e9)
    assert feed.time_s == BEGIN_S + 90.0
    feed.follow(Service([state(100, groups), state(110, groups)]), "headway", BEGIN_S + 100.0)
    assert feed.time_s == BEGIN_S + 100.0


def test_detectors_stand_at_the_stop_line_and_fifty_metres_before_it(tmp_path):
    from headway.plants.sumo import read_network

    network = read_network(scenario("cologne1").net)
    found = write_detectors(network, tmp_path / "d.xml")
    by_lane = {}
    for lane, to_stop_m in found.values():
        by_lane.setdefault(lane, []).append(to_stop_m)
    short = {k for k in by_lane if network.lanes[k].length_m < 53.0}
    assert all(by_lane[k] == [3.0, 50.0] for k in by_lane.keys() - short)
    assert all(len(by_lane[k]) == 2 and by_lane[k][1] < 50.0 for k in short)
    assert short
    assert (tmp_path / "d.xml").read_text().count("<inductionLoop ") == len(found)


def test_files_that_a_configuration_names_are_kept(tmp_path):
    path = tmp_path / "a.sumocfg"
    path.write_text('<c><input><additional-files value="x.xml, y.xml"/></input></c>')
    assert additional_files(str(path)) == (str(tmp_path / "x.xml"), str(tmp_path / "y.xml"))
    path.write_text("<c/>")
    assert additional_files(str(path)) == ()


def test_the_command_says_what_is_wrong():
    run, app = CliRunner().invoke, application()
    wrong = run(app, ["feed", "http://127.0.0.1:1", "--token", "x", "--equipment", "eyes"])
    assert (wrong.exit_code, "There are: loops, camera" in wrong.output.replace("\n", " ")) == (
        2,
        True,
    )
    silent = run(app, ["feed", "http://127.0.0.1:1", "--token", "x"])
    assert isinstance(silent.exception, OSError)
    assert "http://127.0.0.1:1: no answer" in str(silent.exception)
