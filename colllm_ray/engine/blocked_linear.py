"""Linear layers for steps of a few tokens on a CPU, where the time goes into reading the weights.

torch hands float32 matrices to MKL, which arranges the weights anew at every call of more than one row. oneDNN, which
torch carries too, takes weights that are arranged once, and reads them at the speed of the memory: up to six rows cost
what one costs (benchmarks/linear.py). torch's own compiler uses the same two operations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

# On x86; ARM's kernels are others, and were not measured.
SUPPORTED = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")
MIN_WEIGHTS = 2**17  # smaller layers stay in the cache, and the call itself is what they cost
FEW_ROWS = 8  # what the weights are arranged for; more rows work as well
MIN_ROWS = 4  # fewer rows are slower, so that they are padded to this


class BlockedLinear(nn.Module):
    """A linear layer of float32 weights in oneDNN's own order; inference only."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), FEW_ROWS)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """x [.., D_in] -> [.., D_out]."""
        rows = x.flatten(0, -2)
        count = len(rows)
        if 0 < count < MIN_ROWS:
            rows = pad(rows, (0, 0, 0, MIN_ROWS - count))
        y: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "")
        return y[:count].view(*x.shape[:-1], self.out_features)


def block_linear_layers(model: nn.Module) -> None:
    """Puts a BlockedLinear in the place of each linear layer of the model that gains by it.

    Where an embedding shares the weights of the output layer, it keeps them, and memory holds both.
    """
    if not SUPPORTED:
        return
    for name in [name for name, layer in model.named_modules() if _gains(layer)]:  # names: each layer frees its weights
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear), "no other layer gains"
        model.set_submodule(name, BlockedLinear(layer))


def _gains(layer: nn.Module) -> bool:
    return (
        type(layer) is nn.Linear
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
        and layer.weight.numel() >= MIN_WEIGHTS
    )
