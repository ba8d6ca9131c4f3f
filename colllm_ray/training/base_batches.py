"""The examples of a step, in the batches that go through the base one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from colllm_ray.engine.text import Text, padded
from colllm_ray.scoring.scores import TextScores


@dataclass(frozen=True)
class MicroBatch:
    """Some examples with N targets: input_ids [B, T], the positions before the targets [N], and the targets [N].

    `targets` are their numbers in the scores, `gold` their tokens. Without examples it is one token with no target, so
    that every worker can run as many passes as the others.
    """

    input_ids: Tensor
    wanted: Tensor
    targets: Tensor
    gold: Tensor


def micro_batch(scores: TextScores, examples: Sequence[int]) -> MicroBatch:
    """The batch of these examples."""
    texts = [scores.text(i) for i in examples] or [Text([0], [False])]
    input_ids, wanted = padded(texts)
    targets = [torch.arange(scores.targets(i).start, scores.targets(i).stop) for i in examples]
    return MicroBatch(
        input_ids=input_ids,
        wanted=wanted.flatten().nonzero()[:, 0],
        targets=torch.cat([torch.empty(0, dtype=torch.long), *targets]),
        gold=input_ids.roll(-1, dims=1)[wanted],
    )


def micro_batches(scores: TextScores, examples: Sequence[int], size: int, count: int) -> Iterator[MicroBatch]:
    """`count` batches of up to `size` examples of similar length; the last may be empty."""
    by_length = sorted(examples, key=lambda i: int(scores.text_ends[i] - scores.text_ends[i + 1]))  # longest first
    assert len(by_length) <= size * count
    for start in range(0, size * count, size):
        yield micro_batch(scores, by_length[start : start + size])


def steps_of_epoch(examples: int, steps: int, seed: int) -> list[list[int]]:
    """A worker's examples in the order of the seed, in equal shares for the steps."""
    order = torch.randperm(examples, generator=torch.Generator().manual_seed(seed))
    return [share.tolist() for share in order.tensor_split(steps)]
