"""Placement as people read it in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from colllm_ray.serving.deployed import Deployed
from colllm_ray.serving.placement.nodes import GIB, NodeRoom, describe
from colllm_ray.serving.placement.plan import Planned
from colllm_ray.serving.placement.waiting import Demand, why_waiting


def plan_table(name: str, plans: Sequence[Planned], has_cluster: bool) -> Table:
    """What each copy needs and, where there is a cluster, where the copies would run."""
    table = Table(title=f"{name}: what a copy needs", show_lines=True)
    for heading in ("", "copies", "reserves", "weights", "KV cache", *(["runs on"] if has_cluster else [])):
        table.add_column(heading, justify="right" if heading in ("copies", "weights", "KV cache") else "left")
    for plan in plans:
        needs = plan.needs
        sizes = ("", "")
        if needs is not None:
            cache = f"{_gib(needs.kv_cache)}\n{needs.sessions} x {needs.context} tokens"
            sizes = (_gib(needs.weights), cache)
        row = [plan.name, str(plan.copies), describe(plan.reserved), *sizes]
        table.add_row(*row, *([_where(plan)] if has_cluster else []))
    return table


def status_table(deployments: Sequence[Deployed], rooms: Sequence[NodeRoom], waiting: Sequence[Demand]) -> Table:
    """What runs where; of a copy that cannot be placed, what is missing."""
    names = {room.node: room.name for room in rooms}
    table = Table(show_lines=True)
    for heading in ("application", "deployment", "copies", "state", "runs on"):
        table.add_column(heading, justify="right" if heading == "copies" else "left")
    for one in deployments:
        table.add_row(
            one.application,
            one.name,
            f"{len(one.running)} of {one.wanted}",
            _state(one),
            _on([names.get(replica.node or "", "?") for replica in one.running], why_waiting(one, rooms, waiting)),
        )
    return table


def _state(one: Deployed) -> str:
    states = Counter(replica.state for replica in one.replicas if replica not in one.running)
    others = ", ".join(f"{count} {state.lower()}" for state, count in states.items())
    return "\n".join(text for text in (one.status.lower(), others, one.reason) if text)


def _on(nodes: Sequence[str], waiting: str | None) -> str:
    return "\n".join([*_counted(nodes), *([waiting] if waiting else [])])


def _where(plan: Planned) -> str:
    lines = _counted(plan.nodes)
    if plan.missing is not None:
        lines.append(f"{plan.copies - len(plan.nodes)} cannot be placed: {plan.missing}")
    return "\n".join(lines)


def _counted(nodes: Sequence[str]) -> list[str]:
    return [f"{count} on {node}" for node, count in Counter(nodes).items()]


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
