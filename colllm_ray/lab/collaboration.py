"""The lab as a collaboration: where it lies, and its head, trained when it is first wanted."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from platformdirs import user_cache_path

from colllm_ray import __version__
from colllm_ray.config import Collaboration
from colllm_ray.engine.weights import weights_revision
from colllm_ray.ray_session import ray_session
from colllm_ray.scoring.score import score
from colllm_ray.training.train import train

SHIPPED = Path(__file__).parent / "shipped"


def lab_config() -> Path:
    """The YAML file of the lab that ships with the package."""
    return SHIPPED / "lab.yaml"


def trained_lab(address: str | None) -> Path:
    """The folder of the trained lab in the user's cache; trains it there, on the Ray at `address`, the first time."""
    collaboration = Collaboration.load(lab_config())
    revisions = [weights_revision(config) for config in collaboration.members.values()]
    key = hashlib.sha256(repr((__version__, str(SHIPPED), revisions)).encode()).hexdigest()[:16]
    run = user_cache_path("colllm_ray") / f"lab-{key}"
    if not run.is_dir():
        unfinished = run.with_name(f"{run.name}.{os.getpid()}.tmp")  # two first uses do not meet
        unfinished.mkdir(parents=True)  # where that is not possible, it is told before a Ray starts
        with ray_session(address, collaboration):
            score(collaboration, unfinished)
            train(collaboration, unfinished)
        if run.is_dir():
            shutil.rmtree(unfinished)
        else:
            unfinished.rename(run)
    return run / "collaboration"
