"""Base and head in a DeepSpeed engine, and out of it again."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import deepspeed
import deepspeed.ops
import torch
import torch.distributed as dist
from deepspeed import DeepSpeedEngine
from deepspeed.runtime.config import DeepSpeedConfigError
from deepspeed.runtime.zero.utils import ZeRORuntimeException
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel
from transformers.integrations import HfDeepSpeedConfig

from colllm_ray.config import ModelConfig, TrainingConfig
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import ADAPTER, BASE, HEAD
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.weights import weights_dtype
from colllm_ray.errors import ColllmError
from colllm_ray.training.base_module import BaseWithHead
from colllm_ray.training.deepspeed_config import deepspeed_config

# What DeepSpeed raises where its configuration is wrong; a worker that was lost shows as a RuntimeError.
REFUSALS = (
    DeepSpeedConfigError,
    ZeRORuntimeException,
    AssertionError,
    AttributeError,
    KeyError,
    NotImplementedError,
    TypeError,
    ValueError,
)


def build_engine(
    training: TrainingConfig, model: ModelConfig, vocab_size: int, head: DeferralHead, steps: int
) -> DeepSpeedEngine:
    """An engine over a BaseWithHead; `steps` of all epochs are what learning rates follow. All workers must call it.

    Raises ColllmError where the model cannot be loaded or DeepSpeed refuses its configuration.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # An all-reduce over shared memory, which would be compiled now; PyTorch's gloo does as well.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist.get_backend())  # takes over the process group that is there
    dtype = weights_dtype(model)
    config = deepspeed_config(training, dist.get_world_size(), steps, dtype)
    if model.adapter is not None and config.get("zero_optimization", {}).get("stage") == 3:
        raise ColllmError("base.adapter: cannot be merged where ZeRO stage 3 shares the weights; use stage 2")
    # As long as this object lives, transformers loads each worker's share alone where weights are shared.
    shares_weights = HfDeepSpeedConfig(config)
    torch.manual_seed(training.seed)
    base = LanguageModel.load(model, vocab_size).model
    del shares_weights
    if str(base.dtype) != f"torch.{dtype}":
        found = str(base.dtype).removeprefix("torch.")
        raise ColllmError(f"{model.model}: its config.json does not say its dtype; add `dtype: {found}` to the base")
    if training.base.gradient_checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
    if training.mode == "lora":
        base = _with_new_adapter(base, training, model)
    else:
        _check_that_it_can_be_saved(base, model)
    module = BaseWithHead(base, base.get_output_embeddings(), head, vocab_size).train()
    try:
        engine, *_ = deepspeed.initialize(
            model=module,
            model_parameters=[
                {"params": [weight for weight in base.parameters() if weight.requires_grad]},
                {"params": list(head.parameters()), "lr": training.base.head_learning_rate},
            ],
            config=config,
            lr_scheduler=None if "scheduler" in config else partial(_warmup_then_cosine, training.base.warmup, steps),
            dist_init_required=False,
        )
    except REFUSALS as error:
        raise ColllmError(f"training.base.deepspeed: DeepSpeed refuses it: {type(error).__name__}: {error}") from error
    return engine


def export(engine: DeepSpeedEngine, training: TrainingConfig, model: ModelConfig, folder: Path) -> None:
    """Writes the head, and the base as a model's folder or the adapter as PEFT's; the first worker does.

    All workers must call it: weights that they share are gathered one by one.
    """
    module: BaseWithHead = engine.module
    lora = training.mode == "lora"
    head = _gathered(dict(module.head.named_parameters()))
    base = _gathered({name: w for name, w in module.model.named_parameters() if w.requires_grad or not lora})
    if dist.get_rank() > 0:
        return
    save_file({name: weight.float() for name, weight in head.items()}, folder / HEAD)
    if lora:
        module.model.save_pretrained(folder / ADAPTER, state_dict=base)
    else:
        saved = module.model.state_dict()  # of buffers, not all are
        base.update({name: buffer.cpu() for name, buffer in module.model.named_buffers() if name in saved})
        module.model.save_pretrained(folder / BASE, state_dict=base)
        load_tokenizer(model).save_pretrained(folder / BASE)


def _check_that_it_can_be_saved(base: PreTrainedModel, model: ModelConfig) -> None:
    """Hours before it is: transformers refuses to write generation settings that contradict each other."""
    try:
        base.generation_config.validate(strict=True)
    except ValueError as error:
        raise ColllmError(f"{model.model}: its generation_config.json is wrong; mend or delete it: {error}") from error


def _with_new_adapter(base: torch.nn.Module, training: TrainingConfig, model: ModelConfig) -> torch.nn.Module:
    lora = training.base.lora
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) or "all-linear",
        base_model_name_or_path=model.model,
        revision=model.revision,
    )
    try:
        adapted: torch.nn.Module = get_peft_model(base, config)
    except ValueError as error:
        raise ColllmError(f"training.base.lora: does not fit {model.model}: {error}") from error
    return adapted


def _warmup_then_cosine(warmup: float, steps: int, optimizer: torch.optim.Optimizer) -> LambdaLR:
    rising = min(round(warmup * steps), steps - 1)

    def share(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        return (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2

    return LambdaLR(optimizer, share)


def _gathered(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """These weights as a whole, on the first worker's CPU; others get nothing."""
    whole = {}
    for name, weight in weights.items():
        with deepspeed.zero.GatheredParameters([weight], enabled=hasattr(weight, "ds_id")):
            if dist.get_rank() == 0:
                whole[name] = weight.detach().cpu().clone()
    return whole
