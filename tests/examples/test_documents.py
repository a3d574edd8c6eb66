"""The documents: links lead somewhere, commands exist, examples are accepted as they stand."""

from __future__ import annotations

import ast
import math
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml

from headway.plants.kpp import config
from headway.plants.kpp.run import DEFAULT_RULES
from headway.roads import PROFILES
from headway.runtime import LOOP_FIGURES
from headway.sensing import read_site
from headway.settings import (
    AlertSettings,
    CameraSettings,
    LimitSettings,
    RuleSettings,
    Settings,
    checked,
)
from headway.street.alerts import JUNCTION_FIELDS, STREET_FIELDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def examples(name, language):
    """The code blocks of a document in one language."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def anchors(text):
    """What a page makes of the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.stem)
def test_every_link_leads_to_a_file_and_a_heading(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def commands():
    """The options of each command, by its words, from the contract of the command line."""
    found, options = {}, []
    for line in (ROOT / "tests/cli/contract.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("headway"):
            options = found.setdefault(line, [])
        elif line.strip().startswith("--"):
            options.append(line.split()[0])
    return found


def written(path, first):
    """The calls of a program in a document, in code spans and code blocks."""
    blocks = path.read_text(encoding="utf-8").split("```")
    spans = re.findall(r"`([^`]+)`", re.sub(r"\s+", " ", " ".join(blocks[::2])))
    code = " \n".join(blocks[1::2]).replace("\\\n", " ")
    lines = [call for line in code.splitlines() for call in line.split("#")[0].split("&&")]
    calls = [call.strip().removeprefix(".venv/bin/") for call in [*spans, *lines]]
    return [call for call in calls if call.startswith(f"{first} ")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.stem)
def test_every_command_and_option_that_is_named_is_there(path):
    known = commands()
    for call in written(path, "headway"):
        name = max((c for c in known if f"{call} ".startswith(f"{c} ")), key=len, default=None)
        assert name is not None, call
        assert set(re.findall(r"--[a-z][a-z0-9-]*", call)) <= set(known[name]), call


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.stem)
def test_every_target_of_make_and_every_benchmark_that_is_named_is_there(path):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    parts = re.findall(r'^    "(\w+)": ', (ROOT / "bench/__main__.py").read_text(), re.MULTILINE)
    for call in written(path, "make"):
        assert call.split()[1] in targets, call
    for call in written(path, "python -m bench"):
        named = call.partition(" -m bench")[2].partition(" -")[0]  # options may follow
        assert set(named.split()) <= set(parts), call


def test_nobody_is_told_to_install_headway_from_a_registry_that_does_not_have_it():
    texts = [*DOCUMENTS, *(ROOT / "src").rglob("*.py"), ROOT / "CHANGELOG.md"]
    for path in texts:
        found = re.search(r"install ['\"]?headway\b", path.read_text(encoding="utf-8"), re.I)
        assert found is None, path


def definitions(path):
    """The functions and classes of a module, methods as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
        found.add(getattr(node, "name", None))
    return found


def test_the_files_and_names_of_the_three_walks_exist():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.split("## Three walks\n")[1].split("\n## ")[0]
    steps = re.findall(r"`([\w/]+\.py)`:\s+`([\w.]+)`", section)
    for file, name in steps:
        assert name in definitions(ROOT / "src/headway" / file), (file, name)
    assert len(steps) >= 25, "a step is written as `file.py`: `name`"

    # further names of a step may come from any module
    source = (ROOT / "src/headway").rglob("*.py")
    known = set().union(*(definitions(path) for path in source))
    for span in re.findall(r"`([^`]+)`", section):
        if re.fullmatch(r"[A-Za-z_]\w*(\.[a-z_]\w*)?", span) and span not in ("COPY",):
            assert span in known, span
        elif "/" in span:
            assert (ROOT / "src/headway" / span).exists() or span == "src/headway", span


def test_every_module_stands_in_the_table_of_the_architecture():
    named = set(re.findall(r"\w+", (ROOT / "docs/architecture.md").read_text(encoding="utf-8")))
    modules = [f for f in (ROOT / "src/headway").rglob("*.py") if "migrations" not in f.parts]
    found = {f.stem: f for f in modules if not f.stem.startswith("__")}
    assert sorted(str(f) for name, f in found.items() if name not in named) == []


def test_every_module_in_the_table_of_the_architecture_exists():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/]+)` \| ([^|]*) \|", text, re.MULTILINE)
    for package, modules in rows:
        places = [*(ROOT / "src/headway" / package).rglob("*"), *(ROOT / "src/headway").iterdir()]
        known = {p.stem for p in places} | {"Observation", "Proposal", "Event", "Command"}
        assert set(re.findall(r"`(\w+)`", modules)) <= known, package
    assert len(rows) > 15


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.stem)
def test_every_name_of_the_package_that_is_named_is_there(path):
    for name in re.findall(r"`(headway(?:\.\w+)+)`", path.read_text(encoding="utf-8")):
        if name != "headway.lock":  # a file of the data folder
            resolve_name(name)  # raises ImportError or AttributeError


def test_the_bounds_of_the_limits_are_those_of_the_settings():
    """Least, most, and what each timing profile has."""
    expected = []
    for name, field in LimitSettings.model_fields.items():
        (least,) = [m.ge for m in field.metadata if hasattr(m, "ge")]
        (most,) = [m.le for m in field.metadata if hasattr(m, "le")]
        own = [getattr(PROFILES[profile], name) for profile in ("street", "benchmark")]
        words = ["computed" if v is None else "none" if v == math.inf else f"{v:g}" for v in own]
        expected.append(f"| `{name}` | {least:g} | {most:g} | {words[0]} | {words[1]} |")
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `\w+_s` \| [\d.]+ \|.*$", text, re.MULTILINE) == expected


def test_every_section_and_every_word_of_an_alert_rule_stands_in_the_settings():
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    table = text.split("## Followed")[0]
    assert [s for s in Settings.model_fields if f"`{s}`" not in table] == []
    rules = text.split("## Alerts on the streets")[1].split("## Alerts on the program")[0]
    words = [*RuleSettings.model_fields, *STREET_FIELDS, *JUNCTION_FIELDS, *LOOP_FIGURES]
    assert [w for w in words if not re.search(rf"\b{w}\b", rules)] == []
    shown = yaml.safe_load(examples("docs/settings.md", "yaml")[1])
    assert checked(shown).alerts.rules[0] == AlertSettings().rules[1]


def test_the_settings_of_the_readme_are_accepted():
    (tree,) = [yaml.safe_load(text) for text in examples("README.md", "yaml")]
    settings = checked(tree)
    assert (settings.environment, settings.control.controller) == ("local", "planner")
    assert settings.alerts.rules[0].path == "junctions.*.queue"


def test_the_site_and_the_settings_of_the_camera_document_are_accepted(tmp_path):
    site_text, *settings_texts = examples("docs/cameras.md", "yaml")
    options, rules, notify = (checked(yaml.safe_load(text)) for text in settings_texts)
    assert options.cameras == CameraSettings()  # as they are without a file
    assert [rule.name for rule in rules.cameras.alert_rules] == [
        "slow", "few frames", "drops", "busy",
    ]  # fmt: skip
    path = tmp_path / "site.yaml"
    path.write_text(site_text, encoding="utf-8")
    site = read_site(path)
    assert [line.name for line in site.lines] == ["north", "west"]
    assert [zone.name for zone in site.zones] == ["lane 1", "box"]
    assert site.calibration is not None
    assert notify.notify.mail.to == ("duty@example.org",)


def test_an_equivalent_mutant_is_listed_as_the_guide_says():
    (text,) = examples("CONTRIBUTING.md", "toml")
    listed = tomllib.loads((ROOT / "bench/mutants/equivalent.toml").read_text(encoding="utf-8"))
    assert tomllib.loads(text)["mutant"][0].keys() == listed["mutant"][0].keys()


@pytest.mark.slow
def test_one_street_runs_in_one_process_as_the_guide_says():
    (code,) = [text for text in examples("CONTRIBUTING.md", "python") if "open_street" in text]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "25260.0 [" in done.stdout


def test_the_settings_file_of_the_power_plant_is_accepted(tmp_path):
    (text,) = [text for text in examples("docs/kpp.md", "yaml") if "target_hz" in text]
    (tmp_path / "kpp.yaml").write_text(text)
    found = config.load(tmp_path / "kpp.yaml")
    assert found.loop == config.KppLoop()
    assert found.streams == config.KppStreams(), "the document shows the defaults"
    rules = found.rules()
    assert [r.name for r in rules] == [*(r.name for r in DEFAULT_RULES), "jitter"]
    assert rules[0].threshold == 6.0


@pytest.mark.slow
def test_a_strategy_of_the_users_own_works_as_the_document_says(capsys):
    (code,) = [text for text in examples("docs/kpp.md", "python") if "UserStrategy" in text]
    exec(compile(code, "docs/kpp.md", "exec"), {})
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("['close the air valves', 'retry with a smaller step'")
    assert last.endswith("'stop safely']")
