"""What a scoring has left in its run folder."""

from __future__ import annotations

from pathlib import Path

from colllm_ray.config import Collaboration
from colllm_ray.scoring.score_folder import ScoreFolder
from colllm_ray.scoring.scores import FeatureScores


def read(collaboration: Collaboration, run: Path, split: str) -> FeatureScores:
    return ScoreFolder.of(collaboration, collaboration.data.sources, run / "scores").read(split)


def shards(run: Path) -> dict[str, int]:
    """Every Parquet file and when it was written."""
    return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in run.rglob("*.parquet")}
