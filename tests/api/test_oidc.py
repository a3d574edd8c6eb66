"""Tokens of an OpenID Connect provider: a small one of our own, with real keys, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from headway.api import oidc
from headway.api.oidc import Provider
from headway.api.problems import ProblemError
from headway.api.scopes import UNBOUNDED, Bounds
from headway.api.security import Role
from headway.settings import OidcSettings
from headway.settings.tree import Settings
from tests.api.service import serving

KEYS = {
    "one": (rsa.generate_private_key(65537, 2048), "RS256", jwt.algorithms.RSAAlgorithm),
    "two": (ec.generate_private_key(ec.SECP256R1()), "ES256", jwt.algorithms.ECAlgorithm),
}
ROLES = {"desk": "operator", "guest": "viewer", "chief": "admin"}


class Issuer:
    """keys: ids of those that it shows. answers: paths it answers otherwise. drops: one that it
    answers for ever, drop by drop (begun: with what). asked: the paths.
    """

    def __init__(self):
        issuer = self
        self.keys, self.answers, self.asked, self.drops = ["one"], {}, [], ""
        self.begun = b"HTTP/1.0 200 OK\r\nContent-Length: 10000\r\n\r\n"

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked.append(self.path)
                if self.path == issuer.drops:
                    self.drip()
                    return
                found = issuer.answers.get(self.path)
                status, body = found or (200, json.dumps(issuer.answer(self.path)).encode())
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if status == 302:
                    self.send_header("Location", f"{issuer.url}/elsewhere")
                self.end_headers()
                self.wfile.write(body)

            def drip(self):
                self.wfile.write(issuer.begun)
                with contextlib.suppress(OSError):  # the client has gone
                    for _ in range(10_000):
                        self.wfile.write(b" ")
                        time.sleep(0.05)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/realm"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path):
        if path == "/realm/keys":
            return {
                "keys": [
                    json.loads(KEYS[kid][2].to_jwk(KEYS[kid][0].public_key()))
                    | {"kid": kid, "use": "sig"}
                    for kid in self.keys
                ]
            }
        return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}

    def token(self, kid="one", drop=(), **claims):
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": "headway", "sub": "u-7", "exp": now + 60, "iat": now,
            "realm": {"roles": ["desk", "other"]}, "jti": "t-1",
        } | claims  # fmt: skip
        claims = {name: value for name, value in claims.items() if name not in drop}
        return jwt.encode(claims, KEYS[kid][0], KEYS[kid][1], headers={"kid": kid})

    def settings(self, **more):
        return OidcSettings(
            **{
                "issuer": self.url,
                "audience": "headway",
                "roles_claim": "realm.roles",
                "roles": ROLES,
            }
            | more
        )


@pytest.fixture
def issuer():
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


def read(provider, *tokens):
    """What each token gives, in one loop: a Principal or the ProblemError's status and words."""

    async def one_after_the_other():
        found = []
        for token in tokens:
            try:
                found.append(await provider.read(token))
            except ProblemError as error:
                found.append((error.status, error.detail))
        return found

    return asyncio.run(one_after_the_other())


def test_a_token_gives_its_user_and_the_highest_of_its_roles(issuer):
    ends = int(time.time()) + 60
    (who, chief, other) = read(
        Provider(issuer.settings()),
        issuer.token(exp=ends),
        issuer.token(realm={"roles": ["guest", "chief", "desk"]}),
        issuer.token(realm={"roles": "guest"}, jti="t-2"),
    )
    assert (who.name, who.role, who.expires_s) == ("oidc:u-7", Role.OPERATOR, ends + 10.0)
    assert (chief.role, other.role) == (Role.ADMIN, Role.VIEWER)
    assert who.token == chief.token != other.token  # by the token's own number
    assert issuer.asked == ["/realm/.well-known/openid-configuration", "/realm/keys"]


def test_the_name_is_of_the_claim_that_the_settings_say(issuer):
    provider = Provider(issuer.settings(name_claim="email"))
    (who, nameless) = read(provider, issuer.token(email="a@b.org"), issuer.token())
    assert who.name == "oidc:a@b.org"
    assert nameless == (401, "the token is not valid (no 'email')")


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"}, {"iss": "https://another.org"}, {"exp": 1_000_000}, {"drop": ["exp"]},
        {"drop": ["aud"]}, {"drop": ["sub"]}, {"nbf": 4_000_000_000}, {"sub": ""}, {"kid": "two"},
    ],
    ids=str,
)  # fmt: skip
def test_a_token_that_does_not_hold_is_refused(issuer, claims):
    ((status, _),) = read(Provider(issuer.settings()), issuer.token(**claims))
    assert status == 401


def test_a_token_signed_with_the_public_key_as_a_secret_or_with_nothing_is_refused(issuer):
    """The two classic forgeries."""
    claims = {"iss": issuer.url, "aud": "headway", "sub": "x", "exp": time.time() + 60}
    shown = issuer.answer("/realm/keys")["keys"][0]["n"]
    forged = [
        jwt.encode(claims, shown, "HS256", headers={"kid": "one"}),
        jwt.encode(claims, None, "none", headers={"kid": "one"}),
    ]
    assert [status for status, _ in read(Provider(issuer.settings()), *forged)] == [401, 401]


@pytest.mark.parametrize("held", [None, [], ["unknown"], {"desk": 1}, [["desk"]], 7], ids=str)
def test_a_user_without_a_role_here_may_do_nothing(issuer, held):
    ((status, detail),) = read(Provider(issuer.settings()), issuer.token(realm={"roles": held}))
    assert status == 403
    assert "oidc.roles" in detail


def test_a_new_key_is_asked_for_but_not_for_every_token(issuer, monkeypatch):
    provider = Provider(issuer.settings())
    monkeypatch.setattr(oidc, "ASK_AGAIN_S", 3600.0)
    assert read(provider, issuer.token())[0].role == Role.OPERATOR
    issuer.keys.append("two")
    assert [found[0] for found in read(provider, *[issuer.token("two")] * 5)] == [401] * 5
    assert len(issuer.asked) == 2
    monkeypatch.setattr(oidc, "ASK_AGAIN_S", 0.0)
    assert read(provider, issuer.token("two"))[0].role == Role.OPERATOR
    assert len(issuer.asked) == 4


def test_a_key_that_the_provider_takes_back_ends(issuer, monkeypatch):
    provider = Provider(issuer.settings())
    monkeypatch.setattr(oidc, "ASK_AGAIN_S", 0.0)
    monkeypatch.setattr(oidc, "FRESH_S", 0.0)
    assert read(provider, issuer.token())[0].role == Role.OPERATOR
    issuer.keys[:] = ["two"]

    async def until_refused():
        for _ in range(500):
            try:
                await provider.read(issuer.token())
            except ProblemError:
                return True
            await asyncio.sleep(0.01)
        return False

    assert asyncio.run(until_refused())


def test_known_keys_hold_while_the_provider_is_away_and_unknown_ones_wait(issuer, monkeypatch):
    provider = Provider(issuer.settings())
    monkeypatch.setattr(oidc, "ASK_AGAIN_S", 0.0)
    issuer.answers["/realm/keys"] = (500, b"")
    ((status, detail),) = read(provider, issuer.token())
    assert (status, "cannot be reached" in detail) == (503, True)
    del issuer.answers["/realm/keys"]
    assert read(provider, issuer.token())[0].role == Role.OPERATOR
    issuer.answers["/realm/keys"] = (500, b"")
    # of a key that may be new nobody knows anything: not a reason to sign its user out
    assert read(provider, issuer.token("two"))[0][0] == 503
    monkeypatch.setattr(oidc, "FRESH_S", 0.0)
    assert read(provider, issuer.token())[0].role == Role.OPERATOR
    monkeypatch.setattr(oidc, "KEPT_S", 0.0)
    assert read(provider, issuer.token())[0][0] == 503


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/realm/.well-known/openid-configuration", (200, b'{"issuer": "https://another.org"}')),
        ("/realm/.well-known/openid-configuration", (302, b"")),
        ("/realm/.well-known/openid-configuration", (200, b"[]")),
        ("/realm/.well-known/openid-configuration", (200, b"\xff" * 9)),
        ("/realm/.well-known/openid-configuration", (200, b" " * (2 << 20))),
        ("/realm/keys", (200, b'{"keys": 5}')), ("/realm/keys", (200, b'{"keys": []}')),
        ("/realm/keys", (200, b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "one"}]}')),
        ("/realm/keys", (302, b"")),
    ],
    ids=str,
)  # fmt: skip
def test_a_provider_whose_answer_cannot_be_used_gives_no_keys(issuer, path, answer):
    issuer.answers[path] = answer
    ((status, _),) = read(Provider(issuer.settings()), issuer.token())
    assert status in (401, 503)
    assert "/elsewhere" not in issuer.asked


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS384"])
def test_a_key_that_does_not_say_its_algorithm_verifies_all_of_its_kind(issuer, algorithm):
    """RFC 7517, 4.4: `alg` is optional. One that says it is used with that alone."""
    (shown,) = issuer.answer("/realm/keys")["keys"]
    claims = {"iss": issuer.url, "aud": "headway", "sub": "u", "exp": time.time() + 60}
    claims["realm"] = {"roles": ["desk"]}
    token = jwt.encode(claims, KEYS["one"][0], algorithm, headers={"kid": "one"})
    for said, is_taken in (({}, True), ({"alg": "RS256"}, algorithm == "RS256")):
        damaged = {"kty": "RSA", "kid": "bad", "n": 5, "e": "AQAB"}
        answer = json.dumps({"keys": [damaged, shown | said]}).encode()
        issuer.answers["/realm/keys"] = (200, answer)
        (found,) = read(Provider(issuer.settings()), token)
        assert (getattr(found, "role", None) == Role.OPERATOR) is is_taken, found


@pytest.mark.parametrize(
    ("sub", "name"),
    [
        ("Żółw 亀", "oidc:Żółw 亀"), ("a\x00\nb", "oidc:a\\x00\\nb"), ("\ud800", "oidc:\\ud800"),
        ("\u202eadmin", "oidc:\\u202eadmin"), ("x" * 200, "oidc:" + "x" * 200),
        ("urn:u:7", "oidc:urn\\x3au\\x3a7"),
    ],
)  # fmt: skip
def test_a_name_can_be_shown_and_stored(issuer, sub, name):
    (who,) = read(Provider(issuer.settings()), issuer.token(sub=sub))
    assert who.name == name
    assert who.name.encode().count(b"\x00") == 0


def test_names_that_are_cut_stay_apart(issuer):
    found = read(Provider(issuer.settings()), *(issuer.token(sub="x" * 200 + n) for n in "ab"))
    assert len({who.name for who in found}) == 2
    assert {len(who.name) for who in found} == {len("oidc:") + 200}


BOUNDED = {"streets_claim": "headway.streets", "cameras_claim": "cameras"}


@pytest.mark.parametrize(
    ("claims", "bounds"),
    [
        ({"headway": {"streets": ["a", "b"]}}, Bounds.of(["a", "b"], [])),
        ({"headway": {"streets": "a b"}, "cameras": "c"}, Bounds.of(["a", "b"], ["c"])),
        ({}, Bounds.of([], [])), ({"cameras": ["c", 5, None]}, Bounds.of([], ["c"])),
        ({"headway": {"streets": {"a": 1}}, "cameras": 7}, Bounds.of([], [])),
        ({"headway": {"streets": "*"}}, UNBOUNDED), ({"cameras": ["c", "*"]}, UNBOUNDED),
        ({"realm": {"roles": ["chief"]}}, UNBOUNDED),
    ],
)  # fmt: skip
def test_a_user_is_bounded_by_the_claims_that_the_settings_name(issuer, claims, bounds):
    (bounded, free) = (
        read(Provider(issuer.settings(**more)), issuer.token(**claims))[0] for more in (BOUNDED, {})
    )
    assert bounded.bounds == bounds
    assert free.bounds == UNBOUNDED


def test_one_claim_of_bounds_bounds_both_and_has_its_own_bound(issuer):
    provider = Provider(issuer.settings(streets_claim="streets"))
    names = [str(n) for n in range(101)]
    few, many = (issuer.token(streets=held, cameras=["c"]) for held in (names[:100], names))
    found, (status, detail) = read(provider, few, many)
    assert found.bounds == Bounds.of(names[:100], [])
    assert (status, "more than 100" in detail) == (403, True)


@pytest.mark.parametrize(
    "begun", [b"HTTP/1.0 200 OK\r\nContent-Length: 10000\r\n\r\n", b"HTTP/1.0 200 OK\r\nX-A: ", b""]
)
def test_a_provider_that_answers_by_drops_holds_nobody_up(issuer, monkeypatch, begun):
    """Each drop is in time, and all of them never are."""
    monkeypatch.setattr(oidc, "WITHIN_S", 0.3)
    monkeypatch.setattr(oidc, "KEYS_WITHIN_S", 3.0)
    issuer.drops, issuer.begun = "/realm/keys", begun
    provider = Provider(issuer.settings())

    async def refused():
        for _ in range(3):
            with pytest.raises(ProblemError) as error:
                await provider.read(issuer.token())
            assert error.value.status == 503
        return provider._asking is None  # what it has can be asked for again

    assert asyncio.run(refused())


def test_a_token_without_a_number_is_the_same_however_it_is_spelled(issuer):
    """The last character of a signature of 256 bytes has four bits that say nothing (RFC 4648,
    3.5), and padding is taken after it: else a token that was revoked would be good again.
    """
    token = issuer.token(drop=["jti"])
    spelled = [f"{token}==", token[:-1] + {"A": "B", "Q": "R", "g": "h", "w": "x"}[token[-1]]]
    provider = Provider(issuer.settings())
    first, *others = read(provider, token, *spelled)
    assert first.role == Role.OPERATOR
    assert {getattr(other, "token", first.token) for other in others} == {first.token}
    assert read(provider, issuer.token(drop=["jti"], sub="u-8"))[0].token != first.token


def test_the_provider_s_users_call_beside_our_own_and_their_tokens_are_revoked(issuer, tmp_path):
    with serving(tmp_path, oidc=issuer.settings()) as running:

        def status(token, path="/api/v1/runs"):
            headers = {"Authorization": f"Bearer {token}"}
            return httpx.get(f"{running.url}{path}", headers=headers).status_code

        token = issuer.token(groups=["g" * 60] * 100)  # long, as those of large companies are
        assert status(running.token("viewer")) == 200
        assert (status(token), status(token, "/api/v1/admin/keys")) == (200, 403)
        assert status(issuer.token(realm={})) == 403
        assert status(issuer.token(aud="another")) == 401
        with running.client("admin") as admin:
            answer = admin.post("/api/v1/admin/tokens/revoke", json={"token": token})
            assert answer.status_code == 200, answer.text
        assert status(token) == 401
        assert status(issuer.token(jti="t-2")) == 200


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"audience": "a"}, "issuer"), ({"issuer": "login"}, "no address"),
        ({"issuer": "http://login.org", "audience": "a", "roles": ROLES}, "TLS"),
        ({"issuer": "https://u:p@login.org", "audience": "a", "roles": ROLES}, "without user"),
        ({"issuer": "https://login.org", "roles": ROLES}, "audience"),
        ({"issuer": "https://login.org", "audience": "a"}, "roles"),
        ({"issuer": "https://login.org", "audience": "a", "roles": {"x": "king"}}, "operator"),
    ],
    ids=str,
)  # fmt: skip
def test_half_a_provider_is_refused(given, place):
    with pytest.raises(ValueError, match=place):
        Settings(oidc=given)
