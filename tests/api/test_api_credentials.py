"""Tokens, keys, roles and the audit trail, each by itself: what they hold, what they refuse."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import types

import jwt
import pytest
import sqlalchemy as sa

from headway.api.dependencies import need
from headway.api.problems import ProblemError
from headway.api.security import (
    ALGORITHM,
    ISSUER,
    NOBODY,
    Audit,
    Keyring,
    Keys,
    Principal,
    Role,
    identify,
)

NOW = 1_700_000_000.75


@pytest.fixture
def keyring(tmp_path):
    return Keyring(tmp_path / "deep" / "er" / "keys.json")


@pytest.fixture
def secret(tmp_path, keyring):
    """(key id, secret) that signs."""
    return list(json.loads((tmp_path / "deep" / "er" / "keys.json").read_text()).items())[-1]


def refused(call, *words):
    with pytest.raises(ProblemError) as fault:
        call(*words)
    assert (fault.value.status, fault.value.headers) == (401, {"WWW-Authenticate": "Bearer"})
    return fault.value.detail


def test_roles_are_in_order():
    assert [r.name for r in sorted(Role)] == [
        *("VIEWER", "SOURCE", "OPERATOR", "ENGINEER", "ADMIN")
    ]
    assert [r.value for r in sorted(Role)] == [0, 1, 2, 3, 4]
    assert Principal("", Role.VIEWER) == NOBODY


def test_secrets_are_made_once_and_private_to_the_user(tmp_path):
    path = tmp_path / "a" / "b" / "keys.json"
    keyring = Keyring(path)
    ((kid, secret),) = json.loads(path.read_text()).items()
    assert path.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"[0-9a-f]{8}", kid)
    assert len(secret) == 64  # 48 bytes in base64
    token = keyring.token("me", Role.ADMIN)
    assert Keyring(path).read(token) == Principal("me", Role.ADMIN)
    assert list(json.loads(path.read_text())) == [kid]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("keep", "good"), [(1, [3]), (2, [2, 3]), (3, [1, 2, 3]), (None, [2, 3])])
def test_after_a_rotation_the_newest_signs_and_so_many_verify(tmp_path, keep, good):
    path = tmp_path / "keys.json"
    keyring = Keyring(path)
    path.with_suffix(".draft").write_text("left behind by a crash")
    tokens = [keyring.token("0", Role.VIEWER)]
    for n in (1, 2, 3):
        kid = keyring.rotate() if keep is None else keyring.rotate(keep)
        tokens.append(keyring.token(str(n), Role.VIEWER))
        assert jwt.get_unverified_header(tokens[-1])["kid"] == kid
    found = []
    for n, token in enumerate(tokens):
        for ring in (keyring, Keyring(path)):
            try:
                assert ring.read(token) == Principal(str(n), Role.VIEWER)
                found.append(n)
            except ProblemError:
                pass
    assert found == [n for n in good for _ in range(2)]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_token_states_subject_role_expiry_and_issuer(keyring, secret, monkeypatch):
    monkeypatch.setattr("time.time", lambda: NOW)
    token = keyring.token("me", Role.OPERATOR)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT", "kid": secret[0]}
    claims = jwt.decode(
        token,
        secret[1],
        ["HS256"],
        issuer="headway",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert len(bytes.fromhex(claims.pop("jti"))) == 8
    assert claims == {
        "sub": "me",
        "role": "operator",
        "iss": "headway",
        "iat": 1_700_000_000,
        "exp": 1_700_043_200,
    }  # 12 hours
    short = keyring.token("me", Role.OPERATOR, 90.5)
    assert jwt.decode(short, options={"verify_signature": False})["exp"] == 1_700_000_091


def test_a_token_is_valid_until_it_expires(keyring, secret):
    good = {"sub": "me", "role": "engineer", "iss": ISSUER, "exp": int(time.time()) + 60}

    def read(**claims):
        return keyring.read(
            jwt.encode(good | claims, secret[1], ALGORITHM, headers={"kid": secret[0]})
        )

    assert read() == Principal("me", Role.ENGINEER)
    assert read(role="ENGINEER").role is Role.ENGINEER
    assert (
        refused(lambda: read(exp=int(time.time()) - 1))
        == "the token is not valid (Signature has expired)"
    )
    assert refused(lambda: read(iss="another")) == "the token is not valid (Invalid issuer)"
    assert refused(lambda: read(role="god")) == "the token is not valid ('GOD')"
    assert "not valid" in refused(lambda: read(sub=7))


@pytest.mark.parametrize("claim", ["exp", "sub", "role", "iss"])
def test_a_token_without_a_required_claim_is_refused(keyring, secret, claim):
    claims = {"sub": "me", "role": "admin", "iss": ISSUER, "exp": int(time.time()) + 60}
    del claims[claim]
    detail = refused(
        keyring.read, jwt.encode(claims, secret[1], ALGORITHM, headers={"kid": secret[0]})
    )
    assert detail == f'the token is not valid (Token is missing the "{claim}" claim)'


@pytest.mark.parametrize("kid", ["other", "", None])
def test_a_token_of_another_key_is_refused(keyring, secret, kid):
    claims = {"sub": "me", "role": "admin", "iss": ISSUER, "exp": int(time.time()) + 60}
    token = jwt.encode(
        claims, secret[1], ALGORITHM, headers={"kid": kid} if kid is not None else {}
    )
    assert (
        refused(keyring.read, token)
        == "the token is not valid (signed with a key that is not in force)"
    )


@pytest.mark.parametrize(
    "token", ["", "nonsense", "a.b.c", "é", "..", "eyJhbGciOiJIUzI1NiIsImtpZCI6WzFdfQ.e30.x"]
)
def test_malformed_tokens_are_refused(keyring, token):
    assert refused(keyring.read, token).startswith("the token is not valid (")


@pytest.mark.parametrize(
    ("headers", "query", "found"),
    [
        ({"authorization": "Bearer T"}, None, "T"), ({"authorization": "bearer   T "}, None, "T"),
        ({"authorization": "Basic T"}, None, None),
        ({"authorization": "Bearer"}, None, None), ({"authorization": "Bearer "}, None, None),
        ({}, None, None), ({}, {"token": ""}, None),
        ({}, {"token": "T"}, "T"), ({"x-api-key": "K"}, {"token": "T"}, "K"),
        ({"authorization": "Bearer T", "x-api-key": "K"}, None, "T"),
        ({"authorization": "Basic x", "x-api-key": "K"}, None, "K"),
        ({"x-api-key": ""}, None, None),
    ],
)  # fmt: skip
def test_the_principal_comes_from_a_token_else_a_key_else_the_query(headers, query, found):
    reader = types.SimpleNamespace(read=lambda credentials: credentials)
    if found is None:
        detail = refused(identify, reader, reader, headers, query)
        assert detail == "credentials are needed: a bearer token, or an API key in X-API-Key"
    else:
        assert identify(reader, reader, headers, query) == found


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("needed", Role)
def test_a_role_includes_the_roles_below_it(keyring, role, needed):
    services = types.SimpleNamespace(keyring=keyring, keys=None)
    token = keyring.token("me", role)
    request = types.SimpleNamespace(
        app=types.SimpleNamespace(state=types.SimpleNamespace(services=services)),
        headers={"authorization": f"Bearer {token}"},
        query_params={},
        state=types.SimpleNamespace(),
    )
    if role.value >= needed.value:
        assert need(needed)(request) == Principal("me", role)
    else:
        with pytest.raises(ProblemError) as fault:
            need(needed)(request)
        assert fault.value.status == 403
        assert (
            fault.value.detail
            == f"this needs the role {needed.name.lower()}; yours is {role.name.lower()}"
        )
    assert request.state.principal == Principal(
        "me", role
    )  # for the audit trail, also where it is refused


def test_a_key_is_shown_once_and_kept_as_a_hash(database):
    keys = Keys(database)
    key = keys.make("loader", Role.ENGINEER)
    prefix, number, secret = key.split("_", 2)
    assert (prefix, len(bytes.fromhex(number)), len(secret)) == ("hw", 6, 43)  # 32 bytes in base64
    (row,) = database.rows(
        "SELECT id, hash, name, role, revoked_at FROM api_key WHERE id = :id", id=number
    )
    assert row == {
        "id": number,
        "hash": hashlib.sha256(secret.encode()).hexdigest(),
        "name": "loader",
        "role": "engineer",
        "revoked_at": None,
    }
    assert keys.read(key) == Principal("loader", Role.ENGINEER)
    assert keys.revoke(number) is True
    assert keys.revoke(number) is False
    assert keys.revoke("none") is False
    assert refused(keys.read, key) == "the API key is not valid"


def test_a_key_s_secret_may_hold_an_underscore(database):
    row = "INSERT INTO api_key (id, hash, name, role) VALUES ('k1', :hash, 'n', 'viewer')"
    database.execute(row, hash=hashlib.sha256(b"a_b__c").hexdigest())
    assert Keys(database).read("hw_k1_a_b__c") == Principal("n", Role.VIEWER)


@pytest.mark.parametrize(
    "key",
    [
        "hw_k2_y",
        "hw_k2_",
        "hw_k2",
        "xx_k2_x",
        "hw__x",
        "hw_none_x",
        "hw_\x00_x",
        "",
        "x",
        "hw_k2_x_",
    ],
)
def test_malformed_keys_are_refused(database, key):
    if not database.rows("SELECT 1 FROM api_key WHERE id = 'k2'"):
        row = "INSERT INTO api_key (id, hash, name, role) VALUES ('k2', :hash, 'n', 'viewer')"
        database.execute(row, hash=hashlib.sha256(b"x").hexdigest())
    assert Keys(database).read("hw_k2_x").name == "n"
    assert refused(Keys(database).read, key) == "the API key is not valid"


@pytest.fixture
def audit(database, monkeypatch):
    """An empty trail; the test may change what no one else may."""
    database.execute("ALTER TABLE audit DISABLE TRIGGER audit_is_kept")
    database.execute("DELETE FROM audit")
    monkeypatch.setattr("time.time", lambda: NOW)
    return Audit(database)


def sealed(before, **entry):
    return hashlib.sha256(
        (before + json.dumps(entry, sort_keys=True, separators=(",", ":"))).encode()
    ).hexdigest()


def test_each_audit_entry_is_chained_to_the_one_before(audit, database):
    audit.add(Principal("a", Role.ADMIN), "POST /x", 200, {"n": 1})
    audit.add(Principal("b", Role.VIEWER), "DELETE /y", 403, {})
    rows = database.rows(
        "SELECT number, extract(epoch FROM at)::text AS at, who, role, what, status, data, "
        "before, hash FROM audit ORDER BY number"
    )
    one = {
        "number": 1,
        "at": "1700000000.750000",
        "who": "a",
        "role": "admin",
        "what": "POST /x",
        "status": 200,
        "data": {"n": 1},
    }
    two = {
        "number": 2,
        "at": "1700000000.750000",
        "who": "b",
        "role": "viewer",
        "what": "DELETE /y",
        "status": 403,
        "data": {},
    }
    first = sealed("", **one)
    assert rows == [
        one | {"before": "", "hash": first},
        two | {"before": first, "hash": sealed(first, **two)},
    ]
    assert audit.verify() == (2, "")


def test_two_processes_write_one_audit_trail(audit, database):
    """Each has a trail of its own in memory; the database sees to it that they take turns."""
    faults = []

    def write(trail):
        try:
            for k in range(15):
                trail.add(Principal("a", Role.ADMIN), f"POST /{k}", 200, {})
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(Audit(database),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert audit.verify() == (45, "")


def test_an_empty_audit_trail_is_valid(audit):
    assert audit.verify() == (0, "")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE audit SET who = 'x' WHERE number = 2", (2, "entry 2 was changed")),
        ("UPDATE audit SET role = 'x' WHERE number = 1", (1, "entry 1 was changed")),
        ("UPDATE audit SET what = 'x' WHERE number = 3", (3, "entry 3 was changed")),
        ("UPDATE audit SET status = 201 WHERE number = 3", (3, "entry 3 was changed")),
        ("UPDATE audit SET data = '{\"a\": 1}' WHERE number = 3", (3, "entry 3 was changed")),
        (
            "UPDATE audit SET at = at + interval '1 microsecond' WHERE number = 3",
            (3, "entry 3 was changed"),
        ),
        ("UPDATE audit SET before = 'x' WHERE number = 2", (2, "entry 2 was changed")),
        ("UPDATE audit SET hash = 'x' WHERE number = 2", (2, "entry 2 was changed")),
        ("DELETE FROM audit WHERE number = 1", (1, "entry 1 is missing")),
        ("DELETE FROM audit WHERE number = 2", (2, "entry 2 is missing")),
        ("DELETE FROM audit WHERE number = 3", (2, "")),  # nobody can know of the last one
    ],
)
def test_any_change_of_the_audit_trail_is_found(audit, database, change, found):
    for k in range(3):
        audit.add(Principal("a", Role.ADMIN), f"POST /{k}", 200, {})
    database.execute(change)
    assert audit.verify() == found


def test_a_forged_entry_breaks_the_chain(audit, database):
    for k in range(3):
        audit.add(Principal("a", Role.ADMIN), f"POST /{k}", 200, {})
    (row,) = database.rows(
        "SELECT number, extract(epoch FROM at)::text AS at, who, role, what, status, data, "
        "before FROM audit WHERE number = 2"
    )
    before = row.pop("before")
    database.execute(
        "UPDATE audit SET status = 500, hash = :hash WHERE number = 2",
        hash=sealed(before, **row | {"status": 500}),
    )
    assert audit.verify() == (3, "entry 3 was changed")


def test_an_entry_does_not_wait_without_end_for_who_has_locked_the_audit(audit, database):
    """The answer of an order waits for its entry."""
    with database.engine.begin() as held:
        held.exec_driver_sql("LOCK TABLE audit IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            audit.add(Principal("ann", Role.ADMIN), "POST /locked", 200, {})
