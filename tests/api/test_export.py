"""Whole lists as files, over HTTP: CSV as RFC 4180 has it, and Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from headway.analytics import event_log, lists
from headway.api import export, queries, streaming
from tests.api.service import EXAMPLE, record, serving
from tests.waiting import until

PEERS = Path(os.environ.get("HEADWAY_PEERS", Path(sys.prefix + "-peers") / "bin" / "python"))
READ = """
import io, json, os, sys
import pyarrow.parquet as pq
found = pq.read_table(io.BytesIO(sys.stdin.buffer.read()))
print(json.dumps([[str(f.type) for f in found.schema], found.to_pylist()], default=str))
sys.stdout.flush()
os._exit(0)  # pyarrow's threads may abort a process that ends in the usual way
"""
METRICS = list(EXAMPLE["metrics"])
SENT = [record(name, 60 * k, "-1_2", wait=k / 3) for name in ("A", "-B") for k in range(4)]


@pytest.fixture(scope="module")
def served(tmp_path_factory, new_record):
    with serving(tmp_path_factory.mktemp("export"), url=new_record()) as running:
        with running.client("operator") as http:
            assert http.post("/api/v1/ingest/batch", json=SENT).json()["stored"] == len(SENT)
        yield running


@pytest.fixture
def client(served):
    with served.client("viewer") as found:
        yield found


@pytest.fixture
def small_parts(monkeypatch):
    """A list is read in several parts."""
    monkeypatch.setattr(lists, "PART", 3)


def rows(answer):
    """What a reader of RFC 4180 makes of it."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    lines = answer.content.decode()
    assert lines.endswith("\r\n")
    assert lines.count("\n") == lines.count("\r\n")
    return list(csv.DictReader(io.StringIO(lines, newline="")))


@pytest.mark.usefixtures("small_parts")
def test_records_are_exported_as_csv_whole_and_in_order(client):
    answer = client.get("/api/v1/export/records")
    found = rows(answer)
    assert answer.headers["content-disposition"] == 'attachment; filename="records.csv"'
    assert list(found[0]) == [
        "simulation_id",
        "timestamp",
        "intersection_id",
        *METRICS,
        "signals",
        "version",
    ]
    read = [
        {
            "simulation_id": row["simulation_id"].removeprefix("'"),
            "timestamp": row["timestamp"],
            "intersection_id": row["intersection_id"].removeprefix("'"),
            "signals": json.loads(row["signals"]),
            "metrics": {name: float(row[name]) for name in METRICS},
        }
        for row in found
    ]

    def key(sent):
        return sent["simulation_id"], sent["timestamp"]

    assert sorted(read, key=key) == sorted(SENT, key=key)
    only = rows(client.get("/api/v1/export/records?simulation_id=A&begin=2025-09-10T00:02:00Z"))
    assert [row["timestamp"][14:16] for row in only] == ["02", "03"]
    assert rows(client.get("/api/v1/export/records?simulation_id=none")) == []


def test_simulations_and_junctions_are_exported_as_csv(client):
    times = {"begin": "2025-09-10T00:00:00Z", "end": "2025-09-10T00:03:00Z"}
    found = rows(client.get("/api/v1/export/simulations"))
    assert sorted(found, key=lambda row: row["simulation_id"]) == [
        {"simulation_id": name, "records": "4", "junctions": "1"} | times for name in ("'-B", "A")
    ]
    assert rows(client.get("/api/v1/export/junctions?simulation_id=A")) == [
        {"intersection_id": "'-1_2", "records": "4", "simulations": "1"} | times
    ]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_run_is_text_and_numbers_stay_numbers(begin):
    text = f'{begin}cmd|"/c calc",\n'
    line = export.csv_of([[export._cell("text", text), export._cell("number", -1.5)]])
    ((cell, number),) = csv.reader(io.StringIO(line, newline=""))
    assert (cell, number) == (f"'{text}", "-1.5")
    assert export._cell("text", f"a{begin}") == f"a{begin}"
    assert export._cell("text", None) is None


def test_a_fault_after_the_first_part_ends_the_file_short_and_before_it_is_a_problem(
    client, served, monkeypatch
):
    monkeypatch.setattr(lists, "PART", 3)
    database, asked = served.app.state.services.database, []
    ask = database.rows

    def away(query, **values):
        if "LIMIT" in query:
            asked.append(query)
            if len(asked) > good:
                raise OperationalError("SELECT", {}, Exception("gone"))
        return ask(query, **values)

    monkeypatch.setattr(database, "rows", away)
    good = 1
    with pytest.raises(httpx.RemoteProtocolError):  # not taken for a whole file
        client.get("/api/v1/export/records")
    asked.clear()
    good = 0
    assert client.get("/api/v1/export/records").status_code == 503


def test_exports_are_for_viewers_and_of_a_known_format(served, client):
    for name in ("simulations", "junctions", "records"):
        assert client.get(f"/api/v1/export/{name}?format=xls").status_code == 422
        with served.client(None) as nobody:
            assert nobody.get(f"/api/v1/export/{name}").status_code == 401


def test_without_pyarrow_the_remedy_is_named(client, monkeypatch, tmp_path):
    bare = tmp_path / "python"  # one that has no other packages
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(export, "PYTHON", str(bare))
    answer = client.get("/api/v1/export/records?format=parquet")
    assert answer.status_code == 406
    assert "extra `parquet` (pip install pyarrow)" in answer.json()["detail"]


def test_more_than_two_parquet_files_at_once_are_refused_for_now(client, monkeypatch):
    monkeypatch.setattr(export, "PYTHON", "/nowhere")  # it is refused before it begins
    assert export._making.acquire()
    assert export._making.acquire()
    try:
        answer = client.get("/api/v1/export/records?format=parquet")
    finally:
        export._making.release()
        export._making.release()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")


def test_a_file_that_nobody_reads_on_is_let_go_of_and_only_so_many_are_kept(
    client, served, monkeypatch
):
    """The reader stays connected, and takes nothing."""

    def written(*_):
        files.append(io.BytesIO(bytes(20_000_000)))  # more than the sockets hold
        return files[-1]

    files, places = [], threading.BoundedSemaphore(1)
    monkeypatch.setattr(export, "_written", written)
    monkeypatch.setattr(export, "_files", places)
    path = "/api/v1/export/records?format=parquet"
    assert places.acquire()
    refused = client.get(path)
    assert (refused.status_code, refused.headers["retry-after"], files) == (503, "10", [])
    places.release()
    host, port = served.url.removeprefix("http://").split(":")
    with socket.socket() as stalled, monkeypatch.context() as patch:
        patch.setattr(streaming, "TAKEN_WITHIN_S", 0.2)
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect((host, int(port)))
        credentials = f"Authorization: Bearer {served.token('viewer')}"
        stalled.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{credentials}\r\n\r\n".encode())
        until(lambda: files and files[0].closed)
    assert len(client.get(path).content) == 20_000_000, "there is room for the next one"
    until(lambda: files[1].closed)


@pytest.mark.parametrize("path", ["export/records", "runs/{run}/high-resolution"])
def test_a_file_ends_when_the_credentials_that_asked_for_it_do(served, monkeypatch, path):
    """An export of millions of rows went on for as long as it took."""

    def slowly(first, more):
        yield first
        for _ in range(100):
            time.sleep(0.1)
            yield more

    monkeypatch.setattr(export, "_csv_parts", lambda *_: slowly("a\r\n", "b\r\n"))
    row = {"timestamp": datetime.now(UTC), "event_code": 1}
    monkeypatch.setattr(queries, "PART", 1)
    monkeypatch.setattr(event_log, "high_resolution", lambda *_: slowly(row, row))
    run = served.app.state.services.intake.begin_run("key", "cologne8", "planner", 1)
    token, begun_s = served.token("viewer", lasts_s=2.0), time.monotonic()
    asked = httpx.stream(
        "GET",
        f"{served.url}/api/v1/{path.format(run=run)}",
        headers={"Authorization": f"Bearer {token}"},
    )
    with asked as answer, pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        assert answer.status_code == 200
        answer.read()
    assert time.monotonic() - begun_s < 5.0


@pytest.mark.skipif(not PEERS.exists(), reason=f"NO PEERS: {PEERS}; `make test` installs it")
@pytest.mark.usefixtures("small_parts")
@pytest.mark.slow
def test_parquet_has_the_same_rows_with_their_types(client, monkeypatch):
    monkeypatch.setattr(export, "PYTHON", str(PEERS))
    answer = client.get("/api/v1/export/records?format=parquet")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert answer.headers["content-disposition"] == 'attachment; filename="records.parquet"'
    done = subprocess.run(
        [PEERS, "-c", READ], input=answer.content, capture_output=True, check=True
    )
    types, found = json.loads(done.stdout)
    assert types == ["string", "timestamp[us, tz=UTC]", "string", "int64"] + ["double"] * 5 + [
        "int64",
        "string",
        "int64",
    ]
    assert [
        {
            "simulation_id": row["simulation_id"],
            "timestamp": row["timestamp"].replace(" ", "T").replace("+00:00", "Z"),
            "intersection_id": row["intersection_id"],
            "signals": json.loads(row["signals"]),
            "metrics": {name: row[name] for name in METRICS},
        }
        for row in sorted(found, key=lambda row: (row["simulation_id"] != "A", row["timestamp"]))
    ] == SENT
    empty = client.get("/api/v1/export/records?format=parquet&simulation_id=none")
    done = subprocess.run([PEERS, "-c", READ], input=empty.content, capture_output=True, check=True)
    assert json.loads(done.stdout)[1] == []
