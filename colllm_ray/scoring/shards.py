"""Parquet shards: one folder a table, `part-00000.parquet` and on, each written whole or not at all.

Shard i of a model's table holds the rows of shard i of the examples, so that a missing file is the work to be done.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from colllm_ray.errors import ColllmError
from colllm_ray.scoring.provenance import Provenance

EXAMPLES = pa.schema(
    {
        "example_id": pa.string(),
        "split": pa.string(),
        "domain": pa.string(),
        "input_ids": pa.list_(pa.int32()),
        "target_mask": pa.list_(pa.bool_()),
    }
)
# One entry of each list for each target token.
SCORES = pa.schema({"example_id": pa.string(), "gold_logprob": pa.list_(pa.float32()), "top1": pa.list_(pa.bool_())})
# D entries for each target token, one token after the other.
FEATURES = pa.schema({"example_id": pa.string(), "features": pa.list_(pa.float16())})


def shard_path(folder: Path, index: int) -> Path:
    return folder / f"part-{index:05d}.parquet"


def write_shard(path: Path, columns: dict[str, list[object]], schema: pa.Schema, made_from: Provenance) -> None:
    """Writes a shard under another name and renames it, so that a kill leaves no half of it."""
    table = pa.table(columns, schema=schema.with_metadata(made_from.to_metadata()))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(table, unfinished)
    unfinished.replace(path)


def read_shard(path: Path, schema: pa.Schema, made_from: Provenance) -> pa.Table:
    """A shard's rows. Raises ColllmError where the file is missing, corrupt, or made from something else."""
    if not path.is_file():
        raise ColllmError(f"{path}: is missing; `colllm score` makes it")
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ColllmError(f"{path}: is no readable Parquet file ({error}); delete it and score again") from error
    made_from.check(table.schema.metadata, path)
    if not table.schema.equals(schema):
        raise ColllmError(
            f"{path}: has the columns {table.schema.names}, not {schema.names}; delete it and score again"
        )
    return table


def check_shard(path: Path, schema: pa.Schema, made_from: Provenance) -> bool:
    """Whether the shard is there; one that is there must be readable and made from the same as now."""
    if not path.exists():
        return False
    read_shard(path, schema, made_from)
    return True
