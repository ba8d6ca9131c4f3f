"""Scorings that are killed, and their actors."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from colllm_ray.config import Collaboration
from colllm_ray.ray_session import ray_session
from colllm_ray.scoring.score import score
from tests.commands import ray_address, wait_until
from tests.processes import started_processes
from tests.scoring.run_folder import shards

pytestmark = pytest.mark.usefixtures("ray_local")


def many_rows(tiny: Collaboration, count: int) -> None:
    rows = [{"prompt": "the quick", "completion": f" brown fox {i}"} for i in range(count)]
    Path(str(tiny.data.train)).write_text("".join(json.dumps(row) + "\n" for row in rows))


def check_base(run: Path, examples: int) -> None:
    """No row of the base's is lost, none is there twice."""
    for table in ("base", "features"):
        files = sorted((run / "scores" / table).glob("*.parquet"))  # a kill may leave half a file, of another name
        ids = [name for file in files for name in pq.read_table(file)["example_id"].to_pylist()]
        assert len(ids) == len(set(ids)) == examples + 5


def is_finished(name: str, files: Mapping[str, int]) -> bool:
    """The base's hidden states come before its scores, and are made again with them."""
    return name.replace("/features/", "/base/") in files


def drive(config: Path, run: Path, address: str) -> None:
    collaboration = Collaboration.load(config)
    with ray_session(address, collaboration):
        score(collaboration, run, only="base")


def test_a_scoring_that_is_killed_again_and_again_goes_on_where_it_was(tiny: Collaboration, tmp_path: Path) -> None:
    many_rows(tiny, 400)
    run, rng = tmp_path / "run", random.Random(0)
    moments = sorted(rng.sample(range(1, 250), 2))  # files, of about 300 in the end
    drivers = get_context("forkserver")
    drivers.set_forkserver_preload([score.__module__])  # imported once
    finished: dict[str, int] = {}
    for moment in moments:
        driver = drivers.Process(target=drive, args=(tmp_path / "tiny.yaml", run, ray_address()))
        driver.start()
        wait_until(lambda moment=moment: len(list(run.rglob("*.parquet"))) >= moment, "the moment to kill")  # type: ignore[misc]
        assert driver.is_alive()
        driver.kill()
        driver.join()
        now = shards(run)
        assert {name: now[name] for name in finished} == finished
        if (run / "scores/examples/manifest.json").exists():  # examples without it are made again
            finished = {name: when for name, when in now.items() if is_finished(name, now)}
    score(tiny, run, only="base")
    assert len(shards(run)) > len(finished)
    assert {name: shards(run)[name] for name in finished} == finished
    check_base(run, 400)


def test_scoring_survives_its_actors(tiny: Collaboration, tmp_path: Path) -> None:
    many_rows(tiny, 400)
    run = tmp_path / "run"
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(score, tiny, run, only="base")
        wait_until(lambda: len(list((run / "scores" / "base").glob("part-*"))) > 5 or running.done(), "some scores")
        killed = started_processes("Scorer")
        assert not running.done()
        assert killed
        for process in killed:
            process.kill()
        running.result()
    check_base(run, 400)
