"""DeepSpeed's configuration: the user's file or ours, with what it leaves open filled in from the YAML."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import hjson

from colllm_ray.config import TrainingConfig
from colllm_ray.errors import ColllmError

AUTO = "auto"
ONE_OF_THEM = f'leave one of them out, or write "{AUTO}" there'

# Parameters of DeepSpeed's schedulers that have no default, or one that does not know the YAML.
WANTED_BY_SCHEDULER = {
    "WarmupLR": ("warmup_num_steps", "warmup_max_lr"),
    "WarmupDecayLR": ("total_num_steps", "warmup_num_steps", "warmup_max_lr"),
    "WarmupCosineLR": ("total_num_steps", "warmup_num_steps"),
}


@dataclass(frozen=True)
class BatchSizes:
    """Examples in a step of all workers, and in each of the `passes` through the base that a worker needs for it."""

    step: int
    forward_pass: int
    passes: int


def deepspeed_config(training: TrainingConfig, workers: int, steps: int, dtype: str) -> dict[str, Any]:
    """What `deepspeed.initialize` takes.

    `steps` of all epochs are for a scheduler that asks for them; `dtype` is that of the base's weights. Raises
    ColllmError where the user's file contradicts the YAML, or is not divisible among the workers.
    """
    base = training.base
    content = _content(training)
    for name in ("optimizer", "scheduler", "bf16", "fp16", "zero_optimization"):
        if name in content:
            _section(content, name)
    sizes = batch_sizes(training, workers)
    content["train_batch_size"] = sizes.step
    content["train_micro_batch_size_per_gpu"] = sizes.forward_pass
    content["gradient_accumulation_steps"] = sizes.passes
    _settle(content, ("gradient_clipping",), base.gradient_clipping, training, "gradient_clipping")
    if "optimizer" not in content:
        content["optimizer"] = _default()["optimizer"]
    _settle(content, ("optimizer", "params", "lr"), training.base_learning_rate, training, "learning_rate")
    _settle(content, ("optimizer", "params", "weight_decay"), base.weight_decay, training, "weight_decay")
    _settle_precision(content, training, dtype)
    if "scheduler" in content:
        _settle_scheduler(content, training, steps)
    content["steps_per_print"] = 10**9  # progress is told elsewhere
    return dict(_without_auto(content))


def batch_sizes(training: TrainingConfig, workers: int) -> BatchSizes:
    """The file's numbers, else the YAML's. Raises ColllmError as `deepspeed_config` does."""
    content = _content(training)
    step, forward_pass, passes = (
        None if content.get(key) == AUTO else content.get(key)
        for key in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    )
    for number in (step, forward_pass, passes):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ColllmError(f"training.base.deepspeed: {number!r} is no count of examples; a number from 1 is right")
    _agree(step, training, "batch_size", "train_batch_size")
    _agree(forward_pass, training, "micro_batch_size", "train_micro_batch_size_per_gpu")
    forward_pass = forward_pass or training.base.micro_batch_size
    if step is None and passes is not None:
        step = forward_pass * passes * workers
        _agree(step, training, "batch_size", "gradient_accumulation_steps")
    step = step or training.base.batch_size
    fits = passes or step // (forward_pass * workers)
    if not fits or step != forward_pass * fits * workers:
        times = f", {passes} times (gradient_accumulation_steps)" if passes else ""
        raise ColllmError(
            f"training.base.batch_size: a step of {step} examples is no multiple of {forward_pass} (micro_batch_size) "
            f"for each of {workers} workers{times}"
        )
    return BatchSizes(step, forward_pass, fits)


def _content(training: TrainingConfig) -> dict[str, Any]:
    given = training.base.deepspeed
    assert not isinstance(given, str), "Collaboration.load has read the file"
    return _default() if given is None else copy.deepcopy(given)


def _default() -> dict[str, Any]:
    text = files("colllm_ray.training").joinpath("deepspeed_default.json").read_text(encoding="utf-8")
    return dict(hjson.loads(text, object_pairs_hook=dict))


def _settle_precision(content: dict[str, Any], training: TrainingConfig, dtype: str) -> None:
    """Weights of 16 bits want DeepSpeed's own care: a float32 copy, and for float16 a scaled loss."""
    if "fp16" in content:
        _settle(content, ("fp16", "enabled"), dtype == "float16", training)
    in_float16 = content.get("fp16", {}).get("enabled", False)
    if not in_float16:
        _settle(content, ("bf16", "enabled"), dtype == "bfloat16", training)
        if dtype == "float16":
            raise ColllmError(
                "base.dtype: float16 is trained only with `fp16` enabled in training.base.deepspeed, on a GPU; "
                "bfloat16 or float32 would do without"
            )


def _settle_scheduler(content: dict[str, Any], training: TrainingConfig, steps: int) -> None:
    """What DeepSpeed's warm-up schedulers want to know, where the file does not say it."""
    scheduler, base = _section(content, "scheduler"), training.base
    kind, given = scheduler.get("type"), _section(scheduler, "params")
    known = {
        "total_num_steps": steps,
        "warmup_num_steps": round(base.warmup * steps),
        "warmup_max_lr": content["optimizer"]["params"]["lr"],
        "warmup_min_lr": 0.0,
    }
    if "warmup" in base.model_fields_set and given.get("warmup_num_steps", AUTO) != AUTO:
        raise ColllmError(f"training.base.warmup: the scheduler in training.base.deepspeed says it; {ONE_OF_THEM}")
    if "head_learning_rate" in base.model_fields_set and kind != "WarmupCosineLR":
        raise ColllmError(
            f"training.base.head_learning_rate: the scheduler {kind} in training.base.deepspeed gives the head the "
            "base's; leave one of them out"
        )
    for name in WANTED_BY_SCHEDULER.get(str(kind), ()):
        given.setdefault(name, AUTO)
    given.update({name: value for name, value in known.items() if given.get(name) == AUTO})


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    section = content.setdefault(name, {})
    if not isinstance(section, dict):
        raise ColllmError(f"training.base.deepspeed: {name} must be an object, not {section!r}")
    return section


def _settle(
    content: dict[str, Any], path: tuple[str, ...], value: object, training: TrainingConfig, field: str | None = None
) -> None:
    """Fills in a key that is missing or "auto"."""
    section = content
    for key in path[:-1]:
        section = _section(section, key)
    given = section.get(path[-1], AUTO)
    if given == AUTO:
        section[path[-1]] = value
    elif field is not None:
        _agree(given, training, field, ".".join(path))


def _agree(given: object, training: TrainingConfig, field: str, key: str) -> None:
    """Raises where the YAML's field was written by the user and says something else than the file."""
    value = getattr(training.base, field)
    written = field in training.base.model_fields_set and value is not None
    if given is not None and written and value != given:
        raise ColllmError(
            f"training.base.{field}: is {value}, but {key} in training.base.deepspeed is {given}; {ONE_OF_THEM}"
        )


def _without_auto(content: Any) -> Any:
    """What is still open takes DeepSpeed's own default."""
    if isinstance(content, dict):
        return {key: _without_auto(value) for key, value in content.items() if value != AUTO}
    return content
