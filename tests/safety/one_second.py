"""What the rules of one second are given, small enough to check by hand."""

from __future__ import annotations

import numpy as np

from headway.safety import arrays, kernel


def conflicts(n, *pairs, yields=()):
    """The table of `n` groups that conflict in `pairs`; (a, b) in yields: a gives way to b."""
    others = [
        sorted([b for a, b in pairs if a == g] + [a for a, b in pairs if b == g]) for g in range(n)
    ]
    flat = [(g, h) for g in range(n) for h in others[g]]
    return arrays.Conflicts(
        start=np.cumsum([0, *map(len, others)]).astype(np.int32),
        group=np.array([h for _, h in flat], np.int32),
        it_gives_way=np.array([(h, g) in yields for g, h in flat], bool),
        gives_way_to=np.array([(g, h) in yields for g, h in flat], bool),
    )


def signals(shown, since, green_start=0.0, green_end=0.0):
    """Times: one for each group, or one for all."""
    times = [
        np.broadcast_to(np.asarray(x, float), len(shown)).copy()
        for x in (since, green_start, green_end)
    ]
    return arrays.Signals(np.array(shown, np.int8), *times)


def calls(n, **times):
    """Nobody is there, nobody has asked; times: other than that."""
    none = {"since_s": np.full(n, 100.0), "last_s": np.full(n, -np.inf)}
    return arrays.Calls(
        **({"present": np.zeros(n, bool), "conflicting_since_s": np.full(n, 100.0)} | none | times)
    )


def junctions(first_group, first_stage=(0,), stages=((),), serving_stage=()):
    return arrays.Junctions(
        np.array(first_group, np.int32),
        np.array(first_stage, np.int32),
        np.array(stages, np.int8),
        np.array(serving_stage, np.int32),
    )


def orders(exempt, forced, preempted=None):
    free = np.zeros(len(exempt), bool)
    return arrays.Orders(
        exempt=np.array(exempt),
        held=free,
        off_cycle=free.copy(),
        preempted=np.array(preempted or free),
        forced=np.array(forced, np.int32),
    )


def step(shown, wanted, *pairs, yields=(), **changes):
    """The colours and rules at 100 s, where all have been as they are for long;
    changes: per group, or one for all.
    """
    n = len(shown)
    at = {
        "now": 100.0, "since": 0.0, "green_start": -np.inf, "green_end": 0.0,
        "conflicting_since": 100.0, "yellow": 3.0, "clearance": 2.0,
        "min_green": 5.0, "max_green": 30.0, "min_cycle": 0.0, "preempted": False,
    } | changes  # fmt: skip
    each = {
        k: np.full(n, v, float) if np.isscalar(v) else np.array(v, float)
        for k, v in at.items()
        if k not in ("now", "min_cycle", "preempted")
    }
    decision = arrays.Decision(np.full(n, -7, np.int8), np.full(n, -7, np.int8))
    limits = arrays.Limits(
        yellow_s=each["yellow"],
        clearance_s=each["clearance"],
        min_green_s=each["min_green"],
        max_green_s=each["max_green"],
        min_cycle_s=np.full(n, at["min_cycle"]),
        max_red_s=np.full(n, np.inf),
        max_cycle_s=np.full(n, np.inf),
    )
    kernel.apply_rules(
        now_s=at["now"],
        wanted=np.array(wanted, np.int8),
        state=arrays.State(
            signals=signals(shown, each["since"], each["green_start"], each["green_end"]),
            calls=calls(n, conflicting_since_s=each["conflicting_since"]),
            orders=orders([False], [arrays.NO_GROUP], [at["preempted"]]),
        ),
        tables=arrays.Tables(
            junctions=junctions([0, n], serving_stage=[arrays.NO_STAGE] * n),
            conflicts=conflicts(n, *pairs, yields=yields),
            limits=limits,
        ),
        decision=decision,
    )
    return decision.colours.tolist(), decision.rule.tolist()
