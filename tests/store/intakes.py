"""An intake that records what it is given, and rejects what it is set to reject."""

from __future__ import annotations

import threading

from headway.telemetry.bursts import Burst


class Intake:
    """Writes down what it is given; refuses the tables named in `away`. numbers: of runs that begin
    under another one, and back; known: those of them that the database has by now.
    """

    def __init__(self):
        self.written = []
        self.runs = []
        self.of_streets = []
        self.caught_up = 0
        self.away = set()
        self.hangs = False
        self.numbers = {}
        self.known = set()
        self.during = []
        self.on_disk = []
        self.is_disk_full = False
        self.hanging = threading.Event()
        self.hanging.set()
        self.losses = Burst()

    def write(self, table, rows):
        self.hanging.wait(60.0)
        if table in self.away:
            for row in self.during:
                self.recorder.put(*row)
            raise OSError(f"{table} is away")
        self.written.append((table, list(rows)))

    def write_sound(self, table, rows):
        self.write(table, rows)

    def put_on_disk(self, table, rows):
        if self.is_disk_full:
            raise OSError(28, "the disk is full")
        self.on_disk.append((table, list(rows)))

    def catch_up(self):
        self.caught_up += 1

    def begin_run(self, key, scenario, controller, seed, street, scale):
        self.runs.append((key, scenario, controller, seed))
        self.of_streets.append((street, scale))
        number = 40 + len(self.runs)
        return self.numbers.get(number, number)

    def run_number(self, number):
        return self.numbers[number] if number in self.known else number

    def rows(self, table):
        return [row for name, rows in self.written if name == table for row in rows]
