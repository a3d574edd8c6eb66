"""SUMO networks by hand: a line of XML for each piece,
and one crossroads that is small enough to be checked in the head.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable


def lane(name: str, **values: object) -> str:
    """A lane; `name` ends in its number. Values are attributes, as SUMO names them."""
    return f'<lane id="{name}" index="{name.rsplit("_", 1)[1]}"{_attributes(values)}/>'


def edge(name: str, *lanes: str, **values: object) -> str:
    return f'<edge id="{name}"{_attributes(values)}>{"".join(lanes)}</edge>'


def internal(*lanes: str) -> str:
    """Edges inside a junction, each of one lane."""
    names = [x.split('"')[1].rsplit("_", 1)[0] for x in lanes]
    return "".join(edge(name, x, function="internal") for name, x in zip(names, lanes, strict=True))


def connection(start: str, end: str, **values: object) -> str:
    """From lane to lane, both by name."""
    (a, i), (b, j) = start.rsplit("_", 1), end.rsplit("_", 1)
    return f'<connection from="{a}" to="{b}" fromLane="{i}" toLane="{j}"{_attributes(values)}/>'


def junction(
    name: str,
    inside: str = "",
    requests: Iterable[tuple[Collection[int], Collection[int]]] = (),
    **values: object,
) -> str:
    """A node. inside: its inner lanes, in the order of the requests;
    requests: foes and those to whom it gives way, for each.
    """
    rows = list(requests)

    def bits(places: Collection[int]) -> str:
        return "".join("1" if k in places else "0" for k in reversed(range(len(rows))))

    text = "".join(
        f'<request index="{k}" response="{bits(first)}" foes="{bits(foes)}"/>'
        for k, (foes, first) in enumerate(rows)
    )
    return (
        f'<junction id="{name}" '
        f'intLanes="{inside}"{_attributes({"type": "traffic_light"} | values)}>{text}</'
        "junction>"
    )


def programme(name: str, *phases: tuple[float, str], **values: object) -> str:
    return (
        f'<tlLogic id="{name}"{_attributes(values)}>'
        + "".join(f'<phase duration="{d}" state="{s}"/>' for d, s in phases)
        + "</tlLogic>"
    )


def net(*pieces: str) -> str:
    return "<net>" + "\n".join(pieces) + "</net>"


def _attributes(values: dict[str, object]) -> str:
    return "".join(f' {k}="{v}"' for k, v in values.items())


def crossroads() -> str:
    """Two junctions: T at node C, B at node N; U has no signal.

    From the west (w, two lanes, fast): straight on to the east, and left to the north. From the
    east (e): straight on. From the south (s, two lanes of unequal speed): left to the west from
        both lanes on one lamp, and right, which may turn on red. Pedestrians cross the
    western arm. Requests at C: 0 w straight, 1 w left (in two parts), 2 e straight, 3 and 4 s left,
        5 s right, 6 the crossing.
    Lamps of T: 0, 1, 2, 3 (requests 3 and 4), 4 (request 5), 5 (the crossing). One way alone tells
        that 0 and 5, and that 2 and 3, are foes.
    3 and 5 are foes by the file, but come from one lane. B: the north road against a side road x.
    """
    return net(
        *_inner_edges(),
        *_walkways(),
        *_roads(),
        *_programmes(),
        *_junctions(),
        *_connections(),
    )


def _inner_edges() -> list[str]:
    """Lanes inside the junctions."""
    return [
        internal(
            lane(":U_0_0", length=5.0, speed=13.0, shape="-215,0 -210,0"),
            lane(":U_1_0", length=7.0, speed=12.0, shape="-215,0 -210,3"),
            lane(":C_0_0", length=24.0, speed=20.0, shape="-10,-2 14,-2"),
            lane(":C_1_0", length=9.5, speed=6.0, shape="-10,2 -1,4"),
            lane(":C_2_0", length=26.0, speed=13.0, shape="14,6 -12,6"),
            lane(":C_3_0", length=18.0, speed=7.0, shape="2,-10 -12,6"),
            lane(":C_4_0", length=20.0, speed=7.5, shape="5,-10 -12,9"),
            lane(":C_5_0", length=8.0, speed=4.0, shape="2,-10 14,-2"),
            lane(":C_7_0", length=7.5, speed=5.0, shape="-1,4 1,12"),
            lane(":N_0_0", length=11.0, speed=10.0, shape="1,112 1,123"),
            lane(":N_1_0", length=12.0, speed=9.0, shape="9,117 1,123"),
        ),
    ]


def _walkways() -> list[str]:
    """The crossing over the western arm, and where pedestrians wait on both sides."""
    return [
        edge(
            ":C_c0",
            lane(
                ":C_c0_0",
                length=12.84,
                speed=2.78,
                width=4.0,
                allow="pedestrian",
                shape="-12,-5 -12,8",
            ),
            function="crossing",
        ),
        edge(
            ":C_w0",
            lane(
                ":C_w0_0", length=3.0, speed=2.78, allow="pedestrian", shape="-14,-6 -11,-6 -12,-8"
            ),
            function="walkingarea",
        ),
        edge(
            ":C_w1",
            lane(":C_w1_0", length=4.0, speed=2.78, allow="pedestrian", shape="-14,9 -11,9 -12,11"),
            function="walkingarea",
        ),
    ]


def _roads() -> list[str]:
    """The roads by name: u to w; w, e, s lead to C, oe, ow, on from it; x and on lead to N."""
    return [
        edge(
            "u",
            lane("u_0", length=60.0, speed=13.0, shape="-275,0 -215,0"),
            shape="-275,0 -245,0 -215,0",
        ),
        edge(
            "w",
            lane("w_0", length=200.0, speed=20.0, width=3.5, shape="-210,-2 -110,-12 -10,-2"),
            lane("w_1", length=200.0, speed=20.0, shape="-210,2 -10,2"),
        ),
        edge("e", lane("e_0", length=150.0, speed=13.0, shape="164,6 14,6")),
        edge(
            "s",
            lane("s_0", length=80.0, speed=8.0, shape="2,-90 2,-10"),
            lane("s_1", length=80.0, speed=16.0, shape="5,-90 5,-10"),
        ),
        edge("oe", lane("oe_0", length=100.0, speed=18.0, shape="14,-2 114,-2")),
        edge(
            "ow",
            lane("ow_0", length=90.0, speed=12.0, shape="-12,6 -102,6"),
            lane("ow_1", length=90.0, speed=12.0, shape="-12,9 -102,9"),
        ),
        edge("on", lane("on_0", length=100.0, speed=10.0, shape="1,12 1,112")),
        edge("x", lane("x_0", length=40.0, speed=9.0, shape="49,117 9,117")),
        edge("nn", lane("nn_0", length=70.0, speed=10.0, shape="1,123 1,193")),
    ]


def _programmes() -> list[str]:
    """T's plan, and B's two."""
    return [
        programme(
            "T",
            (40, "GgGrsr"),
            (4, "yyyrsr"),
            (25, "rrrGGr"),
            (3, "rrryyr"),
            (15, "rrrrrG"),
            (5, "rrrrrr"),
            offset=7.5,
        ),
        programme("B", (9, "GG"), programID="another"),
        programme("B", (30, "Gr"), (3, "yr"), (20, "rG"), (3, "ry")),
    ]


def _junctions() -> list[str]:
    """The nodes, with the requests of each (see `crossroads`)."""
    return [
        junction("U", ":U_0_0 :U_1_0", [((), ()), ((), ())], type="priority"),
        junction(
            "C",
            ":C_0_0 :C_7_0 :C_2_0 :C_3_0 :C_4_0 :C_5_0 :C_c0_0",
            [
                ((3, 4, 5, 6), ()),
                ((2, 3, 4, 6), (2,)),
                ((1, 4, 6), ()),
                ((0, 1, 2, 5, 6), (0, 1, 2, 6)),
                ((0, 1, 2, 6), (0, 1, 6)),
                ((3,), (0,)),
                ((0, 1, 2, 3, 4), (0, 2)),
            ],
            shape="-12,-10 14,-10 14,12 -12,12",
        ),
        junction("N", ":N_0_0 :N_1_0", [((1,), ()), ((0,), (0,))], shape="-1,112 9,112 9,123"),
        junction(":C_7_0", ":C_2_0 :C_0_0", type="internal", shape="0,0 1,0 1,1"),
        junction("end", type="dead_end", shape="0,0 1,0"),
    ]


def _connections() -> list[str]:
    """From lane to lane, with the lamp of each."""
    return [
        connection("u_0", "w_0", via=":U_0_0", dir="s"),
        connection("u_0", "w_1", via=":U_1_0", dir="L"),
        connection("w_0", "oe_0", via=":C_0_0", tl="T", linkIndex=0, dir="s"),
        connection("w_1", "on_0", via=":C_1_0", tl="T", linkIndex=1, dir="l"),
        connection("e_0", "ow_0", via=":C_2_0", tl="T", linkIndex=2, dir="s"),
        connection("s_0", "ow_0", via=":C_3_0", tl="T", linkIndex=3, dir="l"),
        connection("s_1", "ow_1", via=":C_4_0", tl="T", linkIndex=3, dir="l"),
        connection("s_0", "oe_0", via=":C_5_0", tl="T", linkIndex=4, dir="r"),
        connection(":C_w0_0", ":C_c0_0", tl="T", linkIndex=5, dir="s"),
        connection(":C_c0_0", ":C_w1_0", dir="s"),
        connection("w_0", ":C_w0_0", dir="s"),
        connection("on_0", "nn_0", via=":N_0_0", tl="B", linkIndex=0),
        connection("x_0", "nn_0", via=":N_1_0", tl="B", linkIndex=1, dir="R"),
        connection(":C_0_0", "oe_0", dir="s"),
        connection(":C_1_0", "on_0", via=":C_7_0", dir="l"),
        connection(":C_7_0", "on_0", dir="l"),
        connection(":C_2_0", "ow_0", dir="s"),
    ]
