"""python -m bench.mutants [PACKAGE ...]: a seeded sample of small faults per package, each against
the tests that reach its line, fastest first.

Prints the score by package and the survivors. Stopped, the same call goes on where it was, as long
as source and tests are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import Any, TextIO

from bench.mutants.places import Mutant, changed_lines, package_of, packages, sample
from bench.mutants.reach import BUILD, KERNEL_TESTS, Reach, environment, is_of_now, reach, state_of

EQUIVALENT = Path(__file__).parent / "equivalent.toml"
Job = tuple[Mutant, list[str], float]  # the mutant, the tests to run, the seconds that they took
LONGEST_S = 30.0  # of the tests asked of one mutant in all, by what they took when all was well


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "packages",
        nargs="*",
        metavar="PACKAGE",
        help="package below src/headway, such as roads or plants/sumo; all if none is named",
    )
    parser.add_argument("--seed", default="1", help="of the sample, 1 if not given")
    parser.add_argument(
        "--count",
        type=positive,
        help="mutants per package, 40 if not given (with --changed: in all, 20)",
    )
    parser.add_argument(
        "--changed", default="", metavar="REV", help="only lines changed since this revision of git"
    )
    parser.add_argument("--tests", nargs="+", default=["tests"], help="run only these tests")
    parser.add_argument(
        "--files", nargs="+", default=[], help="only files whose path contains one of these words"
    )
    parser.add_argument(
        "--survivors",
        action="store_true",
        help="run again only those that survived the last call with this seed, package and count",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="processes at a time; as many as processors if not given",
    )
    return parser


def main() -> None:
    options = arguments().parse_args()
    root = Path.cwd()
    if not (root / "src/headway").is_dir():
        sys.exit("Call it in the root of the project.")
    known = packages(root)
    if unknown := [r for r in options.packages if r not in known]:
        sys.exit(f"no package {unknown[0]!r}. There are: {', '.join(known)}.")
    drawn = draw(root, options, known)
    if not drawn:
        print(
            "No line of the source that can be mutated was changed."
            if options.changed
            else "Nothing to mutate."
        )
        return
    if (
        options.changed and options.tests == ["tests"] and not is_of_now(root)
    ):  # the whole suite would take too long
        options.tests = sorted(
            {
                t
                for m in drawn
                if (root / (t := f"tests/{package_of(m.path).split('/')[0]}")).is_dir()
            }
        )
    if missing := [t for t in options.tests if not (root / t.split("::")[0]).exists()]:
        sys.exit(f"no tests {missing[0]!r} in this folder.")
    results = ask(root, options, drawn)
    report(drawn, results, excused())


def draw(root: Path, options: argparse.Namespace, known: dict[str, list[str]]) -> list[Mutant]:
    """The sample, package by package."""
    if (
        options.changed
        and subprocess.run(
            ["git", "rev-parse", "-q", "--verify", f"{options.changed}^{{commit}}"],
            cwd=root,
            capture_output=True,
        ).returncode
    ):
        sys.exit(f"no revision {options.changed!r} in this repository.")
    lines = changed_lines(root, options.changed) if options.changed else None
    wanted = {
        r: [f for f in known[r] if not options.files or any(w in f for w in options.files)]
        for r in options.packages or known
    }
    if lines is not None:
        return sample(
            root,
            [f for files in wanted.values() for f in files if f in lines],
            options.count or 20,
            options.seed,
            lines,
        )
    return [
        m
        for package, files in wanted.items()
        for m in sample(root, files, options.count or 40, f"{options.seed}/{package}")
    ]


def positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number above 0")
    return int(text)


def ask(root: Path, options: argparse.Namespace, drawn: list[Mutant]) -> dict[str, str]:
    """The outcome of each mutant by name: caught, survived, timeout, or unreached (no test runs its
    line).
    """
    folder = root / BUILD
    folder.mkdir(parents=True, exist_ok=True)
    state, last = state_of(root, *options.tests), folder / f"results-{options.seed}.jsonl"
    results = resumed(last, state, options.survivors)
    waiting = [m for m in drawn if m.name not in results]
    plain, kernels = reached_lines(root, options, waiting)
    jobs: queue.Queue[Job] = queue.Queue()
    for mutant in waiting:
        tests, seconds = chosen(kernels if mutant.kernel else plain, mutant)
        if tests:
            jobs.put((mutant, tests, seconds))
        else:
            results[mutant.name] = "unreached"
    with last.open("a") as out:
        copies = [Copy(root, folder / f"copy-{k}") for k in range(options.jobs)]
        run_all(copies[: max(jobs.qsize(), 1)], jobs, Results(results, out, state, jobs.qsize()))
    print(file=sys.stderr)
    return results


def reached_lines(
    root: Path, options: argparse.Namespace, waiting: list[Mutant]
) -> tuple[Reach, Reach]:
    """What the tests reach, as far as it is needed: with the compiler, and without it (kernels)."""
    plain, kernels = Reach(), Reach()
    if any(not m.kernel for m in waiting):
        plain = reach(root, options.tests, False, options.jobs)
    if any(m.kernel for m in waiting):
        tests = options.tests
        if tests == ["tests"]:
            tests = [t for t in KERNEL_TESTS if (root / t).is_dir()]
        kernels = reach(root, tests, True, options.jobs)
    return plain, kernels


class Results:
    """Takes the outcomes from all threads, writes each to `out` at once, and shows how many are
    done.
    """

    def __init__(self, found: dict[str, str], out: TextIO, state: str, total: int) -> None:
        self._found, self._out, self._state, self._total = found, out, state, total
        self._lock, self._began, self._done = threading.Lock(), time.monotonic(), 0

    def add(self, mutant: Mutant, outcome: str) -> None:
        with self._lock:
            self._found[mutant.name] = outcome
            row = {"state": self._state, "name": mutant.name, "outcome": outcome}
            self._out.write(json.dumps(row) + "\n")
            self._out.flush()
            self._done += 1
            if sys.stderr.isatty() or self._done % 20 == 0:
                text = f"\r{self._done} of {self._total}, {time.monotonic() - self._began:.0f} s "
                print(text, end="", flush=True, file=sys.stderr)


def run_all(copies: list[Copy], jobs: queue.Queue[Job], results: Results) -> None:
    """Each job in one of the copies of the tree. Raises the first failure of a copy."""
    failures: list[BaseException] = []

    def work(copy: Copy) -> None:
        try:
            run_jobs(copy, jobs, results)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(copy,)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def run_jobs(copy: Copy, jobs: queue.Queue[Job], results: Results) -> None:
    """Jobs in one copy of the tree, as long as there are any."""
    with copy:
        while True:
            try:
                mutant, tests, seconds = jobs.get_nowait()
            except queue.Empty:
                return
            results.add(mutant, copy.outcome(mutant, tests, 30.0 + 10.0 * seconds))


def resumed(last: Path, state: str, survivors: bool) -> dict[str, str]:
    """What an earlier call has found: of the same source and tests; or, to ask survivors alone,
    whatever was caught before.
    """
    found: dict[str, str] = {}
    for line in last.read_text().splitlines() if last.exists() else []:
        row = json.loads(line)
        if row["state"] == state or (survivors and row["outcome"] != "survived"):
            found[row["name"]] = row["outcome"]
        elif survivors:
            found.pop(row["name"], None)
    return found


def chosen(found: Reach, mutant: Mutant) -> tuple[list[str], float]:
    """The tests to ask, those of the mutant's own package first, then by what they take, up to
    LONGEST_S in all; and their seconds.
    """
    package = package_of(mutant.path).split("/")[0]
    own = (f"tests/{package}/", f"tests/test_{package}")  # a package's folder, a module's files
    reached = found.of(mutant.path, *mutant.statement, mutant.importing, own)
    tests: list[str] = []
    total = 0.0
    for test in sorted(reached, key=lambda t: (not t.startswith(own), found.seconds[t])):
        if tests and total + found.seconds[test] > LONGEST_S:
            continue
        tests.append(test)
        total += found.seconds[test]
    return tests, total


class Copy:
    """A copy of the tree that may be mutated, and the processes that run tests on it."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.folder = folder
        self.servers = dict[bool, subprocess.Popen[str]]()
        self.trusted: dict[bool, set[str]] = {
            False: set(),
            True: set(),
        }  # tests that were seen to pass here without a fault

    def __enter__(self) -> Copy:
        shutil.rmtree(self.folder, ignore_errors=True)
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=self.root,
            check=True,
            capture_output=True,
            text=True,
        )
        for name in names.stdout.split("\0"):
            if name and (self.root / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.root / name, self.folder / name)
        for cache in (self.root / "src").rglob(
            "__pycache__"
        ):  # numba's too: they hold, since the times of the files are kept
            shutil.copytree(cache, self.folder / cache.relative_to(self.root), dirs_exist_ok=True)
        return self

    def __exit__(self, *_: Any) -> None:
        for server in self.servers.values():
            server.kill()
            server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def outcome(self, mutant: Mutant, tests: list[str], limit_s: float) -> str:
        """Run `tests` on the mutated tree."""
        clean = (self.folder / mutant.path).read_text()
        if (
            mutant.kernel not in self.servers
            and self._run(mutant, clean, tests, 600.0) != "survived"
        ):
            raise RuntimeError(
                f"{tests[0]} and others fail on a copy of the tree without any fault: "
                f"see {self.log}"
            )
        outcome = self._run(mutant, mutant.source(self.folder), tests, limit_s)
        if outcome == "gone":
            (self.folder / mutant.path).write_text(clean)
            return "timeout"
        if outcome != "caught":
            return outcome
        catcher = next(
            (
                m[1]
                for m in re.finditer(
                    r"^(?:FAILED|ERROR) (.+?)(?: - |$)",
                    self.log.read_text(errors="replace"),
                    re.MULTILINE,
                )
            ),
            "",
        )
        if catcher not in self.trusted[mutant.kernel]:  # does it fail by itself here?
            if "::" in catcher and self._run(mutant, clean, [catcher], limit_s) != "survived":
                print(
                    f"{catcher} fails on a copy of the tree without any fault, "
                    "and is not asked any more",
                    file=sys.stderr,
                )
                rest = [t for t in tests if t.split("[")[0] != catcher.split("[")[0]]
                return self.outcome(mutant, rest, limit_s) if rest else "survived"
            self.trusted[mutant.kernel].add(catcher)
        return outcome

    @property
    def log(self) -> Path:
        """What the tests printed last."""
        return self.folder.parent / f"{self.folder.name}.log"

    def _run(self, mutant: Mutant, source: str, tests: list[str], limit_s: float) -> str:
        server = self._server(mutant.kernel)
        assert server.stdin is not None
        assert server.stdout is not None
        job = {
            "file": str(self.folder / mutant.path),
            "source": source,
            "tests": tests,
            "limit_s": limit_s,
            "log": str(self.log),
        }
        try:
            server.stdin.write(json.dumps(job) + "\n")
            server.stdin.flush()
            answer = server.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:  # the process that forks is gone, by what the mutant did to the machine
            self.servers.pop(mutant.kernel).wait()
            return "gone"
        outcome = str(json.loads(answer)["outcome"])
        if outcome == "broken":
            raise RuntimeError(f"pytest could not run: see {self.log}")
        return outcome

    def _server(self, interpreted: bool) -> subprocess.Popen[str]:
        if interpreted not in self.servers:
            self.servers[interpreted] = subprocess.Popen(
                [sys.executable, "-m", "bench.mutants.worker"], cwd=self.folder,
                env=environment(self.folder,
                    interpreted) | {"HEADWAY_DATA": environment(self.root, False)["HEADWAY_DATA"]},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        return self.servers[interpreted]


def excused() -> dict[tuple[str, str, str], str]:
    """Mutants known to be equivalent, by file, line before and line after, with the reason."""
    rows = tomllib.loads(EQUIVALENT.read_text()).get("mutant", []) if EQUIVALENT.exists() else []
    return {(r["file"], r["before"], r["after"]): r["reason"] for r in rows}


def report(
    drawn: list[Mutant], results: dict[str, str], known: dict[tuple[str, str, str], str]
) -> None:
    """Survivors, then the score of each package: caught of those that are not known to be
    equivalent.
    """
    by_package: dict[str, list[Mutant]] = {}
    for mutant in drawn:
        by_package.setdefault(package_of(mutant.path), []).append(mutant)
    rows = []
    for package, mutants in by_package.items():
        alive = [m for m in mutants if results[m.name] in ("survived", "unreached")]
        same = [m for m in alive if (m.path, m.before, m.after) in known]
        late = sum(results[m.name] == "timeout" for m in mutants)
        rows.append(
            (
                package,
                len(mutants),
                len(mutants) - len(alive),
                late,
                len(same),
                len(alive) - len(same),
            )
        )
        for m in same:
            print(
                f"equivalent  {m.path}:{m.line} {m.operator}: {known[(m.path, m.before, m.after)]}"
            )
        for m in mutants:
            if m not in alive and (m.path, m.before, m.after) in known:
                print(
                    "NOT EQUIVALENT: a test has caught it. Take it off the list  "
                    f"{m.path}:{m.line}\n    - {m.before}\n    + {m.after}"
                )
        for m in sorted((m for m in alive if m not in same), key=lambda m: (m.path, m.line)):
            print(
                f"{'survived' if results[m.name] == 'survived' else 'UNREACHED'}  "
                f"{m.path}:{m.line} {m.operator}\n    - {m.before}\n    + {m.after}"
            )
    for path, before, _ in known:
        if Path(path).exists() and not all(
            line.strip() in Path(path).read_text() for line in before.split(" / ")
        ):
            print(f"GONE: take it off the list of equivalent ones  {path}: {before}")
    print(
        f"\n{'package':<14}{'mutants':>8}{'caught':>8}{'(late)':>8}{'equivalent':>12}"
        f"{'survived':>10}{'score':>8}{'without late':>14}"
    )
    for package, count, caught, late, same_, alive_ in rows:
        real = max(count - same_, 1)
        print(
            f"{package:<14}{count:>8}{caught:>8}{late:>8}{same_:>12}{alive_:>10}"
            f"{caught / real:>8.0%}{(caught - late) / real:>14.0%}"
        )


if __name__ == "__main__":
    main()
