"""Live streams: messages reach their subscribers, in their form, after a reconnect too;
slow clients do not affect others.
"""

from __future__ import annotations

import base64
import json
import time
import zlib

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.api.service import serving


def socket(service, topic="monitoring", **query):
    query = httpx.QueryParams({"token": service.token("viewer")} | query)
    return connect(f"{service.url.replace('http', 'ws')}/ws/{topic}?{query}")


def settle(service, topic="monitoring", clients=1):
    deadline = time.monotonic() + 5
    while (
        service.app.state.services.hub.statistics()[topic]["clients"] < clients
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)


def news(one, n):
    """The next `n` messages on streets; the service tells of itself whenever it wants."""
    found = []
    while len(found) < n:
        message = json.loads(one.recv(timeout=5))
        if message["topic"] != "heartbeat" and message.get("street") not in ("", "system"):
            found.append(message)
    return found


def test_filters_forms_and_compression(service):
    hub = service.app.state.services.hub
    with (
        socket(service) as every,
        socket(service, street="b") as other,
        socket(service, kinds="safety.", format="table") as safety,
        socket(service, format="chart", compress=1) as packed,
    ):
        settle(service, clients=4)
        for k in range(4):
            hub.publish(
                "monitoring",
                "ab"[k % 2],
                {"kind": ("safety.x", "engine.y")[k // 2], "at_s": k, "n": k, "text": "z" * 600}
                | {f"v{i}": i for i in range(80)},
            )
        assert [m["data"]["n"] for m in news(every, 4)] == [0, 1, 2, 3]
        assert [m["data"]["n"] for m in news(other, 2)] == [1, 3]
        table = news(safety, 2)[1]["data"]
        assert dict(zip(table["columns"], table["rows"][0], strict=True))["n"] == 1
        last = news(packed, 4)[3]
        assert last["encoding"] == "zlib+base64"
        assert json.loads(zlib.decompress(base64.b64decode(last["data"])))["y"]["n"] == 3
        other.send(json.dumps({"street": "a"}))
        other.send("nonsense")
        assert news(other, 1)[0]["topic"] == "error"
        hub.publish("monitoring", "a", {"kind": "k", "at_s": 9, "n": 9})
        assert news(other, 1)[0]["data"]["n"] == 9


def test_a_reconnected_stream_resumes(service):
    hub = service.app.state.services.hub
    with socket(service, "alerts") as one:
        settle(service, "alerts")
        hub.publish("alerts", "a", {"kind": "k", "n": 1})
        last = news(one, 1)[0]["id"]
    for n in (2, 3):
        hub.publish("alerts", "a", {"kind": "k", "n": n})
    with socket(service, "alerts", last_id=last) as again:
        assert [m["data"]["n"] for m in news(again, 2)] == [2, 3]
    headers = {"Authorization": f"Bearer {service.token('viewer')}", "Last-Event-ID": last}
    with httpx.stream("GET", f"{service.url}/stream/alerts", headers=headers, timeout=10) as answer:
        lines = []
        for line in answer.iter_lines():
            lines.append(line)
            if sum(x.startswith("data:") for x in lines) == 2:
                break
    assert [json.loads(x[5:])["data"]["n"] for x in lines if x.startswith("data:")] == [2, 3]
    assert any(x.startswith("id:") for x in lines)


@pytest.mark.parametrize("compression", ["deflate", None])
@pytest.mark.parametrize("size", [10, 1_000, 100_000])
def test_each_client_gets_all_in_order_whether_written_directly_or_queued(
    service, compression, size
):
    hub = service.app.state.services.hub
    url = f"{service.url.replace('http', 'ws')}/ws/realtime?token={service.token('viewer')}"
    with connect(url, compression=compression) as one:
        settle(service, "realtime")
        hub.publish("realtime", "a", {"n": 0, "load": "x" * size})
        one.send('{"street": "a"}')
        for n in range(1, 50):
            hub.publish("realtime", "a", {"n": n, "load": "é" * size})
        assert [m["data"]["n"] for m in news(one, 50)] == list(range(50))
    assert hub.statistics()["realtime"]["dropped"] == 0


def test_a_client_without_a_token_gets_nothing(service):
    for query in ("", "?token=x"):
        with pytest.raises(InvalidStatus, match="HTTP 401"):
            connect(f"{service.url.replace('http', 'ws')}/ws/alerts{query}")
    with pytest.raises(InvalidStatus, match="HTTP 422"):
        socket(service, format="xml")


def test_a_slow_client_gets_the_newest_and_the_others_get_all(service):
    hub = service.app.state.services.hub
    with socket(service, "realtime") as quick, socket(service, "realtime") as slow:
        settle(service, "realtime", 2)
        got = []
        for k in range(600):
            hub.publish("realtime", "a", {"n": k, "load": "x" * 20_000})
            if k % 20 == 19:
                got += [m["data"]["n"] for m in news(quick, 20)]
        assert got == list(range(600))
        late = []
        while not late or late[-1] < 599:
            late.append(news(slow, 1)[0]["data"]["n"])
        assert late == sorted(late)


def test_processes_exchange_messages_over_valkey(tmp_path, new_record, valkey):
    with (
        serving(tmp_path / "a", url=new_record(), redis_url=valkey) as one,
        serving(tmp_path / "b", url=new_record(), redis_url=valkey) as two,
        socket(two, "alerts") as listener,
    ):
        settle(two, "alerts")
        time.sleep(0.5)
        one.app.state.services.hub.publish("alerts", "s", {"kind": "k", "n": 7})
        two.app.state.services.hub.publish("alerts", "s", {"kind": "k", "n": 8})
        assert sorted(m["data"]["n"] for m in news(listener, 2)) == [7, 8]
