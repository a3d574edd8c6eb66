"""Which tests reach which line, and how long each takes: from a run of the tests under coverage.py,
with a context for each test.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from coverage import CoverageData

BUILD = Path("build/mutants")
# what `make reached` leaves
COVERAGE, TIMES = Path("build/tests.coverage"), Path("build/tests.json")
KERNEL_TESTS = ("tests/safety", "tests/control", "tests/plants", "tests/runtime", "tests/street")
LONGEST_INTERPRETED_S = (
    90.0  # a test stopped by it may take its worker along; the longest of the gate takes 27 s
)


@dataclass
class Reach:
    """lines: of each source file, the tests that run each line; seconds: what each test took, of
    those that pass.
    """

    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def of(
        self, path: str, line: int, end: int, importing: bool, own: tuple[str, ...]
    ) -> list[str]:
        """Tests that reach a line; of what is run at import, those that reach anything in the file,
        and all whose names begin with one of `own`.
        """
        lines = self.lines.get(path, {})
        found = {
            t for k in (lines if importing else range(line, end + 1)) for t in lines.get(k, ())
        }
        if importing:
            found.update(t for t in self.seconds if t.startswith(own))
        return sorted(t for t in found if t in self.seconds)


def state_of(root: Path, *what: str) -> str:
    """A name for the contents of the source, the tests and this tool as they lie in the folder."""
    total = hashlib.sha256(repr(what).encode())
    for folder, names in (
        ("src", "*"),
        ("tests", "*"),
        ("bench/mutants", "*.py"),
        (".", "pyproject.toml"),
        (".", "requirements-test.lock"),
    ):
        for file in sorted(
            (root / folder).glob(names) if folder == "." else (root / folder).rglob(names)
        ):
            if (
                file.is_file()
                and "__pycache__" not in file.parts
                and not any(p.endswith(".egg-info") for p in file.parts)
            ):
                total.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()[:16]


def reach(root: Path, tests: list[str], interpreted: bool, processes: int) -> Reach:
    """Run `tests` once (the last run's figures where nothing has changed since). Interpreted:
    numba's functions as plain Python.

    Raises RuntimeError if the run did not come to its end.
    """
    if not interpreted and tests == ["tests"] and is_of_now(root):
        return read(root, root / COVERAGE, root / TIMES)
    name = f"{state_of(root, *tests)}-{'interpreted' if interpreted else 'compiled'}"
    data, times = root / BUILD / f"{name}.coverage", root / BUILD / f"{name}.json"
    if not (data.exists() and times.exists()):
        print(
            f"Running {' '.join(tests)} "
            f"once{' without the compiler' if interpreted else ''} to learn which test "
            "reaches which line ..."
            + (
                " (all of them: `make reached` leaves it, where nothing has changed since)"
                if tests == ["tests"] and not interpreted
                else ""
            ),
            flush=True,
        )
        data.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pytest", *tests, "-q", "--no-header",
            "--hypothesis-profile", "no-shrinking", "-p", "bench.mutants.times", f"--times={times}",
                   "--cov=src/headway", "--cov-context=test", "--cov-report=", "-n",
                   str(processes)]  # fmt: skip
        if interpreted:
            command += [
                "-m",
                "not database and not browser",
                f"--timeout={LONGEST_INTERPRETED_S}",
                "--timeout-method=signal",
            ]
        done = subprocess.run(
            command,
            cwd=root,
            env=environment(root, interpreted) | {"COVERAGE_FILE": str(data)},
            capture_output=True,
            text=True,
        )
        if done.returncode not in (0, 1) or not times.exists():
            raise RuntimeError(
                "the tests did not come to their end (status "
                f"{done.returncode}):\n{done.stdout[-3000:]}{done.stderr[-2000:]}"
            )
        print(done.stdout.strip().splitlines()[-1], flush=True)
    return read(root, data, times)


def is_of_now(root: Path) -> bool:
    """Whether the last `make reached` was of the whole suite, and nothing has changed since."""
    if not ((root / COVERAGE).exists() and (root / TIMES).exists()):
        return False
    run = json.loads((root / TIMES).read_text())
    return bool(run["whole"]) and run["state"] == state_of(root)


def read(root: Path, data: Path, times: Path) -> Reach:
    """What a run has left. Of what a test reaches in its set-up, all tests of that file are taken
    to reach it: fixtures are shared.
    """
    found = Reach(seconds=json.loads(times.read_text())["seconds"])
    by_file: dict[str, list[str]] = {}
    for test in found.seconds:
        by_file.setdefault(test.split("::")[0], []).append(test)
    covered = CoverageData(str(data))
    covered.read()
    for file in covered.measured_files():
        if not Path(file).is_relative_to(root):
            continue
        lines = found.lines.setdefault(str(Path(file).relative_to(root)), {})
        for line, contexts in covered.contexts_by_lineno(file).items():
            tests = lines.setdefault(line, set())
            for context in contexts:
                test, phase = split(context)
                tests.update([test] if phase == "run" else by_file.get(test.split("::")[0], []))
    return found


def split(context: str) -> tuple[str, str]:
    """The test and the phase of a context: pytest-cov's "test|run", or in a process that a test has
    started "test (call)".
    """
    if "|" in context:
        test, _, phase = context.rpartition("|")
        return test, phase
    test, _, phase = context.rpartition(" (")
    return test, "run" if phase == "call)" else "setup"


def environment(root: Path, interpreted: bool) -> dict[str, str]:
    """Variables under which the tests run on the source of `root`."""
    return os.environ | {
        "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}", "HEADWAY_KEEP_COMPILED": "1",
        "NUMBA_DISABLE_JIT": "1" if interpreted else "0", "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "HEADWAY_DATA": os.environ.get("HEADWAY_DATA", str(root.parent / "shared/data")),
    }  # fmt: skip
