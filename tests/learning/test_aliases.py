"""Aliases follow what streets say: each story is of events, and of what is in force after them."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.waiting import until

from headway.learning.aliases import AliasKeeper, enter
from headway.learning.registry import Registry
from headway.store import open_database


@pytest.fixture(scope="module")
def registry(new_record, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aliases")
    database = open_database(folder, new_record())
    found = Registry(database, folder, b"k" * 32)
    for number in (1, 2):
        content = f"planner:\n  horizon_s: {60 + number}.0\n".encode()
        found.add(content, name="m", kind="planner", made_from={}, metrics={}, by="ann")
    yield found
    database.close()


def deployed(mode, model, *junctions, by="ann"):
    data = {"mode": mode, "model": model, "junctions": list(junctions), "by": by}
    return {"kind": "engine.model_deployed", "data": data}


def rolled_back(what, *junctions, controller="planner", by="ann"):
    data = {"what": what, "junctions": list(junctions), "by": by, "model": "m@1"}
    return {"kind": "engine.model_rolled_back", "data": data | {"controller": controller}}


def started(kind="engine.restored", **models):
    found = {role: {"model": m, "junctions": list(js)} for role, (m, *js) in models.items()}
    return {"kind": kind, "data": {"scenario": "cologne1"} | ({"models": found} if found else {})}


WITHDRAWN = {"kind": "engine.canary_withdrawn", "data": {"model": "m@2", "junctions": ["j"]}}
SCENARIO = {"kind": "engine.scenario", "data": {"scenario": "cologne1"}}


@pytest.mark.parametrize(
    ("events", "in_force"),
    [
        ([deployed("all", "m@1")], {("champion", "", "m@1")}),
        ([deployed("all", "m@1"), deployed("all", "m@2")], {("champion", "", "m@2")}),
        ([deployed("canary", "m@2", "j", "k"), deployed("canary", "m@1", "k")],
            {("challenger", "k", "m@1")}),
        ([deployed("all", "m@1"), deployed("canary", "m@2", "j"), deployed("shadow", "m@2")],
            {("champion", "", "m@1"), ("challenger", "j", "m@2"), ("shadow", "", "m@2")}),
        ([deployed("canary", "m@2", "j"), deployed("all", "m@1")], {("champion", "", "m@1")}),
        ([deployed("all", "m@1"), deployed("canary", "m@2", "j"), WITHDRAWN],
            {("champion", "", "m@1")}),
        ([deployed("all", "m@1"), deployed("all", "m@2"),
            rolled_back("deploy", controller="m@1")], {("champion", "", "m@1")}),
        ([deployed("all", "m@1"), rolled_back("deploy")], set()),
        ([deployed("shadow", "m@2", "j", "k"), rolled_back("shadow", "k")],
            {("shadow", "j", "m@2")}),
        ([deployed("shadow", "m@2", "j", "k"), rolled_back("shadow")], set()),
        ([deployed("all", "m@1"), deployed("shadow", "m@2"), SCENARIO], set()),
        # it was killed before it said so; its model is lost
        ([deployed("all", "m@1"), started(champion=["m@2"], canary=["m@1", "j"], shadow=["m@1"])],
            {("champion", "", "m@2"), ("challenger", "j", "m@1"), ("shadow", "", "m@1")}),
        ([deployed("all", "m@1"), deployed("canary", "m@2", "j"), started("engine.started")],
            set()),
    ],
)  # fmt: skip
def test_what_is_in_force_after_what_a_street_said(registry, events, in_force):
    enter(registry, "north", SCENARIO)
    for event in events:
        enter(registry, "north", event)
    found = {(e.alias, e.junction, e.label) for e in registry.aliases("north")}
    assert found == in_force
    assert not registry.aliases("south")


def test_who_ordered_it_is_entered_and_what_is_right_stays(registry):
    enter(registry, "east", deployed("canary", "m@2", "j", by="ben"))
    enter(registry, "east", deployed("canary", "m@2", "j", by="cyd"))
    enter(registry, "east", WITHDRAWN)
    found = [(e.alias, e.label, e.set_by) for e in registry.history("east")]
    assert found == [("challenger", "", "headway"), ("challenger", "m@2", "ben")]


class Away:
    """A registry whose database is away so many times."""

    def __init__(self, registry, times):
        self.registry, self.times = registry, times

    def __call__(self):
        self.times -= 1
        if self.times >= 0:
            raise sa.exc.OperationalError("", {}, Exception("away"))
        return self.registry


def test_events_are_entered_in_their_order_also_after_the_database_was_away(registry, monkeypatch):
    monkeypatch.setattr("headway.learning.aliases.AGAIN_AFTER_S", 0.01)
    keeper = AliasKeeper(Away(registry, 2))
    keeper.begin()
    keeper.take("west", {"kind": "engine.cycle", "data": {}})
    keeper.take("west", deployed("all", "nobody@7"))  # of another registry: passed over
    keeper.take("west", deployed("all", "m@1"))
    keeper.take("west", deployed("all", "m@2"))
    until(lambda: len(registry.history("west")) == 2)
    keeper.close()
    assert [e.label for e in registry.history("west")] == ["m@2", "m@1"]
