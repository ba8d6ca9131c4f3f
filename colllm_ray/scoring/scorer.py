"""One model scoring shards of examples: what a Ray Data actor runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from colllm_ray.config import ModelConfig
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.scoring.provenance import Provenance
from colllm_ray.scoring.shards import EXAMPLES, FEATURES, SCORES, read_shard, shard_path, write_shard


@dataclass(frozen=True)
class ScoringTask:
    """One member's part of a scoring run."""

    member: str
    config: ModelConfig
    vocab_size: int
    batch_size: int
    scores: Path  # the folder that holds one folder a table
    made_from: Provenance
    examples_made_from: Provenance

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that this member fills; the base's also hold its hidden states."""
        return ("features", "base") if self.member == "base" else (self.member,)


class Scorer:
    """Loads the task's model once and scores shard after shard."""

    def __init__(self, task: ScoringTask) -> None:
        self._task = task
        self._model = LanguageModel.load(task.config, task.vocab_size)

    def __call__(self, row: dict[str, int]) -> dict[str, int]:
        """Scores the shard `row["shard"]` and writes it; gives back its number and its rows."""
        index, task = int(row["shard"]), self._task
        examples = read_shard(shard_path(task.scores / "examples", index), EXAMPLES, task.examples_made_from)
        ids = examples["example_id"].to_pylist()
        logprobs: list[object] = []
        top1: list[object] = []
        features: list[object] = []
        for start in range(0, len(ids), task.batch_size):
            batch = examples.slice(start, task.batch_size)
            for scored in self._score(batch["input_ids"].to_pylist(), batch["target_mask"].to_pylist()):
                logprobs.append(scored[0].cpu().numpy())
                top1.append(scored[1].cpu().numpy())
                features.append(scored[2].half().flatten().cpu().numpy())
        if "features" in task.tables:
            columns = {"example_id": ids, "features": features}
            write_shard(shard_path(task.scores / "features", index), columns, FEATURES, task.made_from)
        columns = {"example_id": ids, "gold_logprob": logprobs, "top1": top1}
        write_shard(shard_path(task.scores / task.member, index), columns, SCORES, task.made_from)
        return {"shard": index, "rows": len(ids)}

    def _score(self, input_ids: list[list[int]], target_masks: list[list[bool]]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each example: log-probs of its targets [n], top-1 marks [n], hidden states that precede them [n, D]."""
        size = (len(input_ids), max(map(len, input_ids)))
        ids = torch.zeros(size, dtype=torch.long)  # [B, T]
        attention = torch.zeros(size, dtype=torch.long)
        wanted = torch.zeros(size, dtype=torch.bool)  # position t - 1 answers for target t
        for b, (tokens, mask) in enumerate(zip(input_ids, target_masks, strict=True)):
            ids[b, : len(tokens)] = torch.tensor(tokens)
            attention[b, : len(tokens)] = 1
            wanted[b, : len(tokens) - 1] = torch.tensor(mask[1:])
        device = self._model.device
        logits, hidden = self._model.forward(
            ids.to(device), wanted.flatten().nonzero()[:, 0].to(device), attention_mask=attention.to(device)
        )
        gold = ids.roll(-1, dims=1)[wanted].to(device)  # [N]
        logprobs = logits.gather(1, gold[:, None])[:, 0] - logits.logsumexp(1)
        top1 = logits.argmax(1) == gold
        counts = wanted.sum(1).tolist()
        return list(zip(logprobs.split(counts), top1.split(counts), hidden.split(counts), strict=True))
