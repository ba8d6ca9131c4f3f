"""Several nodes on this machine, and what the manifests for Kubernetes say, deployed there."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from clusters.local import LocalCluster
from colllm_ray.decoding.team import Team
from colllm_ray.decoding.team_spec import AnswerRequest
from colllm_ray.deferral.trained import TrainedCollaboration
from tests.collaborations import random_collaboration
from tests.commands import DEADLINE_S, free_port, wait_until
from tests.conftest import ModelFolder

KUBERAY = Path(__file__).resolve().parents[2] / "clusters" / "kuberay"
SERVE = Path(sys.executable).with_name("serve")


def quickly_drained(trained: TrainedCollaboration, **expert: object) -> TrainedCollaboration:
    """With a changed expert; copies without a place are given up when they have had their time to drain."""
    collaboration = trained.collaboration
    update = {
        "experts": tuple(one.model_copy(update=expert) for one in collaboration.experts),
        "serving": collaboration.serving.model_copy(update={"drain_s": 2.0}),
    }
    return replace(trained, collaboration=collaboration.model_copy(update=update))


@pytest.fixture(scope="module")
def collaboration(model_folder: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder; there is room for one of the two copies of its expert."""
    trained = random_collaboration(model_folder, "llama", ["qwen3"])
    folder = tmp_path_factory.mktemp("run") / "collaboration"
    quickly_drained(trained, replicas=2, resources={"experts": 1}, labels={"pool": "experts"}).save(folder)
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


def replicas(cluster: LocalCluster, application: str) -> dict[str, set[int]]:
    """Process ids by deployment, on all nodes."""
    found: dict[str, set[int]] = {}
    for node in cluster.nodes:
        for pid, command in cluster.processes(node).items():
            if named := re.search(rf"ServeReplica:{application}:([\w-]+)", command):
                found.setdefault(named[1], set()).add(pid)
    return found


def ask(url: str) -> dict[str, Any]:
    body = {"prompt": [5, 6], "max_tokens": 30, "ignore_eos": True, "colllm": {"threshold": 0.3}}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def serve_config() -> dict[str, Any]:
    """Of the RayService."""
    service = yaml.safe_load((KUBERAY / "rayservice.yaml").read_text())
    config: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    return config


def test_a_plan_says_where_copies_run_and_why_not(cluster: LocalCluster, collaboration: Path) -> None:
    status, output = colllm(cluster, "plan", collaboration / "collaboration.yaml")
    assert status == 1
    assert "1 cannot be placed: 1 experts wanted, at most 0 experts free on one such node" in " ".join(output.split())


def test_a_deployment_says_what_it_waits_for_and_is_updated_in_place(
    cluster: LocalCluster, collaboration: Path, model_folder: ModelFolder, tmp_path: Path
) -> None:
    deploy = [sys.executable, "-m", "colllm_ray.cli", "deploy"]
    where = ["--host", "127.0.0.1", "--port", str(port := free_port())]
    log = tmp_path / "deploy.log"
    with log.open("w") as file:
        environment = {**os.environ, **cluster.environment}
        waits = subprocess.Popen([*deploy, collaboration, *where], env=environment, stderr=file)
        missing = "1 experts wanted, at most 0 experts free on one such node"
        line = f"start random: Expert-e0 1 of 2, 1 cannot be placed: {missing}\n"
        wait_until(lambda: line in log.read_text() or waits.poll() is not None, "the news of a copy without a place")
        assert waits.poll() is None, log.read_text()
        waits.terminate()
        waits.wait()
    before = replicas(cluster, "random")
    assert {name: len(pids) for name, pids in before.items()} == {"Ingress": 1, "Router": 1, "Expert-e0": 1}

    changed = quickly_drained(random_collaboration(model_folder, "llama", ["mistral"]))
    changed.save(tmp_path / "collaboration")
    status, output = on(cluster, *deploy, tmp_path / "collaboration", *where)
    assert status == 0, output
    after = replicas(cluster, "random")
    assert {name for name in before if before[name] != after[name]} == {"Expert-e0"}

    async def brute_force() -> list[int]:
        request = AnswerRequest((5, 6), max_tokens=30, eta=0.3, ignore_eos=True)
        return [token.token async for token in Team.in_process(changed).answer(request)]

    answer = ask(f"http://127.0.0.1:{port}")["choices"][0]["colllm"]["trace"]
    assert [token["token"] for token in answer] == asyncio.run(brute_force())
    dashboard = cluster.environment["RAY_API_SERVER_ADDRESS"]
    assert on(cluster, SERVE, "shutdown", "--yes", "--address", dashboard)[0] == 0


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
    assert ask(url)["usage"]["colllm"]["models"]["e0"]["tokens"] > 0

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
