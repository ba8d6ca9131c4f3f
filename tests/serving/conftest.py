"""The lab, served for real: Ingress, Router and three Experts, asked over HTTP by all tests of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.serving.application import serving_http
from tests.commands import free_port


@pytest.fixture(scope="package")
def url(trained_lab: TrainedCollaboration, ray_local: None) -> Iterator[str]:  # noqa: ARG001
    with serving_http(trained_lab, "127.0.0.1", free_port()) as running:
        yield running
