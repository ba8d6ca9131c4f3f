"""Parquet shards: one folder a table, `part-00000.parquet` and on, each written whole or not at all.

Shard i of a model's table holds the rows of shard i of the examples, so that a missing file is the work to be done.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from colllm_ray.errors import ColllmError
from colllm_ray.scoring.provenance import Provenance

MANIFEST = "manifest.json"

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


@dataclass(frozen=True)
class Manifest:
    """What the examples' folder holds; `longest` is in tokens."""

    shards: int
    examples: int
    longest: int

    def write(self, folder: Path) -> None:
        (folder / MANIFEST).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The folder's manifest, None where there is no finished folder of examples."""
        path = folder / MANIFEST
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ColllmError(f"{path}: is no manifest ({error}); delete {folder} and score again") from error


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
    # Shards of examples come and go together, shards of scores one by one.
    again = f"delete {path.parent if schema == EXAMPLES else path} and score again"
    if not path.is_file():
        raise ColllmError(f"{path}: is missing; {again if schema == EXAMPLES else '`colllm score` makes it'}")
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ColllmError(f"{path}: is no readable Parquet file ({error}); {again}") from error
    made_from.check(table.schema.metadata, path)
    if not table.schema.equals(schema):
        raise ColllmError(f"{path}: its columns are {table.schema.names}, not {schema.names}; {again}")
    return table


def check_shard(path: Path, schema: pa.Schema, made_from: Provenance) -> bool:
    """Whether the shard is there; one that is there must be readable and made from the same as now."""
    if not path.exists():
        return False
    read_shard(path, schema, made_from)
    return True
