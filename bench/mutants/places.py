"""Where the code can be mutated, and how: cosmic-ray's operators and two of ours, less what cannot
change behaviour.
"""

from __future__ import annotations

import ast
import hashlib
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parso.python.tree
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

SOURCE = Path("src/headway")
COMPILERS = (
    "njit",
    "compiled",
    "compiled_fast",
    "inlined",
)  # decorators of functions that numba compiles
# A binary operator or a comparison is replaced by its likely slip only: the others (`+` by `<<`)
# die at once and would flatter the score.
BINARY = (
    "Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Div_FloorDiv", "FloorDiv_Div", "Mod_FloorDiv",
    "Pow_Mul", "BitOr_BitAnd", "BitAnd_BitOr",
    "BitXor_BitOr", "RShift_LShift", "LShift_RShift",
)  # fmt: skip
COMPARISON = (
    "Lt_LtE", "Lt_Gt", "Lt_GtE", "LtE_Lt", "LtE_Gt", "LtE_GtE", "Gt_GtE", "Gt_Lt", "Gt_LtE",
    "GtE_Gt", "GtE_Lt", "GtE_LtE", "Eq_NotEq", "NotEq_Eq",
    "Is_IsNot", "IsNot_Is",
)  # fmt: skip
OTHER = (
    "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr",
    "ReplaceOrWithAnd", "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak", "NumberReplacer", "RemoveDecorator", "ZeroIterationForLoop",
    "ReplaceUnaryOperator_USub_UAdd",
    "ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_Delete_USub",
)  # fmt: skip


class StatementLeftOut(Operator):
    """A call, a raise, a change in place or of an attribute or item is left out. (A plain name that
    is left out fails by itself.)
    """

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        call = (
            node.type == "atom_expr"
            and node.parent.type == "simple_stmt"
            and node.children[-1].type == "trailer"
            and node.children[-1].children[0] == "("
        )
        change = node.type == "expr_stmt" and (
            node.children[0].type == "atom_expr"
            or (node.children[1].type == "operator" and node.children[1].value not in (":", "="))
        )
        if call or change or (node.type == "raise_stmt" and node.parent.type == "simple_stmt"):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return parso.python.tree.Keyword("pass", node.start_pos, node.get_first_leaf().prefix)

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class BranchLeftOut(Operator):
    """The body of an `if` or `elif` is never run."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        if node.type == "if_stmt":
            for word, condition in zip(node.children, node.children[1:], strict=False):
                if word.type == "keyword" and word.value in ("if", "elif"):
                    yield condition.start_pos, condition.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        where = [
            k + 1
            for k, word in enumerate(node.children)
            if word.type == "keyword" and word.value in ("if", "elif")
        ][index]
        node.children[where] = parso.python.tree.Keyword("False", node.start_pos, " ")
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class NotCaught(Operator):
    """The classes of an `except` are taken away: it catches nothing."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        if node.type == "except_clause":
            yield node.children[1].start_pos, node.children[1].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.children[1] = parso.python.tree.Keyword("()", node.children[1].start_pos, " ")
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


OWN = {"NotCaught": NotCaught, "StatementLeftOut": StatementLeftOut, "BranchLeftOut": BranchLeftOut}


def operators() -> dict[str, Operator]:
    """All operators in use, by name."""
    names = (
        [f"ReplaceBinaryOperator_{n}" for n in BINARY]
        + [f"ReplaceComparisonOperator_{n}" for n in COMPARISON]
        + list(OTHER)
    )
    return {n: get_operator(f"core/{n}")() for n in names} | {n: c() for n, c in OWN.items()}


@dataclass(frozen=True)
class Mutant:
    """One fault at one place. `kernel`: inside a compiled function, and so run without the
    compiler. `importing`: run when the module is imported.
    `statement`: first and last line of the statement that it stands in, or of its head where a body
        follows.
    """

    path: str
    line: int
    column: int
    operator: str
    occurrence: int
    kernel: bool
    importing: bool
    statement: tuple[int, int]
    before: str
    after: str

    @property
    def name(self) -> str:
        text = (
            f"{self.path}:{self.line}:{self.column}:{self.operator}:{self.occurrence}:"
            f"{self.before}:{self.after}"
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def source(self, root: Path) -> str:
        """The whole mutated file."""
        out = mutate_code(
            (root / self.path).read_text(), operators()[self.operator], self.occurrence
        )
        assert out is not None
        return out


def package_of(path: str) -> str:
    """The package of a file below src/headway: "" for those without code of their own."""
    parts = Path(path).relative_to(SOURCE).parts
    if parts[0] == "web":
        return "api"  # which serves it
    if parts[0] == "plants":
        return f"plants/{parts[1]}" if len(parts) > 2 else "plants/sumo"
    if len(parts) > 1:
        return parts[0]
    return {"values.py": "values", "client.py": "api", "client_routes.py": "api"}.get(parts[0], "")


def packages(root: Path) -> dict[str, list[str]]:
    """Files of each package."""
    out: dict[str, list[str]] = {}
    for file in sorted((root / SOURCE).rglob("*.py")):
        path = str(file.relative_to(root))
        if package := package_of(path):
            out.setdefault(package, []).append(path)
    return out


def changed_lines(root: Path, since: str) -> dict[str, set[int]]:
    """Lines of each source file that were added or changed since a revision, by git."""
    text = subprocess.run(
        ["git", "diff", "-U0", since, "--", str(SOURCE)],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    out: dict[str, set[int]] = {}
    path = ""
    for line in text.splitlines():
        if line.startswith("+++ "):
            path = line[6:] if line.startswith("+++ b/") else ""
        elif line.startswith("@@") and path:
            begin, _, count = line.split("+")[1].split(" ")[0].partition(",")
            out.setdefault(path, set()).update(range(int(begin), int(begin) + int(count or 1)))
    return out


def places(root: Path, path: str) -> list[list[tuple[str, int, int, int, bool, bool]]]:
    """Each place of a file with the mutations it allows: (operator, occurrence, line, column,
    kernel, importing).
    """
    text = (root / path).read_text()
    tree = ast.parse(text)
    annotations, kernels, bodies, idle = _regions(tree)
    counts: dict[str, int] = {}
    found: dict[tuple[int, int, str], list[tuple[str, int, int, int, bool, bool]]] = {}
    all_operators = operators()
    for node in ast_nodes(get_ast(text)):
        for name, operator in all_operators.items():
            for start, _ in operator.mutation_positions(node):
                occurrence = counts.get(name, 0)
                counts[name] = occurrence + 1
                line, column = start
                if any(a <= start < b for a, b in idle) or (
                    "BitOr" in name and any(a <= start < b for a, b in annotations)
                ):
                    continue
                kernel = any(a <= line <= b for a, b in kernels)
                family = "logic" if name in ("AddNot", "BranchLeftOut") else name.split("_")[0]
                inside = any(a <= line <= b for a, b in bodies)
                kernel = kernel or (
                    bool(kernels) and not inside
                )  # constants of a kernel: they are frozen into what is compiled
                found.setdefault((line, column, family), []).append(
                    (name, occurrence, line, column, kernel, not inside)
                )
    return [found[k] for k in sorted(found)]


def sample(
    root: Path, files: list[str], count: int, seed: str, lines: dict[str, set[int]] | None = None
) -> list[Mutant]:
    """`count` places of `files` drawn by `seed`, and one mutation of each. `lines` limits the
    places.
    """
    chances = [
        (path, place)
        for path in files
        for place in places(root, path)
        if lines is None or place[0][2] in lines.get(path, ())
    ]
    draw = random.Random(seed)
    out: list[Mutant] = []
    for path, place in draw.sample(chances, len(chances)):
        name, occurrence, line, column, kernel, importing = draw.choice(place)
        before, after = _shown(root, path, name, occurrence)
        if before == after:  # nothing changes, or it is no Python any more
            continue
        out.append(
            Mutant(
                path,
                line,
                column,
                name,
                occurrence,
                kernel,
                importing,
                _statement((root / path).read_text(), line),
                before,
                after,
            )
        )
        if len(out) == count:
            break
    return out


def _regions(tree: ast.Module) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Of a module: its annotations, its compiled functions, all bodies of functions (by line), and
    what changes nothing that can be observed.
    """
    annotations = []
    kernels = []
    bodies = []
    idle = []
    for node in ast.walk(tree):
        for child in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(child, ast.expr):
                annotations.append(_span(child))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            body = node.body if isinstance(node.body, list) else [node.body]
            bodies.append((body[0].lineno, node.end_lineno))
            for decorator in getattr(node, "decorator_list", ()):
                if ast.unparse(decorator).split("(")[0] in COMPILERS:
                    kernels.append((node.lineno, node.end_lineno))
                    (l1, c1), end = _span(decorator)
                    idle.append(((l1, c1 - 1), end))  # with its "@": the compiler is off for these
        if isinstance(node, ast.keyword) and node.arg in (
            "slots",
            "cache",
            "_nrt",
            "inline",
        ):  # memory, compile time and speed only
            idle.append(_span(node.value))
        if isinstance(node, ast.If) and ast.unparse(node.test) in (
            "TYPE_CHECKING",
            "__name__ == '__main__'",
        ):
            idle.append(_span(node))
    return annotations, kernels, bodies, idle


def _statement(text: str, line: int) -> tuple[int, int]:
    """First and last line of the innermost statement about a line, without the body that it may
    have.
    """
    best = (line, line)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None) or getattr(node, "cases", None)
            end = (
                max(node.lineno, _first_line(body[0]) - 1)
                if body
                else node.end_lineno or node.lineno
            )
            if node.lineno <= line <= end and (
                best == (line, line) or end - node.lineno < best[1] - best[0]
            ):
                best = (node.lineno, end)
    return best


def _first_line(node: Any) -> int:
    return int(
        node.pattern.lineno
        if isinstance(node, ast.match_case)
        else min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
    )


def _span(node: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _shown(root: Path, path: str, name: str, occurrence: int) -> tuple[str, str]:
    """The lines that differ, before and after."""
    old = (root / path).read_text()
    new = mutate_code(old, operators()[name], occurrence) or old
    try:
        ast.parse(new)
    except SyntaxError:
        return "", ""
    a, b = old.splitlines(), new.splitlines()
    head = next(
        (k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    tail = next((k for k, (x, y) in enumerate(zip(a[::-1], b[::-1], strict=False)) if x != y), 0)
    return (
        " / ".join(x.strip() for x in a[head : max(len(a) - tail, head + 1)]),
        " / ".join(x.strip() for x in b[head : max(len(b) - tail, head)]),
    )
