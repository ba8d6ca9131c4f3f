"""Forward passes in exactly the shapes that their texts have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from colllm_ray.engine.attention import Run, Step
from colllm_ray.engine.kv_cache import KVCache, Row
from colllm_ray.engine.language_model import LanguageModel


class PackedForward:
    """Nothing is padded, and keys are attended to where they lie: the least work, in as many shapes as there are."""

    def __init__(self, model: LanguageModel, cache: KVCache) -> None:
        self._model = model
        self._cache = cache

    def __call__(self, rows: Sequence[Row], wants: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logits [N, V] and hidden states [N, D] at the last `wants` tokens of each row, in their order.

        `rows` in the order of `in_step_order`.
        """
        device = self._cache.device
        numbers = [
            (token, position, row.slot) for row in rows for position, token in enumerate(row.tokens, start=row.start)
        ]
        input_ids, positions, slots = from_host(numbers, device).to(device, non_blocking=True).t()  # [N] each
        wanted: list[int] = []
        end = 0
        for row, want in zip(rows, wants, strict=True):
            end += len(row.tokens)
            wanted.extend(range(end - want, end))
        step = Step(self._cache, input_ids[None], positions[None], slots, list(_runs(rows, positions)))
        at = from_host(wanted, device).to(device, non_blocking=True)
        return self._model.forward(step.input_ids, at, position_ids=step.positions, step=step)


def in_step_order(row: Row) -> tuple[int, int]:
    """Sorts rows so that those which can share a call of attention are neighbours."""
    return len(row.tokens), row.slot


def from_host(numbers: Sequence[object], device: torch.device) -> Tensor:
    """Integers that can be sent to the device without waiting for what it still does."""
    tensor = torch.tensor(numbers, dtype=torch.long)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _runs(rows: Sequence[Row], positions: Tensor) -> Iterator[Run]:
    """Texts in neighbouring slots that take in one token share a run, the others have one each."""
    first = 0
    for _, group in groupby(enumerate(rows), lambda item: (len(item[1].tokens), item[1].slot - item[0])):
        neighbours = [row for _, row in group]
        t = len(neighbours[0].tokens)
        for run in [neighbours] if t == 1 else [[row] for row in neighbours]:
            tokens = slice(first, first + len(run) * t)
            yield Run(
                slots=slice(run[0].slot, run[0].slot + len(run)),
                tokens=tokens,
                positions=positions[tokens].view(len(run), t),
                length=max(row.end for row in run),
                all_seen=len(run) == t == 1,
            )
            first = tokens.stop
