"""Ray Train: workers that run a loop to its end, die, and are started again from the last checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import ray
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    ControllerError,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
    WorkerGroupError,
)
from ray.train.torch import TorchConfig, TorchTrainer
from rich.console import Console
from upath import UPath

from colllm_ray.errors import ColllmError
from colllm_ray.storage import arrow_filesystem
from colllm_ray.training.run_bar import run_bar
from colllm_ray.training.run_log import RunLog

Task = TypeVar("Task")


@dataclass(frozen=True)
class Workers:
    """How many there are, what each has, and how often they may be started again."""

    count: int
    num_cpus: float
    num_gpus: int
    max_failures: int


def run_workers(
    loop: Callable[[Mapping[str, Task]], None], task: Task, workers: Workers, storage: UPath, name: str, title: str
) -> Checkpoint:
    """Runs `loop({"task": task})` on every worker, and returns the last checkpoint.

    A run of that name in `storage` goes on from its last checkpoint. Raises a worker's ColllmError at once, as it is.
    """
    filesystem, path = arrow_filesystem(storage)
    trainer = _Trainer(
        loop,
        train_loop_config={"task": task},
        torch_config=TorchConfig(backend="nccl" if workers.num_gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers.count,
            use_gpu=workers.num_gpus > 0,
            resources_per_worker={"CPU": workers.num_cpus, "GPU": workers.num_gpus},
        ),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=workers.max_failures),
            callbacks=[RunLog(storage / name), _StopAtUsersErrors()],
        ),
    )
    for kind, each in (("CPU", workers.num_cpus), ("GPU", workers.num_gpus)):
        if (wanted := workers.count * each) > (there := ray.cluster_resources().get(kind, 0)):
            Console(stderr=True).print(f"{title}: waits for {wanted:g} {kind}s; the cluster has {there:g} now")
    with run_bar(storage / name, title):
        try:
            checkpoint = trainer.fit().checkpoint
        except (WorkerGroupError, ControllerError) as error:
            if (users := _users_error(error)) is not None:
                raise users from error
            raise
    assert checkpoint is not None, "a run ends with a checkpoint"
    return checkpoint


class _Trainer(TorchTrainer):
    """Leaves Ctrl-C to the command."""

    def _register_sigint_handler(self, controller: object) -> None:
        """Ray Train would keep it, also when the run is over, and end the process as if all were well."""


class _StopAtUsersErrors(UserCallback):
    """Another try would not help where the user's input is wrong."""

    def after_exception(self, run_context: object, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        for failure in worker_exceptions.values():
            if isinstance(cause := _cause(failure), ColllmError):
                raise cause


def _users_error(error: WorkerGroupError | ControllerError) -> ColllmError | None:
    failures = error.worker_failures.values() if isinstance(error, WorkerGroupError) else [error.controller_failure]
    causes = (_cause(failure) for failure in failures)
    return next((cause for cause in causes if isinstance(cause, ColllmError)), None)


def _cause(failure: Exception) -> Exception:
    """What a worker raised: Ray Train wraps it, with the worker's traceback."""
    cause: Exception = getattr(failure, "_base_exc", failure)
    return cause
