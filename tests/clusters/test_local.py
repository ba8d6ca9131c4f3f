"""Several nodes on this machine, and what the manifests for Kubernetes say, deployed there."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from clusters.local import LocalCluster
from tests.collaborations import random_collaboration
from tests.commands import DEADLINE_S, free_port, wait_until
from tests.conftest import ModelFolder

KUBERAY = Path(__file__).resolve().parents[2] / "clusters" / "kuberay"
SERVE = Path(sys.executable).with_name("serve")


@pytest.fixture(scope="module")
def collaboration(model_folder: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder; there is room for one of the two copies of its expert."""
    trained = random_collaboration(model_folder, "llama", ["qwen3"])
    (expert,) = trained.collaboration.experts
    expert = expert.model_copy(update={"replicas": 2, "resources": {"experts": 1}, "labels": {"pool": "experts"}})
    folder = tmp_path_factory.mktemp("run") / "collaboration"
    replace(trained, collaboration=trained.collaboration.model_copy(update={"experts": (expert,)})).save(folder)
    return folder


def on(cluster: LocalCluster, *command: object) -> tuple[int, str]:
    """Exit status and output of a command of a user of the cluster."""
    environment = {**os.environ, **cluster.environment, "COLUMNS": "200"}
    done = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    return done.returncode, done.stdout + done.stderr


def colllm(cluster: LocalCluster, *arguments: object) -> tuple[int, str]:
    return on(cluster, sys.executable, "-m", "colllm_ray.cli", *arguments)


def serve_config() -> dict[str, Any]:
    """Of the RayService."""
    service = yaml.safe_load((KUBERAY / "rayservice.yaml").read_text())
    config: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    return config


def test_a_plan_says_where_copies_run_and_why_not(cluster: LocalCluster, collaboration: Path) -> None:
    status, output = colllm(cluster, "plan", collaboration / "collaboration.yaml")
    assert status == 1
    assert "1 cannot be placed: 1 experts wanted, at most 0 experts free on one such node" in " ".join(output.split())


def test_the_config_of_the_ray_service_serves(cluster: LocalCluster, collaboration: Path, tmp_path: Path) -> None:
    config, port = serve_config(), free_port()
    (application,) = config["applications"]
    config["http_options"]["port"] = port
    application["args"]["collaboration"] = str(collaboration)
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    dashboard = cluster.environment["RAY_API_SERVER_ADDRESS"]
    assert on(cluster, SERVE, "deploy", tmp_path / "serve.yaml", "--address", dashboard)[0] == 0
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/health").status_code == 200
        except httpx.TransportError:
            return False

    wait_until(answers, "the first answer")
    body = {"prompt": [5, 6], "max_tokens": 30, "ignore_eos": True, "colllm": {"threshold": 0.3}}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60).json()
    assert answer["usage"]["colllm"]["models"]["e0"]["tokens"] > 0

    status, output = colllm(cluster, "status")
    assert status == 0
    told = " ".join(output.split())
    assert "1 of 2" in told
    assert "1 cannot be placed" in told
    assert "1 experts wanted, at most 0 experts free on one such node" in told


def test_without_a_cluster_there_is_no_status() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-m", "colllm_ray.cli", "status"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "error: which cluster? give its --address, or set RAY_ADDRESS\n")
