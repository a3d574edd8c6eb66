"""What is tracked holds on any machine: no link out of the tree, no path of one machine,
no large file. No room outgrows the others.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OF_ONE_MACHINE = re.compile(
    r"(?<![\w.:/-])/(?:work|home|root|Users|opt|mnt|tmp|var/folders)/[\w.-]+"
)
MEANT = {"tests/test_tree.py"}  # the expression above
# of the image, of a pod and of a unit, which are the same on every machine
OF_AN_INSTALLATION = re.compile(r"/(?:opt|tmp)/")
INSTALLED = ("deploy/", "tests/deploy/", "docs/deployment.md", "docs/operations.md")


def tracked():
    done = subprocess.run(["git", "ls-files", "-z", "-s"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a checkout of git: what is tracked cannot be told")
    rows = [row.split("\t", 1) for row in done.stdout.split("\0") if row]
    return [
        (head.split()[0], name)
        for head, name in rows
        if (ROOT / name).is_symlink() or (ROOT / name).exists()
    ]


def leaves(link, target):
    """Whether a link at `link` (relative to the tree) leads out of it."""
    return Path(target).is_absolute() or not (ROOT / link).parent.joinpath(
        target
    ).resolve().is_relative_to(ROOT)


@pytest.mark.parametrize(
    ("link", "target", "out"),
    [("a", "/x/y", True), ("a/b", "../../c", True), ("a/b", "../c", False), ("a", "docs", False)],
)
def test_a_link_that_leaves_the_tree_is_told(link, target, out):
    assert leaves(link, target) == out


def test_no_tracked_link_leaves_the_tree():
    links = [name for mode, name in tracked() if mode == "120000"]
    assert [
        f"{n} -> {(ROOT / n).readlink()}" for n in links if leaves(n, (ROOT / n).readlink())
    ] == []


def test_no_two_files_of_tests_have_one_name():
    """pytest collects the first of them alone, and only where it collects both."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()


def test_no_tracked_file_is_larger_than_a_megabyte():
    assert [
        n for mode, n in tracked() if mode != "120000" and (ROOT / n).stat().st_size > 1_000_000
    ] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see /home/ann/x", "/home/ann"),
        ('"/work/main"', "/work/main"),
        ("https://a.b/work/c", None),
        ("a/tmp/b", None),
        ("the /tmp folder", None),
    ],
)
def test_a_path_of_one_machine_is_told(text, found):
    match = OF_ONE_MACHINE.search(text)
    assert (match and match.group()) == found


def test_no_tracked_text_names_a_path_of_one_machine():
    named = []
    for mode, name in tracked():
        if mode == "120000" or name in MEANT:
            continue
        for number, line in enumerate(
            (ROOT / name).read_bytes().decode(errors="replace").splitlines(), 1
        ):
            named += [
                f"{name}:{number}: {m.group()}"
                for m in OF_ONE_MACHINE.finditer(line)
                if not (name.startswith(INSTALLED) and OF_AN_INSTALLATION.match(m.group()))
            ]
    assert named == []


def test_nothing_that_a_build_makes_is_tracked():
    made = [
        n
        for _, n in tracked()
        if re.search(r"(^|/)((\.venv[^/]*|__pycache__|[^/]+\.egg-info)(/|$)|(build|dist)/)", n)
    ]
    assert made == []


def test_no_package_has_more_than_15_percent_of_the_code():
    lines = Counter()
    for file in (ROOT / "src/headway").rglob("*.py"):
        lines[file.relative_to(ROOT / "src/headway").parts[0]] += len(file.read_text().splitlines())
    package, most = lines.most_common(1)[0]
    assert most <= 0.15 * lines.total(), package


def test_no_test_takes_its_helpers_from_another_test():
    taken = re.compile(r"^from tests\.[\w.]*\btest_\w+ import", re.M)
    files = [path for path in ROOT.glob("tests/**/*.py") if path.name != "test_sumo.py"]
    assert len(files) > 100
    assert [str(p.relative_to(ROOT)) for p in files if taken.search(p.read_text())] == []
    assert taken.search("from tests.safety.test_gate import Two"), "the expression finds one"
