"""Where the replicas of a collaboration would run, before anything is started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from colllm_ray.config import Collaboration
from colllm_ray.models.members import check_members
from colllm_ray.serving.deployments import ingress_reserved
from colllm_ray.serving.placement.needs import Needs, needs_of
from colllm_ray.serving.placement.nodes import NodeRoom, why_nowhere


@dataclass(frozen=True)
class Planned:
    """Copies of a member, or of the ingress, which needs next to nothing.

    nodes: where each of them would be placed, by the nodes' names; missing: why the others would not.
    """

    name: str
    copies: int
    reserved: dict[str, Any]
    needs: Needs | None
    nodes: tuple[str, ...] = ()
    missing: str | None = None


def planned(collaboration: Collaboration, rooms: Sequence[NodeRoom] | None) -> list[Planned]:
    """What the copies need and, on nodes with this much room, where they can run: as many as may run at once.

    Raises ColllmError for a model that cannot be a member.
    """
    context = check_members(collaboration).context
    plans = [_ingress(collaboration)]
    for name, config in collaboration.members.items():
        plans.append(Planned(name, config.most_replicas, config.reserved, needs_of(config, context)))
    if rooms is None:
        return plans
    limits = {name: config.max_per_node for name, config in collaboration.members.items()}
    return [_placed(plan, rooms, limits.get(plan.name)) for plan in plans]


def _ingress(collaboration: Collaboration) -> Planned:
    return Planned("ingress", collaboration.serving.ingresses, ingress_reserved(collaboration.serving), None)


def _placed(plan: Planned, rooms: Sequence[NodeRoom], max_per_node: int | None) -> Planned:
    """Each copy on the node that has fewest of them, and takes its room there."""
    here: Counter[str] = Counter()
    nodes: list[str] = []
    missing = None
    for _ in range(plan.copies):
        left = [room for room in rooms if max_per_node is None or here[room.node] < max_per_node]
        fitting = [room for room in left if room.fits(plan.reserved)]
        if not fitting:
            missing = why_nowhere(plan.reserved, left)
            break
        room = min(fitting, key=lambda room: here[room.node])
        room.take(plan.reserved)
        here[room.node] += 1
        nodes.append(room.name)
    return replace(plan, nodes=tuple(nodes), missing=missing)
