"""Runs that begin while the database is away, or does not answer: their rows wait under a number of
this machine, and are stored under one of the database, each once.
"""

from __future__ import annotations

import json
import threading
import time

import pytest
import sqlalchemy as sa
from tests.links import Link

from headway.settings import DatabaseSettings
from headway.store import Intake, open_database
from headway.store import intake as room
from headway.store import runs as runs_room
from headway.store.intake import CONTROLLER


@pytest.fixture(scope="module")
def server(new_record):
    """(its Unix socket, name of a database there)."""
    address = sa.make_url(new_record())
    return f"{address.query['host']}/.s.PGSQL.5432", address.database


@pytest.fixture(scope="module")
def centre(server, tmp_path_factory):
    """The database itself, whatever the link does."""
    socket, name = server
    url = f"postgresql://postgres@/{name}?host={socket.rpartition('/')[0]}"
    found = open_database(tmp_path_factory.mktemp("unused"), url)
    yield found
    found.close()


@pytest.fixture
def link(server):
    with Link(server[0]) as found:
        yield found


@pytest.fixture
def box(server, link, centre, tmp_path):
    """What a box has: (database over the link, intake); the same again for one that starts anew."""
    opened = []

    def start(folder=tmp_path):
        url = f"postgresql://postgres@127.0.0.1:{link.port}/{server[1]}"
        database = open_database(
            folder, url, pool=DatabaseSettings(answer_within_s=1.0), needed=False
        )
        opened.append(database)
        return database, Intake(database, folder)

    yield start
    for database in opened:
        database.close()


def event(run, number, kind="k"):
    return (run, number, 0.5, kind, "J", '{"x": 1}')


def begun(intake, key):
    return intake.begin_run(key, "cologne1", "planner", 1, "s", 1.0)


def stored(centre, key):
    """(number of the run of that key, numbers of its events)."""
    rows = centre.rows("SELECT id FROM run WHERE key = :key", key=key)
    assert len(rows) == 1
    number = rows[0]["id"]
    query = "SELECT number FROM event WHERE run_id = :run ORDER BY number"
    return number, [row["number"] for row in centre.rows(query, run=number)]


def test_the_database_is_opened_and_a_run_begins_while_nobody_answers_there(
    box, link, centre, request
):
    link.cut()
    key = request.node.name
    _, intake = box()
    run = begun(intake, key)
    assert run < 0
    assert intake.run_number(run) == run
    assert intake.write("event", [event(run, 1), event(run, 2)]).spooled == 2
    assert intake.write(CONTROLLER, [(run, "webster")]).spooled == 1
    assert not intake.catch_up()
    link.mend()
    assert intake.catch_up()
    number, events = stored(centre, key)
    assert (events, intake.run_number(run), number > 0) == ([1, 2], number, True)
    found = centre.rows("SELECT controller, scenario FROM run WHERE id = :run", run=number)
    assert found == [{"controller": "webster", "scenario": "cologne1"}]
    assert intake.write("event", [event(run, 3)]).stored == 1, "who goes on under the old number"
    assert stored(centre, key) == (number, [1, 2, 3])
    assert intake.refusals.count == 0


def test_a_run_does_not_wait_for_a_link_that_hangs(box, link, centre, request, monkeypatch):
    monkeypatch.setattr(runs_room, "BEGIN_WITHIN_S", 0.2)
    _, intake = box()
    assert begun(intake, f"{request.node.name} before") > 0  # a connection that is open, then
    link.hangs = True
    begun_s = time.monotonic()
    run = begun(intake, request.node.name)
    assert time.monotonic() - begun_s < 1.0
    assert run < 0
    link.hangs = False
    until(lambda: intake.write("event", [event(run, 1)]) and intake.catch_up())
    assert stored(centre, request.node.name)[1] == [1], "the attempt that hung is the same run"


def test_nobody_who_writes_waits_again_for_a_link_that_hangs(box, link, centre, request):
    """The first one finds out; then it is asked by who has the time, until it answers."""
    _, intake = box()
    run = begun(intake, request.node.name)
    link.hangs = True
    intake.hangs = True
    took = []
    for number in range(5):
        begun_s = time.monotonic()
        assert intake.write("event", [event(run, number)]).spooled == 1
        took.append(time.monotonic() - begun_s)
    assert max(took) < 0.5
    link.hangs = False
    assert intake.catch_up()
    assert not intake.hangs
    assert intake.write("event", [event(run, 5)]).stored == 1
    assert stored(centre, request.node.name)[1] == list(range(6))


def test_an_attempt_that_hangs_is_told_from_one_that_is_refused(box, link, request, monkeypatch):
    monkeypatch.setattr(room, "HANGS_AFTER_S", 0.3)
    _, intake = box()
    run = begun(intake, request.node.name)
    link.cut()
    assert intake.write("event", [event(run, 1)]).spooled == 1
    assert not intake.hangs
    link.mend(hangs=True)
    assert not intake.catch_up()
    assert intake.hangs


def test_who_starts_anew_in_an_outage_and_after_it_knows_the_runs_of_before(
    box, link, centre, request
):
    """A power cut in the outage, and another one in the middle of the replay."""
    link.cut()
    _, first = box()
    one = begun(first, f"{request.node.name} 1")
    first.write("event", [event(one, 1)])
    _, second = box()
    two = begun(second, f"{request.node.name} 2")
    assert two < one < 0, "no number is given twice"
    for number in range(3):
        second.write("event", [event(two, number)])
    link.mend()
    given, copy = [], second._copy

    def killed(table, rows):
        if len(given) == 2:
            raise KeyboardInterrupt
        given.append(copy(table, rows))
        return given[-1]

    second._copy = killed
    with pytest.raises(KeyboardInterrupt):
        second.catch_up()
    database, third = box()
    assert third.spool.waiting
    assert third.catch_up()
    assert stored(centre, f"{request.node.name} 1")[1] == [1]
    assert stored(centre, f"{request.node.name} 2")[1] == [0, 1, 2]
    assert third.refusals.count == 0
    fourth = Intake(database, third.refused.path.parent)
    assert begun(fourth, f"{request.node.name} 3") > 0
    assert not (third.refused.path.parent / "runs.jsonl").exists(), (
        "nothing waits under them any more"
    )


@pytest.mark.parametrize("cut_after", [400, 4_000, 20_000, 35_000])
def test_a_link_that_is_cut_in_the_middle_of_the_replay_stores_each_row_once(
    box, link, centre, request, cut_after
):
    link.cut()
    _, intake = box()
    run = begun(intake, request.node.name)
    for number in range(0, 1000, 20):
        intake.write("event", [event(run, number + k) for k in range(20)])
    assert intake.spool.waiting == 50
    link.passed, link.cut_after = 0, cut_after
    link.mend()
    assert not intake.catch_up(), "it was cut in the middle"
    link.mend()
    assert intake.catch_up()
    assert stored(centre, request.node.name)[1] == list(range(1000))
    assert (intake.refusals.count, intake.spool.waiting) == (0, 0)


def test_the_newest_event_of_a_run_is_known_while_the_database_answers(box, link, request):
    _, intake = box()
    run = begun(intake, request.node.name)
    assert intake.newest_event(run) == 0
    for number in (7, 1001, 30):
        intake.write("event", [event(run, number)])
    assert intake.newest_event(run) == 1001
    assert intake.newest_event(-5) == 0
    link.cut()
    assert intake.newest_event(run) == 0


def test_rows_of_a_run_that_nobody_knows_are_put_aside_with_the_reason(box, tmp_path):
    _, intake = box()
    intake.spool.put("event", [list(event(-5, 1))])
    assert intake.catch_up()
    assert intake.write_sound("event", [event(-5, 2)]).refused == 1
    kept = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert ["no run of this machine has the number -5" in one["why"] for one in kept] == [True] * 2


def test_a_line_that_a_power_cut_has_left_half_written_costs_no_other_run(box, link, tmp_path):
    link.cut()
    _, intake = box()
    run = begun(intake, "half written")
    intake.write("event", [event(run, 1)])
    with (tmp_path / "runs.jsonl").open("a") as stream:
        stream.write('{"number": -9, "ru')
    link.mend()
    _, again = box()
    assert again.catch_up()
    assert again.refusals.count == 0


def test_a_run_begins_also_where_the_disk_takes_nothing(box, link, tmp_path):
    link.cut()
    (tmp_path / "runs.jsonl").mkdir()
    _, intake = box()
    assert begun(intake, "no disk") < 0


def until(holds, within_s=30.0):
    end_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end_s
        threading.Event().wait(0.1)


@pytest.mark.parametrize("given", [0, 1, 3, 8, 9])
def test_a_data_folder_gives_its_next_run_a_new_number_on_another_database(
    new_record, tmp_path, given
):
    """The folder has had runs up to number 8, the database `given` ones of others."""

    def begin(folder, key):
        row = {"key": key, "scenario": "s", "controller": "fixed", "seed": 1, "scale": 1.0}
        row |= {"street": "headway", "begun_at": "2026-11-24T00:00:00Z"}
        return runs_room.Runs(database, folder, rows_wait=False).begin(row, is_away=False)

    database = open_database(tmp_path, new_record())
    others, mine = tmp_path / "others", tmp_path / "mine"
    others.mkdir()
    mine.mkdir()
    for k in range(given):
        assert begin(others, f"of others {k}") == (k + 1, None)
    (mine / "newest_run").write_text("8\n")
    next_one = max(8, given) + 1
    assert begin(mine, "mine 1") == (next_one, None)
    assert begin(mine, "mine 2") == (next_one + 1, None)
    database.close()
