"""Stories of what was asked, row by row: through the doors that a user has (command line, REST,
sockets, settings files), on a service that runs as a process of its own.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

LINK = re.compile(r"(http://[\d.:]+)/#token=(\S+)")
STARTS_WITHIN_S = 120.0


def pytest_collection_modifyitems(items):
    """One worker runs all stories, since they share a service."""
    for item in items:
        if item.get_closest_marker("row"):
            item.add_marker(pytest.mark.xdist_group("requirements"))
            item.add_marker("slow")


class Figures:
    """Takes the figures of a story to `python -m bench rows`. asked: as it was asked, or empty."""

    def __init__(self, record):
        self._record = record

    def add(self, name, measured, unit="", asked=""):
        if isinstance(measured, np.generic):  # another process cannot be told it
            measured = measured.item()
        self._record("figure", {"name": name, "measured": measured, "unit": unit, "asked": asked})


@pytest.fixture
def figures(request):
    return Figures(lambda name, value: request.node.user_properties.append((name, value)))


class Product:
    """A service that runs. url; token: of an administrator; folder: its data; database_url; lines:
    its output.
    answered_s, ready_s: after its start; starting: the parts that it named meanwhile.
    """

    def __init__(self, process, folder, database_url):
        self.process, self.folder, self.lines = process, folder, []
        self.database_url = database_url
        self.begun, self.answered_s, self.ready_s = time.monotonic(), math.nan, math.nan
        self.starting = set()
        self._ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        assert self._ready.wait(STARTS_WITHIN_S), "\n".join(self.lines)
        self.url, self.token = next(filter(None, map(LINK.search, self.lines))).groups()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if LINK.search(line):
                self._ready.set()
        self._ready.set()

    def http(self, **more):
        """A client with the administrator's credentials."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0, **more)

    def is_ready(self):
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{self.url}/health/ready")
            self.starting |= set(answer.json().get("starting", ()))
            if math.isnan(self.answered_s):
                self.answered_s = time.monotonic() - self.begun
            return answer.status_code == 200
        return False


# those of tests are on this machine
CAMERAS = {"HEADWAY_CAMERAS__ALLOWED_NETWORKS": '["127.0.0.0/8"]'}


@contextlib.contextmanager
def serving(folder, database_url, *arguments, **variables):
    """`headway serve ARGUMENTS` on a free port, until the end of the block."""
    from tests.waiting import until

    command = [sys.executable, "-m", "headway", "serve", "--port", "0", "--data", str(folder)]
    process = subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "HEADWAY_DATABASE_URL": database_url, **CAMERAS, **variables},
    )
    try:
        product = Product(process, Path(folder), database_url)
        until(lambda: product.is_ready() or process.poll() is not None, STARTS_WITHIN_S)
        assert process.poll() is None, "\n".join(product.lines)  # it has ended
        product.ready_s = time.monotonic() - product.begun
        yield product
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def serve(tmp_path_factory, new_record):
    """Starts a service of one's own: `with serve("--scenario", "cologne1") as product:`."""

    def start(*arguments, folder=None, **variables):
        folder = folder or tmp_path_factory.mktemp("service")
        return serving(folder, new_record(), *arguments, **variables)

    return start


@pytest.fixture(scope="session")
def serve_on(tmp_path_factory):
    """The same on a database of one's own: `with serve_on(url) as product:`."""

    def start(url, *arguments, **variables):
        return serving(tmp_path_factory.mktemp("service"), url, *arguments, **variables)

    return start


@pytest.fixture(scope="session")
def product(serve):
    """One service for all stories: cologne1 at ten times real time, fixed time beside it."""
    with serve("--scenario", "cologne1", "--per-minute", "0") as running:
        yield running


@pytest.fixture
def shortened(tmp_path_factory):
    """Writes a scenario of the catalogue whose demand ends after some seconds; its .sumocfg."""
    from headway.plants.sumo.scenarios import scenario

    def write(name, seconds):
        found = scenario(name)
        folder = tmp_path_factory.mktemp("scenarios")
        for file in (found.net, *found.routes):
            shutil.copy(file, folder)
        end = f'<end value="{found.end_s:.0f}"/>'
        text = Path(found.sumocfg).read_text(encoding="utf-8")
        assert end in text
        path = folder / f"{name}.sumocfg"
        path.write_text(text.replace(end, f'<end value="{found.begin_s + seconds:.0f}"/>'))
        return path

    return write


@pytest.fixture
def headway():
    """Runs a command to its end: `headway("run", "--scenario", "cologne1")`."""

    def run(*arguments, timeout=300, **variables):
        return subprocess.run(
            [sys.executable, "-m", "headway", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **variables},
        )

    return run
