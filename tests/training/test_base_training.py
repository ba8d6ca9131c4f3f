from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from colllm_ray.config import BaseTrainingConfig, Collaboration, LoraConfig, TrainingConfig
from colllm_ray.deferral.loss import marginal_logprob
from colllm_ray.scoring.score_folder import ScoreFolder
from colllm_ray.scoring.scores import Part, TextScores
from colllm_ray.training.base_batches import micro_batches, steps_of_epoch
from tests.conftest import WriteTiny
from tests.training.courses import WORKERS, Course, Ended, run_courses, started_head

GOLDEN = Path(__file__).parent / "golden_base_losses.json"
STAGES = (0, 1, 2, 3)
EPOCHS, BATCH, RATE, HEAD_RATE, WARMUP, CLIPPING, DECAY = 2, 4, 1e-3, 5e-3, 0.25, 0.5, 0.01


def base_training(**changes: object) -> BaseTrainingConfig:
    fields = {
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "micro_batch_size": 1,
        "learning_rate": RATE,
        "head_learning_rate": HEAD_RATE,
        "warmup": WARMUP,
        "gradient_clipping": CLIPPING,
        "weight_decay": DECAY,
        "checkpoint_steps": 2,
        **changes,
    }
    return BaseTrainingConfig.model_validate(fields)


def training(mode: str, stage: int, objective: str = "marginal", **changes: object) -> TrainingConfig:
    base = base_training(**{"deepspeed": {"zero_optimization": {"stage": stage}}, **changes})
    return TrainingConfig.model_validate({"mode": mode, "objective": objective, "base": base})


ADAPTER = LoraConfig(rank=4, alpha=8, dropout=0.1)
BFLOAT16 = {"bf16": {"enabled": True}, "zero_optimization": {"stage": 2}}
COURSES = {
    **{f"full, stage {stage}": Course(training("full", stage)) for stage in STAGES},
    **{f"full, stage {stage}, stopped": Course(training("full", stage), stops=True) for stage in (2, 3)},
    **{f"lora, stage {stage}": Course(training("lora", stage, lora=ADAPTER)) for stage in (2, 3)},
    "lora, stage 2, stopped": Course(training("lora", 2, lora=ADAPTER), stops=True),
    "gradient checkpointing": Course(training("full", 2, gradient_checkpointing=True)),
    "weak": Course(training("full", 1, "weak")),
    "finetune": Course(training("full", 2, "finetune")),
    "no such stage": Course(training("full", 7)),
    "no such layer": Course(training("lora", 2, lora=LoraConfig(targets=("nothing",)))),
    "bfloat16": Course(training("full", 2, deepspeed=BFLOAT16)),
}


@pytest.fixture(scope="module")
def collaboration(write_tiny: WriteTiny, tmp_path_factory: pytest.TempPathFactory) -> Collaboration:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def ended(
    collaboration: Collaboration, scored_tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Ended]:
    return run_courses(collaboration, scored_tiny, COURSES, tmp_path_factory.mktemp("courses"))


def weights_of(ended: Ended) -> dict[str, torch.Tensor]:
    (file,) = ended.result.weights.glob("*.safetensors")
    return {**load_file(file), **ended.result.head.state_dict()}


def learning_rate(step: int, steps: int) -> float:
    rising = round(WARMUP * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


def test_every_stage_follows_the_gradient_of_the_mean_over_all_targets(
    ended: dict[str, Ended], collaboration: Collaboration, scored_tiny: Path
) -> None:
    """Beside a plain loop of PyTorch: one process, no padding, no micro-batches."""
    scores = ScoreFolder.of(collaboration, collaboration.data.sources, scored_tiny / "scores")
    parts = [scores.read_texts("train", Part(rank, WORKERS)) for rank in range(WORKERS)]
    model = AutoModelForCausalLM.from_pretrained(collaboration.base.model).train()
    head = started_head(collaboration, COURSES["full, stage 0"].training)
    weights = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": list(model.parameters()), "lr": RATE}, {"params": list(head.parameters()), "lr": HEAD_RATE}],
        weight_decay=DECAY,
    )
    steps = math.ceil(max(len(part.example_ids) for part in parts) * WORKERS / BATCH)
    epoch_losses = []
    for epoch in range(EPOCHS):
        orders = [steps_of_epoch(len(part.example_ids), steps, epoch) for part in parts]
        losses: list[float] = []
        for step in range(steps):
            nlls = [
                -marginal_logprobs(model, head, part, i)
                for part, order in zip(parts, orders, strict=True)
                for i in order[step]
            ]
            for group, peak in zip(optimizer.param_groups, (RATE, HEAD_RATE), strict=True):
                group["lr"] = peak * learning_rate(epoch * steps + step, EPOCHS * steps)
            optimizer.zero_grad()
            torch.cat(nlls).mean().backward()
            torch.nn.utils.clip_grad_norm_(weights, CLIPPING)
            optimizer.step()
            losses += torch.cat(nlls).tolist()
        epoch_losses.append(sum(losses) / len(losses))
    plain = {**dict(model.named_parameters()), **dict(head.named_parameters())}
    for stage in STAGES:
        course = ended[f"full, stage {stage}"]
        assert [report.loss for report in course.reports] == pytest.approx(epoch_losses, abs=1e-5)
        learnt = weights_of(course)
        assert learnt.keys() <= plain.keys()
        for name, weight in learnt.items():
            torch.testing.assert_close(weight, plain[name].data, atol=2e-5, rtol=0, msg=f"{name}, stage {stage}")


def marginal_logprobs(model: torch.nn.Module, head: torch.nn.Module, scores: TextScores, i: int) -> torch.Tensor:
    """Of one example's targets, from the model's whole output."""
    text = scores.text(i)
    output = model(input_ids=torch.tensor([text.input_ids]), output_hidden_states=True)
    before = [t - 1 for t, is_target in enumerate(text.target_mask) if is_target]
    gold = torch.tensor([text.input_ids[t + 1] for t in before])
    base = output.logits[0, before].log_softmax(-1).gather(1, gold[:, None])
    experts = scores.gold_logprob[scores.targets(i), 1:]
    return marginal_logprob(head(output.hidden_states[-1][0, before]), torch.cat([base, experts], dim=1))


@pytest.mark.parametrize("name", ["full, stage 2", "full, stage 3", "lora, stage 2"])
def test_a_stopped_training_ends_as_an_undisturbed_one(name: str, ended: dict[str, Ended]) -> None:
    undisturbed, stopped = ended[name], ended[f"{name}, stopped"]
    for one, other in zip(undisturbed.reports, stopped.reports, strict=True):
        assert (one.loss, one.validation_loss, one.deferral) == (other.loss, other.validation_loss, other.deferral)
    expected, resumed = weights_of(undisturbed), weights_of(stopped)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)


def test_losses_are_those_of_the_golden_file(ended: dict[str, Ended]) -> None:
    """After a change of the training that is meant, write the new losses into the file."""
    golden = json.loads(GOLDEN.read_text())
    found = {
        name: [[round(report.loss, 5), round(report.validation_loss or 0.0, 5)] for report in one.reports]
        for name, one in ended.items()
        if "stopped" not in name and not one.error
    }
    assert found.keys() == golden.keys()
    for name, losses in found.items():
        for row, expected in zip(losses, golden[name], strict=True):
            assert row == pytest.approx(expected, abs=2e-2 if name == "bfloat16" else 2e-4), name


def test_what_is_saved_says_the_same_of_the_validation_targets(
    ended: dict[str, Ended], collaboration: Collaboration, scored_tiny: Path
) -> None:
    scores = ScoreFolder.of(collaboration, collaboration.data.sources, scored_tiny / "scores").read_texts("validation")
    result = ended["full, stage 3"].result
    model = AutoModelForCausalLM.from_pretrained(result.weights)
    with torch.no_grad():
        logprobs = torch.cat([marginal_logprobs(model, result.head, scores, i) for i in range(len(scores.example_ids))])
    told = torch.cat([result.validated.base_logprob[:, None], scores.gold_logprob[:, 1:]], dim=1)
    torch.testing.assert_close(marginal_logprob(result.validated.scores, told), logprobs, atol=1e-5, rtol=0)
    last = ended["full, stage 3"].reports[-1]
    assert last.validation_loss == pytest.approx(-float(logprobs.mean()), abs=1e-5)


def test_a_fine_tuned_base_knows_no_head(ended: dict[str, Ended]) -> None:
    finetuned = ended["finetune"]
    assert not finetuned.result.head.weight.any()
    assert finetuned.reports[-1].validation_loss == pytest.approx(
        -float(finetuned.result.validated.base_logprob.mean()), abs=1e-6
    )
    assert set((finetuned.reports[-1].deferral or {}).values()) == {0.0}


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("no such stage", "training.base.deepspeed: DeepSpeed refuses it"),
        ("no such layer", "training.base.lora: does not fit .*nothing"),
    ],
)
def test_what_cannot_be_trained_is_refused(name: str, error: str, ended: dict[str, Ended]) -> None:
    assert re.search(error, ended[name].error, re.DOTALL)


def test_micro_batches_hold_each_example_once(scored_tiny: Path, collaboration: Collaboration) -> None:
    scores = ScoreFolder.of(collaboration, collaboration.data.sources, scored_tiny / "scores").read_texts("train")
    batches = list(micro_batches(scores, [7, 2, 5, 0, 3], size=2, count=4))
    assert [len(batch.input_ids) for batch in batches] == [2, 2, 1, 1]
    assert sorted(t for batch in batches for t in batch.targets.tolist()) == sorted(
        t for i in (7, 2, 5, 0, 3) for t in range(len(scores.example))[scores.targets(i)]
    )
    for batch in batches:
        after = batch.input_ids.flatten()[batch.wanted + 1]
        assert torch.equal(after, batch.gold)
    assert not len(batches[-1].targets)
