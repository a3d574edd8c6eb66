"""The event log: one complete line an event, in order;
what the disk does not accept waits, and the oldest is dropped when too many wait.
"""

from __future__ import annotations

import errno
import inspect
import shutil

import pytest

from headway.street.event_log import EventLog, read
from headway.values import Event

LINE = b'{"at_s":1.5,"kind":"a.b","junction":"J","data":{"n":2}}\n'


def line(k):
    return f'{{"at_s":{k}.0,"kind":"k","junction":"","data":{{}}}}\n'.encode()


def log_with(path, *seconds, **more):
    log = EventLog(path, **more)
    for second in seconds:
        log.append(Event(float(second), "k"))
    return log


def test_an_event_is_one_line_of_json_and_is_read_as_it_was(tmp_path):
    path = tmp_path / "deep" / "down" / "events.jsonl"
    log = EventLog(path)
    event = Event(1.5, "a.b", "J", {"n": 2})
    log.append(event)
    assert (log.waiting, path.exists()) == (1, False), "nothing is written before it is flushed"
    log.flush()
    assert (log.waiting, log.trouble, log.lost) == (0, "", 0)
    assert path.read_bytes() == LINE
    assert read(path) == [event]
    log.append(Event(2.0, "c"))
    log.flush()
    log.close()
    assert read(path) == [event, Event(2.0, "c", "", {})]


def test_no_file_is_made_without_events(tmp_path):
    log = EventLog(tmp_path / "deep" / "events.jsonl")
    log.flush()
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_closing_appends_waiting_events(tmp_path):
    path = tmp_path / "events.jsonl"
    for second in (0, 1):
        log_with(path, second).close()
    assert path.read_bytes() == line(0) + line(1)


def test_a_long_log_is_put_aside_and_the_oldest_deleted(tmp_path):
    """Each event is long enough; the tenth file put aside takes the place of the first."""
    path = tmp_path / "events.jsonl"
    log = EventLog(path, largest=10)
    for k in range(12):
        log.append(Event(float(k), "k"))
        log.flush()
    assert (log.trouble, log.waiting, log.lost) == ("", 0, 0)
    assert not path.exists()
    log.append(Event(12.0, "k"))
    log.close()
    names = {f"events.jsonl.{n}": line(13 - n) for n in range(1, 10)}
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == names


def test_a_log_that_cannot_be_put_aside_goes_on_to_grow_and_loses_nothing(tmp_path):
    path, place = tmp_path / "events.jsonl", tmp_path / "events.jsonl.9"
    place.mkdir()
    (tmp_path / "events.jsonl.8").touch()
    log = EventLog(path, largest=10)
    for k in range(3):
        log.append(Event(float(k), "k"))
        log.flush()
        assert "events.jsonl" in log.trouble
    assert path.read_bytes() == line(0) + line(1) + line(2)
    place.rmdir()
    log.append(Event(3.0, "k"))
    log.flush()
    assert (log.trouble, log.waiting) == ("", 0)
    assert (tmp_path / "events.jsonl.1").read_bytes() == b"".join(line(k) for k in range(4))


def test_a_log_is_put_aside_at_a_hundred_megabytes_by_default():
    assert inspect.signature(EventLog).parameters["largest"].default == 100_000_000


def test_the_oldest_events_are_dropped_when_too_many_wait_and_counted(tmp_path):
    log = log_with(tmp_path / "events.jsonl", 0, 1, 2, 3, 4, most=3)
    assert (log.waiting, log.lost) == (3, 2)
    log.close()
    assert [e.at_s for e in read(tmp_path / "events.jsonl")] == [2.0, 3.0, 4.0]


def test_a_million_events_may_wait():
    assert (
        inspect.signature(EventLog).parameters["most"].default == 1_000_000
    )  # what `most` does is above


class Disk:
    """A file that takes what is left of `room` bytes, then says that it is full;
    and says how often it was closed.
    """

    def __init__(self, path, room):
        self.file, self.room, self.closed = path.open("ab", buffering=0), room, 0

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = data[: self.room]
        self.room -= len(taken)
        return self.file.write(taken)

    def tell(self):
        return self.file.tell()

    def fileno(self):
        return self.file.fileno()

    def close(self):
        self.closed += 1
        self.file.close()


def on(monkeypatch, path, *rooms):
    """Opening `path` to append gives disks with so much room, one after the other;
    those given out.
    """
    left, given, as_it_is = list(rooms), [], type(path).open

    def opened(self, mode="r", buffering=-1, **more):
        if self != path or mode != "ab" or not left:
            return as_it_is(self, mode, buffering, **more)
        assert buffering == 0, "what is written is with the system at once"
        room = left.pop(0)
        monkeypatch.setattr(type(path), "open", as_it_is)
        given.append(Disk(path, room))
        monkeypatch.setattr(type(path), "open", opened)
        return given[-1]

    monkeypatch.setattr(type(path), "open", opened)
    return given


def test_a_partial_write_is_reported_and_the_line_written_again_in_full(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    given = on(monkeypatch, path, len(line(0)) + 10)
    log = log_with(path, 0, 1, 2)
    log.flush()
    assert log.trouble == f"{path}: 10 of {len(line(1))} bytes written"
    assert (log.waiting, given[0].closed) == (2, 1)
    assert path.read_bytes() == line(0) + line(1)[:10]
    log.flush()
    assert (log.trouble, log.waiting) == ("", 0)
    assert path.read_bytes() == line(0) + line(1) + line(2)
    log.close()


def test_a_full_disk_is_reported_with_the_systems_message_and_nothing_is_lost(
    tmp_path, monkeypatch
):
    path = tmp_path / "events.jsonl"
    given = on(monkeypatch, path, 0, 0)
    log = log_with(path, 0)
    for waiting in (1, 2):
        log.flush()
        assert log.trouble == f"{path}: No space left on device"
        assert (log.waiting, [d.closed for d in given]) == (waiting, [1] * waiting)
        log.append(Event(float(waiting), "k"))
    log.flush()
    assert log.trouble == ""
    log.close()
    assert path.read_bytes() == line(0) + line(1) + line(2)


def test_a_log_that_is_deleted_or_moved_away_goes_on_in_a_new_file(tmp_path):
    """By somebody who tidies up, or a program that rotates logs."""
    path = tmp_path / "data" / "events.jsonl"
    log = log_with(path, 0)
    log.flush()
    shutil.rmtree(path.parent)
    log.append(Event(1.0, "k"))
    log.flush()
    assert path.read_bytes() == line(1)
    path.rename(path.with_suffix(".old"))
    log.append(Event(2.0, "k"))
    log.close()
    assert (path.read_bytes(), path.with_suffix(".old").read_bytes()) == (line(2), line(1))


def test_an_unwritable_path_is_reported(tmp_path):
    log = log_with(tmp_path, 0)  # a folder
    log.close()
    assert log.trouble == f"{tmp_path}: Is a directory"
    assert log.waiting == 1


def test_the_file_is_opened_once_for_many_flushes(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    given = on(monkeypatch, path, 1000, 1000)
    log = EventLog(path)
    for second in range(3):
        log.append(Event(float(second), "k"))
        log.flush()
    log.close()
    assert [d.closed for d in given] == [1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (LINE, LINE),
        (LINE + LINE, LINE + LINE),
        (LINE + b'{"at_s":2,"ki', LINE),
        (LINE + b"x", LINE),
        (b"\n", b"\n"),
        (b'{"at_s', b""),
        (LINE + b"y" * 3_000_000, LINE),
    ],
    ids=[
        "empty",
        "whole",
        "two",
        "torn",
        "one byte",
        "an empty line",
        "the first torn",
        "a torn one of three million bytes",
    ],
)
def test_an_unfinished_line_is_truncated(tmp_path, before, after):
    path = tmp_path / "events.jsonl"
    path.write_bytes(before)
    log_with(path, 7).close()
    assert path.read_bytes() == after + line(7)


def test_an_unfinished_last_line_is_not_read(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(LINE + line(3) + b'{"at_s":4')
    assert read(path) == [Event(1.5, "a.b", "J", {"n": 2}), Event(3.0, "k", "", {})]
