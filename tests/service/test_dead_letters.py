"""Dead letters: the newest are shown, those that are sent anew are taken out of the file."""

from __future__ import annotations

import json

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


def test_what_is_taken_is_gone_and_the_others_stay_in_order(dead, tmp_path):
    taken = dead.take(lambda letter: letter.note["id"] in "123", 2)
    assert ids(taken) == ["1", "2"]
    assert ids(dead.newest(9)) == ["4", "3", "0"]
    assert [p.name for p in tmp_path.iterdir()] == ["dead.jsonl"]


def test_lines_that_are_no_letters_stay(dead, tmp_path):
    path = tmp_path / "dead.jsonl"
    path.write_bytes(b'{"cut\n\xff\n{"note": 3}\n' + path.read_bytes())
    assert len(dead.take(lambda _: True, 9)) == 5
    assert path.read_bytes() == b'{"cut\n\xff\n{"note": 3}\n'


def test_nothing_is_taken_where_the_disk_fails(dead, tmp_path):
    (tmp_path / "dead.draft").mkdir()
    with pytest.raises(OSError, match="dead"):
        dead.take(lambda _: True, 9)
    assert len(dead.newest(9)) == 5


def test_without_a_file_there_are_none(tmp_path):
    for dead in (DeadLetters(None), DeadLetters(tmp_path / "none.jsonl")):
        assert (dead.newest(9), dead.take(lambda _: True, 9)) == ([], [])


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
    notifier.close(0.0)
