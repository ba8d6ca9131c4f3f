"""Every benchmark in its smallest form: all of its code, on the Ray and the Serve of these tests where it needs one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.options import RESULTS, ROOT
from benchmarks.session import lab_for
from colllm_ray.serving.application import serving_http
from tests.commands import DEADLINE_S, free_port

OF_RESULTS = {"check", "fold"}  # which measure nothing
ELSEWHERE = {"chaos"}  # tests/clusters/test_chaos.py runs its quick form, which has all of the smoke's code
COMMANDS = {file.stem for file in (ROOT / "benchmarks").glob("*.py") if "def main(" in file.read_text()}
BENCHMARKS = sorted(COMMANDS - OF_RESULTS - ELSEWHERE)
ON_A_CLUSTER = {"autoscale"}  # of its own, which must be there before Ray is imported


@pytest.fixture(scope="module")
def _served(ray_local: None) -> Iterator[None]:  # noqa: ARG001
    with serving_http(lab_for("smoke"), "127.0.0.1", free_port()):
        yield


def kept() -> dict[Path, float]:
    return {file: file.stat().st_mtime for file in RESULTS.iterdir()}


@pytest.mark.usefixtures("_served")
@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in ON_A_CLUSTER])
def test_a_smoke_runs_and_prints_no_headline(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = kept()
    import_module(f"benchmarks.{name}").main(["--smoke"])
    printed = capsys.readouterr().out
    assert printed
    assert " = " not in printed
    assert kept() == before


@pytest.mark.parametrize("name", sorted(ON_A_CLUSTER))
def test_a_smoke_on_a_cluster_of_its_own_runs_and_prints_no_headline(name: str) -> None:
    before = kept()
    command = [sys.executable, "-m", f"benchmarks.{name}", "--smoke"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no headlines" in done.stdout
    assert kept() == before


@pytest.mark.parametrize("how", [["benchmarks/gsm8k_metric.py"], ["-m", "benchmarks.gsm8k_metric"]])
def test_a_benchmark_runs_as_a_file_and_as_a_module(how: list[str]) -> None:
    subprocess.run([sys.executable, *how, "--smoke"], cwd=ROOT, capture_output=True, timeout=DEADLINE_S, check=True)
