"""Tokens, keys, roles and the audit trail, each by itself: what they hold, what they refuse."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
import re
import stat
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import jwt
import pytest
import sqlalchemy as sa

from headway.api import audit as audit_room
from headway.api.audit import Audit
from headway.api.identity import FOUND, Identity
from headway.api.keys import Keys, RevokedTokens
from headway.api.problems import ProblemError
from headway.api.seal import Seal
from headway.api.security import (
    ALGORITHM,
    ISSUER,
    NOBODY,
    Keyring,
    Principal,
    Role,
)
from headway.store import revocations
from headway.store.revocations import Revocations

NOW = 1_700_000_000.75


class NoDatabase:
    def rows(self, query, **values):
        return []


NOTHING_REVOKED = RevokedTokens(NoDatabase())


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
    assert {found.name for found in path.parent.iterdir()} == {"keys.json", "keys.json.lock"}
    assert path.with_name("keys.json.lock").read_bytes() == b""


@pytest.mark.parametrize(("keep", "good"), [(1, [3]), (2, [2, 3]), (3, [1, 2, 3]), (None, [2, 3])])
def test_after_a_rotation_the_newest_signs_and_so_many_verify(tmp_path, keep, good):
    path = tmp_path / "keys.json"
    keyring = Keyring(path)
    path.with_name("keys.json.draft").write_text("left behind by a crash")
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
    ahead = int(time.time()) + 3600  # of a server whose clock is, or of ours before it was set back
    assert read(iat=ahead) == Principal("me", Role.ENGINEER)
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


def scope_of(headers, query, kind="http", path="/x"):
    return {
        "type": kind,
        "path": path,
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers.items()],
        "query_string": urlencode(query or {}).encode(),
    }


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
def test_the_caller_of_a_socket_comes_from_a_token_else_a_key_else_the_query(headers, query, found):
    reader = types.SimpleNamespace(
        read=lambda shown: Principal(shown, Role.VIEWER), remembered=lambda _: None
    )
    scope = scope_of(headers, query, "websocket")
    who = Identity(reader, reader, NOTHING_REVOKED)
    if found is None:
        assert asyncio.run(who.of(scope)) is None
        detail = refused(lambda: asyncio.run(who.require(scope, Role.VIEWER)))
        assert detail == "credentials are needed: a bearer token, or an API key in X-API-Key"
    else:
        assert asyncio.run(who.require(scope, Role.VIEWER)).name == found


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("/stream/alerts", True), ("/api/v1/live/alerts/events", True),
        ("/api/v1/runs", False), ("/api/v1/runs/7/events", False), ("/stream/alerts/x", False),
        ("/api/v1/live/a/b/events", False), ("/api/v1/live/alerts", False),
        ("/streams/1/mjpeg", False),
    ],
)  # fmt: skip
def test_a_token_in_the_query_opens_event_streams_and_no_other_address(path, taken):
    """Addresses are kept in logs, histories and caches."""
    reader = types.SimpleNamespace(read=lambda shown: Principal(shown, Role.ADMIN))
    found = asyncio.run(
        Identity(reader, reader, NOTHING_REVOKED).of(scope_of({}, {"token": "T"}, path=path))
    )
    assert found == (Principal("T", Role.ADMIN) if taken else None)


def test_who_calls_is_looked_up_once():
    asked = []

    def read(shown):
        asked.append(shown)
        raise ProblemError(401, "no", headers={"WWW-Authenticate": "Bearer"})

    reader = types.SimpleNamespace(read=read, remembered=lambda _: None)
    who, scope = Identity(reader, reader, NOTHING_REVOKED), scope_of({"x-api-key": "K"}, None)
    for _ in range(3):
        assert refused(lambda: asyncio.run(who.of(scope))) == "no"
    assert asked == ["K"]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("needed", Role)
def test_a_role_includes_the_roles_below_it(keyring, role, needed):
    scope = scope_of({"authorization": f"Bearer {keyring.token('me', role)}"}, None)
    who = Identity(keyring, None, NOTHING_REVOKED)
    if role.value >= needed.value:
        assert asyncio.run(who.require(scope, needed)) == Principal("me", role)
    else:
        with pytest.raises(ProblemError) as fault:
            asyncio.run(who.require(scope, needed))
        assert fault.value.status == 403
        assert (
            fault.value.detail
            == f"this needs the role {needed.name.lower()}; yours is {role.name.lower()}"
        )
    known = scope["state"][FOUND]  # for the audit trail, also where it is refused
    assert known == Principal("me", role)


def test_a_key_that_was_used_holds_while_the_database_is_away_and_no_other(database, monkeypatch):
    keys = Keys(database)
    used, unused = keys.make("loader", Role.SOURCE), keys.make("other", Role.SOURCE)
    begun_s = time.monotonic()
    now_s = [begun_s]
    monkeypatch.setattr("headway.api.keys.time.monotonic", lambda: now_s[0])
    assert keys.read(used).name == "loader"

    asked = []

    def away(query, **values):
        asked.append(query)
        raise sa.exc.OperationalError("x", {}, Exception("secret address"))

    with monkeypatch.context() as patch:
        patch.setattr(database, "rows", away)
        now_s[0] = begun_s + 11 * 3600.0
        assert [keys.read(used).name for _ in range(9)] == ["loader"] * 9
        assert len(asked) == 1  # the first has found out, the others do not wait
        with pytest.raises(ProblemError) as fault:
            keys.read(unused)
        assert (fault.value.status, "secret" in fault.value.detail) == (503, False)
        assert refused(keys.read, used + "x") == "the API key is not valid"
        now_s[0] = begun_s + 12 * 3600.0 + 1.0
        with pytest.raises(ProblemError) as fault:
            keys.read(used)
        assert fault.value.status == 503


def test_a_key_that_another_process_revokes_ends_within_seconds(database, monkeypatch):
    here, there = Keys(database), Keys(database)
    key = here.make("loader", Role.SOURCE)
    begun_s = time.monotonic()
    now_s = [begun_s]
    monkeypatch.setattr("headway.api.keys.time.monotonic", lambda: now_s[0])
    assert here.read(key) == there.read(key) == Principal("loader", Role.SOURCE)
    assert there.revoke(key.split("_")[1])
    refused(there.read, key)
    now_s[0] = begun_s + 5.0
    refused(here.read, key)


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
def seal(tmp_path):
    return Seal(tmp_path)


@pytest.fixture
def audit(database, seal, monkeypatch):
    """An empty trail; the test may change what no one else may."""
    database.execute("ALTER TABLE audit DISABLE TRIGGER audit_is_kept")
    database.execute("DELETE FROM audit")
    monkeypatch.setattr("time.time", lambda: NOW)
    return Audit(database, seal)


def text_of(before, entry):
    return before + json.dumps(entry, sort_keys=True, separators=(",", ":"))


def sealed(folder, before, **entry):
    """Worked out here: HMAC-SHA256 by the key of the file."""
    (key,) = json.loads((folder / "audit.key").read_text()).values()
    return hmac.new(bytes.fromhex(key), text_of(before, entry).encode(), "sha256").hexdigest()


def test_each_audit_entry_is_chained_to_the_one_before(audit, database, tmp_path):
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
    first = sealed(tmp_path, "", **one)
    assert rows == [
        one | {"before": "", "hash": first},
        two | {"before": first, "hash": sealed(tmp_path, first, **two)},
    ]
    assert audit.verify() == (2, "")


def test_two_processes_write_one_audit_trail(audit, database, seal):
    """Each has a trail of its own in memory; the database sees to it that they take turns."""
    faults = []

    def write(trail):
        try:
            for k in range(15):
                trail.add(Principal("a", Role.ADMIN), f"POST /{k}", 200, {})
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(Audit(database, seal),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert audit.verify() == (45, "")


def test_a_trail_is_verified_in_parts_without_a_gap_between_them(audit, database, monkeypatch):
    """400,000 entries took 830 MiB at once."""
    monkeypatch.setattr(audit_room, "READ_AT_ONCE", 3)
    for number in range(7):
        audit.add(Principal("a", Role.ADMIN), f"POST /{number}", 200, {})
    sizes, ask = [], type(database).rows

    def counted(self, *words, **values):
        found = ask(self, *words, **values)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(type(database), "rows", counted)
    assert audit.verify() == (7, "")
    assert sizes == [3, 3, 1, 0]
    database.execute("UPDATE audit SET who = 'x' WHERE number = 4")
    assert audit.verify() == (4, "entry 4 was changed")
    database.execute("DELETE FROM audit WHERE number = 4")
    assert audit.verify() == (4, "entry 4 is missing")


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
        (
            "DELETE FROM audit WHERE number = 3",
            (2, "the end is missing: this server wrote entry 3, and the last one here is 2"),
        ),
        ("UPDATE audit SET key = '' WHERE number = 2", (2, "entry 2 is not bound by a key")),
        (
            "UPDATE audit SET key = 'x' WHERE number = 2",
            (2, "entry 2 was bound by another key (x): give its DATA/audit.key, or its SECRET_KEY"),
        ),
    ],
)
def test_any_change_of_the_audit_trail_is_found(audit, database, change, found):
    for k in range(3):
        audit.add(Principal("a", Role.ADMIN), f"POST /{k}", 200, {})
    database.execute(change)
    assert audit.verify() == found


def test_an_end_that_was_cut_off_shows_after_later_entries_too(audit, database):
    """The next order hid it: its entry took the number of the first one that was gone."""
    for k in range(5):
        audit.add(Principal("a", Role.ADMIN), f"POST /{k}", 200, {})
    database.execute("DELETE FROM audit WHERE number > 3")
    for k in range(3):
        audit.add(Principal("a", Role.ADMIN), f"POST /later/{k}", 200, {})
    gone = "entry 5, which this server wrote, was gone before entry 4"
    assert audit.verify() == (6, gone)
    database.execute("DELETE FROM audit WHERE number > 5")
    audit.add(Principal("a", Role.ADMIN), "POST /again", 200, {})
    assert audit.verify() == (6, gone)


def test_a_restore_sets_the_trail_back_and_says_so(audit, database):
    for k in range(5):
        audit.add(Principal("a", Role.ADMIN), f"POST /{k}", 200, {})
    database.execute("DELETE FROM audit WHERE number > 3")
    audit.add(Principal("headway db restore", Role.ADMIN), "restore", 200, {}, set_back=True)
    audit.add(Principal("a", Role.ADMIN), "POST /later", 200, {})
    assert audit.verify() == (5, "")


def test_a_forged_entry_breaks_the_chain(audit, database, tmp_path):
    """Even of somebody who has the key, who would have to forge all that follow, and the head."""
    for k in range(3):
        audit.add(Principal("a", Role.ADMIN), f"POST /{k}", 200, {})
    (row,) = database.rows(
        "SELECT number, extract(epoch FROM at)::text AS at, who, role, what, status, data, "
        "before FROM audit WHERE number = 2"
    )
    before = row.pop("before")
    database.execute(
        "UPDATE audit SET status = 500, hash = :hash WHERE number = 2",
        hash=sealed(tmp_path, before, **row | {"status": 500}),
    )
    assert audit.verify() == (3, "entry 3 was changed")


def test_a_trail_that_is_forged_from_the_begin_without_the_key_is_found(audit, database):
    """Each hash fits the entry and the one before; whoever forged it had the database alone."""
    for k in range(3):
        audit.add(Principal("a", Role.ADMIN), f"POST /{k}", 200, {})
    before = ""
    for row in database.rows(
        "SELECT number, extract(epoch FROM at)::text AS at, who, role, what, status, data "
        "FROM audit ORDER BY number"
    ):
        bound = hashlib.sha256(text_of(before, row | {"who": "b"}).encode()).hexdigest()
        database.execute(
            "UPDATE audit SET who = 'b', key = '', before = :before, hash = :hash "
            "WHERE number = :number",
            before=before, hash=bound, number=row["number"],
        )  # fmt: skip
        before = bound
    assert audit.verify() == (1, "entry 1 is not bound by a key")


def test_entries_from_before_there_were_keys_stay_valid(audit, database, tmp_path):
    old = {"number": 1, "at": "1700000000.750000", "who": "a", "role": "admin", "what": "POST /old",
           "status": 200, "data": {}}  # fmt: skip
    database.execute(
        "INSERT INTO audit (number, at, who, role, what, status, data, before, hash) VALUES "
        "(1, to_timestamp(1700000000.75), 'a', 'admin', 'POST /old', 200, '{}', '', :hash)",
        hash=hashlib.sha256(text_of("", old).encode()).hexdigest(),
    )
    assert audit.verify() == (1, "")
    audit.add(Principal("a", Role.ADMIN), "POST /new", 200, {})
    assert audit.verify() == (2, "")
    database.execute("UPDATE audit SET who = 'x' WHERE number = 1")
    assert audit.verify() == (1, "entry 1 was changed")


def test_the_key_and_the_head_are_this_user_s_own_and_stay(audit, database, tmp_path):
    audit.add(Principal("a", Role.ADMIN), "POST /1", 200, {})
    for name in ("audit.key", "audit.head"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    again = Audit(database, Seal(tmp_path))
    again.add(Principal("a", Role.ADMIN), "POST /2", 200, {})
    assert again.verify() == (2, "")


def test_servers_with_one_secret_share_a_trail(audit, database, tmp_path):
    here = Audit(database, Seal(tmp_path / "a", "one secret for both of them"))
    there = Audit(database, Seal(tmp_path / "b", "one secret for both of them"))
    here.add(Principal("a", Role.ADMIN), "POST /1", 200, {})
    there.add(Principal("b", Role.ADMIN), "POST /2", 200, {})
    assert here.verify() == there.verify() == (2, "")
    assert not (tmp_path / "a" / "audit.key").exists()
    other = Audit(database, Seal(tmp_path / "c", "another secret, of another server"))
    assert "was bound by another key" in other.verify()[1]


@pytest.mark.parametrize("damaged", ["", "x", "{}", "[1]"])
def test_a_damaged_key_of_the_seal_is_named(audit, tmp_path, damaged):
    audit.add(Principal("a", Role.ADMIN), "POST /1", 200, {})
    (tmp_path / "audit.key").write_text(damaged)
    with pytest.raises(ValueError, match=r"audit\.key: is damaged .*from a copy"):
        Seal(tmp_path)


@pytest.mark.parametrize("damaged", ["", "x", "{}", "[1]"])
def test_a_damaged_head_is_named_and_entries_are_written_all_the_same(audit, tmp_path, damaged):
    audit.add(Principal("a", Role.ADMIN), "POST /1", 200, {})
    (tmp_path / "audit.head").write_text(damaged)
    audit.add(Principal("a", Role.ADMIN), "POST /2", 200, {})
    entries, wrong = audit.verify()
    assert (entries, "audit.head: is damaged" in wrong, "Move it away" in wrong) == (0, True, True)
    (tmp_path / "audit.head").unlink()
    assert audit.verify() == (2, "")
    audit.add(Principal("a", Role.ADMIN), "POST /3", 200, {})
    assert audit.verify() == (3, "")


def test_an_entry_does_not_wait_without_end_for_who_has_locked_the_audit(audit, database):
    """The answer of an order waits for its entry."""
    with database.engine.begin() as held:
        held.exec_driver_sql("LOCK TABLE audit IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            audit.add(Principal("ann", Role.ADMIN), "POST /locked", 200, {})


def test_what_was_revoked_stays_so_in_a_database_that_is_begun_anew(database, tmp_path):
    """The file beside the database knows it, and tells the database."""
    path = tmp_path / "revoked.json"
    keys = Keys(database, Revocations(path))
    gone, kept = keys.make("gone", Role.VIEWER), keys.make("kept", Role.VIEWER)
    number = gone.split("_")[1]
    keys.revoke(number)
    RevokedTokens(database, Revocations(path)).add("t" * 16, time.time() + 3600.0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    database.execute("UPDATE api_key SET revoked_at = NULL")
    database.execute("DELETE FROM revoked_token")
    known = Revocations(path)
    with pytest.raises(ProblemError):
        Keys(database, known).read(gone)
    assert Keys(database, known).read(kept).name == "kept"
    assert "t" * 16 in RevokedTokens(database, known)
    known.teach(database)
    revoked = database.rows("SELECT id FROM api_key WHERE revoked_at IS NOT NULL")
    assert revoked == [{"id": number}]
    assert database.rows("SELECT id FROM revoked_token") == [{"id": "t" * 16}]
    database.execute("DELETE FROM revoked_token")


def test_what_is_revoked_while_the_database_is_away_ends_here_at_once_and_elsewhere_later(
    database, tmp_path, monkeypatch
):
    """A key that is used holds while the database is away: one that was lost has to end then."""
    known = Revocations(tmp_path / "revoked.json")
    here, there = Keys(database, known), Keys(database)
    tokens, elsewhere = RevokedTokens(database, known), RevokedTokens(database)
    key = here.make("lost", Role.ADMIN)
    here.read(key)

    def away(*_, **__):
        raise sa.exc.OperationalError("x", {}, Exception("away"))

    with monkeypatch.context() as patch:
        patch.setattr(database, "rows", away)
        patch.setattr(database, "execute", away)
        assert here.read(key).name == "lost"
        assert here.revoke(key.split("_")[1])
        tokens.add("t" * 16, time.time() + 3600.0)
        tokens.refresh()
        assert refused(here.read, key) == "the API key is not valid"
        assert "t" * 16 in tokens
    assert there.read(key).name == "lost"
    tokens.refresh()
    refused(Keys(database).read, key)
    elsewhere.refresh()
    assert "t" * 16 in elsewhere
    assert not known.are_untold
    database.execute("DELETE FROM revoked_token")


def test_a_revocation_that_neither_database_nor_disk_keeps_is_refused_each_time(
    database, tmp_path, monkeypatch
):
    """The second try said that it was done, and after a new start the token was good again."""
    path, ends = tmp_path / "revoked.json", time.time() + 3600.0
    known = Revocations(path)
    keys, tokens = Keys(database, known), RevokedTokens(database, known)
    path.with_name("revoked.json.draft").mkdir()  # no file can be made under this name

    def away(*_, **__):
        raise sa.exc.OperationalError("x", {}, Exception("away"))

    with monkeypatch.context() as patch:
        patch.setattr(database, "execute", away)
        for _ in range(2):
            with pytest.raises(IsADirectoryError):
                tokens.add("t" * 16, ends)
            with pytest.raises(IsADirectoryError):
                keys.revoke("k")
            assert "t" * 16 in tokens
    tokens.refresh()  # the database is back, and told
    made = keys.make("gone", Role.VIEWER).split("_")[1]
    assert keys.revoke(made), "the database keeps it"
    path.with_name("revoked.json.draft").rmdir()
    tokens.refresh()
    again = Revocations(path)
    assert (again.has_token("t" * 16), again.has_key("k"), again.has_key(made)) == (True,) * 3
    database.execute("DELETE FROM revoked_token")


def test_what_another_server_revoked_is_kept_beside_the_database_too(database, tmp_path):
    keys = Keys(database)
    number = keys.make("gone", Role.VIEWER).split("_")[1]
    keys.revoke(number)
    RevokedTokens(database, Revocations(tmp_path / "revoked.json")).refresh()
    assert Revocations(tmp_path / "revoked.json").has_key(number)


def test_a_clock_that_was_ahead_makes_no_revoked_token_good_again(database, tmp_path, monkeypatch):
    """By that clock it had ended: it was forgotten when another one was revoked."""
    known = Revocations(tmp_path / "revoked.json")
    tokens, ends = RevokedTokens(database, known), time.time() + 3600.0
    tokens.add("first", ends)
    with monkeypatch.context() as patch:
        patch.setattr(revocations.time, "time", lambda: ends + 90 * 86_400.0)
        tokens.add("second", ends + 91 * 86_400.0)
    assert Revocations(tmp_path / "revoked.json").has_token("first")
    # the same of the database's own clock, in the other direction
    database.execute("UPDATE revoked_token SET expires_at = now() - interval '90 days'")
    tokens.add("third", ends)
    elsewhere = RevokedTokens(database)
    elsewhere.refresh()
    assert all(name in elsewhere for name in ("first", "second", "third"))
    database.execute("DELETE FROM revoked_token")


def test_a_damaged_file_of_revocations_is_named_with_a_remedy(tmp_path):
    path = tmp_path / "revoked.json"
    path.write_bytes(b"{")
    with pytest.raises(ValueError, match=r"revoked\.json: is damaged .* Put it back from a copy"):
        Revocations(path)


def test_a_rotated_key_works_for_the_overlap_beside_the_new_one(database):
    keys = Keys(database)
    old = keys.make("loader", Role.OPERATOR)
    number = old.split("_")[1]
    made = keys.rotate(number, 2.0)
    assert keys.holds(number)
    before, after = Keys(database).read(old), Keys(database).read(made)
    assert (after.name, after.role, after.expires_s) == ("loader", Role.OPERATOR, math.inf)
    assert before.expires_s == pytest.approx(time.time() + 7200.0, abs=60.0)
    assert keys.read(old).expires_s == before.expires_s  # in the process that rotated it, too
    again = keys.rotate(number, 100.0)  # the earlier end stays
    assert Keys(database).read(old).expires_s == before.expires_s
    assert Keys(database).read(again).name == "loader"
    at_once = keys.rotate(again.split("_")[1], 0.0)
    with pytest.raises(ProblemError):
        keys.read(again)
    assert not keys.holds(again.split("_")[1])  # nor do streams that it opened go on
    assert keys.read(at_once).role == Role.OPERATOR


def test_a_rotated_key_lasts_as_long_from_now_on_as_the_old_one_did(database):
    keys = Keys(database)
    old = keys.make("week", Role.VIEWER, 7.0).split("_")[1]
    database.execute(
        "UPDATE api_key SET made_at = made_at - interval '6 days', "
        "expires_at = expires_at - interval '6 days' WHERE id = :id",
        id=old,
    )
    made = keys.rotate(old, 720.0)
    assert keys.read(made).expires_s == pytest.approx(time.time() + 7 * 86_400.0, abs=60.0)
    (row,) = database.rows("SELECT expires_at FROM api_key WHERE id = :id", id=old)
    assert row["expires_at"].timestamp() == pytest.approx(time.time() + 86_400.0, abs=60.0)


@pytest.mark.parametrize("state", ["revoked", "ended", "unknown"])
def test_a_key_that_is_not_in_force_is_not_rotated(database, state):
    keys = Keys(database)
    number = keys.make("gone", Role.VIEWER).split("_")[1]
    if state == "revoked":
        keys.revoke(number)
    if state == "ended":
        database.execute("UPDATE api_key SET expires_at = now() WHERE id = :id", id=number)
    count = len(keys.all())
    assert keys.rotate("00" if state == "unknown" else number, 1.0) is None
    assert len(keys.all()) == count


def test_rotations_at_once_come_one_after_the_other(tmp_path):
    path = tmp_path / "keys.json"
    rings = [Keyring(path) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda ring: ring.rotate(keep=20), rings))
    stored = list(json.loads(path.read_text()))
    assert (len(stored), set(made)) == (9, set(stored[1:]))  # none was lost, and none refused
    tokens = [ring.token("a", Role.VIEWER) for ring in rings]
    assert {jwt.get_unverified_header(t)["kid"] for t in tokens} == {stored[-1]}


def test_servers_that_start_at_once_share_their_first_secrets(tmp_path):
    path = tmp_path / "keys.json"
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(Keyring, [path, path])
    assert other.read(one.token("a", Role.VIEWER)).name == "a"


def test_a_secret_that_another_process_rotates_is_followed(tmp_path):
    path = tmp_path / "keys.json"
    server = Keyring(path)
    before = server.token("a", Role.VIEWER)
    Keyring(path).rotate()
    after = Keyring(path).token("b", Role.VIEWER)
    assert [server.read(t).name for t in (before, after)] == ["a", "b"]
    assert server.token("c", Role.VIEWER).split(".")[0] == after.split(".")[0]  # the same key signs
    Keyring(path).rotate(1)
    with pytest.raises(ProblemError):
        server.read(after)
    good = server.token("d", Role.VIEWER)
    path.write_text("{")
    assert server.read(good).name == "d"  # a damaged file ends nobody's work
