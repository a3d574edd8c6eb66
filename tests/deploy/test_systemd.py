"""The units of a roadside box: what they start, what they are told, and how much they may."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from headway import settings

ROOT = Path(__file__).parents[2]
HERE = ROOT / "deploy" / "systemd"
STREET = "headway-street@.service"
SERVICES = ("headway.service", "headway-drill.service", STREET)
STARTED = ("headway serve", "headway db upkeep", "headway street")
WORST = 2.5  # of 10, by `systemd-analyze security`
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="NO SYSTEMD-ANALYZE: install Debian's `systemd`"
)


def values(unit, key):
    text = (HERE / unit).read_text(encoding="utf-8")
    return re.findall(rf"^{key}=(.*)$", text, flags=re.MULTILINE)


def section(unit, name):
    """Its lines, without comments."""
    text = (HERE / unit).read_text(encoding="utf-8").partition(f"[{name}]\n")[2]
    lines = text.partition("\n[")[0].splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def exposure(path):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", path], capture_output=True, text=True
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found.group(1))


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_may_little(unit):
    assert exposure(HERE / unit) <= WORST


@needs_systemd
def test_the_bound_finds_a_unit_that_may_much(tmp_path):
    text = (HERE / "headway.service").read_text(encoding="utf-8")
    path = tmp_path / "open.service"
    path.write_text(re.sub(r"(?m)^(Protect|Private|Restrict|SystemCall|Capab).*\n", "", text))
    assert exposure(path) > WORST


@needs_systemd
@pytest.mark.parametrize("unit", [*SERVICES, "headway-drill.timer"])
def test_systemd_understands_each_line(unit, tmp_path):
    """But for the programme, which is not installed here."""
    for name in (*SERVICES, "headway-drill.timer"):
        text = (HERE / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("/opt/headway/current/bin/headway", "/bin/true"))
    instance = unit.replace("@.", "@north.")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / instance],
        capture_output=True, text=True,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line or instance in line]
    assert ours == []


def test_the_commands_and_options_are_those_that_there_are():
    contract = (ROOT / "tests" / "cli" / "contract.txt").read_text(encoding="utf-8")
    blocks = {block.split("\n")[0]: block for block in re.split(r"\n(?=headway )", contract)}
    for unit, command in zip(SERVICES, STARTED, strict=True):
        (line,) = values(unit, "ExecStart")
        assert f"{line} ".startswith(f"/opt/headway/current/bin/{command} ")
        for option in re.findall(r"--[a-z-]+", line):
            assert option.replace("--no-", "--") in blocks[command], option


def test_its_settings_can_be_used_and_keep_more_than_a_week():
    found = settings.load(HERE / "street.yaml")
    assert found.environment == "production"
    assert found.upkeep.retention_days > 7
    for unit in SERVICES[:2]:
        assert found.upkeep.folder in values(unit, "ReadWritePaths")
        assert "/etc/headway/street.yaml" in values(unit, "ExecStart")[0]


@pytest.mark.parametrize("unit", ["headway.service", STREET])
def test_the_watchdog_is_fed_more_often_than_it_bites(unit):
    """Signs come four times in WatchdogSec; twice is what sd_watchdog_enabled(3) recommends."""
    (watchdog,) = values(unit, "WatchdogSec")
    assert values(unit, "Type") == ["notify"]
    assert float(watchdog) / 4 > 1.0, "ten looks of the event loop a second"


@pytest.mark.parametrize("unit", ["headway.service", STREET])
def test_a_street_that_fails_is_started_again_without_end(unit):
    assert values(unit, "Restart") == ["always"]
    assert values(unit, "StartLimitIntervalSec") == ["0"]


def test_neither_a_link_nor_a_name_is_waited_for():
    text = (HERE / "headway.service").read_text(encoding="utf-8")
    assert not re.search(r"network-online|nss-lookup|DATABASE_URL", text)
    assert not re.search(r"network-online|nss-lookup", (HERE / STREET).read_text(encoding="utf-8"))


def test_a_street_of_its_own_has_the_bounds_of_the_box_and_fewer_secrets():
    """It has no port and makes no tokens: nobody signs in by what lies in its memory."""
    own, box = (section(unit, "Service") for unit in (STREET, "headway.service"))
    told = {"ExecStart", "Environment", "LoadCredential", "SyslogIdentifier", "TimeoutStartSec"}
    assert {line for line in box - own if line.partition("=")[0] not in told} == {
        "ReadWritePaths=/var/backups/headway",
        "RuntimeDirectory=headway",
    }
    assert {line for line in own - box if line.partition("=")[0] not in told} == set()
    assert "secret-key" not in (HERE / STREET).read_text(encoding="utf-8")


@pytest.mark.parametrize("file", [STREET, "follow.conf"])
def test_streets_and_those_who_show_them_meet_at_addresses_in_files(file):
    named = dict(word.split("=") for line in values(file, "Environment") for word in line.split())
    files = [named[f"HEADWAY_{what}_URL_FILE"] for what in ("DATABASE", "REDIS")]
    credentials = [one.partition(":")[0] for one in values(file, "LoadCredential")]
    assert files == [f"%d/{name}" for name in credentials]
    kept = re.findall(r"(?m)^z (\S+) 0600 root root", (HERE / "tmpfiles.conf").read_text())
    for one in values(file, "LoadCredential"):
        assert one.partition(":")[2] in kept


def test_a_street_of_its_own_is_named_by_its_unit_and_has_settings_of_its_own():
    (line,) = values(STREET, "ExecStart")
    assert line.split()[1:] == [
        "street", "%i", "--standby", "--config", "/etc/headway/%i.yaml",
        "--data", "/var/lib/headway",
    ]  # fmt: skip
    alone, box = settings.load(HERE / "street-alone.yaml"), settings.load(HERE / "street.yaml")
    changed = {"server": True, "upkeep": True}
    assert alone.model_dump(exclude=changed) == box.model_dump(exclude=changed)


def test_the_api_beside_streets_of_their_own_has_none_itself():
    cleared, line = values("follow.conf", "ExecStart")
    (box,) = values("headway.service", "ExecStart")
    assert (cleared, set(line.split()) ^ set(box.split())) == ("", {"--follow", "--no-baseline"})


def test_the_address_of_a_centre_stands_in_a_file_and_its_settings_wait_for_nothing():
    (variable,), (credential,) = (
        values("centre.conf", k) for k in ("Environment", "LoadCredential")
    )
    assert variable == f"HEADWAY_DATABASE_URL_FILE=%d/{credential.partition(':')[0]}"
    assert not re.search("network-online|After|Requires", (HERE / "centre.conf").read_text())
    found, own = settings.load(HERE / "street-centre.yaml"), settings.load(HERE / "street.yaml")
    assert not found.database.needed_at_start
    assert (found.upkeep.backup_every_h, found.upkeep.retention_days) == (0, 0)
    assert found.spool == settings.SpoolSettings()
    assert found.street.name != own.street.name
    changed = {"database": True, "spool": True, "upkeep": True, "street": {"name"}}
    assert found.model_dump(exclude=changed) == own.model_dump(exclude=changed)


def test_no_secret_stands_in_a_unit():
    for unit in SERVICES:
        for line in values(unit, "Environment"):
            for word in line.split():
                name, _, value = word.partition("=")
                assert name.endswith("_FILE") or "SECRET" not in name
                assert "password" not in value.lower()
