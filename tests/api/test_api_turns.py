"""Turns: one caller who asks much leaves some to the others."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from headway.api import turns as room
from headway.api.problems import ProblemError
from headway.api.security import Role
from headway.api.turns import OF_ONE, Turns
from tests.api.service import serving
from tests.waiting import until


async def _held(turns, who, begun, ends):
    async with turns.one(who):
        begun.append(who)
        await ends.wait()


def test_one_caller_has_a_part_of_the_turns_and_others_have_theirs_at_once():
    async def story():
        turns, begun, ends = Turns(4, of_one=2), [], asyncio.Event()
        asking = [asyncio.create_task(_held(turns, "ann", begun, ends)) for _ in range(9)]
        await asyncio.sleep(0.01)
        assert begun == ["ann", "ann"]
        asking += [asyncio.create_task(_held(turns, "bob", begun, ends)) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert begun == ["ann", "ann", "bob", "bob"]
        ends.set()
        await asyncio.gather(*asking)
        assert begun.count("ann") == 9
        assert turns._shares == {}, "nothing is kept of who has gone"

    asyncio.run(story())


def test_who_waits_for_too_long_is_refused_and_takes_nothing(monkeypatch):
    monkeypatch.setattr(room, "WITHIN_S", 0.05)

    async def story():
        turns, begun, ends = Turns(2, of_one=1), [], asyncio.Event()
        holder = asyncio.create_task(_held(turns, "ann", begun, ends))
        await asyncio.sleep(0.01)
        with pytest.raises(ProblemError) as told:
            await _held(turns, "ann", begun, ends)
        assert (told.value.status, told.value.headers) == (503, {"Retry-After": "5"})
        other = asyncio.create_task(_held(turns, "bob", begun, ends))
        await asyncio.sleep(0.01)
        ends.set()
        await asyncio.gather(holder, other)
        await _held(turns, "ann", begun, ends)
        assert begun == ["ann", "bob", "ann"]

    asyncio.run(story())


@pytest.fixture(scope="module")
def running(tmp_path_factory, new_record):
    with serving(tmp_path_factory.mktemp("turns"), url=new_record()) as found:
        yield found


def test_slow_questions_of_one_viewer_stop_nobody_else(running, monkeypatch):
    """A viewer took all turns, within the rate limit: all others were refused (503)."""
    monkeypatch.setattr(room, "WITHIN_S", 1.0)
    services, asked, goes_on = running.app.state.services, [], threading.Event()

    def slow(*_):
        asked.append(1)
        goes_on.wait(60.0)
        return b"[]"

    monkeypatch.setattr(services.cache, "get", slow)
    with running.client("viewer") as viewer, ThreadPoolExecutor(20) as pool:
        many = [pool.submit(viewer.get, "/api/v1/analytics/breakdown") for _ in range(20)]
        try:
            until(lambda: len(asked) == OF_ONE)
            with running.client("operator") as other:
                assert other.get("/api/v1/ml/jobs").status_code == 200
            until(lambda: sum(one.done() for one in many) == 20 - OF_ONE)
        finally:
            goes_on.set()
    statuses = sorted(one.result().status_code for one in many)
    assert statuses == [200] * OF_ONE + [503] * (20 - OF_ONE)


def test_who_calls_is_found_out_while_all_turns_are_taken(running, monkeypatch):
    """Sensors that send with API keys got 503 as long as somebody asked slow questions."""
    monkeypatch.setattr(room, "WITHIN_S", 0.5)
    services = running.app.state.services
    keys = [services.keys.make(f"sensor{k}", Role.OPERATOR) for k in range(2)]
    monkeypatch.setattr(services.turns, "_free", asyncio.Semaphore(0))

    def status(key):
        headers = {"X-API-Key": key}
        return httpx.get(f"{running.url}/api/v1/monitoring/alerts", headers=headers).status_code

    assert status(keys[0]) == 200
    # one that was used just now needs no turn at all, whoever tries out others
    monkeypatch.setattr(services.identity, "_turns", Turns(0))
    assert (status(keys[0]), status(keys[1])) == (200, 503)


def test_a_key_that_is_remembered_is_judged_as_ever(running, monkeypatch):
    services = running.app.state.services
    key = services.keys.make("sensor", Role.OPERATOR)
    number = key.split("_")[1]
    assert services.keys.remembered(key) is None, "it was never read"
    services.keys.read(key)
    assert services.keys.remembered(key).name == "sensor"
    for wrong in (f"{key}x", key[:-1], f"hw_{number}", number, f"_{number}_", "", "hw__", key[3:]):
        assert services.keys.remembered(wrong) is None, wrong
    with monkeypatch.context() as later:
        later.setattr("headway.api.keys.FRESH_S", -1.0)
        assert services.keys.remembered(key) is None
    services.keys.revoke(number)
    assert services.keys.remembered(key) is None
