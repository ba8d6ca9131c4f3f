"""What the paths in a YAML file name: they are relative to its folder, and absolute once it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hjson
from upath import UPath

from colllm_ray.config.data import Source
from colllm_ray.errors import ColllmError
from colllm_ray.model_folder import ADAPTER_CONFIG, CONFIG
from colllm_ray.storage import is_local, location


def model_place(model: str, folder: UPath, where: str) -> str:
    """A model's folder, or its hub id. Raises ColllmError where it is neither."""
    if not is_local(model):
        return model
    place = beside(folder, model)
    if place.is_dir():
        if not (place / CONFIG).is_file():
            raise ColllmError(f"{where}: the folder {place} holds no model: it has no {CONFIG}")
        return str(place.resolve() if is_local(place) else place)
    if _is_hub_id(model):
        return model
    raise ColllmError(f"{where}: there is no folder {place}, and {model!r} is no hub id (`org/name`)")


def adapter_place(adapter: str, folder: UPath, where: str) -> str:
    """An adapter's folder. Raises ColllmError where it holds none."""
    place = location(adapter) if not is_local(adapter) else beside(folder, adapter)
    if not (place / ADAPTER_CONFIG).is_file():
        raise ColllmError(f"{where}: the folder {place} holds no LoRA adapter: it has no {ADAPTER_CONFIG}")
    return str(place.resolve() if is_local(place) else place)


def deepspeed_content(source: str, folder: UPath, where: str) -> dict[str, Any]:
    """What a DeepSpeed configuration says; JSON that may have comments. Raises ColllmError where it is none."""
    path = location(source) if not is_local(source) else beside(folder, source)
    try:
        content = hjson.loads(path.read_text(encoding="utf-8"), object_pairs_hook=dict)
    except OSError as error:
        raise ColllmError(f"{where}: {path} cannot be read: {error.strerror or error}") from error
    except (hjson.HjsonDecodeError, UnicodeDecodeError) as error:
        raise ColllmError(f"{where}: {path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ColllmError(f"{where}: {path} must hold an object, as DeepSpeed's documentation describes it")
    return content


def beside(folder: UPath, path: str) -> UPath:
    """What a path in a file of `folder` names."""
    expanded = Path(path).expanduser()
    return UPath(expanded) if expanded.is_absolute() else folder / path


def source_place(source: Source, folder: UPath, where: str) -> Source:
    """A file, or a data set in a folder or on the hub. Raises ColllmError where a data set is neither."""
    if isinstance(source, str):
        return str(beside(folder, source)) if is_local(source) else source
    local = beside(folder, source.dataset)
    # An absolute folder may be gone: a trained collaboration serves without its data.
    if local.is_dir() or Path(source.dataset).is_absolute():
        return source.model_copy(update={"dataset": str(local)})
    if _is_hub_id(source.dataset):
        return source
    raise ColllmError(
        f"{where}.dataset: there is no folder {local}, and {source.dataset!r} is no hub id (`org/name`); "
        f"a file is written as `{where.rpartition('.')[2]}: PATH`"
    )


def _is_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~")
