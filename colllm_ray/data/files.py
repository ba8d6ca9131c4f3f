"""Files of rows, by path or URI: JSON lines, compressed or not, and Parquet."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from colllm_ray.data.records import Record, Unreadable
from colllm_ray.errors import ColllmError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
ROWS_AT_ONCE = 256  # of a Parquet file in memory


def read_file(path: str, required: Collection[str], optional: Collection[str]) -> Iterator[Record | Unreadable]:
    """The rows of a file in order, as its name's ending says; at most the given columns of a Parquet file.

    Raises ColllmError that names the file where it is none of the kinds, cannot be read, or is a Parquet file without a
    required column. A JSON line without one is a Record all the same.
    """
    endings = PurePosixPath(path).suffixes
    compression = COMPRESSIONS.get(endings[-1]) if endings else None
    kind = endings[-2:-1] if compression else endings[-1:]
    if kind in ([".jsonl"], [".json"]):
        return _json_lines(path, compression)
    if kind == [".parquet"] and not compression:
        return _parquet(path, required, optional)
    raise ColllmError(
        f"{path}: is none of the files that can be read: .jsonl and .json, both also with "
        f"{', '.join(COMPRESSIONS)} behind, and .parquet"
    )


def content_digest(path: str) -> str:
    """SHA-256 of a file's bytes. Raises ColllmError for one that cannot be read."""
    with _opened(path) as file, _read_errors(path):
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json_lines(path: str, compression: str | None) -> Iterator[Record | Unreadable]:
    with _opened(path) as file, _read_errors(path):
        lines = io.BufferedReader(pa.CompressedInputStream(file, compression)) if compression else file
        for number, line in enumerate(lines, start=1):
            place = f"{path}:{number}"
            try:
                # Some editors begin a file with a byte order mark.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ColllmError(
                    f"{path}: is no UTF-8 text: {error.reason} at byte {error.start} of line {number}"
                ) from error
            if text.strip():
                yield _json_line(text, place)


def _json_line(text: str, place: str) -> Record | Unreadable:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        return Unreadable(place, f"is no JSON: {error.msg} at column {error.colno}; each line holds one row")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        return Unreadable(place, f"is no JSON that can be read: {error}")
    if not isinstance(values, dict):
        return Unreadable(
            place, f"is a JSON {type(values).__name__}; a row is an object, with names and values in {{}}"
        )
    return Record(place, values)


def _parquet(path: str, required: Collection[str], optional: Collection[str]) -> Iterator[Record]:
    with _opened(path) as file, _read_errors(path):
        table = pq.ParquetFile(file)
        columns = present_columns(path, table.schema_arrow.names, required, optional)
        rows = (row for batch in table.iter_batches(ROWS_AT_ONCE, columns=columns) for row in batch.to_pylist())
        for i, row in enumerate(rows):
            yield Record(f"{path}: row {i}", row)


def present_columns(source: str, there: list[str], required: Collection[str], optional: Collection[str]) -> list[str]:
    """The required columns and those of the optional ones that a source has. Raises ColllmError for a missing one."""
    missing = [column for column in required if column not in there]
    if missing:
        raise ColllmError(f"{source}: has no column {missing[0]!r}; it has: {', '.join(map(repr, there))}")
    return [column for column in there if column in required or column in optional]


@contextmanager
def _opened(path: str) -> Iterator[io.BufferedIOBase]:
    try:
        file = cast(io.BufferedIOBase, UPath(path).open("rb"))
    except Exception as error:  # each kind of storage has errors of its own, such as for missing credentials
        raise ColllmError(f"{path}: cannot be read: {_what(error)}") from error
    with file:
        yield file


@contextmanager
def _read_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise ColllmError(f"{path}: cannot be read: {_what(error)}") from error


def _what(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
