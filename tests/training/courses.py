"""Trainings of a base by two processes, without Ray: what the tests of base training look at."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing

from colllm_ray.config import Collaboration, TrainingConfig
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.errors import ColllmError
from colllm_ray.scoring.score_folder import ScoreFolder
from colllm_ray.scoring.scores import Part
from colllm_ray.training.base_result import BaseResult
from colllm_ray.training.report import Report

WORKERS = 2


@dataclass(frozen=True)
class Course:
    """A training to run; one that `stops` at its first checkpoint is given up, and another goes on from there."""

    training: TrainingConfig
    stops: bool = False


@dataclass(frozen=True)
class Ended:
    """What a course left: the reports of its epochs' ends, or the `error` that refused it; and its last checkpoint."""

    reports: list[Report]
    error: str
    folder: Path

    @property
    def result(self) -> BaseResult:
        return BaseResult.read(self.folder, WORKERS)


def started_head(collaboration: Collaboration, training: TrainingConfig) -> DeferralHead:
    """A head that is neither zero nor learnt; zero where the base is fine-tuned without one."""
    head = DeferralHead(32, len(collaboration.experts))
    if training.objective != "finetune":
        torch.manual_seed(5)
        torch.nn.init.normal_(head.weight, std=0.05)
    return head


def run_courses(
    collaboration: Collaboration, run: Path, courses: Mapping[str, Course], folder: Path
) -> dict[str, Ended]:
    """Runs them one after the other, in the same two processes."""
    multiprocessing.spawn(_run, (collaboration, run, courses, folder), nprocs=WORKERS)  # type: ignore[attr-defined, no-untyped-call]
    ended = {}
    for name in courses:
        told = json.loads((folder / name / "told.json").read_text())
        ended[name] = Ended([Report(**row) for row in told["reports"]], told["error"], folder / name)
    return ended


class _StopHere(Exception):  # noqa: N818 (no error)
    pass


def _run(rank: int, collaboration: Collaboration, run: Path, courses: Mapping[str, Course], folder: Path) -> None:
    os.environ.update(DS_ACCELERATOR="cpu", RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(WORKERS))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORKERS)
    scores = ScoreFolder.of(collaboration, collaboration.data.sources, run / "scores")
    for name, course in courses.items():
        (folder / name).mkdir(exist_ok=True)
        told: dict[str, object] = {"reports": [], "error": ""}
        try:
            told["reports"] = [asdict(report) for report in _reports_of(course, collaboration, scores, folder / name)]
        except ColllmError as error:
            told["error"] = str(error)
        if rank == 0:
            (folder / name / "told.json").write_text(json.dumps(told))
    dist.barrier()
    dist.destroy_process_group()


def _reports_of(course: Course, collaboration: Collaboration, scores: ScoreFolder, folder: Path) -> list[Report]:
    from colllm_ray.training.base_engine import build_engine, export
    from colllm_ray.training.base_training import BaseTraining, Position, steps_an_epoch
    from colllm_ray.training.deepspeed_config import batch_sizes

    training, part = course.training, Part(dist.get_rank(), WORKERS)
    train, validation = (scores.read_texts(split, part) for split in ("train", "validation"))
    steps = steps_an_epoch(len(train.example_ids), batch_sizes(training, WORKERS).step, torch.device("cpu"))

    def new() -> tuple[Any, BaseTraining]:
        head = started_head(collaboration, training)
        engine = build_engine(training, collaboration.base, 300, head, steps * training.base.epochs)
        return engine, BaseTraining(engine, train, validation, training, collaboration.prices, steps)

    stopped_at: list[Position] = []

    def stop(_report: Report) -> None:
        run.save(folder / "stopped")
        stopped_at.append(run.at)
        raise _StopHere

    def go_on(_report: Report) -> None:
        pass

    engine, run = new()
    reports = []
    if course.stops:
        with suppress(_StopHere):
            run.run_epoch(go_on, stop)
        engine, run = new()
        run.load(folder / "stopped")
        assert stopped_at == [run.at]
        assert run.at.steps > 0
    while not run.is_done:
        validated = run.run_epoch(go_on, go_on)
        reports.append(run.end_epoch(validated))
    export(engine, training, collaboration.base, folder)
    validated.write(folder, part.rank)
    return reports
