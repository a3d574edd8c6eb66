"""What `environment` means for a server: what production refuses, TLS files, the start anew."""

from __future__ import annotations

import threading

import pytest

from headway.cli import environment
from headway.cli.environment import Reload, refuse_unsafe, weakness
from headway.settings import SettingsError, checked
from tests.certificates import certificate
from tests.waiting import until

GOOD = "kV3w9QzR7mX2bN8cL5tY1uA6sD4fG0hJ"
PROXY = {"proxies": ["127.0.0.1", "10.0.0.0/8"]}


def refused(tmp_path, variables=None, **sections):
    tree = {"environment": "production", "server": PROXY} | sections
    try:
        refuse_unsafe(checked(tree), tmp_path, variables or {})
    except SettingsError as error:
        return str(error).splitlines()[1:]
    return []


def test_production_starts_with_a_proxy_stated_and_secrets_that_cannot_be_guessed(tmp_path):
    hooks = {"webhooks": [{"url": "https://x.example", "secret": GOOD}]}
    address = "postgresql://headway:hT7-qP4z@db/headway"
    variables = {"HEADWAY_SECRET_KEY": GOOD, "HEADWAY_DATABASE_URL": address}
    assert refused(tmp_path, variables, notify=hooks) == []


def test_without_tls_or_a_proxy_it_refuses_and_says_how_to_state_one(tmp_path):
    (fault,) = refused(tmp_path, server={})
    assert fault.startswith("- production needs https.")
    assert fault.endswith("server: {proxies: [127.0.0.1]}.")


@pytest.mark.parametrize(
    ("sections", "variables", "said"),
    [
        ({"log": {"level": "debug"}}, {}, "log.level is debug"),
        ({}, {"HEADWAY_SECRET_KEY": "a" * 31}, "HEADWAY_SECRET_KEY is shorter than 32"),
        ({}, {"HEADWAY_SECRET_KEY": "ab" * 20}, "HEADWAY_SECRET_KEY has fewer than 10"),
        ({}, {"HEADWAY_SECRET_KEY": "changeme" + GOOD}, "HEADWAY_SECRET_KEY begins with a common"),
        (
            {"notify": {"webhooks": [{"url": "https://x", "secret": "sixteen letters!"}]}},
            {},
            "notify.webhooks.0.secret is shorter than 32",
        ),
        (
            {
                "notify": {
                    "mail": {
                        "host": "h", "port": 25, "sender": "a@b", "to": ["c@d"], "user": "u",
                        "password": "p", "security": "none",
                    }
                }
            },
            {},
            "notify.mail.password would be sent unencrypted",
        ),
        ({}, {"HEADWAY_SECRET_KEY": "abcdefghij" * 4}, "HEADWAY_SECRET_KEY repeats itself"),
        ({}, {"HEADWAY_SECRET_KEY": "k7Qz9aLm2x" * 3 + "k7Qz"}, "HEADWAY_SECRET_KEY repeats"),
        (
            {},
            {"HEADWAY_SECRET_KEY": "abcdefghijklmnopqrstuvwxyz0123456789"},
            "HEADWAY_SECRET_KEY is a sequence",
        ),
        ({"server": {"proxies": ["0.0.0.0/0"]}}, {}, "server.proxies: 0.0.0.0/0 believes anybody"),
        ({"server": {"proxies": ["128.0.0.0/1"]}}, {}, "believes anybody"),
        ({"server": {"proxies": ["::/0"]}}, {}, "believes anybody"),
        ({"server": {"proxies": ["::ffff:0:0/96"]}}, {}, "believes anybody"),
        (
            {"external": {"mqtt": {"host": "broker", "user": "u", "password": GOOD, "tls": False}}},
            {},
            "external.mqtt.password would be sent unencrypted",
        ),
        *(
            ({}, {"HEADWAY_DATABASE_URL": f"postgresql://traffic:{password}@db/x"}, "its password")
            for password in (
                "postgres", "123456", "headway1", "Headway-2026!", "traffic", "traffic99", "hT7-qP",
                "xyxyxyxyxy",
            )
        ),
    ],
)  # fmt: skip
def test_what_is_unsafe_is_refused_in_production_alone(tmp_path, sections, variables, said):
    (fault,) = refused(tmp_path, variables, **sections)
    assert said in fault
    assert refused(tmp_path, variables, environment="local", **sections) == []


def test_what_is_safe_enough_starts(tmp_path):
    here = {"host": "127.0.0.1", "user": "u", "password": "p", "tls": False}
    proxies = {"proxies": ["10.0.0.0/8", "fc00::/7", "173.245.48.0/20", "::1", "2001:db8::/32"]}
    assert refused(tmp_path, server=proxies, external={"mqtt": here}) == []
    assert refused(tmp_path, {"HEADWAY_DATABASE_URL": "postgresql://u@/x"}) == []


def test_a_key_file_that_others_can_read_is_refused(tmp_path):
    keys = tmp_path / "keys.json"
    keys.write_text("{}")
    keys.chmod(0o640)
    (fault,) = refused(tmp_path)
    assert fault == f"- {keys} can be read by others. Run: chmod 600 {keys}."
    keys.chmod(0o600)
    assert refused(tmp_path) == []


def test_all_faults_are_named_at_once(tmp_path):
    assert len(refused(tmp_path, {"HEADWAY_SECRET_KEY": "x"}, server={})) == 2


@pytest.mark.parametrize("secret", [GOOD, "x" * 5 + GOOD])
def test_a_secret_drawn_at_random_is_strong(secret):
    assert weakness(secret) == ""


def test_a_certificate_with_its_key_serves_in_production(tmp_path):
    files = certificate(tmp_path)
    assert refused(tmp_path, server=files) == []
    wrong = files | {"tls_key": files["tls_certificate"]}
    for broken in (wrong, files | {"tls_key": str(tmp_path / "none")}):
        with pytest.raises(SettingsError, match=r"cannot be used .*as PEM files\."):
            refuse_unsafe(checked({"server": broken}), tmp_path, {})


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"tls_key": "k"}, "give tls_certificate and tls_key together"),
        ({"proxies": ["*"]}, "'*' is no address"),
        ({"proxies": ["proxy.example"]}, "is no address. Give IP addresses or networks"),
    ],
)
def test_half_of_tls_or_a_proxy_without_an_address_is_refused(server, said):
    with pytest.raises(SettingsError) as fault:
        checked({"server": server})
    assert said in str(fault.value)


def test_in_development_a_changed_source_file_ends_the_server_to_be_started_anew(
    tmp_path, monkeypatch
):
    (tmp_path / "a.py").write_text("")
    monkeypatch.setattr(environment.headway, "__file__", str(tmp_path / "__init__.py"))
    stopped = threading.Event()
    reload = Reload(stopped.set, every_s=0.01)
    reload.start()
    assert not stopped.wait(0.1)
    assert not reload.wanted
    (tmp_path / "b.py").write_text("")
    until(stopped.is_set)
    assert reload.wanted
