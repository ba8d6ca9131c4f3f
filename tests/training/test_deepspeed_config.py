from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from colllm_ray.config import TrainingConfig
from colllm_ray.config.places import deepspeed_content
from colllm_ray.errors import ColllmError
from colllm_ray.storage import location
from colllm_ray.training.deepspeed_config import BatchSizes, batch_sizes, deepspeed_config


def training(deepspeed: dict[str, Any] | None = None, mode: str = "full", **base: Any) -> TrainingConfig:
    return TrainingConfig.model_validate({"mode": mode, "base": {"deepspeed": deepspeed, **base}})


def test_the_default_file_is_filled_in_from_the_yaml() -> None:
    config = deepspeed_config(training(batch_size=12, micro_batch_size=3, weight_decay=0.1), 2, 100, "bfloat16")
    assert config["train_batch_size"] == 12
    assert config["train_micro_batch_size_per_gpu"] == 3
    assert config["gradient_accumulation_steps"] == 2
    assert config["gradient_clipping"] == 1.0
    assert config["optimizer"]["params"]["lr"] == 2e-5
    assert config["optimizer"]["params"]["weight_decay"] == 0.1
    assert config["bf16"] == {"enabled": True}
    assert config["zero_optimization"] == {"stage": 2}
    assert deepspeed_config(training(mode="lora"), 2, 100, "float32")["optimizer"]["params"]["lr"] == 2e-4


def test_what_the_user_s_file_says_counts() -> None:
    given = {
        "train_micro_batch_size_per_gpu": 8,
        "gradient_accumulation_steps": 3,
        "gradient_clipping": 0.5,
        "optimizer": {"type": "Adam", "params": {"lr": 1e-3, "weight_decay": "auto", "betas": "auto"}},
        "scheduler": {
            "type": "WarmupDecayLR",
            "params": {"total_num_steps": "auto", "warmup_max_lr": "auto"},
        },
        "zero_optimization": {"stage": 3, "reduce_bucket_size": "auto"},
        "bf16": {"enabled": "auto"},
    }
    config = deepspeed_config(training(given, weight_decay=0.2, warmup=0.1), 4, 50, "float32")
    assert config["train_batch_size"] == 96
    assert config["gradient_clipping"] == 0.5
    assert config["optimizer"] == {"type": "Adam", "params": {"lr": 1e-3, "weight_decay": 0.2}}
    assert config["scheduler"]["params"] == {"total_num_steps": 50, "warmup_num_steps": 5, "warmup_max_lr": 1e-3}
    assert config["zero_optimization"] == {"stage": 3}
    assert config["bf16"] == {"enabled": False}
    assert given["optimizer"]["params"]["weight_decay"] == "auto"  # type: ignore[index]


@pytest.mark.parametrize(
    ("deepspeed", "base", "workers", "sizes"),
    [
        (None, {}, 2, BatchSizes(16, 2, 4)),
        ({"train_batch_size": 32}, {}, 2, BatchSizes(32, 2, 8)),
        ({"train_micro_batch_size_per_gpu": 4}, {}, 2, BatchSizes(16, 4, 2)),
        ({"gradient_accumulation_steps": 4}, {"micro_batch_size": 1}, 3, BatchSizes(12, 1, 4)),
        ({"train_batch_size": "auto"}, {"batch_size": 6, "micro_batch_size": 1}, 3, BatchSizes(6, 1, 2)),
        ({"train_batch_size": 8}, {"batch_size": 8}, 1, BatchSizes(8, 2, 4)),
    ],
)
def test_batch_sizes_come_from_the_file_then_the_yaml(
    deepspeed: dict[str, Any] | None, base: dict[str, Any], workers: int, sizes: BatchSizes
) -> None:
    assert batch_sizes(training(deepspeed, **base), workers) == sizes


@pytest.mark.parametrize(
    ("deepspeed", "dtype", "bf16"),
    [
        ({}, "bfloat16", {"enabled": True}),
        ({}, "float32", {"enabled": False}),
        ({"bf16": {"enabled": True}}, "float32", {"enabled": True}),
        ({"fp16": {"enabled": True}}, "float16", None),
        ({"fp16": {"enabled": "auto"}}, "float16", None),
    ],
)
def test_weights_of_16_bits_are_trained_with_a_float32_copy(
    deepspeed: dict[str, Any], dtype: str, bf16: dict[str, bool] | None
) -> None:
    config = deepspeed_config(training(deepspeed), 2, 10, dtype)
    assert config.get("bf16") == bf16
    assert bf16 is not None or config["fp16"] == {"enabled": True}


def test_float16_is_not_trained_without_a_scaled_loss() -> None:
    with pytest.raises(ColllmError, match=r"base.dtype: float16 is trained only with `fp16`"):
        deepspeed_config(training(), 2, 10, "float16")


@pytest.mark.parametrize(
    ("deepspeed", "base", "error"),
    [
        ({"optimizer": "AdamW"}, {}, "optimizer must be an object, not 'AdamW'"),
        ({"zero_optimization": 3}, {}, "zero_optimization must be an object, not 3"),
        ({"train_batch_size": "16"}, {}, "'16' is no count of examples"),
        (
            {"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 3}}},
            {"warmup": 0.5},
            "warmup: the scheduler in training.base.deepspeed says it",
        ),
        (
            {"scheduler": {"type": "WarmupLR"}},
            {"head_learning_rate": 0.5},
            "head_learning_rate: the scheduler WarmupLR .* gives the head the base's",
        ),
        (None, {"batch_size": 10}, "batch_size: a step of 10 examples is no multiple of 2 .* each of 2 workers"),
        (None, {"batch_size": 2}, "batch_size: a step of 2 examples is no multiple of 2"),
        (
            {"train_batch_size": 16, "gradient_accumulation_steps": 3},
            {},
            r"a step of 16 examples .* 3 times \(gradient_accumulation_steps\)",
        ),
        ({"train_batch_size": 32}, {"batch_size": 16}, "batch_size: is 16, but train_batch_size in .* is 32"),
        (
            {"optimizer": {"type": "AdamW", "params": {"lr": 1.0}}},
            {"learning_rate": 0.5},
            'learning_rate: is 0.5, but optimizer.params.lr in training.base.deepspeed is 1.0; .* write "auto"',
        ),
    ],
)
def test_contradictions_are_refused(deepspeed: dict[str, Any] | None, base: dict[str, Any], error: str) -> None:
    with pytest.raises(ColllmError, match=error):
        deepspeed_config(training(deepspeed, **base), 2, 10, "float32")


def test_json_may_have_comments(tmp_path: Path) -> None:
    (tmp_path / "zero.json").write_text('{\n  // shared weights\n  "zero_optimization": {"stage": 3}\n}')
    content = deepspeed_content("zero.json", location(tmp_path), "here")
    assert content == {"zero_optimization": {"stage": 3}}
