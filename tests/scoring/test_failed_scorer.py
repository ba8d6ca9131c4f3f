"""What is told where a scorer cannot be constructed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from colllm_ray.config import Collaboration
from colllm_ray.errors import ColllmError
from colllm_ray.progress import progress_bars
from colllm_ray.scoring.score import _run, _Work
from colllm_ray.scoring.score_folder import ScoreFolder
from colllm_ray.scoring.scorer import ScoringTask


def test_a_scorer_that_cannot_be_started_is_told_in_one_line(tiny: Collaboration, tiny_run: Path) -> None:
    folder, config = ScoreFolder.of(tiny, tiny.data.sources, tiny_run / "scores"), tiny.members["qwen"]
    other = replace(folder.made_from["qwen"], revision="that of other weights")
    task = ScoringTask("qwen", config, 300, 60, folder.path, other, folder.made_from["examples"])
    work = _Work(task, folder.manifest(), [None for _ in folder.manifest().shards])
    with pytest.raises(ColllmError) as failed, progress_bars() as progress:
        _run([work], False, progress)
    reason = f"{config.model}: its weights changed while it was to score; score again"
    assert str(failed.value) == f"a scorer died: {reason}"
