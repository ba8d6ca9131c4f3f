"""Scores of every member over the data: the stage `colllm score`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray.data
from ray.exceptions import ActorDiedError, RayTaskError
from rich.progress import Progress
from upath import UPath

from colllm_ray.config import Collaboration, ModelConfig, Source
from colllm_ray.errors import ColllmError, raised_by_user, reason_in
from colllm_ray.models.members import check_members
from colllm_ray.progress import progress_bars
from colllm_ray.scoring.examples import ExampleWriter, finished_examples
from colllm_ray.scoring.provenance import provenances
from colllm_ray.scoring.score_folder import FailedScore, ScoreFolder, failed_in_shard
from colllm_ray.scoring.scorer import Scorer, ScoringTask, served_by
from colllm_ray.scoring.scoring_bars import ScoringBars
from colllm_ray.scoring.shards import FEATURES, Manifest, check_shard, shard_name
from colllm_ray.scoring.tally import Begun, Tally, start_tally
from colllm_ray.storage import Where, for_each, location, names_in

if TYPE_CHECKING:
    from ray.actor import ActorProxy


def score(
    collaboration: Collaboration, run: Where, only: str | None = None, from_serve: str | None = None
) -> tuple[FailedScore, ...]:
    """Fills RUN/scores: the examples of train and validation, and every member's scores of them.

    What an earlier call has finished stays: only missing shards are made. With `only`, nothing is asked of the other
    members, and what that member left there with other weights is replaced. With `from_serve`, the URL or the name of
    an application of this Ray, its experts score; the base is loaded here, for its hidden states. Returns the rows that
    failed and may be left out. Raises ColllmError where the data is wrong, where too many rows failed, or where RUN
    holds scores that were made from something else.
    """
    return score_sources(collaboration, collaboration.data.sources, location(run) / "scores", only, from_serve)


def score_sources(
    collaboration: Collaboration,
    sources: Mapping[str, Source],
    scores: UPath,
    only: str | None = None,
    from_serve: str | None = None,
) -> tuple[FailedScore, ...]:
    """Scores the given sources, by split, into the folder `scores`; as `score` does for a run."""
    members = _chosen(collaboration, only)
    if only == "base" and from_serve is not None:
        raise ColllmError("an application does not tell the base's hidden states; score it without --from-serve")
    shared = check_members(collaboration)
    tokenizer, context = shared.tokenizer, shared.context
    data = collaboration.data
    made_from = provenances(collaboration.name, members, tokenizer, sources, data)
    with progress_bars() as progress:
        manifest = finished_examples(scores / "examples", made_from["examples"])
        if manifest is None:
            writer = ExampleWriter(scores / "examples", collaboration.scoring.shard_tokens, made_from["examples"])
            manifest = writer.write(sources, data, tokenizer, context, progress)
        elif manifest.longest > context:
            raise ColllmError(
                f"{scores / 'examples'}: the longest example has {manifest.longest} tokens, the context of a model is "
                f"only {context}; leave that model out, or shorten the data"
            )
        work = []
        for member, config in members.items():
            task = ScoringTask(
                member=member,
                config=config,
                vocab_size=shared.vocab_size,
                batch_tokens=collaboration.scoring.tokens_for(config),
                scores=scores,
                made_from=made_from[member],
                examples_made_from=made_from["examples"],
                from_serve=None if member == "base" else from_serve,
            )
            if task.from_serve is not None:
                served_by(task, task.from_serve)  # refused here, rather than in an actor
            work.append(_Work(task, manifest, _failed_rows(task, len(manifest.shards), replace=only is not None)))
        failed = sum(count or 0 for one in work for count in one.failed)
        _run(work, failed > data.max_failed, progress)
    return ScoreFolder(scores, made_from).check_failed(data.max_failed)


@dataclass(frozen=True)
class _Work:
    """What a member has scored: of each shard how many rows failed, None where it is to be made."""

    task: ScoringTask
    manifest: Manifest
    failed: list[int | None]

    def shards(self, failed_too: bool) -> list[int]:
        """The shards that are to be made, and those with failed rows as well if these are to be tried again."""
        return [index for index, count in enumerate(self.failed) if count is None or (count and failed_too)]

    def dataset(self, shards: list[int], tally: ActorProxy[Tally]) -> ray.data.Dataset:
        """Scores the shards, a row each, with as many copies of the model as the configuration says."""
        rows = [{"shard": index} for index in shards]
        config = self.task.config
        reserved = config.reserved if self.task.from_serve is None else {"num_cpus": config.num_cpus}
        return ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            Scorer,
            fn_constructor_args=(self.task, tally),
            compute=ray.data.ActorPoolStrategy(size=min(config.scorers, len(rows))),
            **reserved,
        )


def _chosen(collaboration: Collaboration, only: str | None) -> dict[str, ModelConfig]:
    members = collaboration.members
    if only is None:
        return members
    if only not in members:
        raise ColllmError(f"there is no member {only!r} to score; there are: {', '.join(members)}")
    return {only: members[only]}


def _failed_rows(task: ScoringTask, shards: int, replace: bool) -> list[int | None]:
    """How many rows of each shard failed, None where a table of it is missing.

    With `replace`, also where it was made from something else.
    """
    present = {table: names_in(task.scores / table) for table in task.tables}

    def failed(index: int) -> int | None:
        """Rows of a shard that failed, None where it is missing."""
        if not all(shard_name(index) in names for names in present.values()):
            return None
        try:
            if "features" in task.tables:
                check_shard(task.scores / "features" / shard_name(index), FEATURES, task.made_from)
            return len(failed_in_shard(task.scores / task.member / shard_name(index), task.made_from))
        except ColllmError:
            if replace:
                return None
            raise

    return for_each(failed, range(shards))


def _run(work: list[_Work], failed_too: bool, progress: Progress) -> None:
    """Scores all that is missing, the members side by side as far as the cluster has room for them."""
    missing = {one.task.member: one.shards(failed_too) for one in work}
    bars = ScoringBars(progress, [size.tokens for size in work[0].manifest.shards], missing)
    if not any(missing.values()):
        return
    tally = start_tally()
    datasets = [one.dataset(shards, tally) for one in work if (shards := missing[one.task.member])]
    rows = datasets[0].union(*datasets[1:]) if len(datasets) > 1 else datasets[0]
    with bars.following(tally), _failures_in_one_line():
        for row in rows.iter_rows():
            bars.finished(Begun(row["member"], row["shard"]))


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    """Raises ColllmError where a scorer cannot be started or dies, or raises one; Ray Data does not log it as well."""
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    except ActorDiedError as error:
        raise ColllmError(f"a scorer died: {reason_in(str(error))}") from error
    except RayTaskError as error:
        if (message := raised_by_user(str(error))) is not None:
            raise ColllmError(message) from error
        raise
    finally:
        log.setLevel(level)
