"""What makes a deployment start anew when it is deployed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import serve

from colllm_ray.decoding.team_spec import TeamSpec
from colllm_ray.deferral.calibration import Calibration
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.serving.application import http_application
from tests.collaborations import random_collaboration

ModelFolder = Callable[[str, int], Path]
ALL = {"Ingress", "Router", "Expert-e0", "Expert-e1"}


@pytest.fixture(scope="module")
def trained(model_folder: ModelFolder) -> TrainedCollaboration:
    return random_collaboration(model_folder, "llama", ["mistral", "qwen3"])


def versions(trained: TrainedCollaboration) -> dict[str, str]:
    def each(application: serve.Application) -> Iterator[tuple[str, str]]:
        deployment = application._bound_deployment
        yield deployment.name, deployment.version
        for argument in deployment.init_args:
            if isinstance(argument, serve.Application):
                yield from each(argument)

    return dict(each(http_application(TeamSpec.of(trained), frozenset())))


def changed(trained: TrainedCollaboration, **update: Any) -> TrainedCollaboration:
    """With another first expert."""
    first, *others = trained.collaboration.experts
    experts = (first.model_copy(update=update), *others)
    return replace(trained, collaboration=trained.collaboration.model_copy(update={"experts": experts}))


def differing(one: TrainedCollaboration, other: TrainedCollaboration) -> set[str]:
    before, after = versions(one), versions(other)
    assert set(before) == set(after) == ALL
    return {name for name in before if before[name] != after[name]}


def test_what_has_not_changed_keeps_its_version(trained: TrainedCollaboration, model_folder: ModelFolder) -> None:
    assert differing(trained, trained) == set()
    assert differing(trained, changed(trained, replicas=3, max_per_node=2)) == set()
    assert differing(trained, changed(trained, model=str(model_folder("mistral", 5)))) == {"Expert-e0"}
    assert differing(trained, changed(trained, max_sessions=7)) == {"Expert-e0", "Router"}
    assert differing(trained, changed(trained, silence_s=3.0)) == {"Expert-e0", "Router"}
    assert differing(trained, replace(trained, calibration=Calibration(0.7, ()))) == {"Ingress", "Router"}


def test_weights_that_are_written_anew_are_another_version(
    model_folder: ModelFolder, trained: TrainedCollaboration, tmp_path: Path
) -> None:
    folder = tmp_path / "mistral"
    folder.mkdir()
    for file in model_folder("mistral", 1).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    before = versions(changed(trained, model=str(folder)))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    after = versions(changed(trained, model=str(folder)))
    assert {name for name in before if before[name] != after[name]} == {"Expert-e0"}
