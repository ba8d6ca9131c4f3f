"""Work in parts that are kept: what a killed run has finished is read, and only the rest is done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from colllm_ray.errors import ColllmError
from colllm_ray.storage import written_whole

PART = 64  # rows

Row = dict[str, Any]


@dataclass(frozen=True)
class Kept:
    """A folder of Parquet files, a part a file, each written whole or not at all.

    Its name says all that the rows depend on, so that what lies there is never something else.
    """

    folder: UPath
    schema: pa.Schema

    @classmethod
    def of(cls, parent: UPath, title: str, made_from: object, schema: pa.Schema) -> Kept:
        """`made_from` is told by its `repr`."""
        digest = hashlib.sha256(repr(made_from).encode()).hexdigest()[:16]
        return cls(parent / f"{title.replace(':', '-')}-{digest}", schema)

    def rows(self, count: int, make: Callable[[range], list[Row]]) -> list[Row]:
        """All rows; `make` makes those of a part that is missing, given their numbers."""
        rows: list[Row] = []
        for number, begin in enumerate(range(0, count, PART)):
            wanted = range(begin, min(begin + PART, count))
            path = self.folder / f"part-{number:05d}.parquet"
            if not path.is_file():
                table = pa.Table.from_pylist(make(wanted), self.schema)
                with written_whole(path) as file:
                    pq.write_table(table, file, compression="zstd")
            rows += self._read(path)
        return rows

    def _read(self, path: UPath) -> list[Row]:
        try:
            with path.open("rb") as file:
                return list(pq.read_table(file).to_pylist())
        except (OSError, pa.ArrowException) as error:
            raise ColllmError(f"{path}: is no readable Parquet file ({error}); delete it") from error
