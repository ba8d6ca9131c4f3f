"""Scores of every member over the data: the stage `colllm score`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
from pathlib import Path

import ray.data
from rich.progress import Progress

from colllm_ray.config import Collaboration
from colllm_ray.data.examples import Example, read_examples
from colllm_ray.data.tokenizer import shared_tokenizer
from colllm_ray.engine.language_model import shared_context
from colllm_ray.errors import ColllmError
from colllm_ray.progress import progress_bars
from colllm_ray.scoring.provenance import Provenance, provenances
from colllm_ray.scoring.scorer import Scorer, ScoringTask
from colllm_ray.scoring.shards import (
    EXAMPLES,
    FEATURES,
    SCORES,
    Manifest,
    check_shard,
    read_shard,
    shard_path,
    write_shard,
)


def score(collaboration: Collaboration, run: Path) -> None:
    """Fills RUN/scores: the examples of train and validation, and every member's scores of them.

    What an earlier call has finished stays: only missing shards are made. Raises ColllmError where the data is wrong,
    or where RUN holds scores that were made from something else.
    """
    score_files(collaboration, collaboration.data.files, run / "scores")


def score_files(collaboration: Collaboration, files: Mapping[str, str], scores: Path) -> None:
    """Scores the given data files, by split, into the folder `scores`; as `score` does for a run."""
    tokenizer, context = shared_tokenizer(collaboration), shared_context(collaboration)
    made_from = provenances(collaboration.name, collaboration.members, tokenizer, files)
    manifest = _checked_examples(scores / "examples", made_from["examples"])
    if manifest is None:
        examples = (
            (split, example)
            for split, path in files.items()
            for example in read_examples(path, split, tokenizer, context)
        )
        manifest = _write_examples(
            examples, scores / "examples", collaboration.scoring.shard_size, made_from["examples"]
        )
    elif manifest.longest > context:
        raise ColllmError(
            f"{scores / 'examples'}: the longest example has {manifest.longest} tokens, the context of a model is "
            f"only {context}; leave that model out, or shorten the data"
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
    shards = manifest.shards
    missing = {task.member: _missing_shards(task, shards) for task in tasks}
    with progress_bars() as progress, ThreadPoolExecutor(len(tasks)) as threads:
        runs = [threads.submit(_score_member, task, shards, missing[task.member], progress) for task in tasks]
        for running in runs:
            running.result()


def _checked_examples(folder: Path, made_from: Provenance) -> Manifest | None:
    """What an earlier call has left, every shard read and found right; None where there is nothing finished."""
    manifest = Manifest.read(folder)
    for index in range(manifest.shards if manifest else 0):
        read_shard(shard_path(folder, index), EXAMPLES, made_from)
    return manifest


def _write_examples(
    examples: Iterator[tuple[str, Example]], folder: Path, shard_size: int, made_from: Provenance
) -> Manifest:
    """Writes all shards into a folder of another name first: the examples are there whole or not at all."""
    unfinished = folder.with_name("examples.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    shards = count = longest = 0
    try:
        while shard := list(islice(examples, shard_size)):
            columns: dict[str, list[object]] = {
                "example_id": [example.example_id for _, example in shard],
                "split": [split for split, _ in shard],
                "domain": [example.domain for _, example in shard],
                "input_ids": [example.input_ids for _, example in shard],
                "target_mask": [example.target_mask for _, example in shard],
            }
            write_shard(shard_path(unfinished, shards), columns, EXAMPLES, made_from)
            shards, count = shards + 1, count + len(shard)
            longest = max(longest, *(len(example.input_ids) for _, example in shard))
        manifest = Manifest(shards, count, longest)
        manifest.write(unfinished)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if folder.exists():  # without a manifest: somebody has deleted a part of it
        shutil.rmtree(folder)
    unfinished.rename(folder)
    return manifest


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
