"""What a model does with its last hidden states: the output layer, and what follows it in its forward pass."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from colllm_ray.errors import ColllmError


class OutputStage:
    """h [N, D] -> logits [N, V], as the model's own forward pass would make them.

    Some models scale or cap their logits behind the output layer. So the forward pass is run as it is, but for the
    layers: in their place stands a module that gives what they gave once, and the output layer is handed h. Not safe
    for threads: nobody else may run the model meanwhile.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._layers = getattr(model, model.base_model_prefix, None)
        if self._layers is None or self._layers is model:
            raise ColllmError(f"{model.name_or_path}: {type(model).__name__} has no layers apart from its output layer")
        self._one_token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        given: list[object] = []
        with self._layers.register_forward_hook(lambda _layers, _inputs, output: given.append(output)):
            model(input_ids=self._one_token, use_cache=False)
        self._given = _Given(given[0])

    def __call__(self, hidden: Tensor) -> Tensor:
        output_layer = self._model.get_output_embeddings()
        setattr(self._model, self._model.base_model_prefix, self._given)
        try:
            with output_layer.register_forward_pre_hook(lambda _layer, _inputs: (hidden[None],)):
                logits: Tensor = self._model(input_ids=self._one_token, use_cache=False).logits
        finally:
            setattr(self._model, self._model.base_model_prefix, self._layers)
        return logits[0]


class _Given(nn.Module):
    """Answers every call with the same output."""

    def __init__(self, output: object) -> None:
        super().__init__()
        self._output = output

    def forward(self, *_arguments: object, **_named: object) -> object:
        return copy.copy(self._output)
