"""With which arguments an order is kept in the audit trail; no secret is."""

from __future__ import annotations

import hashlib
import json

import pytest

from headway.api.arguments import arguments_of
from tests.api.service import record


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"order": "hold", "lasts_s": 30}, {"order": "hold", "lasts_s": 30}),
        ({"password": "x", "a": {"api_key": 7, "Token": ["t", "u"]}},
         {"password": "***", "a": {"api_key": "***", "Token": ["***", "***"]}}),
        ({"source": "rtsp://me:pa@ss@10.0.0.1/live?user=me&password=x&n=1"},
         {"source": "rtsp://***@10.0.0.1/live?user=***&password=***&n=***"}),
        ([1.5, None, True, "a\x00b"], [1.5, None, True, "ab"]),
    ],
)  # fmt: skip
def test_a_body_is_kept_without_its_secrets(sent, kept):
    found = arguments_of(b"", json.dumps(sent).encode())
    assert list(found) == ["body"]
    assert json.loads(found["body"]) == kept


def test_of_what_is_long_or_no_json_the_size_is_kept():
    long = b'"' + b"a" * 4096 + b'"'
    named = f"4098 bytes, sha256 {hashlib.sha256(long).hexdigest()}"
    assert arguments_of(b"", long) == {"body": named}
    assert arguments_of(b"", b'"' + b"a" * 4094 + b'"')["body"].count("a") == 4094
    hindi = json.dumps("\u0928" * 1300, ensure_ascii=False)  # of 3 bytes each; 6 with its escape
    assert json.loads(arguments_of(b"", hindi.encode())["body"]) == "\u0928" * 1300
    for bad in (b"token=secret", b"\xff\xfe", b"[" * 400):
        assert arguments_of(b"", bad) == {"body": f"{len(bad)} bytes that are no JSON"}


@pytest.mark.parametrize(
    "body",
    [
        b'{"order":' + b" " * 60_000 + b'"hold"}', b"\n" * 5000 + b'{"order":"hold"}',
        b'{"order":"' + b"x" * 5000 + b'","order":"hold"}',
        b'{"\\u006frder":"hold"' + b"\t" * 9000 + b"}",
    ],
    ids=len,
)  # fmt: skip
def test_no_order_keeps_its_arguments_off_the_trail_by_filling_up_its_body(body):
    assert arguments_of(b"", body) == {"body": '{"order":"hold"}'}


@pytest.mark.parametrize("depth", [500, 900, 2000])
def test_an_order_with_a_body_that_is_too_deep_is_on_record_too(depth):
    """Routes that take no body ignore it, and obey: nothing in it may keep them off the trail."""
    deep = b"[" * depth + b"]" * depth
    said = arguments_of(b"", deep)["body"]
    named = f"{len(deep)} bytes of JSON that is too deep, sha256 {hashlib.sha256(deep).hexdigest()}"
    assert said in (named, deep.decode())  # interpreters differ in how deep they go
    assert said == named or depth < 2000


def test_a_query_is_kept_without_its_secrets():
    assert arguments_of(b"street=headway&token=T&x=%00", b"") == {
        "query": "street=headway&token=***&x=%00"
    }
    assert arguments_of(b"", b"") == {}


def test_the_trail_tells_who_did_what_with_which_arguments_and_is_read_in_parts(service):
    def entries(**query):
        answer = admin.get("/api/v1/admin/audit", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    with service.client("admin") as admin, service.client("operator") as operator:
        body = {"name": "loader", "role": "viewer", "days": 1.5}
        key = admin.post("/api/v1/admin/keys", json=body).json()["key"]
        operator.post("/api/v1/admin/keys?a=1", json={"name": "mine", "role": "admin"})
        operator.post("/api/v1/ingest/simulation", json=record("ARGUMENTS"))
        second, first = entries(limit=2)
        assert (first["who"], first["role"], first["status"]) == ("a-admin", "admin", 201)
        assert first["what"] == "POST /api/v1/admin/keys"
        assert json.loads(first["data"]["body"]) == body
        assert (second["who"], second["status"], second["data"]["query"]) == (
            "a-operator", 403, "a=1",
        )  # fmt: skip
        assert entries(before=second["number"], limit=1) == [first]
        assert entries(who="a-admin", limit=1) == [first]
        assert entries(status=403, limit=1) == [second]
        assert entries(what="/admin/keys", begin=second["at"], limit=1) == [second]
        assert entries(end="2020-01-01T00:00:00Z") == []
        assert entries(who="\x00") == []
        assert key.split("_")[2] not in str(entries())
        assert operator.get("/api/v1/admin/audit").status_code == 403
        assert admin.get("/api/v1/admin/audit/verify").json()["whole"] is True
