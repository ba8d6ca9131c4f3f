"""The tokenizer that the members of a collaboration share."""

from __future__ import annotations

import hashlib
import json

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from colllm_ray.config import Collaboration, ModelConfig
from colllm_ray.errors import ColllmError
from colllm_ray.model_folder import model_folder


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer in a model's folder or on the hub; it must be a fast one and have an end-of-sequence token.

    Raises ColllmError where there is none.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            model_folder(config.model, weights=False),
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise ColllmError(f"{config.model}: its tokenizer cannot be loaded: {error}") from error
    tokenizer.clean_up_tokenization_spaces = False  # what tokens say is their text, spaces before dots as well
    if tokenizer.eos_token_id is None:
        raise ColllmError(f"{config.model}: its tokenizer has no end-of-sequence token; set `eos_token`")
    if not tokenizer.is_fast:
        raise ColllmError(
            f"{config.model}: its tokenizer does not tell which characters a token stands for; a fast one "
            "(`tokenizer.json`) is right"
        )
    return tokenizer


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """The highest id and one: ids may have holes, which `len` does not count."""
    return int(max(tokenizer.get_vocab().values())) + 1


def vocabulary_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Equal for tokenizers that turn every text into the same ids, whatever their templates (16 hex digits)."""
    parts: dict[str, object] = {"vocabulary": sorted(tokenizer.get_vocab().items())}
    parts.update({key: _backend(tokenizer).get(key) for key in ("normalizer", "pre_tokenizer", "model")})
    return _hash(parts)


def encoding_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Names all that examples depend on: vocabulary, end token, chat template, special tokens added (16 hex digits)."""
    return _hash(
        {
            "vocabulary": vocabulary_hash(tokenizer),
            "end": tokenizer.eos_token_id,
            "template": tokenizer.chat_template,
            "post_processor": _backend(tokenizer).get("post_processor"),
        }
    )


def _backend(tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return {} if backend is None else dict(json.loads(backend.to_str()))


def _hash(parts: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def shared_tokenizer(collaboration: Collaboration) -> PreTrainedTokenizerBase:
    """The base's tokenizer, once every expert's is found to be the same.

    Raises ColllmError that names the base and the expert that differ.
    """
    base = load_tokenizer(collaboration.base)
    for expert in collaboration.experts:
        other = load_tokenizer(expert)
        if vocabulary_hash(other) != vocabulary_hash(base):
            raise ColllmError(
                f"the base ({collaboration.base.model}, {len(base)} tokens) and the expert {expert.name!r} "
                f"({expert.model}, {len(other)} tokens) have different tokenizers; "
                "the members of a collaboration must share one"
            )
    return base
