"""A model's (or adapter's) folder on this machine: where it lies, or a copy of one that lies behind a URI."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

from platformdirs import user_cache_path
from upath import UPath

from colllm_ray.errors import ColllmError
from colllm_ray.storage import is_local, location

WEIGHTS = ".safetensors"
CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"  # what makes a folder one of a model, or of an adapter
DESCRIPTIONS = (".json", ".jinja", ".model", ".py", ".txt")  # configuration, tokenizer, a model's own code


def model_folder(model: str, *, weights: bool) -> str:
    """What transformers loads for `model`: a path or hub id as it is, for a URI the path of a copy.

    The copy is kept in the user's cache, under a name that changes with the files; without `weights` the large ones are
    left out. Raises ColllmError where the URI is no folder of a model.
    """
    if is_local(model):
        return model
    files = _files(model)
    copy = user_cache_path("colllm_ray") / "models" / _name(files)
    copy.mkdir(parents=True, exist_ok=True)
    wanted = (*DESCRIPTIONS, WEIGHTS) if weights else DESCRIPTIONS
    for file in files:
        if file.suffix in wanted and not (copy / file.name).exists():
            unfinished = copy / f"{file.name}.{uuid.uuid4().hex[:8]}.tmp"
            file.fs.get_file(file.path, str(unfinished))
            if _name(_files(model)) != copy.name:
                unfinished.unlink()
                raise ColllmError(f"{model}: its files changed while they were copied; try again")
            unfinished.rename(copy / file.name)
    return str(copy)


def files_revision(model: str) -> str:
    """Names the weights and the configuration behind a URI, as its storage tells them apart (16 hex digits)."""
    return _name([file for file in _files(model) if file.suffix == WEIGHTS or file.name in (CONFIG, ADAPTER_CONFIG)])


def _files(model: str) -> list[UPath]:
    try:
        files = sorted((path for path in location(model).iterdir() if path.is_file()), key=str)
    except OSError as error:
        raise ColllmError(f"{model}: cannot be read: {error}") from error
    if not {CONFIG, ADAPTER_CONFIG} & {file.name for file in files}:
        raise ColllmError(f"{model}: holds no model: it has no {CONFIG}")
    return files


def _name(files: list[UPath]) -> str:
    parts = [f"{Path(file.path).name} {file.fs.ukey(file.path)}" for file in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
