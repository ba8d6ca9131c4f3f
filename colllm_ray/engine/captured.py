"""Forward passes in a few static shapes, so that a GPU captures each once and then replays it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from colllm_ray.engine.attention import Run, Step
from colllm_ray.engine.kv_cache import KVCache, Row
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.packed import PackedForward, from_host

logger = logging.getLogger(__name__)

LONGEST_ROW = 64  # tokens of a text in one step; prompts are longer
MOST_TOKENS = 256  # in one step, padding included; beyond about that a pass is bound by arithmetic, not by launches
SHORTEST_CONTEXT = 128  # tokens; the contexts are this, twice this, ..
MOST_PASSES = 128  # kept; the least recently used one makes room

# Operations that need the host in the middle of a pass, which a replay would leave out.
HOST_WORK = frozenset(
    {
        "aten.is_nonzero.default",  # a number is read from the device: `if tensor > 0`
        "aten.item.default",
        "aten._local_scalar_dense.default",
        "aten.nonzero.default",  # a shape is read
        "aten.lift_fresh.default",  # numbers are sent to the device: `torch.tensor(..)`
        "transformers.grouped_mm_fallback.default",  # mixtures of experts where torch has no kernel: sizes are read
    }
)


@dataclass(frozen=True)
class Shape:
    """Rows of `tokens` tokens each, keys up to index `context`, answers at `wanted` positions."""

    rows: int
    tokens: int
    context: int
    wanted: int

    @classmethod
    def of(cls, rows: Sequence[Row], wants: Sequence[int], longest: int) -> Shape | None:
        """The smallest that holds them; None for a step that is too large for one. `longest`: tokens of a slot."""
        count = _power_of_two(len(rows))
        tokens = _power_of_two(max(len(row.tokens) for row in rows))
        if tokens > LONGEST_ROW or count * tokens > MOST_TOKENS:
            return None
        context = max(SHORTEST_CONTEXT, _power_of_two(max(row.end for row in rows)))
        wanted = count if sum(wants) <= count else count * tokens
        return cls(count, tokens, min(context, longest), wanted)


class CapturedForward:
    """Steps are padded to a `Shape`. A GPU replays a shape from its second step on; a CPU runs it as it is.

    Steps that no shape holds, and all steps of a model that cannot be captured, run as `PackedForward`. `captures` says
    whether the model can be.
    """

    def __init__(self, model: LanguageModel, cache: KVCache) -> None:
        self._model = model
        self._cache = cache
        self._packed = PackedForward(model, cache)
        self._passes: dict[Shape, _Pass] = {}
        # What the passes leave, one after the other: memory of its own for each shape would add up to gigabytes.
        self._logits = torch.empty(MOST_TOKENS, model.vocab_size, device=cache.device)
        self._hidden = torch.empty(MOST_TOKENS, model.hidden_size, device=cache.device, dtype=model.model.dtype)
        self._pool = torch.cuda.graph_pool_handle() if cache.device.type == "cuda" else None
        host_work = self._host_work()
        self.captures = not host_work
        if host_work:
            logger.warning("%s: its steps are not captured, for they need the host: %s", model.name, host_work)

    def __call__(self, rows: Sequence[Row], wants: Sequence[int]) -> tuple[Tensor, Tensor]:
        """As `PackedForward`; what comes back holds until the next call."""
        shape = Shape.of(rows, wants, self._cache.length) if self.captures else None
        if shape is None:
            return self._packed(rows, wants)
        self._run(shape, from_host(_padded(rows, wants, shape, self._cache.spare), self._cache.device))
        return self._logits[: sum(wants)], self._hidden[: sum(wants)]

    def _run(self, shape: Shape, numbers: Tensor) -> None:
        """Replays the shape's pass, or runs it and then captures it."""
        one = self._passes.pop(shape, None) or _Pass(torch.empty_like(numbers, device=self._cache.device))
        self._passes[shape] = one
        one.numbers.copy_(numbers, non_blocking=True)
        if one.graph is not None:
            one.graph.replay()
            return
        self._forward(shape, one.numbers)
        if self._cache.device.type == "cuda":
            try:
                one.graph = self._capture(shape, one.numbers)
            except RuntimeError as error:
                self.captures = False
                self._passes.clear()
                logger.warning("%s: its steps are not captured from now on: %s", self._model.name, error)
        if len(self._passes) > MOST_PASSES:
            del self._passes[next(iter(self._passes))]

    def _capture(self, shape: Shape, numbers: Tensor) -> torch.cuda.CUDAGraph:
        """What the pass launches; nothing of it runs now. It has run before, so that all libraries are set up."""
        stream = torch.cuda.current_stream()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                self._forward(shape, numbers)
        finally:
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own behind
        return graph

    def _host_work(self) -> list[str]:
        """What of HOST_WORK a step does."""
        row = Row(self._cache.spare, 0, (0,))
        shape = Shape.of([row], [1], self._cache.length)
        assert shape is not None, "a single token has a shape"
        padded = _padded([row], [1], shape, self._cache.spare)
        numbers = torch.tensor(padded, device=self._cache.device)
        self._forward(shape, numbers)  # the first step takes the cache's memory
        with _Seen() as seen:
            self._forward(shape, numbers)
        return sorted(HOST_WORK & {str(operation) for operation in seen.operations})

    def _forward(self, shape: Shape, numbers: Tensor) -> None:
        """`numbers` as `_padded` lays them out, on the device."""
        n = shape.rows * shape.tokens
        input_ids, positions, slots, row_slots, wanted = numbers.split([n, n, n, shape.rows, shape.wanted])
        run = Run(row_slots, slice(0, n), positions.view(shape.rows, shape.tokens), shape.context, all_seen=False)
        step = Step(self._cache, input_ids[None], positions[None], slots, [run])
        logits, hidden = self._model.forward(step.input_ids, wanted, position_ids=step.positions, step=step)
        self._logits[: shape.wanted].copy_(logits)
        self._hidden[: shape.wanted].copy_(hidden)


@dataclass
class _Pass:
    """A shape's numbers, in the place from which its graph reads them, and the graph; a CPU has none."""

    numbers: Tensor
    graph: torch.cuda.CUDAGraph | None = None


def _padded(rows: Sequence[Row], wants: Sequence[int], shape: Shape, spare: int) -> list[int]:
    """Tokens, positions and slots of all rows, each row's slot, and which tokens are wanted.

    What pads a row repeats its last position, so that it sees keys as the others do, and is stored in the spare slot.
    """
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    row_slots: list[int] = []
    wanted: list[int] = []
    for number, (row, want) in enumerate(zip(rows, wants, strict=True)):
        new, padding = len(row.tokens), shape.tokens - len(row.tokens)
        tokens += [*row.tokens, *[0] * padding]
        positions += [*range(row.start, row.end), *[row.end - 1] * padding]
        slots += [row.slot] * new + [spare] * padding
        row_slots.append(row.slot)
        end = number * shape.tokens + new
        wanted += range(end - want, end)
    more = shape.rows - len(rows)
    for numbers, filler, count in (
        (tokens, 0, more * shape.tokens),
        (positions, 0, more * shape.tokens),
        (slots, spare, more * shape.tokens),
        (row_slots, spare, more),
        (wanted, 0, shape.wanted - len(wanted)),
    ):
        numbers += [filler] * count
    return tokens + positions + slots + row_slots + wanted


class _Seen(TorchDispatchMode):
    """Notes which operations run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: set[object] = set()

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.operations.add(func)
        return func(*args, **(kwargs or {}))


def _power_of_two(n: int) -> int:
    """The smallest that is not below n."""
    return 1 << (n - 1).bit_length()
