"""The spool: batches on disk, in order, whole or not at all, through a full disk,
a crash and damage.
"""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.store import spool as room
from headway.store.spool import Spool, SpoolFullError


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "deep" / "er" / "spool.jsonl")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "er" / "spool.jsonl"


@pytest.fixture
def synced(monkeypatch):
    """Sizes of files when they were flushed to the disk."""
    sizes, fsync = [], os.fsync

    def noted(descriptor):
        sizes.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return sizes


def given_back(spool):
    found = []
    count = spool.replay(lambda kind, rows: found.append((kind, rows)))
    assert count == len(found)
    return found


def line(kind, *rows):
    return json.dumps({"kind": kind, "rows": rows}, separators=(",", ":")).encode() + b"\n"


def test_a_batch_is_one_line_of_json_flushed_to_the_disk_before_put_returns(spool, path, synced):
    assert spool.waiting == 0
    spool.put("event", [[1, 2.5, "a", None, True]])
    assert path.read_bytes() == b'{"kind":"event","rows":[[1,2.5,"a",null,true]]}\n'
    assert synced == [len(path.read_bytes())]
    spool.put("event", [[datetime(2026, 3, 1, tzinfo=UTC)]])
    assert (
        path.read_bytes().splitlines()[1]
        == b'{"kind":"event","rows":[["2026-03-01 00:00:00+00:00"]]}'
    )
    assert (spool.waiting, len(synced)) == (2, 2)


def test_spooled_batches_are_replayed_once_and_in_order(spool, path):
    for k in range(3):
        spool.put(f"table{k}", [[k], [k + 10]])
    assert given_back(spool) == [
        ("table0", [[0], [10]]),
        ("table1", [[1], [11]]),
        ("table2", [[2], [12]]),
    ]
    assert (spool.waiting, path.read_bytes()) == (0, b"")
    assert given_back(spool) == []
    spool.put("later", [[9]])
    assert given_back(spool) == [("later", [[9]])]


def test_bytes_come_back_as_the_database_reads_them(spool):
    """COPY takes `\\x` and hexadecimal for bytea."""
    spool.put("violation_picture", [["id", 0, 1.5, b"\x00\xff"]])
    assert given_back(spool) == [("violation_picture", [["id", 0, 1.5, "\\x00ff"]])]


@pytest.mark.parametrize("limit", ["AT_ONCE", "AT_ONCE_S"])
def test_who_starts_after_a_process_that_was_killed_does_not_begin_anew(
    spool, path, monkeypatch, limit
):
    """What a long replay had given was given again from the first on, each time."""
    monkeypatch.setattr(room, limit, 2 if limit == "AT_ONCE" else -1.0)
    for number in range(5):
        spool.put("event", [[number]])
    path.write_bytes(b"damaged\n" * 2 + path.read_bytes())
    left = []  # each with the oldest that a new process would find then

    def write(kind, rows):
        there = path.read_bytes()
        oldest = next(number for number in range(5) if line("event", [number]) in there)
        left.append((rows[0][0], oldest))

    assert spool.replay(write) == 5
    assert [number for number, _ in left] == [0, 1, 2, 3, 4]
    assert all(number - oldest < 2 for number, oldest in left)
    assert (spool.waiting, path.read_bytes()) == (0, b"")


def test_a_large_file_is_not_copied_for_each_few_of_its_lines(spool, monkeypatch):
    monkeypatch.setattr(room, "AT_ONCE", 2)
    monkeypatch.setattr(room, "COPIED_BYTES", 1000)
    for number in range(1000):
        spool.put("event", [[number]])
    copied, copy = [], room.shutil.copyfileobj

    def counted(old, new, size):
        before = new.tell()
        copy(old, new, size)
        copied.append(new.tell() - before)

    monkeypatch.setattr(room.shutil, "copyfileobj", counted)
    size = spool._bytes()
    assert spool.replay(lambda kind, rows: None) == 1000
    assert sum(copied) < 12 * size, "a share of what is left each time, not all of it for two lines"


def test_an_empty_spool_replays_nothing(spool, path):
    assert given_back(spool) == []
    assert not path.exists()


@pytest.mark.parametrize("taken", [0, 1, 2, 3])
def test_a_failed_replay_removes_only_accepted_batches(spool, path, synced, taken):
    batches = [("a", [[0]]), ("bb", [[1, 2]]), ("ccc", [[3]]), ("dddd", [[4]])]
    for batch in batches:
        spool.put(*batch)
    synced.clear()
    found = []

    def write(kind, rows):
        if len(found) == taken:
            raise ConnectionError("away")
        found.append((kind, rows))

    with pytest.raises(ConnectionError):
        spool.replay(write)
    assert found == batches[:taken]
    assert (spool.waiting, path.read_bytes()) == (
        4 - taken,
        b"".join(line(kind, *rows) for kind, rows in batches[taken:]),
    )
    assert synced == ([path.stat().st_size] if taken else [])
    assert [p.name for p in path.parent.iterdir()] == ["spool.jsonl"]
    assert given_back(spool) == batches[taken:]


def test_another_process_finds_spooled_batches(spool, path):
    spool.put("a", [[1]])
    spool.put("b", [[2]])
    again = Spool(path)
    assert again.waiting == 2
    again.put("c", [[3]])
    assert [kind for kind, _ in given_back(again)] == ["a", "b", "c"]


def test_the_bound_in_bytes_may_be_reached_and_not_exceeded(tmp_path):
    """A line of rows [[0]] {"kind":"a","rows":[[0]]} and its end make 26."""
    assert len(line("a", [0])) == 26
    spool = Spool(tmp_path / "s", 52)
    spool.put("a", [[0]])
    spool.put("a", [[0]])
    with pytest.raises(
        SpoolFullError,
        match=r"s: holds 52 bytes of 52; bring the database back, or give the spool more room\.",
    ):
        spool.put("a", [[0]])
    assert (spool.waiting, (tmp_path / "s").stat().st_size) == (2, 52)
    tight = Spool(tmp_path / "t", 51)
    tight.put("a", [[0]])
    with pytest.raises(SpoolFullError, match="holds 26 bytes of 51"):
        tight.put("a", [[0]])
    with pytest.raises(SpoolFullError, match="holds 0 bytes of 25"):
        Spool(tmp_path / "u", 25).put("a", [[0]])
    assert not (tmp_path / "u").exists()
    assert given_back(spool) == [("a", [[0]])] * 2


def test_a_spool_holds_a_gibibyte_by_default(spool, path):
    path.touch()
    os.truncate(path, 2**30 - 26)
    spool.put("a", [[0]])
    assert sum(file.stat().st_size for file in path.parent.iterdir()) == 2**30
    with pytest.raises(SpoolFullError, match="holds 1073741824 bytes of 1073741824"):
        spool.put("a", [[0]])


def test_a_partly_written_batch_is_removed(spool, path):
    spool.put("a", [[0]])
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
    try:
        with pytest.raises(OSError, match="a part only") as reported:
            spool.put("b", [[1]])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert reported.value.errno == errno.ENOSPC
    assert (spool.waiting, path.read_bytes()) == (1, before)
    spool.put("c", [[2]])
    assert given_back(spool) == [("a", [[0]]), ("c", [[2]])]


def test_a_batch_that_cannot_be_flushed_is_removed(spool, path, monkeypatch):
    def fails(descriptor):
        raise OSError(errno.EIO, "the disk is broken")

    spool.put("a", [[0]])
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="broken"):
            spool.put("b", [[1]])
    assert given_back(spool) == [("a", [[0]])]


@pytest.mark.parametrize(
    "damage",
    [
        b'{"kind":"torn","rows":[[1',
        b'{"kind":"no end","rows":[[1]]}',
        b"\0\0\0\n",
        b"\xff\xfe\n",
        b"[]\n",
        b"17\n",
        b'{"kind":"no rows"}\n',
        b"\n",
    ],
)
def test_a_malformed_line_is_set_aside_and_does_not_delay_others(tmp_path, damage):
    path = tmp_path / "spool.jsonl"
    ends = damage.endswith(b"\n")
    path.write_bytes(line("a", [1]) + damage + (line("b", [2]) if ends else b""))
    spool = Spool(path)
    left = [("a", [[1]]), ("b", [[2]])] if ends else [("a", [[1]])]
    assert spool.waiting == len(left)
    assert (tmp_path / "spool.unreadable").read_bytes() == damage.rstrip(b"\n") + b"\n"
    spool.put("c", [[3]])
    assert given_back(spool) == [*left, ("c", [[3]])]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["spool.jsonl", "spool.unreadable"]


def test_a_full_disk_does_not_keep_a_damaged_spool_from_being_opened(tmp_path):
    """The server did not start."""
    path = tmp_path / "spool.jsonl"
    path.write_bytes(line("event", [1]) + b"damaged\n" + line("event", [2]) + b'{"kind":"ev')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        found = Spool(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found.waiting == 3
    found.put("event", [[3]])
    assert given_back(found) == [("event", [[n]]) for n in (1, 2, 3)]
    assert (found.waiting, found.damaged, path.read_bytes()) == (0, 1, b"")
    assert found.aside.read_bytes() == b"damaged\n"


def test_lines_set_aside_earlier_are_kept(tmp_path):
    path = tmp_path / "spool.jsonl"
    path.write_bytes(b"bad\n" + line("a", [1]) + b"worse\n")
    assert Spool(path).waiting == 1
    with path.open("ab") as stream:
        stream.write(b"worst")
    assert Spool(path).waiting == 1
    assert (tmp_path / "spool.unreadable").read_bytes() == b"bad\nworse\nworst\n"
    assert path.read_bytes() == line("a", [1])


def test_batches_that_arrive_during_a_replay_do_not_wait_for_it_and_are_given_behind_it(spool):
    """A database that hangs in the middle of a replay must not hold up those who write to disk."""
    spool.put("first", [[1]])
    late = threading.Thread(target=spool.put, args=("late", [[2]]))
    given = []

    def write(kind, rows):
        if not given:
            late.start()
            late.join(10.0)
            assert not late.is_alive()
        given.append(kind)

    assert spool.replay(write) == 2
    assert (given, spool.waiting, given_back(spool)) == (["first", "late"], 0, [])


def test_what_arrives_during_a_replay_that_fails_waits_behind_the_rest(spool):
    for k in range(2):
        spool.put("k", [[k]])

    def write(kind, rows):
        if rows == [[1]]:
            spool.put("late", [[2]])
            raise ConnectionError

    with pytest.raises(ConnectionError):
        spool.replay(write)
    assert spool.waiting == 2
    assert given_back(spool) == [("k", [[1]]), ("late", [[2]])]


steps = st.lists(st.sampled_from(["put", "replay", "fail", "reopen", "torn"]), max_size=30)


@settings(deadline=None, max_examples=40)
@given(steps=steps)
def test_after_any_sequence_of_failures_every_batch_is_replayed_once_and_in_order(
    tmp_path_factory, steps
):
    path = tmp_path_factory.mktemp("spool") / "s.jsonl"
    spool, put, out = Spool(path), 0, []

    def write(kind, rows, refuse):
        if refuse and len(out) % 2:
            raise ConnectionError
        out.append(rows[0][0])

    for step in [*steps, "replay"]:
        if step == "put":
            spool.put("k", [[put]])
            put += 1
        elif step == "replay":
            spool.replay(lambda kind, rows: write(kind, rows, False))
        elif step == "fail" and spool.waiting > 1:
            with pytest.raises(ConnectionError):
                spool.replay(lambda kind, rows: write(kind, rows, True))
        elif step == "torn":
            with path.open("ab") as stream:
                stream.write(b'{"kind"')
            spool = Spool(path)
        else:
            spool = Spool(path)
        assert spool.waiting == put - len(out)
    assert out == list(range(put))


def test_a_batch_that_was_damaged_while_it_waited_is_put_aside_and_holds_up_no_other(tmp_path):
    """A disk that fails, say: the file has changed under the running service."""
    path = tmp_path / "s.jsonl"
    spool = Spool(path)
    for k in range(3):
        spool.put("a", [[k]])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\x00" * (len(lines[1]) - 1) + b"\n" + lines[2])
    given = []
    assert spool.replay(lambda kind, rows: given.append(rows)) == 2
    assert (given, spool.waiting, path.read_bytes()) == ([[[0]], [[2]]], 0, b"")
    assert len((tmp_path / "s.unreadable").read_bytes()) == len(lines[1])
    spool.put("a", [[3]])
    assert (spool.waiting, spool.replay(lambda kind, rows: None), spool.waiting) == (1, 1, 0)


class Counted(io.BufferedReader):
    """How many bytes were asked for at once."""

    largest = 0

    def readline(self, size=-1):
        Counted.largest = max(Counted.largest, size if size >= 0 else 2**63)
        return super().readline(size)

    def read(self, size=-1):
        Counted.largest = max(Counted.largest, size if size is not None and size >= 0 else 2**63)
        return super().read(size)


def test_neither_start_nor_replay_reads_the_file_whole(tmp_path, monkeypatch):
    """A file of 3 MB, a damaged line of 1 MB among it; no reader asks for more than its bound."""
    monkeypatch.setattr(room, "LONGEST_LINE", 1 << 16)
    monkeypatch.setattr(room, "CHUNK", 1 << 14)
    path = tmp_path / "s.jsonl"
    text = "x" * 1000
    half = b"".join(line("a", [k, text]) for k in range(1000))
    path.write_bytes(half + b"\x00" * (1 << 20) + b"\n" + half)
    open_file = type(path).open

    def counted(self, mode="r", *rest, **more):
        if mode == "rb":
            return Counted(io.FileIO(self))
        return open_file(self, mode, *rest, **more)

    monkeypatch.setattr(type(path), "open", counted)
    Counted.largest = 0
    spool = Spool(path)
    assert (spool.waiting, spool.damaged) == (2000, 17)
    given = []

    def write(kind, rows):
        if len(given) == 1500:
            raise ConnectionError
        given.append(rows[0][0])

    with pytest.raises(ConnectionError):
        spool.replay(write)
    assert spool.waiting == 500
    assert spool.replay(lambda kind, rows: given.append(rows[0][0])) == 500
    assert given == [*range(1000), *range(1000)]
    assert Counted.largest <= 1 << 16


def test_a_large_batch_is_several_lines_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "LONG_LINE", 200)
    monkeypatch.setattr(room, "LONGEST_LINE", 300)
    spool = Spool(tmp_path / "s.jsonl", 1000)
    rows = [[k, "x" * 40] for k in range(10)]
    spool.put("a", rows)
    lines = (tmp_path / "s.jsonl").read_bytes().splitlines()
    assert spool.waiting == len(lines) > 2
    assert max(map(len, lines)) <= 200
    with pytest.raises(SpoolFullError):
        spool.put("a", rows)
    with pytest.raises(SpoolFullError, match=r"a row of .* bytes is not kept on disk: at most 300"):
        spool.put("a", [["x" * 300]])
    given = []
    spool.replay(lambda kind, part: given.extend(part))
    assert (given, spool.waiting) == (rows, 0)


def test_whoever_puts_does_not_wait_while_what_stays_is_copied(tmp_path, monkeypatch):
    """The rest of a large spool is copied after a replay that failed."""
    spool = Spool(tmp_path / "s.jsonl")
    for k in range(3):
        spool.put("k", [[k]])
    copy, late = room.shutil.copyfileobj, threading.Thread(target=spool.put, args=("k", [[3]]))

    def slow(old, new, length):
        copy(old, new, length)
        if not late.ident:
            late.start()
            late.join(10.0)
            assert not late.is_alive()

    def write(kind, rows):
        if rows == [[1]]:
            raise ConnectionError

    with monkeypatch.context() as patch, pytest.raises(ConnectionError):
        patch.setattr(room.shutil, "copyfileobj", slow)
        spool.replay(write)
    assert spool.waiting == 3
    assert given_back(spool) == [("k", [[1]]), ("k", [[2]]), ("k", [[3]])]


SHEDS = (("least", "less"), ("middle",))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A spool of files of 300 bytes and more, as it is made again and again; bound: 1,500 bytes."""
    monkeypatch.setattr(room, "SEGMENT_BYTES", 300)

    def make(**more):
        return Spool(tmp_path / "s.jsonl", **{"most_bytes": 1500, "sheds": SHEDS, **more})

    return make


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_full_file_is_followed_by_the_next_which_say_what_waits_by_their_names(
    small, tmp_path, monkeypatch
):
    """A start reads the newest alone: of a week without a link it would take minutes."""
    spool = small()
    for k in range(30):
        spool.put("k", [[k]])
    assert files(tmp_path) == ["s.00000001-12.jsonl", "s.00000002-12.jsonl", "s.jsonl"]
    assert spool.waiting == 30
    read, open_file = [], type(tmp_path).open
    monkeypatch.setattr(
        type(tmp_path), "open", lambda self, *a, **k: read.append(self) or open_file(self, *a, **k)
    )
    again = small()
    assert (again.waiting, {path.name for path in read}) == (30, {"s.jsonl"})
    assert [rows for _, rows in given_back(again)] == [[[k]] for k in range(30)]
    assert files(tmp_path) == ["s.jsonl"]
    assert again.waiting == 0


@pytest.mark.parametrize("taken", [0, 5, 12, 13, 24, 29])
def test_a_replay_over_several_files_goes_on_where_it_ended(small, tmp_path, taken):
    spool = small()
    for k in range(30):
        spool.put("k", [[k]])
    found = []

    def write(kind, rows):
        if len(found) == taken:
            raise ConnectionError
        found.append(rows[0][0])

    with pytest.raises(ConnectionError):
        spool.replay(write)
    assert spool.waiting == small().waiting == 30 - taken
    spool.put("k", [[30]])
    again = small()
    assert [rows[0][0] for _, rows in given_back(again)] == [*range(taken, 31)]


def test_who_was_killed_while_a_file_was_replaced_goes_on_with_the_shorter_one(small, tmp_path):
    spool = small()
    for k in range(15):
        spool.put("k", [[k]])
    whole = (tmp_path / "s.00000001-12.jsonl").read_bytes()
    (tmp_path / "s.00000001-2.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[10:]))
    again = small()
    assert again.waiting == 5
    assert [rows[0][0] for _, rows in given_back(again)] == [10, 11, 12, 13, 14]


def test_the_least_important_is_dropped_first_and_the_oldest_of_it(small, tmp_path):
    spool, kinds = small(), ["least", "middle", "most", "less"]
    for k in range(72):
        spool.put(kinds[k % 4], [[k]])
    before = small(most_bytes=10**6)
    left = [(kind, rows[0][0]) for kind, rows in _peeked(tmp_path)]
    assert spool._bytes() <= 1500
    gone = sorted(set(range(72)) - {number for _, number in left})
    assert spool.shed.total() == len(gone) > 10
    assert gone == [k for k in range(72) if k % 4 in (0, 3)][: len(gone)]
    assert spool.waiting == before.waiting == len(left)
    assert [number for _, number in left] == sorted(number for _, number in left)
    with pytest.raises(SpoolFullError):
        for k in range(200, 300):
            spool.put("most", [[k]])
    left = [kind for kind, _ in _peeked(tmp_path)]
    assert left.count("most") > 30
    assert left.count("middle") < 10
    shed = spool.take_shed()
    assert shed["middle"] + left.count("middle") == 18
    assert spool.take_shed() == {}


def _peeked(folder):
    """What waits, without a replay."""
    found = []
    for path in [*sorted(folder.glob("s.0*")), folder / "s.jsonl"]:
        for text in path.read_bytes().splitlines() if path.exists() else []:
            one = json.loads(text)
            found.append((one["kind"], one["rows"]))
    return found


def test_nothing_more_important_is_dropped_for_what_comes(small, tmp_path):
    spool = small()
    while spool.has_room(30):
        spool.put("middle", [[0]])
    spool.put("least", [[1]])
    assert spool.shed == {"least": 1}, "it is dropped itself"
    held = _peeked(tmp_path)
    assert {kind for kind, _ in held} == {"middle"}
    spool.put("middle", [[2]])
    assert spool.shed == {"least": 1, "middle": 12 - 2}, "of its own kind the oldest goes"


def test_room_is_made_while_a_replay_hangs_but_not_in_the_file_that_is_read(small):
    spool = small()
    for k in range(45):
        spool.put("least", [[k]])
    given, put = [], threading.Event()

    def write(kind, rows):
        if not given:
            for k in range(45, 80):
                spool.put("least", [[k]])
            put.set()
        given.append(rows[0][0])

    spool.replay(write)
    assert put.is_set()
    assert given[:10] == [*range(10)], "the file that was read was whole"
    assert given == sorted(set(given))
    assert len(given) + spool.take_shed().total() == 80
    assert spool.waiting == 0


def test_room_is_made_where_others_fill_the_disk(small, monkeypatch, tmp_path):
    free = [10_000]
    usage = room.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage._replace(free=free[0]))
    spool = small(most_bytes=10**6, least_free_bytes=1000)
    for k in range(30):
        spool.put("least", [[k]])
    assert spool.shed == {}
    free[0] = 900
    spool.put("most", [[30]])
    assert spool.shed == {"least": 20}, "all full files"
    spool.put("least", [[31]])
    assert spool.shed == {"least": 31}, "and what filled up meanwhile"
    assert [kind for kind, _ in _peeked(tmp_path)].count("most") == 1


@pytest.mark.parametrize(("days", "left"), [(6.9, 30), (7.1, 19), (400.0, 30)])
def test_what_may_be_dropped_waits_for_days_and_not_for_ever(small, tmp_path, days, left):
    """A clock that was not set yet makes a file look older than any that there can be."""
    spool = small(most_bytes=10**6, most_days=7.0)
    for k in range(30):
        spool.put("most" if k % 2 else "less", [[k]])
    for path in tmp_path.glob("s.0*"):
        at_s = path.stat().st_mtime - days * 86_400
        os.utime(path, (at_s, at_s))
    again = small(most_bytes=10**6, most_days=7.0)
    again.put("most", [[30]])
    assert len(_peeked(tmp_path)) == again.waiting == left + 1


def test_a_disk_that_takes_no_draft_drops_nothing(small, tmp_path, monkeypatch):
    spool = small()
    while spool.has_room(30):
        spool.put("least", [[0]])
    before = _peeked(tmp_path)
    monkeypatch.setattr(os, "utime", _no_space)
    spool.put("least", [[1]])
    assert (spool.shed, _peeked(tmp_path)) == ({"least": 1}, before)
    assert not [name for name in files(tmp_path) if "shed" in name]


def _no_space(*_):
    raise OSError(errno.ENOSPC, "no space")


def test_the_backlog_is_what_waits_and_since_when(spool, path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(room.time, "time", lambda: now[0])
    assert spool.backlog() == room.Backlog(0, 0, 0.0)
    spool.put("event", [[1]])
    now[0] = 2000.0
    spool.put("event", [[2]])
    assert spool.backlog() == room.Backlog(2, path.stat().st_size, 1000.0)
    given_back(spool)
    assert spool.backlog() == room.Backlog(0, 0, 0.0)
    spool.put("event", [[3]])
    os.utime(path, (1500.0, 1500.0))
    assert spool.backlog().since_s == 2000.0
    assert Spool(path).backlog() == room.Backlog(1, path.stat().st_size, 1500.0), "after a start"
