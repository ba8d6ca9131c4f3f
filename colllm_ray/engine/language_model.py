"""A Hugging Face causal language model: loading, and one forward pass that answers at wanted positions."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from colllm_ray.config import ModelConfig
from colllm_ray.engine.adapter import with_adapter
from colllm_ray.engine.attention import ATTENTION
from colllm_ray.engine.blocked_linear import block_linear_layers
from colllm_ray.engine.checkpoint import read_model
from colllm_ray.engine.weights import BY_LENGTH, longest_text
from colllm_ray.errors import ColllmError


class LanguageModel:
    """Weights on a device, and the vocabulary that its log-probs range over.

    `vocab_size` is the tokenizer's highest id and one: where the output layer is padded beyond it, the padding has no
    probability, so that models of one tokenizer but other padding stay comparable.
    """

    def __init__(self, model: PreTrainedModel, vocab_size: int) -> None:
        self._output_layer = model.get_output_embeddings()
        outputs = getattr(self._output_layer, "out_features", None)
        if outputs is None:
            raise ColllmError(f"{model.name_or_path}: {type(model).__name__} has no linear output layer, as members do")
        if outputs < vocab_size:
            raise ColllmError(f"{model.name_or_path}: has {outputs} output tokens, its tokenizer {vocab_size}")
        self.model = model.eval()
        self.vocab_size = vocab_size
        self.device = model.device

    @classmethod
    def load(cls, config: ModelConfig, vocab_size: int) -> LanguageModel:
        """Loads from safetensors, onto the GPU where the config reserves one, layer by layer over several.

        Raises ColllmError where the folder or hub id cannot be loaded whole.
        """
        model = read_model(config)
        if config.adapter is not None:
            model = with_adapter(model, config.adapter)
        if {"cpu", "disk"} & set(map(str, getattr(model, "hf_device_map", {}).values())):
            raise ColllmError(f"{config.model}: has no room on {config.num_gpus:g} GPUs; give it more")
        return cls(model if config.num_gpus > 1 else model.to(config.device), vocab_size)

    def prepare_for_steps(self, context: int) -> None:
        """From now on the model runs on a `Step` of an engine's cache only, over texts of up to `context` tokens.

        It cannot be trained any more. Raises ColllmError where its attention cannot be replaced.
        """
        self._attend_to_slots(context)
        self.block_linear_layers()

    def block_linear_layers(self) -> None:
        """Makes forward passes on a CPU faster; the model cannot be trained any more."""
        block_linear_layers(self.model)
        self._output_layer = self.model.get_output_embeddings()  # it may be another now

    def _attend_to_slots(self, context: int) -> None:
        try:
            self.model.set_attn_implementation(ATTENTION)
        except ValueError as error:
            raise ColllmError(f"{self.name}: cannot be served: {error}") from error
        if self.model.config._attn_implementation != ATTENTION:
            raise ColllmError(
                f"{self.name}: {type(self.model).__name__} does not use transformers' attention "
                "interface, so that it cannot be served"
            )
        rope, longest = getattr(self.model.config, "rope_parameters", None) or {}, longest_text(self.model.config)
        if rope.get("rope_type") in BY_LENGTH and longest is not None and context > longest:
            raise ColllmError(
                f"{self.name}: {rope['rope_type']} RoPE turns all texts of a step as its longest one asks for, which "
                f"would mix texts of up to {longest} tokens with longer ones; lower the collaboration's `context` to "
                f"{longest}"
            )

    @property
    def name(self) -> str:
        """Its folder or hub id."""
        return str(self.model.name_or_path)

    @property
    def hidden_size(self) -> int:
        return int(self._output_layer.in_features)

    @property
    def layers(self) -> int:
        return int(self.model.config.get_text_config().num_hidden_layers)

    @torch.inference_mode()
    def forward(self, input_ids: Tensor, wanted: Tensor, **model_arguments: object) -> tuple[Tensor, Tensor]:
        """Runs the model and answers at the wanted positions.

        input_ids [B, T]; wanted [N] counts through them row by row; `model_arguments` go to the model as they are.
        Returns logits [N, V] in float32 and the output layer's input h [N, D].
        """
        hidden, logits = self._run(input_ids, wanted, wanted, use_cache=False, **model_arguments)
        return logits[:, : self.vocab_size].float(), hidden

    @torch.inference_mode()
    def hidden(self, input_ids: Tensor, wanted: Tensor, **model_arguments: object) -> Tensor:
        """The output layer's input h [N, D] at the wanted positions, as `forward` has it, without the logits."""
        return self._run(input_ids, wanted, wanted[:0], **model_arguments)[0]

    def _run(
        self, input_ids: Tensor, wanted: Tensor, answered: Tensor, **model_arguments: object
    ) -> tuple[Tensor, Tensor]:
        """h [N, D] at the positions `wanted`, and the model's logits at those `answered`."""
        # A hook rather than model.lm_head(model.model(..).last_hidden_state): it is the definition of h_t for every
        # architecture, and what some do to the logits after the output layer (scaling, capping) still happens.
        hidden: list[Tensor] = []

        def keep_wanted(_output_layer: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            h = inputs[0].flatten(0, 1)
            hidden.append(h.index_select(0, wanted.to(h.device)))  # [N, D]
            return ((hidden[0] if answered is wanted else h.index_select(0, answered.to(h.device)))[None],)

        with self._output_layer.register_forward_pre_hook(keep_wanted):
            logits: Tensor = self.model(input_ids=input_ids, **model_arguments).logits[0]
        assert len(hidden) == 1, "a forward pass calls the output layer once"
        return hidden[0].to(logits.device), logits
