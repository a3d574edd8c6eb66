"""Tokens, keys and secrets from the command line."""

from __future__ import annotations

import os

import jwt
import pytest

from headway.api.keys import Keys
from headway.api.problems import ProblemError
from headway.api.security import Keyring, Principal, Role
from headway.store import open_database
from headway.store.handed import handed


@pytest.mark.parametrize(
    ("words", "role", "seconds"),
    [
        ([], "viewer", 43200),
        (["--role", "ADMIN"], "admin", 43200),
        (["--role", "operator", "--hours", "0.01"], "operator", 36),
        (["--hours", "8784"], "viewer", 31622400),
    ],
)
def test_a_token_is_printed_for_whom_it_is(headway, tmp_path, words, role, seconds):
    Keyring(tmp_path / "there" / "keys.json")  # a server has made it
    ran = headway("token", "me", "--data", "there", *words)
    assert (ran.status, ran.err) == (0, "")
    assert Keyring(tmp_path / "there" / "keys.json").read(ran.out.strip()) == Principal(
        "me", Role[role.upper()]
    )
    claims = jwt.decode(ran.out.strip(), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] in (seconds, seconds + 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["me", "--role", "god"], "no role 'god'. There are: viewer,"),
        (["me", "--hours", "0.009"], "--hours"),
        (["me", "--hours", "8784.5"], "--hours"), ([], "Missing argument"),
        (["acme:north"], "without ':'"), (["a\nb"], "no holder"), ([""], "no holder"),
        (["x" * 65], "no holder"),
    ],
)  # fmt: skip
def test_a_token_that_cannot_be_is_a_wrong_call(headway, words, said):
    ran = headway("token", *words)
    assert (ran.status, ran.out, said in ran.err) == (2, "", True)


def test_a_token_that_no_server_would_accept_is_refused_and_makes_nothing(
    headway, tmp_path, monkeypatch
):
    ran = headway("token", "me", "--data", "typo")
    assert (ran.status, ran.out) == (1, "")
    assert "typo/keys.json: not there" in ran.err
    assert "--data" in ran.err
    assert not (tmp_path / "typo").exists()
    monkeypatch.setenv("HEADWAY_SECRET_KEY", "0123456789abcdef" * 3)
    ran = headway("token", "me", "--data", "typo")  # every server of this secret accepts it
    assert (ran.status, (tmp_path / "typo").exists()) == (0, False)
    server = Keyring(tmp_path / "server" / "keys.json", "0123456789abcdef" * 3)
    assert server.read(ran.out.strip()) == Principal("me", Role.VIEWER)


def test_a_key_is_rotated_by_command(headway, tmp_path, new_record, monkeypatch):
    url = new_record()
    monkeypatch.setenv("HEADWAY_DATABASE_URL", url)
    database = open_database(tmp_path / "data", url)
    try:
        old = Keys(database).make("loader", Role.OPERATOR)
        ran = headway("key", "rotate", old.split("_")[1], "--overlap", "1", "--data", "data")
        assert ran.status == 0
        made = ran.out.splitlines()[-1]
        assert Keys(database).read(made).name == Keys(database).read(old).name == "loader"
        (entry,) = database.rows("SELECT who, what, data FROM audit")
        assert (entry["who"], entry["what"]) == ("headway key rotate", "rotate")
        assert entry["data"] == {"old": old.split("_")[1], "new": made.split("_")[1]}
        assert "no key '00' is in force" in headway("key", "rotate", "00").err
    finally:
        database.close()


def test_the_secret_of_tokens_is_rotated_by_command(headway, tmp_path, monkeypatch):
    monkeypatch.delenv("HEADWAY_SECRET_KEY", raising=False)
    monkeypatch.delenv("SECRET_KEY", raising=False)
    server = Keyring(tmp_path / "data" / "keys.json")
    before = server.token("a", Role.VIEWER)
    assert headway("key", "rotate-secret").status == 0
    assert server.read(before).name == "a"
    assert headway("key", "rotate-secret", "--keep", "1").status == 0
    with pytest.raises(ProblemError):
        server.read(before)


def test_tokens_and_secrets_made_by_command_are_left_for_the_audit_trail(headway, tmp_path):
    server = Keyring(tmp_path / "data" / "keys.json")
    made = headway("token", "me", "--role", "engineer", "--street", "a", "--hours", "2")
    assert headway("key", "rotate-secret").status == 0
    token, secret = handed(tmp_path / "data")
    user = str(os.getuid())
    assert token[1:] == ["headway token", "ADMIN", "token", 200, {
        "user": user, "name": "me", "role": "engineer", "hours": "2", "streets": ["a"],
        "cameras": [], "number": server.read(made.out.strip()).token,
    }]  # fmt: skip
    assert (secret[1], secret[5]["keep"]) == ("headway rotate-secret", "2")
    (tmp_path / "data" / "handed").rmdir()
    (tmp_path / "data" / "handed").touch()  # nothing can be left there
    told = headway("token", "me")
    assert (told.status, "this is not in the audit trail" in told.err) == (0, True)
    assert server.read(told.out.strip()).name == "me"


def test_a_token_is_bounded_by_command(headway, tmp_path):
    server = Keyring(tmp_path / "data" / "keys.json")
    ran = headway("token", "me", "--street", "a", "--street", "b", "--camera", "c")
    bounds = server.read(ran.out.strip()).bounds
    assert (bounds.streets, bounds.cameras) == ({"a", "b"}, {"c"})
    assert server.read(headway("token", "me").out.strip()).bounds.are_none
    assert headway("token", "me", "--role", "admin", "--street", "a").status == 2
