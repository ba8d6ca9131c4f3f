"""Scores as tensors: what training, calibration and evaluation read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from upath import UPath

from colllm_ray.config import Collaboration, Source
from colllm_ray.data.examples import FailedRow
from colllm_ray.data.tokenizer import shared_tokenizer
from colllm_ray.errors import ColllmError
from colllm_ray.scoring.examples import FAILED_ROWS
from colllm_ray.scoring.provenance import Provenance, provenances
from colllm_ray.scoring.shards import (
    EXAMPLES,
    FAILED,
    FEATURES,
    SCORES,
    Manifest,
    flat_column,
    read_shard,
    shard_name,
)
from colllm_ray.storage import Where, for_each, location

NAMED_FAILURES = 20  # rows that an error message names, at most


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


@dataclass(frozen=True)
class FailedScore:
    """A row that training leaves out; `table` is the member that could not score it, or "examples"."""

    example_id: str
    table: str
    reason: str

    def __str__(self) -> str:
        return f"{self.example_id} ({self.table}): {self.reason}"


@dataclass(frozen=True)
class Part:
    """One of `count` shares of a split's examples, all of the same size but for one example."""

    rank: int = 0
    count: int = 1

    def of(self, examples: int) -> range:
        """The numbers of its examples."""
        return range(examples * self.rank // self.count, examples * (self.rank + 1) // self.count)


@dataclass(frozen=True)
class ScoreFolder:
    """RUN/scores and what its tables must have been made from."""

    path: UPath
    made_from: Mapping[str, Provenance]

    @classmethod
    def of(cls, collaboration: Collaboration, sources: Mapping[str, Source], path: Where) -> ScoreFolder:
        """The folder as `score_sources` leaves it for these data."""
        tokenizer = shared_tokenizer(collaboration)
        members = collaboration.members
        return cls(location(path), provenances(collaboration.name, members, tokenizer, sources, collaboration.data))

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(name for name in self.made_from if name != "examples")

    def manifest(self) -> Manifest:
        """What there is to score. Raises ColllmError where there is nothing."""
        manifest = Manifest.read(self.path / "examples")
        if manifest is None:
            raise ColllmError(f"{self.path}: holds no scores; `colllm score` makes them")
        return manifest

    def failed(self) -> tuple[FailedScore, ...]:
        """The rows that are no examples, then those that a member could not score."""
        shards = range(len(self.manifest().shards))
        table = read_shard(self.path / "examples" / FAILED_ROWS, FAILED, self.made_from["examples"])
        failed = [FailedScore(row["example_id"], "examples", row["reason"]) for row in table.to_pylist()]
        for member in self.members:
            paths = (self.path / member / shard_name(index) for index in shards)
            for rows in for_each(partial(failed_in_shard, made_from=self.made_from[member]), paths):
                failed.extend(FailedScore(row.example_id, member, row.reason) for row in rows)
        return tuple(failed)

    def check_failed(self, max_failed: int) -> tuple[FailedScore, ...]:
        """The failed rows. Raises ColllmError that names them where they are more than that."""
        failed = self.failed()
        rows = {one.example_id for one in failed}
        if len(rows) > max_failed:
            named = "".join(f"\n  {one}" for one in failed[:NAMED_FAILURES])
            more = f"\n  and {len(failed) - NAMED_FAILURES} more" if len(failed) > NAMED_FAILURES else ""
            raise ColllmError(
                f"{self.path}: {len(rows)} rows failed, data.max_failed allows {max_failed}:{named}{more}"
            )
        return failed

    def read(self, split: str, part: Part = Part()) -> Scores:
        """The split's scores, all members joined by example id; rows that failed are left out.

        Of `part`, only the shards that it lies in are read. Raises ColllmError where a table is missing, corrupt, of
        another origin, or does not fit the examples.
        """
        manifest = self.manifest()
        sizes = manifest.splits[split]
        wanted = part.of(sum(size.examples for size in sizes))
        inside: dict[int, range] = {}  # by shard, the places of its examples that are wanted
        first = targets = 0
        for number, size in zip(manifest.numbers_of(split), sizes, strict=True):
            if places := range(max(wanted.start - first, 0), min(wanted.stop - first, size.examples)):
                inside[number] = places
                targets += size.targets
            first += size.examples
        scores = _joined(self.members, (self._shard(*one) for one in inside.items()), targets) if inside else None
        if scores is None or not scores.example_ids:
            raise ColllmError(
                f"{self.path}: {first} examples of {split} are too few for {part.count} workers, or all of a worker's "
                "failed; lower training.workers, or use more data"
            )
        return scores

    def _shard(self, number: int, inside: range) -> _Piece:
        """Some of a shard's examples, by their place in it."""
        names = ["example_id", "domain", "target_mask"]
        examples = self._table("examples", "examples", number, EXAMPLES, names)
        scores = {name: self._table(name, name, number, SCORES) for name in self.members}
        features = self._table("features", "base", number, FEATURES)
        for name, table in [*scores.items(), ("features", features)]:
            if table["example_id"] != examples["example_id"]:
                raise ColllmError(
                    f"{self.path / name / shard_name(number)}: its example ids are not those of the examples; "
                    "delete it and score again"
                )
        keep = np.zeros(len(examples), bool)
        keep[inside.start : inside.stop] = True
        for table in scores.values():
            keep &= pc.is_null(table["error"]).to_numpy()
        chosen = pa.array(keep)
        examples, features = examples.filter(chosen), features.filter(chosen)
        counts = np.array([sum(mask) for mask in examples["target_mask"].to_pylist()], int)  # targets of each example
        columns = {name: table.filter(chosen) for name, table in scores.items()}
        for name, table in columns.items():
            for column in ("gold_logprob", "top1"):
                if pc.list_value_length(table[column]).to_pylist() != counts.tolist():
                    raise ColllmError(
                        f"{self.path / name / shard_name(number)}: has not one {column} for each target token; "
                        "delete it and score again"
                    )
        flat = flat_column(features["features"])
        return _Piece(
            ids=examples["example_id"].to_pylist(),
            domains=examples["domain"].to_pylist(),
            counts=counts,
            gold_logprob=np.stack([flat_column(table["gold_logprob"]) for table in columns.values()], axis=1),
            top1=np.stack([flat_column(table["top1"]) for table in columns.values()], axis=1),
            features=flat.reshape(counts.sum(), -1) if len(flat) else None,
        )

    def _table(
        self, name: str, maker: str, number: int, schema: pa.Schema, columns: Sequence[str] | None = None
    ) -> pa.Table:
        return read_shard(self.path / name / shard_name(number), schema, self.made_from[maker], columns)


@dataclass(frozen=True)
class _Piece:
    """What a shard adds to Scores; `features` is None where no example is left of it."""

    ids: list[str]
    domains: list[str | None]
    counts: np.ndarray
    gold_logprob: np.ndarray
    top1: np.ndarray
    features: np.ndarray | None


def failed_in_shard(path: UPath, made_from: Provenance) -> list[FailedRow]:
    """The rows of a member's shard that it could not score."""
    table = read_shard(path, SCORES, made_from, ["example_id", "error"])
    failed = table.filter(pc.is_valid(table["error"])).to_pylist()
    return [FailedRow(row["example_id"], row["error"]) for row in failed]


def _joined(members: tuple[str, ...], pieces: Iterator[_Piece], targets: int) -> Scores:
    """All pieces, which have `targets` target tokens at most; features are never held twice."""
    rest, features, end = [], np.empty((0, 0), np.float16), 0
    for piece in pieces:
        if piece.features is not None:
            if not end:
                features = np.empty((targets, piece.features.shape[1]), np.float16)
            begin, end = end, end + len(piece.features)
            features[begin:end] = piece.features
        rest.append(replace(piece, features=None))
    counts = np.concatenate([piece.counts for piece in rest])
    return Scores(
        members=members,
        example_ids=tuple(name for piece in rest for name in piece.ids),
        domains=tuple(domain for piece in rest for domain in piece.domains),
        example=torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
        gold_logprob=torch.from_numpy(np.concatenate([piece.gold_logprob for piece in rest])),
        top1=torch.from_numpy(np.concatenate([piece.top1 for piece in rest])),
        features=torch.from_numpy(features[:end]),
    )
