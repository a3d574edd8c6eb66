"""What the compiled rules read and write, as flat arrays; indexed by signal group unless their text
says otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

from headway.values import BoolArray, ColourArray, FloatArray, IntArray

NO_GROUP = -1
NO_STAGE = -1


class Signals(NamedTuple):
    """What is shown and since when; changed in place by `put_in_force`.

    colour:        int8 (groups,), in force.
    since_s:       float (groups,), when it began; both levels of green count as one colour.
    green_start_s: float (groups,), last start of green.
    green_end_s:   float (groups,), last end of green.
    """

    colour: ColourArray
    since_s: FloatArray
    green_start_s: FloatArray
    green_end_s: FloatArray


class Calls(NamedTuple):
    """Who asks for green; changed in place by `detect_calls` and `update_call_times`.

    present:             bool (groups,), traffic for the group is there in this second.
    since_s:             float (groups,), since when a group that is not green has been asking; the
        present time where it does not ask.
    last_s:              float (groups,), when traffic was there last.
    conflicting_since_s: float (groups,), since when a green group has kept an asking one waiting;
        the present time where it does not.
    """

    present: BoolArray
    since_s: FloatArray
    last_s: FloatArray
    conflicting_since_s: FloatArray


class Limits(NamedTuple):
    """The times of the rules, float (groups,) each, seconds."""

    yellow_s: FloatArray
    clearance_s: FloatArray
    min_green_s: FloatArray
    max_green_s: FloatArray
    min_cycle_s: FloatArray
    max_red_s: FloatArray
    max_cycle_s: FloatArray


class Conflicts(NamedTuple):
    """Conflicting groups of each group, flat: entries start[g] to start[g + 1] - 1 are group g's.

    start:         int (groups + 1,).
    group:         int (entries,), the conflicting group.
    it_gives_way:  bool (entries,), the conflicting group gives way to g.
    gives_way_to:  bool (entries,), g gives way to the conflicting group.
    """

    start: IntArray
    group: IntArray
    it_gives_way: BoolArray
    gives_way_to: BoolArray


class Ways(NamedTuple):
    """Where vehicles may go.

    link_group: int (links,), the signal group of each link, -1 without a signal.
    lane_start: int (lanes + 1,), and lane_group: int (entries,): lane k leads to the groups
        lane_group[lane_start[k] : lane_start[k + 1]].
    """

    link_group: IntArray
    lane_start: IntArray
    lane_group: IntArray


class Junctions(NamedTuple):
    """Groups and stages of the junctions, flat.

    first_group:   int (junctions + 1,), groups of junction j are first_group[j] to
        first_group[j + 1] - 1.
    first_stage:   int (junctions + 1,), the same for rows of `stages`.
    stages:        int8 (rows, groups of the widest junction), colours of each stage.
    serving_stage: int (groups,), the stage of its junction that serves the group best, or NO_STAGE.
    """

    first_group: IntArray
    first_stage: IntArray
    stages: ColourArray
    serving_stage: IntArray


class Tables(NamedTuple):
    """What the rules know of a network and its timing."""

    junctions: Junctions
    conflicts: Conflicts
    limits: Limits


class Orders(NamedTuple):
    """What stands over the controller in this second; arrays by junction.

    exempt:    bool, an order, an emergency vehicle or a fault stands over the maximum red.
    held:      bool, an operator holds a stage; of no effect where it is exempt.
    off_cycle: bool, the maximum cycle is not kept.
    preempted: bool, an emergency vehicle is served: the minimum cycle is not kept.
    forced:    int, the group that is being served, or NO_GROUP; kept between seconds.
    """

    exempt: BoolArray
    held: BoolArray
    off_cycle: BoolArray
    preempted: BoolArray
    forced: IntArray


class State(NamedTuple):
    """What the rules remember and are told; changed in place."""

    signals: Signals
    calls: Calls
    orders: Orders


class Decision(NamedTuple):
    """What is decided in this second, filled in by the rules.

    colours: int8 (groups,), to be shown.
    rule:    int8 (groups,), the rule that changed what was wanted.
    """

    colours: ColourArray
    rule: ColourArray
