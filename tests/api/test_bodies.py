"""What a request may send: bounded and counted before anything reads it."""

from __future__ import annotations

import json
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest

from headway.api import bodies
from headway.telemetry import metrics
from tests.waiting import until

ORDER = "/api/v1/engine/streets/headway/optimisation"


def sent(service, head, body=b"", token=""):
    """(status, body) of what is sent byte by byte as it stands."""
    at = urlsplit(service.url)
    lines = [*head, "Host: x", "Content-Type: application/json"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    with socket.create_connection((at.hostname, at.port), timeout=20) as link:
        link.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.rstrip().endswith(b"}"):
            part = link.recv(65536)
            if not part:
                break
            answer += part
    top, _, rest = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(rest)


def audited(service):
    return service.app.state.services.database.rows("SELECT count(*) AS n FROM audit")[0]["n"]


@pytest.mark.parametrize("path", [ORDER, "/api/v1/ingest/batch", "/api/v1/cameras", "/nowhere"])
def test_a_body_without_credentials_is_not_waited_for(service, path):
    """60 MB of JSON without credentials stopped the server: now the header is enough."""
    before = audited(service)
    head = [f"POST {path} HTTP/1.1", "Content-Length: 60000000"]
    status, told = sent(service, head, b'["')
    assert (status, told["detail"][:15]) == (401, "credentials are")
    status, told = sent(service, head, b'["', token="x")
    assert (status, told["detail"][:22]) == (401, "the token is not valid")
    assert audited(service) == before, "noise of nobody is not kept"


@pytest.mark.parametrize(
    ("path", "most"),
    [
        (ORDER, 65536),
        ("/api/v1/ml/metrics", 65536),
        ("/api/v1/cameras", 1048576),
        ("/api/v1/ingest/batch", 8388608),
        ("/api/v1/ml/predict/batch", 8388608),
    ],
)
def test_a_body_that_states_too_much_is_not_waited_for(service, path, most):
    head = [f"POST {path} HTTP/1.1", f"Content-Length: {most + 1}"]
    status, told = sent(service, head, b'["', token=service.token())
    assert (status, told["status"]) == (413, 413)
    assert str(most) in told["detail"]


def test_a_query_that_the_trail_could_not_hold_is_refused(service):
    """Else what was ordered stands behind what is kept of it."""
    with service.client() as client:
        for size, status in ((4096, 422), (4097, 413)):  # there is no `x`
            answer = client.post(f"{ORDER}?x={'a' * (size - 2)}", json={"cycle_s": 30})
            assert answer.status_code == status, answer.text


def test_a_body_that_does_not_state_its_size_is_counted_while_it_comes(service):
    def parts(size):
        yield b'{"cycle_s": 30, "x": "'
        for _ in range(size // 1024):
            yield b"a" * 1024
        yield b'"}'

    with service.client() as client:
        assert client.post(ORDER, content=parts(70 << 10)).status_code == 413
        # within the bound it reaches the route, which knows no "x"
        assert client.post(ORDER, content=parts(60 << 10)).status_code in (404, 422)


def failed():
    labels = {"method": "POST", "route": "other", "status": "500"}
    return metrics.registry.get_sample_value("headway_requests_total", labels)


def test_a_body_that_does_not_come_is_given_up(service, monkeypatch):
    monkeypatch.setattr(bodies, "ORDER_WITHIN_S", 0.3)
    before = failed()
    head = [f"POST {ORDER} HTTP/1.1", "Content-Length: 40"]
    status, told = sent(service, head, b'{"cycle_s"', token=service.token())
    assert (status, told["title"]) == (408, "Request Timeout")
    assert failed() == before


def test_many_slow_bodies_hold_up_nobody(service):
    at = urlsplit(service.url)
    head = f"POST {ORDER} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token()}\r\n"
    links = [socket.create_connection((at.hostname, at.port)) for _ in range(60)]
    try:
        for link in links:
            link.sendall(f"{head}Content-Length: 40\r\n\r\n{{".encode())
        time.sleep(0.2)
        with service.client() as client:
            assert client.get("/api/v1/runs").status_code == 200
        assert httpx.get(f"{service.url}/health").status_code == 200
    finally:
        for link in links:
            link.close()


@pytest.mark.parametrize(
    "path", ["/api/v1/ml/predict", "/api/v1/observations", "/api/v1/ingest/batch", ORDER]
)
def test_a_client_that_goes_before_its_body_is_whole_is_no_fault_of_the_service(
    service, path, caplog
):
    """A viewer wrote a traceback of a hundred lines with each, and raised the alert `errors`."""
    before = failed()
    at = urlsplit(service.url)
    with socket.create_connection((at.hostname, at.port), timeout=20) as link:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token()}\r\n"
        link.sendall(f"{head}Content-Length: 4000\r\n\r\n[".encode())
        time.sleep(0.2)
    time.sleep(0.5)
    assert failed() == before
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


def test_all_bodies_of_one_caller_are_bounded_together(service, monkeypatch):
    """Each of 8 MiB and slow: one caller had gigabytes in memory for a minute."""
    monkeypatch.setattr(bodies, "HELD_BYTES", 100_000)
    at = urlsplit(service.url)
    head = "POST /api/v1/ingest/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n"
    slow = socket.create_connection((at.hostname, at.port))
    try:
        slow.sendall(f"{head}Authorization: Bearer {service.token()}\r\n\r\n".encode())
        slow.sendall(b"[" + b" " * 69_000)
        until(lambda: _bytes_held(service) > 60_000)
        more = "[" + " " * 60_000 + "]"
        with service.client() as client:
            refused = client.post("/api/v1/ingest/batch", content=more)
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
            assert client.get("/api/v1/runs").status_code == 200
        with service.client("engineer") as other:
            assert other.post("/api/v1/ingest/batch", content=more).status_code != 429
    finally:
        slow.close()
    until(lambda: _bytes_held(service) == 0)


def _bytes_held(service):
    layer = service.app.middleware_stack
    while not isinstance(layer, bodies.BodyMiddleware):
        layer = getattr(layer, "app", None) or layer._app
    return sum(layer._held.values())
