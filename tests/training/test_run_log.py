from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from colllm_ray.storage import location
from colllm_ray.training.report import Report
from colllm_ray.training.run_log import EVENTS, RunLog, read_reports

pytestmark = pytest.mark.usefixtures("ray_local")  # whose metrics are written

FIRST = Report("marginal", 1, 10, 2.5, 100, 100, 50.0, time=1000.0)
SECOND = replace(FIRST, epoch=2, step=20, loss=1.5, targets_done=200, targets_to_go=0, time=2000.0)
SECOND = replace(SECOND, validation_loss=1.25, deferral={"math": 0.25})


def scalars(path: Path) -> list[tuple[str, int, float, float]]:
    """Tag, step, value and time of TensorBoard's records: a length, its checksum, an event, its checksum."""
    content, found = path.read_bytes(), []
    while content:
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        found += [(value.tag, event.step, value.simple_value, event.wall_time) for value in event.summary.value]
        content = content[16 + length :]
    return found


def test_reports_are_kept_for_people_and_for_tensorboard(tmp_path: Path) -> None:
    folder = location(tmp_path)
    RunLog(folder).after_report(None, [asdict(FIRST), asdict(FIRST)], None)
    RunLog(folder).after_report(None, [asdict(SECOND)], None)  # a run that goes on
    assert read_reports(folder) == [FIRST, SECOND]
    assert scalars(tmp_path / EVENTS) == [
        ("loss/train", 10, 2.5, 1000.0),
        ("targets_per_second", 10, 50.0, 1000.0),
        ("loss/train", 20, 1.5, 2000.0),
        ("targets_per_second", 20, 50.0, 2000.0),
        ("loss/validation", 20, 1.25, 2000.0),
        ("deferral/math", 20, 0.25, 2000.0),
    ]
    assert not list(tmp_path.glob("*.tmp"))


def test_a_run_without_reports_has_none(tmp_path: Path) -> None:
    assert read_reports(location(tmp_path / "nothing")) == []
