"""`Idempotency-Key`: a POST that is repeated is answered again, and not done twice."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.responses import Response

from headway.api import idempotency
from headway.api.idempotency import IdempotencyMiddleware, key_of
from headway.api.problems import ProblemError
from headway.api.security import Principal, Role
from headway.client import Headway, HeadwayError
from headway.runtime import WorkerError
from headway.store.begun import BegunBook
from tests.api.service import serving
from tests.api.streets import standing

OVERRIDE = "/api/v1/engine/streets/headway/junctions/360082/override"
HOLD = {"order": "hold", "lasts_s": 30}


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_record):
    with serving(
        tmp_path_factory.mktemp("idempotency"),
        lambda tell, intake: standing("headway", tell=tell),
        new_record(),
    ) as found:
        yield found


@pytest.fixture
def engine(running):
    found = running.app.state.services.street_service.streets["headway"].engine
    found.orders.clear()
    found.fault = found.on_order = None
    return found


@pytest.fixture(scope="module")
def clients(running):
    found = {role: running.client(role) for role in ("viewer", "operator", "admin")}
    yield found
    for client in found.values():
        client.close()


@pytest.fixture
def post(clients):
    def send(key, body=None, path=OVERRIDE, role="operator"):
        return clients[role].post(path, json=body or HOLD, headers={"Idempotency-Key": key})

    return send


def test_an_order_that_is_repeated_with_its_key_is_answered_again_and_not_given_twice(post, engine):
    first, second = post("a-1"), post('"a-1"')  # in quotes, as the draft has it, or without
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert first.headers["content-type"] == second.headers["content-type"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert len(engine.orders) == 1
    assert post("a-2").json()["id"] != first.json()["id"]
    assert len(engine.orders) == 2


def test_orders_without_a_key_are_given_each_time(clients, engine):
    ids = {clients["operator"].post(OVERRIDE, json=HOLD).json()["id"] for _ in range(2)}
    assert len(ids) == len(engine.orders) == 2


def test_an_order_that_arrives_twice_at_the_same_time_is_given_once(post, engine):
    entered, go_on = threading.Event(), threading.Event()

    def slowly(_):
        entered.set()
        assert go_on.wait(20.0)

    engine.on_order = slowly
    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(post, "together")]
        assert entered.wait(20.0)
        answers += [pool.submit(post, "together") for _ in range(5)]
        go_on.set()
        found = [answer.result(30.0) for answer in answers]
    assert {answer.status_code for answer in found} == {200}
    assert len({answer.json()["id"] for answer in found}) == len(engine.orders) == 1


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (HOLD | {"lasts_s": 31}, OVERRIDE), (HOLD, OVERRIDE.replace("360082", "360086")),
        (HOLD, OVERRIDE + "?x=1"),
    ],
)  # fmt: skip
def test_a_key_that_was_used_for_another_request_is_refused(post, engine, body, path):
    assert post("other").status_code == 200
    given = len(engine.orders)
    answer = post("other", body, path)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "choose a new key" in answer.json()["detail"]
    assert len(engine.orders) == given


def test_a_key_is_of_who_gives_it(post, clients, engine):
    first = post("mine").json()["id"]
    assert post("mine", role="admin").json()["id"] != first
    refused = post("mine", role="viewer")
    assert (refused.status_code, len(engine.orders)) == (403, 2)
    headers = {"Idempotency-Key": "mine", "Authorization": "Bearer x"}
    assert clients["viewer"].post(OVERRIDE, json=HOLD, headers=headers).status_code == 401


def test_an_order_that_failed_for_now_can_be_given_again_with_its_key(post, engine):
    engine.fault = WorkerError("the street begins anew")
    assert post("again").status_code == 503
    engine.fault = None
    assert post("again").status_code == 200
    assert len(engine.orders) == 1


def test_an_order_that_was_refused_for_what_it_is_is_refused_again(post, engine):
    first, second = (post("bad", {"order": "stage", "stage": 200}) for _ in range(2))
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert second.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("key", ["", '""', "x" * 129, '"' + "x" * 129 + '"', "a b", "a\tb", "é"])
def test_a_key_that_is_none_is_refused_with_its_place(clients, engine, key):
    headers = {"Idempotency-Key": key.encode("latin-1")}
    answer = clients["operator"].post(OVERRIDE, json=HOLD, headers=headers)
    assert answer.status_code == 422
    assert [f["pointer"] for f in answer.json()["faults"]] == ["/header/idempotency-key"]
    assert not engine.orders


@pytest.mark.parametrize("key", ["x" * 128, '"' + "x" * 128 + '"', "!", '"'])
def test_a_key_has_one_to_128_characters(key):
    assert key_of(key) == (key.strip('"') or '"')


def test_a_body_that_is_too_large_is_refused_as_without_a_key(clients, engine):
    def chunks():  # no length is stated
        for _ in range(70):
            yield b" " * 1024

    headers = {"Idempotency-Key": "large", "Content-Type": "application/json"}
    answer = clients["operator"].post(OVERRIDE, content=chunks(), headers=headers)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_keys_cameras_and_rules_are_not_made_twice(post):
    key = {"name": "loop", "role": "source"}
    first, second = (post("k", key, "/api/v1/admin/keys", "admin") for _ in range(2))
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert second.status_code == 201
    rule = {
        "name": "at a crawl", "metric": "fps", "operator": "<", "threshold": 1.0,
        "severity": "warning",
    }  # fmt: skip
    answers = [post("r", rule, "/api/v1/monitoring/alerts/rules", "admin") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert post("s", rule, "/api/v1/monitoring/alerts/rules", "admin").status_code == 409


def test_a_repeated_order_is_in_the_audit_trail_as_one_that_did_nothing(running, post, engine):
    for _ in range(2):
        assert post("audited").status_code == 200
    newest, first = running.app.state.services.database.rows(
        "SELECT data FROM audit ORDER BY number DESC LIMIT 2"
    )
    assert newest["data"]["body"] == first["data"]["body"]
    assert "nothing was done" in newest["data"]["replayed"]
    assert "replayed" not in first["data"]


def test_the_client_sends_a_key(running, engine):
    with Headway(running.url, running.token("operator")) as headway:
        first, second = (
            headway.override("headway", "360082", "hold", idempotency_key="c") for _ in range(2)
        )
        assert first == second
        with pytest.raises(HeadwayError, match="422"):
            headway.override("headway", "360082", "flash", idempotency_key="c")
        assert len(engine.orders) == 1


# --- by hand: what takes an hour, or a thousand requests


class Anybody:
    async def require(self, scope, role):
        return Principal(scope["who"], Role.OPERATOR)


class Played:
    """Requests to the middleware around an application that counts. size: of its answers; path: of
    the book. `played.seen`: what the book's file held while the newest was done.
    """

    def __init__(self, size=1, status=200, path=None):
        self.now_s, self.done, self.size, self.status = 0.0, 0, size, status
        self.path = path
        book = BegunBook(path, lambda: self.now_s)
        self.part = IdempotencyMiddleware(self._app, Anybody(), book, lambda: self.now_s)

    async def _app(self, scope, receive, send):
        self.done += 1
        self.seen = self.path.read_bytes() if self.path else b""
        await Response(b"x" * self.size, self.status)(scope, receive, send)

    def post(self, key, who="ann", body=b"{}"):
        said = []
        scope = {
            "type": "http", "method": "POST", "path": "/x", "query_string": b"", "who": who,
            "headers": [(b"idempotency-key", key.encode())], "state": {},
        }  # fmt: skip

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            said.append(message)

        asyncio.run(self.part(scope, receive, send))
        return said[0]["status"]


def test_an_answer_is_given_again_for_an_hour():
    played = Played()
    for played.now_s in (0.0, 3599.0, 3601.0):
        played.post("a")
    assert played.done == 2


def test_a_key_of_one_is_none_of_another_with_the_same_role():
    played = Played()
    for who in ("ann", "bob", "ann"):
        played.post("a", who)
    assert played.done == 2


def test_the_number_of_answers_is_bounded_and_the_oldest_are_forgotten():
    played = Played()
    for number in range(2001):
        played.post(str(number))
    played.post("2000")
    played.post("1")
    assert played.done == 2001
    assert played.post("0") == 409
    assert played.done == 2001, "its answer is forgotten, not that it was done"
    assert sum(map(len, played.part._answers.values())) == 2000


def test_nobody_makes_the_answers_of_others_be_forgotten():
    """By their number, or by their size."""
    many, large = Played(), Played(size=200_000)
    for played, floods in ((many, 2100), (large, 60)):
        played.post("a", "ann")
        for number in range(floods):
            played.post(str(number), "mallory")
        played.post("a", "ann")
        assert played.done == 1 + floods


def test_the_memory_of_answers_is_bounded():
    played = Played(size=200_000)
    for number in range(60):
        played.post(str(number))
    kept = sum(len(a.body) for a in played.part._answers["ann", Role.OPERATOR].values())
    assert 8 << 20 >= kept > (8 << 20) - 200_000


def test_what_was_done_with_an_answer_too_large_to_be_kept_is_not_done_again():
    played = Played(size=(256 << 10) + 1)
    assert [played.post("a"), played.post("a")] == [200, 409]
    assert played.done == 1


@pytest.mark.parametrize("status", [401, 403, 408, 413, 429, 500, 503])
def test_what_may_pass_is_tried_again(status, tmp_path):
    played = Played(status=status, path=tmp_path / "begun.jsonl")
    for _ in range(2):
        played.post("a")
    assert played.done == 2
    again = Played(path=tmp_path / "begun.jsonl")
    assert (again.post("a"), again.done) == (200, 1)


def test_what_was_done_before_a_new_start_is_not_done_again(tmp_path):
    """A client that repeats what a server that was killed had done did it twice."""
    path = tmp_path / "begun.jsonl"
    Played(path=path).post("a")
    again = Played(path=path)
    assert (again.post("a"), again.post("a", body=b"[]"), again.done) == (409, 422, 0)
    assert (again.post("a", "bob"), again.post("b"), again.done) == (200, 200, 2)
    again.now_s = 3601.0
    assert again.post("a") == 200
    assert Played(path=path).post("b") == 409, "its own hour is not over by this clock"


def test_nobody_who_is_refused_makes_others_be_forgotten_over_a_new_start(tmp_path, monkeypatch):
    """A viewer's 20,000 orders that are none, and the operator's was done twice."""
    monkeypatch.setattr("headway.store.begun.MOST_KEPT", 3)
    before = Played(path=tmp_path / "begun.jsonl")
    assert before.post("a") == 200
    before.status = 404
    for number in range(5):
        assert before.post(f"{number}", who="eve") == 404
    after = Played(path=tmp_path / "begun.jsonl")
    assert (after.post("a"), after.done) == (409, 0)
    assert (after.post("0", who="eve"), after.done) == (200, 1)


def test_what_was_under_way_when_a_server_was_killed_is_not_done_again(tmp_path):
    path = tmp_path / "begun.jsonl"
    played = Played(path=path)
    played.post("a")
    path.write_bytes(played.seen + b'["cut')  # as the process that died then has left it
    again = Played(path=path)
    assert (again.post("a"), again.done) == (409, 0)
    assert (again.post("b"), again.done) == (200, 1)


def test_what_was_under_way_when_a_server_ended_in_order_is_not_done_again(tmp_path):
    """After its 5 s it leaves what is under way, which a thread may do to its end."""
    path = tmp_path / "begun.jsonl"
    played = Played(path=path)
    own = played._app

    async def app(scope, receive, send):
        asyncio.current_task().cancel()
        await own(scope, receive, send)
        await asyncio.sleep(60.0)

    async def silent(scope, receive, send):
        asyncio.current_task().cancel()
        await asyncio.sleep(60.0)

    for key, part, status in (("a", silent, 409), ("b", app, 409), ("c", own, 409)):
        played.part._app = part
        with contextlib.suppress(asyncio.CancelledError):
            played.post(key)
        again = Played(path=path)
        assert (again.post(key), again.done) == (status, 0)


@pytest.mark.parametrize("line", [b"3", b"[]", b"\xff", b'["a", 1, "x", 2]', b"[" * 9000])
def test_lines_that_cannot_be_read_are_left_out(tmp_path, line):
    path = tmp_path / "begun.jsonl"
    Played(path=path).post("a")
    path.write_bytes(line + b"\n" + path.read_bytes())
    assert Played(path=path).post("a") == 409
    assert path.read_bytes().count(b"\n") == 1, "it is written anew"


def test_a_disk_that_is_full_for_a_while_leaves_the_book_whole(tmp_path):
    path = tmp_path / "begun.jsonl"
    played = Played(path=path)
    played.post("a")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        assert played.post("b") == 200
        path.write_bytes(path.read_bytes() + b'["cut')
        again = Played(path=path)  # starts all the same
        assert (again.post("a"), again.post("c")) == (409, 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert again.post("d") == 200
    assert [Played(path=path).post(key) for key in "acd"] == [409] * 3


def test_a_disk_that_takes_nothing_ends_no_order(tmp_path):
    played = Played(path=tmp_path / "begun.jsonl")
    (tmp_path / "begun.jsonl").mkdir()
    played.path = None
    assert (played.post("a"), played.post("a"), played.done) == (200, 200, 1)


def test_a_request_that_is_still_under_way_after_a_while_is_refused(monkeypatch):
    monkeypatch.setattr(idempotency, "WAIT_S", 0.0)

    async def play():
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def app(scope, receive, send):
            entered.set()
            await go_on.wait()
            await Response()(scope, receive, send)

        part, statuses = IdempotencyMiddleware(app, Anybody(), BegunBook()), []
        scope = {
            "type": "http", "method": "POST", "path": "/x", "query_string": b"", "who": "ann",
            "headers": [(b"idempotency-key", b"a")],
        }  # fmt: skip

        async def receive():
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message):
            statuses.append(message.get("status"))

        first = asyncio.create_task(part(dict(scope, state={}), receive, send))
        await entered.wait()
        await part(dict(scope, state={}), receive, send)
        assert statuses[0] == 409
        go_on.set()
        await first
        assert not part._under_way

    asyncio.run(play())


def test_a_key_error_names_its_remedy():
    with pytest.raises(ProblemError) as refused:
        key_of("")
    assert refused.value.faults[0].message.startswith("give 1 to 128")
