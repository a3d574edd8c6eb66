"""Logs: the line that comes out, by value; a file for each component."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from headway import telemetry

COMPONENTS = ("engine", "street", "safety", "training", "api", "store", "sensing", "cli")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def errors(capsys) -> Callable[[], str]:
    """What stands on standard error since it was last asked."""
    return lambda: capsys.readouterr().err


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_component_writes_its_own_file_as_json_lines(tmp_path, errors):
    telemetry.set_up("info", folder=str(tmp_path))
    for component in COMPONENTS:
        telemetry.log(component).info(f"from {component}", at_s=12.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{c}.log" for c in COMPONENTS)
    for component in COMPONENTS:
        (row,) = rows(tmp_path / f"{component}.log")
        written = datetime.fromisoformat(row.pop("timestamp"))
        assert row == {
            "event": f"from {component}",
            "at_s": 12.0,
            "level": "info",
            "logger": f"headway.{component}",
        }
        assert written.tzinfo == UTC
        assert abs(datetime.now(UTC) - written) < timedelta(minutes=10)


def test_a_file_is_made_by_the_first_line_that_reaches_it(tmp_path, errors):
    telemetry.set_up("info", folder=str(tmp_path / "a" / "b"))
    telemetry.log("safety").debug("below the level")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    telemetry.set_up("info", folder=str(tmp_path / "a" / "b"))  # the folder may be there
    telemetry.log("safety").info("at the level")
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["safety.log"]


def test_without_a_folder_nothing_is_written_but_to_standard_error(tmp_path, errors, monkeypatch):
    monkeypatch.chdir(tmp_path)
    telemetry.set_up()
    telemetry.log("street").info("restored")
    assert list(tmp_path.iterdir()) == []
    assert "restored" in errors()


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("info", ["info", "warning", "error", "critical"]),
        ("warning", ["warning", "error", "critical"]),
        ("error", ["error", "critical"]),
        ("critical", ["critical"]),
    ],
)
def test_what_is_below_the_level_is_left_out(errors, level, written):
    telemetry.set_up(level, json_lines=True)
    for each in ("debug", "info", "warning", "error", "critical"):
        getattr(telemetry.log("cli"), each)("happened")
    assert [json.loads(line)["level"] for line in errors().splitlines()] == written


def test_the_level_is_info_and_the_lines_are_for_people_unless_said(errors):
    telemetry.set_up()
    telemetry.log("street").debug("hidden")
    telemetry.log("street").info("restored", at_s=12.0)
    said = re.fullmatch(r"(\S+) \[info     \] restored +\[headway\.street\] at_s=12\.0\n", errors())
    assert said is not None
    assert datetime.fromisoformat(said[1]).tzinfo == UTC


def test_lines_for_people_are_coloured_on_a_terminal_alone(monkeypatch):
    terminal, pipe = Terminal(), io.StringIO()
    for out in (terminal, pipe):
        monkeypatch.setattr(sys, "stderr", out)
        telemetry.set_up()
        telemetry.log("street").info("restored")
    assert "\x1b[" in terminal.getvalue()
    assert "\x1b[" not in pipe.getvalue()


def test_json_lines_carry_context_and_faults(errors):
    telemetry.set_up(json_lines=True)
    with structlog.contextvars.bound_contextvars(request="r1"):
        try:
            raise ValueError("broken")
        except ValueError:
            telemetry.log("api").exception("failed")
    (row,) = map(json.loads, errors().splitlines())
    assert row.pop("timestamp")
    assert row.pop("exception").endswith("\nValueError: broken")
    assert row == {"event": "failed", "level": "error", "logger": "headway.api", "request": "r1"}


def test_lines_of_the_standard_library_come_out_alike(errors, tmp_path):
    telemetry.set_up(json_lines=True, folder=str(tmp_path))
    logging.getLogger("headway.store").warning("slow by %d s", 3)
    (row,) = map(json.loads, errors().splitlines())
    assert row.pop("timestamp")
    assert row == {"event": "slow by 3 s", "level": "warning", "logger": "headway.store"}
    assert rows(tmp_path / "store.log")[0]["event"] == "slow by 3 s"


def test_set_up_again_writes_each_line_once_and_where_it_was_last_asked(errors, tmp_path):
    for folder in ("one", "two"):
        telemetry.set_up(json_lines=True, folder=str(tmp_path / folder))
        telemetry.log("street").info(folder)
    assert [json.loads(line)["event"] for line in errors().splitlines()] == ["one", "two"]
    assert [r["event"] for r in rows(tmp_path / "one" / "street.log")] == ["one"]
    assert [r["event"] for r in rows(tmp_path / "two" / "street.log")] == ["two"]
    telemetry.set_up()
    telemetry.log("street").info("three")
    assert [r["event"] for r in rows(tmp_path / "two" / "street.log")] == ["two"]


def test_a_logger_that_is_at_hand_follows_a_new_set_up(errors):
    telemetry.set_up("error")
    log = telemetry.log("street")
    log.info("hidden")
    telemetry.set_up("info", json_lines=True)
    log.info("seen")
    assert json.loads(errors())["event"] == "seen"


def test_no_line_goes_on_to_the_loggers_of_others(errors):
    """A root logger with a handler of its own would print each line a second time."""
    telemetry.set_up()
    heard = io.StringIO()
    others = logging.StreamHandler(heard)
    logging.getLogger().addHandler(others)
    try:
        telemetry.log("street").error("once")
    finally:
        logging.getLogger().removeHandler(others)
    assert heard.getvalue() == ""
    assert errors().count("once") == 1


def test_files_are_turned_over_and_the_last_five_kept(errors, tmp_path, monkeypatch):
    assert (telemetry.LONGEST_FILE_BYTES, telemetry.FILES_KEPT) == (10_000_000, 5)
    monkeypatch.setattr(telemetry, "LONGEST_FILE_BYTES", 300)
    telemetry.set_up(folder=str(tmp_path))
    for number in range(20):
        telemetry.log("engine").info(
            "x" * 150, number=number
        )  # 300 bytes hold one such line, not two
    names = ["engine.log", *(f"engine.log.{k}" for k in range(1, 6))]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert [[r["number"] for r in rows(tmp_path / n)] for n in names] == [
        [19],
        [18],
        [17],
        [16],
        [15],
        [14],
    ]


def test_an_unknown_component_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^no component 'strete'\. There are: engine, street, safety, training, api, "
        r"store, sensing, cli\.$",
    ):
        telemetry.log("strete")
    assert telemetry.COMPONENTS == COMPONENTS
