"""Answers while replicas, routers and nodes are killed: none is lost, and none differs from the undisturbed run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from benchmarks.plots import bar_chart
from benchmarks.report import Report, Row, arguments, finish
from clusters.local import DEFAULT_NODES, running_cluster
from colllm_ray.config import ExpertConfig

TROUBLES = (
    "expert_kills router_kills kills_apart node_kills all_gone hung_expert controller_kills ingress_kills full_experts "
    "updates"
).split()
QUICK_TROUBLES = ["all_at_once"]
HOSTS_TROUBLES = ["slow_link", "cut_cable"]  # in this order: afterwards all may run elsewhere
NOTICED = ("all_gone_continue", "all_gone_fail", "ingress_kills")  # what clients are told of


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", metavar="TROUBLE,..", help=f"some of: {', '.join(TROUBLES)}")
    parser.add_argument(
        "--as-hosts", action="store_true", help=f"nodes with networks of their own, and {', '.join(HOSTS_TROUBLES)}"
    )
    parser.add_argument("--collaboration", metavar="RUN/collaboration", help="the lab's by default")
    parser.add_argument("--port", type=int, default=8433)
    parser.add_argument("--data", type=Path, help="rows with questions; the lab's test data by default")
    options = parser.parse_args()
    possible = HOSTS_TROUBLES if options.as_hosts else QUICK_TROUBLES if options.quick else TROUBLES
    chosen = options.only.split(",") if options.only else possible
    if unknown := set(chosen) - set(possible):
        parser.error(f"there is no trouble {', '.join(unknown)}; there are: {', '.join(possible)}")
    nodes = [node for node in DEFAULT_NODES if node.name != "base" or not options.quick]
    with running_cluster(nodes, as_hosts=options.as_hosts) as cluster:
        os.environ.update(cluster.environment)

        # Ray looks for its token when it is imported.
        from benchmarks.town import town, with_copies
        from benchmarks.troubles import FULL, QUICK, rows_of
        from colllm_ray.deferral.trained import TrainedCollaboration
        from colllm_ray.lab.collaboration import SHIPPED, trained_lab

        trained = TrainedCollaboration.load(options.collaboration or trained_lab(cluster.environment["RAY_ADDRESS"]))
        data = options.data or SHIPPED / "test.jsonl"
        copies = with_copies(trained, 1 if options.quick else 2, 2, _on_expert_nodes)
        with town(copies, cluster, data, options.port) as place:
            rows = asyncio.run(rows_of(place, QUICK if options.quick else FULL, chosen))
    finish(options, Report("chaos", rows, _headline(rows)), _chart)


def _on_expert_nodes(expert: ExpertConfig) -> ExpertConfig:
    return expert.model_copy(update={"replicas": 2, "resources": {"experts": 1}})


def _headline(rows: list[Row]) -> dict[str, float]:
    """Of the troubles that no client should notice."""
    counted = [row for row in rows if row["trouble"] not in NOTICED]
    summed = ("expert_kills", "router_kills", "node_kills", "answers", "lost", "differing")
    sums = {key: sum(float(row.get(key, 0)) for row in counted) for key in summed}
    return {**sums, "added_p99_s": max(float(row["added_p99_s"]) for row in counted)}


def _chart(path: Path, report: Report) -> None:
    bars = {str(row["trouble"]): float(row["p99_s"]) for row in report.rows}
    bar_chart(path, bars, "s", "99th percentile of an answer's time, 8 at a time")


if __name__ == "__main__":
    main()
