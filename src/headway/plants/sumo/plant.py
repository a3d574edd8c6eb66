"""A SUMO street as a plant, by libsumo in this process."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import itertools
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headway.plants import PlantAwayError, PlantError
from headway.plants.sumo.complaints import Complaints, complaints
from headway.plants.sumo.observe import Watcher, bare, behind
from headway.plants.sumo.profiles import profile
from headway.plants.sumo.same_network import require_same_network
from headway.plants.sumo.scenarios import additional_files, number, own_options
from headway.plants.sumo.scene import Scene
from headway.plants.sumo.short_lanes import short_lanes
from headway.roads import GO, Colour, Kind, Network, likely_links
from headway.safety import Command
from headway.values import ColourArray, FloatArray, IntArray, Observation, Vehicles

_LABELS = itertools.count()
LETTERS = "OrygG"  # by Colour
FLASHING = {int(Colour.FLASHING_RED): "s", int(Colour.FLASHING_YELLOW): "o"}
# what a signal shows by its letter, where it is not the letter that was sent; dark for all others
COLOUR_OF = {letter: colour for colour, letter in enumerate(LETTERS)} | {"s": 1, "Y": 2, "o": -2}
# an enum's own are slow to look up
GREEN = int(Colour.GREEN)
RED = int(Colour.RED)

STATE_END = b"</snapshot>"
GZIP_LEVEL = 6  # of saved states, as SUMO's own: a fifteenth of the text, in a third of its time
STEP_TOLERANCE_S = 1e-6  # of periods that are sums of steps
LAST_PORT = 65535  # of TCP


@dataclass(frozen=True, slots=True)
class SumoSettings:
    """How SUMO is started.

    scale:   factor on the demand, times the configuration's own.
    range_m: how far upstream of a stop line vehicles are observed.
    sensing: the equipment, see `profiles`.
    extra:   further command-line options, in order.
    additional: further additional files, beside those of the configuration.
    remote:  empty for libsumo in this process; "gui" for a graphical SUMO of this machine, the
             program `binary`; "host:port" for one that waits there (started with the options of
             `arguments` and --remote-port). The last two need the package traci.
    step_s:  of the simulation; None for the configuration's own.
    teleport_s: a vehicle that is stuck for so long is moved on; below 0 never; None for the
             configuration's own, never where it has none.
    """

    sumocfg: str
    seed: int = 1
    scale: float = 1.0
    range_m: float = 200.0
    sensing: str = "connected"
    extra: tuple[str, ...] = ()
    remote: str = ""
    binary: str = "sumo-gui"
    step_s: float | None = None
    teleport_s: float | None = None
    additional: tuple[str, ...] = ()

    @property
    def is_elsewhere(self) -> bool:
        """Somebody else starts SUMO, perhaps on another machine, which does not see this one's
        memory.
        """
        return ":" in self.remote

    def arguments(self) -> list[str]:
        own = own_options(self.sumocfg)
        files = (*additional_files(self.sumocfg), *self.additional) if self.additional else ()
        teleport = own.get("time-to-teleport", "-1")
        return [
            "sumo",
            "-c",
            self.sumocfg,
            "--seed",
            str(self.seed),
            "--scale",
            str(self.scale * number(own.get("scale", "1"), 1.0)),
            "--time-to-teleport",
            teleport if self.teleport_s is None else f"{self.teleport_s:g}",
            "--no-step-log",
            "true",
            "--save-state.rng",
            "true",
            "--save-state.precision",  # the default of 2 decimals moves every vehicle
            "17",
            "--save-state.transportables",
            "true",
            "--no-warnings",
            "true",
            "--duration-log.disable",
            "true",
            # a configuration may ask for what makes each run another one, or wait for a client
            "--random",
            "false",
            *(() if self.remote else ("--remote-port", "0")),
            *(("--additional-files", ",".join(files)) if files else ()),
            *(() if self.step_s is None else ("--step-length", f"{self.step_s:g}")),
            *self.extra,
        ]


def connect(settings: SumoSettings) -> tuple[Any, tuple[type[Exception], type[Exception]]]:
    """SUMO's interface, started or connected, and the errors that it raises: what was refused, and
    its end. Raises PlantError if there is none to be had.
    """
    library = importlib.import_module("traci" if settings.remote else "libsumo")
    errors = (library.TraCIException, library.FatalTraCIError)
    said = Complaints()
    try:
        if not settings.remote:
            with complaints(said):
                library.start(settings.arguments())
            return library, errors
        if settings.remote == "gui":
            label = f"headway-{next(_LABELS)}"
            library.start(
                [settings.binary, "--start", "--quit-on-end", *settings.arguments()[1:]],
                label=label,
            )
            return library.getConnection(label), errors
        host, _, port = settings.remote.rpartition(":")
        if not (port.isdecimal() and 0 < int(port) <= LAST_PORT):
            raise PlantError(f"remote {settings.remote!r}: give gui, or host:port.")
        return library.connect(int(port), host=host or "localhost", numRetries=10), errors
    except (*errors, OSError) as error:
        kind = PlantAwayError if settings.is_elsewhere else PlantError
        raise kind(_why_no_sumo(settings, said.explain(error))) from error


def _why_no_sumo(settings: SumoSettings, why: str) -> str:
    if settings.is_elsewhere:
        port = settings.remote.rpartition(":")[2]
        return (
            f"sumo.remote: no SUMO answers at {settings.remote} ({why}). Start one there with "
            f"--remote-port {port}, anew for each start of the street."
        )
    program = f"{settings.binary} is there, and that " if settings.remote else ""
    return (
        f"{settings.sumocfg}: SUMO does not start: {why}. Check that {program}the routes fit the "
        "network."
    )


CLASSES = {
    "passenger": 0,
    "bus": 1,
    "coach": 1,
    "truck": 2,
    "trailer": 2,
    "delivery": 2,
    "bicycle": 3,
    "tram": 4,
    "emergency": 5,
}


class SumoPlant:
    """The street of one scenario; time is SUMO's own, in seconds."""

    def __init__(self, settings: SumoSettings, network: Network) -> None:
        self._settings, self._network = settings, network
        self._sumo, self._errors = connect(settings)
        if settings.is_elsewhere:
            self._require_same_network()
        self._time_s = self._look_at_clock()
        self._step_s = float(self._sumo.simulation.getDeltaT())
        self._watcher = Watcher(self._sumo, network, settings.range_m)
        self._profile = profile(settings.sensing, network, settings.seed)
        self._tls = self._programmes()
        self._make_off_programmes()
        self._tl_of = [g.tl_id for g in network.groups]
        self._shown: ColourArray = np.full(len(network.groups), Colour.RED, np.int8)
        self._sent = self._shown.tobytes()  # the colours last sent, that nobody else can change
        self._states = [""] * len(self._tls)  # the same as SUMO has them
        self._state_of = bare(self._sumo, "trafficlight", "getRedYellowGreenState")
        self._are_astray = False  # at the last look, signals showed something else
        self._read_back: ColourArray | None = None  # since the last step or command
        self._since = np.full(len(network.groups), self.time_s - 1e3)
        self._started = False
        self._last_s = self.time_s
        to = sorted({x.to_lane for x in network.links if x.group >= 0})
        self._exits = np.array(to, np.int64)
        self._exit_places = np.array(
            [self._watcher.watch.name.index(network.lanes[i].id) for i in to]
        )
        walks = [
            (i, network.links[k])
            for i, g in enumerate(network.groups)
            if g.kind == Kind.PEDESTRIAN
            for k in g.links
        ]
        self._crossing_of = {network.lanes[link.to_lane].edge: i for i, link in walks}
        nodes = tuple({f":{link.node}_w" for _, link in walks})
        self._walking_areas = sorted({x.edge for x in network.lanes if x.edge.startswith(nodes)})
        likely = likely_links(network)
        self._blur = np.array(
            [likely[x.from_lane] if x.group >= 0 else i for i, x in enumerate(network.links)]
        )
        self._short = short_lanes(network, to)
        self._complete = np.ones(len(network.junctions))
        self._halting = bare(self._sumo, "lane", "getLastStepHaltingNumber")

    def _require_same_network(self) -> None:
        """Raises PlantError, PlantAwayError for what answers as no SUMO does; it is left then."""
        refused, died = self._errors
        try:
            require_same_network(self._sumo, self._network, (refused,))
        except (died, OSError, struct.error) as error:
            self.close()
            raise PlantAwayError(_why_no_sumo(self._settings, str(error).rstrip("."))) from error
        except BaseException:
            self.close()
            raise

    def _programmes(self) -> list[tuple[str, list[tuple[int, int]], list[str]]]:
        """For each programme: its name, (place, group) of its groups, the letter of each place
        while it is red or left alone.
        """
        found = []
        alone = {(x.tl_ids[0], x.place): x.shows for x in self._network.not_controlled if x.shows}
        for junction in self._network.junctions:
            for tl in junction.tl_ids:
                places = [
                    (self._network.groups[g].index, g)
                    for g in junction.groups
                    if self._network.groups[g].tl_id == tl
                ]
                width = len(self._sumo.trafficlight.getRedYellowGreenState(tl))
                red = [alone.get((tl, place), "r") for place in range(width)]
                for place, group in places:
                    if self._network.groups[group].turn_on_red:
                        red[place] = "s"
                found.append((tl, places, red))
        return found

    def _make_off_programmes(self) -> None:
        """Those by which a WAUT switches lights off. SUMO makes one when it is first switched to,
        and shows it for a step, although the light was set from outside.
        """
        lights = self._sumo.trafficlight
        for tl, _, _ in self._tls:
            runs = lights.getProgram(tl)
            lights.setProgram(tl, "off")
            lights.setProgram(tl, runs)

    @property
    def time_s(self) -> float:
        """As of the last step, also once SUMO has died."""
        return self._time_s

    def _look_at_clock(self) -> float:
        return float(self._sumo.simulation.getTime())

    @property
    def shown(self) -> ColourArray:
        """The colours that SUMO's signals show, (groups,), read back from it; before the first
        command red.
        """
        if self._read_back is None:
            self._read_back = self._look()
        return self._read_back

    def _look(self) -> ColourArray:
        if not self._started:
            return self._shown
        states = [self._state_of(name) for name, _, _ in self._tls]
        self._are_astray = states != self._states
        if self._are_astray:
            return self._decoded(states)
        if self._shown.tobytes() != self._sent:  # somebody has written to what was handed out
            self._shown = np.frombuffer(self._sent, np.int8).copy()
        return self._shown

    def _decoded(self, states: Sequence[str]) -> ColourArray:
        """The colours of programmes' states: what was sent where the letter is the same, else by
        the letter; dark where a state has no such place.
        """
        colours = np.frombuffer(self._sent, np.int8).copy()
        for state, sent, (_, places, _) in zip(states, self._states, self._tls, strict=True):
            for place, group in places:
                letter = state[place : place + 1]
                if letter != sent[place]:
                    colours[group] = COLOUR_OF.get(letter, Colour.DARK)
        return colours

    @property
    def running(self) -> bool:
        """Vehicles are on the street, or still to come."""
        return bool(self._sumo.simulation.getMinExpectedNumber() > 0)

    @property
    def interface(self) -> Any:
        """SUMO's own, for what a plant does not offer."""
        return self._sumo

    def observe(self) -> Observation:
        now = self.time_s
        there, number = self._watcher.read(now, now - self._last_s)
        vehicles = self._profile.see(now, there, number)
        self._last_s = now
        self._read_back = self._look()
        reported = self._watcher.emergencies() if self._watcher.urgent else ()
        room, count = self._room()
        return Observation(
            at_s=now,
            vehicles=vehicles,
            shown=self._read_back,
            shown_for_s=now - self._since,
            room_m=room,
            count=count,
            arrived=self._arrivals(),
            waiting_persons=self._persons(),
            completeness=self._complete,
            emergencies=self._profile.emergencies(reported),
            links_known=self._settings.sensing == "connected",
            inside_seen=self._settings.sensing != "loops",
            missed_share=self._profile.missed_share,
        )

    def take_rerouted(self) -> IntArray:
        """Of the vehicles that `arrived` of what was observed had for each link, those that it has
        once more, for another link of the same junction; since the last call.
        """
        return self._watcher.take_rerouted()

    def _arrivals(self) -> IntArray:
        """Arrivals by link; by the likely link of each lane, where the equipment does not tell
        links.
        """
        arrived = self._watcher.take_arrived()
        if self._settings.sensing != "connected":
            blurred = np.zeros_like(arrived)
            np.add.at(blurred, self._blur, arrived)
            return blurred
        return arrived

    def _persons(self) -> IntArray:
        """Pedestrians who wait before each crossing, on either side, (groups,)."""
        waiting = np.zeros(len(self._network.groups), np.int32)
        for area in self._walking_areas:
            for person in self._sumo.edge.getLastStepPersonIDs(area):
                group = self._crossing_of.get(self._sumo.person.getNextEdge(person), -1)
                if group >= 0:
                    waiting[group] += 1
        return waiting

    def _room(self) -> tuple[FloatArray, IntArray]:
        """Free length at the start of the lanes behind the signals, with what its last vehicle
        drives in 4 s; and their counts.
        """
        room, count = behind(
            self._watcher.lanes, self._exits, self._exit_places, len(self._network.lanes)
        )
        present = self._watcher.present
        for short in self._short:
            if not present.keys().isdisjoint(short.near):
                stopped = sum(self._halting(via) for via in short.before if via in present)
                room[short.lane] = short.room_m(
                    float(room[short.lane]), count, present, self._shown, stopped
                )
        return room, count

    def apply(self, command: Command) -> None:
        """Show the colours of `command` from the next step on."""
        colours = command.colours
        if self._started and not self._are_astray and colours.tobytes() == self._sent:
            return
        sent = np.frombuffer(self._sent, np.int8)
        changed = colours != sent
        self._since[changed & ~((colours >= GO) & (sent >= GO))] = self.time_s
        self._shown = colours.copy()
        touched = {self._tl_of[g] for g in np.flatnonzero(changed).tolist()}
        self._send(None if self._are_astray or not self._started else touched)

    def show(self, colours: ColourArray, since_s: FloatArray) -> None:
        """Set the signals as they were after a restore: SUMO forgets states that were set from
        outside.
        """
        self._shown = colours.copy()
        self._since = since_s.copy()
        self._send(None)

    def _send(self, touched: set[str] | None) -> None:
        """Set the signals of these programmes; None for all."""
        shown = self._shown.tolist()
        for i, (tl, places, red) in enumerate(self._tls):
            if touched is None or tl in touched:
                state = red.copy()
                for place, group in places:
                    if shown[group] != RED:
                        colour = shown[group]
                        state[place] = LETTERS[colour] if colour >= 0 else FLASHING[colour]
                self._states[i] = "".join(state)
                self._sumo.trafficlight.setRedYellowGreenState(tl, self._states[i])
        self._sent = self._shown.tobytes()
        self._started = True
        self._read_back = None

    def steps_in(self, period_s: float) -> int:
        """How many steps a period has. Raises PlantError where they are not whole."""
        steps = round(period_s / self._step_s)
        if steps < 1 or abs(steps * self._step_s - period_s) > STEP_TOLERANCE_S:
            raise PlantError(
                f"a tick of {period_s:g} s is no whole number of steps of SUMO, "
                f"{self._step_s:g} s each. Set loop.tick_s to a multiple of the step, or "
                "sumo.step_s (step-length of the configuration) to the tick or a part of it."
            )
        return steps

    def advance(self, period_s: float) -> None:
        steps = self.steps_in(period_s)
        self._read_back = None
        begun_s = self._time_s
        try:
            for _ in range(steps):
                self._sumo.simulationStep()
            at_s = self._look_at_clock()
        except self._errors as error:
            raise PlantError(f"SUMO failed at {self._last_s} s: {error}") from error
        if not abs(at_s - begun_s - period_s) <= STEP_TOLERANCE_S:  # else a run may end by it
            raise PlantError(
                f"SUMO's clock shows {at_s!r} s, {period_s:g} s after {begun_s!r} s. What it "
                "answers is not to be trusted."
            )
        self._time_s = at_s

    def scene(self) -> Scene:
        """Position and heading of each vehicle, for display; costs some microseconds a
        vehicle.
        """
        vehicle = self._sumo.vehicle
        ids = vehicle.getIDList()
        at = [vehicle.getPosition(v) for v in ids]
        return Scene(
            number=np.array([zlib.crc32(v.encode()) for v in ids], np.uint32),
            at_m=np.array(at, np.float32).reshape(-1, 2),
            angle_deg=np.array([vehicle.getAngle(v) for v in ids], np.float32),
            speed_mps=np.array([vehicle.getSpeed(v) for v in ids], np.float32),
            length_m=np.array([vehicle.getLength(v) for v in ids], np.float32),
            kind=np.array([CLASSES.get(vehicle.getVehicleClass(v), 0) for v in ids], np.uint8),
        )

    def emissions(self) -> tuple[int, float, float]:
        """(vehicles on the street, fuel mg/s, CO2 mg/s) at this instant, by SUMO's emission model;
        costs some microseconds a vehicle.
        """
        vehicle = self._sumo.vehicle
        ids = vehicle.getIDList()
        return (
            len(ids),
            float(sum(map(vehicle.getFuelConsumption, ids))),
            float(sum(map(vehicle.getCO2Emission, ids))),
        )

    def pending(self) -> dict[str, float]:
        """Vehicles that were to depart but have not entered yet, with their delay so far,
        seconds.
        """
        sumo = self._sumo
        return {
            v: float(sumo.vehicle.getDepartDelay(v)) for v in sumo.simulation.getPendingVehicles()
        }

    def entered(self) -> int:
        """How many vehicles have entered since SUMO's start."""
        return int(self._sumo.simulation.getParameter("", "stats.vehicles.inserted"))

    def left(self) -> int:
        """How many vehicles have entered since SUMO's start, and are gone."""
        there = int(self._sumo.simulation.getParameter("", "stats.vehicles.running"))
        return self.entered() - there

    def checkpoint(self, path: Path) -> None:
        """Save SUMO's state, with its random numbers, so that the same run goes on. Raises OSError
        where the disk does not take it.
        """
        if self._settings.is_elsewhere or not hasattr(os, "memfd_create"):
            self._save_state(str(path))
            return
        # in memory first: SUMO ends its process where a disk is full
        with os.fdopen(os.memfd_create("state"), "rb") as memory:
            self._save_state(f"/proc/{os.getpid()}/fd/{memory.fileno()}")
            state = memory.read()
            if not state.rstrip().endswith(STATE_END):  # of which SUMO says nothing
                limit = "A limit on the size of files (ulimit -f) does so"
                raise OSError(f"SUMO's state is cut after {len(state)} bytes. {limit}.")
            path.write_bytes(gzip.compress(state, GZIP_LEVEL, mtime=0))

    def _save_state(self, path: str) -> None:
        """Raises OSError."""
        try:
            self._sumo.simulation.saveState(path)
        except self._errors as error:
            raise OSError(f"SUMO does not save its state: {error}") from error

    def restore(self, path: Path) -> None:
        """Restart SUMO from a state. The signals must be shown again after (`show`); vehicles
        still to come are in the routes of the scenario.

        Loading a state into a SUMO that runs would insert vehicles again that have arrived.
        """
        try:
            self._sumo.load([*self._settings.arguments()[1:], "--load-state", str(path)])
        except self._errors as error:
            raise PlantError(
                f"{path}: SUMO does not take this state ({error}). A state fits only the SUMO "
                "version and the network that wrote it."
            ) from error
        self._make_off_programmes()
        self._watcher = Watcher(self._sumo, self._network, self._settings.range_m)
        self._profile = profile(self._settings.sensing, self._network, self._settings.seed)
        self._time_s = self._last_s = self._look_at_clock()

    def close(self) -> None:
        """Also one that has died: the fault that ends a run is the one that it died of."""
        with contextlib.suppress(*self._errors, OSError, struct.error):
            self._sumo.close()


class UnobservedPlant(SumoPlant):
    """A street without equipment of its own: it reports its signals and its clock, and no road
    user.
    """

    def __init__(self, settings: SumoSettings, network: Network) -> None:
        super().__init__(replace(settings, sensing="connected"), network)

    def observe(self) -> Observation:
        simulated = super().observe()
        none = np.zeros(0, np.int32)
        nothing = np.zeros(0)
        return replace(
            simulated,
            vehicles=Vehicles(
                none, none, nothing, nothing, nothing, nothing, none.astype(np.bool_)
            ),
            room_m=np.full_like(simulated.room_m, np.inf),
            count=np.zeros_like(simulated.count),
            arrived=np.zeros_like(simulated.arrived),
            waiting_persons=np.zeros_like(simulated.waiting_persons),
            completeness=np.zeros_like(simulated.completeness),
            emergencies=(),
            links_known=False,
            inside_seen=False,
            missed_share=0.0,
        )

    def take_rerouted(self) -> IntArray:
        return np.zeros_like(super().take_rerouted())  # nobody has arrived that it knows of
