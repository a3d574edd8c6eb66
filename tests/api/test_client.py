"""The Python client against a real street behind a real server."""

from __future__ import annotations

import asyncio
import time

import pytest

from headway.client import AsyncHeadway, Headway, HeadwayError
from headway.service.streets import StreetService
from headway.settings import Settings, overridden
from headway.street.messages import Task
from tests.api.service import record, serving


@pytest.fixture(scope="module")
def street(tmp_path_factory, new_record):
    folder = tmp_path_factory.mktemp("street")

    def streets(tell, intake):
        service = StreetService(tell, intake)
        changes = {
            "street": {"scenario": "cologne1"},
            "loop": {"speed_factor": 20.0},
            "recovery": {"folder": str(folder / "run")},
        }
        service.start("headway", Task(overridden(Settings(), changes)))
        return service

    with serving(folder, streets, new_record()) as running:
        deadline = (
            time.monotonic() + 180
        )  # its process imports a lot, on a machine that may be busy
        while (
            not running.app.state.services.street_service.streets["headway"].snapshot
            and time.monotonic() < deadline
        ):
            time.sleep(0.1)
        assert running.app.state.services.street_service.streets["headway"].snapshot
        yield running


def test_orders_reach_the_street_and_come_back_as_events(street):
    with Headway(street.url, street.token("engineer")) as headway:
        junction = headway.streets()[0]["junctions"][0]["id"]
        stream = headway.listen("monitoring")
        headway.override("headway", junction, "hold", lasts_s=30)
        kinds = set()
        for message in stream:
            kinds.add(message["data"]["kind"])
            if "safety.override" in kinds:
                break
        stream.close()
        headway.controller("headway", "webster")
        deadline = time.monotonic() + 20
        while headway.streets()[0]["controller"] != "webster" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert headway.streets()[0]["controller"] == "webster"
        with pytest.raises(HeadwayError, match="no junction"):
            headway.override("headway", "nowhere", "hold")
        with pytest.raises(HeadwayError, match="422") as fault:
            headway.ingest([{"simulation_id": "x"}])
        assert any(p == "/0/timestamp" for p, _ in fault.value.faults)
    with Headway(street.url, "nonsense") as nobody, pytest.raises(HeadwayError, match="401"):
        next(nobody.listen("alerts"))


def test_the_async_client_does_the_same(street):
    async def play():
        async with AsyncHeadway(street.url, street.token("operator")) as headway:
            assert (await headway.ingest([record("ASYNC", 1), record("ASYNC", 2)]))["stored"] == 2
            assert (await headway.analytics("wait-times", simulation_id="ASYNC"))[0]["n"] == 2
            observed, stream = [], headway.listen("realtime", street="headway")
            async for message in stream:
                observed.append(message["data"]["time_s"])
                if len(observed) == 3:
                    break
            await stream.aclose()
            return observed

    observed = asyncio.run(play())
    assert observed == sorted(observed)


def test_a_street_is_recorded_in_the_database_with_its_signals(street):
    with Headway(street.url, street.token("viewer")) as headway:
        deadline, splits, log = time.monotonic() + 60, [], []
        run = headway.call("GET", "/api/v1/runs")[0]["id"]
        while (
            not (splits and {1, 8, 10, 81, 82} <= {row["event"] for row in log})
            and time.monotonic() < deadline
        ):
            time.sleep(1.0)
            splits = headway.call("GET", f"/api/v1/runs/{run}/splits")
            log = headway.call("GET", f"/api/v1/runs/{run}/high-resolution")
        assert splits
        assert all(s["mean_green_s"] >= 3.0 for s in splits if s["n"])
        assert all(0.0 <= s["green_share"] <= 1.0 for s in splits)  # 0: was never green
        assert any(s["green_share"] > 0.0 for s in splits)
        assert (
            {1, 8, 10, 81, 82}
            <= {row["event"] for row in log}
            <= {1, 4, 5, 6, 8, 10, 81, 82, *range(300, 316)}
        )
        assert sum(a["n"] for a in headway.call("GET", f"/api/v1/runs/{run}/arrivals")) > 0
        assert headway.call("GET", f"/api/v1/runs/{run}/queues")[0]["n"] > 0
        ends = headway.call("GET", f"/api/v1/runs/{run}/terminations")
        assert all(e["gap_out"] + e["max_out"] + e["force_off"] == e["n"] for e in ends)
        assert (
            headway.call("GET", f"/api/v1/runs/{run}/pedestrian-delay") == []
        )  # the scenario has none
        burnt = headway.call("GET", f"/api/v1/runs/{run}/environmental-impact", {"baseline": run})
        assert burnt["run"]["fuel_l"] > 0.0
        assert 2.2 < burnt["run"]["co2_kg"] / burnt["run"]["fuel_l"] < 2.8
        assert (burnt["fuel_saved_l"], burnt["n"]) == (0.0, burnt["run"]["n"])
        one = splits[0]
        diagram = headway.call(
            "GET",
            f"/api/v1/runs/{run}/coordination",
            {"junction": one["junction"], "signal_group": one["signal_group"]},
        )
        assert len(diagram["at_s"]) == len(diagram["into_cycle_s"])
        by_group = {}
        for row in log:
            by_group.setdefault((row["device"], row["parameter"]), []).append(row["event"])
        assert all(events.count(1) - events.count(8) in (-1, 0, 1) for events in by_group.values())
        assert headway.call("GET", f"/api/v1/runs/{run}/events", {"kind": "engine.started"})
