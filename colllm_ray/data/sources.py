"""Where rows come from: a file or a data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping

from colllm_ray.config import DataConfig, Source
from colllm_ray.data.data_sets import data_set_identity, read_data_set, title_of
from colllm_ray.data.files import content_digest, read_file
from colllm_ray.data.records import Record, Unreadable
from colllm_ray.errors import ColllmError


def read_records(source: Source, required: Collection[str], optional: Collection[str]) -> Iterator[Record | Unreadable]:
    """The rows of a source in order; of one with columns of its own, only those that are asked for.

    Raises ColllmError that names the source where it cannot be read, has no rows, or lacks a required column.
    """
    if isinstance(source, str):
        title, rows = source, read_file(source, required, optional)
    else:
        title, rows = title_of(source), read_data_set(source, required, optional)
    row = None
    for row in rows:
        yield row
    if row is None:
        raise ColllmError(f"{title}: holds no rows")


def fingerprint(sources: Mapping[str, Source], data: DataConfig) -> str:
    """Names all that the examples of these splits depend on besides the tokenizer (16 hex digits).

    That is the sources' content, wherever it lies, and what the columns mean and which turns are learnt. Raises
    ColllmError for a source that cannot be read.
    """
    parts = {
        "sources": {
            split: content_digest(source) if isinstance(source, str) else data_set_identity(source)
            for split, source in sources.items()
        },
        "columns": data.columns,
        "loss_on": data.loss_on,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
