"""The Q-table: what is added is found, the least used gives way,
a file survives the death of its writer.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest

from headway.control.qtable import WAYS, QTable, mix


def keys(*numbers):
    return np.array(numbers, np.uint64)


def add(table, key, action=0, step=1.0):
    table.add(keys(key), np.array([action]), np.array([step], np.float32))


def file_rows(path, actions):
    """(clock, [(key, used, visits, values)]) of the file, by its description alone:
    32 bytes of header, then the rows.
    """
    data = path.read_bytes()
    magic, version, found, rows, clock = struct.unpack_from("<QIIQQ", data)
    assert (magic.to_bytes(8, "big"), version, found) == (b"HEADWAYQ", 1, actions)
    shape = f"<QQ{actions}I{actions}f"
    assert len(data) == 32 + rows * struct.calcsize(shape)
    found = [struct.unpack_from(shape, data, 32 + i * struct.calcsize(shape)) for i in range(rows)]
    return clock, [(r[0], r[1], list(r[2 : 2 + actions]), list(r[2 + actions :])) for r in found]


def test_what_is_added_is_found_and_visits_are_counted():
    table = QTable(3, 64)
    add(table, 7, 1, 2.5)
    table.add(keys(7, 8, 7), np.array([1, 2, 0]), np.array([-1.0, 4.0, 0.5], np.float32))
    values, visits = table.get(keys(8, 7, 9))
    assert values.tolist() == [[0, 0, 4.0], [0.5, 1.5, 0], [0, 0, 0]]
    assert visits.tolist() == [[0, 0, 1], [1, 2, 0], [0, 0, 0]]
    assert (values.dtype, visits.dtype) == (np.float32, np.uint32)
    assert len(table) == 2


def test_many_states_are_told_apart():
    table = QTable(3, 1 << 12)
    many = np.random.default_rng(0).integers(1, 2**63, 200).astype(np.uint64)
    actions, steps = np.arange(200) % 3, np.arange(200, dtype=np.float32)
    table.add(many, actions, steps)
    expected = np.zeros((200, 3))
    expected[np.arange(200), actions] = steps
    assert (table.get(many)[0] == expected).all()
    assert table.get(many[::-1])[1].sum() == 200
    assert len(table) == 200


class TestPlaces:
    def test_a_full_set_gives_up_the_row_that_was_used_longest_ago(self):
        table = QTable(2, WAYS)
        for key in range(1, WAYS + 1):
            add(table, key, 1, key)
        table.get(keys(1))  # looked at: used
        add(table, 2, 0)  # added to: used
        add(table, 99, 0, 5.0)  # 3 was used longest ago
        assert table.get(keys(99))[0].tolist() == [[5.0, 0.0]], (
            "nothing is left of the state that stood there"
        )
        assert table.get(keys(99))[1].tolist() == [[1, 0]]
        assert [k for k in range(1, WAYS + 1) if table.get(keys(k))[1].sum() == 0] == [3]
        assert len(table) == WAYS
        add(table, 100)  # all but 99 have been looked at since
        add(table, 101)  # and 1 the first of them
        assert table.get(keys(100, 101, 99, 1, 2))[1].sum(axis=1).tolist() == [1, 1, 0, 0, 2]

    def test_the_last_row_of_a_set_may_be_the_oldest(self):
        table = QTable(1, WAYS)
        for key in (8, 1, 2, 3, 4, 5, 6, 7):
            add(table, key)
        table.get(keys(8, 1, 2, 3, 4, 5, 6))
        add(table, 99)
        assert table.get(keys(7, 8, 99))[1][:, 0].tolist() == [0, 1, 1]

    def test_each_state_has_the_eight_rows_of_its_set(self):
        table = QTable(1, 2 * WAYS)  # the last bit is the set
        for key in range(2, 2 + 2 * WAYS):
            add(table, key)
        assert len(table) == 2 * WAYS
        add(table, 100)
        assert table.get(keys(*range(2, 2 + 2 * WAYS)))[1][:, 0].tolist() == [0] + [1] * (
            2 * WAYS - 1
        )

    def test_rows_are_taken_in_turn_and_marked_with_the_clock(self, tmp_path):
        path = tmp_path / "q.table"
        table = QTable(2, 32, path)  # the last two bits are the set
        table.add(keys(6, 10, 5), np.array([0, 1, 1]), np.array([1.5, 2.0, -3.0], np.float32))
        table.get(keys(10, 77))
        add(table, 14, 1, 4.0)
        table.flush()
        clock, rows = file_rows(path, 2)
        assert clock == 3
        assert {i: row for i, row in enumerate(rows) if row[0]} == {
            8: (5, 1, [0, 1], [0.0, -3.0]), 16: (6, 1, [1, 0], [1.5, 0.0]),
            17: (10, 2, [0, 1], [0.0, 2.0]), 18: (14, 3, [0, 1], [0.0, 4.0]),
        }  # fmt: skip


class TestFile:
    @pytest.mark.slow
    def test_survives_kill_9(self, tmp_path):
        path = tmp_path / "q.table"
        code = (
            "import numpy as np, os, signal; from pathlib import Path; "
            "from headway.control.qtable import QTable\n"
            f"t = QTable(2, 64, Path({str(path)!r})); t.add(np.array([7], np.uint64), "
            "np.array([1]), np.array([2.5], np.float32))\n"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
        table = QTable.read(path)
        assert (table.actions, table.rows, table.path) == (2, 64, path)
        assert table.get(keys(7))[0].tolist() == [[0.0, 2.5]]

    def test_goes_on_where_it_was_left(self, tmp_path):
        path = tmp_path / "new" / "folder" / "q.table"
        add(QTable(2, 64, path), 7)
        add(QTable(2, 64, path), 7)
        again = QTable.read(path)
        assert again.get(keys(7))[1].tolist() == [[2, 0]]
        again.flush()
        assert file_rows(path, 2)[0] == 3

    @pytest.mark.parametrize("network", [0, 2**63 + 5])
    def test_says_whether_its_states_are_with_the_neighbours(self, tmp_path, network):
        for sees in (False, True):
            path = tmp_path / f"{sees}.table"
            add(QTable(2, 64, path, network, sees), 7, 1, 2.5)
            version = 3 if sees else 2 if network else 1
            assert struct.unpack_from("<QI", path.read_bytes())[1] == version
            from_bytes = QTable.from_bytes(path.read_bytes(), "here")
            for again in (QTable.read(path), from_bytes, QTable(2, 64, path, network)):
                assert (again.sees_neighbours, again.network) == (sees, network)
                assert again.get(keys(7))[0].tolist() == [[0.0, 2.5]]

    def test_has_its_room_on_the_disk_before_it_is_filled(self, tmp_path):
        """Without it the write of a row, on a full disk, ended the process (SIGBUS)."""
        path = tmp_path / "q.table"
        QTable(2, 1 << 14, path)
        size = path.stat().st_size
        assert path.stat().st_blocks * 512 >= size
        with path.open("r+b") as stream:  # as an older version made it
            stream.truncate(4096)
            stream.truncate(size)
        assert path.stat().st_blocks * 512 < size
        QTable.read(path).reserve()
        assert path.stat().st_blocks * 512 >= size

    def test_for_which_there_is_no_room_is_refused_and_leaves_nothing(self, tmp_path, monkeypatch):
        def full(handle, offset, size):
            raise OSError(errno.ENOSPC, "No space left on device")

        kept = tmp_path / "kept.table"
        add(QTable(2, 64, kept), 7, 1, 2.5)
        monkeypatch.setattr(os, "posix_fallocate", full)
        said = r"no room for a Q-table of \d+ bytes \(No space left on device\)\. Make room"
        with pytest.raises(OSError, match=said) as ended:
            QTable(2, 64, tmp_path / "q.table")
        assert ended.value.errno == errno.ENOSPC
        assert [p.name for p in tmp_path.iterdir()] == ["kept.table"]
        kept_table = QTable.read(kept)  # a street that uses it needs no more room
        assert kept_table.get(keys(7))[0].tolist() == [[0.0, 2.5]]
        with pytest.raises(OSError, match=said):
            kept_table.reserve()
        QTable(2, 64).reserve()

    def test_is_flushed_whole(self, tmp_path, monkeypatch):
        flushed = []
        monkeypatch.setattr(np.memmap, "flush", lambda part: flushed.append(part.dtype.names[0]))
        QTable(2, 64, tmp_path / "q.table").flush()
        assert sorted(flushed) == ["key", "magic"]
        QTable(2, 64).flush()
        assert len(flushed) == 2, "in memory there is nothing to write"

    @pytest.mark.parametrize(
        ("actions", "rows", "found"),
        [(3, 64, "2 and 64"), (2, 32, "2 and 64"), (2, 128, "2 and 64")],
    )
    def test_of_another_shape_is_refused(self, tmp_path, actions, rows, found):
        path = tmp_path / "q.table"
        QTable(2, 64, path)
        message = (
            f"{path}: is no Q-table of {actions} actions and {rows} rows (has {found}). "
            "Give another file, or the table's own size."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            QTable(actions, rows, path)

    @pytest.mark.parametrize(
        "harm",
        [
            lambda data: b"X" + data[1:],  # another magic
            lambda data: data[:8] + b"\x02" + data[9:],  # another version
            lambda data: data[:-1],
            lambda data: data + b"\0",
            lambda data: data[:32],
        ],
    )
    def test_that_is_no_whole_table_is_refused(self, tmp_path, harm):
        path = tmp_path / "q.table"
        QTable(2, 64, path)
        path.write_bytes(harm(path.read_bytes()))
        with pytest.raises(ValueError, match=r"is no Q-table of 2 actions and 64 rows \("):
            QTable(2, 64, path)

    def test_of_another_kind_is_refused_with_what_to_do(self, tmp_path):
        path = tmp_path / "q.table"
        path.write_bytes(b"something else, but long enough to hold a header")
        with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: is no Q-table.')}$"):
            QTable.read(path)
        for short in (b"", b"x" * 31):
            path.write_bytes(short)
            says = f"{path}: no Q-table there. Train one: headway train --out {path}"
            with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
                QTable.read(path)
        path.write_bytes(b"x" * 32)
        with pytest.raises(ValueError, match=r"is no Q-table\.$"):
            QTable.read(path)
        for nothing in (tmp_path, tmp_path / "none"):
            with pytest.raises(ValueError, match=r"no Q-table there"):
                QTable.read(nothing)


@pytest.mark.parametrize(
    ("actions", "rows"), [(0, 64), (-1, 64), (1, 4), (1, 7), (1, 12), (1, 63), (1, 0)]
)
def test_a_shape_that_cannot_be_is_refused(actions, rows):
    message = (
        "a Q-table needs at least one action and a power of two of rows, at least 8; "
        f"asked for {actions} and {rows}"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        QTable(actions, rows)


def test_the_smallest_shape_is_taken_and_the_usual_one_has_65536_rows():
    assert QTable(1, 8).rows == 8
    assert QTable(2).rows == 65536


class TestMix:
    def steele(self, columns):
        """SplitMix64 (Steele, Lea, Flood 2014) over the columns, with Python's own numbers."""
        gold, all_ones = 0x9E3779B97F4A7C15, 2**64 - 1
        key = gold
        for column in columns:
            z = ((key ^ (column & all_ones)) + gold) & all_ones
            z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & all_ones
            z = ((z ^ z >> 27) * 0x94D049BB133111EB) & all_ones
            key = z ^ z >> 31
        return key

    def test_is_steeles_step_over_the_columns(self):
        rows = [[0, 0, 0], [1, 2, 3], [3, 2, 1], [-1, 7, 2**40]]
        assert mix(np.array(rows)).tolist() == [self.steele(row) for row in rows]
        assert mix(np.array([[0x9E3779B97F4A7C15]], np.uint64)).tolist() == [
            0xE220A8397B1DCDAF
        ]  # the first number of the sequence from 0

    def test_is_never_nought(self):
        gold = 0x9E3779B97F4A7C15
        column = gold ^ (2**64 - gold)  # (key ^ column) + gold = 0, which stays 0
        assert self.steele([column]) == 0
        assert mix(np.array([[column]], np.uint64)).tolist() == [1]

    def test_depends_on_every_column(self):
        rows = np.array([[a, b] for a in range(50) for b in range(50)])
        assert len(np.unique(mix(rows))) == len(rows)
