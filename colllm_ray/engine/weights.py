"""What a model's files say about it, without loading it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, GenerationConfig, PretrainedConfig

from colllm_ray.config import Collaboration, ModelConfig
from colllm_ray.errors import ColllmError
from colllm_ray.model_folder import ADAPTER_CONFIG, CONFIG, WEIGHTS, files_revision, model_folder
from colllm_ray.storage import is_local


def load_model_config(config: ModelConfig) -> PretrainedConfig:
    """The model's own config.json. Raises ColllmError where there is none."""
    try:
        return AutoConfig.from_pretrained(
            model_folder(config.model, weights=False),
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise ColllmError(f"{config.model}: its configuration cannot be loaded: {error}") from error


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
        length = getattr(load_model_config(config).get_text_config(), "max_position_embeddings", None)
        if not isinstance(length, int):
            raise ColllmError(f"{config.model}: its config.json has no `max_position_embeddings`; {name} needs one")
        lengths[name] = length
    shortest = min(lengths, key=lambda name: lengths[name])
    if collaboration.context is not None and collaboration.context > lengths[shortest]:
        raise ColllmError(
            f"context: {collaboration.context} tokens are more than {shortest} takes, {lengths[shortest]}; lower it"
        )
    return collaboration.context or lengths[shortest]


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
