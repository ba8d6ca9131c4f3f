"""How well a model expects the target tokens of given texts: what scoring keeps of a language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import DynamicCache

from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.output_stage import OutputStage
from colllm_ray.engine.text import NOT_FINITE, Text, batches_by_length, padded

# Of the logits that exist at once, in float32 (what is made of them takes as much again). What fits into a CPU's cache
# is half as dear.
LOGITS_BYTES = {"cpu": 2**24, "cuda": 2**28}


TOO_LONG = "is too long for the GPU's memory; lower this model's `batch_tokens`, or the collaboration's `context`"


@dataclass(frozen=True)
class TargetScores:
    """Of one text's n targets, on the CPU.

    gold_logprob [n] float32, natural logs; top1 [n] bool: whether the target is the likeliest token; hidden [n, D]:
    what the output layer was given for them, None where a served model does not tell.
    """

    gold_logprob: Tensor
    top1: Tensor
    hidden: Tensor | None


class TargetScorer:
    """Scores texts with one model, in batches under a budget of tokens; the model cannot be trained any more."""

    def __init__(self, model: LanguageModel, batch_tokens: int) -> None:
        model.block_linear_layers()
        self._model = model
        self._batch_tokens = batch_tokens
        with torch.inference_mode():
            self._output = OutputStage(model.model)

    def score(self, texts: Sequence[Text], tell: Callable[[int], None] = lambda _: None) -> list[TargetScores | str]:
        """One entry a text; for one that cannot be scored, the reason. `tell` hears of tokens as they are scored."""
        scored: list[TargetScores | str] = [""] * len(texts)
        for batch in batches_by_length([len(text.input_ids) for text in texts], self._batch_tokens):
            for i, result in zip(batch, self._score_what_fits([texts[i] for i in batch]), strict=True):
                scored[i] = result
            tell(sum(len(texts[i].input_ids) for i in batch))
        return scored

    def _score_what_fits(self, texts: Sequence[Text]) -> list[TargetScores | str]:
        """Halves a batch that is too much for the memory."""
        try:
            return list(self._score(texts))
        except torch.OutOfMemoryError:
            if len(texts) == 1:
                return [TOO_LONG]
        torch.cuda.empty_cache()
        half = len(texts) // 2
        return self._score_what_fits(texts[:half]) + self._score_what_fits(texts[half:])

    @torch.inference_mode()
    def _score(self, texts: Sequence[Text]) -> Iterator[TargetScores | str]:
        ids, wanted = padded(texts)
        gold = ids.roll(-1, dims=1)[wanted]  # [N]
        hidden = self._hidden(ids, wanted)  # [N, D]
        logprobs, top1 = self._gold_scores(hidden, gold.to(hidden.device))
        counts = wanted.sum(1).tolist()
        parts = (part.cpu().split(counts) for part in (logprobs, top1, hidden))
        for logprob, first, h in zip(*parts, strict=True):
            yield TargetScores(logprob, first, h) if logprob.isfinite().all() else NOT_FINITE

    def _hidden(self, ids: Tensor, wanted: Tensor) -> Tensor:
        """The hidden states [N, D] at the wanted positions of ids [B, T]; a long text goes through a KV cache."""
        ids, wanted = ids.to(self._model.device), wanted.to(self._model.device)
        length = ids.shape[1]
        if length <= self._batch_tokens:
            return self._model.hidden(ids, wanted.flatten().nonzero()[:, 0], use_cache=False)
        assert len(ids) == 1, "what is over the budget is alone in its batch"
        cache = DynamicCache(config=self._model.model.config)
        parts = []
        for start in range(0, length, self._batch_tokens):
            part = slice(start, start + self._batch_tokens)
            at = wanted[0, part].nonzero()[:, 0]
            parts.append(self._model.hidden(ids[:, part], at, past_key_values=cache, use_cache=True))
        return torch.cat(parts)

    def _gold_scores(self, hidden: Tensor, gold: Tensor) -> tuple[Tensor, Tensor]:
        """h [N, D], x [N] -> log P(x) [N], whether x is the likeliest [N]."""
        logprobs, top1 = [], []
        rows = max(1, LOGITS_BYTES[hidden.device.type] // (4 * self._model.vocab_size))
        for h, x in zip(hidden.split(rows), gold.split(rows), strict=True):
            raw = self._output(h)[:, : self._model.vocab_size]
            logits = raw.float()
            logprobs.append(-cross_entropy(logits, x, reduction="none"))
            first = logits.gather(1, x[:, None])[:, 0] == logits.amax(1)
            if raw.dtype != torch.float32:  # coarse enough for ties, of which decoding writes the first: a dearer look
                first &= logits.argmax(1) == x
            top1.append(first)
        return torch.cat(logprobs), torch.cat(top1)
