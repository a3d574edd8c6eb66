"""One dashboard over ingested records and this server's own streets: what is now, and who does
better over the same demand.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from headway.analytics import records
from headway.analytics.comparison import Paired, paired
from headway.analytics.records import BASELINE, MOST_COMPARED, OWN, MissingError, Scope
from headway.store import Database

RUNS_CONSIDERED = 3  # of each street, the newest; older ones had the same demand, longer ago
BEGUN_TOGETHER_S = 10.0  # simulated; runs are looked at every 5 s
BLOCK_S = 60.0  # simulated; `paired` knows that what is left of one block shapes the next

# newest row of each junction of each street's newest run; each is one look into the key, however
# long the run has gone on
LIVE = """
    WITH RECURSIVE
        newest AS (
            SELECT DISTINCT ON (street) id, street FROM run WHERE street <> ''
            ORDER BY street, id DESC
        ),
        place AS (
            SELECT id, street, (SELECT min(junction) FROM observation WHERE run_id = id) AS junction
            FROM newest
            UNION ALL
            SELECT id, street, (SELECT min(junction) FROM observation
                WHERE run_id = id AND junction > place.junction)
            FROM place
            WHERE junction IS NOT NULL
        )
    SELECT
        'street:' || street AS simulation_id,
        place.junction AS intersection_id,
        o.at,
        o.mean_wait_s AS wait_s,
        o.speed_kmh,
        o.throughput,
        o.vehicles,
        FALSE AS emergency
    FROM place
    CROSS JOIN LATERAL (SELECT * FROM observation
        WHERE run_id = id AND junction = place.junction ORDER BY at_s DESC LIMIT 1) o
    WHERE o.at > now() - interval '1 hour'
    ORDER BY 1, 2
"""
RUNS = """
    SELECT r.id, r.street, r.scenario, r.controller, r.seed, r.scale,
        o.first_s, o.last_s
    FROM run r
    CROSS JOIN LATERAL (SELECT min(at_s) AS first_s, max(at_s) AS last_s FROM observation
        WHERE run_id = r.id
            AND (CAST(:begin AS timestamptz) IS NULL OR at >= :begin)
            AND (CAST(:end AS timestamptz) IS NULL OR at < :end)) o
    WHERE {which}
    ORDER BY r.id DESC
    LIMIT :most
"""
BLOCKS = """
    WITH
        b AS (
            SELECT
                run_id,
                junction,
                floor(at_s / :block_s) AS block,
                min(at_s) AS first_s,
                max(at_s) AS last_s,
                CAST(avg(mean_wait_s) AS double precision) AS wait_s,
                CAST(avg(speed_kmh) AS double precision) AS speed_kmh,
                CAST(avg(throughput) AS double precision) AS throughput
            FROM observation
            WHERE run_id IN (:a, :b)
                AND at_s >= :from_s
                AND at_s < :to_s
                AND (CAST(:junction AS text) IS NULL OR junction = :junction)
            GROUP BY 1, 2, 3
        )
    SELECT
        x.block * :block_s AS at_s,
        x.wait_s AS wait_a, y.wait_s AS wait_b,
        x.speed_kmh AS speed_a, y.speed_kmh AS speed_b,
        x.throughput AS flow_a, y.throughput AS flow_b
    FROM (SELECT * FROM b WHERE run_id = :a) x
    FULL JOIN (SELECT * FROM b WHERE run_id = :b) y
        ON x.junction = y.junction AND x.block = y.block
            AND abs(x.first_s - y.first_s) <= :apart_s AND abs(x.last_s - y.last_s) <= :apart_s
    ORDER BY coalesce(x.junction, y.junction), coalesce(x.block, y.block)
"""


@dataclass(frozen=True, slots=True)
class RunOf:
    """A run of a street: its number, who decided, and its demand (scenario, seed, scale)."""

    run: int
    street: str
    controller: str
    scenario: str
    seed: int
    scale: float


@dataclass(frozen=True, slots=True)
class StreetComparison:
    """Two runs over the same demand, paired by junction and block of `block_s` simulated seconds
    (means of each); unpaired: blocks without a partner. None where nothing was measured in both.
    """

    baseline: str
    ai: str
    unpaired: int
    wait_s: Paired | None
    speed_kmh: Paired | None
    throughput: Paired | None
    block_s: float
    runs: tuple[RunOf, RunOf]


def live(database: Database) -> dict[str, Any]:
    """The newest row of each junction of each simulation: of ingested records within their last
    hour, and of this server's streets; totals over all of these, and for each simulation.
    """
    found = [*records.newest(database), *database.rows(LIVE)]
    simulations: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        simulations.setdefault(row["simulation_id"], []).append(row)
    of_each = [{"simulation_id": name} | records.totals(rows) for name, rows in simulations.items()]
    return records.totals(found) | {"simulations": of_each, "junctions": found}


def performance(
    database: Database, scope: Scope, baseline: str | None = None, block_s: float = BLOCK_S
) -> list[dict[str, Any]]:
    """Each simulation's means, best wait first, and how it compares with `baseline`: a street with
    street:baseline where None; `why` says why there is no comparison.
    """
    rows = records.performance(database, scope)
    for place, row in enumerate(rows):
        # of one run, its street has others, too
        name = f"run:{scope.run}" if scope.run is not None else str(row["simulation_id"])
        other = baseline or (BASELINE if name.startswith(OWN) else None)
        row |= {"simulation_id": name, "baseline": other, "comparison": None, "why": ""}
        if other is None:
            row["why"] = "name a baseline to compare with (baseline=)"
        elif name == other:
            row["why"] = "is the baseline"
        elif place >= MOST_COMPARED:
            row["why"] = f"the first {MOST_COMPARED} are compared; ask for less at once"
        else:
            try:
                row["comparison"] = asdict(compare(database, other, name, scope, block_s))
            except MissingError as error:
                row["why"] = str(error)
    return rows


def compare(
    database: Database, baseline: str, ai: str, scope: Scope, block_s: float = BLOCK_S
) -> records.Comparison | StreetComparison:
    """Two ingested simulations, or two streets or runs of this server. Raises MissingError if one
    is not there, they are not of one kind, or nothing pairs.
    """
    own = [name.startswith(OWN) for name in (baseline, ai)]
    if all(own):
        return compare_streets(database, baseline, ai, scope, block_s)
    if any(own):
        raise MissingError(
            f"{baseline!r} and {ai!r} have no demand in common: one is a street of this server, "
            "the other was ingested. Compare two of one kind"
        )
    return records.compare(database, baseline, ai, scope)


def compare_streets(
    database: Database, baseline: str, ai: str, scope: Scope, block_s: float = BLOCK_S
) -> StreetComparison:
    """The two newest runs over the same demand that share the most time; of a window by the wall
    clock, the simulated seconds that both ran within it. Raises MissingError.
    """
    a, b, from_s, to_s = _same_demand(database, baseline, ai, scope, block_s)
    rows = database.rows(
        BLOCKS,
        a=a.run,
        b=b.run,
        block_s=block_s,
        from_s=from_s,
        to_s=to_s,
        junction=scope.junction,
        apart_s=BEGUN_TOGETHER_S,
    )
    wait, speed, flow = (_pair(rows, name) for name in ("wait", "speed", "flow"))
    if wait is None:
        raise MissingError(f"nothing was measured of both {baseline!r} and {ai!r} in this window")
    return StreetComparison(baseline, ai, len(rows) - wait.n, wait, speed, flow, block_s, (a, b))


def _same_demand(
    database: Database, baseline: str, ai: str, scope: Scope, block_s: float
) -> tuple[RunOf, RunOf, float, float]:
    """The two runs, and the whole blocks [from, to) that both cover, simulated seconds."""
    of_a, of_b = _runs(database, baseline, scope), _runs(database, ai, scope)
    pairs = [
        (a, b)
        for a, b in product(of_a, of_b)
        if a["id"] != b["id"] and all(a[k] == b[k] for k in ("scenario", "seed", "scale"))
    ]
    if not pairs:
        raise MissingError(
            f"{baseline!r} ran {_demands(of_a)}, {ai!r} ran {_demands(of_b)}: "
            "no two runs over the same demand"
        )
    a, b = max(pairs, key=lambda pair: -np.subtract(*_shared(pair[0], pair[1], block_s)))
    from_s, to_s = _shared(a, b, block_s)
    if to_s <= from_s:
        raise MissingError(
            f"{baseline!r} and {ai!r} have no whole block of {block_s:g} simulated seconds in "
            "common yet. Ask again later, or for shorter blocks (block_s=)"
        )
    return _run(a), _run(b), from_s, to_s


def _shared(a: dict[str, Any], b: dict[str, Any], block_s: float) -> tuple[float, float]:
    """[from, to) of the blocks that both runs cover whole. Where both began together, their first
    block counts as whole.
    """
    later = max(a["first_s"], b["first_s"])
    together = abs(a["first_s"] - b["first_s"]) <= BEGUN_TOGETHER_S
    begin = later // block_s if together else -(-later // block_s)
    return begin * block_s, min(a["last_s"], b["last_s"]) // block_s * block_s


def _runs(database: Database, name: str, scope: Scope) -> list[dict[str, Any]]:
    """The newest runs that `name` means and that were observed in the window, newest first."""
    number = Scope(name).run
    which = "r.id = :run" if number is not None else "r.street = :street"
    rows = database.rows(
        RUNS.format(which=which),
        most=RUNS_CONSIDERED,
        begin=scope.begin,
        end=scope.end,
        **({"run": number} if number is not None else {"street": name.removeprefix("street:")}),
    )
    found = [row for row in rows if row["last_s"] is not None]
    if not found:
        if scope.begin or scope.end:
            raise MissingError(f"nothing was measured of {name!r} in this window")
        raise MissingError(f"nothing of {name!r} is in the database yet")
    return found


def _run(row: dict[str, Any]) -> RunOf:
    return RunOf(
        row["id"], row["street"], row["controller"], row["scenario"], row["seed"], row["scale"]
    )


def _demands(rows: list[dict[str, Any]]) -> str:
    one = {f"{r['scenario']} (seed {r['seed']}, scale {r['scale']:g})" for r in rows}
    return ", ".join(sorted(one))


def _pair(rows: list[dict[str, Any]], name: str) -> Paired | None:
    both = [
        (row[f"{name}_a"], row[f"{name}_b"], row["at_s"])
        for row in rows
        if row[f"{name}_a"] is not None and row[f"{name}_b"] is not None
    ]
    if not both:
        return None
    return paired(*np.array(both, np.float64).T)
