"""Row B8: the documents, and what they show, done as it stands there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.requirements.documented import RECORD
from tests.waiting import until

TREE = Path(__file__).parents[2]
DOCS = TREE / "docs"
LEARNING_BLOCKS = ("JunctionEnv(", "Predictor(")  # of docs/learning.md


def blocks(name, language=""):
    """The code blocks of a document in a language."""
    text = (DOCS / name).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [code for of, code in found if of == language]


def rows_below(name, heading):
    """The rows of the tables of a section, without their heads."""
    section = (DOCS / name).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    lines = [x for x in section.split("\n## ")[0].splitlines() if x.startswith("|")]
    return [x for x, before in zip(lines[1:], lines, strict=False) if "---" not in x + before]


@pytest.mark.row("B8")
def test_b8_each_document_is_there_and_the_reference_has_every_route(product, figures):
    """The [README](../README.md#documents) leads to all documents: architecture with its diagram,
    API, tuning with results, deployment, operations with a table by symptom. `/docs` (or `/redoc`)
    of a service is the interactive reference. Links, commands and settings in the documents are
    checked by the tests.
    """
    readme = (TREE / "README.md").read_text(encoding="utf-8")
    for name in ("architecture", "api", "tuning", "deployment", "operations", "settings"):
        assert f"(docs/{name}.md)" in readme, name
    assert "Observation ─▶ control ─▶ Proposal ─▶ safety ─▶ Command" in blocks("architecture.md")[0]
    tables = (DOCS / "tuning.md").read_text(encoding="utf-8")
    assert "python -m bench ablation" in tables
    assert len(re.findall(r"^\| .*\d ± \d.* \|$", tables, re.MULTILINE)) >= 5, "with intervals"
    for heading in ("A laptop", "One server", "A cluster", "A street outside the cluster"):
        assert f"\n## {heading}\n" in (DOCS / "deployment.md").read_text(encoding="utf-8")
    symptoms = rows_below("operations.md", "By symptom")
    assert len(symptoms) >= 10
    figures.add("symptoms in the table of operations", len(symptoms))

    for page, marker in (("/docs", "swagger"), ("/redoc", "redoc")):
        answer = httpx.get(f"{product.url}{page}")
        assert (answer.status_code, marker in answer.text) == (200, True)
    with product.http() as client:
        paths = client.get("/openapi.json").json()["paths"]
    routes = {
        (method, path): operation
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    assert [at for at, of in routes.items() if not of.get("description")] == []
    figures.add("routes in the interactive reference, each with its description", len(routes))


@pytest.mark.row("B8")
@pytest.mark.skipif(shutil.which("curl") is None, reason="NO CURL HERE")
def test_b8_the_examples_of_the_documents_run(product, tmp_path, figures):
    """The calls of curl in docs/api.md and the Python of docs/api.md and docs/learning.md run as
    they stand there, but for the address, the token and a junction of the service that runs.
    """
    record = RECORD | {"simulation_id": "DOCUMENTS"}  # row E1's story sends the record as it is
    (tmp_path / "record.json").write_text(json.dumps(record))
    state = "/api/v1/engine/streets/headway"
    with product.http() as client:
        until(lambda: client.get(state).json().get("junctions"))
        (place, *_) = client.get("/api/v1/observations/places").json()
    own = {
        "http://127.0.0.1:8000": product.url, "$TOKEN": product.token,
        "247379907": place["junction"], '"north"': f'"{place["approaches"][0]["road"]}"',
    }  # fmt: skip

    def here(text):
        for shown, ours in own.items():
            text = text.replace(shown, ours)
        return text

    calls = [text for text in blocks("api.md") if text.startswith("curl ")]
    assert len(calls) >= 2
    for call in calls:
        done = subprocess.run(
            ["bash", "-c", here(call.replace("curl ", "curl --silent --fail-with-body ", 1))],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (call, done.stdout)
    (client_example,) = blocks("api.md", "python")
    shown = client_example.partition("    for message in headway.listen")[0]  # that one never ends
    examples = [f"token = {product.token!r}\n{here(shown)}"]
    learning = blocks("learning.md", "python")
    examples += [next(b for b in learning if mark in b) for mark in LEARNING_BLOCKS]
    for code in examples:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    figures.add("examples that ran", len(calls) + len(examples))
