"""Scores as tensors: what training, calibration and evaluation read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from colllm_ray.config import Collaboration
from colllm_ray.data.tokenizer import shared_tokenizer
from colllm_ray.errors import ColllmError
from colllm_ray.scoring.provenance import Provenance, provenances
from colllm_ray.scoring.shards import EXAMPLES, FEATURES, SCORES, Manifest, read_shard, shard_path


@dataclass(frozen=True)
class Scores:
    """Target tokens of one split, flat; N targets, K members in the order of the head's choices, D the base's width.

    example [N]: which of `example_ids` a target belongs to; gold_logprob [N, K] natural logs; top1 [N, K] bool;
    features [N, D] float16.
    """

    members: tuple[str, ...]
    example_ids: tuple[str, ...]
    domains: tuple[str | None, ...]
    example: Tensor
    gold_logprob: Tensor
    top1: Tensor
    features: Tensor

    def shard(self, rank: int, count: int) -> Scores:
        """The targets of every `count`-th example from `rank` on; `example_ids` stay as they are."""
        keep = self.example % count == rank
        return Scores(
            self.members,
            self.example_ids,
            self.domains,
            self.example[keep],
            self.gold_logprob[keep],
            self.top1[keep],
            self.features[keep],
        )


@dataclass(frozen=True)
class ScoreFolder:
    """RUN/scores and what its tables must have been made from."""

    path: Path
    made_from: Mapping[str, Provenance]

    @classmethod
    def of(cls, collaboration: Collaboration, files: Mapping[str, str], path: Path) -> ScoreFolder:
        """The folder as `score_files` leaves it for these data files."""
        tokenizer = shared_tokenizer(collaboration)
        return cls(path, provenances(collaboration.name, collaboration.members, tokenizer, files))

    def read(self, split: str) -> Scores:
        """The split's scores, all members joined by example id.

        Raises ColllmError where a table is missing, corrupt, of another origin, or does not fit the examples.
        """
        members = tuple(name for name in self.made_from if name != "examples")
        manifest = Manifest.read(self.path / "examples")
        if manifest is None:
            raise ColllmError(f"{self.path}: holds no scores; `colllm score` makes them")
        shards = manifest.shards
        examples = self._table("examples", "examples", EXAMPLES, shards)
        counts = np.array([sum(mask) for mask in examples["target_mask"].to_pylist()])  # targets of each example
        columns = {name: self._table(name, name, SCORES, shards) for name in members}
        features = self._table("features", "base", FEATURES, shards)
        for name, table in [*columns.items(), ("features", features)]:
            if table["example_id"] != examples["example_id"]:
                raise ColllmError(f"{self.path / name}: its example ids are not those of the examples; score it anew")
        in_split = np.array(examples["split"].to_pylist()) == split
        wanted = torch.from_numpy(np.repeat(in_split, counts))  # over all targets
        width = len(_flat(features["features"])) // counts.sum()
        ids, domains = examples["example_id"].to_pylist(), examples["domain"].to_pylist()
        return Scores(
            members=members,
            example_ids=tuple(name for name, keep in zip(ids, in_split, strict=True) if keep),
            domains=tuple(name for name, keep in zip(domains, in_split, strict=True) if keep),
            example=torch.from_numpy(np.repeat(np.arange(in_split.sum()), counts[in_split])),
            gold_logprob=self._stack(columns, "gold_logprob", counts)[wanted],
            top1=self._stack(columns, "top1", counts)[wanted],
            features=torch.from_numpy(_flat(features["features"])).reshape(-1, width)[wanted],
        )

    def _table(self, name: str, maker: str, schema: pa.Schema, shards: int) -> pa.Table:
        return pa.concat_tables(
            read_shard(shard_path(self.path / name, index), schema, self.made_from[maker]) for index in range(shards)
        )

    def _stack(self, tables: Mapping[str, pa.Table], column: str, counts: np.ndarray) -> Tensor:
        values = {name: _flat(table[column]) for name, table in tables.items()}
        for name, flat in values.items():
            if len(flat) != counts.sum():
                raise ColllmError(
                    f"{self.path / name}: holds {len(flat)} entries for {counts.sum()} target tokens; score it anew"
                )
        return torch.from_numpy(np.stack(list(values.values()), axis=1))


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    return np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
