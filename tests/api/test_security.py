"""Access control: each route by each role, with no, expired and forged credentials;
the audit trail; the rate limit.
"""

from __future__ import annotations

import json
import time

import httpx
import jwt
import pytest

from headway.api.security import ALGORITHM, Keyring, Role
from tests.api.service import serving

PUBLIC = {"/health", "/health/ready", "/metrics"}
OPERATOR = ("/api/v1/ingest", "/override", "/emergency", "/optimisation", "/review")
OPERATOR += ("/acknowledge", "/silences")
OPERATOR += ("/ml/train", "/ml/jobs", "/ml/rollback")
ENGINEER = ("/controller", "/scenario", "/alerts/rules", "/api/v1/records")
ENGINEER += ("/pause", "/resume", "/stop", "/start", "/alert-rules", "/ml/deploy")


def least(method, path):
    if (
        "/admin/" in path
        or "/undelivered" in path
        or (method == "delete" and path in ("/api/v1/violations", "/analytics/violations"))
    ):
        return Role.ADMIN
    if path.startswith(("/api/v1/cameras", "/streams")) and method != "get":
        return Role.OPERATOR if path.endswith("/signals") else Role.ENGINEER
    if path.endswith(("/images/{number}", "/pictures/{number}")):
        return Role.OPERATOR
    if method != "get" and any(part in path for part in ENGINEER):
        return Role.ENGINEER
    if (method, path) == ("post", "/api/v1/observations"):
        return Role.SOURCE
    return (
        Role.OPERATOR if method != "get" and any(part in path for part in OPERATOR) else Role.VIEWER
    )


def routes(service):
    with service.client(None) as client:
        document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method in methods:
            if path not in PUBLIC:
                yield (
                    method,
                    path,
                    path.replace("{id}", "x1")
                    .replace("{name}", "headway")
                    .replace("{junction}", "j")
                    .replace("{run}", "1")
                    .replace("{topic}", "nothing"),
                )


def forged(service):
    secrets = json.loads((service.app.state.services.folder / "keys.json").read_text())
    good = service.token("admin")
    kid = jwt.get_unverified_header(good)["kid"]
    claims = jwt.decode(good, options={"verify_signature": False})
    yield jwt.encode(claims, "x" * 64, ALGORITHM, headers={"kid": kid})
    yield jwt.encode(claims, None, "none", headers={"kid": kid})
    yield jwt.encode(claims, secrets[kid], "HS512", headers={"kid": kid})
    yield jwt.encode(claims, secrets[kid], ALGORITHM, headers={"kid": "other"})
    yield jwt.encode(
        claims | {"exp": int(time.time()) - 10}, secrets[kid], ALGORITHM, headers={"kid": kid}
    )
    yield jwt.encode(claims | {"role": "god"}, secrets[kid], ALGORITHM, headers={"kid": kid})
    yield jwt.encode(
        {k: v for k, v in claims.items() if k != "exp"},
        secrets[kid],
        ALGORITHM,
        headers={"kid": kid},
    )
    yield good[:-4] + "AAAA"
    yield "nonsense"


def test_each_route_requires_credentials_and_its_role(service):
    found = list(routes(service))
    assert len(found) > 25
    tokens = {role: service.token(role.name.lower()) for role in Role}
    bad = list(forged(service))
    with httpx.Client(base_url=service.url, timeout=30.0) as client:
        for method, path, url in found:
            assert client.request(method, url).status_code == 401, path
            for token in bad if path.endswith("/runs") else bad[:1]:
                assert (
                    client.request(
                        method, url, headers={"Authorization": f"Bearer {token}"}
                    ).status_code
                    == 401
                ), (path, token)
            for role, token in tokens.items():
                status = client.request(
                    method, url, headers={"Authorization": f"Bearer {token}"}
                ).status_code
                assert (status == 403) == (role < least(method, path)), (method, path, role, status)
                assert status < 500, (method, path, status)


def test_keys_work_until_they_are_revoked(service):
    with service.client("admin") as admin:
        key = admin.post("/api/v1/admin/keys", json={"name": "loader", "role": "operator"}).json()[
            "key"
        ]
        with httpx.Client(base_url=service.url, headers={"X-API-Key": key}) as client:
            assert client.get("/api/v1/runs").status_code == 200
            assert client.post("/api/v1/admin/clear-cache").status_code == 403
            assert admin.delete(f"/api/v1/admin/keys/{key.split('_')[1]}").status_code == 200
            assert client.get("/api/v1/runs").status_code == 401
        for wrong in ("hw_x_y", "hw_", key[:-1] + "#", "' OR 1=1"):
            assert (
                httpx.get(f"{service.url}/api/v1/runs", headers={"X-API-Key": wrong}).status_code
                == 401
            )


def test_a_key_is_rotated_by_route(service):
    with service.client("admin") as admin:
        body = {"name": "sender", "role": "operator"}
        old = admin.post("/api/v1/admin/keys", json=body).json()["key"]
        path = f"/api/v1/admin/keys/{old.split('_')[1]}/rotate"
        answer = admin.post(path, json={"overlap_h": 1.0})
        assert answer.status_code == 201
        for key in (old, answer.json()["key"]):
            found = httpx.get(f"{service.url}/api/v1/runs", headers={"X-API-Key": key})
            assert found.status_code == 200
        assert admin.post("/api/v1/admin/keys/00/rotate", json={}).status_code == 404
        assert admin.post(path, json={"overlap_h": -1.0}).status_code == 422
        trail = admin.get("/api/v1/admin/audit").text
        assert path in trail
        assert answer.json()["key"] not in trail


def test_the_audit_trail_shows_when_it_was_tampered_with(tmp_path, new_record):
    with serving(tmp_path, url=new_record()) as running, running.client("admin") as admin:
        for _ in range(5):
            admin.post("/api/v1/admin/clear-cache")
        with running.client("viewer") as viewer:
            viewer.post("/api/v1/admin/clear-cache")
        assert admin.get("/api/v1/admin/audit/verify").json() == {
            "entries": 6,
            "whole": True,
            "wrong": "",
        }
        database = running.app.state.services.database
        last = database.rows("SELECT who, role, status FROM audit ORDER BY number DESC LIMIT 1")[0]
        assert last == {"who": "a-viewer", "role": "viewer", "status": 403}
        with pytest.raises(Exception, match="only ever added"):
            database.execute("UPDATE audit SET who = 'x' WHERE number = 2")
        database.execute("ALTER TABLE audit DISABLE TRIGGER audit_is_kept")
        database.execute("UPDATE audit SET who = 'somebody' WHERE number = 2")
        assert admin.get("/api/v1/admin/audit/verify").json()["wrong"] == "entry 2 was changed"
        database.execute("UPDATE audit SET who = 'a-admin' WHERE number = 2")
        assert admin.get("/api/v1/admin/audit/verify").json()["whole"]
        database.execute("DELETE FROM audit WHERE number = 3")
        assert "3" in admin.get("/api/v1/admin/audit/verify").json()["wrong"]


def test_secrets_are_private_and_rotate(tmp_path, new_record):
    with serving(tmp_path, url=new_record()) as running:
        keyring = running.app.state.services.keyring
        assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
        old = running.token("viewer")
        keyring.rotate()
        assert keyring.read(old).role is Role.VIEWER
        keyring.rotate()
        assert (
            httpx.get(
                f"{running.url}/api/v1/runs", headers={"Authorization": f"Bearer {old}"}
            ).status_code
            == 401
        )


@pytest.mark.parametrize("damaged", ["", "garbage", "{}", '{"a": 5}'])
def test_a_damaged_file_of_keys_is_named_with_a_remedy_and_left_alone(tmp_path, damaged):
    path = tmp_path / "keys.json"
    path.write_text(damaged)
    with pytest.raises(ValueError, match=r"keys\.json: holds no keys any more .*move it away"):
        Keyring(path)
    assert path.read_text() == damaged


def test_clients_are_rate_limited_and_informed(tmp_path, new_record):
    with (
        serving(tmp_path, url=new_record(), per_minute=5) as running,
        running.client("viewer") as viewer,
        running.client("admin") as admin,
    ):
        answers = [viewer.get("/api/v1/runs") for _ in range(7)]
        assert [a.status_code for a in answers] == [200] * 5 + [429] * 2
        assert answers[0].headers["x-ratelimit-remaining"] == "4"
        assert int(answers[-1].headers["retry-after"]) <= 61
        assert answers[-1].headers["content-type"] == "application/problem+json"
        assert admin.get("/api/v1/runs").status_code == 200
        assert viewer.get("/health").status_code == 200


def test_each_answer_has_its_time_and_its_id(service):
    answer = httpx.get(f"{service.url}/health", headers={"X-Request-ID": "abc-1"})
    assert float(answer.headers["x-process-time"]) < 5.0
    assert answer.headers["x-request-id"] == "abc-1"
    assert (
        httpx.get(f"{service.url}/health", headers={"X-Request-ID": "a b"}).headers["x-request-id"]
        != "a b"
    )
    assert httpx.get(f"{service.url}/nowhere").json()["status"] == 404
