"""Many runs of the benchmark, over the machines of a Ray cluster (extra `cluster`).

Ray gives each run to a processor that is free, anywhere. A run that is lost with its process or its
machine is made once more elsewhere; no other run notices. Every machine needs the same version of
Headway, and a scenario of one's own under the same path; files of settings and models are carried.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from headway import __version__
from headway.experiments.benchmark import Job, Result, run_guarded
from headway.experiments.processes import RUNS_EACH, Make, run_all

ADDRESS = "RAY_ADDRESS"
LOCAL = "local"  # the address of a cluster that is started for this, on this machine alone
RETRIES = 2  # of a run that was lost; more often is no fault of the machine
AHEAD = 2  # runs handed over for each processor, so that none waits for the next one

REACHED_WITHIN_S = 10.0

Run = Callable[[list[Job], int], Iterator[Result]]


def spread(address: str | None = None) -> Run:
    """What makes runs: over the cluster at `address` (`auto`: the one of this machine; `local`: one
    that is started for this; HOST:PORT), or over processes where it is empty. None: what Ray's own
    variable, ADDRESS, says.

    Raises ValueError where Ray is not installed.
    """
    if address is None:
        address = os.environ.get(ADDRESS, "")
    if not address:
        return run_all
    _ray()
    return partial(run_on_cluster, address)


def run_on_cluster(
    address: str, jobs: list[Job], _workers: int = 0, make: Make = run_guarded
) -> Iterator[Result]:
    """As `processes.run_all`, over a cluster: as many runs at once as it has processors.

    _workers: as `run_all` has it; not used. Raises ValueError where there is no cluster.
    """
    if not jobs:
        return
    ray = _ray()
    with _connected(ray, address):
        task = ray.remote(num_cpus=1, max_calls=RUNS_EACH, max_retries=RETRIES)(_unit)
        waiting, under_way = deque(jobs), dict[Any, Job]()
        try:
            while waiting or under_way:
                most = AHEAD * max(int(ray.cluster_resources().get("CPU", 1)), 1)
                while waiting and len(under_way) < most:
                    job = waiting.popleft()
                    under_way[task.remote(_Unit.of(job), make, __version__)] = job
                for done in ray.wait(list(under_way), num_returns=1)[0]:
                    yield _result(ray, done, under_way.pop(done))
        finally:
            for left in under_way:
                ray.cancel(left, force=True)


@dataclass(frozen=True, slots=True)
class _Unit:
    """A job with the files that it needs. None: there is none, or it cannot be read here."""

    job: Job
    config: bytes | None
    model: bytes | None

    @classmethod
    def of(cls, job: Job) -> _Unit:
        return cls(job, _content(job.config), _content(job.model.path if job.model else ""))

    def unpacked(self, folder: Path) -> Job:
        """The job with its files in a folder of this machine."""
        job = self.job
        if self.config is not None:
            path = folder / f"config{Path(job.config).suffix}"
            path.write_bytes(self.config)
            job = replace(job, config=str(path))
        if self.model is not None and job.model is not None:
            path = folder / f"model{Path(job.model.path).suffix}"
            path.write_bytes(self.model)
            job = replace(job, model=replace(job.model, path=str(path)))
        return job


def _content(path: str) -> bytes | None:
    return Path(path).read_bytes() if path and Path(path).is_file() else None


def _unit(unit: _Unit, make: Make, version: str) -> Result:
    """Made on some machine of the cluster."""
    if version != __version__:
        raise ValueError(
            f"this machine has Headway {__version__}, the one that asks has {version}. Install the "
            "same on all."
        )
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        return replace(make(unit.unpacked(Path(folder))), **unit.job.identity())


def _result(ray: Any, done: Any, job: Job) -> Result:
    try:
        result: Result = ray.get(done)
    except ray.exceptions.RayTaskError as error:  # raised by `_unit`
        cause = error.cause
        return Result(**job.identity(), error=f"{type(cause).__name__}: {cause}")
    except ray.exceptions.RayError as error:
        return Result(**job.identity(), error=f"lost {RETRIES + 1} times: {_first_line(error)}")
    return result


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """A connection that is there already is used, and left."""
    if ray.is_initialized():
        yield
        return
    try:
        _require_reachable(address)
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="error",
            configure_logging=False,
            **({"include_dashboard": False} if address == LOCAL else {}),
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ValueError(
            f"cluster {address!r}: {_first_line(error)} Start one (`ray start --head`), or give "
            f"{LOCAL!r}."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _require_reachable(address: str) -> None:
    """Ray itself tries for minutes. Raises OSError."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), REACHED_WITHIN_S).close()


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise ValueError(
            "Ray is not installed, which a cluster needs. Install it: pip install 'ray>=2.50'"
        ) from None
    return ray
