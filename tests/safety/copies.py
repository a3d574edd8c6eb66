"""A network of any size, for what has to be fast."""

from __future__ import annotations

from dataclasses import replace

from headway.roads import Network


def many(of: Network, times: int) -> Network:
    """A network of `times` copies of the first junction of `of`."""
    junction = of.junctions[0]
    n = junction.end - junction.first
    own = of.groups[junction.first : junction.end]
    groups = tuple(
        replace(g, tl_id=f"{g.tl_id}.{k}", junction=k) for k in range(times) for g in own
    )
    junctions = tuple(
        replace(junction, id=f"{junction.id}.{k}", first=k * n, end=(k + 1) * n)
        for k in range(times)
    )
    return replace(of, path="copies", groups=groups, junctions=junctions)
