"""Scores of every member over the data: the stage `colllm score`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
from pathlib import Path

import ray
import ray.data
from rich.progress import Progress

from colllm_ray.config import Collaboration
from colllm_ray.data.examples import Example, read_examples
from colllm_ray.data.tokenizer import shared_tokenizer
from colllm_ray.engine.language_model import shared_context
from colllm_ray.progress import progress_bars
from colllm_ray.scoring.provenance import Provenance, provenances
from colllm_ray.scoring.scorer import Scorer, ScoringTask
from colllm_ray.scoring.shards import EXAMPLES, FEATURES, SCORES, check_shard, shard_path, write_shard


def score(collaboration: Collaboration, run: Path) -> None:
    """Fills RUN/scores: the examples of train and validation, and every member's scores of them.

    What an earlier call has finished stays: only missing shards are made. Raises ColllmError where the data is wrong,
    or where RUN holds scores that were made from something else.
    """
    files = {"train": collaboration.data.train, "validation": collaboration.data.validation}
    score_files(collaboration, files, run / "scores")


def score_files(collaboration: Collaboration, files: Mapping[str, str], scores: Path) -> None:
    """Scores the given data files, by split, into the folder `scores`; as `score` does for a run."""
    tokenizer = shared_tokenizer(collaboration)
    made_from = provenances(collaboration.name, collaboration.members, tokenizer, files)
    if not check_shard(shard_path(scores / "examples", 0), EXAMPLES, made_from["examples"]):
        _write_examples(
            (
                (split, example)
                for split, path in files.items()
                for example in read_examples(path, split, tokenizer, shared_context(collaboration))
            ),
            scores / "examples",
            collaboration.scoring.shard_size,
            made_from["examples"],
        )
    tasks = [
        ScoringTask(
            member=member,
            config=config,
            vocab_size=len(tokenizer),
            batch_size=collaboration.scoring.batch_size,
            scores=scores.resolve(),
            made_from=made_from[member],
            examples_made_from=made_from["examples"],
        )
        for member, config in collaboration.members.items()
    ]
    shards = len(list((scores / "examples").glob("*.parquet")))
    missing = {task.member: _missing_shards(task, shards) for task in tasks}
    with progress_bars() as progress, ThreadPoolExecutor(len(tasks)) as threads:
        runs = [threads.submit(_score_member, task, shards, missing[task.member], progress) for task in tasks]
        for running in runs:
            running.result()


def _write_examples(
    examples: Iterator[tuple[str, Example]], folder: Path, shard_size: int, made_from: Provenance
) -> None:
    """Writes all shards into a folder of another name first: the examples are there whole or not at all."""
    unfinished = folder.with_name("examples.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _write_shards(examples, unfinished, shard_size, made_from)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(folder)


def _write_shards(
    examples: Iterator[tuple[str, Example]], folder: Path, shard_size: int, made_from: Provenance
) -> None:
    index = 0
    while shard := list(islice(examples, shard_size)):
        columns: dict[str, list[object]] = {
            "example_id": [example.example_id for _, example in shard],
            "split": [split for split, _ in shard],
            "domain": [example.domain for _, example in shard],
            "input_ids": [example.input_ids for _, example in shard],
            "target_mask": [example.target_mask for _, example in shard],
        }
        write_shard(shard_path(folder, index), columns, EXAMPLES, made_from)
        index += 1


def _missing_shards(task: ScoringTask, shards: int) -> list[int]:
    missing = set()
    for table, index in product(task.tables, range(shards)):
        schema = FEATURES if table == "features" else SCORES
        if not check_shard(shard_path(task.scores / table, index), schema, task.made_from):
            missing.add(index)
    return sorted(missing)


def _score_member(task: ScoringTask, shards: int, missing: list[int], progress: Progress) -> None:
    bar = progress.add_task(f"score {task.member}", total=shards, completed=shards - len(missing), note="")
    if not missing:
        return
    scored = ray.data.from_items([{"shard": index} for index in missing], override_num_blocks=len(missing)).map(
        Scorer,
        fn_constructor_args=(task,),
        compute=ray.data.ActorPoolStrategy(size=min(task.config.replicas, len(missing))),
        num_cpus=task.config.num_cpus,
        num_gpus=task.config.num_gpus,
    )
    for _ in scored.iter_rows():
        progress.advance(bar)
