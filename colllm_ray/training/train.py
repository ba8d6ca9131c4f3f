"""The Ray Train job that fits the head: the stage `colllm train`."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer
from upath import UPath

from colllm_ray.config import Collaboration, TrainingConfig
from colllm_ray.deferral.calibration import calibrate
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.errors import ColllmError
from colllm_ray.scoring.score_folder import ScoreFolder
from colllm_ray.scoring.scores import Part
from colllm_ray.storage import Where, arrow_filesystem, location
from colllm_ray.training.checkpoint import load_checkpoint, load_head, save_checkpoint
from colllm_ray.training.head_training import EpochReport, HeadTraining, train_to_the_end
from colllm_ray.training.progress import EpochLog, epoch_bar


@dataclass(frozen=True)
class WorkerTask:
    """What every worker of a run is given."""

    scores: ScoreFolder
    config: TrainingConfig


def train(collaboration: Collaboration, run: Where) -> TrainedCollaboration:
    """Trains the head on RUN/scores, chooses the threshold and writes RUN/collaboration.

    A call that was killed goes on from the last finished epoch when it is repeated. Raises ColllmError where the
    scores are missing, corrupt or of something else.
    """
    run = location(run)
    folder = ScoreFolder.of(collaboration, collaboration.data.sources, run / "scores")
    folder.check_failed(collaboration.data.max_failed)
    validation = folder.read("validation")
    checkpoint = _run_trainer(WorkerTask(folder, collaboration.training), run / "training")
    with checkpoint.as_directory() as checkpoint_folder:
        head = load_head(Path(checkpoint_folder))
    with torch.no_grad():
        calibration = calibrate(head(validation.features.float()), validation.top1, validation.example)
    trained = TrainedCollaboration(collaboration, head, calibration, folder.made_from["base"].revision)
    trained.save(run / "collaboration")
    return trained


def _run_trainer(task: WorkerTask, storage: UPath) -> Checkpoint:
    # Ray Train restores a run of the same name: the name says all that the result depends on.
    name = hashlib.sha256(repr((task.config, task.scores.made_from)).encode()).hexdigest()[:16]
    log = storage / name / "epochs.jsonl"
    filesystem, path = arrow_filesystem(storage)
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"task": task},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=task.config.workers),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            callbacks=[EpochLog(log)],
        ),
    )
    with epoch_bar(log, task.config.all_epochs):
        try:
            checkpoint = trainer.fit().checkpoint
        except WorkerGroupError as error:
            for failure in error.worker_failures.values():
                cause = getattr(failure, "_base_exc", failure)  # Ray's own wrapping, with the worker's traceback
                if isinstance(cause, ColllmError):
                    raise cause from error
            raise
    assert checkpoint is not None, "every epoch leaves a checkpoint"
    return checkpoint


def _train_worker(loop_config: dict[str, WorkerTask]) -> None:
    task, context = loop_config["task"], ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    train, validation = (task.scores.read(split, Part(rank, workers)) for split in ("train", "validation"))
    training = HeadTraining(train, validation, task.config)
    last = ray.train.get_checkpoint()
    if last is not None:
        with last.as_directory() as folder:
            training.epochs_done = load_checkpoint(Path(folder), training.head, training.optimizer)

    def report(epoch: EpochReport) -> None:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if rank == 0:
                save_checkpoint(Path(folder), training.head, training.optimizer, training.epochs_done)
                checkpoint = Checkpoint.from_directory(folder)
            ray.train.report(asdict(epoch), checkpoint=checkpoint)

    train_to_the_end(training, report)
