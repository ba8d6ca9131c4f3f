"""The course of a run as it is kept: its reports as JSON lines, for TensorBoard, and as metrics of Ray.

Ray Train's controller hears the reports, after the checkpoint that came with one is safe.
"""

from __future__ import annotations

import json
import logging
import struct
from dataclasses import asdict
from typing import Any

from ray.train import Checkpoint, UserCallback
from ray.util.metrics import Counter, Gauge
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c
from upath import UPath

from colllm_ray.storage import write_whole
from colllm_ray.training.report import Report

REPORTS = "reports.jsonl"
EVENTS = "events.out.tfevents.colllm"


class RunLog(UserCallback):
    """Keeps what the first worker reports in the run's folder; a run that goes on goes on in the same files."""

    def __init__(self, folder: UPath) -> None:
        self._folder = folder
        self._keepers: tuple[_Lines, _Events, _Metrics] | None = None

    def after_report(
        self,
        run_context: object,  # noqa: ARG002 (Ray Train's signature)
        metrics: list[dict[str, Any]],
        checkpoint: Checkpoint | None,  # noqa: ARG002
    ) -> None:
        if self._keepers is None:  # here, because they do not travel to the controller
            before = read_reports(self._folder)
            ray_metrics = _Metrics(self._folder.name, before)
            self._keepers = (_Lines(self._folder, before), _Events(self._folder, before), ray_metrics)
        for keeper in self._keepers:
            try:
                keeper.keep(Report(**metrics[0]))
            except Exception:  # the training is worth more than its log, and the next report writes all again
                logging.getLogger(__name__).exception("a report of %s could not be kept", self._folder)


def read_reports(folder: UPath) -> list[Report]:
    """The reports of a run, oldest first."""
    return [Report(**json.loads(line)) for line in _lines(folder)]


def latest_report(folder: UPath) -> Report | None:
    """The last report of a run, None where there is none."""
    lines = _lines(folder)
    return Report(**json.loads(lines[-1])) if lines else None


def _lines(folder: UPath) -> list[str]:
    try:
        return (folder / REPORTS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


# Both files are written whole each time: object stores cannot append.


class _Lines:
    def __init__(self, folder: UPath, before: list[Report]) -> None:
        self._path = folder / REPORTS
        self._content = b"".join(map(_line, before))

    def keep(self, report: Report) -> None:
        self._content += _line(report)
        write_whole(self._path, self._content)


def _line(report: Report) -> bytes:
    return json.dumps(asdict(report)).encode() + b"\n"


class _Events:
    """For TensorBoard, which is to be started on the folder or one above it."""

    def __init__(self, folder: UPath, before: list[Report]) -> None:
        self._path = folder / EVENTS
        self._content = b"".join(map(_record, [Event(file_version="brain.Event:2"), *map(_event, before)]))

    def keep(self, report: Report) -> None:
        self._content += _record(_event(report))
        write_whole(self._path, self._content)


def _record(event: Event) -> bytes:
    """As TensorFlow's record files hold it: with its length, and checksums of both."""
    data: bytes = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def _event(report: Report) -> Event:
    scalars = {"loss/train": report.loss, "targets_per_second": report.targets_per_second}
    if report.validation_loss is not None:
        scalars["loss/validation"] = report.validation_loss
    scalars.update({f"deferral/{expert}": share for expert, share in (report.deferral or {}).items()})
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
    return Event(wall_time=report.time, step=report.step, summary=Summary(value=values))


class _Metrics:
    """On Ray's Prometheus endpoint; `run` is the run's name."""

    def __init__(self, run: str, before: list[Report]) -> None:
        tags = ("run",)
        self._run = {"run": run}
        self._loss = Gauge("colllm_training_loss", "Mean of the objective in the epoch so far, nats a target.", tags)
        self._validation = Gauge("colllm_validation_loss", "Of the last validation, nats a target.", tags)
        self._deferral = Gauge("colllm_deferral_share", "Mean of P(Z = k) in the last validation.", (*tags, "expert"))
        self._speed = Gauge("colllm_training_targets_per_second", "Target tokens a second.", tags)
        self._to_go = Gauge("colllm_training_targets_to_go", "Target tokens that are left of a training.", tags)
        self._done = Counter("colllm_trained_targets", "Target tokens, counted in each epoch.", tags)
        self._counted = before[-1].targets_done if before else 0

    def keep(self, report: Report) -> None:
        self._loss.set(report.loss, self._run)
        self._speed.set(report.targets_per_second, self._run)
        self._to_go.set(report.targets_to_go, self._run)
        if report.validation_loss is not None:
            self._validation.set(report.validation_loss, self._run)
        for expert, share in (report.deferral or {}).items():
            self._deferral.set(share, {**self._run, "expert": expert})
        if report.targets_done > self._counted:  # after a restart, some are done again
            self._done.inc(report.targets_done - self._counted, self._run)
            self._counted = report.targets_done
