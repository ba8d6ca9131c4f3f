from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from colllm_ray.config import Collaboration
from colllm_ray.deferral.calibration import Calibration, Candidate
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.errors import ColllmError


@pytest.fixture
def trained(model_folder: Callable[[str, int], Path], tmp_path: Path) -> TrainedCollaboration:
    collaboration = Collaboration.model_validate(
        {
            "name": "two",
            "base": {"model": str(model_folder("llama", 0))},
            "experts": [{"name": "other", "model": str(model_folder("qwen3", 0))}],
            "data": {"train": str(tmp_path / "t"), "validation": str(tmp_path / "v")},
        }
    )
    head = DeferralHead(32, 1)
    torch.nn.init.normal_(head.weight)
    return TrainedCollaboration(collaboration, head, Calibration(0.25, (Candidate(0.1, 0.25, 0.5, 0.75),)), "r1")


def test_what_is_saved_is_loaded(trained: TrainedCollaboration, tmp_path: Path) -> None:
    trained.save(tmp_path / "collaboration")
    trained.save(tmp_path / "collaboration")  # again, in its place
    loaded = TrainedCollaboration.load(tmp_path / "collaboration")
    assert loaded.collaboration == trained.collaboration
    assert loaded.calibration == trained.calibration
    assert loaded.base_revision == "r1"
    assert torch.equal(loaded.head.weight, trained.head.weight)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("name", ["base", "adapter"])
def test_trained_weights_come_along(name: str, trained: TrainedCollaboration, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    for file in ("config.json", "adapter_config.json", "weights"):
        (tmp_path / name / file).write_text(file)
    trained.save(tmp_path / "collaboration", tmp_path / name)
    (tmp_path / "collaboration").rename(tmp_path / "moved")
    base = TrainedCollaboration.load(tmp_path / "moved").collaboration.base
    if name == "base":
        assert (base.model, base.adapter) == (str(tmp_path / "moved/base"), None)
    else:
        assert (base.model, base.adapter) == (trained.collaboration.base.model, str(tmp_path / "moved/adapter"))
    assert (tmp_path / "moved" / name / "weights").read_text() == "weights"


@pytest.mark.parametrize(
    ("stored", "now", "fits"),
    [
        ("abc", "abc", True),
        ("abc", "abd", False),
        ("abc", "abc+def", False),
        ("abc+def", "abc+def", True),
        ("abc+beside", "abc+def", True),
        ("abc+beside", "abd+def", False),
        ("abc+beside", "abc", False),
        ("beside", "anything", True),
    ],
)
def test_the_base_must_have_the_weights_that_the_head_reads(
    stored: str, now: str, fits: bool, trained: TrainedCollaboration
) -> None:
    assert replace(trained, base_revision=stored).base_fits(now) == fits


@pytest.mark.parametrize("name", ["collaboration.yaml", "head.safetensors", "calibration.json"])
@pytest.mark.parametrize("content", [None, b"\x00broken"])
def test_a_missing_or_corrupt_file_is_named(
    name: str, content: bytes | None, trained: TrainedCollaboration, tmp_path: Path
) -> None:
    folder = tmp_path / "collaboration"
    trained.save(folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ColllmError, match=name):
        TrainedCollaboration.load(folder)


def test_a_head_of_another_collaboration_is_refused(trained: TrainedCollaboration, tmp_path: Path) -> None:
    trained.save(tmp_path / "wrong")
    path = tmp_path / "wrong" / "collaboration.yaml"
    path.write_text(path.read_text().replace("name: other", "name: another"))
    with pytest.raises(ColllmError, match=r'was trained for the experts \["other"\], .* names \["another"\]'):
        TrainedCollaboration.load(tmp_path / "wrong")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ColllmError, match="none: there is no such folder"):
        TrainedCollaboration.load(tmp_path / "none")
