"""Dead letters: the newest are shown, those that are sent anew are taken out of the file."""

from __future__ import annotations

import json
import resource
import signal

import pytest

from headway.service import dead_letters
from headway.service.dead_letters import DeadLetters
from headway.service.notification import Notifier, Webhook


@pytest.fixture
def dead(tmp_path):
    found = DeadLetters(tmp_path / "dead.jsonl")
    for number in range(5):
        found.store("x.example", {"kind": "k", "id": str(number)}, "refused", "r")
    return found


def ids(letters):
    return [letter.note["id"] for letter in letters]


def test_the_newest_letters_come_first(dead):
    assert ids(dead.newest(2)) == ["4", "3"]
    assert len({letter.id for letter in dead.newest(9)}) == 5


def test_of_a_long_file_the_end_is_read_and_no_letter_that_is_cut(dead, monkeypatch, tmp_path):
    line = (tmp_path / "dead.jsonl").read_bytes().splitlines()[-1]
    monkeypatch.setattr(dead_letters, "SHOWN_BYTES", 3 * len(line))
    assert ids(dead.newest(9)) == ["4", "3"]


def test_what_was_delivered_is_gone_and_the_others_stay_in_order(dead, tmp_path):
    one, two = dead.claim(lambda letter: letter.note["id"] in "123", 2)
    assert ids([one, two]) == ["1", "2"]
    dead.settle(one.id)
    dead.settle(two.id)
    assert ids(dead.newest(9)) == ["4", "3", "0"]
    assert [p.name for p in tmp_path.iterdir()] == ["dead.jsonl"]


def test_a_letter_under_way_is_sent_once_and_stays_in_the_file_until_it_is_delivered(
    dead, tmp_path
):
    letters = dead.claim(lambda _: True, 2)
    assert ids(dead.newest(9)) == ["4", "3", "2"]
    assert ids(dead.claim(lambda _: True, 9)) == ["2", "3", "4"]
    died = DeadLetters(tmp_path / "dead.jsonl")  # who starts after a process that was killed
    assert ids(died.newest(9)) == ["4", "3", "2", "1", "0"]
    for letter in letters:
        dead.settle(letter.id)
    assert ids(died.newest(9)) == ["4", "3", "2", "1", "0"], "three are still under way"


def test_a_letter_that_is_given_up_again_stays_in_its_place_with_the_new_reason(dead):
    (letter,) = dead.claim(lambda one: one.note["id"] == "2", 1)
    dead.store("x.example", letter.note, "away", "r", letter.id)
    assert ids(dead.newest(9)) == ["4", "3", "2", "1", "0"]
    assert [one.why for one in dead.newest(9)][2] == "away"
    (again,) = dead.claim(lambda one: one.note["id"] == "2", 1)
    dead.store("x.example", again.note, "away", "r", again.id)
    assert [(one.note["id"], one.why) for one in dead.newest(3)][2] == ("2", "away")


def test_a_file_of_many_is_not_written_anew_for_each(dead, monkeypatch, tmp_path):
    monkeypatch.setattr(dead_letters, "SETTLED_AT_ONCE", 2)
    path, letters = tmp_path / "dead.jsonl", dead.claim(lambda _: True, 9)
    left = []
    for letter in letters:
        dead.settle(letter.id)
        left.append(path.read_bytes().count(b"\n"))
    assert left == [5, 3, 3, 1, 0]


def test_lines_that_are_no_letters_stay(dead, tmp_path):
    path = tmp_path / "dead.jsonl"
    path.write_bytes(b'{"cut\n\xff\n{"note": 3}\n' + path.read_bytes())
    letters = dead.claim(lambda _: True, 9)
    assert len(letters) == 5
    for letter in letters:
        dead.settle(letter.id)
    assert path.read_bytes() == b'{"cut\n\xff\n{"note": 3}\n'


def test_where_the_disk_fails_letters_stay_and_what_was_delivered_goes_with_the_next(
    dead, tmp_path
):
    (tmp_path / "dead.draft").mkdir()
    sent, failed = dead.claim(lambda _: True, 2)
    dead.settle(failed.id, "away")
    dead.settle(sent.id)
    assert [(one.note["id"], one.why) for one in dead.newest(9)][3] == ("1", "refused")
    (tmp_path / "dead.draft").rmdir()
    (last,) = dead.claim(lambda one: one.note["id"] == "4", 1)
    dead.settle(last.id)
    assert ids(DeadLetters(tmp_path / "dead.jsonl").newest(9)) == ["3", "2", "1"]


def test_without_a_file_there_are_none(tmp_path):
    for dead in (DeadLetters(None), DeadLetters(tmp_path / "none.jsonl")):
        assert (dead.newest(9), dead.claim(lambda _: True, 9)) == ([], [])


def test_a_letter_goes_to_its_own_address_among_those_of_one_host(tmp_path, monkeypatch):
    """As of services whose webhooks differ by their path alone."""
    hooks = tuple(Webhook(f"http://127.0.0.1:9/{name}", "s") for name in "ab")
    path = tmp_path / "dead.jsonl"
    DeadLetters(path).store(hooks[1].name, {"kind": "k", "id": "1"}, "why", hooks[1].key)
    row = {"to": hooks[0].name, "why": "of before", "note": {"kind": "k", "id": "2"}}
    with path.open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    notifier, put = Notifier(hooks, dead=path), []
    for number, sender in enumerate(notifier.senders):
        monkeypatch.setattr(sender, "put", lambda d, n=number: put.append((n, d.note["id"])))
    assert notifier.replay_all() == 1
    assert put == [(1, "1")]
    assert ids(notifier.undelivered(9)) == ["2"], "which of both it was for is not known"
    assert notifier.replay_all() == 0, "it is under way"
    assert ids(DeadLetters(path).newest(9)) == ["2", "1"], "it is not delivered yet"
    notifier.close(0.0)


def test_after_a_full_disk_the_next_letter_is_whole(tmp_path):
    """It went on in the line of the one that was cut, and both were lost."""
    path = tmp_path / "dead.jsonl"
    dead = DeadLetters(path)

    def store(number):
        dead.store("x.example", {"kind": "k", "id": str(number)}, "refused", "r")

    store(0)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
    try:
        store(1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    store(2)
    assert ids(dead.newest(9)) == ["2", "0"]
