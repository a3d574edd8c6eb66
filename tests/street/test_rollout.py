"""Models on a street: what they decide, how they end, and that none of it disturbs the rest."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from tests.street.builders import (
    A_FIRST,
    A_SECOND,
    B_FIRST,
    B_SECOND,
    RED,
    MadePlant,
    Says,
    street_of,
    two_junctions,
    vehicles,
)

from headway.control.models import ModelFile
from headway.control.planner import Planner
from headway.roads import GO
from headway.safety import Order, Override
from headway.settings import Settings
from headway.street.deployed import MOST_CHAMPIONS, Deployed
from headway.street.guard import CANARY, DOWN_S, SHADOW
from headway.street.messages import CanaryBounds, Deploy, Rollback
from headway.street.rollout import COMPARED_EACH, Change
from headway.street.state_file import StateError, decode, encode
from headway.values import EmergencyVehicle

SECOND = (*A_SECOND, *B_SECOND)
FIRST = (*A_FIRST, *B_FIRST)
WALL_TIMES = ("decide_ms", "processing_ms", "ok")
TURN = CanaryBounds(turn_s=60.0)


@pytest.fixture
def plant():
    return MadePlant(two_junctions())


def model(name="fast", version=1):
    return ModelFile(name, version, "planner", hashlib.sha256(name.encode()).hexdigest(), "x")


def deploy(street, controller, mode="canary", junctions=("A",), bounds=TURN):
    """As an order does, with a controller in place of the file."""
    order = Deploy(mode, model(), junctions, bounds)
    change = Change(street.rollout.deployed.with_deploy(order), controller)
    street.rollout.use(change, street.observation, street.gate.faults)


def kinds(events):
    return [e.kind for e in events if e.kind.startswith(("engine.c", "engine.s", "engine.m"))]


def harm(street, plant):
    """Until the gate has latched lamps of junction A that do not obey."""
    for _ in range(8):
        plant.shown[:2] = GO
        street.tick()
    assert 0 in street.gate.faults


def ticks(street, n):
    for _ in range(n):
        street.tick()


class TestACanary:
    def test_has_its_junctions_in_its_turns_and_the_champion_the_rest(self, plant):
        street, _ = street_of(plant, Says("champion", FIRST))
        ticks(street, 10)
        deploy(street, Says("canary", SECOND))
        ticks(street, 30)
        assert plant.applied[-1] == [*A_SECOND, *B_FIRST]
        assert street.rollout.report("champion", 1.0)["canary"]["decides"] is True
        ticks(street, 60)  # the champion's turn
        assert plant.applied[-1] == list(FIRST)
        assert street.rollout.report("champion", 1.0)["canary"]["decides"] is False
        shown = []
        for _ in range(2):  # the turns of the second pair
            ticks(street, 60)
            shown.append(plant.applied[-1])
        assert sorted(shown) == [[*A_SECOND, *B_FIRST], list(FIRST)]

    def test_is_in_force_at_the_next_tick(self, plant):
        street, _ = street_of(plant, Says("champion", FIRST))
        ticks(street, 10)
        deploy(street, Says("canary", SECOND))
        ticks(street, 1)
        assert plant.applied[-1] == [RED, RED, *B_FIRST], "the change to the canary's begins"

    def test_decides_with_its_own_confidence_and_factors(self, plant):
        champion = Says("champion", FIRST, why={"novelty": np.array([0.9, 0.8])})
        street, _ = street_of(plant, champion)
        canary = Says("canary", SECOND, (0.7, 0.1), why={"visits": np.array([0.6, 0.2])})
        deploy(street, canary)
        ticks(street, 1)
        assert street.trust.of_junction.tolist() == [0.7, 1.0]
        assert street.trust.factors_of(0)["visits"] == 0.6
        assert street.trust.factors_of(0)["novelty"] == 1.0
        assert street.trust.factors_of(1)["novelty"] == 0.8

    def test_of_colours_of_another_type_leaves_the_proposal_what_the_gate_takes(self, plant):
        street, _ = street_of(plant, Says("champion", FIRST))
        canary = Says("canary", SECOND)
        canary.wanted = canary.wanted.astype(np.uint64)
        deploy(street, canary)
        ticks(street, 10)
        assert plant.applied[-1] == [*A_SECOND, *B_FIRST]
        assert street.gate.source.name == "CONTROLLER"

    @pytest.mark.parametrize(
        ("fault", "why"),
        [
            (ZeroDivisionError("one"), "ZeroDivisionError('one')"),
            (SystemExit(3), "SystemExit(3)"),
        ],
    )
    def test_whose_step_fails_is_withdrawn_and_the_champion_decides_at_that_tick(
        self, plant, fault, why
    ):
        street, events = street_of(plant, Says("champion", FIRST))
        canary = Says("canary", SECOND)
        deploy(street, canary)
        ticks(street, 20)
        canary.fault = fault
        ticks(street, 1)
        assert plant.applied[-1] == [RED, RED, *B_FIRST], "the change to the champion's begins"
        assert kinds(events)[-2:] == ["engine.canary_failed", "engine.canary_withdrawn"]
        told = events[-1].data
        assert (told["model"], told["junctions"], told["why"]) == ("fast@1", ["A"], why)
        assert street.rollout.deployed.canary is None
        assert street.rollout.take_end()
        assert not street.rollout.take_end(), "told once"
        ticks(street, 5)
        assert len(canary.observations) == 21, "it is not asked again"

    def test_that_proposes_another_network_or_another_time_is_withdrawn(self, plant):
        for harm, why in (
            (lambda p: replace(p, wanted=p.wanted[:3]), "wanted of its proposal is int8"),
            (lambda p: replace(p, at_s=p.at_s - 100.0), "its proposal is not of now"),
            (lambda p: "nothing", "it proposed str, not a Proposal"),
        ):
            street, events = street_of(MadePlant(two_junctions()), Says("champion", FIRST))
            canary = Says("canary", SECOND)
            step = canary.step
            canary.step = lambda o, s, step=step, harm=harm: (harm(step(o, s)[0]), s)
            deploy(street, canary)
            ticks(street, 1)
            (told,) = [e for e in events if e.kind == "engine.canary_withdrawn"]
            assert told.data["why"].startswith(why)

    def test_that_takes_too_long_is_withdrawn(self, plant):
        street, events = street_of(plant, Says("champion", FIRST))
        deploy(street, Says("canary", SECOND))
        wall = iter(range(0, 1000, 5))
        street.guards[CANARY]._stopwatch = lambda: next(wall)
        ticks(street, 1)
        assert kinds(events)[-2:] == ["engine.canary_slow", "engine.canary_withdrawn"]
        assert events[-1].data["why"] == "took 5.000 s"

    def test_is_withdrawn_where_the_gate_finds_a_fault_on_its_junctions(self, plant):
        for junctions, is_withdrawn in ((("A",), True), (("B",), False)):
            plant = MadePlant(two_junctions())
            street, events = street_of(plant, Says("champion", FIRST))
            ticks(street, 5)
            deploy(street, Says("canary", SECOND), junctions=junctions)
            for _ in range(6):  # lamps of A that do not obey are latched
                plant.shown[:2] = GO
                street.tick()
            assert 0 in street.gate.faults
            ticks(street, 1)
            found = [e.data["why"] for e in events if e.kind == "engine.canary_withdrawn"]
            assert found == (["the gate found a fault"] if is_withdrawn else [])

    def test_is_not_withdrawn_for_a_fault_that_was_there_before(self, plant):
        street, events = street_of(plant, Says("champion", FIRST))
        for _ in range(8):
            plant.shown[:2] = GO
            street.tick()
        assert 0 in street.gate.faults
        deploy(street, Says("canary", SECOND))
        ticks(street, 3)
        assert "engine.canary_withdrawn" not in kinds(events)

    def test_is_withdrawn_for_a_fault_that_was_reset_and_is_found_again(self, plant):
        street, events = street_of(plant, Says("champion", FIRST))
        harm(street, plant)
        deploy(street, Says("canary", SECOND))
        ticks(street, 30)
        street.gate.reset(0, "ann", plant.time_s)
        ticks(street, 3)
        assert 0 not in street.gate.faults
        assert street.rollout.canary is not None
        harm(street, plant)
        ticks(street, 1)
        (told,) = [e for e in events if e.kind == "engine.canary_withdrawn"]
        assert told.data["why"] == "the gate found a fault"

    def test_whose_delay_is_worse_is_withdrawn_with_its_figures(self, plant):
        """A vehicle a second arrives; in the canary's turns four stand before A, else two."""
        street, events = street_of(plant, Says("champion", FIRST))
        deploy(street, Says("canary", SECOND))
        for _ in range(600):
            ours = street.rollout.canary is not None and street.rollout.canary.trial.decides(
                plant.time_s
            )
            plant.vehicles = vehicles(*[(0, 5.0 + k, 0.0, 9.0) for k in range(4 if ours else 2)])
            plant.arrived[0] = 1
            street.tick()
        (told,) = [e for e in events if e.kind == "engine.canary_withdrawn"]
        assert told.at_s == 100.0 + 6 * 60, "three pairs of turns"
        assert told.data["why"].startswith("its delay is ")
        assert told.data["pairs"] == 3
        assert 1.8 < told.data["ratio"] < 2.1
        assert told.data["p"] < told.data["threshold"] == 0.01

    def test_turns_in_which_an_operator_holds_its_junction_do_not_count(self, plant):
        street, _ = street_of(plant, Says("champion", FIRST))
        deploy(street, Says("canary", SECOND))
        street.gate.order(Override(0, Order.HOLD, 1e9, "ann"), plant.time_s)
        plant.vehicles = vehicles((0, 5.0, 0.0, 9.0))
        for _ in range(250):
            plant.arrived[0] = 1
            street.tick()
        assert street.rollout.canary.trial.pairs == []

    def test_turns_in_which_a_fault_or_an_emergency_vehicle_decides_do_not_count(self, plant):
        for name in ("fault", "emergency", "elsewhere"):
            plant = MadePlant(two_junctions())
            street, _ = street_of(plant, Says("champion", FIRST))
            if name == "fault":
                harm(street, plant)
            deploy(street, Says("canary", SECOND))
            for k in range(260):
                plant.vehicles = vehicles((0, 5.0, 0.0, 9.0))
                plant.arrived[0] = 1
                if k in (30, 150):
                    group = {"emergency": 0, "elsewhere": 3, "fault": 3}[name]
                    plant.emergencies = (EmergencyVehicle("fire", 9.0, ((group, 90.0),)),)
                street.tick()
                plant.emergencies = ()
            assert len(street.rollout.canary.trial.pairs) == (2 if name == "elsewhere" else 0)


class TestAShadow:
    def commands(self, shadow):
        """What was commanded, recorded and trusted in five minutes, with its observations."""
        plant = MadePlant(two_junctions())
        champion = Says("champion", FIRST)
        street, events = street_of(plant, champion)
        ticks(street, 10)
        if shadow is not None:
            deploy(street, shadow, "shadow", ())
        rng = np.random.default_rng(4)
        for k in range(300):
            rows = [(int(x), float(d), 0.0, 5.0) for x, d in rng.uniform(0, 6, (8, 2))]
            plant.vehicles = vehicles(*rows)
            plant.arrived[rng.integers(0, 6)] += 1
            champion.wanted = np.array(FIRST if k // 30 % 2 else SECOND, np.int8)
            street.tick()
        state = street.state()
        del state["rollout"], state["controllers"], state["down_until_s"]["shadow"]
        seen = [o.vehicles.distance_m.tolist() for o in champion.observations]
        known = [
            replace(e, data={k: v for k, v in e.data.items() if k not in WALL_TIMES})
            for e in events
            if not e.kind.startswith("engine.shadow")
        ]
        return plant.applied, known, repr(state), seen

    def test_changes_no_command_no_event_and_no_state(self):
        alone = self.commands(None)
        assert self.commands(Says("shadow", SECOND)) == alone
        raising = Says("shadow", SECOND)
        raising.fault = RuntimeError("no")
        assert self.commands(raising) == alone

        class Writes(Says):
            def step(self, observation, state):
                observation.vehicles.distance_m[:] = -1.0
                observation.shown[:] = 0
                observation.shown_for_s[:] = 0
                observation.arrived[:] = 99
                return super().step(observation, state)

        assert self.commands(Writes("shadow", SECOND)) == alone

    def test_of_the_planner_changes_nothing_either(self):
        net = two_junctions()
        street, _ = street_of(MadePlant(net))
        planner = Planner(net, street.gate.timing, name="fast@1")
        assert street.fault_of(planner, SHADOW) == "", "compiled, as a deployment does"
        assert self.commands(planner) == self.commands(None)

    def test_decides_after_the_command_was_applied(self, plant):
        street, _ = street_of(plant, Says("champion", FIRST))
        shadow = Says("shadow", SECOND)
        applied = []
        step = shadow.step
        shadow.step = lambda o, s: (applied.append(len(plant.applied)), step(o, s))[1]
        deploy(street, shadow, "shadow", ())
        ticks(street, 2)
        assert applied == [1, 2]

    def test_is_told_with_its_disagreement_and_its_share_of_the_tick(self, plant):
        street, _ = street_of(plant, Says("champion", FIRST))
        shadow = Says("shadow", (*A_SECOND, *B_FIRST))
        deploy(street, shadow, "shadow", ())
        ticks(street, 30)
        shadow.wanted = np.array(FIRST, np.int8)
        ticks(street, 10)
        told = street.rollout.report("champion", 2.0)["shadow"]
        assert (told["model"], told["ticks"]) == ("fast@1", 40)
        assert told["disagreement_by_junction"] == {"A": 0.75, "B": 0.0}
        assert told["disagreement"] == 0.375
        assert told["predicted_delay_s"] is None, "neither predicts one"
        assert told["share_of_tick"] == pytest.approx(told["ms"] / 2.0, abs=1e-3)
        assert told["ms"] > 0.0

    def test_of_some_junctions_is_compared_there(self, plant):
        street, _ = street_of(plant, Says("champion", FIRST))
        deploy(street, Says("shadow", (*A_SECOND, *B_FIRST)), "shadow", ("B",))
        ticks(street, 5)
        told = street.rollout.report("champion", 2.0)["shadow"]
        assert (told["junctions"], told["disagreement"]) == (["B"], 0.0)

    def test_predicts_its_delay_beside_the_champions_where_both_are_planners(self, plant):
        net = two_junctions()
        street, _ = street_of(plant)
        timing = street.gate.timing
        street.set_controller(Planner(net, timing))
        deploy(street, Planner(net, timing, name="fast@1"), "shadow", ())
        plant.vehicles = vehicles((2, 5.0, 0.0, 30.0), (3, 5.0, 0.0, 30.0))
        ticks(street, 2 * COMPARED_EACH)
        told = street.rollout.report("planner", 2.0)["shadow"]
        assert told["predicted_delay_s"] == told["champion_predicted_delay_s"]
        assert told["predicted_delay_s"] >= 0.0
        assert street.rollout.shadow.predictions == 2, "of both junctions, in turn"

    def test_that_is_slow_rests_and_the_tick_goes_on(self, plant):
        street, events = street_of(plant, Says("champion", FIRST))
        shadow = Says("shadow", SECOND)
        deploy(street, shadow, "shadow", ())
        wall = iter(range(0, 1000, 5))
        street.guards[SHADOW]._stopwatch = lambda: next(wall)
        ticks(street, 1)
        assert kinds(events) == ["engine.shadow_slow"]
        ticks(street, int(DOWN_S) - 1)
        assert len(shadow.observations) == 1
        street.guards[SHADOW]._stopwatch = lambda: 0.0
        ticks(street, 2)
        assert len(shadow.observations) > 1


def test_a_deployment_leaves_the_gate_as_it_is(plant):
    def gate(street):
        return repr(street.gate.state())

    street, _ = street_of(plant, Says("champion", FIRST))
    ticks(street, 20)
    before = gate(street)
    for mode in ("canary", "shadow"):
        deploy(street, Says("model", SECOND), mode, ("A",))
        assert gate(street) == before
    street.rollout.use(Change(Deployed()), street.observation, street.gate.faults)
    street.set_controller(Says("fast@1", SECOND))
    assert gate(street) == before


def test_a_street_without_models_asks_nobody_else_and_says_who_decides(plant):
    street, _ = street_of(plant, Says("champion", FIRST))
    ticks(street, 3)
    assert street.rollout.report("champion", 1.0) == {
        "controller": "champion",
        "champion": None,
        "before": "",
        "resting": "",
        "canary": None,
        "shadow": None,
    }


class TestOverARestart:
    def resumed(self, street, prepare):
        """Another street that goes on from this one's state, by its file."""
        written = encode(street.state(), street.state_classes())
        plant = MadePlant(two_junctions(), street.plant.time_s)
        other, events = street_of(plant, Says("champion", FIRST))
        prepare(other)
        other.resume(decode(written, other.state_classes()))
        return other, plant, events

    def test_trial_and_states_go_on(self, plant):
        street, _ = street_of(plant, Says("champion", FIRST))
        deploy(street, Says("canary", SECOND))
        deploy(street, Says("shadow", SECOND), "shadow", ())
        ticks(street, 75)

        def prepare(other):
            deploy(other, Says("canary", SECOND))
            deploy(other, Says("shadow", SECOND), "shadow", ())

        other, its_plant, _ = self.resumed(street, prepare)
        assert other.rollout.canary.state == street.rollout.canary.state == "canary 75"
        assert other.rollout.shadow.state == "shadow 75"
        assert other.rollout.canary.trial.state() == street.rollout.canary.trial.state()
        ticks(street, 200)
        ticks(other, 200)
        assert its_plant.applied == plant.applied[-200:]

    @pytest.mark.parametrize("is_known", [True, False])
    def test_a_fault_of_before_the_canary_does_not_end_it(self, plant, is_known):
        """is_known: the checkpoint is of a time when it was there already."""
        street, _ = street_of(plant, Says("champion", FIRST))
        harm(street, plant)
        if is_known:
            deploy(street, Says("canary", SECOND))
            ticks(street, 3)
        other, its_plant, events = self.resumed(street, lambda o: deploy(o, Says("canary", SECOND)))
        ticks(other, 3)
        assert 0 in other.gate.faults
        assert "engine.canary_withdrawn" not in kinds(events)
        ticks(other, 30)
        other.gate.reset(0, "ann", its_plant.time_s)
        ticks(other, 3)
        harm(other, its_plant)
        ticks(other, 1)
        assert "engine.canary_withdrawn" in kinds(events)

    @pytest.mark.parametrize("change", ["bounds", "junctions", "none"])
    def test_what_another_canary_remembered_is_not_used(self, plant, change):
        street, _ = street_of(plant, Says("champion", FIRST))
        deploy(street, Says("canary", SECOND))
        ticks(street, 75)

        def prepare(other):
            if change == "bounds":
                deploy(other, Says("canary", SECOND), bounds=CanaryBounds(turn_s=61.0))
            elif change == "junctions":
                deploy(other, Says("canary", SECOND), junctions=("B",))

        other, _, _ = self.resumed(street, prepare)
        if change == "none":
            assert other.rollout.canary is None
        else:
            assert other.rollout.canary.trial.elapsed_s == 0.0
            assert other.rollout.canary.state == "canary 0"
        ticks(other, 2)

    def test_a_state_without_the_part_of_models_is_refused(self, plant):
        street, _ = street_of(plant)
        state = {**street.state(), "rollout": 5}
        with pytest.raises(StateError, match="not of a street with models"):
            street.resume(state)


class TestWhatIsDeployed:
    def test_a_champion_ends_the_canary_that_was_judged_beside_the_one_before(self):
        canary = Deploy("canary", model("other"), ("A",))
        shadow = Deploy("shadow", model("third"))
        found = Deployed().with_deploy(canary).with_deploy(shadow)
        assert (found.canary, found.shadow) == (canary, shadow)
        found = found.with_deploy(Deploy("all", model()))
        assert (found.champion, found.canary, found.shadow) == (model(), None, shadow)
        assert found.without_champions() == Deployed(shadow=shadow)

    def test_a_rollback_goes_back_to_the_champion_before(self):
        one, two = model("one"), model("two", 2)
        found = Deployed().with_deploy(Deploy("all", one)).with_deploy(Deploy("all", two))
        again = found.with_deploy(Deploy("all", two))
        assert again == found, "the same once more is no other champion"
        assert found.with_rollback(Rollback()).champion == one
        assert found.with_rollback(Rollback()).with_rollback(Rollback()).champion is None
        with pytest.raises(ValueError, match="no model is champion here"):
            Deployed().with_rollback(Rollback())

    def test_two_who_roll_the_same_model_back_do_not_roll_back_two(self):
        one, two = model("one"), model("two", 2)
        found = Deployed().with_deploy(Deploy("all", one)).with_deploy(Deploy("all", two))
        once = found.with_rollback(Rollback(model="two@2"))
        assert once.champion == one
        with pytest.raises(ValueError, match="'two@2' is not champion here any more, one@1 is"):
            once.with_rollback(Rollback(model="two@2"))
        for mode in ("canary", "shadow"):
            beside = once.with_deploy(Deploy(mode, one, ("A", "B")))
            assert beside.with_rollback(Rollback(mode, ("A",), model="one@1")) != beside
            with pytest.raises(ValueError, match=f"'two@2' is not {mode} here any more, one@1 is"):
                beside.with_rollback(Rollback(mode, model="two@2"))

    def test_no_more_champions_are_kept_than_that(self):
        found = Deployed()
        for version in range(1, 2 * MOST_CHAMPIONS):
            found = found.with_deploy(Deploy("all", model("fast", version)))
        assert len(found.champions) == MOST_CHAMPIONS
        assert found.champion.version == 2 * MOST_CHAMPIONS - 1

    @pytest.mark.parametrize("mode", ["canary", "shadow"])
    def test_a_model_leaves_some_of_its_junctions_or_all(self, mode):
        found = Deployed().with_deploy(Deploy(mode, model(), ("A", "B")))
        left = getattr(found.with_rollback(Rollback(mode, ("A",))), mode)
        assert left.junctions == ("B",)
        assert found.with_rollback(Rollback(mode, ("A", "B"))) == Deployed()
        assert found.with_rollback(Rollback(mode)) == Deployed()
        for order, says in (
            (Rollback(mode, ("C",)), f"the {mode} is not on C"),
            (Rollback("shadow" if mode == "canary" else "canary"), "there is no"),
        ):
            with pytest.raises(ValueError, match=says):
                found.with_rollback(order)
        everywhere = Deployed().with_deploy(Deploy(mode, model()))
        with pytest.raises(ValueError, match="is on all junctions"):
            everywhere.with_rollback(Rollback(mode, ("A",)))

    def test_is_read_as_it_was_written_and_nothing_else(self):
        import json

        found = Deployed(
            (model("one"), model("two", 2)),
            Deploy("canary", model(), ("A",), CanaryBounds(((7.0, 9.5),), 120.0, 0.1, 0.01), "ann"),
            Deploy("shadow", model("third")),
        )
        text = json.dumps(found.as_json())
        assert Deployed.read(json.loads(text)) == found
        assert Deployed.read({}) == Deployed()
        tree = json.loads(text)
        for harm in (
            {"champions": 5},
            {"champions": [{"name": "x"}]},
            {"canary": tree["canary"] | {"mode": "some"}},
            {"canary": tree["canary"] | {"canary": {"turn_s": 1.0}}},
            {"shadow": {"model": {}}},
        ):
            with pytest.raises(ValueError):  # noqa: PT011 - of msgspec, in its words
                Deployed.read(tree | harm)


def test_a_model_that_cannot_decide_is_refused_with_nothing_changed(plant, tmp_path):
    street, _ = street_of(plant, Says("champion", FIRST))
    path = tmp_path / "tuned.yaml"
    path.write_text("planner: {}\n")
    good = replace(model(), sha256=hashlib.sha256(path.read_bytes()).hexdigest(), path=str(path))

    def prepared(order, rehearse=street.fault_of):
        return street.rollout.prepared(order, street.gate.timing, Settings(), rehearse)

    with pytest.raises(ValueError, match=r"no junction C on this street\. There are: A, B"):
        prepared(Deploy("canary", good, ("C",)))
    with pytest.raises(ValueError, match="cannot be read"):
        prepared(Deploy("all", model()))
    with pytest.raises(ValueError, match=r"model fast@1: it cannot decide here: it broke"):
        prepared(Deploy("shadow", good), lambda controller, role: "it broke")
    assert street.rollout.deployed == Deployed()
    assert (street.rollout.canary, street.rollout.shadow) == (None, None)
    change = prepared(Deploy("canary", good, ("A",)))
    assert change.controller.name == "fast@1"
    assert street.fault_of(change.controller, CANARY) == ""
    assert street.rollout.deployed == Deployed(), "not before it is used"
    breaks = Says()
    breaks.fault = OSError("gone")
    assert street.fault_of(breaks, CANARY) == "OSError('gone')"


def test_a_congested_junction_is_relieved_by_who_decides_on_it(plant, monkeypatch):
    """The champion is a planner, which needs no relief; the canary is none."""
    street, _ = street_of(plant, Says("planner", FIRST), relief=Says("relief", SECOND))
    monkeypatch.setattr(street.congestion, "junctions", lambda: np.array([True, True]))
    ticks(street, 10)
    assert plant.applied[-1] == list(FIRST)
    deploy(street, Says("canary", FIRST))
    ticks(street, 10)
    assert plant.applied[-1] == [*A_SECOND, *B_FIRST]


def test_the_confidence_of_a_congested_junction_is_made_of_the_factors_of_who_relieves_it(
    plant, monkeypatch
):
    champion = Says("table", FIRST, (0.2, 0.9), why={"novelty": np.array([0.0, 0.9])})
    street, _ = street_of(plant, champion, relief=Says("relief", SECOND))
    monkeypatch.setattr(street.congestion, "junctions", lambda: np.array([True, False]))
    ticks(street, 1)
    assert street.trust.of_junction.tolist() == [1.0, 0.9]
    assert [street.trust.factors_of(j)["novelty"] for j in (0, 1)] == [1.0, 0.9]


def test_a_planner_model_is_relieved_as_little_as_the_planner(plant):
    street, _ = street_of(plant, relief=Says("relief", SECOND))
    assert street.relieves
    street.set_controller(Planner(plant.network, street.gate.timing, name="fast@1"))
    assert not street.relieves
