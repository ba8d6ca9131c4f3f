"""The jobs as users run them: `ray job submit` to a cluster of its own, which asks for its token."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pyarrow.parquet as pq
import pytest

from tests.commands import DEADLINE_S, free_port, wait_until
from tests.conftest import WriteTiny
from tests.processes import kill_with_children

ROOT = Path(__file__).resolve().parent.parent
RAY = Path(sys.executable).with_name("ray")


@dataclass(frozen=True)
class Cluster:
    environment: dict[str, str]

    def submit(self, *arguments: object, **environment: str) -> tuple[int, str]:
        """Exit status and output of `ray job submit -- python ARGUMENTS`."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            done = subprocess.run(
                [RAY, "job", "submit", "--working-dir", ROOT, "--", sys.executable, *map(str, arguments)],
                env={**self.environment, **environment},
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                check=False,
            )
            output = done.stdout + done.stderr
            if "No available agent to submit job, please try again later" not in output or time.monotonic() > deadline:
                return done.returncode, output


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    port, dashboard = free_port(), free_port()
    address = f"http://127.0.0.1:{dashboard}"
    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_API_SERVER_ADDRESS": address}
    environment = {**os.environ, **ours}
    options = [f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=4", "--disable-usage-stats"]
    # Its agent takes the jobs; where the tests' other Ray has its port, there is none.
    options += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    folder = tempfile.mkdtemp(prefix="ray-")  # short: it holds sockets
    head = subprocess.Popen(
        [RAY, "start", "--head", "--block", f"--temp-dir={folder}", *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _answers(f"{address}/api/version"), "the start of the cluster")
        yield Cluster(environment)
    finally:
        kill_with_children(head.pid)  # told to end, it takes half a minute
        shutil.rmtree(folder)


def _answers(url: str) -> bool:
    try:
        with urlopen(url):
            return True
    except HTTPError:  # it wants its token
        return True
    except URLError:
        return False


def test_a_job_that_succeeds_says_so(cluster: Cluster, write_tiny: WriteTiny, tmp_path: Path) -> None:
    write_tiny(tmp_path)
    run = tmp_path / "run"
    status, output = cluster.submit("jobs/score.py", tmp_path / "tiny.yaml", "--out", run, "--only", "qwen")
    assert status == 0, output
    assert "score qwen: " in output
    rows = [pq.read_metadata(shard).num_rows for shard in (run / "scores/qwen").glob("*.parquet")]
    assert sum(rows) == 12 + 5  # of training and validation


def test_a_job_that_fails_says_so(cluster: Cluster, tmp_path: Path) -> None:
    status, output = cluster.submit("jobs/train.py", tmp_path / "none.yaml", "--out", tmp_path / "run")
    assert status == 1, output
    assert "none.yaml: cannot be read: No such file or directory" in output


def test_a_cluster_wants_its_token(cluster: Cluster) -> None:
    status, output = cluster.submit("jobs/score.py", "--help", RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert status != 0
    assert "token" in output.lower()


@pytest.mark.parametrize("stage", ["score", "train", "evaluate"])
def test_each_job_says_what_it_takes(stage: str) -> None:
    done = subprocess.run([sys.executable, ROOT / "jobs" / f"{stage}.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert f" {stage} [-h]" in done.stdout
