"""What is told where a replica cannot be constructed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import serve

from colllm_ray.config import ServingConfig
from colllm_ray.decoding.team_spec import TeamSpec
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.errors import ColllmError
from colllm_ray.serving.application import router_application, running
from colllm_ray.serving.deployments import QUIET, _all_have
from tests.collaborations import random_collaboration
from tests.conftest import ModelFolder


def test_a_model_that_cannot_be_constructed_is_told_in_one_line(model_folder: ModelFolder, ray_local: None) -> None:  # noqa: ARG001
    trained = replace(random_collaboration(model_folder, "llama", ["qwen3"]), head=DeferralHead(16, 1))
    with pytest.raises(ColllmError) as failed, running(router_application(TeamSpec.of(trained)), "wide"):
        pass
    message = str(failed.value)
    assert message.startswith(f"wide cannot start: Router: {model_folder('llama', 0)}: has hidden states of width 32")
    assert message.count("\n") == 0


def test_a_constructor_is_tried_once_whatever_it_raises(tmp_path: Path, ray_local: None) -> None:  # noqa: ARG001
    class Broken:
        def __init__(self) -> None:
            (tmp_path / str(time.monotonic_ns())).touch()
            raise ZeroDivisionError("nothing to divide by")

    options = {**_all_have(ServingConfig()), "logging_config": QUIET, "ray_actor_options": {"num_cpus": 0.05}}
    deployment: Any = serve.deployment(**options)(Broken)
    reason = "broken cannot start: Broken: ZeroDivisionError: nothing to divide by"
    with pytest.raises(ColllmError, match=f"^{reason}$"), running(deployment.bind(), "broken"):
        pass
    assert len(list(tmp_path.iterdir())) == 1
