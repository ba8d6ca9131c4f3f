"""The one check of a collaboration's members, which every command makes before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from colllm_ray.config import Collaboration, ModelConfig
from colllm_ray.data.chat_template import check_chat_template
from colllm_ray.data.tokenizer import shared_tokenizer, vocabulary_size
from colllm_ray.engine.adapter import check_adapter, check_targets
from colllm_ray.engine.checkpoint import check_weights, empty_model
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.weights import shared_context
from colllm_ray.errors import ColllmError, one_line

FEW = 2  # tokens of the first step's text


@dataclass(frozen=True)
class Shared:
    """What all members have in common: the tokenizer, its highest id and one, and the longest text in tokens."""

    tokenizer: PreTrainedTokenizerBase
    vocab_size: int
    context: int


def check_members(collaboration: Collaboration) -> Shared:
    """What the members share. Raises ColllmError that names the member which says what cannot be followed, and what.

    Of members in folders, here or behind URIs, names and shapes of all weights are compared with the model's; of those
    on the hub the configuration is looked at.
    """
    context = shared_context(collaboration)  # first: it reads the configurations, by which tokenizers are loaded too
    tokenizer = shared_tokenizer(collaboration)
    check_chat_template(tokenizer)
    size = vocabulary_size(tokenizer)
    training = collaboration.training
    for name, config in collaboration.members.items():
        try:
            check_member(config, size, context)
            if name == "base" and training.mode == "lora" and config.adapter is None:  # else it has been trained
                check_targets(empty_model(config), training.base.lora.targets)
        except ColllmError as error:
            raise ColllmError(f"{name}: {error}") from error
    return Shared(tokenizer, size, context)


def check_member(config: ModelConfig, vocab_size: int, context: int) -> None:
    """Raises ColllmError where a model cannot be loaded whole, or cannot be served."""
    model = empty_model(config)
    check_weights(config, model)
    if config.adapter is not None:
        model = check_adapter(model, config.adapter)
    served = LanguageModel(model, vocab_size)
    try:
        Engine(served, sessions=1, context=min(context, FEW))  # its first step, which is without memory too
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error).lower():  # some models look at values, of which there are none yet
            raise ColllmError(f"{config.model}: cannot be served: {one_line(error)}") from error
