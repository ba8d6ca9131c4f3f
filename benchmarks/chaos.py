"""Answers while replicas, routers and nodes are killed: none is lost, and none differs from the undisturbed run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.headline import Headline, lower, neither
from benchmarks.options import Amount, BenchmarkParser
from benchmarks.plots import bar_chart
from benchmarks.report import Report, Row, finish
from clusters.local import DEFAULT_NODES, Node, running_cluster
from colllm_ray.config import ExpertConfig

TROUBLES = (
    "expert_kills router_kills kills_apart node_kills all_gone hung_expert controller_kills ingress_kills full_experts "
    "updates"
).split()
POSSIBLE: dict[Amount, list[str]] = {"full": TROUBLES, "quick": ["all_at_once"], "smoke": ["expert_kills"]}
NODES: dict[Amount, Sequence[Node]] = {
    "full": DEFAULT_NODES,
    "quick": [node for node in DEFAULT_NODES if node.name != "base"],
    "smoke": [Node("head", 8, {"experts": 4})],
}
HOSTS_TROUBLES = ["slow_link", "cut_cable"]  # in this order: afterwards all may run elsewhere
NOTICED = ("all_gone_continue", "all_gone_fail", "ingress_kills")  # what clients are told of


def parser() -> BenchmarkParser:
    made = BenchmarkParser(__doc__ or "")
    made.add_argument("--only", metavar="TROUBLE,..", help=f"some of: {', '.join(TROUBLES)}")
    made.add_argument(
        "--as-hosts", action="store_true", help=f"nodes with networks of their own, and {', '.join(HOSTS_TROUBLES)}"
    )
    made.add_argument("--collaboration", metavar="RUN/collaboration", help="the lab's by default")
    made.add_argument("--port", type=int, default=8433)
    made.add_argument("--data", type=Path, help="rows with questions; the lab's test data by default")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().options(arguments)
    amount: Amount = options.amount
    possible = HOSTS_TROUBLES if options.as_hosts else POSSIBLE[amount]
    chosen = options.only.split(",") if options.only else possible
    if unknown := set(chosen) - set(possible):
        parser().error(f"there is no trouble {', '.join(unknown)}; there are: {', '.join(possible)}")
    with running_cluster(NODES[amount], as_hosts=options.as_hosts) as cluster:
        os.environ.update(cluster.environment)

        # Ray looks for its token when it is imported.
        from benchmarks.session import collaboration_for
        from benchmarks.town import town, with_copies
        from benchmarks.troubles import SIZES, rows_of
        from colllm_ray.lab.collaboration import SHIPPED

        trained = collaboration_for(options, cluster.environment["RAY_ADDRESS"])
        data = options.data or SHIPPED / "test.jsonl"
        copies = with_copies(trained, 2 if amount == "full" else 1, 1 if amount == "smoke" else 2, _on_expert_nodes)
        with town(copies, cluster, data, options.port) as place:
            rows = asyncio.run(rows_of(place, SIZES[amount], chosen))
    finish(options, Report("chaos", rows, _headline(rows)), _chart)


def _on_expert_nodes(expert: ExpertConfig) -> ExpertConfig:
    return expert.model_copy(update={"replicas": 2, "resources": {"experts": 1}})


def _headline(rows: list[Row]) -> dict[str, Headline]:
    """Of the troubles that no client should notice."""
    counted = [row for row in rows if row["trouble"] not in NOTICED]

    def total(key: str) -> float:
        return sum(float(row.get(key, 0)) for row in counted)

    return {
        **{key: neither(total(key)) for key in ("expert_kills", "router_kills", "node_kills", "answers")},
        **{key: lower(total(key)) for key in ("lost", "differing")},
        "added_p99_s": lower(max(float(row["added_p99_s"]) for row in counted)),
    }


def _chart(path: Path, report: Report) -> None:
    bars = {str(row["trouble"]): float(row["p99_s"]) for row in report.rows}
    bar_chart(path, bars, "s", "99th percentile of an answer's time, 8 at a time")


if __name__ == "__main__":
    main()
