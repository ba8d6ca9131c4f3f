"""Parquet shards: one folder a table, `part-00000.parquet` and on, each written whole or not at all.

Shard i of a model's table holds the rows of shard i of the examples, so that a missing file is the work to be done.
No shard holds rows of two splits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from colllm_ray.errors import ColllmError
from colllm_ray.scoring.provenance import Provenance
from colllm_ray.storage import write_whole, written_whole

MANIFEST = "manifest.json"

EXAMPLES = pa.schema(
    {
        "example_id": pa.string(),
        "domain": pa.string(),
        "input_ids": pa.list_(pa.int32()),
        "target_mask": pa.list_(pa.bool_()),
    }
)
# One entry of each list for each target token; no lists where the row failed, as `error` says.
SCORES = pa.schema(
    {
        "example_id": pa.string(),
        "gold_logprob": pa.list_(pa.float32()),
        "top1": pa.list_(pa.bool_()),
        "error": pa.string(),
    }
)
# D entries for each target token, one token after the other.
FEATURES = pa.schema({"example_id": pa.string(), "features": pa.large_list(pa.float16())})
# Rows of the data that are no examples.
FAILED = pa.schema({"example_id": pa.string(), "reason": pa.string()})


@dataclass(frozen=True)
class ShardSize:
    """What a shard of examples holds; `tokens` of whole texts, `targets` of them."""

    examples: int
    tokens: int
    targets: int


@dataclass(frozen=True)
class Manifest:
    """The shards of the examples by split, in their order; `longest` example in tokens. It is written last."""

    longest: int
    splits: Mapping[str, tuple[ShardSize, ...]]

    @property
    def shards(self) -> list[ShardSize]:
        """All shards, as they are numbered."""
        return [shard for shards in self.splits.values() for shard in shards]

    def numbers_of(self, split: str) -> range:
        """The numbers of the split's shards."""
        names = list(self.splits)
        first = sum(len(self.splits[name]) for name in names[: names.index(split)])
        return range(first, first + len(self.splits[split]))

    def write(self, folder: UPath) -> None:
        write_whole(folder / MANIFEST, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, folder: UPath) -> Manifest | None:
        """The folder's manifest, None where there is no finished folder of examples."""
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_bytes())
            splits = {name: tuple(ShardSize(**shard) for shard in shards) for name, shards in content["splits"].items()}
            return cls(int(content["longest"]), splits)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ColllmError(f"{path}: is no manifest ({error}); delete {folder} and score again") from error


def shard_name(index: int) -> str:
    return f"part-{index:05d}.parquet"


def write_shard(path: UPath, columns: Mapping[str, object], schema: pa.Schema, made_from: Provenance) -> None:
    """Writes a shard under another name and renames it, so that a kill leaves no half of it."""
    table = pa.table(columns, schema=schema.with_metadata(made_from.to_metadata()))
    compression = "none" if schema is FEATURES else "zstd"  # hidden states do not get smaller
    with written_whole(path) as file:
        pq.write_table(table, file, compression=compression, use_dictionary=False)


def read_shard(path: UPath, schema: pa.Schema, made_from: Provenance, columns: Sequence[str] | None = None) -> pa.Table:
    """A shard's rows, all columns or some. Raises ColllmError where it is missing, corrupt or of another origin."""
    with _opened(path, schema, made_from) as shard:
        return shard.read(columns=columns)


def check_shard(path: UPath, schema: pa.Schema, made_from: Provenance) -> None:
    """Raises as `read_shard` does, from the file's footer alone."""
    with _opened(path, schema, made_from):
        pass


@contextmanager
def _opened(path: UPath, schema: pa.Schema, made_from: Provenance) -> Iterator[pq.ParquetFile]:
    """The shard, its footer read and found right."""
    try:
        with path.open("rb") as file:
            shard = pq.ParquetFile(file)
            stored = shard.schema_arrow
            made_from.check(stored.metadata, path)
            if not stored.equals(schema):
                raise ColllmError(f"{path}: its columns are {stored.names}, not {schema.names}; {_again(path, schema)}")
            yield shard
    except FileNotFoundError as error:
        what = f"delete {path.parent} and score again" if schema == EXAMPLES else "`colllm score` makes it"
        raise ColllmError(f"{path}: is missing; {what}") from error
    except (OSError, pa.ArrowException) as error:
        raise ColllmError(f"{path}: is no readable Parquet file ({error}); {_again(path, schema)}") from error


def _again(path: UPath, schema: pa.Schema) -> str:
    """Shards of examples come and go together, shards of scores one by one."""
    return f"delete {path.parent if schema == EXAMPLES else path} and score again"


def list_column(lists: Sequence[np.ndarray | None], kind: pa.ListType | pa.LargeListType) -> pa.Array:
    """A column of lists; None is null."""
    present = [one for one in lists if one is not None]
    values = pa.array(np.concatenate(present) if present else [], kind.value_type)
    ends = np.cumsum([0 if one is None else len(one) for one in lists])
    offsets = np.concatenate([[0], ends])
    missing = pa.array([one is None for one in lists])
    if isinstance(kind, pa.LargeListType):
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values, mask=missing)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=missing)


def flat_column(column: pa.ChunkedArray) -> np.ndarray:
    """The entries of all lists of a column, one after the other."""
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(chunks) if chunks else np.empty(0)
