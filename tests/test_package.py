"""The wheel: all that the source holds, and that it runs without the tree."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: a build leaves folders beside the source."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(
        ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            "dist",
            ".",
        ],
        cwd=folder,
        check=True,
    )
    return next((folder / "dist").glob("headway-*.whl"))


def test_the_wheel_holds_every_file_of_the_source(wheel):
    source = {
        str(f.relative_to(ROOT / "src"))
        for f in (ROOT / "src/headway").rglob("*")
        if f.is_file() and "__pycache__" not in f.parts
    }
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert source - packed == set()
    assert {n for n in packed - source if ".dist-info/" not in n} == set()


def test_the_wheel_names_what_else_can_be_installed_with_it(wheel):
    packed = zipfile.ZipFile(wheel)
    head = email.message_from_bytes(
        packed.read(next(n for n in packed.namelist() if n.endswith("/METADATA")))
    )
    assert set(head.get_all("Provides-Extra")) == {
        "client",
        "cluster",
        "learning",
        "mqtt",
        "onnx",
        "parquet",
        "remote",
        "scenarios",
        "storage",
        "test",
        "vision",
    }
    assert 'sumo-rl==1.4.5; extra == "scenarios"' in head.get_all("Requires-Dist")
    assert head["Requires-Python"] == ">=3.11"


def test_the_commands_run_from_the_wheel_alone(wheel, tmp_path):
    """With the tests' libraries; `make package` installs the wheel with all that it asks for in an
    environment of its own, and runs the demo.
    """
    site, empty = tmp_path / "site", tmp_path / "empty"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel],
        check=True,
    )
    empty.mkdir()
    words = [
        sys.executable,
        "-c",
        "import headway, headway.cli; print(headway.__file__); headway.cli.main()",
        "scenarios",
    ]
    done = subprocess.run(
        words, cwd=empty, env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert Path(done.stdout.splitlines()[0]).is_relative_to(site)
    assert re.search(r"cologne8\s*│\s*25200\s*│\s*28800\s*│\s*8\s*│\s*2046", done.stdout)
    assert list(empty.iterdir()) == []
