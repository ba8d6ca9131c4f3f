"""Data sets that the `datasets` library loads, from the hub or from a folder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from colllm_ray.config import DatasetSource
from colllm_ray.data.files import content_digest, present_columns
from colllm_ray.data.records import Record
from colllm_ray.errors import ColllmError


def read_data_set(source: DatasetSource, required: Collection[str], optional: Collection[str]) -> Iterator[Record]:
    """The rows of the split in order, at most the given columns of them.

    Raises ColllmError that names the data set where it cannot be loaded or has no such configuration, split or column.
    """
    title = title_of(source)
    with _datasets_library(title) as datasets:
        rows = datasets.load_dataset(source.dataset, source.name, split=source.split, revision=source.revision)
        columns = present_columns(title, rows.column_names, required, optional)
        for i, row in enumerate(rows.select_columns(columns) if columns else ({} for _ in range(len(rows)))):
            yield Record(f"{title}: row {i}", row)


def data_set_identity(source: DatasetSource) -> Mapping[str, object]:
    """What the split's rows depend on: its files, local ones by content, and how they are read.

    A file on the hub is named with its commit. Raises ColllmError where the data set or the split cannot be found.
    """
    title = title_of(source)
    with _datasets_library(title) as datasets:
        builder = datasets.load_dataset_builder(source.dataset, source.name, revision=source.revision)
    config = builder.config
    by_split = {str(split): list(map(str, paths)) for split, paths in (config.data_files or {}).items()}
    named = [part.partition("[")[0].strip() for part in source.split.split("+")]
    unknown = [split for split in named if split not in by_split and split != "all"]
    if unknown:
        raise ColllmError(f"{title}: there is no split {unknown[0]!r}; there are: {', '.join(by_split)}")
    wanted = by_split if "all" in named else {split: by_split[split] for split in sorted(set(named))}
    options = {
        field.name: repr(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.name not in ("data_files", "data_dir", "version", "description")
        and getattr(config, field.name) != field.default
    }
    return {
        "files": {split: [_file_identity(path) for path in paths] for split, paths in wanted.items()},
        "split": source.split,
        "options": options,
    }


def title_of(source: DatasetSource) -> str:
    """How messages call the split: "org/name (configuration, train[:95%])"."""
    return f"{source.dataset} ({', '.join(part for part in (source.name, source.split) if part)})"


def _file_identity(path: str) -> str:
    return content_digest(path) if os.path.isabs(path) else path  # noqa: PTH117 (a hub path is no Path)


@contextmanager
def _datasets_library(title: str) -> Iterator[Any]:
    """The library, which takes half a second to import: workers that read no data set do without."""
    import datasets  # type: ignore[import-untyped]

    try:
        yield datasets
    except (OSError, ValueError, RuntimeError, ImportError, datasets.exceptions.DatasetsError) as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise ColllmError(f"{title}: cannot be loaded: {error}{cause}") from error
