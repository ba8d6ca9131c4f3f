"""RUN/scores as a whole: what it must be made from, what failed in it, and its tables joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

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
from colllm_ray.scoring.scores import WHOLE, FeatureScores, Part, TextScores
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
class FailedScore:
    """A row that training leaves out; `table` is the member that could not score it, or "examples"."""

    example_id: str
    table: str
    reason: str

    def __str__(self) -> str:
        return f"{self.example_id} ({self.table}): {self.reason}"


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

    def read(self, split: str, part: Part = WHOLE) -> FeatureScores:
        """The split's scores and features, all members joined by example id; rows that failed are left out.

        Of `part`, only the shards that it lies in are read. Raises ColllmError where a table is missing, corrupt, of
        another origin, or does not fit the examples.
        """
        inside = self._places(split, part)
        sizes = self.manifest().shards
        room = sum(sizes[number].targets for number in inside)  # features are large: they are put where they stay
        shards, features, end = [], np.empty((0, 0), np.float16), 0
        for shard in self._shards(inside):
            table = self._table("features", "base", shard.number, FEATURES)
            self._check_ids("features", table, shard)
            shards.append(shard)
            if targets := int(shard.counts.sum()):
                new = flat_column(table.filter(shard.chosen)["features"]).reshape(targets, -1)
                if not end:
                    features = np.empty((room, new.shape[1]), np.float16)
                begin, end = end, end + targets
                features[begin:end] = new
        return FeatureScores(**self._joined(split, part, shards), features=torch.from_numpy(features[:end]))

    def read_texts(self, split: str, part: Part = WHOLE) -> TextScores:
        """The split's scores and texts, as `read` has them with features."""
        shards = list(self._shards(self._places(split, part)))
        joined = self._joined(split, part, shards)
        examples = [
            self._table("examples", "examples", shard.number, EXAMPLES, ["input_ids", "target_mask"]).filter(
                shard.chosen
            )
            for shard in shards
        ]
        texts = pa.concat_tables(examples)
        counts = np.concatenate([shard.counts for shard in shards])
        return TextScores(
            **joined,
            input_ids=torch.from_numpy(flat_column(texts["input_ids"])),
            is_target=torch.from_numpy(flat_column(texts["target_mask"])),
            text_ends=_ends(pc.list_value_length(texts["input_ids"]).to_numpy()),
            target_ends=_ends(counts),
        )

    def _places(self, split: str, part: Part) -> dict[int, range]:
        """By shard, the places of the part's examples in it."""
        manifest = self.manifest()
        sizes = manifest.splits[split]
        wanted = part.of(sum(size.examples for size in sizes))
        inside, first = {}, 0
        for number, size in zip(manifest.numbers_of(split), sizes, strict=True):
            if places := range(max(wanted.start - first, 0), min(wanted.stop - first, size.examples)):
                inside[number] = places
            first += size.examples
        return inside

    def _shards(self, inside: Mapping[int, range]) -> Iterator[_Shard]:
        for number, places in inside.items():
            yield self._shard(number, places)

    def _shard(self, number: int, places: range) -> _Shard:
        """Some of a shard's examples, by their place in it."""
        examples = self._table("examples", "examples", number, EXAMPLES, ["example_id", "domain", "target_mask"])
        scores = {name: self._table(name, name, number, SCORES) for name in self.members}
        keep = np.zeros(len(examples), bool)
        keep[places.start : places.stop] = True
        for table in scores.values():
            if len(table) == len(examples):  # else it is refused below
                keep &= pc.is_null(table["error"]).to_numpy()
        shard = _Shard(number, examples, pa.array(keep), scores)
        for name, table in scores.items():
            self._check_ids(name, table, shard)
            for column in ("gold_logprob", "top1"):
                if pc.list_value_length(table.filter(shard.chosen)[column]).to_pylist() != shard.counts.tolist():
                    raise ColllmError(
                        f"{self.path / name / shard_name(number)}: has not one {column} for each target token; "
                        "delete it and score again"
                    )
        return shard

    def _check_ids(self, name: str, table: pa.Table, shard: _Shard) -> None:
        if table["example_id"] != shard.examples["example_id"]:
            raise ColllmError(
                f"{self.path / name / shard_name(shard.number)}: its example ids are not those of the examples; "
                "delete it and score again"
            )

    def _table(
        self, name: str, maker: str, number: int, schema: pa.Schema, columns: Sequence[str] | None = None
    ) -> pa.Table:
        return read_shard(self.path / name / shard_name(number), schema, self.made_from[maker], columns)

    def _joined(self, split: str, part: Part, shards: Sequence[_Shard]) -> dict[str, Any]:
        """The fields of Scores. Raises ColllmError where there are no examples."""
        ids = tuple(name for shard in shards for name in shard.column("example_id"))
        if not ids:
            raise ColllmError(
                f"{self.path}: the examples of {split} are too few for {part.count} workers, or all of a worker's "
                "failed; lower training.workers, or use more data"
            )
        counts = np.concatenate([shard.counts for shard in shards])
        return {
            "members": self.members,
            "example_ids": ids,
            "domains": tuple(domain for shard in shards for domain in shard.column("domain")),
            "example": torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
            "gold_logprob": torch.from_numpy(np.concatenate([shard.by_member("gold_logprob") for shard in shards])),
            "top1": torch.from_numpy(np.concatenate([shard.by_member("top1") for shard in shards])),
        }


@dataclass(frozen=True)
class _Shard:
    """A shard's examples, which of them are chosen, and every member's scores of them."""

    number: int
    examples: pa.Table
    chosen: pa.BooleanArray
    scores: Mapping[str, pa.Table]

    def column(self, name: str) -> list[Any]:
        """What the chosen examples have there."""
        return list(self.examples[name].filter(self.chosen).to_pylist())

    @cached_property
    def counts(self) -> np.ndarray:
        """How many targets each chosen example has."""
        return np.array([sum(mask) for mask in self.column("target_mask")], int)

    def by_member(self, name: str) -> np.ndarray:
        """A column of scores [N, K]."""
        return np.stack([flat_column(table.filter(self.chosen)[name]) for table in self.scores.values()], axis=1)


def _ends(lengths: np.ndarray) -> Tensor:
    """0 and the ends of what has these lengths, one after the other."""
    return torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))


def failed_in_shard(path: UPath, made_from: Provenance) -> list[FailedRow]:
    """The rows of a member's shard that it could not score."""
    table = read_shard(path, SCORES, made_from, ["example_id", "error"])
    failed = table.filter(pc.is_valid(table["error"])).to_pylist()
    return [FailedRow(row["example_id"], row["error"]) for row in failed]
