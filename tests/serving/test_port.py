from __future__ import annotations

import socket

import httpx
import pytest

from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.errors import ColllmError
from colllm_ray.serving.application import serving_http
from tests.commands import free_port


@pytest.mark.usefixtures("ray_local")
def test_a_port_in_use_is_named(trained_lab: TrainedCollaboration) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ColllmError, match=f"cannot serve at 127.0.0.1:{port}: Address already in use"),
            serving_http(trained_lab, "127.0.0.1", port),
        ):
            pass


def test_a_serve_that_runs_is_another_s(trained_lab: TrainedCollaboration, url: str) -> None:
    with (
        pytest.raises(ColllmError, match="this Ray runs Serve already; `colllm deploy` adds to it"),
        serving_http(trained_lab, "127.0.0.1", free_port()),
    ):
        pass
    assert httpx.get(f"{url}/health").status_code == 200
