"""The commands of scenarios, benchmarks, demo, training and the street:
what each does with its options, prints, writes and returns.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import headway as package
from headway.cli.simulation import warn_without_q_table
from headway.control.qlearning import DEFAULT_TABLE, network_stamp
from headway.control.qtable import QTable
from headway.experiments.benchmark import Job, Result
from headway.learning.registry import Registry, signing_key
from headway.learning.training import Episode
from headway.plants.sumo.scenarios import RESCO
from headway.roads import PROFILES, RoadsError, work_out
from headway.settings import Settings, overridden
from headway.store import open_database
from headway.street.messages import Task


def test_it_says_its_version_and_helps(headway):
    assert headway("--version") == type(headway("--version"))(
        0, f"headway {package.__version__}\n", ""
    )
    for words in (["-h"], ["--help"]):
        ran = headway(*words)
        assert (
            ran.status,
            "An open real-time traffic signal platform." in ran.out,
            "--version" in ran.out,
        ) == (0, True, True)
        assert "--install-completion" not in ran.out
    ran = headway()
    assert (ran.status, "Usage: headway [OPTIONS] COMMAND" in ran.out + ran.err) == (2, True)


room = importlib.import_module("headway.cli.simulation")
GROUPS = {
    "key": ["rotate", "rotate-secret"],
    "kpp": ["run"],
    "db": ["key", "migrate", "backup", "restore", "retain", "erase", "events", "upkeep"],
    "audit": ["verify"],
    "models": ["list", "fetch", "verify"],
    "registry": ["list", "add", "show", "verify"],
}
COMMANDS = [
    *(
        "serve",
        "token",
        "watch",
        "worker",
        "camera",
        "scenarios",
        "bench",
        "demo",
        "train",
        "tune",
        "run",
        "feed",
        "deploy",
        "street",
        "test-gate",
    ),
]


@pytest.mark.parametrize(
    "words",
    [[c] for c in COMMANDS]
    + [[g, c] for g, commands in GROUPS.items() for c in commands]
    + [[g] for g in GROUPS],
)
def test_each_command_helps(headway, words):
    ran = headway(*words, "-h")
    assert (ran.status, ran.err) == (0, "")
    assert f"Usage: headway {' '.join(words)} " in ran.out
    assert headway(*words, "--help") == ran


def test_these_are_all_commands(headway):
    def listed(*words):
        return re.findall(
            r"^│ ([a-z-]+) ", headway(*words, "-h").out.split("─ Commands ─")[1], re.MULTILINE
        )

    assert sorted(listed()) == sorted([*COMMANDS, *GROUPS])
    for group, commands in GROUPS.items():
        assert sorted(listed(group)) == sorted(commands)
        ran = headway(group)
        assert (ran.status, f"Usage: headway {group} " in ran.out + ran.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "No such command 'nonsense'."),
        (["bench", "--nonsense"], "No such option: --nonsense"),
        (["kpp", "nonsense"], "No such command 'nonsense'."),
        (["bench", "--scale", "much"], "Invalid value for '--scale'"),
        (["run", "--until", "nan"], "--until nan: give seconds."),
    ],
)  # fmt: skip
def test_what_is_called_wrongly_ends_with_2(headway, words, said):
    ran = headway(*words)
    assert (ran.status, ran.out, said in ran.err) == (2, "", True), ran.err


@pytest.mark.parametrize(
    "error", [ValueError("why"), RuntimeError("why"), OSError("why"), RoadsError("why")]
)
def test_what_fails_ends_with_1_and_one_line_why(headway, monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(room, "scenario", fail)
    ran = headway("scenarios")
    assert (ran.status, ran.out, ran.err) == (1, "", "headway: why\n")


def test_what_nobody_foresaw_is_not_hidden(headway, monkeypatch):
    monkeypatch.setattr(room, "scenario", {}.__getitem__)
    with pytest.raises(KeyError):
        headway("scenarios")


@pytest.mark.slow
def test_the_catalogue_is_listed(headway):
    """As RESCO describes them."""
    ran = headway("scenarios")
    assert (ran.status, ran.err) == (0, "")
    assert ran.rows == [
        "scenario | begin s | end s | junctions | vehicles",
        "cologne1 | 25200 | 28800 | 1 | 2015",
        "cologne3 | 25200 | 28800 | 3 | 2856",
        "cologne8 | 25200 | 28800 | 8 | 2046",
        "ingolstadt1 | 57600 | 61200 | 1 | 1716",
        "ingolstadt7 | 57600 | 61200 | 7 | 3031",
        "ingolstadt21 | 57600 | 61200 | 21 | 4281",
        "grid4x4 | 0 | 3600 | 16 | 1473",
        "arterial4x4 | 0 | 3600 | 16 | 2484",
    ]


def test_the_vehicles_of_a_scenario_are_counted(headway, monkeypatch, little):
    monkeypatch.setattr(room, "RESCO", (str(little),))
    assert headway("scenarios").rows[1].endswith("0 | 40 | 1 | 2")


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("7", [7]),
        ("1-3", [1, 2, 3]),
        ("1,4", [1, 4]),
        ("1-3,7", [1, 2, 3, 7]),
        ("0-0", [0]),
        ("5-6,5", [5, 6]),
    ],
)
def test_seeds_are_numbers_and_spans(text, seeds):
    assert room.parse_seeds(text) == seeds


class Runs:
    """Stands for the runs of a benchmark: writes down the jobs, and gives a result for each,
    last first.
    """

    def __init__(self, fails=()):
        self.jobs, self.workers, self.fails = [], None, fails

    def __call__(self, jobs, workers):
        self.jobs, self.workers = jobs, workers
        for job in reversed(jobs):
            name = job.scenario.rsplit("/", 1)[-1].removesuffix(".sumocfg")
            if (job.controller, job.seed) in self.fails:
                yield Result(
                    name,
                    job.controller,
                    job.seed,
                    job.timing,
                    job.sensing,
                    job.scale,
                    error="ValueError: it broke [bold]here",
                )
            else:
                delay = {"fixed": 40.0, "planner": 20.0}.get(job.controller, 30.0) + job.seed
                yield Result(
                    name,
                    job.controller,
                    job.seed,
                    job.timing,
                    job.sensing,
                    job.scale,
                    delay,
                    delay / 2,
                    arrived=100,
                    never_entered=2,
                )


@pytest.fixture
def runs(monkeypatch):
    found = Runs()
    monkeypatch.setattr(room, "spread", lambda _: found)
    return found


@pytest.mark.slow
def test_a_benchmark_runs_all_of_its_options(headway, runs, little):
    ran = headway("bench")
    assert ran.status == 0
    assert runs.jobs == [Job("cologne8", c, s) for s in (1, 2, 3) for c in ("fixed", "planner")]
    assert runs.workers == (os.cpu_count() or 1)
    headway("bench", "--scenario", "cologne1,cologne3", "--controller", "greedy", "--seeds", "4",
        "--scale", "0.5", "--timing", "street",
            "--sensing", "loops", "--jobs", "3", "--keep", "trips")  # fmt: skip
    assert runs.jobs == [
        Job(n, "greedy", 4, "street", "loops", 0.5, "trips") for n in ("cologne1", "cologne3")
    ]
    assert runs.workers == 3
    headway("bench", "--scenario", "all", "--seeds", "1", "--controller", "fixed")
    assert [j.scenario for j in runs.jobs] == list(RESCO)
    headway(
        "bench", "--sumocfg", little, "--scenario", "all", "--seeds", "1", "--controller", "fixed"
    )
    assert [j.scenario for j in runs.jobs] == [str(little)]


@pytest.mark.slow
def test_a_benchmark_takes_the_figures_of_a_settings_file(headway, runs, tmp_path):
    Path("own.yaml").write_text("planner: {headway_s: 2.2}")
    one = ("bench", "--scenario", "cologne1", "--controller", "planner", "--seeds", "1")
    assert headway(*one, "--config", "own.yaml").status == 0
    assert runs.jobs == [Job("cologne1", "planner", 1, config="own.yaml")]
    Path("own.yaml").write_text("planner: {headway_s: 0}")
    assert "planner.headway_s" in headway(*one, "--config", "own.yaml").err


def test_scenarios_of_one_file_name_are_told_apart_by_their_folders():
    same = ["a/x/run.sumocfg", "b/x/run.sumocfg", "b/y/run.sumocfg", "cologne1", "b/y/walk.sumocfg"]
    assert list(room.labels(same).values()) == ["a-x-run", "b-x-run", "y-run", "", ""]


def test_what_is_named_twice_is_run_once(headway, runs):
    """Seeds counted twice would make a difference certain that is none."""
    twice = ("--scenario", "cologne1,cologne1", "--controller", "fixed,fixed")
    headway("bench", *twice, "--seeds", "1,1-2")
    assert runs.jobs == [Job("cologne1", "fixed", s) for s in (1, 2)]


def test_a_benchmark_prints_a_table_and_writes_its_figures_in_the_order_of_the_work(
    headway, runs, tmp_path
):
    ran = headway(
        "bench",
        "--scenario",
        "cologne1",
        "--controller",
        "fixed,planner",
        "--seeds",
        "1,2",
        "--json",
        "out.json",
    )
    found = json.loads((tmp_path / "out.json").read_text())
    assert [(r["controller"], r["seed"], r["delay_s"]) for r in found] == [
        ("fixed", 1, 41.0),
        ("planner", 1, 21.0),
        ("fixed", 2, 42.0),
        ("planner", 2, 22.0),
    ]
    assert set(found[0]) == set(Result("", "", 0, "", "", 1.0).flat())
    assert ran.rows[-3:] == [
        "scenario | controller | delay s | of fixed | p | wait s | done | out | bad",
        "cologne1 | fixed | 41.5 ± 6.4 |  |  | 20.8 ± 3.2 | 100 | 2 | 0",
        "cologne1 | planner | 21.5 ± 6.4 | 0.52 | 0.0108 | 10.8 ± 3.2 | 100 | 2 | 0",
    ]


def test_a_benchmark_judges_models_by_file_version_and_alias(headway, runs, record):
    Path("my tuned.yaml").write_text("planner: {headway_s: 2.5}")
    database = open_database(record)
    registry = Registry(database, record, signing_key(record))
    what = {"name": "own", "kind": "planner", "made_from": {}, "metrics": {}, "by": "ann"}
    one, two = (registry.add(f"planner: {{headway_s: {s}}}".encode(), **what) for s in (2.1, 2.2))
    registry.set_alias("north", "", "champion", one.id, "ann")
    words = ("--scenario", "cologne1", "--seeds", "1", "--data", record, "--controller")
    assert headway("bench", *words, "fixed,my tuned.yaml,own@champion,own@2").status == 0
    assert [job.controller for job in runs.jobs] == ["fixed", "my tuned.yaml", "own@1", "own@2"]
    fixed, file, champion, newest = (job.model for job in runs.jobs)
    assert (fixed, champion, newest) == (None, registry.file(one), registry.file(two))
    assert (file.name, file.kind) == ("my-tuned", "planner")
    assert file.path == str(Path("my tuned.yaml").resolve())
    for controllers, said in (
        ("own@9", "own@9: no such model"),
        ("own@shadow", "no version of 'own' is shadow"),
        ("none.yaml", "A model is given as the path of its file, NAME@VERSION or"),
    ):
        ran = headway("bench", *words, controllers)
        assert (ran.status, said in " ".join(ran.err.split())) == (2, True)
    Path("other").mkdir()
    Path("other/my tuned.yaml").write_text("planner: {}")
    ran = headway("bench", *words, "my tuned.yaml,other/my tuned.yaml")
    assert (ran.status, "two of the controllers are called my" in ran.err) == (2, True)
    ran = headway("bench", *words, "own@1,own@champion")
    assert [job.controller for job in runs.jobs] == ["own@1"]
    database.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--controller", "fixed,magic"], "no controller 'magic'. There are: fixed,"),
        (["--timing", "slow"], "no timing 'slow'. There are: benchmark, street."),
        (["--sensing", "eyes"],
            "no sensing 'eyes'. There are: connected, camera, loops, rendered, external."),
            (["--seeds", "x"], "seeds 'x': give whole numbers"),
        (["--seeds", "1-x"], "seeds '1-x': give whole numbers"),
        (["--seeds", ""], "seeds '': give whole numbers"),
        (["--seeds", "3-1"], "seeds '3-1' is empty."),
        (["--scale", "0"], "0.01"), (["--scale", "0.009"], "0.01"), (["--jobs", "0"], "--jobs"),
    ],
)  # fmt: skip
def test_a_benchmark_that_cannot_be_is_refused(headway, runs, words, said):
    ran = headway("bench", *words)
    assert (ran.status, said in ran.err, runs.jobs) == (2, True, [])


def test_bounds_of_a_benchmark_are_within(headway, runs):
    assert headway("bench", "--scale", "0.01", "--jobs", "1").status == 0
    assert (runs.jobs[0].scale, runs.workers) == (0.01, 1)


def test_a_scenario_that_is_none_fails_before_anything_runs(headway, runs):
    ran = headway("bench", "--scenario", "cologne1,paris")
    assert (ran.status, runs.jobs) == (1, [])
    assert ran.err.startswith("headway: no scenario 'paris'. There are: cologne1, cologne3,")


def test_a_run_that_fails_is_told_in_full_and_the_status_is_1(headway, runs, tmp_path):
    runs.fails = [("planner", 2)]
    ran = headway("bench", "--scenario", "cologne1", "--seeds", "1-2", "--json", "out.json")
    assert (ran.status, ran.err) == (
        1,
        "cologne1 planner seed 2: ValueError: it broke [bold]here\n",
    )
    assert any("seed 2 FAILED" in row for row in ran.rows)
    assert len(json.loads((tmp_path / "out.json").read_text())) == 4
    runs.fails = []
    assert headway("bench", "--scenario", "cologne1").err == ""


def test_the_demo_serves_both_streets_at_ten_times_real_time(headway, monkeypatch):
    served = []
    monkeypatch.setattr(
        importlib.import_module("headway.cli.serve"), "serve", lambda *words: served.append(words)
    )
    ran = headway("demo")
    assert ran.status == 0
    assert ran.out.startswith("One hour of morning traffic in Cologne, twice, ten times real time")
    headway("demo", "--port", "65535", "--data", "elsewhere")
    assert served == [
        ("cologne8", True, 10.0, "127.0.0.1", 8000, "data/demo", "", 6000, "street", True),
        ("cologne8", True, 10.0, "127.0.0.1", 65535, "elsewhere", "", 6000, "street", True),
    ]
    assert headway("demo", "--port", "0").status == 0
    assert headway("demo", "--port", "-1").status == 2
    assert headway("demo", "--port", "65536").status == 2


def test_the_demo_without_a_page_is_a_benchmark_of_two(headway, runs):
    ran = headway("demo", "--headless")
    assert ran.status == 0
    assert runs.jobs == [Job("cologne8", "fixed", 1), Job("cologne8", "planner", 1)]
    assert runs.workers == (os.cpu_count() or 1)
    assert ran.out.startswith(
        "One hour of morning traffic in Cologne (RESCO cologne8, 2,046 vehicles, "
        "8 junctions), twice:"
    )
    assert "cologne8 | fixed | 41.0" in "\n".join(ran.rows)
    runs.fails = [("fixed", 1)]
    assert headway("demo", "--headless").status == 1


@pytest.fixture
def training(monkeypatch):
    """Stands for the training: writes down what it is given, and tells of each episode."""
    given = []

    def train(of, network, timing, table, settings):
        given.append(
            types.SimpleNamespace(
                of=of, network=network, timing=timing, table=table, settings=settings
            )
        )
        for number in range(settings.episodes):
            yield Episode(number, 1.25 + number, 50, 7, 0.125)

    monkeypatch.setattr(room.training, "train", train)
    return given


def test_training_tells_of_each_episode(headway, training, little, tmp_path):
    ran = headway("train", "--scenario", little, "--episodes", "2", "--out", "q.npz")
    assert ran.status == 0
    lines = [line.rstrip() for line in ran.out.splitlines()]
    assert "episode 1: mean stopped 1.2, states 7, TD error 0.12" in lines
    assert "episode 2: mean stopped 2.2, states 7, TD error 0.12" in lines
    assert lines[-1] == "0 states in q.npz"
    (given,) = training
    assert (given.of.name, given.settings.episodes) == ("little", 2)
    assert (given.table.actions, given.table.rows) == (
        max(len(j.stages) for j in given.network.junctions),
        given.settings.rows,
    )
    assert (tmp_path / "q.npz").exists()


def test_training_has_its_defaults_and_bounds(headway, training, tmp_path):
    headway("train")
    assert (training[0].of.name, training[0].settings.episodes) == ("cologne1", 10)
    assert training[0].table.path == DEFAULT_TABLE
    headway("train", "--episodes", "1", "--timing", "street")
    assert training[1].settings.episodes == 1
    assert headway("train", "--episodes", "0").status == 2
    ran = headway("train", "--timing", "slow")
    assert (ran.status, "no timing 'slow'. There are: benchmark, street." in ran.err) == (2, True)
    ran = headway("train", "--scenario", "paris")
    assert (ran.status, ran.err.startswith("headway: no scenario 'paris'.")) == (1, True)


def test_the_timing_is_the_one_asked_for(headway, training, little):
    for name in PROFILES:
        headway("train", "--scenario", little, "--timing", name)
        given = training.pop()
        assert repr(given.timing) == repr(work_out(given.network, PROFILES[name]))


def test_a_table_that_is_there_is_trained_on(headway, training, monkeypatch, little, tmp_path):
    read = []
    monkeypatch.setattr(
        QTable, "read", classmethod(lambda cls, path: read.append(path) or QTable(4, 8, path))
    )
    (tmp_path / "q.npz").write_bytes(b"a table")
    headway("train", "--scenario", little, "--out", "q.npz")
    assert [str(p) for p in read] == ["q.npz"]
    headway("train", "--scenario", little, "--out", "new.npz")
    assert len(read) == 1


def test_a_table_of_another_network_is_not_trained_on(headway, training, little, tmp_path):
    headway("train", "--scenario", little, "--out", "q.npz")
    (given,) = training
    assert given.table.network == network_stamp(given.network)
    QTable(given.table.actions, 8, tmp_path / "other.npz", network=7)
    ran = headway("train", "--scenario", little, "--out", "other.npz")
    assert (ran.status, "was trained for another network" in ran.err) == (2, True)
    assert headway("train", "--scenario", little, "--out", "q.npz").status == 0


def test_two_trainings_do_not_change_one_table(headway, training, little, tmp_path):
    path = tmp_path / "q.npz"
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        ran = headway("train", "--scenario", little, "--out", "q.npz")
    assert (ran.status, training, path.stat().st_size) == (2, [], 0)
    assert "q.npz: another training changes it. Wait for its end, or give another" in ran.err
    assert headway("train", "--scenario", little, "--out", "q.npz").status == 0
    assert path.stat().st_size > 0


def test_a_training_that_does_not_begin_leaves_no_file(headway, training, little, tmp_path):
    for bad in (["--timing", "slow"], ["--config", "none.yaml"]):
        assert headway("train", "--scenario", little, "--out", "new/q.npz", *bad).status != 0
    assert not list(tmp_path.rglob("*.npz"))


@pytest.fixture
def watched(monkeypatch):
    """The tasks that would have been run."""
    found = []
    monkeypatch.setattr(room, "run_to_end", lambda task, console: found.append(task))
    return found


def test_a_street_runs_as_the_settings_say_where_nothing_is_asked(headway, watched):
    assert headway("run").status == 0
    assert watched == [
        Task(
            Settings(), float("inf"), "", {"street": {}, "control": {}, "recovery": {}, "loop": {}}
        )
    ]


def test_a_street_runs_as_asked_over_its_settings(headway, watched, tmp_path):
    (tmp_path / "h.yaml").write_text(
        "loop: {cycle_s: 60, speed_factor: 3}\nstreet: {seed: 9, scenario: cologne8}\n"
    )
    assert headway(
        "run", "--scenario", "cologne3", "--controller", "webster", "--speed-factor", "0",
        "--until", "26000", "--timing", "benchmark",
        "--config", "h.yaml", "--data", "there",
    ).status == 0  # fmt: skip
    changes = {
        "street": {"scenario": "cologne3", "timing": "benchmark"},
        "control": {"controller": "webster"}, "recovery": {"folder": "there"},
        "loop": {"speed_factor": 0.0},
    }  # fmt: skip
    base = overridden(
        Settings(), {"loop": {"cycle_s": 60.0, "speed_factor": 3.0}, "street": {"seed": 9}}
    )
    assert watched == [Task(overridden(base, changes), 26000.0, "h.yaml", changes)]
    for value in ("-0.5", "-1"):
        assert headway("run", "--config", "h.yaml", "--speed-factor", value).status == 2
    headway("run", "--config", "h.yaml")
    assert watched[1].settings.loop.speed_factor == 3.0
    assert watched[1].changes["loop"] == {}


def test_the_old_name_of_the_speed_factor_is_taken(headway, watched):
    headway("run", "--speed-factor", "7")
    headway("run", "--realtime", "7")
    assert watched[0] == watched[1]
    assert watched[1].changes["loop"] == {"speed_factor": 7.0}


@pytest.mark.parametrize("given", ["rendered", "pictures"])
def test_a_benchmark_takes_the_old_name_of_rendered_cameras_and_writes_the_new_one(
    headway, runs, tmp_path, given
):
    headway("bench", "--scenario", "cologne1", "--sensing", given, "--json", "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert {r["sensing"] for r in found} == {"rendered"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scenario", "paris"], "headway: no scenario 'paris'."),
        (["--controller", "magic"], "control.controller"),
        (["--timing", "slow"], "street.timing"), (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--speed-factor", "1001"], "loop.speed_factor"),
    ],
)  # fmt: skip
def test_a_street_that_cannot_be_fails_with_the_reason(headway, watched, words, said):
    ran = headway("run", *words)
    assert (ran.status, ran.out, said in ran.err, watched) == (1, "", True, [])


def test_results_come_in_the_order_of_the_work(monkeypatch):
    work = [Job("cologne3", c, s) for s in (2, 1) for c in ("planner", "fixed")]
    assert [(r.controller, r.seed) for r in room.progress(work, 1, Runs())] == [
        ("planner", 2),
        ("fixed", 2),
        ("planner", 1),
        ("fixed", 1),
    ]


def test_without_a_q_table_the_user_is_told_that_the_fallback_decides(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HEADWAY_QTABLE", str(tmp_path / "q.table"))
    warn_without_q_table(["planner", "fixed"])
    assert capsys.readouterr().err == ""
    warn_without_q_table(["fixed", "q-learning"])
    assert capsys.readouterr().err == (
        f"No Q-table at {tmp_path / 'q.table'}: the fallback decides in place of q-learning. Train "
        "one: headway train.\n"
    )
    (tmp_path / "q.table").touch()
    warn_without_q_table(["q-learning"])
    assert capsys.readouterr().err == ""


def test_the_benchmark_of_a_learner_without_its_table_is_refused(
    headway, runs, tmp_path, monkeypatch
):
    """Its figures would be those of its fallback, under its name."""
    monkeypatch.setenv("HEADWAY_QTABLE", str(tmp_path / "q.table"))
    ran = headway("bench", "--scenario", "cologne1", "--controller", "fixed,q-learning")
    assert (ran.status, "no Q-table at" in ran.err, runs.jobs) == (2, True, [])


@pytest.mark.parametrize(("command", "package"), [("street", "fastapi"), ("kpp", "sqlalchemy")])
def test_a_command_loads_no_more_than_it_needs(command, package):
    """The service takes seconds to load, and memory: a box at the roadside has little of both."""
    code = f"import sys; from headway.cli import application; application(['{command}']); "
    loaded = f"sys.exit('{package}' in sys.modules or 'headway.cli.{command}' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code + loaded], check=False).returncode == 0


def test_the_version_is_told_without_the_commands():
    """Which take seconds to load: an update asks for it several times, beside what runs."""
    code = (
        "import sys; sys.argv = ['headway', '--version']; from headway.cli import main; main(); "
        "assert not {'typer', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"headway {package.__version__}\n",
        "",
    )
