"""Load that rises and falls on an expert with one to three replicas: they follow by themselves, and no answer fails."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.headline import Headline, higher, lower, neither
from benchmarks.options import Amount, BenchmarkParser
from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, finish
from clusters.local import DEFAULT_NODES, Node, running_cluster
from colllm_ray.config import AutoscalingConfig

if TYPE_CHECKING:
    from benchmarks.town import Town

PORT = 8434
LOADS: dict[Amount, Sequence[tuple[int, float]]] = {  # clients, and for how many seconds they ask
    "full": ((1, 20), (24, 120), (1, 120)),
    "quick": ((1, 10), (24, 50), (1, 50)),
    "smoke": ((1, 0.5), (2, 0.5), (1, 0.5)),
}
QUESTIONS: dict[Amount, int | None] = {"full": None, "quick": None, "smoke": 4}  # all where nothing is said
NODES: dict[Amount, Sequence[Node]] = {
    "full": DEFAULT_NODES,
    "quick": DEFAULT_NODES,
    "smoke": [Node("head", 8, {"experts": 4})],
}
SCALING = AutoscalingConfig(min=1, max=3, sessions=6, up_after_s=3, down_after_s=15)
SAMPLE_S = 2.0


def parser() -> BenchmarkParser:
    made = BenchmarkParser(__doc__ or "")
    made.add_argument("--collaboration", metavar="RUN/collaboration", help="the lab's by default")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().options(arguments)
    with running_cluster(NODES[options.amount]) as cluster:
        os.environ.update(cluster.environment)

        # Ray looks for its token when it is imported.
        from benchmarks.session import collaboration_for
        from benchmarks.town import town, with_copies
        from colllm_ray.lab.collaboration import SHIPPED

        trained = collaboration_for(options, cluster.environment["RAY_ADDRESS"])
        scaled = trained.collaboration.experts[0].name
        trained = with_copies(
            trained,
            1,
            1,
            lambda expert: expert.model_copy(
                update={"resources": {"experts": 1}, "autoscaling": SCALING if expert.name == scaled else None}
            ),
        )
        with town(trained, cluster, SHIPPED / "test.jsonl", PORT) as place:
            place.bodies = place.bodies[: QUESTIONS[options.amount]]
            rows, headline = asyncio.run(_run(place, scaled, LOADS[options.amount]))
    finish(options, Report("autoscale", rows, headline), _chart)


async def _run(place: Town, expert: str, loads: Sequence[tuple[int, float]]) -> tuple[list[Row], dict[str, Headline]]:
    from benchmarks.load import differing, load, lost

    alone = await load(place.url, place.bodies, 1, lambda n: n < len(place.bodies))
    needs = [one for one in alone if any(t["model"] == expert for _, trace in one.answer.traces for t in trace)]
    place.bodies = [place.bodies[one.question] for one in needs]
    place.expected = [one.answer.tokens for one in needs]

    begin = perf_counter()
    samples: list[Row] = []
    clients = 0

    async def sample() -> None:
        while True:
            deployment = (await place.deployments())[f"Expert-{expert}"]
            seconds = round(perf_counter() - begin, 1)
            running = len(deployment.running)
            samples.append({"seconds": seconds, "clients": clients, "wanted": deployment.wanted, "running": running})
            await asyncio.sleep(SAMPLE_S)

    sampling = asyncio.create_task(sample())
    asked = []
    for clients, seconds in loads:
        end = perf_counter() + seconds
        asked += await load(place.url, place.bodies, clients, lambda _: perf_counter() < end)  # noqa: B023
    sampling.cancel()
    await asyncio.wait([sampling])
    return samples, {
        "answers": neither(len(asked)),
        "errors": lower(len(lost(asked))),
        "differing": lower(len(differing(asked, place.expected))),
        "most_running": higher(max(float(one["running"]) for one in samples)),
        "running_in_the_end": lower(float(samples[-1]["running"])),
        "up_s": lower(_until(samples, loads[0][1], SCALING.max)),
        "down_s": lower(_until(samples, loads[0][1] + loads[1][1], SCALING.min)),
    }


def _until(samples: list[Row], change_s: float, running: int) -> float:
    """Seconds from a change of the load until so many replicas run; a day where they never do."""
    after = [float(one["seconds"]) for one in samples if float(one["seconds"]) > change_s and one["running"] == running]
    return round(after[0] - change_s, 1) if after else 86_400.0


def _chart(path: Path, report: Report) -> None:
    series = {
        name: [(float(row["seconds"]), float(row[name])) for row in report.rows] for name in ("clients", "running")
    }
    line_chart(path, series, "seconds", "clients; replicas that run", "An expert follows its load")


if __name__ == "__main__":
    main()
