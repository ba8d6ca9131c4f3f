"""LoRA adapters: small folders of weights (PEFT's format) that change a language model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from colllm_ray.engine.checkpoint import named, weights_in
from colllm_ray.engine.weights import REFUSALS
from colllm_ray.errors import ColllmError, one_line
from colllm_ray.model_folder import WEIGHTS, model_folder
from colllm_ray.storage import location, names_in

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

# PEFT is imported where it is used: that takes seconds, and few models have an adapter.

FILE = "adapter_model.safetensors"
# What LoRA can do beside adding to weights, by the fields of its configuration: no weights are the same as that.
NOT_MERGED = (
    "alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "megatron_config",
    "monteclora_config", "use_bdlora", "use_qalora",
)  # fmt: skip
OWN = (".lora_", ".modules_to_save.", ".trainable_tokens_")  # in the names of an adapter's weights


def with_adapter(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The model with the adapter merged into its weights. Raises ColllmError where it is none, or does not fit.

    Weights that two layers share, and of which the adapter changes one alone, are shared no more.
    """
    from peft.utils import load_peft_weights

    config = _config(adapter)
    try:
        weights = load_peft_weights(model_folder(adapter, weights=True), device=str(model.device))
    except REFUSALS as error:
        raise ColllmError(f"{adapter}: cannot be loaded: {one_line(error)}") from error
    return _merged(model, adapter, config, weights)


def check_adapter(empty: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The `empty` model, without memory for its weights, with the adapter merged; raises as `with_adapter` does."""
    config = _config(adapter)
    config.init_lora_weights = False  # what they start as is of no matter, and may need the model's
    return _merged(empty, adapter, config, weights_in(location(adapter) / FILE))


def check_targets(empty: PreTrainedModel, targets: Sequence[str]) -> None:
    """Raises ColllmError where no adapter can be made for the layers of these names of a model; of none, for all linear
    ones. `empty` is the model without memory for its weights, which is used up.
    """
    from peft import LoraConfig, PeftModel

    where, owners = f"training.base.lora.targets: {empty.name_or_path}", _owners(empty)
    for target in targets:
        layers = [layer for name, layer in empty.named_modules() if f".{name}".endswith(f".{target}")]
        if not layers:
            raise ColllmError(f"{where} has no layer named {target}")
        if any(owners[id(weight)] > 1 for layer in layers for weight in layer.parameters(recurse=False)):
            raise ColllmError(
                f"{where} uses the weights of {target} in another layer too, which an adapter of {target} would not "
                "change; leave it out"
            )
    try:
        PeftModel(empty, LoraConfig(target_modules=list(targets) or "all-linear"), low_cpu_mem_usage=True)
    except REFUSALS as error:
        raise ColllmError(f"{where} can have no such adapter: {one_line(error)}") from error


def _config(adapter: str) -> LoraConfig:
    from peft import LoraConfig, PeftConfig

    if FILE not in names_in(location(adapter)):  # PEFT would look for a pickle
        raise ColllmError(f"{adapter}: holds no *{WEIGHTS} ({FILE}); weights in other formats are not loaded")
    try:
        config = PeftConfig.from_pretrained(model_folder(adapter, weights=False))
    except REFUSALS as error:
        raise ColllmError(f"{adapter}: its adapter_config.json cannot be read: {one_line(error)}") from error
    if not isinstance(config, LoraConfig):
        raise ColllmError(f"{adapter}: is an adapter of the kind {config.peft_type.value}; LoRA can be merged")
    if used := [name for name in NOT_MERGED if getattr(config, name, None)]:
        raise ColllmError(f"{adapter}: uses {', '.join(used)}, which cannot be merged into a model's weights")
    return config


def _merged(model: PreTrainedModel, adapter: str, config: LoraConfig, weights: Mapping[str, Tensor]) -> PreTrainedModel:
    """Raises ColllmError where not all of the adapter lands in the model, or some of it is missing."""
    from peft import PeftModel, set_peft_model_state_dict

    empty = model.device.type == "meta"
    fits = f"{adapter}: is no adapter of {model.name_or_path}"
    try:
        adapted = PeftModel(model, config, low_cpu_mem_usage=empty).eval()
        found: Any = set_peft_model_state_dict(adapted, dict(weights), low_cpu_mem_usage=empty)
    except REFUSALS as error:
        raise ColllmError(f"{fits}: {_reason(error)}") from error
    if unknown := found.unexpected_keys:
        raise ColllmError(f"{fits}: it holds weights that the model has no place for: {named(unknown)}")
    if missing := [name for name in _lacking(adapted, found.missing_keys) if _is_own(name, config.bias)]:
        raise ColllmError(f"{fits}: it lacks weights that its configuration speaks of: {named(missing)}")
    _share_no_more(model, adapted)
    try:
        merged: PreTrainedModel = adapted.merge_and_unload()
    except REFUSALS as error:
        raise ColllmError(f"{adapter}: cannot be merged into {model.name_or_path}: {one_line(error)}") from error
    output = merged.get_output_embeddings()
    output.out_features, output.in_features = output.weight.shape  # PEFT turns them round where it keeps layers tied
    return merged


def _reason(error: Exception) -> str:
    """Of torch's report of all weights that do not fit, the first one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].startswith("Error(s) in loading") else one_line(error)


def _lacking(adapted: PeftModel, missing: Collection[str]) -> Collection[str]:
    """Those of the missing weights that are not the same as one that is there by another name."""
    absent, weights = set(missing), dict(adapted.named_parameters(remove_duplicate=False))
    there = {id(weight) for name, weight in weights.items() if name not in absent}
    return [name for name in absent if name not in weights or id(weights[name]) not in there]


def _is_own(name: str, bias: str) -> bool:
    """Whether it is an adapter's weight; of the model's own, some adapters bring biases."""
    if any(part in name for part in OWN):
        return True
    return name.endswith({"all": ".bias", "lora_only": ".base_layer.bias"}.get(bias, "\n"))


def _share_no_more(model: PreTrainedModel, adapted: PeftModel) -> None:
    """Gives layers that the adapter changes weights of their own, where others have the same ones.

    Merged into shared weights, such as those of embeddings and output layer, a change of one would change both.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    owners = _owners(adapted)
    for layer in adapted.modules():
        if isinstance(layer, BaseTunerLayer):
            base = layer.get_base_layer()
            weight = getattr(base, "weight", None)
            if isinstance(weight, nn.Parameter) and owners[id(weight)] > 1:
                base.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
                model.config.tie_word_embeddings = False


def _owners(model: nn.Module) -> Counter[int]:
    """How many layers have a weight, by its identity."""
    return Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
