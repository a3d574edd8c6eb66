"""python -m bench.reached: for `make reached`, the branches that the tests ran, by package; routes
and commands that no test calls fail.

Functions that numba compiles are left out: coverage.py cannot see into them (`make mutants` runs
them without the compiler).
"""

from __future__ import annotations

import ast
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from coverage import Coverage, CoverageData

from bench.mutants.places import SOURCE, package_of
from bench.mutants.reach import COVERAGE, TIMES, split

METHODS = {"get", "post", "put", "delete", "patch", "websocket"}
FUZZ = "tests/api/test_contract.py"  # it calls whatever the description lists, and knows no values


def routes_and_commands(
    source: str,
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Routes and commands of a module: those decorated `@x.get(...)` and the like, or
    `@x.command(...)`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute):
                    if decorator.func.attr in METHODS:
                        yield "route", node
                    elif decorator.func.attr == "command":
                        yield "command", node


def registered(source: str) -> set[str]:
    """Names of functions that a module makes commands by `x.command(...)(module.name)`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Call)
            and isinstance(node.func.func, ast.Attribute)
            and node.func.func.attr == "command"
        ):
            found |= {
                a.attr if isinstance(a, ast.Attribute) else a.id
                for a in node.args
                if isinstance(a, ast.Attribute | ast.Name)
            }
    return found


def uncalled(root: Path, data: CoverageData) -> list[str]:
    """Routes and commands whose body no test has run, but for the fuzzing of the API's
    description.
    """
    missing = []
    for folder in ("api", "cli"):
        files = sorted((root / SOURCE / folder).rglob("*.py"))
        more = {name for f in files for name in registered(f.read_text())}
        for file in files:
            text, contexts = file.read_text(), data.contexts_by_lineno(str(file))
            own = [
                ("command", n)
                for n in ast.walk(ast.parse(text))
                if isinstance(n, ast.FunctionDef) and n.name in more
            ]
            for kind, node in [*routes_and_commands(text), *own]:
                lines = range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)
                tests = {split(c)[0] for k in lines for c in contexts.get(k, ()) if c}
                if not any(not t.startswith(FUZZ) for t in tests):
                    missing.append(f"{kind} {node.name} ({file.relative_to(root)}:{node.lineno})")
    return missing


def by_package(root: Path) -> list[tuple[str, int, int, int, int]]:
    """Package, lines run, lines, branches taken, branches."""
    coverage = Coverage(data_file=str(root / COVERAGE), config_file=str(root / "pyproject.toml"))
    coverage.load()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        coverage.json_report(outfile=str(out))
        files = json.loads(out.read_text())["files"]
    sums: dict[str, list[int]] = {}
    for path, file in files.items():
        if Path(path).is_relative_to(SOURCE) and (package := package_of(path)):
            s, row = file["summary"], sums.setdefault(package, [0, 0, 0, 0])
            for k, name in enumerate(
                ("covered_lines", "num_statements", "covered_branches", "num_branches")
            ):
                row[k] += s[name]
    return [(package, *row) for package, row in sorted(sums.items())]  # type: ignore[misc]


def main() -> None:
    root = Path.cwd()
    run = json.loads((root / TIMES).read_text())
    data = CoverageData(str(root / COVERAGE))
    data.read()
    if not data.has_arcs():  # the files of some process were lost on the way: not the tests' fault
        print("NO COVERAGE: what the processes of this run have measured is not whole.")
        return
    print(f"\n{'package':<14}{'lines run':>12}{'branches taken':>16}")
    for package, lines, all_lines, branches, all_branches in by_package(root):
        print(
            f"{package:<14}{lines / max(all_lines, 1):>12.1%}"
            f"{branches / max(all_branches, 1):>16.1%}"
        )
    if not run["whole"]:
        return
    if missing := uncalled(root, data):
        sys.exit("No test calls:\n  " + "\n  ".join(missing))


if __name__ == "__main__":
    main()
