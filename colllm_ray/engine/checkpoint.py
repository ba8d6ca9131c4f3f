"""A model's weights, all of them or none: compared with what the model has, and read."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils import logging
from upath import UPath

from colllm_ray.config import ModelConfig
from colllm_ray.engine.weights import REFUSALS, load_model_config
from colllm_ray.errors import ColllmError, one_line
from colllm_ray.model_folder import model_folder
from colllm_ray.storage import is_local, location, names_in

ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
NAMED = 3  # weights that an error names
META = torch.device("meta")


def read_model(config: ModelConfig) -> PreTrainedModel:
    """The model with its weights. Raises ColllmError where they are not just those that it has, or cannot be read."""
    if not is_deepspeed_zero3_enabled():  # which shares all weights that are made, also those without memory
        check_weights(config, empty_model(config))
    try:
        with _without_reports():
            model, found = AutoModelForCausalLM.from_pretrained(
                model_folder(config.model, weights=True),
                revision=config.revision,
                dtype=config.dtype,
                trust_remote_code=config.trust_remote_code,
                use_safetensors=True,
                device_map="balanced" if config.num_gpus > 1 else None,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
            )
    except REFUSALS as error:
        raise ColllmError(f"{config.model}: cannot be loaded: {one_line(error)}") from error
    _refuse(config.model, model, found)
    return model


def empty_model(config: ModelConfig) -> PreTrainedModel:
    """The model as its configuration describes it, without memory for its weights. Raises ColllmError."""
    loaded = load_model_config(config)
    try:
        with META:  # in the one dtype in which mixtures of experts run there
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                loaded, dtype=torch.bfloat16, trust_remote_code=config.trust_remote_code
            )
    except REFUSALS as error:
        if type(error) is ValueError and "Unrecognized configuration class" in str(error):
            raise ColllmError(
                f"{config.model}: is of model_type {loaded.model_type!r}, which is no causal language model"
            ) from error
        raise ColllmError(f"{config.model}: cannot be built from its configuration: {one_line(error)}") from error
    return model


def check_weights(config: ModelConfig, empty: PreTrainedModel) -> None:
    """Raises ColllmError where a folder does not hold just the weights that the `empty` model has.

    Only names and shapes are read; transformers turns them into the model's own, as it does when it loads. What lies on
    the hub is known when it is read.
    """
    if is_local(config.model) and not Path(config.model).is_dir():
        return
    given: dict[str, Tensor] = {}
    for file in _weight_files(location(config.model)):
        given.update(weights_in(file))
    try:
        with _without_reports():
            _, found = type(empty).from_pretrained(
                None,
                config=empty.config,
                state_dict=given,
                dtype=torch.bfloat16,
                device_map={"": META},
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        _refuse(config.model, empty, found, _unconverted(empty, given) if found["mismatched_keys"] else ())
    except REFUSALS as error:
        if missing := _unconverted(empty, given):
            raise ColllmError(_complaint(config.model, empty, [f"missing: {named(missing)}"])) from error
        raise ColllmError(_complaint(config.model, empty, [one_line(error)])) from error


def weights_in(file: UPath) -> dict[str, Tensor]:
    """What a safetensors file holds, by name, as tensors without memory. Raises ColllmError where it is not whole."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length)) if length <= size else {}
        header.pop("__metadata__", None)
        end = max((one["data_offsets"][1] for one in header.values()), default=0)
        shapes = {name: one["shape"] for name, one in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ColllmError(f"{file}: is no whole safetensors file: {one_line(error)}") from error
    if size != 8 + length + end:
        raise ColllmError(
            f"{file}: is no whole safetensors file: it has {size} bytes, its header says {8 + length + end}"
        )
    return {name: torch.empty(shape, dtype=torch.bfloat16, device=META) for name, shape in shapes.items()}


def named(names: Collection[str]) -> str:
    """A few of the names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(sorted(names)[:NAMED]) + more


def _weight_files(folder: UPath) -> list[UPath]:
    """The files that transformers reads. Raises ColllmError where one is missing."""
    there = names_in(folder)
    if ONE_FILE in there:
        return [folder / ONE_FILE]
    if INDEX not in there:
        others = sorted(name for name in there if name.endswith((".safetensors", ".bin", ".gguf", ".pt", ".pth")))
        found = f" ({', '.join(others[:NAMED])})" if others else ""
        raise ColllmError(
            f"{folder}: holds no *.safetensors by the name of {ONE_FILE} or {INDEX}; weights in other formats{found} "
            "are not loaded"
        )
    try:
        shards = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ColllmError(f"{folder / INDEX}: has no `weight_map` of weights to files: {one_line(error)}") from error
    if missing := [shard for shard in shards if shard not in there]:
        raise ColllmError(f"{folder}: holds no {named(missing)}, which {INDEX} names; put all files there")
    return [folder / shard for shard in shards]


def _refuse(place: str, model: PreTrainedModel, found: Mapping[str, Any], unconverted: Collection[str] = ()) -> None:
    """Raises ColllmError where transformers made weights up, or left some out; `found` is its loading info.

    Weights that share memory with others, and those that the model leaves out on purpose, are not in it.
    """
    parts = []
    if missing := {*found["missing_keys"], *unconverted}:
        parts.append(f"missing: {named(missing)}")
    if unknown := found["unexpected_keys"]:
        parts.append(f"unknown: {named(unknown)}")
    if other := {f"{name} {list(has)} for {list(wanted)}" for name, has, wanted in found["mismatched_keys"]}:
        parts.append(f"of another shape: {named(other)}")
    if parts:
        raise ColllmError(_complaint(place, model, parts))


def _complaint(place: str, model: PreTrainedModel, parts: Sequence[str]) -> str:
    return (
        f"{place}: its weights are not those of the {type(model).__name__} that its config.json describes, "
        f"{'; '.join(parts)}; a folder that `save_pretrained` wrote is whole"
    )


def _unconverted(model: PreTrainedModel, given: Mapping[str, Tensor]) -> set[str]:
    """Names of weights that files lack, where the model joins several of them into one, as those of a layer's experts.

    Nothing where the files have other names than transformers writes.
    """
    joined = revert_weight_conversion(model, model.state_dict()).keys() - model.state_dict().keys()
    missing = set(joined - given.keys())
    return missing if len(missing) < len(joined) else set()


@contextmanager
def _without_reports() -> Iterator[None]:
    """Without transformers' progress bar, and its table of the weights that did not fit: an error names them."""
    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
