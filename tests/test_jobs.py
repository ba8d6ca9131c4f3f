"""The jobs as users run them: `ray job submit` to a cluster of its own, which asks for its token."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from clusters.local import LocalCluster
from tests.collaborations import random_collaboration
from tests.commands import DEADLINE_S
from tests.conftest import ModelFolder, WriteTiny

ROOT = Path(__file__).resolve().parent.parent
RAY = Path(sys.executable).with_name("ray")


def submit(cluster: LocalCluster, *arguments: object, **environment: str) -> tuple[int, str]:
    """Exit status and output of `ray job submit -- python ARGUMENTS`."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        done = subprocess.run(
            [RAY, "job", "submit", "--working-dir", ROOT, "--", sys.executable, *map(str, arguments)],
            env={**os.environ, **cluster.environment, **environment},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        output = done.stdout + done.stderr
        if "No available agent to submit job, please try again later" not in output or time.monotonic() > deadline:
            return done.returncode, output


def test_a_job_that_succeeds_says_so(cluster: LocalCluster, write_tiny: WriteTiny, tmp_path: Path) -> None:
    write_tiny(tmp_path)
    run = tmp_path / "run"
    status, output = submit(cluster, "jobs/score.py", tmp_path / "tiny.yaml", "--out", run, "--only", "qwen")
    assert status == 0, output
    assert "score qwen: " in output
    rows = [pq.read_metadata(shard).num_rows for shard in (run / "scores/qwen").glob("*.parquet")]
    assert sum(rows) == 12 + 5  # of training and validation


def test_a_job_that_fails_says_so(cluster: LocalCluster, tmp_path: Path) -> None:
    status, output = submit(cluster, "jobs/train.py", tmp_path / "none.yaml", "--out", tmp_path / "run")
    assert status == 1, output
    assert "none.yaml: cannot be read: No such file or directory" in output


def test_a_cluster_wants_its_token(cluster: LocalCluster) -> None:
    status, output = submit(cluster, "jobs/score.py", "--help", RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert status != 0
    assert "token" in output.lower()


@pytest.mark.parametrize("stage", ["score", "train", "evaluate"])
def test_each_job_says_what_it_takes(stage: str) -> None:
    done = subprocess.run([sys.executable, ROOT / "jobs" / f"{stage}.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert f" {stage} [-h]" in done.stdout


def test_an_evaluation_is_a_sweep_over_tasks(cluster: LocalCluster, model_folder: ModelFolder, tmp_path: Path) -> None:
    """Each task is a YAML file and a file of rows, and no code."""
    random_collaboration(model_folder, "llama", ["qwen3"]).save(tmp_path / "run" / "collaboration")
    (tmp_path / "sums.jsonl").write_text(
        "".join(json.dumps({"sum": f"{i} + {i}", "total": 2 * i}) + "\n" for i in range(3))
    )
    (tmp_path / "sums.yaml").write_text(
        "{name: sums, data: sums.jsonl, columns: {prompt: '{sum} ='}, metric: numeric, answer: total, max_tokens: 8}"
    )
    fact = {"fact": "the fox", "options": [" jumps", " sleeps"], "is": 0}
    (tmp_path / "facts.jsonl").write_text(json.dumps(fact) + "\n")
    (tmp_path / "facts.yaml").write_text(
        "{name: facts, data: facts.jsonl, columns: {prompt: fact}, metric: choice, choices: options, answer: is}"
    )
    tasks = ("--task", tmp_path / "sums.yaml", "--task", tmp_path / "facts.yaml")
    sweep = ("jobs/evaluate.py", tmp_path / "run/collaboration", "--methods", "base,average,random", *tasks)
    status, output = submit(cluster, *sweep)
    assert status == 0, output
    results = tmp_path / "run" / "evaluation"
    measures = json.loads((results / "sums" / "measures.json").read_text())
    assert list(measures["methods"]) == ["base", "average", "random", "collaboration"]
    assert measures["methods"]["base"]["tokens"] == 24
    assert json.loads((results / "facts" / "measures.json").read_text())["questions"] == 1
    for task in ("sums", "facts"):
        assert str(results / task / "report.html") in output
