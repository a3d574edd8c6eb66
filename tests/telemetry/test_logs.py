"""Logs: structured, with a file for each component."""

import json

import pytest

from headway import telemetry


def test_each_component_writes_its_own_file_as_json_lines(tmp_path):
    telemetry.set_up("info", folder=str(tmp_path))
    telemetry.log("street").info("restored", at_s=12.0)
    telemetry.log("safety").debug("below the level")
    row = json.loads((tmp_path / "street.log").read_text())
    assert (row["event"], row["at_s"], row["level"], row["logger"]) == ("restored", 12.0, "info", "headway.street")
    assert not (tmp_path / "safety.log").exists()
    telemetry.set_up()


def test_an_unknown_component_is_refused():
    with pytest.raises(ValueError, match="There are: engine"):
        telemetry.log("strete")
