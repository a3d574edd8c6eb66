"""The examples in the docstrings of the runtime give the stated results."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from headway import runtime

MODULES = [f"headway.runtime.{module.name}" for module in pkgutil.iter_modules(runtime.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_give_the_stated_results(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_docstring_examples():
    finder = doctest.DocTestFinder()
    found = [t for name in MODULES for t in finder.find(importlib.import_module(name))]
    assert sum(len(t.examples) for t in found) >= 10
