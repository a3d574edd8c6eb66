"""Runs over the two machines of a Ray cluster, each with one processor, both on this one."""

from __future__ import annotations

import importlib.util
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.experiments.runs import FAILS, IS_KILLED, play, reads_its_settings, takes_long

from headway.control.models import ModelFile
from headway.experiments import cluster, processes
from headway.experiments.benchmark import Job

OF = Job("well", "c", 0)
HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed")


def of(*scenarios):
    return [replace(OF, scenario=name, seed=seed) for seed, name in enumerate(scenarios)]


def test_without_an_address_runs_are_over_processes(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster.spread("") is cluster.spread() is processes.run_all
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert cluster.spread() is processes.run_all


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_a_cluster_needs_ray():
    with pytest.raises(ValueError, match=r"^Ray is not installed.*Install it: pip install"):
        cluster.spread("auto")


@pytest.fixture(scope="module")
def machines():
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    made.shutdown()


@needs_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
class TestTwoMachines:
    def test_every_run_is_made_once_though_a_machine_is_lost_in_the_middle(self, machines):
        """It takes two runs along; they are made on the one that is left."""
        import ray

        ray.init(address=machines.address, log_to_driver=False)
        try:
            second = machines.add_node(num_cpus=1)
            machines.wait_for_nodes()
            jobs = of(*["well"] * 12)
            found = []
            for result in cluster.run_on_cluster("auto", jobs, make=takes_long):
                found.append(result)
                if len(found) == 3:
                    machines.remove_node(second, allow_graceful=False)
            assert sorted(r.seed for r in found) == list(range(12))
            assert not [r.error for r in found if r.error]
        finally:
            ray.shutdown()

    def test_a_run_that_ends_its_process_or_fails_is_a_result_with_its_error(self, machines):
        jobs = of("well", IS_KILLED, FAILS)
        found = {r.seed: r for r in cluster.spread(machines.address)(jobs, 1)}
        assert found.keys() == {0, 1, 2}
        assert "well" in found[0].error, "no scenario of that name"
        found = {r.seed: r for r in cluster.run_on_cluster(machines.address, jobs, make=play)}
        assert found[0].error == ""
        assert found[1].error.startswith("lost 3 times: The worker died")
        assert found[2].error == "KeyError: 'a fault of the program'"

    def test_files_of_settings_and_models_are_carried_and_results_are_of_the_job(
        self, machines, tmp_path
    ):
        for name in ("tuned.yaml", "model.yaml"):
            (tmp_path / name).write_text(f"# {name}")
        model = ModelFile("m", 1, "planner", "0" * 64, str(tmp_path / "model.yaml"))
        job = replace(OF, config=str(tmp_path / "tuned.yaml"), model=model)
        (found,) = cluster.run_on_cluster(machines.address, [job], make=reads_its_settings)
        assert found.error == "# tuned.yaml, # model.yaml"
        assert found.config == job.config
        assert list(cluster.run_on_cluster(machines.address, [])) == []

    def test_a_machine_with_another_version_says_so(self, machines, monkeypatch):
        monkeypatch.setattr(cluster, "__version__", "0.0.1")
        (found,) = cluster.run_on_cluster(machines.address, of("well"), make=play)
        assert found.error.endswith("the one that asks has 0.0.1. Install the same on all."), (
            found.error
        )


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_where_no_cluster_is_the_address_is_named_within_seconds():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(ValueError, match=rf"^cluster '127.0.0.1:{port}': .*ray start --head"):
        next(cluster.run_on_cluster(f"127.0.0.1:{port}", of("well")))
    assert time.monotonic() - begun < 60.0


def test_a_file_that_is_not_there_is_left_for_the_run_to_name(tmp_path):
    job = replace(OF, config=str(tmp_path / "none.yaml"))
    unit = cluster._Unit.of(job)
    assert (unit.config, unit.model) == (None, None)
    assert unit.unpacked(Path(tmp_path)) == job
