"""SUMO networks written by hand."""

from __future__ import annotations

from tests.roads.builders import (
    connection,
    edge,
    internal,
    junction,
    lane,
    net,
    programme,
)

from headway.plants.sumo import read_network
from headway.roads import Network


def read(tmp_path, *pieces: str) -> Network:
    path = tmp_path / "own.net.xml"
    path.write_text(net(*pieces))
    return read_network(path)


def two_ways(
    *,
    requests=(((1,), ()), ((0,), (0,))),
    tl=("T", "T"),
    index=(0, 1),
    plan=None,
    more: tuple[str, ...] = (),
    **lanes: str,
):
    """Two roads a and b over a node C to a road z, each its own lamp."""
    made = {
        "a": lane("a_0", length=50, speed=10),
        "b": lane("b_0", length=50, speed=10),
        "z": lane("z_0", length=50, speed=10),
    } | lanes
    return (
        internal(lane(":C_0_0", length=5, speed=10), lane(":C_1_0", length=5, speed=10)),
        *(edge(name, x) for name, x in made.items()),
        plan or programme("T", (30, "Gr"), (30, "rG")),
        junction("C", ":C_0_0 :C_1_0", requests),
        connection("a_0", "z_0", via=":C_0_0", tl=tl[0], linkIndex=index[0], dir="s"),
        connection("b_0", "z_0", via=":C_1_0", tl=tl[1], linkIndex=index[1], dir="s"),
        *more,
    )
