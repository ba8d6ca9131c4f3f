"""Placement as people read it in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.table import Table

from colllm_ray.serving.deployed import Deployed
from colllm_ray.serving.placement.nodes import GIB, NodeRoom, describe, why_nowhere
from colllm_ray.serving.placement.plan import Planned


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


def status_table(deployments: Sequence[Deployed], rooms: Sequence[NodeRoom]) -> Table:
    """What runs where; of a copy that is not placed, what is missing."""
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
            _on({replica.name: names.get(replica.node or "", "?") for replica in one.running}, one, rooms),
        )
    return table


def _state(one: Deployed) -> str:
    states = Counter(replica.state for replica in one.replicas if replica not in one.running)
    others = ", ".join(f"{count} {state.lower()}" for state, count in states.items())
    return "\n".join(text for text in (one.status.lower(), others, one.message) if text)


def _on(nodes: Mapping[str, str], one: Deployed, rooms: Sequence[NodeRoom]) -> str:
    lines = _counted(list(nodes.values()))
    if one.waiting:
        counts = Counter(replica.node for replica in one.running)
        left = [room for room in rooms if one.max_per_node is None or counts[room.node] < one.max_per_node]
        if any(room.fits(one.reserved) for room in left):
            why = "waiting for Serve to place it"
        else:
            why = f"cannot be placed: {why_nowhere(one.reserved, left)}"
        lines.append(f"{len(one.waiting)} {why}")
    return "\n".join(lines)


def _where(plan: Planned) -> str:
    lines = _counted(plan.nodes)
    if plan.missing is not None:
        lines.append(f"{plan.copies - len(plan.nodes)} cannot be placed: {plan.missing}")
    return "\n".join(lines)


def _counted(nodes: Sequence[str]) -> list[str]:
    return [f"{count} on {node}" for node, count in Counter(nodes).items()]


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
