from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from colllm_ray.config import Collaboration
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.errors import ColllmError
from colllm_ray.scoring.score_folder import ScoreFolder
from colllm_ray.storage import Where, location
from colllm_ray.training.report import Report
from colllm_ray.training.run_log import read_reports
from colllm_ray.training.train import train
from tests.commands import kill_when, ray_address, start_colllm

pytestmark = pytest.mark.usefixtures("ray_local")


def reports_of(run: Where) -> list[Report]:
    """Without what depends on the clock."""
    folders = location(run).glob("training/head-*")
    reports = [report for folder in folders for report in read_reports(folder)]
    return [replace(report, time=0.0, targets_per_second=0.0) for report in reports]


def test_a_killed_training_goes_on_and_ends_as_an_undisturbed_one_on_an_object_store(
    tiny: Collaboration, tiny_run: Path, tmp_path: Path, s3_folder: str
) -> None:
    """Where a run lies makes no difference either."""
    location(s3_folder).fs.put(f"{tiny_run}/scores", f"{s3_folder}/scores", recursive=True)
    training = tiny.training.model_copy(update={"epochs": 16, "workers": 1})  # time enough to be killed in
    tiny = tiny.model_copy(update={"training": training})
    (tmp_path / "long.yaml").write_text(tiny.to_yaml())
    handler = signal.getsignal(signal.SIGINT)
    undisturbed = train(tiny, s3_folder)
    assert signal.getsignal(signal.SIGINT) is handler, "Ctrl-C is the command's"
    process = start_colllm("train", tmp_path / "long.yaml", "--out", tiny_run, "--address", ray_address())
    kill_when(process, signal.SIGKILL, lambda: len(reports_of(tiny_run)) >= 4)
    assert not (tiny_run / "collaboration").exists()
    resumed = train(tiny, tiny_run)
    assert [report.epoch for report in reports_of(tiny_run)] == list(range(1, 18))
    assert reports_of(tiny_run) == reports_of(s3_folder)
    for folder, trained in ((tiny_run / "collaboration", resumed), (f"{s3_folder}/collaboration", undisturbed)):
        loaded = TrainedCollaboration.load(folder)
        assert torch.equal(loaded.head.weight, undisturbed.head.weight)
        assert loaded.calibration == trained.calibration == undisturbed.calibration
        assert loaded.collaboration == tiny


def test_scores_that_do_not_fit_are_refused(tiny: Collaboration, tiny_run: Path) -> None:
    path = tiny_run / "scores/qwen/part-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(ColllmError, match=r"scores/qwen/part-00001.parquet: its example ids are not those"):
        ScoreFolder.of(tiny, tiny.data.sources, tiny_run / "scores").read("train")


def test_a_missing_shard_is_named(tiny: Collaboration, tiny_run: Path) -> None:
    (tiny_run / "scores/features/part-00002.parquet").unlink()
    with pytest.raises(ColllmError, match=r"features/part-00002.parquet: is missing; `colllm score` makes it"):
        ScoreFolder.of(tiny, tiny.data.sources, tiny_run / "scores").read("train")
