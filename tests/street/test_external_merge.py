"""Who is believed: sources from outside beside a street's own view, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.street.builders import GREEN, MadePlant, two_junctions, vehicles

from headway.street.external.merge import External, Reported, SourceRows
from headway.street.external.rows import ObservationRow, ObservedEmergency, ObservedVehicle
from headway.values import EmergencyVehicle

BLIND, OPEN_EYED = 0.0, 1.0


class Field:
    """A street of two junctions: approaches in0 (lanes 0) and in2 (4) of A, in3 (6), in4 (8) of B;
    the crossing is group 4, the third of B. `at` sends rows, `see` merges."""

    def __init__(self, completeness=BLIND):
        self.events = []
        self.network = two_junctions()
        self.plant = MadePlant(self.network)
        self.plant.completeness = np.full(2, completeness)
        self.external = External(self.network, self.events.append)
        self.external.speed_factor = 1.0

    def send(
        self, source="cam", holder=None, refused=0, cut=0, declared=1.0, is_listed=False, **row
    ):
        rows = ()
        if row:
            row = {"junction": "A", "approach": "in0", "at_s": self.plant.time_s} | row
            rows = (ObservationRow(**row),)
        own = SourceRows(source, rows, refused, cut, declared, is_listed)
        return self.external.take(Reported(holder or source, (own,)), self.plant.time_s)

    def see(self):
        return self.external.merged(self.plant.observe())

    def pass_s(self, seconds, *sends):
        """So many ticks, in each of which every source of `sends` reports again."""
        for _ in range(seconds):
            for send in sends:
                self.send(**send)
            seen = self.see()
            self.plant.time_s += 1.0
        return seen

    def kinds(self, kind):
        return [(e.at_s, e.junction, e.data) for e in self.events if e.kind == kind]

    def weight(self, source):
        found = {s["source"]: s for s in self.external.states(self.plant.time_s)}
        return found[source]["factors"]


def lanes(observation):
    return sorted(observation.vehicles.lane.tolist())


def test_a_street_that_sees_for_itself_and_hears_nobody_is_left_as_it_is():
    field = Field(OPEN_EYED)
    own = field.plant.observe()
    assert field.external.merged(own) is own
    assert field.events == []


def test_a_junction_is_as_complete_as_the_lanes_that_are_reported():
    """A has three lanes before signals (0, 2, 4), B two (6, 8)."""
    field = Field()
    field.send(queue=2, quality=0.9)
    assert field.see().completeness.tolist() == pytest.approx([0.9 / 3, 0.0])
    for approach in ("in1", "in2"):
        field.send(approach=approach, queue=0, source=approach)
    assert field.see().completeness.tolist() == pytest.approx([2.9 / 3, 0.0])


def test_what_is_reported_becomes_vehicles_on_their_likely_link():
    field = Field()
    field.send(vehicles=[ObservedVehicle(12.0, 5.0), ObservedVehicle(3.0)])
    seen = field.see()
    v = seen.vehicles
    assert (v.lane.tolist(), v.link.tolist()) == ([0, 0], [0, 0])
    assert (v.distance_m.tolist(), v.speed_mps.tolist()) == ([3.0, 12.0], [0.0, 5.0])
    assert (seen.count[0], seen.arrived[0], seen.source) == (2, 2, "external")
    assert field.see().arrived[0] == 0, "who has arrived is told once"


def test_a_report_fades_from_two_seconds_to_ten_and_the_loss_is_recorded_once():
    field = Field()
    field.pass_s(1)
    field.plant.time_s = 100.0
    field.send(queue=1)
    third = 1.0 / 3.0
    for age_s, fresh in ((0.0, 1.0), (2.0, 1.0), (6.0, 0.5), (8.0, 0.25), (10.0, 0.0)):
        field.plant.time_s = 100.0 + age_s
        used = fresh if fresh >= 0.3 else 0.0
        assert field.see().completeness[0] == pytest.approx(used * third), age_s
    assert [at_s for at_s, name, _ in field.kinds("sensing.lost") if name == "A"] == [100.0, 108.0]
    assert [at_s for at_s, *_ in field.kinds("sensing.restored")] == [100.0]
    assert [d["condition"] for *_, d in field.kinds("sensing.source")] == ["trusted", "silent"]


def test_one_s_own_vehicles_are_never_taken_out():
    """The street sees one at 20 m; a source says that the lane is empty, another that there are
    two: near 20 m, which is the same one, and at 45 m, which is added."""
    field = Field(OPEN_EYED)
    field.plant.vehicles = vehicles((0, 20.0, 4.0, 0.0))
    field.send(vehicles=[])
    assert field.see().vehicles.distance_m.tolist() == [20.0]
    field.send(vehicles=[ObservedVehicle(14.0, 4.0), ObservedVehicle(45.0, 9.0)], source="far")
    seen = field.see()
    assert seen.vehicles.distance_m.tolist() == [20.0, 45.0]
    assert seen.completeness.tolist() == [1.0, 1.0]
    assert seen.source == "plant and external"


def test_a_source_that_contradicts_the_street_s_own_view_loses_its_weight_alone():
    field = Field(OPEN_EYED)
    honest, liar = {"source": "good", "queue": 0}, {"source": "liar", "queue": 9}
    assert len(field.pass_s(1, honest, liar).vehicles) == 9, "at first nobody knows"
    assert len(field.pass_s(20, honest, liar).vehicles) == 0
    assert field.weight("liar")["agreement"] < 0.3
    assert field.weight("good")["agreement"] == 1.0
    states = [(d["source"], d["condition"]) for *_, d in field.kinds("sensing.source")]
    assert states == [("good", "trusted"), ("liar", "trusted"), ("liar", "distrusted")]
    # it comes back only by telling the truth, not by silence
    field.pass_s(60, honest)
    assert field.weight("liar")["agreement"] < 0.3
    field.pass_s(60, honest, {"source": "liar", "queue": 1})
    assert field.weight("liar")["agreement"] > 0.5


def test_small_differences_are_no_lie():
    field = Field(OPEN_EYED)
    field.plant.vehicles = vehicles(*((0, 4.0 + 7.0 * k, 0.0, 0.0) for k in range(3)))
    field.pass_s(60, {"source": "two more", "queue": 5}, {"source": "two less", "queue": 1})
    assert field.weight("two more")["agreement"] == field.weight("two less")["agreement"] == 1.0


def test_three_holders_outvote_one_but_one_holder_of_many_names_does_not():
    field = Field()
    truth = [{"source": s, "queue": 1} for s in ("a", "b")]
    lies = [{"source": f"x:{k}", "holder": "x", "queue": 9} for k in range(5)]
    seen = field.pass_s(30, *truth, *lies)
    assert len(seen.vehicles) == 1
    assert field.weight("a")["agreement"] == field.weight("b")["agreement"] == 1.0
    assert all(field.weight(f"x:{k}")["agreement"] < 0.3 for k in range(5))


def test_two_that_contradict_each_other_are_both_kept_and_the_one_that_sees_more_is_used():
    field = Field()
    seen = field.pass_s(120, {"source": "none", "queue": 0}, {"source": "six", "queue": 6})
    assert len(seen.vehicles) == 6
    assert field.weight("none")["agreement"] == field.weight("six")["agreement"] == 1.0


def test_of_two_that_see_somebody_the_clearly_more_trusted_one_is_used():
    field = Field()
    better = {"source": "two", "queue": 2, "declared": 1.0}
    worse = {"source": "six", "queue": 6, "declared": 0.7}
    assert len(field.pass_s(1, better, worse).vehicles) == 2
    worse["declared"] = 0.85  # nearly as good
    assert len(field.pass_s(1, better, worse).vehicles) == 6


@pytest.mark.parametrize(
    ("honest", "liar"),
    [
        ({"quality": 0.75}, {"quality": 1.0}), ({"quality": 0.31}, {"quality": 1.0}),
        ({"declared": 0.4}, {"declared": 1.0}), ({"at_s": 93.0}, {}), ({"refused": 1}, {}),
    ],
)  # fmt: skip
def test_nobody_takes_away_what_somebody_else_sees_by_being_surer_or_faster(honest, liar):
    """One sees nine vehicles, another says that there are none: the nine are used, at the weight
    of who sees them."""
    field = Field()
    for _ in range(30):
        field.send(source="honest", queue=9, **honest)
    field.send(source="liar", queue=0, **liar)
    seen = field.see()
    assert len(seen.vehicles) == 9
    assert seen.completeness[0] < 1.0 / 3.0, "as sure as the honest one is"
    field.send(source="liar", vehicles=[ObservedVehicle(99.0, 9.0)], **liar)
    if "declared" not in honest and "refused" not in honest:
        assert len(field.see().vehicles) == 9, "nor by one vehicle far away"


def test_who_is_not_used_adds_nothing():
    field = Field()
    field.send(source="none", queue=0)
    field.send(source="nine", queue=9, quality=0.29)
    seen = field.see()
    assert len(seen.vehicles) == 0
    assert seen.completeness[0] == pytest.approx(1.0 / 3.0)


def test_who_becomes_the_best_source_does_not_bring_along_whom_the_other_one_counted():
    """Both count one vehicle every 10 s; the better one, a, falls silent after 291 s."""
    field = Field()
    arrived = []
    for second in range(600):
        for name in ("a", "b") if second < 291 else ("b",):
            rows = {"detector_m": 50.0, "count": int(second % 10 == 0), "quality": 1.0}
            field.send(source=name, **(rows | {"quality": 0.6} if name == "b" else rows))
        arrived.append(int(field.see().arrived[0]))
        field.plant.time_s += 1.0
    assert sum(arrived) == 60
    assert max(arrived) == 1


def test_a_queue_that_outlasts_long_greens_unchanged_is_a_stuck_detector():
    field = Field()
    stuck = {"source": "stuck", "queue": 3}
    field.pass_s(60, stuck)
    assert field.weight("stuck")["steadiness"] == 1.0, "on red a queue may stand"
    field.plant.shown[0] = GREEN
    field.plant.since[0] = field.plant.time_s
    field.pass_s(24, stuck)
    assert field.weight("stuck")["steadiness"] == 1.0
    assert len(field.pass_s(90, stuck).vehicles) == 0
    assert field.weight("stuck")["steadiness"] < 0.3
    moving = Field()
    moving.plant.shown[0] = GREEN
    for k in range(120):
        moving.pass_s(1, {"source": "cam", "queue": 3 + k % 2})
    assert moving.weight("cam")["steadiness"] == 1.0


def test_refused_and_cut_rows_cost_the_weight_of_their_source_alone():
    field = Field()
    field.pass_s(1, {"source": "good", "queue": 1}, {"source": "bad", "queue": 1})
    for _ in range(30):
        field.send(source="bad", refused=9, queue=1)
        field.send(source="flood", cut=5000, queue=1)
    assert field.weight("good")["validity"] == field.weight("good")["rate"] == 1.0
    assert field.weight("bad")["validity"] < 0.6
    assert field.weight("flood")["rate"] < 0.5
    states = {s["source"]: s for s in field.external.states(field.plant.time_s)}
    assert (states["bad"]["refused"], states["flood"]["cut"]) == (270, 150_000)


def test_a_pedestrian_s_call_waits_until_the_crossing_was_green():
    field = Field()
    field.send(junction="B", approach="", pedestrian_call=True)
    assert field.see().waiting_persons.tolist() == [0, 0, 0, 0, 1]
    field.plant.time_s += 40.0
    assert field.see().waiting_persons[4] == 1, "pressed once, kept"
    field.plant.shown[4] = GREEN
    assert field.see().waiting_persons[4] == 0
    field.plant.shown[4] = 1
    assert field.see().waiting_persons[4] == 0, "served"
    field.send(junction="B", approach="", pedestrian_call=True)
    field.see()
    field.plant.time_s += 301.0
    assert field.see().waiting_persons[4] == 0, "nobody waits so long"


def test_an_emergency_vehicle_claims_priority_until_nothing_is_heard_of_it():
    field = Field()
    field.send(emergency=ObservedEmergency(100.0, 10.0, "fire 1"))
    (vehicle,) = field.see().emergencies
    assert (vehicle.ahead, vehicle.speed_mps) == (((0, 100.0),), 10.0)
    assert type(vehicle.ahead[0][0]) is int, "the gate puts it into an event, as JSON"
    assert "cam/" in vehicle.id
    assert "fire 1" in vehicle.id
    field.plant.time_s += 3.0
    assert field.see().emergencies[0].ahead == ((0, 70.0),)
    field.plant.time_s += 3.0
    assert field.see().emergencies == ()


def siren(number=1, distance_m=80.0):
    return ObservedEmergency(distance_m, 10.0, f"fire {number}")


def test_eight_emergency_vehicles_of_a_holder_are_known_at_a_junction_at_once():
    """Whatever their names and those of its sources. Those that were known stay, others follow
    when nothing has been heard of one for 5 s; other holders and junctions have their own eight."""
    field = Field()
    for k in range(12):
        field.send(source=f"x:{k % 3}", holder="x", emergency=siren(k))
    assert [v.id.split("/")[-1] for v in field.see().emergencies] == [f"fire {k}" for k in range(8)]
    field.send(source="y", emergency=siren())
    field.send(source="x:0", holder="x", junction="B", approach="in3", emergency=siren())
    assert len(field.see().emergencies) == 10
    field.plant.time_s += 3.0
    field.send(source="x:0", holder="x", emergency=siren(0, 50.0))
    assert field.see().emergencies[0].ahead == ((0, 50.0),), "it comes nearer"
    field.plant.time_s += 3.0
    field.see()
    field.send(source="x:0", holder="x", emergency=siren(99))
    assert {v.id for v in field.see().emergencies} == {"x:0/0/fire 0", "x:0/0/fire 99"}


def test_a_message_says_whether_it_claims_priority_for_a_vehicle_that_was_not_known():
    field = Field()
    assert field.send(queue=3) is False
    assert field.send(emergency=siren()) is True
    assert field.send(emergency=siren(distance_m=70.0)) is False
    assert field.send(vehicles=[ObservedVehicle(9.0, kind="emergency", id="2")]) is True


def test_vehicles_claimed_since_the_tick_join_what_was_seen_at_no_charge():
    field = Field()
    field.send(emergency=siren())
    seen = field.see()
    field.send(source="other", emergency=siren())
    for _ in range(500):
        later = field.external.with_claims(seen)
    assert [v.id for v in later.emergencies] == ["cam/0/fire 1", "other/0/fire 1"]
    own = replace(seen, emergencies=(EmergencyVehicle("own", 9.0, ((0, 5.0),)), *seen.emergencies))
    assert [v.id for v in field.external.with_claims(own).emergencies] == [
        "own", "cam/0/fire 1", "other/0/fire 1",
    ]  # fmt: skip


def test_how_long_a_message_waited_for_a_decision_is_known():
    """Received at 1.0 s of the monotonic clock, taken at 1.004, decided on at 1.25; asked again
    later, nothing more is added."""
    now_ns = [1_004_000_000]
    field = Field()
    field.external = External(field.network, field.events.append, monotonic_ns=lambda: now_ns[0])
    row = ObservationRow(junction="A", approach="in0", at_s=100.0, queue=1)
    message = Reported("cam", (SourceRows("cam", (row,)),), received_ns=1_000_000_000)
    field.external.take(message, 100.0)
    (before,) = field.external.states(100.0)
    now_ns[0] = 1_250_000_000
    field.see()
    now_ns[0] = 9_000_000_000
    field.see()
    (after,) = field.external.states(100.0)
    assert (before["latency_p99_ms"], before["decision_p99_ms"]) == (4.0, None)
    assert (after["latency_p99_ms"], after["decision_p99_ms"]) == (4.0, 250.0)


def test_names_of_sources_and_vehicles_do_not_prolong_a_claim():
    """One holder in turn by 4 names of 30 s each, and a vehicle a name and second: as one."""
    field = Field()
    granted = 0
    for second in range(900):
        name = f"x:{second // 30 % 4}"
        field.send(source=name, holder="x", emergency=siren(second))
        granted += bool(field.see().emergencies)
        field.plant.time_s += 1.0
    assert granted == 138
    refused = [(junction, d["holder"]) for _, junction, d in field.kinds("sensing.claims_refused")]
    assert refused == [("A", "x")]


def test_what_was_claimed_is_earned_again_while_nothing_is_claimed():
    """60 of 120 s used; 450 s later all of them are there again: 120 / (1 - 120 / 900) = 138.5."""
    field = Field()
    claim = {"source": "x", "emergency": siren()}
    assert sum(bool(field.pass_s(1, claim).emergencies) for _ in range(60)) == 60
    field.pass_s(450)
    assert sum(bool(field.pass_s(1, claim).emergencies) for _ in range(300)) == 139


def test_sources_that_the_settings_do_not_list_share_a_limit_at_a_junction():
    """Three holders, 125 s each: 240 s are granted, and what is earned again meanwhile, in all
    240 / (1 - 240 / 900) = 327.3 s (the first tick counts for 2). One that is listed is not held to
    it, and nobody is distrusted for the others."""
    field = Field()
    granted, listed = 0, 0
    for second in range(375):
        name = "abc"[second // 125]
        field.send(source=name, emergency=siren())
        granted += any(v.id.startswith(f"{name}/") for v in field.see().emergencies)
        field.plant.time_s += 1.0
    assert granted == 326
    refused = [d["holder"] for _, _, d in field.kinds("sensing.claims_refused")]
    assert refused == [""]
    assert {s: field.weight(s)["claims"] for s in "abc"} == {"a": 1.0, "b": 1.0, "c": 1.0}
    for _ in range(20):
        field.send(source="fire", is_listed=True, emergency=siren())
        listed += len(field.pass_s(1).emergencies)
    assert listed == 20


def test_a_source_without_weight_causes_nothing():
    """Neither vehicles, nor calls of pedestrians, nor priority."""
    field = Field()
    for declared in (0.0, 0.29):
        field.send(declared=declared, queue=5, emergency=siren())
        field.send(declared=declared, junction="B", approach="", queue=None, pedestrian_call=True)
        seen = field.see()
        assert (len(seen.vehicles), seen.emergencies) == (0, ())
        assert seen.waiting_persons.tolist() == [0] * 5
    field.send(declared=0.3, junction="B", approach="", pedestrian_call=True)
    assert field.see().waiting_persons[4] == 1


@pytest.mark.parametrize(("quality", "causes"), [(0.0, False), (0.29, False), (0.3, True)])
def test_a_row_that_its_source_does_not_trust_causes_nothing(quality, causes):
    field = Field()
    field.send(quality=quality, queue=5, emergency=siren())
    field.send(quality=quality, junction="B", approach="", pedestrian_call=True)
    seen = field.see()
    assert (len(seen.vehicles), len(seen.emergencies)) == (5 * causes, causes)
    assert seen.waiting_persons[4] == causes


@pytest.mark.parametrize("blind", [{"quality": 0.0}, {"declared": 0.0}])
def test_who_does_not_claim_to_see_is_no_reference_for_the_others(blind):
    """Three cameras in fog, or that the settings leave out, say that nobody is there."""
    field = Field()
    fog = [{"source": s, "queue": 0, **blind} for s in ("a", "b", "c")]
    seen = field.pass_s(120, {"source": "honest", "queue": 6}, *fog)
    assert len(seen.vehicles) == 6
    assert field.weight("honest")["agreement"] == 1.0


def test_who_does_not_claim_to_see_is_judged_by_nobody():
    field = Field(OPEN_EYED)
    field.plant.vehicles = vehicles(*((0, 4.0 + 7.0 * k, 0.0, 0.0) for k in range(6)))
    field.pass_s(120, {"source": "fog", "queue": 0, "quality": 0.1}, {"source": "liar", "queue": 0})
    assert field.weight("fog")["agreement"] == 1.0
    assert field.weight("liar")["agreement"] < 0.3


def test_a_phantom_emergency_vehicle_is_refused_after_two_minutes_and_its_source_distrusted():
    field = Field()
    phantom = {"source": "liar", "emergency": ObservedEmergency(80.0, 10.0)}
    granted = sum(bool(field.pass_s(1, phantom).emergencies) for _ in range(900))
    assert granted == 138  # 120 s, and what is earned again meanwhile: 120 / (1 - 120 / 900)
    assert [d["source"] for *_, d in field.kinds("sensing.claims_refused")] == ["liar"]
    assert field.weight("liar")["claims"] < 0.1
    other = {"source": "good", "emergency": ObservedEmergency(80.0, 10.0)}
    assert len(field.pass_s(1, phantom, other).emergencies) == 1


def test_rows_of_another_network_are_refused_here_too():
    field = Field()
    for wrong in (
        {"junction": "Z"}, {"approach": "in3"}, {"approach": "out0"}, {"at_s": 80.0},
        {"at_s": 103.0}, {"junction": "A", "approach": "", "queue": None, "pedestrian_call": True},
        {"junction": "B", "approach": "", "queue": None, "pedestrian_call": True, "crossing": 0},
    ):  # fmt: skip
        field.send(**({"queue": 5} | wrong))
    (state,) = field.external.states(100.0)
    assert (state["taken"], state["refused"], len(field.see().vehicles)) == (0, 7, 0)


@pytest.mark.parametrize(
    "row",
    [
        {"count": 1, "detector_m": 80.0},
        {"count": 60, "interval_s": 60.0, "detector_m": 80.0},
        {"count": 1, "occupancy": 1.0, "detector_m": 150.0},
        {"occupancy": 1.0, "detector_m": 150.0},
    ],
)
def test_detectors_put_no_more_into_a_lane_than_fits(row):
    """100 m of lane and 50 m to spare: 20 vehicles of 7.5 m, however long it is red."""
    field = Field()
    assert len(field.pass_s(300, row).vehicles) <= 20
    assert field.external.states(field.plant.time_s)[0]["refused"] == 0


def test_a_street_takes_so_many_sources_and_no_more():
    field = Field()
    for k in range(64):
        field.send(source=f"x:{k}", holder="x", queue=1)
    with pytest.raises(ValueError, match="one too many"):
        field.send(source="x:64", holder="x", queue=1)
    field.send(source="y", queue=1)
    assert len(field.external.sources) == 65
    later = Reported("x", (SourceRows("x:64"),), wall=3601.0)
    field.external.take(later, field.plant.time_s)
    assert list(field.external.sources) == ["x:64"]


def test_wall_times_count_by_the_speed_factor():
    from datetime import UTC, datetime

    field = Field()
    field.external.speed_factor = 10.0
    at = datetime.fromtimestamp(999.5, UTC)
    row = ObservationRow(junction="A", approach="in0", at=at, queue=1)
    field.external.take(Reported("cam", (SourceRows("cam", (row,)),), wall=1000.0), 100.0)
    assert field.external.states(100.0)[0]["at_s"] == 95.0


def test_what_the_merge_makes_can_always_be_used():
    """Whatever is sent, in any order: finite numbers, on lanes and links that there are."""
    rng = np.random.default_rng(1)
    field = Field()
    for _ in range(300):
        at_s = field.plant.time_s - float(rng.uniform(0.0, 9.0))
        approach = str(rng.choice(["in0", "in1", "in2"]))
        kind = rng.integers(4)
        values = [
            {"queue": int(rng.integers(30))},
            {
                "count": int(rng.integers(9)),
                "interval_s": 9.0,
                "detector_m": float(rng.uniform(0, 150)),
            },
            {"occupancy": float(rng.uniform()), "detector_m": float(rng.uniform(0.0, 150.0))},
            {"vehicles": [ObservedVehicle(float(rng.uniform(0, 2000)), float(rng.uniform(0, 99)))]},
        ][kind]
        field.send(source=str(rng.choice(["a", "b", "c"])), approach=approach, at_s=at_s, **values)
        field.plant.shown = rng.integers(1, 5, 5).astype(np.int8)
        seen = field.pass_s(1)
        v = seen.vehicles
        assert np.isfinite([v.distance_m, v.speed_mps, v.waiting_s]).all()
        assert (v.distance_m >= 0.0).all()
        assert (v.waiting_s >= 0.0).all()
        assert (seen.completeness <= 1.0).all()
        assert replace(seen).count.sum() == len(v)
