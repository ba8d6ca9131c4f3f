"""Copies of what is deployed that have no place, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
from ray._raylet import IMPLICIT_RESOURCE_PREFIX  # type: ignore[attr-defined]  # a compiled module
from ray.autoscaler.v2.sdk import get_cluster_status

from colllm_ray.serving.deployed import Deployed
from colllm_ray.serving.placement.nodes import NodeRoom, amounts, why_nowhere


@dataclass(frozen=True)
class Demand:
    """So many actors wait for a node with these resources, by Ray's names and in its units."""

    resources: Mapping[str, float]
    count: int


def demands() -> list[Demand]:
    """Of the Ray that this process is connected to; actors that have their resources and only start do not count."""
    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    return [
        Demand(_without_limits_per_node(request.bundle), request.count)
        for demand in status.resource_demands.ray_task_actor_demand
        for request in demand.bundles_by_count
    ]


def why_waiting(one: Deployed, rooms: Sequence[NodeRoom], waiting: Sequence[Demand]) -> str | None:
    """How many copies have no place, and what is missing for them; None where all run or start."""
    wanted = sum(demand.count for demand in waiting if _alike(demand.resources, amounts(one.reserved)))
    count = min(len(one.unplaced), wanted)
    if count == 0:
        return None
    here = Counter(replica.node for replica in one.running)
    left = [room for room in rooms if one.max_per_node is None or here[room.node] < one.max_per_node]
    if any(room.fits(one.reserved) for room in left):
        return f"{count} to be placed"
    return f"{count} cannot be placed: {why_nowhere(one.reserved, left)}"


def _alike(demanded: Mapping[str, float], reserved: Mapping[str, float]) -> bool:
    """Ray counts in ten thousandths."""
    return demanded.keys() == reserved.keys() and all(abs(demanded[name] - reserved[name]) < 1e-4 for name in demanded)


def _without_limits_per_node(bundle: Mapping[str, float]) -> dict[str, float]:
    """Serve writes `max_per_node` as a share of a resource that each node has of itself."""
    return {name: amount for name, amount in bundle.items() if not name.startswith(IMPLICIT_RESOURCE_PREFIX)}
