"""What a model's files say about it, without loading it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, GenerationConfig, PretrainedConfig

from colllm_ray.config import Collaboration, ModelConfig
from colllm_ray.errors import ColllmError, one_line
from colllm_ray.model_folder import ADAPTER_CONFIG, CONFIG, WEIGHTS, files_revision, model_folder
from colllm_ray.storage import is_local

STRETCHED = ("linear", "dynamic", "yarn")  # kinds of RoPE scaling whose factor is not in `max_position_embeddings`
BY_LENGTH = ("dynamic", "longrope")  # those that turn a whole text as its length asks

# What transformers raises where files are missing or say what it cannot follow: it builds what they describe.
REFUSALS = (
    AttributeError,
    ImportError,
    KeyError,
    OSError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
)


def load_model_config(config: ModelConfig) -> PretrainedConfig:
    """The model's own config.json. Raises ColllmError where there is none, or of a model that cannot be a member."""
    try:
        loaded = AutoConfig.from_pretrained(
            model_folder(config.model, weights=False),
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
    except REFUSALS as error:
        raise ColllmError(f"{config.model}: its configuration cannot be loaded: {one_line(error)}") from error
    kind = f"{config.model}: is of model_type {loaded.model_type!r}"
    if loaded.is_encoder_decoder:
        raise ColllmError(f"{kind}, an encoder with a decoder; a member is a decoder alone")
    if (how := getattr(loaded, "quantization_config", None)) is not None:
        method = how.get("quant_method") if isinstance(how, dict) else getattr(how, "quant_method", how)
        raise ColllmError(
            f"{kind} with weights that are quantised ({method}), which are not loaded; save them in bfloat16, float16 "
            "or float32"
        )
    return loaded


def declared_end_tokens(config: ModelConfig) -> frozenset[int]:
    """The tokens at which `generate` of the model's folder stops: by generation_config.json, else by config.json.

    Raises ColllmError where they are no token ids.
    """
    folder = model_folder(config.model, weights=False)
    try:
        declared = GenerationConfig.from_pretrained(folder, revision=config.revision).eos_token_id
    except OSError:  # there is none
        declared = getattr(load_model_config(config).get_text_config(), "eos_token_id", None)
    except ValueError as error:
        raise ColllmError(f"{config.model}: its generation_config.json is wrong: {error}") from error
    tokens = declared if isinstance(declared, list) else [] if declared is None else [declared]
    if not all(isinstance(token, int) and token >= 0 for token in tokens):
        raise ColllmError(f"{config.model}: `eos_token_id` is {declared!r}; token ids are right")
    return frozenset(tokens)


def weights_dtype(config: ModelConfig) -> str:
    """The dtype in which the weights are loaded, such as "bfloat16", as far as config.json says so."""
    if config.dtype != "auto":
        return config.dtype
    return str(getattr(load_model_config(config), "dtype", None) or "float32").removeprefix("torch.")


def shared_context(collaboration: Collaboration) -> int:
    """The longest text in tokens: the collaboration's `context`, or what every member can take.

    Raises ColllmError for a model that does not say, or that takes less than `context`.
    """
    lengths = {}
    for name, config in collaboration.members.items():
        length = longest_text(loaded := load_model_config(config))
        if length is None:
            raise ColllmError(f"{config.model}: its config.json has no `max_position_embeddings`; {name} needs one")
        if collaboration.context is not None and collaboration.context > length:
            rope = _rope(loaded).get("rope_type")
            why = f" ({rope} RoPE beyond that turns a text as its length asks)" if rope in BY_LENGTH else ""
            raise ColllmError(
                f"context: {collaboration.context} tokens are more than {name} takes, {length}{why}; lower it"
            )
        lengths[name] = length
    return collaboration.context or min(lengths.values())


def longest_text(config: PretrainedConfig) -> int | None:
    """The longest text in tokens that the model was made for and an engine can serve; None where it does not say.

    RoPE scaling of some kinds stretches `max_position_embeddings` by its factor. Of kinds that turn a text as its
    length asks, only what is turned alike is served: texts grow, and share their steps with others.
    """
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(length, int):
        return None
    rope = _rope(config)
    kind, original = rope.get("rope_type"), rope.get("original_max_position_embeddings") or length
    if kind in BY_LENGTH:
        return min(original, length)
    if kind in STRETCHED:
        return max(length, int(original * (rope.get("factor") or 1)))
    return length


def _rope(config: PretrainedConfig) -> dict[str, Any]:
    """Parameters of the model's RoPE; none where each kind of layer has its own, for a length that is given whole."""
    return dict(getattr(config.get_text_config(), "rope_parameters", None) or {})


def weights_stamp(config: ModelConfig) -> object:
    """Changes when the model's files do: cheaper than `weights_revision`, but of this machine alone."""
    folders = [Path(folder) for folder in (config.model, config.adapter) if folder is not None]
    if not all(folder.is_absolute() for folder in folders):
        return weights_revision(config)
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.is_file()]
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def weights_revision(config: ModelConfig) -> str:
    """Names the exact weights: the commit for a hub id, else a hash of config and weights (16 hex digits).

    That of an adapter comes behind a plus sign.
    """
    if not is_local(config.model) or Path(config.model).is_absolute():
        revision = _folder_revision(config.model)
    else:
        revision = str(load_model_config(config)._commit_hash)
    return revision if config.adapter is None else f"{revision}+{_folder_revision(config.adapter)}"


def _folder_revision(place: str) -> str:
    if not is_local(place):
        return files_revision(place)
    folder = Path(place)
    weights = sorted(folder.glob(f"*{WEIGHTS}"))
    if not weights:
        raise ColllmError(f"{folder}: holds no *.safetensors; weights in other formats are not loaded")
    for path in weights:  # here, rather than in a worker far away: the header tells whether the file is whole
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise ColllmError(f"{path}: is no whole safetensors file: {error}") from error
    digest = hashlib.sha256()
    descriptions = [folder / name for name in (CONFIG, ADAPTER_CONFIG) if (folder / name).is_file()]
    for path in (*descriptions, *weights):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
