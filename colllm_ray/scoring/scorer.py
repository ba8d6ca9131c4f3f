"""One model scoring shards of examples: what a Ray Data actor runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
from ray.util.metrics import Counter
from torch import Tensor
from upath import UPath

from colllm_ray.config import ModelConfig
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.target_scores import TargetScorer, TargetScores
from colllm_ray.engine.text import Text
from colllm_ray.engine.weights import weights_revision
from colllm_ray.errors import ColllmError
from colllm_ray.scoring.provenance import Provenance
from colllm_ray.scoring.served import Origin, ServedMember, ServedScorer, served_member
from colllm_ray.scoring.shards import EXAMPLES, FEATURES, SCORES, list_column, read_shard, shard_name, write_shard
from colllm_ray.scoring.tally import Begun, ShardProgress, Tally

if TYPE_CHECKING:
    from ray.actor import ActorProxy


@dataclass(frozen=True)
class ScoringTask:
    """One member's part of a scoring run."""

    member: str
    config: ModelConfig
    vocab_size: int
    batch_tokens: int
    scores: UPath  # the folder that holds one folder a table
    made_from: Provenance
    examples_made_from: Provenance
    from_serve: str | None = None  # URL or name of an application that runs it; None loads the model

    @property
    def tables(self) -> dict[str, pa.Schema]:
        """The tables that this member fills; the base's also hold its hidden states. Its scores come last."""
        features = {"features": FEATURES} if self.member == "base" else {}
        return {**features, self.member: SCORES}


class Scorer:
    """Loads the task's model once and scores shard after shard."""

    def __init__(self, task: ScoringTask, tally: ActorProxy[Tally]) -> None:
        self._task, self._tally = task, tally
        self._texts: TargetScorer | ServedScorer
        if task.from_serve is None:
            model = LanguageModel.load(task.config, task.vocab_size)
            if weights_revision(task.config) != task.made_from.revision:
                raise ColllmError(f"{task.config.model}: its weights changed while it was to score; score again")
            self._texts = TargetScorer(model, task.batch_tokens)
        else:
            self._texts = ServedScorer(served_by(task, task.from_serve), task.batch_tokens)
        self._tokens = Counter("colllm_scored_tokens", "Tokens of scored examples.", ("member",))

    def __call__(self, row: dict[str, int]) -> dict[str, object]:
        """Scores the shard `row["shard"]` and writes it; says which it was."""
        index, task = int(row["shard"]), self._task
        examples = read_shard(task.scores / "examples" / shard_name(index), EXAMPLES, task.examples_made_from)
        texts = [
            Text(ids, mask)
            for ids, mask in zip(examples["input_ids"].to_pylist(), examples["target_mask"].to_pylist(), strict=True)
        ]
        progress = ShardProgress(self._tally, Begun(task.member, index))
        results = [self._checked(result) for result in self._texts.score(texts, progress.add)]
        self._write(index, examples["example_id"].to_pylist(), results)
        progress.done()
        self._tokens.inc(sum(len(text.input_ids) for text in texts), {"member": task.member})
        return {"member": task.member, "shard": index}

    def _checked(self, result: TargetScores | str) -> TargetScores | str:
        """The scores, with hidden states in float16 where they are kept; or what is wrong with them."""
        if isinstance(result, str):
            return result
        if "features" not in self._task.tables or result.hidden is None:
            return replace(result, hidden=None)
        features = result.hidden.half()
        if not features.isfinite().all():
            return "has hidden states that are not finite in float16"
        return replace(result, hidden=features)

    def _write(self, index: int, ids: list[str], results: Sequence[TargetScores | str]) -> None:
        task = self._task
        scored = [None if isinstance(result, str) else result for result in results]
        columns: dict[str, dict[str, object]] = {
            task.member: {
                "example_id": ids,
                "gold_logprob": _lists(SCORES, "gold_logprob", [one.gold_logprob if one else None for one in scored]),
                "top1": _lists(SCORES, "top1", [one.top1 if one else None for one in scored]),
                "error": [result if isinstance(result, str) else None for result in results],
            }
        }
        if "features" in task.tables:
            hidden = [one.hidden.flatten() if one and one.hidden is not None else None for one in scored]
            columns["features"] = {"example_id": ids, "features": _lists(FEATURES, "features", hidden)}
        for table, schema in task.tables.items():
            write_shard(task.scores / table / shard_name(index), columns[table], schema, task.made_from)


def served_by(task: ScoringTask, application: str) -> ServedMember:
    """The task's member of a running application.

    Raises ColllmError where it is not there, or runs with other weights than the configuration names.
    """
    served = served_member(application, task.member)
    origin, wanted = served.origin(), Origin(task.made_from.revision, task.made_from.dtype)
    if origin != wanted:
        raise ColllmError(
            f"{task.member} is served with the weights {origin.revision} in dtype {origin.dtype!r}; the configuration "
            f"names {wanted.revision} in {wanted.dtype!r} ({task.config.model}); use the same"
        )
    return served


def _lists(schema: pa.Schema, column: str, tensors: Sequence[Tensor | None]) -> pa.Array:
    return list_column([None if one is None else one.numpy() for one in tensors], schema.field(column).type)
