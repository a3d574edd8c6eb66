"""The client in JavaScript, played in Node."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

TREE = Path(__file__).parents[2]
CLIENT = TREE / "clients" / "javascript"
STORY = "tests/api/client_story.js"
NODE = shutil.which("node")


def generator_of_routes():
    """The module that writes its routes."""
    spec = importlib.util.spec_from_file_location("generate", CLIENT / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_node(act, given):
    """What a function of the story gives."""
    code = f"""import * as story from {json.dumps((TREE / STORY).as_uri())};
        console.log(JSON.stringify(await story.{act}({json.dumps(given)})));"""
    words = [NODE, "--experimental-websocket", "--input-type=module", "--eval", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
