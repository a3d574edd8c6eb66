"""Models: only a file that is what it says, and is of this network, decides anything."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from tests.control.builders import junction, network, observed, pair, timing

from headway.control.models import ModelFile, model_controller, require_intact
from headway.control.planner import MODEL, Planner
from headway.control.qlearning import QLearning, network_stamp
from headway.control.qtable import QTable
from headway.control.queue_model import Model, as_record
from headway.learning.tuning import as_settings
from headway.settings import PlannerSettings, Settings

SETTINGS = Settings()


def model(path, kind="planner", name="fast", version=3):
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelFile(name, version, kind, sha256, str(path))


def planner_file(tmp_path, text="planner: {horizon_s: 90.0, headway_s: 2}\n"):
    path = tmp_path / "tuned.yaml"
    path.write_text(text)
    return path


def trained(path, net, value=2.5):
    """A Q-table of the network `net`, which knows one state."""
    table = QTable(3, 64, path, network_stamp(net))
    table.add(np.array([9], np.uint64), np.array([1]), np.array([value], np.float32))
    table.flush()
    return path


def other():
    lanes = [("a_0", 100, 10), ("z_0", 100, 10)]
    links = [("a_0", "z_0", 0, "s", 10, 10, 0)] * 2
    return network(lanes, links, [junction("Z", 0, ["G"])])


def build(of, net):
    return model_controller(of, net, timing(net), SETTINGS)


class TestAPlanner:
    def test_has_the_figures_of_its_file_and_is_called_by_its_label(self, tmp_path):
        net = pair()
        found = build(model(planner_file(tmp_path)), net)
        assert isinstance(found, Planner)
        assert found.name == "fast@3"
        given = PlannerSettings(horizon_s=90.0, headway_s=2.0).model_dump()
        assert found._model == as_record(Model(**given))
        seen = observed(net, 100.0, [], "GrrGr", [9.0] * 5)
        assert found.step(seen, found.start(seen))[0].controller == "fast@3"
        assert Planner.name == Planner(net, timing(net)).name == "planner"

    def test_takes_what_the_tuning_writes(self, tmp_path):
        figures = {name: float(value) for name, value in MODEL._asdict().items()}
        path = planner_file(tmp_path, as_settings(figures))
        assert build(model(path), pair())._model == as_record(MODEL)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("planner: {speed: 1.0}\n", r"planner\.speed: Extra inputs"),
            ("planner: {headway_s: .nan}\n", r"planner\.headway_s: .*finite"),
            ("planner: {headway_s: -.inf}\n", r"planner\.headway_s: "),
            ("planner: {headway_s: 99.0}\n", r"planner\.headway_s: .*less than or equal to 10"),
            ("planner: {headway_s: true}\n", r"planner\.headway_s: .*valid number"),
            ("planner: {headway_s: '2'}\n", r"planner\.headway_s: .*valid number"),
            ("planner: {headway_s: 2.0, headway_s: 3.0}\n", "'headway_s' is given twice"),
            ("planner: {}\nplanner: {}\n", "'planner' is given twice"),
            ("planner: {}\nloop: {tick_s: 1}\n", "must hold the section `planner`, and it alone"),
            ("planner: [1]\n", "planner: Input should be"),
            ("planner: &a [*a]\n", "planner: Input should be"),
            ("just words\n", "must hold the section `planner`"),
            ("", "must hold the section `planner`"),
            ("planner: {", "is no YAML"),
            ("!!python/object/apply:os.getcwd []\n", "is no YAML"),
            ("[" * 5000, "is no YAML"),
            ("planner: {headway_s: !!bool 3}\n", "is no YAML"),
            ("planner: !!timestamp soon\n", "is no YAML"),
            ("planner: {headway_s: 2001-99-99}\n", "is no YAML"),
            ("# " + "x" * 70_000 + "\nplanner: {}\n", "is too large"),
        ],
    )
    def test_whose_file_is_faulty_is_refused_with_place_and_remedy(self, tmp_path, text, says):
        of = model(planner_file(tmp_path, text))
        with pytest.raises(ValueError, match=says) as refused:
            build(of, pair())
        assert str(refused.value).startswith(f"model fast@3: {of.path}: ")
        assert "headway tune" in str(refused.value) or "Give it once" in str(refused.value)


class TestAQTable:
    def test_decides_by_its_file_which_it_leaves_as_it_is(self, tmp_path):
        net = pair()
        path = trained(tmp_path / "q.table", net)
        of = model(path, "q-table")
        found = build(of, net)
        assert isinstance(found, QLearning)
        assert found.name == "fast@3"
        values, visits = found.table.get(np.array([9], np.uint64))
        assert values.tolist() == [[0.0, 2.5, 0.0]]
        assert visits.tolist() == [[0, 1, 0]]
        seen = observed(net, 100.0, [], "GrrGr", [9.0] * 5)
        assert found.step(seen, found.start(seen))[0].controller == "fast@3"
        require_intact(of)  # a mapped file would have been changed by its use

    def test_of_another_network_is_refused(self, tmp_path):
        of = model(trained(tmp_path / "q.table", other()), "q-table")
        with pytest.raises(
            ValueError, match=r"was trained for another network than .*headway train"
        ):
            build(of, pair())

    def test_that_does_not_say_its_network_is_refused(self, tmp_path):
        table = QTable(3, 64, tmp_path / "q.table")
        table.add(np.array([9], np.uint64), np.array([1]), np.array([1.0], np.float32))
        table.flush()
        with pytest.raises(ValueError, match="does not say which network"):
            build(model(tmp_path / "q.table", "q-table"), pair())

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_with_values_that_are_no_numbers_is_refused(self, tmp_path, value):
        net = pair()
        of = model(trained(tmp_path / "q.table", net, value), "q-table")
        with pytest.raises(ValueError, match="no finite numbers"):
            build(of, net)

    @pytest.mark.parametrize(
        "harm", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: d[:20] + b"\x07" + d[21:]]
    )
    def test_that_was_cut_off_is_refused(self, tmp_path, harm):
        net = pair()
        path = trained(tmp_path / "q.table", net)
        path.write_bytes(harm(path.read_bytes()))
        with pytest.raises(ValueError, match="was cut off or changed"):
            build(model(path, "q-table"), net)

    def test_that_knows_nothing_is_refused(self, tmp_path):
        net = pair()
        QTable(3, 64, tmp_path / "q.table", network_stamp(net)).flush()
        with pytest.raises(ValueError, match="knows no state"):
            build(model(tmp_path / "q.table", "q-table"), net)

    def test_cannot_aim_at_a_stage_that_the_junction_has_not(self, tmp_path):
        net = pair()
        stages = [len(j.stages) for j in net.junctions]
        agent = QLearning(net, timing(net), QTable(3, 64, network=network_stamp(net)))
        seen = observed(net, 100.0, [], "GrrGr", [9.0] * 5)
        state = agent.start(seen)
        wild = np.full(len(stages), 1000)
        _, after = agent.act(seen, state, np.ones(len(stages), bool), wild)
        assert after.target.tolist() == [n - 1 for n in stages]

    def test_keeps_its_network_in_its_file(self, tmp_path):
        net = pair()
        path = trained(tmp_path / "q.table", net)
        assert QTable.read(path).network == network_stamp(net)
        assert QTable(3, 64, path).network == network_stamp(net)
        assert network_stamp(net) != network_stamp(other())
        changed = replace(net.junctions[0], stages=net.junctions[0].stages[:-1])
        fewer = replace(net, junctions=(changed, *net.junctions[1:]))
        assert network_stamp(fewer) != network_stamp(net)


@pytest.mark.parametrize("kind", ["planner", "q-table"])
def test_a_file_of_another_kind_is_refused(tmp_path, kind):
    net = pair()
    path = trained(tmp_path / "q.table", net) if kind == "planner" else planner_file(tmp_path)
    with pytest.raises(ValueError, match=r"^model fast@3: .*(is no YAML|must hold|is no Q-table)"):
        build(model(path, kind), net)


def test_a_file_that_was_changed_is_refused(tmp_path):
    of = model(planner_file(tmp_path))
    planner_file(tmp_path, "planner: {horizon_s: 91.0, headway_s: 2}\n")
    with pytest.raises(ValueError, match=r"was changed: its sha256 .* Add the model anew"):
        build(of, pair())


def test_a_file_that_is_not_there_is_refused(tmp_path):
    of = model(planner_file(tmp_path))
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(
            ValueError, match=r"cannot be read \(No such file\)\. Add the model anew"
        ):
            require_intact(replace(of, path=str(path)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": ""}, "a name has 1 to 64"),
        ({"name": "../etc"}, "a name has 1 to 64"),
        ({"name": "a@b"}, "a name has 1 to 64"),
        ({"version": 0}, "versions count from 1"),
        ({"kind": "pickle"}, r"no kind 'pickle'\. There are: planner, q-table"),
        ({"sha256": "00"}, "64 hexadecimal digits"),
    ],
)
def test_a_model_that_cannot_be_is_refused(change, says):
    fields = {"name": "fast", "version": 3, "kind": "planner", "sha256": "0" * 64, "path": "x"}
    with pytest.raises(ValueError, match=says):
        ModelFile(**{**fields, **change})
