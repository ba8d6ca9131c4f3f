"""The one check of a collaboration's members, which every command makes before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from colllm_ray.config import Collaboration
from colllm_ray.data.chat_template import check_chat_template
from colllm_ray.data.tokenizer import shared_tokenizer, vocabulary_size
from colllm_ray.engine.weights import shared_context
from colllm_ray.errors import ColllmError


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
    from colllm_ray.models.member import (
        check_member,
        check_trainable,
    )  # seconds, which processes without a model are spared

    context = shared_context(collaboration)  # first: it reads the configurations, by which tokenizers are loaded too
    tokenizer = shared_tokenizer(collaboration)
    check_chat_template(tokenizer)
    size = vocabulary_size(tokenizer)
    training = collaboration.training
    for name, config in collaboration.members.items():
        try:
            check_member(config, size, context)
            if name == "base" and training.mode == "lora" and config.adapter is None:  # else it has been trained
                check_trainable(config, training.base.lora.targets)
        except ColllmError as error:
            raise ColllmError(f"{name}: {error}") from error
    return Shared(tokenizer, size, context)
