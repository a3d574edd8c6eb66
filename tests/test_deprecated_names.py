"""Old names that users still may give; docs/deprecated.md lists them all."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize(
    ("given", "packages"),
    [
        (["PACKAGES=roads api"], "roads api"),
        (["ROOMS=roads api"], "roads api"),
        (["PACKAGES=roads", "ROOMS=api"], "roads"),
        ([], ""),
    ],
)
def test_mutants_takes_its_packages_by_the_new_and_the_old_name(given, packages):
    out = subprocess.run(
        ["make", "--dry-run", "mutants", *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"-m bench.mutants {packages} --seed 1" in out
