"""Writes a Parquet file; a program of its own, since pyarrow and SUMO do not go together in one
process.

Standard input: a line of JSON with the columns, as a list of [name, kind], then lines with a list
of rows each. A row is a list of values in the order of the columns; a time is ISO
8601 with its offset. Standard output: the file. Exit status: NO_PYARROW where pyarrow is missing.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from datetime import datetime
from typing import Any, BinaryIO

NO_PYARROW = 3
GROUP = 50_000  # rows of a row group, or as many more as a line has


def write(source: BinaryIO, target: BinaryIO) -> None:
    """Raises ImportError without pyarrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "text": pa.string(),
        "count": pa.int64(),
        "number": pa.float64(),
        "time": pa.timestamp("us", tz="UTC"),
    }
    columns = json.loads(source.readline())
    schema = pa.schema([pa.field(name, types[kind]) for name, kind in columns])
    with pq.ParquetWriter(target, schema) as writer:
        rows: list[list[Any]] = []
        for line in itertools.chain(source, [b""]):
            rows += json.loads(line or b"[]")
            if len(rows) >= GROUP or (rows and not line):
                arrays = [
                    pa.array([_value(kind, value) for value in values], types[kind])
                    for (_, kind), values in zip(columns, zip(*rows, strict=True), strict=True)
                ]
                writer.write_table(pa.table(arrays, schema=schema))
                rows = []


def _value(kind: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if kind == "time" and value is not None else value


if __name__ == "__main__":
    try:
        write(sys.stdin.buffer, sys.stdout.buffer)
    except ImportError:
        sys.exit(NO_PYARROW)
    sys.stdout.buffer.flush()
    os._exit(0)  # pyarrow's threads may abort a process that ends in the usual way
