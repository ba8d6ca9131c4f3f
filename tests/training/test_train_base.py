"""Bases that learn, by real Ray Train workers."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from colllm_ray.config import Collaboration, TrainingConfig
from colllm_ray.decoding.team_spec import TeamSpec
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.weights import weights_revision
from colllm_ray.errors import ColllmError
from colllm_ray.storage import location
from colllm_ray.training.run_log import EVENTS, read_reports
from colllm_ray.training.train import train
from tests.commands import wait_until
from tests.conftest import SHORT_TRAINING
from tests.processes import started_processes

pytestmark = pytest.mark.usefixtures("ray_local")


def learning(tiny: Collaboration, **training: object) -> Collaboration:
    return tiny.model_copy(update={"training": TrainingConfig.model_validate({**SHORT_TRAINING, **training})})


@pytest.fixture
def run_with_head(trained_tiny: Path, tmp_path: Path) -> Path:
    """A run whose head is fitted: the same for all that a base does with it."""
    shutil.copytree(trained_tiny, tmp_path / "run")
    return tmp_path / "run"


def test_a_killed_worker_is_replaced_and_the_training_ends_as_an_undisturbed_one(
    tiny: Collaboration, run_with_head: Path, tmp_path: Path
) -> None:
    base = {"epochs": 6, "batch_size": 4, "micro_batch_size": 1, "learning_rate": 1e-3, "checkpoint_steps": 2}
    collaboration = learning(tiny, mode="full", base=base)
    undisturbed_run = tmp_path / "undisturbed"
    shutil.copytree(run_with_head, undisturbed_run)
    undisturbed = train(collaboration, undisturbed_run)

    def reports(run: Path) -> list[tuple[int, float, float | None]]:
        kept = [one for folder in run.glob("training/full-*") for one in read_reports(location(folder))]
        # An epoch has three steps; after its first one, only a slow machine reports.
        return [(one.step, one.loss, one.validation_loss) for one in kept if one.step % 3 != 1]

    def kill_one() -> None:
        wait_until(lambda: bool(reports(run_with_head)), "the first checkpoint of the base")
        started_processes("RayTrainWorker")[0].kill()

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_one)
        killed = train(collaboration, run_with_head)
        killing.result()
    # What was reported and not yet kept when the worker died is reported again; it did not begin anew.
    assert len(reports(run_with_head)) <= len(reports(undisturbed_run)) + 2
    assert dict.fromkeys(reports(run_with_head)) == dict.fromkeys(reports(undisturbed_run))
    assert [step for step, _, _ in reports(undisturbed_run)] == [i for i in range(1, 19) if i % 3 != 1]
    assert killed.calibration == undisturbed.calibration
    assert torch.equal(killed.head.weight, undisturbed.head.weight)
    assert weights_revision(killed.collaboration.base) == weights_revision(undisturbed.collaboration.base)
    (events,) = run_with_head.glob(f"training/full-*/{EVENTS}")
    assert events.stat().st_size > 1000


def test_an_adapter_is_trained_and_comes_with_the_collaboration(
    tiny: Collaboration, run_with_head: Path, tmp_path: Path
) -> None:
    base = {"epochs": 2, "batch_size": 4, "micro_batch_size": 1, "learning_rate": 1e-2, "lora": {"rank": 4}}
    trained = train(learning(tiny, mode="lora", base=base), run_with_head)
    assert TeamSpec.of(trained).trained is trained
    ids, wanted = torch.tensor([[5, 6, 7]]), torch.tensor([0, 1, 2])
    plain, _ = LanguageModel.load(tiny.base, 300).forward(ids, wanted)
    adapted, _ = LanguageModel.load(trained.collaboration.base, 300).forward(ids, wanted)
    assert float((adapted - plain).abs().max()) > 0.01
    revision = weights_revision(trained.collaboration.base)
    shutil.move(run_with_head / "collaboration", tmp_path / "elsewhere")  # it needs nothing of the run
    moved = TrainedCollaboration.load(tmp_path / "elsewhere")
    assert weights_revision(moved.collaboration.base) == revision
    assert TeamSpec.of(moved).trained is moved
    with pytest.raises(ColllmError, match="mode lora trains an adapter of its own"):
        train(moved.collaboration, run_with_head)


def test_what_the_user_has_to_change_is_told_at_once(tiny: Collaboration, tiny_run: Path) -> None:
    """Here what only a worker finds."""
    collaboration = learning(
        tiny, mode="full", objective="finetune", base={"deepspeed": {"zero_optimization": {"stage": 9}}}, workers=1
    )
    with pytest.raises(ColllmError, match=r"training.base.deepspeed: DeepSpeed refuses it"):
        train(collaboration, tiny_run)
