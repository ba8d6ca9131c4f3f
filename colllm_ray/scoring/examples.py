"""The table `examples`: the data as token ids, written once, which every model's scores follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from rich.progress import Progress
from transformers import PreTrainedTokenizerBase
from upath import UPath

from colllm_ray.config import DataConfig, Source
from colllm_ray.data.examples import Example, FailedRow, read_examples
from colllm_ray.errors import ColllmError
from colllm_ray.scoring.provenance import Provenance
from colllm_ray.scoring.shards import (
    EXAMPLES,
    FAILED,
    Manifest,
    ShardSize,
    check_shard,
    list_column,
    shard_name,
    write_shard,
)
from colllm_ray.storage import delete_folder, for_each

FAILED_ROWS = "failed.parquet"


def finished_examples(folder: UPath, made_from: Provenance) -> Manifest | None:
    """What a finished folder of examples holds, None where there is none.

    Raises ColllmError where a shard is missing, corrupt, or made from other data.
    """
    manifest = Manifest.read(folder)
    if manifest is not None:
        shards = range(len(manifest.shards))
        for_each(lambda index: check_shard(folder / shard_name(index), EXAMPLES, made_from), shards)
        check_shard(folder / FAILED_ROWS, FAILED, made_from)
    return manifest


class ExampleWriter:
    """Turns the rows of data into shards of examples, in a folder that is finished once its manifest is there."""

    def __init__(self, folder: UPath, shard_tokens: int, made_from: Provenance) -> None:
        self._folder = folder
        self._shard_tokens = shard_tokens
        self._made_from = made_from
        self._failed: list[FailedRow] = []
        self._shards: dict[str, list[ShardSize]] = {}
        self._longest = 0

    def write(
        self,
        sources: Mapping[str, Source],
        data: DataConfig,
        tokenizer: PreTrainedTokenizerBase,
        context: int,
        progress: Progress,
    ) -> Manifest:
        """Writes all splits. Raises ColllmError where more rows fail than `data` allows; then nothing is left."""
        delete_folder(self._folder)
        try:
            for split, source in sources.items():
                bar = progress.add_task(f"read {split}", total=None, note="")
                rows = read_examples(source, split, tokenizer, context, data)
                self._shards[split] = []
                for shard in self._shards_of(progress.track(self._examples(rows, data), task_id=bar)):
                    self._write_shard(split, shard)
                count = sum(shard.examples for shard in self._shards[split])
                progress.update(bar, completed=count, total=count)
                if not self._shards[split]:
                    raise ColllmError(f"data.{split}: all of its rows failed: {self._failed[0].reason}")
            failed = {
                "example_id": [row.example_id for row in self._failed],
                "reason": [row.reason for row in self._failed],
            }
            write_shard(self._folder / FAILED_ROWS, failed, FAILED, self._made_from)
        except BaseException:
            delete_folder(self._folder)
            raise
        manifest = Manifest(self._longest, {split: tuple(shards) for split, shards in self._shards.items()})
        manifest.write(self._folder)
        return manifest

    def _examples(self, rows: Iterable[Example | FailedRow], data: DataConfig) -> Iterator[Example]:
        for row in rows:
            if isinstance(row, Example):
                yield row
                continue
            self._failed.append(row)
            if len(self._failed) > data.max_failed:
                count = f"; {len(self._failed)} rows failed, data.max_failed is {data.max_failed}"
                raise ColllmError(row.reason + (count if data.max_failed else ""))

    def _shards_of(self, examples: Iterable[Example]) -> Iterator[list[Example]]:
        """Shards of as many tokens as one may have, or of one example that has more."""
        shard: list[Example] = []
        tokens = 0
        for example in examples:
            if shard and tokens + len(example.input_ids) > self._shard_tokens:
                yield shard
                shard, tokens = [], 0
            shard.append(example)
            tokens += len(example.input_ids)
        if shard:
            yield shard

    def _write_shard(self, split: str, shard: list[Example]) -> None:
        columns = {
            "example_id": [example.example_id for example in shard],
            "domain": [example.domain for example in shard],
            "input_ids": list_column(
                [np.array(example.input_ids, np.int32) for example in shard], EXAMPLES.field("input_ids").type
            ),
            "target_mask": list_column(
                [np.array(example.target_mask) for example in shard], EXAMPLES.field("target_mask").type
            ),
        }
        index = sum(map(len, self._shards.values()))
        write_shard(self._folder / shard_name(index), columns, EXAMPLES, self._made_from)
        lengths = [len(example.input_ids) for example in shard]
        targets = sum(sum(example.target_mask) for example in shard)
        self._shards[split].append(ShardSize(len(shard), sum(lengths), targets))
        self._longest = max(self._longest, *lengths)
