"""Every example runs and says something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
SHORT = {"own_controller.py": ["cologne1", "120"]}


LEARNING = sorted((Path(__file__).parents[2] / "examples/learning").glob("*.py"))


@pytest.mark.parametrize("path", LEARNING, ids=lambda p: p.stem)
def test_an_agent_of_others_learns_a_few_steps(path):
    pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed")
    done = subprocess.run(
        [sys.executable, str(path), "64"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "mean reward of a step" in done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_it_runs(path):
    done = subprocess.run(
        [sys.executable, str(path), *SHORT.get(path.name, [])],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "rror" not in done.stdout
