"""Linear layers for steps of a few tokens on a CPU, where the time goes into reading the weights.

torch hands float32 matrices to MKL, which arranges the weights anew at every call of more than one row. oneDNN, which
torch carries too, takes weights that are arranged once, and reads them at the speed of the memory: up to six rows cost
what one costs (benchmarks/linear.py). torch's own compiler uses the same two operations. Which way is faster for how
many rows depends on the processor: `kernel_choice` measures it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from colllm_ray.engine.kernel_choice import ROWS, KernelChoice, measured

# On x86; ARM's kernels are others, and were not measured.
SUPPORTED = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")
MIN_WEIGHTS = 2**17  # smaller layers stay in the cache, and the call itself is what they cost
FEW_ROWS = 8  # what the weights are arranged for; more rows work as well
OUT_OF_CACHE = 2**24  # weights, 64 MiB: so many are read from one use of a layer to the next, if the model has them


class BlockedLinear(nn.Module):
    """A linear layer of float32 weights in oneDNN's own order; inference only.

    Where torch's own way is faster for some numbers of rows, it holds the weights in their own order as well.
    """

    def __init__(self, layer: nn.Linear, choice: KernelChoice = KernelChoice()) -> None:  # noqa: B008 (it is frozen)
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight = reordered(layer.weight)
        self.bias = layer.bias
        self._choice = choice
        self._plain = layer.weight.detach() if choice.plain else None

    def forward(self, x: Tensor) -> Tensor:
        """x [.., D_in] -> [.., D_out]."""
        rows = x.flatten(0, -2)
        count = len(rows)
        if self._plain is not None and self._choice.is_plain(count):
            return linear(x, self._plain, self.bias)
        if (wanted := self._choice.padded(count)) > count:
            rows = pad(rows, (0, 0, 0, wanted - count))
        return blocked_linear(rows, self.weight, self.bias)[:count].view(*x.shape[:-1], self.out_features)


def reordered(weight: Tensor) -> Tensor:
    """The weights [D_out, D_in] in oneDNN's order."""
    arranged: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), FEW_ROWS)
    return arranged


def blocked_linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """rows [N, D_in], reordered weight -> [N, D_out]."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return y


def block_linear_layers(model: nn.Module) -> None:
    """Puts a BlockedLinear in the place of each linear layer of the model that gains by it on this processor.

    Where an embedding shares the weights of the output layer, it keeps them, and memory holds both.
    """
    if not SUPPORTED:
        return
    by_shape: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and _may_gain(layer):
            by_shape[layer.out_features, layer.in_features].append(name)
    weights = sum(weight.numel() for weight in model.parameters())
    for names in by_shape.values():
        choice = measured_choice([_linear(model, name) for name in names], weights)
        for name in names if not choice.is_all_plain else ():  # names: each layer frees its weights
            model.set_submodule(name, BlockedLinear(_linear(model, name), choice))


@torch.inference_mode()
def measured_choice(layers: Sequence[nn.Linear], weights: int) -> KernelChoice:
    """What is fastest for layers of one shape, in a model of so many weights, as far as this process can tell now."""
    size = layers[0].weight.numel()
    some = layers[: 1 + OUT_OF_CACHE // size]
    others = torch.ones(max(0, min(weights, OUT_OF_CACHE) - len(some) * size))
    both = [(layer.weight, reordered(layer.weight)) for layer in some]
    rows = {count: torch.randn(count, layers[0].in_features) for count in ROWS}

    def plain(count: int) -> None:
        for weight, _ in both:
            linear(rows[count], weight)

    def blocked(count: int, to: int) -> None:
        for _, weight in both:
            blocked_linear(pad(rows[count], (0, 0, 0, to - count)), weight, None)

    return measured(plain, blocked, between=others.sum)


def _linear(model: nn.Module, name: str) -> nn.Linear:
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear), "no other layer gains"
    return layer


def _may_gain(layer: nn.Linear) -> bool:
    return (
        type(layer) is nn.Linear
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
        and layer.weight.numel() >= MIN_WEIGHTS
    )
