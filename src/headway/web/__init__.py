"""The page: plain ES modules, served as they are."""

from pathlib import Path

STATIC = Path(__file__).parent / "static"
