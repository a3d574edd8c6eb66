"""A street without a simulation: its state is set by hand, and the orders it gets are recorded."""

from __future__ import annotations

import threading
from dataclasses import replace

from headway.plants.sumo import read_network
from headway.plants.sumo.scenarios import scenario
from headway.service.running_street import RunningStreet
from headway.service.streets import StreetService
from headway.settings import Settings, overridden
from headway.street.messages import Identified, JunctionState, Snapshot, Task

SNAPSHOT = Snapshot(
    time_s=25300.0, begin_s=25200.0, end_s=28800.0, vehicles=31, stopped=12, source="controller",
    interventions=4, cycles=3, cycles_ok=3, overruns=1,
    jitter_p99_s=0.0021, tick_ms=1.75, checkpoint_s=25260.0, trouble="", mode="balanced",
    controller="planner",
    junctions=(
        JunctionState("360082", 25300.0, 11, 5, 42.26, (1, 3), 0.87654, factors={"novelty": 0.9}),
        JunctionState("360086", 25300.0, 20, 7, 8.0, (2,), 1.0),
    ),
    shown=bytes((1, 3, 4)), profile={"control_s": 0.25},
)  # fmt: skip


class Engine:
    """Stands for the street's process: takes orders, or refuses them with `fault`. on_order: called
    with each.
    """

    def __init__(self):
        self.orders, self.ids, self.fault, self.stopped = [], [], None, False
        self.on_order = None
        self.pid = None
        self.is_restarting = False

    def order(self, order):
        if self.fault is not None:
            raise self.fault
        if isinstance(order, Identified):  # several under one id
            self.ids.append(order.id)
            self.orders += order.orders
        else:
            self.orders.append(order)
        if self.on_order is not None:
            self.on_order(order)

    def stop(self):
        self.stopped = True


def standing(*names, of="cologne3", tell=None):
    """A service of streets that stand still."""
    service = StreetService(tell)
    for name in names:
        settings = overridden(
            Settings(), {"street": {"scenario": of}, "control": {"controller": "webster"}}
        )
        network = read_network(scenario(of).net)
        live = RunningStreet(name, Task(settings), Engine(), network, scenario=of)
        live.thread = threading.Thread(target=int)
        live.thread.start()
        live.snapshot = replace(SNAPSHOT)
        service.streets[name] = live
    return service
