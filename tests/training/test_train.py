from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from colllm_ray.config import Collaboration
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.errors import ColllmError
from colllm_ray.storage import location
from colllm_ray.training.report import Report
from colllm_ray.training.run_log import read_reports
from colllm_ray.training.train import train
from tests.commands import kill_when, start_colllm

pytestmark = pytest.mark.usefixtures("ray_local")


def reports_of(run: Path, kind: str = "head") -> list[Report]:
    """Without what depends on the clock."""
    reports = [report for folder in run.glob(f"training/{kind}-*") for report in read_reports(location(folder))]
    return [replace(report, time=0.0, targets_per_second=0.0) for report in reports]


def test_a_killed_training_goes_on_and_ends_as_an_undisturbed_one(
    tiny: Collaboration, tiny_run: Path, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    shutil.copytree(tiny_run, killed)
    training = tiny.training.model_copy(update={"epochs": 24})  # time enough to be killed in
    tiny = tiny.model_copy(update={"training": training})
    (tmp_path / "long.yaml").write_text(tiny.to_yaml())
    undisturbed = train(tiny, tiny_run)
    process = start_colllm("train", tmp_path / "long.yaml", "--out", killed)
    kill_when(process, signal.SIGKILL, lambda: len(reports_of(killed)) >= 4)
    assert not (killed / "collaboration").exists()
    resumed = train(tiny, killed)
    assert torch.equal(resumed.head.weight, undisturbed.head.weight)
    assert [report.epoch for report in reports_of(killed)] == list(range(1, 26))
    assert reports_of(killed) == reports_of(tiny_run)
    loaded = TrainedCollaboration.load(killed / "collaboration")
    assert torch.equal(loaded.head.weight, resumed.head.weight)
    assert loaded.calibration == undisturbed.calibration
    repeated = train(tiny, killed)
    assert torch.equal(repeated.head.weight, undisturbed.head.weight)
    assert len(reports_of(killed)) == 25  # nothing was left to do


def test_scores_that_do_not_fit_are_refused(tiny: Collaboration, tiny_run: Path) -> None:
    path = tiny_run / "scores/qwen/part-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(ColllmError, match=r"scores/qwen/part-00001.parquet: its example ids are not those"):
        train(tiny, tiny_run)
    assert not (tiny_run / "collaboration").exists()


def test_a_missing_shard_is_named(tiny: Collaboration, tiny_run: Path) -> None:
    (tiny_run / "scores/features/part-00002.parquet").unlink()
    with pytest.raises(ColllmError, match=r"features/part-00002.parquet: is missing; `colllm score` makes it"):
        train(tiny, tiny_run)


def test_a_run_may_lie_on_an_object_store(tiny: Collaboration, tiny_run: Path, s3_folder: str) -> None:
    location(s3_folder).fs.put(f"{tiny_run}/scores", f"{s3_folder}/scores", recursive=True)
    trained = train(tiny, s3_folder)
    loaded = TrainedCollaboration.load(f"{s3_folder}/collaboration")
    assert torch.equal(loaded.head.weight, trained.head.weight)
    assert loaded.calibration == trained.calibration
    assert loaded.collaboration == tiny
    assert torch.equal(trained.head.weight, train(tiny, tiny_run).head.weight)
