"""An intake that records what it is given, and rejects what it is set to reject."""

from __future__ import annotations

from sqlalchemy.exc import OperationalError

from headway.telemetry.bursts import Burst


class Intake:
    """Writes down what it is given; refuses the tables named in `away`."""

    def __init__(self):
        self.written = []
        self.runs = []
        self.of_streets = []
        self.corrected = []
        self.caught_up = 0
        self.away = set()
        self.failing_runs = 0
        self.during = []
        self.losses = Burst()

    def write(self, table, rows):
        if table in self.away:
            for row in self.during:
                self.recorder.put(*row)
            raise OSError(f"{table} is away")
        self.written.append((table, list(rows)))

    def write_sound(self, table, rows):
        self.write(table, rows)

    def catch_up(self):
        self.caught_up += 1

    def begin_run(self, key, scenario, controller, seed, street, scale):
        if self.failing_runs:
            self.failing_runs -= 1
            raise OperationalError("INSERT", {}, Exception("away"))
        self.runs.append((key, scenario, controller, seed))
        self.of_streets.append((street, scale))
        return 40 + len(self.runs)

    def correct_run(self, number, controller):
        self.corrected.append((number, controller))

    def rows(self, table):
        return [row for name, rows in self.written if name == table for row in rows]
