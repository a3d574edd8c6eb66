"""The board under many writers: states are never mixed, never replaced by older ones,
and 10,000 updates arrive.
"""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from headway.street.board import Board, JunctionState


def state(junction: int, at_s: float) -> JunctionState:
    return JunctionState(f"J{junction}", at_s, int(at_s), int(at_s), at_s, (int(at_s),), 1.0)


@pytest.mark.slow
def test_ten_thousand_concurrent_updates_leave_the_newest_whole_state_of_each_junction():
    board, stop, torn = Board(), threading.Event(), []

    def read():
        while not stop.is_set():
            for s in board.all().values():
                if not s.vehicles == s.stopped == s.green[0] == int(s.at_s):
                    torn.append(s)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for r in readers:
        r.start()
    updates = [(j, float(t)) for j in range(100) for t in range(100)]
    random.Random(1).shuffle(updates)
    with ThreadPoolExecutor(32) as pool:
        taken = sum(pool.map(lambda u: board.put([state(*u)]), updates))
    stop.set()
    for r in readers:
        r.join()
    assert not torn
    assert len(board.all()) == 100
    assert {s.at_s for s in board.all().values()} == {99.0}
    assert taken + board.late == 10_000


def test_a_copy_of_the_board_does_not_change_and_a_new_scenario_starts_anew():
    board = Board()
    board.put([state(1, 50.0)])
    copy = board.all()
    board.put([state(1, 60.0)])
    assert copy["J1"].at_s == 50.0
    board.clear()
    assert board.get("J1") is None
    assert board.put([state(1, 10.0)]) == 1


def test_late_updates_are_rejected_and_counted_and_repeated_ones_accepted():
    board = Board()
    first, again, late = (
        JunctionState("J1", at_s, n, 0, 0.0, (), 1.0)
        for at_s, n in ((50.0, 1), (50.0, 2), (49.9, 3))
    )
    assert board.late == 0
    assert board.put([first, state(2, 50.0)]) == 2
    assert board.put([again]) == 1
    assert board.get("J1") is again
    assert board.put([late, state(2, 51.0), late]) == 1
    assert (board.get("J1"), board.late) == (again, 2)
    assert board.put([]) == 0
    assert board.all() == {"J1": again, "J2": state(2, 51.0)}
    assert board.get("J3") is None


def test_a_copy_of_the_board_cannot_be_written():
    board = Board()
    board.put([state(1, 1.0)])
    with pytest.raises(TypeError):
        board.all()["J1"] = state(1, 2.0)
    with pytest.raises(AttributeError):
        board.get("J1").vehicles = 5


class Lock:
    """Says whether somebody holds it."""

    def __init__(self):
        self.held, self.acquired = False, 0

    def __enter__(self):
        self.held, self.acquired = True, self.acquired + 1

    def __exit__(self, *_):
        self.held = False


def test_all_of_an_update_happens_under_one_lock():
    lock = Lock()
    board = Board(lock)

    def states():
        for junction in range(3):
            assert lock.held
            yield state(junction, 1.0)

    board.put(states())
    assert lock.acquired == 1
    board.all()
    board.clear()
    assert lock.acquired == 3
