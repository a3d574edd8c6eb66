"""Whole lists as files: CSV (RFC 4180), or Parquet with the extra `parquet`."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from headway.analytics import lists
from headway.analytics.lists import METRICS, Item, Listing
from headway.api import parquet_writer
from headway.api.dependencies import ASKS, caller_of, end_of_caller, need, services_of
from headway.api.lists import Counts, Records, Viewer
from headway.api.problems import ProblemError, responses
from headway.api.queries import Maybe
from headway.api.security import Role
from headway.api.streaming import Long
from headway.api.turns import Turns

router = APIRouter(
    prefix="/api/v1/export", tags=["records"], dependencies=[Depends(need(Role.VIEWER)), ASKS]
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets take for the begin of one
PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv; charset=utf-8; header=present"
FILES: dict[str, Any] = {
    "response_class": StreamingResponse,
    "responses": {
        200: {
            "content": {
                "text/csv": {"schema": {"type": "string"}},
                PARQUET: {"schema": {"type": "string", "format": "binary"}},
            }
        },
        **responses(401, 403, 406, 422, 503),
    },
}
AT_ONCE = 2  # Parquet files that are made at once: each has a process
MOST_FILES = 16  # of these on the disk: who reads slowly keeps one
CHUNK_BYTES = 1 << 16
PYTHON = sys.executable  # of the process that writes Parquet
_making = threading.BoundedSemaphore(AT_ONCE)
_files = threading.BoundedSemaphore(MOST_FILES)

Format = Annotated[Literal["csv", "parquet"], Query(alias="format")]
Columns = dict[str, Literal["text", "count", "number", "time"]]
SIMULATION: Columns = {
    "simulation_id": "text",
    "records": "count",
    "junctions": "count",
    "begin": "time",
    "end": "time",
}
JUNCTION: Columns = {
    "intersection_id": "text",
    "records": "count",
    "simulations": "count",
    "begin": "time",
    "end": "time",
}
WHOLE = ("total_vehicles_passed", "emergency_overrides")  # metrics that are whole numbers
RECORD: Columns = {
    "simulation_id": "text",
    "timestamp": "time",
    "intersection_id": "text",
    **{name: "count" if name in WHOLE else "number" for name in METRICS},
    "signals": "text",
    "version": "count",
}

COUNT: Columns = {
    "begin": "time",
    "camera": "text",
    "line": "text",
    "direction": "text",
    "kind": "text",
    "n": "count",
    "observed_s": "number",
    "flow_veh_h": "number",
    "mean_speed_mps": "number",
}


@router.get("/counts", **FILES)
async def counts(request: Request, only: Counts, form: Format = "csv") -> Long:
    """All counts of cameras of a filter as a file."""
    found = lists.counts(services_of(request).database, only)
    return await exported(request, "counts", found, COUNT, form)


@router.get("/simulations", **FILES)
async def simulations(request: Request, who: Viewer, form: Format = "csv") -> Long:
    """All ingested simulations as a file."""
    found = lists.simulations(services_of(request).database, who.bounds.only_streets)
    return await exported(request, "simulations", found, SIMULATION, form)


@router.get("/junctions", **FILES)
async def junctions(
    request: Request, who: Viewer, simulation_id: Maybe = None, form: Format = "csv"
) -> Long:
    """All junctions of one simulation, or of all, as a file."""
    among = who.bounds.only_streets
    found = lists.junctions(services_of(request).database, simulation_id, among)
    return await exported(request, "junctions", found, JUNCTION, form)


@router.get("/records", **FILES)
async def records(request: Request, only: Records, form: Format = "csv") -> Long:
    """All ingested records of a filter as a file; `signals` as JSON."""
    found = lists.records(services_of(request).database, only)
    return await exported(request, "records", found, RECORD, form)


async def exported(
    request: Request, name: str, listing: Listing, columns: Columns, form: str
) -> Long:
    """A whole list as a file. Raises ProblemError 406 for Parquet without pyarrow, 503 where
    AT_ONCE are being made, or MOST_FILES are there.
    """
    headers = {
        "Content-Disposition": f'attachment; filename="{name}.{form}"',
        "Cache-Control": "no-store",
    }
    parts = listing.parts()
    if form == "parquet":
        made = await run_in_threadpool(_parquet, parts, columns)

        def release() -> None:
            made.close()
            _files.release()

        return Long(_chunks(made), PARQUET, headers, end_of_caller(request), release)
    texts = _csv_parts(parts, columns)
    first = await run_in_threadpool(next, texts, "")
    body = _csv(first, texts, services_of(request).turns, caller_of(request))
    return Long(body, CSV, headers, end_of_caller(request))


async def _csv(first: str, texts: Iterator[str], turns: Turns, who: str) -> AsyncIterator[str]:
    """Each part of the list has its own turn to ask: who reads slowly takes none from others."""
    text = first
    while text:
        yield text
        async with turns.one(who):
            text = await run_in_threadpool(next, texts, "")


def _csv_parts(parts: Iterator[list[Item]], columns: Columns) -> Iterator[str]:
    """The names of the columns with the first part, then the others."""
    head = csv_of([list(columns)])
    for part in parts:
        rows = ([_cell(columns[c], item[c]) for c in columns] for item in map(_flat, part))
        yield head + csv_of(rows)
        head = ""
    if head:
        yield head


def csv_of(rows: Iterable[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()


def _flat(item: Item) -> Item:
    """The metrics of a record are columns like its other fields."""
    return {**item, **item.get("metrics", {})}


def _cell(kind: str, value: Any) -> Any:
    """A value as a spreadsheet may have it: text that it would take for a formula, and run, has an
    apostrophe before it. Numbers are none.
    """
    plain = _plain(value)
    if kind == "text" and isinstance(plain, str) and plain.startswith(FORMULA):
        return f"'{plain}"
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return value


def _parquet(parts: Iterator[list[Item]], columns: Columns) -> IO[bytes]:
    """One of MOST_FILES with all rows, that is gone once it is closed."""
    with contextlib.ExitStack() as on_error:
        _take(_files, f"{MOST_FILES} Parquet files are being read")
        on_error.callback(_files.release)
        _take(_making, f"{AT_ONCE} Parquet files are being made")
        try:
            made = _written(parts, columns)
        finally:
            _making.release()
        on_error.pop_all()
    return made


def _take(places: threading.BoundedSemaphore, why: str) -> None:
    """Raises ProblemError 503 where none is free."""
    if not places.acquire(blocking=False):
        detail = f"{why}; try again later, or take format=csv"
        raise ProblemError(503, detail, headers={"Retry-After": "10"})


def _written(parts: Iterator[list[Item]], columns: Columns) -> IO[bytes]:
    with contextlib.ExitStack() as on_error:
        target = on_error.enter_context(tempfile.TemporaryFile())
        status = _write(parts, columns, target)
        if status == parquet_writer.NO_PYARROW:
            detail = "Parquet needs the extra `parquet` (pip install pyarrow); or take format=csv"
            raise ProblemError(406, detail)
        if status:
            raise RuntimeError(f"the writer of Parquet ended with status {status}")
        target.seek(0)
        on_error.pop_all()
    return target


def _write(parts: Iterator[list[Item]], columns: Columns, target: IO[bytes]) -> int:
    """The exit status of the process that writes."""
    with subprocess.Popen(
        [PYTHON, "-P", parquet_writer.__file__], stdin=subprocess.PIPE, stdout=target
    ) as writer:
        assert writer.stdin is not None
        try:
            with writer.stdin as lines:
                lines.write(json.dumps(list(columns.items())).encode() + b"\n")
                for part in parts:
                    rows = [[_plain(item[c]) for c in columns] for item in map(_flat, part)]
                    lines.write(json.dumps(rows).encode() + b"\n")
        except BrokenPipeError:
            pass  # it has ended, and its status says why
        except BaseException:
            writer.kill()
            raise
    return writer.returncode


def _chunks(made: IO[bytes]) -> Iterator[bytes]:
    while chunk := made.read(CHUNK_BYTES):
        yield chunk
